/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_ABI_HUGETLB_H
#define _LINUX_KHO_ABI_HUGETLB_H

#include <linux/bits.h>
#include <linux/build_bug.h>
#include <linux/kho/abi/kexec_handover.h>
#include <linux/kho/abi/liveupdate_versions.h>
#include <linux/stddef.h>
#include <linux/types.h>

/**
 * DOC: hugetlb Live Update ABI
 *
 * What the outgoing kernel tells the incoming kernel about one preserved memfd
 * with huge pages. The LUO file's data is the physical address of a
 * &struct hugetlb_memfd_ser, allocated with kho_alloc_preserve().
 *
 * The layout is a contract: fixed-size fields in CPU byte order, no padding, no
 * pointer. Whoever changes the layout or the meaning of a field raises the
 * version in %HUGETLB_MEMFD_LIVEUPDATE_COMPATIBLE.
 */

/*
 * A running device reads and writes the pages: they must neither move nor be freed
 * before the session is finished.
 */
#define HUGETLB_MEMFD_SER_DMA		BIT(0)

/* Nobody may execute the file, as after memfd_create(MFD_NOEXEC_SEAL). */
#define HUGETLB_MEMFD_SER_NOEXEC	BIT(1)

#define HUGETLB_MEMFD_SER_FLAGS \
	(HUGETLB_MEMFD_SER_DMA | HUGETLB_MEMFD_SER_NOEXEC)

/**
 * struct hugetlb_memfd_ser - One preserved memfd with huge pages.
 * @pos:      Its file position.
 * @size:     Its size in bytes, which need not be one of whole pages.
 * @seals:    F_SEAL_* of the uAPI.
 * @flags:    HUGETLB_MEMFD_SER_*.
 * @order:    Its pages are of 2^@order of 4 KiB.
 * @reserved: Must be 0.
 * @nr:       How many there are: all that @size needs.
 * @pages:    An array of as many u64: the physical addresses of the pages, in the
 *            order in which they are in the file. Each is one preserved folio.
 */
struct hugetlb_memfd_ser {
	u64 pos;
	u64 size;
	u32 seals;
	u32 flags;
	u32 order;
	u32 reserved;
	u64 nr;
	struct kho_vmalloc pages;
};

static_assert(sizeof(struct hugetlb_memfd_ser) == 56);
static_assert(offsetof(struct hugetlb_memfd_ser, pos) == 0);
static_assert(offsetof(struct hugetlb_memfd_ser, size) == 8);
static_assert(offsetof(struct hugetlb_memfd_ser, seals) == 16);
static_assert(offsetof(struct hugetlb_memfd_ser, flags) == 20);
static_assert(offsetof(struct hugetlb_memfd_ser, order) == 24);
static_assert(offsetof(struct hugetlb_memfd_ser, reserved) == 28);
static_assert(offsetof(struct hugetlb_memfd_ser, nr) == 32);
static_assert(offsetof(struct hugetlb_memfd_ser, pages) == 40);

#endif /* _LINUX_KHO_ABI_HUGETLB_H */
