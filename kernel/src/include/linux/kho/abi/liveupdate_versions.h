/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_ABI_LIVEUPDATE_VERSIONS_H
#define _LINUX_KHO_ABI_LIVEUPDATE_VERSIONS_H

/*
 * The versions of everything that a running device takes along in a live
 * update: each is the compatible string of a contract in this folder. The
 * headers of the contracts take theirs from here, and the boot image declares
 * them all (arch/x86/boot/compressed/kernel_info_liveupdate.S), which is why
 * there is nothing here but what an assembler understands.
 */

#define PCI_LIVEUPDATE_COMPATIBLE		"pci-v3"
#define VFIO_PCI_LIVEUPDATE_COMPATIBLE		"vfio-pci-v4"
#define IOMMU_LIVEUPDATE_COMPATIBLE		"iommu-v3"
#define IOMMUFD_LIVEUPDATE_COMPATIBLE		"iommufd-v1"

/*
 * MEMFD_LUO_FLAG_DMA, a flag more in the ABI of memfd, which has no version of
 * its own there: a kernel without it would move and free a device's memory.
 */
#define MEMFD_HOLD_LIVEUPDATE_COMPATIBLE	"memfd-hold-v1"

/* Memfds with huge pages of hugetlbfs, of running devices or not */
#define HUGETLB_MEMFD_LIVEUPDATE_COMPATIBLE	"hugetlb-memfd-v1"

/*
 * Linux's own. The headers that they are from are for C alone; that these are
 * the same is asserted where the image is checked, in luo_image.c.
 */
#define KHO_LIVEUPDATE_COMPATIBLE		"kho-v4"
#define LUO_LIVEUPDATE_COMPATIBLE		"luo-v5"
#define MEMFD_LIVEUPDATE_COMPATIBLE		"memfd-v2"

#endif /* _LINUX_KHO_ABI_LIVEUPDATE_VERSIONS_H */
