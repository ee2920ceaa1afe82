/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * IOMMU domains, devices and units in a Live Update: what the IOMMU core itself
 * calls. The story is told in liveupdate.c.
 */
#ifndef _DRIVERS_IOMMU_LIVEUPDATE_H
#define _DRIVERS_IOMMU_LIVEUPDATE_H

#include <linux/iommu_liveupdate.h>

struct device;
struct iommu_group;

#ifdef CONFIG_IOMMU_LIVEUPDATE

bool iommu_liveupdate_setup_group(struct iommu_group *group);
void iommu_liveupdate_leave_domain(struct iommu_group *group);
bool iommu_liveupdate_leave_group(struct iommu_group *group,
				  struct device *dev);
bool iommu_liveupdate_keep_owner(struct iommu_group *group);

#else

static inline bool iommu_liveupdate_setup_group(struct iommu_group *group)
{
	return false;
}

static inline void iommu_liveupdate_leave_domain(struct iommu_group *group)
{
}

static inline bool iommu_liveupdate_leave_group(struct iommu_group *group,
						struct device *dev)
{
	return false;
}

static inline bool iommu_liveupdate_keep_owner(struct iommu_group *group)
{
	return false;
}

#endif /* CONFIG_IOMMU_LIVEUPDATE */
#endif /* _DRIVERS_IOMMU_LIVEUPDATE_H */
