// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sessions of the Live Update Orchestrator, through libliveupdate.
 */
#include <errno.h>
#include <libliveupdate.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
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

/* Make a memfd of one page and put it into a session, which then has the only reference. */
static int put_page(int session, uint64_t token)
{
	uint64_t words[512];
	int fd = memfd_create("page", MFD_CLOEXEC), ret = 0;

	if (fd < 0)
		return -errno;
	for (uint64_t i = 0; i < 512; i++)
		words[i] = pattern(token, 0, i * 8);
	if (write(fd, words, sizeof(words)) != sizeof(words))
		ret = -EIO;
	if (!ret)
		ret = lu_session_preserve(session, fd, token);
	close(fd);
	return ret;
}

/* Take it out and see that it has its content. */
static int take_page(int session, uint64_t token)
{
	uint64_t words[512];
	int fd = lu_session_retrieve_fd(session, token), ret = 0;

	if (fd < 0)
		return fd;
	if (pread(fd, words, sizeof(words), 0) != sizeof(words))
		ret = -EIO;
	for (uint64_t i = 0; !ret && i < 512; i++)
		if (words[i] != pattern(token, 0, i * 8))
			ret = complain(EILSEQ, "other content in file %llu",
				       (unsigned long long)token);
	close(fd);
	return ret;
}

static int cmd_put_pages(const struct arg *a)
{
	int ret = 0;

	for (uint64_t token = 0; !ret && token < a[1].n; token++)
		ret = put_page(a[0].o->fd, token);
	return ret;
}

static int cmd_take_pages(const struct arg *a)
{
	int ret = 0;

	for (uint64_t token = 0; !ret && token < a[1].n; token++)
		ret = take_page(a[0].o->fd, token);
	return ret;
}

/* Make or get a session of many. Returns its file descriptor or a negative errno. */
static int numbered_session(int luo, uint64_t number,
			    int (*get)(int luo, const char *name))
{
	char name[LU_SESSION_NAME_SIZE];

	snprintf(name, sizeof(name), "many-%llu", (unsigned long long)number);
	return get(luo, name);
}

/* Make many sessions with one file each. They stay open as long as this process lives. */
static int cmd_put_sessions(const struct arg *a)
{
	struct rlimit limit = { a[0].n + 256, a[0].n + 256 };
	int luo, session, ret = 0;

	if (setrlimit(RLIMIT_NOFILE, &limit))
		return -errno;
	luo = lu_open();
	if (luo < 0)
		return luo;
	for (uint64_t i = 0; !ret && i < a[0].n; i++) {
		session = numbered_session(luo, i, lu_session_create);
		ret = session < 0 ? session : put_page(session, i);
	}
	close(luo);
	return ret;
}

static int cmd_take_sessions(const struct arg *a)
{
	int luo = lu_open(), ret = 0;

	if (luo < 0)
		return luo;
	for (uint64_t i = 0; !ret && i < a[0].n; i++) {
		int session = numbered_session(luo, i, lu_session_retrieve);

		if (session < 0) {
			ret = session;
			break;
		}
		ret = take_page(session, i) ?: lu_session_finish(session);
		close(session);
	}
	close(luo);
	return ret;
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
	{ "put_pages", "on", cmd_put_pages, "SESSION COUNT" },
	{ "take_pages", "on", cmd_take_pages, "SESSION COUNT" },
	{ "put_sessions", "n", cmd_put_sessions, "COUNT" },
	{ "take_sessions", "n", cmd_take_sessions, "COUNT" },
	{}
};
