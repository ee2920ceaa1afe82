// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: Interrupts of vfio-pci devices in a Live Update
 *
 * Interrupts that are on when a device is frozen refuse the update, unless its user
 * has said that they go along (%VFIO_DEVICE_FEATURE_LIVEUPDATE_IRQS)::
 *
 *   freeze, running mode
 *     vfio_pci_liveupdate_mask_irqs()       the device raises none from here on, and
 *                                           handlers that run are waited for
 *   unfreeze
 *     vfio_pci_liveupdate_unmask_irqs()     it does again, and each is signalled once
 *
 *   retrieve, in the next kernel
 *     vfio_pci_liveupdate_irqs_came()       notes which came in
 *   VFIO_DEVICE_SET_IRQS
 *     vfio_pci_liveupdate_arm()             the device had another kind of interrupts
 *     vfio_pci_liveupdate_armed()           each that is armed is signalled once
 *
 * One write to the device's configuration does it, and two for MSI:
 *
 * - MSI-X: the function is masked and stays enabled, through the enumeration of the next
 *   kernel, too. It keeps its vectors pending (PCI Express 6.0, 6.1.4.5), raises no INTx
 *   (6.1.4.3), and pci_msix_*() arms it without disabling MSI-X.
 * - MSI is disabled, and INTx with it, which a device may raise then. Its mask bits, where
 *   a device has them, would promise nothing: Linux disables MSI whenever it sets it up.
 * - INTx is disabled, and is a level.
 *
 * What a device had to say and does not say again is covered by the signal. That is
 * enough: whoever waits for an interrupt looks at the device, and finds it.
 *
 * Restrictions:
 *
 * - INTx of a device that cannot disable it (before PCI 2.3) does not go along.
 * - In idle mode the device is reset, and its interrupts are off.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/interrupt.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <uapi/linux/vfio_liveupdate.h>

#include "vfio_pci_liveupdate.h"
#include "vfio_pci_priv.h"

static_assert(VFIO_LIVEUPDATE_IRQS_WORDS * 64 == VFIO_PCI_SER_VECTORS);

/* What crosses counts from 1 on; 0 is none. */
static unsigned int vfio_pci_liveupdate_irq_index(u32 kind)
{
	return VFIO_PCI_INTX_IRQ_INDEX + kind - VFIO_PCI_SER_IRQS_INTX;
}

/* Set bits in a word of the configuration, and see that the device has them. */
static void vfio_pci_liveupdate_config(struct pci_dev *pdev, int where, u16 clear,
				       u16 set)
{
	u16 word;

	pci_read_config_word(pdev, where, &word);
	if ((word & clear) || (word & set) != set)
		pci_write_config_word(pdev, where, (word & ~clear) | set);
	pci_read_config_word(pdev, where, &word);
}

/*
 * An eventfd of the user can unmask INTx at any time. While it is held that is noted
 * only, see vfio_pci_liveupdate_holds_intx(). Returns whether it was masked already.
 */
static bool vfio_pci_liveupdate_hold_intx(struct vfio_pci_core_device *vdev)
{
	u16 command;

	scoped_guard(spinlock_irqsave, &vdev->irqlock) {
		vdev->liveupdate.held = true;
		vdev->liveupdate.unmask = false;
	}

	pci_read_config_word(vdev->pdev, PCI_COMMAND, &command);
	vfio_pci_set_irqs_ioctl(vdev, VFIO_IRQ_SET_DATA_NONE |
				VFIO_IRQ_SET_ACTION_MASK,
				VFIO_PCI_INTX_IRQ_INDEX, 0, 1, NULL);

	return command & PCI_COMMAND_INTX_DISABLE;
}

static void vfio_pci_liveupdate_release_intx(struct vfio_pci_core_device *vdev,
					     bool masked)
{
	bool unmask;

	scoped_guard(spinlock_irqsave, &vdev->irqlock) {
		vdev->liveupdate.held = false;
		unmask = !masked || vdev->liveupdate.unmask;
	}

	if (unmask)
		vfio_pci_set_irqs_ioctl(vdev, VFIO_IRQ_SET_DATA_NONE |
					VFIO_IRQ_SET_ACTION_UNMASK,
					VFIO_PCI_INTX_IRQ_INDEX, 0, 1, NULL);
}

/*
 * With MSI off a device raises INTx in its place, if that is enabled, as VFIO leaves it
 * when it has enabled MSI.
 */
static void vfio_pci_liveupdate_hold_other(struct vfio_pci_core_device *vdev)
{
	u16 command;

	if (!vdev->pci_2_3)
		return;

	pci_read_config_word(vdev->pdev, PCI_COMMAND, &command);
	vdev->liveupdate.intx = !(command & PCI_COMMAND_INTX_DISABLE);
	pci_intx(vdev->pdev, 0);
}

static void vfio_pci_liveupdate_release_other(struct vfio_pci_core_device *vdev)
{
	if (vdev->liveupdate.intx)
		pci_intx(vdev->pdev, 1);
	vdev->liveupdate.intx = false;
}

static void vfio_pci_liveupdate_hold_irqs(struct vfio_pci_core_device *vdev,
					  struct vfio_pci_irqs_ser *irqs)
{
	struct pci_dev *pdev = vdev->pdev;

	switch (irqs->kind) {
	case VFIO_PCI_SER_IRQS_INTX:
		irqs->count = 1;
		if (vfio_pci_liveupdate_hold_intx(vdev))
			irqs->flags = VFIO_PCI_SER_INTX_MASKED;
		break;
	case VFIO_PCI_SER_IRQS_MSI:
		vfio_pci_liveupdate_hold_other(vdev);
		vfio_pci_liveupdate_config(pdev, pdev->msi_cap + PCI_MSI_FLAGS,
					   PCI_MSI_FLAGS_ENABLE, 0);
		break;
	case VFIO_PCI_SER_IRQS_MSIX:
		vfio_pci_liveupdate_config(pdev, pdev->msix_cap + PCI_MSIX_FLAGS, 0,
					   PCI_MSIX_FLAGS_MASKALL);
		break;
	}
}

static void vfio_pci_liveupdate_release_irqs(struct vfio_pci_core_device *vdev,
					     const struct vfio_pci_irqs_ser *irqs)
{
	struct pci_dev *pdev = vdev->pdev;

	switch (irqs->kind) {
	case VFIO_PCI_SER_IRQS_INTX:
		vfio_pci_liveupdate_release_intx(vdev, irqs->flags &
						 VFIO_PCI_SER_INTX_MASKED);
		break;
	case VFIO_PCI_SER_IRQS_MSI:
		pci_restore_msi_state(pdev);
		vfio_pci_liveupdate_release_other(vdev);
		break;
	case VFIO_PCI_SER_IRQS_MSIX:
		vfio_pci_liveupdate_config(pdev, pdev->msix_cap + PCI_MSIX_FLAGS,
					   PCI_MSIX_FLAGS_MASKALL, 0);
		break;
	}
}

/* Which vectors somebody waits for; handlers that run now have signalled them then. */
static void vfio_pci_liveupdate_note_armed(struct vfio_pci_core_device *vdev,
					   struct vfio_pci_irqs_ser *irqs)
{
	unsigned long vector;
	void *ctx;

	xa_for_each(&vdev->ctx, vector, ctx) {
		if (vector >= VFIO_PCI_SER_VECTORS)
			break;
		irqs->armed[vector / 64] |= BIT_ULL(vector % 64);
		irqs->count = max_t(u32, irqs->count, vector + 1);
		synchronize_irq(pci_irq_vector(vdev->pdev, vector));
	}
}

/* Is vector @i one that came in, and that nobody has armed here? */
static bool vfio_pci_liveupdate_owes(const struct vfio_pci_liveupdate_irqs *owed, u32 i)
{
	return owed->came.armed[i / 64] & BIT_ULL(i % 64) &&
	       !test_bit(i, owed->signalled);
}

/* The signal of these is still to come. */
static void vfio_pci_liveupdate_note_owed(const struct vfio_pci_liveupdate_irqs *owed,
					  struct vfio_pci_irqs_ser *irqs)
{
	bool any = owed->msix;

	if (irqs->kind && irqs->kind != owed->came.kind)
		return;

	for (u32 i = 0; i < owed->came.count; i++) {
		if (!vfio_pci_liveupdate_owes(owed, i))
			continue;
		irqs->armed[i / 64] |= BIT_ULL(i % 64);
		any = true;
	}
	if (!any)
		return;

	if (!irqs->kind)
		irqs->flags = owed->came.flags;
	irqs->kind = owed->came.kind;
	irqs->count = max(irqs->count, owed->came.count);
}

/**
 * vfio_pci_liveupdate_mask_irqs() - Keep a device from raising interrupts
 * @vdev: Device that is being frozen, whose user has said that they go along.
 * @irqs: Filled in.
 *
 * Context: Process context, may sleep. Takes vdev->igate.
 */
void vfio_pci_liveupdate_mask_irqs(struct vfio_pci_core_device *vdev,
				   struct vfio_pci_irqs_ser *irqs)
{
	guard(mutex)(&vdev->igate);

	*irqs = (struct vfio_pci_irqs_ser) {};

	if (vdev->irq_type != VFIO_PCI_NUM_IRQS) {
		irqs->kind = vdev->irq_type - VFIO_PCI_INTX_IRQ_INDEX +
			     VFIO_PCI_SER_IRQS_INTX;
		vfio_pci_liveupdate_hold_irqs(vdev, irqs);
		vfio_pci_liveupdate_note_armed(vdev, irqs);
	}
	if (vdev->liveupdate.irqs)
		vfio_pci_liveupdate_note_owed(vdev->liveupdate.irqs, irqs);
}

/**
 * vfio_pci_liveupdate_unmask_irqs() - There is no update, undo the above
 * @vdev: Device.
 * @irqs: As filled in; all 0 after this.
 *
 * Context: Process context, may sleep. Takes vdev->igate.
 */
void vfio_pci_liveupdate_unmask_irqs(struct vfio_pci_core_device *vdev,
				     struct vfio_pci_irqs_ser *irqs)
{
	u32 kind = irqs->kind;

	guard(mutex)(&vdev->igate);

	if (vdev->irq_type != VFIO_PCI_NUM_IRQS && kind) {
		vfio_pci_liveupdate_release_irqs(vdev, irqs);
		/* With none it would turn them off */
		if (irqs->count)
			vfio_pci_set_irqs_ioctl(vdev, VFIO_IRQ_SET_DATA_NONE |
						VFIO_IRQ_SET_ACTION_TRIGGER,
						vfio_pci_liveupdate_irq_index(kind),
						0, irqs->count, NULL);
	}
	*irqs = (struct vfio_pci_irqs_ser) {};
}

/* How many interrupts of a kind a device has; 0 if it does not have that kind. */
static unsigned int vfio_pci_liveupdate_vectors(struct pci_dev *pdev, u32 kind)
{
	int vectors;

	switch (kind) {
	case VFIO_PCI_SER_IRQS_INTX:
		return pdev->pin ? 1 : 0;
	case VFIO_PCI_SER_IRQS_MSI:
		vectors = pci_msi_vec_count(pdev);
		break;
	default:
		vectors = pci_msix_vec_count(pdev);
		break;
	}

	return max(vectors, 0);
}

/**
 * vfio_pci_liveupdate_irqs_came() - Interrupts of a device come in
 * @vdev: Device that is being retrieved.
 * @irqs: Validated.
 *
 * Context: Process context, may sleep.
 * Return: 0, -ENOMEM, or -EINVAL for interrupts that the device does not have.
 */
int vfio_pci_liveupdate_irqs_came(struct vfio_pci_core_device *vdev,
				  const struct vfio_pci_irqs_ser *irqs)
{
	unsigned int vectors;

	if (!irqs->kind || vdev->liveupdate.irqs)
		return 0;

	vectors = vfio_pci_liveupdate_vectors(vdev->pdev, irqs->kind);
	if (!vectors || irqs->count > vectors)
		return -EINVAL;

	vdev->liveupdate.irqs = kzalloc_obj(*vdev->liveupdate.irqs);
	if (!vdev->liveupdate.irqs)
		return -ENOMEM;

	vdev->liveupdate.irqs->came = *irqs;
	vdev->liveupdate.irqs->msix = irqs->kind == VFIO_PCI_SER_IRQS_MSIX;

	return 0;
}

static void
vfio_pci_liveupdate_tell_irqs(struct vfio_pci_core_device *vdev,
			      struct vfio_device_feature_liveupdate_irqs *info)
{
	const struct vfio_pci_irqs_ser *irqs;

	if (vdev->liveupdate.carry)
		info->flags |= VFIO_LIVEUPDATE_IRQS_CARRY;
	if (!vdev->liveupdate.irqs)
		return;

	irqs = &vdev->liveupdate.irqs->came;
	info->flags |= VFIO_LIVEUPDATE_IRQS_CAME;
	if (irqs->flags & VFIO_PCI_SER_INTX_MASKED)
		info->flags |= VFIO_LIVEUPDATE_IRQS_INTX_MASKED;
	info->index = vfio_pci_liveupdate_irq_index(irqs->kind);
	info->count = irqs->count;
	for (int i = 0; i < VFIO_LIVEUPDATE_IRQS_WORDS; i++)
		info->armed[i] = irqs->armed[i];
}

/**
 * vfio_pci_liveupdate_irqs_feature() - VFIO_DEVICE_FEATURE_LIVEUPDATE_IRQS
 * @vdev:  Device, which is open.
 * @flags: As of VFIO_DEVICE_FEATURE.
 * @arg:   As of VFIO_DEVICE_FEATURE.
 * @argsz: As of VFIO_DEVICE_FEATURE.
 *
 * Context: Process context, may sleep. Takes vdev->igate.
 * Return: 0, -EFAULT, -EINVAL for anything but %VFIO_LIVEUPDATE_IRQS_CARRY to be set,
 * or as of vfio_check_feature().
 */
int vfio_pci_liveupdate_irqs_feature(struct vfio_pci_core_device *vdev, u32 flags,
				     void __user *arg, size_t argsz)
{
	struct vfio_device_feature_liveupdate_irqs info = {};
	int ret;

	ret = vfio_check_feature(flags, argsz, VFIO_DEVICE_FEATURE_GET |
				 VFIO_DEVICE_FEATURE_SET, sizeof(info));
	if (ret != 1)
		return ret;

	if (flags & VFIO_DEVICE_FEATURE_SET) {
		if (copy_from_user(&info, arg, sizeof(info)))
			return -EFAULT;
		if (info.flags & ~VFIO_LIVEUPDATE_IRQS_CARRY ||
		    memchr_inv(&info.index, 0, sizeof(info) -
			       offsetof(typeof(info), index)))
			return -EINVAL;
		guard(mutex)(&vdev->igate);
		vdev->liveupdate.carry = info.flags;
		return 0;
	}

	scoped_guard(mutex, &vdev->igate)
		vfio_pci_liveupdate_tell_irqs(vdev, &info);

	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}
