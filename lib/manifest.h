/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The manifest of a set: what crosses an update beside the files.
 */
#ifndef LU_MANIFEST_H
#define LU_MANIFEST_H

#include <stddef.h>
#include <stdint.h>

#include "libliveupdate.h"

/**
 * struct lu_record - a member of a set, or a mapping, as the manifest has it
 * @kind: one of LU_MEMORY to LU_MAPPING
  * @flags: mapping: LU_MAP_READ, LU_MAP_WRITE; HWPT: LU_HWPT_TRACKS_DIRTY
 * @token: memory, iommufd, device: in the session, 0 for an iommufd that does not
 *	   cross; HWPT: in its iommufd
 * @offset: mapping: first byte in the memory or BAR
 * @length: memory, mapping: bytes
 * @iova: mapping: where the devices see it
 * @parent: index of an earlier record that it belongs to, or -1
 * @source: mapping: index of the record of the memory or device; otherwise -1
 * @segment: device: PCI segment
 * @bdf: device: bus 15:8, device 7:3, function 2:0
 * @bar: mapping of a device: which BAR
 * @name: NUL-padded; empty for mappings
 */
struct lu_record {
	uint32_t kind;
	uint32_t flags;
	uint64_t token;
	uint64_t offset;
	uint64_t length;
	uint64_t iova;
	int32_t parent;
	int32_t source;
	uint32_t segment;
	uint16_t bdf;
	uint16_t bar;
	char name[LU_NAME_SIZE];
};

int lu_record_check(const struct lu_record *recs, uint32_t index);
size_t lu_manifest_size(uint32_t count);
void lu_manifest_write(void *buf, const struct lu_record *recs, uint32_t count);
int lu_manifest_count(const void *buf, size_t size);
int lu_manifest_parse(const void *buf, size_t size, struct lu_record *recs);

#endif /* LU_MANIFEST_H */
