# SPDX-License-Identifier: GPL-2.0-only
"""A process whose devices go on working through a live update, and the work that they do.

A drive, NVMe, virtio or vhost, has a long queue of commands before it and does a few of them each
second; a network controller receives numbered frames at a fixed rate. Both go on whatever happens
to the machine.
A virtual function works beside the physical one, which is opened first and governs it:
before.open("igb0", "igb0vf0", "igb0vf1"). Those of virtio need nobody who does.

The process marks the devices' page tables, preserves memory, iommufd and devices; another process
in the next kernel takes them over and puts page tables of its own in the place of the old ones.

    before = Running(machine)
    before.open("nvme0", "igb0")
    before.start()
    before.preserve()
    machine.kexec()
    before.retrieve()       # in a process of the same name, in the next kernel
    before.handover()
    before.finish()
    print(before.settle())

Running takes each step by itself, as a test of one of them needs it. RunningSet does the same as
a program would that has libliveupdate: all of a step in one call, and nothing to remember.
"""

from dataclasses import dataclass

from . import timeline
from .topology import VF_QUEUES, VF_VECTORS, function, namespace_of
from .wire import BROADCAST, address, group
from .witness import Witness

IOVA = 0x10_0000_0000
SPACING = 1 << 24
MEMORY = {"nvme": 8 << 20, "virtio": 8 << 20, "vhost": 8 << 20, "igb": 4 << 20,
          "vnet": 8 << 20}
# The commands of each kind of drive. A vhost device is a virtio one for its driver.
DRIVES = {"nvme": "nvme", "virtio": "virtio", "vhost": "virtio"}
# Commands in a second, and on kernels for debugging, which take many times as long. Ten times the
# time between two commands has to be longer than a busy host lets a machine stand still.
RATE = 20
RATE_SLOW = 10
# Frames for each command: another rate, so that one is not taken for the other.
FRAMES = 0.8
# The drive's queue holds one command less than it has entries.
COMMANDS = 1023
BLOCKS_OF_COMMAND = 8
SEED = 21
FIRST_FRAME = 1000
# The frames of one device are far from those of all others.
FRAMES_APART = 1 << 32
# The frames of the host, and how many in a second
HOST_FRAME = 1 << 48
HOST_RATE = 25
# The MSI-X vector of a drive's I/O queue, where NVMe's admin queue has 0, and of a controller's
# frames.
VECTOR = 1
FIRST_QUEUE = 10
IOMMUFD_TOKEN = 90
# What vfio-pci asks of the users of a physical function and its virtual ones.
VF_TOKEN = "6e6f6e65-6f66-796f-7572-627573696e65"
PATIENCE_MS = 20000


@dataclass
class Device:
    """A device, and the names and numbers that belong to it.

    vfs: how many functions it governs; ruled: it is a virtual one, beside one of VFIO's. vdev: a
    virtio device's place in QEMU's memory, from its driver's start on; vq: that of its queue.
    """

    name: str
    number: int
    bdf: str = None
    page: int = 0
    vfs: int = 0
    ruled: bool = False
    witness: Witness = None
    hwpt: str = None
    stream: object = None
    before: int = 0
    group: bool = False
    vdev: int = None
    vq: int = None

    @property
    def kind(self):
        """What it is: nvme, virtio, vhost, vnet or igb."""
        return self.physical.rstrip("0123456789")

    @property
    def commands(self):
        """What its driver's commands begin with."""
        return DRIVES.get(self.kind, self.kind)

    @property
    def is_drive(self):
        """Whether it is a drive, and not a network controller."""
        return self.kind in DRIVES

    @property
    def physical(self):
        """Name of its physical function: its own, unless it is a virtual one."""
        return function(self.name)[0]

    @property
    def virtual(self):
        """Number of a virtual function; None for others."""
        return function(self.name)[1]

    @property
    def vf_token(self):
        """The token to bind it by, where it needs one."""
        return [VF_TOKEN] if self.vfs or self.ruled else []

    @property
    def file(self):
        """Name of its file in the process."""
        return f"D{self.name}"

    @property
    def memory(self):
        """Name of its DMA memory in the process."""
        return f"M{self.name}"

    @property
    def driver(self):
        """Name of its driver in the process."""
        return f"X{self.name}"

    @property
    def size(self):
        """Size of its DMA memory."""
        return max(MEMORY[self.kind], self.page)

    @property
    def iova(self):
        """Where it sees its DMA memory."""
        return IOVA + self.number * SPACING

    @property
    def queue(self):
        """Number of an NVMe drive's I/O queue."""
        return FIRST_QUEUE + self.number

    @property
    def first_frame(self):
        """Number of the first frame that is sent to a controller."""
        return FIRST_FRAME + self.number * FRAMES_APART

    @property
    def address(self):
        """Where its frames are sent to."""
        if self.group:
            return group(self.virtual)
        return BROADCAST if self.virtual is None else address(self.virtual)

    @property
    def tokens(self):
        """Tokens of its file, its memory, and its page table."""
        return 1 + self.number, 30 + self.number, 60 + self.number


@dataclass(frozen=True)
class Account:
    """What became of a device's work: how much of it there was, how much came out right."""

    given: int
    good: int
    details: dict

    @property
    def lost(self):
        """What did not come out right, or more than once."""
        return self.given - self.good + self.details.get("strange", 0) \
            + self.details.get("repeated", 0)


class Running:
    """A process and its devices; rules: the physical functions of virtual ones are VFIO's, too."""

    rules = True

    def __init__(self, machine, name="owner", *, session="running", first=0, rate=None, page=0,
                 interrupts=False, host=None):
        """Name the process and its session; first is the number of its first device.

        page: the size of the huge pages that DMA memory is of. interrupts: whenever the process
        waits for a device it sleeps until that raises an interrupt; these are on at the jump,
        and go along. host: the process, another Running, that has the physical functions of its
        virtual ones.
        """
        self.machine = machine
        self.worker = machine.worker(name)
        self.session = session
        self.devices = {}
        self.rate = rate or (RATE_SLOW if machine.slow else RATE)
        self.frame_rate = self.rate * FRAMES
        self._first = first
        self._page = page
        self._interrupts = interrupts
        self._host = host or self

    def __call__(self, *words, **options):
        """Run a command in the process."""
        return self.worker(*words, **options)

    def fails(self, *words, **options):
        """Run a command that must fail; returns its error's name."""
        return self.worker.fails(*words, **options)

    # --- in the outgoing kernel ---

    def open(self, *names, shared=False, marked=True, flags=0):
        """Open devices, each attached to a page table that is marked; shared: all to one.

        flags are the kernel's, for page tables. Virtual functions are made where there are none,
        before their physical one is opened.
        """
        for name in names:
            device = self._device(name, names)
            self("vfio_open", device.file, device.bdf)
            if "I" not in self.worker.objects():
                self("iommufd", "I")
                self("ioas", "I", "A")
            self("vfio_bind", device.file, "I", *device.vf_token)
            others = [other.hwpt for other in self.devices.values()]
            self.devices[name] = device
            device.hwpt = others[0] if shared and others else f"H{name}"
            if device.hwpt not in others:
                self("hwpt_alloc_raw", "I", device.file, "A", device.hwpt, flags)
            self("vfio_attach", device.file, device.hwpt)
            if marked and device.hwpt not in others:
                self.mark(device)

    def _device(self, name, names):
        """Return one of the devices of these names, which is vfio-pci's then."""
        needed = [number + 1 for physical, number in map(function, names)
                  if physical == name and number is not None]
        device = Device(name, self._first + len(self.devices), page=self._page)
        device.ruled = device.virtual is not None and self.rules
        if device.virtual is None:
            device.vfs = self.machine.vfs(name, max(needed, default=0))
        device.bdf = self.machine.bdf(name)
        # To be bound again is to lose all virtual functions.
        if not device.vf_token:
            self.machine.bind_vfio(device.bdf)
        return device

    def mark(self, device):
        """Mark a device's page table, so that it goes along."""
        self("hwpt_mark", "I", device.hwpt, device.tokens[2])

    def start(self):
        """Start the devices' drivers and give them work."""
        for device in self.devices.values():
            self.worker.dma_memory(device.memory, device.size, device.iova, page=device.page)
            self._govern(device, "nvme_online", VF_QUEUES, VF_VECTORS)
            if self._interrupts:
                self("vfio_irq_restore", device.file, "MSIX", VECTOR + 1)
                self("vfio_irq_carry", device.file, 1)
            self._drive(device)
            self._govern(device, "igb_admit")
            # Driving it is when its config space is touched: bus mastering goes on.
            device.witness = Witness(self.machine, device.bdf, self._interrupts)
        self.work()

    def _govern(self, device, command, *words):
        """Tell the driver of a physical function of this kind something about a virtual one."""
        if device.virtual is not None and command.startswith(device.kind):
            driver = self._host.devices[device.physical].driver
            self._host(command, driver, device.virtual, *words)

    def _drive(self, device):
        """Start a device's driver."""
        place = device.driver, device.file, device.memory, device.iova
        if device.kind == "nvme":
            self("nvme_start", *place, device.queue, *[VECTOR] * self._interrupts)
            if device.virtual is not None:
                self("nvme_namespace", device.driver, namespace_of(device.name))
        elif device.commands == "virtio":
            began = len(self.machine.trace())
            self("virtio_start", *place, *[VECTOR] * self._interrupts)
            device.vdev = timeline.virtio_device(self.machine.trace()[began:])
        elif device.kind == "vnet":
            self.machine.trace_more("virtio_queue_notify", "virtqueue_flush")
            began = len(self.machine.trace())
            self("vnet_start", *place)
            events = self.machine.trace()[began:]
            device.vdev = timeline.virtio_device(events)
            device.vq = timeline.virtio_queue(events, device.vdev)
        elif device.virtual is not None:
            self("igbvf_start", *place)
        else:
            self("igb_start", *place, device.vfs)
        if device.kind == "igb" and self._interrupts:
            self("igb_irq", device.driver, VECTOR)

    def work(self):
        """Give the devices work."""
        for device in self.devices.values():
            if device.is_drive:
                blocks = COMMANDS * BLOCKS_OF_COMMAND
                self(f"{device.commands}_write", device.driver, 0, blocks, SEED)
                device.before = self.account(device)["submitted"]
                self.throttle(device, self.rate)
                self(f"{device.commands}_queue_mixed", device.driver, 0, blocks, SEED)
            else:
                self(f"{device.commands}_rx_begin", device.driver, device.first_frame)
                wires = self.machine.wires
                wire = wires.get(device.name) or wires[device.physical]
                device.stream = wire.stream(device.first_frame, self.frame_rate, device.address)
        self.machine.mark("load")

    def throttle(self, device, rate):
        """Let a drive do no more commands than that in a second; 0: as many as it can."""
        # Of what an NVMe drive has before it all is read by it, of a virtio drive's every other.
        self.machine.throttle(device.name, rate, writes=device.kind == "virtio")

    def refill(self):
        """Give drives as many new commands as they have done, and take the frames that came."""
        for device in self.devices.values():
            account = self.account(device)
            if device.is_drive and COMMANDS > account["busy"]:
                blocks = (COMMANDS - account["busy"]) * BLOCKS_OF_COMMAND
                self(f"{device.commands}_queue_mixed", device.driver, 0, blocks, SEED)

    def preserve(self, memory=True, iommufd=True, devices=True):
        """Make a session and put everything into it; or only some of it."""
        self("session_create", "S", self.session)
        for device in self.devices.values() if memory else ():
            self("preserve", "S", device.tokens[1], device.memory)
        if iommufd:
            self("preserve", "S", IOMMUFD_TOKEN, "I")
        for device in self.devices.values() if devices else ():
            self("preserve", "S", device.tokens[0], device.file)

    # --- in the incoming kernel ---

    def store(self):
        """Leave the session with systemd, under its own name; for a service."""
        self("fdstore", "S", self.session)

    def retrieve(self, order=("memory", "iommufd", "devices"), bind=True, stored=False):
        """Take everything out of the session, and have the devices where they were.

        stored: the session comes from systemd, which has retrieved it.
        """
        self("listen" if stored else "session_retrieve", "S", self.session)
        for what in order:
            if what == "iommufd":
                self("retrieve", "S", IOMMUFD_TOKEN, "I")
            for device in self.devices.values():
                if what == "devices":
                    self("retrieve", "S", device.tokens[0], device.file)
                elif what == "memory":
                    self("retrieve", "S", device.tokens[1], device.memory)
        if bind:
            self.bind()

    def bind(self):
        """Bind the devices' files to the iommufd, and go on with their drivers."""
        for device in self.devices.values():
            self("vfio_bind", device.file, "I", *device.vf_token)
        self.adopt()

    def adopt(self):
        """Go on with the devices' drivers where the process before stopped."""
        for device in self.devices.values():
            self(f"{device.commands}_adopt", device.driver, device.file, device.memory)
        self.machine.mark("retrieved")

    def arm(self):
        """Have the interrupts that came along on again."""
        for device in self.devices.values() if self._interrupts else ():
            self("vfio_irq_on", device.file, "MSIX", VECTOR + 1)

    def build(self, ioas="A"):
        """Make an address space that has what the old one had."""
        self("ioas", "I", ioas)
        for device in self.devices.values():
            self("ioas_map_file", "I", ioas, device.memory, 0, device.size, device.iova)

    def handover(self, ioas="A"):
        """Put new page tables in the place of the restored ones."""
        self.build(ioas)
        self.machine.mark("built")
        made = set()
        for device in self.devices.values():
            if device.hwpt not in made:
                self("hwpt_alloc", "I", device.file, ioas, device.hwpt)
            made.add(device.hwpt)
            self("vfio_attach", device.file, device.hwpt)
        self.machine.mark("handover")

    def finish(self):
        """Finish the session and let it go."""
        self("finish", "S")
        self("close", "S")

    # --- what it came to ---

    def account(self, device):
        """Take what a device has done, and return the account that its driver keeps."""
        command = f"{device.commands}_{'' if device.is_drive else 'rx_'}account"
        return self.worker.account(command, device.driver)

    def settle(self):
        """Let the devices end their work; returns an Account for each."""
        accounts = {}
        for device in self.devices.values():
            if device.is_drive:
                self.throttle(device, 0)
                self(f"{device.commands}_settle", device.driver)
                details = self.account(device)
                good = details["completed"] - details["errors"] - details["wrong"]
                accounts[device.name] = Account(details["submitted"] - device.before,
                                                good - device.before, details)
            else:
                after = device.stream.stop()
                details = self.worker.account(f"{device.commands}_rx_account", device.driver, after,
                                              PATIENCE_MS)
                accounts[device.name] = Account(after - device.first_frame, details["good"],
                                                details)
        return accounts

    def timelines(self, events=None):
        """Return when each device did DMA."""
        events = events if events is not None else self.machine.trace()
        return {device.name: self._timeline(device, events) for device in self.devices.values()}

    def _timeline(self, device, events):
        """Return when a device did DMA."""
        if device.kind == "nvme":
            return timeline.completions(events, device.queue)
        if device.kind == "virtio":
            return timeline.virtio_completions(events, device.vdev)
        if device.kind == "vnet":
            return timeline.virtio_uses(events, device.vq)
        if device.kind == "vhost":
            return self.machine.vhosts[device.name].timeline()
        return timeline.frames(events, device.iova, device.size)


class RunningSet(Running):
    """A process that has all that it takes along in a set of libliveupdate, P."""

    def open(self, *names, shared=False, marked=False):
        """Open devices, each attached to a page table of its own, which the set will mark."""
        super().open(*names, shared=shared, marked=marked)

    def describe(self, idle=()):
        """Make the set: what there is, and what is mapped where; idle devices go without."""
        if "P" in self.worker.objects():
            self("close", "P")
        self("set_new", "P")
        self("set_iommufd", "P", "I")
        self("set_ioas", "P", "A", "I")
        made = {"A"}
        for device in self.devices.values():
            self("set_memory", "P", device.memory)
            self("set_map", "P", "A", device.memory, 0, device.size, device.iova)
            table = "A" if device.name in idle else device.hwpt
            if table not in made:
                self("set_hwpt", "P", table, "A")
            made.add(table)
            self("set_device", "P", device.file, table)

    def preserve(self):
        """Preserve all of it in a session; a set that was taken over is there already."""
        if "P" not in self.worker.objects():
            self.describe()
        self("set_preserve", "P", self.session)

    def unpreserve(self):
        """Let it all be as before."""
        self("set_unpreserve", "P")

    def store(self):
        """Leave the session with systemd, under its own name; for a service."""
        self("set_session", "P", "S")
        super().store()
        self("close", "S")

    def retrieve(self, stored=False):
        """Take everything out of the session, and have the devices where they were.

        stored: the session comes from systemd, which has retrieved it.
        """
        self("listen" if stored else "session_retrieve", "S", self.session)
        self("set_open", "P", "S")
        self("close", "S")
        self("set_retrieve", "P")
        self.get()

    def get(self):
        """Take the files that were retrieved, and go on with the devices' drivers."""
        for device in self.devices.values():
            self("set_get", "P", device.memory)
            self("set_get", "P", device.file)
        self.adopt()

    def handover(self):
        """Put new page tables in the place of the restored ones."""
        self("set_handover", "P")
        self.machine.mark("handover")

    def finish(self):
        """Finish the session."""
        self("set_finish", "P")


class Guests(Running):
    """A process with virtual functions of a controller that is the host's network.

    groups are the numbers of those whose frames come to a multicast address.
    """

    rules = False

    def __init__(self, machine, name="owner", *, groups=(), **options):
        """Name the process; options are those of Running."""
        super().__init__(machine, name, **options)
        self._groups = groups

    def _govern(self, device, command, *words):
        """Let a virtual function receive, at the address that it asks for."""
        if command != "igb_admit":
            return
        self.begin(device)
        self("igbvf_address", device.driver, device.virtual)
        device.group = device.virtual in self._groups
        if device.group:
            self("igbvf_group", device.driver, device.virtual)

    def begin(self, device):
        """Tell the physical function's driver that we begin anew; returns the address we have."""
        self("igbvf_begin", device.driver)
        return self("igbvf_begun", device.driver).values[0]


class HostNetwork:
    """The host's network on a controller's physical function, which has virtual ones."""

    def __init__(self, machine, name, vfs):
        """Have a controller with its own driver, and virtual functions of it with vfio-pci."""
        self.machine = machine
        self.name = name
        self.bdf = machine.bdf(name)
        self._stream = None
        folder = f"/sys/bus/pci/devices/{self.bdf}"
        machine.sh(f"echo 0 >{folder}/sriov_drivers_autoprobe; echo {vfs} >{folder}/sriov_numvfs")
        for number in range(vfs):
            machine.bind_vfio(machine.bdf(f"{name}vf{number}"))
        self.up()

    def up(self):
        """Bring its interface up, and wait for the link."""
        self.interface = self.machine.sh(f"ls /sys/bus/pci/devices/{self.bdf}/net").strip()
        self.link("up")
        self.machine.sh(f"until [ $(cat /sys/class/net/{self.interface}/carrier) = 1 ];"
                        "do sleep 0.1; done")
        self._worker = self.machine.worker("host")
        if "E" in self._worker.objects():
            self._worker("close", "E")
        self.address = bytes.fromhex(
            self._worker("net_open", "E", self.interface).values[0].replace(":", ""))

    def link(self, state):
        """Bring its interface up or down."""
        self.machine.sh(f"ip link set {self.interface} {state}")

    def work(self):
        """Let numbered frames come."""
        self._worker("net_rx_begin", "E", HOST_FRAME)
        self._stream = self.machine.wires[self.name].stream(HOST_FRAME, HOST_RATE, self.address)

    def account(self):
        """Let no more frames come; returns an Account of those that came."""
        after = self._stream.stop()
        details = self._worker.account("net_rx_account", "E", after, PATIENCE_MS)
        return Account(after - HOST_FRAME, details["good"], details)

    def settle(self):
        """Let no more frames come; returns how many were lost."""
        account = self.account()
        details = account.details
        assert account.given and not details["wrong"] and not details["repeated"], account
        return account.lost

    def settle_nothing(self):
        """Let no more frames come, and do not ask for those that came."""
        self._stream.stop()

    def send(self, first, count):
        """Send frames, and see that they come out of the cable."""
        assert self.sent(first, count) == count

    def sent(self, first, count):
        """Send frames; returns how many come out of the cable, each at its place."""
        self._worker("net_tx", "E", first, count)
        came = self.machine.wires[self.name].receive(count)
        return sum(number == wanted for wanted, number in enumerate(came, first))
