// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: Other CPUs in a kexec with Kexec HandOver
 *
 * Before a kexec all CPUs but one stop: each says so, and then it halts, in the
 * text of the outgoing kernel. Between these two it can be held up for as long
 * as a hypervisor likes to run something else in its place.
 *
 * That is harmless as long as nobody writes to that text. With Kexec HandOver
 * somebody does from the second kexec on: each kernel but the first lives in the
 * scratch memory, and its successor is copied to the very same place, within
 * milliseconds. The late CPU then goes on in what is there by now, and the
 * machine resets without a word, or worse.
 *
 * So the CPUs that have stopped are sent INIT. It takes them out of memory
 * altogether: they run nothing, need no page tables, and do not even look at an
 * NMI, until the incoming kernel starts them, with INIT again and SIPI.
 *
 * Why INIT is safe here:
 *
 * - A CPU that has reported runs nothing but the loop of stop_this_cpu() any more,
 *   and an NMI in it. One that has not, in the time that native_stop_other_cpus()
 *   waits, runs what is about to be overwritten: for it INIT is the better end.
 * - The incoming kernel starts CPUs by INIT and SIPI in any case, so it finds them as
 *   it expects them.
 * - Where a CPU does not take INIT (Intel: in VMX root operation, AMD: with GIF clear),
 *   it stays where it is, as without this. The way to stop_this_cpu() turns
 *   virtualization off, see x86_virt_emergency_disable_virtualization_cpu().
 * - The local APIC of this CPU is still on, and sends it; those of stopped CPUs are
 *   off in software, which INIT, like an NMI, passes (SDM, volume 3, "Local APIC
 *   State After It Has Been Software Disabled").
 */

#include <linux/cpumask.h>
#include <linux/kexec_handover.h>
#include <linux/smp.h>

#include <asm/apic.h>
#include <asm/kexec_park.h>
#include <asm/msr.h>

/* The sequence of Intel's SDM, volume 3, "Multiple-Processor Initialization" */
static void kexec_park_cpu(u32 apicid)
{
	apic_icr_write(APIC_INT_LEVELTRIG | APIC_INT_ASSERT | APIC_DM_INIT,
		       apicid);
	safe_apic_wait_icr_idle();
	apic_icr_write(APIC_INT_LEVELTRIG | APIC_DM_INIT, apicid);
	safe_apic_wait_icr_idle();
}

/*
 * INIT would reset the machine if it went to the boot processor, and is not ours
 * to send where CPUs are started in another way (as confidential guests are).
 */
static bool kexec_can_park(void)
{
	u64 apicbase;

	rdmsrq(MSR_IA32_APICBASE, apicbase);

	return apicbase & MSR_IA32_APICBASE_BSP &&
	       !apic->wakeup_secondary_cpu && !apic->wakeup_secondary_cpu_64;
}

/**
 * kexec_park_other_cpus() - Let no other CPU run what is about to be
 *                           overwritten.
 *
 * They have reported that they stop, or did not within the time that they had.
 * Nothing happens where Kexec HandOver is off: then the next kernel is not
 * copied over this one.
 *
 * Context: Late in a kexec, on the only CPU that is left, with interrupts off
 * and its local APIC still on.
 */
void kexec_park_other_cpus(void)
{
	unsigned int cpu, this = smp_processor_id();

	if (!kho_is_enabled() || !kexec_can_park())
		return;

	for_each_present_cpu(cpu) {
		u32 apicid = per_cpu(x86_cpu_to_apicid, cpu);

		if (cpu != this && apicid != BAD_APICID)
			kexec_park_cpu(apicid);
	}
}
