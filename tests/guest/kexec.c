// SPDX-License-Identifier: GPL-2.0-only
/*
 * The jump into the next kernel, by the system calls themselves.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/kexec.h>
#include <linux/reboot.h>

#include "guest.h"

static int load(const struct arg *a, unsigned long flags)
{
	int kernel = open(a[0].s, O_RDONLY | O_CLOEXEC);
	int initrd = open(a[1].s, O_RDONLY | O_CLOEXEC);
	int ret = -errno;

	if (kernel >= 0 && initrd >= 0)
		ret = sys(syscall(SYS_kexec_file_load, kernel, initrd,
				  strlen(a[2].s) + 1, a[2].s, flags));
	if (kernel >= 0)
		close(kernel);
	if (initrd >= 0)
		close(initrd);
	return ret;
}

static int cmd_kexec_load(const struct arg *a)
{
	return load(a, 0);
}

/* For when this kernel crashes: it goes where crashkernel= has set memory aside. */
static int cmd_kexec_load_crash(const struct arg *a)
{
	return load(a, KEXEC_FILE_ON_CRASH);
}

/* The older system call: a segment that is never jumped into is enough for it. */
static int cmd_kexec_load_old(const struct arg *a)
{
	static char nothing[4096];
	struct kexec_segment segment = {
		.buf = nothing,
		.bufsz = sizeof(nothing),
		.mem = (void *)(uintptr_t)a[0].n,
		.memsz = sizeof(nothing),
	};

	return sys(syscall(SYS_kexec_load, (unsigned long)a[0].n, 1UL, &segment,
			   (unsigned long)KEXEC_ARCH_DEFAULT));
}

static int cmd_kexec_unload(const struct arg *a)
{
	(void)a;
	return sys(syscall(SYS_kexec_file_load, -1, -1, 0UL, NULL,
			   (unsigned long)KEXEC_FILE_UNLOAD));
}

static int cmd_kexec_go(const struct arg *a)
{
	(void)a;
	return sys(syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
			   LINUX_REBOOT_CMD_KEXEC, NULL));
}

/* The same; the console tells first when that was, by the clock that goes on through it. */
static int cmd_kexec_go_at(const struct arg *a)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	char line[64];
	ssize_t ret;

	if (fd < 0)
		return -errno;
	snprintf(line, sizeof(line), "lab: kexec at %llu ns\n",
		 (unsigned long long)machine_ns());
	ret = write(fd, line, strlen(line));
	close(fd);
	return ret < 0 ? ret : cmd_kexec_go(a);
}

const struct command kexec_commands[] = {
	{ "kexec_load", "ssr", cmd_kexec_load, "KERNEL INITRD COMMAND LINE" },
	{ "kexec_load_crash", "ssr", cmd_kexec_load_crash,
	  "KERNEL INITRD COMMAND LINE" },
	{ "kexec_load_old", "n", cmd_kexec_load_old, "ADDRESS" },
	{ "kexec_unload", "", cmd_kexec_unload, "" },
	{ "kexec_go", "", cmd_kexec_go, "" },
	{ "kexec_go_at", "", cmd_kexec_go_at, "" },
	{}
};
