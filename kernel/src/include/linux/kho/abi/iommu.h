/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_ABI_IOMMU_H
#define _LINUX_KHO_ABI_IOMMU_H

#include <linux/bits.h>
#include <linux/build_bug.h>
#include <linux/kho/abi/liveupdate_versions.h>
#include <linux/stddef.h>
#include <linux/types.h>

/**
 * DOC: IOMMU Live Update ABI
 *
 * What the IOMMU core of the outgoing kernel tells that of the incoming kernel:
 * which page tables, which devices that they translate for, and which IOMMU
 * units stay on. It crosses as the data of the LUO file-lifecycle-bound object
 * %IOMMU_LIVEUPDATE_COMPATIBLE, the physical address of a &struct iommu_ser.
 *
 * At the jump every unit of the list translates through the tables that start
 * at its &struct iommu_unit_ser.root. They are in the format of the hardware
 * and hold entries for the devices of the list and for no others. A unit that remaps
 * interrupts does so with &struct iommu_unit_ser.irq_table, in which nothing is
 * present: whatever a device writes, no processor gets an interrupt from it.
 *
 * The layout is a contract: fixed-size fields in CPU byte order, no padding, no
 * pointer other than a physical address. Whoever changes the layout or the
 * meaning of a field raises the version in %IOMMU_LIVEUPDATE_COMPATIBLE.
 */

/* Values of iommu_domain_ser.format */
#define IOMMU_SER_FORMAT_NONE		0	/* the entry is not in use */
#define IOMMU_SER_FORMAT_VTDSS		1	/* VT-d second stage */
#define IOMMU_SER_FORMAT_X86_64		2	/* VT-d first stage */

/* iommu_domain_ser.flags: leaf entries have the Snoop bit (second stage) */
#define IOMMU_SER_DOMAIN_FORCE_COHERENCE	BIT(0)
/* The IOMMU does not snoop the tables: they are flushed from CPU caches */
#define IOMMU_SER_DOMAIN_INCOHERENT		BIT(1)
/* The PASID entry forces snooping (first stage) */
#define IOMMU_SER_DOMAIN_FORCE_SNOOPING		BIT(2)
#define IOMMU_SER_DOMAIN_FLAGS			GENMASK(2, 0)

/**
 * struct iommu_domain_ser - One preserved page table.
 * @top:    Physical address of the table at the top.
 * @format: One of IOMMU_SER_FORMAT_*.
 * @levels: Number of levels, 3 to 5.
 * @flags:  IOMMU_SER_DOMAIN_* bits; unknown bits must be 0.
 * @reserved: Must be 0.
 *
 * All its tables are preserved, one folio each, and so is all memory that its
 * leaf entries point to.
 */
struct iommu_domain_ser {
	u64 top;
	u8 format;
	u8 levels;
	u16 flags;
	u32 reserved;
};

/* Values of iommu_dev_ser.state */
#define IOMMU_SER_DEV_NONE		0	/* the entry is not in use */
#define IOMMU_SER_DEV_RUNNING		1	/* translated by a preserved domain */

/* iommu_dev_ser.flags: its Address Translation Service is enabled */
#define IOMMU_SER_DEV_ATS		BIT(0)
/* Its PASID capability is enabled; no PASID is attached to a page table */
#define IOMMU_SER_DEV_PASID		BIT(1)
#define IOMMU_SER_DEV_FLAGS		GENMASK(1, 0)

/**
 * struct iommu_dev_ser - One device, or a bridge in a device's IOMMU group.
 * @segment: PCI segment number.
 * @bdf:     Bus (bits 15:8), device (7:3) and function (2:0) number.
 * @state:   %IOMMU_SER_DEV_NONE or %IOMMU_SER_DEV_RUNNING.
 * @flags:   IOMMU_SER_DEV_* bits; unknown bits must be 0. %IOMMU_SER_DEV_PASID only
 *           behind a unit in scalable mode.
 * @domain:  Index of its page table.
 * @unit:    Index of the unit that translates for it.
 *
 * The entry that @unit has for the device allows what @flags say, and no more. Its
 * Page Request Interface is disabled, and the entry allows no page requests: the
 * queue that they would be written to is the outgoing kernel's.
 */
struct iommu_dev_ser {
	u32 segment;
	u16 bdf;
	u8 state;
	u8 flags;
	u32 domain;
	u32 unit;
};

/* Values of iommu_unit_ser.type */
#define IOMMU_SER_UNIT_NONE		0	/* the entry is not in use */
#define IOMMU_SER_UNIT_VTD_LEGACY	1	/* VT-d, legacy mode */
#define IOMMU_SER_UNIT_VTD_SCALABLE	2	/* VT-d, scalable mode */

/**
 * struct iommu_unit_ser - One IOMMU unit that stays on.
 * @id:      Physical address of its registers.
 * @root:    Physical address of its root table.
 * @type:    One of IOMMU_SER_UNIT_*.
 * @devices: How many entries of the list of devices name this unit.
 * @irq_table: Physical address of its table of interrupts, or 0 for a unit that
 *             does not remap them.
 *
 * All tables that can be reached from @root are preserved, one folio each, and so
 * is @irq_table.
 */
struct iommu_unit_ser {
	u64 id;
	u64 root;
	u32 type;
	u32 devices;
	u64 irq_table;
};

/**
 * struct iommu_array_ser - An array that was made with kho_alloc_preserve().
 * @base:     Physical address of the first entry.
 * @count:    Entries in use, some of which may be unused again.
 * @capacity: Entries that there is room for, at most %IOMMU_SER_MAX_CAPACITY.
 */
struct iommu_array_ser {
	u64 base;
	u32 count;
	u32 capacity;
};

/**
 * struct iommu_ser - Head of the IOMMU core's handover data.
 * @domains: Array of &struct iommu_domain_ser.
 * @devices: Array of &struct iommu_dev_ser.
 * @units:   Array of &struct iommu_unit_ser.
 */
struct iommu_ser {
	struct iommu_array_ser domains;
	struct iommu_array_ser devices;
	struct iommu_array_ser units;
};

/* As many as there are requester IDs in one segment */
#define IOMMU_SER_MAX_CAPACITY		65536

static_assert(sizeof(struct iommu_domain_ser) == 16);
static_assert(offsetof(struct iommu_domain_ser, top) == 0);
static_assert(offsetof(struct iommu_domain_ser, format) == 8);
static_assert(offsetof(struct iommu_domain_ser, levels) == 9);
static_assert(offsetof(struct iommu_domain_ser, flags) == 10);
static_assert(offsetof(struct iommu_domain_ser, reserved) == 12);

static_assert(sizeof(struct iommu_dev_ser) == 16);
static_assert(offsetof(struct iommu_dev_ser, segment) == 0);
static_assert(offsetof(struct iommu_dev_ser, bdf) == 4);
static_assert(offsetof(struct iommu_dev_ser, state) == 6);
static_assert(offsetof(struct iommu_dev_ser, flags) == 7);
static_assert(offsetof(struct iommu_dev_ser, domain) == 8);
static_assert(offsetof(struct iommu_dev_ser, unit) == 12);

static_assert(sizeof(struct iommu_unit_ser) == 32);
static_assert(offsetof(struct iommu_unit_ser, id) == 0);
static_assert(offsetof(struct iommu_unit_ser, root) == 8);
static_assert(offsetof(struct iommu_unit_ser, type) == 16);
static_assert(offsetof(struct iommu_unit_ser, devices) == 20);
static_assert(offsetof(struct iommu_unit_ser, irq_table) == 24);

static_assert(sizeof(struct iommu_array_ser) == 16);
static_assert(offsetof(struct iommu_array_ser, base) == 0);
static_assert(offsetof(struct iommu_array_ser, count) == 8);
static_assert(offsetof(struct iommu_array_ser, capacity) == 12);

static_assert(sizeof(struct iommu_ser) == 48);
static_assert(offsetof(struct iommu_ser, domains) == 0);
static_assert(offsetof(struct iommu_ser, devices) == 16);
static_assert(offsetof(struct iommu_ser, units) == 32);

#endif /* _LINUX_KHO_ABI_IOMMU_H */
