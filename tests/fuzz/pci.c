// SPDX-License-Identifier: GPL-2.0-only
/* What passes has no device twice, and nothing that the rest would trip over. */
#include <linux/kho/check/pci.h>

#include "arena.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	const struct pci_ser *ser;
	const char *why;

	arena_fill(data, size);
	ser = arena_take(ARENA_BASE, sizeof(*ser));
	why = ser ? pci_ser_check(ser, arena_take) : "no head";
	if (why)
		return arena_refused(why);

	CHECK(ser->devices != ARENA_BASE && !arena_size(ser->devices));
	CHECK(ser->count <= ser->capacity);
	return 0;
}
