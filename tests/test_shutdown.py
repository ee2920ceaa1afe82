# SPDX-License-Identifier: GPL-2.0-only
"""The old kernel does not come to its end: a driver takes long in shutdown, or for ever."""

import time
from dataclasses import dataclass

import pytest

from lab import Igb, MachineError, Nvme, Port
from lab.running import Running
from update import Owner, see_dma, see_good_update, see_no_faults, take_over, see_undisturbed

SECONDS = 12
# What a kernel says when the lab at last tells it to panic
END = "Kernel panic - not syncing: NMI|Call Trace"
# The watchdog's register in its configuration space that turns it on and off
LOCK = 0x68


@dataclass(frozen=True)
class Watchdog:
    """A watchdog that resets the machine when nobody looks after it."""

    name: str

    def arguments(self, bus, run):
        """Return QEMU's arguments: it is an ordinary PCI device, below no port of PCI Express."""
        del bus, run
        return ["-device", f"i6300esb,id={self.name},bus=pcie.0", "-action", "watchdog=reset"]


TOPOLOGY = (Port(Nvme("nvme0")), Port(Igb("igb0")), Port(Watchdog("watchdog")))


def hold(m):
    """Let somebody hold the device lock of a controller, for which its shutdown waits.

    Unbinding it from vfio-pci takes the lock and waits for the device's user; any driver whose
    shutdown does not end is the same to the kernel. Returns the user.
    """
    user = Owner(m, "user")
    bdf, = user.own("igb0")
    m.worker("unbinder").start("sh", f"echo {bdf} >/sys/bus/pci/drivers/vfio-pci/unbind")
    m.sh(f"while ls -d /sys/bus/pci/devices/{bdf}/vfio-dev/*; do sleep 0.1; done 2>&1")
    return user


def at_work(start, **options):
    """Start a machine with a drive at work that is preserved, and a lock that is held."""
    m = start(topology=TOPOLOGY, **options)
    owner = Running(m)
    owner.open("nvme0")
    owner.start()
    owner.preserve()
    return m, owner, hold(m)


@pytest.mark.thorough
def test_slow_shutdown(start):
    """However long the shutdown takes, a running device goes on; then all is as ever."""
    m, owner, user = at_work(start)
    m.kexec_load()
    m.worker("timer").start("sh", f"sleep {SECONDS}; kill -9 {user.worker.pid()}")
    m.kexec_go()
    assert m.marks["jump"] - m.marks["freeze"] > SECONDS - 2
    take_over(owner)
    see_good_update(owner)


@pytest.mark.thorough
@pytest.mark.parametrize("stop", [1, 0])
def test_endless_shutdown(start, stop):
    """It waits for ever, the device runs on: a watchdog ends it, if reboots leave that on."""
    m, owner, _ = at_work(start, append=f"watchdog.stop_on_reboot={stop}")
    watchdog = m.bdf("watchdog")
    m.sh(f"modprobe i6300esb heartbeat={SECONDS}")
    m.kexec_load()
    # It runs as soon as it is open; nobody looks after it while the system goes down.
    m.worker("feeder").start("sh", "exec 3>/dev/watchdog; touch /tmp/open; sleep 1000")
    m.sh("until [ -e /tmp/open ]; do sleep 0.1; done")
    m.sh("echo 0 >/proc/sys/kernel/hung_task_timeout_secs || :")
    m.expect_splat(END)
    with pytest.raises(MachineError) as error:
        m.kexec_go(timeout=3 * SECONDS)
    # A reset ends all commands of a drive at once.
    m.marks["end"] = time.time() - 2
    writes = m.config_writes(watchdog, LOCK, since="freeze")
    assert [event.value for event in writes] == ([0] if stop else [])
    assert ("the machine was reset" in str(error.value)) == (not stop)
    see_dma(owner, "freeze", "end")
    see_undisturbed(owner, "freeze", "end")
    see_no_faults(owner)
