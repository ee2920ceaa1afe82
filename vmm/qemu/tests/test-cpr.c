// SPDX-License-Identifier: GPL-2.0-only
/*
 * QEMU's CPR state: what QEMU sends is read, damaged in all ways refused, and written
 * in its other form.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../lu-qemu.h"

#define CHECK(condition)                                                     \
	do {                                                                 \
		if (!(condition)) {                                          \
			fprintf(stderr, "%s:%d: %s: not so: %s\n", __FILE__, \
				__LINE__, __func__, #condition);             \
			abort();                                             \
		}                                                            \
	} while (0)

/* As QEMU 11.1 sends it, with a blank for each of two files. */
static const uint8_t sent[] = "\x51\x43\x50\x52\0\0\0\1"
			      "\1\0\0\0\5ram0\0\0\0\0\0 "
			      "\1\0\0\0\x15"
			      "0000:01:00.0_kvm_int\0"
			      "\0\0\0\7 "
			      "\0"
			      "\5\x15"
			      "CprState/vfio devices\0\0\0\1"
			      "\1\0\0\0\xd"
			      "0000:01:00.0\0"
			      "\0\0\0\2\0\0\0\3\0\0\0\4"
			      "\0";
#define SENT (sizeof(sent) - 1)

static void files_new(int fds[2])
{
	for (int i = 0; i < 2; i++) {
		fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
		CHECK(fds[i] >= 0);
	}
}

static void check_content(const struct cpr *cpr)
{
	CHECK(cpr->nr_fds == 2 && cpr->nr_devices == 1);
	CHECK(cpr_find(cpr, "ram0", 0) == &cpr->fds[0]);
	CHECK(!cpr_find(cpr, "ram0", 1) && !cpr_find(cpr, "ram", 0));
	CHECK(cpr_vector(cpr, "0000:01:00.0", "kvm_int", 7) == cpr->fds[1].fd);
	CHECK(cpr_vector(cpr, "0000:01:00.0", "int", 7) == -1);
	CHECK(cpr_vector(cpr, "0000:01:00.0", "kvm_int", 0) == -1);
	CHECK(!strcmp(cpr->devices[0].name, "0000:01:00.0"));
	CHECK(cpr->devices[0].dev_id == 2 && cpr->devices[0].ioas_id == 3 &&
	      cpr->devices[0].hwpt_id == 4);
}

static void test_parse(void)
{
	struct cpr cpr;
	int fds[2];

	files_new(fds);
	CHECK(!cpr_parse(&cpr, sent, SENT, fds, 2));
	CHECK(fds[0] == -1 && fds[1] == -1);
	check_content(&cpr);
	cpr_free(&cpr);
}

/* Cut anywhere, longer, with too few or too many files: refused, and nothing leaks. */
static void test_refuse(void)
{
	uint8_t copy[SENT + 1];
	struct cpr cpr;
	int fds[3];

	for (size_t size = 0; size <= SENT + 1; size++) {
		/* QEMU 10.0 has no second part, which is a whole */
		bool whole = size == SENT || size == 55;

		memcpy(copy, sent, SENT);
		copy[SENT] = 0;
		files_new(fds);
		CHECK(!cpr_parse(&cpr, copy, size, fds, 2) == whole);
		if (whole)
			cpr_free(&cpr);
		for (int i = 0; i < 2; i++)
			if (fds[i] >= 0)
				close(fds[i]);
	}
	files_new(fds);
	fds[2] = -1;
	CHECK(cpr_parse(&cpr, sent, SENT, fds, 1) == -EBADMSG);
	close(fds[1]);
	files_new(fds);
	CHECK(cpr_parse(&cpr, sent, SENT, fds, 3) == -EBADMSG);
	CHECK(open("/dev/null", O_RDONLY) == 3);
	close(3);
}

/* Any byte can be another one: whatever comes of it is a whole, or refused. */
static void test_damage(void)
{
	for (size_t at = 0; at < SENT; at++) {
		for (int bit = 0; bit < 8; bit++) {
			uint8_t copy[SENT];
			struct cpr cpr;
			int fds[2];

			memcpy(copy, sent, SENT);
			copy[at] ^= 1 << bit;
			files_new(fds);
			if (!cpr_parse(&cpr, copy, SENT, fds, 2)) {
				CHECK(cpr.nr_fds == 2 && cpr.nr_devices == 1);
				cpr_free(&cpr);
			}
			for (int i = 0; i < 2; i++)
				if (fds[i] >= 0)
					close(fds[i]);
		}
	}
}

static void send_file(int socket, const void *data, size_t size, int fd)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .head = { CMSG_LEN(sizeof(int)), SOL_SOCKET,
				SCM_RIGHTS } };
	struct iovec iov = { (void *)data, size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control.space);
	}
	CHECK(sendmsg(socket, &msg, 0) == (ssize_t)size);
}

/* As it comes: each file in a message of its own. */
static void test_receive(void)
{
	const uint8_t *blank = memchr(sent, ' ', SENT), *at = sent;
	int sockets[2], fds[2];
	struct cpr cpr;

	files_new(fds);
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	for (int i = 0; i < 2; i++) {
		send_file(sockets[0], at, blank - at, -1);
		send_file(sockets[0], blank, 1, fds[i]);
		close(fds[i]);
		at = blank + 1;
		blank = memchr(at, ' ', sent + SENT - at);
	}
	send_file(sockets[0], at, sent + SENT - at, -1);
	CHECK(cpr_receive(&cpr, sockets[1], deadline_in(50)) == -ETIMEDOUT);
	send_file(sockets[0], sent, 1, -1);
	close(sockets[0]);
	close(sockets[1]);

	files_new(fds);
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	blank = memchr(sent, ' ', SENT);
	send_file(sockets[0], sent, blank + 1 - sent, fds[0]);
	at = blank + 1;
	blank = memchr(at, ' ', sent + SENT - at);
	send_file(sockets[0], at, blank + 1 - at, fds[1]);
	send_file(sockets[0], blank + 1, sent + SENT - blank - 1, -1);
	shutdown(sockets[0], SHUT_WR);
	CHECK(!cpr_receive(&cpr, sockets[1], deadline_in(5000)));
	check_content(&cpr);
	CHECK(fcntl(cpr.fds[0].fd, F_GETFD) == FD_CLOEXEC);
	cpr_free(&cpr);
	for (int i = 0; i < 2; i++) {
		close(fds[i]);
		close(sockets[i]);
	}
}

/* Written it is the same, but that numbers are in the place of blanks. */
static void test_write(void)
{
	const uint8_t *from = sent;
	uint8_t want[SENT + 6], got[SENT + 7], *to = want;
	struct cpr cpr;
	int fds[2], fd;

	files_new(fds);
	for (int i = 0; i < 2; i++) {
		const uint8_t *blank = memchr(from, ' ', sent + SENT - from);
		uint32_t number = htobe32(fds[i]);

		to = mempcpy(to, from, blank - from);
		to = mempcpy(to, &number, sizeof(number));
		from = blank + 1;
	}
	to = mempcpy(to, from, sent + SENT - from);
	CHECK(to == want + sizeof(want));
	CHECK(!cpr_parse(&cpr, sent, SENT, fds, 2));
	fd = cpr_write(&cpr);
	CHECK(fd >= 0);
	CHECK(pread(fd, got, sizeof(got), 0) == sizeof(want));
	CHECK(!memcmp(got, want, sizeof(want)));
	close(fd);
	cpr_free(&cpr);
}

/* What crosses comes back, and nothing else does. */
static void test_state(void)
{
	json_t *json = json_pack("{s:i}", "number", 7), *back;
	uint64_t size = 0;
	char text[8] = "";
	int state = state_new(), stream;

	CHECK(state >= 0);
	CHECK(state_read(state, &back, &stream) == -EBADMSG);
	CHECK(!state_append(state, &size, "abc", 3));
	CHECK(!state_append(state, &size, "def", 4));
	CHECK(state_append(state, &size, "", STREAM_MAX) == -EFBIG);
	CHECK(size == 7);
	CHECK(!state_close(state, size, json));
	CHECK(!state_read(state, &back, &stream));
	CHECK(json_equal(json, back));
	CHECK(pread(stream, text, sizeof(text), 0) == 7);
	CHECK(!strcmp(text, "abcdef"));
	close(stream);
	json_decref(back);
	CHECK(pwrite(state, "{", 1, 4097) == 1);
	CHECK(state_read(state, &back, &stream) == -EBADMSG);
	CHECK(pwrite(state, "\2", 1, 8) == 1);
	CHECK(state_read(state, &back, &stream) == -EPROTO);
	json_decref(json);
	close(state);
}

static void test_names(void)
{
	static const char *const bad[] = {
		"",
		".",
		"-x",
		"a/b",
		"a b",
		"\xc3\xa4",
		"12345678901234567890123456789012345678901"
	};

	CHECK(name_good("vm-1_a.b"));
	CHECK(name_good("1234567890123456789012345678901234567890"));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK(!name_good(bad[i]));
}

int main(void)
{
	test_parse();
	test_refuse();
	test_damage();
	test_receive();
	test_write();
	test_state();
	test_names();
	return 0;
}
