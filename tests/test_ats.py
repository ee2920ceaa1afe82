# SPDX-License-Identifier: GPL-2.0-only
"""Devices with PCIe ATS, which cache translations, in running mode.

QEMU has ATS on virtio devices only. Its own, Virtio and Vnet, ask the IOMMU each time; Vhost keeps
each translation until it is told to forget it, and shows what a flush would be missing for.
"""

import pytest

from conftest import IOVA, MODES
from lab import Nvme, Port, Vhost, Virtio, Vnet, pci, vtd
from lab.handover import Handover
from lab.running import IOMMUFD_TOKEN, SEED, Running, RunningSet
from lab.vtd import Kind
from lab.witness import Witness
from test_sriov_held import attribute, see_held
from test_sriov_refusals import refuses_write
from test_tool import REFUSED, kexec, run
from test_versions import between, version
from update import (Owner, finish_without_devices, move_away, see_busy, see_good_update,
                    see_no_faults, see_nothing_lost, see_translation_on, see_undisturbed, state,
                    states, take_over)

PLAIN = (Port(Virtio("virtio0", ats=False)),)
BOTH = ("virtio0", "vhost0")
TOPOLOGY = (Port(Virtio("virtio0")), Port(Vhost("vhost0")))
# Where a device sees one thing before the change of its page table, and another after it
SPARE = IOVA + (200 << 24)
SPARE_SIZE = 1 << 20
SPARE_TOKEN = 95
PAGE = 4096
ALL = 1 << 64
CACHED = ("vhost_stop", "vhost_reset", "vhost_refused", "vhost_broken")


def at_work(start, *names, owner=Running, **options):
    """Start a machine, and devices with ATS at work in it; returns it and their owner."""
    options.setdefault("topology", TOPOLOGY)
    m = start(device_iotlb=True, **options)
    owner = owner(m)
    owner.open(*names)
    owner.start()
    see_ats(owner)
    return m, owner


def see_ats(owner, enabled=True):
    """See that ATS is enabled in an owner's devices, or is not."""
    for device in owner.devices.values():
        assert pci.has_ats_enabled(owner.machine.config(device.bdf)) == enabled, device.name


def flushes(m, since, until=None):
    """Return what the IOMMU and devices were told to forget in a span of time."""
    return vtd.invalidations(m.trace(None, None, since, until))


def device_flushes(m, bdf, since, until=None):
    """Return the flushes of a device's TLB."""
    return [item for item in flushes(m, since, until)
            if item.kind in (Kind.DEVICE_TLB, Kind.PASID_DEVICE_TLB) and item.bdf == bdf]


def see_flushed(m, bdf, since, until, iova=0, size=ALL):
    """See that a device forgot a range after the IOMMU had, and that somebody waited for it."""
    found = flushes(m, since, until)
    places = [place for place, item in enumerate(found)
              if item.kind == Kind.DEVICE_TLB and item.bdf == bdf and item.covers(iova, size)]
    assert places, f"from {since} to {until}: the device kept its translations"
    before, after = found[:places[0]], found[places[0] + 1:]
    assert any(item.kind in (Kind.IOTLB, Kind.PASID_IOTLB) for item in before)
    assert after and after[0].kind == Kind.WAIT


def see_well(owner):
    """See that an update was good in which QEMU, to be stopped, let all work end at once."""
    see_nothing_lost(owner.settle())
    see_undisturbed(owner)
    see_no_faults(owner)


def update(owner):
    """Take devices through an update; see that they stay as they are, and that each flush comes."""
    m, devices = owner.machine, owner.devices.values()
    bdfs = [device.bdf for device in devices]
    owner.preserve()
    assert states(owner) == {"outgoing running"}
    configs = [m.config(bdf) for bdf in bdfs]
    entries = [vtd.Tables(m).entry(bdf) for bdf in bdfs]
    m.kexec()
    assert states(owner) == {"incoming running"}
    owner.retrieve()
    assert [m.config(bdf) for bdf in bdfs] == configs, "config space differs"
    assert [vtd.Tables(m).entry(bdf) for bdf in bdfs] == entries, "translated another way"
    # Translations go on being right: between the kernels nobody is told to forget any.
    for bdf in bdfs:
        assert not device_flushes(m, bdf, "freeze", "retrieved")
    see_busy(owner)
    owner.handover()
    for bdf in bdfs:
        see_flushed(m, bdf, "built", "handover")


def see_cached(m, name="vhost0", since="load"):
    """See that a device used what it had cached, was never stopped, and was refused nothing."""
    vhost, moment = m.vhosts[name], m.marks[since]
    assert vhost.accesses(since=moment, cached=True)
    for event in CACHED:
        assert not vhost.events(event, moment), event


def see_nothing_stale(m, name="vhost0"):
    """See that what a device has cached is what the IOMMU would say."""
    vhost = m.vhosts[name]
    # After a flush it has none until its next request.
    assert vhost.translations() or m.sh("sleep 1") == "" and vhost.translations()
    assert not vhost.stale(vtd.Tables(m).reach(m.bdf(name)))


@pytest.mark.cut(("modules", "legacy"), ("debug", "scalable"), ("distro", "scalable"))
def test_update(start, mode):
    """The goal: devices with ATS never stop, nothing is lost, and each flush comes."""
    m, owner = at_work(start, *BOTH, **MODES[mode])
    update(owner)
    see_nothing_stale(m)
    owner.finish()
    assert states(owner) == {"none"}
    see_ats(owner)
    see_good_update(owner)
    see_undisturbed(owner, "freeze", None)
    see_cached(m)
    # Its work goes on after that.
    owner.work()
    m.sh("sleep 2")
    see_nothing_lost(owner.settle(), least=10)
    see_nothing_stale(m)
    assert m.kmemleak() == ""


def map_spare(owner, ioas, name, seed):
    """Give devices more memory, with a pattern in it."""
    if name not in owner.worker.objects():
        owner("memfd", name, SPARE_SIZE)
        owner("mem_fill", name, 0, SPARE_SIZE, seed)
    # Unmapped as it is mapped
    owner("ioas_map_file", "I", ioas, name, 0, PAGE, SPARE)
    owner("ioas_map_file", "I", ioas, name, PAGE, SPARE_SIZE - PAGE, SPARE + PAGE)


@pytest.mark.cut(("modules", "scalable"))
def test_other_memory(start, mode):
    """With another page table a device gets to other memory, and with none to nothing."""
    m, owner = at_work(start, "vhost0", topology=(Port(Vhost("vhost0")),), **MODES[mode])
    vhost, bdf = m.vhosts["vhost0"], owner.devices["vhost0"].bdf
    map_spare(owner, "A", "X", SEED)
    old = vhost.read(SPARE, SPARE_SIZE)
    assert len(set(old)) > 1
    owner.preserve(iommufd=False, devices=False)
    owner("preserve", "S", SPARE_TOKEN, "X")
    owner("preserve", "S", IOMMUFD_TOKEN, "I")
    owner("preserve", "S", owner.devices["vhost0"].tokens[0], owner.devices["vhost0"].file)
    m.kexec()
    owner.retrieve()
    owner("retrieve", "S", SPARE_TOKEN, "X")
    # From its cache, all of it
    since = m.marks["retrieved"]
    assert vhost.read(SPARE, SPARE_SIZE) == old
    assert not vhost.accesses(SPARE, SPARE_SIZE, since, cached=False)
    owner.build()
    map_spare(owner, "A", "Y", SEED + 1)
    owner("hwpt_alloc", "I", "Dvhost0", "A", "Hvhost0")
    m.mark("built")
    owner("vfio_attach", "Dvhost0", "Hvhost0")
    m.mark("handover")
    see_flushed(m, bdf, "built", "handover")
    new = vhost.read(SPARE, SPARE_SIZE)
    assert new != old and len(set(new)) > 1
    assert vhost.write(SPARE, old)
    owner("mem_check", "Y", 0, SPARE_SIZE, SEED)
    owner.finish()
    see_good_update(owner)
    # Unmapped, page by page and all of the rest
    for place, size in ((SPARE, PAGE), (SPARE + PAGE, SPARE_SIZE - PAGE)):
        assert vhost.translations(place, size)
        m.mark("unmap")
        owner("ioas_unmap", "I", "A", place, size)
        m.mark("unmapped")
        see_flushed(m, bdf, "unmap", "unmapped", place, size)
        assert not vhost.translations(place, size)
        assert vhost.read(place, 8) is None


@pytest.mark.thorough
def test_update_without_ats(start):
    """A virtio block device whose ATS is off goes on through an update, and nothing is lost."""
    m = start(topology=PLAIN, device_iotlb=True, **MODES["scalable"])
    owner = Running(m)
    owner.open("virtio0")
    owner.start()
    see_ats(owner, False)
    owner.preserve()
    m.kexec()
    take_over(owner)
    assert states(owner) == {"none"}
    see_ats(owner, False)
    see_good_update(owner)


@pytest.mark.thorough
@pytest.mark.parametrize("interrupts", (False, True), ids=("polled", "interrupts"))
def test_set(start, interrupts):
    """Likewise with all of it in a set of libliveupdate; interrupts may go along."""
    m = start(topology=(Port(Virtio("virtio0")),), device_iotlb=True)
    owner = RunningSet(m, interrupts=interrupts)
    owner.open("virtio0")
    owner.start()
    owner.preserve()
    m.kexec()
    owner.retrieve()
    owner.arm()
    owner.handover()
    owner.finish()
    see_ats(owner)
    see_good_update(owner)


@pytest.mark.thorough
@pytest.mark.cut(("modules", "scalable"))
def test_there_and_back(start, mode):
    """Three updates in a row, each kernel as good at it as the one before."""
    m, owner = at_work(start, *BOTH, **MODES[mode])
    for _ in range(3):
        m.forget("load")
        owner.preserve()
        m.kexec()
        take_over(owner)
        see_undisturbed(owner)
        see_no_faults(owner, "freeze")
        see_nothing_stale(m)
        owner.refill()
        # What crosses next is the page table of now.
        for device in owner.devices.values():
            owner.mark(device)
    see_nothing_lost(owner.settle())
    see_cached(m)


@pytest.mark.thorough
@pytest.mark.cut(("modules", "scalable"))
@pytest.mark.parametrize(("outgoing", "incoming"), [("7.2", "7.3"), ("7.3", "7.2")])
def test_versions(start, kernels, mode, outgoing, incoming):
    """Between two versions of Linux."""
    if kernels == "debug":
        pytest.skip("needs Linux 7.2 for debugging, which is not built")
    m, owner = at_work(start, *BOTH, **between(kernels, outgoing), **MODES[mode])
    assert version(m) == outgoing
    owner.preserve()
    m.kexec()
    assert version(m) == incoming
    take_over(owner)
    see_ats(owner)
    see_good_update(owner)
    see_cached(m)
    see_nothing_stale(m)


@pytest.mark.thorough
@pytest.mark.cut(("modules", "legacy"), ("modules", "scalable"))
def test_isolation(start, mode):
    """A device with ATS reaches nothing that is not mapped for it, in either kernel."""
    m, owner = at_work(start, "vhost0", topology=(Port(Vhost("vhost0")),), **MODES[mode])
    vhost = m.vhosts["vhost0"]
    outside = (0, 0x100000, SPARE)
    assert [vhost.read(place, 8) for place in outside] == [None] * 3
    owner.preserve()
    m.kexec(look=lambda: None)
    assert [vhost.read(place, 8) for place in outside] == [None] * 3
    take_over(owner)
    assert [vhost.read(place, 8) for place in outside] == [None] * 3
    see_nothing_lost(owner.settle())
    see_translation_on(m)


@pytest.mark.thorough
@pytest.mark.cut(("modules", "legacy"), ("modules", "scalable"))
def test_detach(start, mode):
    """After an update a device is detached and attached as any other, and forgets each time."""
    m, owner = at_work(start, "vhost0", topology=(Port(Vhost("vhost0")),), **MODES[mode])
    vhost, device = m.vhosts["vhost0"], owner.devices["vhost0"]
    owner.preserve()
    m.kexec()
    take_over(owner)
    see_nothing_lost(owner.settle())
    m.mark("detach")
    owner("vfio_detach", device.file)
    m.mark("detached")
    see_flushed(m, device.bdf, "detach", "detached")
    assert not vhost.translations()
    owner("vfio_attach", device.file, device.hwpt)
    see_ats(owner)
    owner.work()
    m.sh("sleep 2")
    see_nothing_lost(owner.settle(), least=10)
    see_nothing_stale(m)


@pytest.mark.thorough
def test_owner_dies(start):
    """An owner that dies in the next kernel takes its device's DMA along, and what it cached."""
    m, owner = at_work(start, "vhost0", topology=(Port(Vhost("vhost0")),))
    vhost, bdf = m.vhosts["vhost0"], owner.devices["vhost0"].bdf
    owner.preserve()
    m.kexec()
    owner.retrieve()
    owner.handover()
    m.mark("death")
    owner.worker.kill()
    m.sh("sleep 1")
    m.mark("dead")
    assert any(item.covers(0, ALL) for item in device_flushes(m, bdf, "death", "dead"))
    assert not vhost.translations()
    assert not vhost.accesses(since=m.marks["dead"])


@pytest.mark.thorough
@pytest.mark.cut(("modules", "legacy"), ("modules", "scalable"))
def test_removed(start, mode):
    """Removed before anybody retrieves it, a device is stopped, and forgets before it is let go."""
    m, owner = at_work(start, "vhost0", topology=(Port(Vhost("vhost0")),), **MODES[mode])
    bdf = owner.devices["vhost0"].bdf
    owner.preserve()
    m.kexec()
    m.sh(f"echo 1 >/sys/bus/pci/devices/{bdf}/remove")
    m.mark("removed")
    first = m.trace("pci_cfg_write", bdf, "freeze")[0]
    assert first.offset == pci.COMMAND and not first.value & pci.COMMAND_MASTER
    assert any(item.covers(0, ALL) for item in device_flushes(m, bdf, "freeze", "removed"))
    assert not m.vhosts["vhost0"].translations()
    see_no_faults(owner)
    m.sh("echo 1 >/sys/bus/pci/rescan")
    assert state(m, bdf) == "none"


def see_ats_ended(m, bdf):
    """See that a kernel without ATS turned a device's off, and flushed nothing; returns when."""
    m.wait_console(f"{bdf}.* its ATS is enabled, and this kernel does not use it", "freeze",
                   timeout=1)
    control = pci.extended_capability(m.config(bdf), pci.EXT_CAP_ATS) + pci.ATS_CONTROL
    ats = m.config_writes(bdf, control, "freeze")
    assert ats and not ats[0].value & pci.ATS_ENABLE
    assert not device_flushes(m, bdf, "freeze")
    return ats[0].time


@pytest.mark.cut(("modules", "legacy"))
def test_not_used(start, mode):
    """A kernel that uses no ATS takes over no device with it: DMA, ATS and its entry end."""
    m, owner = at_work(start, *BOTH, **MODES[mode])
    bdfs = [device.bdf for device in owner.devices.values()]
    entries = [vtd.Tables(m).entry(bdf) for bdf in bdfs]
    owner.preserve()
    # The tool would not do that.
    said = run(m, *kexec(m.next_kernel, "--append", "pci=realloc,noats", "-r", "-n"))
    assert said.code == REFUSED
    assert all(f"would stop {bdf}, which has ATS enabled" in said.err for bdf in bdfs)
    m.kexec(append="pci=noats iommu=pt")
    for bdf, entry in zip(bdfs, entries):
        ended = see_ats_ended(m, bdf)
        masters = [event for event in m.config_writes(bdf, pci.COMMAND, "freeze")
                   if not event.value & pci.COMMAND_MASTER]
        assert masters[0].time < ended
        forgotten = [item for item in flushes(m, "freeze") if item.time > ended]
        assert forgotten[0].kind == Kind.CONTEXT
        assert vtd.Tables(m).entry(bdf) != entry
    assert states(owner) == {"none"}
    see_ats(owner, False)
    see_translation_on(m)
    # The session has all that it had but for these.
    finish_without_devices(owner)


@pytest.mark.thorough
@pytest.mark.cut(("modules", "legacy"), ("modules", "scalable"))
def test_that_is_not_there(start, mode):
    """The list says that a device has ATS, and it does not: its DMA ends, others go on."""
    m = start(topology=(Port(Virtio("virtio0")), Port(Nvme("nvme0"))), device_iotlb=True,
              **MODES[mode])
    owner = Running(m)
    owner.open("virtio0", "nvme0")
    owner.start()
    owner.preserve()
    handover = Handover(m)

    def pretend(h):
        index = h.read().place_of(owner.devices["nvme0"].bdf)
        h.device(index)["flags"] = 1
        place = h.context(index)
        h.poke(place, h.words(place)[0] | 4)

    m.kexec(look=lambda: pretend(handover))
    bdf = owner.devices.pop("nvme0").bdf
    m.wait_console(f"{bdf}.* its ATS is not as the previous kernel left it", "freeze", timeout=1)
    assert state(m, bdf) == "none"
    owner.retrieve()
    owner.handover()
    see_flushed(m, owner.devices["virtio0"].bdf, "built", "handover")
    assert not device_flushes(m, bdf, "freeze")
    see_well(owner)


@pytest.mark.thorough
def test_absent(start):
    """A device that is not there any more is not waited for: nothing is flushed but the IOMMU."""
    m, owner = at_work(start, *BOTH)
    owner.preserve()
    handover = Handover(m)
    gone = owner.devices["vhost0"].bdf
    moved = gone.replace("00.0", "01.0")

    m.kexec(look=lambda: move_away(handover, gone))
    m.wait_console("was preserved and is not there", "jump", timeout=1)
    owner.devices.pop("vhost0")
    owner.retrieve()
    owner.handover()
    see_flushed(m, owner.devices["virtio0"].bdf, "built", "handover")
    assert not device_flushes(m, moved, "freeze")
    see_well(owner)


@pytest.mark.thorough
def test_shared(start):
    """Two devices in one page table, one with ATS: a flush goes to that one, and to no other."""
    m = start(topology=(Port(Vhost("vhost0")), Port(Nvme("nvme0"))), device_iotlb=True)
    owner = Running(m)
    owner.open("vhost0", "nvme0", shared=True)
    owner.start()
    owner.preserve()
    m.kexec()
    take_over(owner)
    vhost, nvme = (owner.devices[name].bdf for name in ("vhost0", "nvme0"))
    see_flushed(m, vhost, "built", "handover")
    map_spare(owner, "A", "X", SEED)
    assert m.vhosts["vhost0"].read(SPARE, SPARE_SIZE)
    m.mark("unmap")
    owner("ioas_unmap", "I", "A", SPARE, SPARE_SIZE)
    m.mark("unmapped")
    see_flushed(m, vhost, "unmap", "unmapped", SPARE, SPARE_SIZE)
    assert not device_flushes(m, nvme, "freeze")
    see_good_update(owner)
    see_cached(m)


@pytest.mark.thorough
def test_idle(start):
    """In idle mode a device with ATS is reset, and given back, as it always was."""
    m = start(topology=(Port(Virtio("virtio0")),), device_iotlb=True)
    owner = Owner(m)
    bdf, = owner.own("virtio0")
    owner.drive("virtio0")
    owner.write("virtio0")
    owner.preserve("virtio0")
    assert state(m, bdf) == "outgoing idle"
    m.kexec()
    owner.take_over("virtio0")
    owner.check("virtio0")
    assert pci.has_ats_enabled(m.config(bdf))


# --- virtual functions ---

PHYSICAL, LEFT = "vnet0", "vnet0vf1"
VIRTUAL = ("vnet0vf0", LEFT)


class Tenant(Running):
    """A process with virtual functions of a device that Linux's own driver has."""

    rules = False


def see_unmapped(owner, name):
    """See that a device, and no other, forgets its memory when that is unmapped."""
    m, device = owner.machine, owner.devices[name]
    m.mark("unmap")
    owner("ioas_unmap", "I", "A", device.iova, device.size)
    m.mark("unmapped")
    see_flushed(m, device.bdf, "unmap", "unmapped", device.iova, device.size)


@pytest.mark.thorough
@pytest.mark.cut(("modules", "legacy"), ("modules", "scalable"))
def test_virtual(start, mode):
    """A physical function and its virtual ones never stop, and each is flushed by its own ID."""
    m, owner = at_work(start, PHYSICAL, *VIRTUAL, topology=(Port(Vnet(PHYSICAL, vfs=2)),),
                       **MODES[mode])
    update(owner)
    owner.finish()
    assert states(owner) == {"none"}
    see_ats(owner)
    see_good_update(owner)
    see_undisturbed(owner, "freeze", None)
    see_unmapped(owner, LEFT)


@pytest.mark.thorough
@pytest.mark.cut(("modules", "legacy"), ("modules", "scalable"))
def test_virtual_left_behind(start, mode):
    """A virtual function that is not preserved is reset, and has ATS as any other device."""
    m = start(device_iotlb=True, topology=(Port(Vnet(PHYSICAL, vfs=2)),), **MODES[mode])
    m.vfs(PHYSICAL, 2)
    owner = Running(m)
    owner.open(PHYSICAL, VIRTUAL[0])
    owner.start()
    left = m.bdf(LEFT)
    other = Running(m, "other", session="other", first=5)
    m.bind_vfio(left)
    other.open(LEFT)
    other.start()
    see_ats(other)
    m.sh("sleep 1")
    see_nothing_lost(other.settle(), least=1)
    update(owner)
    owner.finish()
    see_good_update(owner)
    assert state(m, left) == "none"
    config = m.config(left)
    assert not pci.word(config, pci.COMMAND) & pci.COMMAND_MASTER
    assert len(m.resets(left, config, "kernel", "ready")) == 1
    assert not device_flushes(m, left, "kernel")
    m.bind_vfio(left)
    again = Running(m, "again", session="again", first=5)
    again.open(LEFT)
    again.start()
    see_ats(again)
    m.sh("sleep 2")
    see_nothing_lost(again.settle(), least=10)
    see_unmapped(again, LEFT)
    assert not device_flushes(m, owner.devices[VIRTUAL[0]].bdf, "unmap")


def held(start, **options):
    """Start a machine with virtual functions at work; Linux's driver has the physical one."""
    m = start(device_iotlb=True, topology=(Port(Vnet(PHYSICAL, vfs=2, block=True)),), **options)
    bdf = m.bdf(PHYSICAL)
    if m.driver(bdf) != "virtio-pci":
        pytest.skip("needs Linux's virtio-pci built in, which this kernel has not")
    m.sh(f"echo 0 >{attribute(m, bdf, 'sriov_drivers_autoprobe')};"
         f"echo 2 >{attribute(m, bdf, 'sriov_numvfs')}")
    for name in VIRTUAL:
        m.bind_vfio(m.bdf(name))
    m.sh(f"vfio-liveupdate hold {bdf}")
    owner = Tenant(m)
    owner.open(VIRTUAL[0])
    owner.start()
    see_ats(owner)
    read_block(m, bdf)
    assert pci.has_ats_enabled(m.config(bdf))
    return m, owner, Witness(m, bdf)


def read_block(m, bdf):
    """See that Linux's driver of a virtio block device has it, and reads from it."""
    disk = m.sh(f"ls {attribute(m, bdf, 'virtio*/block')}").strip()
    m.sh(f"dd if=/dev/{disk} of=/dev/null bs=64k count=16 iflag=direct")


def see_physical_alone(m, physical):
    """See that nobody wrote to a function that is held, nor flushed it; ATS is as it was."""
    see_held(m, physical)
    assert pci.has_ats_enabled(m.config(physical.bdf))
    assert not device_flushes(m, physical.bdf, "freeze")


@pytest.mark.thorough
@pytest.mark.cut(("modules", "legacy"), ("modules", "scalable"))
def test_held(start, mode):
    """The physical function is held: its virtual one runs on with ATS, and nobody flushes it."""
    m, owner, physical = held(start, **MODES[mode])
    left = m.bdf(LEFT)
    for _ in range(2):
        update(owner)
        see_physical_alone(m, physical)
        owner.finish()
        see_ats(owner)
        see_undisturbed(owner)
        assert state(m, left) == "none" and not device_flushes(m, left, "kernel")
        for device in owner.devices.values():
            owner.mark(device)
    see_good_update(owner)
    see_unmapped(owner, VIRTUAL[0])
    see_physical_alone(m, physical)
    refuses_write(m, attribute(m, physical.bdf, "liveupdate_release"), 1)
    owner.worker.kill()
    m.sh(f"vfio-liveupdate release --yes {physical.bdf}")
    assert state(m, physical.bdf) == "none"
    # The reset leaves it, in QEMU.
    assert not pci.has_ats_enabled(m.config(physical.bdf))
    read_block(m, physical.bdf)
    m.sh(f"echo 2 >{attribute(m, physical.bdf, 'sriov_numvfs')}")
    see_no_faults(owner)


@pytest.mark.thorough
@pytest.mark.cut(("modules", "legacy"), ("modules", "scalable"))
@pytest.mark.parametrize("way", ["running", "held"])
def test_virtual_not_used(start, mode, way):
    """A kernel that uses no ATS ends virtual functions with it; it writes to none that is held."""
    if way == "held":
        m, owner, physical = held(start, **MODES[mode])
    else:
        m, owner = at_work(start, PHYSICAL, *VIRTUAL, topology=(Port(Vnet(PHYSICAL, vfs=2)),),
                           **MODES[mode])
    owner.preserve()
    m.kexec(append="pci=noats")
    for device in owner.devices.values():
        see_ats_ended(m, device.bdf)
    see_ats(owner, False)
    if way == "held":
        assert states(owner) == {"none"}
        see_physical_alone(m, physical)
        finish_without_devices(owner)
        return
    # Because of those that it came with it is not reset, and is to be had without its DMA.
    kept = owner.devices.pop(PHYSICAL)
    assert state(m, kept.bdf) == "incoming running"
    assert not pci.word(m.config(kept.bdf), pci.COMMAND) & pci.COMMAND_MASTER
    assert states(owner) == {"none"}
    owner("session_retrieve", "S", owner.session)
    owner("retrieve", "S", IOMMUFD_TOKEN, "I")
    owner("retrieve", "S", kept.tokens[1], kept.memory)
    owner("retrieve", "S", kept.tokens[0], kept.file)
    for device in owner.devices.values():
        owner("retrieve", "S", device.tokens[1], device.memory)
        assert owner.fails("retrieve", "S", device.tokens[0], device.file) == "ENODEV"
    owner.finish()
    assert state(m, kept.bdf) == "none"
