# SPDX-License-Identifier: GPL-2.0-only
"""Virtual functions in an update: what is refused, what ends, and what goes down."""

import pytest

from lab import pci, vtd
from lab.machine import ENABLE_SRIOV
from lab.running import IOMMUFD_TOKEN, VF_TOKEN, Running
from test_going_down import REBOOT
from test_running import stray
from test_sriov import DRIVE, with_vfs
from test_sriov_update import at_work, attribute
from update import (finish_without_devices, go_down, load_vfio, need_modules, other_takes_over,
                    see_good_update, see_jump_refused, see_no_faults, see_nothing_lost,
                    see_stopped, see_undisturbed, state, states, take_over)


def refuses_write(m, path, value, words="busy"):
    """See that a write to an attribute is refused."""
    said = m.sh(f"echo {value} 2>&1 >{path}", check=False)
    assert words in said, f"{path}: {said or 'was not refused'}"


def refuses_changes(m, name):
    """See that nobody may reset a physical function, unbind it, or change its virtual ones."""
    before = m.sh(f"cat {attribute(m, name, 'sriov_numvfs')}")
    for count in 0, 1:
        refuses_write(m, attribute(m, name, "sriov_numvfs"), count)
    refuses_write(m, attribute(m, name, "reset"), 1)
    refuses_write(m, "/sys/bus/pci/drivers/vfio-pci/unbind", m.bdf(name))
    assert m.sh(f"cat {attribute(m, name, 'sriov_numvfs')}") == before


def can_be_changed(owner, name):
    """See that a physical function is like any other, as soon as it is closed."""
    m = owner.machine
    for device in owner.devices.values():
        if device.stream:
            device.stream.stop()
    owner.worker.kill()
    # A kernel that was not told that virtual functions may be made takes none away, either.
    m.sh(f"echo 1 >{ENABLE_SRIOV}; echo 0 >{attribute(m, name, 'sriov_numvfs')}")
    m.sh(f"echo 1 >{attribute(m, name, 'reset')}")
    m.sh(f"echo {m.bdf(name)} >/sys/bus/pci/drivers/vfio-pci/unbind")


def refuses_file(owner, session, device, name, why):
    """See that a device's file cannot be preserved, and why."""
    owner.machine.mark("refusal")
    assert owner.fails("preserve", session, device.tokens[0], device.file) == name
    owner.machine.wait_console(f"{device.bdf}: live update: cannot be preserved: .*{why}",
                               "refusal", timeout=2)


@pytest.mark.thorough
def test_without_physical(start):
    """A virtual function does not go without its physical one, in that session and before it."""
    m, owner = at_work(start, *with_vfs("igb0", 1))
    physical, virtual = owner.devices.values()
    owner.preserve(devices=False)
    refuses_file(owner, "S", virtual, "ENOENT", "its physical function is not preserved")
    owner("preserve", "S", physical.tokens[0], physical.file)
    owner("session_create", "T", "other")
    refuses_file(owner, "T", virtual, "ENOENT", "its physical function is not preserved in this")
    owner("preserve", "S", virtual.tokens[0], virtual.file)
    assert states(owner) == {"outgoing running"}
    m.mark("preserved")
    see_undisturbed(owner, "load", "preserved")
    owner("close", "S")
    # In another session
    owner("session_create", "S", owner.session)
    owner("preserve", "T", physical.tokens[1], physical.memory)
    owner("preserve", "T", virtual.tokens[1], virtual.memory)
    owner("preserve", "T", IOMMUFD_TOKEN, "I")
    owner("preserve", "T", physical.tokens[0], physical.file)
    refuses_file(owner, "S", virtual, "ENOENT", "its physical function is not preserved in this")
    owner("close", "T")
    assert states(owner) == {"none"}
    see_nothing_lost(owner.settle(), least=1)


@pytest.mark.thorough
def test_idle_physical(start):
    """A physical function with virtual ones is not reset for an update, so it has to run."""
    m, owner = at_work(start, "igb0", "igb0vf0")
    physical, virtual = owner.devices.values()
    words = {mode: m.sh(f"cat {attribute(m, 'igb0', f'liveupdate_{mode}')}").strip()
             for mode in ("idle", "running")}
    assert words == {"idle": "has-virtual-functions", "running": "yes"}
    assert m.sh(f"cat {attribute(m, 'igb0vf0', 'liveupdate_idle')}").strip() == "yes"
    assert m.sh(f"cat {attribute(m, 'igb0vf0', 'liveupdate_running')}").strip() == "yes"
    owner("hwpt_unmark", "I", physical.hwpt, physical.tokens[2])
    owner.preserve(devices=False)
    refuses_file(owner, "S", physical, "EOPNOTSUPP", "has virtual functions enabled")
    refuses_file(owner, "S", virtual, "ENOENT", "its physical function is not preserved")
    owner("close", "S")
    see_nothing_lost(owner.settle(), least=1)


def test_kept(start, kernels):
    """Nobody changes a physical function while it is preserved, nor until it is finished."""
    m, owner = at_work(start, *with_vfs("igb0", 2))
    owner.preserve()
    refuses_changes(m, "igb0")
    m.mark("tried")
    see_undisturbed(owner, "load", "tried")
    m.kexec()
    load_vfio(m)
    # A virtual function that is found before its physical one waits for it.
    for device in owner.devices.values():
        m.sh(f"until [ -e /sys/bus/pci/devices/{device.bdf}/driver ]; do sleep 0.1; done")
        assert m.driver(device.bdf) == "vfio-pci"
    m.sh("echo 1 >/sys/bus/pci/rescan")
    refuses_changes(m, "igb0")
    if kernels != "builtin":
        assert m.sh("rmmod vfio_pci 2>&1", check=False)
        assert m.sh("lsmod | grep ^vfio_pci")
    m.mark("tried")
    see_undisturbed(owner, "freeze", "tried")
    owner.retrieve()
    refuses_changes(m, "igb0")
    owner.handover()
    refuses_changes(m, "igb0")
    owner.finish()
    see_good_update(owner)
    can_be_changed(owner, "igb0")


@pytest.mark.thorough
def test_session_closed(start):
    """Without its session a physical function is like any other, and can be preserved again."""
    m, owner = at_work(start, *with_vfs("igb0", 2))
    for _ in range(2):
        owner.preserve()
        assert states(owner) == {"outgoing running"}
        owner("close", "S")
        assert states(owner) == {"none"}
    m.mark("closed")
    see_undisturbed(owner, "load", "closed")
    see_nothing_lost(owner.settle(), least=1)
    can_be_changed(owner, "igb0")


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["remove", "unbind"])
def test_removed_while_preserved(start, how):
    """Removing a physical function waits for those who use it, and no jump for that."""
    m, owner = at_work(start, *with_vfs("igb0", 2))
    physical, *others = owner.devices.values()
    owner.preserve()
    remover = m.worker("remover")
    if how == "remove":
        remover.start("sh", f"echo 1 >{attribute(m, 'igb0', 'remove')}")
    else:
        remover.start("sh", f"echo {others[1].bdf} >/sys/bus/pci/drivers/vfio-pci/unbind")
    m.sh("sleep 2")
    m.kexec_load()
    see_jump_refused(m, "EAGAIN")
    owner("close", "S")
    for device in owner.devices.values():
        device.stream.stop()
    owner.worker.kill()
    remover.wait()
    if how == "remove":
        for device in owner.devices.values():
            assert m.sh(f"[ ! -e /sys/bus/pci/devices/{device.bdf} ] && echo gone")
    else:
        assert m.driver(others[1].bdf) is None
        assert m.driver(physical.bdf) == "vfio-pci"


# --- in the next kernel, what is not taken over ---

def never_master(m, bdf, since):
    """See that a function's bus mastering was turned off, and is off."""
    values = m.command_writes(bdf, since)
    assert values and not values[-1] & pci.COMMAND_MASTER, f"{bdf}: {values}"


@pytest.mark.thorough
def test_virtual_unbound(start):
    """A virtual function that loses its driver before it is taken over runs on, and waits."""
    m, owner = at_work(start, *with_vfs("igb0", 2))
    owner.preserve()
    m.kexec()
    load_vfio(m)
    bdf = owner.devices["igb0vf1"].bdf
    m.sh(f"echo {bdf} >/sys/bus/pci/drivers/vfio-pci/unbind")
    assert m.driver(bdf) is None
    assert states(owner) == {"incoming running"}
    take_over(owner)
    see_good_update(owner)


@pytest.mark.thorough
@pytest.mark.parametrize("loaded", [True, False], ids=["vfio", "no-vfio"])
def test_physical_removed(start, kernels, loaded):
    """A physical function is removed before it is taken over: the DMA of all ends."""
    m, owner = at_work(start, *with_vfs("igb0", 2))
    owner.preserve()
    m.kexec()
    if loaded:
        load_vfio(m)
    else:
        need_modules(kernels)
    for device in owner.devices.values():
        device.stream.stop()
    m.mark("remove")
    m.sh(f"echo 1 >{attribute(m, 'igb0', 'remove')}")
    for device in owner.devices.values():
        assert m.sh(f"[ ! -e /sys/bus/pci/devices/{device.bdf} ] && echo gone").strip() == "gone"
        never_master(m, device.bdf, "remove")
    see_no_faults(owner)
    finish_without_devices(owner)
    m.sh("echo 1 >/sys/bus/pci/rescan")
    assert state(m, m.bdf("igb0")) == "none"
    # It can have virtual functions again, and go along in another update.
    again = Running(m, "again", session="again")
    again.open(*with_vfs("igb0", 2))
    again.start()
    m.sh("sleep 3")
    see_nothing_lost(again.settle(), least=10)


@pytest.mark.thorough
def test_virtual_not_retrieved(start):
    """A virtual function that nobody takes over keeps the session from being finished."""
    m, owner = at_work(start, *with_vfs("igb0", 2))
    owner.preserve()
    m.kexec()
    left = owner.devices.pop("igb0vf1")
    owner.retrieve(bind=False)
    owner("retrieve", "S", left.tokens[1], left.memory)
    owner.bind()
    owner.handover()
    assert owner.fails("finish", "S") == "EBUSY"
    assert state(m, left.bdf) == "incoming running"
    see_undisturbed(owner, "freeze", "handover")
    owner("retrieve", "S", left.tokens[0], left.file)
    owner("vfio_bind", left.file, "I", VF_TOKEN)
    owner.devices[left.name] = left
    owner("igb_adopt", left.driver, left.file, left.memory)
    owner("ioas_map_file", "I", "A", left.memory, 0, left.size, left.iova)
    owner("vfio_attach", left.file, "A")
    owner.finish()
    see_good_update(owner)


@pytest.mark.thorough
def test_owner_killed(start):
    """The new owner dies before handover: another retrieves the session, and all run on."""
    m, owner = at_work(start, *with_vfs("igb0", 2))
    owner.preserve()
    m.kexec()
    owner.retrieve()
    other_takes_over(owner)
    can_be_changed(owner, "igb0")


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["nvme0vf0", "nvme0"])
def test_isolation(start, name):
    """A function reaches its own memory and nothing else, and has a page table of its own."""
    m, owner = at_work(start, *with_vfs("nvme0", 2), topology=DRIVE)
    hostile = owner.devices[name]
    outside = min(device.iova for device in owner.devices.values()) - 4096, 0x10_0000

    def see_isolated(mark):
        """See that a function's stray DMA is a fault of its own."""
        assert not stray(m, owner, hostile, hostile.iova + hostile.size - 4096, f"in-{mark}")
        for i, iova in enumerate(outside):
            faults = stray(m, owner, hostile, iova, f"out-{mark}{i}")
            assert {event.fields["addr"] & ~0xfff for event in faults} == {iova}
        entries = vtd.Tables(m).entries()
        tables = {entries[device.bdf].table for device in owner.devices.values()}
        assert len(tables) == len(owner.devices)

    see_isolated("a")
    owner.preserve()
    m.kexec()
    owner.retrieve()
    see_isolated("b")
    owner.handover()
    see_isolated("c")
    owner.finish()
    see_nothing_lost(owner.settle())
    for device in owner.devices.values():
        assert device is hostile or not m.trace("vtd_dmar_fault", device.bdf)


@pytest.mark.thorough
@pytest.mark.parametrize("when", ["preserved", "waiting", "retrieved"])
def test_going_down(start, when):
    """The machine reboots without an update: all are stopped before the IOMMU is off."""
    m, owner = at_work(start, *with_vfs("igb0", 2))
    owner.preserve()
    if when != "preserved":
        m.kexec()
    if when == "retrieved":
        owner.retrieve()
    see_stopped(owner, go_down(owner, REBOOT))
