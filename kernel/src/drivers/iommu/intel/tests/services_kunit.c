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

/* pci_liveupdate_quiesce_pri() waits for a second; some more on a machine that is busy */
#define PATIENCE_MS		1000
#define PATIENCE_MAX_MS		4000

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
 * @allow:    Its ATS is to be enabled.
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
	bool allow;
	bool enabled;
	u8 stu;
	bool pasids;
	u16 features;
};

static const struct adopt_case adopt_cases[] = {
	{ "nothing", .allow = true, .stu = 12 },
	{ "ATS", .ats = 0x8000, .allow = true, .enabled = true, .stu = 12 },
	{ "ATS of 2 MiB", .ats = 0x8009, .allow = true, .enabled = true, .stu = 21 },
	{ "ATS that is not to be", .ats = 0x8000, .stu = 12 },
	{ "PASID", .pasid = 1, .allow = true, .stu = 12, .pasids = true },
	{ "PASID with features", .pasid = 7, .stu = 12, .pasids = true, .features = 6 },
	{ "both", .ats = 0x8000, .pasid = 1, .allow = true, .enabled = true, .stu = 12,
	  .pasids = true },
	{ "no ATS", .without = FAKE_WITHOUT_ATS, .ats = 0x8000, .pasid = 1,
	  .allow = true, .pasids = true },
	{ "no PASID", .without = FAKE_WITHOUT_PASID, .ats = 0x8000, .pasid = 1,
	  .allow = true, .enabled = true, .stu = 12 },
};

KUNIT_ARRAY_PARAM_DESC(adopt_case, adopt_cases, name);

static void adopt(struct kunit *test)
{
	const struct adopt_case *param = test->param_value;
	struct services *services = services_start(test, param->without);
	struct pci_dev *pdev = services->pci.pdev[0];

	set_enabled(&services->pci, 0, param->ats, param->pasid);
	pci_liveupdate_adopt_services(pdev, param->allow);

	KUNIT_EXPECT_EQ(test, param->enabled, !!pdev->ats_enabled);
	KUNIT_EXPECT_EQ(test, param->stu, pdev->ats_stu);
	KUNIT_EXPECT_EQ(test, param->pasids, !!pdev->pasid_enabled);
	KUNIT_EXPECT_EQ(test, param->features, pdev->pasid_features);
	KUNIT_EXPECT_STREQ(test, "", services->pci.log);
}

/* A virtual function has an ATS of its own. Unit and PASID are of the physical one. */
static void adopt_virtual(struct kunit *test)
{
	struct services *services = services_start(test, 0);

	set_enabled(&services->pci, FAKE_FUNCTIONS - 1, 0x8009, 7);
	pci_liveupdate_adopt_services(services->vf, true);

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
	{ "both", ATS | PASID, 0x8000, 1, ATS | PASID, true },
	{ "ATS", ATS, 0x8000, 0, ATS, true },
	{ "ATS that is used no more", 0, 0x8000, 0, ATS, true },
	{ "ATS was turned off", ATS, 0, 0, ATS },
	{ "ATS of 2 MiB", ATS, 0x8009, 0, ATS },
	{ "ATS is not used", ATS, 0x8000, 0, 0 },
	{ "PASID was turned off", ATS | PASID, 0x8000, 0, ATS | PASID },
	{ "PASID is not used", ATS | PASID, 0x8000, 1, ATS },
};

KUNIT_ARRAY_PARAM_DESC(differ_case, differ_cases, name);

static void adopt_differs(struct kunit *test)
{
	const struct differ_case *param = test->param_value;
	struct services *services = services_start(test, 0);
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
	pci_liveupdate_adopt_services(pdev, true);
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
	{ "later", 50, 0, 50, PATIENCE_MAX_MS },
	{ "never", -1, -EBUSY, PATIENCE_MS, PATIENCE_MAX_MS },
};

KUNIT_ARRAY_PARAM_DESC(quiesce_case, quiesce_cases, name);

static void quiesce(struct kunit *test)
{
	const struct quiesce_case *param = test->param_value;
	struct services *services = services_start(test, 0);
	struct pci_dev *pdev = services->pci.pdev[0];
	ktime_t start;
	s64 took;

	KUNIT_ASSERT_EQ(test, 0, pci_enable_pri(pdev, 1));
	services->pci.log[0] = '\0';
	services->pci.functions[0].stop_after = param->after;

	start = ktime_get();
	KUNIT_EXPECT_EQ(test, param->ret, pci_liveupdate_quiesce_pri(pdev));
	took = ktime_ms_delta(ktime_get(), start);
	KUNIT_EXPECT_GE(test, took, param->min);
	KUNIT_EXPECT_LE(test, took, param->max);

	KUNIT_EXPECT_STREQ(test, "pri=0", services->pci.log);
	KUNIT_EXPECT_FALSE(test, pdev->pri_enabled);
}

static struct kunit_case services_cases[] = {
	KUNIT_CASE_PARAM(adopt, adopt_case_gen_params),
	KUNIT_CASE(adopt_virtual),
	KUNIT_CASE_PARAM(adopt_differs, differ_case_gen_params),
	KUNIT_CASE(end_all),
	KUNIT_CASE(end_without),
	KUNIT_CASE(end_virtual),
	KUNIT_CASE_PARAM(quiesce, quiesce_case_gen_params),
	{}
};

static struct kunit_suite services_suite = {
	.name = "liveupdate-pci-services",
	.init = services_init,
	.exit = services_exit,
	.test_cases = services_cases,
};

/* --- devices behind a unit ------------------------------------------------------------------ */

/* PRI of the first one is enabled. */
static void start_pri(struct kunit *test)
{
	struct fake_machine *machine = test->priv;

	fake_machine_start(test, machine->a);
	machine->a->info.pri_supported = 1;
	iommu_enable_pci_pri(&machine->a->info);
	KUNIT_ASSERT_TRUE(test, machine->a->info.pri_enabled);
	KUNIT_ASSERT_STREQ(test, "pri=2 requests=20 pri=1", machine->pci.log);
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
	KUNIT_EXPECT_STREQ(test, "pri=0", machine->pci.log);
	KUNIT_EXPECT_STREQ(test, "fence drain", machine->unit.log);
	KUNIT_EXPECT_FALSE(test, info->pri_enabled);

	machine->pci.log[0] = '\0';
	intel_liveupdate_return_services(info);
	KUNIT_EXPECT_STREQ(test, "pri=2 requests=20 pri=1", machine->pci.log);
	KUNIT_EXPECT_TRUE(test, info->pri_enabled);
	KUNIT_EXPECT_FALSE(test, info->liveupdate_pri);

	/* What it did not have enabled it does not get */
	pci_disable_pri(machine->pci.pdev[0]);
	info->pri_enabled = 0;
	info->pasid_enabled = 1;
	flags = 0;
	machine->pci.log[0] = '\0';
	KUNIT_EXPECT_EQ(test, 0, intel_liveupdate_keep_services(info, &flags, &why));
	KUNIT_EXPECT_EQ(test, IOMMU_SER_DEV_ATS | IOMMU_SER_DEV_PASID, flags);
	intel_liveupdate_return_services(info);
	KUNIT_EXPECT_STREQ(test, "", machine->pci.log);
	info->pasid_enabled = 0;
}

/* A device whose page requests do not come to an end is refused; its PRI stays disabled. */
static void keep_busy(struct kunit *test)
{
	struct fake_machine *machine = test->priv;
	struct device_domain_info *info = &machine->a->info;
	const char *why = NULL;
	u8 flags = 0;

	start_pri(test);
	machine->pci.functions[0].stop_after = -1;
	KUNIT_EXPECT_EQ(test, -EBUSY,
			intel_liveupdate_keep_services(info, &flags, &why));
	KUNIT_EXPECT_NOT_NULL(test, why);
	KUNIT_EXPECT_EQ(test, 0, flags);
	KUNIT_EXPECT_STREQ(test, "pri=0 pri=2", machine->pci.log);
	KUNIT_EXPECT_FALSE(test, info->pri_enabled);
	KUNIT_EXPECT_FALSE(test, info->liveupdate_pri);
}

static struct kunit_case keep_cases[] = {
	KUNIT_CASE_PARAM(keep, fake_mode_gen_params),
	KUNIT_CASE(keep_busy),
	{}
};

static struct kunit_suite keep_suite = {
	.name = "liveupdate-vtd-services",
	.init = fake_machine_init,
	.exit = fake_machine_exit,
	.test_cases = keep_cases,
};

kunit_test_suites(&services_suite, &keep_suite);
