// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The manifest of a set: written, read, and checked.
 *
 * It is a header and as many records of one size, all little-endian, without
 * padding. docs/abi.md describes each field. It comes from another kernel's
 * process, maybe another version of this library, maybe nobody's friend: nothing
 * in it is believed. Each record is checked by itself and against those before
 * it, to which alone it may refer; the same check is made of each member that is
 * added to a set, so what is written can be read.
 *
 * Nothing here allocates memory or makes a system call.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "internal.h"
#include "manifest.h"

#define MAGIC "LU-SET\r\n"
#define VERSION 1
#define NO_INDEX 0xffffffff
#define BIT(n) (1U << (n))

struct wire_header {
	char magic[8];
	uint32_t version;
	uint32_t count;
	uint64_t size;
	uint64_t reserved;
};

struct wire_record {
	uint32_t kind;
	uint32_t flags;
	uint64_t token;
	uint64_t offset;
	uint64_t length;
	uint64_t iova;
	uint32_t parent;
	uint32_t source;
	uint32_t segment;
	uint16_t bdf;
	uint16_t bar;
	char name[LU_NAME_SIZE];
	uint64_t reserved;
};

_Static_assert(sizeof(struct wire_header) == 32, "as docs/abi.md says");
_Static_assert(sizeof(struct wire_record) == 128, "as docs/abi.md says");

/**
 * struct rule - what a kind of record has; all else is 0, or -1
 * @named: a name
 * @has_token: a token, always
 * @may_token: a token, or 0
 * @has_length: a length
 * @has_range: flags, offset, length and address
 * @has_bdf: a PCI address
  * @may_flags: flags that it can have, but for a mapping
 * @parents: kinds that it can belong to, as bits
 * @sources: kinds that it can be a mapping of, as bits
 * @orphan: it need not belong to any
 */
struct rule {
	bool named;
	bool has_token;
	bool may_token;
	bool has_length;
	bool has_range;
	bool has_bdf;
	bool orphan;
	uint32_t may_flags;
	unsigned int parents;
	unsigned int sources;
};

static const struct rule rules[] = {
	[LU_MEMORY] = { .named = true, .has_token = true, .has_length = true },
	[LU_IOMMUFD] = { .named = true, .may_token = true },
	[LU_IOAS] = { .named = true, .parents = BIT(LU_IOMMUFD) },
	[LU_HWPT] = { .named = true,
		      .has_token = true,
		      .may_flags = LU_HWPT_TRACKS_DIRTY,
		      .parents = BIT(LU_IOAS) },
	[LU_DEVICE] = { .named = true,
			.has_token = true,
			.has_bdf = true,
			.orphan = true,
			.parents = BIT(LU_IOAS) | BIT(LU_HWPT) },
	[LU_MAPPING] = { .has_length = true,
			 .has_range = true,
			 .parents = BIT(LU_IOAS),
			 .sources = BIT(LU_MEMORY) | BIT(LU_DEVICE) },
};

/* --- the rules -------------------------------------------------------------- */

/* Text that can be printed, and nothing behind its end. */
static int name_check(const char name[LU_NAME_SIZE], const struct rule *rule)
{
	size_t len = strnlen(name, LU_NAME_SIZE);

	if (len == LU_NAME_SIZE || rule->named != !!len)
		return -EINVAL;
	for (size_t i = 0; i < LU_NAME_SIZE; i++) {
		unsigned char c = name[i];

		if (i < len ? c < ' ' || c == 0x7f : c)
			return -EINVAL;
	}
	return 0;
}

/* Is a reference to an earlier record, of one of these kinds? */
static bool refers(const struct lu_record *recs, uint32_t index, int32_t ref,
		   unsigned int kinds)
{
	return ref >= 0 && (uint32_t)ref < index && BIT(recs[ref].kind) & kinds;
}

static int refs_check(const struct lu_record *recs, uint32_t index,
		      const struct rule *rule)
{
	const struct lu_record *rec = &recs[index];
	bool alone = rec->parent == -1 && (rule->orphan || !rule->parents);

	if (!alone && !refers(recs, index, rec->parent, rule->parents))
		return -EINVAL;
	if (!rule->sources)
		return rec->source == -1 ? 0 : -EINVAL;
	return refers(recs, index, rec->source, rule->sources) ? 0 : -EINVAL;
}

/* A page table crosses in its iommufd, which must have a token for that. */
static int token_check(const struct lu_record *recs, uint32_t index,
		       const struct rule *rule)
{
	const struct lu_record *rec = &recs[index];

	if (!rec->token)
		return rule->has_token ? -EINVAL : 0;
	if (!rule->has_token && !rule->may_token)
		return -EINVAL;
	if (rec->kind == LU_HWPT)
		return recs[recs[rec->parent].parent].token ? 0 : -EINVAL;
	return rec->token == LU_MANIFEST_TOKEN ? -EINVAL : 0;
}

/* Is the range in the memory, or can there be such a BAR? */
static bool source_fits(const struct lu_record *recs,
			const struct lu_record *rec)
{
	const struct lu_record *source = &recs[rec->source];

	if (source->kind == LU_MEMORY)
		return !rec->bar && rec->offset <= source->length &&
		       rec->length <= source->length - rec->offset;
	/* A BAR goes along with its device only while that goes on running. */
	return rec->bar < PCI_BARS && source->parent >= 0 &&
	       recs[source->parent].kind == LU_HWPT;
}

static int range_check(const struct lu_record *recs,
		       const struct lu_record *rec, const struct rule *rule)
{
	if (rule->has_length != !!rec->length)
		return -EINVAL;
	if (!rule->has_range) {
		if (rec->offset || rec->iova || rec->bar ||
		    rec->flags & ~rule->may_flags)
			return -EINVAL;
		return 0;
	}
	if (!rec->flags || rec->flags & ~(LU_MAP_READ | LU_MAP_WRITE) ||
	    rec->length - 1 > UINT64_MAX - rec->iova ||
	    rec->length > UINT64_MAX - rec->offset)
		return -EINVAL;
	return source_fits(recs, rec) ? 0 : -EINVAL;
}

/* Names are unique; so are tokens in the session, and in each iommufd. */
static int unique_check(const struct lu_record *recs, uint32_t index)
{
	const struct lu_record *rec = &recs[index];

	if (rec->kind == LU_MAPPING)
		return 0;
	for (const struct lu_record *other = recs; other < rec; other++) {
		if (!strcmp(other->name, rec->name))
			return -EEXIST;
		if (!rec->token || other->token != rec->token ||
		    (other->kind == LU_HWPT) != (rec->kind == LU_HWPT))
			continue;
		if (rec->kind != LU_HWPT ||
		    recs[other->parent].parent == recs[rec->parent].parent)
			return -EEXIST;
	}
	return 0;
}

/**
 * lu_record_check() - check a record by itself and against those before it
 * @recs: records; those before @index are good
 * @index: which one to check
 *
 * Return: 0, -EINVAL, or -EEXIST: its name or token is another one's
 */
int lu_record_check(const struct lu_record *recs, uint32_t index)
{
	const struct lu_record *rec = &recs[index];
	const struct rule *rule;
	int ret;

	if (rec->kind < LU_MEMORY || rec->kind >= ARRAY_SIZE(rules))
		return -EINVAL;
	rule = &rules[rec->kind];
	ret = name_check(rec->name, rule);
	if (!ret && !rule->has_bdf && (rec->segment || rec->bdf))
		ret = -EINVAL;
	if (!ret)
		ret = refs_check(recs, index, rule);
	if (!ret)
		ret = token_check(recs, index, rule);
	if (!ret)
		ret = range_check(recs, rec, rule);
	return ret ? ret : unique_check(recs, index);
}

/* --- the format ------------------------------------------------------------- */

/** lu_manifest_size() - bytes of a manifest with that many records. */
size_t lu_manifest_size(uint32_t count)
{
	return sizeof(struct wire_header) + count * sizeof(struct wire_record);
}

/**
 * lu_manifest_write() - write a manifest
 * @buf: lu_manifest_size() bytes
 * @recs: records
 * @count: how many
 */
void lu_manifest_write(void *buf, const struct lu_record *recs, uint32_t count)
{
	struct wire_header head = {
		.magic = MAGIC,
		.version = htole32(VERSION),
		.count = htole32(count),
		.size = htole64(lu_manifest_size(count)),
	};
	char *to = (char *)buf + sizeof(head);

	memcpy(buf, &head, sizeof(head));
	for (const struct lu_record *rec = recs; rec < recs + count; rec++) {
		struct wire_record wire = {
			.kind = htole32(rec->kind),
			.flags = htole32(rec->flags),
			.token = htole64(rec->token),
			.offset = htole64(rec->offset),
			.length = htole64(rec->length),
			.iova = htole64(rec->iova),
			.parent = htole32((uint32_t)rec->parent),
			.source = htole32((uint32_t)rec->source),
			.segment = htole32(rec->segment),
			.bdf = htole16(rec->bdf),
			.bar = htole16(rec->bar),
		};

		memcpy(wire.name, rec->name, sizeof(wire.name));
		memcpy(to, &wire, sizeof(wire));
		to += sizeof(wire);
	}
}

/**
 * lu_manifest_count() - how many records does a manifest have?
 * @buf: the manifest, untrusted
 * @size: its bytes
 *
 * Return: 0 to LU_SET_MAX; -EPROTONOSUPPORT: it is of another version; -EBADMSG
 */
int lu_manifest_count(const void *buf, size_t size)
{
	struct wire_header head;
	uint32_t count;

	if (size < sizeof(head))
		return -EBADMSG;
	memcpy(&head, buf, sizeof(head));
	if (memcmp(head.magic, MAGIC, sizeof(head.magic)))
		return -EBADMSG;
	if (head.version != htole32(VERSION))
		return -EPROTONOSUPPORT;
	count = le32toh(head.count);
	if (head.reserved || count > LU_SET_MAX ||
	    size != lu_manifest_size(count) || le64toh(head.size) != size)
		return -EBADMSG;
	return count;
}

/* Indexes are below LU_SET_MAX, or NO_INDEX, which becomes -1. */
static int index_read(uint32_t wire, int32_t *index)
{
	wire = le32toh(wire);
	*index = wire == NO_INDEX ? -1 : (int32_t)wire;
	return wire == NO_INDEX || wire < LU_SET_MAX ? 0 : -EBADMSG;
}

/**
 * lu_manifest_parse() - read a manifest
 * @buf: the manifest, untrusted
 * @size: its bytes
 * @recs: where to put the records, of which there are lu_manifest_count()
 *
 * Return: 0, or what lu_manifest_count() returns
 */
int lu_manifest_parse(const void *buf, size_t size, struct lu_record *recs)
{
	const char *from = (const char *)buf + sizeof(struct wire_header);
	int count = lu_manifest_count(buf, size);

	for (int i = 0; i < count; i++) {
		struct lu_record *rec = &recs[i];
		struct wire_record wire;

		memcpy(&wire, from + i * sizeof(wire), sizeof(wire));
		*rec = (struct lu_record){
			.kind = le32toh(wire.kind),
			.flags = le32toh(wire.flags),
			.token = le64toh(wire.token),
			.offset = le64toh(wire.offset),
			.length = le64toh(wire.length),
			.iova = le64toh(wire.iova),
			.segment = le32toh(wire.segment),
			.bdf = le16toh(wire.bdf),
			.bar = le16toh(wire.bar),
		};
		memcpy(rec->name, wire.name, sizeof(rec->name));
		if (wire.reserved || index_read(wire.parent, &rec->parent) ||
		    index_read(wire.source, &rec->source) ||
		    lu_record_check(recs, i))
			return -EBADMSG;
	}
	return count < 0 ? count : 0;
}
