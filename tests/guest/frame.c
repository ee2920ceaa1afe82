// SPDX-License-Identifier: GPL-2.0-only
/* Frames that carry a number. */
#include <string.h>

#include "frame.h"
#include "guest.h"

/** frame_make() - make frame number @seq, for everybody */
void frame_make(struct frame *f, uint64_t seq)
{
	memset(f, 0, sizeof(*f));
	memset(f->to, 0xff, sizeof(f->to));
	f->from[0] = 0x02;
	f->type[0] = FRAME_ETHERTYPE >> 8;
	f->type[1] = FRAME_ETHERTYPE & 255;
	f->seq = seq;
	for (size_t i = 0; i < ARRAY_SIZE(f->words); i++)
		f->words[i] = pattern(0, seq, 8 * i);
}

/** frame_is_ours() - is a frame of @size bytes one that was made so? */
bool frame_is_ours(const struct frame *f, size_t size)
{
	return size == FRAME && f->type[0] == FRAME_ETHERTYPE >> 8 &&
	       f->type[1] == (FRAME_ETHERTYPE & 255);
}

/** frame_enter() - enter a frame into the account */
void frame_enter(struct frame_account *account, const struct frame *f)
{
	struct frame want;

	frame_make(&want, f->seq);
	if (memcmp(f->words, want.words, sizeof(want.words))) {
		account->wrong++;
		return;
	}
	if (f->seq < account->next) {
		account->repeated++;
		return;
	}
	account->lost += f->seq - account->next;
	account->next = f->seq + 1;
	account->good++;
}

/** frame_account_say() - make an account a command's result */
void frame_account_say(const struct frame_account *account)
{
	result("first=%llu next=%llu good=%llu lost=%llu repeated=%llu wrong=%llu foreign=%llu",
	       (unsigned long long)account->first,
	       (unsigned long long)account->next,
	       (unsigned long long)account->good,
	       (unsigned long long)account->lost,
	       (unsigned long long)account->repeated,
	       (unsigned long long)account->wrong,
	       (unsigned long long)account->foreign);
}
