// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sessions of the Live Update Orchestrator.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/liveupdate.h>

#include "guest.h"

/* Open /dev/liveupdate for one call: it allows one opener at a time. */
static int luo_call(unsigned long request, void *arg)
{
	int fd = open("/dev/liveupdate", O_RDWR | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = sys(ioctl(fd, request, arg));
	close(fd);
	return ret;
}

static int cmd_luo_open(const struct arg *a)
{
	a[0].o->fd = open("/dev/liveupdate", O_RDWR | O_CLOEXEC);
	return a[0].o->fd < 0 ? -errno : 0;
}

static int cmd_session_create(const struct arg *a)
{
	struct liveupdate_ioctl_create_session call = { .size = sizeof(call) };
	int ret;

	snprintf((char *)call.name, sizeof(call.name), "%s", a[1].s);
	ret = luo_call(LIVEUPDATE_IOCTL_CREATE_SESSION, &call);
	a[0].o->fd = ret ? -1 : call.fd;
	return ret;
}

static int cmd_session_retrieve(const struct arg *a)
{
	struct liveupdate_ioctl_retrieve_session call = { .size = sizeof(
								  call) };
	int ret;

	snprintf((char *)call.name, sizeof(call.name), "%s", a[1].s);
	ret = luo_call(LIVEUPDATE_IOCTL_RETRIEVE_SESSION, &call);
	a[0].o->fd = ret ? -1 : call.fd;
	return ret;
}

static int cmd_preserve(const struct arg *a)
{
	struct liveupdate_session_preserve_fd call = {
		.size = sizeof(call),
		.fd = a[2].o->fd,
		.token = a[1].n,
	};

	return sys(ioctl(a[0].o->fd, LIVEUPDATE_SESSION_PRESERVE_FD, &call));
}

static int cmd_retrieve(const struct arg *a)
{
	struct liveupdate_session_retrieve_fd call = {
		.size = sizeof(call),
		.token = a[1].n,
	};
	int ret = sys(ioctl(a[0].o->fd, LIVEUPDATE_SESSION_RETRIEVE_FD, &call));

	a[2].o->fd = ret ? -1 : call.fd;
	return ret;
}

static int cmd_finish(const struct arg *a)
{
	struct liveupdate_session_finish call = { .size = sizeof(call) };

	return sys(ioctl(a[0].o->fd, LIVEUPDATE_SESSION_FINISH, &call));
}

const struct command luo_commands[] = {
	{ "luo_open", "N", cmd_luo_open, "NEW" },
	{ "session_create", "Ns", cmd_session_create, "NEW NAME" },
	{ "session_retrieve", "Ns", cmd_session_retrieve, "NEW NAME" },
	{ "preserve", "ono", cmd_preserve, "SESSION TOKEN OBJECT" },
	{ "retrieve", "onN", cmd_retrieve, "SESSION TOKEN NEW" },
	{ "finish", "o", cmd_finish, "SESSION" },
	{}
};
