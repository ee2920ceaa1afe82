// SPDX-License-Identifier: GPL-2.0-only
/*
 * Times.
 *
 * Every clock of a kernel begins anew with the kernel, and the machine's own has
 * seconds only. The time stamp counter goes on; how fast it is the outgoing kernel's
 * clock tells.
 */
#include <time.h>
#include <x86intrin.h>

#include "lu-qemu.h"

static uint64_t now_ns(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

/**
 * instant_now() - this moment
 *
 * Return: it
 */
struct instant instant_now(void)
{
	return (struct instant){ __rdtsc(), now_ns(CLOCK_MONOTONIC_RAW) };
}

/**
 * instant_ms() - how long was it, in one kernel?
 * @from: a moment
 * @to: a later one
 *
 * Return: milliseconds
 */
double instant_ms(struct instant from, struct instant to)
{
	return (to.ns - from.ns) / 1e6;
}

/**
 * took() - note how long a step took
 * @times: object that gets it, in milliseconds
 * @what: name of the step
 * @from: when it began
 *
 * Return: this moment, at which the next step begins
 */
struct instant took(json_t *times, const char *what, struct instant from)
{
	struct instant now = instant_now();

	json_object_set_new(times, what, json_real(instant_ms(from, now)));
	return now;
}

/**
 * instant_khz() - how fast the time stamp counter is
 * @from: a moment
 * @to: a later one of the same kernel
 *
 * Return: counts in a millisecond, or 0 if the two are the same
 */
uint64_t instant_khz(struct instant from, struct instant to)
{
	uint64_t ns = to.ns - from.ns;

	return ns ? (unsigned __int128)(to.tsc - from.tsc) * 1000000 / ns : 0;
}

/**
 * deadline_in() - a moment to wait until
 * @ms: how far away
 *
 * Return: it, in milliseconds of CLOCK_MONOTONIC
 */
int64_t deadline_in(int ms)
{
	return now_ns(CLOCK_MONOTONIC) / 1000000 + ms;
}

/**
 * deadline_left() - how long is it until then?
 * @deadline: from deadline_in()
 *
 * Return: milliseconds, 0 when it is over
 */
int deadline_left(int64_t deadline)
{
	int64_t left = deadline - (int64_t)(now_ns(CLOCK_MONOTONIC) / 1000000);

	return left > 0 ? left : 0;
}
