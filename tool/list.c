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
	{ "device", SCOLS_FL_TREE, 0, IN_TABLE },
	{ "device", 0, SCOLS_JSON_STRING, IN_JSON },
	{ "id", 0, SCOLS_JSON_STRING, IN_JSON },
	{ "name", SCOLS_FL_TRUNC, SCOLS_JSON_STRING, IN_BOTH },
	{ "driver", 0, SCOLS_JSON_STRING, IN_BOTH },
	{ "group", SCOLS_FL_RIGHT, 0, IN_TABLE },
	{ "iommu_group", 0, SCOLS_JSON_NUMBER, IN_JSON },
	{ "physfn", 0, SCOLS_JSON_STRING, IN_JSON },
	{ "vfs", 0, SCOLS_JSON_NUMBER, IN_JSON },
	{ "hold", 0, SCOLS_JSON_BOOLEAN, IN_JSON },
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
 * Another driver can be given to the device, or to its physical function, or that can
 * be held; nothing else here can be changed.  One that came in gets its driver when it
 * is retrieved, or released.
 */
static void advise(const struct device *dev, const struct answer *objection,
		   char *buf, size_t size)
{
	buf[0] = '\0';
	if (!strcmp(objection->cause, "physical-function"))
		snprintf(buf, size,
			 ": bind %s to " DRIVER ", or hold it: " NAME
			 " hold %s",
			 dev->physfn, dev->physfn);
	else if (objection != &dev->bound || !strcmp(dev->driver, DRIVER))
		return;
	else if (device_held(dev))
		snprintf(buf, size, ": held for its virtual functions");
	else if (!*dev->incoming)
		snprintf(buf, size, ": bind it to " DRIVER);
	if (!*dev->incoming && dev->vfs && dev->can_hold && !dev->hold)
		snprintf(buf + strlen(buf), size - strlen(buf),
			 ", or hold it for its virtual functions: " NAME
			 " hold %s",
			 dev->bdf);
}

static const char *modes(const struct device *dev)
{
	if (device_held(dev))
		return "held";
	if (!device_preservable(dev))
		return "no";
	if (!dev->idle.yes)
		return "running";
	return dev->running.yes ? "running, idle" : "idle";
}

static void *add_device(struct table *table, void *parent,
			const struct device *dev)
{
	const struct answer *objection = device_objection(dev);
	void *line = table_line(table, parent);
	char advice[128];

	table_set(table, line, "device", "%s", dev->bdf);
	table_set(table, line, "id", "%04x:%04x", dev->vendor, dev->id);
	table_set(table, line, "name", "%s", dev->name);
	table_set(table, line, "driver", "%s", dev->driver);
	table_set(table, line, "group", "%s", dev->group);
	table_set(table, line, "iommu_group", "%s", dev->group);
	table_set(table, line, "outgoing", "%s", dev->outgoing);
	table_set(table, line, "incoming", "%s", dev->incoming);
	table_set(table, line, "physfn", "%s", dev->physfn);
	table_set(table, line, "vfs", "%u", dev->vfs);
	table_set(table, line, "hold", "%d", dev->hold);
	table_set(table, line, "preserve", "%s", modes(dev));
	table_set(table, line, "preservable", "%d", device_preservable(dev));
	table_set(table, line, "idle", "%d", dev->idle.yes);
	table_set(table, line, "running", "%d", dev->running.yes);
	if (!objection)
		return line;
	advise(dev, objection, advice, sizeof(advice));
	table_set(table, line, "cause", "%s", objection->cause);
	table_set(table, line, "reason", "%s%s", objection->why, advice);
	return line;
}

static bool is_above(const struct device *pf)
{
	return pf && (pf->chosen || pf->above);
}

/* People see a device with its virtual functions below it. */
static void add_tree(struct table *table, const struct devices *devices,
		     const struct device *dev)
{
	void *line;

	if (is_above(devices_physfn(devices, dev)))
		return;
	line = add_device(table, NULL, dev);
	for (size_t i = 0; i < devices->count; i++) {
		const struct device *vf = &devices->all[i];

		if (vf->chosen && device_is_below(vf, dev))
			add_device(table, line, vf);
	}
}

/**
 * devices_table() - make a table of the devices that are chosen
 * @devices: devices
 * @json: make JSON of it, with these only, one after the other
 *
 * Return: the table
 */
struct table *devices_table(const struct devices *devices, bool json)
{
	struct table *table = table_new("devices", columns, json);

	for (size_t i = 0; i < devices->count; i++) {
		const struct device *dev = &devices->all[i];

		if (json && dev->chosen)
			add_device(table, NULL, dev);
		else if (!json && (dev->chosen || dev->above))
			add_tree(table, devices, dev);
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
		"addresses, or else all but bridges.  Virtual functions are below their physical\n"
		"one.\n\n"
		"  -a, --all          bridges, too\n" COMMON_HELP SYSROOT_HELP,
	.run = list,
};
