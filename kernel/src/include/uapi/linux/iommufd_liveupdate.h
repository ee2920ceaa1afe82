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
	IOMMUFD_CMD_IOAS_LIVEUPDATE_AREAS = 0xc2,
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
 * One that can track dirty pages (IOMMU_HWPT_ALLOC_DIRTY_TRACKING) goes along while
 * it does not: when tracking is on preserving the iommufd fails with EBUSY, and
 * IOMMU_HWPT_SET_DIRTY_TRACKING does once it is preserved. In the next kernel it is
 * up to the page table that takes its place.
 *
 * Return: 0, or -1 with errno EOPNOTSUPP: unknown flags, reserved field not 0,
 * or a page table that cannot go along (nested or a nesting parent, for PASIDs,
 * with a fault queue, or of an IOMMU whose driver takes no part); ENOENT: no such
 * page table, or (unmark) not marked with this token; EEXIST: it is marked already,
 * or the token names another one; EBUSY: the iommufd is preserved.
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

/**
 * enum iommu_ioas_liveupdate_kind - What an area of an IOAS is made of
 * @IOMMU_IOAS_LIVEUPDATE_USER: Memory of a process, by its address there; it
 *                              cannot go along
 * @IOMMU_IOAS_LIVEUPDATE_FILE: A file (IOMMU_IOAS_MAP_FILE)
 * @IOMMU_IOAS_LIVEUPDATE_DMABUF: A dma-buf, such as one of a BAR
 */
enum iommu_ioas_liveupdate_kind {
	IOMMU_IOAS_LIVEUPDATE_USER = 0,
	IOMMU_IOAS_LIVEUPDATE_FILE = 1,
	IOMMU_IOAS_LIVEUPDATE_DMABUF = 2,
};

/**
 * struct iommu_ioas_liveupdate_area - An area of an IOAS, as it was mapped
 * @iova:   Where it begins
 * @length: How many bytes it has
 * @offset: Where it begins in its file or dma-buf, in bytes; for memory of a
 *          process 0
 * @inode:  Number of the inode of its file or dma-buf, as fstat(2) gives it; 0 for
 *          memory of a process
 * @device: Number of the device that the inode is on, likewise
 * @kind:   One of enum iommu_ioas_liveupdate_kind
 * @flags:  IOMMU_IOAS_MAP_READABLE, IOMMU_IOAS_MAP_WRITEABLE
 */
struct iommu_ioas_liveupdate_area {
	__aligned_u64 iova;
	__aligned_u64 length;
	__aligned_u64 offset;
	__aligned_u64 inode;
	__aligned_u64 device;
	__u32 kind;
	__u32 flags;
};

/**
 * struct iommu_ioas_liveupdate_areas - ioctl(IOMMU_IOAS_LIVEUPDATE_AREAS)
 * @size:    sizeof(struct iommu_ioas_liveupdate_areas)
 * @flags:   Must be 0
 * @ioas_id: ID of an IOAS of this iommufd
 * @count:   In: how many areas there is room for. Out: how many areas the IOAS has
 *           that end at @start or after it
 * @start:   The first IOVA to look at
 * @areas:   Address of an array of struct iommu_ioas_liveupdate_area, which gets
 *           the first of them in their order, as many as there is room for
 *
 * Who preserves an iommufd for another program, such as a virtual machine monitor
 * that does not know of live updates, needs to know which memory is mapped where:
 * to preserve it, and to map it again in the next kernel. Areas that were mapped by
 * one call can have been split since.
 *
 * Return: 0, or -1 with errno EOPNOTSUPP: unknown flags; ENOENT: no such IOAS;
 * EFAULT: @areas.
 */
struct iommu_ioas_liveupdate_areas {
	__u32 size;
	__u32 flags;
	__u32 ioas_id;
	__u32 count;
	__aligned_u64 start;
	__aligned_u64 areas;
};

#define IOMMU_IOAS_LIVEUPDATE_AREAS \
	_IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_LIVEUPDATE_AREAS)

#endif /* _UAPI_LINUX_IOMMUFD_LIVEUPDATE_H */
