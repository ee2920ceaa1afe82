/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_CHECK_MEMFD_H
#define _LINUX_KHO_CHECK_MEMFD_H

#include <linux/kho/abi/memfd.h>
#include <linux/kho/check/check.h>

/* In one page of their list; none lies in two */
#define MEMFD_SER_FOLIOS_OF_PAGE \
	((u64)(PAGE_SIZE / sizeof(struct memfd_luo_folio_ser)))

#define MEMFD_SER_ALL_FOLIO_FLAGS \
	(MEMFD_LUO_FOLIO_DIRTY | MEMFD_LUO_FOLIO_UPTODATE)

/**
 * typedef kho_size_fn - How large is preserved memory?
 * @phys: Physical address at which it begins.
 *
 * Return: its size in bytes, 0 when none begins there.
 */
typedef size_t (*kho_size_fn)(phys_addr_t phys);

/**
 * struct memfd_ser_walk - How far the check of a memfd has come.
 * @ser:   Its head.
 * @peek:  Where its lists come from.
 * @size_of: Tells the size of its folios.
 * @left:  Entries of the list of folios that are not checked yet.
 * @index: Page offset in the file after the last folio.
 */
struct memfd_ser_walk {
	const struct memfd_luo_ser *ser;
	kho_take_fn peek;
	kho_size_fn size_of;
	u64 left;
	u64 index;
};

static inline const char *memfd_ser_check_folio(struct memfd_ser_walk *walk,
						const struct memfd_luo_folio_ser *folio)
{
	bool dma = walk->ser->flags & MEMFD_LUO_FLAG_DMA;
	u64 pages;

	/* A hole, which a device's memory has not: all of it was pinned */
	if (!folio->pfn)
		return dma ? "memory of a device has a hole" : NULL;

	pages = walk->size_of((phys_addr_t)folio->pfn * PAGE_SIZE) / PAGE_SIZE;
	if (!pages)
		return "a page is not in preserved memory";

	if (folio->flags & ~MEMFD_SER_ALL_FOLIO_FLAGS)
		return "a page has unknown flags";

	/* The page cache has a folio of 2^n pages at a multiple of that */
	if (folio->index < walk->index || folio->index % pages ||
	    folio->index >= (walk->ser->size + PAGE_SIZE - 1) / PAGE_SIZE)
		return "a page is at an impossible place in the file";

	if (dma && folio->index != walk->index)
		return "memory of a device has a hole";

	walk->index = folio->index + pages;

	return NULL;
}

/* One run of pages of the list of folios */
static inline const char *memfd_ser_check_pages(struct memfd_ser_walk *walk,
						u64 phys)
{
	u64 size = (u64)PAGE_SIZE << walk->ser->folios.order;
	const struct memfd_luo_folio_ser *folios = walk->peek(phys, size);
	u64 count = MEMFD_SER_FOLIOS_OF_PAGE << walk->ser->folios.order;
	const char *why = NULL;

	if (!folios)
		return "its list of pages is not in preserved memory";
	if (count > walk->left)
		count = walk->left;
	walk->left -= count;
	for (u64 i = 0; i < count && !why; i++)
		why = memfd_ser_check_folio(walk, &folios[i]);

	return why;
}

/* The list of folios is where a chain of chunks says that it is. */
static inline const char *memfd_ser_check_chunks(struct memfd_ser_walk *walk)
{
	u64 runs = walk->ser->folios.total_pages >> walk->ser->folios.order;
	u64 phys = walk->ser->folios.first.phys;
	const char *why = NULL;

	while (phys && !why) {
		const struct kho_vmalloc_chunk *chunk;

		chunk = walk->peek(phys, sizeof(*chunk));
		/* Linux begins another when one is full, if anything follows or not */
		if (!chunk || (!chunk->phys[0] && chunk->hdr.next.phys))
			return "its list of pages is broken";
		for (u32 i = 0; i < KHO_VMALLOC_SIZE && chunk->phys[i] && !why; i++) {
			if (!runs--)
				return "its list of pages does not end";
			why = memfd_ser_check_pages(walk, chunk->phys[i]);
		}
		phys = chunk->hdr.next.phys;
	}
	if (!why && runs)
		why = "its list of pages is too short";

	return why;
}

/**
 * memfd_ser_check() - Check what is said about a memfd, with all its lists
 * @ser:     Its head.
 * @peek:    Where its lists come from: may be asked for the same memory again.
 * @size_of: Tells the size of its folios.
 * @max:     How many folios there can be: the check ends, also in a chain that
 *           does not.
 *
 * Return: NULL, or what is wrong.
 */
static inline const char *memfd_ser_check(const struct memfd_luo_ser *ser,
					  kho_take_fn peek, kho_size_fn size_of,
					  u64 max)
{
	u64 size = (ser->size + PAGE_SIZE - 1) / PAGE_SIZE;
	u64 pages = ser->nr_folios / MEMFD_SER_FOLIOS_OF_PAGE +
		    !!(ser->nr_folios % MEMFD_SER_FOLIOS_OF_PAGE);
	struct memfd_ser_walk walk = {
		.ser = ser,
		.peek = peek,
		.size_of = size_of,
		.left = ser->nr_folios,
	};
	const char *why;

	if (ser->flags & ~MEMFD_LUO_FLAG_DMA)
		return "it has unknown flags";

	if (ser->size > S64_MAX || ser->pos > S64_MAX ||
	    ser->nr_folios > max ||
	    ser->nr_folios > size)
		return "it has an impossible size";

	if (!ser->nr_folios)
		return size && ser->flags & MEMFD_LUO_FLAG_DMA ?
		       "memory of a device has a hole" : NULL;

	if (ser->folios.order > 18 ||
	    ser->folios.total_pages & ((1U << ser->folios.order) - 1) ||
	    ser->folios.total_pages < pages ||
	    ser->folios.total_pages >= pages + (1U << ser->folios.order))
		return "its list of pages has an impossible size";

	why = memfd_ser_check_chunks(&walk);
	if (!why && ser->flags & MEMFD_LUO_FLAG_DMA && walk.index < size)
		why = "memory of a device has a hole";

	return why;
}

#endif /* _LINUX_KHO_CHECK_MEMFD_H */
