/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sessions of live updates in debugfs: who looks, and who shows. The story is
 * told in luo_debugfs.c.
 */
#ifndef _LINUX_LUO_DEBUGFS_H
#define _LINUX_LUO_DEBUGFS_H

#include <linux/types.h>

struct luo_session;
struct seq_file;

/* Where the sessions are: calls the function below for each */
void luo_session_show_all(struct seq_file *m, bool incoming);
void luo_debugfs_show_session(struct seq_file *m, struct luo_session *session,
			      bool incoming);

#endif /* _LINUX_LUO_DEBUGFS_H */
