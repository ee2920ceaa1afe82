# SPDX-License-Identifier: GPL-2.0-only
"""A virtual machine in the machine that lives through its updates: a service of lu-qemu.

    vm = KeptVm(m, ["nvme0"], words="inner.depth=32")
    vm.start()
    m.kexec()
    vm.wait_reads(100)
"""

import json
import shlex
import time

from .machine import MachineError
from .vm import LOOK_S, InnerVm

UNIT = "lu-qemu@.service"
CONF = "/etc/lu-qemu"
HELPERS = "/usr/lib/vfio-liveupdate/kexec.d"


class KeptVm(InnerVm):
    """A virtual machine that lu-qemu keeps.

    Its command line, unit and what has to be loaded before that are files of the machine's disk,
    which stay over a kexec; so does what it says.
    """

    def __init__(self, machine, devices, name="vm", *, page=None, **options):
        """Describe it; nothing runs yet. page: size of its memory's pages, if they are huge."""
        super().__init__(machine, devices, name, **options)
        self._page = page
        self.unit = f"lu-qemu@{name}.service"

    def command(self):
        """Return the command that starts it."""
        command = super().command()
        if self._page:
            at = command.index("-object") + 1
            command[at] += f",hugetlb=on,hugetlbsize={self._page}"
        # Devices need names, for lu-qemu to know whose BARs are mapped.
        for name in self.devices:
            at = command.index(f"vfio-pci,host={self.machine.bdf(name)},iommufd=iommufd0")
            command[at] += f",id={name}"
        return command

    def install(self):
        """Put all that there has to be on the machine's disk."""
        self.prepare()
        m = self.machine
        m.sh(f"mkdir -p {CONF} {HELPERS}; ln -sf /run/lab/bin/lu-qemu /usr/sbin/lu-qemu;"
             f" ln -sf /run/lab/bin/lu-qemu-kexec {HELPERS}/lu-qemu;"
             f" cp '/run/lab/{UNIT}' /etc/systemd/system/;"
             " printf 'kvm_amd\\nvfio-pci\\n' >/etc/modules-load.d/vm.conf")
        setting = shlex.quote(f'QEMU="{self.shell_command()}"')
        m.sh(f"echo {setting} >{CONF}/{self.name}.conf; systemctl daemon-reload")

    def start(self):
        """Start it, now and whenever the machine starts."""
        self.install()
        self.machine.sh(f"systemctl enable -q --now {self.unit}")

    def lu_qemu(self, *words, check=True):
        """Run a command of lu-qemu for it; returns what it says."""
        return self.machine.sh(f"lu-qemu {' '.join(words)} {self.name} 2>&1", check=check)

    def status(self):
        """Return what lu-qemu knows of it."""
        return json.loads(self.machine.sh(f"lu-qemu status --json {self.name}"))[0]

    def wait_state(self, state, timeout=60):
        """Wait until lu-qemu says that it is in a state; returns what it knows of it."""
        end = time.monotonic() + timeout
        while True:
            status = self.status()
            if status["state"] == state:
                return status
            if time.monotonic() > end:
                raise MachineError(f"the virtual machine {self.name} is {status['state']}, and not"
                                   f" {state}:\n{self._journal()}")
            time.sleep(LOOK_S)

    def _journal(self):
        """Return what its keeper and QEMU said."""
        return self.machine.sh(f"journalctl -q --no-pager -u {self.unit} | tail -n 20", check=False)
