/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_CHECK_VTD_H
#define _LINUX_KHO_CHECK_VTD_H

#include <linux/bits.h>
#include <linux/kho/check/iommu.h>

/* As in the VT-d specification, section 9: root, context and PASID entries */
#define VTD_SER_ADDRESS		GENMASK_ULL(51, 12)
#define VTD_SER_PRESENT		BIT_ULL(0)
#define VTD_SER_FAULTS_OFF	BIT_ULL(1)
/* Translation type of a context entry: with device TLB */
#define VTD_SER_LEGACY_ATS	BIT_ULL(2)
/* Device-TLB Enable and PASID Enable of a scalable-mode context entry */
#define VTD_SER_SCALABLE_ATS	BIT_ULL(2)
#define VTD_SER_SCALABLE_PASID	BIT_ULL(3)
#define VTD_SER_ONE_PAGE	(2ULL << 9)
#define VTD_SER_PGTT(pasid)	((pasid)[0] >> 6 & 7)
#define VTD_SER_FIRST_STAGE	1
#define VTD_SER_SECOND_STAGE	2

#define VTD_SER_WORDS		(IOMMU_SER_TABLE_SIZE / 8)
#define VTD_SER_BUSES		256
#define VTD_SER_PASID_WORDS	8

/* The first that a device can have: the hardware or Linux uses those below */
#define VTD_SER_FIRST_DID	2

/* vtd_handover.dids: no entry with this page table so far */
#define VTD_SER_NO_DID		U32_MAX

/**
 * struct vtd_handover - One unit's tables, and what they have to agree with.
 * @lists:    The IOMMU core's lists.
 * @unit:     Index of the unit in them.
 * @segment:  PCI segment that it translates for.
 * @nr_dids:  How many domain IDs it has.
 * @scalable: It is in scalable mode.
 * @dids:     For each page table of the lists its domain ID in this unit; to begin
 *            with %VTD_SER_NO_DID.
 * @take:     Where tables come from; each is given once.
 */
struct vtd_handover {
	const struct iommu_lists *lists;
	u32 unit;
	u32 segment;
	u32 nr_dids;
	bool scalable;
	u32 *dids;
	kho_take_fn take;
};

static inline u64 *vtd_ser_take(const struct vtd_handover *h, u64 entry)
{
	return h->take(entry & VTD_SER_ADDRESS, IOMMU_SER_TABLE_SIZE);
}

static inline bool vtd_ser_all_zero(const u64 *from, const u64 *end)
{
	while (from < end) {
		if (*from++)
			return false;
	}

	return true;
}

static inline const struct iommu_dev_ser *
vtd_ser_find_device(const struct vtd_handover *h, u16 bdf)
{
	for (u32 i = 0; i < h->lists->nr_devices; i++) {
		const struct iommu_dev_ser *entry = &h->lists->devices[i];

		if (entry->state && entry->segment == h->segment &&
		    entry->bdf == bdf && entry->unit == h->unit)
			return entry;
	}

	return NULL;
}

/* A page table has one domain ID in a unit, and no other has it. */
static inline const char *vtd_ser_check_did(struct vtd_handover *h, u32 domain,
					    u32 did)
{
	if (did < VTD_SER_FIRST_DID || did >= h->nr_dids)
		return "a domain ID is out of range";

	if (h->dids[domain] == did)
		return NULL;

	if (h->dids[domain] != VTD_SER_NO_DID)
		return "a page table has two domain IDs";

	for (u32 i = 0; i < h->lists->nr_domains; i++) {
		if (h->dids[i] == did)
			return "two page tables have one domain ID";
	}
	h->dids[domain] = did;

	return NULL;
}

/* An entry translates: for a device of the list, in the way that it says? */
static inline const char *vtd_ser_check_device(struct vtd_handover *h, u16 bdf,
					       u8 flags, u8 format, u64 top,
					       u8 levels, u16 did)
{
	const struct iommu_dev_ser *entry = vtd_ser_find_device(h, bdf);
	const struct iommu_domain_ser *domain;

	if (!entry)
		return "an entry is for a device that is not in the list";

	if (entry->flags != flags)
		return "an entry allows a device other services than the list says";

	domain = &h->lists->domains[entry->domain];
	if (domain->format != format || domain->top != (top & VTD_SER_ADDRESS) ||
	    domain->levels != levels)
		return "an entry leads to another page table than the list says";

	return vtd_ser_check_did(h, entry->domain, did);
}

static inline const char *vtd_ser_check_pasid(struct vtd_handover *h, u16 bdf,
					      u8 flags, const u64 *pasid)
{
	if (!(pasid[0] & VTD_SER_PRESENT))
		return "a PASID entry is not there";

	switch (VTD_SER_PGTT(pasid)) {
	case VTD_SER_FIRST_STAGE:
		return vtd_ser_check_device(h, bdf, flags,
					    IOMMU_SER_FORMAT_X86_64, pasid[2],
					    4 + (pasid[2] >> 2 & 3), pasid[1]);
	case VTD_SER_SECOND_STAGE:
		return vtd_ser_check_device(h, bdf, flags,
					    IOMMU_SER_FORMAT_VTDSS, pasid[0],
					    2 + (pasid[0] >> 2 & 7), pasid[1]);
	default:
		return "a PASID entry translates in a way that is not known";
	}
}

/* A device's PASID directory and table are there before its entry is present. */
static inline const char *vtd_ser_check_scalable(struct vtd_handover *h, u16 bdf,
						 const u64 *context)
{
	bool present = context[0] & VTD_SER_PRESENT;
	u64 free = VTD_SER_ADDRESS;
	const u64 *dir, *table;
	u8 flags = 0;

	if (present)
		free |= VTD_SER_PRESENT | VTD_SER_FAULTS_OFF |
			VTD_SER_SCALABLE_ATS | VTD_SER_SCALABLE_PASID;
	if (context[0] & VTD_SER_SCALABLE_ATS)
		flags |= IOMMU_SER_DEV_ATS;
	if (context[0] & VTD_SER_SCALABLE_PASID)
		flags |= IOMMU_SER_DEV_PASID;

	if (context[2] || context[3] || (present && context[1]) ||
	    (context[0] & ~free) != (present ? VTD_SER_ONE_PAGE : 0))
		return "a context entry has unknown bits";

	dir = vtd_ser_take(h, context[0]);
	if (!dir)
		return "a PASID directory is not in preserved memory";
	if (!(dir[0] & VTD_SER_PRESENT) ||
	    dir[0] & ~(VTD_SER_ADDRESS | VTD_SER_PRESENT) ||
	    !vtd_ser_all_zero(dir + 1, dir + VTD_SER_WORDS))
		return "a PASID directory has unknown entries";

	table = vtd_ser_take(h, dir[0]);
	if (!table)
		return "a PASID table is not in preserved memory";
	if (!vtd_ser_all_zero(table + VTD_SER_PASID_WORDS,
			      table + VTD_SER_WORDS))
		return "a PASID table has unknown entries";

	return present ? vtd_ser_check_pasid(h, bdf, flags, table) : NULL;
}

static inline const char *vtd_ser_check_legacy(struct vtd_handover *h, u16 bdf,
					       const u64 *context)
{
	u8 flags = context[0] & VTD_SER_LEGACY_ATS ? IOMMU_SER_DEV_ATS : 0;

	if (!(context[0] & VTD_SER_PRESENT))
		return "a context entry is not there";

	/* A third translation type is none at all: DMA goes wherever it likes */
	if (context[0] & ~(VTD_SER_ADDRESS | VTD_SER_PRESENT |
			   VTD_SER_FAULTS_OFF | VTD_SER_LEGACY_ATS) ||
	    context[1] & ~(GENMASK_ULL(2, 0) | GENMASK_ULL(23, 8)))
		return "a context entry has unknown bits";

	return vtd_ser_check_device(h, bdf, flags, IOMMU_SER_FORMAT_VTDSS,
				    context[0], 2 + (context[1] & 7),
				    context[1] >> 8);
}

/* @first is the requester ID that the table's first entry is for. */
static inline const char *vtd_ser_check_contexts(struct vtd_handover *h,
						 u16 first, u64 root_entry)
{
	u32 words = h->scalable ? 4 : 2;
	const char *why = NULL;
	const u64 *table;

	if (!root_entry)
		return NULL;

	if ((root_entry & ~VTD_SER_ADDRESS) != VTD_SER_PRESENT)
		return "a root entry has unknown bits";

	table = vtd_ser_take(h, root_entry);
	if (!table)
		return "a context table is not in preserved memory";

	for (u32 i = 0; i < VTD_SER_WORDS / words && !why; i++) {
		const u64 *context = &table[i * words];

		if (vtd_ser_all_zero(context, context + words))
			continue;
		why = h->scalable ?
		      vtd_ser_check_scalable(h, first + i, context) :
		      vtd_ser_check_legacy(h, first + i, context);
	}

	return why;
}

/**
 * vtd_handover_check() - Take and check the tables of a VT-d unit
 * @h: The unit, and what its tables have to agree with.
 *
 * Return: NULL, with the domain IDs in @h->dids, or what is wrong.
 */
static inline const char *vtd_handover_check(struct vtd_handover *h)
{
	const u64 *root = vtd_ser_take(h, h->lists->units[h->unit].root);
	const char *why = NULL;

	if (!root)
		return "the root table is not in preserved memory";

	for (u32 bus = 0; bus < VTD_SER_BUSES && !why; bus++) {
		why = vtd_ser_check_contexts(h, bus << 8, root[2 * bus]);
		if (!why && h->scalable)
			why = vtd_ser_check_contexts(h, bus << 8 | 0x80,
						     root[2 * bus + 1]);
		else if (!why && root[2 * bus + 1])
			why = "a root entry has unknown bits";
	}

	return why;
}

#endif /* _LINUX_KHO_CHECK_VTD_H */
