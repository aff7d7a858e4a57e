#!/bin/bash
# shellcheck disable=SC2154 # top_* come from tests/local.mk
# What is installed beside the programs, as TAP: scripts, manual pages, units,
# and the parts of web servers' configurations.

n=0
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
PATH=$PATH:/usr/sbin:/sbin

report() { # NAME STATUS, diagnostics on standard input
	n=$((n + 1))
	sed 's/^/# /'
	if [ "$2" -eq 0 ]; then
		echo "ok $n - $1"
	else
		echo "not ok $n - $1"
	fi
}

# Run a command as a test; without its program the test is skipped.
check() { # NAME PROGRAM COMMAND...
	local name=$1 program=$2 status=0
	shift 2
	if ! type -P "$program" >/dev/null; then
		n=$((n + 1))
		echo "ok $n - $name # SKIP no $program; run deploy/check"
		return
	fi
	"$@" >"$dir/output" 2>&1 || status=$?
	report "$name" "$status" <"$dir/output"
}

check_scripts() {
	(
		cd "$top_srcdir" || exit 1
		scripts=$(grep -rlE '^#!/bin/(ba)?sh|^# shellcheck shell' \
			deploy tests/*.sh tests/node tests/fuzz/*.sh tools \
			bench .ci 2>/dev/null)
		# shellcheck disable=SC2086
		shellcheck -x $scripts
	)
}

check_manuals() {
	local problems

	problems=$(mandoc -T lint -W warning "$top_srcdir"/man/*.[1-9])
	echo "$problems"
	[ -z "$problems" ]
}

# As installed, but with the programs of this build.
check_units() {
	local unit problems

	mkdir "$dir/units"
	for unit in "$top_builddir"/deploy/systemd/*.s[eo]*; do
		sed -E "s|=[^ ]*/culvert-(broker\|tunnel) |=$top_builddir/culvert-\1 |" \
			"$unit" >"$dir/units/${unit##*/}"
	done
	# it warns of a key it does not know, and does not fail; what it says
	# of this machine's own units is not ours
	problems=$(systemd-analyze verify --man=no "$dir"/units/* 2>&1 |
		grep culvert)
	echo "$problems"
	[ -z "$problems" ]
}

# Neither a service that crashes again and again nor a storm of connections
# makes systemd close the sockets.
check_limits() {
	local file
	for file in "$top_builddir"/deploy/systemd/culvert-{broker,tunnel}.service; do
		grep -q '^StartLimitIntervalSec=0$' "$file" || return 1
		grep -q '^LimitCORE=0$' "$file" || return 1
	done
	for file in "$top_builddir"/deploy/systemd/*.socket; do
		grep -q '^TriggerLimitIntervalSec=0$' "$file" || return 1
	done
}

check_users() {
	systemd-sysusers --dry-run "$top_builddir/deploy/systemd/culvert.conf"
}

# The lines that a whole configuration needs around ours.
check_lighttpd() {
	cat >"$dir/lighttpd.conf" <<-END
	server.document-root = "$dir"
	server.modules = ("mod_accesslog")
	include "$top_builddir/deploy/lighttpd.conf.example"
	END
	lighttpd -tt -f "$dir/lighttpd.conf"
}

check_nginx() {
	cat >"$dir/nginx.conf" <<-END
	pid $dir/nginx.pid;
	error_log $dir/nginx.log;
	events { }
	http {
		access_log off;
		client_body_temp_path $dir/body;
		proxy_temp_path $dir/proxy;
		fastcgi_temp_path $dir/fastcgi;
		uwsgi_temp_path $dir/uwsgi;
		scgi_temp_path $dir/scgi;
		server {
			listen unix:$dir/nginx.sock;
			include $top_builddir/deploy/nginx.conf.example;
		}
	}
	END
	nginx -t -p "$dir" -c "$dir/nginx.conf" -e "$dir/nginx.log"
}

check_apache() {
	local module modules=/usr/lib/apache2/modules

	{
		echo "ServerRoot $dir"
		echo "ServerName localhost"
		echo "PidFile $dir/apache.pid"
		echo "DefaultRuntimeDir $dir"
		echo "ErrorLog $dir/apache.log"
		echo "Listen 127.0.0.1:80"
		for module in mpm_event authz_core proxy proxy_fcgi proxy_http \
		    rewrite setenvif; do
			echo "LoadModule ${module}_module" \
				"$modules/mod_$module.so"
		done
		echo "<VirtualHost *:80>"
		echo "Include $top_builddir/deploy/apache.conf.example"
		echo "</VirtualHost>"
	} >"$dir/apache.conf"
	apache2 -t -f "$dir/apache.conf"
}

check "scripts are clean" shellcheck check_scripts
check "manual pages are clean" mandoc check_manuals
check "systemd accepts the units" systemd-analyze check_units
check "and they keep their sockets open, and leave no core" grep check_limits
check "systemd accepts the users" systemd-sysusers check_users
check "lighttpd takes the sample" lighttpd check_lighttpd
check "nginx takes the sample" nginx check_nginx
check "Apache takes the sample" apache2 check_apache
echo "1..$n"
