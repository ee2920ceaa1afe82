// SPDX-License-Identifier: GPL-2.0-only

/*
 * PCI devices in software, see fake.h.
 */

#include <linux/pci-ats.h>
#include <linux/unaligned.h>

#include "fake.h"

#define FAKE_DOMAIN		0xfade
#define FAKE_PCIE		0x40

void fake_log(char *log, const char *format, ...)
{
	size_t used = strlen(log);
	va_list args;

	if (used && used + 1 < FAKE_LOG_SIZE) {
		log[used++] = ' ';
		log[used] = '\0';
	}
	va_start(args, format);
	vscnprintf(log + used, FAKE_LOG_SIZE - used, format, args);
	va_end(args);
}

void fake_set(struct fake_function *function, int where, u16 value)
{
	put_unaligned_le16(value, function->config + where);
}

u16 fake_get(struct fake_function *function, int where)
{
	return get_unaligned_le16(function->config + where);
}

static struct fake_function *fake_find(struct fake_pci *pci, unsigned int devfn)
{
	for (int i = 0; i < FAKE_FUNCTIONS; i++) {
		if (devfn == FAKE_DEVFN(i) && !pci->functions[i].absent)
			return &pci->functions[i];
	}

	return NULL;
}

/* PRI has stopped when no request is outstanding and it is not enabled. */
static void fake_update_pri(struct fake_function *function)
{
	u16 status = fake_get(function, FAKE_PRI + PCI_PRI_STATUS);
	bool enabled = fake_get(function, FAKE_PRI + PCI_PRI_CTRL) &
		       PCI_PRI_CTRL_ENABLE;

	status &= ~PCI_PRI_STATUS_STOPPED;
	if (!enabled && ktime_after(ktime_get(), function->stopped_at))
		status |= PCI_PRI_STATUS_STOPPED;
	fake_set(function, FAKE_PRI + PCI_PRI_STATUS, status);
}

static int fake_read(struct pci_bus *bus, unsigned int devfn, int where, int size,
		     u32 *value)
{
	struct fake_pci *pci = container_of(to_pci_sysdata(bus), struct fake_pci,
					    sysdata);
	struct fake_function *function = fake_find(pci, devfn);

	*value = ~0;
	if (!function)
		return PCIBIOS_DEVICE_NOT_FOUND;

	if (where == FAKE_PRI + PCI_PRI_STATUS)
		fake_update_pri(function);
	*value = 0;
	memcpy(value, function->config + where, size);

	return PCIBIOS_SUCCESSFUL;
}

static void fake_write_pri(struct fake_function *function, u16 value)
{
	bool was_on = fake_get(function, FAKE_PRI + PCI_PRI_CTRL) &
		      PCI_PRI_CTRL_ENABLE;

	if (was_on && !(value & PCI_PRI_CTRL_ENABLE))
		function->stopped_at = function->stop_after < 0 ? KTIME_MAX :
			ktime_add_ms(ktime_get(), function->stop_after);
	fake_set(function, FAKE_PRI + PCI_PRI_CTRL, value & PCI_PRI_CTRL_ENABLE);
}

static int fake_write(struct pci_bus *bus, unsigned int devfn, int where, int size,
		      u32 value)
{
	struct fake_pci *pci = container_of(to_pci_sysdata(bus), struct fake_pci,
					    sysdata);
	struct fake_function *function = fake_find(pci, devfn);

	if (!function)
		return PCIBIOS_DEVICE_NOT_FOUND;

	switch (where) {
	case FAKE_ATS + PCI_ATS_CTRL:
		fake_log(pci->log, "ats=%x", value);
		fake_set(function, where, value);
		break;
	case FAKE_PRI + PCI_PRI_CTRL:
		fake_log(pci->log, "pri=%x", value);
		fake_write_pri(function, value);
		break;
	case FAKE_PASID + PCI_PASID_CTRL:
		fake_log(pci->log, "pasid=%x", value);
		fake_set(function, where, value);
		break;
	case FAKE_PRI + PCI_PRI_ALLOC_REQ:
		fake_log(pci->log, "requests=%x", value);
		break;
	default:
		/* What else the PCI core writes, it has no BAR, for one, changes nothing */
		fake_log(pci->log, "%03x=%x", where, value);
	}

	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops fake_ops = {
	.read = fake_read,
	.write = fake_write,
};

static void fake_capability(struct fake_function *function, int where, u16 id, bool have)
{
	u32 header = 1 << 16;

	/* One that it does not have is of a vendor's own kind, which nobody looks for */
	header |= have ? id : PCI_EXT_CAP_ID_VNDR;
	if (where != FAKE_PASID)
		header |= (where + 0x10) << 20;
	put_unaligned_le32(header, function->config + where);
}

static void fake_function_init(struct fake_function *function, unsigned int without)
{
	u8 *config = function->config;

	fake_set(function, PCI_VENDOR_ID, 0x1234);
	fake_set(function, PCI_DEVICE_ID, 0xfade);
	fake_set(function, PCI_STATUS, PCI_STATUS_CAP_LIST);
	config[PCI_CLASS_DEVICE + 1] = 0xff;
	config[PCI_CAPABILITY_LIST] = FAKE_PCIE;

	config[FAKE_PCIE] = PCI_CAP_ID_EXP;
	fake_set(function, FAKE_PCIE + PCI_EXP_FLAGS, PCI_EXP_TYPE_RC_END << 4 | 2);

	fake_capability(function, FAKE_ATS, PCI_EXT_CAP_ID_ATS,
			!(without & FAKE_WITHOUT_ATS));
	fake_capability(function, FAKE_PRI, PCI_EXT_CAP_ID_PRI,
			!(without & FAKE_WITHOUT_PRI));
	fake_capability(function, FAKE_PASID, PCI_EXT_CAP_ID_PASID,
			!(without & FAKE_WITHOUT_PASID));
	fake_set(function, FAKE_ATS + PCI_ATS_CAP, PCI_ATS_CAP_PAGE_ALIGNED);
	fake_set(function, FAKE_PRI + PCI_PRI_MAX_REQ, 0x20);
	fake_set(function, FAKE_PASID + PCI_PASID_CAP, 20 << 8);
}

int fake_pci_init(struct fake_pci *pci, unsigned int without)
{
	int ret;

	for (int i = 0; i < FAKE_FUNCTIONS; i++)
		fake_function_init(&pci->functions[i], without);

	pci->bridge = pci_alloc_host_bridge(0);
	if (!pci->bridge)
		return -ENOMEM;

	pci->sysdata.domain = FAKE_DOMAIN;
	pci->sysdata.node = NUMA_NO_NODE;
	pci->bridge->ops = &fake_ops;
	pci->bridge->sysdata = &pci->sysdata;

	pci_lock_rescan_remove();
	ret = pci_scan_root_bus_bridge(pci->bridge);
	pci_unlock_rescan_remove();
	if (ret) {
		pci_free_host_bridge(pci->bridge);
		pci->bridge = NULL;
		return ret;
	}

	for (int i = 0; i < FAKE_FUNCTIONS; i++) {
		pci->pdev[i] = pci_get_slot(pci->bridge->bus, FAKE_DEVFN(i));
		if (!pci->pdev[i])
			return -ENODEV;
	}
	pci->log[0] = '\0';

	return 0;
}

void fake_pci_exit(struct fake_pci *pci)
{
	for (int i = 0; i < FAKE_FUNCTIONS; i++)
		pci_dev_put(pci->pdev[i]);
	if (!pci->bridge)
		return;

	pci_lock_rescan_remove();
	pci_stop_root_bus(pci->bridge->bus);
	pci_remove_root_bus(pci->bridge->bus);
	pci_unlock_rescan_remove();
	pci_free_host_bridge(pci->bridge);
}
