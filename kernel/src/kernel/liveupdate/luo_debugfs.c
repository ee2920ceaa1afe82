// SPDX-License-Identifier: GPL-2.0-only

/*
 * Sessions of live updates in debugfs.
 *
 * The ioctls of a session tell its owner nothing about what is in it, and nobody
 * else anything at all: what is going to the next kernel, and what of the
 * previous one still waits for somebody to retrieve it, is known to LUO alone.
 * The file "liveupdate/sessions" tells it to root. Its format is described in
 * Documentation/ABI/testing/debugfs-liveupdate.
 *
 * Incoming sessions come into being when somebody looks at them first. Reading
 * the file counts as that, just as opening /dev/liveupdate does, but without
 * keeping anybody else from opening it.
 *
 * Locking: luo_session_show_all() holds the locks that hold a session still,
 * the session's own among them. That one is held while a file is preserved or
 * retrieved, and a reader waits for as long as that takes.
 */

#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/init.h>
#include <linux/liveupdate.h>
#include <linux/seq_file.h>
#include <linux/string_helpers.h>

#include "luo_debugfs.h"
#include "luo_image.h"
#include "luo_internal.h"

/* What user space or the previous kernel has made up, in one line */
static void luo_debugfs_show_text(struct seq_file *m, const char *text,
				  const char *special)
{
	seq_escape_str(m, text, ESCAPE_OCTAL | ESCAPE_NAP | ESCAPE_APPEND,
		       special);
}

/* The versions that the next kernel has to have for a file, if any */
static void luo_debugfs_show_needs(struct seq_file *m,
				   struct liveupdate_file_op_args *args)
{
	const char *const *needs = luo_image_needs(args);

	if (!needs)
		return;

	seq_puts(m, "needs");
	for (; *needs; needs++)
		seq_printf(m, " %s", *needs);
	seq_putc(m, '\n');
}

/* Without a file it came from the previous kernel and is not retrieved. */
static void luo_debugfs_show_file(u64 token, const char *compatible,
				  struct liveupdate_file_op_args *args,
				  void *data)
{
	struct liveupdate_file_handler *fh = args->handler;
	bool outgoing = args->file && !args->retrieve_status;
	struct seq_file *m = data;

	seq_printf(m, "file %llu ", token);
	if (args->retrieve_status < 0)
		seq_printf(m, "%pe", ERR_PTR(args->retrieve_status));
	else if (!args->file)
		seq_puts(m, "waiting");
	else
		seq_puts(m, outgoing ? "preserved" : "retrieved");

	if (fh)
		compatible = fh->compatible;
	seq_putc(m, ' ');
	luo_debugfs_show_text(m, *compatible ? compatible : "-", "\\ ");
	if (fh && fh->ops->describe) {
		seq_putc(m, ' ');
		fh->ops->describe(args, m);
	}
	seq_putc(m, '\n');

	if (outgoing)
		luo_debugfs_show_needs(m, args);
}

/**
 * luo_debugfs_show_session() - Show a session and its files
 * @m:        Where to.
 * @session:  Session, locked by the caller.
 * @incoming: It came from the previous kernel.
 *
 * The name is what user space has made it: it comes last in the line, and what
 * would break the line, or a terminal, comes in octal.
 */
void luo_debugfs_show_session(struct seq_file *m, struct luo_session *session,
			      bool incoming)
{
	const char *state = "open";

	if (incoming)
		state = session->retrieved ? "retrieved" : "waiting";

	seq_printf(m, "session %s %s ", incoming ? "incoming" : "outgoing",
		   state);
	luo_debugfs_show_text(m, session->name, "\\");
	seq_putc(m, '\n');
	luo_file_for_each(&session->file_set, luo_debugfs_show_file, m);
}

static int sessions_show(struct seq_file *m, void *v)
{
	int err = luo_session_deserialize();

	if (err)
		return err;

	luo_session_show_all(m, true);
	luo_session_show_all(m, false);

	return 0;
}
DEFINE_SHOW_ATTRIBUTE(sessions);

static int __init luo_debugfs_init(void)
{
	struct dentry *dir;

	if (!liveupdate_enabled())
		return 0;

	dir = debugfs_create_dir("liveupdate", NULL);
	debugfs_create_file("sessions", 0400, dir, NULL, &sessions_fops);

	return 0;
}
late_initcall(luo_debugfs_init);
