# SPDX-License-Identifier: GPL-2.0-only
"""What all tests in the lab share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import lab  # noqa: E402  (found through the path above)

# Where the tests' machines map DMA memory; anything above the interrupt range would do.
IOVA = 0x10_0000_0000
NVME_MEMORY = 8 << 20
IGB_MEMORY = 2 << 20


def pytest_addoption(parser):
    """Let the tests run on another kernel."""
    parser.addoption("--kernel", default="lab-a", help="flavour of the outgoing kernel (lab-a)")
    parser.addoption("--next-kernel", help="flavour of the incoming one (lab-b after lab-a, "
                     "else the same)")


@pytest.fixture
def start(request):
    """Start machines that end, checked, with the test: start(topology=..., append=...)."""
    machines = []

    def boot(suffix="", **options):
        name = f"{request.path.stem}-{request.node.name}{suffix}"
        options.setdefault("kernel", request.config.getoption("kernel"))
        options.setdefault("next_kernel", request.config.getoption("next_kernel"))
        machine = lab.Machine(name, **options)
        machines.append(machine)
        return machine.boot()

    yield boot
    errors = []
    for machine in machines:
        try:
            machine.close()
        except lab.MachineError as error:
            errors.append(str(error))
    if errors:
        pytest.fail("\n".join(errors), pytrace=False)


@pytest.fixture
def small(start):
    """Start a machine with a single NVMe drive, nvme0."""
    return start(topology=lab.SMALL)


@pytest.fixture
def standard(start):
    """Start a machine with the standard topology."""
    return start()
