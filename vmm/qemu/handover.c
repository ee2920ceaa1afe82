// SPDX-License-Identifier: GPL-2.0-only
/*
 * QEMU hands a machine over to a successor, which is us (migration in mode
 * cpr-transfer, QEMU's docs/devel/migration/CPR.rst).
 *
 * It connects to one socket, and sends its CPR state, with files. Then it waits, with
 * the machine running or not, for that socket to be closed: it takes that for the sign
 * that the successor listens on the other socket. There it sends its device models.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lu-qemu.h"

#define PATIENCE_MS 60000

static void close_file(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/**
 * handover_init() - begin with nothing
 * @h: what is to begin
 */
void handover_init(struct handover *h)
{
	*h = (struct handover){ .cpr_socket = -1, .stream_listener = -1 };
}

/**
 * handover_end() - close what is open
 * @h: begun, or not
 */
void handover_end(struct handover *h)
{
	close_file(&h->cpr_socket);
	close_file(&h->stream_listener);
	handover_init(h);
}

static json_t *socket_address(const char *path)
{
	return json_pack("{s:s, s:s, s:s}", "transport", "socket", "type",
			 "unix", "path", path);
}

static int set_mode(struct vm *vm, const char *mode)
{
	return qmp_call(&vm->qmp, "migrate-set-parameters",
			json_pack("{s:s}", "mode", mode), NULL);
}

/* Wait until QEMU connects to give its state, or refuses to. */
static int wait_connect(struct vm *vm, int listener, int64_t deadline)
{
	struct pollfd fds[] = {
		{ .fd = listener, .events = POLLIN },
		{ .fd = vm->qmp.lines.fd, .events = POLLIN },
	};

	for (;;) {
		int ret = poll(fds, ARRAY_SIZE(fds), deadline_left(deadline));

		if (ret < 0 && errno == EINTR)
			continue;
		if (ret <= 0)
			return failed(-ETIMEDOUT, "QEMU does not connect");
		if (fds[0].revents)
			return socket_accept(listener, deadline);
		/* Its answer, before it connected; or only an event */
		ret = qmp_end(&vm->qmp, "migrate", deadline_in(0), NULL);
		if (ret != -ETIMEDOUT)
			return ret ? ret :
				     failed(-EPROTO, "QEMU does not connect");
	}
}

/* QEMU writes its CPR state while it carries out the command: read it before the answer. */
static int ask_for_state(struct handover *h, struct vm *vm, int listener,
			 json_t *channels, struct cpr *cpr)
{
	int64_t deadline = deadline_in(PATIENCE_MS);
	int ret = qmp_begin(&vm->qmp, "migrate", channels);

	if (ret)
		return ret;
	h->migrating = true;
	ret = wait_connect(vm, listener, deadline);
	/* Refused: nothing was begun that could be cancelled */
	if (ret == -EREMOTEIO)
		h->migrating = false;
	if (ret < 0)
		return ret;
	h->cpr_socket = ret;
	ret = cpr_receive(cpr, h->cpr_socket, deadline);
	return ret ? ret : qmp_end(&vm->qmp, "migrate", deadline, NULL);
}

/**
 * handover_begin() - let QEMU hand over its files
 * @h: from handover_init(), or ended
 * @vm: the machine, which runs or not; QEMU then waits
 * @cpr: where to put them; cpr_free() frees it
 *
 * Return: 0 or a negative errno; handover_cancel() follows then, too
 */
int handover_begin(struct handover *h, struct vm *vm, struct cpr *cpr)
{
	char cpr_path[100], stream_path[100];
	int listener, ret = set_mode(vm, "cpr-transfer");

	if (ret)
		return ret;
	vm_path(vm, "cpr", cpr_path);
	vm_path(vm, "stream", stream_path);
	listener = socket_listen(cpr_path);
	if (listener < 0)
		return listener;
	h->stream_listener = ret = socket_listen(stream_path);
	if (ret >= 0)
		ret = ask_for_state(
			h, vm, listener,
			json_pack("{s:[{s:s, s:o}, {s:s, s:o}]}", "channels",
				  "channel-type", "main", "addr",
				  socket_address(stream_path), "channel-type",
				  "cpr", "addr", socket_address(cpr_path)),
			cpr);
	close(listener);
	unlink(cpr_path);
	return ret;
}

/**
 * handover_cancel() - let QEMU go on as if nothing had been
 * @h: begun, or not
 * @vm: the machine
 *
 * Return: 0 or a negative errno: -ESTALE: it is too late for that
 */
int handover_cancel(struct handover *h, struct vm *vm)
{
	int64_t deadline = deadline_in(PATIENCE_MS);
	int ret = 0;

	if (h->migrating)
		ret = qmp_call(&vm->qmp, "migrate_cancel", NULL, NULL);
	while (!ret && h->migrating) {
		json_t *answer;
		const char *status;

		ret = qmp_call(&vm->qmp, "query-migrate", NULL, &answer);
		if (ret)
			break;
		status = json_text(answer, "status");
		if (!strcmp(status, "cancelled") || !strcmp(status, "failed"))
			h->migrating = false;
		else if (!strcmp(status, "completed"))
			ret = failed(-ESTALE, "QEMU has handed over already");
		else if (!deadline_left(deadline))
			ret = failed(-ETIMEDOUT, "QEMU does not cancel");
		else
			usleep(2000);
		json_decref(answer);
	}
	/* A QEMU that still waits would take the end of these sockets for a sign */
	if (ret) {
		h->cpr_socket = h->stream_listener = -1;
		return ret;
	}
	close_file(&h->cpr_socket);
	close_file(&h->stream_listener);
	return set_mode(vm, "normal");
}

static int read_stream(int state, int fd, uint64_t *size)
{
	char *buf = malloc(1 << 20);
	int64_t deadline = deadline_in(PATIENCE_MS);
	int ret = buf ? 0 : -ENOMEM;

	while (!ret) {
		ssize_t n;

		ret = wait_readable(fd, deadline);
		if (ret)
			break;
		n = read(fd, buf, 1 << 20);
		if (!n)
			break;
		ret = n < 0 ? -errno : state_append(state, size, buf, n);
	}
	free(buf);
	return ret;
}

/* Did QEMU say all? */
static int check_completed(struct vm *vm)
{
	int64_t deadline = deadline_in(PATIENCE_MS);
	const char *status;
	json_t *answer;
	int ret;

	do {
		ret = qmp_call(&vm->qmp, "query-migrate", NULL, &answer);
		if (ret)
			return ret;
		status = json_text(answer, "status");
		ret = !strcmp(status, "completed") ?
			      0 :
		      !strcmp(status, "failed") ?
			      failed(-EIO, "QEMU could not save its state: %s",
				     json_text(answer, "error-desc")) :
			      -EAGAIN;
		json_decref(answer);
		if (ret == -EAGAIN)
			usleep(1000);
	} while (ret == -EAGAIN && deadline_left(deadline));
	return ret == -EAGAIN ? failed(-ETIMEDOUT, "QEMU does not finish") :
				ret;
}

/**
 * handover_stream() - let QEMU hand over its device models, the last there is to it
 * @h: begun
 * @vm: the machine, which does not run
 * @state: what crosses, from state_new()
 * @size: where to put the size of the stream
 *
 * Return: 0 or a negative errno
 */
int handover_stream(struct handover *h, struct vm *vm, int state,
		    uint64_t *size)
{
	int fd, ret;

	/* Our end of this socket is QEMU's sign to go on */
	close_file(&h->cpr_socket);
	fd = vm_accept(vm, h->stream_listener, deadline_in(PATIENCE_MS));
	if (fd < 0)
		return fd;
	*size = 0;
	ret = read_stream(state, fd, size);
	close(fd);
	if (ret)
		return failed(ret, "QEMU's state: %s", strerror(-ret));
	ret = check_completed(vm);
	if (!ret)
		h->migrating = false;
	return ret;
}
