/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_CHECK_VFIO_PCI_H
#define _LINUX_KHO_CHECK_VFIO_PCI_H

#include <linux/kho/abi/vfio_pci.h>
#include <linux/kho/check/check.h>
#include <linux/pci_regs.h>
#include <linux/string.h>

/**
 * vfio_pci_ser_check() - Check what vfio-pci says about a device file
 * @ser: That.
 *
 * Return: NULL, or what is wrong.
 */
static inline const char *vfio_pci_ser_check(const struct vfio_pci_ser *ser)
{
	static const struct pci_state_ser none;

	if (ser->mode != PCI_SER_MODE_IDLE && ser->mode != PCI_SER_MODE_RUNNING)
		return "in a mode that this kernel does not know";

	if (ser->flags & ~VFIO_PCI_SER_RESET_WORKS || ser->reserved ||
	    ser->clean.flags & ~PCI_STATE_SER_FLAGS)
		return "in a way that this kernel does not know";

	if (ser->mode == PCI_SER_MODE_IDLE &&
	    memcmp(&ser->clean, &none, sizeof(none)))
		return "with a configuration that it should not have";

	/* Closing the device restores it, and must not set its DMA going */
	if (ser->clean.header[PCI_COMMAND / 4] & PCI_COMMAND_MASTER)
		return "with a clean configuration that does DMA";

	return NULL;
}

#endif /* _LINUX_KHO_CHECK_VFIO_PCI_H */
