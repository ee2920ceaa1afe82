// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: VT-d in a Live Update
 *
 * A unit that translates for a preserved device is never turned off. What it
 * reads while the kernels change has to be in preserved memory: a root table, a
 * context table for each bus (or half of one, in scalable mode), in scalable
 * mode a PASID directory and a PASID table for each device, and the page tables
 * that they lead to.
 *
 * Outgoing kernel::
 *
 *   preserve() of a device's file
 *     intel_liveupdate_unit_preserve()     a root table, the handover tables' first
 *     intel_liveupdate_device_preserve()   room for the device's entry
 *   intel_iommu_shutdown()
 *     intel_liveupdate_shutdown()          fills the handover tables, and makes the
 *                                          unit use them; it stays on
 *       handover_block_irqs()              no device raises an interrupt any more
 *
 * The page tables are the live ones. Shutdown copies the entries of the preserved
 * devices as the hardware uses them at that moment. With the write of the root
 * pointer every other device has no entry any more. An entry that does not lead to
 * the device's preserved page table is left out. Other PCI devices do no DMA by
 * then, not even for firmware that has memory for one (RMRR): pci_device_shutdown()
 * cleared their bus mastering.
 *
 * Interrupts: the table that remaps them is the outgoing kernel's, and its memory may
 * be used for anything before the incoming kernel has one of its own. What a device
 * writes there would then decide which interrupts it can raise. So a unit that stays on
 * gets a preserved table in which nothing is present. Interrupt remapping is never off:
 * the incoming kernel puts its own table in the place of that one.
 *
 * Incoming kernel::
 *
 *   detect_intel_iommu()
 *     intel_liveupdate_check_early()       a unit that is on, and no list: panic
 *   intel_setup_irq_remapping()
 *     intel_liveupdate_keep_irqs()         leaves interrupt remapping on
 *   init_dmars()
 *     intel_liveupdate_take_over()         validates the handover tables, which are
 *                                          this kernel's from now on, and reserves
 *                                          their domain IDs
 *   intel_iommu_probe_device()
 *     intel_liveupdate_probe_device()      keeps the device's entry, or drops it if
 *                                          the PCI core does not recognize the device
 *       intel_liveupdate_adopt_services()  ATS and PASID are enabled, as it says
 *   intel_iommu_attach_device()
 *     intel_liveupdate_attach()            to the restored domain: writes nothing
 *                                          from it to another: no DMA is blocked
 *
 * Handover to another page table: attaching a device to a domain of the same
 * kind as the one that it is attached to does not block its DMA in between, as
 * it does otherwise. What leads to the page table is written at once, with the
 * domain ID where both are in the same 128 bits (irq_remapping.c relies on the
 * hardware reading these as one, too). Should the hardware see one before the
 * other, as it may in first-stage entries, then it uses the new page table under
 * the domain ID of the old one for a moment. Either page table is right for the
 * device, and what is cached under the old ID is invalidated right after, in the
 * device's own TLB, too.
 *
 * The driver panics where a unit translates for running devices and it cannot
 * go on doing so: turning translation off would let them write anywhere.
 *
 * Restrictions:
 *
 * - The unit is in the same mode, legacy or scalable, in both kernels.
 * - No page requests are handled, and no PASID has a page table. ATS goes on, see
 *   liveupdate_ats.c. After the update a device can have PASIDs below 32768.
 * - No page table in which dirty pages are being tracked, and no nested one.
 * - No device with requester IDs beside its own, or with memory for firmware.
 */

#define pr_fmt(fmt) "DMAR: live update: " fmt

#include <linux/cleanup.h>
#include <linux/cpufeature.h>
#include <linux/crash_dump.h>
#include <linux/dmar.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/kexec.h>
#include <linux/kexec_handover.h>
#include <linux/kho/check/vtd.h>
#include <linux/kho/memory.h>
#include <linux/log2.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "iommu.h"
#include "liveupdate.h"
#include "pasid.h"
#include "../iommu-pages.h"
#include "../irq_remapping.h"

/* One page of the PASID directory: the value of PDTS for 512 entries */
#define HANDOVER_PDTS		2
#define CONTEXT_PDTS_MASK	GENMASK_ULL(11, 9)

/* Device-TLB, PASID and Page Request Enable: as the list says, and no page requests */
#define CONTEXT_SM_EXTRAS	(BIT_ULL(2) | BIT_ULL(3) | BIT_ULL(4))

/* IRTA: a page of entries of 16 bytes; the mode in which it names processors */
#define HANDOVER_IRQS		(ilog2(VTD_PAGE_SIZE / sizeof(struct irte)) - 1)
#define IRTA_EIME		BIT_ULL(11)

/* Entries of a root table */
#define HANDOVER_BUSES		(VTD_PAGE_SIZE / sizeof(struct root_entry))

#define root_entry_present(entry)	((entry) & 1)

/* --- handover tables -------------------------------------------------------- */

static u64 *handover_root_entry(u64 root, bool scalable, u8 bus, u8 devfn)
{
	struct root_entry *entry = (struct root_entry *)phys_to_virt(root) + bus;

	return scalable && devfn >= 0x80 ? &entry->hi : &entry->lo;
}

static struct context_entry *handover_context(u64 root, bool scalable, u8 bus,
					      u8 devfn)
{
	u64 entry = *handover_root_entry(root, scalable, bus, devfn);
	struct context_entry *context;

	if (!root_entry_present(entry))
		return NULL;

	context = phys_to_virt(entry & VTD_PAGE_MASK);

	return context + (scalable ? (devfn % 0x80) * 2 : devfn);
}

static struct pasid_entry *context_pasid_entry(struct context_entry *context)
{
	struct pasid_dir_entry *dir = phys_to_virt(context->lo & VTD_PAGE_MASK);

	/* Requests without PASID have IOMMU_NO_PASID, which is 0 */
	return get_pasid_table_from_pde(dir);
}

/* Where in the hardware's tables is the page table of this device? */
static u64 context_page_table(struct context_entry *context, bool scalable)
{
	struct pasid_entry *pasid;

	if (!scalable)
		return context->lo & VTD_PAGE_MASK;

	pasid = context_pasid_entry(context);
	if (!pasid || !pasid_pte_is_present(pasid))
		return 0;

	switch (pasid_pte_get_pgtt(pasid)) {
	case PASID_ENTRY_PGTT_SL_ONLY:
		return pasid->val[0] & VTD_PAGE_MASK;
	case PASID_ENTRY_PGTT_FL_ONLY:
		return pasid->val[2] & VTD_PAGE_MASK;
	default:
		return 0;
	}
}

static u16 context_did(struct context_entry *context, bool scalable)
{
	return scalable ? pasid_get_domain_id(context_pasid_entry(context)) :
			  context_domain_id(context);
}

/* --- outgoing --------------------------------------------------------------- */

static int intel_liveupdate_domain_preserve(struct iommu_domain *domain,
					    struct iommu_domain_ser *ser)
{
	struct dmar_domain *dmar_domain = to_dmar_domain(domain);
	unsigned int features;

	/* iommufd does not turn it on any more, see iopt_set_dirty_tracking() */
	scoped_guard(spinlock, &dmar_domain->lock) {
		if (dmar_domain->dirty_tracking)
			return -EBUSY;
	}

	if (dmar_domain->nested_parent)
		return -EOPNOTSUPP;

	if (intel_domain_is_ss_paging(dmar_domain)) {
		struct pt_iommu_vtdss_hw_info info;

		pt_iommu_vtdss_hw_info(&dmar_domain->sspt, &info);
		features = dmar_domain->sspt.vtdss_pt.common.features;
		ser->format = IOMMU_SER_FORMAT_VTDSS;
		ser->top = info.ssptptr;
		ser->levels = info.aw + 2;
		if (features & BIT(PT_FEAT_VTDSS_FORCE_COHERENCE))
			ser->flags |= IOMMU_SER_DOMAIN_FORCE_COHERENCE;
	} else if (intel_domain_is_fs_paging(dmar_domain)) {
		struct pt_iommu_x86_64_hw_info info;

		pt_iommu_x86_64_hw_info(&dmar_domain->fspt, &info);
		features = dmar_domain->fspt.x86_64_pt.common.features;
		ser->format = IOMMU_SER_FORMAT_X86_64;
		ser->top = info.gcr3_pt;
		ser->levels = info.levels;
	} else {
		return -EOPNOTSUPP;
	}

	if (features & BIT(PT_FEAT_DMA_INCOHERENT))
		ser->flags |= IOMMU_SER_DOMAIN_INCOHERENT;
	if (dmar_domain->force_snooping)
		ser->flags |= IOMMU_SER_DOMAIN_FORCE_SNOOPING;

	return dmar_domain->iommu.ops->preserve(&dmar_domain->iommu);
}

static void intel_liveupdate_domain_unpreserve(struct iommu_domain *domain)
{
	struct dmar_domain *dmar_domain = to_dmar_domain(domain);

	dmar_domain->iommu.ops->unpreserve(&dmar_domain->iommu);
}

static enum pci_liveupdate_why intel_liveupdate_device_check(struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);

	if (!dev_is_pci(dev) || dev_is_real_dma_subdevice(dev) ||
	    PCI_DEVID(info->bus, info->devfn) != pci_dev_id(to_pci_dev(dev)))
		return PCI_LIVEUPDATE_IOMMU_ALIAS;

	if (dev->iommu->require_direct)
		return PCI_LIVEUPDATE_DIRECT;

	return intel_liveupdate_check_services(info);
}

static void intel_liveupdate_device_unit(struct device *dev,
					 struct iommu_unit_ser *unit)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);

	unit->id = info->iommu->reg_phys;
	unit->type = sm_supported(info->iommu) ? IOMMU_SER_UNIT_VTD_SCALABLE :
						 IOMMU_SER_UNIT_VTD_LEGACY;
}

static int intel_liveupdate_unit_preserve(struct iommu_unit_ser *unit)
{
	void *root = kho_alloc_preserve(VTD_PAGE_SIZE);
	void *irqs;

	if (IS_ERR(root))
		return PTR_ERR(root);

	unit->root = virt_to_phys(root);
	if (!irq_remapping_enabled)
		return 0;

	irqs = kho_alloc_preserve(VTD_PAGE_SIZE);
	if (IS_ERR(irqs)) {
		kho_unpreserve_free(root);
		return PTR_ERR(irqs);
	}
	unit->irq_table = virt_to_phys(irqs);

	return 0;
}

static void handover_free_table(u64 entry)
{
	if (root_entry_present(entry))
		kho_unpreserve_free(phys_to_virt(entry & VTD_PAGE_MASK));
}

static void intel_liveupdate_unit_unpreserve(struct iommu_unit_ser *unit)
{
	struct root_entry *root = phys_to_virt(unit->root);

	for (int bus = 0; bus < HANDOVER_BUSES; bus++) {
		handover_free_table(root[bus].lo);
		handover_free_table(root[bus].hi);
	}
	kho_unpreserve_free(root);
	if (unit->irq_table)
		kho_unpreserve_free(phys_to_virt(unit->irq_table));
}

/* A PASID directory with one table, linked from a context entry not present */
static int handover_alloc_pasids(struct context_entry *context)
{
	struct pasid_dir_entry *dir;
	void *table;

	dir = kho_alloc_preserve(VTD_PAGE_SIZE);
	if (IS_ERR(dir))
		return PTR_ERR(dir);

	table = kho_alloc_preserve(VTD_PAGE_SIZE);
	if (IS_ERR(table)) {
		kho_unpreserve_free(dir);
		return PTR_ERR(table);
	}

	dir->val = virt_to_phys(table) | PASID_PTE_PRESENT;
	context->lo = virt_to_phys(dir);

	return 0;
}

static void handover_free_pasids(struct context_entry *context)
{
	struct pasid_dir_entry *dir = phys_to_virt(context->lo & VTD_PAGE_MASK);

	kho_unpreserve_free(get_pasid_table_from_pde(dir));
	kho_unpreserve_free(dir);
	context_clear_entry(context);
}

static int intel_liveupdate_device_preserve(struct device *dev,
					    struct iommu_unit_ser *unit,
					    struct iommu_dev_ser *entry,
					    const char **why)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	bool scalable = unit->type == IOMMU_SER_UNIT_VTD_SCALABLE;
	u64 *root = handover_root_entry(unit->root, scalable, info->bus,
					info->devfn);
	struct context_entry *context;
	int ret = 0;

	/* Goes with the unit: other devices may need it, too */
	if (!root_entry_present(*root)) {
		void *table = kho_alloc_preserve(VTD_PAGE_SIZE);

		if (IS_ERR(table))
			return PTR_ERR(table);
		*root = virt_to_phys(table) | 1;
	}

	context = handover_context(unit->root, scalable, info->bus, info->devfn);
	if (scalable)
		ret = handover_alloc_pasids(context);
	if (ret)
		return ret;

	ret = intel_liveupdate_keep_services(info, &entry->flags, why);
	if (ret && scalable)
		handover_free_pasids(context);

	return ret;
}

static void intel_liveupdate_device_unpreserve(struct device *dev,
					       struct iommu_unit_ser *unit)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	bool scalable = unit->type == IOMMU_SER_UNIT_VTD_SCALABLE;

	intel_liveupdate_return_services(info);
	if (scalable)
		handover_free_pasids(handover_context(unit->root, scalable,
						      info->bus, info->devfn));
}

struct handover_fill {
	struct intel_iommu *iommu;
	u64 root;
};

/* Runs when nothing else does, so no lock is needed, and none can be waited for. */
static void handover_fill_device(const struct iommu_dev_ser *entry,
				 const struct iommu_domain_ser *domain,
				 void *data)
{
	const struct handover_fill *fill = data;
	struct intel_iommu *iommu = fill->iommu;
	bool scalable = sm_supported(iommu);
	u8 bus = PCI_BUS_NUM(entry->bdf), devfn = entry->bdf & 0xff;
	struct context_entry *from = iommu_context_addr(iommu, bus, devfn, 0);
	struct context_entry *to = handover_context(fill->root, scalable, bus,
						    devfn);
	struct pasid_entry *pasid;
	u64 dir;

	if (!from || !context_present(from) ||
	    context_page_table(from, scalable) != domain->top) {
		pr_err("%s: %02x:%02x.%x is not attached to its preserved page table, its DMA is blocked\n",
		       iommu->name, bus, PCI_SLOT(devfn), PCI_FUNC(devfn));
		return;
	}

	if (!scalable) {
		*to = *from;
		/* No translated requests without ATS, whatever it could do */
		context_set_translation_type(to, entry->flags & IOMMU_SER_DEV_ATS ?
						 CONTEXT_TT_DEV_IOTLB :
						 CONTEXT_TT_MULTI_LEVEL);
		__iommu_flush_cache(iommu, to, sizeof(*to));
		return;
	}

	pasid = context_pasid_entry(to);
	*pasid = *context_pasid_entry(from);
	__iommu_flush_cache(iommu, pasid, sizeof(*pasid));

	dir = to->lo & VTD_PAGE_MASK;
	__iommu_flush_cache(iommu, phys_to_virt(dir), VTD_PAGE_SIZE);
	to->hi = from->hi;
	to->lo = (from->lo & ~(VTD_PAGE_MASK | CONTEXT_PDTS_MASK |
			       CONTEXT_SM_EXTRAS)) |
		 context_pdts(HANDOVER_PDTS) | dir;
	if (entry->flags & IOMMU_SER_DEV_ATS)
		context_set_sm_dte(to);
	if (entry->flags & IOMMU_SER_DEV_PASID)
		context_set_pasid(to);
	__iommu_flush_cache(iommu, to, sizeof(*to));
}

/*
 * From now on no message of a device is an interrupt. The CPUs are past needing any
 * from a device: this one has interrupts disabled, the others are stopped.
 */
static void handover_block_irqs(struct intel_iommu *iommu, u64 table)
{
	unsigned long flags;
	u64 mode;
	u32 sts;

	__iommu_flush_cache(iommu, phys_to_virt(table), VTD_PAGE_SIZE);
	raw_spin_lock_irqsave(&iommu->register_lock, flags);
	mode = readq(iommu->reg + DMAR_IRTA_REG) & IRTA_EIME;
	writeq(table | mode | HANDOVER_IRQS, iommu->reg + DMAR_IRTA_REG);
	writel(iommu->gcmd | DMA_GCMD_SIRTP, iommu->reg + DMAR_GCMD_REG);
	IOMMU_WAIT_OP(iommu, DMAR_GSTS_REG, readl, (sts & DMA_GSTS_IRTPS), sts);
	raw_spin_unlock_irqrestore(&iommu->register_lock, flags);

	if (!cap_esirtps(iommu->cap))
		qi_global_iec(iommu);
}

/*
 * The unit is about to be turned off. If preserved devices need it in the next
 * kernel it stays on, with the handover tables; true is returned then.
 */
bool intel_liveupdate_shutdown(struct intel_iommu *iommu)
{
	const struct iommu_unit_ser *unit;
	struct handover_fill fill = { .iommu = iommu };
	struct root_entry *root;

	if (!kexec_in_progress)
		return false;

	unit = iommu_liveupdate_outgoing_unit(iommu->reg_phys);
	if (!unit)
		return false;

	fill.root = unit->root;
	iommu_liveupdate_walk_outgoing(unit, handover_fill_device, &fill);

	root = phys_to_virt(unit->root);
	__iommu_flush_cache(iommu, root, VTD_PAGE_SIZE);
	iommu->root_entry = root;
	iommu_set_root_entry(iommu);
	/*
	 * No page request is written into this kernel's queue after this: no entry allows
	 * any. A CPU that was stopped while it flushed may have the lock for good.
	 */
	if (iommu->qi && !raw_spin_is_locked(&iommu->qi->q_lock))
		intel_liveupdate_drain_requests(iommu);
	if (unit->irq_table && ecap_ir_support(iommu->ecap))
		handover_block_irqs(iommu, unit->irq_table);
	pr_info("%s: stays on for %u devices\n", iommu->name, unit->devices);

	return true;
}

/* --- incoming: the unit ----------------------------------------------------- */

/*
 * The tables of ACPI are looked through, before any memory but KHO's scratch area
 * is used. Cannot be read what was preserved, then it is no more safe to go on
 * while somebody's DMA is translated.
 */
void intel_liveupdate_check_early(u64 phys, void __iomem *reg)
{
	if (!kho_was_passed() || is_kho_boot() || is_kdump_kernel())
		return;

	if (readl(reg + DMAR_GSTS_REG) & DMA_GSTS_TES)
		panic("DMAR: live update: the unit at %#llx translates for running devices, and nobody knows what was preserved\n",
		      phys);
}

/*
 * The table by which a unit that came on remaps interrupts, if it is the empty one of a
 * live update, else 0. It is when it is preserved: it is too early to look into the
 * lists, and nobody else preserves one.
 */
static u64 handover_irq_table(struct intel_iommu *iommu)
{
	u64 table = readq(iommu->reg + DMAR_IRTA_REG) & VTD_PAGE_MASK;

	if (!kho_was_passed() || is_kdump_kernel() ||
	    kho_restorable_size(table) != VTD_PAGE_SIZE)
		return 0;

	return table;
}

/*
 * Interrupt remapping came on, and this kernel has made its own table. May it stay on
 * while that is put in the place of the one that is there?
 */
bool intel_liveupdate_keep_irqs(struct intel_iommu *iommu)
{
	iommu->liveupdate_irqs = handover_irq_table(iommu);
	if (!iommu->liveupdate_irqs)
		return false;

	__iommu_flush_cache(iommu, iommu->ir_table->base,
			    INTR_REMAP_TABLE_ENTRIES * sizeof(struct irte));

	return true;
}

/*
 * Somebody wants to turn interrupt remapping off, or does not use it. That lets the
 * running devices of the previous kernel raise any interrupt.
 */
void intel_liveupdate_check_irqs(struct intel_iommu *iommu)
{
	if (iommu->flags & VTD_FLAG_LIVEUPDATE_CHECKED ||
	    !(readl(iommu->reg + DMAR_GSTS_REG) & DMA_GSTS_IRES))
		return;

	if (iommu->liveupdate_irqs || handover_irq_table(iommu))
		panic("DMAR: live update: %s remaps interrupts of running devices of the previous kernel, and this kernel does not\n",
		      iommu->name);
}

/*
 * Somebody wants to turn translation off. Before this kernel has seen what the
 * previous one left it must not: that one leaves it on for running devices only.
 */
void intel_liveupdate_check_disable(struct intel_iommu *iommu)
{
	if (iommu->flags & VTD_FLAG_LIVEUPDATE_CHECKED || !kho_was_passed() ||
	    is_kdump_kernel())
		return;

	if (readl(iommu->reg + DMAR_GSTS_REG) & DMA_GSTS_TES)
		panic("DMAR: live update: %s translates for running devices of the previous kernel, and this kernel does not use it\n",
		      iommu->name);
}

/* Initialization failed, and the tables of all units are about to be freed. */
void intel_liveupdate_check_free(struct intel_iommu *iommu)
{
	if (iommu->flags & VTD_FLAG_LIVEUPDATE)
		panic("DMAR: live update: %s translates for running devices, and not all IOMMUs could be initialized\n",
		      iommu->name);
}

/* What the outgoing kernel made for a device that then had no valid entry */
static void handover_drop_pasids(struct context_entry *context)
{
	struct pasid_dir_entry *dir = phys_to_virt(context->lo & VTD_PAGE_MASK);

	iommu_free_pages(get_pasid_table_from_pde(dir));
	iommu_free_pages(dir);
	context_clear_entry(context);
}

static void handover_drop_unused(u64 entry)
{
	struct context_entry *context = phys_to_virt(entry & VTD_PAGE_MASK);

	if (!root_entry_present(entry))
		return;

	for (int i = 0; i < VTD_PAGE_SIZE / sizeof(*context); i += 2) {
		if (context[i].lo && !context_present(&context[i]))
			handover_drop_pasids(&context[i]);
	}
}

static void *handover_take_table(u64 phys, u64 size)
{
	return iommu_liveupdate_restore_page(phys);
}

/* Take what the lists say about a unit, if its tables agree. */
static const char *handover_take(struct intel_iommu *iommu,
				 struct vtd_handover *handover)
{
	const struct iommu_lists *lists = handover->lists;
	const char *why;

	handover->dids = kvmalloc_objs(*handover->dids, lists->nr_domains);
	if (!handover->dids)
		return "no memory";
	for (u32 i = 0; i < lists->nr_domains; i++)
		handover->dids[i] = VTD_SER_NO_DID;

	why = vtd_handover_check(handover);
	for (u32 i = 0; i < lists->nr_domains && !why; i++) {
		u32 did = handover->dids[i];

		if (did != VTD_SER_NO_DID &&
		    ida_alloc_range(&iommu->domain_ida, did, did, GFP_KERNEL) < 0)
			why = "a domain ID cannot be reserved";
	}
	kvfree(handover->dids);

	return why;
}

static void handover_take_tables(struct intel_iommu *iommu,
				 const struct iommu_lists *lists, u32 unit)
{
	struct vtd_handover handover = {
		.lists = lists,
		.unit = unit,
		.segment = iommu->segment,
		.nr_dids = cap_ndoms(iommu->cap),
		.scalable = sm_supported(iommu),
		.take = handover_take_table,
	};
	const char *why = handover_take(iommu, &handover);
	struct root_entry *root = phys_to_virt(lists->units[unit].root);

	if (why)
		panic("DMAR: live update: %s translates for running devices, and its tables are broken: %s\n",
		      iommu->name, why);

	for (int bus = 0; bus < HANDOVER_BUSES && handover.scalable; bus++) {
		handover_drop_unused(root[bus].lo);
		handover_drop_unused(root[bus].hi);
	}
	iommu->root_entry = root;
}

/* The table that blocked interrupts has served its purpose. */
static void handover_take_irqs(struct intel_iommu *iommu,
			       const struct iommu_unit_ser *unit)
{
	void *table;

	if (!unit->irq_table && !iommu->liveupdate_irqs)
		return;

	if (!irq_remapping_enabled || iommu->liveupdate_irqs != unit->irq_table)
		panic("DMAR: live update: %s remaps interrupts of running devices, and this kernel did not go on doing so\n",
		      iommu->name);

	table = kho_take(unit->irq_table, VTD_PAGE_SIZE);
	if (!table)
		panic("DMAR: live update: %s has a table of interrupts that is not preserved\n",
		      iommu->name);
	kho_taken_free(table);
}

/*
 * The unit is being initialized, and its translation may be on. True is returned
 * when it came on with running devices and has its root table now.
 */
bool intel_liveupdate_take_over(struct intel_iommu *iommu)
{
	bool on = iommu->flags & VTD_FLAG_TRANS_PRE_ENABLED;
	const struct iommu_unit_ser *unit;
	const struct iommu_lists *lists;
	u32 type, index;

	if (!kho_was_passed() || is_kdump_kernel())
		return false;

	lists = iommu_liveupdate_incoming_unit(iommu->reg_phys,
					       &intel_liveupdate_ops, &index);
	if (!lists) {
		/* Units of graphics alone may stay on, see quirk_igfx_skip_te_disable() */
		if (on && !iommu->drhd->gfx_dedicated)
			panic("DMAR: live update: %s translates for running devices, but the previous kernel does not say which\n",
			      iommu->name);
		iommu->flags |= VTD_FLAG_LIVEUPDATE_CHECKED;
		return false;
	}

	if (!on)
		panic("DMAR: live update: %s was turned off under running devices\n",
		      iommu->name);

	unit = &lists->units[index];
	type = sm_supported(iommu) ? IOMMU_SER_UNIT_VTD_SCALABLE :
				     IOMMU_SER_UNIT_VTD_LEGACY;
	if (unit->type != type)
		panic("DMAR: live update: %s runs in %s mode, and this kernel uses the other (see intel_iommu=sm_on, sm_off)\n",
		      iommu->name, unit->type == IOMMU_SER_UNIT_VTD_LEGACY ?
		      "legacy" : "scalable");

	if ((readq(iommu->reg + DMAR_RTADDR_REG) & VTD_PAGE_MASK) != unit->root)
		panic("DMAR: live update: %s does not use the root table that the previous kernel left\n",
		      iommu->name);

	handover_take_tables(iommu, lists, index);
	handover_take_irqs(iommu, unit);
	iommu->flags |= VTD_FLAG_LIVEUPDATE_CHECKED | VTD_FLAG_LIVEUPDATE;
	pr_info("%s: took over %u devices, translation stays on\n", iommu->name,
		unit->devices);

	return true;
}

/* --- incoming: devices ------------------------------------------------------- */

static struct intel_iommu *handover_find_iommu(u64 id)
{
	struct dmar_drhd_unit *drhd;
	struct intel_iommu *iommu;

	guard(rcu)();

	for_each_active_iommu(iommu, drhd) {
		if (iommu->reg_phys == id)
			return iommu;
	}

	return NULL;
}

/*
 * A unit refuses whatever a device does from now on. Its device TLB is not flushed: it is
 * off, or is not there, or does not answer. Any context: no lock is taken.
 */
void intel_liveupdate_block_entry(struct intel_iommu *iommu, u8 bus, u8 devfn)
{
	struct context_entry *context = iommu_context_addr(iommu, bus, devfn, 0);

	if (!context)
		return;

	clear_bit(0, (unsigned long *)&context->lo);
	__iommu_flush_cache(iommu, context, sizeof(*context));
	iommu->flush.flush_context(iommu, 0, 0, 0, DMA_CCMD_GLOBAL_INVL);
	if (sm_supported(iommu))
		qi_flush_pasid_cache(iommu, 0, QI_PC_GLOBAL, 0);
	iommu->flush.flush_iotlb(iommu, 0, 0, 0, DMA_TLB_GLOBAL_FLUSH);
}

static void intel_liveupdate_entry_drop(const struct iommu_unit_ser *unit,
					u16 bdf)
{
	struct intel_iommu *iommu = handover_find_iommu(unit->id);
	struct context_entry *context;

	if (!iommu)
		return;

	context = iommu_context_addr(iommu, PCI_BUS_NUM(bdf), bdf & 0xff, 0);
	if (!context || !context_present(context))
		return;

	pr_warn("%s: drops the page table of %02x:%02x.%x, which is not there any more\n",
		iommu->name, PCI_BUS_NUM(bdf), PCI_SLOT(bdf), PCI_FUNC(bdf));

	intel_liveupdate_block_entry(iommu, PCI_BUS_NUM(bdf), bdf & 0xff);
	if (sm_supported(iommu))
		handover_drop_pasids(context);
	context_clear_entry(context);
	__iommu_flush_cache(iommu, context, sizeof(*context));
}

/* Its DMA ends, if it came with any, and with it what it had enabled. */
static void intel_liveupdate_drop(struct device_domain_info *info)
{
	iommu_liveupdate_drop_device(info->dev);
	info->liveupdate = false;
	info->ats_enabled = 0;
	info->pasid_enabled = 0;
	/* It may be enabled still, for virtual functions that go on */
	if (to_pci_dev(info->dev)->pasid_enabled)
		info->pasid_supported = 0;
}

/* A device is probed: does its entry come from the previous kernel, and is it its? */
void intel_liveupdate_probe_device(struct device_domain_info *info)
{
	struct intel_iommu *iommu = info->iommu;
	struct context_entry *context;
	struct iommu_dev_ser entry;

	if (!dev_is_pci(info->dev))
		return;

	if (pci_liveupdate_incoming(to_pci_dev(info->dev)) == PCI_LIVEUPDATE_HELD)
		intel_liveupdate_setup_held(info);

	/* Without an entry the list was compared with nothing: no attaching by it */
	context = iommu->flags & VTD_FLAG_LIVEUPDATE ?
		  iommu_context_addr(iommu, info->bus, info->devfn, 0) : NULL;
	if (context && context_present(context) &&
	    iommu_liveupdate_incoming_device(info->dev, &entry) &&
	    intel_liveupdate_adopt_services(info, &entry))
		info->liveupdate = true;
	else
		intel_liveupdate_drop(info);
}

/*
 * A device is released that the driver never attached to anything: what it came
 * with is still in the tables, and cached. In scalable mode the driver frees
 * these tables, but takes it that nothing in them is present any more.
 */
void intel_liveupdate_release_device(struct device_domain_info *info)
{
	struct intel_iommu *iommu = info->iommu;
	struct context_entry *context;
	u16 did;

	if (!info->liveupdate)
		return;

	if (sm_supported(iommu)) {
		intel_pasid_tear_down_entry(iommu, info->dev, IOMMU_NO_PASID,
					    false);
		return;
	}

	context = iommu_context_addr(iommu, info->bus, info->devfn, 0);
	if (!context || !context_present(context))
		return;

	did = context_domain_id(context);
	context_clear_present(context);
	__iommu_flush_cache(iommu, context, sizeof(*context));
	intel_context_flush_no_pasid(info, context, did,
				     PCI_DEVID(info->bus, info->devfn));
	context_clear_entry(context);
	__iommu_flush_cache(iommu, context, sizeof(*context));
}

/* The PASID table of a running device is the one that it has. */
bool intel_liveupdate_adopt_pasid_table(struct device_domain_info *info)
{
	struct pasid_table *pasid_table;
	struct context_entry *context;

	if (!info->liveupdate)
		return false;

	pasid_table = kzalloc_obj(*pasid_table);
	if (!pasid_table) {
		dev_err(info->dev, "live update: no memory to take it over, its DMA ends\n");
		intel_liveupdate_drop(info);
		return false;
	}

	context = iommu_context_addr(info->iommu, info->bus, info->devfn, 0);
	pasid_table->table = phys_to_virt(context->lo & VTD_PAGE_MASK);
	pasid_table->max_pasid = get_pasid_dir_size(context) << PASID_PDE_SHIFT;
	info->pasid_table = pasid_table;

	return true;
}

/* What the page tables of both stages have in common, but for their features. */
static void restore_cfg(struct pt_iommu_cfg *cfg, struct intel_iommu *iommu,
			const struct iommu_domain_ser *ser)
{
	cfg->hw_max_vasz_lg2 = min(12 + 9 * ser->levels, cap_mgaw(iommu->cap));
	cfg->hw_max_oasz_lg2 = 52;
	cfg->features = BIT(PT_FEAT_FLUSH_RANGE);
	if (ser->flags & IOMMU_SER_DOMAIN_INCOHERENT)
		cfg->features |= BIT(PT_FEAT_DMA_INCOHERENT);
	cfg->restored_top = ser->top;
}

static int restore_second_stage(struct dmar_domain *domain,
				struct intel_iommu *iommu,
				const struct iommu_domain_ser *ser)
{
	struct pt_iommu_vtdss_cfg cfg = {};
	int ret;

	restore_cfg(&cfg.common, iommu, ser);
	if (ser->flags & IOMMU_SER_DOMAIN_FORCE_COHERENCE)
		cfg.common.features |= BIT(PT_FEAT_VTDSS_FORCE_COHERENCE);
	cfg.top_level = ser->levels - 1;
	domain->domain.ops = &intel_ss_paging_domain_ops;

	ret = pt_iommu_vtdss_init(&domain->sspt, &cfg, GFP_KERNEL);
	if (ret)
		return ret;

	/* As for new domains */
	if (!(cap_super_page_val(iommu->cap) & BIT(0)))
		domain->domain.pgsize_bitmap &= ~(u64)SZ_2M;
	if (!(cap_super_page_val(iommu->cap) & BIT(1)))
		domain->domain.pgsize_bitmap &= ~(u64)SZ_1G;

	return 0;
}

static int restore_first_stage(struct dmar_domain *domain,
			       struct intel_iommu *iommu,
			       const struct iommu_domain_ser *ser)
{
	struct pt_iommu_x86_64_cfg cfg = {};
	int ret;

	restore_cfg(&cfg.common, iommu, ser);
	cfg.common.features |= BIT(PT_FEAT_SIGN_EXTEND);
	cfg.top_level = ser->levels - 1;
	domain->domain.ops = &intel_fs_paging_domain_ops;

	ret = pt_iommu_x86_64_init(&domain->fspt, &cfg, GFP_KERNEL);
	if (ret)
		return ret;

	if (!cap_fl1gp_support(iommu->cap))
		domain->domain.pgsize_bitmap &= ~(u64)SZ_1G;

	return 0;
}

static struct iommu_domain *
intel_liveupdate_domain_restore(struct device *dev,
				const struct iommu_domain_ser *ser)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct dmar_domain *domain = paging_domain_alloc();
	int ret;

	if (IS_ERR(domain))
		return ERR_CAST(domain);

	domain->iommu.iommu_device = dev;
	domain->iommu.nid = dev_to_node(dev);
	domain->iotlb_sync_map = true;
	if (ser->flags & IOMMU_SER_DOMAIN_FORCE_SNOOPING)
		domain->force_snooping = true;

	if (ser->format == IOMMU_SER_FORMAT_VTDSS)
		ret = restore_second_stage(domain, info->iommu, ser);
	else
		ret = restore_first_stage(domain, info->iommu, ser);
	if (ret) {
		kfree(domain);
		return ERR_PTR(ret);
	}

	return &domain->domain;
}

/*
 * As domain_attach_iommu(), with a domain ID that is reserved already. It stays
 * so until the next boot: entries of devices that are not there may have it, too.
 */
static int adopt_domain_id(struct dmar_domain *domain,
			   struct intel_iommu *iommu, u16 did)
{
	struct iommu_domain_info *info, *curr;
	int ret;

	info = kzalloc_obj(*info);
	if (!info)
		return -ENOMEM;
	info->refcnt = 1;
	info->did = did;
	info->handed_over = true;
	info->iommu = iommu;

	guard(mutex)(&iommu->did_lock);

	curr = xa_load(&domain->iommu_array, iommu->seq_id);
	if (curr) {
		kfree(info);
		if (curr->did != did)
			return -EINVAL;
		curr->refcnt++;
		return 0;
	}

	ret = xa_err(xa_store(&domain->iommu_array, iommu->seq_id, info,
			      GFP_KERNEL));
	if (ret)
		kfree(info);

	return ret;
}

static u64 domain_top(struct dmar_domain *domain)
{
	struct pt_iommu_x86_64_hw_info fs_info;
	struct pt_iommu_vtdss_hw_info ss_info;

	if (intel_domain_is_ss_paging(domain)) {
		pt_iommu_vtdss_hw_info(&domain->sspt, &ss_info);
		return ss_info.ssptptr;
	}
	pt_iommu_x86_64_hw_info(&domain->fspt, &fs_info);

	return fs_info.gcr3_pt;
}

/* Does the hardware have the device attached to this restored domain? */
static bool is_attached(struct device_domain_info *info,
			struct dmar_domain *domain)
{
	struct context_entry *context;

	if (!info->liveupdate || info->domain_attached ||
	    !iommu_liveupdate_is_restored(&domain->domain))
		return false;

	context = iommu_context_addr(info->iommu, info->bus, info->devfn, 0);

	return context && context_present(context) &&
	       context_page_table(context, sm_supported(info->iommu)) ==
		       domain_top(domain);
}

static int intel_liveupdate_adopt(struct dmar_domain *domain,
				  struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct intel_iommu *iommu = info->iommu;
	struct context_entry *context;
	int ret;

	context = iommu_context_addr(iommu, info->bus, info->devfn, 0);
	ret = adopt_domain_id(domain, iommu,
			      context_did(context, sm_supported(iommu)));
	if (ret)
		return ret;

	info->domain = domain;
	info->domain_attached = true;
	scoped_guard(spinlock_irqsave, &domain->lock)
		list_add(&info->link, &domain->devices);

	/* There is no room for more in the PASID directory that it came with */
	if (info->pasid_table)
		dev->iommu->max_pasids = info->pasid_enabled ?
			min(dev->iommu->max_pasids, info->pasid_table->max_pasid) : 0;

	return cache_tag_assign_domain(domain, dev, IOMMU_NO_PASID);
}

const struct iommu_liveupdate_ops intel_liveupdate_ops = {
	.domain_preserve = intel_liveupdate_domain_preserve,
	.domain_unpreserve = intel_liveupdate_domain_unpreserve,
	.device_check = intel_liveupdate_device_check,
	.device_unit = intel_liveupdate_device_unit,
	.unit_preserve = intel_liveupdate_unit_preserve,
	.unit_unpreserve = intel_liveupdate_unit_unpreserve,
	.device_preserve = intel_liveupdate_device_preserve,
	.device_unpreserve = intel_liveupdate_device_unpreserve,
	.domain_restore = intel_liveupdate_domain_restore,
	.entry_drop = intel_liveupdate_entry_drop,
};

/* --- a crash kernel ----------------------------------------------------------- */

/* What is in the memory of the kernel that crashed; false if it cannot be had */
static bool read_crashed(u64 phys, void *to, size_t size)
{
	void *from = memremap(phys, size, MEMREMAP_WB);

	if (!from)
		return false;

	memcpy(to, from, size);
	memunmap(from);

	return true;
}

/*
 * A crash kernel goes on with the context entries that it finds, and devices that
 * were running, with their DMA. What the hardware caches for them is found again
 * by their domain IDs: no domain of this kernel may have one of these, or each
 * gets translations of the other, and a running device reaches the memory of
 * this kernel. copy_context_table() reserves the ID of a context entry, which
 * has none in scalable mode: there it is in the PASID entry. Those of further
 * PASIDs are not looked for, no device has them that crosses a live update.
 */
void intel_liveupdate_copy_did(struct intel_iommu *iommu,
			       const struct context_entry *context)
{
	struct pasid_dir_entry dir;
	struct pasid_entry pasid;
	u16 did;

	/* Requests without PASID have IOMMU_NO_PASID, the first of each table */
	if (!read_crashed(context->lo & VTD_PAGE_MASK, &dir, sizeof(dir)) ||
	    !pasid_pde_is_present(&dir) ||
	    !read_crashed(dir.val & PDE_PFN_MASK, &pasid, sizeof(pasid)) ||
	    !pasid_pte_is_present(&pasid))
		return;

	did = pasid_get_domain_id(&pasid);
	if (did < cap_ndoms(iommu->cap))
		ida_alloc_range(&iommu->domain_ida, did, did, GFP_KERNEL);
}

/* --- handover to another page table ------------------------------------------ */

/*
 * Write two quadwords that the hardware may be reading, as one. Whether the entry is
 * present stays as it is: see intel_liveupdate_block_entry().
 */
static void write_entry(u64 *entry, u64 lo, u64 hi)
{
	u128 *p = (u128 *)entry;
	u128 old = *p, new = (u128)hi << 64 | (lo & ~1ULL);

	while (!try_cmpxchg128(p, &old, new | (old & 1)))
		;
}

static void replace_legacy(struct device_domain_info *info,
			   struct dmar_domain *domain, u16 old_did)
{
	struct intel_iommu *iommu = info->iommu;
	struct pt_iommu_vtdss_hw_info pt_info;
	struct context_entry *context, new;

	pt_iommu_vtdss_hw_info(&domain->sspt, &pt_info);

	spin_lock(&iommu->lock);
	context = iommu_context_addr(iommu, info->bus, info->devfn, 0);
	new.lo = context->lo;
	new.hi = 0;
	context_set_address_root(&new, pt_info.ssptptr);
	context_set_address_width(&new, pt_info.aw);
	context_set_domain_id(&new, domain_id_iommu(domain, iommu));
	write_entry(&context->lo, new.lo, new.hi);
	__iommu_flush_cache(iommu, context, sizeof(*context));
	spin_unlock(&iommu->lock);

	iommu->flush.flush_context(iommu, old_did,
				   PCI_DEVID(info->bus, info->devfn),
				   DMA_CCMD_MASK_NOBIT, DMA_CCMD_DEVICE_INVL);
	iommu->flush.flush_iotlb(iommu, old_did, 0, 0, DMA_TLB_DSI_FLUSH);
	intel_liveupdate_flush_device(info);
}

static void config_second_stage(struct pasid_entry *new,
				struct dmar_domain *domain)
{
	struct pt_iommu_vtdss_hw_info pt_info;

	pt_iommu_vtdss_hw_info(&domain->sspt, &pt_info);
	pasid_set_slptr(new, pt_info.ssptptr);
	pasid_set_address_width(new, pt_info.aw);
	pasid_set_page_snoop(new, !(domain->sspt.vtdss_pt.common.features &
				    BIT(PT_FEAT_DMA_INCOHERENT)));
	if (domain->dirty_tracking)
		pasid_set_ssade(new);
	else
		pasid_clear_ssade(new);
}

static void config_first_stage(struct pasid_entry *new,
			       struct dmar_domain *domain)
{
	struct pt_iommu_x86_64_hw_info pt_info;

	pt_iommu_x86_64_hw_info(&domain->fspt, &pt_info);
	pasid_set_flptr(new, pt_info.gcr3_pt);
	pasid_set_flpm(new, pt_info.levels == 5);
	pasid_set_page_snoop(new, !(domain->fspt.x86_64_pt.common.features &
				    BIT(PT_FEAT_DMA_INCOHERENT)));
	/* PGSNP, which pasid_set_pgsnp() can only set */
	pasid_set_bits(&new->val[1], BIT_ULL(24),
		       domain->force_snooping ? BIT_ULL(24) : 0);
}

static void flush_pasid(struct intel_iommu *iommu, u16 did)
{
	qi_flush_pasid_cache(iommu, did, QI_PC_PASID_SEL, IOMMU_NO_PASID);
	qi_flush_piotlb_all(iommu, did, IOMMU_NO_PASID);
	iommu->flush.flush_iotlb(iommu, did, 0, 0, DMA_TLB_DSI_FLUSH);
}

static void replace_scalable(struct device_domain_info *info,
			     struct dmar_domain *domain, u16 old_did)
{
	struct intel_iommu *iommu = info->iommu;
	u16 did = domain_id_iommu(domain, iommu);
	struct pasid_entry *pasid, new;

	spin_lock(&iommu->lock);
	pasid = get_pasid_table_from_pde(info->pasid_table->table);
	new = *pasid;
	pasid_set_domain_id(&new, did);
	if (intel_domain_is_ss_paging(domain))
		config_second_stage(&new, domain);
	else
		config_first_stage(&new, domain);

	WRITE_ONCE(pasid->val[2], new.val[2]);
	dma_wmb();
	write_entry(&pasid->val[0], new.val[0], new.val[1]);
	__iommu_flush_cache(iommu, pasid, sizeof(*pasid));
	spin_unlock(&iommu->lock);

	/* The hardware may have seen the new ID with the old page table, too */
	flush_pasid(iommu, old_did);
	flush_pasid(iommu, did);
	intel_liveupdate_flush_device(info);
}

static int is_other_id(struct pci_dev *pdev, u16 alias, void *data)
{
	struct device_domain_info *info = data;

	return alias != PCI_DEVID(info->bus, info->devfn);
}

/*
 * Is it a change from one page table to another of the same kind, and no more? With ATS
 * only for a device that ends if it cannot be told to forget what it had.
 */
static bool can_replace(struct dmar_domain *domain, struct device *dev,
			struct iommu_domain *iommu_old)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct dmar_domain *old = info->domain;

	if (!old || &old->domain != iommu_old || !info->domain_attached ||
	    !dev_is_pci(dev) || dev_is_real_dma_subdevice(dev) ||
	    pci_for_each_dma_alias(to_pci_dev(dev), is_other_id, info) ||
	    (info->ats_enabled && !info->liveupdate) ||
	    domain->domain.iopf_handler || iommu_old->iopf_handler ||
	    !boot_cpu_has(X86_FEATURE_CX16))
		return false;

	return (intel_domain_is_ss_paging(domain) &&
		intel_domain_is_ss_paging(old)) ||
	       (intel_domain_is_fs_paging(domain) &&
		intel_domain_is_fs_paging(old));
}

/* Attach a device to another domain, with no moment in which its DMA is blocked. */
static int intel_liveupdate_replace(struct dmar_domain *domain,
				    struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct dmar_domain *old = info->domain;
	struct intel_iommu *iommu = info->iommu;
	u16 old_did;
	int ret;

	ret = paging_domain_compatible(&domain->domain, dev);
	if (ret)
		return ret;

	ret = domain_attach_iommu(domain, iommu);
	if (ret)
		return ret;

	ret = cache_tag_assign_domain(domain, dev, IOMMU_NO_PASID);
	if (ret) {
		domain_detach_iommu(domain, iommu);
		return ret;
	}

	scoped_guard(spinlock_irqsave, &old->lock)
		list_del(&info->link);
	info->domain = domain;
	scoped_guard(spinlock_irqsave, &domain->lock)
		list_add(&info->link, &domain->devices);

	old_did = domain_id_iommu(old, iommu);
	if (sm_supported(iommu))
		replace_scalable(info, domain, old_did);
	else
		replace_legacy(info, domain, old_did);

	cache_tag_unassign_domain(old, dev, IOMMU_NO_PASID);
	domain_detach_iommu(old, iommu);

	return 0;
}

/*
 * Attach a device to a paging domain where that can be done without blocking its
 * DMA in between; on failure nothing has changed. -EOPNOTSUPP: it has to be done
 * in the other way. From a restored domain a device is never attached in that
 * way: user space gets -EINVAL, and may try a domain of another kind.
 */
int intel_liveupdate_attach(struct iommu_domain *domain, struct device *dev,
			    struct iommu_domain *old)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct dmar_domain *dmar_domain = to_dmar_domain(domain);

	if (is_attached(info, dmar_domain))
		return intel_liveupdate_adopt(dmar_domain, dev);

	if (can_replace(dmar_domain, dev, old))
		return intel_liveupdate_replace(dmar_domain, dev);

	/* A member of the group that was not known again never was in the old one */
	return old && iommu_liveupdate_is_restored(old) &&
	       info->domain == to_dmar_domain(old) ? -EINVAL : -EOPNOTSUPP;
}
