/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VFIO devices in a Live Update: what a VFIO driver that preserves its device
 * files calls. The story is told in drivers/vfio/liveupdate.c.
 */
#ifndef _LINUX_VFIO_LIVEUPDATE_H
#define _LINUX_VFIO_LIVEUPDATE_H

#include <linux/percpu-refcount.h>
#include <linux/types.h>
#include <linux/wait.h>

struct file;
struct vfio_device;

/**
 * struct vfio_device_liveupdate - Live update state of one &struct vfio_device.
 * @users:    A reference for each ioctl, read and write of user space that is
 *            under way. Killed while the device is blocked.
 * @wait:     Woken when the last of them ends, and when @blocked does.
 * @blocked:  User space has no access to the device.
 * @reserved: Only the file that a live update makes can open the device.
 * @pinned:   The page tables that the device is attached to are preserved with
 *            it and stay its own. Set under the lock of the device set.
 */
struct vfio_device_liveupdate {
	struct percpu_ref users;
	wait_queue_head_t wait;
	bool blocked;
	bool reserved;
	bool pinned;
};

#if IS_ENABLED(CONFIG_VFIO_LIVEUPDATE)

struct vfio_device *vfio_liveupdate_device(struct file *file);
bool vfio_liveupdate_file_bound(struct file *file);
void vfio_liveupdate_block(struct vfio_device *device);
int vfio_liveupdate_drain(struct vfio_device *device, const char **why);
void vfio_liveupdate_unblock(struct vfio_device *device);
bool vfio_liveupdate_blocked(struct vfio_device *device);
int vfio_liveupdate_pin(struct vfio_device *device, const char **why);
void vfio_liveupdate_unpin(struct vfio_device *device);
void vfio_liveupdate_reserve(struct vfio_device *device);
void vfio_liveupdate_release(struct vfio_device *device);
struct file *vfio_liveupdate_open(struct vfio_device *device);

#else

static inline bool vfio_liveupdate_blocked(struct vfio_device *device)
{
	return false;
}

#endif /* CONFIG_VFIO_LIVEUPDATE */
#endif /* _LINUX_VFIO_LIVEUPDATE_H */
