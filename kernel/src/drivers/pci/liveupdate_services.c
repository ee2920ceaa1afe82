// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: ATS, PASID and PRI of devices that run through a Live Update
 *
 * Their capabilities in configuration space, and what the PCI core knows of them. What
 * crosses, and what is made of it, is the business of the IOMMU's driver.
 *
 * ATS and PASID stay enabled. The incoming kernel reads that, and may write nothing.
 * PRI is disabled by the outgoing kernel, when the device is preserved: a page request
 * would be written into a queue that is nobody's while the kernels change.
 *
 * A virtual function has an ATS capability of its own, but for the Smallest Translation
 * Unit, which is the physical function's. PASID and PRI are the physical function's, for
 * all of them (PCI Express 4.0, 10.5.1 and 10.5.2; PASID as drivers/pci/ats.c has it).
 */

#include <linux/iopoll.h>
#include <linux/pci-ats.h>
#include <linux/pci.h>
#include <linux/pci_liveupdate.h>
#include <linux/time64.h>

/*
 * How long outstanding page requests are waited for. The specification sets no bound for
 * them. Each is answered by a CPU that has nothing else to do than to say no.
 */
#define PCI_LIVEUPDATE_PRI_PATIENCE	(100 * USEC_PER_MSEC)

/* The value of a control register, or 0 without the capability */
static u16 pci_liveupdate_control(struct pci_dev *pdev, int cap, int reg, int *pos)
{
	u16 control = 0;

	*pos = pci_find_ext_capability(pdev, cap);
	if (*pos)
		pci_read_config_word(pdev, *pos + reg, &control);

	/* One that does not answer has nothing enabled */
	return control == (u16)PCI_ERROR_RESPONSE ? 0 : control;
}

/**
 * pci_liveupdate_adopt_services() - Take over what a device has enabled
 * @pdev: Device that came with everything as the previous kernel had set it.
 *
 * From now on &pci_dev.ats_enabled, &pci_dev.ats_stu and &pci_dev.pasid_enabled are what
 * its configuration space says, even if this kernel would not use them (``pci=noats``).
 * Nothing is written.
 *
 * Context: Process context; before the IOMMU's driver uses any of these.
 */
void pci_liveupdate_adopt_services(struct pci_dev *pdev)
{
	u16 control;
	int pos;

	control = pci_liveupdate_control(pdev, PCI_EXT_CAP_ID_ATS, PCI_ATS_CTRL,
					 &pos);
	pdev->ats_enabled = !!(control & PCI_ATS_CTRL_ENABLE);
	if (pos && !pdev->is_virtfn)
		pdev->ats_stu = PCI_ATS_MIN_STU + PCI_ATS_CTRL_STU(control);

	if (pdev->is_virtfn)
		return;

	control = pci_liveupdate_control(pdev, PCI_EXT_CAP_ID_PASID,
					 PCI_PASID_CTRL, &pos);
	pdev->pasid_enabled = !!(control & PCI_PASID_CTRL_ENABLE);
	pdev->pasid_features = control & (PCI_PASID_CTRL_EXEC |
					  PCI_PASID_CTRL_PRIV);
}

static void pci_liveupdate_turn_off(struct pci_dev *pdev, int cap, int reg,
				    u16 enable)
{
	int pos;
	u16 control = pci_liveupdate_control(pdev, cap, reg, &pos);

	if (control & enable)
		pci_write_config_word(pdev, pos + reg, control & ~enable);
}

/**
 * pci_liveupdate_end_services() - Turn off what a device came with
 * @pdev: Device that does no DMA any more, and whose configuration space can be written.
 *
 * It forgets all translations, and makes no requests for more. ATS goes before PASID,
 * which must not change while ATS is enabled (see intel_iommu_probe_finalize()), and which
 * a physical function keeps for its virtual ones.
 *
 * Context: Process context.
 */
void pci_liveupdate_end_services(struct pci_dev *pdev)
{
	if (!pdev->is_virtfn)
		pci_liveupdate_turn_off(pdev, PCI_EXT_CAP_ID_PRI, PCI_PRI_CTRL,
					PCI_PRI_CTRL_ENABLE);
	pdev->pri_enabled = 0;

	pci_liveupdate_turn_off(pdev, PCI_EXT_CAP_ID_ATS, PCI_ATS_CTRL,
				PCI_ATS_CTRL_ENABLE);
	pdev->ats_enabled = 0;

	if (pdev->is_virtfn || pci_num_vf(pdev))
		return;

	pci_liveupdate_turn_off(pdev, PCI_EXT_CAP_ID_PASID, PCI_PASID_CTRL,
				PCI_PASID_CTRL_ENABLE);
	pdev->pasid_enabled = 0;
}

/**
 * pci_liveupdate_quiesce_pri() - End a device's page requests
 * @pdev: Device, with PRI or without.
 *
 * PRI is disabled, and has stopped when all requests have been answered that were
 * outstanding (PCI Express 4.0, 10.5.2). On an error it is disabled, too, and cannot be
 * enabled again before it has stopped, which pci_enable_pri() sees to. That of a virtual
 * function is its physical one's, and nothing is done.
 *
 * Context: Process context, may sleep for a tenth of a second.
 * Return: 0, or -EBUSY when there are requests outstanding still.
 */
int pci_liveupdate_quiesce_pri(struct pci_dev *pdev)
{
	int status_reg = pdev->pri_cap + PCI_PRI_STATUS;
	u16 status;
	int ret;

	/* What has never been enabled has nothing outstanding, whatever it says */
	if (!pdev->pri_cap || pdev->is_virtfn || !pdev->pri_reqs_alloc)
		return 0;

	if (pdev->pri_enabled)
		pci_disable_pri(pdev);
	ret = poll_timeout_us(pci_read_config_word(pdev, status_reg, &status),
			      status & PCI_PRI_STATUS_STOPPED, USEC_PER_MSEC,
			      PCI_LIVEUPDATE_PRI_PATIENCE, false);

	return ret ? -EBUSY : 0;
}
