/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_CHECK_PCI_H
#define _LINUX_KHO_CHECK_PCI_H

#include <linux/kho/abi/pci.h>
#include <linux/kho/check/check.h>
#include <linux/string.h>

static inline bool pci_ser_driver_valid(const struct pci_dev_ser *entry)
{
	size_t len = strnlen(entry->driver, PCI_SER_DRIVER_LEN);

	for (size_t i = len; i < PCI_SER_DRIVER_LEN; i++) {
		if (entry->driver[i])
			return false;
	}

	return len < PCI_SER_DRIVER_LEN &&
	       !len == (entry->role == PCI_SER_ROLE_BRIDGE);
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

	for (int i = 0; i < PCI_SER_BARS; i++) {
		if (entry->bar_order[i] >= 64)
			return "a BAR has an impossible size";
	}

	return NULL;
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
		const char *why = pci_ser_check_entry(&list[i], ser->count);

		if (why)
			return why;
		for (u32 j = 0; j < i; j++) {
			if (list[j].domain == list[i].domain &&
			    list[j].bdf == list[i].bdf)
				return "a device is in the list twice";
		}
	}

	return NULL;
}

#endif /* _LINUX_KHO_CHECK_PCI_H */
