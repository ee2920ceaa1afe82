# SPDX-License-Identifier: GPL-2.0-only
"""demo/run: it shows a good update, and notices one that is not."""

import json
import subprocess

import pytest

from conftest import KERNELS
from lab import paths


def demo(kernels, *options):
    """Run the demo; returns what it ended with, and said."""
    first, after = KERNELS[kernels]
    done = subprocess.run([paths.ROOT / "demo/run", "--kernel", first, "--next", after, *options],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout


@pytest.mark.thorough
@pytest.mark.only("modules")
def test_sriov(kernels, tmp_path):
    """Virtual functions lose nothing, and a frame that comes twice is noticed."""
    picture = tmp_path / "picture.svg"
    code, said = demo(kernels, "--sriov", "--picture", picture)
    assert code == 0 and "Nothing was lost" in said, said
    report = json.loads((paths.BUILD / "demo/sriov.json").read_text())
    assert [function["drivers"] for function in report["functions"]] \
        == [["igb"] * 2, ["vfio-pci"] * 2, ["vfio-pci"] * 2]
    assert "igb0vf1" in picture.read_text()
    code, said = demo(kernels, "--sriov", "--spoil")
    assert code == 1 and "igb0vf0: lost: 1" in said, said
