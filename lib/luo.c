// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Sessions of the Live Update Orchestrator: one ioctl each.
 */
#include <errno.h>
#include <string.h>
#include <linux/liveupdate.h>

#include "internal.h"

_Static_assert(LU_SESSION_NAME_SIZE == LIVEUPDATE_SESSION_NAME_LENGTH,
	       "the kernel's size");

int lu_open(void)
{
	return lu_open_file("/dev/liveupdate");
}

/* Copy a session's name, which the kernel would cut silently. */
static int name_copy(__u8 *to, const char *name)
{
	size_t len = strlen(name);

	if (!len || len >= LU_SESSION_NAME_SIZE)
		return -EINVAL;
	memcpy(to, name, len + 1);
	return 0;
}

int lu_session_create(int luo, const char *name)
{
	struct liveupdate_ioctl_create_session call = { .size = sizeof(call) };
	int ret = name_copy(call.name, name);

	if (!ret)
		ret = lu_ioctl(luo, LIVEUPDATE_IOCTL_CREATE_SESSION, &call);
	return ret < 0 ? ret : call.fd;
}

int lu_session_retrieve(int luo, const char *name)
{
	struct liveupdate_ioctl_retrieve_session call = {
		.size = sizeof(call),
	};
	int ret = name_copy(call.name, name);

	if (!ret)
		ret = lu_ioctl(luo, LIVEUPDATE_IOCTL_RETRIEVE_SESSION, &call);
	return ret < 0 ? ret : call.fd;
}

int lu_session_name(int session, char name[LU_SESSION_NAME_SIZE])
{
	struct liveupdate_session_get_name call = { .size = sizeof(call) };
	int ret = lu_ioctl(session, LIVEUPDATE_SESSION_GET_NAME, &call);

	if (ret < 0)
		return ret;
	memcpy(name, call.name, LU_SESSION_NAME_SIZE);
	name[LU_SESSION_NAME_SIZE - 1] = '\0';
	return 0;
}

int lu_session_preserve(int session, int fd, uint64_t token)
{
	struct liveupdate_session_preserve_fd call = {
		.size = sizeof(call),
		.fd = fd,
		.token = token,
	};

	return lu_ioctl(session, LIVEUPDATE_SESSION_PRESERVE_FD, &call);
}

int lu_session_retrieve_fd(int session, uint64_t token)
{
	struct liveupdate_session_retrieve_fd call = {
		.size = sizeof(call),
		.token = token,
	};
	int ret = lu_ioctl(session, LIVEUPDATE_SESSION_RETRIEVE_FD, &call);

	return ret < 0 ? ret : call.fd;
}

int lu_session_finish(int session)
{
	struct liveupdate_session_finish call = { .size = sizeof(call) };

	return lu_ioctl(session, LIVEUPDATE_SESSION_FINISH, &call);
}
