// SPDX-License-Identifier: GPL-2.0-only
/*
 * A small driver for virtio block devices (virtio-blk) in user space, over VFIO,
 * for what virtio 1.2 calls a non-transitional device: one split virtqueue. It polls, or
 * sleeps until the device raises an interrupt.
 *
 * Like the NVMe driver it keeps everything in one memfd. Numbers and structures
 * are those of Linux's headers, which have the names of virtio 1.2.
 *
 * Of a network device (virtio-net) it drives the queue of what is received, and keeps
 * an account of numbered frames (vnet).
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <linux/pci_regs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>

#include "drive.h"
#include "frame.h"
#include "guest.h"

#define VIRTIO_MAGIC 0x6c75766972743031ULL

/*
 * Each entry of the queue belongs to one slot, and points to a table with the
 * descriptors of that slot's request (2.7.5.3): the ring's own would do for a
 * third as many. The last entry is for requests that are no work.
 */
#define VIRTIO_ENTRIES DRIVE_SLOTS
#define VIRTIO_OWN (VIRTIO_ENTRIES - 1)
#define VIRTIO_STATE_SIZE (16 * DRIVE_PAGE)
/* A sector is what requests count in, whatever the size of a block is (5.2.6). */
#define VIRTIO_SECTOR 512

/* PCI IDs (4.1.2.1): those of devices are 0x1040 and the number of their kind. */
#define VIRTIO_VENDOR 0x1af4
#define VIRTIO_DEVICE_BLOCK (0x1040 + VIRTIO_ID_BLOCK)
#define VIRTIO_DEVICE_NET (0x1040 + VIRTIO_ID_NET)

/* What is before each frame (5.1.6): of VERSION_1 it is always this long. */
#define VNET_HEADER 12

#define VIRTIO_FEATURE(bit) (1ULL << (bit))
/*
 * Without ACCESS_PLATFORM a device uses the machine's addresses, past the IOMMU
 * (6.1). No EVENT_IDX, no MQ: what is not asked for need not be driven.
 */
#define VIRTIO_NEEDED                               \
	(VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |       \
	 VIRTIO_FEATURE(VIRTIO_F_ACCESS_PLATFORM) | \
	 VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC))
#define VIRTIO_WELCOME VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH)

/* Where a structure of the device is (4.1.4): in which BAR, and where in there. */
struct virtio_place {
	uint32_t bar;
	uint32_t offset;
	uint32_t length;
	uint32_t unused;
};

/*
 * @avail, @used: how many requests were made available, and taken back; modulo 2^16
 * @device: the PCI ID of a network device, or 0; @account: of its frames
 */
struct virtio_state {
	struct dma_state dma;
	struct virtio_place common;
	struct virtio_place notify;
	struct virtio_place config;
	uint32_t notify_off_multiplier;
	uint16_t avail;
	uint16_t used;
	uint8_t own_busy;
	uint16_t device;
	struct frame_account account;
	struct drive_work work;
};

/* A request (5.2.6): its descriptors, what the device reads of it, and its status */
struct virtio_request {
	struct vring_desc table[3];
	struct virtio_blk_outhdr header;
	uint8_t status;
	uint8_t unused[63];
};

/*
 * The parts of a split virtqueue (2.7) are where they have to be aligned, and no
 * element of one crosses the end of a page. The used ring needs @used_pad for that:
 * where an element does, QEMU 10.0 writes all of it by the translation of the first
 * page, and half of it to a page of somebody else's.
 */
struct virtio_memory {
	union {
		struct virtio_state state;
		uint8_t state_pages[VIRTIO_STATE_SIZE];
	};
	struct vring_desc desc[VIRTIO_ENTRIES];
	union {
		struct {
			struct vring_avail avail;
			uint16_t avail_ring[VIRTIO_ENTRIES];
		};
		uint8_t avail_page[DRIVE_PAGE];
	};
	union {
		struct {
			uint32_t used_pad;
			struct vring_used used;
			struct vring_used_elem used_ring[VIRTIO_ENTRIES];
		};
		uint8_t used_pages[3 * DRIVE_PAGE];
	};
	struct virtio_request requests[VIRTIO_ENTRIES];
	uint8_t data[VIRTIO_ENTRIES][DRIVE_PAGE];
};

_Static_assert(sizeof(struct virtio_state) <= VIRTIO_STATE_SIZE,
	       "state fits its pages");
_Static_assert(sizeof(struct virtio_request) == 128, "a power of two");
_Static_assert(offsetof(struct virtio_memory, avail_ring) ==
		       offsetof(struct virtio_memory, avail.ring),
	       "the ring follows its index");
_Static_assert(offsetof(struct virtio_memory, used_ring) ==
		       offsetof(struct virtio_memory, used.ring),
	       "the ring follows its index");
_Static_assert(offsetof(struct virtio_memory, used_ring) %
			       sizeof(struct vring_used_elem) ==
		       0,
	       "no element crosses the end of a page");
_Static_assert(offsetof(struct virtio_memory, data) % DRIVE_PAGE == 0,
	       "on a page");

/* The driver while a command runs. */
struct virtio {
	struct dma dma;
	struct virtio_memory *mem;
	struct virtio_state *state;
	volatile struct virtio_pci_common_cfg *common;
	volatile uint16_t *notify;
};

/* Map a structure of the device. */
static int virtio_reach(const struct virtio *virtio,
			const struct virtio_place *place, volatile void **found)
{
	struct object *dev = virtio->dma.dev;
	int ret = vfio_map_bar(dev, place->bar);

	if (ret)
		return ret;
	if ((uint64_t)place->offset + place->length >
	    dev->bars[place->bar].size)
		return complain(EPROTO, "BAR %u has no %#x", place->bar,
				place->offset);
	*found = (uint8_t *)dev->bars[place->bar].base + place->offset;
	return 0;
}

/* Map what every command needs. */
static int virtio_map(struct virtio *virtio)
{
	volatile void *common = NULL, *notify = NULL;
	int ret = virtio_reach(virtio, &virtio->state->common, &common);

	if (!ret)
		ret = virtio_reach(virtio, &virtio->state->notify, &notify);
	virtio->common = common;
	virtio->notify = notify;
	return ret;
}

/* Find the memory of a driver, once its device and memory are found. */
static void virtio_memory(struct virtio *virtio)
{
	virtio->mem = virtio->dma.mem;
	virtio->state = &virtio->mem->state;
}

/* Find a driver that was started. */
static int virtio_use(const struct object *drv, struct virtio *virtio)
{
	int ret = dma_find(drv, sizeof(struct virtio_memory), &virtio->dma);

	if (!ret)
		ret = dma_begun(&virtio->dma, VIRTIO_MAGIC);
	if (ret)
		return ret;
	virtio_memory(virtio);
	return virtio_map(virtio);
}

/* Keep where a structure is, of those that the driver needs; the first of its kind. */
static void virtio_keep_place(const struct virtio *virtio,
			      const struct virtio_pci_notify_cap *notify)
{
	const struct virtio_pci_cap *cap = &notify->cap;
	struct virtio_place *place;

	switch (cap->cfg_type) {
	case VIRTIO_PCI_CAP_COMMON_CFG:
		place = &virtio->state->common;
		break;
	case VIRTIO_PCI_CAP_NOTIFY_CFG:
		place = &virtio->state->notify;
		virtio->state->notify_off_multiplier =
			notify->notify_off_multiplier;
		break;
	case VIRTIO_PCI_CAP_DEVICE_CFG:
		place = &virtio->state->config;
		break;
	default:
		return;
	}
	if (!place->length && cap->bar < PCI_BARS)
		*place = (struct virtio_place){
			.bar = cap->bar,
			.offset = cap->offset,
			.length = cap->length,
		};
}

/*
 * Find the device's structures by its capabilities (4.1.4), and see that it is of
 * the kind that is meant (5.1.1, 5.2.1).
 */
static int virtio_find(const struct virtio *virtio)
{
	const struct object *dev = virtio->dma.dev;
	uint16_t wanted = virtio->state->device ?: VIRTIO_DEVICE_BLOCK;
	struct virtio_pci_notify_cap notify;
	uint16_t ids[2];
	uint8_t at;
	int ret = vfio_config_read(dev, PCI_VENDOR_ID, ids, sizeof(ids));

	if (!ret)
		ret = vfio_config_read(dev, PCI_CAPABILITY_LIST, &at, 1);
	if (!ret && (ids[0] != VIRTIO_VENDOR || ids[1] != wanted))
		return complain(ENODEV, "%04x:%04x is no virtio %s device",
				ids[0], ids[1],
				virtio->state->device ? "network" : "block");
	while (!ret && at) {
		ret = vfio_config_read(dev, at, &notify, sizeof(notify));
		if (!ret && notify.cap.cap_vndr == PCI_CAP_ID_VNDR)
			virtio_keep_place(virtio, &notify);
		at = notify.cap.cap_next;
	}
	if (!ret &&
	    !(virtio->state->common.length && virtio->state->notify.length &&
	      virtio->state->config.length))
		ret = complain(ENODEV, "a structure is missing");
	return ret;
}

/* Say how far the driver is (2.1). */
static void virtio_status(const struct virtio *virtio, uint8_t bits)
{
	virtio->common->device_status = virtio->common->device_status | bits;
}

/* Reset the device, and wait until that is done (4.1.4.3.2). */
static int virtio_reset(const struct virtio *virtio)
{
	uint64_t end = now_ms() + DRIVE_TIMEOUT_MS;

	virtio->common->device_status = 0;
	while (virtio->common->device_status) {
		if (now_ms() > end)
			return complain(ETIMEDOUT, "the reset does not end");
		pause_us(100);
	}
	return 0;
}

/* Ask for some of the features that are offered; fails without those that are needed. */
static int virtio_negotiate(const struct virtio *virtio)
{
	uint64_t offered, wanted;

	virtio->common->device_feature_select = 0;
	offered = virtio->common->device_feature;
	virtio->common->device_feature_select = 1;
	offered |= (uint64_t)virtio->common->device_feature << 32;
	if (!(offered & VIRTIO_FEATURE(VIRTIO_F_ACCESS_PLATFORM)))
		return complain(
			ENOTSUP,
			"VIRTIO_F_ACCESS_PLATFORM is not offered: its DMA would go past the IOMMU");
	if (VIRTIO_NEEDED & ~offered)
		return complain(ENOTSUP, "features %#llx are not offered",
				VIRTIO_NEEDED & ~offered);
	wanted = VIRTIO_NEEDED;
	if (!virtio->state->device)
		wanted |= offered & VIRTIO_WELCOME;
	virtio->common->guest_feature_select = 0;
	virtio->common->guest_feature = wanted;
	virtio->common->guest_feature_select = 1;
	virtio->common->guest_feature = wanted >> 32;
	virtio_status(virtio, VIRTIO_CONFIG_S_FEATURES_OK);
	if (!(virtio->common->device_status & VIRTIO_CONFIG_S_FEATURES_OK))
		return complain(ENOTSUP, "features %#llx are refused",
				(unsigned long long)wanted);
	return 0;
}

/*
 * Learn how large the device is: capacity is what its structure begins with (5.2.4).
 * Blocks are sectors, as VIRTIO_BLK_F_BLK_SIZE is not asked for.
 */
static int virtio_learn_size(const struct virtio *virtio)
{
	struct drive_work *work = &virtio->state->work;
	volatile void *found = NULL;
	volatile uint32_t *capacity;
	uint8_t generation;
	int ret = virtio_reach(virtio, &virtio->state->config, &found);

	if (ret)
		return ret;
	capacity = found;
	do {
		generation = virtio->common->config_generation;
		work->blocks = capacity[0] | (uint64_t)capacity[1] << 32;
	} while (generation != virtio->common->config_generation);
	work->block_size = VIRTIO_SECTOR;
	return 0;
}

/*
 * Tell the device where its queue is (4.1.5.1.3), and whether it is to raise an
 * interrupt (4.1.5.1.2).
 */
static int virtio_queue(const struct virtio *virtio)
{
	volatile struct virtio_pci_common_cfg *common = virtio->common;
	struct virtio_memory *mem = virtio->mem;
	uint64_t desc = dma_iova(&virtio->dma, mem->desc);
	uint64_t avail = dma_iova(&virtio->dma, &mem->avail);
	uint64_t used = dma_iova(&virtio->dma, &mem->used);

	common->queue_select = 0;
	if (common->queue_size < VIRTIO_ENTRIES)
		return complain(ENOTSUP, "the queue has only %u entries",
				common->queue_size);
	common->queue_size = VIRTIO_ENTRIES;
	common->queue_msix_vector = virtio->state->work.interrupts ?
					    virtio->state->work.vector :
					    VIRTIO_MSI_NO_VECTOR;
	common->queue_desc_lo = desc;
	common->queue_desc_hi = desc >> 32;
	common->queue_avail_lo = avail;
	common->queue_avail_hi = avail >> 32;
	common->queue_used_lo = used;
	common->queue_used_hi = used >> 32;
	if (!virtio->state->work.interrupts)
		mem->avail.flags = VRING_AVAIL_F_NO_INTERRUPT;
	common->queue_enable = 1;
	return 0;
}

/* From here on @notify is no more than where queue 0 is notified (4.1.4.4). */
static int virtio_find_notify(const struct virtio *virtio)
{
	struct virtio_place *place = &virtio->state->notify;
	uint64_t at = (uint64_t)virtio->common->queue_notify_off *
		      virtio->state->notify_off_multiplier;

	if (at + sizeof(uint16_t) > place->length)
		return complain(EPROTO, "queue 0 cannot be notified");
	place->offset += at;
	place->length = sizeof(uint16_t);
	return 0;
}

/* Have the device driven, from a reset to DRIVER_OK (3.1.1). */
static int virtio_begin(struct virtio *virtio)
{
	int ret = virtio_find(virtio);

	if (!ret)
		ret = virtio_map(virtio);
	if (!ret)
		ret = virtio_reset(virtio);
	if (ret)
		return ret;
	virtio_status(virtio, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	virtio_status(virtio, VIRTIO_CONFIG_S_DRIVER);
	ret = virtio_negotiate(virtio);
	if (!ret && !virtio->state->device)
		ret = virtio_learn_size(virtio);
	if (!ret)
		ret = virtio_queue(virtio);
	if (!ret)
		ret = virtio_find_notify(virtio);
	if (!ret)
		ret = virtio_map(virtio);
	virtio_status(virtio,
		      ret ? VIRTIO_CONFIG_S_FAILED : VIRTIO_CONFIG_S_DRIVER_OK);
	return ret;
}

/* Make an entry available (2.7.13). */
static void virtio_avail(const struct virtio *virtio, uint16_t entry)
{
	struct virtio_memory *mem = virtio->mem;

	mem->avail_ring[virtio->state->avail++ % VIRTIO_ENTRIES] = entry;
	__atomic_store_n(&mem->avail.idx, virtio->state->avail,
			 __ATOMIC_RELEASE);
}

/* Add a part of a request to its table. */
static void virtio_part(struct virtio_request *request, int n, uint64_t iova,
			uint32_t len, uint16_t flags)
{
	request->table[n] = (struct vring_desc){
		.addr = iova,
		.len = len,
		.flags = flags,
		.next = n + 1,
	};
}

/*
 * Make a request available, and notify the device, unless it looks at
 * the queue anyway. A request for no bytes has no data.
 */
static void virtio_send(const struct virtio *virtio, int entry, uint32_t type,
			uint64_t sector, uint64_t iova, uint32_t len)
{
	struct virtio_memory *mem = virtio->mem;
	struct virtio_request *request = &mem->requests[entry];
	uint16_t in = type == VIRTIO_BLK_T_OUT ? 0 : VRING_DESC_F_WRITE;
	int parts = 0;

	request->header = (struct virtio_blk_outhdr){
		.type = type,
		.sector = sector,
	};
	request->status = 0xff;
	virtio_part(request, parts++, dma_iova(&virtio->dma, &request->header),
		    sizeof(request->header), VRING_DESC_F_NEXT);
	if (len)
		virtio_part(request, parts++, iova, len,
			    in | VRING_DESC_F_NEXT);
	virtio_part(request, parts++, dma_iova(&virtio->dma, &request->status),
		    sizeof(request->status), VRING_DESC_F_WRITE);
	mem->desc[entry] = (struct vring_desc){
		.addr = dma_iova(&virtio->dma, request->table),
		.len = parts * sizeof(struct vring_desc),
		.flags = VRING_DESC_F_INDIRECT,
	};
	virtio_avail(virtio, entry);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!(mem->used.flags & VRING_USED_F_NO_NOTIFY))
		*virtio->notify = 0;
}

/* Take the next request that the device has used (2.7.14), if there is one. */
static bool virtio_take(const struct virtio *virtio, struct drive_done *done)
{
	struct virtio_memory *mem = virtio->mem;
	uint16_t next = virtio->state->used;

	if (__atomic_load_n(&mem->used.idx, __ATOMIC_ACQUIRE) == next)
		return false;
	done->id = mem->used_ring[next % VIRTIO_ENTRIES].id;
	done->status = mem->requests[done->id % VIRTIO_ENTRIES].status;
	virtio->state->used++;
	return true;
}

/* virtio's name for what a slot is for */
static const uint32_t virtio_types[] = {
	[DRIVE_READ] = VIRTIO_BLK_T_IN,
	[DRIVE_WRITE] = VIRTIO_BLK_T_OUT,
	[DRIVE_FLUSH] = VIRTIO_BLK_T_FLUSH,
};

/* The driver of a drive that is in use */
static struct virtio virtio_of(const struct drive *drive)
{
	struct virtio virtio = { .dma = drive->dma };

	virtio_memory(&virtio);
	virtio_map(&virtio);
	return virtio;
}

/* Find all that commands for blocks need. */
static int virtio_drive_use(const struct object *drv, struct drive *drive)
{
	struct virtio virtio;
	int ret = virtio_use(drv, &virtio);

	if (ret)
		return ret;
	drive->dma = virtio.dma;
	drive->work = &virtio.state->work;
	drive->data = virtio.mem->data;
	return 0;
}

/* Make a slot's request. */
static void virtio_drive_submit(const struct drive *drive, int slot)
{
	const struct drive_slot *s = &drive->work->slots[slot];
	struct virtio virtio = virtio_of(drive);

	virtio_send(&virtio, slot, virtio_types[s->op], s->lba,
		    drive_data_iova(drive, slot), s->blocks * VIRTIO_SECTOR);
}

/* Take the next completion of a slot, and pass by those of other requests. */
static bool virtio_drive_complete(const struct drive *drive,
				  struct drive_done *done)
{
	struct virtio virtio = virtio_of(drive);

	while (virtio_take(&virtio, done)) {
		if (done->id != VIRTIO_OWN || !virtio.state->own_busy)
			return true;
		virtio.state->own_busy = 0;
	}
	return false;
}

/* A device that cannot go on says so, and does nothing more (2.1.1). */
static int virtio_drive_look(const struct drive *drive)
{
	struct virtio virtio = virtio_of(drive);

	return virtio.common->device_status & VIRTIO_CONFIG_S_NEEDS_RESET ?
		       complain(ENODEV, "the device needs a reset") :
		       0;
}

/*
 * QEMU translates the addresses of a request when it takes it, and those of the
 * used ring when it is done, whatever it was. Reads and writes that take turns
 * also are never done as one.
 */
static const struct drive_ops virtio_ops = {
	.use = virtio_drive_use,
	.submit = virtio_drive_submit,
	.complete = virtio_drive_complete,
	.look = virtio_drive_look,
	.mixed = DRIVE_WRITE,
};

/* Find the memory of a driver that is to be started; @size of it is cleared. */
static int virtio_new(struct virtio *virtio, const struct arg *a, size_t size)
{
	int ret = dma_find(a[0].o, sizeof(struct virtio_memory), &virtio->dma);

	if (!ret)
		ret = vfio_set_master(virtio->dma.dev, 1);
	if (ret)
		return ret;
	virtio_memory(virtio);
	memset(virtio->mem, 0, size);
	virtio->state->dma.iova = a[3].n;
	return 0;
}

static int cmd_virtio_start(const struct arg *a)
{
	struct virtio virtio;
	int ret = drive_setup(a, &virtio_ops);

	if (!ret)
		ret = virtio_new(&virtio, a,
				 offsetof(struct virtio_memory, data));
	if (ret)
		return ret;
	virtio.state->work.limit = VIRTIO_OWN;
	virtio.state->work.vector = a[4].n;
	virtio.state->work.interrupts = !!a[4].s;
	ret = virtio_begin(&virtio);
	if (ret)
		return ret;
	virtio.state->dma.magic = VIRTIO_MAGIC;
	drive_describe(&virtio.state->work);
	return 0;
}

static int cmd_virtio_adopt(const struct arg *a)
{
	struct virtio virtio;
	int ret = drive_setup(a, &virtio_ops);

	return ret ? ret : virtio_use(a[0].o, &virtio);
}

/*
 * Let the device write the last bytes of the page at an address of choice: its
 * ID (5.2.6), not a block, which could wait for others. Whether the bytes arrived
 * the device does not say. Work that is done meanwhile is in the account.
 */
static int cmd_virtio_write_to(const struct arg *a)
{
	uint64_t end = now_ms() + DRIVE_TIMEOUT_MS;
	struct virtio virtio;
	struct drive drive;
	int ret = virtio_use(a[0].o, &virtio);

	if (!ret)
		ret = drive_use(a[0].o, &drive);
	if (ret)
		return ret;
	if (virtio.state->own_busy)
		return complain(EBUSY, "the one before is not done");
	virtio.state->own_busy = 1;
	virtio_send(&virtio, VIRTIO_OWN, VIRTIO_BLK_T_GET_ID, 0,
		    a[1].n + DRIVE_PAGE - VIRTIO_BLK_ID_BYTES,
		    VIRTIO_BLK_ID_BYTES);
	while (!ret) {
		int reaped = drive_reap(&drive);

		if (reaped < 0 || !virtio.state->own_busy)
			return reaped < 0 ? reaped : 0;
		ret = virtio_drive_look(&drive);
		if (!ret && now_ms() > end)
			ret = complain(ETIMEDOUT, "no completion");
		pause_us(50);
	}
	return ret;
}

static int cmd_virtio_stop(const struct arg *a)
{
	struct virtio virtio;
	int ret = virtio_use(a[0].o, &virtio);

	if (ret)
		return ret;
	ret = virtio_reset(&virtio);
	virtio.state->dma.magic = 0;
	return ret ? ret : vfio_set_master(virtio.dma.dev, 0);
}

/* --- frames ------------------------------------------------------------------ */

/* Let the device write a frame into the buffer of an entry. */
static void vnet_offer(const struct virtio *virtio, uint32_t entry)
{
	struct virtio_memory *mem = virtio->mem;

	mem->desc[entry] = (struct vring_desc){
		.addr = dma_iova(&virtio->dma, mem->data[entry]),
		.len = DRIVE_PAGE,
		.flags = VRING_DESC_F_WRITE,
	};
	virtio_avail(virtio, entry);
}

/* Take all frames that are there. */
static void vnet_take(const struct virtio *virtio)
{
	struct frame_account *account = &virtio->state->account;
	struct virtio_memory *mem = virtio->mem;

	while (__atomic_load_n(&mem->used.idx, __ATOMIC_ACQUIRE) !=
	       virtio->state->used) {
		uint16_t next = virtio->state->used++ % VIRTIO_ENTRIES;
		const struct vring_used_elem *used = &mem->used_ring[next];
		uint32_t entry = used->id % VIRTIO_ENTRIES;
		struct frame f;

		memcpy(&f, mem->data[entry] + VNET_HEADER, sizeof(f));
		if (used->len > VNET_HEADER &&
		    frame_is_ours(&f, used->len - VNET_HEADER))
			frame_enter(account, &f);
		else
			account->foreign++;
		memset(mem->data[entry], 0, VNET_HEADER + sizeof(f));
		vnet_offer(virtio, entry);
	}
	*virtio->notify = 0;
}

/* Begin to receive, into memory that is empty. */
static int cmd_vnet_start(const struct arg *a)
{
	struct virtio virtio;
	int ret = dma_setup(a[0].o, &a[1], &a[2]);

	if (!ret)
		ret = virtio_new(&virtio, a, sizeof(struct virtio_memory));
	if (ret)
		return ret;
	virtio.state->device = VIRTIO_DEVICE_NET;
	for (uint32_t i = 0; i < VIRTIO_ENTRIES; i++)
		vnet_offer(&virtio, i);
	ret = virtio_begin(&virtio);
	if (ret)
		return ret;
	virtio.state->dma.magic = VIRTIO_MAGIC;
	*virtio.notify = 0;
	return 0;
}

static int cmd_vnet_adopt(const struct arg *a)
{
	struct virtio virtio;
	int ret = dma_setup(a[0].o, &a[1], &a[2]);

	return ret ? ret : virtio_use(a[0].o, &virtio);
}

/* From here on, frames come that count up from a number. */
static int cmd_vnet_rx_begin(const struct arg *a)
{
	struct virtio virtio;
	int ret = virtio_use(a[0].o, &virtio);

	if (ret)
		return ret;
	vnet_take(&virtio);
	virtio.state->account =
		(struct frame_account){ .first = a[1].n, .next = a[1].n };
	return 0;
}

/* Take what came; wait some time for the frame before number UNTIL, if given. */
static int cmd_vnet_rx_account(const struct arg *a)
{
	uint64_t end = now_ms() + a[2].n;
	struct virtio virtio;
	int ret = virtio_use(a[0].o, &virtio);

	if (ret)
		return ret;
	vnet_take(&virtio);
	while (virtio.state->account.next < a[1].n && now_ms() < end) {
		pause_us(50);
		vnet_take(&virtio);
	}
	frame_account_say(&virtio.state->account);
	return 0;
}

const struct command virtio_commands[] = {
	{ "virtio_start", "Noon|n", cmd_virtio_start,
	  "NEW DEVICE MEMFD IOVA [VECTOR]" },
	{ "virtio_adopt", "Noo", cmd_virtio_adopt, "NEW DEVICE MEMFD" },
	DRIVE_COMMANDS("virtio"),
	{ "virtio_write_to", "on", cmd_virtio_write_to, "VIRTIO IOVA" },
	{ "virtio_stop", "o", cmd_virtio_stop, "VIRTIO" },
	{ "vnet_start", "Noon", cmd_vnet_start, "NEW DEVICE MEMFD IOVA" },
	{ "vnet_adopt", "Noo", cmd_vnet_adopt, "NEW DEVICE MEMFD" },
	{ "vnet_rx_begin", "on", cmd_vnet_rx_begin, "VNET FIRST" },
	{ "vnet_rx_account", "o|nn", cmd_vnet_rx_account,
	  "VNET [UNTIL MILLISECONDS]" },
	{}
};
