#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# What "vfio-liveupdate kexec" tells virtual machines.
set -eu

case ${1:-} in
prepare | save)	exec lu-qemu "$1" --all ;;
undo)		exec lu-qemu abort --all ;;
*)		exit 2 ;;
esac
