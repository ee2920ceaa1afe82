// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A user-space driver's part in a live update, in as few lines as possible.
 *
 * "example BDF" owns a device that has 2 MiB of memory at 4 GiB, and waits for the
 * update; "example" in the next kernel gets it back, running.
 */
#include <libliveupdate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE 0x200000
#define IOVA 0x100000000
#define RW (LU_MAP_READ | LU_MAP_WRITE)
#define MUST(call) must(call, #call)
static int must(int ret, const char *call)
{
	if (ret < 0) {
		fprintf(stderr, "%s: %s\n", call, strerror(-ret));
		exit(1);
	}
	return ret;
}

int main(int argc, char **argv)
{
	int luo = MUST(lu_open()), memory, iommufd, device;
	uint32_t dev_id, ioas, hwpt;
	struct lu_set *set;

	if (argc < 2) {
		MUST(lu_set_open(&set, MUST(lu_session_retrieve(luo, "ex"))));
		MUST(lu_set_take_over(set));
		printf("file %d\n", MUST(lu_set_take_fd(set, "device")));
		return 0;
	}
	memory = memfd_create("dma", MFD_CLOEXEC);
	if (ftruncate(memory, SIZE))
		return 1;
	iommufd = MUST(lu_iommufd_open());
	device = MUST(lu_device_open(argv[1]));
	MUST(lu_device_bind(device, iommufd, &dev_id));
	MUST(lu_ioas_alloc(iommufd, &ioas));
	MUST(lu_ioas_map_file(iommufd, ioas, memory, 0, SIZE, IOVA, RW));
	MUST(lu_hwpt_alloc(iommufd, dev_id, ioas, &hwpt));
	MUST(lu_device_attach(device, hwpt, NULL));
	/* The device begins its work. What is to go along: */
	MUST(lu_set_new(&set));
	MUST(lu_set_add_memory(set, "dma", memory));
	MUST(lu_set_add_iommufd(set, "iommufd", iommufd));
	MUST(lu_set_add_ioas(set, "ioas", "iommufd", ioas));
	MUST(lu_set_add_mapping(set, "ioas", "dma", 0, SIZE, IOVA, RW));
	MUST(lu_set_add_hwpt(set, "hwpt", "ioas", hwpt));
	MUST(lu_set_add_device(set, "device", device, "hwpt"));
	MUST(lu_set_preserve(set, luo, "ex"));
	return close(luo) || pause();
}
