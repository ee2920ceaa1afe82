/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * lu-qemu: what its parts share.
 *
 * main.c reads the command line. Each virtual machine has a *keeper*, the process
 * that started its QEMU and waits beside it (keeper.c); the other commands talk to
 * keepers (client.c). Out of one kernel and into the next:
 *
 *   vm.c        starts QEMU and talks to it by QMP (qmp.c)
 *   inspect.c   tells whether a virtual machine can be taken along
 *   cpr.c       reads and writes what QEMU hands to its successor (its "CPR state")
 *   outgoing.c  stops the machine, and preserves what it is and has
 *   handover.c  lets QEMU hand it over
 *   describe.c  tells what it consists of
 *   irqs.c      tells which interrupts KVM delivers
 *   incoming.c  gets that back, and starts a QEMU that goes on with it
 *   state.c     what crosses beside memory and devices
 *
 * A function that can fail returns 0 or a negative errno, and says why by failed().
 */
#ifndef LU_QEMU_H
#define LU_QEMU_H

#include <jansson.h>
#include <libliveupdate.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define NAME "lu-qemu"
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* How the program exits: see EXIT STATUS in its manual page. */
enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_NEEDS_ROOT = 3,
	EXIT_REFUSED = 4,
};

/* --- say.c: messages --- */

int failed(int error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
const char *why_failed(void);
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void say_for(const char *vm);

/* --- clock.c: times that go on over a kexec --- */

/**
 * struct instant - a moment, of which the next kernel knows how long ago it was
 * @tsc: time stamp counter, which a kexec does not reset
 * @ns: CLOCK_MONOTONIC_RAW of this kernel
 */
struct instant {
	uint64_t tsc;
	uint64_t ns;
};

struct instant instant_now(void);
double instant_ms(struct instant from, struct instant to);
struct instant took(json_t *times, const char *what, struct instant from);
uint64_t instant_khz(struct instant from, struct instant to);
int64_t deadline_in(int ms);
int deadline_left(int64_t deadline);

/* --- names.c: names of virtual machines, and their sessions --- */

#define VM_NAME_MAX 40
#define SESSION_PREFIX "lu-qemu-"
#define RUNTIME_DIR "/run/lu-qemu"

bool name_good(const char *name);
void session_name(char buf[LU_SESSION_NAME_SIZE], const char *vm);
int luo_open(void);
bool names_have(const json_t *names, const char *wanted);
int names_running(json_t *names);
int names_incoming(json_t *names);

/* --- net.c: UNIX sockets --- */

int socket_listen(const char *path);
int socket_accept(int listener, int64_t deadline);
int socket_connect(const char *path);
int wait_readable(int fd, int64_t deadline);
int send_json(int fd, const json_t *message);

/**
 * struct lines - a stream of lines
 * @fd: where they come from
 * @buf: what was read of them
 * @len: how much that is
 * @room: how much there is room for
 */
struct lines {
	int fd;
	char *buf;
	size_t len;
	size_t room;
};

const char *json_text(const json_t *object, const char *key);
int lines_json(struct lines *lines, int64_t deadline, json_t **message);
void lines_end(struct lines *lines);

/* --- qmp.c: QEMU's monitor --- */

/**
 * struct qmp - a connection to QEMU's monitor
 * @lines: what it says
 * @greeting: with its version
 * @id: of the last command
 */
struct qmp {
	struct lines lines;
	json_t *greeting;
	json_int_t id;
};

int qmp_open(struct qmp *qmp, int fd, int64_t deadline);
void qmp_close(struct qmp *qmp);
int qmp_begin(struct qmp *qmp, const char *command, json_t *arguments);
int qmp_end(struct qmp *qmp, const char *command, int64_t deadline,
	    json_t **answer);
int qmp_call(struct qmp *qmp, const char *command, json_t *arguments,
	     json_t **answer);
void qmp_take(struct qmp *qmp);
int qmp_version(const struct qmp *qmp);

/* --- cpr.c: what QEMU hands to its successor --- */

/**
 * struct cpr_fd - a file that is handed over
 * @name: QEMU's name for it
 * @id: and number
 * @fd: the file
 */
struct cpr_fd {
	char *name;
	int32_t id;
	int fd;
};

/**
 * struct cpr_device - a VFIO device that is handed over
 * @name: QEMU's name for it
 * @dev_id: its number in its iommufd
 * @ioas_id: number of its IOAS there
 * @hwpt_id: number of its HWPT there
 */
struct cpr_device {
	char *name;
	int32_t dev_id;
	uint32_t ioas_id;
	uint32_t hwpt_id;
};

/**
 * struct cpr - all that is handed over
 * @fds: files
 * @nr_fds: how many
 * @devices: VFIO devices
 * @nr_devices: how many
 */
struct cpr {
	struct cpr_fd *fds;
	size_t nr_fds;
	struct cpr_device *devices;
	size_t nr_devices;
};

int cpr_receive(struct cpr *cpr, int socket, int64_t deadline);
int cpr_parse(struct cpr *cpr, const uint8_t *data, size_t size, int *fds,
	      size_t nr_fds);
int cpr_write(const struct cpr *cpr);
struct cpr_fd *cpr_find(const struct cpr *cpr, const char *name, int32_t id);
int cpr_vector(const struct cpr *cpr, const char *device, const char *kind,
	       int32_t vector);
int cpr_add_fd(struct cpr *cpr, const char *name, int32_t id, int fd);
int cpr_add_device(struct cpr *cpr, const struct cpr_device *device);
void cpr_free(struct cpr *cpr);

/* --- vm.c: a QEMU --- */

/**
 * struct vm - a virtual machine
 * @name: its name
 * @dir: folder of its sockets
 * @argv: command line of its QEMU, as the user gave it
 * @cwd: folder that it is started in
 * @machine: which of QEMU's machines it is, with the version; NULL until it was started
 * @shape: what it consists of, as of inspect_shape(); NULL before that
 * @held: it stands still because we want it to
 * @lock: file that is locked as long as it has a keeper or a QEMU
 * @pid: its process, or 0
 * @pidfd: file of that, or -1
 * @status: how the process ended, as of waitpid(2)
 * @qmp: its monitor
 */
struct vm {
	char name[VM_NAME_MAX + 1];
	char dir[64];
	json_t *argv;
	char *cwd;
	char *machine;
	json_t *shape;
	bool held;
	int lock;
	pid_t pid;
	int pidfd;
	int status;
	struct qmp qmp;
};

int vm_new(struct vm *vm, const char *name);
int vm_check_argv(const json_t *argv);
int vm_start(struct vm *vm, const struct cpr *cpr, int stream);
bool vm_held(const struct vm *vm);
int vm_accept(struct vm *vm, int listener, int64_t deadline);
int vm_stop(struct vm *vm, bool *ran);
int vm_go_on(struct vm *vm);
void vm_kill(struct vm *vm);
bool vm_ended(struct vm *vm);
void vm_path(const struct vm *vm, const char *file, char buf[100]);

/* --- inspect.c: can it be taken along? --- */

int inspect(struct vm *vm, json_t *problems);
int inspect_devices(struct vm *vm, json_t **devices);
int inspect_shape(struct vm *vm);

/* --- state.c: what crosses beside memory and devices --- */

#define STATE_MEMBER "state"
#define STATE_VERSION 1

/* Room for the stream in which QEMU's device models are, in bytes. */
#define STREAM_MAX (15U << 20)

int state_new(void);
int state_append(int state, uint64_t *size, const void *data, size_t length);
int state_check(const json_t *json);
int state_close(int state, uint64_t stream, const json_t *json);
int state_stream(int state, uint64_t size);
int state_read(int state, json_t **json, int *stream);

/* --- irqs.c --- */

int irqs_unmasked(struct vm *vm, const json_t *bars, const char *device, int fd,
		  json_t *unmasked);

/* --- handover.c: QEMU hands over to us --- */

/**
 * struct handover - where QEMU is with it
 * @cpr_socket: where it sent its files; it waits as long as this is open; or -1
 * @stream_listener: where it then sends its device models, or -1
 * @migrating: it was told to hand over
 */
struct handover {
	int cpr_socket;
	int stream_listener;
	bool migrating;
};

void handover_init(struct handover *h);
int handover_begin(struct handover *h, struct vm *vm, struct cpr *cpr);
int handover_cancel(struct handover *h, struct vm *vm);
int handover_stream(struct handover *h, struct vm *vm, int state,
		    uint64_t *size);
void handover_end(struct handover *h);

/* --- outgoing.c --- */

/**
 * struct outgoing - a machine on its way out
 * @first: what its QEMU handed over when memory was preserved; members of @set have
 *	   their files from here
 * @cpr: what it handed over when the machine was stopped
 * @handover: where QEMU is with that
 * @set: what is preserved
 * @state: what crosses beside that, or -1
 * @stream: size of the stream in it
 * @devices: VFIO devices as inspect_devices() has them
 * @bars: where the guest sees their BARs
 * @unmasked: for each device of @cpr which MSI-X vectors the guest has unmasked
 * @stopped_it: the machine ran, and was stopped
 * @json: what crosses, described
 * @times: how long the steps took, in ms
 * @stopped: when the machine stopped
 * @began: some time before that
 */
struct outgoing {
	struct cpr first;
	struct cpr cpr;
	struct handover handover;
	struct lu_set *set;
	int state;
	uint64_t stream;
	json_t *devices;
	json_t *bars;
	json_t *unmasked;
	bool stopped_it;
	json_t *json;
	json_t *times;
	struct instant stopped;
	struct instant began;
};

void outgoing_init(struct outgoing *out);
int outgoing_prepare(struct outgoing *out, struct vm *vm);
int outgoing_abort(struct outgoing *out, struct vm *vm);
int outgoing_save(struct outgoing *out, struct vm *vm);
int outgoing_again(struct outgoing *out, const struct vm *vm);
int outgoing_back(struct outgoing *out, struct vm *vm, json_t **times);
void outgoing_free(struct outgoing *out);

/* --- describe.c: what a machine that is stopped consists of --- */

/**
 * struct place - where a device is attached
 * @iommufd: its iommufd's file
 * @index: of that in the CPR state
 */
struct place {
	int iommufd;
	size_t index;
};

const char *file_kind(int fd);
bool file_is(int fd, const char *kind);
void member_name(char name[LU_NAME_SIZE], const char *kind, size_t i);
int set_failed(const struct lu_set *set, int ret, const char *what);
int find_place(const struct outgoing *out, const struct cpr *cpr,
	       const char *device, struct place *place);
int describe_set(struct outgoing *out);
int describe_bars(struct outgoing *out, struct vm *vm);
int describe_json(struct outgoing *out, const struct vm *vm);

/* --- incoming.c --- */

/**
 * struct incoming - a machine on its way in
 * @set: what was preserved
 * @json: what crossed beside that
 * @stream: QEMU's device models, or -1
 * @cpr: what QEMU is to be given
 * @armed: eventfds of interrupts that are armed; they are @cpr's
 * @nr_armed: how many
 * @times: how long the steps took, in ms
 */
struct incoming {
	struct lu_set *set;
	json_t *json;
	int stream;
	struct cpr cpr;
	int32_t *armed;
	size_t nr_armed;
	json_t *times;
};

void incoming_init(struct incoming *in);
int incoming_open(struct incoming *in, struct vm *vm, int session);
int incoming_load(struct vm *vm, const struct cpr *cpr, int stream);
int incoming_resume(struct incoming *in, struct vm *vm);
void incoming_free(struct incoming *in);

/* --- systemd.c --- */

bool systemd_here(void);
bool systemd_keeps(void);
bool systemd_goes_to_kexec(void);
void systemd_ready(const char *status);

/* --- keeper.c --- */

/* What a keeper does first: start the machine, go on with it, or whichever fits. */
enum task { TASK_START, TASK_RESUME, TASK_EITHER };

/**
 * struct options - of a keeper
 * @name: of the virtual machine
 * @argv: command line of its QEMU, to start it anew
 * @task: what to do first
 * @force: start it although it cannot be taken along
 * @background: return when it runs
 */
struct options {
	const char *name;
	char **argv;
	enum task task;
	bool force;
	bool background;
};

int keeper(const struct options *options);

/* --- client.c --- */

int client_ask(const char *vm, const char *what, json_t **answer);
int client_prepare(const json_t *names);
int client_save(const json_t *names);
int client_abort(const json_t *names);
int client_status(const json_t *names, bool json);

#endif /* LU_QEMU_H */
