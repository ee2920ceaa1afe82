/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Preserved memfds that a running device has access to. The story is told in
 * mm/memfd_liveupdate.c.
 */
#ifndef _LINUX_MEMFD_LIVEUPDATE_H
#define _LINUX_MEMFD_LIVEUPDATE_H

#include <linux/kho/abi/memfd.h>
#include <linux/types.h>

struct file;
struct folio;
struct inode;
struct liveupdate_file_op_args;
struct luo_file_set;

#ifdef CONFIG_LIVEUPDATE_MEMFD

int memfd_liveupdate_mark_dma(const struct luo_file_set *files,
			      struct file *file);
int memfd_liveupdate_lock(struct inode *inode);
void memfd_liveupdate_pin_folio(struct folio *folio);
void memfd_liveupdate_hold(struct file *file);
void memfd_liveupdate_release(struct file *file);
struct memfd_luo_ser *memfd_liveupdate_take(u64 data);
bool memfd_liveupdate_can_finish(struct liveupdate_file_op_args *args);
int memfd_preserve_folios(struct file *file, struct kho_vmalloc *vmalloc,
			  struct memfd_luo_folio_ser **ser, u64 *nr);
int memfd_retrieve_folios(struct inode *inode,
			  const struct memfd_luo_folio_ser *ser, u64 nr,
			  bool dma, u64 *done);

static inline bool memfd_liveupdate_is_dma(const struct memfd_luo_ser *ser)
{
	return ser->flags & MEMFD_LUO_FLAG_DMA;
}

#else

#include <linux/errno.h>

static inline int
memfd_liveupdate_mark_dma(const struct luo_file_set *files, struct file *file)
{
	return -EOPNOTSUPP;
}

#endif /* CONFIG_LIVEUPDATE_MEMFD */
#endif /* _LINUX_MEMFD_LIVEUPDATE_H */
