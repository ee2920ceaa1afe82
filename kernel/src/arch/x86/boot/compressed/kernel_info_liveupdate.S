/* SPDX-License-Identifier: GPL-2.0-only */

/*
 * What this kernel takes over in a live update, for kernel_info: the kernel
 * that is about to be replaced, and user space, can read it from the image
 * (kernel/liveupdate/luo_bzimage.c), and do not jump into a kernel that would
 * not know what to do with devices that are running.
 *
 * Bytes and one 32-bit number: the same for 32-bit and 64-bit readers. A contract
 * that is added to linux/kho/abi/liveupdate_versions.h is declared here, too.
 */

#include <linux/kho/abi/liveupdate_versions.h>

kernel_info_liveupdate:
	.ascii	"LUpd"
	.long	kernel_info_liveupdate_end - kernel_info_liveupdate
#ifdef CONFIG_KEXEC_HANDOVER
	.asciz	KHO_LIVEUPDATE_COMPATIBLE
#endif
#ifdef CONFIG_LIVEUPDATE
	.asciz	LUO_LIVEUPDATE_COMPATIBLE
#endif
#ifdef CONFIG_LIVEUPDATE_MEMFD
	.asciz	MEMFD_LIVEUPDATE_COMPATIBLE
	.asciz	MEMFD_HOLD_LIVEUPDATE_COMPATIBLE
#endif
#ifdef CONFIG_LIVEUPDATE_HUGETLB
	.asciz	HUGETLB_MEMFD_LIVEUPDATE_COMPATIBLE
#endif
#ifdef CONFIG_PCI_LIVEUPDATE
	.asciz	PCI_LIVEUPDATE_COMPATIBLE
#endif
#ifdef CONFIG_VFIO_PCI_LIVEUPDATE
	.asciz	VFIO_PCI_LIVEUPDATE_COMPATIBLE
#endif
#ifdef CONFIG_IOMMU_LIVEUPDATE
	.asciz	IOMMU_LIVEUPDATE_COMPATIBLE
#endif
#ifdef CONFIG_IOMMUFD_LIVEUPDATE
	.asciz	IOMMUFD_LIVEUPDATE_COMPATIBLE
#endif
kernel_info_liveupdate_end:
