// SPDX-License-Identifier: GPL-2.0-only
/*
 * What systemd is to know, and what it knows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>

#include "lu-qemu.h"

/* Its own socket: the message bus may have been stopped already. */
#define SYSTEMD "unix:path=/run/systemd/private"
#define KEXEC_UNIT "/org/freedesktop/systemd1/unit/kexec_2etarget"

/**
 * systemd_keeps() - is this a service whose files systemd keeps?
 *
 * Return: true if so; systemd says in the environment for how many it has room
 */
bool systemd_keeps(void)
{
	const char *room = getenv("FDSTORE");

	return getenv("NOTIFY_SOCKET") && room && atoi(room) > 0;
}

/**
 * systemd_goes_to_kexec() - is the system on its way down to start another kernel?
 *
 * Return: true if so
 */
bool systemd_goes_to_kexec(void)
{
	sd_bus *bus = NULL;
	const char *path;
	uint32_t job = 0;
	sd_bus_message *reply = NULL;
	int ret = sd_bus_new(&bus);

	if (ret >= 0)
		ret = sd_bus_set_address(bus, SYSTEMD);
	if (ret >= 0)
		ret = sd_bus_start(bus);
	if (ret >= 0)
		ret = sd_bus_get_property(bus, "org.freedesktop.systemd1",
					  KEXEC_UNIT,
					  "org.freedesktop.systemd1.Unit",
					  "Job", NULL, &reply, "(uo)");
	if (ret >= 0)
		ret = sd_bus_message_read(reply, "(uo)", &job, &path);
	sd_bus_message_unref(reply);
	sd_bus_flush_close_unref(bus);
	return ret >= 0 && job;
}

/**
 * systemd_here() - does systemd run the system?
 *
 * Return: true if so
 */
bool systemd_here(void)
{
	return sd_booted() > 0;
}

/**
 * systemd_ready() - say that the service is up, if it is one
 * @status: and what it does
 */
void systemd_ready(const char *status)
{
	sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}
