# SPDX-License-Identifier: GPL-2.0-only
"""Page tables that can track dirty pages, which QEMU makes wherever the IOMMU can.

The lab's IOMMU cannot. The kernel is made to believe that it can: what it has read of the unit's
capabilities at boot is changed in its memory. What it then does with its page tables is the same
as on hardware that can, as long as tracking is off; what tracking itself does nobody sees here.
"""

import struct

import pytest

from lab import GuestError
from lab.running import Running
from update import PAIR, see_good_update

TRACKING = 2
# Capabilities of the unit (VT-d 11.4.3): SLADS, and SMPWC, without which Linux does not use it.
SLADS, SMPWC = 1 << 45, 1 << 48
WORDS = "/sys/class/iommu/dmar0/intel-iommu"
GIB = 1 << 30


def pretend(m):
    """Have the kernel believe that its IOMMU can track dirty pages."""
    cap, ecap = (int(m.sh(f"cat {WORDS}/{name}"), 16) for name in ("cap", "ecap"))
    assert not ecap & SLADS
    with m.stopped():
        memory = m.memory(0, GIB)
        # struct intel_iommu has them one after the other.
        found = memory.find(struct.pack("<QQ", cap, ecap))
        assert found >= 0
        m.poke(found + 8, struct.pack("<Q", ecap | SLADS | SMPWC))
    assert int(m.sh(f"cat {WORDS}/ecap"), 16) & SLADS


@pytest.fixture
def owner(start):
    """A drive at work on such a page table."""
    m = start(topology=PAIR, scalable=True)
    pretend(m)
    owner = Running(m)
    owner.open("nvme0", flags=TRACKING)
    owner.start()
    return owner


def test_update(owner):
    """It goes along while it does not track, and cannot begin to while it is preserved."""
    owner.preserve()
    assert owner.worker.fails("hwpt_dirty", "I", "Hnvme0", 1) == "EBUSY"
    owner("hwpt_dirty", "I", "Hnvme0", 0)
    owner.machine.kexec()
    owner.retrieve()
    owner.handover()
    owner.finish()
    see_good_update(owner)


@pytest.mark.thorough
def test_tracking(owner):
    """While it tracks it cannot go along; afterwards it can, and can track again."""
    owner("hwpt_dirty", "I", "Hnvme0", 1)
    with pytest.raises(GuestError) as error:
        owner.preserve()
    assert error.value.errno == "EBUSY"
    owner("hwpt_dirty", "I", "Hnvme0", 0)
    owner("close", "S")
    owner.preserve()
    assert owner.worker.fails("hwpt_dirty", "I", "Hnvme0", 1) == "EBUSY"
    owner("close", "S")
    owner("hwpt_dirty", "I", "Hnvme0", 1)
