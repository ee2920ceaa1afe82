# SPDX-License-Identifier: GPL-2.0-only
"""The parsers of handover data, in user space: what real kernels leave, and what a fuzzer makes up.

tests/fuzz says how they are built, and how to let them run for longer.
"""

import os
import subprocess

import pytest

from lab import paths

FUZZ = paths.ROOT / "tests" / "fuzz"
OUT = paths.BUILD / "fuzz"
RUNS = 50_000
PARSERS = ("pci", "vfio_pci", "iommu", "vtd", "iommufd", "memfd", "luo")


def run(*command, **environment):
    """Run a command that must not fail; returns what it said."""
    done = subprocess.run([str(word) for word in command], env={**os.environ, **environment},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="session", name="program", params=PARSERS)
def fixture_program(request):
    """Build a fuzzer; returns its parser's name and the program."""
    run("make", "-C", FUZZ, f"OUT={OUT}", f"LINUX={paths.BUILD / 'linux-7.3'}", request.param)
    return request.param, OUT / f"fuzz-{request.param}"


def test_seeds(program):
    """What real kernels left, in every mode of VT-d, is taken."""
    name, fuzzer = program
    seeds = sorted((FUZZ / "corpus" / name).glob("*.seed"))
    assert len(seeds) == 3
    said = run(fuzzer, *seeds, SEEDS="1")
    assert said.count("Executed") == len(seeds)


def test_fuzz(program, tmp_path):
    """Whatever is made of that, no byte is read that was not asked for, and no rule is broken."""
    name, fuzzer = program
    said = run(fuzzer, f"-runs={RUNS}", "-seed=1", "-max_len=2048",
               f"-artifact_prefix={tmp_path}/", tmp_path, FUZZ / "corpus" / name)
    assert f"Done {RUNS} runs" in said
