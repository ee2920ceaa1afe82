/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vfio-liveupdate: what its parts share.
 *
 * main.c chooses a command; list.c, check.c, status.c, hold.c and kexec.c are the
 * commands.  They ask device.c about PCI devices, kernel.c about the kernel and
 * session.c about live update sessions, and show what they hear through table.c.
 */
#ifndef TOOL_H
#define TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define NAME "vfio-liveupdate"
#define DRIVER "vfio-pci"

/* How the tool exits: see EXIT STATUS in its man page. */
enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_NEEDS_ROOT = 3,
	EXIT_REFUSED = 4,
};

/* --- main.c --- */

struct option;

/**
 * struct command - what the user can ask for
 * @name: its name
 * @summary: what it does, in a few words
 * @help: its usage, arguments and options, for --help
 * @run: do it; argv[0] is its name. Returns one of EXIT_*.
 */
struct command {
	const char *name;
	const char *summary;
	const char *help;
	int (*run)(int argc, char **argv);
};

extern const struct command list_command;
extern const struct command check_command;
extern const struct command status_command;
extern const struct command hold_command;
extern const struct command release_command;
extern const struct command kexec_command;

int next_option(int argc, char **argv, const struct option *options,
		const struct command *command);
int wrong_usage(const struct command *command, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Options that several commands have: their letters, rows of tables, and help */
enum { OPTION_JSON = 'J', OPTION_SYSROOT = 's' };

#define COMMON_OPTIONS                              \
	{ "json", no_argument, NULL, OPTION_JSON }, \
		{ "help", no_argument, NULL, 'h' }, \
	{                                           \
		"version", no_argument, NULL, 'V'   \
	}
#define SYSROOT_OPTION                                             \
	{                                                          \
		"sysroot", required_argument, NULL, OPTION_SYSROOT \
	}
#define COMMON_HELP                         \
	"  -J, --json         print JSON\n" \
	"  -h, --help         print this\n" \
	"  -V, --version      print the version\n"
#define SYSROOT_HELP \
	"  -s, --sysroot DIR  look at the system whose /sys, /proc, ... are in DIR\n"

/* --- file.c: files of the system that is looked at --- */

int file_set_root(const char *path);
int file_open(const char *path, int flags);
bool file_exists(const char *path);
int file_read(const char *path, char *buf, size_t size);
int file_write(const char *path, const char *text);
int file_link_name(const char *path, char *buf, size_t size);
int file_walk(const char *path, int (*fn)(const char *name, void *data),
	      void *data);

/* --- device.c --- */

/**
 * struct answer - what the kernel says to a question
 * @yes: the answer
 * @cause: if it is no: the kernel's word for what stands against it, if it has one
 * @why: if it is no: the same for people
 */
struct answer {
	bool yes;
	char cause[32];
	char why[96];
};

/**
 * struct device - a PCI device
 * @bdf: its address, like 0000:01:00.0
 * @vendor: vendor ID
 * @id: device ID
 * @class: class code, 24 bits
 * @name: what pci.ids calls it
 * @driver: the driver that it is bound to, or empty
 * @group: number of its IOMMU group, or empty
 * @physfn: address of its physical function, if it is a virtual one, or empty
 * @physical: it is a physical function, that can have virtual ones (SR-IOV)
 * @vfs: how many virtual functions it has
 * @can_hold: this kernel can hold it for its virtual functions
 * @hold: root wants that
 * @outgoing: how it goes to the next kernel: idle, running, held, bridge or empty
 * @incoming: how it came from the previous kernel, likewise
 * @idle: can it be preserved at all
 * @running: can it be preserved in running mode
 * @bound: does the driver that it is bound to preserve it
 * @chosen: the command at hand is about it
 * @above: the command at hand is about virtual functions of it, and not about it
 */
struct device {
	char bdf[16];
	unsigned short vendor, id;
	unsigned int class;
	char name[128];
	char driver[64];
	char group[12];
	char physfn[16];
	bool physical, can_hold, hold;
	unsigned int vfs;
	char outgoing[12], incoming[12];
	struct answer idle, running, bound;
	bool chosen, above;
};

/**
 * struct devices - PCI devices, by address
 * @all: the devices
 * @count: how many
 */
struct devices {
	struct device *all;
	size_t count;
};

int devices_read(struct devices *devices);
void devices_free(struct devices *devices);
int devices_choose(const struct devices *devices, char **names, int count);
struct device *devices_physfn(const struct devices *devices,
			      const struct device *vf);
bool device_is_below(const struct device *vf, const struct device *pf);
bool device_is_bridge(const struct device *dev);
bool device_preservable(const struct device *dev);
bool device_came_held(const struct device *dev);
bool device_held(const struct device *dev);
const struct answer *device_objection(const struct device *dev);
bool device_has_ats(const struct device *dev);

/* --- kernel.c --- */

/**
 * struct finding - something about the kernel that a live update depends on
 * @what: its name
 * @verdict: FINDING_NO stands against a live update, FINDING_WARNING does not
 * @value: what was found
 * @advice: what to do about it, or empty
 */
struct finding {
	const char *what;
	enum {
		FINDING_OK,
		FINDING_NO,
		FINDING_WARNING,
		FINDING_UNKNOWN,
	} verdict;
	char value[96];
	char advice[256];
};

#define MAX_FINDINGS 12

size_t kernel_look(struct finding *findings);
bool kernel_liveupdate_on(void);
bool kernel_wants_signature(char *buf, size_t size);
bool kernel_may_appraise(void);
void kernel_explain_off(char *buf, size_t size);

/* --- kho.c: kexec handover --- */

int kho_doubt(char *buf, size_t size);
bool kho_explain_off(char *buf, size_t size);

/* --- sync.c --- */

bool sync_disks(bool force);

/* --- log.c: the kernel's log --- */

bool log_find(const char *start, const char *end, char *buf, size_t size);
FILE *log_follow(void);
void log_repeat(FILE *log);

/* --- cmdline.c: command lines of kernels --- */

#define MAX_CMDLINE 4096

bool cmdline_get(const char *cmdline, const char *name, char *value,
		 size_t size);
void cmdline_list(const char *cmdline, const char *name,
		  char values[MAX_CMDLINE]);
bool cmdline_flag(const char *cmdline, const char *name, bool otherwise);
int cmdline_reuse(char *buf, size_t size);

/* --- image.c: what kernels take over; versions are words in a string --- */

/* As much as the kernel keeps of an image */
#define MAX_VERSIONS 512

/**
 * struct image_kind - what kind of image it is
 * @uki: a unified kernel image, with kernel, initrd and command line in it
 * @is_signed: it has a signature, as UEFI wants it
 * @has_ima: the file has a signature or a hash, as IMA wants it
 */
struct image_kind {
	bool uki, is_signed, has_ima;
};

int image_takes(const char *path, char *takes, size_t size);
int image_kind(const char *path, struct image_kind *kind);
int versions_add(char *versions, size_t size, const char *version);
bool versions_missing(const char *needs, const char *takes,
		      char missing[MAX_VERSIONS]);

/* --- session.c --- */

/**
 * struct session_file - a file in a session
 * @token: its token, in decimal; 64 bits of it can be used
 * @state: preserved, waiting, retrieved, or the name of an errno
 * @kind: compatible string of its handler
 * @what: what its handler says about it, or empty: for vfio-pci the BDF
 */
struct session_file {
	char token[24];
	char state[24];
	char kind[48];
	char what[64];
};

/**
 * struct session - a live update session
 * @incoming: it came from the previous kernel
 * @state: open, waiting or retrieved
 * @name: its name, escaped by the kernel
 * @files: its files
 * @nr_files: how many
 */
struct session {
	bool incoming;
	char state[12];
	char name[256];
	struct session_file *files;
	size_t nr_files;
};

/**
 * struct sessions - all sessions
 * @all: the sessions, incoming ones first
 * @count: how many
 * @known: the kernel has told
 * @needs: versions that the next kernel has to have for what is in them
 */
struct sessions {
	struct session *all;
	size_t count;
	bool known;
	char needs[MAX_VERSIONS];
};

int sessions_read(struct sessions *sessions);
void sessions_free(struct sessions *sessions);
const struct session_file *sessions_find(const struct sessions *sessions,
					 const char *bdf, bool incoming,
					 const struct session **session);

/* --- table.c --- */

/**
 * struct column - a column of a table
 * @name: its name; the table shows it in capital letters, JSON as it is
 * @flags: SCOLS_FL_*, for the table
 * @json: SCOLS_JSON_*
 * @where: bits of IN_TABLE and IN_JSON
 */
struct column {
	const char *name;
	int flags;
	int json;
	unsigned int where;
};

enum { IN_TABLE = 1, IN_JSON = 2, IN_BOTH = 3 };

struct table;

struct table *table_new(const char *name, const struct column *columns,
			bool json);
void *table_line(struct table *table, void *parent);
void table_set(struct table *table, void *line, const char *column,
	       const char *format, ...) __attribute__((format(printf, 4, 5)));
void table_print(struct table *const *tables, size_t count, bool json,
		 const char *flag, bool value);

/* Tables that more than one command shows */
struct table *devices_table(const struct devices *devices, bool json);
struct table *findings_table(const struct finding *findings, size_t count,
			     bool json);

/* --- helpers.c: programs that take part in a jump --- */

int run_program(char *const *argv);
bool helpers_own(const struct sessions *sessions);
int helpers_run(const char *what);

#endif /* TOOL_H */
