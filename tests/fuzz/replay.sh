#!/bin/sh
# shellcheck disable=SC2154 # top_* come from tests/local.mk
# Replay every corpus file through its target; one TAP line per target.
cd "$top_builddir/tests/fuzz" || exit 1
n=0
for dir in "$top_srcdir"/tests/fuzz/corpus/*/; do
	[ -d "$dir" ] || continue
	target=$(basename "$dir")
	n=$((n + 1))
	set -- "$dir"*
	if ./fuzz_"$target" "$@" >"$target.log" 2>&1; then
		echo "ok $n - $target: $# inputs"
	else
		sed 's/^/# /' "$target.log"
		echo "not ok $n - $target"
	fi
	rm -f "$target.log"
done
echo "1..$n"
