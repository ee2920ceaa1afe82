// SPDX-License-Identifier: GPL-2.0-only

/*
 * KUnit tests of the flushes of device TLBs.
 *
 * Whatever a device can reach no more, it must not have in its TLB when the driver's
 * function returns, because the memory is freed then. In each test the device has read the
 * translation before, and reads it again whenever it can (fake_unit.c). What is flushed,
 * and in which order, is compared as words: the requester ID of the device is 10, domain
 * IDs are 2 and 3.
 */

#include <kunit/test.h>
#include <linux/dmar.h>
#include <linux/iommu.h>
#include <linux/pci-ats.h>
#include <linux/rculist.h>

#include "fake.h"
#include "../liveupdate.h"
#include "../pasid.h"

/* What is unmapped, as an address and a size */
#define RANGE		"200000+200000"

/* What is expected in legacy mode, and in scalable mode with either stage */
static void expect(struct fake_machine *machine, const char *legacy, const char *second,
		   const char *first)
{
	enum fake_mode mode = machine->unit.mode;

	fake_log(machine->expected, "%s", mode == FAKE_LEGACY ? legacy :
		 mode == FAKE_SECOND_STAGE ? second : first);
}

/* Another entry: all that was cached under the old domain ID, and may be under the new */
static void expect_replaced(struct fake_machine *machine)
{
	const char *words = "pasid(%d) wait piotlb(%d) wait iotlb(%d) wait";

	if (machine->unit.mode == FAKE_LEGACY) {
		fake_log(machine->expected, "context(10) wait iotlb(2) wait");
		return;
	}
	fake_log(machine->expected, words, 2, 2, 2);
	fake_log(machine->expected, words, 3, 3, 3);
}

/* Pages unmapped: some under a domain ID, and some of a device */
static void expect_unmapped(struct fake_machine *machine, int did, int times)
{
	fake_log(machine->expected, "%s(%d:" RANGE ")",
		 machine->unit.mode == FAKE_FIRST_STAGE ? "piotlb" : "iotlb", did);
	for (int i = 0; i < times; i++)
		fake_log(machine->expected, "tlb(10:" RANGE ")");
	fake_log(machine->expected, "wait");
}

static void expect_detached(struct fake_machine *machine)
{
	expect(machine, "context(10) wait iotlb(2) wait tlb(10) wait",
	       "pasid(2) wait iotlb(2) wait tlb(10) wait",
	       "pasid(2) wait piotlb(2) wait tlb(10) wait");
}

/* The device's TLB was flushed, and it has what it is to have now. */
static void expect_reach(struct kunit *test, u64 phys)
{
	struct fake_machine *machine = test->priv;

	KUNIT_EXPECT_EQ(test, phys, fake_reach(&machine->unit, machine->a));
	KUNIT_EXPECT_EQ(test, phys, machine->a->tlb);
	KUNIT_EXPECT_FALSE(test, machine->unit.freed);
}

/* An entry is not present any more, and the unit knows. */
static void expect_blocked(struct fake_machine *machine)
{
	expect(machine, "context(all) wait iotlb(all) wait",
	       "context(all) wait pasid(all) wait iotlb(all) wait",
	       "context(all) wait pasid(all) wait iotlb(all) wait");
}

/* Of the device's TLB, which has the old translation, the unit lets nothing through. */
static void expect_shut_out(struct kunit *test)
{
	struct fake_machine *machine = test->priv;
	struct fake_device *dev = machine->a;

	KUNIT_EXPECT_EQ(test, FAKE_PHYS(0), dev->tlb);
	KUNIT_EXPECT_TRUE(test, intel_liveupdate_has_ended(&dev->info));
	KUNIT_EXPECT_FALSE(test, context_present(iommu_context_addr(dev->info.iommu,
								    dev->info.bus,
								    dev->info.devfn, 0)));
	KUNIT_EXPECT_EQ(test, 0, fake_reach(&machine->unit, dev));
	KUNIT_EXPECT_EQ(test, 0, dev->flushed);
	KUNIT_EXPECT_EQ(test, 0, machine->unit.timeouts);
}

/* --- to another page table ----------------------------------------------------------- */

static void handover(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	fake_machine_start(test, machine->a);
	KUNIT_EXPECT_EQ(test, 0, fake_attach(machine->domains[1], machine->a,
					     machine->domains[0]));
	KUNIT_EXPECT_EQ(test, 1, machine->a->flushed);
	expect_replaced(machine);
	fake_log(machine->expected, "tlb(10) wait");
	fake_machine_check(test);
	expect_reach(test, FAKE_PHYS(1));
	KUNIT_EXPECT_STREQ(test, "", machine->pci.log);
}

/* A device whose TLB has to be flushed twice */
static void handover_extra(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	machine->a->info.dtlb_extra_inval = 1;
	fake_machine_start(test, machine->a);
	fake_attach(machine->domains[1], machine->a, machine->domains[0]);
	KUNIT_EXPECT_EQ(test, 2, machine->a->flushed);
	expect_replaced(machine);
	fake_log(machine->expected, "tlb(10) wait tlb(10) wait");
	fake_machine_check(test);
	expect_reach(test, FAKE_PHYS(1));
}

/*
 * A device that does not answer to configuration requests, while it is handed over: a flush
 * of its TLB would never be answered. It may come back, with what it has in its TLB.
 */
static void handover_absent(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	fake_machine_start(test, machine->a);
	machine->pci.functions[0].absent = true;
	KUNIT_EXPECT_EQ(test, 0, fake_attach(machine->domains[1], machine->a,
					     machine->domains[0]));
	expect_replaced(machine);
	expect_blocked(machine);
	fake_machine_check(test);

	machine->pci.functions[0].absent = false;
	expect_shut_out(test);
	KUNIT_EXPECT_EQ(test, 0, fake_attach(machine->domains[0], machine->a,
					     machine->domains[1]));
	expect_shut_out(test);
}

/* One that has no TLB, as its ATS is off */
static void handover_ats_off(struct kunit *test)
{
	struct fake_machine *machine = test->priv;
	struct fake_device *dev = machine->a;

	fake_machine_start(test, dev);
	fake_attach(intel_iommu_ops.blocked_domain, dev, machine->domains[0]);
	if (dev->info.ats_enabled)
		pci_disable_ats(machine->pci.pdev[0]);
	dev->info.ats_enabled = 0;
	dev->info.pasid_enabled = 0;
	dev->info.ats_supported = 0;
	fake_attach(machine->domains[0], dev, NULL);
	dev->tlb = 0;
	machine->unit.log[0] = '\0';

	fake_attach(machine->domains[1], dev, machine->domains[0]);
	KUNIT_EXPECT_NULL(test, strstr(machine->unit.log, "tlb(10"));
	KUNIT_EXPECT_EQ(test, FAKE_PHYS(1), fake_reach(&machine->unit, dev));
}

/* --- unmap --------------------------------------------------------------------------- */

static void unmap(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	fake_machine_start(test, machine->a);
	fake_unmap(&machine->unit, machine->domains[0]);
	expect_unmapped(machine, 2, 1);
	fake_machine_check(test);
	expect_reach(test, 0);

	/* The table of these pages has been freed by now, but for the test's reference */
	KUNIT_ASSERT_NOT_NULL(test, machine->unit.watched);
	KUNIT_EXPECT_EQ(test, 1, page_count(machine->unit.watched));
}

static void unmap_extra(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	machine->a->info.dtlb_extra_inval = 1;
	fake_machine_start(test, machine->a);
	fake_unmap(&machine->unit, machine->domains[0]);
	expect_unmapped(machine, 2, 2);
	fake_machine_check(test);
	expect_reach(test, 0);
}

/* The page table that it was handed over to knows that it has a TLB, the other one forgot. */
static void unmap_after_handover(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	fake_machine_start(test, machine->a);
	fake_attach(machine->domains[1], machine->a, machine->domains[0]);
	machine->unit.log[0] = '\0';

	fake_unmap(&machine->unit, machine->domains[1]);
	expect_unmapped(machine, 3, 1);
	fake_machine_check(test);
	expect_reach(test, 0);

	put_page(machine->unit.watched);
	machine->unit.watched = NULL;
	fake_unmap(&machine->unit, machine->domains[0]);
	KUNIT_EXPECT_STREQ(test, "", machine->unit.log);
}

/* --- the end of its DMA ------------------------------------------------------------------ */

static void detach(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	fake_machine_start(test, machine->a);
	fake_attach(intel_iommu_ops.blocked_domain, machine->a, machine->domains[0]);
	KUNIT_EXPECT_EQ(test, 1, machine->a->flushed);
	expect_detached(machine);
	fake_machine_check(test);
	expect_reach(test, 0);
}

/* One that is not there at that moment, and is attached to another page table later */
static void detach_absent(struct kunit *test)
{
	struct fake_machine *machine = test->priv;
	struct iommu_domain *blocked = intel_iommu_ops.blocked_domain;

	fake_machine_start(test, machine->a);
	machine->pci.functions[0].absent = true;
	fake_attach(blocked, machine->a, machine->domains[0]);
	expect(machine, "context(10) wait iotlb(2) wait",
	       "pasid(2) wait iotlb(2) wait", "pasid(2) wait piotlb(2) wait");
	expect_blocked(machine);
	fake_machine_check(test);

	machine->pci.functions[0].absent = false;
	expect_shut_out(test);
	KUNIT_EXPECT_EQ(test, 0, fake_attach(machine->domains[1], machine->a, blocked));
	expect_shut_out(test);
}

/* The driver never attached it to anything. */
static void forget_attached(struct fake_machine *machine)
{
	struct dmar_domain *domain = to_dmar_domain(machine->domains[0]);
	struct device_domain_info *info = &machine->a->info;

	cache_tag_unassign_domain(domain, info->dev, IOMMU_NO_PASID);
	list_del(&info->link);
	domain_detach_iommu(domain, info->iommu);
	info->domain = NULL;
	info->domain_attached = 0;
}

/* The rest of intel_iommu_release_device(), and the device is there again */
static void release_and_probe(struct kunit *test)
{
	struct fake_machine *machine = test->priv;
	struct device_domain_info *info = &machine->a->info;

	pci_disable_ats(machine->pci.pdev[0]);
	info->ats_enabled = 0;
	info->liveupdate = 0;
	machine->a->tlb = 0;
	if (machine->unit.mode == FAKE_LEGACY)
		return;

	intel_pasid_teardown_sm_context(info->dev);
	intel_pasid_free_table(info->dev);
	KUNIT_ASSERT_EQ(test, 0, intel_pasid_alloc_table(info->dev));
	KUNIT_ASSERT_EQ(test, 0, intel_pasid_setup_sm_context(info->dev));
	KUNIT_ASSERT_EQ(test, 0, pci_enable_ats(machine->pci.pdev[0], VTD_PAGE_SHIFT));
	info->ats_enabled = 1;
}

/* A device goes that was never attached to anything, and what the unit keeps of it. */
static void release(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	fake_machine_start(test, machine->a);
	forget_attached(machine);
	intel_liveupdate_release_device(&machine->a->info);
	expect_detached(machine);
	fake_machine_check(test);
	expect_reach(test, 0);

	release_and_probe(test);
	KUNIT_EXPECT_EQ(test, 0, fake_attach(machine->domains[1], machine->a, NULL));
	expect_reach(test, FAKE_PHYS(1));
}

/*
 * The entry of a device goes that is not there, or whose ATS has been turned off: its TLB
 * is empty, and not flushed. In scalable mode its PASID tables are freed with the entry.
 */
static void drop(struct kunit *test)
{
	struct fake_machine *machine = test->priv;
	struct intel_iommu *iommu = &machine->unit.iommu;
	struct device_domain_info *info = &machine->a->info;
	struct iommu_unit_ser ser = { .id = 0xfade000 };
	struct dmar_drhd_unit drhd = { .iommu = iommu };

	fake_machine_start(test, machine->a);
	iommu->reg_phys = ser.id;
	list_add_tail_rcu(&drhd.list, &dmar_drhd_units);

	machine->pci.functions[0].absent = true;
	machine->a->tlb = 0;
	machine->pci.pdev[0]->ats_enabled = 0;
	if (info->pasid_table) {
		machine->unit.watched = virt_to_page(info->pasid_table->table);
		get_page(machine->unit.watched);
	}
	intel_liveupdate_ops.entry_drop(&ser, PCI_DEVID(info->bus, info->devfn));
	list_del_rcu(&drhd.list);
	synchronize_rcu();

	expect_blocked(machine);
	fake_machine_check(test);
	expect_reach(test, 0);
	if (info->pasid_table)
		KUNIT_EXPECT_EQ(test, 1, page_count(machine->unit.watched));

	forget_attached(machine);
	kfree(info->pasid_table);
	info->pasid_table = NULL;
	machine->pci.pdev[0]->ats_enabled = 1;
}

static struct kunit_case flush_cases[] = {
	KUNIT_CASE_PARAM(handover, fake_mode_gen_params),
	KUNIT_CASE_PARAM(handover_extra, fake_mode_gen_params),
	KUNIT_CASE_PARAM(handover_absent, fake_mode_gen_params),
	KUNIT_CASE_PARAM(handover_ats_off, fake_mode_gen_params),
	KUNIT_CASE_PARAM(unmap, fake_mode_gen_params),
	KUNIT_CASE_PARAM(unmap_extra, fake_mode_gen_params),
	KUNIT_CASE_PARAM(unmap_after_handover, fake_mode_gen_params),
	KUNIT_CASE_PARAM(detach, fake_mode_gen_params),
	KUNIT_CASE_PARAM(detach_absent, fake_mode_gen_params),
	KUNIT_CASE_PARAM(release, fake_mode_gen_params),
	KUNIT_CASE_PARAM(drop, fake_mode_gen_params),
	{}
};

static struct kunit_suite flush_suite = {
	.name = "liveupdate-device-tlb",
	.init = fake_machine_init,
	.exit = fake_machine_exit,
	.test_cases = flush_cases,
};

kunit_test_suite(flush_suite);
