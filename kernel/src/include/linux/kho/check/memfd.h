/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_CHECK_MEMFD_H
#define _LINUX_KHO_CHECK_MEMFD_H

#include <linux/kho/abi/memfd.h>
#include <linux/kho/check/array.h>

/* In one page of their list; none lies in two */
#define MEMFD_SER_FOLIOS_OF_PAGE \
	((u64)(PAGE_SIZE / sizeof(struct memfd_luo_folio_ser)))

#define MEMFD_SER_ALL_FOLIO_FLAGS \
	(MEMFD_LUO_FOLIO_DIRTY | MEMFD_LUO_FOLIO_UPTODATE)

/**
 * struct memfd_ser_walk - How far the check of a memfd has come.
 * @ser:   Its head.
 * @size_of: Tells the size of its folios.
 * @index: Page offset in the file after the last folio.
 */
struct memfd_ser_walk {
	const struct memfd_luo_ser *ser;
	kho_size_fn size_of;
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

static inline const char *memfd_ser_check_folios(const void *entries, u64 count,
						 void *data)
{
	const struct memfd_luo_folio_ser *folios = entries;
	const char *why = NULL;

	for (u64 i = 0; i < count && !why; i++)
		why = memfd_ser_check_folio(data, &folios[i]);

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
	struct memfd_ser_walk walk = { .ser = ser, .size_of = size_of };
	struct kho_array array = {
		.vmalloc = ser->folios,
		.count = ser->nr_folios,
		.of_page = MEMFD_SER_FOLIOS_OF_PAGE,
		.peek = peek,
		.check = memfd_ser_check_folios,
		.data = &walk,
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

	why = kho_array_check(&array);
	if (!why && ser->flags & MEMFD_LUO_FLAG_DMA && walk.index < size)
		why = "memory of a device has a hole";

	return why;
}

#endif /* _LINUX_KHO_CHECK_MEMFD_H */
