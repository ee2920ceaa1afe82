/* SPDX-License-Identifier: GPL-2.0-only */
/* Frames that carry a number, as lab/wire.py sends and expects them. */
#ifndef FRAME_H
#define FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME 256
#define FRAME_ETHERTYPE 0x88b5

/* A frame of ours: its number, then a pattern made from the number. */
struct frame {
	uint8_t to[6];
	uint8_t from[6];
	uint8_t type[2];
	uint8_t pad[2];
	uint64_t seq;
	uint64_t words[(FRAME - 24) / 8];
};

_Static_assert(sizeof(struct frame) == FRAME, "a frame has its size");

/*
 * What came in of a stream of frames that count up by one: @good are those
 * that came in their turn with the right content.
 */
struct frame_account {
	uint64_t first;
	uint64_t next;
	uint64_t good;
	uint64_t lost;
	uint64_t repeated;
	uint64_t wrong;
	uint64_t foreign;
};

void frame_make(struct frame *f, uint64_t seq);
bool frame_is_ours(const struct frame *f, size_t size);
void frame_enter(struct frame_account *account, const struct frame *f);
void frame_account_say(const struct frame_account *account);

#endif /* FRAME_H */
