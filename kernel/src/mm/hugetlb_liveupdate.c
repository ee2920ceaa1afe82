// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: Preserved memfds with huge pages
 *
 * A memfd that was made with %MFD_HUGETLB goes through a live update with its
 * content, size, position, seals and the size of its pages. Whether anybody may
 * execute it goes along, too, since %F_SEAL_EXEC says something else of a file that
 * one may execute.
 *
 * Outgoing kernel::
 *
 *   preserve()
 *     hugetlb_fill_holes()          allocates missing pages, as fallocate(2) does
 *     hugetlb_freeze()              no truncation, no holes, no growth
 *     hugetlb_preserve_pages()      pins all pages
 *   preserve() of an iommufd
 *     hugetlb_liveupdate_mark_dma() %HUGETLB_MEMFD_SER_DMA in the handover data
 *   reboot(2)
 *     needs()                       the next kernel has to take such memfds
 *     freeze()                      notes position and seals once more
 *   unpreserve()                    undoes preserve(), but for the holes
 *
 * Incoming kernel::
 *
 *   retrieve()
 *     hugetlb_memfd_peek()          validates the handover data
 *     hugetlb_retrieve_file()       a new file
 *     hugetlb_retrieve_pages()
 *       hugetlb_batch_restore()     makes them pages of hugetlb
 *       hugetlb_batch_insert()      charges for them, pins those of a device, and puts
 *                                   all in the file
 *   can_finish()                    not before pages of a device were retrieved
 *   finish()                        unpins pages, or frees those that nobody wanted
 *
 * The pool of the incoming kernel is made as its command line says, and preserved
 * pages are not taken from it: each comes on top of it, as a surplus page, also
 * beyond what nr_overcommit_hugepages allows. So retrieve depends neither on how
 * large the pool is nor on how much of it is free, and when the file is gone the
 * pool is what it was. Whoever raises nr_hugepages makes them a part of it, as any
 * surplus page. The file's map of reservations has all pages, as that of any file
 * whose pages were allocated without a reservation.
 *
 * What an outgoing kernel did to its struct pages, such as to free those that are
 * all alike (HVO), stays behind with them. Retrieved pages get fresh ones, which are
 * treated as those of any new page of hugetlb.
 *
 * Restrictions:
 *
 * - Pages beyond the end of the file are not preserved, nor is the memory policy. Of the
 *   file's mode only whether anybody may execute it goes along.
 * - Pages with memory errors cannot be preserved, and an error that is found later
 *   is not known to the next kernel.
 * - Pages of 1 GiB that are in CMA (hugetlb_cma=) or in movable memory cannot be pinned,
 *   and so cannot be preserved, unless the pool has others that they can be moved to.
 * - Retrieve charges for all pages at once. Is the limit of a control group too low for
 *   them, then the content is lost.
 * - When retrieve of a device's memory fails half-way, that memory is not freed
 *   before the next boot.
 * - The next kernel needs to have pages of this size: not all processors have 1 GiB.
 */

#define pr_fmt(fmt) "hugetlb: live update: " fmt

#include <linux/cleanup.h>
#include <linux/falloc.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/hugetlb_cgroup.h>
#include <linux/hugetlb_liveupdate.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/memfd.h>
#include <linux/kho/check/hugetlb.h>
#include <linux/kho/memory.h>
#include <linux/liveupdate.h>
#include <linux/magic.h>
#include <linux/math64.h>
#include <linux/memblock.h>
#include <linux/memcontrol.h>
#include <linux/memfd.h>
#include <linux/memfd_liveupdate.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <linux/vmstat.h>
#include <uapi/linux/memfd.h>

#include "hugetlb_internal.h"
#include "hugetlb_vmemmap.h"
#include "internal.h"

/* Pages that are dealt with at a time */
#define HUGETLB_BATCH	(PAGE_SIZE / sizeof(struct folio *))

/* How often somebody may take pages out of the file while holes are filled */
#define HUGETLB_TRIES	8

/* All that there are; those that memfd preserves, too */
#define HUGETLB_MEMFD_SEALS	MEMFD_LUO_ALL_SEALS

/* Everything that changes which pages are in the file looks at this. */
static void hugetlb_freeze(struct inode *inode, bool frozen)
{
	lockdep_assert_held_write(&inode->i_rwsem);
	HUGETLBFS_I(inode)->frozen = frozen;
}

/* --- outgoing kernel ---------------------------------------------------------- */

static int hugetlb_preserve_page(struct folio *folio, u64 *page)
{
	phys_addr_t phys = PFN_PHYS(folio_pfn(folio));
	int err = 0;

	if (folio_test_hwpoison(folio))
		err = -EHWPOISON;
	/* Where the next kernel begins; pages of 1 GiB cannot be moved away. */
	else if (kho_scratch_overlap(phys, folio_size(folio)))
		err = -EBUSY;
	if (err) {
		pr_warn("a memfd cannot be preserved: its page at %pa %s (%pe)\n",
			&phys, err == -EBUSY ? "is in scratch memory" :
					       "has memory errors", ERR_PTR(err));
		return err;
	}

	*page = phys;

	return kho_preserve_folio(folio);
}

static void hugetlb_unpreserve_pages(const u64 *pages, u64 nr)
{
	while (nr) {
		struct folio *folio = pfn_folio(PHYS_PFN(pages[--nr]));

		kho_unpreserve_folio(folio);
		unpin_folio(folio);
	}
}

/* So they do not move, and are not in CMA. *done goes on behind them. */
static int hugetlb_preserve_batch(struct file *file, struct folio **folios,
				  u64 *pages, u64 *done)
{
	struct hstate *h = hstate_file(file);
	pgoff_t offset;
	long nr, i;
	int err = 0;

	nr = memfd_pin_folios(file, *done << huge_page_shift(h),
			      i_size_read(file_inode(file)) - 1, folios,
			      HUGETLB_BATCH, &offset);
	if (nr <= 0)
		return nr ?: -EIO;

	for (i = 0; i < nr; i++) {
		err = hugetlb_preserve_page(folios[i], &pages[*done]);
		if (err)
			break;
		(*done)++;
	}
	unpin_folios(&folios[i], nr - i);

	return err;
}

/* Of all pages, or none after an error. The list is NULL for an empty file. */
static int hugetlb_preserve_pages(struct file *file, struct hugetlb_memfd_ser *ser,
				  u64 **list)
{
	struct folio **folios __free(kfree) = kmalloc(PAGE_SIZE, GFP_KERNEL);
	u64 done = 0, *pages;
	int err = 0;

	*list = NULL;
	if (!ser->nr)
		return 0;

	pages = vcalloc(ser->nr, sizeof(*pages));
	if (!pages || !folios) {
		vfree(pages);
		return -ENOMEM;
	}

	while (done < ser->nr && !err) {
		err = hugetlb_preserve_batch(file, folios, pages, &done);
		if (fatal_signal_pending(current))
			err = -EINTR;
		cond_resched();
	}
	if (!err)
		err = kho_preserve_vmalloc(pages, &ser->pages);
	if (err) {
		hugetlb_unpreserve_pages(pages, done);
		vfree(pages);
		return err;
	}
	*list = pages;

	return 0;
}

static int hugetlb_memfd_note(struct file *file, struct hugetlb_memfd_ser *ser)
{
	int seals = memfd_get_seals(file);

	if (seals < 0)
		return seals;
	if (seals & ~HUGETLB_MEMFD_SEALS)
		return -EOPNOTSUPP;

	ser->pos = file->f_pos;
	ser->seals = seals;
	ser->flags &= ~HUGETLB_MEMFD_SER_NOEXEC;
	if (!(file_inode(file)->i_mode & 0111))
		ser->flags |= HUGETLB_MEMFD_SER_NOEXEC;

	return 0;
}

/* With the inode's lock */
static int hugetlb_memfd_preserve_locked(struct liveupdate_file_op_args *args)
{
	struct hstate *h = hstate_file(args->file);
	struct hugetlb_memfd_ser *ser;
	u64 *pages;
	int err;

	ser = kho_alloc_preserve(sizeof(*ser));
	if (IS_ERR(ser))
		return PTR_ERR(ser);

	ser->size = i_size_read(file_inode(args->file));
	ser->order = huge_page_order(h);
	ser->nr = DIV_ROUND_UP_ULL(ser->size, huge_page_size(h));

	err = hugetlb_memfd_note(args->file, ser);
	if (!err)
		err = hugetlb_preserve_pages(args->file, ser, &pages);
	if (err) {
		kho_unpreserve_free(ser);
		return err;
	}

	args->private_data = pages;
	args->serialized_data = virt_to_phys(ser);

	return 0;
}

/* Are all pages in the file? */
static bool hugetlb_is_full(struct file *file)
{
	struct address_space *mapping = file->f_mapping;
	struct hstate *h = hstate_file(file);
	u64 size = round_up(i_size_read(mapping->host), huge_page_size(h));
	XA_STATE(xas, &mapping->i_pages, 0);
	struct folio *folio;
	u64 nr = 0;

	if (!size)
		return true;

	guard(rcu)();
	xas_for_each(&xas, folio, (size >> PAGE_SHIFT) - 1) {
		if (!xas_retry(&xas, folio))
			nr++;
	}

	return nr == size >> huge_page_shift(h);
}

/*
 * Returns with the inode's lock and a frozen file that has all its pages. To pin a
 * page that is missing allocates it, too, but charges nobody for it, and is not prepared
 * for somebody who has it faulted in at that moment. fallocate(2) is.
 */
static int hugetlb_fill_holes(struct file *file)
{
	struct inode *inode = file_inode(file);

	for (int i = 0; i < HUGETLB_TRIES; i++) {
		loff_t size;
		int err;

		err = memfd_liveupdate_lock(inode);
		if (err)
			return err;

		hugetlb_freeze(inode, true);
		if (hugetlb_is_full(file))
			return 0;
		hugetlb_freeze(inode, false);
		size = i_size_read(inode);
		inode_unlock(inode);

		err = vfs_fallocate(file, FALLOC_FL_KEEP_SIZE, 0, size);
		if (err)
			return err;
	}

	return -EBUSY;
}

static int hugetlb_memfd_preserve(struct liveupdate_file_op_args *args)
{
	struct inode *inode = file_inode(args->file);
	int err;

	/* Who may not write to it has no business to keep others from doing so. */
	if (!(args->file->f_mode & FMODE_WRITE))
		return -EBADF;

	err = hugetlb_fill_holes(args->file);
	if (err)
		return err;

	err = hugetlb_memfd_preserve_locked(args);
	if (err)
		hugetlb_freeze(inode, false);
	inode_unlock(inode);

	return err;
}

static void hugetlb_memfd_unpreserve(struct liveupdate_file_op_args *args)
{
	struct hugetlb_memfd_ser *ser = phys_to_virt(args->serialized_data);
	struct inode *inode = file_inode(args->file);
	u64 *pages = args->private_data;

	if (ser->nr) {
		kho_unpreserve_vmalloc(&ser->pages);
		hugetlb_unpreserve_pages(pages, ser->nr);
		vfree(pages);
	}
	kho_unpreserve_free(ser);

	inode_lock(inode);
	hugetlb_freeze(inode, false);
	inode_unlock(inode);
}

/* What can have changed since preserve: position and seals */
static int hugetlb_memfd_freeze(struct liveupdate_file_op_args *args)
{
	return hugetlb_memfd_note(args->file, phys_to_virt(args->serialized_data));
}

/*
 * The memory is lost if the next kernel does not take it, at rest or not: better
 * to stay with this one.
 */
static const char *const *
hugetlb_memfd_needs(struct liveupdate_file_op_args *args)
{
	static const char *const needs[] = {
		KHO_LIVEUPDATE_COMPATIBLE,
		LUO_LIVEUPDATE_COMPATIBLE,
		HUGETLB_MEMFD_LIVEUPDATE_COMPATIBLE,
		NULL
	};

	return needs;
}

/**
 * hugetlb_liveupdate_mark_dma() - A running device has access to this memfd
 * @files: Files of the session, from the arguments of the caller's preserve().
 * @file:  File that is mapped for the device.
 *
 * As memfd_liveupdate_mark_dma(), which is what to call.
 *
 * Context: Only from within a preserve(), under the session's lock.
 * Return: 0, or -ENOENT when @file is not a memfd with huge pages that is preserved
 * in this session.
 */
int hugetlb_liveupdate_mark_dma(const struct luo_file_set *files,
				struct file *file)
{
	struct hugetlb_memfd_ser *ser;
	u64 data;
	int ret;

	ret = liveupdate_find_file(files, file,
				   HUGETLB_MEMFD_LIVEUPDATE_COMPATIBLE, &data);
	if (ret)
		return ret;

	ser = phys_to_virt(data);
	ser->flags |= HUGETLB_MEMFD_SER_DMA;

	return 0;
}

/* --- incoming kernel ---------------------------------------------------------- */

static bool hugetlb_memfd_is_dma(const struct hugetlb_memfd_ser *ser)
{
	return ser->flags & HUGETLB_MEMFD_SER_DMA;
}

/* A large page is in one zone, which movablecore= of this kernel may have cut. */
static size_t hugetlb_restorable_size(phys_addr_t phys)
{
	size_t size = kho_restorable_size(phys);

	if (size && page_zone(pfn_to_page(PHYS_PFN(phys))) !=
		    page_zone(pfn_to_page(PHYS_PFN(phys + size - 1))))
		return 0;

	return size;
}

/*
 * What was handed over, and whether it is right, with its list. A copy: broken data
 * may be where a device writes.
 */
static bool hugetlb_memfd_peek(u64 data, struct hugetlb_memfd_ser *ser)
{
	const struct hugetlb_memfd_ser *from = kho_peek(data, sizeof(*ser));
	const char *why = "it is not in preserved memory";

	if (from) {
		*ser = *from;
		why = hugetlb_memfd_ser_check(ser, kho_peek,
					      hugetlb_restorable_size, max_pfn);
	}
	if (!why)
		return true;

	pr_err("handover data of a memfd is broken, its memory is lost: %s\n", why);

	return false;
}

/*
 * Pages that are nobody's. Those of 1 GiB are larger than what the page allocator
 * gives, and yet it takes them back, as it does when hugetlb frees one.
 */
static void hugetlb_discard_pages(const u64 *pages, u64 nr)
{
	for (u64 i = 0; i < nr; i++) {
		struct folio *folio = kho_restore_folio(pages[i]);

		if (folio)
			folio_put(folio);
		cond_resched();
	}
}

/**
 * struct hugetlb_batch - Pages that are retrieved at a time.
 * @h:      Their size.
 * @file:   Where they belong.
 * @index:  Place of the first of them in there, in pages of this size.
 * @nr:     How many there are.
 * @dma:    A device may write to them.
 * @folios: They, HUGETLB_BATCH at most.
 */
struct hugetlb_batch {
	struct hstate *h;
	struct file *file;
	u64 index;
	unsigned int nr;
	bool dma;
	struct folio **folios;
};

/* One surplus page more, or less */
static void hugetlb_count_surplus(struct hstate *h, struct folio *folio, int change)
{
	int nid = folio_nid(folio);

	lockdep_assert_held(&hugetlb_lock);
	h->nr_huge_pages += change;
	h->nr_huge_pages_node[nid] += change;
	h->surplus_huge_pages += change;
	h->surplus_huge_pages_node[nid] += change;
}

/*
 * Pages that only the caller knows join hugetlb, each with a reference: as its new
 * pages they have none before, and there is one more of each kind than was asked for.
 */
static void hugetlb_batch_adopt(struct hugetlb_batch *batch)
{
	struct hstate *h = batch->h;
	LIST_HEAD(list);

	for (unsigned int i = 0; i < batch->nr; i++) {
		struct folio *folio = batch->folios[i];

		/* Who looks at all pages may have a reference for a moment. */
		while (!folio_ref_freeze(folio, 1))
			cpu_relax();
		init_new_hugetlb_folio(folio);
		list_add_tail(&folio->lru, &list);
	}
	hugetlb_vmemmap_optimize_folios(h, &list);

	for (unsigned int i = 0; i < batch->nr; i++) {
		struct folio *folio = batch->folios[i];

		spin_lock_irq(&hugetlb_lock);
		hugetlb_count_surplus(h, folio, 1);
		list_move(&folio->lru, &h->hugepage_activelist);
		spin_unlock_irq(&hugetlb_lock);

		folio_ref_unfreeze(folio, 1);
	}
}

/* A page that is a device's up to the next boot is none of the pool. */
static void hugetlb_keep(struct hstate *h, struct folio *folio)
{
	spin_lock_irq(&hugetlb_lock);
	hugetlb_count_surplus(h, folio, -1);
	list_del_init(&folio->lru);
	spin_unlock_irq(&hugetlb_lock);
}

/* As many as could be restored, also after an error */
static int hugetlb_batch_restore(struct hugetlb_batch *batch, const u64 *pages,
				 u64 nr)
{
	struct folio *folio = NULL;

	for (batch->nr = 0; batch->nr < min(nr, HUGETLB_BATCH); batch->nr++) {
		folio = kho_restore_folio(pages[batch->nr]);
		/* The list may be where a device writes, if it is broken. */
		if (folio && folio_order(folio) != huge_page_order(batch->h))
			folio = NULL;
		if (!folio)
			break;
		batch->folios[batch->nr] = folio;
	}
	hugetlb_batch_adopt(batch);

	/* Somebody was faster, with handover data that name it twice. */
	return folio ? 0 : -EIO;
}

/* For who retrieves it, as for who has a page allocated without a reservation */
static int hugetlb_charge(struct hstate *h, struct folio *folio)
{
	struct hugetlb_cgroup *cgroup = NULL, *reserved = NULL;
	size_t nr_pages = pages_per_huge_page(h);
	int idx = hstate_index(h);
	int err;

	err = hugetlb_cgroup_charge_cgroup_rsvd(idx, nr_pages, &reserved);
	if (err)
		return err;
	err = hugetlb_cgroup_charge_cgroup(idx, nr_pages, &cgroup);
	if (err) {
		hugetlb_cgroup_uncharge_cgroup_rsvd(idx, nr_pages, reserved);
		return err;
	}

	spin_lock_irq(&hugetlb_lock);
	hugetlb_cgroup_commit_charge(idx, nr_pages, cgroup, folio);
	hugetlb_cgroup_commit_charge_rsvd(idx, nr_pages, reserved, folio);
	spin_unlock_irq(&hugetlb_lock);

	/* It does not apply (-EOPNOTSUPP) unless cgroup2 is mounted so. */
	err = hugetlb_charge_memcg(folio, htlb_alloc_mask(h) | __GFP_RETRY_MAYFAIL);

	return err == -ENOMEM ? err : 0;
}

/*
 * Counted after they were charged, which says whose they are, and all of them, also
 * after an error: freeing them counts down.
 */
static int hugetlb_batch_charge(struct hugetlb_batch *batch)
{
	int err = 0;

	for (unsigned int i = 0; i < batch->nr; i++) {
		struct folio *folio = batch->folios[i];

		if (!err)
			err = hugetlb_charge(batch->h, folio);
		lruvec_stat_mod_folio(folio, NR_HUGETLB,
				      pages_per_huge_page(batch->h));
	}

	return err;
}

static int hugetlb_insert(struct hugetlb_batch *batch, unsigned int i)
{
	struct folio *folio = batch->folios[i];
	int err;

	/* Before anybody can find it */
	if (batch->dma)
		memfd_liveupdate_pin_folio(folio);

	__folio_mark_uptodate(folio);
	err = hugetlb_add_to_page_cache(folio, batch->file->f_mapping,
					batch->index + i);
	if (err)
		return err;

	folio_set_hugetlb_migratable(folio);
	folio_unlock(folio);

	return 0;
}

/* Sets *inserted to how many are in the file; the others are freed, or kept. */
static int hugetlb_batch_insert(struct hugetlb_batch *batch, unsigned int *inserted)
{
	int err = hugetlb_batch_charge(batch);
	unsigned int i;

	for (*inserted = 0; *inserted < batch->nr && !err; (*inserted)++) {
		err = hugetlb_insert(batch, *inserted);
		if (err)
			break;
	}

	/* The page cache has a reference, and a device a pin. */
	for (i = 0; i < *inserted; i++)
		folio_put(batch->folios[i]);
	for (; i < batch->nr; i++) {
		if (batch->dma)
			hugetlb_keep(batch->h, batch->folios[i]);
		else
			folio_put(batch->folios[i]);
	}

	return err;
}

/* All, or after an error none but those that a device may write to */
static int hugetlb_retrieve_pages(struct file *file, const u64 *pages, u64 nr,
				  bool dma)
{
	struct folio **folios __free(kfree) = kmalloc(PAGE_SIZE, GFP_KERNEL);
	struct hugetlb_batch batch = {
		.h = hstate_file(file),
		.file = file,
		.dma = dma,
		.folios = folios,
	};
	struct inode *inode = file_inode(file);
	u64 done = 0, inserted = 0;
	int err;

	err = folios ? hugetlb_adopt_pages(inode, nr) : -ENOMEM;
	if (err)
		goto err_discard;

	while (done < nr) {
		unsigned int here;
		int failed;

		batch.index = done;
		failed = hugetlb_batch_restore(&batch, pages + done, nr - done);
		err = hugetlb_batch_insert(&batch, &here);
		done += batch.nr;
		inserted += here;
		err = err ?: failed;
		if (err)
			goto err_disown;
		cond_resched();
	}

	return 0;

err_disown:
	hugetlb_disown_pages(inode, inserted);
err_discard:
	pr_err("page %llu of %llu cannot be retrieved (%pe)\n", inserted, nr,
	       ERR_PTR(err));
	if (!dma)
		hugetlb_discard_pages(pages + done, nr - done);

	return err;
}

static struct file *hugetlb_retrieve_file(const struct hugetlb_memfd_ser *ser,
					  struct hstate *h)
{
	struct file *file;
	int err;

	/* So that the seals can be added */
	file = memfd_alloc_file("", MFD_HUGETLB | MFD_ALLOW_SEALING |
				    huge_page_shift(h) << MFD_HUGE_SHIFT);
	if (IS_ERR(file))
		return file;

	if (ser->flags & HUGETLB_MEMFD_SER_NOEXEC)
		file_inode(file)->i_mode &= ~0111;
	err = memfd_add_seals(file, ser->seals);
	if (err) {
		fput(file);
		return ERR_PTR(err);
	}
	vfs_setpos(file, ser->pos, MAX_LFS_FILESIZE);
	i_size_write(file_inode(file), ser->size);

	return file;
}

/* All that was handed over is taken. */
static int hugetlb_retrieve_content(struct file *file,
				    const struct hugetlb_memfd_ser *ser)
{
	u64 *pages;
	int err;

	if (!ser->nr)
		return 0;

	pages = kho_restore_vmalloc(&ser->pages);
	if (!pages)
		return -EINVAL;
	err = hugetlb_retrieve_pages(file, pages, ser->nr,
				     hugetlb_memfd_is_dma(ser));
	vfree(pages);

	return err;
}

static int hugetlb_memfd_retrieve(struct liveupdate_file_op_args *args)
{
	struct hugetlb_memfd_ser ser;
	struct hstate *h;
	struct file *file;
	void *taken;
	int err;

	if (!hugetlb_memfd_peek(args->serialized_data, &ser))
		return -EINVAL;

	h = size_to_hstate(PAGE_SIZE << ser.order);
	if (!h || ser.seals & ~HUGETLB_MEMFD_SEALS) {
		pr_err("a memfd cannot be retrieved: this kernel has no %s (%pe)\n",
		       h ? "such seals" : "pages of its size",
		       ERR_PTR(-EOPNOTSUPP));
		return -EOPNOTSUPP;
	}

	file = hugetlb_retrieve_file(&ser, h);
	if (IS_ERR(file))
		return PTR_ERR(file);

	/* Somebody was faster, with handover data that name it twice. */
	taken = kho_take(args->serialized_data, sizeof(ser));
	if (!taken) {
		fput(file);
		return -EINVAL;
	}
	err = hugetlb_retrieve_content(file, &ser);
	if (!err && hugetlb_memfd_is_dma(&ser)) {
		inode_lock(file_inode(file));
		hugetlb_freeze(file_inode(file), true);
		inode_unlock(file_inode(file));
	}
	kho_taken_free(taken);
	if (err) {
		fput(file);
		return err;
	}
	args->file = file;

	return 0;
}

/*
 * A marked memfd that nobody retrieved: its pages are the device's. What is broken
 * keeps all its memory, and can be finished.
 */
static bool hugetlb_memfd_can_finish(struct liveupdate_file_op_args *args)
{
	struct hugetlb_memfd_ser ser;

	if (args->retrieve_status)
		return true;

	return !hugetlb_memfd_peek(args->serialized_data, &ser) ||
	       !hugetlb_memfd_is_dma(&ser);
}

/* Undo what retrieve did for a device. */
static void hugetlb_memfd_release(struct file *file)
{
	struct hstate *h = hstate_file(file);
	struct inode *inode = file_inode(file);
	u64 nr = DIV_ROUND_UP_ULL(i_size_read(inode), huge_page_size(h));

	if (!HUGETLBFS_I(inode)->frozen)
		return;

	for (u64 i = 0; i < nr; i++) {
		struct folio *folio;

		folio = filemap_get_folio(inode->i_mapping,
					  i << huge_page_order(h));
		if (WARN_ON_ONCE(IS_ERR(folio)))
			continue;
		unpin_folio(folio);
		folio_put(folio);
		cond_resched();
	}

	inode_lock(inode);
	hugetlb_freeze(inode, false);
	inode_unlock(inode);
}

static void hugetlb_memfd_finish(struct liveupdate_file_op_args *args)
{
	struct hugetlb_memfd_ser ser;
	void *taken;
	u64 *pages;

	if (args->retrieve_status > 0) {
		hugetlb_memfd_release(args->file);
		return;
	}

	/* retrieve() frees what it had begun to take, and leaves the rest alone. */
	if (!kho_peek(args->serialized_data, sizeof(ser)) ||
	    !hugetlb_memfd_peek(args->serialized_data, &ser) ||
	    hugetlb_memfd_is_dma(&ser))
		return;
	taken = kho_take(args->serialized_data, sizeof(ser));
	if (!taken)
		return;

	pages = ser.nr ? kho_restore_vmalloc(&ser.pages) : NULL;
	if (pages)
		hugetlb_discard_pages(pages, ser.nr);
	vfree(pages);
	kho_taken_free(taken);
}

/* --- the handler ---------------------------------------------------------------- */

/* Not shared memory of System V, whose file is the kernel's own */
static bool hugetlb_memfd_can_preserve(struct liveupdate_file_handler *handler,
				       struct file *file)
{
	struct inode *inode = file_inode(file);

	return is_file_hugepages(file) && inode->i_sb->s_magic == HUGETLBFS_MAGIC &&
	       !inode->i_nlink && !IS_PRIVATE(inode);
}

static unsigned long hugetlb_memfd_get_id(struct file *file)
{
	return (unsigned long)file_inode(file);
}

static const struct liveupdate_file_ops hugetlb_memfd_file_ops = {
	.can_preserve = hugetlb_memfd_can_preserve,
	.preserve = hugetlb_memfd_preserve,
	.unpreserve = hugetlb_memfd_unpreserve,
	.freeze = hugetlb_memfd_freeze,
	.retrieve = hugetlb_memfd_retrieve,
	.can_finish = hugetlb_memfd_can_finish,
	.finish = hugetlb_memfd_finish,
	.get_id = hugetlb_memfd_get_id,
	.needs = hugetlb_memfd_needs,
	.owner = THIS_MODULE,
};

static struct liveupdate_file_handler hugetlb_memfd_handler = {
	.ops = &hugetlb_memfd_file_ops,
	.compatible = HUGETLB_MEMFD_LIVEUPDATE_COMPATIBLE,
};

static int __init hugetlb_liveupdate_init(void)
{
	int err = liveupdate_register_file_handler(&hugetlb_memfd_handler);

	if (err && err != -EOPNOTSUPP) {
		pr_err("cannot take part (%pe)\n", ERR_PTR(err));
		return err;
	}

	return 0;
}
late_initcall(hugetlb_liveupdate_init);
