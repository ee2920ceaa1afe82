// SPDX-License-Identifier: GPL-2.0-only

/*
 * What a bzImage declares to take over in a live update.
 *
 * A boot image has a structure kernel_info, which consists of a part of fixed
 * layout and chunks of any kind (Documentation/arch/x86/boot.rst). One kind,
 * "LUpd", holds the versions of all contracts that the kernel knows, strings
 * with a NUL behind each.
 *
 * Nothing that an image says about itself is trusted: each offset and size in it
 * is looked at before it is used. There is nothing else in this file and no state,
 * and it compiles for user space, too: the tool vfio-liveupdate asks the same
 * question of the same image, and a fuzzer asks it of what is none.
 */

#ifdef __KERNEL__
#include <kunit/visibility.h>
#include <linux/errno.h>
#include <linux/export.h>
#include <linux/string.h>
#else
#include <errno.h>
#include <string.h>
#endif

#include <linux/kho/abi/liveupdate_versions.h>

#include "luo_bzimage.h"

/* In the setup header: offsets into the image */
#define SETUP_SECTS		0x1f1
#define BOOT_FLAG		0x1fe
#define MAGIC			0x202
#define PROTOCOL		0x206
#define KERNEL_INFO_OFFSET	0x268
#define SETUP_HEADER_END	0x26c

/* The first version of the boot protocol that has kernel_info */
#define PROTOCOL_KERNEL_INFO	0x20f

/* In kernel_info: header, size, size_total */
#define INFO_SIZE		4
#define INFO_SIZE_TOTAL		8
#define INFO_FIXED_MIN		12

/* A chunk: header, size, content */
#define CHUNK_SIZE		4
#define CHUNK_CONTENT		8

/* What LUO has room for, without the NUL at the end */
#define VERSION_LENGTH_MAX	47

struct span {
	const unsigned char *data;
	unsigned long long size;
};

static unsigned int get16(const unsigned char *data)
{
	return data[0] | data[1] << 8;
}

static unsigned int get32(const unsigned char *data)
{
	return get16(data) | get16(data + 2) << 16;
}

/* Leave of a span what is behind the first bytes, if it has so many. */
static bool skip(struct span *span, unsigned long long bytes)
{
	if (bytes > span->size)
		return false;

	span->data += bytes;
	span->size -= bytes;

	return true;
}

/* Make of @rest, which begins with it, all of kernel_info. */
static int cut_info(struct span *rest)
{
	unsigned int total;

	if (rest->size < INFO_FIXED_MIN || memcmp(rest->data, "LToP", 4))
		return -ENOEXEC;

	total = get32(rest->data + INFO_SIZE_TOTAL);
	if (total < INFO_FIXED_MIN || total > rest->size)
		return -ENOEXEC;

	rest->size = total;

	return 0;
}

/* Make of an image its chunks; none at all if it is older than they are. */
static int find_chunks(struct span *image)
{
	const unsigned char *header = image->data;
	unsigned int sectors, fixed;

	if (image->size < SETUP_HEADER_END ||
	    get16(header + BOOT_FLAG) != 0xaa55 ||
	    memcmp(header + MAGIC, "HdrS", 4))
		return -ENOEXEC;

	if (get16(header + PROTOCOL) < PROTOCOL_KERNEL_INFO) {
		image->size = 0;
		return 0;
	}

	/* 0 stands for 4; the boot sector is not counted */
	sectors = (header[SETUP_SECTS] ?: 4) + 1;
	if (!skip(image, sectors * 512) ||
	    !skip(image, get32(header + KERNEL_INFO_OFFSET)) ||
	    cut_info(image))
		return -ENOEXEC;

	fixed = get32(image->data + INFO_SIZE);
	if (fixed < INFO_FIXED_MIN || !skip(image, fixed))
		return -ENOEXEC;

	return 0;
}

/* Make of chunks the content of the one that is wanted; nothing without it. */
static int find_chunk(struct span *chunks, const char *magic)
{
	while (chunks->size) {
		unsigned int size;

		if (chunks->size < CHUNK_CONTENT)
			return -ENOEXEC;

		size = get32(chunks->data + CHUNK_SIZE);
		if (size < CHUNK_CONTENT || size > chunks->size)
			return -ENOEXEC;

		if (!memcmp(chunks->data, magic, 4)) {
			chunks->size = size;
			skip(chunks, CHUNK_CONTENT);
			return 0;
		}
		skip(chunks, size);
	}

	return 0;
}

/* Copy strings that end in NUL as words with a space between them. */
static int copy_versions(const struct span *strings, char *words, size_t room)
{
	unsigned int i, length = 0;

	if (strings->size > room)
		return -E2BIG;

	for (i = 0; i < strings->size; i++) {
		unsigned char c = strings->data[i];

		if (!c) {
			if (!length)
				return -ENOEXEC;
			length = 0;
			words[i] = ' ';
			continue;
		}

		/* What is printed in logs has no spaces and no escapes */
		if (c <= ' ' || c > '~' || ++length > VERSION_LENGTH_MAX)
			return -ENOEXEC;
		words[i] = c;
	}
	if (length)
		return -ENOEXEC;
	if (i)
		words[i - 1] = '\0';

	return 0;
}

/**
 * luo_bzimage_read() - Find out what a kernel image declares to take over
 * @image: The image, or whatever it may be.
 * @size:  Its size in bytes.
 * @takes: Where to put the versions, separated by spaces. Empty if the image
 *         declares none, and after an error.
 * @room:  Bytes that there are at @takes, 1 at least.
 *
 * Context: Any. Touches nothing but its arguments.
 * Return: 0, -ENOEXEC when @image is no bzImage or contradicts itself, or -E2BIG
 * when it declares more than there is room for.
 */
int luo_bzimage_read(const void *image, size_t size, char *takes, size_t room)
{
	struct span span = { .data = image, .size = size };
	int ret;

	takes[0] = '\0';

	ret = find_chunks(&span) ?:
	      find_chunk(&span, "LUpd") ?:
	      copy_versions(&span, takes, room);
	if (ret)
		takes[0] = '\0';

	return ret;
}

#ifdef __KERNEL__
EXPORT_SYMBOL_IF_KUNIT(luo_bzimage_read);
#endif

/**
 * luo_versions_have() - Look for a version among others
 * @versions: Versions, separated by spaces.
 * @version:  What to look for.
 *
 * Context: Any.
 * Return: true if it is there.
 */
bool luo_versions_have(const char *versions, const char *version)
{
	size_t length = strlen(version);
	const char *at;

	for (at = versions; (at = strstr(at, version)); at += length) {
		bool begins = at == versions || at[-1] == ' ';
		bool ends = !at[length] || at[length] == ' ';

		if (begins && ends)
			return true;
	}

	return false;
}

/**
 * luo_versions_omit() - Does a file, or a shared object, stay behind?
 * @takes:      Versions that the next kernel takes, separated by spaces.
 * @compatible: What its handler is called.
 *
 * A session with a file whose handler the next kernel does not have can never be
 * finished there, and the LUO of a kernel without this work gives up all sessions
 * because of it. Nobody asks for shared objects without the files of devices.
 *
 * Context: Any.
 * Return: true if it must not be handed over.
 */
bool luo_versions_omit(const char *takes, const char *compatible)
{
	if (!strcmp(compatible, PCI_LIVEUPDATE_COMPATIBLE) ||
	    !strcmp(compatible, IOMMU_LIVEUPDATE_COMPATIBLE))
		compatible = VFIO_PCI_LIVEUPDATE_COMPATIBLE;
	else if (strcmp(compatible, VFIO_PCI_LIVEUPDATE_COMPATIBLE) &&
		 strcmp(compatible, IOMMUFD_LIVEUPDATE_COMPATIBLE))
		return false;

	return !luo_versions_have(takes, compatible);
}
