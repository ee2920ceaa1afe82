# SPDX-License-Identifier: GPL-2.0-only
"""Running mode, PCI and vfio-pci: what is written to a device and the bridges above it."""

import pytest

from lab import Edu, Igb, MachineError, Nvme, Port, STANDARD, Switch, pci
from lab.running import BLOCKS_OF_COMMAND, IOMMUFD_TOKEN, SEED, Running
from update import (PAIR, Ats, Owner, at_work, bridges, load_vfio, see_dma, see_good_update,
                    see_jump_refused, see_no_faults, see_nothing_lost, see_undisturbed, state,
                    states, take_over)

ALL = ("nvme0", "igb0", "nvme1", "igb1")


class NativeHotplug:
    """Not a port: has the firmware leave hot plug to Linux, which drives the slots by pciehp."""

    @staticmethod
    def arguments(slot, run):
        """Return QEMU's arguments."""
        del slot, run
        return ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]


# What VFIO_DEVICE_FEATURE_LIVEUPDATE says: modes, mode, state, reason, error.
IDLE, RUNNING = 1, 2
BOTH_MODES = IDLE | RUNNING
NONE, OUTGOING, INCOMING = 0, 1, 2
REASON_NONE, REASON_DOMAIN = 0, 3

CACHE_LINE_SIZE = 0x0c
SECONDARY_STATUS = 0x1e
INTERRUPT_LINE = 0x3c
PM_CONTROL = 4
D3HOT = 3
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


def services(config):
    """Return the offsets in a bridge's config space that the services of a port may write."""
    express = pci.capability(config, pci.CAP_EXPRESS)
    spans = [(express + offset, size) for offset, size in EXPRESS_SERVICES]
    spans += [(SECONDARY_STATUS, 2), (INTERRUPT_LINE, 1),
              (pci.capability(config, pci.CAP_MSI), MSI_SIZE),
              (pci.capability(config, pci.CAP_MSIX), MSIX_SIZE),
              (pci.extended_capability(config, EXT_CAP_AER), AER_SIZE)]
    return {at for start, size in spans if start for at in range(start, start + size)}


def resources(m, bdf):
    """Return where a device's BARs are, and how large its ROM is."""
    lines = [line.split() for line in m.sh(f"cat /sys/bus/pci/devices/{bdf}/resource").splitlines()]
    start, end, _ = (int(number, 16) for number in lines[6])
    return [line[:2] for line in lines[:6]], end - start


def feature(owner, device):
    """Return what a device's user is told of live updates: modes, mode, state, reason."""
    return tuple(int(value) for value in owner("vfio_liveupdate", f"D{device}").values[:4])


def writes(m, bdf, since, until=None):
    """Return the writes to a device's config space between two marks."""
    return m.trace("pci_cfg_write", bdf, since, until)


def mastering(m, bdf):
    """Return whether a device may do DMA."""
    return bool(pci.word(m.config(bdf), pci.COMMAND) & pci.COMMAND_MASTER)


def write_as_root(m, bdf, name, at, what):
    """Write some bytes to a file of a device in sysfs; returns what dd says."""
    return m.sh(f"printf '{what}' | dd of=/sys/bus/pci/devices/{bdf}/{name} bs=1 seek={at} 2>&1",
                check=False)


def start_each(m, *names):
    """Have each device driven by a process of its own, with a session of its own."""
    owners = {name: Running(m, name, session=name, first=number)
              for number, name in enumerate(names)}
    for name, owner in owners.items():
        owner.open(name)
        owner.start()
    return owners


def start_quiet(m, *names):
    """Likewise, and let drives end their work, so that nothing is on its way when they stop."""
    owners = start_each(m, *names)
    for owner in owners.values():
        for device in owner.devices.values():
            if device.is_drive:
                owner.throttle(device, 0)
                owner(f"{device.kind}_settle", device.driver)
    return owners


def wake(m, bdf):
    """Let a device without driver sleep, and wake it, which restores its configuration."""
    power = f"/sys/bus/pci/devices/{bdf}/power"
    m.sh(f"echo auto >{power}/control;"
         f"until [ $(cat {power}/runtime_status) = suspended ]; do sleep 0.1; done;"
         f"echo on >{power}/control; [ $(cat {power}/runtime_status) = active ]")


def check_bridge(m, bridge, config):
    """See that a bridge is as it was, and that nothing but its services was written to it."""
    allowed = services(config)
    express = pci.capability(config, pci.CAP_EXPRESS)
    # Registers of which services write but a few bits
    part = {pci.COMMAND: pci.COMMAND_INTX_DISABLE, express + LINK_CONTROL: LINK_NOTIFICATION,
            express + LINK_STATUS: 0xffff}
    for event in writes(m, bridge, "freeze", "retrieved"):
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


def test_untouched(start, kernels):
    """Nothing is written to a device until it is open, whoever tries; bridges get their services.

    Closed at last, it has the configuration that it had before it was opened, two kernels ago.
    """
    m = start(topology=(*STANDARD, NativeHotplug))
    bdfs = {name: m.bdf(name) for name in ALL}
    for bdf in bdfs.values():
        m.bind_vfio(bdf)
    closed = {bdf: m.config(bdf)[:256] for bdf in bdfs.values()}
    owner = Running(m)
    owner.open(*ALL)
    owner.start()
    above = sorted({bridge for bdf in bdfs.values() for bridge in bridges(m, bdf)})
    places = {bdf: resources(m, bdf) for bdf in bdfs.values()}
    assert feature(owner, "nvme0") == (BOTH_MODES, 0, NONE, REASON_DOMAIN)
    owner.preserve(devices=False)
    # Preserved now it would run on; nothing is in force yet.
    assert feature(owner, "nvme0") == (BOTH_MODES, 0, NONE, REASON_NONE)
    for device in owner.devices.values():
        owner("preserve", "S", device.tokens[0], device.file)
    assert feature(owner, "nvme0") == (BOTH_MODES, RUNNING, OUTGOING, REASON_NONE)
    configs = {bdf: m.config(bdf) for bdf in (*bdfs.values(), *above)}
    m.kexec()
    if kernels != "builtin":    # there vfio-pci has it, and keeps it awake
        see_last_line_of_defence(m, bdfs["nvme0"])
    load_vfio(m)
    see_root_kept_out(m, bdfs["nvme1"])
    assert states(owner) == {"incoming running"}
    owner.retrieve()
    for bdf in bdfs.values():
        assert not writes(m, bdf, "freeze", "retrieved")
        assert m.config(bdf)[:256] == configs[bdf][:256]
        assert resources(m, bdf) == places[bdf]
        assert mastering(m, bdf)
    for bridge in above:
        check_bridge(m, bridge, configs[bridge])
    assert feature(owner, "nvme0")[1:] == (RUNNING, INCOMING, REASON_NONE)
    owner.handover()
    # The bridges are the live update's until the last session is finished.
    assert "busy" in write_as_root(m, above[0], "config", CACHE_LINE_SIZE, "\\x10")
    owner.finish()
    assert "busy" not in write_as_root(m, above[0], "config", CACHE_LINE_SIZE, "\\x10")
    assert len(m.config_writes(above[0], CACHE_LINE_SIZE, "freeze")) == 1
    assert feature(owner, "nvme0") == (BOTH_MODES, 0, NONE, REASON_DOMAIN)
    see_good_update(owner)
    owner.worker.kill()
    for bdf in bdfs.values():
        assert m.config(bdf)[:256] == closed[bdf]


def see_last_line_of_defence(m, bdf):
    """See that what configures any other device does not reach one that is not open yet."""
    m.expect_splat("dropped a write")
    other = m.bdf("bystander")
    m.sh(f"echo {other} >/sys/bus/pci/drivers/nvme/unbind")
    m.mark("wake")
    for place in (bdf, other):
        wake(m, place)
    m.mark("woken")
    assert writes(m, other, "wake", "woken"), "this writes to no device, so it shows nothing"
    assert not writes(m, bdf, "wake", "woken")


def see_root_kept_out(m, bdf):
    """See that a device, and the bridges above it, are not configured or reset through sysfs."""
    above = bridges(m, bdf)
    attempts = [(place, "config", pci.COMMAND, "\\0\\0") for place in (bdf, *above)]
    attempts += [(place, "config", 0, "\\0" * 8) for place in (bdf, *above)]
    attempts += [(above[-1], "reset_subordinate", 0, "1"), (bdf, "reset", 0, "1")]
    m.mark("try")
    for attempt in attempts:
        said = write_as_root(m, *attempt)
        assert "busy" in said, f"{attempt}: {said}"
    m.mark("tried")
    for place in (bdf, *above):
        assert not writes(m, place, "try", "tried")


def switch_off(m, bdf):
    """Switch off the slot of a device, and wait until the device is gone."""
    slot = m.sh(f"grep -l {bdf[:-2]} /sys/bus/pci/slots/*/address").strip()
    m.sh(f"echo 0 >{slot.replace('address', 'power')}", check=False)
    m.sh(f"while [ -e /sys/bus/pci/devices/{bdf} ]; do sleep 0.1; done")


def slot_power_offs(m, bridge, since):
    """Return the writes that switch off the slot of a port."""
    control = pci.capability(m.config(bridge), pci.CAP_EXPRESS) + SLOT_CONTROL
    return [event for event in m.config_writes(bridge, control, since)
            if event.value & SLOT_POWER_OFF]


def see_ordinary(m, bdf):
    """See that a device is nobody's, and that it works with its native driver."""
    assert state(m, bdf) == "none"
    assert m.driver(bdf) == "nvme"
    place = f"/sys/bus/pci/devices/{bdf}/nvme/nvme*/nvme*n1"
    m.sh(f"until [ -e {place} ]; do sleep 0.1; done;"
         f"dd if=/dev/$(basename {place}) of=/dev/null bs=64k count=4")


@pytest.mark.thorough
def test_ats_that_is_not_used(start):
    """A device whose ATS Linux leaves off goes along, without what its entry has for ATS."""
    m = start(topology=(Port(Ats("ats0", aligned=False)), Port(Nvme("nvme0"))), device_iotlb=True)
    owner = Running(m)
    owner.open("ats0")
    owner.preserve(memory=False)
    assert states(owner) == {"outgoing running"}
    m.kexec()
    device = owner.devices["ats0"]
    owner.retrieve(("iommufd", "devices"), bind=False)
    for words in (("vfio_bind", device.file, "I"), ("ioas", "I", "A"),
                  ("hwpt_alloc", "I", device.file, "A", "H"), ("vfio_attach", device.file, "H")):
        owner(*words)
    owner.finish()
    assert states(owner) == {"none"}


@pytest.mark.thorough
def test_abandoned(start, kernels):
    """Removed or unplugged before retrieve, a device is stopped; its neighbour is not."""
    m = start(topology=(Port(Switch("switch", Nvme("nvme1"), Igb("igb1"))), Port(Nvme("nvme2")),
                        Port(Nvme("nvme3")), NativeHotplug))
    owners = start_quiet(m, "nvme1", "nvme2", "igb1")
    for owner in owners.values():
        owner.preserve()
    bdfs = removed, unplugged = [m.bdf(name) for name in ("nvme1", "nvme2")]
    ordinary = m.bdf("nvme3")
    ports = [bridges(m, bdf)[-1] for bdf in (unplugged, ordinary)]
    m.kexec()
    load_vfio(m)
    m.mark("abandon")
    m.sh(f"echo 1 >/sys/bus/pci/devices/{removed}/remove")
    # Linux's own pciehp takes its reset_lock and pci_rescan_remove_lock in either order, and
    # lockdep complains of that.
    if kernels == "debug":
        bdfs.remove(unplugged)
    else:
        # The power of the slot below a bridge that came in stays on
        m.expect_splat("dropped a write")
        for bdf in (unplugged, ordinary):
            switch_off(m, bdf)
    for bdf in bdfs:
        first = writes(m, bdf, "freeze")[0]
        assert first.time >= m.marks["abandon"]
        assert first.offset == pci.COMMAND and not first.value & pci.COMMAND_MASTER
    # The slot of an ordinary device is switched off, the one above a running device is not.
    if unplugged in bdfs:
        assert [bool(slot_power_offs(m, port, "abandon")) for port in ports] == [False, True]
    m.sh("echo 1 >/sys/bus/pci/rescan")
    for name, bdf in zip(("nvme1", "nvme2"), bdfs):
        see_ordinary(m, bdf)
        owner = owners.pop(name)
        see_no_faults(owner)
        device, = owner.devices.values()
        owner("session_retrieve", "S", owner.session)
        assert owner.fails("retrieve", "S", device.tokens[0], device.file) == "ENODEV"
        owner("retrieve", "S", IOMMUFD_TOKEN, "I")
        owner("retrieve", "S", device.tokens[1], device.memory)
        owner.finish()
    take_over(owners["igb1"])
    see_good_update(owners["igb1"])


def intx_off(m, bdf):
    """Tell whether a device may raise no INTx."""
    return bool(pci.word(m.config(bdf), pci.COMMAND) & pci.COMMAND_INTX_DISABLE)


def test_intx_turned_on_again(start):
    """A user who turns INTx on in the command register after preserve has it off at freeze."""
    m, owner = at_work(start, "nvme0")
    device = owner.devices["nvme0"]
    owner.preserve()
    command = pci.COMMAND_MASTER | pci.COMMAND_MEMORY
    for value in (command | pci.COMMAND_INTX_DISABLE, command):
        owner("cfg_write", device.file, pci.COMMAND, 2, value)
    assert not intx_off(m, device.bdf)
    m.kexec()
    assert intx_off(m, device.bdf)
    # The one write that this takes is before the jump.
    assert len(m.command_writes(device.bdf, "freeze", "jump")) == 1
    take_over(owner)
    see_nothing_lost(owner.settle())
    see_undisturbed(owner, "jump")
    see_no_faults(owner)
    see_dma(owner)


def test_intx(start):
    """A device that is going to run on raises no INTx that nobody handles."""
    m, owner = at_work(start, "nvme0", "igb0")
    bdfs = [device.bdf for device in owner.devices.values()]
    assert not any(intx_off(m, bdf) for bdf in bdfs), "off anyway: this shows nothing"
    owner.preserve()
    assert all(intx_off(m, bdf) for bdf in bdfs)
    owner("close", "S")
    assert not any(intx_off(m, bdf) for bdf in bdfs)
    owner("vfio_irq_on", "Dnvme0", "INTX", 1)
    owner("vfio_irq_on", "Digb0", "MSIX", 1)
    owner.preserve()
    assert not intx_off(m, bdfs[0])
    owner("vfio_irq_off", "Dnvme0", "INTX")
    owner("vfio_irq_off", "Digb0", "MSIX")
    assert all(intx_off(m, bdf) for bdf in bdfs)
    m.kexec()
    assert all(intx_off(m, bdf) for bdf in bdfs)
    take_over(owner)
    assert all(intx_off(m, bdf) for bdf in bdfs)
    see_good_update(owner)
    owner("vfio_irq_on", "Dnvme0", "INTX", 1)
    assert not intx_off(m, bdfs[0])


def test_set_up_twice(start):
    """Unbound from vfio-pci a device runs on, goes to no other driver, and back to that one."""
    m, owner = at_work(start, "nvme0", "igb0")
    owner.preserve()
    m.kexec()
    load_vfio(m)
    for device, native in zip(owner.devices.values(), ("nvme", "igb")):
        assert m.driver(device.bdf) == "vfio-pci"
        m.sh(f"echo {device.bdf} >/sys/bus/pci/devices/{device.bdf}/driver/unbind")
        assert state(m, device.bdf) == "incoming running"
        with pytest.raises(MachineError, match=f"went to vfio-pci, not {native}"):
            m.bind(device.bdf, native)
        assert owner.fails("vfio_open", "D", device.bdf) == "EBUSY"
    # Nor need its owner wait for who has unbound it once more.
    m.sh(f"echo {device.bdf} >/sys/bus/pci/devices/{device.bdf}/driver/unbind")
    take_over(owner)
    see_good_update(owner)


@pytest.mark.thorough
def test_abandoned_at_work(small):
    """What an abandoned device had under way does not go on when it gets another driver."""
    m = small
    owner = start_quiet(m, "nvme0")["nvme0"]
    m.throttle("nvme0", 10)
    owner("nvme_queue_mixed", owner.devices["nvme0"].driver, 0, 200 * BLOCKS_OF_COMMAND, SEED)
    owner.preserve()
    m.kexec()
    load_vfio(m)
    bdf = owner.devices["nvme0"].bdf
    m.sh(f"echo 1 >/sys/bus/pci/devices/{bdf}/remove; echo 1 >/sys/bus/pci/rescan")
    # That is when the driver has reset it.
    m.sh(f"until [ -e /sys/bus/pci/devices/{bdf}/nvme/nvme*/nvme*n1 ]; do sleep 0.1; done")
    see_no_faults(owner)


@pytest.mark.thorough
def test_left_behind(start):
    """What came in running and was not bound does not run on in the next kernel but one."""
    m = start(topology=(Port(Nvme("nvme0")), Port(Switch("switch", Nvme("nvme1"), Igb("igb1")))))
    owners = start_quiet(m, "nvme0", "nvme1", "igb1")
    for owner in owners.values():
        owner.preserve()
    m.kexec()
    goes_on = owners["igb1"]
    take_over(goes_on)
    goes_on.mark(goes_on.devices["igb1"])
    owners["nvme0"].retrieve(bind=False)
    bdfs = [m.bdf(name) for name in ("nvme0", "nvme1")]
    assert {state(m, bdf) for bdf in bdfs} == {"incoming running"}
    for bdf in bdfs:
        assert mastering(m, bdf)
        assert not writes(m, bdf, "freeze")
    goes_on.preserve()
    port, = bridges(m, bdfs[0])
    m.kexec()
    for place in (*bdfs, port):
        assert not m.command_writes(place, "freeze", "kernel")[-1] & pci.COMMAND_MASTER
    take_over(goes_on)
    for name, bdf in zip(("nvme0", "nvme1"), bdfs):
        see_ordinary(m, bdf)
        see_no_faults(owners[name])
    see_good_update(goes_on)


@pytest.mark.parametrize("update", (pytest.param(False, marks=pytest.mark.thorough, id="kexec"),
                                    pytest.param(True, id="update")))
def test_device_of_firmware(start, update):
    """A device that only firmware uses does no DMA from a jump on, of whichever kind it is.

    Linux turns bus mastering off for all devices but preserved ones, and a running unit that
    has no entry for this one, although firmware has memory for it (RMRR), denies it nothing.
    """
    m = start(topology=(Port(Nvme("nvme0")), Port(Edu("edu0"))))
    bdf = m.bdf("edu0")
    write_as_root(m, bdf, "config", pci.COMMAND, "\\006")
    assert mastering(m, bdf)
    owner = Running(m)
    if update:
        owner.open("nvme0")
        owner.start()
        owner.preserve()
    m.kexec()
    commands = m.command_writes(bdf, "freeze")
    assert commands, "nobody turns its bus mastering off"
    assert not [value for value in commands if value & pci.COMMAND_MASTER]
    assert m.command_writes(bdf, "freeze", "jump")
    assert not mastering(m, bdf)
    if update:
        take_over(owner)
        see_good_update(owner)


@pytest.mark.thorough
def test_readers_disturb_nobody(start):
    """Who reads all that sysfs says of devices, over and over, makes no reset and no jump fail."""
    m = start(topology=(*PAIR, Port(Nvme("nvme1"))))
    owner = Running(m)
    owner.open("igb0")
    owner.start()
    idle = Owner(m, "idle")
    idle.own("nvme0", "nvme1")
    for name in ("igb0", "nvme0", "nvme1"):
        files = m.sh(f"echo /sys/bus/pci/devices/{m.bdf(name)}/liveupdate_*").split()
        m.worker(f"reader-{name}").start("read_hammer", files[-1])
    for _ in range(10):
        for device in ("nvme0", "nvme1"):
            idle("vfio_reset", f"D{device}")
    owner.preserve()
    idle.preserve("nvme0", "nvme1", session="idle", first=90)
    m.kexec()
    take_over(owner)
    see_good_update(owner)
    idle.retrieve("nvme0", "nvme1", session="idle", first=90)
    idle.finish()


def test_reset_by_its_owner(start):
    """From bind on the device is its owner's to reset; the bus that it is on only after finish."""
    m = start(topology=(*PAIR, NativeHotplug))
    owners = start_each(m, "nvme0", "igb0")
    for owner in owners.values():
        owner.preserve()
    m.kexec()
    for owner in owners.values():
        owner.retrieve()
    owner, other = owners.values()
    device, = owner.devices.values()
    config = m.config(device.bdf)
    port, = device.witness.bridges
    assert owner.fails("vfio_hot_reset", device.file) == "EBUSY"
    assert not writes(m, device.bdf, "freeze")
    owner("vfio_reset", device.file)
    assert len(m.resets(device.bdf, config, "freeze")) == 1
    assert not m.bus_resets(port, "freeze")
    assert states(owner) == {"incoming running"}
    m.throttle(device.name, 0)
    take_reset_device(owner, device)
    owner.handover()
    see_no_faults(owner)
    assert owner.fails("vfio_hot_reset", device.file) == "EBUSY"
    assert not m.bus_resets(port, "freeze")
    owner.finish()
    owner("vfio_hot_reset", device.file)
    assert len(m.bus_resets(port, "freeze")) == 1
    take_reset_device(owner, device)
    other.handover()
    other.finish()
    see_good_update(other)


def take_reset_device(owner, device):
    """Start a drive anew after a reset and see that it works."""
    owner("close", device.driver)
    owner("nvme_start", device.driver, device.file, device.memory, device.iova)
    owner("nvme_write", device.driver, 0, 64, 3)
    owner("nvme_read_check", device.driver, 0, 64, 3)


@pytest.mark.thorough
def test_freeze_refused(start):
    """A device that sleeps or is being unbound stops the update; the others do not notice."""
    m = start(topology=(*PAIR, Port(Nvme("nvme1"))))
    owner, other = Running(m), Running(m, "other", session="other", first=5)
    owner.open("nvme0", "igb0")
    owner.start()
    owner.preserve()
    other.open("nvme1")
    other.preserve(memory=False)
    bdf = other.devices["nvme1"].bdf
    assert states(owner) == {"outgoing running"} == {state(m, bdf)}
    m.kexec_load()
    control = pci.capability(other.worker.config("Dnvme1"), pci.CAP_PM) + PM_CONTROL
    other("cfg_write", "Dnvme1", control, 2, D3HOT)
    see_jump_refused(m, "EINVAL")
    assert not writes(m, bdf, "freeze"), "it was woken"
    other("cfg_write", "Dnvme1", control, 2, 0)
    unbind = m.worker("unbind")
    unbind.start("sh", f"echo {bdf} >/sys/bus/pci/drivers/vfio-pci/unbind")
    m.sh("sleep 0.5")
    # The others are frozen by then, and come back.
    see_jump_refused(m, "EAGAIN")
    m.mark("unfrozen")
    assert not writes(m, bdf, "freeze", "unfrozen")
    assert states(owner) == {"outgoing running"} == {state(m, bdf)}
    other("close", "Dnvme1")
    other("close", "S")
    unbind.wait()
    assert state(m, bdf) == "none"
    m.mark("undisturbed")
    see_undisturbed(owner, "load", "undisturbed")
    m.kexec_go()
    take_over(owner)
    see_good_update(owner)
