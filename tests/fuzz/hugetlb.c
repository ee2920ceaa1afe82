// SPDX-License-Identifier: GPL-2.0-only
/*
 * What passes has as many pages as its size needs, each of preserved memory, and a
 * list that is long enough for them.
 */
#include <string.h>

#include <linux/kho/check/hugetlb.h>

#include "arena.h"

/* What a machine has room for; a list of so many has more than one page */
#define PAGES 1024

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	const struct kho_vmalloc_chunk *chunk;
	const struct hugetlb_memfd_ser *ser;
	u64 left, phys, page;
	const u64 *pages;
	const char *why;

	arena_fill(data, size);
	ser = arena_peek(ARENA_BASE, sizeof(*ser));
	why = ser ? hugetlb_memfd_ser_check(ser, arena_peek, arena_size,
					    PAGES) :
		    "no head";
	if (why)
		return arena_refused(why);

	page = (u64)PAGE_SIZE << ser->order;
	CHECK(ser->order && ser->nr <= PAGES);
	CHECK(ser->nr * page >= ser->size && ser->nr * page - ser->size < page);
	if (!ser->nr)
		return 0;

	left = ser->nr;
	for (phys = ser->pages.first.phys; phys; phys = chunk->hdr.next.phys) {
		chunk = arena_peek(phys, sizeof(*chunk));
		CHECK(chunk);
		for (u32 i = 0; i < KHO_VMALLOC_SIZE && chunk->phys[i]; i++) {
			u64 run = PAGE_SIZE << ser->pages.order;

			pages = arena_peek(chunk->phys[i], run);
			CHECK(pages);
			for (u64 j = 0; j < run / sizeof(*pages) && left; j++) {
				CHECK(arena_size(pages[j]) == page);
				left--;
			}
		}
	}
	CHECK(!left);
	return 0;
}
