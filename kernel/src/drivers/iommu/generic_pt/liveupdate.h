/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Page tables in a Live Update, for each format of generic_pt.
 *
 * A page table crosses as it is: its tables are preserved one by one, while the
 * device uses them. On the other side nothing is done to them before somebody
 * retrieves it, or it is freed: to boot with it costs the same however much it
 * maps. Then each table is taken before it is read, and can be taken once: so
 * the walk ends, also in tables that lead to each other. What a leaf entry maps
 * has to be preserved, too: the device reaches it.
 *
 * Included by iommu_pt.h.
 */

struct pt_liveupdate_visit {
	/* Do it to one table; what it returns ends the walk if not 0 */
	int (*table)(struct pt_table_p *table);
	/* How many tables are left to do */
	u64 left;
	u64 done;
};

static int __visit_tables(struct pt_range *range, void *arg, unsigned int level,
			  struct pt_table_p *table)
{
	struct pt_state pts = pt_init(range, level, table);
	struct pt_liveupdate_visit *visit = arg;
	int ret;

	if (!visit->left)
		return -ECANCELED;

	ret = visit->table(table);
	if (ret)
		return ret;

	visit->left--;
	visit->done++;
	if (!(visit->done % 1024))
		cond_resched();

	if (!pt_can_have_table(&pts))
		return 0;

	for_each_pt_level_entry(&pts) {
		if (pts.type != PT_ENTRY_TABLE)
			continue;
		ret = pt_descend(&pts, arg, __visit_tables);
		if (ret)
			return ret;
	}

	return 0;
}

static int visit_tables(struct pt_iommu *iommu_table,
			struct pt_liveupdate_visit *visit)
{
	struct pt_range range = pt_all_range(common_from_iommu(iommu_table));

	return pt_walk_range(&range, __visit_tables, visit);
}

static int preserve_table(struct pt_table_p *table)
{
	return kho_preserve_folio(virt_to_folio(table));
}

static int unpreserve_table(struct pt_table_p *table)
{
	kho_unpreserve_folio(virt_to_folio(table));
	return 0;
}

static void NS(unpreserve)(struct pt_iommu *iommu_table)
{
	struct pt_liveupdate_visit visit = {
		.table = unpreserve_table,
		.left = U64_MAX,
	};

	visit_tables(iommu_table, &visit);
}

static int NS(preserve)(struct pt_iommu *iommu_table)
{
	struct pt_liveupdate_visit visit = {
		.table = preserve_table,
		.left = U64_MAX,
	};
	struct pt_liveupdate_visit undo = { .table = unpreserve_table };
	int ret;

	ret = visit_tables(iommu_table, &visit);
	if (ret) {
		/* The same walk again, as far as it came */
		undo.left = visit.done;
		visit_tables(iommu_table, &undo);
	}

	return ret;
}

static int restore_table(phys_addr_t phys)
{
	if (iommu_liveupdate_restore_page(phys))
		return 0;

	pr_err("live update: a table at %pa was not preserved, or is used twice\n",
	       &phys);

	return -EINVAL;
}

static int __restore_tables(struct pt_range *range, void *arg,
			    unsigned int level, struct pt_table_p *table)
{
	struct pt_state pts = pt_init(range, level, table);
	const bool *leaves = arg;
	int ret = 0;

	if (!*leaves && !pt_can_have_table(&pts))
		return 0;

	for_each_pt_level_entry(&pts) {
		if (pts.type == PT_ENTRY_TABLE) {
			ret = restore_table(pt_table_pa(&pts)) ?:
			      pt_descend(&pts, arg, __restore_tables);
		} else if (pts.type == PT_ENTRY_OA && *leaves) {
			ret = iommu_liveupdate_check_leaf(pt_entry_oa(&pts),
							  log2_to_int(pt_entry_oa_lg2sz(&pts)));
		}
		if (ret)
			return ret;
	}
	cond_resched();

	return 0;
}

/*
 * Take over a page table that was handed over, if it was, and is not taken. What
 * leaf entries map is not preserved any more when a table is freed unused.
 */
static int restore_tables(struct pt_iommu *iommu_table, bool leaves)
{
	struct pt_range range = pt_all_range(common_from_iommu(iommu_table));

	if (!iommu_table->restored || iommu_table->taken)
		return 0;
	iommu_table->taken = true;

	return restore_table(virt_to_phys(range.top_table)) ?:
	       pt_walk_range(&range, __restore_tables, &leaves);
}

static int NS(restore)(struct pt_iommu *iommu_table)
{
	return restore_tables(iommu_table, true);
}

static int pt_liveupdate_take(struct pt_iommu *iommu_table)
{
	return restore_tables(iommu_table, false);
}
