// SPDX-License-Identifier: GPL-2.0-only
/*
 * What QEMU hands to its successor (its "CPR state", migration/cpr.c of QEMU 10.2 to
 * 11.1): files by name and number, and the numbers of VFIO devices in their iommufd.
 *
 *   u32 magic, u32 version                                  all big-endian
 *   { 1, u32 length of name, name, s32 id, file }*, 0       name with its NUL
 *   5, 21, "CprState/vfio devices", u32 version
 *   { 1, u32 length of name, name, s32 dev_id, u32 ioas_id, u32 hwpt_id }*, 0
 *
 * In mode cpr-transfer a file is a blank that carries the descriptor (SCM_RIGHTS); in
 * mode cpr-exec it is the number of an inherited descriptor, u32. It is read as the
 * first and written as the second, which needs no socket and can be tried again.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lu-qemu.h"

#define CPR_MAGIC 0x51435052
#define CPR_VERSION 1
#define SUBSECTION 5
#define DEVICES "CprState/vfio devices"

/* More than any virtual machine has; each is a few dozen bytes. */
#define FDS_MAX 16384
#define SIZE_MAX_BYTES (4U << 20)

/* --- receiving -------------------------------------------------------------- */

/**
 * struct received - what came through the socket
 * @data: bytes
 * @size: how many
 * @fds: descriptors, in their order
 * @nr_fds: how many
 */
struct received {
	uint8_t *data;
	size_t size;
	int *fds;
	size_t nr_fds;
};

static int take_fds(struct received *in, struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c;
	     c = CMSG_NXTHDR(msg, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (in->nr_fds == FDS_MAX) {
				close(fd);
				continue;
			}
			in->fds[in->nr_fds++] = fd;
		}
	}
	return msg->msg_flags & MSG_CTRUNC ? -EMFILE : 0;
}

/* Receive some of it; 1 at its end. */
static int receive_some(struct received *in, int socket)
{
	char control[CMSG_SPACE(16 * sizeof(int))];
	struct iovec iov = { in->data + in->size, SIZE_MAX_BYTES - in->size };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n;

	if (!iov.iov_len)
		return -EMSGSIZE;
	do
		n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	in->size += n;
	return n ? take_fds(in, &msg) : 1;
}

/**
 * cpr_receive() - receive QEMU's CPR state
 * @cpr: where to put it; cpr_free() frees it
 * @socket: connection from QEMU, in mode cpr-transfer
 * @deadline: until when
 *
 * Return: 0 or a negative errno
 */
int cpr_receive(struct cpr *cpr, int socket, int64_t deadline)
{
	struct received in = {
		.data = malloc(SIZE_MAX_BYTES),
		.fds = calloc(FDS_MAX, sizeof(int)),
	};
	int ret = in.data && in.fds ? 0 : -ENOMEM;

	while (!ret) {
		ret = wait_readable(socket, deadline);
		if (!ret)
			ret = receive_some(&in, socket);
	}
	if (ret == 1)
		ret = cpr_parse(cpr, in.data, in.size, in.fds, in.nr_fds);
	else
		failed(ret, "QEMU's CPR state: %s", strerror(-ret));
	for (size_t i = 0; ret && i < in.nr_fds; i++)
		close(in.fds[i]);
	free(in.data);
	free(in.fds);
	return ret;
}

/* --- reading ---------------------------------------------------------------- */

/**
 * struct cursor - a place in it
 * @at: next byte
 * @end: byte after the last one
 * @bad: there was less than was asked for
 */
struct cursor {
	const uint8_t *at;
	const uint8_t *end;
	bool bad;
};

static const uint8_t *get_bytes(struct cursor *c, size_t size)
{
	const uint8_t *at = c->at;

	if ((size_t)(c->end - at) < size) {
		c->bad = true;
		return NULL;
	}
	c->at += size;
	return at;
}

static uint8_t get_byte(struct cursor *c)
{
	const uint8_t *byte = get_bytes(c, 1);

	return byte ? *byte : 0;
}

static uint32_t get_u32(struct cursor *c)
{
	const uint8_t *bytes = get_bytes(c, 4);
	uint32_t value = 0;

	if (bytes)
		memcpy(&value, bytes, 4);
	return be32toh(value);
}

/* A name, or NULL: not to be freed. */
static const char *get_name(struct cursor *c)
{
	uint32_t size = get_u32(c);
	const uint8_t *name = get_bytes(c, size);

	if (!name || !size || memchr(name, 0, size) != name + size - 1) {
		c->bad = true;
		return NULL;
	}
	return (const char *)name;
}

/* Is there one more in a list? */
static bool get_more(struct cursor *c)
{
	uint8_t more = get_byte(c);

	if (more > 1)
		c->bad = true;
	return more && !c->bad;
}

static int get_fds(struct cursor *c, struct cpr *cpr, int *fds, size_t nr_fds)
{
	size_t next = 0;

	while (get_more(c)) {
		const char *name = get_name(c);
		int32_t id = get_u32(c);
		int ret;

		if (get_byte(c) != ' ' || next == nr_fds)
			c->bad = true;
		if (c->bad)
			return -EBADMSG;
		ret = cpr_add_fd(cpr, name, id, fds[next]);
		if (ret)
			return ret;
		fds[next++] = -1;
	}
	return c->bad || next < nr_fds ? -EBADMSG : 0;
}

static int get_devices(struct cursor *c, struct cpr *cpr)
{
	while (get_more(c)) {
		struct cpr_device device = { .name = (char *)get_name(c) };
		int ret;

		device.dev_id = get_u32(c);
		device.ioas_id = get_u32(c);
		device.hwpt_id = get_u32(c);
		if (c->bad)
			return -EBADMSG;
		ret = cpr_add_device(cpr, &device);
		if (ret)
			return ret;
	}
	return c->bad ? -EBADMSG : 0;
}

static int get_section(struct cursor *c, struct cpr *cpr)
{
	size_t length = strlen(DEVICES);
	const uint8_t *name;

	if (c->at == c->end)
		return 0;
	if (get_byte(c) != SUBSECTION || get_byte(c) != length)
		return -EBADMSG;
	name = get_bytes(c, length);
	if (!name || memcmp(name, DEVICES, length) || get_u32(c) != CPR_VERSION)
		return -EBADMSG;
	return get_devices(c, cpr);
}

/**
 * cpr_parse() - read a CPR state as of mode cpr-transfer
 * @cpr: where to put it; cpr_free() frees it, and closes its files
 * @data: the bytes that came
 * @size: how many
 * @fds: the descriptors that came; those that @cpr has then are -1 here
 * @nr_fds: how many
 *
 * Return: 0 or a negative errno: -EBADMSG: not as QEMU 10.2 to 11.1 write it
 */
int cpr_parse(struct cpr *cpr, const uint8_t *data, size_t size, int *fds,
	      size_t nr_fds)
{
	struct cursor c = { data, data + size, false };
	int ret = -EBADMSG;

	*cpr = (struct cpr){};
	if (get_u32(&c) == CPR_MAGIC && get_u32(&c) == CPR_VERSION)
		ret = get_fds(&c, cpr, fds, nr_fds);
	if (!ret)
		ret = get_section(&c, cpr);
	if (!ret && (c.bad || c.at != c.end))
		ret = -EBADMSG;
	if (ret)
		cpr_free(cpr);
	return ret ? failed(ret,
			    "what QEMU hands over is not understood: is this QEMU newer than 11.1?") :
		     0;
}

/* --- writing ---------------------------------------------------------------- */

static void put_u32(FILE *file, uint32_t value)
{
	value = htobe32(value);
	fwrite(&value, sizeof(value), 1, file);
}

static void put_name(FILE *file, const char *name)
{
	fputc(1, file);
	put_u32(file, strlen(name) + 1);
	fwrite(name, strlen(name) + 1, 1, file);
}

static void put_all(FILE *file, const struct cpr *cpr)
{
	put_u32(file, CPR_MAGIC);
	put_u32(file, CPR_VERSION);
	for (size_t i = 0; i < cpr->nr_fds; i++) {
		put_name(file, cpr->fds[i].name);
		put_u32(file, cpr->fds[i].id);
		put_u32(file, cpr->fds[i].fd);
	}
	fputc(0, file);
	fputc(SUBSECTION, file);
	fputc(strlen(DEVICES), file);
	fputs(DEVICES, file);
	put_u32(file, CPR_VERSION);
	for (size_t i = 0; i < cpr->nr_devices; i++) {
		put_name(file, cpr->devices[i].name);
		put_u32(file, cpr->devices[i].dev_id);
		put_u32(file, cpr->devices[i].ioas_id);
		put_u32(file, cpr->devices[i].hwpt_id);
	}
	fputc(0, file);
}

/**
 * cpr_write() - write a CPR state as of mode cpr-exec
 * @cpr: the state; its files are inherited under the numbers that they have
 *
 * Return: a memfd, which the caller closes, or a negative errno
 */
int cpr_write(const struct cpr *cpr)
{
	int fd = memfd_create("cpr-state", MFD_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(dup(fd), "w");
	int ret;

	if (!file) {
		ret = failed(-errno, "a memfd: %m");
		if (fd >= 0)
			close(fd);
		return ret;
	}
	put_all(file, cpr);
	if (!fclose(file))
		return fd;
	ret = failed(-errno, "a memfd: %m");
	close(fd);
	return ret;
}

/* --- the lists -------------------------------------------------------------- */

/**
 * cpr_add_fd() - add a file
 * @cpr: the state
 * @name: its name
 * @id: and number
 * @fd: the file, which is the state's then
 *
 * Return: 0 or -ENOMEM
 */
int cpr_add_fd(struct cpr *cpr, const char *name, int32_t id, int fd)
{
	struct cpr_fd *fds =
		reallocarray(cpr->fds, cpr->nr_fds + 1, sizeof(*fds));
	char *copy = strdup(name);

	if (fds)
		cpr->fds = fds;
	if (!fds || !copy) {
		free(copy);
		return -ENOMEM;
	}
	fds[cpr->nr_fds].name = copy;
	fds[cpr->nr_fds].id = id;
	fds[cpr->nr_fds++].fd = fd;
	return 0;
}

/**
 * cpr_add_device() - add a VFIO device
 * @cpr: the state
 * @device: the device, which is copied
 *
 * Return: 0 or -ENOMEM
 */
int cpr_add_device(struct cpr *cpr, const struct cpr_device *device)
{
	struct cpr_device *devices = reallocarray(
		cpr->devices, cpr->nr_devices + 1, sizeof(*devices));
	char *copy = strdup(device->name);

	if (devices)
		cpr->devices = devices;
	if (!devices || !copy) {
		free(copy);
		return -ENOMEM;
	}
	devices[cpr->nr_devices] = *device;
	devices[cpr->nr_devices++].name = copy;
	return 0;
}

/**
 * cpr_find() - find a file
 * @cpr: the state
 * @name: its name
 * @id: and number
 *
 * Return: it, or NULL
 */
struct cpr_fd *cpr_find(const struct cpr *cpr, const char *name, int32_t id)
{
	for (size_t i = 0; i < cpr->nr_fds; i++)
		if (cpr->fds[i].id == id && !strcmp(cpr->fds[i].name, name))
			return &cpr->fds[i];
	return NULL;
}

/**
 * cpr_vector() - find the eventfd of a device's interrupt
 * @cpr: the state
 * @device: name of the device
 * @kind: "interrupt", which QEMU handles; "kvm_interrupt", which KVM does; ...
 * @vector: number of the vector
 *
 * Return: its file descriptor, or -1 if there is none
 */
int cpr_vector(const struct cpr *cpr, const char *device, const char *kind,
	       int32_t vector)
{
	size_t length = strlen(device);

	for (size_t i = 0; i < cpr->nr_fds; i++) {
		const struct cpr_fd *fd = &cpr->fds[i];

		if (fd->id == vector && !strncmp(fd->name, device, length) &&
		    fd->name[length] == '_' &&
		    !strcmp(fd->name + length + 1, kind))
			return fd->fd;
	}
	return -1;
}

/**
 * cpr_free() - close its files, and forget it
 * @cpr: the state
 */
void cpr_free(struct cpr *cpr)
{
	for (size_t i = 0; i < cpr->nr_fds; i++) {
		free(cpr->fds[i].name);
		if (cpr->fds[i].fd >= 0)
			close(cpr->fds[i].fd);
	}
	for (size_t i = 0; i < cpr->nr_devices; i++)
		free(cpr->devices[i].name);
	free(cpr->fds);
	free(cpr->devices);
	*cpr = (struct cpr){};
}
