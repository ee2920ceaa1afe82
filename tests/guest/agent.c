// SPDX-License-Identifier: GPL-2.0-only
/*
 * The agent: one serial line on one side, worker processes on the other.
 *
 * In:	"NAME COMMAND ARGS..."	for the worker NAME, started at first use
 *	"@ kill NAME"		SIGKILL it and wait until it is gone
 *	"@ list"		the workers and their process ids
 *	"@ began"		when the agent started, in nanoseconds of the machine
 * Out:	"! ready RELEASE"	once, when the agent starts
 *	"NAME: TEXT"		any number of lines of output
 *	"NAME= ok VALUES" or "NAME= err ERRNO_NAME MESSAGE"	exactly one
 *
 * Workers run at the same time; each has at most one command under way. A
 * worker that runs already, as a service with a socket in WORKERS, is used.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "guest.h"

#define MAX_WORKERS 32

/* Bytes on their way to become lines. */
struct lines {
	char data[16384];
	size_t used;
};

struct worker {
	char name[NAME_SIZE];
	pid_t pid;
	int sock;
	bool busy;
	struct lines in;
};

static struct worker *workers[MAX_WORKERS];
static struct lines requests;
static int tty;
static uint64_t began;

/* Write all of a buffer, whatever it takes. */
static int write_all(int fd, const char *buf, size_t len)
{
	while (len) {
		ssize_t n = write(fd, buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		buf += n;
		len -= n;
	}
	return 0;
}

/* One line to the lab: who it is about, what kind it is, what it says. */
static void reply(const char *who, const char *text)
{
	char *line;
	int len = asprintf(&line, "%s%s\n", who, text);

	if (len < 0)
		return;
	write_all(tty, line, len);
	free(line);
}

/* Read what is there; 0 at the end of file or on an error. */
static bool lines_fill(struct lines *in, int fd)
{
	ssize_t n;

	do {
		n = read(fd, in->data + in->used,
			 sizeof(in->data) - 1 - in->used);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return false;
	in->used += n;
	return true;
}

/* Take the first whole line out; a full buffer counts as one. Caller frees. */
static char *lines_take(struct lines *in)
{
	char *end = memchr(in->data, '\n', in->used);
	size_t len = end ? (size_t)(end - in->data) : in->used;
	char *line;

	if (!end && in->used < sizeof(in->data) - 1)
		return NULL;
	line = strndup(in->data, len);
	if (end)
		len++;
	in->used -= len;
	memmove(in->data, in->data + len, in->used);
	return line;
}

/* The place of a worker in the table; the first free place for name NULL. */
static int worker_place(const char *name)
{
	for (int i = 0; i < MAX_WORKERS; i++) {
		if (!name && !workers[i])
			return i;
		if (name && workers[i] && !strcmp(workers[i]->name, name))
			return i;
	}
	return -1;
}

/* In the child: become a worker whose commands come from the socket. */
static void worker_exec(int sock, const char *name)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(sock, STDIN_FILENO);
	dup2(sock, STDOUT_FILENO);
	execl("/proc/self/exe", "guest", "worker", name, NULL);
	_exit(127);
}

/* Connect to the service of this name; returns a socket or -1. */
static int worker_connect(const char *name)
{
	struct sockaddr_un addr = worker_address(name);
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (sock >= 0 && connect(sock, (void *)&addr, sizeof(addr))) {
		close(sock);
		return -1;
	}
	return sock;
}

/* Start a process for a worker; returns a socket or -1 with errno set. */
static int worker_fork(const char *name, pid_t *pid)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -1;
	*pid = fork();
	if (!*pid)
		worker_exec(pair[1], name);
	close(pair[1]);
	if (*pid > 0)
		return pair[0];
	close(pair[0]);
	return -1;
}

/* Start a worker; returns it or NULL with errno set. */
static struct worker *worker_start(const char *name)
{
	int place = worker_place(NULL);
	struct worker *w;

	if (place < 0 || strlen(name) >= NAME_SIZE) {
		errno = place < 0 ? EMFILE : ENAMETOOLONG;
		return NULL;
	}
	w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	strcpy(w->name, name);
	w->sock = worker_connect(name);
	if (w->sock < 0)
		w->sock = worker_fork(name, &w->pid);
	if (w->sock < 0) {
		free(w);
		return NULL;
	}
	workers[place] = w;
	return w;
}

/* Pass on a worker's lines. */
static void worker_forward(struct worker *w)
{
	char *line;

	while ((line = lines_take(&w->in))) {
		if (line[0] == '=')
			w->busy = false;
		reply(w->name, line);
		free(line);
	}
}

/* Bury a worker that is gone, and tell whoever waits for its reply. */
static void worker_bury(int place)
{
	struct worker *w = workers[place];
	char text[96];
	int status = 0;

	if (w->pid)
		waitpid(w->pid, &status, 0);
	if (!w->pid)
		snprintf(text, sizeof(text), "= err ECHILD service hung up");
	else if (WIFSIGNALED(status))
		snprintf(text, sizeof(text),
			 "= err ECHILD worker died of SIG%s",
			 sigabbrev_np(WTERMSIG(status)));
	else
		snprintf(text, sizeof(text),
			 "= err ECHILD worker exited with %d",
			 WEXITSTATUS(status));
	if (w->busy)
		reply(w->name, text);
	close(w->sock);
	free(w);
	workers[place] = NULL;
}

/* Name the workers. */
static void agent_list(void)
{
	char text[64];

	for (int i = 0; i < MAX_WORKERS; i++) {
		if (!workers[i])
			continue;
		snprintf(text, sizeof(text), ": %s %d", workers[i]->name,
			 workers[i]->pid);
		reply("@", text);
	}
}

/* The agent's own commands. */
static void agent_command(const char *line)
{
	int place;

	if (!strcmp(line, "list")) {
		agent_list();
	} else if (!strcmp(line, "began")) {
		char text[64];

		snprintf(text, sizeof(text), "= ok %llu",
			 (unsigned long long)began);
		reply("@", text);
		return;
	} else if (!strncmp(line, "kill ", 5)) {
		place = worker_place(line + 5);
		if (place < 0) {
			reply("@", "= err ESRCH no such worker");
			return;
		}
		if (workers[place]->pid)
			kill(workers[place]->pid, SIGKILL);
		worker_bury(place);
	} else {
		reply("@", "= err ENOSYS unknown command");
		return;
	}
	reply("@", "= ok");
}

/* Hand a request to the worker that it is for. */
static void request(char *line)
{
	const char *err = NULL;
	char *rest = strchr(line, ' ');
	struct worker *w;
	int place;

	line[strcspn(line, "\r")] = '\0';
	if (!rest)
		return;
	*rest++ = '\0';
	if (!strcmp(line, "@")) {
		agent_command(rest);
		return;
	}
	place = worker_place(line);
	w = place < 0 ? worker_start(line) : workers[place];
	if (!w)
		err = "= err EAGAIN cannot start a worker";
	else if (w->busy)
		err = "= err EBUSY worker has a command under way";
	else if (write_all(w->sock, rest, strlen(rest)) ||
		 write_all(w->sock, "\n", 1))
		err = "= err EPIPE worker does not listen";
	if (err)
		reply(line, err);
	else
		w->busy = true;
}

/* Open the serial line: bytes as they are, no echo, no line discipline. */
static int tty_open(const char *path)
{
	struct termios t;

	tty = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (tty < 0 || tcgetattr(tty, &t))
		return -errno;
	cfmakeraw(&t);
	cfsetspeed(&t, B115200);
	t.c_cflag |= CLOCAL | CREAD;
	return tcsetattr(tty, TCSANOW, &t) ? -errno : 0;
}

/* Wait for requests and replies, and move them. Returns when the tty ends. */
static void agent_loop(void)
{
	struct pollfd fds[MAX_WORKERS + 1];
	int place[MAX_WORKERS + 1];
	char *line;

	for (;;) {
		int n = 1;

		fds[0] = (struct pollfd){ .fd = tty, .events = POLLIN };
		for (int i = 0; i < MAX_WORKERS; i++) {
			if (!workers[i])
				continue;
			place[n] = i;
			fds[n++] = (struct pollfd){ .fd = workers[i]->sock,
						    .events = POLLIN };
		}
		if (poll(fds, n, -1) < 0)
			continue;
		for (int i = 1; i < n; i++) {
			struct worker *w = workers[place[i]];

			if (!fds[i].revents)
				continue;
			if (lines_fill(&w->in, w->sock))
				worker_forward(w);
			else
				worker_bury(place[i]);
		}
		if (!fds[0].revents)
			continue;
		if (!lines_fill(&requests, tty))
			return;
		while ((line = lines_take(&requests))) {
			request(line);
			free(line);
		}
	}
}

static int agent_main(const char *path)
{
	struct utsname uts;
	int ret;

	began = machine_ns();
	ret = tty_open(path);
	if (ret) {
		fprintf(stderr, "guest: %s: %s\n", path, strerror(-ret));
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	uname(&uts);
	reply("! ready ", uts.release);
	agent_loop();
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "agent"))
		return agent_main(argv[2]);
	if (argc >= 2 && !strcmp(argv[1], "worker"))
		return worker_main();
	if (argc == 3 && !strcmp(argv[1], "serve"))
		return service_main(argv[2]);
	fprintf(stderr,
		"usage: guest agent TTY | guest worker [NAME] | guest serve NAME\n"
		"A worker reads commands from its input; try 'help'.\n");
	return 2;
}
