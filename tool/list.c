// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio-liveupdate list: which devices could be preserved, and why not.
 */
#include <getopt.h>
#include <libsmartcols/libsmartcols.h>
#include <stdio.h>
#include <string.h>

#include "tool.h"

static const struct column columns[] = {
	{ "device", 0, SCOLS_JSON_STRING, IN_BOTH },
	{ "id", 0, SCOLS_JSON_STRING, IN_JSON },
	{ "name", SCOLS_FL_TRUNC, SCOLS_JSON_STRING, IN_BOTH },
	{ "driver", 0, SCOLS_JSON_STRING, IN_BOTH },
	{ "group", SCOLS_FL_RIGHT, 0, IN_TABLE },
	{ "iommu_group", 0, SCOLS_JSON_NUMBER, IN_JSON },
	{ "outgoing", 0, SCOLS_JSON_STRING, IN_JSON },
	{ "incoming", 0, SCOLS_JSON_STRING, IN_JSON },
	{ "preserve", 0, 0, IN_TABLE },
	{ "preservable", 0, SCOLS_JSON_BOOLEAN, IN_JSON },
	{ "idle", 0, SCOLS_JSON_BOOLEAN, IN_JSON },
	{ "running", 0, SCOLS_JSON_BOOLEAN, IN_JSON },
	{ "cause", 0, SCOLS_JSON_STRING, IN_JSON },
	{ "reason", SCOLS_FL_WRAP, SCOLS_JSON_STRING, IN_BOTH },
	{}
};

/*
 * Another driver can be given to the device; nothing else here can be changed.
 * One that came in gets its driver when it is retrieved.
 */
static const char *advice(const struct device *dev,
			  const struct answer *objection)
{
	if (objection != &dev->bound || !strcmp(dev->driver, DRIVER) ||
	    *dev->incoming)
		return "";
	return ": bind it to " DRIVER;
}

static void add_device(struct table *table, const struct device *dev)
{
	const struct answer *objection = device_objection(dev);
	void *line = table_line(table, NULL);

	table_set(table, line, "device", "%s", dev->bdf);
	table_set(table, line, "id", "%04x:%04x", dev->vendor, dev->id);
	table_set(table, line, "name", "%s", dev->name);
	table_set(table, line, "driver", "%s", dev->driver);
	table_set(table, line, "group", "%s", dev->group);
	table_set(table, line, "iommu_group", "%s", dev->group);
	table_set(table, line, "outgoing", "%s", dev->outgoing);
	table_set(table, line, "incoming", "%s", dev->incoming);
	table_set(table, line, "preserve", "%s",
		  !device_preservable(dev) ? "no" :
		  dev->running.yes	   ? "running, idle" :
					     "idle");
	table_set(table, line, "preservable", "%d", device_preservable(dev));
	table_set(table, line, "idle", "%d", dev->idle.yes);
	table_set(table, line, "running", "%d", dev->running.yes);
	if (!objection)
		return;
	table_set(table, line, "cause", "%s", objection->cause);
	table_set(table, line, "reason", "%s%s", objection->why,
		  advice(dev, objection));
}

/**
 * devices_table() - make a table of the devices that are chosen
 * @devices: devices
 * @json: make JSON of it
 *
 * Return: the table
 */
struct table *devices_table(const struct devices *devices, bool json)
{
	struct table *table = table_new("devices", columns, json);

	for (size_t i = 0; i < devices->count; i++) {
		if (devices->all[i].chosen)
			add_device(table, &devices->all[i]);
	}
	return table;
}

static int list(int argc, char **argv)
{
	static const struct option options[] = {
		{ "all", no_argument, NULL, 'a' },
		COMMON_OPTIONS,
		SYSROOT_OPTION,
		{},
	};
	bool json = false, bridges = false;
	struct devices devices = {};
	struct table *table;
	int c, ret = EXIT_FAILED;

	while ((c = next_option(argc, argv, options, &list_command)) >= 0) {
		if (c == 'a')
			bridges = true;
		if (c == OPTION_JSON)
			json = true;
	}

	if (!devices_read(&devices))
		ret = devices_choose(&devices, argv + optind, argc - optind);
	for (size_t i = 0; optind == argc && i < devices.count; i++)
		devices.all[i].chosen = bridges ||
					!device_is_bridge(&devices.all[i]);
	if (!ret) {
		table = devices_table(&devices, json);
		table_print(&table, 1, json, NULL, false);
	}
	devices_free(&devices);
	return ret;
}

const struct command list_command = {
	.name = "list",
	.summary = "which PCI devices could be preserved, and why not",
	.help = "Usage: " NAME " list [OPTION...] [DEVICE...]\n\n"
		"Lists PCI devices, and for each the modes in which a live update can take it\n"
		"along as it is now, or what stands against it: those that are given by their PCI\n"
		"addresses, or else all but bridges.\n\n"
		"  -a, --all          bridges, too\n" COMMON_HELP SYSROOT_HELP,
	.run = list,
};
