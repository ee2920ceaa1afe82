// SPDX-License-Identifier: GPL-2.0-only
/*
 * Kexec handover, which live update is built on: what its parameters mean to the
 * kernel, and why it is off though it was asked for.
 *
 * The kernel sets memory aside for the next one when it boots (its scratch areas).
 * It takes twice what it needs itself, or what kho_scratch= says, in pieces each
 * of which has to be free as a whole; where one is not, KHO is off.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

#define NR_AREAS 3

/* A number and a unit, as memparse() takes them; NULL when it is none */
static const char *skip_size(const char *text, bool *zero)
{
	char *end;

	if (*text < '0' || *text > '9')
		return NULL;
	if (strtoull(text, &end, 0))
		*zero = false;
	return end + (*end && strchr("kKmMgGtTpPeE", *end));
}

static bool is_percentage(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return digits && !strcmp(text + digits, "%") &&
	       strtoull(text, NULL, 10) <= UINT_MAX && digits <= 10;
}

/* Three sizes that are not all zero */
static bool are_sizes(const char *text)
{
	bool zero = true;

	for (int i = 0; i < NR_AREAS && text; i++) {
		if (i && *text++ != ',')
			return false;
		text = skip_size(text, &zero);
	}
	return text && !*text && !zero;
}

/* What the kernel does not understand it leaves alone, and goes by its default. */
static bool scratch_understood(const char *value)
{
	return is_percentage(value) || are_sizes(value);
}

/**
 * kho_doubt() - find out whether KHO's memory is what somebody asked for
 * @buf: where to put what is wrong about it, or nothing
 * @size: room in @buf
 *
 * Return: FINDING_OK, FINDING_WARNING, or FINDING_NO: no kernel can be loaded
 */
int kho_doubt(char *buf, size_t size)
{
	char cmdline[MAX_CMDLINE], value[64];

	buf[0] = '\0';
	file_read("proc/cmdline", cmdline, sizeof(cmdline));
	if (!cmdline_get(cmdline, "kho_scratch", value, sizeof(value)))
		return FINDING_OK;
	if (!scratch_understood(value)) {
		snprintf(
			buf, size,
			"kho_scratch=%s is not understood: it is three sizes (64M,64M,256M) or a "
			"percentage (200%%)",
			value);
		return FINDING_WARNING;
	}
	if (is_percentage(value) && !strtoul(value, NULL, 10)) {
		snprintf(
			buf, size,
			"kho_scratch=%s sets nothing aside that the next kernel could be loaded to",
			value);
		return FINDING_NO;
	}
	return FINDING_OK;
}

/* @area: "lowmem", "global" or "nid 0", in the kernel's words */
static void explain_memory(const char *area, char *buf, size_t size)
{
	char cmdline[MAX_CMDLINE], value[64];

	file_read("proc/cmdline", cmdline, sizeof(cmdline));
	if (cmdline_get(cmdline, "kho_scratch", value, sizeof(value)) &&
	    scratch_understood(value))
		snprintf(
			buf, size,
			"kho_scratch=%s does not fit into this machine's memory: no room for the "
			"area '%s'",
			value, area);
	else
		snprintf(
			buf, size,
			"this machine's memory has no room for the area '%s', which is twice as "
			"large as the kernel with its crashkernel=: boot with a smaller "
			"kho_scratch=, like 16M,16M,64M",
			area);
}

/**
 * kho_explain_off() - find out why KHO is off though nobody turned it off
 * @buf: where to put the reason
 * @size: room in @buf
 *
 * Return: true if the kernel's log tells
 */
bool kho_explain_off(char *buf, size_t size)
{
	char area[32];

	if (log_find("KHO: disabled in the kdump kernel", "", area,
		     sizeof(area))) {
		snprintf(
			buf, size,
			"this kernel is there to save the dump of a crash: boot an ordinary one");
		return true;
	}
	if (log_find("KHO: Failed to reserve ", " scratch buffer", area,
		     sizeof(area))) {
		explain_memory(area, buf, size);
		return true;
	}
	buf[0] = '\0';
	return false;
}
