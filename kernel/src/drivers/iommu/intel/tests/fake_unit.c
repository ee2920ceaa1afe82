// SPDX-License-Identifier: GPL-2.0-only

/*
 * A VT-d unit in software, see fake.h.
 *
 * Its devices do DMA to %FAKE_IOVA all the time: after each descriptor the unit and the
 * devices read again what they have forgotten, each from what is above it: the device's
 * TLB from the IOTLB, that from the page table that the entry leads to as the unit keeps
 * it, and that from memory. So a flush that comes too early, or is of the wrong thing,
 * leaves the old translation in the device.
 *
 * Time-outs (VT-d specification, "Invalidation Queue Errors"; the driver's
 * qi_check_fault()): the unit goes on while it waits for a device. When it gives up it sets
 * ITE, forgets the wait descriptors that it has read, and reads no descriptor before ITE
 * is cleared.
 */

#include <linux/bitfield.h>
#include <linux/dmar.h>
#include <linux/hrtimer.h>
#include <linux/kprobes.h>
#include <linux/pci-ats.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/version.h>

#include "fake.h"
#include "../liveupdate.h"
#include "../pasid.h"
#include "../../iommu-pages.h"

/* Nobody else's in arrays that units have an index in */
#define FAKE_SEQ_ID		(DMAR_UNITS_SUPPORTED - 1)

#define FAKE_CAP							\
	(6ULL | BIT_ULL(10) | 47ULL << 16 | 3ULL << 34 |		\
	 BIT_ULL(39) | 18ULL << 48 | BIT_ULL(56))
#define FAKE_ECAP		(BIT_ULL(0) | BIT_ULL(1) | BIT_ULL(2) | BIT_ULL(7))
#define FAKE_ECAP_SCALABLE	(FAKE_ECAP | BIT_ULL(43) | BIT_ULL(48))

/* How long a device takes to answer, and how long the unit waits for one that does not */
#define FAKE_ANSWER_US		1000
#define FAKE_TIMEOUT_MS		5

/* How often it looks at its registers */
#define FAKE_TICK_US		50

/* The fault record index, which the driver does not write: it tells its write from ours */
#define FAKE_FSTS_OURS		BIT(8)

#define DESC_GRANULARITY	GENMASK_ULL(5, 4)
#define DESC_DID		GENMASK_ULL(31, 16)
#define DESC_SID		GENMASK_ULL(47, 32)
#define DESC_ADDRESS_MASK	GENMASK_ULL(5, 0)

/* The one that the probe looks for */
static struct fake_unit *fake_probed;

void fake_use_cpu(unsigned int cpu)
{
	set_cpus_allowed_ptr(current, cpumask_of(cpu));
}

/* --- what the unit reads of the tables in memory -------------------------- */

static struct pasid_entry *fake_pasid_entry(struct context_entry *context)
{
	struct pasid_dir_entry *dir = phys_to_virt(context->lo & VTD_PAGE_MASK);

	return get_pasid_table_from_pde(dir);
}

static void fake_read_pasid(struct fake_unit *unit, struct fake_device *dev,
			    struct context_entry *context)
{
	struct pasid_entry *pasid = fake_pasid_entry(context);
	bool first = unit->mode == FAKE_FIRST_STAGE;

	if (!pasid || !pasid_pte_is_present(pasid))
		return;

	dev->top = pasid->val[first ? 2 : 0] & VTD_PAGE_MASK;
	dev->did = pasid_get_domain_id(pasid);
}

static void fake_read_entry(struct fake_unit *unit, struct fake_device *dev)
{
	struct context_entry *context =
		iommu_context_addr(&unit->iommu, dev->info.bus, dev->info.devfn, 0);

	if (!dev->present)
		dev->present = context && context_present(context);
	if (!dev->present || dev->top)
		return;

	if (unit->mode != FAKE_LEGACY) {
		fake_read_pasid(unit, dev, context);
		return;
	}
	dev->top = context->lo & VTD_PAGE_MASK;
	dev->did = context_domain_id(context);
}

/* Page tables of both stages have four levels, and the same addresses */
static u64 fake_walk(struct fake_unit *unit, u64 top)
{
	u64 present = unit->mode == FAKE_FIRST_STAGE ? 1 : 3;

	for (int level = 4; level; level--) {
		u64 *table = phys_to_virt(top);
		u64 entry = READ_ONCE(table[(FAKE_IOVA >> (3 + 9 * level)) % 512]);

		if (!(entry & present))
			return 0;
		top = entry & GENMASK_ULL(51, 12);
	}

	return top;
}

static void fake_refill_one(struct fake_unit *unit, struct fake_device *dev)
{
	fake_read_entry(unit, dev);
	if (!dev->iotlb && dev->top) {
		dev->iotlb = fake_walk(unit, dev->top);
		dev->iotlb_did = dev->did;
	}
	/* It asks only through its entry, and when its ATS is enabled */
	if (!dev->tlb && dev->top && to_pci_dev(dev->info.dev)->ats_enabled)
		dev->tlb = dev->iotlb;
}

void fake_unit_refill(struct fake_unit *unit)
{
	for (int i = 0; i < unit->nr; i++)
		fake_refill_one(unit, &unit->devices[i]);
}

/* Where is DMA to %FAKE_IOVA let through to? Translated requests need an entry, too. */
u64 fake_reach(struct fake_unit *unit, struct fake_device *dev)
{
	fake_unit_refill(unit);
	if (!dev->present || !dev->top)
		return 0;

	return dev->tlb ?: dev->iotlb;
}

/* --- descriptors ---------------------------------------------------------- */

static u16 fake_sid(struct fake_device *dev)
{
	return PCI_DEVID(dev->info.bus, dev->info.devfn);
}

static void fake_do_context(struct fake_unit *unit, const struct qi_desc *desc)
{
	bool all = FIELD_GET(DESC_GRANULARITY, desc->qw0) == 1;
	u16 sid = FIELD_GET(DESC_SID, desc->qw0);

	if (all)
		fake_log(unit->log, "context(all)");
	else
		fake_log(unit->log, "context(%x)", sid);

	for (int i = 0; i < unit->nr; i++) {
		struct fake_device *dev = &unit->devices[i];

		if (!all && fake_sid(dev) != sid)
			continue;
		dev->present = false;
		if (unit->mode == FAKE_LEGACY)
			dev->top = 0;
	}
}

static void fake_do_pasid(struct fake_unit *unit, const struct qi_desc *desc)
{
	bool all = FIELD_GET(DESC_GRANULARITY, desc->qw0) == QI_PC_GLOBAL;
	u16 did = FIELD_GET(DESC_DID, desc->qw0);

	if (all)
		fake_log(unit->log, "pasid(all)");
	else
		fake_log(unit->log, "pasid(%u)", did);

	for (int i = 0; i < unit->nr; i++) {
		if (all || unit->devices[i].did == did)
			unit->devices[i].top = 0;
	}
}

static bool fake_in_range(u64 start, u64 size)
{
	return FAKE_IOVA - start < size;
}

/* @pasid: the descriptor is for first stages, else for second ones and when it is for all */
static void fake_do_iotlb(struct fake_unit *unit, const struct qi_desc *desc, bool pasid)
{
	u64 granularity = FIELD_GET(DESC_GRANULARITY, desc->qw0);
	u64 start = desc->qw1 & VTD_PAGE_MASK;
	u64 size = SZ_4K << FIELD_GET(DESC_ADDRESS_MASK, desc->qw1);
	u16 did = FIELD_GET(DESC_DID, desc->qw0);
	const char *what = pasid ? "piotlb" : "iotlb";
	bool first = unit->mode == FAKE_FIRST_STAGE;
	bool all = !pasid && granularity == 1;
	bool pages = granularity == 3;

	if (all)
		fake_log(unit->log, "iotlb(all)");
	else if (pages)
		fake_log(unit->log, "%s(%u:%llx+%llx)", what, did, start, size);
	else
		fake_log(unit->log, "%s(%u)", what, did);
	if (!all && pasid != first)
		return;

	for (int i = 0; i < unit->nr; i++) {
		struct fake_device *dev = &unit->devices[i];

		if (all || (dev->iotlb_did == did &&
			    (!pages || fake_in_range(start, size))))
			dev->iotlb = 0;
	}
}

/* The size is where the address has its first 0 */
static u64 fake_tlb_size(const struct qi_desc *desc)
{
	return desc->qw1 & QI_DEV_IOTLB_SIZE ?
	       BIT_ULL(ffz(desc->qw1 | GENMASK_ULL(11, 0)) + 1) : SZ_4K;
}

/* The test holds one reference: one more is the driver's. */
static void fake_check_memory(struct fake_unit *unit)
{
	struct page *watched = READ_ONCE(unit->watched);

	if (unit->crowd && !unit->ranged)
		return;

	if (watched && page_count(watched) < 2)
		unit->freed = true;
}

/* All that time the driver has to wait, and memory has to be there. */
static void fake_ask(struct fake_unit *unit, struct fake_device *dev, u64 start, u64 size)
{
	unit->asked = dev;
	unit->answer = ktime_add_us(ktime_get(), FAKE_ANSWER_US);
	unit->forgets = !size || fake_in_range(start, size);
	unit->ranged = size;
}

static void fake_answer(struct fake_unit *unit)
{
	if (unit->forgets)
		unit->asked->tlb = 0;
	unit->asked->flushed++;
	unit->asked = NULL;
	fake_unit_refill(unit);
	fake_check_memory(unit);
}

static void fake_do_tlb(struct fake_unit *unit, const struct qi_desc *desc)
{
	u16 sid = FIELD_GET(DESC_SID, desc->qw0);
	/* 0: all of 64 bits */
	u64 size = desc->qw1 >> 12 == GENMASK_ULL(50, 0) ? 0 : fake_tlb_size(desc);
	u64 start = size ? desc->qw1 & ~(size - 1) : 0;

	if (size)
		fake_log(unit->log, "tlb(%x:%llx+%llx)", sid, start, size);
	else
		fake_log(unit->log, "tlb(%x)", sid);

	for (int i = 0; i < unit->nr; i++) {
		struct fake_device *dev = &unit->devices[i];

		if (fake_sid(dev) != sid)
			continue;
		if (!dev->silent) {
			fake_ask(unit, dev, start, size);
		} else if (!unit->late) {
			unit->late = dev;
			unit->timeout = ktime_add_ms(ktime_get(),
						     unit->early ? 0 : FAKE_TIMEOUT_MS);
		}
	}
}

static void fake_do_wait(struct fake_unit *unit, const struct qi_desc *desc)
{
	int *status = phys_to_virt(desc->qw1);

	fake_check_memory(unit);
	if (!(desc->qw0 & QI_IWD_STATUS_WRITE)) {
		fake_log(unit->log, "fence");
		return;
	}
	/* It waits, and with it the driver, for what is never going to be answered */
	if (unit->late) {
		fake_log(unit->log, "lost");
		unit->lost++;
		return;
	}
	fake_log(unit->log, desc->qw0 & QI_IWD_PRQ_DRAIN ? "drain" : "wait");
	/* Pairs with what the driver reads of it: by then all else is done */
	smp_store_release(status, (int)(desc->qw0 >> 32));
}

static void fake_do(struct fake_unit *unit, const struct qi_desc *desc)
{
	switch (desc->qw0 & 0xf) {
	case QI_CC_TYPE:
		fake_do_context(unit, desc);
		break;
	case QI_PC_TYPE:
		fake_do_pasid(unit, desc);
		break;
	case QI_IOTLB_TYPE:
		fake_do_iotlb(unit, desc, false);
		break;
	case QI_EIOTLB_TYPE:
		fake_do_iotlb(unit, desc, true);
		break;
	case QI_DIOTLB_TYPE:
		fake_do_tlb(unit, desc);
		break;
	case QI_IWD_TYPE:
		/* The driver may go on at once: the caches are to be as they are by then */
		fake_unit_refill(unit);
		fake_do_wait(unit, desc);
		return;
	default:
		fake_log(unit->log, "unknown(%llx)", desc->qw0);
	}
	fake_unit_refill(unit);
	fake_check_memory(unit);
}

/* --- registers ------------------------------------------------------------ */

static u32 fake_read_reg(struct fake_unit *unit, int reg)
{
	return readl(unit->iommu.reg + reg);
}

static void fake_write_reg(struct fake_unit *unit, int reg, u32 value)
{
	writel(value, unit->iommu.reg + reg);
}

/* The driver has written a 1 to ITE, which clears it. */
static void fake_clear_ite(struct fake_unit *unit)
{
	if (fake_read_reg(unit, DMAR_FSTS_REG) == DMA_FSTS_ITE)
		fake_write_reg(unit, DMAR_FSTS_REG, 0);
}

/*
 * Memory does not clear itself by the write, as a register does, and the driver must not
 * read that ITE again. It looks for the device that it was about right after the write.
 */
static int fake_probe(struct kprobe *probe, struct pt_regs *regs)
{
	struct fake_unit *unit = fake_probed;

	if (unit && (struct intel_iommu *)regs->di == &unit->iommu)
		fake_clear_ite(unit);

	return 0;
}

static struct kprobe fake_kprobe = {
	.symbol_name = "device_rbtree_find",
	.pre_handler = fake_probe,
};

static void fake_give_up(struct fake_unit *unit)
{
	struct fake_device *dev = unit->late;
	u16 sid = unit->no_sid ? 0 : fake_sid(dev);

	fake_log(unit->log, "ite(%x)", sid);
	unit->timeouts++;
	dev->silent--;
	unit->late = NULL;
	unit->lost = 0;
	writeq((u64)sid << 32, unit->iommu.reg + DMAR_IQER_REG);
	fake_write_reg(unit, DMAR_FSTS_REG, DMA_FSTS_ITE | FAKE_FSTS_OURS);
}

/* Where in the queue that happens is up to the unit: here it is always the same. */
static bool fake_is_late(struct fake_unit *unit)
{
	return unit->late && (unit->early || unit->lost >= unit->waits) &&
	       ktime_after(ktime_get(), unit->timeout);
}

/* Returns whether the next step may be done at once. */
static bool fake_step(struct fake_unit *unit)
{
	int shift = qi_shift(&unit->iommu);
	struct qi_desc desc = {};

	fake_clear_ite(unit);
	if (fake_read_reg(unit, DMAR_FSTS_REG))
		return false;

	if (unit->asked) {
		if (ktime_before(ktime_get(), unit->answer))
			return false;
		fake_answer(unit);
	}

	if (fake_is_late(unit)) {
		fake_give_up(unit);
		return false;
	}

	if (fake_read_reg(unit, DMAR_IQT_REG) >> shift == unit->head)
		return false;

	memcpy(&desc, unit->iommu.qi->desc + (unit->head << shift), 1 << shift);
	unit->head = (unit->head + 1) % QI_LENGTH;
	fake_write_reg(unit, DMAR_IQH_REG, unit->head << shift);
	fake_do(unit, &desc);

	return true;
}

/*
 * In interrupts of a CPU: a thread there would not run while something else on that CPU
 * waits for the one on which the driver waits for the unit, with interrupts disabled.
 */
static enum hrtimer_restart fake_tick(struct hrtimer *timer)
{
	struct fake_unit *unit = container_of(timer, struct fake_unit, timer);

	while (fake_step(unit))
		;
	hrtimer_forward_now(timer, us_to_ktime(FAKE_TICK_US));

	return HRTIMER_RESTART;
}

static void fake_start(void *data)
{
	struct fake_unit *unit = data;

	hrtimer_start(&unit->timer, us_to_ktime(FAKE_TICK_US),
		      HRTIMER_MODE_REL_PINNED_HARD);
}

/* --- its life ------------------------------------------------------------- */

static int fake_init_iommu(struct intel_iommu *iommu, enum fake_mode mode)
{
	iommu->cap = FAKE_CAP;
	iommu->ecap = mode == FAKE_LEGACY ? FAKE_ECAP : FAKE_ECAP_SCALABLE;
	if (mode != FAKE_LEGACY)
		iommu->ecap |= BIT_ULL(mode == FAKE_FIRST_STAGE ? 47 : 46);
	iommu->seq_id = FAKE_SEQ_ID;
	iommu->agaw = 2;
	iommu->msagaw = 2;
	iommu->node = NUMA_NO_NODE;
#if KERNEL_VERSION(7, 3, 0) <= LINUX_VERSION_CODE
	/* Before, it is nowhere but in the capability register */
	iommu->max_domain_id = cap_ndoms(iommu->cap);
#endif
	iommu->gcmd = DMA_GCMD_TE;
	iommu->flush.flush_context = qi_flush_context;
	iommu->flush.flush_iotlb = qi_flush_iotlb;
	strscpy(iommu->name, "fake");
	raw_spin_lock_init(&iommu->register_lock);
	spin_lock_init(&iommu->lock);
	spin_lock_init(&iommu->device_rbtree_lock);
	mutex_init(&iommu->did_lock);
	mutex_init(&iommu->iopf_lock);
	ida_init(&iommu->domain_ida);
	iommu->device_rbtree = RB_ROOT;

	iommu->reg = (void __iomem *)get_zeroed_page(GFP_KERNEL);
	iommu->root_entry = iommu_alloc_pages_sz(GFP_KERNEL, SZ_4K);
	if (!iommu->reg || !iommu->root_entry)
		return -ENOMEM;

	/* What the driver turns on is on */
	writel(DMA_GSTS_TES | DMA_GSTS_QIES, iommu->reg + DMAR_GSTS_REG);

	return dmar_enable_qi(iommu);
}

int fake_unit_init(struct fake_unit *unit, enum fake_mode mode)
{
	int ret;

	unit->mode = mode;
	unit->waits = 1;
	ret = fake_init_iommu(&unit->iommu, mode);
	if (ret)
		return ret;

	hrtimer_setup(&unit->timer, fake_tick, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL_PINNED_HARD);
	fake_probed = unit;
	fake_kprobe.flags = 0;
	fake_kprobe.addr = NULL;
	ret = register_kprobe(&fake_kprobe);
	if (ret) {
		fake_probed = NULL;
		return ret;
	}

	fake_use_cpu(FAKE_CPU_TEST);

	return smp_call_function_single(FAKE_CPU_UNIT, fake_start, unit, true);
}

static void fake_free_tables(struct intel_iommu *iommu)
{
	for (int bus = 0; bus < VTD_PAGE_SIZE / sizeof(*iommu->root_entry); bus++) {
		struct root_entry *entry = &iommu->root_entry[bus];

		if (entry->lo)
			iommu_free_pages(phys_to_virt(entry->lo & VTD_PAGE_MASK));
		if (entry->hi)
			iommu_free_pages(phys_to_virt(entry->hi & VTD_PAGE_MASK));
	}
	iommu_free_pages(iommu->root_entry);
}

void fake_unit_exit(struct fake_unit *unit)
{
	struct intel_iommu *iommu = &unit->iommu;

	if (fake_probed) {
		hrtimer_cancel(&unit->timer);
		unregister_kprobe(&fake_kprobe);
		fake_probed = NULL;
	}
	if (iommu->qi) {
		iommu_free_pages(iommu->qi->desc);
		kfree(iommu->qi->desc_status);
		kfree(iommu->qi);
	}
	if (iommu->root_entry)
		fake_free_tables(iommu);
	free_page((unsigned long)iommu->reg);
	ida_destroy(&iommu->domain_ida);
}

static bool fake_less(struct rb_node *a, const struct rb_node *b)
{
	struct device_domain_info *left, *right;

	left = rb_entry(a, struct device_domain_info, node);
	right = rb_entry(b, struct device_domain_info, node);

	return PCI_DEVID(left->bus, left->devfn) < PCI_DEVID(right->bus, right->devfn);
}

/*
 * As intel_iommu_probe_device(), which looks a unit up by ACPI's tables, and
 * intel_iommu_probe_finalize(). ATS is on by then in scalable mode; in legacy mode the
 * driver turns it on when the device is attached.
 */
struct fake_device *fake_unit_add(struct fake_unit *unit, struct pci_dev *pdev)
{
	struct fake_device *dev = &unit->devices[unit->nr];
	struct device_domain_info *info = &dev->info;

	info->dev = &pdev->dev;
	info->iommu = &unit->iommu;
	info->segment = pci_domain_nr(pdev->bus);
	info->bus = pdev->bus->number;
	info->devfn = pdev->devfn;
	info->ats_supported = 1;
	dev->iommu.priv = info;
	dev->iommu.iommu_dev = &unit->iommu.iommu;
	pdev->dev.iommu = &dev->iommu;
	unit->nr++;
	rb_add(&info->node, &unit->iommu.device_rbtree, fake_less);

	if (unit->mode == FAKE_LEGACY)
		return dev;

	if (intel_pasid_alloc_table(&pdev->dev) ||
	    intel_pasid_setup_sm_context(&pdev->dev) ||
	    pci_enable_ats(pdev, VTD_PAGE_SHIFT))
		return NULL;
	info->ats_enabled = 1;

	return dev;
}

void fake_unit_remove(struct fake_unit *unit)
{
	for (int i = 0; i < unit->nr; i++) {
		struct device_domain_info *info = &unit->devices[i].info;

		fake_attach(intel_iommu_ops.blocked_domain, &unit->devices[i], NULL);
		if (info->pasid_table) {
			intel_pasid_teardown_sm_context(info->dev);
			intel_pasid_free_table(info->dev);
		}
		info->dev->iommu = NULL;
	}
	unit->nr = 0;
}

/* --- page tables ---------------------------------------------------------- */

/* @phys: what %FAKE_IOVA leads to. It is not aligned, so that there is a table of pages. */
struct iommu_domain *fake_domain(struct fake_unit *unit, u64 phys)
{
	struct device *dev = unit->devices[0].info.dev;
	struct iommu_domain *domain;
	int ret;

	domain = intel_iommu_ops.domain_alloc_paging_flags(dev, 0, NULL);
	if (IS_ERR(domain))
		return domain;

	domain->type = IOMMU_DOMAIN_UNMANAGED;
	domain->owner = &intel_iommu_ops;
	ret = iommu_map(domain, FAKE_IOVA, phys, FAKE_SIZE, IOMMU_READ | IOMMU_WRITE,
			GFP_KERNEL);
	if (ret) {
		domain->ops->free(domain);
		return ERR_PTR(ret);
	}

	return domain;
}

int fake_attach(struct iommu_domain *domain, struct fake_device *dev,
		struct iommu_domain *old)
{
	return domain->ops->attach_dev(domain, dev->info.dev, old);
}

/* All pages of the table, and with them it. It is watched. */
void fake_unmap(struct fake_unit *unit, struct iommu_domain *domain)
{
	struct iommu_iotlb_gather gather;
	struct ioptdesc *table;

	iommu_iotlb_gather_init(&gather);
	iommu_unmap_fast(domain, FAKE_IOVA, FAKE_SIZE, &gather);

	table = list_first_entry_or_null(&gather.freelist.pages, struct ioptdesc,
					 iopt_freelist_elm);
	if (table) {
		get_page((struct page *)table);
		unit->watched = (struct page *)table;
	}
	iommu_iotlb_sync(domain, &gather);
}

/* --- a unit with two devices ---------------------------------------------- */

static const struct fake_mode_param fake_mode_params[] = {
	{ "legacy", FAKE_LEGACY },
	{ "second stage", FAKE_SECOND_STAGE },
	{ "first stage", FAKE_FIRST_STAGE },
};

static void fake_mode_desc(const struct fake_mode_param *param, char *desc)
{
	strscpy(desc, param->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(fake_modes, fake_mode_params, fake_mode_desc);

const void *fake_mode_gen_params(struct kunit *test, const void *prev, char *desc)
{
	return fake_modes_gen_params(test, prev, desc);
}

/* The mode is the test's parameter. */
int fake_machine_init(struct kunit *test)
{
	const struct fake_mode_param *param = test->param_value;
	struct fake_machine *machine;
	int ret;

	machine = kunit_kzalloc(test, sizeof(*machine), GFP_KERNEL);
	if (!machine)
		return -ENOMEM;
	test->priv = machine;

	if (!cpu_online(FAKE_CPU_UNIT))
		kunit_skip(test, "the hardware needs a CPU of its own");
	if (param && param->mode != FAKE_LEGACY && !intel_iommu_sm)
		kunit_skip(test, "there is no scalable mode");

	ret = fake_pci_init(&machine->pci, 0);
	if (ret)
		return ret;
	ret = fake_unit_init(&machine->unit, param ? param->mode : FAKE_LEGACY);
	if (ret)
		return ret;

	machine->a = fake_unit_add(&machine->unit, machine->pci.pdev[0]);
	machine->b = fake_unit_add(&machine->unit, machine->pci.pdev[1]);

	return machine->a && machine->b ? 0 : -ENOMEM;
}

void fake_machine_exit(struct kunit *test)
{
	struct fake_machine *machine = test->priv;
	struct fake_unit *unit = &machine->unit;

	fake_use_cpu(FAKE_CPU_TEST);
	for (int i = 0; i < FAKE_FUNCTIONS; i++)
		machine->pci.functions[i].absent = false;
	for (int i = 0; i < unit->nr; i++)
		unit->devices[i].silent = 0;
	fake_unit_remove(unit);
	for (int i = 0; i < ARRAY_SIZE(machine->domains); i++) {
		if (!IS_ERR_OR_NULL(machine->domains[i]))
			machine->domains[i]->ops->free(machine->domains[i]);
	}
	if (unit->watched)
		put_page(unit->watched);
	fake_unit_exit(unit);
	fake_pci_exit(&machine->pci);
}

/*
 * Both page tables are there, @dev is attached to the first of them, and it and the unit
 * have read it: from now on what is done is recorded.
 */
void fake_machine_start(struct kunit *test, struct fake_device *dev)
{
	struct fake_machine *machine = test->priv;
	struct fake_unit *unit = &machine->unit;

	for (int i = 0; i < ARRAY_SIZE(machine->domains); i++) {
		if (!machine->domains[i])
			machine->domains[i] = fake_domain(unit, FAKE_PHYS(i));
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, machine->domains[i]);
	}
	KUNIT_ASSERT_EQ(test, 0, fake_attach(machine->domains[0], dev, NULL));
	KUNIT_ASSERT_TRUE(test, dev->info.ats_enabled);
	dev->info.liveupdate = 1;
	KUNIT_ASSERT_EQ(test, FAKE_PHYS(0), fake_reach(unit, dev));
	KUNIT_ASSERT_EQ(test, FAKE_PHYS(0), dev->tlb);
	unit->log[0] = '\0';
	machine->pci.log[0] = '\0';
}

/* All that was expected, and nothing else */
void fake_machine_check(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	KUNIT_EXPECT_STREQ(test, machine->expected, machine->unit.log);
	KUNIT_EXPECT_FALSE(test, machine->unit.freed);
	machine->expected[0] = '\0';
	machine->unit.log[0] = '\0';
}
