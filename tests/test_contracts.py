# SPDX-License-Identifier: GPL-2.0-only
"""The checks that keep the contract between kernels, and the hooks, honest can fail."""

import os
import re
import shutil
import subprocess

import pytest

from lab import paths

ABI = "linux/kho/abi"
VERSIONS = f"{ABI}/liveupdate_versions.h"
# Of our scripts: going on would lose work (setup/common.bash).
REFUSED = 4


class Layouts:
    """Our headers and the file of layouts, to be changed, and the check of them."""

    def __init__(self, folder):
        """Copy both."""
        self.headers = folder / "include"
        self.file = folder / "layouts"
        shutil.copytree(paths.ROOT / "kernel/src/include", self.headers)
        shutil.copy(paths.ROOT / "kernel/abi/layouts", self.file)
        # The headers' own assertions, which whoever changes a layout changes, too
        for path in (self.headers / ABI).glob("*.h"):
            path.write_text(re.sub(r"^static_assert.*\n", "", path.read_text(), flags=re.M))

    def edit(self, header, old, new):
        """Change a header."""
        path = self.headers / header
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    def check(self, *options):
        """Run the check; returns its exit code and what it said."""
        done = subprocess.run(
            [paths.ROOT / "kernel/layout", "--headers", self.headers, "--file", self.file,
             "--out", paths.BUILD / "kernel/lab-a", *options],
            capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def layouts(tmp_path):
    """Headers and layouts to be changed."""
    return Layouts(tmp_path)


def test_layouts_as_they_are(layouts):
    """What is committed is what the compiler lays out, and adding adds nothing."""
    before = layouts.file.read_text()
    assert layouts.check()[0] == 0
    assert layouts.check("--add")[0] == 0
    assert layouts.file.read_text() == before


@pytest.mark.parametrize(("header", "old", "new", "version"), [
    ("pci.h", "\tu32 count;\n\tu32 capacity;", "\tu32 capacity;\n\tu32 count;", "pci-v3"),
    ("iommu.h", "\tu8 levels;\n\tu16 flags;", "\tu8 levels;\n\tu8 flags;\n\tu8 more;", "iommu-v3"),
    ("iommufd.h", "\tu64 token;\n", "\tu64 token;\n\tu64 more;\n", "iommufd-v1"),
], ids=["order", "type", "size"])
def test_changed_layout(layouts, header, old, new, version):
    """A layout that changed without its version is found; --add does not make it good."""
    layouts.edit(f"{ABI}/{header}", old, new)
    before = layouts.file.read_text()
    code, said = layouts.check()
    assert code == 1 and f"the layout of {version} has changed" in said
    assert layouts.check("--add")[0] == 1 and layouts.file.read_text() == before


def test_embedded(layouts):
    """Who embeds a structure has to raise the own version, too, when it changes."""
    layouts.edit(f"{ABI}/pci.h", "\tu32 aer[4];", "\tu32 aer[5];")
    layouts.edit(VERSIONS, '"pci-v3"', '"pci-v4"')
    code, said = layouts.check("--add")
    assert code == 1 and "the layout of vfio-pci-v4 has changed" in said
    layouts.edit(VERSIONS, '"vfio-pci-v4"', '"vfio-pci-v5"')
    assert layouts.check("--add")[0] == 0


def test_raised_version(layouts):
    """A new version needs a layout of its own, and the old one stays."""
    layouts.edit(f"{ABI}/iommufd.h", "\tu64 token;\n", "\tu64 token;\n\tu64 more;\n")
    layouts.edit(VERSIONS, '"iommufd-v1"', '"iommufd-v2"')
    code, said = layouts.check()
    assert code == 1 and "no layout is kept for iommufd-v2" in said
    assert layouts.check("--add")[0] == 0
    assert layouts.check()[0] == 0
    text = layouts.file.read_text()
    assert "== iommufd-v1\n" in text and "== iommufd-v2\n" in text


def test_unknown_header(layouts):
    """A contract that the check does not know is found."""
    shutil.copy(layouts.headers / ABI / "pci.h", layouts.headers / ABI / "more.h")
    code, said = layouts.check()
    assert code == 1 and "more" in said


# --- kernel/tree try ------------------------------------------------------------------------

def pristine(folder):
    """Take what hooks change out of the tree, as Linux has it."""
    tree = paths.BUILD / "linux-7.3"
    names = subprocess.run(["git", "-C", tree, "diff", "--name-only", "pristine", "hooks"],
                           capture_output=True, text=True, check=True).stdout.split()
    archive = subprocess.run(["git", "-C", tree, "archive", "pristine", "Makefile", *names],
                             capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)


def attempt(folder):
    """Try the hooks on a tree; returns the exit code and the lines that it said."""
    done = subprocess.run([paths.ROOT / "kernel/tree", "try", folder], capture_output=True,
                          text=True, check=False, env={**os.environ, "BASE": "7.3"})
    return done.returncode, (done.stdout + done.stderr).splitlines()


def test_try(tmp_path):
    """Any tree can be asked which hooks apply; it is not changed."""
    pristine(tmp_path)
    hooks = len(list((paths.ROOT / "kernel/hooks/7.3").glob("*.patch")))
    code, lines = attempt(tmp_path)
    assert code == 0 and len([line for line in lines if line.startswith("applies ")]) == hooks
    assert "luo_image" not in (tmp_path / "kernel/liveupdate/luo_session.c").read_text()
    # A place that a hook needs is not there any more; another file is gone altogether.
    info = tmp_path / "arch/x86/boot/compressed/kernel_info.S"
    info.write_text(info.read_text().replace("Empty for time being", "Something else"))
    (tmp_path / "kernel/liveupdate/kho_block.c").unlink()
    code, lines = attempt(tmp_path)
    assert code == 1
    assert len([line for line in lines if line.startswith("FAILS ")]) == 2
    assert len([line for line in lines if line.startswith("applies ")]) == hooks - 2
    assert any("kernel_info.S" in line for line in lines)
    # And Linux has a file that we bring.
    (tmp_path / "mm/memfd_liveupdate.c").write_text("")
    assert any("is there already" in line and "memfd_liveupdate" in line
               for line in attempt(tmp_path)[1])


def test_tree_of_another_checkout(tmp_path):
    """A tree that belongs to another checkout is not laid anew."""
    (tmp_path / "linux-7.3").symlink_to(paths.BUILD / "linux-7.3")
    done = subprocess.run([paths.ROOT / "kernel/tree"], capture_output=True, text=True, check=False,
                          env={**os.environ, "BASE": "7.3", "BUILD": str(tmp_path)})
    assert done.returncode == REFUSED and "is a link to another checkout's tree" in done.stderr


def test_try_nothing(tmp_path):
    """What is no tree is a failure, too."""
    assert attempt(tmp_path)[0] == 1
    assert attempt(tmp_path / "nowhere")[0] == 1
