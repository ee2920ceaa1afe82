/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_ABI_IOMMUFD_H
#define _LINUX_KHO_ABI_IOMMUFD_H

#include <linux/build_bug.h>
#include <linux/kho/abi/liveupdate_versions.h>
#include <linux/stddef.h>
#include <linux/types.h>

/**
 * DOC: iommufd Live Update ABI
 *
 * What iommufd of the outgoing kernel tells iommufd of the incoming kernel about
 * one preserved iommufd. The LUO file's data is the physical address of a
 * &struct iommufd_ser, allocated with kho_alloc_preserve().
 *
 * The layout is a contract: fixed-size fields in CPU byte order, no padding, no
 * pointer. Whoever changes the layout or the meaning of a field raises the
 * version in %IOMMUFD_LIVEUPDATE_COMPATIBLE.
 */

/**
 * struct iommufd_hwpt_ser - One marked hardware page table.
 * @token:  The name that user space gave it.
 * @domain: Index of its page table among &struct iommu_ser.domains.
 * @reserved: Must be 0.
 */
struct iommufd_hwpt_ser {
	u64 token;
	u32 domain;
	u32 reserved;
};

/**
 * struct iommufd_ser - One preserved iommufd.
 * @count: Number of its marked page tables.
 * @reserved: Must be 0.
 * @hwpts: The page tables.
 */
struct iommufd_ser {
	u32 count;
	u32 reserved;
	struct iommufd_hwpt_ser hwpts[];
};

/* What user space can mark in one iommufd: their array fits one page */
#define IOMMUFD_SER_MAX_HWPTS		255

static_assert(sizeof(struct iommufd_hwpt_ser) == 16);
static_assert(offsetof(struct iommufd_hwpt_ser, token) == 0);
static_assert(offsetof(struct iommufd_hwpt_ser, domain) == 8);
static_assert(offsetof(struct iommufd_hwpt_ser, reserved) == 12);

static_assert(sizeof(struct iommufd_ser) == 8);
static_assert(offsetof(struct iommufd_ser, count) == 0);
static_assert(offsetof(struct iommufd_ser, reserved) == 4);
static_assert(offsetof(struct iommufd_ser, hwpts) == 8);

#endif /* _LINUX_KHO_ABI_IOMMUFD_H */
