# SPDX-License-Identifier: GPL-2.0-only
"""libliveupdate: its unit tests, what is installed of it, and sets through updates."""

import os
import re
import subprocess

import pytest

from lab import paths

LIB = paths.ROOT / "lib"
HEADERS = paths.BUILD / "headers" / "include"
FUZZ_RUNS = 500_000


# --- on the machine that builds it ----------------------------------------------------


def run(*command, **environment):
    """Run a command that must not fail; returns what it said."""
    done = subprocess.run([str(word) for word in command], env={**os.environ, **environment},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout}"
    return done.stdout


def build(name, *options, **environment):
    """Build the library in a folder of this name; returns the folder."""
    folder = paths.BUILD / "lib" / name
    again = ("--wipe",) if (folder / "meson-private").exists() else ()
    run("meson", "setup", *again, folder, LIB, f"-Dheaders={HEADERS}", *options, **environment)
    run("ninja", "-C", folder)
    return folder


@pytest.mark.parametrize("name, options, environment, wrapper", [
    ("plain", (), {}, ()),
    ("sanitized", ("-Db_sanitize=address,undefined", "-Db_lundef=false"),
     {"UBSAN_OPTIONS": "halt_on_error=1"}, ()),
    ("valgrind", ("-Dsystemd=disabled",), {},
     ("--wrapper", "valgrind --quiet --error-exitcode=9 --leak-check=full --track-fds=no")),
    ("release", ("--buildtype=release", "-Db_lto=true"), {}, ()),
    ("clang", ("-Dsystemd=disabled",), {"CC": "clang"}, ()),
])
def test_unit_tests(name, options, environment, wrapper):
    """The unit tests, as they are, under sanitizers and valgrind, and by other compilers."""
    folder = build(name, *options, **environment)
    said = run("meson", "test", "-C", folder, "--print-errorlogs", "--timeout-multiplier=10",
               *wrapper, **environment)
    assert re.search(r"Ok: +4\b", said), said


def test_fuzz():
    """Manifests that a fuzzer makes up: none is read out of bounds, or taken for another."""
    folder = build("fuzz", "-Dfuzz=true", "-Dsystemd=disabled", CC="clang")
    found = folder / "found"
    found.mkdir(exist_ok=True)
    said = run(folder / "tests" / "fuzz-manifest", f"-runs={FUZZ_RUNS}", "-seed=1",
               "-max_len=4128", f"-artifact_prefix={folder}/", found, LIB / "tests" / "corpus")
    assert f"Done {FUZZ_RUNS} runs" in said


@pytest.fixture(scope="module", name="installed")
def fixture_installed(tmp_path_factory):
    """Install the library into a staging folder; returns that."""
    stage = tmp_path_factory.mktemp("stage")
    folder = build("install", "--prefix=/usr", "-Dtests=false")
    run("meson", "install", "-C", folder, f"--destdir={stage}")
    return stage


def flags(stage, *options):
    """Return what pkg-config says of the library in a staging folder."""
    where, = stage.rglob("liveupdate.pc")
    return run("pkg-config", *options, "liveupdate", PKG_CONFIG_PATH=str(where.parent),
               PKG_CONFIG_SYSROOT_DIR=str(stage)).split()


def test_installed(installed, tmp_path):
    """Who has only what is installed can build with it: the example, in C and in C++."""
    library, = installed.rglob("libliveupdate.so")
    assert run("pkg-config", "--modversion", library.parent / "pkgconfig/liveupdate.pc").strip()
    program = tmp_path / "example"
    example = LIB / "example" / "example.c"
    run("gcc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", example,
        *flags(installed, "--cflags", "--libs"), "-o", program)
    assert "libliveupdate.so.0" in run("readelf", "-d", program)
    # Nothing of systemd is needed by who does not use custody and links statically.
    static = tmp_path / "static"
    run("gcc", "-D_GNU_SOURCE", "-static", example, *flags(installed, "--cflags"),
        library.with_suffix(".a"), "-o", static)
    for name in (program, static):
        done = subprocess.run([name], env={"LD_LIBRARY_PATH": str(library.parent)},
                              stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 1 and done.stderr.startswith("lu_open(): "), done
    cpp = tmp_path / "example.cc"
    cpp.write_text("#include <libliveupdate.h>\n#include <linux/liveupdate.h>\n"
                   "int main() { lu_member member = {}; lu_set *set = nullptr;\n"
                   "return lu_set_new(&set) || lu_set_find(set, \"\", &member) != -2; }\n")
    run("g++", "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-isystem", HEADERS, cpp,
        *flags(installed, "--cflags", "--libs"), "-o", program)
    run(program, LD_LIBRARY_PATH=str(library.parent))
    assert len(example.read_text().splitlines()) <= 60


def test_names(installed):
    """Every function of the header is exported with a version, and has its place in the manual."""
    header = (LIB / "libliveupdate.h").read_text()
    declared = set(re.findall(r"^(?:int|void|const char \*) ?(lu_\w+)\(", header, re.MULTILINE))
    assert len(declared) > 40
    library, = installed.rglob("libliveupdate.so.0")
    exported = set(re.findall(r"(\w+)@@LIVEUPDATE_0$", run("nm", "-D", "--defined-only", library),
                              re.MULTILINE))
    assert exported == declared
    assert set(re.findall(r"^ \* (lu_\w+)\(\) - ", header, re.MULTILINE)) == declared
    manual, = installed.rglob("liveupdate.3")
    assert set(re.findall(r"^\.Fn (lu_\w+) (?:void|\")", manual.read_text(), re.MULTILINE)) \
        == declared


def test_no_headers(tmp_path):
    """Without the kernel's headers the build says what is missing."""
    done = subprocess.run(["meson", "setup", tmp_path / "build", LIB, f"-Dheaders={tmp_path}"],
                          stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode and "no <linux/" in done.stdout and "-Dheaders=" in done.stdout
