// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Preserving a set: all of it, or nothing.
 *
 * The kernel looks for memory when an iommufd is preserved, and for the iommufd's
 * page tables when a device is: so memory comes first, devices last. It has no
 * call that takes one file out of a session: closing the session is the way back.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "set.h"

#define PHYSFN "/sys/bus/pci/devices/%s/physfn"

/* A page table without a device is gone in the next kernel. */
static bool has_device(const struct lu_set *set, uint32_t hwpt)
{
	for (uint32_t i = 0; i < set->count; i++)
		if (set->recs[i].kind == LU_DEVICE &&
		    set->recs[i].parent == (int32_t)hwpt)
			return true;
	return false;
}

/* Is a member as the set says? Memory may have another size by now. */
static int check_member(struct lu_set *set, uint32_t i)
{
	struct lu_record *rec = &set->recs[i];
	struct stat st;

	if (rec->kind == LU_MEMORY) {
		if (fstat(set->items[i].fd, &st))
			return -errno;
		rec->length = st.st_size;
	}
	if (rec->kind == LU_HWPT && !has_device(set, i))
		return -EINVAL;
	return lu_record_check(set->recs, i);
}

static int check_members(struct lu_set *set)
{
	for (uint32_t i = 0; i < set->count; i++) {
		int ret = check_member(set, i);

		if (ret)
			return lu_set_fail(set, i, ret);
	}
	return set->count ? 0 : -EINVAL;
}

/* The iommufd that an HWPT is in. */
static int hwpt_iommufd(const struct lu_set *set, uint32_t i)
{
	const struct lu_record *ioas = &set->recs[set->recs[i].parent];

	return set->items[ioas->parent].fd;
}

static int mark_hwpt(struct lu_set *set, uint32_t i)
{
	struct lu_item *item = &set->items[i];
	int ret;

	/* By a try that could not take the mark away */
	if (item->marked)
		return 0;
	ret = lu_hwpt_mark(hwpt_iommufd(set, i), item->id, set->recs[i].token);
	item->marked = !ret;
	return ret;
}

/* -EBUSY while somebody else has the session; a page table may be gone. */
static int unmark_hwpts(struct lu_set *set)
{
	for (uint32_t i = 0; i < set->count; i++) {
		struct lu_item *item = &set->items[i];

		if (!item->marked)
			continue;
		if (lu_hwpt_unmark(hwpt_iommufd(set, i), item->id,
				   set->recs[i].token) == -EBUSY)
			return -EBUSY;
		item->marked = false;
	}
	return 0;
}

/* Write all of a buffer to a new memfd; returns it. */
static int memfd_of(const void *buf, size_t size)
{
	int fd = memfd_create("liveupdate-manifest", MFD_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, buf, size);
	if (n == (ssize_t)size)
		return fd;
	n = n < 0 ? -errno : -EIO;
	close(fd);
	return n;
}

/* The session keeps the manifest's file. */
static int preserve_manifest(struct lu_set *set)
{
	size_t size = lu_manifest_size(set->count);
	void *buf = malloc(size);
	int fd, ret;

	if (!buf)
		return -ENOMEM;
	lu_manifest_write(buf, set->recs, set->count);
	fd = memfd_of(buf, size);
	free(buf);
	if (fd < 0)
		return fd;
	ret = lu_session_preserve(set->session, fd, LU_MANIFEST_TOKEN);
	close(fd);
	return ret;
}

/* Is a device that was just preserved in the mode that it was added for? */
static int check_mode(const struct lu_set *set, uint32_t i)
{
	struct lu_device_state state;
	int ret = lu_device_query(set->items[i].fd, &state);

	if (ret)
		return ret;
	return state.mode == lu_set_mode(set, &set->recs[i]) ? 0 : -EPROTOTYPE;
}

/* Preserve a member's file; an iommufd without a token stays here. */
static int preserve_file(struct lu_set *set, uint32_t i)
{
	const struct lu_record *rec = &set->recs[i];
	struct lu_item *item = &set->items[i];
	int ret;

	if (!rec->token || item->preserved)
		return 0;
	ret = lu_session_preserve(set->session, item->fd, rec->token);
	if (!ret && rec->kind == LU_DEVICE)
		ret = check_mode(set, i);
	item->preserved = !ret;
	return ret;
}

/* A virtual function (SR-IOV) is preserved after its physical one. */
static bool is_virtual(int device)
{
	char bdf[LU_BDF_SIZE], path[sizeof(PHYSFN) + LU_BDF_SIZE];

	if (lu_device_bdf(device, bdf))
		return false;
	snprintf(path, sizeof(path), PHYSFN, bdf);
	return !access(path, F_OK);
}

static int preserve_physical(struct lu_set *set, uint32_t i)
{
	return is_virtual(set->items[i].fd) ? 0 : preserve_file(set, i);
}

/* Nothing is preserved any more, unless somebody else has the session. */
static void close_session(struct lu_set *set)
{
	lu_set_close_session(set);
	for (uint32_t i = 0; i < set->count; i++)
		set->items[i].preserved = false;
}

static int make_session(struct lu_set *set, int luo, const char *session)
{
	int ret = check_members(set);

	if (!ret)
		ret = lu_session_create(luo, session);
	if (ret < 0)
		return ret;
	set->session = ret;
	return 0;
}

int lu_set_preserve_memory(struct lu_set *set, int luo, const char *session)
{
	int ret = lu_set_begin(set, LU_LOCAL, -EBUSY);

	if (!ret && set->session < 0)
		ret = make_session(set, luo, session);
	if (ret)
		return ret;
	ret = lu_set_for_kind(set, LU_MEMORY, preserve_file);
	if (ret)
		close_session(set);
	return ret;
}

/* All that is missing in the session, in the order that the kernel needs. */
static int preserve_rest(struct lu_set *set)
{
	int ret = lu_set_for_kind(set, LU_HWPT, mark_hwpt);

	if (!ret)
		ret = preserve_manifest(set);
	if (!ret)
		ret = lu_set_for_kind(set, LU_MEMORY, preserve_file);
	if (!ret)
		ret = lu_set_for_kind(set, LU_IOMMUFD, preserve_file);
	if (!ret)
		ret = lu_set_for_kind(set, LU_DEVICE, preserve_physical);
	return ret ? ret : lu_set_for_kind(set, LU_DEVICE, preserve_file);
}

int lu_set_preserve(struct lu_set *set, int luo, const char *session)
{
	int ret = lu_set_begin(set, LU_LOCAL, -EBUSY);

	if (ret)
		return ret;
	ret = set->session < 0 ? make_session(set, luo, session) :
				 check_members(set);
	if (!ret)
		ret = preserve_rest(set);
	if (!ret) {
		set->stage = LU_PRESERVED;
		return set->session;
	}
	close_session(set);
	unmark_hwpts(set);
	return ret;
}

int lu_set_unpreserve(struct lu_set *set)
{
	int ret = lu_set_begin(set, LU_PRESERVED, -EINVAL);

	/* Or not yet all of it */
	if (ret && set->session >= 0 && set->stage == LU_LOCAL)
		ret = 0;
	if (ret)
		return ret;
	close_session(set);
	ret = unmark_hwpts(set);
	if (!ret)
		set->stage = LU_LOCAL;
	return ret;
}
