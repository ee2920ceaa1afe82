/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The way of a live update from a closed gate to frozen files: luo_freeze.c.
 */
#ifndef _LINUX_LUO_FREEZE_H
#define _LINUX_LUO_FREEZE_H

struct list_head;

int luo_freeze_begin(const struct list_head *sessions);
void luo_freeze_end(const struct list_head *sessions);

#endif /* _LINUX_LUO_FREEZE_H */
