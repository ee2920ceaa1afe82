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
 * A virtual function names its physical function, which is in the list, too, and
 * runs or is held. The SR-IOV state of a physical function is what its capability has, and
 * what could be found out only by writing to it.
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
#define PCI_SER_ROLE_HELD		3	/* a physical function held for such */

/* Values of pci_dev_ser.mode */
#define PCI_SER_MODE_NONE		0	/* what is no device has no mode */
#define PCI_SER_MODE_IDLE		1	/* quiesced, reset, restored */
#define PCI_SER_MODE_RUNNING		2	/* untouched, DMA goes on */

/* pci_dev_ser.flags */
#define PCI_SER_INTX_MASK_BROKEN	BIT(0)	/* INTx Disable does not work */
#define PCI_SER_IO_WINDOW		BIT(1)	/* bridge: has an I/O window */
#define PCI_SER_PREF_WINDOW		BIT(2)	/* ... a prefetchable window */
#define PCI_SER_PREF_64_WINDOW		BIT(3)	/* ... of 64 bits */
#define PCI_SER_SRIOV			BIT(4)	/* device, held: can have virtual functions */
#define PCI_SER_VF			BIT(5)	/* device: a virtual function */
#define PCI_SER_NO_AUTOPROBE		BIT(6)	/* SR-IOV: sriov_drivers_autoprobe is 0 */
#define PCI_SER_FLAGS			GENMASK(6, 0)

/* BARs 0 to 5 and the expansion ROM */
#define PCI_SER_BARS			7

/* BARs of the virtual functions of a physical function */
#define PCI_SER_VF_BARS			6

/**
 * struct pci_sriov_ser - SR-IOV of a physical function.
 * @control:    SR-IOV Control. VF Enable and VF MSE are both set if @num_vfs is not 0,
 *              and else both clear.
 * @total_vfs:  TotalVFs.
 * @initial_vfs: InitialVFs.
 * @num_vfs:    NumVFs: how many virtual functions are enabled.
 * @offset:     First VF Offset, for that many.
 * @stride:     VF Stride, for that many.
 * @vf_device:  VF Device ID.
 * @last_bus:   The highest bus number of a virtual function, for any NumVFs.
 * @page_size:  System Page Size, in units of 4 KiB: a power of 2.
 * @bar:        VF BARs 0 to 5.
 * @bar_order:  Their sizes, for one virtual function, as in &struct pci_dev_ser.
 * @vfs:        How many virtual functions are in the list that name this function.
 *
 * All registers as the SR-IOV capability has them (PCI Express 6.0, 9.3.3).
 */
struct pci_sriov_ser {
	u16 control;
	u16 total_vfs;
	u16 initial_vfs;
	u16 num_vfs;
	u16 offset;
	u16 stride;
	u16 vf_device;
	u16 last_bus;
	u32 page_size;
	u32 bar[PCI_SER_VF_BARS];
	u8 bar_order[PCI_SER_VF_BARS];
	u16 vfs;
};

/**
 * struct pci_dev_ser - One preserved device, or one bridge above one.
 * @domain:   PCI segment (domain) number.
 * @bdf:      Bus (bits 15:8), device (7:3) and function (2:0) number.
 * @role:     One of PCI_SER_ROLE_*.
 * @mode:     One of PCI_SER_MODE_*.
 * @refcount: Devices: 1. Bridges: how many preserved devices are below. Held: how
 *            many of its virtual functions are preserved.
 * @vendor:   Vendor ID, as in configuration space offset 0.
 * @device:   Device ID, as in configuration space offset 2.
 * @driver:   Devices: name of the driver that preserved it, NUL padded; only
 *            a driver of this name may bind in the incoming kernel. Held: what its
 *            driver calls the data, with their version; only a driver that knows these
 *            may bind. Empty if its driver takes no part.
 * @flags:    PCI_SER_* bits that say what can be found out by writing only;
 *            unknown bits must be 0.
 * @bar_order: Sizes of BARs 0 to 5 and of the expansion ROM: n for 2^n bytes, 0
 *            for none. A BAR of 64 bits counts as its lower half. A bridge has
 *            BARs 0 and 1 and the ROM.
 * @reserved: Must be 0.
 * @physfn:   With %PCI_SER_VF: the physical function, in the same segment, as
 *            @bdf has it. Else 0.
 * @reserved2: Must be 0.
 * @sriov:    With %PCI_SER_SRIOV: its SR-IOV. Else all 0.
 * @data_size: Held, with a driver: bytes of @data. Else 0.
 * @data:     Held: physical address of what its driver hands over, allocated with
 *            kho_alloc_preserve(), of at most %PCI_SER_MAX_DATA bytes, or 0.
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
	u16 physfn;
	u16 reserved2;
	struct pci_sriov_ser sriov;
	u32 data_size;
	u64 data;
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

/* Of one physical function */
#define PCI_SER_MAX_DATA		65536

/* 4 MiB of entries: what one allocation of the page allocator can hold */
#define PCI_SER_MAX_CAPACITY		32768

static_assert(sizeof(struct pci_sriov_ser) == 52);
static_assert(offsetof(struct pci_sriov_ser, control) == 0);
static_assert(offsetof(struct pci_sriov_ser, total_vfs) == 2);
static_assert(offsetof(struct pci_sriov_ser, initial_vfs) == 4);
static_assert(offsetof(struct pci_sriov_ser, num_vfs) == 6);
static_assert(offsetof(struct pci_sriov_ser, offset) == 8);
static_assert(offsetof(struct pci_sriov_ser, stride) == 10);
static_assert(offsetof(struct pci_sriov_ser, vf_device) == 12);
static_assert(offsetof(struct pci_sriov_ser, last_bus) == 14);
static_assert(offsetof(struct pci_sriov_ser, page_size) == 16);
static_assert(offsetof(struct pci_sriov_ser, bar) == 20);
static_assert(offsetof(struct pci_sriov_ser, bar_order) == 44);
static_assert(offsetof(struct pci_sriov_ser, vfs) == 50);

static_assert(sizeof(struct pci_dev_ser) == 128);
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
static_assert(offsetof(struct pci_dev_ser, physfn) == 60);
static_assert(offsetof(struct pci_dev_ser, reserved2) == 62);
static_assert(offsetof(struct pci_dev_ser, sriov) == 64);
static_assert(offsetof(struct pci_dev_ser, data_size) == 116);
static_assert(offsetof(struct pci_dev_ser, data) == 120);

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
