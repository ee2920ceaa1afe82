// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Manifests that are not as they should be: none is taken for a good one.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "../manifest.h"
#include "fake.h"

#define HEADER 32
#define RECORD 128
#define COUNT 8

/* Places of fields, as docs/abi.md has them */
enum { VERSION = 8, RECORDS = 12, SIZE = 16, RESERVED = 24 };
enum {
	KIND = 0,
	FLAGS = 4,
	TOKEN = 8,
	OFFSET = 16,
	LENGTH = 24,
	IOVA = 32,
	PARENT = 40,
	SOURCE = 44,
	SEGMENT = 48,
	BDF = 52,
	BAR = 54,
	NAME = 56,
	LAST = 120,
};

enum { RAM, IOMMUFD, IOAS, PT, DEVICE, MAPPING, BAR_MAPPING, IDLE };

static const struct lu_record good[COUNT] = {
	[RAM] = { .kind = LU_MEMORY,
		  .token = 1,
		  .length = 0x4000,
		  .parent = -1,
		  .source = -1,
		  .name = "ram" },
	[IOMMUFD] = { .kind = LU_IOMMUFD,
		      .token = 2,
		      .parent = -1,
		      .source = -1,
		      .name = "iommufd" },
	[IOAS] = { .kind = LU_IOAS,
		   .parent = IOMMUFD,
		   .source = -1,
		   .name = "ioas" },
	[PT] = { .kind = LU_HWPT,
		 .token = 4,
		 .parent = IOAS,
		 .source = -1,
		 .name = "pt" },
	[DEVICE] = { .kind = LU_DEVICE,
		     .token = 5,
		     .parent = PT,
		     .source = -1,
		     .segment = 0x10000,
		     .bdf = 0x0100,
		     .name = "d\303\251vice" },
	[MAPPING] = { .kind = LU_MAPPING,
		      .flags = LU_MAP_READ,
		      .offset = 0x1000,
		      .length = 0x3000,
		      .iova = 0x100000000,
		      .parent = IOAS,
		      .source = RAM },
	[BAR_MAPPING] = { .kind = LU_MAPPING,
			  .flags = LU_MAP_READ | LU_MAP_WRITE,
			  .offset = 0x1000,
			  .length = 0x1000,
			  .iova = 0,
			  .parent = IOAS,
			  .source = DEVICE,
			  .bar = 5 },
	[IDLE] = { .kind = LU_DEVICE,
		   .token = 8,
		   .parent = -1,
		   .source = -1,
		   .name = "idle" },
};

/* What to write where, and that it is not taken. */
static const struct {
	int record;
	size_t field;
	size_t size;
	uint64_t value;
} bad[] = {
	{ RAM, KIND, 4, 0 },
	{ RAM, KIND, 4, 7 },
	{ RAM, KIND, 4, 0xffffffff },
	{ RAM, FLAGS, 4, 1 },
	{ RAM, TOKEN, 8, 0 },
	{ RAM, TOKEN, 8, LU_MANIFEST_TOKEN },
	{ RAM, OFFSET, 8, 1 },
	{ RAM, LENGTH, 8, 0 },
	{ RAM, LENGTH, 8, 0x3fff }, /* less than is mapped of it */
	{ RAM, IOVA, 8, 1 },
	{ RAM, PARENT, 4, 0 }, /* itself */
	{ RAM, SOURCE, 4, 0 },
	{ RAM, SEGMENT, 4, 1 },
	{ RAM, BDF, 2, 1 },
	{ RAM, BAR, 2, 1 },
	{ RAM, NAME, 1, 0 },
	{ RAM, NAME, 1, '\n' },
	{ RAM, NAME, 1, 0x7f },
	{ RAM, NAME + 5, 1, 'x' }, /* behind its end */
	{ RAM, LAST, 8, 1 },
	{ IOMMUFD, TOKEN, 8, 0 }, /* has a page table that crosses */
	{ IOMMUFD, TOKEN, 8, 1 }, /* the memory's */
	{ IOMMUFD, TOKEN, 8, 8 },
	{ IOMMUFD, TOKEN, 8, LU_MANIFEST_TOKEN },
	{ IOMMUFD, LENGTH, 8, 1 },
	{ IOAS, TOKEN, 8, 9 },
	{ IOAS, PARENT, 4, RAM },
	{ IOAS, PARENT, 4, PT }, /* a later one */
	{ IOAS, PARENT, 4, 0xffffffff },
	{ IOAS, PARENT, 4, COUNT },
	{ IOAS, PARENT, 4, LU_SET_MAX },
	{ IOAS, PARENT, 4, 0x80000000 },
	{ PT, TOKEN, 8, 0 },
	{ PT, PARENT, 4, IOMMUFD },
	{ PT, PARENT, 4, 0xffffffff },
	{ DEVICE, TOKEN, 8, 0 },
	{ DEVICE, PARENT, 4, IOMMUFD },
	{ DEVICE, PARENT, 4, 0xffffffff }, /* idle, and its BAR mapped */
	{ DEVICE, SOURCE, 4, RAM },
	{ DEVICE, FLAGS, 4, 1 },
	{ MAPPING, FLAGS, 4, 0 },
	{ MAPPING, FLAGS, 4, 4 },
	{ MAPPING, TOKEN, 8, 77 },
	{ MAPPING, OFFSET, 8, 0x1001 },
	{ MAPPING, OFFSET, 8, UINT64_MAX },
	{ MAPPING, OFFSET, 8, UINT64_MAX - 0x2fff },
	{ MAPPING, LENGTH, 8, 0 },
	{ MAPPING, LENGTH, 8, 0x3001 },
	{ MAPPING, LENGTH, 8, UINT64_MAX },
	{ MAPPING, IOVA, 8, UINT64_MAX - 0x2ffe },
	{ MAPPING, PARENT, 4, PT },
	{ MAPPING, PARENT, 4, 0xffffffff },
	{ MAPPING, SOURCE, 4, IOMMUFD },
	{ MAPPING, SOURCE, 4, IDLE },
	{ MAPPING, SOURCE, 4, 0xffffffff },
	{ MAPPING, BAR, 2, 1 },
	{ MAPPING, NAME, 1, 'x' },
	{ MAPPING, NAME + 63, 1, 'x' },
	{ BAR_MAPPING, BAR, 2, 6 },
	{ BAR_MAPPING, SOURCE, 4, PT },
	{ BAR_MAPPING, OFFSET, 8, UINT64_MAX },
	{ IDLE, NAME + 1, 1, 0 }, /* leaves "le" behind its end */
};

static unsigned char buf[HEADER + COUNT * RECORD];
static struct lu_record recs[COUNT];

static void fill(void)
{
	CHECK(lu_manifest_size(COUNT) == sizeof(buf));
	lu_manifest_write(buf, good, COUNT);
}

static int parse(size_t size)
{
	return lu_manifest_parse(buf, size, recs);
}

static void put(size_t at, uint64_t value, size_t size)
{
	for (size_t i = 0; i < size; i++)
		buf[at + i] = value >> (8 * i);
}

/* What is written can be read, and is what docs/abi.md says. */
static void test_good(void)
{
	fill();
	CHECK(!memcmp(buf, "LU-SET\r\n\1\0\0\0\10\0\0\0\40\4\0\0\0\0\0\0", 24));
	CHECK(buf[HEADER + LENGTH + 1] == 0x40);
	CHECK(!strcmp((char *)buf + HEADER + NAME, "ram"));
	CHECK(buf[HEADER + DEVICE * RECORD + BDF + 1] == 1);
	CHECK(lu_manifest_count(buf, sizeof(buf)) == COUNT);
	CHECK(!parse(sizeof(buf)));
	CHECK(!memcmp(recs, good, sizeof(recs)));
	lu_manifest_write(buf, good, 0);
	CHECK(!lu_manifest_count(buf, HEADER) && !parse(HEADER));
}

static void test_header(void)
{
	static const char no[] = "LU-SET\n\n";

	for (size_t size = 0; size < sizeof(buf); size++) {
		fill();
		CHECK(parse(size) == -EBADMSG);
		CHECK(lu_manifest_count(buf, size) == -EBADMSG);
	}
	fill();
	memcpy(buf, no, 8);
	CHECK(parse(sizeof(buf)) == -EBADMSG);
	for (uint64_t version = 0; version < 1ULL << 32;
	     version = version * 3 + 2) {
		fill();
		put(VERSION, version, 4);
		CHECK(parse(sizeof(buf)) ==
		      (version == 1 ? 0 : -EPROTONOSUPPORT));
	}
	fill();
	put(RECORDS, COUNT - 1, 4);
	CHECK(parse(sizeof(buf)) == -EBADMSG);
	put(RECORDS, LU_SET_MAX + 1, 4);
	CHECK(parse(sizeof(buf)) == -EBADMSG);
	put(RECORDS, 0x80000000, 4);
	CHECK(parse(sizeof(buf)) == -EBADMSG);
	fill();
	put(SIZE, sizeof(buf) - 1, 8);
	CHECK(parse(sizeof(buf)) == -EBADMSG);
	fill();
	put(RESERVED, 1, 8);
	CHECK(parse(sizeof(buf)) == -EBADMSG);
}

static void test_bad(void)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		fill();
		put(HEADER + bad[i].record * RECORD + bad[i].field,
		    bad[i].value, bad[i].size);
		if (parse(sizeof(buf)) == -EBADMSG)
			continue;
		fprintf(stderr, "bad[%zu] is taken\n", i);
		abort();
	}
	/* A name without an end, and one that is another's */
	fill();
	memset(buf + HEADER + NAME, 'x', LU_NAME_SIZE);
	CHECK(parse(sizeof(buf)) == -EBADMSG);
	fill();
	memcpy(buf + HEADER + PT * RECORD + NAME, "ram", 4);
	CHECK(parse(sizeof(buf)) == -EBADMSG);
}

/* Tokens of page tables are unique in each iommufd, and others in the session. */
static void test_tokens(void)
{
	struct lu_record two[5];

	memcpy(two, &good[IOMMUFD], 3 * sizeof(two[0]));
	two[1].parent = 0;
	two[2].parent = 1;
	two[3] = two[2];
	strcpy(two[3].name, "again");
	CHECK(!lu_record_check(two, 2));
	CHECK(lu_record_check(two, 3) == -EEXIST);
	two[3].token++;
	CHECK(!lu_record_check(two, 3));
	/* An iommufd may have the token that an HWPT has */
	two[4] = two[0];
	memcpy(two[4].name, "another", sizeof("another"));
	CHECK(lu_record_check(two, 4) == -EEXIST);
	two[4].token = two[3].token;
	CHECK(!lu_record_check(two, 4));
}

/* Whichever bit is another: it is refused, or it says something else. */
static void test_bits(void)
{
	unsigned char again[sizeof(buf)];

	for (size_t bit = 0; bit < 8 * sizeof(buf); bit++) {
		fill();
		buf[bit / 8] ^= 1 << bit % 8;
		if (parse(sizeof(buf)))
			continue;
		CHECK(memcmp(recs, good, sizeof(recs)));
		lu_manifest_write(again, recs, COUNT);
		CHECK(!memcmp(again, buf, sizeof(buf)));
	}
}

int main(void)
{
	test_good();
	test_header();
	test_bad();
	test_tokens();
	test_bits();
	return 0;
}
