// SPDX-License-Identifier: GPL-2.0-only
/*
 * QEMU's monitor: commands and events, a line of JSON each (QEMU's
 * docs/interop/qmp-spec.rst).
 */
#include <errno.h>
#include <string.h>

#include "lu-qemu.h"

/* QEMU answers at once, but for a host that has other things to do. */
#define PATIENCE_MS 60000

/**
 * qmp_open() - begin to talk to QEMU
 * @qmp: where to keep it
 * @fd: a connection, which is closed by qmp_close()
 * @deadline: until when QEMU has to be ready for commands
 *
 * Return: 0 or a negative errno
 */
int qmp_open(struct qmp *qmp, int fd, int64_t deadline)
{
	int ret;

	*qmp = (struct qmp){ .lines.fd = fd };
	ret = lines_json(&qmp->lines, deadline, &qmp->greeting);
	if (ret)
		return failed(ret, "QEMU's monitor: %s", strerror(-ret));
	/* Carried out when the machine is complete, and its memory pinned */
	ret = qmp_begin(qmp, "qmp_capabilities", NULL);
	return ret ? ret : qmp_end(qmp, "qmp_capabilities", deadline, NULL);
}

/**
 * qmp_close() - end it
 * @qmp: connection, or one that was never opened and has no file
 */
void qmp_close(struct qmp *qmp)
{
	lines_end(&qmp->lines);
	json_decref(qmp->greeting);
	*qmp = (struct qmp){ .lines.fd = -1 };
}

/**
 * qmp_begin() - send a command
 * @qmp: connection
 * @command: its name
 * @arguments: JSON object, which is freed, or NULL
 *
 * Return: 0 or a negative errno
 */
int qmp_begin(struct qmp *qmp, const char *command, json_t *arguments)
{
	json_t *message = json_pack("{s:s, s:o*, s:I}", "execute", command,
				    "arguments", arguments, "id",
				    (json_int_t)++qmp->id);
	int ret = message ? send_json(qmp->lines.fd, message) : -ENOMEM;

	json_decref(message);
	return ret ? failed(ret, "QEMU's monitor: %s: %s", command,
			    strerror(-ret)) :
		     0;
}

/* What a message says to the last command; -EAGAIN if it says nothing to that. */
static int answer_of(struct qmp *qmp, const char *command, json_t *message,
		     json_t **answer)
{
	json_t *part = json_object_get(message, "return");

	/* An answer that comes after its deadline is to a command before */
	if (json_object_get(message, "event") ||
	    json_integer_value(json_object_get(message, "id")) != qmp->id)
		return -EAGAIN;
	if (part && answer)
		*answer = json_incref(part);
	if (part)
		return 0;
	part = json_object_get(json_object_get(message, "error"), "desc");
	return failed(-EREMOTEIO, "QEMU refuses %s: %s", command,
		      json_string_value(part) ?: "it does not say why");
}

/**
 * qmp_end() - wait for the answer to a command
 * @qmp: connection
 * @command: its name
 * @deadline: until when
 * @answer: where to put what it returned, which the caller frees; or NULL
 *
 * Return: 0 or a negative errno: -EREMOTEIO: QEMU refused it
 */
int qmp_end(struct qmp *qmp, const char *command, int64_t deadline,
	    json_t **answer)
{
	json_t *message;
	int ret;

	do {
		ret = lines_json(&qmp->lines, deadline, &message);
		if (ret)
			return failed(ret, "QEMU's monitor: %s: %s", command,
				      strerror(-ret));
		ret = answer_of(qmp, command, message, answer);
		json_decref(message);
	} while (ret == -EAGAIN);
	return ret;
}

/**
 * qmp_call() - let QEMU carry out a command
 * @qmp: connection
 * @command: its name
 * @arguments: JSON object, which is freed, or NULL
 * @answer: where to put what it returned, which the caller frees; or NULL
 *
 * Return: 0 or a negative errno: -EREMOTEIO: QEMU refused it
 */
int qmp_call(struct qmp *qmp, const char *command, json_t *arguments,
	     json_t **answer)
{
	int ret = qmp_begin(qmp, command, arguments);

	return ret ? ret :
		     qmp_end(qmp, command, deadline_in(PATIENCE_MS), answer);
}

/**
 * qmp_take() - take what QEMU says by itself, which nobody waits for
 * @qmp: connection
 *
 * To be called when there is something to read. When QEMU has hung up the file is
 * closed.
 */
void qmp_take(struct qmp *qmp)
{
	json_t *message;
	int ret;

	while (!(ret = lines_json(&qmp->lines, deadline_in(0), &message)))
		json_decref(message);
	if (ret != -ETIMEDOUT)
		lines_end(&qmp->lines);
}

/**
 * qmp_version() - QEMU's version
 * @qmp: connection
 *
 * Return: 100 times the major plus the minor version, as in 1001 for 10.1
 */
int qmp_version(const struct qmp *qmp)
{
	int major = 0, minor = 0;

	json_unpack(qmp->greeting, "{s:{s:{s:{s:i, s:i}}}}", "QMP", "version",
		    "qemu", "major", &major, "minor", &minor);
	return 100 * major + minor;
}
