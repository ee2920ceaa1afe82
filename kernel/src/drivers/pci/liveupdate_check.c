// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: Which PCI devices a Live Update takes
 *
 * Not every device can be preserved. Refused are virtual functions whose physical one
 * neither is of a driver that takes part nor is to be held; in idle mode, physical
 * functions with virtual ones enabled, which a reset would end; and devices whose DMA
 * the IOMMU cannot tell from another device's: those that share their IOMMU group with
 * anything but the bridges above them (the port of a switch without ACS is in the group
 * of what is below it), and those behind a bridge that puts its own requester ID on
 * their requests. &enum pci_liveupdate_why has all reasons.
 *
 * sysfs tells everybody about each device, in one word a file: ``liveupdate_idle``,
 * ``liveupdate_running`` and ``liveupdate_driver``. Reading them can neither refuse
 * nor delay anything, however often it is done, since no lock is taken that an
 * update tries, or that is held by a caller that waits for user space. It takes
 * the lock of the device's IOMMU group for as long as it takes to look at the
 * group's members, as reading the group's own attributes does. The device lock is
 * not among them: an update gives up when it cannot have that within a bound.
 *
 * What is read without the device lock stays valid all the same:
 *
 * - The device, the bridges above it and its SR-IOV state: kernfs keeps an
 *   attribute that is being read from being removed, and device_del() waits for
 *   that. What belongs to a device is freed with its last reference, later.
 * - Its IOMMU group and &struct dev_iommu: they are set before the device is
 *   marked as added, which is asked first, because an attempt that fails would
 *   take them back; and they go when device_del() has removed the attributes. A
 *   unit that is unplugged takes them from its devices, too, but does so after
 *   the devices behind it were removed.
 * - The group's members and what their IOMMU driver knows of them: the lock of
 *   the group.
 * - Its driver: the pointer is compared and never followed. A driver that takes
 *   part is in a list under RCU for as long as it is registered, and the check
 *   that it has for a device does not touch its driver data.
 * - Numbers, such as the size of a BAR or how many virtual functions are enabled,
 *   may change at any time. So may they after the file was read: what counts is
 *   what preserve finds.
 */

#include <linux/cleanup.h>
#include <linux/errno.h>
#include <linux/iommu.h>
#include <linux/iommu_liveupdate.h>
#include <linux/liveupdate.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/rculist.h>
#include <linux/sysfs.h>

#include "pci.h"

/* Drivers whose devices can be preserved: pci_liveupdate_driver; read under RCU */
static LIST_HEAD(pci_liveupdate_drivers);
static DEFINE_MUTEX(pci_liveupdate_drivers_lock);

/* The word is for programs and part of the ABI, the text is for the log. */
static const struct {
	const char *word;
	const char *text;
	int error;
} pci_liveupdate_whys[] = {
	[PCI_LIVEUPDATE_YES] = { "yes", "nothing", 0 },
	[PCI_LIVEUPDATE_NOT_READY] = { "not-ready",
		"is being added or removed", -ENODEV },
	[PCI_LIVEUPDATE_OFF] = { "off", "live update is off", -EOPNOTSUPP },
	[PCI_LIVEUPDATE_PF] = { "physical-function",
		"the driver of its physical function takes no part, and that is not to be held",
		-EOPNOTSUPP },
	[PCI_LIVEUPDATE_HAS_VFS] = { "has-virtual-functions",
		"would be reset, and has virtual functions enabled",
		-EOPNOTSUPP },
	[PCI_LIVEUPDATE_BARS] = { "bars",
		"it, its physical function or a bridge above has a BAR of unusual size",
		-EOPNOTSUPP },
	[PCI_LIVEUPDATE_NO_GROUP] = { "no-iommu-group",
		"has no IOMMU group", -ENODEV },
	[PCI_LIVEUPDATE_SHARED_GROUP] = { "shared-iommu-group",
		"not alone in its IOMMU group", -EXDEV },
	[PCI_LIVEUPDATE_DMA_ALIAS] = { "dma-alias",
		"its DMA uses another requester ID", -EXDEV },
	[PCI_LIVEUPDATE_NO_IOMMU] = { "no-iommu",
		"no IOMMU translates for it", -ENODEV },
	[PCI_LIVEUPDATE_IOMMU_DRIVER] = { "iommu-driver",
		"its IOMMU's driver takes no part", -EOPNOTSUPP },
	[PCI_LIVEUPDATE_IOMMU_ALIAS] = { "iommu-alias",
		"its IOMMU translates under another name", -EOPNOTSUPP },
	[PCI_LIVEUPDATE_PASID] = { "pasid",
		"PASIDs of it are attached to page tables", -EOPNOTSUPP },
	[PCI_LIVEUPDATE_PRI] = { "pri",
		"page requests of it, or of its physical function, are handled", -EOPNOTSUPP },
	[PCI_LIVEUPDATE_SILENT] = { "does-not-answer",
		"it did not answer when its translations were to be flushed", -EIO },
	[PCI_LIVEUPDATE_DIRECT] = { "direct-mapping",
		"firmware wants a direct mapping for it", -EOPNOTSUPP },
	[PCI_LIVEUPDATE_RESETTING] = { "resetting",
		"it is being reset", -EBUSY },
	[PCI_LIVEUPDATE_NO_DRIVER] = { "no-driver",
		"no driver is bound", -ENODEV },
	[PCI_LIVEUPDATE_OTHER_DRIVER] = { "other-driver",
		"its driver takes no part", -EOPNOTSUPP },
	[PCI_LIVEUPDATE_DISPLAY] = { "display",
		"is an Intel display device", -ENOENT },
	[PCI_LIVEUPDATE_INCOHERENT] = { "incoherent",
		"no IOMMU keeps its DMA in bounds", -EOPNOTSUPP },
};

/**
 * pci_liveupdate_why_text() - What a reason says in the log
 * @why: Reason.
 *
 * Context: Any context.
 * Return: a part of a sentence.
 */
const char *pci_liveupdate_why_text(enum pci_liveupdate_why why)
{
	return pci_liveupdate_whys[why].text;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_why_text);

/**
 * pci_liveupdate_why_error() - Which error a reason gives
 * @why: Reason.
 *
 * Context: Any context.
 * Return: 0 for %PCI_LIVEUPDATE_YES, else a negative errno.
 */
int pci_liveupdate_why_error(enum pci_liveupdate_why why)
{
	return pci_liveupdate_whys[why].error;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_why_error);

/* --- what a device is ------------------------------------------------------- */

static bool pci_liveupdate_is_above(struct pci_dev *bridge, struct pci_dev *pdev)
{
	while ((pdev = pci_upstream_bridge(pdev))) {
		if (pdev == bridge)
			return true;
	}

	return false;
}

/* Is this member of the group of @data neither it nor a bridge above it? */
static int pci_liveupdate_is_stranger(struct device *dev, void *data)
{
	struct pci_dev *pdev = data;

	return dev != &pdev->dev &&
	       !(dev_is_pci(dev) && pci_liveupdate_is_above(to_pci_dev(dev), pdev));
}

static int pci_liveupdate_other_alias(struct pci_dev *pdev, u16 alias, void *data)
{
	struct pci_dev *self = data;

	return alias != pci_dev_id(self);
}

/* Can the IOMMU tell this device's DMA from every other device's? */
static enum pci_liveupdate_why pci_liveupdate_check_dma(struct pci_dev *pdev)
{
	struct iommu_group *group = iommu_group_get(&pdev->dev);
	int shared;

	if (!group)
		return PCI_LIVEUPDATE_NO_GROUP;

	shared = iommu_group_for_each_dev(group, pdev,
					  pci_liveupdate_is_stranger);
	iommu_group_put(group);
	if (shared)
		return PCI_LIVEUPDATE_SHARED_GROUP;

	if (pci_for_each_dma_alias(pdev, pci_liveupdate_other_alias, pdev))
		return PCI_LIVEUPDATE_DMA_ALIAS;

	return PCI_LIVEUPDATE_YES;
}

/* --- drivers ---------------------------------------------------------------- */

void pci_liveupdate_add_driver(struct pci_liveupdate_driver *drv)
{
	guard(mutex)(&pci_liveupdate_drivers_lock);
	list_add_tail_rcu(&drv->list, &pci_liveupdate_drivers);
}

/* @drv, and what it calls, may go away afterwards. */
void pci_liveupdate_remove_driver(struct pci_liveupdate_driver *drv)
{
	scoped_guard(mutex, &pci_liveupdate_drivers_lock)
		list_del_rcu(&drv->list);
	synchronize_rcu();
}

/* Does the driver that the device is bound to take part, and with this device? */
enum pci_liveupdate_why pci_liveupdate_check_driver(struct pci_dev *pdev)
{
	struct pci_liveupdate_driver *drv;
	const struct device_driver *bound;

	if (!liveupdate_enabled())
		return PCI_LIVEUPDATE_OFF;

	if (!pci_dev_is_added(pdev))
		return PCI_LIVEUPDATE_NOT_READY;

	guard(rcu)();

	/* For comparison only: it may be unbound and freed just now */
	bound = READ_ONCE(pdev->dev.driver);
	if (!bound)
		return PCI_LIVEUPDATE_NO_DRIVER;

	list_for_each_entry_rcu(drv, &pci_liveupdate_drivers, list) {
		if (drv->driver == bound)
			return drv->check(pdev);
	}

	return PCI_LIVEUPDATE_OTHER_DRIVER;
}

/* --- the whole question --------------------------------------------------- */

/* What is there about a device because of which it cannot be preserved? */
enum pci_liveupdate_why pci_liveupdate_check(struct pci_dev *pdev,
					     enum pci_liveupdate_state mode)
{
	if (!liveupdate_enabled())
		return PCI_LIVEUPDATE_OFF;

	if (!pci_dev_is_added(pdev))
		return PCI_LIVEUPDATE_NOT_READY;

	if (pdev->is_virtfn && pci_liveupdate_check_driver(pci_physfn(pdev)) &&
	    !pci_liveupdate_may_hold(pci_physfn(pdev)))
		return PCI_LIVEUPDATE_PF;

	if (mode == PCI_LIVEUPDATE_IDLE && pci_num_vf(pdev))
		return PCI_LIVEUPDATE_HAS_VFS;

	if (pdev->is_virtfn && !pci_liveupdate_can_record(pci_physfn(pdev)))
		return PCI_LIVEUPDATE_BARS;

	for (struct pci_dev *dev = pdev; dev; dev = pci_upstream_bridge(dev)) {
		if (!pci_liveupdate_can_record(dev))
			return PCI_LIVEUPDATE_BARS;
	}

	return pci_liveupdate_check_dma(pdev);
}

/**
 * pci_liveupdate_can_preserve() - Is a device one that can be preserved?
 * @pdev: Device, bound to the driver that calls.
 * @mode: %PCI_LIVEUPDATE_IDLE or %PCI_LIVEUPDATE_RUNNING.
 *
 * Context: Process context, may sleep.
 * Return: 0, or the error with which pci_liveupdate_preserve() would refuse it
 * because of what it is. Nothing is logged.
 */
int pci_liveupdate_can_preserve(struct pci_dev *pdev, enum pci_liveupdate_state mode)
{
	return pci_liveupdate_why_error(pci_liveupdate_check(pdev, mode));
}
EXPORT_SYMBOL_GPL(pci_liveupdate_can_preserve);

/* --- sysfs ------------------------------------------------------------------ */

static ssize_t liveupdate_show(struct device *dev,
			       struct device_attribute *attr, char *buf)
{
	struct pci_dev *pdev = to_pci_dev(dev);
	enum pci_liveupdate_state outgoing = pci_liveupdate_outgoing(pdev);
	enum pci_liveupdate_state incoming = pci_liveupdate_incoming(pdev);
	int len = 0;

	if (!outgoing && !incoming)
		return sysfs_emit(buf, "none\n");
	if (incoming)
		len += sysfs_emit_at(buf, len, "incoming %s\n",
				     pci_liveupdate_state_name(incoming));
	if (outgoing)
		len += sysfs_emit_at(buf, len, "outgoing %s\n",
				     pci_liveupdate_state_name(outgoing));

	return len;
}
static DEVICE_ATTR_RO(liveupdate);

static ssize_t pci_liveupdate_emit(char *buf, enum pci_liveupdate_why why)
{
	return sysfs_emit(buf, "%s\n", pci_liveupdate_whys[why].word);
}

static ssize_t liveupdate_idle_show(struct device *dev,
				    struct device_attribute *attr, char *buf)
{
	return pci_liveupdate_emit(buf, pci_liveupdate_check(to_pci_dev(dev),
							     PCI_LIVEUPDATE_IDLE));
}
static DEVICE_ATTR_RO(liveupdate_idle);

static ssize_t liveupdate_running_show(struct device *dev,
				       struct device_attribute *attr, char *buf)
{
	enum pci_liveupdate_why why = pci_liveupdate_check(to_pci_dev(dev),
							   PCI_LIVEUPDATE_RUNNING);

	return pci_liveupdate_emit(buf, why ?: iommu_liveupdate_can_run(dev));
}
static DEVICE_ATTR_RO(liveupdate_running);

static ssize_t liveupdate_driver_show(struct device *dev,
				      struct device_attribute *attr, char *buf)
{
	return pci_liveupdate_emit(buf,
				   pci_liveupdate_check_driver(to_pci_dev(dev)));
}
static DEVICE_ATTR_RO(liveupdate_driver);

static struct attribute *pci_liveupdate_attrs[] = {
	&dev_attr_liveupdate.attr,
	&dev_attr_liveupdate_idle.attr,
	&dev_attr_liveupdate_running.attr,
	&dev_attr_liveupdate_driver.attr,
	NULL,
};

/* A bridge is preserved for what is below it, and never for itself. */
static umode_t pci_liveupdate_attr_visible(struct kobject *kobj,
					   struct attribute *attr, int n)
{
	struct pci_dev *pdev = to_pci_dev(kobj_to_dev(kobj));

	if (attr != &dev_attr_liveupdate.attr &&
	    pdev->hdr_type != PCI_HEADER_TYPE_NORMAL)
		return 0;

	return attr->mode;
}

const struct attribute_group pci_liveupdate_attr_group = {
	.attrs = pci_liveupdate_attrs,
	.is_visible = pci_liveupdate_attr_visible,
};
