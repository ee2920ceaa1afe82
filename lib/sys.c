// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * All ways from the library to the drivers of the kernel, in one place, so that the
 * tests can put a kernel of their own there.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "internal.h"

/* An ioctl's result, or the negative errno. */
int lu_ioctl(int fd, unsigned long request, void *arg)
{
	int ret = ioctl(fd, request, arg);

	return ret < 0 ? -errno : ret;
}

/* A file descriptor, or the negative errno. */
int lu_open_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* What the kernel tells of an open file, line by line; or NULL with errno set. */
FILE *lu_open_fdinfo(int fd)
{
	char path[64];

	if (fcntl(fd, F_GETFD) < 0)
		return NULL;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	return fopen(path, "re");
}
