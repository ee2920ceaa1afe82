# SPDX-License-Identifier: GPL-2.0-only
"""What the IOMMU (Intel VT-d) would do with a device's DMA, read from the machine's memory.

The tables are those that the hardware walks: the root table whose address was given to the unit
last (QEMU's trace has it), a context table for each bus, and in scalable mode a PASID directory
and a PASID table for each device.
"""

from dataclasses import dataclass, field

from . import trace

PAGE = 4096
BUSES = 256
PLACES = 256
PRESENT = 1
WRITABLE = 2
LARGE = 1 << 7
BITS_OF_LEVEL = 9
ENTRIES = 512
ADDRESS = ~0xfff & (1 << 52) - 1
CONTEXT_SIZE = {False: 16, True: 32}
PASID_ENTRY = 64


@dataclass(frozen=True)
class Entry:
    """How a device's DMA is translated: the domain's id, the address of its page table.

    levels is how many tables lead to a page.
    """

    domain: int
    table: int
    levels: int = field(default=0, compare=False)


class Tables:
    """The translation tables of a machine with one IOMMU unit, at this moment."""

    def __init__(self, machine):
        """Find the root table."""
        self._machine = machine
        event = machine.trace("vtd_reg_dmar_root")[-1]
        self.root = event.fields["addr"]
        self.scalable = bool(event.fields["scalable"])

    def _words(self, address, count):
        """Read 64-bit words of the machine's memory."""
        data = self._machine.memory(address, 8 * count)
        return [int.from_bytes(data[i:i + 8], "little") for i in range(0, len(data), 8)]

    def entry(self, bdf):
        """Return the Entry of a device, or None: the IOMMU refuses its DMA."""
        return self.entries().get(bdf)

    def entries(self):
        """Return the Entry of each device that has one, by the device's address."""
        root = self._words(self.root, 2 * BUSES)
        found = {}
        for bus in range(BUSES):
            for half, pointer in enumerate(root[2 * bus:2 * bus + 2]):
                if pointer & PRESENT and (self.scalable or not half):
                    found.update(self._context(bus, half * PLACES // 2, pointer & ADDRESS))
        return found

    def _context(self, bus, first, table):
        """Read the entries of a context table, of which the first is for the given place."""
        size = CONTEXT_SIZE[self.scalable] // 8
        words = self._words(table, PAGE // 8)
        found = {}
        for i in range(0, len(words), size):
            low, high = words[i:i + 2]
            if not low & PRESENT:
                continue
            if self.scalable:
                entry = self._pasid_entry(low & ADDRESS, high & 0xfffff)
            else:
                entry = Entry(high >> 8 & 0xffff, low & ADDRESS, (high & 7) + 2)
            if entry:
                found[trace.bdf_of_id(bus << 8 | first + i // size)] = entry
        return found

    def _pasid_entry(self, directory, pasid):
        """Return the Entry of a PASID: the one that DMA without a PASID goes by."""
        folder, = self._words(directory + 8 * (pasid >> 6), 1)
        if not folder & PRESENT:
            return None
        words = self._words((folder & ADDRESS) + PASID_ENTRY * (pasid & 63), PASID_ENTRY // 8)
        if not words[0] & PRESENT:
            return None
        first_stage = words[0] >> 6 & 7 == 1
        levels = (words[2] >> 2 & 3) + 4 if first_stage else (words[0] >> 2 & 7) + 2
        return Entry(words[1] & 0xffff, words[2 if first_stage else 0] & ADDRESS, levels)

    def reach(self, bdf):
        """Return what a device reaches: (its own address, the memory's, size), in their order."""
        entry = self.entry(bdf)
        return self._leaves(entry.table, entry.levels, 0) if entry else []

    def _leaves(self, table, level, iova):
        """Return what is below a page table; those of both stages are alike in that."""
        size = PAGE << BITS_OF_LEVEL * (level - 1)
        found = []
        for i, word in enumerate(self._words(table, ENTRIES)):
            if not word & (PRESENT | WRITABLE):
                continue
            place = iova + i * size
            if level == 1 or word & LARGE:
                found.append((place, word & ADDRESS & -size, size))
            else:
                found += self._leaves(word & ADDRESS, level - 1, place)
        return found


def troubles(events):
    """Return those events that show that translation was off, or had no root table."""
    return [event for event in events
            if event.name == "vtd_dmar_enable" and not event.fields["enable"]
            or event.name == "vtd_reg_dmar_root" and not event.fields["addr"]]
