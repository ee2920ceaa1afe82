# SPDX-License-Identifier: GPL-2.0-only
"""Which devices a machine has, and where.

A topology is a tuple of root ports. Below each is a device or a switch with devices below it:

    (Port(Nvme("nvme0")), Port(Switch("sw0", Nvme("nvme1"), Igb("igb1"))))

Each part has a name. Its PCI address is whatever the machine's firmware and kernel make of
it: ask Machine.bdf(name).

A device with SR-IOV, such as igb0, has virtual functions igb0vf0, igb0vf1 and so on, as soon as
Machine.vfs() has made them.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .vhost import QUEUE_SIZE

FIRST_PORT_SLOT = 0x10
DRIVE_SIZE = 64 << 20
# Queues, of which one is for administration, and interrupts that each virtual function of a drive
# can have; and what the physical one has for itself.
VF_QUEUES, VF_VECTORS = 32, 4
PF_QUEUES, PF_VECTORS = 32, 8


def function(name):
    """Return which device a function is of, and its number; that is None but for virtual ones."""
    virtual = re.fullmatch(r"(.+)vf(\d+)", name)
    return (virtual[1], int(virtual[2])) if virtual else (name, None)


def namespace_of(name):
    """Return the number of the namespace that a drive's function has for itself."""
    number = function(name)[1]
    return 1 if number is None else number + 2


def drive(name, run, *, size, content=None, throttling=""):
    """Return QEMU's arguments for what is on a drive, or on a part of it: a file's content."""
    image = run.folder / f"{name}.img"
    with open(image, "wb") as file:
        if content:
            file.write(content.read_bytes())
        file.truncate(size)
    return ["-drive", f"if=none,id=drive-{name},file={image},format=raw,cache=unsafe{throttling}"]


def cable(name, run):
    """Return QEMU's arguments for the cable of a network controller."""
    wire = run.wire(name)
    return ["-netdev", f"dgram,id=net-{name},local.type=unix,local.path={wire.far},"
            f"remote.type=unix,remote.path={wire.near}"]


def virtio(kind, name, bus, *, ats=True, aligned=True, number=0):
    """Return QEMU's option for a virtio device that the IOMMU translates for.

    With ats it has PCIe ATS, which Linux uses of devices only that ask for whole pages: aligned.
    number is that of the function.
    """
    def said(state):
        return "on" if state else "off"

    return (f"{kind}-pci,id={name},bus={bus},addr=0.{number},disable-legacy=on,iommu_platform=on,"
            f"ats={said(ats)},x-ats-page-aligned={said(aligned)}")


@dataclass(frozen=True)
class Nvme:
    """An NVMe drive; with iops, one that reads no more than that many times a second.

    What is on it at first is the content of a file, and zeroes. With vfs it can have so many
    virtual functions. Each has a namespace of its own to work on, which is there from the start,
    and which all functions see: namespace_of(). So one can be throttled, and the others not.
    """

    name: str
    iops: int = 0
    size: int = DRIVE_SIZE
    content: Path = None
    vfs: int = 0

    def arguments(self, bus, run):
        """Return QEMU's arguments for the drive below a bus."""
        args = self._drive(self.name, run)
        device = f"nvme,id={self.name},bus={bus},addr=0,serial={self.name}"
        if not self.vfs:
            return [*args, "-device", f"{device},drive=drive-{self.name}"]
        queues, vectors = self.vfs * VF_QUEUES, self.vfs * VF_VECTORS
        args += ["-device", f"nvme-subsys,id=subsys-{self.name},nqn={self.name}",
                 "-device", f"{device},subsys=subsys-{self.name},sriov_max_vfs={self.vfs},"
                 f"sriov_vq_flexible={queues},max_ioqpairs={PF_QUEUES + queues},"
                 f"sriov_vi_flexible={vectors},msix_qsize={PF_VECTORS + vectors}"]
        names = [self.name, *(f"{self.name}vf{number}" for number in range(self.vfs))]
        for name in names:
            args += self._drive(name, run) if name != self.name else []
            args += ["-device", f"nvme-ns,bus={self.name},drive=drive-{name},shared=on,"
                     f"nsid={namespace_of(name)}"]
        return args

    def _drive(self, name, run):
        """Return QEMU's arguments for what is on the drive, or on one of its namespaces."""
        throttling = f",throttling.iops-read={self.iops}" if self.iops else ""
        return drive(name, run, size=self.size, content=self.content, throttling=throttling)


@dataclass(frozen=True)
class Virtio:
    """A virtio block device; with iops, one that does no more requests than that in a second.

    It has one queue of 1024 entries, and does each request by itself, also those of neighbours.
    ats and aligned: see virtio().
    """

    name: str
    iops: int = 0
    ats: bool = True
    aligned: bool = True
    size: int = DRIVE_SIZE
    content: Path = None

    def arguments(self, bus, run):
        """Return QEMU's arguments for the device below a bus."""
        throttling = f",throttling.iops-total={self.iops}" if self.iops else ""
        options = virtio("virtio-blk", self.name, bus, ats=self.ats, aligned=self.aligned)
        return [*drive(self.name, run, size=self.size, content=self.content,
                       throttling=throttling),
                "-device", f"{options},drive=drive-{self.name},serial={self.name},"
                "queue-size=1024,num-queues=1,request-merging=off"]


@dataclass(frozen=True)
class Disk:
    """A disk for the machine's own use, with an ext4 file system, and a folder's content in it."""

    name: str
    content: Path = None

    def arguments(self, bus, run):
        """Return QEMU's arguments for the disk below a bus."""
        image = run.folder / f"{self.name}.img"
        # Not lazy: else the kernel goes on to write when the file system is mounted.
        subprocess.run(["/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-E",
                        "lazy_itable_init=0,lazy_journal_init=0",
                        *(["-d", self.content] if self.content else []),
                        image, f"{DRIVE_SIZE >> 20}M"],
                       check=True, stdout=subprocess.DEVNULL)
        return ["-drive", f"if=none,id=drive-{self.name},file={image},format=raw,cache=unsafe",
                "-device", f"virtio-blk-pci,id={self.name},bus={bus},addr=0,"
                f"drive=drive-{self.name},disable-legacy=on"]


@dataclass(frozen=True)
class Igb:
    """An Intel 82576 network controller, its cable in the hands of the test (Machine.wires)."""

    name: str

    def arguments(self, bus, run):
        """Return QEMU's arguments for the controller below a bus."""
        return [*cable(self.name, run),
                "-device", f"igb,id={self.name},bus={bus},addr=0,netdev=net-{self.name},romfile="]


@dataclass(frozen=True)
class Vnet:
    """A virtio device that can have so many virtual functions, which are network controllers.

    The cable of each of these is in the hands of the test (Machine.wires). With block the physical
    function is a block device, of which Linux's own driver is in all kernels; else it is such a
    controller, too. It is a newer QEMU's: virtio has had virtual functions since 10.1.
    """

    name: str
    vfs: int
    block: bool = False

    def arguments(self, bus, run):
        """Return QEMU's arguments for the device below a bus."""
        run.newer = True
        # QEMU wants to know of the virtual ones before it makes the physical one.
        virtual = [arg for number in range(self.vfs)
                   for arg in self._controller(f"{self.name}vf{number}", bus, run, number + 1,
                                               f",sriov-pf={self.name}")]
        if not self.block:
            return virtual + self._controller(self.name, bus, run, 0, ",multifunction=on")
        return [*virtual, *drive(self.name, run, size=DRIVE_SIZE), "-device",
                f"{virtio('virtio-blk', self.name, bus)},drive=drive-{self.name},multifunction=on"]

    def _controller(self, name, bus, run, number, more):
        """Return QEMU's arguments for a network controller."""
        # With ioeventfd QEMU hears of what its driver says only after that has gone on.
        return [*cable(name, run), "-device",
                f"{virtio('virtio-net', name, bus, number=number)},netdev=net-{name},romfile=,"
                f"rx_queue_size={QUEUE_SIZE},ioeventfd=off{more}"]


@dataclass(frozen=True)
class Vhost:
    """A block device that caches translations; the test has its inside (Machine.vhosts).

    With iops it completes no more than that many requests a second; its ATS can be left out.
    """

    name: str
    iops: int = 0
    size: int = DRIVE_SIZE
    ats: bool = True

    def arguments(self, bus, run):
        """Return QEMU's arguments for the device below a bus."""
        device = run.vhost(self.name, size=self.size, rate=self.iops)
        run.shared = True
        return ["-chardev", f"socket,id=vhost-{self.name},path={device.path}",
                "-device", f"{virtio('vhost-user-blk', self.name, bus, ats=self.ats)},"
                f"chardev=vhost-{self.name},num-queues=1,queue-size={QUEUE_SIZE},romfile="]


@dataclass(frozen=True)
class Edu:
    """QEMU's educational device: no PCI Express, one interrupt, a little DMA."""

    name: str

    def arguments(self, bus, run):
        """Return QEMU's arguments for the device below a bus."""
        del run
        return ["-device", f"edu,id={self.name},bus={bus},addr=0"]


class Switch:
    """A PCI Express switch with a downstream port for each device below it."""

    def __init__(self, name, *below):
        """Name the switch and what is below it."""
        self.name = name
        self.below = below

    def arguments(self, bus, run):
        """Return QEMU's arguments for the switch and all below it."""
        args = ["-device", f"x3130-upstream,id={self.name},bus={bus},addr=0"]
        for i, device in enumerate(self.below):
            port = f"{self.name}-{i}"
            args += ["-device", f"xio3130-downstream,id={port},bus={self.name},addr={i:#x},"
                     f"chassis={run.chassis()},slot={i}"]
            args += device.arguments(port, run)
        return args


class Port:
    """A root port and what is below it."""

    def __init__(self, below, name=None):
        """Put a device or a switch below a root port, called rp-BELOW unless named."""
        self.below = below
        self.name = name or f"rp-{below.name}"

    def arguments(self, slot, run):
        """Return QEMU's arguments for the port and all below it."""
        return ["-device", f"pcie-root-port,id={self.name},bus=pcie.0,addr={slot:#x},"
                f"chassis={run.chassis()},slot={slot}",
                *self.below.arguments(self.name, run)]


class Run:
    """What the parts of a topology need to know of the run that they are made for."""

    def __init__(self, folder, wire, vhost=None):
        """Take the run's folder and the functions that make a wire and a vhost for a name.

        shared says that other processes than QEMU need the machine's memory, newer that the QEMU
        which is installed can be too old.
        """
        self.folder = folder
        self.wire = wire
        self.vhost = vhost
        self.shared = self.newer = False
        self._chassis = 0

    def chassis(self):
        """Return the next free chassis number."""
        self._chassis += 1
        return self._chassis


def arguments(topology, run):
    """Return QEMU's arguments for a topology."""
    return [arg for slot, port in enumerate(topology, FIRST_PORT_SLOT)
            for arg in port.arguments(slot, run)]


STANDARD = (
    Port(Nvme("nvme0")),
    Port(Igb("igb0")),
    Port(Switch("switch", Nvme("nvme1"), Igb("igb1"))),
    Port(Nvme("bystander")),
)
SMALL = (Port(Nvme("nvme0")),)

__all__ = ["Disk", "Edu", "Igb", "Nvme", "Port", "Run", "SMALL", "STANDARD", "Switch", "VF_QUEUES",
           "VF_VECTORS", "Vhost", "Virtio", "Vnet", "arguments", "function", "namespace_of",
           "virtio"]
