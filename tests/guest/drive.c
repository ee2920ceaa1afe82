// SPDX-License-Identifier: GPL-2.0-only
/*
 * Commands for the blocks of a drive, whatever its driver is.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "drive.h"

/**
 * drive_setup() - begin a driver, as dma_setup() does
 * @a: its object, the device and the memfd
 * @ops: what the driver does
 *
 * Return: 0 or a negative errno
 */
int drive_setup(const struct arg *a, const struct drive_ops *ops)
{
	int ret = dma_setup(a[0].o, &a[1], &a[2]);
	struct dma_driver *driver = a[0].o->driver;

	if (!ret)
		driver->drive = ops;
	return ret;
}

/**
 * drive_use() - find a drive whose driver was started
 * @drv: the driver's object
 * @drive: what was found
 *
 * Return: 0 or a negative errno
 */
int drive_use(const struct object *drv, struct drive *drive)
{
	const struct dma_driver *driver = drv->driver;

	if (!driver || !driver->drive)
		return complain(EINVAL, "%s is no driver of a drive",
				drv->name);
	drive->ops = driver->drive;
	return drive->ops->use(drv, drive);
}

/** drive_describe() - tell what there is to work with. */
void drive_describe(const struct drive_work *work)
{
	result("blocks=%llu block_size=%u", (unsigned long long)work->blocks,
	       work->block_size);
}

/** drive_data_iova() - where the drive finds or leaves a slot's data. */
uint64_t drive_data_iova(const struct drive *drive, int slot)
{
	return drive->work->slots[slot].elsewhere ?:
		       dma_iova(&drive->dma, drive->data[slot]);
}

/* Fill a slot's data with the pattern of its blocks. */
static void slot_fill(const struct drive *drive, int slot)
{
	const struct drive_slot *s = &drive->work->slots[slot];
	uint64_t *word = (uint64_t *)drive->data[slot];

	for (uint64_t lba = s->lba; lba < s->lba + s->blocks; lba++)
		for (uint32_t o = 0; o < drive->work->block_size; o += 8)
			*word++ = pattern(s->seed, lba, o);
}

/* Compare a slot's data with the pattern of its blocks. */
static int slot_check(const struct drive *drive, int slot)
{
	const struct drive_slot *s = &drive->work->slots[slot];
	const uint64_t *word = (uint64_t *)drive->data[slot];

	for (uint64_t lba = s->lba; lba < s->lba + s->blocks; lba++)
		for (uint32_t o = 0; o < drive->work->block_size; o += 8)
			if (*word++ != pattern(s->seed, lba, o))
				return complain(EILSEQ,
						"block %llu differs at byte %u",
						(unsigned long long)lba, o);
	return 0;
}

/* A slot that is free, or -1. */
static int slot_free(const struct drive *drive)
{
	for (uint32_t i = 0; i < drive->work->limit; i++)
		if (!drive->work->slots[i].busy)
			return i;
	return -1;
}

/* Send a slot's command to the device. */
static void slot_submit(const struct drive *drive, int slot)
{
	drive->work->slots[slot].busy = 1;
	drive->work->account.submitted++;
	drive->ops->submit(drive, slot);
}

/* Take in one completion. */
static int slot_complete(const struct drive *drive,
			 const struct drive_done *done)
{
	struct drive_account *account = &drive->work->account;
	struct drive_slot *s = &drive->work->slots[done->id % DRIVE_SLOTS];
	int ret;

	if (done->id >= DRIVE_SLOTS || !s->busy) {
		account->strange++;
		return complain(EPROTO, "completion of command %u", done->id);
	}
	s->busy = 0;
	account->completed++;
	if (done->status) {
		account->errors++;
		return complain(EIO, "block %llu: status %#x",
				(unsigned long long)s->lba, done->status);
	}
	ret = s->check ? slot_check(drive, done->id) : 0;
	if (ret)
		account->wrong++;
	return ret;
}

/**
 * drive_reap() - take all completions that are there
 * @drive: the drive
 *
 * Return: how many, or the negative errno of the first that is not as it should
 * be; the account has them all
 */
int drive_reap(const struct drive *drive)
{
	struct drive_done done;
	int count = 0, first = 0;

	while (drive->ops->complete(drive, &done)) {
		int ret = slot_complete(drive, &done);

		count++;
		if (!first)
			first = ret;
	}
	return first ? first : count;
}

/* Sleep until the device raises the queue's interrupt, and take what there is then. */
static int drive_sleep(const struct drive *drive)
{
	struct object *dev = drive->dma.dev;
	int ret = drive->work->interrupts ?
			  vfio_irq_sleep(dev, drive->work->vector) :
			  complain(EINVAL, "interrupts are not on");

	if (!ret)
		ret = drive_reap(drive);
	if (ret < 0)
		return ret;
	return dev->intx ? vfio_intx_unmask(dev) : 0;
}

/* Wait for at least one completion: asleep where interrupts are on. */
static int drive_wait(const struct drive *drive)
{
	uint64_t end = now_ms() + DRIVE_TIMEOUT_MS;
	int ret;

	if (drive->work->interrupts && drive->dma.dev->nr_events)
		return drive_sleep(drive);
	while (!(ret = drive_reap(drive))) {
		ret = drive->ops->look ? drive->ops->look(drive) : 0;
		if (ret)
			return ret;
		if (now_ms() > end)
			return complain(ETIMEDOUT, "no completion");
		pause_us(50);
	}
	return ret < 0 ? ret : 0;
}

/* How many commands are under way? */
static unsigned int drive_busy(const struct drive *drive)
{
	unsigned int n = 0;

	for (int i = 0; i < DRIVE_SLOTS; i++)
		n += drive->work->slots[i].busy;
	return n;
}

/* Wait for all commands. The first error counts, but no command is left. */
static int drive_drain(const struct drive *drive)
{
	int first = 0;

	while (drive_busy(drive)) {
		int ret = drive_wait(drive);

		if (ret && !first)
			first = ret;
		if (ret == -ETIMEDOUT || ret == -ENODEV)
			break;
	}
	return first;
}

/* Blocks of one command. */
static uint32_t page_blocks(const struct drive *drive, uint64_t left)
{
	uint32_t max = DRIVE_PAGE / drive->work->block_size;

	return left < max ? left : max;
}

/*
 * Fill a slot for some patterned blocks and send it off. What is read goes
 * where nothing of it was before.
 */
static void slot_begin(const struct drive *drive, int slot, enum drive_op op,
		       uint64_t lba, uint32_t blocks, uint64_t seed)
{
	drive->work->slots[slot] = (struct drive_slot){
		.lba = lba,
		.blocks = blocks,
		.seed = seed,
		.op = op,
		.check = op == DRIVE_READ,
	};
	if (op == DRIVE_READ)
		memset(drive->data[slot], 0, DRIVE_PAGE);
	else
		slot_fill(drive, slot);
	slot_submit(drive, slot);
}

/* A slot that is free, as soon as there is one, or a negative errno. */
static int slot_wait(const struct drive *drive)
{
	int slot, ret = 0;

	while (!ret && (slot = slot_free(drive)) < 0)
		ret = drive_wait(drive);
	return ret ? ret : slot;
}

/*
 * Send commands for patterned blocks, waiting only for free slots: of the first
 * kind and the second in turn.
 */
static int drive_pattern_io(const struct drive *drive, enum drive_op first,
			    enum drive_op second, const struct arg *a)
{
	uint64_t lba = a[0].n, left = a[1].n;

	for (int turn = 0; left; turn ^= 1) {
		uint32_t blocks = page_blocks(drive, left);
		int slot = slot_wait(drive);

		if (slot < 0)
			return slot;
		slot_begin(drive, slot, turn ? second : first, lba, blocks,
			   a[2].n);
		lba += blocks;
		left -= blocks;
	}
	return 0;
}

/* Likewise, of one kind, and wait for all of it. */
static int drive_pattern_all(const struct arg *a, enum drive_op op)
{
	struct drive drive;
	int ret = drive_use(a[0].o, &drive);
	int drained;

	if (ret)
		return ret;
	ret = drive_pattern_io(&drive, op, op, &a[1]);
	drained = drive_drain(&drive);
	return ret ? ret : drained;
}

/** cmd_drive_write() - write patterned blocks. */
int cmd_drive_write(const struct arg *a)
{
	return drive_pattern_all(a, DRIVE_WRITE);
}

/** cmd_drive_read_check() - read blocks, and compare them with the pattern. */
int cmd_drive_read_check(const struct arg *a)
{
	return drive_pattern_all(a, DRIVE_READ);
}

/* Begin commands and leave them under way. */
static int drive_pattern_begin(const struct arg *a, bool mixed)
{
	struct drive drive;
	int ret = drive_use(a[0].o, &drive);

	if (!ret)
		ret = drive_pattern_io(&drive, DRIVE_READ,
				       mixed ? drive.ops->mixed : DRIVE_READ,
				       &a[1]);
	if (!ret)
		result("%u", drive_busy(&drive));
	return ret;
}

/** cmd_drive_queue_reads() - begin to read blocks. */
int cmd_drive_queue_reads(const struct arg *a)
{
	return drive_pattern_begin(a, false);
}

/** cmd_drive_queue_mixed() - begin to read blocks, and to do something else, in turn. */
int cmd_drive_queue_mixed(const struct arg *a)
{
	return drive_pattern_begin(a, true);
}

/** cmd_drive_load() - do that with the same blocks, as fast as it goes, for some time. */
int cmd_drive_load(const struct arg *a)
{
	uint64_t before, end = now_ms() + a[4].n;
	struct drive drive;
	int drained, ret = drive_use(a[0].o, &drive);

	if (ret)
		return ret;
	before = drive.work->account.completed;
	while (!ret && now_ms() < end)
		ret = drive_pattern_io(&drive, DRIVE_READ, drive.ops->mixed,
				       &a[1]);
	drained = drive_drain(&drive);
	result("%llu",
	       (unsigned long long)drive.work->account.completed - before);
	return ret ? ret : drained;
}

/**
 * cmd_drive_read_to() - a hostile device's work
 *
 * Read a block again and again to where the drive has no memory.
 */
int cmd_drive_read_to(const struct arg *a)
{
	struct drive drive;
	int ret = drive_use(a[0].o, &drive);

	for (uint64_t i = 0; !ret && i < a[2].n; i++) {
		int slot = slot_wait(&drive);

		if (slot < 0)
			return slot;
		drive.work->slots[slot] = (struct drive_slot){
			.lba = a[1].n,
			.blocks = page_blocks(&drive, UINT64_MAX),
			.op = DRIVE_READ,
			.elsewhere = a[3].n,
		};
		slot_submit(&drive, slot);
	}
	return ret;
}

/**
 * cmd_drive_sleep() - read blocks one after the other
 *
 * Each read begins when the interrupt of the one before came. So one that is lost
 * is the end. What is under way comes first.
 */
int cmd_drive_sleep(const struct arg *a)
{
	struct drive drive;
	uint64_t begun = 0;
	int ret = drive_use(a[0].o, &drive);

	while (!ret) {
		if (drive_busy(&drive)) {
			ret = drive_sleep(&drive);
			continue;
		}
		if (begun == a[3].n)
			break;
		slot_begin(&drive, 0, DRIVE_READ, begun % a[1].n, 1, a[2].n);
		begun++;
	}
	result("%llu", (unsigned long long)begun);
	return ret;
}

/** cmd_drive_wait() - wait for all that is under way. */
int cmd_drive_wait(const struct arg *a)
{
	struct drive drive;
	int ret = drive_use(a[0].o, &drive);

	if (!ret)
		ret = drive_drain(&drive);
	if (!ret)
		result("%llu",
		       (unsigned long long)drive.work->account.completed);
	return ret;
}

/** cmd_drive_settle() - likewise; what went wrong, or is left, is in the account. */
int cmd_drive_settle(const struct arg *a)
{
	struct drive drive;
	int ret = drive_use(a[0].o, &drive);

	if (ret)
		return ret;
	drive_drain(&drive);
	result("%u", drive_busy(&drive));
	return 0;
}

/** cmd_drive_busy() - tell how many commands are under way. */
int cmd_drive_busy(const struct arg *a)
{
	struct drive drive;
	int ret = drive_use(a[0].o, &drive);

	if (!ret)
		result("%u", drive_busy(&drive));
	return ret;
}

/** cmd_drive_account() - take what is there, good or bad; what became of all commands? */
int cmd_drive_account(const struct arg *a)
{
	const struct drive_account *account;
	struct drive drive;
	int ret = drive_use(a[0].o, &drive);

	if (ret)
		return ret;
	drive_reap(&drive);
	account = &drive.work->account;
	result("submitted=%llu completed=%llu busy=%u errors=%llu wrong=%llu strange=%llu",
	       (unsigned long long)account->submitted,
	       (unsigned long long)account->completed, drive_busy(&drive),
	       (unsigned long long)account->errors,
	       (unsigned long long)account->wrong,
	       (unsigned long long)account->strange);
	return 0;
}

/* Do one command in a free slot and wait for it. */
static int drive_one(const struct drive *drive, int slot, enum drive_op op,
		     uint64_t lba, uint32_t blocks)
{
	drive->work->slots[slot] = (struct drive_slot){
		.lba = lba,
		.blocks = blocks,
		.op = op,
	};
	slot_submit(drive, slot);
	return drive_drain(drive);
}

/** cmd_drive_flush() - have all that was written be where it stays. */
int cmd_drive_flush(const struct arg *a)
{
	struct drive drive;
	int ret = drive_use(a[0].o, &drive);

	if (!ret)
		ret = drive_drain(&drive);
	return ret ? ret : drive_one(&drive, 0, DRIVE_FLUSH, 0, 0);
}

/* Copy the bytes of one page between its slot's data and a file. */
static int page_copy(const struct drive *drive, enum drive_op op, int fd,
		     uint64_t off, size_t len)
{
	void *data = drive->data[0];
	ssize_t n;

	if (op == DRIVE_READ)
		n = pwrite(fd, data, len, off);
	else
		n = pread(fd, data, len, off);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

/* Move bytes between a file and blocks, one chunk after the other. */
static int drive_file_io(const struct drive *drive, enum drive_op op,
			 uint64_t lba, int fd, uint64_t size)
{
	uint32_t block_size = drive->work->block_size;
	int ret = drive_drain(drive);

	for (uint64_t off = 0; !ret && off < size; off += DRIVE_PAGE) {
		size_t len = size - off < DRIVE_PAGE ? size - off : DRIVE_PAGE;
		uint32_t blocks = (len + block_size - 1) / block_size;

		memset(drive->data[0], 0, DRIVE_PAGE);
		if (op == DRIVE_WRITE)
			ret = page_copy(drive, op, fd, off, len);
		if (!ret)
			ret = drive_one(drive, 0, op, lba + off / block_size,
					blocks);
		if (!ret && op == DRIVE_READ)
			ret = page_copy(drive, op, fd, off, len);
	}
	return ret;
}

/** cmd_drive_write_file() - write what a file has to blocks. */
int cmd_drive_write_file(const struct arg *a)
{
	struct drive drive;
	int ret = drive_use(a[0].o, &drive);
	off_t size;
	int fd;

	if (ret)
		return ret;
	fd = open(a[2].s, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	size = lseek(fd, 0, SEEK_END);
	ret = drive_file_io(&drive, DRIVE_WRITE, a[1].n, fd, size);
	close(fd);
	result("%lld", (long long)size);
	return ret;
}

/** cmd_drive_read_file() - write what blocks have to a file. */
int cmd_drive_read_file(const struct arg *a)
{
	struct drive drive;
	int ret = drive_use(a[0].o, &drive);
	int fd;

	if (ret)
		return ret;
	fd = open(a[3].s, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	ret = drive_file_io(&drive, DRIVE_READ, a[1].n, fd, a[2].n);
	close(fd);
	return ret;
}
