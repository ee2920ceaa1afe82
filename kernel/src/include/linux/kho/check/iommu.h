/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_CHECK_IOMMU_H
#define _LINUX_KHO_CHECK_IOMMU_H

#include <linux/align.h>
#include <linux/kho/abi/iommu.h>
#include <linux/kho/check/check.h>

/* Tables of IOMMUs are of this size, and begin at a multiple of it */
#define IOMMU_SER_TABLE_SIZE		4096

/**
 * struct iommu_lists - The lists that iommu_ser_check() found to be right.
 * @domains: Page tables, some of which may not be in use.
 * @devices: Devices, some of which may not be in use.
 * @units:   Units, some of which may not be in use.
 * @nr_domains: Entries in @domains.
 * @nr_devices: Entries in @devices.
 * @nr_units: Entries in @units.
 */
struct iommu_lists {
	const struct iommu_domain_ser *domains;
	const struct iommu_dev_ser *devices;
	const struct iommu_unit_ser *units;
	u32 nr_domains;
	u32 nr_devices;
	u32 nr_units;
};

static inline void *iommu_ser_take_array(const struct iommu_array_ser *array,
					 size_t size, kho_take_fn take)
{
	if (!array->capacity || array->capacity > IOMMU_SER_MAX_CAPACITY ||
	    array->count > array->capacity)
		return NULL;

	return take(array->base, array->capacity * size);
}

static inline bool iommu_ser_table_valid(u64 phys)
{
	return phys && IS_ALIGNED(phys, IOMMU_SER_TABLE_SIZE);
}

static inline const char *iommu_ser_check_domain(const struct iommu_lists *lists,
						 u32 index)
{
	const struct iommu_domain_ser *domain = &lists->domains[index];

	if (domain->format == IOMMU_SER_FORMAT_NONE)
		return NULL;

	if (domain->format > IOMMU_SER_FORMAT_X86_64 ||
	    domain->flags & ~IOMMU_SER_DOMAIN_FLAGS || domain->reserved)
		return "a page table is of a kind that this kernel does not know";

	if (domain->levels < 3 || domain->levels > 5)
		return "a page table has an impossible number of levels";

	if (!iommu_ser_table_valid(domain->top))
		return "a page table is at an impossible address";

	for (u32 i = 0; i < index; i++) {
		if (lists->domains[i].format && lists->domains[i].top == domain->top)
			return "a page table is in the list twice";
	}

	return NULL;
}

static inline const char *iommu_ser_check_unit(const struct iommu_lists *lists,
					       u32 index)
{
	const struct iommu_unit_ser *unit = &lists->units[index];
	u32 devices = 0;

	if (unit->type == IOMMU_SER_UNIT_NONE)
		return NULL;

	if (unit->type > IOMMU_SER_UNIT_VTD_SCALABLE)
		return "a unit is of a kind that this kernel does not know";

	if (!iommu_ser_table_valid(unit->root))
		return "a root table is at an impossible address";

	if (unit->irq_table && (!iommu_ser_table_valid(unit->irq_table) ||
				unit->irq_table == unit->root))
		return "a table of interrupts is at an impossible address";

	for (u32 i = 0; i < index; i++) {
		const struct iommu_unit_ser *other = &lists->units[i];

		if (other->type && (other->id == unit->id ||
				    other->root == unit->root))
			return "a unit is in the list twice";
		if (other->type && unit->irq_table &&
		    other->irq_table == unit->irq_table)
			return "a table of interrupts is in the list twice";
	}

	for (u32 i = 0; i < lists->nr_devices; i++)
		devices += lists->devices[i].state &&
			   lists->devices[i].unit == index;
	if (devices != unit->devices)
		return "a unit counts other devices than the list has";

	return NULL;
}

static inline const char *iommu_ser_check_device(const struct iommu_lists *lists,
						 u32 index)
{
	const struct iommu_dev_ser *entry = &lists->devices[index];

	if (entry->state == IOMMU_SER_DEV_NONE)
		return NULL;

	if (entry->state > IOMMU_SER_DEV_RUNNING ||
	    entry->flags & ~IOMMU_SER_DEV_FLAGS)
		return "a device is in a state that this kernel does not know";

	if (entry->domain >= lists->nr_domains ||
	    !lists->domains[entry->domain].format)
		return "a device has a page table that is not in the list";

	if (entry->unit >= lists->nr_units || !lists->units[entry->unit].type)
		return "a device has a unit that is not in the list";

	if (entry->flags & IOMMU_SER_DEV_PASID &&
	    lists->units[entry->unit].type != IOMMU_SER_UNIT_VTD_SCALABLE)
		return "a device has PASIDs, and its unit has none";

	for (u32 i = 0; i < index; i++) {
		if (lists->devices[i].state &&
		    lists->devices[i].segment == entry->segment &&
		    lists->devices[i].bdf == entry->bdf)
			return "a device is in the list twice";
	}

	return NULL;
}

/**
 * iommu_ser_check() - Check the IOMMU core's lists
 * @ser:   Their head.
 * @take:  Where the lists come from.
 * @lists: Where to put them.
 *
 * Return: NULL, or what is wrong.
 */
static inline const char *iommu_ser_check(const struct iommu_ser *ser,
					  kho_take_fn take,
					  struct iommu_lists *lists)
{
	const char *why = NULL;

	lists->domains = iommu_ser_take_array(&ser->domains,
					      sizeof(*lists->domains), take);
	lists->devices = iommu_ser_take_array(&ser->devices,
					      sizeof(*lists->devices), take);
	lists->units = iommu_ser_take_array(&ser->units, sizeof(*lists->units),
					    take);
	if (!lists->domains || !lists->devices || !lists->units)
		return "a list has an impossible size, or is not in preserved memory";

	lists->nr_domains = ser->domains.count;
	lists->nr_devices = ser->devices.count;
	lists->nr_units = ser->units.count;

	for (u32 i = 0; i < lists->nr_domains && !why; i++)
		why = iommu_ser_check_domain(lists, i);
	for (u32 i = 0; i < lists->nr_units && !why; i++)
		why = iommu_ser_check_unit(lists, i);
	for (u32 i = 0; i < lists->nr_devices && !why; i++)
		why = iommu_ser_check_device(lists, i);

	return why;
}

#endif /* _LINUX_KHO_CHECK_IOMMU_H */
