/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VFIO devices in a Live Update: what the VFIO core itself calls.
 * The story is told in liveupdate.c.
 */
#ifndef _DRIVERS_VFIO_LIVEUPDATE_H
#define _DRIVERS_VFIO_LIVEUPDATE_H

#include <linux/cleanup.h>
#include <linux/vfio.h>
#include <linux/vfio_liveupdate.h>

#ifdef CONFIG_VFIO_LIVEUPDATE

int vfio_liveupdate_init(struct vfio_device *device);
void vfio_liveupdate_destroy(struct vfio_device *device);
int vfio_liveupdate_register(struct vfio_device *device);
bool vfio_liveupdate_reserved(struct vfio_device *device);
bool vfio_liveupdate_pinned(struct vfio_device *device);
struct vfio_device *vfio_liveupdate_enter(struct vfio_device *device);
void vfio_liveupdate_exit(struct vfio_device *device);

#else

static inline int vfio_liveupdate_init(struct vfio_device *device)
{
	return 0;
}

static inline void vfio_liveupdate_destroy(struct vfio_device *device)
{
}

static inline int vfio_liveupdate_register(struct vfio_device *device)
{
	return 0;
}

static inline void vfio_liveupdate_release(struct vfio_device *device)
{
}

static inline bool vfio_liveupdate_reserved(struct vfio_device *device)
{
	return false;
}

static inline bool vfio_liveupdate_pinned(struct vfio_device *device)
{
	return false;
}

static inline struct vfio_device *
vfio_liveupdate_enter(struct vfio_device *device)
{
	return device;
}

static inline void vfio_liveupdate_exit(struct vfio_device *device)
{
}

#endif /* CONFIG_VFIO_LIVEUPDATE */

/* A user's access to the device, for the rest of the scope; NULL for a task that was killed */
DEFINE_CLASS(vfio_liveupdate_access, struct vfio_device *,
	     vfio_liveupdate_exit(_T), vfio_liveupdate_enter(device),
	     struct vfio_device *device)

#endif /* _DRIVERS_VFIO_LIVEUPDATE_H */
