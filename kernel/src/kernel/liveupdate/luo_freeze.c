// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: From reboot(2) to frozen files
 *
 * Freezing waits for no user without a bound, and what refuses it is known before
 * any device is touched::
 *
 *   liveupdate_reboot()
 *     luo_session_serialize()
 *       luo_gate_close()        nobody uses a session from here on (luo_gate.c)
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
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cleanup.h>
#include <linux/limits.h>
#include <linux/list.h>
#include <linux/liveupdate.h>
#include <linux/mutex.h>
#include <linux/printk.h>

#include "luo_freeze.h"
#include "luo_internal.h"

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
