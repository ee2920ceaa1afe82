/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_ABI_IGB_H
#define _LINUX_KHO_ABI_IGB_H

#include <linux/bits.h>
#include <linux/build_bug.h>
#include <linux/stddef.h>
#include <linux/types.h>

/**
 * DOC: igb Live Update ABI
 *
 * What igb of the outgoing kernel tells igb of the incoming kernel about a controller
 * that is held for its virtual functions (&struct pci_liveupdate_pf_ops): what cannot be
 * read from its registers.
 *
 * The layout is a contract: fixed-size fields in CPU byte order, no padding, no
 * pointer. Whoever changes the layout or the meaning of a field raises the version in
 * %IGB_LIVEUPDATE_COMPATIBLE.
 */

#define IGB_LIVEUPDATE_COMPATIBLE	"igb-v1"

/* Of an 82576 */
#define IGB_SER_MAX_VFS			7
#define IGB_SER_RARS			24
#define IGB_SER_VFTA			128
#define IGB_SER_HASHES			30

/* &struct igb_vf_ser.flags */
#define IGB_SER_VF_CTS			BIT(0)
#define IGB_SER_VF_UNI_PROMISC		BIT(1)
#define IGB_SER_VF_MULTI_PROMISC	BIT(2)
#define IGB_SER_VF_PF_SET_MAC		BIT(3)
#define IGB_SER_VF_SPOOFCHK		BIT(4)
#define IGB_SER_VF_TRUSTED		BIT(5)
#define IGB_SER_VF_FLAGS		GENMASK(5, 0)

/* &struct igb_ser.flags */
#define IGB_SER_LINK			BIT(0)
#define IGB_SER_VLAN_PROMISC		BIT(1)
#define IGB_SER_RSS_IPV4_UDP		BIT(2)
#define IGB_SER_RSS_IPV6_UDP		BIT(3)
#define IGB_SER_AUTONEG			BIT(4)
#define IGB_SER_FC_AUTONEG		BIT(5)
#define IGB_SER_FC_SEND_XON		BIT(6)
#define IGB_SER_FLAGS			GENMASK(6, 0)

/**
 * struct igb_vf_ser - A virtual function, as its physical one's driver knows it.
 * @flags:      IGB_SER_VF_* bits; unknown bits must be 0.
 * @mac:        Its address, or 0.
 * @num_hashes: How many multicast addresses it wants; more than %IGB_SER_HASHES: all.
 * @hashes:     Their hashes.
 * @vlan:       The VLAN that it was put into, or 0.
 * @qos:        Priority of its frames there.
 * @tx_rate:    Mb/s that it may send, or 0.
 * @reserved:   Must be 0.
 */
struct igb_vf_ser {
	u32 flags;
	u8 mac[6];
	u16 num_hashes;
	u16 hashes[IGB_SER_HASHES];
	u16 vlan;
	u16 qos;
	u16 tx_rate;
	u16 reserved;
};

/**
 * struct igb_filter_ser - A further address of a virtual function.
 * @mac:  The address; 0 if the register of this index is none of those.
 * @vf:   The virtual function.
 * @used: 1, or 0.
 */
struct igb_filter_ser {
	u8 mac[6];
	u8 vf;
	u8 used;
};

/**
 * struct igb_ser - A physical function that is held.
 * @flags:         IGB_SER_* bits; unknown bits must be 0.
 * @num_vfs:       How many virtual functions it has.
 * @rss_queues:    How many queues it receives with.
 * @rate_speed:    Speed of the link for which rates of virtual functions were set, or 0.
 * @fc_requested:  Flow control, an &enum e1000_fc_mode.
 * @fc_current:    Flow control in use, likewise.
 * @fc_high_water: Its thresholds.
 * @fc_low_water:  Likewise.
 * @fc_pause_time: Its timer.
 * @advertised:    Speeds that are offered to the other side.
 * @forced:        The speed that is forced upon it, without %IGB_SER_AUTONEG.
 * @mdix:          How the cable's pairs are crossed.
 * @reserved:      Must be 0.
 * @vfta:          The VLAN filter.
 * @filters:       By index of the receive address register; the first and the last
 *                 @num_vfs have another use.
 * @vfs:           The virtual functions; those that are not there are all 0.
 */
struct igb_ser {
	u32 flags;
	u32 num_vfs;
	u32 rss_queues;
	u32 rate_speed;
	u32 fc_requested;
	u32 fc_current;
	u32 fc_high_water;
	u32 fc_low_water;
	u32 fc_pause_time;
	u32 advertised;
	u32 forced;
	u32 mdix;
	u32 reserved[4];
	u32 vfta[IGB_SER_VFTA];
	struct igb_filter_ser filters[IGB_SER_RARS];
	struct igb_vf_ser vfs[IGB_SER_MAX_VFS];
};

static_assert(sizeof(struct igb_vf_ser) == 80);
static_assert(offsetof(struct igb_vf_ser, flags) == 0);
static_assert(offsetof(struct igb_vf_ser, mac) == 4);
static_assert(offsetof(struct igb_vf_ser, num_hashes) == 10);
static_assert(offsetof(struct igb_vf_ser, hashes) == 12);
static_assert(offsetof(struct igb_vf_ser, vlan) == 72);
static_assert(offsetof(struct igb_vf_ser, qos) == 74);
static_assert(offsetof(struct igb_vf_ser, tx_rate) == 76);
static_assert(offsetof(struct igb_vf_ser, reserved) == 78);

static_assert(sizeof(struct igb_filter_ser) == 8);
static_assert(offsetof(struct igb_filter_ser, mac) == 0);
static_assert(offsetof(struct igb_filter_ser, vf) == 6);
static_assert(offsetof(struct igb_filter_ser, used) == 7);

static_assert(sizeof(struct igb_ser) == 1328);
static_assert(offsetof(struct igb_ser, flags) == 0);
static_assert(offsetof(struct igb_ser, num_vfs) == 4);
static_assert(offsetof(struct igb_ser, rss_queues) == 8);
static_assert(offsetof(struct igb_ser, rate_speed) == 12);
static_assert(offsetof(struct igb_ser, fc_requested) == 16);
static_assert(offsetof(struct igb_ser, fc_current) == 20);
static_assert(offsetof(struct igb_ser, fc_high_water) == 24);
static_assert(offsetof(struct igb_ser, fc_low_water) == 28);
static_assert(offsetof(struct igb_ser, fc_pause_time) == 32);
static_assert(offsetof(struct igb_ser, advertised) == 36);
static_assert(offsetof(struct igb_ser, forced) == 40);
static_assert(offsetof(struct igb_ser, mdix) == 44);
static_assert(offsetof(struct igb_ser, reserved) == 48);
static_assert(offsetof(struct igb_ser, vfta) == 64);
static_assert(offsetof(struct igb_ser, filters) == 576);
static_assert(offsetof(struct igb_ser, vfs) == 768);

#endif /* _LINUX_KHO_ABI_IGB_H */
