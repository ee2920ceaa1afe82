// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: iommufd in a Live Update
 *
 * User space marks hardware page tables (HWPTs) of an iommufd, each with a token,
 * and then preserves the iommufd's file in a session. Devices that are attached to
 * a marked HWPT and preserved after that cross in running mode: their DMA goes on.
 * A device that is attached to a marked HWPT and cannot do so is refused, because
 * its owner relies on it.
 *
 * Outgoing kernel::
 *
 *   IOMMU_HWPT_LIVEUPDATE_MARK            iommufd_liveupdate_mark()
 *   IOMMU_IOAS_LIVEUPDATE_AREAS           iommufd_liveupdate_areas()
 *     what is mapped where, for who preserves what another program has mapped
 *   preserve() of the iommufd's file      iommufd_liveupdate_preserve()
 *     for each marked HWPT
 *       nothing is mapped or unmapped from here on: -EBUSY
 *       each page that it maps is one of a memfd of the session
 *       iommu_liveupdate_preserve_domain()
 *   reboot(2)                             iommufd_liveupdate_check()
 *     each BAR that it maps is one of a preserved running device
 *
 * Incoming kernel::
 *
 *   retrieve()                            iommufd_liveupdate_retrieve()
 *     a new iommufd with the restored HWPTs
 *   IOMMU_HWPT_LIVEUPDATE_FIND            iommufd_liveupdate_find()
 *     a restored HWPT by its token
 *   VFIO_DEVICE_BIND_IOMMUFD              iommufd_liveupdate_claim(), _attach()
 *     the device is where it has been all the time: in its restored HWPT
 *   VFIO_DEVICE_ATTACH_IOMMUFD_PT
 *     to an HWPT of an IOAS that was made of the retrieved memfds: no DMA faults
 *   finish()                              iommufd_liveupdate_can_finish()
 *     -EBUSY while a device is attached to a restored HWPT
 *
 * Preserve looks at every page that a marked HWPT maps, since a page that is not
 * preserved belongs to somebody else in the next kernel, and the device would write
 * to it. A BAR that is unmapped after preserve, because its device was reset or its
 * memory disabled, makes check fail.
 *
 * A restored HWPT has no IOAS: this kernel does not know which mappings it was made
 * of, and never changes it. It is destroyed with the last device that leaves it.
 * Finish ends the session, and with it what keeps the memory of the memfds in place:
 * this is why it is refused before.
 *
 * Restrictions:
 *
 * - Memory is mapped with IOMMU_IOAS_MAP_FILE. Memory that is mapped by its address,
 *   files that are not in the session, and pages that are no longer in the file (a
 *   hole was punched) are refused.
 * - Only devices that were attached to a restored HWPT are attached to it, and none
 *   can go back to it.
 * - Pages of a restored HWPT are not accounted to a user before they are mapped in an
 *   IOAS; the memfds are accounted as such.
 *
 * Locking: iommufd_ctx.liveupdate.lock guards marks and restored HWPTs, and is
 * taken before all other locks of iommufd.
 */

#define pr_fmt(fmt) "iommufd: live update: " fmt

#include <linux/anon_inodes.h>
#include <linux/cleanup.h>
#include <linux/dma-buf.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/iommu_liveupdate.h>
#include <linux/iommufd.h>
#include <linux/iommufd_liveupdate.h>
#include <linux/iopoll.h>
#include <linux/kdev_t.h>
#include <linux/kexec_handover.h>
#include <linux/kho/check/iommufd.h>
#include <linux/kho/memory.h>
#include <linux/liveupdate.h>
#include <linux/memfd_liveupdate.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/pci.h>
#include <linux/pci_liveupdate.h>
#include <linux/rwsem.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "io_pagetable.h"
#include "iommufd_private.h"
#include "liveupdate.h"

/* For what users control, which takes milliseconds otherwise */
#define IOMMUFD_LIVEUPDATE_PATIENCE_US	(2 * USEC_PER_SEC)

MODULE_ALIAS("liveupdate-" IOMMUFD_LIVEUPDATE_COMPATIBLE);

/**
 * struct iommufd_hwpt_restored - An HWPT that came from the previous kernel.
 * @common: Its domain is a restored one.
 * @index:  Place of the domain in the IOMMU core's list.
 * @token:  The name that user space gave it there.
 */
struct iommufd_hwpt_restored {
	struct iommufd_hw_pagetable common;
	u32 index;
	u64 token;
};

/**
 * struct iommufd_liveupdate - One preserved iommufd in the outgoing kernel.
 * @ictx:  Its context.
 * @ser:   What crosses.
 * @bars:  Devices that have BARs in them: &struct pci_dev with a reference, by
 *         their addresses.
 * @marked: Number of its marked HWPTs.
 * @count: How many of them, from the first, are preserved.
 * @hwpts: They, each with a reference.
 */
struct iommufd_liveupdate {
	struct iommufd_ctx *ictx;
	struct iommufd_ser *ser;
	struct xarray bars;
	u32 marked;
	u32 count;
	struct iommufd_hwpt_paging *hwpts[IOMMUFD_SER_MAX_HWPTS];
};

void iommufd_liveupdate_init_ctx(struct iommufd_ctx *ictx)
{
	mutex_init(&ictx->liveupdate.lock);
}

/* --- marks -------------------------------------------------------------------- */

static struct iommufd_hwpt_paging *iommufd_to_marked(struct iommufd_object *obj)
{
	struct iommufd_hwpt_paging *hwpt;

	if (obj->type != IOMMUFD_OBJ_HWPT_PAGING)
		return NULL;

	hwpt = container_of(obj, struct iommufd_hwpt_paging, common.obj);

	return hwpt->liveupdate_marked ? hwpt : NULL;
}

static struct iommufd_hwpt_paging *
iommufd_liveupdate_find_mark(struct iommufd_ctx *ictx, u64 token)
{
	struct iommufd_hwpt_paging *hwpt, *found = NULL;
	struct iommufd_object *obj;
	unsigned long index;

	xa_lock(&ictx->objects);
	xa_for_each(&ictx->objects, index, obj) {
		hwpt = iommufd_to_marked(obj);
		if (hwpt && hwpt->liveupdate_token == token)
			found = hwpt;
	}
	xa_unlock(&ictx->objects);

	return found;
}

static int iommufd_liveupdate_check_hwpt(struct iommufd_hwpt_paging *hwpt)
{
	struct iommu_domain *domain = hwpt->common.domain;

	if (hwpt->nest_parent || hwpt->common.fault || hwpt->common.pasid_compat ||
	    !iommu_liveupdate_can_preserve_domain(domain))
		return -EOPNOTSUPP;

	return 0;
}

static int iommufd_liveupdate_set_mark(struct iommufd_ctx *ictx,
				       struct iommufd_hwpt_paging *hwpt,
				       u64 token)
{
	int ret;

	ret = iommufd_liveupdate_check_hwpt(hwpt);
	if (ret)
		return ret;

	if (hwpt->liveupdate_marked || iommufd_liveupdate_find_mark(ictx, token))
		return -EEXIST;

	hwpt->liveupdate_token = token;
	hwpt->liveupdate_marked = true;

	return 0;
}

static int iommufd_liveupdate_clear_mark(struct iommufd_hwpt_paging *hwpt,
					 u64 token)
{
	if (!hwpt->liveupdate_marked || hwpt->liveupdate_token != token)
		return -ENOENT;

	hwpt->liveupdate_marked = false;

	return 0;
}

/**
 * iommufd_liveupdate_marked() - Is a device's page table marked?
 * @idev: Device that is bound; the caller keeps it attached to what it is.
 *
 * Context: Process context, may sleep.
 * Return: true if it is attached to an HWPT that is marked.
 */
bool iommufd_liveupdate_marked(struct iommufd_device *idev)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(idev->dev);
	struct iommufd_hwpt_paging *hwpt;
	struct iommufd_object *obj;
	unsigned long index;
	bool marked = false;

	guard(mutex)(&idev->ictx->liveupdate.lock);

	xa_lock(&idev->ictx->objects);
	xa_for_each(&idev->ictx->objects, index, obj) {
		hwpt = iommufd_to_marked(obj);
		marked |= hwpt && hwpt->common.domain == domain;
	}
	xa_unlock(&idev->ictx->objects);

	return marked;
}
EXPORT_SYMBOL_NS_GPL(iommufd_liveupdate_marked, "IOMMUFD");

/* ioctl(IOMMU_HWPT_LIVEUPDATE_MARK), see the uapi header */
int iommufd_liveupdate_mark(struct iommufd_ucmd *ucmd)
{
	struct iommu_hwpt_liveupdate_mark *cmd = ucmd->cmd;
	struct iommufd_ctx *ictx = ucmd->ictx;
	struct iommufd_hwpt_paging *hwpt;
	struct iommufd_object *obj;
	int ret;

	if (cmd->flags & ~IOMMU_HWPT_LIVEUPDATE_UNMARK || cmd->__reserved)
		return -EOPNOTSUPP;

	obj = iommufd_get_object(ictx, cmd->hwpt_id, IOMMUFD_OBJ_ANY);
	if (IS_ERR(obj))
		return PTR_ERR(obj);

	mutex_lock(&ictx->liveupdate.lock);
	hwpt = container_of(obj, struct iommufd_hwpt_paging, common.obj);
	if (obj->type == IOMMUFD_OBJ_HWPT_NESTED)
		ret = -EOPNOTSUPP;
	else if (obj->type != IOMMUFD_OBJ_HWPT_PAGING)
		ret = -ENOENT;
	else if (ictx->liveupdate.preserved)
		ret = -EBUSY;
	else if (cmd->flags & IOMMU_HWPT_LIVEUPDATE_UNMARK)
		ret = iommufd_liveupdate_clear_mark(hwpt, cmd->token);
	else
		ret = iommufd_liveupdate_set_mark(ictx, hwpt, cmd->token);
	mutex_unlock(&ictx->liveupdate.lock);

	iommufd_put_object(ictx, obj);

	return ret;
}

/* --- areas -------------------------------------------------------------------- */

static void iommufd_liveupdate_tell_area(struct iopt_area *area,
					 struct iommu_ioas_liveupdate_area *info)
{
	struct iopt_pages *pages = area->pages;
	struct file *file = NULL;

	*info = (struct iommu_ioas_liveupdate_area) {
		.iova = iopt_area_iova(area),
		.length = iopt_area_length(area),
		.kind = IOMMU_IOAS_LIVEUPDATE_USER,
	};
	if (area->iommu_prot & IOMMU_READ)
		info->flags |= IOMMU_IOAS_MAP_READABLE;
	if (area->iommu_prot & IOMMU_WRITE)
		info->flags |= IOMMU_IOAS_MAP_WRITEABLE;

	if (iopt_is_dmabuf(pages)) {
		info->kind = IOMMU_IOAS_LIVEUPDATE_DMABUF;
		info->offset = pages->dmabuf.start;
		file = pages->dmabuf.attach->dmabuf->file;
	} else if (pages->type == IOPT_ADDRESS_FILE) {
		info->kind = IOMMU_IOAS_LIVEUPDATE_FILE;
		info->offset = pages->start;
		file = pages->file;
	}
	if (!file)
		return;

	info->offset += iopt_area_start_byte(area, info->iova);
	info->inode = file_inode(file)->i_ino;
	info->device = new_encode_dev(file_inode(file)->i_sb->s_dev);
}

static int iommufd_liveupdate_tell_areas(struct io_pagetable *iopt,
					 struct iommu_ioas_liveupdate_areas *cmd)
{
	struct iommu_ioas_liveupdate_area __user *to = u64_to_user_ptr(cmd->areas);
	u32 room = cmd->count;
	struct iopt_area *area;

	guard(rwsem_read)(&iopt->iova_rwsem);

	cmd->count = 0;
	for (area = iopt_area_iter_first(iopt, cmd->start, ULONG_MAX); area;
	     area = iopt_area_iter_next(area, cmd->start, ULONG_MAX)) {
		struct iommu_ioas_liveupdate_area info;

		/* It is being mapped or unmapped, and is not there */
		if (!area->pages)
			continue;
		if (cmd->count < room) {
			iommufd_liveupdate_tell_area(area, &info);
			if (copy_to_user(&to[cmd->count], &info, sizeof(info)))
				return -EFAULT;
		}
		cmd->count++;
	}

	return 0;
}

/**
 * iommufd_liveupdate_areas() - IOMMU_IOAS_LIVEUPDATE_AREAS
 * @ucmd: The call.
 *
 * Context: Process context, may sleep. Takes the IOAS's iova_rwsem.
 * Return: 0 or a negative errno, see &struct iommu_ioas_liveupdate_areas.
 */
int iommufd_liveupdate_areas(struct iommufd_ucmd *ucmd)
{
	struct iommu_ioas_liveupdate_areas *cmd = ucmd->cmd;
	struct iommufd_ioas *ioas;
	int ret;

	if (cmd->flags)
		return -EOPNOTSUPP;

	ioas = iommufd_get_ioas(ucmd->ictx, cmd->ioas_id);
	if (IS_ERR(ioas))
		return PTR_ERR(ioas);

	ret = iommufd_liveupdate_tell_areas(&ioas->iopt, cmd);
	iommufd_put_object(ucmd->ictx, &ioas->obj);

	return ret ? ret : iommufd_ucmd_respond(ucmd, sizeof(*cmd));
}

/* --- outgoing ----------------------------------------------------------------- */

static int iommufd_liveupdate_refuse(struct iommufd_hwpt_paging *hwpt, int err,
				     const char *why)
{
	pr_warn("page table %u (token %#llx) cannot be preserved: %s (%pe)\n",
		hwpt->common.obj.id, hwpt->liveupdate_token, why, ERR_PTR(err));
	return err;
}

/* Does the domain map the very folio that the file has now at this place? */
static bool iommufd_liveupdate_check_folio(struct iommu_domain *domain,
					   struct folio *folio, pgoff_t index,
					   unsigned long *iova,
					   unsigned long last_iova)
{
	pgoff_t end = folio_next_index(folio);

	for (; index < end && *iova < last_iova; index++, *iova += PAGE_SIZE) {
		phys_addr_t phys = iommu_iova_to_phys(domain, *iova);

		if (PHYS_PFN(phys) != page_to_pfn(folio_file_page(folio, index)))
			return false;
	}

	return true;
}

static int iommufd_liveupdate_check_file(struct iommufd_hwpt_paging *hwpt,
					 struct iopt_area *area)
{
	struct iopt_pages *pages = area->pages;
	unsigned long iova = iopt_area_iova(area);
	unsigned long last_iova = iopt_area_last_iova(area);

	while (iova < last_iova) {
		pgoff_t index = (pages->start +
				 iopt_area_start_byte(area, iova)) >> PAGE_SHIFT;
		struct folio *folio = filemap_get_folio(pages->file->f_mapping,
							index);
		bool same;

		if (IS_ERR(folio))
			return iommufd_liveupdate_refuse(hwpt, -ESTALE,
							 "a page is not in its file any more");
		same = iommufd_liveupdate_check_folio(hwpt->common.domain, folio,
						      index, &iova, last_iova);
		folio_put(folio);
		if (!same)
			return iommufd_liveupdate_refuse(hwpt, -ESTALE,
							 "a page is not in its file any more");
		cond_resched();
	}

	return 0;
}

/* Whose BAR is mapped here? That it is preserved, too, is seen at freeze. */
static int iommufd_liveupdate_check_bar(struct iommufd_liveupdate *lu,
					struct iommufd_hwpt_paging *hwpt,
					struct iopt_pages *pages)
{
	struct pci_dev *pdev;
	int ret;

	guard(mutex)(&pages->mutex);

	if (iopt_dmabuf_revoked(pages))
		return iommufd_liveupdate_refuse(hwpt, -ESTALE,
						 "a BAR that it maps was taken away");

	pdev = pci_liveupdate_get_bar_owner(pages->dmabuf.phys.paddr,
					    pages->dmabuf.phys.len);
	if (!pdev)
		return iommufd_liveupdate_refuse(hwpt, -EINVAL,
						 "it maps a dma-buf that is no BAR");

	ret = xa_insert(&lu->bars, (unsigned long)pdev, pdev, GFP_KERNEL);
	if (ret)
		pci_dev_put(pdev);

	return ret == -EBUSY ? 0 : ret;
}

static int iommufd_liveupdate_check_area(struct iommufd_liveupdate *lu,
					 struct iommufd_hwpt_paging *hwpt,
					 struct iopt_area *area,
					 const struct luo_file_set *files)
{
	if (!area->pages)
		return iommufd_liveupdate_refuse(hwpt, -EBUSY,
						 "it is being mapped");

	if (iopt_is_dmabuf(area->pages))
		return iommufd_liveupdate_check_bar(lu, hwpt, area->pages);

	if (area->pages->type != IOPT_ADDRESS_FILE)
		return iommufd_liveupdate_refuse(hwpt, -EINVAL,
						 "it maps memory that is not of a file");

	if (memfd_liveupdate_mark_dma(files, area->pages->file))
		return iommufd_liveupdate_refuse(hwpt, -ENOENT,
						 "it maps a file that is not preserved in this session");

	return iommufd_liveupdate_check_file(hwpt, area);
}

static int iommufd_liveupdate_check_areas(struct iommufd_liveupdate *lu,
					  struct iommufd_hwpt_paging *hwpt,
					  const struct luo_file_set *files)
{
	struct io_pagetable *iopt = &hwpt->ioas->iopt;
	struct iopt_area *area;
	int ret;

	lockdep_assert_held(&iopt->iova_rwsem);

	for (area = iopt_area_iter_first(iopt, 0, ULONG_MAX); area;
	     area = iopt_area_iter_next(area, 0, ULONG_MAX)) {
		ret = iommufd_liveupdate_check_area(lu, hwpt, area, files);
		if (ret)
			return ret;
	}

	return 0;
}

/* A device that was preserved before in idle mode would get running mode now. */
static bool iommufd_liveupdate_too_late(struct iommufd_ctx *ictx,
					struct iommufd_hwpt_paging *hwpt)
{
	struct iommufd_object *obj;
	struct device *dev;
	unsigned long index;
	bool late = false;

	xa_lock(&ictx->objects);
	xa_for_each(&ictx->objects, index, obj) {
		if (obj->type != IOMMUFD_OBJ_DEVICE)
			continue;
		dev = container_of(obj, struct iommufd_device, obj)->dev;
		late |= dev_is_pci(dev) &&
			pci_liveupdate_outgoing(to_pci_dev(dev)) &&
			iommu_get_domain_for_dev(dev) == hwpt->common.domain;
	}
	xa_unlock(&ictx->objects);

	return late;
}

static bool iommufd_liveupdate_trylock(struct io_pagetable *iopt)
{
	if (!down_write_trylock(&iopt->domains_rwsem))
		return false;
	if (down_write_trylock(&iopt->iova_rwsem))
		return true;
	up_write(&iopt->domains_rwsem);

	return false;
}

/*
 * With @liveupdate_users set neither mapping nor unmapping begins; what began
 * before is waited for: nothing is being unmapped while we hold domains_rwsem,
 * and what is being mapped shows itself. Whoever maps memory holds domains_rwsem
 * while it is pinned, and user space decides how long that takes (userfaultfd):
 * so there is a bound.
 */
static bool iommufd_liveupdate_lock(struct io_pagetable *iopt)
{
	bool locked;

	return !read_poll_timeout(iommufd_liveupdate_trylock, locked, locked,
				  USEC_PER_MSEC, IOMMUFD_LIVEUPDATE_PATIENCE_US,
				  false, iopt);
}

/*
 * Without iova_rwsem, which unpreserve could not wait for. Whoever looks at it
 * now finds the one or the other.
 */
static void iommufd_liveupdate_thaw(struct iommufd_liveupdate *lu,
				    struct io_pagetable *iopt)
{
	lockdep_assert_held(&lu->ictx->liveupdate.lock);

	WRITE_ONCE(iopt->liveupdate_users, iopt->liveupdate_users - 1);
}

static int iommufd_liveupdate_preserve_hwpt(struct iommufd_liveupdate *lu,
					    struct iommufd_hwpt_paging *hwpt,
					    const struct luo_file_set *files)
{
	struct io_pagetable *iopt = &hwpt->ioas->iopt;
	struct iommufd_hwpt_ser *ser = &lu->ser->hwpts[lu->count];
	int ret;

	if (iommufd_liveupdate_too_late(lu->ictx, hwpt))
		return iommufd_liveupdate_refuse(hwpt, -EBUSY,
						 "a device that is attached to it is preserved already, in idle mode");

	/* Before its BARs are looked at: they may be taken away at any time */
	ret = iommu_liveupdate_announce_domain(hwpt->common.domain, files);
	if (ret)
		return iommufd_liveupdate_refuse(hwpt, ret,
						 "it cannot be announced");

	WRITE_ONCE(iopt->liveupdate_users, iopt->liveupdate_users + 1);
	if (!iommufd_liveupdate_lock(iopt)) {
		iommu_liveupdate_unpreserve_domain(hwpt->common.domain);
		iommufd_liveupdate_thaw(lu, iopt);
		return iommufd_liveupdate_refuse(hwpt, -EBUSY,
						 "mapping or unmapping its memory does not end");
	}
	downgrade_write(&iopt->iova_rwsem);
	ret = iommufd_liveupdate_check_areas(lu, hwpt, files);
	up_read(&iopt->iova_rwsem);
	up_write(&iopt->domains_rwsem);

	if (!ret) {
		ret = iommu_liveupdate_preserve_domain(hwpt->common.domain,
						       &ser->domain);
		if (ret)
			iommufd_liveupdate_refuse(hwpt, ret,
						  "its tables cannot be kept");
	}

	if (ret) {
		iommu_liveupdate_unpreserve_domain(hwpt->common.domain);
		iommufd_liveupdate_thaw(lu, iopt);
		return ret;
	}

	ser->token = hwpt->liveupdate_token;
	lu->count++;

	return 0;
}

static void iommufd_liveupdate_unpreserve_all(struct iommufd_liveupdate *lu)
{
	while (lu->count) {
		struct iommufd_hwpt_paging *hwpt = lu->hwpts[--lu->count];

		iommu_liveupdate_unpreserve_domain(hwpt->common.domain);
		iommufd_liveupdate_thaw(lu, &hwpt->ioas->iopt);
	}
}

static void iommufd_liveupdate_free(struct iommufd_liveupdate *lu)
{
	struct pci_dev *pdev;
	unsigned long index;

	xa_for_each(&lu->bars, index, pdev)
		pci_dev_put(pdev);
	xa_destroy(&lu->bars);
	while (lu->marked)
		iommufd_hw_pagetable_put(lu->ictx,
					 &lu->hwpts[--lu->marked]->common);
	kho_unpreserve_free(lu->ser);
	kfree(lu);
}

/* Take the marked HWPTs, each with a reference that keeps it from being destroyed */
static int iommufd_liveupdate_get_marked(struct iommufd_liveupdate *lu)
{
	struct iommufd_hwpt_paging *hwpt;
	struct iommufd_object *obj;
	unsigned long index;
	bool full = false;

	xa_lock(&lu->ictx->objects);
	xa_for_each(&lu->ictx->objects, index, obj) {
		hwpt = iommufd_to_marked(obj);
		if (!hwpt)
			continue;
		full = lu->marked == IOMMUFD_SER_MAX_HWPTS;
		if (full)
			break;
		refcount_inc(&obj->users);
		lu->hwpts[lu->marked++] = hwpt;
	}
	xa_unlock(&lu->ictx->objects);

	if (lu->marked && !full)
		return 0;

	pr_warn("an iommufd cannot be preserved: it has %s marked page tables (%pe)\n",
		full ? "too many" : "no", ERR_PTR(-EINVAL));

	return -EINVAL;
}

static int iommufd_liveupdate_preserve_marked(struct iommufd_liveupdate *lu,
					      const struct luo_file_set *files)
{
	struct iommufd_ser *ser;
	int ret;

	ret = iommufd_liveupdate_get_marked(lu);
	if (ret)
		return ret;

	ser = kho_alloc_preserve(struct_size(ser, hwpts, lu->marked));
	if (IS_ERR(ser))
		return PTR_ERR(ser);
	lu->ser = ser;

	for (u32 i = 0; i < lu->marked; i++) {
		ret = iommufd_liveupdate_preserve_hwpt(lu, lu->hwpts[i], files);
		if (ret) {
			iommufd_liveupdate_unpreserve_all(lu);
			return ret;
		}
	}
	ser->count = lu->count;

	return 0;
}

static bool iommufd_liveupdate_can_preserve(struct liveupdate_file_handler *fh,
					    struct file *file)
{
	struct iommufd_ctx *ictx = iommufd_ctx_from_file(file);

	if (IS_ERR(ictx))
		return false;
	iommufd_ctx_put(ictx);

	return true;
}

static int iommufd_liveupdate_preserve(struct liveupdate_file_op_args *args)
{
	struct iommufd_ctx *ictx = args->file->private_data;
	struct iommufd_liveupdate *lu;
	int ret;

	guard(mutex)(&ictx->liveupdate.lock);

	lu = kzalloc_obj(*lu);
	if (!lu)
		return -ENOMEM;
	lu->ictx = ictx;
	xa_init(&lu->bars);

	ret = iommufd_liveupdate_preserve_marked(lu, args->files);
	if (ret) {
		iommufd_liveupdate_free(lu);
		return ret;
	}

	ictx->liveupdate.preserved = true;
	args->serialized_data = virt_to_phys(lu->ser);
	args->private_data = lu;
	pr_info("preserved %u page tables\n", lu->count);

	return 0;
}

/* Would freeze be refused? Nothing is left to be done when it comes. */
static int iommufd_liveupdate_check(struct liveupdate_file_op_args *args)
{
	struct iommufd_liveupdate *lu = args->private_data;
	struct pci_dev *pdev;
	unsigned long index;
	const char *why;
	int ret;

	for (u32 i = 0; i < lu->count; i++) {
		ret = iommu_liveupdate_freeze_domain(lu->hwpts[i]->common.domain,
						     &why);
		if (ret) {
			pr_err("Freeze failed! Page table %u (token %#llx): %s (%pe)\n",
			       lu->hwpts[i]->common.obj.id,
			       lu->hwpts[i]->liveupdate_token, why, ERR_PTR(ret));
			return ret;
		}
	}

	xa_for_each(&lu->bars, index, pdev) {
		if (pci_liveupdate_outgoing(pdev) == PCI_LIVEUPDATE_RUNNING)
			continue;
		pci_err(pdev, "live update: Freeze failed! A preserved page table maps its BAR, and it is not preserved in running mode\n");
		return -EINVAL;
	}

	return 0;
}

static void iommufd_liveupdate_unpreserve(struct liveupdate_file_op_args *args)
{
	struct iommufd_liveupdate *lu = args->private_data;

	guard(mutex)(&lu->ictx->liveupdate.lock);

	iommufd_liveupdate_unpreserve_all(lu);
	lu->ictx->liveupdate.preserved = false;
	iommufd_liveupdate_free(lu);
}

/* A BAR is about to be unmapped from all page tables that have it. */
void iommufd_liveupdate_revoke(struct iopt_pages *pages)
{
	struct iopt_pages_dmabuf_track *track;

	lockdep_assert_held(&pages->mutex);

	list_for_each_entry(track, &pages->dmabuf.tracker, elm)
		iommu_liveupdate_spoil_domain(track->domain);
}

/* --- incoming ----------------------------------------------------------------- */

static struct iommufd_hwpt_restored *
iommufd_to_restored(struct iommufd_object *obj)
{
	if (obj->type != IOMMUFD_OBJ_HWPT_RESTORED)
		return NULL;

	return container_of(obj, struct iommufd_hwpt_restored, common.obj);
}

/* Destroyed by hand, with its last device, or with the iommufd */
void iommufd_hwpt_restored_destroy(struct iommufd_object *obj)
{
	struct iommufd_hwpt_restored *hwpt = iommufd_to_restored(obj);

	pr_info("page table %u (token %#llx) of the previous kernel is freed\n",
		obj->id, hwpt->token);
	iommu_liveupdate_free_domain(hwpt->common.domain);
}

/* A device left an HWPT. If it is a restored one, its reference is put here. */
bool iommufd_liveupdate_put(struct iommufd_ctx *ictx,
			    struct iommufd_hw_pagetable *hwpt)
{
	struct iommufd_hwpt_restored *restored = iommufd_to_restored(&hwpt->obj);

	if (!restored)
		return false;

	/*
	 * Devices that are not bound yet have no reference, but use it. The lock
	 * makes one of two devices that leave at once the last.
	 */
	guard(mutex)(&ictx->liveupdate.lock);

	if (iommu_liveupdate_domain_busy(restored->index))
		refcount_dec(&hwpt->obj.users);
	else
		iommufd_object_put_and_try_destroy(ictx, &hwpt->obj);

	return true;
}

/* May user space not destroy this object? */
bool iommufd_liveupdate_busy(struct iommufd_ctx *ictx, u32 id)
{
	struct iommufd_object *obj;
	bool busy;

	obj = iommufd_get_object(ictx, id, IOMMUFD_OBJ_HWPT_RESTORED);
	if (IS_ERR(obj))
		return false;
	busy = iommu_liveupdate_domain_busy(iommufd_to_restored(obj)->index);
	iommufd_put_object(ictx, obj);

	return busy;
}

/* 1: the HWPT is there; 0: it is not needed any more; else an error. */
static int iommufd_liveupdate_restore_hwpt(struct iommufd_ctx *ictx,
					   const struct iommufd_hwpt_ser *ser)
{
	struct iommu_domain *domain;
	struct iommufd_hwpt_restored *hwpt;

	/* Its devices are not there any more: nothing is attached to it */
	domain = iommu_liveupdate_restored_domain(ser->domain);
	if (!domain)
		return 0;

	/* One HWPT for one domain */
	if (domain->cookie_type != IOMMU_COOKIE_NONE)
		return -EINVAL;

	hwpt = __iommufd_object_alloc(ictx, hwpt, IOMMUFD_OBJ_HWPT_RESTORED,
				      common.obj);
	if (IS_ERR(hwpt))
		return PTR_ERR(hwpt);

	hwpt->common.domain = domain;
	hwpt->index = ser->domain;
	hwpt->token = ser->token;
	domain->iommufd_hwpt = &hwpt->common;
	domain->cookie_type = IOMMU_COOKIE_IOMMUFD;
	iommufd_object_finalize(ictx, &hwpt->common.obj);

	return 1;
}

/* Retrieve failed half-way: the domains go on without HWPTs. */
static void iommufd_liveupdate_forget(struct iommufd_ctx *ictx)
{
	struct iommufd_hwpt_restored *hwpt;
	struct iommufd_object *obj;
	unsigned long index;

	xa_for_each(&ictx->objects, index, obj) {
		hwpt = iommufd_to_restored(obj);
		if (WARN_ON(!hwpt))
			continue;
		hwpt->common.domain->cookie_type = IOMMU_COOKIE_NONE;
		xa_erase(&ictx->objects, index);
		kfree(hwpt);
	}
}

/* What was handed over, or NULL when it is broken */
static const struct iommufd_ser *
iommufd_liveupdate_ser(struct liveupdate_file_op_args *args)
{
	const struct iommufd_ser *ser = kho_peek(args->serialized_data, PAGE_SIZE);
	const char *why = ser ? iommufd_ser_check(ser, PAGE_SIZE) :
				"it is not in preserved memory";

	if (!why)
		return ser;

	pr_err("handover data of an iommufd is broken: %s\n", why);

	return NULL;
}

static DEFINE_MUTEX(iommufd_liveupdate_retrieve_lock);

static int iommufd_liveupdate_retrieve(struct liveupdate_file_op_args *args)
{
	const struct iommufd_ser *ser = iommufd_liveupdate_ser(args);
	struct iommufd_ctx *ictx;
	struct file *file;
	u32 count = 0;
	int ret = 0;

	if (!ser)
		return -EINVAL;

	/* Broken data may have two iommufds name one domain */
	guard(mutex)(&iommufd_liveupdate_retrieve_lock);

	file = iommufd_liveupdate_open();
	if (IS_ERR(file))
		return PTR_ERR(file);
	ictx = file->private_data;

	for (u32 i = 0; i < ser->count && ret >= 0; i++) {
		ret = iommufd_liveupdate_restore_hwpt(ictx, &ser->hwpts[i]);
		count += ret > 0;
	}
	if (ret < 0) {
		iommufd_liveupdate_forget(ictx);
		fput(file);
		return ret;
	}

	args->file = file;
	pr_info("retrieved an iommufd with %u of %u page tables\n", count,
		ser->count);

	return 0;
}

static bool iommufd_liveupdate_can_finish(struct liveupdate_file_op_args *args)
{
	const struct iommufd_ser *ser = iommufd_liveupdate_ser(args);

	/* Nobody knows what is attached to what */
	if (!ser)
		return false;

	for (u32 i = 0; i < ser->count; i++) {
		iommu_liveupdate_drop_missing(ser->hwpts[i].domain);
		if (!iommu_liveupdate_domain_busy(ser->hwpts[i].domain))
			continue;
		pr_warn("cannot be finished: a device is still attached to page table %#llx of the previous kernel\n",
			ser->hwpts[i].token);
		return false;
	}

	return true;
}

static void iommufd_liveupdate_finish(struct liveupdate_file_op_args *args)
{
	kho_restore_free(phys_to_virt(args->serialized_data));
}

/* ioctl(IOMMU_HWPT_LIVEUPDATE_FIND), see the uapi header */
int iommufd_liveupdate_find(struct iommufd_ucmd *ucmd)
{
	struct iommu_hwpt_liveupdate_find *cmd = ucmd->cmd;
	struct iommufd_ctx *ictx = ucmd->ictx;
	struct iommufd_hwpt_restored *hwpt;
	struct iommufd_object *obj;
	u32 domain = U32_MAX;
	unsigned long index;

	if (cmd->flags || cmd->__reserved)
		return -EOPNOTSUPP;

	xa_lock(&ictx->objects);
	xa_for_each(&ictx->objects, index, obj) {
		hwpt = iommufd_to_restored(obj);
		if (!hwpt || hwpt->token != cmd->token)
			continue;
		cmd->out_hwpt_id = obj->id;
		domain = hwpt->index;
	}
	xa_unlock(&ictx->objects);

	/* Its device may have been given up since */
	if (!iommu_liveupdate_domain_busy(domain))
		return -ENOENT;

	return iommufd_ucmd_respond(ucmd, sizeof(*cmd));
}

/* The restored HWPT that a device is attached to, with a reference to use it */
static struct iommufd_hw_pagetable *
iommufd_liveupdate_get_hwpt(struct iommufd_ctx *ictx, struct device *dev)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);
	struct iommufd_hw_pagetable *found = NULL;
	struct iommufd_hwpt_restored *hwpt;
	struct iommufd_object *obj;
	unsigned long index;

	xa_lock(&ictx->objects);
	xa_for_each(&ictx->objects, index, obj) {
		hwpt = iommufd_to_restored(obj);
		if (!hwpt || hwpt->common.domain != domain ||
		    !iommufd_lock_obj(obj))
			continue;
		found = &hwpt->common;
		break;
	}
	xa_unlock(&ictx->objects);

	return found;
}

/* iommu_device_claim_dma_owner(), also for a device whose DMA goes on */
int iommufd_liveupdate_claim(struct iommufd_ctx *ictx, struct device *dev)
{
	struct iommufd_hw_pagetable *hwpt;
	int ret;

	if (!iommu_liveupdate_owns(dev))
		return iommu_device_claim_dma_owner(dev, ictx);

	hwpt = iommufd_liveupdate_get_hwpt(ictx, dev);
	if (!hwpt) {
		dev_warn(dev, "live update: can only be bound to the iommufd that was preserved with it (%pe)\n",
			 ERR_PTR(-EPERM));
		return -EPERM;
	}

	ret = iommu_liveupdate_claim(dev, ictx);
	iommufd_put_object(ictx, &hwpt->obj);

	return ret;
}

/**
 * iommufd_liveupdate_attach() - Attach a device where it is attached
 * @idev: Device that was just bound.
 *
 * If its DMA comes from the previous kernel, @idev is attached to its restored
 * HWPT in this iommufd, without touching the hardware.
 *
 * Context: Process context, may sleep.
 * Return: 1 when it was attached; 0 when it is a device like any other;
 * -ENOMEM.
 */
int iommufd_liveupdate_attach(struct iommufd_device *idev)
{
	struct iommufd_hw_pagetable *hwpt;
	int ret;

	hwpt = iommufd_liveupdate_get_hwpt(idev->ictx, idev->dev);
	if (!hwpt)
		return 0;

	ret = iommufd_hw_pagetable_attach(hwpt, idev, IOMMU_NO_PASID);
	iommufd_put_object(idev->ictx, &hwpt->obj);
	if (ret)
		return ret;

	/* As in iommufd_device_attach() */
	refcount_inc(&idev->obj.users);

	return 1;
}
EXPORT_SYMBOL_NS_GPL(iommufd_liveupdate_attach, "IOMMUFD");

/* --- registration ------------------------------------------------------------- */

static const struct liveupdate_file_ops iommufd_liveupdate_file_ops = {
	.can_preserve = iommufd_liveupdate_can_preserve,
	.preserve = iommufd_liveupdate_preserve,
	.unpreserve = iommufd_liveupdate_unpreserve,
	.check = iommufd_liveupdate_check,
	.retrieve = iommufd_liveupdate_retrieve,
	.can_finish = iommufd_liveupdate_can_finish,
	.finish = iommufd_liveupdate_finish,
	.owner = THIS_MODULE,
};

static struct liveupdate_file_handler iommufd_liveupdate_handler = {
	.ops = &iommufd_liveupdate_file_ops,
	.compatible = IOMMUFD_LIVEUPDATE_COMPATIBLE,
};

static bool iommufd_liveupdate_registered;

void iommufd_liveupdate_init(void)
{
	int ret;

	if (!liveupdate_enabled())
		return;

	ret = liveupdate_register_file_handler(&iommufd_liveupdate_handler);
	if (ret)
		goto err;

	ret = iommu_liveupdate_register(&iommufd_liveupdate_handler);
	if (ret)
		goto err_unregister;

	iommufd_liveupdate_registered = true;

	return;

err_unregister:
	liveupdate_unregister_file_handler(&iommufd_liveupdate_handler);
err:
	pr_err("no iommufd can be preserved or retrieved (%pe)\n", ERR_PTR(ret));
}

void iommufd_liveupdate_exit(void)
{
	if (!iommufd_liveupdate_registered)
		return;

	iommu_liveupdate_unregister(&iommufd_liveupdate_handler);
	liveupdate_unregister_file_handler(&iommufd_liveupdate_handler);
}
