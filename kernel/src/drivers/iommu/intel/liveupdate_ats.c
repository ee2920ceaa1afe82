// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: Device TLBs in a Live Update
 *
 * A device with ATS keeps translations, in its device TLB. They stay right while the
 * kernels change, because the page table does. Its entry in the handover tables keeps the
 * type that lets it ask for more. The incoming kernel finds ATS enabled in the device, as
 * the list says, and has it in &struct device_domain_info from the start: so each later
 * change of what it reaches flushes its device TLB, after the IOTLB, as for any other
 * device of this driver.
 *
 * PASID stays enabled where no PASID has a page table: the device's PASID table has one
 * entry, for requests without PASID. Those that have one are blocked, or go by the same
 * page table when it is 0.
 *
 * PRI is disabled when the device is preserved, and enabled again if it is preserved no
 * more. The incoming kernel enables it when a page table needs it, but for virtual
 * functions, which have it when their physical one has.
 *
 * Outgoing kernel::
 *
 *   intel_liveupdate_device_check()
 *     intel_liveupdate_check_services()    what is handled here stands against it
 *   intel_liveupdate_device_preserve()
 *     intel_liveupdate_keep_services()     PRI off, ATS and PASID into the list
 *
 * Incoming kernel::
 *
 *   intel_liveupdate_probe_device()
 *     intel_liveupdate_adopt_services()    is it as the list says? Then it is ours
 *   intel_iommu_enable_iopf()
 *     intel_liveupdate_enable_pri()        PRI on again
 *   intel_liveupdate_attach()
 *     intel_liveupdate_flush_device()      a change from one page table to another
 *   qi_submit_sync()
 *     intel_liveupdate_timed_out()         a device ends
 *     intel_liveupdate_skip_ended()        the unit refuses its DMA
 *
 * Where a device does not answer: the hardware gives a flush of a device TLB up after a
 * time (Invalidation Time-out Error; PCI Express 4.0, 10.3.1, has 60 to 90 seconds). Linux
 * tries again, forever, or takes it for done if the device is not present. A device that
 * came through a live update ends instead: its entry is made not present, before the flush
 * returns and any memory is freed, and stays so until it is removed. The unit refuses
 * whatever it does, translated requests, too. What else was submitted, by others or with
 * the same flush, and the time-out has aborted, is submitted again without it; without
 * any other device, too, that is not present.
 *
 * Restrictions:
 *
 * - A unit that does not say whose flush it gave up (IQERCD_REG) tries forever.
 * - PRI of a physical function is that of its virtual ones, preserved or not.
 */

#define pr_fmt(fmt) "DMAR: live update: " fmt

#include <linux/bitfield.h>
#include <linux/pci-ats.h>
#include <linux/pci.h>

#include "iommu.h"
#include "liveupdate.h"

/* Of an invalidation descriptor for a device TLB: the type, and its requester ID */
#define DESC_TYPE		GENMASK_ULL(3, 0)
#define DESC_DEV_IOTLB_SID	GENMASK_ULL(47, 32)
#define DESC_DEV_EIOTLB_SID	GENMASK_ULL(31, 16)

/*
 * device_domain_info.liveupdate_end: it is not there, and what flushes it is left out once;
 * it does not answer; and the unit refuses its DMA
 */
#define END_GONE		1
#define END_SILENT		2
#define END_BLOCKED		3

/* --- outgoing --------------------------------------------------------------- */

/* Does something that is handled here stand against @info's device? */
enum pci_liveupdate_why
intel_liveupdate_check_services(const struct device_domain_info *info)
{
	struct pci_dev *pdev = to_pci_dev(info->dev);

	if (intel_liveupdate_has_ended(info))
		return PCI_LIVEUPDATE_SILENT;

	/* A physical function that is preserved, too, has it disabled already */
	if (info->iopf_refcount ||
	    (pdev->is_virtfn && pci_physfn(pdev)->pri_enabled))
		return PCI_LIVEUPDATE_PRI;

	return PCI_LIVEUPDATE_YES;
}

/* Wait until page requests that have left devices are in the queue, or were answered. */
void intel_liveupdate_drain_requests(struct intel_iommu *iommu)
{
	struct qi_desc fence = {
		.qw0 = QI_IWD_STATUS_DATA(QI_DONE) | QI_IWD_FENCE | QI_IWD_TYPE,
	};

	if (ecap_prs(iommu->ecap) && ecap_pds(iommu->ecap))
		qi_submit_sync(iommu, &fence, 1, QI_OPT_WAIT_DRAIN);
}

/*
 * The group is locked. Returns 0, or -EBUSY with @why: the device's PRI is disabled then,
 * and is so until it has stopped and somebody needs it.
 */
int intel_liveupdate_keep_services(struct device_domain_info *info, u8 *flags,
				   const char **why)
{
	if (info->pri_enabled && !to_pci_dev(info->dev)->is_virtfn) {
		info->pri_enabled = 0;
		info->liveupdate_pri = 1;
	}

	if (pci_liveupdate_quiesce_pri(to_pci_dev(info->dev))) {
		*why = "its page requests do not come to an end";
		return -EBUSY;
	}
	intel_liveupdate_drain_requests(info->iommu);

	if (info->ats_enabled)
		*flags |= IOMMU_SER_DEV_ATS;
	if (info->pasid_enabled)
		*flags |= IOMMU_SER_DEV_PASID;

	return 0;
}

/* Enable PRI again, if it has stopped. */
static void enable_pri(struct device_domain_info *info)
{
	iommu_enable_pci_pri(info);
	if (info->pri_enabled)
		info->liveupdate_pri = 0;
}

/* The device is preserved no more. */
void intel_liveupdate_return_services(struct device_domain_info *info)
{
	if (info->liveupdate_pri)
		enable_pri(info);
}

/* --- incoming --------------------------------------------------------------- */

static const char *services_differ(const struct device_domain_info *info,
				   const struct iommu_dev_ser *entry)
{
	struct pci_dev *pdev = to_pci_dev(info->dev);
	struct pci_dev *pf = pci_physfn(pdev);
	bool ats = entry->flags & IOMMU_SER_DEV_ATS;

	if (pdev->ats_enabled != ats || (ats && pf->ats_stu != VTD_PAGE_SHIFT))
		return "its ATS is not as the previous kernel left it";
	if (ats && !info->ats_supported)
		return "its ATS is enabled, and this kernel does not use it";

	if (!(entry->flags & IOMMU_SER_DEV_PASID))
		return NULL;

	if (!pf->pasid_enabled)
		return "its PASID is not as the previous kernel left it";
	if (!info->pasid_supported)
		return "its PASID is enabled, and this kernel does not use it";

	return NULL;
}

/*
 * A device came with its entry: what that allows it is what it has, and this kernel's
 * state from now on. False: its DMA cannot go on.
 */
bool intel_liveupdate_adopt_services(struct device_domain_info *info,
				     const struct iommu_dev_ser *entry)
{
	struct pci_dev *pdev = to_pci_dev(info->dev);
	const char *why;

	pci_liveupdate_adopt_services(pdev);
	why = services_differ(info, entry);
	if (why) {
		dev_err(info->dev, "live update: %s: its DMA ends\n", why);
		pdev->ats_enabled = 0;
		return false;
	}

	info->ats_enabled = !!(entry->flags & IOMMU_SER_DEV_ATS);
	info->pasid_enabled = !!(entry->flags & IOMMU_SER_DEV_PASID);

	return true;
}

/*
 * A physical function that is held: it is not written to, and works without these when
 * its driver has it again. Those of its virtual functions need what it says of them.
 */
void intel_liveupdate_setup_held(struct device_domain_info *info)
{
	struct pci_dev *pdev = to_pci_dev(info->dev);

	pci_liveupdate_adopt_services(pdev);
	pdev->ats_enabled = 0;
	info->ats_supported = 0;
	info->pasid_supported = 0;
	info->pri_supported = 0;
}

/* Is the Smallest Translation Unit one that the device came with? */
bool intel_liveupdate_keeps_ats(const struct device_domain_info *info)
{
	return info->liveupdate ||
	       pci_liveupdate_incoming(to_pci_dev(info->dev)) ==
	       PCI_LIVEUPDATE_HELD;
}

/*
 * A page table with a fault handler is attached to a device whose PRI was disabled for
 * the update. The group is locked. Returns whether PRI is enabled now.
 */
bool intel_liveupdate_enable_pri(struct device_domain_info *info)
{
	struct intel_iommu *iommu = info->iommu;
	struct context_entry *context;

	if ((!info->liveupdate && !info->liveupdate_pri) ||
	    !info->pri_supported || !info->ats_enabled)
		return false;

	context = iommu_context_addr(iommu, info->bus, info->devfn, 0);
	if (!context)
		return false;

	/* One that was refused may have requests outstanding, which a reset would forget */
	if (pci_liveupdate_quiesce_pri(to_pci_dev(info->dev)))
		return false;

	/* Page Request Enable; others may clear another bit, see block_entry() */
	set_bit(4, (unsigned long *)&context->lo);
	__iommu_flush_cache(iommu, context, sizeof(*context));
	iommu->flush.flush_context(iommu, 0, PCI_DEVID(info->bus, info->devfn),
				   DMA_CCMD_MASK_NOBIT, DMA_CCMD_DEVICE_INVL);
	enable_pri(info);

	return info->pri_enabled;
}

/* --- a device that does not answer ------------------------------------------- */

/* Does the device stay without an entry, whatever it is attached to? */
bool intel_liveupdate_has_ended(const struct device_domain_info *info)
{
	return READ_ONCE(info->liveupdate_end) >= END_SILENT;
}

/*
 * The unit refuses whatever the device does, before this returns, and goes on doing so:
 * nothing makes its entry present again. Any context in which qi_submit_sync() may be
 * called; several CPUs may do it at once.
 */
static void block_device(struct device_domain_info *info)
{
	if (READ_ONCE(info->liveupdate_end) == END_BLOCKED)
		return;

	intel_liveupdate_block_entry(info->iommu, info->bus, info->devfn);
	WRITE_ONCE(info->liveupdate_end, END_BLOCKED);
}

static void end_device(struct device_domain_info *info)
{
	if (intel_liveupdate_has_ended(info))
		return;

	WRITE_ONCE(info->liveupdate_end, END_SILENT);
	WRITE_ONCE(info->iommu->liveupdate_ended, true);
	dev_err(info->dev, "live update: does not answer when its translations are to be flushed: its DMA ends, until it is removed and found again\n");
}

/*
 * Its device TLB should be flushed, and it is not there to be asked: it may come back. One
 * without power has lost what it had, and ATS is enabled anew when it gets power again.
 */
void intel_liveupdate_end_absent(struct device_domain_info *info)
{
	if (!info->liveupdate ||
	    pci_physfn(to_pci_dev(info->dev))->current_state == PCI_D3cold)
		return;

	end_device(info);
	block_device(info);
}

/*
 * What the device reaches has changed while it goes on. When this returns it uses nothing
 * of what it had before.
 */
void intel_liveupdate_flush_device(struct device_domain_info *info)
{
	if (!info->ats_enabled)
		return;

	if (!pci_device_is_present(to_pci_dev(info->dev))) {
		intel_liveupdate_end_absent(info);
		return;
	}

	qi_flush_dev_iotlb(info->iommu, PCI_DEVID(info->bus, info->devfn),
			   info->pfsid, info->ats_qdep, 0, MAX_AGAW_PFN_WIDTH);
	quirk_extra_dev_tlb_flush(info, 0, MAX_AGAW_PFN_WIDTH, IOMMU_NO_PASID,
				  info->ats_qdep);
}

/* The requester ID whose device TLB a descriptor flushes, or -1 */
static int flushed_device(const struct qi_desc *desc)
{
	switch (FIELD_GET(DESC_TYPE, desc->qw0)) {
	case QI_DIOTLB_TYPE:
		return FIELD_GET(DESC_DEV_IOTLB_SID, desc->qw0);
	case QI_DEIOTLB_TYPE:
		return FIELD_GET(DESC_DEV_EIOTLB_SID, desc->qw0);
	default:
		return -1;
	}
}

static bool is_submitted(const struct intel_iommu *iommu, int index,
			 int wait_index, u16 sid)
{
	const struct q_inval *qi = iommu->qi;

	for (; index != wait_index; index = (index + 1) % QI_LENGTH) {
		if (flushed_device(qi->desc + (index << qi_shift(iommu))) == sid)
			return true;
	}

	return false;
}

/*
 * The hardware has given up a flush of the device TLB of @sid, and with it all that
 * waited. Whoever sees it first comes here, with what he submitted from @index on; the
 * queue is locked. True: what was his is submitted again, without devices that have ended.
 */
bool intel_liveupdate_timed_out(struct intel_iommu *iommu, u16 sid, int index,
				int wait_index)
{
	struct device *dev = device_rbtree_find(iommu, sid);
	struct device_domain_info *info = dev ? dev_iommu_priv_get(dev) : NULL;

	/* Of a device that was released: it is its own submission that ends */
	if (!info)
		return !is_submitted(iommu, index, wait_index, sid);

	if (info->liveupdate) {
		end_device(info);
	} else if (!pci_device_is_present(to_pci_dev(dev))) {
		WRITE_ONCE(info->liveupdate_end, END_GONE);
		WRITE_ONCE(iommu->liveupdate_ended, true);
	}

	return true;
}

static struct device_domain_info *ended_device(struct intel_iommu *iommu,
					       const struct qi_desc *desc)
{
	struct device_domain_info *info;
	int sid = flushed_device(desc);
	struct device *dev;

	if (sid < 0)
		return NULL;

	dev = device_rbtree_find(iommu, sid);
	info = dev ? dev_iommu_priv_get(dev) : NULL;

	return info && READ_ONCE(info->liveupdate_end) ? info : NULL;
}

/*
 * Descriptors are going to be submitted: leave out those that a device does not answer,
 * and have the unit refuse its DMA instead, which is so when this returns. Any context in
 * which qi_submit_sync() may be called. Returns how many are left of @count.
 */
unsigned int intel_liveupdate_skip_ended(struct intel_iommu *iommu,
					 struct qi_desc *desc,
					 unsigned int count)
{
	unsigned int left = 0;

	if (likely(!READ_ONCE(iommu->liveupdate_ended)))
		return count;

	for (unsigned int i = 0; i < count; i++) {
		struct device_domain_info *info = ended_device(iommu, &desc[i]);

		if (!info)
			desc[left++] = desc[i];
		else if (intel_liveupdate_has_ended(info))
			block_device(info);
		else
			WRITE_ONCE(info->liveupdate_end, 0);
	}

	return left;
}
