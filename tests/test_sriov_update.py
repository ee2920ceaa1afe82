# SPDX-License-Identifier: GPL-2.0-only
"""Virtual functions in an update: they run on, beside the physical one that they belong to."""

import pytest

from lab import Igb, Nvme, Port, Switch, pci
from lab.running import VF_TOKEN, Running
from test_sriov import CONTROLLER, DRIVE, OTHER_TOKEN, with_vfs
from test_versions import between, version
from update import (see_dma, see_good_update, see_interrupts_go_along, see_nothing_lost,
                    see_undisturbed, state, states, take_over)


def numbers(m, name, columns="1-3"):
    """Return what sysfs says of a physical function's virtual ones; columns: of its VF BARs."""
    folder = f"/sys/bus/pci/devices/{m.bdf(name)}"
    files = " ".join(f"{folder}/sriov_{what}" for what in
                     ("totalvfs", "numvfs", "offset", "stride", "vf_device"))
    return m.sh(f"cat {files}; for f in {folder}/virtfn*; do readlink $f; done; "
                f"sed -n 8,13p {folder}/resource | cut -d' ' -f{columns}").split("\n")


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.thorough), 7])
def test_controller(start, count):
    """The goal: a controller and its virtual functions never stop, and all are the same after."""
    m = start(topology=CONTROLLER)
    owner = Running(m)
    names = with_vfs("igb0", count)
    owner.open(*names)
    owner.start()
    before, fixed = numbers(m, "igb0"), numbers(m, "igb0", "1-2")
    owner.preserve()
    assert states(owner) == {"outgoing running"}
    m.kexec()
    # They must not be moved before finish, which is a flag.
    assert numbers(m, "igb0", "1-2") == fixed
    assert states(owner) == {"incoming running"}
    take_over(owner)
    assert numbers(m, "igb0") == before
    assert states(owner) == {"none"}
    see_good_update(owner)
    see_undisturbed(owner, "freeze", None)
    assert m.kmemleak() == ""


@pytest.mark.thorough
def test_drive(start):
    """So it is with a drive's, whose I/O queues are virtual functions'."""
    m = start(topology=DRIVE)
    owner = Running(m)
    owner.open(*with_vfs("nvme0", 2))
    owner.start()
    owner.preserve()
    m.kexec()
    take_over(owner)
    see_good_update(owner)


def at_work(start, *names, topology=CONTROLLER, **options):
    """Start a machine, and functions at work in it; returns it and their owner."""
    m = start(topology=topology)
    owner = Running(m, **options)
    owner.open(*names)
    owner.start()
    return m, owner


@pytest.mark.thorough
def test_two_updates(start):
    """They go along twice, those of two physical functions in one session."""
    m, owner = at_work(start, *with_vfs("igb0", 2), *with_vfs("nvme0", 2),
                       topology=CONTROLLER + DRIVE)
    before = numbers(m, "igb0"), numbers(m, "nvme0")
    for _ in range(2):
        owner.preserve()
        m.kexec()
        take_over(owner)
        assert (numbers(m, "igb0"), numbers(m, "nvme0")) == before
        see_undisturbed(owner)
        see_dma(owner)
        for device in owner.devices.values():
            owner.mark(device)
    see_good_update(owner)


@pytest.mark.thorough
def test_below_a_switch(start):
    """For want of ACS they share their IOMMU group, so that none can go along."""
    m = start(topology=(Port(Switch("switch", Igb("igb0"), Nvme("nvme0", vfs=2))),))
    owner = Running(m)
    owner.open(*with_vfs("igb0", 2), *with_vfs("nvme0", 2), shared=True)
    owner.start()
    owner.preserve(devices=False)
    for device in owner.devices.values():
        words = {m.sh(f"cat /sys/bus/pci/devices/{device.bdf}/liveupdate_{mode}").strip()
                 for mode in ("idle", "running")}
        assert "shared-iommu-group" in words, words
        error = "EXDEV" if device.virtual is None else "ENOENT"
        assert owner.fails("preserve", "S", device.tokens[0], device.file) == error
    owner("close", "S")
    see_nothing_lost(owner.settle(), least=1)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["igb0", "nvme0"])
def test_interrupts(start, name):
    """Interrupts of each function go along."""
    m, owner = at_work(start, *with_vfs(name, 2), topology=CONTROLLER + DRIVE, interrupts=True)
    owner.preserve()
    m.kexec()
    see_interrupts_go_along(owner)


@pytest.mark.thorough
def test_idle(start):
    """A virtual function crosses in idle mode, beside others that run on."""
    m = start(topology=CONTROLLER)
    owner = Running(m)
    m.vfs("igb0", 2)
    owner.open("igb0", "igb0vf0")
    owner.open("igb0vf1", marked=False)
    owner.start()
    owner.preserve()
    idle = owner.devices.pop("igb0vf1")
    idle.stream.stop()
    assert states(owner) == {"outgoing running"}
    assert state(m, idle.bdf) == "outgoing idle"
    m.kexec()
    assert states(owner) == {"incoming running"}
    assert state(m, idle.bdf) == "incoming idle"
    assert len(m.resets(idle.bdf, m.config(idle.bdf), "freeze", "kernel")) == 1
    owner.retrieve()
    owner("retrieve", "S", idle.tokens[0], idle.file)
    owner("retrieve", "S", idle.tokens[1], idle.memory)
    owner("vfio_bind", idle.file, "I", VF_TOKEN)
    owner.handover()
    see_works(owner, idle)
    owner.finish()
    see_good_update(owner)


def see_works(owner, device, frame=7):
    """See that a virtual function of igb0, which is open and bound, works when it is started."""
    m = owner.machine
    owner("vfio_attach", device.file, "A")
    if device.memory not in owner.worker.objects():
        owner("memfd", device.memory, device.size)
    owner("ioas_map_file", "I", "A", device.memory, 0, device.size, device.iova)
    owner("igbvf_start", device.driver, device.file, device.memory, device.iova)
    owner("igb_admit", owner.devices["igb0"].driver, device.virtual)
    owner("igb_rx_begin", device.driver, frame)
    m.wires["igb0"].send(frame, 20, to=device.address)
    account = owner.worker.account("igb_rx_account", device.driver, frame + 20, 5000)
    assert account["good"] == 20


def attribute(m, name, which):
    """Return the path of an attribute of a device in sysfs."""
    return f"/sys/bus/pci/devices/{m.bdf(name)}/{which}"


@pytest.mark.thorough
def test_not_preserved(start):
    """A virtual function that is not preserved is there again, stands still, and is VFIO's."""
    m = start(topology=CONTROLLER)
    owner = Running(m)
    tenant = Running(m, "tenant", first=5, host=owner)
    m.vfs("igb0", 2)
    for which, names in (owner, ("igb0", "igb0vf0")), (tenant, ("igb0vf1",)):
        which.open(*names)
        which.start()
    left, = tenant.devices.values()
    left.stream.stop()
    owner.preserve()
    m.kexec()
    assert state(m, left.bdf) == "none"
    assert not pci.word(m.config(left.bdf), pci.COMMAND) & pci.COMMAND_MASTER
    assert m.driver(left.bdf) is None
    m.mark("booted")
    see_undisturbed(owner, "freeze", "booted")
    owner.retrieve()
    assert m.driver(left.bdf) == "vfio-pci"
    owner.handover()
    owner.finish()
    see_good_update(owner)
    owner("close", owner.devices["igb0vf0"].file)
    owner("vfio_open", left.file, left.bdf)
    owner("vfio_bind", left.file, "I", VF_TOKEN)
    see_works(owner, left)


@pytest.mark.thorough
def test_token(start):
    """The token goes along; whoever has it in a session needs none, until finish."""
    m, owner = at_work(start, *with_vfs("igb0", 1))
    owner.preserve()
    first, other = owner.devices.values()
    # It may be changed until the jump.
    owner("vfio_token", first.file, OTHER_TOKEN)
    m.kexec()
    owner.retrieve(bind=False)
    assert owner.fails("vfio_bind", other.file, "I", VF_TOKEN) == "EACCES"
    owner("vfio_bind", other.file, "I")
    assert owner.fails("vfio_bind", first.file, "I", VF_TOKEN) == "EACCES"
    owner("vfio_bind", first.file, "I", OTHER_TOKEN)
    owner.adopt()
    owner.handover()
    owner.finish()
    see_good_update(owner)
    owner("close", other.file)
    owner("vfio_open", other.file, other.bdf)
    for token in [], [VF_TOKEN]:
        assert owner.fails("vfio_bind", other.file, "I", *token) == "EACCES"
    owner("vfio_bind", other.file, "I", OTHER_TOKEN)


@pytest.mark.thorough
def test_any_order(start):
    """They are retrieved before their physical function."""
    m, owner = at_work(start, *with_vfs("igb0", 2))
    owner.preserve()
    m.kexec()
    owner("session_retrieve", "S", owner.session)
    owner("retrieve", "S", 90, "I")
    for device in reversed(owner.devices.values()):
        owner("retrieve", "S", device.tokens[0], device.file)
        owner("retrieve", "S", device.tokens[1], device.memory)
    for device in owner.devices.values():
        owner("vfio_bind", device.file, "I", VF_TOKEN)
    owner.adopt()
    owner.handover()
    owner.finish()
    see_good_update(owner)


@pytest.mark.thorough
@pytest.mark.parametrize("outgoing", ["7.2", "7.3"])
def test_versions(start, kernels, outgoing):
    """They go from one version of Linux to another, whichever is the newer one."""
    m = start(topology=CONTROLLER + DRIVE, **between(kernels, outgoing))
    owner = Running(m)
    owner.open(*with_vfs("igb0", 2), *with_vfs("nvme0", 2))
    owner.start()
    before = numbers(m, "igb0"), numbers(m, "nvme0")
    owner.preserve()
    m.kexec()
    assert version(m) != outgoing
    take_over(owner)
    assert (numbers(m, "igb0"), numbers(m, "nvme0")) == before
    see_good_update(owner)
