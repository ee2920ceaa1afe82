// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: vfio-pci device files in a Live Update
 *
 * vfio-pci's handler for LUO, the Live Update Orchestrator: user space puts the
 * file of a vfio-pci device into a session, and gets a file of the same device
 * from that session in the next kernel.
 *
 * A device crosses in one of two modes, which preserve decides and logs: in
 * **running mode** if the page table that it is attached to is preserved in the
 * same session, and else in **idle mode**::
 *
 *                 idle mode                       running mode
 *   preserve      in PCI's list                   in PCI's and the IOMMU's lists
 *   block, drain  users are kept off
 *   check         -EINVAL with interrupts enabled, unless they go along
 *   freeze        stopped, reset, clean config    interrupts are masked, config space
 *                                                 is read-only
 *   kexec         bus mastering is off            DMA goes on
 *   probe         reserved for the session
 *   retrieve      opened without a reset          opened without a write
 *   finish        an ordinary device again
 *
 * Restrictions:
 *
 * - The file was opened from the VFIO character device and is bound to an iommufd.
 * - Devices of other VFIO drivers, and Intel's display devices, which need tables of
 *   the firmware and other devices with them, are declined.
 * - A virtual function whose physical one is vfio-pci's is preserved in the same session
 *   as that, after it. That one runs, and has the same token in the next kernel.
 * - Interrupts have to be disabled before freeze, or the device's user has to say that
 *   they go along: that is in vfio_pci_liveupdate_irqs.c.
 * - What else keeps a device from either mode is in drivers/pci/liveupdate_check.c.
 *
 * preserve
 *   The PCI core keeps the device and the bridges above it. Written down are the
 *   device's numbers, whether a function reset works on it and, in running mode,
 *   the clean configuration that was saved when it was opened. Nothing is done
 *   to the device, user space goes on using it. In running mode it can be
 *   attached to no other page tables from now on, and INTx is disabled whenever
 *   its user does not have it enabled.
 *
 * block
 *   User space loses access to the device, but for BARs that it has mapped.
 *
 * drain
 *   Calls of users that are under way are waited for, two seconds at most.
 *
 * check
 *   Nobody could receive the device's interrupts any more, so freeze is refused with
 *   -EINVAL while any preserved device has interrupts enabled that do not go along.
 *   If nobody but the session has the device's file, then nobody receives them now,
 *   either, and freeze turns them off, unless they go along. With vfio-pci's parameter
 *   liveupdate_silence nobody's interrupts refuse it: they go along, or are turned off.
 *   Other things that refuse it are found here, too, so that no device was touched when
 *   one of them refuses.
 *
 * freeze, idle mode
 *   BAR mappings and dma-bufs are revoked, and the device goes back to the clean
 *   state that was saved when it was opened: bus mastering off first, then
 *   waiting for its transactions, so that the reset does not cut one off, then
 *   the function reset, then the saved configuration. A device that cannot be
 *   reset crosses without: that is logged at preserve.
 *
 * freeze, running mode
 *   User space keeps its mappings of the BARs; they go with the process. From
 *   here on the kernel itself cannot write to the device's configuration space.
 *
 * unfreeze
 *   The jump is off and access is given back. In idle mode configuration space
 *   is put back as the user had it: the user finds the device as after
 *   VFIO_DEVICE_RESET. In running mode the user finds it as it was.
 *
 * retrieve
 *   In the next kernel only vfio-pci binds to the device, by itself, and nobody
 *   can open it: -EBUSY, for the character device and for the group. Retrieve
 *   makes the one file that can. Binding it to an iommufd opens the device: in
 *   idle mode without a second reset, in running mode without a single write to
 *   its configuration space. What closing will restore is the clean state, in
 *   running mode the one that the previous kernel has saved.
 *
 * finish
 *   The device is like any other again. Before retrieve, finish is refused. So
 *   it is while a running device uses its restored page table, which iommufd
 *   sees to. One that loses vfio-pci before it is opened waits for it again.
 *
 * Locking: vdev->liveupdate.lock guards vdev->liveupdate.ser against opening the
 * device, and is taken inside of the device set's lock. That one belongs to the
 * users of the set's devices, who can hold it as long as they like; it is only
 * taken by what drivers/vfio/liveupdate.c offers, with a bound.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cleanup.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/iommu.h>
#include <linux/iommu_liveupdate.h>
#include <linux/iommufd_liveupdate.h>
#include <linux/jiffies.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/liveupdate_versions.h>
#include <linux/kho/abi/pci.h>
#include <linux/kho/check/vfio_pci.h>
#include <linux/kho/memory.h>
#include <linux/liveupdate.h>
#include <linux/module.h>
#include <linux/pci_liveupdate.h>
#include <linux/pm_runtime.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/uuid.h>
#include <linux/vfio_liveupdate.h>
#include <uapi/linux/vfio_liveupdate.h>

#include "vfio_pci_liveupdate.h"
#include "vfio_pci_priv.h"

/* For what users of other devices control, as VFIO_LIVEUPDATE_PATIENCE */
#define VFIO_PCI_LIVEUPDATE_PATIENCE	(2 * HZ)

static bool liveupdate_silence;
module_param(liveupdate_silence, bool, 0600);
MODULE_PARM_DESC(liveupdate_silence,
		 "Interrupts that are on do not refuse a live update: they go along, or are turned off");

/* When check gives up, for all devices together: set by the last block */
static unsigned long vfio_pci_liveupdate_deadline;

MODULE_ALIAS("liveupdate-" VFIO_PCI_LIVEUPDATE_COMPATIBLE);
MODULE_IMPORT_NS("IOMMUFD");

/**
 * struct vfio_pci_liveupdate - One preserved file in the outgoing kernel.
 * @vdev:    Its device.
 * @file:    The file; LUO has a reference.
 * @ser:     What crosses.
 * @running: Configuration of the device when it was frozen, for unfreeze.
 * @carries: Interrupts that are on go along, as the last check has found.
 * @user:    Who preserved it: a process, for the log.
 */
struct vfio_pci_liveupdate {
	struct vfio_pci_core_device *vdev;
	struct file *file;
	struct vfio_pci_ser *ser;
	struct pci_saved_state *running;
	bool carries;
	char user[TASK_COMM_LEN + sizeof("[4194304]")];
};

/* Live update is on, and takes files of vfio-pci */
static bool vfio_pci_liveupdate_registered;

/* How vfio-pci's files are told from those of other drivers */
static const struct vfio_device_ops *vfio_pci_liveupdate_ops;

static struct vfio_pci_core_device *
vfio_pci_liveupdate_vdev(struct vfio_device *device)
{
	return container_of(device, struct vfio_pci_core_device, vdev);
}

static bool
vfio_pci_liveupdate_is_running(const struct vfio_pci_liveupdate *lu)
{
	return lu->ser->mode == PCI_SER_MODE_RUNNING;
}

static bool vfio_pci_liveupdate_decline(struct vfio_device *device,
					const char *why)
{
	dev_warn(device->dev, "live update: cannot be preserved: %s (%pe)\n",
		 why, ERR_PTR(-ENOENT));
	return false;
}

static bool vfio_pci_liveupdate_is_display(struct pci_dev *pdev)
{
	return pdev->vendor == PCI_VENDOR_ID_INTEL &&
	       pdev->class >> 16 == PCI_BASE_CLASS_DISPLAY;
}

static bool vfio_pci_liveupdate_can_preserve(struct liveupdate_file_handler *fh,
					     struct file *file)
{
	struct vfio_device *device = vfio_liveupdate_device(file);

	if (!device) {
		if (vfio_file_is_valid(file))
			pr_warn("live update: a VFIO group and files from it cannot be preserved (%pe)\n",
				ERR_PTR(-ENOENT));
		return false;
	}

	if (device->ops != vfio_pci_liveupdate_ops)
		return vfio_pci_liveupdate_decline(device,
						   "its driver takes no part");

	if (vfio_pci_liveupdate_is_display(to_pci_dev(device->dev)))
		return vfio_pci_liveupdate_decline(device,
						   "is an Intel display device");

	return true;
}

/*
 * Is there something about a device of vfio-pci, whether it is open or not? Also
 * called without the device lock, see &struct pci_liveupdate_driver.
 */
static enum pci_liveupdate_why
vfio_pci_liveupdate_check_device(struct pci_dev *pdev)
{
	if (vfio_pci_liveupdate_is_display(pdev))
		return PCI_LIVEUPDATE_DISPLAY;

	/* VFIO registers no other device with an IOMMU than a coherent one */
	if (!device_iommu_capable(&pdev->dev, IOMMU_CAP_CACHE_COHERENCY))
		return PCI_LIVEUPDATE_INCOHERENT;

	return PCI_LIVEUPDATE_YES;
}

/* How vfio-pci's devices are told from those of other drivers */
static struct pci_liveupdate_driver vfio_pci_liveupdate_driver = {
	.check = vfio_pci_liveupdate_check_device,
};

static int vfio_pci_liveupdate_check(struct vfio_pci_core_device *vdev,
				     const char **text)
{
	enum pci_liveupdate_why why = vfio_pci_liveupdate_check_device(vdev->pdev);

	*text = pci_liveupdate_why_text(why);
	if (why)
		return pci_liveupdate_why_error(why);

	*text = "its clean state could not be saved";
	if (!vdev->pci_saved_state)
		return -ENOMEM;

	return 0;
}

static int vfio_pci_liveupdate_refuse_preserve(struct vfio_pci_core_device *vdev,
					       int err, const char *why)
{
	pci_warn(vdev->pdev, "live update: cannot be preserved: %s (%pe)\n", why,
		 ERR_PTR(err));
	return err;
}

/*
 * A virtual function goes with its physical one. Both are in one session, whose files
 * come and go one by one, the last first.
 */
static int vfio_pci_liveupdate_check_file(struct vfio_pci_core_device *vdev,
					  struct liveupdate_file_op_args *args)
{
	struct vfio_pci_core_device *pf = vdev->sriov_pf_core_dev;
	const char *why;
	int ret;

	if (!vfio_liveupdate_file_bound(args->file)) {
		why = "the file is not bound to an iommufd";
		ret = -EINVAL;
	} else if (pf && READ_ONCE(pf->liveupdate.files) != args->files) {
		why = "its physical function is not preserved in this session";
		ret = -ENOENT;
	} else {
		ret = vfio_pci_liveupdate_check(vdev, &why);
	}

	return ret ? vfio_pci_liveupdate_refuse_preserve(vdev, ret, why) : 0;
}

/*
 * Running mode if the page tables can go along, else idle mode and @why. Whoever
 * has marked the device's page table wants it to run on, and would lose what the
 * device does if it did not: then it is an error.
 */
static int vfio_pci_liveupdate_get_mode(struct vfio_pci_core_device *vdev,
					const struct luo_file_set *files,
					enum pci_liveupdate_state *mode,
					const char **why)
{
	int ret;

	ret = vfio_liveupdate_pin(&vdev->vdev, why);
	if (ret)
		return vfio_pci_liveupdate_refuse_preserve(vdev, ret, *why);

	*mode = PCI_LIVEUPDATE_RUNNING;
	ret = iommu_liveupdate_preserve_device(&vdev->pdev->dev, files, why);
	if (!ret)
		return 0;

	*mode = PCI_LIVEUPDATE_IDLE;
	if (!iommufd_liveupdate_marked(vdev->vdev.iommufd_device))
		ret = 0;
	else
		pci_warn(vdev->pdev,
			 "live update: cannot be preserved: its page table is marked, but %s (%pe)\n",
			 *why, ERR_PTR(ret));
	vfio_liveupdate_unpin(&vdev->vdev);

	return ret;
}

static void vfio_pci_liveupdate_put_mode(struct vfio_pci_core_device *vdev,
					 enum pci_liveupdate_state mode)
{
	if (mode != PCI_LIVEUPDATE_RUNNING)
		return;

	iommu_liveupdate_unpreserve_device(&vdev->pdev->dev);
	vfio_liveupdate_unpin(&vdev->vdev);
}

/*
 * INTx has a handler while its user has it enabled. At all other times VFIO leaves it
 * enabled and unhandled. That is no matter for long as a rule, but a device that
 * runs through an update would raise it through the whole boot of the next kernel,
 * and whoever shares the line would lose it to "nobody cared".
 */
static void vfio_pci_liveupdate_set_intx(struct vfio_pci_core_device *vdev,
					 enum pci_liveupdate_state mode,
					 bool enable)
{
	guard(mutex)(&vdev->igate);

	if (mode == PCI_LIVEUPDATE_RUNNING && vdev->pci_2_3 &&
	    vdev->irq_type == VFIO_PCI_NUM_IRQS)
		pci_intx(vdev->pdev, enable && !vdev->virq_disabled);
}

static void vfio_pci_liveupdate_write_down(struct vfio_pci_core_device *vdev,
					   enum pci_liveupdate_state mode,
					   struct vfio_pci_ser *ser)
{
	ser->domain = pci_domain_nr(vdev->pdev->bus);
	ser->bdf = pci_dev_id(vdev->pdev);
	ser->mode = PCI_SER_MODE_IDLE;
	if (vdev->reset_works)
		ser->flags |= VFIO_PCI_SER_RESET_WORKS;

	if (mode == PCI_LIVEUPDATE_RUNNING) {
		ser->mode = PCI_SER_MODE_RUNNING;
		pci_liveupdate_pack_state(vdev->pci_saved_state, &ser->clean);
	}
}

static void vfio_pci_liveupdate_log_mode(struct vfio_pci_liveupdate *lu,
					 const char *why)
{
	struct pci_dev *pdev = lu->vdev->pdev;

	if (vfio_pci_liveupdate_is_running(lu)) {
		pci_info(pdev, "live update: preserved, running mode\n");
		return;
	}

	if (!lu->vdev->reset_works)
		pci_warn(pdev, "live update: cannot be reset, will cross with bus mastering off only\n");
	pci_info(pdev, "live update: preserved, idle mode: %s\n", why);
}

static int vfio_pci_liveupdate_preserve(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_core_device *vdev =
		vfio_pci_liveupdate_vdev(vfio_liveupdate_device(args->file));
	enum pci_liveupdate_state mode;
	struct vfio_pci_liveupdate *lu;
	const char *why = NULL;
	int ret;

	ret = vfio_pci_liveupdate_check_file(vdev, args);
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

	ret = vfio_pci_liveupdate_get_mode(vdev, args->files, &mode, &why);
	if (ret)
		goto err_free_ser;

	ret = pci_liveupdate_preserve(vdev->pdev, mode);
	if (ret)
		goto err_put_mode;

	vfio_pci_liveupdate_set_intx(vdev, mode, false);
	WRITE_ONCE(vdev->liveupdate.files, args->files);
	lu->vdev = vdev;
	lu->file = args->file;
	snprintf(lu->user, sizeof(lu->user), "%s[%d]", current->comm,
		 task_tgid_nr(current));
	vfio_pci_liveupdate_write_down(vdev, mode, lu->ser);

	args->serialized_data = virt_to_phys(lu->ser);
	args->private_data = lu;
	vfio_pci_liveupdate_log_mode(lu, why);

	return 0;

err_put_mode:
	vfio_pci_liveupdate_put_mode(vdev, mode);
err_free_ser:
	kho_unpreserve_free(lu->ser);
err_free:
	kfree(lu);
	return ret;
}

static void vfio_pci_liveupdate_unpreserve(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_liveupdate *lu = args->private_data;
	enum pci_liveupdate_state mode = pci_liveupdate_outgoing(lu->vdev->pdev);

	WRITE_ONCE(lu->vdev->liveupdate.files, NULL);
	pci_liveupdate_unpreserve(lu->vdev->pdev);
	vfio_pci_liveupdate_set_intx(lu->vdev, mode, true);
	vfio_pci_liveupdate_put_mode(lu->vdev, mode);
	pci_info(lu->vdev->pdev, "live update: no longer preserved\n");
	kho_unpreserve_free(lu->ser);
	kfree(lu);
}

/*
 * Does only the session still have the file? That is what a service leaves that
 * crashed, while the service manager keeps its session.
 */
static bool vfio_pci_liveupdate_is_orphan(struct vfio_pci_liveupdate *lu)
{
	return file_count(lu->file) == 1;
}

/*
 * Do interrupts that are on go along? So they do if the device's user says that, or if
 * the administrator does not want one user to refuse the update for all. In idle mode
 * the device is reset, and INTx that cannot be disabled could be raised by the device
 * through the next kernel's boot.
 */
static bool vfio_pci_liveupdate_carries(struct vfio_pci_liveupdate *lu)
{
	struct vfio_pci_core_device *vdev = lu->vdev;
	bool silence = READ_ONCE(liveupdate_silence) &&
		       !vfio_pci_liveupdate_is_orphan(lu);

	return (vdev->liveupdate.carry || silence) &&
	       vfio_pci_liveupdate_is_running(lu) &&
	       (vdev->irq_type != VFIO_PCI_INTX_IRQ_INDEX || vdev->pci_2_3);
}

/*
 * Nobody receives the interrupts of an orphan, and nobody could turn them off. Those of
 * others are turned off where they cannot go along, and the administrator wants it.
 */
static int vfio_pci_liveupdate_silence(struct vfio_pci_liveupdate *lu)
{
	struct vfio_pci_core_device *vdev = lu->vdev;

	guard(mutex)(&vdev->igate);

	if (vdev->irq_type == VFIO_PCI_NUM_IRQS)
		return 0;

	if (vfio_pci_liveupdate_is_orphan(lu))
		pci_info(vdev->pdev, "live update: its user is gone, interrupts are turned off\n");
	else
		pci_warn(vdev->pdev, "live update: interrupts are turned off that were left on (preserved by %s)\n",
			 lu->user);

	return vfio_pci_set_irqs_ioctl(vdev, VFIO_IRQ_SET_DATA_NONE |
				       VFIO_IRQ_SET_ACTION_TRIGGER,
				       vdev->irq_type, 0, 0, NULL);
}

static int vfio_pci_liveupdate_refuse_freeze(struct vfio_pci_liveupdate *lu,
					     int err, const char *why)
{
	pci_err(lu->vdev->pdev, "Freeze failed! %s (preserved by %s) (%pe)\n",
		why, lu->user, ERR_PTR(err));
	return err;
}

/* What is against freezing the device: its user cannot change it any more. */
static int vfio_pci_liveupdate_check_freeze(struct vfio_pci_liveupdate *lu)
{
	struct vfio_pci_core_device *vdev = lu->vdev;

	lu->carries = vfio_pci_liveupdate_carries(lu);
	if (vdev->irq_type != VFIO_PCI_NUM_IRQS && !lu->carries &&
	    !vfio_pci_liveupdate_is_orphan(lu) && !READ_ONCE(liveupdate_silence))
		return vfio_pci_liveupdate_refuse_freeze(lu, -EINVAL,
							 "Interrupts are still enabled.");

	/* To wake it is to touch it, and asleep it does no DMA anyway */
	if (vfio_pci_liveupdate_is_running(lu) &&
	    (vdev->pdev->current_state != PCI_D0 || vdev->pm_runtime_engaged))
		return vfio_pci_liveupdate_refuse_freeze(lu, -EINVAL,
							 "It is in a low-power state.");

	return 0;
}

/* pci_dev_lock() of the device and the bridge above it, without waiting */
static bool vfio_pci_liveupdate_trylock(struct pci_dev *pdev,
					struct pci_dev *bridge)
{
	if (bridge && !pci_dev_trylock(bridge))
		return false;
	if (pci_dev_trylock(pdev))
		return true;
	if (bridge)
		pci_dev_unlock(bridge);

	return false;
}

/*
 * Take the device's lock for a moment, and reset it if told to. Not
 * pci_try_reset_function(), which would save the present configuration.
 *
 * Also without a reset: who holds the device lock now may be waiting for the file
 * to be closed, and device_shutdown() would wait for the lock. Users of devices
 * below the same bridge hold the bridge's lock while they reset theirs: they are
 * waited for, with a bound.
 */
static int vfio_pci_liveupdate_reset(struct vfio_pci_core_device *vdev,
				     bool reset, unsigned long end)
{
	struct pci_dev *pdev = vdev->pdev;
	struct pci_dev *bridge = pci_upstream_bridge(pdev);
	int ret = 0;

	while (!vfio_pci_liveupdate_trylock(pdev, bridge)) {
		if (time_after(jiffies, end))
			return -EAGAIN;
		fsleep(USEC_PER_MSEC);
	}

	if (reset)
		ret = __pci_reset_function_locked(pdev);
	pci_dev_unlock(pdev);
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
		ret = vfio_pci_liveupdate_reset(vdev, vdev->reset_works,
						jiffies + VFIO_PCI_LIVEUPDATE_PATIENCE);
	}
	if (ret)
		pci_load_and_free_saved_state(pdev, &lu->running);
	pci_restore_state(pdev);

	return ret;
}

static int vfio_pci_liveupdate_block(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_liveupdate *lu = args->private_data;

	/* Draining may take as long as one bound, and then check another */
	vfio_pci_liveupdate_deadline = jiffies + 2 * VFIO_PCI_LIVEUPDATE_PATIENCE;
	/* A running device that sleeps is refused, and none falls asleep now */
	pm_runtime_get_noresume(&lu->vdev->pdev->dev);
	vfio_liveupdate_block(&lu->vdev->vdev);

	return 0;
}

static void vfio_pci_liveupdate_unblock(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_liveupdate *lu = args->private_data;

	vfio_liveupdate_unblock(&lu->vdev->vdev);
	pm_runtime_put(&lu->vdev->pdev->dev);
}

static int vfio_pci_liveupdate_drain(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_liveupdate *lu = args->private_data;
	const char *why;
	int ret;

	ret = vfio_liveupdate_drain(&lu->vdev->vdev, &why);

	return ret ? vfio_pci_liveupdate_refuse_freeze(lu, ret, why) : 0;
}

static int vfio_pci_liveupdate_check_one(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_liveupdate *lu = args->private_data;
	const char *why;
	int ret;

	ret = vfio_pci_liveupdate_check_freeze(lu);
	if (ret)
		return ret;

	ret = vfio_pci_liveupdate_reset(lu->vdev, false,
					vfio_pci_liveupdate_deadline);
	if (ret)
		return vfio_pci_liveupdate_refuse_freeze(lu, ret,
							 "It is being unbound or removed, or something below the same bridge is.");

	ret = pci_liveupdate_check_freeze(lu->vdev->pdev, vfio_pci_liveupdate_deadline,
					  &why);

	return ret ? vfio_pci_liveupdate_refuse_freeze(lu, ret, why) : 0;
}

/* The BARs can be reached again, as the user had them. */
static void vfio_pci_liveupdate_give_back(struct vfio_pci_core_device *vdev)
{
	lockdep_assert_held_write(&vdev->memory_lock);

	WRITE_ONCE(vdev->liveupdate.quiesced, false);
	if (__vfio_pci_memory_enabled(vdev) && !vdev->pm_runtime_engaged)
		vfio_pci_dma_buf_move(vdev, false);
}

static int vfio_pci_liveupdate_freeze_idle(struct vfio_pci_liveupdate *lu)
{
	struct vfio_pci_core_device *vdev = lu->vdev;
	int ret;

	/* block() has a reference already */
	ret = pm_runtime_resume(&vdev->pdev->dev);
	if (ret < 0)
		return vfio_pci_liveupdate_refuse_freeze(lu, ret,
							 "Could not be woken.");

	vfio_pci_zap_and_down_write_memory_lock(vdev);
	WRITE_ONCE(vdev->liveupdate.quiesced, true);
	/* ioeventfds of I/O ports are written to in RCU read-side sections */
	if (vdev->ioeventfds_nr)
		synchronize_rcu();
	vfio_pci_dma_buf_move(vdev, true);
	ret = vfio_pci_liveupdate_quiesce(lu);
	if (ret)
		vfio_pci_liveupdate_give_back(vdev);
	up_write(&vdev->memory_lock);
	if (ret)
		return vfio_pci_liveupdate_refuse_freeze(lu, ret,
							 "Could not be quiesced.");

	return 0;
}

/* The device is not touched, and from here on by nobody. */
static int vfio_pci_liveupdate_freeze_running(struct vfio_pci_liveupdate *lu)
{
	/* Since check only root can have done that, by a reset in sysfs */
	if (iommu_liveupdate_any_spoiled())
		return vfio_pci_liveupdate_refuse_freeze(lu, -EINVAL,
							 "A BAR was taken out of a preserved page table.");

	/* It is, unless the user turned INTx on in the command register since */
	vfio_pci_liveupdate_set_intx(lu->vdev, PCI_LIVEUPDATE_RUNNING, false);
	vfio_pci_liveupdate_mask_irqs(lu->vdev, &lu->ser->irqs);
	pci_liveupdate_set_read_only(lu->vdev->pdev, true);

	return 0;
}

/* The token of its virtual functions, which nobody changes any more */
static void vfio_pci_liveupdate_give_token(struct vfio_pci_core_device *vdev,
					   struct vfio_pci_ser *ser)
{
	if (!vdev->vf_token)
		return;

	guard(mutex)(&vdev->vf_token->lock);
	export_uuid(ser->vf_token, &vdev->vf_token->uuid);
	ser->flags |= VFIO_PCI_SER_VF_TOKEN;
}

static int vfio_pci_liveupdate_freeze(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_liveupdate *lu = args->private_data;
	struct pci_dev *pdev = lu->vdev->pdev;
	bool running = vfio_pci_liveupdate_is_running(lu);
	int ret = 0;

	vfio_pci_liveupdate_give_token(lu->vdev, lu->ser);
	if (!lu->carries)
		ret = vfio_pci_liveupdate_silence(lu);
	else if (!lu->vdev->liveupdate.carry && lu->vdev->irq_type != VFIO_PCI_NUM_IRQS)
		pci_warn(pdev, "live update: interrupts go along that were left on (preserved by %s)\n",
			 lu->user);
	if (!ret)
		ret = running ? vfio_pci_liveupdate_freeze_running(lu) :
				vfio_pci_liveupdate_freeze_idle(lu);
	if (ret)
		return ret;

	pci_info(pdev, "live update: frozen, %s mode\n",
		 running ? "running" : "idle");

	return 0;
}

static void vfio_pci_liveupdate_unfreeze(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_liveupdate *lu = args->private_data;
	struct vfio_pci_core_device *vdev = lu->vdev;
	bool running = vfio_pci_liveupdate_is_running(lu);

	if (running) {
		pci_liveupdate_set_read_only(vdev->pdev, false);
		vfio_pci_liveupdate_unmask_irqs(vdev, &lu->ser->irqs);
	} else {
		down_write(&vdev->memory_lock);
		pci_load_and_free_saved_state(vdev->pdev, &lu->running);
		pci_restore_state(vdev->pdev);
		vfio_pci_liveupdate_give_back(vdev);
		up_write(&vdev->memory_lock);
	}

	pci_info(vdev->pdev, "live update: unfrozen, device %s\n",
		 running ? "runs on" : "was reset");
}

/*
 * A running device that was unbound waits for its driver. Its owner need not wait
 * for whoever unbound it: it can be bound to no other driver, and is bound now. So is
 * a virtual function that waited for its physical one.
 */
static void vfio_pci_liveupdate_rebind(const struct vfio_pci_ser *ser)
{
	struct pci_dev *pdev;

	pdev = pci_get_domain_bus_and_slot(ser->domain, PCI_BUS_NUM(ser->bdf),
					   ser->bdf & 0xff);
	if (pdev && pci_liveupdate_incoming(pdev) &&
	    (pdev->is_virtfn ||
	     pci_liveupdate_incoming(pdev) == PCI_LIVEUPDATE_RUNNING) &&
	    device_attach(&pdev->dev) < 0)
		pci_warn(pdev, "live update: its driver does not take it\n");
	pci_dev_put(pdev);
}

/* Find the incoming device; on success its device lock is held, and itself. */
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
	/* Whose driver data is it? A device with other IDs may sit there now. */
	if (pdev->dev.driver == vfio_pci_liveupdate_driver.driver) {
		vdev = dev_get_drvdata(&pdev->dev);
		if (vdev->liveupdate.incoming)
			return vdev;
	}
	device_unlock(&pdev->dev);
	pci_dev_put(pdev);

	return NULL;
}

static void vfio_pci_liveupdate_unlock(struct vfio_pci_core_device *vdev)
{
	struct pci_dev *pdev = vdev->pdev;

	device_unlock(&pdev->dev);
	pci_dev_put(pdev);
}

static int vfio_pci_liveupdate_refuse(const struct vfio_pci_ser *ser, int err,
				      const char *why)
{
	pr_err("live update: %04x:%02x:%02x.%x was preserved, but %s (%pe)\n",
	       ser->domain, PCI_BUS_NUM(ser->bdf), PCI_SLOT(ser->bdf),
	       PCI_FUNC(ser->bdf), why, ERR_PTR(err));
	return err;
}

/* What was handed over, or NULL when it is broken */
static const struct vfio_pci_ser *
vfio_pci_liveupdate_ser(struct liveupdate_file_op_args *args)
{
	const struct vfio_pci_ser *ser = kho_peek(args->serialized_data,
						  sizeof(*ser));
	const char *why;

	if (!ser) {
		pr_err("live update: handover data of a device is not in preserved memory\n");
		return NULL;
	}

	why = vfio_pci_ser_check(ser);
	if (!why)
		return ser;

	vfio_pci_liveupdate_refuse(ser, -EINVAL, why);

	return NULL;
}

/*
 * Closing the device restores the clean configuration: is it one of this device?
 * Its IDs and BARs are what they were.
 */
static bool vfio_pci_liveupdate_fits(struct pci_dev *pdev,
				     const struct vfio_pci_ser *ser)
{
	if (ser->mode != PCI_SER_MODE_RUNNING)
		return true;

	for (int reg = 0; reg <= PCI_BASE_ADDRESS_5; reg += 4) {
		u32 now;

		if (reg && reg < PCI_BASE_ADDRESS_0)
			continue;
		if (pci_read_config_dword(pdev, reg, &now) ||
		    now != ser->clean.header[reg / 4])
			return false;
	}

	return true;
}

/* Does the device come in the mode that its file was preserved in? */
static bool vfio_pci_liveupdate_agrees(struct vfio_pci_core_device *vdev,
				       const struct vfio_pci_ser *ser)
{
	return pci_liveupdate_incoming(vdev->pdev) ==
	       (ser->mode == PCI_SER_MODE_RUNNING ? PCI_LIVEUPDATE_RUNNING :
						    PCI_LIVEUPDATE_IDLE);
}

/* Who opens a virtual function has to know the same token as before. */
static void vfio_pci_liveupdate_take_token(struct vfio_pci_core_device *vdev,
					   const struct vfio_pci_ser *ser)
{
	if (!vdev->vf_token || !(ser->flags & VFIO_PCI_SER_VF_TOKEN))
		return;

	guard(mutex)(&vdev->vf_token->lock);
	import_uuid(&vdev->vf_token->uuid, ser->vf_token);
}

static int vfio_pci_liveupdate_open(struct vfio_pci_core_device *vdev,
				    const struct vfio_pci_ser *ser,
				    struct liveupdate_file_op_args *args)
{
	struct file *file;
	int ret;

	if (!vfio_pci_liveupdate_agrees(vdev, ser))
		return vfio_pci_liveupdate_refuse(ser, -EINVAL,
						  "the PCI core has it in another mode");

	if (vdev->liveupdate.ser)
		return vfio_pci_liveupdate_refuse(ser, -EEXIST,
						  "is in a session twice");

	if (!vfio_pci_liveupdate_fits(vdev->pdev, ser))
		return vfio_pci_liveupdate_refuse(ser, -EINVAL,
						  "with the configuration of another device");

	ret = vfio_pci_liveupdate_irqs_came(vdev, &ser->irqs);
	if (ret)
		return vfio_pci_liveupdate_refuse(ser, ret,
						  "with interrupts that are not there");

	file = vfio_liveupdate_open(&vdev->vdev);
	if (IS_ERR(file))
		return PTR_ERR(file);

	/* It is needed until finish: no other file may free it before */
	if (!kho_take(args->serialized_data, sizeof(*ser))) {
		fput(file);
		return -EINVAL;
	}

	scoped_guard(vfio_pci_liveupdate_opening, vdev)
		vdev->liveupdate.ser = ser;
	vfio_pci_liveupdate_take_token(vdev, ser);
	args->file = file;
	pci_info(vdev->pdev, "live update: retrieved, %s mode\n",
		 ser->mode == PCI_SER_MODE_RUNNING ? "running" : "idle");

	return 0;
}

static int vfio_pci_liveupdate_retrieve(struct liveupdate_file_op_args *args)
{
	const struct vfio_pci_ser *ser = vfio_pci_liveupdate_ser(args);
	struct vfio_pci_core_device *vdev;
	int ret;

	if (!ser)
		return -EINVAL;

	vfio_pci_liveupdate_rebind(ser);
	vdev = vfio_pci_liveupdate_lock_incoming(ser);
	if (!vdev)
		return vfio_pci_liveupdate_refuse(ser, -ENODEV,
						  "there is no such device bound to vfio-pci");

	ret = vfio_pci_liveupdate_open(vdev, ser, args);
	vfio_pci_liveupdate_unlock(vdev);

	return ret;
}

static bool vfio_pci_liveupdate_can_finish(struct liveupdate_file_op_args *args)
{
	/* A device that could not be retrieved never can be: let it go. */
	return args->retrieve_status != 0;
}

/* The device is not the live update's any more. */
static void vfio_pci_liveupdate_let_go(struct vfio_pci_core_device *vdev)
{
	if (!vdev->liveupdate.incoming)
		return;

	WRITE_ONCE(vdev->liveupdate.incoming, false);
	pm_runtime_put(&vdev->pdev->dev);
	if (vdev->liveupdate.with_vfs)
		module_put(THIS_MODULE);
	vdev->liveupdate.with_vfs = false;
}

static void vfio_pci_liveupdate_finish(struct liveupdate_file_op_args *args)
{
	const struct vfio_pci_ser *ser;
	struct vfio_pci_core_device *vdev = NULL;
	bool retrieved = args->retrieve_status > 0;

	/*
	 * The file keeps a retrieved device from being unbound. Its device lock
	 * may be held by somebody who waits for just this file to be closed.
	 */
	if (retrieved) {
		vdev = vfio_pci_liveupdate_vdev(vfio_liveupdate_device(args->file));
		ser = vdev->liveupdate.ser;
	} else {
		ser = vfio_pci_liveupdate_ser(args);
		if (ser)
			vdev = vfio_pci_liveupdate_lock_incoming(ser);
	}

	if (vdev && !retrieved && vdev->liveupdate.ser) {
		/* Another file says that it has the same device, and was first */
		vfio_pci_liveupdate_unlock(vdev);
	} else if (vdev) {
		/* Opened before this, a running device runs on; after, it is reset */
		scoped_guard(vfio_pci_liveupdate_opening, vdev) {
			vdev->liveupdate.ser = NULL;
			pci_liveupdate_finish(pci_domain_nr(vdev->pdev->bus),
					      pci_dev_id(vdev->pdev));
		}
		vfio_pci_liveupdate_let_go(vdev);
		vfio_liveupdate_release(&vdev->vdev);
		pci_info(vdev->pdev, "live update: finished\n");
		if (!retrieved)
			vfio_pci_liveupdate_unlock(vdev);
	} else if (ser) {
		pci_liveupdate_finish(ser->domain, ser->bdf);
	}

	if (retrieved)
		kho_taken_free((void *)ser);
	else if (ser)
		kho_restore_free((void *)ser);
}

static const struct vfio_pci_ser *
vfio_pci_liveupdate_data(struct liveupdate_file_op_args *args)
{
	const struct vfio_pci_liveupdate *outgoing = args->private_data;

	if (outgoing)
		return outgoing->ser;

	if (args->retrieve_status > 0)
		return vfio_pci_liveupdate_vdev(vfio_liveupdate_device(args->file))->liveupdate.ser;

	return kho_peek(args->serialized_data, sizeof(struct vfio_pci_ser));
}

static void vfio_pci_liveupdate_describe(struct liveupdate_file_op_args *args,
					 struct seq_file *m)
{
	const struct vfio_pci_ser *ser = vfio_pci_liveupdate_data(args);

	if (ser)
		seq_printf(m, "%04x:%02x:%02x.%x", ser->domain,
			   PCI_BUS_NUM(ser->bdf), PCI_SLOT(ser->bdf),
			   PCI_FUNC(ser->bdf));
}

static u32 vfio_pci_liveupdate_mode(enum pci_liveupdate_state state)
{
	switch (state) {
	case PCI_LIVEUPDATE_IDLE:
		return VFIO_LIVEUPDATE_MODE_IDLE;
	case PCI_LIVEUPDATE_RUNNING:
		return VFIO_LIVEUPDATE_MODE_RUNNING;
	default:
		return 0;
	}
}

/* The modes that the device can be preserved in, and why not in running mode */
static void
vfio_pci_liveupdate_ask(struct vfio_pci_core_device *vdev,
			struct vfio_device_feature_liveupdate *info)
{
	const char *why;
	int ret;

	ret = vfio_pci_liveupdate_check(vdev, &why);
	if (!ret)
		ret = pci_liveupdate_can_preserve(vdev->pdev, PCI_LIVEUPDATE_RUNNING);
	if (ret) {
		info->error = -ret;
		info->reason = VFIO_LIVEUPDATE_REASON_DEVICE;
		return;
	}

	if (!pci_liveupdate_can_preserve(vdev->pdev, PCI_LIVEUPDATE_IDLE))
		info->modes = VFIO_LIVEUPDATE_MODE_IDLE;
	if (IS_ENABLED(CONFIG_IOMMU_LIVEUPDATE))
		info->modes |= VFIO_LIVEUPDATE_MODE_RUNNING;

	ret = iommu_liveupdate_check_device(&vdev->pdev->dev, &why);
	if (ret == -EOPNOTSUPP)
		info->reason = VFIO_LIVEUPDATE_REASON_KERNEL;
	else if (ret)
		info->reason = VFIO_LIVEUPDATE_REASON_DOMAIN;
}

/* VFIO_DEVICE_FEATURE_LIVEUPDATE, see the uapi header */
static int vfio_pci_liveupdate_get(struct vfio_pci_core_device *vdev, u32 flags,
				   void __user *arg, size_t argsz)
{
	struct vfio_device_feature_liveupdate info = {};
	struct pci_dev *pdev = vdev->pdev;
	int ret;

	ret = vfio_check_feature(flags, argsz, VFIO_DEVICE_FEATURE_GET,
				 sizeof(info));
	if (ret != 1)
		return ret;

	vfio_pci_liveupdate_ask(vdev, &info);

	if (pci_liveupdate_outgoing(pdev)) {
		info.state = VFIO_LIVEUPDATE_STATE_OUTGOING;
		info.mode = vfio_pci_liveupdate_mode(pci_liveupdate_outgoing(pdev));
	} else if (pci_liveupdate_incoming(pdev)) {
		info.state = VFIO_LIVEUPDATE_STATE_INCOMING;
		info.mode = vfio_pci_liveupdate_mode(pci_liveupdate_incoming(pdev));
	}

	/* It is preserved, and its page tables are only now */
	if (info.mode == VFIO_LIVEUPDATE_MODE_RUNNING)
		info.reason = VFIO_LIVEUPDATE_REASON_NONE;
	else if (info.mode && !info.reason)
		info.reason = VFIO_LIVEUPDATE_REASON_DOMAIN;

	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}

/* device_feature() of vfio-pci: ours, or else its core's */
int vfio_pci_liveupdate_feature(struct vfio_device *device, u32 flags,
				void __user *arg, size_t argsz)
{
	if ((flags & VFIO_DEVICE_FEATURE_MASK) == VFIO_DEVICE_FEATURE_LIVEUPDATE &&
	    vfio_pci_liveupdate_registered)
		return vfio_pci_liveupdate_get(vfio_pci_liveupdate_vdev(device),
					       flags, arg, argsz);
	if ((flags & VFIO_DEVICE_FEATURE_MASK) == VFIO_DEVICE_FEATURE_LIVEUPDATE_IRQS &&
	    vfio_pci_liveupdate_registered)
		return vfio_pci_liveupdate_irqs_feature(vfio_pci_liveupdate_vdev(device),
							flags, arg, argsz);

	return vfio_pci_core_ioctl_feature(device, flags, arg, argsz);
}

/* probe() of vfio-pci, before the VFIO core shows the device to anybody */
void vfio_pci_liveupdate_probe(struct vfio_pci_core_device *vdev)
{
	mutex_init(&vdev->liveupdate.lock);
	if (!pci_liveupdate_incoming(vdev->pdev))
		return;

	vdev->liveupdate.incoming = true;
	vfio_liveupdate_reserve(&vdev->vdev);
	/* Going to D3hot and back would reset many a device once more */
	pm_runtime_get_noresume(&vdev->pdev->dev);
}

/*
 * probe() of vfio-pci, when the VFIO core has the device. If it came with virtual
 * functions, they are VFIO's only, as those are that it enables itself, and go when
 * it is removed: so the module that would remove it stays.
 */
void vfio_pci_liveupdate_adopt_vfs(struct vfio_pci_core_device *vdev)
{
	struct pci_dev *pf = vdev->pdev, *vf = NULL;

	if (!vdev->liveupdate.incoming || !pci_num_vf(pf))
		return;

	while ((vf = pci_get_device(pf->vendor, PCI_ANY_ID, vf))) {
		if (vf->is_virtfn && pci_physfn(vf) == pf &&
		    device_set_driver_override(&vf->dev, vdev->vdev.ops->name))
			pci_warn(vf, "live update: other drivers may have it after finish\n");
	}

	__module_get(THIS_MODULE);
	vdev->liveupdate.with_vfs = true;
	vfio_pci_core_sriov_adopt(vdev);
}

/* remove() of vfio-pci, and failure of its probe() */
void vfio_pci_liveupdate_remove(struct vfio_pci_core_device *vdev)
{
	vfio_pci_liveupdate_let_go(vdev);
	kfree(vdev->liveupdate.irqs);
}

/* All contracts that a running device depends on, ours and Linux's own */
static const char *const vfio_pci_liveupdate_running_needs[] = {
	KHO_LIVEUPDATE_COMPATIBLE,
	LUO_LIVEUPDATE_COMPATIBLE,
	MEMFD_LIVEUPDATE_COMPATIBLE,
	MEMFD_HOLD_LIVEUPDATE_COMPATIBLE,
	PCI_LIVEUPDATE_COMPATIBLE,
	VFIO_PCI_LIVEUPDATE_COMPATIBLE,
	IOMMU_LIVEUPDATE_COMPATIBLE,
	IOMMUFD_LIVEUPDATE_COMPATIBLE,
	NULL
};

/*
 * A device that was stopped does no harm in a kernel that does not know it. But one
 * whose physical function is held does: that one's driver must not have it as it is.
 */
static const char *const *
vfio_pci_liveupdate_needs(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_liveupdate *lu = args->private_data;
	struct pci_dev *pf = pci_physfn(lu->vdev->pdev);

	return vfio_pci_liveupdate_is_running(lu) ||
	       pci_liveupdate_outgoing(pf) == PCI_LIVEUPDATE_HELD ?
	       vfio_pci_liveupdate_running_needs : NULL;
}

static const struct liveupdate_file_ops vfio_pci_liveupdate_file_ops = {
	.can_preserve = vfio_pci_liveupdate_can_preserve,
	.preserve = vfio_pci_liveupdate_preserve,
	.unpreserve = vfio_pci_liveupdate_unpreserve,
	.block = vfio_pci_liveupdate_block,
	.unblock = vfio_pci_liveupdate_unblock,
	.drain = vfio_pci_liveupdate_drain,
	.check = vfio_pci_liveupdate_check_one,
	.freeze = vfio_pci_liveupdate_freeze,
	.unfreeze = vfio_pci_liveupdate_unfreeze,
	.retrieve = vfio_pci_liveupdate_retrieve,
	.can_finish = vfio_pci_liveupdate_can_finish,
	.finish = vfio_pci_liveupdate_finish,
	.describe = vfio_pci_liveupdate_describe,
	.needs = vfio_pci_liveupdate_needs,
	.owner = THIS_MODULE,
};

static struct liveupdate_file_handler vfio_pci_liveupdate_handler = {
	.ops = &vfio_pci_liveupdate_file_ops,
	.compatible = VFIO_PCI_LIVEUPDATE_COMPATIBLE,
};

/* After the driver is registered, so that incoming devices are bound */
void vfio_pci_liveupdate_init(const struct pci_driver *driver,
			      const struct vfio_device_ops *ops)
{
	int ret;

	if (!liveupdate_enabled())
		return;

	vfio_pci_liveupdate_driver.driver = &driver->driver;
	vfio_pci_liveupdate_ops = ops;
	ret = liveupdate_register_file_handler(&vfio_pci_liveupdate_handler);
	if (ret)
		goto err;

	ret = pci_liveupdate_register(&vfio_pci_liveupdate_handler,
				      &vfio_pci_liveupdate_driver);
	if (ret)
		goto err_unregister;

	ret = iommu_liveupdate_register(&vfio_pci_liveupdate_handler);
	if (ret)
		goto err_unregister_pci;

	vfio_pci_liveupdate_registered = true;

	return;

err_unregister_pci:
	pci_liveupdate_unregister(&vfio_pci_liveupdate_handler,
				  &vfio_pci_liveupdate_driver);
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

	iommu_liveupdate_unregister(&vfio_pci_liveupdate_handler);
	pci_liveupdate_unregister(&vfio_pci_liveupdate_handler,
				  &vfio_pci_liveupdate_driver);
	liveupdate_unregister_file_handler(&vfio_pci_liveupdate_handler);
}
