/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_CHECK_HUGETLB_H
#define _LINUX_KHO_CHECK_HUGETLB_H

#include <linux/kho/abi/hugetlb.h>
#include <linux/kho/check/array.h>

/* Far more than any architecture has: a size in bytes does not overflow. */
#define HUGETLB_MEMFD_SER_MAX_ORDER	30

/**
 * struct hugetlb_memfd_walk - What the pages of a memfd have to be.
 * @page:    Their size in bytes.
 * @size_of: Tells the size of preserved memory.
 */
struct hugetlb_memfd_walk {
	u64 page;
	kho_size_fn size_of;
};

static inline const char *hugetlb_memfd_ser_check_pages(const void *entries,
							u64 count, void *data)
{
	const struct hugetlb_memfd_walk *walk = data;
	const u64 *pages = entries;

	for (u64 i = 0; i < count; i++) {
		if (walk->size_of(pages[i]) != walk->page)
			return "a page is not in preserved memory of its size";
	}

	return NULL;
}

/**
 * hugetlb_memfd_ser_check() - Check what is said about a memfd, with its list
 * @ser:     Its head.
 * @peek:    Where its list comes from: may be asked for the same memory again.
 * @size_of: Tells the size of preserved memory.
 * @max:     How many pages there can be: the check ends, also in a chain that does
 *           not.
 *
 * Return: NULL, or what is wrong.
 */
static inline const char *
hugetlb_memfd_ser_check(const struct hugetlb_memfd_ser *ser, kho_take_fn peek,
			kho_size_fn size_of, u64 max)
{
	struct hugetlb_memfd_walk walk = { .size_of = size_of };
	struct kho_array array = {
		.vmalloc = ser->pages,
		.count = ser->nr,
		.of_page = PAGE_SIZE / sizeof(u64),
		.peek = peek,
		.check = hugetlb_memfd_ser_check_pages,
		.data = &walk,
	};

	if (ser->flags & ~HUGETLB_MEMFD_SER_FLAGS || ser->reserved)
		return "it is of a kind that this kernel does not know";

	if (!ser->order || ser->order > HUGETLB_MEMFD_SER_MAX_ORDER)
		return "its pages have an impossible size";

	walk.page = (u64)PAGE_SIZE << ser->order;
	if (ser->size > S64_MAX || ser->pos > S64_MAX || ser->nr > max ||
	    ser->nr != ser->size / walk.page + !!(ser->size % walk.page))
		return "it has an impossible size";

	return ser->nr ? kho_array_check(&array) : NULL;
}

#endif /* _LINUX_KHO_CHECK_HUGETLB_H */
