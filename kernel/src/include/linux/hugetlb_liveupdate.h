/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Preserved memfds with huge pages. The story is told in mm/hugetlb_liveupdate.c.
 */
#ifndef _LINUX_HUGETLB_LIVEUPDATE_H
#define _LINUX_HUGETLB_LIVEUPDATE_H

#include <linux/errno.h>

struct file;
struct luo_file_set;

#ifdef CONFIG_LIVEUPDATE_HUGETLB

int hugetlb_liveupdate_mark_dma(const struct luo_file_set *files,
				struct file *file);

#else

static inline int
hugetlb_liveupdate_mark_dma(const struct luo_file_set *files, struct file *file)
{
	return -EOPNOTSUPP;
}

#endif /* CONFIG_LIVEUPDATE_HUGETLB */
#endif /* _LINUX_HUGETLB_LIVEUPDATE_H */
