// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio-liveupdate hold, release: physical functions whose driver takes no part in a
 * live update, for virtual functions that do.
 *
 * One that is held is stopped at the jump, and no driver of the next kernel has it
 * until it is released.  With that its virtual functions are gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libsmartcols/libsmartcols.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

#define HOLD "liveupdate_hold"
#define RELEASE "liveupdate_release"

/* How often in a second to look whether users have closed their devices */
#define LOOKS 50
/* After how many looks to say that they are waited for */
#define SOON 50

/* --- what both commands ask of a device --------------------------------------- */

static void attribute(const struct device *pf, const char *name, char *path,
		      size_t size)
{
	snprintf(path, size, "sys/bus/pci/devices/%s/%s", pf->bdf, name);
}

static int need_root(const char *command)
{
	complain("%s needs root: run it with sudo", command);
	return EXIT_NEEDS_ROOT;
}

/* Can this be done to the device at all?  Nothing is changed by looking. */
static int look_at(const struct device *dev, const char *command,
		   const char *name)
{
	char path[128];
	int fd;

	if (*dev->physfn) {
		complain("%s is a virtual function: name its physical one, %s",
			 dev->bdf, dev->physfn);
		return EXIT_FAILED;
	}
	attribute(dev, name, path, sizeof(path));
	fd = file_open(path, O_WRONLY);
	if (fd >= 0) {
		close(fd);
		return EXIT_OK;
	}
	if (fd == -EACCES || fd == -EPERM)
		return need_root(command);
	if (fd == -ENOENT && !dev->physical)
		complain(
			"%s is no physical function: it cannot have virtual ones (SR-IOV)",
			dev->bdf);
	else if (fd == -ENOENT)
		complain("this kernel holds no devices: there is no /%s", path);
	else
		complain("/%s: %s", path, strerror(-fd));
	return EXIT_FAILED;
}

/* All of them are looked at before anything is done to the first. */
static int look_at_all(const struct devices *devices, const char *command,
		       const char *name)
{
	int ret = EXIT_OK;

	for (size_t i = 0; !ret && i < devices->count; i++) {
		if (devices->all[i].chosen)
			ret = look_at(&devices->all[i], command, name);
	}
	return ret;
}

/* --- hold --------------------------------------------------------------------- */

static int explain_hold(const struct device *pf, int err)
{
	if (err == -EACCES || err == -EPERM)
		return need_root("hold");
	if (err == -EBUSY) {
		complain(
			"%s has to be held: virtual functions of it are preserved, see '" NAME
			" status'",
			pf->bdf);
		return EXIT_REFUSED;
	}
	complain("%s: " HOLD " cannot be written: %s", pf->bdf, strerror(-err));
	return EXIT_FAILED;
}

static int hold_device(const struct device *pf, bool undo)
{
	char path[128];
	int ret;

	attribute(pf, HOLD, path, sizeof(path));
	ret = file_write(path, undo ? "0" : "1");
	if (ret)
		return explain_hold(pf, ret);
	if (!undo && pf->bound.yes)
		complain(
			"warning: %s is bound to %s: its virtual functions go along when it is "
			"preserved, and not when it is held",
			pf->bdf, pf->driver);
	if (undo && device_came_held(pf))
		complain(
			"warning: %s came held from the previous kernel, and stays so until '" NAME
			" release %s'",
			pf->bdf, pf->bdf);
	if (undo)
		printf("%s is not to be held.\n", pf->bdf);
	else
		printf("%s is held when virtual functions of it are preserved: from the jump on no\n"
		       "driver has it, until '" NAME " release %s'.\n",
		       pf->bdf, pf->bdf);
	return EXIT_OK;
}

static int hold_all(const struct devices *devices, bool undo)
{
	int ret = look_at_all(devices, "hold", HOLD);

	for (size_t i = 0; !ret && i < devices->count; i++) {
		if (devices->all[i].chosen)
			ret = hold_device(&devices->all[i], undo);
	}
	return ret;
}

static int hold(int argc, char **argv)
{
	static const struct option options[] = {
		{ "undo", no_argument, NULL, 'u' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		SYSROOT_OPTION,
		{},
	};
	struct devices devices = {};
	int c, ret = EXIT_FAILED;
	bool undo = false;

	while ((c = next_option(argc, argv, options, &hold_command)) >= 0) {
		if (c == 'u')
			undo = true;
	}
	if (optind == argc)
		return wrong_usage(&hold_command, "DEVICE is missing");

	if (!devices_read(&devices))
		ret = devices_choose(&devices, argv + optind, argc - optind);
	if (!ret)
		ret = hold_all(&devices, undo);
	devices_free(&devices);
	return ret;
}

const struct command hold_command = {
	.name = "hold",
	.summary =
		"let virtual functions go along whose physical one has another driver",
	.help = "Usage: " NAME " hold [OPTION...] DEVICE...\n\n"
		"Lets virtual functions be preserved whose physical function, DEVICE, has a driver\n"
		"that takes no part.  It is held then: stopped at the jump, and of no use to the\n"
		"next kernel until it is released.  This has to be done anew after each boot.\n\n"
		"  -u, --undo         do not hold it\n"
		"  -h, --help         print this\n"
		"  -V, --version      print the version\n" SYSROOT_HELP,
	.run = hold,
};

/* --- who uses virtual functions ------------------------------------------------ */

/**
 * struct user - a process that has a device open
 * @pid: its number, or empty
 * @name: its name
 */
struct user {
	char pid[12], name[20];
};

/**
 * struct search - a search for users
 * @devices: devices
 * @users: a user of each, if it has one
 * @pid: process that is looked at
 */
struct search {
	const struct devices *devices;
	struct user *users;
	const char *pid;
};

static void add_user(struct search *search, const char *bdf)
{
	char path[64];

	for (size_t i = 0; i < search->devices->count; i++) {
		struct user *user = &search->users[i];

		if (strcmp(search->devices->all[i].bdf, bdf) != 0)
			continue;
		snprintf(user->pid, sizeof(user->pid), "%s", search->pid);
		snprintf(path, sizeof(path), "proc/%s/comm", user->pid);
		file_read(path, user->name, sizeof(user->name));
	}
}

/* Opened by name, got from a group, or retrieved from a session: VFIO says what it is. */
static int look_at_file(const char *fd, void *data)
{
	struct search *search = data;
	char path[64], text[512], *line, *rest = text;

	snprintf(path, sizeof(path), "proc/%s/fd/%s", search->pid, fd);
	file_link_name(path, text, sizeof(text));
	if (!strstr(text, "vfio"))
		return 0;
	snprintf(path, sizeof(path), "proc/%s/fdinfo/%s", search->pid, fd);
	file_read(path, text, sizeof(text));
	while ((line = strsep(&rest, "\n"))) {
		const char *name = strrchr(line, '/');

		if (!strncmp(line, "vfio-device-syspath:", 20) && name)
			add_user(search, name + 1);
	}
	return 0;
}

static int look_at_process(const char *pid, void *data)
{
	struct search *search = data;
	char path[300];

	if (pid[strspn(pid, "0123456789")])
		return 0;
	search->pid = pid;
	snprintf(path, sizeof(path), "proc/%s/fd", pid);
	file_walk(path, look_at_file, search);
	return 0;
}

/* Returns a user of each device, or NULL. */
static struct user *find_users(const struct devices *devices)
{
	struct user *users = calloc(devices->count, sizeof(*users));
	struct search search = { devices, users, NULL };

	if (users)
		file_walk("proc", look_at_process, &search);
	return users;
}

/* --- release: what would be done ------------------------------------------------ */

static const struct column columns[] = {
	{ "device", SCOLS_FL_TREE, 0, IN_TABLE },
	{ "name", SCOLS_FL_TRUNC, 0, IN_TABLE },
	{ "driver", 0, 0, IN_TABLE },
	{ "in use by", 0, 0, IN_TABLE },
	{}
};

static void *add_line(struct table *table, void *parent,
		      const struct device *dev, const struct user *user)
{
	void *line = table_line(table, parent);

	table_set(table, line, "device", "%s", dev->bdf);
	table_set(table, line, "name", "%s", dev->name);
	table_set(table, line, "driver", "%s", dev->driver);
	if (user && *user->pid)
		table_set(table, line, "in use by", "%s (%s)", user->pid,
			  user->name);
	return line;
}

static void add_tree(struct table *table, const struct devices *devices,
		     const struct device *pf, const struct user *users)
{
	void *line = add_line(table, NULL, pf, NULL);

	for (size_t i = 0; i < devices->count; i++) {
		const struct device *vf = &devices->all[i];

		if (device_is_below(vf, pf))
			add_line(table, line, vf, users ? &users[i] : NULL);
	}
}

static void show_ends(const struct devices *devices)
{
	struct table *table = table_new("devices", columns, false);
	struct user *users = find_users(devices);

	for (size_t i = 0; i < devices->count; i++) {
		if (devices->all[i].chosen)
			add_tree(table, devices, &devices->all[i], users);
	}
	table_print(&table, 1, false, NULL, false);
	free(users);
	puts("\nThe virtual functions end, whatever they do: their drivers are unbound, which\n"
	     "waits for whoever uses one.  The physical one is reset and given to its driver.");
}

static bool answer_is_yes(void)
{
	char answer[16];

	fputs("Go on? [y/N] ", stderr);
	if (!fgets(answer, sizeof(answer), stdin))
		return false;
	answer[strcspn(answer, "\n")] = '\0';
	return !strcasecmp(answer, "y") || !strcasecmp(answer, "yes");
}

static int confirm(bool yes)
{
	fflush(stdout);
	if (yes)
		return EXIT_OK;
	if (!isatty(STDIN_FILENO)) {
		complain(
			"nothing was done: there is no terminal to ask; --yes goes on");
		return EXIT_REFUSED;
	}
	if (answer_is_yes())
		return EXIT_OK;
	complain("nothing was done");
	return EXIT_REFUSED;
}

/* --- release: what stands against it --------------------------------------------- */

static int refuse_not_held(const struct device *pf)
{
	complain(
		"%s is not held: it did not come so from the previous kernel, or was released",
		pf->bdf);
	return EXIT_FAILED;
}

static int refuse_busy(const struct device *pf, const struct device *vf)
{
	if (vf)
		complain(
			"%s cannot be released: its virtual function %s is in a live update "
			"session, see '" NAME " status'",
			pf->bdf, vf->bdf);
	else
		complain(
			"%s cannot be released: a virtual function of it is in a live update "
			"session or has a driver again, see '" NAME
			" status' and '" NAME " list'",
			pf->bdf);
	return EXIT_REFUSED;
}

/* One that nobody has taken over, and that came with virtual functions, is, too. */
static bool can_release(const struct device *pf)
{
	return device_came_held(pf) ||
	       (!*pf->incoming && !*pf->driver && pf->vfs);
}

/* The kernel would say the same, but only after the user was asked. */
static int look_at_state(const struct devices *devices, const struct device *pf)
{
	if (!can_release(pf))
		return refuse_not_held(pf);
	for (size_t i = 0; i < devices->count; i++) {
		const struct device *vf = &devices->all[i];

		if (device_is_below(vf, pf) && (*vf->incoming || *vf->outgoing))
			return refuse_busy(pf, vf);
	}
	return EXIT_OK;
}

static int look_before(const struct devices *devices)
{
	int ret = look_at_all(devices, "release", RELEASE);

	for (size_t i = 0; !ret && i < devices->count; i++) {
		if (devices->all[i].chosen)
			ret = look_at_state(devices, &devices->all[i]);
	}
	return ret;
}

/* --- release: doing it ------------------------------------------------------------ */

static void tell_waiting(const struct devices *devices, const struct device *pf)
{
	struct user *users = find_users(devices);

	complain(
		"waiting until the virtual functions of %s are closed, which cannot be called "
		"off",
		pf->bdf);
	for (size_t i = 0; users && i < devices->count; i++) {
		if (device_is_below(&devices->all[i], pf) && *users[i].pid)
			complain("%s is in use by process %s (%s)",
				 devices->all[i].bdf, users[i].pid,
				 users[i].name);
	}
	free(users);
}

/* Returns what a child has ended with, which is an errno. */
static int wait_for(pid_t child, const struct devices *devices,
		    const struct device *pf)
{
	static const struct timespec moment = { .tv_nsec = 1000000000 / LOOKS };
	int status = 0;

	for (unsigned int looks = 0;; looks++) {
		pid_t ended = waitpid(child, &status, WNOHANG);

		if (ended < 0 && errno != EINTR)
			return -errno;
		if (ended > 0)
			break;
		if (looks == SOON)
			tell_waiting(devices, pf);
		nanosleep(&moment, NULL);
	}
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

/* The kernel removes no virtual function that a driver has. */
static int unbind(const struct device *vf)
{
	char path[128];
	int ret;

	attribute(vf, "driver/unbind", path, sizeof(path));
	ret = file_write(path, vf->bdf);
	/* It has none, or was removed meanwhile */
	return ret == -ENOENT || ret == -ENODEV ? 0 : ret;
}

static int unbind_and_release(const struct devices *devices,
			      const struct device *pf)
{
	char path[128];
	int ret = 0;

	for (size_t i = 0; !ret && i < devices->count; i++) {
		if (device_is_below(&devices->all[i], pf))
			ret = unbind(&devices->all[i]);
	}
	attribute(pf, RELEASE, path, sizeof(path));
	return ret ?: file_write(path, "1");
}

/*
 * A child does it, since it waits in the kernel for all users.  It is out of reach of
 * the terminal's signals, which would not end it, but be in the kernel's log.
 */
static int write_release(const struct devices *devices, const struct device *pf)
{
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child < 0)
		return -errno;
	if (!child) {
		setsid();
		close_range(STDIN_FILENO, STDERR_FILENO, 0);
		_exit(-unbind_and_release(devices, pf));
	}
	return wait_for(child, devices, pf);
}

static int explain_release(const struct device *pf, int err)
{
	switch (err) {
	case -EACCES:
	case -EPERM:
		return need_root("release");
	case -EBUSY:
		return refuse_busy(pf, NULL);
	case -EINVAL:
		return refuse_not_held(pf);
	default:
		complain("%s is not released: %s; the kernel's log says more",
			 pf->bdf, strerror(-err));
		return EXIT_FAILED;
	}
}

static int release_device(const struct devices *devices,
			  const struct device *pf)
{
	char path[128], driver[64];
	int ret = write_release(devices, pf);

	if (ret)
		return explain_release(pf, ret);
	attribute(pf, "driver", path, sizeof(path));
	file_link_name(path, driver, sizeof(driver));
	if (*driver)
		printf("%s is released, and has the driver %s.\n", pf->bdf,
		       driver);
	else
		printf("%s is released, and no driver has taken it.\n",
		       pf->bdf);
	return EXIT_OK;
}

static int release_all(const struct devices *devices, bool yes)
{
	int ret = look_before(devices);

	if (ret)
		return ret;
	show_ends(devices);
	ret = confirm(yes);
	for (size_t i = 0; !ret && i < devices->count; i++) {
		if (devices->all[i].chosen)
			ret = release_device(devices, &devices->all[i]);
	}
	return ret;
}

static int release(int argc, char **argv)
{
	static const struct option options[] = {
		{ "yes", no_argument, NULL, 'y' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		SYSROOT_OPTION,
		{},
	};
	struct devices devices = {};
	int c, ret = EXIT_FAILED;
	bool yes = false;

	while ((c = next_option(argc, argv, options, &release_command)) >= 0) {
		if (c == 'y')
			yes = true;
	}
	if (optind == argc)
		return wrong_usage(&release_command, "DEVICE is missing");

	if (!devices_read(&devices))
		ret = devices_choose(&devices, argv + optind, argc - optind);
	if (!ret)
		ret = release_all(&devices, yes);
	devices_free(&devices);
	return ret;
}

const struct command release_command = {
	.name = "release",
	.summary = "give a physical function that was held to its driver",
	.help = "Usage: " NAME " release [OPTION...] DEVICE...\n\n"
		"Gives DEVICE, a physical function that was held in a live update, to its driver.\n"
		"That removes its virtual functions, and waits until nobody has them open.  Says\n"
		"which these are, and asks before it does anything.\n\n"
		"  -y, --yes          do not ask\n"
		"  -h, --help         print this\n"
		"  -V, --version      print the version\n" SYSROOT_HELP,
	.run = release,
};
