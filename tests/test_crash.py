# SPDX-License-Identifier: GPL-2.0-only
"""The machine crashes, another kernel saves a dump: running devices stay in their own memory."""

import struct

import pytest

from lab import Igb, Nvme, Port, vtd
from lab.running import Running
from test_tool import ask
from update import see_dma, see_no_faults, see_translation_on

PAGE = 4096
# Two devices at work, and a drive of the kernel's own, which the dump goes to.
TOPOLOGY = (Port(Nvme("nvme0")), Port(Igb("igb0")), Port(Nvme("nvme1", size=128 << 20)))
# Of the machine and of the crash kernel, in MiB, and what KHO sets aside: by itself that would be
# four times as much as a crash kernel has, more than there is.
SMALL = (1024, 160, "256M,16M,128M")
# The same of kernels for debugging, and of a distribution's
LARGE = (4096, 512, "640M,64M,640M")
# Drivers that would take the devices when the crash kernel finds them
WITHOUT_IGB = "initcall_blacklist=igb_init_module module_blacklist=igb"
# Seconds, which only a busy host needs
SAVING = 120
ET_CORE, PT_LOAD, PT_NOTE = 4, 1, 4
HEADER, ENTRY = 64, 56


class Dump:
    """The memory of the kernel that crashed, as /proc/vmcore of the crash kernel has it."""

    def __init__(self, machine):
        """Read the head of it, which says what is where."""
        self._machine = machine
        head = self._read(0)
        self.magic = head[:4]
        self.type, = struct.unpack_from("<H", head, 16)
        count, = struct.unpack_from("<H", head, 56)
        self.parts = [struct.unpack_from("<IIQQQQ", head, HEADER + i * ENTRY) for i in range(count)]

    def _read(self, offset, pages=1):
        """Read pages of the file."""
        return bytes.fromhex(self._machine.sh(
            f"dd if=/proc/vmcore bs={PAGE} skip={offset // PAGE} count={pages} 2>/dev/null"
            " | xxd -p").replace("\n", ""))

    def notes(self):
        """Return what the kernel said about itself."""
        part = next(part for part in self.parts if part[0] == PT_NOTE)
        return self._read(part[2], part[5] // PAGE + 1)

    def physical(self, address):
        """Return the page at a physical address, or None where the dump has none."""
        for kind, _, offset, _, start, size in self.parts:
            if kind == PT_LOAD and start <= address < start + size:
                return self._read(offset + address - start)
        return None

    def virtual(self, address):
        """Return what is at a virtual address, up to the end of its page."""
        for kind, _, offset, start, _, size in self.parts:
            if kind == PT_LOAD and start <= address < start + size:
                return self._read((offset + address - start) & -PAGE)[address % PAGE:]
        return None


def crash_areas(m):
    """Return where the crash kernel's memory is, from and to: in one piece, or some of it low."""
    lines = m.sh("grep 'Crash kernel' /proc/iomem").splitlines()
    return [(int(start, 16), int(last, 16) + 1)
            for start, last in (line.split()[0].split("-") for line in lines)]


def reaches(m, owner):
    """Return what each of an owner's devices reaches."""
    tables = vtd.Tables(m)
    return {name: tables.reach(device.bdf) for name, device in owner.devices.items()}


def fill_page(owner):
    """Put a pattern into a page that a device reaches and does not use; returns its address."""
    device = owner.devices["igb0"]
    owner("mem_fill", device.memory, device.size - PAGE, PAGE, 77)
    return device.iova + device.size - PAGE


def physical(pieces, address):
    """Return where in the machine's memory an address of a device is."""
    return next(start + address - iova for iova, start, size in pieces
                if iova <= address < iova + size)


def see_apart(reach, areas):
    """See that devices reach something, and none of the crash kernel's memory."""
    for name, pieces in reach.items():
        assert pieces, f"{name} reaches nothing"
        strange = [start for _, start, size in pieces for begin, end in areas
                   if start < end and start + size > begin]
        assert not strange, f"{name} reaches the crash kernel at {strange[0]:#x}"


def see_ids_apart(entries):
    """See that no domain ID stands for two page tables: what the IOMMU caches goes by the ID."""
    tables = {}
    for bdf, entry in entries.items():
        tables.setdefault(entry.domain, {}).setdefault(entry.table, bdf)
    assert not [ids for ids in tables.values() if len(ids) > 1], tables


def see_dump(m, release, banner, page, content):
    """See that the dump is one, of that kernel, with what was in its memory."""
    dump = Dump(m)
    assert (dump.magic, dump.type) == (b"\x7fELF", ET_CORE)
    assert f"OSRELEASE={release}\n".encode() in dump.notes()
    assert dump.virtual(banner).startswith(f"Linux version {release} ".encode())
    assert dump.physical(page) == content


def save(m):
    """Save some of the dump to the crash kernel's drive; all of it takes a busy host minutes."""
    assert int(m.sh("stat -c %s /proc/vmcore")) > 512 << 20
    # Its number depends on which drive answers first.
    drive = "/dev/" + m.sh(f"ls /sys/bus/pci/devices/{m.bdf('nvme1')}/nvme") + "n1"
    m.sh(f"dd if=/proc/vmcore of={drive} bs=1M count=64 conv=fsync 2>&1", timeout=SAVING)
    assert m.sh(f"dd if={drive} bs={PAGE} count=1 2>/dev/null | xxd -p -l 4") == "7f454c46"


def be_ready(m):
    """Load the crash kernel; the tool says whether one is."""
    def line():
        return next(line for line in ask(m, "check")["checks"] if line["check"] == "crash kernel")

    size = f"{sum(end - start for start, end in crash_areas(m)) >> 20} MiB"
    assert (line()["result"], line()["value"]) == ("warning", f"not loaded, {size}")
    m.crash_load(WITHOUT_IGB)
    assert (line()["result"], line()["value"]) == ("ok", f"loaded, {size}")


def preserved(m, owner):
    """The crash comes after preserve, before the jump."""
    owner.preserve()
    be_ready(m)


def waiting(m, owner):
    """The crash comes in the next kernel, before anybody retrieves the devices."""
    owner.preserve()
    m.kexec()
    be_ready(m)


def handed_over(m, owner):
    """The crash comes after the handover to new page tables."""
    waiting(m, owner)
    owner.retrieve()
    owner.handover()


@pytest.mark.parametrize("when, scalable", [
    (handed_over, True),
    *(pytest.param(when, scalable, marks=pytest.mark.thorough) for when, scalable in (
        (preserved, False), (preserved, True), (waiting, False), (waiting, True),
        (handed_over, False)))],
    ids=lambda value: getattr(value, "__name__", None) or ("scalable" if value else "legacy"))
def test_crash(start, kernels, when, scalable):
    """A dump of it all is saved; devices work on in their own memory until a driver resets them."""
    memory, crashkernel, scratch = LARGE if kernels in ("debug", "distro") else SMALL
    m = start(topology=TOPOLOGY, scalable=scalable, memory=f"{memory}M",
              append=f"crashkernel={crashkernel}M kho_scratch={scratch}")
    owner = Running(m)
    if m.slow:
        # Its descriptors have to last until the dump is saved.
        owner.frame_rate /= 2
    owner.open("nvme0", "igb0")
    owner.start()
    address = fill_page(owner)
    when(m, owner)
    before, areas = reaches(m, owner), crash_areas(m)
    see_apart(before, areas)
    page = physical(before["igb0"], address)
    content = m.memory(page, PAGE)
    release, banner = m.kernel.release, m.symbol("linux_banner")
    # Its native driver resets the drive, and QEMU stands still until all commands in it are done.
    m.crash(early=lambda: m.throttle("nvme0", 0))
    m.mark("saving")
    see_dump(m, release, banner, page, content)
    save(m)
    m.mark("saved")
    # The drive went to its native driver, which has reset it. Nobody has touched the controller.
    with m.stopped():
        after, entries = reaches(m, owner), vtd.Tables(m).entries()
    see_ids_apart(entries)
    assert after["igb0"] == before["igb0"]
    see_apart({"nvme0": after["nvme0"]}, [(0, 1)])
    see_dma(owner, "crash", "saved", names=["igb0"])
    see_no_faults(owner, "crash")
    see_translation_on(m, "crash")
