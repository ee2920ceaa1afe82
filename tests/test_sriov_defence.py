# SPDX-License-Identifier: GPL-2.0-only
"""What the previous kernel says of virtual functions is broken: none of them does harm.

The data are changed in the machine's memory, between the kernels.
"""

import pytest

from lab import pci
from lab.handover import Handover
from lab.running import IOMMUFD_TOKEN
from test_sriov import with_vfs
from test_sriov_held import at_work as held_at_work, read_disk
from test_sriov_update import at_work
from update import (finish_without_devices, see_no_faults, see_translation_on, see_undisturbed,
                    state)

DEVICE = 1
ARI = 0x10


def functions(h):
    """Return the entries of the physical function and of virtual ones."""
    devices = [entry for entry in h.pci_devices() if entry["role"] == DEVICE]
    return (next(entry for entry in devices if not entry["physfn"]),
            *(entry for entry in devices if entry["physfn"]))


def physical(**fields):
    """Return a change of fields of the physical function."""
    def change(h):
        for name, value in fields.items():
            entry = functions(h)[0]
            entry[name] = value(entry[name]) if callable(value) else value
    return change


def virtual(**fields):
    """Return a change of fields of a virtual function."""
    def change(h):
        for name, value in fields.items():
            functions(h)[1][name] = value
    return change


# What is changed, and what is said: the list as a whole is refused.
NUMBERS = "virtual functions have impossible numbers"
COUNT = "virtual functions are counted wrong"
REFUSED = {
    "half": (physical(control=0), "virtual functions are half enabled"),
    "too-many": (physical(num_vfs=0xffff), "there are too many virtual functions"),
    "too-many-now": (physical(initial_vfs=0xffff), "there are too many virtual functions"),
    "no-offset": (physical(offset=0), NUMBERS),
    "no-stride": (physical(stride=0), NUMBERS),
    "far-away": (physical(offset=0xffff), NUMBERS),
    "bus": (physical(last_bus=0x100), "virtual functions are on an impossible bus"),
    "page": (physical(page_size=3), "virtual functions have an impossible page size"),
    "bar": (physical(vf_bar_order=64), "a BAR of virtual functions has an impossible size"),
    "other-place": (physical(offset=lambda offset: offset + 1), COUNT),
    "too-few": (physical(num_vfs=1), COUNT),
    "count": (physical(vfs=1), COUNT),
    "idle": (physical(mode=1), COUNT),
    "of-another": (virtual(physfn=0x5000), COUNT),
    "no-virtual": (virtual(flags=0), "what is no virtual function names a physical one"),
    "nothing": (physical(flags=0), "a device without SR-IOV has virtual functions"),
}
# The list is possible, but not what the device is.
OTHER = {
    "device": physical(vf_device=0x1234),
    "total": physical(total_vfs=lambda total: total + 1),
    "initial": physical(initial_vfs=lambda initial: initial - 1),
    "more": physical(num_vfs=lambda number: number + 1),
    "control": physical(control=lambda control: control ^ ARI),
    "page": physical(page_size=2),
    "bar": physical(vf_bar=lambda bar: bar + 0x100000),
}


def jump(start, change):
    """Have a controller and virtual functions cross with a change of the PCI core's list."""
    m, owner = at_work(start, *with_vfs("igb0", 2))
    owner.preserve()
    handover = Handover(m)
    m.kexec(append="iommu=pt", look=lambda: change(handover.read()))
    return m, owner


def gone(m, device):
    """Tell whether a device is not there."""
    return not m.sh(f"ls -d /sys/bus/pci/devices/{device.bdf}", check=False).startswith("/sys")


@pytest.mark.thorough
@pytest.mark.parametrize("name", REFUSED)
def test_refused(start, name):
    """The list is refused as a whole: all DMA ends before anything else begins."""
    change, line = REFUSED[name]
    m, owner = jump(start, change)
    m.wait_console(f"handover data is broken, no device is known again: {line}", "jump", timeout=1)
    see_translation_on(m)
    see_no_faults(owner, "freeze", "ready")
    first, *others = owner.devices.values()
    assert any(not value & pci.COMMAND_MASTER for value in m.command_writes(first.bdf, "jump"))
    assert state(m, first.bdf) == "none"
    assert all(gone(m, device) for device in others)


@pytest.mark.thorough
@pytest.mark.parametrize("name", OTHER)
def test_other(start, name):
    """The physical function's SR-IOV is not as it was: its virtual ones are not known again."""
    m, owner = jump(start, OTHER[name])
    m.wait_console("its SR-IOV is not as it was, virtual functions are not known again", "jump",
                   timeout=1)
    see_translation_on(m)
    first, *others = owner.devices.values()
    assert state(m, first.bdf) == "incoming running"
    assert all(gone(m, device) for device in others)
    owner("session_retrieve", "S", owner.session)
    owner("retrieve", "S", IOMMUFD_TOKEN, "I")
    owner("retrieve", "S", first.tokens[0], first.file)
    for device in owner.devices.values():
        owner("retrieve", "S", device.tokens[1], device.memory)
    for device in others:
        assert owner.fails("retrieve", "S", device.tokens[0], device.file) == "ENODEV"
    for device in others:
        owner.devices.pop(device.name).stream.stop()
    # It is one without virtual functions, and takes no token.
    first.vfs = 0
    owner.bind()
    owner.handover()
    see_undisturbed(owner)
    owner.finish()
    for device in others:
        m.wait_console(f"drops the page table of {device.bdf[5:]}, which is not there", "jump")
    see_no_faults(owner)


@pytest.mark.thorough
@pytest.mark.parametrize("order", [20, 63])
def test_size(start, order):
    """BARs of virtual functions have another size, and no room for that: they are not there."""
    m, owner = jump(start, physical(vf_bar_order=order))
    m.wait_console("VF BAR 0 .*: can't claim", "jump", timeout=1)
    first, *others = owner.devices.values()
    assert state(m, first.bdf) == "incoming running"
    for device in others:
        assert gone(m, device)
        m.wait_console(f"{device.bdf} was preserved and is not there", "jump", timeout=1)
    m.mark("booted")
    see_no_faults(owner)
    see_undisturbed(owner, "freeze", "booted")


# Of a physical function that is held: what is changed, what is said, and what it is then.
HELD = 3
HELD_BROKEN = {
    "refused": ({"refcount": 1}, "impossible number of virtual ones", "none"),
    "another": ({"device": 0x1234}, "is another device now", "none"),
    "other": ({"total_vfs": 7}, "its SR-IOV is not as it was", "incoming held"),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", HELD_BROKEN)
def test_held(start, name):
    """A function that is held is not what is said: its virtual ones are not known again."""
    fields, line, after = HELD_BROKEN[name]
    m, owner, held = held_at_work(start)
    owner.preserve()
    handover = Handover(m)

    def change(h):
        entry, = (entry for entry in h.read().pci_devices() if entry["role"] == HELD)
        for field, value in fields.items():
            entry[field] = value
        # The drive's own driver is to read it soon, and not after all that is before it.
        for device in owner.devices.values():
            m.throttle(device.name, 0)

    m.kexec(append="iommu=pt", look=lambda: change(handover))
    m.wait_console(line, "jump", timeout=1)
    assert all(gone(m, device) for device in owner.devices.values())
    see_translation_on(m)
    see_no_faults(owner)
    assert state(m, held.bdf) == after
    finish_without_devices(owner)
    if after == "incoming held":
        assert m.driver(held.bdf) is None
        m.sh(f"echo 1 >/sys/bus/pci/devices/{held.bdf}/liveupdate_release")
        assert state(m, held.bdf) == "none"
    assert m.driver(held.bdf) == "nvme"
    read_disk(m)
    see_no_faults(owner)
