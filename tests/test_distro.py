# SPDX-License-Identifier: GPL-2.0-only
"""What a distribution's kernel has, and the lab's own do not: NUMA, KASLR, deferred pages."""

import pytest

from lab.running import RunningSet
from update import PAIR, memory, see_good_update, see_memory_back, see_undisturbed, take_over


class Nodes:
    """Not a port: a machine's NUMA nodes, each with a processor, and memory of a size if any."""

    def __init__(self, *sizes):
        """Take their sizes; they come to the memory of the machine."""
        self.sizes = sizes

    def arguments(self, slot, run):
        """Return QEMU's arguments."""
        del slot, run
        # Linux takes processors of two nodes in one socket for a mistake of the firmware.
        words = ["-smp", f"sockets={len(self.sizes)}"]
        for number, size in enumerate(self.sizes):
            node = f"node,nodeid={number},cpus={number}"
            if size:
                words += ["-object", f"memory-backend-ram,id=node{number},size={size}"]
                node += f",memdev=node{number}"
            words += ["-numa", node]
        return words


def nodes_with_memory(m):
    """Return the numbers of the nodes that have memory."""
    return m.sh("cat /sys/devices/system/node/has_memory").strip()


def text(m):
    """Return where the kernel's code is in memory."""
    return m.sh("grep -w _stext /proc/kallsyms").split()[0]


@pytest.mark.only("distro")
@pytest.mark.parametrize("sizes, have", (
    pytest.param(("2G", "2G"), "0-1", id="two", marks=pytest.mark.thorough),
    pytest.param(("4G", None), "0", id="empty", marks=pytest.mark.thorough),
    pytest.param((None, "4G"), "1", id="first-empty", marks=pytest.mark.thorough)))
def test_nodes(start, sizes, have):
    """Two updates with memory on one node or on each: devices go on, and memory is all there."""
    m = start(topology=(*PAIR, Nodes(*sizes)), memory="4G")
    owner = RunningSet(m)
    owner.open("nvme0", "igb0")
    owner.start()
    places, totals = {text(m)}, []
    for _ in range(2):
        assert nodes_with_memory(m) == have
        owner.preserve()
        m.kexec()
        take_over(owner)
        see_undisturbed(owner)
        owner.refill()
        places.add(text(m))
        totals.append(memory(m))
    assert nodes_with_memory(m) == have
    assert len(places) > 1, "the kernel does not move: this says nothing of KASLR"
    see_memory_back(m, totals)
    see_good_update(owner)
