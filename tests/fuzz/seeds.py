#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Make the fuzzers' seeds: what a real kernel leaves for the next, in each mode of VT-d.

    python3 tests/fuzz/seeds.py

An input is made of the pages that a parser reads, laid out as arena.h says, with the addresses in
them changed to where the fuzzer has these pages. To be run again when a layout changes.
"""

import struct
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]

from lab import Machine, Nvme, Igb, Port, Virtio  # noqa: E402  (found through the path above)
from lab.handover import ADDRESS, Handover  # noqa: E402
from lab.running import IOMMUFD_TOKEN, Running  # noqa: E402

PAGE = 4096
RUN = 200
BASE, STEP, FOLIOS = 0x1000_0000, 0x1_0000, 16
PRESENT = 1
MODES = {"legacy": {}, "scalable": {"scalable": True}, "first-stage": {"first_stage": True}}


class Input:
    """An input of a fuzzer, made page by page."""

    def __init__(self, handover):
        """Take the handover, which was read."""
        self._machine = handover.machine
        self._pages = {}

    def add(self, address):
        """Add the page at an address; returns where the input has it."""
        if address not in self._pages:
            self._pages[address] = bytearray(self._machine.memory(address, PAGE))
            assert len(self._pages) <= FOLIOS
        return BASE + list(self._pages).index(address) * STEP

    def word(self, page, offset):
        """Return a word of a page."""
        return struct.unpack_from("<Q", self._pages[page], offset)[0]

    def link(self, page, offset):
        """Add what a page leads to, and make it lead there; returns the address."""
        word = self.word(page, offset)
        target = word & ADDRESS
        struct.pack_into("<Q", self._pages[page], offset, self.add(target) | word & ~ADDRESS)
        return target

    def rename(self, page, offset, number):
        """Change an address that is compared only."""
        word = self.word(page, offset)
        struct.pack_into("<Q", self._pages[page], offset, number << 32 | word & ~ADDRESS)

    def blank(self, page, offset):
        """Add an empty page, of which a page has the number in the lower bits of a word."""
        word = self.word(page, offset)
        self._pages[word] = bytearray(PAGE)
        number = (BASE + (len(self._pages) - 1) * STEP) // PAGE
        struct.pack_into("<Q", self._pages[page], offset, number | word & ~((1 << 52) - 1))

    def data(self):
        """Return the input: runs of bytes that are not all 0."""
        said = b""
        for number, page in enumerate(self._pages.values()):
            said += struct.pack("<BHB", number, 0, 1) + page[:1]
            for offset in range(0, PAGE, RUN):
                run = bytes(page[offset:offset + RUN]).rstrip(b"\0")
                if run:
                    said += struct.pack("<BHB", number, offset, len(run)) + run
        return said


def single(handover, address):
    """Make an input of one page."""
    made = Input(handover)
    made.add(address)
    return made


def pci(handover):
    """The PCI core's list."""
    head = handover.pci.address
    made = single(handover, head)
    made.link(head, 0)
    return made


def iommu(handover):
    """The IOMMU core's lists, and the tables of the first unit."""
    head = handover.iommu.address
    made = single(handover, head)
    domains, _, units = (made.link(head, offset) for offset in (0, 16, 32))
    root = made.link(units, 8)
    # Its table of interrupts is empty, and only its address is looked at
    made.rename(units, 24, 1 << 8)
    tables = {}

    def page_table(page, offset):
        """The same page table has one name in the list and in the tables."""
        number = tables.setdefault(made.word(page, offset) & ADDRESS, len(tables) + 1)
        made.rename(page, offset, number)

    for offset in range(0, PAGE, 16):
        if made.word(domains, offset):
            page_table(domains, offset)
    scalable = handover.unit()["type"] == 2
    for entry in range(0, PAGE, 8):
        if not made.word(root, entry) & PRESENT:
            continue
        table = made.link(root, entry)
        for place in range(0, PAGE, 32 if scalable else 16):
            if not made.word(table, place):
                continue
            if not scalable:
                page_table(table, place)
                continue
            pasids = made.link(made.link(table, place), 0)
            page_table(pasids, 0 if made.word(pasids, 0) >> 6 & 7 == 2 else 16)
    return made


def memfd(handover, token):
    """A memfd, the chunks of its list, the list, and empty pages."""
    head = handover.files[token]["data"]
    made = single(handover, head)
    chunk, offset = head, 32
    while made.word(chunk, offset):
        chunk = made.link(chunk, offset)
        for i in range(8, PAGE, 8):
            if not made.word(chunk, i):
                break
            folios = made.link(chunk, i)
            for folio in range(0, PAGE, 16):
                if made.word(folios, folio):
                    made.blank(folios, folio)
        offset = 0
    return made


def hugetlb():
    """A memfd with huge pages, made up: an input has no room for pages that are so large."""
    def record(number, data, order=0):
        """Put something at the beginning of a folio."""
        return struct.pack("<BHB", number | order << 4, 0, len(data)) + data

    def place(number):
        """Return where the input has a folio."""
        return BASE + number * STEP

    pages, order = range(3, 7), 1
    head = struct.pack("<QQ4IQQIHH", 100, len(pages) * 2 * PAGE - 1000, 11, 1, order, 0,
                       len(pages), place(1), 1, 0, 0)
    chunk = struct.pack("<QQ", 0, place(2))
    addresses = struct.pack(f"<{len(pages)}Q", *map(place, pages))
    return b"".join((record(0, head), record(1, chunk), record(2, addresses),
                     *(record(page, b"\0", order) for page in pages)))


def luo(handover):
    """The chain of sessions, and the shared objects."""
    made = single(handover, handover.luo["sessions"])
    made.add(handover.luo["flbs"])
    return made


def inputs(handover, owner):
    """Make all inputs; returns them by the name of the parser."""
    file, memory, _ = owner.devices["nvme0"].tokens
    tables = iommu(handover)
    return {"pci": pci(handover), "iommu": tables, "vtd": tables, "luo": luo(handover),
            "vfio_pci": single(handover, handover.files[file]["data"]),
            "iommufd": single(handover, handover.files[IOMMUFD_TOKEN]["data"]),
            "memfd": memfd(handover, memory)}


def write(parser, name, data):
    """Keep a seed."""
    folder = HERE / "corpus" / parser
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.seed").write_bytes(data)


def ats():
    """Take a device with ATS and one without through an update; returns what the IOMMU has."""
    topology = (Port(Nvme("nvme0")), Port(Virtio("virtio0")))
    with Machine("seeds-ats", topology=topology, scalable=True, device_iotlb=True) as machine:
        owner = Running(machine)
        owner.open("nvme0", "virtio0")
        owner.preserve(memory=False)
        handover = Handover(machine)
        made = []
        machine.kexec(look=lambda: made.append(iommu(handover.read())))
        return made[0].data()


def main():
    """Take devices through an update in each mode, and with ATS."""
    write("hugetlb", "pages", hugetlb())
    with_ats = ats()
    for parser in ("iommu", "vtd"):
        write(parser, "ats", with_ats)
    for mode, options in MODES.items():
        topology = (Port(Nvme("nvme0")), Port(Igb("igb0")))
        with Machine(f"seeds-{mode}", topology=topology, **options) as machine:
            owner = Running(machine)
            owner.open("nvme0", "igb0", "igb0vf0")
            # As many pages as an input has room for
            for device in owner.devices.values():
                owner.worker.dma_memory(device.memory, "32k", device.iova)
            owner("vfio_irq_on", "Dnvme0", "MSIX", 2)
            owner("vfio_irq_carry", "Dnvme0", 1)
            owner.preserve()
            handover = Handover(machine)
            made = {}
            machine.kexec(look=lambda: made.update(inputs(handover.read(), owner)))
            for parser, seed in made.items():
                write(parser, mode, seed.data())


if __name__ == "__main__":
    main()
