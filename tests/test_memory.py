# SPDX-License-Identifier: GPL-2.0-only
"""Preserved memory: nobody else gets it, all of it comes back, and the boot does not notice."""

import pytest

from conftest import KERNELS
from lab.memory import GIGANTIC, HUGE, SINGLE, WHOLE, Kind, allocate, measure
from lab.running import Running
from update import (at_work, fill_spots, memory, press, see_good_update, see_memory_back,
                    see_spots, take_over)

PAGE, MIB, GIB = 1 << 12, 1 << 20, 1 << 30
# One piece a page: what a long life makes of memory, at worst
PIECES = (pytest.param(64 << 20, SINGLE, id="single"),
          pytest.param(24 << 20, Kind("pieces of three pages", pieces=3), id="three",
                       marks=pytest.mark.thorough))


@pytest.mark.parametrize("size, kind", PIECES)
def test_pieces(start, kernels, size, kind):
    """Memory in pieces goes through updates: its content stays, and so does all other memory."""
    # Of the memory above 4 GiB distro initializes struct pages late.
    m = start(topology=(), memory="5G" if kernels == "distro" else None)
    owner = m.worker("owner")
    allocate(owner, "A", size, kind)
    owner("mem_fill", "A", 0, size, 7)
    totals = []
    for update in range(5):
        owner("session_create", "S", "pieces")
        owner("preserve", "S", 1, "A")
        m.kexec()
        if not update:
            press(m)
        owner("session_retrieve", "S", "pieces")
        owner("retrieve", "S", 1, "A")
        owner("mem_check", "A", 0, size, 7)
        owner("finish", "S")
        owner("close", "S")
        totals.append(memory(m))
    see_memory_back(m, totals)


def test_many_files(start):
    """A session has a thousand memfds."""
    m = start(topology=())
    owner = m.worker("owner")
    owner("session_create", "S", "many")
    owner("put_pages", "S", 1000)
    m.kexec()
    owner("session_retrieve", "S", "many")
    owner("take_pages", "S", 1000)
    owner("finish", "S")


def test_many_sessions(start):
    """There are 4096 sessions."""
    m = start(topology=())
    owner = m.worker("owner")
    owner("put_sessions", 4096, timeout=300)
    m.kexec()
    owner("take_sessions", 4096, timeout=300)
    assert owner.fails("session_retrieve", "S", "many-0") == "ENOENT"


def virtual_machine(owner, sizes):
    """Make memory of each kind, with content at the beginning, in the middle and at the end."""
    for token, (kind, size) in enumerate(sizes.items()):
        allocate(owner, f"M{token}", size, kind)
        fill_spots(owner, f"M{token}", size, token)


def see_virtual_machine(owner, sizes):
    """See that it has the content that it had."""
    for token, size in enumerate(sizes.values()):
        see_spots(owner, f"M{token}", size, token)


@pytest.mark.thorough
@pytest.mark.parametrize("memory_size, sizes", [
    pytest.param("8G", {WHOLE: GIB // 2, HUGE: GIB, GIGANTIC: 2 * GIB}, id="8"),
    pytest.param("16G", {WHOLE: 2 * GIB, HUGE: 4 * GIB, GIGANTIC: 4 * GIB}, id="16"),
])
def test_large(start, memory_size, sizes):
    """A machine with gigabytes of all kinds of memory; nobody else gets it."""
    m = start(topology=(), memory=memory_size)
    owner = m.worker("owner")
    virtual_machine(owner, sizes)
    owner("session_create", "S", "large")
    for token in range(len(sizes)):
        owner("preserve", "S", token, f"M{token}")
    m.kexec()
    press(m)
    owner("session_retrieve", "S", "large")
    for token in range(len(sizes)):
        owner("retrieve", "S", token, f"M{token}")
    see_virtual_machine(owner, sizes)
    owner("finish", "S")
    see_virtual_machine(owner, sizes)


def transparent(m):
    """Return how many MiB of shared memory are in transparent huge pages."""
    return int(m.sh("sed -n 's/ShmemHugePages: *\\([0-9]*\\).*/\\1/p' /proc/meminfo")) >> 10


def with_transparent(m):
    """Have memfds get transparent huge pages; returns the machine."""
    m.sh("echo always >/sys/kernel/mm/transparent_hugepage/shmem_enabled")
    return m


@pytest.mark.thorough
@pytest.mark.only("distro")
def test_transparent(start):
    """Transparent huge pages stay what they are, and can be split after that."""
    m = with_transparent(start(topology=()))
    owner = m.worker("owner")
    owner("memfd", "A", 16 * MIB)
    owner("mem_fill", "A", 0, 16 * MIB, 7)
    assert transparent(m) == 16
    # One that is split, and one that is missing
    owner("mem_punch", "A", 2 * MIB + 5 * PAGE, PAGE)
    owner("mem_punch", "A", 4 * MIB, 2 * MIB)
    owner("session_create", "S", "transparent")
    owner("preserve", "S", 1, "A")
    before = transparent(m)
    assert before >= 12
    m.kexec()
    assert transparent(m) == 0
    owner("session_retrieve", "S", "transparent")
    owner("retrieve", "S", 1, "A")
    assert transparent(m) == before
    owner("finish", "S")
    owner("mem_check", "A", 0, 2 * MIB + 5 * PAGE, 7)
    owner("mem_check", "A", 2 * MIB + 6 * PAGE, 2 * MIB - 6 * PAGE, 7)
    owner("mem_check", "A", 6 * MIB, 10 * MIB, 7)
    assert "EILSEQ" == owner.fails("mem_check", "A", 4 * MIB, PAGE, 7)
    # The next kernel splits one
    owner("mem_punch", "A", 8 * MIB + PAGE, PAGE)
    assert transparent(m) == before - 2
    owner("mem_check", "A", 8 * MIB + 2 * PAGE, 2 * MIB - 2 * PAGE, 7)
    owner("close", "A")
    assert transparent(m) == 0


@pytest.mark.only("distro")
@pytest.mark.thorough
def test_transparent_running(start):
    """Devices work with transparent huge pages all through an update."""
    m, owner = at_work(start, "nvme0", "igb0",
                       owner=lambda machine: Running(with_transparent(machine)))
    assert transparent(m) >= 4
    owner.preserve()
    m.kexec()
    take_over(owner)
    assert transparent(m) >= 4
    see_good_update(owner)


@pytest.mark.only("modules")
def test_cost(kernels):
    """What memory costs is little for each page, and does not grow with their number."""
    def crossed(size, kind=WHOLE):
        """Take a memfd through an update of a machine that counts instructions."""
        return measure(*KERNELS[kernels], size << 20, kind)

    # Such a machine takes a whole processor, also when it has nothing to do: one at a time
    bare = crossed(0)
    whole = crossed(256)
    few, many = crossed(32, SINGLE), crossed(128, SINGLE)
    # 10 ms for a GiB in one piece; a fragment 1 µs, and as much as any other
    assert whole.boot_more(bare) * (1 << 18) <= 10000
    assert many.boot_more(bare) <= 1.05
    assert many.boot_more(bare) <= few.boot_more(bare) * 1.1
    # Linux's own took 3.1 µs
    for cost in whole, many:
        assert cost.retrieve_each() <= 1.65
