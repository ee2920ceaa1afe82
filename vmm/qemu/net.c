// SPDX-License-Identifier: GPL-2.0-only
/*
 * UNIX sockets, and lines of JSON on them.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lu-qemu.h"

/* The longest line that somebody may send, in bytes */
#define LINE_MAX_SIZE (16U << 20)

/* A socket, and what @path is as its address. */
static int socket_new(struct sockaddr_un *addr, const char *path)
{
	int fd;

	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(addr->sun_path))
		return failed(-ENAMETOOLONG, "%s: too long for a socket", path);
	strcpy(addr->sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return fd < 0 ? failed(-errno, "a socket: %m") : fd;
}

static int socket_failed(int fd, const char *path)
{
	int ret = failed(-errno, "%s: %m", path);

	close(fd);
	return ret;
}

/**
 * socket_listen() - listen at a path, in the place of whoever did
 * @path: the path
 *
 * Return: a file descriptor or a negative errno
 */
int socket_listen(const char *path)
{
	struct sockaddr_un addr;
	int fd = socket_new(&addr, path);

	if (fd < 0)
		return fd;
	unlink(path);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) ||
	    listen(fd, SOMAXCONN))
		return socket_failed(fd, path);
	return fd;
}

/**
 * socket_connect() - connect to a path
 * @path: the path
 *
 * Return: a file descriptor or a negative errno
 */
int socket_connect(const char *path)
{
	struct sockaddr_un addr;
	int fd = socket_new(&addr, path);

	if (fd < 0)
		return fd;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return socket_failed(fd, path);
	return fd;
}

/**
 * wait_readable() - wait until there is something to read
 * @fd: where
 * @deadline: until when
 *
 * Return: 0 or a negative errno: -ETIMEDOUT
 */
int wait_readable(int fd, int64_t deadline)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	int ret;

	do
		ret = poll(&poll_fd, 1, deadline_left(deadline));
	while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : ret ? 0 : -ETIMEDOUT;
}

/**
 * socket_accept() - wait for somebody who connects
 * @listener: from socket_listen()
 * @deadline: until when
 *
 * Return: a file descriptor or a negative errno
 */
int socket_accept(int listener, int64_t deadline)
{
	int ret = wait_readable(listener, deadline);

	if (ret)
		return ret;
	ret = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	return ret < 0 ? -errno : ret;
}

static int send_all(int fd, const void *data, size_t size)
{
	const char *bytes = data;

	while (size) {
		ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		size -= n;
	}
	return 0;
}

/**
 * send_json() - send a line of JSON
 * @fd: where to
 * @message: what
 *
 * Return: 0 or a negative errno
 */
int send_json(int fd, const json_t *message)
{
	char *text = json_dumps(message, JSON_COMPACT);
	int ret;

	if (!text)
		return -ENOMEM;
	ret = send_all(fd, text, strlen(text));
	free(text);
	return ret ? ret : send_all(fd, "\n", 1);
}

/**
 * json_text() - a string in an object
 * @object: JSON
 * @key: its name
 *
 * Return: the string, or "" if there is none; it is the object's
 */
const char *json_text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key)) ?: "";
}

/* Read what is there; -EPIPE at the end. */
static int lines_read(struct lines *lines)
{
	ssize_t n;

	if (lines->len + 1 >= lines->room) {
		size_t room = lines->room ? 2 * lines->room : 4096;
		char *buf = room > LINE_MAX_SIZE ? NULL :
						   realloc(lines->buf, room);

		if (!buf)
			return -ENOMEM;
		lines->buf = buf;
		lines->room = room;
	}
	do
		n = read(lines->fd, lines->buf + lines->len,
			 lines->room - lines->len);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n ? -errno : -EPIPE;
	lines->len += n;
	return 0;
}

/**
 * lines_json() - wait for a line of JSON
 * @lines: the stream
 * @deadline: until when
 * @message: where to put what it says; the caller frees it
 *
 * Return: 0 or a negative errno: -ETIMEDOUT, -EPIPE: the stream ended, -EBADMSG: no
 * JSON
 */
int lines_json(struct lines *lines, int64_t deadline, json_t **message)
{
	char *end;

	while (!(end = lines->len ? memchr(lines->buf, '\n', lines->len) :
				    NULL)) {
		int ret = wait_readable(lines->fd, deadline);

		if (!ret)
			ret = lines_read(lines);
		if (ret)
			return ret;
	}
	*message = json_loadb(lines->buf, end - lines->buf, 0, NULL);
	lines->len -= end + 1 - lines->buf;
	memmove(lines->buf, end + 1, lines->len);
	return *message ? 0 : -EBADMSG;
}

/**
 * lines_end() - end a stream, and close its file
 * @lines: the stream
 */
void lines_end(struct lines *lines)
{
	if (lines->fd >= 0)
		close(lines->fd);
	free(lines->buf);
	*lines = (struct lines){ .fd = -1 };
}
