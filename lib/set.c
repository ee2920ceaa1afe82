// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Sets: their members, and how to find them.
 *
 * A member is a record, which crosses, and an item, which is what it is in this
 * process. Members refer to each other by their places, and only to earlier ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "set.h"

int lu_set_new(struct lu_set **set)
{
	*set = calloc(1, sizeof(**set));
	if (!*set)
		return -ENOMEM;
	(*set)->session = -1;
	(*set)->failed = -1;
	return 0;
}

/* Close the session, if there is one. */
void lu_set_close_session(struct lu_set *set)
{
	if (set->session >= 0)
		close(set->session);
	set->session = -1;
}

void lu_set_free(struct lu_set *set)
{
	if (!set)
		return;
	if (set->stage == LU_PRESERVED)
		lu_set_unpreserve(set);
	lu_set_close_session(set);
	for (uint32_t i = 0; i < set->count; i++) {
		if (set->items[i].owned)
			close(set->items[i].fd);
		free(set->items[i].eventfds);
	}
	free(set->recs);
	free(set->items);
	free(set);
}

/* Begin a call that a set has to be in a stage for, or fail with an error. */
int lu_set_begin(struct lu_set *set, enum lu_stage stage, int error)
{
	set->failed = -1;
	for (uint32_t i = 0; i < set->count; i++)
		set->items[i].error = 0;
	return set->stage == stage ? 0 : error;
}

/* Note which member a call fails for; the first one counts. */
int lu_set_fail(struct lu_set *set, uint32_t index, int error)
{
	set->items[index].error = error;
	if (set->failed < 0)
		set->failed = index;
	return error;
}

/* Take a step for all members of a kind, until it fails. */
int lu_set_for_kind(struct lu_set *set, uint32_t kind, lu_step *step)
{
	for (uint32_t i = 0; i < set->count; i++) {
		int ret = set->recs[i].kind == kind ? step(set, i) : 0;

		if (ret)
			return lu_set_fail(set, i, ret);
	}
	return 0;
}

/* Make room for that many members. */
int lu_set_reserve(struct lu_set *set, uint32_t count)
{
	uint32_t room = set->room ? set->room : 16;
	struct lu_record *recs;
	struct lu_item *items;

	while (room < count)
		room *= 2;
	if (room == set->room)
		return 0;
	recs = realloc(set->recs, room * sizeof(*recs));
	if (!recs)
		return -ENOMEM;
	set->recs = recs;
	items = realloc(set->items, room * sizeof(*items));
	if (!items)
		return -ENOMEM;
	set->items = items;
	set->room = room;
	return 0;
}

/* --- adding ----------------------------------------------------------------- */

/* Index of the member of this name, or -ENOENT. */
static int index_of(const struct lu_set *set, const char *name)
{
	for (uint32_t i = 0; i < set->count; i++)
		if (set->recs[i].kind != LU_MAPPING &&
		    !strcmp(set->recs[i].name, name))
			return i;
	return -ENOENT;
}

/*
 * Begin to add a member: a record with its name, and with a token that no other
 * has if the kind has one.
 */
static int add_begin(struct lu_set *set, struct lu_record *rec, uint32_t kind,
		     const char *name)
{
	int ret = lu_set_begin(set, LU_LOCAL, -EBUSY);

	if (ret)
		return ret;
	if (set->count == LU_SET_MAX)
		return -ENOSPC;
	if (strlen(name) >= LU_NAME_SIZE)
		return -EINVAL;
	*rec = (struct lu_record){ .kind = kind, .parent = -1, .source = -1 };
	strcpy(rec->name, name);
	if (kind == LU_MEMORY || kind == LU_HWPT || kind == LU_DEVICE)
		rec->token = set->count + 1;
	return lu_set_reserve(set, set->count + 1);
}

/* End it: the record is good, or is not added. */
static int add_end(struct lu_set *set, const struct lu_record *rec, int fd,
		   uint32_t id)
{
	int ret;

	set->recs[set->count] = *rec;
	set->items[set->count] = (struct lu_item){ .fd = fd, .id = id };
	ret = lu_record_check(set->recs, set->count);
	if (!ret)
		set->count++;
	return ret;
}

int lu_set_add_memory(struct lu_set *set, const char *name, int fd)
{
	struct lu_record rec;
	struct stat st;
	int ret = add_begin(set, &rec, LU_MEMORY, name);

	if (ret)
		return ret;
	if (fstat(fd, &st))
		return -errno;
	rec.length = st.st_size;
	return add_end(set, &rec, fd, 0);
}

int lu_set_add_iommufd(struct lu_set *set, const char *name, int fd)
{
	struct lu_record rec;
	int ret = add_begin(set, &rec, LU_IOMMUFD, name);

	if (ret)
		return ret;
	if (fcntl(fd, F_GETFD) < 0)
		return -errno;
	return add_end(set, &rec, fd, 0);
}

int lu_set_add_ioas(struct lu_set *set, const char *name, const char *iommufd,
		    uint32_t ioas_id)
{
	struct lu_record rec;
	int ret = add_begin(set, &rec, LU_IOAS, name);

	if (ret)
		return ret;
	rec.parent = index_of(set, iommufd);
	if (rec.parent < 0)
		return rec.parent;
	return ioas_id ? add_end(set, &rec, -1, ioas_id) : -EINVAL;
}

/* An iommufd crosses for the sake of its page tables. */
int lu_set_add_hwpt(struct lu_set *set, const char *name, const char *ioas,
		    uint32_t hwpt_id)
{
	struct lu_record rec, *iommufd;
	uint64_t token;
	int ret = add_begin(set, &rec, LU_HWPT, name);

	if (ret)
		return ret;
	rec.parent = index_of(set, ioas);
	if (rec.parent < 0)
		return rec.parent;
	if (!hwpt_id || set->recs[rec.parent].kind != LU_IOAS)
		return -EINVAL;
	iommufd = &set->recs[set->recs[rec.parent].parent];
	token = iommufd->token;
	iommufd->token = iommufd - set->recs + 1;
	ret = add_end(set, &rec, -1, hwpt_id);
	if (ret)
		iommufd->token = token;
	return ret;
}

int lu_set_hwpt_tracks_dirty(struct lu_set *set, const char *name)
{
	int index = index_of(set, name);

	if (set->stage != LU_LOCAL)
		return -EBUSY;
	if (index < 0)
		return index;
	if (set->recs[index].kind != LU_HWPT)
		return -EINVAL;
	set->recs[index].flags |= LU_HWPT_TRACKS_DIRTY;
	return 0;
}

int lu_set_add_device(struct lu_set *set, const char *name, int fd,
		      const char *pt)
{
	struct lu_record rec;
	int ret = add_begin(set, &rec, LU_DEVICE, name);

	if (!ret)
		ret = lu_device_address(fd, &rec.segment, &rec.bdf);
	if (ret)
		return ret;
	if (pt) {
		rec.parent = index_of(set, pt);
		if (rec.parent < 0)
			return rec.parent;
	}
	return add_end(set, &rec, fd, 0);
}

/* A mapping of a member, which is to be of this kind. */
static int add_mapping(struct lu_set *set, const char *ioas, const char *source,
		       uint32_t kind, struct lu_record values)
{
	struct lu_record rec;
	int ret = add_begin(set, &rec, LU_MAPPING, "");

	if (ret)
		return ret;
	values.kind = LU_MAPPING;
	values.parent = index_of(set, ioas);
	values.source = index_of(set, source);
	if (values.parent < 0 || values.source < 0)
		return -ENOENT;
	if (set->recs[values.source].kind != kind)
		return -EINVAL;
	return add_end(set, &values, -1, 0);
}

int lu_set_add_mapping(struct lu_set *set, const char *ioas, const char *memory,
		       uint64_t offset, uint64_t length, uint64_t iova,
		       uint32_t flags)
{
	return add_mapping(set, ioas, memory, LU_MEMORY,
			   (struct lu_record){ .offset = offset,
					       .length = length,
					       .iova = iova,
					       .flags = flags });
}

int lu_set_add_bar(struct lu_set *set, const char *ioas, const char *device,
		   uint32_t bar, uint64_t offset, uint64_t length,
		   uint64_t iova, uint32_t flags)
{
	if (bar >= PCI_BARS)
		return -EINVAL;
	return add_mapping(set, ioas, device, LU_DEVICE,
			   (struct lu_record){ .bar = bar,
					       .offset = offset,
					       .length = length,
					       .iova = iova,
					       .flags = flags });
}

/* --- looking ---------------------------------------------------------------- */

int lu_set_member(const struct lu_set *set, uint32_t index,
		  struct lu_member *member)
{
	const struct lu_record *rec;
	const struct lu_item *item;

	if (index >= set->count)
		return -ENOENT;
	rec = &set->recs[index];
	item = &set->items[index];
	*member = (struct lu_member){
		.kind = rec->kind,
		.index = index,
		.fd = item->fd,
		.id = item->id,
		.error = item->error,
		.parent = rec->parent,
		.source = rec->source,
		.bar = rec->bar,
		.flags = rec->flags,
		.token = rec->token,
		.offset = rec->offset,
		.length = rec->length,
		.iova = rec->iova,
	};
	strcpy(member->name, rec->name);
	if (rec->kind == LU_DEVICE) {
		member->mode = lu_set_mode(set, rec);
		lu_bdf_write(member->bdf, rec->segment, rec->bdf);
	}
	return 0;
}

int lu_set_find(const struct lu_set *set, const char *name,
		struct lu_member *member)
{
	int index = index_of(set, name);

	return index < 0 ? index : lu_set_member(set, index, member);
}

int lu_set_failed(const struct lu_set *set, struct lu_member *member)
{
	return set->failed < 0 ? -ENOENT :
				 lu_set_member(set, set->failed, member);
}

int lu_set_take_fd(struct lu_set *set, const char *name)
{
	int index = index_of(set, name);

	if (index < 0)
		return index;
	if (set->items[index].fd < 0)
		return -EBADF;
	set->items[index].owned = false;
	return set->items[index].fd;
}

int lu_set_session(const struct lu_set *set)
{
	return set->session < 0 ? -ENOENT : set->session;
}
