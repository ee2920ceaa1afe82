// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: SR-IOV in a Live Update
 *
 * A virtual function goes to the next kernel with its physical function, which runs
 * on, too. Nothing is written to the SR-IOV capability: whatever resets it, or
 * clears VF Enable for a moment, ends the virtual functions' work.
 *
 * Outgoing kernel::
 *
 *   preserve() of a physical function's file
 *     pci_liveupdate_record_sriov()     the capability, and what is known of it only
 *                                       because it was written to: sizes of BARs,
 *                                       how many buses virtual functions need
 *   preserve() of a virtual function's file
 *     pci_liveupdate_add_vf()           its physical function is in the list, and counts
 *                                       it
 *
 * Incoming kernel::
 *
 *   enumeration
 *     pci_liveupdate_adopt_sriov()      in place of sriov_init(): the capability is
 *                                       compared with what came, and taken over
 *   its BARs are claimed, and no driver can have it yet: pci_bus_add_device(), and
 *   at boot an initcall
 *     pci_liveupdate_add_vfs()          in place of sriov_enable(): the virtual
 *                                       functions that are enabled are there again
 *
 * From preserve to finish root gets -EBUSY in sysfs for what would end the virtual
 * functions: sriov_numvfs, reset and unbind (pci_liveupdate_keeps_vfs()). To remove the
 * physical function is to remove them.
 *
 * A physical function that is not preserved itself is **held**: see liveupdate_held.c.
 *
 * Restrictions:
 *
 * - A physical function that is not held is preserved in running mode, before its
 *   virtual ones and in the same session, by the driver that preserves those.
 * - Virtual functions that are not preserved are there again, too, and were reset. Until
 *   a physical function that is not held is finished they are for its driver only.
 * - What the user of a physical function does to it, such as to reset it, is not kept
 *   from him.
 */

#include <linux/cleanup.h>
#include <linux/init.h>
#include <linux/kho/abi/pci.h>
#include <linux/log2.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "pci.h"

static_assert(PCI_SRIOV_NUM_BARS == PCI_SER_VF_BARS);

/* --- outgoing --------------------------------------------------------------- */

/* The registers of the capability that are to be the same in the next kernel */
static void pci_liveupdate_read_sriov(struct pci_dev *pdev, int pos,
				      struct pci_sriov_ser *ser)
{
	pci_read_config_word(pdev, pos + PCI_SRIOV_CTRL, &ser->control);
	pci_read_config_word(pdev, pos + PCI_SRIOV_TOTAL_VF, &ser->total_vfs);
	pci_read_config_word(pdev, pos + PCI_SRIOV_INITIAL_VF, &ser->initial_vfs);
	pci_read_config_word(pdev, pos + PCI_SRIOV_NUM_VF, &ser->num_vfs);
	pci_read_config_word(pdev, pos + PCI_SRIOV_VF_OFFSET, &ser->offset);
	pci_read_config_word(pdev, pos + PCI_SRIOV_VF_STRIDE, &ser->stride);
	pci_read_config_word(pdev, pos + PCI_SRIOV_VF_DID, &ser->vf_device);
	pci_read_config_dword(pdev, pos + PCI_SRIOV_SYS_PGSIZE, &ser->page_size);
	for (int i = 0; i < PCI_SRIOV_NUM_BARS; i++)
		pci_read_config_dword(pdev, pos + PCI_SRIOV_BAR + 4 * i,
				      &ser->bar[i]);
}

/* Can the next kernel be told of this device's virtual functions? */
bool pci_liveupdate_can_record_sriov(const struct pci_dev *pdev)
{
	if (!pdev->is_physfn)
		return true;

	for (int i = 0; i < PCI_SRIOV_NUM_BARS; i++) {
		if (pdev->sriov->barsz[i] && !is_power_of_2(pdev->sriov->barsz[i]))
			return false;
	}

	return true;
}

/* Write down what a physical function is, and that a virtual one is one. */
void pci_liveupdate_record_sriov(struct pci_dev *pdev, struct pci_dev_ser *entry)
{
	const struct pci_sriov *iov = pdev->sriov;

	if (pdev->is_virtfn) {
		entry->flags |= PCI_SER_VF;
		entry->physfn = pci_dev_id(pci_physfn(pdev));
	}
	if (!pdev->is_physfn)
		return;

	entry->flags |= PCI_SER_SRIOV;
	if (!iov->drivers_autoprobe)
		entry->flags |= PCI_SER_NO_AUTOPROBE;
	pci_liveupdate_read_sriov(pdev, iov->pos, &entry->sriov);
	entry->sriov.last_bus = max(iov->max_VF_buses, pdev->bus->number);
	for (int i = 0; i < PCI_SRIOV_NUM_BARS; i++)
		entry->sriov.bar_order[i] = iov->barsz[i] ? ilog2(iov->barsz[i]) : 0;
}

/* Are virtual functions still those that were written down? */
bool pci_liveupdate_same_sriov(struct pci_dev *pdev, const struct pci_dev_ser *entry)
{
	struct pci_dev_ser now = { .sriov.vfs = entry->sriov.vfs };

	pci_liveupdate_record_sriov(pdev, &now);

	return !memcmp(&now.sriov, &entry->sriov, sizeof(now.sriov)) &&
	       (!pci_num_vf(pdev) || entry->mode != PCI_SER_MODE_IDLE);
}

/*
 * Is this a physical function that is kept as it is, with the virtual functions that
 * it has? From preserve to the end of the update, and from enumeration to finish.
 */
bool pci_liveupdate_keeps_vfs(struct pci_dev *pdev)
{
	return pdev->is_physfn &&
	       (pci_liveupdate_outgoing(pdev) || pci_liveupdate_incoming(pdev));
}

/* --- incoming --------------------------------------------------------------- */

/* Is the capability as the previous kernel had it? */
static const char *pci_liveupdate_compare_sriov(struct pci_dev *pdev, int pos,
						const struct pci_sriov_ser *ser)
{
	struct pci_sriov_ser now = {
		.last_bus = ser->last_bus,
		.vfs = ser->vfs,
	};

	pci_liveupdate_read_sriov(pdev, pos, &now);
	memcpy(now.bar_order, ser->bar_order, sizeof(now.bar_order));

	return memcmp(&now, ser, sizeof(now)) ?
		"its SR-IOV is not as it was, virtual functions are not known again" :
		NULL;
}

/* The BARs of all virtual functions, one after the other; they are where they are. */
static void pci_liveupdate_adopt_vf_bars(struct pci_dev *dev,
					 const struct pci_sriov_ser *ser)
{
	struct pci_sriov *iov = dev->sriov;
	u32 sizes[PCI_SRIOV_NUM_BARS];

	pci_liveupdate_bar_masks(dev, iov->pos + PCI_SRIOV_BAR, ser->bar_order,
				 PCI_SRIOV_NUM_BARS, sizes);

	for (int i = 0; i < PCI_SRIOV_NUM_BARS; i++) {
		struct resource *res = &dev->resource[pci_resource_num_from_vf_bar(i)];
		int bar = i;

		/* Enhanced Allocation has said where it is */
		if (res->flags & IORESOURCE_PCI_FIXED)
			i += !!(res->flags & IORESOURCE_MEM_64);
		else
			i += __pci_read_base(dev, pci_bar_unknown, res,
					     iov->pos + PCI_SRIOV_BAR + 4 * i,
					     &sizes[i]);
		if (!res->flags)
			continue;

		iov->barsz[bar] = resource_size(res);
		resource_set_size(res, resource_size(res) * iov->total_VFs);
		iov->nres++;
		if (!(res->flags & IORESOURCE_PCI_FIXED))
			dev->liveupdate.fixed_vf |= BIT(bar);
		res->flags |= IORESOURCE_PCI_FIXED;
	}
}

/*
 * Take over a physical function's SR-IOV. What is enabled stays so; the virtual
 * functions are added with pci_liveupdate_add_vfs(), when all buses are known.
 */
void pci_liveupdate_adopt_sriov(struct pci_dev *dev)
{
	int pos = pci_find_ext_capability(dev, PCI_EXT_CAP_ID_SRIOV);
	struct pci_sriov_ser ser;
	struct pci_sriov *iov;
	const char *why;
	u32 flags;

	flags = pci_liveupdate_get_sriov(dev, &ser);
	if (!pos || !(flags & PCI_SER_SRIOV))
		return;

	why = pci_liveupdate_compare_sriov(dev, pos, &ser);
	iov = why ? NULL : kzalloc_obj(*iov);
	if (!iov) {
		pci_err(dev, "live update: %s\n", why ?: "no memory for its SR-IOV");
		return;
	}

	iov->pos = pos;
	/* Virtual functions are enabled when they are there: pci_liveupdate_add_vfs() */
	iov->ctrl = ser.control & ~(PCI_SRIOV_CTRL_VFE | PCI_SRIOV_CTRL_MSE);
	iov->total_VFs = ser.total_vfs;
	iov->driver_max_VFs = ser.total_vfs;
	iov->initial_VFs = ser.initial_vfs;
	iov->offset = ser.offset;
	iov->stride = ser.stride;
	iov->vf_device = ser.vf_device;
	iov->pgsz = ser.page_size;
	iov->max_VF_buses = ser.last_bus;
	iov->dev = dev;
	iov->self = dev;
	iov->drivers_autoprobe = !(flags & PCI_SER_NO_AUTOPROBE);
	iov->vf_rebar_cap = pci_find_ext_capability(dev, PCI_EXT_CAP_ID_VF_REBAR);
	pci_read_config_dword(dev, pos + PCI_SRIOV_CAP, &iov->cap);
	pci_read_config_byte(dev, pos + PCI_SRIOV_FUNC_LINK, &iov->link);
	if (pci_pcie_type(dev) == PCI_EXP_TYPE_RC_END)
		iov->link = PCI_DEVFN(PCI_SLOT(dev->devfn), iov->link);

	dev->sriov = iov;
	dev->is_physfn = 1;
	pci_liveupdate_adopt_vf_bars(dev, &ser);
}

void pci_liveupdate_unfix_vf_bars(struct pci_dev *dev)
{
	for (int i = 0; i < PCI_SRIOV_NUM_BARS; i++) {
		if (dev->liveupdate.fixed_vf & BIT(i))
			dev->resource[pci_resource_num_from_vf_bar(i)].flags &=
				~IORESOURCE_PCI_FIXED;
	}
	dev->liveupdate.fixed_vf = 0;
}

/* As sriov_enable() links functions that depend on another */
static void pci_liveupdate_link_dependent(struct pci_dev *dev)
{
	struct pci_dev *other;

	if (dev->sriov->link == dev->devfn)
		return;

	other = pci_get_slot(dev->bus, dev->sriov->link);
	if (!other || sysfs_create_link(&dev->dev.kobj, &other->dev.kobj, "dep_link"))
		pci_warn(dev, "live update: no link to the function that it depends on\n");
	pci_dev_put(other);
}

static bool pci_liveupdate_vf_bars_claimed(struct pci_dev *dev)
{
	for (int i = 0; i < PCI_SRIOV_NUM_BARS; i++) {
		struct resource *res = &dev->resource[pci_resource_num_from_vf_bar(i)];

		if (res->flags && !res->parent)
			return false;
	}

	return true;
}

/*
 * Whoever had a virtual function that is not preserved has set it up, and a driver of
 * this kernel is not to set that going when it turns bus mastering on.
 */
static void pci_liveupdate_reset_vf(struct pci_dev *vf)
{
	if (pci_liveupdate_incoming(vf))
		return;

	guard(device)(&vf->dev);
	if (pci_liveupdate_reset(vf))
		pci_warn(vf, "live update: is not preserved, and cannot be reset\n");
}

static bool pci_liveupdate_add_vf(struct pci_dev *dev, int id)
{
	struct pci_dev *vf;

	if (pci_iov_add_virtfn(dev, id))
		return false;

	vf = pci_get_domain_bus_and_slot(pci_domain_nr(dev->bus),
					 pci_iov_virtfn_bus(dev, id),
					 pci_iov_virtfn_devfn(dev, id));
	if (vf)
		pci_liveupdate_reset_vf(vf);
	pci_dev_put(vf);

	return vf;
}

/*
 * Add the virtual functions that a physical one came with, as soon as its BARs are
 * claimed: at boot that is not when it is added itself, but later. It has no driver
 * yet, and they get none that they do not come with. Without its virtual functions
 * nobody takes those over that run: the IOMMU drops them, as it does with whatever is
 * not found again.
 */
void pci_liveupdate_add_vfs(struct pci_dev *dev)
{
	struct pci_sriov *iov = dev->sriov;
	u16 control, vfs, added = 0;
	bool autoprobe;

	if (!dev->is_physfn || iov->num_VFs || !pci_liveupdate_read_only(dev) ||
	    !pci_liveupdate_vf_bars_claimed(dev))
		return;

	pci_read_config_word(dev, iov->pos + PCI_SRIOV_CTRL, &control);
	pci_read_config_word(dev, iov->pos + PCI_SRIOV_NUM_VF, &vfs);
	if (!(control & PCI_SRIOV_CTRL_VFE))
		return;

	iov->ctrl = control;
	autoprobe = iov->drivers_autoprobe;
	iov->drivers_autoprobe = false;
	pci_liveupdate_link_dependent(dev);
	if (pci_iov_virtfn_bus(dev, vfs - 1) <= dev->bus->busn_res.end) {
		while (added < min(vfs, iov->initial_VFs) &&
		       pci_liveupdate_add_vf(dev, added))
			added++;
	}
	iov->num_VFs = vfs;
	iov->drivers_autoprobe = autoprobe;

	if (added < min(vfs, iov->initial_VFs))
		pci_err(dev, "live update: came with %u virtual functions, only %u can be added\n",
			vfs, added);
	else
		pci_info(dev, "live update: came with %u virtual functions\n", vfs);
}

/* At boot: after resources were claimed, before the IOMMU is set up, and drivers are */
static int __init pci_liveupdate_add_all_vfs(void)
{
	struct pci_dev *pdev = NULL;

	pci_lock_rescan_remove();
	for_each_pci_dev(pdev)
		pci_liveupdate_add_vfs(pdev);
	pci_unlock_rescan_remove();

	return 0;
}
fs_initcall_sync(pci_liveupdate_add_all_vfs);
