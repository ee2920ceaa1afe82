// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which interrupts of a device KVM delivers by itself.
 *
 * QEMU has two eventfds for each vector. While the guest has the vector masked the
 * device signals the one that QEMU waits for, and otherwise the one that KVM makes an
 * interrupt of. Which are masked is in the MSI-X table that the guest sees, QEMU's own:
 * it is read as the guest would, where the guest has put it, with the machine stopped.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lu-qemu.h"

#define ENTRY_WORDS (PCI_MSIX_ENTRY_SIZE / 4)
#define CONTROL_WORD (PCI_MSIX_ENTRY_VECTOR_CTRL / 4)
/* A list of capabilities that is longer goes round in a circle */
#define CAPS_MAX 48

/**
 * struct config - config space of a device
 * @fd: its VFIO file
 * @offset: where config space begins there
 */
struct config {
	int fd;
	off_t offset;
};

static int config_open(struct config *config, int device)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};

	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info))
		return -errno;
	*config = (struct config){ device, info.offset };
	return 0;
}

/* Some bytes of it, little-endian as x86 is; 0 if they cannot be read. */
static uint32_t config_read(const struct config *config, unsigned int at,
			    unsigned int size)
{
	uint32_t value = 0;

	if (pread(config->fd, &value, size, config->offset + at) != size)
		return 0;
	return value;
}

static unsigned int find_capability(const struct config *config, uint8_t id)
{
	unsigned int at = config_read(config, PCI_CAPABILITY_LIST, 1);

	for (int n = 0; at >= PCI_STD_HEADER_SIZEOF && n < CAPS_MAX; n++) {
		if (config_read(config, at + PCI_CAP_LIST_ID, 1) == id)
			return at;
		at = config_read(config, at + PCI_CAP_LIST_NEXT, 1) & ~3U;
	}
	return 0;
}

/* Where the guest sees the table, or 0. */
static uint64_t table_address(const json_t *bars, const char *device,
			      uint32_t table)
{
	json_t *bar;
	size_t i;

	json_array_foreach(bars, i, bar) {
		json_int_t address =
			json_integer_value(json_object_get(bar, "address"));

		if (!strcmp(json_text(bar, "device"), device) && address > 0 &&
		    json_integer_value(json_object_get(bar, "bar")) ==
			    (table & PCI_MSIX_TABLE_BIR))
			return address + (table & PCI_MSIX_TABLE_OFFSET);
	}
	return 0;
}

/* The next word of a dump like "00000000fea00000: 0x00000001 0x...". */
static bool next_word(const char **dump, uint32_t *word)
{
	const char *at = strstr(*dump, " 0x");
	char *end;

	if (!at)
		return false;
	*word = strtoul(at + 1, &end, 16);
	*dump = end;
	return true;
}

static int read_table(struct vm *vm, uint64_t address, unsigned int vectors,
		      json_t *unmasked)
{
	const char *dump;
	char command[64];
	json_t *answer;
	uint32_t word;
	int ret;

	snprintf(command, sizeof(command), "xp /%uwx 0x%llx",
		 vectors * ENTRY_WORDS, (unsigned long long)address);
	ret = qmp_call(&vm->qmp, "human-monitor-command",
		       json_pack("{s:s}", "command-line", command), &answer);
	if (ret)
		return ret;
	dump = json_string_value(answer) ?: "";
	for (unsigned int i = 0; i < vectors * ENTRY_WORDS; i++) {
		if (!next_word(&dump, &word)) {
			ret = failed(-EPROTO, "QEMU does not show memory");
			break;
		}
		if (i % ENTRY_WORDS == CONTROL_WORD &&
		    !(word & PCI_MSIX_ENTRY_CTRL_MASKBIT))
			json_array_append_new(unmasked,
					      json_integer(i / ENTRY_WORDS));
	}
	json_decref(answer);
	return ret;
}

/**
 * irqs_unmasked() - which MSI-X vectors of a device has the guest unmasked?
 * @vm: the machine, which is stopped
 * @bars: where the guest sees its devices' BARs, as struct outgoing has it
 * @device: name of the device there
 * @fd: its VFIO file
 * @unmasked: array to add the vectors' numbers to: none when MSI-X is not used, or it
 *	      cannot be told where the table is
 *
 * Return: 0 or a negative errno
 */
int irqs_unmasked(struct vm *vm, const json_t *bars, const char *device, int fd,
		  json_t *unmasked)
{
	unsigned int cap, flags;
	struct config config = {};
	uint64_t address;
	int ret = config_open(&config, fd);

	if (ret)
		return failed(ret, "%s: config space: %s", device,
			      strerror(-ret));
	cap = find_capability(&config, PCI_CAP_ID_MSIX);
	flags = cap ? config_read(&config, cap + PCI_MSIX_FLAGS, 2) : 0;
	if (!(flags & PCI_MSIX_FLAGS_ENABLE))
		return 0;
	address = table_address(bars, device,
				config_read(&config, cap + PCI_MSIX_TABLE, 4));
	if (!address)
		return 0;
	return read_table(vm, address, (flags & PCI_MSIX_FLAGS_QSIZE) + 1,
			  unmasked);
}
