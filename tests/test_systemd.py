# SPDX-License-Identifier: GPL-2.0-only
"""Debian with systemd: a service leaves its session with systemd, and systemctl does the kexec."""

import json
import re

import pytest

from lab import Disk, MachineError, Nvme, Port
from lab.running import IOVA, Running, RunningSet
from update import (PAIR, go_down, see_busy, see_dma, see_no_faults, see_nothing_lost, see_stopped,
                    see_undisturbed, states)

SERVICE = "lab-worker@owner"
# Commands in a second: a whole system takes its time to stop and to start.
RATE = 4
# The same where it takes minutes: the drive's queue has to last
RATE_LONG = 2
# A file system; how long systemd waits here for what does not end (by default 90 s), and how long
# for sync(), which cannot be set
DATA = "/data"
WAIT = 10
WAIT_FOR_SYNC = 30


@pytest.fixture(autouse=True)
def fit(kernels):
    """Leave out the kernels that systemd cannot run on."""
    if kernels not in ("modules", "distro"):
        pytest.skip("built without kernel/config/system.config")


def see_settled(m):
    """See that systemd has started everything, and nothing has failed."""
    assert m.settled() == "running", m.sh("systemctl --failed --no-legend", check=False)


def boot(start, topology=(Port(Nvme("nvme0")),), setting=""):
    """Start a machine with systemd, and the service in it, with a setting of its own."""
    m = start(system=True, topology=topology)
    see_settled(m)
    if setting:
        m.sh(f"mkdir /etc/systemd/system/{SERVICE}.service.d;"
             f" printf '[Service]\\n{setting}\\n'"
             f" >/etc/systemd/system/{SERVICE}.service.d/more.conf; systemctl daemon-reload")
    m.sh(f"systemctl enable --now {SERVICE}")
    return m


def at_work(start, owner=RunningSet, rate=RATE, **options):
    """Start the machine, with a drive at work in its service; returns it and the owner."""
    m = boot(start, **options)
    owner = owner(m, rate=rate)
    owner.open("nvme0")
    owner.start()
    return m, owner


def at_work_and_stored(start, **options):
    """The same, and systemd has the session in which the drive is preserved."""
    m, owner = at_work(start, **options)
    owner.preserve()
    owner.store()
    return m, owner


def stored(m):
    """Return how many files of the service systemd keeps."""
    return int(m.sh(f"systemctl show -P NFileDescriptorStore {SERVICE}"))


def tool_kexec(m):
    """Return the operator's command for an update."""
    return (f"vfio-liveupdate kexec --kernel {m.next_kernel.guest_image}"
            " --initrd /sys/firmware/initrd --reuse-cmdline")


def kexec(m, command=None):
    """Have systemctl kexec into the next kernel, or a command, and see that all is well there."""
    if command:
        m.kexec_by(command)
    else:
        m.kexec()
    see_settled(m)
    assert m.sh(f"systemctl is-active {SERVICE}") == "active"


@pytest.mark.thorough
def test_session(start):
    """A session in the file descriptor store crosses, one update after the other."""
    m = boot(start)
    # What people have in the shell on the console.
    path = m.sh("systemctl show -P Environment debug-shell.service")
    said = m.sh(f"env {path} sh -c 'vfio-liveupdate status'")
    assert said == "There are no live update sessions."
    w = m.worker("owner")
    w("memfd", "M", "1m")
    w("mem_fill", "M", 0, "1m", 7)
    for _ in range(2):
        w("session_create", "S", "memory")
        w("preserve", "S", 3, "M")
        w("fdstore", "S", "session")
        m.sh("sleep 1")
        assert stored(m) == 1
        kexec(m)
        assert w("listen_names").values == ["session"]
        w("listen", "S", "session")
        w("retrieve", "S", 3, "M")
        w("mem_check", "M", 0, "1m", 7)
        w("finish", "S")
        w("close", "S")
        w("fdstore_remove", "session")


def take_over(owner):
    """Take over what systemd has kept, and let it go."""
    owner.retrieve(stored=True)
    end(owner)


def end(owner):
    """End an update in which the drive went on, and the session that systemd has kept."""
    see_busy(owner)
    owner.handover()
    owner.finish()
    owner("fdstore_remove", owner.session)
    assert states(owner) == {"none"}
    see_nothing_lost(owner.settle(), least=10)
    see_no_faults(owner)
    see_dma(owner)


def status(m):
    """Return the states that the tool tells of the machine's devices and of the files with them."""
    said = json.loads(m.sh("vfio-liveupdate status --json"))
    assert all(device["mode"] == "running" for device in said["devices"])
    return {line["state"] for key in ("devices", "files") for line in said[key]}


@pytest.mark.thorough
def test_running(start):
    """A service's drive never stops while systemd takes the machine from kernel to kernel.

    The service has what it takes along in a set of the library, whose session is in its file
    descriptor store; the operator has the tool.
    """
    m, owner = at_work(start)
    m.sh("vfio-liveupdate check --running")
    owner.preserve()
    owner.store()
    assert status(m) == {"preserved"}
    kexec(m, tool_kexec(m))
    assert status(m) == {"waiting"}
    owner.retrieve(stored=True)
    assert status(m) == {"retrieved"}
    end(owner)
    see_undisturbed(owner)


def see_refusal(m, what):
    """See that the kernel refuses when systemd is at its end, and that the machine reboots."""
    m.kexec_load()
    with pytest.raises(MachineError, match="the machine was reset"):
        m.kexec_go()
    said = m.console_text("freeze")
    assert re.search(rf"Freeze failed! .*{what}", said)
    assert "Failed to kexec: Invalid argument" in said
    assert said.rpartition("Failed to kexec")[2].count("Rebooting.") == 1


@pytest.mark.thorough
def test_refused(start):
    """What the kernel refuses when all services are stopped ends in an ordinary reboot."""
    m = boot(start, topology=PAIR)
    owner = Running(m, rate=RATE)
    owner.open("nvme0")
    owner.open("igb0", marked=False)
    owner.start()
    owner("dmabuf_export", "Digb0", "B", 0, 0, 4096)
    owner("ioas_map_file", "I", "A", "B", 0, 4096, IOVA >> 1)
    owner.preserve()
    owner.store()
    see_refusal(m, "maps its BAR")


@pytest.mark.thorough
def test_crashed(start):
    """A service that dies with interrupts on, and is not started again, loses nothing by that."""
    m, owner = at_work_and_stored(start)
    owner("vfio_irq_on", "Dnvme0", "MSIX", 1)
    m.sh(f"systemctl kill -s KILL {SERVICE}")
    assert m.sh(f"systemctl is-failed {SERVICE}") == "failed"
    assert stored(m) == 1
    assert states(owner) == {"outgoing running"}
    kexec(m)
    take_over(owner)


# --- a file system that cannot be unmounted ---

def have_it_open(m):
    """Let a process that systemd spares have its working directory there."""
    unit = ("[Unit]\\nDefaultDependencies=no\\nIgnoreOnIsolate=yes\\n[Service]\\n"
            f"WorkingDirectory={DATA}\\nExecStart=@/bin/sleep @holder infinity\\n")
    m.sh(f"printf '{unit}' >/run/systemd/system/holder.service; systemctl daemon-reload;"
         " systemctl start holder")


def freeze(m):
    """Freeze a file system and let somebody write to it, whom no signal ends then."""
    m.sh(f"fsfreeze -f {DATA}")
    m.worker("writer").start("sh", f"echo >{DATA}/file")
    m.sh("until grep -q ^State:.D /proc/[0-9]*/status; do sleep 0.1; done")


def silence(m):
    """Let a file system's disk answer no more, which the tool sees before anything is stopped."""
    m.throttle_writes("data", 1)
    m.sh(f"dd if=/dev/zero of={DATA}/file bs=64k count=10 2>&1")
    m.sh(f"! {tool_kexec(m)} 2>/tmp/said && grep 'no answer from vdb' /tmp/said")
    assert m.sh(f"systemctl is-active {SERVICE}") == "active"


@pytest.mark.thorough
@pytest.mark.parametrize("spoil, least, said", [
    (have_it_open, 0, "Unable to finalize remaining file systems, ignoring"),
    # The writer's service, and systemd-shutdown: SIGTERM and SIGKILL, and a wait after each
    (freeze, 4 * WAIT, "Unable to finalize remaining file systems, ignoring"),
    # Unmounting, SIGTERM and SIGKILL; sync(); SIGTERM and SIGKILL; sync()
    (silence, 5 * WAIT + 2 * WAIT_FOR_SYNC, "Syncing filesystems .* timed out"),
], ids=lambda value: getattr(value, "__name__", ""))
def test_busy_file_system(start, spoil, least, said):
    """What cannot be unmounted delays systemctl kexec, which then goes on; so does the drive."""
    m, owner = at_work_and_stored(start, rate=RATE_LONG,
                                  topology=(Port(Nvme("nvme0")), Port(Disk("data"))))
    m.sh(f"mkdir {DATA} /run/systemd/system.conf.d; mount /dev/vdb {DATA}; printf"
         f" '[Manager]\\nDefaultTimeoutStartSec={WAIT}\\nDefaultTimeoutStopSec={WAIT}\\n'"
         " >/run/systemd/system.conf.d/wait.conf; systemctl daemon-reload")
    # What some kernels say of a task that waits for its disk
    m.expect_splat("INFO: task .* blocked|Call Trace")
    spoil(m)
    kexec(m)
    assert least < m.marks["jump"] - m.marks["freeze"] < least + 60
    assert re.search(said, m.console_text("freeze"))
    take_over(owner)
    see_undisturbed(owner)


@pytest.mark.thorough
def test_devices_in_the_store(start):
    """Devices in the store itself cross, too, but somebody has to finish systemd's session."""
    m, owner = at_work(start, Running)
    # systemd preserves what came last first: a device before its marked page table is refused.
    names = {"Dnvme0": "device", "I": "iommufd", "Mnvme0": "memory"}
    for thing, name in names.items():
        owner("fdstore", thing, name)
    kexec(m)
    assert states(owner) == {"incoming running"}
    assert set(owner("listen_names").values[0].split(":")) == set(names.values())
    for thing, name in names.items():
        owner("listen", thing, name)
    owner.bind()
    owner.handover()
    # systemd could not finish it while the restored page table was in use.
    assert states(owner) == {"incoming running"}
    owner("session_retrieve", "S", "systemd")
    owner.finish()
    assert states(owner) == {"none"}
    see_nothing_lost(owner.settle(), least=10)
    # systemd preserves after the order to jump, and preserve disables INTx.
    see_undisturbed(owner, m.marks["freeze"])
    see_no_faults(owner)


@pytest.mark.thorough
def test_session_of_systemd(start):
    """A session that systemd makes (LUOSession=) is good for one update, then for no other."""
    m = boot(start, setting="LUOSession=mine")
    w = m.worker("owner")

    def preserve():
        w("listen", "S", "mine")
        w("memfd", "M", "1m")
        w("mem_fill", "M", 0, "1m", 7)
        return w("preserve", "S", 3, "M")

    preserve()
    kexec(m)
    w("listen", "S", "mine")
    w("retrieve", "S", 3, "M")
    w("mem_check", "M", 0, "1m", 7)
    w("finish", "S")
    # It is the incoming one, also for the next process.
    assert w.fails("preserve", "S", 3, "M") == "EINVAL"
    m.sh(f"systemctl restart {SERVICE}")
    w("listen", "S", "mine")
    w("memfd", "M", "1m")
    assert w.fails("preserve", "S", 3, "M") == "EINVAL"
    # Without it the next start of the service makes a new one.
    w("fdstore_remove", "mine")
    m.sh(f"systemctl restart {SERVICE}")
    preserve()


@pytest.mark.thorough
def test_reboot(start):
    """An ordinary reboot by systemd stops the drive that a session in its store has."""
    _, owner = at_work_and_stored(start)
    see_stopped(owner, go_down(owner, "systemctl reboot"))
