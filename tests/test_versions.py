# SPDX-License-Identifier: GPL-2.0-only
"""Updates between kernels that are not of one kind: another version of Linux, Linux without this
work, and a kernel of the future that takes a higher version of what crosses only."""

import pytest

from conftest import KERNELS, MODES
from lab.memory import pool
from lab.running import Running, RunningSet
from update import (BLOCKS, LBA, PAIR, SESSION, Owner, allow_any_image, at_work, see_dma,
                    see_good_update, see_interrupts_go_along, see_jump_refused, see_no_faults,
                    see_nothing_lost, see_undisturbed, state, states, take_over)

ALL = ("nvme0", "igb0", "nvme1", "igb1")
BOTH = ("nvme0", "igb0")
NATIVE = ("nvme", "igb")
# Files in one of LUO's blocks: a page, its header of 16 bytes, 64 bytes for each.
LUO_BLOCK = (4096 - 16) // 64
BLOCK = 512
HUGE = 2 << 20
# Beyond it each version sets up for itself what is not the user's: 7.3 unmasks more errors.
CONFIG = 256
# Of each kind of kernels that of Linux 7.2, which has no kernel for debugging.
OLD = {"modules": "7.2-lab-a", "builtin": "7.2-builtin", "debug": "7.2-lab-a",
       "distro": "7.2-lab-a"}


def between(kernels, outgoing="7.2"):
    """Return options of a machine that goes from one version of Linux to the other."""
    names = ("kernel", "next_kernel") if outgoing == "7.2" else ("next_kernel", "kernel")
    return dict(zip(names, (OLD[kernels], KERNELS[kernels][1])))


def version(m):
    """Return the version of Linux that a machine runs, like 7.3."""
    return ".".join(m.sh("uname -r").split(".")[:2])


# --- Linux 7.2 and 7.3 ---

def cross(m, owner, names, incoming):
    """Put devices to work, and update to a version of Linux."""
    owner.open(*names)
    owner.start()
    owner.preserve()
    m.kexec()
    assert version(m) == incoming


@pytest.mark.thorough
@pytest.mark.cut(("modules", "scalable"))
@pytest.mark.parametrize(("outgoing", "incoming"), [("7.2", "7.3"), ("7.3", "7.2")])
def test_update(start, kernels, mode, outgoing, incoming):
    """Devices below a root port and a switch never stop, whichever version is the newer one."""
    m = start(**between(kernels, outgoing), **MODES[mode])
    assert version(m) == outgoing
    owner = Running(m)
    cross(m, owner, ALL, incoming)
    assert states(owner) == {"incoming running"}
    assert m.driver(m.bdf("bystander")) == "nvme"
    take_over(owner)
    assert states(owner) == {"none"}
    see_good_update(owner)


@pytest.mark.thorough
@pytest.mark.parametrize(("outgoing", "incoming"), [("7.2", "7.3"), ("7.3", "7.2")])
def test_interrupts(start, kernels, outgoing, incoming):
    """A process that sleeps until its devices raise interrupts notices no update, either way."""
    m = start(**between(kernels, outgoing))
    owner = Running(m, interrupts=True)
    cross(m, owner, BOTH, incoming)
    see_interrupts_go_along(owner)


@pytest.mark.thorough
@pytest.mark.parametrize(("outgoing", "incoming"), [("7.2", "7.3"), ("7.3", "7.2")])
def test_huge_pages(start, kernels, outgoing, incoming):
    """Devices work with huge pages through an update, whichever version is the newer one."""
    m = start(**between(kernels, outgoing))
    m.sh(f"echo 6 >{pool(HUGE)}/nr_hugepages")
    owner = RunningSet(m, page=HUGE)
    cross(m, owner, BOTH, incoming)
    take_over(owner)
    see_good_update(owner)


def test_there_and_back(start, kernels):
    """From 7.2 to 7.3, back, and there once more, under work that never ends."""
    m, owner = at_work(start, *BOTH, owner=RunningSet, **between(kernels))
    for before, after in (("7.2", "7.3"), ("7.3", "7.2"), ("7.2", "7.3")):
        assert version(m) == before
        owner.preserve()
        m.kexec()
        assert version(m) == after
        take_over(owner)
        see_undisturbed(owner)
        see_dma(owner)
        owner.refill()
    see_no_faults(owner)
    see_nothing_lost(owner.settle(), least=100)


@pytest.mark.thorough
def test_idle(start, kernels):
    """In idle mode there and back: addresses, drivers and configuration stay, and data."""
    m = start(topology=PAIR, **between(kernels))
    owner = Owner(m)
    bdfs = owner.own(*BOTH)
    configs = [m.config(bdf)[:CONFIG] for bdf in bdfs]
    owner.drive("nvme0")
    owner.write("nvme0")
    for after in ("7.3", "7.2"):
        owner.preserve(*BOTH)
        m.kexec()
        assert version(m) == after
        assert [m.bdf(name) for name in BOTH] == bdfs
        assert {state(m, bdf) for bdf in bdfs} == {"incoming idle"}
        owner.retrieve(*BOTH)
        assert [m.config(bdf)[:CONFIG] for bdf in bdfs] == configs, "config space differs"
        for name in BOTH:
            owner.works(name)
        owner.finish()


# --- kernels that do not take it ---

def see_natives_work(m, bdfs):
    """See that a drive and a network controller have their native drivers, and that these work."""
    assert tuple(m.driver(bdf) for bdf in bdfs) == NATIVE
    drive, network = (f"/sys/bus/pci/devices/{bdf}" for bdf in bdfs)
    disk = m.sh(f"ls {drive}/nvme/*/ | grep -x 'nvme.*n1'").strip()
    data = m.sh(f"dd if=/dev/{disk} bs={BLOCK} skip={LBA} count={BLOCKS} 2>/dev/null | xxd -p")
    with open(m.folder / "nvme0.img", "rb") as image:
        image.seek(LBA * BLOCK)
        there = image.read(BLOCKS * BLOCK)
    assert any(there) and bytes.fromhex(data.replace("\n", "")) == there
    name = m.sh(f"ls {network}/net").strip()
    m.sh(f"ip link set {name} up; until grep -q 1 {network}/net/{name}/carrier; do sleep 0.1; done")
    received = f"cat {network}/net/{name}/statistics/rx_packets"
    before = int(m.sh(received))
    m.wires["igb0"].send(0, 20)
    m.sh(f"until [ $({received}) -ge {before + 20} ]; do sleep 0.1; done")
    m.sh(f"ip link set {name} down")


def idle(start, kernel):
    """Start a machine whose next kernel does not take two devices; returns it, the devices' owner
    and their addresses."""
    m = start(topology=PAIR, next_kernel=kernel)
    owner = Owner(m)
    bdfs = owner.own(*BOTH)
    for name in BOTH:
        owner.drive(name)
    owner.write("nvme0")
    return m, owner, bdfs


def see_ordinary(m, owner, bdfs):
    """See that devices are as after a cold boot: for their native drivers, then for vfio-pci."""
    assert [m.bdf(name) for name in BOTH] == bdfs
    see_natives_work(m, bdfs)
    owner.own(*BOTH)
    for name in BOTH:
        owner.works(name)


@pytest.mark.thorough
def test_stock_idle(start):
    """Linux without this work gets devices in idle mode as after a cold boot, and all memory."""
    m, owner, bdfs = idle(start, "stock")
    memfds = [f"X{number}" for number in range(LUO_BLOCK + 1)]
    for seed, name in enumerate(memfds):
        owner("memfd", name, "4k")
        owner("mem_fill", name, 0, "4k", seed)
    owner("hwpt_alloc", "I", "Dnvme0", "A", "H")
    owner("hwpt_mark", "I", "H", 7)
    # What stays behind is between others, a block of LUO's by itself, and a session by itself.
    kept = {"between": ["Mnvme0", "Migb0", memfds[0]], "block": memfds[1:], "alone": []}
    sessions = {"between": [*kept["between"][:2], "I", memfds[0]],
                "block": [*memfds[1:], "Dnvme0"], "alone": ["Digb0"]}
    for session, files in sessions.items():
        owner("session_create", f"S{session}", session)
        for token, name in enumerate(files):
            owner("preserve", f"S{session}", token, name)
    m.kexec()
    for session, files in sessions.items():
        for token, name in enumerate(files):
            if name not in kept[session]:
                m.wait_console(rf"luo: {session}: token {token:#x} \[.*\] stays behind", "freeze",
                               timeout=1)
    assert not m.sh(f"ls /sys/bus/pci/devices/{bdfs[0]} | grep liveupdate", check=False)
    for session, files in sessions.items():
        owner("session_retrieve", f"S{session}", session)
        for token, name in enumerate(files):
            if name in kept[session]:
                owner("retrieve", f"S{session}", token, name)
            else:
                assert owner.fails("retrieve", f"S{session}", token, name) == "ENOENT"
        owner("finish", f"S{session}")
    for seed, name in enumerate(memfds):
        owner("mem_check", name, 0, "4k", seed)
    for name in kept["between"][:2]:
        owner("close", name)
    see_ordinary(m, owner, bdfs)


def test_stock_running(start):
    """Running devices do not go to Linux without this work; they go on, and to a kernel with it."""
    m, owner = at_work(start, *BOTH, next_kernel="stock")
    owner.preserve()
    m.kexec_load()
    m.mark("refusing")
    see_jump_refused(m, "ENOEXEC")
    m.sh("sleep 3")
    m.mark("refused")
    assert states(owner) == {"outgoing running"}
    see_undisturbed(owner, "refusing", "refused")
    see_dma(owner, "refusing", "refused")
    m.kexec_load(kernel=m.kernel.flavour)
    m.kexec_go()
    take_over(owner)
    see_good_update(owner)


@pytest.mark.thorough
def test_raised_idle(start):
    """Devices in idle mode are ordinary ones for a kernel that does not know this version."""
    m, owner, bdfs = idle(start, "raised")
    owner.preserve(*BOTH)
    m.kexec()
    assert {state(m, bdf) for bdf in bdfs} == {"none"}
    see_natives_work(m, bdfs)
    owner("session_retrieve", "S", SESSION)
    for token, name in enumerate(BOTH, 1):
        assert owner.fails("retrieve", "S", token, f"D{name}") == "ENODEV"
    owner.finish()
    see_ordinary(m, owner, bdfs)


@pytest.mark.thorough
def test_raised_running(start):
    """Running devices do not go to a kernel that takes another version; made to, they stop."""
    m, owner = at_work(start, *BOTH, next_kernel="raised")
    owner.preserve()
    m.kexec_load()
    m.mark("refusing")
    see_jump_refused(m, "ENOEXEC")
    m.wait_console(r"luo: Freeze failed! The next kernel does not take pci-v3\. "
                   r"Preserved files need .*pci-v3.*; it takes .*pci-v4", "refusing", timeout=5)
    allow_any_image(m)
    # Else its native driver would wait for all commands that are in the queue.
    m.throttle("nvme0", 0)
    m.kexec_go()
    for device in owner.devices.values():
        m.wait_console(f"drops the page table of {device.bdf[5:]}", "freeze", timeout=1)
        assert state(m, device.bdf) == "none"
    see_natives_work(m, [device.bdf for device in owner.devices.values()])
