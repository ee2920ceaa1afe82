# SPDX-License-Identifier: GPL-2.0-only
"""What people see of the demo: headings, steps with their times, tables."""

import contextlib
import os
import sys
import time


class Show:
    """Prints; in colour on a terminal."""

    def __init__(self):
        """Look at what the output is."""
        self._terminal = sys.stdout.isatty()
        self._colour = self._terminal and "NO_COLOR" not in os.environ
        self._pending = False
        self.doing = None

    def paint(self, text, code):
        """Colour a text, where there are colours."""
        return f"\033[{code}m{text}\033[m" if self._colour else text

    def line(self, text=""):
        """Print a line."""
        self.leave()
        print(text, flush=True)

    def leave(self):
        """Let a step that was begun, and not ended, keep its line."""
        if self._pending:
            print(flush=True)
        self._pending = False

    def heading(self, text):
        """Begin a part."""
        self.line("\n" + self.paint(text, "1"))

    def done(self, text, seconds):
        """Print a step that is done."""
        if self._pending:
            print("\r\033[K", end="")
        self._pending = False
        self.doing = None
        self.line(f"  {seconds:6.2f} s  {text}")

    def begin(self, text):
        """Say which step comes now."""
        self.doing = text
        if self._terminal:
            print(f"     ...    {text}", end="", flush=True)
            self._pending = True

    @contextlib.contextmanager
    def step(self, text):
        """Time a step; what is appended to the list that it gets is its result."""
        self.begin(text)
        result = []
        began = time.time()
        yield result
        self.done(": ".join([text, *map(str, result)]), time.time() - began)

    def table(self, rows, columns=()):
        """Print rows of cells, a name first, below the names of columns."""
        head = [["", *columns]] if columns else []
        rows = [[str(cell) for cell in row] for row in head + rows]
        widths = [max(len(row[i]) for row in rows if i < len(row))
                  for i in range(max(map(len, rows)))]
        for row in rows:
            name, *cells = (cell.ljust(width) for cell, width in zip(row, widths))
            self.line("  " + self.paint(name, "2") + "  " + "  ".join(cells).rstrip())
