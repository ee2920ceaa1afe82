# SPDX-License-Identifier: GPL-2.0-only
"""Interrupts: a program that sleeps until its device raises one never notices an update."""

import pytest

from lab.running import SEED, RunningSet
from lab.witness import Witness
from update import PAIR, see_no_faults, see_undisturbed

# The drive's: 0 is that of its admin queue.
VECTOR = 1
BLOCKS = 64
# How many reads a second show that one comes after the other, and that the jump takes longer.
SLOWLY = 2


class Sleeper(RunningSet):
    """A process with a drive, which does nothing before its drive raises an interrupt."""

    def start(self):
        """Start the drive, with the interrupt of its I/O queue on."""
        (device,) = self.devices.values()
        self.worker.dma_memory(device.memory, device.size, device.iova)
        self("nvme_start", device.driver, device.file, device.memory, device.iova, device.queue,
             VECTOR)
        self("nvme_write", device.driver, 0, BLOCKS, SEED)
        self.arm("restore")
        device.witness = Witness(self.machine, device.bdf)
        self.machine.mark("load")

    def arm(self, how):
        """Have the drive's interrupts on; "restore": as one does after an update."""
        (device,) = self.devices.values()
        self(f"vfio_irq_{how}", device.file, "MSIX", VECTOR + 1)

    def silence(self):
        """Turn the drive's interrupts off."""
        (device,) = self.devices.values()
        self("vfio_irq_off", device.file, "MSIX")

    def sleep(self, count):
        """Read one block after the other, each when the interrupt of the one before came."""
        (device,) = self.devices.values()
        assert self("nvme_sleep", device.driver, BLOCKS, SEED, count).values == [str(count)]

    def sleep_fails(self):
        """Return with which error it ends when an interrupt does not come."""
        (device,) = self.devices.values()
        return self.fails("nvme_sleep", device.driver, BLOCKS, SEED, 1)


def sleeper(start):
    """Start a machine with a process that sleeps until its drive raises an interrupt."""
    m = start(topology=PAIR)
    owner = Sleeper(m)
    owner.open("nvme0")
    owner.start()
    owner.sleep(10)
    return m, owner


def read_two(m, owner):
    """Have two reads under way, of which the second takes a while."""
    (device,) = owner.devices.values()
    m.throttle(device.name, SLOWLY)
    m.mark("reads")
    owner("nvme_queue_reads", device.driver, 0, 2 * 8, SEED)


def done(m, owner):
    """Return how many reads the drive has done by now."""
    (device,) = owner.devices.values()
    return len(owner.timelines(m.trace(since="reads"))[device.name].times)


# When the drive raises the interrupt that nobody has seen when the program ends
BEFORE, BETWEEN = "before", "between"


def across(m, owner, when):
    """Take the drive through an update, with interrupts raised before they are off, or after."""
    read_two(m, owner)
    if when == BEFORE:
        m.sh("sleep 2")
        assert done(m, owner) == 2
    owner.silence()
    if when == BETWEEN:
        assert done(m, owner) < 2
    owner.preserve()
    m.kexec()
    assert done(m, owner) == 2


def see_good_end(m, owner):
    """See that the drive was left alone, and works."""
    (device,) = owner.devices.values()
    m.throttle(device.name, 0)
    owner.sleep(50)
    see_undisturbed(owner)
    owner.handover()
    owner.finish()
    owner.sleep(50)
    see_no_faults(owner)


@pytest.mark.parametrize("when", (BEFORE, BETWEEN))
def test_restored(start, when):
    """Interrupts that nobody saw are covered by the signal that comes with arming them."""
    m, owner = sleeper(start)
    across(m, owner, when)
    owner.retrieve()
    owner.arm("restore")
    see_good_end(m, owner)


def test_set(start):
    """A set arms them as soon as its device is bound."""
    m, owner = sleeper(start)
    across(m, owner, BETWEEN)
    (device,) = owner.devices.values()
    owner("session_retrieve", "S", owner.session)
    owner("set_open", "P", "S")
    owner("close", "S")
    owner("set_irqs", "P", "E", device.file, "MSIX", VECTOR + 1)
    owner("set_retrieve", "P")
    owner.get()
    owner("vfio_irq_take", device.file, "E")
    see_good_end(m, owner)


@pytest.mark.parametrize("when", (BEFORE, BETWEEN))
def test_without_the_signal(start, when):
    """Who only arms them sleeps for ever: the lab shows what is lost."""
    m, owner = sleeper(start)
    across(m, owner, when)
    owner.retrieve()
    owner.arm("on")
    assert owner.sleep_fails() == "ETIMEDOUT"
