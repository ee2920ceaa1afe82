# SPDX-License-Identifier: GPL-2.0-only
"""docs/operating.md: what it tells people to type in a lab machine, typed."""

import re

import pytest

from lab import paths

DOCUMENT = paths.ROOT / "docs" / "operating.md"
BDF = "0000:01:00.0"


def blocks():
    """Return the commands of each block that is to be typed."""
    found = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.S)
    return [block.splitlines() for block in found]


@pytest.mark.only("modules")
def test_first_update_by_hand(standard):
    """The first update by hand goes as the document says, in the machine that it says."""
    m = standard
    before, after = blocks()
    said = {command: m.sh(command) for command in before[:-1]}
    check = next(command for command in before if " check " in command)
    assert said[check].splitlines()[-1] == "Ready: 1 device can be preserved in running mode."
    outgoing, = [line for line in said["vfio-liveupdate status"].splitlines() if BDF in line][:1]
    assert {"outgoing", "running", "preserved"} <= set(outgoing.split())
    old = m.sh("uname -r")
    m.kexec_by(before[-1])
    assert after[0] == "uname -r" and m.sh(after[0]) not in ("", old)
    statuses = []
    for command in after[1:]:
        answer = m.sh(command)
        if command == "vfio-liveupdate status":
            statuses.append(answer)
        elif command == "example":
            assert answer.startswith("file ")
    waiting, = [line for line in statuses[0].splitlines() if BDF in line]
    assert {"incoming", "running", "waiting"} <= set(waiting.split())
    assert BDF not in statuses[1]
    assert answer == "none"
