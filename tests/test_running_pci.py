# SPDX-License-Identifier: GPL-2.0-only
"""Running mode, PCI and vfio-pci: what is written to a device and the bridges above it."""

import re

import pytest

from lab import SMALL, STANDARD, GuestError, pci
from update import SESSION, Owner, bridges, load_vfio, state

ALL = ("nvme0", "igb0", "nvme1", "igb1")


class NativeHotplug:
    """Not a port: has the firmware leave hot plug to Linux, which drives the slots by pciehp."""

    @staticmethod
    def arguments(slot, run):
        """Return QEMU's arguments."""
        del slot, run
        return ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]


SECONDARY_STATUS = 0x1e
INTERRUPT_LINE = 0x3c
PM_CONTROL = 4
EXT_CAP_AER = 1

# Registers of a port that its services write, as offset and size in their capability.
EXPRESS_SERVICES = ((0x08, 2), (0x0a, 2), (0x18, 2), (0x1a, 2), (0x1c, 2), (0x20, 4))
LINK_CONTROL = 0x10
LINK_STATUS = 0x12
LINK_NOTIFICATION = 0xc00
SLOT_CONTROL = 0x18
SLOT_POWER_OFF = 0x400
MSI_SIZE = 0x18
MSIX_SIZE = 12
AER_SIZE = 0x34


def extended(config, wanted):
    """Return the offset of an extended capability in config space; 0 when there is none."""
    offset = 0x100
    while offset:
        header = pci.word(config, offset, 4)
        if header & 0xffff == wanted:
            return offset
        offset = header >> 20
    return 0


def services(config):
    """Return the offsets in a bridge's config space that the services of a port may write."""
    express = pci.capability(config, pci.CAP_EXPRESS)
    spans = [(express + offset, size) for offset, size in EXPRESS_SERVICES]
    spans += [(SECONDARY_STATUS, 2), (INTERRUPT_LINE, 1),
              (pci.capability(config, pci.CAP_MSI), MSI_SIZE),
              (pci.capability(config, pci.CAP_MSIX), MSIX_SIZE),
              (extended(config, EXT_CAP_AER), AER_SIZE)]
    return {at for start, size in spans if start for at in range(start, start + size)}


def resources(m, bdf):
    """Return where a device's BARs are, and how large its ROM is."""
    lines = [line.split() for line in m.sh(f"cat /sys/bus/pci/devices/{bdf}/resource").splitlines()]
    start, end, _ = (int(number, 16) for number in lines[6])
    return [line[:2] for line in lines[:6]], end - start


def preserve_running(owner, *devices):
    """Preserve devices that are open and driven; skip the test if not in running mode."""
    m = owner.machine
    owner.preserve(*devices)
    if {state(m, m.bdf(device)) for device in devices} != {"outgoing running"}:
        pytest.skip("devices are not preserved in running mode")


def cross_running(m, *devices):
    """Take running devices across an update; returns their owner and their addresses."""
    owner = Owner(m)
    bdfs = owner.own(*devices)
    for device in devices:
        owner.drive(device)
    preserve_running(owner, *devices)
    m.kexec()
    return owner, *bdfs


def bind(owner, *devices, session=SESSION):
    """Get devices back from their session and bind them, which opens them."""
    owner("session_retrieve", "S", session)
    for token, device in enumerate(devices, 1):
        owner("retrieve", "S", token, f"D{device}")
    owner("iommufd", "I")
    owner("ioas", "I", "A")
    for device in devices:
        owner("vfio_bind", f"D{device}", "I")


def writes(m, bdf, since, until):
    """Return the writes to a device's config space between two marks."""
    return m.trace("pci_cfg_write", bdf, since, until)


def mastering(m, bdf):
    """Return whether a device may do DMA."""
    return bool(pci.word(m.config(bdf), pci.COMMAND) & pci.COMMAND_MASTER)


@pytest.mark.core
@pytest.mark.parametrize("more", [(), (NativeHotplug,)], ids=["acpi", "pciehp"])
def test_untouched(start, more):
    """From freeze until it is open again nothing is written to a device, nor moved."""
    m = start(topology=(*STANDARD, *more))
    for device in ALL:
        m.bind_vfio(m.bdf(device))
    closed = {m.bdf(device): m.config(m.bdf(device))[:256] for device in ALL}
    owner = Owner(m)
    bdfs = owner.own(*ALL)
    for device in ALL:
        owner.drive(device)
    above = sorted({bridge for bdf in bdfs for bridge in bridges(m, bdf)})
    configs = {bdf: m.config(bdf) for bdf in (*bdfs, *above)}
    places = {bdf: resources(m, bdf) for bdf in bdfs}
    preserve_running(owner, *ALL)
    m.kexec()
    load_vfio(m)
    assert {state(m, bdf) for bdf in bdfs} == {"incoming running"}
    bind(owner, *ALL)
    m.mark("open")
    for bdf in bdfs:
        assert not writes(m, bdf, "freeze", "open")
        assert m.config(bdf)[:256] == configs[bdf][:256]
        assert resources(m, bdf) == places[bdf]
        assert mastering(m, bdf)
    for bridge in above:
        check_bridge(m, bridge, configs[bridge])
    assert "dropped a write" not in m.console_text("kernel")
    owner.finish()
    owner.worker.kill()
    for bdf in bdfs:
        assert m.config(bdf)[:256] == closed[bdf]


def check_bridge(m, bridge, config):
    """See that a bridge is as it was, and that nothing but its services was written to it."""
    allowed = services(config)
    express = pci.capability(config, pci.CAP_EXPRESS)
    # Registers of which services write but a few bits
    part = {pci.COMMAND: pci.COMMAND_INTX_DISABLE, express + LINK_CONTROL: LINK_NOTIFICATION,
            express + LINK_STATUS: 0xffff}
    for event in writes(m, bridge, "freeze", "open"):
        if event.offset in part:
            changed = event.value ^ pci.word(config, event.offset)
            assert not changed & ~part[event.offset], event
        else:
            assert event.offset in allowed, event
        if event.offset == express + SLOT_CONTROL:
            assert not event.value & SLOT_POWER_OFF, event
    after = m.config(bridge)
    for at in (pci.BRIDGE_CONTROL, express + LINK_CONTROL, express + pci.EXPRESS_DEVCTL):
        assert pci.word(after, at) == pci.word(config, at)
    assert after[pci.BRIDGE_BUSES:SECONDARY_STATUS] == config[pci.BRIDGE_BUSES:SECONDARY_STATUS]
    assert after[0x20:0x34] == config[0x20:0x34], "a window was changed"


def test_root_is_kept_out(standard):
    """Before it is open nobody writes to the device or resets it: EBUSY."""
    m = standard
    owner, bdf = cross_running(m, "nvme1")
    bridge = bridges(m, bdf)[-1]
    m.mark("try")
    for path, what in ((f"{bdf}/config", "\\0\\0\\0\\0\\0\\0\\0\\0"), (f"{bdf}/reset", "1"),
                       (f"{bridge}/config", "\\0\\0\\0\\0\\0\\0\\0\\0"),
                       (f"{bridge}/reset_subordinate", "1")):
        said = m.sh(f"printf '{what}' | dd of=/sys/bus/pci/devices/{path} 2>&1", check=False)
        assert "busy" in said, f"{path}: {said}"
    m.mark("tried")
    for place in (bdf, bridge):
        assert not writes(m, place, "try", "tried")
    bind(owner, "nvme1")
    owner.finish()


def test_last_line_of_defence(small, kernels):
    """Waking a device that is not open yet would restore its configuration: that is dropped."""
    if kernels == "builtin":
        pytest.skip("needs vfio-pci as a module, and this kernel has it built in")
    m = small
    owner, bdf = cross_running(m, "nvme0")
    power = f"/sys/bus/pci/devices/{bdf}/power"
    m.sh(f"echo auto >{power}/control; sleep 0.5")
    assert m.sh(f"cat {power}/runtime_status").strip() == "suspended"
    m.sh(f"echo on >{power}/control")
    m.wait_console(f"{bdf}: live update: dropped a write to config space: .* from \\w+", "ready")
    bind(owner, "nvme0")
    m.mark("open")
    assert not writes(m, bdf, "freeze", "open")
    owner.finish()


@pytest.mark.parametrize("how", ["driver/unbind", "remove"])
def test_abandoned(small, how):
    """A device that loses its driver before retrieve, or is removed, is stopped for good."""
    m = small
    owner, bdf = cross_running(m, "nvme0")
    load_vfio(m)
    m.mark("abandon")
    m.sh(f"echo {bdf if how.endswith('unbind') else 1} >/sys/bus/pci/devices/{bdf}/{how}")
    m.wait_console(f"{bdf}: live update: nobody has taken it over", "abandon")
    first = writes(m, bdf, "freeze", None)[0]
    assert first.offset == pci.COMMAND and not first.value & pci.COMMAND_MASTER
    if how == "remove":
        m.sh("echo 1 >/sys/bus/pci/rescan")
    assert state(m, bdf) == "none"
    owner("session_retrieve", "S", SESSION)
    assert owner.fails("retrieve", "S", 1, "Dnvme0") == "ENODEV"
    owner.finish()
    m.bind(bdf)
    assert m.driver(bdf) == "nvme"


def test_hot_unplug(start):
    """A slot that is switched off loses its device, which is stopped; the slot stays as it is."""
    m = start(topology=(*SMALL, NativeHotplug))
    owner, bdf = cross_running(m, "nvme0")
    load_vfio(m)
    bridge, = bridges(m, bdf)
    control = pci.capability(m.config(bridge), pci.CAP_EXPRESS) + SLOT_CONTROL
    m.mark("off")
    slot = m.sh(f"grep -l {bdf[:-2]} /sys/bus/pci/slots/*/address").strip()
    m.sh(f"echo 0 >{slot.replace('address', 'power')}", check=False)
    m.wait_console(f"{bdf}: live update: nobody has taken it over", "off")
    m.wait_console(f"{bridge}: live update: dropped a write to config space", "off")
    assert not any(event.value & SLOT_POWER_OFF
                   for event in m.config_writes(bridge, control, "off"))
    owner("session_retrieve", "S", SESSION)
    assert owner.fails("retrieve", "S", 1, "Dnvme0") == "ENODEV"
    owner.finish()


@pytest.mark.core
@pytest.mark.parametrize("retrieve", [True, False])
def test_left_behind(small, retrieve):
    """What came in running and is not open, or not even retrieved, does not run on again."""
    m = small
    owner, bdf = cross_running(m, "nvme0")
    if retrieve:
        owner("session_retrieve", "S", SESSION)
        owner("retrieve", "S", 1, "Dnvme0")
    above = bridges(m, bdf)
    assert mastering(m, bdf)
    m.kexec()
    for place in (bdf, *above):
        assert not m.command_writes(place, "freeze", "kernel")[-1] & pci.COMMAND_MASTER
    assert state(m, bdf) == "none"
    assert m.driver(bdf) == "nvme"


@pytest.mark.parametrize("retrieve", [True, False])
def test_finished_unused(small, retrieve):
    """A device whose file was never bound is stopped when its session is finished."""
    m = small
    owner, bdf = cross_running(m, "nvme0")
    assert mastering(m, bdf)
    owner("session_retrieve", "S", SESSION)
    if retrieve:
        owner("retrieve", "S", 1, "Dnvme0")
    else:
        assert owner.fails("finish", "S") == "EBUSY"
        owner("retrieve", "S", 1, "Dnvme0")
        owner("close", "Dnvme0")
    assert mastering(m, bdf)
    owner.finish()
    assert not mastering(m, bdf)
    assert state(m, bdf) == "none"


@pytest.mark.core
def test_twice(standard):
    """A device that came in running goes on to the next kernel, just as untouched."""
    m = standard
    owner, bdf = cross_running(m, "igb1")
    bind(owner, "igb1")
    owner("vfio_attach", "Digb1", "A")
    owner.finish()
    config = m.config(bdf)
    preserve_running(owner, "igb1")
    m.kexec()
    bind(owner, "igb1")
    m.mark("open")
    assert not writes(m, bdf, "freeze", "open")
    assert m.config(bdf) == config
    owner.finish()
    assert m.kmemleak() == ""


def test_reset_by_its_owner(small):
    """Between retrieve and finish the device is its owner's to reset."""
    owner, bdf = cross_running(small, "nvme0")
    bind(owner, "nvme0")
    small.mark("reset")
    owner("vfio_reset", "Dnvme0")
    assert len(small.resets(bdf, small.config(bdf), "reset")) == 1
    owner.finish()


def test_pinned(small):
    """A preserved device cannot be attached to other page tables, or to none."""
    owner = Owner(small)
    owner.own("nvme0")
    owner("ioas", "I", "B")
    preserve_running(owner, "nvme0")
    assert owner.fails("vfio_attach", "Dnvme0", "B") == "EBUSY"
    assert owner.fails("vfio_detach", "Dnvme0") == "EBUSY"
    owner("close", "S")
    owner("vfio_attach", "Dnvme0", "B")
    owner("vfio_detach", "Dnvme0")


def test_sleeping_device_refuses_freeze(small):
    """A device in a low-power state is not woken, and stops the update."""
    m = small
    owner = Owner(m)
    bdf, = owner.own("nvme0")
    preserve_running(owner, "nvme0")
    control = pci.capability(owner.worker.config("Dnvme0"), pci.CAP_PM) + PM_CONTROL
    owner("cfg_write", "Dnvme0", control, 2, 3)
    m.kexec_load()
    with pytest.raises(GuestError) as error:
        m.kexec_go()
    assert error.value.errno == "EINVAL"
    m.wait_console(f"{bdf}: Freeze failed! It is in a low-power state", "freeze")
    assert not writes(m, bdf, "freeze", None)
    owner("cfg_write", "Dnvme0", control, 2, 0)
    m.kexec_go()
    assert state(m, bdf) == "incoming running"


def test_unfreeze(standard):
    """When another file's freeze fails, a running device goes on and notices nothing."""
    m = standard
    owner = Owner(m)
    first, second = owner.own("nvme0", "igb0")
    owner.drive("nvme0")
    owner.write("nvme0")
    preserve_running(owner, "nvme0", "igb0")
    unbind = m.worker("unbind")
    unbind.start("sh", f"echo {second} >/sys/bus/pci/drivers/vfio-pci/unbind")
    m.sh("sleep 0.5")
    m.kexec_load()
    with pytest.raises(GuestError) as error:
        m.kexec_go()
    assert error.value.errno == "EAGAIN"
    m.wait_console(f"{second}: Freeze failed! {re.escape('It is being unbound')}")
    m.wait_console(f"{first}: live update: unfrozen, device runs on")
    owner.check("nvme0")
    assert not writes(m, first, "freeze", None)
    owner("close", "Digb0")
    owner("close", "S")
    unbind.wait()
