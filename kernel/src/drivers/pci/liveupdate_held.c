// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: Physical functions that are held in a Live Update
 *
 * Virtual functions go to the next kernel, and their physical function belongs to the
 * host. It is **held** for them: its own work ends at the kexec, theirs does not. Either
 * its driver takes part (&struct pci_liveupdate_pf_ops), or it does not and root wants
 * the function to be held all the same (``liveupdate_hold`` in sysfs)::
 *
 *                          driver takes part         driver takes no part
 *   the first virtual one  can_hold()                liveupdate_hold was written to
 *   is preserved
 *   pci_device_shutdown()  hold()                    bus mastering and INTx are
 *                                                    turned off
 *   enumeration            it is read-only, and its SR-IOV is taken over
 *   driver                 adopt(), of a driver that none
 *                          knows the data
 *   end                    release(), when all is    liveupdate_release in sysfs: its
 *                          finished                  virtual functions, which no driver
 *                                                    has, are removed, it is reset
 *                                                    and given to its driver
 *
 * In both cases its driver's shutdown() is left out. Who takes no part has left its work
 * in the function: no driver gets that before it was reset. A function whose driver is
 * not there in the next kernel, or does not know the data, stays held until root releases
 * it: it does what hold() has left it to do, which is nothing. It stays so over more
 * updates, too; at a kexec for which no virtual function of it is preserved it is stopped
 * and reset.
 *
 * As long as it is held root gets -EBUSY in sysfs for sriov_numvfs, reset and unbind,
 * and the module of its driver stays.
 *
 * Restrictions:
 *
 * - A function that no driver has does no DMA and raises no interrupt: virtual functions
 *   that need it for their own work, to answer their messages or to let traffic in,
 *   wait for it.
 * - A driver that takes no part has the registers until the CPUs stop.
 * - release() is called when everything that came is finished, not only these virtual
 *   functions.
 *
 * Locking: what a driver is asked to do is done with the device lock of its function,
 * and without pci_liveupdate_lock, before which that is taken. Preserve and freeze wait
 * for it with a bound, since whoever binds or resets a device has it for as long as that
 * takes.
 */

#include <linux/cleanup.h>
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/kexec.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/pci.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/workqueue.h>

#include "pci.h"

/**
 * struct pci_liveupdate_left - What the driver of a held function has handed over.
 * @rcu:        It is looked at without a lock, when drivers are matched.
 * @compatible: What it is.
 * @size:       Bytes of @data.
 * @data:       That.
 */
struct pci_liveupdate_left {
	struct rcu_head rcu;
	char compatible[PCI_SER_DRIVER_LEN];
	u32 size;
	u8 data[] __counted_by(size) __aligned(8);
};

static const struct pci_liveupdate_pf_ops *pci_liveupdate_pf_ops(struct pci_dev *pf)
{
	device_lock_assert(&pf->dev);

	return pf->driver ? pf->driver->liveupdate : NULL;
}

/* --- outgoing --------------------------------------------------------------- */

/*
 * Can this function be held for its virtual ones? Without the device lock: what its
 * driver says is asked when the first is preserved.
 */
bool pci_liveupdate_may_hold(struct pci_dev *pf)
{
	return READ_ONCE(pf->liveupdate.takes_part) ||
	       pci_liveupdate_incoming(pf) == PCI_LIVEUPDATE_HELD ||
	       (READ_ONCE(pf->liveupdate.hold) && pci_liveupdate_check_driver(pf));
}

/* Keep the driver that a virtual function's physical one has; give up after @end. */
int pci_liveupdate_lock_pf(struct pci_dev *vf, unsigned long end, const char **why)
{
	*why = "somebody binds, unbinds or resets its physical function";
	while (!device_trylock(&pci_physfn(vf)->dev)) {
		if (time_after(jiffies, end))
			return -EBUSY;
		fsleep(USEC_PER_MSEC);
	}

	return 0;
}

void pci_liveupdate_unlock_pf(struct pci_dev *vf)
{
	device_unlock(&pci_physfn(vf)->dev);
}

static int pci_liveupdate_ask(struct pci_dev *pf, const char **why)
{
	const struct pci_liveupdate_pf_ops *ops = pci_liveupdate_pf_ops(pf);

	*why = "its physical function is neither preserved in running mode nor held";
	if (!pci_liveupdate_may_hold(pf))
		return -ENOENT;
	if (!ops)
		return 0;

	*why = "the driver of its physical function cannot keep it now";

	return ops->can_hold(pf, why);
}

/*
 * The first virtual function is preserved: get what its physical one needs for that. Its
 * driver is asked without pci_liveupdate_lock, and stays as long as the device lock is
 * held, and its module as long as the function is.
 */
int pci_liveupdate_prepare_hold(struct pci_dev *pf, const char **why)
{
	const struct pci_liveupdate_pf_ops *ops = pci_liveupdate_pf_ops(pf);
	void *data = NULL;
	int ret;

	ret = pci_liveupdate_ask(pf, why);
	if (ret)
		return ret;

	*why = "the driver of its physical function does not say what it hands over";
	if (ops && (!ops->compatible[0] || ops->data_size > PCI_SER_MAX_DATA ||
		    strlen(ops->compatible) >= PCI_SER_DRIVER_LEN))
		return -EINVAL;

	*why = "no room for what the driver of its physical function hands over";
	if (ops && ops->data_size) {
		data = kho_alloc_preserve(ops->data_size);
		if (IS_ERR(data))
			return PTR_ERR(data);
	}

	*why = "the driver of its physical function is going away";
	if (pf->driver && !try_module_get(pf->driver->driver.owner)) {
		if (data)
			kho_unpreserve_free(data);
		return -EBUSY;
	}

	pf->liveupdate.data = data;
	pf->liveupdate.driver = pf->driver;

	return 0;
}

/* Also when it has lost its driver, because it was removed: the module is there */
void pci_liveupdate_unprepare_hold(struct pci_dev *pf)
{
	if (pf->liveupdate.data)
		kho_unpreserve_free(pf->liveupdate.data);
	if (pf->liveupdate.driver)
		module_put(pf->liveupdate.driver->driver.owner);
	pf->liveupdate.data = NULL;
	pf->liveupdate.driver = NULL;

	/* Its release may have been put off because of this */
	pci_liveupdate_held_finish(pf);
}

/* Is a function that is held as it was when the first virtual one was preserved? */
int pci_liveupdate_check_hold(struct pci_dev *pf, const char **why)
{
	*why = "its physical function has another driver since it was preserved";
	if (pf->driver != pf->liveupdate.driver)
		return -EAGAIN;

	return pci_liveupdate_ask(pf, why);
}

void pci_liveupdate_record_data(struct pci_dev *pf, struct pci_dev_ser *entry)
{
	const struct pci_liveupdate_pf_ops *ops = pci_liveupdate_pf_ops(pf);

	if (!ops)
		return;

	strscpy_pad(entry->driver, ops->compatible);
	entry->data_size = ops->data_size;
	entry->data = ops->data_size ? virt_to_phys(pf->liveupdate.data) : 0;
}

/*
 * The kernel goes down. Each function has a Bus Master Enable of its own (PCI Express
 * 6.0, 9.3.4.1.3): that of a physical one can be turned off without its virtual ones.
 * A driver that takes part leaves it on, and does no DMA.
 */
void pci_liveupdate_do_hold(struct pci_dev *pf)
{
	const struct pci_liveupdate_pf_ops *ops = pci_liveupdate_pf_ops(pf);
	bool locked;

	pm_runtime_resume(&pf->dev);
	if (ops && pf->driver == pf->liveupdate.driver) {
		ops->hold(pf, pf->liveupdate.data);
		pci_liveupdate_set_read_only(pf, true);
		pci_info(pf, "live update: held by its driver\n");
		return;
	}

	locked = pci_cfg_access_trylock(pf);
	pci_liveupdate_set_read_only(pf, false);
	pci_clear_master(pf);
	pci_intx(pf, 0);
	pci_liveupdate_no_master(pf);
	if (locked)
		pci_cfg_access_unlock(pf);
	pci_info(pf, "live update: held, bus mastering is off\n");
}

/* --- incoming --------------------------------------------------------------- */

/* Keep what its driver has handed over: that may be loaded after all is finished. */
void pci_liveupdate_recall_data(struct pci_dev *pf, const struct pci_dev_ser *entry)
{
	struct pci_liveupdate_left *left;

	if (entry->role != PCI_SER_ROLE_HELD || !entry->driver[0])
		return;

	left = kzalloc_flex(*left, data, entry->data_size);
	if (!left) {
		pci_err(pf, "live update: no memory for what its driver has handed over, stays held\n");
		return;
	}

	left->size = entry->data_size;
	strscpy(left->compatible, entry->driver);
	if (entry->data)
		memcpy(left->data, phys_to_virt(entry->data), entry->data_size);
	rcu_assign_pointer(pf->liveupdate.left, left);
}

/* Nobody adopts it any more. */
void pci_liveupdate_forget_left(struct pci_dev *pf)
{
	struct pci_liveupdate_left *left = rcu_replace_pointer(pf->liveupdate.left, NULL, true);

	if (left)
		kfree_rcu(left, rcu);
}

/* What its driver would go on with are virtual functions that are there. */
bool pci_liveupdate_may_adopt(struct pci_dev *pf, struct pci_driver *drv)
{
	const struct pci_liveupdate_left *left;

	guard(rcu)();
	left = rcu_dereference(pf->liveupdate.left);

	return left && drv->liveupdate && pci_num_vf(pf) &&
	       left->size == drv->liveupdate->data_size &&
	       !strcmp(left->compatible, drv->liveupdate->compatible);
}

/* A function that was held has no driver that knows it: it does nothing from here on. */
static void pci_liveupdate_still(struct pci_dev *pf)
{
	pci_liveupdate_set_read_only(pf, false);
	pci_clear_master(pf);
	pci_liveupdate_msix_off(pf);
	pci_intx(pf, 0);
	pci_liveupdate_no_master(pf);
}

static int pci_liveupdate_adopt(struct pci_driver *drv, struct pci_dev *pf,
				const struct pci_device_id *id)
{
	const struct pci_liveupdate_left *left =
		rcu_dereference_protected(pf->liveupdate.left, true);
	int ret;

	device_lock_assert(&pf->dev);

	pci_liveupdate_set_read_only(pf, false);
	/* Without a reset it has translations of the previous kernel's */
	pci_liveupdate_end_services(pf);
	ret = drv->liveupdate->adopt(pf, id, left->data);
	pci_liveupdate_forget_left(pf);
	if (ret < 0) {
		pci_liveupdate_still(pf);
		pci_err(pf, "live update: its driver does not adopt it, stays held (%pe)\n",
			ERR_PTR(ret));
		return ret == -EPROBE_DEFER ? -ENODEV : ret;
	}

	__module_get(drv->driver.owner);
	pf->liveupdate.adopted = true;
	pci_info(pf, "live update: adopted by its driver\n");
	/* All may be finished already: then nobody else sees to it */
	pci_liveupdate_held_finish(pf);

	return ret;
}

/* probe() of a driver, or what it has for a function that was held. */
int pci_liveupdate_probe(struct pci_driver *drv, struct pci_dev *pdev,
			 const struct pci_device_id *id)
{
	int ret;

	if (pci_liveupdate_incoming(pdev) == PCI_LIVEUPDATE_HELD)
		ret = pci_liveupdate_adopt(drv, pdev, id);
	else if (pci_liveupdate_outgoing(pdev) == PCI_LIVEUPDATE_HELD)
		ret = -EBUSY;
	else
		ret = drv->probe(pdev, id);

	WRITE_ONCE(pdev->liveupdate.takes_part, ret >= 0 && drv->liveupdate);

	return ret;
}

/* Its driver has it no more, or the live update: the module is not kept any longer. */
static void pci_liveupdate_end_adopted(struct pci_dev *pf)
{
	module_put(pf->dev.driver->owner);
	pf->liveupdate.adopted = false;
}

/* A driver lets go of a function that it has adopted: that is held as before. */
void pci_liveupdate_unbind_held(struct pci_dev *pf)
{
	device_lock_assert(&pf->dev);

	WRITE_ONCE(pf->liveupdate.takes_part, false);
	if (!pf->liveupdate.adopted)
		return;

	pci_liveupdate_end_adopted(pf);
	pci_liveupdate_still(pf);
}

/*
 * All that came is finished. The drivers of functions that were held get to know it
 * from a work, since LUO's locks are held, which come after the device lock. One that
 * is going to be held again gets to know it when that is called off.
 */
static void pci_liveupdate_release_adopted(struct work_struct *work)
{
	struct pci_dev *pf = NULL;

	if (pci_liveupdate_any_incoming())
		return;

	for_each_pci_dev(pf) {
		const struct pci_liveupdate_pf_ops *ops;

		if (pci_liveupdate_incoming(pf) != PCI_LIVEUPDATE_HELD)
			continue;

		guard(device)(&pf->dev);
		if (!pf->liveupdate.adopted || pci_liveupdate_outgoing(pf) ||
		    kexec_in_progress)
			continue;

		ops = pci_liveupdate_pf_ops(pf);
		if (ops)
			ops->release(pf);
		pci_liveupdate_end_adopted(pf);
		pci_liveupdate_disown(pf);
	}
}

static DECLARE_WORK(pci_liveupdate_release_work, pci_liveupdate_release_adopted);

/* Something may be over that kept a function from being released. */
void pci_liveupdate_held_finish(struct pci_dev *pf)
{
	if (READ_ONCE(pf->liveupdate.adopted))
		schedule_work(&pci_liveupdate_release_work);
}

/* --- sysfs ------------------------------------------------------------------ */

static ssize_t liveupdate_hold_show(struct device *dev,
				    struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", READ_ONCE(to_pci_dev(dev)->liveupdate.hold));
}

static ssize_t liveupdate_hold_store(struct device *dev,
				     struct device_attribute *attr,
				     const char *buf, size_t count)
{
	struct pci_dev *pdev = to_pci_dev(dev);
	bool hold;
	int ret;

	ret = kstrtobool(buf, &hold);
	if (ret)
		return ret;

	/* Virtual functions were preserved because of it */
	if (!hold && pci_liveupdate_outgoing(pdev) == PCI_LIVEUPDATE_HELD)
		return -EBUSY;

	WRITE_ONCE(pdev->liveupdate.hold, hold);

	return count;
}
static DEVICE_ATTR_RW(liveupdate_hold);

/* Is a virtual function in use: in a live update, or with a driver? */
static bool pci_liveupdate_uses_vf(struct pci_dev *pf)
{
	struct pci_dev *vf = NULL;

	while ((vf = pci_get_device(pf->vendor, PCI_ANY_ID, vf))) {
		if (vf->is_virtfn && pci_physfn(vf) == pf &&
		    (pci_liveupdate_incoming(vf) || pci_liveupdate_outgoing(vf) ||
		     READ_ONCE(vf->dev.driver))) {
			pci_dev_put(vf);
			return true;
		}
	}

	return false;
}

/*
 * Let the driver of a held function have it, or of one that came with virtual
 * functions and that nobody has taken over. It is held as long as it was not reset:
 * its driver may turn bus mastering on before it resets it.
 */
static int pci_liveupdate_release(struct pci_dev *pdev)
{
	bool held = pci_liveupdate_incoming(pdev) == PCI_LIVEUPDATE_HELD;
	int ret;

	device_lock_assert(&pdev->dev);

	/* Its driver has it, or nobody has it for another reason */
	if (pdev->driver || (!held && (pci_liveupdate_incoming(pdev) || !pci_num_vf(pdev))))
		return -EINVAL;
	if (pci_liveupdate_outgoing(pdev) || pci_liveupdate_uses_vf(pdev))
		return -EBUSY;

	WRITE_ONCE(pdev->liveupdate.hold, false);
	pci_liveupdate_set_read_only(pdev, false);
	pci_disable_sriov(pdev);
	pci_clear_master(pdev);
	pci_liveupdate_msix_off(pdev);
	pci_set_power_state(pdev, PCI_D0);
	/* The reset does it, too, by the specification: the IOMMU's driver relies on it */
	if (held)
		pci_liveupdate_end_services(pdev);
	ret = pci_liveupdate_reset(pdev);
	if (ret) {
		pci_liveupdate_set_read_only(pdev, held);
		pci_err(pdev, "live update: cannot be reset, and is not released (%pe)\n",
			ERR_PTR(ret));
		return ret;
	}

	pci_liveupdate_disown(pdev);
	pci_info(pdev, "live update: released\n");

	return 0;
}

/*
 * The order of locks is that of a removal, which also waits for attributes that are
 * in use: not for this one.
 */
static ssize_t liveupdate_release_store(struct device *dev,
					struct device_attribute *attr,
					const char *buf, size_t count)
{
	struct kernfs_node *kn;
	bool release;
	int ret;

	ret = kstrtobool(buf, &release);
	if (ret || !release)
		return ret ?: -EINVAL;

	get_device(dev);
	kn = sysfs_break_active_protection(&dev->kobj, &attr->attr);
	pci_lock_rescan_remove();
	scoped_guard(device, dev)
		ret = pci_dev_is_added(to_pci_dev(dev)) ?
		      pci_liveupdate_release(to_pci_dev(dev)) : -ENODEV;
	if (!ret)
		ret = device_attach(dev);
	pci_unlock_rescan_remove();
	if (kn)
		sysfs_unbreak_active_protection(kn);
	put_device(dev);

	return ret < 0 ? ret : count;
}
static DEVICE_ATTR_WO(liveupdate_release);

static struct attribute *pci_liveupdate_pf_attrs[] = {
	&dev_attr_liveupdate_hold.attr,
	&dev_attr_liveupdate_release.attr,
	NULL,
};

static umode_t pci_liveupdate_pf_attr_visible(struct kobject *kobj,
					      struct attribute *attr, int n)
{
	struct pci_dev *pdev = to_pci_dev(kobj_to_dev(kobj));

	/* One whose SR-IOV is not as it was is held all the same */
	return pdev->is_physfn || pci_liveupdate_incoming(pdev) == PCI_LIVEUPDATE_HELD ?
		attr->mode : 0;
}

const struct attribute_group pci_liveupdate_pf_attr_group = {
	.attrs = pci_liveupdate_pf_attrs,
	.is_visible = pci_liveupdate_pf_attr_visible,
};
