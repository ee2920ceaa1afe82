// SPDX-License-Identifier: GPL-2.0-only
/*
 * Live update sessions, as debugfs shows them.
 *
 * The kernel's Documentation/ABI/testing/debugfs-liveupdate describes the file:
 * a line "session DIRECTION STATE NAME", and below it a line
 * "file TOKEN STATE COMPATIBLE [DESCRIPTION]" for each file in the session, and
 * below that a line "needs VERSION..." if the next kernel has to have these.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"

#define MAX_ERRNO 4095

#define SESSIONS "sys/kernel/debug/liveupdate/sessions"

/* The name of an error: of "-ENODEV", or "-19" where the kernel has no names */
static void error_name(const char *number, char *buf, size_t size)
{
	const char *digits = number + (number[0] == '-');
	long error = strtol(digits, NULL, 10);
	const char *name = NULL;

	if (digits > number && error > 0 && error <= MAX_ERRNO)
		name = strerrorname_np(error);
	snprintf(buf, size, "%s", name ?: digits);
}

static int parse_session(struct sessions *sessions, const char *line)
{
	struct session *all, *session;
	char direction[12];
	int name = 0;

	all = reallocarray(sessions->all, sessions->count + 1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	sessions->all = all;
	session = &all[sessions->count++];
	*session = (struct session){};
	/* The name may begin with a space: one ends the state, the rest is its own */
	if (sscanf(line, "session %11s %11s%n", direction, session->state,
		   &name) != 2 ||
	    line[name] != ' ')
		return -EPROTO;
	session->incoming = !strcmp(direction, "incoming");
	snprintf(session->name, sizeof(session->name), "%s", line + name + 1);
	return 0;
}

static int parse_file(struct sessions *sessions, const char *line)
{
	struct session_file *files, *file;
	struct session *session;
	char state[24];

	if (!sessions->count)
		return -EPROTO;
	session = &sessions->all[sessions->count - 1];
	files = reallocarray(session->files, session->nr_files + 1,
			     sizeof(*files));
	if (!files)
		return -ENOMEM;
	session->files = files;
	file = &files[session->nr_files++];
	*file = (struct session_file){};
	if (sscanf(line, "file %23[0-9] %23s %47s %63[^\n]", file->token, state,
		   file->kind, file->what) < 3)
		return -EPROTO;
	error_name(state, file->state, sizeof(file->state));
	return 0;
}

static int parse_needs(struct sessions *sessions, char *line)
{
	char *state, *word;
	int ret = 0;

	strtok_r(line, " ", &state);
	while (!ret && (word = strtok_r(NULL, " ", &state)))
		ret = versions_add(sessions->needs, sizeof(sessions->needs),
				   word);
	return ret;
}

static int parse(struct sessions *sessions, FILE *from)
{
	char *line = NULL;
	size_t size = 0;
	int ret = 0;

	while (!ret && getline(&line, &size, from) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (!strncmp(line, "session", 7))
			ret = parse_session(sessions, line);
		else if (!strncmp(line, "file", 4))
			ret = parse_file(sessions, line);
		else if (!strncmp(line, "needs ", 6))
			ret = parse_needs(sessions, line);
	}
	if (!ret && ferror(from))
		ret = -errno;
	free(line);
	return ret;
}

/**
 * sessions_read() - read all live update sessions
 * @sessions: where to put them, with none in it so far; to be freed by
 *            sessions_free() in any case
 *
 * Return: 0 or a negative errno: -EACCES without root, -ENOENT when this kernel
 * does not tell
 */
int sessions_read(struct sessions *sessions)
{
	int fd = file_open(SESSIONS, O_RDONLY);
	FILE *from;
	int ret;

	if (fd < 0)
		return fd;
	from = fdopen(fd, "r");
	if (!from) {
		close(fd);
		return -ENOMEM;
	}
	ret = parse(sessions, from);
	fclose(from);
	sessions->known = !ret;
	return ret;
}

/**
 * sessions_free() - free sessions
 * @sessions: what sessions_read() filled in
 */
void sessions_free(struct sessions *sessions)
{
	for (size_t i = 0; i < sessions->count; i++)
		free(sessions->all[i].files);
	free(sessions->all);
}

/**
 * sessions_find() - find the file of a device
 * @sessions: sessions
 * @bdf: the device's address
 * @incoming: look in sessions that came from the previous kernel, or in others
 * @session: where to put the session that has it
 *
 * A file that was not retrieved says which device it is only when vfio-pci is
 * there already.
 *
 * Return: the file or NULL
 */
const struct session_file *sessions_find(const struct sessions *sessions,
					 const char *bdf, bool incoming,
					 const struct session **session)
{
	for (size_t i = 0; i < sessions->count; i++) {
		*session = &sessions->all[i];
		if ((*session)->incoming != incoming)
			continue;
		for (size_t k = 0; k < (*session)->nr_files; k++) {
			if (!strcmp((*session)->files[k].what, bdf))
				return &(*session)->files[k];
		}
	}
	return NULL;
}
