/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * VFIO devices in live updates: what a device's user can ask about them.
 */
#ifndef _UAPI_LINUX_VFIO_LIVEUPDATE_H
#define _UAPI_LINUX_VFIO_LIVEUPDATE_H

#include <linux/types.h>
#include <linux/vfio.h>

/*
 * VFIO_DEVICE_FEATURE_LIVEUPDATE - VFIO_DEVICE_FEATURE_PROBE and _GET
 *
 * How can this device cross a live update in this kernel, how does it, and why
 * not better? To be asked before the device's file is preserved, while it is,
 * and after it was retrieved. -ENOTTY: this kernel cannot preserve VFIO devices.
 *
 * The number is out of the way of Linux's own features, which count from 0.
 */
#define VFIO_DEVICE_FEATURE_LIVEUPDATE	0x4c55

/**
 * struct vfio_device_feature_liveupdate - Data of VFIO_DEVICE_FEATURE_LIVEUPDATE
 * @modes:    Out: bits of VFIO_LIVEUPDATE_MODE_*, the modes that this kernel can
 *            preserve this device in; 0: none, and @error says why.
 * @mode:     Out: the one of VFIO_LIVEUPDATE_MODE_* that is in force, 0 while
 *            @state is VFIO_LIVEUPDATE_STATE_NONE.
 * @state:    Out: one of VFIO_LIVEUPDATE_STATE_*.
 * @reason:   Out: one of VFIO_LIVEUPDATE_REASON_*: why running mode is not in
 *            force, or would not be if the file was preserved now.
 * @error:    Out: the errno (positive) with which preserving the device fails
 *            now, because of what the device is; 0 if it does not.
 * @reserved: Out: 0.
 */
struct vfio_device_feature_liveupdate {
	__u32 modes;
#define VFIO_LIVEUPDATE_MODE_IDLE	(1 << 0)
#define VFIO_LIVEUPDATE_MODE_RUNNING	(1 << 1)
	__u32 mode;
	__u32 state;
#define VFIO_LIVEUPDATE_STATE_NONE	0
#define VFIO_LIVEUPDATE_STATE_OUTGOING	1
#define VFIO_LIVEUPDATE_STATE_INCOMING	2
	__u32 reason;
/* Running mode is in force, or would be */
#define VFIO_LIVEUPDATE_REASON_NONE		0
/* The device cannot be preserved at all, see @error */
#define VFIO_LIVEUPDATE_REASON_DEVICE		1
/* This kernel cannot preserve IOMMU domains */
#define VFIO_LIVEUPDATE_REASON_KERNEL		2
/* The page table that the device is attached to is not preserved */
#define VFIO_LIVEUPDATE_REASON_DOMAIN		3
	__u32 error;
	__u32 reserved;
};

/*
 * VFIO_DEVICE_FEATURE_LIVEUPDATE_IRQS - VFIO_DEVICE_FEATURE_PROBE, _GET and _SET
 *
 * SET: interrupts that are on when the device is frozen go along, instead of
 * refusing the update (-EINVAL); in running mode, and not INTx of a device before
 * PCI 2.3. From the freeze on the device raises none; that is undone when there is
 * no update. It holds until the device is closed, and does not cross.
 *
 * In the next kernel whoever arms a device's interrupts that went along has each
 * eventfd signalled once, as soon as its vector is armed: for all that the device
 * had to say before. With MSI-X the device also keeps what it has to say pending,
 * as PCI Express demands of a function that is masked. GET tells what they were.
 */
#define VFIO_DEVICE_FEATURE_LIVEUPDATE_IRQS	0x4c56

/* Words of a bit for each vector that MSI-X can have */
#define VFIO_LIVEUPDATE_IRQS_WORDS	32

/**
 * struct vfio_device_feature_liveupdate_irqs - Data of
 *                                              VFIO_DEVICE_FEATURE_LIVEUPDATE_IRQS
 * @flags: In and out: VFIO_LIVEUPDATE_IRQS_CARRY: interrupts that are on go along.
 *         Out: VFIO_LIVEUPDATE_IRQS_CAME: the other fields tell which came in.
 *         Out: VFIO_LIVEUPDATE_IRQS_INTX_MASKED: INTx was masked, by the user or
 *         by VFIO because one was not handled yet.
 * @index: Out: VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX or
 *         VFIO_PCI_MSIX_IRQ_INDEX.
 * @count: Out: more than the number of the last vector that had an eventfd.
 * @reserved: Out: 0.
 * @armed: Out: a bit for each vector that had an eventfd; bit 0 of the first word
 *         for vector 0.
 *
 * For SET @flags is VFIO_LIVEUPDATE_IRQS_CARRY or 0, and all else 0; -EINVAL
 * otherwise.
 */
struct vfio_device_feature_liveupdate_irqs {
	__u32 flags;
#define VFIO_LIVEUPDATE_IRQS_CARRY		(1 << 0)
#define VFIO_LIVEUPDATE_IRQS_CAME		(1 << 1)
#define VFIO_LIVEUPDATE_IRQS_INTX_MASKED	(1 << 2)
	__u32 index;
	__u32 count;
	__u32 reserved;
	__aligned_u64 armed[VFIO_LIVEUPDATE_IRQS_WORDS];
};

#endif /* _UAPI_LINUX_VFIO_LIVEUPDATE_H */
