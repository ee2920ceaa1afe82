// SPDX-License-Identifier: GPL-2.0-only
/*
 * iommufd: address spaces for devices and what is mapped there. What users do goes
 * through libliveupdate, what only a test does is an ioctl here.
 */
#include <errno.h>
#include <libliveupdate.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <linux/iommufd.h>
#include <linux/iommufd_liveupdate.h>

#include "guest.h"

#define MAP_FLAGS                                               \
	(IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE | \
	 IOMMU_IOAS_MAP_READABLE)

static int cmd_iommufd(const struct arg *a)
{
	a[0].o->fd = lu_iommufd_open();
	return a[0].o->fd < 0 ? a[0].o->fd : 0;
}

static int cmd_ioas(const struct arg *a)
{
	int ret = lu_ioas_alloc(a[0].o->fd, &a[1].o->id);

	result("%u", a[1].o->id);
	return ret;
}

static int cmd_ioas_map_file(const struct arg *a)
{
	return lu_ioas_map_file(a[0].o->fd, a[1].o->id, a[2].o->fd, a[3].n,
				a[4].n, a[5].n, LU_MAP_READ | LU_MAP_WRITE);
}

static int cmd_ioas_map_anon(const struct arg *a)
{
	struct iommu_ioas_map call = {
		.size = sizeof(call),
		.flags = MAP_FLAGS,
		.ioas_id = a[1].o->id,
		.length = a[3].n,
		.iova = a[4].n,
	};
	void *base = mmap(NULL, a[3].n, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (base == MAP_FAILED)
		return -errno;
	a[2].o->map = (struct window){ base, a[3].n };
	call.user_va = (uintptr_t)base;
	return sys(ioctl(a[0].o->fd, IOMMU_IOAS_MAP, &call));
}

static int cmd_ioas_unmap(const struct arg *a)
{
	struct iommu_ioas_unmap call = {
		.size = sizeof(call),
		.ioas_id = a[1].o->id,
		.iova = a[2].n,
		.length = a[3].n,
	};

	return sys(ioctl(a[0].o->fd, IOMMU_IOAS_UNMAP, &call));
}

static int cmd_hwpt_alloc(const struct arg *a)
{
	int ret =
		lu_hwpt_alloc(a[0].o->fd, a[1].o->id, a[2].o->id, &a[3].o->id);

	result("%u", a[3].o->id);
	return ret;
}

/* A page table with features that the library does not ask for. */
static int cmd_hwpt_dirty(const struct arg *a)
{
	struct iommu_hwpt_set_dirty_tracking call = {
		.size = sizeof(call),
		.flags = a[2].n ? IOMMU_HWPT_DIRTY_TRACKING_ENABLE : 0,
		.hwpt_id = a[1].o->id,
	};

	return sys(ioctl(a[0].o->fd, IOMMU_HWPT_SET_DIRTY_TRACKING, &call));
}

static int cmd_hwpt_alloc_raw(const struct arg *a)
{
	struct iommu_hwpt_alloc call = {
		.size = sizeof(call),
		.flags = a[4].n,
		.dev_id = a[1].o->id,
		.pt_id = a[2].o->id,
	};
	int ret = sys(ioctl(a[0].o->fd, IOMMU_HWPT_ALLOC, &call));

	a[3].o->id = call.out_hwpt_id;
	return ret;
}

static int cmd_iommu_destroy(const struct arg *a)
{
	struct iommu_destroy call = { .size = sizeof(call), .id = a[1].o->id };

	return sys(ioctl(a[0].o->fd, IOMMU_DESTROY, &call));
}

static int cmd_hwpt_mark(const struct arg *a)
{
	return lu_hwpt_mark(a[0].o->fd, a[1].o->id, a[2].n);
}

static int cmd_hwpt_unmark(const struct arg *a)
{
	return lu_hwpt_unmark(a[0].o->fd, a[1].o->id, a[2].n);
}

static int cmd_hwpt_find(const struct arg *a)
{
	int ret = lu_hwpt_find(a[0].o->fd, a[1].n, &a[2].o->id);

	result("%u", a[2].o->id);
	return ret;
}

/*
 * Mark or find with a structure that is not as it should be: of another size,
 * with flags, in its reserved field, or with a byte behind its last field.
 */
static int cmd_hwpt_mark_raw(const struct arg *a)
{
	struct {
		struct iommu_hwpt_liveupdate_mark call;
		__u8 beyond[64];
	} raw = {
		.call.size = a[3].n,
		.call.flags = a[4].n,
		.call.hwpt_id = a[1].o->id,
		.call.__reserved = a[5].n,
		.call.token = a[2].n,
		.beyond[0] = a[6].n,
	};

	return sys(ioctl(a[0].o->fd, IOMMU_HWPT_LIVEUPDATE_MARK, &raw));
}

static int cmd_hwpt_find_raw(const struct arg *a)
{
	struct {
		struct iommu_hwpt_liveupdate_find call;
		__u8 beyond[64];
	} raw = {
		.call.size = a[2].n,
		.call.flags = a[3].n,
		.call.__reserved = a[4].n,
		.call.token = a[1].n,
		.beyond[0] = a[5].n,
	};

	return sys(ioctl(a[0].o->fd, IOMMU_HWPT_LIVEUPDATE_FIND, &raw));
}

/* What is mapped in an IOAS, from an address on; so many at most. */
static int cmd_ioas_areas(const struct arg *a)
{
	struct lu_area areas[16];
	uint32_t count = a[3].n;
	int ret;

	if (count > ARRAY_SIZE(areas))
		return -EINVAL;
	ret = lu_ioas_areas(a[0].o->fd, a[1].o->id, a[2].n, areas, &count);
	if (ret)
		return ret;
	for (uint32_t i = 0; i < count && i < a[3].n; i++)
		say("%#llx %#llx %#llx %u %u %llu %llu",
		    (unsigned long long)areas[i].iova,
		    (unsigned long long)areas[i].length,
		    (unsigned long long)areas[i].offset, areas[i].kind,
		    areas[i].flags, (unsigned long long)areas[i].device,
		    (unsigned long long)areas[i].inode);
	result("%u", count);
	return 0;
}

/* The device and the inode of a file */
static int cmd_inode(const struct arg *a)
{
	struct stat st;

	if (fstat(a[0].o->fd, &st))
		return -errno;
	result("%llu %llu", (unsigned long long)st.st_dev,
	       (unsigned long long)st.st_ino);
	return 0;
}

/* What is mapped by its file is charged to this process. */
static int cmd_change_process(const struct arg *a)
{
	struct iommu_ioas_change_process call = { .size = sizeof(call) };

	return sys(ioctl(a[0].o->fd, IOMMU_IOAS_CHANGE_PROCESS, &call));
}

const struct command iommufd_commands[] = {
	{ "iommufd", "N", cmd_iommufd, "NEW" },
	{ "ioas", "oN", cmd_ioas, "IOMMUFD NEW" },
	{ "ioas_map_file", "ooonnn", cmd_ioas_map_file,
	  "IOMMUFD IOAS MEMFD OFFSET LENGTH IOVA" },
	{ "ioas_map_anon", "ooNnn", cmd_ioas_map_anon,
	  "IOMMUFD IOAS NEW LENGTH IOVA" },
	{ "ioas_areas", "oonn", cmd_ioas_areas, "IOMMUFD IOAS IOVA COUNT" },
	{ "change_process", "o", cmd_change_process, "IOMMUFD" },
	{ "inode", "o", cmd_inode, "FILE" },
	{ "ioas_unmap", "oonn", cmd_ioas_unmap, "IOMMUFD IOAS IOVA LENGTH" },
	{ "hwpt_alloc", "oooN", cmd_hwpt_alloc, "IOMMUFD DEVICE IOAS NEW" },
	{ "hwpt_dirty", "oon", cmd_hwpt_dirty, "IOMMUFD HWPT ON" },
	{ "hwpt_alloc_raw", "oooNn", cmd_hwpt_alloc_raw,
	  "IOMMUFD DEVICE IOAS NEW FLAGS" },
	{ "hwpt_mark", "oon", cmd_hwpt_mark, "IOMMUFD HWPT TOKEN" },
	{ "hwpt_unmark", "oon", cmd_hwpt_unmark, "IOMMUFD HWPT TOKEN" },
	{ "hwpt_find", "onN", cmd_hwpt_find, "IOMMUFD TOKEN NEW" },
	{ "hwpt_mark_raw", "oonnnnn", cmd_hwpt_mark_raw,
	  "IOMMUFD HWPT TOKEN SIZE FLAGS RESERVED BEYOND" },
	{ "hwpt_find_raw", "onnnnn", cmd_hwpt_find_raw,
	  "IOMMUFD TOKEN SIZE FLAGS RESERVED BEYOND" },
	{ "iommu_destroy", "oo", cmd_iommu_destroy, "IOMMUFD OBJECT" },
	{}
};
