// SPDX-License-Identifier: GPL-2.0-only
/*
 * VFIO devices: through their own character device and iommufd (libliveupdate), or
 * through the old group file.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <libliveupdate.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <poll.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <linux/vfio_liveupdate.h>

#include "guest.h"

/* No device takes as long for anything. */
#define SLEEP_MS 10000

#define TOKEN_SIZE 16

/* Names of the interrupt indexes, at their numbers. */
static const char *const irq_names[] = { "INTX", "MSI", "MSIX" };

static int cmd_vfio_open(const struct arg *a)
{
	a[0].o->fd = lu_device_open(a[1].s);
	return a[0].o->fd < 0 ? a[0].o->fd : 0;
}

static int cmd_vfio_bdf(const struct arg *a)
{
	char bdf[LU_BDF_SIZE];
	int ret = lu_device_bdf(a[0].o->fd, bdf);

	if (!ret)
		result("%s", bdf);
	return ret;
}

/* Read a token, which is a UUID: 32 digits, with a dash here and there. */
static int token_read(const char *s, uint8_t token[TOKEN_SIZE])
{
	for (int i = 0; i < TOKEN_SIZE; i++, s += 2) {
		s += *s == '-';
		if (sscanf(s, "%2hhx", &token[i]) != 1 || !s[1])
			return complain(EINVAL, "the token is no UUID");
	}
	return *s ? complain(EINVAL, "the token is no UUID") : 0;
}

/* Bind a device that SR-IOV has to do with, by the token of its physical function. */
static int bind_by_token(struct object *dev, int iommufd, const char *uuid)
{
	uint8_t token[TOKEN_SIZE];
	struct vfio_device_bind_iommufd call = {
		.argsz = sizeof(call),
		.flags = VFIO_DEVICE_BIND_FLAG_TOKEN,
		.iommufd = iommufd,
		.token_uuid_ptr = (uintptr_t)token,
	};
	int ret = token_read(uuid, token);

	if (!ret)
		ret = sys(ioctl(dev->fd, VFIO_DEVICE_BIND_IOMMUFD, &call));
	if (!ret)
		dev->id = call.out_devid;
	return ret;
}

static int cmd_vfio_bind(const struct arg *a)
{
	int ret = a[2].s ? bind_by_token(a[0].o, a[1].o->fd, a[2].s) :
			   lu_device_bind(a[0].o->fd, a[1].o->fd, &a[0].o->id);

	if (!ret)
		result("%u", a[0].o->id);
	return ret;
}

/* From now on a physical function's virtual ones ask for this token. */
static int cmd_vfio_token(const struct arg *a)
{
	struct {
		struct vfio_device_feature feature;
		uint8_t token[TOKEN_SIZE];
	} call = {
		.feature.argsz = sizeof(call),
		.feature.flags = VFIO_DEVICE_FEATURE_SET |
				 VFIO_DEVICE_FEATURE_PCI_VF_TOKEN,
	};
	int ret = token_read(a[1].s, call.token);

	return ret ? ret : sys(ioctl(a[0].o->fd, VFIO_DEVICE_FEATURE, &call));
}

static int cmd_vfio_id(const struct arg *a)
{
	int ret = lu_device_id(a[0].o->fd, &a[0].o->id);

	if (!ret)
		result("%u", a[0].o->id);
	return ret;
}

static int cmd_vfio_attach(const struct arg *a)
{
	uint32_t hwpt = 0;
	int ret = lu_device_attach(a[0].o->fd, a[1].o->id, &hwpt);

	if (a[2].o)
		a[2].o->id = hwpt;
	result("%u", hwpt);
	return ret;
}

static int cmd_vfio_detach(const struct arg *a)
{
	struct vfio_device_detach_iommufd_pt call = { .argsz = sizeof(call) };

	return sys(ioctl(a[0].o->fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &call));
}

static int cmd_vfio_reset(const struct arg *a)
{
	return sys(ioctl(a[0].o->fd, VFIO_DEVICE_RESET));
}

/* Ask for a region: where it is in the device's file, and how large. */
static int region_get(const struct object *dev, unsigned int index,
		      struct vfio_region_info *info)
{
	*info = (struct vfio_region_info){
		.argsz = sizeof(*info),
		.index = index,
	};
	return sys(ioctl(dev->fd, VFIO_DEVICE_GET_REGION_INFO, info));
}

static int cmd_vfio_info(const struct arg *a)
{
	struct vfio_device_info dev = { .argsz = sizeof(dev) };
	struct vfio_irq_info irq = { .argsz = sizeof(irq) };
	struct vfio_region_info region;

	if (ioctl(a[0].o->fd, VFIO_DEVICE_GET_INFO, &dev))
		return -errno;
	for (unsigned int i = 0; i < dev.num_regions; i++) {
		if (region_get(a[0].o, i, &region) || !region.size)
			continue;
		say("region %u size=%#llx flags=%#x", i, region.size,
		    region.flags);
	}
	for (irq.index = 0; irq.index < dev.num_irqs; irq.index++) {
		if (ioctl(a[0].o->fd, VFIO_DEVICE_GET_IRQ_INFO, &irq))
			continue;
		say("irq %u count=%u flags=%#x", irq.index, irq.count,
		    irq.flags);
	}
	result("flags=%#x regions=%u irqs=%u", dev.flags, dev.num_regions,
	       dev.num_irqs);
	return 0;
}

/** irq_index() - number of a kind of interrupts by its name, or -EINVAL. */
int irq_index(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(irq_names); i++)
		if (!strcasecmp(irq_names[i], name))
			return i;
	return complain(EINVAL, "%s is none of INTX, MSI, MSIX", name);
}

/* Let the kernel write a value to a register whenever an eventfd is signalled. */
static int cmd_vfio_ioeventfd(const struct arg *a)
{
	struct vfio_device_ioeventfd call = {
		.argsz = sizeof(call),
		.flags = a[4].n,
		.data = a[5].n,
	};
	struct vfio_region_info info;
	int ret = region_get(a[1].o, a[2].n, &info);

	a[0].o->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ret || a[0].o->fd < 0)
		return ret ?: -errno;
	call.offset = info.offset + a[3].n;
	call.fd = a[0].o->fd;
	return sys(ioctl(a[1].o->fd, VFIO_DEVICE_IOEVENTFD, &call));
}

/* Signal an eventfd again and again, for ever: for a child. */
static int cmd_event_hammer(const struct arg *a)
{
	const uint64_t one = 1;
	uint64_t count;

	for (;;) {
		if (write(a[0].o->fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
			return -errno;
		if (read(a[0].o->fd, &count, sizeof(count)) < 0 &&
		    errno != EAGAIN)
			return -errno;
		pause_us(200);
	}
}

/* Forget the eventfds of a device. */
static void events_close(struct object *dev)
{
	while (dev->nr_events)
		close(dev->events[--dev->nr_events]);
}

/** events_open() - have so many eventfds for a kind, in the place of those before. */
int events_open(struct object *dev, int index, uint64_t count)
{
	if (count < 1 || count > MAX_EVENTS)
		return -EINVAL;
	events_close(dev);
	dev->intx = index == VFIO_PCI_INTX_IRQ_INDEX;
	while (dev->nr_events < (int)count) {
		int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

		if (fd < 0)
			return -errno;
		dev->events[dev->nr_events++] = fd;
	}
	return 0;
}

static int cmd_vfio_irq_on(const struct arg *a)
{
	struct {
		struct vfio_irq_set set;
		__s32 fds[MAX_EVENTS];
	} call = {};
	struct object *dev = a[0].o;
	int index = irq_index(a[1].s);
	int ret;

	if (index < 0)
		return index;
	ret = events_open(dev, index, a[2].n);
	if (ret)
		return ret;
	memcpy(call.fds, dev->events, dev->nr_events * sizeof(__s32));
	call.set.argsz = sizeof(call.set) + dev->nr_events * sizeof(__s32);
	call.set.flags = VFIO_IRQ_SET_DATA_EVENTFD |
			 VFIO_IRQ_SET_ACTION_TRIGGER;
	call.set.index = index;
	call.set.count = dev->nr_events;
	ret = sys(ioctl(dev->fd, VFIO_DEVICE_SET_IRQS, &call));
	if (ret)
		events_close(dev);
	return ret;
}

static int cmd_vfio_irq_restore(const struct arg *a)
{
	int index = irq_index(a[1].s);
	int ret = index < 0 ? index : events_open(a[0].o, index, a[2].n);

	if (!ret)
		ret = lu_device_irqs_restore(a[0].o->fd, index, a[0].o->events,
					     a[0].o->nr_events);
	if (ret)
		events_close(a[0].o);
	return ret;
}

/** vfio_irq_sleep() - sleep until a device raises a vector; -ETIMEDOUT if it does not. */
int vfio_irq_sleep(const struct object *dev, unsigned int vector)
{
	struct pollfd event = { .events = POLLIN };
	uint64_t count;
	int ret;

	if ((int)vector >= dev->nr_events)
		return complain(EINVAL, "interrupt %u is not on", vector);
	event.fd = dev->events[vector];
	ret = poll(&event, 1, SLEEP_MS);
	if (ret <= 0)
		return ret ? -errno : complain(ETIMEDOUT, "no interrupt");
	return read(event.fd, &count, sizeof(count)) == sizeof(count) ? 0 :
									-errno;
}

/** vfio_intx_unmask() - let a device raise INTx again, which VFIO masks each time. */
int vfio_intx_unmask(const struct object *dev)
{
	struct vfio_irq_set call = {
		.argsz = sizeof(call),
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
		.index = VFIO_PCI_INTX_IRQ_INDEX,
		.count = 1,
	};

	return sys(ioctl(dev->fd, VFIO_DEVICE_SET_IRQS, &call));
}

static int cmd_vfio_intx_unmask(const struct arg *a)
{
	return vfio_intx_unmask(a[0].o);
}

static int cmd_vfio_irq_carry(const struct arg *a)
{
	return lu_device_carry_irqs(a[0].o->fd, (int)a[1].n);
}

/* Which interrupts came in? */
static int cmd_vfio_irq_came(const struct arg *a)
{
	struct lu_irqs irqs;
	int ret = lu_device_irqs(a[0].o->fd, &irqs);

	if (!ret)
		result("%s %u %#llx", irq_names[irqs.index], irqs.count,
		       (unsigned long long)irqs.armed[0]);
	return ret;
}

/* The eventfds of an object are the device's from now on. */
static int cmd_vfio_irq_take(const struct arg *a)
{
	events_close(a[0].o);
	memcpy(a[0].o->events, a[1].o->events, sizeof(a[0].o->events));
	a[0].o->nr_events = a[1].o->nr_events;
	a[0].o->intx = a[1].o->intx;
	a[1].o->nr_events = 0;
	return 0;
}

static int cmd_vfio_irq_off(const struct arg *a)
{
	struct vfio_irq_set call = {
		.argsz = sizeof(call),
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
	};
	int index = irq_index(a[1].s);
	int ret;

	if (index < 0)
		return index;
	call.index = index;
	ret = sys(ioctl(a[0].o->fd, VFIO_DEVICE_SET_IRQS, &call));
	if (!ret)
		events_close(a[0].o);
	return ret;
}

static int cmd_vfio_irq_count(const struct arg *a)
{
	uint64_t n;

	for (int i = 0; i < a[0].o->nr_events; i++) {
		if (read(a[0].o->events[i], &n, sizeof(n)) != sizeof(n))
			n = 0;
		result("%llu ", (unsigned long long)n);
	}
	return 0;
}

/* Read or write a few bytes of a region through the device's file. */
static int region_io(const struct object *dev, unsigned int index, uint64_t off,
		     void *buf, size_t len, int write)
{
	struct vfio_region_info info;
	int ret = region_get(dev, index, &info);
	ssize_t n;

	if (ret)
		return ret;
	if (off > info.size || len > info.size - off)
		return complain(EINVAL, "region %u ends at %#llx", index,
				info.size);
	if (write)
		n = pwrite(dev->fd, buf, len, info.offset + off);
	else
		n = pread(dev->fd, buf, len, info.offset + off);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

/** vfio_config_read() - read a few bytes of a device's config space. */
int vfio_config_read(const struct object *dev, uint64_t off, void *buf,
		     size_t len)
{
	return region_io(dev, VFIO_PCI_CONFIG_REGION_INDEX, off, buf, len, 0);
}

static int cmd_cfg_read(const struct arg *a)
{
	uint8_t buf[4096];
	size_t len = a[2].n;
	int ret;

	if (len > sizeof(buf))
		return -EINVAL;
	ret = vfio_config_read(a[0].o, a[1].n, buf, len);
	for (size_t i = 0; !ret && i < len; i += 32) {
		char line[65] = "";

		for (size_t j = i; j < len && j < i + 32; j++)
			sprintf(line + 2 * (j - i), "%02x", buf[j]);
		say("%s", line);
	}
	return ret;
}

/* Is this a width that a register can have? */
static int width_ok(uint64_t width)
{
	return width == 1 || width == 2 || width == 4 || width == 8;
}

static int cmd_cfg_write(const struct arg *a)
{
	uint64_t val = a[3].n;

	if (!width_ok(a[2].n))
		return -EINVAL;
	return region_io(a[0].o, VFIO_PCI_CONFIG_REGION_INDEX, a[1].n, &val,
			 a[2].n, 1);
}

/* Write the same again and again, without an end. */
static int cmd_cfg_hammer(const struct arg *a)
{
	int ret;

	do
		ret = cmd_cfg_write(a);
	while (!ret);
	return ret;
}

/* Read the configuration again and again for a while: how long did it take at most? */
static int cmd_cfg_poll(const struct arg *a)
{
	uint64_t end = now_ms() + a[1].n, longest = 0, val, begin;
	int ret = 0;

	while (!ret && now_ms() < end) {
		begin = now_ms();
		ret = vfio_config_read(a[0].o, PCI_COMMAND, &val, 2);
		if (now_ms() - begin > longest)
			longest = now_ms() - begin;
	}
	result("%llu", (unsigned long long)longest);
	return ret;
}

static int cmd_bar_read(const struct arg *a)
{
	uint64_t val = 0;
	int ret;

	if (!width_ok(a[3].n))
		return -EINVAL;
	ret = region_io(a[0].o, a[1].n, a[2].n, &val, a[3].n, 0);
	result("%#llx", (unsigned long long)val);
	return ret;
}

static int cmd_bar_write(const struct arg *a)
{
	uint64_t val = a[4].n;

	if (!width_ok(a[3].n))
		return -EINVAL;
	return region_io(a[0].o, a[1].n, a[2].n, &val, a[3].n, 1);
}

/**
 * vfio_map_bar() - map a BAR of a device, once
 * @dev: the device
 * @bar: number of the BAR
 *
 * Return: 0 or a negative errno
 */
int vfio_map_bar(struct object *dev, unsigned int bar)
{
	struct vfio_region_info info;
	void *base;
	int ret;

	if (bar >= PCI_BARS)
		return -EINVAL;
	if (dev->bars[bar].base)
		return 0;
	ret = region_get(dev, bar, &info);
	if (ret)
		return ret;
	if (!(info.flags & VFIO_REGION_INFO_FLAG_MMAP))
		return complain(ENODEV, "BAR %u cannot be mapped", bar);
	base = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED,
		    dev->fd, info.offset);
	if (base == MAP_FAILED)
		return -errno;
	dev->bars[bar] = (struct window){ base, info.size };
	return 0;
}

static int cmd_bar_mmap(const struct arg *a)
{
	int ret = vfio_map_bar(a[0].o, a[1].n);

	if (!ret)
		result("%zu", a[0].o->bars[a[1].n].size);
	return ret;
}

static int cmd_bar_munmap(const struct arg *a)
{
	if (a[1].n >= PCI_BARS || !a[0].o->bars[a[1].n].base)
		return -EINVAL;
	window_unmap(&a[0].o->bars[a[1].n]);
	return 0;
}

/* Address of a register in a mapped BAR, or NULL. */
static volatile void *bar_register(const struct arg *a)
{
	const struct window *win;

	if (a[1].n >= PCI_BARS || !width_ok(a[3].n))
		return NULL;
	win = &a[0].o->bars[a[1].n];
	if (!win->base || a[2].n + a[3].n > win->size || a[2].n % a[3].n)
		return NULL;
	return (uint8_t *)win->base + a[2].n;
}

static int cmd_bar_peek(const struct arg *a)
{
	volatile void *reg = bar_register(a);
	uint64_t val;

	if (!reg)
		return complain(EINVAL, "no such register is mapped");
	switch (a[3].n) {
	case 1:
		val = *(volatile uint8_t *)reg;
		break;
	case 2:
		val = *(volatile uint16_t *)reg;
		break;
	case 4:
		val = *(volatile uint32_t *)reg;
		break;
	default:
		val = *(volatile uint64_t *)reg;
		break;
	}
	result("%#llx", (unsigned long long)val);
	return 0;
}

static int cmd_bar_poke(const struct arg *a)
{
	volatile void *reg = bar_register(a);

	if (!reg)
		return complain(EINVAL, "no such register is mapped");
	switch (a[3].n) {
	case 1:
		*(volatile uint8_t *)reg = a[4].n;
		break;
	case 2:
		*(volatile uint16_t *)reg = a[4].n;
		break;
	case 4:
		*(volatile uint32_t *)reg = a[4].n;
		break;
	default:
		*(volatile uint64_t *)reg = a[4].n;
		break;
	}
	return 0;
}

/**
 * vfio_set_master() - let a device start transactions, or stop it
 * @dev: the device
 * @on: 1 to let it, 0 to stop it
 *
 * Return: 0 or a negative errno
 */
int vfio_set_master(struct object *dev, int on)
{
	uint16_t cmd;
	int ret;

	ret = region_io(dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, &cmd,
			sizeof(cmd), 0);
	if (ret)
		return ret;
	cmd &= ~PCI_COMMAND_MASTER;
	cmd |= PCI_COMMAND_MEMORY | (on ? PCI_COMMAND_MASTER : 0);
	return region_io(dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, &cmd,
			 sizeof(cmd), 1);
}

/* Give a group an address space: a VFIO container, or an iommufd as one. */
static int group_container(struct object *group)
{
	group->fd2 = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (group->fd2 < 0)
		group->fd2 = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (group->fd2 < 0)
		return -errno;
	if (ioctl(group->fd, VFIO_GROUP_SET_CONTAINER, &group->fd2))
		return -errno;
	return sys(ioctl(group->fd2, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
}

static int cmd_group_open(const struct arg *a)
{
	char link[128], target[PATH_MAX], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/iommu_group",
		 a[1].s);
	n = readlink(link, target, sizeof(target) - 1);
	if (n < 0)
		return complain(errno, "%s has no IOMMU group", a[1].s);
	target[n] = '\0';
	snprintf(path, sizeof(path), "/dev/vfio/%s", basename(target));
	a[0].o->fd = open(path, O_RDWR | O_CLOEXEC);
	if (a[0].o->fd < 0)
		return complain(errno, "cannot open %s", path);
	return group_container(a[0].o);
}

static int cmd_group_device(const struct arg *a)
{
	a[1].o->fd = ioctl(a[0].o->fd, VFIO_GROUP_GET_DEVICE_FD, a[2].s);
	return a[1].o->fd < 0 ? -errno : 0;
}

static int cmd_dmabuf_export(const struct arg *a)
{
	a[1].o->fd = lu_device_export_bar(a[0].o->fd, a[2].n, a[3].n, a[4].n);
	return a[1].o->fd < 0 ? a[1].o->fd : 0;
}

/* Reset the bus or slot of a device that was opened through its cdev. */
static int cmd_vfio_hot_reset(const struct arg *a)
{
	struct vfio_pci_hot_reset call = { .argsz = sizeof(call) };

	return sys(ioctl(a[0].o->fd, VFIO_DEVICE_PCI_HOT_RESET, &call));
}

static int set_feature(int fd, __u32 feature)
{
	struct vfio_device_feature call = {
		.argsz = sizeof(call),
		.flags = VFIO_DEVICE_FEATURE_SET | feature,
	};

	return sys(ioctl(fd, VFIO_DEVICE_FEATURE, &call));
}

static int cmd_vfio_sleep(const struct arg *a)
{
	return set_feature(a[0].o->fd, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY);
}

static int cmd_vfio_wake(const struct arg *a)
{
	return set_feature(a[0].o->fd, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT);
}

/* Ask how a device can cross, and does: MODES MODE STATE REASON ERROR. */
static int cmd_vfio_liveupdate(const struct arg *a)
{
	struct vfio_device_feature probe = {
		.argsz = sizeof(probe),
		.flags = VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET |
			 VFIO_DEVICE_FEATURE_LIVEUPDATE,
	};
	int ret = sys(ioctl(a[0].o->fd, VFIO_DEVICE_FEATURE, &probe));
	struct lu_device_state state;

	if (!ret)
		ret = lu_device_query(a[0].o->fd, &state);
	if (ret)
		return ret;
	result("%u %u %u %u %s", state.modes, state.mode, state.state,
	       state.reason, state.error ? strerrorname_np(-state.error) : "-");
	return 0;
}

/**
 * dma_setup() - begin a driver: remember its device and its memory
 * @drv: the driver's object, whose ->driver begins with a struct dma_driver
 * @dev: the device
 * @mem: the memfd
 *
 * Return: 0 or a negative errno
 */
int dma_setup(struct object *drv, const struct arg *dev, const struct arg *mem)
{
	struct dma_driver *names = calloc(1, sizeof(*names));

	if (!names)
		return -ENOMEM;
	strcpy(names->dev, dev->o->name);
	strcpy(names->mem, mem->o->name);
	drv->driver = names;
	return 0;
}

/**
 * dma_find() - look up a driver's device and memory for a command
 * @drv: the driver's object
 * @need: bytes of memory that it needs
 * @dma: what was found; no registers are mapped
 *
 * Return: 0 or a negative errno
 */
int dma_find(const struct object *drv, size_t need, struct dma *dma)
{
	const struct dma_driver *names = drv->driver;
	struct object *mem;
	int ret;

	if (!names)
		return complain(EINVAL, "%s is no driver", drv->name);
	dma->dev = object_find(names->dev);
	mem = object_find(names->mem);
	if (!dma->dev || !mem)
		return complain(ENOENT, "its device or memory is closed");
	ret = memory_map(mem);
	if (ret)
		return ret;
	if (mem->map.size < need)
		return complain(EINVAL, "the memory must have %zu bytes", need);
	dma->regs = NULL;
	dma->mem = mem->map.base;
	return 0;
}

/** dma_get() - likewise, and map BAR 0, where the registers are. */
int dma_get(const struct object *drv, size_t need, struct dma *dma)
{
	int ret = dma_find(drv, need, dma);

	if (!ret)
		ret = vfio_map_bar(dma->dev, 0);
	if (!ret)
		dma->regs = dma->dev->bars[0].base;
	return ret;
}

/** dma_begun() - see that memory is that of a driver that was started. */
int dma_begun(const struct dma *dma, uint64_t magic)
{
	const struct dma_state *state = dma->mem;

	return state->magic == magic ?
		       0 :
		       complain(EINVAL, "no driver state in this memory");
}

/**
 * dma_use() - as dma_get(), for a command of a driver that was started
 * @drv: the driver's object
 * @need: bytes of memory that it needs
 * @magic: what its memory has to begin with
 * @dma: what was found
 *
 * Return: 0 or a negative errno
 */
int dma_use(const struct object *drv, size_t need, uint64_t magic,
	    struct dma *dma)
{
	int ret = dma_get(drv, need, dma);

	return ret ? ret : dma_begun(dma, magic);
}

const struct command vfio_commands[] = {
	{ "vfio_open", "Ns", cmd_vfio_open, "NEW BDF" },
	{ "vfio_bdf", "o", cmd_vfio_bdf, "DEVICE" },
	{ "vfio_bind", "oo|s", cmd_vfio_bind, "DEVICE IOMMUFD [TOKEN]" },
	{ "vfio_token", "os", cmd_vfio_token, "DEVICE TOKEN" },
	{ "vfio_id", "o", cmd_vfio_id, "DEVICE" },
	{ "vfio_attach", "oo|N", cmd_vfio_attach,
	  "DEVICE IOAS|HWPT [NEW, its page table]" },
	{ "vfio_detach", "o", cmd_vfio_detach, "DEVICE" },
	{ "vfio_info", "o", cmd_vfio_info, "DEVICE" },
	{ "vfio_reset", "o", cmd_vfio_reset, "DEVICE" },
	{ "vfio_hot_reset", "o", cmd_vfio_hot_reset, "DEVICE" },
	{ "vfio_sleep", "o", cmd_vfio_sleep, "DEVICE" },
	{ "vfio_wake", "o", cmd_vfio_wake, "DEVICE" },
	{ "vfio_liveupdate", "o", cmd_vfio_liveupdate, "DEVICE" },
	{ "vfio_irq_on", "osn", cmd_vfio_irq_on, "DEVICE INTX|MSI|MSIX COUNT" },
	{ "vfio_irq_restore", "osn", cmd_vfio_irq_restore,
	  "DEVICE INTX|MSI|MSIX COUNT" },
	{ "vfio_intx_unmask", "o", cmd_vfio_intx_unmask, "DEVICE" },
	{ "vfio_irq_carry", "on", cmd_vfio_irq_carry, "DEVICE 0|1" },
	{ "vfio_irq_came", "o", cmd_vfio_irq_came, "DEVICE" },
	{ "vfio_irq_take", "oo", cmd_vfio_irq_take, "DEVICE EVENTS" },
	{ "vfio_irq_off", "os", cmd_vfio_irq_off, "DEVICE INTX|MSI|MSIX" },
	{ "vfio_irq_count", "o", cmd_vfio_irq_count, "DEVICE" },
	{ "vfio_ioeventfd", "Nonnnn", cmd_vfio_ioeventfd,
	  "NEW DEVICE BAR OFFSET WIDTH VALUE" },
	{ "event_hammer", "o", cmd_event_hammer, "EVENTFD" },
	{ "cfg_read", "onn", cmd_cfg_read, "DEVICE OFFSET LENGTH" },
	{ "cfg_write", "onnn", cmd_cfg_write, "DEVICE OFFSET WIDTH VALUE" },
	{ "cfg_hammer", "onnn", cmd_cfg_hammer, "DEVICE OFFSET WIDTH VALUE" },
	{ "cfg_poll", "on", cmd_cfg_poll, "DEVICE MILLISECONDS" },
	{ "bar_read", "onnn", cmd_bar_read, "DEVICE BAR OFFSET WIDTH" },
	{ "bar_write", "onnnn", cmd_bar_write,
	  "DEVICE BAR OFFSET WIDTH VALUE" },
	{ "bar_mmap", "on", cmd_bar_mmap, "DEVICE BAR" },
	{ "bar_munmap", "on", cmd_bar_munmap, "DEVICE BAR" },
	{ "bar_peek", "onnn", cmd_bar_peek, "DEVICE BAR OFFSET WIDTH" },
	{ "bar_poke", "onnnn", cmd_bar_poke, "DEVICE BAR OFFSET WIDTH VALUE" },
	{ "group_open", "Ns", cmd_group_open, "NEW BDF" },
	{ "group_device", "oNs", cmd_group_device, "GROUP NEW BDF" },
	{ "dmabuf_export", "oNnnn", cmd_dmabuf_export,
	  "DEVICE NEW BAR OFFSET LENGTH" },
	{}
};
