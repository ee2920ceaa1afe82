# SPDX-License-Identifier: GPL-2.0-only
"""The parsers of handover data and of boot images, in user space: what is real, and what is not.

tests/fuzz says how they are built, and how to let them run for longer.
"""

import functools

import pytest

from lab import paths
from lab.image import building, run

FUZZ = paths.ROOT / "tests" / "fuzz"
OUT = paths.BUILD / "fuzz"
RUNS = 50_000
HANDOVER = ("pci", "vfio_pci", "iommu", "vtd", "iommufd", "memfd", "luo")


@functools.cache
def fuzzer(name):
    """Build a fuzzer; returns the program."""
    with building(OUT):
        run("make", "-C", FUZZ, f"OUT={OUT}", f"LINUX={paths.BUILD / 'linux-7.3'}", name)
    return OUT / f"fuzz-{name}"


@pytest.mark.parametrize("name", HANDOVER)
def test_seeds(name):
    """What real kernels left, in every mode of VT-d, is taken."""
    seeds = sorted((FUZZ / "corpus" / name).glob("*.seed"))
    assert len(seeds) == 3
    said = run(fuzzer(name), *seeds, SEEDS="1")
    assert said.count("Executed") == len(seeds)


@pytest.mark.parametrize("name", (*HANDOVER, "image"))
def test_fuzz(name, tmp_path):
    """Whatever is made of that, no byte is read that was not asked for, and no rule is broken."""
    said = run(fuzzer(name), f"-runs={RUNS}", "-seed=1", "-max_len=2048",
               f"-artifact_prefix={tmp_path}/", tmp_path, FUZZ / "corpus" / name)
    assert f"Done {RUNS} runs" in said
