# SPDX-License-Identifier: GPL-2.0-only
"""Virtual functions run through an update, and their physical one is the host's network.

Its driver, Linux's igb, takes part: it keeps the function for them, and has it again.
"""

import pytest

from lab import GuestError
from lab.handover import IGB, Handover
from lab.running import Guests, HostNetwork
from lab.wire import address
from lab.witness import Witness
from test_going_down import REBOOT
from test_sriov import CONTROLLER, work
from test_sriov_refusals import refuses_file, refuses_write
from test_sriov_update import numbers
from update import (go_down, load_vfio, see_dma, see_good_update, see_interrupts_go_along,
                    see_no_faults, see_stopped, see_undisturbed, state, states, take_over)

VFS = ("igb0vf0", "igb0vf1")
# From a driver's first write to config space to its first write to a register, in seconds
ENABLING = 0.1
HELD = 3
REGISTER_WRITE = "e1000e_core_write"

# Registers that virtual functions need. These are not written at all: CTRL_EXT, DTXSWC, VFRE,
# VFTE, the addresses of the two, their queues' RXDCTL and TXDCTL;
UNTOUCHED = (0x18, 0x3500, 0xc8c, 0xc90, *range(0x5510, 0x5520, 4),
             *(base + 0x40 * queue for base in (0xc028, 0xe028) for queue in (0, 1, 8, 9)))
# and these have the same value: CTRL, RCTL, TCTL, QDE, RLPML, RFCTL, RXCSUM, MRQC, VT_CTL, GPIE,
# VMOLR of the two, VLVF, VFTA.
SAME = (0x0, 0x100, 0x400, 0x2408, 0x5004, 0x5008, 0x5000, 0x5818, 0x581c, 0x1514, 0x5ad0, 0x5ad4,
        *range(0x5d00, 0x5d80, 4), *range(0x5600, 0x5800, 4))
VFTA, VLVF, RAR = 0x5600, range(0x5d04, 0x5d80, 4), range(0x5408, 0x5480, 4)
# In the filter for multicast addresses: that of virtual function 1, see igbvf_group.
MTA, GROUP_HASH = 0x5200, 0x41 << 4


def attribute(m, name):
    """Return the path of an attribute of the physical function."""
    return f"/sys/bus/pci/devices/{m.bdf('igb0')}/{name}"


def at_work(start, *names, **options):
    """Start a machine, with the host's network and virtual functions at work in it."""
    m = start(topology=CONTROLLER)
    m.trace_more(REGISTER_WRITE)
    host = HostNetwork(m, "igb0", 2)
    owner = Guests(m, **options)
    owner.open(*(names or VFS))
    owner.start()
    host.work()
    return m, owner, host, Witness(m, host.bdf)


def writes(m, since=None, until=None):
    """Return what was written to the controller's registers, in its order: (register, value)."""
    return [(event.fields["register"], event.fields["value"])
            for event in m.trace(REGISTER_WRITE, since=since, until=until)]


def see_registers_stay(m, until=None):
    """See that what virtual functions need has always been there."""
    before = dict(writes(m, until="freeze"))
    assert not [f"{register:#x}: {value:#x}" for register, value in writes(m, "freeze", until)
                if register in UNTOUCHED
                or (register in SAME and before.get(register, 0) != value)]
    register, bit = MTA + 4 * (GROUP_HASH >> 5), 1 << (GROUP_HASH & 31)
    if before[register]:
        assert all(value & bit for written, value in writes(m, "freeze", until)
                   if written == register)


def see_adopted(m, physical):
    """See that its driver has a physical function, and nobody else has touched it."""
    found = physical.findings("freeze", None)
    assert not (found.resets or found.faults or found.bridge_changes or found.translation), found
    began = m.trace(REGISTER_WRITE, since="kernel")[0].time - ENABLING
    assert all(event.time > began for event in found.config_writes), found.config_writes
    assert m.driver(physical.bdf) == "igb"
    assert "dropped a write" not in m.console_text("freeze")


def see_addresses(owner):
    """See that the driver knows the addresses of virtual functions, which begin anew by that."""
    for device in owner.devices.values():
        assert owner.begin(device) == address(device.virtual).hex(":")


def begin_anew(owner, host):
    """Start the drivers of virtual functions anew, and see that they and the host work."""
    for device in owner.devices.values():
        owner("close", device.driver)
        owner("igbvf_start", device.driver, device.file, device.memory, device.iova)
        owner.begin(device)
        owner("igbvf_address", device.driver, device.virtual)
        device.group = False
    owner.work()
    host.work()
    owner.machine.sh("sleep 1")
    assert {account.lost for account in owner.settle().values()} == {0}
    assert host.settle() == 0
    host.send(7, 10)


def test_update(start):
    """The goal: virtual functions never stop, and the host has its network again."""
    m, owner, host, physical = at_work(start, groups=[1])
    before = numbers(m, "igb0", "1-2")
    assert host.settle() == 0
    host.send(100, 10)
    owner.preserve()
    assert states(owner) == {"outgoing running"}
    assert state(m, physical.bdf) == "outgoing held"
    m.kexec()
    assert states(owner) == {"incoming running"}
    # How many a driver wants at most is not known before it is there.
    assert numbers(m, "igb0", "1-2")[1:] == before[1:]
    see_adopted(m, physical)
    host.up()
    host.work()
    host.send(200, 10)
    take_over(owner)
    assert states(owner) == {"none"}
    assert state(m, physical.bdf) == "none"
    assert host.settle() == 0
    see_good_update(owner)
    see_undisturbed(owner, "freeze", None)
    see_registers_stay(m)
    see_adopted(m, physical)
    see_addresses(owner)
    assert m.kmemleak() == ""


@pytest.mark.thorough
def test_host_works_on(start):
    """From preserve to the jump the host's network works, and frames that wait are sent."""
    m, owner, host, _ = at_work(start)
    owner.preserve()
    m.sh("sleep 1")
    assert host.settle() == 0
    host.work()
    m.kexec()
    host.up()
    m.sh("sleep 1")
    # Those of the gap are lost.
    assert host.settle() > 0
    host.work()
    take_over(owner)
    assert host.settle() == 0
    see_good_update(owner)
    see_registers_stay(m)


@pytest.mark.thorough
def test_up_late(start):
    """The host's interface comes up when all is finished, and goes down, as in Linux ever."""
    m, owner, host, physical = at_work(start, groups=[1])
    owner.preserve()
    m.kexec()
    take_over(owner)
    assert state(m, physical.bdf) == "none"
    host.settle_nothing()
    host.up()
    host.work()
    m.sh("sleep 1")
    assert host.settle() == 0
    see_good_update(owner)
    see_registers_stay(m)
    # Now a reset is a reset.
    m.mark("down")
    host.link("down")
    assert [value for register, value in writes(m, "down") if register == 0 and value & 1 << 26]
    host.up()
    begin_anew(owner, host)


@pytest.mark.thorough
def test_down_while_kept(start):
    """The interface goes down and up, and is set up anew, before finish: no reset."""
    m, owner, host, physical = at_work(start, groups=[1])
    owner.preserve()
    m.kexec()
    host.settle_nothing()
    host.up()
    for command in "mtu 1400", "down", "up", "mtu 1500", "promisc on", "promisc off":
        m.sh(f"ip link set {host.interface} {command}")
    m.wait_console("live update: no reset until its virtual functions are finished", "ready")
    host.up()
    host.work()
    for path, value in (("sriov_numvfs", 0), ("reset", 1), ("driver/unbind", host.bdf)):
        refuses_write(m, attribute(m, path), value)
    take_over(owner)
    assert host.settle() == 0
    see_good_update(owner)
    see_undisturbed(owner, "freeze", None)
    see_adopted(m, physical)
    host.link("down")
    host.up()
    begin_anew(owner, host)


@pytest.mark.thorough
@pytest.mark.parametrize("up", [True, False])
def test_two_updates(start, up):
    """A second update, also if the host had no network in the kernel between."""
    m, owner, host, physical = at_work(start, groups=[1])
    for update in range(2):
        owner.preserve()
        m.kexec()
        if up or update:
            host.settle_nothing()
            host.up()
            host.work()
        take_over(owner)
        see_undisturbed(owner)
        see_dma(owner)
        see_adopted(m, physical)
        see_registers_stay(m)
        for device in owner.devices.values():
            owner.mark(device)
    assert host.settle() == 0
    see_good_update(owner)
    see_addresses(owner)


@pytest.mark.thorough
def test_message_waits(start):
    """A virtual function asks while nobody answers, and is answered when the host is there."""
    m, owner, host, _ = at_work(start)
    owner.preserve()
    m.kexec()
    owner.retrieve()
    for device in owner.devices.values():
        owner("igbvf_begin", device.driver)
    host.settle_nothing()
    host.up()
    for device in owner.devices.values():
        assert owner("igbvf_begun", device.driver).values == [device.address.hex(":")]
    host.work()
    owner.handover()
    owner.finish()
    see_undisturbed(owner)
    assert host.settle() == 0
    owner.settle()
    begin_anew(owner, host)


@pytest.mark.thorough
def test_reset_in_the_gap(start):
    """A virtual function is reset while nobody sees it; the other has all of its frames."""
    m, owner, host, _ = at_work(start)
    owner.preserve()
    m.kexec()
    take_over(owner)
    first, second = owner.devices.values()
    owner("vfio_reset", first.file)
    host.settle_nothing()
    host.up()
    after = second.stream.stop()
    details = owner.worker.account("igb_rx_account", second.driver, after, 10000)
    assert details["good"] == after - second.first_frame
    first.stream.stop()
    # Nobody but itself has said which address it has.
    owner("close", first.driver)
    owner("igbvf_start", first.driver, first.file, first.memory, first.iova)
    assert owner.begin(first) == "none"
    begin_anew(owner, host)


@pytest.mark.thorough
def test_left_behind(start):
    """A virtual function that is not preserved is reset, and its address forgotten."""
    m, owner, host, _ = at_work(start, "igb0vf0")
    other = Guests(m, "other", first=1)
    other.open("igb0vf1")
    other.start()
    device = other.devices["igb0vf1"]
    assert device.stream.stop() > device.first_frame
    owner.preserve()
    m.kexec()
    host.settle_nothing()
    host.up()
    host.work()
    take_over(owner)
    see_good_update(owner)
    assert host.settle() == 0
    m.bind_vfio(m.bdf("igb0vf1"))
    again = Guests(m, "again", first=1)
    again.open("igb0vf1")
    again.start()
    work(m, again)


@pytest.mark.thorough
def test_interrupts(start):
    """Interrupts of virtual functions go along, those of the host do not."""
    m, owner, host, physical = at_work(start, interrupts=True)
    owner.preserve()
    m.kexec()
    host.settle_nothing()
    host.up()
    host.work()
    see_interrupts_go_along(owner)
    assert host.settle() == 0
    see_adopted(m, physical)


@pytest.mark.thorough
def test_interface_down(start):
    """When the interface is down virtual functions do not work, and cannot be kept so."""
    m, owner, host, _ = at_work(start)
    host.settle()
    host.link("down")
    owner.preserve(devices=False)
    refuses_file(owner, "S", owner.devices["igb0vf0"], "EBUSY", "interface .* is down")
    host.link("up")
    for device in owner.devices.values():
        owner("preserve", "S", device.tokens[0], device.file)
    for path, value in (("sriov_numvfs", 0), ("reset", 1), ("driver/unbind", host.bdf)):
        refuses_write(m, attribute(m, path), value)
    host.link("down")
    m.kexec_load()
    with pytest.raises(GuestError):
        m.kexec_go()
    owner("close", "S")
    host.up()
    for device in owner.devices.values():
        device.stream.stop()
    begin_anew(owner, host)


@pytest.mark.thorough
@pytest.mark.parametrize("when", ["preserved", "waiting", "up"])
def test_going_down(start, when):
    """The machine reboots without an update: all is stopped as ever."""
    m, owner, host, _ = at_work(start)
    owner.preserve()
    if when != "preserved":
        m.kexec()
        load_vfio(m)
    if when == "up":
        host.up()
    see_stopped(owner, go_down(owner, REBOOT))


@pytest.mark.thorough
def test_plain_kexec(start):
    """A kernel that gets nothing has the function as ever, also after an update."""
    m, owner, host, _ = at_work(start)
    # Nobody takes frames for the host until it is up again.
    assert host.settle() == 0
    owner.preserve()
    m.kexec()
    take_over(owner)
    see_good_update(owner)
    m.kexec()
    assert m.sh(f"cat {attribute(m, 'sriov_numvfs')}").strip() == "0"
    host.up()
    host.work()
    m.sh("sleep 1")
    assert host.settle() == 0
    see_no_faults(owner)


@pytest.mark.thorough
@pytest.mark.parametrize("field, value", [("flags", 1 << 31), ("num_vfs", 1), ("vlan", 1 << 12)])
def test_broken(start, field, value):
    """What the previous kernel's driver says is not believed: the function stays held."""
    m, owner, host, physical = at_work(start)
    assert host.settle() == 0
    for device in owner.devices.values():
        device.stream.stop()
    owner.preserve()
    handover = Handover(m)

    def change():
        entry, = (entry for entry in handover.read().pci_devices() if entry["role"] == HELD)
        handover.record(entry["data"], IGB)[field] = value

    m.kexec(look=change)
    m.wait_console("igb .* live update: what came is not used", "jump", timeout=5)
    m.wait_console("its driver does not adopt it, stays held", "jump", timeout=5)
    assert state(m, physical.bdf) == "incoming held"
    assert m.driver(physical.bdf) is None
    assert not writes(m, "kernel")
    take_over(owner)
    see_no_faults(owner)
    assert state(m, physical.bdf) == "incoming held"
    # Released it is as ever.
    owner.worker.kill()
    for device in owner.devices.values():
        m.sh(f"echo {device.bdf} >/sys/bus/pci/devices/{device.bdf}/driver/unbind")
    m.sh(f"echo 1 >{attribute(m, 'liveupdate_release')}")
    assert m.driver(physical.bdf) == "igb"
    host.up()
    host.work()
    m.sh("sleep 1")
    assert host.settle() == 0


@pytest.mark.thorough
def test_filters(start):
    """What virtual functions have asked for beside their address stays, and is known again."""
    m, owner, host, _ = at_work(start)
    first, second = owner.devices.values()
    m.mark("asked")
    owner("igbvf_vlan", first.driver, 5)
    owner("igbvf_address_too", first.driver, 0x80)
    vlvf, = {register for register, value in writes(m, "asked") if register in VLVF and value}
    ral, rah = {register: value for register, value in writes(m, "asked") if register in RAR}
    assert ral + 4 == rah
    owner.preserve()
    m.kexec()
    host.settle_nothing()
    host.up()
    take_over(owner)
    see_registers_stay(m)
    assert not [register for register, _ in writes(m, "freeze") if register in (ral, rah)]
    # Another VLAN comes beside that, another address beside the other.
    m.mark("asked")
    owner("igbvf_vlan", second.driver, 6)
    owner("igbvf_address_too", second.driver, 0x81)
    written = dict(writes(m, "asked"))
    assert written[VFTA] == 1 << 6 | 1 << 5 | 1
    assert [register for register in written if register in VLVF] == [vlvf - 4]
    assert [register for register in written if register in RAR] == [ral + 8, rah + 8]
    see_good_update(owner)
