/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * iommufd in a Live Update: what iommufd itself calls. The story is told in
 * liveupdate.c.
 */
#ifndef _DRIVERS_IOMMU_IOMMUFD_LIVEUPDATE_H
#define _DRIVERS_IOMMU_IOMMUFD_LIVEUPDATE_H

#include <linux/iommu.h>
#include <uapi/linux/iommufd_liveupdate.h>

struct iommufd_ctx;
struct iommufd_hw_pagetable;
struct iommufd_object;
struct iommufd_ucmd;
struct iopt_pages;

/* Room for the largest is what iommufd reads a command into */
union iommufd_liveupdate_cmd {
	struct iommu_hwpt_liveupdate_find find;
	struct iommu_hwpt_liveupdate_mark mark;
	struct iommu_ioas_liveupdate_areas areas;
};

#ifdef CONFIG_IOMMUFD_LIVEUPDATE

struct file *iommufd_liveupdate_open(void);
void iommufd_liveupdate_init_ctx(struct iommufd_ctx *ictx);
void iommufd_liveupdate_init(void);
void iommufd_liveupdate_exit(void);
int iommufd_liveupdate_mark(struct iommufd_ucmd *ucmd);
int iommufd_liveupdate_find(struct iommufd_ucmd *ucmd);
int iommufd_liveupdate_areas(struct iommufd_ucmd *ucmd);
int iommufd_liveupdate_claim(struct iommufd_ctx *ictx, struct device *dev);
bool iommufd_liveupdate_busy(struct iommufd_ctx *ictx, u32 id);
bool iommufd_liveupdate_put(struct iommufd_ctx *ictx,
			    struct iommufd_hw_pagetable *hwpt);
void iommufd_hwpt_restored_destroy(struct iommufd_object *obj);
void iommufd_liveupdate_revoke(struct iopt_pages *pages);

#else

static inline void iommufd_liveupdate_revoke(struct iopt_pages *pages)
{
}

static inline void iommufd_liveupdate_init_ctx(struct iommufd_ctx *ictx)
{
}

static inline void iommufd_liveupdate_init(void)
{
}

static inline void iommufd_liveupdate_exit(void)
{
}

static inline int iommufd_liveupdate_claim(struct iommufd_ctx *ictx,
					   struct device *dev)
{
	return iommu_device_claim_dma_owner(dev, ictx);
}

static inline bool iommufd_liveupdate_busy(struct iommufd_ctx *ictx, u32 id)
{
	return false;
}

static inline bool iommufd_liveupdate_put(struct iommufd_ctx *ictx,
					  struct iommufd_hw_pagetable *hwpt)
{
	return false;
}

#endif /* CONFIG_IOMMUFD_LIVEUPDATE */
#endif /* _DRIVERS_IOMMU_IOMMUFD_LIVEUPDATE_H */
