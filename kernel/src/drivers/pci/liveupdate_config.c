// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: Configuration of devices that run through a Live Update
 *
 * A device in running mode does DMA while the kernels change. The incoming kernel
 * has to find out all about it without writing to it, or to the bridges above it.
 *
 * - The outgoing kernel records what enumeration finds out by writing: the sizes
 *   of BARs, which windows a bridge has, whether INTx can be masked.
 * - Enumeration reads. Steps that configure are skipped where they begin (payload
 *   size, tags, LTR, ASPM, ARI, ACS, DOE, IDE, AER, PME). SR-IOV is taken over as it
 *   is (liveupdate_sriov.c). BARs are claimed where they are and marked as fixed;
 *   bridges keep their windows, and any other device below one gets what is free in
 *   them, or nothing.
 * - Fixups run, because most of them only set flags. Those of the final pass that
 *   are for a whole class of devices do not run for a running device, because they
 *   access its registers (the one for USB hosts halts them).
 * - Any other write is dropped: pci_write_config_*() and its siblings for user space
 *   fail with PCIBIOS_SET_FAILED or -EBUSY for a device that is read-only, and log
 *   the register and the caller. This is a safety net: a caller that reads back
 *   what it wrote comes to wrong conclusions.
 *
 * When they are read-only::
 *
 *   running device    from its freeze in the outgoing kernel until its driver
 *                     opens it in the incoming one
 *   held function     from the jump until its driver adopts it, or root releases it
 *   bridge            as long as it is incoming, but for what port services need:
 *                     status bits, enables of interrupts and error reporting,
 *                     MSI, AER, DPC, and a reset of the bus below
 *
 * Restrictions:
 *
 * - A running device has no DOE and IDE, and its link no ASPM control, until it is
 *   removed and found again.
 * - On a bridge the slot's power controller and interlock, the state of the link
 *   and software triggers of DPC cannot be written.
 */

#include <linux/bitfield.h>
#include <linux/io.h>
#include <linux/kho/abi/pci.h>
#include <linux/log2.h>
#include <linux/pci.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "pci.h"

/* BARs as pci_dev_ser.bar_order has them: the six standard ones and the ROM */
static_assert(PCI_ROM_RESOURCE + 1 == PCI_SER_BARS);
static_assert(sizeof_field(struct pci_liveupdate, bar_order) == PCI_SER_BARS);

/* The BAR is 2^n bytes: n; 0 without a BAR, and -1 if somebody has changed it */
static int pci_liveupdate_bar_order(const struct pci_dev *pdev, int bar)
{
	const struct resource *res = &pdev->resource[bar];

	/* Enhanced Allocation has a size that can be read */
	if (!res->flags || res->flags & IORESOURCE_PCI_EA_BEI)
		return 0;

	return is_power_of_2(resource_size(res)) ? ilog2(resource_size(res)) : -1;
}

/* Can the next kernel be told how large the BARs are? */
bool pci_liveupdate_can_record(const struct pci_dev *pdev)
{
	for (int i = 0; i < PCI_SER_BARS; i++) {
		if (pci_liveupdate_bar_order(pdev, i) < 0)
			return false;
	}

	return pci_liveupdate_can_record_sriov(pdev);
}

/*
 * Write down what the next kernel could find out only by writing, of a device
 * for which pci_liveupdate_can_record().
 */
void pci_liveupdate_record(const struct pci_dev *pdev, struct pci_dev_ser *entry)
{
	entry->flags = 0;
	if (pdev->broken_intx_masking)
		entry->flags |= PCI_SER_INTX_MASK_BROKEN;
	if (pdev->io_window)
		entry->flags |= PCI_SER_IO_WINDOW;
	if (pdev->pref_window)
		entry->flags |= PCI_SER_PREF_WINDOW;
	if (pdev->pref_64_window)
		entry->flags |= PCI_SER_PREF_64_WINDOW;

	for (int i = 0; i < PCI_SER_BARS; i++)
		entry->bar_order[i] = pci_liveupdate_bar_order(pdev, i);
}

/* Take over what the previous kernel wrote down; incoming is set already. */
void pci_liveupdate_recall(struct pci_dev *pdev, const struct pci_dev_ser *entry)
{
	pdev->liveupdate.flags = entry->flags;
	memcpy(pdev->liveupdate.bar_order, entry->bar_order,
	       sizeof(pdev->liveupdate.bar_order));

	if (pdev->liveupdate.incoming != PCI_LIVEUPDATE_IDLE)
		pci_liveupdate_set_read_only(pdev, true);
}

static bool pci_liveupdate_bar_is_64(struct pci_dev *dev, int reg)
{
	u32 val;

	pci_read_config_dword(dev, reg, &val);

	return (val & PCI_BASE_ADDRESS_SPACE) == PCI_BASE_ADDRESS_SPACE_MEMORY &&
	       (val & PCI_BASE_ADDRESS_MEM_TYPE_MASK) ==
	       PCI_BASE_ADDRESS_MEM_TYPE_64;
}

/* What writing all ones to @count BARs from @reg on and reading them would give */
void pci_liveupdate_bar_masks(struct pci_dev *dev, int reg, const u8 *order,
			      int count, u32 *masks)
{
	memset(masks, 0, count * sizeof(*masks));
	for (int i = 0; i < count; i++) {
		u64 mask = -BIT_ULL(order[i]);

		if (!order[i])
			continue;
		masks[i] = lower_32_bits(mask);
		if (i + 1 < count && pci_liveupdate_bar_is_64(dev, reg + 4 * i))
			masks[++i] = upper_32_bits(mask);
	}
}

/* The same for the standard BARs and the ROM; false when that has to be found out. */
bool pci_liveupdate_bar_sizes(struct pci_dev *dev, u32 *stdbars, u32 *rombar)
{
	const u8 *order = dev->liveupdate.bar_order;

	if (!pci_liveupdate_read_only(dev))
		return false;

	pci_liveupdate_bar_masks(dev, PCI_BASE_ADDRESS_0, order,
				 PCI_STD_NUM_BARS, stdbars);

	*rombar = order[PCI_ROM_RESOURCE] ?
		  lower_32_bits(-BIT_ULL(order[PCI_ROM_RESOURCE])) : 0;

	return true;
}

/*
 * The BARs stay where they are. Not so the ROM: its BAR is written when the ROM
 * is switched on, so that it may have any address until then.
 */
void pci_liveupdate_fix_bars(struct pci_dev *dev)
{
	if (!pci_liveupdate_read_only(dev))
		return;

	for (int i = 0; i < PCI_STD_NUM_BARS; i++) {
		struct resource *res = &dev->resource[i];

		if (!res->flags || res->flags & IORESOURCE_PCI_FIXED)
			continue;
		res->flags |= IORESOURCE_PCI_FIXED;
		dev->liveupdate.fixed |= BIT(i);
	}
}

void pci_liveupdate_unfix_bars(struct pci_dev *dev)
{
	for (int i = 0; i < PCI_STD_NUM_BARS; i++) {
		if (dev->liveupdate.fixed & BIT(i))
			dev->resource[i].flags &= ~IORESOURCE_PCI_FIXED;
	}
	dev->liveupdate.fixed = 0;
	pci_liveupdate_unfix_vf_bars(dev);
}

/* Set which windows the bridge has; false when that has to be found out. */
bool pci_liveupdate_bridge_windows(struct pci_dev *bridge)
{
	u32 flags = bridge->liveupdate.flags;

	if (!pci_liveupdate_read_only(bridge))
		return false;

	bridge->io_window = !!(flags & PCI_SER_IO_WINDOW);
	bridge->pref_window = !!(flags & PCI_SER_PREF_WINDOW);
	bridge->pref_64_window = !!(flags & PCI_SER_PREF_64_WINDOW);

	return true;
}

bool pci_liveupdate_intx_mask_broken(struct pci_dev *dev)
{
	return dev->liveupdate.flags & PCI_SER_INTX_MASK_BROKEN;
}

/* Of Intel's PCHs up to X99, see pci_quirk_enable_intel_pch_acs() */
#define PCH_LPC_RCBA		0xf0	/* in configuration space of 31.0 */
#define PCH_LPC_RCBA_ENABLE	BIT(0)
#define PCH_LPC_RCBA_ADDRESS	GENMASK(31, 14)
#define PCH_UPDCR		0x1014
#define PCH_UPDCR_PEER_DECODE	GENMASK(5, 0)
#define PCH_BSPR		0x1104
#define PCH_BSPR_NO_PEER	GENMASK(9, 8)
#define PCH_PORT_MPC		0xd8
#define PCH_PORT_MPC_IRBNCE	BIT(26)

/*
 * Is what stands for ACS in a root port of a PCH as its quirk would set it? For a
 * port that came in this is read, and decides the same as in the previous kernel
 * which devices are in one IOMMU group. Were it not so, the quirk would write to
 * the port, and to a register of all ports.
 */
bool pci_liveupdate_pch_acs(struct pci_dev *dev)
{
	u32 rcba, bspr, updcr, mpc;
	void __iomem *regs;

	pci_bus_read_config_dword(dev->bus, PCI_DEVFN(31, 0), PCH_LPC_RCBA,
				  &rcba);
	if (!(rcba & PCH_LPC_RCBA_ENABLE))
		return false;

	regs = ioremap(rcba & PCH_LPC_RCBA_ADDRESS, SZ_8K);
	if (!regs)
		return false;
	bspr = readl(regs + PCH_BSPR);
	updcr = readl(regs + PCH_UPDCR);
	iounmap(regs);

	pci_read_config_dword(dev, PCH_PORT_MPC, &mpc);

	return mpc & PCH_PORT_MPC_IRBNCE &&
	       ((bspr & PCH_BSPR_NO_PEER) == PCH_BSPR_NO_PEER ||
		!(updcr & PCH_UPDCR_PEER_DECODE));
}

/* A fixup of the final pass for a whole class works on the device, see DOC. */
bool pci_liveupdate_skip_final_fixup(struct pci_dev *dev, u32 class)
{
	return pci_liveupdate_running(dev) && class != (u32)PCI_ANY_ID;
}

/* How long the MSI capability of a bridge is */
static int pci_liveupdate_msi_size(const struct pci_dev *dev)
{
	u16 flags;

	pci_read_config_word(dev, dev->msi_cap + PCI_MSI_FLAGS, &flags);
	if (!(flags & PCI_MSI_FLAGS_64BIT))
		return flags & PCI_MSI_FLAGS_MASKBIT ? 0x14 : 0x0c;

	return flags & PCI_MSI_FLAGS_MASKBIT ? 0x18 : 0x10;
}

/* DPC Control: act as if an error had been detected */
#define PCI_DPC_CTL_SW_TRIGGER	0x0040

static bool pci_liveupdate_within(int reg, int cap, int size)
{
	return cap && reg >= cap && reg < cap + size;
}

/* The bits of the PCIe capability, 32 at offset @reg, that port services set */
static u32 pci_liveupdate_port_bits(int reg)
{
	const u32 status = GENMASK(31, 16);

	switch (reg) {
	case PCI_EXP_DEVCTL:
		return status | PCI_EXP_DEVCTL_CERE | PCI_EXP_DEVCTL_NFERE |
		       PCI_EXP_DEVCTL_FERE | PCI_EXP_DEVCTL_URRE;
	case PCI_EXP_LNKCTL:
		return status | PCI_EXP_LNKCTL_LBMIE | PCI_EXP_LNKCTL_LABIE;
	case PCI_EXP_SLTCTL:
		return ~(u32)(PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_EIC);
	case PCI_EXP_RTCTL:
	case PCI_EXP_RTSTA:
		return ~0;
	default:
		return 0;
	}
}

/* The bits of a bridge's register, 32 at offset @reg, that are not read-only */
static u32 pci_liveupdate_bridge_bits(const struct pci_dev *dev, int reg)
{
	switch (reg) {
	case PCI_COMMAND:
		return PCI_COMMAND_INTX_DISABLE | PCI_COMMAND_SERR |
		       PCI_COMMAND_PARITY | GENMASK(31, 16);
	case PCI_IO_BASE:
		return GENMASK(31, 16);	/* secondary status */
	case PCI_INTERRUPT_LINE:
		return GENMASK(7, 0) | PCI_BRIDGE_CTL_BUS_RESET << 16;
	}

	if (pci_liveupdate_within(reg, dev->pcie_cap, PCI_EXP_SLTSTA2 + 2))
		return pci_liveupdate_port_bits(reg - dev->pcie_cap);
	if (pci_liveupdate_within(reg, dev->msix_cap, PCI_CAP_MSIX_SIZEOF))
		return ~0;
	if (dev->msi_cap &&
	    pci_liveupdate_within(reg, dev->msi_cap, pci_liveupdate_msi_size(dev)))
		return ~0;
	if (dev->pm_cap && reg == dev->pm_cap + PCI_PM_CTRL)
		return PCI_PM_CTRL_PME_ENABLE | PCI_PM_CTRL_PME_STATUS;
#ifdef CONFIG_PCIEAER
	if (pci_liveupdate_within(reg, dev->aer_cap, PCI_ERR_ROOT_ERR_SRC))
		return ~0;
#endif
#ifdef CONFIG_PCIE_DPC
	if (dev->dpc_cap && reg == dev->dpc_cap + PCI_EXP_DPC_CAP)
		return ~(u32)(PCI_DPC_CTL_SW_TRIGGER << 16);
	if (pci_liveupdate_within(reg, dev->dpc_cap,
				  PCI_EXP_DPC_RP_PIO_HEADER_LOG))
		return ~0;
#endif

	return 0;
}

/*
 * The slow path of pci_liveupdate_drop_write(). To write what is there already
 * to a register that is read-only as a whole is not worth a line in the log.
 */
bool __pci_liveupdate_drop_write(const struct pci_dev *dev, int where, u32 val,
				 int size, unsigned long ip)
{
	int reg = round_down(where, 4), shift = 8 * (where & 3);
	u32 mask = GENMASK(8 * size - 1, 0) << shift;
	u32 old, free = 0;

	if (READ_ONCE(dev->liveupdate.incoming) == PCI_LIVEUPDATE_BRIDGE) {
		free = pci_liveupdate_bridge_bits(dev, reg);
		pci_read_config_dword(dev, reg, &old);
		if (!((old ^ val << shift) & mask & ~free))
			return !(free & mask);
	}

	dev_warn_ratelimited(&dev->dev, "live update: dropped a write to config space: %#x -> [%#x], %d bytes, from %pS\n",
			     val, where, size, (void *)ip);

	return true;
}

/**
 * pci_liveupdate_set_read_only() - Say whether a device may be configured
 * @pdev:      Device that runs through a live update.
 * @read_only: Whether nothing may be written to its configuration space.
 *
 * A driver makes its device read-only when it freezes it in running mode, and
 * takes that back when it unfreezes it. In the next kernel the device comes
 * read-only; the driver takes that back when it opens the device for its user.
 *
 * Context: Any context.
 */
void pci_liveupdate_set_read_only(struct pci_dev *pdev, bool read_only)
{
	WRITE_ONCE(pdev->liveupdate.read_only, read_only);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_set_read_only);

static struct pci_cap_saved_data *
pci_liveupdate_next_cap(struct pci_cap_saved_data *cap)
{
	return (void *)cap + sizeof(*cap) + cap->size;
}

/* The place in @cap for a capability's registers, if it has this many bytes */
static void *pci_liveupdate_cap_data(struct pci_cap_saved_data *cap, u16 id,
				     bool extended, size_t size)
{
	if (cap->cap_nr != id || cap->cap_extended != extended ||
	    cap->size < size)
		return NULL;

	return cap->data;
}

/**
 * pci_liveupdate_pack_state() - Write a saved state down for the next kernel
 * @state: What pci_store_saved_state() returned.
 * @ser:   Where to.
 *
 * Context: Any context.
 */
void pci_liveupdate_pack_state(struct pci_saved_state *state,
			       struct pci_state_ser *ser)
{
	struct pci_cap_saved_data *cap;
	void *data;

	memset(ser, 0, sizeof(*ser));
	memcpy(ser->header, state->config_space, sizeof(ser->header));

	for (cap = (void *)state->caps; cap->size;
	     cap = pci_liveupdate_next_cap(cap)) {
		data = pci_liveupdate_cap_data(cap, PCI_CAP_ID_EXP, false,
					       sizeof(ser->exp));
		if (data) {
			memcpy(ser->exp, data, sizeof(ser->exp));
			ser->flags |= PCI_STATE_SER_EXP;
		}
		data = pci_liveupdate_cap_data(cap, PCI_EXT_CAP_ID_ERR, true,
					       sizeof(ser->aer));
		if (data) {
			memcpy(ser->aer, data, sizeof(ser->aer));
			ser->flags |= PCI_STATE_SER_AER;
		}
	}
}
EXPORT_SYMBOL_GPL(pci_liveupdate_pack_state);

/**
 * pci_liveupdate_unpack_state() - Make a saved state of what was written down
 * @pdev: Device.
 * @ser:  What pci_liveupdate_pack_state() of the previous kernel wrote.
 *
 * Registers that are not in @ser are saved as they are now; what a device's
 * user can change is. The device is only read.
 *
 * Context: Process context, may sleep. The caller sees to it that nobody else
 * saves or restores the state of @pdev.
 * Return: the state, to be given to pci_load_saved_state() and kfree(), or NULL
 * when there is no memory.
 */
struct pci_saved_state *
pci_liveupdate_unpack_state(struct pci_dev *pdev,
			    const struct pci_state_ser *ser)
{
	struct pci_saved_state *state;
	struct pci_cap_saved_data *cap;
	void *data;

	pci_save_state(pdev);
	state = pci_store_saved_state(pdev);
	if (!state)
		return NULL;

	memcpy(state->config_space, ser->header, sizeof(ser->header));

	for (cap = (void *)state->caps; cap->size;
	     cap = pci_liveupdate_next_cap(cap)) {
		data = pci_liveupdate_cap_data(cap, PCI_CAP_ID_EXP, false,
					       sizeof(ser->exp));
		if (data && ser->flags & PCI_STATE_SER_EXP)
			memcpy(data, ser->exp, sizeof(ser->exp));
		data = pci_liveupdate_cap_data(cap, PCI_EXT_CAP_ID_ERR, true,
					       sizeof(ser->aer));
		if (data && ser->flags & PCI_STATE_SER_AER)
			memcpy(data, ser->aer, sizeof(ser->aer));
	}

	return state;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_unpack_state);
