/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * guest: the lab's hand inside the machine.
 *
 * An agent listens on a serial line and hands each command to a worker, a
 * process of its own. A worker keeps named objects (files, mappings) from one
 * command to the next, so a test is a sequence of small commands.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>
#include <linux/types.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define NAME_SIZE 32
#define MAX_ARGS 8
#define PCI_BARS 6
#define MAX_EVENTS 64

/**
 * struct window - memory of a file, mapped here
 * @base: address, NULL while nothing is mapped
 * @size: length in bytes
 */
struct window {
	void *base;
	size_t size;
};

/**
 * struct object - something that a worker holds, known by its name
 * @next: next object of this worker
 * @name: name, unique in its worker
 * @fd: file descriptor, -1 if it has none
 * @fd2: a second one that lives as long (a group's container), or -1
 * @id: iommufd's number of an IOAS, an HWPT or a bound device
 * @map: a memfd's mapping
 * @bars: a VFIO device's mapped BARs
 * @events: eventfds that receive a VFIO device's interrupts
 * @nr_events: how many of @events are in use
 * @intx: they are for INTx, which is masked after each
 * @pid: process that runs a command for this worker, 0 if there is none
 * @driver: state of a user-space driver, freed with the object
 * @set: set of libliveupdate
 */
struct object {
	struct object *next;
	char name[NAME_SIZE];
	int fd;
	int fd2;
	__u32 id;
	struct window map;
	struct window bars[PCI_BARS];
	int events[MAX_EVENTS];
	int nr_events;
	bool intx;
	pid_t pid;
	void *driver;
	struct lu_set *set;
};

/**
 * struct arg - an argument of a command, read as its table entry says
 * @s: the word itself
 * @n: its value, for a number
 * @o: the object, for a name
 */
struct arg {
	const char *s;
	uint64_t n;
	struct object *o;
};

/**
 * struct command - an entry of a command table
 * @name: what the command is called
 * @args: a letter for each argument: 'o' an object, 'p' one that is a set, 'N' a
 *	  new object (dropped again when the command fails), 'n' a number, 's' a
 *	  word, 'r' the rest of the line; those after a '|' may be left out and
 *	  are then all zero
 * @run: does it; returns 0 or a negative errno
 * @usage: names of the arguments, for people
 */
struct command {
	const char *name;
	const char *args;
	int (*run)(const struct arg *a);
	const char *usage;
};

extern const struct command core_commands[];
extern const struct command luo_commands[];
extern const struct command set_commands[];
extern const struct command mem_commands[];
extern const struct command iommufd_commands[];
extern const struct command vfio_commands[];
extern const struct command nvme_commands[];
extern const struct command virtio_commands[];
extern const struct command igb_commands[];
extern const struct command net_commands[];
extern const struct command kexec_commands[];
extern const struct command hang_commands[];
extern const struct command service_commands[];

/* worker.c */
int worker_main(void);
void worker_lines(void);
struct object *object_find(const char *name);
void window_unmap(struct window *win);
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void result(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int complain(int err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
int sys(long ret);
uint64_t machine_ns(void);
uint64_t now_ms(void);
void pause_us(unsigned int us);

/* service.c */
int service_main(const char *name);
struct sockaddr_un worker_address(const char *name);

/* memory.c */
int memory_map(struct object *mem);

/* pattern.c */
uint64_t pattern(uint64_t seed, uint64_t place, uint64_t offset);

/* vfio.c */
int irq_index(const char *name);
int events_open(struct object *dev, int index, uint64_t count);
int vfio_irq_sleep(const struct object *dev, unsigned int vector);
int vfio_intx_unmask(const struct object *dev);
int vfio_map_bar(struct object *dev, unsigned int bar);
int vfio_set_master(struct object *dev, int on);
int vfio_config_read(const struct object *dev, uint64_t off, void *buf,
		     size_t len);

/**
 * struct dma_driver - what every user-space driver stands on
 * @dev: name of the VFIO device
 * @mem: name of the memfd that the device reads and writes
 * @drive: what the driver of a drive does, NULL for others
 *
 * Names, not pointers: device and memory may be closed under the driver, and
 * the next command then says so.
 */
struct dma_driver {
	char dev[NAME_SIZE];
	char mem[NAME_SIZE];
	const struct drive_ops *drive;
};

/**
 * struct dma_state - what every driver's memory begins with
 * @magic: says whose it is, 0 before the driver was started and after it stopped
 * @iova: where the device sees the memory
 */
struct dma_state {
	uint64_t magic;
	uint64_t iova;
};

/**
 * struct dma - a driver's device and memory, looked up for one command
 * @dev: the VFIO device
 * @regs: its BAR 0, unless its driver finds the registers by itself
 * @mem: the DMA memory as this process sees it
 */
struct dma {
	struct object *dev;
	volatile uint8_t *regs;
	void *mem;
};

int dma_setup(struct object *drv, const struct arg *dev, const struct arg *mem);
int dma_find(const struct object *drv, size_t need, struct dma *dma);
int dma_begun(const struct dma *dma, uint64_t magic);
int dma_get(const struct object *drv, size_t need, struct dma *dma);
int dma_use(const struct object *drv, size_t need, uint64_t magic,
	    struct dma *dma);

/** dma_iova() - address of a part of a driver's memory as the device sees it. */
static inline uint64_t dma_iova(const struct dma *dma, const void *part)
{
	const struct dma_state *state = dma->mem;

	return state->iova + ((const uint8_t *)part - (uint8_t *)dma->mem);
}

/** reg_read32() - read a 32-bit register. */
static inline uint32_t reg_read32(const struct dma *dma, uint32_t reg)
{
	return *(volatile uint32_t *)(dma->regs + reg);
}

/** reg_write32() - write a 32-bit register, after all earlier memory writes. */
static inline void reg_write32(const struct dma *dma, uint32_t reg,
			       uint32_t val)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	*(volatile uint32_t *)(dma->regs + reg) = val;
}

#endif
