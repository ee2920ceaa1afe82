// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs that take part in a jump: what owns devices in a way of its own, such as
 * virtual machines, is told when to get ready, when to stop, and when to go on after all.
 *
 * Each program in the folder is run with one word, in the order of their names:
 *
 *   prepare  a jump is about to come; everything still works. May refuse.
 *   save     stop and preserve what is yours, now. May refuse. Not where systemd does
 *            the jump: services are stopped then, one after the other.
 *   undo     the jump is off: go on
 *
 * Names of their sessions begin with that of the program, and a dash.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tool.h"

#define FOLDER "/usr/lib/" NAME "/kexec.d"

/**
 * run_program() - run a program, and wait for it
 * @argv: its words, and NULL
 *
 * Return: 0, or a negative errno: it failed, which is said
 */
int run_program(char *const *argv)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid) {
		execvp(argv[0], argv);
		complain("%s: %s", argv[0], strerror(errno));
		_exit(127);
	}
	if (pid < 0)
		return -errno;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	complain("%s %s: %s %d", argv[0], argv[1],
		 WIFEXITED(status) ? "exit code" : "signal",
		 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	return -ECANCELED;
}

/* As run-parts(8) has it: no hidden files, no backups. */
static int is_program(const struct dirent *entry)
{
	return !strpbrk(entry->d_name, ".~#");
}

static bool owns(const struct dirent *program, const struct sessions *sessions)
{
	size_t length = strlen(program->d_name);

	for (size_t i = 0; i < sessions->count; i++) {
		const struct session *session = &sessions->all[i];

		if (!session->incoming && session->nr_files &&
		    !strncmp(session->name, program->d_name, length) &&
		    session->name[length] == '-')
			return true;
	}
	return false;
}

/**
 * helpers_own() - have programs that take part prepared anything?
 * @sessions: all there are; those of a program begin with its name and a dash
 *
 * Return: true if so
 */
bool helpers_own(const struct sessions *sessions)
{
	struct dirent **list;
	int count = scandir(FOLDER, &list, is_program, NULL);
	bool found = false;

	for (int i = 0; i < count; i++) {
		found = found || owns(list[i], sessions);
		free(list[i]);
	}
	if (count >= 0)
		free(list);
	return found;
}

/**
 * helpers_run() - tell all programs that take part
 * @what: "prepare", "save" or "undo"
 *
 * Return: 0, or a negative errno: one of them refuses; the rest was not told then,
 * unless it is to undo.
 */
int helpers_run(const char *what)
{
	struct dirent **list;
	int count = scandir(FOLDER, &list, is_program, alphasort), ret = 0;

	for (int i = 0; i < count; i++) {
		char path[sizeof(FOLDER) + sizeof(list[i]->d_name)];
		char *argv[] = { path, (char *)what, NULL };

		snprintf(path, sizeof(path), FOLDER "/%s", list[i]->d_name);
		if (!access(path, X_OK) && (!ret || !strcmp(what, "undo")) &&
		    run_program(argv))
			ret = -ECANCELED;
		free(list[i]);
	}
	if (count >= 0)
		free(list);
	return ret;
}
