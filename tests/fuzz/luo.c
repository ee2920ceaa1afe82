// SPDX-License-Identifier: GPL-2.0-only
/* A chain that passes ends, and names that pass end, too. */
#include <string.h>

#include <linux/kho/check/luo.h>

#include "arena.h"

#define BLOCKS 100

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	const struct luo_flb_header_ser *header;
	const struct luo_flb_ser *list;
	const char *why;

	arena_fill(data, size);
	why = kho_block_check(ARENA_BASE, BLOCKS, arena_take);
	/* What was taken is looked at once more */
	arena_fill(data, size);
	if (why) {
		arena_refused(why);
	} else {
		const struct kho_block_header_ser *block;
		u64 phys = ARENA_BASE;
		int count = 0;

		for (; phys; phys = block->next) {
			block = arena_peek(phys, sizeof(*block));
			CHECK(block && ++count <= BLOCKS);
		}
	}

	header = arena_peek(ARENA_BASE + ARENA_STEP, PAGE_SIZE);
	why = header ? luo_flb_check(header, PAGE_SIZE) : "no list";
	if (why)
		return arena_refused(why);
	list = (const void *)(header + 1);
	for (u64 i = 0; i < header->count; i++)
		CHECK(memchr(list[i].name, 0, sizeof(list[i].name)) &&
		      list[i].count && list[i].count <= S32_MAX / 2);
	return 0;
}
