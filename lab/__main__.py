# SPDX-License-Identifier: GPL-2.0-only
"""python3 -m lab: a machine for people, and for long runs."""

import argparse
import subprocess
import sys

from . import ImageError, Machine, MachineError, bench, paths
from .cost import table
from .soak import soak


def shell(args):
    """Run a machine on this terminal."""
    machine = Machine("shell", args.kernel, args.next, scalable=args.scalable, append=args.append,
                      memory=args.memory, modules=["vfio-pci"], system=args.system, vm=args.vm)
    machine.folder.mkdir(parents=True, exist_ok=True)
    try:
        return subprocess.call(machine.command(interactive=True))
    finally:
        machine.close()


def boot_time(args):
    """Measure boot and kexec."""
    with Machine("boot-time", args.kernel, args.next, scalable=args.scalable, append=args.append,
                 memory=args.memory) as machine:
        print(f"boot   {machine.marks['ready'] - machine.marks['start']:6.2f} s"
              f"  {machine.sh('uname -r')}")
        for _ in range(args.updates):
            machine.kexec()
            print(f"kexec  {machine.marks['ready'] - machine.marks['freeze']:6.2f} s"
                  f"  {machine.sh('uname -r')}")
    return 0


def cost(args):
    """Measure what each step of an update costs, and in what that grows."""
    for line in table(args.sizes, args.kernel, args.next):
        print(line)
    return 0


def benchmark(args):
    """Measure updates against bare kexecs, by instructions; leaves bench.json and plots."""
    folder = paths.BUILD / "bench"
    kernels, mode = (args.kernel, args.next), "scalable" if args.scalable else "legacy"
    runs = ([(case, kernels, mode) for case in bench.QUICK] if args.quick
            else bench.everything(kernels, mode))
    for line in bench.run(folder, runs):
        print(line)
    print(f"bench: bench.json, bench.md and plots are in {folder}")
    return 0


def updates(args):
    """Take devices at work through updates in a row; stop at the first loss, fault or drift."""
    good = soak(args.kernel, args.next, args.updates, scalable=args.scalable, append=args.append,
                memory=args.memory, smp=args.smp)
    return 0 if good else 1


def options():
    """Return the options that all commands have."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--kernel", default="lab-a", help="flavour to start (lab-a)")
    parser.add_argument("--next", help="flavour to kexec into (lab-b after lab-a, else the same)")
    parser.add_argument("--scalable", action="store_true", help="VT-d in scalable mode")
    parser.add_argument("--append", default="", help="more words for the kernel's command line")
    parser.add_argument("--memory", help="the machine's memory, like 1G")
    return parser


def main():
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python3 -m lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    common = [options()]
    people = commands.add_parser("shell", help=shell.__doc__, parents=common)
    people.add_argument("--system", action="store_true", help="Debian with systemd")
    people.add_argument("--vm", action="store_true", help="with QEMU and KVM in it, too")
    people.set_defaults(run=shell)
    times = commands.add_parser("boot-time", help=boot_time.__doc__, parents=common)
    times.add_argument("--updates", type=int, default=1, help="how many kexecs (1)")
    times.set_defaults(run=boot_time)
    steps = commands.add_parser("cost", help=cost.__doc__, parents=common)
    steps.add_argument("--sizes", type=int, nargs="+", default=[16, 64, 256],
                       help="how much memory is mapped, in MiB (16 64 256)")
    steps.set_defaults(run=cost)
    against = commands.add_parser("bench", help=benchmark.__doc__, parents=common)
    against.add_argument("--quick", action="store_true", help="a few cases only, in minutes")
    against.set_defaults(run=benchmark)
    many = commands.add_parser("soak", help=updates.__doc__, parents=common)
    many.add_argument("--updates", type=int, default=100, help="how many (100)")
    many.add_argument("--smp", type=int, default=2, help="how many processors (2)")
    many.set_defaults(run=updates)
    args = parser.parse_args()
    try:
        return args.run(args)
    except (ImageError, MachineError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
