/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sessions of live updates in debugfs: who looks, and who shows. The story is
 * told in luo_debugfs.c.
 */
#ifndef _LINUX_LUO_DEBUGFS_H
#define _LINUX_LUO_DEBUGFS_H

#include <linux/types.h>

struct liveupdate_file_op_args;
struct luo_file_set;
struct luo_session;
struct seq_file;

/* Where the sessions and their files are: each calls the function below it */
void luo_session_show_all(struct seq_file *m, bool incoming);
void luo_debugfs_show_session(struct seq_file *m, struct luo_session *session,
			      bool incoming);
void luo_file_show_all(struct seq_file *m, const struct luo_file_set *file_set);
void luo_debugfs_show_file(struct seq_file *m, u64 token,
			   const char *compatible,
			   struct liveupdate_file_op_args *args);

#endif /* _LINUX_LUO_DEBUGFS_H */
