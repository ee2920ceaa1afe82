// SPDX-License-Identifier: GPL-2.0-only
/* What passes has a list of folios that is as long as it says. */
#include <string.h>

#include <linux/kho/check/memfd.h>

#include "arena.h"

/* What a machine has room for; a list of so many has more than one page */
#define FOLIOS 1024

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	const struct kho_vmalloc_chunk *chunk;
	const struct memfd_luo_ser *ser;
	u64 pages = 0, phys;
	const char *why;

	arena_fill(data, size);
	ser = arena_peek(ARENA_BASE, sizeof(*ser));
	why = ser ? memfd_ser_check(ser, arena_peek, arena_size, FOLIOS) :
		    "no head";
	if (why)
		return arena_refused(why);
	if (!ser->nr_folios)
		return 0;

	for (phys = ser->folios.first.phys; phys; phys = chunk->hdr.next.phys) {
		chunk = arena_peek(phys, sizeof(*chunk));
		CHECK(chunk);
		for (u32 i = 0; i < KHO_VMALLOC_SIZE && chunk->phys[i]; i++) {
			CHECK(arena_size(chunk->phys[i]));
			pages += 1ULL << ser->folios.order;
		}
	}
	CHECK(pages == ser->folios.total_pages);
	CHECK(ser->nr_folios * sizeof(struct memfd_luo_folio_ser) <=
	      pages * PAGE_SIZE);
	return 0;
}
