# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Completion of vfio-liveupdate for bash.

# Fill COMPREPLY with those words that begin with what is typed
_vfio_liveupdate_words()
{
	mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2")
}

_vfio_liveupdate()
{
	local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
	local options='--help --version'

	case $previous in
	-k | --kernel | -i | --initrd)
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		return
		;;
	-s | --sysroot)
		mapfile -t COMPREPLY < <(compgen -d -- "$current")
		return
		;;
	-a | --append)
		[ "${COMP_WORDS[1]}" != kexec ] || return
		;;
	esac
	if [ "$COMP_CWORD" = 1 ]; then
		_vfio_liveupdate_words "list check status hold release kexec $options" "$current"
		return
	fi
	case ${COMP_WORDS[1]} in
	list)	options+=' --json --sysroot --all' ;;
	check)	options+=' --json --sysroot --running' ;;
	status)	options+=' --json --sysroot' ;;
	hold)	options+=' --sysroot --undo' ;;
	release) options+=' --sysroot --yes' ;;
	kexec)	options+=' --json --kernel --initrd --reuse-cmdline --append --dry-run --force --silence' ;;
	*)	return ;;
	esac
	if [[ ${COMP_WORDS[1]} == @(list|check|hold|release) && $current != -* ]]; then
		_vfio_liveupdate_devices "$current"
	else
		_vfio_liveupdate_words "$options" "$current"
	fi
}

# A colon ends a word for bash: what it is to replace begins behind the last one.
_vfio_liveupdate_devices()
{
	local line=${COMP_LINE:0:COMP_POINT} typed

	typed=${line##* }
	_vfio_liveupdate_words "$(ls /sys/bus/pci/devices 2>/dev/null)" "$typed"
	if [[ $typed == *:* && $COMP_WORDBREAKS == *:* ]]; then
		COMPREPLY=("${COMPREPLY[@]#"${typed%"${typed##*:}"}"}")
	fi
}

complete -o filenames -F _vfio_liveupdate vfio-liveupdate
