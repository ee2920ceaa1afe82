/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_CHECK_LUO_H
#define _LINUX_KHO_CHECK_LUO_H

#include <linux/kho/abi/luo.h>
#include <linux/kho/check/check.h>
#include <linux/string.h>

/**
 * kho_block_check() - Check the chain of a set of blocks
 * @phys: Physical address of the first block.
 * @max:  How many there may be.
 * @take: Where they come from: each is taken once, whatever else names it.
 *
 * Return: NULL, or what is wrong.
 */
static inline const char *kho_block_check(u64 phys, u64 max, kho_take_fn take)
{
	while (phys) {
		const struct kho_block_header_ser *block;

		block = take(phys, KHO_BLOCK_SIZE);
		if (!block)
			return "a block is not in preserved memory";
		if (!max--)
			return "a chain of blocks does not end";
		phys = block->next;
	}

	return NULL;
}

/**
 * luo_flb_check() - Check the list of file-lifecycle-bound objects
 * @header: Its head, with as many bytes as it says.
 * @size:   Bytes of memory that it is in.
 *
 * Return: NULL, or what is wrong.
 */
static inline const char *luo_flb_check(const struct luo_flb_header_ser *header,
					size_t size)
{
	const struct luo_flb_ser *list = (const void *)(header + 1);

	if (header->count > (size - sizeof(*header)) / sizeof(*list))
		return "there are too many shared objects";

	for (u64 i = 0; i < header->count; i++) {
		if (strnlen(list[i].name, sizeof(list[i].name)) ==
		    sizeof(list[i].name))
			return "a shared object's name is broken";
		/* One for each file, and one while somebody looks at it */
		if (!list[i].count || list[i].count > S32_MAX / 2)
			return "a shared object has an impossible number of files";
		for (u64 j = 0; j < i; j++) {
			if (!strcmp(list[j].name, list[i].name))
				return "a shared object is there twice";
		}
	}

	return NULL;
}

#endif /* _LINUX_KHO_CHECK_LUO_H */
