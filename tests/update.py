# SPDX-License-Identifier: GPL-2.0-only
"""What tests of live updates share: a device's owner, and how to read what was done to it."""

import contextlib
from dataclasses import dataclass

import pytest

from conftest import IGB_MEMORY, IOVA, NVME_MEMORY
from lab import GuestError, Igb, MachineError, Nvme, Port, pci
from lab.handover import VFIO
from lab.running import DRIVES, IOMMUFD_TOKEN, Running
from lab.topology import virtio

# A drive and a network controller, each below a root port.
PAIR = (Port(Nvme("nvme0")), Port(Igb("igb0")))
SESSION = "test"

# What VFIO_DEVICE_FEATURE_LIVEUPDATE says: modes, mode, state, reason, error.
IDLE, RUNNING = 1, 2
BOTH_MODES = IDLE | RUNNING
NONE, OUTGOING, INCOMING = 0, 1, 2
REASON_NONE, REASON_DEVICE, REASON_DOMAIN = 0, 1, 3
# Of the kernel: for developers, see docs/operating.md.
ANY_IMAGE = "/sys/module/luo/parameters/any_image"
BLOCKS = 512
LBA = 64
SEED = 11


@dataclass(frozen=True)
class Ats:
    """A virtio network controller that has ATS, or what Linux will not use of it."""

    name: str
    aligned: bool = True

    def arguments(self, bus, run_of_machine):
        """Return QEMU's arguments."""
        del run_of_machine
        return ["-device", virtio("virtio-net", self.name, bus, aligned=self.aligned) + ",romfile="]


def state(m, bdf):
    """Return what a device's liveupdate attribute says."""
    return m.sh(f"cat /sys/bus/pci/devices/{bdf}/liveupdate").strip()


def feature(owner, device):
    """Return what a device's user is told of live updates."""
    values = owner("vfio_liveupdate", f"D{device}").values
    return tuple(int(value) for value in values[:4]) + tuple(values[4:])


def bridges(m, bdf):
    """Return the addresses of the bridges above a device, topmost first."""
    path = m.sh(f"readlink -f /sys/bus/pci/devices/{bdf}").strip()
    return [part for part in path.split("/")[4:-1] if part.startswith("0000:")]


def need_modules(kernels):
    """Skip a test that loads and unloads vfio-pci where it cannot."""
    if kernels == "builtin":
        pytest.skip("needs vfio-pci as a module, and this kernel has it built in")


def load_vfio(m):
    """Load vfio-pci, where it is a module."""
    m.sh("[ -d /sys/bus/pci/drivers/vfio-pci ] || modprobe vfio-pci")


class Owner:
    """A process that owns devices through VFIO, and what it did with them.

    It names a device after the topology: device "nvme0" is file Dnvme0 with driver Nnvme0 and
    memory Mnvme0, and so on.
    """

    def __init__(self, machine, name="owner"):
        """Take a machine; the process starts with its first command."""
        self.machine = machine
        self.worker = machine.worker(name)
        self._iovas = {}

    def __call__(self, *words, **options):
        """Run a command in the process."""
        return self.worker(*words, **options)

    def fails(self, *words, **options):
        """Run a command that must fail; returns its error's name."""
        return self.worker.fails(*words, **options)

    def own(self, *devices):
        """Give devices to vfio-pci and open them; returns their addresses."""
        return [self._own(device) for device in devices]

    def _own(self, device):
        bdf = self.machine.bdf(device)
        self.machine.bind_vfio(bdf)
        self.worker.vfio(f"D{device}", bdf)
        return bdf

    def attach(self, device):
        """Bind a device whose file was retrieved, and attach it to a new IOAS."""
        self.worker.vfio_attach(f"D{device}")

    def drive(self, device):
        """Start the user-space driver of a device that is open."""
        kind = device.rstrip("0123456789")
        have = self.worker.objects()
        for name in (f"N{device}", f"G{device}"):
            if name in have:
                self("close", name)
        if f"M{device}" not in have:
            iova = self._iovas.setdefault(device, IOVA + (len(self._iovas) << 24))
            self.worker.dma_memory(f"M{device}", NVME_MEMORY if kind in DRIVES else IGB_MEMORY,
                                   iova)
        handle = "N" if kind in DRIVES else "G"
        self(f"{kind}_start", f"{handle}{device}", f"D{device}", f"M{device}", self._iovas[device])

    def write(self, device, seed=SEED):
        """Put a pattern on a drive."""
        kind = device.rstrip("0123456789")
        self(f"{kind}_write", f"N{device}", LBA, BLOCKS, seed)
        self(f"{kind}_flush", f"N{device}")

    def check(self, device, seed=SEED):
        """See that a device works: a drive's pattern is there, frames come and go."""
        kind = device.rstrip("0123456789")
        if kind in DRIVES:
            self(f"{kind}_read_check", f"N{device}", LBA, BLOCKS, seed)
            return
        wire = self.machine.wires[device]
        self.worker.start("igb_tx", f"G{device}", 100, 50)
        assert wire.receive(50) == list(range(100, 150))
        self.worker.wait()
        self.worker.start("igb_rx_check", f"G{device}", 50, 10000)
        wire.send(9, 50)
        assert self.worker.wait().values == ["9", "50"]

    def works(self, device, seed=SEED):
        """Start a device's driver anew and see that it works."""
        self.drive(device)
        self.check(device, seed)

    def preserve(self, *devices, session=SESSION, first=1):
        """Put devices in a new session S, with tokens from first on."""
        self("session_create", "S", session)
        for token, device in enumerate(devices, first):
            self("preserve", "S", token, f"D{device}")

    def retrieve(self, *devices, session=SESSION, first=1):
        """Get devices back from their session and attach them."""
        self("session_retrieve", "S", session)
        for token, device in enumerate(devices, first):
            self("retrieve", "S", token, f"D{device}")
            self.attach(device)

    def take_over(self, device):
        """Retrieve a device, start its driver, and finish the session."""
        self.retrieve(device)
        self.drive(device)
        self.finish()

    def finish(self):
        """Finish the session and let it go."""
        self("finish", "S")
        self("close", "S")


def cross(machine, *devices, **options):
    """Take devices across an update; returns their owner and their addresses.

    Options go to Machine.kexec().
    """
    owner = Owner(machine)
    bdfs = owner.own(*devices)
    owner.preserve(*devices)
    machine.kexec(**options)
    return owner, *bdfs


# --- devices that go on with their DMA: lab.running.Running ---

def at_work(start, *names, owner=Running, **options):
    """Start a machine (topology PAIR), and devices at work in it; returns it and their owner."""
    machine = start(topology=PAIR, **options)
    owner = owner(machine)
    owner.open(*names)
    owner.start()
    return machine, owner


def states(owner):
    """Return what the liveupdate attributes of an owner's devices say."""
    return {state(owner.machine, device.bdf) for device in owner.devices.values()}


def bridge_states(owner):
    """Return what the liveupdate attributes of all bridges above an owner's devices say."""
    return {state(owner.machine, bridge) for device in owner.devices.values()
            for bridge in device.witness.bridges}


def see_jump_refused(m, errno):
    """See that the jump into the kernel that is loaded is refused with an error."""
    with pytest.raises(GuestError) as error:
        m.kexec_go()
    assert error.value.errno == errno


@contextlib.contextmanager
def no_reset(m, bdf):
    """Have a device that nothing can reset, so that in idle mode it refuses the jump: ENOTTY."""
    method = f"/sys/bus/pci/devices/{bdf}/reset_method"
    m.sh(f"echo >{method}")
    yield
    m.sh(f"echo default >{method}")


def see_translation_on(m, since="freeze"):
    """See that translation was never off since the freeze, or another moment."""
    assert not [event for event in m.trace("vtd_dmar_enable", since=since)
                if not event.fields["enable"]], "translation was turned off"


@contextlib.contextmanager
def panic(m, line):
    """See that what is done within ends the machine, by a panic of one line and nothing else."""
    m.expect_splat("Kernel panic|Call Trace|live update")
    with pytest.raises(MachineError):
        yield
    m.wait_console(f"Kernel panic.*{line}", "freeze", timeout=1)
    assert not m.splats(), m.splats()
    see_translation_on(m)


def allow_any_image(m):
    """Let a machine jump with running devices into kernels that do not say that they take them."""
    m.sh(f"echo 1 >{ANY_IMAGE}")


def see_undisturbed(owner, since="freeze", until="retrieved"):
    """See that nobody did anything to an owner's devices in a span of time."""
    for device in owner.devices.values():
        complaints = device.witness.findings(since, until).complaints()
        assert not complaints, f"{device.name} ({device.bdf}): " + "; ".join(complaints)


def see_no_faults(owner, since="load", until=None):
    """See that no DMA of an owner's devices was refused."""
    for device in owner.devices.values():
        faults = owner.machine.trace("vtd_dmar_fault", device.bdf, since, until)
        assert not faults, f"{device.name}: {len(faults)} IOMMU faults, the first: {faults[0]}"


def see_dma(owner, since="freeze", until="retrieved", names=None):
    """See that an owner's devices did DMA all through a span of time, without a long pause."""
    marks = owner.machine.marks
    lines = owner.timelines()
    for name, line in ((name, lines[name]) for name in names or lines):
        wrong = line.faults(marks[since], marks[until])
        assert not wrong, (f"{name}, from {since} to {until} ({marks[until] - marks[since]:.1f} s):"
                           f" {'; '.join(wrong)}")


def see_busy(owner):
    """See that drives have work left: else their silence would say nothing."""
    for device in owner.devices.values():
        if device.is_drive:
            assert owner.account(device)["busy"], f"{device.name}: its queue ran dry too early"


def see_nothing_lost(accounts, least=30):
    """See that all work of some devices came out right, and that it was not too little."""
    for name, account in accounts.items():
        assert account.lost == 0 and account.good == account.given, f"{name}: {account}"
        assert account.given >= least, f"{name}: {account.given} are too few to say anything"
        assert not any(account.details.get(key) for key in ("foreign", "strange")), account


def take_over(owner):
    """Retrieve, hand over to new page tables, finish."""
    owner.retrieve()
    see_busy(owner)
    owner.handover()
    owner.finish()


def finish_without_devices(owner):
    """Finish a session whose devices are not there any more: all else is, and they are not."""
    owner("session_retrieve", "S", owner.session)
    owner("retrieve", "S", IOMMUFD_TOKEN, "I")
    for device in owner.devices.values():
        assert owner.fails("retrieve", "S", device.tokens[0], device.file) == "ENODEV"
        owner("retrieve", "S", device.tokens[1], device.memory)
    owner.finish()


def move_away(handover, bdf, token=None):
    """Have what crosses say that a device was in the next place; token: of its file, to come along.

    For a unit in legacy mode.
    """
    h = handover.read()
    index = h.place_of(bdf)
    place = h.context(index)
    h.poke(place + 8 * 16, *h.words(place, 2))
    h.poke(place, 0, 0)
    was = h.device(index)["bdf"]
    records = [h.device(index), *([h.file(token, VFIO)] if token else [])]
    for record in (*records, *(entry for entry in h.pci_devices() if entry["bdf"] == was)):
        record["bdf"] = was + 8


def other_takes_over(owner):
    """Kill the owner that has retrieved its devices; another retrieves the session, all run on."""
    m = owner.machine
    owner.worker.kill()
    assert states(owner) == {"incoming running"}
    m.sh("sleep 0.5")
    m.mark("alone")
    see_undisturbed(owner, "freeze", "alone")
    see_dma(owner, "freeze", "alone")
    # The files are the same and still bound: attach them to an address space, and that is all.
    owner.retrieve(bind=False)
    owner.adopt()
    see_busy(owner)
    owner.build()
    for device in owner.devices.values():
        owner("vfio_attach", device.file, "A")
    owner.finish()
    see_good_update(owner)


def memory(m):
    """Return how many KiB of memory the kernel has; what KHO keeps is not part of it."""
    return int(m.sh("sed -n 's/MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo"))


def press(m):
    """Have all memory filled that the kernel believes to be free."""
    account = m.worker("press").account("mem_press", 64 << 20, 100)
    assert account["wrong"] == 0 and account["bytes"] > account["free"] - (65 << 20)


# So much of large memory is filled, here and there: all of it takes too long.
SPOT = 1 << 20


def spots(size):
    """Return where something is in memory of a size."""
    return 0, size // 2 & -SPOT, size - SPOT


def fill_spots(owner, name, size, seed):
    """Fill some of a memfd."""
    for at in spots(size):
        owner("mem_fill", name, at, SPOT, seed)


def see_spots(owner, name, size, seed):
    """See that a memfd has what fill_spots() left."""
    for at in spots(size):
        owner("mem_check", name, at, SPOT, seed)


def see_memory_back(m, totals):
    """See that a kernel had the same memory after each of some updates.

    Some KiB depend on where a kernel is that moves (KASLR).
    """
    slack = 64 if m.kernel.has("RANDOMIZE_BASE") else 0
    assert max(totals) - min(totals) <= slack, f"MemTotal: {totals} KiB"


def see_good_update(owner):
    """See that a whole update, now at its end, was a good one; returns the accounts."""
    accounts = owner.settle()
    see_nothing_lost(accounts)
    see_undisturbed(owner)
    see_no_faults(owner)
    see_dma(owner)
    return accounts


def see_interrupts_go_along(owner):
    """Take over devices whose interrupts were on at the jump, arm them, see a good update.

    They were masked, by one write each; whatever is waited for from here on is an interrupt.
    """
    owner.retrieve()
    for device in owner.devices.values():
        assert len(device.witness.findings("freeze", "retrieved").masks) == 1
    owner.arm()
    owner.handover()
    owner.finish()
    see_good_update(owner)


# --- the machine goes down, and no update takes place ---

def go_down(owner, command):
    """Have the machine end by a command; mark: down."""
    m = owner.machine
    configs = {device.bdf: m.config(device.bdf) for device in owner.devices.values()}
    # Who has it open does not know, and the driver writes on his behalf.
    m.expect_splat("dropped a write")
    m.mark("down")
    with pytest.raises(MachineError, match="was reset or turned off"):
        m.sh(command)
        m.sh("sleep 60")
    return configs


def translation_off(m):
    """Return when the IOMMU stops translating; endless if it never does."""
    off = [event.time for event in m.trace("vtd_dmar_enable", since="down")
           if not event.fields["enable"]]
    return min(off, default=float("inf"))


def see_stopped(owner, configs):
    """See that devices were stopped and reset before the IOMMU was turned off, and stay so."""
    m = owner.machine
    off = translation_off(m)
    assert off < float("inf"), "translation stays on: this shows nothing"
    lines = owner.timelines()
    for device in owner.devices.values():
        commands = m.config_writes(device.bdf, pci.COMMAND, "down")
        stops = [event.time for event in commands if not event.value & pci.COMMAND_MASTER]
        assert stops, f"{device.name}: nobody stops it"
        stopped = stops[0]
        assert not [event for event in commands
                    if event.time > stopped and event.value & pci.COMMAND_MASTER]
        resets = m.resets(device.bdf, configs[device.bdf], "down")
        assert resets and stopped < resets[0].time < off
        writes = [event for bridge in device.witness.bridges
                  for event in m.trace("pci_cfg_write", bridge, "down")]
        assert all(event.time > resets[0].time for event in writes)
        # What a drive drops at its reset is in QEMU's trace as if it had been done.
        done = m.trace("pci_cfg_write", device.bdf, "down")[-1].time
        assert not [when for when in lines[device.name].times if when > done]
    see_no_faults(owner)
