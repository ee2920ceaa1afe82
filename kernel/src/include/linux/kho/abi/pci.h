/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_ABI_PCI_H
#define _LINUX_KHO_ABI_PCI_H

#include <linux/bits.h>
#include <linux/build_bug.h>
#include <linux/kho/abi/liveupdate_versions.h>
#include <linux/stddef.h>
#include <linux/types.h>

/**
 * DOC: PCI Live Update ABI
 *
 * What the PCI core of the outgoing kernel tells that of the incoming kernel:
 * which devices are handed over, and which bridges lie above them. It crosses
 * as the data of the LUO file-lifecycle-bound object %PCI_LIVEUPDATE_COMPATIBLE,
 * the physical address of a &struct pci_ser.
 *
 * The layout is a contract: fixed-size fields in CPU byte order, no padding, no
 * pointer other than a physical address. Whoever changes the layout or the
 * meaning of a field raises the version in %PCI_LIVEUPDATE_COMPATIBLE.
 */

/* Bytes for a driver's name with its terminating NUL */
#define PCI_SER_DRIVER_LEN		32

/* Values of pci_dev_ser.role */
#define PCI_SER_ROLE_NONE		0	/* the entry is not in use */
#define PCI_SER_ROLE_DEVICE		1	/* a device that is handed over */
#define PCI_SER_ROLE_BRIDGE		2	/* a bridge above such a device */

/* Values of pci_dev_ser.mode */
#define PCI_SER_MODE_NONE		0	/* a bridge has no mode */
#define PCI_SER_MODE_IDLE		1	/* quiesced, reset, restored */
#define PCI_SER_MODE_RUNNING		2	/* untouched, DMA goes on */

/* pci_dev_ser.flags */
#define PCI_SER_INTX_MASK_BROKEN	BIT(0)	/* INTx Disable does not work */
#define PCI_SER_IO_WINDOW		BIT(1)	/* bridge: has an I/O window */
#define PCI_SER_PREF_WINDOW		BIT(2)	/* ... a prefetchable window */
#define PCI_SER_PREF_64_WINDOW		BIT(3)	/* ... of 64 bits */
#define PCI_SER_FLAGS			GENMASK(3, 0)

/* BARs 0 to 5 and the expansion ROM */
#define PCI_SER_BARS			7

/**
 * struct pci_dev_ser - One preserved device, or one bridge above one.
 * @domain:   PCI segment (domain) number.
 * @bdf:      Bus (bits 15:8), device (7:3) and function (2:0) number.
 * @role:     One of PCI_SER_ROLE_*.
 * @mode:     One of PCI_SER_MODE_*.
 * @refcount: Devices: 1. Bridges: how many preserved devices are below.
 * @vendor:   Vendor ID, as in configuration space offset 0.
 * @device:   Device ID, as in configuration space offset 2.
 * @driver:   Devices: name of the driver that preserved it, NUL padded; only
 *            a driver of this name may bind in the incoming kernel.
 * @flags:    PCI_SER_* bits that say what can be found out by writing only;
 *            unknown bits must be 0.
 * @bar_order: Sizes of BARs 0 to 5 and of the expansion ROM: n for 2^n bytes, 0
 *            for none. A BAR of 64 bits counts as its lower half. A bridge has
 *            BARs 0 and 1 and the ROM.
 * @reserved: Must be 0.
 * @reserved2: Must be 0.
 */
struct pci_dev_ser {
	u32 domain;
	u16 bdf;
	u8 role;
	u8 mode;
	u32 refcount;
	u16 vendor;
	u16 device;
	char driver[PCI_SER_DRIVER_LEN];
	u32 flags;
	u8 bar_order[PCI_SER_BARS];
	u8 reserved;
	u32 reserved2;
};

/**
 * struct pci_ser - Head of the PCI core's handover data.
 * @devices:  Physical address of an array of @capacity &struct pci_dev_ser,
 *            allocated with kho_alloc_preserve().
 * @count:    Entries in use, at the array's start.
 * @capacity: Entries that the array has room for, at most
 *            %PCI_SER_MAX_CAPACITY.
 */
struct pci_ser {
	u64 devices;
	u32 count;
	u32 capacity;
};

/* pci_state_ser.flags: which of its fields are there */
#define PCI_STATE_SER_EXP		BIT(0)
#define PCI_STATE_SER_AER		BIT(1)
#define PCI_STATE_SER_FLAGS		GENMASK(1, 0)

/**
 * struct pci_state_ser - A configuration that was saved, to be restored.
 * @header: The first 64 bytes of configuration space.
 * @exp:    PCI Express capability: Device Control, Link Control, Slot Control,
 *          Root Control, Device Control 2, Link Control 2, Slot Control 2; 0
 *          for registers that the device does not have.
 * @flags:  PCI_STATE_SER_* bits; unknown bits must be 0.
 * @aer:    Advanced Error Reporting: Uncorrectable Error Mask, Uncorrectable
 *          Error Severity, Correctable Error Mask, Capabilities and Control.
 *
 * The registers that a device's user can change through VFIO. A user of this
 * structure embeds it in data of its own, and raises its own version when this
 * layout changes.
 */
struct pci_state_ser {
	u32 header[16];
	u16 exp[7];
	u16 flags;
	u32 aer[4];
};

/* 4 MiB of entries: what one allocation of the page allocator can hold */
#define PCI_SER_MAX_CAPACITY		65536

static_assert(sizeof(struct pci_dev_ser) == 64);
static_assert(offsetof(struct pci_dev_ser, domain) == 0);
static_assert(offsetof(struct pci_dev_ser, bdf) == 4);
static_assert(offsetof(struct pci_dev_ser, role) == 6);
static_assert(offsetof(struct pci_dev_ser, mode) == 7);
static_assert(offsetof(struct pci_dev_ser, refcount) == 8);
static_assert(offsetof(struct pci_dev_ser, vendor) == 12);
static_assert(offsetof(struct pci_dev_ser, device) == 14);
static_assert(offsetof(struct pci_dev_ser, driver) == 16);
static_assert(offsetof(struct pci_dev_ser, flags) == 48);
static_assert(offsetof(struct pci_dev_ser, bar_order) == 52);
static_assert(offsetof(struct pci_dev_ser, reserved) == 59);
static_assert(offsetof(struct pci_dev_ser, reserved2) == 60);

static_assert(sizeof(struct pci_state_ser) == 96);
static_assert(offsetof(struct pci_state_ser, header) == 0);
static_assert(offsetof(struct pci_state_ser, exp) == 64);
static_assert(offsetof(struct pci_state_ser, flags) == 78);
static_assert(offsetof(struct pci_state_ser, aer) == 80);

static_assert(sizeof(struct pci_ser) == 16);
static_assert(offsetof(struct pci_ser, devices) == 0);
static_assert(offsetof(struct pci_ser, count) == 8);
static_assert(offsetof(struct pci_ser, capacity) == 12);

#endif /* _LINUX_KHO_ABI_PCI_H */
