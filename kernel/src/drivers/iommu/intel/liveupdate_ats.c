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
 * more. The incoming kernel enables it when a page table needs it.
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
 *   qi_submit_sync()
 *     intel_liveupdate_timed_out()         counts, and ends a device
 *     intel_liveupdate_skip_ended()        the unit refuses its DMA
 *
 * Where a device does not answer: the hardware gives a flush of a device TLB up after a time (Invalidation Time-out
 * Error; PCI Express 4.0, 10.3.1, has 60 to 90 seconds), and Linux tries again, forever.
 * A device that came through a live update is given %FLUSH_ATTEMPTS. Then its entry is
 * made not present, before the flush returns and any memory is freed: the unit refuses
 * whatever the device does, by translated requests, too. Other devices' flushes go on.
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

#define FLUSH_ATTEMPTS		2

/* Of an invalidation descriptor for a device TLB: the type, and its requester ID */
#define DESC_TYPE		GENMASK_ULL(3, 0)
#define DESC_DEV_IOTLB_SID	GENMASK_ULL(47, 32)
#define DESC_DEV_EIOTLB_SID	GENMASK_ULL(31, 16)

/* --- outgoing --------------------------------------------------------------- */

/* Does something that is handled here stand against @info's device? */
enum pci_liveupdate_why
intel_liveupdate_check_services(const struct device_domain_info *info)
{
	struct pci_dev *pdev = to_pci_dev(info->dev);

	/* A physical function that is preserved, too, has it disabled already */
	if (info->iopf_refcount ||
	    (pdev->is_virtfn && pci_physfn(pdev)->pri_enabled))
		return PCI_LIVEUPDATE_PRI;

	return PCI_LIVEUPDATE_YES;
}

/* The group is locked. Returns 0, or -EBUSY with @why, and then nothing has changed. */
int intel_liveupdate_keep_services(struct device_domain_info *info, u8 *flags,
				   const char **why)
{
	/* Those requests that have left the device are answered before this is done */
	struct qi_desc fence = {
		.qw0 = QI_IWD_STATUS_DATA(QI_DONE) | QI_IWD_FENCE | QI_IWD_TYPE,
	};
	struct pci_dev *pdev = to_pci_dev(info->dev);

	if (info->pri_enabled && !pdev->is_virtfn) {
		info->pri_enabled = 0;
		info->liveupdate_pri = 1;
		if (pci_liveupdate_quiesce_pri(pdev)) {
			intel_liveupdate_return_services(info);
			*why = "its page requests do not come to an end";
			return -EBUSY;
		}
		qi_submit_sync(info->iommu, &fence, 1, QI_OPT_WAIT_DRAIN);
	}

	if (info->ats_enabled)
		*flags |= IOMMU_SER_DEV_ATS;
	if (info->pasid_enabled)
		*flags |= IOMMU_SER_DEV_PASID;

	return 0;
}

/* The device is preserved no more. If its PRI has not stopped it stays disabled. */
void intel_liveupdate_return_services(struct device_domain_info *info)
{
	if (!info->liveupdate_pri)
		return;

	info->liveupdate_pri = 0;
	iommu_enable_pci_pri(info);
}

/* --- incoming --------------------------------------------------------------- */

static const char *services_differ(const struct device_domain_info *info,
				   const struct iommu_dev_ser *entry)
{
	struct pci_dev *pdev = to_pci_dev(info->dev);
	struct pci_dev *pf = pci_physfn(pdev);

	if (entry->flags & IOMMU_SER_DEV_ATS) {
		if (!pdev->ats_enabled || pf->ats_stu != VTD_PAGE_SHIFT)
			return "its ATS is not as the previous kernel left it";
		if (!info->ats_supported)
			return "its ATS is enabled, and this kernel does not use it";
	}

	if (entry->flags & IOMMU_SER_DEV_PASID) {
		if (!pf->pasid_enabled)
			return "its PASID is not as the previous kernel left it";
		if (!info->pasid_supported)
			return "its PASID is enabled, and this kernel does not use it";
	}

	return NULL;
}

/*
 * A device came with its entry: what that allows it is what it has, and this kernel's
 * state from now on. False: its DMA cannot go on.
 */
bool intel_liveupdate_adopt_services(struct device_domain_info *info,
				     const struct iommu_dev_ser *entry)
{
	bool ats = entry->flags & IOMMU_SER_DEV_ATS;
	const char *why;

	pci_liveupdate_adopt_services(to_pci_dev(info->dev), ats);
	why = services_differ(info, entry);
	if (why) {
		dev_err(info->dev, "live update: %s: its DMA ends\n", why);
		return false;
	}

	info->ats_enabled = ats;
	info->pasid_enabled = !!(entry->flags & IOMMU_SER_DEV_PASID);

	return true;
}

/* Its DMA has ended, and with it what it had enabled. */
void intel_liveupdate_forget_services(struct device_domain_info *info)
{
	info->ats_enabled = 0;
	info->pasid_enabled = 0;
}

/*
 * A physical function that is held: it is not written to, and works without these when
 * its driver has it again. Those of its virtual functions need what it says of them.
 */
void intel_liveupdate_setup_held(struct device_domain_info *info)
{
	pci_liveupdate_adopt_services(to_pci_dev(info->dev), false);
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

	if (!info->liveupdate || !info->pri_supported || !info->ats_enabled)
		return false;

	spin_lock(&iommu->lock);
	context = iommu_context_addr(iommu, info->bus, info->devfn, 0);
	if (context) {
		context_set_sm_pre(context);
		__iommu_flush_cache(iommu, context, sizeof(*context));
	}
	spin_unlock(&iommu->lock);
	iommu->flush.flush_context(iommu, 0, PCI_DEVID(info->bus, info->devfn),
				   DMA_CCMD_MASK_NOBIT, DMA_CCMD_DEVICE_INVL);
	iommu_enable_pci_pri(info);

	return info->pri_enabled;
}

/* --- a device that does not answer ------------------------------------------- */

static bool has_ended(const struct device_domain_info *info)
{
	return info->liveupdate && info->flush_timeouts >= FLUSH_ATTEMPTS;
}

/* The hardware has given up a flush of this device's TLB. Any context. */
void intel_liveupdate_timed_out(struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);

	if (!info->liveupdate || has_ended(info))
		return;

	info->flush_timeouts++;
	if (!has_ended(info))
		return;

	WRITE_ONCE(info->iommu->liveupdate_ended, true);
	dev_err(dev, "live update: does not answer when its translations are to be flushed: its DMA ends\n");
}

/* Whose device TLB does a descriptor flush, if that does not answer? */
static struct device_domain_info *ended_device(struct intel_iommu *iommu,
					       const struct qi_desc *desc)
{
	struct device_domain_info *info;
	struct device *dev;
	u16 sid;

	switch (FIELD_GET(DESC_TYPE, desc->qw0)) {
	case QI_DIOTLB_TYPE:
		sid = FIELD_GET(DESC_DEV_IOTLB_SID, desc->qw0);
		break;
	case QI_DEIOTLB_TYPE:
		sid = FIELD_GET(DESC_DEV_EIOTLB_SID, desc->qw0);
		break;
	default:
		return NULL;
	}

	dev = device_rbtree_find(iommu, sid);
	info = dev ? dev_iommu_priv_get(dev) : NULL;

	return info && has_ended(info) ? info : NULL;
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

		if (info)
			intel_liveupdate_block_entry(iommu, info->bus,
						     info->devfn);
		else
			desc[left++] = desc[i];
	}

	return left;
}
