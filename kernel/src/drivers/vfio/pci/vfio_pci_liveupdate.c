// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: vfio-pci device files in a Live Update
 *
 * vfio-pci's handler for LUO, the Live Update Orchestrator: user space puts the
 * file of a vfio-pci device into a session, and gets a file of the same device
 * from that session in the next kernel. The file is one opened from the VFIO
 * character device and bound to an iommufd. Files that came out of a VFIO
 * group, devices of other VFIO drivers and Intel's display devices (which need
 * firmware tables and other devices with them) are declined.
 *
 * The device crosses in **idle mode**:
 *
 * preserve
 *   The PCI core keeps the device and the bridges above it. Written down are the
 *   device's numbers and whether a function reset works on it. Nothing is done
 *   to the device, user space goes on using it.
 *
 * freeze
 *   Nobody could receive the device's interrupts any more, so freeze refuses
 *   with -EINVAL while any preserved device has interrupts enabled, before any
 *   of them is touched. Then user space loses access to the device, its BAR
 *   mappings and dma-bufs are revoked, and the device goes back to the clean
 *   state that was saved when it was opened: bus mastering off first, then
 *   waiting for its transactions, so that the reset does not cut one off, then
 *   the function reset, then the saved configuration.
 *
 * unfreeze
 *   The jump is off. Configuration space is put back as the user had it and
 *   access is given back: the user finds the device as after VFIO_DEVICE_RESET.
 *
 * retrieve
 *   In the next kernel only vfio-pci binds to the device, by itself, and nobody
 *   can open it: -EBUSY, for the character device and for the group. Retrieve
 *   makes the one file that can. Binding it to an iommufd opens the device
 *   without a second reset, and saves the clean state that closing restores.
 *
 * finish
 *   The device is like any other again. Before retrieve, finish is refused.
 *
 * Locking: the device set's lock guards opening, closing and freezing a device
 * and vdev->liveupdate_ser; vfio_pci_liveupdate_lock guards the list of
 * preserved files and is taken before it.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cleanup.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/pci.h>
#include <linux/kho/abi/vfio_pci.h>
#include <linux/liveupdate.h>
#include <linux/module.h>
#include <linux/pci_liveupdate.h>
#include <linux/pm_runtime.h>
#include <linux/slab.h>
#include <linux/vfio_liveupdate.h>

#include "vfio_pci_liveupdate.h"
#include "vfio_pci_priv.h"

MODULE_ALIAS("liveupdate-" VFIO_PCI_LIVEUPDATE_COMPATIBLE);

/**
 * struct vfio_pci_liveupdate - One preserved file in the outgoing kernel.
 * @vdev:    Its device.
 * @ser:     What crosses.
 * @running: Configuration of the device when it was frozen, for unfreeze.
 * @list:    Link in vfio_pci_liveupdate_files.
 */
struct vfio_pci_liveupdate {
	struct vfio_pci_core_device *vdev;
	struct vfio_pci_ser *ser;
	struct pci_saved_state *running;
	struct list_head list;
};

static DEFINE_MUTEX(vfio_pci_liveupdate_lock);
static LIST_HEAD(vfio_pci_liveupdate_files);

/* How files of vfio-pci are told from those of other drivers */
static const struct vfio_device_ops *vfio_pci_liveupdate_ops;

static struct vfio_pci_core_device *
vfio_pci_liveupdate_vdev(struct vfio_device *device)
{
	return container_of(device, struct vfio_pci_core_device, vdev);
}

static bool vfio_pci_liveupdate_decline(struct vfio_device *device,
					const char *why)
{
	dev_warn(device->dev, "live update: cannot be preserved: %s (%pe)\n",
		 why, ERR_PTR(-ENOENT));
	return false;
}

static bool vfio_pci_liveupdate_can_preserve(struct liveupdate_file_handler *fh,
					     struct file *file)
{
	struct vfio_device *device = vfio_liveupdate_device(file);
	struct pci_dev *pdev;

	if (!device) {
		if (vfio_file_is_valid(file))
			pr_warn("live update: a VFIO group and files from it cannot be preserved (%pe)\n",
				ERR_PTR(-ENOENT));
		return false;
	}

	if (device->ops != vfio_pci_liveupdate_ops)
		return vfio_pci_liveupdate_decline(device,
						   "its driver takes no part");

	pdev = to_pci_dev(device->dev);
	if (pdev->vendor == PCI_VENDOR_ID_INTEL &&
	    pdev->class >> 16 == PCI_BASE_CLASS_DISPLAY)
		return vfio_pci_liveupdate_decline(device,
						   "is an Intel display device");

	return true;
}

static int vfio_pci_liveupdate_check(struct vfio_pci_core_device *vdev,
				     struct file *file)
{
	const char *why;
	int ret;

	if (!vfio_liveupdate_file_bound(file)) {
		why = "the file is not bound to an iommufd";
		ret = -EINVAL;
	} else if (vdev->vdev.noiommu) {
		why = "no IOMMU keeps its DMA in bounds";
		ret = -EOPNOTSUPP;
	} else if (!vdev->pci_saved_state) {
		why = "its clean state could not be saved";
		ret = -ENOMEM;
	} else {
		return 0;
	}

	pci_warn(vdev->pdev, "live update: cannot be preserved: %s (%pe)\n",
		 why, ERR_PTR(ret));

	return ret;
}

static int vfio_pci_liveupdate_preserve(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_core_device *vdev =
		vfio_pci_liveupdate_vdev(vfio_liveupdate_device(args->file));
	struct vfio_pci_liveupdate *lu;
	struct pci_dev *pdev = vdev->pdev;
	int ret;

	ret = vfio_pci_liveupdate_check(vdev, args->file);
	if (ret)
		return ret;

	lu = kzalloc_obj(*lu);
	if (!lu)
		return -ENOMEM;

	lu->ser = kho_alloc_preserve(sizeof(*lu->ser));
	if (IS_ERR(lu->ser)) {
		ret = PTR_ERR(lu->ser);
		goto err_free;
	}

	ret = pci_liveupdate_preserve(pdev, PCI_LIVEUPDATE_IDLE);
	if (ret)
		goto err_unpreserve;

	lu->vdev = vdev;
	lu->ser->domain = pci_domain_nr(pdev->bus);
	lu->ser->bdf = pci_dev_id(pdev);
	lu->ser->mode = PCI_SER_MODE_IDLE;
	if (vdev->reset_works)
		lu->ser->flags |= VFIO_PCI_SER_RESET_WORKS;

	scoped_guard(mutex, &vfio_pci_liveupdate_lock)
		list_add_tail(&lu->list, &vfio_pci_liveupdate_files);

	args->serialized_data = virt_to_phys(lu->ser);
	args->private_data = lu;
	pci_info(pdev, "live update: preserved, idle mode\n");

	return 0;

err_unpreserve:
	kho_unpreserve_free(lu->ser);
err_free:
	kfree(lu);
	return ret;
}

static void vfio_pci_liveupdate_unpreserve(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_liveupdate *lu = args->private_data;

	scoped_guard(mutex, &vfio_pci_liveupdate_lock)
		list_del(&lu->list);

	pci_liveupdate_unpreserve(lu->vdev->pdev);
	pci_info(lu->vdev->pdev, "live update: no longer preserved\n");
	kho_unpreserve_free(lu->ser);
	kfree(lu);
}

static int vfio_pci_liveupdate_check_irq(struct vfio_pci_core_device *vdev)
{
	lockdep_assert_held(&vdev->vdev.dev_set->lock);

	if (vdev->irq_type == VFIO_PCI_NUM_IRQS)
		return 0;

	pci_err(vdev->pdev, "Freeze failed! Interrupts are still enabled.\n");

	return -EINVAL;
}

/* The refusal that users meet: find it before any device is reset. */
static int vfio_pci_liveupdate_check_irqs(void)
{
	struct vfio_pci_liveupdate *lu;
	int ret = 0;

	guard(mutex)(&vfio_pci_liveupdate_lock);

	list_for_each_entry(lu, &vfio_pci_liveupdate_files, list) {
		guard(mutex)(&lu->vdev->vdev.dev_set->lock);
		if (vfio_pci_liveupdate_check_irq(lu->vdev))
			ret = -EINVAL;
	}

	return ret;
}

/* Not pci_try_reset_function(), which would save the present configuration. */
static int vfio_pci_liveupdate_reset(struct vfio_pci_core_device *vdev)
{
	struct pci_dev *pdev = vdev->pdev;
	struct pci_dev *bridge = pci_upstream_bridge(pdev);
	int ret = -EAGAIN;

	if (!vdev->reset_works)
		return 0;

	if (bridge && !pci_dev_trylock(bridge))
		return ret;
	if (pci_dev_trylock(pdev)) {
		ret = __pci_reset_function_locked(pdev);
		pci_dev_unlock(pdev);
	}
	if (bridge)
		pci_dev_unlock(bridge);

	return ret;
}

/* From the running state to the clean one; on failure back again. */
static int vfio_pci_liveupdate_quiesce(struct vfio_pci_liveupdate *lu)
{
	struct vfio_pci_core_device *vdev = lu->vdev;
	struct pci_dev *pdev = vdev->pdev;
	int ret;

	lockdep_assert_held_write(&vdev->memory_lock);

	ret = vfio_pci_set_power_state(vdev, PCI_D0);
	if (ret)
		return ret;

	pci_save_state(pdev);
	lu->running = pci_store_saved_state(pdev);
	if (!lu->running)
		return -ENOMEM;

	ret = pci_load_saved_state(pdev, vdev->pci_saved_state);
	if (!ret) {
		pci_clear_master(pdev);
		if (!pci_wait_for_pending_transaction(pdev))
			pci_warn(pdev, "live update: transactions still pending, resetting anyway\n");
		ret = vfio_pci_liveupdate_reset(vdev);
	}
	if (ret)
		pci_load_and_free_saved_state(pdev, &lu->running);
	pci_restore_state(pdev);

	return ret;
}

/* Give the device back; its configuration is as the user had it. */
static void vfio_pci_liveupdate_give_back(struct vfio_pci_core_device *vdev)
{
	vfio_liveupdate_unfreeze(&vdev->vdev);

	down_write(&vdev->memory_lock);
	if (__vfio_pci_memory_enabled(vdev))
		vfio_pci_dma_buf_move(vdev, false);
	up_write(&vdev->memory_lock);

	pm_runtime_put(&vdev->pdev->dev);
}

static int vfio_pci_liveupdate_freeze_idle(struct vfio_pci_liveupdate *lu)
{
	struct vfio_pci_core_device *vdev = lu->vdev;
	int ret;

	guard(mutex)(&vdev->vdev.dev_set->lock);

	ret = vfio_pci_liveupdate_check_irq(vdev);
	if (ret)
		return ret;

	vfio_pci_zap_and_down_write_memory_lock(vdev);
	vfio_pci_dma_buf_move(vdev, true);
	ret = vfio_pci_liveupdate_quiesce(lu);
	up_write(&vdev->memory_lock);
	if (ret)
		pci_err(vdev->pdev, "Freeze failed! Could not be quiesced (%pe)\n",
			ERR_PTR(ret));

	return ret;
}

static int vfio_pci_liveupdate_freeze(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_liveupdate *lu = args->private_data;
	struct vfio_pci_core_device *vdev = lu->vdev;
	int ret;

	ret = vfio_pci_liveupdate_check_irqs();
	if (ret)
		return ret;

	ret = pm_runtime_resume_and_get(&vdev->pdev->dev);
	if (ret)
		return ret;

	ret = vfio_liveupdate_freeze(&vdev->vdev);
	if (ret) {
		pm_runtime_put(&vdev->pdev->dev);
		return ret;
	}

	ret = vfio_pci_liveupdate_freeze_idle(lu);
	if (ret) {
		vfio_pci_liveupdate_give_back(vdev);
		return ret;
	}

	pci_info(vdev->pdev, "live update: frozen, idle mode\n");

	return 0;
}

static void vfio_pci_liveupdate_unfreeze(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_liveupdate *lu = args->private_data;
	struct vfio_pci_core_device *vdev = lu->vdev;

	scoped_guard(mutex, &vdev->vdev.dev_set->lock) {
		pci_load_and_free_saved_state(vdev->pdev, &lu->running);
		pci_restore_state(vdev->pdev);
	}

	vfio_pci_liveupdate_give_back(vdev);
	pci_info(vdev->pdev, "live update: unfrozen, device was reset\n");
}

/* Find the incoming device; on success its device lock is held. */
static struct vfio_pci_core_device *
vfio_pci_liveupdate_lock_incoming(const struct vfio_pci_ser *ser)
{
	struct vfio_pci_core_device *vdev;
	struct pci_dev *pdev;

	pdev = pci_get_domain_bus_and_slot(ser->domain, PCI_BUS_NUM(ser->bdf),
					   ser->bdf & 0xff);
	if (!pdev)
		return NULL;

	device_lock(&pdev->dev);
	vdev = dev_get_drvdata(&pdev->dev);
	/* Only vfio-pci binds to an incoming device, see the PCI core. */
	if (pdev->dev.driver && vdev && vdev->liveupdate_incoming) {
		pci_dev_put(pdev);
		return vdev;
	}
	device_unlock(&pdev->dev);
	pci_dev_put(pdev);

	return NULL;
}

static void vfio_pci_liveupdate_unlock(struct vfio_pci_core_device *vdev)
{
	device_unlock(&vdev->pdev->dev);
}

static int vfio_pci_liveupdate_retrieve(struct liveupdate_file_op_args *args)
{
	const struct vfio_pci_ser *ser = phys_to_virt(args->serialized_data);
	struct vfio_pci_core_device *vdev;
	struct file *file;

	vdev = vfio_pci_liveupdate_lock_incoming(ser);
	if (!vdev) {
		pr_err("live update: %04x:%02x:%02x.%x was preserved, but there is no such device bound to vfio-pci (%pe)\n",
		       ser->domain, PCI_BUS_NUM(ser->bdf), PCI_SLOT(ser->bdf),
		       PCI_FUNC(ser->bdf), ERR_PTR(-ENODEV));
		return -ENODEV;
	}

	file = vfio_liveupdate_open(&vdev->vdev);
	if (!IS_ERR(file)) {
		scoped_guard(mutex, &vdev->vdev.dev_set->lock)
			vdev->liveupdate_ser = ser;
		args->file = file;
		pci_info(vdev->pdev, "live update: retrieved, idle mode\n");
	}
	vfio_pci_liveupdate_unlock(vdev);

	return PTR_ERR_OR_ZERO(file);
}

static bool vfio_pci_liveupdate_can_finish(struct liveupdate_file_op_args *args)
{
	/* A device that could not be retrieved never can be: let it go. */
	return args->retrieve_status != 0;
}

/* The device is not the live update's any more. */
static void vfio_pci_liveupdate_let_go(struct vfio_pci_core_device *vdev)
{
	if (!vdev->liveupdate_incoming)
		return;

	vdev->liveupdate_incoming = false;
	scoped_guard(mutex, &vdev->vdev.dev_set->lock)
		vdev->liveupdate_ser = NULL;
	pm_runtime_put(&vdev->pdev->dev);
}

static void vfio_pci_liveupdate_finish(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_ser *ser = phys_to_virt(args->serialized_data);
	struct vfio_pci_core_device *vdev;
	bool retrieved = args->retrieve_status > 0;

	pci_liveupdate_finish(ser->domain, ser->bdf);

	/*
	 * The file keeps a retrieved device from being unbound. Its device lock
	 * may be held by somebody who waits for just this file to be closed.
	 */
	if (retrieved)
		vdev = vfio_pci_liveupdate_vdev(vfio_liveupdate_device(args->file));
	else
		vdev = vfio_pci_liveupdate_lock_incoming(ser);

	if (vdev) {
		vfio_pci_liveupdate_let_go(vdev);
		vfio_liveupdate_release(&vdev->vdev);
		pci_info(vdev->pdev, "live update: finished\n");
		if (!retrieved)
			vfio_pci_liveupdate_unlock(vdev);
	}

	kho_restore_free(ser);
}

/* probe() of vfio-pci, before the VFIO core shows the device to anybody */
void vfio_pci_liveupdate_probe(struct vfio_pci_core_device *vdev)
{
	if (pci_liveupdate_incoming(vdev->pdev) == PCI_LIVEUPDATE_NONE)
		return;

	vdev->liveupdate_incoming = true;
	vfio_liveupdate_reserve(&vdev->vdev);
	/* Going to D3hot and back would reset many a device once more */
	pm_runtime_get_noresume(&vdev->pdev->dev);
}

/* remove() of vfio-pci, and failure of its probe() */
void vfio_pci_liveupdate_remove(struct vfio_pci_core_device *vdev)
{
	vfio_pci_liveupdate_let_go(vdev);
}

static const struct liveupdate_file_ops vfio_pci_liveupdate_file_ops = {
	.can_preserve = vfio_pci_liveupdate_can_preserve,
	.preserve = vfio_pci_liveupdate_preserve,
	.unpreserve = vfio_pci_liveupdate_unpreserve,
	.freeze = vfio_pci_liveupdate_freeze,
	.unfreeze = vfio_pci_liveupdate_unfreeze,
	.retrieve = vfio_pci_liveupdate_retrieve,
	.can_finish = vfio_pci_liveupdate_can_finish,
	.finish = vfio_pci_liveupdate_finish,
	.owner = THIS_MODULE,
};

static struct liveupdate_file_handler vfio_pci_liveupdate_handler = {
	.ops = &vfio_pci_liveupdate_file_ops,
	.compatible = VFIO_PCI_LIVEUPDATE_COMPATIBLE,
};

static bool vfio_pci_liveupdate_registered;

/* After the driver is registered, so that incoming devices are bound */
void vfio_pci_liveupdate_init(const struct vfio_device_ops *ops)
{
	int ret;

	if (!liveupdate_enabled())
		return;

	vfio_pci_liveupdate_ops = ops;
	ret = liveupdate_register_file_handler(&vfio_pci_liveupdate_handler);
	if (ret)
		goto err;

	ret = pci_liveupdate_register(&vfio_pci_liveupdate_handler);
	if (ret)
		goto err_unregister;

	vfio_pci_liveupdate_registered = true;

	return;

err_unregister:
	liveupdate_unregister_file_handler(&vfio_pci_liveupdate_handler);
err:
	pr_err("live update: no device can be preserved or retrieved (%pe)\n",
	       ERR_PTR(ret));
}

void vfio_pci_liveupdate_cleanup(void)
{
	if (!vfio_pci_liveupdate_registered)
		return;

	pci_liveupdate_unregister(&vfio_pci_liveupdate_handler);
	liveupdate_unregister_file_handler(&vfio_pci_liveupdate_handler);
}
