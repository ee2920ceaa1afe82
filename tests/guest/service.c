// SPDX-License-Identifier: GPL-2.0-only
/*
 * A worker that systemd runs: it takes its commands from a socket, keeps its
 * objects from one connection to the next, and can leave files with systemd.
 *
 * That needs libsystemd, which cannot be linked statically: there is a second
 * build of the program for machines with systemd, guest-systemd.
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
#ifdef HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include <libliveupdate.h>

#include "guest.h"

#define WORKERS "/run/lab/workers"

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

/* Tell systemd something. */
static int notify(const char *text)
{
#ifdef HAVE_LIBSYSTEMD
	int ret = sd_notify(0, text);

	return ret > 0 ? 0 : ret ? ret : -ENOTCONN;
#else
	(void)text;
	return -ENOSYS;
#endif
}

static int cmd_notify(const struct arg *a)
{
	return notify(a[0].s);
}

static int cmd_fdstore(const struct arg *a)
{
	return lu_custody_store(a[0].o->fd, a[1].s);
}

static int cmd_fdstore_remove(const struct arg *a)
{
	return lu_custody_remove(a[0].s);
}

static int cmd_listen(const struct arg *a)
{
	int fd = lu_custody_take(a[1].s);

	if (fd < 0)
		return fd;
	/* An object closes its file, and this one may be asked for again */
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
	notify("READY=1");
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
