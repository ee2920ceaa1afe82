// SPDX-License-Identifier: GPL-2.0-only
/*
 * The folios are allocations of their own, so that AddressSanitizer sees what is
 * read beyond one. What is in a folio, but was not asked for, is poisoned too.
 */
#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <string.h>

#include "arena.h"

#define RECORD 4
#define MAX_ORDER 2

static struct folio {
	u8 *memory;
	size_t size;
	size_t asked;
	bool taken;
} folios[ARENA_FOLIOS];

static void reset(struct folio *folio)
{
	size_t room = PAGE_SIZE << MAX_ORDER;

	if (!folio->memory)
		folio->memory = calloc(1, room);
	CHECK(folio->memory);
	ASAN_UNPOISON_MEMORY_REGION(folio->memory, room);
	memset(folio->memory, 0, folio->size);
	folio->size = 0;
	folio->asked = 0;
	folio->taken = false;
}

void arena_fill(const u8 *data, size_t size)
{
	for (int i = 0; i < ARENA_FOLIOS; i++)
		reset(&folios[i]);

	while (size > RECORD) {
		struct folio *folio = &folios[data[0] % ARENA_FOLIOS];
		size_t offset = data[1] | data[2] << 8, length = data[3];
		unsigned int order = data[0] >> 4 & 3;

		if (!folio->size)
			folio->size = PAGE_SIZE
				      << (order > MAX_ORDER ? 0 : order);
		data += RECORD;
		size -= RECORD;
		if (length > size)
			length = size;
		offset %= folio->size;
		memcpy(folio->memory + offset, data,
		       length > folio->size - offset ? folio->size - offset :
						       length);
		data += length;
		size -= length;
	}
	for (int i = 0; i < ARENA_FOLIOS; i++)
		ASAN_POISON_MEMORY_REGION(folios[i].memory,
					  PAGE_SIZE << MAX_ORDER);
}

static struct folio *find(u64 phys)
{
	u64 index = (phys - ARENA_BASE) / ARENA_STEP;

	if (phys < ARENA_BASE || index >= ARENA_FOLIOS || phys % ARENA_STEP ||
	    folios[index].taken)
		return NULL;
	return &folios[index];
}

size_t arena_size(phys_addr_t phys)
{
	struct folio *folio = find(phys);

	return folio ? folio->size : 0;
}

void *arena_peek(u64 phys, u64 size)
{
	struct folio *folio = find(phys);

	if (!size || !folio || size > folio->size)
		return NULL;
	if (size > folio->asked)
		folio->asked = size;
	ASAN_UNPOISON_MEMORY_REGION(folio->memory, folio->asked);
	return folio->memory;
}

void *arena_take(u64 phys, u64 size)
{
	void *memory = arena_peek(phys, size);

	if (memory)
		find(phys)->taken = true;
	return memory;
}

int arena_refused(const char *why)
{
	if (getenv("SEEDS")) {
		fprintf(stderr, "refused: %s\n", why);
		abort();
	}
	return 0;
}
