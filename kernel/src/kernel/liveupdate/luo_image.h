/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whether the next kernel takes what is preserved. The story is told in
 * luo_image.c.
 */
#ifndef _LINUX_LUO_IMAGE_H
#define _LINUX_LUO_IMAGE_H

struct list_head;

int luo_image_check(const struct list_head *sessions);

#endif /* _LINUX_LUO_IMAGE_H */
