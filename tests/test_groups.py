# SPDX-License-Identifier: GPL-2.0-only
"""The next kernel sees other IOMMU groups: what cannot be kept apart does not run on."""

import pytest

from lab import Igb, Nvme, pci
from lab.running import IOMMUFD_TOKEN, Running
from update import (bridges, see_busy, see_good_update, see_no_faults, state, states,
                    take_over)

ACS_CONTROL = 6


class Functions:
    """Root ports that are functions of one device: ACS alone keeps apart what is below them."""

    def __init__(self, *below):
        """Say what is below them."""
        self.below = below

    def arguments(self, slot, run):
        """Return QEMU's arguments."""
        args = []
        for function, device in enumerate(self.below):
            port = f"rp-{device.name}"
            args += ["-device", f"pcie-root-port,id={port},bus=pcie.0,addr={slot:#x}.{function},"
                     f"multifunction=on,chassis={run.chassis()},slot={slot + function}"]
            args += device.arguments(port, run)
        return args


TOPOLOGY = (Functions(Nvme("nvme0"), Igb("igb0")),)


def group(m, bdf):
    """Return the number of a device's IOMMU group."""
    return m.sh(f"readlink /sys/bus/pci/devices/{bdf}/iommu_group").rpartition("/")[2]


def merge(m, *bdfs):
    """Turn ACS off above devices, which the next kernel will leave so."""
    assert len({group(m, bdf) for bdf in bdfs}) == len(bdfs)
    for bdf in bdfs:
        port, = bridges(m, bdf)
        control = pci.extended_capability(m.config(port), pci.EXT_CAP_ACS) + ACS_CONTROL
        m.sh(f"printf '\\0\\0' | dd of=/sys/bus/pci/devices/{port}/config bs=1 seek={control}")


def go_on_in_one(m):
    """Take both devices to a kernel that sees one group; returns their addresses."""
    bdfs = [m.bdf("nvme0"), m.bdf("igb0")]
    merge(m, *bdfs)
    m.kexec()
    assert group(m, bdfs[0]) == group(m, bdfs[1])
    return bdfs


def test_two_page_tables(start):
    """Of two devices that are in one group now, each with a page table, the first goes on."""
    m = start(topology=TOPOLOGY)
    stays, ends = (Running(m, name, session=name, first=number)
                   for number, name in enumerate(("nvme0", "igb0")))
    for owner in (stays, ends):
        owner.open(owner.session)
        owner.start()
        owner.preserve()
    bdfs = go_on_in_one(m)
    m.wait_console(f"{bdfs[1]}: .*is in one IOMMU group with {bdfs[0]} now", "kernel", timeout=1)
    assert states(stays) == {"incoming running"}
    assert state(m, bdfs[1]) == "none"
    assert not pci.word(m.config(bdfs[1]), pci.COMMAND) & pci.COMMAND_MASTER
    assert m.driver(bdfs[1]) is None
    ends("session_retrieve", "S", ends.session)
    file, memory, _ = ends.devices["igb0"].tokens
    assert ends.fails("retrieve", "S", file, "D") == "ENODEV"
    ends("retrieve", "S", IOMMUFD_TOKEN, "I")
    ends("retrieve", "S", memory, "M")
    ends.finish()
    take_over(stays)
    see_good_update(stays)
    see_no_faults(ends)


@pytest.mark.thorough
@pytest.mark.parametrize("options", ({}, {"scalable": True}), ids=("legacy", "scalable"))
def test_one_page_table(start, options):
    """Two devices with one page table go on in one group; when one is removed, the other does."""
    m = start(topology=TOPOLOGY, **options)
    owner = Running(m)
    owner.open("nvme0", "igb0", shared=True)
    owner.start()
    owner.preserve()
    bdfs = go_on_in_one(m)
    assert states(owner) == {"incoming running"}
    m.sh(f"echo 1 >/sys/bus/pci/devices/{bdfs[1]}/remove")
    removed = owner.devices.pop("igb0")
    removed.stream.stop()
    m.sh("sleep 1")
    owner.retrieve()
    assert owner.fails("retrieve", "S", removed.tokens[0], removed.file) == "ENODEV"
    owner("retrieve", "S", removed.tokens[1], removed.memory)
    see_busy(owner)
    owner.handover()
    owner.finish()
    see_good_update(owner)
