// SPDX-License-Identifier: GPL-2.0-only

/*
 * IOMMU units, devices and groups that came from the previous kernel. See DOC in
 * liveupdate.c.
 *
 * The IOMMU's driver finds its unit in the list when it is initialized, and takes
 * over the tables as they are. When the IOMMU group of a device is set up that is
 * in the list and that the PCI core recognizes, then the group starts attached to
 * the restored domain: it gets neither its default nor a blocking domain. The live
 * update owns its DMA, which keeps all others from claiming it, until iommufd
 * claims the group for the iommufd that was preserved with it.
 *
 * The list of incoming devices tells which page tables the hardware uses. An entry
 * leaves it when the device's group leaves the restored domain, when the device is
 * removed, and when it turns out that it is not there; by then the IOMMU's driver
 * has made sure that the hardware does not use the page table for it.
 */

#define pr_fmt(fmt) "iommu: live update: " fmt

#include <linux/cleanup.h>
#include <linux/iommu.h>
#include <linux/iommu_liveupdate.h>
#include <linux/liveupdate.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/pci_liveupdate.h>

#include "iommu-priv.h"
#include "liveupdate.h"
#include "liveupdate_lists.h"

/* The owner of groups that came from the previous kernel */
static char iommu_liveupdate_owner;

/* A reference to the lists is held for devices that use their page tables */
static bool iommu_liveupdate_held;

/* What the driver does whose units came from the previous kernel */
static const struct iommu_liveupdate_ops *iommu_liveupdate_driver;

/* The incoming lists, or NULL when nothing is incoming (any more). */
struct iommu_ser *iommu_liveupdate_get_incoming(void)
{
	void *obj;

	if (liveupdate_flb_get_incoming(&iommu_liveupdate_flb, &obj))
		return NULL;

	return obj;
}

void iommu_liveupdate_put_incoming(void)
{
	liveupdate_flb_put_incoming(&iommu_liveupdate_flb);
}

/**
 * iommu_liveupdate_incoming_unit() - Did the previous kernel leave a unit on?
 * @id:   Physical address of its registers.
 * @ops:  Of the driver that calls.
 * @unit: Where to put its place in the lists.
 *
 * Context: Process context, may sleep; before any file can be finished.
 * Return: the previous kernel's lists if it did, or NULL.
 */
const struct iommu_lists *
iommu_liveupdate_incoming_unit(u64 id, const struct iommu_liveupdate_ops *ops,
			       u32 *unit)
{
	struct iommu_ser *ser = iommu_liveupdate_get_incoming();
	struct iommu_unit_ser *found;

	if (!ser)
		return NULL;

	found = iommu_liveupdate_find_unit(ser, id);
	if (found) {
		*unit = found - iommu_liveupdate_lists.units;
		iommu_liveupdate_driver = ops;
	}
	iommu_liveupdate_put_incoming();

	return found ? &iommu_liveupdate_lists : NULL;
}

/**
 * iommu_liveupdate_incoming_device() - Does a device's DMA come from the
 *                                      previous kernel?
 * @dev:   Device.
 * @entry: Where to put what the previous kernel said about it.
 *
 * The PCI core has the last word: it knows whether the device that is there now
 * is the one that was preserved, and whether it is finished.
 *
 * Context: Process context, may sleep.
 * Return: true if it does, and @entry is filled in.
 */
bool iommu_liveupdate_incoming_device(struct device *dev,
				      struct iommu_dev_ser *entry)
{
	struct iommu_dev_ser *found;
	enum pci_liveupdate_state state;
	struct iommu_ser *ser;
	struct pci_dev *pdev;

	if (!dev_is_pci(dev))
		return false;

	pdev = to_pci_dev(dev);
	state = pci_liveupdate_incoming(pdev);
	if (state != PCI_LIVEUPDATE_RUNNING && state != PCI_LIVEUPDATE_BRIDGE)
		return false;

	ser = iommu_liveupdate_get_incoming();
	if (!ser)
		return false;

	found = iommu_liveupdate_find_device(ser, pci_domain_nr(pdev->bus),
					     pci_dev_id(pdev));
	if (found)
		*entry = *found;
	iommu_liveupdate_put_incoming();

	return found;
}

/* Has the group a device that runs, and not only the bridges above one? */
static bool iommu_liveupdate_group_runs(struct iommu_group *group)
{
	struct group_device *gdev;

	lockdep_assert_held(&group->mutex);

	for_each_group_device(group, gdev) {
		struct iommu_dev_ser entry;

		if (iommu_liveupdate_incoming_device(gdev->dev, &entry) &&
		    pci_liveupdate_incoming(to_pci_dev(gdev->dev)) ==
		    PCI_LIVEUPDATE_RUNNING)
			return true;
	}

	return false;
}

/* The device of an entry, with a reference; NULL if there is none at its address */
static struct pci_dev *
iommu_liveupdate_get_pdev(const struct iommu_dev_ser *entry)
{
	return pci_get_domain_bus_and_slot(entry->segment,
					   PCI_BUS_NUM(entry->bdf),
					   entry->bdf & 0xff);
}

static bool iommu_liveupdate_any_runs(const struct iommu_ser *ser)
{
	for (u32 i = 0; i < ser->devices.count; i++) {
		struct iommu_dev_ser *entry = iommu_ser_device(ser, i);
		struct pci_dev *pdev;

		if (!entry->state)
			continue;
		pdev = iommu_liveupdate_get_pdev(entry);
		pci_dev_put(pdev);
		if (pdev)
			return true;
	}

	return false;
}

/*
 * The lists are kept until no device uses a page table of theirs, whatever the
 * previous kernel said of how many files need them. May they go now?
 */
static bool iommu_liveupdate_let_go(const struct iommu_ser *ser)
{
	lockdep_assert_held(&iommu_liveupdate_lock);

	if (!iommu_liveupdate_held || iommu_liveupdate_any_runs(ser))
		return false;
	iommu_liveupdate_held = false;

	return true;
}

typedef void (*iommu_liveupdate_entry_fn_t)(const struct iommu_ser *ser,
					    struct iommu_dev_ser *entry,
					    struct pci_dev *pdev);

/* Take the entry of a device out of the list, by @fn; the last lets the lists go. */
static void iommu_liveupdate_end_entry(struct device *dev,
				       iommu_liveupdate_entry_fn_t fn)
{
	struct iommu_ser *ser = iommu_liveupdate_get_incoming();
	struct iommu_dev_ser *entry;
	struct pci_dev *pdev;
	bool let_go = false;

	if (!ser)
		return;

	if (dev_is_pci(dev)) {
		guard(mutex)(&iommu_liveupdate_lock);
		pdev = to_pci_dev(dev);
		entry = iommu_liveupdate_find_device(ser,
						     pci_domain_nr(pdev->bus),
						     pci_dev_id(pdev));
		if (entry)
			fn(ser, entry, pdev);
		let_go = iommu_liveupdate_let_go(ser);
	}

	if (let_go)
		iommu_liveupdate_put_incoming();
	iommu_liveupdate_put_incoming();
}

static void iommu_liveupdate_forget(const struct iommu_ser *ser,
				    struct iommu_dev_ser *entry,
				    struct pci_dev *pdev)
{
	entry->state = IOMMU_SER_DEV_NONE;
}

/* The hardware does not use the restored page table for this device any more. */
static void iommu_liveupdate_left(struct device *dev)
{
	iommu_liveupdate_end_entry(dev, iommu_liveupdate_forget);
}

/*
 * The DMA of a member of a group ends, while others may go on: it is attached to
 * nothing. A bridge does nothing by itself, and forwards for the others.
 */
void iommu_liveupdate_block(struct iommu_group *group, struct device *dev)
{
	struct iommu_domain *blocked = dev_iommu_ops(dev)->blocked_domain;
	struct pci_dev *pdev = to_pci_dev(dev);

	lockdep_assert_held(&group->mutex);

	if (pdev->hdr_type == PCI_HEADER_TYPE_NORMAL) {
		pci_liveupdate_set_read_only(pdev, false);
		pci_clear_master(pdev);
	}
	/* Else bus mastering is off, and the page table is its until the next boot */
	if (blocked && !blocked->ops->attach_dev(blocked, dev, group->domain))
		iommu_liveupdate_left(dev);
}

/*
 * The member of a group whose page table it gets: the first device that runs, or
 * else the first bridge that came with a page table.
 */
static struct device *
iommu_liveupdate_find_running(struct iommu_group *group,
			      struct iommu_dev_ser *entry)
{
	struct device *first = NULL;
	struct group_device *gdev;
	struct iommu_dev_ser found;

	for_each_group_device(group, gdev) {
		bool runs;

		if (!iommu_liveupdate_incoming_device(gdev->dev, &found))
			continue;
		runs = pci_liveupdate_incoming(to_pci_dev(gdev->dev)) ==
		       PCI_LIVEUPDATE_RUNNING;
		if (first && !runs)
			continue;
		first = gdev->dev;
		*entry = found;
		if (runs)
			break;
	}

	return first;
}

/*
 * Each member is attached to the page table that it came with, as the hardware
 * has it. A group has one: whoever came with another cannot be kept apart from
 * the rest in this kernel, which sees other groups than the previous one did, and
 * goes no further.
 */
static int iommu_liveupdate_attach_group(const struct iommu_ser *ser,
					 struct iommu_group *group,
					 struct iommu_domain *domain,
					 struct device *first)
{
	struct group_device *gdev;
	int ret;

	/* One that is not known again has no entry in the IOMMU's tables any more */
	for_each_group_device(group, gdev) {
		struct iommu_domain *own;
		struct iommu_dev_ser entry;

		if (!iommu_liveupdate_incoming_device(gdev->dev, &entry))
			continue;
		own = iommu_liveupdate_restore(ser, gdev->dev, entry.domain);
		if (IS_ERR(own))
			return PTR_ERR(own);
		ret = own->ops->attach_dev(own, gdev->dev, NULL);
		if (ret)
			return ret;
		if (own == domain)
			continue;
		dev_err(gdev->dev, "live update: is in one IOMMU group with %s now, and has another page table: its DMA ends\n",
			dev_name(first));
		iommu_liveupdate_block(group, gdev->dev);
	}

	group->domain = domain;
	group->owner = &iommu_liveupdate_owner;
	group->owner_cnt = 1;

	return 0;
}

/*
 * The group gets its first domain: is it one with a device that is running? Then
 * it is attached to its restored domain, and true is returned.
 */
bool iommu_liveupdate_setup_group(struct iommu_group *group)
{
	struct iommu_ser *ser = iommu_liveupdate_get_incoming();
	struct iommu_domain *domain;
	struct iommu_dev_ser entry;
	struct device *dev;
	int ret;

	lockdep_assert_held(&group->mutex);

	if (!ser)
		return false;

	dev = iommu_liveupdate_find_running(group, &entry);
	if (!dev) {
		iommu_liveupdate_put_incoming();
		return false;
	}

	domain = iommu_liveupdate_restore(ser, dev, entry.domain);
	ret = PTR_ERR_OR_ZERO(domain);
	if (!ret)
		ret = iommu_liveupdate_attach_group(ser, group, domain, dev);
	if (ret)
		panic("iommu: live update: the DMA of %s goes on and cannot be taken over (%pe)\n",
		      dev_name(dev), ERR_PTR(ret));
	iommu_liveupdate_put_incoming();

	dev_info(dev, "live update: attached to the page table of the previous kernel\n");

	return true;
}

/* The group was attached to another domain than the restored one. */
void iommu_liveupdate_leave_domain(struct iommu_group *group)
{
	struct group_device *gdev;

	if (!group->domain || !iommu_liveupdate_is_restored(group->domain))
		return;

	for_each_group_device(group, gdev)
		iommu_liveupdate_left(gdev->dev);
}

/*
 * A device has left the group, which is going to detach it. Is there none any
 * more for which the live update owns the group? Then its ownership has to end.
 */
bool iommu_liveupdate_leave_group(struct iommu_group *group, struct device *dev)
{
	lockdep_assert_held(&group->mutex);

	iommu_liveupdate_left(dev);

	return group->owner == &iommu_liveupdate_owner &&
	       !iommu_liveupdate_group_runs(group);
}

/*
 * An owner lets go of a group that is still attached to its restored domain,
 * because binding the device failed: the live update takes it back.
 */
bool iommu_liveupdate_keep_owner(struct iommu_group *group)
{
	if (group->owner == &iommu_liveupdate_owner || !group->domain ||
	    !iommu_liveupdate_is_restored(group->domain))
		return false;

	group->owner = &iommu_liveupdate_owner;
	group->owner_cnt = 1;

	return true;
}

/* A port came with the page table of a device below it that is not there */
static void __init iommu_liveupdate_release_bridge(struct pci_dev *pdev)
{
	struct iommu_group *group = pdev->dev.iommu_group;
	bool runs;

	scoped_guard(mutex, &group->mutex)
		runs = iommu_liveupdate_group_runs(group);
	if (!runs)
		iommu_liveupdate_release(&pdev->dev);
}

/* It was stopped, because the IOMMU could not go on with it, or not with it alone. */
static void __init iommu_liveupdate_give_up(struct pci_dev *pdev)
{
	if (pci_liveupdate_incoming(pdev) != PCI_LIVEUPDATE_RUNNING ||
	    READ_ONCE(pdev->liveupdate.read_only))
		return;

	guard(device)(&pdev->dev);
	pci_liveupdate_abandon(pdev);
}

/*
 * All IOMMUs are initialized, and no driver has a device yet. Whatever went
 * wrong up to here (no memory, no group, an IOMMU that could not be used), a
 * running device that was not taken over must not go on.
 */
static int __init iommu_liveupdate_check_devices(void)
{
	struct iommu_ser *ser = iommu_liveupdate_get_incoming();
	struct pci_dev *each = NULL;

	if (!ser)
		return 0;

	for_each_pci_dev(each)
		iommu_liveupdate_give_up(each);

	for (u32 i = 0; i < ser->devices.count; i++) {
		struct iommu_dev_ser *entry = iommu_ser_device(ser, i);
		struct pci_dev *pdev;

		if (!entry->state)
			continue;
		pdev = iommu_liveupdate_get_pdev(entry);
		if (pdev && !iommu_liveupdate_owns(&pdev->dev))
			panic("iommu: live update: the DMA of %s goes on and was not taken over\n",
			      pci_name(pdev));
		if (!pdev)
			pr_err("%04x:%02x:%02x.%x was preserved and is not there, its DMA may go on into its memory\n",
			       entry->segment, PCI_BUS_NUM(entry->bdf),
			       PCI_SLOT(entry->bdf), PCI_FUNC(entry->bdf));
		else
			iommu_liveupdate_release_bridge(pdev);
		pci_dev_put(pdev);
	}

	scoped_guard(mutex, &iommu_liveupdate_lock)
		iommu_liveupdate_held = iommu_liveupdate_any_runs(ser);
	if (!iommu_liveupdate_held)
		iommu_liveupdate_put_incoming();

	return 0;
}

/* After pci_iommu_init(), which arch/ has at this level, and before drivers */
rootfs_initcall(iommu_liveupdate_check_devices);

/**
 * iommu_liveupdate_owns() - Does a device's DMA wait to be taken over?
 * @dev: Device, owned by the caller.
 *
 * Context: Process context, may sleep.
 * Return: true if the live update owns the DMA of the device's IOMMU group.
 */
bool iommu_liveupdate_owns(struct device *dev)
{
	struct iommu_group *group = dev->iommu_group;

	if (!group)
		return false;

	guard(mutex)(&group->mutex);

	return group->owner == &iommu_liveupdate_owner;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_owns);

/**
 * iommu_liveupdate_claim() - Take the DMA of a device over
 * @dev:   Device for which iommu_liveupdate_owns(), owned by the caller.
 * @owner: As for iommu_device_claim_dma_owner(), which this stands for.
 *
 * The device's group stays attached to its restored domain.
 *
 * Context: Process context, may sleep.
 * Return: 0, -EPERM when another has claimed it, -EOPNOTSUPP when the IOMMU's
 * driver has no blocking domain.
 */
int iommu_liveupdate_claim(struct device *dev, void *owner)
{
	struct iommu_group *group = dev->iommu_group;
	struct iommu_domain *blocked = dev_iommu_ops(dev)->blocked_domain;

	if (!blocked)
		return -EOPNOTSUPP;

	guard(mutex)(&group->mutex);

	if (group->owner != &iommu_liveupdate_owner)
		return -EPERM;

	/* What the group is attached to when iommufd detaches it */
	group->blocking_domain = blocked;
	group->owner = owner;

	return 0;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_claim);

/**
 * iommu_liveupdate_release() - Nobody will take the DMA of a device over
 * @dev: Device, whose bus mastering was turned off.
 *
 * If the live update owns the DMA of the device's group, it lets go of it: the
 * group is attached to its default domain. Not so if another member still runs,
 * whose DMA would go there; then @dev alone is attached to nothing.
 *
 * Context: Process context, may sleep.
 */
void iommu_liveupdate_release(struct device *dev)
{
	static DEFINE_MUTEX(lock);
	struct iommu_group *group = dev->iommu_group;

	/* Only one of the last two finds that there is no other */
	guard(mutex)(&lock);

	if (!iommu_liveupdate_owns(dev))
		return;

	scoped_guard(mutex, &group->mutex) {
		if (iommu_liveupdate_group_runs(group)) {
			iommu_liveupdate_block(group, dev);
			return;
		}
	}
	iommu_device_release_dma_owner(dev);
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_release);

static void iommu_liveupdate_drop(const struct iommu_ser *ser,
				  struct iommu_dev_ser *entry)
{
	entry->state = IOMMU_SER_DEV_NONE;

	/* No driver: this machine does not have the unit that the list names */
	if (iommu_liveupdate_driver)
		iommu_liveupdate_driver->entry_drop(iommu_ser_unit(ser, entry->unit),
						    entry->bdf);
}

static void iommu_liveupdate_stop_and_drop(const struct iommu_ser *ser,
					   struct iommu_dev_ser *entry,
					   struct pci_dev *pdev)
{
	if (pdev->hdr_type == PCI_HEADER_TYPE_NORMAL) {
		pci_liveupdate_set_read_only(pdev, false);
		pci_clear_master(pdev);
		pci_liveupdate_end_services(pdev);
	}
	iommu_liveupdate_drop(ser, entry);
}

/*
 * A device that is there, but is not the one that was preserved, or the IOMMU
 * does not translate for it. Its default domain may let pass whatever it does:
 * so it must have stopped before, and have forgotten what it had translated. A
 * bridge does nothing by itself.
 */
void iommu_liveupdate_drop_device(struct device *dev)
{
	iommu_liveupdate_end_entry(dev, iommu_liveupdate_stop_and_drop);
}

static void iommu_liveupdate_drop_absent(struct iommu_ser *ser,
					 struct iommu_dev_ser *entry)
{
	struct pci_dev *pdev;

	guard(mutex)(&iommu_liveupdate_lock);

	if (!entry->state)
		return;

	pdev = iommu_liveupdate_get_pdev(entry);
	if (!pdev)
		iommu_liveupdate_drop(ser, entry);
	pci_dev_put(pdev);
}

/*
 * The lists end, and a device still runs, which was not there when references were
 * taken for those that do: its DMA ends here. It stays attached, to a page table that
 * is never freed, and with that nobody else's.
 */
static bool iommu_liveupdate_end_late(struct iommu_dev_ser *entry)
{
	struct pci_dev *pdev;

	if (!entry->state)
		return false;

	pdev = iommu_liveupdate_get_pdev(entry);
	if (pdev && pdev->hdr_type == PCI_HEADER_TYPE_NORMAL) {
		pci_liveupdate_set_read_only(pdev, false);
		pci_clear_master(pdev);
		pci_err(pdev, "live update: its session has ended, and with it its DMA; it belongs to nobody until the next boot\n");
	}
	pci_dev_put(pdev);

	return true;
}

/* The lists end. Returns whether a device still uses a page table of theirs. */
bool iommu_liveupdate_give_up_devices(struct iommu_ser *ser)
{
	bool used = false;

	for (u32 i = 0; i < ser->devices.count; i++) {
		struct iommu_dev_ser *entry = iommu_ser_device(ser, i);

		iommu_liveupdate_drop_absent(ser, entry);
		if (iommu_liveupdate_end_late(entry))
			used = true;
	}

	return used;
}

/**
 * iommu_liveupdate_drop_missing() - Give up devices that are not there
 * @index: Place in the list of their page table's domain.
 *
 * A device may have been taken out of the machine while it had no kernel. If it
 * is there after all, and only was not found, its DMA is blocked from now on.
 *
 * Context: Process context, may sleep.
 */
void iommu_liveupdate_drop_missing(u32 index)
{
	struct iommu_ser *ser = iommu_liveupdate_get_incoming();

	if (!ser)
		return;

	for (u32 i = 0; i < ser->devices.count; i++) {
		struct iommu_dev_ser *entry = iommu_ser_device(ser, i);

		if (entry->domain == index)
			iommu_liveupdate_drop_absent(ser, entry);
	}
	iommu_liveupdate_put_incoming();
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_drop_missing);
