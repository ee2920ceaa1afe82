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
struct pci_saved_state;
struct pci_state_ser;

/**
 * enum pci_liveupdate_state - What a live update makes of a PCI device.
 * @PCI_LIVEUPDATE_NONE:    The live update has nothing to do with it.
 * @PCI_LIVEUPDATE_BRIDGE:  A bridge above a preserved device.
 * @PCI_LIVEUPDATE_IDLE:    Preserved in idle mode: reset, handed over idle.
 * @PCI_LIVEUPDATE_RUNNING: Preserved in running mode: untouched, DMA goes on.
 */
enum pci_liveupdate_state {
	PCI_LIVEUPDATE_NONE,
	PCI_LIVEUPDATE_BRIDGE,
	PCI_LIVEUPDATE_IDLE,
	PCI_LIVEUPDATE_RUNNING,
};

/**
 * struct pci_liveupdate - Live update state of one &struct pci_dev.
 * @outgoing:  An &enum pci_liveupdate_state: what is going to the next kernel.
 * @incoming:  An &enum pci_liveupdate_state: what came from the previous kernel
 *             and is not finished.
 * @read_only: Nothing may be written to its configuration space.
 * @fixed:     Standard BARs that may not be moved because of @incoming, a bit
 *             for each.
 * @bar_order: As in &struct pci_dev_ser, when @incoming is set.
 * @flags:     As in &struct pci_dev_ser, when @incoming is set.
 *
 * The first two are written under the PCI live update lock, and read without it.
 */
struct pci_liveupdate {
	u8 outgoing;
	u8 incoming;
	u8 read_only;
	u8 fixed;
	u8 bar_order[7];
	u32 flags;
};

/**
 * struct pci_liveupdate_driver - A driver that preserves its devices.
 * @driver: The driver.
 * @check:  Is there something about this device, which is bound to @driver, for
 *          which @driver would not preserve it? If so @why says it. Returns 0 or
 *          the error. Called with the device lock held; may sleep.
 * @list:   The PCI core's.
 */
struct pci_liveupdate_driver {
	const struct device_driver *driver;
	int (*check)(struct pci_dev *pdev, const char **why);
	struct list_head list;
};

#ifdef CONFIG_PCI_LIVEUPDATE

int pci_liveupdate_register(struct liveupdate_file_handler *fh,
			    struct pci_liveupdate_driver *drv);
void pci_liveupdate_unregister(struct liveupdate_file_handler *fh,
			       struct pci_liveupdate_driver *drv);
int pci_liveupdate_can_preserve(struct pci_dev *pdev);
int pci_liveupdate_preserve(struct pci_dev *pdev,
			    enum pci_liveupdate_state mode);
void pci_liveupdate_unpreserve(struct pci_dev *pdev);
enum pci_liveupdate_state pci_liveupdate_outgoing(struct pci_dev *pdev);
enum pci_liveupdate_state pci_liveupdate_incoming(struct pci_dev *pdev);
void pci_liveupdate_finish(u32 domain, u16 bdf);
void pci_liveupdate_abandon(struct pci_dev *pdev);
struct pci_dev *pci_liveupdate_get_bar_owner(phys_addr_t start, size_t size);
void pci_liveupdate_set_read_only(struct pci_dev *pdev, bool read_only);
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
