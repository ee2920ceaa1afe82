// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a machine that is stopped consists of: as members of a set, which the kernel
 * preserves, and in words, for the QEMU that goes on with it.
 *
 * Members: "memory.N" for file N of the first hand-over; "iommufd.N" for file N of
 * the second; "device.N" for device N of that, "ioas.N" and "hwpt.N" for the place that
 * device N is the first to have.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lu-qemu.h"

#define AREAS_MAX 1024

/* --- files ------------------------------------------------------------------ */

/* Text that the kernel has instead of a path. */
static bool is_eventfd(int fd)
{
	static const char text[] = "anon_inode:[eventfd]";
	char path[64], link[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, link, sizeof(link)) == sizeof(text) - 1 &&
	       !memcmp(link, text, sizeof(text) - 1);
}

/**
 * file_kind() - what is a file of QEMU's?
 * @fd: the file
 *
 * Paths do not tell: files that came from another kernel have none.
 *
 * Return: "memory", "eventfd", "iommufd", "device"; or NULL: nothing that can cross or
 * be made anew
 */
const char *file_kind(int fd)
{
	char bdf[LU_BDF_SIZE];
	uint32_t count = 0;

	if (fcntl(fd, F_GET_SEALS) >= 0)
		return "memory";
	if (is_eventfd(fd))
		return "eventfd";
	if (!lu_device_bdf(fd, bdf))
		return "device";
	/* There is no IOAS of this number, if this is one that could have it */
	return lu_ioas_areas(fd, 0, 0, NULL, &count) == -ENOENT ? "iommufd" :
								  NULL;
}

/**
 * file_is() - is a file of a kind?
 * @fd: the file
 * @kind: as file_kind() has it
 *
 * Return: true if so
 */
bool file_is(int fd, const char *kind)
{
	const char *is = file_kind(fd);

	return is && !strcmp(is, kind);
}

/**
 * member_name() - name of a member of the set
 * @name: where to put it
 * @kind: what it is
 * @i: which of these
 */
void member_name(char name[LU_NAME_SIZE], const char *kind, size_t i)
{
	snprintf(name, LU_NAME_SIZE, "%s.%zu", kind, i);
}

/**
 * set_failed() - note why a call of the library's failed for a set
 * @set: the set
 * @ret: what the call returned
 * @what: what it was for
 *
 * Return: @ret
 */
int set_failed(const struct lu_set *set, int ret, const char *what)
{
	struct lu_member member;

	if (lu_set_failed(set, &member))
		return failed(ret, "%s: %s", what, strerror(-ret));
	return failed(ret, "%s: %s%s%s: %s", what, member.name,
		      member.kind == LU_DEVICE ? " " : "",
		      member.kind == LU_DEVICE ? member.bdf : "",
		      strerror(-ret));
}

/**
 * find_place() - where is a device attached?
 * @out: knows the devices
 * @cpr: what QEMU handed over
 * @device: QEMU's name of the device
 * @place: where to put it
 *
 * Return: 0 or a negative errno
 */
int find_place(const struct outgoing *out, const struct cpr *cpr,
	       const char *device, struct place *place)
{
	json_t *entry;
	size_t i;

	json_array_foreach(out->devices, i, entry) {
		struct cpr_fd *fd;

		if (strcmp(json_text(entry, "name"), device))
			continue;
		fd = cpr_find(cpr, json_text(entry, "iommufd"), 0);
		if (!fd || !file_is(fd->fd, "iommufd"))
			break;
		*place = (struct place){ fd->fd, fd - cpr->fds };
		return 0;
	}
	return failed(-ENOENT, "%s: QEMU does not hand over its iommufd",
		      device);
}

/* Which file of the first hand-over a memory is; -1 if it is none. */
static int memory_index(const struct outgoing *out, uint64_t device,
			uint64_t inode)
{
	struct stat st;

	for (size_t i = 0; i < out->first.nr_fds; i++)
		if (file_is(out->first.fds[i].fd, "memory") &&
		    !fstat(out->first.fds[i].fd, &st) && st.st_ino == inode &&
		    st.st_dev == device)
			return i;
	return -1;
}

/* --- page tables and devices ------------------------------------------------ */

/* Add what is mapped of memory. */
static int add_memory(struct outgoing *out, const char *ioas,
		      const struct lu_area *area)
{
	char name[LU_NAME_SIZE];
	int index = memory_index(out, area->device, area->inode);

	if (index < 0)
		return failed(
			-EOPNOTSUPP,
			"memory at %#llx is mapped for devices, and QEMU does not hand it over",
			(unsigned long long)area->iova);
	member_name(name, "memory", index);
	return lu_set_add_mapping(out->set, ioas, name, area->offset,
				  area->length, area->iova, area->flags);
}

/* Add what is mapped of a BAR: of whose, where the guest has put it tells. */
static int add_bar(struct outgoing *out, const char *ioas,
		   const struct lu_area *area)
{
	json_t *bar;
	size_t i;

	json_array_foreach(out->bars, i, bar) {
		json_int_t begin = 0, size = 0;
		int number = 0;
		const char *device = "";

		json_unpack(bar, "{s:I, s:I, s:i, s:s}", "address", &begin,
			    "size", &size, "bar", &number, "device", &device);
		if (area->iova < (uint64_t)begin ||
		    area->iova + area->length > (uint64_t)begin + size)
			continue;
		return lu_set_add_bar(out->set, ioas, device, number,
				      area->iova - begin, area->length,
				      area->iova, area->flags);
	}
	return failed(
		-EOPNOTSUPP,
		"a BAR is mapped for devices at %#llx, and it cannot be told whose: give each vfio-pci device an id",
		(unsigned long long)area->iova);
}

static int add_areas(struct outgoing *out, const char *name, int iommufd,
		     uint32_t ioas, bool bars)
{
	struct lu_area *areas = calloc(AREAS_MAX, sizeof(*areas));
	uint32_t count = AREAS_MAX;
	int ret = areas ? lu_ioas_areas(iommufd, ioas, 0, areas, &count) :
			  -ENOMEM;

	if (!ret && count > AREAS_MAX)
		ret = -E2BIG;
	if (ret)
		failed(ret, "what is mapped for devices: %s", strerror(-ret));
	for (uint32_t i = 0; !ret && i < count; i++) {
		bool bar = areas[i].kind == LU_AREA_DMABUF;

		if (areas[i].kind == LU_AREA_USER)
			ret = failed(
				-EOPNOTSUPP,
				"memory at %#llx that is mapped for devices is not of a memfd",
				(unsigned long long)areas[i].iova);
		else if (bar == bars)
			ret = (bar ? add_bar : add_memory)(out, name,
							   &areas[i]);
		if (ret && !*why_failed())
			failed(ret,
			       "what is mapped for devices at %#llx, %#llx bytes from %#llx on: %s",
			       (unsigned long long)areas[i].iova,
			       (unsigned long long)areas[i].length,
			       (unsigned long long)areas[i].offset,
			       strerror(-ret));
	}
	free(areas);
	return ret;
}

/* The first device that has the same IOAS, or HWPT. */
static size_t first_with(const struct outgoing *out, size_t i, bool hwpt)
{
	const struct cpr_device *devices = out->cpr.devices;

	for (size_t k = 0; k < i; k++) {
		struct place a, b;

		if (find_place(out, &out->cpr, devices[k].name, &a) ||
		    find_place(out, &out->cpr, devices[i].name, &b) ||
		    a.index != b.index)
			continue;
		if (hwpt ? devices[k].hwpt_id == devices[i].hwpt_id :
			   devices[k].ioas_id == devices[i].ioas_id)
			return k;
	}
	return i;
}

/* QEMU asks for a page table that can track dirty pages wherever there can be one. */
static int add_hwpt(struct outgoing *out, const char *hwpt, const char *ioas,
		    const struct place *place, const struct cpr_device *device)
{
	int ret = lu_set_add_hwpt(out->set, hwpt, ioas, device->hwpt_id);
	int dirty = lu_iommufd_tracks_dirty(place->iommufd, device->dev_id);

	if (ret || dirty < 0)
		return ret ? ret : dirty;
	return dirty ? lu_set_hwpt_tracks_dirty(out->set, hwpt) : 0;
}

/* A step for a device and what it is attached to; each is a member once. */
static int add_place(struct outgoing *out, size_t i)
{
	const struct cpr_device *device = &out->cpr.devices[i];
	char iommufd[LU_NAME_SIZE], ioas[LU_NAME_SIZE], hwpt[LU_NAME_SIZE];
	struct lu_member member;
	struct place place;
	int ret = find_place(out, &out->cpr, device->name, &place);

	if (ret)
		return ret;
	member_name(iommufd, "iommufd", place.index);
	if (lu_set_find(out->set, iommufd, &member))
		ret = lu_set_add_iommufd(out->set, iommufd, place.iommufd);
	member_name(ioas, "ioas", first_with(out, i, false));
	if (!ret && lu_set_find(out->set, ioas, &member)) {
		ret = lu_set_add_ioas(out->set, ioas, iommufd, device->ioas_id);
		if (!ret)
			ret = add_areas(out, ioas, place.iommufd,
					device->ioas_id, false);
	}
	member_name(hwpt, "hwpt", first_with(out, i, true));
	if (!ret && lu_set_find(out->set, hwpt, &member))
		ret = add_hwpt(out, hwpt, ioas, &place, device);
	return ret;
}

static int add_device(struct outgoing *out, size_t i)
{
	const struct cpr_device *device = &out->cpr.devices[i];
	const struct cpr_fd *fd = cpr_find(&out->cpr, device->name, 0);
	char name[LU_NAME_SIZE], hwpt[LU_NAME_SIZE];

	if (!fd || !file_is(fd->fd, "device"))
		return failed(-ENOENT, "%s: QEMU does not hand over its file",
			      device->name);
	member_name(name, "device", i);
	member_name(hwpt, "hwpt", first_with(out, i, true));
	return lu_set_add_device(out->set, name, fd->fd, hwpt);
}

/* BARs are mapped as parts of devices, which have to be members before. */
static int add_bars(struct outgoing *out, size_t i)
{
	const struct cpr_device *device = &out->cpr.devices[i];
	char ioas[LU_NAME_SIZE];
	struct place place;
	int ret = find_place(out, &out->cpr, device->name, &place);

	if (ret || first_with(out, i, false) != i)
		return ret;
	member_name(ioas, "ioas", i);
	return add_areas(out, ioas, place.iommufd, device->ioas_id, true);
}

/**
 * describe_set() - add page tables, what is mapped in them, and devices to the set
 * @out: its machine is stopped, and has handed over its files
 *
 * Return: 0 or a negative errno
 */
int describe_set(struct outgoing *out)
{
	static int (*const steps[])(struct outgoing * out,
				    size_t i) = { add_place, add_device,
						  add_bars };

	for (size_t s = 0; s < ARRAY_SIZE(steps); s++) {
		for (size_t i = 0; i < out->cpr.nr_devices; i++) {
			int ret;

			failed(0, "%s", "");
			ret = steps[s](out, i);
			if (ret && !*why_failed())
				failed(ret, "%s: %s", out->cpr.devices[i].name,
				       strerror(-ret));
			if (ret)
				return ret;
		}
	}
	return 0;
}

/* --- BARs and interrupts, as the guest has them ----------------------------- */

/* The place of a device in the CPR state, by QEMU's ID of it; or -1. */
static int index_of_id(const struct outgoing *out, const char *id)
{
	json_t *entry;
	size_t i;

	json_array_foreach(out->devices, i, entry) {
		if (strcmp(json_text(entry, "id"), id))
			continue;
		for (size_t k = 0; k < out->cpr.nr_devices; k++)
			if (!strcmp(out->cpr.devices[k].name,
				    json_text(entry, "name")))
				return k;
	}
	return -1;
}

static void add_regions(struct outgoing *out, const char *member,
			json_t *regions)
{
	json_t *region;
	size_t i;

	json_array_foreach(regions, i, region) {
		json_t *bar =
			json_pack("{s:s, s:O, s:O, s:O}", "device", member,
				  "bar", json_object_get(region, "bar"),
				  "address", json_object_get(region, "address"),
				  "size", json_object_get(region, "size"));

		if (!strcmp(json_text(region, "type"), "memory"))
			json_array_append(out->bars, bar);
		json_decref(bar);
	}
}

/* Where has the guest put the BARs of the devices on a bus, and behind its bridges? */
static void find_bars(struct outgoing *out, json_t *bus)
{
	json_t *entry;
	size_t i;

	json_array_foreach(json_object_get(bus, "devices"), i, entry) {
		int index = index_of_id(out, json_text(entry, "qdev_id"));
		char name[LU_NAME_SIZE];

		find_bars(out, json_object_get(entry, "pci_bridge"));
		if (index < 0)
			continue;
		member_name(name, "device", index);
		add_regions(out, name, json_object_get(entry, "regions"));
	}
}

static int find_unmasked(struct outgoing *out, struct vm *vm)
{
	out->unmasked = json_array();
	for (size_t i = 0; i < out->cpr.nr_devices; i++) {
		const struct cpr_fd *fd =
			cpr_find(&out->cpr, out->cpr.devices[i].name, 0);
		json_t *vectors = json_array();
		char name[LU_NAME_SIZE];
		int ret;

		json_array_append_new(out->unmasked, vectors);
		member_name(name, "device", i);
		ret = fd ? irqs_unmasked(vm, out->bars, name, fd->fd, vectors) :
			   0;
		if (ret)
			return ret;
	}
	return 0;
}

/**
 * describe_bars() - where has the guest put the BARs of its devices?
 * @out: its machine is stopped, and has handed over its files
 * @vm: the machine
 *
 * Return: 0 or a negative errno; @out->bars and @out->unmasked have it
 */
int describe_bars(struct outgoing *out, struct vm *vm)
{
	json_t *buses, *bus;
	size_t i;
	int ret = qmp_call(&vm->qmp, "query-pci", NULL, &buses);

	if (ret)
		return ret;
	out->bars = json_array();
	json_array_foreach(buses, i, bus)
		find_bars(out, bus);
	json_decref(buses);
	return find_unmasked(out, vm);
}

/* --- in words --------------------------------------------------------------- */

/* Append something that was made, or not. */
static bool append(json_t *list, json_t *item)
{
	return item && !json_array_append_new(list, item);
}

/* What a file is in the set; -1 if it was not there when memory was preserved. */
static int file_member(const struct outgoing *out, size_t i,
		       char name[LU_NAME_SIZE])
{
	const struct cpr_fd *fd = &out->cpr.fds[i];
	const char *kind = file_kind(fd->fd);
	struct stat st;
	int index;

	name[0] = '\0';
	if (!strcmp(kind, "iommufd"))
		member_name(name, kind, i);
	for (size_t k = 0; k < out->cpr.nr_devices; k++)
		if (!strcmp(kind, "device") &&
		    !strcmp(out->cpr.devices[k].name, fd->name))
			member_name(name, kind, k);
	if (strcmp(kind, "memory"))
		return 0;
	index = fstat(fd->fd, &st) ? -1 :
				     memory_index(out, st.st_dev, st.st_ino);
	if (index >= 0)
		member_name(name, kind, index);
	return index < 0 ? -1 : 0;
}

static int describe_files(const struct outgoing *out, json_t *list)
{
	for (size_t i = 0; i < out->cpr.nr_fds; i++) {
		const struct cpr_fd *fd = &out->cpr.fds[i];
		char name[LU_NAME_SIZE];

		if (file_member(out, i, name))
			return failed(
				-ESTALE,
				"%s: memory that was not there when memory was preserved",
				fd->name);
		if (!append(list, json_pack("{s:s, s:i, s:s, s:s}", "name",
					    fd->name, "id", fd->id, "kind",
					    file_kind(fd->fd), "member", name)))
			return failed(-EBADMSG, "the name of a file of QEMU's");
	}
	return 0;
}

static int describe_devices(const struct outgoing *out, json_t *list)
{
	for (size_t i = 0; i < out->cpr.nr_devices; i++) {
		char device[LU_NAME_SIZE], ioas[LU_NAME_SIZE],
			hwpt[LU_NAME_SIZE];

		member_name(device, "device", i);
		member_name(ioas, "ioas", first_with(out, i, false));
		member_name(hwpt, "hwpt", first_with(out, i, true));
		if (!append(list, json_pack("{s:s, s:s, s:s, s:s, s:O}", "name",
					    out->cpr.devices[i].name, "member",
					    device, "ioas", ioas, "hwpt", hwpt,
					    "unmasked",
					    json_array_get(out->unmasked, i))))
			return failed(-EBADMSG, "the name of a device");
	}
	return 0;
}

/**
 * describe_json() - describe what crosses, for the next kernel's QEMU
 * @out: its machine is stopped, and has handed over its files
 * @vm: the machine
 *
 * Return: 0 or a negative errno; @out->json has it
 */
int describe_json(struct outgoing *out, const struct vm *vm)
{
	json_t *files = json_array(), *devices = json_array();
	int ret = describe_files(out, files);

	if (!ret)
		ret = describe_devices(out, devices);
	if (!ret)
		out->json = json_pack("{s:O, s:s, s:s, s:b, s:O, s:O, s:O}",
				      "argv", vm->argv, "cwd", vm->cwd,
				      "machine", vm->machine, "running",
				      out->stopped_it, "files", files,
				      "devices", devices, "times", out->times);
	json_decref(files);
	json_decref(devices);
	return ret ? ret : state_check(out->json);
}
