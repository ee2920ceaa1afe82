// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: The gate that reboot(2) closes
 *
 * Sessions belong to whoever has their files, which may be a virtual machine
 * monitor that its tenant has taken over; reboot(2) belongs to the operator. So
 * it waits for no user without a bound.
 *
 * Every use of a session (preserve, retrieve, finish, and closing it) is a pass on
 * the gate's list, with the task that it belongs to::
 *
 *   luo_gate_enter()            reboot(2): luo_gate_close()
 *     ... use of a session        waits until no pass is on the list: 5 s, -EBUSY
 *   luo_gate_exit()             luo_gate_open(), when freezing failed
 *
 * A use takes as long as a handler needs; handlers bound their waits for what
 * users control. One that does not (closing a session cannot be refused, for
 * example) makes reboot(2) fail with -EBUSY, and the log names task and session.
 * While the gate is closed, who wants to use a session waits for it to open.
 *
 * Restrictions:
 *
 * - Nobody copies to or from user space within the gate: user space decides how
 *   long a page fault takes (userfaultfd).
 * - luo_gate.lock, which guards the list of passes, is taken inside of no other
 *   lock of LUO. With the gate closed, the locks of sessions and of their files are
 *   free.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/jiffies.h>
#include <linux/lockdep.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/wait.h>

#include "luo_gate.h"
#include "luo_internal.h"

/* Longer than each wait that handlers allow themselves in one use of a session */
#define LUO_GATE_PATIENCE	(5 * HZ)

static struct {
	spinlock_t lock;	/* for the list of passes, and closed */
	struct list_head passes;
	bool closed;
	wait_queue_head_t opened;
	wait_queue_head_t left;
} luo_gate = {
	.lock = __SPIN_LOCK_UNLOCKED(luo_gate.lock),
	.passes = LIST_HEAD_INIT(luo_gate.passes),
	.opened = __WAIT_QUEUE_HEAD_INITIALIZER(luo_gate.opened),
	.left = __WAIT_QUEUE_HEAD_INITIALIZER(luo_gate.left),
};

/* To lockdep the gate is a lock that users share and reboot(2) has alone. */
#ifdef CONFIG_DEBUG_LOCK_ALLOC
static struct lockdep_map luo_gate_map =
	STATIC_LOCKDEP_MAP_INIT("luo_gate", &luo_gate_map);
#endif

/**
 * luo_gate_enter() - Begin to use a session
 * @pass: On the caller's stack until luo_gate_exit(), with @session set, or NULL.
 *
 * Waits while the gate is closed.
 *
 * Context: Process context, may sleep; outside of all locks of LUO.
 */
void luo_gate_enter(struct luo_pass *pass)
{
	rwsem_acquire_read(&luo_gate_map, 0, 0, _RET_IP_);
	pass->task = current;
	if (pass->session)
		strscpy(pass->name, pass->session->name);

	spin_lock_irq(&luo_gate.lock);
	wait_event_lock_irq(luo_gate.opened, !luo_gate.closed, luo_gate.lock);
	list_add_tail(&pass->list, &luo_gate.passes);
	spin_unlock_irq(&luo_gate.lock);
}

/**
 * luo_gate_exit() - End what luo_gate_enter() began
 * @pass: The same.
 *
 * Context: Process context.
 */
void luo_gate_exit(struct luo_pass *pass)
{
	spin_lock_irq(&luo_gate.lock);
	list_del(&pass->list);
	if (list_empty(&luo_gate.passes))
		wake_up(&luo_gate.left);
	spin_unlock_irq(&luo_gate.lock);

	rwsem_release(&luo_gate_map, _RET_IP_);
}

/**
 * luo_gate_close() - Keep everybody from using sessions
 *
 * Waits for those who do, five seconds at most. luo_gate_open() undoes it.
 *
 * Context: From reboot(2), which calls it once at a time; may sleep.
 * Return: 0, or -EBUSY when a session is still in use, which is logged.
 */
int luo_gate_close(void)
{
	struct luo_pass *pass;

	rwsem_acquire(&luo_gate_map, 0, 0, _RET_IP_);

	spin_lock_irq(&luo_gate.lock);
	luo_gate.closed = true;
	wait_event_lock_irq_timeout(luo_gate.left,
				    list_empty(&luo_gate.passes),
				    luo_gate.lock, LUO_GATE_PATIENCE);
	list_for_each_entry(pass, &luo_gate.passes, list)
		pr_err("Freeze failed! %s[%d] is at work in session [%s] and does not end (%pe)\n",
		       pass->task->comm, task_pid_nr(pass->task),
		       pass->name, ERR_PTR(-EBUSY));
	if (list_empty(&luo_gate.passes)) {
		spin_unlock_irq(&luo_gate.lock);
		return 0;
	}
	spin_unlock_irq(&luo_gate.lock);
	luo_gate_open();

	return -EBUSY;
}

/**
 * luo_gate_open() - Undo luo_gate_close()
 *
 * Context: Process context.
 */
void luo_gate_open(void)
{
	spin_lock_irq(&luo_gate.lock);
	luo_gate.closed = false;
	spin_unlock_irq(&luo_gate.lock);
	wake_up_all(&luo_gate.opened);

	rwsem_release(&luo_gate_map, _RET_IP_);
}
