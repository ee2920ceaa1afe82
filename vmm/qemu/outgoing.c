// SPDX-License-Identifier: GPL-2.0-only
/*
 * Out of this kernel.
 *
 *   outgoing_prepare()     the machine runs
 *     handover_begin()       QEMU gives its files, as it would to a successor...
 *     check_devices()        would the kernel take them?
 *     handover_cancel()      ...and goes on as if nothing had been
 *     preserve_memory()      all memory, which takes longest
 *   outgoing_save()        the machine stands still
 *     vm_stop()
 *     hand_over()            again: interrupts may have been turned on or off since
 *     preserve_devices()     page tables, what is mapped in them, and devices
 *     handover_stream()      QEMU's device models; then QEMU ends
 *     write_state()
 *
 * The last step before which QEMU can go on by itself is handover_stream(): what fails
 * before, also as the kernel refuses it, leaves the machine running in the very same
 * process. After that outgoing_back() starts another one with what was saved.
 *
 * Restrictions: INTx does not go along. The virtual machine has no IOMMU.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lu-qemu.h"

#define CUSTODY_MS 5000

/**
 * outgoing_init() - begin with nothing
 * @out: what is to begin
 */
void outgoing_init(struct outgoing *out)
{
	*out = (struct outgoing){
		.state = -1,
		.times = json_object(),
		.began = instant_now(),
	};
	handover_init(&out->handover);
}

/**
 * outgoing_free() - forget it; what was preserved is not any more
 * @out: what was begun
 */
void outgoing_free(struct outgoing *out)
{
	lu_set_free(out->set);
	cpr_free(&out->first);
	cpr_free(&out->cpr);
	handover_end(&out->handover);
	if (out->state >= 0)
		close(out->state);
	json_decref(out->devices);
	json_decref(out->bars);
	json_decref(out->unmasked);
	json_decref(out->json);
	json_decref(out->times);
	outgoing_init(out);
}

static int carry_irqs(struct outgoing *out, int carry)
{
	for (size_t i = 0; i < out->cpr.nr_devices; i++) {
		const char *name = out->cpr.devices[i].name;
		const struct cpr_fd *fd = cpr_find(&out->cpr, name, 0);
		int ret = fd ? lu_device_carry_irqs(fd->fd, carry) : -ENOENT;

		if (ret && carry)
			return failed(ret,
				      "%s: its interrupts cannot go along: %s",
				      name, strerror(-ret));
	}
	return 0;
}

/* --- prepare ---------------------------------------------------------------- */

/* Is there only what can cross, or be made anew? */
static int check_files(const struct cpr *cpr)
{
	for (size_t i = 0; i < cpr->nr_fds; i++)
		if (!file_kind(cpr->fds[i].fd))
			return failed(
				-EOPNOTSUPP,
				"QEMU's file %s cannot cross: neither memory nor a device",
				cpr->fds[i].name);
	return 0;
}

/* Each device has to be one that the kernel would take, as far as that can be told. */
static int check_device(struct outgoing *out, const struct cpr *cpr,
			const struct cpr_device *device)
{
	struct place place;
	int ret;

	if (cpr_vector(cpr, device->name, "intx-interrupt", 0) >= 0)
		return failed(
			-EOPNOTSUPP,
			"%s uses INTx, which cannot go along: the machine has no driver for it that uses MSI, or not yet",
			device->name);
	ret = find_place(out, cpr, device->name, &place);
	if (ret)
		return ret;
	ret = lu_hwpt_mark(place.iommufd, device->hwpt_id, 1);
	if (!ret)
		ret = lu_hwpt_unmark(place.iommufd, device->hwpt_id, 1);
	return ret ? failed(ret, "%s: its page table cannot go along: %s",
			    device->name, strerror(-ret)) :
		     0;
}

static int check_devices(struct outgoing *out, const struct cpr *cpr)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < cpr->nr_devices; i++)
		ret = check_device(out, cpr, &cpr->devices[i]);
	return ret;
}

/* Preserve in the machine's session, which is made for that. */
static int make_session(struct outgoing *out, const struct vm *vm,
			int (*preserve)(struct lu_set *set, int luo,
					const char *session),
			const char *what)
{
	char name[LU_SESSION_NAME_SIZE];
	int luo = luo_open(), ret;

	if (luo < 0)
		return luo;
	session_name(name, vm->name);
	ret = preserve(out->set, luo, name);
	close(luo);
	return ret < 0 ? set_failed(out->set, ret, what) : 0;
}

static int preserve_memory(struct outgoing *out, const struct vm *vm)
{
	char name[LU_NAME_SIZE];
	int ret = lu_set_new(&out->set);

	out->state = ret ? -1 : state_new();
	if (!ret && out->state < 0)
		return out->state;
	if (!ret)
		ret = lu_set_add_memory(out->set, STATE_MEMBER, out->state);
	/* With what takes no time: other keepers wait for /dev/liveupdate meanwhile */
	if (!ret)
		ret = make_session(out, vm, lu_set_preserve_memory,
				   "its session");
	if (ret)
		return ret;
	for (size_t i = 0; !ret && i < out->first.nr_fds; i++) {
		if (!file_is(out->first.fds[i].fd, "memory"))
			continue;
		member_name(name, "memory", i);
		ret = lu_set_add_memory(out->set, name, out->first.fds[i].fd);
	}
	if (ret)
		return failed(ret, "the machine's memory: %s", strerror(-ret));
	ret = lu_set_preserve_memory(out->set, -1, NULL);
	return ret ? set_failed(out->set, ret, "preserving memory") : 0;
}

static int look(struct vm *vm)
{
	json_t *problems = json_array();
	int ret = inspect(vm, problems);

	if (ret)
		failed(ret, "%s",
		       json_string_value(json_array_get(problems, 0)));
	json_decref(problems);
	return ret ? ret : inspect_shape(vm);
}

/**
 * outgoing_prepare() - preserve memory while the machine runs
 * @out: from outgoing_init()
 * @vm: the machine
 *
 * Return: 0, or a negative errno, and then nothing is preserved
 */
int outgoing_prepare(struct outgoing *out, struct vm *vm)
{
	struct instant begin = instant_now();
	int ret = look(vm);

	if (!ret)
		ret = inspect_devices(vm, &out->devices);
	if (!ret)
		ret = handover_begin(&out->handover, vm, &out->first);
	if (!ret)
		ret = check_files(&out->first);
	if (!ret)
		ret = check_devices(out, &out->first);
	if (!ret)
		ret = handover_cancel(&out->handover, vm);
	begin = took(out->times, "look", begin);
	if (!ret)
		ret = preserve_memory(out, vm);
	took(out->times, "memory", begin);
	if (ret)
		outgoing_abort(out, vm);
	return ret;
}

/**
 * outgoing_abort() - let the machine run on in its QEMU
 * @out: prepared, or failed
 * @vm: the machine
 *
 * Keeps what why_failed() says, unless it fails.
 *
 * Return: 0 or a negative errno
 */
int outgoing_abort(struct outgoing *out, struct vm *vm)
{
	char reason[1024];
	int ret, cont;

	snprintf(reason, sizeof(reason), "%s", why_failed());
	carry_irqs(out, 0);
	/* First what is preserved: QEMU could not change its mappings otherwise */
	lu_set_free(out->set);
	out->set = NULL;
	ret = handover_cancel(&out->handover, vm);
	vm->held |= out->stopped_it;
	outgoing_free(out);
	/* Also when it is not clear what QEMU does: to stand still is no better */
	cont = vm_go_on(vm);
	ret = ret ? ret : cont;
	if (ret)
		say("it may stand still: %s", why_failed());
	failed(0, "%s", reason);
	return ret;
}

/* --- save ------------------------------------------------------------------- */

/* With the machine stopped: all that it has, again. */
static int hand_over(struct outgoing *out, struct vm *vm)
{
	int ret = handover_begin(&out->handover, vm, &out->cpr);

	if (!ret)
		ret = check_files(&out->cpr);
	json_decref(out->devices);
	out->devices = NULL;
	if (!ret)
		ret = inspect_devices(vm, &out->devices);
	return ret ? ret : check_devices(out, &out->cpr);
}

static int preserve_devices(struct outgoing *out, struct vm *vm)
{
	int ret = describe_bars(out, vm);

	if (!ret)
		ret = describe_set(out);
	if (!ret)
		ret = describe_json(out, vm);
	if (!ret)
		ret = carry_irqs(out, 1);
	if (ret)
		return ret;
	ret = lu_set_preserve(out->set, -1, NULL);
	return ret < 0 ? set_failed(out->set, ret, "preserving devices") : 0;
}

static int write_state(struct outgoing *out)
{
	struct instant now = instant_now();

	took(out->times, "stopped for", out->stopped);
	json_object_set_new(out->json, "stopped tsc",
			    json_integer(out->stopped.tsc));
	json_object_set_new(out->json, "tsc khz",
			    json_integer(instant_khz(out->began, now)));
	return state_close(out->state, out->stream, out->json);
}

/* As long as QEMU is there it can go on. */
static int save_in_qemu(struct outgoing *out, struct vm *vm)
{
	struct instant begin = instant_now();
	int ret = inspect_shape(vm);

	if (!ret)
		ret = vm_stop(vm, &out->stopped_it);
	out->stopped = instant_now();
	if (!ret)
		ret = hand_over(out, vm);
	begin = took(out->times, "hand-over", begin);
	if (!ret)
		ret = preserve_devices(out, vm);
	begin = took(out->times, "devices", begin);
	if (!ret)
		ret = handover_stream(&out->handover, vm, out->state,
				      &out->stream);
	took(out->times, "stream", begin);
	return ret;
}

/**
 * outgoing_save() - stop the machine, and preserve all that it is
 * @out: prepared
 * @vm: the machine, which has no QEMU any more when this succeeds
 *
 * Return: 0, or a negative errno: the machine runs as before if @vm still has its
 * QEMU; outgoing_back() gives it one otherwise
 */
int outgoing_save(struct outgoing *out, struct vm *vm)
{
	int ret = save_in_qemu(out, vm);
	struct instant begin = instant_now();

	if (ret) {
		outgoing_abort(out, vm);
		return ret;
	}
	vm_kill(vm);
	handover_end(&out->handover);
	took(out->times, "end of QEMU", begin);
	return write_state(out);
}

/**
 * outgoing_again() - preserve what was saved again, after outgoing_back() failed
 * @out: saved
 * @vm: the machine, which has no QEMU
 *
 * Return: 0 or a negative errno; nothing is done if it is preserved
 */
int outgoing_again(struct outgoing *out, const struct vm *vm)
{
	int ret;

	if (lu_set_session(out->set) >= 0)
		return 0;
	ret = carry_irqs(out, 1);
	return ret ? ret :
		     make_session(out, vm, lu_set_preserve,
				  "preserving it again");
}

/**
 * outgoing_back() - go on in this kernel with what was saved
 * @out: saved
 * @vm: the machine, which has no QEMU
 * @times: where to put how long the steps took; the caller frees it
 *
 * Return: 0: it has a QEMU, and runs unless that is said; or a negative errno, and then
 * it can be tried again
 */
int outgoing_back(struct outgoing *out, struct vm *vm, json_t **times)
{
	int64_t deadline = deadline_in(CUSTODY_MS);
	int ret, stream;

	/* The service manager may take its time to close what it had */
	while ((ret = lu_set_unpreserve(out->set)) == -EBUSY &&
	       deadline_left(deadline))
		usleep(10000);
	/* -EINVAL: this was done by a try before */
	if (ret && ret != -EINVAL)
		return failed(ret, "taking the machine out of its session: %s",
			      strerror(-ret));
	carry_irqs(out, 0);
	stream = state_stream(out->state, out->stream);
	if (stream < 0)
		return stream;
	ret = incoming_load(vm, &out->cpr, stream);
	close(stream);
	if (ret)
		return ret;
	vm->held = out->stopped_it;
	took(out->times, "stopped for", out->stopped);
	*times = json_deep_copy(out->times);
	outgoing_free(out);
	if (vm_go_on(vm))
		say("it stands still: %s (lu-qemu resume tries again)",
		    why_failed());
	return 0;
}
