// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sessions of the Live Update Orchestrator, through libliveupdate.
 */
#include <libliveupdate.h>
#include <unistd.h>

#include "guest.h"

/* Open /dev/liveupdate for one call: it allows one opener at a time. */
static int session_get(struct object *session, const char *name,
		       int (*get)(int luo, const char *name))
{
	int luo = lu_open();
	int ret = luo;

	if (luo >= 0) {
		ret = get(luo, name);
		close(luo);
	}
	session->fd = ret;
	return ret < 0 ? ret : 0;
}

static int cmd_luo_open(const struct arg *a)
{
	a[0].o->fd = lu_open();
	return a[0].o->fd < 0 ? a[0].o->fd : 0;
}

static int cmd_session_create(const struct arg *a)
{
	return session_get(a[0].o, a[1].s, lu_session_create);
}

static int cmd_session_retrieve(const struct arg *a)
{
	return session_get(a[0].o, a[1].s, lu_session_retrieve);
}

static int cmd_session_name(const struct arg *a)
{
	char name[LU_SESSION_NAME_SIZE];
	int ret = lu_session_name(a[0].o->fd, name);

	if (!ret)
		result("%s", name);
	return ret;
}

static int cmd_preserve(const struct arg *a)
{
	return lu_session_preserve(a[0].o->fd, a[2].o->fd, a[1].n);
}

static int cmd_retrieve(const struct arg *a)
{
	int ret = lu_session_retrieve_fd(a[0].o->fd, a[1].n);

	a[2].o->fd = ret;
	return ret < 0 ? ret : 0;
}

static int cmd_finish(const struct arg *a)
{
	return lu_session_finish(a[0].o->fd);
}

const struct command luo_commands[] = {
	{ "luo_open", "N", cmd_luo_open, "NEW" },
	{ "session_create", "Ns", cmd_session_create, "NEW NAME" },
	{ "session_retrieve", "Ns", cmd_session_retrieve, "NEW NAME" },
	{ "session_name", "o", cmd_session_name, "SESSION" },
	{ "preserve", "ono", cmd_preserve, "SESSION TOKEN OBJECT" },
	{ "retrieve", "onN", cmd_retrieve, "SESSION TOKEN NEW" },
	{ "finish", "o", cmd_finish, "SESSION" },
	{}
};
