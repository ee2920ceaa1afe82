/* SPDX-License-Identifier: GPL-2.0-only */

#ifndef _ASM_X86_KEXEC_PARK_H
#define _ASM_X86_KEXEC_PARK_H

#ifdef CONFIG_KEXEC_HANDOVER
void kexec_park_other_cpus(void);
#else
static inline void kexec_park_other_cpus(void) { }
#endif

#endif /* _ASM_X86_KEXEC_PARK_H */
