/* SPDX-License-Identifier: GPL-2.0-only */
/* Nothing is preserved in the tests of memblock. */
#ifndef _TOOLS_KHO_PRESERVED_H
#define _TOOLS_KHO_PRESERVED_H

#include <linux/types.h>

static inline bool kho_unpreserved_run(unsigned long *first,
				       unsigned long *next, unsigned long end)
{
	*next = end;

	return *first < end;
}

#endif /* _TOOLS_KHO_PRESERVED_H */
