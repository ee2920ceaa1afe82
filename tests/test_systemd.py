# SPDX-License-Identifier: GPL-2.0-only
"""Debian with systemd: a service leaves its session with systemd, and systemctl does the kexec."""

import json

import pytest

from lab import Nvme, Port
from lab.running import RunningSet
from update import see_busy, see_dma, see_no_faults, see_nothing_lost, see_undisturbed, states

SERVICE = "lab-worker@owner"
# Commands in a second: a whole system takes its time to stop and to start.
RATE = 4


@pytest.fixture(autouse=True)
def fit(kernels):
    """Leave out the kernels that systemd cannot run on."""
    if kernels != "modules":
        pytest.skip("built without kernel/config/system.config")


def boot(start, **options):
    """Start a machine with systemd, and the service in it."""
    m = start(system=True, topology=(Port(Nvme("nvme0")),), **options)
    assert m.settled() == "running", m.sh("systemctl --failed --no-legend", check=False)
    m.sh(f"systemctl enable --now {SERVICE}")
    return m


def stored(m):
    """Return how many files of the service systemd keeps."""
    return int(m.sh(f"systemctl show -P NFileDescriptorStore {SERVICE}"))


def kexec(m, command=None):
    """Have systemctl kexec into the next kernel, or a command, and see that all is well there."""
    if command:
        m.kexec_by(command)
    else:
        m.kexec()
    assert m.settled() == "running", m.sh("systemctl --failed --no-legend", check=False)
    assert m.sh(f"systemctl is-active {SERVICE}") == "active"


@pytest.mark.thorough
def test_session(start):
    """A session in the file descriptor store crosses, one update after the other."""
    m = boot(start)
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


def status(m):
    """Return the states that the tool tells of the machine's devices and of the files with them."""
    said = json.loads(m.sh("vfio-liveupdate status --json"))
    assert all(device["mode"] == "running" for device in said["devices"])
    return {line["state"] for key in ("devices", "files") for line in said[key]}


def test_running(start):
    """A service's drive never stops while systemd takes the machine from kernel to kernel.

    The service has what it takes along in a set of the library, whose session is in its file
    descriptor store; the operator has the tool.
    """
    m = boot(start)
    owner = RunningSet(m, rate=RATE)
    owner.open("nvme0")
    owner.start()
    m.sh("vfio-liveupdate check --running")
    owner.preserve()
    owner.store()
    assert status(m) == {"preserved"}
    kexec(m, f"vfio-liveupdate kexec --kernel {m.next_kernel.guest_image}"
          " --initrd /sys/firmware/initrd --reuse-cmdline")
    assert status(m) == {"waiting"}
    owner.retrieve(stored=True)
    assert status(m) == {"retrieved"}
    see_busy(owner)
    owner.handover()
    owner.finish()
    owner("fdstore_remove", owner.session)
    assert states(owner) == {"none"}
    see_nothing_lost(owner.settle(), least=10)
    see_undisturbed(owner)
    see_no_faults(owner)
    see_dma(owner)
