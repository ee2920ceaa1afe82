# SPDX-License-Identifier: GPL-2.0-only
"""The patch series, as maintainers and distributions get it."""

import os
import subprocess

import pytest

from lab import paths

BASES = ("7.3", "7.2")
# It wants MAINTAINERS to change with each new file; test_applies asks whether each has one.
CHECKPATCH = ("scripts/checkpatch.pl", "--strict", "--no-summary", "--quiet", "--terse",
              "--show-types", "--color=never", "--ignore", "FILE_PATH_CHANGES")


def series(base, command):
    """Run kernel/series for a version of Linux; returns what it said."""
    done = subprocess.run([paths.ROOT / "kernel/series", command], text=True,
                          env={**os.environ, "BASE": base, "BUILD": str(paths.BUILD)},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


def nobodys(base):
    """Return those of our files that MAINTAINERS gives to nobody but to the list of all."""
    def maintainers(name):
        """Return who get_maintainer names."""
        return subprocess.run(["scripts/get_maintainer.pl", "--no-git", "--no-git-fallback",
                               "-f", name], cwd=paths.BUILD / f"linux-{base}", text=True,
                              check=True, capture_output=True).stdout

    names = [path.relative_to(paths.ROOT / "kernel/src")
             for path in (paths.ROOT / "kernel/src").rglob("*") if path.is_file()]
    assert len(names) > 40
    return [str(name) for name in names if "(maintainer:" not in maintainers(name)]


@pytest.mark.thorough
@pytest.mark.parametrize("base", BASES)
def test_applies(base):
    """It applies by git am and by quilt to the tree that we build; checkpatch, maintainers."""
    said = series(base, "apply")
    assert "git am: " in said and "quilt: " in said
    folder = paths.BUILD / "series" / base
    patches = [folder / name for name in (folder / "series").read_text().split()]
    assert len(patches) > 10
    assert [path.name for path in sorted(folder.glob("*.patch"))][1:] == \
        [path.name for path in patches]
    assert "***" not in next(folder.glob("0000-*")).read_text()
    # It looks for Python's modules where Debian has them.
    path = {**os.environ, "PATH": f"/usr/bin:{os.environ['PATH']}"}
    checked = subprocess.run([*CHECKPATCH, "--", *patches], cwd=paths.BUILD / f"linux-{base}",
                             env=path, text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    assert checked.returncode == 0 and not checked.stdout, checked.stdout
    assert not nobodys(base)


@pytest.mark.thorough
@pytest.mark.parametrize("base", BASES)
def test_builds(base):
    """A kernel can be built after each patch, without a warning."""
    said = series(base, "build")
    patches = (paths.BUILD / "series" / base / "series").read_text().split()
    assert said.count(": built in ") == len(patches)
