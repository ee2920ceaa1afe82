// SPDX-License-Identifier: GPL-2.0-only
/*
 * A small NVMe driver in user space, over VFIO, polling.
 *
 * All of its state, the queues and the data are in one memfd: whoever has the
 * device and that memfd (another process, after a live update) goes on where
 * the one before stopped.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

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
#define NVME_IO_FLUSH 0x00
#define NVME_IO_WRITE 0x01
#define NVME_IO_READ 0x02

/* The memory's layout */
#define ENTRIES 64
#define PAGE 4096
#define CHUNK 65536
#define PRPS (CHUNK / PAGE)

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

/* A queue pair's place: where we write next, where we read next. */
struct nvme_queue {
	uint32_t id;
	uint32_t tail;
	uint32_t head;
	uint32_t phase;
};

/* A command under way; its number is the slot's. */
struct nvme_slot {
	uint64_t lba;
	uint64_t seed;
	uint32_t blocks;
	uint8_t opcode;
	uint8_t busy;
	uint8_t check;
	uint8_t unused;
};

struct nvme_state {
	uint64_t magic;
	uint64_t iova;
	uint64_t blocks;
	uint32_t block_size;
	uint32_t stride;
	struct nvme_queue admin;
	struct nvme_queue io;
	struct nvme_slot slots[ENTRIES];
	uint64_t completed;
};

struct nvme_memory {
	union {
		struct nvme_state state;
		uint8_t state_pages[PAGE];
	};
	struct nvme_sqe admin_sq[ENTRIES];
	union {
		struct nvme_cqe admin_cq[ENTRIES];
		uint8_t admin_cq_page[PAGE];
	};
	uint8_t identify[PAGE];
	struct nvme_sqe io_sq[ENTRIES];
	union {
		struct nvme_cqe io_cq[ENTRIES];
		uint8_t io_cq_page[PAGE];
	};
	uint64_t prps[ENTRIES][PRPS];
	uint8_t data[ENTRIES][CHUNK] __attribute__((aligned(PAGE)));
};

_Static_assert(sizeof(struct nvme_sqe) == 64, "a submission has 64 bytes");
_Static_assert(sizeof(struct nvme_cqe) == 16, "a completion has 16 bytes");
_Static_assert(sizeof(struct nvme_state) <= PAGE, "state fits in its page");

/* The driver while a command runs. */
struct nvme {
	struct dma dma;
	struct nvme_memory *mem;
	struct nvme_state *state;
};

/* Address of a part of the memory as the device sees it. */
static uint64_t nvme_iova(const struct nvme *nvme, const void *part)
{
	return nvme->state->iova + ((const uint8_t *)part - nvme->dma.mem);
}

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
	q->tail = (q->tail + 1) % ENTRIES;
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
	q->head = (q->head + 1) % ENTRIES;
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
	reg_write32(&nvme->dma, NVME_AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
	nvme_write64(nvme, NVME_ASQ, nvme_iova(nvme, nvme->mem->admin_sq));
	nvme_write64(nvme, NVME_ACQ, nvme_iova(nvme, nvme->mem->admin_cq));
	reg_write32(&nvme->dma, NVME_CC, NVME_CC_ENTRY_SIZES | NVME_CC_ENABLE);
	return nvme_wait_ready(nvme, NVME_CSTS_READY);
}

/* Learn the size of namespace 1 and of its blocks. */
static int nvme_identify(const struct nvme *nvme)
{
	struct nvme_sqe sqe = {
		.opcode = NVME_ADMIN_IDENTIFY,
		.nsid = 1,
		.prp1 = nvme_iova(nvme, nvme->mem->identify),
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
		.prp1 = nvme_iova(nvme, nvme->mem->io_cq),
		.cdw10 = (ENTRIES - 1) << 16 | 1,
		.cdw11 = 1,
	};
	struct nvme_sqe sq = {
		.opcode = NVME_ADMIN_CREATE_SQ,
		.prp1 = nvme_iova(nvme, nvme->mem->io_sq),
		.cdw10 = (ENTRIES - 1) << 16 | 1,
		.cdw11 = 1 << 16 | 1,
	};
	int ret = nvme_admin(nvme, &cq);

	return ret ? ret : nvme_admin(nvme, &sq);
}

/* Lay out empty memory. */
static void nvme_layout(const struct nvme *nvme, uint64_t iova)
{
	memset(nvme->mem, 0, offsetof(struct nvme_memory, data));
	nvme->state->iova = iova;
	nvme->state->stride = 4U << (nvme_read64(nvme, NVME_CAP) >> 32 & 15);
	nvme->state->admin.phase = 1;
	nvme->state->io.id = 1;
	nvme->state->io.phase = 1;
	for (int slot = 0; slot < ENTRIES; slot++)
		for (int i = 0; i < PRPS - 1; i++)
			nvme->mem->prps[slot][i] = nvme_iova(
				nvme, nvme->mem->data[slot] + (i + 1) * PAGE);
	nvme->state->magic = NVME_MAGIC;
}

/* Find the driver's device and memory. */
static int nvme_open(const struct object *drv, struct nvme *nvme)
{
	int ret = dma_get(drv, sizeof(struct nvme_memory), &nvme->dma);

	if (ret)
		return ret;
	nvme->mem = (struct nvme_memory *)nvme->dma.mem;
	nvme->state = &nvme->mem->state;
	return 0;
}

/* Likewise, for a command that needs a controller that was started. */
static int nvme_use(const struct object *drv, struct nvme *nvme)
{
	int ret = nvme_open(drv, nvme);

	if (!ret && nvme->state->magic != NVME_MAGIC)
		ret = complain(EINVAL, "no driver state in this memory");
	return ret;
}

static int cmd_nvme_start(const struct arg *a)
{
	struct nvme nvme;
	int ret;

	ret = dma_setup(a[0].o, &a[1], &a[2]);
	if (!ret)
		ret = nvme_open(a[0].o, &nvme);
	if (!ret)
		ret = vfio_set_master(nvme.dma.dev, 1);
	if (ret)
		return ret;
	nvme_layout(&nvme, a[3].n);
	ret = nvme_enable(&nvme);
	if (!ret)
		ret = nvme_identify(&nvme);
	if (!ret)
		ret = nvme_create_queues(&nvme);
	if (!ret)
		result("blocks=%llu block_size=%u",
		       (unsigned long long)nvme.state->blocks,
		       nvme.state->block_size);
	return ret;
}

static int cmd_nvme_adopt(const struct arg *a)
{
	struct nvme nvme;
	int ret = dma_setup(a[0].o, &a[1], &a[2]);

	return ret ? ret : nvme_use(a[0].o, &nvme);
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
	for (int i = 0; i < ENTRIES - 1; i++)
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
		.nsid = 1,
	};

	if (s->blocks) {
		size_t bytes = (size_t)s->blocks * nvme->state->block_size;

		sqe.prp1 = nvme_iova(nvme, nvme->mem->data[slot]);
		if (bytes > 2 * PAGE)
			sqe.prp2 = nvme_iova(nvme, nvme->mem->prps[slot]);
		else if (bytes > PAGE)
			sqe.prp2 = sqe.prp1 + PAGE;
		sqe.cdw10 = s->lba;
		sqe.cdw11 = s->lba >> 32;
		sqe.cdw12 = s->blocks - 1;
	}
	s->busy = 1;
	nvme_submit(nvme, &nvme->state->io, &sqe);
}

/* Take completions that are there. Returns how many, or a negative errno. */
static int slots_reap(const struct nvme *nvme)
{
	struct nvme_cqe cqe;
	int count = 0;

	while (nvme_complete(nvme, &nvme->state->io, &cqe)) {
		struct nvme_slot *s;
		int ret;

		if (cqe.id >= ENTRIES || !nvme->state->slots[cqe.id].busy)
			return complain(EPROTO, "completion of command %u",
					cqe.id);
		s = &nvme->state->slots[cqe.id];
		s->busy = 0;
		nvme->state->completed++;
		count++;
		if (cqe.status >> 1)
			return complain(EIO, "block %llu: status %#x",
					(unsigned long long)s->lba,
					cqe.status >> 1);
		ret = s->check ? slot_check(nvme, cqe.id) : 0;
		if (ret)
			return ret;
	}
	return count;
}

/* Wait for at least one completion. */
static int slots_wait(const struct nvme *nvme)
{
	uint64_t end = now_ms() + NVME_TIMEOUT_MS;
	int ret;

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

	for (int i = 0; i < ENTRIES; i++)
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
static uint32_t chunk_blocks(const struct nvme *nvme, uint64_t left)
{
	uint32_t max = CHUNK / nvme->state->block_size;

	return left < max ? left : max;
}

/* Send reads or writes of patterned blocks, waiting only for free slots. */
static int nvme_pattern_io(const struct nvme *nvme, uint8_t opcode,
			   const struct arg *a)
{
	uint64_t lba = a[0].n, left = a[1].n;

	while (left) {
		int slot = slot_free(nvme);

		if (slot < 0) {
			int ret = slots_wait(nvme);

			if (ret)
				return ret;
			continue;
		}
		nvme->state->slots[slot] = (struct nvme_slot){
			.lba = lba,
			.blocks = chunk_blocks(nvme, left),
			.seed = a[2].n,
			.opcode = opcode,
			.check = opcode == NVME_IO_READ,
		};
		lba += nvme->state->slots[slot].blocks;
		left -= nvme->state->slots[slot].blocks;
		if (opcode == NVME_IO_WRITE)
			slot_fill(nvme, slot);
		slot_submit(nvme, slot);
	}
	return 0;
}

/* Likewise, and wait for all of it. */
static int nvme_pattern_all(const struct arg *a, uint8_t opcode)
{
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);
	int drained;

	if (ret)
		return ret;
	ret = nvme_pattern_io(&nvme, opcode, &a[1]);
	drained = slots_drain(&nvme);
	return ret ? ret : drained;
}

static int cmd_nvme_write(const struct arg *a)
{
	return nvme_pattern_all(a, NVME_IO_WRITE);
}

static int cmd_nvme_read_check(const struct arg *a)
{
	return nvme_pattern_all(a, NVME_IO_READ);
}

static int cmd_nvme_queue_reads(const struct arg *a)
{
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);

	if (!ret)
		ret = nvme_pattern_io(&nvme, NVME_IO_READ, &a[1]);
	if (!ret)
		result("%u", slots_busy(&nvme));
	return ret;
}

static int cmd_nvme_wait(const struct arg *a)
{
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);

	if (!ret)
		ret = slots_drain(&nvme);
	if (!ret)
		result("%llu", (unsigned long long)nvme.state->completed);
	return ret;
}

static int cmd_nvme_busy(const struct arg *a)
{
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);

	if (!ret)
		result("%u", slots_busy(&nvme));
	return ret;
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

/* Copy the bytes of one chunk between its slot's data and a file. */
static int chunk_copy(const struct nvme *nvme, uint8_t opcode, int fd,
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

	for (uint64_t off = 0; !ret && off < size; off += CHUNK) {
		size_t len = size - off < CHUNK ? size - off : CHUNK;
		uint32_t blocks = (len + block_size - 1) / block_size;

		memset(nvme->mem->data[0], 0, CHUNK);
		if (opcode == NVME_IO_WRITE)
			ret = chunk_copy(nvme, opcode, fd, off, len);
		if (!ret)
			ret = nvme_one(nvme, 0, opcode, lba + off / block_size,
				       blocks);
		if (!ret && opcode == NVME_IO_READ)
			ret = chunk_copy(nvme, opcode, fd, off, len);
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

static int cmd_nvme_stop(const struct arg *a)
{
	struct nvme nvme;
	int ret = nvme_use(a[0].o, &nvme);

	if (ret)
		return ret;
	reg_write32(&nvme.dma, NVME_CC, 0);
	ret = nvme_wait_ready(&nvme, 0);
	nvme.state->magic = 0;
	return ret ? ret : vfio_set_master(nvme.dma.dev, 0);
}

const struct command nvme_commands[] = {
	{ "nvme_start", "Noon", cmd_nvme_start, "NEW DEVICE MEMFD IOVA" },
	{ "nvme_adopt", "Noo", cmd_nvme_adopt, "NEW DEVICE MEMFD" },
	{ "nvme_write", "onnn", cmd_nvme_write, "NVME LBA BLOCKS SEED" },
	{ "nvme_read_check", "onnn", cmd_nvme_read_check,
	  "NVME LBA BLOCKS SEED" },
	{ "nvme_queue_reads", "onnn", cmd_nvme_queue_reads,
	  "NVME LBA BLOCKS SEED" },
	{ "nvme_busy", "o", cmd_nvme_busy, "NVME" },
	{ "nvme_wait", "o", cmd_nvme_wait, "NVME" },
	{ "nvme_flush", "o", cmd_nvme_flush, "NVME" },
	{ "nvme_write_file", "ons", cmd_nvme_write_file, "NVME LBA PATH" },
	{ "nvme_read_file", "onns", cmd_nvme_read_file, "NVME LBA BYTES PATH" },
	{ "nvme_stop", "o", cmd_nvme_stop, "NVME" },
	{}
};
