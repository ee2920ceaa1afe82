/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _LINUX_KHO_MEMORY_H
#define _LINUX_KHO_MEMORY_H

#include <linux/io.h>
#include <linux/kexec_handover.h>
#include <linux/mm.h>

/**
 * DOC: Memory of the previous kernel
 *
 * An address that the previous kernel left is followed only if preserved memory
 * begins there, and enough of it. Whoever takes memory is its only owner: it is
 * given once, however often the handover data names it. That holds for two who
 * take it at once, too, which broken data of two sessions could make happen:
 * kho_restore_folio() clears the bit in the map of preserved memory atomically, and
 * gives the memory to the one who did.
 */

/**
 * kho_peek() - Look at preserved memory that stays as it is
 * @phys: Physical address that the previous kernel left.
 * @size: Bytes that are needed.
 *
 * Context: Any context.
 * Return: the memory, or NULL when no preserved folio of at least @size bytes
 * begins there, or when somebody has taken it.
 */
static inline void *kho_peek(u64 phys, u64 size)
{
	return size && kho_restorable_size(phys) >= size ? phys_to_virt(phys) :
							   NULL;
}

/**
 * kho_take() - Take preserved memory
 * @phys: As for kho_peek().
 * @size: As for kho_peek().
 *
 * Context: Process context.
 * Return: the memory, to be freed with kho_taken_free(), or NULL as kho_peek().
 */
static inline void *kho_take(u64 phys, u64 size)
{
	return kho_peek(phys, size) && kho_restore_folio(phys) ?
	       phys_to_virt(phys) : NULL;
}

/**
 * kho_taken_free() - Free what kho_take() gave
 * @mem: The memory.
 *
 * Context: Any context.
 */
static inline void kho_taken_free(void *mem)
{
	folio_put(virt_to_folio(mem));
}

#endif /* _LINUX_KHO_MEMORY_H */
