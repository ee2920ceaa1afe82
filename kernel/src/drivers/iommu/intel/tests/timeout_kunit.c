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
#include <linux/kthread.h>

#include "fake.h"
#include "../liveupdate.h"

/* More often than the driver tries for a device that came through a live update */
#define MANY		5

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

static void map_again(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	put_page(machine->unit.watched);
	machine->unit.watched = NULL;
	KUNIT_ASSERT_EQ(test, 0, iommu_map(machine->domains[0], FAKE_IOVA,
					   FAKE_PHYS(0), FAKE_SIZE,
					   IOMMU_READ | IOMMU_WRITE, GFP_KERNEL));
	KUNIT_ASSERT_EQ(test, FAKE_PHYS(0),
			fake_reach(&machine->unit, machine->b));
}

static void expect_ended(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	KUNIT_EXPECT_FALSE(test, has_entry(machine, machine->a));
	KUNIT_EXPECT_EQ(test, 0, fake_reach(&machine->unit, machine->a));
	KUNIT_EXPECT_FALSE(test, machine->unit.freed);

	KUNIT_EXPECT_TRUE(test, has_entry(machine, machine->b));
	KUNIT_EXPECT_EQ(test, 0, machine->b->tlb);
	KUNIT_EXPECT_EQ(test, 0, machine->b->info.flush_timeouts);
}

/*
 * A device that never answers has no entry any more before any memory is freed. The other
 * one does not notice, and later flushes of the first one are not tried.
 */
static void never(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	start_both(test);
	machine->a->silent = INT_MAX;
	fake_unmap(&machine->unit, machine->domains[0]);
	expect_try(machine, TLB_A " " TLB_B " lost ite(10)");
	expect_try(machine, TLB_A " " TLB_B " lost ite(10)");
	expect_block(machine);
	expect_try(machine, TLB_B " wait");
	fake_machine_check(test);
	expect_ended(test);

	map_again(test);
	machine->unit.log[0] = '\0';
	fake_unmap(&machine->unit, machine->domains[0]);
	expect_block(machine);
	expect_try(machine, TLB_B " wait");
	fake_machine_check(test);
	expect_ended(test);
	KUNIT_EXPECT_EQ(test, 2, machine->unit.timeouts);
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
	expect_try(machine, TLB_A " ite(10) " TLB_B " wait");
	expect_block(machine);
	expect_try(machine, TLB_B " wait");
	fake_machine_check(test);
	expect_ended(test);
}

/* The device has been pulled out. The other one's flush is not given up with its. */
static void gone(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	start_both(test);
	machine->pci.functions[0].absent = true;
	machine->a->silent = INT_MAX;
	machine->unit.early = true;
	fake_unmap(&machine->unit, machine->domains[0]);
	expect_try(machine, TLB_A " ite(10) " TLB_B " wait");
	expect_block(machine);
	expect_try(machine, TLB_B " wait");
	fake_machine_check(test);
	expect_ended(test);
	machine->pci.functions[0].absent = false;
}

/* Its entry is not made present again by another page table, and it can be detached. */
static void never_handover(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	fake_machine_start(test, machine->a);
	machine->a->silent = INT_MAX;
	fake_attach(machine->domains[1], machine->a, machine->domains[0]);
	KUNIT_EXPECT_EQ(test, 2, machine->unit.timeouts);
	KUNIT_EXPECT_FALSE(test, has_entry(machine, machine->a));
	KUNIT_EXPECT_EQ(test, 0, fake_reach(&machine->unit, machine->a));

	fake_attach(machine->domains[0], machine->a, machine->domains[1]);
	KUNIT_EXPECT_FALSE(test, has_entry(machine, machine->a));
	fake_attach(intel_iommu_ops.blocked_domain, machine->a, machine->domains[0]);
	KUNIT_EXPECT_FALSE(test, has_entry(machine, machine->a));
	KUNIT_EXPECT_EQ(test, 0, fake_reach(&machine->unit, machine->a));
	KUNIT_EXPECT_EQ(test, 2, machine->unit.timeouts);
}

/* One that answers the second time goes on. */
static void once(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	start_both(test);
	machine->a->silent = 1;
	fake_unmap(&machine->unit, machine->domains[0]);
	expect_try(machine, TLB_A " " TLB_B " lost ite(10)");
	expect_try(machine, TLB_A " " TLB_B " wait");
	fake_machine_check(test);
	KUNIT_EXPECT_TRUE(test, has_entry(machine, machine->a));
	KUNIT_EXPECT_EQ(test, 0, machine->a->tlb);
	KUNIT_EXPECT_EQ(test, 1, machine->a->info.flush_timeouts);
	KUNIT_EXPECT_FALSE(test, machine->unit.iommu.liveupdate_ended);
	KUNIT_EXPECT_FALSE(test, machine->unit.freed);
}

static void expect_patience(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	machine->a->silent = MANY;
	fake_unmap(&machine->unit, machine->domains[0]);
	KUNIT_EXPECT_EQ(test, MANY, machine->unit.timeouts);
	KUNIT_EXPECT_TRUE(test, has_entry(machine, machine->a));
	KUNIT_EXPECT_EQ(test, 0, machine->a->tlb);
	KUNIT_EXPECT_EQ(test, 0, machine->a->info.flush_timeouts);
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

/* The second device's TLB is flushed, each time for real. */
static int flush_on(void *data)
{
	struct flusher *flusher = data;
	struct fake_device *dev = flusher->machine->b;
	struct qi_desc desc;

	while (!kthread_should_stop()) {
		unsigned int flushed = READ_ONCE(dev->flushed);

		qi_desc_dev_iotlb(PCI_DEVID(dev->info.bus, dev->info.devfn), 0, 0, 0,
				  MAX_AGAW_PFN_WIDTH, &desc);
		if (qi_submit_sync(dev->info.iommu, &desc, 1, 0))
			flusher->failed++;
		if (READ_ONCE(dev->flushed) == flushed)
			flusher->unanswered++;
		WRITE_ONCE(flusher->done, flusher->done + 1);
		cond_resched();
	}

	return 0;
}

static void others(struct kunit *test)
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
	machine->a->silent = INT_MAX;
	fake_unmap(&machine->unit, machine->domains[0]);
	expect_ended(test);
	kthread_stop(thread);

	KUNIT_EXPECT_EQ(test, 2, machine->unit.timeouts);
	KUNIT_EXPECT_EQ(test, 0, flusher.failed);
	KUNIT_EXPECT_EQ(test, 0, flusher.unanswered);
	KUNIT_EXPECT_GE(test, flusher.done, 2);
}

static struct kunit_case timeout_cases[] = {
	KUNIT_CASE_PARAM(never, fake_mode_gen_params),
	KUNIT_CASE_PARAM(never_early, fake_mode_gen_params),
	KUNIT_CASE_PARAM(gone, fake_mode_gen_params),
	KUNIT_CASE_PARAM(never_handover, fake_mode_gen_params),
	KUNIT_CASE_PARAM(once, fake_mode_gen_params),
	KUNIT_CASE_PARAM(other_device, fake_mode_gen_params),
	KUNIT_CASE_PARAM(unit_without_sid, fake_mode_gen_params),
	KUNIT_CASE_PARAM(others, fake_mode_gen_params),
	{}
};

static struct kunit_suite timeout_suite = {
	.name = "liveupdate-device-tlb-timeout",
	.init = fake_machine_init,
	.exit = fake_machine_exit,
	.test_cases = timeout_cases,
};

kunit_test_suite(timeout_suite);
