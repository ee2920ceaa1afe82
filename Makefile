# SPDX-License-Identifier: GPL-2.0-only
#
# The front door.  Every room has its own script or Makefile; this one knows
# where they are and what they need to be there first.  Each target does all
# the set-up that it needs by itself, and repeats nothing that is done.

BASE     ?= 7.3
FLAVOURS ?= $(FLAVOURS_$(BASE))
TESTS    ?= tests
UPDATES  ?= 100

# What the tests run on: of Linux 7.3 all there is, of 7.2 one of each kind.
FLAVOURS_7.3 := lab-a lab-b debug raised distro stock kunit
FLAVOURS_7.2 := lab-a
KERNELS      := $(FLAVOURS_7.3) $(FLAVOURS_7.2:%=7.2-%)
BUILD    := $(abspath build)

PYTHON := /usr/bin/python3
BENEATH = BASE=$(BASE) BUILD=$(BUILD)
# A machine is one thread of QEMU: as many at once as there are processors.
PYTEST := $(PYTHON) -m pytest -n $(shell nproc)

export PYTHONDONTWRITEBYTECODE := 1

help:
	@echo 'vfio-liveupdate: PCI devices that live through the replacement of the kernel'
	@echo
	@echo '  make demo      see it happen: devices go on working through a kexec in a virtual machine'
	@echo '  make demo-sriov see virtual functions go on beside the network of the host'
	@echo '  make demo-vm   see a virtual machine of a stock QEMU live through that'
	@echo '  make test      the core scenarios, in virtual machines (TESTS=tests/FILE.py)'
	@echo '  make test-all  all scenarios on all kernels, which takes long'
	@echo '  make soak      UPDATES=$(UPDATES) in a row in one machine, with exact accounts (KERNELS=modules, debug...)'
	@echo '  make bench     what an update costs against a bare kexec, counted in instructions (QUICK=1: in minutes)'
	@echo '  make shell     a lab machine to play in'
	@echo '  make tool      the command-line tool, build/tool/vfio-liveupdate'
	@echo '  make deb       Debian packages of the library, the tool, lu-qemu and a kernel, build/deb'
	@echo '  make check     style, static analysis, documentation of the code'
	@echo '  make kernel    build kernels (BASE=$(BASE), FLAVOURS="$(FLAVOURS)")'
	@echo '  make tree      the Linux tree with our work laid into it, build/linux-$(BASE)'
	@echo '  make hooks     turn the commits in that tree into kernel/hooks/$(BASE)'
	@echo '  make series    the work as a patch series, build/series/$(BASE) (kernel/series --help)'
	@echo '  make try       say which hooks apply to the tree in LINUX_SRC'
	@echo '  make clean     remove all that was built'
	@echo
	@echo 'LINUX_SRC=directory-or-tarball takes Linux 7.3 from there instead of from Debian,'
	@echo 'LINUX_SRC_7_2 the other version that the demo and the tests need.'
	@echo 'docs/testing.md says how testing works, each script says more with --help.'

setup:
	@setup/install

tree: setup
	@$(BENEATH) kernel/tree

hooks: setup
	@$(BENEATH) kernel/tree hooks

series: setup
	@$(BENEATH) kernel/series

try:
	@$(BENEATH) kernel/tree try "$(LINUX_SRC)"

kernel: setup
	@$(BENEATH) kernel/build $(FLAVOURS)

# Kernels under the names of their images, and the programs for the machines.
lab: setup
	@BUILD=$(BUILD) kernel/build headers $(KERNELS)
	@$(MAKE) --no-print-directory guest

# What runs inside the machine, built against the headers of our tree.
guest:
	@$(MAKE) --no-print-directory -C tests/guest OUT=$(BUILD)/guest HEADERS=$(BUILD)/headers

tool: setup
	@$(PYTHON) -c 'from lab.image import tool_program; print(tool_program())'

# Debian packages of the library, the tool and lu-qemu, and of a kernel as Debian configures it.
deb: setup
	@BUILD=$(BUILD) packaging/deb
	@BUILD=$(BUILD) kernel/build --deb distro

# The root file systems of machines that run systemd, and virtual machines.
rootfs: setup
	@BUILD=$(BUILD) setup/rootfs >/dev/null
	@BUILD=$(BUILD) setup/rootfs --vm >/dev/null

demo: KERNELS := 7.2-lab-a lab-b
demo: lab
	@demo/run

demo-sriov: KERNELS := 7.2-lab-a lab-b
demo-sriov: lab
	@demo/run --sriov

demo-vm: KERNELS := 7.2-lab-a lab-b
demo-vm: lab
	@BUILD=$(BUILD) setup/rootfs --vm >/dev/null
	@demo/vm

# The outgoing kernel and the incoming one, by the names that tests have for both;
# KERNELS may also name two images.
SOAK_modules := lab-a lab-b
SOAK_builtin := builtin builtin
SOAK_debug   := debug debug
SOAK_distro  := distro distro
SOAK_ON      := $(if $(filter command%,$(origin KERNELS)),$(KERNELS),modules)
SOAK_IMAGES  := $(or $(SOAK_$(SOAK_ON)),$(SOAK_ON))

soak: setup
	@BUILD=$(BUILD) kernel/build headers $(sort $(SOAK_IMAGES))
	@$(MAKE) --no-print-directory guest
	@$(PYTHON) -m lab soak --updates $(UPDATES) \
		--kernel $(firstword $(SOAK_IMAGES)) --next $(lastword $(SOAK_IMAGES))

# What an update costs, by instructions; QUICK=1 has a few cases.
bench: KERNELS := lab-a lab-b $(if $(QUICK),,stock)
bench: lab
	@$(PYTHON) -m lab bench $(if $(QUICK),--quick)

shell: KERNELS := lab-a lab-b
shell: lab
	@$(PYTHON) -m lab shell

test: lab rootfs
	@$(PYTEST) $(TESTS)

test-all: KERNELS += builtin 7.2-builtin
test-all: lab rootfs
	@$(PYTEST) $(TESTS) --kernels all

check:
	@setup/install --check
	@BUILD=$(BUILD) kernel/check

# Downloads and the compiler's cache stay, in ~/.cache/vfio-liveupdate.
clean:
	@for base in $(notdir $(wildcard kernel/hooks/*)); do \
		BASE=$$base BUILD=$(BUILD) kernel/tree saved || exit; \
	done
	rm -rf $(BUILD)

.PHONY: help setup tree hooks series try kernel lab guest tool deb rootfs demo demo-sriov demo-vm soak bench shell test test-all \
	check clean
