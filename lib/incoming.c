// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Taking a set over: read its manifest, get its members, hand the devices over to
 * page tables of this kernel, and let the session go.
 *
 * Each step can be repeated: what is done is noted at each member. What another
 * process did before it died is seen by what the kernel says: files are the same
 * ones again, and a device that was bound stays so. The IOAS and page tables that
 * it made stay in the iommufd, used or not, until that is closed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "set.h"

/* --- the manifest ----------------------------------------------------------- */

/* Read a file of a manifest's size into memory, which the caller frees. */
static int read_file(int fd, void **buf, size_t *size)
{
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) ||
	    st.st_size > (off_t)lu_manifest_size(LU_SET_MAX))
		return -EBADMSG;
	*size = st.st_size;
	*buf = malloc(*size + 1);
	if (!*buf)
		return -ENOMEM;
	n = pread(fd, *buf, *size, 0);
	if (n == (ssize_t)*size)
		return 0;
	n = n < 0 ? -errno : -EBADMSG;
	free(*buf);
	return n;
}

static int read_records(struct lu_set *set, const void *buf, size_t size)
{
	int count = lu_manifest_count(buf, size);
	int ret = count < 0 ? count : lu_set_reserve(set, count);

	if (!ret)
		ret = lu_manifest_parse(buf, size, set->recs);
	if (ret)
		return ret;
	for (set->count = 0; set->count < (uint32_t)count; set->count++)
		set->items[set->count] = (struct lu_item){ .fd = -1 };
	return 0;
}

static int read_manifest(struct lu_set *set, int session)
{
	int fd = lu_session_retrieve_fd(session, LU_MANIFEST_TOKEN);
	void *buf = NULL;
	size_t size = 0;
	int ret;

	if (fd < 0)
		return fd;
	ret = read_file(fd, &buf, &size);
	close(fd);
	if (ret)
		return ret;
	ret = read_records(set, buf, size);
	free(buf);
	return ret;
}

int lu_set_open(struct lu_set **set, int session)
{
	int ret = lu_set_new(set);

	if (ret)
		return ret;
	ret = read_manifest(*set, session);
	if (ret) {
		lu_set_free(*set);
		*set = NULL;
		return ret;
	}
	(*set)->stage = LU_INCOMING;
	(*set)->session = session;
	return 0;
}

/* --- retrieve --------------------------------------------------------------- */

/* Is the file what the manifest says? */
static int check_file(const struct lu_record *rec, int fd)
{
	uint32_t segment;
	uint16_t number;
	struct stat st;
	int ret;

	if (rec->kind == LU_MEMORY) {
		if (fstat(fd, &st))
			return -errno;
		return S_ISREG(st.st_mode) &&
				       (uint64_t)st.st_size == rec->length ?
			       0 :
			       -ESTALE;
	}
	if (rec->kind != LU_DEVICE)
		return 0;
	ret = lu_device_address(fd, &segment, &number);
	if (!ret && (segment != rec->segment || number != rec->bdf))
		ret = -ESTALE;
	return ret;
}

/* Get the file of a member that crossed. */
static int get_file(struct lu_set *set, uint32_t i)
{
	const struct lu_record *rec = &set->recs[i];
	struct lu_item *item = &set->items[i];
	int fd, ret;

	if (item->fd >= 0 || !rec->token || rec->kind == LU_HWPT)
		return 0;
	fd = lu_session_retrieve_fd(set->session, rec->token);
	if (fd < 0)
		return fd;
	ret = check_file(rec, fd);
	if (ret) {
		close(fd);
		return ret;
	}
	item->fd = fd;
	item->owned = true;
	return 0;
}

/* Make an iommufd that did not cross anew. */
static int open_iommufd(struct lu_set *set, uint32_t i)
{
	struct lu_item *item = &set->items[i];
	int fd;

	if (set->recs[i].kind != LU_IOMMUFD || item->fd >= 0)
		return 0;
	fd = lu_iommufd_open();
	if (fd < 0)
		return fd;
	item->fd = fd;
	item->owned = true;
	return 0;
}

/* The IOAS that a device belongs to, directly or through its page table. */
static uint32_t device_ioas(const struct lu_set *set,
			    const struct lu_record *rec)
{
	const struct lu_record *pt = &set->recs[rec->parent];

	return pt->kind == LU_HWPT ? pt->parent : rec->parent;
}

/*
 * A device that a process bound before it died is bound for good: to the same
 * iommufd if that crossed, too, and otherwise to one that only the dead had.
 */
static int bound_before(struct lu_item *device, const struct lu_record *iommufd)
{
	int ret;

	if (!iommufd->token)
		return -EADDRINUSE;
	ret = lu_device_id(device->fd, &device->id);
	/* The number is not to be had: attach_device() does without */
	return ret == -ENODEV ? 0 : ret;
}

static int bind_device(struct lu_set *set, uint32_t i)
{
	const struct lu_record *rec = &set->recs[i];
	struct lu_item *item = &set->items[i];
	uint32_t iommufd;
	int ret;

	if (rec->kind != LU_DEVICE || item->fd < 0 || item->bound ||
	    rec->parent < 0)
		return 0;
	iommufd = set->recs[device_ioas(set, rec)].parent;
	if (set->items[iommufd].fd < 0)
		return -ENOENT;
	ret = lu_device_bind(item->fd, set->items[iommufd].fd, &item->id);
	if (ret == -EINVAL) {
		ret = bound_before(item, &set->recs[iommufd]);
		item->rebound = !ret;
	}
	item->bound = !ret;
	return ret;
}

/* As soon as it is bound: somebody waits for what its device has done. */
static int arm_device(struct lu_set *set, uint32_t i)
{
	struct lu_item *item = &set->items[i];
	int ret;

	if (!item->eventfds || !item->bound)
		return 0;
	/* A process that died, or a call before this one, may have armed others */
	if (item->rebound || item->armed)
		lu_irqs_off(item->fd);
	ret = lu_device_irqs_restore(item->fd, item->irq_index, item->eventfds,
				     item->irqs);
	if (ret)
		return ret;
	item->armed = true;
	free(item->eventfds);
	item->eventfds = NULL;
	return 0;
}

/* Take a step for all members but those that failed; returns the first error. */
static int for_all(struct lu_set *set, lu_step *step)
{
	int first = 0;

	for (uint32_t i = 0; i < set->count; i++) {
		int ret = set->items[i].error ? 0 : step(set, i);

		if (ret)
			lu_set_fail(set, i, ret);
		if (!first)
			first = ret;
	}
	return first;
}

/*
 * The files that crossed come first: the kernel loads what /dev/iommu needs, too,
 * when it makes a device's.
 */
int lu_set_retrieve(struct lu_set *set)
{
	int ret = lu_set_begin(set, LU_INCOMING, -EINVAL);
	lu_step *const steps[] = { get_file, open_iommufd, bind_device,
				   arm_device };

	if (ret)
		return ret;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		int step = for_all(set, steps[i]);

		if (!ret)
			ret = step;
	}
	return ret;
}

int lu_set_add_irqs(struct lu_set *set, const char *device, uint32_t index,
		    const int32_t *eventfds, uint32_t count)
{
	struct lu_member member;
	struct lu_item *item;
	int32_t *copy;

	if (set->stage != LU_INCOMING || !count || count > LU_IRQS_MAX ||
	    index > LU_IRQ_MSIX || (index == LU_IRQ_INTX && count > 1))
		return -EINVAL;
	if (lu_set_find(set, device, &member))
		return -ENOENT;
	if (member.kind != LU_DEVICE || member.parent < 0)
		return -EINVAL;
	copy = malloc(count * sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	memcpy(copy, eventfds, count * sizeof(*copy));
	item = &set->items[member.index];
	free(item->eventfds);
	item->eventfds = copy;
	item->irqs = count;
	item->irq_index = index;
	return 0;
}

/* --- handover --------------------------------------------------------------- */

/* The file of the iommufd that an IOAS is in. */
static int ioas_iommufd(const struct lu_set *set, uint32_t ioas)
{
	return set->items[set->recs[ioas].parent].fd;
}

static int make_ioas(struct lu_set *set, uint32_t i)
{
	int iommufd = ioas_iommufd(set, i);

	if (set->items[i].id)
		return 0;
	return iommufd < 0 ? -ENOENT :
			     lu_ioas_alloc(iommufd, &set->items[i].id);
}

/* Map a part of a memory, or of a BAR, which is a file only for that. */
static int map_again(struct lu_set *set, uint32_t i)
{
	const struct lu_record *rec = &set->recs[i];
	const struct lu_item *source = &set->items[rec->source];
	bool bar = set->recs[rec->source].kind == LU_DEVICE;
	uint64_t offset = bar ? 0 : rec->offset;
	int fd = source->fd, ret;

	/* A device that is gone took its BARs along */
	if (set->items[i].done || (bar && fd < 0))
		return 0;
	if (fd < 0)
		return -ENOENT;
	if (bar)
		fd = lu_device_export_bar(fd, rec->bar, rec->offset,
					  rec->length);
	if (fd < 0)
		return fd;
	ret = lu_ioas_map_file(ioas_iommufd(set, rec->parent),
			       set->items[rec->parent].id, fd, offset,
			       rec->length, rec->iova, rec->flags);
	if (bar)
		close(fd);
	set->items[i].done = !ret;
	return ret;
}

/*
 * Attach a device to its IOAS, or to its page table, which is made with the first
 * device that has it. Without the device's number the kernel makes one by itself.
 */
static int attach_device(struct lu_set *set, uint32_t i)
{
	const struct lu_record *rec = &set->recs[i];
	struct lu_item *item = &set->items[i], *pt;
	uint32_t ioas;
	int ret = 0;

	if (item->done || !item->bound)
		return 0;
	pt = &set->items[rec->parent];
	ioas = device_ioas(set, rec);
	if (set->recs[rec->parent].kind == LU_HWPT && !pt->id && item->id)
		ret = lu_hwpt_make(
			ioas_iommufd(set, ioas), item->id, set->items[ioas].id,
			set->recs[rec->parent].flags & LU_HWPT_TRACKS_DIRTY,
			&pt->id);
	if (ret)
		return ret;
	if (pt->id)
		ret = lu_device_attach(item->fd, pt->id, NULL);
	else
		ret = lu_device_attach(item->fd, set->items[ioas].id, &pt->id);
	item->done = !ret;
	return ret;
}

int lu_set_handover(struct lu_set *set)
{
	int ret = lu_set_begin(set, LU_INCOMING, -EINVAL);

	if (!ret)
		ret = lu_set_for_kind(set, LU_IOAS, make_ioas);
	/* All is mapped before the first device is attached */
	if (!ret)
		ret = lu_set_for_kind(set, LU_MAPPING, map_again);
	return ret ? ret : lu_set_for_kind(set, LU_DEVICE, attach_device);
}

/* --- finish ----------------------------------------------------------------- */

int lu_set_finish(struct lu_set *set)
{
	int ret = lu_set_begin(set, LU_INCOMING, -EINVAL);

	if (!ret)
		ret = lu_session_finish(set->session);
	if (ret)
		return ret;
	lu_set_close_session(set);
	set->stage = LU_LOCAL;
	/* The tokens that add_begin() gives, whoever gave these */
	for (uint32_t i = 0; i < set->count; i++)
		if (set->recs[i].token)
			set->recs[i].token = i + 1;
	return 0;
}

int lu_set_take_over(struct lu_set *set)
{
	int ret = lu_set_retrieve(set);

	if (!ret)
		ret = lu_set_handover(set);
	return ret ? ret : lu_set_finish(set);
}
