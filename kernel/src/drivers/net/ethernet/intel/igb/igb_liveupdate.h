/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A controller keeps its virtual functions at work in a live update. The story is told
 * in igb_liveupdate.c. Included by igb.h, when all of that is known.
 */
#ifndef _IGB_LIVEUPDATE_H
#define _IGB_LIVEUPDATE_H

#include <linux/pci_liveupdate.h>

#ifdef CONFIG_PCI_LIVEUPDATE

extern const struct pci_liveupdate_pf_ops igb_liveupdate_ops;
#define IGB_LIVEUPDATE_OPS	(&igb_liveupdate_ops)

/* Is it kept for virtual functions that came: from adopt() to release()? */
static inline bool igb_liveupdate_keeps(const struct igb_adapter *adapter)
{
	return test_bit(__IGB_LIVEUPDATE_KEPT, &adapter->state);
}

/*
 * Are its registers those that it came with: from adopt() to the first reset after
 * release()? Then queues of virtual functions may be at work, whatever Linux does.
 */
static inline bool igb_liveupdate_as_it_came(const struct igb_adapter *adapter)
{
	return test_bit(__IGB_LIVEUPDATE_AS_IT_CAME, &adapter->state);
}

void igb_liveupdate_begin(struct igb_adapter *adapter, const struct igb_ser *came);
int igb_liveupdate_max_vfs(const struct igb_adapter *adapter, int max_vfs);
bool igb_liveupdate_restore_vf(struct igb_adapter *adapter, int vf);
void igb_liveupdate_restore_queues(struct igb_adapter *adapter);
int igb_liveupdate_restore(struct igb_adapter *adapter);
void igb_liveupdate_restore_link(struct igb_adapter *adapter);
bool igb_liveupdate_drop_vfs(struct igb_adapter *adapter);
bool igb_liveupdate_refuses_reset(struct igb_adapter *adapter);
bool igb_liveupdate_stop(struct igb_adapter *adapter);
bool igb_liveupdate_knows_link(struct igb_adapter *adapter);
void igb_liveupdate_add_multicasts(struct igb_adapter *adapter);
void igb_liveupdate_forget(struct igb_adapter *adapter);

#else

#define IGB_LIVEUPDATE_OPS	NULL

static inline bool igb_liveupdate_keeps(const struct igb_adapter *adapter)
{
	return false;
}

static inline bool igb_liveupdate_as_it_came(const struct igb_adapter *adapter)
{
	return false;
}

static inline void igb_liveupdate_begin(struct igb_adapter *adapter,
					const struct igb_ser *came)
{
}

static inline int igb_liveupdate_max_vfs(const struct igb_adapter *adapter, int max_vfs)
{
	return max_vfs;
}

static inline bool igb_liveupdate_restore_vf(struct igb_adapter *adapter, int vf)
{
	return false;
}

static inline void igb_liveupdate_restore_queues(struct igb_adapter *adapter)
{
}

static inline int igb_liveupdate_restore(struct igb_adapter *adapter)
{
	return 0;
}

static inline void igb_liveupdate_restore_link(struct igb_adapter *adapter)
{
}

static inline bool igb_liveupdate_drop_vfs(struct igb_adapter *adapter)
{
	return false;
}

static inline bool igb_liveupdate_refuses_reset(struct igb_adapter *adapter)
{
	return false;
}

static inline bool igb_liveupdate_stop(struct igb_adapter *adapter)
{
	return false;
}

static inline bool igb_liveupdate_knows_link(struct igb_adapter *adapter)
{
	return false;
}

static inline void igb_liveupdate_add_multicasts(struct igb_adapter *adapter)
{
}

static inline void igb_liveupdate_forget(struct igb_adapter *adapter)
{
}

#endif /* CONFIG_PCI_LIVEUPDATE */
#endif /* _IGB_LIVEUPDATE_H */
