/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * iommufd in live updates: which hardware page tables go to the next kernel,
 * and where they are there.
 */
#ifndef _UAPI_LINUX_IOMMUFD_LIVEUPDATE_H
#define _UAPI_LINUX_IOMMUFD_LIVEUPDATE_H

#include <linux/ioctl.h>
#include <linux/iommufd.h>
#include <linux/types.h>

/*
 * The conventions are those of <linux/iommufd.h>: the first field is the size
 * of the structure, unknown flags give -EOPNOTSUPP, and so does a byte that is
 * not 0 beyond what the kernel knows (-E2BIG). The numbers are out of the way
 * of iommufd's own, which count from IOMMUFD_CMD_BASE.
 */
enum {
	IOMMUFD_CMD_HWPT_LIVEUPDATE_MARK = 0xc0,
	IOMMUFD_CMD_HWPT_LIVEUPDATE_FIND = 0xc1,
};

/**
 * enum iommu_hwpt_liveupdate_mark_flags - Flags for IOMMU_HWPT_LIVEUPDATE_MARK
 * @IOMMU_HWPT_LIVEUPDATE_UNMARK: Take the mark away. @token must be that of the
 *                                mark.
 */
enum iommu_hwpt_liveupdate_mark_flags {
	IOMMU_HWPT_LIVEUPDATE_UNMARK = 1 << 0,
};

/**
 * struct iommu_hwpt_liveupdate_mark - ioctl(IOMMU_HWPT_LIVEUPDATE_MARK)
 * @size:    sizeof(struct iommu_hwpt_liveupdate_mark)
 * @flags:   Bits of enum iommu_hwpt_liveupdate_mark_flags
 * @hwpt_id: ID of a hardware page table of this iommufd, as IOMMU_HWPT_ALLOC or
 *           attaching a device to an IOAS returned it
 * @__reserved: Must be 0
 * @token:   Name under which the next kernel finds it; unique in this iommufd
 *
 * A marked page table goes along when the iommufd is preserved, and the devices
 * attached to it are then preserved in running mode: their DMA goes on.
 *
 * Return: 0, or -1 with errno EOPNOTSUPP: unknown flags, reserved field not 0,
 * or a page table that cannot go along (nested or a nesting parent, with dirty
 * tracking, for PASIDs, with a fault queue, or of an IOMMU whose driver takes
 * no part); ENOENT: no such page table, or (unmark) not marked with this token;
 * EEXIST: it is marked already, or the token names another one; EBUSY: the
 * iommufd is preserved.
 */
struct iommu_hwpt_liveupdate_mark {
	__u32 size;
	__u32 flags;
	__u32 hwpt_id;
	__u32 __reserved;
	__aligned_u64 token;
};

#define IOMMU_HWPT_LIVEUPDATE_MARK \
	_IO(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_LIVEUPDATE_MARK)

/**
 * struct iommu_hwpt_liveupdate_find - ioctl(IOMMU_HWPT_LIVEUPDATE_FIND)
 * @size:    sizeof(struct iommu_hwpt_liveupdate_find)
 * @flags:   Must be 0
 * @token:   As given to IOMMU_HWPT_LIVEUPDATE_MARK in the previous kernel
 * @out_hwpt_id: ID of the restored page table in this iommufd
 * @__reserved: Must be 0
 *
 * A restored page table has no IOAS and never changes. A retrieved device is
 * attached to its own by VFIO_DEVICE_BIND_IOMMUFD; nothing else can be attached
 * to it. It goes away when its last device is attached to another page table or
 * detached; IOMMU_DESTROY of it gives EBUSY before.
 *
 * Return: 0, or -1 with errno EOPNOTSUPP: unknown flags or reserved field not
 * 0; ENOENT: no restored page table has this token (any more).
 */
struct iommu_hwpt_liveupdate_find {
	__u32 size;
	__u32 flags;
	__aligned_u64 token;
	__u32 out_hwpt_id;
	__u32 __reserved;
};

#define IOMMU_HWPT_LIVEUPDATE_FIND \
	_IO(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_LIVEUPDATE_FIND)

#endif /* _UAPI_LINUX_IOMMUFD_LIVEUPDATE_H */
