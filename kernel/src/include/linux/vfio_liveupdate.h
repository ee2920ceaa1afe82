/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VFIO devices in a Live Update: what a VFIO driver that preserves its device
 * files calls. The story is told in drivers/vfio/liveupdate.c.
 */
#ifndef _LINUX_VFIO_LIVEUPDATE_H
#define _LINUX_VFIO_LIVEUPDATE_H

#include <linux/mutex.h>
#include <linux/percpu-refcount.h>
#include <linux/types.h>
#include <linux/wait.h>

struct file;
struct luo_file_set;
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

struct vfio_pci_liveupdate_irqs;
struct vfio_pci_ser;

/**
 * struct vfio_pci_core_liveupdate - Live update state of a device of vfio-pci.
 * @incoming: It came in, and its session is not finished.
 * @with_vfs: ... with virtual functions enabled; the module is kept for as long.
 * @failed:   It came in running, and could not be opened.
 * @quiesced: It is frozen, and nobody may reach its BARs.
 * @carry:    Interrupts that are on go along. Under vfio_pci_core_device.igate, as are
 *            @intx and @irqs.
 * @intx:     INTx was enabled beside MSI before it was disabled.
 * @held:     INTx is masked because the device is frozen. Under
 *            vfio_pci_core_device.irqlock, as is @unmask.
 * @unmask:   It was to be unmasked meanwhile.
 * @irqs:     Interrupts that came in, or NULL.
 * @files:    Files of the session that it is preserved in, for comparison only.
 * @lock:     For @ser.
 * @ser:      What came in, until finish.
 */
struct vfio_pci_core_liveupdate {
	bool incoming;
	bool with_vfs;
	bool failed;
	bool quiesced;
	bool carry;
	bool intx;
	bool held;
	bool unmask;
	struct vfio_pci_liveupdate_irqs *irqs;
	const struct luo_file_set *files;
	struct mutex lock; /* for @ser */
	const struct vfio_pci_ser *ser;
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
