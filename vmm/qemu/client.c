// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the commands do that talk to keepers.
 *
 * Several machines are saved all, or none: first all are prepared, while they run,
 * then they are stopped; whoever refuses lets all others run on.
 */
#include <errno.h>
#include <libsmartcols/libsmartcols.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "lu-qemu.h"

/*
 * A day: each page of the memory is looked at, and who gives up does not know what
 * became of it. When the keeper ends that is seen at once.
 */
#define ANSWER_MS 86400000

/**
 * client_ask() - ask a keeper to do something
 * @vm: name of its virtual machine
 * @what: as keeper.c has it
 * @answer: where to put its answer, which the caller frees; NULL if there is none
 *
 * Return: one of EXIT_*
 */
int client_ask(const char *vm, const char *what, json_t **answer)
{
	char path[sizeof(RUNTIME_DIR) + VM_NAME_MAX + 16];
	struct lines lines = {};
	json_t *request;
	int ret;

	*answer = NULL;
	snprintf(path, sizeof(path), RUNTIME_DIR "/%s/control", vm);
	lines.fd = socket_connect(path);
	if (lines.fd == -EACCES)
		failed(-EACCES, "root is needed: run it with sudo");
	else if (lines.fd < 0)
		failed(lines.fd,
		       "no keeper runs for it: systemctl start lu-qemu@%s, or lu-qemu run",
		       vm);
	if (lines.fd < 0)
		return lines.fd == -EACCES ? EXIT_NEEDS_ROOT : EXIT_FAILED;
	request = json_pack("{s:s}", "do", what);
	ret = send_json(lines.fd, request);
	json_decref(request);
	if (!ret)
		ret = lines_json(&lines, deadline_in(ANSWER_MS), answer);
	lines_end(&lines);
	if (ret)
		failed(ret, "its keeper ended, or does not answer: %s",
		       strerror(-ret));
	else if (json_object_get(*answer, "error"))
		failed(-EREMOTEIO, "%s", json_text(*answer, "error"));
	else
		return EXIT_OK;
	ret = json_integer_value(json_object_get(*answer, "exit"));
	return ret ?: EXIT_FAILED;
}

/* Ask a keeper, and say how it went. */
static int ask(const char *vm, const char *what, const char *done)
{
	json_t *answer;
	int ret = client_ask(vm, what, &answer);

	say_for(vm);
	if (ret)
		say("%s", why_failed());
	else if (done)
		say("%s", done);
	say_for(NULL);
	json_decref(answer);
	return ret;
}

/* Ask keepers in turn, until one fails; @count becomes how many did it. */
static int ask_all(const json_t *names, const char *what, const char *done,
		   size_t *count)
{
	json_t *name;
	size_t i;
	int ret = EXIT_OK;

	*count = 0;
	json_array_foreach(names, i, name) {
		ret = ask(json_string_value(name), what, done);
		if (ret)
			break;
		++*count;
	}
	return ret;
}

/* Those before @end go back, but for the one at @failed, which does so by itself. */
static void undo(const json_t *names, size_t failed, size_t end)
{
	for (size_t i = 0; i < end; i++)
		if (i != failed)
			ask(json_string_value(json_array_get(names, i)),
			    "abort", "runs on");
}

/**
 * client_prepare() - preserve the memory of machines, which run on
 * @names: array of their names
 *
 * Return: one of EXIT_*; if it fails none of them is prepared
 */
int client_prepare(const json_t *names)
{
	size_t count;
	int ret = ask_all(names, "prepare", "its memory is preserved", &count);

	if (ret)
		undo(names, count, count);
	return ret;
}

/**
 * client_save() - stop machines, and preserve them
 * @names: array of their names
 *
 * Return: one of EXIT_*; if it fails all of them run
 */
int client_save(const json_t *names)
{
	size_t count;
	int ret = client_prepare(names);

	if (ret)
		return ret;
	ret = ask_all(names, "save", "saved", &count);
	if (!ret)
		return ret;
	undo(names, count, json_array_size(names));
	return ret;
}

/**
 * client_abort() - undo client_prepare()
 * @names: array of the machines' names
 *
 * Return: one of EXIT_*
 */
int client_abort(const json_t *names)
{
	size_t count;

	return ask_all(names, "abort", "runs on", &count);
}

/* --- status ----------------------------------------------------------------- */

/* What is known of a machine: by its keeper, or that it waits for one. */
static int look_at(const json_t *incoming, const char *name, json_t **status)
{
	int ret = client_ask(name, "status", status);

	if (!ret)
		return EXIT_OK;
	json_decref(*status);
	*status = NULL;
	if (ret == EXIT_FAILED && names_have(incoming, name)) {
		*status = json_pack("{s:s, s:s}", "name", name, "state",
				    "handed over");
		return EXIT_OK;
	}
	say_for(name);
	say("%s", why_failed());
	say_for(NULL);
	return ret;
}

static void show_line(struct libscols_table *table, const json_t *status)
{
	struct libscols_line *line = scols_table_new_line(table, NULL);
	json_int_t pid = json_integer_value(json_object_get(status, "pid"));
	json_t *ms = json_object_get(json_object_get(status, "times"),
				     "stopped for");
	json_t *problem =
		json_array_get(json_object_get(status, "problems"), 0);
	char text[32];

	if (!line)
		return;
	scols_line_set_data(line, 0, json_text(status, "name"));
	scols_line_set_data(line, 1, json_text(status, "state"));
	snprintf(text, sizeof(text), "%lld", (long long)pid);
	scols_line_set_data(line, 2, pid ? text : "");
	scols_line_set_data(line, 3, json_text(status, "qemu"));
	snprintf(text, sizeof(text), "%.0f ms", json_real_value(ms));
	scols_line_set_data(line, 4, ms ? text : "");
	scols_line_set_data(line, 5, json_string_value(problem) ?: "");
}

static int show_table(const json_t *list)
{
	static const char *const columns[] = { "NAME", "STATE",	  "PID",
					       "QEMU", "STOPPED", "PROBLEM" };
	struct libscols_table *table = scols_new_table();
	json_t *status;
	size_t i;
	int ret;

	if (!table)
		return EXIT_FAILED;
	for (i = 0; i < ARRAY_SIZE(columns); i++)
		scols_table_new_column(table, columns[i], 0,
				       i == 2 ? SCOLS_FL_RIGHT : 0);
	json_array_foreach(list, i, status)
		show_line(table, status);
	ret = scols_print_table(table) ? EXIT_FAILED : EXIT_OK;
	scols_unref_table(table);
	return ret;
}

static int show_json(const json_t *list)
{
	int ret = json_dumpf(list, stdout, JSON_INDENT(2));

	return putchar('\n') == EOF || ret ? EXIT_FAILED : EXIT_OK;
}

/**
 * client_status() - show machines
 * @names: array of their names; if it is empty, all that there are
 * @json: as JSON, with the times that the steps of the last update took
 *
 * Return: one of EXIT_*
 */
int client_status(const json_t *names, bool json)
{
	json_t *incoming = json_array(), *all = json_deep_copy(names);
	json_t *list = json_array(), *name, *status;
	int worst = EXIT_OK, ret;
	size_t i;

	names_incoming(incoming);
	if (!json_array_size(all)) {
		names_running(all);
		names_incoming(all);
	}
	json_array_foreach(all, i, name) {
		ret = look_at(incoming, json_string_value(name), &status);
		worst = ret > worst ? ret : worst;
		if (!ret)
			json_array_append_new(list, status);
	}
	ret = json ? show_json(list) : show_table(list);
	json_decref(incoming);
	json_decref(all);
	json_decref(list);
	return worst ?: ret;
}
