/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vfio-pci device files in a Live Update: what vfio-pci and its core call.
 * The story is told in vfio_pci_liveupdate.c.
 */
#ifndef VFIO_PCI_LIVEUPDATE_H
#define VFIO_PCI_LIVEUPDATE_H

#include <linux/kho/abi/pci.h>
#include <linux/kho/abi/vfio_pci.h>
#include <linux/pci.h>
#include <linux/vfio_liveupdate.h>
#include <linux/vfio_pci_core.h>

#ifdef CONFIG_VFIO_PCI_LIVEUPDATE

void vfio_pci_liveupdate_init(const struct pci_driver *driver,
			      const struct vfio_device_ops *ops);
void vfio_pci_liveupdate_cleanup(void);
int vfio_pci_liveupdate_feature(struct vfio_device *device, u32 flags,
				void __user *arg, size_t argsz);
void vfio_pci_liveupdate_probe(struct vfio_pci_core_device *vdev);
void vfio_pci_liveupdate_remove(struct vfio_pci_core_device *vdev);

/* Opening a device, which finish must not come in between */
DEFINE_LOCK_GUARD_1(vfio_pci_liveupdate_opening, struct vfio_pci_core_device,
		    mutex_lock(&_T->lock->liveupdate_lock),
		    mutex_unlock(&_T->lock->liveupdate_lock))

/* Is this the first open of a device that came in running? */
static inline bool
vfio_pci_liveupdate_running(struct vfio_pci_core_device *vdev)
{
	return vdev->liveupdate_ser && !vdev->liveupdate_failed &&
	       vdev->liveupdate_ser->mode == PCI_SER_MODE_RUNNING;
}

/*
 * Opening a device failed that came in running. It is detached from its page
 * table next, so its DMA ends here. Whoever has the device lock now may wait for
 * its file to be closed, as unbinding does, and stops the device then. If that is
 * not so, the next open resets it, because it failed here: the device must not
 * take up its old work when its bus mastering is turned on again.
 */
static inline void
vfio_pci_liveupdate_open_failed(struct vfio_pci_core_device *vdev)
{
	struct pci_dev *pdev = vdev->pdev;

	vdev->liveupdate_failed = true;
	pci_liveupdate_set_read_only(pdev, false);
	pci_clear_master(pdev);
	if (device_trylock(&pdev->dev)) {
		pci_liveupdate_abandon(pdev);
		device_unlock(&pdev->dev);
	}
}

/*
 * The reset at the first open. A device that comes out of a live update was
 * reset by the previous kernel, or must not be; the previous kernel has found
 * out whether a reset works.
 */
static inline int
vfio_pci_liveupdate_open_reset(struct vfio_pci_core_device *vdev)
{
	if (!vdev->liveupdate_ser || vdev->liveupdate_failed)
		return pci_try_reset_function(vdev->pdev);

	return vdev->liveupdate_ser->flags & VFIO_PCI_SER_RESET_WORKS ? 0 : -ENOTTY;
}

/* What closing restores: a running device is not in that state at its open. */
static inline struct pci_saved_state *
vfio_pci_liveupdate_clean_state(struct vfio_pci_core_device *vdev)
{
	if (vfio_pci_liveupdate_running(vdev))
		return pci_liveupdate_unpack_state(vdev->pdev,
						   &vdev->liveupdate_ser->clean);

	pci_save_state(vdev->pdev);

	return pci_store_saved_state(vdev->pdev);
}

/*
 * Must this device not be left with INTx enabled? It is going to run on with nobody
 * there to handle it. One that cannot mask it, as the specification has it since
 * PCI 2.3, has a line of its own.
 */
static inline bool vfio_pci_liveupdate_no_intx(struct vfio_pci_core_device *vdev)
{
	return vdev->pci_2_3 &&
	       pci_liveupdate_outgoing(vdev->pdev) == PCI_LIVEUPDATE_RUNNING;
}

/* Is the device frozen, and in idle mode, so that nobody may reach its BARs? */
static inline bool
vfio_pci_liveupdate_quiesced(struct vfio_pci_core_device *vdev)
{
	return READ_ONCE(vdev->liveupdate_quiesced);
}

/* May nobody reset this device by resetting its bus or slot? */
static inline bool vfio_pci_liveupdate_holds(struct vfio_pci_core_device *vdev)
{
	return vfio_liveupdate_blocked(&vdev->vdev) ||
	       READ_ONCE(vdev->liveupdate_incoming);
}

#else

DEFINE_LOCK_GUARD_1(vfio_pci_liveupdate_opening, struct vfio_pci_core_device,
		    (void)_T, (void)_T)

static inline void
vfio_pci_liveupdate_open_failed(struct vfio_pci_core_device *vdev)
{
}

static inline void vfio_pci_liveupdate_init(const struct pci_driver *driver,
					    const struct vfio_device_ops *ops)
{
}

static inline void vfio_pci_liveupdate_cleanup(void)
{
}

static inline int vfio_pci_liveupdate_feature(struct vfio_device *device,
					      u32 flags, void __user *arg,
					      size_t argsz)
{
	return vfio_pci_core_ioctl_feature(device, flags, arg, argsz);
}

static inline void
vfio_pci_liveupdate_probe(struct vfio_pci_core_device *vdev)
{
}

static inline void
vfio_pci_liveupdate_remove(struct vfio_pci_core_device *vdev)
{
}

static inline bool
vfio_pci_liveupdate_running(struct vfio_pci_core_device *vdev)
{
	return false;
}

static inline int
vfio_pci_liveupdate_open_reset(struct vfio_pci_core_device *vdev)
{
	return pci_try_reset_function(vdev->pdev);
}

static inline struct pci_saved_state *
vfio_pci_liveupdate_clean_state(struct vfio_pci_core_device *vdev)
{
	pci_save_state(vdev->pdev);

	return pci_store_saved_state(vdev->pdev);
}

static inline bool vfio_pci_liveupdate_no_intx(struct vfio_pci_core_device *vdev)
{
	return false;
}

static inline bool
vfio_pci_liveupdate_quiesced(struct vfio_pci_core_device *vdev)
{
	return false;
}

static inline bool vfio_pci_liveupdate_holds(struct vfio_pci_core_device *vdev)
{
	return false;
}

#endif /* CONFIG_VFIO_PCI_LIVEUPDATE */
#endif /* VFIO_PCI_LIVEUPDATE_H */
