// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory in memfds.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/memfd.h>

#include "guest.h"

/** memory_map() - map all of a memfd, once. Returns 0 or a negative errno. */
int memory_map(struct object *mem)
{
	struct stat st;
	void *base;

	if (mem->map.base)
		return 0;
	if (fstat(mem->fd, &st))
		return -errno;
	base = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		    mem->fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	mem->map = (struct window){ base, st.st_size };
	return 0;
}

static int cmd_memfd(const struct arg *a)
{
	a[0].o->fd = memfd_create(a[0].s, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (a[0].o->fd < 0 || ftruncate(a[0].o->fd, a[1].n))
		return -errno;
	return 0;
}

/* The page size is a power of two: memfd_create() wants to know which one. */
static int cmd_memfd_huge(const struct arg *a)
{
	unsigned int page = (unsigned int)__builtin_ctzll(a[2].n)
			    << MFD_HUGE_SHIFT;

	a[0].o->fd = memfd_create(a[0].s, MFD_CLOEXEC | MFD_ALLOW_SEALING |
						  MFD_HUGETLB | page);
	if (a[0].o->fd < 0 || ftruncate(a[0].o->fd, a[1].n))
		return -errno;
	return 0;
}

/* The same file, not opened for writing */
static int cmd_mem_read_only(const struct arg *a)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", a[1].o->fd);
	a[0].o->fd = open(path, O_RDONLY | O_CLOEXEC);
	return a[0].o->fd < 0 ? -errno : 0;
}

/* What there is to know about a memfd, but for its content */
static int cmd_mem_file(const struct arg *a)
{
	struct stat st;

	if (fstat(a[0].o->fd, &st))
		return -errno;
	result("size=%lld page=%ld allocated=%lld mode=%#x position=%lld seals=%#x",
	       (long long)st.st_size, (long)st.st_blksize,
	       (long long)st.st_blocks * 512, st.st_mode & 07777,
	       (long long)lseek(a[0].o->fd, 0, SEEK_CUR),
	       fcntl(a[0].o->fd, F_GET_SEALS));
	return 0;
}

static int cmd_mem_resize(const struct arg *a)
{
	return sys(ftruncate(a[0].o->fd, a[1].n));
}

static int cmd_mem_seek(const struct arg *a)
{
	return lseek(a[0].o->fd, a[1].n, SEEK_SET) < 0 ? -errno : 0;
}

static int cmd_mem_seal(const struct arg *a)
{
	return sys(fcntl(a[0].o->fd, F_ADD_SEALS, (int)a[1].n));
}

static int cmd_mem_allocate(const struct arg *a)
{
	return sys(fallocate(a[0].o->fd, 0, a[1].n, a[2].n));
}

static int cmd_mem_map(const struct arg *a)
{
	int ret = memory_map(a[0].o);

	result("%zu", a[0].o->map.size);
	return ret;
}

/* Map the memory and check the range; its first 8 bytes, or NULL. */
static uint64_t *mem_range(const struct arg *a, int *ret)
{
	struct window *map = &a[0].o->map;

	*ret = memory_map(a[0].o);
	if (*ret)
		return NULL;
	if (a[1].n % 8 || a[2].n % 8 || a[1].n > map->size ||
	    a[2].n > map->size - a[1].n) {
		*ret = complain(EINVAL, "not a range of 8-byte words in it");
		return NULL;
	}
	return (uint64_t *)((uint8_t *)map->base + a[1].n);
}

static int cmd_mem_fill(const struct arg *a)
{
	uint64_t *word;
	int ret;

	word = mem_range(a, &ret);
	for (uint64_t off = 0; !ret && off < a[2].n; off += 8)
		*word++ = pattern(a[3].n, 0, a[1].n + off);
	return ret;
}

static int cmd_mem_check(const struct arg *a)
{
	const uint64_t *word;
	int ret;

	word = mem_range(a, &ret);
	for (uint64_t off = 0; !ret && off < a[2].n; off += 8, word++)
		if (*word != pattern(a[3].n, 0, a[1].n + off))
			ret = complain(EILSEQ, "other content at offset %#llx",
				       (unsigned long long)(a[1].n + off));
	return ret;
}

/* Have all pages of a memfd allocated; cheaper than to fill them. */
static int cmd_mem_touch(const struct arg *a)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int ret = memory_map(a[0].o);

	for (size_t at = 0; !ret && at < a[0].o->map.size; at += page)
		*((volatile uint8_t *)a[0].o->map.base + at) = 1;
	return ret;
}

/*
 * Have the pages of two memfds allocated in turn, this many of each at a time: when one
 * of the two is closed, the memory of the other is in pieces of that size.
 */
static int cmd_mem_interleave(const struct arg *a)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), run = a[2].n * page;
	int ret = memory_map(a[0].o) ?: memory_map(a[1].o);
	struct window *maps[] = { &a[0].o->map, &a[1].o->map };

	if (ret || !run)
		return ret ?: -EINVAL;
	for (size_t at = 0; at < maps[0]->size; at += run)
		for (int i = 0; i < 2; i++)
			for (size_t off = at;
			     off < at + run && off < maps[i]->size; off += page)
				*((volatile uint8_t *)maps[i]->base + off) = 1;
	return 0;
}

/* Take pages out of the file; who has them keeps them. */
static int cmd_mem_punch(const struct arg *a)
{
	return sys(fallocate(a[0].o->fd,
			     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, a[1].n,
			     a[2].n));
}

/* Memory that could be had now, in bytes, as the kernel estimates it. */
static uint64_t memory_available(void)
{
	unsigned long long kib = 0;
	char line[128];
	FILE *file = fopen("/proc/meminfo", "re");

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	fclose(file);
	return kib << 10;
}

/* What belongs in a word: cheap, as there are very many; no two are alike. */
static uint64_t press_word(size_t i)
{
	return i * 0x9e3779b97f4a7c15 + 1;
}

/* How many words are not as they should be? */
static uint64_t press_check(const volatile uint64_t *words, size_t count)
{
	uint64_t wrong = 0;

	for (size_t i = 0; i < count; i++)
		wrong += words[i] != press_word(i);
	return wrong;
}

/*
 * Take nearly all memory, fill it, and look at it again and again: does anybody
 * else write there?
 */
static int cmd_mem_press(const struct arg *a)
{
	uint64_t free = memory_available(), wrong = 0, end;
	unsigned int rounds = 0;
	uint64_t *words;
	size_t size;

	if (free <= a[0].n)
		return complain(ENOMEM, "only %llu bytes are free",
				(unsigned long long)free);
	size = (free - a[0].n) & ~4095ULL;
	words = mmap(NULL, size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (words == MAP_FAILED)
		return -errno;
	for (size_t i = 0; i < size / 8; i++)
		words[i] = press_word(i);
	end = now_ms() + a[1].n;
	do {
		wrong += press_check(words, size / 8);
		rounds++;
	} while (now_ms() < end);
	munmap(words, size);
	result("bytes=%zu rounds=%u wrong=%llu free=%llu", size, rounds,
	       (unsigned long long)wrong, (unsigned long long)free);
	return 0;
}

const struct command mem_commands[] = {
	{ "memfd", "Nn", cmd_memfd, "NEW SIZE" },
	{ "memfd_huge", "Nnn", cmd_memfd_huge, "NEW SIZE PAGE-SIZE" },
	{ "mem_file", "o", cmd_mem_file, "MEMFD" },
	{ "mem_read_only", "No", cmd_mem_read_only, "NEW MEMFD" },
	{ "mem_resize", "on", cmd_mem_resize, "MEMFD SIZE" },
	{ "mem_seek", "on", cmd_mem_seek, "MEMFD POSITION" },
	{ "mem_seal", "on", cmd_mem_seal, "MEMFD SEALS" },
	{ "mem_allocate", "onn", cmd_mem_allocate, "MEMFD OFFSET LENGTH" },
	{ "mem_map", "o", cmd_mem_map, "MEMFD" },
	{ "mem_fill", "onnn", cmd_mem_fill, "MEMFD OFFSET LENGTH SEED" },
	{ "mem_check", "onnn", cmd_mem_check, "MEMFD OFFSET LENGTH SEED" },
	{ "mem_touch", "o", cmd_mem_touch, "MEMFD" },
	{ "mem_interleave", "oon", cmd_mem_interleave, "MEMFD MEMFD PAGES" },
	{ "mem_punch", "onn", cmd_mem_punch, "MEMFD OFFSET LENGTH" },
	{ "mem_press", "nn", cmd_mem_press, "RESERVE MILLISECONDS" },
	{}
};
