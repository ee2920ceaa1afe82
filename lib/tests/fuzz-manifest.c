// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * libFuzzer's target for the manifest: whatever comes in, it is refused, or it is
 * exactly what would be written for what was read.
 */
#include <stdlib.h>
#include <string.h>

#include "../manifest.h"
#include "fake.h"

#define HEADER 32
#define RECORD 128
#define COUNT_AT 12
#define SIZE_AT 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
			       unsigned int seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int count = lu_manifest_count(data, size);
	struct lu_record *recs;
	void *again;

	if (count < 0)
		return 0;
	recs = calloc(count + 1, sizeof(*recs));
	again = malloc(size);
	CHECK(recs && again);
	if (!lu_manifest_parse(data, size, recs)) {
		lu_manifest_write(again, recs, count);
		CHECK(!memcmp(again, data, size));
	}
	free(recs);
	free(again);
	return 0;
}

/* Mostly of a size that a manifest can have, and with a header that says so. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
			       unsigned int seed)
{
	uint64_t count, total;

	size = LLVMFuzzerMutate(data, size, max_size);
	if (seed % 8 == 0 || size < HEADER)
		return size;
	count = (size - HEADER) / RECORD;
	total = HEADER + count * RECORD;
	for (int i = 0; i < 4; i++)
		data[COUNT_AT + i] = count >> (8 * i);
	for (int i = 0; i < 8; i++)
		data[SIZE_AT + i] = total >> (8 * i);
	return total;
}
