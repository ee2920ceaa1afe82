// SPDX-License-Identifier: GPL-2.0-only

/*
 * KUnit tests of what a live update believes.
 *
 * Each test has something that a previous kernel may have left (or, in the case of
 * a boot image, may be given), made up as it should be, and cases. A case is
 * a change of one or two fields, and why the check has to refuse the whole then:
 * there is at least one for each rule. What is made up lies at addresses that only
 * the tests' own &typedef kho_take_fn knows; take_once() has a map of its own.
 */

#include <kunit/test.h>
#include <kunit/test-bug.h>
#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/completion.h>
#include <linux/errno.h>
#include <linux/kho/check/hugetlb.h>
#include <linux/kho/check/igb.h>
#include <linux/kho/check/iommufd.h>
#include <linux/kho/check/luo.h>
#include <linux/kho/check/memfd.h>
#include <linux/kho/check/pci.h>
#include <linux/kho/check/vfio_pci.h>
#include <linux/kho/check/vtd.h>
#include <linux/kho/preserved.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/types.h>

#include "../luo_bzimage.h"

/* --- memory that is made up ---------------------------------------------- */

#define LEFT_BASE	0x10000000ULL
#define LEFT_PAGES	8

/* What a check has to ask for begins a page, which ends it, too */
#define OWN_PAGE	__aligned(PAGE_SIZE)
#define PHYS(type, field)	(LEFT_BASE + offsetof(type, field))

/**
 * struct left - What the previous kernel left.
 * @memory: Its content, %LEFT_PAGES at the address %LEFT_BASE.
 * @taken:  A bit for each page that was taken.
 */
struct left {
	void *memory;
	unsigned long taken;
};

static void *left_peek(u64 phys, u64 size)
{
	struct left *left = kunit_get_current_test()->priv;
	u64 offset = phys - LEFT_BASE;

	if (phys < LEFT_BASE || offset >= LEFT_PAGES * PAGE_SIZE ||
	    offset % PAGE_SIZE || size > PAGE_SIZE ||
	    test_bit(offset / PAGE_SIZE, &left->taken))
		return NULL;

	return left->memory + offset;
}

static void *left_take(u64 phys, u64 size)
{
	struct left *left = kunit_get_current_test()->priv;
	void *memory = left_peek(phys, size);

	if (memory)
		__set_bit((phys - LEFT_BASE) / PAGE_SIZE, &left->taken);

	return memory;
}

/* --- cases ----------------------------------------------------------------- */

struct left_change {
	u32 offset;
	u32 size;
	u64 value;
};

/**
 * struct left_case - How one thing is changed, and what comes of it.
 * @name:    The change, as in C.
 * @why:     What the check says then; NULL if all is well.
 * @changes: One or two; those without a size are none.
 */
struct left_case {
	const char *name;
	const char *why;
	struct left_change changes[2];
};

/* The field is one of an object at NULL. */
#define CHANGE(_field, _value)					\
	{							\
		.offset = (uintptr_t)&(_field),			\
		.size = sizeof(_field),				\
		.value = _value,				\
	}

#define GOOD	{ .name = "as it should be" }

/* The type is that of the test's LEFT, which each of them defines. */
#define CASE(_why, _field, _value)				\
	{							\
		.name = #_field " = " #_value,			\
		.why = _why,					\
		.changes = {					\
			CHANGE((*(LEFT *)NULL)._field, _value),	\
		},						\
	}

#define CASE2(_why, _field, _value, _field2, _value2)		\
	{							\
		.name = #_field " = " #_value ", "		\
			#_field2 " = " #_value2,		\
		.why = _why,					\
		.changes = {					\
			CHANGE((*(LEFT *)NULL)._field, _value),	\
			CHANGE((*(LEFT *)NULL)._field2, _value2),\
		},						\
	}

/* Numbers are set, all else is filled. */
static void left_apply(void *memory, const struct left_change *change)
{
	void *field = memory + change->offset;

	switch (change->size) {
	case sizeof(u16):
		*(u16 *)field = change->value;
		break;
	case sizeof(u32):
		*(u32 *)field = change->value;
		break;
	case sizeof(u64):
		*(u64 *)field = change->value;
		break;
	default:
		memset(field, change->value, change->size);
	}
}

static void left_try(struct kunit *test, void (*make)(void *memory),
		     const char *(*check)(void *memory))
{
	const struct left_case *param = test->param_value;
	struct left *left = test->priv;
	const char *why;

	make(left->memory);
	for (int i = 0; i < ARRAY_SIZE(param->changes); i++)
		left_apply(left->memory, &param->changes[i]);

	why = check(left->memory);
	KUNIT_EXPECT_STREQ(test, why ?: "good", param->why ?: "good");
}

#define LEFT_TEST(_name)						\
	KUNIT_ARRAY_PARAM_DESC(_name##_case, _name##_cases, name);	\
	static void _name(struct kunit *test)				\
	{								\
		static_assert(sizeof(LEFT) <= LEFT_PAGES * PAGE_SIZE);	\
		left_try(test, _name##_make, _name##_check);		\
	}

/*
 * --- PCI core: a bridge with two devices below, and one more elsewhere; a physical
 * function that runs, and one that is held, each with one of its virtual ones -------
 */

struct pci_left {
	struct pci_ser head;
	struct pci_dev_ser list[7] OWN_PAGE;
	u8 data[16] OWN_PAGE;
};

#define SRIOV								\
	{								\
		.control = PCI_SRIOV_CTRL_VFE | PCI_SRIOV_CTRL_MSE,	\
		.total_vfs = 8,						\
		.initial_vfs = 8,					\
		.num_vfs = 2,						\
		.offset = 0x80,						\
		.stride = 2,						\
		.last_bus = 2,						\
		.page_size = 1,						\
		.bar_order = { 14, 0, 47 },				\
		.vfs = 1,						\
	}

#define LEFT	struct pci_left

static void pci_make(void *memory)
{
	*(LEFT *)memory = (LEFT) {
		.head = {
			.devices = PHYS(LEFT, list),
			.count = 7,
			.capacity = 8,
		},
		.list = {
			{
				.bdf = 0x0008,
				.role = PCI_SER_ROLE_BRIDGE,
				.refcount = 2,
				.flags = PCI_SER_FLAGS & ~(PCI_SER_SRIOV | PCI_SER_VF),
			},
			{
				.bdf = 0x0100,
				.role = PCI_SER_ROLE_DEVICE,
				.mode = PCI_SER_MODE_RUNNING,
				.refcount = 1,
				.driver = "vfio-pci",
				.bar_order = { 14, 0, 63 },
			},
			{
				.domain = 1,
				.bdf = 0x0100,
				.role = PCI_SER_ROLE_DEVICE,
				.mode = PCI_SER_MODE_IDLE,
				.refcount = 1,
				.driver = "vfio-pci",
			},
			{
				.bdf = 0x0200,
				.role = PCI_SER_ROLE_DEVICE,
				.mode = PCI_SER_MODE_RUNNING,
				.refcount = 1,
				.driver = "vfio-pci",
				.flags = PCI_SER_SRIOV,
				.sriov = SRIOV,
			},
			{
				.bdf = 0x0282,
				.role = PCI_SER_ROLE_DEVICE,
				.mode = PCI_SER_MODE_IDLE,
				.refcount = 1,
				.driver = "vfio-pci",
				.flags = PCI_SER_VF,
				.physfn = 0x0200,
			},
			{
				.bdf = 0x0201,
				.role = PCI_SER_ROLE_HELD,
				.refcount = 1,
				.driver = "igb-v1",
				.flags = PCI_SER_SRIOV,
				.sriov = SRIOV,
				.data_size = 16,
				.data = PHYS(LEFT, data),
			},
			{
				.bdf = 0x0281,
				.role = PCI_SER_ROLE_DEVICE,
				.mode = PCI_SER_MODE_RUNNING,
				.refcount = 1,
				.driver = "vfio-pci",
				.flags = PCI_SER_VF,
				.physfn = 0x0201,
			},
		},
	};
}

static const char *pci_check(void *memory)
{
	LEFT *left = memory;

	return pci_ser_check(&left->head, left_take);
}

static const struct left_case pci_cases[] = {
	GOOD,
	CASE("the list has an impossible size", head.count, 9),
	CASE2("the list has an impossible size", head.count, 0, head.capacity, 0),
	CASE("the list has an impossible size",
	     head.capacity, PCI_SER_MAX_CAPACITY + 1),
	CASE("the list is not in preserved memory", head.devices, 0),
	CASE("the list is not in preserved memory",
	     head.capacity, PCI_SER_MAX_CAPACITY),
	CASE("a bridge has a mode", list[0].mode, PCI_SER_MODE_RUNNING),
	CASE("a bridge has an impossible number of devices", list[0].refcount, 0),
	CASE("a bridge has an impossible number of devices", list[0].refcount, 7),
	CASE("a device is in an unknown mode", list[1].mode, PCI_SER_MODE_NONE),
	CASE("a device is in an unknown mode", list[1].mode, 3),
	CASE("a device is counted more than once", list[1].refcount, 2),
	CASE("an entry has an unknown role", list[1].role, PCI_SER_ROLE_NONE),
	CASE("an entry has an unknown role", list[1].role, 4),
	CASE("a driver's name is broken", list[0].driver[0], 'x'),
	CASE("a driver's name is broken", list[1].driver, 0),
	CASE("a driver's name is broken", list[1].driver, 'x'),
	CASE("a driver's name is broken", list[1].driver[31], 'x'),
	CASE("an entry has unknown flags", list[1].flags, PCI_SER_FLAGS + 1),
	CASE("an entry has unknown flags", list[1].reserved, 1),
	CASE("an entry has unknown flags", list[1].reserved2, 1),
	CASE("a BAR has an impossible size", list[1].bar_order[6], 64),
	CASE("a held function has a mode", list[5].mode, PCI_SER_MODE_RUNNING),
	CASE("a held function has an impossible number of virtual ones",
	     list[5].refcount, 2),
	CASE2("a held function has an impossible number of virtual ones",
	      list[5].refcount, 0, list[5].sriov.vfs, 0),
	CASE("a driver's name is broken", list[5].driver[31], 'x'),
	CASE2(NULL, list[5].data, 0, list[5].data_size, 0),
	CASE("a driver's data have an impossible size", list[5].driver, 0),
	CASE("a driver's data have an impossible size", list[5].data, 0),
	CASE("a driver's data have an impossible size", list[5].data_size, 0),
	CASE("a driver's data have an impossible size",
	     list[5].data_size, PCI_SER_MAX_DATA + 1),
	CASE2("a driver's data have an impossible size",
	      list[3].data, PHYS(LEFT, data), list[3].data_size, 16),
	CASE("a driver's data are not in preserved memory",
	     list[5].data, PHYS(LEFT, data) + 1),
	CASE("a driver's data are not in preserved memory",
	     list[5].data_size, PCI_SER_MAX_DATA),
	CASE("what is no virtual function names a physical one", list[1].physfn, 1),
	CASE("what is no virtual function names a physical one",
	     list[0].flags, PCI_SER_VF),
	CASE("a device without SR-IOV has virtual functions", list[3].flags, 0),
	CASE("a device without SR-IOV has virtual functions",
	     list[1].sriov.vf_device, 1),
	CASE("SR-IOV is not of a physical function", list[0].flags, PCI_SER_SRIOV),
	CASE("SR-IOV is not of a physical function", list[4].flags,
	     PCI_SER_VF | PCI_SER_SRIOV),
	CASE("virtual functions are half enabled", list[3].sriov.num_vfs, 0),
	CASE("virtual functions are half enabled",
	     list[3].sriov.control, PCI_SRIOV_CTRL_VFE),
	CASE("there are too many virtual functions", list[3].sriov.num_vfs, 9),
	CASE("there are too many virtual functions", list[3].sriov.initial_vfs, 9),
	CASE("virtual functions have impossible numbers", list[3].sriov.offset, 0),
	CASE("virtual functions have impossible numbers", list[3].sriov.stride, 0),
	CASE("virtual functions have impossible numbers", list[3].sriov.stride, 0x100),
	CASE("virtual functions are on an impossible bus", list[3].sriov.last_bus, 0x100),
	CASE("virtual functions have impossible numbers", list[3].bdf, 0x0300),
	CASE("virtual functions have an impossible page size",
	     list[3].sriov.page_size, 3),
	CASE("a BAR of virtual functions has an impossible size",
	     list[3].sriov.bar_order[5], 48),
	CASE("virtual functions are counted wrong", list[3].sriov.vfs, 2),
	CASE("virtual functions are counted wrong",
	     list[3].mode, PCI_SER_MODE_IDLE),
	CASE("virtual functions are counted wrong", list[4].bdf, 0x0283),
	CASE("virtual functions are counted wrong", list[4].bdf, 0x0284),
	CASE("virtual functions are counted wrong", list[4].bdf, 0x027e),
	CASE("virtual functions are counted wrong", list[4].domain, 1),
	CASE2("a virtual function has no physical one",
	      list[3].sriov.vfs, 0, list[4].physfn, 0x0300),
	CASE("a device is in the list twice", list[2].domain, 0),
};

LEFT_TEST(pci)

/* --- vfio-pci: a running device ----------------------------------------------- */

#undef LEFT
#define LEFT	struct vfio_pci_ser

static void vfio_pci_make(void *memory)
{
	*(LEFT *)memory = (LEFT) {
		.bdf = 0x0100,
		.mode = PCI_SER_MODE_RUNNING,
		.flags = VFIO_PCI_SER_RESET_WORKS,
		.clean = {
			.header = { 0x10001b36, PCI_COMMAND_MEMORY },
			.flags = PCI_STATE_SER_FLAGS,
		},
	};
}

static const char *vfio_pci_check(void *memory)
{
	return vfio_pci_ser_check(memory);
}

static const struct left_case vfio_pci_cases[] = {
	GOOD,
	CASE2(NULL, mode, PCI_SER_MODE_IDLE, clean, 0),
	CASE("in a mode that this kernel does not know", mode, PCI_SER_MODE_NONE),
	CASE("in a mode that this kernel does not know", mode, 3),
	CASE("in a way that this kernel does not know", flags, 4),
	CASE("with a token that it should not have", vf_token[15], 1),
	CASE2(NULL, flags, VFIO_PCI_SER_VF_TOKEN, vf_token[15], 1),
	CASE("in a way that this kernel does not know", reserved, 1),
	CASE("in a way that this kernel does not know",
	     clean.flags, PCI_STATE_SER_FLAGS + 1),
	CASE("with a configuration that it should not have",
	     mode, PCI_SER_MODE_IDLE),
	CASE("with a clean configuration that does DMA",
	     clean.header[1], PCI_COMMAND_MASTER),
	CASE2(NULL, irqs.kind, VFIO_PCI_SER_IRQS_MSIX, irqs.count, 2048),
	CASE2(NULL, irqs.kind, VFIO_PCI_SER_IRQS_MSI, irqs.count, 32),
	CASE2(NULL, irqs.kind, VFIO_PCI_SER_IRQS_INTX, irqs.count, 1),
	CASE("with interrupts that this kernel does not know", irqs.kind, 4),
	CASE("with interrupts that this kernel does not know", irqs.flags, 2),
	CASE("with interrupts that this kernel does not know", irqs.reserved, 1),
	CASE("with interrupts that it cannot have",
	     irqs.kind, VFIO_PCI_SER_IRQS_INTX),
	CASE("with interrupts that it cannot have",
	     irqs.flags, VFIO_PCI_SER_INTX_MASKED),
	CASE("with interrupts that it cannot have", irqs.count, 1),
	CASE("with interrupts that it cannot have", irqs.armed[31], BIT_ULL(63)),
	CASE2("with interrupts that it cannot have",
	      irqs.kind, VFIO_PCI_SER_IRQS_INTX, irqs.count, 2),
	CASE2("with interrupts that it cannot have",
	      irqs.kind, VFIO_PCI_SER_IRQS_MSI, irqs.count, 33),
	CASE2("with interrupts that it cannot have",
	      irqs.kind, VFIO_PCI_SER_IRQS_MSIX, irqs.count, 2049),
	CASE2("with interrupts that it should not have",
	      mode, PCI_SER_MODE_IDLE, irqs.kind, VFIO_PCI_SER_IRQS_MSIX),
};

LEFT_TEST(vfio_pci)

/* --- igb: two virtual functions, one with a further address -------------------- */

#undef LEFT
#define LEFT	struct igb_ser

static void igb_make(void *memory)
{
	*(LEFT *)memory = (LEFT) {
		.num_vfs = 2,
		.rss_queues = 1,
		.filters[21] = { .mac = { 2, 0, 0, 0, 0, 3 }, .vf = 1, .used = 1 },
		.vfs = {
			{ .flags = IGB_SER_VF_CTS, .mac = { 2 }, .num_hashes = 0xffff },
			{ .hashes = { 0xffff }, .vlan = 4095, .qos = 7 },
		},
	};
}

static const char *igb_check(void *memory)
{
	return igb_ser_check(memory);
}

static const struct left_case igb_cases[] = {
	GOOD,
	CASE2(NULL, flags, IGB_SER_FLAGS, vfs[1].flags, IGB_SER_VF_FLAGS),
	CASE("there are unknown flags", flags, IGB_SER_FLAGS + 1),
	CASE("there are unknown flags", reserved[3], 1),
	CASE("there are impossible numbers", num_vfs, 0),
	CASE("there are impossible numbers", num_vfs, 8),
	CASE("there are impossible numbers", rss_queues, 0),
	CASE("there are impossible numbers", rss_queues, 3),
	CASE("an address filter is broken", filters[21].vf, 2),
	CASE("an address filter is broken", filters[21].used, 0),
	CASE("an address filter is broken", filters[21].used, 2),
	CASE("an address filter is broken", filters[21].mac[0], 1),
	CASE("an address filter is broken", filters[0].used, 1),
	CASE("an address filter is broken", filters[2].vf, 1),
	CASE("an address filter is broken", filters[2].mac[5], 1),
	CASE("an address filter is broken", num_vfs, 3),
	CASE("a virtual function is broken", vfs[0].flags, IGB_SER_VF_FLAGS + 1),
	CASE("a virtual function is broken", vfs[0].reserved, 1),
	CASE("a virtual function is broken", vfs[0].mac[0], 1),
	CASE("a virtual function is broken", vfs[0].vlan, 4096),
	CASE("a virtual function is broken", vfs[0].qos, 8),
	CASE("a virtual function is broken", vfs[2].tx_rate, 1),
	CASE("a virtual function is broken", vfs[6].flags, IGB_SER_VF_CTS),
};

LEFT_TEST(igb)

/* --- IOMMU core: two of each, and an entry that is not in use ------------------ */

struct iommu_left {
	struct iommu_ser head;
	struct iommu_domain_ser domains[3] OWN_PAGE;
	struct iommu_dev_ser devices[3] OWN_PAGE;
	struct iommu_unit_ser units[3] OWN_PAGE;
};

#undef LEFT
#define LEFT	struct iommu_left

static void iommu_make(void *memory)
{
	*(LEFT *)memory = (LEFT) {
		.head = {
			.domains = { PHYS(LEFT, domains), 3, 8 },
			.devices = { PHYS(LEFT, devices), 3, 8 },
			.units = { PHYS(LEFT, units), 3, 8 },
		},
		.domains = {
			{ 0x1000, IOMMU_SER_FORMAT_VTDSS, 3 },
			{ },
			{ 0x2000, IOMMU_SER_FORMAT_X86_64, 5, IOMMU_SER_DOMAIN_FLAGS },
		},
		.devices = {
			{ 0, 0x0100, IOMMU_SER_DEV_RUNNING, .domain = 0, .unit = 0 },
			{ },
			{ 1, 0x0100, IOMMU_SER_DEV_RUNNING, .domain = 2, .unit = 2 },
		},
		.units = {
			{ 0xa000, 0x3000, IOMMU_SER_UNIT_VTD_LEGACY, .devices = 1 },
			{ },
			{ 0xb000, 0x4000, IOMMU_SER_UNIT_VTD_SCALABLE, .devices = 1,
			  .irq_table = 0x5000 },
		},
	};
}

static const char *iommu_check(void *memory)
{
	LEFT *left = memory;
	struct iommu_lists lists;

	return iommu_ser_check(&left->head, left_take, &lists);
}

#define NO_LIST "a list has an impossible size, or is not in preserved memory"

static const struct left_case iommu_cases[] = {
	GOOD,
	CASE(NO_LIST, head.domains.base, 0),
	CASE(NO_LIST, head.devices.base, PHYS(LEFT, domains)),
	CASE(NO_LIST, head.units.count, 9),
	CASE2(NO_LIST, head.domains.count, 0, head.domains.capacity, 0),
	CASE(NO_LIST, head.devices.capacity, IOMMU_SER_MAX_CAPACITY + 1),
	CASE("a page table is of a kind that this kernel does not know",
	     domains[0].format, 3),
	CASE("a page table is of a kind that this kernel does not know",
	     domains[0].flags, IOMMU_SER_DOMAIN_FLAGS + 1),
	CASE("a page table is of a kind that this kernel does not know",
	     domains[0].reserved, 1),
	CASE("a page table has an impossible number of levels",
	     domains[0].levels, 2),
	CASE("a page table has an impossible number of levels",
	     domains[0].levels, 6),
	CASE("a page table is at an impossible address", domains[0].top, 0),
	CASE("a page table is at an impossible address", domains[0].top, 0x1008),
	CASE("a page table is in the list twice", domains[2].top, 0x1000),
	CASE("a unit is of a kind that this kernel does not know",
	     units[0].type, 3),
	CASE("a root table is at an impossible address", units[0].root, 0),
	CASE("a root table is at an impossible address", units[0].root, 0x3008),
	CASE("a unit is in the list twice", units[2].id, 0xa000),
	CASE("a unit is in the list twice", units[2].root, 0x3000),
	CASE("a table of interrupts is at an impossible address",
	     units[0].irq_table, 0x6010),
	CASE("a table of interrupts is at an impossible address",
	     units[0].irq_table, 0x3000),
	CASE("a table of interrupts is in the list twice",
	     units[0].irq_table, 0x5000),
	CASE("a unit counts other devices than the list has",
	     units[0].devices, 2),
	CASE("a unit counts other devices than the list has",
	     devices[0].state, IOMMU_SER_DEV_NONE),
	CASE("a device is in a state that this kernel does not know",
	     devices[0].state, 2),
	CASE("a device is in a state that this kernel does not know",
	     devices[0].flags, IOMMU_SER_DEV_FLAGS + 1),
	CASE("a device has PASIDs, and its unit has none",
	     devices[0].flags, IOMMU_SER_DEV_PASID),
	CASE2(NULL, devices[0].flags, IOMMU_SER_DEV_ATS,
	      devices[2].flags, IOMMU_SER_DEV_FLAGS),
	CASE("a device has a page table that is not in the list",
	     devices[0].domain, 1),
	CASE("a device has a page table that is not in the list",
	     devices[0].domain, 3),
	CASE2("a device has a unit that is not in the list",
	      devices[0].unit, 1, units[0].devices, 0),
	CASE2("a device has a unit that is not in the list",
	      devices[0].unit, 3, units[0].devices, 0),
	CASE("a device is in the list twice", devices[2].segment, 0),
};

LEFT_TEST(iommu)

/* --- VT-d in legacy mode: three devices, two of them with one page table -------- */

#define NR_DIDS		16

/* Of the first and of the second page table, which are not looked into */
#define TOP1		0x1000ULL
#define TOP2		0x2000ULL

struct vtd_left {
	struct iommu_domain_ser domains[2];
	struct iommu_dev_ser devices[3];
	struct iommu_unit_ser unit;
	u64 root[VTD_SER_WORDS] OWN_PAGE;
	u64 lower[VTD_SER_WORDS] OWN_PAGE;
	u64 upper[VTD_SER_WORDS] OWN_PAGE;
	u64 dir1[VTD_SER_WORDS] OWN_PAGE;
	u64 dir2[VTD_SER_WORDS] OWN_PAGE;
	u64 pasids1[VTD_SER_WORDS] OWN_PAGE;
	u64 pasids2[VTD_SER_WORDS] OWN_PAGE;
};

#undef LEFT
#define LEFT	struct vtd_left

/* An entry for the table in that field */
#define ENTRY(_field)	(PHYS(LEFT, _field) | VTD_SER_PRESENT)

static const char *vtd_check(void *memory, bool scalable)
{
	LEFT *left = memory;
	const struct iommu_lists lists = {
		.domains = left->domains,
		.devices = left->devices,
		.units = &left->unit,
		.nr_domains = ARRAY_SIZE(left->domains),
		.nr_devices = ARRAY_SIZE(left->devices),
		.nr_units = 1,
	};
	u32 dids[] = { VTD_SER_NO_DID, VTD_SER_NO_DID };
	struct vtd_handover handover = {
		.lists = &lists,
		.nr_dids = NR_DIDS,
		.scalable = scalable,
		.dids = dids,
		.take = left_take,
	};

	return vtd_handover_check(&handover);
}

static void vtd_legacy_make(void *memory)
{
	LEFT *left = memory;

	left->domains[0] = (struct iommu_domain_ser) {
		TOP1, IOMMU_SER_FORMAT_VTDSS, 4 };
	left->domains[1] = (struct iommu_domain_ser) {
		TOP2, IOMMU_SER_FORMAT_VTDSS, 3 };
	for (int i = 0; i < ARRAY_SIZE(left->devices); i++) {
		left->devices[i] = (struct iommu_dev_ser) {
			.bdf = 0x0100 + i,
			.state = IOMMU_SER_DEV_RUNNING,
			.domain = i / 2,
		};
	}
	left->unit.root = PHYS(LEFT, root);

	/* Bus 1; function 2 has faults turned off */
	left->root[2] = ENTRY(lower);
	left->lower[0] = TOP1 | VTD_SER_PRESENT;
	left->lower[1] = 5 << 8 | 2;
	left->lower[2] = TOP1 | VTD_SER_PRESENT;
	left->lower[3] = 5 << 8 | 2;
	left->lower[4] = TOP2 | VTD_SER_FAULTS_OFF | VTD_SER_PRESENT;
	left->lower[5] = (NR_DIDS - 1) << 8 | 1;
}

static const char *vtd_legacy_check(void *memory)
{
	return vtd_check(memory, false);
}

static const struct left_case vtd_legacy_cases[] = {
	GOOD,
	CASE("the root table is not in preserved memory", unit.root, 0),
	CASE("a root entry has unknown bits", root[0], PHYS(LEFT, upper)),
	CASE("a root entry has unknown bits", root[0], ENTRY(upper) | 2),
	CASE("a root entry has unknown bits", root[3], ENTRY(upper)),
	CASE("a context table is not in preserved memory", root[2], 1),
	CASE("a context table is not in preserved memory", root[4], ENTRY(lower)),
	CASE("a context entry is not there", lower[0], TOP1),
	CASE("a context entry is not there", lower[511], 1),
	CASE2(NULL, lower[0], TOP1 | VTD_SER_LEGACY_ATS | VTD_SER_PRESENT,
	      devices[0].flags, IOMMU_SER_DEV_ATS),
	CASE("an entry allows a device other services than the list says",
	     lower[0], TOP1 | VTD_SER_LEGACY_ATS | VTD_SER_PRESENT),
	CASE("an entry allows a device other services than the list says",
	     devices[0].flags, IOMMU_SER_DEV_ATS),
	CASE2("an entry allows a device other services than the list says",
	      lower[0], TOP1 | VTD_SER_LEGACY_ATS | VTD_SER_PRESENT,
	      devices[0].flags, IOMMU_SER_DEV_ATS | IOMMU_SER_DEV_PASID),
	/* Pass-through */
	CASE("a context entry has unknown bits", lower[0], TOP1 | 9),
	CASE2("a context entry has unknown bits", lower[0], TOP1 | 0xd,
	      devices[0].flags, IOMMU_SER_DEV_ATS),
	CASE("a context entry has unknown bits", lower[1], 5 << 8 | 8 | 2),
	CASE("an entry is for a device that is not in the list", lower[6], 1),
	CASE("an entry is for a device that is not in the list",
	     devices[0].state, IOMMU_SER_DEV_NONE),
	CASE("an entry is for a device that is not in the list",
	     devices[0].segment, 1),
	CASE("an entry is for a device that is not in the list",
	     devices[0].unit, 1),
	CASE("an entry leads to another page table than the list says",
	     lower[0], TOP2 | VTD_SER_PRESENT),
	CASE("an entry leads to another page table than the list says",
	     lower[1], 5 << 8 | 1),
	CASE("an entry leads to another page table than the list says",
	     domains[0].format, IOMMU_SER_FORMAT_X86_64),
	CASE("a domain ID is out of range", lower[1], 1 << 8 | 2),
	CASE("a domain ID is out of range", lower[1], NR_DIDS << 8 | 2),
	CASE("a page table has two domain IDs", lower[3], 6 << 8 | 2),
	CASE("two page tables have one domain ID", lower[5], 5 << 8 | 1),
};

LEFT_TEST(vtd_legacy)

/* --- VT-d in scalable mode: a device on each half of a bus, and in each stage --- */

static void vtd_scalable_make(void *memory)
{
	LEFT *left = memory;

	left->domains[0] = (struct iommu_domain_ser) {
		TOP1, IOMMU_SER_FORMAT_X86_64, 4 };
	left->domains[1] = (struct iommu_domain_ser) {
		TOP2, IOMMU_SER_FORMAT_VTDSS, 3 };
	for (int i = 0; i < 2; i++) {
		left->devices[i] = (struct iommu_dev_ser) {
			.bdf = 0x0100 + i * 0x80,
			.state = IOMMU_SER_DEV_RUNNING,
			.domain = i,
		};
	}
	left->unit.root = PHYS(LEFT, root);

	left->root[2] = ENTRY(lower);
	left->lower[0] = ENTRY(dir1) | VTD_SER_ONE_PAGE;
	left->dir1[0] = ENTRY(pasids1);
	left->pasids1[0] = VTD_SER_FIRST_STAGE << 6 | VTD_SER_PRESENT;
	left->pasids1[1] = 5;
	left->pasids1[2] = TOP1;

	left->root[3] = ENTRY(upper);
	left->upper[0] = ENTRY(dir2) | VTD_SER_ONE_PAGE | VTD_SER_FAULTS_OFF;
	left->dir2[0] = ENTRY(pasids2);
	left->pasids2[0] = TOP2 | VTD_SER_SECOND_STAGE << 6 | 1 << 2 |
			   VTD_SER_PRESENT;
	left->pasids2[1] = 6;
}

static const char *vtd_scalable_check(void *memory)
{
	return vtd_check(memory, true);
}

static const struct left_case vtd_scalable_cases[] = {
	GOOD,
	/* Tables that are there already, for an entry that is not */
	CASE2(NULL, lower[0], PHYS(LEFT, dir1), pasids1[0], 0),
	CASE("a root entry has unknown bits", root[3], ENTRY(upper) | 2),
	CASE("a context table is not in preserved memory", root[3], ENTRY(lower)),
	CASE("a context entry has unknown bits", lower[0], ENTRY(dir1)),
	CASE("a context entry has unknown bits",
	     lower[0], PHYS(LEFT, dir1) | VTD_SER_ONE_PAGE),
	CASE2(NULL, lower[0], ENTRY(dir1) | VTD_SER_ONE_PAGE | VTD_SER_SCALABLE_ATS,
	      devices[0].flags, IOMMU_SER_DEV_ATS),
	CASE2(NULL, lower[0], ENTRY(dir1) | VTD_SER_ONE_PAGE | VTD_SER_SCALABLE_PASID,
	      devices[0].flags, IOMMU_SER_DEV_PASID),
	CASE("an entry allows a device other services than the list says",
	     lower[0], ENTRY(dir1) | VTD_SER_ONE_PAGE | VTD_SER_SCALABLE_ATS),
	CASE("an entry allows a device other services than the list says",
	     lower[0], ENTRY(dir1) | VTD_SER_ONE_PAGE | VTD_SER_SCALABLE_PASID),
	CASE("an entry allows a device other services than the list says",
	     devices[1].flags, IOMMU_SER_DEV_ATS),
	CASE("an entry allows a device other services than the list says",
	     devices[1].flags, IOMMU_SER_DEV_PASID),
	/* Page requests */
	CASE("a context entry has unknown bits",
	     lower[0], ENTRY(dir1) | VTD_SER_ONE_PAGE | 0x10),
	CASE2("a context entry has unknown bits",
	      lower[0], PHYS(LEFT, dir1) | VTD_SER_SCALABLE_ATS, pasids1[0], 0),
	CASE("a context entry has unknown bits", lower[1], 1),
	CASE("a context entry has unknown bits", lower[2], 1),
	CASE("a context entry has unknown bits", lower[3], 1),
	CASE("a PASID directory is not in preserved memory",
	     lower[0], VTD_SER_ONE_PAGE | VTD_SER_PRESENT),
	CASE("a PASID directory is not in preserved memory",
	     upper[0], ENTRY(dir1) | VTD_SER_ONE_PAGE),
	CASE("a PASID directory has unknown entries", dir1[0], PHYS(LEFT, pasids1)),
	CASE("a PASID directory has unknown entries", dir1[0], ENTRY(pasids1) | 2),
	CASE("a PASID directory has unknown entries", dir1[1], 1),
	CASE("a PASID directory has unknown entries", dir1[511], 1),
	CASE("a PASID table is not in preserved memory", dir1[0], 1),
	CASE("a PASID table is not in preserved memory", dir2[0], ENTRY(pasids1)),
	CASE("a PASID table has unknown entries", pasids1[8], 1),
	CASE("a PASID table has unknown entries", pasids1[511], 1),
	CASE("a PASID entry is not there",
	     pasids1[0], VTD_SER_FIRST_STAGE << 6),
	CASE("a PASID entry translates in a way that is not known",
	     pasids1[0], 4 << 6 | VTD_SER_PRESENT),
	CASE("an entry is for a device that is not in the list",
	     devices[1].bdf, 0x0181),
	CASE("an entry leads to another page table than the list says",
	     pasids1[2], TOP2),
	CASE("an entry leads to another page table than the list says",
	     pasids1[2], TOP1 | 1 << 2),
	CASE("an entry leads to another page table than the list says",
	     pasids1[0], VTD_SER_SECOND_STAGE << 6 | VTD_SER_PRESENT),
	CASE("an entry leads to another page table than the list says",
	     domains[1].levels, 4),
	CASE("a domain ID is out of range", pasids1[1], 1),
	CASE("a domain ID is out of range", pasids1[1], NR_DIDS),
	CASE("two page tables have one domain ID", pasids2[1], 5),
};

LEFT_TEST(vtd_scalable)

/* --- iommufd: two page tables, in memory that has room for three ---------------- */

#undef LEFT
#define LEFT	struct iommufd_ser

static void iommufd_make(void *memory)
{
	LEFT *left = memory;

	left->count = 2;
	left->hwpts[0] = (struct iommufd_hwpt_ser) { .token = 10, .domain = 1 };
	left->hwpts[1] = (struct iommufd_hwpt_ser) { .token = 11, .domain = 0 };
	left->hwpts[2] = (struct iommufd_hwpt_ser) { .token = 12, .domain = 2 };
}

static const char *iommufd_check(void *memory)
{
	return iommufd_ser_check(memory, struct_size_t(LEFT, hwpts, 3));
}

static const struct left_case iommufd_cases[] = {
	GOOD,
	CASE(NULL, count, 3),
	CASE("it has an impossible number of page tables", count, 0),
	CASE("it has an impossible number of page tables", count, 4),
	CASE("it has an impossible number of page tables",
	     count, IOMMUFD_SER_MAX_HWPTS + 1),
	CASE("it is of a kind that this kernel does not know", reserved, 1),
	CASE("a page table is of a kind that this kernel does not know",
	     hwpts[1].reserved, 1),
	CASE("two page tables have one token", hwpts[1].token, 10),
	CASE("a page table is there twice", hwpts[1].domain, 1),
};

LEFT_TEST(iommufd)

/* --- memfd of a device: four pages, which are two folios of one, and one of two -- */

/* As many folios as there can be */
#define MAX_FOLIOS	8

struct memfd_left {
	struct memfd_luo_ser head;
	struct kho_vmalloc_chunk chunk OWN_PAGE;
	/* Page frame number and flags, then the index: those are bit fields */
	u64 folios[2 * MAX_FOLIOS] OWN_PAGE;
	u8 small[PAGE_SIZE] OWN_PAGE;
	u8 other[PAGE_SIZE] OWN_PAGE;
	u8 big[2 * PAGE_SIZE] OWN_PAGE;
	struct kho_vmalloc_chunk last OWN_PAGE;
};

#undef LEFT
#define LEFT	struct memfd_left

#define PFN(_field)	(PHYS(LEFT, _field) / PAGE_SIZE)

static void memfd_make(void *memory)
{
	LEFT *left = memory;

	left->head = (struct memfd_luo_ser) {
		.size = 4 * PAGE_SIZE,
		.flags = MEMFD_LUO_FLAG_DMA,
		.nr_folios = 3,
		.folios = {
			.first.phys = PHYS(LEFT, chunk),
			.total_pages = 1,
		},
	};
	left->chunk.phys[0] = PHYS(LEFT, folios);
	left->folios[0] = PFN(small) | (u64)MEMFD_SER_ALL_FOLIO_FLAGS << 52;
	left->folios[2] = PFN(other);
	left->folios[3] = 1;
	left->folios[4] = PFN(big);
	left->folios[5] = 2;
}

static size_t memfd_size_of(phys_addr_t phys)
{
	if (!left_peek(phys, PAGE_SIZE))
		return 0;

	return phys == PHYS(LEFT, big) ? 2 * PAGE_SIZE : PAGE_SIZE;
}

static const char *memfd_check(void *memory)
{
	LEFT *left = memory;

	return memfd_ser_check(&left->head, left_peek, memfd_size_of, MAX_FOLIOS);
}

static const struct left_case memfd_cases[] = {
	GOOD,
	CASE2(NULL, head.nr_folios, 0, head.flags, 0),
	CASE2(NULL, head.nr_folios, 0, head.size, 0),
	CASE2(NULL, folios[2], 0, head.flags, 0),
	CASE("memory of a device has a hole", folios[2], 0),
	CASE("memory of a device has a hole", head.nr_folios, 0),
	CASE("memory of a device has a hole", head.nr_folios, 2),
	CASE("memory of a device has a hole", folios[3], 2),
	CASE("it has unknown flags", head.flags, 2),
	CASE("it has an impossible size", head.size, 1ULL << 63),
	CASE("it has an impossible size", head.pos, 1ULL << 63),
	CASE("it has an impossible size", head.nr_folios, 5),
	CASE2("it has an impossible size",
	      head.nr_folios, MAX_FOLIOS + 1, head.size, SZ_1M),
	CASE("its list of pages has an impossible size",
	     head.folios.total_pages, 0),
	CASE("its list of pages has an impossible size",
	     head.folios.total_pages, 2),
	CASE("its list of pages has an impossible size", head.folios.order, 1),
	CASE2("its list of pages has an impossible size",
	      head.folios.order, 19, head.folios.total_pages, 1 << 19),
	CASE("its list of pages is broken", head.folios.first.phys, 1),
	CASE2("its list of pages is broken",
	      chunk.phys[0], 0, chunk.hdr.next.phys, PHYS(LEFT, last)),
	CASE("its list of pages is too short", chunk.phys[0], 0),
	CASE("its list of pages is broken", chunk.hdr.next.phys, 1),
	CASE("its list of pages is not in preserved memory", chunk.phys[0], 1),
	CASE("its list of pages does not end", chunk.phys[1], PHYS(LEFT, folios)),
	CASE("its list of pages does not end",
	     chunk.hdr.next.phys, PHYS(LEFT, chunk)),
	CASE("its list of pages is too short", head.folios.first.phys, 0),
	CASE("a page is not in preserved memory", folios[0], 1),
	CASE("a page has unknown flags", folios[0], PFN(small) | 4ULL << 52),
	CASE("a page is at an impossible place in the file", folios[1], 4),
	CASE("a page is at an impossible place in the file", folios[5], 1),
	CASE("a page is at an impossible place in the file", folios[5], 0),
};

LEFT_TEST(memfd)

/* A chunk that is full has another behind it, also when there is nothing more. */
static void memfd_full_chunk(struct kunit *test)
{
	LEFT *left = ((struct left *)test->priv)->memory;
	u64 folios = MEMFD_SER_FOLIOS_OF_PAGE * KHO_VMALLOC_SIZE;

	left->head = (struct memfd_luo_ser) {
		.size = folios * PAGE_SIZE,
		.nr_folios = folios,
		.folios = {
			.first.phys = PHYS(LEFT, chunk),
			.total_pages = KHO_VMALLOC_SIZE,
		},
	};
	left->chunk.hdr.next.phys = PHYS(LEFT, last);
	/* Of holes, as it is in a page of zeroes */
	for (int i = 0; i < KHO_VMALLOC_SIZE; i++)
		left->chunk.phys[i] = PHYS(LEFT, folios);

	KUNIT_EXPECT_STREQ(test, memfd_ser_check(&left->head, left_peek,
						 memfd_size_of, folios) ?: "good",
			   "good");
}

/* --- memfd with huge pages: one and a half, which are two folios of two pages ------ */

struct hugetlb_left {
	struct hugetlb_memfd_ser head;
	struct kho_vmalloc_chunk chunk OWN_PAGE;
	u64 pages[MAX_FOLIOS] OWN_PAGE;
	u8 small[PAGE_SIZE] OWN_PAGE;
	u8 first[2 * PAGE_SIZE] OWN_PAGE;
	u8 second[2 * PAGE_SIZE] OWN_PAGE;
};

#undef LEFT
#define LEFT	struct hugetlb_left

static void hugetlb_make(void *memory)
{
	LEFT *left = memory;

	left->head = (struct hugetlb_memfd_ser) {
		.size = 3 * PAGE_SIZE,
		.flags = HUGETLB_MEMFD_SER_FLAGS,
		.order = 1,
		.nr = 2,
		.pages = {
			.first.phys = PHYS(LEFT, chunk),
			.total_pages = 1,
		},
	};
	left->chunk.phys[0] = PHYS(LEFT, pages);
	left->pages[0] = PHYS(LEFT, second);
	left->pages[1] = PHYS(LEFT, first);
}

static size_t hugetlb_size_of(phys_addr_t phys)
{
	if (!left_peek(phys, PAGE_SIZE))
		return 0;

	return phys == PHYS(LEFT, first) || phys == PHYS(LEFT, second) ?
	       2 * PAGE_SIZE : PAGE_SIZE;
}

static const char *hugetlb_check(void *memory)
{
	LEFT *left = memory;

	return hugetlb_memfd_ser_check(&left->head, left_peek, hugetlb_size_of,
				       MAX_FOLIOS);
}

static const struct left_case hugetlb_cases[] = {
	GOOD,
	CASE(NULL, head.size, 4 * PAGE_SIZE),
	CASE2(NULL, head.nr, 0, head.size, 0),
	CASE("it is of a kind that this kernel does not know", head.flags, 4),
	CASE("it is of a kind that this kernel does not know", head.reserved, 1),
	CASE("its pages have an impossible size", head.order, 0),
	CASE("its pages have an impossible size", head.order, 31),
	CASE("it has an impossible size", head.size, 1ULL << 63),
	CASE("it has an impossible size", head.pos, 1ULL << 63),
	CASE("it has an impossible size", head.size, 2 * PAGE_SIZE),
	CASE("it has an impossible size", head.size, 5 * PAGE_SIZE),
	CASE2("it has an impossible size",
	      head.nr, MAX_FOLIOS + 1, head.size, 2 * PAGE_SIZE * (MAX_FOLIOS + 1)),
	CASE("its list of pages has an impossible size", head.pages.total_pages, 0),
	CASE("its list of pages has an impossible size", head.pages.order, 1),
	CASE("its list of pages is broken", head.pages.first.phys, 1),
	CASE("its list of pages is too short", chunk.phys[0], 0),
	CASE("its list of pages is not in preserved memory", chunk.phys[0], 1),
	CASE("its list of pages does not end", chunk.phys[1], PHYS(LEFT, pages)),
	CASE("a page is not in preserved memory of its size", pages[1], 1),
	CASE("a page is not in preserved memory of its size",
	     pages[1], PHYS(LEFT, small)),
};

LEFT_TEST(hugetlb)

/* --- LUO: two blocks that go together, and the list of shared objects ------------ */

struct luo_left {
	struct kho_block_header_ser first OWN_PAGE;
	struct kho_block_header_ser second OWN_PAGE;
	struct luo_flb_header_ser header OWN_PAGE;
	struct luo_flb_ser list[3];
};

#undef LEFT
#define LEFT	struct luo_left

static void luo_make(void *memory)
{
	*(LEFT *)memory = (LEFT) {
		.first.next = PHYS(LEFT, second),
		.header.count = 2,
		.list = {
			{ .name = "1-object", .count = 1 },
			{ .name = "2-object", .count = S32_MAX / 2 },
			{ .name = "3-object", .count = 1 },
		},
	};
}

static const char *luo_check(void *memory)
{
	LEFT *left = memory;

	return kho_block_check(PHYS(LEFT, first), 2, left_take) ?:
	       luo_flb_check(&left->header,
			     sizeof(left->header) + sizeof(left->list));
}

static const struct left_case luo_cases[] = {
	GOOD,
	CASE(NULL, header.count, 3),
	CASE("a block is not in preserved memory", second.next, 1),
	CASE("a block is not in preserved memory", second.next, PHYS(LEFT, first)),
	CASE("a chain of blocks does not end", second.next, PHYS(LEFT, header)),
	CASE("there are too many shared objects", header.count, 4),
	CASE("a shared object's name is broken", list[1].name, 'x'),
	CASE("a shared object has an impossible number of files",
	     list[1].count, 0),
	CASE("a shared object has an impossible number of files",
	     list[1].count, S32_MAX / 2 + 1),
	CASE("a shared object is there twice", list[1].name[0], '1'),
};

LEFT_TEST(luo)

/* --- a boot image: of 1 KiB, kernel_info, and in that two chunks ------------------ */

#define WORD		"pci-v2"
/* As long as a version may be */
#define LONG_WORD	"a-version-with-a-name-of-forty-seven-characters"

struct bzimage {
	u8 sector[0x1f1];
	u8 setup_sects;
	u8 more[0xc];
	u16 boot_flag;
	u8 jump[2];
	char magic[4];
	u16 protocol;
	u8 header[0x60];
	u32 info_offset;
	u8 code[0x400 - 0x26c];
	struct {
		char magic[4];
		u32 size;
		u32 total;
		u32 type_max;
	} info;
	struct {
		char magic[4];
		u32 size;
		u8 content[4];
	} other;
	struct {
		char magic[4];
		u32 size;
		char versions[sizeof(WORD) + sizeof(LONG_WORD)];
	} __packed takes;
} __packed;

struct image_left {
	struct bzimage image;
	u32 size;
	u32 room;
};

#undef LEFT
#define LEFT	struct image_left

#define INFO_TOTAL \
	(sizeof(struct bzimage) - offsetof(struct bzimage, info))

static void image_make(void *memory)
{
	LEFT *left = memory;
	struct bzimage *image = &left->image;

	static_assert(offsetof(struct bzimage, boot_flag) == 0x1fe);
	static_assert(offsetof(struct bzimage, info_offset) == 0x268);

	left->size = sizeof(*image);
	left->room = sizeof(image->takes.versions);
	image->setup_sects = 1;
	image->boot_flag = 0xaa55;
	memcpy(image->magic, "HdrS", 4);
	image->protocol = 0x20f;
	memcpy(image->info.magic, "LToP", 4);
	image->info.size = sizeof(image->info);
	image->info.total = INFO_TOTAL;
	memcpy(image->other.magic, "Else", 4);
	image->other.size = sizeof(image->other);
	memcpy(image->takes.magic, "LUpd", 4);
	image->takes.size = sizeof(image->takes);
	memcpy(image->takes.versions, WORD "\0" LONG_WORD,
	       sizeof(image->takes.versions));
}

static const char *image_check(void *memory)
{
	char words[sizeof(WORD) + sizeof(LONG_WORD)];
	LEFT *left = memory;

	switch (luo_bzimage_read(&left->image, left->size, words, left->room)) {
	case 0:
		if (!words[0])
			return "nothing";
		return strcmp(words, WORD " " LONG_WORD) ? "something else" : NULL;
	case -ENOEXEC:
		return words[0] ? "something else" : "ENOEXEC";
	case -E2BIG:
		return words[0] ? "something else" : "E2BIG";
	default:
		return "another error";
	}
}

static const struct left_case image_cases[] = {
	GOOD,
	CASE("nothing", image.protocol, 0x20e),
	CASE("nothing", image.takes.magic[0], 'l'),
	CASE("nothing", image.info.total, sizeof_field(struct bzimage, info)),
	CASE("E2BIG", room, sizeof_field(struct bzimage, takes.versions) - 1),
	CASE("ENOEXEC", size, 0),
	CASE("ENOEXEC", size, 0x26b),
	CASE("ENOEXEC", size, sizeof(struct bzimage) - 1),
	CASE("ENOEXEC", image.boot_flag, 0x55aa),
	CASE("ENOEXEC", image.magic[0], 'h'),
	CASE("ENOEXEC", image.setup_sects, 0),
	CASE("ENOEXEC", image.setup_sects, 255),
	CASE("ENOEXEC", image.info_offset, 0xffffffff),
	CASE("ENOEXEC", image.info_offset, INFO_TOTAL - 11),
	CASE("ENOEXEC", image.info.magic[0], 'l'),
	CASE("ENOEXEC", image.info.size, 11),
	CASE("ENOEXEC", image.info.size, INFO_TOTAL + 1),
	CASE("ENOEXEC", image.info.total, 11),
	CASE("ENOEXEC", image.info.total, INFO_TOTAL + 1),
	CASE("ENOEXEC", image.info.total, INFO_TOTAL - 1),
	CASE("ENOEXEC", image.info.total,
	     offsetofend(struct bzimage, other) + 7 - 0x400),
	CASE("ENOEXEC", image.other.size, 7),
	CASE("ENOEXEC", image.other.size, 0xffffffff),
	CASE("ENOEXEC", image.takes.size, 7),
	CASE("ENOEXEC", image.takes.size,
	     sizeof_field(struct bzimage, takes) - 1),
	CASE("ENOEXEC", image.takes.versions[0], '\0'),
	CASE("ENOEXEC", image.takes.versions[0], ' '),
	CASE("ENOEXEC", image.takes.versions[0], 0x7f),
	CASE("ENOEXEC", image.takes.versions[sizeof(WORD) - 1], '-'),
};

LEFT_TEST(image)

/* --- memory that is taken ------------------------------------------------- */

#define TAKEN_PAGES	32
#define TAKERS		4

struct taking {
	struct kho_map map;
	unsigned long *leaves[1];
	DECLARE_BITMAP(leaf, TAKEN_PAGES);
	atomic_t taken[TAKEN_PAGES];
	atomic_t ready;
	struct completion done;
};

/* All begin at once, and none has a page long before the others try. */
static int taker(void *data)
{
	struct taking *taking = data;
	unsigned int order;

	for (int i = 0; i < TAKEN_PAGES; i++) {
		atomic_inc(&taking->ready);
		while (atomic_read(&taking->ready) < (i + 1) * TAKERS)
			cond_resched();
		if (kho_map_take(&taking->map, PFN_PHYS(i), &order))
			atomic_inc(&taking->taken[i]);
	}
	complete(&taking->done);

	return 0;
}

/* Preserved memory is given once, also when several take it at the same time. */
static void take_once(struct kunit *test)
{
	struct task_struct *tasks[TAKERS];
	struct taking *taking = kunit_kzalloc(test, sizeof(*taking), GFP_KERNEL);
	unsigned int order;

	KUNIT_ASSERT_NOT_NULL(test, taking);
	init_completion(&taking->done);
	bitmap_set(taking->leaf, 0, TAKEN_PAGES);
	taking->leaves[0] = taking->leaf;
	taking->map.leaves[0] = taking->leaves;
	taking->map.orders = BIT(0);
	taking->map.pfns = TAKEN_PAGES;

	for (int i = 0; i < TAKERS; i++) {
		tasks[i] = kthread_create(taker, taking, "taker%d", i);
		KUNIT_ASSERT_FALSE(test, IS_ERR(tasks[i]));
		get_task_struct(tasks[i]);
	}
	for (int i = 0; i < TAKERS; i++)
		wake_up_process(tasks[i]);
	/* One that is told to stop before it has begun would not begin */
	for (int i = 0; i < TAKERS; i++)
		wait_for_completion(&taking->done);
	for (int i = 0; i < TAKERS; i++)
		kthread_stop_put(tasks[i]);

	for (int i = 0; i < TAKEN_PAGES; i++)
		KUNIT_EXPECT_EQ(test, atomic_read(&taking->taken[i]), 1);
	KUNIT_EXPECT_FALSE(test, kho_map_take(&taking->map, 1, &order));
	KUNIT_EXPECT_FALSE(test, kho_map_take(&taking->map,
					      PFN_PHYS(TAKEN_PAGES), &order));
}

/* Memory is given whole, with its order, from where it begins. */
static void take_orders(struct kunit *test)
{
	unsigned long small = BIT(3) | BIT(5), large = BIT(1), none = 0;
	unsigned long *leaves[] = { &small, &none, &large };
	struct kho_map map = { .pfns = 8, .orders = BIT(0) | BIT(1) | BIT(2) };
	static const int orders[] = { -1, -1, -1, 0, 2, 0, -1, -1 };
	unsigned int order;

	for (int i = 0; i < ARRAY_SIZE(leaves); i++)
		map.leaves[i] = &leaves[i];
	for (int pfn = 0; pfn < ARRAY_SIZE(orders); pfn++) {
		bool taken = kho_map_take(&map, PFN_PHYS(pfn), &order);

		KUNIT_EXPECT_EQ(test, taken ? (int)order : -1, orders[pfn]);
		KUNIT_EXPECT_FALSE(test, kho_map_take(&map, PFN_PHYS(pfn),
						      &order));
	}
}

/* --- all of them ------------------------------------------------------------------- */

static int handover_init(struct kunit *test)
{
	struct left *left = kunit_kzalloc(test, sizeof(*left), GFP_KERNEL);

	if (!left)
		return -ENOMEM;

	left->memory = kunit_kzalloc(test, LEFT_PAGES * PAGE_SIZE, GFP_KERNEL);
	if (!left->memory)
		return -ENOMEM;

	test->priv = left;

	return 0;
}

static struct kunit_case handover_cases[] = {
	KUNIT_CASE_PARAM(pci, pci_case_gen_params),
	KUNIT_CASE_PARAM(vfio_pci, vfio_pci_case_gen_params),
	KUNIT_CASE_PARAM(igb, igb_case_gen_params),
	KUNIT_CASE_PARAM(iommu, iommu_case_gen_params),
	KUNIT_CASE_PARAM(vtd_legacy, vtd_legacy_case_gen_params),
	KUNIT_CASE_PARAM(vtd_scalable, vtd_scalable_case_gen_params),
	KUNIT_CASE_PARAM(iommufd, iommufd_case_gen_params),
	KUNIT_CASE_PARAM(memfd, memfd_case_gen_params),
	KUNIT_CASE(memfd_full_chunk),
	KUNIT_CASE_PARAM(hugetlb, hugetlb_case_gen_params),
	KUNIT_CASE_PARAM(luo, luo_case_gen_params),
	KUNIT_CASE_PARAM(image, image_case_gen_params),
	KUNIT_CASE(take_once),
	KUNIT_CASE(take_orders),
	{}
};

static struct kunit_suite handover_suite = {
	.name = "liveupdate-handover",
	.init = handover_init,
	.test_cases = handover_cases,
};

kunit_test_suite(handover_suite);

MODULE_DESCRIPTION("KUnit tests of what a live update believes");
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
MODULE_LICENSE("GPL");
