/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _FUZZ_ASM_PAGE_H
#define _FUZZ_ASM_PAGE_H

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096UL

#endif
