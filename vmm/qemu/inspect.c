// SPDX-License-Identifier: GPL-2.0-only
/*
 * Can a virtual machine be taken along? Asked when it is started and held, and again
 * before it is saved.
 *
 * Of what it consists QEMU tells (QOM, its object tree), and what stands against CPR
 * (migration blockers). What the kernel thinks of its devices is asked through QEMU's
 * own files of them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lu-qemu.h"

/* The first with mode cpr-exec, in whose form a machine is given back to QEMU. */
#define QEMU_FIRST 1002

static void problem(json_t *problems, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void problem(json_t *problems, const char *format, ...)
{
	char text[400];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	json_array_append_new(problems, json_string(text));
}

/* --- QEMU's objects --------------------------------------------------------- */

/* A property that is a string; the caller frees it. "" if there is none. */
static char *property(struct vm *vm, const char *path, const char *name)
{
	json_t *answer = NULL;
	const char *text = NULL;
	char *copy;

	if (!qmp_call(&vm->qmp, "qom-get",
		      json_pack("{s:s, s:s}", "path", path, "property", name),
		      &answer))
		text = json_string_value(answer);
	copy = strdup(text ?: "");
	json_decref(answer);
	return copy;
}

/* The last part of a path, which is text itself. */
static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/*
 * Call a function for each object below a path, with its path, its name and its
 * type.
 */
static int for_objects(struct vm *vm, const char *path,
		       void (*fn)(struct vm *vm, const char *path,
				  const char *name, const char *type,
				  json_t *data),
		       json_t *data)
{
	json_t *answer, *child;
	size_t i;
	int ret = qmp_call(&vm->qmp, "qom-list",
			   json_pack("{s:s}", "path", path), &answer);

	if (ret)
		return ret;
	json_array_foreach(answer, i, child) {
		const char *name = json_text(child, "name");
		char below[256], kind[100];

		if (sscanf(json_text(child, "type"), "child<%99[^>]", kind) !=
		    1)
			continue;
		snprintf(below, sizeof(below), "%s/%s", path, name);
		fn(vm, below, name, kind, data);
	}
	json_decref(answer);
	return 0;
}

static void add_device(struct vm *vm, const char *path, const char *name,
		       const char *type, json_t *devices)
{
	char *sysfs, *iommufd;

	if (strncmp(type, "vfio-pci", 8))
		return;
	sysfs = property(vm, path, "sysfsdev");
	if (!*sysfs) {
		free(sysfs);
		sysfs = property(vm, path, "host");
	}
	iommufd = property(vm, path, "iommufd");
	json_array_append_new(
		devices, json_pack("{s:s, s:s, s:s}", "name", last_part(sysfs),
				   "iommufd", last_part(iommufd), "id", name));
	free(sysfs);
	free(iommufd);
}

/**
 * inspect_devices() - which devices does it have through VFIO?
 * @vm: the machine, which has a QEMU
 * @devices: where to put an array of objects: "name": QEMU's name of the device,
 *	     "iommufd": QEMU's name of its iommufd, or "", "id": QEMU's ID of it. The
 *	     caller frees it.
 *
 * Return: 0 or a negative errno
 */
int inspect_devices(struct vm *vm, json_t **devices)
{
	int ret;

	*devices = json_array();
	ret = for_objects(vm, "/machine/peripheral", add_device, *devices);
	if (!ret)
		ret = for_objects(vm, "/machine/peripheral-anon", add_device,
				  *devices);
	if (ret)
		json_decref(*devices);
	*devices = ret ? NULL : *devices;
	return ret;
}

static void add_name(struct vm *vm, const char *path, const char *name,
		     const char *type, json_t *shape)
{
	(void)vm;
	(void)name;
	json_object_set_new(shape, path, json_string(type));
}

/* What is in each drive: the next QEMU opens what the command line says. */
static int add_drives(struct vm *vm, json_t *shape)
{
	json_t *answer, *drive;
	size_t i;
	int ret = qmp_call(&vm->qmp, "query-block", NULL, &answer);

	if (ret)
		return ret;
	json_array_foreach(answer, i, drive) {
		char key[256];

		snprintf(key, sizeof(key), "drive %s%s",
			 json_text(drive, "device"), json_text(drive, "qdev"));
		json_object_set_new(
			shape, key,
			json_string(json_text(
				json_object_get(drive, "inserted"), "file")));
	}
	json_decref(answer);
	return 0;
}

static const char *first_difference(json_t *a, json_t *b)
{
	const char *key;
	json_t *value;

	json_object_foreach(a, key, value)
		if (!json_equal(value, json_object_get(b, key)))
			return key;
	return NULL;
}

/**
 * inspect_shape() - does it still consist of what its command line says?
 * @vm: the machine, which has a QEMU; when it is asked for the first time, as it was
 *	just started, that is taken down
 *
 * Return: 0 or a negative errno: -EOPNOTSUPP: something was plugged in or out, or a
 * drive has another image
 */
int inspect_shape(struct vm *vm)
{
	json_t *shape = json_object();
	const char *where;
	int ret = for_objects(vm, "/machine/peripheral", add_name, shape);

	if (!ret)
		ret = for_objects(vm, "/machine/peripheral-anon", add_name,
				  shape);
	if (!ret)
		ret = for_objects(vm, "/objects", add_name, shape);
	if (!ret)
		ret = add_drives(vm, shape);
	if (!ret && !vm->shape)
		vm->shape = json_incref(shape);
	where = ret ? NULL : first_difference(vm->shape, shape);
	if (!ret && !where)
		where = first_difference(shape, vm->shape);
	if (where)
		ret = failed(
			-EOPNOTSUPP,
			"%s: added, removed or changed since it was started: undo that, or start it anew with another command line",
			where);
	json_decref(shape);
	return ret;
}

/* --- what stands against it ------------------------------------------------- */

static void look_at_device(struct vm *vm, const char *path, const char *name,
			   const char *type, json_t *problems)
{
	(void)vm;
	(void)path;
	if (strstr(type, "-iommu"))
		problem(problems,
			"%s (%s): an IOMMU of the virtual machine's own is not possible",
			name, type);
	if (!strncmp(type, "vhost-", 6))
		problem(problems, "%s (%s): what its back end has cannot cross",
			name, type);
}

static void look_at_object(struct vm *vm, const char *path, const char *name,
			   const char *type, json_t *problems)
{
	(void)vm;
	(void)path;
	if (!strcmp(type, "memory-backend-file"))
		problem(problems,
			"%s (%s): memory of a file does not cross: use memory-backend-memfd,share=on (with hugetlb=on for huge pages)",
			name, type);
	if (!strcmp(type, "sev-guest") || !strcmp(type, "sev-snp-guest") ||
	    !strcmp(type, "tdx-guest"))
		problem(problems, "%s (%s): confidential memory does not cross",
			name, type);
}

static void look_at_devices(struct vm *vm, json_t *problems)
{
	json_t *devices, *device;
	size_t i;

	if (inspect_devices(vm, &devices)) {
		problem(problems, "%s", why_failed());
		return;
	}
	json_array_foreach(devices, i, device) {
		if (strchr(json_text(device, "id"), '['))
			problem(problems,
				"%s has no id: add id=NAME to the device",
				json_text(device, "name"));
		if (!*json_text(device, "iommufd"))
			problem(problems,
				"%s is given to QEMU without iommufd: add -object iommufd,id=iommufd0 and iommufd=iommufd0 to the device",
				json_text(device, "name"));
	}
	json_decref(devices);
}

/* QEMU knows of most that it cannot hand to a successor. */
static void look_at_blockers(struct vm *vm, json_t *problems)
{
	json_t *answer, *reasons, *reason;
	size_t i;

	if (qmp_call(&vm->qmp, "migrate-set-parameters",
		     json_pack("{s:s}", "mode", "cpr-transfer"), NULL) ||
	    qmp_call(&vm->qmp, "query-migrate", NULL, &answer)) {
		problem(problems, "%s", why_failed());
		return;
	}
	reasons = json_object_get(answer, "blocked-reasons");
	json_array_foreach(reasons, i, reason)
		problem(problems, "%s", json_string_value(reason));
	json_decref(answer);
	qmp_call(&vm->qmp, "migrate-set-parameters",
		 json_pack("{s:s}", "mode", "normal"), NULL);
}

/* Without KVM what QEMU does with interrupts of devices fails. */
static void look_at_kvm(struct vm *vm, json_t *problems)
{
	json_t *answer = NULL;

	if (qmp_call(&vm->qmp, "query-kvm", NULL, &answer))
		problem(problems, "%s", why_failed());
	else if (!json_is_true(json_object_get(answer, "enabled")))
		problem(problems, "it does not use KVM (-accel kvm)");
	json_decref(answer);
}

/* --- what the kernel says --------------------------------------------------- */

/*
 * A virtual function whose physical one is vfio-pci's goes along in the session of that,
 * and a virtual machine has a session of its own.
 */
static bool needs_other_session(const char *bdf)
{
	char path[64 + LU_BDF_SIZE], target[256];
	ssize_t len;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/physfn/driver",
		 bdf);
	len = readlink(path, target, sizeof(target) - 1);
	if (len < 0)
		return false;
	target[len] = '\0';
	return !strcmp(basename(target), "vfio-pci");
}

static void look_at_file(int device, json_t *problems)
{
	struct lu_device_state state;
	char bdf[LU_BDF_SIZE];
	int ret = lu_device_bdf(device, bdf);

	if (ret)
		return;
	if (needs_other_session(bdf))
		problem(problems,
			"%s: its physical function is bound to vfio-pci, and would have to be in the same session: give that its own driver, and hold it (see vfio-liveupdate hold)",
			bdf);
	ret = lu_device_query(device, &state);
	if (ret == -ENOTTY)
		problem(problems, "%s: this kernel preserves no VFIO devices",
			bdf);
	else if (!ret && state.error)
		problem(problems,
			"%s: this kernel cannot preserve it: %s (see vfio-liveupdate list)",
			bdf, strerror(-state.error));
	else if (!ret && !(state.modes & LU_MODE_RUNNING))
		problem(problems,
			"%s: it cannot be preserved while it runs: %s", bdf,
			lu_reason_text(state.reason));
}

/* QEMU's own files of its devices tell: nobody else can open them now. */
static void look_at_files(struct vm *vm, json_t *problems)
{
	struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", vm->pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		int fd = syscall(SYS_pidfd_getfd, vm->pidfd,
				 atoi(entry->d_name), 0);

		if (fd < 0)
			continue;
		look_at_file(fd, problems);
		close(fd);
	}
	if (dir)
		closedir(dir);
}

static void look_at_kernel(json_t *problems)
{
	uint32_t ioas, count = 0;
	int luo = lu_open(), iommufd;

	if (luo == -ENOENT)
		problem(problems,
			"/dev/liveupdate is not there: boot a kernel that has CONFIG_LIVEUPDATE with liveupdate=on kho=on");
	if (luo >= 0)
		close(luo);
	iommufd = lu_iommufd_open();
	if (iommufd < 0)
		return;
	if (!lu_ioas_alloc(iommufd, &ioas) &&
	    lu_ioas_areas(iommufd, ioas, 0, NULL, &count))
		problem(problems,
			"this kernel does not tell what is mapped for devices (IOMMU_IOAS_LIVEUPDATE_AREAS)");
	close(iommufd);
}

/**
 * inspect() - what stands against taking a virtual machine along?
 * @vm: the machine, which has a QEMU
 * @problems: array to which a text is added for each
 *
 * Return: 0 if nothing does, -EOPNOTSUPP otherwise
 */
int inspect(struct vm *vm, json_t *problems)
{
	int version = qmp_version(&vm->qmp);

	if (version < QEMU_FIRST) {
		problem(problems,
			"QEMU is %d.%d, and cannot go on with a machine of another QEMU: 10.2 is the first that can",
			version / 100, version % 100);
		return -EOPNOTSUPP;
	}
	look_at_kernel(problems);
	look_at_kvm(vm, problems);
	if (for_objects(vm, "/machine/peripheral", look_at_device, problems) ||
	    for_objects(vm, "/machine/peripheral-anon", look_at_device,
			problems) ||
	    for_objects(vm, "/objects", look_at_object, problems))
		problem(problems, "%s", why_failed());
	look_at_devices(vm, problems);
	look_at_blockers(vm, problems);
	look_at_files(vm, problems);
	return json_array_size(problems) ? -EOPNOTSUPP : 0;
}
