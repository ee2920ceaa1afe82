/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vfio-pci device files in a Live Update: what vfio-pci and its core call.
 * The story is told in vfio_pci_liveupdate.c.
 */
#ifndef VFIO_PCI_LIVEUPDATE_H
#define VFIO_PCI_LIVEUPDATE_H

#include <linux/kho/abi/pci.h>
#include <linux/kho/abi/vfio_pci.h>
#include <linux/pci.h>
#include <linux/pci_liveupdate.h>
#include <linux/slab.h>
#include <linux/vfio_liveupdate.h>
#include <linux/vfio_pci_core.h>

#include "vfio_pci_priv.h"

#ifdef CONFIG_VFIO_PCI_LIVEUPDATE

/**
 * struct vfio_pci_liveupdate_irqs - Interrupts that came in with a device.
 * @came:      What the previous kernel said of them.
 * @signalled: Vectors that were armed here, and signalled once for what the device
 *             had to say before.
 * @msix:      MSI-X is still enabled and masked, as it came.
 *
 * Under vdev->igate.
 */
struct vfio_pci_liveupdate_irqs {
	struct vfio_pci_irqs_ser came;
	DECLARE_BITMAP(signalled, VFIO_PCI_SER_VECTORS);
	bool msix;
};

void vfio_pci_liveupdate_init(const struct pci_driver *driver,
			      const struct vfio_device_ops *ops);
void vfio_pci_liveupdate_cleanup(void);
int vfio_pci_liveupdate_feature(struct vfio_device *device, u32 flags,
				void __user *arg, size_t argsz);
void vfio_pci_liveupdate_probe(struct vfio_pci_core_device *vdev);
void vfio_pci_liveupdate_adopt_vfs(struct vfio_pci_core_device *vdev);
void vfio_pci_liveupdate_remove(struct vfio_pci_core_device *vdev);

void vfio_pci_liveupdate_mask_irqs(struct vfio_pci_core_device *vdev,
				   struct vfio_pci_irqs_ser *irqs);
void vfio_pci_liveupdate_unmask_irqs(struct vfio_pci_core_device *vdev,
				     struct vfio_pci_irqs_ser *irqs);
int vfio_pci_liveupdate_irqs_came(struct vfio_pci_core_device *vdev,
				  const struct vfio_pci_irqs_ser *irqs);
int vfio_pci_liveupdate_irqs_feature(struct vfio_pci_core_device *vdev, u32 flags,
				     void __user *arg, size_t argsz);

/* Opening a device, which finish must not come in between */
DEFINE_LOCK_GUARD_1(vfio_pci_liveupdate_opening, struct vfio_pci_core_device,
		    mutex_lock(&_T->lock->liveupdate.lock),
		    mutex_unlock(&_T->lock->liveupdate.lock))

/* Is this the first open of a device that came in running? */
static inline bool
vfio_pci_liveupdate_running(struct vfio_pci_core_device *vdev)
{
	return vdev->liveupdate.ser && !vdev->liveupdate.failed &&
	       vdev->liveupdate.ser->mode == PCI_SER_MODE_RUNNING;
}

/* MSI-X came in enabled and masked, and is not what the device is to use. */
static inline void
vfio_pci_liveupdate_msix_off(struct vfio_pci_core_device *vdev)
{
	if (!vdev->liveupdate.irqs || !vdev->liveupdate.irqs->msix)
		return;

	vdev->liveupdate.irqs->msix = false;
	pci_liveupdate_msix_off(vdev->pdev);
}

/*
 * Opening a device failed that came in running. It is detached from its page
 * table next, so its DMA ends here. Whoever has the device lock now may wait for
 * its file to be closed, as unbinding does, and stops the device then. If that is
 * not so, the next open resets it, because it failed here: the device must not
 * take up its old work when its bus mastering is turned on again.
 */
static inline void
vfio_pci_liveupdate_open_failed(struct vfio_pci_core_device *vdev)
{
	struct pci_dev *pdev = vdev->pdev;

	vdev->liveupdate.failed = true;
	pci_liveupdate_set_read_only(pdev, false);
	pci_clear_master(pdev);
	vfio_pci_liveupdate_msix_off(vdev);
	if (device_trylock(&pdev->dev)) {
		pci_liveupdate_abandon(pdev);
		device_unlock(&pdev->dev);
	}
}

/* Does this call arm interrupts of the device? Under vdev->igate. */
static inline bool vfio_pci_liveupdate_arms(unsigned int index, u32 flags)
{
	return index <= VFIO_PCI_MSIX_IRQ_INDEX &&
	       (flags & VFIO_IRQ_SET_ACTION_TRIGGER) &&
	       (flags & VFIO_IRQ_SET_DATA_EVENTFD);
}

/* Interrupts are about to be armed: MSI-X that came in is armed as it is. */
static inline void vfio_pci_liveupdate_arm(struct vfio_pci_core_device *vdev,
					   unsigned int index, u32 flags)
{
	if (vfio_pci_liveupdate_arms(index, flags) &&
	    index != VFIO_PCI_MSIX_IRQ_INDEX)
		vfio_pci_liveupdate_msix_off(vdev);
}

/*
 * INTx was disabled at freeze, or by MSI that came in. VFIO enables it for a device
 * that can disable it, as the specification has it since PCI 2.3, and not for one that
 * is said not to; and some raise no MSI while it is disabled.
 */
static inline void
vfio_pci_liveupdate_enable_intx(struct vfio_pci_core_device *vdev, unsigned int index)
{
	bool flawed = vdev->pdev->dev_flags & PCI_DEV_FLAGS_MSI_INTX_DISABLE_BUG;

	if (index == VFIO_PCI_INTX_IRQ_INDEX ? !vdev->pci_2_3 && vdev->liveupdate.irqs :
					       flawed && !vdev->virq_disabled)
		pci_intx(vdev->pdev, 1);
}

/*
 * Vectors were armed. Each of a device that came with interrupts on is signalled when
 * that happens for the first time, and until finish each time: another process may
 * have taken the device over from one that died.
 */
static inline void vfio_pci_liveupdate_armed(struct vfio_pci_core_device *vdev,
					     unsigned int index, u32 flags,
					     unsigned int start, unsigned int count,
					     const s32 *eventfds)
{
	struct vfio_pci_liveupdate_irqs *irqs = vdev->liveupdate.irqs;

	if (!vfio_pci_liveupdate_arms(index, flags))
		return;

	vfio_pci_liveupdate_enable_intx(vdev, index);

	if (!irqs)
		return;

	if (index == VFIO_PCI_MSIX_IRQ_INDEX)
		irqs->msix = false;

	for (unsigned int i = 0; i < count && start + i < VFIO_PCI_SER_VECTORS; i++) {
		if (eventfds[i] >= 0 &&
		    (!test_and_set_bit(start + i, irqs->signalled) ||
		     vdev->liveupdate.incoming))
			vfio_pci_set_irqs_ioctl(vdev, VFIO_IRQ_SET_DATA_NONE |
						VFIO_IRQ_SET_ACTION_TRIGGER,
						index, start + i, 1, NULL);
	}
}

/* INTx is to be unmasked. Is it held, and unmasked when there is no update? */
static inline bool
vfio_pci_liveupdate_holds_intx(struct vfio_pci_core_device *vdev)
{
	lockdep_assert_held(&vdev->irqlock);

	if (vdev->liveupdate.held)
		vdev->liveupdate.unmask = true;

	return vdev->liveupdate.held;
}

/* A device is opened that did not just come in, or is closed. */
static inline void
vfio_pci_liveupdate_forget_irqs(struct vfio_pci_core_device *vdev)
{
	vfio_pci_liveupdate_msix_off(vdev);
	kfree(vdev->liveupdate.irqs);
	vdev->liveupdate.irqs = NULL;
}

/*
 * The reset at the first open. A device that comes out of a live update was
 * reset by the previous kernel, or must not be; the previous kernel has found
 * out whether a reset works.
 */
static inline int
vfio_pci_liveupdate_open_reset(struct vfio_pci_core_device *vdev)
{
	vdev->liveupdate.carry = false;
	if (!vdev->liveupdate.ser || vdev->liveupdate.failed) {
		vfio_pci_liveupdate_forget_irqs(vdev);
		return pci_try_reset_function(vdev->pdev);
	}

	return vdev->liveupdate.ser->flags & VFIO_PCI_SER_RESET_WORKS ? 0 : -ENOTTY;
}

/*
 * A device that came in running was opened. From now on it is configured by its user,
 * who finds INTx enabled, as it is after any other open: that this kernel keeps it
 * disabled until it has a handler is not to be seen.
 */
static inline void vfio_pci_liveupdate_opened(struct vfio_pci_core_device *vdev)
{
	__le16 *command = (__le16 *)&vdev->vconfig[PCI_COMMAND];

	*command &= ~cpu_to_le16(PCI_COMMAND_INTX_DISABLE);
	pci_liveupdate_set_read_only(vdev->pdev, false);
}

/* What closing restores: a running device is not in that state at its open. */
static inline struct pci_saved_state *
vfio_pci_liveupdate_clean_state(struct vfio_pci_core_device *vdev)
{
	if (vfio_pci_liveupdate_running(vdev))
		return pci_liveupdate_unpack_state(vdev->pdev,
						   &vdev->liveupdate.ser->clean);

	pci_save_state(vdev->pdev);

	return pci_store_saved_state(vdev->pdev);
}

/*
 * Must this device not be left with INTx enabled? It is going to run on with nobody
 * there to handle it. One that cannot mask it, as the specification has it since
 * PCI 2.3, has a line of its own.
 */
static inline bool vfio_pci_liveupdate_no_intx(struct vfio_pci_core_device *vdev)
{
	return vdev->pci_2_3 &&
	       pci_liveupdate_outgoing(vdev->pdev) == PCI_LIVEUPDATE_RUNNING;
}

/* Is the device frozen, and in idle mode, so that nobody may reach its BARs? */
static inline bool
vfio_pci_liveupdate_quiesced(struct vfio_pci_core_device *vdev)
{
	return READ_ONCE(vdev->liveupdate.quiesced);
}

/* May nobody reset this device by resetting its bus or slot? */
static inline bool vfio_pci_liveupdate_holds(struct vfio_pci_core_device *vdev)
{
	return vfio_liveupdate_blocked(&vdev->vdev) ||
	       READ_ONCE(vdev->liveupdate.incoming);
}

/* Did it come in, and is its session not finished? */
static inline bool vfio_pci_liveupdate_incoming(struct vfio_pci_core_device *vdev)
{
	return vdev->liveupdate.incoming;
}

/* Was its file retrieved, which alone can open it until finish? */
static inline bool vfio_pci_liveupdate_retrieved(struct vfio_pci_core_device *vdev)
{
	return READ_ONCE(vdev->liveupdate.ser);
}

/*
 * A virtual function was probed, whose physical one VFIO does not have. If that is
 * going to be VFIO's again, it is waited for: nobody is to open the virtual function
 * without its token.
 */
static inline int vfio_pci_liveupdate_find_pf(struct vfio_pci_core_device *vdev)
{
	enum pci_liveupdate_state pf = pci_liveupdate_incoming(pci_physfn(vdev->pdev));

	return !vdev->sriov_pf_core_dev &&
	       (pf == PCI_LIVEUPDATE_IDLE || pf == PCI_LIVEUPDATE_RUNNING) ?
		-EPROBE_DEFER : 0;
}

/*
 * A physical function is removed that came in. Its virtual ones go, and it may be
 * written to for that, but does no work of its own for whoever did not open it.
 */
static inline void vfio_pci_liveupdate_drop_vfs(struct vfio_pci_core_device *vdev)
{
	if (!vdev->liveupdate.incoming)
		return;

	pci_liveupdate_set_read_only(vdev->pdev, false);
	pci_clear_master(vdev->pdev);
}

#else

DEFINE_LOCK_GUARD_1(vfio_pci_liveupdate_opening, struct vfio_pci_core_device,
		    (void)_T, (void)_T)

static inline void
vfio_pci_liveupdate_open_failed(struct vfio_pci_core_device *vdev)
{
}

static inline void vfio_pci_liveupdate_init(const struct pci_driver *driver,
					    const struct vfio_device_ops *ops)
{
}

static inline void vfio_pci_liveupdate_cleanup(void)
{
}

static inline int vfio_pci_liveupdate_feature(struct vfio_device *device,
					      u32 flags, void __user *arg,
					      size_t argsz)
{
	return vfio_pci_core_ioctl_feature(device, flags, arg, argsz);
}

static inline void
vfio_pci_liveupdate_probe(struct vfio_pci_core_device *vdev)
{
}

static inline void
vfio_pci_liveupdate_adopt_vfs(struct vfio_pci_core_device *vdev)
{
}

static inline void
vfio_pci_liveupdate_remove(struct vfio_pci_core_device *vdev)
{
}

static inline bool
vfio_pci_liveupdate_running(struct vfio_pci_core_device *vdev)
{
	return false;
}

static inline int
vfio_pci_liveupdate_open_reset(struct vfio_pci_core_device *vdev)
{
	return pci_try_reset_function(vdev->pdev);
}

static inline struct pci_saved_state *
vfio_pci_liveupdate_clean_state(struct vfio_pci_core_device *vdev)
{
	pci_save_state(vdev->pdev);

	return pci_store_saved_state(vdev->pdev);
}

static inline void vfio_pci_liveupdate_opened(struct vfio_pci_core_device *vdev)
{
}

static inline void vfio_pci_liveupdate_arm(struct vfio_pci_core_device *vdev,
					   unsigned int index, u32 flags)
{
}

static inline bool
vfio_pci_liveupdate_holds_intx(struct vfio_pci_core_device *vdev)
{
	return false;
}

static inline void
vfio_pci_liveupdate_forget_irqs(struct vfio_pci_core_device *vdev)
{
}

static inline void vfio_pci_liveupdate_armed(struct vfio_pci_core_device *vdev,
					     unsigned int index, u32 flags,
					     unsigned int start, unsigned int count,
					     const s32 *eventfds)
{
}

static inline bool vfio_pci_liveupdate_no_intx(struct vfio_pci_core_device *vdev)
{
	return false;
}

static inline bool
vfio_pci_liveupdate_quiesced(struct vfio_pci_core_device *vdev)
{
	return false;
}

static inline bool vfio_pci_liveupdate_holds(struct vfio_pci_core_device *vdev)
{
	return false;
}

static inline bool vfio_pci_liveupdate_incoming(struct vfio_pci_core_device *vdev)
{
	return false;
}

static inline bool vfio_pci_liveupdate_retrieved(struct vfio_pci_core_device *vdev)
{
	return false;
}

static inline int vfio_pci_liveupdate_find_pf(struct vfio_pci_core_device *vdev)
{
	return 0;
}

static inline void vfio_pci_liveupdate_drop_vfs(struct vfio_pci_core_device *vdev)
{
}

#endif /* CONFIG_VFIO_PCI_LIVEUPDATE */
#endif /* VFIO_PCI_LIVEUPDATE_H */
