// SPDX-License-Identifier: GPL-2.0-only
/*
 * A QEMU: started with the command line that the user gave, and with a monitor of
 * ours, and held until we let it run ("-S").
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lu-qemu.h"

/* Until it answers on its monitor: all memory is pinned for devices before that. */
#define START_MS 1800000

/**
 * vm_path() - path of a virtual machine's file
 * @vm: the machine
 * @file: name of the file
 * @buf: where to put the path
 */
void vm_path(const struct vm *vm, const char *file, char buf[100])
{
	snprintf(buf, 100, "%s/%s", vm->dir, file);
}

/**
 * vm_new() - begin with a virtual machine
 * @vm: where to put it
 * @name: its name
 *
 * Return: 0 or a negative errno
 */
int vm_new(struct vm *vm, const char *name)
{
	*vm = (struct vm){ .pidfd = -1, .lock = -1, .qmp.lines.fd = -1 };
	snprintf(vm->name, sizeof(vm->name), "%s", name);
	snprintf(vm->dir, sizeof(vm->dir), RUNTIME_DIR "/%s", name);
	if ((mkdir(RUNTIME_DIR, 0755) && errno != EEXIST) ||
	    (mkdir(vm->dir, 0700) && errno != EEXIST))
		return failed(-errno, "%s: %m", vm->dir);
	return 0;
}

static bool has_option(const json_t *argv, const char *option)
{
	const json_t *word;
	size_t i;

	/* QEMU takes two dashes as well as one */
	json_array_foreach(argv, i, word) {
		const char *text = json_string_value(word);

		text += text[0] == '-' && text[1] == '-';
		if (i && !strcmp(text, option))
			return true;
	}
	return false;
}

/**
 * vm_held() - did the user ask for a machine that does not run by itself?
 * @vm: the machine
 *
 * Return: true if so
 */
bool vm_held(const struct vm *vm)
{
	return has_option(vm->argv, "-S");
}

/**
 * vm_check_argv() - look at a command line for QEMU
 * @argv: its words
 *
 * Return: 0 or -EINVAL: it has something that is not possible here
 */
int vm_check_argv(const json_t *argv)
{
	static const struct {
		const char *option;
		const char *why;
	} no[] = {
		{ "-daemonize",
		  "the keeper waits beside QEMU: use lu-qemu run --background" },
		{ "-incoming", "that is for lu-qemu to say" },
		{ "-preconfig", "the machine has to be complete" },
		{ "-snapshot", "what is written to disks would be lost" },
		{ "-loadvm", "that state would be loaded again" },
	};
	const json_t *word;
	size_t n;

	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		if (has_option(argv, no[i].option))
			return failed(-EINVAL, "QEMU's option %s: %s",
				      no[i].option, no[i].why);
	json_array_foreach(argv, n, word)
		if (strstr(json_string_value(word), "snapshot=on"))
			return failed(
				-EINVAL,
				"%s: what is written to the disk would be lost",
				json_string_value(word));
	return 0;
}

/* --- starting --------------------------------------------------------------- */

/*
 * The command line of QEMU, with what is ours: where it says "q35", the machine is of
 * the version that it was when it was started first. The caller frees it.
 */
static char **command_line(const struct vm *vm, int stream)
{
	size_t i, n = 0, words = json_array_size(vm->argv);
	char **argv = calloc(words + 8, sizeof(*argv)), path[100];
	const json_t *word;

	if (!argv)
		return NULL;
	json_array_foreach(vm->argv, i, word)
		argv[n++] = strdup(json_string_value(word));
	vm_path(vm, "qmp", path);
	argv[n++] = strdup("-S");
	argv[n++] = strdup("-qmp");
	if (asprintf(&argv[n++], "unix:%s", path) < 0)
		return NULL;
	if (vm->machine) {
		argv[n++] = strdup("-machine");
		argv[n++] = strdup(vm->machine);
	}
	if (stream < 0)
		return argv;
	argv[n++] = strdup("-incoming");
	return asprintf(&argv[n++], "file:/proc/self/fd/%d", stream) < 0 ?
		       NULL :
		       argv;
}

static void inherit(int fd)
{
	fcntl(fd, F_SETFD, 0);
}

/* In the child: QEMU takes its place. */
static void become_qemu(const struct vm *vm, char **argv, const struct cpr *cpr,
			int state, int stream)
{
	struct rlimit lock = { RLIM_INFINITY, RLIM_INFINITY };
	char number[16];
	sigset_t none;

	/* What a terminal sends is for the keeper, which turns the machine off */
	setpgid(0, 0);
	dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Memory for devices is locked; if we may not change that QEMU will tell */
	setrlimit(RLIMIT_MEMLOCK, &lock);
	/* As long as it lives nobody else starts this machine */
	inherit(vm->lock);
	for (size_t i = 0; cpr && i < cpr->nr_fds; i++)
		inherit(cpr->fds[i].fd);
	if (cpr) {
		inherit(state);
		inherit(stream);
		snprintf(number, sizeof(number), "%d", state);
		setenv("QEMU_CPR_EXEC_STATE", number, 1);
	}
	if (vm->cwd && chdir(vm->cwd))
		say("%s: %m", vm->cwd);
	else
		execvp(argv[0], argv);
	say("%s: %m", argv[0]);
	_exit(127);
}

static int spawn(struct vm *vm, char **argv, const struct cpr *cpr, int state,
		 int stream)
{
	fflush(NULL);
	vm->pid = fork();
	if (!vm->pid)
		become_qemu(vm, argv, cpr, state, stream);
	if (vm->pid < 0) {
		vm->pid = 0;
		return failed(-errno, "a process for QEMU: %m");
	}
	vm->pidfd = syscall(SYS_pidfd_open, vm->pid, 0);
	if (vm->pidfd < 0) {
		int ret = failed(-errno, "the process of QEMU: %m");

		vm_kill(vm);
		return ret;
	}
	fcntl(vm->pidfd, F_SETFD, FD_CLOEXEC);
	return 0;
}

/**
 * vm_accept() - wait until QEMU connects, or ends
 * @vm: the machine
 * @listener: where it is to connect to
 * @deadline: until when
 *
 * Return: a file descriptor or a negative errno
 */
int vm_accept(struct vm *vm, int listener, int64_t deadline)
{
	struct pollfd fds[] = {
		{ .fd = listener, .events = POLLIN },
		{ .fd = vm->pidfd, .events = POLLIN },
	};
	int ret;

	do
		ret = poll(fds, ARRAY_SIZE(fds), deadline_left(deadline));
	while (ret < 0 && errno == EINTR);
	if (!ret)
		return failed(-ETIMEDOUT, "QEMU does not connect");
	if (!fds[0].revents)
		return failed(-ECHILD, "QEMU ended before it connected");
	ret = socket_accept(listener, deadline);
	return ret < 0 ? failed(ret, "QEMU does not connect: %s",
				strerror(-ret)) :
			 ret;
}

static int open_monitor(struct vm *vm, int listener)
{
	int64_t deadline = deadline_in(START_MS);
	int ret = vm_accept(vm, listener, deadline);

	return ret < 0 ? ret : qmp_open(&vm->qmp, ret, deadline);
}

/* Which machine QEMU's alias stands for now: a later QEMU has another one by that name. */
static int learn_machine(struct vm *vm)
{
	static const char suffix[] = "-machine";
	json_t *answer;
	char *end;
	int ret;

	if (vm->machine)
		return 0;
	ret = qmp_call(&vm->qmp, "qom-get",
		       json_pack("{s:s, s:s}", "path", "/machine", "property",
				 "type"),
		       &answer);
	if (ret)
		return ret;
	vm->machine = strdup(json_string_value(answer) ?: "");
	json_decref(answer);
	end = vm->machine ? strstr(vm->machine, suffix) : NULL;
	if (!end)
		return failed(-EPROTO, "QEMU does not say which machine it is");
	*end = '\0';
	return 0;
}

/* It did not come up: it may have ended by itself, and said why. */
static void say_end(struct vm *vm)
{
	char reason[1024];

	snprintf(reason, sizeof(reason), "%s", why_failed());
	/* Its end can be seen a moment after that of its monitor */
	for (int i = 0; vm->pid && i < 20 && !vm_ended(vm); i++)
		usleep(5000);
	if (vm->pid)
		failed(0, "%s", reason);
	else if (WIFEXITED(vm->status))
		failed(0, "QEMU ended with exit code %d",
		       WEXITSTATUS(vm->status));
	else
		failed(0, "QEMU ended by signal %d", WTERMSIG(vm->status));
	vm_kill(vm);
}

/**
 * vm_start() - start QEMU, and hold the machine
 * @vm: the machine, which has none
 * @cpr: what another QEMU handed over, or NULL to begin anew
 * @stream: the stream of that QEMU, or -1
 *
 * Return: 0 or a negative errno; there is no QEMU then
 */
int vm_start(struct vm *vm, const struct cpr *cpr, int stream)
{
	char **argv, path[100];
	int state, listener = -1, ret;

	if (vm->pid)
		return failed(-EEXIST, "it has a QEMU");
	argv = command_line(vm, stream);
	state = cpr ? cpr_write(cpr) : -1;
	ret = argv ? 0 : -ENOMEM;
	if (!ret && cpr && state < 0)
		ret = state;
	vm_path(vm, "qmp", path);
	if (!ret)
		listener = ret = socket_listen(path);
	if (ret >= 0)
		ret = spawn(vm, argv, cpr, state, stream);
	if (!ret)
		ret = open_monitor(vm, listener);
	if (!ret)
		ret = learn_machine(vm);
	if (ret)
		say_end(vm);
	if (listener >= 0)
		close(listener);
	unlink(path);
	if (state >= 0)
		close(state);
	for (size_t i = 0; argv && argv[i]; i++)
		free(argv[i]);
	free(argv);
	return ret;
}

/* --- running ---------------------------------------------------------------- */

/**
 * vm_stop() - let its processors stand still
 * @vm: the machine
 * @ran: where to put whether they ran
 *
 * Return: 0 or a negative errno: -EOPNOTSUPP: the machine is in a state that another
 * QEMU cannot go on from
 */
int vm_stop(struct vm *vm, bool *ran)
{
	static const char *const still[] = { "paused", "prelaunch", "io-error",
					     "watchdog", "guest-panicked" };
	json_t *answer;
	int ret = qmp_call(&vm->qmp, "query-status", NULL, &answer);
	const char *status;

	if (ret)
		return ret;
	status = json_text(answer, "status");
	/* One that sleeps can be woken any time */
	*ran = !strcmp(status, "running") || !strcmp(status, "suspended");
	ret = *ran ? 0 : -EOPNOTSUPP;
	for (size_t i = 0; ret && i < ARRAY_SIZE(still); i++)
		if (!strcmp(status, still[i]))
			ret = 0;
	if (ret)
		failed(ret, "its state is \"%s\"", status);
	json_decref(answer);
	return ret || !*ran ? ret : qmp_call(&vm->qmp, "stop", NULL, NULL);
}

/**
 * vm_go_on() - let its processors run, if they stand still because we want it
 * @vm: the machine
 *
 * Return: 0 or a negative errno
 */
int vm_go_on(struct vm *vm)
{
	int ret = vm->held ? qmp_call(&vm->qmp, "cont", NULL, NULL) : 0;

	vm->held = ret;
	return ret;
}

/**
 * vm_ended() - has QEMU ended?
 * @vm: the machine
 *
 * Return: true if so, or if there is none; @vm->status says how
 */
bool vm_ended(struct vm *vm)
{
	if (vm->pid && waitpid(vm->pid, &vm->status, WNOHANG) == vm->pid) {
		vm->pid = 0;
		vm_kill(vm);
	}
	return !vm->pid;
}

/**
 * vm_kill() - end QEMU at once, if there is one
 * @vm: the machine
 */
void vm_kill(struct vm *vm)
{
	if (vm->pid) {
		kill(vm->pid, SIGKILL);
		while (waitpid(vm->pid, &vm->status, 0) < 0 && errno == EINTR)
			;
	}
	vm->pid = 0;
	if (vm->pidfd >= 0)
		close(vm->pidfd);
	vm->pidfd = -1;
	qmp_close(&vm->qmp);
}
