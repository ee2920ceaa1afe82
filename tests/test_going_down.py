# SPDX-License-Identifier: GPL-2.0-only
"""The machine reboots or is turned off, not by way of a live update: running devices are stopped.

In this order: the device, the bridges above it, the IOMMU that translates for it.
"""

import pytest

from lab import pci
from update import (at_work, go_down, load_vfio, see_no_faults, see_stopped, states,
                    translation_off)

REBOOT, POWER_OFF = "reboot -f", "poweroff -f"


@pytest.mark.parametrize("command", (REBOOT, pytest.param(POWER_OFF, marks=pytest.mark.thorough)))
def test_waiting(start, command):
    """Devices that came in running, and that nobody has taken over."""
    m, owner = at_work(start, "nvme0", "igb0")
    owner.preserve()
    m.kexec()
    load_vfio(m)
    assert states(owner) == {"incoming running"}
    see_stopped(owner, go_down(owner, command))


@pytest.mark.thorough
def test_retrieved(start):
    """A device that was taken out of its session, which is not finished, and is in use."""
    m, owner = at_work(start, "nvme0", "igb0")
    owner.preserve()
    m.kexec()
    owner.retrieve()
    see_stopped(owner, go_down(owner, REBOOT))


@pytest.mark.parametrize("command", (pytest.param(REBOOT, marks=pytest.mark.thorough), POWER_OFF))
def test_preserved(start, command):
    """Devices that are preserved, with an owner who would have one go on at all costs."""
    m, owner = at_work(start, "nvme0", "igb0")
    owner.preserve()
    device = owner.devices["igb0"]
    value = pci.word(m.config(device.bdf), pci.COMMAND)
    owner.worker.start("cfg_hammer", device.file, pci.COMMAND, 2, value)
    see_stopped(owner, go_down(owner, command))


def test_config_file(start):
    """Root writes to the configuration of a device all the time, and waits while it is reset."""
    m, owner = at_work(start, "nvme0", "igb0")
    owner.preserve()
    bdf = owner.devices["igb0"].bdf
    low, high = m.config(bdf)[pci.COMMAND:pci.COMMAND + 2]
    m.sh(f"printf '\\{low:o}\\{high:o}' >/tmp/command;"
         f" while dd if=/tmp/command of=/sys/bus/pci/devices/{bdf}/config bs=2"
         f" seek={pci.COMMAND // 2} conv=notrunc; do :; done >/dev/null 2>&1 &")
    see_stopped(owner, go_down(owner, REBOOT))


@pytest.mark.thorough
def test_emergency(start):
    """In an emergency nobody stops them, nor the IOMMU: DMA goes where it may until the reset."""
    m, owner = at_work(start, "nvme0", "igb0")
    owner.preserve()
    go_down(owner, "echo b >/proc/sysrq-trigger")
    assert translation_off(m) == float("inf")
    see_no_faults(owner)
