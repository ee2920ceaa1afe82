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
/* ... @vf_token is there */
#define VFIO_PCI_SER_VF_TOKEN		BIT(1)
#define VFIO_PCI_SER_FLAGS		GENMASK(1, 0)

/* Values of vfio_pci_irqs_ser.kind */
#define VFIO_PCI_SER_IRQS_NONE		0	/* interrupts were off */
#define VFIO_PCI_SER_IRQS_INTX		1	/* INTx is disabled */
#define VFIO_PCI_SER_IRQS_MSI		2	/* MSI is disabled */
#define VFIO_PCI_SER_IRQS_MSIX		3	/* MSI-X is enabled, the function masked */

/* vfio_pci_irqs_ser.flags: INTx was masked, or waited to be unmasked */
#define VFIO_PCI_SER_INTX_MASKED	BIT(0)

/* As many vectors as an MSI-X table can have (PCI Express 6.0, 7.7.2.2) */
#define VFIO_PCI_SER_VECTORS		2048

/**
 * struct vfio_pci_irqs_ser - Interrupts that were on and go along.
 * @kind:  One of VFIO_PCI_SER_IRQS_*, which says how the device is kept from
 *         raising them.
 * @flags: %VFIO_PCI_SER_INTX_MASKED; unknown bits must be 0.
 * @count: More than the number of the last vector in @armed; 0 for
 *         %VFIO_PCI_SER_IRQS_NONE, 1 for %VFIO_PCI_SER_IRQS_INTX.
 * @reserved: Must be 0.
 * @armed: A bit for each vector that somebody waited for.
 */
struct vfio_pci_irqs_ser {
	u32 kind;
	u32 flags;
	u32 count;
	u32 reserved;
	u64 armed[VFIO_PCI_SER_VECTORS / 64];
};

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
 * @irqs:     In running mode: interrupts that go along. Else all 0.
 * @vf_token: With %VFIO_PCI_SER_VF_TOKEN, of a physical function: the token that
 *            whoever opens one of its virtual functions has to know, a UUID in
 *            the order of RFC 9562. Else all 0.
 */
struct vfio_pci_ser {
	u32 domain;
	u16 bdf;
	u16 mode;
	u32 flags;
	u32 reserved;
	struct pci_state_ser clean;
	struct vfio_pci_irqs_ser irqs;
	u8 vf_token[16];
};

static_assert(sizeof(struct vfio_pci_irqs_ser) == 272);
static_assert(offsetof(struct vfio_pci_irqs_ser, kind) == 0);
static_assert(offsetof(struct vfio_pci_irqs_ser, flags) == 4);
static_assert(offsetof(struct vfio_pci_irqs_ser, count) == 8);
static_assert(offsetof(struct vfio_pci_irqs_ser, reserved) == 12);
static_assert(offsetof(struct vfio_pci_irqs_ser, armed) == 16);

static_assert(sizeof(struct vfio_pci_ser) == 400);
static_assert(offsetof(struct vfio_pci_ser, domain) == 0);
static_assert(offsetof(struct vfio_pci_ser, bdf) == 4);
static_assert(offsetof(struct vfio_pci_ser, mode) == 6);
static_assert(offsetof(struct vfio_pci_ser, flags) == 8);
static_assert(offsetof(struct vfio_pci_ser, reserved) == 12);
static_assert(offsetof(struct vfio_pci_ser, clean) == 16);
static_assert(offsetof(struct vfio_pci_ser, irqs) == 112);
static_assert(offsetof(struct vfio_pci_ser, vf_token) == 384);

#endif /* _LINUX_KHO_ABI_VFIO_PCI_H */
