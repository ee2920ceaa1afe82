// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: igb in a Live Update
 *
 * Virtual functions of an 82576 go to the next kernel at work, and their physical
 * function is the host's network. Its driver takes part
 * (&struct pci_liveupdate_pf_ops): the host's own queues end at the kexec, and all that
 * virtual functions need goes on: the switch with its filters, the link, the mailboxes'
 * memory. Nothing is reset, from igb_hold() to the first igb_reset() after
 * igb_release().
 *
 * Outgoing kernel::
 *
 *   the first virtual function is preserved, and freeze
 *     igb_can_hold()
 *   device_shutdown(), in place of igb_shutdown()
 *     igb_hold()
 *       netif_device_detach()             no more frames, ioctls and ethtool
 *       igb_quiesce()                     frames that wait are sent, own queues and
 *                                         interrupts turned off, napi, timers, works
 *       igb_record()                      &struct igb_ser: what no register has
 *
 * Incoming kernel::
 *
 *   in place of igb_probe()
 *     igb_adopt()
 *       __igb_probe()                     what igb_probe() does, with the data
 *         igb_liveupdate_begin()          from here on igb_liveupdate_keeps()
 *         igb_sw_init()
 *           igb_probe_vfs()               finds as many virtual functions as there are
 *             igb_liveupdate_restore_vf() each is what it was
 *           igb_liveupdate_restore()      VLANs, addresses
 *         igb_liveupdate_restore_link()
 *         igb_reset()                     does nothing
 *   the interface is brought up
 *     __igb_open()                        own queues and interrupts
 *       igb_msg_task()                    messages and resets of virtual functions that
 *                                         nobody has seen
 *   all that came is finished
 *     igb_release()                       igb_reset() resets again
 *
 * What Linux's code does with registers that virtual functions need, too, while they
 * are as they came:
 *
 * =============================  ==================================================
 * RXDCTL(0), TXDCTL(0)           not written: queue 0 is virtual function 0's
 * CTRL_EXT                       not written: PFRSTD would tell of a reset
 * DTXCTL, RPLOLR, DTXSWC         not written: igb_vmm_control() would turn the check for
 *                                spoofed addresses on again where it is off
 * PHY, CTRL, FCT, FCRTL, FCTTV   not written: igb_power_up_link() would begin a
 *                                negotiation
 * VFRE, VFTE, RAH/RAL of         not written, unless a virtual function asks
 * virtual functions
 * MTA                            the same: igb_liveupdate_add_multicasts() adds the
 *                                hashes of virtual functions before it is written
 * VMOLR of virtual functions     the same: igb_restore_vf_multicasts(), from their data
 * VFTA, VLVF                     the same, and VLANs of the host are added
 * MRQC, VT_CTL, QDE, RXCSUM      the same: as many queues as before
 * RCTL, TCTL                     the same, without promiscuous modes, which are the
 *                                host's. RCTL.EN and TCTL.EN stay, also when the
 *                                interface is taken down before release()
 * GPIE, RFCTL, RLPML             the same: constants
 * EIAC, EIAM, EIMS, EIMC         bits of the host's vectors, the others are written as
 *                                they were read, as ever
 * IVAR                           the rows of the host's queues
 * =============================  ==================================================
 *
 * Restrictions:
 *
 * - Only an 82576 with its own copper PHY, with MSI-X, and with its interface up: when
 *   it is taken down virtual functions do not work. VLAN tags are stripped
 *   (rxvlan on), bad frames are dropped (rx-all off).
 * - As long as it is kept a reset waits: new settings of the link, an offline self-test,
 *   another number of queues (-EBUSY), and what a reset would have cured. Nor is it
 *   suspended at run time.
 * - Frames for the host are lost from igb_hold() until the interface is up again, and
 *   messages of virtual functions are answered then.
 * - What the host has set up on the interface is for the next kernel's user space to set
 *   up again: its address, VLANs, multicast, promiscuous mode, timestamps, the key of
 *   RSS, coalescing. VLANs of which it does not do that stay in the filter until the
 *   next reset.
 * - EIAC and EIAM are read and written back, as in igb_irq_enable(): what a virtual
 *   function changes in between is lost, as it ever could be.
 */

#include <linux/delay.h>
#include <linux/kho/check/igb.h>
#include <linux/netdevice.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>

#include "igb.h"

/* For frames that wait to be sent, and for queues to stop; each ten times */
#define IGB_HOLD_STEP_US		10000
#define IGB_STOP_STEP_US		1000
#define IGB_STEPS			10

static_assert(MAX_NUM_VFS - 1 == IGB_SER_MAX_VFS);
static_assert(IGB_SER_RARS == E1000_RAR_ENTRIES_82576);
static_assert(IGB_SER_VFTA == E1000_VLAN_FILTER_TBL_SIZE);
static_assert(IGB_SER_HASHES == IGB_MAX_VF_MC_ENTRIES);
static_assert(IGB_SER_VF_CTS == IGB_VF_FLAG_CTS);
static_assert(IGB_SER_VF_UNI_PROMISC == IGB_VF_FLAG_UNI_PROMISC);
static_assert(IGB_SER_VF_MULTI_PROMISC == IGB_VF_FLAG_MULTI_PROMISC);
static_assert(IGB_SER_VF_PF_SET_MAC == IGB_VF_FLAG_PF_SET_MAC);

#define IGB_SER_VF_IGB_FLAGS	(IGB_SER_VF_CTS | IGB_SER_VF_UNI_PROMISC | \
				 IGB_SER_VF_MULTI_PROMISC | IGB_SER_VF_PF_SET_MAC)

/* Bits of &struct igb_adapter.flags that cross */
static const struct {
	u32 ser;
	unsigned int igb;
} igb_flags[] = {
	{ IGB_SER_VLAN_PROMISC, IGB_FLAG_VLAN_PROMISC },
	{ IGB_SER_RSS_IPV4_UDP, IGB_FLAG_RSS_FIELD_IPV4_UDP },
	{ IGB_SER_RSS_IPV6_UDP, IGB_FLAG_RSS_FIELD_IPV6_UDP },
};

/* --- outgoing --------------------------------------------------------------- */

/**
 * igb_can_hold() - Could this function be held for its virtual ones?
 * @pdev: The function.
 * @why:  Why it cannot.
 *
 * Return: 0, -EOPNOTSUPP for what does not change, -EBUSY for what does.
 */
static int igb_can_hold(struct pci_dev *pdev, const char **why)
{
	struct net_device *netdev = pci_get_drvdata(pdev);
	struct igb_adapter *adapter = netdev_priv(netdev);
	struct e1000_hw *hw = &adapter->hw;

	*why = "igb keeps only an 82576 with copper and MSI-X for its virtual functions";
	if (hw->mac.type != e1000_82576 || !(adapter->flags & IGB_FLAG_HAS_MSIX) ||
	    hw->phy.media_type != e1000_media_type_copper ||
	    hw->dev_spec._82575.sgmii_active)
		return -EOPNOTSUPP;

	*why = "its physical function is suspended, or under test";
	if (pm_runtime_suspended(&pdev->dev) || test_bit(__IGB_TESTING, &adapter->state) ||
	    test_bit(__IGB_RESETTING, &adapter->state))
		return -EBUSY;

	*why = "the network interface of its physical function is down";
	if (!adapter->vf_data || !(rd32(E1000_RCTL) & E1000_RCTL_EN))
		return -EBUSY;

	*why = "the network interface of its physical function has rxvlan off or rx-all on";
	if (!(netdev->features & NETIF_F_HW_VLAN_CTAG_RX) ||
	    netdev->features & NETIF_F_RXALL)
		return -EBUSY;

	return 0;
}

/* Let frames go that wait to be sent, if they can. */
static void igb_drain(struct igb_adapter *adapter)
{
	struct e1000_hw *hw = &adapter->hw;

	for (int step = 0; netif_carrier_ok(adapter->netdev) && step < IGB_STEPS; step++) {
		bool waiting = false;

		for (int i = 0; i < adapter->num_tx_queues; i++) {
			int queue = adapter->tx_ring[i]->reg_idx;

			waiting |= rd32(E1000_TDH(queue)) != rd32(E1000_TDT(queue));
		}
		if (!waiting)
			return;
		fsleep(IGB_HOLD_STEP_US);
	}
}

static bool igb_queues_enabled(struct igb_adapter *adapter)
{
	struct e1000_hw *hw = &adapter->hw;
	u32 enabled = 0;

	for (int i = 0; i < adapter->num_tx_queues; i++)
		enabled |= rd32(E1000_TXDCTL(adapter->tx_ring[i]->reg_idx)) &
			   E1000_TXDCTL_QUEUE_ENABLE;
	for (int i = 0; i < adapter->num_rx_queues; i++)
		enabled |= rd32(E1000_RXDCTL(adapter->rx_ring[i]->reg_idx)) &
			   E1000_RXDCTL_QUEUE_ENABLE;

	return enabled;
}

/* The host's own queues: no DMA after this. */
static void igb_stop_queues(struct igb_adapter *adapter)
{
	struct e1000_hw *hw = &adapter->hw;

	for (int i = 0; i < adapter->num_tx_queues; i++)
		wr32(E1000_TXDCTL(adapter->tx_ring[i]->reg_idx), 0);
	for (int i = 0; i < adapter->num_rx_queues; i++)
		wr32(E1000_RXDCTL(adapter->rx_ring[i]->reg_idx), 0);
	wrfl();

	for (int step = 0; step < IGB_STEPS; step++) {
		fsleep(IGB_STOP_STEP_US);
		if (!igb_queues_enabled(adapter))
			return;
	}
	netdev_err(adapter->netdev, "live update: queues do not stop\n");
}

/* All that igb_down() does, but to what virtual functions need */
static void igb_quiesce(struct igb_adapter *adapter)
{
	if (test_and_set_bit(__IGB_DOWN, &adapter->state))
		return;

	igb_drain(adapter);
	igb_stop_queues(adapter);
	igb_irq_disable(adapter);
	for (int i = 0; i < adapter->num_q_vectors; i++)
		napi_disable(&adapter->q_vector[i]->napi);
}

static void igb_record_vf(const struct igb_adapter *adapter, int vf,
			  struct igb_vf_ser *ser)
{
	const struct vf_data_storage *vf_data = &adapter->vf_data[vf];

	ser->flags = vf_data->flags & IGB_SER_VF_IGB_FLAGS;
	if (vf_data->spoofchk_enabled)
		ser->flags |= IGB_SER_VF_SPOOFCHK;
	if (vf_data->trusted)
		ser->flags |= IGB_SER_VF_TRUSTED;
	ether_addr_copy(ser->mac, vf_data->vf_mac_addresses);
	ser->num_hashes = vf_data->num_vf_mc_hashes;
	memcpy(ser->hashes, vf_data->vf_mc_hashes, sizeof(ser->hashes));
	ser->vlan = vf_data->pf_vlan;
	ser->qos = vf_data->pf_qos;
	ser->tx_rate = vf_data->tx_rate;
}

static void igb_record_filters(const struct igb_adapter *adapter,
			       struct igb_filter_ser *filters)
{
	for (u32 i = 1; i < IGB_SER_RARS - adapter->vfs_allocated_count; i++) {
		const struct igb_mac_addr *entry = &adapter->mac_table[i];

		if (!(entry->state & IGB_MAC_STATE_IN_USE) ||
		    entry->queue >= adapter->vfs_allocated_count)
			continue;
		ether_addr_copy(filters[i].mac, entry->addr);
		filters[i].vf = entry->queue;
		filters[i].used = 1;
	}
}

static void igb_record_link(const struct igb_adapter *adapter, struct igb_ser *ser)
{
	const struct e1000_hw *hw = &adapter->hw;

	ser->rate_speed = adapter->vf_rate_link_speed;
	ser->fc_requested = hw->fc.requested_mode;
	ser->fc_current = hw->fc.current_mode;
	ser->fc_high_water = hw->fc.high_water;
	ser->fc_low_water = hw->fc.low_water;
	ser->fc_pause_time = hw->fc.pause_time;
	ser->advertised = hw->phy.autoneg_advertised;
	ser->forced = hw->mac.forced_speed_duplex;
	ser->mdix = hw->phy.mdix;
	ser->flags |= hw->mac.autoneg ? IGB_SER_AUTONEG : 0;
	ser->flags |= adapter->fc_autoneg ? IGB_SER_FC_AUTONEG : 0;
	ser->flags |= hw->fc.send_xon ? IGB_SER_FC_SEND_XON : 0;
}

static void igb_record(const struct igb_adapter *adapter, struct igb_ser *ser)
{
	ser->num_vfs = adapter->vfs_allocated_count;
	ser->rss_queues = adapter->rss_queues;
	for (size_t i = 0; i < ARRAY_SIZE(igb_flags); i++)
		ser->flags |= adapter->flags & igb_flags[i].igb ? igb_flags[i].ser : 0;
	/* One that is kept, and was not brought up, knows it from the kernel before */
	if (netif_carrier_ok(adapter->netdev) ||
	    test_bit(__IGB_LIVEUPDATE_LINK, &adapter->state))
		ser->flags |= IGB_SER_LINK;
	memcpy(ser->vfta, adapter->shadow_vfta, sizeof(ser->vfta));
	igb_record_link(adapter, ser);
	igb_record_filters(adapter, ser->filters);
	for (int i = 0; i < ser->num_vfs; i++)
		igb_record_vf(adapter, i, &ser->vfs[i]);
}

/**
 * igb_hold() - The next kernel comes: end the host's work, and not virtual functions'.
 * @pdev: The function.
 * @data: A &struct igb_ser to fill in, all 0.
 */
static void igb_hold(struct pci_dev *pdev, void *data)
{
	struct net_device *netdev = pci_get_drvdata(pdev);
	struct igb_adapter *adapter = netdev_priv(netdev);

	rtnl_lock();
	netif_device_detach(netdev);
	igb_quiesce(adapter);
	rtnl_unlock();

	/* The task that resets takes the lock, and sees that it is down */
	cancel_work_sync(&adapter->reset_task);
	timer_delete_sync(&adapter->watchdog_timer);
	cancel_work_sync(&adapter->watchdog_task);
	timer_delete_sync(&adapter->watchdog_timer);
	timer_delete_sync(&adapter->phy_info_timer);
	igb_ptp_suspend(adapter);

	igb_record(adapter, data);
}

/* --- incoming --------------------------------------------------------------- */

/**
 * igb_liveupdate_begin() - A function is probed; begin to keep it, if it came.
 * @adapter: The adapter.
 * @came:    What came with it, or NULL.
 */
void igb_liveupdate_begin(struct igb_adapter *adapter, const struct igb_ser *came)
{
	if (!came)
		return;

	adapter->came = came;
	set_bit(__IGB_LIVEUPDATE_KEPT, &adapter->state);
	set_bit(__IGB_LIVEUPDATE_AS_IT_CAME, &adapter->state);
	if (came->flags & IGB_SER_LINK)
		set_bit(__IGB_LIVEUPDATE_LINK, &adapter->state);
}

/**
 * igb_liveupdate_max_vfs() - How many virtual functions are to be there?
 * @adapter: The adapter.
 * @max_vfs: How many Linux would have.
 *
 * Return: @max_vfs, or how many it came with.
 */
int igb_liveupdate_max_vfs(const struct igb_adapter *adapter, int max_vfs)
{
	return adapter->came ? adapter->came->num_vfs : max_vfs;
}

/**
 * igb_liveupdate_restore_vf() - Know a virtual function again; its registers are there.
 * @adapter: The adapter.
 * @vf:      Its number.
 *
 * Return: did it come?
 */
bool igb_liveupdate_restore_vf(struct igb_adapter *adapter, int vf)
{
	struct vf_data_storage *vf_data = &adapter->vf_data[vf];
	const struct igb_vf_ser *ser;
	struct igb_mac_addr *entry;

	if (!adapter->came)
		return false;

	ser = &adapter->came->vfs[vf];
	vf_data->flags = ser->flags & IGB_SER_VF_IGB_FLAGS;
	vf_data->spoofchk_enabled = ser->flags & IGB_SER_VF_SPOOFCHK;
	vf_data->trusted = ser->flags & IGB_SER_VF_TRUSTED;
	ether_addr_copy(vf_data->vf_mac_addresses, ser->mac);
	vf_data->num_vf_mc_hashes = ser->num_hashes;
	memcpy(vf_data->vf_mc_hashes, ser->hashes, sizeof(ser->hashes));
	vf_data->pf_vlan = ser->vlan;
	vf_data->pf_qos = ser->qos;
	vf_data->tx_rate = ser->tx_rate;

	/* As igb_set_vf_mac() has it */
	entry = &adapter->mac_table[adapter->hw.mac.rar_entry_count - (vf + 1)];
	ether_addr_copy(entry->addr, ser->mac);
	entry->queue = vf;
	entry->state = IGB_MAC_STATE_IN_USE;

	return true;
}

/**
 * igb_liveupdate_restore_queues() - Receive with as many queues as before.
 * @adapter: The adapter.
 *
 * MRQC depends on that, which is for virtual functions, too.
 */
void igb_liveupdate_restore_queues(struct igb_adapter *adapter)
{
	if (adapter->came)
		adapter->rss_queues = adapter->came->rss_queues;
}

/* An address that a virtual function has asked for, as igb_set_vf_mac_filter() has it */
static void igb_restore_filter(struct igb_adapter *adapter, u32 index,
			       const struct igb_filter_ser *ser)
{
	struct vf_mac_filter *filter;

	ether_addr_copy(adapter->mac_table[index].addr, ser->mac);
	adapter->mac_table[index].queue = ser->vf;
	adapter->mac_table[index].state = IGB_MAC_STATE_IN_USE;

	if (!adapter->vf_mac_list)
		return;

	list_for_each_entry(filter, &adapter->vf_macs.l, l) {
		if (!filter->free)
			continue;
		filter->free = false;
		filter->vf = ser->vf;
		ether_addr_copy(filter->vf_mac, ser->mac);
		return;
	}
}

/* Addresses of virtual functions stay; those that the host had are not its any more. */
static void igb_restore_filters(struct igb_adapter *adapter)
{
	struct e1000_hw *hw = &adapter->hw;

	for (u32 i = 1; i < IGB_SER_RARS - adapter->vfs_allocated_count; i++) {
		const struct igb_filter_ser *ser = &adapter->came->filters[i];

		if (ser->used) {
			igb_restore_filter(adapter, i, ser);
			continue;
		}
		wr32(E1000_RAH(i), 0);
		wrfl();
		wr32(E1000_RAL(i), 0);
		wrfl();
	}
}

/**
 * igb_liveupdate_restore() - Know again what came, at the end of igb_sw_init().
 * @adapter: The adapter.
 *
 * Return: 0, or -EIO: without all its vectors it cannot have virtual functions.
 */
int igb_liveupdate_restore(struct igb_adapter *adapter)
{
	const struct igb_ser *came = adapter->came;

	if (!came)
		return 0;

	if (!adapter->vf_data || adapter->vfs_allocated_count != came->num_vfs ||
	    !(adapter->flags & IGB_FLAG_HAS_MSIX) ||
	    adapter->rss_queues != came->rss_queues)
		return -EIO;

	for (size_t i = 0; i < ARRAY_SIZE(igb_flags); i++) {
		if (came->flags & igb_flags[i].ser)
			adapter->flags |= igb_flags[i].igb;
	}
	memcpy(adapter->shadow_vfta, came->vfta, sizeof(came->vfta));
	igb_restore_filters(adapter);

	return 0;
}

/**
 * igb_liveupdate_restore_link() - Know again how the link is, in place of a reset.
 * @adapter: The adapter.
 */
void igb_liveupdate_restore_link(struct igb_adapter *adapter)
{
	const struct igb_ser *came = adapter->came;
	struct e1000_hw *hw = &adapter->hw;

	if (!came)
		return;

	adapter->vf_rate_link_speed = came->rate_speed;
	hw->fc.requested_mode = came->fc_requested;
	hw->fc.current_mode = came->fc_current;
	hw->fc.high_water = came->fc_high_water;
	hw->fc.low_water = came->fc_low_water;
	hw->fc.pause_time = came->fc_pause_time;
	hw->fc.send_xon = came->flags & IGB_SER_FC_SEND_XON;
	hw->mac.autoneg = came->flags & IGB_SER_AUTONEG;
	hw->mac.forced_speed_duplex = came->forced;
	hw->phy.autoneg_advertised = came->advertised;
	hw->phy.mdix = came->mdix;
	adapter->fc_autoneg = came->flags & IGB_SER_FC_AUTONEG;
	/* What igb_reset() finds out beside it */
	adapter->mng_vlan_id = IGB_MNG_VLAN_NONE;
	igb_id_led_init(hw);
}

/**
 * igb_liveupdate_drop_vfs() - A function that came is not adopted: it fails.
 * @adapter: The adapter.
 *
 * Return: was it to be adopted? Then its virtual functions stay.
 */
bool igb_liveupdate_drop_vfs(struct igb_adapter *adapter)
{
	if (!igb_liveupdate_keeps(adapter))
		return false;

	kfree(adapter->vf_mac_list);
	kfree(adapter->vf_data);
	adapter->vf_mac_list = NULL;
	adapter->vf_data = NULL;
	adapter->vfs_allocated_count = 0;

	return true;
}

/**
 * igb_adopt() - Take a function over that the previous kernel's igb has held.
 * @pdev: The function.
 * @id:   Its entry in igb's table.
 * @data: A &struct igb_ser.
 *
 * Return: as a probe().
 */
static int igb_adopt(struct pci_dev *pdev, const struct pci_device_id *id,
		     const void *data)
{
	const struct igb_ser *came = data;
	const char *why = igb_ser_check(came);
	struct igb_adapter *adapter;
	int ret;

	if (!why && came->num_vfs != pci_num_vf(pdev))
		why = "it has another number of virtual functions";
	if (why) {
		dev_err(&pdev->dev, "live update: what came is not used, %s\n", why);
		return -EINVAL;
	}

	/* Until it is released */
	pm_runtime_get_noresume(&pdev->dev);
	ret = __igb_probe(pdev, id, came);
	if (ret) {
		pm_runtime_put_noidle(&pdev->dev);
		return ret;
	}

	adapter = netdev_priv((struct net_device *)pci_get_drvdata(pdev));
	adapter->came = NULL;

	return 0;
}

/* --- until all that came is finished ---------------------------------------- */

/**
 * igb_liveupdate_refuses_reset() - Is a reset left out, since the function is kept?
 * @adapter: The adapter.
 *
 * Return: true; or false, and after that reset it is as ever.
 */
bool igb_liveupdate_refuses_reset(struct igb_adapter *adapter)
{
	if (!igb_liveupdate_keeps(adapter)) {
		clear_bit(__IGB_LIVEUPDATE_AS_IT_CAME, &adapter->state);
		return false;
	}

	if (!adapter->came && !test_and_set_bit(__IGB_LIVEUPDATE_TOLD, &adapter->state))
		netdev_info(adapter->netdev,
			    "live update: no reset until its virtual functions are finished\n");

	return true;
}

/**
 * igb_liveupdate_stop() - Stop only the host's queues, if the function is kept.
 * @adapter: The adapter.
 *
 * In place of what igb_down() does to all queues, and of the reset after an interface
 * could not be brought up.
 *
 * Return: is it kept?
 */
bool igb_liveupdate_stop(struct igb_adapter *adapter)
{
	if (!igb_liveupdate_keeps(adapter))
		return false;

	igb_stop_queues(adapter);

	return true;
}

/**
 * igb_liveupdate_knows_link() - Do virtual functions know the state of the link?
 * @adapter: The adapter.
 *
 * They are told when the interface comes up, as of a link that was down: their own
 * interfaces are down for a moment then. For a link that was up all the time they are
 * not to notice anything.
 *
 * Return: true; or false: they are to be told.
 */
bool igb_liveupdate_knows_link(struct igb_adapter *adapter)
{
	if (!igb_liveupdate_as_it_came(adapter))
		return false;

	if (!netif_carrier_ok(adapter->netdev)) {
		clear_bit(__IGB_LIVEUPDATE_LINK, &adapter->state);
		return false;
	}

	return test_and_set_bit(__IGB_LIVEUPDATE_LINK, &adapter->state);
}

/**
 * igb_liveupdate_add_multicasts() - Leave virtual functions' addresses in the filter.
 * @adapter: The adapter, whose filter is about to be written.
 *
 * igb_restore_vf_multicasts() would add them after that.
 */
void igb_liveupdate_add_multicasts(struct igb_adapter *adapter)
{
	struct e1000_hw *hw = &adapter->hw;

	if (!igb_liveupdate_as_it_came(adapter))
		return;

	for (unsigned int vf = 0; vf < adapter->vfs_allocated_count; vf++) {
		const struct vf_data_storage *vf_data = &adapter->vf_data[vf];
		unsigned int num = min(vf_data->num_vf_mc_hashes, IGB_MAX_VF_MC_ENTRIES);

		for (unsigned int i = 0; i < num; i++) {
			u32 hash = vf_data->vf_mc_hashes[i];

			hw->mac.mta_shadow[(hash >> 5) & (hw->mac.mta_reg_count - 1)] |=
				BIT(hash & 0x1f);
		}
	}
}

/**
 * igb_liveupdate_forget() - The function goes away, is suspended or has failed.
 * @adapter: The adapter.
 *
 * Its virtual functions cannot be kept at work then.
 */
void igb_liveupdate_forget(struct igb_adapter *adapter)
{
	clear_bit(__IGB_LIVEUPDATE_AS_IT_CAME, &adapter->state);
	if (test_and_clear_bit(__IGB_LIVEUPDATE_KEPT, &adapter->state))
		pm_runtime_put_noidle(&adapter->pdev->dev);
}

/**
 * igb_release() - All that came is finished: it may be reset.
 * @pdev: The function.
 */
static void igb_release(struct pci_dev *pdev)
{
	struct net_device *netdev = pci_get_drvdata(pdev);
	struct igb_adapter *adapter = netdev_priv(netdev);

	if (test_and_clear_bit(__IGB_LIVEUPDATE_KEPT, &adapter->state))
		pm_runtime_put(&pdev->dev);
}

const struct pci_liveupdate_pf_ops igb_liveupdate_ops = {
	.compatible = IGB_LIVEUPDATE_COMPATIBLE,
	.data_size = sizeof(struct igb_ser),
	.can_hold = igb_can_hold,
	.hold = igb_hold,
	.adopt = igb_adopt,
	.release = igb_release,
};
