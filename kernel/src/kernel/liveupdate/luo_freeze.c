// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: From reboot(2) to frozen files
 *
 * Sessions belong to whoever has their files, which may be a virtual machine
 * monitor that its tenant has taken over; reboot(2) belongs to the operator. So
 * freezing waits for no user without a bound, and what refuses it is known
 * before any device is touched::
 *
 *   liveupdate_reboot()
 *     luo_session_serialize()
 *       luo_gate_close()        nobody uses a session from here on: 5 s, -EBUSY
 *       luo_image_check()       does the next kernel take what is preserved?
 *       luo_freeze_begin()
 *         ops->block()          of all files: users lose access
 *         ops->drain()          of all files: what they began comes to its end
 *         ops->check()          of all files: would freeze be refused?
 *       luo_file_freeze()       of all files: devices are quiesced
 *
 * What fails in the steps of luo_freeze_begin() costs nobody anything: users get
 * their access back, and find everything as it was. All refusals of a step are
 * logged, not only the first: an operator has to know each owner to talk to. Files
 * depend on each other, across sessions too: a page table may map the BAR of another
 * owner's device. So a step is done for all before the next.
 *
 * The gate: every use of a session (preserve, retrieve, finish, and closing it)
 * is a pass on the gate's list, with the task that it belongs to. A use takes as
 * long as a handler needs; handlers bound their waits for what users control. One
 * that does not (closing a session cannot be refused, for example) makes
 * reboot(2) fail with -EBUSY, and the log names task and session. While the gate
 * is closed, who wants to use a session waits for it to open.
 *
 * Nobody copies to or from user space within the gate: user space decides how
 * long a page fault takes (userfaultfd).
 *
 * Locking: luo_gate.lock guards the list of passes, and is taken inside of no
 * other lock of LUO. With the gate closed, the locks of sessions and of their
 * files are free.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/jiffies.h>
#include <linux/limits.h>
#include <linux/liveupdate.h>
#include <linux/lockdep.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/wait.h>

#include "luo_freeze.h"
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

/**
 * struct luo_freeze_walk - How far a step of freezing has come.
 * @blocked: In block: how many files are blocked. In unblock: how many of them
 *           there still are.
 * @err:     The first error.
 */
struct luo_freeze_walk {
	unsigned long blocked;
	int err;
};

static void luo_freeze_complain(u64 token,
				const struct liveupdate_file_op_args *args,
				int err)
{
	pr_warn("Freeze failed for token[%#0llx] handler[%s] err[%pe]\n", token,
		args->handler->compatible, ERR_PTR(err));
}

static void luo_freeze_block(u64 token, const char *compatible,
			     struct liveupdate_file_op_args *args, void *data)
{
	struct luo_freeze_walk *walk = data;

	if (walk->err)
		return;
	if (args->handler->ops->block)
		walk->err = args->handler->ops->block(args);
	if (walk->err)
		luo_freeze_complain(token, args, walk->err);
	else
		walk->blocked++;
}

static void luo_freeze_unblock(u64 token, const char *compatible,
			       struct liveupdate_file_op_args *args, void *data)
{
	struct luo_freeze_walk *walk = data;

	if (!walk->blocked)
		return;
	if (args->handler->ops->unblock)
		args->handler->ops->unblock(args);
	walk->blocked--;
}

static void luo_freeze_note(u64 token,
			    const struct liveupdate_file_op_args *args, int err,
			    struct luo_freeze_walk *walk)
{
	if (err)
		luo_freeze_complain(token, args, err);
	walk->err = walk->err ?: err;
}

static void luo_freeze_drain(u64 token, const char *compatible,
			     struct liveupdate_file_op_args *args, void *data)
{
	if (args->handler->ops->drain)
		luo_freeze_note(token, args, args->handler->ops->drain(args),
				data);
}

static void luo_freeze_check(u64 token, const char *compatible,
			     struct liveupdate_file_op_args *args, void *data)
{
	if (args->handler->ops->check)
		luo_freeze_note(token, args, args->handler->ops->check(args),
				data);
}

static int luo_freeze_step(const struct list_head *sessions,
			   void (*step)(u64 token, const char *compatible,
					struct liveupdate_file_op_args *args,
					void *data),
			   struct luo_freeze_walk *walk)
{
	struct luo_session *session;

	list_for_each_entry(session, sessions, list) {
		guard(mutex)(&session->mutex);
		luo_file_for_each(&session->file_set, step, walk);
	}

	return walk->err;
}

/**
 * luo_freeze_begin() - Block users, and find what would refuse freeze
 * @sessions: The outgoing sessions.
 *
 * On success luo_freeze_end() undoes it; else it is undone, and logged.
 *
 * Context: From reboot(2), with the gate closed; may sleep.
 * Return: 0, or the first error of a handler's block(), drain() or check().
 */
int luo_freeze_begin(const struct list_head *sessions)
{
	struct luo_freeze_walk walk = {};
	int err;

	err = luo_freeze_step(sessions, luo_freeze_block, &walk);
	if (!err)
		err = luo_freeze_step(sessions, luo_freeze_drain, &walk);
	if (!err)
		err = luo_freeze_step(sessions, luo_freeze_check, &walk);
	/* Only those whose block() was called and did not fail, the first of all */
	if (err)
		luo_freeze_step(sessions, luo_freeze_unblock, &walk);

	return err;
}

/**
 * luo_freeze_end() - Undo luo_freeze_begin()
 * @sessions: The same sessions; their files are not frozen.
 *
 * Context: From reboot(2), with the gate closed; may sleep.
 */
void luo_freeze_end(const struct list_head *sessions)
{
	struct luo_freeze_walk walk = { .blocked = ULONG_MAX };

	luo_freeze_step(sessions, luo_freeze_unblock, &walk);
}
