/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PCI devices in a Live Update: what a driver that preserves them calls.
 * The story is told in drivers/pci/liveupdate.c.
 */
#ifndef _LINUX_PCI_LIVEUPDATE_H
#define _LINUX_PCI_LIVEUPDATE_H

#include <linux/errno.h>
#include <linux/types.h>

struct device_driver;
struct liveupdate_file_handler;
struct pci_dev;
struct pci_device_id;
struct pci_driver;
struct pci_liveupdate_left;
struct pci_saved_state;
struct pci_state_ser;

/**
 * enum pci_liveupdate_state - What a live update makes of a PCI device.
 * @PCI_LIVEUPDATE_NONE:    The live update has nothing to do with it.
 * @PCI_LIVEUPDATE_BRIDGE:  A bridge above a preserved device.
 * @PCI_LIVEUPDATE_HELD:    A physical function of preserved virtual ones, which is not
 *                          preserved itself: its own work ends at the kexec, and in the
 *                          next kernel no driver has it but one that knows it.
 * @PCI_LIVEUPDATE_IDLE:    Preserved in idle mode: reset, handed over idle.
 * @PCI_LIVEUPDATE_RUNNING: Preserved in running mode: untouched, DMA goes on.
 */
enum pci_liveupdate_state {
	PCI_LIVEUPDATE_NONE,
	PCI_LIVEUPDATE_BRIDGE,
	PCI_LIVEUPDATE_HELD,
	PCI_LIVEUPDATE_IDLE,
	PCI_LIVEUPDATE_RUNNING,
};

/**
 * enum pci_liveupdate_why - Why a PCI device cannot be preserved.
 * @PCI_LIVEUPDATE_YES:          It can.
 * @PCI_LIVEUPDATE_NOT_READY:    It is being added or removed.
 * @PCI_LIVEUPDATE_OFF:          Live update is off in this kernel.
 * @PCI_LIVEUPDATE_PF:           It is a virtual function, the driver of its physical
 *                               one takes no part, and that is not to be held.
 * @PCI_LIVEUPDATE_HAS_VFS:      It would be reset, and has virtual functions enabled.
 * @PCI_LIVEUPDATE_BARS:         The size of a BAR, its own or of a bridge above
 *                               it, cannot be written down.
 * @PCI_LIVEUPDATE_NO_GROUP:     It has no IOMMU group.
 * @PCI_LIVEUPDATE_SHARED_GROUP: Others than bridges above it are in its group.
 * @PCI_LIVEUPDATE_DMA_ALIAS:    Its DMA comes under another requester ID.
 * @PCI_LIVEUPDATE_NO_IOMMU:     No IOMMU translates for it.
 * @PCI_LIVEUPDATE_IOMMU_DRIVER: The driver of its IOMMU takes no part.
 * @PCI_LIVEUPDATE_IOMMU_ALIAS:  Its IOMMU knows it under another requester ID.
 * @PCI_LIVEUPDATE_PASID:        PASIDs of it are attached to page tables.
 * @PCI_LIVEUPDATE_PRI:          It makes page requests, or could: its page table
 *                               has a fault handler, or its physical function has
 *                               the Page Request Interface enabled.
 * @PCI_LIVEUPDATE_SILENT:       It did not answer when its device TLB was to be flushed.
 * @PCI_LIVEUPDATE_DIRECT:       Firmware wants memory to be mapped for it.
 * @PCI_LIVEUPDATE_RESETTING:    It is being reset.
 * @PCI_LIVEUPDATE_NO_DRIVER:    No driver is bound to it.
 * @PCI_LIVEUPDATE_OTHER_DRIVER: The driver that is bound to it takes no part.
 * @PCI_LIVEUPDATE_DISPLAY:      vfio-pci: it is one of Intel's display devices.
 * @PCI_LIVEUPDATE_INCOHERENT:   vfio-pci: its DMA is not cache coherent.
 *
 * Each has its word in sysfs, its text in the log and its errno.
 */
enum pci_liveupdate_why {
	PCI_LIVEUPDATE_YES,
	PCI_LIVEUPDATE_NOT_READY,
	PCI_LIVEUPDATE_OFF,
	PCI_LIVEUPDATE_PF,
	PCI_LIVEUPDATE_HAS_VFS,
	PCI_LIVEUPDATE_BARS,
	PCI_LIVEUPDATE_NO_GROUP,
	PCI_LIVEUPDATE_SHARED_GROUP,
	PCI_LIVEUPDATE_DMA_ALIAS,
	PCI_LIVEUPDATE_NO_IOMMU,
	PCI_LIVEUPDATE_IOMMU_DRIVER,
	PCI_LIVEUPDATE_IOMMU_ALIAS,
	PCI_LIVEUPDATE_PASID,
	PCI_LIVEUPDATE_PRI,
	PCI_LIVEUPDATE_SILENT,
	PCI_LIVEUPDATE_DIRECT,
	PCI_LIVEUPDATE_RESETTING,
	PCI_LIVEUPDATE_NO_DRIVER,
	PCI_LIVEUPDATE_OTHER_DRIVER,
	PCI_LIVEUPDATE_DISPLAY,
	PCI_LIVEUPDATE_INCOHERENT,
};

/**
 * struct pci_liveupdate - Live update state of one &struct pci_dev.
 * @outgoing:  An &enum pci_liveupdate_state: what is going to the next kernel.
 * @incoming:  An &enum pci_liveupdate_state: what came from the previous kernel
 *             and is not finished.
 * @read_only: Nothing may be written to its configuration space.
 * @hold:      A physical function that is to be held for its virtual ones.
 * @takes_part: ... whose driver keeps it in an update, &struct pci_liveupdate_pf_ops.
 * @adopted:   It was held, and its driver has adopted it. Under the device lock.
 * @fixed:     Standard BARs that may not be moved because of @incoming, a bit
 *             for each.
 * @fixed_vf:  The same for the BARs of its virtual functions.
 * @bar_order: As in &struct pci_dev_ser, when @incoming is set.
 * @flags:     As in &struct pci_dev_ser, when @incoming is set.
 * @data:      What its driver is going to hand over, with @outgoing.
 * @driver:    Its driver when @outgoing became held, whose module stays.
 * @left:      What its driver has handed over, until it has adopted it.
 *
 * The first two are written under the PCI live update lock, and read without it.
 */
struct pci_liveupdate {
	u8 outgoing;
	u8 incoming;
	u8 read_only;
	u8 hold;
	u8 takes_part;
	u8 adopted;
	u8 fixed;
	u8 fixed_vf;
	u8 bar_order[7];
	u32 flags;
	void *data;
	struct pci_driver *driver;
	struct pci_liveupdate_left __rcu *left;
};

/**
 * struct pci_liveupdate_driver - A driver that preserves its devices.
 * @driver: The driver.
 * @check:  Is there something about this device, which was bound to @driver a
 *          moment ago, for which @driver would not preserve it? Called under
 *          RCU and without the device lock, while the device may be unbound: it
 *          neither sleeps nor touches the driver data.
 * @list:   The PCI core's.
 */
struct pci_liveupdate_driver {
	const struct device_driver *driver;
	enum pci_liveupdate_why (*check)(struct pci_dev *pdev);
	struct list_head list;
};

/**
 * struct pci_liveupdate_pf_ops - A driver that keeps physical functions in an update.
 * @compatible: Name and version of what crosses, like "igb-v1": less than
 *              %PCI_SER_DRIVER_LEN characters. Only a driver with the same adopts.
 * @data_size:  Size of the data that cross, in bytes; may be 0.
 * @can_hold:   Could this function be held now? Called with the device lock, when the
 *              first of its virtual functions is preserved, and at freeze. Returns 0, or
 *              an error with @why. It does not wait for a lock that others have while
 *              they copy to or from user space, as rtnl: trylock, and -EBUSY.
 * @hold:       The kernel goes down, and the next one comes. In place of shutdown(), with
 *              the device lock: DMA and interrupts of the function itself end, those of its
 *              virtual functions go on. Fills in @data, which are all 0 before. Bus
 *              mastering stays on; nothing is written to configuration space after
 *              this. There is no way back.
 * @adopt:      In place of probe(), in the next kernel: the function works for the host
 *              again, without a reset of it or of anything that virtual functions need.
 *              @data are of another kernel: to be validated. They are gone after
 *              @adopt. On an error nothing of the function does DMA, and it stays held;
 *              there is no second try, and so it is with -EPROBE_DEFER.
 * @release:    The virtual functions that came are finished, with the device lock: the
 *              function may be reset again.
 *
 * All of it is there, but for @data_size, which may be 0. See
 * drivers/pci/liveupdate_held.c.
 */
struct pci_liveupdate_pf_ops {
	const char *compatible;
	size_t data_size;
	int (*can_hold)(struct pci_dev *pf, const char **why);
	void (*hold)(struct pci_dev *pf, void *data);
	int (*adopt)(struct pci_dev *pf, const struct pci_device_id *id,
		     const void *data);
	void (*release)(struct pci_dev *pf);
};

#ifdef CONFIG_PCI_LIVEUPDATE

int pci_liveupdate_register(struct liveupdate_file_handler *fh,
			    struct pci_liveupdate_driver *drv);
void pci_liveupdate_unregister(struct liveupdate_file_handler *fh,
			       struct pci_liveupdate_driver *drv);
const char *pci_liveupdate_why_text(enum pci_liveupdate_why why);
int pci_liveupdate_why_error(enum pci_liveupdate_why why);
int pci_liveupdate_can_preserve(struct pci_dev *pdev,
				enum pci_liveupdate_state mode);
int pci_liveupdate_preserve(struct pci_dev *pdev,
			    enum pci_liveupdate_state mode);
int pci_liveupdate_check_freeze(struct pci_dev *pdev, unsigned long end,
				const char **why);
void pci_liveupdate_unpreserve(struct pci_dev *pdev);
enum pci_liveupdate_state pci_liveupdate_outgoing(struct pci_dev *pdev);
enum pci_liveupdate_state pci_liveupdate_incoming(struct pci_dev *pdev);
void pci_liveupdate_finish(u32 domain, u16 bdf);
void pci_liveupdate_abandon(struct pci_dev *pdev);
void pci_liveupdate_msix_off(struct pci_dev *pdev);
struct pci_dev *pci_liveupdate_get_bar_owner(phys_addr_t start, size_t size);
void pci_liveupdate_set_read_only(struct pci_dev *pdev, bool read_only);
void pci_liveupdate_adopt_services(struct pci_dev *pdev);
void pci_liveupdate_end_services(struct pci_dev *pdev);
int pci_liveupdate_quiesce_pri(struct pci_dev *pdev);
void pci_liveupdate_pack_state(struct pci_saved_state *state,
			       struct pci_state_ser *ser);
struct pci_saved_state *
pci_liveupdate_unpack_state(struct pci_dev *pdev,
			    const struct pci_state_ser *ser);

#else

static inline enum pci_liveupdate_state
pci_liveupdate_outgoing(struct pci_dev *pdev)
{
	return PCI_LIVEUPDATE_NONE;
}

static inline enum pci_liveupdate_state
pci_liveupdate_incoming(struct pci_dev *pdev)
{
	return PCI_LIVEUPDATE_NONE;
}

static inline void pci_liveupdate_abandon(struct pci_dev *pdev)
{
}

static inline void pci_liveupdate_set_read_only(struct pci_dev *pdev,
						bool read_only)
{
}

#endif /* CONFIG_PCI_LIVEUPDATE */
#endif /* _LINUX_PCI_LIVEUPDATE_H */
