// SPDX-License-Identifier: GPL-2.0-only

/*
 * IOMMU domains, devices and units that are preserved for the next kernel. See
 * DOC in liveupdate.c.
 *
 * iommufd preserves a domain: the IOMMU's driver keeps all pages of its page
 * table, and iommufd sees to it that nobody changes it any more and that all
 * memory in it is preserved, too. Then a driver (vfio-pci) preserves a device
 * that is attached to such a domain: with it its whole IOMMU group, which cannot
 * be attached to anything else until that is undone, and the unit that
 * translates for it. At the jump the IOMMU's driver leaves a unit of the list on,
 * with entries for the devices of the list and for no others; all other units it
 * turns off.
 */

#define pr_fmt(fmt) "iommu: live update: " fmt

#include <linux/cleanup.h>
#include <linux/iommu.h>
#include <linux/iommu_liveupdate.h>
#include <linux/kexec.h>
#include <linux/liveupdate.h>
#include <linux/pci.h>
#include <linux/pci_liveupdate.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/xarray.h>

#include "iommu-priv.h"
#include "liveupdate.h"
#include "liveupdate_lists.h"

/**
 * struct iommu_liveupdate_domain - A domain that goes to the next kernel.
 * @index:   Its place in the list.
 * @devices: How many preserved groups are attached to it.
 * @listed:  It has that place, and its tables were preserved.
 * @spoiled: It was changed since, and its tables are not preserved any more.
 * @files:   Files of the session that it belongs to.
 */
struct iommu_liveupdate_domain {
	u32 index;
	u32 devices;
	bool listed;
	bool spoiled;
	const struct luo_file_set *files;
};

/* Domains that go to the next kernel: iommu_liveupdate_domain by iommu_domain */
static DEFINE_XARRAY(iommu_liveupdate_preserved);

/* --- domains ---------------------------------------------------------------- */

/**
 * iommu_liveupdate_can_preserve_domain() - Does the IOMMU's driver take part?
 * @domain: Paging domain.
 *
 * Context: Any context.
 * Return: true if it does.
 */
bool iommu_liveupdate_can_preserve_domain(struct iommu_domain *domain)
{
	return domain->owner && domain->owner->liveupdate;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_can_preserve_domain);

static int iommu_liveupdate_add_domain(struct iommu_ser *ser,
				       struct iommu_domain *domain,
				       struct iommu_liveupdate_domain *lu)
{
	struct iommu_domain_ser *entry;
	int ret;

	ret = iommu_liveupdate_array_add(&ser->domains,
					 sizeof(struct iommu_domain_ser),
					 &lu->index);
	if (ret)
		return ret;

	entry = iommu_ser_domain(ser, lu->index);
	memset(entry, 0, sizeof(*entry));
	ret = domain->owner->liveupdate->domain_preserve(domain, entry);
	if (ret) {
		memset(entry, 0, sizeof(*entry));
		return ret;
	}

	ser->domains.count = max(ser->domains.count, lu->index + 1);
	lu->listed = true;

	return 0;
}

/**
 * iommu_liveupdate_announce_domain() - A domain is going to be preserved
 * @domain: Paging domain that iommu_liveupdate_can_preserve_domain().
 * @files:  Files of the session, from the arguments of the caller's preserve().
 *          Devices that are attached to it belong to the same session.
 *
 * From now on iommu_liveupdate_spoil_domain() is heeded: what the caller looks
 * at after this, under the locks of those who call that, stays as it is or makes
 * iommu_liveupdate_preserve_domain() fail. iommu_liveupdate_unpreserve_domain()
 * undoes it.
 *
 * Context: Process context, may sleep.
 * Return: 0; -ENOMEM; -EBUSY when it is preserved.
 */
int iommu_liveupdate_announce_domain(struct iommu_domain *domain,
				     const struct luo_file_set *files)
{
	struct iommu_liveupdate_domain *lu;
	int ret;

	lu = kzalloc_obj(*lu);
	if (!lu)
		return -ENOMEM;
	lu->files = files;

	scoped_guard(mutex, &iommu_liveupdate_lock)
		ret = xa_insert(&iommu_liveupdate_preserved,
				(unsigned long)domain, lu, GFP_KERNEL);
	if (ret)
		kfree(lu);

	return ret;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_announce_domain);

/**
 * iommu_liveupdate_preserve_domain() - Keep a domain for the next kernel
 * @domain: Domain that was announced.
 * @index:  Where to put the domain's place in the list.
 *
 * The caller is in the preserve() of a file whose handler it registered with
 * iommu_liveupdate_register(), and until iommu_liveupdate_unpreserve_domain()
 * it keeps @domain from being freed, mapped and unmapped. It has made sure that
 * all memory that @domain maps is preserved, and stays so.
 *
 * The time that it takes grows with the number of tables in the page table.
 *
 * Context: Process context, may sleep.
 * Return: 0; -EOPNOTSUPP for a domain of a kind that cannot be preserved;
 * -ENOSPC or -ENOMEM when there is no room; -ESTALE when it was spoiled since;
 * -ENOENT when called outside of a file's preserve().
 */
int iommu_liveupdate_preserve_domain(struct iommu_domain *domain, u32 *index)
{
	struct iommu_liveupdate_domain *lu;
	void *ser;
	int ret;

	ret = liveupdate_flb_get_outgoing(&iommu_liveupdate_flb, &ser);
	if (ret)
		return ret;

	scoped_guard(mutex, &iommu_liveupdate_lock) {
		lu = xa_load(&iommu_liveupdate_preserved, (unsigned long)domain);
		ret = lu->spoiled ? -ESTALE :
				    iommu_liveupdate_add_domain(ser, domain, lu);
		if (!ret)
			*index = lu->index;
	}
	liveupdate_flb_put_outgoing(&iommu_liveupdate_flb);

	return ret;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_preserve_domain);

/**
 * iommu_liveupdate_unpreserve_domain() - Undo iommu_liveupdate_announce_domain()
 *                                       and iommu_liveupdate_preserve_domain()
 * @domain: Domain that was announced. No device that is attached to it is
 *          preserved.
 *
 * Context: Process context, may sleep.
 */
void iommu_liveupdate_unpreserve_domain(struct iommu_domain *domain)
{
	struct iommu_liveupdate_domain *lu;
	struct iommu_domain_ser *entry;

	guard(mutex)(&iommu_liveupdate_lock);

	lu = xa_erase(&iommu_liveupdate_preserved, (unsigned long)domain);
	if (WARN_ON(!lu || lu->devices))
		return;

	if (lu->listed && !lu->spoiled)
		domain->owner->liveupdate->domain_unpreserve(domain);
	if (lu->listed) {
		entry = iommu_ser_domain(iommu_liveupdate_outgoing, lu->index);
		memset(entry, 0, sizeof(*entry));
	}
	kfree(lu);
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_unpreserve_domain);

/**
 * iommu_liveupdate_spoil_domain() - A preserved domain has to change after all
 * @domain: Domain, preserved or not.
 *
 * To be called before it changes, where that cannot be refused: the mapping of
 * a BAR is revoked when its device loses it. A spoiled domain cannot go to the
 * next kernel until it was unpreserved and preserved again.
 *
 * Context: Process context, may sleep.
 */
void iommu_liveupdate_spoil_domain(struct iommu_domain *domain)
{
	struct iommu_liveupdate_domain *lu;

	guard(mutex)(&iommu_liveupdate_lock);

	lu = xa_load(&iommu_liveupdate_preserved, (unsigned long)domain);
	if (!lu || lu->spoiled)
		return;

	if (lu->listed)
		domain->owner->liveupdate->domain_unpreserve(domain);
	lu->spoiled = true;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_spoil_domain);

/**
 * iommu_liveupdate_freeze_domain() - Can a preserved domain go now?
 * @domain: Preserved domain.
 * @why:    Where to put what is against it.
 *
 * Context: Process context, may sleep; from a check() in reboot(2).
 * Return: 0, or -EINVAL when the domain was spoiled, or when the kernel that is
 * loaded could not be told about it, because kexec_load(2) loaded it.
 */
int iommu_liveupdate_freeze_domain(struct iommu_domain *domain,
				   const char **why)
{
	struct iommu_liveupdate_domain *lu;

	/* reboot(2) holds the lock of the image */
	*why = "the next kernel was loaded with kexec_load, which hands nothing over";
	if (!kexec_image || !kexec_image->file_mode)
		return -EINVAL;

	guard(mutex)(&iommu_liveupdate_lock);

	*why = "a BAR that it maps was taken away since it was preserved";
	lu = xa_load(&iommu_liveupdate_preserved, (unsigned long)domain);

	return !lu || lu->spoiled ? -EINVAL : 0;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_freeze_domain);

/**
 * iommu_liveupdate_any_spoiled() - Did a preserved domain change after all?
 *
 * A domain is looked at by check, when no user has access to a device any more.
 * A reset in sysfs can still take a BAR away that it maps: so the freeze of a running
 * device asks once more.
 *
 * Context: Process context, may sleep.
 * Return: true if there is one; the update cannot go on.
 */
bool iommu_liveupdate_any_spoiled(void)
{
	struct iommu_liveupdate_domain *lu;
	unsigned long index;

	guard(mutex)(&iommu_liveupdate_lock);

	xa_for_each(&iommu_liveupdate_preserved, index, lu) {
		if (lu->spoiled)
			return true;
	}

	return false;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_any_spoiled);

/* --- devices and units ------------------------------------------------------ */

/* What is against a group whatever page table it is attached to? */
static enum pci_liveupdate_why
iommu_liveupdate_check_members(struct iommu_group *group,
			       const struct iommu_liveupdate_ops *ops)
{
	enum pci_liveupdate_why why = PCI_LIVEUPDATE_YES;
	unsigned long pasid = IOMMU_NO_PASID;
	struct group_device *gdev;

	lockdep_assert_held(&group->mutex);

	if (xa_find_after(&group->pasid_array, &pasid, ULONG_MAX, XA_PRESENT))
		return PCI_LIVEUPDATE_PASID;

	if (group->recovery_cnt)
		return PCI_LIVEUPDATE_RESETTING;

	for_each_group_device(group, gdev)
		why = why ?: ops->device_check(gdev->dev);

	return why;
}

static int iommu_liveupdate_check_group(struct iommu_group *group,
					const char **text)
{
	struct iommu_liveupdate_domain *lu;
	enum pci_liveupdate_why why;

	lockdep_assert_held(&group->mutex);

	*text = "its page table is not preserved";
	lu = xa_load(&iommu_liveupdate_preserved, (unsigned long)group->domain);
	if (!lu || !lu->listed || lu->spoiled)
		return -ENOENT;

	why = iommu_liveupdate_check_members(group,
					     group->domain->owner->liveupdate);
	*text = pci_liveupdate_why_text(why);

	return pci_liveupdate_why_error(why);
}

/**
 * iommu_liveupdate_can_run() - Could a device's DMA go on in an update?
 * @dev: Device; the caller keeps it in its IOMMU group.
 *
 * Unlike iommu_liveupdate_check_device() this does not ask for a preserved page
 * table: it says what there is when the device is attached to one.
 *
 * Context: Process context, may sleep. Takes the lock of the group.
 * Return: %PCI_LIVEUPDATE_YES, or what stands against it.
 */
enum pci_liveupdate_why iommu_liveupdate_can_run(struct device *dev)
{
	struct iommu_group *group = iommu_group_get(dev);
	enum pci_liveupdate_why why = PCI_LIVEUPDATE_NO_IOMMU;
	const struct iommu_liveupdate_ops *ops;

	if (!group)
		return why;

	/* Under the lock of the group its members keep their IOMMU */
	scoped_guard(mutex, &group->mutex) {
		if (!dev->iommu || !dev->iommu->iommu_dev)
			break;
		ops = dev_iommu_ops(dev)->liveupdate;
		why = ops ? iommu_liveupdate_check_members(group, ops) :
			    PCI_LIVEUPDATE_IOMMU_DRIVER;
	}
	iommu_group_put(group);

	return why;
}

/**
 * iommu_liveupdate_check_device() - Can a device's DMA go on in an update now?
 * @dev: Device, owned by the caller.
 * @why: Where to put what is against it.
 *
 * Context: Process context, may sleep.
 * Return: 0, or the error with which iommu_liveupdate_preserve_device() would
 * refuse: -ENODEV without an IOMMU, -ENOENT when the domain that it is attached
 * to is not preserved, -EOPNOTSUPP when something about it stands against it,
 * -EBUSY while it is being reset.
 */
int iommu_liveupdate_check_device(struct device *dev, const char **why)
{
	struct iommu_group *group = dev->iommu_group;

	*why = "no IOMMU translates for it";
	if (!group)
		return -ENODEV;

	guard(mutex)(&group->mutex);
	guard(mutex)(&iommu_liveupdate_lock);

	return iommu_liveupdate_check_group(group, why);
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_check_device);

static int iommu_liveupdate_get_unit(struct iommu_ser *ser,
				     const struct iommu_liveupdate_ops *ops,
				     struct device *dev, u32 *index)
{
	struct iommu_unit_ser template = {}, *unit;
	int ret;

	ops->device_unit(dev, &template);
	unit = iommu_liveupdate_find_unit(ser, template.id);
	if (unit) {
		unit->devices++;
		*index = unit - iommu_ser_unit(ser, 0);
		return 0;
	}

	ret = iommu_liveupdate_array_add(&ser->units, sizeof(template), index);
	if (ret)
		return ret;

	ret = ops->unit_preserve(&template);
	if (ret)
		return ret;

	template.devices = 1;
	*iommu_ser_unit(ser, *index) = template;
	ser->units.count = max(ser->units.count, *index + 1);

	return 0;
}

static void iommu_liveupdate_put_unit(struct iommu_ser *ser,
				      const struct iommu_liveupdate_ops *ops,
				      u32 index)
{
	struct iommu_unit_ser *unit = iommu_ser_unit(ser, index);

	if (--unit->devices)
		return;

	ops->unit_unpreserve(unit);
	memset(unit, 0, sizeof(*unit));
}

static int iommu_liveupdate_add_device(struct iommu_ser *ser,
				       struct device *dev, u32 domain,
				       const char **why)
{
	const struct iommu_liveupdate_ops *ops = dev_iommu_ops(dev)->liveupdate;
	struct pci_dev *pdev = to_pci_dev(dev);
	struct iommu_dev_ser entry = {
		.segment = pci_domain_nr(pdev->bus),
		.bdf = pci_dev_id(pdev),
		.state = IOMMU_SER_DEV_RUNNING,
		.domain = domain,
	};
	u32 index;
	int ret;

	ret = iommu_liveupdate_array_add(&ser->devices,
					 sizeof(struct iommu_dev_ser), &index);
	if (ret)
		return ret;

	ret = iommu_liveupdate_get_unit(ser, ops, dev, &entry.unit);
	if (ret)
		return ret;

	ret = ops->device_preserve(dev, iommu_ser_unit(ser, entry.unit), &entry,
				   why);
	if (ret) {
		iommu_liveupdate_put_unit(ser, ops, entry.unit);
		return ret;
	}

	*iommu_ser_device(ser, index) = entry;
	ser->devices.count = max(ser->devices.count, index + 1);

	return 0;
}

static void iommu_liveupdate_remove_device(struct iommu_ser *ser,
					   struct device *dev)
{
	const struct iommu_liveupdate_ops *ops = dev_iommu_ops(dev)->liveupdate;
	struct pci_dev *pdev = to_pci_dev(dev);
	struct iommu_dev_ser *entry;

	entry = iommu_liveupdate_find_device(ser, pci_domain_nr(pdev->bus),
					     pci_dev_id(pdev));
	if (!entry)
		return;

	ops->device_unpreserve(dev, iommu_ser_unit(ser, entry->unit));
	iommu_liveupdate_put_unit(ser, ops, entry->unit);
	memset(entry, 0, sizeof(*entry));
}

static int iommu_liveupdate_add_group(struct iommu_ser *ser,
				      struct iommu_group *group,
				      const struct luo_file_set *files,
				      const char **why)
{
	struct iommu_liveupdate_domain *lu;
	struct group_device *gdev;
	int ret;

	ret = iommu_liveupdate_check_group(group, why);
	if (ret)
		return ret;

	*why = "it is preserved already";
	if (group->liveupdate_preserved)
		return -EBUSY;

	lu = xa_load(&iommu_liveupdate_preserved, (unsigned long)group->domain);
	*why = "its page table is preserved in another session";
	if (lu->files != files)
		return -ENOENT;

	for_each_group_device(group, gdev) {
		*why = "no room in the handover data";
		ret = iommu_liveupdate_add_device(ser, gdev->dev, lu->index, why);
		if (ret)
			goto err_remove;
	}

	lu->devices++;
	group->liveupdate_preserved = true;

	return 0;

err_remove:
	for_each_group_device(group, gdev)
		iommu_liveupdate_remove_device(ser, gdev->dev);
	return ret;
}

/**
 * iommu_liveupdate_preserve_device() - Let a device's DMA go on in an update
 * @dev:   PCI device, owned by the caller, and attached to a preserved domain.
 * @files: Files of the session, from the arguments of the caller's preserve().
 * @why:   Where to put what is against it.
 *
 * The caller is in the preserve() of a file whose handler it registered with
 * iommu_liveupdate_register(). The device's group stays attached to its domain
 * until iommu_liveupdate_unpreserve_device(): attaching it to another gives
 * -EBUSY.
 *
 * Context: Process context, may sleep.
 * Return: 0; -ENODEV without an IOMMU; -ENOENT when the domain that the device
 * is attached to is not preserved, or not in this session; -EOPNOTSUPP when
 * something about the device stands against it; -EBUSY while it is being reset;
 * -ENOSPC or -ENOMEM when there is no room.
 */
int iommu_liveupdate_preserve_device(struct device *dev,
				     const struct luo_file_set *files,
				     const char **why)
{
	struct iommu_group *group = dev->iommu_group;
	void *ser;
	int ret;

	*why = "no IOMMU translates for it";
	if (!group)
		return -ENODEV;

	*why = "no handover data";
	ret = liveupdate_flb_get_outgoing(&iommu_liveupdate_flb, &ser);
	if (ret)
		return ret;

	scoped_guard(mutex, &group->mutex) {
		guard(mutex)(&iommu_liveupdate_lock);
		ret = iommu_liveupdate_add_group(ser, group, files, why);
	}
	liveupdate_flb_put_outgoing(&iommu_liveupdate_flb);

	return ret;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_preserve_device);

/**
 * iommu_liveupdate_unpreserve_device() - Undo iommu_liveupdate_preserve_device()
 * @dev: Device that was preserved.
 *
 * Context: Process context, may sleep.
 */
void iommu_liveupdate_unpreserve_device(struct device *dev)
{
	struct iommu_group *group = dev->iommu_group;
	struct iommu_liveupdate_domain *lu;
	struct group_device *gdev;

	guard(mutex)(&group->mutex);
	guard(mutex)(&iommu_liveupdate_lock);

	if (WARN_ON(!group->liveupdate_preserved))
		return;

	for_each_group_device(group, gdev)
		iommu_liveupdate_remove_device(iommu_liveupdate_outgoing,
					       gdev->dev);
	lu = xa_load(&iommu_liveupdate_preserved, (unsigned long)group->domain);
	if (!WARN_ON(!lu))
		lu->devices--;
	group->liveupdate_preserved = false;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_unpreserve_device);

/**
 * iommu_liveupdate_outgoing_unit() - Does a unit stay on?
 * @id: Physical address of its registers.
 *
 * Context: At the jump, when nothing else runs.
 * Return: its entry in the list, or NULL when no preserved device needs it.
 */
const struct iommu_unit_ser *iommu_liveupdate_outgoing_unit(u64 id)
{
	if (!iommu_liveupdate_outgoing)
		return NULL;

	return iommu_liveupdate_find_unit(iommu_liveupdate_outgoing, id);
}

/**
 * iommu_liveupdate_walk_outgoing() - Go through the devices of a unit
 * @unit: What iommu_liveupdate_outgoing_unit() returned.
 * @fn:   Called for every preserved device that @unit translates for, with its
 *        entry in the list, that of its page table, and @data.
 * @data: For @fn.
 *
 * Context: At the jump, when nothing else runs.
 */
void iommu_liveupdate_walk_outgoing(const struct iommu_unit_ser *unit,
				    iommu_liveupdate_fn_t fn, void *data)
{
	const struct iommu_ser *ser = iommu_liveupdate_outgoing;

	for (u32 i = 0; i < ser->devices.count; i++) {
		struct iommu_dev_ser *entry = iommu_ser_device(ser, i);

		if (entry->state && iommu_ser_unit(ser, entry->unit) == unit)
			fn(entry, iommu_ser_domain(ser, entry->domain), data);
	}
}
