// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: IOMMU domains in a Live Update
 *
 * A device in running mode goes on with its DMA while the kernels change. Its
 * IOMMU unit goes on translating, through the page table of the domain that the
 * device is attached to.
 *
 * Outgoing: iommufd preserves a domain: the IOMMU driver keeps all pages of its
 * page table, and iommufd sees to it that nobody changes it any more and that
 * all memory in it is preserved too. Then a driver (vfio-pci) preserves a
 * device that is attached to such a domain: with it its whole IOMMU group, which
 * cannot be attached to anything else until that is undone, and the unit that
 * translates for it. The lists live in a LUO file-lifecycle-bound object (FLB).
 * At the jump the IOMMU driver leaves a unit of the list on, with entries for
 * the devices of the list and for no others; all other units it turns off.
 *
 * Incoming: the IOMMU driver finds its unit in the list when it is initialized,
 * and takes over the tables as they are. When the IOMMU group of a device is
 * set up that is in the list and that the PCI core knows again, then the group
 * starts its life attached to the restored domain: it gets neither its default
 * nor a blocking domain. The live update is the owner of its DMA, so that
 * nobody else can have it, until iommufd claims the group for the iommufd that
 * was preserved with it.
 *
 * The first law is that no device ever reaches memory that is not its own. What
 * is restored stays as it is until it is freed, and that is when no device is
 * attached any more: the list of incoming devices is the truth about that. An
 * entry leaves it when the device's group leaves the restored domain, when the
 * device is removed, and when it turns out that it is not there, and the IOMMU
 * driver has made sure then that the hardware does not use the page table for
 * it. Where the incoming kernel cannot take over (broken data, no memory,
 * another mode of the unit), the devices would go on with their DMA and nobody
 * would know where: it panics.
 *
 * Locking: iommu_liveupdate_lock guards the lists. It is taken inside of the
 * lock of an IOMMU group. LUO's lock of the FLB is taken outside of it.
 */

#define pr_fmt(fmt) "iommu: live update: " fmt

#include <linux/cleanup.h>
#include <linux/delay.h>
#include <linux/generic_pt/iommu.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/iommu_liveupdate.h>
#include <linux/jiffies.h>
#include <linux/kexec.h>
#include <linux/kexec_handover.h>
#include <linux/kho/check/iommu.h>
#include <linux/kho/memory.h>
#include <linux/liveupdate.h>
#include <linux/memcontrol.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/pci_liveupdate.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmstat.h>
#include <linux/xarray.h>

#include "iommu-pages.h"
#include "iommu-priv.h"
#include "liveupdate.h"

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

static DEFINE_MUTEX(iommu_liveupdate_lock);

/* What goes to the next kernel; NULL when nothing does */
static struct iommu_ser *iommu_liveupdate_outgoing;

/* Domains that go to the next kernel: iommu_liveupdate_domain by iommu_domain */
static DEFINE_XARRAY(iommu_liveupdate_preserved);

/*
 * Domains that came from the previous kernel: iommu_domain by index. One is taken
 * out under the lock before it is freed.
 */
static DEFINE_XARRAY(iommu_liveupdate_restored);

/* What came from the previous kernel, until that is finished */
static struct iommu_lists iommu_liveupdate_lists;

/* The owner of groups that came from the previous kernel */
static char iommu_liveupdate_owner;

/* A reference to the lists is held for devices that use their page tables */
static bool iommu_liveupdate_held;

/* What the driver does whose units came from the previous kernel */
static const struct iommu_liveupdate_ops *iommu_liveupdate_driver;

/* --- lists ------------------------------------------------------------------ */

static void *iommu_array(const struct iommu_array_ser *array)
{
	return phys_to_virt(array->base);
}

static struct iommu_domain_ser *iommu_ser_domain(const struct iommu_ser *ser,
						 u32 index)
{
	return (struct iommu_domain_ser *)iommu_array(&ser->domains) + index;
}

static struct iommu_dev_ser *iommu_ser_device(const struct iommu_ser *ser,
					      u32 index)
{
	return (struct iommu_dev_ser *)iommu_array(&ser->devices) + index;
}

static struct iommu_unit_ser *iommu_ser_unit(const struct iommu_ser *ser,
					     u32 index)
{
	return (struct iommu_unit_ser *)iommu_array(&ser->units) + index;
}

static int iommu_array_init(struct iommu_array_ser *array, size_t size)
{
	void *base = kho_alloc_preserve(PAGE_SIZE);

	if (IS_ERR(base))
		return PTR_ERR(base);

	array->base = virt_to_phys(base);
	array->capacity = PAGE_SIZE / size;

	return 0;
}

/* Make room for one more entry at the end. */
static int iommu_array_grow(struct iommu_array_ser *array, size_t size)
{
	void *base;

	if (array->count < array->capacity)
		return 0;
	if (array->capacity >= IOMMU_SER_MAX_CAPACITY / 2)
		return -ENOSPC;

	base = kho_alloc_preserve(2 * array->capacity * size);
	if (IS_ERR(base))
		return PTR_ERR(base);

	memcpy(base, iommu_array(array), array->count * size);
	kho_unpreserve_free(iommu_array(array));
	array->base = virt_to_phys(base);
	array->capacity *= 2;

	return 0;
}

/* An entry that is not in use, which is all zeroes, or room for one at the end */
static int iommu_array_add(struct iommu_array_ser *array, size_t size, u32 *index)
{
	const void *entry = iommu_array(array);

	for (*index = 0; *index < array->count; (*index)++, entry += size) {
		if (!memchr_inv(entry, 0, size))
			return 0;
	}

	return iommu_array_grow(array, size);
}

static struct iommu_dev_ser *iommu_ser_find_device(const struct iommu_ser *ser,
						   u32 segment, u16 bdf)
{
	for (u32 i = 0; i < ser->devices.count; i++) {
		struct iommu_dev_ser *entry = iommu_ser_device(ser, i);

		if (entry->state && entry->segment == segment &&
		    entry->bdf == bdf)
			return entry;
	}

	return NULL;
}

static struct iommu_unit_ser *iommu_ser_find_unit(const struct iommu_ser *ser,
						  u64 id)
{
	for (u32 i = 0; i < ser->units.count; i++) {
		struct iommu_unit_ser *unit = iommu_ser_unit(ser, i);

		if (unit->type && unit->id == id)
			return unit;
	}

	return NULL;
}

/* --- the FLB ---------------------------------------------------------------- */

static void iommu_ser_free(struct iommu_ser *ser, void (*free)(void *mem))
{
	if (ser->domains.base)
		free(iommu_array(&ser->domains));
	if (ser->devices.base)
		free(iommu_array(&ser->devices));
	if (ser->units.base)
		free(iommu_array(&ser->units));
	free(ser);
}

static int iommu_flb_preserve(struct liveupdate_flb_op_args *args)
{
	struct iommu_ser *ser = kho_alloc_preserve(sizeof(*ser));
	int ret;

	if (IS_ERR(ser))
		return PTR_ERR(ser);

	ret = iommu_array_init(&ser->domains, sizeof(struct iommu_domain_ser));
	if (!ret)
		ret = iommu_array_init(&ser->devices,
				       sizeof(struct iommu_dev_ser));
	if (!ret)
		ret = iommu_array_init(&ser->units,
				       sizeof(struct iommu_unit_ser));
	if (ret) {
		iommu_ser_free(ser, kho_unpreserve_free);
		return ret;
	}

	scoped_guard(mutex, &iommu_liveupdate_lock)
		iommu_liveupdate_outgoing = ser;
	args->obj = ser;
	args->data = virt_to_phys(ser);

	return 0;
}

static void iommu_flb_unpreserve(struct liveupdate_flb_op_args *args)
{
	scoped_guard(mutex, &iommu_liveupdate_lock)
		iommu_liveupdate_outgoing = NULL;
	iommu_ser_free(args->obj, kho_unpreserve_free);
}

static int iommu_flb_retrieve(struct liveupdate_flb_op_args *args)
{
	struct iommu_ser *ser = kho_take(args->data, sizeof(*ser));
	const char *why = "its head is not in preserved memory";

	if (ser)
		why = iommu_ser_check(ser, kho_take, &iommu_liveupdate_lists);
	if (why) {
		pr_err("handover data is broken: %s\n", why);
		return -EINVAL;
	}

	args->obj = ser;

	return 0;
}

static void iommu_liveupdate_drop_absent(struct iommu_ser *ser,
					 struct iommu_dev_ser *entry);
static bool iommu_liveupdate_end_late(struct iommu_dev_ser *entry);

static void iommu_flb_finish(struct liveupdate_flb_op_args *args)
{
	struct iommu_ser *ser = args->obj;
	struct iommu_domain *domain;
	unsigned long index;
	bool keep = false;

	for (u32 i = 0; i < ser->devices.count; i++) {
		struct iommu_dev_ser *entry = iommu_ser_device(ser, i);

		iommu_liveupdate_drop_absent(ser, entry);
		if (iommu_liveupdate_end_late(entry))
			keep = true;
	}

	/*
	 * Of devices that went away, and nobody made an HWPT of it. An HWPT of
	 * another may be destroyed meanwhile: what is in the list under the lock
	 * is there still.
	 */
	scoped_guard(mutex, &iommu_liveupdate_lock) {
		xa_for_each(&iommu_liveupdate_restored, index, domain) {
			if (keep || domain->cookie_type != IOMMU_COOKIE_NONE)
				continue;
			xa_erase(&iommu_liveupdate_restored, index);
			iommu_domain_free(domain);
		}
	}

	iommu_ser_free(args->obj, kho_taken_free);
}

static const struct liveupdate_flb_ops iommu_flb_ops = {
	.preserve = iommu_flb_preserve,
	.unpreserve = iommu_flb_unpreserve,
	.retrieve = iommu_flb_retrieve,
	.finish = iommu_flb_finish,
	.owner = THIS_MODULE,
};

static struct liveupdate_flb iommu_liveupdate_flb = {
	.ops = &iommu_flb_ops,
	.compatible = IOMMU_LIVEUPDATE_COMPATIBLE,
};

/**
 * iommu_liveupdate_register() - Make files known that need preserved domains
 * @fh: File handler of iommufd or of a driver, registered with LUO.
 *
 * Context: Process context, may sleep.
 * Return: 0, or what liveupdate_register_flb() returns: -EOPNOTSUPP when live
 * update is off, -ENOMEM, -EEXIST, -ENOSPC.
 */
int iommu_liveupdate_register(struct liveupdate_file_handler *fh)
{
	return liveupdate_register_flb(fh, &iommu_liveupdate_flb);
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_register);

/**
 * iommu_liveupdate_unregister() - Undo iommu_liveupdate_register()
 * @fh: File handler that was registered.
 *
 * Context: Process context, may sleep.
 */
void iommu_liveupdate_unregister(struct liveupdate_file_handler *fh)
{
	liveupdate_unregister_flb(fh, &iommu_liveupdate_flb);
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_unregister);

/* --- outgoing: domains ------------------------------------------------------ */

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

	ret = iommu_array_add(&ser->domains, sizeof(struct iommu_domain_ser),
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
 * Root can still take a BAR away that it maps, by a reset in sysfs: so whoever
 * freezes a running device asks once more.
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

/* --- outgoing: devices and units -------------------------------------------- */

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
	unit = iommu_ser_find_unit(ser, template.id);
	if (unit) {
		unit->devices++;
		*index = unit - iommu_ser_unit(ser, 0);
		return 0;
	}

	ret = iommu_array_add(&ser->units, sizeof(template), index);
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
				       struct device *dev, u32 domain)
{
	const struct iommu_liveupdate_ops *ops = dev_iommu_ops(dev)->liveupdate;
	struct pci_dev *pdev = to_pci_dev(dev);
	u32 index, unit;
	int ret;

	ret = iommu_array_add(&ser->devices, sizeof(struct iommu_dev_ser),
			      &index);
	if (ret)
		return ret;

	ret = iommu_liveupdate_get_unit(ser, ops, dev, &unit);
	if (ret)
		return ret;

	ret = ops->device_preserve(dev, iommu_ser_unit(ser, unit));
	if (ret) {
		iommu_liveupdate_put_unit(ser, ops, unit);
		return ret;
	}

	*iommu_ser_device(ser, index) = (struct iommu_dev_ser) {
		.segment = pci_domain_nr(pdev->bus),
		.bdf = pci_dev_id(pdev),
		.state = IOMMU_SER_DEV_RUNNING,
		.domain = domain,
		.unit = unit,
	};
	ser->devices.count = max(ser->devices.count, index + 1);

	return 0;
}

static void iommu_liveupdate_remove_device(struct iommu_ser *ser,
					   struct device *dev)
{
	const struct iommu_liveupdate_ops *ops = dev_iommu_ops(dev)->liveupdate;
	struct pci_dev *pdev = to_pci_dev(dev);
	struct iommu_dev_ser *entry;

	entry = iommu_ser_find_device(ser, pci_domain_nr(pdev->bus),
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

	*why = "no room in the handover data";
	for_each_group_device(group, gdev) {
		ret = iommu_liveupdate_add_device(ser, gdev->dev, lu->index);
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

	return iommu_ser_find_unit(iommu_liveupdate_outgoing, id);
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

/* --- incoming ---------------------------------------------------------------- */

/* The incoming lists, or NULL when nothing is incoming (any more). */
static struct iommu_ser *iommu_liveupdate_get_incoming(void)
{
	void *obj;

	if (liveupdate_flb_get_incoming(&iommu_liveupdate_flb, &obj))
		return NULL;

	return obj;
}

static void iommu_liveupdate_put_incoming(void)
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

	found = iommu_ser_find_unit(ser, id);
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

	found = iommu_ser_find_device(ser, pci_domain_nr(pdev->bus),
				      pci_dev_id(pdev));
	if (found)
		*entry = *found;
	iommu_liveupdate_put_incoming();

	return found;
}

static struct iommu_domain *
iommu_liveupdate_restore(const struct iommu_ser *ser, struct device *dev,
			 u32 index)
{
	const struct iommu_ops *ops = dev_iommu_ops(dev);
	struct iommu_domain *domain;
	int ret;

	domain = xa_load(&iommu_liveupdate_restored, index);
	if (domain)
		return domain;

	if (!ops->liveupdate)
		return ERR_PTR(-EOPNOTSUPP);

	domain = ops->liveupdate->domain_restore(dev,
						 iommu_ser_domain(ser, index));
	if (IS_ERR(domain))
		return domain;

	domain->owner = ops;
	ret = xa_err(xa_store(&iommu_liveupdate_restored, index, domain,
			      GFP_KERNEL));
	if (ret)
		return ERR_PTR(ret);

	return domain;
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

static bool iommu_liveupdate_is_there(const struct iommu_dev_ser *entry)
{
	struct pci_dev *pdev;

	pdev = pci_get_domain_bus_and_slot(entry->segment,
					   PCI_BUS_NUM(entry->bdf),
					   entry->bdf & 0xff);
	pci_dev_put(pdev);

	return pdev;
}

static bool iommu_liveupdate_any_runs(const struct iommu_ser *ser)
{
	for (u32 i = 0; i < ser->devices.count; i++) {
		struct iommu_dev_ser *entry = iommu_ser_device(ser, i);

		if (entry->state && iommu_liveupdate_is_there(entry))
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

/* The hardware does not use the restored page table for this device any more. */
static void iommu_liveupdate_left(struct device *dev)
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
		entry = iommu_ser_find_device(ser, pci_domain_nr(pdev->bus),
					      pci_dev_id(pdev));
		if (entry)
			entry->state = IOMMU_SER_DEV_NONE;
		let_go = iommu_liveupdate_let_go(ser);
	}

	if (let_go)
		iommu_liveupdate_put_incoming();
	iommu_liveupdate_put_incoming();
}

/*
 * The DMA of a member of a group ends, while others may go on: it is attached to
 * nothing. A bridge does nothing by itself, and forwards for the others.
 */
static void iommu_liveupdate_block(struct iommu_group *group,
				   struct device *dev)
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

/* It runs no more, because its group has the page table of another device. */
static void __init iommu_liveupdate_give_up(struct pci_dev *pdev)
{
	if (pci_liveupdate_incoming(pdev) != PCI_LIVEUPDATE_RUNNING ||
	    READ_ONCE(pdev->liveupdate.read_only) ||
	    !iommu_liveupdate_owns(&pdev->dev))
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
		pdev = pci_get_domain_bus_and_slot(entry->segment,
						   PCI_BUS_NUM(entry->bdf),
						   entry->bdf & 0xff);
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

/*
 * End the DMA of all devices that came with a page table, which is broken: block it,
 * reset them, and let go of their groups. Somebody who has the lock of a device may
 * be waiting for a file of the session that this is called for: so it is waited for
 * with a bound, and the device then stays blocked, and the live update's, until it is
 * removed.
 */
static void iommu_liveupdate_end(u32 index)
{
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev) {
		struct iommu_dev_ser entry;
		struct iommu_group *group;
		unsigned long end;
		bool locked;

		if (!iommu_liveupdate_incoming_device(&pdev->dev, &entry) ||
		    entry.domain != index)
			continue;
		group = iommu_group_get(&pdev->dev);
		if (!group)
			continue;
		scoped_guard(mutex, &group->mutex) {
			/* Else it has just been removed */
			if (pdev->dev.iommu_group == group)
				iommu_liveupdate_block(group, &pdev->dev);
		}
		iommu_group_put(group);
		pci_err(pdev, "live update: its page table is broken: its DMA has ended\n");
		end = jiffies + 2 * HZ;
		while (!(locked = device_trylock(&pdev->dev)) &&
		       time_before(jiffies, end))
			fsleep(USEC_PER_MSEC);
		if (!locked)
			continue;
		pci_liveupdate_abandon(pdev);
		device_unlock(&pdev->dev);
	}
}

/**
 * iommu_liveupdate_restored_domain() - A domain that was handed over
 * @index: Its place in the list.
 *
 * Its tables become this kernel's, if they are not yet: that is when they are
 * looked at for the first time, since it takes as long as there are tables and
 * pages that they map. If they are broken, the DMA of the devices that use them
 * ends. Such a page table is never freed: some of it may be another's.
 *
 * Context: Process context, may sleep, and without locks that removing or
 * resetting a device needs. Called for one domain once at a time.
 * Return: the domain, or NULL when none of its devices is there, or goes on.
 */
struct iommu_domain *iommu_liveupdate_restored_domain(u32 index)
{
	struct iommu_domain *domain = xa_load(&iommu_liveupdate_restored, index);
	struct pt_iommu *pt = domain ? iommupt_from_domain(domain) : NULL;

	if (!pt || !pt->ops->restore(pt))
		return domain;

	pr_err("page table %u is broken\n", index);
	scoped_guard(mutex, &iommu_liveupdate_lock)
		xa_erase(&iommu_liveupdate_restored, index);
	iommu_liveupdate_end(index);

	return NULL;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_restored_domain);

/**
 * iommu_liveupdate_is_restored() - Is it a domain that was handed over?
 * @domain: Any domain.
 *
 * Context: Any context.
 * Return: true if it is.
 */
bool iommu_liveupdate_is_restored(struct iommu_domain *domain)
{
	struct pt_iommu *pt = iommupt_from_domain(domain);

	return pt && pt->restored;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_is_restored);

/**
 * iommu_liveupdate_domain_busy() - Does a device use a restored page table?
 * @index: Place in the list of the page table's domain.
 *
 * Context: Process context, may sleep.
 * Return: true if there is one whose DMA it translates.
 */
bool iommu_liveupdate_domain_busy(u32 index)
{
	struct iommu_ser *ser = iommu_liveupdate_get_incoming();
	bool busy = false;

	if (!ser)
		return false;

	scoped_guard(mutex, &iommu_liveupdate_lock) {
		for (u32 i = 0; i < ser->devices.count && !busy; i++)
			busy = iommu_ser_device(ser, i)->state &&
			       iommu_ser_device(ser, i)->domain == index;
	}
	iommu_liveupdate_put_incoming();

	return busy;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_domain_busy);

static void iommu_liveupdate_drop(struct iommu_ser *ser,
				  struct iommu_dev_ser *entry)
{
	entry->state = IOMMU_SER_DEV_NONE;

	/* No driver: this machine does not have the unit that the list names */
	if (iommu_liveupdate_driver)
		iommu_liveupdate_driver->entry_drop(iommu_ser_unit(ser, entry->unit),
						    entry->bdf);
}

/*
 * A device that is there, but is not the one that was preserved, or the IOMMU
 * does not translate for it. Its default domain may let pass whatever it does:
 * so it must have stopped before. A bridge does nothing by itself.
 */
void iommu_liveupdate_drop_device(struct device *dev)
{
	struct iommu_ser *ser = iommu_liveupdate_get_incoming();
	struct pci_dev *pdev = to_pci_dev(dev);
	struct iommu_dev_ser *entry;
	bool let_go = false;

	if (!ser)
		return;

	scoped_guard(mutex, &iommu_liveupdate_lock) {
		entry = iommu_ser_find_device(ser, pci_domain_nr(pdev->bus),
					      pci_dev_id(pdev));
		if (!entry)
			break;
		if (pdev->hdr_type == PCI_HEADER_TYPE_NORMAL) {
			pci_liveupdate_set_read_only(pdev, false);
			pci_clear_master(pdev);
		}
		iommu_liveupdate_drop(ser, entry);
		let_go = iommu_liveupdate_let_go(ser);
	}
	if (let_go)
		iommu_liveupdate_put_incoming();
	iommu_liveupdate_put_incoming();
}

static void iommu_liveupdate_drop_absent(struct iommu_ser *ser,
					 struct iommu_dev_ser *entry)
{
	struct pci_dev *pdev;

	guard(mutex)(&iommu_liveupdate_lock);

	if (!entry->state)
		return;

	pdev = pci_get_domain_bus_and_slot(entry->segment,
					   PCI_BUS_NUM(entry->bdf),
					   entry->bdf & 0xff);
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

	pdev = pci_get_domain_bus_and_slot(entry->segment,
					   PCI_BUS_NUM(entry->bdf),
					   entry->bdf & 0xff);
	if (pdev && pdev->hdr_type == PCI_HEADER_TYPE_NORMAL) {
		pci_liveupdate_set_read_only(pdev, false);
		pci_clear_master(pdev);
		pci_err(pdev, "live update: its session has ended, and with it its DMA; it belongs to nobody until the next boot\n");
	}
	pci_dev_put(pdev);

	return true;
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

/**
 * iommu_liveupdate_free_domain() - Free a restored domain
 * @domain: Restored domain that is not busy.
 *
 * Context: Process context, may sleep.
 */
void iommu_liveupdate_free_domain(struct iommu_domain *domain)
{
	struct iommu_domain *found;
	unsigned long index;

	scoped_guard(mutex, &iommu_liveupdate_lock) {
		xa_for_each(&iommu_liveupdate_restored, index, found) {
			if (found == domain)
				xa_erase(&iommu_liveupdate_restored, index);
		}
	}

	iommu_domain_free(domain);
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_free_domain);

/**
 * iommu_liveupdate_restore_page() - Take a preserved page of an IOMMU's tables
 * @phys: Physical address of a folio that the previous kernel preserved.
 *
 * From now on it is a page like those of iommu_alloc_pages_node_sz().
 *
 * Context: Process context.
 * Return: its virtual address, or NULL if @phys is not a preserved folio.
 */
void *iommu_liveupdate_restore_page(phys_addr_t phys)
{
	void *table = kho_take(phys, IOMMU_SER_TABLE_SIZE);
	struct folio *folio;
	unsigned long pages;

	if (!table)
		return NULL;

	folio = virt_to_folio(table);
	pages = folio_nr_pages(folio);
	folio_ioptdesc(folio)->incoherent = false;
	mod_node_page_state(folio_pgdat(folio), NR_IOMMU_PAGES, pages);
	lruvec_stat_mod_folio(folio, NR_SECONDARY_PAGETABLE, pages);

	return table;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_restore_page);

/* How much memory at @phys, up to the end of its folio, is a device's? */
static u64 iommu_liveupdate_kept(phys_addr_t phys)
{
	struct page *page = pfn_to_online_page(PHYS_PFN(phys));
	struct folio *folio;

	if (!page)
		return 0;

	/* Of a memfd that was retrieved before, which pins it */
	folio = page_folio(page);
	if (folio_maybe_dma_pinned(folio))
		return page_to_phys(folio_page(folio, 0)) + folio_size(folio) - phys;

	for (unsigned int order = 0; order <= MAX_FOLIO_ORDER; order++) {
		phys_addr_t head = ALIGN_DOWN(phys, PAGE_SIZE << order);
		u64 end = head + kho_restorable_size(head);

		if (end > phys)
			return end - phys;
	}

	return 0;
}

/**
 * iommu_liveupdate_check_leaf() - May a restored page table map this?
 * @phys: Physical address of what it maps.
 * @size: Its bytes.
 *
 * It may map memory that was preserved, and what is no memory, as BARs.
 *
 * Context: Process context.
 * Return: 0, or -EINVAL, with a line in the log.
 */
int iommu_liveupdate_check_leaf(phys_addr_t phys, u64 size)
{
	for (u64 kept; size; phys += kept, size -= kept) {
		kept = min(size, iommu_liveupdate_kept(phys));
		if (kept)
			continue;
		if (region_intersects(phys, size, IORESOURCE_SYSTEM_RAM,
				      IORES_DESC_NONE) == REGION_DISJOINT)
			return 0;
		pr_err("a page table of the previous kernel maps memory at %pa, which is not preserved\n",
		       &phys);
		return -EINVAL;
	}

	return 0;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_check_leaf);
