# SPDX-License-Identifier: GPL-2.0-only
"""lu-qemu on the machine that builds it: its unit tests, its help, and wrong usage."""

import os
import shutil
import subprocess

import pytest

from lab import paths
from lab.image import lu_qemu, run

# With these the compiler warns of what cannot be.
SANITIZE = ("-Db_sanitize=address,undefined", "-Db_lundef=false", "-Dwerror=false")


@pytest.mark.parametrize("options", [(), SANITIZE], ids=["plain", "sanitized"])
def test_unit_tests(options):
    """What is read from QEMU and what crosses, damaged in all ways."""
    folder = lu_qemu(paths.BUILD / ("lu-qemu-tests" + "-sanitized" * bool(options)),
                     "-Dtests=true", *options)
    run("meson", "test", "-C", folder, "--print-errorlogs", UBSAN_OPTIONS="halt_on_error=1")


def says(*words):
    """Run it; returns its exit code and what it said."""
    program = lu_qemu(paths.BUILD / "lu-qemu") / "lu-qemu"
    done = subprocess.run([program, *words], text=True, check=False, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def test_usage():
    """It says what is wrong, and how it is done; nothing is there, so nothing can be done."""
    assert says("--help")[0] == 0 and "lu-qemu(8)" in says("--help")[1]
    for command in ("run", "prepare", "save", "abort", "resume", "status"):
        code, said = says(command, "--help")
        assert code == 0 and said.startswith("Usage:")
    for words in ((), ("walk",), ("run", "vm"), ("run", "--", "qemu"), ("save",), ("save", "a/b"),
                  ("save", "--all", "vm"), ("resume", "a", "b"), ("status", "--walk")):
        code, said = says(*words)
        assert code == 2 and "--help" in said, words
    code, said = says("status", "nobody")
    assert code == 1 and "no keeper" in said
    code, said = says("status", "--json")
    assert code == 0 and said.strip() == "[]"
    for option in ("-daemonize", "-incoming", "-snapshot", "--loadvm"):
        code, said = says("run", "test-usage", "--", "qemu-system-x86_64", option)
        # Without root it does not come so far
        assert code == 3 if os.geteuid() else code == 1 and option.lstrip("-") in said
    shutil.rmtree("/run/lu-qemu/test-usage", ignore_errors=True)


@pytest.mark.skipif(os.geteuid(), reason="only root has /run/lu-qemu")
def test_old_qemu():
    """The QEMU that the lab itself runs in is too old, or has no KVM here: refused at once."""
    said = run("qemu-system-x86_64", "--version").split()
    version = tuple(map(int, said[said.index("version") + 1].split(".")[:2]))
    code, said = says("run", "test-old-qemu", "--", "qemu-system-x86_64", "-nodefaults", "-M",
                      "q35,accel=tcg", "-display", "none")
    shutil.rmtree("/run/lu-qemu/test-old-qemu")
    assert code == 4 and "was not started" in said
    if version < (10, 2):
        assert f"QEMU is {version[0]}.{version[1]}" in said and "10.2 is the first" in said
    else:
        assert "does not use KVM" in said
