/* SPDX-License-Identifier: GPL-2.0-only */
#include_next <string.h>
#include <linux/types.h>
