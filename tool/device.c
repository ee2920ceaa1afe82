// SPDX-License-Identifier: GPL-2.0-only
/*
 * PCI devices, as sysfs shows them.
 *
 * Whether a device can be preserved, in which mode, and why not, is what the
 * kernel says in one word in each of the attributes liveupdate_idle,
 * liveupdate_running and liveupdate_driver.  Nothing is guessed here.
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
#define RESETTING "resetting"
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

/**
 * device_has_ats() - Is the Address Translation Service of a device enabled?
 * @dev: the device
 *
 * For root: others cannot read extended configuration space.
 */
bool device_has_ats(const struct device *dev)
{
	struct pci_access *access = names_open();
	struct pci_cap *ats = NULL;
	struct pci_dev *found;
	unsigned int domain, bus, slot, function;
	bool enabled = false;

	access->method = PCI_ACCESS_SYS_BUS_PCI;
	pci_init(access);
	if (sscanf(dev->bdf, "%x:%x:%x.%x", &domain, &bus, &slot, &function) ==
	    4) {
		found = pci_get_dev(access, domain, bus, slot, function);
		pci_fill_info(found, PCI_FILL_EXT_CAPS);
		ats = pci_find_cap(found, PCI_EXT_CAP_ID_ATS, PCI_CAP_EXTENDED);
		enabled = ats &&
			  pci_read_word(found, ats->addr + PCI_ATS_CTRL) &
				  PCI_ATS_CTRL_ENABLE;
		pci_free_dev(found);
	}
	pci_cleanup(access);
	return enabled;
}

/* --- attributes ------------------------------------------------------------- */

static int read_attribute(const char *bdf, const char *name, char *buf,
			  size_t size)
{
	char path[128];

	snprintf(path, sizeof(path), DEVICES "/%s/%s", bdf, name);
	return file_read(path, buf, size);
}

static bool has_attribute(const char *bdf, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), DEVICES "/%s/%s", bdf, name);
	return file_exists(path);
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

/* --- what the kernel says ----------------------------------------------------- */

/* What its words mean to people: Documentation/ABI/testing/sysfs-bus-pci-liveupdate */
static const struct {
	const char *word, *text;
} meanings[] = {
	{ "off", "live update is off" },
	{ "not-ready", "is being added or removed" },
	{ "physical-function",
	  "the driver of its physical function takes no part" },
	{ "has-virtual-functions",
	  "idle mode would end its virtual functions" },
	{ "bars",
	  "a BAR of it, its physical function or a bridge above has an odd size" },
	{ "no-iommu-group", "has no IOMMU group" },
	{ "shared-iommu-group", "not alone in its IOMMU group" },
	{ "dma-alias", "its DMA comes under another requester ID" },
	{ "no-iommu", "no IOMMU translates for it" },
	{ "iommu-driver", "its IOMMU's driver takes no part" },
	{ "iommu-alias", "its IOMMU knows it under another requester ID" },
	{ "pri",
	  "page requests of it, or of its physical function, are handled" },
	{ "pasid", "PASIDs of it are attached to page tables" },
	{ "does-not-answer",
	  "did not answer when its translations were to be flushed" },
	{ "direct-mapping", "firmware wants memory to be mapped for it" },
	{ RESETTING, "is being reset: ask again" },
	{ "no-driver", "no driver is bound" },
	{ "other-driver", "its driver takes no part" },
	{ "display", "is a display device, of a kind that vfio-pci refuses" },
	{ "incoherent", "its DMA is not cache coherent" },
};

/* A later kernel may have words that are not known here. */
static const char *meaning(const char *word)
{
	for (size_t i = 0; i < sizeof(meanings) / sizeof(*meanings); i++) {
		if (!strcmp(meanings[i].word, word))
			return meanings[i].text;
	}
	return *word ? word : "the kernel does not say";
}

/* A reset is soon over. */
static int read_patiently(const char *bdf, const char *name, char *buf,
			  size_t size)
{
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };
	int ret;

	for (int left = PATIENCE_MS; left > 0; left -= PAUSE_MS) {
		ret = read_attribute(bdf, name, buf, size);
		if (ret || strcmp(buf, RESETTING) != 0)
			break;
		nanosleep(&pause, NULL);
	}
	return ret;
}

/* "yes", or a word that says what stands against it */
static void read_answer(const struct device *dev, const char *name,
			struct answer *answer)
{
	char word[sizeof(answer->cause)];
	const char *why = "this kernel preserves no PCI devices";

	answer->yes = false;
	if (read_patiently(dev->bdf, name, word, sizeof(word))) {
		if (device_is_bridge(dev))
			why = "is a bridge: goes with what is below it";
		snprintf(answer->why, sizeof(answer->why), "%s", why);
		return;
	}
	answer->yes = !strcmp(word, "yes");
	if (answer->yes)
		return;
	snprintf(answer->cause, sizeof(answer->cause), "%s", word);
	snprintf(answer->why, sizeof(answer->why), "%s", meaning(word));
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
	read_link(bdf, "physfn", dev->physfn, sizeof(dev->physfn));
	dev->physical = has_attribute(bdf, "sriov_totalvfs");
	dev->vfs = read_number(bdf, "sriov_numvfs");
	dev->can_hold = has_attribute(bdf, "liveupdate_hold");
	dev->hold = read_number(bdf, "liveupdate_hold") == 1;
	read_state(dev);
	read_answer(dev, "liveupdate_idle", &dev->idle);
	read_answer(dev, "liveupdate_running", &dev->running);
	read_answer(dev, "liveupdate_driver", &dev->bound);
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
 * device_is_below() - is it a virtual function of another device
 * @vf: device
 * @pf: the other
 *
 * Return: true if it is
 */
bool device_is_below(const struct device *vf, const struct device *pf)
{
	return !strcmp(vf->physfn, pf->bdf) && !*pf->physfn;
}

/**
 * devices_physfn() - find the physical function of a virtual one
 * @devices: devices
 * @vf: one of them
 *
 * Return: its physical function, or NULL when it is no virtual one
 */
struct device *devices_physfn(const struct devices *devices,
			      const struct device *vf)
{
	for (size_t i = 0; *vf->physfn && i < devices->count; i++) {
		struct device *dev = &devices->all[i];

		if (device_is_below(vf, dev))
			return dev;
	}
	return NULL;
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
	return (dev->idle.yes || dev->running.yes) && dev->bound.yes;
}

/**
 * device_came_held() - is it held since the previous kernel
 * @dev: device
 *
 * Return: true if no driver has it until somebody releases it
 */
bool device_came_held(const struct device *dev)
{
	return !strcmp(dev->incoming, "held");
}

/**
 * device_held() - is it held when virtual functions of it go to the next kernel
 * @dev: device
 *
 * Return: true if so, which does not depend on whether any is preserved already
 */
bool device_held(const struct device *dev)
{
	return !dev->bound.yes &&
	       ((dev->hold && dev->vfs) || device_came_held(dev));
}

/**
 * device_objection() - what stands against preserving a device best
 * @dev: device
 *
 * What it is comes before what it is bound to, which can be changed; that it
 * can be preserved in one of the modes only comes last.  If it can be in neither,
 * the better one decides: what refuses running mode, but its IOMMU, refuses idle
 * mode, too, and virtual functions stand against idle mode only.
 *
 * Return: the kernel's answer, or NULL when nothing stands against it
 */
const struct answer *device_objection(const struct device *dev)
{
	if (!dev->idle.yes && !dev->running.yes)
		return &dev->running;
	if (!dev->bound.yes)
		return &dev->bound;
	if (!dev->running.yes)
		return &dev->running;
	return dev->idle.yes ? NULL : &dev->idle;
}
