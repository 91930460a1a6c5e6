# Packages of any Debian suite, for get-linux, get-debian-kernel and
# get-cow-selftest, which source this file.  Neither root nor a change of the machine's own apt sources
# is needed.  The caller has say, fail and a directory $tmp.
# shellcheck shell=bash disable=SC2154

# quietly runs a command and shows its output only if it does not work.
quietly() { "$@" >"$tmp/log" 2>&1 || { tail -n 15 "$tmp/log" >&2; return 1; }; }

# debian_mirror prints where this machine finds an archive (debian or
# debian-security).
debian_mirror() {
	local archive=$1 uri
	local -a uris
	mapfile -t uris < <(apt-get update --print-uris 2>/dev/null | sed -n "s#^'\(.*\)/dists/.*#\1#p" | sort -u)
	for uri in "${uris[@]}"; do
		[[ $uri == */"$archive" ]] && { echo "$uri"; return; }
	done
	# One of the two is usually beside the other.
	for uri in "${uris[@]}"; do
		case $uri in
		*/debian | */debian-security) echo "${uri%/*}/$archive"; return ;;
		esac
	done
	return 1
}

# debian_suite reads the package lists of a suite and sets apt_options, with
# which apt-get and apt-cache see that suite only.
debian_suite() {
	local archive=$1 suite=$2 uri keyring
	uri=$(debian_mirror "$archive") || fail "no Debian mirror in this machine's apt sources"
	for keyring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg} ''; do
		[[ -f $keyring ]] && break
	done
	[[ -n $keyring ]] || fail "no key ring of Debian: install the package debian-archive-keyring"

	mkdir -p "$tmp/lists/partial" "$tmp/cache/archives/partial"
	: >"$tmp/status"
	echo "deb [signed-by=$keyring] $uri $suite main" >"$tmp/sources.list"
	# The machine's own apt.conf stays in force: it may name a proxy.  A mirror
	# may be frozen at a date, so an expired but signed Release file is accepted.
	apt_options=(
		-o "Dir::Etc::sourcelist=$tmp/sources.list" -o Dir::Etc::sourceparts=/dev/null
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
		-o "Dir::State::lists=$tmp/lists" -o "Dir::State::status=$tmp/status" -o "Dir::Cache=$tmp/cache"
		-o Acquire::Check-Valid-Until=false -o Acquire::Languages=none -o APT::Architecture=amd64
	)
	[[ $(id -u) != 0 ]] || apt_options+=(-o APT::Sandbox::User=root)
	quietly apt-get "${apt_options[@]}" update || fail "cannot read the package lists of $suite"
}

# debian_download puts packages into $tmp.
debian_download() {
	local -a options=("${apt_options[@]}")
	[[ $(id -u) != 0 ]] || options+=(-o APT::Sandbox::User=root)
	(cd "$tmp" && quietly apt-get "${options[@]}" download "$@")
}

# debian_source downloads the source of Linux MAJOR.MINOR and prints the path of
# the package: the newest that Debian has, or else that of the suites which this
# machine uses.  The machine's own lists may be months old.
debian_source() {
	local version=$1 package=linux-source-$1
	local -a where=() deb
	case $version in
	5.10) where=(debian-security bullseye-security) ;;
	6.1 | 6.12) where=(debian-security bookworm-security) ;;
	7.3) where=(debian trixie-backports) ;;
	esac
	apt_options=()
	say "downloading $package (about 150 MB)"
	if [[ ${#where[@]} -gt 0 ]] && debian_mirror "${where[0]}" >/dev/null; then
		debian_suite "${where[@]}"
	elif ! apt-cache show "$package" >/dev/null 2>&1; then
		fail "$package is not in this machine's apt sources, and of other suites only 5.10, 6.1, 6.12 and 7.3 are known; set KBISECT_LINUX to a clone of Linux"
	fi
	debian_download "$package" || fail "cannot download $package${where[1]:+ from ${where[1]}}"
	deb=("$tmp/$package"_*.deb)
	[[ -f ${deb[0]} ]] || fail "$package was downloaded and is not there"
	echo "${deb[0]}"
}
