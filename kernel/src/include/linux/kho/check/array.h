/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_CHECK_ARRAY_H
#define _LINUX_KHO_CHECK_ARRAY_H

#include <linux/kho/abi/kexec_handover.h>
#include <linux/kho/check/check.h>

/**
 * typedef kho_entries_fn - Check some entries of an array.
 * @entries: The first of them.
 * @count:   How many there are.
 * @data:    Of the caller, with what was found before.
 *
 * Return: NULL, or what is wrong.
 */
typedef const char *(*kho_entries_fn)(const void *entries, u64 count, void *data);

/**
 * typedef kho_size_fn - How large is preserved memory?
 * @phys: Physical address at which it begins.
 *
 * Return: its size in bytes, 0 when none begins there.
 */
typedef size_t (*kho_size_fn)(phys_addr_t phys);

/**
 * struct kho_array - An array that was preserved with kho_preserve_vmalloc().
 * @vmalloc: Where it is.
 * @count:   Its entries, 1 at least.
 * @of_page: Entries in one page; none lies in two.
 * @peek:    Where it comes from: may be asked for the same memory again.
 * @check:   What is asked about the entries, in their order.
 * @data:    For @check.
 */
struct kho_array {
	struct kho_vmalloc vmalloc;
	u64 count;
	u64 of_page;
	kho_take_fn peek;
	kho_entries_fn check;
	void *data;
};

/* One run of pages; @left is how many entries are in this and those behind it. */
static inline const char *kho_array_check_run(const struct kho_array *array,
					      u64 phys, u64 *left)
{
	u32 order = array->vmalloc.order;
	const void *entries = array->peek(phys, (u64)PAGE_SIZE << order);
	u64 count = array->of_page << order;

	if (!entries)
		return "its list of pages is not in preserved memory";
	if (count > *left)
		count = *left;
	*left -= count;

	return array->check(entries, count, array->data);
}

/* The array is where a chain of chunks says that it is. */
static inline const char *kho_array_check_chunks(const struct kho_array *array)
{
	u64 runs = array->vmalloc.total_pages >> array->vmalloc.order;
	u64 phys = array->vmalloc.first.phys;
	u64 left = array->count;
	const char *why = NULL;

	while (phys && !why) {
		const struct kho_vmalloc_chunk *chunk;

		chunk = array->peek(phys, sizeof(*chunk));
		/* Linux begins another when one is full, if anything follows or not */
		if (!chunk || (!chunk->phys[0] && chunk->hdr.next.phys))
			return "its list of pages is broken";
		for (u32 i = 0; i < KHO_VMALLOC_SIZE && chunk->phys[i] && !why; i++) {
			if (!runs--)
				return "its list of pages does not end";
			why = kho_array_check_run(array, chunk->phys[i], &left);
		}
		phys = chunk->hdr.next.phys;
	}
	if (!why && runs)
		why = "its list of pages is too short";

	return why;
}

/**
 * kho_array_check() - Check an array of what is known of the pages of a file
 * @array: The array.
 *
 * It ends, also in a chain that does not.
 *
 * Return: NULL, or what is wrong.
 */
static inline const char *kho_array_check(const struct kho_array *array)
{
	u64 pages = array->count / array->of_page +
		    !!(array->count % array->of_page);
	const struct kho_vmalloc *vmalloc = &array->vmalloc;

	if (vmalloc->order > 18 ||
	    vmalloc->total_pages & ((1U << vmalloc->order) - 1) ||
	    vmalloc->total_pages < pages ||
	    vmalloc->total_pages >= pages + (1U << vmalloc->order))
		return "its list of pages has an impossible size";

	return kho_array_check_chunks(array);
}

#endif /* _LINUX_KHO_CHECK_ARRAY_H */
