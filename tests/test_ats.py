# SPDX-License-Identifier: GPL-2.0-only
"""Virtio block devices, the only ones of QEMU's that have PCIe ATS, in running mode."""

import pytest

from conftest import MODES
from lab import Port, Virtio
from lab.running import Running, RunningSet
from update import see_good_update, see_nothing_lost, states, take_over

PLAIN = (Port(Virtio("virtio0", ats=False)),)


@pytest.mark.cut(("modules", "scalable"))
def test_update_without_ats(start, mode):
    """A virtio block device whose ATS is off goes on through an update, and nothing is lost."""
    m = start(topology=PLAIN, device_iotlb=True, **MODES[mode])
    owner = Running(m)
    owner.open("virtio0")
    owner.start()
    owner.preserve()
    assert states(owner) == {"outgoing running"}
    m.kexec()
    assert states(owner) == {"incoming running"}
    take_over(owner)
    assert states(owner) == {"none"}
    see_good_update(owner)
    # Its work goes on after that.
    owner.work()
    m.sh("sleep 2")
    see_nothing_lost(owner.settle(), least=10)


@pytest.mark.thorough
@pytest.mark.parametrize("interrupts", (False, True), ids=("polled", "interrupts"))
def test_set_without_ats(start, interrupts):
    """Likewise with all of it in a set of libliveupdate; interrupts may go along."""
    m = start(topology=PLAIN, device_iotlb=True)
    owner = RunningSet(m, interrupts=interrupts)
    owner.open("virtio0")
    owner.start()
    owner.preserve()
    m.kexec()
    owner.retrieve()
    owner.arm()
    owner.handover()
    owner.finish()
    see_good_update(owner)
