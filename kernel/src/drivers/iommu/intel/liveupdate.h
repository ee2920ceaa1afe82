/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VT-d in a Live Update: what the driver itself calls. The story is told in
 * liveupdate.c.
 */
#ifndef _DRIVERS_IOMMU_INTEL_LIVEUPDATE_H
#define _DRIVERS_IOMMU_INTEL_LIVEUPDATE_H

#include <linux/iommu_liveupdate.h>

struct context_entry;
struct device_domain_info;
struct intel_iommu;
struct qi_desc;

#ifdef CONFIG_IOMMU_LIVEUPDATE

extern const struct iommu_liveupdate_ops intel_liveupdate_ops;

bool intel_liveupdate_shutdown(struct intel_iommu *iommu);
void intel_liveupdate_check_early(u64 phys, void __iomem *reg);
bool intel_liveupdate_keep_irqs(struct intel_iommu *iommu);
void intel_liveupdate_check_irqs(struct intel_iommu *iommu);
void intel_liveupdate_check_disable(struct intel_iommu *iommu);
bool intel_liveupdate_take_over(struct intel_iommu *iommu);
void intel_liveupdate_probe_device(struct device_domain_info *info);
bool intel_liveupdate_adopt_pasid_table(struct device_domain_info *info);
void intel_liveupdate_check_free(struct intel_iommu *iommu);
void intel_liveupdate_release_device(struct device_domain_info *info);
int intel_liveupdate_attach(struct iommu_domain *domain, struct device *dev,
			    struct iommu_domain *old);

void intel_liveupdate_copy_did(struct intel_iommu *iommu,
			       const struct context_entry *context);

bool intel_liveupdate_keeps_ats(const struct device_domain_info *info);
bool intel_liveupdate_enable_pri(struct device_domain_info *info);
bool intel_liveupdate_has_ended(const struct device_domain_info *info);
void intel_liveupdate_end_absent(struct device_domain_info *info);
bool intel_liveupdate_timed_out(struct intel_iommu *iommu, u16 sid, int index,
				int wait_index);
unsigned int intel_liveupdate_skip_ended(struct intel_iommu *iommu,
					 struct qi_desc *desc,
					 unsigned int count);

/* Between liveupdate.c and liveupdate_ats.c */
void intel_liveupdate_drain_requests(struct intel_iommu *iommu);
void intel_liveupdate_flush_device(struct device_domain_info *info);
void intel_liveupdate_block_entry(struct intel_iommu *iommu, u8 bus, u8 devfn);
enum pci_liveupdate_why
intel_liveupdate_check_services(const struct device_domain_info *info);
int intel_liveupdate_keep_services(struct device_domain_info *info, u8 *flags,
				   const char **why);
void intel_liveupdate_return_services(struct device_domain_info *info);
bool intel_liveupdate_adopt_services(struct device_domain_info *info,
				     const struct iommu_dev_ser *entry);
void intel_liveupdate_setup_held(struct device_domain_info *info);

#define INTEL_LIVEUPDATE_OPS	(&intel_liveupdate_ops)

#else

#define INTEL_LIVEUPDATE_OPS	NULL

static inline bool intel_liveupdate_shutdown(struct intel_iommu *iommu)
{
	return false;
}

static inline void
intel_liveupdate_check_early(u64 phys, void __iomem *reg)
{
}

static inline bool intel_liveupdate_keep_irqs(struct intel_iommu *iommu)
{
	return false;
}

static inline void intel_liveupdate_check_irqs(struct intel_iommu *iommu)
{
}

static inline void intel_liveupdate_check_disable(struct intel_iommu *iommu)
{
}

static inline bool intel_liveupdate_take_over(struct intel_iommu *iommu)
{
	return false;
}

static inline void
intel_liveupdate_probe_device(struct device_domain_info *info)
{
}

static inline bool
intel_liveupdate_adopt_pasid_table(struct device_domain_info *info)
{
	return false;
}

static inline void intel_liveupdate_check_free(struct intel_iommu *iommu)
{
}

static inline void
intel_liveupdate_release_device(struct device_domain_info *info)
{
}

static inline int intel_liveupdate_attach(struct iommu_domain *domain,
					  struct device *dev,
					  struct iommu_domain *old)
{
	return -EOPNOTSUPP;
}

static inline void
intel_liveupdate_copy_did(struct intel_iommu *iommu,
			  const struct context_entry *context)
{
}

static inline bool
intel_liveupdate_keeps_ats(const struct device_domain_info *info)
{
	return false;
}

static inline bool intel_liveupdate_enable_pri(struct device_domain_info *info)
{
	return false;
}

static inline bool
intel_liveupdate_has_ended(const struct device_domain_info *info)
{
	return false;
}

static inline void intel_liveupdate_end_absent(struct device_domain_info *info)
{
}

static inline bool intel_liveupdate_timed_out(struct intel_iommu *iommu, u16 sid,
					      int index, int wait_index)
{
	return false;
}

static inline unsigned int
intel_liveupdate_skip_ended(struct intel_iommu *iommu, struct qi_desc *desc,
			    unsigned int count)
{
	return count;
}

#endif /* CONFIG_IOMMU_LIVEUPDATE */
#endif /* _DRIVERS_IOMMU_INTEL_LIVEUPDATE_H */
