/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * IOMMU domains, devices and units in a Live Update: what iommufd, drivers of
 * devices and drivers of IOMMUs call. The story is told in
 * drivers/iommu/liveupdate.c.
 */
#ifndef _LINUX_IOMMU_LIVEUPDATE_H
#define _LINUX_IOMMU_LIVEUPDATE_H

#include <linux/errno.h>
#include <linux/kho/abi/iommu.h>
#include <linux/pci_liveupdate.h>
#include <linux/types.h>

struct device;
struct iommu_domain;
struct iommu_lists;
struct liveupdate_file_handler;
struct luo_file_set;

/**
 * struct iommu_liveupdate_ops - What a driver of IOMMUs does in a live update.
 * @domain_preserve: Keep the page table of @domain and describe it in @ser.
 * @domain_unpreserve: Undo @domain_preserve.
 * @device_check: Can @dev go on with its DMA through an update?
 * @device_unit: Say in @unit which unit translates for @dev (id, type).
 * @unit_preserve: Make room for the tables of a unit that stays on (root).
 * @unit_unpreserve: Undo @unit_preserve. No device is left in the tables.
 * @device_preserve: Make room for the entries of @dev in the tables of @unit, and
 *                   say in @entry what they allow it (flags). On an error @why is
 *                   set where it is about @dev.
 * @device_unpreserve: Undo @device_preserve.
 * @domain_restore: Make a domain of a page table that the previous kernel
 *                  preserved, for devices behind the IOMMU of @dev.
 * @entry_drop: Take the entry of a device that is not there any more out of the
 *              tables of @unit.
 *
 * Attaching a device to the restored domain that the hardware has it attached to
 * makes the driver know that, and does not touch the hardware.
 *
 * All are called in process context and may sleep. Those that return int return
 * 0 or a negative errno and leave everything as it was then. The preserving
 * ones are called under the lock of the IOMMU core's live update, those about
 * devices under the lock of the device's IOMMU group, too.
 */
struct iommu_liveupdate_ops {
	int (*domain_preserve)(struct iommu_domain *domain,
			       struct iommu_domain_ser *ser);
	void (*domain_unpreserve)(struct iommu_domain *domain);
	enum pci_liveupdate_why (*device_check)(struct device *dev);
	void (*device_unit)(struct device *dev, struct iommu_unit_ser *unit);
	int (*unit_preserve)(struct iommu_unit_ser *unit);
	void (*unit_unpreserve)(struct iommu_unit_ser *unit);
	int (*device_preserve)(struct device *dev, struct iommu_unit_ser *unit,
			       struct iommu_dev_ser *entry, const char **why);
	void (*device_unpreserve)(struct device *dev,
				  struct iommu_unit_ser *unit);
	struct iommu_domain *(*domain_restore)(struct device *dev,
					       const struct iommu_domain_ser *ser);
	void (*entry_drop)(const struct iommu_unit_ser *unit, u16 bdf);
};

/* Called with a device's entry in the list, that of its page table, and data */
typedef void (*iommu_liveupdate_fn_t)(const struct iommu_dev_ser *entry,
				      const struct iommu_domain_ser *domain,
				      void *data);

#ifdef CONFIG_IOMMU_LIVEUPDATE

/* For iommufd and drivers of devices */
int iommu_liveupdate_register(struct liveupdate_file_handler *fh);
void iommu_liveupdate_unregister(struct liveupdate_file_handler *fh);

int iommu_liveupdate_announce_domain(struct iommu_domain *domain,
				     const struct luo_file_set *files);
int iommu_liveupdate_preserve_domain(struct iommu_domain *domain, u32 *index);
void iommu_liveupdate_unpreserve_domain(struct iommu_domain *domain);
void iommu_liveupdate_spoil_domain(struct iommu_domain *domain);
int iommu_liveupdate_freeze_domain(struct iommu_domain *domain,
				   const char **why);
bool iommu_liveupdate_any_spoiled(void);
bool iommu_liveupdate_can_preserve_domain(struct iommu_domain *domain);

enum pci_liveupdate_why iommu_liveupdate_can_run(struct device *dev);
int iommu_liveupdate_check_device(struct device *dev, const char **why);
int iommu_liveupdate_preserve_device(struct device *dev,
				     const struct luo_file_set *files,
				     const char **why);
void iommu_liveupdate_unpreserve_device(struct device *dev);

struct iommu_domain *iommu_liveupdate_restored_domain(u32 index);
bool iommu_liveupdate_domain_busy(u32 index);
void iommu_liveupdate_drop_missing(u32 index);
void iommu_liveupdate_free_domain(struct iommu_domain *domain);
bool iommu_liveupdate_owns(struct device *dev);
int iommu_liveupdate_claim(struct device *dev, void *owner);
void iommu_liveupdate_release(struct device *dev);

/* For page tables and drivers of IOMMUs */
void *iommu_liveupdate_restore_page(phys_addr_t phys);
bool iommu_liveupdate_is_restored(struct iommu_domain *domain);
int iommu_liveupdate_check_leaf(phys_addr_t phys, u64 size);
const struct iommu_lists *
iommu_liveupdate_incoming_unit(u64 id, const struct iommu_liveupdate_ops *ops,
			       u32 *unit);
bool iommu_liveupdate_incoming_device(struct device *dev,
				      struct iommu_dev_ser *entry);
void iommu_liveupdate_drop_device(struct device *dev);
const struct iommu_unit_ser *iommu_liveupdate_outgoing_unit(u64 id);
void iommu_liveupdate_walk_outgoing(const struct iommu_unit_ser *unit,
				    iommu_liveupdate_fn_t fn, void *data);

#else

static inline int iommu_liveupdate_register(struct liveupdate_file_handler *fh)
{
	return 0;
}

static inline void
iommu_liveupdate_unregister(struct liveupdate_file_handler *fh)
{
}

static inline enum pci_liveupdate_why
iommu_liveupdate_can_run(struct device *dev)
{
	return PCI_LIVEUPDATE_IOMMU_DRIVER;
}

static inline int iommu_liveupdate_check_device(struct device *dev,
						const char **why)
{
	*why = "this kernel cannot preserve IOMMU domains";
	return -EOPNOTSUPP;
}

static inline int
iommu_liveupdate_preserve_device(struct device *dev,
				 const struct luo_file_set *files,
				 const char **why)
{
	return iommu_liveupdate_check_device(dev, why);
}

static inline void iommu_liveupdate_unpreserve_device(struct device *dev)
{
}

static inline bool iommu_liveupdate_any_spoiled(void)
{
	return false;
}

static inline void iommu_liveupdate_release(struct device *dev)
{
}

static inline bool iommu_liveupdate_is_restored(struct iommu_domain *domain)
{
	return false;
}

#endif /* CONFIG_IOMMU_LIVEUPDATE */
#endif /* _LINUX_IOMMU_LIVEUPDATE_H */
