# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Packages of other Debian suites, without touching the machine's own sources:
# apt gets a list of sources, package lists and a cache of its own (a "private
# state" below).  The mirror is the one that the machine uses already, and
# signatures are checked against Debian's keyring.  To be sourced after
# common.bash.

readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# the name of the release that this machine runs, like bookworm
codename()
{
	# shellcheck source=/dev/null
	(. /etc/os-release && echo "${VERSION_CODENAME:-}")
}

# the mirror that the machine's own apt takes the release's main packages from
mirror()
{
	local uri

	# shellcheck disable=SC2016	# apt's own variables
	uri=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
		awk -v release="$(codename)" '
			$2 == "main" && ($1 == release || $1 ~ /^(old)*stable$|^testing$|^sid$|^unstable$/) { print $3; exit }')
	[ -n "$uri" ] || die "apt has no Debian mirror configured: add one to /etc/apt/sources.list"
	echo "$uri"
}

# apt_settings: the machine's own settings of how packages are fetched: proxies and such.
apt_settings()
{
	apt-config dump Acquire | grep -v -e '^Acquire::IndexTargets' -e '^Acquire::Changelogs' -e ' "";$'
}

# private_apt STATE ARGUMENT...: apt-get with the private state of this name
private_apt()
{
	local dir=$CACHE/apt/$1
	shift

	apt-get -o APT::Sandbox::User=root \
		-o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::State::lists="$dir/lists" -o Dir::Cache="$dir/cache" \
		-o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

# private_state STATE SUITE...: make a private state that reads these suites,
# and update it; fails when the mirror lacks one of them
private_state()
{
	local dir=$CACHE/apt/$1 uri suite
	shift

	uri=$(mirror)
	[ -f "$KEYRING" ] || die "$KEYRING is missing: apt-get install debian-archive-keyring"
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	for suite; do
		echo "deb [signed-by=$KEYRING] $uri $suite main"
	done >"$dir/sources.list"
	private_apt "${dir##*/}" -q update -o APT::Update::Error-Mode=any
}

# private_debian SUITE TARBALL OPTION...: a Debian system of its own, made by
# mmdebstrap with these options.  The folder $WORK takes apt's settings; packages stay
# in the cache from one to the next, by the hooks, see mmdebstrap(1).
private_debian()
{
	local suite=$1 tarball=$2 packages=$CACHE/packages uri

	uri=$(mirror)
	[ -f "$KEYRING" ] || die "$KEYRING is missing: apt-get install debian-archive-keyring"
	apt_settings >"$WORK/apt.conf"
	mkdir -p "$packages"
	mmdebstrap --aptopt="$WORK/apt.conf" --skip=download/empty --skip=essential/unlink \
		--setup-hook="mkdir -p \"\$1\"/var/cache/apt/archives" \
		--setup-hook="sync-in '$packages' /var/cache/apt/archives" \
		--customize-hook="sync-out /var/cache/apt/archives '$packages'" \
		"${@:3}" "$suite" "$tarball" "deb [signed-by=$KEYRING] $uri $suite main"
}
