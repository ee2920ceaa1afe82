// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: VFIO device files in a Live Update
 *
 * What a live update needs of the VFIO core, whatever bus the device is on.
 *
 * A file that can be preserved is one opened from the device's character device
 * and bound to an iommufd. A file that came out of a VFIO group is not: the
 * group, its container and their mappings would have to cross with it.
 *
 * Freeze: between a file's freeze and the jump into the next kernel other CPUs
 * still run user space. Were they let, they could enable an interrupt or start
 * the device's DMA again, behind the back of the driver that just quiesced it.
 * So a frozen device takes no ioctl, read or write (-EBUSY); freezing waits for
 * those under way, but not for ever. Page faults of BAR mappings, and resets by
 * way of another device, are the driver's to refuse.
 *
 * Pinned: a device that goes to the next kernel with its page tables cannot be
 * attached to others or detached: VFIO_DEVICE_ATTACH_IOMMUFD_PT and
 * VFIO_DEVICE_DETACH_IOMMUFD_PT give -EBUSY.
 *
 * Incoming: a device that was handed over is reserved from before user space
 * can see it. Opening its character device or its group gives -EBUSY, but for
 * the one file that the live update makes with vfio_liveupdate_open().
 */

#include <linux/anon_inodes.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/jiffies.h>

#include "liveupdate.h"
#include "vfio.h"

void vfio_liveupdate_init(struct vfio_device *device)
{
	init_rwsem(&device->liveupdate.rwsem);
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
 * vfio_liveupdate_freeze() - Take the device away from user space
 * @device: Device with an open, bound file.
 *
 * Waits for the ioctls, reads and writes under way; later ones give -EBUSY. One
 * that hangs (user space decides how long a page fault of its buffer takes)
 * must not hang reboot(2), which holds locks of LUO.
 *
 * Context: Process context, may sleep; without the device set's lock.
 * Return: 0, or -EBUSY when something is still under way after two seconds.
 */
int vfio_liveupdate_freeze(struct vfio_device *device)
{
	unsigned long end = jiffies + 2 * HZ;

	WRITE_ONCE(device->liveupdate.frozen, true);
	while (!down_write_trylock(&device->liveupdate.rwsem)) {
		if (time_after(jiffies, end)) {
			WRITE_ONCE(device->liveupdate.frozen, false);
			return -EBUSY;
		}
		fsleep(USEC_PER_MSEC);
	}
	up_write(&device->liveupdate.rwsem);

	return 0;
}
EXPORT_SYMBOL_GPL(vfio_liveupdate_freeze);

/**
 * vfio_liveupdate_unfreeze() - Undo vfio_liveupdate_freeze()
 * @device: Device.
 *
 * Context: Any context.
 */
void vfio_liveupdate_unfreeze(struct vfio_device *device)
{
	WRITE_ONCE(device->liveupdate.frozen, false);
}
EXPORT_SYMBOL_GPL(vfio_liveupdate_unfreeze);

/**
 * vfio_liveupdate_frozen() - Is user space kept away from the device?
 * @device: Device.
 *
 * Context: Any context.
 * Return: true between vfio_liveupdate_freeze() and vfio_liveupdate_unfreeze().
 */
bool vfio_liveupdate_frozen(struct vfio_device *device)
{
	return READ_ONCE(device->liveupdate.frozen);
}
EXPORT_SYMBOL_GPL(vfio_liveupdate_frozen);

/* NULL when the device is frozen */
struct vfio_device *vfio_liveupdate_enter(struct vfio_device *device)
{
	down_read(&device->liveupdate.rwsem);
	if (!vfio_liveupdate_frozen(device))
		return device;
	up_read(&device->liveupdate.rwsem);

	return NULL;
}

void vfio_liveupdate_exit(struct vfio_device *device)
{
	if (device)
		up_read(&device->liveupdate.rwsem);
}

/**
 * vfio_liveupdate_pin() - Let a device keep the page tables that it has
 * @device: Device.
 *
 * Context: Process context, may sleep. Takes the device set's lock.
 */
void vfio_liveupdate_pin(struct vfio_device *device)
{
	guard(mutex)(&device->dev_set->lock);
	device->liveupdate.pinned = true;
}
EXPORT_SYMBOL_GPL(vfio_liveupdate_pin);

/**
 * vfio_liveupdate_unpin() - Undo vfio_liveupdate_pin()
 * @device: Device.
 *
 * Context: Process context, may sleep. Takes the device set's lock.
 */
void vfio_liveupdate_unpin(struct vfio_device *device)
{
	guard(mutex)(&device->dev_set->lock);
	device->liveupdate.pinned = false;
}
EXPORT_SYMBOL_GPL(vfio_liveupdate_unpin);

bool vfio_liveupdate_pinned(struct vfio_device *device)
{
	lockdep_assert_held(&device->dev_set->lock);

	return device->liveupdate.pinned;
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
