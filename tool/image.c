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
#include <sys/xattr.h>
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

/* --- what kind of image it is ------------------------------------------------- */

/* In the setup header of a bzImage */
#define BZIMAGE_MAGIC 0x202
/* In a PE file: where its headers are, and in these */
#define PE_HEADER 0x3c
#define PE_SECTIONS 6
#define PE_OPTIONAL_SIZE 20
#define PE_OPTIONAL 24
#define PE32_PLUS 0x20b
#define PE32_DIRECTORIES 96
#define PE32_PLUS_DIRECTORIES 112
#define PE_DIRECTORY 8
#define PE_SECURITY 4
#define PE_SECTION 40
#define PE_SECTION_NAME 8

struct bytes {
	const unsigned char *data;
	size_t size;
};

/* A little-endian number of the file, or 0 when it is not in there */
static unsigned long number(const struct bytes *file, size_t at, size_t size)
{
	unsigned long value = 0;

	if (at > file->size || size > file->size - at)
		return 0;
	while (size--)
		value = value << 8 | file->data[at + size];
	return value;
}

static bool has_text(const struct bytes *file, size_t at, const char *text,
		     size_t size)
{
	return at <= file->size && size <= file->size - at &&
	       !memcmp(file->data + at, text, size);
}

static bool has_section(const struct bytes *file, size_t pe, const char *name)
{
	size_t at = pe + PE_OPTIONAL + number(file, pe + PE_OPTIONAL_SIZE, 2);
	size_t count = number(file, pe + PE_SECTIONS, 2);

	for (; count; count--, at += PE_SECTION) {
		if (has_text(file, at, name, PE_SECTION_NAME))
			return true;
	}
	return false;
}

static bool has_signature(const struct bytes *file, size_t pe)
{
	size_t at = pe + PE_OPTIONAL;
	bool plus = number(file, at, 2) == PE32_PLUS;
	size_t directories = plus ? PE32_PLUS_DIRECTORIES : PE32_DIRECTORIES;

	/* How many directories there are is right before them */
	if (number(file, at + directories - 4, 4) <= PE_SECURITY)
		return false;
	at += directories + PE_SECURITY * PE_DIRECTORY;
	return number(file, at, 4) && number(file, at + 4, 4);
}

/**
 * image_kind() - find out what kind of image something is
 * @path: path of the file
 * @kind: where to put it; of what is no image that nothing is true
 *
 * Whose signature it is, and whether it is good, is for the kernel to say.
 *
 * Return: 0 or a negative errno
 */
int image_kind(const char *path, struct image_kind *kind)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct bytes file = {};
	void *image;
	size_t pe;
	int ret;

	*kind = (struct image_kind){};
	if (fd < 0)
		return -errno;
	ret = map_image(fd, &image, &file.size);
	close(fd);
	if (ret)
		return ret;
	kind->has_ima = getxattr(path, "security.ima", NULL, 0) > 0;
	file.data = image;
	pe = number(&file, PE_HEADER, 4);
	if (has_text(&file, 0, "MZ", 2) && has_text(&file, pe, "PE\0", 4)) {
		kind->is_signed = has_signature(&file, pe);
		kind->uki = has_section(&file, pe, ".linux\0") &&
			    !has_text(&file, BZIMAGE_MAGIC, "HdrS", 4);
	}
	munmap(image, file.size);
	return 0;
}

/* --- versions ----------------------------------------------------------------- */

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
