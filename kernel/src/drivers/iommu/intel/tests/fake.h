/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PCI devices and a VT-d unit in software, for KUnit tests of what the driver does in a
 * Live Update. All of the driver and of the PCI core is the real one.
 *
 * fake_pci.c:  a host bridge in a PCI domain of its own, with functions that have the
 *              capabilities ATS, PRI and PASID. They are arrays, and writes are recorded.
 * fake_unit.c: registers in memory, and a timer of another CPU that reads the
 *              invalidation queue. It keeps, as real ones do, what it has read of context
 *              entries, PASID entries and page tables, and a device TLB for each device.
 */
#ifndef _DRIVERS_IOMMU_INTEL_TESTS_FAKE_H
#define _DRIVERS_IOMMU_INTEL_TESTS_FAKE_H

#include <kunit/test.h>
#include <linux/hrtimer.h>
#include <linux/iommu.h>
#include <linux/ktime.h>
#include <linux/pci.h>

#include "../iommu.h"

/* --- PCI --------------------------------------------------------------------- */

/* Two devices on the root bus, the third of which a test may make a virtual function */
#define FAKE_FUNCTIONS		3
#define FAKE_DEVFN(i)		PCI_DEVFN(2 + (i), 0)

#define FAKE_ATS		0x100
#define FAKE_PRI		0x110
#define FAKE_PASID		0x120
#define FAKE_LOG_SIZE		2048

/**
 * struct fake_function - A PCI function.
 * @config:     Its configuration space.
 * @absent:     It was pulled out: reads give all ones.
 * @stop_after: ms after which it has no page requests any more; negative: it never stops.
 * @stopped_at: When that is, if its PRI is not enabled.
 */
struct fake_function {
	u8 config[PCI_CFG_SPACE_EXP_SIZE];
	bool absent;
	int stop_after;
	ktime_t stopped_at;
};

/**
 * struct fake_pci - A host bridge.
 * @sysdata:   What x86 keeps for each.
 * @bridge:    To the PCI core.
 * @functions: Those on its bus.
 * @pdev:      To the PCI core; a reference to each.
 * @log:       Writes to control registers, as words: "ats=8000 pasid=0".
 */
struct fake_pci {
	struct pci_sysdata sysdata;
	struct pci_host_bridge *bridge;
	struct fake_function functions[FAKE_FUNCTIONS];
	struct pci_dev *pdev[FAKE_FUNCTIONS];
	char log[FAKE_LOG_SIZE];
};

/* Capabilities that functions do not have */
#define FAKE_WITHOUT_ATS	BIT(0)
#define FAKE_WITHOUT_PRI	BIT(1)
#define FAKE_WITHOUT_PASID	BIT(2)

int fake_pci_init(struct fake_pci *pci, unsigned int without);
void fake_pci_exit(struct fake_pci *pci);
void fake_set(struct fake_function *function, int where, u16 value);
u16 fake_get(struct fake_function *function, int where);

/* --- the unit ------------------------------------------------------------------ */

enum fake_mode {
	FAKE_LEGACY,
	FAKE_SECOND_STAGE,
	FAKE_FIRST_STAGE,
};

/* Where the devices of a test do their DMA */
#define FAKE_IOVA		SZ_2M
#define FAKE_SIZE		SZ_2M

/**
 * struct fake_device - A device behind the unit, which does DMA to %FAKE_IOVA all the time.
 * @info:    The driver's.
 * @iommu:   The IOMMU core's.
 * @silent:  How many flushes it does not answer.
 * @present: What the unit keeps of its context entry: it is there.
 * @top:     What the unit keeps of the entry for its page table, or 0.
 * @did:     The domain ID that came with it.
 * @iotlb:   Where %FAKE_IOVA is, as the unit keeps it, or 0.
 * @iotlb_did: Under this domain ID.
 * @tlb:     Where %FAKE_IOVA is, as the device keeps it, or 0.
 * @flushed: How many flushes it has answered.
 */
struct fake_device {
	struct device_domain_info info;
	struct dev_iommu iommu;
	int silent;
	bool present;
	u64 top;
	u16 did;
	u64 iotlb;
	u16 iotlb_did;
	u64 tlb;
	unsigned int flushed;
};

/**
 * struct fake_unit - A VT-d unit.
 * @iommu:    The driver's.
 * @mode:     What it can do.
 * @devices:  Behind it.
 * @nr:       How many.
 * @timer:    The hardware: an interrupt of another CPU.
 * @head:     Index of the next descriptor.
 * @asked:    It waits for this device's answer to a flush,
 * @answer:   which comes then,
 * @forgets:  and is of %FAKE_IOVA, too,
 * @ranged:   and not of all that it has.
 * @timeout:  When a flush is given up that a device has not answered.
 * @late:     That device.
 * @lost:     How many wait descriptors have been read since.
 * @waits:    Flushes are given up when it is so many.
 * @early:    It is given up before that, and before the next descriptor is read.
 * @no_sid:   It does not say whose flush it gave up.
 * @timeouts: How many it gave up.
 * @watched:  A page that the driver must not free before a flush has completed; the test
 *            has a reference, too.
 * @freed:    It did.
 * @crowd:    Somebody else flushes all that a device has, also when this page is free.
 * @log:      What it was told to do, and did, as words.
 */
struct fake_unit {
	struct intel_iommu iommu;
	enum fake_mode mode;
	struct fake_device devices[2];
	int nr;
	struct hrtimer timer;
	unsigned int head;
	struct fake_device *asked;
	ktime_t answer;
	bool forgets;
	bool ranged;
	ktime_t timeout;
	struct fake_device *late;
	unsigned int lost;
	unsigned int waits;
	bool early;
	bool no_sid;
	unsigned int timeouts;
	struct page *watched;
	bool freed;
	bool crowd;
	char log[FAKE_LOG_SIZE];
};

int fake_unit_init(struct fake_unit *unit, enum fake_mode mode);
void fake_unit_exit(struct fake_unit *unit);
struct fake_device *fake_unit_add(struct fake_unit *unit, struct pci_dev *pdev);
void fake_unit_remove(struct fake_unit *unit);
void fake_unit_refill(struct fake_unit *unit);
u64 fake_reach(struct fake_unit *unit, struct fake_device *dev);
void fake_use_cpu(unsigned int cpu);

/* CPUs: of tests, of the hardware, and of somebody else who flushes */
#define FAKE_CPU_TEST		0
#define FAKE_CPU_UNIT		1
#define FAKE_CPU_OTHER		2

/* --- page tables ------------------------------------------------------------------ */

struct iommu_domain *fake_domain(struct fake_unit *unit, u64 phys);
int fake_attach(struct iommu_domain *domain, struct fake_device *dev,
		struct iommu_domain *old);
void fake_unmap(struct fake_unit *unit, struct iommu_domain *domain);

/* --- a unit with two devices ---------------------------------------------------------- */

struct fake_mode_param {
	const char *name;
	enum fake_mode mode;
};

/**
 * struct fake_machine - What a test has.
 * @pci:     A host bridge.
 * @unit:    A unit.
 * @domains: Page tables, in which %FAKE_IOVA is at %FAKE_PHYS.
 * @a:       The first device behind the unit.
 * @b:       The second one.
 * @expected: What the unit is to have been told, and done, as words.
 */
struct fake_machine {
	struct fake_pci pci;
	struct fake_unit unit;
	struct iommu_domain *domains[2];
	struct fake_device *a;
	struct fake_device *b;
	char expected[FAKE_LOG_SIZE];
};

/* Nothing is ever read there */
#define FAKE_PHYS(i)		((u64)SZ_1G * ((i) + 1) + SZ_4K)

const void *fake_mode_gen_params(struct kunit *test, const void *prev, char *desc);
int fake_machine_init(struct kunit *test);
void fake_machine_exit(struct kunit *test);
void fake_machine_start(struct kunit *test, struct fake_device *dev);
void fake_machine_check(struct kunit *test);

/* Words are added at the end. */
__printf(2, 3) void fake_log(char *log, const char *format, ...);

#endif /* _DRIVERS_IOMMU_INTEL_TESTS_FAKE_H */
