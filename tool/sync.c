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
/* Seconds that a disk may take for a request: NVMe's and SCSI's drivers reset it after 30 */
#define PATIENCE 60
/* For how many times as long no disk may have anything to write */
#define IDLE 2
/* How often in a second to look whether sync() has ended */
#define LOOKS 50

/* Fields of /sys/block/NAME/stat, see the kernel's Documentation/block/stat.rst */
enum {
	STAT_WRITES = 4,
	STAT_DISCARDS = 11,
	STAT_FLUSHES = 15,
	STAT_COUNT = 17,
};

/* The second field of /sys/block/NAME/inflight, see Documentation/ABI/stable/sysfs-block */
enum { INFLIGHT_READS, INFLIGHT_WRITES, INFLIGHT_COUNT };

/**
 * struct disks - disks that have writes in flight
 * @before: "NAME DONE " for each, with the number of its completed writes; at the
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

static bool read_numbers(const char *disk, const char *file,
			 unsigned long long *numbers, size_t count)
{
	char path[300], text[512], *end = text;

	snprintf(path, sizeof(path), "sys/block/%s/%s", disk, file);
	if (file_read(path, text, sizeof(text)))
		return false;
	for (size_t i = 0; i < count; i++)
		numbers[i] = strtoull(end, &end, 10);
	return true;
}

static int look_at_disk(const char *name, void *data)
{
	unsigned long long stat[STAT_COUNT], inflight[INFLIGHT_COUNT];
	struct disks *disks = data;
	char line[300];

	if (!read_numbers(name, "inflight", inflight, INFLIGHT_COUNT) ||
	    !inflight[INFLIGHT_WRITES] ||
	    !read_numbers(name, "stat", stat, STAT_COUNT))
		return 0;
	snprintf(line, sizeof(line), " %s %llu ", name,
		 stat[STAT_WRITES] + stat[STAT_DISCARDS] + stat[STAT_FLUSHES]);
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

/* Whether the child has ended, after at most so many seconds; and well, or it was killed. */
static bool has_ended(pid_t child, int seconds, bool *well)
{
	static const struct timespec moment = { .tv_nsec = 1000000000 / LOOKS };
	int status = 0;

	for (int i = 0; i < seconds * LOOKS; i++) {
		if (waitpid(child, &status, WNOHANG)) {
			*well = WIFEXITED(status);
			return true;
		}
		nanosleep(&moment, NULL);
	}
	return false;
}

/* A disk that works makes us wait however slow it is, as sync() itself does. */
static bool wait_for_disks(pid_t child, bool force)
{
	struct disks disks = {};
	bool well = true;
	int idle = 0;

	if (has_ended(child, SOON, &well))
		return well;
	complain(
		"file systems are being written, which takes long; nothing was done so far, "
		"and Ctrl-C ends it");
	look_at_disks(&disks);
	while (!has_ended(child, PATIENCE, &well)) {
		look_at_disks(&disks);
		if (disks.silent[0]) {
			complain(
				"file systems cannot be written: in %d s there was no answer "
				"from%s",
				PATIENCE, disks.silent);
			return false;
		}
		idle = disks.now[0] ? 0 : idle + 1;
		if (idle == IDLE) {
			complain(
				"file systems cannot be written: for %d s no disk had anything "
				"to write; it may be one over the network, or one that is "
				"suspended",
				IDLE * PATIENCE);
			return false;
		}
		if (force)
			return false;
	}
	return well;
}

/**
 * sync_disks() - write all file systems to their disks
 * @force: wait for a minute at most, since what cannot be written is lost then
 *
 * Says so on stderr when a disk does not answer, or takes long.
 *
 * Return: true when all is written, false when it is not
 */
bool sync_disks(bool force)
{
	pid_t child = fork();

	if (child < 0) {
		complain(
			"file systems are not written: no process can be made for it");
		return false;
	}
	if (!child) {
		/* It may hang: no file, and no file system, is in use because of it */
		close_range(0, ~0U, 0);
		if (!chdir("/"))
			sync();
		_exit(0);
	}
	if (wait_for_disks(child, force))
		return true;
	/* It ends when the disk answers, or never. */
	kill(child, SIGKILL);
	return false;
}
