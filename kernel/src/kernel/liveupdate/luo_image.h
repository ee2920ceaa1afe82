/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whether the next kernel takes what is preserved. The story is told in
 * luo_image.c.
 */
#ifndef _LINUX_LUO_IMAGE_H
#define _LINUX_LUO_IMAGE_H

#include <linux/liveupdate.h>

struct kho_block_set;
struct list_head;

/* The versions that the next kernel has to have for a file, up to NULL, or NULL */
static inline const char *const *
luo_image_needs(struct liveupdate_file_op_args *args)
{
	const struct liveupdate_file_ops *ops = args->handler->ops;

	return ops->needs ? ops->needs(args) : NULL;
}

int luo_image_check(const struct list_head *sessions);
bool luo_image_omits(const char *compatible);
void luo_image_omit(struct kho_block_set *sessions);

#endif /* _LINUX_LUO_IMAGE_H */
