# SPDX-License-Identifier: GPL-2.0-only
"""libliveupdate: its unit tests, what is installed of it, and sets through updates."""

import re
import subprocess

import pytest

from lab import SMALL, GuestError, Igb, Nvme, Port, paths
from lab.image import meson, run
from lab.running import IOVA, MEMORY, RunningSet
from update import (PAIR, Owner, at_work, see_busy, see_dma, see_good_update, see_no_faults,
                    see_nothing_lost, see_undisturbed, state, states)

BOTH = ("nvme0", "igb0")
LIB = paths.ROOT / "lib"
HEADERS = paths.BUILD / "headers" / "include"
FUZZ_RUNS = 500_000
IGB_STATISTICS = 0x4000


# --- on the machine that builds it ----------------------------------------------------


def build(name, *options, **environment):
    """Build the library in build/lib/NAME, or in another folder; returns the folder."""
    return meson("lib", paths.BUILD / "lib" / name, f"-Dheaders={HEADERS}", *options,
                 **environment)


# Ways to build the library and to run its tests: options of meson, environment, wrapper.
WAYS = {
    "plain": ((), {}, ()),
    "sanitized": (("-Db_sanitize=address,undefined", "-Db_lundef=false"),
                  {"UBSAN_OPTIONS": "halt_on_error=1"}, ()),
    "valgrind": (("-Dsystemd=disabled",), {},
                 ("--wrapper", "valgrind --quiet --error-exitcode=9 --leak-check=full")),
    "release": (("--buildtype=release", "-Db_lto=true"), {}, ()),
    "clang": (("-Dsystemd=disabled",), {"CC": "clang"}, ()),
}


@pytest.mark.parametrize("way", WAYS)
def test_unit_tests(way):
    """The unit tests, as they are, under sanitizers and valgrind, and by other compilers."""
    options, environment, wrapper = WAYS[way]
    folder = build(way, *options, **environment)
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
    # Each process that runs tests has a build of its own.
    folder = build(tmp_path_factory.mktemp("build"), "--prefix=/usr", "-Dtests=false")
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


# --- in machines ----------------------------------------------------------------------


def members(owner):
    """Return what the set says of each member: kind, file, number, error, token, mode."""
    lines = (line.split() for line in owner("set_list", "P").lines)
    return {name: (kind, *values) for kind, name, *values in lines}


def refused(owner, error, member=None):
    """See that a set cannot be preserved, and for which member."""
    with pytest.raises(GuestError) as caught:
        owner("set_preserve", "P", owner.session)
    said = members(owner)
    assert caught.value.errno == error
    assert [name for name in said if said[name][3] != "-"] == ([member] if member else [])
    assert f" {member}" in str(caught.value) or not member


def unharmed(owner):
    """See that nothing is preserved, held or marked."""
    assert states(owner) == {"none"}
    owner("ioas_map_file", "I", "A", "Mnvme0", 0, 4096, 4096)
    owner("ioas_unmap", "I", "A", 4096, 4096)
    for name, (kind, *_, token, _) in members(owner).items():
        if kind == "hwpt":
            assert owner.fails("hwpt_unmark", "I", name, token) == "ENOENT"


def take_over(owner):
    """Retrieve, hand over to new page tables, finish."""
    owner.retrieve()
    see_busy(owner)
    owner.handover()
    owner.finish()


# Calls, and which of the objects they are for.
CALLS = {
    "session": [("session_name", "?"), ("preserve", "?", 9, "M"), ("retrieve", "?", 9, "N"),
                ("finish", "?"), ("set_open", "N", "?")],
    "device": [("vfio_bind", "?", "I"), ("vfio_attach", "?", "A"), ("vfio_id", "?"),
               ("vfio_liveupdate", "?"), ("vfio_bdf", "?"),
               ("dmabuf_export", "?", "N", 0, 0, 4096)],
    "iommufd": [("ioas", "?", "N"), ("ioas_map_file", "?", "A", "M", 0, "4k", 0),
                ("hwpt_alloc", "?", "D", "A", "N"), ("hwpt_mark", "?", "H", 1),
                ("hwpt_unmark", "?", "H", 1), ("hwpt_find", "?", 1, "N")],
}
OBJECTS = {"L": "luo", "S": "session", "M": "memfd", "I": "iommufd", "D": "device", "E": "device"}


def test_wrong_files(start):
    """Each call with each kind of file that it is not for, and with one that is not ready."""
    m = start(topology=SMALL)
    owner = Owner(m)
    bdf = m.bdf("nvme0")
    m.bind_vfio(bdf)
    for words in (("iommufd", "I"), ("ioas", "I", "A"), ("vfio_open", "D", bdf),
                  ("vfio_open", "E", bdf), ("vfio_bind", "D", "I"),
                  ("hwpt_alloc", "I", "D", "A", "H"), ("memfd", "M", "64k"),
                  ("session_create", "S", "wrong"), ("luo_open", "L")):
        owner(*words)
    assert owner.fails("luo_open", "N") == "EBUSY"
    for wanted, calls in CALLS.items():
        for name, kind in OBJECTS.items():
            for call in calls if kind != wanted else ():
                words = [name if word == "?" else word for word in call]
                error = "ENODEV" if call[0] in ("vfio_bdf", "vfio_id") else "ENOTTY"
                # Where a kind of file has calls of the same type, it says something else.
                assert owner.fails(*words) in (error, "EINVAL"), words
    owner("close", "L")
    # A session that was made cannot be retrieved from, nor has it a manifest.
    assert owner.fails("retrieve", "S", 9, "N") == "EINVAL"
    assert owner.fails("set_open", "N", "S") == "EINVAL"
    assert owner.fails("finish", "S") == "EINVAL"
    # A device that is not bound, or bound already, or to what is no iommufd.
    for call in (("vfio_attach", "E", "A"), ("vfio_id", "E"), ("vfio_liveupdate", "E"),
                 ("dmabuf_export", "E", "N", 0, 0, 4096), ("vfio_bind", "D", "I"),
                 ("preserve", "S", 9, "E")):
        assert owner.fails(*call) == "EINVAL", call
    assert owner.fails("vfio_bind", "E", "M") == "EBADFD"
    assert owner("vfio_bdf", "E").values == owner("vfio_bdf", "D").values == [bdf]
    assert int(owner("vfio_id", "D")) > 0
    # Numbers that are none, and ranges.
    assert owner.fails("hwpt_alloc", "I", "A", "A", "N") == "ENOENT"
    assert owner.fails("hwpt_alloc", "I", "D", "D", "N") in ("ENOENT", "EINVAL")
    assert owner.fails("vfio_attach", "D", "D") in ("ENOENT", "EINVAL")
    assert owner.fails("ioas_map_file", "I", "D", "M", 0, "4k", 0) == "ENOENT"
    assert owner.fails("ioas_map_file", "I", "A", "M", 0, "128k", 0) == "EINVAL"
    assert owner.fails("ioas_map_file", "I", "A", "M", 0, "4k", (1 << 64) - 2048) in (
        "EINVAL", "EOVERFLOW")
    owner("ioas_map_file", "I", "A", "M", 0, "4k", 0)
    assert owner.fails("ioas_map_file", "I", "A", "M", 0, "4k", 0) == "EEXIST"
    for bar, offset, error in ((6, 0, "EINVAL"), (0, 1 << 30, "EINVAL"), (2, 0, "ENODEV")):
        assert owner.fails("dmabuf_export", "D", "N", bar, offset, 4096) == error
    assert owner.fails("preserve", "S", 9, "S") == "ENOENT"
    owner("preserve", "S", 9, "M")
    assert owner.fails("preserve", "S", 9, "D") == "EEXIST"


@pytest.mark.thorough
def test_example(small):
    """The example of the library does what it says."""
    bdf = small.bdf("nvme0")
    small.bind_vfio(bdf)
    small.sh(f"example {bdf} </dev/null >/run/example 2>&1 & sleep 1; cat /run/example")
    assert state(small, bdf) == "outgoing running"
    small.kexec()
    assert state(small, bdf) == "incoming running"
    assert re.fullmatch(r"file \d+", small.sh("example").strip())
    assert state(small, bdf) == "none"
    # There is no second time.
    assert "lu_session_retrieve" in small.sh("example 2>&1; true")


def test_rollback(start):
    """Whichever member cannot be preserved: nothing is, the devices work on, and can be later."""
    m, owner = at_work(start, *BOTH, owner=RunningSet)
    owner.describe()
    owner("session_create", "T", owner.session)
    refused(owner, "EEXIST")
    owner("close", "T")
    unharmed(owner)
    # A memfd that is preserved already, and a file that is no memfd.
    owner("session_create", "T", "other")
    owner("preserve", "T", 1, "Migb0")
    refused(owner, "EBUSY", "Migb0")
    owner("close", "T")
    unharmed(owner)
    owner("open", "F", "/init")
    owner("set_memory", "P", "F")
    refused(owner, "ENOENT", "F")
    owner.describe()
    unharmed(owner)
    # A page table that is marked already: the mark stays.
    owner("hwpt_mark", "I", "Higb0", 77)
    refused(owner, "EEXIST", "Higb0")
    owner("hwpt_unmark", "I", "Higb0", 77)
    unharmed(owner)
    # An iommufd that maps what is not in the set, and one with a device that is too early.
    owner("memfd", "X", "64k")
    owner("ioas_map_file", "I", "A", "X", 0, "64k", 0x10000)
    refused(owner, "ENOENT", "I")
    owner("ioas_unmap", "I", "A", 0x10000, "64k")
    unharmed(owner)
    owner("session_create", "T", "other")
    owner("preserve", "T", 1, "Digb0")
    refused(owner, "EBUSY", "I")
    owner("close", "T")
    unharmed(owner)
    # A device that is not bound, and one on a page table that goes along and should not.
    owner("vfio_open", "E", owner.devices["igb0"].bdf)
    owner("set_device", "P", "E")
    refused(owner, "EINVAL", "E")
    owner("close", "E")
    owner.describe(idle=["igb0"])
    unharmed(owner)
    owner("vfio_attach", "Digb0", "Hnvme0")
    refused(owner, "EPROTOTYPE", "Digb0")
    owner("vfio_attach", "Digb0", "Higb0")
    unharmed(owner)
    owner.describe()
    owner.preserve()
    assert states(owner) == {"outgoing running"}
    owner.unpreserve()
    unharmed(owner)
    m.mark("tried")
    see_undisturbed(owner, "load", "tried")
    owner.preserve()
    m.kexec()
    take_over(owner)
    see_good_update(owner)


@pytest.mark.thorough
def test_two_updates(start):
    """A set is taken over in one call and preserved again: nothing is lost or disturbed."""
    m, owner = at_work(start, *BOTH, owner=RunningSet)
    for update in range(2):
        owner.preserve()
        assert states(owner) == {"outgoing running"}
        m.kexec()
        assert states(owner) == {"incoming running"}
        owner("session_retrieve", "S", owner.session)
        assert owner("session_name", "S").values == [owner.session]
        owner("set_open", "P", "S")
        owner("set_take_over", "P")
        m.mark("handover")
        assert states(owner) == {"none"}
        owner("close", "S")
        owner.get()
        for device in owner.devices.values():
            assert owner("vfio_bdf", device.file).values == [device.bdf]
            assert members(owner)[device.file][-1] == "running"
        see_undisturbed(owner)
        see_dma(owner)
        if not update:
            owner.refill()
    see_no_faults(owner)
    see_nothing_lost(owner.settle())


def keep(keeper, owner):
    """Let a process have an owner's session, too, as a service manager would."""
    owner("set_session", "P", "S")
    keeper("steal", "S", owner.worker.pid(), owner.worker.fd("S"))
    owner("close", "S")


@pytest.mark.thorough
def test_killed_while_taking_over(start):
    """Processes die after each step of taking a set over: the next one goes on."""
    m, owner = at_work(start, *BOTH, owner=RunningSet)
    keeper = m.worker("keeper")
    owner.preserve()
    m.kexec()
    owner.retrieve()
    numbers = {name: int(owner("vfio_id", f"D{name}")) for name in BOTH}
    owner.worker.kill()
    assert states(owner) == {"incoming running"}
    owner.retrieve()
    # The files are bound still, and have the numbers that they had.
    assert {name: int(members(owner)[f"D{name}"][2]) for name in BOTH} == numbers
    see_busy(owner)
    owner.handover()
    keep(keeper, owner)
    owner.worker.kill()
    # Somebody has the session: that is enough for the devices to go on.
    assert states(owner) == {"incoming running"}
    owner("steal", "S", keeper.pid(), keeper.fd("S"))
    keeper("close", "S")
    owner("set_open", "P", "S")
    owner("close", "S")
    owner("set_take_over", "P")
    owner.get()
    m.mark("handover")
    assert states(owner) == {"none"}
    see_good_update(owner)
    # And it can be preserved again.
    owner.preserve()
    assert states(owner) == {"outgoing running"}
    # What a service manager has, too, is not unpreserved by one process alone.
    keep(keeper, owner)
    assert owner.fails("set_unpreserve", "P") == "EBUSY"
    assert states(owner) == {"outgoing running"}
    keeper("close", "S")
    owner("set_unpreserve", "P")
    assert states(owner) == {"none"}


@pytest.mark.thorough
def test_bar(start):
    """A BAR that is mapped for another device is mapped again after the update."""
    m, owner = at_work(start, *BOTH, owner=RunningSet)
    where = IOVA >> 1
    owner("dmabuf_export", "Digb0", "B", 0, IGB_STATISTICS, 4096)
    owner("ioas_map_file", "I", "A", "B", 0, 4096, where)
    owner("close", "B")
    owner.describe()
    owner("set_map_bar", "P", "A", "Digb0", 0, IGB_STATISTICS, 4096, where)
    owner.preserve()
    m.kexec()
    take_over(owner)
    owner("nvme_write_to", owner.devices["nvme0"].driver, where)
    see_good_update(owner)


@pytest.mark.thorough
def test_idle(start):
    """Devices in idle mode are bound and attached again, to a new iommufd if need be."""
    m = start(topology=(*PAIR, Port(Igb("igb1")), Port(Nvme("nvme1"))))
    owner, other = RunningSet(m), Owner(m, "owner")
    owner.open(*BOTH)
    owner.start()
    drive, network = owner.devices.values()
    network.stream.stop()
    other("iommufd", "J")
    other("ioas", "J", "B")
    for name in ("igb1", "nvme1"):
        m.bind_vfio(m.bdf(name))
        other.worker.vfio(f"D{name}", m.bdf(name), "J", "B")
    owner.describe(idle=["igb0"])
    owner("set_iommufd", "P", "J")
    owner("set_ioas", "P", "B", "J")
    owner("set_device", "P", "Digb1", "B")
    owner("set_device", "P", "Dnvme1")
    owner.preserve()
    idle = [m.bdf(name) for name in ("igb0", "igb1", "nvme1")]
    assert state(m, drive.bdf) == "outgoing running"
    assert {state(m, bdf) for bdf in idle} == {"outgoing idle"}
    assert members(owner)["Digb1"][-1] == "idle"
    m.kexec()
    assert {state(m, bdf) for bdf in idle} == {"incoming idle"}
    # From here on the drive alone is looked at.
    owner.devices.pop("igb0")
    owner.retrieve()
    owner.handover()
    owner.finish()
    for name in ("I", "A", "J", "B", "Digb0", "Migb0", "Digb1", "Dnvme1"):
        owner("set_get", "P", name)
    # One is attached to the address space that all share, and its memory is mapped there.
    owner("igb_start", network.driver, network.file, network.memory, network.iova)
    owner("igb_rx_begin", network.driver, 0)
    # One has an iommufd of its own, new, and one has to be bound to it yet.
    assert owner.fails("vfio_bind", "Digb1", "J") == "EINVAL"
    owner("vfio_bind", "Dnvme1", "J")
    owner("vfio_attach", "Dnvme1", "B")
    for kind, name in (("igb", "igb1"), ("nvme", "nvme1")):
        memory = f"M{name}"
        iova = IOVA + (m.bdf(name) != idle[1]) * (1 << 24)
        owner.worker.dma_memory(memory, MEMORY[kind], iova, "J", "B")
        owner(f"{kind}_start", f"X{name}", f"D{name}", memory, iova)
    owner("nvme_write", "Xnvme1", 0, 64, 5)
    owner("nvme_read_check", "Xnvme1", 0, 64, 5)
    see_good_update(owner)


def test_idle_owner_killed(start):
    """A device in idle mode that the dead had bound is theirs: the next process is told so."""
    m = start(topology=SMALL)
    owner, keeper = Owner(m), m.worker("keeper")
    bdf, = owner.own("nvme0")
    owner("set_new", "P")
    owner("set_iommufd", "P", "I")
    owner("set_ioas", "P", "A", "I")
    owner("set_device", "P", "Dnvme0", "A")
    owner("set_preserve", "P", "idle")
    assert state(m, bdf) == "outgoing idle"
    m.kexec()
    owner("session_retrieve", "S", "idle")
    owner("set_open", "P", "S")
    owner("close", "S")
    owner("set_retrieve", "P")
    keep(keeper, owner)
    owner.worker.kill()
    assert state(m, bdf) == "incoming idle"
    owner("steal", "S", keeper.pid(), keeper.fd("S"))
    keeper("close", "S")
    owner("set_open", "P", "S")
    owner("close", "S")
    with pytest.raises(GuestError) as caught:
        owner("set_retrieve", "P")
    assert caught.value.errno == "EADDRINUSE" and str(caught.value).endswith(" Dnvme0")
    # All that can be done: finish, close, open anew.
    owner("set_finish", "P")
    owner("close", "P")
    assert state(m, bdf) == "none"
    owner.own("nvme0")
    owner.drive("nvme0")
    owner.write("nvme0")
    owner.check("nvme0")
