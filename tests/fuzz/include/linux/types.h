/* SPDX-License-Identifier: GPL-2.0-only */
/* What the kernel's headers for handover data need of the kernel, in user space. */
#ifndef _FUZZ_LINUX_TYPES_H
#define _FUZZ_LINUX_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <asm/page.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef u64 phys_addr_t;
typedef u8 __u8;
typedef u16 __u16;
typedef u32 __u32;
typedef int __s32;
typedef u64 __aligned_u64 __attribute__((aligned(8)));
typedef u64 __u64;

#define U32_MAX UINT32_MAX
#define S32_MAX INT32_MAX
#define S64_MAX ((u64)INT64_MAX)
#define BITS_PER_BYTE 8
#define __packed __attribute__((packed))
#define DECLARE_BITMAP(name, bits) unsigned long name[(bits) / 64]
#define DIV_ROUND_UP(n, d) (((n) + (d)-1) / (d))
#define BIT(n) (1UL << (n))
#define BIT_ULL(n) (1ULL << (n))
#define GENMASK_ULL(high, low) (~0ULL >> (63 - (high)) & ~0ULL << (low))
#define GENMASK(high, low) GENMASK_ULL(high, low)
#define ALIGN(x, a) (((x) + (a)-1) & ~((a)-1))
#define IS_ALIGNED(x, a) (!((x) & ((a)-1)))
#define const_ilog2(n) (63 - __builtin_clzll(n))
#define static_assert(what) _Static_assert(what, #what)

#endif
