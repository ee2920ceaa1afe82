// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files of the system that is looked at: the running one, or one whose /sys,
 * /proc, /dev, /boot and /lib/modules were copied somewhere (--sysroot).
 *
 * All paths here are relative to that system's root folder, and so are its links.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tool.h"

static int root = -1;

/**
 * file_set_root() - look at another system than the running one
 * @path: its root folder
 *
 * Says so on stderr when that cannot be done.
 *
 * Return: 0 or a negative errno
 */
int file_set_root(const char *path)
{
	if (root >= 0)
		close(root);
	root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root >= 0)
		return 0;
	complain("%s: %s", path, strerror(errno));
	return -errno;
}

/**
 * file_open() - open a file
 * @path: its path
 * @flags: as for open()
 *
 * Return: a file descriptor or a negative errno
 */
int file_open(const char *path, int flags)
{
	/* Nobody is waited for, should it be a pipe */
	struct open_how how = {
		.flags = flags | O_CLOEXEC | (flags & O_PATH ? 0 : O_NONBLOCK),
		.resolve = RESOLVE_IN_ROOT,
	};
	int fd;

	if (root < 0 && file_set_root("/"))
		return -ENOENT;
	fd = syscall(SYS_openat2, root, path, &how, sizeof(how));
	/* Linux before 5.6, or valgrind: only links can be taken for others there */
	if (fd < 0 && errno == ENOSYS)
		fd = openat(root, path, (int)how.flags);
	return fd < 0 ? -errno : fd;
}

/**
 * file_exists() - is there such a file or folder
 * @path: its path
 *
 * Return: true if there is
 */
bool file_exists(const char *path)
{
	int fd = file_open(path, O_PATH);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

/**
 * file_read() - read a small file
 * @path: its path
 * @buf: where to put its text; the newline at its end is cut off
 * @size: room in @buf
 *
 * Return: 0 or a negative errno, with @buf empty
 */
int file_read(const char *path, char *buf, size_t size)
{
	int fd = file_open(path, O_RDONLY);
	ssize_t n;
	int err;

	buf[0] = '\0';
	if (fd < 0)
		return fd;
	n = read(fd, buf, size - 1);
	err = n < 0 ? -errno : 0;
	close(fd);
	if (err)
		return err;
	while (n && buf[n - 1] == '\n')
		n--;
	buf[n] = '\0';
	return 0;
}

/**
 * file_write() - write a value to a file that is there, as sysfs has them
 * @path: its path
 * @text: what to write, in one piece
 *
 * Return: 0 or a negative errno
 */
int file_write(const char *path, const char *text)
{
	int fd = file_open(path, O_WRONLY);
	int ret = 0;

	if (fd < 0)
		return fd;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/**
 * file_link_name() - get the last part of what a link points to
 * @path: path of the link
 * @buf: where to put it
 * @size: room in @buf
 *
 * Return: 0 or a negative errno, with @buf empty
 */
int file_link_name(const char *path, char *buf, size_t size)
{
	int fd = file_open(path, O_PATH | O_NOFOLLOW);
	char target[4096];
	const char *name;
	ssize_t n;

	buf[0] = '\0';
	if (fd < 0)
		return fd;
	n = readlinkat(fd, "", target, sizeof(target) - 1);
	close(fd);
	if (n < 0)
		return -ENOENT;
	target[n] = '\0';
	name = strrchr(target, '/');
	name = name ? name + 1 : target;
	if (strlen(name) >= size)
		return -ENAMETOOLONG;
	strcpy(buf, name);
	return 0;
}

static int is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/**
 * file_walk() - do something for each entry of a folder, in the order of names
 * @path: path of the folder
 * @fn: called with each name; the first error that it returns ends the walk
 * @data: for @fn
 *
 * Return: 0, what @fn returned, or a negative errno
 */
int file_walk(const char *path, int (*fn)(const char *name, void *data),
	      void *data)
{
	int fd = file_open(path, O_RDONLY | O_DIRECTORY);
	struct dirent **entries;
	int count, ret = 0;

	if (fd < 0)
		return fd;
	count = scandirat(fd, ".", &entries, is_visible, alphasort);
	ret = count < 0 ? -errno : 0;
	close(fd);
	for (int i = 0; i < count; i++) {
		if (!ret)
			ret = fn(entries[i]->d_name, data);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
	return ret;
}
