# SPDX-License-Identifier: GPL-2.0-only
"""Draw the timeline of an update: when each device did DMA, over what the kernels did then."""

import subprocess

TERMINALS = {"svg": 'svg size 960,420 font "sans,13" background "white"',
             "png": 'pngcairo size 1440,630 font "sans,14" background "white"'}
BANDS = ("#f4d58d", "#e5989b", "#cfe1b9", "#a9cce3", "#c39bd3", "#f0b27a")
COLOURS = ("#1b4965", "#9a3b1b", "#4f772d")


def _bands(phases):
    """Return the commands that colour the phases, and name them above the plot."""
    lines = []
    for i, (name, begin, end) in enumerate(phases):
        fill = f"fc rgb '{BANDS[i % len(BANDS)]}' fs solid 0.7 noborder"
        slot = i / len(phases)
        lines += [
            f"set object rectangle from first {begin}, graph 0 to first {end}, graph 1 behind "
            + fill,
            f"set object rectangle from graph {slot}, graph 1.04 to graph {slot + 0.02}, "
            f"graph 1.09 noclip {fill}",
            f'set label "{name}, {(end - begin) * 1000:.0f} ms" at graph {slot + 0.03}, '
            'graph 1.065 left',
        ]
    return lines


def _block(name, rows):
    """Return a block of data."""
    return [f"${name} << END", *rows, "END"]


def _script(terminal, path, series, phases, title):
    """Return what gnuplot has to do.

    A line for each device goes up with each moment of DMA; below, each moment is a stroke.
    """
    first = min(moments[0] for _, moments in series)
    last = max(moments[-1] for _, moments in series)
    most = max(len(moments) for _, moments in series)
    strip = most * 0.1
    lines = [
        f"set terminal {terminal}",
        f'set output "{path}"',
        f'set title "{title}" offset 0,1.6',
        "set tmargin 5.5",
        "set rmargin 4",
        f"set xrange [{first}:{last}]",
        f"set yrange [{-strip * (len(series) + 0.6)}:{most * 1.05}]",
        'set xlabel "seconds since the order to jump"',
        'set ylabel "done so far, and when"',
        "set xtics 1 out nomirror",
        "set ytics 0, 100 out nomirror",
        "set border 3",
        "set key left top Left reverse",
        *_bands(phases),
    ]
    plots = []
    for i, (name, moments) in enumerate(series):
        bottom = -strip * (i + 1.3)
        strokes = (f"{when:.3f} {bottom:.1f}\n{when:.3f} {bottom + 0.8 * strip:.1f}\n"
                   for when in moments)
        lines += _block(f"Sum{i}", (f"{when:.3f} {n}" for n, when in enumerate(moments, 1)))
        lines += _block(f"Strokes{i}", strokes)
        colour = f"lc rgb '{COLOURS[i % len(COLOURS)]}'"
        plots.append(f"$Sum{i} with lines lw 2 {colour} title '{name}'")
        plots.append(f"$Strokes{i} with lines lw 0.7 {colour} notitle")
    return "\n".join([*lines, "plot " + ", ".join(plots), ""])


def draw(folder, series, phases, kernels, title="DMA while Linux {} is replaced by {}",
         name="timeline"):
    """Draw NAME.svg and NAME.png in a folder; returns their paths.

    series has for each device its name and the moments of its DMA, phases the name, begin and
    end of each phase: all in seconds since the order to jump.
    """
    paths = []
    for suffix, terminal in TERMINALS.items():
        path = folder / f"{name}.{suffix}"
        script = _script(terminal, path, series, phases, title.format(*kernels))
        subprocess.run(["gnuplot"], input=script, text=True, check=True,
                       stderr=subprocess.PIPE)
        paths.append(path)
    return paths
