// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Sets through updates of the fake kernel: good ones, and with each of the calls
 * that the library makes failing in turn.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../internal.h"
#include "../manifest.h"
#include "fake.h"

#define PAGE 4096
#define RW (LU_MAP_READ | LU_MAP_WRITE)
#define NAME "session"

/* What a process has: two running devices, one idle device, and what they need. */
struct owner {
	int luo;
	int memory[2];
	int iommufd;
	int plain;
	int devices[3];
	uint32_t ioas;
	uint32_t other;
	uint32_t hwpts[2];
	struct lu_set *set;
};

static const char *const bdfs[] = { "0000:01:00.0", "0000:02:00.0",
				    "10000:03:1f.7" };

static int memory_new(void)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);

	CHECK(fd >= 0 && !ftruncate(fd, 4L * PAGE));
	return fd;
}

/* Set up what a process has before it thinks of updates. */
static void owner_begin(struct owner *o)
{
	uint32_t id;

	fake_reset();
	o->luo = lu_open();
	o->iommufd = lu_iommufd_open();
	o->plain = lu_iommufd_open();
	CHECK(!lu_ioas_alloc(o->iommufd, &o->ioas));
	CHECK(!lu_ioas_alloc(o->plain, &o->other));
	for (int i = 0; i < 2; i++)
		o->memory[i] = memory_new();
	for (int i = 0; i < 3; i++)
		o->devices[i] = fake_device(bdfs[i]);
	for (int i = 0; i < 2; i++) {
		CHECK(!lu_device_bind(o->devices[i], o->iommufd, &id));
		CHECK(!lu_hwpt_alloc(o->iommufd, id, o->ioas, &o->hwpts[i]));
		CHECK(!lu_device_attach(o->devices[i], o->hwpts[i], NULL));
	}
	CHECK(!lu_device_bind(o->devices[2], o->plain, &id));
	CHECK(!lu_device_attach(o->devices[2], o->other, NULL));
}

/* Make a set of all that. */
static void owner_describe(struct owner *o)
{
	CHECK(!lu_set_new(&o->set));
	CHECK(!lu_set_add_memory(o->set, "ram", o->memory[0]));
	CHECK(!lu_set_add_iommufd(o->set, "iommufd", o->iommufd));
	CHECK(!lu_set_add_ioas(o->set, "ioas", "iommufd", o->ioas));
	CHECK(!lu_set_add_mapping(o->set, "ioas", "ram", PAGE, 3 * PAGE,
				  0x10000, RW));
	CHECK(!lu_set_add_hwpt(o->set, "pt0", "ioas", o->hwpts[0]));
	CHECK(!lu_set_add_hwpt(o->set, "pt1", "ioas", o->hwpts[1]));
	CHECK(!lu_set_add_memory(o->set, "rom", o->memory[1]));
	CHECK(!lu_set_add_mapping(o->set, "ioas", "rom", 0, PAGE, 0x20000,
				  LU_MAP_READ));
	CHECK(!lu_set_add_device(o->set, "nvme", o->devices[0], "pt0"));
	CHECK(!lu_set_add_device(o->set, "igb", o->devices[1], "pt1"));
	CHECK(!lu_set_add_bar(o->set, "ioas", "igb", 2, PAGE, PAGE, 0x40000,
			      RW));
	CHECK(!lu_set_add_iommufd(o->set, "plain", o->plain));
	CHECK(!lu_set_add_ioas(o->set, "other", "plain", o->other));
	CHECK(!lu_set_add_mapping(o->set, "other", "ram", 0, PAGE, 0, RW));
	CHECK(!lu_set_add_device(o->set, "idle", o->devices[2], "other"));
}

/* The process ends. */
static void owner_end(struct owner *o)
{
	close(o->luo);
	close(o->iommufd);
	close(o->plain);
	for (int i = 0; i < 2; i++)
		close(o->memory[i]);
	for (int i = 0; i < 3; i++)
		close(o->devices[i]);
}

static struct lu_member find(const struct lu_set *set, const char *name)
{
	struct lu_member member;

	CHECK(!lu_set_find(set, name, &member));
	return member;
}

/* In the next kernel: begin to take the set over. */
static struct lu_set *incoming_begin(void)
{
	int luo = lu_open(), session;
	struct lu_set *set;

	session = lu_session_retrieve(luo, NAME);
	CHECK(session >= 0);
	CHECK(!lu_set_open(&set, session));
	CHECK(lu_set_session(set) == session);
	close(luo);
	return set;
}

/* All is back, mapped, and attached to page tables of this kernel. */
static void see_taken_over(const struct lu_set *set)
{
	struct lu_member member, pt, ioas = find(set, "ioas");
	static const char *const devices[] = { "nvme", "igb", "idle" };
	uint32_t hwpt;

	for (int i = 0; i < 3; i++) {
		member = find(set, devices[i]);
		CHECK(member.kind == LU_DEVICE && member.fd >= 0);
		CHECK(!strcmp(member.bdf, bdfs[i]));
		CHECK(fake_attached(member.fd, &hwpt));
		CHECK(!lu_set_member(set, member.parent, &pt));
		if (i < 2)
			CHECK(pt.kind == LU_HWPT && pt.id == hwpt &&
			      member.mode == LU_MODE_RUNNING);
		else
			CHECK(pt.kind == LU_IOAS &&
			      member.mode == LU_MODE_IDLE);
	}
	CHECK(find(set, "pt0").id != find(set, "pt1").id);
	CHECK(fake_count_mapped(find(set, "iommufd").fd, ioas.id) == 3);
	CHECK(fake_count_mapped(find(set, "plain").fd, find(set, "other").id) ==
	      1);
	CHECK(!lu_set_member(set, 3, &member));
	CHECK(member.kind == LU_MAPPING && !member.name[0] &&
	      member.iova == 0x10000 && member.offset == PAGE &&
	      member.length == 3 * PAGE && member.flags == RW &&
	      member.parent == (int)ioas.index &&
	      member.source == (int)find(set, "ram").index);
	CHECK(!fake_count_preserved());
}

/* Two updates in a row, with the set of the first preserved for the second. */
static void test_two_updates(void)
{
	struct owner o;
	struct lu_set *set;
	int session;

	owner_begin(&o);
	owner_describe(&o);
	session = lu_set_preserve(o.set, o.luo, NAME);
	CHECK(session >= 0 && session == lu_set_session(o.set));
	CHECK(fake_count_preserved() == 7);
	for (int update = 0; update < 2; update++) {
		char name[LU_SESSION_NAME_SIZE];
		int keep = dup(session);

		CHECK(!lu_session_name(keep, name) && !strcmp(name, NAME));
		/* The machine jumps while somebody has the session */
		if (update == 0) {
			fake_jump();
			lu_set_free(o.set);
			owner_end(&o);
		} else {
			fake_jump();
			lu_set_free(set);
		}
		close(keep);
		set = incoming_begin();
		CHECK(!lu_set_take_over(set));
		CHECK(lu_set_session(set) == -ENOENT);
		see_taken_over(set);
		o.luo = lu_open();
		session = lu_set_preserve(set, o.luo, NAME);
		CHECK(session >= 0);
		close(o.luo);
	}
	CHECK(!lu_set_unpreserve(set));
	CHECK(!fake_count_preserved() && !fake_count_marks());
	lu_set_free(set);
}

/* Whichever call fails: nothing is preserved or marked, and the next try works. */
static void test_preserve_rolls_back(void)
{
	struct lu_member member;
	struct owner o;
	int calls, ret;

	owner_begin(&o);
	owner_describe(&o);
	calls = fake_calls;
	CHECK(lu_set_preserve(o.set, o.luo, NAME) >= 0);
	calls = fake_calls - calls;
	CHECK(!lu_set_unpreserve(o.set));
	for (int n = 1; n <= calls; n++) {
		fake_calls = 0;
		fake_fail_at = n;
		ret = lu_set_preserve(o.set, o.luo, NAME);
		fake_fail_at = 0;
		CHECK(ret == -EIO);
		CHECK(!fake_count_preserved() && !fake_count_marks());
		CHECK(lu_set_session(o.set) == -ENOENT);
		/* The session itself and the manifest belong to no member */
		ret = lu_set_failed(o.set, &member);
		CHECK(ret ? n == 1 || n == 4 : member.error == -EIO);
		CHECK(lu_set_preserve(o.set, o.luo, NAME) >= 0);
		CHECK(fake_count_preserved() == 7 && fake_count_marks() == 2);
		CHECK(!lu_set_unpreserve(o.set));
	}
	lu_set_free(o.set);
	owner_end(&o);
}

/* Memory goes first, twice, then the rest; whichever call fails, nothing stays. */
static void test_memory_first(void)
{
	int extra, calls, ret = 0;
	struct owner o;

	for (int n = 0; n == 0 || ret; n++) {
		owner_begin(&o);
		extra = memory_new();
		CHECK(!lu_set_new(&o.set));
		CHECK(!lu_set_add_memory(o.set, "extra", extra));
		fake_calls = 0;
		fake_fail_at = n;
		ret = lu_set_preserve_memory(o.set, o.luo, NAME);
		CHECK(ret ? ret == -EIO : fake_count_preserved() == 1);
		lu_set_free(o.set);
		CHECK(!fake_count_preserved());
		if (!n)
			ret = 1;
		fake_fail_at = 0;
		owner_end(&o);
		close(extra);
	}

	owner_begin(&o);
	extra = memory_new();
	CHECK(!lu_set_new(&o.set));
	CHECK(lu_set_preserve_memory(o.set, o.luo, NAME) == -EINVAL);
	lu_set_free(o.set);
	owner_describe(&o);
	CHECK(!lu_set_preserve_memory(o.set, o.luo, NAME));
	CHECK(fake_count_preserved() == 2 && !fake_count_marks());
	CHECK(!lu_set_add_memory(o.set, "extra", extra));
	CHECK(!lu_set_preserve_memory(o.set, -1, NULL));
	CHECK(fake_count_preserved() == 3);
	CHECK(!lu_set_unpreserve(o.set));
	CHECK(!fake_count_preserved());
	CHECK(lu_set_unpreserve(o.set) == -EINVAL);
	CHECK(!lu_set_preserve_memory(o.set, o.luo, NAME));
	calls = fake_calls;
	CHECK(lu_set_preserve(o.set, -1, NULL) >= 0);
	calls = fake_calls - calls;
	CHECK(fake_count_preserved() == 8 && fake_count_marks() == 2);
	CHECK(lu_set_preserve_memory(o.set, o.luo, NAME) == -EBUSY);
	CHECK(!lu_set_unpreserve(o.set));
	for (int n = 1; n <= calls; n++) {
		CHECK(!lu_set_preserve_memory(o.set, o.luo, NAME));
		fake_calls = 0;
		fake_fail_at = n;
		CHECK(lu_set_preserve(o.set, -1, NULL) == -EIO);
		fake_fail_at = 0;
		CHECK(!fake_count_preserved() && !fake_count_marks());
	}
	lu_set_free(o.set);
	close(extra);
	owner_end(&o);
}

/* A set that was preserved, in the next kernel. */
static struct lu_set *crossed(void)
{
	struct owner o;

	owner_begin(&o);
	owner_describe(&o);
	CHECK(lu_set_preserve(o.set, o.luo, NAME) >= 0);
	fake_jump();
	lu_set_free(o.set);
	owner_end(&o);
	return incoming_begin();
}

/* A page table that can track dirty pages is one in the next kernel, too. */
static void test_dirty(void)
{
	struct lu_member member;
	struct lu_set *set;
	struct owner o;

	owner_begin(&o);
	owner_describe(&o);
	CHECK(lu_iommufd_tracks_dirty(o.iommufd, 1) == 1);
	CHECK(lu_iommufd_tracks_dirty(-1, 1) == -EBADF);
	CHECK(lu_set_hwpt_tracks_dirty(o.set, "none") == -ENOENT);
	CHECK(lu_set_hwpt_tracks_dirty(o.set, "ioas") == -EINVAL);
	CHECK(!lu_set_hwpt_tracks_dirty(o.set, "pt1"));
	CHECK(lu_set_preserve(o.set, o.luo, NAME) >= 0);
	CHECK(lu_set_hwpt_tracks_dirty(o.set, "pt0") == -EBUSY);
	fake_jump();
	lu_set_free(o.set);
	owner_end(&o);
	set = incoming_begin();
	CHECK(!lu_set_find(set, "pt0", &member) && !member.flags);
	CHECK(!lu_set_find(set, "pt1", &member) &&
	      member.flags == LU_HWPT_TRACKS_DIRTY);
	fake_dirty = 0;
	CHECK(!lu_set_take_over(set));
	CHECK(fake_dirty == 1);
	lu_set_free(set);
}

/* Whichever call fails: the same again goes on, and ends well. */
static void test_take_over_goes_on(void)
{
	struct lu_set *set = crossed();
	int calls;

	fake_calls = 0;
	CHECK(!lu_set_take_over(set));
	lu_set_free(set);
	calls = fake_calls;
	CHECK(calls > 20);
	for (int n = 1; n <= calls; n++) {
		set = crossed();
		fake_calls = 0;
		fake_fail_at = n;
		CHECK(lu_set_take_over(set) == -EIO);
		fake_fail_at = 0;
		CHECK(!lu_set_take_over(set));
		see_taken_over(set);
		lu_set_free(set);
	}
}

/* How often an eventfd was signalled since it was read. */
static uint64_t signals(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

/*
 * Interrupts are armed and each signalled, once whatever fails before; and a failure
 * leaves none on.
 */
static void test_irqs(void)
{
	const int32_t fds[] = { eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), -1,
				eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
	struct lu_set *set = crossed();
	int calls, device;

	CHECK(lu_set_add_irqs(set, "none", LU_IRQ_MSIX, fds, 3) == -ENOENT);
	CHECK(lu_set_add_irqs(set, "ram", LU_IRQ_MSIX, fds, 3) == -EINVAL);
	CHECK(lu_set_add_irqs(set, "nvme", LU_IRQ_MSIX, fds, 0) == -EINVAL);
	CHECK(lu_set_add_irqs(set, "nvme", LU_IRQ_MSIX, fds, 2049) == -EINVAL);
	CHECK(lu_set_add_irqs(set, "nvme", 3, fds, 3) == -EINVAL);
	CHECK(!lu_set_add_irqs(set, "nvme", LU_IRQ_INTX, fds, 1));
	CHECK(!lu_set_add_irqs(set, "nvme", LU_IRQ_MSIX, fds, 3));
	fake_calls = 0;
	CHECK(!lu_set_retrieve(set));
	calls = fake_calls;
	CHECK(!lu_set_handover(set) && !lu_set_finish(set));
	CHECK(fake_count_irqs(find(set, "nvme").fd) == 3);
	CHECK(signals(fds[0]) == 1 && signals(fds[2]) == 1);
	CHECK(lu_set_add_irqs(set, "nvme", LU_IRQ_MSIX, fds, 3) == -EINVAL);
	lu_set_free(set);
	for (int n = 1; n <= calls; n++) {
		set = crossed();
		CHECK(!lu_set_add_irqs(set, "nvme", LU_IRQ_MSIX, fds, 3));
		fake_calls = 0;
		fake_fail_at = n;
		CHECK(lu_set_retrieve(set) == -EIO);
		fake_fail_at = 0;
		device = find(set, "nvme").fd;
		if (find(set, "nvme").error)
			CHECK(device < 0 || !fake_count_irqs(device));
		CHECK(!lu_set_retrieve(set));
		CHECK(fake_count_irqs(find(set, "nvme").fd) == 3);
		CHECK(signals(fds[0]) == 1 && signals(fds[2]) == 1);
		lu_set_free(set);
	}
	close(fds[0]);
	close(fds[2]);
}

/* A process dies at some point of its take-over, and another one goes on. */
static void test_restart(void)
{
	for (int steps = 0; steps < 3; steps++) {
		struct lu_set *set = crossed();
		struct lu_member member;

		CHECK(steps < 1 || !lu_set_retrieve(set));
		CHECK(steps < 2 || !lu_set_handover(set));
		lu_set_free(set);
		if (steps == 2)
			continue; /* that session was finished by closing it */
		set = incoming_begin();
		if (!steps) {
			CHECK(!lu_set_take_over(set));
			see_taken_over(set);
		} else {
			/* What only the dead had is gone with them */
			CHECK(lu_set_retrieve(set) == -EADDRINUSE);
			CHECK(!lu_set_failed(set, &member));
			CHECK(!strcmp(member.name, "idle"));
			CHECK(!lu_set_handover(set) && !lu_set_finish(set));
			CHECK(fake_attached(find(set, "nvme").fd, &member.id));
			CHECK(fake_attached(find(set, "igb").fd, &member.id));
		}
		lu_set_free(set);
	}
}

/* After a restart, without the numbers of devices: the kernel makes page tables. */
static void test_no_numbers(void)
{
	struct lu_set *set = crossed();
	uint32_t hwpt;

	CHECK(!lu_set_retrieve(set));
	fake_refuse_reset(find(set, "nvme").fd);
	lu_set_free(set);
	set = incoming_begin();
	CHECK(lu_set_retrieve(set) == -EADDRINUSE);
	CHECK(!find(set, "nvme").error && !find(set, "nvme").id);
	CHECK(!lu_set_handover(set) && !lu_set_finish(set));
	CHECK(fake_attached(find(set, "nvme").fd, &hwpt));
	CHECK(find(set, "pt0").id == hwpt);
	CHECK(find(set, "pt0").id != find(set, "pt1").id);
	lu_set_free(set);
}

/* Files are the set's to close, until they are taken. */
static void test_take_fd(void)
{
	struct lu_set *set = crossed();
	int ram, rom;

	CHECK(lu_set_take_fd(set, "ram") == -EBADF);
	CHECK(!lu_set_take_over(set));
	rom = find(set, "rom").fd;
	ram = lu_set_take_fd(set, "ram");
	CHECK(ram >= 0 && ram == find(set, "ram").fd);
	CHECK(lu_set_take_fd(set, "ram") == ram);
	lu_set_free(set);
	CHECK(fcntl(ram, F_GETFD) == FD_CLOEXEC && !close(ram));
	CHECK(fcntl(rom, F_GETFD) < 0);
}

/* A device that is gone does not keep the others. */
static void test_device_gone(void)
{
	struct lu_set *set = crossed();
	struct lu_member member;

	/* Retrieve: ram, iommufd, rom, nvme, then igb */
	fake_calls = 0;
	fake_fail_at = 5;
	fake_last_error = ENODEV;
	CHECK(lu_set_retrieve(set) == -ENODEV);
	CHECK(!lu_set_failed(set, &member) && !strcmp(member.name, "igb"));
	CHECK(member.error == -ENODEV && member.fd == -1);
	CHECK(find(set, "idle").fd >= 0);
	CHECK(lu_set_take_fd(set, "igb") == -EBADF);
	/* Its BAR is not mapped either; all else is. */
	CHECK(!lu_set_handover(set));
	CHECK(fake_count_mapped(find(set, "iommufd").fd,
				find(set, "ioas").id) == 2);
	CHECK(fake_attached(find(set, "nvme").fd, &member.id));
	CHECK(fake_attached(find(set, "idle").fd, &member.id));
	lu_set_free(set);
}

/* The mode that a device was added for is the one that it gets. */
static void test_modes(void)
{
	struct lu_member member;
	struct owner o;

	owner_begin(&o);
	owner_describe(&o);
	fake_make_idle(o.devices[1]);
	CHECK(lu_set_preserve(o.set, o.luo, NAME) == -EPROTOTYPE);
	CHECK(!lu_set_failed(o.set, &member) && !strcmp(member.name, "igb"));
	CHECK(!fake_count_preserved() && !fake_count_marks());
	lu_set_free(o.set);
	/* On a page table that goes along, but added without */
	CHECK(!lu_set_new(&o.set));
	CHECK(!lu_set_add_iommufd(o.set, "iommufd", o.iommufd));
	CHECK(!lu_set_add_ioas(o.set, "ioas", "iommufd", o.ioas));
	CHECK(!lu_set_add_hwpt(o.set, "pt", "ioas", o.hwpts[0]));
	CHECK(!lu_set_add_device(o.set, "a", o.devices[0], "ioas"));
	CHECK(lu_set_preserve(o.set, o.luo, NAME) == -EINVAL);
	CHECK(!lu_set_failed(o.set, &member) && !strcmp(member.name, "pt"));
	CHECK(!lu_set_add_device(o.set, "b", o.devices[1], "pt"));
	CHECK(lu_set_preserve(o.set, o.luo, NAME) == -EPROTOTYPE);
	CHECK(!lu_set_failed(o.set, &member) && !strcmp(member.name, "a"));
	lu_set_free(o.set);
	owner_end(&o);
}

/* Somebody else has the session: it cannot be unpreserved before they close it. */
static void test_shared_session(void)
{
	struct owner o;
	int session;

	owner_begin(&o);
	owner_describe(&o);
	session = dup(lu_set_preserve(o.set, o.luo, NAME));
	CHECK(lu_set_unpreserve(o.set) == -EBUSY);
	CHECK(fake_count_preserved() == 7);
	CHECK(lu_set_preserve(o.set, o.luo, NAME) == -EBUSY);
	close(session);
	CHECK(!lu_set_unpreserve(o.set));
	CHECK(!fake_count_preserved() && !fake_count_marks());
	CHECK(lu_set_preserve(o.set, o.luo, NAME) >= 0);
	/* Freeing it is as good */
	lu_set_free(o.set);
	CHECK(!fake_count_preserved() && !fake_count_marks());
	owner_end(&o);
}

/* Somebody has the session for a moment just when it fails, as a child of fork(). */
static void test_shared_failure(void)
{
	struct owner o;

	owner_begin(&o);
	owner_describe(&o);
	fake_calls = 0;
	/* Session, two marks, manifest, two memories, iommufd: then a device */
	fake_fail_at = 8;
	fake_keep = true;
	CHECK(lu_set_preserve(o.set, o.luo, NAME) == -EIO);
	CHECK(fake_count_marks() == 2);
	CHECK(lu_set_preserve(o.set, o.luo, NAME) == -EEXIST);
	close(fake_kept);
	CHECK(lu_set_preserve(o.set, o.luo, NAME) >= 0);
	CHECK(!lu_set_unpreserve(o.set));
	CHECK(!fake_count_preserved() && !fake_count_marks());
	lu_set_free(o.set);
	owner_end(&o);
}

/* Calls that do not fit the state of a set. */
static void test_states(void)
{
	struct owner o;

	owner_begin(&o);
	CHECK(!lu_set_new(&o.set));
	CHECK(lu_set_preserve(o.set, o.luo, NAME) == -EINVAL);
	CHECK(lu_set_unpreserve(o.set) == -EINVAL);
	CHECK(lu_set_retrieve(o.set) == -EINVAL);
	CHECK(lu_set_handover(o.set) == -EINVAL);
	CHECK(lu_set_finish(o.set) == -EINVAL);
	CHECK(lu_set_take_over(o.set) == -EINVAL);
	CHECK(lu_set_session(o.set) == -ENOENT);
	lu_set_free(o.set);
	owner_describe(&o);
	CHECK(lu_set_preserve(o.set, o.luo, "") == -EINVAL);
	CHECK(lu_set_preserve(o.set, o.iommufd, NAME) == -ENOTTY);
	CHECK(lu_set_preserve(o.set, -1, NAME) == -EBADF);
	CHECK(lu_set_preserve(o.set, o.luo, NAME) >= 0);
	CHECK(lu_set_add_memory(o.set, "more", o.memory[0]) == -EBUSY);
	CHECK(lu_set_preserve(o.set, o.luo, NAME) == -EBUSY);
	CHECK(lu_set_finish(o.set) == -EINVAL);
	lu_set_free(o.set);
	owner_end(&o);
	lu_set_free(NULL);
}

/* Members that cannot be. */
static void test_bad_members(void)
{
	char name[LU_NAME_SIZE + 1];
	struct lu_member member;
	struct owner o;
	struct lu_set *set;
	int empty = memfd_create("empty", MFD_CLOEXEC);
	int closed = dup(empty);

	owner_begin(&o);
	owner_describe(&o);
	set = o.set;
	/* Nothing is opened before it is tried */
	close(closed);
	memset(name, 'x', LU_NAME_SIZE);
	name[LU_NAME_SIZE] = '\0';
	CHECK(lu_set_add_memory(set, name, o.memory[0]) == -EINVAL);
	CHECK(lu_set_add_memory(set, "", o.memory[0]) == -EINVAL);
	CHECK(lu_set_add_memory(set, "a\nb", o.memory[0]) == -EINVAL);
	CHECK(lu_set_add_memory(set, "ram", o.memory[0]) == -EEXIST);
	CHECK(lu_set_add_memory(set, "new", -1) == -EBADF);
	CHECK(lu_set_add_memory(set, "new", empty) == -EINVAL);
	CHECK(lu_set_add_iommufd(set, "new", -1) == -EBADF);
	CHECK(lu_set_add_iommufd(set, "new", closed) == -EBADF);
	CHECK(lu_set_add_iommufd(set, "nvme", o.iommufd) == -EEXIST);
	CHECK(lu_set_add_ioas(set, "new", "none", 1) == -ENOENT);
	CHECK(lu_set_add_ioas(set, "new", "ram", 1) == -EINVAL);
	CHECK(lu_set_add_ioas(set, "new", "iommufd", 0) == -EINVAL);
	CHECK(lu_set_add_hwpt(set, "new", "none", 1) == -ENOENT);
	CHECK(lu_set_add_hwpt(set, "new", "iommufd", 1) == -EINVAL);
	CHECK(lu_set_add_hwpt(set, "new", "ioas", 0) == -EINVAL);
	CHECK(lu_set_add_hwpt(set, "ram", "other", 9) == -EEXIST);
	CHECK(lu_set_add_device(set, "new", o.memory[0], "pt0") == -ENODEV);
	CHECK(lu_set_add_device(set, "new", -1, "pt0") == -EBADF);
	CHECK(lu_set_add_device(set, "new", o.devices[0], "x") == -ENOENT);
	CHECK(lu_set_add_device(set, "new", o.devices[0], "ram") == -EINVAL);
	CHECK(lu_set_add_mapping(set, "x", "ram", 0, 1, 0, RW) == -ENOENT);
	CHECK(lu_set_add_mapping(set, "ioas", "x", 0, 1, 0, RW) == -ENOENT);
	CHECK(lu_set_add_mapping(set, "pt0", "ram", 0, 1, 0, RW) == -EINVAL);
	CHECK(lu_set_add_mapping(set, "ioas", "nvme", 0, 1, 0, RW) == -EINVAL);
	CHECK(lu_set_add_mapping(set, "ioas", "ram", 0, 1, 0, 0) == -EINVAL);
	CHECK(lu_set_add_mapping(set, "ioas", "ram", 0, 1, 0, 4) == -EINVAL);
	CHECK(lu_set_add_mapping(set, "ioas", "ram", 0, 0, 0, RW) == -EINVAL);
	CHECK(lu_set_add_mapping(set, "ioas", "ram", 1, 4 * PAGE, 0, RW) ==
	      -EINVAL);
	CHECK(lu_set_add_mapping(set, "ioas", "ram", UINT64_MAX, 2, 0, RW) ==
	      -EINVAL);
	CHECK(lu_set_add_mapping(set, "ioas", "ram", 0, 2, UINT64_MAX, RW) ==
	      -EINVAL);
	CHECK(lu_set_add_bar(set, "ioas", "ram", 0, 0, 1, 0, RW) == -EINVAL);
	CHECK(lu_set_add_bar(set, "ioas", "idle", 0, 0, 1, 0, RW) == -EINVAL);
	CHECK(lu_set_add_bar(set, "ioas", "igb", 6, 0, 1, 0, RW) == -EINVAL);
	CHECK(lu_set_add_bar(set, "ioas", "igb", 1 << 16, 0, 1, 0, RW) ==
	      -EINVAL);
	CHECK(lu_set_find(set, "new", &member) == -ENOENT);
	CHECK(lu_set_find(set, "", &member) == -ENOENT);
	CHECK(lu_set_member(set, 15, &member) == -ENOENT);
	CHECK(lu_set_failed(set, &member) == -ENOENT);
	CHECK(lu_set_take_fd(set, "new") == -ENOENT);
	CHECK(lu_set_take_fd(set, "ioas") == -EBADF);
	/* The iommufd of an HWPT that was refused does not cross for it */
	CHECK(!find(set, "plain").token && find(set, "iommufd").token);
	/* Memory that shrank under its mapping */
	CHECK(!ftruncate(o.memory[0], PAGE));
	CHECK(lu_set_preserve(set, o.luo, NAME) == -EINVAL);
	CHECK(!lu_set_failed(set, &member) && member.kind == LU_MAPPING);
	CHECK(!ftruncate(o.memory[0], 4L * PAGE));
	/* A file that was closed under the set */
	close(o.memory[1]);
	CHECK(lu_set_preserve(set, o.luo, NAME) == -EBADF);
	CHECK(!lu_set_failed(set, &member) && !strcmp(member.name, "rom"));
	CHECK(!fake_count_preserved() && !fake_count_marks());
	lu_set_free(set);
	close(empty);
	owner_end(&o);
}

/* As many members as there can be, and not one more. */
static void test_full(void)
{
	struct lu_set *set;
	int memory = memory_new();
	char name[16];

	CHECK(!lu_set_new(&set));
	for (int i = 0; i < LU_SET_MAX; i++) {
		snprintf(name, sizeof(name), "m%d", i);
		CHECK(!lu_set_add_memory(set, name, memory));
	}
	CHECK(lu_set_add_memory(set, "more", memory) == -ENOSPC);
	lu_set_free(set);
	close(memory);
}

/* What is in the session is not what the manifest says. */
static void test_hostile_session(void)
{
	int luo, session, memory, manifest;
	struct lu_set *set;

	for (int n = 0; n < 4; n++) {
		fake_reset();
		luo = lu_open();
		session = lu_session_create(luo, NAME);
		memory = memory_new();
		manifest = n == 2 ? fake_device(bdfs[0]) :
				    memfd_create("manifest", MFD_CLOEXEC);
		if (n == 1)
			CHECK(!ftruncate(manifest, 1L << 40));
		if (n == 2)
			CHECK(!lu_device_bind(manifest, lu_iommufd_open(),
					      &(uint32_t){ 0 }));
		CHECK(!lu_session_preserve(session, memory, 1));
		CHECK(n == 3 || !lu_session_preserve(session, manifest,
						     LU_MANIFEST_TOKEN));
		fake_jump();
		close(session);
		session = lu_session_retrieve(luo, NAME);
		CHECK(session >= 0);
		CHECK(lu_set_open(&set, session) ==
		      (n == 3 ? -ENOENT : -EBADMSG));
		CHECK(!set);
		/* It is still the caller's */
		CHECK(!close(session));
		close(memory);
		close(manifest);
		close(luo);
	}
}

/* The manifest is good, but what it names is something else. */
static void test_wrong_members(void)
{
	static const struct {
		struct lu_record rec;
		int error;
	} cases[] = {
		{ { .kind = LU_MEMORY, .token = 1, .length = 4 * PAGE }, 0 },
		{ { .kind = LU_MEMORY, .token = 1, .length = PAGE }, -ESTALE },
		{ { .kind = LU_MEMORY, .token = 3, .length = PAGE }, -ENOENT },
		{ { .kind = LU_DEVICE, .token = 2, .bdf = 0x100 }, 0 },
		{ { .kind = LU_DEVICE, .token = 2, .bdf = 0x101 }, -ESTALE },
		{ { .kind = LU_DEVICE, .token = 2, .segment = 1, .bdf = 0x100 },
		  -ESTALE },
		{ { .kind = LU_DEVICE, .token = 1, .bdf = 0x100 }, -ENODEV },
	};
	size_t size = lu_manifest_size(1);
	struct lu_member member;
	char buf[256];

	CHECK(size <= sizeof(buf));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct lu_record rec = cases[i].rec;
		int luo, session, files[4];
		struct lu_set *set;
		uint32_t id;

		fake_reset();
		luo = lu_open();
		session = lu_session_create(luo, NAME);
		files[0] = memory_new();
		files[1] = fake_device(bdfs[0]);
		files[2] = lu_iommufd_open();
		files[3] = memfd_create("manifest", MFD_CLOEXEC);
		CHECK(!lu_device_bind(files[1], files[2], &id));
		rec.parent = -1;
		rec.source = -1;
		rec.name[0] = 'x';
		lu_manifest_write(buf, &rec, 1);
		CHECK(write(files[3], buf, size) == (ssize_t)size);
		CHECK(!lu_session_preserve(session, files[0], 1));
		CHECK(!lu_session_preserve(session, files[1], 2));
		CHECK(!lu_session_preserve(session, files[3],
					   LU_MANIFEST_TOKEN));
		fake_jump();
		close(session);
		CHECK(!lu_set_open(&set, lu_session_retrieve(luo, NAME)));
		CHECK(lu_set_retrieve(set) == cases[i].error);
		CHECK(lu_set_failed(set, &member) ==
		      (cases[i].error ? 0 : -ENOENT));
		CHECK((find(set, "x").fd >= 0) == !cases[i].error);
		lu_set_free(set);
		close(luo);
		for (int n = 0; n < 4; n++)
			close(files[n]);
	}
}

int main(void)
{
	test_two_updates();
	test_preserve_rolls_back();
	test_memory_first();
	test_dirty();
	test_take_over_goes_on();
	test_irqs();
	test_restart();
	test_no_numbers();
	test_take_fd();
	test_device_gone();
	test_modes();
	test_shared_session();
	test_shared_failure();
	test_states();
	test_bad_members();
	test_full();
	test_hostile_session();
	test_wrong_members();
	return 0;
}
