// SPDX-License-Identifier: GPL-2.0-only
/* What passes cannot set a device's DMA going. */
#include <linux/kho/check/vfio_pci.h>

#include "arena.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	const struct vfio_pci_ser *ser;
	const char *why;

	arena_fill(data, size);
	ser = arena_peek(ARENA_BASE, sizeof(*ser));
	why = ser ? vfio_pci_ser_check(ser) : "no head";
	if (why)
		return arena_refused(why);

	CHECK(ser->mode == PCI_SER_MODE_IDLE ||
	      ser->mode == PCI_SER_MODE_RUNNING);
	CHECK(!(ser->clean.header[1] & 4));
	CHECK(ser->mode == PCI_SER_MODE_RUNNING || !ser->clean.header[0]);
	CHECK(ser->mode == PCI_SER_MODE_RUNNING || !ser->irqs.kind);
	CHECK(ser->irqs.count <= VFIO_PCI_SER_VECTORS);
	for (u32 i = ser->irqs.count; i < VFIO_PCI_SER_VECTORS; i++)
		CHECK(!(ser->irqs.armed[i / 64] & BIT_ULL(i % 64)));
	return 0;
}
