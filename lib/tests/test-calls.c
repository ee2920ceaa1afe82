// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Single calls on files that are not what they should be, with the machine's own
 * kernel, whatever it knows; and what needs no kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fake.h"

/* Each call that takes a file as its first argument, with this one. */
static void call_all(int fd, int results[], int *count)
{
	char name[LU_SESSION_NAME_SIZE], bdf[LU_BDF_SIZE];
	struct lu_device_state state;
	const int32_t eventfd = -1;
	struct lu_area area;
	struct lu_irqs irqs;
	struct lu_set *set;
	uint32_t id, room = 1;
	int n = 0;

	results[n++] = lu_session_create(fd, "name");
	results[n++] = lu_session_retrieve(fd, "name");
	results[n++] = lu_session_name(fd, name);
	results[n++] = lu_session_preserve(fd, 0, 1);
	results[n++] = lu_session_retrieve_fd(fd, 1);
	results[n++] = lu_session_finish(fd);
	results[n++] = lu_set_open(&set, fd);
	results[n++] = lu_device_bind(fd, fd, &id);
	results[n++] = lu_device_attach(fd, 1, &id);
	results[n++] = lu_device_export_bar(fd, 0, 0, 4096);
	results[n++] = lu_device_query(fd, &state);
	results[n++] = lu_device_carry_irqs(fd, 1);
	results[n++] = lu_device_irqs(fd, &irqs);
	results[n++] = lu_device_irqs_restore(fd, LU_IRQ_MSIX, &eventfd, 1);
	results[n++] = lu_ioas_alloc(fd, &id);
	results[n++] = lu_ioas_map_file(fd, 1, fd, 0, 4096, 0, LU_MAP_READ);
	results[n++] = lu_ioas_areas(fd, 1, 0, &area, &room);
	results[n++] = lu_hwpt_alloc(fd, 1, 1, &id);
	results[n++] = lu_hwpt_mark(fd, 1, 1);
	results[n++] = lu_hwpt_unmark(fd, 1, 1);
	results[n++] = lu_hwpt_find(fd, 1, &id);
	/* These two look at what kind of file it is first */
	results[n++] = lu_device_bdf(fd, bdf);
	results[n++] = lu_device_id(fd, &id);
	*count = n;
}

static void test_files(void)
{
	int results[32], count;
	int wrong[] = { open("/dev/null", O_RDWR | O_CLOEXEC),
			memfd_create("wrong", MFD_CLOEXEC) };

	call_all(-1, results, &count);
	for (int i = 0; i < count; i++)
		CHECK(results[i] == -EBADF);
	for (size_t n = 0; n < 2; n++) {
		call_all(wrong[n], results, &count);
		for (int i = 0; i < count; i++)
			CHECK(results[i] ==
			      (i < count - 2 ? -ENOTTY : -ENODEV));
		close(wrong[n]);
	}
}

static void test_names(void)
{
	char name[LU_SESSION_NAME_SIZE + 1];

	memset(name, 'x', LU_SESSION_NAME_SIZE);
	name[LU_SESSION_NAME_SIZE] = '\0';
	CHECK(lu_session_create(-1, "") == -EINVAL);
	CHECK(lu_session_create(-1, name) == -EINVAL);
	CHECK(lu_session_retrieve(-1, "") == -EINVAL);
	CHECK(lu_session_retrieve(-1, name) == -EINVAL);
	name[LU_SESSION_NAME_SIZE - 1] = '\0';
	CHECK(lu_session_create(-1, name) == -EBADF);
	CHECK(lu_session_retrieve(-1, name) == -EBADF);
}

static void test_addresses(void)
{
	static const char *const bad[] = {
		"",
		"0",
		"0000:00:00",
		"0:0:0.0",
		"0000:00:20.0",
		"0000:00:00.8",
		"0000:00:00.0 ",
		"0000:00:00.00",
		"0000:0g:00.0",
		"../../x",
		"0000:00:00.0/x",
		" 0000:00:00.0",
		"0000:-1:00.0",
		"0X00:00:00.0",
		"00000:00:00.0",
		"0000:FF:00.0",
		"123456789:00:00.0",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(lu_device_open(bad[i]) == -EINVAL);
	CHECK(lu_device_open("ffffffff:ff:1f.7") == -ENOENT);
	CHECK(lu_device_open("10000:00:00.0") == -ENOENT);
}

static void test_values(void)
{
	uint32_t id;

	CHECK(lu_ioas_map_file(-1, 1, -1, 0, 1, 0, 0) == -EINVAL);
	CHECK(lu_ioas_map_file(-1, 1, -1, 0, 1, 0, 4) == -EINVAL);
	CHECK(lu_device_export_bar(-1, 6, 0, 4096) == -EINVAL);
	CHECK(lu_device_export_bar(-1, UINT32_MAX, 0, 4096) == -EINVAL);
	CHECK(lu_device_bind(0, -1, &id) == -EBADF);
	CHECK(!strcmp(lu_mode_text(0), "none"));
	CHECK(!strcmp(lu_mode_text(LU_MODE_IDLE), "idle"));
	CHECK(!strcmp(lu_mode_text(LU_MODE_RUNNING), "running"));
	CHECK(!strcmp(lu_mode_text(3), "unknown"));
	for (uint32_t i = 0; i < 6; i++)
		CHECK(strlen(lu_reason_text(i)) > 10);
	CHECK(!strcmp(lu_reason_text(4), lu_reason_text(UINT32_MAX)));
	CHECK(strcmp(lu_reason_text(3), lu_reason_text(4)));
}

int main(void)
{
	test_files();
	test_names();
	test_addresses();
	test_values();
	return 0;
}
