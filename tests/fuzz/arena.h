/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory of a previous kernel, made up by a fuzzer: up to 16 folios, of one to
 * four pages, at addresses that nobody guesses by chance but that a corpus has.
 */
#ifndef ARENA_H
#define ARENA_H

#include <stdlib.h>

#include <linux/types.h>

#define ARENA_BASE 0x10000000ULL
#define ARENA_STEP 0x10000ULL
#define ARENA_FOLIOS 16

#define CHECK(what) ((what) ? (void)0 : abort())

/*
 * Lay out what the fuzzer gives: records of a byte for the folio (bits 3:0) and
 * its order (bits 5:4, the first record of a folio counts), two for the offset
 * in it, one for the length, and as many bytes of content; the rest is 0.
 */
void arena_fill(const u8 *data, size_t size);

/* As kho_take(), kho_peek() and kho_restorable_size(): see there. */
void *arena_take(u64 phys, u64 size);
void *arena_peek(u64 phys, u64 size);
size_t arena_size(phys_addr_t phys);

/*
 * The parser refused what came in. With SEEDS in the environment nothing may be:
 * these are real data, and what is known of them is said.
 */
int arena_refused(const char *why);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#endif
