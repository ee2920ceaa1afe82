# SPDX-License-Identifier: GPL-2.0-only
"""Preserved memory: nobody else gets it, all of it comes back, and the boot does not notice."""

import pytest

from conftest import KERNELS
from lab.memory import allocate, measure
from update import memory, see_memory_back

# One piece a page: what a long life makes of memory, at worst
PIECES = ("64m", 1), ("24m", 3)


def press(m):
    """Have all memory filled that the kernel believes to be free."""
    account = m.worker("press").account("mem_press", 64 << 20, 100)
    assert account["wrong"] == 0 and account["bytes"] > account["free"] - (65 << 20)


@pytest.mark.parametrize("size, run", PIECES, ids=("single", "three"))
def test_pieces(start, kernels, size, run):
    """Memory in pieces goes through updates: its content stays, and so does all other memory."""
    # Of the memory above 4 GiB distro initializes struct pages late.
    m = start(topology=(), memory="5G" if kernels == "distro" else None)
    owner = m.worker("owner")
    allocate(owner, "A", size, run)
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


@pytest.mark.only("modules")
def test_cost(kernels):
    """What memory costs is little for each page, and does not grow with their number."""
    def crossed(size, run=None):
        """Take a memfd through an update of a machine that counts instructions."""
        return measure(*KERNELS[kernels], size << 20, run)

    # Such a machine takes a whole processor, also when it has nothing to do: one at a time
    bare = crossed(0)
    whole = crossed(256)
    few, many = crossed(32, 1), crossed(128, 1)
    # 10 ms for a GiB in one piece; a fragment 1 µs, and as much as any other
    assert whole.boot_more(bare) * (1 << 18) <= 10000
    assert many.boot_more(bare) <= 1.05
    assert many.boot_more(bare) <= few.boot_more(bare) * 1.1
    # Linux's own took 3.1 µs
    for cost in whole, many:
        assert cost.retrieve_each() <= 1.65
