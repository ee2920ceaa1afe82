// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer's target for the parser of boot images: whatever comes in, it reads
 * no byte beyond it, and what it returns are words that were in it.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "luo_bzimage.h"

#define CHECK(what) ((what) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_words(char *words, const uint8_t *data, size_t size)
{
	char *all = strdup(words), *state, *word;
	size_t length = 0;

	CHECK(all);
	for (word = strtok_r(words, " ", &state); word;
	     word = strtok_r(NULL, " ", &state)) {
		/* With the NUL at its end */
		CHECK(memmem(data, size, word, strlen(word) + 1));
		CHECK(luo_versions_have(all, word));
		for (const char *c = word; *c; c++)
			CHECK(*c > ' ' && *c <= '~');
		length += strlen(word) + 1;
	}
	/* No word is empty */
	CHECK(length == strlen(all) + !!*all);
	CHECK(!luo_versions_have(all, "no such version"));
	free(all);
}

/* With room for so much, and nothing behind it that could be written to */
static int read_into(char **takes, size_t room, const uint8_t *data,
		     size_t size)
{
	int ret;

	*takes = malloc(room);
	CHECK(*takes);
	memset(*takes, 'x', room);
	ret = luo_bzimage_read(data, size, *takes, room);
	CHECK(memchr(*takes, '\0', room));
	CHECK(!ret || !**takes);
	return ret;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *takes, *again;
	size_t length;

	CHECK(read_into(&again, 1, data, size) || !*again);
	free(again);
	if (!read_into(&takes, 512, data, size)) {
		length = strlen(takes);
		CHECK(!read_into(&again, length + 1, data, size));
		CHECK(!strcmp(takes, again));
		free(again);
		CHECK(!length ||
		      read_into(&again, length, data, size) == -E2BIG);
		if (length)
			free(again);
		check_words(takes, data, size);
	}
	free(takes);
	return 0;
}
