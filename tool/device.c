// SPDX-License-Identifier: GPL-2.0-only
/*
 * PCI devices, as sysfs shows them.
 *
 * Whether a device can be preserved, in which mode, and why not, is what the
 * kernel says in its attribute liveupdate_modes.  Nothing is guessed here.
 */
#include <err.h>
#include <errno.h>
#include <pci/pci.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tool.h"

#define DEVICES "sys/bus/pci/devices"
#define CLASS_BRIDGE 0x06
#define MAX_ERRNO 4095
#define PATIENCE_MS 1000
#define PAUSE_MS 20

/* --- names ------------------------------------------------------------------ */

/* libpci says through these what it has to say. */
static void stay_silent(char *msg, ...)
{
	(void)msg;
}

static void __attribute__((noreturn)) give_up(char *msg, ...)
{
	va_list args;

	va_start(args, msg);
	vwarnx(msg, args);
	va_end(args);
	exit(EXIT_FAILED);
}

static struct pci_access *names_open(void)
{
	struct pci_access *names = pci_alloc();

	/* pci_init() would look for hardware; names need none */
	names->error = give_up;
	names->warning = stay_silent;
	names->debug = stay_silent;
	/* Nor what lspci once asked the network for, in somebody's home */
	pci_set_param(names, "net.cache_name", "");
	return names;
}

static void look_up_name(struct device *dev, struct pci_access *names)
{
	char buf[sizeof(dev->name)];

	snprintf(dev->name, sizeof(dev->name), "%s",
		 pci_lookup_name(names, buf, sizeof(buf),
				 PCI_LOOKUP_DEVICE | PCI_LOOKUP_NO_HWDB,
				 dev->vendor, dev->id));
}

/* --- attributes ------------------------------------------------------------- */

static int read_attribute(const char *bdf, const char *name, char *buf,
			  size_t size)
{
	char path[128];

	snprintf(path, sizeof(path), DEVICES "/%s/%s", bdf, name);
	return file_read(path, buf, size);
}

static unsigned int read_number(const char *bdf, const char *name)
{
	char buf[32];

	if (read_attribute(bdf, name, buf, sizeof(buf)))
		return 0;
	return strtoul(buf, NULL, 0);
}

static void read_link(const char *bdf, const char *name, char *buf, size_t size)
{
	char path[128];

	snprintf(path, sizeof(path), DEVICES "/%s/%s", bdf, name);
	file_link_name(path, buf, size);
}

/* Lines "outgoing MODE" and "incoming MODE", or "none" */
static void read_state(struct device *dev)
{
	char buf[64], *rest = buf;
	const char *line;

	read_attribute(dev->bdf, "liveupdate", buf, sizeof(buf));
	while ((line = strsep(&rest, "\n"))) {
		sscanf(line, "outgoing %11s", dev->outgoing);
		sscanf(line, "incoming %11s", dev->incoming);
	}
}

/**
 * error_name() - get the name of an error as the kernel writes it
 * @number: "-ENODEV", or "-19" where the kernel has no names
 * @buf: where to put "ENODEV"
 * @size: room in @buf
 */
void error_name(const char *number, char *buf, size_t size)
{
	const char *digits = number + (number[0] == '-');
	long error = strtol(digits, NULL, 10);
	const char *name = NULL;

	if (digits > number && error > 0 && error <= MAX_ERRNO)
		name = strerrorname_np(error);
	snprintf(buf, size, "%s", name ?: digits);
}

static void answer_no(struct answer *answer, const char *error, const char *why)
{
	answer->yes = false;
	snprintf(answer->error, sizeof(answer->error), "%s", error);
	snprintf(answer->why, sizeof(answer->why), "%s", why);
}

/* "yes", or "-ERROR REASON" */
static void parse_answer(struct answer *answer, const char *text)
{
	char error[sizeof(answer->error)], name[sizeof(answer->error)];
	int reason = 0;

	answer->yes = !strcmp(text, "yes");
	if (answer->yes)
		return;
	if (sscanf(text, "%23s %n", error, &reason) != 1 || !reason) {
		answer_no(answer, "", text);
		return;
	}
	error_name(error, name, sizeof(name));
	answer_no(answer, name, text + reason);
}

/* The kernel does not wait for who has the device just now; we do, a little. */
static int read_patiently(const char *bdf, const char *name, char *buf,
			  size_t size)
{
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };
	int ret;

	for (int left = PATIENCE_MS; left > 0; left -= PAUSE_MS) {
		ret = read_attribute(bdf, name, buf, size);
		if (ret != -EAGAIN)
			break;
		nanosleep(&pause, NULL);
	}
	return ret;
}

static void answer_all(struct device *dev, const char *error, const char *why)
{
	answer_no(&dev->idle, error, why);
	answer_no(&dev->running, error, why);
	answer_no(&dev->bound, error, why);
}

static void read_modes(struct device *dev)
{
	char buf[512], *rest = buf;
	int ret =
		read_patiently(dev->bdf, "liveupdate_modes", buf, sizeof(buf));
	const char *line;

	if (ret == -EAGAIN) {
		answer_all(dev, "EAGAIN",
			   "is being bound, unbound or reset: ask again");
		return;
	}
	if (ret) {
		answer_all(dev, "",
			   device_is_bridge(dev) ?
				   "is a bridge: goes with what is below it" :
				   "this kernel preserves no PCI devices");
		return;
	}
	answer_all(dev, "", "the kernel does not say");
	while ((line = strsep(&rest, "\n"))) {
		if (!strncmp(line, "idle ", 5))
			parse_answer(&dev->idle, line + 5);
		else if (!strncmp(line, "running ", 8))
			parse_answer(&dev->running, line + 8);
		else if (!strncmp(line, "driver ", 7))
			parse_answer(&dev->bound, line + 7);
	}
}

/* --- devices ---------------------------------------------------------------- */

struct reading {
	struct devices *devices;
	struct pci_access *names;
};

static int add_device(const char *bdf, void *data)
{
	struct reading *reading = data;
	struct devices *devices = reading->devices;
	struct device *all, *dev;

	all = reallocarray(devices->all, devices->count + 1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	devices->all = all;
	dev = &all[devices->count++];
	*dev = (struct device){};
	snprintf(dev->bdf, sizeof(dev->bdf), "%s", bdf);
	dev->vendor = read_number(bdf, "vendor");
	dev->id = read_number(bdf, "device");
	dev->class = read_number(bdf, "class");
	look_up_name(dev, reading->names);
	read_link(bdf, "driver", dev->driver, sizeof(dev->driver));
	read_link(bdf, "iommu_group", dev->group, sizeof(dev->group));
	read_state(dev);
	read_modes(dev);
	return 0;
}

/**
 * devices_read() - read all PCI devices
 * @devices: where to put them, with none in it so far; to be freed by
 *           devices_free() in any case
 *
 * Says so on stderr when that fails.
 *
 * Return: 0 or a negative errno
 */
int devices_read(struct devices *devices)
{
	struct reading reading = { devices, names_open() };
	int ret;

	ret = file_walk(DEVICES, add_device, &reading);
	pci_cleanup(reading.names);
	if (ret == -ENOENT)
		complain("there is no /" DEVICES
			 ": is there PCI, and sysfs mounted?");
	else if (ret)
		complain("/" DEVICES ": %s", strerror(-ret));
	return ret;
}

/**
 * devices_free() - free devices
 * @devices: what devices_read() filled in
 */
void devices_free(struct devices *devices)
{
	free(devices->all);
}

/* The segment can be left out if it is 0000. */
static struct device *find(const struct devices *devices, const char *bdf)
{
	for (size_t i = 0; i < devices->count; i++) {
		struct device *dev = &devices->all[i];

		if (!strcasecmp(dev->bdf, bdf) ||
		    (!strncmp(dev->bdf, "0000:", 5) &&
		     !strcasecmp(dev->bdf + 5, bdf)))
			return dev;
	}
	return NULL;
}

/**
 * devices_choose() - choose the devices that somebody names
 * @devices: devices
 * @names: their addresses; the segment can be left out if it is 0000
 * @count: how many
 *
 * Says so on stderr when there is no such device.
 *
 * Return: EXIT_OK or EXIT_FAILED
 */
int devices_choose(const struct devices *devices, char **names, int count)
{
	for (int i = 0; i < count; i++) {
		struct device *dev = find(devices, names[i]);

		if (!dev) {
			complain("there is no PCI device %s: see '" NAME
				 " list --all'",
				 names[i]);
			return EXIT_FAILED;
		}
		dev->chosen = true;
	}
	return EXIT_OK;
}

/**
 * device_is_bridge() - is it a bridge of any kind
 * @dev: device
 *
 * Return: true if it is
 */
bool device_is_bridge(const struct device *dev)
{
	return dev->class >> 16 == CLASS_BRIDGE;
}

/**
 * device_preservable() - can the device be preserved as it is now
 * @dev: device
 *
 * Return: true if it can, in one mode at least
 */
bool device_preservable(const struct device *dev)
{
	return dev->idle.yes && dev->bound.yes;
}

/**
 * device_objection() - what stands against preserving a device best
 * @dev: device
 *
 * What it is comes before what it is bound to, which can be changed; that it
 * can be preserved in idle mode only comes last.
 *
 * Return: the kernel's answer, or NULL when nothing stands against it
 */
const struct answer *device_objection(const struct device *dev)
{
	if (!dev->idle.yes)
		return &dev->idle;
	if (!dev->bound.yes)
		return &dev->bound;
	return dev->running.yes ? NULL : &dev->running;
}
