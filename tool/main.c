// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio-liveupdate - PCI devices that live through the replacement of the kernel
 *
 * Tells which devices can, which do, and replaces the kernel.  See the man page.
 */
#include <getopt.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

static const struct command *const commands[] = {
	&list_command, &check_command,	 &status_command,
	&hold_command, &release_command, &kexec_command,
};

#define NR_COMMANDS (sizeof(commands) / sizeof(*commands))

/**
 * complain() - say on stderr what is wrong
 * @format: as for printf(), without the newline
 */
void complain(const char *format, ...)
{
	va_list args;

	fputs(NAME ": ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

/**
 * wrong_usage() - say on stderr what is wrong with the arguments
 * @command: command that was called
 * @format: as for printf(), without the newline
 *
 * Return: EXIT_USAGE
 */
int wrong_usage(const struct command *command, const char *format, ...)
{
	va_list args;

	fprintf(stderr, NAME " %s: ", command->name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\nSee '" NAME " %s --help'.\n", command->name);
	return EXIT_USAGE;
}

static void version(void)
{
	puts(NAME " " VERSION);
}

/* A result that could not be written is none. */
static int close_stdout(int code)
{
	if (fflush(stdout) || ferror(stdout)) {
		perror(NAME ": stdout");
		return EXIT_FAILED;
	}
	return code;
}

/**
 * next_option() - get a command's next option
 * @argc: as for main()
 * @argv: as for main()
 * @options: the command's options, --help and --version among them
 * @command: the command
 *
 * Ends the program when the option is --help, --version, or none that there is.
 *
 * Return: the option, or -1 when there are no more
 */
int next_option(int argc, char **argv, const struct option *options,
		const struct command *command)
{
	char shorts[64] = ":";
	size_t n = strlen(shorts);
	int c;

	for (const struct option *o = options; o->name; o++) {
		shorts[n++] = o->val;
		if (o->has_arg)
			shorts[n++] = ':';
	}

	opterr = 0;
	c = getopt_long(argc, argv, shorts, options, NULL);
	switch (c) {
	case 'h':
		fputs(command->help, stdout);
		exit(close_stdout(EXIT_OK));
	case 'V':
		version();
		exit(close_stdout(EXIT_OK));
	case ':':
		exit(wrong_usage(command, "%s needs an argument",
				 argv[optind - 1]));
	case '?':
		/* A word with several letters is not over at the wrong one */
		if (optopt && !strchr(shorts, optopt))
			exit(wrong_usage(command, "there is no option -%c",
					 optopt));
		exit(wrong_usage(command, "there is no option %s",
				 argv[optind - 1]));
	case OPTION_SYSROOT:
		if (file_set_root(optarg))
			exit(EXIT_FAILED);
	}
	return c;
}

static void help(FILE *to)
{
	fputs("Usage: " NAME " COMMAND [OPTION...]\n\n"
	      "PCI devices that live through the replacement of the kernel.\n\n"
	      "Commands:\n",
	      to);
	for (size_t i = 0; i < NR_COMMANDS; i++)
		fprintf(to, "  %-8s %s\n", commands[i]->name,
			commands[i]->summary);
	fputs("\n"
	      "'" NAME " COMMAND --help' tells more about a command.\n"
	      "  -h, --help     print this\n"
	      "  -V, --version  print the version\n",
	      to);
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < NR_COMMANDS; i++) {
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	}
	return NULL;
}

int main(int argc, char **argv)
{
	const struct command *command;

	setlocale(LC_ALL, "");
	if (argc < 2) {
		help(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help")) {
		help(stdout);
		return close_stdout(EXIT_OK);
	}
	if (!strcmp(argv[1], "-V") || !strcmp(argv[1], "--version")) {
		version();
		return close_stdout(EXIT_OK);
	}
	command = find_command(argv[1]);
	if (!command) {
		complain("there is no command '%s': see '" NAME " --help'",
			 argv[1]);
		return EXIT_USAGE;
	}
	return close_stdout(command->run(argc - 1, argv + 1));
}
