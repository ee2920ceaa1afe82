/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_PRESERVED_H
#define _LINUX_KHO_PRESERVED_H

#include <linux/init.h>
#include <linux/types.h>

struct kho_radix_node;
struct page;

#ifdef CONFIG_KEXEC_HANDOVER

unsigned long kho_next_preserved(unsigned long pfn, unsigned long end);
bool kho_unpreserved_run(unsigned long *first, unsigned long *next,
			 unsigned long end);

/* For kexec_handover.c */
void kho_map_adopt(struct kho_radix_node *map);
bool kho_map_claim(phys_addr_t phys, unsigned int *order);
void kho_account_restored(struct page *page, unsigned long nr);

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
