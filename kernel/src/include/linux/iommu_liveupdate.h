/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * IOMMU domains, devices and units in a Live Update: what iommufd, drivers of
 * devices and drivers of IOMMUs call. The story is told in
 * drivers/iommu/liveupdate.c.
 */
#ifndef _LINUX_IOMMU_LIVEUPDATE_H
#define _LINUX_IOMMU_LIVEUPDATE_H

#include <linux/errno.h>
#include <linux/types.h>

struct device;
struct liveupdate_file_handler;

#ifdef CONFIG_IOMMU_LIVEUPDATE

int iommu_liveupdate_register(struct liveupdate_file_handler *fh);
void iommu_liveupdate_unregister(struct liveupdate_file_handler *fh);
int iommu_liveupdate_check_device(struct device *dev, const char **why);
int iommu_liveupdate_preserve_device(struct device *dev, const char **why);
void iommu_liveupdate_unpreserve_device(struct device *dev);

#else

static inline int iommu_liveupdate_register(struct liveupdate_file_handler *fh)
{
	return 0;
}

static inline void
iommu_liveupdate_unregister(struct liveupdate_file_handler *fh)
{
}

static inline int iommu_liveupdate_check_device(struct device *dev,
						const char **why)
{
	*why = "this kernel cannot preserve IOMMU domains";
	return -EOPNOTSUPP;
}

static inline int iommu_liveupdate_preserve_device(struct device *dev,
						   const char **why)
{
	return iommu_liveupdate_check_device(dev, why);
}

static inline void iommu_liveupdate_unpreserve_device(struct device *dev)
{
}

#endif /* CONFIG_IOMMU_LIVEUPDATE */
#endif /* _LINUX_IOMMU_LIVEUPDATE_H */
