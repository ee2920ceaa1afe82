// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Custody: systemd keeps a service's file descriptors while it is not running,
 * and across systemctl kexec.
 *
 * This file alone needs libsystemd, and does without if it was built so.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "internal.h"

#define NAME_MAX_LEN 255
#define FIRST_FD 3
#define PATIENCE_US 5000000

/* A name goes into lines of text, and between colons. */
static int name_check(const char *name)
{
	size_t len = strlen(name);

	if (!len || len > NAME_MAX_LEN)
		return -EINVAL;
	for (const char *c = name; *c; c++)
		if (*c < ' ' || *c > '~' || *c == ':')
			return -EINVAL;
	return 0;
}

#ifdef HAVE_LIBSYSTEMD
/* Tell the service manager, and wait until it has read that. */
static int notify(const char *what, const char *name, const int *fd)
{
	char text[NAME_MAX_LEN + 64];
	int ret = name_check(name);

	if (ret)
		return ret;
	snprintf(text, sizeof(text), "%s\nFDNAME=%s", what, name);
	ret = sd_pid_notify_with_fds(0, 0, text, fd, !!fd);
	if (ret > 0)
		ret = sd_notify_barrier(0, PATIENCE_US);
	if (!ret)
		return -ENOTCONN;
	return ret < 0 ? ret : 0;
}
#else
static int notify(const char *what, const char *name, const int *fd)
{
	int ret = name_check(name);

	(void)what;
	(void)fd;
	return ret ? ret : -ENOSYS;
}
#endif

int lu_custody_store(int fd, const char *name)
{
	if (fcntl(fd, F_GETFD) < 0)
		return -errno;
	return notify("FDSTORE=1\nFDPOLL=0", name, &fd);
}

int lu_custody_remove(const char *name)
{
	return notify("FDSTOREREMOVE=1", name, NULL);
}

/* How many files were passed to this very process? */
static int listen_fds(void)
{
	const char *pid = getenv("LISTEN_PID");
	const char *text = getenv("LISTEN_FDS");
	long count;

	if (!pid || !text || strtol(pid, NULL, 10) != getpid())
		return 0;
	count = strtol(text, NULL, 10);
	return count < 0 || count > INT_MAX - FIRST_FD ? 0 : count;
}

/*
 * sd_listen_fds_with_names() would do, but that it fails for good when one of the
 * files is closed: others may have taken theirs before.
 */
int lu_custody_take(const char *name)
{
	const char *names = getenv("LISTEN_FDNAMES");
	int end = FIRST_FD + listen_fds();

	if (name_check(name))
		return -EINVAL;
	for (int fd = FIRST_FD; names && fd < end; fd++) {
		size_t len = strcspn(names, ":");

		if (len == strlen(name) && !strncmp(names, name, len))
			return fcntl(fd, F_SETFD, FD_CLOEXEC) ? -errno : fd;
		names = names[len] ? names + len + 1 : NULL;
	}
	return -ENOENT;
}
