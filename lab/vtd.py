# SPDX-License-Identifier: GPL-2.0-only
"""What the IOMMU (Intel VT-d) would do with a device's DMA, read from the machine's memory.

The tables are those that the hardware walks: the root table whose address was given to the unit
last (QEMU's trace has it), a context table for each bus, and in scalable mode a PASID directory
and a PASID table for each device.
"""

from dataclasses import dataclass

PRESENT = 1
ADDRESS = ~0xfff & (1 << 52) - 1
CONTEXT_SIZE = {False: 16, True: 32}
PASID_ENTRY = 64


@dataclass(frozen=True)
class Entry:
    """How a device's DMA is translated: the domain's id, the address of its page table."""

    domain: int
    table: int


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
        bus, slot, function = (int(part, 16) for part in
                               bdf.partition(":")[2].replace(".", ":").split(":"))
        return self._entry(bus, slot << 3 | function)

    def _entry(self, bus, devfn):
        low, high = self._words(self.root + 16 * bus, 2)
        if self.scalable and devfn >= 128:
            low, devfn = high, devfn - 128
        if not low & PRESENT:
            return None
        size = CONTEXT_SIZE[self.scalable]
        context = self._words((low & ADDRESS) + size * devfn, size // 8)
        if not context[0] & PRESENT:
            return None
        if not self.scalable:
            return Entry(context[1] >> 8 & 0xffff, context[0] & ADDRESS)
        return self._pasid_entry(context[0] & ADDRESS, context[1] & 0xfffff)

    def _pasid_entry(self, directory, pasid):
        """Return the Entry of a PASID: the one that DMA without a PASID goes by."""
        folder, = self._words(directory + 8 * (pasid >> 6), 1)
        if not folder & PRESENT:
            return None
        words = self._words((folder & ADDRESS) + PASID_ENTRY * (pasid & 63), PASID_ENTRY // 8)
        if not words[0] & PRESENT:
            return None
        first_stage = words[0] >> 6 & 7 == 1
        return Entry(words[1] & 0xffff, words[2 if first_stage else 0] & ADDRESS)


def troubles(events):
    """Return those events that show that translation was off, or had no root table."""
    return [event for event in events
            if event.name == "vtd_dmar_enable" and not event.fields["enable"]
            or event.name == "vtd_reg_dmar_root" and not event.fields["addr"]]
