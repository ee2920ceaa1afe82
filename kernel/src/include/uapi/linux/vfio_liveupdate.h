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

#endif /* _UAPI_LINUX_VFIO_LIVEUPDATE_H */
