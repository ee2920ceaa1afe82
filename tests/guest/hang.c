// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls that do not end: their memory is a page that nobody ever provides
 * (userfaultfd). Each is for a child ("fork"), which is killed in the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <libliveupdate.h>
#include <linux/iommufd.h>
#include <linux/liveupdate.h>
#include <linux/userfaultfd.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

#define PAGE 4096

/* A page whose first access, or first write after this, does not end while we live. */
static int hang_page(uint64_t mode, void **base)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range.len = PAGE, .mode = mode };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		return -errno;
	if (!*base)
		*base = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (*base == MAP_FAILED)
		return -errno;
	reg.range.start = (uintptr_t)*base;
	if (ioctl(uffd, UFFDIO_REGISTER, &reg))
		return -errno;
	if (mode == UFFDIO_REGISTER_MODE_WP) {
		struct uffdio_writeprotect protect = {
			.range = reg.range,
			.mode = UFFDIO_WRITEPROTECT_MODE_WP,
		};

		return sys(ioctl(uffd, UFFDIO_WRITEPROTECT, &protect));
	}
	return 0;
}

static int hang_memory(void **base)
{
	*base = NULL;
	return hang_page(UFFDIO_REGISTER_MODE_MISSING, base);
}

/* Open a device once more and bind that file, with a token that never comes. */
static int cmd_hang_bind(const struct arg *a)
{
	struct vfio_device_bind_iommufd call = {
		.argsz = sizeof(call),
		.flags = VFIO_DEVICE_BIND_FLAG_TOKEN,
		.iommufd = a[1].o->fd,
	};
	int fd = lu_device_open(a[0].s);
	void *token;
	int ret;

	if (fd < 0)
		return fd;
	ret = hang_memory(&token);
	if (ret)
		return ret;
	call.token_uuid_ptr = (uintptr_t)token;
	return sys(ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, &call));
}

/* Map memory that cannot be pinned. */
static int cmd_hang_map(const struct arg *a)
{
	struct iommu_ioas_map call = {
		.size = sizeof(call),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE |
			 IOMMU_IOAS_MAP_READABLE,
		.ioas_id = a[1].o->id,
		.length = PAGE,
		.iova = a[2].n,
	};
	void *base;
	int ret;

	ret = hang_memory(&base);
	if (ret)
		return ret;
	call.user_va = (uintptr_t)base;
	return sys(ioctl(a[0].o->fd, IOMMU_IOAS_MAP, &call));
}

/* Write to a file what never comes. */
static int cmd_hang_write(const struct arg *a)
{
	void *base;
	int ret;

	ret = hang_memory(&base);
	return ret ?: sys(pwrite(a[0].o->fd, base, PAGE, 0));
}

/* Read a file, or a device's region 0, into memory that never comes. */
static int cmd_hang_read(const struct arg *a)
{
	void *base;
	int ret;

	ret = hang_memory(&base);
	return ret ?: sys(pread(a[0].o->fd, base, 4, a[1].n));
}

/* Ask a session for its name, in memory that can be read and not be written. */
static int cmd_hang_name(const struct arg *a)
{
	struct liveupdate_session_get_name call = { .size = sizeof(call) };
	void *base = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ret;

	if (base == MAP_FAILED)
		return -errno;
	memcpy(base, &call, sizeof(call));
	ret = hang_page(UFFDIO_REGISTER_MODE_WP, &base);
	return ret ?: sys(ioctl(a[0].o->fd, LIVEUPDATE_SESSION_GET_NAME, base));
}

const struct command hang_commands[] = {
	{ "hang_bind", "so", cmd_hang_bind, "BDF IOMMUFD" },
	{ "hang_map", "oon", cmd_hang_map, "IOMMUFD IOAS IOVA" },
	{ "hang_write", "o", cmd_hang_write, "FILE" },
	{ "hang_read", "on", cmd_hang_read, "FILE OFFSET" },
	{ "hang_name", "o", cmd_hang_name, "SESSION" },
	{}
};
