// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: PCI devices in a Live Update
 *
 * A driver that preserves PCI devices for the next kernel (vfio-pci does) needs the
 * PCI core to leave a device alone in the outgoing kernel, and to recognize it in
 * the incoming one.
 *
 * Outgoing kernel::
 *
 *   preserve() of a device's file
 *     pci_liveupdate_preserve()         the device and the bridges above it, into
 *                                       the list
 *   pci_device_shutdown() of each device, before the bridges above it
 *     pci_liveupdate_skip_shutdown()    at a kexec running devices of the list are left
 *                                       out; held functions are stopped here
 *     pci_liveupdate_shutdown()         at a kexec bus mastering stays on for all
 *                                       bridges of the list; at any other end all
 *                                       devices of it are stopped
 *
 * Incoming kernel::
 *
 *   enumeration
 *     pci_liveupdate_keep_buses()       bridges keep their bus numbers
 *     pci_liveupdate_setup_device()     looks each device up in the list
 *     pci_liveupdate_adopt_sriov()      virtual functions stay enabled
 *   driver core
 *     pci_liveupdate_match_driver()     only the driver that preserved it
 *   removal, or a probe that fails
 *     pci_liveupdate_abandon()          clears bus mastering, resets the device
 *   finish() of a device's file
 *     pci_liveupdate_finish()           an ordinary device from now on
 *
 * The list lives in a LUO file-lifecycle-bound object (FLB): it is made for the
 * first file that needs it, and freed with the last. The bridges are in it because
 * a device is reached, and reaches memory, only through them; each counts the
 * preserved devices below it.
 *
 * A device is found by its segment, bus, device and function numbers. To keep these,
 * a kernel that gets a list does not renumber buses, whatever its command line says
 * (``pci=assign-busses``). While anything is incoming, a bridge without bus numbers
 * gets none, is not scanned below, and is reported.
 *
 * A preserved device waits for its driver, however late its module is loaded. One
 * in running mode is not written to from the driver's freeze to its opening in the
 * next kernel, and neither are the bridges above it: see liveupdate_config.c. If it
 * is unbound before it is opened, it waits for the driver again.
 *
 * Restrictions:
 *
 * - liveupdate_check.c lists the devices that are refused.
 * - That a device is still the one that was preserved is told by its vendor and
 *   device IDs, and by the bridge above it, which must have come in, too.
 *
 * The ``liveupdate`` attributes in sysfs show the state of each device, see
 * Documentation/ABI/testing/sysfs-bus-pci-liveupdate.
 *
 * Locking: pci_liveupdate_lock guards the outgoing and the incoming list and all
 * writes to &struct pci_liveupdate. LUO's own lock of the FLB is taken before it
 * and never inside it.
 */

#define pr_fmt(fmt) "PCI: live update: " fmt

#include <linux/cleanup.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/iommu_liveupdate.h>
#include <linux/jiffies.h>
#include <linux/kexec.h>
#include <linux/kexec_handover.h>
#include <linux/kho/check/pci.h>
#include <linux/kho/memory.h>
#include <linux/liveupdate.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/string.h>

#include "pci.h"

static DEFINE_MUTEX(pci_liveupdate_lock);

/* This kernel was handed devices, whether they are finished or not */
static bool pci_liveupdate_came_in;

/* For the device lock of a physical function */
#define PCI_LIVEUPDATE_PATIENCE	(2 * HZ)

/* One page of entries to begin with; pci_ser_reserve() doubles it. */
#define PCI_SER_FIRST_CAPACITY	(PAGE_SIZE / sizeof(struct pci_dev_ser))

static struct pci_dev_ser *pci_ser_entries(struct pci_ser *ser)
{
	return phys_to_virt(ser->devices);
}

static struct pci_dev_ser *pci_ser_find(struct pci_ser *ser, u32 domain, u16 bdf)
{
	struct pci_dev_ser *entries = pci_ser_entries(ser);

	for (u32 i = 0; i < ser->count; i++) {
		if (entries[i].role != PCI_SER_ROLE_NONE &&
		    entries[i].domain == domain && entries[i].bdf == bdf)
			return &entries[i];
	}

	return NULL;
}

static struct pci_dev_ser *pci_ser_find_dev(struct pci_ser *ser,
					    struct pci_dev *pdev)
{
	return pci_ser_find(ser, pci_domain_nr(pdev->bus), pci_dev_id(pdev));
}

/* Make room for @more entries, so that adding them cannot fail half-way. */
static int pci_ser_reserve(struct pci_ser *ser, u32 more)
{
	struct pci_dev_ser *entries;
	u32 capacity = ser->capacity;

	while (capacity < ser->count + more)
		capacity *= 2;
	if (capacity == ser->capacity)
		return 0;
	if (capacity > PCI_SER_MAX_CAPACITY)
		return -ENOSPC;

	entries = kho_alloc_preserve(capacity * sizeof(*entries));
	if (IS_ERR(entries))
		return PTR_ERR(entries);

	memcpy(entries, pci_ser_entries(ser), ser->count * sizeof(*entries));
	kho_unpreserve_free(pci_ser_entries(ser));
	ser->devices = virt_to_phys(entries);
	ser->capacity = capacity;

	return 0;
}

/* A bridge above a preserved device, or a physical function that is held for it */
static void pci_ser_get(struct pci_ser *ser, struct pci_dev *pdev, u8 role,
			enum pci_liveupdate_state state)
{
	struct pci_dev_ser *entry = pci_ser_find_dev(ser, pdev);

	if (entry) {
		entry->refcount++;
		return;
	}

	entry = &pci_ser_entries(ser)[ser->count++];
	*entry = (struct pci_dev_ser) {
		.domain = pci_domain_nr(pdev->bus),
		.bdf = pci_dev_id(pdev),
		.role = role,
		.refcount = 1,
		.vendor = pdev->vendor,
		.device = pdev->device,
	};
	pci_liveupdate_record(pdev, entry);
	pci_liveupdate_record_sriov(pdev, entry);
	if (role == PCI_SER_ROLE_HELD)
		pci_liveupdate_record_data(pdev, entry);
	WRITE_ONCE(pdev->liveupdate.outgoing, state);
}

static void pci_ser_add_device(struct pci_ser *ser, struct pci_dev *pdev,
			       enum pci_liveupdate_state mode)
{
	struct pci_dev_ser *entry = &pci_ser_entries(ser)[ser->count++];

	*entry = (struct pci_dev_ser) {
		.domain = pci_domain_nr(pdev->bus),
		.bdf = pci_dev_id(pdev),
		.role = PCI_SER_ROLE_DEVICE,
		.mode = mode == PCI_LIVEUPDATE_RUNNING ?
			PCI_SER_MODE_RUNNING : PCI_SER_MODE_IDLE,
		.refcount = 1,
		.vendor = pdev->vendor,
		.device = pdev->device,
	};
	strscpy_pad(entry->driver, pdev->driver->name);
	pci_liveupdate_record(pdev, entry);
	pci_liveupdate_record_sriov(pdev, entry);
	if (pdev->is_virtfn)
		pci_ser_find_dev(ser, pci_physfn(pdev))->sriov.vfs++;
	WRITE_ONCE(pdev->liveupdate.outgoing, mode);
}

static void pci_ser_put(struct pci_ser *ser, struct pci_dev *pdev)
{
	struct pci_dev_ser *entry = pci_ser_find_dev(ser, pdev);
	struct pci_dev_ser *last;

	if (WARN_ON(!entry) || --entry->refcount)
		return;

	if (pdev->is_virtfn)
		pci_ser_find_dev(ser, pci_physfn(pdev))->sriov.vfs--;
	if (entry->role == PCI_SER_ROLE_HELD)
		pci_liveupdate_unprepare_hold(pdev);
	last = &pci_ser_entries(ser)[--ser->count];
	*entry = *last;
	memset(last, 0, sizeof(*last));
	WRITE_ONCE(pdev->liveupdate.outgoing, PCI_LIVEUPDATE_NONE);
}

static int pci_flb_preserve(struct liveupdate_flb_op_args *args)
{
	struct pci_dev_ser *entries;
	struct pci_ser *ser;

	ser = kho_alloc_preserve(sizeof(*ser));
	if (IS_ERR(ser))
		return PTR_ERR(ser);

	entries = kho_alloc_preserve(PCI_SER_FIRST_CAPACITY * sizeof(*entries));
	if (IS_ERR(entries)) {
		kho_unpreserve_free(ser);
		return PTR_ERR(entries);
	}

	ser->devices = virt_to_phys(entries);
	ser->capacity = PCI_SER_FIRST_CAPACITY;
	args->obj = ser;
	args->data = virt_to_phys(ser);

	return 0;
}

static void pci_flb_unpreserve(struct liveupdate_flb_op_args *args)
{
	struct pci_ser *ser = args->obj;

	WARN_ON(ser->count);
	kho_unpreserve_free(pci_ser_entries(ser));
	kho_unpreserve_free(ser);
}

static int pci_flb_retrieve(struct liveupdate_flb_op_args *args)
{
	struct pci_ser *ser = kho_take(args->data, sizeof(*ser));
	const char *why = ser ? pci_ser_check(ser, kho_take) :
				"its head is not in preserved memory";

	if (why) {
		pr_err("handover data is broken, no device is known again: %s\n",
		       why);
		return -EINVAL;
	}

	args->obj = ser;
	WRITE_ONCE(pci_liveupdate_came_in, true);

	return 0;
}

/**
 * pci_liveupdate_msix_off() - Turn off MSI-X that a device came with
 * @pdev: Device that is not to use it.
 *
 * INTx is disabled before, which the device could raise in its place. Nothing is done
 * to a device whose MSI-X is off, or that has none.
 *
 * Context: Any, as of pci_write_config_word().
 */
void pci_liveupdate_msix_off(struct pci_dev *pdev)
{
	u16 control;

	if (!pdev->msix_cap)
		return;

	pci_read_config_word(pdev, pdev->msix_cap + PCI_MSIX_FLAGS, &control);
	if (!(control & PCI_MSIX_FLAGS_ENABLE))
		return;

	pci_intx(pdev, 0);
	pci_write_config_word(pdev, pdev->msix_cap + PCI_MSIX_FLAGS,
			      control & ~(PCI_MSIX_FLAGS_ENABLE |
					  PCI_MSIX_FLAGS_MASKALL));
}
EXPORT_SYMBOL_GPL(pci_liveupdate_msix_off);

/*
 * The live update is done with this device. One that runs and that no driver
 * opened for anybody is stopped: nobody would ever do so any more.
 */
static void pci_liveupdate_forget(struct pci_dev *pdev)
{
	bool running = pci_liveupdate_running(pdev);

	lockdep_assert_held(&pci_liveupdate_lock);

	if (!pdev->liveupdate.incoming)
		return;

	pci_liveupdate_set_read_only(pdev, false);
	if (running) {
		pci_clear_master(pdev);
		pci_liveupdate_msix_off(pdev);
	}
	if (running && pdev->liveupdate.incoming == PCI_LIVEUPDATE_RUNNING)
		pci_warn(pdev, "live update: nobody has taken it over, bus mastering is off\n");
	pci_liveupdate_unfix_bars(pdev);
	WRITE_ONCE(pdev->liveupdate.incoming, PCI_LIVEUPDATE_NONE);
}

static void pci_flb_finish(struct liveupdate_flb_op_args *args)
{
	struct pci_ser *ser = args->obj;
	struct pci_dev *pdev = NULL;

	guard(mutex)(&pci_liveupdate_lock);

	/* A held function is its driver's now, or the administrator's to release */
	for_each_pci_dev(pdev) {
		if (pci_liveupdate_incoming(pdev) == PCI_LIVEUPDATE_HELD)
			pci_liveupdate_held_finish(pdev);
		else
			pci_liveupdate_forget(pdev);
	}

	for (u32 i = 0; i < ser->count; i++) {
		if (pci_ser_entries(ser)[i].data)
			kho_taken_free(phys_to_virt(pci_ser_entries(ser)[i].data));
	}
	kho_taken_free(pci_ser_entries(ser));
	kho_taken_free(ser);
}

static const struct liveupdate_flb_ops pci_flb_ops = {
	.preserve = pci_flb_preserve,
	.unpreserve = pci_flb_unpreserve,
	.retrieve = pci_flb_retrieve,
	.finish = pci_flb_finish,
	.owner = THIS_MODULE,
};

static struct liveupdate_flb pci_liveupdate_flb = {
	.ops = &pci_flb_ops,
	.compatible = PCI_LIVEUPDATE_COMPATIBLE,
};

/* The incoming list, or NULL when nothing is incoming (any more). */
static struct pci_ser *pci_liveupdate_get_incoming(void)
{
	void *obj;

	if (liveupdate_flb_get_incoming(&pci_liveupdate_flb, &obj))
		return NULL;

	return obj;
}

static void pci_liveupdate_put_incoming(void)
{
	liveupdate_flb_put_incoming(&pci_liveupdate_flb);
}

/**
 * pci_liveupdate_register() - Make files that hand over PCI devices known
 * @fh:  File handler of a driver, registered with LUO.
 * @drv: That driver, for pci_liveupdate_unregister() to take back.
 *
 * From now on preserving a file of @fh makes the PCI core keep its list.
 *
 * Context: Process context, may sleep.
 * Return: 0, -ENAMETOOLONG when the driver's name does not fit into what crosses,
 * or what liveupdate_register_flb() returns: -EOPNOTSUPP when live update is off,
 * -ENOMEM, -EEXIST, -ENOSPC.
 */
int pci_liveupdate_register(struct liveupdate_file_handler *fh,
			    struct pci_liveupdate_driver *drv)
{
	int ret;

	if (strlen(drv->driver->name) >= PCI_SER_DRIVER_LEN)
		return -ENAMETOOLONG;

	ret = liveupdate_register_flb(fh, &pci_liveupdate_flb);
	if (!ret)
		pci_liveupdate_add_driver(drv);

	return ret;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_register);

/**
 * pci_liveupdate_unregister() - Undo pci_liveupdate_register()
 * @fh:  File handler that was registered.
 * @drv: Driver that was registered with it.
 *
 * Context: Process context, may sleep.
 */
void pci_liveupdate_unregister(struct liveupdate_file_handler *fh,
			       struct pci_liveupdate_driver *drv)
{
	pci_liveupdate_remove_driver(drv);
	liveupdate_unregister_flb(fh, &pci_liveupdate_flb);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_unregister);

static int pci_liveupdate_refuse(struct pci_dev *pdev, int err, const char *why)
{
	pci_warn(pdev, "live update: cannot be preserved: %s (%pe)\n", why,
		 ERR_PTR(err));
	return err;
}

/* A virtual function needs its physical one, which runs or was prepared to be held. */
static int pci_liveupdate_add_pf(struct pci_ser *ser, struct pci_dev *vf)
{
	struct pci_dev *pf = pci_physfn(vf);

	switch (pci_liveupdate_outgoing(pf)) {
	case PCI_LIVEUPDATE_RUNNING:
		return 0;
	case PCI_LIVEUPDATE_IDLE:
		return pci_liveupdate_refuse(vf, -ENOENT,
					     "its physical function is preserved in idle mode");
	default:
		pci_ser_get(ser, pf, PCI_SER_ROLE_HELD, PCI_LIVEUPDATE_HELD);
		return 0;
	}
}

static int pci_liveupdate_add(struct pci_ser *ser, struct pci_dev *pdev,
			      enum pci_liveupdate_state mode)
{
	struct pci_dev *bridge;
	u32 depth = 1 + pdev->is_virtfn;
	int ret;

	lockdep_assert_held(&pci_liveupdate_lock);

	if (pdev->liveupdate.outgoing)
		return pci_liveupdate_refuse(pdev, -EBUSY,
					     "is preserved already");

	for (bridge = pci_upstream_bridge(pdev); bridge;
	     bridge = pci_upstream_bridge(bridge))
		depth++;

	ret = pci_ser_reserve(ser, depth);
	if (ret)
		return pci_liveupdate_refuse(pdev, ret,
					     "no room in the handover data");

	if (pdev->is_virtfn) {
		ret = pci_liveupdate_add_pf(ser, pdev);
		if (ret)
			return ret;
	}
	for (bridge = pci_upstream_bridge(pdev); bridge;
	     bridge = pci_upstream_bridge(bridge))
		pci_ser_get(ser, bridge, PCI_SER_ROLE_BRIDGE,
			    PCI_LIVEUPDATE_BRIDGE);
	pci_ser_add_device(ser, pdev, mode);

	return 0;
}

static int pci_liveupdate_add_locked(struct pci_ser *ser, struct pci_dev *pdev,
				     enum pci_liveupdate_state mode)
{
	guard(mutex)(&pci_liveupdate_lock);

	return pci_liveupdate_add(ser, pdev, mode);
}

/* With the device lock of its physical function, which may have to be held for it */
static int pci_liveupdate_add_vf(struct pci_ser *ser, struct pci_dev *vf,
				 enum pci_liveupdate_state mode)
{
	struct pci_dev *pf = pci_physfn(vf);
	bool prepared = false;
	const char *why;
	int ret;

	ret = pci_liveupdate_lock_pf(vf, jiffies + PCI_LIVEUPDATE_PATIENCE, &why);
	if (ret)
		return pci_liveupdate_refuse(vf, ret, why);

	if (!pci_liveupdate_outgoing(pf)) {
		ret = pci_liveupdate_prepare_hold(pf, &why);
		if (ret)
			pci_liveupdate_refuse(vf, ret, why);
		prepared = !ret;
	}
	if (!ret)
		ret = pci_liveupdate_add_locked(ser, vf, mode);
	if (prepared && pci_liveupdate_outgoing(pf) != PCI_LIVEUPDATE_HELD)
		pci_liveupdate_unprepare_hold(pf);
	pci_liveupdate_unlock_pf(vf);

	return ret;
}

/**
 * pci_liveupdate_preserve() - Keep a device and its bridges for the next kernel
 * @pdev: Device, bound to the driver that calls.
 * @mode: %PCI_LIVEUPDATE_IDLE or %PCI_LIVEUPDATE_RUNNING.
 *
 * The caller is in the preserve() of a file whose handler it registered with
 * pci_liveupdate_register(), and keeps @pdev from going away until
 * pci_liveupdate_unpreserve(). A refusal because of the device is logged here.
 *
 * The physical function of a virtual one is preserved before it, and unpreserved
 * after it.
 *
 * Context: Process context, may sleep. Takes pci_liveupdate_lock.
 * Return: 0 on success. -EOPNOTSUPP for an idle device with virtual functions
 * enabled, a virtual function whose physical one is not of a driver that takes part,
 * or a device whose BARs cannot be written down, -ENODEV without an IOMMU group,
 * -EXDEV when the IOMMU cannot tell its DMA from another device's, -EBUSY when
 * preserved already, or while somebody binds or resets its physical function, -ENOSPC
 * or -ENOMEM when there is no room to write it down, -ENOENT when the physical function
 * is neither preserved in running mode nor held, or when called outside of a file's
 * preserve(); or what the physical function's driver says when it cannot keep it.
 */
int pci_liveupdate_preserve(struct pci_dev *pdev, enum pci_liveupdate_state mode)
{
	enum pci_liveupdate_why why = pci_liveupdate_check(pdev, mode);
	void *obj;
	int ret;

	if (why)
		return pci_liveupdate_refuse(pdev, pci_liveupdate_why_error(why),
					     pci_liveupdate_why_text(why));

	ret = liveupdate_flb_get_outgoing(&pci_liveupdate_flb, &obj);
	if (ret)
		return ret;

	ret = pdev->is_virtfn ? pci_liveupdate_add_vf(obj, pdev, mode) :
				pci_liveupdate_add_locked(obj, pdev, mode);
	liveupdate_flb_put_outgoing(&pci_liveupdate_flb);

	return ret;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_preserve);

/**
 * pci_liveupdate_check_freeze() - Can a preserved device go now?
 * @pdev: Device that was preserved.
 * @end:  When to give up waiting for the device lock of its physical function, in
 *        jiffies.
 * @why:  Where to put what is against it.
 *
 * Virtual functions cannot be enabled or disabled any more since their physical
 * function was preserved. But somebody could be in the middle of it then.
 *
 * Context: Process context, may sleep; nobody is in such a call now, since the device
 * lock of the physical function was held after that, by the caller for one that is
 * preserved, or in pci_liveupdate_preserve() for one that is held. Takes
 * pci_liveupdate_lock.
 * Return: 0; -EAGAIN: to be preserved anew; -EBUSY while somebody binds or resets its
 * physical function; or what the driver of that says when it cannot keep it.
 */
int pci_liveupdate_check_freeze(struct pci_dev *pdev, unsigned long end,
				const char **why)
{
	struct pci_dev *pf = pci_physfn(pdev);
	struct pci_dev_ser *entry;
	void *obj;
	int ret;

	ret = liveupdate_flb_get_outgoing(&pci_liveupdate_flb, &obj);
	*why = "There is no list.";
	if (ret)
		return ret;

	scoped_guard(mutex, &pci_liveupdate_lock) {
		entry = pci_ser_find_dev(obj, pf);
		*why = "Virtual functions were enabled or disabled while it was preserved.";
		if (!entry || !pci_liveupdate_same_sriov(pf, entry))
			ret = -EAGAIN;
	}
	liveupdate_flb_put_outgoing(&pci_liveupdate_flb);

	if (ret || pci_liveupdate_outgoing(pf) != PCI_LIVEUPDATE_HELD)
		return ret;

	ret = pci_liveupdate_lock_pf(pdev, end, why);
	if (ret)
		return ret;
	ret = pci_liveupdate_check_hold(pf, why);
	pci_liveupdate_unlock_pf(pdev);

	return ret;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_check_freeze);

/**
 * pci_liveupdate_unpreserve() - Undo pci_liveupdate_preserve()
 * @pdev: Device that was preserved.
 *
 * Context: Process context, may sleep. Takes pci_liveupdate_lock.
 */
void pci_liveupdate_unpreserve(struct pci_dev *pdev)
{
	struct pci_dev *bridge, *pf = pci_physfn(pdev);
	void *obj;

	if (WARN_ON(liveupdate_flb_get_outgoing(&pci_liveupdate_flb, &obj)))
		return;

	scoped_guard(mutex, &pci_liveupdate_lock) {
		pci_ser_put(obj, pdev);
		if (pci_liveupdate_outgoing(pf) == PCI_LIVEUPDATE_HELD)
			pci_ser_put(obj, pf);
		for (bridge = pci_upstream_bridge(pdev); bridge;
		     bridge = pci_upstream_bridge(bridge))
			pci_ser_put(obj, bridge);
	}

	liveupdate_flb_put_outgoing(&pci_liveupdate_flb);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_unpreserve);

/**
 * pci_liveupdate_outgoing() - How a device goes to the next kernel
 * @pdev: Device.
 *
 * Context: Any context.
 * Return: %PCI_LIVEUPDATE_IDLE or %PCI_LIVEUPDATE_RUNNING for a device that is
 * preserved, %PCI_LIVEUPDATE_BRIDGE for a bridge above one, %PCI_LIVEUPDATE_HELD for a
 * physical function that is held for one, else %PCI_LIVEUPDATE_NONE.
 */
enum pci_liveupdate_state pci_liveupdate_outgoing(struct pci_dev *pdev)
{
	return READ_ONCE(pdev->liveupdate.outgoing);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_outgoing);

/**
 * pci_liveupdate_incoming() - How a device came from the previous kernel
 * @pdev: Device.
 *
 * Context: Any context.
 * Return: %PCI_LIVEUPDATE_IDLE or %PCI_LIVEUPDATE_RUNNING for a device that was
 * handed over and is not finished, %PCI_LIVEUPDATE_BRIDGE for a bridge above
 * one, %PCI_LIVEUPDATE_HELD for a physical function that was held and is not released,
 * else %PCI_LIVEUPDATE_NONE.
 */
enum pci_liveupdate_state pci_liveupdate_incoming(struct pci_dev *pdev)
{
	return READ_ONCE(pdev->liveupdate.incoming);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_incoming);

/**
 * pci_liveupdate_get_bar_owner() - Find the device that a BAR belongs to
 * @start: First physical address of a part of the BAR, in bytes.
 * @size:  Size of that part, in bytes.
 *
 * Context: Process context, may sleep.
 * Return: the device, with a reference that the caller puts, or NULL if no BAR
 * of a device has all of it.
 */
struct pci_dev *pci_liveupdate_get_bar_owner(phys_addr_t start, size_t size)
{
	struct resource part = DEFINE_RES_MEM(start, size);
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev) {
		for (int i = 0; i < PCI_STD_NUM_BARS; i++) {
			if (resource_contains(&pdev->resource[i], &part))
				return pdev;
		}
	}

	return NULL;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_get_bar_owner);

/**
 * pci_liveupdate_finish() - The device's driver has taken it over
 * @domain: PCI segment (domain) number of the device.
 * @bdf:    Bus, device and function number, as pci_dev_id() has them.
 *
 * From now on the device is like any other. It is named by its numbers because
 * it may have been removed meanwhile. The bridges above it are released with
 * the last file that is finished. If the device came in running and was not
 * opened by its driver (it is read-only still), its bus mastering is turned off.
 *
 * Context: Process context, may sleep. Takes pci_liveupdate_lock.
 */
void pci_liveupdate_finish(u32 domain, u16 bdf)
{
	struct pci_dev *pdev = pci_get_domain_bus_and_slot(domain,
							   PCI_BUS_NUM(bdf),
							   bdf & 0xff);
	struct pci_ser *ser = pci_liveupdate_get_incoming();

	if (ser) {
		scoped_guard(mutex, &pci_liveupdate_lock) {
			struct pci_dev_ser *entry = pci_ser_find(ser, domain, bdf);

			if (entry && entry->role == PCI_SER_ROLE_DEVICE)
				entry->role = PCI_SER_ROLE_NONE;
			if (pdev)
				pci_liveupdate_forget(pdev);
		}
		pci_liveupdate_put_incoming();
	}

	pci_dev_put(pdev);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_finish);

static enum pci_liveupdate_state
pci_liveupdate_entry_state(const struct pci_dev_ser *entry)
{
	if (entry->role == PCI_SER_ROLE_BRIDGE)
		return PCI_LIVEUPDATE_BRIDGE;
	if (entry->role == PCI_SER_ROLE_HELD)
		return PCI_LIVEUPDATE_HELD;

	return entry->mode == PCI_SER_MODE_RUNNING ? PCI_LIVEUPDATE_RUNNING :
						     PCI_LIVEUPDATE_IDLE;
}

const char *pci_liveupdate_state_name(enum pci_liveupdate_state state)
{
	static const char * const names[] = {
		[PCI_LIVEUPDATE_NONE] = "none",
		[PCI_LIVEUPDATE_BRIDGE] = "bridge",
		[PCI_LIVEUPDATE_HELD] = "held",
		[PCI_LIVEUPDATE_IDLE] = "idle",
		[PCI_LIVEUPDATE_RUNNING] = "running",
	};

	return names[state];
}

/*
 * Is the device that is there now the one of the entry? The IDs must be those of
 * the device that was preserved, or else somebody changed the machine. All bridges
 * above it must have come in, too, or else they are not left alone.
 */
static const char *pci_liveupdate_check_entry(struct pci_dev *pdev,
					      const struct pci_dev_ser *entry)
{
	struct pci_dev *bridge = pci_upstream_bridge(pdev);
	bool is_bridge = pdev->hdr_type == PCI_HEADER_TYPE_BRIDGE;
	bool was_bridge = entry->role == PCI_SER_ROLE_BRIDGE;

	if (entry->vendor != pdev->vendor || entry->device != pdev->device)
		return "is another device now";

	if (is_bridge != was_bridge ||
	    pdev->is_virtfn != !!(entry->flags & PCI_SER_VF) ||
	    (pdev->is_virtfn && pci_dev_id(pci_physfn(pdev)) != entry->physfn))
		return "is of another kind now";

	/* A held function does nothing, and no driver is to set it going */
	if (bridge && entry->role != PCI_SER_ROLE_HELD &&
	    pci_liveupdate_incoming(bridge) != PCI_LIVEUPDATE_BRIDGE)
		return "but the bridge above it was not";

	return NULL;
}

/*
 * A device was enumerated: is it one that the previous kernel handed over? One
 * that does not fit its entry is nobody's: the IOMMU blocks its DMA.
 */
void pci_liveupdate_setup_device(struct pci_dev *pdev)
{
	struct pci_ser *ser = pci_liveupdate_get_incoming();
	struct pci_dev_ser *entry;
	const char *why;

	if (!ser)
		return;

	scoped_guard(mutex, &pci_liveupdate_lock) {
		entry = pci_ser_find_dev(ser, pdev);
		if (!entry)
			break;

		why = pci_liveupdate_check_entry(pdev, entry);
		if (why) {
			pci_err(pdev, "live update: was preserved as [%04x:%04x], %s\n",
				entry->vendor, entry->device, why);
			break;
		}

		WRITE_ONCE(pdev->liveupdate.incoming, pci_liveupdate_entry_state(entry));
		pci_liveupdate_recall(pdev, entry);
		pci_liveupdate_recall_data(pdev, entry);
		pci_info(pdev, "live update: incoming, %s\n",
			 pci_liveupdate_state_name(pdev->liveupdate.incoming));
	}

	pci_liveupdate_put_incoming();
}

/* What came of the SR-IOV of a physical function; returns the flags of its entry, or 0. */
u32 pci_liveupdate_get_sriov(struct pci_dev *pdev, struct pci_sriov_ser *sriov)
{
	struct pci_ser *ser = pci_liveupdate_get_incoming();
	struct pci_dev_ser *entry;
	u32 flags = 0;

	if (!ser)
		return 0;

	scoped_guard(mutex, &pci_liveupdate_lock) {
		entry = pci_ser_find_dev(ser, pdev);
		if (entry) {
			flags = entry->flags;
			*sriov = entry->sriov;
		}
	}

	pci_liveupdate_put_incoming();

	return flags;
}

/* Make it forget what it was doing; what is not there any more does not. */
int pci_liveupdate_reset(struct pci_dev *pdev)
{
	int ret;

	if (!pci_device_is_present(pdev))
		return 0;

	pci_save_state(pdev);
	if (!pci_wait_for_pending_transaction(pdev))
		pci_warn(pdev, "live update: transactions still pending, resetting anyway\n");
	ret = __pci_reset_function_locked(pdev);
	pci_restore_state(pdev);

	return ret;
}

/* A device that came in running, or was held, is nobody's from now on. */
void pci_liveupdate_disown(struct pci_dev *pdev)
{
	struct pci_ser *ser = pci_liveupdate_get_incoming();
	struct pci_dev_ser *entry;

	scoped_guard(mutex, &pci_liveupdate_lock) {
		entry = ser ? pci_ser_find_dev(ser, pdev) : NULL;
		if (entry)
			entry->role = PCI_SER_ROLE_NONE;
		pci_liveupdate_forget(pdev);
	}
	pci_liveupdate_forget_left(pdev);

	if (ser)
		pci_liveupdate_put_incoming();
}

/**
 * pci_liveupdate_abandon() - A device will not be taken over
 * @pdev: Device that its driver could not probe or open, that lost its driver
 *        after that has opened it, or that is being removed.
 *
 * If it came in running, there is nobody left who would take it over: its bus
 * mastering is turned off, it is reset, so that the next driver does not set its
 * old work going again, and it is not known any more should it be found again. A
 * device that cannot be reset is nobody's until the next boot: its IOMMU group
 * stays with the live update. A physical function with virtual ones, whose work a
 * reset would end, waits for its driver again until it is finished.
 *
 * Context: Process context, may sleep. The caller holds the device lock. Takes
 * pci_liveupdate_lock.
 */
void pci_liveupdate_abandon(struct pci_dev *pdev)
{
	int ret;

	if (pci_liveupdate_incoming(pdev) != PCI_LIVEUPDATE_RUNNING)
		return;

	if (pci_num_vf(pdev)) {
		pci_warn(pdev, "live update: not reset because of its virtual functions, waits for its driver\n");
		return;
	}

	pci_liveupdate_disown(pdev);
	ret = pci_liveupdate_reset(pdev);
	if (ret) {
		pci_liveupdate_no_master(pdev);
		pci_err(pdev, "live update: cannot be reset, and belongs to nobody until the next boot (%pe)\n",
			ERR_PTR(ret));
		return;
	}
	iommu_liveupdate_release(&pdev->dev);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_abandon);

/*
 * A device is being removed that has no driver any more. Virtual functions that it
 * has all the same came with it, and go before it.
 */
void pci_liveupdate_remove(struct pci_dev *pdev)
{
	bool held = pci_liveupdate_incoming(pdev) == PCI_LIVEUPDATE_HELD;

	if (pci_num_vf(pdev)) {
		pci_liveupdate_set_read_only(pdev, false);
		pci_clear_master(pdev);
		pci_liveupdate_msix_off(pdev);
		pci_disable_sriov(pdev);
	}

	pci_liveupdate_abandon(pdev);
	if (held) {
		pci_liveupdate_disown(pdev);
		if (pci_liveupdate_reset(pdev))
			pci_warn(pdev, "live update: cannot be reset\n");
	}
}

/*
 * A driver lets go of its device. One that runs and was not opened was not touched
 * either: it waits for that driver again, and for no other. Whoever sets drivers up
 * twice, unbinding what is there first, must not end anybody's work by that.
 */
void pci_liveupdate_unbind(struct pci_dev *pdev)
{
	pci_liveupdate_unbind_held(pdev);
	if (pci_liveupdate_running(pdev))
		pci_info(pdev, "live update: runs on without a driver, and waits for it\n");
	else
		pci_liveupdate_abandon(pdev);
}

/*
 * May root unbind this device's driver? With a physical function go its virtual
 * ones, so this is refused for as long as those are kept.
 */
bool pci_liveupdate_may_unbind(struct device *dev)
{
	struct pci_dev *pdev = to_pci_dev(dev);

	return !pci_liveupdate_keeps_vfs(pdev) || !pci_num_vf(pdev);
}

/* Is anything incoming, and not finished? */
bool pci_liveupdate_any_incoming(void)
{
	if (!pci_liveupdate_get_incoming())
		return false;

	pci_liveupdate_put_incoming();

	return true;
}

/*
 * Do bridges that have bus numbers keep them? Once something came in they do
 * until the next boot: the numbers are not those that this kernel would give,
 * and devices that were handed over live with them after finish, too.
 */
bool pci_liveupdate_keep_buses(void)
{
	return pci_liveupdate_any_incoming() || READ_ONCE(pci_liveupdate_came_in);
}

static bool pci_liveupdate_domain_incoming(int domain)
{
	struct pci_ser *ser = pci_liveupdate_get_incoming();
	bool found = false;

	if (!ser)
		return false;

	scoped_guard(mutex, &pci_liveupdate_lock) {
		for (u32 i = 0; i < ser->count && !found; i++)
			found = pci_ser_entries(ser)[i].domain == domain;
	}

	pci_liveupdate_put_incoming();

	return found;
}

/*
 * May this bridge, which has no valid bus numbers, not be given any now? New
 * numbers could be those that an incoming device or one below it has, so there
 * are none in its segment until everything incoming is finished; a rescan
 * configures the bridge then. Invalid numbers are cleared, as they always are,
 * so that the bridge does not answer for somebody else's bus.
 */
bool pci_liveupdate_skip_bridge(struct pci_dev *bridge, int pass)
{
	u32 buses;

	if (!pci_liveupdate_domain_incoming(pci_domain_nr(bridge->bus)))
		return false;
	if (pass)
		return true;

	pci_warn(bridge, "live update: bridge has no valid bus numbers and gets none now; not scanned below\n");
	pci_read_config_dword(bridge, PCI_PRIMARY_BUS, &buses);
	if (buses & ~PCI_SEC_LATENCY_TIMER_MASK &&
	    !pci_liveupdate_incoming(bridge))
		pci_write_config_dword(bridge, PCI_PRIMARY_BUS,
				       buses & PCI_SEC_LATENCY_TIMER_MASK);

	return true;
}

/*
 * May @drv bind to @pdev? 1: yes, by right of the live update; 0: no;
 * -1: the live update has no say.
 */
int pci_liveupdate_match_driver(struct pci_dev *pdev, struct pci_driver *drv)
{
	struct pci_dev_ser *entry;
	struct pci_ser *ser;
	int ret = -1;

	if (pci_liveupdate_incoming(pdev) == PCI_LIVEUPDATE_HELD)
		return pci_liveupdate_may_adopt(pdev, drv) ? ret : 0;

	/* A virtual function that is not preserved is its physical one's driver's */
	if (!pci_liveupdate_incoming(pdev))
		pdev = pci_physfn(pdev);
	if (!pci_liveupdate_is_device(pci_liveupdate_incoming(pdev)))
		return ret;

	ser = pci_liveupdate_get_incoming();
	if (!ser)
		return ret;

	scoped_guard(mutex, &pci_liveupdate_lock) {
		entry = pci_ser_find_dev(ser, pdev);
		if (entry)
			ret = !strncmp(drv->name, entry->driver,
				       PCI_SER_DRIVER_LEN);
	}

	pci_liveupdate_put_incoming();

	return ret;
}

/*
 * Bus mastering is off, and stays off: nothing can be written any more. It is looked at
 * once more then, past the check for that, for whoever was in the middle of a write.
 */
void pci_liveupdate_no_master(struct pci_dev *pdev)
{
	u16 command;

	pci_liveupdate_set_read_only(pdev, true);
	pci_bus_read_config_word(pdev->bus, pdev->devfn, PCI_COMMAND, &command);
	if (!PCI_POSSIBLE_ERROR(command) && command & PCI_COMMAND_MASTER)
		pci_bus_write_config_word(pdev->bus, pdev->devfn, PCI_COMMAND,
					  command & ~PCI_COMMAND_MASTER);
}

/*
 * The kernel goes down, and no kernel will take this device over. Its user still
 * runs on another CPU, whose calls make the driver write to the device's
 * configuration: what was saved with bus mastering on is restored, for one. So
 * the device is read-only for good when it was reset, for the driver as well as
 * for user space.
 *
 * The lock of configuration accesses (pci_cfg_access_lock()) keeps user space off
 * until then. It is not held on: the driver's own writes ignore it, and error
 * recovery of the port above would wait for it.
 */
static void pci_liveupdate_stop(struct pci_dev *pdev)
{
	bool locked;
	int ret;

	device_lock_assert(&pdev->dev);

	locked = pci_cfg_access_trylock(pdev);
	pci_liveupdate_set_read_only(pdev, false);
	pci_clear_master(pdev);
	/* A reset brings it there, too, but not past what its driver has saved */
	pci_set_power_state(pdev, PCI_D0);
	ret = pci_liveupdate_reset(pdev);
	pci_liveupdate_no_master(pdev);
	if (locked)
		pci_cfg_access_unlock(pdev);

	if (ret)
		pci_warn(pdev, "live update: stopped, but cannot be reset (%pe)\n",
			 ERR_PTR(ret));
	else
		pci_info(pdev, "live update: stopped and reset\n");
}

/*
 * The kernel goes down. Is this device to be left alone, its driver's shutdown
 * included? So are those that run, and those that are held, when they do no more.
 */
bool pci_liveupdate_skip_shutdown(struct pci_dev *pdev)
{
	enum pci_liveupdate_state outgoing = pci_liveupdate_outgoing(pdev);

	if (!kexec_in_progress)
		return false;

	if (outgoing == PCI_LIVEUPDATE_HELD)
		pci_liveupdate_do_hold(pdev);

	return outgoing == PCI_LIVEUPDATE_RUNNING || outgoing == PCI_LIVEUPDATE_HELD;
}

/*
 * The kernel goes down. Returns whether the device keeps its bus mastering, at a
 * kexec: not in idle mode, whose freeze has cleared it, even if it is set again.
 *
 * A device that is not handed over must not do DMA from here on: neither the next
 * kernel nor firmware expects it, and IOMMUs are turned off next. So a device that
 * came in running, or was held, and does not go on is stopped, and so are all devices of sessions
 * when the machine is rebooted or turned off without a live update. Devices come
 * before the bridges above them, and those before the IOMMU.
 *
 * A reset in an emergency (sysrq b, a panic) does not come here. It turns no IOMMU
 * off either, so that DMA goes where it may go until the machine is reset.
 */
bool pci_liveupdate_shutdown(struct pci_dev *pdev)
{
	enum pci_liveupdate_state outgoing = pci_liveupdate_outgoing(pdev);
	enum pci_liveupdate_state incoming = pci_liveupdate_incoming(pdev);

	if (kexec_in_progress) {
		if (outgoing == PCI_LIVEUPDATE_BRIDGE)
			return true;
		if (incoming == PCI_LIVEUPDATE_RUNNING ||
		    incoming == PCI_LIVEUPDATE_HELD)
			pci_liveupdate_stop(pdev);
		else
			pci_liveupdate_set_read_only(pdev, false);
	} else if (pci_liveupdate_is_device(incoming) ||
		   pci_liveupdate_is_device(outgoing) ||
		   incoming == PCI_LIVEUPDATE_HELD) {
		pci_liveupdate_stop(pdev);
	} else {
		pci_liveupdate_set_read_only(pdev, false);
	}

	return false;
}
