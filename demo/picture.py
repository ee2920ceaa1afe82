# SPDX-License-Identifier: GPL-2.0-only
"""Draw the timeline of an update: when each device did DMA, over what the kernels did then."""

import subprocess

TERMINALS = {"svg": 'svg size 960,440 font "sans,13" background "white"',
             "png": 'pngcairo size 1440,660 font "sans,19" background "white"'}
BANDS = ("#f4d58d", "#e5989b", "#cfe1b9", "#a9cce3", "#d7bde2")
COLOURS = ("#1b4965", "#9a3b1b")
# A band that is narrower than this part of the picture has its name beside it.
NARROW = 0.07


def _labels(phases, first, last):
    """Return the commands that name the phases above the plot."""
    width = last - first
    lines = []
    for name, begin, end in phases:
        text = f"{name}\\n{(end - begin) * 1000:.0f} ms"
        place = (begin + end) / 2
        if end - begin < NARROW * width:
            text = f"{name}, {(end - begin) * 1000:.0f} ms"
            lines.append(f'set label "{text}" at first {place}, graph 1.02 rotate by 35 left '
                         'font ",11"')
        else:
            lines.append(f'set label "{text}" at first {place}, graph 1.09 center')
    return lines


def _script(terminal, path, series, phases, kernels):
    """Return what gnuplot has to do."""
    first = min(moments[0] for _, moments in series)
    last = max(moments[-1] for _, moments in series)
    lines = [
        f"set terminal {terminal}",
        f'set output "{path}"',
        "set lmargin 11", "set rmargin 4", "set tmargin 6.5", "set bmargin 3.5",
        f"set xrange [{first}:{last}]",
        'set xlabel "seconds since the order to jump"',
        'set ylabel "done so far"',
        "set grid y lc rgb '#dddddd'",
        "set key left top opaque box lc rgb '#bbbbbb' spacing 1.2",
        "set tics out nomirror",
        "set border 3",
        f'set label "Linux {kernels[0]}" at graph 0.01, graph 1.09 left font ",11"',
        f'set label "Linux {kernels[1]}" at graph 1.0, graph 1.09 right font ",11"',
    ]
    for i, (_, begin, end) in enumerate(phases):
        lines.append(f"set object rectangle from first {begin}, graph 0 to first {end}, graph 1 "
                     f"behind fc rgb '{BANDS[i % len(BANDS)]}' fs solid 0.6 noborder")
    lines += _labels(phases, first, last)
    most = max(len(moments) for _, moments in series)
    # Below the lines each moment is a stroke: a strip for each device.
    height = most * 0.09
    lines.append(f"set yrange [{-height * (len(series) + 0.6)}:{most * 1.03}]")
    lines.append("set ytics 0, " + str(max(50, round(most / 5, -2) or 50)))
    plots = []
    for i, (name, moments) in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        bottom = -height * (i + 1.3)
        lines += [f"$D{i} << END", *(f"{when:.4f} {n}" for n, when in enumerate(moments, 1)), "END"]
        plots.append(f"$D{i} using 1:2 with steps lw 2 lc rgb '{colour}' title '{name}'")
        plots.append(f"$D{i} using 1:({bottom}):(0):({height * 0.8}) with vectors nohead lw 0.6 "
                     f"lc rgb '{colour}' notitle")
    return "\n".join([*lines, "plot " + ", \\\n  ".join(plots), ""])


def draw(folder, series, phases, kernels):
    """Draw timeline.svg and timeline.png in a folder; returns their paths.

    series has for each device its name and the moments of its DMA, phases the name, begin and
    end of each phase: all in seconds since the order to jump.
    """
    paths = []
    for suffix, terminal in TERMINALS.items():
        path = folder / f"timeline.{suffix}"
        script = _script(terminal, path, series, phases, kernels)
        subprocess.run(["gnuplot"], input=script, text=True, check=True,
                       stderr=subprocess.PIPE)
        paths.append(path)
    return paths
