/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vfio-pci device files in a Live Update: what vfio-pci and its core call.
 * The story is told in vfio_pci_liveupdate.c.
 */
#ifndef VFIO_PCI_LIVEUPDATE_H
#define VFIO_PCI_LIVEUPDATE_H

#include <linux/kho/abi/vfio_pci.h>
#include <linux/pci.h>
#include <linux/vfio_pci_core.h>

#ifdef CONFIG_VFIO_PCI_LIVEUPDATE

void vfio_pci_liveupdate_init(const struct vfio_device_ops *ops);
void vfio_pci_liveupdate_cleanup(void);
void vfio_pci_liveupdate_probe(struct vfio_pci_core_device *vdev);
void vfio_pci_liveupdate_remove(struct vfio_pci_core_device *vdev);

/*
 * The reset at the first open. A device that comes out of a live update was
 * reset by the previous kernel, which found out whether that works.
 */
static inline int
vfio_pci_liveupdate_open_reset(struct vfio_pci_core_device *vdev)
{
	if (!vdev->liveupdate_ser)
		return pci_try_reset_function(vdev->pdev);

	return vdev->liveupdate_ser->flags & VFIO_PCI_SER_RESET_WORKS ?
	       0 : -ENOTTY;
}

#else

static inline void vfio_pci_liveupdate_init(const struct vfio_device_ops *ops)
{
}

static inline void vfio_pci_liveupdate_cleanup(void)
{
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

#endif /* CONFIG_VFIO_PCI_LIVEUPDATE */
#endif /* VFIO_PCI_LIVEUPDATE_H */
