/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_CHECK_PCI_H
#define _LINUX_KHO_CHECK_PCI_H

#include <linux/kho/abi/pci.h>
#include <linux/kho/check/check.h>
#include <linux/log2.h>
#include <linux/pci_regs.h>
#include <linux/string.h>

static inline bool pci_ser_driver_valid(const struct pci_dev_ser *entry)
{
	size_t len = strnlen(entry->driver, PCI_SER_DRIVER_LEN);

	for (size_t i = len; i < PCI_SER_DRIVER_LEN; i++) {
		if (entry->driver[i])
			return false;
	}

	return len < PCI_SER_DRIVER_LEN &&
	       (entry->role == PCI_SER_ROLE_HELD ||
		!len == (entry->role == PCI_SER_ROLE_BRIDGE));
}

static inline const char *pci_ser_check_data(const struct pci_dev_ser *entry,
					     kho_take_fn take)
{
	bool may = entry->role == PCI_SER_ROLE_HELD && entry->driver[0];

	if (!entry->data_size == !!entry->data || (entry->data && !may) ||
	    entry->data_size > PCI_SER_MAX_DATA)
		return "a driver's data have an impossible size";

	if (entry->data && !take(entry->data, entry->data_size))
		return "a driver's data are not in preserved memory";

	return NULL;
}

static inline bool pci_ser_orders_valid(const u8 *orders, int count, u8 limit)
{
	for (int i = 0; i < count; i++) {
		if (orders[i] >= limit)
			return false;
	}

	return true;
}

/* As pci_dev_ser.bdf has it: of a virtual function of @entry, from 0 */
static inline u32 pci_ser_vf_bdf(const struct pci_dev_ser *entry, u32 n)
{
	return entry->bdf + entry->sriov.offset + n * entry->sriov.stride;
}

static inline const char *pci_ser_check_sriov(const struct pci_dev_ser *entry)
{
	static const u16 enabled = PCI_SRIOV_CTRL_VFE | PCI_SRIOV_CTRL_MSE;
	static const struct pci_sriov_ser none;
	const struct pci_sriov_ser *sriov = &entry->sriov;
	u16 n = sriov->num_vfs;

	if (!(entry->flags & PCI_SER_SRIOV))
		return memcmp(sriov, &none, sizeof(none)) ?
			"a device without SR-IOV has virtual functions" : NULL;

	if (entry->role == PCI_SER_ROLE_BRIDGE || entry->flags & PCI_SER_VF)
		return "SR-IOV is not of a physical function";

	if ((sriov->control & enabled) != (n ? enabled : 0))
		return "virtual functions are half enabled";

	if (n > sriov->total_vfs || sriov->initial_vfs > sriov->total_vfs)
		return "there are too many virtual functions";

	if (n && (!sriov->offset || (n > 1 && !sriov->stride) ||
		  pci_ser_vf_bdf(entry, n - 1) >> 8 > sriov->last_bus))
		return "virtual functions have impossible numbers";

	if (sriov->last_bus > 0xff || sriov->last_bus < entry->bdf >> 8)
		return "virtual functions are on an impossible bus";

	if (!is_power_of_2(sriov->page_size))
		return "virtual functions have an impossible page size";

	/* Of all virtual functions together, of which there are less than 2^16 */
	if (!pci_ser_orders_valid(sriov->bar_order, PCI_SER_VF_BARS, 48))
		return "a BAR of virtual functions has an impossible size";

	return NULL;
}

/* Is an entry, of a list of @count, one that this kernel knows? */
static inline const char *pci_ser_check_entry(const struct pci_dev_ser *entry,
					      u32 count)
{
	switch (entry->role) {
	case PCI_SER_ROLE_BRIDGE:
		if (entry->mode != PCI_SER_MODE_NONE)
			return "a bridge has a mode";
		if (!entry->refcount || entry->refcount >= count)
			return "a bridge has an impossible number of devices";
		break;
	case PCI_SER_ROLE_HELD:
		if (entry->mode != PCI_SER_MODE_NONE)
			return "a held function has a mode";
		if (!entry->refcount || entry->refcount != entry->sriov.vfs)
			return "a held function has an impossible number of virtual ones";
		break;
	case PCI_SER_ROLE_DEVICE:
		if (entry->mode != PCI_SER_MODE_IDLE &&
		    entry->mode != PCI_SER_MODE_RUNNING)
			return "a device is in an unknown mode";
		if (entry->refcount != 1)
			return "a device is counted more than once";
		break;
	default:
		return "an entry has an unknown role";
	}

	if (!pci_ser_driver_valid(entry))
		return "a driver's name is broken";

	if (entry->flags & ~PCI_SER_FLAGS || entry->reserved || entry->reserved2)
		return "an entry has unknown flags";

	if (entry->flags & PCI_SER_VF ? entry->role != PCI_SER_ROLE_DEVICE : entry->physfn)
		return "what is no virtual function names a physical one";

	if (!pci_ser_orders_valid(entry->bar_order, PCI_SER_BARS, 64))
		return "a BAR has an impossible size";

	return pci_ser_check_sriov(entry);
}

/* The entry of a virtual function names @pf, which has one like it, and lets it run. */
static inline bool pci_ser_is_vf_of(const struct pci_dev_ser *vf,
				    const struct pci_dev_ser *pf)
{
	u32 first = pci_ser_vf_bdf(pf, 0), stride = pf->sriov.stride ?: 1;

	return vf->flags & PCI_SER_VF && vf->domain == pf->domain &&
	       vf->physfn == pf->bdf && pf->mode != PCI_SER_MODE_IDLE &&
	       vf->bdf >= first && !((vf->bdf - first) % stride) &&
	       (vf->bdf - first) / stride < pf->sriov.num_vfs;
}

/* Does each virtual function have its physical one, which counts them right? */
static inline const char *pci_ser_check_vfs(const struct pci_dev_ser *list, u32 count)
{
	u32 vfs = 0, named = 0;

	for (u32 i = 0; i < count; i++) {
		u32 found = 0;

		vfs += !!(list[i].flags & PCI_SER_VF);
		for (u32 j = 0; j < count && list[i].flags & PCI_SER_SRIOV; j++)
			found += pci_ser_is_vf_of(&list[j], &list[i]);
		if (found != list[i].sriov.vfs)
			return "virtual functions are counted wrong";
		named += found;
	}

	return named == vfs ? NULL : "a virtual function has no physical one";
}

/**
 * pci_ser_check() - Check the PCI core's list
 * @ser:  Its head.
 * @take: Where the list comes from.
 *
 * Return: NULL, or what is wrong.
 */
static inline const char *pci_ser_check(const struct pci_ser *ser,
					kho_take_fn take)
{
	const struct pci_dev_ser *list;

	if (!ser->capacity || ser->capacity > PCI_SER_MAX_CAPACITY ||
	    ser->count > ser->capacity)
		return "the list has an impossible size";

	list = take(ser->devices, ser->capacity * sizeof(*list));
	if (!list)
		return "the list is not in preserved memory";

	for (u32 i = 0; i < ser->count; i++) {
		const char *why = pci_ser_check_entry(&list[i], ser->count) ?:
				  pci_ser_check_data(&list[i], take);

		if (why)
			return why;
		for (u32 j = 0; j < i; j++) {
			if (list[j].domain == list[i].domain &&
			    list[j].bdf == list[i].bdf)
				return "a device is in the list twice";
		}
	}

	return pci_ser_check_vfs(list, ser->count);
}

#endif /* _LINUX_KHO_CHECK_PCI_H */
