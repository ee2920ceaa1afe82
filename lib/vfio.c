// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * VFIO devices: found by their PCI addresses, bound and attached to iommufds,
 * and asked how they cross an update.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <linux/vfio.h>
#include <linux/vfio_liveupdate.h>

#include "internal.h"

_Static_assert(LU_MODE_IDLE == VFIO_LIVEUPDATE_MODE_IDLE &&
		       LU_MODE_RUNNING == VFIO_LIVEUPDATE_MODE_RUNNING &&
		       LU_STATE_OUTGOING == VFIO_LIVEUPDATE_STATE_OUTGOING &&
		       LU_STATE_INCOMING == VFIO_LIVEUPDATE_STATE_INCOMING &&
		       LU_IRQ_INTX == VFIO_PCI_INTX_IRQ_INDEX &&
		       LU_IRQ_MSI == VFIO_PCI_MSI_IRQ_INDEX &&
		       LU_IRQ_MSIX == VFIO_PCI_MSIX_IRQ_INDEX &&
		       LU_REASON_DEVICE == VFIO_LIVEUPDATE_REASON_DEVICE &&
		       LU_REASON_KERNEL == VFIO_LIVEUPDATE_REASON_KERNEL &&
		       LU_REASON_DOMAIN == VFIO_LIVEUPDATE_REASON_DOMAIN,
	       "the kernel's numbers");

/* Write a PCI address as the kernel does. */
void lu_bdf_write(char text[LU_BDF_SIZE], uint32_t segment, uint16_t bdf)
{
	snprintf(text, LU_BDF_SIZE, "%04x:%02x:%02x.%x", segment, bdf >> 8,
		 bdf >> 3 & 0x1f, bdf & 7);
}

/* Read a PCI address as the kernel writes it, and no other way. */
int lu_bdf_parse(const char *text, uint32_t *segment, uint16_t *bdf)
{
	unsigned int seg, bus, dev, fn;
	char again[LU_BDF_SIZE];

	if (sscanf(text, "%8x:%2x:%2x.%1x", &seg, &bus, &dev, &fn) != 4 ||
	    dev > 0x1f || fn > 7)
		return -EINVAL;
	*segment = seg;
	*bdf = bus << 8 | dev << 3 | fn;
	lu_bdf_write(again, *segment, *bdf);
	return strcmp(text, again) ? -EINVAL : 0;
}

int lu_device_open(const char *bdf)
{
	char path[300] = "";
	uint32_t segment;
	uint16_t number;
	DIR *dir;

	if (lu_bdf_parse(bdf, &segment, &number))
		return -EINVAL;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
	dir = opendir(path);
	if (!dir)
		return -errno;
	path[0] = '\0';
	for (struct dirent *entry; !path[0] && (entry = readdir(dir));)
		if (!strncmp(entry->d_name, "vfio", 4))
			snprintf(path, sizeof(path), "/dev/vfio/devices/%s",
				 entry->d_name);
	closedir(dir);
	return path[0] ? lu_open_file(path) : -ENOENT;
}

/* The last part of the path that the kernel tells of a VFIO device's file. */
static int syspath_name(FILE *info, char *name, size_t size)
{
	static const char key[] = "vfio-device-syspath:";
	char *line = NULL;
	size_t space = 0;
	int ret = -ENODEV;

	while (ret && getline(&line, &space, info) > 0) {
		const char *slash = strrchr(line, '/');

		if (strncmp(line, key, sizeof(key) - 1) || !slash)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(name, size, "%s", slash + 1);
		ret = 0;
	}
	free(line);
	return ret;
}

/* lu_device_bdf(), in numbers */
int lu_device_address(int device, uint32_t *segment, uint16_t *bdf)
{
	FILE *info = lu_open_fdinfo(device);
	char name[LU_BDF_SIZE];
	int ret;

	if (!info)
		return -errno;
	ret = syspath_name(info, name, sizeof(name));
	fclose(info);
	return ret || lu_bdf_parse(name, segment, bdf) ? -ENODEV : 0;
}

int lu_device_bdf(int device, char bdf[LU_BDF_SIZE])
{
	uint32_t segment;
	uint16_t number;
	int ret = lu_device_address(device, &segment, &number);

	if (!ret)
		lu_bdf_write(bdf, segment, number);
	return ret;
}

int lu_device_bind(int device, int iommufd, uint32_t *dev_id)
{
	struct vfio_device_bind_iommufd call = {
		.argsz = sizeof(call),
		.iommufd = iommufd,
	};
	int ret;

	/* To the kernel it is wrong as a device that is bound already is */
	if (iommufd < 0)
		return -EBADF;
	ret = lu_ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &call);
	if (!ret)
		*dev_id = call.out_devid;
	return ret;
}

/* All devices that a reset of this one's bus or slot resets. Caller frees. */
static int reset_info(int device, struct vfio_pci_hot_reset_info **info)
{
	uint32_t count = 0;
	int ret;

	do {
		size_t size = count * sizeof((*info)->devices[0]);

		size += sizeof(**info);
		*info = calloc(1, size);
		if (!*info)
			return -ENOMEM;
		(*info)->argsz = size;
		ret = lu_ioctl(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
			       *info);
		if (!ret)
			return 0;
		count = (*info)->count;
		free(*info);
	} while (ret == -ENOSPC);
	return ret;
}

/*
 * Binding tells the number, once. For a file that came from somebody else the
 * one other place where the kernel tells it is what a reset would affect.
 */
int lu_device_id(int device, uint32_t *dev_id)
{
	struct vfio_pci_hot_reset_info *info;
	uint32_t segment;
	uint16_t number;
	int ret = lu_device_address(device, &segment, &number);

	if (!ret)
		ret = reset_info(device, &info);
	if (ret)
		return ret;
	ret = -ENOENT;
	for (uint32_t i = 0; i < info->count; i++) {
		const struct vfio_pci_dependent_device *dev = &info->devices[i];

		if (!(info->flags & VFIO_PCI_HOT_RESET_FLAG_DEV_ID) ||
		    dev->segment != (uint16_t)segment ||
		    (dev->bus << 8 | dev->devfn) != number ||
		    (int32_t)dev->devid <= 0)
			continue;
		*dev_id = dev->devid;
		ret = 0;
	}
	free(info);
	return ret;
}

int lu_device_attach(int device, uint32_t pt_id, uint32_t *hwpt_id)
{
	struct vfio_device_attach_iommufd_pt call = {
		.argsz = sizeof(call),
		.pt_id = pt_id,
	};
	int ret = lu_ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &call);

	if (!ret && hwpt_id)
		*hwpt_id = call.pt_id;
	return ret;
}

/* Get or set a feature: data is read, and the answer of a get written there. */
static int feature_call(int device, uint32_t feature, void *data, size_t size)
{
	union {
		struct vfio_device_feature call;
		char bytes[512];
	} ask = {
		.call.argsz = sizeof(ask.call) + size,
		.call.flags = feature,
	};
	int ret;

	memcpy(ask.bytes + sizeof(ask.call), data, size);
	ret = lu_ioctl(device, VFIO_DEVICE_FEATURE, &ask);
	memcpy(data, ask.bytes + sizeof(ask.call), size);
	return ret;
}

static int feature_get(int device, uint32_t feature, void *data, size_t size)
{
	return feature_call(device, VFIO_DEVICE_FEATURE_GET | feature, data,
			    size);
}

int lu_device_export_bar(int device, uint32_t bar, uint64_t offset,
			 uint64_t length)
{
	struct vfio_region_dma_range range = { offset, length };
	struct vfio_device_feature_dma_buf buf = {
		.region_index = bar,
		.open_flags = O_RDWR | O_CLOEXEC,
		.nr_ranges = 1,
	};
	char ask[sizeof(buf) + sizeof(range)];

	if (bar >= PCI_BARS)
		return -EINVAL;
	memcpy(ask, &buf, sizeof(buf));
	memcpy(ask + sizeof(buf), &range, sizeof(range));
	return feature_get(device, VFIO_DEVICE_FEATURE_DMA_BUF, ask,
			   sizeof(ask));
}

int lu_device_query(int device, struct lu_device_state *state)
{
	struct vfio_device_feature_liveupdate info = {};
	int ret = feature_get(device, VFIO_DEVICE_FEATURE_LIVEUPDATE, &info,
			      sizeof(info));

	if (ret)
		return ret;
	*state = (struct lu_device_state){
		.modes = info.modes,
		.mode = info.mode,
		.state = info.state,
		.reason = info.reason,
		.error = -(int32_t)info.error,
	};
	return 0;
}

int lu_device_carry_irqs(int device, int carry)
{
	struct vfio_device_feature_liveupdate_irqs irqs = {
		.flags = carry ? VFIO_LIVEUPDATE_IRQS_CARRY : 0,
	};

	return feature_call(device,
			    VFIO_DEVICE_FEATURE_SET |
				    VFIO_DEVICE_FEATURE_LIVEUPDATE_IRQS,
			    &irqs, sizeof(irqs));
}

int lu_device_irqs(int device, struct lu_irqs *irqs)
{
	struct vfio_device_feature_liveupdate_irqs info = {};
	int ret = feature_get(device, VFIO_DEVICE_FEATURE_LIVEUPDATE_IRQS,
			      &info, sizeof(info));

	if (ret)
		return ret;
	if (!(info.flags & VFIO_LIVEUPDATE_IRQS_CAME))
		return -ENOENT;
	*irqs = (struct lu_irqs){
		.index = info.index,
		.count = info.count,
		.intx_masked =
			!!(info.flags & VFIO_LIVEUPDATE_IRQS_INTX_MASKED),
	};
	memcpy(irqs->armed, info.armed, sizeof(irqs->armed));
	return 0;
}

/* What VFIO_DEVICE_SET_IRQS takes: eventfds follow when flags say so. */
static int irqs_set(int device, uint32_t flags, uint32_t index,
		    const int32_t *eventfds, uint32_t count)
{
	size_t data = eventfds ? count * sizeof(*eventfds) : 0;
	struct vfio_irq_set *call = calloc(1, sizeof(*call) + data);
	int ret;

	if (!call)
		return -ENOMEM;
	call->argsz = sizeof(*call) + data;
	call->flags = flags | VFIO_IRQ_SET_ACTION_TRIGGER;
	call->index = index;
	call->count = count;
	if (data)
		memcpy(call->data, eventfds, data);
	ret = lu_ioctl(device, VFIO_DEVICE_SET_IRQS, call);
	free(call);
	return ret;
}

/**
 * lu_irqs_off() - turn a device's interrupts off, whichever are on
 * @device: its file
 */
void lu_irqs_off(int device)
{
	for (uint32_t index = 0; index <= LU_IRQ_MSIX; index++)
		irqs_set(device, VFIO_IRQ_SET_DATA_NONE, index, NULL, 0);
}

/*
 * In this order: an event that comes before its vector is armed is covered by the
 * signal, and any later one is delivered.
 */
int lu_device_irqs_restore(int device, uint32_t index, const int32_t *eventfds,
			   uint32_t count)
{
	int ret;

	if (!count || count > LU_IRQS_MAX || index > LU_IRQ_MSIX)
		return -EINVAL;
	ret = irqs_set(device, VFIO_IRQ_SET_DATA_EVENTFD, index, eventfds,
		       count);
	if (!ret)
		ret = irqs_set(device, VFIO_IRQ_SET_DATA_NONE, index, NULL,
			       count);
	if (ret)
		irqs_set(device, VFIO_IRQ_SET_DATA_NONE, index, NULL, 0);
	return ret;
}

const char *lu_mode_text(uint32_t mode)
{
	switch (mode) {
	case 0:
		return "none";
	case LU_MODE_IDLE:
		return "idle";
	case LU_MODE_RUNNING:
		return "running";
	default:
		return "unknown";
	}
}

const char *lu_reason_text(uint32_t reason)
{
	switch (reason) {
	case LU_REASON_NONE:
		return "nothing is in the way of running mode";
	case LU_REASON_DEVICE:
		return "the device cannot be preserved";
	case LU_REASON_KERNEL:
		return "this kernel cannot preserve page tables";
	case LU_REASON_DOMAIN:
		return "the page table that the device is attached to is not preserved";
	default:
		return "a reason that this library does not know";
	}
}
