// SPDX-License-Identifier: GPL-2.0-only
/*
 * Names of virtual machines: of those whose keepers run, and of those that the
 * previous kernel handed over.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lu-qemu.h"

#define LUO_MS 10000
#define SESSIONS "/sys/kernel/debug/liveupdate/sessions"

/**
 * name_good() - can a virtual machine have this name?
 * @name: the name
 *
 * Return: true if so: it is part of paths and of the name of a session
 */
bool name_good(const char *name)
{
	size_t length = strlen(name);

	if (!length || length > VM_NAME_MAX || name[0] == '.' || name[0] == '-')
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("-_.", *name))
			return false;
	return true;
}

/**
 * session_name() - name of a virtual machine's live update session
 * @buf: where to put it
 * @vm: its name
 */
void session_name(char buf[LU_SESSION_NAME_SIZE], const char *vm)
{
	snprintf(buf, LU_SESSION_NAME_SIZE, SESSION_PREFIX "%s", vm);
}

/**
 * luo_open() - open the Live Update Orchestrator
 *
 * One process at a time has it open, for a moment: wait for that.
 *
 * Return: a file descriptor or a negative errno
 */
int luo_open(void)
{
	int64_t deadline = deadline_in(LUO_MS);
	int luo;

	while ((luo = lu_open()) == -EBUSY && deadline_left(deadline))
		usleep(10000);
	return luo < 0 ? failed(luo, "/dev/liveupdate: %s", strerror(-luo)) :
			 luo;
}

/**
 * names_have() - is there a name in a list?
 * @names: array of names
 * @wanted: the name
 *
 * Return: true if so
 */
bool names_have(const json_t *names, const char *wanted)
{
	json_t *name;
	size_t i;

	json_array_foreach(names, i, name)
		if (!strcmp(json_string_value(name), wanted))
			return true;
	return false;
}

static void names_add(json_t *names, const char *name)
{
	if (!names_have(names, name))
		json_array_append_new(names, json_string(name));
}

/**
 * names_running() - which virtual machines have keepers?
  * @names: array to add their names to, but for those that it has
 *
 * Return: 0
 */
int names_running(json_t *names)
{
	struct dirent **list;
	int count = scandir(RUNTIME_DIR, &list, NULL, alphasort);

	for (int i = 0; i < count; i++) {
		char path[sizeof(RUNTIME_DIR) + VM_NAME_MAX + 16];
		int fd = -1;

		snprintf(path, sizeof(path), RUNTIME_DIR "/%.*s/control",
			 VM_NAME_MAX, list[i]->d_name);
		if (name_good(list[i]->d_name))
			fd = socket_connect(path);
		if (fd >= 0) {
			close(fd);
			names_add(names, list[i]->d_name);
		}
		free(list[i]);
	}
	if (count >= 0)
		free(list);
	return 0;
}

/**
 * names_incoming() - which virtual machines has the previous kernel handed over?
  * @names: array to add their names to, but for those that it has
 *
 * Return: 0 or a negative errno: debugfs does not tell
 */
int names_incoming(json_t *names)
{
	static const char before[] = " " SESSION_PREFIX;
	FILE *file = fopen(SESSIONS, "re");
	char *line = NULL;
	size_t size = 0;

	if (!file)
		return failed(-errno, SESSIONS ": %m");
	while (getline(&line, &size, file) > 0) {
		char *name = strstr(line, before);

		if (strncmp(line, "session incoming ", 17) || !name)
			continue;
		name += sizeof(before) - 1;
		name[strcspn(name, "\n")] = '\0';
		if (name_good(name))
			names_add(names, name);
	}
	free(line);
	fclose(file);
	return 0;
}
