// SPDX-License-Identifier: GPL-2.0-only
/*
 * Command lines of kernels: words, with values that may be in double quotes.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tool.h"

/* Length of the first word; white space in double quotes does not end it. */
static size_t word_length(const char *text)
{
	bool quoted = false;
	size_t n;

	for (n = 0; text[n] && (quoted || !isspace((unsigned char)text[n]));
	     n++) {
		if (text[n] == '"')
			quoted = !quoted;
	}
	return n;
}

static const char *next_word(const char *text, size_t *length)
{
	text += *length;
	while (isspace((unsigned char)*text))
		text++;
	*length = word_length(text);
	return *length ? text : NULL;
}

static bool begins_with(const char *word, size_t length, const char *start)
{
	size_t n = strlen(start);

	return n <= length && !strncmp(word, start, n);
}

/* Leaves out the double quotes around a word or value, as the kernel does. */
static void strip_quotes(const char **text, size_t *length)
{
	if (!*length || **text != '"')
		return;
	++*text;
	--*length;
	if (*length && (*text)[*length - 1] == '"')
		--*length;
}

/* The next parameter that is called so; @value and @left are its value. */
static const char *next_param(const char *word, size_t *length,
			      const char *name, const char **value,
			      size_t *left)
{
	size_t n = strlen(name);

	while ((word = next_word(word, length))) {
		*value = word;
		*left = *length;
		strip_quotes(value, left);
		if (*left == 2 && begins_with(*value, *left, "--"))
			return NULL;
		if (!begins_with(*value, *left, name) ||
		    (*left > n && (*value)[n] != '='))
			continue;
		*value += n + (*left > n);
		*left -= n + (*left > n);
		strip_quotes(value, left);
		return word;
	}
	return NULL;
}

/**
 * cmdline_get() - find a parameter
 * @cmdline: command line
 * @name: name of the parameter
 * @value: where to put its value, which is the last one if there are many;
 *         empty if it has none
 * @size: room in @value; a longer value is cut
 *
 * What comes after "--" is for init.
 *
 * Return: true if it is there
 */
bool cmdline_get(const char *cmdline, const char *name, char *value,
		 size_t size)
{
	const char *word = cmdline, *text;
	size_t length = 0, left;
	bool found = false;

	value[0] = '\0';
	while ((word = next_param(word, &length, name, &text, &left))) {
		found = true;
		snprintf(value, size, "%.*s", (int)left, text);
	}
	return found;
}

/**
 * cmdline_list() - get the values of a parameter each of which counts
 * @cmdline: command line, shorter than MAX_CMDLINE
 * @name: name of the parameter
 * @values: where to put them all, with commas between
 */
void cmdline_list(const char *cmdline, const char *name,
		  char values[MAX_CMDLINE])
{
	const char *word = cmdline, *text;
	size_t length = 0, left, n = 0;

	values[0] = '\0';
	while ((word = next_param(word, &length, name, &text, &left)))
		n += snprintf(values + n, MAX_CMDLINE - n, "%s%.*s",
			      n ? "," : "", (int)left, text);
}

/**
 * cmdline_flag() - find out whether something is turned on
 * @cmdline: command line
 * @name: name of the parameter
 * @otherwise: what it is without the parameter
 *
 * Return: whether it is on, as the kernel's kstrtobool() understands it
 */
bool cmdline_flag(const char *cmdline, const char *name, bool otherwise)
{
	char value[8];

	if (!cmdline_get(cmdline, name, value, sizeof(value)))
		return otherwise;
	if (strchr("yYtT1", value[0]) && value[0])
		return true;
	if (strchr("nNfF0", value[0]) && value[0])
		return false;
	if (!strncasecmp(value, "on", 2))
		return true;
	if (!strncasecmp(value, "of", 2))
		return false;
	return otherwise;
}

/* What boot loaders add for the kernel that they start, and only for that */
static bool is_loaders(const char *word, size_t length)
{
	return begins_with(word, length, "BOOT_IMAGE=") ||
	       begins_with(word, length, "initrd=");
}

/**
 * cmdline_reuse() - get the command line of this kernel for another one
 * @buf: where to put it
 * @size: room in @buf
 *
 * Return: 0 or a negative errno
 */
int cmdline_reuse(char *buf, size_t size)
{
	char own[MAX_CMDLINE];
	int ret = file_read("proc/cmdline", own, sizeof(own));
	const char *word = own;
	size_t length = 0, n = 0;

	buf[0] = '\0';
	while ((word = next_word(word, &length))) {
		if (is_loaders(word, length))
			continue;
		if (n + length + 2 > size)
			return -E2BIG;
		n += sprintf(buf + n, "%s%.*s", n ? " " : "", (int)length,
			     word);
	}
	return ret;
}
