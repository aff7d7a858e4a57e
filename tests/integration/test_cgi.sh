#!/bin/sh
# shellcheck disable=SC2154 # top_* come from tests/local.mk
# culvert-broker as a plain CGI program: options, routing, CORS, bad requests.
broker=$top_builddir/culvert-broker
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
n=0

# A secret that no output may ever hold.
canary='canary-0123456789abcdef-0123456789abcdef'
export CULVERT_TEST_SECRET="$canary"

cat >"$dir/conf" <<END
access {
	origins = {"loopback", "https://site.example"}
}
livekit {
	url = "wss://livekit.example"
	api_key = "env:CULVERT_TEST_SECRET"
	api_secret = "env:CULVERT_TEST_SECRET"
}
END
sed 's/^access {/&\n\tmissing_origin = true/' "$dir/conf" >"$dir/conf.lax"
printf 'requests {\n\tbase_path = "/base"\n}\n' >"$dir/conf.base"

check() { # check NAME COMMAND...: one TAP line
	name=$1
	shift
	n=$((n + 1))
	if "$@"; then
		echo "ok $n - $name"
	else
		sed 's/^/# /' "$dir/out" "$dir/err"
		echo
		echo "not ok $n - $name"
	fi
}

# cgi CONF BODY NAME=VALUE...: run one request; its answer is in $dir/out.
cgi() {
	cgi_conf=$1
	cgi_body=$2
	shift 2
	printf %s "$cgi_body" | env -i CULVERT_TEST_SECRET="$canary" \
	    ASAN_OPTIONS="$ASAN_OPTIONS" \
	    GATEWAY_INTERFACE=CGI/1.1 SERVER_PROTOCOL=HTTP/1.1 \
	    REMOTE_ADDR=127.0.0.1 REQUEST_METHOD=GET REQUEST_URI=/ "$@" \
	    "$broker" -f "$dir/$cgi_conf" >"$dir/out" 2>"$dir/err"
}

# status CODE CONF BODY NAME=VALUE...: the answer's status, and an error body
# that is one where it is an error.
status() {
	want=$1
	shift
	cgi "$@" || return 1
	head -n 1 "$dir/out" | grep -q "^Status: $want " || return 1
	! grep -q "$canary" "$dir/out" "$dir/err" || return 1
	[ "$want" -lt 400 ] ||
		grep -q '^{"error":{"code":"[a-z_]*","message":".*"}}$' \
		    "$dir/out"
}

has() { # has HEADER: the last answer has this header line
	tr -d '\r' <"$dir/out" | grep -qix "$1"
}

has_no() { # has_no NAME: the last answer has no header of this name
	! grep -qi "^$1:" "$dir/out"
}

exits() { # exits CODE COMMAND...
	want=$1
	shift
	"$@" </dev/null >"$dir/out" 2>"$dir/err"
	[ $? -eq "$want" ]
}

says() { # says PATTERN: on standard output or error
	cat "$dir/out" "$dir/err" | grep -q -e "$1"
}

says_not() { # says_not PATTERN: neither there nor there
	! says "$1"
}

token() { # token CODE CONF BODY NAME=VALUE...: POST to the token endpoint
	token_status=$1
	token_conf=$2
	token_body=$3
	shift 3
	status "$token_status" "$token_conf" "$token_body" REQUEST_METHOD=POST \
	    REQUEST_URI=/api/livekit/token CONTENT_TYPE=application/json \
	    CONTENT_LENGTH=${#token_body} "$@"
}

body='{"roomName":"r","participantName":"p"}'
page=HTTP_ORIGIN=http://localhost:5173

# ---- options
check "--version tells it" exits 0 "$broker" --version
check "and its name" says '^culvert-broker [0-9]'
check "--help tells every option" exits 0 "$broker" --help
for option in -f -t --dump --listen --log-level --help --version; do
	check "--help tells $option" says "^  $option "
done
check "an unknown option is a usage error" exits 2 "$broker" --nonsense
check "so is an unknown log level" exits 2 "$broker" --log-level loud
check "so is an argument" exits 2 "$broker" -t extra
check "so is no socket at all" exits 2 \
    env -u GATEWAY_INTERFACE "$broker" -f "$dir/conf"
check "and it says what is missing" says 'no FastCGI socket'
check "-t accepts a good file" exits 0 "$broker" -t -f "$dir/conf"
check "and says so" says 'conf: ok$'
check "-t says nothing of grants that are there" \
    says_not config.no_grants
sed 's/^livekit {/&\n\ttoken "empty" { ttl = 60 }/' "$dir/conf" >"$dir/conf.none"
check "-t accepts a template that grants nothing" \
    exits 0 "$broker" -t -f "$dir/conf.none"
check "but tells of it" says 'config.no_grants token=empty'
printf 'access {\n\tclint = {"any"}\n}\n' >"$dir/bad"
check "-t refuses a bad file" exits 1 "$broker" -t -f "$dir/bad"
check "with the line" says 'bad:2:'
{ cat "$dir/conf"; printf 'store { path = "%s/no/s.db" }\n' "$dir"; } \
	>"$dir/conf.store"
check "-t refuses a store whose folder is not there" exits 1 \
    "$broker" -t -f "$dir/conf.store"
check "and says which key that is, and what to do" \
    says 'conf.store: store: path: .*/no/: .*: make it'
check "-t refuses a file that is not there" exits 1 \
    "$broker" -t -f "$dir/absent"
check "--dump prints the settings" exits 0 "$broker" --dump -f "$dir/conf"
check "as a file that says the same" says '"https://site.example"'
check "without the secrets" test "$(grep -c "$canary" "$dir/out")" = 0
CULVERT_CONFIG=$dir/conf
export CULVERT_CONFIG
check "\$CULVERT_CONFIG is the file" exits 0 "$broker" -t
unset CULVERT_CONFIG

# ---- routes
check "/healthz is for everybody" \
    status 200 conf "" REQUEST_URI=/healthz REMOTE_ADDR=192.0.2.1
check "and says ok" has '{"status":"ok"}'
check "it is not cached" has 'Cache-Control: no-store'
check "it is what it says it is" has 'X-Content-Type-Options: nosniff'
check "it has its length" has 'Content-Length: 15'
check "/readyz is ready" status 200 conf "" REQUEST_URI=/readyz
check "HEAD has a GET's head" \
    status 200 conf "" REQUEST_URI=/healthz REQUEST_METHOD=HEAD
check "and no body" test "$(tail -n 1 "$dir/out" | tr -d '\r')" = ""
check "an unknown path is 404" status 404 conf.lax "" REQUEST_URI=/nothing
check "so is a longer one" status 404 conf.lax "" REQUEST_URI=/healthz/x
check "GET of the token endpoint is 405" \
    status 405 conf.lax "" REQUEST_URI=/api/livekit/token
check "with what it takes" has 'Allow: POST, OPTIONS'
check "DELETE of a health endpoint is 405" \
    status 405 conf "" REQUEST_URI=/healthz REQUEST_METHOD=DELETE
check "with what it takes" has 'Allow: GET, HEAD, OPTIONS'
check "a lower-case method is another" \
    status 405 conf "" REQUEST_URI=/healthz REQUEST_METHOD=get
check "base_path is taken off" \
    status 200 conf.base "" REQUEST_URI=/base/healthz
check "and must be there" status 404 conf.base "" REQUEST_URI=/healthz

# ---- paths
for path in "" "*" healthz http://x/healthz //healthz /./healthz \
    /x/../healthz /healthz/.. /%68ealthz /healthz%00 /healthz%0d%0aX:y \
    '/healthz\x' '/health z' '/healthz#x'; do
	check "the path '$path' is 400" \
	    status 400 conf "" REQUEST_URI="$path"
done
check "a CR in a header is 400" status 400 conf "" REQUEST_URI=/healthz \
    HTTP_X="$(printf 'a\rb')"
check "a line feed in a header is 400" status 400 conf "" \
    REQUEST_URI=/healthz HTTP_X="$(printf 'a\nb')"
check "a method that is none is 400" \
    status 400 conf "" REQUEST_URI=/healthz REQUEST_METHOD='G T'

# ---- admission
check "a page of this machine gets a token" token 200 conf "$body" "$page"
check "and may read it" \
    has 'Access-Control-Allow-Origin: http://localhost:5173'
check "which caches must know" has 'Vary: Origin'
check "a page of the list gets a token" \
    token 200 conf "$body" HTTP_ORIGIN=https://site.example
for origin in https://evil.example https://evil-site.example \
    https://site.example.evil.example http://site.example null "" \
    http://localhost.evil.example http://127.0.0.1.evil.example \
    http://localhost@evil.example; do
	check "the origin '$origin' is 403" \
	    token 403 conf.lax "$body" HTTP_ORIGIN="$origin"
	check "and may not even read that" \
	    has_no Access-Control-Allow-Origin
done
check "no origin is 403 by default" token 403 conf "$body"
check "and the answer tells what to configure" says missing_origin
check "no origin is served where configured" token 200 conf.lax "$body"
check "another machine is 403" \
    token 403 conf "$body" "$page" REMOTE_ADDR=192.0.2.1
check "whatever it says it is" token 403 conf "$body" "$page" \
    REMOTE_ADDR=192.0.2.1 HTTP_X_FORWARDED_FOR=127.0.0.1 \
    HTTP_X_REAL_IP=127.0.0.1 HTTP_REMOTE_ADDR=127.0.0.1
check "an unknown machine is 403" token 403 conf "$body" "$page" REMOTE_ADDR=

# ---- preflights
preflight() { # preflight CODE NAME=VALUE...
	code=$1
	shift
	status "$code" conf "" REQUEST_METHOD=OPTIONS \
	    REQUEST_URI=/api/livekit/token \
	    HTTP_ACCESS_CONTROL_REQUEST_METHOD=POST \
	    HTTP_ACCESS_CONTROL_REQUEST_HEADERS=content-type "$@"
}
check "a preflight is answered 204" preflight 204 "$page"
check "with the methods" has 'Access-Control-Allow-Methods: POST, OPTIONS'
check "with the headers" has 'Access-Control-Allow-Headers: content-type'
check "for a while" has 'Access-Control-Max-Age: [0-9]*'
check "for this origin" \
    has 'Access-Control-Allow-Origin: http://localhost:5173'
check "without a body" has_no Content-Type
check "a foreign one is 403" preflight 403 HTTP_ORIGIN=https://evil.example
for header in Origin Methods Headers; do
	check "without Allow-$header" has_no "Access-Control-Allow-$header"
done
check "one for an unknown path is 404" status 404 conf "" "$page" \
    REQUEST_METHOD=OPTIONS REQUEST_URI=/nothing

# ---- bodies
for length in "" -1 +1 12x 0x10 " 2" 9223372036854775808 \
    18446744073709551618; do
	check "CONTENT_LENGTH '$length' is 400" \
	    token 400 conf "$body" "$page" CONTENT_LENGTH="$length"
done
check "no CONTENT_LENGTH is 400" status 400 conf "$body" "$page" \
    REQUEST_METHOD=POST REQUEST_URI=/api/livekit/token \
    CONTENT_TYPE=application/json
check "a length over the limit is 413" \
    token 413 conf "$body" "$page" CONTENT_LENGTH=65537
check "a body that ends early is 400" \
    token 400 conf "$body" "$page" CONTENT_LENGTH=1000
check "another type is 415" \
    token 415 conf "$body" "$page" CONTENT_TYPE=text/plain
check "no type is 415" token 415 conf "$body" "$page" CONTENT_TYPE=
check "a charset is no other type" token 200 conf "$body" "$page" \
    CONTENT_TYPE='application/json; charset=utf-8'
check "an unknown template is 404" \
    token 404 conf "$body" "$page" REQUEST_URI=/api/livekit/token/nobody
for bad in '[]' '1' '"x"' null '{}x' '{' '{"a":1,"a":1}' '{"a":"\u0000"}'; do
	check "the body $bad is 400" token 400 conf "$bad" "$page"
done
check "a client's Proxy header changes nothing" \
    token 200 conf "$body" "$page" HTTP_PROXY=http://192.0.2.1:1/
# A web server makes arguments of such a query: RFC 3875 4.4.
for argument in --dump -t --version --help "--listen $dir/evil"; do
	query=$(echo "$argument" | tr ' ' +)
	# shellcheck disable=SC2086 # one or two words
	check "a query without = is no argument: $argument" exits 0 \
	    env GATEWAY_INTERFACE=CGI/1.1 QUERY_STRING="$query" \
	    CULVERT_CONFIG="$dir/conf" "$broker" $argument
	check "it is 400" says '^Status: 400 '
done
check "a query with = leaves the arguments alone" \
    status 200 conf "" REQUEST_URI='/healthz?a=b' QUERY_STRING=a=b
check "a bad configuration answers nothing" exits 1 \
    env GATEWAY_INTERFACE=CGI/1.1 "$broker" -f "$dir/bad"

# The store: opened for each request, checked by -t without being made.
printf 'store {\n\tpath = "%s"\n}\n' "$dir/kept.db" |
    cat "$dir/conf" - >"$dir/conf.store"
check "-t takes a store that is not there yet" \
    exits 0 "$broker" -t -f "$dir/conf.store"
check "and does not make it" test ! -e "$dir/kept.db"
check "a request makes it" \
    status 200 conf.store "" REQUEST_URI=/healthz
check "for its own user" test "$(stat -c %a "$dir/kept.db")" = 600
check "a request finds it" \
    status 200 conf.store "" REQUEST_URI=/healthz
check "-t takes it" exits 0 "$broker" -t -f "$dir/conf.store"
echo "this is no database, and never was one" >"$dir/kept.db"
check "-t refuses a file that is none" \
    exits 1 "$broker" -t -f "$dir/conf.store"
check "it says why" says 'kept.db: file is not a database'
check "so does a request" exits 1 cgi conf.store ""
check "it says why, too" says 'kept.db: file is not a database'
check "the file stays as it was" grep -q 'no database' "$dir/kept.db"

echo "1..$n"
