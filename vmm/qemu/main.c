// SPDX-License-Identifier: GPL-2.0-only
/*
 * lu-qemu: virtual machines of stock QEMU live through the replacement of the host's
 * kernel. This file reads the command line.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lu-qemu.h"

static const char usage[] =
	"Usage: lu-qemu run [--background] [--either] [--force] NAME -- QEMU ARGUMENT...\n"
	"       lu-qemu prepare NAME...|--all\n"
	"       lu-qemu save NAME...|--all\n"
	"       lu-qemu abort NAME...|--all\n"
	"       lu-qemu resume [--background] NAME | --all\n"
	"       lu-qemu status [--json] [NAME...]\n"
	"\n"
	"Takes virtual machines of QEMU 10.2 or later, with their VFIO devices, through\n"
	"the replacement of the host's kernel.\n"
	"\n"
	"  run        start a virtual machine that can be taken along, and stay beside it\n"
	"  prepare    preserve its memory, while it runs on\n"
	"  save       stop it and preserve it: the host can jump to the next kernel\n"
	"  abort      undo prepare or save, in the same kernel\n"
	"  resume     let it go on: in the next kernel, or in this one if it did not jump\n"
	"  status     show virtual machines, and what stands against taking them along\n"
	"\n"
	"  -a, --all         all that there are\n"
	"  -b, --background  return when the virtual machine runs\n"
	"  -f, --force       run: start it also if it could not be taken along\n"
	"  -e, --either      run: resume it if the previous kernel handed it over\n"
	"  -J, --json        status: print JSON\n"
	"  -h, --help        print this\n"
	"  -V, --version     print the version\n"
	"\n"
	"See lu-qemu(8).\n";

/**
 * struct words - the command line
 * @options: for a keeper
 * @all: all virtual machines that there are
 * @json: print JSON
 * @names: array of names
 */
struct words {
	struct options options;
	bool all;
	bool json;
	json_t *names;
};

static int wrong(const char *what)
{
	say("%s\nTry lu-qemu --help.", what);
	return EXIT_USAGE;
}

/* --- commands --------------------------------------------------------------- */

static int run(struct words *words)
{
	if (json_array_size(words->names) != 1 || !*words->options.argv)
		return wrong("run needs NAME -- QEMU ARGUMENT...");
	words->options.name =
		json_string_value(json_array_get(words->names, 0));
	return keeper(&words->options);
}

/* The names that were given, or all that there are. */
static int choose(struct words *words)
{
	if (!words->all == !json_array_size(words->names))
		return wrong("which? Give names, or --all");
	if (geteuid()) {
		say("root is needed: run it with sudo");
		return EXIT_NEEDS_ROOT;
	}
	if (words->all)
		names_running(words->names);
	if (!json_array_size(words->names))
		say("there is no virtual machine");
	return EXIT_OK;
}

static int prepare(struct words *words)
{
	int ret = choose(words);

	return ret ? ret : client_prepare(words->names);
}

static int save(struct words *words)
{
	int ret = choose(words);

	return ret ? ret : client_save(words->names);
}

static int abort_prepare(struct words *words)
{
	int ret = choose(words);

	return ret ? ret : client_abort(words->names);
}

/* Go on with a machine: by its keeper, or become that. */
static int resume_one(struct words *words, const char *name)
{
	json_t *answer;
	int ret;

	ret = client_ask(name, "resume", &answer);
	if (answer) {
		say_for(name);
		say("%s", ret ? why_failed() : "runs");
		json_decref(answer);
		return ret;
	}
	if (ret == EXIT_NEEDS_ROOT)
		return ret;
	words->options.name = name;
	words->options.task = TASK_RESUME;
	return keeper(&words->options);
}

/* In a process of its own, which becomes a keeper or ends. */
static int resume_in_background(struct words *words, const char *name)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		exit(resume_one(words, name));
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return EXIT_FAILED;
	return WEXITSTATUS(status);
}

static int resume_all(struct words *words)
{
	int worst = EXIT_OK;
	json_t *name;
	size_t i;

	names_running(words->names);
	if (names_incoming(words->names))
		say("%s: cannot tell which machines the previous kernel handed over",
		    why_failed());
	words->options.background = true;
	json_array_foreach(words->names, i, name) {
		int ret = resume_in_background(words, json_string_value(name));

		worst = ret > worst ? ret : worst;
	}
	return worst;
}

static int resume(struct words *words)
{
	if (words->all && !json_array_size(words->names))
		return resume_all(words);
	if (words->all || json_array_size(words->names) != 1)
		return wrong("which? Give a name, or --all");
	return resume_one(words,
			  json_string_value(json_array_get(words->names, 0)));
}

static int status(struct words *words)
{
	return client_status(words->names, words->json);
}

/* --- the command line ------------------------------------------------------- */

static int set_option(struct words *words, int option)
{
	switch (option) {
	case 'a':
		words->all = true;
		return -1;
	case 'b':
		words->options.background = true;
		return -1;
	case 'f':
		words->options.force = true;
		return -1;
	case 'e':
		words->options.task = TASK_EITHER;
		return -1;
	case 'J':
		words->json = true;
		return -1;
	case 'h':
		fputs(usage, stdout);
		return EXIT_OK;
	case 'V':
		puts(NAME " " VERSION);
		return EXIT_OK;
	default:
		return wrong("the option is not known");
	}
}

/* Options and names up to "--"; -1 to go on. */
static int read_words(struct words *words, int argc, char **argv)
{
	static const struct option options[] = {
		{ "all", no_argument, NULL, 'a' },
		{ "background", no_argument, NULL, 'b' },
		{ "force", no_argument, NULL, 'f' },
		{ "either", no_argument, NULL, 'e' },
		{ "json", no_argument, NULL, 'J' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{},
	};
	int option, end = 0;

	while (end < argc && strcmp(argv[end], "--"))
		end++;
	words->options.argv = argv + end + (end < argc);
	opterr = 0;
	while ((option = getopt_long(end, argv, "abfeJhV", options, NULL)) !=
	       -1) {
		int ret = set_option(words, option);

		if (ret >= 0)
			return ret;
	}
	for (int i = optind; i < end; i++) {
		if (!name_good(argv[i]))
			return wrong(
				"a name has up to 40 letters, digits, dots, dashes and underscores");
		json_array_append_new(words->names, json_string(argv[i]));
	}
	return -1;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(struct words *words);
	} commands[] = {
		{ "run", run },	      { "prepare", prepare },
		{ "save", save },     { "abort", abort_prepare },
		{ "resume", resume }, { "status", status },
	};
	struct words words = { .names = json_array() };
	int ret;

	if (argc < 2)
		return wrong("no command");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(argv[1], commands[i].name))
			continue;
		ret = read_words(&words, argc - 1, argv + 1);
		return ret >= 0 ? ret : commands[i].run(&words);
	}
	ret = read_words(&words, argc, argv);
	return ret >= 0 ? ret : wrong("the command is not known");
}
