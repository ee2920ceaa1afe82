# SPDX-License-Identifier: GPL-2.0-only
"""Device TLBs, and what becomes of ATS, PASID and PRI: KUnit tests with a VT-d unit and PCI
devices in software, which can do what QEMU's do not: not answer a flush, and page requests.

They are built into the kernel that they test, and run when it starts.
"""

import re

from lab import SMALL, Machine

SUITES = {
    "liveupdate-device-tlb": {
        "handover": 3, "handover_extra": 3, "handover_absent": 3, "handover_ats_off": 3,
        "unmap": 3, "unmap_extra": 3, "unmap_after_handover": 3, "detach": 3,
        "detach_absent": 3, "release": 3, "drop": 3},
    "liveupdate-device-tlb-timeout": {
        "never": 3, "never_early": 3, "gone": 3, "gone_early": 3, "never_handover": 3,
        "never_again": 3, "never_meanwhile": 1, "other_device": 3, "unit_without_sid": 3,
        "others": 3, "others_gone": 3, "released": 3, "released_whose": 3,
        "other_sees": 3, "other_sees_gone": 3, "other_sees_released": 3},
    "liveupdate-pci-services": {
        "adopt": 10, "adopt_absent": 1, "adopt_virtual": 1, "adopt_differs": 14,
        "adopt_held": 1, "end_all": 1, "end_without": 1, "end_virtual": 1,
        "quiesce": 3, "quiesce_unused": 1, "quiesce_virtual": 1, "quiesce_without": 1},
    "liveupdate-vtd-services": {
        "keep": 3, "keep_busy": 3, "enable_busy": 3, "enable_incoming": 3, "drain": 3},
}


def see_suite(said, suite):
    """See that all cases of a suite have run, with all their parameters, and that all passed."""
    found = re.search(rf"# Subtest: {suite}$(.*?)\bok \d+ {suite}$", said, re.M | re.S)
    assert found, f"{suite} did not run to its end"
    assert not re.findall(r".*\bnot ok .*", found[0])
    ran = {name: 1 for name in re.findall(r"\] {5}ok \d+ (\w+)$", found[1], re.M)}
    ran |= {name: int(number) for name, number in
            re.findall(r" {4}# (\w+): pass:(\d+) fail:0 skip:0 total:\2$", found[1], re.M)}
    assert ran == SUITES[suite]


def test_suites():
    """Each suite has run: there is a CPU for a test, the unit, and a bystander each."""
    with Machine("test_ats_kunit", kernel="kunit", topology=SMALL, smp=3) as m:
        said = m.console_text()
    for suite in SUITES:
        see_suite(said, suite)
