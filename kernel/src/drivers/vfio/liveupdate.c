// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: VFIO device files in a Live Update
 *
 * What a live update needs of the VFIO core, for any bus::
 *
 *   preserve()
 *     vfio_liveupdate_file_bound()    opened from the cdev, bound to an iommufd?
 *     vfio_liveupdate_pin()           running mode: no other page table
 *   reboot(2)
 *     vfio_liveupdate_block()         later calls of users wait
 *     vfio_liveupdate_drain()         calls in progress end, with a bound
 *     vfio_liveupdate_unblock()       there is no jump: calls go on
 *   incoming kernel
 *     vfio_liveupdate_reserve()       before the device is registered: nobody can
 *                                     open it
 *     vfio_liveupdate_open()          retrieve(): the one file that can
 *     vfio_liveupdate_release()       finish(): anybody can
 *
 * Blocked: from block() to the jump other CPUs still run user space, which could
 * enable an interrupt or start the device's DMA again after the driver quiesced it.
 * So ioctls, reads and writes wait until the device is unblocked. The driver has to
 * refuse page faults of BAR mappings, and resets by way of another device.
 *
 * Pinned: VFIO_DEVICE_ATTACH_IOMMUFD_PT and VFIO_DEVICE_DETACH_IOMMUFD_PT of a device
 * that is preserved with its page table return -EBUSY.
 *
 * Reserved: opening the character device or the group returns -EBUSY.
 *
 * Restrictions:
 *
 * - A file that was opened through a VFIO group cannot be preserved: the group, its
 *   container and their mappings would have to cross with it.
 *
 * Locking: the lock of a device set is shared by the users of all devices in it.
 * They can hold it for as long as they like: VFIO_DEVICE_BIND_IOMMUFD copies from
 * user space under it, and a page fault may never end (userfaultfd);
 * VFIO_DEVICE_ATTACH_IOMMUFD_PT waits for callers that map memory. A live update
 * takes it with a bound.
 */

#include <linux/anon_inodes.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/percpu-refcount.h>
#include <linux/wait.h>

#include "liveupdate.h"
#include "vfio.h"

/* For what users control, whose calls otherwise take milliseconds */
#define VFIO_LIVEUPDATE_PATIENCE	(2 * HZ)

/* When drain gives up, for all devices together: set by the last block */
static unsigned long vfio_liveupdate_deadline;

/* The last call of a blocked device's users has ended. */
static void vfio_liveupdate_drained(struct percpu_ref *users)
{
	wake_up_all(&container_of(users, struct vfio_device_liveupdate,
				  users)->wait);
}

int vfio_liveupdate_init(struct vfio_device *device)
{
	init_waitqueue_head(&device->liveupdate.wait);

	return percpu_ref_init(&device->liveupdate.users,
			       vfio_liveupdate_drained,
			       PERCPU_REF_ALLOW_REINIT, GFP_KERNEL);
}

void vfio_liveupdate_destroy(struct vfio_device *device)
{
	percpu_ref_exit(&device->liveupdate.users);
}

/**
 * vfio_liveupdate_device() - The device of a file that could be preserved
 * @file: Any file.
 *
 * Context: Any context.
 * Return: the device, or NULL when @file is not a file opened from a VFIO
 * character device.
 */
struct vfio_device *vfio_liveupdate_device(struct file *file)
{
	struct vfio_device_file *df = file->private_data;

	if (file->f_op != &vfio_device_fops || df->group)
		return NULL;

	return df->device;
}
EXPORT_SYMBOL_GPL(vfio_liveupdate_device);

/**
 * vfio_liveupdate_file_bound() - Is the device file bound to an iommufd?
 * @file: File for which vfio_liveupdate_device() returned a device.
 *
 * Once bound, a file stays so until it is closed.
 *
 * Context: Any context.
 * Return: true if it is.
 */
bool vfio_liveupdate_file_bound(struct file *file)
{
	struct vfio_device_file *df = file->private_data;

	/* Paired with smp_store_release() in vfio_df_ioctl_bind_iommufd() */
	return smp_load_acquire(&df->access_granted);
}
EXPORT_SYMBOL_GPL(vfio_liveupdate_file_bound);

/**
 * vfio_liveupdate_block() - Take the device away from user space
 * @device: Device with an open, bound file, which is not blocked.
 *
 * From now on ioctls, reads and writes wait for vfio_liveupdate_unblock().
 * vfio_liveupdate_drain() waits for those under way.
 *
 * Context: Process context, may sleep; from reboot(2), for one device after the
 * other.
 */
void vfio_liveupdate_block(struct vfio_device *device)
{
	vfio_liveupdate_deadline = jiffies + VFIO_LIVEUPDATE_PATIENCE;
	WRITE_ONCE(device->liveupdate.blocked, true);
	percpu_ref_kill(&device->liveupdate.users);
}
EXPORT_SYMBOL_GPL(vfio_liveupdate_block);

/* Take the device set's lock, with a bound. See DOC for who may hold it. */
static int vfio_liveupdate_lock_set(struct vfio_device *device,
				    unsigned long end)
{
	while (!mutex_trylock(&device->dev_set->lock)) {
		if (time_after(jiffies, end))
			return -EBUSY;
		fsleep(USEC_PER_MSEC);
	}

	return 0;
}

/**
 * vfio_liveupdate_drain() - Wait until nobody uses a blocked device
 * @device: Device that is blocked.
 * @why:    Where to put what is still under way.
 *
 * Waits for calls of the device's own user, and for those of users of its device
 * set that may reset it by way of another device: they see that it is blocked, if
 * they begin after this.
 *
 * A call that hangs (user space decides how long a page fault of its buffer
 * takes) must not hang reboot(2).
 *
 * Context: Process context, may sleep. Takes the device set's lock.
 * Return: 0, or -EBUSY when something is still under way two seconds after the
 * last device was blocked: all devices have that time together.
 */
int vfio_liveupdate_drain(struct vfio_device *device, const char **why)
{
	int ret;

	*why = "A call of its user does not end.";
	if (!wait_event_timeout(device->liveupdate.wait,
				percpu_ref_is_zero(&device->liveupdate.users),
				max((long)(vfio_liveupdate_deadline - jiffies), 0L)))
		return -EBUSY;

	*why = "A call for a device of its device set does not end.";
	ret = vfio_liveupdate_lock_set(device, vfio_liveupdate_deadline);
	if (ret)
		return ret;
	mutex_unlock(&device->dev_set->lock);

	return 0;
}
EXPORT_SYMBOL_GPL(vfio_liveupdate_drain);

/**
 * vfio_liveupdate_unblock() - Undo vfio_liveupdate_block()
 * @device: Device.
 *
 * Context: Process context, may sleep.
 */
void vfio_liveupdate_unblock(struct vfio_device *device)
{
	percpu_ref_resurrect(&device->liveupdate.users);
	WRITE_ONCE(device->liveupdate.blocked, false);
	wake_up_all(&device->liveupdate.wait);
}
EXPORT_SYMBOL_GPL(vfio_liveupdate_unblock);

/**
 * vfio_liveupdate_blocked() - Is user space kept away from the device?
 * @device: Device.
 *
 * Context: Any context.
 * Return: true between vfio_liveupdate_block() and vfio_liveupdate_unblock().
 */
bool vfio_liveupdate_blocked(struct vfio_device *device)
{
	return READ_ONCE(device->liveupdate.blocked);
}
EXPORT_SYMBOL_GPL(vfio_liveupdate_blocked);

/* Waits while the device is blocked; NULL when the task is killed meanwhile. */
struct vfio_device *vfio_liveupdate_enter(struct vfio_device *device)
{
	while (!percpu_ref_tryget_live(&device->liveupdate.users)) {
		if (wait_event_killable(device->liveupdate.wait,
					!vfio_liveupdate_blocked(device)))
			return NULL;
	}

	return device;
}

void vfio_liveupdate_exit(struct vfio_device *device)
{
	if (device)
		percpu_ref_put(&device->liveupdate.users);
}

/**
 * vfio_liveupdate_pin() - Let a device keep the page tables that it has
 * @device: Device.
 * @why:    Where to put what is still under way.
 *
 * Context: Process context, may sleep. Takes the device set's lock.
 * Return: 0, or -EBUSY when the lock is not to be had within two seconds.
 */
int vfio_liveupdate_pin(struct vfio_device *device, const char **why)
{
	int ret;

	*why = "a call for a device of its device set does not end";
	ret = vfio_liveupdate_lock_set(device,
				       jiffies + VFIO_LIVEUPDATE_PATIENCE);
	if (ret)
		return ret;
	WRITE_ONCE(device->liveupdate.pinned, true);
	mutex_unlock(&device->dev_set->lock);

	return 0;
}
EXPORT_SYMBOL_GPL(vfio_liveupdate_pin);

/**
 * vfio_liveupdate_unpin() - Undo vfio_liveupdate_pin()
 * @device: Device. What kept its page tables is undone already.
 *
 * Without the device set's lock, which unpreserve could not wait for: who is
 * attaching the device at this moment may do so.
 *
 * Context: Any context.
 */
void vfio_liveupdate_unpin(struct vfio_device *device)
{
	WRITE_ONCE(device->liveupdate.pinned, false);
}
EXPORT_SYMBOL_GPL(vfio_liveupdate_unpin);

bool vfio_liveupdate_pinned(struct vfio_device *device)
{
	lockdep_assert_held(&device->dev_set->lock);

	return READ_ONCE(device->liveupdate.pinned);
}

/**
 * vfio_liveupdate_reserve() - Keep an incoming device for the live update
 * @device: Device that is not registered with the VFIO core yet.
 *
 * Context: Any context.
 */
void vfio_liveupdate_reserve(struct vfio_device *device)
{
	WRITE_ONCE(device->liveupdate.reserved, true);
}
EXPORT_SYMBOL_GPL(vfio_liveupdate_reserve);

/* The group exists now and may not be opened by anyone, see DOC. */
int vfio_liveupdate_register(struct vfio_device *device)
{
	if (!device->liveupdate.reserved)
		return 0;

	return vfio_device_block_group(device);
}

/**
 * vfio_liveupdate_release() - End what vfio_liveupdate_reserve() began
 * @device: Registered device, reserved or not.
 *
 * Context: Process context, may sleep. The caller makes sure that two calls do
 * not run at once.
 */
void vfio_liveupdate_release(struct vfio_device *device)
{
	if (!device->liveupdate.reserved)
		return;

	WRITE_ONCE(device->liveupdate.reserved, false);
	vfio_device_unblock_group(device);
}
EXPORT_SYMBOL_GPL(vfio_liveupdate_release);

bool vfio_liveupdate_reserved(struct vfio_device *device)
{
	return READ_ONCE(device->liveupdate.reserved);
}

/**
 * vfio_liveupdate_open() - Make the file of a reserved device
 * @device: Registered device.
 *
 * The file is what opening the character device gives otherwise: user space
 * binds it to an iommufd to get access to the device.
 *
 * Context: Process context, may sleep.
 * Return: the file, or an ERR_PTR(): -ENODEV when the device is going away,
 * -ENOMEM, -ENFILE.
 */
struct file *vfio_liveupdate_open(struct vfio_device *device)
{
	struct vfio_device_file *df;
	struct file *file;

	if (!vfio_device_try_get_registration(device))
		return ERR_PTR(-ENODEV);

	df = vfio_allocate_device_file(device);
	if (IS_ERR(df)) {
		vfio_device_put_registration(device);
		return ERR_CAST(df);
	}

	file = anon_inode_getfile_fmode("[vfio-device]", &vfio_device_fops, df,
					O_RDWR, FMODE_PREAD | FMODE_PWRITE);
	if (IS_ERR(file)) {
		kfree(df);
		vfio_device_put_registration(device);
		return file;
	}

	/* Mappings of all files of a device are in one address space */
	file->f_mapping = device->inode->i_mapping;

	return file;
}
EXPORT_SYMBOL_GPL(vfio_liveupdate_open);
