// SPDX-License-Identifier: GPL-2.0-only

/*
 * KUnit tests of what becomes of ATS, PASID and PRI of a device in a live update. The
 * writes to its configuration space are compared as words.
 */

#include <kunit/test.h>
#include <linux/iommu.h>
#include <linux/kho/abi/iommu.h>
#include <linux/ktime.h>
#include <linux/pci-ats.h>
#include <linux/pci.h>

#include "fake.h"
#include "../liveupdate.h"

/* pci_liveupdate_quiesce_pri() waits so long, and some more on a machine that is busy */
#define PATIENCE_MS		100
#define PATIENCE_MAX_MS		1000

/* --- devices without a unit ---------------------------------------------------------- */

struct services {
	struct fake_pci pci;
	struct device_domain_info info;
	struct pci_dev *vf;
};

static int services_init(struct kunit *test)
{
	struct services *services = kunit_kzalloc(test, sizeof(*services), GFP_KERNEL);

	if (!services)
		return -ENOMEM;
	test->priv = services;

	return 0;
}

static void services_exit(struct kunit *test)
{
	struct services *services = test->priv;

	if (services->vf) {
		services->vf->is_virtfn = 0;
		services->vf->physfn = NULL;
	}
	fake_pci_exit(&services->pci);
}

/* @without: capabilities that there are not. The last function is a virtual one. */
static struct services *services_start(struct kunit *test, unsigned int without)
{
	struct services *services = test->priv;
	struct fake_pci *pci = &services->pci;

	KUNIT_ASSERT_EQ(test, 0, fake_pci_init(pci, without));
	services->info.dev = &pci->pdev[0]->dev;
	services->vf = pci->pdev[FAKE_FUNCTIONS - 1];
	services->vf->is_virtfn = 1;
	services->vf->physfn = pci->pdev[0];

	return services;
}

static void set_enabled(struct fake_pci *pci, int i, u16 ats, u16 pasid)
{
	fake_set(&pci->functions[i], FAKE_ATS + PCI_ATS_CTRL, ats);
	fake_set(&pci->functions[i], FAKE_PASID + PCI_PASID_CTRL, pasid);
}

/* --- adopt ------------------------------------------------------------------------------ */

/**
 * struct adopt_case - What a device came with, and what is made of it.
 * @name:     In words.
 * @without:  Capabilities that it does not have.
 * @ats:      Its control register.
 * @pasid:    Its control register.
 * @enabled:  Then ATS is,
 * @stu:      with this Smallest Translation Unit,
 * @pasids:   and PASID,
 * @features: with these features.
 */
struct adopt_case {
	const char *name;
	unsigned int without;
	u16 ats;
	u16 pasid;
	bool enabled;
	u8 stu;
	bool pasids;
	u16 features;
};

static const struct adopt_case adopt_cases[] = {
	{ "nothing", .stu = 12 },
	{ "ATS", .ats = 0x8000, .enabled = true, .stu = 12 },
	{ "ATS of 2 MiB", .ats = 0x8009, .enabled = true, .stu = 21 },
	{ "ATS of 2 MiB that is off", .ats = 9, .stu = 21 },
	{ "PASID", .pasid = 1, .stu = 12, .pasids = true },
	{ "PASID with features", .pasid = 7, .stu = 12, .pasids = true, .features = 6 },
	{ "both", .ats = 0x8000, .pasid = 1, .enabled = true, .stu = 12, .pasids = true },
	{ "no ATS", .without = FAKE_WITHOUT_ATS, .ats = 0x8000, .pasid = 1,
	  .pasids = true },
	{ "no PASID", .without = FAKE_WITHOUT_PASID, .ats = 0x8000, .pasid = 1,
	  .enabled = true, .stu = 12 },
	{ "does not answer", .ats = 0xffff, .pasid = 0xffff, .stu = 12 },
};

KUNIT_ARRAY_PARAM_DESC(adopt_case, adopt_cases, name);

static void adopt(struct kunit *test)
{
	const struct adopt_case *param = test->param_value;
	struct services *services = services_start(test, param->without);
	struct pci_dev *pdev = services->pci.pdev[0];

	set_enabled(&services->pci, 0, param->ats, param->pasid);
	pci_liveupdate_adopt_services(pdev);

	KUNIT_EXPECT_EQ(test, param->enabled, !!pdev->ats_enabled);
	KUNIT_EXPECT_EQ(test, param->stu, pdev->ats_stu);
	KUNIT_EXPECT_EQ(test, param->pasids, !!pdev->pasid_enabled);
	KUNIT_EXPECT_EQ(test, param->features, pdev->pasid_features);
	KUNIT_EXPECT_STREQ(test, "", services->pci.log);
}

/* It is not there at all, and has nothing enabled. */
static void adopt_absent(struct kunit *test)
{
	struct services *services = services_start(test, 0);
	struct pci_dev *pdev = services->pci.pdev[0];

	set_enabled(&services->pci, 0, 0x8000, 1);
	services->pci.functions[0].absent = true;
	pci_liveupdate_adopt_services(pdev);

	KUNIT_EXPECT_FALSE(test, pdev->ats_enabled);
	KUNIT_EXPECT_FALSE(test, pdev->pasid_enabled);
	KUNIT_EXPECT_EQ(test, 0, pdev->pasid_features);
}

/* A virtual function has an ATS of its own. Unit and PASID are of the physical one. */
static void adopt_virtual(struct kunit *test)
{
	struct services *services = services_start(test, 0);

	set_enabled(&services->pci, FAKE_FUNCTIONS - 1, 0x8009, 7);
	pci_liveupdate_adopt_services(services->vf);

	KUNIT_EXPECT_TRUE(test, services->vf->ats_enabled);
	KUNIT_EXPECT_EQ(test, 0, services->vf->ats_stu);
	KUNIT_EXPECT_FALSE(test, services->vf->pasid_enabled);
	KUNIT_EXPECT_EQ(test, 0, services->vf->pasid_features);
	KUNIT_EXPECT_STREQ(test, "", services->pci.log);
}

/**
 * struct differ_case - What the previous kernel said and left, and what this one can.
 * @name:  In words.
 * @flags: What it said.
 * @ats:   The ATS control register.
 * @pasid: The PASID control register.
 * @uses:  What this kernel uses, as in @flags.
 * @good:  That fits.
 */
struct differ_case {
	const char *name;
	u8 flags;
	u16 ats;
	u16 pasid;
	u8 uses;
	bool good;
};

#define ATS		IOMMU_SER_DEV_ATS
#define PASID		IOMMU_SER_DEV_PASID

static const struct differ_case differ_cases[] = {
	{ "neither", .good = true },
	{ "neither, and both are used", 0, 0, 0, ATS | PASID, true },
	{ "both", ATS | PASID, 0x8000, 1, ATS | PASID, true },
	{ "ATS", ATS, 0x8000, 0, ATS, true },
	{ "ATS that was not said", 0, 0x8000, 0, ATS },
	{ "ATS that was not said, and PASID", PASID, 0x8000, 1, ATS | PASID },
	{ "ATS was turned off", ATS, 0, 0, ATS },
	{ "ATS was turned off, PASID not", ATS | PASID, 0, 1, ATS | PASID },
	{ "ATS of 2 MiB", ATS, 0x8009, 0, ATS },
	{ "ATS is not used", ATS, 0x8000, 0, 0 },
	{ "PASID that was not said", ATS, 0x8000, 1, ATS | PASID, true },
	{ "PASID was turned off", ATS | PASID, 0x8000, 0, ATS | PASID },
	{ "PASID is not used", ATS | PASID, 0x8000, 1, ATS },
	{ "does not answer", ATS | PASID, 0xffff, 0xffff, ATS | PASID },
};

KUNIT_ARRAY_PARAM_DESC(differ_case, differ_cases, name);

static void adopt_differs(struct kunit *test)
{
	const struct differ_case *param = test->param_value;
	struct services *services = services_start(test, 0);
	struct pci_dev *pdev = services->pci.pdev[0];
	struct iommu_dev_ser entry = { .flags = param->flags };
	struct device_domain_info *info = &services->info;
	bool good;

	set_enabled(&services->pci, 0, param->ats, param->pasid);
	info->ats_supported = !!(param->uses & ATS);
	info->pasid_supported = !!(param->uses & PASID);
	good = intel_liveupdate_adopt_services(info, &entry);

	KUNIT_EXPECT_EQ(test, param->good, good);
	KUNIT_EXPECT_EQ(test, good && param->flags & ATS, !!info->ats_enabled);
	KUNIT_EXPECT_EQ(test, good && param->flags & PASID,
			!!info->pasid_enabled);
	/* PASID is what its virtual functions go by, which may go on */
	KUNIT_EXPECT_EQ(test, good && param->ats & PCI_ATS_CTRL_ENABLE,
			!!pdev->ats_enabled);
	KUNIT_EXPECT_EQ(test, param->pasid != 0xffff &&
			param->pasid & PCI_PASID_CTRL_ENABLE,
			!!pdev->pasid_enabled);
	KUNIT_EXPECT_STREQ(test, "", services->pci.log);
}

/* A held physical function is not written to, and this kernel does without its services. */
static void adopt_held(struct kunit *test)
{
	struct services *services = services_start(test, 0);
	struct device_domain_info *info = &services->info;
	struct pci_dev *pdev = services->pci.pdev[0];

	set_enabled(&services->pci, 0, 0x8000, 1);
	info->ats_supported = 1;
	info->pasid_supported = 1;
	info->pri_supported = 1;
	intel_liveupdate_setup_held(info);

	KUNIT_EXPECT_FALSE(test, info->ats_supported);
	KUNIT_EXPECT_FALSE(test, info->pasid_supported);
	KUNIT_EXPECT_FALSE(test, info->pri_supported);
	KUNIT_EXPECT_FALSE(test, pdev->ats_enabled);
	KUNIT_EXPECT_EQ(test, 12, pdev->ats_stu);
	KUNIT_EXPECT_TRUE(test, pdev->pasid_enabled);
	KUNIT_EXPECT_STREQ(test, "", services->pci.log);
}

/* --- the end, and page requests ---------------------------------------------------------- */

/* PRI, ATS, PASID in this order; ATS keeps its unit, PASID its features. */
static void end_all(struct kunit *test)
{
	struct services *services = services_start(test, 0);
	struct pci_dev *pdev = services->pci.pdev[0];

	set_enabled(&services->pci, 0, 0x8009, 7);
	fake_set(&services->pci.functions[0], FAKE_PRI + PCI_PRI_CTRL, 1);
	pci_liveupdate_adopt_services(pdev);
	pdev->pri_enabled = 1;

	pci_liveupdate_end_services(pdev);
	KUNIT_EXPECT_STREQ(test, "pri=0 ats=9 pasid=6", services->pci.log);
	KUNIT_EXPECT_FALSE(test, pdev->pri_enabled);
	KUNIT_EXPECT_FALSE(test, pdev->ats_enabled);
	KUNIT_EXPECT_FALSE(test, pdev->pasid_enabled);

	services->pci.log[0] = '\0';
	pci_liveupdate_end_services(pdev);
	KUNIT_EXPECT_STREQ(test, "", services->pci.log);
}

static void end_without(struct kunit *test)
{
	struct services *services = services_start(test, FAKE_WITHOUT_ATS |
						   FAKE_WITHOUT_PRI |
						   FAKE_WITHOUT_PASID);

	set_enabled(&services->pci, 0, 0x8000, 1);
	fake_set(&services->pci.functions[0], FAKE_PRI + PCI_PRI_CTRL, 1);
	pci_liveupdate_end_services(services->pci.pdev[0]);
	KUNIT_EXPECT_STREQ(test, "", services->pci.log);
}

static void end_virtual(struct kunit *test)
{
	struct services *services = services_start(test, 0);

	set_enabled(&services->pci, FAKE_FUNCTIONS - 1, 0x8000, 1);
	pci_liveupdate_end_services(services->vf);
	KUNIT_EXPECT_STREQ(test, "ats=0", services->pci.log);
}

/**
 * struct quiesce_case - When a device has no page requests any more.
 * @name: In words.
 * @after: ms, or never.
 * @ret:   What is returned then.
 * @min:   ms that it takes at least,
 * @max:   and at most.
 */
struct quiesce_case {
	const char *name;
	int after;
	int ret;
	s64 min;
	s64 max;
};

static const struct quiesce_case quiesce_cases[] = {
	{ "at once", 0, 0, 0, PATIENCE_MS },
	{ "later", 50, 0, 40, PATIENCE_MAX_MS },
	{ "never", -1, -EBUSY, PATIENCE_MS, PATIENCE_MAX_MS },
};

static const struct quiesce_case quiesce_none = { .max = PATIENCE_MS - 1 };

KUNIT_ARRAY_PARAM_DESC(quiesce_case, quiesce_cases, name);

static void expect_quiesce(struct kunit *test, struct pci_dev *pdev,
			   const struct quiesce_case *expected)
{
	ktime_t start = ktime_get();
	s64 took;

	KUNIT_EXPECT_EQ(test, expected->ret, pci_liveupdate_quiesce_pri(pdev));
	took = ktime_ms_delta(ktime_get(), start);
	KUNIT_EXPECT_GE(test, took, expected->min);
	KUNIT_EXPECT_LE(test, took, expected->max);
}

/* One whose PRI is not enabled any more is waited for, too, as often as it is asked. */
static void quiesce(struct kunit *test)
{
	const struct quiesce_case *param = test->param_value;
	struct services *services = services_start(test, 0);
	struct pci_dev *pdev = services->pci.pdev[0];

	KUNIT_ASSERT_EQ(test, 0, pci_enable_pri(pdev, 1));
	services->pci.log[0] = '\0';
	services->pci.functions[0].stop_after = param->after;
	expect_quiesce(test, pdev, param);
	KUNIT_EXPECT_STREQ(test, "pri=0", services->pci.log);
	KUNIT_EXPECT_FALSE(test, pdev->pri_enabled);

	services->pci.log[0] = '\0';
	if (param->after > 0)
		services->pci.functions[0].stopped_at =
			ktime_add_ms(ktime_get(), param->after);
	expect_quiesce(test, pdev, param);
	KUNIT_EXPECT_STREQ(test, "", services->pci.log);
}

/* Linux has never enabled it: nothing is outstanding, although it has not stopped. */
static void quiesce_unused(struct kunit *test)
{
	struct services *services = services_start(test, 0);

	services->pci.functions[0].stopped_at = KTIME_MAX;
	expect_quiesce(test, services->pci.pdev[0], &quiesce_none);
	KUNIT_EXPECT_STREQ(test, "", services->pci.log);
}

/* Nothing is done, and none is waited for, whatever the physical function does. */
static void quiesce_virtual(struct kunit *test)
{
	struct services *services = services_start(test, 0);
	struct pci_dev *pdev = services->pci.pdev[0];

	KUNIT_ASSERT_EQ(test, 0, pci_enable_pri(pdev, 1));
	KUNIT_ASSERT_NE(test, 0, services->vf->pri_cap);
	services->vf->pri_enabled = 1;
	services->pci.functions[FAKE_FUNCTIONS - 1].stopped_at = KTIME_MAX;
	services->pci.log[0] = '\0';
	expect_quiesce(test, services->vf, &quiesce_none);
	KUNIT_EXPECT_STREQ(test, "", services->pci.log);
	KUNIT_EXPECT_TRUE(test, pdev->pri_enabled);
}

static void quiesce_without(struct kunit *test)
{
	struct services *services = services_start(test, FAKE_WITHOUT_PRI);

	services->pci.functions[0].stopped_at = KTIME_MAX;
	expect_quiesce(test, services->pci.pdev[0], &quiesce_none);
	KUNIT_EXPECT_STREQ(test, "", services->pci.log);
}

static struct kunit_case services_cases[] = {
	KUNIT_CASE_PARAM(adopt, adopt_case_gen_params),
	KUNIT_CASE(adopt_absent),
	KUNIT_CASE(adopt_virtual),
	KUNIT_CASE_PARAM(adopt_differs, differ_case_gen_params),
	KUNIT_CASE(adopt_held),
	KUNIT_CASE(end_all),
	KUNIT_CASE(end_without),
	KUNIT_CASE(end_virtual),
	KUNIT_CASE_PARAM(quiesce, quiesce_case_gen_params),
	KUNIT_CASE(quiesce_unused),
	KUNIT_CASE(quiesce_virtual),
	KUNIT_CASE(quiesce_without),
	{}
};

static struct kunit_suite services_suite = {
	.name = "liveupdate-pci-services",
	.init = services_init,
	.exit = services_exit,
	.test_cases = services_cases,
};

/* --- devices behind a unit ------------------------------------------------------------------ */

/* The unit can take page requests, and wait for them. */
#define ECAP_PRS		BIT_ULL(29)
#define ECAP_PDS		BIT_ULL(42)

/* PRI of the first one is enabled. */
static void start_pri(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	machine->unit.iommu.ecap |= ECAP_PRS | ECAP_PDS;
	fake_machine_start(test, machine->a);
	machine->a->info.pri_supported = 1;
	iommu_enable_pci_pri(&machine->a->info);
	KUNIT_ASSERT_TRUE(test, machine->a->info.pri_enabled);
	KUNIT_ASSERT_STREQ(test, "pri=2 requests=20 pri=1", machine->pci.log);
	machine->pci.log[0] = '\0';
	machine->unit.log[0] = '\0';
}

/* What was written to the device, and submitted to the unit, since this was asked last */
static void expect_logs(struct kunit *test, const char *pci, const char *unit)
{
	struct fake_machine *machine = test->priv;

	KUNIT_EXPECT_STREQ(test, pci, machine->pci.log);
	KUNIT_EXPECT_STREQ(test, unit, machine->unit.log);
	machine->pci.log[0] = '\0';
	machine->unit.log[0] = '\0';
}

/* PRI is disabled, and what is on its way answered; it is enabled when nobody keeps it. */
static void keep(struct kunit *test)
{
	struct fake_machine *machine = test->priv;
	struct device_domain_info *info = &machine->a->info;
	const char *why = NULL;
	u8 flags = 0;

	start_pri(test);
	KUNIT_EXPECT_EQ(test, 0, intel_liveupdate_keep_services(info, &flags, &why));
	KUNIT_EXPECT_EQ(test, IOMMU_SER_DEV_ATS, flags);
	KUNIT_EXPECT_FALSE(test, info->pri_enabled);
	expect_logs(test, "pri=0", "fence drain");

	intel_liveupdate_return_services(info);
	KUNIT_EXPECT_TRUE(test, info->pri_enabled);
	KUNIT_EXPECT_FALSE(test, info->liveupdate_pri);
	expect_logs(test, "pri=2 requests=20 pri=1", "");

	/* What it did not have enabled it does not get */
	pci_disable_pri(machine->pci.pdev[0]);
	info->pri_enabled = 0;
	info->pasid_enabled = 1;
	flags = 0;
	machine->pci.log[0] = '\0';
	KUNIT_EXPECT_EQ(test, 0, intel_liveupdate_keep_services(info, &flags, &why));
	KUNIT_EXPECT_EQ(test, IOMMU_SER_DEV_ATS | IOMMU_SER_DEV_PASID, flags);
	intel_liveupdate_return_services(info);
	expect_logs(test, "", "fence drain");
	info->pasid_enabled = 0;
}

static void expect_busy(struct kunit *test)
{
	struct fake_machine *machine = test->priv;
	struct device_domain_info *info = &machine->a->info;
	ktime_t start = ktime_get();
	const char *why = NULL;
	u8 flags = 0;

	KUNIT_EXPECT_EQ(test, -EBUSY,
			intel_liveupdate_keep_services(info, &flags, &why));
	KUNIT_EXPECT_GE(test, ktime_ms_delta(ktime_get(), start), PATIENCE_MS);
	KUNIT_EXPECT_NOT_NULL(test, why);
	KUNIT_EXPECT_EQ(test, 0, flags);
	KUNIT_EXPECT_FALSE(test, info->pri_enabled);
	KUNIT_EXPECT_TRUE(test, info->liveupdate_pri);
}

/*
 * A device whose page requests do not come to an end is refused each time, and written to
 * no more. When they have, it is kept, and gets its PRI back.
 */
static void keep_busy(struct kunit *test)
{
	struct fake_machine *machine = test->priv;
	struct device_domain_info *info = &machine->a->info;
	const char *why = NULL;
	u8 flags = 0;

	start_pri(test);
	machine->pci.functions[0].stop_after = -1;
	expect_busy(test);
	expect_logs(test, "pri=0", "");
	expect_busy(test);
	expect_logs(test, "", "");

	machine->pci.functions[0].stopped_at = 0;
	KUNIT_EXPECT_EQ(test, 0, intel_liveupdate_keep_services(info, &flags, &why));
	KUNIT_EXPECT_NULL(test, why);
	KUNIT_EXPECT_EQ(test, IOMMU_SER_DEV_ATS, flags);
	expect_logs(test, "", "fence drain");

	intel_liveupdate_return_services(info);
	KUNIT_EXPECT_TRUE(test, info->pri_enabled);
	KUNIT_EXPECT_FALSE(test, info->liveupdate_pri);
	expect_logs(test, "pri=2 requests=20 pri=1", "");
}

static bool is_request_enable(struct fake_machine *machine)
{
	struct device_domain_info *info = &machine->a->info;

	return iommu_context_addr(info->iommu, info->bus, info->devfn, 0)->lo & BIT(4);
}

/*
 * One that was refused gets its PRI with the next page table that has a fault handler, but
 * not before its requests have come to an end.
 */
static void enable_busy(struct kunit *test)
{
	struct fake_machine *machine = test->priv;
	struct device_domain_info *info = &machine->a->info;

	start_pri(test);
	info->liveupdate = 0;
	KUNIT_EXPECT_FALSE(test, is_request_enable(machine));
	machine->pci.functions[0].stop_after = -1;
	expect_busy(test);
	expect_logs(test, "pri=0", "");

	KUNIT_EXPECT_FALSE(test, intel_liveupdate_enable_pri(info));
	KUNIT_EXPECT_STREQ(test, "", machine->pci.log);
	KUNIT_EXPECT_FALSE(test, info->pri_enabled);
	KUNIT_EXPECT_TRUE(test, info->liveupdate_pri);
	machine->unit.log[0] = '\0';

	machine->pci.functions[0].stopped_at = 0;
	KUNIT_EXPECT_TRUE(test, intel_liveupdate_enable_pri(info));
	KUNIT_EXPECT_TRUE(test, info->pri_enabled);
	KUNIT_EXPECT_FALSE(test, info->liveupdate_pri);
	KUNIT_EXPECT_TRUE(test, is_request_enable(machine));
	expect_logs(test, "pri=2 requests=20 pri=1", "context(10) wait");
}

/* A device that came with its PRI disabled, and one that did not come */
static void enable_incoming(struct kunit *test)
{
	struct fake_machine *machine = test->priv;
	struct device_domain_info *info = &machine->a->info;

	fake_machine_start(test, machine->a);
	info->pri_supported = 1;
	KUNIT_EXPECT_TRUE(test, intel_liveupdate_enable_pri(info));
	KUNIT_EXPECT_TRUE(test, is_request_enable(machine));
	expect_logs(test, "pri=2 requests=20 pri=1", "context(10) wait");

	info = &machine->b->info;
	info->pri_supported = 1;
	KUNIT_EXPECT_FALSE(test, intel_liveupdate_enable_pri(info));
	expect_logs(test, "", "");
}

/* Page requests are waited for where the unit takes any, and can be told to wait. */
static void drain(struct kunit *test)
{
	struct fake_machine *machine = test->priv;
	struct intel_iommu *iommu = &machine->unit.iommu;

	fake_machine_start(test, machine->a);
	intel_liveupdate_drain_requests(iommu);
	expect_logs(test, "", "");
	iommu->ecap |= ECAP_PRS;
	intel_liveupdate_drain_requests(iommu);
	expect_logs(test, "", "");
	iommu->ecap ^= ECAP_PRS | ECAP_PDS;
	intel_liveupdate_drain_requests(iommu);
	expect_logs(test, "", "");
	iommu->ecap |= ECAP_PRS;
	intel_liveupdate_drain_requests(iommu);
	expect_logs(test, "", "fence drain");
}

static struct kunit_case keep_cases[] = {
	KUNIT_CASE_PARAM(keep, fake_mode_gen_params),
	KUNIT_CASE_PARAM(keep_busy, fake_mode_gen_params),
	KUNIT_CASE_PARAM(enable_busy, fake_mode_gen_params),
	KUNIT_CASE_PARAM(enable_incoming, fake_mode_gen_params),
	KUNIT_CASE_PARAM(drain, fake_mode_gen_params),
	{}
};

static struct kunit_suite keep_suite = {
	.name = "liveupdate-vtd-services",
	.init = fake_machine_init,
	.exit = fake_machine_exit,
	.test_cases = keep_cases,
};

kunit_test_suites(&services_suite, &keep_suite);
