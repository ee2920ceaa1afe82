# SPDX-License-Identifier: GPL-2.0-only
"""Draw how the accounts of a run of updates went, and how long devices paused."""

import subprocess

TERMINAL = 'svg size 960,540 font "sans,12" background "white"'


def distances(ledger, name):
    """Return how far an account is from its first value, by update; kernels take turns."""
    found = {}
    for accounts in ledger.readings.values():
        points = accounts[name][1:]
        found.update({update: value - points[0][1] for update, value in points})
    return found


def _panel(label, series):
    """Return gnuplot's lines for a panel: a line for each name, of values by update."""
    lines, plots = [f'set ylabel "{label}"'], []
    for i, (name, values) in enumerate(series.items()):
        lines += [f"$Data{i} << END", *(f"{x} {values[x]}" for x in sorted(values)), "END"]
        plots.append(f"$Data{i} with lines title '{name}'")
    return [*lines, "plot " + ", ".join(plots)]


def draw(folder, ledger, pauses):
    """Draw accounts.svg in a folder; returns its path. pauses has seconds by update."""
    path = folder / "accounts.svg"
    exact = [name for name, account in ledger.accounts.items() if not account.bound]
    others = {name: distances(ledger, name) for name, account in ledger.accounts.items()
              if account.unit == "KiB" and account.bound}
    worst = {}
    for name in exact:
        for update, distance in distances(ledger, name).items():
            worst[update] = max(worst.get(update, 0), abs(distance))
    lines = [f"set terminal {TERMINAL}", f'set output "{path}"', "set border 3",
             "set xtics nomirror", "set ytics nomirror", "set lmargin 9", "set rmargin 22",
             "set key at screen 0.99, graph 1 right top Left reverse", "set multiplot",
             "set size 1,0.5", "set origin 0,0.5", *_panel("KiB from first value", others),
             "set size 1,0.22", "set origin 0,0.28", "set yrange [-0.5:1.5<*]", "set ytics 1",
             *_panel("off by", {f"{len(exact)} exact accounts": worst}),
             "set size 1,0.28", "set origin 0,0", "set yrange [0:*]", "set ytics auto font \",8\"",
             'set xlabel "updates"', *_panel("s", {"longest pause in DMA": pauses}),
             "unset multiplot"]
    subprocess.run(["gnuplot"], input="\n".join(lines) + "\n", text=True, check=True,
                   stderr=subprocess.PIPE)
    return path
