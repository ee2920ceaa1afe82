# SPDX-License-Identifier: GPL-2.0-only
"""Idle mode: device files cross one update and the next, and nobody else gets the devices."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import IOVA
from lab import SMALL, Igb, Nvme, Port, Switch, pci
from update import SEED, Owner, bridges, cross, load_vfio, need_modules, state

ALL = ("nvme0", "igb0", "nvme1", "igb1")


def config_of(owner, device):
    """Return a device's config space as its owner sees it right after opening it."""
    return owner.worker.config(f"D{device}", 256)


def test_update(standard):
    """The main job: NVMe and igb, below a root port and a switch, cross with their state."""
    m = standard
    owner = Owner(m)
    bdfs = owner.own(*ALL)
    configs = {device: config_of(owner, device) for device in ALL}
    raw = {bdf: m.config(bdf) for bdf in bdfs}
    for device in ALL:
        owner.drive(device)
    for seed, device in enumerate(("nvme0", "nvme1"), SEED):
        owner.write(device, seed)
    owner.check("igb0")
    owner.preserve(*ALL)
    m.kexec()
    assert [m.bdf(device) for device in ALL] == bdfs
    assert {state(m, bdf) for bdf in bdfs} == {"incoming idle"}
    assert {state(m, b) for bdf in bdfs for b in bridges(m, bdf)} == {"incoming bridge"}
    assert m.driver(m.bdf("bystander")) == "nvme"
    owner.retrieve(*ALL)
    assert {m.driver(bdf) for bdf in bdfs} == {"vfio-pci"}
    for device, bdf in zip(ALL, bdfs):
        assert config_of(owner, device) == configs[device]
        assert m.config(bdf) == raw[bdf], f"{device}: config space differs"
    for seed, device in zip((SEED, 0, SEED + 1, 0), ALL):
        owner.works(device, seed)
    owner.finish()
    assert {state(m, bdf) for bdf in bdfs} == {"none"}
    assert {state(m, b) for bdf in bdfs for b in bridges(m, bdf)} == {"none"}
    for device in ("nvme0", "igb1"):
        owner.check(device)
    assert m.kmemleak() == ""


def test_traces(standard):
    """Seen from outside: what happened to devices and bridges at freeze, jump and boot."""
    m = standard
    owner = Owner(m)
    devices = ("nvme0", "igb1")
    bdfs = owner.own(*devices)
    configs = {bdf: m.config(bdf) for bdf in bdfs}
    for device in devices:
        owner.drive(device)
    owner.preserve(*devices)
    above = {bridge for bdf in bdfs for bridge in bridges(m, bdf)}
    others = [m.bdf("bystander"), *bridges(m, m.bdf("bystander"))]
    for bdf in (*above, *others):
        assert pci.word(m.config(bdf), pci.COMMAND) & pci.COMMAND_MASTER
    m.kexec()
    owner.retrieve(*devices)
    m.mark("retrieved")
    for bdf in bdfs:
        reset, = m.resets(bdf, configs[bdf], "freeze", "retrieved")
        before = m.command_writes(bdf, "freeze", reset.time)
        assert before and not before[-1] & pci.COMMAND_MASTER, "reset while mastering the bus"
        assert reset.time < m.marks["kernel"]
        assert not any(value & pci.COMMAND_MASTER
                       for value in m.command_writes(bdf, "freeze", "retrieved"))
    assert len(m.trace("pci_nvme_pci_reset", None, "freeze", "kernel")) == 1
    for bridge in above:
        assert not m.bus_resets(bridge, "freeze", "retrieved")
        assert all(value & pci.COMMAND_MASTER
                   for value in m.command_writes(bridge, "freeze", "kernel"))
    for bdf in others:
        assert not m.command_writes(bdf, "freeze", "kernel")[-1] & pci.COMMAND_MASTER


def test_user_space_that_does_not_stop(small):
    """A process that turns bus mastering on without a pause cannot do so after freeze."""
    owner = Owner(small)
    bdf, = owner.own("nvme0")
    clean = small.config(bdf)
    owner.preserve("nvme0")
    owner.worker.start("cfg_hammer", "Dnvme0", pci.COMMAND, 2,
                       pci.COMMAND_MEMORY | pci.COMMAND_MASTER)
    small.sh("sleep 0.2")
    small.kexec()
    reset, = small.resets(bdf, clean, "freeze", "kernel")
    mastering = [value & pci.COMMAND_MASTER
                 for value in small.command_writes(bdf, "freeze", reset.time)]
    assert any(mastering[:-1]) and not mastering[-1]
    assert not any(value & pci.COMMAND_MASTER
                   for value in small.command_writes(bdf, reset.time, "ready"))
    owner.take_over("nvme0")


@pytest.mark.thorough
def test_module_reloaded(small, kernels):
    """vfio-pci can be unloaded and loaded again, also while its device is incoming."""
    need_modules(kernels)
    owner = Owner(small)
    bdf, = owner.own("nvme0")
    owner("close", "Dnvme0")
    small.sh("rmmod vfio_pci")
    owner.own("nvme0")
    owner.preserve("nvme0")
    assert "unavailable" in small.sh("rmmod vfio_pci 2>&1", check=False)
    small.kexec()
    for _ in range(2):
        small.sh("modprobe vfio_pci")
        assert small.driver(bdf) == "vfio-pci"
        small.sh("rmmod vfio_pci")
        assert small.driver(bdf) is None
        assert state(small, bdf) == "incoming idle"
    owner.take_over("nvme0")


@pytest.mark.thorough
def test_native_drivers_stay_away(standard):
    """Drivers that are built in and probe first do not get the device, nor by any other way."""
    m = standard
    owner, bdf = cross(m, "nvme0")
    assert m.driver(bdf) in (None, "vfio-pci")
    assert f"nvme {bdf}" not in m.sh("dmesg")
    m.sh(f"echo nvme >/sys/bus/pci/devices/{bdf}/driver_override;"
         f"echo {bdf} >/sys/bus/pci/drivers_probe; echo {bdf} >/sys/bus/pci/drivers/nvme/bind",
         check=False)
    assert m.driver(bdf) in (None, "vfio-pci")
    owner.take_over("nvme0")


def test_module_that_comes_late(small, kernels):
    """Until vfio-pci is loaded nothing touches the device; retrieving its file loads it."""
    need_modules(kernels)
    owner = Owner(small)
    bdf, = owner.own("nvme0")
    owner.drive("nvme0")
    owner.write("nvme0")
    owner.preserve("nvme0")
    small.kexec()
    assert small.driver(bdf) is None
    assert small.sh("lsmod | grep -c vfio_pci", check=False) == "0"
    small.mark("booted")
    small.sh("sleep 1; echo 1 >/sys/bus/pci/rescan")
    assert not small.trace("pci_cfg_write", bdf, "booted")
    assert state(small, bdf) == "incoming idle"
    owner.retrieve("nvme0")
    owner.works("nvme0")
    owner.finish()


@pytest.mark.thorough
def test_module_that_is_missing(small, kernels):
    """Without vfio-pci a file cannot be retrieved or finished; with it, later, it can."""
    need_modules(kernels)
    owner, bdf = cross(small, "nvme0")
    module = "$(find /lib/modules/$(uname -r) -name vfio-pci.ko)"
    small.sh(f"mv {module} /tmp/")
    owner("session_retrieve", "S", "test")
    for _ in range(2):
        assert owner.fails("retrieve", "S", 1, "Dnvme0") == "ENOENT"
        assert owner.fails("finish", "S") == "ENOENT"
    assert state(small, bdf) == "incoming idle"
    small.sh("mv /tmp/vfio-pci.ko $(dirname $(find /lib/modules/$(uname -r) "
             "-name vfio-pci-core.ko))/")
    owner("retrieve", "S", 1, "Dnvme0")
    owner.attach("nvme0")
    owner.drive("nvme0")
    owner.finish()


def test_openers_wait_for_finish(small):
    """Nobody but the file from the session opens the device until the session is finished."""
    owner, other = Owner(small), small.worker("other")
    bdf, = owner.own("nvme0")
    owner.preserve("nvme0")
    small.kexec()
    load_vfio(small)
    assert small.driver(bdf) == "vfio-pci"
    for step in ("booted", "retrieved"):
        assert other.fails("vfio_open", "D", bdf) == "EBUSY", step
        assert other.fails("group_open", "G", bdf) == "EBUSY", step
        if step == "booted":
            owner.retrieve("nvme0")
    owner.finish()
    other("vfio_open", "D", bdf)
    other("iommufd", "I")
    assert other.fails("vfio_bind", "D", "I") == "EINVAL"
    owner("close", "Dnvme0")
    other("vfio_bind", "D", "I")
    other("close", "D")
    small.bind_vfio(bdf)
    other("group_open", "G", bdf)
    other("group_device", "G", "D", bdf)


def test_finish(small):
    """Finish is refused before retrieve, and can be repeated; tokens are what they are."""
    owner = Owner(small)
    bdf, = owner.own("nvme0")
    owner.preserve("nvme0", first=77)
    small.kexec()
    assert owner.fails("session_retrieve", "S", "unknown") == "ENOENT"
    owner("session_retrieve", "S", "test")
    assert owner.fails("session_retrieve", "T", "test") == "EINVAL"
    for _ in range(2):
        assert owner.fails("finish", "S") == "EBUSY"
    assert state(small, bdf) == "incoming idle"
    assert owner.fails("retrieve", "S", 78, "Dnvme0") == "ENOENT"
    owner("retrieve", "S", 77, "Dnvme0")
    owner("retrieve", "S", 77, "Again")
    owner.attach("nvme0")
    assert owner("cfg_read", "Again", 0, 4).lines == owner("cfg_read", "Dnvme0", 0, 4).lines
    owner("finish", "S")
    assert state(small, bdf) == "none"


@pytest.mark.thorough
def test_session_of_a_dead_owner(standard):
    """When the owner dies with files not retrieved, somebody else can retrieve the session."""
    owner, other = Owner(standard), Owner(standard, "other")
    bdfs = owner.own("nvme0", "igb0")
    owner.preserve("nvme0", "igb0")
    standard.kexec()
    owner("session_retrieve", "S", "test")
    owner("retrieve", "S", 1, "Dnvme0")
    owner.attach("nvme0")
    owner.worker.kill()
    assert state(standard, bdfs[0]) == "incoming idle"
    other("session_retrieve", "S", "test")
    other("retrieve", "S", 2, "Digb0")
    other.attach("igb0")
    other("retrieve", "S", 1, "Dnvme0")
    other.works("igb0")
    other.finish()
    assert {state(standard, bdf) for bdf in bdfs} == {"none"}


@pytest.mark.thorough
def test_never_finished(small):
    """A device that was retrieved and not finished is an ordinary one after the next update."""
    owner = Owner(small)
    bdf, = owner.own("nvme0")
    owner.drive("nvme0")
    owner.write("nvme0")
    owner.preserve("nvme0")
    small.kexec()
    owner.retrieve("nvme0")
    owner.works("nvme0")
    owner("session_create", "T", "next")
    assert owner.fails("preserve", "T", 1, "Dnvme0") == "EBUSY"
    small.kexec()
    assert state(small, bdf) == "none"
    assert small.driver(bdf) == "nvme"
    owner.own("nvme0")
    owner.works("nvme0")


@pytest.mark.thorough
def test_never_retrieved(small):
    """A session that nobody asked for is gone after the next update, and so is its hold."""
    owner, bdf = cross(small, "nvme0")
    small.kexec()
    assert state(small, bdf) == "none"
    assert small.driver(bdf) == "nvme"


@pytest.mark.thorough
def test_three_updates(standard):
    """The retrieved file is preserved again, and again; the device keeps its data."""
    owner = Owner(standard)
    devices = ("nvme0", "igb1")
    bdfs = owner.own(*devices)
    owner.drive("nvme0")
    owner.write("nvme0")
    for _ in range(3):
        owner.preserve(*devices)
        standard.kexec()
        owner = Owner(standard)
        owner.retrieve(*devices)
        owner.finish()
        for device in devices:
            owner.works(device)
    assert {state(standard, bdf) for bdf in bdfs} == {"none"}


RENUMBER = "pci=assign-busses,hpbussize=5"


def test_bus_numbers_are_kept(start):
    """The incoming kernel is told to renumber all buses, and does so only with nothing incoming."""
    m = start(topology=(Port(Nvme("bystander")), Port(Switch("switch", Nvme("nvme0")))))
    owner = Owner(m)
    bdf, = owner.own("nvme0")
    numbers = {name: m.bdf(name) for name in ("bystander", "switch", "nvme0")}
    owner.preserve("nvme0")
    m.kexec(append=RENUMBER)
    assert {name: m.bdf(name) for name in numbers} == numbers
    owner.take_over("nvme0")
    m.sh("echo 1 >/sys/bus/pci/rescan")
    assert {name: m.bdf(name) for name in numbers} == numbers
    owner.drive("nvme0")
    m.kexec(append=RENUMBER)
    assert m.bdf("nvme0") != bdf, "the kernel does not renumber, so the test shows nothing"


def test_late_processor(small):
    """A processor is held up between its last report and its halt: the next kernel comes up."""
    m = small
    # From the second kexec on the next kernel is copied over this one.
    m.kexec()
    m.kexec_load()
    stop = m.symbol("stop_this_cpu")
    with m.debugger() as debugger, ThreadPoolExecutor() as pool:
        # VERW clears the CPU's buffers before HLT
        halt = re.search(rb"\x0f\x00\x2d.{4}(\xf4)", debugger.read(stop, 0x200), re.DOTALL)
        late = pool.submit(debugger.hold_up, stop + halt.start(1), 0.1)
        m.kexec_go()
        assert late.result() == 1
    assert m.sh("nproc") == "2"


@pytest.mark.thorough
def test_unconfigured_bridge(standard):
    """A bridge that arrives without bus numbers gets none, and is reported."""
    m = standard
    owner = Owner(m)
    owner.own("nvme0")
    port = m.bdf("rp-bystander")
    m.sh(f"echo 1 >/sys/bus/pci/devices/{m.bdf('bystander')}/remove")
    owner.preserve("nvme0")
    m.sh(f"printf '\\0\\0\\0' |"
         f"dd of=/sys/bus/pci/devices/{port}/config bs=1 seek={pci.BRIDGE_BUSES} conv=notrunc")
    m.kexec()
    text = f"{port}: live update: bridge has no valid bus numbers and gets none now"
    assert m.console_text("freeze").count(text) == 1
    assert m.config(port)[pci.BRIDGE_BUSES:pci.BRIDGE_BUSES + 3] == bytes(3)
    assert not [event for event in m.trace("pci_cfg_write", port, "kernel", "ready")
                if pci.BRIDGE_BUSES - 4 < event.offset < pci.BRIDGE_BUSES + 4]
    owner.take_over("nvme0")
    m.sh("echo 1 >/sys/bus/pci/rescan")
    assert m.sh(f"ls -d /sys/bus/pci/devices/{m.bdf('bystander')}")


@pytest.mark.thorough
def test_bridge_is_not_for_vfio(small):
    """A bridge above an incoming device does not become vfio-pci's, and does no harm trying."""
    owner, bdf = cross(small, "nvme0")
    load_vfio(small)
    # vfio-pci tries to have it in D0 and to turn its bus mastering off.
    small.expect_splat("dropped a write")
    port, = bridges(small, bdf)
    small.sh(f"echo {port} >/sys/bus/pci/devices/{port}/driver/unbind;"
             f"echo vfio-pci >/sys/bus/pci/devices/{port}/driver_override;"
             f"echo {port} >/sys/bus/pci/drivers_probe", check=False)
    assert small.driver(port) is None
    owner.take_over("nvme0")


def test_hot_reset(small):
    """The bus of a device is not reset before its session is finished."""
    owner, bdf = cross(small, "nvme0")
    owner.retrieve("nvme0")
    port, = bridges(small, bdf)
    assert owner.fails("vfio_hot_reset", "Dnvme0") == "EBUSY"
    assert not small.bus_resets(port)
    owner.finish()
    # QEMU's link does not come up as fast as Linux expects: reset, and an error all the same.
    assert owner.fails("vfio_hot_reset", "Dnvme0") == "ENOTTY"
    assert len(small.bus_resets(port)) == 1


@pytest.mark.thorough
def test_closing_resets(small):
    """After finish, closing the device resets it; then a native driver can have it."""
    owner = Owner(small)
    bdf, = owner.own("nvme0")
    clean = small.config(bdf)
    owner.drive("nvme0")
    owner.preserve("nvme0")
    small.kexec()
    owner.retrieve("nvme0")
    owner.drive("nvme0")
    assert pci.word(small.config(bdf), pci.COMMAND) & pci.COMMAND_MASTER
    owner.finish()
    small.mark("close")
    owner("close", "Nnvme0")
    owner("close", "Dnvme0")
    small.mark("closed")
    assert len(small.resets(bdf, clean, "close", "closed")) == 1
    command = pci.word(small.config(bdf), pci.COMMAND)
    assert not command & pci.COMMAND_MASTER
    small.bind(bdf)
    assert small.driver(bdf) == "nvme"
    assert small.sh("ls /sys/class/nvme") == "nvme0"


def test_removed_before_retrieve(small):
    """A device that is removed cannot be retrieved; its session can be finished all the same."""
    owner, bdf = cross(small, "nvme0")
    small.sh(f"echo 1 >/sys/bus/pci/devices/{bdf}/remove")
    owner("session_retrieve", "S", "test")
    assert owner.fails("retrieve", "S", 1, "Dnvme0") == "ENODEV"
    small.wait_console(f"live update: {bdf} was preserved, but there is no such device")
    owner.finish()
    small.sh("echo 1 >/sys/bus/pci/rescan")
    assert state(small, bdf) == "none"
    assert small.driver(bdf) == "nvme"


@pytest.mark.thorough
def test_removed_and_found_again(small):
    """A device that is removed and found again by a rescan is still the incoming one."""
    owner, bdf = cross(small, "nvme0")
    small.sh(f"echo 1 >/sys/bus/pci/devices/{bdf}/remove; echo 1 >/sys/bus/pci/rescan")
    assert state(small, bdf) == "incoming idle"
    owner.take_over("nvme0")


@pytest.mark.thorough
def test_unbound_after_retrieve(small):
    """Unbinding a retrieved device waits for its session and its file, as for any open device."""
    owner, unbind = Owner(small), small.worker("unbind")
    bdf, = owner.own("nvme0")
    owner.preserve("nvme0")
    small.kexec()
    owner.retrieve("nvme0")
    unbind.start("sh", f"echo {bdf} >/sys/bus/pci/drivers/vfio-pci/unbind")
    small.sh("sleep 0.3")
    owner.drive("nvme0")
    owner.finish()
    owner("close", "Nnvme0")
    assert unbind.fails("objects") == "EBUSY"
    owner("close", "Dnvme0")
    unbind.wait()
    assert small.driver(bdf) is None


def test_unbound_before_retrieve(small):
    """Unbinding before retrieve is possible; only vfio-pci can bind again."""
    owner, bdf = cross(small, "nvme0")
    load_vfio(small)
    small.sh(f"echo {bdf} >/sys/bus/pci/drivers/vfio-pci/unbind;"
             f"echo {bdf} >/sys/bus/pci/drivers_probe")
    assert small.driver(bdf) == "vfio-pci"
    assert small.worker("other").fails("vfio_open", "D", bdf) == "EBUSY"
    owner.take_over("nvme0")


@pytest.mark.thorough
def test_live_update_off(small):
    """A kernel that takes no live updates finds an idle device, and its native driver has it."""
    owner = Owner(small)
    bdf, = owner.own("nvme0")
    owner.drive("nvme0")
    owner.preserve("nvme0")
    small.kexec(append="liveupdate=off")
    assert state(small, bdf) == "none"
    assert small.driver(bdf) == "nvme"
    assert not [event for event in small.trace("vtd_dmar_fault")]


@pytest.mark.thorough
def test_memory_and_device_in_one_session(start):
    """A memfd and a device cross in the same session, in any order of retrieval."""
    m = start(topology=SMALL + (Port(Igb("igb0")),))
    owner = Owner(m)
    owner.own("nvme0", "igb0")
    owner("memfd", "X", "64k")
    owner("mem_fill", "X", 0, "64k", 3)
    owner.preserve("nvme0")
    owner("preserve", "S", 10, "X")
    owner("preserve", "S", 11, "Digb0")
    m.kexec()
    owner("session_retrieve", "S", "test")
    owner("retrieve", "S", 11, "Digb0")
    owner("retrieve", "S", 10, "X")
    owner("retrieve", "S", 1, "Dnvme0")
    owner("mem_check", "X", 0, "64k", 3)
    owner.attach("nvme0")
    owner("ioas_map_file", "I", "A", "X", 0, "64k", IOVA >> 1)
    owner.finish()
