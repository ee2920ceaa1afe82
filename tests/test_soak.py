# SPDX-License-Identifier: GPL-2.0-only
"""make soak: a short run, and that it notices what it is there to notice."""

import json

import pytest

from conftest import KERNELS
from lab import Machine
from lab.soak import ACCOUNTS, PATIENCE, TOPOLOGY, Account, Ledger, Soak

BOUNDED = {"free": Account(400, "KiB", "memory")}


def drift(values, name="free", accounts=None):
    """Enter the values of one update after the other; returns the first that drifts, and how."""
    ledger = Ledger(accounts or BOUNDED)
    for update, value in enumerate(values, 1):
        complaints = ledger.enter(update, "lab-a", {name: value})
        if complaints:
            return update, complaints[0]
    return None


@pytest.mark.parametrize(("values", "update", "text"), [
    ([9000] + [5000] * 50, None, None),
    ([5000 + 150 * (-1) ** i for i in range(200)], None, None),
    ([5000] * 7 + [4599], 8, "4599 KiB, and 5000 after update 2; the bound is 400"),
    ([5000 - 4 * i for i in range(200)], 53, "a trend of -204 KiB since update 2"),
    ([5000 + 50 * (-1) ** i + 4 * i for i in range(200)], 51, "a trend of"),
])
def test_drift(values, update, text):
    """Noise is none; a step is, and so is a page with each update, long before it is a step."""
    found = drift(values)
    assert (found and found[0]) == update
    assert text is None or text in found[1]


@pytest.mark.parametrize("name", [name for name, a in ACCOUNTS.items() if not a.bound])
def test_exact(name):
    """An exact account says that one too many is one too many."""
    assert drift([8, 7, 7, 7], name, ACCOUNTS) is None
    assert drift([8, 7, 7, 8], name, ACCOUNTS)[0] == 4


def test_kernels_that_take_turns():
    """Each kernel has values of its own."""
    ledger = Ledger(BOUNDED)
    for update in range(1, 50):
        kernel = "ab"[update % 2]
        assert not ledger.enter(update, kernel, {"free": 1000 * (1 + update % 2)})
    assert [ledger.summary()[kernel]["free"]["first"] for kernel in "ab"] == [1000, 2000]


def test_read_again():
    """Another reading after the same update is one more chance for it, and no more."""
    ledger = Ledger(BOUNDED)
    for update, value, drifts in ((1, 5000, 0), (2, 5000, 0), (3, 6000, 1), (3, 5000, 0),
                                  (4, 6000, 1)):
        assert len(ledger.enter(update, "lab-a", {"free": value})) == drifts
    assert ledger.summary()["lab-a"]["free"]["readings"] == 3


def soak(folder, kernels, updates, meddle=None):
    """Run updates; returns whether they went well, the report, and what was said."""
    lines = []
    machine = Machine(f"test_soak-{updates}", *KERNELS[kernels], topology=TOPOLOGY,
                      patience=PATIENCE)
    good = Soak(machine, updates, folder, say=lines.append, meddle=meddle).run()
    report = json.loads((folder / "report.json").read_text())
    return good, report, "\n".join(lines)


@pytest.mark.thorough
def test_three_updates(tmp_path, kernels):
    """Three updates go well; the report has them, and each of them has all accounts."""
    good, report, said = soak(tmp_path, kernels, 3)
    assert good, said
    assert [set(row["accounts"]) for row in report["rows"]] == [set(ACCOUNTS)] * 3
    assert report["updates"] == 3 and not report["failure"]
    assert all(report["work"][name] > 0 for name in ("nvme0", "igb0"))
    assert "3 of 3 updates went well" in said
    assert (tmp_path / "accounts.svg").stat().st_size > 1000


@pytest.mark.thorough
def test_leak(tmp_path, kernels):
    """More files stay open with each update: the run ends, and says which account it is."""
    def meddle(machine, update):
        machine.sh(f"for i in $(seq {update});"
                   "do sleep 1000 </proc/version >/dev/null 2>&1 & done")

    good, report, said = soak(tmp_path, kernels, 9, meddle)
    assert not good
    assert "files (open files, of /proc/sys/fs/file-nr) of" in report["failure"]
    assert report["updates"] == (5 if kernels == "modules" else 3)
    assert report["failure"] in said
