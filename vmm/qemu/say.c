// SPDX-License-Identifier: GPL-2.0-only
/*
 * Messages: what happens, and why something failed.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lu-qemu.h"

static char reason[1024];
static const char *whose;

/**
 * failed() - note why something failed
 * @error: a negative errno
 * @format: the reason, for people
 *
 * Return: @error
 */
int failed(int error, const char *format, ...)
{
	char text[sizeof(reason)];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* The format may have had the reason before it in it */
	memcpy(reason, text, sizeof(reason));
	return error;
}

/**
 * why_failed() - what was noted last
 *
 * Return: text for people
 */
const char *why_failed(void)
{
	return reason;
}

/**
 * say_for() - begin messages with the name of a virtual machine
 * @vm: its name
 */
void say_for(const char *vm)
{
	whose = vm;
}

/**
 * say() - tell people, or the journal
 * @format: what
 */
void say(const char *format, ...)
{
	va_list args;

	fprintf(stderr, NAME ": %s%s", whose ?: "", whose ? ": " : "");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}
