// SPDX-License-Identifier: GPL-2.0-only

/*
 * IOMMU domains that came from the previous kernel, and their page tables. See DOC
 * in liveupdate.c.
 *
 * What is restored stays as it is until it is freed, and that is when no device is
 * attached any more. A page table is validated, and becomes the page allocator's,
 * when somebody retrieves it: that takes as long as it is large. One that is broken
 * is never freed, and the DMA of its devices ends.
 */

#define pr_fmt(fmt) "iommu: live update: " fmt

#include <linux/cleanup.h>
#include <linux/generic_pt/iommu.h>
#include <linux/iommu.h>
#include <linux/iommu_liveupdate.h>
#include <linux/iopoll.h>
#include <linux/kexec_handover.h>
#include <linux/kho/check/iommu.h>
#include <linux/kho/memory.h>
#include <linux/memcontrol.h>
#include <linux/pci.h>
#include <linux/pci_liveupdate.h>
#include <linux/vmstat.h>
#include <linux/xarray.h>

#include "iommu-pages.h"
#include "iommu-priv.h"
#include "liveupdate.h"
#include "liveupdate_lists.h"

/*
 * Domains that came from the previous kernel: iommu_domain by index. One is taken
 * out under the lock before it is freed.
 */
static DEFINE_XARRAY(iommu_liveupdate_restored);

/* The domain of a page table of the list, for a device whose DMA it translates */
struct iommu_domain *iommu_liveupdate_restore(const struct iommu_ser *ser,
					      struct device *dev, u32 index)
{
	const struct iommu_ops *ops = dev_iommu_ops(dev);
	struct iommu_domain *domain;
	int ret;

	domain = xa_load(&iommu_liveupdate_restored, index);
	if (domain)
		return domain;

	if (!ops->liveupdate)
		return ERR_PTR(-EOPNOTSUPP);

	domain = ops->liveupdate->domain_restore(dev,
						 iommu_ser_domain(ser, index));
	if (IS_ERR(domain))
		return domain;

	domain->owner = ops;
	ret = xa_err(xa_store(&iommu_liveupdate_restored, index, domain,
			      GFP_KERNEL));
	if (ret)
		return ERR_PTR(ret);

	return domain;
}

/*
 * End the DMA of all devices that came with a page table, which is broken: block it,
 * reset them, and let go of their groups. Somebody who has the lock of a device may
 * be waiting for a file of the session that this is called for: so it is waited for
 * with a bound, and the device then stays blocked, and the live update's, until it is
 * removed.
 */
static void iommu_liveupdate_end(u32 index)
{
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev) {
		struct iommu_dev_ser entry;
		struct iommu_group *group;
		bool locked;

		if (!iommu_liveupdate_incoming_device(&pdev->dev, &entry) ||
		    entry.domain != index)
			continue;
		group = iommu_group_get(&pdev->dev);
		if (!group)
			continue;
		scoped_guard(mutex, &group->mutex) {
			/* Else it has just been removed */
			if (pdev->dev.iommu_group == group)
				iommu_liveupdate_block(group, &pdev->dev);
		}
		iommu_group_put(group);
		pci_err(pdev, "live update: its page table is broken: its DMA has ended\n");
		if (read_poll_timeout(device_trylock, locked, locked,
				      USEC_PER_MSEC, 2 * USEC_PER_SEC, false,
				      &pdev->dev))
			continue;
		pci_liveupdate_abandon(pdev);
		device_unlock(&pdev->dev);
	}
}

/**
 * iommu_liveupdate_restored_domain() - A domain that was handed over
 * @index: Its place in the list.
 *
 * Its tables become this kernel's, if they are not yet: that is when they are
 * looked at for the first time, since it takes as long as there are tables and
 * pages that they map. If they are broken, the DMA of the devices that use them
 * ends. Such a page table is never freed: some of it may be another's.
 *
 * Context: Process context, may sleep, and without locks that removing or
 * resetting a device needs. Called for one domain once at a time.
 * Return: the domain, or NULL when none of its devices is there, or goes on.
 */
struct iommu_domain *iommu_liveupdate_restored_domain(u32 index)
{
	struct iommu_domain *domain = xa_load(&iommu_liveupdate_restored, index);
	struct pt_iommu *pt = domain ? iommupt_from_domain(domain) : NULL;

	if (!pt || !pt->ops->restore(pt))
		return domain;

	pr_err("page table %u is broken\n", index);
	scoped_guard(mutex, &iommu_liveupdate_lock)
		xa_erase(&iommu_liveupdate_restored, index);
	iommu_liveupdate_end(index);

	return NULL;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_restored_domain);

/**
 * iommu_liveupdate_is_restored() - Is it a domain that was handed over?
 * @domain: Any domain.
 *
 * Context: Any context.
 * Return: true if it is.
 */
bool iommu_liveupdate_is_restored(struct iommu_domain *domain)
{
	struct pt_iommu *pt = iommupt_from_domain(domain);

	return pt && pt->restored;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_is_restored);

/**
 * iommu_liveupdate_domain_busy() - Does a device use a restored page table?
 * @index: Place in the list of the page table's domain.
 *
 * Context: Process context, may sleep.
 * Return: true if there is one whose DMA it translates.
 */
bool iommu_liveupdate_domain_busy(u32 index)
{
	struct iommu_ser *ser = iommu_liveupdate_get_incoming();
	bool busy = false;

	if (!ser)
		return false;

	scoped_guard(mutex, &iommu_liveupdate_lock) {
		for (u32 i = 0; i < ser->devices.count && !busy; i++)
			busy = iommu_ser_device(ser, i)->state &&
			       iommu_ser_device(ser, i)->domain == index;
	}
	iommu_liveupdate_put_incoming();

	return busy;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_domain_busy);

/**
 * iommu_liveupdate_free_domain() - Free a restored domain
 * @domain: Restored domain that is not busy.
 *
 * Context: Process context, may sleep.
 */
void iommu_liveupdate_free_domain(struct iommu_domain *domain)
{
	struct iommu_domain *found;
	unsigned long index;

	scoped_guard(mutex, &iommu_liveupdate_lock) {
		xa_for_each(&iommu_liveupdate_restored, index, found) {
			if (found == domain)
				xa_erase(&iommu_liveupdate_restored, index);
		}
	}

	iommu_domain_free(domain);
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_free_domain);

/*
 * The lists end, and no device uses a page table any more: free those of devices
 * that went away, of which nobody made an HWPT. An HWPT of another may be destroyed
 * meanwhile: what is in the list under the lock is there still.
 */
void iommu_liveupdate_free_unused(void)
{
	struct iommu_domain *domain;
	unsigned long index;

	guard(mutex)(&iommu_liveupdate_lock);

	xa_for_each(&iommu_liveupdate_restored, index, domain) {
		if (domain->cookie_type != IOMMU_COOKIE_NONE)
			continue;
		xa_erase(&iommu_liveupdate_restored, index);
		iommu_domain_free(domain);
	}
}

/**
 * iommu_liveupdate_restore_page() - Take a preserved page of an IOMMU's tables
 * @phys: Physical address of a folio that the previous kernel preserved.
 *
 * From now on it is a page like those of iommu_alloc_pages_node_sz().
 *
 * Context: Process context.
 * Return: its virtual address, or NULL if @phys is not a preserved folio.
 */
void *iommu_liveupdate_restore_page(phys_addr_t phys)
{
	void *table = kho_take(phys, IOMMU_SER_TABLE_SIZE);
	struct folio *folio;
	unsigned long pages;

	if (!table)
		return NULL;

	folio = virt_to_folio(table);
	pages = folio_nr_pages(folio);
	folio_ioptdesc(folio)->incoherent = false;
	mod_node_page_state(folio_pgdat(folio), NR_IOMMU_PAGES, pages);
	lruvec_stat_mod_folio(folio, NR_SECONDARY_PAGETABLE, pages);

	return table;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_restore_page);

/* How much memory at @phys, up to the end of its folio, is a device's? */
static u64 iommu_liveupdate_kept(phys_addr_t phys)
{
	struct page *page = pfn_to_online_page(PHYS_PFN(phys));
	struct folio *folio;

	if (!page)
		return 0;

	/* Of a memfd that was retrieved before, which pins it */
	folio = page_folio(page);
	if (folio_maybe_dma_pinned(folio))
		return page_to_phys(folio_page(folio, 0)) + folio_size(folio) - phys;

	for (unsigned int order = 0; order <= MAX_FOLIO_ORDER; order++) {
		phys_addr_t head = ALIGN_DOWN(phys, PAGE_SIZE << order);
		u64 end = head + kho_restorable_size(head);

		if (end > phys)
			return end - phys;
	}

	return 0;
}

/**
 * iommu_liveupdate_check_leaf() - May a restored page table map this?
 * @phys: Physical address of what it maps.
 * @size: Its bytes.
 *
 * It may map memory that was preserved, and what is no memory, as BARs.
 *
 * Context: Process context.
 * Return: 0, or -EINVAL, with a line in the log.
 */
int iommu_liveupdate_check_leaf(phys_addr_t phys, u64 size)
{
	for (u64 kept; size; phys += kept, size -= kept) {
		kept = min(size, iommu_liveupdate_kept(phys));
		if (kept)
			continue;
		if (region_intersects(phys, size, IORESOURCE_SYSTEM_RAM,
				      IORES_DESC_NONE) == REGION_DISJOINT)
			return 0;
		pr_err("a page table of the previous kernel maps memory at %pa, which is not preserved\n",
		       &phys);
		return -EINVAL;
	}

	return 0;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_check_leaf);
