# SPDX-License-Identifier: GPL-2.0-only
"""Virtual machines of a stock QEMU live through the replacement of the host's kernel."""

import re

import pytest

from lab import Igb, Nvme, Port, pci, stamped
from lab.kept import KeptVm
from lab.timeline import Timeline
from lab.witness import Witness

# Reads in a second, and how many are under way: the queue lasts for longer than a machine with
# systemd takes from one kernel to the other.
RATE, DEPTH = 4, 512
# The inner kernel gives a command up after 255 s of its own time, by default after 30.
PATIENT = "nvme_core.io_timeout=255"
DEEP = f"inner.depth={DEPTH} {PATIENT}"
# Frames that come while it stands still have to have room in the controller's ring.
FIRST_FRAME, FRAME_RATE = 1000, 3
WRONG = ("bad", "errors", "timeouts", "polled", "resets", "hangs", "splats", "lost", "repeated",
         "wrong")
REFUSED = 4
# Stands in the place of QEMU, and fails as often as there are files, when it is to go on.
BAD_QEMU = r"""#!/bin/sh
set -- /usr/bin/qemu-system-x86_64 "$@"
[ "$QEMU_CPR_EXEC_STATE" ] || exec "$@"
for file in /var/lib/bad/*; do
  [ ! -e "$file" ] || { rm "$file"; exit 1; }
done
exec "$@"
"""


@pytest.fixture(autouse=True)
def fit(kernels):
    """Leave out the kernels that have no KVM."""
    if kernels != "modules":
        pytest.skip("built without kernel/config/system.config")


def see_good(report):
    """See that nothing is wrong in a report."""
    assert not {key: report[key] for key in WRONG if report[key]}


def drive(name):
    """Return a drive whose blocks tell which they are."""
    return Port(Nvme(name, content=stamped(name)))


class Update:
    """A machine with virtual machines at work, and what is looked at over an update of it."""

    def __init__(self, m, *vms):
        """Take down how it is before."""
        self.m = m
        self.vms = vms
        self.release = m.sh("uname -r")
        self.before = {vm.name: vm.progress() for vm in vms}
        self.witnesses = {bdf: (Witness(m, bdf, carries=True), m.config(bdf)) for bdf in
                          (m.bdf(name) for vm in vms for name in vm.devices)}

    def jump(self, command=None):
        """Replace the kernel, and see that the virtual machines go on."""
        if command:
            self.m.kexec_by(command)
        else:
            self.m.kexec()
        self.see_going()

    def see_going(self):
        """See that the virtual machines go on in the next kernel, each in another QEMU."""
        assert self.m.sh("uname -r") != self.release
        for vm in self.vms:
            status = vm.wait_state("running")
            self.m.mark(f"{vm.name} goes on")
            # What it takes to get it from the previous kernel
            assert status["times"]["retrieve"] > 0
            before = self.before[vm.name]
            now = vm.progress()
            now = vm.wait(lambda r, t=now["monotonic"]: r["monotonic"] > t + 1)
            assert now["boot_id"] == before["boot_id"]
            assert now["done"] >= before["done"]
            assert now["monotonic"] > before["monotonic"]

    def see_undisturbed(self):
        """See that from the order to jump until they went on nobody touched the devices.

        In the end their interrupts are armed again, which is their owner's own doing.
        """
        m, until = self.m, max(self.m.marks[f"{vm.name} goes on"] for vm in self.vms)
        for bdf, (witness, config) in self.witnesses.items():
            control = pci.msix_control(config)
            armed = m.config_writes(bdf, control, "freeze", until)[1].time
            assert witness.findings("freeze", armed - 1e-6).complaints() == []
            assert witness.findings(armed, until).faults == []
            later = {event.offset for event in m.trace("pci_cfg_write", bdf, armed, until)}
            assert later <= {control, pci.COMMAND}
            assert {*m.command_writes(bdf, armed, until)} <= {pci.word(config, pci.COMMAND)}

    def see_reads(self, rate):
        """See that drives went on with what they had been told to read."""
        since, until = self.m.marks["freeze"], self.m.marks[f"{self.vms[0].name} goes on"]
        moments = Timeline(event.time for event in
                           self.m.trace("pci_nvme_enqueue_req_completion", None, since, until)
                           if event.fields["cqid"])
        assert len(moments.within(since, until)) > rate * (until - since) / 2
        assert moments.longest_gap(since, until) < 10 / rate


def at_work(start, words=DEEP, **options):
    """Start a machine, and a virtual machine that reads a drive; returns both."""
    m = start(vm=True, topology=(drive("nvme0"),))
    vm = KeptVm(m, ["nvme0"], words=words, **options)
    vm.start()
    vm.wait_reads(50)
    return m, vm


def tool_kexec(m):
    """Return the operator's command for an update."""
    return (f"vfio-liveupdate kexec --kernel {m.next_kernel.guest_image}"
            " --initrd /sys/firmware/initrd --reuse-cmdline")


def pid(vm):
    """Return the number of QEMU's process."""
    return vm.status()["pid"]


@pytest.mark.parametrize("updates", [1, pytest.param(3, marks=pytest.mark.thorough)])
def test_update(start, updates):
    """A drive with a deep queue works on while its virtual machine stands still."""
    m, vm = at_work(start)
    for _ in range(updates):
        m.throttle("nvme0", RATE)
        update = Update(m, vm)
        update.jump()
        update.see_undisturbed()
        update.see_reads(RATE)
        m.throttle("nvme0", 0)
        see_good(vm.wait_reads(2 * DEPTH))


@pytest.mark.thorough
def test_depth_one(start):
    """One read is under way when the machine stops: its interrupt must not be lost."""
    m, vm = at_work(start, words="inner.depth=1")
    m.throttle("nvme0", 1)
    Update(m, vm).jump(tool_kexec(m))
    m.throttle("nvme0", 0)
    # A lost one would be found after 30 s by a time-out
    see_good(vm.wait_reads(50, timeout=20))


@pytest.mark.thorough
def test_two_devices(start):
    """A drive and a network controller; frames that came meanwhile are delivered afterwards."""
    m = start(vm=True, topology=(drive("nvme0"), Port(Igb("igb0"))))
    vm = KeptVm(m, ["nvme0", "igb0"], words=f"{DEEP} inner.igb")
    vm.start()
    vm.wait(lambda report: report["drives"] == 1 and report["wires"] == 1)
    stream = m.wires["igb0"].stream(FIRST_FRAME, FRAME_RATE)
    vm.wait(lambda report: report["received"] > 0 and report["done"] > 50)
    m.throttle("nvme0", RATE)
    update = Update(m, vm)
    update.jump()
    update.see_undisturbed()
    m.throttle("nvme0", 0)
    after = stream.stop()
    see_good(vm.wait(lambda report: report["eth0.next"] == after))
    see_good(vm.wait_reads(2 * DEPTH))


@pytest.mark.thorough
def test_unused_device(start):
    """A network controller that nobody has turned on has MSI-X without any vector."""
    m = start(vm=True, topology=(drive("nvme0"), Port(Igb("igb0"))))
    vm = KeptVm(m, ["nvme0", "igb0"], words=DEEP)
    vm.start()
    vm.wait_reads(50)
    control = pci.msix_control(m.config(m.bdf("igb0")))
    assert pci.word(m.config(m.bdf("igb0")), control) & pci.MSIX_ENABLE
    Update(m, vm).jump()
    see_good(vm.wait_reads(2 * DEPTH))


@pytest.mark.thorough
def test_three_machines(start):
    """Two virtual machines go along, each with a drive; a third is turned off, with its own."""
    m = start(vm=True, memory="3G", topology=(drive("nvme0"), drive("nvme1"), drive("nvme2")))
    vms = [KeptVm(m, [f"nvme{i}"], name=f"vm{i}", words=DEEP, memory=96) for i in range(3)]
    for vm in vms:
        vm.start()
        vm.wait_reads(20)
    m.sh(f"systemctl disable -q {vms[2].unit}; lu-qemu status")
    m.sh(f"systemctl kill -s KILL {vms[2].unit}; while systemctl -q is-active {vms[2].unit};"
         " do sleep 0.1; done")
    for i in range(2):
        m.throttle(f"nvme{i}", RATE)
    update = Update(m, *vms[:2])
    update.jump()
    update.see_undisturbed()
    for i, vm in enumerate(vms[:2]):
        m.throttle(f"nvme{i}", 0)
        see_good(vm.wait_reads(2 * DEPTH))
    assert "vm2" not in m.sh("lu-qemu status")


def huge_pages_used(m):
    """Return how many huge pages are in use."""
    pool = dict(re.findall(r"HugePages_(\w+): +(\d+)", m.sh("cat /proc/meminfo")))
    return int(pool["Total"]) - int(pool["Free"])


@pytest.mark.thorough
def test_huge_pages(start):
    """Memory in huge pages goes along."""
    m = start(vm=True, topology=(drive("nvme0"),), append="hugepages=80")
    vm = KeptVm(m, ["nvme0"], words=DEEP, page="2M")
    vm.start()
    vm.wait_reads(50)
    used = huge_pages_used(m)
    assert used == 64
    update = Update(m, vm)
    update.jump()
    update.see_undisturbed()
    see_good(vm.wait_reads(2 * DEPTH))
    assert huge_pages_used(m) == used


@pytest.mark.thorough
def test_old_kernel(start):
    """From Linux 7.2 to 7.3, and back."""
    m = start(vm=True, topology=(drive("nvme0"),), kernel="7.2-lab-a", next_kernel="lab-b")
    vm = KeptVm(m, ["nvme0"], words=DEEP)
    vm.start()
    vm.wait_reads(50)
    for _ in range(2):
        update = Update(m, vm)
        update.jump()
        update.see_undisturbed()
        see_good(vm.wait_reads(2 * DEPTH))


# --- there and back ----------------------------------------------------------------------


@pytest.mark.thorough
def test_not_jumped(start):
    """Prepared, given up, saved, and resumed in the same kernel; each time it goes on."""
    m, vm = at_work(start)
    boot, first = vm.progress()["boot_id"], pid(vm)
    assert "memory is preserved" in vm.lu_qemu("prepare")
    assert vm.status()["state"] == "prepared"
    see_good(vm.wait_reads(DEPTH))
    vm.lu_qemu("abort")
    assert m.sh("vfio-liveupdate status") == "There are no live update sessions."
    see_good(vm.wait_reads(DEPTH))
    assert pid(vm) == first
    for back in ("resume", "abort"):
        assert "saved" in vm.lu_qemu("save")
        assert (vm.status()["state"], pid(vm)) == ("saved", 0)
        assert "running" in m.sh("vfio-liveupdate status")
        # Saved is saved
        vm.lu_qemu("save")
        m.sh("sleep 1")
        vm.lu_qemu(back)
        assert m.sh("vfio-liveupdate status") == "There are no live update sessions."
        report = vm.wait_reads(2 * DEPTH)
        see_good(report)
        assert report["boot_id"] == boot
    assert pid(vm) != first
    # Nothing is left that would stand against the real thing
    update = Update(m, vm)
    update.jump()
    see_good(vm.wait_reads(2 * DEPTH))


# --- what cannot go along ----------------------------------------------------------------


def refused(vm, change):
    """Start it with a changed command line; returns why it is refused."""
    command = vm.shell_command()
    assert re.search(change[0], command)
    said = vm.machine.sh(f"lu-qemu run x -- {re.sub(*change, command)} 2>&1; echo exit $?")
    assert f"exit {REFUSED}" in said
    return said


def no_devices(command):
    """Return a command without its devices, and with a console of its own."""
    return re.sub("vm.console", "vm2.console", re.sub(r"-device vfio-pci\S*", "", command))


def test_refusals(start):
    """It is said at once why a virtual machine could not be taken along; nothing is started."""
    m = start(vm=True, topology=(drive("nvme0"),))
    vm = KeptVm(m, ["nvme0"], words=DEEP)
    vm.install()
    for change, reason in (
            ((r",aux-ram-share=on", ""), "aux-ram-share=on"),
            ((r",share=on", ",share=off"), "share=on"),
            ((r"(host=\S+),iommufd=iommufd0", r"\1"), "without iommufd"),
            ((r"-object iommufd", "-device intel-iommu,caching-mode=on -object iommufd"), "IOMMU"),
            ((r"memory-backend-memfd", "memory-backend-file,mem-path=/tmp"), "of a file"),
    ):
        assert reason in refused(vm, change)
        assert m.sh("cat /proc/[0-9]*/comm | grep -c ^qemu || true").strip() == "0"
    # It can be started all the same
    command = re.sub(",aux-ram-share=on", "", vm.shell_command())
    m.sh(f"lu-qemu run --background --force vm -- {command} 2>&1")
    vm.wait_reads(50)
    assert "aux-ram-share=on" in vm.status()["problems"][0]
    # But not be saved, nor can one that is no service, where there is systemd
    said = m.sh("lu-qemu save vm 2>&1; echo exit $?")
    assert f"exit {REFUSED}" in said and "no service" in said
    said = m.sh("NOTIFY_SOCKET=/run/none FDSTORE=1 lu-qemu run --background --force vm2"
                f" -- {no_devices(command)} 2>&1; lu-qemu save vm2 2>&1; echo exit $?")
    assert f"exit {REFUSED}" in said and "aux-ram-share=on" in said
    see_good(vm.wait_reads(50))


# --- what dies ---------------------------------------------------------------------------


def bad_qemu(m, times):
    """Let a QEMU that is to go on fail some times."""
    lines = BAD_QEMU.replace("\n", "\\n")
    m.sh(f"mkdir -p /var/lib/bad; printf '{lines}' >/usr/local/bin/qemu-system-x86_64;"
         " chmod +x /usr/local/bin/qemu-system-x86_64")
    m.sh(f"cd /var/lib/bad; touch {' '.join(map(str, range(times)))}")


@pytest.mark.thorough
@pytest.mark.parametrize("times", [1, 4])
def test_load_fails(start, times):
    """QEMU dies while it loads: tried again; kept when it fails for good, until asked to resume."""
    m, vm = at_work(start)
    m.throttle("nvme0", RATE)
    bad_qemu(m, times)
    update = Update(m, vm)
    m.kexec()
    m.settled()
    if times > 3:
        assert vm.status()["state"] == "kept"
        assert "incoming" in m.sh("vfio-liveupdate status")
        vm.lu_qemu("resume")
    update.see_going()
    update.see_undisturbed()
    m.throttle("nvme0", 0)
    see_good(vm.wait_reads(2 * DEPTH))


@pytest.mark.thorough
def test_keeper_dies(start):
    """The keeper is killed when it keeps what came: started again, it has it from systemd."""
    m, vm = at_work(start)
    bad_qemu(m, 3)
    update = Update(m, vm)
    m.kexec()
    m.settled()
    assert vm.status()["state"] == "kept"
    m.sh(f"kill -9 {vm.status()['keeper']}; sleep 1; systemctl reset-failed {vm.unit};"
         f" systemctl start {vm.unit}")
    update.see_going()
    see_good(vm.wait_reads(2 * DEPTH))


@pytest.mark.thorough
@pytest.mark.parametrize("state", ["running", "prepared"])
def test_qemu_dies(start, state):
    """QEMU is killed: its service fails, and nothing stays preserved."""
    m, vm = at_work(start)
    if state == "prepared":
        vm.lu_qemu("prepare")
    boot = vm.progress()["boot_id"]
    m.sh(f"kill -9 {pid(vm)}; while systemctl -q is-active {vm.unit}; do sleep 0.1; done")
    assert m.sh("vfio-liveupdate status") == "There are no live update sessions."
    m.sh(f"systemctl reset-failed {vm.unit}; systemctl start {vm.unit}")
    vm.wait(lambda report: report["boot_id"] != boot and report["done"] > 50)


@pytest.mark.thorough
def test_turned_off(start):
    """A service that is stopped, and not for a kexec, turns the machine off, saved or not."""
    m, vm = at_work(start)
    boot = vm.progress()["boot_id"]
    vm.lu_qemu("save")
    m.sh(f"systemctl stop {vm.unit}", timeout=200)
    assert m.sh("vfio-liveupdate status") == "There are no live update sessions."
    m.sh(f"systemctl start {vm.unit}")
    vm.wait(lambda report: report["boot_id"] != boot and report["done"] > 50)
