# SPDX-License-Identifier: GPL-2.0-only
"""Running mode: what is refused, what becomes idle mode, and what stays as it is meanwhile."""

import errno

import pytest

from conftest import IOVA
from lab import GuestError, pci, vtd
from lab.running import IOMMUFD_TOKEN, Running
from update import (PAIR, Owner, at_work, load_vfio, panic, see_good_update, see_jump_refused,
                    see_no_faults, see_nothing_lost, see_undisturbed, state, states, take_over)

BOTH = ("nvme0", "igb0")
IGB_STATISTICS = 0x4000
MARK_SIZE = 24
FIND_SIZE = 24
UNMARK = 1
# Flags of IOMMU_HWPT_ALLOC.
NEST_PARENT, FAULT_ID, PASID = 1, 4, 8


def opened(start, *names, **options):
    """Start a machine and an owner with devices that are open, and whose page tables are marked."""
    owner = Running(start(topology=PAIR))
    owner.open(*names, **options)
    return owner


def half_marked(start):
    """Start a machine and an owner at work: its drive's page table is marked, its network's not."""
    owner = Running(start(topology=PAIR))
    owner.open("nvme0")
    owner.open("igb0", marked=False)
    owner.start()
    return owner.machine, owner


def refuses_iommufd(owner, name, why):
    """See that the iommufd cannot be preserved, that the log has one line of it with the reason,
    and that all is as before; the session is closed again."""
    m = owner.machine
    m.mark("refusal")
    assert owner.fails("preserve", "S", IOMMUFD_TOKEN, "I") == name, why
    # A kernel that does not know the names of errors says the number.
    m.wait_console(rf"iommufd: live update: .* cannot be preserved: .*{why}.* "
                   rf"\(-({name}|{getattr(errno, name)})\)", "refusal", timeout=5)
    lines = [line for line in m.console_text("refusal").splitlines() if "live update" in line]
    assert len(lines) == 1, f"{why}: not one line in the log, but {lines}"
    owner("close", "S")
    assert states(owner) == {"none"}
    # Nothing is held: mappings can be changed.
    owner("ioas_map_file", "I", "A", "Mnvme0", 0, 4096, 4096)
    owner("ioas_unmap", "I", "A", 4096, 4096)


def test_marks(start):
    """A page table is marked once, under a token of its own; only it takes the mark away."""
    owner = opened(start, *BOTH, marked=False)
    owner("vfio_attach", "Dnvme0", "A", "Auto")
    mark, unmark = ("hwpt_mark", "I"), ("hwpt_unmark", "I")
    assert owner.fails(*unmark, "Hnvme0", 7) == "ENOENT"
    owner(*mark, "Hnvme0", 7)
    assert owner.fails(*mark, "Hnvme0", 7) == "EEXIST"
    assert owner.fails(*mark, "Hnvme0", 8) == "EEXIST"
    assert owner.fails(*mark, "Higb0", 7) == "EEXIST"
    assert owner.fails(*unmark, "Hnvme0", 8) == "ENOENT"
    assert owner.fails(*unmark, "Higb0", 7) == "ENOENT"
    owner(*unmark, "Hnvme0", 7)
    assert owner.fails(*unmark, "Hnvme0", 7) == "ENOENT"
    owner(*mark, "Higb0", 7)
    owner(*mark, "Hnvme0", (1 << 64) - 1)
    owner(*mark, "Auto", 0)
    # Neither a device nor an address space is a page table, nor is what is not there.
    assert owner.fails(*mark, "Dnvme0", 9) == "ENOENT"
    assert owner.fails(*mark, "A", 9) == "ENOENT"
    assert owner.fails("hwpt_find", "I", 7, "R") == "ENOENT"
    # A mark holds nothing: mappings change, the page table can go, and its token is free again.
    owner("memfd", "X", "64k")
    owner("ioas_map_file", "I", "A", "X", 0, "64k", IOVA)
    owner("ioas_unmap", "I", "A", IOVA, "64k")
    owner("iommu_destroy", "I", "Hnvme0")
    owner("hwpt_alloc", "I", "Dnvme0", "A", "Again")
    owner(*mark, "Again", (1 << 64) - 1)


def test_bad_structures(start):
    """Structures that are too small, or have bits that nobody knows, are refused."""
    owner = opened(start, "nvme0", marked=False)
    mark = ("hwpt_mark_raw", "I", "Hnvme0", 7)
    for size in (0, 4, MARK_SIZE - 1):
        assert owner.fails(*mark, size, 0, 0, 0) == "EINVAL", f"size {size}"
    assert owner.fails(*mark, MARK_SIZE, 2, 0, 0) == "EOPNOTSUPP"
    assert owner.fails(*mark, MARK_SIZE, 1 << 31, 0, 0) == "EOPNOTSUPP"
    assert owner.fails(*mark, MARK_SIZE, 0, 1, 0) == "EOPNOTSUPP"
    assert owner.fails(*mark, MARK_SIZE + 8, 0, 0, 1) == "E2BIG"
    assert owner.fails(*mark, 8192, 0, 0, 0) in ("E2BIG", "EFAULT")
    # None of that left a mark; a larger structure that says nothing new is welcome.
    assert owner.fails(*mark, MARK_SIZE, UNMARK, 0, 0) == "ENOENT"
    owner(*mark, MARK_SIZE + 8, 0, 0, 0)
    owner(*mark, MARK_SIZE, UNMARK, 0, 0)
    find = ("hwpt_find_raw", "I", 7)
    for size in (0, 4, FIND_SIZE - 1):
        assert owner.fails(*find, size, 0, 0, 0) == "EINVAL", f"size {size}"
    assert owner.fails(*find, FIND_SIZE, 1, 0, 0) == "EOPNOTSUPP"
    assert owner.fails(*find, FIND_SIZE, 0, 1, 0) == "EOPNOTSUPP"
    assert owner.fails(*find, FIND_SIZE + 8, 0, 0, 1) == "E2BIG"
    assert owner.fails(*find, FIND_SIZE + 8, 0, 0, 0) == "ENOENT"


def test_page_tables_that_cannot_go_along(start):
    """Nesting parents, and page tables for PASIDs, are refused."""
    m = start(topology=PAIR, scalable=True)
    owner = Running(m)
    owner.open("nvme0", marked=False)
    made = []
    for name, flags in (("parent", NEST_PARENT), ("pasid", PASID)):
        try:
            owner("hwpt_alloc_raw", "I", "Dnvme0", "A", name, flags)
        except GuestError as error:
            # What this IOMMU does not have cannot be marked either.
            assert error.errno == "EOPNOTSUPP", name
            continue
        made.append(name)
        assert owner.fails("hwpt_mark", "I", name, 7) == "EOPNOTSUPP", name
    assert made, "this IOMMU has none of them, so the test shows nothing"
    owner("hwpt_mark", "I", "Hnvme0", 7)


def test_memory_that_does_not_go_along(start):
    """Whatever a page table maps goes along with it, or it is refused."""
    owner = opened(start, *BOTH)
    owner.start()
    owner.preserve(iommufd=False, devices=False)
    owner("ioas_map_anon", "I", "A", "X", "64k", IOVA >> 1)
    refuses_iommufd(owner, "EINVAL", "memory that is not of a file")
    owner("ioas_unmap", "I", "A", IOVA >> 1, "64k")
    # A page in the middle of a memfd that is not preserved, between others that are.
    owner("memfd", "Y", "64k")
    owner("ioas_map_file", "I", "A", "Y", "32k", "4k", IOVA >> 1)
    owner.preserve(iommufd=False, devices=False)
    refuses_iommufd(owner, "ENOENT", "a file that is not preserved in this session")
    owner("session_create", "T", "other")
    owner("preserve", "T", 1, "Y")
    owner.preserve(iommufd=False, devices=False)
    refuses_iommufd(owner, "ENOENT", "a file that is not preserved in this session")
    owner("close", "T")
    # The device has the page, the file has another one at its place, or none.
    owner("mem_punch", "Y", "32k", "4k")
    for content in (None, 5):
        if content:
            owner("mem_fill", "Y", 0, "64k", content)
        owner.preserve(iommufd=False, devices=False)
        owner("preserve", "S", 1000, "Y")
        refuses_iommufd(owner, "ESTALE", "not in its file any more")
    owner("ioas_unmap", "I", "A", IOVA >> 1, "4k")
    owner("ioas_map_file", "I", "A", "Y", "32k", "4k", IOVA >> 1)
    owner.preserve(iommufd=False, devices=False)
    owner("preserve", "S", 1000, "Y")
    owner("preserve", "S", IOMMUFD_TOKEN, "I")
    for device in owner.devices.values():
        owner("preserve", "S", device.tokens[0], device.file)
    owner.machine.mark("preserved")
    assert states(owner) == {"outgoing running"}
    see_undisturbed(owner, "load", "preserved")
    see_nothing_lost(owner.settle(), least=1)


def test_nothing_to_preserve(start):
    """An iommufd with no marked page table is not preserved."""
    owner = opened(start, "nvme0", marked=False)
    owner.start()
    owner.preserve(iommufd=False, devices=False)
    owner.machine.mark("refusal")
    assert owner.fails("preserve", "S", IOMMUFD_TOKEN, "I") == "EINVAL"
    owner.machine.wait_console("iommufd cannot be preserved: it has no marked page tables",
                               "refusal")


def test_nothing_changes_while_preserved(start):
    """Mappings, page tables and attachments stay as they are until unpreserve."""
    owner = opened(start, *BOTH)
    owner.start()
    owner("memfd", "X", "64k")
    owner("hwpt_alloc", "I", "Dnvme0", "A", "Spare")
    owner("ioas", "I", "B")
    owner.preserve()
    token = owner.devices["nvme0"].tokens[2]
    frozen = [
        ("ioas_map_file", "I", "A", "X", 0, "64k", IOVA >> 1),
        ("ioas_map_anon", "I", "A", "Y", "64k", IOVA >> 1),
        ("ioas_unmap", "I", "A", owner.devices["nvme0"].iova, owner.devices["nvme0"].size),
        ("ioas_unmap", "I", "A", 0, (1 << 64) - 1),
        ("iommu_destroy", "I", "Hnvme0"),
        ("iommu_destroy", "I", "A"),
        ("vfio_attach", "Dnvme0", "Spare"),
        ("vfio_attach", "Dnvme0", "Higb0"),
        ("vfio_attach", "Dnvme0", "B"),
        ("vfio_detach", "Dnvme0"),
        ("hwpt_unmark", "I", "Hnvme0", token),
        ("hwpt_mark", "I", "Spare", 1234),
        ("preserve", "S", 1001, "I"),
    ]
    for command in frozen:
        assert owner.fails(*command) == "EBUSY", command
    # Another address space is nobody's business.
    owner("ioas_map_file", "I", "B", "X", 0, "64k", IOVA >> 1)
    owner("ioas_unmap", "I", "B", IOVA >> 1, "64k")
    owner.machine.mark("tried")
    see_undisturbed(owner, "load", "tried")
    owner.machine.kexec()
    take_over(owner)
    see_good_update(owner)
    # In the next kernel all of that is possible again.
    owner("ioas_map_anon", "I", "A", "Y", "64k", IOVA >> 1)
    owner("ioas_unmap", "I", "A", IOVA >> 1, "64k")
    owner("vfio_detach", "Dnvme0")


def test_unmarked_is_idle(start):
    """A device whose page table is not marked crosses in idle mode, beside one that runs on."""
    m, owner = half_marked(start)
    owner.preserve()
    drive, network = owner.devices.values()
    network.stream.stop()
    assert state(m, drive.bdf) == "outgoing running"
    assert state(m, network.bdf) == "outgoing idle"
    config = m.config(network.bdf)
    m.kexec()
    assert state(m, drive.bdf) == "incoming running"
    assert state(m, network.bdf) == "incoming idle"
    assert len(m.resets(network.bdf, config, "freeze", "kernel")) == 1
    # From here on the drive alone is looked at.
    owner.devices.pop("igb0")
    owner.retrieve()
    owner("retrieve", "S", network.tokens[0], network.file)
    owner("retrieve", "S", network.tokens[1], network.memory)
    owner("vfio_bind", network.file, "I")
    # Nothing but its own devices can be attached to a restored page table.
    owner("hwpt_find", "I", drive.tokens[2], "R")
    assert owner.fails("vfio_attach", network.file, "R") in ("EINVAL", "EPERM", "EBUSY")
    owner.handover()
    owner("vfio_attach", network.file, "A")
    owner("ioas_map_file", "I", "A", network.memory, 0, network.size, network.iova)
    owner("igb_start", network.driver, network.file, network.memory, network.iova)
    owner.finish()
    see_good_update(owner)


def test_device_before_iommufd(start):
    """A device whose page table is marked after its preserve crosses in idle mode, and no other."""
    owner = opened(start, "nvme0", marked=False)
    owner.start()
    owner.preserve(iommufd=False)
    assert states(owner) == {"outgoing idle"}
    owner("hwpt_mark", "I", "Hnvme0", owner.devices["nvme0"].tokens[2])
    refuses_iommufd(owner, "EBUSY", "preserved already, in idle mode")


def map_bar(owner):
    """Map registers of a network controller that do nothing when written; returns where."""
    owner("dmabuf_export", "Digb0", "B", 0, IGB_STATISTICS, 4096)
    owner("ioas_map_file", "I", "A", "B", 0, 4096, IOVA >> 1)
    return IOVA >> 1


def test_bar_of_an_idle_device(start):
    """A page table that maps the BAR of a device that is reset at freeze stops the update."""
    m, owner = half_marked(start)
    map_bar(owner)
    owner.preserve()
    m.kexec_load()
    with pytest.raises(GuestError) as error:
        m.kexec_go()
    assert error.value.errno == "EINVAL"
    m.wait_console(f"{m.bdf('igb0')}: live update: Freeze failed! .* maps its BAR", "freeze")
    owner("close", "S")
    m.mark("closed")
    see_undisturbed(owner, "load", "closed")
    see_nothing_lost(owner.settle(), least=1)


@pytest.mark.thorough
def test_bar_of_another_device(start):
    """A page table may map the BAR of a device that is preserved in running mode, too."""
    m, owner = at_work(start, *BOTH)
    bar = map_bar(owner)
    owner.preserve()
    assert states(owner) == {"outgoing running"}
    entry = vtd.Tables(m).entry(owner.devices["nvme0"].bdf)
    m.kexec()
    assert vtd.Tables(m).entry(owner.devices["nvme0"].bdf) == entry
    owner.retrieve()
    # The drive writes there, and the IOMMU lets it through.
    m.mark("peer")
    owner("nvme_write_to", owner.devices["nvme0"].driver, bar)
    assert not m.trace("vtd_dmar_fault", None, "peer")
    owner.handover()
    owner("nvme_write_to", owner.devices["nvme0"].driver, bar)
    assert m.trace("vtd_dmar_fault", owner.devices["nvme0"].bdf, "handover")
    owner.finish()
    see_nothing_lost(owner.settle())
    see_undisturbed(owner, "freeze", "retrieved")


def test_bar_taken_away(start):
    """Who turns off the memory of a BAR that a preserved page table maps has to preserve anew."""
    m, owner = at_work(start, *BOTH)
    network = owner.devices["igb0"]
    bar = map_bar(owner)
    command = int.from_bytes(owner.worker.config(network.file, 6)[pci.COMMAND:], "little")
    owner.preserve()
    for value in (command & ~pci.COMMAND_MEMORY, command):
        owner("cfg_write", network.file, pci.COMMAND, 2, value)
    m.kexec_load()
    see_jump_refused(m, "EINVAL")
    m.wait_console("Freeze failed! Page table .*: a BAR that it maps was taken away", "freeze",
                   timeout=1)
    m.mark("refused")
    # As it is now it cannot be preserved again, either.
    owner("close", "S")
    owner.preserve(iommufd=False, devices=False)
    refuses_iommufd(owner, "ESTALE", "a BAR that it maps was taken away")
    owner("ioas_unmap", "I", "A", bar, 4096)
    owner("close", "B")
    map_bar(owner)
    owner.preserve()
    m.kexec()
    owner.retrieve()
    # The new owner may do the same; the restored page table is not the one that maps it.
    for value in (command & ~pci.COMMAND_MEMORY, command):
        owner("cfg_write", network.file, pci.COMMAND, 2, value)
    owner.handover()
    owner.finish()
    see_nothing_lost({"nvme0": owner.settle()["nvme0"]})
    see_no_faults(owner)


def test_other_iommufd(start):
    """A device that was retrieved goes with the iommufd that it came with, and no other."""
    m, owner = at_work(start, *BOTH)
    owner.preserve()
    m.kexec()
    # Before it is retrieved nobody has the device, nor its page table.
    load_vfio(m)
    other = m.worker("other")
    assert other.fails("vfio_open", "D", owner.devices["nvme0"].bdf) == "EBUSY"
    owner.retrieve(bind=False)
    owner("iommufd", "Other")
    assert owner.fails("vfio_bind", "Dnvme0", "Other") == "EPERM"
    assert owner.fails("hwpt_find", "Other", owner.devices["nvme0"].tokens[2], "R") == "ENOENT"
    assert owner.fails("finish", "S") == "EBUSY"
    owner.bind()
    owner("hwpt_find", "I", owner.devices["nvme0"].tokens[2], "R")
    assert owner.fails("finish", "S") == "EBUSY"
    assert owner.fails("iommu_destroy", "I", "R") == "EBUSY"
    assert owner.fails("vfio_attach", "Digb0", "R") in ("EINVAL", "EPERM", "EBUSY")
    m.mark("retrieved")
    owner.handover()
    owner.finish()
    see_good_update(owner)


@pytest.mark.thorough
def test_detached(start):
    """A device that is detached from its restored page table does no more DMA; that is all."""
    m, owner = at_work(start, *BOTH)
    owner.preserve()
    m.kexec()
    owner.retrieve()
    drive = owner.devices.pop("nvme0")
    m.throttle("nvme0", 1)
    owner("vfio_detach", drive.file)
    assert owner.fails("hwpt_find", "I", drive.tokens[2], "R") == "ENOENT"
    owner.handover()
    owner.finish()
    see_good_update(owner)
    # The drive starts anew, with an address space of its own.
    owner("close", drive.driver)
    owner("ioas_map_file", "I", "A", drive.memory, 0, drive.size, drive.iova)
    owner("vfio_attach", drive.file, "A")
    m.throttle("nvme0", 0)
    owner("nvme_start", drive.driver, drive.file, drive.memory, drive.iova)
    owner("nvme_write", drive.driver, 0, 64, 3)
    owner("nvme_read_check", drive.driver, 0, 64, 3)


@pytest.mark.parametrize("missing", [
    "iommufd", pytest.param("memory", marks=pytest.mark.thorough)])
def test_never_retrieved(start, missing):
    """What a running device needs cannot be finished away while nobody has taken it over."""
    m, owner = at_work(start, "nvme0")
    owner.preserve()
    m.kexec()
    owner.retrieve([what for what in ("memory", "iommufd", "devices") if what != missing],
                   bind=False)
    m.mark("finish")
    assert owner.fails("finish", "S") == "EBUSY"
    handler = {"iommufd": "iommufd", "memory": "memfd"}[missing]
    m.wait_console(rf"Cannot finish token.* handler\[{handler}-v\d\] err\[(-EBUSY|-16)\]", "finish",
                   timeout=1)
    assert states(owner) == {"incoming running"}
    m.sh("sleep 0.5")
    m.mark("waited")
    see_undisturbed(owner, "freeze", "waited")
    owner("close", "S")
    owner.worker.kill()
    take_over(owner)
    see_good_update(owner)


def test_given_up(start):
    """A restored page table whose device is given up is found no more, though nobody freed it."""
    m, owner = at_work(start, *BOTH)
    drive, network = owner.devices.values()
    owner.preserve()
    m.kexec()
    owner.retrieve(["memory", "iommufd"], bind=False)
    for device in (drive, network):
        owner("hwpt_find", "I", device.tokens[2], f"R{device.name}")
    network.stream.stop()
    m.sh(f"echo 1 >/sys/bus/pci/devices/{network.bdf}/remove")
    assert owner.fails("hwpt_find", "I", network.tokens[2], "R") == "ENOENT"
    m.sh(f"echo 1 >/sys/bus/pci/devices/{drive.bdf}/remove")
    assert owner.fails("hwpt_find", "I", drive.tokens[2], "R") == "ENOENT"
    for device in (drive, network):
        assert owner.fails("retrieve", "S", device.tokens[0], device.file) == "ENODEV"
    owner("finish", "S")
    assert owner.fails("hwpt_find", "I", drive.tokens[2], "R") == "ENOENT"


@pytest.mark.thorough
def test_idle_neighbour(start):
    """An idle device and a running one below the same switch: only the idle one is reset."""
    m = start()
    owner, idle = Running(m), Owner(m, "idle")
    owner.open("nvme1")
    owner.start()
    bdf, = idle.own("igb1")
    config = m.config(bdf)
    idle.preserve("igb1")
    owner.preserve()
    m.kexec()
    assert len(m.resets(bdf, config, "freeze", "kernel")) == 1
    idle.retrieve("igb1")
    take_over(owner)
    idle.works("igb1")
    idle.finish()
    see_good_update(owner)


@pytest.mark.parametrize(("append", "scalable", "why"), [
    ("liveupdate=off", False, "the previous kernel does not say which"),
    pytest.param("kho=off", False, "the previous kernel does not say which",
                 marks=pytest.mark.thorough),
    ("intel_iommu=off", False, "this kernel does not use it"),
    ("intel_iommu=sm_off", True, "runs in scalable mode, and this kernel uses the other"),
], ids=["no-live-update", "no-kho", "no-iommu", "other-mode"])
def test_kernel_that_cannot_take_over(start, append, scalable, why):
    """A kernel that cannot take a running device over stops before it can do harm."""
    m, owner = at_work(start, "nvme0", scalable=scalable)
    owner.preserve()
    m.kexec_load(append)
    with panic(m, f"DMAR: live update: .*{why}"):
        m.kexec_go(timeout=40)
