# SPDX-License-Identifier: GPL-2.0-only
"""Interrupts: a program that sleeps until its device raises one never notices an update."""

import re

import pytest

from lab import Edu, GuestError, Igb, Nvme, Port, pci
from lab.handover import VFIO, Handover
from lab.running import SEED, VECTOR, Running, RunningSet
from lab.witness import Witness
from update import (PAIR, Owner, no_reset, panic, see_interrupts_go_along, see_jump_refused,
                    see_no_faults, see_undisturbed)

# The vector of a drive's I/O queue; with MSI-X 0 is that of its admin queue.
VECTORS = {"MSIX": VECTOR, "INTX": 0}
BLOCKS = 128
THOROUGH = pytest.mark.thorough
# edu: a register that raises its interrupt, and one that takes that back (docs/specs/edu.rst)
EDU_RAISE, EDU_ACK = 0x60, 0x64
# How many reads a second show that one comes after the other, and that the jump takes longer.
SLOWLY = 2


class Sleeper(RunningSet):
    """A process with a drive, which does nothing before its drive raises an interrupt."""

    def __init__(self, machine, kind="MSIX"):
        """Take the kind of interrupts."""
        super().__init__(machine)
        self.kind = kind
        self.vector = VECTORS[kind]
        self.count = self.vector + 1

    def start(self):
        """Start the drive, with the interrupt of its I/O queue on."""
        (device,) = self.devices.values()
        self.worker.dma_memory(device.memory, device.size, device.iova)
        # A drive takes no vector before it has any.
        self.arm("restore")
        self("nvme_start", device.driver, device.file, device.memory, device.iova, device.queue,
             self.vector)
        self("nvme_write", device.driver, 0, BLOCKS, SEED)
        device.witness = Witness(self.machine, device.bdf)
        self.machine.mark("load")

    def arm(self, how):
        """Have the drive's interrupts on; "restore": as one does after an update."""
        (device,) = self.devices.values()
        self(f"vfio_irq_{how}", device.file, self.kind, self.count)

    def carry(self, carry=1):
        """Say whether interrupts that are on go along."""
        (device,) = self.devices.values()
        self("vfio_irq_carry", device.file, carry)

    def came(self):
        """Return which interrupts came in: kind, count, vectors that had an eventfd."""
        (device,) = self.devices.values()
        return tuple(self("vfio_irq_came", device.file).values)

    def silence(self):
        """Turn the drive's interrupts off."""
        (device,) = self.devices.values()
        self("vfio_irq_off", device.file, self.kind)

    def sleep(self, count):
        """Read one block after the other, each when the interrupt of the one before came."""
        (device,) = self.devices.values()
        assert self("nvme_sleep", device.driver, BLOCKS, SEED, count).values == [str(count)]

    def sleep_fails(self):
        """Return with which error it ends when an interrupt does not come."""
        (device,) = self.devices.values()
        return self.fails("nvme_sleep", device.driver, BLOCKS, SEED, 1)


def sleeper(start, kind="MSIX", **options):
    """Start a machine with a process that sleeps until its drive raises an interrupt."""
    m = start(topology=PAIR, **options)
    owner = Sleeper(m, kind)
    owner.open("nvme0")
    owner.start()
    owner.sleep(10)
    return m, owner


# When the drive raises the interrupt that nobody has seen when the program ends
BEFORE, BETWEEN = "before", "between"
# How many reads it has then, of which the last ends before the jump, or while it is under way
READS = {BEFORE: 2, BETWEEN: 10}


def read_slowly(m, owner, when):
    """Have reads under way; those that are to end before the jump are waited for."""
    (device,) = owner.devices.values()
    m.throttle(device.name, SLOWLY)
    m.mark("reads")
    owner("nvme_queue_reads", device.driver, 0, READS[when] * 8, SEED)
    if when == BEFORE:
        wait_for_last(m, owner, when)


def wait_for_last(m, owner, when):
    """Wait until the drive has done its reads; returns when it has done the last."""
    (device,) = owner.devices.values()
    for _ in range(200):
        times = owner.timelines(m.trace(since="reads"))[device.name].times
        if len(times) == READS[when]:
            return times[-1]
        m.sh("sleep 0.1")
    raise AssertionError(f"{len(times)} of {READS[when]} reads are done")


def jump(m, owner, when):
    """Update; the last read ends before or after the freeze, as is to be."""
    owner.preserve()
    m.kexec()
    assert (wait_for_last(m, owner, when) > m.marks["freeze"]) == (when == BETWEEN)


def across(m, owner, when):
    """Take the drive through an update, with interrupts raised before they are off, or after."""
    read_slowly(m, owner, when)
    owner.silence()
    jump(m, owner, when)


def see_end(owner):
    """See that interrupts that were armed come, in both page tables, and that no DMA failed."""
    owner.sleep(50)
    owner.handover()
    owner.finish()
    owner.sleep(50)
    see_no_faults(owner)


def see_good_end(m, owner, until="retrieved"):
    """See that the drive was left alone until then, and works."""
    (device,) = owner.devices.values()
    m.throttle(device.name, 0)
    see_undisturbed(owner, until=until)
    see_end(owner)


@pytest.mark.parametrize("when", (pytest.param(BEFORE, marks=THOROUGH), BETWEEN))
def test_restored(start, when):
    """Interrupts that nobody saw are covered by the signal that comes with arming them."""
    m, owner = sleeper(start)
    across(m, owner, when)
    owner.retrieve()
    owner.arm("restore")
    see_good_end(m, owner)


@pytest.mark.thorough
def test_set(start):
    """A set arms them as soon as its device is bound."""
    m, owner = sleeper(start)
    across(m, owner, BETWEEN)
    (device,) = owner.devices.values()
    owner("session_retrieve", "S", owner.session)
    owner("set_open", "P", "S")
    owner("close", "S")
    owner("set_irqs", "P", "E", device.file, owner.kind, owner.count)
    m.mark("armed")
    owner("set_retrieve", "P")
    owner.get()
    owner("vfio_irq_take", device.file, "E")
    see_good_end(m, owner, until="armed")


def carried(m, owner, when):
    """Take the drive through an update with its interrupts on; the last is raised when?"""
    owner.carry()
    read_slowly(m, owner, when)
    jump(m, owner, when)


def see_masked_only(m, owner):
    """See that the drive's interrupts were masked, and that nothing else was written to it."""
    (device,) = owner.devices.values()
    control = pci.msix_control(m.config(device.bdf))
    writes = [(event.offset, event.value)
              for event in m.trace("pci_cfg_write", device.bdf, "freeze", "retrieved")]
    if owner.kind == "MSIX":
        (offset, value), = writes
        assert offset == control and value & pci.MSIX_ENABLE and value & pci.MSIX_MASK
    else:
        assert not writes    # VFIO masks INTx whenever it is raised, and here it was


def test_update(start):
    """A drive and a network controller whose program sleeps until they raise interrupts."""
    m = start(topology=PAIR)
    owner = Running(m, interrupts=True)
    owner.open("nvme0", "igb0")
    owner.start()
    owner.preserve()
    m.kexec()
    see_interrupts_go_along(owner)


@pytest.mark.parametrize(("when", "kind"), [
    (BETWEEN, "INTX"), pytest.param(BEFORE, "MSIX", marks=THOROUGH),
    pytest.param(BETWEEN, "MSIX", marks=THOROUGH),
    pytest.param(BEFORE, "INTX", marks=THOROUGH)])
def test_carried(start, when, kind):
    """Interrupts that are on go along, and the kernel signals them when they are armed."""
    m, owner = sleeper(start, kind)
    carried(m, owner, when)
    owner.retrieve()
    assert owner.came() == (kind, str(owner.count), hex((1 << owner.count) - 1))
    see_masked_only(m, owner)
    owner.arm("on")
    m.throttle("nvme0", 0)
    owner.sleep(50)
    # The command register is the user's: INTx goes on when it is written back as it was read.
    device = owner.devices["nvme0"].file
    command = int.from_bytes(bytes.fromhex(owner("cfg_read", device, pci.COMMAND, 2).text),
                             "little")
    assert not command & pci.COMMAND_INTX_DISABLE
    owner("cfg_write", device, pci.COMMAND, 2, command)
    see_end(owner)


def test_not_carried(start):
    """Without the user's word interrupts that are on refuse the jump, and are on after that."""
    m, owner = sleeper(start)
    owner.carry()
    owner.carry(0)
    owner.preserve()
    m.kexec_load()
    see_jump_refused(m, "EINVAL")
    owner.sleep(10)


@pytest.mark.thorough
def test_carry_in_idle_mode(start):
    """A device that is reset has no interrupts that go along."""
    m = start(topology=PAIR)
    owner = Owner(m)
    owner.own("nvme0")
    owner.drive("nvme0")
    owner.write("nvme0")
    owner("vfio_irq_on", "Dnvme0", "MSIX", 2)
    owner("vfio_irq_carry", "Dnvme0", 1)
    owner.preserve("nvme0")
    m.kexec_load()
    see_jump_refused(m, "EINVAL")
    owner("vfio_irq_off", "Dnvme0", "MSIX")
    m.kexec_go()
    owner.retrieve("nvme0")
    owner.works("nvme0")
    owner.finish()


@pytest.mark.parametrize("kind", ("MSIX", pytest.param("INTX", marks=THOROUGH)))
def test_refused_after_freeze(start, kind):
    """Interrupts come back when a device that is frozen later refuses the jump."""
    m, owner = sleeper(start, kind)
    owner.carry()
    other = Owner(m, "other")
    bdf, = other.own("igb0")
    owner.preserve()
    other.preserve("igb0")
    m.kexec_load()
    with no_reset(m, bdf):
        for _ in range(3):
            read_slowly(m, owner, BETWEEN)
            see_jump_refused(m, "ENOTTY")
            m.throttle("nvme0", 0)
            owner.sleep(10)
    read_slowly(m, owner, BETWEEN)
    m.kexec_go()
    owner.retrieve()
    owner.arm("on")
    m.throttle("nvme0", 0)
    see_end(owner)


def carrying_edu(m, kind):
    """Have a process with edu0 in running mode, whose interrupt is on and goes along."""
    owner = Running(m)
    owner.open("edu0")
    owner("cfg_write", "Dedu0", pci.COMMAND, 2, pci.COMMAND_MEMORY | pci.COMMAND_MASTER)
    owner("vfio_irq_on", "Dedu0", kind, 1)
    owner("vfio_irq_carry", "Dedu0", 1)
    return owner


def see_raised(owner, device):
    """Have edu raise its interrupt; see that it comes, and once."""
    owner("bar_write", device, 0, EDU_RAISE, 4, 1)
    owner.machine.sh("sleep 0.2")
    assert owner("vfio_irq_count", device).values == ["1"]


def calm(owner, device, kind):
    """Take back what edu has raised; INTx was masked by it."""
    owner("bar_write", device, 0, EDU_ACK, 4, 1)
    if kind == "INTX":
        owner("vfio_intx_unmask", device)


@pytest.mark.parametrize("kind", ("INTX", pytest.param("MSI", marks=THOROUGH)))
def test_quiet_and_refused(start, kind):
    """A device that raised nothing at the freeze raises its interrupts when the jump is refused."""
    m = start(topology=(Port(Edu("edu0")), Port(Igb("igb0"))))
    owner, other = carrying_edu(m, kind), Owner(m, "other")
    bdf, = other.own("igb0")
    owner.preserve(memory=False)
    other.preserve("igb0")
    m.kexec_load()
    with no_reset(m, bdf):
        for _ in range(2):
            see_jump_refused(m, "ENOTTY")
            # The signal of that; then one for each time that the device raises it
            assert owner("vfio_irq_count", "Dedu0").values == ["1"]
            for _ in range(2):
                see_raised(owner, "Dedu0")
                calm(owner, "Dedu0", kind)


@pytest.mark.thorough
def test_carried_again(start):
    """Interrupts that nobody armed go along again; each is signalled when it is armed at last."""
    m, owner = sleeper(start)
    carried(m, owner, BETWEEN)
    owner.retrieve()
    came = owner.came()
    # Another than the one that the program waits for
    owner("vfio_irq_on", owner.devices["nvme0"].file, owner.kind, 1)
    owner("vfio_irq_off", owner.devices["nvme0"].file, owner.kind)
    m.throttle("nvme0", 0)
    owner.handover()
    owner.finish()
    owner.carry()
    owner.preserve()
    m.kexec()
    owner.retrieve()
    assert owner.came() == (came[0], came[1], "0x2")
    owner.arm("on")
    see_end(owner)


@pytest.mark.thorough
def test_not_armed(start):
    """A device whose interrupts came and were never armed is as any other when it is closed."""
    m, owner = sleeper(start)
    carried(m, owner, BEFORE)
    owner.retrieve()
    owner.handover()
    owner.finish()
    bdf = owner.devices["nvme0"].bdf
    control = pci.msix_control(m.config(bdf))
    both = pci.MSIX_ENABLE | pci.MSIX_MASK
    assert m.config(bdf)[control + 1] << 8 & both == both
    m.mark("closed")
    owner.worker.kill()
    m.sh("sleep 0.5")
    # It goes off before the reset
    off, = (event.time for event in m.trace("pci_cfg_write", bdf, "closed")
            if event.offset == control and not event.value & pci.MSIX_ENABLE)
    assert off < m.resets(bdf, m.config(bdf), "closed", None)[0].time
    assert not m.config(bdf)[control + 1] << 8 & (pci.MSIX_ENABLE | pci.MSIX_MASK)
    m.bind(bdf, "nvme")
    m.sh("for i in $(seq 50); do [ -e /dev/nvme0n1 ] && exit; sleep 0.1; done; exit 1")
    m.sh("dd if=/dev/nvme0n1 of=/dev/null bs=4k count=16 iflag=direct")


@pytest.mark.thorough
def test_nobody_took_it(start):
    """A device with MSI-X on that nobody takes over is stopped, and MSI-X is off."""
    m, owner = sleeper(start)
    carried(m, owner, BEFORE)
    bdf = owner.devices["nvme0"].bdf
    control = pci.msix_control(m.config(bdf))
    m.mark("removed")
    m.sh(f"echo 1 >/sys/bus/pci/devices/{bdf}/remove")
    m.mark("rescan")
    writes = [(event.offset, event.value)
              for event in m.trace("pci_cfg_write", bdf, "removed", "rescan")]
    off = [i for i, (offset, value) in enumerate(writes)
           if offset == control and not value & pci.MSIX_ENABLE]
    # INTx is off before
    assert off and any(offset == pci.COMMAND and value & pci.COMMAND_INTX_DISABLE
                       for offset, value in writes[:off[0]])


@pytest.mark.thorough
@pytest.mark.parametrize("carry", (0, 1))
def test_orphaned(start, carry):
    """Whoever takes over a drive whose user ended with interrupts on loses none.

    Where that user has said so they go along, as of a service that systemd stops before the jump.
    """
    m, owner = sleeper(start)
    owner.carry(carry)
    keeper = m.worker("keeper")
    read_slowly(m, owner, BETWEEN)
    owner.preserve()
    owner("set_session", "P", "S")
    keeper("steal", "S", owner.worker.pid(), owner.worker.fd("S"))
    owner.worker.kill()
    m.kexec()
    wait_for_last(m, owner, BETWEEN)
    owner.retrieve()
    if carry:
        assert owner.came() == (owner.kind, str(owner.count), "0x3")
    else:
        assert owner.fails("vfio_irq_came", owner.devices["nvme0"].file) == "ENOENT"
    owner.arm("on" if carry else "restore")
    m.throttle("nvme0", 0)
    see_end(owner)


FRAMES = 20


def frames(m, owner, first, count=FRAMES):
    """Send frames; the process takes them in when its controller has raised an interrupt."""
    owner.worker.start("igb_sleep", owner.devices["igb0"].driver, count)
    m.wires["igb0"].send(first, count)
    assert owner.worker.wait().values == [str(count), str(first + count - 1)]


@pytest.mark.parametrize("carry", (pytest.param(False, marks=THOROUGH), True))
def test_frames(start, carry):
    """A process that sleeps until frames come gets those, too, that came while nobody was there."""
    m = start(topology=PAIR)
    owner = Running(m)
    owner.open("igb0")
    device = owner.devices["igb0"]
    owner.worker.dma_memory(device.memory, device.size, device.iova)
    owner("vfio_irq_restore", device.file, "MSIX", 2)
    owner("igb_start", device.driver, device.file, device.memory, device.iova)
    owner("igb_irq", device.driver, 1)
    m.mark("load")
    for i in range(5):
        frames(m, owner, i * FRAMES)
    owner("vfio_irq_carry", device.file, 1)
    if not carry:
        owner("vfio_irq_off", device.file, "MSIX")
    owner.preserve()
    m.kexec()
    m.wires["igb0"].send(100, FRAMES)
    owner.retrieve()
    owner("vfio_irq_on" if carry else "vfio_irq_restore", device.file, "MSIX", 2)
    assert owner("igb_sleep", device.driver, FRAMES).values == [str(FRAMES), str(99 + FRAMES)]
    for i in range(5):
        frames(m, owner, 200 + i * FRAMES)
    owner.handover()
    owner.finish()
    see_no_faults(owner)


# --- a device with INTx and MSI, and the line that it shares ----------------------------------


def lines(m):
    """Return how often each interrupt line came, by its number."""
    return {int(words[0].rstrip(":")): sum(map(int, words[1:3]))
            for words in map(str.split, m.sh("grep -E '^ *[0-9]+:' /proc/interrupts").splitlines())}


def irq_line(m, bdf):
    """Return the number of a device's interrupt."""
    return int(m.sh(f"cat /sys/bus/pci/devices/{bdf}/irq"))


@pytest.mark.parametrize("kind", ("INTX", pytest.param("MSI", marks=THOROUGH)))
def test_shared_line(start, kind):
    """A device that raises INTx all the time is not heard in the next kernel before it is armed.

    Another device shares its line, and works.
    """
    ports = [Port(Nvme(f"nvme{i}")) for i in range(3)]
    m = start(topology=(Port(Edu("edu0")), *ports, Port(Edu("edu1"))))
    owner, other = carrying_edu(m, kind), Owner(m, "other")
    line = irq_line(m, owner.devices["edu0"].bdf)
    owner.preserve(memory=False)
    see_raised(owner, "Dedu0")
    m.kexec()
    bdf, = other.own("edu1")
    assert kind == "MSI" or irq_line(m, bdf) == line
    line = irq_line(m, bdf)
    other("vfio_irq_on", "Dedu1", "INTX", 1)
    for count in range(1, 6):
        see_raised(other, "Dedu1")
        assert lines(m)[line] == count
        calm(other, "Dedu1", "INTX")
    owner.retrieve(order=("iommufd", "devices"), bind=False)
    owner("vfio_bind", "Dedu0", "I")
    assert owner("vfio_irq_came", "Dedu0").values == [kind, "1", "0x1"]
    owner("vfio_irq_on", "Dedu0", kind, 1)
    m.sh("sleep 0.2")
    # The kernel's signal, and with INTx what the device says still
    assert int(owner("vfio_irq_count", "Dedu0")) == (2 if kind == "INTX" else 1)
    calm(owner, "Dedu0", kind)
    see_raised(owner, "Dedu0")
    calm(owner, "Dedu0", kind)


@pytest.mark.parametrize(("field", "value"), [
    pytest.param("irq_kind", 4, marks=THOROUGH), ("irq_count", 100)])
def test_broken(start, field, value):
    """A device with interrupts that it cannot have is not given to anybody."""
    m = start(topology=PAIR)
    owner = Running(m)
    owner.open("nvme0")
    owner.start()
    owner("vfio_irq_on", "Dnvme0", "MSIX", 1)
    owner("vfio_irq_carry", "Dnvme0", 1)
    owner.preserve()
    handover = Handover(m)
    token = owner.devices["nvme0"].tokens[0]

    def spoil():
        """Change what vfio-pci says."""
        handover.read().file(token, VFIO)[field] = value

    m.kexec(look=spoil)
    owner("session_retrieve", "S", owner.session)
    assert owner.fails("retrieve", "S", token, "D") == "EINVAL"


@pytest.mark.parametrize("value", (pytest.param(0, marks=THOROUGH),
                                   pytest.param(1 << 20, marks=THOROUGH), "root"))
def test_broken_table(start, value):
    """A table of interrupts that is not the one that the unit uses stops the next kernel."""
    m, owner = sleeper(start)
    owner.silence()
    owner.preserve()
    handover = Handover(m)

    def spoil():
        """Change where the table is said to be."""
        unit = handover.read().unit()
        unit["irq_table"] = unit["root"] if value == "root" else value

    with panic(m, "DMAR: live update: .*"):
        m.kexec(look=spoil)


@pytest.mark.parametrize("words", ("intremap=off", pytest.param("nointremap", marks=THOROUGH)))
def test_no_remapping_there(start, words):
    """A kernel that does not remap interrupts stops rather than let devices raise them."""
    m, owner = sleeper(start)
    owner.silence()
    owner.preserve()
    with panic(m, "DMAR: live update: .* remaps interrupts of running devices"):
        m.kexec(append=words)


@pytest.mark.thorough
@pytest.mark.parametrize("unsafe", (False, True))
def test_no_remapping_here(start, unsafe):
    """Without remapping VFIO gives a device to nobody, unless the administrator allows that."""
    m = start(topology=PAIR, append="intremap=off iommufd.allow_unsafe_interrupts="
                                    + ("1" if unsafe else "0"))
    owner = Sleeper(m)
    if not unsafe:
        with pytest.raises(GuestError) as error:
            owner.open("nvme0")
        assert error.value.errno == "EPERM"
        return
    owner.open("nvme0")
    owner.start()
    across(m, owner, BETWEEN)
    owner.retrieve()
    owner.arm("restore")
    see_good_end(m, owner)


@pytest.mark.thorough
@pytest.mark.parametrize("when", (BEFORE, BETWEEN))
def test_without_the_signal(start, when):
    """Who only arms them sleeps for ever: the lab shows what is lost."""
    m, owner = sleeper(start)
    across(m, owner, when)
    owner.retrieve()
    owner.arm("on")
    assert owner.sleep_fails() == "ETIMEDOUT"


# --- interrupt remapping between the kernels -------------------------------------------------

# Where a write is an interrupt, and what of its address makes it one that is remapped (VT-d 4.1,
# 3.14 and 5.1.2.2). QEMU lets the others pass whether they are remapped or not.
MESSAGES = 0xfee00000
REMAPPABLE = 1 << 4
# Those are to do no harm: ExtINT, which a processor takes from nobody but an 8259.
HARMLESS = r"\\000\\007\\000\\000" * 16
# Reads of a page of them a second, and on kernels for debugging, for which the outgoing kernel's
# log lines about each are too many; and how many reads: before the jump, and until it is over
HOSTILE, HOSTILE_SLOW, ENOUGH = 20, 2, 80
_ADDRESS = re.compile(r"\(?addr (0x[0-9a-f]+)")


def messages(events):
    """Return those that are to be remapped."""
    return [event for event in events
            if int(_ADDRESS.match(event.text)[1], 16) & REMAPPABLE]


@pytest.mark.parametrize("options", (
    pytest.param({}, marks=pytest.mark.thorough, id="legacy"),
    pytest.param({"scalable": True}, id="scalable")))
def test_hostile_messages(start, options):
    """A device that writes interrupt messages all the time raises none between the kernels.

    The table that remaps them is another from the jump on, has nothing in it, and is preserved;
    remapping is never off.
    """
    m = start(topology=PAIR, **options)
    owner = Sleeper(m)
    owner.open("nvme0")
    owner.start()
    owner.silence()
    owner.preserve()
    handover = Handover(m)
    (device,) = owner.devices.values()
    m.sh(f"for i in $(seq 64); do printf {HARMLESS}; done >/messages")
    owner("nvme_write_file", device.driver, 0, "/messages")
    m.throttle(device.name, HOSTILE_SLOW if m.slow else HOSTILE)
    m.trace_more("vtd_ir_remap_msi_req", "vtd_ir_remap_msi")
    m.mark("hostile")
    owner("nvme_read_to", device.driver, 0, ENOUGH, MESSAGES)
    m.sh("sleep 1")
    seen = {}

    def look():
        """Look at the table between the kernels."""
        seen["table"] = handover.read().unit()["irq_table"]
        seen["entries"] = set(handover.words(seen["table"], 512))

    m.kexec(look=look)
    m.sh("sleep 1")
    m.throttle(device.name, 0)
    assert seen["entries"] == {0}
    # The unit's own table, that of the jump, that of the next kernel
    tables = m.trace("vtd_reg_ir_root")
    assert [table.fields["addr"] == seen["table"] for table in tables] == [False, True, False]
    blocked, own = tables[1].time, tables[2].time
    assert not [event for event in m.trace("vtd_ir_enable", since="hostile")
                if not event.fields["enable"]]
    # QEMU does not know whose these are, and lets them pass where the table has something for it.
    assert messages(m.trace("vtd_ir_remap_msi", since="hostile", until=blocked))
    assert messages(m.trace("vtd_ir_remap_msi_req", since=blocked, until=own))
    assert not messages(m.trace("vtd_ir_remap_msi", since=blocked, until=own))
