// SPDX-License-Identifier: GPL-2.0-only
/*
 * What crosses beside memory and devices: a memfd with a head, a description in JSON
 * and the stream in which QEMU's device models are.
 *
 * It is preserved before all that is known, while the machine runs: so it has its
 * full size from the beginning, and is written to when it is preserved already.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "lu-qemu.h"

#define JSON_AT 4096U
#define STREAM_AT (1U << 20)
#define STATE_SIZE (STREAM_AT + STREAM_MAX)
/* With some room for times, which are known last */
#define JSON_MAX (STREAM_AT - 2 * JSON_AT)

static const char magic[8] = "LU-QEMU";

/**
 * struct head - begin of the memfd
 * @magic: "LU-QEMU"
 * @version: STATE_VERSION
 * @json: size of the description, which begins at JSON_AT
 * @stream: size of the stream, which begins at STREAM_AT
 */
struct head {
	char magic[8];
	uint32_t version;
	uint32_t json;
	uint64_t stream;
};

/**
 * state_new() - make an empty one
 *
 * Return: a memfd, which the caller closes, or a negative errno
 */
int state_new(void)
{
	int fd = memfd_create("lu-qemu-state", MFD_CLOEXEC), ret;

	if (fd < 0)
		return failed(-errno, "a memfd: %m");
	ret = posix_fallocate(fd, 0, STATE_SIZE);
	if (!ret)
		return fd;
	close(fd);
	return failed(-ret, "a memfd of %u MiB: %s", STATE_SIZE >> 20,
		      strerror(ret));
}

static int write_at(int fd, const void *data, size_t size, off_t at)
{
	ssize_t n = pwrite(fd, data, size, at);

	return n == (ssize_t)size ?
		       0 :
		       failed(n < 0 ? -errno : -EIO, "what is to cross: %m");
}

/**
 * state_append() - write the next part of the stream
 * @state: from state_new()
 * @size: size of the stream, which grows
 * @data: the part
 * @length: its size
 *
 * Return: 0 or a negative errno: -EFBIG: the stream is too long
 */
int state_append(int state, uint64_t *size, const void *data, size_t length)
{
	int ret;

	if (length > STREAM_MAX - *size)
		return failed(-EFBIG, "QEMU's state takes more than %u MiB",
			      STREAM_MAX >> 20);
	ret = write_at(state, data, length, STREAM_AT + *size);
	*size += ret ? 0 : length;
	return ret;
}

/**
 * state_check() - is there room for a description?
 * @json: the description
 *
 * Return: 0 or a negative errno
 */
int state_check(const json_t *json)
{
	size_t size = json ? json_dumpb(json, NULL, 0, JSON_COMPACT) : 0;

	if (!size)
		return failed(-EBADMSG, "what is to cross cannot be described");
	return size > JSON_MAX ?
		       failed(-EFBIG, "what is to cross has no room") :
		       0;
}

/**
 * state_close() - write the description, and then the head
 * @state: from state_new()
 * @stream: size of the stream
 * @json: the description
 *
 * Return: 0 or a negative errno
 */
int state_close(int state, uint64_t stream, const json_t *json)
{
	struct head head = { .version = STATE_VERSION, .stream = stream };
	char *text = json_dumps(json, JSON_COMPACT);
	int ret = text ? 0 : failed(-ENOMEM, "what is to cross: no memory");

	memcpy(head.magic, magic, sizeof(magic));
	head.json = text ? strlen(text) : 0;
	if (head.json > STREAM_AT - JSON_AT)
		ret = failed(-EFBIG, "what is to cross has no room");
	if (!ret)
		ret = write_at(state, text, head.json, JSON_AT);
	if (!ret)
		ret = write_at(state, &head, sizeof(head), 0);
	free(text);
	return ret;
}

/* A memfd with a part of another file. */
static int copy_part(int from, off_t at, size_t size)
{
	int fd = memfd_create("stream", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	while (size) {
		ssize_t n = sendfile(fd, from, &at, size);

		if (n <= 0) {
			n = n ? -errno : -EIO;
			close(fd);
			return n;
		}
		size -= n;
	}
	return fd;
}

/**
 * state_stream() - get the stream for itself
 * @state: a memfd of state_new()
 * @size: size of the stream
 *
 * Return: a memfd, which the caller closes, or a negative errno
 */
int state_stream(int state, uint64_t size)
{
	int fd = copy_part(state, STREAM_AT, size);

	return fd < 0 ? failed(fd, "a memfd: %s", strerror(-fd)) : fd;
}

static int read_json(int state, size_t size, json_t **json)
{
	char *text = malloc(size);
	ssize_t n = text ? pread(state, text, size, JSON_AT) : -1;

	*json = n == (ssize_t)size ? json_loadb(text, size, 0, NULL) : NULL;
	free(text);
	return *json ? 0 : -EBADMSG;
}

/**
 * state_read() - read one
 * @state: a memfd
 * @json: where to put the description, which the caller frees
 * @stream: where to put a memfd with the stream, which the caller closes
 *
 * Return: 0 or a negative errno: -EBADMSG: it is none, or damaged; -EPROTO: of another
 * version
 */
int state_read(int state, json_t **json, int *stream)
{
	struct head head;
	int ret;

	if (pread(state, &head, sizeof(head), 0) != sizeof(head) ||
	    memcmp(head.magic, magic, sizeof(magic)) ||
	    head.json > STREAM_AT - JSON_AT || head.stream > STREAM_MAX)
		return failed(
			-EBADMSG,
			"it was prepared and not saved when the host jumped, or what crossed is damaged");
	if (head.version != STATE_VERSION)
		return failed(
			-EPROTO,
			"it was saved by another version of lu-qemu: install that one, and start it again");
	ret = read_json(state, head.json, json);
	if (ret)
		return failed(ret, "what crossed is damaged");
	*stream = state_stream(state, head.stream);
	if (*stream >= 0)
		return 0;
	json_decref(*json);
	*json = NULL;
	return *stream;
}
