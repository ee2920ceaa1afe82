# SPDX-License-Identifier: GPL-2.0-only
"""Virtual functions run through an update, and the driver of their physical one takes no part.

That one is held: it stands still, and belongs to nobody, until root releases it.
"""

import pytest

from lab import pci
from lab.running import Running
from lab.witness import Witness
from test_going_down import REBOOT
from test_sriov import CONTROLLER, DRIVE, with_vfs
from test_sriov_refusals import refuses_file, refuses_write
from test_sriov_update import numbers
from test_versions import between, version
from update import (finish_without_devices, go_down, load_vfio, see_dma, see_good_update,
                    see_interrupts_go_along, see_jump_refused, see_no_faults, see_nothing_lost,
                    see_stopped, see_undisturbed, state, states, take_over)

VFS = ("nvme0vf0", "nvme0vf1")


class Tenant(Running):
    """A process with virtual functions of a drive that Linux's own driver has."""

    rules = False

    def _govern(self, device, command, *words):
        """Let a virtual function begin to work."""
        if command == "nvme_online":
            name = controller(self.machine, device.physical)
            self("nvme_admit", f"/dev/{name}", device.virtual, *words)


def attribute(m, bdf, name):
    """Return the path of a device's attribute in sysfs."""
    return f"/sys/bus/pci/devices/{bdf}/{name}"


def controller(m, name):
    """Return what Linux calls a drive that its own driver has."""
    return m.sh(f"ls {attribute(m, m.bdf(name), 'nvme')}").strip()


def read_disk(m):
    """See that Linux's driver reads what is on the drive, as soon as it has it."""
    disk = f"/dev/{controller(m, 'nvme0')}n1"
    m.sh(f"until [ -b {disk} ]; do sleep 0.1; done; dd if={disk} of=/dev/null bs=64k count=16")


def native(m, count=2, hold=True):
    """Have a drive with its own driver, and virtual functions with vfio-pci."""
    bdf = m.bdf("nvme0")
    m.bind_vfio(bdf)
    m.share_drive(bdf)
    m.bind(bdf, "nvme")
    m.sh(f"echo 0 >{attribute(m, bdf, 'sriov_drivers_autoprobe')};"
         f"echo {count} >{attribute(m, bdf, 'sriov_numvfs')}")
    for number in range(count):
        m.bind_vfio(m.bdf(f"nvme0vf{number}"))
    if hold:
        m.sh(f"echo 1 >{attribute(m, bdf, 'liveupdate_hold')}")
    return bdf


def at_work(start, hold=True, **options):
    """Start a machine, and virtual functions at work in it whose physical one is to be held."""
    m = start(topology=DRIVE, **options)
    native(m, hold=hold)
    owner = Tenant(m)
    owner.open(*VFS)
    owner.start()
    return m, owner, Witness(m, m.bdf("nvme0"))


def see_held(m, physical, since="freeze", until=None):
    """See that a physical function was stopped at the jump, and left alone after it."""
    found = physical.findings(since, until)
    assert not (found.resets or found.faults or found.bridge_changes), found
    # Bus mastering off and INTx disabled, in one write or two; the second time they are so.
    assert {event.offset for event in found.config_writes} <= {pci.COMMAND}, found.config_writes
    assert all(event.time < m.marks["jump"] for event in found.config_writes)
    assert not pci.word(m.config(physical.bdf), pci.COMMAND) & pci.COMMAND_MASTER
    assert state(m, physical.bdf) == "incoming held"
    assert m.driver(physical.bdf) is None
    assert "dropped a write" not in m.console_text(since)


def release(m, bdf):
    """Release a physical function; see that its driver has it, and what is on the drive.

    Its virtual functions are used by nobody then.
    """
    for link in m.sh(f"find {attribute(m, bdf, '')} -maxdepth 1 -name 'virtfn*'").split():
        if m.sh(f"ls -d {link}/driver", check=False).startswith("/sys"):
            refuses_write(m, attribute(m, bdf, "liveupdate_release"), 1)
            m.sh(f"basename $(readlink {link}) >{link}/driver/unbind")
    m.sh(f"echo 1 >{attribute(m, bdf, 'liveupdate_release')}")
    assert state(m, bdf) == "none"
    assert m.driver(bdf) == "nvme"
    assert m.sh(f"cat {attribute(m, bdf, 'sriov_numvfs')}").strip() == "0"
    assert not m.sh(f"ls -d {attribute(m, bdf, 'virtfn0')}", check=False).startswith("/sys")
    read_disk(m)


def close(owner):
    """Let an owner's process end."""
    owner.worker.kill()
    for name in owner.devices:
        owner.machine.throttle(name, 0)


def test_update(start):
    """The goal: virtual functions never stop; their physical one is held until it is released."""
    m, owner, physical = at_work(start)
    before = numbers(m, "nvme0", "1-2")
    owner.preserve()
    assert states(owner) == {"outgoing running"}
    assert state(m, physical.bdf) == "outgoing held"
    m.kexec()
    assert states(owner) == {"incoming running"}
    assert numbers(m, "nvme0", "1-2") == before
    assert m.sh(f"cat {attribute(m, physical.bdf, 'sriov_drivers_autoprobe')}").strip() == "0"
    m.sh("echo 1 >/sys/bus/pci/rescan")
    see_held(m, physical)
    take_over(owner)
    assert states(owner) == {"none"}
    see_good_update(owner)
    see_undisturbed(owner, "freeze", None)
    see_held(m, physical)
    assert numbers(m, "nvme0", "1-2") == before
    close(owner)
    m.mark("release")
    release(m, physical.bdf)


@pytest.mark.thorough
def test_two_updates(start):
    """It is held through a second update, too, though nobody asked for that again."""
    m, owner, physical = at_work(start)
    for update in range(2):
        owner.preserve()
        m.kexec()
        take_over(owner)
        see_undisturbed(owner)
        see_dma(owner)
        see_held(m, physical)
        assert not update or not physical.findings("freeze", None).config_writes
        for device in owner.devices.values():
            owner.mark(device)
    see_good_update(owner)
    close(owner)
    release(m, physical.bdf)


@pytest.mark.thorough
def test_not_released(start):
    """Nobody gets a function that is held, or changes it, while virtual ones are incoming."""
    m, owner, physical = at_work(start)
    bdf = physical.bdf
    owner.preserve()
    m.kexec()
    load_vfio(m)

    def refused():
        for driver in "nvme", "vfio-pci":
            m.sh(f"echo {driver} >{attribute(m, bdf, 'driver_override')};"
                 f"echo {bdf} >/sys/bus/pci/drivers/{driver}/bind;"
                 f"echo {bdf} >/sys/bus/pci/drivers_probe", check=False)
            assert m.driver(bdf) is None
        for count in 0, 1:
            refuses_write(m, attribute(m, bdf, "sriov_numvfs"), count)
        refuses_write(m, attribute(m, bdf, "reset"), 1)

    refused()
    refuses_write(m, attribute(m, bdf, "liveupdate_release"), 1)
    owner.retrieve()
    refused()
    refuses_write(m, attribute(m, bdf, "liveupdate_release"), 1)
    owner.handover()
    owner.finish()
    refused()
    see_held(m, physical)
    # It goes along with whatever is preserved next, and then it is not released, either.
    for device in owner.devices.values():
        owner.mark(device)
    owner.preserve()
    refuses_write(m, attribute(m, bdf, "liveupdate_release"), 1)
    owner("close", "S")
    see_good_update(owner)
    m.sh(f"echo >{attribute(m, bdf, 'driver_override')}")
    close(owner)
    release(m, bdf)
    refuses_write(m, attribute(m, bdf, "liveupdate_release"), 1, "nvalid")


@pytest.mark.thorough
def test_removed(start):
    """A function that is held is removed: so are its virtual ones, and their DMA ends."""
    m, owner, physical = at_work(start)
    owner.preserve()
    m.kexec()
    load_vfio(m)
    m.mark("remove")
    m.sh(f"echo 1 >{attribute(m, physical.bdf, 'remove')}")
    for device in owner.devices.values():
        assert not m.sh(f"ls -d /sys/bus/pci/devices/{device.bdf}", check=False).startswith("/sys")
        values = m.command_writes(device.bdf, "remove")
        assert values and not values[-1] & pci.COMMAND_MASTER
        m.throttle(device.name, 0)
    see_no_faults(owner)
    finish_without_devices(owner)
    m.sh("echo 1 >/sys/bus/pci/rescan")
    assert state(m, physical.bdf) == "none"
    assert m.driver(physical.bdf) == "nvme"
    read_disk(m)


@pytest.mark.thorough
def test_hold(start):
    """Without root's word no virtual function goes along; it is not taken back meanwhile."""
    m, owner, physical = at_work(start, hold=False)
    hold = attribute(m, physical.bdf, "liveupdate_hold")
    assert m.sh(f"cat {hold}").strip() == "0"
    for device in owner.devices.values():
        for mode in "idle", "running":
            assert m.sh(f"cat {attribute(m, device.bdf, f'liveupdate_{mode}')}").strip() \
                == "physical-function"
    owner.preserve(devices=False)
    refuses_file(owner, "S", owner.devices["nvme0vf0"], "EOPNOTSUPP", "takes no part")
    m.sh(f"echo 1 >{hold}")
    for device in owner.devices.values():
        assert m.sh(f"cat {attribute(m, device.bdf, 'liveupdate_running')}").strip() == "yes"
        owner("preserve", "S", device.tokens[0], device.file)
    assert state(m, physical.bdf) == "outgoing held"
    refuses_write(m, hold, 0)
    refuses_write(m, attribute(m, physical.bdf, "sriov_numvfs"), 0)
    refuses_write(m, attribute(m, physical.bdf, "reset"), 1)
    refuses_write(m, "/sys/bus/pci/drivers/nvme/unbind", physical.bdf)
    owner("close", "S")
    assert state(m, physical.bdf) == "none"
    m.sh(f"echo 0 >{hold}")
    m.mark("closed")
    see_undisturbed(owner, "load", "closed")
    assert not physical.findings("load", "closed").complaints()
    see_nothing_lost(owner.settle(), least=1)
    # All the time its driver works on.
    m.sh(f"dd if=/dev/{controller(m, 'nvme0')}n1 of=/dev/null bs=64k count=16 iflag=direct")
    close(owner)
    m.sh(f"echo 0 >{attribute(m, physical.bdf, 'sriov_numvfs')}")


@pytest.mark.thorough
@pytest.mark.parametrize("when", ["preserved", "waiting"])
def test_going_down(start, when):
    """The machine reboots without an update: virtual functions are stopped like all others."""
    m, owner, _ = at_work(start)
    owner.preserve()
    if when == "waiting":
        m.kexec()
        load_vfio(m)
    see_stopped(owner, go_down(owner, REBOOT))


def tenants(m):
    """Return the owners of two virtual functions, each with a session, at work."""
    owners = [Tenant(m, name, session=name, first=number) for number, name in enumerate(VFS)]
    for owner in owners:
        owner.open(owner.session)
        owner.start()
    return owners


@pytest.mark.thorough
def test_two_sessions(start):
    """Virtual functions of two sessions: it is held for the one as well as for the other."""
    m = start(topology=DRIVE)
    bdf = native(m)
    owners = tenants(m)
    physical = Witness(m, bdf)
    for owner in owners:
        owner.preserve()
    owners[0]("close", "S")
    assert state(m, bdf) == "outgoing held"
    owners[0].preserve()
    owners[1]("close", "S")
    owners[0]("close", "S")
    assert state(m, bdf) == "none"
    for owner in owners:
        owner.preserve()
    m.kexec()
    for owner in owners:
        refuses_write(m, attribute(m, bdf, "liveupdate_release"), 1)
        take_over(owner)
    for owner in owners:
        see_good_update(owner)
        close(owner)
    see_held(m, physical)
    release(m, bdf)


@pytest.mark.thorough
def test_left_behind(start):
    """A virtual function that is not preserved is there again, and stands still."""
    m = start(topology=DRIVE)
    bdf = native(m)
    owner, other = tenants(m)
    physical = Witness(m, bdf)
    left = other.devices["nvme0vf1"]
    m.throttle("nvme0vf1", 0)
    other("nvme_settle", left.driver)
    owner.preserve()
    m.kexec()
    assert state(m, left.bdf) == "none"
    assert not pci.word(m.config(left.bdf), pci.COMMAND) & pci.COMMAND_MASTER
    assert m.driver(left.bdf) is None
    # It was reset, and with that QEMU has the other one do at once what is before it.
    assert len(m.resets(left.bdf, m.config(left.bdf), "kernel", "ready")) == 1
    owner.retrieve()
    owner.handover()
    owner.finish()
    see_nothing_lost(owner.settle())
    see_undisturbed(owner)
    see_no_faults(owner)
    see_held(m, physical)
    close(owner)
    release(m, bdf)


@pytest.mark.thorough
def test_idle(start):
    """A virtual function crosses in idle mode."""
    m = start(topology=DRIVE)
    bdf = native(m)
    owner = Tenant(m)
    owner.open("nvme0vf0", marked=False)
    owner.start()
    m.throttle("nvme0vf0", 0)
    device = owner.devices["nvme0vf0"]
    owner("nvme_settle", device.driver)
    physical = Witness(m, bdf)
    owner.preserve(memory=False, iommufd=False)
    assert states(owner) == {"outgoing idle"}
    m.kexec()
    assert states(owner) == {"incoming idle"}
    see_held(m, physical)
    owner("session_retrieve", "S", owner.session)
    owner("retrieve", "S", device.tokens[0], device.file)
    owner("iommufd", "I")
    owner("ioas", "I", "A")
    owner("vfio_bind", device.file, "I")
    owner("vfio_attach", device.file, "A")
    owner.worker.dma_memory(device.memory, device.size, device.iova)
    owner("nvme_start", device.driver, device.file, device.memory, device.iova, device.queue)
    owner("nvme_write", device.driver, 0, 64, 3)
    owner("nvme_read_check", device.driver, 0, 64, 3)
    owner.finish()
    see_held(m, physical)
    close(owner)
    release(m, bdf)


@pytest.mark.thorough
def test_interrupts(start):
    """Interrupts of virtual functions go along, those of the function that is held do not."""
    m = start(topology=DRIVE)
    bdf = native(m)
    owner = Tenant(m, interrupts=True)
    owner.open(*VFS)
    owner.start()
    physical = Witness(m, bdf)
    owner.preserve()
    m.kexec()
    see_interrupts_go_along(owner)
    see_held(m, physical)


@pytest.mark.thorough
def test_plain_kexec(start):
    """A kernel that gets nothing gives the function to its driver, without virtual ones."""
    m, owner, physical = at_work(start)
    owner.preserve()
    m.kexec()
    take_over(owner)
    see_good_update(owner)
    see_held(m, physical)
    m.kexec()
    assert state(m, physical.bdf) == "none"
    assert m.driver(physical.bdf) == "nvme"
    assert m.sh(f"cat {attribute(m, physical.bdf, 'sriov_numvfs')}").strip() == "0"
    read_disk(m)
    see_no_faults(owner)


@pytest.mark.thorough
def test_beside_running(start):
    """In one update, a physical function of a program that runs on, and one that is held."""
    m = start(topology=CONTROLLER + DRIVE)
    bdf = native(m)
    owner, other = Tenant(m), Running(m, "other", session="other", first=5)
    owner.open(*VFS)
    owner.start()
    other.open(*with_vfs("igb0", 2))
    other.start()
    physical = Witness(m, bdf)
    for each in owner, other:
        each.preserve()
    m.kexec()
    for each in owner, other:
        take_over(each)
    for each in owner, other:
        see_good_update(each)
    see_held(m, physical)


@pytest.mark.thorough
def test_removed_while_preserved(start):
    """Removing the function waits for those who use its virtual ones, and no jump for that."""
    m, owner, physical = at_work(start)
    owner.preserve()
    remover = m.worker("remover")
    remover.start("sh", f"echo 1 >{attribute(m, physical.bdf, 'remove')}")
    m.sh("sleep 2")
    m.kexec_load()
    see_jump_refused(m, "EAGAIN")
    owner("close", "S")
    close(owner)
    remover.wait()
    for bdf in physical.bdf, *(device.bdf for device in owner.devices.values()):
        assert not m.sh(f"ls -d /sys/bus/pci/devices/{bdf}", check=False).startswith("/sys")
    m.sh("echo 1 >/sys/bus/pci/rescan")
    assert m.driver(physical.bdf) == "nvme"


@pytest.mark.thorough
@pytest.mark.parametrize("outgoing", ["7.2", "7.3"])
def test_versions(start, kernels, outgoing):
    """It is held by another version of Linux, whichever is the newer one."""
    m, owner, physical = at_work(start, **between(kernels, outgoing))
    owner.preserve()
    m.kexec()
    assert version(m) != outgoing
    take_over(owner)
    see_good_update(owner)
    see_held(m, physical)
    close(owner)
    release(m, physical.bdf)
