// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel's log.
 *
 * The kernel says there, and nowhere else, why it turned something off in its
 * boot.  Who may not read the log, or comes when that line is gone from it, is
 * told less.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "tool.h"

#define LOG "dev/kmsg"
#define FACILITY_MASK 0x3f8
#define LEVEL_WARNING 4
#define LEVEL_DEBUG 7

static FILE *log_open(void)
{
	int fd = file_open(LOG, O_RDONLY);
	FILE *log = fd < 0 ? NULL : fdopen(fd, "r");

	if (fd >= 0 && !log)
		close(fd);
	return log;
}

/* The next line; what the kernel has overwritten meanwhile is passed over. */
static ssize_t next_line(FILE *log, char **line, size_t *size)
{
	ssize_t n;

	do {
		clearerr(log);
		errno = 0;
		n = getline(line, size, log);
	} while (n < 0 && errno == EPIPE);
	return n;
}

/*
 * Of "PRIORITY,NUMBER,TIME,FLAGS;TEXT" the text, if it is the kernel's own and
 * its level not above @level.  Lines about devices that follow have no priority.
 */
static char *kernels_text(char *line, unsigned int level)
{
	char *end, *text = strchr(line, ';');
	unsigned long priority = strtoul(line, &end, 10);

	if (!text || *end != ',' || priority & FACILITY_MASK ||
	    (priority & 7) > level)
		return NULL;
	text[strcspn(text, "\n")] = '\0';
	return text + 1;
}

/* Is it @start, something, @end?  @length is of what is between. */
static bool is_between(const char *text, const char *start, const char *end,
		       size_t *length)
{
	size_t all = strlen(text), before = strlen(start), after = strlen(end);

	if (all < before + after || strncmp(text, start, before) != 0 ||
	    strcmp(text + all - after, end) != 0)
		return false;
	*length = all - before - after;
	return true;
}

/**
 * log_find() - find the last line of the kernel's log that has a form
 * @start: what it begins with
 * @end: what it ends with
 * @buf: where to put what is between
 * @size: room in @buf
 *
 * Return: true if there is one
 */
bool log_find(const char *start, const char *end, char *buf, size_t size)
{
	FILE *log = log_open();
	char *line = NULL;
	bool found = false;
	size_t room = 0;

	buf[0] = '\0';
	while (log && next_line(log, &line, &room) > 0) {
		const char *text = kernels_text(line, LEVEL_DEBUG);
		size_t length;

		if (!text || !is_between(text, start, end, &length))
			continue;
		snprintf(buf, size, "%.*s", (int)length, text + strlen(start));
		found = true;
	}
	free(line);
	if (log)
		fclose(log);
	return found;
}

/**
 * log_follow() - open the log for what the kernel is going to say
 *
 * Return: the log, for log_repeat(), or NULL
 */
FILE *log_follow(void)
{
	FILE *log = log_open();

	if (log)
		lseek(fileno(log), 0, SEEK_END);
	return log;
}

/**
 * log_repeat() - repeat on stderr what the kernel warned of, and close the log
 * @log: what log_follow() returned
 */
void log_repeat(FILE *log)
{
	size_t room = 0;
	char *line = NULL;

	while (log && next_line(log, &line, &room) > 0) {
		const char *text = kernels_text(line, LEVEL_WARNING);

		if (text)
			complain("the kernel says: %s", text);
	}
	free(line);
	if (log)
		fclose(log);
}
