// SPDX-License-Identifier: GPL-2.0-only
/*
 * A worker: reads a command, runs it, replies. A command that fails says with
 * which errno; nothing makes a worker give up. Also a shell for people:
 * "guest worker" on a terminal.
 */
#include <errno.h>
#include <fcntl.h>
#include <libliveupdate.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

static const struct command *const tables[] = {
	core_commands,	  luo_commands,	 set_commands,	 mem_commands,
	iommufd_commands, vfio_commands, nvme_commands,	 virtio_commands,
	igb_commands,	  net_commands,	 kexec_commands, service_commands,
	hang_commands,
};

/* How a command went that was run in a child. */
struct reply {
	int ret;
	char text[1024];
};

static struct object *objects;
static char values[1024];
static char message[256];
static sigjmp_buf bus_error;

/* How long the command before took, in nanoseconds */
static uint64_t last_ns;

/** say() - send a line of output. */
void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs(": ", stdout);
	vprintf(fmt, ap);
	putchar('\n');
	va_end(ap);
}

/** result() - add to the values that follow "= ok". */
void result(const char *fmt, ...)
{
	size_t used = strlen(values);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(values + used, sizeof(values) - used, fmt, ap);
	va_end(ap);
}

/**
 * complain() - say what is wrong, when the errno alone would not tell
 * @err: errno to fail with
 *
 * Return: -@err, for the caller to return
 */
int complain(int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	return -err;
}

/** sys() - a system call's result: itself, or the negative errno. */
int sys(long ret)
{
	return ret < 0 ? -errno : ret;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/**
 * machine_ns() - nanoseconds since the machine was turned on, through any kexec
 *
 * The TSC of a machine whose clock counts instructions has 1 GHz (QEMU, icount).
 */
uint64_t machine_ns(void)
{
	return __builtin_ia32_rdtsc();
}

/** now_ms() - milliseconds since boot. */
uint64_t now_ms(void)
{
	return now_ns() / 1000000;
}

/** pause_us() - sleep for some microseconds. */
void pause_us(unsigned int us)
{
	struct timespec ts = { us / 1000000, (us % 1000000) * 1000L };

	nanosleep(&ts, NULL);
}

/** object_find() - the object of this name, or NULL. */
struct object *object_find(const char *name)
{
	for (struct object *o = objects; o; o = o->next)
		if (!strcmp(o->name, name))
			return o;
	return NULL;
}

/* A new, empty object; NULL if the name is taken or too long. */
static struct object *object_new(const char *name)
{
	struct object *o;

	if (object_find(name) || strlen(name) >= NAME_SIZE)
		return NULL;
	o = calloc(1, sizeof(*o));
	if (!o)
		return NULL;
	strcpy(o->name, name);
	o->fd = -1;
	o->fd2 = -1;
	o->next = objects;
	objects = o;
	return o;
}

/** window_unmap() - drop a mapping if there is one. */
void window_unmap(struct window *win)
{
	if (win->base)
		munmap(win->base, win->size);
	win->base = NULL;
}

/* Close all that an object holds and forget it. */
static void object_close(struct object *o)
{
	struct object **p = &objects;

	while (*p != o)
		p = &(*p)->next;
	*p = o->next;
	window_unmap(&o->map);
	for (int i = 0; i < PCI_BARS; i++)
		window_unmap(&o->bars[i]);
	for (int i = 0; i < o->nr_events; i++)
		close(o->events[i]);
	if (o->fd >= 0)
		close(o->fd);
	if (o->fd2 >= 0)
		close(o->fd2);
	if (o->pid) {
		kill(o->pid, SIGKILL);
		waitpid(o->pid, NULL, 0);
	}
	free(o->driver);
	lu_set_free(o->set);
	free(o);
}

static int cmd_close(const struct arg *a)
{
	object_close(a[0].o);
	return 0;
}

static int cmd_dup(const struct arg *a)
{
	a[0].o->fd = fcntl(a[1].o->fd, F_DUPFD_CLOEXEC, 0);
	return sys(a[0].o->fd) < 0 ? -errno : 0;
}

static int cmd_open(const struct arg *a)
{
	a[0].o->fd = open(a[1].s, O_RDWR | O_CLOEXEC);
	return a[0].o->fd < 0 ? -errno : 0;
}

/* Another process's file, as if it had been sent. */
static int cmd_steal(const struct arg *a)
{
	int pidfd = syscall(SYS_pidfd_open, (pid_t)a[1].n, 0);

	if (pidfd < 0)
		return -errno;
	a[0].o->fd = syscall(SYS_pidfd_getfd, pidfd, (int)a[2].n, 0);
	close(pidfd);
	return a[0].o->fd < 0 ? -errno : 0;
}

static int cmd_objects(const struct arg *a)
{
	char path[64], target[256];

	(void)a;
	for (const struct object *o = objects; o; o = o->next) {
		ssize_t n = -1;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", o->fd);
		if (o->fd >= 0)
			n = readlink(path, target, sizeof(target) - 1);
		target[n < 0 ? 0 : n] = '\0';
		say("%s fd=%d id=%u %s", o->name, o->fd, o->id, target);
	}
	return 0;
}

static int cmd_sh(const struct arg *a)
{
	char *line = NULL;
	size_t size = 0;
	FILE *pipe;
	int status;

	setenv("LINE", a[0].s, 1);
	pipe = popen("exec </dev/null 2>&1; eval \"$LINE\"", "re");
	if (!pipe)
		return -errno;
	while (getline(&line, &size, pipe) > 0) {
		line[strcspn(line, "\r\n")] = '\0';
		say("%.8000s", line);
	}
	free(line);
	status = pclose(pipe);
	result("%d", WIFEXITED(status) ? WEXITSTATUS(status) :
					 128 + WTERMSIG(status));
	return 0;
}

/* Read a file again and again, as often as can be; ends with an error. */
static int cmd_read_hammer(const struct arg *a)
{
	int fd = open(a[0].s, O_RDONLY | O_CLOEXEC), ret;
	char buf[4096];

	if (fd < 0)
		return -errno;
	while (pread(fd, buf, sizeof(buf), 0) >= 0 || errno == EAGAIN)
		;
	ret = -errno;
	close(fd);
	return ret;
}

static int cmd_sleep(const struct arg *a)
{
	pause_us(a[0].n * 1000);
	return 0;
}

static int line_run(char *line);

/* In a child: run one command, tell how it went, and end. */
static void child_run(int out, const char *line)
{
	struct reply reply = {};
	char *copy = strdup(line);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	reply.ret = copy ? line_run(copy) : -ENOMEM;
	snprintf(reply.text, sizeof(reply.text), "%s",
		 reply.ret ? message : values);
	_exit(write(out, &reply, sizeof(reply)) != sizeof(reply));
}

/* The child has what this process has: mapped BARs, memory, drivers' state. */
static int cmd_fork(const struct arg *a)
{
	int pipe[2];

	if (pipe2(pipe, O_CLOEXEC))
		return -errno;
	a[0].o->fd = pipe[0];
	a[0].o->pid = fork();
	if (!a[0].o->pid)
		child_run(pipe[1], a[1].s);
	close(pipe[1]);
	if (a[0].o->pid > 0)
		return 0;
	a[0].o->pid = 0;
	return -errno;
}

static int cmd_join(const struct arg *a)
{
	struct object *o = a[0].o;
	struct reply reply;
	ssize_t n;

	if (!o->pid)
		return complain(EINVAL, "%s is no child", o->name);
	n = read(o->fd, &reply, sizeof(reply));
	waitpid(o->pid, NULL, 0);
	o->pid = 0;
	object_close(o);
	if (n != sizeof(reply))
		return complain(ECHILD, "it ended without a reply");
	if (reply.ret && reply.text[0])
		return complain(-reply.ret, "%s", reply.text);
	if (!reply.ret)
		result("%s", reply.text);
	return reply.ret;
}

static int cmd_help(const struct arg *a)
{
	(void)a;
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		for (const struct command *c = tables[i]; c->name; c++)
			say("%s %s", c->name, c->usage);
	return 0;
}

/* How long did the command before take? */
static int cmd_took(const struct arg *a)
{
	(void)a;
	result("%llu", (unsigned long long)last_ns);
	return 0;
}

const struct command core_commands[] = {
	{ "sh", "r", cmd_sh, "COMMAND LINE" },
	{ "read_hammer", "s", cmd_read_hammer, "PATH" },
	{ "open", "Ns", cmd_open, "NEW PATH" },
	{ "dup", "No", cmd_dup, "NEW OBJECT" },
	{ "close", "o", cmd_close, "OBJECT" },
	{ "steal", "Nnn", cmd_steal, "NEW PROCESS FD" },
	{ "objects", "", cmd_objects, "" },
	{ "sleep", "n", cmd_sleep, "MILLISECONDS" },
	{ "fork", "Nr", cmd_fork, "NEW COMMAND LINE" },
	{ "join", "o", cmd_join, "CHILD" },
	{ "took", "", cmd_took, "" },
	{ "help", "", cmd_help, "" },
	{}
};

/* Find a command in the tables. */
static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		for (const struct command *c = tables[i]; c->name; c++)
			if (!strcmp(c->name, name))
				return c;
	return NULL;
}

/* Read a number: decimal, 0x..., with k, m or g. */
static bool number_read(const char *s, uint64_t *n)
{
	char *end;

	errno = 0;
	*n = strtoull(s, &end, 0);
	if (end == s || errno)
		return false;
	switch (*end) {
	case 'g':
		*n <<= 10;
		/* fallthrough */
	case 'm':
		*n <<= 10;
		/* fallthrough */
	case 'k':
		*n <<= 10;
		end++;
	}
	return !*end;
}

/* Read one argument as its letter says. */
static int arg_read(char kind, const char *word, struct arg *arg)
{
	arg->s = word;
	switch (kind) {
	case 'n':
		if (!number_read(word, &arg->n))
			return complain(EINVAL, "%s is no number", word);
		break;
	case 'o':
		arg->o = object_find(word);
		if (!arg->o)
			return complain(ENOENT, "no object %s", word);
		break;
	case 'p':
		arg->o = object_find(word);
		if (!arg->o || !arg->o->set)
			return complain(ENOENT, "no set %s", word);
		break;
	case 'N':
		arg->o = object_new(word);
		if (!arg->o)
			return complain(EEXIST, "cannot make an object %s",
					word);
		break;
	}
	return 0;
}

/* Cut the rest of a line into arguments. */
static int args_read(const struct command *c, char *rest, struct arg *args)
{
	bool optional = false;

	for (const char *kind = c->args; *kind; kind++) {
		char *word = rest;
		int ret;

		if (*kind == '|') {
			optional = true;
			continue;
		}
		if (*kind != 'r')
			word = strsep(&rest, " ");
		if (!word || (!*word && *kind != 'r')) {
			if (optional)
				return 0;
			return complain(EINVAL, "usage: %s %s", c->name,
					c->usage);
		}
		ret = arg_read(*kind, word, args++);
		if (ret)
			return ret;
		if (*kind == 'r')
			return 0;
	}
	return rest ? complain(EINVAL, "usage: %s %s", c->name, c->usage) : 0;
}

/* Drop the new objects of a command that failed. */
static void args_drop(const struct command *c, const struct arg *args)
{
	for (const char *kind = c->args; *kind; kind++) {
		if (*kind == '|')
			continue;
		if (*kind == 'N' && args->o)
			object_close(args->o);
		args++;
	}
}

/*
 * A mapping of a device goes away under its user when the device is frozen:
 * touching it is then an error of the command, not the end of the worker.
 */
static void on_bus_error(int sig)
{
	(void)sig;
	siglongjmp(bus_error, 1);
}

/* Run one line. Returns 0 or a negative errno. */
static int line_run(char *line)
{
	static struct arg args[MAX_ARGS];
	static const struct command *c;
	static uint64_t begin;
	static int ret;
	char *rest = line;
	const char *name = strsep(&rest, " ");

	c = command_find(name);
	if (!c)
		return complain(ENOSYS, "unknown command %s", name);
	memset(args, 0, sizeof(args));
	ret = args_read(c, rest, args);
	begin = now_ns();
	if (!ret) {
		if (sigsetjmp(bus_error, 1))
			ret = complain(EFAULT, "SIGBUS: the mapping is gone");
		else
			ret = c->run(args);
	}
	if (c->run != cmd_took)
		last_ns = now_ns() - begin;
	if (ret)
		args_drop(c, args);
	return ret;
}

/** worker_lines() - run the commands that come in, one by one, up to the end. */
void worker_lines(void)
{
	char *line = NULL;
	size_t size = 0;
	int ret;

	signal(SIGBUS, on_bus_error);
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (getline(&line, &size, stdin) > 0) {
		line[strcspn(line, "\r\n")] = '\0';
		if (!line[0])
			continue;
		values[0] = '\0';
		message[0] = '\0';
		ret = line_run(line);
		if (ret)
			printf("= err %s %s\n", strerrorname_np(-ret),
			       message[0] ? message : strerror(-ret));
		else
			printf("= ok %s\n", values);
	}
	free(line);
}

/** worker_main() - be a worker, whose objects go with it. */
int worker_main(void)
{
	worker_lines();
	while (objects)
		object_close(objects);
	return 0;
}
