/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_KHO_CHECK_IGB_H
#define _LINUX_KHO_CHECK_IGB_H

#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include <linux/kho/abi/igb.h>
#include <linux/string.h>

/* What a virtual function has said itself, such as hashes, can be anything. */
static inline bool igb_ser_vf_valid(const struct igb_vf_ser *vf)
{
	return !(vf->flags & ~IGB_SER_VF_FLAGS) && !vf->reserved &&
	       vf->vlan < VLAN_N_VID && vf->qos <= 7 &&
	       (is_zero_ether_addr(vf->mac) || is_valid_ether_addr(vf->mac));
}

/* @spare: may this register have a further address of a virtual function? */
static inline bool igb_ser_filter_valid(const struct igb_filter_ser *filter, u32 num_vfs,
					bool spare)
{
	if (!filter->used)
		return !filter->vf && is_zero_ether_addr(filter->mac);

	return spare && filter->used == 1 && filter->vf < num_vfs &&
	       is_valid_ether_addr(filter->mac);
}

/**
 * igb_ser_check() - Look at what another kernel's igb has handed over.
 * @ser: That.
 *
 * Return: what is wrong with it, or NULL.
 */
static inline const char *igb_ser_check(const struct igb_ser *ser)
{
	if (ser->flags & ~IGB_SER_FLAGS ||
	    memchr_inv(ser->reserved, 0, sizeof(ser->reserved)))
		return "there are unknown flags";

	if (!ser->num_vfs || ser->num_vfs > IGB_SER_MAX_VFS || !ser->rss_queues ||
	    ser->rss_queues > 2)
		return "there are impossible numbers";

	for (u32 i = 0; i < IGB_SER_RARS; i++) {
		if (!igb_ser_filter_valid(&ser->filters[i], ser->num_vfs,
					  i && i < IGB_SER_RARS - ser->num_vfs))
			return "an address filter is broken";
	}

	for (u32 i = 0; i < IGB_SER_MAX_VFS; i++) {
		if (i < ser->num_vfs ? !igb_ser_vf_valid(&ser->vfs[i]) :
		    !!memchr_inv(&ser->vfs[i], 0, sizeof(ser->vfs[i])))
			return "a virtual function is broken";
	}

	return NULL;
}

#endif /* _LINUX_KHO_CHECK_IGB_H */
