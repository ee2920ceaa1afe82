// SPDX-License-Identifier: GPL-2.0-only
/* Tables that pass translate for devices of the lists, as these say. */
#include <linux/kho/check/vtd.h>

#include "arena.h"

#define DIDS 256

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct vtd_handover handover = { .nr_dids = DIDS, .take = arena_take };
	u32 dids[4 * PAGE_SIZE / sizeof(struct iommu_domain_ser)];
	const struct iommu_ser *ser;
	struct iommu_lists lists;
	const char *why;

	arena_fill(data, size);
	ser = arena_take(ARENA_BASE, sizeof(*ser));
	why = ser ? iommu_ser_check(ser, arena_take, &lists) : "no head";
	if (!why && (!lists.nr_units || !lists.units[0].type))
		why = "no unit";
	if (why)
		return arena_refused(why);

	for (u32 i = 0; i < lists.nr_domains; i++)
		dids[i] = VTD_SER_NO_DID;
	handover.lists = &lists;
	handover.scalable = lists.units[0].type == IOMMU_SER_UNIT_VTD_SCALABLE;
	handover.dids = dids;
	why = vtd_handover_check(&handover);
	if (why)
		return arena_refused(why);

	CHECK(!arena_size(lists.units[0].root));
	for (u32 i = 0; i < lists.nr_domains; i++) {
		CHECK(dids[i] == VTD_SER_NO_DID ||
		      (dids[i] >= 2 && dids[i] < DIDS &&
		       lists.domains[i].format));
		for (u32 j = 0; j < i; j++)
			CHECK(dids[i] == VTD_SER_NO_DID || dids[i] != dids[j]);
	}
	return 0;
}
