/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_CHECK_VFIO_PCI_H
#define _LINUX_KHO_CHECK_VFIO_PCI_H

#include <linux/kho/abi/vfio_pci.h>
#include <linux/kho/check/check.h>
#include <linux/pci_regs.h>
#include <linux/string.h>

/* One more than the last vector that is armed */
static inline u32 vfio_pci_irqs_ser_last(const struct vfio_pci_irqs_ser *irqs)
{
	for (u32 i = VFIO_PCI_SER_VECTORS; i; i--) {
		if (irqs->armed[(i - 1) / 64] & BIT_ULL((i - 1) % 64))
			return i;
	}

	return 0;
}

static inline const char *
vfio_pci_irqs_ser_check(const struct vfio_pci_irqs_ser *irqs)
{
	static const u32 most[] = { 0, 1, 32, VFIO_PCI_SER_VECTORS };

	if (irqs->kind > VFIO_PCI_SER_IRQS_MSIX || irqs->reserved ||
	    irqs->flags & ~VFIO_PCI_SER_INTX_MASKED)
		return "with interrupts that this kernel does not know";

	if (irqs->count > most[irqs->kind] ||
	    (irqs->kind == VFIO_PCI_SER_IRQS_INTX && !irqs->count) ||
	    vfio_pci_irqs_ser_last(irqs) > irqs->count ||
	    (irqs->flags && irqs->kind != VFIO_PCI_SER_IRQS_INTX))
		return "with interrupts that it cannot have";

	return NULL;
}

/**
 * vfio_pci_ser_check() - Check what vfio-pci says about a device file
 * @ser: That.
 *
 * Return: NULL, or what is wrong.
 */
static inline const char *vfio_pci_ser_check(const struct vfio_pci_ser *ser)
{
	static const struct vfio_pci_irqs_ser no_irqs;
	static const u8 no_token[sizeof(ser->vf_token)];
	static const struct pci_state_ser none;

	if (ser->mode != PCI_SER_MODE_IDLE && ser->mode != PCI_SER_MODE_RUNNING)
		return "in a mode that this kernel does not know";

	if (ser->flags & ~VFIO_PCI_SER_FLAGS || ser->reserved ||
	    ser->clean.flags & ~PCI_STATE_SER_FLAGS)
		return "in a way that this kernel does not know";

	if (ser->mode == PCI_SER_MODE_IDLE &&
	    memcmp(&ser->irqs, &no_irqs, sizeof(no_irqs)))
		return "with interrupts that it should not have";

	if (ser->mode == PCI_SER_MODE_IDLE &&
	    memcmp(&ser->clean, &none, sizeof(none)))
		return "with a configuration that it should not have";

	if (!(ser->flags & VFIO_PCI_SER_VF_TOKEN) &&
	    memcmp(ser->vf_token, no_token, sizeof(no_token)))
		return "with a token that it should not have";

	/* Closing the device restores it, and must not set its DMA going */
	if (ser->clean.header[PCI_COMMAND / 4] & PCI_COMMAND_MASTER)
		return "with a clean configuration that does DMA";

	return vfio_pci_irqs_ser_check(&ser->irqs);
}

#endif /* _LINUX_KHO_CHECK_VFIO_PCI_H */
