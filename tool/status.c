// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio-liveupdate status: what goes to the next kernel, and what came from the
 * previous one and still waits.
 */
#include <errno.h>
#include <getopt.h>
#include <libsmartcols/libsmartcols.h>
#include <stdio.h>
#include <string.h>

#include "tool.h"

static const struct column device_columns[] = {
	{ "device", SCOLS_FL_TREE, 0, IN_TABLE },
	{ "device", 0, SCOLS_JSON_STRING, IN_JSON },
	{ "name", SCOLS_FL_TRUNC, SCOLS_JSON_STRING, IN_BOTH },
	{ "driver", 0, SCOLS_JSON_STRING, IN_BOTH },
	{ "direction", 0, SCOLS_JSON_STRING, IN_BOTH },
	{ "mode", 0, SCOLS_JSON_STRING, IN_BOTH },
	{ "state", 0, SCOLS_JSON_STRING, IN_BOTH },
	{ "session", SCOLS_FL_TRUNC, SCOLS_JSON_STRING, IN_BOTH },
	{}
};

/* For people: sessions with their files below them */
static const struct column tree_columns[] = { { "session", SCOLS_FL_TREE, 0,
						IN_TABLE },
					      { "direction", 0, 0, IN_TABLE },
					      { "state", 0, 0, IN_TABLE },
					      { "kind", 0, 0, IN_TABLE },
					      { "what", 0, 0, IN_TABLE },
					      {} };

/* For programs: two lists */
static const struct column session_columns[] = {
	{ "session", 0, SCOLS_JSON_STRING, IN_JSON },
	{ "direction", 0, SCOLS_JSON_STRING, IN_JSON },
	{ "state", 0, SCOLS_JSON_STRING, IN_JSON },
	{ "files", 0, SCOLS_JSON_NUMBER, IN_JSON },
	{}
};

static const struct column file_columns[] = {
	{ "session", 0, SCOLS_JSON_STRING, IN_JSON },
	{ "direction", 0, SCOLS_JSON_STRING, IN_JSON },
	/* As a number it would be another one to those whose numbers have 53 bits */
	{ "token", 0, SCOLS_JSON_STRING, IN_JSON },
	{ "state", 0, SCOLS_JSON_STRING, IN_JSON },
	{ "kind", 0, SCOLS_JSON_STRING, IN_JSON },
	{ "what", 0, SCOLS_JSON_STRING, IN_JSON },
	{}
};

/* --- devices ---------------------------------------------------------------- */

static const char *direction(bool incoming)
{
	return incoming ? "incoming" : "outgoing";
}

static const char *mode(const struct device *dev, bool incoming)
{
	return incoming ? dev->incoming : dev->outgoing;
}

static void *add_name(struct table *table, void *parent,
		      const struct device *dev)
{
	void *line = table_line(table, parent);

	table_set(table, line, "device", "%s", dev->bdf);
	table_set(table, line, "name", "%s", dev->name);
	table_set(table, line, "driver", "%s", dev->driver);
	return line;
}

/*
 * A device that came in, and of which no file is retrieved, waits for that.  One that
 * is held has no file.
 */
static void *add_device(struct table *table, void *parent,
			const struct device *dev, bool incoming,
			const struct sessions *sessions)
{
	const struct session *session = NULL;
	const struct session_file *file =
		sessions_find(sessions, dev->bdf, incoming, &session);
	void *line = add_name(table, parent, dev);

	table_set(table, line, "direction", "%s", direction(incoming));
	table_set(table, line, "mode", "%s", mode(dev, incoming));
	if (!strcmp(mode(dev, incoming), "held"))
		return line;
	if (file)
		table_set(table, line, "session", "%s", session->name);
	if (file)
		table_set(table, line, "state", "%s", file->state);
	else if (!incoming)
		table_set(table, line, "state", "preserved");
	else if (sessions->known)
		table_set(table, line, "state", "waiting");
	return line;
}

static bool is_handed_over(const char *mode)
{
	return *mode && strcmp(mode, "bridge") != 0;
}

/* Is there a line for the physical function, in the same direction? */
static bool is_below(const struct devices *devices, const struct device *vf,
		     bool incoming)
{
	const struct device *pf = devices_physfn(devices, vf);

	return pf && is_handed_over(mode(pf, incoming));
}

/*
 * People see virtual functions below their physical one, and all of them where that is
 * held still: those that are nobody's business any more depend on it, too.
 */
static void add_below(struct table *table, void *line,
		      const struct devices *devices, const struct device *pf,
		      bool incoming, const struct sessions *sessions)
{
	for (size_t i = 0; i < devices->count; i++) {
		const struct device *vf = &devices->all[i];

		if (!device_is_below(vf, pf))
			continue;
		if (is_handed_over(mode(vf, incoming)))
			add_device(table, line, vf, incoming, sessions);
		else if (incoming && device_came_held(pf) && !*vf->outgoing)
			add_name(table, line, vf);
	}
}

static void add_direction(struct table *table, const struct devices *devices,
			  const struct device *dev, bool incoming,
			  const struct sessions *sessions, bool json)
{
	void *line;

	if (!is_handed_over(mode(dev, incoming)) ||
	    (!json && is_below(devices, dev, incoming)))
		return;
	line = add_device(table, NULL, dev, incoming, sessions);
	if (!json)
		add_below(table, line, devices, dev, incoming, sessions);
}

static struct table *make_devices(const struct devices *devices,
				  const struct sessions *sessions, bool json)
{
	struct table *table = table_new("devices", device_columns, json);

	for (size_t i = 0; i < devices->count; i++) {
		const struct device *dev = &devices->all[i];

		add_direction(table, devices, dev, true, sessions, json);
		add_direction(table, devices, dev, false, sessions, json);
	}
	return table;
}

/* --- sessions --------------------------------------------------------------- */

static void *add_session(struct table *table, const struct session *session)
{
	void *line = table_line(table, NULL);

	table_set(table, line, "session", "%s", session->name);
	table_set(table, line, "direction", "%s", direction(session->incoming));
	table_set(table, line, "state", "%s", session->state);
	table_set(table, line, "files", "%zu", session->nr_files);
	return line;
}

static void add_file(struct table *table, void *parent,
		     const struct session *session,
		     const struct session_file *file)
{
	void *line = table_line(table, parent);

	if (parent) {
		table_set(table, line, "session", "token %s", file->token);
	} else {
		table_set(table, line, "session", "%s", session->name);
		table_set(table, line, "direction", "%s",
			  direction(session->incoming));
	}
	table_set(table, line, "token", "%s", file->token);
	table_set(table, line, "state", "%s", file->state);
	table_set(table, line, "kind", "%s", file->kind);
	table_set(table, line, "what", "%s", file->what);
}

static struct table *make_tree(const struct sessions *sessions)
{
	struct table *table = table_new("sessions", tree_columns, false);

	for (size_t i = 0; i < sessions->count; i++) {
		const struct session *session = &sessions->all[i];
		void *line = add_session(table, session);

		for (size_t k = 0; k < session->nr_files; k++)
			add_file(table, line, session, &session->files[k]);
	}
	return table;
}

static struct table *make_sessions(const struct sessions *sessions)
{
	struct table *table = table_new("sessions", session_columns, true);

	for (size_t i = 0; i < sessions->count; i++)
		add_session(table, &sessions->all[i]);
	return table;
}

static struct table *make_files(const struct sessions *sessions)
{
	struct table *table = table_new("files", file_columns, true);

	for (size_t i = 0; i < sessions->count; i++) {
		const struct session *session = &sessions->all[i];

		for (size_t k = 0; k < session->nr_files; k++)
			add_file(table, NULL, session, &session->files[k]);
	}
	return table;
}

/* --- in words --------------------------------------------------------------- */

static size_t count_files(const struct sessions *sessions, bool incoming,
			  const char *state)
{
	size_t count = 0;

	for (size_t i = 0; i < sessions->count; i++) {
		const struct session *session = &sessions->all[i];

		if (session->incoming != incoming)
			continue;
		for (size_t k = 0; k < session->nr_files; k++)
			count += !strcmp(session->files[k].state, state);
	}
	return count;
}

static void tell(size_t count, const char *what, bool *told)
{
	if (!count)
		return;
	printf("%s%zu %s %s\n", *told ? "" : "\n", count,
	       count == 1 ? "file" : "files", what);
	*told = true;
}

static void tell_held(const struct device *pf)
{
	if (device_came_held(pf))
		printf("\n%s is held, no driver has it: '" NAME " release %s'\n"
		       "gives it back, and ends what its virtual functions do.\n",
		       pf->bdf, pf->bdf);
	else if (!strcmp(pf->outgoing, "held"))
		printf("\n%s is held from the jump on: the next kernel has no driver for it\n"
		       "until '" NAME " release %s'.\n",
		       pf->bdf, pf->bdf);
}

static void summarize(const struct devices *devices,
		      const struct sessions *sessions, bool loaded)
{
	bool told = false;

	for (size_t i = 0; i < devices->count; i++)
		tell_held(&devices->all[i]);
	if (sessions->known && !sessions->count)
		puts("There are no live update sessions.");
	tell(count_files(sessions, true, "waiting"),
	     "from the previous kernel: waiting to be retrieved by the owner.",
	     &told);
	tell(count_files(sessions, true, "retrieved"),
	     "from the previous kernel: retrieved, the session is not finished.",
	     &told);
	tell(count_files(sessions, false, "preserved"),
	     loaded ?
		     "to go to the next kernel, which is loaded." :
		     "to go to the next kernel, which is not loaded: see '" NAME
		     " kexec'.",
	     &told);
}

/* --- the command ------------------------------------------------------------ */

static bool kexec_loaded(void)
{
	char loaded[8];

	return !file_read("sys/kernel/kexec_loaded", loaded, sizeof(loaded)) &&
	       loaded[0] == '1';
}

/* What goes unsaid without the list of sessions, and how to get it */
static int explain_unknown(int err)
{
	switch (err) {
	case -EACCES:
	case -EPERM:
		complain("sessions are shown to root only: run it with sudo");
		return EXIT_NEEDS_ROOT;
	case -ENOENT:
		complain(
			"sessions cannot be shown: mount debugfs (mount -t debugfs debugfs "
			"/sys/kernel/debug), or take a kernel whose debugfs has "
			"liveupdate/sessions");
		return EXIT_FAILED;
	default:
		complain("the list of sessions cannot be read: %s",
			 strerror(-err));
		return EXIT_FAILED;
	}
}

static int report(const struct devices *devices, bool json)
{
	struct sessions sessions = {};
	int ret = sessions_read(&sessions);
	bool loaded = kexec_loaded();
	struct table *tables[3] = { make_devices(devices, &sessions, json) };
	size_t count = 1;

	if (json && sessions.known) {
		tables[count++] = make_sessions(&sessions);
		tables[count++] = make_files(&sessions);
	} else if (!json) {
		tables[count++] = make_tree(&sessions);
	}
	table_print(tables, count, json, "kexec_loaded", loaded);
	if (!json)
		summarize(devices, &sessions, loaded);
	sessions_free(&sessions);
	return ret ? explain_unknown(ret) : EXIT_OK;
}

static int refuse_off(void)
{
	char advice[256];

	kernel_explain_off(advice, sizeof(advice));
	complain("live update is off, there is no /dev/liveupdate: %s", advice);
	return EXIT_REFUSED;
}

static int status(int argc, char **argv)
{
	static const struct option options[] = {
		COMMON_OPTIONS,
		SYSROOT_OPTION,
		{},
	};
	struct devices devices = {};
	int c, ret = EXIT_FAILED;
	bool json = false;

	while ((c = next_option(argc, argv, options, &status_command)) >= 0) {
		if (c == OPTION_JSON)
			json = true;
	}
	if (optind < argc)
		return wrong_usage(&status_command, "'%s' is too much",
				   argv[optind]);
	if (!kernel_liveupdate_on())
		return refuse_off();

	if (!devices_read(&devices))
		ret = report(&devices, json);
	devices_free(&devices);
	return ret;
}

const struct command status_command = {
	.name = "status",
	.summary =
		"what goes to the next kernel, and what came from the previous one",
	.help = "Usage: " NAME " status [OPTION...]\n\n"
		"Shows devices that are preserved or were handed over, and live update sessions\n"
		"with their files: what goes to the next kernel, what came from the previous one\n"
		"and waits to be retrieved.  Sessions are shown to root only.\n\n" COMMON_HELP
			SYSROOT_HELP,
	.run = status,
};
