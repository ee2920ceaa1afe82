# SPDX-License-Identifier: GPL-2.0-only
"""The Debian packages of the library and the tool."""

import subprocess

import pytest

from lab import paths


def run(name):
    """Run one of packaging's programs; returns what it said."""
    done = subprocess.run([paths.ROOT / "packaging" / name], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.thorough
def test_packages():
    """They are built, lintian finds no error, and a Debian 13 with nothing else takes them."""
    said = run("deb")
    assert sum(line.endswith(".deb") for line in said.splitlines()) >= 3
    assert "installed, used and removed" in run("try")
