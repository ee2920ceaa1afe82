// SPDX-License-Identifier: GPL-2.0-only
/*
 * inner: the first process of a virtual machine in the lab's machine.
 *
 * It works with the devices that were passed through to it by Linux's own drivers:
 * it reads NVMe drives, as deep as it is told to, and sees that each block is the
 * one that it asked for; it receives numbered frames from network controllers.
 * Twice a second it says on the console how far it has come.
 *
 *   inner stamp FILE SIZE NAME   fill a drive's image, on the host, with blocks
 *                                that tell which they are, and of which drive
 *
 * Words on the kernel's command line:
 *
 *   inner.depth=N   how many reads are under way on a drive (1)
 *   inner.igb       receive frames
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <linux/if_packet.h>

#include "guest.h"

#define BLOCK 4096
#define MAX_DRIVES 8
#define MAX_DEPTH 1024
#define MAX_WIRES 8
#define MAX_BATCH 64
/* Prime: a drive's blocks are all read before one is read again. */
#define STRIDE 7919
#define INTERVAL_MS 500
/* Of what is not right the first few are shown. */
#define SHOWN 5
/* of klogctl() */
#define SYSLOG_CONSOLE_LEVEL 8
#define SOCKET_BUFFER (4 << 20)
/* lab/wire.py has the same. */
#define FRAME 256
#define FRAME_HEADER 24
#define FRAME_NUMBER 16
#define ETHERTYPE_LE 0xb588

/* A drive and its account. */
struct drive {
	char disk[NAME_SIZE];
	char name[NAME_SIZE];
	int fd;
	uint64_t seed;
	uint64_t blocks;
	uint64_t turn;
	uint64_t done;
	uint64_t bad;
	uint64_t errors;
	unsigned int busy;
	double longest;
};

/* A read that is under way, since a time; or none. */
struct slot {
	struct iocb cb;
	struct drive *drive;
	uint64_t block;
	uint64_t *data;
	double since;
};

/* A network controller and its account. */
struct wire {
	char name[NAME_SIZE];
	int fd;
	uint64_t next;
	uint64_t received;
	uint64_t lost;
	uint64_t repeated;
	uint64_t wrong;
};

/* What the kernel has said of the drives, of network controllers, and of itself. */
struct complaints {
	unsigned int timeouts;
	unsigned int polled;
	unsigned int resets;
	unsigned int hangs;
	unsigned int splats;
};

static struct drive drives[MAX_DRIVES];
static struct slot slots[MAX_DRIVES * MAX_DEPTH];
static struct wire wires[MAX_WIRES];
static struct complaints complaints;
static unsigned int nr_drives, nr_wires, depth = 1;
static bool want_igb;
static aio_context_t aio;
static int aio_event;
static unsigned int shown;

static double seconds(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Write down, a limited number of times, what is not right. */
static __attribute__((format(printf, 1, 2))) void show(const char *fmt, ...)
{
	va_list ap;

	if (shown++ >= SHOWN)
		return;
	printf("inner! ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

static int die(const char *what)
{
	printf("inner! %s: %s\n", what, strerror(errno));
	fflush(stdout);
	return EXIT_FAILURE;
}

/* Read the first word of a file; empty when there is none. */
static void read_word(char *word, size_t size, const char *fmt, ...)
{
	char path[256];
	va_list ap;
	ssize_t len;
	int fd;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? -1 : read(fd, word, size - 1);
	word[len > 0 ? len : 0] = 0;
	word[strcspn(word, " \n")] = 0;
	if (fd >= 0)
		close(fd);
}

/* What is on a drive depends on its name (FNV-1a). */
static uint64_t seed_of(const char *name)
{
	uint64_t seed = 0xcbf29ce484222325;

	for (; *name; name++)
		seed = (seed ^ (unsigned char)*name) * 0x100000001b3;
	return seed;
}

static int stamp(const char *path, uint64_t size, const char *name)
{
	FILE *file = fopen(path, "w");
	uint64_t word, seed = seed_of(name);

	if (!file)
		return die(path);
	for (uint64_t at = 0; at < size; at += sizeof(word)) {
		word = pattern(seed, at / BLOCK, at % BLOCK);
		if (fwrite(&word, sizeof(word), 1, file) != 1)
			return die(path);
	}
	return fclose(file) ? die(path) : EXIT_SUCCESS;
}

/* --- drives --------------------------------------------------------------------- */

/* Begin to read the next block. What the drive refuses is tried again later. */
static void slot_start(struct slot *s)
{
	struct drive *d = s->drive;
	struct iocb *cb = &s->cb;

	s->block = d->turn++ * STRIDE % d->blocks;
	*cb = (struct iocb){
		.aio_data = (uintptr_t)s,
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = d->fd,
		.aio_buf = (uintptr_t)s->data,
		.aio_nbytes = BLOCK,
		.aio_offset = s->block * BLOCK,
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = aio_event,
	};
	s->since = seconds(CLOCK_MONOTONIC);
	d->busy++;
	if (syscall(SYS_io_submit, aio, 1L, &cb) == 1)
		return;
	show("%s: block %llu: io_submit: %s", d->name,
	     (unsigned long long)s->block, strerror(errno));
	s->since = 0;
	d->errors++;
	d->busy--;
}

/* Take in what was read. */
static void slot_end(struct slot *s, int64_t res)
{
	double took = seconds(CLOCK_MONOTONIC) - s->since;
	struct drive *d = s->drive;

	s->since = 0;
	d->busy--;
	d->done++;
	if (took > d->longest)
		d->longest = took;
	if (res != BLOCK) {
		d->errors++;
		show("%s: block %llu: read: %lld", d->name,
		     (unsigned long long)s->block, (long long)res);
		return;
	}
	for (unsigned int i = 0; i < BLOCK / sizeof(*s->data); i++) {
		if (s->data[i] != pattern(d->seed, s->block, i * 8)) {
			d->bad++;
			show("%s: block %llu differs at byte %u", d->name,
			     (unsigned long long)s->block, i * 8);
			return;
		}
	}
}

/* Take in reads that have ended, and begin others in their place. */
static void drives_work(void)
{
	struct io_event events[MAX_BATCH];
	struct timespec none = { 0 };
	uint64_t count;
	long got;

	if (read(aio_event, &count, sizeof(count)) < 0)
		return;
	got = syscall(SYS_io_getevents, aio, 0L, (long)MAX_BATCH, events,
		      &none);
	for (long i = 0; i < got; i++) {
		struct slot *s = (void *)(uintptr_t)events[i].data;

		slot_end(s, events[i].res);
		slot_start(s);
	}
	/* There may be more, for which nobody would wake us. */
	if (got == MAX_BATCH)
		eventfd_write(aio_event, 1);
}

/* Begin to work with a drive. */
static void drive_open(const char *disk)
{
	struct drive *d = &drives[nr_drives];
	char path[64];
	uint64_t size;

	snprintf(path, sizeof(path), "/dev/%.31s", disk);
	d->fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (d->fd < 0 || ioctl(d->fd, BLKGETSIZE64, &size) || size < BLOCK) {
		show("%s: %s", path, strerror(errno));
		if (d->fd >= 0)
			close(d->fd);
		return;
	}
	snprintf(d->disk, sizeof(d->disk), "%.31s", disk);
	read_word(d->name, sizeof(d->name), "/sys/block/%s/device/serial",
		  disk);
	d->seed = seed_of(d->name);
	d->blocks = size / BLOCK;
	for (unsigned int i = 0; i < depth; i++) {
		struct slot *s = &slots[nr_drives * depth + i];

		s->drive = d;
		s->data = aligned_alloc(BLOCK, BLOCK);
		if (s->data)
			slot_start(s);
	}
	nr_drives++;
}

/* Find drives that are new, and go on where a read could not begin. */
static void drives_look(void)
{
	struct dirent *entry;
	DIR *dir = opendir("/sys/block");
	unsigned int i;

	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "nvme", 4))
			continue;
		for (i = 0; i < nr_drives; i++)
			if (!strcmp(drives[i].disk, entry->d_name))
				break;
		if (i == nr_drives && i < MAX_DRIVES)
			drive_open(entry->d_name);
	}
	if (dir)
		closedir(dir);
	for (i = 0; i < nr_drives * depth; i++)
		if (slots[i].data && !slots[i].since)
			slot_start(&slots[i]);
}

/* --- network controllers ---------------------------------------------------------- */

/* Turn an interface on, and listen to it. */
static void wire_open(const char *name)
{
	struct wire *w = &wires[nr_wires];
	int type = SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC;
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		/* in the order of the network */
		.sll_protocol = ETHERTYPE_LE,
		.sll_ifindex = if_nametoindex(name),
	};
	int size = SOCKET_BUFFER;
	struct ifreq request = { 0 };

	/* Without a protocol nothing comes in before it is bound. */
	w->fd = socket(AF_PACKET, type, 0);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%.15s", name);
	if (w->fd >= 0 &&
	    !setsockopt(w->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size,
			sizeof(size)) &&
	    !bind(w->fd, (void *)&address, sizeof(address)) &&
	    !ioctl(w->fd, SIOCGIFFLAGS, &request)) {
		request.ifr_flags |= IFF_UP;
		if (!ioctl(w->fd, SIOCSIFFLAGS, &request)) {
			snprintf(w->name, sizeof(w->name), "%.15s", name);
			nr_wires++;
			return;
		}
	}
	show("%s: %s", name, strerror(errno));
	if (w->fd >= 0)
		close(w->fd);
}

/* Find interfaces of devices that are new. */
static void wires_look(void)
{
	struct dirent *entry;
	DIR *dir = want_igb ? opendir("/sys/class/net") : NULL;
	unsigned int i;
	char path[300];

	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/sys/class/net/%s/device",
			 entry->d_name);
		if (access(path, F_OK))
			continue;
		for (i = 0; i < nr_wires; i++)
			if (!strcmp(wires[i].name, entry->d_name))
				break;
		if (i == nr_wires && i < MAX_WIRES)
			wire_open(entry->d_name);
	}
	if (dir)
		closedir(dir);
}

/* Return how many interfaces have a carrier. */
static unsigned int wires_up(void)
{
	unsigned int up = 0;
	char word[8];

	for (unsigned int i = 0; i < nr_wires; i++) {
		read_word(word, sizeof(word), "/sys/class/net/%s/carrier",
			  wires[i].name);
		up += word[0] == '1';
	}
	return up;
}

/* Tell whether a frame is as it was sent, and its number. */
static bool frame_intact(const uint8_t *frame, ssize_t len, uint64_t *number)
{
	uint64_t word;

	if (len < FRAME)
		return false;
	memcpy(number, frame + FRAME_NUMBER, sizeof(*number));
	for (unsigned int at = 0; at < FRAME - FRAME_HEADER; at += 8) {
		memcpy(&word, frame + FRAME_HEADER + at, sizeof(word));
		if (word != pattern(0, *number, at))
			return false;
	}
	return true;
}

/* Take all frames that have come in; the first of all says where the count begins. */
static void wire_work(struct wire *w)
{
	uint8_t frame[2048];
	uint64_t number;
	ssize_t len;

	while ((len = recv(w->fd, frame, sizeof(frame), 0)) >= 0) {
		if (!frame_intact(frame, len, &number)) {
			w->wrong++;
			show("%s: a frame of %zd bytes is not right", w->name,
			     len);
		} else if (w->received && number < w->next) {
			w->repeated++;
		} else {
			if (w->received)
				w->lost += number - w->next;
			w->received++;
			w->next = number + 1;
		}
	}
}

/* --- what it comes to ------------------------------------------------------------- */

/* Count what the kernel complains of, in each record that it has written since. */
static void kmsg_work(int fd)
{
	char text[1024];

	for (;;) {
		ssize_t len = read(fd, text, sizeof(text) - 1);
		/* EPIPE: some were overwritten */
		if (len < 0 && errno == EPIPE)
			continue;
		if (len <= 0)
			return;
		text[len] = 0;
		if (strstr(text, "nvme")) {
			complaints.timeouts += !!strstr(text, " timeout, ");
			complaints.polled += !!strstr(text, "polled");
			complaints.resets += !!strstr(text, "reset");
		} else if (strstr(text, "igb") || strstr(text, "WATCHDOG")) {
			complaints.hangs += strstr(text, "eset") ||
					    strstr(text, "ang") ||
					    strstr(text, "timed out");
		} else {
			complaints.splats += strstr(text, "BUG:") ||
					     strstr(text, "WARNING:") ||
					     strstr(text, "Call Trace") ||
					     strstr(text, "blocked for more");
		}
	}
}

/* Return how long the oldest read has been under way, in seconds. */
static double oldest(void)
{
	double now = seconds(CLOCK_MONOTONIC), age = 0;

	for (unsigned int i = 0; i < nr_drives * depth; i++)
		if (slots[i].since && now - slots[i].since > age)
			age = now - slots[i].since;
	return age;
}

/* Say how far it has come: all together, then each device. */
static void report(const char *boot_id)
{
	struct drive d = { 0 };
	struct wire w = { 0 };

	for (unsigned int i = 0; i < nr_drives; i++) {
		d.done += drives[i].done;
		d.bad += drives[i].bad;
		d.errors += drives[i].errors;
		d.busy += drives[i].busy;
		if (drives[i].longest > d.longest)
			d.longest = drives[i].longest;
	}
	for (unsigned int i = 0; i < nr_wires; i++) {
		w.received += wires[i].received;
		w.lost += wires[i].lost;
		w.repeated += wires[i].repeated;
		w.wrong += wires[i].wrong;
	}
	printf("inner: boot_id=%s boottime=%.3f monotonic=%.3f realtime=%.3f",
	       boot_id, seconds(CLOCK_BOOTTIME), seconds(CLOCK_MONOTONIC),
	       seconds(CLOCK_REALTIME));
	printf(" drives=%u done=%llu bad=%llu errors=%llu busy=%u longest=%.0f oldest=%.0f",
	       nr_drives, (unsigned long long)d.done, (unsigned long long)d.bad,
	       (unsigned long long)d.errors, d.busy, d.longest * 1e3,
	       oldest() * 1e3);
	printf(" timeouts=%u polled=%u resets=%u hangs=%u splats=%u",
	       complaints.timeouts, complaints.polled, complaints.resets,
	       complaints.hangs, complaints.splats);
	printf(" wires=%u received=%llu lost=%llu repeated=%llu wrong=%llu",
	       wires_up(), (unsigned long long)w.received,
	       (unsigned long long)w.lost, (unsigned long long)w.repeated,
	       (unsigned long long)w.wrong);
	for (unsigned int i = 0; i < nr_drives; i++)
		printf(" %s.done=%llu %s.bad=%llu", drives[i].name,
		       (unsigned long long)drives[i].done, drives[i].name,
		       (unsigned long long)drives[i].bad);
	for (unsigned int i = 0; i < nr_wires; i++)
		printf(" %s.received=%llu %s.next=%llu", wires[i].name,
		       (unsigned long long)wires[i].received, wires[i].name,
		       (unsigned long long)wires[i].next);
	printf(" end\n");
	fflush(stdout);
}

/* --- the machine ------------------------------------------------------------------ */

static void mount_all(void)
{
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
}

/* Load the modules that there are, in the order of their names. */
static void load_modules(void)
{
	struct dirent **names;
	int count = scandir("/modules", &names, NULL, alphasort);
	char path[300];
	int fd;

	for (int i = 0; i < count; i++) {
		if (names[i]->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/modules/%s", names[i]->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
			show("%s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
	}
}

static void read_words(void)
{
	char line[4096] = "", *word, *rest = line;
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, line, sizeof(line) - 1) < 0)
		die("/proc/cmdline");
	if (fd >= 0)
		close(fd);
	while ((word = strsep(&rest, " \n"))) {
		sscanf(word, "inner.depth=%u", &depth);
		want_igb |= !strcmp(word, "inner.igb");
	}
	if (!depth || depth > MAX_DEPTH)
		depth = 1;
}

static int start_timer(void)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	struct itimerspec times = {
		.it_interval.tv_nsec = INTERVAL_MS * 1000000L,
		.it_value.tv_nsec = 1,
	};

	return timerfd_settime(fd, 0, &times, NULL) ? -1 : fd;
}

int main(int argc, char **argv)
{
	int flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC, timer, kmsg;
	char boot_id[64];

	if (argc == 5 && !strcmp(argv[1], "stamp"))
		return stamp(argv[2], strtoull(argv[3], NULL, 0), argv[4]);
	if (getpid() != 1) {
		fprintf(stderr, "usage: inner stamp FILE SIZE NAME\n");
		return EXIT_FAILURE;
	}
	mount_all();
	/* Whatever the kernel says from now on is of interest. */
	klogctl(SYSLOG_CONSOLE_LEVEL, NULL, 8);
	load_modules();
	read_words();
	read_word(boot_id, sizeof(boot_id), "/proc/sys/kernel/random/boot_id");
	kmsg = open("/dev/kmsg", flags);
	timer = start_timer();
	aio_event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (kmsg < 0 || timer < 0 || aio_event < 0 ||
	    syscall(SYS_io_setup, MAX_DRIVES * depth, &aio))
		return die("this machine cannot work");
	for (;;) {
		struct pollfd files[3 + MAX_WIRES] = {
			{ .fd = timer, .events = POLLIN },
			{ .fd = aio_event, .events = POLLIN },
			{ .fd = kmsg, .events = POLLIN },
		};
		uint64_t ticks;

		for (unsigned int i = 0; i < nr_wires; i++)
			files[3 + i] = (struct pollfd){ .fd = wires[i].fd,
							.events = POLLIN };
		poll(files, 3 + nr_wires, -1);
		if (files[2].revents)
			kmsg_work(kmsg);
		if (files[1].revents)
			drives_work();
		for (unsigned int i = 0; i < nr_wires; i++)
			wire_work(&wires[i]);
		if (read(timer, &ticks, sizeof(ticks)) == sizeof(ticks)) {
			drives_look();
			wires_look();
			report(boot_id);
		}
	}
}
