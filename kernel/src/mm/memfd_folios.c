// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: The folios of a preserved memfd
 *
 * A virtual machine's memory is retrieved while it stands still, and has a folio
 * for every 4 KiB if nobody made sure of larger ones. So what can be done once for
 * many of them is not done for each, and nothing is allocated in one piece that grows
 * with the memory::
 *
 *   memfd_preserve_folios()
 *     memfd_pin_present()        pins folios that are in the page cache and stay there,
 *                                a node of it at a time
 *     memfd_pin_others()         others, some hundred at a time: missing, swapped out, in
 *                                memory that may not be pinned, or just being moved
 *     memfd_list()               writes the list, out of the page cache, and preserves
 *                                each folio
 *
 *   memfd_retrieve_folios()
 *     memfd_batch_fill()         restores a batch of folios, up to a node of the page cache
 *     shmem_inode_acct_blocks()  accounts for it
 *     memfd_batch_insert()       page cache, under its lock once; a folio that follows the
 *                                one before needs no descent from the root
 *     memfd_batch_count()        statistics, once for neighbours of one NUMA node
 *     memfd_batch_release()      LRU lists
 *
 * The file is new and nobody else has it. memfd_ser_check() has been content with
 * the list of folios: they come in the order of their places, and do not overlap.
 *
 * Restrictions:
 *
 * - What fails half-way has lost what was not retrieved yet. It is freed, or kept
 *   out of use up to the next boot if a device may write to it.
 */

#define pr_fmt(fmt) "memfd: " fmt

#include <linux/highmem.h>
#include <linux/kexec_handover.h>
#include <linux/memcontrol.h>
#include <linux/memfd.h>
#include <linux/memfd_liveupdate.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <linux/vmstat.h>
#include <linux/xarray.h>

#include "internal.h"

/* --- outgoing kernel ---------------------------------------------------------- */

/* Folios that memfd_pin_folios() is asked for at a time */
#define MEMFD_PIN_FOLIOS	(PAGE_SIZE / sizeof(struct folio *))

/**
 * struct memfd_pins - What is done once for many folios that are pinned.
 * @block: Pageblock of the last one, whose memory may be pinned.
 * @last:  The last one.
 * @nr:    Pins, of folios of its NUMA node, that are not in the statistics yet.
 */
struct memfd_pins {
	unsigned long block;
	struct folio *last;
	long nr;
};

static void memfd_count_pins(struct memfd_pins *pins)
{
	if (pins->nr)
		node_stat_mod_folio(pins->last, NR_FOLL_PIN_ACQUIRED, pins->nr);
	pins->nr = 0;
}

/* As try_grab_folio() does. The page cache has a reference. */
static void memfd_pin_folio(struct folio *folio, struct memfd_pins *pins)
{
	if (pins->nr && folio_nid(folio) != folio_nid(pins->last))
		memfd_count_pins(pins);
	pins->last = folio;
	pins->nr++;

	if (folio_has_pincount(folio)) {
		folio_ref_add(folio, 1);
		atomic_inc(&folio->_pincount);
	} else {
		folio_ref_add(folio, GUP_PIN_COUNTING_BIAS);
	}
}

static bool memfd_may_pin(struct folio *folio, struct memfd_pins *pins)
{
	unsigned long block = folio_pfn(folio) >> pageblock_order;

	if (block != pins->block && !folio_is_longterm_pinnable(folio))
		return false;
	pins->block = block;

	return true;
}

/*
 * Pin a folio, under the lock of the page cache that has it. Reclaim, migration and
 * khugepaged lock a folio before they look for pins, so that one which is pinned and
 * not locked then stays.
 */
static bool memfd_try_pin(struct folio *folio, struct memfd_pins *pins)
{
	if (folio_test_locked(folio) || !memfd_may_pin(folio, pins))
		return false;

	memfd_pin_folio(folio, pins);
	/* Pairs with folio_trylock(), an atomic operation that is ordered, too. */
	smp_mb__after_atomic();
	if (!folio_test_locked(folio))
		return true;

	unpin_folio(folio);

	return false;
}

/* Some folios from *end on, up to the first that is not so easy; returns how many. */
static u64 memfd_pin_present(struct address_space *mapping, pgoff_t *end,
			     pgoff_t size)
{
	XA_STATE(xas, &mapping->i_pages, *end);
	struct memfd_pins pins = { .block = ULONG_MAX };
	struct folio *folio;
	u64 nr = 0;

	xas_lock_irq(&xas);
	for (folio = xas_load(&xas); folio && !xa_is_value(folio);
	     folio = xas_next(&xas)) {
		if (!memfd_try_pin(folio, &pins))
			break;
		nr++;
		*end = folio_next_index(folio);
		if (nr == XA_CHUNK_SIZE || *end >= size)
			break;
		xas_advance(&xas, *end - 1);
	}
	memfd_count_pins(&pins);
	xas_unlock_irq(&xas);

	return nr;
}

/*
 * Reclaim may have been at work on a folio when it was pinned, and have it swapped out
 * since: it holds the folio's lock for that, and begins with none that is pinned.
 */
static bool memfd_in_cache(struct address_space *mapping, struct folio **folios,
			   long nr)
{
	bool in_cache = true;

	for (long i = 0; i < nr && in_cache; i++) {
		folio_lock(folios[i]);
		in_cache = folios[i]->mapping == mapping;
		folio_unlock(folios[i]);
	}

	return in_cache;
}

/* Some folios from *end on, whatever they are. Returns how many, or an error. */
static long memfd_pin_others(struct file *file, pgoff_t *end,
			     struct folio **folios)
{
	pgoff_t offset;
	long nr;

	nr = memfd_pin_folios(file, (loff_t)*end << PAGE_SHIFT,
			      i_size_read(file_inode(file)) - 1, folios,
			      MEMFD_PIN_FOLIOS, &offset);
	if (nr <= 0)
		return nr ?: -EIO;

	if (!memfd_in_cache(file->f_mapping, folios, nr)) {
		unpin_folios(folios, nr);
		return 0;
	}
	*end = folio_next_index(folios[nr - 1]);

	return nr;
}

/*
 * All folios, so that they do not move, are not swapped out, and are not in CMA, where
 * scratch memory is; folios that are missing are allocated. Up to *end, also after an
 * error.
 */
static int memfd_pin(struct file *file, pgoff_t size, u64 *nr, pgoff_t *end)
{
	struct folio **folios = kmalloc(PAGE_SIZE, GFP_KERNEL);
	long pinned = 0;

	*nr = 0;
	*end = 0;
	if (!folios)
		return -ENOMEM;

	while (*end < size && pinned >= 0) {
		pinned = memfd_pin_present(file->f_mapping, end, size);
		if (!pinned)
			pinned = memfd_pin_others(file, end, folios);
		if (pinned > 0)
			*nr += pinned;
		if (fatal_signal_pending(current))
			pinned = -EINTR;
		cond_resched();
	}
	kfree(folios);

	return min(pinned, 0);
}

/*
 * Some folios of [*index, @end), of which all are there and pinned; *index goes on
 * behind them.
 */
static unsigned int memfd_gather(struct address_space *mapping, pgoff_t *index,
				 pgoff_t end, struct folio **folios)
{
	XA_STATE(xas, &mapping->i_pages, *index);
	struct folio *folio;
	unsigned int nr = 0;

	if (*index >= end)
		return 0;

	guard(rcu)();
	for (folio = xas_load(&xas); folio && !xa_is_value(folio);
	     folio = xas_next(&xas)) {
		if (xas_retry(&xas, folio))
			continue;
		folios[nr++] = folio;
		*index = folio_next_index(folio);
		if (nr == XA_CHUNK_SIZE || *index >= end)
			break;
		xas_advance(&xas, *index - 1);
	}

	return nr;
}

static void memfd_unpin(struct address_space *mapping, pgoff_t end)
{
	struct folio *folios[XA_CHUNK_SIZE];
	pgoff_t index = 0;
	unsigned int nr;

	while ((nr = memfd_gather(mapping, &index, end, folios)))
		unpin_folios(folios, nr);
}

/*
 * All have content from here on, and none is clean: a clean folio may be freed under
 * memory pressure, and it can become dirty at any time until freeze.
 */
static void memfd_make_dirty(struct folio *folio)
{
	folio_lock(folio);
	folio_mark_dirty(folio);
	if (!folio_test_uptodate(folio)) {
		folio_zero_range(folio, 0, folio_size(folio));
		flush_dcache_folio(folio);
		folio_mark_uptodate(folio);
	}
	folio_unlock(folio);
}

static int memfd_list_folio(struct folio *folio, struct memfd_luo_folio_ser *ser)
{
	int err = kho_preserve_folio(folio);

	if (err)
		return err;
	if (!folio_test_dirty(folio) || !folio_test_uptodate(folio))
		memfd_make_dirty(folio);

	ser->pfn = folio_pfn(folio);
	ser->flags = MEMFD_LUO_FOLIO_DIRTY | MEMFD_LUO_FOLIO_UPTODATE;
	ser->index = folio->index;

	return 0;
}

static void memfd_unlist(const struct memfd_luo_folio_ser *ser, u64 nr)
{
	while (nr)
		kho_unpreserve_folio(pfn_folio(ser[--nr].pfn));
}

/* Of all folios, or none after an error */
static int memfd_list(struct address_space *mapping, pgoff_t end,
		      struct memfd_luo_folio_ser *ser, u64 nr)
{
	struct folio *folios[XA_CHUNK_SIZE];
	unsigned int i, here;
	pgoff_t index = 0;
	u64 listed = 0;
	int err = 0;

	while (!err && (here = memfd_gather(mapping, &index, end, folios))) {
		for (i = 0; i < here && !err; i++) {
			err = listed < nr ? memfd_list_folio(folios[i], &ser[listed]) :
					    -EIO;
			if (!err)
				listed++;
		}
		cond_resched();
	}
	if (!err && listed == nr)
		return 0;

	memfd_unlist(ser, listed);

	return err ?: -EIO;
}

/**
 * memfd_preserve_folios() - Preserve the folios of a memfd
 * @file:    The memfd, frozen (shmem_freeze()).
 * @vmalloc: Where the list of folios is described for the next kernel.
 * @ser:     Set to the list, NULL for an empty file; freed by memfd_luo.c.
 * @nr:      Set to how many entries it has.
 *
 * Context: Process context, may sleep; with the inode's lock.
 * Return: 0, or an error, and nothing is preserved or pinned: -ENOMEM, -EINTR when the
 * process is being killed, or what memfd_pin_folios(), kho_preserve_folio() or
 * kho_preserve_vmalloc() returned.
 */
int memfd_preserve_folios(struct file *file, struct kho_vmalloc *vmalloc,
			  struct memfd_luo_folio_ser **ser, u64 *nr)
{
	struct address_space *mapping = file->f_mapping;
	loff_t size = i_size_read(mapping->host);
	pgoff_t end;
	int err;

	*ser = NULL;
	*nr = 0;
	if (!size)
		return 0;

	err = memfd_pin(file, DIV_ROUND_UP_ULL(size, PAGE_SIZE), nr, &end);
	if (err) {
		pr_err("failed to pin folios (%pe)\n", ERR_PTR(err));
		goto err_unpin;
	}

	*ser = vmalloc_array(*nr, sizeof(**ser));
	err = *ser ? memfd_list(mapping, end, *ser, *nr) : -ENOMEM;
	if (err)
		goto err_free;

	err = kho_preserve_vmalloc(*ser, vmalloc);
	if (!err)
		return 0;

	memfd_unlist(*ser, *nr);
err_free:
	vfree(*ser);
err_unpin:
	memfd_unpin(mapping, end);

	return err;
}

/* --- incoming kernel ---------------------------------------------------------- */

/* Folios that are inserted at a time */
struct memfd_batch {
	struct folio *folios[XA_CHUNK_SIZE];
	unsigned int nr;
	long nr_pages;
};

/* Restore a folio, and make it what the page cache expects of one that is new */
static int memfd_restore_folio(struct address_space *mapping,
			       const struct memfd_luo_folio_ser *ser, bool dma,
			       struct memfd_batch *batch)
{
	struct folio *folio = kho_restore_folio(PFN_PHYS(ser->pfn));
	int err;

	if (!folio)
		return -EIO;
	if (dma)
		memfd_liveupdate_pin_folio(folio);
	/* The previous kernel may have transparent huge pages, and this one not. */
	if (folio_order(folio) > MAX_PAGECACHE_ORDER ||
	    (folio_test_large(folio) && !IS_ENABLED(CONFIG_XARRAY_MULTI))) {
		folio_put(folio);
		return -EOPNOTSUPP;
	}

	page_rmappable_folio(&folio->page);
	__folio_set_locked(folio);
	__folio_set_swapbacked(folio);
	if (ser->flags & MEMFD_LUO_FOLIO_UPTODATE)
		folio_mark_uptodate(folio);
	if (ser->flags & MEMFD_LUO_FOLIO_DIRTY)
		folio_set_dirty(folio);
	folio->index = ser->index;

	err = mem_cgroup_charge(folio, NULL, mapping_gfp_mask(mapping));
	if (err) {
		folio_unlock(folio);
		folio_put(folio);
		return err;
	}

	batch->folios[batch->nr++] = folio;
	batch->nr_pages += folio_nr_pages(folio);

	return 0;
}

/* Returns an error, or 0 with a batch, which is empty at the end of the list. */
static int memfd_batch_fill(struct memfd_batch *batch, struct address_space *mapping,
			    const struct memfd_luo_folio_ser *ser, u64 nr,
			    bool dma, u64 *done)
{
	int err = 0;

	batch->nr = 0;
	batch->nr_pages = 0;
	for (; *done < nr && batch->nr < XA_CHUNK_SIZE && !err; (*done)++)
		if (ser[*done].pfn)
			err = memfd_restore_folio(mapping, &ser[*done], dma,
						  batch);

	return err;
}

/* Returns how many are in the page cache now: all, if there was memory for it. */
static unsigned int memfd_batch_insert(struct memfd_batch *batch,
				       struct address_space *mapping)
{
	gfp_t gfp = mapping_gfp_mask(mapping) & GFP_RECLAIM_MASK;
	XA_STATE(xas, &mapping->i_pages, 0);
	pgoff_t next = 0;
	unsigned int i = 0;

	do {
		xas_lock_irq(&xas);
		for (; i < batch->nr; i++) {
			struct folio *folio = batch->folios[i];

			/* In the same node, one slot further */
			if (folio->index == next && next & XA_CHUNK_MASK &&
			    !folio_test_large(folio))
				xas_next(&xas);
			else
				xas_set_order(&xas, folio->index,
					      folio_order(folio));
			xas_store(&xas, folio);
			next = 0;
			if (xas_error(&xas))
				break;
			folio->mapping = mapping;
			folio_ref_add(folio, folio_nr_pages(folio) - 1);
			mapping->nrpages += folio_nr_pages(folio);
			if (!folio_test_large(folio))
				next = folio_next_index(folio);
		}
		xas_unlock_irq(&xas);
	} while (xas_nomem(&xas, gfp));

	return i;
}

static void memfd_count(struct folio *folio, long nr_pages, long nr_thp_pages)
{
	lruvec_stat_mod_folio(folio, NR_FILE_PAGES, nr_pages);
	lruvec_stat_mod_folio(folio, NR_SHMEM, nr_pages);
	if (nr_thp_pages)
		lruvec_stat_mod_folio(folio, NR_SHMEM_THPS, nr_thp_pages);
}

/* As shmem counts; all belong to one memory control group. */
static void memfd_batch_count(struct memfd_batch *batch, unsigned int nr)
{
	long pages = 0, thp_pages = 0;

	for (unsigned int i = 0; i < nr; i++) {
		struct folio *folio = batch->folios[i];

		pages += folio_nr_pages(folio);
		if (folio_test_pmd_mappable(folio))
			thp_pages += folio_nr_pages(folio);
		if (i + 1 < nr && folio_nid(folio) == folio_nid(batch->folios[i + 1]))
			continue;
		memfd_count(folio, pages, thp_pages);
		pages = 0;
		thp_pages = 0;
	}
}

/* The page cache has the reference, of those that are in there. */
static void memfd_batch_release(struct memfd_batch *batch, unsigned int nr)
{
	for (unsigned int i = 0; i < batch->nr; i++) {
		struct folio *folio = batch->folios[i];

		if (i < nr)
			folio_add_lru(folio);
		folio_unlock(folio);
		if (i >= nr)
			folio_put(folio);
	}
}

/**
 * memfd_retrieve_folios() - Put preserved folios into a new memfd
 * @inode: Its inode.
 * @ser:   The list of folios, validated.
 * @nr:    Entries in the list.
 * @dma:   A device may write to them: they are pinned.
 * @done:  Set to how many entries of the list were dealt with, also after an error.
 *
 * Context: Process context, may sleep.
 * Return: 0, -EIO when a folio is not preserved, -EOPNOTSUPP when it is too large for
 * the page cache of this kernel, -ENOMEM, -ENOSPC, or what mem_cgroup_charge() returned.
 */
int memfd_retrieve_folios(struct inode *inode,
			  const struct memfd_luo_folio_ser *ser, u64 nr,
			  bool dma, u64 *done)
{
	struct address_space *mapping = inode->i_mapping;
	/* One for all: the task may be moved to another on the way. */
	struct mem_cgroup *memcg = get_mem_cgroup_from_mm(current->mm);
	struct mem_cgroup *old_memcg = set_active_memcg(memcg);
	struct memfd_batch batch;
	unsigned int inserted;
	long accounted = 0;
	int err, failed;

	*done = 0;
	do {
		failed = memfd_batch_fill(&batch, mapping, ser, nr, dma, done);
		err = shmem_inode_acct_blocks(inode, batch.nr_pages);
		if (!err)
			accounted += batch.nr_pages;
		inserted = err ? 0 : memfd_batch_insert(&batch, mapping);
		memfd_batch_count(&batch, inserted);
		memfd_batch_release(&batch, inserted);
		if (!err && inserted < batch.nr)
			err = -ENOMEM;
		cond_resched();
	} while (!err && !failed && *done < nr);

	set_active_memcg(old_memcg);
	mem_cgroup_put(memcg);

	/* Gives back what is accounted for and is not there */
	shmem_recalc_inode(inode, accounted, 0);
	err = err ?: failed;
	if (err)
		pr_err("folio %llu of %llu cannot be retrieved (%pe)\n", *done, nr,
		       ERR_PTR(err));

	return err;
}
