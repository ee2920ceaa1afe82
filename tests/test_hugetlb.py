# SPDX-License-Identifier: GPL-2.0-only
"""Memory in huge pages: all of a memfd with them comes back, the pools of both kernels stay what
they are, and devices in running mode work with them."""

from dataclasses import dataclass

import pytest

import bzimage
from lab.handover import HUGETLB, Handover
from lab.memory import pool
from lab.running import Running
from update import (PAIR, at_work, fill_spots, memory, press, see_dma, see_good_update,
                    see_jump_refused, see_memory_back, see_no_faults, see_nothing_lost, see_spots,
                    see_undisturbed, states, take_over)

MIB, GIB = 1 << 20, 1 << 30
# The pages, and how many of them a test has.
SMALL, LARGE = (2 * MIB, 24), (GIB, 1)
SIZES = pytest.mark.parametrize(("page", "count"), [SMALL, LARGE], ids=("2m", "1g"))
# Struct pages that are all alike are freed, or not.
HVO = "hugetlb_free_vmemmap=on"
WORDS = pytest.mark.parametrize("words", [
    pytest.param(HVO, id="hvo"), pytest.param("", id="all", marks=pytest.mark.thorough)])
BOTH = pytest.mark.parametrize(("page", "count", "words"), [
    pytest.param(*SMALL, "", id="2m-all"),
    pytest.param(*LARGE, HVO, id="1g-hvo", marks=pytest.mark.thorough),
    pytest.param(*SMALL, HVO, id="2m-hvo", marks=pytest.mark.thorough),
    pytest.param(*LARGE, "", id="1g-all", marks=pytest.mark.thorough)])
SHRINK, GROW, WRITE, EXEC = 2, 4, 8, 32
SEED = 5
# Some memory that nothing is preserved in.
NOWHERE = 0x2000


@dataclass(frozen=True)
class Pool:
    """How many huge pages a kernel has."""

    total: int = 0
    free: int = 0
    reserved: int = 0
    surplus: int = 0

    @classmethod
    def of(cls, m, page):
        """Read the pool of a machine's kernel; that of its NUMA nodes is the same."""
        def read(folder, *names):
            """Return numbers that are in the files of a folder."""
            files = " ".join(f"{folder}/{name}_hugepages" for name in names)
            return [int(number) for number in m.sh(f"cat {files}").split()]

        whole = read(pool(page), "nr", "free", "resv", "surplus")
        nodes = m.sh("ls -d /sys/devices/system/node/node*/hugepages 2>/dev/null || true").split()
        for place, name in (0, "nr"), (1, "free"), (3, "surplus"):
            of_nodes = [read(f"{node}/{pool(page).rpartition('/')[2]}", name)[0]
                        for node in nodes]
            assert not nodes or sum(of_nodes) == whole[place]
        return cls(*whole)


def room(page):
    """Return what memory a machine needs to have such pages: large ones are above 4 GiB."""
    return "8G" if page == GIB else None


def resize(m, page, count):
    """Have so many pages in the pool of a machine's kernel."""
    m.sh(f"echo {count} >{pool(page)}/nr_hugepages")
    assert Pool.of(m, page).total == count


def begin(start, page, count, **options):
    """Start a machine whose pool has so many pages; returns it and a process in it."""
    m = start(topology=(), memory=room(page), **options)
    resize(m, page, count)
    return m, m.worker("owner")


def make(owner, page, count, name="A"):
    """Make a memfd that has content."""
    owner("memfd_huge", name, page * count, page)
    owner("mem_allocate", name, 0, page * count)
    fill_spots(owner, name, page * count, SEED)


def see_content(owner, page, count, name="A"):
    """See that a memfd has the content that it had."""
    see_spots(owner, name, page * count, SEED)


def preserve(owner, name="A"):
    """Put a memfd into a new session."""
    owner("session_create", "S", "huge")
    owner("preserve", "S", 1, name)


def retrieve(owner, name="A"):
    """Take a memfd out of its session."""
    owner("session_retrieve", "S", "huge")
    owner("retrieve", "S", 1, name)


def finish(owner):
    """Finish the session and let it go."""
    owner("finish", "S")
    owner("close", "S")


@BOTH
def test_comes_back(start, page, count, words):
    """A memfd comes back with all that it was; the next kernel has no pool."""
    m, owner = begin(start, page, count, append=words)
    make(owner, page, count)
    owner("mem_seek", "A", 12345)
    owner("mem_seal", "A", SHRINK | GROW)
    before = owner.account("mem_file", "A")
    assert Pool.of(m, page) == Pool(total=count)
    preserve(owner)
    assert Pool.of(m, page) == Pool(total=count)
    m.kexec()
    assert Pool.of(m, page) == Pool()
    retrieve(owner)
    assert owner.account("mem_file", "A") == before
    see_content(owner, page, count)
    assert Pool.of(m, page) == Pool(total=count, surplus=count)
    # Once more: it is the same file
    owner("retrieve", "S", 1, "B")
    owner("close", "B")
    finish(owner)
    see_content(owner, page, count)
    assert owner.fails("mem_resize", "A", 0) == "EPERM"
    assert Pool.of(m, page) == Pool(total=count, surplus=count)
    owner("close", "A")
    assert Pool.of(m, page) == Pool()


@WORDS
def test_pool(start, words):
    """The next kernel has a pool of its own, which stays as large, or takes the pages in."""
    page, count = SMALL
    m = start(topology=(), append=f"hugepages={count + 1} {words}")
    owner = m.worker("owner")
    make(owner, page, count)
    preserve(owner)
    m.kexec()
    assert Pool.of(m, page) == Pool(total=count + 1, free=count + 1)
    retrieve(owner)
    finish(owner)
    assert Pool.of(m, page) == Pool(total=2 * count + 1, free=count + 1, surplus=count)
    # The pool grows by pages that are there
    m.sh(f"echo {2 * count} >{pool(page)}/nr_hugepages")
    assert Pool.of(m, page) == Pool(total=2 * count + 1, free=count + 1, surplus=1)
    see_content(owner, page, count)
    owner("close", "A")
    assert Pool.of(m, page) == Pool(total=2 * count, free=2 * count)


@pytest.mark.thorough
@WORDS
def test_again_and_again(start, words):
    """After each of some updates there is as much of everything."""
    page, count = SMALL
    m, owner = begin(start, page, count, append=words)
    make(owner, page, count)
    totals = []
    for update in range(5):
        preserve(owner)
        m.kexec()
        if not update:
            press(m)
        retrieve(owner)
        see_content(owner, page, count)
        finish(owner)
        assert Pool.of(m, page) == Pool(total=count, surplus=count)
        totals.append(memory(m))
    see_memory_back(m, totals)
    owner("close", "A")
    assert Pool.of(m, page) == Pool()
    # Nothing is left of them but memory
    resize(m, page, count)


@pytest.mark.core("debug")
def test_unpreserve(start):
    """A memfd is fixed while it is preserved, and after that an ordinary one again."""
    page, count = SMALL
    m, owner = begin(start, page, count)
    make(owner, page, count)
    for _ in range(2):
        preserve(owner)
        assert owner.fails("mem_punch", "A", 0, page) == "EPERM"
        assert owner.fails("mem_resize", "A", page) == "EPERM"
        assert owner.fails("mem_resize", "A", page * (count + 1)) == "EPERM"
        assert owner.fails("mem_allocate", "A", page * count, page) == "EPERM"
        owner("close", "S")
        assert Pool.of(m, page) == Pool(total=count)
    see_content(owner, page, count)
    owner("mem_punch", "A", page, page)
    assert Pool.of(m, page) == Pool(total=count, free=1)
    owner("mem_resize", "A", page)
    owner("close", "A")
    assert Pool.of(m, page) == Pool(total=count, free=count)


def test_holes(start):
    """Holes get pages: those that were reserved for them, or others, if there are any."""
    page, count = SMALL
    m, owner = begin(start, page, count)
    owner("memfd_huge", "A", page * count, page)
    owner("mem_map", "A")
    assert Pool.of(m, page) == Pool(total=count, free=count, reserved=count)
    owner("mem_fill", "A", 0, page, SEED)
    assert Pool.of(m, page) == Pool(total=count, free=count - 1, reserved=count - 1)
    preserve(owner)
    assert Pool.of(m, page) == Pool(total=count)
    # Of a second file one page has none: nothing is preserved, and nothing fixed
    owner("close", "S")
    owner("close", "A")
    assert Pool.of(m, page) == Pool(total=count, free=count)
    owner("memfd_huge", "B", page * (count + 1), page)
    owner("session_create", "S", "huge")
    assert owner.fails("preserve", "S", 1, "B") == "ENOSPC"
    assert Pool.of(m, page) == Pool(total=count)
    owner("mem_resize", "B", page * count)
    owner("preserve", "S", 1, "B")
    m.kexec()
    retrieve(owner, "B")
    owner("mem_map", "B")
    assert Pool.of(m, page) == Pool(total=count, surplus=count)
    assert owner.account("mem_file", "B")["allocated"] == page * count
    finish(owner)
    owner("close", "B")
    assert Pool.of(m, page) == Pool()


def test_faults(start):
    """A machine's processors fault pages in while they are preserved; no reservation is lost."""
    page, count = SMALL
    m, owner = begin(start, page, count)
    for token in range(10):
        owner("memfd_huge", "A", page * count, page)
        owner("mem_map", "A")
        owner("session_create", "S", "huge")
        owner("fork", "F", "mem_touch", "A")
        owner("preserve", "S", token, "A")
        owner("join", "F")
        assert Pool.of(m, page) == Pool(total=count)
        owner("close", "S")
        owner("close", "A")
        assert Pool.of(m, page) == Pool(total=count, free=count)


def test_read_only(start):
    """Who cannot write to a memfd cannot fix it either."""
    page, _ = SMALL
    m, owner = begin(start, page, 2)
    make(owner, page, 2)
    owner("mem_read_only", "R", "A")
    owner("session_create", "S", "huge")
    assert owner.fails("preserve", "S", 1, "R") == "EBADF"
    owner("mem_punch", "A", 0, page)
    owner("preserve", "S", 1, "A")


@SIZES
def test_not_retrieved(start, page, count):
    """A memfd that nobody wants is memory of the next kernel when the session is finished."""
    m, owner = begin(start, page, count)
    make(owner, page, count)
    preserve(owner)
    m.kexec()
    before = memory(m)
    owner("session_retrieve", "S", "huge")
    finish(owner)
    assert memory(m) - before >= page * count >> 10
    assert Pool.of(m, page) == Pool()
    # Whole and in pieces
    resize(m, page, count)
    resize(m, page, 0)
    if page == GIB:
        return    # to fill such a machine takes minutes
    press(m)


@pytest.mark.thorough
def test_no_such_page(start):
    """A kernel without pages of the size refuses, and has the memory when the session ends."""
    page, count = LARGE
    m, owner = begin(start, page, count)
    make(owner, page, count)
    preserve(owner)
    m.kexec("clearcpuid=pdpe1gb")
    before = memory(m)
    owner("session_retrieve", "S", "huge")
    for _ in range(2):
        assert owner.fails("retrieve", "S", 1, "A") == "EOPNOTSUPP"
    finish(owner)
    assert memory(m) - before >= page * count >> 10


def test_seals(start):
    """Seals are those that there were, also where they depend on who may execute the file."""
    page, _ = SMALL
    m, owner = begin(start, page, 3)
    seals = {"A": 0, "B": WRITE, "C": EXEC}
    owner("session_create", "S", "huge")
    for token, (name, seal) in enumerate(seals.items()):
        owner("memfd_huge", name, page, page)
        if seal == EXEC:
            owner("sh", f"chmod a-x /proc/$PPID/fd/{owner.fd(name)}")
        owner("mem_allocate", name, 0, page)
        owner("mem_seal", name, seal)
        owner("preserve", "S", token, name)
    before = {name: owner.account("mem_file", name) for name in seals}
    m.kexec()
    owner("session_retrieve", "S", "huge")
    for token, name in enumerate(seals):
        owner("retrieve", "S", token, name)
        assert owner.account("mem_file", name) == before[name]
        assert before[name]["seals"] == seals[name]


def test_not_taken(start):
    """A kernel that does not take such memfds is refused, and nothing was done by then."""
    page, count = SMALL
    m, owner = begin(start, page, count)
    make(owner, page, count)
    preserve(owner)
    m.kexec_load(image=bzimage.spoil(m, bzimage.raised("hugetlb-memfd-v1")))
    see_jump_refused(m, "ENOEXEC")
    m.kexec()
    retrieve(owner)
    see_content(owner, page, count)


def test_broken(start):
    """What crosses is broken: that cannot be retrieved, and its memory is given to nobody."""
    page, _ = SMALL
    m, owner = begin(start, page, 8)
    owner("session_create", "S", "huge")
    changes = {"A": ("order", 18), "B": ("chunk", NOWHERE), "C": ("flags", 4), "D": None}
    for token, name in enumerate(changes):
        make(owner, page, 2, name)
        owner("preserve", "S", token, name)
    handover = Handover(m)

    def change(h):
        h.read()
        for token, spoilt in enumerate(changes.values()):
            if spoilt:
                h.file(token, HUGETLB)[spoilt[0]] = spoilt[1]

    m.kexec(look=lambda: change(handover))
    owner("session_retrieve", "S", "huge")
    for token, name in enumerate("ABC"):
        assert owner.fails("retrieve", "S", token, name) == "EINVAL"
    owner("retrieve", "S", 3, "D")
    see_content(owner, page, 2, "D")
    before = memory(m)
    finish(owner)
    assert memory(m) - before < page >> 10
    assert Pool.of(m, page) == Pool(total=2, surplus=2)


@BOTH
def test_running(start, page, count, words):
    """Devices work with huge pages all through an update, and have them until the session ends."""
    del count
    names = ("nvme0", "igb0") if page < GIB else ("nvme0",)
    count = 6 if page < GIB else 1
    m = start(topology=PAIR, memory=room(page), append=words)
    resize(m, page, count)
    owner = Running(m, page=page)
    owner.open(*names)
    owner.start()
    owner.preserve()
    m.kexec()
    owner.retrieve()
    assert Pool.of(m, page) == Pool(total=count, surplus=count)
    for device in owner.devices.values():
        assert owner.fails("mem_punch", device.memory, 0, page) == "EPERM"
        assert owner.fails("mem_resize", device.memory, 0) == "EPERM"
    owner.handover()
    owner.finish()
    assert states(owner) == {"none"}
    see_dma(owner)
    see_good_update(owner)
    assert Pool.of(m, page) == Pool(total=count, surplus=count)


@pytest.mark.thorough
def test_running_again(start):
    """Update after update, under work that never ends."""
    page, _ = SMALL

    def with_pages(m):
        """Have an owner, and a pool for it."""
        resize(m, page, 6)
        return Running(m, page=page)

    m, owner = at_work(start, "nvme0", "igb0", owner=with_pages)
    for update in range(3):
        for device in owner.devices.values() if update else ():
            owner.mark(device)
        owner.preserve()
        m.kexec()
        take_over(owner)
        see_undisturbed(owner)
        see_dma(owner)
        owner.refill()
        assert Pool.of(m, page) == Pool(total=6, surplus=6)
    see_no_faults(owner)
    see_nothing_lost(owner.settle())


@pytest.mark.thorough
def test_not_finished(start):
    """Pages of a device that nobody retrieved are not given to anybody."""
    page, _ = SMALL
    m = start(topology=PAIR)
    resize(m, page, 4)
    owner = Running(m, page=page)
    owner.open("nvme0")
    owner.start()
    owner.preserve()
    m.kexec()
    owner("session_retrieve", "S", owner.session)
    assert owner.fails("finish", "S") == "EBUSY"
    owner("close", "S")
    owner.retrieve()
    owner.handover()
    owner.finish()
    see_good_update(owner)
