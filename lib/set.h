/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A set from the inside: shared by what makes, preserves and takes over one.
 */
#ifndef LU_SET_H
#define LU_SET_H

#include "internal.h"
#include "manifest.h"

enum lu_stage { LU_LOCAL, LU_PRESERVED, LU_INCOMING };

/**
 * struct lu_item - what a member is in this process, beside its record
 * @fd: its file, or -1
 * @id: its number in its iommufd, or 0
 * @error: with which negative errno the last call failed for it, or 0
 * @owned: @fd is the set's to close
 * @marked: HWPT: lu_set_preserve() marked it
 * @preserved: memory: it is in the session
 * @bound: device: bound to its iommufd
 * @rebound: device: it was bound already, by a process that died
 * @done: mapping: mapped; device: attached, since the set was opened
 * @armed: device: its interrupts were armed
 * @eventfds: device: for its interrupts, until they are armed
 * @irqs: how many @eventfds there are
 * @irq_index: one of LU_IRQ_*
 */
struct lu_item {
	int fd;
	uint32_t id;
	int error;
	bool owned;
	bool marked;
	bool preserved;
	bool bound;
	bool rebound;
	bool armed;
	bool done;
	int32_t *eventfds;
	uint32_t irqs;
	uint32_t irq_index;
};

/**
 * struct lu_set - a set
 * @stage: where it is on its way
 * @session: its session's file while it is preserved or incoming, or -1
 * @failed: index of the member that the last call failed for, or -1
 * @count: members and mappings
 * @room: how many @recs and @items have room for
 * @recs: what crosses of each
 * @items: what does not
 */
struct lu_set {
	enum lu_stage stage;
	int session;
	int failed;
	uint32_t count;
	uint32_t room;
	struct lu_record *recs;
	struct lu_item *items;
};

/* A step that is taken for a member; returns 0 or a negative errno. */
typedef int lu_step(struct lu_set *set, uint32_t i);

int lu_set_begin(struct lu_set *set, enum lu_stage stage, int error);
int lu_set_fail(struct lu_set *set, uint32_t index, int error);
int lu_set_for_kind(struct lu_set *set, uint32_t kind, lu_step *step);
int lu_set_reserve(struct lu_set *set, uint32_t count);
void lu_set_close_session(struct lu_set *set);

/* The mode that a device was added for. */
static inline uint32_t lu_set_mode(const struct lu_set *set,
				   const struct lu_record *rec)
{
	return rec->parent >= 0 && set->recs[rec->parent].kind == LU_HWPT ?
		       LU_MODE_RUNNING :
		       LU_MODE_IDLE;
}

#endif /* LU_SET_H */
