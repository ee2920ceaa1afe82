// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sets of libliveupdate. An object is a member of a set under its own name.
 */
#include <errno.h>
#include <fcntl.h>
#include <libliveupdate.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"

#define RW (LU_MAP_READ | LU_MAP_WRITE)

/* How a call on a set went; if it failed for a member, which one. */
static int told(const struct lu_set *set, int ret)
{
	struct lu_member member;

	if (ret >= 0)
		return 0;
	if (lu_set_failed(set, &member))
		return ret;
	return complain(-ret, "member %u %s", member.index, member.name);
}

static int cmd_set_new(const struct arg *a)
{
	return lu_set_new(&a[0].o->set);
}

static int cmd_set_memory(const struct arg *a)
{
	return lu_set_add_memory(a[0].o->set, a[1].o->name, a[1].o->fd);
}

static int cmd_set_iommufd(const struct arg *a)
{
	return lu_set_add_iommufd(a[0].o->set, a[1].o->name, a[1].o->fd);
}

static int cmd_set_ioas(const struct arg *a)
{
	return lu_set_add_ioas(a[0].o->set, a[1].o->name, a[2].s, a[1].o->id);
}

static int cmd_set_hwpt(const struct arg *a)
{
	return lu_set_add_hwpt(a[0].o->set, a[1].o->name, a[2].s, a[1].o->id);
}

static int cmd_set_device(const struct arg *a)
{
	return lu_set_add_device(a[0].o->set, a[1].o->name, a[1].o->fd, a[2].s);
}

static int cmd_set_map(const struct arg *a)
{
	return lu_set_add_mapping(a[0].o->set, a[1].s, a[2].s, a[3].n, a[4].n,
				  a[5].n, RW);
}

static int cmd_set_map_bar(const struct arg *a)
{
	return lu_set_add_bar(a[0].o->set, a[1].s, a[2].s, a[3].n, a[4].n,
			      a[5].n, a[6].n, RW);
}

static int cmd_set_preserve(const struct arg *a)
{
	int luo = lu_open();
	int ret;

	if (luo < 0)
		return luo;
	ret = lu_set_preserve(a[0].o->set, luo, a[1].s);
	close(luo);
	return told(a[0].o->set, ret);
}

static int cmd_set_unpreserve(const struct arg *a)
{
	return told(a[0].o->set, lu_set_unpreserve(a[0].o->set));
}

/* The session is the set's when this succeeds: its object is empty then. */
static int cmd_set_open(const struct arg *a)
{
	int ret = lu_set_open(&a[0].o->set, a[1].o->fd);

	if (!ret)
		a[1].o->fd = -1;
	return ret;
}

/* Interrupts of a member; their eventfds are in an object of their own. */
static int cmd_set_irqs(const struct arg *a)
{
	int index = irq_index(a[3].s);
	int ret = index < 0 ? index : events_open(a[1].o, index, a[4].n);

	if (ret)
		return ret;
	return lu_set_add_irqs(a[0].o->set, a[2].s, index, a[1].o->events,
			       a[1].o->nr_events);
}

static int cmd_set_retrieve(const struct arg *a)
{
	return told(a[0].o->set, lu_set_retrieve(a[0].o->set));
}

static int cmd_set_handover(const struct arg *a)
{
	return told(a[0].o->set, lu_set_handover(a[0].o->set));
}

static int cmd_set_finish(const struct arg *a)
{
	return told(a[0].o->set, lu_set_finish(a[0].o->set));
}

static int cmd_set_take_over(const struct arg *a)
{
	return told(a[0].o->set, lu_set_take_over(a[0].o->set));
}

/* Make a member an object of its name; its file is the object's to close. */
static int cmd_set_get(const struct arg *a)
{
	struct lu_member member;
	int ret = lu_set_find(a[0].o->set, a[1].o->name, &member);

	if (ret)
		return ret;
	a[1].o->id = member.id;
	if (member.fd >= 0)
		a[1].o->fd = lu_set_take_fd(a[0].o->set, member.name);
	return 0;
}

/* The set's session, once more. */
static int cmd_set_session(const struct arg *a)
{
	int session = lu_set_session(a[0].o->set);

	if (session < 0)
		return session;
	a[1].o->fd = fcntl(session, F_DUPFD_CLOEXEC, 0);
	return a[1].o->fd < 0 ? -errno : 0;
}

/* A line for each member: KIND NAME FD ID ERROR TOKEN, and what else it has. */
static int cmd_set_list(const struct arg *a)
{
	static const char *const kinds[] = { "?",      "memory", "iommufd",
					     "ioas",   "hwpt",	 "device",
					     "mapping" };
	struct lu_member m;

	for (uint32_t i = 0; !lu_set_member(a[0].o->set, i, &m); i++) {
		const char *name = m.name[0] ? m.name : "-";
		const char *error = m.error ? strerrorname_np(-m.error) : "-";

		say("%s %s %d %u %s %llu %s", kinds[m.kind], name, m.fd, m.id,
		    error, (unsigned long long)m.token,
		    m.kind == LU_DEVICE ? lu_mode_text(m.mode) : "-");
	}
	return 0;
}

const struct command set_commands[] = {
	{ "set_new", "N", cmd_set_new, "NEW" },
	{ "set_memory", "po", cmd_set_memory, "SET MEMFD" },
	{ "set_iommufd", "po", cmd_set_iommufd, "SET IOMMUFD" },
	{ "set_ioas", "pos", cmd_set_ioas, "SET IOAS MEMBER" },
	{ "set_hwpt", "pos", cmd_set_hwpt, "SET HWPT MEMBER" },
	{ "set_device", "po|s", cmd_set_device, "SET DEVICE [MEMBER]" },
	{ "set_map", "pssnnn", cmd_set_map,
	  "SET MEMBER MEMBER OFFSET LENGTH IOVA" },
	{ "set_map_bar", "pssnnnn", cmd_set_map_bar,
	  "SET MEMBER MEMBER BAR OFFSET LENGTH IOVA" },
	{ "set_preserve", "ps", cmd_set_preserve, "SET SESSION-NAME" },
	{ "set_unpreserve", "p", cmd_set_unpreserve, "SET" },
	{ "set_open", "No", cmd_set_open, "NEW SESSION" },
	{ "set_irqs", "pNssn", cmd_set_irqs,
	  "SET NEW MEMBER INTX|MSI|MSIX COUNT" },
	{ "set_retrieve", "p", cmd_set_retrieve, "SET" },
	{ "set_handover", "p", cmd_set_handover, "SET" },
	{ "set_finish", "p", cmd_set_finish, "SET" },
	{ "set_take_over", "p", cmd_set_take_over, "SET" },
	{ "set_get", "pN", cmd_set_get, "SET NEW, its member" },
	{ "set_session", "pN", cmd_set_session, "SET NEW" },
	{ "set_list", "p", cmd_set_list, "SET" },
	{}
};
