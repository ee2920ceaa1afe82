/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PCI devices in a Live Update: what the PCI core itself calls.
 * The story is told in liveupdate.c.
 */
#ifndef _DRIVERS_PCI_LIVEUPDATE_H
#define _DRIVERS_PCI_LIVEUPDATE_H

#include <linux/pci.h>
#include <linux/pci_liveupdate.h>

#ifdef CONFIG_PCI_LIVEUPDATE

void pci_liveupdate_setup_device(struct pci_dev *pdev);
bool pci_liveupdate_keep_buses(void);
bool pci_liveupdate_skip_bridge(struct pci_dev *bridge, int pass);
int pci_liveupdate_match_driver(struct pci_dev *pdev, struct pci_driver *drv);
bool pci_liveupdate_keep_master(struct pci_dev *pdev);
extern const struct attribute_group pci_liveupdate_attr_group;

#else

static inline void pci_liveupdate_setup_device(struct pci_dev *pdev)
{
}

static inline bool pci_liveupdate_keep_buses(void)
{
	return false;
}

static inline bool pci_liveupdate_skip_bridge(struct pci_dev *bridge, int pass)
{
	return false;
}

static inline int pci_liveupdate_match_driver(struct pci_dev *pdev,
					      struct pci_driver *drv)
{
	return -1;
}

static inline bool pci_liveupdate_keep_master(struct pci_dev *pdev)
{
	return false;
}

#endif /* CONFIG_PCI_LIVEUPDATE */
#endif /* _DRIVERS_PCI_LIVEUPDATE_H */
