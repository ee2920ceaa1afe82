# SPDX-License-Identifier: GPL-2.0-only
"""The lab itself: what every other test takes for granted, true on a stock kernel too."""

import re
import time

import pytest

from conftest import IGB_MEMORY, IOVA, KERNELS, MODES, NVME_MEMORY
from lab import (SMALL, GuestError, Igb, Machine, MachineError, Nvme, Port, Vhost, Virtio, pci,
                 timeline, trace, vtd, wire, witness)
from lab.vtd import Invalidation, Kind

# Linux's own driver of it is in the kernels of modules only.
CACHING = (Port(Vhost("vhost0")),)
COPY = "dd if={} of={} bs=64k count=10 {}flag=direct"


def nvme(m, w, name="nvme0", queue=1):
    """Give a drive to a worker's user-space driver N; returns its address."""
    bdf = m.bdf(name)
    m.bind_vfio(bdf)
    w.vfio("D", bdf)
    w.dma_memory("M", NVME_MEMORY, IOVA)
    w("nvme_start", "N", "D", "M", IOVA, queue)
    return bdf


def test_kexec_keeps_memory(small):
    """A memfd that was preserved crosses one update after the other, each to the other kernel."""
    first, second = small.kernel, small.next_kernel
    w = small.worker("owner")
    w("memfd", "M", "1m")
    w("mem_fill", "M", 0, "1m", 42)
    for kernel in (second, first):
        w("session_create", "S", "memory")
        w("preserve", "S", 7, "M")
        small.kexec()
        assert small.sh("uname -r") == kernel.release
        w("session_retrieve", "S", "memory")
        w("retrieve", "S", 7, "M")
        w("mem_check", "M", 0, "1m", 42)
        w("finish", "S")
        w("close", "S")


@pytest.mark.thorough
def test_workers(small):
    """Workers are processes of their own; one can wait while another acts, or die."""
    a, b = small.worker("a"), small.worker("b")
    a.start("sleep", 2000)
    assert small.worker("a").fails("objects") == "EBUSY"
    b("memfd", "M", 4096)
    a.wait()
    assert a.fails("mem_map", "M") == "ENOENT"
    pids = dict(line.split() for line in small.agent("list").lines)
    b.kill()
    assert small.sh(f"test -e /proc/{pids['b']} || echo gone") == "gone"
    assert b.fails("mem_map", "M") == "ENOENT"
    assert b.fails("no_such_command") == "ENOSYS"
    assert b.fails("memfd", "M") == "EINVAL"
    assert small.sh("echo 'two  words'; echo; echo end").split("\n") == ["two  words", "", "end"]
    with pytest.raises(GuestError, match="exit code 3"):
        small.sh("exit 3")


@pytest.mark.thorough
def test_devices_and_groups(standard):
    """Devices are where the topology says; no two endpoints share an IOMMU group."""
    assert standard.bdf("nvme0") == "0000:01:00.0"
    groups = standard.sh("cd /sys/kernel/iommu_groups; for g in *; do echo $(ls $g/devices);"
                         "done").splitlines()
    for name in ("nvme0", "igb0", "bystander"):
        assert standard.bdf(name) in groups
    # The switch's downstream ports have no ACS: each shares the group of what is below it.
    for name, port in (("nvme1", "switch-0"), ("igb1", "switch-1")):
        assert f"{standard.bdf(port)} {standard.bdf(name)}" in groups
    assert standard.driver(standard.bdf("nvme1")) == "nvme"


def see_blocks(m, w, kind, drive):
    """See that a user-space driver of a drive writes and reads, also a file."""
    w(f"{kind}_write", drive, 100, 1000, 5)
    w(f"{kind}_flush", drive)
    w(f"{kind}_read_check", drive, 100, 1000, 5)
    assert w.fails(f"{kind}_read_check", drive, 100, 1000, 6) == "EILSEQ"
    w(f"{kind}_write_file", drive, 5000, "/bin/guest")
    size = m.sh("stat -c %s /bin/guest")
    w(f"{kind}_read_file", drive, 5000, size, "/tmp/guest")
    m.sh("cmp /bin/guest /tmp/guest")


def test_nvme_in_user_space(standard):
    """The user-space NVMe driver writes and reads, also a file; another process goes on."""
    w = standard.worker("owner")
    nvme(standard, w, "nvme1")
    see_blocks(standard, w, "nvme", "N")
    w("nvme_queue_reads", "N", 100, 1000, 5)
    w("close", "N")
    w("nvme_adopt", "N", "D", "M")
    w("nvme_wait", "N")
    assert int(w("nvme_busy", "N")) == 0
    w("nvme_stop", "N")
    assert w.fails("nvme_flush", "N") == "EINVAL"


@pytest.mark.thorough
def test_nvme_queue_that_lasts(start):
    """A throttled drive keeps reads in flight for seconds."""
    m = start(topology=(Port(Nvme("slow", iops=20)),))
    w = m.worker("owner")
    nvme(m, w, "slow")
    w("nvme_queue_reads", "N", 0, 40 * 8, 1)
    m.sh("sleep 0.5")
    assert int(w("nvme_busy", "N")) > 10
    assert w.fails("nvme_wait", "N") == "EILSEQ"
    assert int(w("nvme_busy", "N")) == 0


@pytest.fixture
def igb(start):
    """Start a machine whose worker "owner" has the network controller igb0 open as D."""
    m = start(topology=(Port(Igb("igb0")),))
    bdf = m.bdf("igb0")
    m.bind_vfio(bdf)
    m.worker("owner").vfio("D", bdf)
    return m


def test_igb_in_user_space(igb):
    """The user-space igb driver exchanges numbered frames with the test."""
    w = igb.worker("owner")
    w.dma_memory("M", IGB_MEMORY, IOVA)
    w("igb_start", "G", "D", "M", IOVA)
    w.start("igb_tx", "G", 1000, 300)
    assert igb.wires["igb0"].receive(300) == list(range(1000, 1300))
    w.wait()
    w.start("igb_rx_check", "G", 300, 10000)
    igb.wires["igb0"].send(7, 300)
    assert w.wait().values == ["7", "300"]
    assert w.fails("igb_rx_check", "G", 1, 100) == "ETIMEDOUT"
    w("igb_stop", "G")


def test_timelines(standard):
    """Streams of reads and frames: all that is sent arrives, and the trace shows when."""
    m = standard
    w = m.worker("owner")
    m.bind_vfio(m.bdf("igb0"))
    nvme(m, w, queue=7)
    w.vfio("E", m.bdf("igb0"))
    w.dma_memory("F", IGB_MEMORY, IOVA * 2)
    w("igb_start", "G", "E", "F", IOVA * 2)
    w("nvme_write", "N", 0, 100 * 8, 5)
    m.throttle("nvme0", 50)
    w("igb_rx_begin", "G", 1)
    m.mark("begin")
    stream = m.wires["igb0"].stream(1, 50)
    assert int(w("nvme_queue_mixed", "N", 0, 100 * 8, 5)) > 50
    w("nvme_wait", "N")
    m.mark("end")
    after = stream.stop()
    begin, end = m.marks["begin"], m.marks["end"]
    assert w.account("nvme_account", "N") == {
        "submitted": 200, "completed": 200, "busy": 0, "errors": 0, "wrong": 0, "strange": 0}
    assert w.account("igb_rx_account", "G", after, 5000) == {
        "first": 1, "next": after, "good": after - 1, "lost": 0, "repeated": 0, "wrong": 0,
        "foreign": 0}
    reads = timeline.completions(m.trace(), 7)
    frames = timeline.frames(m.trace(), IOVA * 2, IGB_MEMORY)
    assert len(reads.within(begin, end)) == 100
    assert len(frames.within(begin, end + 1)) == after - 1
    assert not frames.faults(begin, end) and not reads.faults(begin, end)
    assert 0.01 < reads.median(begin, end) < 0.04
    assert reads.faults(begin - 2, end), "two seconds without a command are a gap"


def test_accounts_see_what_is_wrong(standard):
    """Other data on the drive, and frames that are lost, broken and sent twice, are counted."""
    m = standard
    w = m.worker("owner")
    m.bind_vfio(m.bdf("igb0"))
    nvme(m, w)
    w("nvme_write", "N", 0, 16 * 8, 5)
    w("nvme_write", "N", 8, 16, 6)
    w("nvme_queue_mixed", "N", 0, 16 * 8, 5)
    assert w.fails("nvme_wait", "N") in ("EIO", "EILSEQ")
    account = w.account("nvme_account", "N")
    assert (account["completed"], account["wrong"], account["errors"]) == (34, 1, 1)
    w.vfio("E", m.bdf("igb0"))
    w.dma_memory("F", IGB_MEMORY, IOVA * 2)
    w("igb_start", "G", "E", "F", IOVA * 2)
    w("igb_rx_begin", "G", 10)
    broken = bytearray(wire.frame(13))
    broken[100] ^= 1
    for data in (*map(wire.frame, (10, 11, 14, 11)), broken, wire.frame(15)):
        m.wires["igb0"].send_raw(data)
    assert w.account("igb_rx_account", "G", 16, 5000) == {
        "first": 10, "next": 16, "good": 4, "lost": 2, "repeated": 1, "wrong": 1, "foreign": 0}


@pytest.mark.thorough
def test_fork(small):
    """A child does a command beside its worker; its result is there when it is joined."""
    w = small.worker("owner")
    nvme(small, w)
    w("nvme_write", "N", 0, 64, 5)
    w("fork", "C", "nvme_load N 0 64 5 500")
    w("objects")
    assert int(w("join", "C")) >= 64
    w("nvme_read_check", "N", 0, 64, 5)
    w("fork", "C", "nvme_load N 0 64 6 500")
    assert w.fails("join", "C") in ("EILSEQ", "EIO")
    assert w.fails("join", "N") == "EINVAL"


@pytest.mark.thorough
def test_memory_pressure(small):
    """Nearly all free memory is taken, and looked at; the account says how much it was."""
    account = small.worker("press").account("mem_press", 64 << 20, 100)
    assert account["rounds"] > 0 and account["wrong"] == 0
    assert account["bytes"] > account["free"] - (65 << 20) > 300 << 20


@pytest.mark.thorough
def test_tables(start):
    """The IOMMU's tables in memory say which devices can do DMA, in both modes of VT-d."""
    domains = {}
    for scalable in (False, True):
        m = start(f"-{scalable}", topology=SMALL + (Port(Nvme("other")),), scalable=scalable)
        w = m.worker("owner")
        bdf = nvme(m, w)
        tables = vtd.Tables(m)
        assert tables.scalable == scalable
        entries = [tables.entry(b) for b in (bdf, m.bdf("other"))]
        assert None not in entries
        domains[scalable] = [entry.domain for entry in entries]
        assert len({entry.table for entry in entries}) == 2
        assert tables.entry("0000:1f:00.0") is None
        # With nothing attached the device is given to nobody: another table, or none.
        w("vfio_detach", "D")
        assert vtd.Tables(m).entry(bdf) != entries[0]
    assert all(len(set(pair)) == 2 for pair in domains.values())


def test_dma_outside(small):
    """A device that is told to write elsewhere than to its memory is stopped by the IOMMU."""
    w = small.worker("owner")
    bdf = nvme(small, w)
    w("nvme_write_to", "N", IOVA + NVME_MEMORY - 4096)
    assert not small.trace("vtd_dmar_fault")
    w("nvme_write_to", "N", IOVA >> 1)
    assert {event.fields["addr"] & ~0xfff for event in small.trace("vtd_dmar_fault", bdf)} \
        == {IOVA >> 1}
    small.wait_console(f"DMAR: .*{bdf[5:]}.* fault addr {IOVA >> 1:#x}")


def test_trace_of_config_writes(small):
    """The trace shows who writes to a device's config space, and when."""
    w = small.worker("owner")
    bdf = nvme(small, w)
    express = pci.capability(small.config(bdf), pci.CAP_EXPRESS)
    small.mark("before")
    w("cfg_write", "D", pci.COMMAND, 2, pci.COMMAND_MEMORY)
    small.mark("between")
    w("vfio_reset", "D")
    small.mark("after")
    writes = small.trace("pci_cfg_write", bdf, "before", "between")
    assert [event.value & pci.COMMAND_MASTER for event in writes
            if event.offset == pci.COMMAND] == [0]
    resets = [event for event in small.trace("pci_cfg_write", bdf, "between", "after")
              if event.offset == express + pci.EXPRESS_DEVCTL
              and event.value & pci.EXPRESS_DEVCTL_FLR]
    assert len(resets) == 1
    assert len(small.trace("pci_nvme_pci_reset", None, "between", "after")) == 1
    assert pci.word(w.config("D"), pci.COMMAND) & pci.COMMAND_MASTER == 0


def test_witness(small):
    """A witness sees a write to a device, a reset, and what of a bridge above it is changed."""
    w = small.worker("owner")
    bdf = nvme(small, w)
    seen = witness.Witness(small, bdf)
    bridge, = seen.bridges
    config = small.config(bridge)
    small.mark("begin")
    w("nvme_flush", "N")
    small.mark("quiet")
    assert not seen.findings("begin", "quiet").complaints()
    w("vfio_reset", "D")
    small.sh(f"printf '\\0\\0' | dd of=/sys/bus/pci/devices/{bridge}/config bs=1 "
             f"seek={pci.COMMAND} conv=notrunc")
    small.mark("end")
    found = seen.findings("quiet", "end")
    assert len(found.resets) == 1 and found.config_writes and not found.faults
    assert any("bus mastering" in change for change in found.bridge_changes)
    # What the services of a port do is no change; a power cycle of its slot is one.
    slot = pci.capability(config, pci.CAP_EXPRESS) + 0x18
    control = pci.word(config, slot)
    assert not pci.bridge_changes(config, [(slot, control ^ 0x1000), (slot, control)])
    assert pci.bridge_changes(config, [(slot, control ^ 0x400), (slot, control)])
    assert pci.bridge_changes(config, [(pci.BRIDGE_BUSES, 0), (0x20, 0xfff0)])


def test_trace_of_faults(small):
    """The trace shows DMA that the IOMMU refuses."""
    w = small.worker("owner")
    bdf = nvme(small, w)
    w("ioas_unmap", "I", "A", IOVA, NVME_MEMORY)
    w.start("nvme_queue_reads", "N", 0, 8, 1)
    w.wait()
    small.sh("sleep 0.2")
    faults = small.trace("vtd_dmar_fault", bdf)
    assert faults and all(event.fields["addr"] >= IOVA for event in faults)


def test_interrupts(igb):
    """Interrupts of each kind can be turned on and off, one kind at a time."""
    w = igb.worker("owner")
    for kind, count in (("INTX", 1), ("MSI", 1), ("MSIX", 3)):
        w("vfio_irq_on", "D", kind, count)
        assert w("vfio_irq_count", "D").values == ["0"] * count
        assert w.fails("vfio_irq_on", "D", "MSI" if kind == "MSIX" else "MSIX", 1) == "EINVAL"
        w("vfio_irq_on", "D", kind, count)
        w("vfio_irq_off", "D", kind)


@pytest.mark.thorough
def test_bus_error_is_survived(small):
    """Touching a BAR whose memory decoding is off is an error of the command."""
    w = small.worker("owner")
    nvme(small, w)
    w("bar_mmap", "D", 0)
    version = int(w("bar_peek", "D", 0, 8, 4))
    assert version == int(w("bar_read", "D", 0, 8, 4))
    w("cfg_write", "D", pci.COMMAND, 2, 0)
    assert w.fails("bar_peek", "D", 0, 8, 4) == "EFAULT"
    assert w.fails("nvme_read_check", "N", 0, 8, 1) == "EFAULT"
    w("cfg_write", "D", pci.COMMAND, 2, pci.COMMAND_MEMORY)
    assert int(w("bar_peek", "D", 0, 8, 4)) == version


@pytest.mark.thorough
def test_dmabuf(small):
    """A BAR can be exported as a dma-buf and mapped for devices."""
    w = small.worker("owner")
    bdf = small.bdf("nvme0")
    small.bind_vfio(bdf)
    w.vfio("D", bdf)
    w("dmabuf_export", "D", "B", 0, 0, 4096)
    w("ioas_map_file", "I", "A", "B", 0, 4096, IOVA)
    w("ioas_unmap", "I", "A", IOVA, 4096)


@pytest.mark.thorough
def test_owner_killed(small):
    """A device whose owner is killed goes back to its native driver."""
    w = small.worker("owner")
    bdf = nvme(small, w)
    assert small.worker("other").fails("vfio_open", "D", "0000:00:00.0") == "ENOENT"
    w.kill()
    w.vfio("D", bdf)
    w("close", "D")
    small.bind(bdf)
    assert small.driver(bdf) == "nvme"


@pytest.mark.thorough
def test_group_file(small):
    """A device opens through its group's file as well."""
    bdf = small.bdf("nvme0")
    small.bind_vfio(bdf)
    w = small.worker("owner")
    w("group_open", "G", bdf)
    w("group_device", "G", "D", bdf)
    assert int(w("bar_read", "D", 0, 8, 4))


@pytest.mark.only("modules")
@pytest.mark.parametrize("options", [
    options if mode == "first-stage" else pytest.param(options, marks=pytest.mark.thorough)
    for mode, options in MODES.items()], ids=MODES)
def test_translations_are_cached(start, options):
    """A Vhost works, keeps translations until they are flushed, and none after that."""
    m = start(topology=CACHING, device_iotlb=True, append="iommu.strict=1", **options)
    vhost, bdf = m.vhosts["vhost0"], m.bdf("vhost0")
    m.mark("begin")
    begin = m.marks["begin"]
    m.sh(f"{COPY.format('/bin/guest', '/dev/vda', 'o')}; {COPY.format('/dev/vda', '/tmp/in', 'i')}")
    m.sh(f"head -c {640 << 10} /bin/guest | cmp - /tmp/in")
    assert vhost.data[:4] == b"\x7fELF" and m.sh("cat /sys/block/vda/serial") == "vhost0"
    assert len(vhost.done(begin)) == len(vhost.done(begin, status=0)) > 20 and not vhost.busy
    # Of the queue nothing was asked for again.
    queue = {event.fields["iova"] & ~0xfff for event in vhost.accesses(since=begin, cached=True)}
    mapped = vtd.Tables(m).reach(bdf)
    have = vhost.translations()
    assert have and {held.iova for held in have} == {iova for iova, _, _ in mapped} & queue
    assert not vhost.stale(mapped) and vhost.stale([]) == have
    # Buffers were flushed after they were used for the last time, and are not there any more.
    used = {event.fields["iova"] & ~0xfff: event.time for event in vhost.accesses(since=begin)}
    buffers = used.keys() - {held.iova for held in have}
    assert len(buffers) > 10
    for page in buffers:
        assert any(event.time > used[page] and event.fields["iova"] <= page
                   < event.fields["iova"] + event.fields["size"]
                   for event in vhost.events("vhost_invalidate", used[page]))
        assert not vhost.translations(page, 4096)
    assert not m.trace("vtd_dmar_fault", since="begin")
    # What is not mapped is refused at once, and the IOMMU says so.
    assert vhost.read(min(buffers), 8) is None and not vhost.write(min(buffers), b"12345678")
    assert [event.fields["addr"] for event in m.trace("vtd_dmar_fault", bdf, "begin")] \
        == [min(buffers)] * 2
    # Requests last as long as they are told to, and use the cache when their time comes.
    m.throttle("vhost0", 10)
    w = m.worker("reader")
    w.start("sh", f"for i in 1 2 3 4 5 6; do {COPY.format('/dev/vda', '/dev/null', 'i')}"
            " 2>/dev/null & done; wait")
    end = time.time() + 10
    while vhost.busy < 4 and time.time() < end:
        time.sleep(0.1)
    assert vhost.busy > 3
    m.throttle("vhost0", 0)
    w.wait()
    assert not vhost.busy and not vhost.stale(vtd.Tables(m).reach(bdf))


@pytest.mark.only("modules")
def test_flush_that_is_missing(start):
    """A Vhost whose translations nobody flushes still has them, and uses them."""
    m = start(topology=CACHING, device_iotlb=True, append="iommu.strict=1 pci=noats")
    vhost, bdf = m.vhosts["vhost0"], m.bdf("vhost0")
    assert not vhost.stale(vtd.Tables(m).reach(bdf))
    # Its ATS is turned on by somebody of whom Linux does not know.
    ats = pci.extended_capability(m.config(bdf), pci.EXT_CAP_ATS)
    driver = "/sys/bus/virtio/drivers/virtio_blk"
    m.sh(f"echo virtio0 >{driver}/unbind; printf '\\0\\200' |"
         f" dd of=/sys/bus/pci/devices/{bdf}/config bs=2 seek={(ats + pci.ATS_CONTROL) // 2}"
         f" conv=notrunc; echo virtio0 >{driver}/bind")
    stale = vhost.stale(vtd.Tables(m).reach(bdf))
    assert stale and not vhost.events("vhost_invalidate", stale[0].time)
    m.mark("stale")
    place = stale[0]
    assert vhost.read(place.iova, 64) is not None
    access, = vhost.accesses(place.iova, since=m.marks["stale"], cached=True)
    assert access.fields["memory"] == place.memory
    assert not m.trace("vtd_dmar_fault", since="stale")


@pytest.mark.only("modules")
def test_vhost_that_fails(kernels):
    """An error in a Vhost ends its thread, and its machine at once."""
    with Machine(f"test_lab-vhost-fails-{kernels}", KERNELS[kernels][0], topology=CACHING) as m:
        vhost = m.vhosts["vhost0"]
        vhost.data = None
        with pytest.raises(MachineError, match="(?s)vhost0 has failed: .*TypeError"):
            m.sh("dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct")
        with pytest.raises(MachineError, match="vhost0 has failed"):
            m.close()
        assert not vhost.is_alive()
        m.vhosts.clear()


def test_kexec_without_image(small):
    """A jump without a loaded kernel fails and changes nothing."""
    with pytest.raises(GuestError) as error:
        small.kexec_go()
    assert error.value.errno == "EINVAL"
    assert small.sh("uname -r") == small.kernel.release


def test_splat_fails_the_test(kernels):
    """A kernel that complains makes its machine fail, unless that was expected."""
    options = {"kernel": KERNELS[kernels][0], "topology": SMALL}
    with pytest.raises(MachineError, match="made up"):
        with Machine(f"test_lab-splat-{kernels}", **options) as m:
            m.sh("echo '<4>WARNING: made up' >/dev/kmsg")
            m.wait_console("made up")
    with Machine(f"test_lab-no-splat-{kernels}", **options) as m:
        m.expect_splat("made up")
        m.sh("echo '<4>WARNING: made up' >/dev/kmsg")
        m.wait_console("made up")
        # What does not come in time ends with where the processors are: idle, at some point.
        with pytest.raises(MachineError, match=r"CPU \d halted at default_idle\+0x\w+"):
            for _ in range(100):
                m.sh("sleep 0.1")
                with pytest.raises(MachineError, match="within 0.1 s; CPU 0 .*, CPU 1 ") as error:
                    m.wait_console("made down", timeout=0.1)
                if "halted" in str(error.value):
                    raise error.value


@pytest.mark.thorough
def test_kernel_that_stands_still(kernels):
    """A kernel that does not come up is made to say where it is, and what it has not printed."""
    with pytest.raises(MachineError, match="does not come up.* CPU 0 ") as error:
        with Machine("test_lab-stands", *KERNELS[kernels], topology=SMALL) as m:
            m.kexec(append="rdinit=/bin/sleep -- 1000", timeout=30 if m.slow else 10)
    assert "Kernel panic - not syncing: NMI" in str(error.value)
    looks = (m.folder / "processors.log").read_text()
    assert looks.count("=== ") == 3 and "dumping local APIC state for CPU 1" in looks


def test_frames():
    """The pattern is the same here and in the guest (tests/guest/pattern.c)."""
    assert wire.pattern(0, 0, 0) == wire._mix(wire._mix(wire._mix(0)))
    assert wire.number(wire.frame(5)) == 5
    broken = bytearray(wire.frame(5))
    broken[100] ^= 1
    assert wire.number(broken) is None
    assert re.fullmatch(r"(ff){6}02.*", wire.frame(5)[:12].hex())


def test_invalidations_are_decoded():
    """Descriptors of each kind mean what the specification of VT-d says (6.5.2)."""
    assert vtd.decode(0x500e2, 0) == Invalidation(Kind.IOTLB, "domain", domain=5)
    assert vtd.decode(0x500f2, 0x100000004b) == Invalidation(
        Kind.IOTLB, "pages", domain=5, address=IOVA, size=8 << 20, hint=True)
    assert vtd.decode(0x10000050031, 0) == Invalidation(
        Kind.CONTEXT, "device", domain=5, bdf="0000:01:00.0", function_mask=0)
    assert vtd.decode(0x50021, 0) == Invalidation(Kind.CONTEXT, "domain", domain=5)
    assert vtd.decode(0x11, 0) == Invalidation(Kind.CONTEXT, "global")
    device = {"bdf": "0000:01:10.2", "pf": "0000:01:00.0"}
    assert vtd.decode(0x010 << 52 | 0x0182 << 32 | 0x40003, IOVA) == Invalidation(
        Kind.DEVICE_TLB, "pages", address=IOVA, size=4096, pending=4, **device)
    whole = vtd.decode(0x10000000003, 0x7ffffffffffff001)
    assert (whole.address, whole.size, whole.pending) == (0, 1 << 64, 32)
    two = vtd.decode(0x10000000003, IOVA | 1)
    assert (two.address, two.size) == (IOVA, 8192)
    large = vtd.decode(0x10000000003, IOVA | 0x3ff001)
    assert (large.address, large.size) == (IOVA, 8 << 20)
    assert large.covers(IOVA, 8 << 20) and not large.covers(IOVA, (8 << 20) + 1)
    assert not large.covers(IOVA - 4096, 8192)
    assert vtd.decode(7 << 32 | 0x50036, IOVA | 1) == Invalidation(
        Kind.PASID_IOTLB, "pages", domain=5, pasid=7, address=IOVA, size=8192, hint=False)
    assert vtd.decode(7 << 32 | 0x50026, 0) == Invalidation(
        Kind.PASID_IOTLB, "pasid", domain=5, pasid=7)
    assert vtd.decode(7 << 32 | 0x50017, 0) == Invalidation(
        Kind.PASID_CACHE, "pasid", domain=5, pasid=7)
    assert vtd.decode(0x50007, 0) == Invalidation(Kind.PASID_CACHE, "domain", domain=5)
    assert vtd.decode(0x37, 0) == Invalidation(Kind.PASID_CACHE, "global")
    assert vtd.decode(0x010 << 52 | 7 << 32 | 0x0182 << 16 | 0x48, IOVA | 0x3ff000 | 1 << 11) \
        == Invalidation(Kind.PASID_DEVICE_TLB, "pages", pasid=7, address=IOVA, size=8 << 20,
                        pending=4, **device)
    assert vtd.decode(0x200000065, 0x2075cb0) == Invalidation(
        Kind.WAIT, address=0x2075cb0, data=2, fence=True)
    assert vtd.decode(0x1100000014, 0).granularity == "entries"
    assert vtd.decode(0, 0) is None and vtd.decode(0x1 << 9 | 1, 0) is None
    line = "1@1.5:vtd_inv_desc invalidate desc type iotlb high 0x0 low 0x500e2"
    found, = vtd.invalidations([trace.parse(line)])
    assert (found, found.time) == (Invalidation(Kind.IOTLB, "domain", domain=5), 1.5)
    # As newer QEMUs write it
    line = line.replace("1@1.5:", "2026-01-02T03:04:05.500000Z ")
    assert trace.parse(line).time == 1767323045.5


def see_flush(m, bdf, domain, since, until, size):
    """See that the IOMMU, then a device, forgot a range, and that this was waited for."""
    found = [item for item in vtd.invalidations(m.trace(None, None, since, until))
             if item.domain == domain or item.bdf == bdf or item.kind == Kind.WAIT]
    first, second, third = found[:3]
    assert first.kind in (Kind.IOTLB, Kind.PASID_IOTLB)
    assert first.covers(IOVA, size) and first.domain == domain
    assert second.kind == Kind.DEVICE_TLB
    assert second.covers(IOVA, size) and second.bdf == bdf and second.size == size
    assert third.kind == Kind.WAIT


@pytest.mark.cut(("modules", "legacy"))
def test_invalidations_of_a_device(start, mode):
    """Where memory is unmapped the trace shows what a device with ATS is told, and when."""
    m = start(topology=(Port(Virtio("virtio0")),), device_iotlb=True, **MODES[mode])
    w = m.worker("owner")
    bdf = m.bdf("virtio0")
    m.bind_vfio(bdf)
    w.vfio("D", bdf)
    w.dma_memory("M", NVME_MEMORY, IOVA)
    w("virtio_start", "V", "D", "M", IOVA)
    w("virtio_write", "V", 0, 800, 5)
    domain = vtd.Tables(m).entry(bdf).domain
    reached = vtd.Tables(m).reach(bdf)
    assert reached[0][0] == IOVA and sum(size for _, _, size in reached) == NVME_MEMORY
    for size in (NVME_MEMORY, 4096):
        m.mark("unmap")
        w("ioas_unmap", "I", "A", IOVA, size)
        m.mark("unmapped")
        see_flush(m, bdf, domain, "unmap", "unmapped", size)
        w("ioas_map_file", "I", "A", "M", 0, 4096, IOVA)
    m.mark("detach")
    w("vfio_detach", "D")
    m.mark("detached")
    # All of it is forgotten, once its entry is gone.
    assert any(item.kind == Kind.DEVICE_TLB and item.bdf == bdf and item.covers(0, 1 << 64)
               for item in vtd.invalidations(m.trace(None, None, "detach", "detached")))
    # Of PASID entries QEMU has no event, but the queue has them.
    kinds = {item.kind for item in vtd.queue(m) if item}
    assert (Kind.PASID_CACHE in kinds) == (mode != "legacy")
    assert Kind.WAIT in kinds and Kind.DEVICE_TLB in kinds


def test_virtio_in_user_space(start):
    """The user-space virtio driver writes and reads, also a file; another process goes on."""
    m = start(topology=(Port(Virtio("virtio0")),))
    w = m.worker("owner")
    bdf = m.bdf("virtio0")
    m.bind_vfio(bdf)
    w.vfio("D", bdf)
    w.dma_memory("M", NVME_MEMORY, IOVA)
    w("virtio_start", "V", "D", "M", IOVA)
    see_blocks(m, w, "virtio", "V")
    m.throttle("virtio0", 20, writes=True)
    assert int(w("virtio_queue_mixed", "V", 100, 1000, 5)) > 100
    w("close", "V")
    w("virtio_adopt", "V", "D", "M")
    # Its DMA goes through the IOMMU; work that waits does not keep this waiting.
    w("virtio_write_to", "V", IOVA + NVME_MEMORY - 4096)
    assert not m.trace("vtd_dmar_fault")
    w("virtio_write_to", "V", IOVA >> 1)
    assert {event.fields["addr"] & ~0xfff for event in m.trace("vtd_dmar_fault", bdf)} \
        == {IOVA >> 1}
    assert int(w("virtio_busy", "V")) > 50
    m.throttle("virtio0", 0)
    w("virtio_wait", "V")
    account = w.account("virtio_account", "V")
    assert account["submitted"] == account["completed"] and account["strange"] == 0
    assert w.fails("nvme_flush", "M") == "EINVAL"
    w("virtio_stop", "V")
    assert w.fails("virtio_flush", "V") == "EINVAL"
