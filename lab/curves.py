# SPDX-License-Identifier: GPL-2.0-only
"""Draw how accounts went through a run of updates."""

import subprocess

TERMINAL = 'svg size 960,480 font "sans,12" background "white"'


def _panel(ledger, names, title):
    """Return gnuplot's lines for a panel: each account's distance from its first value."""
    plots, blocks = [], []
    for kernel, accounts in ledger.readings.items():
        for name in names:
            points = accounts[name][1:]
            block = f"$P{abs(hash((kernel, name)))}"
            blocks += [f"{block} << END", *(f"{update} {value - points[0][1]}"
                                            for update, value in points), "END"]
            plots.append(f"{block} with steps title '{name}, {kernel}'")
    return [*blocks, f'set ylabel "{title}"', "plot " + ", ".join(plots)]


def draw(folder, ledger):
    """Draw accounts.svg in a folder; returns its path."""
    path = folder / "accounts.svg"
    exact = [name for name, account in ledger.accounts.items() if not account.bound]
    bounded = [name for name, account in ledger.accounts.items() if account.bound]
    lines = [f"set terminal {TERMINAL}", f'set output "{path}"',
             "set multiplot layout 2,1", "set key outside right", "set border 3",
             "set xtics nomirror", "set ytics nomirror",
             *_panel(ledger, bounded, "KiB from the first value"),
             'set xlabel "updates"', "set yrange [-1.5:1.5]",
             *_panel(ledger, exact, "exact accounts"), "unset multiplot"]
    subprocess.run(["gnuplot"], input="\n".join(lines) + "\n", text=True, check=True,
                   stderr=subprocess.PIPE)
    return path
