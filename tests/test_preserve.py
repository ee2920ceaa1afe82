# SPDX-License-Identifier: GPL-2.0-only
"""The outgoing kernel: what can be preserved, what is refused, and how it is all undone."""

import re
from dataclasses import dataclass

import pytest

from conftest import IOVA
from lab import GuestError, Nvme, Port, pci
from update import (BOTH_MODES, IDLE, INCOMING, NONE, OUTGOING, REASON_DEVICE, REASON_DOMAIN, Owner,
                    bridges, feature, no_reset, see_jump_refused, state)

FREEZE_FAILED = "Freeze failed! Interrupts are still enabled."


def refused(m, since, what):
    """See that the kernel gave exactly one line of refusal, about this device, for this reason."""
    m.wait_console("live update: cannot be preserved", since)
    lines = re.findall(r".*live update: cannot be preserved.*", m.console_text(since))
    assert len(lines) == 1 and what in lines[0], lines


def test_preserve_and_unpreserve(standard):
    """A session can be closed and made again; sysfs shows the device and all above it."""
    owner = Owner(standard)
    bdf, = owner.own("nvme1")
    above = bridges(standard, bdf)
    assert len(above) == 3
    for _ in range(2):
        assert state(standard, bdf) == "none"
        owner.preserve("nvme1")
        assert state(standard, bdf) == "outgoing idle"
        assert {state(standard, bridge) for bridge in above} == {"outgoing bridge"}
        assert state(standard, standard.bdf("bystander")) == "none"
        owner("close", "S")
        assert {state(standard, bridge) for bridge in above} == {"none"}
    owner.drive("nvme1")
    owner.write("nvme1")
    owner.check("nvme1")


def test_user_space_can_ask(small):
    """The VFIO device feature tells which modes there are, which is in force, and why."""
    owner = Owner(small)
    owner.own("nvme0")
    assert feature(owner, "nvme0") == (BOTH_MODES, 0, NONE, REASON_DOMAIN, "-")
    owner.preserve("nvme0")
    assert feature(owner, "nvme0") == (BOTH_MODES, IDLE, OUTGOING, REASON_DOMAIN, "-")
    small.kexec()
    owner.retrieve("nvme0")
    assert feature(owner, "nvme0") == (BOTH_MODES, IDLE, INCOMING, REASON_DOMAIN, "-")
    owner.finish()
    assert feature(owner, "nvme0") == (BOTH_MODES, 0, NONE, REASON_DOMAIN, "-")
    small.kexec(append="liveupdate=off")
    owner.own("nvme0")
    assert owner.fails("vfio_liveupdate", "Dnvme0") == "ENOTTY"


def test_bridge_counts_devices(standard):
    """A switch stays preserved until the last device below it is not."""
    owner = Owner(standard)
    first, second = owner.own("nvme1", "igb1")
    top = bridges(standard, first)[0]
    assert bridges(standard, second)[0] == top
    owner.preserve("nvme1")
    owner("session_create", "T", "other")
    owner("preserve", "T", 1, "Digb1")
    owner("close", "S")
    assert state(standard, first) == "none"
    assert state(standard, second) == "outgoing idle"
    assert state(standard, top) == "outgoing bridge"
    owner("close", "T")
    assert state(standard, top) == "none"


def test_preserve_twice(small):
    """A file is in one session, once."""
    owner = Owner(small)
    owner.own("nvme0")
    owner.preserve("nvme0")
    assert owner.fails("preserve", "S", 2, "Dnvme0") == "EBUSY"
    owner("session_create", "T", "other")
    assert owner.fails("preserve", "T", 1, "Dnvme0") == "EBUSY"
    assert owner.fails("preserve", "S", 1, "Dnvme0") == "EEXIST"
    owner("close", "S")
    owner("preserve", "T", 1, "Dnvme0")


def test_files_of_groups_are_refused(small):
    """Neither a group nor a device file that came out of one can be preserved."""
    bdf = small.bdf("nvme0")
    small.bind_vfio(bdf)
    owner = Owner(small)
    owner("session_create", "S", "test")
    owner("group_open", "G", bdf)
    small.mark("group")
    assert owner.fails("preserve", "S", 1, "G") == "ENOENT"
    owner("group_device", "G", "D", bdf)
    assert owner.fails("preserve", "S", 1, "D") == "ENOENT"
    small.wait_console("a VFIO group and files from it cannot be preserved", "group")
    assert state(small, bdf) == "none"


def test_unbound_file_is_refused(small):
    """A device file that is not bound to an iommufd gives no access, and cannot be preserved."""
    bdf = small.bdf("nvme0")
    small.bind_vfio(bdf)
    owner = Owner(small)
    owner("session_create", "S", "test")
    owner("vfio_open", "Dnvme0", bdf)
    small.mark("refusal")
    assert owner.fails("preserve", "S", 1, "Dnvme0") == "EINVAL"
    refused(small, "refusal", f"{bdf}: live update: cannot be preserved: the file is not bound")
    owner.attach("nvme0")
    owner("preserve", "S", 1, "Dnvme0")


@dataclass(frozen=True)
class TwoFunctions:
    """Two NVMe drives as functions of one device, with nothing to keep them apart."""

    name: str

    def arguments(self, bus, run):
        """Return QEMU's arguments."""
        args = []
        for i in range(2):
            drive = Nvme(f"{self.name}-{i}").arguments(bus, run)
            drive[-1] = drive[-1].replace("addr=0,", f"addr=0.{i},multifunction=on,")
            args += drive
        return args


def test_shared_group_is_refused(start):
    """A device that shares its IOMMU group with another is not preserved, and says why."""
    m = start(topology=(Port(TwoFunctions("twin")),))
    owner = Owner(m)
    m.bind_vfio(m.bdf("twin-1"))
    m.bind_vfio(m.bdf("twin-0"))
    owner.worker.vfio("D", m.bdf("twin-0"))
    assert feature(owner, "") == (0, 0, NONE, REASON_DEVICE, "EXDEV")
    owner("session_create", "S", "test")
    m.mark("refusal")
    assert owner.fails("preserve", "S", 1, "D") == "EXDEV"
    refused(m, "refusal", "cannot be preserved: not alone in its IOMMU group")
    assert state(m, m.bdf("twin-0")) == "none"


def test_session_closed(small):
    """After its session is closed the device goes on as if nothing had been, without a reset."""
    owner = Owner(small)
    bdf, = owner.own("nvme0")
    owner.drive("nvme0")
    owner.write("nvme0")
    small.mark("preserve")
    owner.preserve("nvme0")
    owner.check("nvme0")
    owner("close", "S")
    owner.check("nvme0")
    small.mark("closed")
    assert not small.trace("pci_cfg_write", bdf, "preserve", "closed")


def test_owner_killed(small):
    """When the owner of device and session is killed, the device is free and works."""
    owner = Owner(small)
    bdf, = owner.own("nvme0")
    owner.drive("nvme0")
    owner.write("nvme0")
    owner.preserve("nvme0")
    owner.worker.kill()
    assert state(small, bdf) == "none"
    other = Owner(small, "other")
    other.own("nvme0")
    other.works("nvme0")
    other("close", "Nnvme0")
    other("close", "Dnvme0")
    small.bind(bdf)
    assert small.driver(bdf) == "nvme"


def test_owner_of_the_device_killed(small):
    """A session keeps the device whose owner is killed, until the session is closed."""
    owner, keeper = Owner(small), small.worker("keeper")
    bdf, = owner.own("nvme0")
    owner.preserve("nvme0")
    keeper("session_create", "K", "keeper")
    owner.worker.kill()
    assert state(small, bdf) == "none"


@pytest.mark.parametrize("kinds", [
    pytest.param(("nvme0", ("INTX", "MSIX")), marks=pytest.mark.thorough),
    ("igb0", ("INTX", "MSI", "MSIX"))], ids=["nvme", "igb"])
def test_interrupts_refuse_freeze(standard, kinds):
    """An enabled interrupt of any kind stops the update; the device works on as before."""
    device, kinds = kinds
    owner = Owner(standard)
    bdf, = owner.own(device)
    owner.drive(device)
    if device == "nvme0":
        owner.write(device)
    owner.preserve(device)
    standard.kexec_load()
    for kind in kinds:
        owner("vfio_irq_on", f"D{device}", kind, 1)
        standard.mark("refusal")
        with pytest.raises(GuestError) as error:
            standard.kexec_go()
        assert error.value.errno == "EINVAL"
        standard.wait_console(f"{bdf}: {re.escape(FREEZE_FAILED)}", "refusal")
        owner.check(device)
        standard.mark("checked")
        assert not standard.trace("pci_cfg_write", bdf, "refusal", "checked")
        owner("vfio_irq_off", f"D{device}", kind)
    standard.kexec_go()
    owner.retrieve(device)
    owner.works(device)
    owner.finish()


@pytest.mark.thorough
def test_asleep(standard):
    """A device that its user let sleep crosses, and is awake on the other side."""
    owner = Owner(standard)
    bdf, = owner.own("nvme0")
    owner.drive("nvme0")
    owner.write("nvme0")
    owner.preserve("nvme0")
    owner("vfio_sleep", "Dnvme0")
    standard.sh(f"until grep -q D3hot /sys/bus/pci/devices/{bdf}/power_state; do sleep 0.1; done")
    standard.kexec()
    owner.retrieve("nvme0")
    assert standard.sh(f"cat /sys/bus/pci/devices/{bdf}/power_state") == "D0"
    owner.works("nvme0")
    owner.finish()


def test_interrupts_of_another_device(standard):
    """A device whose neighbour has an interrupt enabled is not reset for nothing."""
    owner = Owner(standard)
    first, second = owner.own("nvme0", "igb0")
    owner.drive("nvme0")
    owner.write("nvme0")
    owner.preserve("nvme0", "igb0")
    owner("vfio_irq_on", "Digb0", "MSIX", 2)
    standard.kexec_load()
    standard.mark("refusal")
    with pytest.raises(GuestError) as error:
        standard.kexec_go()
    assert error.value.errno == "EINVAL"
    standard.wait_console(f"{second}: {re.escape(FREEZE_FAILED)}", "refusal")
    owner.check("nvme0")
    standard.mark("checked")
    assert not standard.trace("pci_cfg_write", first, "refusal", "checked")


def test_kexec_without_image(small):
    """A jump with no kernel loaded fails before anything is frozen."""
    owner = Owner(small)
    owner.own("nvme0")
    owner.drive("nvme0")
    owner.write("nvme0")
    owner.preserve("nvme0")
    with pytest.raises(GuestError) as error:
        small.kexec_go()
    assert error.value.errno == "EINVAL"
    owner.check("nvme0")


def test_unfreeze(standard):
    """When another file's freeze fails, a frozen device comes back as after VFIO_DEVICE_RESET.

    The other file is one of a device whose way of being reset was taken away by root.
    """
    owner = Owner(standard)
    first, second = owner.own("nvme0", "igb0")
    owner.drive("nvme0")
    owner.write("nvme0")
    owner("bar_mmap", "Dnvme0", 0)
    owner("dmabuf_export", "Dnvme0", "B", 0, 0, 4096)
    owner("cfg_write", "Dnvme0", pci.COMMAND, 2, pci.COMMAND_MEMORY | pci.COMMAND_MASTER)
    before = owner.worker.config("Dnvme0")
    version = int(owner("bar_peek", "Dnvme0", 0, 8, 4))
    owner.preserve("nvme0", "igb0")
    standard.kexec_load()
    with no_reset(standard, second):
        see_jump_refused(standard, "ENOTTY")
    standard.wait_console(f"{second}: Freeze failed! Could not be quiesced")
    standard.wait_console(f"{first}: live update: unfrozen")
    assert len(standard.trace("pci_nvme_pci_reset", None, "freeze")) == 1
    assert owner.worker.config("Dnvme0") == before
    assert standard.command_writes(first, "freeze", None)[-1] & pci.COMMAND_MASTER
    assert int(owner("bar_peek", "Dnvme0", 0, 8, 4)) == version
    owner("ioas_map_file", "I", "A", "B", 0, 4096, IOVA >> 1)
    owner.works("nvme0")
    standard.kexec_go()
    owner.retrieve("nvme0", "igb0")
    owner.works("nvme0")
    owner.works("igb0")
    owner.finish()


@pytest.mark.thorough
def test_being_unbound(standard):
    """A device that somebody is unbinding refuses an update, and costs no other a reset.

    Its device lock is taken for as long as the file is open.
    """
    owner = Owner(standard)
    first, second = owner.own("nvme0", "igb0")
    owner.drive("nvme0")
    owner.write("nvme0")
    owner.preserve("nvme0", "igb0")
    unbind = standard.worker("unbind")
    unbind.start("sh", f"echo {second} >/sys/bus/pci/drivers/vfio-pci/unbind")
    standard.sh("sleep 0.5")
    standard.kexec_load()
    with pytest.raises(GuestError) as error:
        standard.kexec_go()
    assert error.value.errno == "EAGAIN"
    standard.wait_console(f"{second}: Freeze failed! It is being unbound or removed")
    assert not standard.trace("pci_cfg_write", first, "freeze")
    owner.check("nvme0")
    owner("close", "Digb0")
    owner("close", "S")
    unbind.wait()
    assert standard.driver(second) is None
    owner.preserve("nvme0")
    standard.kexec()
    owner.retrieve("nvme0")
    owner.works("nvme0")
    owner.finish()
