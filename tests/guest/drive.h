/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the drivers of drives share: commands for blocks, many of them under way
 * at a time, each of whose data is looked at, and the account of them.
 */
#ifndef DRIVE_H
#define DRIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "guest.h"

#define DRIVE_TIMEOUT_MS 30000
/* A command moves a page. */
#define DRIVE_PAGE 4096
/* The longest queue, so that a slow drive has work while nobody gives it more */
#define DRIVE_SLOTS 1024

enum drive_op { DRIVE_READ, DRIVE_WRITE, DRIVE_COMPARE, DRIVE_FLUSH };

/* A command under way; its number is the slot's. */
struct drive_slot {
	uint64_t lba;
	uint64_t seed;
	uint64_t elsewhere;
	uint32_t blocks;
	uint8_t op;
	uint8_t busy;
	uint8_t check;
	uint8_t unused;
};

/*
 * What became of all commands: every one that was submitted is completed or
 * under way. A completion is strange when no such command was under way, and
 * then it counts as nothing else.
 */
struct drive_account {
	uint64_t submitted;
	uint64_t completed;
	uint64_t errors;
	uint64_t wrong;
	uint64_t strange;
};

/**
 * struct drive_work - the part of a driver's memory that is the same for all
 * @blocks: how many blocks there are to work with
 * @block_size: bytes of a block
 * @limit: how many commands can be under way at a time
 * @vector: MSI-X vector that the drive raises when a command is done
 * @interrupts: it does, and whoever waits for it sleeps; else it is polled
 * @account: what became of all of them
 * @slots: those under way
 */
struct drive_work {
	uint64_t blocks;
	uint32_t block_size;
	uint32_t limit;
	uint32_t vector;
	uint32_t interrupts;
	struct drive_account account;
	struct drive_slot slots[DRIVE_SLOTS];
};

/* That a command is done, as the drive says. */
struct drive_done {
	uint32_t id;
	uint32_t status;
};

/**
 * struct drive - a drive while a command of this program runs
 * @dma: its device and memory
 * @ops: what its driver does
 * @work: the part of its memory that is the same for all
 * @data: a page for each slot
 */
struct drive {
	struct dma dma;
	const struct drive_ops *ops;
	struct drive_work *work;
	uint8_t (*data)[DRIVE_PAGE];
};

/**
 * struct drive_ops - what the driver of a kind of drives does
 * @use: finds a driver that was started, and all of struct drive but @ops
 * @submit: gives the drive the command that is in a slot
 * @complete: takes the next completion, if there is one
 * @look: returns -ENODEV from a drive that has given up, else 0; may be left out
 * @mixed: what takes turns with reads where commands are mixed
 */
struct drive_ops {
	int (*use)(const struct object *drv, struct drive *drive);
	void (*submit)(const struct drive *drive, int slot);
	bool (*complete)(const struct drive *drive, struct drive_done *done);
	int (*look)(const struct drive *drive);
	enum drive_op mixed;
};

int drive_setup(const struct arg *a, const struct drive_ops *ops);
int drive_use(const struct object *drv, struct drive *drive);
void drive_describe(const struct drive_work *work);
uint64_t drive_data_iova(const struct drive *drive, int slot);
int drive_reap(const struct drive *drive);

/* Commands of this program, the same for each kind of drives */
int cmd_drive_write(const struct arg *a);
int cmd_drive_read_check(const struct arg *a);
int cmd_drive_queue_reads(const struct arg *a);
int cmd_drive_queue_mixed(const struct arg *a);
int cmd_drive_load(const struct arg *a);
int cmd_drive_sleep(const struct arg *a);
int cmd_drive_read_to(const struct arg *a);
int cmd_drive_account(const struct arg *a);
int cmd_drive_busy(const struct arg *a);
int cmd_drive_wait(const struct arg *a);
int cmd_drive_settle(const struct arg *a);
int cmd_drive_flush(const struct arg *a);
int cmd_drive_write_file(const struct arg *a);
int cmd_drive_read_file(const struct arg *a);

/* Their entries in the table of a driver, whose prefix is given */
#define DRIVE_COMMANDS(kind)                                                 \
	{ kind "_write", "onnn", cmd_drive_write, "DRIVE LBA BLOCKS SEED" }, \
		{ kind "_read_check", "onnn", cmd_drive_read_check,          \
		  "DRIVE LBA BLOCKS SEED" },                                 \
		{ kind "_queue_reads", "onnn", cmd_drive_queue_reads,        \
		  "DRIVE LBA BLOCKS SEED" },                                 \
		{ kind "_queue_mixed", "onnn", cmd_drive_queue_mixed,        \
		  "DRIVE LBA BLOCKS SEED" },                                 \
		{ kind "_load", "onnnn", cmd_drive_load,                     \
		  "DRIVE LBA BLOCKS SEED MILLISECONDS" },                    \
		{ kind "_sleep", "onnn", cmd_drive_sleep,                    \
		  "DRIVE BLOCKS SEED COUNT" },                               \
		{ kind "_read_to", "onnn", cmd_drive_read_to,                \
		  "DRIVE LBA COUNT IOVA" },                                  \
		{ kind "_account", "o", cmd_drive_account, "DRIVE" },        \
		{ kind "_busy", "o", cmd_drive_busy, "DRIVE" },              \
		{ kind "_wait", "o", cmd_drive_wait, "DRIVE" },              \
		{ kind "_settle", "o", cmd_drive_settle, "DRIVE" },          \
		{ kind "_flush", "o", cmd_drive_flush, "DRIVE" },            \
		{ kind "_write_file", "ons", cmd_drive_write_file,           \
		  "DRIVE LBA PATH" },                                        \
	{                                                                    \
		kind "_read_file", "onns", cmd_drive_read_file,              \
			"DRIVE LBA BYTES PATH"                               \
	}

#endif /* DRIVE_H */
