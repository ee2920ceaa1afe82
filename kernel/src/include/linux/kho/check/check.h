/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_CHECK_CHECK_H
#define _LINUX_KHO_CHECK_CHECK_H

#include <linux/types.h>

/**
 * DOC: Checks of handover data
 *
 * What the previous kernel says is input, and may be anything. The headers in
 * this folder decide whether it is what the ABI says: a header for each contract
 * of include/linux/kho/abi. They are pure functions of the data. They follow no
 * address themselves, but ask a &typedef kho_take_fn for the memory: in the
 * kernel kho_take() or kho_peek(), in tests a function that has some made-up
 * memory. So the same code runs in the kernel, in KUnit, and in user space under
 * a fuzzer.
 *
 * Each returns NULL when all is well, or else says in a few words what is wrong.
 */

/**
 * typedef kho_take_fn - Give preserved memory that nobody has had yet.
 * @phys: Physical address at which it begins.
 * @size: Bytes that are needed.
 *
 * Memory that is taken is given only once. What is only looked at may be given
 * again: which it is, is the caller's choice.
 *
 * Return: the memory, or NULL when no preserved memory of this size begins there.
 */
typedef void *(*kho_take_fn)(u64 phys, u64 size);

#endif /* _LINUX_KHO_CHECK_CHECK_H */
