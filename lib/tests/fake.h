/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A small live update of its own, in the place of the kernel's.
 */
#ifndef LU_TESTS_FAKE_H
#define LU_TESTS_FAKE_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "libliveupdate.h"

#define CHECK(condition)                                                     \
	do {                                                                 \
		if (!(condition)) {                                          \
			fprintf(stderr, "%s:%d: %s: not so: %s\n", __FILE__, \
				__LINE__, __func__, #condition);             \
			abort();                                             \
		}                                                            \
	} while (0)

/* How a call is made to fail that the kernel would let succeed. */
extern int fake_fail_at;
extern int fake_calls;
extern int fake_last_error;

/* Whether that call's file is duplicated then, and the duplicate. */
extern bool fake_keep;
extern int fake_kept;

/* How many page tables were made that can track dirty pages. */
extern int fake_dirty;

int fake_device(const char *bdf);
void fake_make_idle(int device);
void fake_refuse_reset(int device);
void fake_jump(void);
int fake_count_preserved(void);
int fake_count_marks(void);
int fake_count_mapped(int iommufd, uint32_t ioas);
int fake_count_irqs(int device);
int fake_attached(int device, uint32_t *hwpt);
void fake_reset(void);

#endif /* LU_TESTS_FAKE_H */
