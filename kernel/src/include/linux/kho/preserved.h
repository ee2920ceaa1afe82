/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_PRESERVED_H
#define _LINUX_KHO_PRESERVED_H

#include <linux/bits.h>
#include <linux/types.h>
#include <asm/page.h>

struct kho_radix_node;
struct page;

/**
 * struct kho_map - What the previous kernel preserved, to be looked up.
 * @pfns:   Memory ends before this page frame number; 0: there is no map.
 * @orders: A bit for each order that there is.
 * @leaves: The leaves of the previous kernel's map, by order, and by page frame number
 *          >> order / bits of a leaf: a bit for each folio, or NULL.
 */
struct kho_map {
	unsigned long pfns;
	unsigned long orders;
	unsigned long **leaves[BITS_PER_LONG - PAGE_SHIFT];
};

#ifdef CONFIG_KEXEC_HANDOVER

unsigned long kho_next_preserved(unsigned long pfn, unsigned long end);
bool kho_unpreserved_run(unsigned long *first, unsigned long *next,
			 unsigned long end);

/* For kexec_handover.c */
void kho_map_adopt(struct kho_radix_node *map);
void kho_map_check(void);
bool kho_map_claim(phys_addr_t phys, unsigned int *order);
void kho_account_restored(struct page *page, unsigned long nr);

#if IS_ENABLED(CONFIG_KUNIT)
bool kho_map_take(const struct kho_map *map, phys_addr_t phys,
		  unsigned int *order);
#endif

#else

static inline unsigned long kho_next_preserved(unsigned long pfn,
					       unsigned long end)
{
	return end;
}

static inline bool kho_unpreserved_run(unsigned long *first,
				       unsigned long *next, unsigned long end)
{
	*next = end;

	return *first < end;
}

#endif /* CONFIG_KEXEC_HANDOVER */

#endif /* _LINUX_KHO_PRESERVED_H */
