# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the project's scripts share: where things are, how a script talks, how
# the machine's own Debian mirror is asked for a package of another suite.
# To be sourced, never run.

# A failure inside $(...) counts, too.
shopt -s inherit_errexit

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${BUILD:-$REPO/build}
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/vfio-liveupdate
export REPO BUILD CACHE

# Exit codes that callers tell apart; anything else that goes wrong is 1.
readonly EXIT_USAGE=2		# called in a wrong way
readonly EXIT_NEEDS_ROOT=3	# packages are missing and we may not install them
readonly EXIT_REFUSED=4		# going on would lose somebody's work
export EXIT_USAGE EXIT_NEEDS_ROOT EXIT_REFUSED

# say TEXT...: a line about what is being done
say()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# die [-CODE] TEXT...: say what is wrong, and end with CODE (1)
die()
{
	local code=1

	if [[ $1 =~ ^-[0-9]+$ ]]; then
		code=${1#-}
		shift
	fi
	say "$@"
	exit "$code"
}

# usage: print the comment at the top of the running script, which is its help
usage()
{
	sed -n '/^# SPDX/d; 2,/^[^#]/{/^#/!q; s/^# \{0,1\}//p;}' "$0"
}

# git_version: what tells packages of one commit from those of another, and each from the one
# before, like +git20261127031500.d833c1e; where files were edited since, their newest time is
# added, like .edited20261127040000; nothing where there is no git
git_version()
{
	local commit edited

	commit=$(TZ=UTC git -C "$REPO" log -1 --date=format-local:%Y%m%d%H%M%S \
		--format='+git%cd.%h' 2>/dev/null) || return 0
	edited=$(cd "$REPO" && git ls-files -z -m -o --exclude-standard |
		xargs -0r stat -c %Y 2>/dev/null | sort -n | tail -n 1)
	echo "$commit${edited:+$(TZ=UTC date -d "@$edited" +.edited%Y%m%d%H%M%S)}"
}

# lock NAME: wait until no other script holds this lock of this checkout
lock()
{
	mkdir -p "$BUILD"
	exec {LOCK_FD}>"$BUILD/.$1.lock"
	flock -n "$LOCK_FD" && return
	say "waiting for another ${0##*/} to end"
	flock "$LOCK_FD"
}
