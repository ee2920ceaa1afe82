# SPDX-License-Identifier: GPL-2.0-only
"""libliveupdate: its own tests, and sets of devices through updates."""

from lab.running import RunningSet
from update import at_work, see_busy, see_good_update, states

BOTH = ("nvme0", "igb0")


def test_two_updates(start):
    """A set is taken over and preserved again: nothing is lost, nobody touches the devices."""
    m, owner = at_work(start, *BOTH, owner=RunningSet)
    for update in range(2):
        owner.preserve()
        assert states(owner) == {"outgoing running"}
        m.kexec()
        assert states(owner) == {"incoming running"}
        owner.retrieve()
        see_busy(owner)
        owner.handover()
        owner.finish()
        assert states(owner) == {"none"}
        if update == 0:
            owner.refill()
    see_good_update(owner)
