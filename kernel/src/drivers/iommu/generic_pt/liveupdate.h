/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Page tables in a Live Update, for each format of generic_pt.
 *
 * A page table crosses as it is: its tables are preserved one by one, while the
 * device uses them, and nothing is done to them on the other side until they
 * are freed. Only then they become pages of the allocator again: taking over a
 * page table costs the same however much it maps.
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

static int restore_table(struct pt_table_p *table)
{
	return iommu_liveupdate_restore_page(virt_to_phys(table)) ? 0 : -EINVAL;
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

/* Before a page table that was handed over can be freed. */
static int pt_liveupdate_restore(struct pt_iommu *iommu_table)
{
	struct pt_liveupdate_visit visit = {
		.table = restore_table,
		.left = U64_MAX,
	};

	if (!iommu_table->restored)
		return 0;

	iommu_table->restored = false;

	return visit_tables(iommu_table, &visit);
}
