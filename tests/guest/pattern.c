// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pattern that memory, drives and frames are filled with.
 */
#include "guest.h"

/* Mix the bits of a number (the finalizer of splitmix64). */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

/**
 * pattern() - the 8 bytes that belong at a place
 * @seed: which content it is
 * @place: number of the block or frame
 * @offset: byte offset in there, a multiple of 8
 *
 * lab/wire.py has the same function.
 */
uint64_t pattern(uint64_t seed, uint64_t place, uint64_t offset)
{
	return mix(mix(seed ^ mix(place)) ^ offset);
}
