// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: IOMMU domains in a Live Update
 *
 * A device in running mode goes on with its DMA while the kernels change. Its
 * IOMMU unit goes on translating, through the page table of the domain that the
 * device is attached to.
 *
 * No device ever reaches memory that is not its own: this comes before
 * everything else. Where the incoming kernel cannot take over (broken data, no
 * memory, another mode of the unit), the devices would go on with their DMA into
 * memory that is in use: it panics.
 *
 * Outgoing kernel, liveupdate_outgoing.c::
 *
 *   preserve() of an iommufd
 *     iommu_liveupdate_announce_domain()    changes are noticed from now on
 *     iommu_liveupdate_preserve_domain()    its page table, into the lists
 *   preserve() of a device file
 *     iommu_liveupdate_preserve_device()    its group and unit, into the lists
 *   reboot(2)
 *     iommu_liveupdate_freeze_domain()      is it still what was preserved?
 *     iommu_liveupdate_walk_outgoing()      the IOMMU's driver: a unit stays on
 *
 * Incoming kernel, liveupdate_incoming.c and, for what was restored,
 * liveupdate_restored.c::
 *
 *   initialization of the IOMMU's driver
 *     iommu_liveupdate_incoming_unit()      take over the unit's tables
 *   enumeration
 *     iommu_liveupdate_incoming_device()    keep the device's entry
 *     iommu_liveupdate_setup_group()        the group starts in its old domain
 *   before drivers are initialized
 *     iommu_liveupdate_check_devices()      every running device has an owner
 *   retrieve() of the iommufd, bind of its devices
 *     iommu_liveupdate_restored_domain()    validate and take the page table
 *     iommu_liveupdate_claim()              iommufd owns the group's DMA
 *   attach to another domain
 *     iommu_liveupdate_leave_domain()       the entry is out of the lists
 *   finish() of the last file, and no device uses a restored page table
 *     iommu_flb_finish()                    what was given up is freed
 *
 * The lists live in a LUO file-lifecycle-bound object (FLB), which is here.
 *
 * Restrictions:
 *
 * - PCI devices only, and VT-d is the only driver that takes part.
 * - A group crosses as a whole, in one domain, which belongs to one session.
 * - No PASIDs are attached, and no page requests are handled. ATS goes on.
 *
 * Locking: iommu_liveupdate_lock guards the lists. It is taken inside of the
 * lock of an IOMMU group. LUO's lock of the FLB is taken outside of it.
 */

#define pr_fmt(fmt) "iommu: live update: " fmt

#include <linux/cleanup.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/iommu_liveupdate.h>
#include <linux/kexec_handover.h>
#include <linux/kho/memory.h>
#include <linux/liveupdate.h>
#include <linux/mutex.h>
#include <linux/string.h>

#include "liveupdate.h"
#include "liveupdate_lists.h"

/* Guards the lists, see DOC */
DEFINE_MUTEX(iommu_liveupdate_lock);

/* What goes to the next kernel; NULL when nothing does */
struct iommu_ser *iommu_liveupdate_outgoing;

/* What came from the previous kernel, until that is finished */
struct iommu_lists iommu_liveupdate_lists;

/* --- lists ------------------------------------------------------------------ */

static int iommu_array_init(struct iommu_array_ser *array, size_t size)
{
	void *base = kho_alloc_preserve(PAGE_SIZE);

	if (IS_ERR(base))
		return PTR_ERR(base);

	array->base = virt_to_phys(base);
	array->capacity = PAGE_SIZE / size;

	return 0;
}

/* Make room for one more entry at the end. */
static int iommu_array_grow(struct iommu_array_ser *array, size_t size)
{
	void *base;

	if (array->count < array->capacity)
		return 0;
	if (array->capacity >= IOMMU_SER_MAX_CAPACITY / 2)
		return -ENOSPC;

	base = kho_alloc_preserve(2 * array->capacity * size);
	if (IS_ERR(base))
		return PTR_ERR(base);

	memcpy(base, iommu_array(array), array->count * size);
	kho_unpreserve_free(iommu_array(array));
	array->base = virt_to_phys(base);
	array->capacity *= 2;

	return 0;
}

/* An entry that is not in use, which is all zeroes, or room for one at the end */
int iommu_liveupdate_array_add(struct iommu_array_ser *array, size_t size,
			       u32 *index)
{
	const void *entry = iommu_array(array);

	for (*index = 0; *index < array->count; (*index)++, entry += size) {
		if (!memchr_inv(entry, 0, size))
			return 0;
	}

	return iommu_array_grow(array, size);
}

struct iommu_dev_ser *
iommu_liveupdate_find_device(const struct iommu_ser *ser, u32 segment, u16 bdf)
{
	for (u32 i = 0; i < ser->devices.count; i++) {
		struct iommu_dev_ser *entry = iommu_ser_device(ser, i);

		if (entry->state && entry->segment == segment &&
		    entry->bdf == bdf)
			return entry;
	}

	return NULL;
}

struct iommu_unit_ser *
iommu_liveupdate_find_unit(const struct iommu_ser *ser, u64 id)
{
	for (u32 i = 0; i < ser->units.count; i++) {
		struct iommu_unit_ser *unit = iommu_ser_unit(ser, i);

		if (unit->type && unit->id == id)
			return unit;
	}

	return NULL;
}

/* --- the FLB ---------------------------------------------------------------- */

static void iommu_ser_free(struct iommu_ser *ser, void (*free)(void *mem))
{
	if (ser->domains.base)
		free(iommu_array(&ser->domains));
	if (ser->devices.base)
		free(iommu_array(&ser->devices));
	if (ser->units.base)
		free(iommu_array(&ser->units));
	free(ser);
}

static int iommu_flb_preserve(struct liveupdate_flb_op_args *args)
{
	struct iommu_ser *ser = kho_alloc_preserve(sizeof(*ser));
	int ret;

	if (IS_ERR(ser))
		return PTR_ERR(ser);

	ret = iommu_array_init(&ser->domains, sizeof(struct iommu_domain_ser));
	if (!ret)
		ret = iommu_array_init(&ser->devices,
				       sizeof(struct iommu_dev_ser));
	if (!ret)
		ret = iommu_array_init(&ser->units,
				       sizeof(struct iommu_unit_ser));
	if (ret) {
		iommu_ser_free(ser, kho_unpreserve_free);
		return ret;
	}

	scoped_guard(mutex, &iommu_liveupdate_lock)
		iommu_liveupdate_outgoing = ser;
	args->obj = ser;
	args->data = virt_to_phys(ser);

	return 0;
}

static void iommu_flb_unpreserve(struct liveupdate_flb_op_args *args)
{
	scoped_guard(mutex, &iommu_liveupdate_lock)
		iommu_liveupdate_outgoing = NULL;
	iommu_ser_free(args->obj, kho_unpreserve_free);
}

static int iommu_flb_retrieve(struct liveupdate_flb_op_args *args)
{
	struct iommu_ser *ser = kho_take(args->data, sizeof(*ser));
	const char *why = "its head is not in preserved memory";

	if (ser)
		why = iommu_ser_check(ser, kho_take, &iommu_liveupdate_lists);
	if (why) {
		pr_err("handover data is broken: %s\n", why);
		return -EINVAL;
	}

	args->obj = ser;

	return 0;
}

static void iommu_flb_finish(struct liveupdate_flb_op_args *args)
{
	if (!iommu_liveupdate_give_up_devices(args->obj))
		iommu_liveupdate_free_unused();
	iommu_ser_free(args->obj, kho_taken_free);
}

static const struct liveupdate_flb_ops iommu_flb_ops = {
	.preserve = iommu_flb_preserve,
	.unpreserve = iommu_flb_unpreserve,
	.retrieve = iommu_flb_retrieve,
	.finish = iommu_flb_finish,
	.owner = THIS_MODULE,
};

struct liveupdate_flb iommu_liveupdate_flb = {
	.ops = &iommu_flb_ops,
	.compatible = IOMMU_LIVEUPDATE_COMPATIBLE,
};

/**
 * iommu_liveupdate_register() - Make files known that need preserved domains
 * @fh: File handler of iommufd or of a driver, registered with LUO.
 *
 * Context: Process context, may sleep.
 * Return: 0, or what liveupdate_register_flb() returns: -EOPNOTSUPP when live
 * update is off, -ENOMEM, -EEXIST, -ENOSPC.
 */
int iommu_liveupdate_register(struct liveupdate_file_handler *fh)
{
	return liveupdate_register_flb(fh, &iommu_liveupdate_flb);
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_register);

/**
 * iommu_liveupdate_unregister() - Undo iommu_liveupdate_register()
 * @fh: File handler that was registered.
 *
 * Context: Process context, may sleep.
 */
void iommu_liveupdate_unregister(struct liveupdate_file_handler *fh)
{
	liveupdate_unregister_flb(fh, &iommu_liveupdate_flb);
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_unregister);
