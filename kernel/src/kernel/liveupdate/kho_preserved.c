// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: Preserved memory at boot
 *
 * The previous kernel left a map of what it preserved: a radix tree whose leaves
 * are bitmaps, see <linux/kho/abi/kexec_handover.h>. Two things are needed of it:
 * at boot none of these pages may become free, and later each is given, with its
 * order, to the one who restores it::
 *
 *   kho_memory_init_early()
 *     kho_map_adopt()               notes the pages, one bit each
 *     kho_extend_scratch()          blocks of 1 GiB without any become scratch
 *   kho_memory_init()
 *     kho_map_check()               panics if somebody has taken any
 *   memblock_free_all()
 *     kho_unpreserved_run()         finds what may be freed
 *   page_alloc_init_late()
 *     deferred_free_pages()         the same, CONFIG_DEFERRED_STRUCT_PAGE_INIT
 *   core_initcall()
 *     kho_noted_free()              the notes are not needed any more; the map stays
 *
 *   kho_restore_folio(), kho_restore_pages()
 *     kho_map_claim()               looks up the order, clears the bit in the map
 *
 * What a boot takes has to be linear in what was preserved, with a small factor: it
 * is time during which virtual machines stand still.
 *
 * - memblock is not told. It keeps a sorted array of regions, each new one of which
 *   is looked for and inserted in time that grows with the array: with single pages
 *   here and there that is quadratic. Nor does it have to know: until
 *   memblock_free_all() has freed what may be freed, it allocates from the scratch
 *   areas, and blocks that kho_extend_scratch() added to them, where nothing is
 *   preserved. What takes memory in other ways is found by kho_map_check().
 * - Nothing is done for each page but setting bits, whole words at a time where
 *   neighbours are preserved. Pages are freed in runs between preserved ones.
 * - Nothing is written into struct pages: which orders begin where is in the map,
 *   which stays for that. So there is nothing to initialize early either. Struct
 *   pages of preserved memory are initialized with those of free memory, deferred
 *   and in parallel if the kernel is configured so.
 *
 * Restrictions:
 *
 * - Nothing can be restored before page_alloc_init_late(), which initializes struct
 *   pages that were deferred: not in an early_initcall().
 * - memtest= on the command line writes to all memory at boot, preserved or not.
 * - Folios of 2^38 pages and more, which share a leaf with those of another order,
 *   cannot be preserved. That is a pebibyte.
 */

#define pr_fmt(fmt) "KHO: " fmt

#include <linux/bitmap.h>
#include <linux/bitops.h>
#include <linux/export.h>
#include <linux/find.h>
#include <linux/init.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/kexec_handover.h>
#include <linux/kho/preserved.h>
#include <linux/memblock.h>
#include <linux/mm.h>
#include <linux/panic.h>
#include <linux/pgalloc_tag.h>
#include <linux/workqueue.h>
#include <kunit/visibility.h>

/* A leaf: this many keys, or in kho_noted this many pages, 128 MiB */
#define KHO_LEAF_BITS	BIT(KHO_BITMAP_SIZE_LOG2)

/* --- the previous kernel's map ----------------------------------------------- */

static struct kho_map kho_map __ro_after_init;

/* Find the order of what begins at @phys: its leaf, and the bit in there */
static unsigned long *kho_map_find(const struct kho_map *map, phys_addr_t phys,
				   unsigned int *order, unsigned long *bit)
{
	unsigned long pfn = PHYS_PFN(phys), orders, *leaf;

	if (pfn >= map->pfns || !PAGE_ALIGNED(phys))
		return NULL;

	orders = map->orders & GENMASK(pfn ? __ffs(pfn) : BITS_PER_LONG - 1, 0);
	for_each_set_bit(*order, &orders, BITS_PER_LONG) {
		leaf = map->leaves[*order][(pfn >> *order) / KHO_LEAF_BITS];
		*bit = (pfn >> *order) % KHO_LEAF_BITS;
		if (leaf && test_bit(*bit, leaf))
			return leaf;
	}

	return NULL;
}

/**
 * kho_restorable_size() - Tell the size of preserved memory
 * @phys: Any physical address, as the previous kernel may have left it.
 *
 * Context: Any context.
 * Return: bytes of the preserved memory that begins at @phys; 0 when none does, or
 * when it was restored.
 */
size_t kho_restorable_size(phys_addr_t phys)
{
	unsigned int order;
	unsigned long bit;

	return kho_map_find(&kho_map, phys, &order, &bit) ? PAGE_SIZE << order : 0;
}
EXPORT_SYMBOL_GPL(kho_restorable_size);

/* Of two who try it at once, one gets it. */
VISIBLE_IF_KUNIT bool kho_map_take(const struct kho_map *map, phys_addr_t phys,
				   unsigned int *order)
{
	unsigned long *leaf, bit;

	leaf = kho_map_find(map, phys, order, &bit);

	return leaf && test_and_clear_bit(bit, leaf);
}
EXPORT_SYMBOL_IF_KUNIT(kho_map_take);

/**
 * kho_map_claim() - Take preserved memory
 * @phys:  Any physical address, as the previous kernel may have left it.
 * @order: Set to the order of what begins there.
 *
 * Memory can be taken once.
 *
 * Context: Any context.
 * Return: whether preserved memory begins at @phys and is the caller's now.
 */
bool kho_map_claim(phys_addr_t phys, unsigned int *order)
{
	if (kho_map_take(&kho_map, phys, order))
		return true;

	pr_err_ratelimited("no preserved memory begins at %pa, or it was restored\n",
			   &phys);

	return false;
}

/* Reserves depend on how much memory there is: once for all that comes at a time */
static void kho_update_reserves(struct work_struct *work)
{
	adjust_managed_page_count(ZERO_PAGE(0), 0);
}

static DECLARE_WORK(kho_reserves_work, kho_update_reserves);

/**
 * kho_account_restored() - Count restored memory as the kernel's
 * @page: First of the pages, all of one zone.
 * @nr:   How many.
 *
 * Context: Any context.
 */
void kho_account_restored(struct page *page, unsigned long nr)
{
	atomic_long_add(nr, &page_zone(page)->managed_pages);
	totalram_pages_add(nr);
	/* What is pending counts this, too. */
	smp_mb__after_atomic();
	if (!work_pending(&kho_reserves_work))
		schedule_work(&kho_reserves_work);
}

/* --- what may be freed at boot ------------------------------------------------- */

/* For each 128 MiB a bitmap of preserved pages, or NULL where there are none */
static unsigned long **kho_noted __initdata;

/* Root of the previous kernel's map */
static struct kho_radix_node *kho_map_root __initdata;

/* An array of something for each leaf that covers memory, pages of @order a bit */
static size_t __init kho_leaves_size(unsigned int order)
{
	return PAGE_ALIGN(DIV_ROUND_UP(kho_map.pfns, KHO_LEAF_BITS << order) *
			  sizeof(void *));
}

/* Without memory panics: going on would give preserved memory away. */
static void __init *kho_note_alloc(size_t size)
{
	void *notes = memblock_alloc_try_nid(size, PAGE_SIZE, MEMBLOCK_LOW_LIMIT,
					     MEMBLOCK_ALLOC_NOLEAKTRACE,
					     NUMA_NO_NODE);

	if (!notes)
		panic("KHO: no memory to note what is preserved");

	return notes;
}

/* In pieces of 128 MiB, which is no more than memory without a hole in struct pages */
static void __init kho_note(unsigned long pfn, unsigned long nr)
{
	unsigned long end = pfn + nr;

	if (end > kho_map.pfns ||
	    (nr > 1 && !memblock_is_memory(PFN_PHYS(end - 1))))
		panic("KHO: what was preserved up to pfn %#lx is not memory", end);

	while (pfn < end) {
		unsigned long **leaf = &kho_noted[pfn / KHO_LEAF_BITS];
		unsigned long first = pfn % KHO_LEAF_BITS;
		unsigned long here = min(end - pfn, KHO_LEAF_BITS - first);

		/* With mem= on the command line, or when the map is broken */
		if (!memblock_is_memory(PFN_PHYS(pfn)))
			panic("KHO: what was preserved at pfn %#lx is not memory",
			      pfn);
		if (!*leaf)
			*leaf = kho_note_alloc(PAGE_SIZE);
		if (find_next_bit(*leaf, first + here, first) < first + here)
			panic("KHO: memory at pfn %#lx was preserved twice", pfn);
		bitmap_set(*leaf, first, here);
		pfn += here;
	}
}

/* The format of a key is that of kexec_handover.c: a bit that says the order, and the pfn */
static void __init kho_adopt_leaf(struct kho_radix_leaf *leaf, unsigned long key)
{
	unsigned long first, end, pfn;
	unsigned int order;

	if (!key || __fls(key) > BITS_PER_LONG - PAGE_SHIFT)
		panic("KHO: the map of preserved memory is broken");

	order = BITS_PER_LONG - PAGE_SHIFT - __fls(key);
	pfn = (key ^ BIT(__fls(key))) << order;
	for_each_set_bitrange(first, end, leaf->bitmap, KHO_LEAF_BITS)
		kho_note(pfn + (first << order), (end - first) << order);

	/* All that was preserved and then not any more leaves an empty leaf. */
	if (pfn >= kho_map.pfns)
		return;
	if (!kho_map.leaves[order])
		kho_map.leaves[order] = kho_note_alloc(kho_leaves_size(order));
	kho_map.leaves[order][(pfn >> order) / KHO_LEAF_BITS] = leaf->bitmap;
	kho_map.orders |= BIT(order);
}

/* The map stays, too */
static void __init kho_adopt_node(struct kho_radix_node *node, unsigned int level,
				  unsigned long key)
{
	unsigned int shift = (level - 1) * KHO_TABLE_SIZE_LOG2 + KHO_BITMAP_SIZE_LOG2;
	unsigned long i;

	kho_note(PHYS_PFN(__pa(node)), 1);
	if (!level) {
		kho_adopt_leaf((struct kho_radix_leaf *)node, key);
		return;
	}

	for (i = 0; i < ARRAY_SIZE(node->table); i++)
		if (node->table[i])
			kho_adopt_node(phys_to_virt(node->table[i]), level - 1,
				       key | i << shift);
}

/**
 * kho_map_adopt() - Keep what was preserved from being freed, ready to be restored
 * @map: Root of the previous kernel's map.
 *
 * Context: At boot, before memblock_free_all(); memblock allocates from scratch
 * areas only until then. Panics when the map is broken, or when there is no memory
 * for the notes: going on would give preserved memory away.
 */
void __init kho_map_adopt(struct kho_radix_node *map)
{
	kho_map.pfns = PHYS_PFN(memblock_end_of_DRAM());
	kho_noted = kho_note_alloc(kho_leaves_size(0));
	kho_map_root = map;
	kho_adopt_node(map, KHO_TREE_MAX_DEPTH - 1, 0);
}

/**
 * kho_next_preserved() - Find preserved memory
 * @pfn: Page frame number to begin at.
 * @end: Page frame number to stop at.
 *
 * Context: At boot, up to page_alloc_init_late().
 * Return: the first from @pfn on that was preserved, or @end.
 */
unsigned long __init kho_next_preserved(unsigned long pfn, unsigned long end)
{
	unsigned long limit = min(end, kho_map.pfns);

	while (pfn < limit) {
		const unsigned long *leaf = kho_noted[pfn / KHO_LEAF_BITS];
		unsigned long base = round_down(pfn, KHO_LEAF_BITS);
		unsigned long here = min(limit - base, KHO_LEAF_BITS);
		unsigned long bit = here;

		if (leaf)
			bit = find_next_bit(leaf, here, pfn - base);
		if (bit < here)
			return base + bit;
		pfn = base + here;
	}

	return end;
}

static unsigned long __init kho_next_unpreserved(unsigned long pfn,
						 unsigned long end)
{
	unsigned long limit = min(end, kho_map.pfns);

	while (pfn < limit) {
		const unsigned long *leaf = kho_noted[pfn / KHO_LEAF_BITS];
		unsigned long base = round_down(pfn, KHO_LEAF_BITS);
		unsigned long here = min(limit - base, KHO_LEAF_BITS);

		if (!leaf)
			return pfn;
		pfn = base + find_next_zero_bit(leaf, here, pfn - base);
		if (pfn < base + here)
			return pfn;
	}

	return pfn;
}

/**
 * kho_unpreserved_run() - Find a run of pages that may be freed
 * @first: Page frame number to begin at; set to that of the first such page.
 * @next:  Set to the page frame number behind the run.
 * @end:   Page frame number to stop at.
 *
 * Where nothing was preserved all is one run.
 *
 * Context: At boot, up to page_alloc_init_late().
 * Return: whether there is one.
 */
bool __init kho_unpreserved_run(unsigned long *first, unsigned long *next,
				unsigned long end)
{
	*first = kho_next_unpreserved(*first, end);
	if (*first >= end)
		return false;
	*next = kho_next_preserved(*first, end);

	return true;
}

/**
 * kho_map_check() - See that nobody has taken preserved memory
 *
 * memblock can be told to reserve any memory, by the command line among others. What
 * is in use already is lost, and devices may be writing to it: panics.
 *
 * Context: At boot, right before memblock_free_all().
 */
void __init kho_map_check(void)
{
	phys_addr_t start, end;
	u64 i;

	for_each_reserved_mem_range(i, &start, &end)
		if (kho_next_preserved(PFN_DOWN(start), PFN_UP(end)) < PFN_UP(end))
			panic("KHO: memory from %pa to %pa is reserved, and was preserved",
			      &start, &end);
}

static void __init kho_note_free(void *notes, size_t size)
{
	for (size_t at = 0; at < size; at += PAGE_SIZE) {
		struct page *page = virt_to_page(notes + at);

		clear_page_tag_ref(page);
		ClearPageReserved(page);
		init_page_count(page);
		__free_page(page);
		kho_account_restored(page, 1);
	}
}

/* The map belongs to this kernel now, for as long as it runs. */
static void __init kho_account_node(struct kho_radix_node *node, unsigned int level)
{
	kho_account_restored(virt_to_page(node), 1);
	for (size_t i = 0; level && i < ARRAY_SIZE(node->table); i++)
		if (node->table[i])
			kho_account_node(phys_to_virt(node->table[i]), level - 1);
}

/* All struct pages are there by now, and what is free has been freed. */
static int __init kho_noted_free(void)
{
	size_t size = kho_leaves_size(0);

	if (!kho_noted)
		return 0;

	kho_account_node(kho_map_root, KHO_TREE_MAX_DEPTH - 1);
	for (size_t i = 0; i < size / sizeof(*kho_noted); i++)
		if (kho_noted[i])
			kho_note_free(kho_noted[i], PAGE_SIZE);
	kho_note_free(kho_noted, size);

	return 0;
}
core_initcall(kho_noted_free);
