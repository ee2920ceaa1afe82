/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who uses a session, and how reboot(2) waits for them: luo_gate.c.
 */
#ifndef _LINUX_LUO_GATE_H
#define _LINUX_LUO_GATE_H

#include <linux/cleanup.h>
#include <linux/list.h>
#include <uapi/linux/liveupdate.h>

struct luo_session;
struct task_struct;

/**
 * struct luo_pass - A task that uses a session, while it does so.
 * @session: The session, or NULL when it is not known yet.
 * @name:    Its name, since closing a session frees it.
 * @task:    The task.
 * @list:    Link in the list of all.
 */
struct luo_pass {
	const struct luo_session *session;
	char name[LIVEUPDATE_SESSION_NAME_LENGTH];
	struct task_struct *task;
	struct list_head list;
};

void luo_gate_enter(struct luo_pass *pass);
void luo_gate_exit(struct luo_pass *pass);
int luo_gate_close(void);
void luo_gate_open(void);

/* Use of a session, for the rest of the scope; reboot(2) waits for its end */
DEFINE_GUARD(luo_gate, struct luo_pass *, luo_gate_enter(_T), luo_gate_exit(_T))

#endif /* _LINUX_LUO_GATE_H */
