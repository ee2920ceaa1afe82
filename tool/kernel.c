// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel's switches that a live update depends on.
 *
 * /dev/liveupdate is the proof that live update is on.  When it is not there,
 * configuration and command line tell why.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "tool.h"

#define LIVEUPDATE "dev/liveupdate"
#define LOCKDOWN "sys/kernel/security/lockdown"
#define KHO_OUT "sys/kernel/debug/kho/out"
#define IOMMUS "sys/class/iommu"
/* Bit of VT-d's extended capabilities: scalable mode */
#define ECAP_SMTS (1ULL << 43)

static void conclude(struct finding *finding, int verdict, const char *value,
		     const char *advice)
{
	finding->verdict = verdict;
	snprintf(finding->value, sizeof(finding->value), "%s", value);
	snprintf(finding->advice, sizeof(finding->advice), "%s", advice);
}

static void read_release(char *buf, size_t size)
{
	file_read("proc/sys/kernel/osrelease", buf, size);
}

/* --- configuration ---------------------------------------------------------- */

static gzFile config_open(void)
{
	static const char *const places[] = {
		"proc/config.gz",
		"boot/config-%s",
		"lib/modules/%s/config",
	};
	char release[128], path[192];
	gzFile file;

	read_release(release, sizeof(release));
	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		int fd;

		snprintf(path, sizeof(path), places[i], release);
		fd = file_open(path, O_RDONLY);
		if (fd < 0)
			continue;
		file = gzdopen(fd, "r");
		if (file)
			return file;
		close(fd);
	}
	return NULL;
}

/**
 * struct option_wish - an option of the kernel's configuration
 * @name: its name
 * @there: where to put whether it is y or m
 */
struct option_wish {
	const char *name;
	bool there;
};

/* Returns false when the configuration cannot be read. */
static bool config_look(struct option_wish *wishes, size_t count)
{
	gzFile file = config_open();
	char line[256], option[64], value[2];

	if (!file)
		return false;
	while (gzgets(file, line, sizeof(line))) {
		if (sscanf(line, "CONFIG_%63[^=]=%1[ym]", option, value) != 2)
			continue;
		for (size_t i = 0; i < count; i++) {
			if (!strcmp(option, wishes[i].name))
				wishes[i].there = true;
		}
	}
	gzclose(file);
	return true;
}

static bool add_missing(const struct option_wish *wishes, size_t count,
			char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < count && n < size; i++) {
		if (!wishes[i].there)
			n += snprintf(buf + n, size - n, "%sCONFIG_%s",
				      n ? " " : "", wishes[i].name);
	}
	return n;
}

static void look_at_config(struct finding *finding)
{
	struct option_wish wishes[] = {
		{ "KEXEC_FILE", false },
		{ "KEXEC_HANDOVER", false },
		{ "LIVEUPDATE", false },
		{ "LIVEUPDATE_MEMFD", false },
		{ "VFIO_PCI_LIVEUPDATE", false },
		/* for running mode */
		{ "IOMMU_LIVEUPDATE", false },
		{ "IOMMUFD_LIVEUPDATE", false },
	};
	const size_t all = sizeof(wishes) / sizeof(*wishes), needed = all - 2;
	char missing[160];

	finding->what = "configuration";
	if (!config_look(wishes, all)) {
		conclude(finding, FINDING_UNKNOWN, "cannot be read", "");
	} else if (add_missing(wishes, needed, missing, sizeof(missing))) {
		conclude(finding, FINDING_NO, "options are missing", "");
		snprintf(finding->advice, sizeof(finding->advice),
			 "build the kernel with %s", missing);
	} else if (add_missing(wishes + needed, all - needed, missing,
			       sizeof(missing))) {
		conclude(finding, FINDING_OK, "good for idle mode only", "");
		snprintf(finding->advice, sizeof(finding->advice),
			 "for running mode: %s", missing);
	} else {
		conclude(finding, FINDING_OK, "all that is needed", "");
	}
}

/* --- live update and KHO ---------------------------------------------------- */

/**
 * kernel_liveupdate_on() - is live update on
 *
 * Return: true if it is
 */
bool kernel_liveupdate_on(void)
{
	return file_exists(LIVEUPDATE);
}

/* The last that the orchestrator said, if the log can be read and has it */
static void explain_by_log(bool config, char *buf, size_t size)
{
	char said[128];

	if (log_find("luo: ", "", said, sizeof(said)))
		snprintf(buf, size, "the kernel says: %s", said);
	else
		snprintf(
			buf, size,
			"%sthe kernel's log says more: dmesg | grep -i -e KHO -e luo",
			config ? "" : "has this kernel CONFIG_LIVEUPDATE? ");
}

/**
 * kernel_explain_off() - say why live update is off
 * @buf: where to put what to do about it
 * @size: room in @buf
 */
void kernel_explain_off(char *buf, size_t size)
{
	struct option_wish wishes[] = {
		{ "LIVEUPDATE", false },
		{ "KEXEC_HANDOVER_ENABLE_DEFAULT", false },
	};
	bool config = config_look(wishes, 2);
	char cmdline[MAX_CMDLINE];
	bool kho, liveupdate;

	file_read("proc/cmdline", cmdline, sizeof(cmdline));
	kho = cmdline_flag(cmdline, "kho", !config || wishes[1].there);
	liveupdate = cmdline_flag(cmdline, "liveupdate", false);

	if (config && !wishes[0].there)
		snprintf(buf, size, "build the kernel with CONFIG_LIVEUPDATE");
	else if (!kho || !liveupdate)
		snprintf(buf, size, "boot with %s%s%s", kho ? "" : "kho=on",
			 kho || liveupdate ? "" : " ",
			 liveupdate ? "" : "liveupdate=on");
	else if (!kho_explain_off(buf, size))
		explain_by_log(config, buf, size);
}

/* It is on; with as much memory for the next kernel as somebody wanted? */
static void look_at_scratch(struct finding *finding)
{
	static const char *const values[] = {
		[FINDING_OK] = "on",
		[FINDING_WARNING] = "on, by default settings",
		[FINDING_NO] = "on, without memory",
	};
	char why[sizeof(finding->advice)];
	int verdict = kho_doubt(why, sizeof(why));

	conclude(finding, verdict, values[verdict], why);
}

static void look_at_liveupdate(struct finding *finding)
{
	finding->what = "live update";
	if (kernel_liveupdate_on()) {
		conclude(finding, FINDING_OK, "on", "");
		return;
	}
	conclude(finding, FINDING_NO, "off: no /" LIVEUPDATE, "");
	kernel_explain_off(finding->advice, sizeof(finding->advice));
}

/* Without KHO there is no live update.  Only root can see that it is on without. */
static void look_at_kho(struct finding *finding)
{
	struct option_wish wish = { "KEXEC_HANDOVER", false };
	bool config = config_look(&wish, 1);
	char cmdline[MAX_CMDLINE], why[sizeof(finding->advice)];

	finding->what = "kexec handover";
	file_read("proc/cmdline", cmdline, sizeof(cmdline));
	if (kernel_liveupdate_on() || file_exists(KHO_OUT))
		look_at_scratch(finding);
	else if (config && !wish.there)
		conclude(finding, FINDING_NO, "not there",
			 "build the kernel with CONFIG_KEXEC_HANDOVER");
	else if (!cmdline_flag(cmdline, "kho", true))
		conclude(finding, FINDING_NO, "off by the command line",
			 "boot with kho=on");
	else if (kho_explain_off(why, sizeof(why)))
		conclude(finding, FINDING_NO, "off", why);
	else
		conclude(finding, FINDING_UNKNOWN, "cannot be told", "");
}

/* --- kexec ------------------------------------------------------------------ */

/* "none [integrity] confidentiality"; the log has it, too, where that is not there */
static bool read_lockdown(char *buf, size_t size)
{
	char modes[64], *mode, *end;

	if (file_read(LOCKDOWN, modes, sizeof(modes))) {
		snprintf(buf, size, "the kernel is locked down");
		return log_find("Kernel is locked down from ", "", modes,
				sizeof(modes));
	}
	mode = strchr(modes, '[');
	end = mode ? strchr(mode, ']') : NULL;
	if (!end)
		return false;
	*end = '\0';
	snprintf(buf, size, "lockdown=%s", mode + 1);
	return strcmp(mode + 1, "none") != 0;
}

/**
 * kernel_wants_signature() - does kexec take signed images only
 * @buf: where to put why
 * @size: room in @buf
 *
 * Return: true if it does
 */
bool kernel_wants_signature(char *buf, size_t size)
{
	struct option_wish wish = { "KEXEC_SIG_FORCE", false };

	if (read_lockdown(buf, size))
		return true;
	config_look(&wish, 1);
	snprintf(buf, size, "CONFIG_KEXEC_SIG_FORCE");
	return wish.there;
}

/**
 * kernel_may_appraise() - can IMA's signatures stand in for those in images
 *
 * They do if its policy says so, which nobody can read.
 *
 * Return: true if they can
 */
bool kernel_may_appraise(void)
{
	struct option_wish wishes[] = {
		{ "IMA_APPRAISE", false },
		{ "KEXEC_SIG_FORCE", false },
	};

	config_look(wishes, 2);
	return wishes[0].there && !wishes[1].there;
}

/* Kexec is allowed; but for all images? */
static void look_at_signatures(struct finding *finding)
{
	struct option_wish wishes[] = {
		{ "KEXEC_SIG", false },
		{ "KEXEC_BZIMAGE_VERIFY_SIG", false },
	};
	char why[32], missing[64];

	conclude(finding, FINDING_OK, "allowed", "");
	if (!kernel_wants_signature(why, sizeof(why)))
		return;
	snprintf(finding->value, sizeof(finding->value),
		 "signed images only (%s)", why);
	if (!config_look(wishes, 2) || kernel_may_appraise() ||
	    !add_missing(wishes, 2, missing, sizeof(missing)))
		return;
	finding->verdict = FINDING_NO;
	snprintf(finding->advice, sizeof(finding->advice),
		 "it cannot look at signatures: build the kernel with %s",
		 missing);
}

static void look_at_kexec(struct finding *finding)
{
	char disabled[8];

	finding->what = "kexec";
	if (!file_exists("sys/kernel/kexec_loaded"))
		conclude(finding, FINDING_NO, "not there",
			 "build the kernel with CONFIG_KEXEC_FILE");
	else if (!file_read("proc/sys/kernel/kexec_load_disabled", disabled,
			    sizeof(disabled)) &&
		 disabled[0] == '1')
		conclude(finding, FINDING_NO, "disabled until the next boot",
			 "look who sets the sysctl kernel.kexec_load_disabled");
	else
		look_at_signatures(finding);
}

/* The kernel that saves a dump when this one crashes: an update needs none. */
static void look_at_crash(struct finding *finding)
{
	char text[32];
	unsigned long long size;

	finding->what = "crash kernel";
	if (file_read("sys/kernel/kexec_crash_size", text, sizeof(text))) {
		conclude(finding, FINDING_WARNING, "not there",
			 "for dumps of crashes: CONFIG_CRASH_DUMP");
		return;
	}
	size = strtoull(text, NULL, 10);
	if (!size) {
		conclude(
			finding, FINDING_WARNING,
			"no memory is set aside for it",
			"boot with crashkernel=: else a crash leaves no dump, and devices run on "
			"until the reset");
		return;
	}
	file_read("sys/kernel/kexec_crash_loaded", text, sizeof(text));
	if (text[0] == '1')
		conclude(finding, FINDING_OK, "", "");
	else
		conclude(
			finding, FINDING_WARNING, "",
			"load it (kdump-config, kdumpctl), after each update anew; it needs "
			"intel_iommu=on, too");
	snprintf(finding->value, sizeof(finding->value), "%s, %llu MiB",
		 finding->verdict == FINDING_OK ? "loaded" : "not loaded",
		 size >> 20);
}

/* --- IOMMU ------------------------------------------------------------------ */

struct iommus {
	unsigned int vtd, scalable, others;
};

static int count_iommu(const char *name, void *data)
{
	char path[384], ecap[32];
	struct iommus *iommus = data;

	snprintf(path, sizeof(path), IOMMUS "/%s/intel-iommu/ecap", name);
	if (file_read(path, ecap, sizeof(ecap))) {
		iommus->others++;
		return 0;
	}
	iommus->vtd++;
	if (strtoull(ecap, NULL, 16) & ECAP_SMTS)
		iommus->scalable++;
	return 0;
}

static void look_at_iommu(struct finding *finding)
{
	struct iommus iommus = {};

	finding->what = "IOMMU";
	file_walk(IOMMUS, count_iommu, &iommus);
	if (!iommus.vtd && !iommus.others) {
		conclude(
			finding, FINDING_NO, "none in use",
			"turn it on in the firmware, and boot with intel_iommu=on");
		return;
	}
	if (!iommus.vtd) {
		conclude(finding, FINDING_OK, "not VT-d",
			 "running mode needs VT-d");
		return;
	}
	conclude(finding, FINDING_OK, "", "");
	snprintf(finding->value, sizeof(finding->value),
		 "VT-d, %u unit%s, %u of them with scalable mode", iommus.vtd,
		 iommus.vtd == 1 ? "" : "s", iommus.scalable);
}

/* --- handlers --------------------------------------------------------------- */

/* Is there a module that LUO would ask for to handle such files? */
static bool has_module(const char *kind)
{
	char release[128], path[192], line[512], prefix[64];
	bool found = false;
	FILE *file;
	int fd;

	read_release(release, sizeof(release));
	snprintf(path, sizeof(path), "lib/modules/%s/modules.alias", release);
	snprintf(prefix, sizeof(prefix), "alias liveupdate-%s-v", kind);
	fd = file_open(path, O_RDONLY);
	file = fd < 0 ? NULL : fdopen(fd, "r");
	if (!file) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	while (!found && fgets(line, sizeof(line), file))
		found = !strncmp(line, prefix, strlen(prefix));
	fclose(file);
	return found;
}

static void look_at_handler(struct finding *finding, const char *kind,
			    const char *there, const char *advice)
{
	finding->what = kind;
	if (file_exists(there))
		conclude(finding, FINDING_OK, "there", "");
	else if (has_module(kind))
		conclude(finding, FINDING_OK, "a module, not loaded", "");
	else
		conclude(finding, FINDING_NO, "not there", advice);
}

/**
 * kernel_look() - look at the kernel's switches
 * @findings: where to put what was found; has room for MAX_FINDINGS
 *
 * Return: how many there are
 */
size_t kernel_look(struct finding *findings)
{
	struct finding *next = findings;

	memset(findings, 0, MAX_FINDINGS * sizeof(*findings));
	look_at_config(next++);
	look_at_kho(next++);
	look_at_liveupdate(next++);
	look_at_kexec(next++);
	look_at_crash(next++);
	look_at_iommu(next++);
	look_at_handler(next++, DRIVER, "sys/bus/pci/drivers/" DRIVER,
			"build the kernel with CONFIG_VFIO_PCI_LIVEUPDATE");
	look_at_handler(next++, "iommufd", "sys/class/misc/iommu",
			"build the kernel with CONFIG_IOMMUFD_LIVEUPDATE");
	return next - findings;
}
