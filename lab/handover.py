# SPDX-License-Identifier: GPL-2.0-only
"""What one kernel leaves for the next, as it is in the machine's memory; read and changed there.

    handover = Handover(m)      # the outgoing kernel runs
    m.kexec(look=handover.read)  # between the kernels
    print(handover.pci, handover.iommu)

Fields are found by name: handover.iommu["devices"] is an address, of which FIELDS has the layout.
"""

import struct

from .trace import bdf_of_id

FDT_BEGIN_NODE, FDT_END_NODE, FDT_PROP = 1, 2, 3
ADDRESS = ~0xfff & (1 << 52) - 1

# Offset and format of what tests look at: include/linux/kho/abi.
LUO = {"sessions": (16, "Q"), "flbs": (24, "Q")}
LIST = {"next": (0, "Q"), "count": (8, "Q")}
SESSION_SIZE, FILE_SIZE, FLB_SIZE = 80, 64, 64
SESSION = {"files": (64, "Q"), "file_count": (72, "Q")}
FILE = {"data": (48, "Q"), "token": (56, "Q")}
PCI = {"list": (0, "Q"), "count": (8, "I"), "capacity": (12, "I")}
PCI_DEVICE_SIZE = 128
PCI_DEVICE = {"bdf": (4, "H"), "role": (6, "B"), "mode": (7, "B"), "refcount": (8, "I"),
              "device": (14, "H"), "flags": (48, "I"), "physfn": (60, "H"),
              "control": (64, "H"), "total_vfs": (66, "H"), "initial_vfs": (68, "H"),
              "num_vfs": (70, "H"), "offset": (72, "H"), "stride": (74, "H"),
              "vf_device": (76, "H"), "last_bus": (78, "H"), "page_size": (80, "I"),
              "vf_bar": (84, "I"), "vf_bar_order": (108, "B"), "vfs": (114, "H"),
              "data": (120, "Q")}
IGB = {"flags": (0, "I"), "num_vfs": (4, "I"), "rss_queues": (8, "I"), "vlan": (840, "H")}
VFIO = {"bdf": (4, "H"), "mode": (6, "H"), "flags": (8, "I"), "command": (20, "I"),
        "irq_kind": (112, "I"), "irq_count": (120, "I"), "irq_armed": (128, "Q")}
IOMMU = {"domains": (0, "Q"), "domain_count": (8, "I"), "devices": (16, "Q"),
         "device_count": (24, "I"), "device_capacity": (28, "I"), "units": (32, "Q")}
DOMAIN_SIZE, DEVICE_SIZE, UNIT_SIZE = 16, 16, 32
DOMAIN = {"top": (0, "Q"), "format": (8, "B"), "levels": (9, "B")}
DEVICE = {"bdf": (4, "H"), "state": (6, "B"), "flags": (7, "B"), "domain": (8, "I"),
          "unit": (12, "I")}
UNIT = {"root": (8, "Q"), "type": (16, "I"), "devices": (20, "I"), "irq_table": (24, "Q")}
IOMMUFD = {"count": (0, "I"), "reserved": (4, "I")}
MEMFD = {"size": (8, "Q"), "flags": (20, "I"), "folios": (24, "Q"), "chunk": (32, "Q"),
         "pages": (40, "I")}
HUGETLB = {"flags": (20, "I"), "order": (24, "I"), "nr": (32, "Q"), "chunk": (40, "Q")}


class Record:
    """A structure in the machine's memory; its fields are read and written as items."""

    def __init__(self, machine, address, fields):
        """Take its address and the layout."""
        self._machine = machine
        self.address = address
        self._fields = fields

    def __getitem__(self, name):
        """Read a field."""
        offset, kind = self._fields[name]
        data = self._machine.memory(self.address + offset, struct.calcsize(kind))
        return struct.unpack("<" + kind, data)[0]

    def __setitem__(self, name, value):
        """Write a field."""
        offset, kind = self._fields[name]
        self._machine.poke(self.address + offset, struct.pack("<" + kind, value))


class Handover:
    """All that crosses; read() is to be called between the kernels."""

    def __init__(self, machine):
        """Find where the outgoing kernel will leave it."""
        self.machine = machine
        fdt = bytes.fromhex(machine.sh("xxd -p /sys/kernel/debug/kho/out/fdt").replace("\n", ""))
        self.luo = Record(machine, _subtree(fdt, b"LUO"), LUO)
        self.flbs = {}
        self.sessions = []
        self.files = {}

    def record(self, address, fields):
        """Return a structure."""
        return Record(self.machine, address, fields)

    def words(self, address, count=1):
        """Read 64-bit words."""
        return struct.unpack(f"<{count}Q", self.machine.memory(address, 8 * count))

    def poke(self, address, *words):
        """Write 64-bit words."""
        self.machine.poke(address, struct.pack(f"<{len(words)}Q", *words))

    def read(self):
        """Read what was left: shared objects by name, files by token."""
        flbs = self.luo["flbs"]
        for i in range(self.record(flbs, LIST)["count"]):
            entry = flbs + 16 + i * FLB_SIZE
            name = self.machine.memory(entry, 48).rstrip(b"\0").decode()
            self.flbs[name.rpartition("-")[0]] = Record(self.machine, entry, FILE)
        sessions = self.luo["sessions"]
        self.sessions = [self.record(sessions + 16 + i * SESSION_SIZE, SESSION)
                         for i in range(self.record(sessions, LIST)["count"])]
        for session in self.sessions:
            files = session["files"]
            for j in range(self.record(files, LIST)["count"]):
                file = self.record(files + 16 + j * FILE_SIZE, FILE)
                self.files[file["token"]] = file
        return self

    def _flb(self, name, fields):
        return self.record(self.flbs[name]["data"], fields)

    @property
    def pci(self):
        """The PCI core's head."""
        return self._flb("pci", PCI)

    def pci_devices(self):
        """Return the entries of the PCI core's list."""
        head = self.pci
        return [self.record(head["list"] + i * PCI_DEVICE_SIZE, PCI_DEVICE)
                for i in range(head["count"])]

    @property
    def iommu(self):
        """The IOMMU core's head."""
        return self._flb("iommu", IOMMU)

    def domain(self, index=0):
        """Return an entry of the list of page tables."""
        return self.record(self.iommu["domains"] + index * DOMAIN_SIZE, DOMAIN)

    def device(self, index=0):
        """Return an entry of the list of devices."""
        return self.record(self.iommu["devices"] + index * DEVICE_SIZE, DEVICE)

    def place_of(self, bdf):
        """Return which entry of the list of devices is a device's, by its address."""
        return next(i for i in range(self.iommu["device_count"])
                    if bdf_of_id(self.device(i)["bdf"]) == bdf)

    def unit(self, index=0):
        """Return an entry of the list of units."""
        return self.record(self.iommu["units"] + index * UNIT_SIZE, UNIT)

    def file(self, token, fields):
        """Return what crosses of a file."""
        return self.record(self.files[token]["data"], fields)

    def context(self, device=0):
        """Return the address of a device's context entry in the tables of its unit."""
        scalable = self.unit()["type"] == 2
        bdf = self.device(device)["bdf"]
        half = scalable and bdf & 0xff >= 0x80
        entry, = self.words(self.unit()["root"] + (bdf >> 8) * 16 + 8 * half)
        place = (bdf & 0xff) % (0x80 if scalable else 0x100)
        return (entry & ADDRESS) + place * (32 if scalable else 16)

    def leaf(self, domain=0):
        """Return the address of the first entry of a page table that maps memory."""
        table = self.domain(domain)["top"]
        for _ in range(self.domain(domain)["levels"] - 1):
            table = next(word for word in self.words(table, 512) if word & 3) & ADDRESS
        return next(table + 8 * i for i, word in enumerate(self.words(table, 512)) if word & 3)


def _subtree(fdt, name):
    """Return where the data of a node of KHO's device tree is: its last property, of two.

    What debugfs shows of the tree ends before the names of properties do.
    """
    offset, = struct.unpack_from(">I", fdt, 8)
    node, value = None, None
    while True:
        token, = struct.unpack_from(">I", fdt, offset)
        offset += 4
        if token == FDT_BEGIN_NODE:
            end = fdt.index(b"\0", offset)
            node = fdt[offset:end]
            offset = end + 4 & ~3
        elif token == FDT_PROP:
            length, = struct.unpack_from(">I", fdt, offset)
            if length == 8:
                value, = struct.unpack_from("<Q", fdt, offset + 8)
            offset += 8 + (length + 3 & ~3)
        elif token == FDT_END_NODE and node == name:
            return value
