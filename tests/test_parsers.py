# SPDX-License-Identifier: GPL-2.0-only
"""The parsers of handover data and of boot images: what is real, and what is not.

tests/fuzz says how they are built for user space, and how to let them run for longer.
"""

import functools
import re

import pytest

from lab import SMALL, Machine, paths
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
    """What real kernels left, in every mode of VT-d, is taken; also with ATS."""
    seeds = sorted((FUZZ / "corpus" / name).glob("*.seed"))
    assert len(seeds) == (4 if name in ("iommu", "vtd") else 3)
    said = run(fuzzer(name), *seeds, SEEDS="1")
    assert said.count("Executed") == len(seeds)


@pytest.mark.parametrize("name", (*HANDOVER, "hugetlb", "image"))
def test_fuzz(name, tmp_path):
    """Whatever is made of that, no byte is read that was not asked for, and no rule is broken."""
    said = run(fuzzer(name), f"-runs={RUNS}", "-seed=1", "-max_len=2048",
               f"-artifact_prefix={tmp_path}/", tmp_path, FUZZ / "corpus" / name)
    assert f"Done {RUNS} runs" in said


def test_kunit():
    """In the kernel, each takes what is as it should be, and refuses by each of its rules."""
    with Machine("test_parsers-kunit", kernel="kunit", topology=SMALL,
                 modules=["handover_kunit"]) as m:
        said = m.wait_console("ok 1 liveupdate-handover").string
    said = said[said.index("# Subtest: liveupdate-handover"):]
    assert not re.findall(r".* not ok .*", said)
    good = dict(re.findall(r" {4}# (\w+): pass:(\d+) fail:0 skip:0 total:\2$", said, re.M))
    assert good.keys() == {*HANDOVER, "hugetlb", "igb", "image", "vtd_legacy",
                           "vtd_scalable"} - {"vtd"}
    # One at least is good, and one is refused
    assert min(map(int, good.values())) >= 2
