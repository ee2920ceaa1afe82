/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the image of the next kernel takes over in a live update. The story is
 * told in kernel/liveupdate/luo_image.c.
 */
#ifndef _LINUX_LIVEUPDATE_IMAGE_H
#define _LINUX_LIVEUPDATE_IMAGE_H

struct kimage;

#ifdef CONFIG_LIVEUPDATE
void liveupdate_read_image(struct kimage *image, const void *kernel,
			   unsigned long size);
#else
static inline void liveupdate_read_image(struct kimage *image,
					 const void *kernel, unsigned long size)
{
}
#endif

#endif /* _LINUX_LIVEUPDATE_IMAGE_H */
