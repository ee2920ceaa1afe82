/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vfio-pci device files in a Live Update: what vfio-pci and its core call.
 * The story is told in vfio_pci_liveupdate.c.
 */
#ifndef VFIO_PCI_LIVEUPDATE_H
#define VFIO_PCI_LIVEUPDATE_H

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

/*
 * The reset at the first open. A device that comes out of a live update was
 * reset by the previous kernel, which found out whether that works.
 */
static inline int
vfio_pci_liveupdate_open_reset(struct vfio_pci_core_device *vdev)
{
	if (!vdev->liveupdate_retrieved)
		return pci_try_reset_function(vdev->pdev);

	return vdev->liveupdate_reset_works ? 0 : -ENOTTY;
}

/* May nobody reset this device by resetting its bus or slot? */
static inline bool vfio_pci_liveupdate_holds(struct vfio_pci_core_device *vdev)
{
	return vfio_liveupdate_frozen(&vdev->vdev) ||
	       READ_ONCE(vdev->liveupdate_incoming);
}

#else

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

static inline int
vfio_pci_liveupdate_open_reset(struct vfio_pci_core_device *vdev)
{
	return pci_try_reset_function(vdev->pdev);
}

static inline bool vfio_pci_liveupdate_holds(struct vfio_pci_core_device *vdev)
{
	return false;
}

#endif /* CONFIG_VFIO_PCI_LIVEUPDATE */
#endif /* VFIO_PCI_LIVEUPDATE_H */
