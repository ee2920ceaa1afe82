# SPDX-License-Identifier: GPL-2.0-only
"""The incoming kernel defends itself: what the previous one left is broken, or hostile.

The data are changed in the machine's memory, between the kernels. In running mode the outcome is
one line that says why and the end of the machine, or a device that does no more DMA; never a splat,
and never a moment in which translation is off.
"""

import pytest

from lab import Igb, Nvme, Port, Switch, pci, vtd
from lab.handover import ADDRESS, FLB_SIZE, IOMMUFD, MEMFD, VFIO, Handover
from lab.running import IOMMUFD_TOKEN, Running
from update import (PAIR, SESSION, Owner, at_work, finish_without_devices, load_vfio,
                    need_modules, panic, see_good_update, see_no_faults, see_translation_on,
                    see_undisturbed, state, states, take_over)

BOTH = ("nvme0", "igb0")
# Above all memory of the machines, and in memory that belongs to nobody.
NOWHERE = 1 << 45
UNUSED = 0x2000_0000
FDT_MAGIC = b"\xd0\x0d\xfe\xed"
CANNOT = r"DMAR: live update: .*"
DOES_NOT_SAY = CANNOT + "the previous kernel does not say which"
BROKEN = CANNOT + "its tables are broken: "


def twice(h):
    """List a device twice."""
    h.poke(h.device(1).address, *h.words(h.device().address, 2))
    h.iommu["device_count"] = 2
    h.unit()["devices"] = 2


def set_field(record, **fields):
    """Return a change of fields of a record, which is found by a function."""
    def change(h):
        found = record(h)
        for name, value in fields.items():
            found[name] = value
    return change


def same_list(h):
    """Let two lists be at one place."""
    h.iommu["domains"] = h.iommu["devices"]


def other_did(h):
    """Give two page tables one domain ID."""
    first, second = (h.words(h.context(i) + 8)[0] for i in (0, 1))
    assert first != second
    h.poke(h.context(1) + 8, second & ~0xffff00 | first & 0xffff00)


def context_to(where):
    """Return a change of where the root entry of the device's bus leads to."""
    def change(h):
        entry = h.unit()["root"] + (h.device()["bdf"] >> 8) * 16
        target = h.unit()["root"] if where == "root" else where
        h.poke(entry, target | 1)
    return change


def another_context(h):
    """Give an entry to the device in the next place."""
    h.poke(h.context() + 16, *h.words(h.context(), 2))


def did_of_others(h):
    """Give the device a domain ID that is the hardware's own (QEMU has all that there can be)."""
    h.poke(h.context() + 8, h.words(h.context() + 8)[0] & ~0xffff00)


def pasids_to_themselves(h):
    """Let the PASID directory be its own table."""
    directory = h.words(h.context())[0] & ADDRESS
    h.poke(directory, directory | 1)


def table_loop(h):
    """Let an entry of the top table lead to the top table."""
    top = h.domain()["top"]
    h.poke(top + 8, top | 3)


def table_nowhere(h):
    """Let an entry of the top table lead to memory that was not preserved."""
    h.poke(h.domain()["top"] + 8, UNUSED | 3)


def leaf_to_others(h):
    """Map memory that was not preserved."""
    h.poke(h.leaf(), UNUSED | 3)


def chain_loop(h):
    """Let the chain of the session's files lead to its beginning."""
    sessions = h.luo["sessions"]
    h.poke(sessions, sessions)


# What is changed, how the machine ends, and what else it says before.
IOMMU = "iommu: live update: handover data is broken: "
STOPS = {
    "other-version": (lambda h: h.machine.poke(h.flbs["iommu"].address, b"iommu-v999\0"),
                      DOES_NOT_SAY, None),
    "flb-head": (set_field(lambda h: h.flbs["iommu"], data=NOWHERE), DOES_NOT_SAY,
                 IOMMU + "its head"),
    "flb-unpreserved": (set_field(lambda h: h.flbs["iommu"], data=UNUSED), DOES_NOT_SAY,
                        IOMMU + "its head"),
    "flb-count": (lambda h: h.poke(h.luo["flbs"] + 8, 1 << 40), DOES_NOT_SAY,
                  "shared objects of the previous kernel are lost: there are too many"),
    "list-nowhere": (set_field(lambda h: h.iommu, devices=NOWHERE), DOES_NOT_SAY,
                     IOMMU + "a list"),
    "list-too-long": (set_field(lambda h: h.iommu, device_count=60000), DOES_NOT_SAY,
                      IOMMU + "a list"),
    "list-too-small": (set_field(lambda h: h.iommu, device_count=60000, device_capacity=65536),
                       DOES_NOT_SAY, IOMMU + "a list"),
    "lists-overlap": (same_list, DOES_NOT_SAY, IOMMU + "a list"),
    "twice": (twice, DOES_NOT_SAY, IOMMU + "a device is in the list twice"),
    "no-such-domain": (set_field(lambda h: h.device(), domain=77), DOES_NOT_SAY,
                       IOMMU + "a device has a page table"),
    "levels": (set_field(lambda h: h.domain(), levels=9), DOES_NOT_SAY, IOMMU),
    "other-table": (set_field(lambda h: h.domain(), top=UNUSED),
                    BROKEN + "an entry leads to another page table", None),
    "other-device": (set_field(lambda h: h.device(), bdf=0x5000),
                     BROKEN + "an entry is for a device that is not in the list", None),
    "another-context": (another_context, BROKEN + "an entry is for a device that is not", None),
    "unknown-services": (set_field(lambda h: h.device(), flags=4), DOES_NOT_SAY,
                         IOMMU + "a device is in a state"),
    "ats-of-nobody": (set_field(lambda h: h.device(), flags=1),
                      BROKEN + "an entry allows a device other services", None),
    "ats-not-said": (lambda h: h.poke(h.context(), h.words(h.context())[0] | 4),
                     BROKEN + "an entry allows a device other services", None),
    "pass-through": (lambda h: h.poke(h.context(), h.words(h.context())[0] | 8),
                     BROKEN + "a context entry has unknown bits", None),
    "did-of-others": (did_of_others, BROKEN + "a domain ID is out of range", None),
    "context-nowhere": (context_to(NOWHERE), BROKEN + "a context table", None),
    "context-unpreserved": (context_to(UNUSED), BROKEN + "a context table", None),
    "context-loop": (context_to("root"), BROKEN + "a context table", None),
    "session-loop": (chain_loop, "The incoming tree failed to initialize properly",
                     "a block is not in preserved memory"),
}
# Those that make test does; the others only differ in which check finds them.
CORE = ("list-nowhere", "other-table")


def stops(m, change, line, before=None):
    """Jump with changed data; see that the next kernel stops with one line that says why."""
    handover = Handover(m)
    m.kexec_load()
    with panic(m, line):
        m.kexec_go(timeout=60, look=lambda: change(handover.read()))
    if before:
        m.wait_console(before, "freeze", timeout=1)


@pytest.mark.parametrize("name", [
    name if name in CORE else pytest.param(name, marks=pytest.mark.thorough) for name in STOPS])
def test_stops(start, name):
    """What a running device needs is broken: the machine stops before it can do harm."""
    m, owner = at_work(start, "nvme0")
    owner.preserve()
    stops(m, *STOPS[name])
    see_no_faults(owner, "freeze")


# Of page tables, which are looked at when they are retrieved.
TABLES = {
    "loop": (table_loop, "a table at .* is used twice"),
    "nowhere": (table_nowhere, "a table at .* was not preserved"),
    "leaf": (leaf_to_others, "maps memory at .*, which is not preserved"),
}


@pytest.mark.parametrize("name", [
    name if name == "leaf" else pytest.param(name, marks=pytest.mark.thorough)
    for name in TABLES])
def test_page_table(start, name):
    """A page table is broken: when it is retrieved, the device that uses it ends, and no other."""
    m, owner = at_work(start, *BOTH)
    owner.preserve()
    change, line = TABLES[name]
    handover = Handover(m)
    m.kexec(look=lambda: change(handover.read()))
    load_vfio(m)
    owner("session_retrieve", "S", owner.session)
    owner("retrieve", "S", IOMMUFD_TOKEN, "I")
    m.wait_console(line, "freeze", timeout=1)
    device, other = owner.devices["nvme0"], owner.devices["igb0"]
    m.wait_console(f"{device.bdf}: live update: its page table is broken", "freeze", timeout=1)
    assert state(m, device.bdf) == "none"
    assert not any(value & pci.COMMAND_MASTER for value in m.command_writes(device.bdf, "jump"))
    for which in (device, other):
        owner("retrieve", "S", which.tokens[1], which.memory)
    assert owner.fails("retrieve", "S", device.tokens[0], device.file) == "EINVAL"
    owner("retrieve", "S", other.tokens[0], other.file)
    see_no_faults(owner, "freeze")
    del owner.devices["nvme0"]
    owner.bind()
    owner.handover()
    owner.finish()
    see_good_update(owner)


@pytest.mark.thorough
def test_too_few_files(start):
    """More files need the IOMMU core's lists than it is said: they stay while a device runs."""
    m = start(topology=(Port(Igb("igb0")), Port(Igb("igb1"))))
    owners = [Running(m, name, session=name, first=number)
              for number, name in enumerate(("igb0", "igb1"))]
    for owner in owners:
        owner.open(owner.session)
        owner.start()
        owner.preserve()
    handover = Handover(m)

    def change(h):
        entry = h.read().flbs["iommu"].address
        assert h.words(entry + FLB_SIZE - 8) == (4,)
        h.poke(entry + FLB_SIZE - 8, 2)

    m.kexec(look=lambda: change(handover))
    for owner in owners:
        take_over(owner)
    for owner in owners:
        see_good_update(owner)


@pytest.mark.thorough
def test_one_id(start):
    """Two page tables have one domain ID."""
    m, owner = at_work(start, *BOTH)
    owner.preserve()
    stops(m, other_did, BROKEN + "two page tables have one domain ID")


@pytest.mark.thorough
@pytest.mark.parametrize("vtd_mode", ["scalable", "first_stage"])
def test_pasid_tables(start, vtd_mode):
    """A PASID directory leads to itself."""
    m, owner = at_work(start, "nvme0", **{vtd_mode: True})
    owner.preserve()
    stops(m, pasids_to_themselves, BROKEN + "a PASID")


def break_kho(m):
    """Break the tree that KHO hands over, which is in some page of the machine's memory."""
    piece, found = 64 << 20, 0
    with m.stopped():
        for base in range(0, 1 << 30, piece):
            memory = m.memory(base, piece)
            place = memory.find(FDT_MAGIC)
            while place >= 0:
                if place % 4096 == 0 and b"kho-v" in memory[place:place + 256]:
                    m.poke(base + place, bytes(len(FDT_MAGIC)))
                    found += 1
                place = memory.find(FDT_MAGIC, place + 1)
    assert found


def test_kho(start):
    """KHO's own data are broken: the machine stops before memory of a running device is used."""
    m, owner = at_work(start, "nvme0")
    owner.preserve()
    m.kexec_load()
    break_kho(m)
    with panic(m, CANNOT + "nobody knows what was preserved"):
        m.kexec_go(timeout=60)
    # The page allocator was not there yet.
    assert "Memory: " not in m.console_text("jump")


@pytest.mark.thorough
def test_kho_idle(start):
    """The same where nothing runs: the next kernel starts as if nothing was handed over."""
    m = start(topology=PAIR)
    owner = Owner(m)
    owner.own("nvme0")
    owner.preserve("nvme0")
    m.kexec_load()
    break_kho(m)
    m.kexec_go()
    m.wait_console("disabling KHO revival", "jump", timeout=1)
    assert state(m, m.bdf("nvme0")) == "none"
    # And it can hand over itself.
    owner = Owner(m, "next")
    owner.own("nvme0")
    owner.preserve("nvme0")
    m.kexec()
    assert state(m, m.bdf("nvme0")) == "incoming idle"


# What is broken of the PCI core's list, and what is said.
BLOCKED = {
    "twice": (lambda h: h.pci_devices()[1].__setitem__("bdf", h.pci_devices()[0]["bdf"]),
              "handover data is broken, no device is known again: a device is in the list twice"),
    "nowhere": (set_field(lambda h: h.pci, list=NOWHERE), "no device is known again: the list"),
    "role": (set_field(lambda h: h.pci_devices()[0], role=9), "no device is known again: an entry"),
    "too-long": (set_field(lambda h: h.pci, count=65000), "no device is known again: the list"),
    "other-device": (lambda h: [entry.__setitem__("device", 0x1234) for entry in h.pci_devices()
                                if entry["role"] == 1], "is another device now"),
    "no-bridge": (lambda h: [entry.__setitem__("device", 0x1234) for entry in h.pci_devices()
                             if entry["role"] == 2], "but the bridge above it was not"),
}


@pytest.mark.parametrize("name", [
    name if name == "no-bridge" else pytest.param(name, marks=pytest.mark.thorough)
    for name in BLOCKED])
def test_blocked(start, name):
    """The PCI core does not know a running device again: its DMA ends before anything else."""
    m, owner = at_work(start, "igb0")
    owner.preserve()
    change, line = BLOCKED[name]
    handover = Handover(m)
    entry = vtd.Tables(m).entry(owner.devices["igb0"].bdf)
    # Where an IOMMU lets native drivers' devices do what they want, the device would go on.
    m.kexec(append="iommu=pt", look=lambda: change(handover.read()))
    m.wait_console(f"live update: .*{line}", "freeze", timeout=1)
    m.wait_console("drops the page table of", "freeze", timeout=1)
    see_stopped(owner, entry)
    assert states(owner) == {"none"}


def see_stopped(owner, entry):
    """See that igb0 lost its page table, after its bus mastering had been turned off."""
    m, bdf = owner.machine, owner.devices["igb0"].bdf
    assert vtd.Tables(m).entry(bdf) != entry
    assert any(not value & pci.COMMAND_MASTER for value in m.command_writes(bdf, "jump"))
    see_translation_on(m)


def test_blocked_below_a_switch(start):
    """A port has no page table of a device that it forwards for, and that is not known again."""
    m = start(topology=(Port(Nvme("nvme0")), Port(Switch("switch", Igb("igb0")))))
    owner = Running(m)
    owner.open("igb0")
    owner.start()
    owner.preserve()
    device = owner.devices["igb0"]
    group = f"/sys/bus/pci/devices/{device.bdf}/iommu_group"
    assert len(m.sh(f"ls {group}/devices").split()) > 1
    handover = Handover(m)
    entry = vtd.Tables(m).entry(device.bdf)
    change, line = BLOCKED["other-device"]
    m.kexec(look=lambda: change(handover.read()))
    m.wait_console(line, "freeze", timeout=1)
    see_stopped(owner, entry)
    assert states(owner) == {"none"}
    owner("session_retrieve", "S", owner.session)
    assert owner.fails("retrieve", "S", device.tokens[0], device.file) == "ENODEV"
    owner("retrieve", "S", IOMMUFD_TOKEN, "I")
    owner("retrieve", "S", device.tokens[1], device.memory)
    owner.finish()
    # All members of the group have a native driver's page table now, whatever that is.
    assert m.driver(device.bdf) == "igb"


@pytest.mark.thorough
def test_no_entry(start):
    """A page table that the hardware does not have for a device is not given to it."""
    m, owner = at_work(start, "igb0")
    owner.preserve()
    handover = Handover(m)
    bdf = owner.devices["igb0"].bdf
    entry = vtd.Tables(m).entry(bdf)
    m.kexec(look=lambda: handover.poke(handover.read().context(), 0, 0))
    see_stopped(owner, entry)
    assert states(owner) == {"none"}
    finish_without_devices(owner)


@pytest.mark.thorough
def test_one_page_of_two(start):
    """Two files with one page of data: the first has it, and it is freed once."""
    m = start(topology=PAIR)
    owner = Owner(m)
    owner.own(*BOTH)
    owner.drive("nvme0")
    owner.write("nvme0")
    owner.preserve(*BOTH)
    handover = Handover(m)

    def change(h):
        h.read()
        h.files[2]["data"] = h.files[1]["data"]

    m.kexec(look=lambda: change(handover))
    load_vfio(m)
    owner("session_retrieve", "S", SESSION)
    owner("retrieve", "S", 1, "Dnvme0")
    assert owner.fails("retrieve", "S", 2, "Digb0") == "EINVAL"
    owner.attach("nvme0")
    owner.finish()
    owner.works("nvme0")


@pytest.mark.thorough
def test_one_chain_of_two(start):
    """Two sessions with one chain of files: nothing of that is believed, and nothing freed."""
    m = start(topology=PAIR)
    owner = Owner(m)
    for name in ("one", "two"):
        owner("session_create", name, name)
        owner("memfd", f"M{name}", "4k")
        owner("preserve", name, 1, f"M{name}")
    handover = Handover(m)

    def change(h):
        first, second = h.read().sessions
        second["files"] = first["files"]

    m.kexec(look=lambda: change(handover))
    assert owner.fails("session_retrieve", "one", "one") == "EIO"
    m.wait_console("Block set is corrupted: a block is not in preserved memory", "jump", timeout=1)


def test_files(start):
    """What crosses of files is broken: they cannot be retrieved, and the device goes on."""
    m, owner = at_work(start, "nvme0")
    owner.preserve()
    device = owner.devices["nvme0"]
    file, memory, _ = device.tokens
    handover = Handover(m)

    def change(h):
        h.read()
        h.file(file, VFIO)["command"] |= 4
        h.file(memory, MEMFD)["chunk"] = NOWHERE
        h.file(IOMMUFD_TOKEN, IOMMUFD)["reserved"] = 1

    m.kexec(look=lambda: change(handover))
    owner("session_retrieve", "S", owner.session)
    for token, line in ((file, "does DMA"), (memory, "list of pages is broken"),
                        (IOMMUFD_TOKEN, "is of a kind that this kernel does not know")):
        assert owner.fails("retrieve", "S", token, "X") == "EINVAL"
        m.wait_console(line, "freeze", timeout=1)
    # Nobody knows what the device still needs: so nothing of it is given up.
    assert owner.fails("finish", "S") == "EBUSY"
    m.mark("retrieved")
    see_no_faults(owner)
    see_undisturbed(owner)
    assert state(m, device.bdf) == "incoming running"


@pytest.mark.parametrize(("flb", "error"), [
    pytest.param("iommu", None, marks=pytest.mark.thorough), ("pci", "ENODEV")])
def test_idle(start, flb, error):
    """A list is of another version: a device in idle mode goes on if it does not need that one."""
    m = start(topology=PAIR)
    owner = Owner(m)
    owner.own("nvme0")
    owner.preserve("nvme0")
    handover = Handover(m)
    m.kexec(look=lambda: m.poke(handover.read().flbs[flb].address, b"other-v999\0"))
    if error:
        load_vfio(m)
        owner("session_retrieve", "S", SESSION)
        assert owner.fails("retrieve", "S", 1, "Dnvme0") == error
        owner.finish()
    else:
        owner.take_over("nvme0")
    assert state(m, m.bdf("nvme0")) == "none"


def test_no_driver(start, kernels):
    """The next kernel comes without vfio-pci: the device runs on, until the module is there."""
    need_modules(kernels)
    m, owner = at_work(start, "nvme0")
    owner.preserve()
    m.kexec()
    module = m.sh("find /lib/modules -name 'vfio-pci.ko*'").split()[0]
    m.sh(f"mv {module} /away")
    owner("session_retrieve", "S", owner.session)
    device = owner.devices["nvme0"]
    assert owner.fails("retrieve", "S", device.tokens[0], device.file) == "ENOENT"
    assert owner.fails("finish", "S") in ("ENOENT", "EBUSY")
    assert state(m, device.bdf) == "incoming running"
    m.sh("sleep 0.5")
    m.sh(f"mv /away {module}")
    owner("close", "S")
    owner.worker.kill()
    take_over(owner)
    see_good_update(owner)
