# SPDX-License-Identifier: GPL-2.0-only
"""What the IOMMU (Intel VT-d) would do with a device's DMA, read from the machine's memory.

The tables are those that the hardware walks: the root table whose address was given to the unit
last (QEMU's trace has it), a context table for each bus, and in scalable mode a PASID directory
and a PASID table for each device.

What the unit was told to forget, and when, is in QEMU's trace; invalidations() reads that as
section 6.5.2 of the specification says. QEMU 10.0 shows none of the descriptors that are for PASID
entries: queue() has what is in the queue in memory, where each stays until its place is needed.
"""

import enum
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
PENDING = 32


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


class Kind(enum.Enum):
    """What a descriptor in the invalidation queue is for, by the type that it has."""

    CONTEXT = 1
    IOTLB = 2
    DEVICE_TLB = 3
    INTERRUPTS = 4
    WAIT = 5
    PASID_IOTLB = 6
    PASID_CACHE = 7
    PASID_DEVICE_TLB = 8


@dataclass(frozen=True)
class Invalidation:
    """A descriptor of the invalidation queue; what its kind does not have is None.

    bdf is the device whose requester ID it has, function_mask how many more of its functions are
    meant; pf the physical function whose queue is not to run over, or 0000:00:00.0. pending is how
    many invalidations the device can have before it. Addresses from address on, size bytes, are
    forgotten; hint: the tables that lead there have not changed. A wait has the address that its
    data is written to; fence: what comes after it begins when it is done.
    """

    kind: Kind
    granularity: str = None
    domain: int = None
    bdf: str = None
    function_mask: int = None
    pf: str = None
    pasid: int = None
    pending: int = None
    address: int = None
    size: int = None
    hint: bool = None
    data: int = None
    fence: bool = None
    time: float = field(default=None, compare=False)

    def covers(self, address, size):
        """Tell whether all of a range of addresses is forgotten."""
        return self.size is not None and self.address <= address \
            and address + size <= self.address + self.size


def _bits(word, high, low):
    """Return some bits of a word."""
    return word >> low & (1 << high - low + 1) - 1


def _masked(high):
    """Return the range of an IOTLB's descriptor: its address mask counts powers of two of pages."""
    size = PAGE << _bits(high, 5, 0)
    return {"address": high & -size & -PAGE, "size": size, "hint": bool(high >> 6 & 1)}


def _sized(high, size_bit):
    """Return the range of a device TLB's descriptor: the lowest 0 in its address tells the size."""
    pages = high >> 12
    if not high >> size_bit & 1:
        return {"address": pages * PAGE, "size": PAGE}
    size = 2 * PAGE * (~pages & pages + 1)
    return {"address": pages * PAGE & -size, "size": size}


def _physical(low):
    """Return the physical function of a device, whose number is in two parts."""
    return {"pf": trace.bdf_of_id(_bits(low, 63, 52) << 4 | _bits(low, 15, 12))}


def _context(low, high):
    """Decode what is for entries of the context cache (6.5.2.1)."""
    del high
    granularity = {1: "global", 2: "domain", 3: "device"}.get(_bits(low, 5, 4))
    domain = {"domain": _bits(low, 31, 16)} if granularity in ("domain", "device") else {}
    device = {"bdf": trace.bdf_of_id(_bits(low, 47, 32)), "function_mask": _bits(low, 49, 48)} \
        if granularity == "device" else {}
    return {"granularity": granularity, **domain, **device}


def _pasid_cache(low, high):
    """Decode what is for PASID entries (6.5.2.2)."""
    del high
    granularity = {0: "domain", 1: "pasid", 3: "global"}.get(_bits(low, 5, 4))
    domain = {"domain": _bits(low, 31, 16)} if granularity in ("domain", "pasid") else {}
    pasid = {"pasid": _bits(low, 51, 32)} if granularity == "pasid" else {}
    return {"granularity": granularity, **domain, **pasid}


def _iotlb(low, high):
    """Decode what is for the IOTLB (6.5.2.3)."""
    granularity = {1: "global", 2: "domain", 3: "pages"}.get(_bits(low, 5, 4))
    domain = {"domain": _bits(low, 31, 16)} if granularity in ("domain", "pages") else {}
    return {"granularity": granularity, **domain,
            **(_masked(high) if granularity == "pages" else {})}


def _pasid_iotlb(low, high):
    """Decode what is for the IOTLB, by PASID (6.5.2.4)."""
    granularity = {2: "pasid", 3: "pages"}.get(_bits(low, 5, 4))
    return {"granularity": granularity, "domain": _bits(low, 31, 16), "pasid": _bits(low, 51, 32),
            **(_masked(high) if granularity == "pages" else {})}


def _device_tlb(low, high):
    """Decode what is for a device's TLB (6.5.2.5)."""
    return {"granularity": "pages", "bdf": trace.bdf_of_id(_bits(low, 47, 32)), **_physical(low),
            "pending": _bits(low, 20, 16) or PENDING, **_sized(high, 0)}


def _pasid_device_tlb(low, high):
    """Decode what is for a device's TLB, by PASID (6.5.2.6)."""
    return {"granularity": "pages", "bdf": trace.bdf_of_id(_bits(low, 31, 16)), **_physical(low),
            "pasid": _bits(low, 51, 32), "pending": _bits(low, 8, 4) or PENDING,
            **_sized(high, 11)}


def _interrupts(low, high):
    """Decode what is for entries of the interrupt remapping table (6.5.2.7)."""
    del high
    return {"granularity": "entries" if low >> 4 & 1 else "global"}


def _wait(low, high):
    """Decode what tells that all before it was done (6.5.2.8)."""
    writes = {"address": high & ~3, "data": _bits(low, 63, 32)} if low >> 5 & 1 else {}
    return {**writes, "fence": bool(low >> 6 & 1)}


DECODERS = {
    Kind.CONTEXT: _context,
    Kind.IOTLB: _iotlb,
    Kind.DEVICE_TLB: _device_tlb,
    Kind.INTERRUPTS: _interrupts,
    Kind.WAIT: _wait,
    Kind.PASID_IOTLB: _pasid_iotlb,
    Kind.PASID_CACHE: _pasid_cache,
    Kind.PASID_DEVICE_TLB: _pasid_device_tlb,
}


def decode(low, high, time=None):
    """Return the Invalidation that a descriptor's first two words are; None for other types."""
    number = _bits(low, 11, 9) << 4 | _bits(low, 3, 0)
    if number not in {kind.value for kind in Kind}:
        return None
    kind = Kind(number)
    return Invalidation(kind, time=time, **DECODERS[kind](low, high))


def invalidations(events):
    """Return the Invalidations that the IOMMU has read from its queue, of those QEMU traces."""
    found = (decode(event.fields["low"], event.fields["high"], event.time) for event in events
             if event.name == "vtd_inv_desc")
    return [item for item in found if item]


def queue(machine):
    """Return what the invalidation queue has in memory, by its place there: old and new."""
    event = machine.trace("vtd_inv_qi_setup")[-1]
    base, entries = event.fields["addr"], event.fields["size"]
    step = 4 if Tables(machine).scalable else 2
    data = machine.memory(base, 8 * step * entries)
    words = [int.from_bytes(data[i:i + 8], "little") for i in range(0, len(data), 8)]
    return [decode(*words[i:i + 2]) for i in range(0, len(words), step)]
