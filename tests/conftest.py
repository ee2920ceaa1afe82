# SPDX-License-Identifier: GPL-2.0-only
"""What all tests in the lab share."""

import itertools
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import lab  # noqa: E402  (found through the path above)

# Where the tests' machines map DMA memory; anything above the interrupt range would do.
IOVA = 0x10_0000_0000
NVME_MEMORY = 8 << 20
IGB_MEMORY = 4 << 20


# The kernels of an update, outgoing and incoming: VFIO as modules, built in, debugged, and all as
# Debian has it.
KERNELS = {
    "modules": ("lab-a", "lab-b"),
    "builtin": ("builtin", "builtin"),
    "debug": ("debug", "debug"),
    "distro": ("distro", "distro"),
}


# How VT-d works in a machine: options of lab.Machine.
MODES = {
    "legacy": {},
    "scalable": {"scalable": True},
    "first-stage": {"first_stage": True},
}


def pytest_addoption(parser):
    """Let the tests run on other kernels."""
    parser.addoption("--kernels", choices=[*KERNELS, "all"],
                     help="run every test on these kernels (as they come: core tests on all, "
                          "others on modules)")


def pytest_configure(config):
    """Declare the marks."""
    config.addinivalue_line("markers", "core(kernels...): runs on these kernels, too, or on all "
                            "if none is named; see --kernels")
    config.addinivalue_line("markers", "only(kernels...): runs on these kernels, and no others")
    config.addinivalue_line("markers", "thorough: runs with --kernels only, as make test-all does")
    config.addinivalue_line("markers", "cut(pairs...): runs on these pairs of kernels and modes of "
                            "VT-d; with --kernels in each mode")


def pytest_generate_tests(metafunc):
    """Choose the kernels that each test runs on, and the modes of VT-d."""
    if "kernels" not in metafunc.fixturenames:
        return
    wanted = metafunc.config.getoption("kernels")
    if "mode" in metafunc.fixturenames:
        cut = metafunc.definition.get_closest_marker("cut").args
        if wanted:
            cut = itertools.product(KERNELS if wanted == "all" else [wanted], MODES)
        metafunc.parametrize(("kernels", "mode"), list(cut))
        return
    core = metafunc.definition.get_closest_marker("core")
    only = metafunc.definition.get_closest_marker("only")
    if only:
        chosen = [name for name in only.args if wanted in (None, "all", name)]
    elif wanted:
        chosen = KERNELS if wanted == "all" else [wanted]
    elif core:
        chosen = ["modules", *core.args] if core.args else KERNELS
    else:
        chosen = ["modules"]
    metafunc.parametrize("kernels", chosen)


def pytest_collection_modifyitems(config, items):
    """Leave out what is thorough; begin with the slow kernels, so that no processor waits."""
    if not config.getoption("kernels"):
        thorough = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=thorough)
        items[:] = [item for item in items if item not in thorough]
    items.sort(key=lambda item: not re.search("debug|distro", item.nodeid))


@pytest.fixture
def start(request, kernels):
    """Start machines that end, checked, with the test: start(topology=..., append=...)."""
    machines = []

    def boot(suffix="", **options):
        name = f"{request.path.stem}-{request.node.name}{suffix}"
        options.setdefault("kernel", KERNELS[kernels][0])
        options.setdefault("next_kernel", KERNELS[kernels][1])
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
