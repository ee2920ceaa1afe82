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
 * All other CPUs have reported that they stop, and do nothing else any more.
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
