// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio-liveupdate check: could the kernel be replaced now, and these devices stay?
 */
#include <getopt.h>
#include <libsmartcols/libsmartcols.h>
#include <stdio.h>

#include "tool.h"

static const struct column columns[] = {
	{ "check", 0, SCOLS_JSON_STRING, IN_BOTH },
	{ "result", 0, SCOLS_JSON_STRING, IN_BOTH },
	{ "value", SCOLS_FL_WRAP, SCOLS_JSON_STRING, IN_BOTH },
	{ "advice", SCOLS_FL_WRAP, SCOLS_JSON_STRING, IN_BOTH },
	{}
};

/**
 * findings_table() - make a table of what was found
 * @findings: what was found
 * @count: how many
 * @json: make JSON of it
 *
 * Return: the table
 */
struct table *findings_table(const struct finding *findings, size_t count,
			     bool json)
{
	static const char *const results[] = {
		[FINDING_OK] = "ok",
		[FINDING_NO] = "no",
		[FINDING_WARNING] = "warning",
		[FINDING_UNKNOWN] = "unknown",
	};
	struct table *table = table_new("checks", columns, json);

	for (size_t i = 0; i < count; i++) {
		void *line = table_line(table, NULL);

		table_set(table, line, "check", "%s", findings[i].what);
		table_set(table, line, "result", "%s",
			  results[findings[i].verdict]);
		table_set(table, line, "value", "%s", findings[i].value);
		table_set(table, line, "advice", "%s", findings[i].advice);
	}
	return table;
}

static bool is_good(const struct device *dev, bool running)
{
	return device_preservable(dev) && (dev->running.yes || !running);
}

/**
 * struct verdict - what a check comes to
 * @kernel: how many things about the kernel are not as they should be
 * @devices: how many devices were looked at
 * @bad: how many of them cannot be preserved
 */
struct verdict {
	size_t kernel, devices, bad;
};

static struct verdict judge(const struct finding *findings, size_t count,
			    const struct devices *devices, bool running)
{
	struct verdict verdict = {};

	for (size_t i = 0; i < count; i++)
		verdict.kernel += findings[i].verdict == FINDING_NO;
	for (size_t i = 0; i < devices->count; i++) {
		const struct device *dev = &devices->all[i];

		verdict.devices += dev->chosen;
		verdict.bad += dev->chosen && !is_good(dev, running);
	}
	return verdict;
}

/*
 * A physical function goes with its virtual ones: by the driver that preserves them,
 * or else it is held, and not a device that is asked about.
 */
static void look_above(const struct devices *devices)
{
	for (size_t i = 0; i < devices->count; i++) {
		const struct device *vf = &devices->all[i];
		struct device *pf = devices_physfn(devices, vf);

		if (!pf || !vf->chosen)
			continue;
		pf->chosen = pf->bound.yes || (pf->chosen && !device_held(pf));
		pf->above = !pf->chosen;
	}
}

static size_t count_below(const struct devices *devices,
			  const struct device *pf)
{
	size_t count = 0;

	for (size_t i = 0; i < devices->count; i++)
		count += devices->all[i].chosen &&
			 device_is_below(&devices->all[i], pf);
	return count;
}

/* What holding costs is said before it is too late. */
static void tell_held(const struct devices *devices)
{
	for (size_t i = 0; i < devices->count; i++) {
		const struct device *pf = &devices->all[i];
		size_t count = pf->above ? count_below(devices, pf) : 0;

		if (!count || !device_held(pf))
			continue;
		printf("%s is held for %zu of these: no driver of the next kernel has it, until\n"
		       "'" NAME " release %s'.\n",
		       pf->bdf, count, pf->bdf);
	}
}

static void pronounce(const struct verdict *verdict, bool running)
{
	const char *mode = running ? " in running mode" : "";

	putchar('\n');
	if (verdict->kernel)
		puts("This kernel cannot take devices through a live update: see ADVICE.");
	else if (verdict->bad)
		printf("%zu of %zu devices cannot be preserved%s: see REASON.\n",
		       verdict->bad, verdict->devices, mode);
	else if (verdict->devices)
		printf("Ready: %zu device%s can be preserved%s.\n",
		       verdict->devices, verdict->devices == 1 ? "" : "s",
		       mode);
	else
		puts("The kernel is ready. No device is bound to " DRIVER
		     " yet: see '" NAME " list'.");
}

static int report(const struct devices *devices, bool json, bool running)
{
	struct finding findings[MAX_FINDINGS];
	size_t count = kernel_look(findings);
	struct verdict verdict = judge(findings, count, devices, running);
	bool ready = !verdict.kernel && !verdict.bad;
	struct table *tables[] = {
		findings_table(findings, count, json),
		devices_table(devices, json),
	};

	table_print(tables, 2, json, "ready", ready);
	if (!json) {
		pronounce(&verdict, running);
		tell_held(devices);
	}
	return ready ? EXIT_OK : EXIT_REFUSED;
}

static int check(int argc, char **argv)
{
	static const struct option options[] = {
		{ "running", no_argument, NULL, 'r' },
		COMMON_OPTIONS,
		SYSROOT_OPTION,
		{},
	};
	bool json = false, running = false;
	struct devices devices = {};
	int c, ret = EXIT_FAILED;

	while ((c = next_option(argc, argv, options, &check_command)) >= 0) {
		if (c == 'r')
			running = true;
		if (c == OPTION_JSON)
			json = true;
	}

	if (!devices_read(&devices))
		ret = devices_choose(&devices, argv + optind, argc - optind);
	for (size_t i = 0; optind == argc && i < devices.count; i++)
		devices.all[i].chosen = devices.all[i].bound.yes;
	if (!ret) {
		look_above(&devices);
		ret = report(&devices, json, running);
	}
	devices_free(&devices);
	return ret;
}

const struct command check_command = {
	.name = "check",
	.summary = "whether kernel and devices are ready for a live update",
	.help = "Usage: " NAME " check [OPTION...] [DEVICE...]\n\n"
		"Looks at the kernel's switches and at devices, given by their PCI addresses, or\n"
		"else at all whose driver takes part.  With a virtual function goes its physical\n"
		"one.  Exits with 0 if all is ready, with 4 if something stands against it.\n\n"
		"  -r, --running      want running mode: idle mode is not enough\n" COMMON_HELP
			SYSROOT_HELP,
	.run = check,
};
