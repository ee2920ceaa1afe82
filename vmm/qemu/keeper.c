// SPDX-License-Identifier: GPL-2.0-only
/*
 * The keeper of a virtual machine: starts its QEMU, waits beside it, and does what
 * other commands ask for through a socket: a line of JSON, {"do": WHAT}, which is
 * answered by one, with "error" and "exit" in it if it failed.
 *
 *              start                        resume
 *                |                             |
 *                v         prepare             v
 *             running  <------------->  prepared
 *                |          abort          |
 *                |           save          |
 *                +-----------+-------------+
 *                            v
 *                          saved ------> the next kernel
 *                            |
 *                            +--> resume: running, in this kernel
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lu-qemu.h"

/* How long a guest may take to turn itself off */
#define POWERDOWN_MS 60000
#define REQUEST_MS 5000

enum state { RUNNING, PREPARED, SAVED, KEPT };

static const char *const state_names[] = { "running", "prepared", "saved",
					   "kept" };

/**
 * struct keeper - a keeper
 * @vm: its virtual machine
 * @state: where that is on its way
 * @out: what is prepared or saved
 * @in: what came, and could not be started yet
 * @times: how long the steps of the last update took, in ms
 * @problems: what stands against taking the machine along
 * @control: socket for requests
 * @signals: for signals
 * @in_custody: the service manager has its session, too
 * @powerdown: when to end the machine, that was told to turn itself off; or 0
 * @ready: descriptor to say on that the machine runs; or -1
 */
struct keeper {
	struct vm vm;
	enum state state;
	struct outgoing out;
	struct incoming in;
	json_t *times;
	json_t *problems;
	int control;
	int signals;
	bool in_custody;
	int64_t powerdown;
	int ready;
};

static int exit_of(int error)
{
	switch (error) {
	case 0:
		return EXIT_OK;
	case -EPERM:
	case -EACCES:
		return EXIT_NEEDS_ROOT;
	case -EOPNOTSUPP:
	case -EBUSY:
	case -EPROTOTYPE:
	case -EREMOTEIO:
		return EXIT_REFUSED;
	default:
		return EXIT_FAILED;
	}
}

/* --- what can be asked for -------------------------------------------------- */

/*
 * The service manager keeps a copy of the session when this process ends, and over the
 * kexec. Without a service manager this process has to live until then.
 */
static int give_into_custody(struct keeper *k, int session)
{
	char name[LU_SESSION_NAME_SIZE];
	int ret;

	if (!systemd_keeps())
		return 0;
	session_name(name, k->vm.name);
	ret = lu_custody_store(session, name);
	k->in_custody = !ret;
	if (!ret)
		return 0;
	return failed(ret, "leaving its session with systemd: %s",
		      strerror(-ret));
}

static void leave_custody(struct keeper *k)
{
	char name[LU_SESSION_NAME_SIZE];
	int ret;

	session_name(name, k->vm.name);
	ret = lu_custody_remove(name);
	if (ret && ret != -ENOTCONN)
		say("systemd keeps its session: %s", strerror(-ret));
	k->in_custody = false;
}

static int prepare(struct keeper *k)
{
	int ret;

	if (k->state == PREPARED || k->state == SAVED)
		return 0;
	if (k->state != RUNNING)
		return failed(
			-EINVAL,
			"it came from the previous kernel and does not run yet: lu-qemu resume %s",
			k->vm.name);
	if (systemd_here() && !systemd_keeps())
		return failed(
			-EOPNOTSUPP,
			"it is no service whose files systemd keeps, and would be ended before the jump: start it as lu-qemu@%s.service",
			k->vm.name);
	ret = outgoing_prepare(&k->out, &k->vm);
	if (!ret)
		k->state = PREPARED;
	return ret;
}

static int abort_save(struct keeper *k)
{
	int ret;

	if (k->state == RUNNING)
		return vm_go_on(&k->vm);
	if (k->state != PREPARED)
		return failed(-EINVAL, "it is %s: resume it",
			      state_names[k->state]);
	ret = outgoing_abort(&k->out, &k->vm);
	k->state = RUNNING;
	return ret;
}

static int back(struct keeper *k)
{
	json_t *times;
	int ret;

	leave_custody(k);
	ret = outgoing_back(&k->out, &k->vm, &times);
	if (ret)
		return ret;
	json_decref(k->times);
	k->times = times;
	k->state = RUNNING;
	return 0;
}

/* Too late for that QEMU, but not for the machine. */
static void back_after_failure(struct keeper *k)
{
	char reason[1024];

	snprintf(reason, sizeof(reason), "%s", why_failed());
	if (back(k))
		say("it is %s: %s", state_names[k->state], why_failed());
	failed(0, "%s", reason);
}

/* It may not be preserved any more, and could not go on in this kernel, either. */
static int save_again(struct keeper *k)
{
	bool again = lu_set_session(k->out.set) < 0;
	int ret = outgoing_again(&k->out, &k->vm);

	if (!ret && again)
		ret = give_into_custody(k, lu_set_session(k->out.set));
	return ret;
}

static int save(struct keeper *k)
{
	int ret = prepare(k);

	if (ret)
		return ret;
	if (k->state == SAVED)
		return save_again(k);
	ret = outgoing_save(&k->out, &k->vm);
	k->powerdown = 0;
	k->state = k->vm.pid ? RUNNING : SAVED;
	json_decref(k->times);
	k->times = json_deep_copy(k->out.times);
	if (!ret)
		ret = give_into_custody(k, lu_set_session(k->out.set));
	if (ret && k->state == SAVED)
		back_after_failure(k);
	return ret;
}

static int go_on(struct keeper *k)
{
	int ret = incoming_resume(&k->in, &k->vm);

	json_decref(k->times);
	k->times = json_deep_copy(k->in.times);
	json_object_update_missing(k->times,
				   json_object_get(k->in.json, "times"));
	if (ret) {
		k->state = KEPT;
		return ret;
	}
	k->state = RUNNING;
	leave_custody(k);
	incoming_free(&k->in);
	if (inspect_shape(&k->vm))
		say("%s", why_failed());
	return 0;
}

static int resume(struct keeper *k)
{
	switch (k->state) {
	case SAVED:
		return back(k);
	case KEPT:
		return go_on(k);
	default:
		return abort_save(k);
	}
}

/* As if nobody had wanted it to go along; what came is not touched. */
static int undo(struct keeper *k)
{
	return k->state == KEPT ? 0 : resume(k);
}

static json_t *status(struct keeper *k)
{
	int version = k->vm.pid ? qmp_version(&k->vm.qmp) : 0;
	char text[16] = "";

	if (version)
		snprintf(text, sizeof(text), "%d.%d", version / 100,
			 version % 100);
	return json_pack("{s:s, s:s, s:i, s:i, s:s, s:O, s:O}", "name",
			 k->vm.name, "state", state_names[k->state], "pid",
			 (int)k->vm.pid, "keeper", (int)getpid(), "qemu", text,
			 "times", k->times, "problems", k->problems);
}

/* --- requests --------------------------------------------------------------- */

static int carry_out(struct keeper *k, const char *what)
{
	static const struct {
		const char *name;
		int (*run)(struct keeper *k);
	} requests[] = {
		{ "prepare", prepare },
		{ "save", save },
		{ "abort", undo },
		{ "resume", resume },
	};

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
		if (!strcmp(requests[i].name, what))
			return requests[i].run(k);
	return strcmp(what, "status") ?
		       failed(-EINVAL, "\"%s\" is not known here", what) :
		       0;
}

static void serve(struct keeper *k, int fd)
{
	struct lines lines = { .fd = fd };
	json_t *request, *answer;
	int ret = lines_json(&lines, deadline_in(REQUEST_MS), &request);

	if (ret)
		goto out;
	ret = carry_out(k, json_text(request, "do"));
	json_decref(request);
	answer = status(k);
	if (ret) {
		say("%s", why_failed());
		json_object_set_new(answer, "error", json_string(why_failed()));
		json_object_set_new(answer, "exit", json_integer(exit_of(ret)));
	}
	send_json(fd, answer);
	json_decref(answer);
out:
	lines_end(&lines);
}

/* --- signals ---------------------------------------------------------------- */

/* Turn the machine off; true if it is told so for the second time, and gone. */
static bool power_down(struct keeper *k)
{
	abort_save(k);
	if (k->powerdown) {
		vm_kill(&k->vm);
		return true;
	}
	qmp_call(&k->vm.qmp, "system_powerdown", NULL, NULL);
	k->powerdown = deadline_in(POWERDOWN_MS);
	return false;
}

/*
 * Told to stop. If systemd is about to start another kernel the machine is taken
 * along, but for one that systemd would not give back. Otherwise it is turned off.
 * Returns true if this process is to end.
 */
static bool told_to_stop(struct keeper *k)
{
	bool kexec = systemd_keeps() && systemd_goes_to_kexec();

	if (kexec && (k->state == RUNNING || k->state == PREPARED) && save(k))
		say("not taken along, and turned off: %s", why_failed());
	if (kexec && k->in_custody)
		return true;
	if (k->state == SAVED && back(k))
		say("%s", why_failed());
	if (k->state == RUNNING || k->state == PREPARED)
		return power_down(k);
	/* What came from the previous kernel can be had again */
	if (k->in_custody)
		return true;
	say("it is %s: not ending, which would lose it", state_names[k->state]);
	return false;
}

/* --- life ------------------------------------------------------------------- */

static int lock(struct keeper *k)
{
	char path[100];

	vm_path(&k->vm, "lock", path);
	k->vm.lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (k->vm.lock < 0)
		return failed(-errno, "%s: %m", path);
	if (flock(k->vm.lock, LOCK_EX | LOCK_NB))
		return failed(
			-EEXIST,
			"it has a keeper already (lu-qemu status shows it), or a QEMU whose keeper is gone: shut that down");
	return 0;
}

static int set_up(struct keeper *k)
{
	char path[100];
	sigset_t set;

	outgoing_init(&k->out);
	incoming_init(&k->in);
	k->times = json_object();
	k->problems = json_array();
	vm_path(&k->vm, "control", path);
	k->control = socket_listen(path);
	if (k->control < 0)
		return k->control;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	k->signals = signalfd(-1, &set, SFD_CLOEXEC);
	return k->signals < 0 ? failed(-errno, "signals: %m") : 0;
}

static int take_words(struct keeper *k, const struct options *options)
{
	char *cwd = getcwd(NULL, 0);

	k->vm.argv = json_array();
	k->vm.cwd = cwd;
	for (char **word = options->argv; *word; word++)
		if (json_array_append_new(k->vm.argv, json_string(*word)))
			return failed(-EINVAL, "%s: not UTF-8", *word);
	/* All of this is to be said in JSON when it crosses */
	if (!cwd || json_array_append_new(k->vm.argv, json_string(cwd)))
		return failed(-EINVAL, "the name of this folder is not UTF-8");
	json_array_remove(k->vm.argv, json_array_size(k->vm.argv) - 1);
	return vm_check_argv(k->vm.argv);
}

static int start(struct keeper *k, const struct options *options)
{
	json_t *problem;
	size_t i;
	int ret = take_words(k, options);

	if (!ret)
		ret = vm_start(&k->vm, NULL, -1);
	if (ret)
		return ret;
	ret = inspect(&k->vm, k->problems);
	json_array_foreach(k->problems, i, problem)
		say("%s", json_string_value(problem));
	if (ret && !options->force) {
		vm_kill(&k->vm);
		return failed(
			ret,
			"it could not be taken along, and was not started (--force starts it)");
	}
	ret = inspect_shape(&k->vm);
	k->vm.held = !vm_held(&k->vm);
	if (!ret)
		ret = vm_go_on(&k->vm);
	if (ret)
		vm_kill(&k->vm);
	return ret;
}

/* Has the previous kernel handed it over? If it cannot be told, a negative errno. */
static int is_incoming(const struct keeper *k)
{
	json_t *names = json_array();
	int ret = names_incoming(names), luo = ret ? lu_open() : -1;

	if (!ret)
		ret = names_have(names, k->vm.name);
	/* A kernel without live updates has nothing */
	else if (luo == -ENOENT)
		ret = 0;
	if (luo >= 0)
		close(luo);
	json_decref(names);
	return ret;
}

/* Get the session out of the kernel; the service manager keeps it from then on, too. */
static int retrieve_session(struct keeper *k, const char *name)
{
	int luo = luo_open(), session;

	if (luo < 0)
		return luo;
	session = lu_session_retrieve(luo, name);
	close(luo);
	if (session == -ENOENT)
		return failed(
			session,
			"the previous kernel handed over no such machine");
	if (session == -EINVAL)
		return failed(
			session,
			"somebody has its session: if systemd does, systemctl start lu-qemu@%s",
			k->vm.name);
	if (session < 0)
		return failed(session, "its session: %s", strerror(-session));
	if (give_into_custody(k, session))
		say("%s", why_failed());
	return session;
}

/* Is there a machine in it? One of this kernel, or that is over, has none. */
static int check_session(struct keeper *k, int session)
{
	int manifest = lu_session_retrieve_fd(session, LU_MANIFEST_TOKEN);

	if (manifest >= 0)
		close(manifest);
	if (manifest != -EINVAL && manifest != -ENOENT)
		return session;
	say("a session without a machine is dropped: it was prepared and not saved, or is over");
	lu_session_finish(session);
	close(session);
	leave_custody(k);
	return failed(-ENOENT,
		      "the previous kernel handed over no such machine");
}

static int take_session(struct keeper *k)
{
	char name[LU_SESSION_NAME_SIZE];
	int session;

	session_name(name, k->vm.name);
	session = lu_custody_take(name);
	k->in_custody = session >= 0;
	if (session >= 0)
		session = check_session(k, session);
	if (session >= 0)
		return session;
	session = retrieve_session(k, name);
	return session < 0 ? session : check_session(k, session);
}

static int begin(struct keeper *k, const struct options *options)
{
	int session, ret;

	if (options->task == TASK_START) {
		ret = is_incoming(k);
		if (ret <= 0)
			return ret ? ret : start(k, options);
		return failed(
			-EEXIST,
			"the previous kernel handed it over: resume it, or run it with --either");
	}
	session = take_session(k);
	/* A kernel without live updates has nothing of it, either */
	if (options->task == TASK_EITHER &&
	    (session == -ENOENT || (session < 0 && !is_incoming(k))))
		return start(k, options);
	if (session < 0)
		return session;
	ret = incoming_open(&k->in, &k->vm, session);
	return ret ? ret : go_on(k);
}

static int qemu_exit(const struct keeper *k)
{
	if (WIFEXITED(k->vm.status) && !WEXITSTATUS(k->vm.status))
		return EXIT_OK;
	say("QEMU ended with %s %d",
	    WIFEXITED(k->vm.status) ? "exit code" : "signal",
	    WIFEXITED(k->vm.status) ? WEXITSTATUS(k->vm.status) :
				      WTERMSIG(k->vm.status));
	return EXIT_FAILED;
}

/* Tell whoever waits for the machine to run. */
static void tell(struct keeper *k, int result)
{
	char byte = result;

	if (k->ready < 0)
		return;
	if (write(k->ready, &byte, 1) != 1)
		say("nobody waits for the machine");
	close(k->ready);
	k->ready = -1;
}

/* Wait beside QEMU; returns how to exit. */
static int wait_beside(struct keeper *k)
{
	for (;;) {
		struct pollfd fds[] = {
			{ .fd = k->control, .events = POLLIN },
			{ .fd = k->signals, .events = POLLIN },
			{ .fd = k->vm.pidfd, .events = POLLIN },
			{ .fd = k->vm.qmp.lines.fd, .events = POLLIN },
		};
		int left = k->powerdown ? deadline_left(k->powerdown) : -1;
		struct signalfd_siginfo info;
		int fd;

		if (poll(fds, ARRAY_SIZE(fds), left) < 0 && errno != EINTR)
			return EXIT_FAILED;
		if (k->powerdown && !deadline_left(k->powerdown)) {
			vm_kill(&k->vm);
			return EXIT_OK;
		}
		if (fds[3].revents && k->vm.pid)
			qmp_take(&k->vm.qmp);
		if ((k->state == RUNNING || k->state == PREPARED) &&
		    vm_ended(&k->vm))
			return qemu_exit(k);
		if (fds[1].revents &&
		    read(k->signals, &info, sizeof(info)) == sizeof(info) &&
		    told_to_stop(k))
			return EXIT_OK;
		if (!fds[0].revents)
			continue;
		fd = socket_accept(k->control, deadline_in(0));
		if (fd >= 0)
			serve(k, fd);
	}
}

static int run(struct keeper *k, const struct options *options)
{
	char path[100];
	int ret = set_up(k);

	say_for(options->name);
	if (!ret)
		ret = begin(k, options);
	if (ret)
		say("%s", why_failed());
	/* What came is kept, and can be tried again */
	if (ret && k->state != KEPT) {
		tell(k, exit_of(ret));
		return exit_of(ret);
	}
	if (ret)
		say("what the previous kernel handed over is kept: lu-qemu resume %s tries again",
		    options->name);
	systemd_ready(state_names[k->state]);
	tell(k, exit_of(ret));
	ret = wait_beside(k);
	vm_path(&k->vm, "control", path);
	unlink(path);
	return ret;
}

/* Say what a keeper in the background and its QEMU have said so far. */
static void repeat(const char *path)
{
	FILE *log = fopen(path, "re");
	char line[1024];

	while (log && fgets(line, sizeof(line), log))
		fputs(line, stderr);
	if (log)
		fclose(log);
}

/*
 * The process that was started returns when the machine runs; what is said from then
 * on is in a file.
 */
static int in_background(struct keeper *k)
{
	char result = EXIT_FAILED, path[100];
	int fds[2], log;
	pid_t pid;

	vm_path(&k->vm, "log", path);
	log = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC,
		   0600);
	if (log < 0 || pipe2(fds, O_CLOEXEC))
		return failed(-errno, "%s: %m", path);
	pid = fork();
	if (pid < 0)
		return failed(-errno, "a process: %m");
	if (pid) {
		close(fds[1]);
		if (read(fds[0], &result, 1) != 1)
			result = EXIT_FAILED;
		repeat(path);
		exit(result);
	}
	close(fds[0]);
	k->ready = fds[1];
	setsid();
	/* It is not the service any more that it was started in, if it was */
	unsetenv("NOTIFY_SOCKET");
	dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
	dup2(log, STDOUT_FILENO);
	dup2(log, STDERR_FILENO);
	return 0;
}

/**
 * keeper() - be the keeper of a virtual machine
 * @options: which, and how to begin
 *
 * Return: one of EXIT_*
 */
int keeper(const struct options *options)
{
	struct keeper k = { .control = -1, .signals = -1, .ready = -1 };
	int ret = vm_new(&k.vm, options->name);
	struct rlimit files;

	/* Two for each vector of each device, twice while a machine is saved */
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}

	/* Before the log of the one that there is */
	if (!ret)
		ret = lock(&k);
	if (!ret && options->background)
		ret = in_background(&k);
	if (!ret)
		return run(&k, options);
	say_for(options->name);
	say("%s", why_failed());
	return exit_of(ret);
}
