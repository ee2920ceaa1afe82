/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A kernel of the future: all is as it was, but what the PCI core hands over has a
 * higher version. Included before anything else in every liveupdate.c, and where the
 * image declares what it takes.
 */
#include <linux/kho/abi/liveupdate_versions.h>

#undef PCI_LIVEUPDATE_COMPATIBLE
#define PCI_LIVEUPDATE_COMPATIBLE	"pci-v4"
