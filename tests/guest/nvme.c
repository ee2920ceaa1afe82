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

#include "guest.h"

#define NVME_MAGIC 0x6c75656e766d3031ULL
#define NVME_TIMEOUT_MS 30000

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

/*
 * The memory's layout. The I/O queue is a long one, so that a slow drive has
 * work for as long as nobody is there to give it more; a command moves a page.
 */
#define ADMIN_ENTRIES 64
#define IO_ENTRIES 1024
#define PAGE 4096
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

/* A command under way; its number is the slot's. */
struct nvme_slot {
	uint64_t lba;
	uint64_t seed;
	uint64_t elsewhere;
	uint32_t blocks;
	uint8_t opcode;
	uint8_t busy;
	uint8_t check;
	uint8_t unused;
};

/*
 * What became of all commands: every one that was submitted is completed or
 * under way. A completion is strange when no such command was under way, and
 * then it counts as nothing else.
 */
struct nvme_account {
	uint64_t submitted;
	uint64_t completed;
	uint64_t errors;
	uint64_t wrong;
	uint64_t strange;
};

struct nvme_state {
	struct dma_state dma;
	uint64_t blocks;
	uint32_t block_size;
	uint32_t stride;
	uint32_t vector;
	uint32_t interrupts;
	uint32_t nsid;
	struct nvme_queue admin;
	struct nvme_queue io;
	struct nvme_account account;
	struct nvme_slot slots[IO_ENTRIES];
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
	uint64_t end = now_ms() + NVME_TIMEOUT_MS;

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
	uint64_t end = now_ms() + NVME_TIMEOUT_MS;
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
	memcpy(&nvme->state->blocks, id, 8);
	memcpy(&format, id + 128 + 4 * (id[26] & 15), 4);
	nvme->state->block_size = 1U << (format >> 16 & 255);
	return 0;
}

/* Create the I/O queue pair. */
static int nvme_create_queues(const struct nvme *nvme)
{
	struct nvme_sqe cq = {
		.opcode = NVME_ADMIN_CREATE_CQ,
		.prp1 = dma_iova(&nvme->dma, nvme->mem->io_cq),
		.cdw10 = (IO_ENTRIES - 1) << 16 | nvme->state->io.id,
		.cdw11 = nvme->state->vector << 16 |
			 (nvme->state->interrupts ? NVME_CQ_INTERRUPTS : 0) | 1,
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

/* Tell what there is to work with. */
static void nvme_describe(const struct nvme *nvme)
{
	result("blocks=%llu block_size=%u",
	       (unsigned long long)nvme->state->blocks,
	       nvme->state->block_size);
}

static int cmd_nvme_start(const struct arg *a)
{
	struct nvme nvme;
	int ret;

	ret = dma_setup(a[0].o, &a[1], &a[2]);
	if (!ret)
		ret = dma_get(a[0].o, sizeof(struct nvme_memory), &nvme.dma);
	if (!ret)
		ret = vfio_set_master(nvme.dma.dev, 1);
	if (ret)
		return ret;
	nvme_map(&nvme);
	nvme_layout(&nvme, a[3].n, a[4].n);
	nvme.state->vector = a[5].n;
	nvme.state->interrupts = !!a[5].s;
	ret = nvme_enable(&nvme);
	if (!ret)
		ret = nvme_identify(&nvme);
	if (!ret)
		ret = nvme_create_queues(&nvme);
	if (!ret)
		nvme_describe(&nvme);
	return ret;
}

static int cmd_nvme_adopt(const struct arg *a)
{
	struct nvme nvme;
	int ret = dma_setup(a[0].o, &a[1], &a[2]);

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
		nvme_describe(&nvme);
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

/* Fill a slot's data with the pattern of its blocks. */
static void slot_fill(const struct nvme *nvme, int slot)
{
	const struct nvme_slot *s = &nvme->state->slots[slot];
	uint64_t *word = (uint64_t *)nvme->mem->data[slot];

	for (uint64_t lba = s->lba; lba < s->lba + s->blocks; lba++)
		for (uint32_t o = 0; o < nvme->state->block_size; o += 8)
			*word++ = pattern(s->seed, lba, o);
}

/* Compare a slot's data with the pattern of its blocks. */
static int slot_check(const struct nvme *nvme, int slot)
{
	const struct nvme_slot *s = &nvme->state->slots[slot];
	const uint64_t *word = (uint64_t *)nvme->mem->data[slot];

	for (uint64_t lba = s->lba; lba < s->lba + s->blocks; lba++)
		for (uint32_t o = 0; o < nvme->state->block_size; o += 8)
			if (*word++ != pattern(s->seed, lba, o))
				return complain(EILSEQ,
						"block %llu differs at byte %u",
						(unsigned long long)lba, o);
	return 0;
}

/* A slot that is free, or -1. One stays unused: a full queue looks empty. */
static int slot_free(const struct nvme *nvme)
{
	for (int i = 0; i < IO_ENTRIES - 1; i++)
		if (!nvme->state->slots[i].busy)
			return i;
	return -1;
}

/* Send a slot's command to the device. */
static void slot_submit(const struct nvme *nvme, int slot)
{
	struct nvme_slot *s = &nvme->state->slots[slot];
	struct nvme_sqe sqe = {
		.opcode = s->opcode,
		.id = slot,
		.nsid = nvme->state->nsid,
	};

	if (s->blocks) {
		sqe.prp1 = s->elsewhere ?:
				   dma_iova(&nvme->dma, nvme->mem->data[slot]);
		sqe.cdw10 = s->lba;
		sqe.cdw11 = s->lba >> 32;
		sqe.cdw12 = s->blocks - 1;
	}
	s->busy = 1;
	nvme->state->account.submitted++;
	nvme_submit(nvme, &nvme->state->io, &sqe);
}

/* Take in one completion. */
static int slot_complete(const struct nvme *nvme, const struct nvme_cqe *cqe)
{
	struct nvme_account *account = &nvme->state->account;
	struct nvme_slot *s = &nvme->state->slots[cqe->id % IO_ENTRIES];
	int ret;

	if (cqe->id >= IO_ENTRIES || !s->busy) {
		account->strange++;
		return complain(EPROTO, "completion of command %u", cqe->id);
	}
	s->busy = 0;
	account->completed++;
	if (cqe->status >> 1) {
		account->errors++;
		return complain(EIO, "block %llu: status %#x",
				(unsigned long long)s->lba, cqe->status >> 1);
	}
	ret = s->check ? slot_check(nvme, cqe->id) : 0;
	if (ret)
		account->wrong++;
	return ret;
}

/*
 * Take all completions that are there. Returns how many, or the negative errno
 * of the first that is not as it should be; the account has them all.
 */
static int slots_reap(const struct nvme *nvme)
{
	struct nvme_cqe cqe;
	int count = 0, first = 0;

	while (nvme_complete(nvme, &nvme->state->io, &cqe)) {
		int ret = slot_complete(nvme, &cqe);

		count++;
		if (!first)
			first = ret;
	}
	return first ? first : count;
}

/* Sleep until the device raises the queue's interrupt, and take what there is then. */
static int slots_sleep(const struct nvme *nvme)
{
	struct object *dev = nvme->dma.dev;
	int ret = nvme->state->interrupts ?
			  vfio_irq_sleep(dev, nvme->state->vector) :
			  complain(EINVAL, "interrupts are not on");

	if (!ret)
		ret = slots_reap(nvme);
	if (ret < 0)
		return ret;
	return dev->intx ? vfio_intx_unmask(dev) : 0;
}

/* Wait for at least one completion: asleep where interrupts are on. */
static int slots_wait(const struct nvme *nvme)
{
	uint64_t end = now_ms() + NVME_TIMEOUT_MS;
	int ret;

	if (nvme->state->interrupts && nvme->dma.dev->nr_events)
		return slots_sleep(nvme);
	while (!(ret = slots_reap(nvme))) {
		if (now_ms() > end)
			return complain(ETIMEDOUT, "no completion");
		pause_us(50);
	}
	return ret < 0 ? ret : 0;
}

/* How many commands are under way? */
static unsigned int slots_busy(const struct nvme *nvme)
{
	unsigned int n = 0;

	for (int i = 0; i < IO_ENTRIES; i++)
		n += nvme->state->slots[i].busy;
	return n;
}

/* Wait for all commands. The first error counts, but no command is left. */
static int slots_drain(const struct nvme *nvme)
{
	int first = 0;

	while (slots_busy(nvme)) {
		int ret = slots_wait(nvme);

		if (ret && !first)
			first = ret;
		if (ret == -ETIMEDOUT)
			break;
	}
	return first;
}

/* Blocks of one command. */
static uint32_t page_blocks(const struct nvme *nvme, uint64_t left)
{
	uint32_t max = PAGE / nvme->state->block_size;

	return left < max ? left : max;
}

/*
 * Fill a slot for some patterned blocks and send it off. What is read goes
 * where nothing of it was before.
 */
static void slot_begin(const struct nvme *nvme, int slot, uint8_t opcode,
		       uint64_t lba, uint32_t blocks, uint64_t seed)
{
	nvme->state->slots[slot] = (struct nvme_slot){
		.lba = lba,
		.blocks = blocks,
		.seed = seed,
		.opcode = opcode,
		.check = opcode == NVME_IO_READ,
	};
	if (opcode == NVME_IO_READ)
		memset(nvme->mem->data[slot], 0, PAGE);
	else
		slot_fill(nvme, slot);
	slot_submit(nvme, slot);
}

/* A slot that is free, as soon as there is one, or a negative errno. */
static int slot_wait(const struct nvme *nvme)
{
	int slot, ret = 0;

	while (!ret && (slot = slot_free(nvme)) < 0)
		ret = slots_wait(nvme);
	return ret ? ret : slot;
}

/*
 * Send commands for patterned blocks, waiting only for free slots: with the
 * first opcode and the second in turn.
 */
static int nvme_pattern_io(const struct nvme *nvme, const uint8_t opcodes[2],
			   const struct arg *a)
{
	uint64_t lba = a[0].n, left = a[1].n;

	for (int turn = 0; left; turn ^= 1) {
		uint32_t blocks = page_blocks(nvme, left);
		int slot = slot_wait(nvme);

		if (slot < 0)
			return slot;
		slot_begin(nvme, slot, opcodes[turn], lba, blocks, a[2].n);
		lba += blocks;
		left -= blocks;
	}
	return 0;
}

static const uint8_t nvme_writes[] = { NVME_IO_WRITE, NVME_IO_WRITE };
static const uint8_t nvme_reads[] = { NVME_IO_READ, NVME_IO_READ };
/*
 * QEMU translates the addresses of a read when it takes the command, that of
 * its completion when it is done. A compare reads memory when it is done, too.
 */
static const uint8_t nvme_mixed[] = { NVME_IO_READ, NVME_IO_COMPARE };

/* Likewise, and wait for all of it. */
static int nvme_pattern_all(const struct arg *a, const uint8_t opcodes[2])
{
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);
	int drained;

	if (ret)
		return ret;
	ret = nvme_pattern_io(&nvme, opcodes, &a[1]);
	drained = slots_drain(&nvme);
	return ret ? ret : drained;
}

static int cmd_nvme_write(const struct arg *a)
{
	return nvme_pattern_all(a, nvme_writes);
}

static int cmd_nvme_read_check(const struct arg *a)
{
	return nvme_pattern_all(a, nvme_reads);
}

/* Begin commands and leave them under way. */
static int nvme_pattern_begin(const struct arg *a, const uint8_t opcodes[2])
{
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);

	if (!ret)
		ret = nvme_pattern_io(&nvme, opcodes, &a[1]);
	if (!ret)
		result("%u", slots_busy(&nvme));
	return ret;
}

static int cmd_nvme_queue_reads(const struct arg *a)
{
	return nvme_pattern_begin(a, nvme_reads);
}

static int cmd_nvme_queue_mixed(const struct arg *a)
{
	return nvme_pattern_begin(a, nvme_mixed);
}

/* Read the same blocks again and again, as fast as it goes, for some time. */
static int cmd_nvme_load(const struct arg *a)
{
	uint64_t before, end = now_ms() + a[4].n;
	struct nvme nvme;
	int drained, ret = nvme_use(a[0].o, &nvme);

	if (ret)
		return ret;
	before = nvme.state->account.completed;
	while (!ret && now_ms() < end)
		ret = nvme_pattern_io(&nvme, nvme_mixed, &a[1]);
	drained = slots_drain(&nvme);
	result("%llu",
	       (unsigned long long)nvme.state->account.completed - before);
	return ret ? ret : drained;
}

/*
 * Read blocks one after the other: each read begins when the interrupt of the one
 * before came. So one that is lost is the end. What is under way comes first.
 */
static int cmd_nvme_sleep(const struct arg *a)
{
	struct nvme nvme;
	uint64_t begun = 0;
	int ret = nvme_use(a[0].o, &nvme);

	while (!ret) {
		if (slots_busy(&nvme)) {
			ret = slots_sleep(&nvme);
			continue;
		}
		if (begun == a[3].n)
			break;
		slot_begin(&nvme, 0, NVME_IO_READ, begun % a[1].n, 1, a[2].n);
		begun++;
	}
	result("%llu", (unsigned long long)begun);
	return ret;
}

/* A hostile device's work: read a block again and again to where it has no memory. */
static int cmd_nvme_read_to(const struct arg *a)
{
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);

	for (uint64_t i = 0; !ret && i < a[2].n; i++) {
		int slot = slot_wait(&nvme);

		if (slot < 0)
			return slot;
		nvme.state->slots[slot] = (struct nvme_slot){
			.lba = a[1].n,
			.blocks = PAGE / nvme.state->block_size,
			.opcode = NVME_IO_READ,
			.elsewhere = a[3].n,
		};
		slot_submit(&nvme, slot);
	}
	return ret;
}

static int cmd_nvme_wait(const struct arg *a)
{
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);

	if (!ret)
		ret = slots_drain(&nvme);
	if (!ret)
		result("%llu",
		       (unsigned long long)nvme.state->account.completed);
	return ret;
}

/* Likewise; what went wrong, or is left, is in the account. */
static int cmd_nvme_settle(const struct arg *a)
{
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);

	if (ret)
		return ret;
	slots_drain(&nvme);
	result("%u", slots_busy(&nvme));
	return 0;
}

static int cmd_nvme_busy(const struct arg *a)
{
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);

	if (!ret)
		result("%u", slots_busy(&nvme));
	return ret;
}

/* Take what is there, good or bad, and tell what became of all commands. */
static int cmd_nvme_account(const struct arg *a)
{
	const struct nvme_account *account;
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);

	if (ret)
		return ret;
	slots_reap(&nvme);
	account = &nvme.state->account;
	result("submitted=%llu completed=%llu busy=%u errors=%llu wrong=%llu strange=%llu",
	       (unsigned long long)account->submitted,
	       (unsigned long long)account->completed, slots_busy(&nvme),
	       (unsigned long long)account->errors,
	       (unsigned long long)account->wrong,
	       (unsigned long long)account->strange);
	return 0;
}

/* Do one command in a free slot and wait for it. Returns the slot. */
static int nvme_one(const struct nvme *nvme, int slot, uint8_t opcode,
		    uint64_t lba, uint32_t blocks)
{
	nvme->state->slots[slot] = (struct nvme_slot){
		.lba = lba,
		.blocks = blocks,
		.opcode = opcode,
	};
	slot_submit(nvme, slot);
	return slots_drain(nvme);
}

static int cmd_nvme_flush(const struct arg *a)
{
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);

	if (!ret)
		ret = slots_drain(&nvme);
	return ret ? ret : nvme_one(&nvme, 0, NVME_IO_FLUSH, 0, 0);
}

/* Copy the bytes of one page between its slot's data and a file. */
static int page_copy(const struct nvme *nvme, uint8_t opcode, int fd,
		     uint64_t off, size_t len)
{
	void *data = nvme->mem->data[0];
	ssize_t n;

	if (opcode == NVME_IO_READ)
		n = pwrite(fd, data, len, off);
	else
		n = pread(fd, data, len, off);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

/* Move bytes between a file and blocks, one chunk after the other. */
static int nvme_file_io(const struct nvme *nvme, uint8_t opcode, uint64_t lba,
			int fd, uint64_t size)
{
	uint32_t block_size = nvme->state->block_size;
	int ret = slots_drain(nvme);

	for (uint64_t off = 0; !ret && off < size; off += PAGE) {
		size_t len = size - off < PAGE ? size - off : PAGE;
		uint32_t blocks = (len + block_size - 1) / block_size;

		memset(nvme->mem->data[0], 0, PAGE);
		if (opcode == NVME_IO_WRITE)
			ret = page_copy(nvme, opcode, fd, off, len);
		if (!ret)
			ret = nvme_one(nvme, 0, opcode, lba + off / block_size,
				       blocks);
		if (!ret && opcode == NVME_IO_READ)
			ret = page_copy(nvme, opcode, fd, off, len);
	}
	return ret;
}

static int cmd_nvme_write_file(const struct arg *a)
{
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);
	off_t size;
	int fd;

	if (ret)
		return ret;
	fd = open(a[2].s, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	size = lseek(fd, 0, SEEK_END);
	ret = nvme_file_io(&nvme, NVME_IO_WRITE, a[1].n, fd, size);
	close(fd);
	result("%lld", (long long)size);
	return ret;
}

static int cmd_nvme_read_file(const struct arg *a)
{
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);
	int fd;

	if (ret)
		return ret;
	fd = open(a[3].s, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	ret = nvme_file_io(&nvme, NVME_IO_READ, a[1].n, fd, a[2].n);
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
	{ "nvme_write", "onnn", cmd_nvme_write, "NVME LBA BLOCKS SEED" },
	{ "nvme_read_check", "onnn", cmd_nvme_read_check,
	  "NVME LBA BLOCKS SEED" },
	{ "nvme_queue_reads", "onnn", cmd_nvme_queue_reads,
	  "NVME LBA BLOCKS SEED" },
	{ "nvme_queue_mixed", "onnn", cmd_nvme_queue_mixed,
	  "NVME LBA BLOCKS SEED" },
	{ "nvme_load", "onnnn", cmd_nvme_load,
	  "NVME LBA BLOCKS SEED MILLISECONDS" },
	{ "nvme_sleep", "onnn", cmd_nvme_sleep, "NVME BLOCKS SEED COUNT" },
	{ "nvme_read_to", "onnn", cmd_nvme_read_to, "NVME LBA COUNT IOVA" },
	{ "nvme_account", "o", cmd_nvme_account, "NVME" },
	{ "nvme_write_to", "on", cmd_nvme_write_to, "NVME IOVA" },
	{ "nvme_busy", "o", cmd_nvme_busy, "NVME" },
	{ "nvme_wait", "o", cmd_nvme_wait, "NVME" },
	{ "nvme_settle", "o", cmd_nvme_settle, "NVME" },
	{ "nvme_flush", "o", cmd_nvme_flush, "NVME" },
	{ "nvme_write_file", "ons", cmd_nvme_write_file, "NVME LBA PATH" },
	{ "nvme_read_file", "onns", cmd_nvme_read_file, "NVME LBA BYTES PATH" },
	{ "nvme_stop", "o", cmd_nvme_stop, "NVME" },
	{}
};
