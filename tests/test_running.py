# SPDX-License-Identifier: GPL-2.0-only
"""Running mode: devices go on with their DMA through an update, and nobody touches them."""

import pytest

from conftest import MODES
from lab import Igb, Nvme, Port, pci, vtd
from lab.handover import Handover
from lab.running import BLOCKS_OF_COMMAND, SEED, Running, RunningSet
from update import (BOTH_MODES, INCOMING, OUTGOING, PAIR, REASON_NONE, RUNNING, Owner, at_work,
                    bridge_states, feature, memory, move_away, other_takes_over, see_busy,
                    see_dma, see_good_update, see_jump_refused, see_memory_back, see_no_faults,
                    see_nothing_lost, see_undisturbed, states, take_over)

ALL = ("nvme0", "igb0", "nvme1", "igb1")
BOTH = ("nvme0", "igb0")


@pytest.mark.cut(("modules", "scalable"), ("debug", "legacy"), ("distro", "scalable"))
def test_update(start, mode):
    """The goal: NVMe and igb, below a root port and a switch, never stop; nothing is lost."""
    m = start(**MODES[mode])
    owner = Running(m)
    owner.open(*ALL)
    owner.start()
    bdfs = [device.bdf for device in owner.devices.values()]
    entries = [vtd.Tables(m).entry(bdf) for bdf in bdfs]
    owner.preserve()
    # From here on INTx is disabled, and that stays so.
    configs = [m.config(bdf) for bdf in bdfs]
    assert states(owner) == {"outgoing running"}
    assert bridge_states(owner) == {"outgoing bridge"}
    assert feature(owner, "nvme0") == (BOTH_MODES, RUNNING, OUTGOING, REASON_NONE, "-")
    m.kexec()
    assert [m.bdf(name) for name in ALL] == bdfs
    assert states(owner) == {"incoming running"}
    assert bridge_states(owner) == {"incoming bridge"}
    assert m.driver(m.bdf("bystander")) == "nvme"
    owner.retrieve()
    assert {m.driver(bdf) for bdf in bdfs} == {"vfio-pci"}
    assert feature(owner, "nvme0") == (BOTH_MODES, RUNNING, INCOMING, REASON_NONE, "-")
    assert [m.config(bdf) for bdf in bdfs] == configs, "config space differs"
    assert [vtd.Tables(m).entry(bdf) for bdf in bdfs] == entries, "translated another way"
    see_busy(owner)
    found = {int(owner("hwpt_find", "I", device.tokens[2], f"R{device.name}"))
             for device in owner.devices.values()}
    assert len(found) == len(ALL)
    assert owner.fails("finish", "S") == "EBUSY"
    owner.handover()
    for device in owner.devices.values():
        assert owner.fails("hwpt_find", "I", device.tokens[2], "R") == "ENOENT"
    after = [vtd.Tables(m).entry(bdf) for bdf in bdfs]
    assert None not in after
    assert not {entry.table for entry in after} & {entry.table for entry in entries}
    owner.finish()
    assert states(owner) == {"none"}
    assert bridge_states(owner) == {"none"}
    see_good_update(owner)
    see_undisturbed(owner, "freeze", None)
    # Its work goes on after that: new commands, new frames.
    owner.work()
    m.sh("sleep 2")
    see_nothing_lost(owner.settle(), least=10)
    assert m.kmemleak() == ""


@pytest.mark.thorough
def test_handover_under_load(start):
    """Page tables are replaced while the devices do as much DMA as they can: no fault."""
    m, owner = at_work(start, *BOTH)
    owner.preserve()
    m.kexec()
    owner.retrieve()
    see_busy(owner)
    m.throttle("nvme0", 0)
    owner("nvme_settle", owner.devices["nvme0"].driver)
    stream = m.wires["igb0"].stream(owner.devices["igb0"].stream.stop(), 500)
    owner("fork", "load", "nvme_load", owner.devices["nvme0"].driver, 0,
          200 * BLOCKS_OF_COMMAND, SEED, 3000)
    m.mark("loaded")
    owner.handover()
    # And forth and back between that and others, all the same to the device.
    owner.build("B")
    for device in owner.devices.values():
        owner("hwpt_alloc", "I", device.file, "B", f"K{device.name}")
    for _ in range(10):
        for table in "KH":
            for device in owner.devices.values():
                owner("vfio_attach", device.file, f"{table}{device.name}")
    m.mark("replaced")
    assert int(owner("join", "load")) > 500
    end = stream.stop()
    account = owner.worker.account("igb_rx_account", owner.devices["igb0"].driver, end, 10000)
    assert (account["next"], account["lost"], account["repeated"], account["wrong"]) \
        == (end, 0, 0, 0)
    see_no_faults(owner)
    lines = owner.timelines()
    for name in BOTH:
        moments = lines[name].within(m.marks["loaded"], m.marks["replaced"])
        assert len(moments) > 50, f"{name}: no load while its page table was replaced"
    owner.finish()


@pytest.mark.thorough
def test_memory_pressure(start, kernels):
    """The incoming kernel has no memory to spare: neither it nor the devices see a wrong byte."""
    m = start(topology=PAIR, memory={"debug": None, "distro": "2G"}.get(kernels, "640M"))
    # A slow kernel takes minutes to fill its memory; the drive's queue has to last that long
    owner, press = Running(m, rate=4 if m.slow else None), m.worker("press")
    owner.open(*BOTH)
    owner.start()
    owner.preserve()
    m.kexec()
    press.start("mem_press", 48 << 20, 3000)
    m.sh("until [ $(sed -n 's/MemAvailable: *\\([0-9]*\\).*/\\1/p' /proc/meminfo) -lt 65536 ];"
         "do sleep 0.1; done", timeout=120)
    owner.retrieve()
    see_busy(owner)
    owner.handover()
    owner.finish()
    values = dict(value.split("=") for value in press.wait(timeout=300).values)
    account = {key: int(value) for key, value in values.items()}
    assert account["wrong"] == 0, f"{account['wrong']} words were overwritten"
    assert account["rounds"] >= 2
    assert account["bytes"] > 0.8 * account["free"] > 200 << 20
    see_good_update(owner)


def stray(m, owner, device, iova, mark):
    """Let a drive write to an address; returns the faults that this gave."""
    m.mark(mark)
    owner("nvme_write_to", device.driver, iova)
    m.mark(f"{mark}-end")
    return m.trace("vtd_dmar_fault", device.bdf, mark, f"{mark}-end")


@pytest.mark.cut(("modules", "scalable"))
def test_isolation(start, mode):
    """A device reaches its own memory and nothing else, in both kernels and between them."""
    m = start(topology=(*PAIR, Port(Nvme("nvme5")), Port(Nvme("nvme6"))), **MODES[mode])
    owner, other = Running(m), Running(m, "other", session="other", first=5)
    owner.open("nvme0")
    owner.start()
    other.open("nvme5", marked=False)
    other.start()
    drive, = owner.devices.values()
    bystander, = other.devices.values()
    # A drive's own memory, but for its end, is its queues and its data.
    inside = drive.iova + drive.size - 4096
    outside = (drive.iova - 4096, bystander.iova, 0x10_0000)
    assert not stray(m, owner, drive, inside, "inside-a")
    for i, iova in enumerate(outside):
        faults = stray(m, owner, drive, iova, f"outside-a{i}")
        assert {event.fields["addr"] & ~0xfff for event in faults} == {iova}
    owner.preserve()
    entry = vtd.Tables(m).entry(drive.bdf)
    at_jump = {}

    def look():
        m.mark("look")
        at_jump.update(vtd.Tables(m).entries())
        # Its native driver is to have it next, and need not wait for the queue.
        m.throttle("nvme5", 0)

    m.kexec_load()
    m.kexec_go(look=look)
    roots = m.trace("vtd_reg_dmar_root", None, "kernel", "look")
    assert not roots, "the new kernel was too fast: its tables were looked at, not the old ones"
    # A bridge that is in the device's IOMMU group may be there, and go the same way.
    assert at_jump.pop(drive.bdf) == entry
    assert not set(at_jump) - set(drive.witness.bridges), at_jump
    # The new kernel has another page table for every other device, and other domains.
    others = vtd.Tables(m).entries()
    assert others.pop(drive.bdf) == entry
    assert m.bdf("nvme6") in others
    owner.retrieve()
    assert not stray(m, owner, drive, inside, "inside-b")
    for i, iova in enumerate(outside):
        faults = stray(m, owner, drive, iova, f"outside-b{i}")
        assert {event.fields["addr"] & ~0xfff for event in faults} == {iova}
    m.wait_console(rf"DMAR: .*{drive.bdf[5:]}.* fault addr {outside[0]:#x}", "outside-b0")
    # New domains, as many as there are devices for, while the restored one exists.
    other = Running(m, "new", session="new", first=5)
    other.open("nvme5", "nvme6", marked=False)
    others.update(vtd.Tables(m).entries())
    assert others.pop(drive.bdf) == entry
    assert {m.bdf("nvme5"), m.bdf("nvme6")} <= set(others)
    same = [bdf for bdf, entry_of in others.items() if entry_of.domain == entry.domain]
    assert not same, f"{same} got the domain id of a preserved page table, {entry.domain}"
    owner.handover()
    assert not stray(m, owner, drive, inside, "inside-c")
    for i, iova in enumerate(outside):
        faults = stray(m, owner, drive, iova, f"outside-c{i}")
        assert {event.fields["addr"] & ~0xfff for event in faults} == {iova}
    owner.finish()
    see_nothing_lost(owner.settle())
    # Faults of its own making apart, there was none.
    strays = [(m.marks[name], m.marks[f"{name}-end"]) for name in list(m.marks)
              if name.startswith("outside") and not name.endswith("end")]
    assert not [event for event in m.trace("vtd_dmar_fault", drive.bdf)
                if not any(a <= event.time <= b for a, b in strays)]


def test_devices_that_share(standard):
    """Two devices in one page table; beside them another session with an iommufd of its own."""
    m = standard
    pair, single = Running(m), Running(m, "single", session="single", first=5)
    pair.open(*BOTH, shared=True)
    pair.start()
    single.open("nvme1")
    single.start()
    pair.preserve()
    single.preserve()
    assert states(pair) | states(single) == {"outgoing running"}
    m.kexec()
    single.retrieve()
    pair.retrieve()
    assert int(pair("hwpt_find", "I", pair.devices["nvme0"].tokens[2], "R"))
    # The other session's token is not known here, nor are others' devices welcome.
    assert pair.fails("hwpt_find", "I", single.devices["nvme1"].tokens[2], "T") == "ENOENT"
    single.handover()
    single.finish()
    assert states(single) == {"none"}
    assert states(pair) == {"incoming running"}
    # The page table stays until the last of its devices has gone.
    pair.build()
    pair("hwpt_alloc", "I", "Dnvme0", "A", "Hnvme0")
    pair("vfio_attach", "Dnvme0", "Hnvme0")
    assert int(pair("hwpt_find", "I", pair.devices["nvme0"].tokens[2], "R2"))
    assert pair.fails("finish", "S") == "EBUSY"
    pair("vfio_attach", "Digb0", "Hnvme0")
    assert pair.fails("hwpt_find", "I", pair.devices["nvme0"].tokens[2], "R3") == "ENOENT"
    pair.finish()
    m.mark("retrieved")
    for owner in (pair, single):
        see_good_update(owner)


@pytest.mark.thorough
def test_one_that_shares_is_missing(start):
    """Of two devices in one page table one is not there: its domain ID is given away by nobody."""
    m = start(topology=PAIR)
    owner = Running(m)
    owner.open(*BOTH, shared=True)
    owner.start()
    owner.preserve()
    handover = Handover(m)
    missing = owner.devices["igb0"]
    m.kexec(look=lambda: move_away(handover, missing.bdf, missing.tokens[0]))
    del owner.devices["igb0"]
    m.wait_console("was preserved and is not there", "jump", timeout=1)
    owner.retrieve()
    assert owner.fails("retrieve", "S", missing.tokens[0], missing.file) == "ENODEV"
    owner("retrieve", "S", missing.tokens[1], missing.memory)
    owner.handover()
    own = vtd.Tables(m).entry(owner.devices["nvme0"].bdf)
    owner.finish()
    m.wait_console(f"drops the page table of {moved_away(missing.bdf)}", "jump", timeout=1)
    # A device that comes later is not in the way of the others.
    m.bind_vfio(missing.bdf)
    owner("vfio_open", missing.file, missing.bdf)
    owner("vfio_bind", missing.file, "I")
    owner("hwpt_alloc", "I", missing.file, "A", "Hlater")
    owner("vfio_attach", missing.file, "Hlater")
    tables = vtd.Tables(m)
    assert tables.entry(owner.devices["nvme0"].bdf) == own
    assert tables.entry(missing.bdf).domain != own.domain
    see_nothing_lost(owner.settle())


def moved_away(bdf):
    """Return the address of a device that is in the next place, without its domain."""
    return bdf[5:].replace("00.0", "01.0")


@pytest.mark.thorough
def test_any_order_of_retrieval(start):
    """The files of a session come back in any order, and the same file if asked for twice."""
    m, owner = at_work(start, *BOTH)
    owner.preserve()
    m.kexec()
    owner.retrieve(("devices", "iommufd", "memory"), bind=False)
    owner("retrieve", "S", 90, "Again")
    token = owner.devices["nvme0"].tokens[2]
    assert int(owner("hwpt_find", "I", token, "R")) == int(owner("hwpt_find", "Again", token, "R2"))
    owner("close", "Again")
    owner.bind()
    see_busy(owner)
    owner.handover()
    owner.finish()
    see_good_update(owner)


def pins(m):
    """Return how many pins there are on pages, for all devices."""
    # What the processors count by themselves is added up once in a second.
    lines = m.sh("sleep 3; grep nr_foll_pin /proc/vmstat").splitlines()
    counts = dict(line.split() for line in lines)
    return int(counts["nr_foll_pin_acquired"]) - int(counts["nr_foll_pin_released"])


@pytest.mark.thorough
def test_five_updates(start):
    """Five updates in a row, under work that never ends: nothing is lost, no page leaks."""
    m, owner = at_work(start, *BOTH, owner=RunningSet)
    totals = []
    for update in range(5):
        owner.preserve()
        m.kexec()
        take_over(owner)
        see_undisturbed(owner)
        see_dma(owner)
        totals.append(memory(m))
        assert m.kmemleak() == ""
        if update < 4:
            owner.refill()
    see_no_faults(owner)
    see_nothing_lost(owner.settle(), least=200)
    # Two kernels take turns.
    see_memory_back(m, totals[::2])
    see_memory_back(m, totals[1::2])
    assert pins(m) > 0
    owner.worker.kill()
    assert pins(m) == 0, "pages stay pinned for devices that are closed"


def test_abort_after_freeze(start):
    """A jump that fails leaves running devices undisturbed, and can be tried again."""
    m = start(topology=(*PAIR, Port(Igb("igb1"))))
    owner, idle = Running(m), Owner(m, "idle")
    owner.open(*BOTH)
    owner.start()
    owner.preserve()
    see_jump_refused(m, "EINVAL")    # no kernel is loaded
    idle.own("igb1")
    idle.preserve("igb1")
    idle("vfio_irq_on", "Digb1", "MSIX", 2)
    m.kexec_load()
    m.mark("failing")
    see_jump_refused(m, "EINVAL")    # another device, frozen after these, has interrupts enabled
    idle("vfio_irq_off", "Digb1", "MSIX")
    m.mark("failing-itself")
    owner("vfio_irq_on", "Dnvme0", "MSIX", 1)
    see_jump_refused(m, "EINVAL")    # one of these has
    m.wait_console(f"{m.bdf('nvme0')}: Freeze failed! Interrupts are still enabled.",
                   "failing-itself")
    owner("vfio_irq_off", "Dnvme0", "MSIX")
    m.sh("sleep 3")
    m.mark("checked")
    see_undisturbed(owner, "load", "failing-itself")
    see_dma(owner, "failing", "checked")
    assert states(owner) == {"outgoing running"}
    m.kexec_go()
    take_over(owner)
    see_good_update(owner)


@pytest.mark.thorough
def test_asleep(start):
    """A device that its user let sleep is not woken for an update, and stops it; awake, it goes."""
    m, owner = at_work(start, "nvme0")
    device = owner.devices["nvme0"]
    owner.preserve()
    owner("vfio_sleep", device.file)
    m.kexec_load()
    m.mark("asleep")
    see_jump_refused(m, "EINVAL")
    m.wait_console(f"{device.bdf}: Freeze failed! It is in a low-power state.", "asleep")
    m.mark("refused")
    assert not m.trace("pci_cfg_write", device.bdf, "asleep", "refused")
    assert states(owner) == {"outgoing running"}
    owner("vfio_wake", device.file)
    m.kexec_go()
    take_over(owner)
    see_good_update(owner)


def test_owner_crashed(start):
    """Whoever keeps the session of a dead owner keeps its devices going, interrupts or not."""
    m, owner = at_work(start, *BOTH)
    keeper = m.worker("keeper")
    owner.preserve()
    for device in owner.devices.values():
        owner("vfio_irq_on", device.file, "MSIX", 1)
    keeper("steal", "S", owner.worker.pid(), owner.worker.fd("S"))
    m.kexec_load()
    see_jump_refused(m, "EINVAL")    # there is somebody who could turn them off
    owner.worker.kill()
    m.kexec_go()
    take_over(owner)
    for device in owner.devices.values():
        control = pci.msix_control(m.config(device.bdf))
        writes = m.trace("pci_cfg_write", device.bdf, "freeze", "jump")
        # MSI-X goes off, and INTx may come in its place: nobody listens to that, either
        assert writes and {event.offset for event in writes} <= {control, pci.COMMAND}
        assert all(value & pci.COMMAND_MASTER
                   for value in m.command_writes(device.bdf, "freeze", "jump"))
    see_nothing_lost(owner.settle())
    see_undisturbed(owner, "jump")
    see_no_faults(owner)
    see_dma(owner)


def test_session_closed(start):
    """Without its session an owner can change its mappings again, and preserve them again."""
    m, owner = at_work(start, *BOTH)
    for _ in range(2):
        owner.preserve()
        assert states(owner) == {"outgoing running"}
        assert owner.fails("ioas_map_file", "I", "A", "Mnvme0", 0, 4096, 4096) == "EBUSY"
        owner("close", "S")
        assert states(owner) == {"none"}
        owner("ioas_map_file", "I", "A", "Mnvme0", 0, 4096, 4096)
        owner("ioas_unmap", "I", "A", 4096, 4096)
    m.mark("closed")
    see_undisturbed(owner, "load", "closed")
    owner.preserve()
    m.kexec()
    take_over(owner)
    see_good_update(owner)


def test_owner_killed(start):
    """When the owner is killed its devices are stopped and free, and no DMA goes astray."""
    m, owner = at_work(start, *BOTH)
    owner.preserve()
    configs = {device.bdf: m.config(device.bdf) for device in owner.devices.values()}
    entries = {bdf: vtd.Tables(m).entry(bdf) for bdf in configs}
    owner.devices["igb0"].stream.stop()
    owner.worker.kill()
    assert states(owner) == {"none"}
    m.mark("killed")
    for bdf, config in configs.items():
        assert m.resets(bdf, config, "load", "killed")
        assert vtd.Tables(m).entry(bdf) != entries[bdf], f"{bdf} still has its page table"
    see_no_faults(owner)
    again = Owner(m, "again")
    again.own(*BOTH)
    m.throttle("nvme0", 0)
    again.drive("nvme0")
    again.write("nvme0")
    again.check("nvme0")
    again.drive("igb0")


@pytest.mark.thorough
def test_owner_killed_after_retrieve(start):
    """When the new owner dies before handover, the session can be retrieved by another."""
    m, owner = at_work(start, *BOTH)
    owner.preserve()
    m.kexec()
    owner.retrieve()
    other_takes_over(owner)
