// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the image of a kernel declares to take over in a live update.
 *
 * The kernel asks the same when it loads the image, with the same parser, which
 * trusts nothing in the image.
 */
#include <errno.h>
#include <fcntl.h>
#include <luo_bzimage.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tool.h"

static int map_image(int fd, void **image, size_t *size)
{
	struct stat stat;

	if (fstat(fd, &stat))
		return -errno;
	if (!S_ISREG(stat.st_mode) || !stat.st_size)
		return -ENOEXEC;
	*size = stat.st_size;
	*image = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
	return *image == MAP_FAILED ? -errno : 0;
}

/**
 * image_takes() - find out what a kernel takes over
 * @path: path of its image
 * @takes: where to put the versions, separated by spaces; empty when there are
 *         none, and after an error
 * @size: room in @takes
 *
 * Return: 0 or a negative errno: -ENOEXEC when it is no bzImage, or one that
 * contradicts itself
 */
int image_takes(const char *path, char *takes, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	void *image;
	size_t length = 0;
	int ret;

	takes[0] = '\0';
	if (fd < 0)
		return -errno;
	ret = map_image(fd, &image, &length);
	close(fd);
	if (ret)
		return ret;
	ret = luo_bzimage_read(image, length, takes, size);
	munmap(image, length);
	return ret;
}

/**
 * versions_add() - add a version to others, if it is not among them
 * @versions: versions, separated by spaces
 * @size: room in @versions
 * @version: what to add
 *
 * Return: 0, or -E2BIG when there is no room for it
 */
int versions_add(char *versions, size_t size, const char *version)
{
	size_t n = strlen(versions);

	if (luo_versions_have(versions, version))
		return 0;
	if (n + 1 + strlen(version) >= size)
		return -E2BIG;
	snprintf(versions + n, size - n, "%s%s", n ? " " : "", version);
	return 0;
}

/**
 * versions_missing() - find out which versions are needed and not there
 * @needs: versions that are needed, separated by spaces
 * @takes: those that are there
 * @missing: where to put the others; with as much room as @needs has
 *
 * Return: true if any is missing
 */
bool versions_missing(const char *needs, const char *takes,
		      char missing[MAX_VERSIONS])
{
	char words[MAX_VERSIONS], *state, *word;

	missing[0] = '\0';
	snprintf(words, sizeof(words), "%s", needs);
	for (word = strtok_r(words, " ", &state); word;
	     word = strtok_r(NULL, " ", &state)) {
		if (!luo_versions_have(takes, word))
			versions_add(missing, MAX_VERSIONS, word);
	}
	return *missing;
}
