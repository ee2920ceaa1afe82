/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * iommufd in a Live Update: what drivers that bind their devices call. The story
 * is told in drivers/iommu/iommufd/liveupdate.c.
 */
#ifndef _LINUX_IOMMUFD_LIVEUPDATE_H
#define _LINUX_IOMMUFD_LIVEUPDATE_H

#include <linux/mutex.h>
#include <linux/types.h>

struct file;
struct iommufd_device;

/**
 * struct iommufd_ctx_liveupdate - Live update state of one iommufd.
 * @lock:      Guards the marks of its page tables, and @preserved.
 * @preserved: It goes to the next kernel.
 */
struct iommufd_ctx_liveupdate {
	struct mutex lock;	/* see above */
	bool preserved;
};

#ifdef CONFIG_IOMMUFD_LIVEUPDATE

int iommufd_liveupdate_attach(struct iommufd_device *idev);
bool iommufd_liveupdate_marked(struct iommufd_device *idev);

#else

static inline bool iommufd_liveupdate_marked(struct iommufd_device *idev)
{
	return false;
}

static inline int iommufd_liveupdate_attach(struct iommufd_device *idev)
{
	return 0;
}

#endif /* CONFIG_IOMMUFD_LIVEUPDATE */
#endif /* _LINUX_IOMMUFD_LIVEUPDATE_H */
