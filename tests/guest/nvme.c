// SPDX-License-Identifier: GPL-2.0-only
/*
 * A small NVMe driver in user space, over VFIO. It polls, or sleeps until the drive
 * raises an interrupt.
 *
 * All of its state, the queues and the data are in one memfd: whoever has the
 * device and that memfd (another process, after a live update) goes on where
 * the one before stopped.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/nvme_ioctl.h>

#include "drive.h"
#include "guest.h"

#define NVME_MAGIC 0x6c75656e766d3031ULL

/* Registers */
#define NVME_CAP 0x00
#define NVME_CC 0x14
#define NVME_CSTS 0x1c
#define NVME_AQA 0x24
#define NVME_ASQ 0x28
#define NVME_ACQ 0x30
#define NVME_DOORBELLS 0x1000

#define NVME_CC_ENABLE 1
#define NVME_CC_ENTRY_SIZES ((6 << 16) | (4 << 20))
#define NVME_CSTS_READY 1
#define NVME_CSTS_FATAL 2

/* Commands */
#define NVME_ADMIN_CREATE_SQ 0x01
#define NVME_ADMIN_CREATE_CQ 0x05
#define NVME_ADMIN_IDENTIFY 0x06
#define NVME_ADMIN_VIRTUALIZATION 0x1c
#define NVME_IDENTIFY_SECONDARIES 0x15
#define NVME_CQ_INTERRUPTS 2
#define NVME_IO_FLUSH 0x00
#define NVME_IO_WRITE 0x01
#define NVME_IO_READ 0x02
#define NVME_IO_COMPARE 0x05

/* Virtualization Management: what to do, and what with */
#define NVME_PRIMARY_ASSIGN 0x1
#define NVME_SECONDARY_OFFLINE 0x7
#define NVME_SECONDARY_ASSIGN 0x8
#define NVME_SECONDARY_ONLINE 0x9
#define NVME_QUEUES 0
#define NVME_VECTORS 1

/* The memory's layout */
#define ADMIN_ENTRIES 64
#define IO_ENTRIES DRIVE_SLOTS
#define PAGE DRIVE_PAGE
#define STATE_SIZE (16 * PAGE)

struct nvme_sqe {
	uint8_t opcode;
	uint8_t flags;
	uint16_t id;
	uint32_t nsid;
	uint64_t reserved;
	uint64_t metadata;
	uint64_t prp1;
	uint64_t prp2;
	uint32_t cdw10;
	uint32_t cdw11;
	uint32_t cdw12;
	uint32_t cdw13;
	uint32_t cdw14;
	uint32_t cdw15;
};

struct nvme_cqe {
	uint32_t result;
	uint32_t reserved;
	uint16_t sq_head;
	uint16_t sq_id;
	uint16_t id;
	uint16_t status;
};

/* A virtual function's controller, as the physical function's describes it. */
struct nvme_secondary {
	uint16_t id;
	uint16_t primary;
	uint8_t online;
	uint8_t reserved[3];
	uint16_t vf;
	uint16_t queues;
	uint16_t vectors;
	uint8_t unused[18];
};

/* The first counts those that follow. */
struct nvme_secondaries {
	uint8_t count;
	uint8_t reserved[31];
	struct nvme_secondary list[127];
};

/* A queue pair's place: where we write next, where we read next. */
struct nvme_queue {
	uint32_t id;
	uint32_t entries;
	uint32_t tail;
	uint32_t head;
	uint32_t phase;
};

struct nvme_state {
	struct dma_state dma;
	uint32_t stride;
	uint32_t nsid;
	struct nvme_queue admin;
	struct nvme_queue io;
	struct drive_work work;
};

struct nvme_memory {
	union {
		struct nvme_state state;
		uint8_t state_pages[STATE_SIZE];
	};
	struct nvme_sqe admin_sq[ADMIN_ENTRIES];
	union {
		struct nvme_cqe admin_cq[ADMIN_ENTRIES];
		uint8_t admin_cq_page[PAGE];
	};
	uint8_t identify[PAGE];
	struct nvme_sqe io_sq[IO_ENTRIES];
	struct nvme_cqe io_cq[IO_ENTRIES];
	uint8_t data[IO_ENTRIES][PAGE];
};

_Static_assert(sizeof(struct nvme_sqe) == 64, "a submission has 64 bytes");
_Static_assert(sizeof(struct nvme_cqe) == 16, "a completion has 16 bytes");
_Static_assert(sizeof(struct nvme_secondaries) == PAGE, "a list has a page");
_Static_assert(sizeof(struct nvme_state) <= STATE_SIZE, "state fits its pages");
_Static_assert(offsetof(struct nvme_memory, io_cq) % PAGE == 0, "on a page");
_Static_assert(offsetof(struct nvme_memory, data) % PAGE == 0, "on a page");

/* The driver while a command runs. */
struct nvme {
	struct dma dma;
	struct nvme_memory *mem;
	struct nvme_state *state;
};

static uint64_t nvme_read64(const struct nvme *nvme, uint32_t reg)
{
	return reg_read32(&nvme->dma, reg) |
	       (uint64_t)reg_read32(&nvme->dma, reg + 4) << 32;
}

static void nvme_write64(const struct nvme *nvme, uint32_t reg, uint64_t val)
{
	reg_write32(&nvme->dma, reg, val);
	reg_write32(&nvme->dma, reg + 4, val >> 32);
}

/* Wait until the controller says that it is ready, or not. */
static int nvme_wait_ready(const struct nvme *nvme, uint32_t ready)
{
	uint64_t end = now_ms() + DRIVE_TIMEOUT_MS;

	while (now_ms() < end) {
		uint32_t csts = reg_read32(&nvme->dma, NVME_CSTS);

		if (csts & NVME_CSTS_FATAL)
			return complain(EIO, "CSTS is %#x", csts);
		if ((csts & NVME_CSTS_READY) == ready)
			return 0;
		pause_us(100);
	}
	return -ETIMEDOUT;
}

/* Tell the device a queue's new submission tail, or completion head. */
static void nvme_ring(const struct nvme *nvme, const struct nvme_queue *q,
		      bool completion)
{
	uint32_t reg =
		NVME_DOORBELLS + (2 * q->id + completion) * nvme->state->stride;

	reg_write32(&nvme->dma, reg, completion ? q->head : q->tail);
}

/* Put a command into a submission queue. */
static void nvme_submit(const struct nvme *nvme, struct nvme_queue *q,
			const struct nvme_sqe *sqe)
{
	struct nvme_sqe *sq = q->id ? nvme->mem->io_sq : nvme->mem->admin_sq;

	sq[q->tail] = *sqe;
	q->tail = (q->tail + 1) % q->entries;
	nvme_ring(nvme, q, false);
}

/* Take the next completion, if there is one. */
static bool nvme_complete(const struct nvme *nvme, struct nvme_queue *q,
			  struct nvme_cqe *cqe)
{
	struct nvme_cqe *cq = q->id ? nvme->mem->io_cq : nvme->mem->admin_cq;
	uint16_t status =
		__atomic_load_n(&cq[q->head].status, __ATOMIC_ACQUIRE);

	if ((status & 1) != q->phase)
		return false;
	*cqe = cq[q->head];
	q->head = (q->head + 1) % q->entries;
	if (!q->head)
		q->phase ^= 1;
	nvme_ring(nvme, q, true);
	return true;
}

/* Do one admin command and wait for it. */
static int nvme_admin(const struct nvme *nvme, const struct nvme_sqe *sqe)
{
	uint64_t end = now_ms() + DRIVE_TIMEOUT_MS;
	struct nvme_cqe cqe;

	nvme_submit(nvme, &nvme->state->admin, sqe);
	while (!nvme_complete(nvme, &nvme->state->admin, &cqe)) {
		if (now_ms() > end)
			return complain(ETIMEDOUT, "admin command %#x",
					sqe->opcode);
		pause_us(50);
	}
	if (cqe.status >> 1)
		return complain(EIO, "admin command %#x: status %#x",
				sqe->opcode, cqe.status >> 1);
	return 0;
}

/* Reset the controller and give it its admin queue. */
static int nvme_enable(const struct nvme *nvme)
{
	int ret;

	reg_write32(&nvme->dma, NVME_CC, 0);
	ret = nvme_wait_ready(nvme, 0);
	if (ret)
		return ret;
	reg_write32(&nvme->dma, NVME_AQA,
		    (ADMIN_ENTRIES - 1) << 16 | (ADMIN_ENTRIES - 1));
	nvme_write64(nvme, NVME_ASQ, dma_iova(&nvme->dma, nvme->mem->admin_sq));
	nvme_write64(nvme, NVME_ACQ, dma_iova(&nvme->dma, nvme->mem->admin_cq));
	reg_write32(&nvme->dma, NVME_CC, NVME_CC_ENTRY_SIZES | NVME_CC_ENABLE);
	return nvme_wait_ready(nvme, NVME_CSTS_READY);
}

/* Learn the size of the namespace and of its blocks. */
static int nvme_identify(const struct nvme *nvme)
{
	struct nvme_sqe sqe = {
		.opcode = NVME_ADMIN_IDENTIFY,
		.nsid = nvme->state->nsid,
		.prp1 = dma_iova(&nvme->dma, nvme->mem->identify),
	};
	const uint8_t *id = nvme->mem->identify;
	uint32_t format;
	int ret = nvme_admin(nvme, &sqe);

	if (ret)
		return ret;
	memcpy(&nvme->state->work.blocks, id, 8);
	memcpy(&format, id + 128 + 4 * (id[26] & 15), 4);
	nvme->state->work.block_size = 1U << (format >> 16 & 255);
	return 0;
}

/* Create the I/O queue pair. */
static int nvme_create_queues(const struct nvme *nvme)
{
	struct nvme_sqe cq = {
		.opcode = NVME_ADMIN_CREATE_CQ,
		.prp1 = dma_iova(&nvme->dma, nvme->mem->io_cq),
		.cdw10 = (IO_ENTRIES - 1) << 16 | nvme->state->io.id,
		.cdw11 = nvme->state->work.vector << 16 |
			 (nvme->state->work.interrupts ? NVME_CQ_INTERRUPTS :
							 0) |
			 1,
	};
	struct nvme_sqe sq = {
		.opcode = NVME_ADMIN_CREATE_SQ,
		.prp1 = dma_iova(&nvme->dma, nvme->mem->io_sq),
		.cdw10 = (IO_ENTRIES - 1) << 16 | nvme->state->io.id,
		.cdw11 = nvme->state->io.id << 16 | 1,
	};
	int ret = nvme_admin(nvme, &cq);

	return ret ? ret : nvme_admin(nvme, &sq);
}

/* Lay out empty memory. */
static void nvme_layout(const struct nvme *nvme, uint64_t iova, uint32_t queue)
{
	memset(nvme->mem, 0, offsetof(struct nvme_memory, data));
	nvme->state->dma.iova = iova;
	nvme->state->nsid = 1;
	/* One stays unused: a full queue looks empty. */
	nvme->state->work.limit = IO_ENTRIES - 1;
	nvme->state->stride = 4U << (nvme_read64(nvme, NVME_CAP) >> 32 & 15);
	nvme->state->admin =
		(struct nvme_queue){ .entries = ADMIN_ENTRIES, .phase = 1 };
	nvme->state->io = (struct nvme_queue){ .id = queue ? queue : 1,
					       .entries = IO_ENTRIES,
					       .phase = 1 };
	nvme->state->dma.magic = NVME_MAGIC;
}

/* Find the memory of a driver, once its device and memory are found. */
static void nvme_map(struct nvme *nvme)
{
	nvme->mem = nvme->dma.mem;
	nvme->state = &nvme->mem->state;
}

/* Find a driver that was started. */
static int nvme_use(const struct object *drv, struct nvme *nvme)
{
	int ret = dma_use(drv, sizeof(struct nvme_memory), NVME_MAGIC,
			  &nvme->dma);

	if (!ret)
		nvme_map(nvme);
	return ret;
}

/* NVMe's name for what a slot is for */
static const uint8_t nvme_opcodes[] = {
	[DRIVE_READ] = NVME_IO_READ,
	[DRIVE_WRITE] = NVME_IO_WRITE,
	[DRIVE_COMPARE] = NVME_IO_COMPARE,
	[DRIVE_FLUSH] = NVME_IO_FLUSH,
};

/* The driver of a drive that is in use */
static struct nvme nvme_of(const struct drive *drive)
{
	struct nvme nvme = { .dma = drive->dma };

	nvme_map(&nvme);
	return nvme;
}

/* Find all that commands for blocks need. */
static int nvme_drive_use(const struct object *drv, struct drive *drive)
{
	struct nvme nvme;
	int ret = nvme_use(drv, &nvme);

	if (ret)
		return ret;
	drive->dma = nvme.dma;
	drive->work = &nvme.state->work;
	drive->data = nvme.mem->data;
	return 0;
}

/* Put a slot's command into the I/O queue. */
static void nvme_drive_submit(const struct drive *drive, int slot)
{
	const struct drive_slot *s = &drive->work->slots[slot];
	struct nvme nvme = nvme_of(drive);
	struct nvme_sqe sqe = {
		.opcode = nvme_opcodes[s->op],
		.id = slot,
		.nsid = nvme.state->nsid,
	};

	if (s->blocks) {
		sqe.prp1 = drive_data_iova(drive, slot);
		sqe.cdw10 = s->lba;
		sqe.cdw11 = s->lba >> 32;
		sqe.cdw12 = s->blocks - 1;
	}
	nvme_submit(&nvme, &nvme.state->io, &sqe);
}

/* Take the next completion of the I/O queue. */
static bool nvme_drive_complete(const struct drive *drive,
				struct drive_done *done)
{
	struct nvme nvme = nvme_of(drive);
	struct nvme_cqe cqe;

	if (!nvme_complete(&nvme, &nvme.state->io, &cqe))
		return false;
	*done = (struct drive_done){ .id = cqe.id, .status = cqe.status >> 1 };
	return true;
}

/*
 * QEMU translates the addresses of a read when it takes the command, that of
 * its completion when it is done. A compare reads memory when it is done, too.
 */
static const struct drive_ops nvme_ops = {
	.use = nvme_drive_use,
	.submit = nvme_drive_submit,
	.complete = nvme_drive_complete,
	.mixed = DRIVE_COMPARE,
};

static int cmd_nvme_start(const struct arg *a)
{
	struct nvme nvme;
	int ret;

	ret = drive_setup(a, &nvme_ops);
	if (!ret)
		ret = dma_get(a[0].o, sizeof(struct nvme_memory), &nvme.dma);
	if (!ret)
		ret = vfio_set_master(nvme.dma.dev, 1);
	if (ret)
		return ret;
	nvme_map(&nvme);
	nvme_layout(&nvme, a[3].n, a[4].n);
	nvme.state->work.vector = a[5].n;
	nvme.state->work.interrupts = !!a[5].s;
	ret = nvme_enable(&nvme);
	if (!ret)
		ret = nvme_identify(&nvme);
	if (!ret)
		ret = nvme_create_queues(&nvme);
	if (!ret)
		drive_describe(&nvme.state->work);
	return ret;
}

static int cmd_nvme_adopt(const struct arg *a)
{
	struct nvme nvme;
	int ret = drive_setup(a, &nvme_ops);

	return ret ? ret : nvme_use(a[0].o, &nvme);
}

/* Work on another namespace from here on. */
static int cmd_nvme_namespace(const struct arg *a)
{
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);

	if (ret)
		return ret;
	nvme.state->nsid = a[1].n;
	ret = nvme_identify(&nvme);
	if (!ret)
		drive_describe(&nvme.state->work);
	return ret;
}

/* One command of Virtualization Management for a controller. */
static int nvme_virtualize(const struct nvme *nvme, uint32_t action,
			   uint32_t controller, uint32_t resource,
			   uint32_t count)
{
	struct nvme_sqe sqe = {
		.opcode = NVME_ADMIN_VIRTUALIZATION,
		.cdw10 = controller << 16 | resource << 8 | action,
		.cdw11 = count,
	};

	return nvme_admin(nvme, &sqe);
}

/* Find the controller of a virtual function in the list of all. */
static int nvme_pick_secondary(const struct nvme_secondaries *all, uint32_t vf,
			       struct nvme_secondary *found)
{
	for (int i = 0; i < all->count; i++) {
		*found = all->list[i];
		if (found->vf == vf + 1)
			return 0;
	}
	return complain(ENOENT, "there is no controller for VF %u", vf);
}

/* Find the controller of a virtual function. */
static int nvme_find_secondary(const struct nvme *nvme, uint32_t vf,
			       struct nvme_secondary *found)
{
	struct nvme_sqe sqe = {
		.opcode = NVME_ADMIN_IDENTIFY,
		.prp1 = dma_iova(&nvme->dma, nvme->mem->identify),
		.cdw10 = NVME_IDENTIFY_SECONDARIES,
	};
	int ret = nvme_admin(nvme, &sqe);

	return ret ? ret :
		     nvme_pick_secondary((void *)nvme->mem->identify, vf,
					 found);
}

/* Use a drive, for one of its virtual functions. */
static int nvme_use_secondary(const struct arg *a, uint32_t vf,
			      struct nvme *nvme, struct nvme_secondary *found)
{
	int ret = nvme_use(a->o, nvme);

	return ret ? ret : nvme_find_secondary(nvme, vf, found);
}

/*
 * Have no more queues and interrupts than the controller needs for itself: those
 * that virtual functions may have are its own at first. True after its next
 * reset as a PCI function.
 */
static int cmd_nvme_share(const struct arg *a)
{
	struct nvme_secondary vf = {};
	struct nvme nvme;
	int ret = nvme_use_secondary(&a[0], 0, &nvme, &vf);

	if (!ret)
		ret = nvme_virtualize(&nvme, NVME_PRIMARY_ASSIGN, vf.primary,
				      NVME_QUEUES, 0);
	if (!ret)
		ret = nvme_virtualize(&nvme, NVME_PRIMARY_ASSIGN, vf.primary,
				      NVME_VECTORS, 0);
	return ret;
}

/* Give a virtual function queues and interrupts, and let it begin. */
static int cmd_nvme_online(const struct arg *a)
{
	struct nvme_secondary vf = {};
	struct nvme nvme;
	int ret = nvme_use_secondary(&a[0], a[1].n, &nvme, &vf);

	if (!ret)
		ret = nvme_virtualize(&nvme, NVME_SECONDARY_ASSIGN, vf.id,
				      NVME_QUEUES, a[2].n);
	if (!ret)
		ret = nvme_virtualize(&nvme, NVME_SECONDARY_ASSIGN, vf.id,
				      NVME_VECTORS, a[3].n);
	return ret ? ret :
		     nvme_virtualize(&nvme, NVME_SECONDARY_ONLINE, vf.id, 0, 0);
}

/* Stop a virtual function's controller, and take all back that it was given. */
static int cmd_nvme_offline(const struct arg *a)
{
	struct nvme_secondary vf = {};
	struct nvme nvme;
	int ret = nvme_use_secondary(&a[0], a[1].n, &nvme, &vf);

	return ret ? ret :
		     nvme_virtualize(&nvme, NVME_SECONDARY_OFFLINE, vf.id, 0,
				     0);
}

/* Tell what a virtual function's controller has. */
static int cmd_nvme_secondary(const struct arg *a)
{
	struct nvme_secondary vf = {};
	struct nvme nvme;
	int ret = nvme_use_secondary(&a[0], a[1].n, &nvme, &vf);

	if (!ret)
		result("id=%u primary=%u online=%u queues=%u vectors=%u", vf.id,
		       vf.primary, vf.online, vf.queues, vf.vectors);
	return ret;
}

/* Have Linux's driver do an admin command; what the drive says goes to a page. */
static int native_admin(int fd, uint8_t opcode, uint32_t cdw10, uint32_t cdw11,
			void *page)
{
	struct nvme_admin_cmd cmd = {
		.opcode = opcode,
		.addr = (uintptr_t)page,
		.data_len = page ? PAGE : 0,
		.cdw10 = cdw10,
		.cdw11 = cdw11,
	};
	int status = ioctl(fd, NVME_IOCTL_ADMIN_CMD, &cmd);

	if (status < 0)
		return -errno;
	if (status)
		return complain(EIO, "admin command %#x: status %#x", opcode,
				status);
	return 0;
}

/* As nvme_virtualize() */
static int native_virtualize(int fd, uint32_t action, uint32_t controller,
			     uint32_t resource, uint32_t count)
{
	return native_admin(fd, NVME_ADMIN_VIRTUALIZATION,
			    controller << 16 | resource << 8 | action, count,
			    NULL);
}

/* As nvme_online does, where Linux's driver has the physical function. */
static int cmd_nvme_admit(const struct arg *a)
{
	struct nvme_secondaries all;
	struct nvme_secondary vf = {};
	int fd = open(a[0].s, O_RDWR | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = native_admin(fd, NVME_ADMIN_IDENTIFY, NVME_IDENTIFY_SECONDARIES,
			   0, &all);
	if (!ret)
		ret = nvme_pick_secondary(&all, a[1].n, &vf);
	if (!ret)
		ret = native_virtualize(fd, NVME_SECONDARY_ASSIGN, vf.id,
					NVME_QUEUES, a[2].n);
	if (!ret)
		ret = native_virtualize(fd, NVME_SECONDARY_ASSIGN, vf.id,
					NVME_VECTORS, a[3].n);
	if (!ret)
		ret = native_virtualize(fd, NVME_SECONDARY_ONLINE, vf.id, 0, 0);
	close(fd);
	return ret;
}

/*
 * Let the device write the last bytes of the page at an address of choice; what
 * is left of the data goes where it belongs. Identify, not a read: QEMU tries a
 * read that cannot be mapped again without end. Whether the bytes arrived the
 * device does not say.
 */
static int cmd_nvme_write_to(const struct arg *a)
{
	struct nvme_sqe sqe = {
		.opcode = NVME_ADMIN_IDENTIFY,
		.prp1 = a[1].n + PAGE - 16,
	};
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);

	if (ret)
		return ret;
	sqe.nsid = nvme.state->nsid;
	sqe.prp2 = dma_iova(&nvme.dma, nvme.mem->identify);
	return nvme_admin(&nvme, &sqe);
}

static int cmd_nvme_stop(const struct arg *a)
{
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);

	if (ret)
		return ret;
	reg_write32(&nvme.dma, NVME_CC, 0);
	ret = nvme_wait_ready(&nvme, 0);
	nvme.state->dma.magic = 0;
	return ret ? ret : vfio_set_master(nvme.dma.dev, 0);
}

const struct command nvme_commands[] = {
	{ "nvme_start", "Noon|nn", cmd_nvme_start,
	  "NEW DEVICE MEMFD IOVA [QUEUE [VECTOR]]" },
	{ "nvme_adopt", "Noo", cmd_nvme_adopt, "NEW DEVICE MEMFD" },
	{ "nvme_namespace", "on", cmd_nvme_namespace, "NVME NAMESPACE" },
	{ "nvme_share", "o", cmd_nvme_share, "NVME" },
	{ "nvme_online", "onnn", cmd_nvme_online, "NVME VF QUEUES VECTORS" },
	{ "nvme_admit", "snnn", cmd_nvme_admit,
	  "CONTROLLER VF QUEUES VECTORS" },
	{ "nvme_offline", "on", cmd_nvme_offline, "NVME VF" },
	{ "nvme_secondary", "on", cmd_nvme_secondary, "NVME VF" },
	DRIVE_COMMANDS("nvme"),
	{ "nvme_write_to", "on", cmd_nvme_write_to, "NVME IOVA" },
	{ "nvme_stop", "o", cmd_nvme_stop, "NVME" },
	{}
};
