/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * IOMMU domains, devices and units in a Live Update: the lists that cross, and what
 * the parts of it share. The story is told in liveupdate.c.
 */
#ifndef _DRIVERS_IOMMU_LIVEUPDATE_LISTS_H
#define _DRIVERS_IOMMU_LIVEUPDATE_LISTS_H

#include <linux/io.h>
#include <linux/kho/check/iommu.h>
#include <linux/mutex.h>

struct device;
struct iommu_domain;
struct iommu_group;
struct liveupdate_flb;

/* liveupdate.c: the lists, under this lock */
extern struct mutex iommu_liveupdate_lock;
extern struct iommu_ser *iommu_liveupdate_outgoing;
extern struct iommu_lists iommu_liveupdate_lists;
extern struct liveupdate_flb iommu_liveupdate_flb;

int iommu_liveupdate_array_add(struct iommu_array_ser *array, size_t size,
			       u32 *index);
struct iommu_dev_ser *
iommu_liveupdate_find_device(const struct iommu_ser *ser, u32 segment, u16 bdf);
struct iommu_unit_ser *
iommu_liveupdate_find_unit(const struct iommu_ser *ser, u64 id);

static inline void *iommu_array(const struct iommu_array_ser *array)
{
	return phys_to_virt(array->base);
}

static inline struct iommu_domain_ser *
iommu_ser_domain(const struct iommu_ser *ser, u32 index)
{
	return (struct iommu_domain_ser *)iommu_array(&ser->domains) + index;
}

static inline struct iommu_dev_ser *
iommu_ser_device(const struct iommu_ser *ser, u32 index)
{
	return (struct iommu_dev_ser *)iommu_array(&ser->devices) + index;
}

static inline struct iommu_unit_ser *iommu_ser_unit(const struct iommu_ser *ser,
						    u32 index)
{
	return (struct iommu_unit_ser *)iommu_array(&ser->units) + index;
}

/* liveupdate_incoming.c */
struct iommu_ser *iommu_liveupdate_get_incoming(void);
void iommu_liveupdate_put_incoming(void);
void iommu_liveupdate_block(struct iommu_group *group, struct device *dev);
bool iommu_liveupdate_give_up_devices(struct iommu_ser *ser);

/* liveupdate_restored.c */
struct iommu_domain *iommu_liveupdate_restore(const struct iommu_ser *ser,
					      struct device *dev, u32 index);
void iommu_liveupdate_free_unused(void);

#endif /* _DRIVERS_IOMMU_LIVEUPDATE_LISTS_H */
