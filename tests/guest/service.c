// SPDX-License-Identifier: GPL-2.0-only
/*
 * A worker that systemd runs: it takes its commands from a socket, keeps its
 * objects from one connection to the next, and can leave files with systemd
 * (sd_notify(3), sd_listen_fds(3), by their protocols).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest.h"

#define WORKERS "/run/lab/workers"
#define FIRST_FD 3

/* Address of a path; one that begins with '@' is not in the file system. */
static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (addr.sun_path[0] == '@')
		addr.sun_path[0] = '\0';
	return addr;
}

/** worker_address() - where the service of this name takes its commands. */
struct sockaddr_un worker_address(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), WORKERS "/%s", name);
	return address(path);
}

/* Tell systemd something, with a file or without (-1). */
static int notify(const char *text, int fd)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr;
	struct iovec data = { .iov_base = (void *)text,
			      .iov_len = strlen(text) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(fd))];
	} control = {
		.head = { .cmsg_level = SOL_SOCKET,
			  .cmsg_type = SCM_RIGHTS,
			  .cmsg_len = CMSG_LEN(sizeof(fd)) },
	};
	struct msghdr msg = { .msg_name = &addr,
			      .msg_iov = &data,
			      .msg_iovlen = 1 };
	int sock, ret;

	if (!path)
		return complain(ENOTCONN, "not started by systemd");
	addr = address(path);
	msg.msg_namelen = offsetof(struct sockaddr_un, sun_path) + strlen(path);
	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
	}
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;
	ret = sys(sendmsg(sock, &msg, MSG_NOSIGNAL));
	close(sock);
	return ret < 0 ? ret : 0;
}

static int cmd_notify(const struct arg *a)
{
	return notify(a[0].s, -1);
}

static int cmd_fdstore(const struct arg *a)
{
	char text[96];

	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", a[1].s);
	return notify(text, a[0].o->fd);
}

static int cmd_fdstore_remove(const struct arg *a)
{
	char text[96];

	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", a[0].s);
	return notify(text, -1);
}

/* The number of a file that systemd passed under this name; -ENOENT. */
static int listen_fd(const char *name)
{
	const char *count = getenv("LISTEN_FDS");
	const char *names = getenv("LISTEN_FDNAMES");
	char *list = names ? strdup(names) : NULL;
	char *rest = list, *word;
	int ret = -ENOENT;

	for (int i = 0; count && i < atoi(count); i++) {
		word = strsep(&rest, ":");
		if (!word)
			break;
		if (!strcmp(word, name))
			ret = FIRST_FD + i;
	}
	free(list);
	return ret;
}

static int cmd_listen(const struct arg *a)
{
	int fd = listen_fd(a[1].s);

	if (fd < 0)
		return complain(-fd, "systemd has passed no %s", a[1].s);
	a[0].o->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return a[0].o->fd < 0 ? -errno : 0;
}

static int cmd_listen_names(const struct arg *a)
{
	const char *names = getenv("LISTEN_FDNAMES");

	(void)a;
	result("%s", names ? names : "");
	return 0;
}

/**
 * service_main() - be a worker for whoever connects, one after the other
 * @name: name of the worker
 *
 * Return: exit code, when it cannot listen
 */
int service_main(const char *name)
{
	struct sockaddr_un addr = worker_address(name);
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	mkdir(WORKERS, 0755);
	unlink(addr.sun_path);
	if (sock < 0 || bind(sock, (void *)&addr, sizeof(addr)) ||
	    listen(sock, 1)) {
		perror("guest: " WORKERS);
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	notify("READY=1", -1);
	for (;;) {
		int conn = accept4(sock, NULL, NULL, SOCK_CLOEXEC);

		if (conn < 0)
			continue;
		dup2(conn, STDIN_FILENO);
		dup2(conn, STDOUT_FILENO);
		close(conn);
		clearerr(stdin);
		worker_lines();
	}
}

const struct command service_commands[] = {
	{ "notify", "r", cmd_notify, "TEXT" },
	{ "fdstore", "os", cmd_fdstore, "OBJECT FDNAME" },
	{ "fdstore_remove", "s", cmd_fdstore_remove, "FDNAME" },
	{ "listen", "Ns", cmd_listen, "NEW FDNAME" },
	{ "listen_names", "", cmd_listen_names, "" },
	{}
};
