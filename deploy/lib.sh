# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# What deploy/check, deploy/up and deploy/install share.  Source it.

deploy_name=${0##*/}
deploy_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034 # for those who source this
top=$(cd "$deploy_dir/.." && pwd)

say() {
	echo "$deploy_name: $*" >&2
}

die() {
	say "$@"
	exit 1
}

# Print the lines of a script's own comment that say how to use it.
usage_of() { # FILE
	sed -n '/^# usage:/,/^$/s/^# \{0,1\}//p' "$1"
}

# Under sudo in a tree that belongs to the caller, go on as the caller: what
# is built must be theirs.  To be called when the packages are there.
drop_root() { # SCRIPT ARGUMENTS...
	[ "$(id -u)" -eq 0 ] && [ -n "${SUDO_UID:-}" ] &&
		[ "$SUDO_UID" != 0 ] &&
		[ "$(stat -c %u "$top")" = "$SUDO_UID" ] || return 0
	# shellcheck disable=SC2153 # sudo sets SUDO_GID beside SUDO_UID
	exec setpriv --reuid="$SUDO_UID" --regid="$SUDO_GID" --init-groups \
		env -u SUDO_UID -u XDG_RUNTIME_DIR \
		HOME="$(getent passwd "$SUDO_UID" | cut -d: -f6)" "$@"
}

job_count() {
	nproc 2>/dev/null || echo 2
}

# Configure in a folder; again only if the arguments are not those of before.
configure_in() { # FOLDER ARGUMENTS...
	local dir=$1 wanted
	shift
	mkdir -p "$dir"
	wanted="CC=${CC:-} CFLAGS=${CFLAGS:-} $top $*"
	(
		flock 9 # two builds may share the sources
		[ -x "$top/configure" ] || autoreconf -fi "$top"
	) 9<"$top/configure.ac" || die "autoreconf failed"
	if [ -f "$dir/Makefile" ] &&
		[ "$wanted" = "$(cat "$dir/.configured" 2>/dev/null)" ]
	then
		return 0
	fi
	[ ! -f "$dir/Makefile" ] || make -s -C "$dir" clean >/dev/null 2>&1 ||
		true
	rm -f "$dir/.configured"
	(cd "$dir" && "$top/configure" -q "$@") || die "configure failed in" \
	    "$dir; its log is $dir/config.log"
	echo "$wanted" >"$dir/.configured"
}
