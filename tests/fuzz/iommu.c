// SPDX-License-Identifier: GPL-2.0-only
/* What passes leads nowhere but into the lists themselves. */
#include <linux/kho/check/iommu.h>

#include "arena.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	const struct iommu_ser *ser;
	struct iommu_lists lists;
	const char *why;

	arena_fill(data, size);
	ser = arena_take(ARENA_BASE, sizeof(*ser));
	why = ser ? iommu_ser_check(ser, arena_take, &lists) : "no head";
	if (why)
		return arena_refused(why);

	CHECK((void *)lists.domains != (void *)lists.devices);
	CHECK((void *)lists.devices != (void *)lists.units);
	for (u32 i = 0; i < lists.nr_devices; i++) {
		const struct iommu_dev_ser *entry = &lists.devices[i];

		CHECK(!entry->state || (lists.domains[entry->domain].format &&
					lists.units[entry->unit].type));
		CHECK(!entry->state || !(entry->flags & IOMMU_SER_DEV_PASID) ||
		      lists.units[entry->unit].type ==
			      IOMMU_SER_UNIT_VTD_SCALABLE);
	}
	return 0;
}
