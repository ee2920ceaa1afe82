/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PCI devices in a Live Update: what the PCI core itself calls.
 * The story is told in liveupdate.c, liveupdate_check.c, liveupdate_config.c,
 * liveupdate_sriov.c and liveupdate_held.c.
 */
#ifndef _DRIVERS_PCI_LIVEUPDATE_H
#define _DRIVERS_PCI_LIVEUPDATE_H

#include <linux/instruction_pointer.h>
#include <linux/pci.h>
#include <linux/pci_liveupdate.h>

#ifdef CONFIG_PCI_LIVEUPDATE

struct pci_dev_ser;
struct pci_sriov_ser;

/* liveupdate.c */
void pci_liveupdate_setup_device(struct pci_dev *pdev);
bool pci_liveupdate_any_incoming(void);
bool pci_liveupdate_keep_buses(void);
bool pci_liveupdate_skip_bridge(struct pci_dev *bridge, int pass);
int pci_liveupdate_match_driver(struct pci_dev *pdev, struct pci_driver *drv);
void pci_liveupdate_unbind(struct pci_dev *pdev);
void pci_liveupdate_remove(struct pci_dev *pdev);
bool pci_liveupdate_may_unbind(struct device *dev);
bool pci_liveupdate_skip_shutdown(struct pci_dev *pdev);
bool pci_liveupdate_shutdown(struct pci_dev *pdev);
void pci_liveupdate_disown(struct pci_dev *pdev);
void pci_liveupdate_no_master(struct pci_dev *pdev);
int pci_liveupdate_reset(struct pci_dev *pdev);
u32 pci_liveupdate_get_sriov(struct pci_dev *pdev, struct pci_sriov_ser *sriov);
const char *pci_liveupdate_state_name(enum pci_liveupdate_state state);

/* liveupdate_check.c */
enum pci_liveupdate_why pci_liveupdate_check(struct pci_dev *pdev,
					     enum pci_liveupdate_state mode);
enum pci_liveupdate_why pci_liveupdate_check_driver(struct pci_dev *pdev);
void pci_liveupdate_add_driver(struct pci_liveupdate_driver *drv);
void pci_liveupdate_remove_driver(struct pci_liveupdate_driver *drv);
extern const struct attribute_group pci_liveupdate_attr_group;

/* liveupdate_config.c */
bool pci_liveupdate_can_record(const struct pci_dev *pdev);
void pci_liveupdate_record(const struct pci_dev *pdev,
			   struct pci_dev_ser *entry);
void pci_liveupdate_recall(struct pci_dev *pdev,
			   const struct pci_dev_ser *entry);
void pci_liveupdate_bar_masks(struct pci_dev *dev, int reg, const u8 *order,
			      int count, u32 *masks);
bool pci_liveupdate_bar_sizes(struct pci_dev *dev, u32 *stdbars, u32 *rombar);
void pci_liveupdate_fix_bars(struct pci_dev *dev);
void pci_liveupdate_unfix_bars(struct pci_dev *dev);
bool pci_liveupdate_bridge_windows(struct pci_dev *bridge);
bool pci_liveupdate_intx_mask_broken(struct pci_dev *dev);
bool pci_liveupdate_pch_acs(struct pci_dev *dev);
bool pci_liveupdate_skip_final_fixup(struct pci_dev *dev, u32 class);
bool __pci_liveupdate_drop_write(const struct pci_dev *dev, int where, u32 val,
				 int size, unsigned long ip);

/* liveupdate_sriov.c */
bool pci_liveupdate_can_record_sriov(const struct pci_dev *pdev);
void pci_liveupdate_record_sriov(struct pci_dev *pdev, struct pci_dev_ser *entry);
bool pci_liveupdate_keeps_vfs(struct pci_dev *pdev);
bool pci_liveupdate_same_sriov(struct pci_dev *pdev, const struct pci_dev_ser *entry);
void pci_liveupdate_adopt_sriov(struct pci_dev *dev);
void pci_liveupdate_add_vfs(struct pci_dev *dev);
void pci_liveupdate_unfix_vf_bars(struct pci_dev *dev);

/* liveupdate_held.c */
bool pci_liveupdate_may_hold(struct pci_dev *pf);
int pci_liveupdate_lock_pf(struct pci_dev *vf, unsigned long end, const char **why);
void pci_liveupdate_unlock_pf(struct pci_dev *vf);
int pci_liveupdate_prepare_hold(struct pci_dev *pf, const char **why);
void pci_liveupdate_record_data(struct pci_dev *pf, struct pci_dev_ser *entry);
void pci_liveupdate_unprepare_hold(struct pci_dev *pf);
int pci_liveupdate_check_hold(struct pci_dev *pf, const char **why);
void pci_liveupdate_do_hold(struct pci_dev *pf);
void pci_liveupdate_recall_data(struct pci_dev *pf, const struct pci_dev_ser *entry);
bool pci_liveupdate_may_adopt(struct pci_dev *pf, struct pci_driver *drv);
int pci_liveupdate_probe(struct pci_driver *drv, struct pci_dev *pdev,
			 const struct pci_device_id *id);
void pci_liveupdate_forget_left(struct pci_dev *pf);
void pci_liveupdate_unbind_held(struct pci_dev *pf);
void pci_liveupdate_held_finish(struct pci_dev *pf);
extern const struct attribute_group pci_liveupdate_pf_attr_group;

static inline bool pci_liveupdate_is_device(enum pci_liveupdate_state state)
{
	return state == PCI_LIVEUPDATE_IDLE || state == PCI_LIVEUPDATE_RUNNING;
}

/*
 * Is the configuration of this device not this kernel's to change? So it is for
 * a device that runs through a live update, from its freeze until its driver
 * opens it in the next kernel, and for every bridge that came in.
 */
static inline bool pci_liveupdate_read_only(const struct pci_dev *dev)
{
	return unlikely(READ_ONCE(dev->liveupdate.read_only));
}

/*
 * Did this device come in running, and has its driver not opened it yet? Or is it a
 * function that is held, which is left alone likewise?
 */
static inline bool pci_liveupdate_running(const struct pci_dev *dev)
{
	u8 incoming = READ_ONCE(dev->liveupdate.incoming);

	return pci_liveupdate_read_only(dev) &&
	       (incoming == PCI_LIVEUPDATE_RUNNING || incoming == PCI_LIVEUPDATE_HELD);
}

/* May nobody reset this device by way of sysfs? */
static inline bool pci_liveupdate_no_reset(struct pci_dev *dev)
{
	return pci_liveupdate_read_only(dev) ||
	       (pci_liveupdate_keeps_vfs(dev) && pci_num_vf(dev));
}

/* Its BARs for virtual functions are fixed because of a live update only */
static inline bool pci_liveupdate_fixed_vf_bars(const struct pci_dev *dev)
{
	return dev->liveupdate.fixed_vf;
}

/* Must this write to configuration space not reach the device? */
static __always_inline bool
pci_liveupdate_drop_write(const struct pci_dev *dev, int where, u32 val,
			  int size)
{
	return pci_liveupdate_read_only(dev) &&
	       __pci_liveupdate_drop_write(dev, where, val, size, _RET_IP_);
}

/*
 * The same question once more, for user space that had to wait after the first for
 * pci_cfg_access_unlock(): did the device become read-only meanwhile? Under
 * pci_lock, so that no write is on its way when that is taken after
 * pci_liveupdate_set_read_only(). Not for bridges, which are read-only from the
 * start, but for some bits.
 */
static inline bool pci_liveupdate_late_write(const struct pci_dev *dev)
{
	return pci_liveupdate_read_only(dev) &&
	       READ_ONCE(dev->liveupdate.incoming) != PCI_LIVEUPDATE_BRIDGE;
}

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

static inline void pci_liveupdate_unbind(struct pci_dev *pdev)
{
}

static inline bool pci_liveupdate_may_unbind(struct device *dev)
{
	return true;
}

static inline void pci_liveupdate_remove(struct pci_dev *pdev)
{
}

static inline bool pci_liveupdate_skip_shutdown(struct pci_dev *pdev)
{
	return false;
}

static inline bool pci_liveupdate_shutdown(struct pci_dev *pdev)
{
	return false;
}

static inline bool pci_liveupdate_keeps_vfs(struct pci_dev *pdev)
{
	return false;
}

static inline void pci_liveupdate_forget_left(struct pci_dev *pf)
{
}

static inline int pci_liveupdate_probe(struct pci_driver *drv, struct pci_dev *pdev,
				       const struct pci_device_id *id)
{
	return drv->probe(pdev, id);
}

static inline void pci_liveupdate_adopt_sriov(struct pci_dev *dev)
{
}

static inline void pci_liveupdate_add_vfs(struct pci_dev *dev)
{
}

static inline bool pci_liveupdate_no_reset(struct pci_dev *dev)
{
	return false;
}

static inline bool pci_liveupdate_fixed_vf_bars(const struct pci_dev *dev)
{
	return false;
}

static inline bool pci_liveupdate_bar_sizes(struct pci_dev *dev, u32 *stdbars,
					    u32 *rombar)
{
	return false;
}

static inline void pci_liveupdate_fix_bars(struct pci_dev *dev)
{
}

static inline bool pci_liveupdate_bridge_windows(struct pci_dev *bridge)
{
	return false;
}

static inline bool pci_liveupdate_intx_mask_broken(struct pci_dev *dev)
{
	return false;
}

static inline bool pci_liveupdate_pch_acs(struct pci_dev *dev)
{
	return false;
}

static inline bool pci_liveupdate_skip_final_fixup(struct pci_dev *dev,
						   u32 class)
{
	return false;
}

static inline bool pci_liveupdate_read_only(const struct pci_dev *dev)
{
	return false;
}

static inline bool pci_liveupdate_running(const struct pci_dev *dev)
{
	return false;
}

static inline bool pci_liveupdate_drop_write(const struct pci_dev *dev,
					     int where, u32 val, int size)
{
	return false;
}

static inline bool pci_liveupdate_late_write(const struct pci_dev *dev)
{
	return false;
}

#endif /* CONFIG_PCI_LIVEUPDATE */
#endif /* _DRIVERS_PCI_LIVEUPDATE_H */
