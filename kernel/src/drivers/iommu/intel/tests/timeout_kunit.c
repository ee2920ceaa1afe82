// SPDX-License-Identifier: GPL-2.0-only

/*
 * KUnit tests of devices that do not answer when their TLB is to be flushed.
 *
 * The unit gives such a flush up ("ite"), and forgets the wait descriptors that it has
 * read ("lost"). Two devices are attached to one page table, whose pages are unmapped: the
 * requester ID of the first one is 10, of the second one 18, and their domain ID is 2.
 */

#include <kunit/test.h>
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/iommu.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/rbtree.h>
#include <linux/string.h>
#include <linux/workqueue.h>

#include "fake.h"
#include "../liveupdate.h"

/* How often a device does not answer that does in the end */
#define MANY		5

/* How often two flush at once: no time is like another */
#define ROUNDS		8

/* What is unmapped, in either device */
#define TLB_A		"tlb(10:200000+200000)"
#define TLB_B		"tlb(18:200000+200000)"

/* Pages are unmapped: first in the unit, then as in @words */
static void expect_try(struct fake_machine *machine, const char *words)
{
	bool first = machine->unit.mode == FAKE_FIRST_STAGE;

	fake_log(machine->expected, "%s(2:200000+200000) %s",
		 first ? "piotlb" : "iotlb", words);
}

static u16 sid_of(struct fake_device *dev)
{
	return PCI_DEVID(dev->info.bus, dev->info.devfn);
}

/* An entry is not present any more, and the unit knows. */
static void expect_block(struct fake_machine *machine)
{
	fake_log(machine->expected, "context(all) wait");
	if (machine->unit.mode != FAKE_LEGACY)
		fake_log(machine->expected, "pasid(all) wait");
	fake_log(machine->expected, "iotlb(all) wait");
}

static bool has_entry(struct fake_machine *machine, struct fake_device *dev)
{
	return context_present(iommu_context_addr(&machine->unit.iommu,
						  dev->info.bus,
						  dev->info.devfn, 0));
}

/* Both are attached to the first page table. */
static void start_both(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	fake_machine_start(test, machine->a);
	fake_machine_start(test, machine->b);
}

/* From now on the driver may free what was unmapped. */
static void let_go(struct fake_machine *machine)
{
	put_page(machine->unit.watched);
	machine->unit.watched = NULL;
}

static void map_again(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	let_go(machine);
	KUNIT_ASSERT_EQ(test, 0, iommu_map(machine->domains[0], FAKE_IOVA,
					   FAKE_PHYS(0), FAKE_SIZE,
					   IOMMU_READ | IOMMU_WRITE, GFP_KERNEL));
	KUNIT_ASSERT_EQ(test, FAKE_PHYS(0),
			fake_reach(&machine->unit, machine->b));
}

/* The unit refuses what the first device does, and memory was there until then. */
static void expect_ended(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	KUNIT_EXPECT_TRUE(test, intel_liveupdate_has_ended(&machine->a->info));
	KUNIT_EXPECT_FALSE(test, has_entry(machine, machine->a));
	KUNIT_EXPECT_EQ(test, 0, fake_reach(&machine->unit, machine->a));
	KUNIT_EXPECT_EQ(test, 1, machine->unit.timeouts);
	KUNIT_EXPECT_FALSE(test, machine->unit.freed);
}

static void expect_other_well(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	KUNIT_EXPECT_FALSE(test, intel_liveupdate_has_ended(&machine->b->info));
	KUNIT_EXPECT_TRUE(test, has_entry(machine, machine->b));
	KUNIT_EXPECT_EQ(test, 0, machine->b->tlb);
}

/*
 * A device that does not answer has no entry any more before any memory is freed. The
 * other one does not notice. Later flushes of the first one are not tried, and nothing
 * is submitted in their place.
 */
static void never(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	start_both(test);
	machine->a->silent = INT_MAX;
	fake_unmap(&machine->unit, machine->domains[0]);
	expect_try(machine, TLB_A " " TLB_B " lost ite(10)");
	expect_block(machine);
	expect_try(machine, TLB_B " wait");
	fake_machine_check(test);
	expect_ended(test);
	expect_other_well(test);

	map_again(test);
	machine->unit.log[0] = '\0';
	fake_unmap(&machine->unit, machine->domains[0]);
	expect_try(machine, TLB_B " wait");
	fake_machine_check(test);
	expect_ended(test);
	expect_other_well(test);
}

/*
 * The unit gives up before it has read the wait descriptor, which then completes: that does
 * not stand for the flush that was given up.
 */
static void never_early(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	start_both(test);
	machine->a->silent = INT_MAX;
	machine->unit.early = true;
	fake_unmap(&machine->unit, machine->domains[0]);
	expect_try(machine, TLB_A " ite(10) " TLB_B " wait");
	expect_block(machine);
	expect_try(machine, TLB_B " wait");
	fake_machine_check(test);
	expect_ended(test);
	expect_other_well(test);
}

static void pull_out(struct fake_machine *machine)
{
	machine->a->info.liveupdate = 0;
	machine->a->silent = INT_MAX;
	machine->pci.functions[0].absent = true;
}

/* Linux goes on without it, and the next flush of it is tried again. */
static void expect_passed_over(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	KUNIT_EXPECT_FALSE(test, intel_liveupdate_has_ended(&machine->a->info));
	KUNIT_EXPECT_EQ(test, 0, machine->a->info.liveupdate_end);
	KUNIT_EXPECT_TRUE(test, has_entry(machine, machine->a));
	KUNIT_EXPECT_EQ(test, 1, machine->unit.timeouts);
}

/*
 * A device that did not come through a live update has been pulled out: the other one's
 * flush is not given up with its.
 */
static void gone(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	start_both(test);
	pull_out(machine);
	fake_unmap(&machine->unit, machine->domains[0]);
	expect_try(machine, TLB_A " " TLB_B " lost ite(10)");
	expect_try(machine, TLB_B " wait");
	fake_machine_check(test);
	expect_passed_over(test);
	expect_other_well(test);
}

static void gone_early(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	start_both(test);
	pull_out(machine);
	machine->unit.early = true;
	fake_unmap(&machine->unit, machine->domains[0]);
	expect_try(machine, TLB_A " ite(10) " TLB_B " wait");
	expect_try(machine, TLB_B " wait");
	fake_machine_check(test);
	expect_passed_over(test);
	expect_other_well(test);
}

/* --- what has ended stays so ----------------------------------------------------------- */

static void attach_ended(struct kunit *test, struct iommu_domain *domain,
			 struct iommu_domain *old)
{
	struct fake_machine *machine = test->priv;

	KUNIT_EXPECT_EQ(test, 0, fake_attach(domain, machine->a, old));
	expect_ended(test);
}

/* It ends in a handover. Another one does not make its entry present again. */
static void never_handover(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	fake_machine_start(test, machine->a);
	machine->a->silent = INT_MAX;
	attach_ended(test, machine->domains[1], machine->domains[0]);
	attach_ended(test, machine->domains[0], machine->domains[1]);
	attach_ended(test, intel_iommu_ops.blocked_domain, machine->domains[0]);
}

/* Nor does any other way to attach it: its TLB has what it had. */
static void never_again(struct kunit *test)
{
	struct fake_machine *machine = test->priv;
	struct iommu_domain *blocked = intel_iommu_ops.blocked_domain;
	struct iommu_domain *identity = intel_iommu_ops.identity_domain;

	fake_machine_start(test, machine->a);
	machine->a->silent = INT_MAX;
	fake_unmap(&machine->unit, machine->domains[0]);
	expect_ended(test);
	KUNIT_EXPECT_EQ(test, FAKE_PHYS(0), machine->a->tlb);
	let_go(machine);

	attach_ended(test, blocked, machine->domains[0]);
	attach_ended(test, machine->domains[1], blocked);
	attach_ended(test, machine->domains[0], machine->domains[1]);
	attach_ended(test, identity, machine->domains[0]);
	attach_ended(test, machine->domains[1], identity);
	attach_ended(test, blocked, machine->domains[1]);
}

/* It ends on another CPU while its context entry is being changed. */
static struct {
	struct kprobe probe;
	struct task_struct *task;
	struct fake_machine *machine;
	struct xarray *domain_ids;
	unsigned int hits;
} meanwhile;

/*
 * Between what is read of the entry and what is written, replace_legacy() looks up the
 * domain ID, and only there it has the lock.
 */
static int end_meanwhile(struct kprobe *probe, struct pt_regs *regs)
{
	struct fake_machine *machine = meanwhile.machine;
	struct intel_iommu *iommu = &machine->unit.iommu;
	struct device_domain_info *info = &machine->a->info;
	struct context_entry *context;

	if (current != meanwhile.task ||
	    (struct xarray *)regs->di != meanwhile.domain_ids)
		return 0;

	if (spin_trylock(&iommu->lock)) {
		spin_unlock(&iommu->lock);
		return 0;
	}

	context = iommu_context_addr(iommu, info->bus, info->devfn, 0);
	clear_bit(0, (unsigned long *)&context->lo);
	meanwhile.hits++;

	return 0;
}

static void never_meanwhile(struct kunit *test)
{
	struct fake_machine *machine = test->priv;
	struct iommu_domain *domain;

	fake_machine_start(test, machine->a);
	domain = machine->domains[1];

	memset(&meanwhile, 0, sizeof(meanwhile));
	meanwhile.probe.symbol_name = "xa_load";
	meanwhile.probe.pre_handler = end_meanwhile;
	meanwhile.task = current;
	meanwhile.machine = machine;
	meanwhile.domain_ids = &to_dmar_domain(domain)->iommu_array;
	KUNIT_ASSERT_EQ(test, 0, register_kprobe(&meanwhile.probe));
	KUNIT_EXPECT_EQ(test, 0, fake_attach(domain, machine->a, machine->domains[0]));
	unregister_kprobe(&meanwhile.probe);

	KUNIT_EXPECT_EQ(test, 1, meanwhile.hits);
	KUNIT_EXPECT_FALSE(test, has_entry(machine, machine->a));
	KUNIT_EXPECT_EQ(test, 0, fake_reach(&machine->unit, machine->a));
}

/* --- what has not ----------------------------------------------------------------------- */

static void expect_patience(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	machine->a->silent = MANY;
	fake_unmap(&machine->unit, machine->domains[0]);
	KUNIT_EXPECT_EQ(test, MANY, machine->unit.timeouts);
	KUNIT_EXPECT_TRUE(test, has_entry(machine, machine->a));
	KUNIT_EXPECT_EQ(test, 0, machine->a->tlb);
	KUNIT_EXPECT_FALSE(test, intel_liveupdate_has_ended(&machine->a->info));
	KUNIT_EXPECT_FALSE(test, machine->unit.iommu.liveupdate_ended);
	KUNIT_EXPECT_FALSE(test, machine->unit.freed);
}

/* For one that did not come through a live update Linux tries on, as ever. */
static void other_device(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	start_both(test);
	machine->a->info.liveupdate = 0;
	expect_patience(test);
}

/* So it does behind a unit that does not say whose flush it gave up. */
static void unit_without_sid(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	start_both(test);
	machine->unit.no_sid = true;
	expect_patience(test);
}

/* --- somebody else who flushes --------------------------------------------------------- */

struct flusher {
	struct fake_machine *machine;
	unsigned int done;
	unsigned int unanswered;
	unsigned int failed;
};

static int flush_tlb(struct fake_device *dev)
{
	struct qi_desc desc;

	qi_desc_dev_iotlb(sid_of(dev), 0, 0, 0, MAX_AGAW_PFN_WIDTH, &desc);

	return qi_submit_sync(dev->info.iommu, &desc, 1, 0);
}

/* The second device's TLB is flushed, for real. */
static void flush_once(struct flusher *flusher)
{
	struct fake_device *dev = flusher->machine->b;
	unsigned int flushed = READ_ONCE(dev->flushed);

	if (flush_tlb(dev))
		flusher->failed++;
	if (READ_ONCE(dev->flushed) == flushed)
		flusher->unanswered++;
	WRITE_ONCE(flusher->done, flusher->done + 1);
}

static int flush_on(void *data)
{
	while (!kthread_should_stop()) {
		flush_once(data);
		cond_resched();
	}

	return 0;
}

/* The first device ends while another CPU flushes the second one's. */
static void expect_others_well(struct kunit *test, void (*begin)(struct fake_machine *),
			       void (*expect)(struct kunit *))
{
	struct fake_machine *machine = test->priv;
	struct flusher flusher = { .machine = machine };
	struct task_struct *thread;

	if (!cpu_online(FAKE_CPU_OTHER))
		kunit_skip(test, "who flushes needs a CPU of its own");

	start_both(test);
	thread = kthread_create(flush_on, &flusher, "fake-flusher");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, thread);
	kthread_bind(thread, FAKE_CPU_OTHER);
	wake_up_process(thread);

	while (!READ_ONCE(flusher.done))
		fsleep(USEC_PER_MSEC);
	begin(machine);
	machine->unit.crowd = true;
	fake_unmap(&machine->unit, machine->domains[0]);
	expect(test);
	expect_other_well(test);
	kthread_stop(thread);

	KUNIT_EXPECT_EQ(test, 0, flusher.failed);
	KUNIT_EXPECT_EQ(test, 0, flusher.unanswered);
	KUNIT_EXPECT_GE(test, flusher.done, 2);
}

static void be_silent(struct fake_machine *machine)
{
	machine->a->silent = INT_MAX;
}

static void others(struct kunit *test)
{
	expect_others_well(test, be_silent, expect_ended);
}

static void others_gone(struct kunit *test)
{
	expect_others_well(test, pull_out, expect_passed_over);
}

/* --- a device that was released ---------------------------------------------------------- */

/* The driver knows nothing of it any more, and its entry is as it was. */
static void forget(struct fake_machine *machine)
{
	struct intel_iommu *iommu = &machine->unit.iommu;

	spin_lock_irq(&iommu->device_rbtree_lock);
	rb_erase(&machine->a->info.node, &iommu->device_rbtree);
	spin_unlock_irq(&iommu->device_rbtree_lock);
}

struct release {
	struct work_struct work;
	struct fake_device *dev;
	int ret;
	bool done;
};

static void flush_released(struct work_struct *work)
{
	struct release *release = container_of(work, struct release, work);

	release->ret = flush_tlb(release->dev);
	WRITE_ONCE(release->done, true);
}

/* A flush of it is given up, for who submitted that and for nobody else. */
static void released(struct kunit *test)
{
	struct fake_machine *machine = test->priv;
	struct flusher flusher = { .machine = machine };

	if (!cpu_online(FAKE_CPU_OTHER))
		kunit_skip(test, "who flushes needs a CPU of its own");

	start_both(test);
	machine->a->silent = INT_MAX;
	forget(machine);
	for (int i = 0; i < ROUNDS; i++) {
		struct release release = { .dev = machine->a };

		INIT_WORK_ONSTACK(&release.work, flush_released);
		queue_work_on(FAKE_CPU_OTHER, system_percpu_wq, &release.work);
		do {
			flush_once(&flusher);
		} while (!READ_ONCE(release.done));
		flush_work(&release.work);
		destroy_work_on_stack(&release.work);
		KUNIT_EXPECT_EQ(test, -ETIMEDOUT, release.ret);
	}

	KUNIT_EXPECT_GE(test, machine->unit.timeouts, ROUNDS);
	KUNIT_EXPECT_EQ(test, 0, flusher.failed);
	KUNIT_EXPECT_EQ(test, 0, flusher.unanswered);
	KUNIT_EXPECT_TRUE(test, has_entry(machine, machine->a));
	KUNIT_EXPECT_TRUE(test, has_entry(machine, machine->b));
	KUNIT_EXPECT_FALSE(test, machine->unit.iommu.liveupdate_ended);
}

/* --- who sees it first --------------------------------------------------------------------- */

/*
 * A device's TLB is to be flushed, as qi_submit_sync() begins to. Who submits this is not
 * on a CPU. Returns where in the queue it is; the wait descriptor is the next one.
 */
static int submit_only(struct fake_device *dev)
{
	struct intel_iommu *iommu = dev->info.iommu;
	struct q_inval *qi = iommu->qi;
	struct qi_desc desc[2] = {};
	int index, wait_index, shift = qi_shift(iommu);

	raw_spin_lock_irq(&qi->q_lock);
	index = qi->free_head;
	wait_index = (index + 1) % QI_LENGTH;
	qi_desc_dev_iotlb(sid_of(dev), 0, 0, 0, MAX_AGAW_PFN_WIDTH, &desc[0]);
	desc[1].qw0 = QI_IWD_STATUS_DATA(QI_DONE) | QI_IWD_STATUS_WRITE | QI_IWD_TYPE;
	desc[1].qw1 = virt_to_phys(&qi->desc_status[wait_index]);
	memcpy(qi->desc + (index << shift), &desc[0], 1 << shift);
	memcpy(qi->desc + (wait_index << shift), &desc[1], 1 << shift);
	qi->desc_status[index] = QI_IN_USE;
	qi->desc_status[wait_index] = QI_IN_USE;
	qi->free_head = (wait_index + 1) % QI_LENGTH;
	qi->free_cnt -= 2;
	writel(qi->free_head << shift, iommu->reg + DMAR_IQT_REG);
	raw_spin_unlock_irq(&qi->q_lock);

	return index;
}

/* It has been aborted, and is submitted again by qi_submit_sync(), in whole. */
static int submit_again(struct kunit *test, struct fake_device *dev, int index)
{
	struct q_inval *qi = dev->info.iommu->qi;
	int *status[] = {
		&qi->desc_status[index],
		&qi->desc_status[(index + 1) % QI_LENGTH],
	};

	for (int i = 0; i < ARRAY_SIZE(status); i++) {
		KUNIT_EXPECT_EQ(test, QI_ABORT, *status[i]);
		*status[i] = QI_FREE;
	}

	return flush_tlb(dev);
}

/* Who flushes the second device's TLB sees the time-out of the first one's. */
static void see_first(struct kunit *test, void (*begin)(struct fake_machine *), int ret)
{
	struct fake_machine *machine = test->priv;
	int index;

	start_both(test);
	begin(machine);
	machine->unit.waits = 2;
	index = submit_only(machine->a);
	KUNIT_EXPECT_EQ(test, 0, flush_tlb(machine->b));
	KUNIT_EXPECT_EQ(test, 2, machine->b->flushed);
	fake_log(machine->expected, "tlb(10) lost tlb(18) lost ite(10) tlb(18) wait");
	fake_machine_check(test);

	machine->unit.waits = 1;
	KUNIT_EXPECT_EQ(test, ret, submit_again(test, machine->a, index));
}

static void other_sees(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	see_first(test, be_silent, 0);
	expect_block(machine);
	fake_log(machine->expected, "wait");
	fake_machine_check(test);
	expect_ended(test);
}

static void other_sees_gone(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	see_first(test, pull_out, 0);
	fake_log(machine->expected, "wait");
	fake_machine_check(test);
	expect_passed_over(test);
}

static void be_released(struct fake_machine *machine)
{
	machine->a->silent = INT_MAX;
	forget(machine);
}

static void other_sees_released(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	see_first(test, be_released, -ETIMEDOUT);
	fake_log(machine->expected, "tlb(10) lost ite(10)");
	fake_machine_check(test);
	KUNIT_EXPECT_TRUE(test, has_entry(machine, machine->a));
	KUNIT_EXPECT_FALSE(test, machine->unit.iommu.liveupdate_ended);
}

/* As who submitted descriptors from @index on asks, when the first device's is given up */
static bool is_again(struct fake_machine *machine, int index)
{
	struct intel_iommu *iommu = &machine->unit.iommu;
	int wait_index = (iommu->qi->free_head + QI_LENGTH - 1) % QI_LENGTH;

	return intel_liveupdate_timed_out(iommu, sid_of(machine->a), index, wait_index);
}

/* Whose it was is read of the queue: of descriptors of two kinds, and around its end. */
static void released_whose(struct kunit *test)
{
	struct fake_machine *machine = test->priv;
	struct intel_iommu *iommu = &machine->unit.iommu;
	int shift = qi_shift(iommu);

	start_both(test);
	forget(machine);
	for (int i = 0; i < QI_LENGTH; i++) {
		int index = iommu->qi->free_head;
		int second = (index + 1) % QI_LENGTH;
		struct qi_desc desc[2], of_device;

		qi_desc_iotlb(iommu, 0, 0, 0, DMA_TLB_GLOBAL_FLUSH, &desc[0]);
		desc[1] = desc[0];
		KUNIT_EXPECT_EQ(test, 0, qi_submit_sync(iommu, desc, 2, 0));
		KUNIT_EXPECT_TRUE(test, is_again(machine, index));

		/* Had it been this one: the unit has read it by now */
		if (i % 2)
			qi_desc_dev_iotlb(sid_of(machine->a), 0, 0, 0,
					  MAX_AGAW_PFN_WIDTH, &of_device);
		else
			qi_desc_dev_iotlb_pasid(sid_of(machine->a), 0, 5, 0, 0,
						MAX_AGAW_PFN_WIDTH, &of_device);
		memcpy(iommu->qi->desc + (second << shift), &of_device, 1 << shift);
		KUNIT_EXPECT_FALSE(test, is_again(machine, index));
	}
	KUNIT_EXPECT_FALSE(test, iommu->liveupdate_ended);
}

static struct kunit_case timeout_cases[] = {
	KUNIT_CASE_PARAM(never, fake_mode_gen_params),
	KUNIT_CASE_PARAM(never_early, fake_mode_gen_params),
	KUNIT_CASE_PARAM(gone, fake_mode_gen_params),
	KUNIT_CASE_PARAM(gone_early, fake_mode_gen_params),
	KUNIT_CASE_PARAM(never_handover, fake_mode_gen_params),
	KUNIT_CASE_PARAM(never_again, fake_mode_gen_params),
	KUNIT_CASE(never_meanwhile),
	KUNIT_CASE_PARAM(other_device, fake_mode_gen_params),
	KUNIT_CASE_PARAM(unit_without_sid, fake_mode_gen_params),
	KUNIT_CASE_PARAM(others, fake_mode_gen_params),
	KUNIT_CASE_PARAM(others_gone, fake_mode_gen_params),
	KUNIT_CASE_PARAM(released, fake_mode_gen_params),
	KUNIT_CASE_PARAM(other_sees, fake_mode_gen_params),
	KUNIT_CASE_PARAM(other_sees_gone, fake_mode_gen_params),
	KUNIT_CASE_PARAM(other_sees_released, fake_mode_gen_params),
	KUNIT_CASE_PARAM(released_whose, fake_mode_gen_params),
	{}
};

static struct kunit_suite timeout_suite = {
	.name = "liveupdate-device-tlb-timeout",
	.init = fake_machine_init,
	.exit = fake_machine_exit,
	.test_cases = timeout_cases,
};

kunit_test_suite(timeout_suite);
