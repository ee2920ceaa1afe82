/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a bzImage declares to take over in a live update. Kernel and user space
 * share this: see luo_bzimage.c.
 */
#ifndef _LINUX_LUO_BZIMAGE_H
#define _LINUX_LUO_BZIMAGE_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdbool.h>
#include <stddef.h>
#endif

int luo_bzimage_read(const void *image, size_t size, char *takes, size_t room);
bool luo_versions_have(const char *versions, const char *version);
bool luo_versions_omit(const char *takes, const char *compatible);

#endif /* _LINUX_LUO_BZIMAGE_H */
