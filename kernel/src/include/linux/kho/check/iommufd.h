/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_CHECK_IOMMUFD_H
#define _LINUX_KHO_CHECK_IOMMUFD_H

#include <linux/kho/abi/iommufd.h>
#include <linux/kho/check/check.h>

/**
 * iommufd_ser_check() - Check what iommufd says about a file
 * @ser:  That.
 * @size: Bytes of memory that it is in, at least those of its head.
 *
 * Return: NULL, or what is wrong.
 */
static inline const char *iommufd_ser_check(const struct iommufd_ser *ser,
					    size_t size)
{
	if (!ser->count || ser->count > IOMMUFD_SER_MAX_HWPTS ||
	    ser->count > (size - sizeof(*ser)) / sizeof(ser->hwpts[0]))
		return "it has an impossible number of page tables";

	if (ser->reserved)
		return "it is of a kind that this kernel does not know";

	for (u32 i = 0; i < ser->count; i++) {
		if (ser->hwpts[i].reserved)
			return "a page table is of a kind that this kernel does not know";
		for (u32 j = 0; j < i; j++) {
			if (ser->hwpts[j].token == ser->hwpts[i].token)
				return "two page tables have one token";
			if (ser->hwpts[j].domain == ser->hwpts[i].domain)
				return "a page table is there twice";
		}
	}

	return NULL;
}

#endif /* _LINUX_KHO_CHECK_IOMMUFD_H */
