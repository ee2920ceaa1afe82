# SPDX-License-Identifier: GPL-2.0-only
"""A virtual machine in the machine, with devices of it: what updates of the machine start from."""

import pytest

from lab import Igb, InnerVm, Nvme, Port, stamped

FIRST_FRAME = 1000
RATE = 40


@pytest.fixture(autouse=True)
def fit(kernels):
    """Leave out the kernels that have no KVM."""
    if kernels != "modules":
        pytest.skip("built without kernel/config/system.config")


def see_good(report):
    """See that nothing is wrong in a report."""
    wrong = ("bad", "errors", "timeouts", "polled", "resets", "hangs", "splats", "lost",
             "repeated", "wrong")
    assert not {key: report[key] for key in wrong if report[key]}


@pytest.mark.thorough
def test_inner(start):
    """It reads a drive that was passed through to it, and receives frames."""
    m = start(vm=True, topology=(Port(Nvme("nvme0", content=stamped("nvme0"))),
                                 Port(Igb("igb0"))))
    vm = InnerVm(m, ["nvme0", "igb0"], words="inner.depth=32 inner.igb")
    vm.start()
    vm.wait(lambda report: report["drives"] == 1 and report["wires"] == 1)
    stream = m.wires["igb0"].stream(FIRST_FRAME, RATE)
    report = vm.wait_reads(1000)
    see_good(report)
    assert report["busy"] == 32
    after = stream.stop()
    report = vm.wait(lambda report: report["eth0.next"] == after)
    see_good(report)
    assert report["received"] == after - FIRST_FRAME
