// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: Preserved memfds under running devices
 *
 * A device in running mode reads and writes the folios of memfds while the
 * kernels change, through an IOMMU page table that crosses with it. Until the
 * memfd is retrieved nobody else has these folios. Retrieve inserts them into the
 * page cache: the kernel could migrate them, swap them out, or free what a user
 * truncates, and the device would write to memory that belongs to somebody else.
 *
 * Outgoing kernel::
 *
 *   preserve() of an iommufd
 *     memfd_liveupdate_mark_dma()      %MEMFD_LUO_FLAG_DMA in the handover data
 *
 * Incoming kernel, for a memfd with that flag::
 *
 *   retrieve()
 *     memfd_liveupdate_take()          validates the handover data
 *     memfd_liveupdate_pin_folio()     each folio, before anybody can find it
 *     memfd_liveupdate_hold()          no truncation, no holes
 *   finish()
 *     memfd_liveupdate_can_finish()    not before it was retrieved
 *     memfd_liveupdate_release()       unpins the folios
 *
 * Restrictions:
 *
 * - Its session cannot be finished before the restored page tables are gone.
 * - When retrieve fails half-way its memory is not freed before the next boot.
 *
 * Memfds with huge pages of hugetlbfs are told of in mm/hugetlb_liveupdate.c.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/export.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/hugetlb_liveupdate.h>
#include <linux/io.h>
#include <linux/iopoll.h>
#include <linux/kho/check/memfd.h>
#include <linux/kho/memory.h>
#include <linux/liveupdate.h>
#include <linux/memblock.h>
#include <linux/memfd_liveupdate.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/shmem_fs.h>

#include "internal.h"

/**
 * memfd_liveupdate_mark_dma() - A running device has access to this memfd
 * @files: Files of the session, from the arguments of the caller's preserve().
 * @file:  File that is mapped for the device.
 *
 * The mark stays until @file is unpreserved. Should no device go along after all,
 * then its memfd cannot be finished without having been retrieved, no more.
 *
 * Context: Only from within a preserve(), under the session's lock.
 * Return: 0, or -ENOENT when @file is not a memfd that is preserved in this
 * session.
 */
int memfd_liveupdate_mark_dma(const struct luo_file_set *files,
			      struct file *file)
{
	struct memfd_luo_ser *ser;
	u64 data;
	int ret;

	if (is_file_hugepages(file))
		return hugetlb_liveupdate_mark_dma(files, file);

	ret = liveupdate_find_file(files, file, MEMFD_LUO_FH_COMPATIBLE, &data);
	if (ret)
		return ret;

	ser = phys_to_virt(data);
	ser->flags |= MEMFD_LUO_FLAG_DMA;

	return 0;
}
EXPORT_SYMBOL_GPL(memfd_liveupdate_mark_dma);

/*
 * inode_lock(), for preserve. write(2) holds it while it copies from user space,
 * and a page fault there can take any time (userfaultfd): so there is a bound, far
 * above the time that a write takes otherwise. Several writers without a pause can
 * also keep the lock from being taken: the caller can try again.
 */
int memfd_liveupdate_lock(struct inode *inode)
{
	bool locked;

	if (!read_poll_timeout(inode_trylock, locked, locked, USEC_PER_MSEC,
			       2 * USEC_PER_SEC, false, inode))
		return 0;

	pr_warn("a memfd cannot be preserved: a write to it does not end, or one comes after the other (%pe)\n",
		ERR_PTR(-EBUSY));

	return -EBUSY;
}

/* The folio was just restored, and only the caller knows it. */
void memfd_liveupdate_pin_folio(struct folio *folio)
{
	WARN_ON(try_grab_folio(folio, 1, FOLL_PIN));
}

/* All folios of this file are pinned: no more changes to which they are. */
void memfd_liveupdate_hold(struct file *file)
{
	struct inode *inode = file_inode(file);

	inode_lock(inode);
	shmem_freeze(inode, true);
	inode_unlock(inode);
}

/* Undo what retrieve did, for a file that is held. */
void memfd_liveupdate_release(struct file *file)
{
	struct inode *inode = file_inode(file);
	pgoff_t index = 0, end = DIV_ROUND_UP(i_size_read(inode), PAGE_SIZE);

	if (!(SHMEM_I(inode)->flags & SHMEM_F_MAPPING_FROZEN))
		return;

	while (index < end) {
		struct folio *folio = filemap_get_folio(inode->i_mapping, index);

		if (WARN_ON_ONCE(IS_ERR(folio))) {
			index++;
			continue;
		}
		index = folio_next_index(folio);
		unpin_folio(folio);
		folio_put(folio);
		cond_resched();
	}

	inode_lock(inode);
	shmem_freeze(inode, false);
	inode_unlock(inode);
}

/* What was handed over, with all its lists, or NULL when it is broken */
static struct memfd_luo_ser *memfd_liveupdate_peek(u64 data)
{
	struct memfd_luo_ser *ser = kho_peek(data, sizeof(*ser));
	const char *why = ser ? memfd_ser_check(ser, kho_peek,
						kho_restorable_size, max_pfn) :
				"it is not in preserved memory";

	if (!why)
		return ser;

	pr_err("handover data of a memfd is broken, its memory is lost: %s\n", why);

	return NULL;
}

/* The same, to be freed with kho_taken_free() */
struct memfd_luo_ser *memfd_liveupdate_take(u64 data)
{
	struct memfd_luo_ser *ser = memfd_liveupdate_peek(data);

	return ser ? kho_take(data, sizeof(*ser)) : NULL;
}

/*
 * A marked memfd that nobody retrieved: its folios are the device's. What is
 * broken keeps all its memory, and can be finished.
 */
bool memfd_liveupdate_can_finish(struct liveupdate_file_op_args *args)
{
	struct memfd_luo_ser *ser;

	if (args->retrieve_status)
		return true;

	ser = memfd_liveupdate_peek(args->serialized_data);

	return !ser || !memfd_liveupdate_is_dma(ser);
}
