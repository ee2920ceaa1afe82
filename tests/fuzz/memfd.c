// SPDX-License-Identifier: GPL-2.0-only
/*
 * What passes has a list of folios that is as long as it says; and no holes, if a
 * device uses it.
 */
#include <string.h>

#include <linux/kho/check/memfd.h>

#include "arena.h"

/* What a machine has room for; a list of so many has more than one page */
#define FOLIOS 1024

/* Whose folios follow each other; returns the page of the file behind them. */
static u64 follow(const struct memfd_luo_ser *ser, u64 phys, u64 count,
		  u64 index)
{
	const struct memfd_luo_folio_ser *folios =
		arena_peek(phys, PAGE_SIZE << ser->folios.order);

	for (u64 i = 0; i < count; i++) {
		CHECK(folios[i].pfn && folios[i].index == index);
		index += arena_size((u64)folios[i].pfn * PAGE_SIZE) / PAGE_SIZE;
	}
	return index;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	const struct kho_vmalloc_chunk *chunk;
	const struct memfd_luo_ser *ser;
	u64 pages = 0, phys, index = 0, left, run;
	const char *why;

	arena_fill(data, size);
	ser = arena_peek(ARENA_BASE, sizeof(*ser));
	why = ser ? memfd_ser_check(ser, arena_peek, arena_size, FOLIOS) :
		    "no head";
	if (why)
		return arena_refused(why);
	if (!ser->nr_folios)
		return 0;

	left = ser->nr_folios;
	for (phys = ser->folios.first.phys; phys; phys = chunk->hdr.next.phys) {
		chunk = arena_peek(phys, sizeof(*chunk));
		CHECK(chunk);
		for (u32 i = 0; i < KHO_VMALLOC_SIZE && chunk->phys[i]; i++) {
			CHECK(arena_size(chunk->phys[i]));
			run = MEMFD_SER_FOLIOS_OF_PAGE << ser->folios.order;
			run = run < left ? run : left;
			if (ser->flags & MEMFD_LUO_FLAG_DMA)
				index = follow(ser, chunk->phys[i], run, index);
			left -= run;
			pages += 1ULL << ser->folios.order;
		}
	}
	CHECK(pages == ser->folios.total_pages);
	CHECK(!(ser->flags & MEMFD_LUO_FLAG_DMA) ||
	      index * PAGE_SIZE >= ser->size);
	CHECK(ser->nr_folios * sizeof(struct memfd_luo_folio_ser) <=
	      pages * PAGE_SIZE);
	return 0;
}
