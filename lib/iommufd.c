// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * iommufd: address spaces and page tables, and those that cross an update.
 */
#include <errno.h>
#include <linux/iommufd.h>
#include <linux/iommufd_liveupdate.h>

#include "internal.h"

int lu_iommufd_open(void)
{
	return lu_open_file("/dev/iommu");
}

int lu_ioas_alloc(int iommufd, uint32_t *ioas_id)
{
	struct iommu_ioas_alloc call = { .size = sizeof(call) };
	int ret = lu_ioctl(iommufd, IOMMU_IOAS_ALLOC, &call);

	if (!ret)
		*ioas_id = call.out_ioas_id;
	return ret;
}

int lu_ioas_map_file(int iommufd, uint32_t ioas_id, int fd, uint64_t offset,
		     uint64_t length, uint64_t iova, uint32_t flags)
{
	struct iommu_ioas_map_file call = {
		.size = sizeof(call),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA,
		.ioas_id = ioas_id,
		.fd = fd,
		.start = offset,
		.length = length,
		.iova = iova,
	};

	if (!flags || flags & ~(LU_MAP_READ | LU_MAP_WRITE))
		return -EINVAL;
	if (flags & LU_MAP_READ)
		call.flags |= IOMMU_IOAS_MAP_READABLE;
	if (flags & LU_MAP_WRITE)
		call.flags |= IOMMU_IOAS_MAP_WRITEABLE;
	return lu_ioctl(iommufd, IOMMU_IOAS_MAP_FILE, &call);
}

int lu_iommufd_tracks_dirty(int iommufd, uint32_t dev_id)
{
	struct iommu_hw_info call = {
		.size = sizeof(call),
		.dev_id = dev_id,
	};
	int ret = lu_ioctl(iommufd, IOMMU_GET_HW_INFO, &call);

	if (ret)
		return ret;
	return !!(call.out_capabilities & IOMMU_HW_CAP_DIRTY_TRACKING);
}

/* lu_hwpt_alloc(), of a page table that can track dirty pages or not */
int lu_hwpt_make(int iommufd, uint32_t dev_id, uint32_t ioas_id, bool dirty,
		 uint32_t *hwpt_id)
{
	struct iommu_hwpt_alloc call = {
		.size = sizeof(call),
		.flags = dirty ? IOMMU_HWPT_ALLOC_DIRTY_TRACKING : 0,
		.dev_id = dev_id,
		.pt_id = ioas_id,
	};
	int ret = lu_ioctl(iommufd, IOMMU_HWPT_ALLOC, &call);

	if (!ret)
		*hwpt_id = call.out_hwpt_id;
	return ret;
}

int lu_hwpt_alloc(int iommufd, uint32_t dev_id, uint32_t ioas_id,
		  uint32_t *hwpt_id)
{
	return lu_hwpt_make(iommufd, dev_id, ioas_id, false, hwpt_id);
}

/* What lu_ioas_map_file() takes for these flags of the kernel. */
static uint32_t map_flags(uint32_t flags)
{
	return (flags & IOMMU_IOAS_MAP_READABLE ? LU_MAP_READ : 0) |
	       (flags & IOMMU_IOAS_MAP_WRITEABLE ? LU_MAP_WRITE : 0);
}

/* The kernel's structure is the library's: it copies to where the caller wants it. */
_Static_assert(sizeof(struct lu_area) ==
			       sizeof(struct iommu_ioas_liveupdate_area) &&
		       offsetof(struct lu_area, flags) ==
			       offsetof(struct iommu_ioas_liveupdate_area,
					flags) &&
		       LU_AREA_USER == IOMMU_IOAS_LIVEUPDATE_USER &&
		       LU_AREA_FILE == IOMMU_IOAS_LIVEUPDATE_FILE &&
		       LU_AREA_DMABUF == IOMMU_IOAS_LIVEUPDATE_DMABUF,
	       "the kernel's areas are not the library's");

int lu_ioas_areas(int iommufd, uint32_t ioas_id, uint64_t start,
		  struct lu_area *areas, uint32_t *count)
{
	struct iommu_ioas_liveupdate_areas call = {
		.size = sizeof(call),
		.ioas_id = ioas_id,
		.count = *count,
		.start = start,
		.areas = (uintptr_t)areas,
	};
	uint32_t room = *count;
	int ret = lu_ioctl(iommufd, IOMMU_IOAS_LIVEUPDATE_AREAS, &call);

	if (ret)
		return ret;
	*count = call.count;
	/* The kernel's bits are others than the library's */
	for (uint32_t i = 0; i < room && i < *count; i++)
		areas[i].flags = map_flags(areas[i].flags);
	return 0;
}

static int hwpt_mark(int iommufd, uint32_t hwpt_id, uint64_t token,
		     uint32_t flags)
{
	struct iommu_hwpt_liveupdate_mark call = {
		.size = sizeof(call),
		.flags = flags,
		.hwpt_id = hwpt_id,
		.token = token,
	};

	return lu_ioctl(iommufd, IOMMU_HWPT_LIVEUPDATE_MARK, &call);
}

int lu_hwpt_mark(int iommufd, uint32_t hwpt_id, uint64_t token)
{
	return hwpt_mark(iommufd, hwpt_id, token, 0);
}

int lu_hwpt_unmark(int iommufd, uint32_t hwpt_id, uint64_t token)
{
	return hwpt_mark(iommufd, hwpt_id, token, IOMMU_HWPT_LIVEUPDATE_UNMARK);
}

int lu_hwpt_find(int iommufd, uint64_t token, uint32_t *hwpt_id)
{
	struct iommu_hwpt_liveupdate_find call = {
		.size = sizeof(call),
		.token = token,
	};
	int ret = lu_ioctl(iommufd, IOMMU_HWPT_LIVEUPDATE_FIND, &call);

	if (!ret)
		*hwpt_id = call.out_hwpt_id;
	return ret;
}
