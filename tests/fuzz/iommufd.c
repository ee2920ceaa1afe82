// SPDX-License-Identifier: GPL-2.0-only
/* What passes can be walked, and names each page table once. */
#include <linux/kho/check/iommufd.h>

#include "arena.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	const struct iommufd_ser *ser;
	const char *why;

	arena_fill(data, size);
	ser = arena_peek(ARENA_BASE, PAGE_SIZE);
	why = ser ? iommufd_ser_check(ser, PAGE_SIZE) : "no head";
	if (why)
		return arena_refused(why);

	CHECK(ser->count);
	for (u32 i = 1; i < ser->count; i++)
		CHECK(ser->hwpts[i].token != ser->hwpts[i - 1].token &&
		      ser->hwpts[i].domain != ser->hwpts[0].domain);
	return 0;
}
