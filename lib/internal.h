/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of the library share, and nobody else sees.
 */
#ifndef LU_INTERNAL_H
#define LU_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "libliveupdate.h"

#define PCI_BARS 6
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

int lu_ioctl(int fd, unsigned long request, void *arg);
int lu_hwpt_make(int iommufd, uint32_t dev_id, uint32_t ioas_id, bool dirty,
		 uint32_t *hwpt_id);
int lu_open_file(const char *path);
FILE *lu_open_fdinfo(int fd);
void lu_bdf_write(char text[LU_BDF_SIZE], uint32_t segment, uint16_t bdf);
int lu_bdf_parse(const char *text, uint32_t *segment, uint16_t *bdf);
void lu_irqs_off(int device);
int lu_device_address(int device, uint32_t *segment, uint16_t *bdf);

#endif /* LU_INTERNAL_H */
