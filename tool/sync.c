// SPDX-License-Identifier: GPL-2.0-only
/*
 * Write everything to the disks before anything is stopped.
 *
 * A disk that does not answer lets sync() wait in the kernel for ever, where no
 * signal ends it.  So a child calls it: we can be interrupted meanwhile, and see
 * from the disks' statistics whether there is anything to wait for.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

/* Seconds until the user is told that it takes long */
#define SOON 5
/* Seconds that a disk may take for a request: as long as the drivers for NVMe and SCSI give it */
#define PATIENCE 30
/* How often in a second to look whether sync() has ended */
#define LOOKS 50

/* Fields of /sys/block/NAME/stat, see the kernel's Documentation/block/stat.rst */
enum {
	STAT_READS = 0,
	STAT_WRITES = 4,
	STAT_IN_FLIGHT = 8,
	STAT_DISCARDS = 11,
	STAT_FLUSHES = 15,
	STAT_COUNT = 17,
};

/**
 * struct disks - disks that have requests in flight
 * @before: "NAME DONE " for each, with the number of its completed requests; at the
 *	    beginning of an interval, which they may not all fit in
 * @now: the same at its end
 * @silent: names of those that are in both, and so have answered nothing in between
 */
struct disks {
	char before[4096], now[4096], silent[128];
};

static void append(char *text, size_t size, const char *more)
{
	size_t n = strlen(text);

	if (n + strlen(more) < size)
		strcpy(text + n, more);
}

static int look_at_disk(const char *name, void *data)
{
	unsigned long long stat[STAT_COUNT] = {};
	struct disks *disks = data;
	char path[300], line[300], text[512], *end = text;

	snprintf(path, sizeof(path), "sys/block/%s/stat", name);
	if (file_read(path, text, sizeof(text)))
		return 0;
	for (size_t i = 0; i < STAT_COUNT; i++)
		stat[i] = strtoull(end, &end, 10);
	if (!stat[STAT_IN_FLIGHT])
		return 0;
	snprintf(line, sizeof(line), " %s %llu ", name,
		 stat[STAT_READS] + stat[STAT_WRITES] + stat[STAT_DISCARDS] +
			 stat[STAT_FLUSHES]);
	append(disks->now, sizeof(disks->now), line);
	if (strstr(disks->before, line)) {
		append(disks->silent, sizeof(disks->silent), " ");
		append(disks->silent, sizeof(disks->silent), name);
	}
	return 0;
}

static void look_at_disks(struct disks *disks)
{
	memcpy(disks->before, disks->now, sizeof(disks->before));
	disks->now[0] = '\0';
	disks->silent[0] = '\0';
	file_walk("sys/block", look_at_disk, disks);
}

/* Returns whether it has ended, after at most so many seconds. */
static bool has_ended(pid_t child, int seconds)
{
	static const struct timespec moment = { .tv_nsec = 1000000000 / LOOKS };

	for (int i = 0; i < seconds * LOOKS; i++) {
		if (waitpid(child, NULL, WNOHANG))
			return true;
		nanosleep(&moment, NULL);
	}
	return false;
}

/* A disk that works makes us wait however slow it is, as sync() itself does. */
static bool wait_for_disks(pid_t child)
{
	struct disks disks = {};

	if (has_ended(child, SOON))
		return true;
	complain(
		"file systems are being written, which takes long; nothing was stopped");
	look_at_disks(&disks);
	while (!has_ended(child, PATIENCE)) {
		look_at_disks(&disks);
		if (disks.silent[0]) {
			complain(
				"file systems cannot be written: in %d s there was no answer "
				"from%s",
				PATIENCE, disks.silent);
			return false;
		}
	}
	return true;
}

/**
 * sync_disks() - write all file systems to their disks
 *
 * Says so on stderr when a disk does not answer, or takes long.
 *
 * Return: true when all is written, false when a disk does not answer
 */
bool sync_disks(void)
{
	pid_t child = fork();

	if (child < 0) {
		sync();
		return true;
	}
	if (!child) {
		/* Else who reads our output to its end would wait for the disk, too */
		close_range(0, ~0U, 0);
		sync();
		_exit(0);
	}
	if (wait_for_disks(child))
		return true;
	/* It ends when the disk answers, or never. */
	kill(child, SIGKILL);
	return false;
}
