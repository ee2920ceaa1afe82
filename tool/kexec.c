// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio-liveupdate kexec: replace the kernel.
 *
 * First look whether it would go well, then load the next kernel and write all
 * file systems to their disks, then jump: by systemd when it is PID 1, so that
 * services are stopped in order and keep what they have in their file descriptor
 * stores, else directly.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libsmartcols/libsmartcols.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <luo_bzimage.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tool.h"

/* The first that keeps live update sessions in file descriptor stores through a kexec */
#define SYSTEMD_SESSIONS 261

#define SILENCE "sys/module/vfio_pci/parameters/liveupdate_silence"

/**
 * struct plan - what is to be done
 * @kernel: path of the next kernel's image
 * @initrd: path of its initrd, or NULL
 * @cmdline: its command line
 * @append: what the user adds to it, or NULL
 * @reuse: begin with the command line of this kernel
 * @dry: only say what would be done
 * @force: go on whatever is found
 * @json: say it in JSON
 * @systemd: systemd does the jump
 
 * @takes: what the next kernel takes over
 * @silenced: what vfio-pci's parameter for @silence was before
 * @needs: what it has to, for what is preserved
 * @missing: what it does not
 * @known: the kernel has told what is needed
 */
struct plan {
	const char *kernel, *initrd;
	char cmdline[MAX_CMDLINE];
	const char *append;
	bool reuse, dry, force, json, systemd, silence;
	char silenced[8];
	bool known;
	char takes[MAX_VERSIONS], needs[MAX_VERSIONS], missing[MAX_VERSIONS];
};

/* --- the next kernel's command line ------------------------------------------ */

static int make_cmdline(struct plan *plan)
{
	int ret = plan->reuse ?
			  cmdline_reuse(plan->cmdline, sizeof(plan->cmdline)) :
			  0;
	size_t n = strlen(plan->cmdline);

	if (!ret && plan->append) {
		n += snprintf(plan->cmdline + n, sizeof(plan->cmdline) - n,
			      "%s%s", n ? " " : "", plan->append);
		if (n >= sizeof(plan->cmdline))
			ret = -E2BIG;
	}
	if (ret)
		complain("the next kernel's command line: %s", strerror(-ret));
	return ret;
}

/* Of a parameter that has a list of words: is the last of "on" and "off" in it "off"? */
static bool ends_with_off(const char *cmdline, const char *name)
{
	char values[MAX_CMDLINE], *state, *word;
	bool off = false;

	cmdline_list(cmdline, name, values);
	for (word = strtok_r(values, ",", &state); word;
	     word = strtok_r(NULL, ",", &state)) {
		if (!strncmp(word, "off", 3))
			off = true;
		else if (!strncmp(word, "on", 2))
			off = false;
	}
	return off;
}

/* Of a parameter that has a list of words: does one begin with these @n characters? */
static bool has_word(const char *cmdline, const char *name, const char *wanted,
		     size_t n)
{
	char values[MAX_CMDLINE], *state, *word;

	cmdline_list(cmdline, name, values);
	for (word = strtok_r(values, ",", &state); word;
	     word = strtok_r(NULL, ",", &state)) {
		if (!strncmp(word, wanted, n))
			return true;
	}
	return false;
}

/* As the kernel does it: "off" anywhere in iommu=, the last word in intel_iommu= */
static bool turns_iommu_off(const char *cmdline)
{
	return has_word(cmdline, "iommu", "off", 3) ||
	       ends_with_off(cmdline, "intel_iommu");
}

/* As the kernel does it: "noats" anywhere in pci=, and no longer word */
static bool turns_ats_off(const char *cmdline)
{
	return has_word(cmdline, "pci", "noats", sizeof("noats"));
}

/* As the kernel does it: the last word in intremap=; it is off without an IO-APIC, too */
static bool turns_remapping_off(const char *cmdline)
{
	static const char *const others[] = { "nointremap", "noapic",
					      "nolapic",    "disableapic",
					      "nosmp",	    NULL };
	bool off = ends_with_off(cmdline, "intremap");
	char value[16];

	for (size_t i = 0; others[i]; i++)
		off = off ||
		      cmdline_get(cmdline, others[i], value, sizeof(value));
	if (cmdline_get(cmdline, "maxcpus", value, sizeof(value)))
		off = off || !strtoul(value, NULL, 0);
	return off;
}

/* --- what stands against it ------------------------------------------------- */

/**
 * struct doubts - what was found before the jump
 * @serious: how much of it is a reason not to jump
 */
struct doubts {
	unsigned int serious;
};

static void refuse(struct doubts *doubts, const char *why)
{
	doubts->serious++;
	complain("%s", why);
}

static void doubt_kernel(struct doubts *doubts)
{
	struct finding findings[MAX_FINDINGS];
	size_t count = kernel_look(findings);

	for (size_t i = 0; i < count; i++) {
		if (findings[i].verdict != FINDING_NO)
			continue;
		doubts->serious++;
		complain("%s: %s: %s", findings[i].what, findings[i].value,
			 findings[i].advice);
	}
}

static void doubt_cmdline(struct doubts *doubts, const struct plan *plan,
			  bool running)
{
	char own[MAX_CMDLINE], value[8];

	file_read("proc/cmdline", own, sizeof(own));
	if (!cmdline_flag(plan->cmdline, "liveupdate", false))
		refuse(doubts,
		       "the next kernel would take nothing over: its command line needs "
		       "liveupdate=on (--append, or --reuse-cmdline)");
	if (!cmdline_flag(plan->cmdline, "kho", true))
		refuse(doubts,
		       "the next kernel would take nothing over: its command line has kho=off");
	if (cmdline_get(own, "crashkernel", value, sizeof(value)) &&
	    !cmdline_get(plan->cmdline, "crashkernel", value, sizeof(value)))
		complain(
			"warning: the next kernel sets no memory aside for a crash kernel: its "
			"command line has no crashkernel=");
	if (running && turns_iommu_off(plan->cmdline))
		refuse(doubts,
		       "the next kernel would stop at once: its command line turns off the "
		       "IOMMU, which devices in running mode need");
	if (running && turns_remapping_off(plan->cmdline) &&
	    !turns_remapping_off(own))
		refuse(doubts,
		       "the next kernel would stop at once: its command line turns off "
		       "interrupt remapping, which keeps devices in running mode from raising "
		       "interrupts");
}

/* A kernel that does not use ATS stops what has it; @all: what is not preserved yet, too */
static void doubt_ats(struct doubts *doubts, const struct plan *plan,
		      const struct devices *devices, bool all)
{
	if (!turns_ats_off(plan->cmdline))
		return;

	for (size_t i = 0; i < devices->count; i++) {
		const struct device *dev = &devices->all[i];

		if ((strcmp(dev->outgoing, "running") != 0 &&
		     !(all && dev->bound.yes)) ||
		    !device_has_ats(dev))
			continue;
		doubts->serious++;
		complain(
			"the next kernel would stop %s, which has ATS enabled: its command "
			"line has pci=noats",
			dev->bdf);
	}
}

/* 0 when it does not say */
static unsigned int systemd_version(void)
{
	FILE *said =
		popen("systemctl show --property=Version 2>/dev/null", "re");
	unsigned int version = 0;

	if (!said)
		return 0;
	if (fscanf(said, "Version=%u", &version) != 1)
		version = 0;
	pclose(said);
	return version;
}

static void doubt_systemd(struct doubts *doubts)
{
	unsigned int version = systemd_version();

	if (!version || version >= SYSTEMD_SESSIONS)
		return;
	doubts->serious++;
	complain(
		"what is preserved would be lost: systemd %u takes no sessions along, and "
		"first ends the services that have them (%d takes them along)",
		version, SYSTEMD_SESSIONS);
}

static size_t outgoing_files(const struct sessions *sessions)
{
	size_t files = 0;

	for (size_t i = 0; i < sessions->count; i++)
		if (!sessions->all[i].incoming)
			files += sessions->all[i].nr_files;
	return files;
}

static void doubt_sessions(struct doubts *doubts, const struct plan *plan,
			   const struct sessions *sessions)
{
	size_t files = outgoing_files(sessions);

	for (size_t i = 0; i < sessions->count; i++) {
		const struct session *session = &sessions->all[i];

		if (session->incoming && session->nr_files) {
			doubts->serious++;
			complain(
				"session '%s' came from the previous kernel and is not finished: "
				"what is in it would be lost",
				session->name);
		}
	}
	if (sessions->known && !files)
		complain(
			"warning: nothing is preserved, this is a kexec like any other");
	if (files && plan->systemd)
		doubt_systemd(doubts);
}

static void doubt_held(const struct devices *devices, const struct device *pf)
{
	size_t count = 0;

	for (size_t i = 0; i < devices->count; i++)
		count += device_is_below(&devices->all[i], pf) &&
			 *devices->all[i].outgoing;
	if (!strcmp(pf->outgoing, "held"))
		complain(
			"warning: %s (%s) is held for %zu virtual function%s: the next kernel has "
			"no driver for it until '" NAME " release %s'",
			pf->bdf, *pf->driver ? pf->driver : "no driver", count,
			count == 1 ? "" : "s", pf->bdf);
	else if (device_came_held(pf) && pf->vfs)
		complain(
			"warning: %s is held, and none of its virtual functions is preserved: "
			"what they do ends",
			pf->bdf);
}

/* Returns whether any device goes along in running mode. */
static bool doubt_devices(const struct devices *devices)
{
	bool running = false;

	for (size_t i = 0; i < devices->count; i++) {
		const struct device *dev = &devices->all[i];

		running = running || !strcmp(dev->outgoing, "running");
		if (dev->bound.yes && !*dev->outgoing)
			complain("warning: %s is bound to %s and not preserved",
				 dev->bdf, dev->driver);
		doubt_held(devices, dev);
	}
	return running;
}

static void doubt_files(const struct session *session, const char *takes)
{
	for (size_t i = 0; i < session->nr_files; i++) {
		const struct session_file *file = &session->files[i];

		if (!session->incoming && luo_versions_omit(takes, file->kind))
			complain(
				"warning: session '%s', token %s: the next kernel does not take "
				"%s, the file stays behind",
				session->name, file->token, file->kind);
	}
}

/* What the kernel would say when the image is loaded, and not why */
static void doubt_kind(struct doubts *doubts, const struct plan *plan)
{
	struct image_kind kind;
	char why[32];

	if (image_kind(plan->kernel, &kind))
		return;
	if (kind.uki) {
		doubts->serious++;
		complain(
			"%s is a unified kernel image (UKI), which cannot be loaded: take the kernel "
			"out of it (objcopy -O binary --only-section=.linux), and likewise .initrd",
			plan->kernel);
	} else if (!kind.is_signed &&
		   kernel_wants_signature(why, sizeof(why)) &&
		   !(kind.has_ima && kernel_may_appraise())) {
		doubts->serious++;
		complain(
			"%s has no signature, and this kernel loads signed images only (%s)",
			plan->kernel, why);
	}
}

/* Whether there is such a file at all is seen when it is loaded. */
static void doubt_image(struct doubts *doubts, struct plan *plan,
			const struct sessions *sessions)
{
	int ret = image_takes(plan->kernel, plan->takes, sizeof(plan->takes));

	plan->known = sessions->known;
	for (size_t i = 0; i < sessions->count; i++)
		doubt_files(&sessions->all[i], plan->takes);
	snprintf(plan->needs, sizeof(plan->needs), "%s", sessions->needs);
	if (!versions_missing(plan->needs, plan->takes, plan->missing))
		return;
	doubts->serious++;
	if (ret)
		complain("%s: what it takes over cannot be read: %s",
			 plan->kernel, strerror(-ret));
	complain(
		"the next kernel does not take %s, which preserved files need; it "
		"takes %s",
		plan->missing, *plan->takes ? plan->takes : "nothing");
}

/*
 * Devices that will be preserved in running mode need all of this; in which versions is
 * known when they are, and the kernel then refuses the jump if these are missing.
 */
static void doubt_running(struct doubts *doubts, const struct plan *plan)
{
	static const char *const needed[] = { "pci-v", "vfio-pci-v", "iommu-v",
					      "iommufd-v" };

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		size_t length = strlen(needed[i]);
		const char *at = plan->takes;

		while (*at && strncmp(at, needed[i], length)) {
			at += strcspn(at, " ");
			at += *at == ' ';
		}
		if (*at)
			continue;
		doubts->serious++;
		complain(
			"the next kernel does not take %s*, which devices of virtual machines need",
			needed[i]);
	}
}

/* Returns EXIT_OK when nothing serious stands against the jump. */
static int look_before(struct plan *plan)
{
	struct doubts doubts = {};
	struct sessions sessions = {};
	struct devices devices = {};
	bool running, helpers;
	int ret;

	doubt_kernel(&doubts);
	ret = sessions_read(&sessions);
	if (ret)
		complain("warning: sessions cannot be looked at: %s",
			 strerror(-ret));
	doubt_sessions(&doubts, plan, &sessions);
	doubt_kind(&doubts, plan);
	doubt_image(&doubts, plan, &sessions);
	running = !devices_read(&devices) && doubt_devices(&devices);
	/* They have their devices running until they are told to stop */
	helpers = helpers_own(&sessions);
	if (helpers)
		doubt_running(&doubts, plan);
	doubt_cmdline(&doubts, plan, running || helpers);
	doubt_ats(&doubts, plan, &devices, helpers);
	devices_free(&devices);
	sessions_free(&sessions);
	return doubts.serious ? EXIT_REFUSED : EXIT_OK;
}

/* --- loading ----------------------------------------------------------------- */

static int open_image(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		complain("%s: %s", path, strerror(errno));
	return fd;
}

static const char *why_not_loaded(int err)
{
	switch (err) {
	case ENOEXEC:
		return "it is no kernel that this one can start (a bzImage with "
		       "CONFIG_RELOCATABLE)";
	case EPERM:
		return "the kernel does not allow it: look at the sysctl "
		       "kernel.kexec_load_disabled; or it is locked down, and does not know "
		       "who signed this";
	case EBUSY:
		return "somebody else is loading one";
	case EBADMSG:
	case EKEYREJECTED:
	case ELIBBAD:
	case ENODATA:
	case ENOKEY:
		return "it needs a signature that this kernel knows";
	case EADDRNOTAVAIL:
	case ENOMEM:
		return "there is not enough memory for it: it has to fit into what kho_scratch= "
		       "sets aside";
	default:
		return strerror(err);
	}
}

static int load(const struct plan *plan, int kernel, int initrd)
{
	unsigned long flags = initrd < 0 ? KEXEC_FILE_NO_INITRAMFS : 0;

	if (!syscall(SYS_kexec_file_load, kernel, initrd,
		     strlen(plan->cmdline) + 1, plan->cmdline, flags))
		return EXIT_OK;
	complain("%s cannot be loaded: %s", plan->kernel,
		 why_not_loaded(errno));
	return EXIT_FAILED;
}

static int load_files(const struct plan *plan)
{
	int kernel = open_image(plan->kernel), initrd = -1;
	int ret = EXIT_FAILED;

	if (kernel < 0)
		return ret;
	if (plan->initrd)
		initrd = open_image(plan->initrd);
	if (!plan->initrd || initrd >= 0)
		ret = load(plan, kernel, initrd);
	if (initrd >= 0)
		close(initrd);
	close(kernel);
	return ret;
}

/* What can be said of the files without loading them */
static int try_files(const struct plan *plan)
{
	const char *const paths[] = { plan->kernel, plan->initrd };

	for (size_t i = 0; i < 2 && paths[i]; i++) {
		int fd = open_image(paths[i]);

		if (fd < 0)
			return EXIT_FAILED;
		close(fd);
	}
	return EXIT_OK;
}

/* --- the jump ---------------------------------------------------------------- */

/* Interrupts that somebody left on do not refuse the jump. */
static int silence(struct plan *plan)
{
	int ret;

	/* Then it has no devices, either */
	if (!file_exists("sys/module/vfio_pci"))
		return 0;
	ret = file_read(SILENCE, plan->silenced, sizeof(plan->silenced));
	if (!ret)
		ret = file_write(SILENCE, "1");
	if (ret)
		complain(
			"this kernel cannot turn devices' interrupts off (vfio-pci's "
			"parameter liveupdate_silence): %s",
			strerror(-ret));
	return ret;
}

static void unsilence(const struct plan *plan)
{
	if (*plan->silenced && file_write(SILENCE, plan->silenced))
		complain("warning: %s stays on", SILENCE);
}

static int jump(const struct plan *plan)
{
	FILE *log = log_follow();
	int err;

	if (helpers_run("save")) {
		unsilence(plan);
		complain("everything goes on; the next kernel stays loaded");
		return EXIT_REFUSED;
	}
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
		LINUX_REBOOT_CMD_KEXEC, NULL);
	err = errno;
	complain("the kernel refuses to jump: %s", strerror(err));
	log_repeat(log);
	unsilence(plan);
	if (!plan->silence && err == EINVAL)
		complain(
			"where that is because of interrupts that a program left on: --silence "
			"goes on in spite of them");
	complain("everything goes on; the next kernel stays loaded");
	return EXIT_REFUSED;
}

static int jump_by_systemd(const struct plan *plan)
{
	static char *const command[] = { "systemctl", "kexec", NULL };

	if (!run_program(command))
		return EXIT_OK;
	unsilence(plan);
	return EXIT_FAILED;
}

/* --- the command ------------------------------------------------------------- */

static void add_versions(struct table *table, const struct plan *plan)
{
	char words[2 * MAX_VERSIONS + 1], *state, *word;

	snprintf(words, sizeof(words), "%s %s", plan->takes, plan->missing);
	for (word = strtok_r(words, " ", &state); word;
	     word = strtok_r(NULL, " ", &state)) {
		void *line = table_line(table, NULL);

		table_set(table, line, "version", "%s", word);
		table_set(table, line, "taken", "%d",
			  luo_versions_have(plan->takes, word));
		table_set(table, line, "needed", "%d",
			  luo_versions_have(plan->needs, word));
		table_set(table, line, "missing", "%d",
			  luo_versions_have(plan->missing, word));
	}
}

static struct table *versions_table(const struct plan *plan)
{
	static const struct column columns[] = {
		{ "version", 0, SCOLS_JSON_STRING, IN_JSON },
		{ "taken", 0, SCOLS_JSON_BOOLEAN, IN_JSON },
		{ "needed", 0, SCOLS_JSON_BOOLEAN, IN_JSON },
		{ "missing", 0, SCOLS_JSON_BOOLEAN, IN_JSON },
		{}
	};
	struct table *table = table_new("versions", columns, true);

	add_versions(table, plan);
	return table;
}

static struct table *plan_table(const struct plan *plan, const char *by)
{
	static const struct column columns[] = {
		{ "kernel", 0, SCOLS_JSON_STRING, IN_JSON },
		{ "initrd", 0, SCOLS_JSON_STRING, IN_JSON },
		{ "cmdline", 0, SCOLS_JSON_STRING, IN_JSON },
		{ "by", 0, SCOLS_JSON_STRING, IN_JSON },
		{}
	};
	struct table *table = table_new("plan", columns, true);
	void *line = table_line(table, NULL);

	table_set(table, line, "kernel", "%s", plan->kernel);
	table_set(table, line, "initrd", "%s", plan->initrd ?: "");
	table_set(table, line, "cmdline", "%s", plan->cmdline);
	table_set(table, line, "by", "%s", by);
	return table;
}

/* For people, and only what would be done; programs get it in any case. */
static void show_plan(const struct plan *plan, bool refused)
{
	const char *by = plan->systemd ? "systemctl kexec" : "reboot(2)";

	if (plan->json) {
		struct table *tables[] = { plan_table(plan, by),
					   versions_table(plan) };

		table_print(tables, 2, true, "refused", refused);
	} else if (!refused) {
		printf("Would load %s with %s%s\nand the command line: %s\nand jump by %s.\n",
		       plan->kernel, plan->initrd ? "the initrd " : "no initrd",
		       plan->initrd ?: "", plan->cmdline, by);
		printf("It takes %s.\n",
		       *plan->takes ? plan->takes : "nothing");
		if (plan->known)
			printf("What is preserved needs %s.\n",
			       *plan->needs ? plan->needs : "nothing");
	}
}

static int load_and_jump(struct plan *plan)
{
	int ret = look_before(plan);

	if (ret && !plan->force) {
		if (plan->dry)
			show_plan(plan, true);
		complain("nothing was done; --force goes on in spite of this");
		return ret;
	}
	/* systemd does this, too, but then everything is stopped */
	if (!plan->dry && !sync_disks(plan->force) && !plan->force) {
		complain("nothing was done; --force goes on in spite of this");
		return EXIT_REFUSED;
	}
	if (plan->silence && !plan->dry && silence(plan))
		return EXIT_FAILED;
	ret = plan->dry ? try_files(plan) : load_files(plan);
	if (ret) {
		unsilence(plan);
		return ret;
	}
	if (plan->dry) {
		show_plan(plan, false);
		return EXIT_OK;
	}
	return plan->systemd ? jump_by_systemd(plan) : jump(plan);
}

/* What virtual machines and their like have can be looked at when they are prepared. */
static int carry_out(struct plan *plan)
{
	int ret;

	if (plan->dry)
		return load_and_jump(plan);
	if (helpers_run("prepare") && !plan->force) {
		helpers_run("undo");
		complain("nothing was done; --force goes on in spite of this");
		return EXIT_REFUSED;
	}

	ret = load_and_jump(plan);
	if (ret)
		helpers_run("undo");
	return ret;
}

static int set_option(struct plan *plan, int option)
{
	switch (option) {
	case 'k':
		plan->kernel = optarg;
		break;
	case 'i':
		plan->initrd = optarg;
		break;
	case 'a':
		plan->append = optarg;
		break;
	case 'r':
		plan->reuse = true;
		break;
	case 'n':
		plan->dry = true;
		break;
	case 'f':
		plan->force = true;
		break;
	case 'S':
		plan->silence = true;
		break;
	case OPTION_JSON:
		plan->json = true;
		break;
	}
	return 0;
}

static int check_usage(const struct plan *plan, int argc, char **argv)
{
	if (optind < argc)
		return wrong_usage(&kexec_command, "'%s' is too much",
				   argv[optind]);
	if (!plan->kernel)
		return wrong_usage(&kexec_command, "--kernel is missing");
	if (!plan->append && !plan->reuse)
		return wrong_usage(&kexec_command,
				   "--append or --reuse-cmdline is missing");
	if (plan->json && !plan->dry)
		return wrong_usage(&kexec_command,
				   "--json goes with --dry-run");
	return EXIT_OK;
}

static int kexec(int argc, char **argv)
{
	static const struct option options[] = {
		{ "kernel", required_argument, NULL, 'k' },
		{ "initrd", required_argument, NULL, 'i' },
		{ "append", required_argument, NULL, 'a' },
		{ "reuse-cmdline", no_argument, NULL, 'r' },
		{ "dry-run", no_argument, NULL, 'n' },
		{ "force", no_argument, NULL, 'f' },
		{ "silence", no_argument, NULL, 'S' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ "json", no_argument, NULL, OPTION_JSON },
		{},
	};
	struct plan plan = {};
	int c, ret;

	while ((c = next_option(argc, argv, options, &kexec_command)) >= 0)
		set_option(&plan, c);
	ret = check_usage(&plan, argc, argv);
	if (ret)
		return ret;
	if (geteuid()) {
		complain("kexec needs root: run it with sudo");
		return EXIT_NEEDS_ROOT;
	}
	plan.systemd = file_exists("run/systemd/system");
	if (make_cmdline(&plan))
		return EXIT_FAILED;
	return carry_out(&plan);
}

const struct command kexec_command = {
	.name = "kexec",
	.summary = "load the next kernel and jump into it",
	.help = "Usage: " NAME " kexec --kernel FILE [OPTION...]\n\n"
		"Looks whether a live update would go well, loads the next kernel, and jumps: by\n"
		"'systemctl kexec' where systemd is PID 1, else at once.  If something stands\n"
		"against it, nothing is done.\n\n"
		"  -k, --kernel FILE    image of the next kernel\n"
		"  -i, --initrd FILE    its initrd\n"
		"  -r, --reuse-cmdline  take the command line of this kernel\n"
		"  -a, --append TEXT    the command line, or what to add to that of this kernel\n"
		"  -n, --dry-run        only look, and say what would be done\n"
		"  -f, --force          go on whatever was found\n"
		"  -S, --silence        interrupts that a program left on do not refuse the jump\n"
		"  -J, --json           with --dry-run: print JSON\n"
		"  -h, --help           print this\n"
		"  -V, --version        print the version\n",
	.run = kexec,
};
