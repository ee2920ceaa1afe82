/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_ABI_VFIO_PCI_H
#define _LINUX_KHO_ABI_VFIO_PCI_H

#include <linux/bits.h>
#include <linux/build_bug.h>
#include <linux/kho/abi/liveupdate_versions.h>
#include <linux/kho/abi/pci.h>
#include <linux/stddef.h>
#include <linux/types.h>

/**
 * DOC: vfio-pci Live Update ABI
 *
 * What vfio-pci of the outgoing kernel tells vfio-pci of the incoming kernel
 * about one preserved device file. The LUO file's data is the physical address
 * of a &struct vfio_pci_ser, allocated with kho_alloc_preserve().
 *
 * The layout is a contract: fixed-size fields in CPU byte order, no padding, no
 * pointer. Whoever changes the layout or the meaning of a field raises the
 * version in %VFIO_PCI_LIVEUPDATE_COMPATIBLE.
 */

/* vfio_pci_ser.flags: a function reset of the device is known to work */
#define VFIO_PCI_SER_RESET_WORKS	BIT(0)

/**
 * struct vfio_pci_ser - One preserved vfio-pci device file.
 * @domain:   PCI segment (domain) number.
 * @bdf:      Bus (bits 15:8), device (7:3) and function (2:0) number.
 * @mode:     One of PCI_SER_MODE_*, and equal to the mode that the PCI core
 *            hands over for this device.
 * @flags:    VFIO_PCI_SER_* bits; unknown bits must be 0.
 * @reserved: Must be 0.
 * @clean:    In running mode: the configuration that was saved when the device
 *            was opened, which closing it restores. Else all 0.
 */
struct vfio_pci_ser {
	u32 domain;
	u16 bdf;
	u16 mode;
	u32 flags;
	u32 reserved;
	struct pci_state_ser clean;
};

static_assert(sizeof(struct vfio_pci_ser) == 112);
static_assert(offsetof(struct vfio_pci_ser, domain) == 0);
static_assert(offsetof(struct vfio_pci_ser, bdf) == 4);
static_assert(offsetof(struct vfio_pci_ser, mode) == 6);
static_assert(offsetof(struct vfio_pci_ser, flags) == 8);
static_assert(offsetof(struct vfio_pci_ser, reserved) == 12);
static_assert(offsetof(struct vfio_pci_ser, clean) == 16);

#endif /* _LINUX_KHO_ABI_VFIO_PCI_H */
