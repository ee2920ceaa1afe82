// SPDX-License-Identifier: GPL-2.0-only
/*
 * Into the next kernel.
 *
 *   incoming_open()      the session, and what crossed beside memory and devices
 *   incoming_resume()
 *     take_over()          files, page tables of this kernel in the place of those
 *                          that came, new eventfds, interrupts armed and signalled
 *     incoming_load()      a QEMU that is given all that, and held
 *     lu_set_finish()      from here on there is no way back
 *     signal_all()         interrupts, which may have come meanwhile
 *     vm_go_on()           the machine runs
 *
 * What is preserved stays so until QEMU has loaded everything and is held: if it
 * dies before, the same can be tried again, because the machine has not run. So it can
 * if this process dies, and somebody else, such as the service manager, has the session.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lu-qemu.h"

/* QEMU reads a stream of some hundred KiB */
#define LOAD_MS 120000
#define TRIES 3

/**
 * incoming_init() - begin with nothing
 * @in: what is to begin
 */
void incoming_init(struct incoming *in)
{
	*in = (struct incoming){ .stream = -1, .times = json_object() };
}

/**
 * incoming_free() - forget it
 * @in: what was begun
 *
 * A session that is not finished can be retrieved again.
 */
void incoming_free(struct incoming *in)
{
	lu_set_free(in->set);
	cpr_free(&in->cpr);
	if (in->stream >= 0)
		close(in->stream);
	free(in->armed);
	json_decref(in->json);
	json_decref(in->times);
	incoming_init(in);
}

/* --- opening ---------------------------------------------------------------- */

static int read_state(struct incoming *in)
{
	struct lu_member member;
	int state, ret = lu_set_find(in->set, STATE_MEMBER, &member);

	if (ret)
		return failed(ret, "the session is not of lu-qemu");
	state = lu_session_retrieve_fd(lu_set_session(in->set), member.token);
	if (state < 0)
		return failed(state, "what crossed: %s", strerror(-state));
	ret = state_read(state, &in->json, &in->stream);
	close(state);
	return ret;
}

/**
 * incoming_open() - get what the previous kernel handed over of a machine
 * @in: from incoming_init()
 * @vm: the machine; gets its command line
 * @session: its session, which is @in's when this succeeds
 *
 * Return: 0 or a negative errno
 */
int incoming_open(struct incoming *in, struct vm *vm, int session)
{
	int ret = lu_set_open(&in->set, session);

	if (ret)
		return failed(ret, "its session: %s", strerror(-ret));
	ret = read_state(in);
	if (ret)
		return ret;
	json_decref(vm->argv);
	vm->argv = json_incref(json_object_get(in->json, "argv"));
	free(vm->cwd);
	vm->cwd = strdup(json_text(in->json, "cwd"));
	free(vm->machine);
	vm->machine = strdup(json_text(in->json, "machine"));
	if (!json_array_size(vm->argv) || !vm->cwd || !vm->machine)
		return failed(-EBADMSG, "what crossed has no command line");
	return 0;
}

/* --- taking over ------------------------------------------------------------ */

/* A file for QEMU: one that crossed, or an eventfd in the place of one that did not. */
static int new_file(const struct incoming *in, const json_t *entry)
{
	const char *name = json_text(entry, "member");
	struct lu_member member;
	int fd;

	if (!strcmp(json_text(entry, "kind"), "eventfd"))
		fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	else if (lu_set_find(in->set, name, &member))
		return failed(-ENOENT, "%s: it did not cross", name);
	else
		fd = fcntl(member.fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? failed(-errno, "a file for QEMU: %m") : fd;
}

static int make_files(struct incoming *in)
{
	json_t *entry;
	size_t i;

	json_array_foreach(json_object_get(in->json, "files"), i, entry) {
		int fd = new_file(in, entry);
		int ret = fd < 0 ?
				  fd :
				  cpr_add_fd(&in->cpr, json_text(entry, "name"),
					     json_integer_value(json_object_get(
						     entry, "id")),
					     fd);

		if (ret)
			return ret;
	}
	return 0;
}

static uint32_t id_of(const struct incoming *in, const json_t *entry,
		      const char *what)
{
	struct lu_member member;

	return lu_set_find(in->set, json_text(entry, what), &member) ?
		       0 :
		       member.id;
}

static int make_device(struct incoming *in, const json_t *entry)
{
	struct cpr_device device = {
		.name = (char *)json_text(entry, "name"),
		.dev_id = id_of(in, entry, "member"),
		.ioas_id = id_of(in, entry, "ioas"),
		.hwpt_id = id_of(in, entry, "hwpt"),
	};

	if (!device.dev_id || !device.ioas_id || !device.hwpt_id)
		return failed(-ENODEV, "%s: its numbers are not known",
			      device.name);
	return cpr_add_device(&in->cpr, &device);
}

static int make_devices(struct incoming *in)
{
	json_t *entry;
	size_t i;

	json_array_foreach(json_object_get(in->json, "devices"), i, entry) {
		int ret = make_device(in, entry);

		if (ret)
			return ret;
	}
	return 0;
}

/* Arm interrupts of one of the two kinds that a device itself does not raise. */
static int arm_other(int device, uint32_t index, int32_t eventfd)
{
	struct {
		struct vfio_irq_set set;
		int32_t fd;
	} call = {
		.set.argsz = sizeof(call),
		.set.flags = VFIO_IRQ_SET_DATA_EVENTFD |
			     VFIO_IRQ_SET_ACTION_TRIGGER,
		.set.index = index,
		.set.count = 1,
		.fd = eventfd,
	};

	if (eventfd < 0 || !ioctl(device, VFIO_DEVICE_SET_IRQS, &call))
		return 0;
	return -errno;
}

/*
 * How many vectors are to be set up: those that were, or all that there are if the
 * kernel cannot add to them later, which QEMU counts on.
 */
static uint32_t count_vectors(int device, const struct lu_irqs *irqs)
{
	struct vfio_irq_info info = {
		.argsz = sizeof(info),
		.index = irqs->index,
	};

	if (irqs->index == LU_IRQ_MSIX &&
	    !ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, &info) &&
	    info.flags & VFIO_IRQ_INFO_NORESIZE && info.count <= LU_IRQS_MAX)
		return info.count;
	return irqs->count;
}

/*
 * Of a vector that the guest has not masked it is KVM's eventfd, otherwise QEMU's. Of
 * MSI QEMU takes KVM's always.
 */
static int32_t vector_fd(const struct incoming *in, const json_t *entry,
			 uint32_t index, uint32_t vector)
{
	const char *name = json_text(entry, "name");
	int32_t fd = -1;
	json_t *number;
	size_t i;

	if (index == LU_IRQ_MSI)
		fd = cpr_vector(&in->cpr, name, "kvm_interrupt", vector);

	json_array_foreach(json_object_get(entry, "unmasked"), i, number)
		if (json_integer_value(number) == vector)
			fd = cpr_vector(&in->cpr, name, "kvm_interrupt",
					vector);
	return fd >= 0 ? fd : cpr_vector(&in->cpr, name, "interrupt", vector);
}

static int add_armed(struct incoming *in, const int32_t *eventfds,
		     uint32_t count)
{
	int32_t *armed =
		reallocarray(in->armed, in->nr_armed + count, sizeof(*armed));

	if (!armed)
		return -ENOMEM;
	in->armed = armed;
	for (uint32_t i = 0; i < count; i++)
		if (eventfds[i] >= 0)
			armed[in->nr_armed++] = eventfds[i];
	return 0;
}

/* Arm the vectors that were. */
static int arm(struct incoming *in, const json_t *entry, int device)
{
	int32_t eventfds[LU_IRQS_MAX];
	struct lu_irqs irqs;
	uint32_t count;
	int ret = lu_device_irqs(device, &irqs);

	if (ret == -ENOENT)
		return 0;
	if (ret)
		return ret;
	count = count_vectors(device, &irqs);
	/* On without any vector, as a driver that is not used yet has them */
	if (!count) {
		count = 1;
		irqs.armed[0] = 0;
	}
	for (uint32_t i = 0; i < count; i++)
		eventfds[i] = irqs.armed[i / 64] >> i % 64 & 1 ?
				      vector_fd(in, entry, irqs.index, i) :
				      -1;
	ret = add_armed(in, eventfds, count);
	return ret ? ret :
		     lu_device_irqs_restore(device, irqs.index, eventfds,
					    count);
}

static int arm_all(struct incoming *in)
{
	json_t *entry;
	size_t i;

	json_array_foreach(json_object_get(in->json, "devices"), i, entry) {
		const char *name = json_text(entry, "name");
		const struct cpr_fd *fd = cpr_find(&in->cpr, name, 0);
		int ret = fd ? arm(in, entry, fd->fd) : -ENOENT;

		if (!ret)
			ret = arm_other(fd->fd, VFIO_PCI_ERR_IRQ_INDEX,
					cpr_vector(&in->cpr, name,
						   "err_notifier", 0));
		if (!ret)
			ret = arm_other(fd->fd, VFIO_PCI_REQ_IRQ_INDEX,
					cpr_vector(&in->cpr, name,
						   "req_notifier", 0));
		if (ret)
			return failed(ret, "%s: its interrupts: %s", name,
				      strerror(-ret));
	}
	return 0;
}

static int retrieve(struct incoming *in, const char *what,
		    int (*step)(struct lu_set *set))
{
	int ret = step(in->set);

	return ret ? set_failed(in->set, ret, what) : 0;
}

/* All that QEMU is to be given; done once. */
static int take_over(struct incoming *in)
{
	struct instant begin = instant_now();
	int ret = retrieve(in, "retrieving", lu_set_retrieve);

	begin = took(in->times, "retrieve", begin);
	if (!ret)
		ret = retrieve(in, "page tables", lu_set_handover);
	begin = took(in->times, "page tables", begin);
	if (!ret)
		ret = make_files(in);
	if (!ret)
		ret = make_devices(in);
	if (!ret)
		ret = arm_all(in);
	took(in->times, "interrupts", begin);
	if (ret) {
		cpr_free(&in->cpr);
		in->nr_armed = 0;
	}
	return ret;
}

/* --- QEMU ------------------------------------------------------------------- */

/**
 * incoming_load() - start a QEMU that goes on with a machine, and hold it
 * @vm: the machine, which has no QEMU
 * @cpr: what QEMU is given
 * @stream: its device models
 *
 * Return: 0, or a negative errno, and then there is no QEMU
 */
int incoming_load(struct vm *vm, const struct cpr *cpr, int stream)
{
	int ret = vm_start(vm, cpr, stream);
	int64_t deadline = deadline_in(LOAD_MS);

	while (!ret) {
		json_t *answer;
		bool loads;

		ret = qmp_call(&vm->qmp, "query-status", NULL, &answer);
		if (ret) {
			ret = failed(
				ret,
				"QEMU ended while it loaded what was saved");
			break;
		}
		loads = !strcmp(json_text(answer, "status"), "inmigrate");
		json_decref(answer);
		if (!loads)
			return 0;
		if (!deadline_left(deadline))
			ret = failed(-ETIMEDOUT,
				     "QEMU does not load what was saved");
		usleep(2000);
	}
	vm_kill(vm);
	return ret;
}

/* Whoever waits for an interrupt that came meanwhile looks at the device now. */
static void signal_all(const struct incoming *in)
{
	static const uint64_t one = 1;

	for (size_t i = 0; i < in->nr_armed; i++)
		if (write(in->armed[i], &one, sizeof(one)) < 0)
			say("an interrupt: %m");
}

static void note_stop(struct incoming *in)
{
	json_int_t khz =
		json_integer_value(json_object_get(in->json, "tsc khz"));
	uint64_t stopped =
		json_integer_value(json_object_get(in->json, "stopped tsc"));

	if (khz > 0)
		json_object_set_new(
			in->times, "stopped for",
			json_real((double)(instant_now().tsc - stopped) / khz));
}

/* A QEMU that has loaded everything, and is held; several are tried. */
static int load(struct incoming *in, struct vm *vm)
{
	int ret;

	for (int try = 1;; try++) {
		ret = incoming_load(vm, &in->cpr, in->stream);
		if (!ret || try == TRIES)
			return ret;
		say("%s; trying again", why_failed());
	}
}

/**
 * incoming_resume() - let a machine go on
 * @in: from incoming_open()
 * @vm: the machine, which has no QEMU
 *
 * Return: 0: it has a QEMU, and runs unless that is said; or a negative errno, and then
 * it can be tried again
 */
int incoming_resume(struct incoming *in, struct vm *vm)
{
	int ret = in->cpr.nr_fds ? 0 : take_over(in);
	struct instant begin = instant_now();

	if (!ret)
		ret = load(in, vm);
	begin = took(in->times, "QEMU", begin);
	if (!ret)
		ret = retrieve(in, "finishing", lu_set_finish);
	if (ret) {
		vm_kill(vm);
		return ret;
	}
	took(in->times, "finish", begin);
	vm->held = json_is_true(json_object_get(in->json, "running"));
	signal_all(in);
	if (vm_go_on(vm))
		say("it stands still: %s (lu-qemu resume tries again)",
		    why_failed());
	note_stop(in);
	/* Once more: KVM may have dropped one when QEMU set the processors' state */
	signal_all(in);
	return 0;
}
