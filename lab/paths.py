# SPDX-License-Identifier: GPL-2.0-only
"""Where things are in the project."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("BUILD", ROOT / "build"))
IMAGES = BUILD / "images"
LAB = BUILD / "lab"
RUNS = LAB / "runs"


def short(path):
    """Name a path relative to the project where that is possible."""
    path = Path(path)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
