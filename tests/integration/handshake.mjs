// SPDX-License-Identifier: MIT
// What is refused before the 101, with which status, and what a 101 says.
import assert from "node:assert/strict";
import fs from "node:fs";

import { Site, TUNNEL, find_program, free_port, needs, relay_site, table,
	tcp_listening, until } from "../lib/harness.mjs";
import { RawServer, dial, exchange, frame, OP, switching, upgrade_request }
	from "../lib/rawws.mjs";
import { FRONTS, make_certificates } from "../lib/servers.mjs";
import { test } from "../lib/tap.mjs";

// Every refusal has a JSON body, is the connection's last word, and says so.
function assert_refused(answer, status, { direct = true } = {}) {
	assert.equal(answer.status, status,
	    `status, with body ${answer.body}`);
	assert.match(answer.head.get("content-type") ?? "",
	    /^application\/json/);
	assert.equal(typeof answer.json?.error?.code, "string",
	    `an error body, not ${answer.body}`);
	assert.equal(typeof answer.json.error.message, "string");
	assert.deepEqual(Object.keys(answer.json), ["error"]);
	if (status === 426)
		assert.equal(answer.head.get("sec-websocket-version"), "13");
	if (!direct)
		return;
	assert.match(answer.head.get("connection") ?? "", /^close$/i);
	assert.ok(answer.closed, "the connection ends");
	assert.equal(answer.trailing.length, 0);
}

const UNTIL = { until_closed: true };
const GOOD_KEY = "dGhlIHNhbXBsZSBub25jZQ==";

// A head as a list of pairs; `more' comes last.
function pairs(more = [], without = []) {
	return [
		["Host", "localhost"], ["Upgrade", "websocket"],
		["Connection", "Upgrade"], ["Sec-WebSocket-Version", "13"],
		["Sec-WebSocket-Key", GOOD_KEY], ["X-Forwarded-For", "127.0.0.1"],
	].filter(([n]) => !without.includes(n)).concat(more);
}

test("a head that is not a good handshake is refused", async (t) => {
	const { site, front, server } = await relay_site(t);
	const request = (list, options) =>
	    upgrade_request("/raw", list, options);
	const lines = (text) => text.replaceAll("\n", "\r\n");
	const good = request(pairs());
	const rows = [
		["no upgrade", request(pairs([], ["Upgrade", "Connection"])), 426],
		["no Upgrade header", request(pairs([], ["Upgrade"])), 426],
		["Upgrade: h2c", request(pairs([["Upgrade", "h2c"]],
		    ["Upgrade"])), 426],
		["no Connection", request(pairs([], ["Connection"])), 426],
		["Connection: keep-alive", request(pairs(
		    [["Connection", "keep-alive"]], ["Connection"])), 426],
		["version 8", request(pairs([["Sec-WebSocket-Version", "8"]],
		    ["Sec-WebSocket-Version"])), 426],
		["version 1337", request(pairs([["Sec-WebSocket-Version", "1337"]],
		    ["Sec-WebSocket-Version"])), 426],
		["no version", request(pairs([], ["Sec-WebSocket-Version"])), 426],
		["POST", request(pairs(), { method: "POST" }), 405],
		["CONNECT", request(pairs(), { method: "CONNECT" }), 405],
		["HEAD", request(pairs(), { method: "HEAD" }), 405],
		["HTTP/1.0", request(pairs(), { version: "HTTP/1.0" }), 400],
		["HTTP/2.0", request(pairs(), { version: "HTTP/2.0" }), 400],
		["HTTP/1.10", request(pairs(), { version: "HTTP/1.10" }), 400],
		["no Host", request(pairs([], ["Host"])), 400],
		["two Hosts", request(pairs([["Host", "localhost"]])), 400],
		["no key", request(pairs([], ["Sec-WebSocket-Key"])), 400],
		["two keys", request(pairs([["Sec-WebSocket-Key", GOOD_KEY]])),
		    400],
		["two versions", request(pairs([["Sec-WebSocket-Version", "13"]])),
		    400],
		["a short key", request(pairs([["Sec-WebSocket-Key", "AAAA"]],
		    ["Sec-WebSocket-Key"])), 400],
		["a key that is not base64", request(pairs([["Sec-WebSocket-Key",
		    "!!!!!!!!!!!!!!!!!!!!!!=="]], ["Sec-WebSocket-Key"])), 400],
		["a body", request(pairs([["Content-Length", "5"]])) + "hello",
		    400],
		["two lengths", request(pairs([["Content-Length", "0"],
		    ["Content-Length", "5"]])) + "hello", 400],
		["a length that is no number",
		    request(pairs([["Content-Length", "-1"]])), 400],
		["a chunked body", request(pairs([["Transfer-Encoding",
		    "chunked"]])) + "0\r\n\r\n", 400],
		["length and chunked", request(pairs([["Content-Length", "5"],
		    ["Transfer-Encoding", "chunked"]])) + "0\r\n\r\n", 400],
		["a hidden chunked", request(pairs([["Transfer-Encoding",
		    "xchunked"]])), 400],
		["a folded header", good.replace("\r\n\r\n",
		    "\r\nX-A: b\r\n c\r\n\r\n"), 400],
		["a blank before the colon", good.replace("Upgrade:", "Upgrade :"),
		    400],
		["a blank before a name", good.replace("Upgrade:", " Upgrade:"),
		    400],
		["bare line feeds", good.replaceAll("\r\n", "\n"), 400],
		["a bare line feed", good.replace("\r\nUpgrade", "\nUpgrade"), 400],
		["a bare carriage return", good.replace("\r\nUpgrade",
		    "\r\nX-A: b\rc\r\nUpgrade"), 400],
		["a NUL in a value", good.replace("\r\nUpgrade",
		    "\r\nX-A: b\0c\r\nUpgrade"), 400],
		["a control character", good.replace("\r\nUpgrade",
		    "\r\nX-A: b\x01c\r\nUpgrade"), 400],
		["a header that is not UTF-8", Buffer.from(good.replace(
		    "\r\nUpgrade", "\r\nCookie: caf\xe9\r\nUpgrade"),
		    "latin1"), 400],
		["a header without a colon", good.replace("\r\nUpgrade",
		    "\r\nnonsense\r\nUpgrade"), 400],
		["an empty name", good.replace("\r\nUpgrade",
		    "\r\n: x\r\nUpgrade"), 400],
		["an absolute target",
		    upgrade_request("http://localhost/raw", pairs()), 400],
		["a target without a slash", upgrade_request("raw", pairs()), 400],
		["two blanks in the request line",
		    good.replace("GET /raw", "GET  /raw"), 400],
		["a tab in the request line",
		    good.replace("GET /raw", "GET\t/raw"), 400],
		["three words too many", good.replace("/raw HTTP",
		    "/raw x HTTP"), 400],
		["no HTTP at all", lines("hello\n\n"), 400],
		["TLS", Buffer.from("16030100c8010000c4030322" +
		    "0d0a0d0a", "hex"), 400],
		["an unknown path", upgrade_request("/nothing", pairs()), 404],
		["dots in the path", upgrade_request("/x/../raw", pairs()), [400,
		    404]],
		["an escape in the path", upgrade_request("/%72aw", pairs()), [400,
		    404]],
		["a NUL escape", upgrade_request("/raw%00", pairs()), [400, 404]],
		["two slashes", upgrade_request("//raw", pairs()), [400, 404]],
		["a longer path", upgrade_request("/raw/x", pairs()), 404],
		["a fragment", upgrade_request("/raw#x", pairs()), [400, 404]],
		["a head of 20 KiB", request(pairs([["X-Big",
		    "x".repeat(20000)]])), 431],
		["a target of 20 KiB", upgrade_request(`/raw?x=${
			"x".repeat(20000)}`, pairs()), 431],
		["a head that never ends", "GET /raw HTTP/1.1\r\nX: " +
		    "y".repeat(100000), 431],
		["101 headers", request(pairs(Array.from({ length: 101 },
		    (_, i) => [`X-${i}`, "1"]))), 431],
	];
	await table(rows, async (name, bytes, status) => {
		const answer = await exchange(front.where, bytes, UNTIL);
		assert_refused(answer, Array.isArray(status) &&
		    status.includes(answer.status) ? answer.status : status);
		if (status === 405)
			assert.equal(answer.head.get("allow"), "GET");
	});
	assert.equal(server.waiting, 0, "no upstream was dialled");
	// and what came before them does not keep a good one out
	await site.pair(front, "/raw", server);
}, { timeout: 60000 });

test("the spellings of a good handshake are all taken", async (t) => {
	const { front, server } = await relay_site(t);
	const without = (more, names) => upgrade_request("/raw",
	    pairs(more, names));
	const rows = [
		["keep-alive, Upgrade", without([["Connection",
		    "keep-alive, Upgrade"]], ["Connection"])],
		["close, upgrade", without([["Connection", "close, upgrade"]],
		    ["Connection"])],
		["two Connection lines", without([["Connection", "keep-alive"]])],
		["WebSocket", without([["Upgrade", "WebSocket"]], ["Upgrade"])],
		["lower case names", upgrade_request("/raw",
		    pairs().map(([n, v]) => [n.toLowerCase(), v]))],
		["blanks around values", upgrade_request("/raw",
		    pairs().map(([n, v]) => [n, `  ${v} \t`]))],
		["no blanks", upgrade_request("/raw", pairs())
		    .replaceAll(": ", ":")],
		["Content-Length: 0", without([["Content-Length", "0"]])],
	];
	await table(rows, async (name, text) => {
		const accepting = server.accept();
		accepting.catch(() => {});
		const answer = await exchange(front.where, text);
		assert.equal(answer.status, 101, answer.body);
		assert.equal(answer.head.get("sec-websocket-accept"),
		    "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
		assert.equal(answer.head.get("sec-websocket-extensions"), undefined);
		assert.equal(answer.head.get("sec-websocket-protocol"), undefined);
		(await accepting).destroy();
		answer.conn.destroy();
	});
});

test("a slow head is refused after five seconds",
    async (t) => {
	const { front } = await relay_site(t);
	const start = performance.now();
	const slow = exchange(front.where, "GET /raw HTTP/1.1\r\nHost: x\r\n",
	    UNTIL);
	const silent = exchange(front.where, "", UNTIL);
	// whoever hangs up in the middle needs no answer, and costs nothing
	const gone = await dial(front.where);
	await gone.write("GET /raw HTTP/1.1\r\n");
	gone.end();
	assert.ok([null, 400].includes((await gone.head())?.status ?? null));
	assert_refused(await slow, 408);
	assert.equal((await silent).status, 0); // a close without a word
	const took = performance.now() - start;
	assert.ok(took > 4500 && took < 15000, `after ${took} ms`);
});

const ORIGINS = `clients = {"loopback"}
origins = {"https://site.example", "http://with.port:8443"}`;

for (const name of FRONTS) {
	const options = { skip: needs(name), timeout: 60000 };
	const direct = name === "direct";
	const how = direct ? UNTIL : {};

	test(`${name}: refusals arrive with status and reason`, async (t) => {
		const { site, front } = await relay_site(t, name);
		const rows = [
			["version 12", "/raw", { "Sec-WebSocket-Version": "12" }, 426],
			["unknown path", "/nothing", {}, 404],
			["unknown path, longer", "/raw/more", {}, 404],
			["foreign origin", "/raw",
			    { Origin: "https://evil.example" }, 403],
		];
		await table(rows, async (row, target, headers, status) => {
			assert_refused(await site.handshake(front, target, headers,
			    how), status, { direct });
		});
	}, options);

	test(`${name}: only the origins of the list are served`, async (t) => {
		const { site, front, server } = await relay_site(t, name,
		    { access: ORIGINS });
		for (const origin of [null, "null", "", "https://evil.example",
		    "https://evil-site.example", "https://site.example.evil.com",
		    "http://site.example", "https://site.example:444",
		    "https://site.example/", "https://a.site.example",
		    "http://with.port", "http://localhost", "file://",
		    "*", "https://site.example https://evil.example"]) {
			const answer = await site.handshake(front, "/raw",
			    { Origin: origin }, how);
			assert.equal(answer.status, 403, `origin ${origin}`);
			assert_refused(answer, 403, { direct });
		}
		const two = await site.handshake(front, "/raw", { Origin:
		    ["https://evil.example", "https://site.example"] }, how);
		assert.ok([400, 403].includes(two.status), `two: ${two.status}`);
		assert.equal(server.waiting, 0);
		for (const origin of ["https://site.example",
		    "http://with.port:8443"]) {
			const { client } = await site.pair(front, "/raw", server,
			    { headers: { Origin: origin } });
			client.destroy();
		}
	}, options);

	test(`${name}: a forged X-Forwarded-For does not help`, async (t) => {
		const { site, front, server } = await relay_site(t, name, {
			access: 'clients = {"10.0.0.0/8"}\norigins = {"*"}\n' +
			    "missing_origin = true",
		});
		const forged = ["10.1.2.3", "10.1.2.3, 127.0.0.1", "::1",
		    "10.1.2.3, 10.1.2.4", " 10.1.2.3 "];
		// the tunnel's own socket is for web servers: what it is told
		// last is what counts
		const mine = direct ? ", 192.0.2.1" : "";
		for (const value of forged) {
			const answer = await site.handshake(front, "/raw",
			    { "X-Forwarded-For": value + mine }, how);
			assert.equal(answer.status, 403, `${value}${mine}`);
		}
		const answer = await site.handshake(front, "/raw", { Forwarded:
		    "for=10.1.2.3", "X-Real-IP": "10.1.2.3",
		    "X-Forwarded-For": direct ? "192.0.2.1" : null }, how);
		assert_refused(answer, 403, { direct });
		assert.equal(server.waiting, 0);
	}, options);

	test(`${name}: whom the web server names is served`, async (t) => {
		const { site, front, server } = await relay_site(t, name);
		const { client } = await site.pair(front, "/raw", server, {
			headers: { "X-Forwarded-For": direct ?
			    "203.0.113.9, 127.0.0.1" : "203.0.113.9" },
		});
		client.destroy();
	}, options);

	test(`${name}: no log has a query or a credential of a client`,
	    async (t) => {
		const { site, front, server } = await relay_site(t, name);
		const query = site.canary("client's query");
		const token = site.canary("client's credential");
		const headers = {
			Authorization: `Bearer ${token}`, Cookie: `a=${token}`,
			"Sec-WebSocket-Protocol": token,
			"User-Agent": "test",
		};
		const { client } = await site.pair(front, `/raw?ticket=${query}`,
		    server, { headers });
		await client.send_close(1000);
		const refused = [
			["/nothing", {}, 404],
			["/raw", { Origin: "https://evil.example" }, 403],
			["/raw", { "Sec-WebSocket-Version": "7" }, 426],
		];
		for (const [path, more, status] of refused)
			assert.equal((await site.handshake(front,
			    `${path}?ticket=${query}`, { ...headers, ...more },
			    how)).status, status);
	}, options);

	test(`${name}: without the broker it is 503`, async (t) => {
		const { site, front, broker, server } = await relay_site(t, name);
		const before = await site.pair(front, "/raw", server);
		broker.may_fail = true;
		await broker.stop("SIGKILL");
		assert_refused(await site.handshake(front, "/raw", {}, how), 503,
		    { direct });
		await before.client.send_text("still here");
		assert.equal((await before.upstream.data_frame()).payload
		    .toString(), "still here");
	}, options);

	test(`${name}: what the vendor refuses is refused with a reason`,
	    async (t) => {
		const { site, front, server } = await relay_site(t, name,
		    { more: "connect_timeout = 5" });
		const secret = site.canary("vendor's error body");
		const body = JSON.stringify({ error: { message: secret } });
		const plain = (status, more = "") => `HTTP/1.1 ${status}\r\n` +
		    `Content-Type: application/json\r\n${more}` +
		    `X-Vendor: ${secret}\r\n` +
		    `Content-Length: ${body.length}\r\n\r\n${body}`;
		const rows = [
			["401", () => plain("401 Unauthorized"), 502],
			["403", () => plain("403 Forbidden"), 502],
			["404", () => plain("404 Not Found"), 502],
			["500", () => plain("500 Oops"), 502],
			["503", () => plain("503 Busy"), 502],
			["429", () => plain("429 Slow down", "Retry-After: 7\r\n"),
			    429, "7"],
			["302", () => plain("302 Found",
			    "Location: http://127.0.0.1:1/\r\n"), 502],
			["200 and HTML", () => "HTTP/1.1 200 OK\r\nContent-Type: " +
			    `text/html\r\n\r\n<html>${secret}</html>`, 502],
			["another protocol", () => `SSH-2.0-${secret}\r\n\r\n`, 502],
			["nothing", () => "", 502],
			["half a head", () => "HTTP/1.1 101 Switching", 502],
			["a wrong accept", (r) => switching(r,
			    { "Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" }),
			    502],
			["no accept", (r) => switching(r,
			    { "Sec-WebSocket-Accept": null }), 502],
			["no Upgrade", (r) => switching(r, { Upgrade: null }), 502],
			["no Connection", (r) => switching(r, { Connection: null }),
			    502],
			["an extension", (r) => switching(r,
			    { "Sec-WebSocket-Extensions": "permessage-deflate" }), 502],
			["a subprotocol", (r) => switching(r,
			    { "Sec-WebSocket-Protocol": "chat" }), 502],
			["HTTP/1.0", (r) => switching(r).replace("/1.1", "/1.0"),
			    502],
			["a head too large", (r) => switching(r,
			    { "X-Big": "x".repeat(20000) }), 502],
			["a folded head", (r) => switching(r, { "X-A": "b\r\n c" }),
			    502],
		];
		await table(rows, async (row, make, status, retry) => {
			const answering = server.next().then(async (conn) => {
				await conn.write(make(await conn.head()));
				conn.end();
			});
			const answer = await site.handshake(front, "/raw", {}, how);
			assert_refused(answer, status, { direct });
			assert.equal(answer.head.get("retry-after"), retry);
			assert.equal(answer.head.get("x-vendor"), undefined);
			await answering;
		});
		assert.equal(server.waiting, 0, "no redirect was followed");
	}, options);

	test(`${name}: an upstream that hangs is 504, one that is away 502`,
	    async (t) => {
		const { site, front, server } = await relay_site(t, name, {
			more: "connect_timeout = 1",
			relays: [["/away", 'upstream = "ws://127.0.0.1:1/"'],
			    ["/tls", "connect_timeout = 1\n" +
			        `upstream = "wss://127.0.0.1:${
			            (await RawServer.listen()).port}/"`]],
		});
		const hanging = site.handshake(front, "/raw", {}, how);
		const tls = site.handshake(front, "/tls", {}, how);
		await server.next();
		assert_refused(await site.handshake(front, "/away", {}, how), 502,
		    { direct });
		assert_refused(await hanging, 504, { direct });
		assert_refused(await tls, 504, { direct });
	}, options);

	test(`${name}: compression is declined, the vendor is not asked`,
	    async (t) => {
		const { site, front, server } = await relay_site(t, name);
		const { client, upstream } = await site.pair(front, "/raw", server, {
			headers: { "Sec-WebSocket-Extensions":
			    "permessage-deflate; client_max_window_bits" },
		});
		assert.equal(client.response.get("sec-websocket-extensions"),
		    undefined);
		assert.equal(upstream.request.get("sec-websocket-extensions"),
		    undefined);
	}, options);

	test(`${name}: subprotocols are answered by the route's rules`,
	    async (t) => {
		const { site, front, server } = await relay_site(t, name, {
			more: 'subprotocols = {"v1.example", "v2.example"}',
		});
		const key = site.canary("client's key",
		    "openai-insecure-api-key.ek_");
		const rows = [
			["none", null, undefined],
			["one", "v1.example", "v1.example"],
			["its choice", "v2.example, v1.example", "v2.example"],
			["beside others", "x, v1.example", "v1.example"],
			["beside a key", `v1.example, ${key}`, "v1.example"],
			["after a key", `${key},v1.example`, "v1.example"],
		];
		await table(rows, async (row, offer, answer) => {
			const { client, upstream } = await site.pair(front, "/raw",
			    server, { headers: { "Sec-WebSocket-Protocol": offer } });
			assert.equal(client.response.get("sec-websocket-protocol"),
			    answer);
			assert.equal(upstream.request.get("sec-websocket-protocol"),
			    undefined);
			client.destroy();
		});
		for (const offer of ["v3.example", key, "V1.EXAMPLE", "v1"]) {
			const answer = await site.handshake(front, "/raw",
			    { "Sec-WebSocket-Protocol": offer }, how);
			assert_refused(answer, 400, { direct });
			assert.match(answer.body.toString(),
			    /: offer `v1\.example', too"/);
		}
	}, options);
}

test("subprotocols in pass mode are the vendor's to select", async (t) => {
	const { site, front, server } = await relay_site(t, "direct", {
		more: 'subprotocols = {"a", "b", "c"}\nsubprotocol_mode = "pass"',
	});
	const { client, upstream } = await site.pair(front, "/raw", server, {
		headers: { "Sec-WebSocket-Protocol": "c, x, a" },
		answer: { "Sec-WebSocket-Protocol": "a" },
	});
	assert.deepEqual(upstream.request.all("sec-websocket-protocol")
	    .join(",").split(/\s*,\s*/), ["c", "a"]);
	assert.equal(client.response.get("sec-websocket-protocol"), "a");

	const none = await site.pair(front, "/raw", server,
	    { headers: { "Sec-WebSocket-Protocol": "b" } });
	assert.equal(none.client.response.get("sec-websocket-protocol"),
	    undefined);

	const accepting = server.accept({ "Sec-WebSocket-Protocol": "b" });
	const answer = await site.handshake(front, "/raw",
	    { "Sec-WebSocket-Protocol": "a" }, UNTIL);
	assert_refused(answer, 502); // selected what was not offered
	await accepting;
});

test("a route without subprotocols ignores what is offered", async (t) => {
	const { site, front, server } = await relay_site(t);
	const { client, upstream } = await site.pair(front, "/raw", server,
	    { headers: { "Sec-WebSocket-Protocol": "chat, superchat" } });
	assert.equal(client.response.get("sec-websocket-protocol"), undefined);
	assert.equal(upstream.request.get("sec-websocket-protocol"), undefined);
});

test("the vendor sees its key and our words, nothing of the client's",
    async (t) => {
	const { site, front, server } = await relay_site(t, "direct", {
		target: "/base?fixed=1",
		more: 'header "X-Plain" { value = "text" }\n' +
		    'query "model" { values = {"a", "b-*"} default = "a" ' +
		    'alias "old" { to = "b-1" } }',
	});
	const token = site.canary("client's credential");
	const query = site.canary("client's query");
	const { upstream } = await site.pair(front,
	    `/raw?ticket=${query}&model=old&other=${query}`, server, {
		headers: {
			Origin: "http://localhost:3000",
			Authorization: `Bearer ${token}`,
			Cookie: `session=${token}`,
			"X-Api-Key": token,
			"OpenAI-Beta": "realtime=v1",
			"User-Agent": "evil",
			"X-Plain": "forged",
		},
	});
	const { request } = upstream;
	assert.equal(request.method, "GET");
	const url = new URL(request.target, "http://x");
	assert.equal(url.pathname, "/base");
	assert.deepEqual([...url.searchParams].sort(),
	    [["fixed", "1"], ["model", "b-1"]]);
	assert.deepEqual(request.all("authorization"),
	    [`Bearer ${site.vendor_key}`]);
	assert.deepEqual(request.all("x-plain"), ["text"]);
	assert.deepEqual(request.all("host"), [`127.0.0.1:${server.port}`]);
	for (const name of ["cookie", "origin", "x-api-key", "x-forwarded-for",
	    "openai-beta", "forwarded"])
		assert.equal(request.get(name), undefined, name);
	assert.ok(!request.raw.includes(token));
	assert.ok(!request.raw.includes(query));
	assert.equal(Buffer.from(request.get("sec-websocket-key"), "base64")
	    .length, 16);
});

test("query parameters outside the route's lists are refused or dropped",
    async (t) => {
	const { site, front, server } = await relay_site(t, "direct", {
		more: 'query "model" { values = {"a", "b-*"} default = "a" }',
	});
	const model = async (query) => {
		const { client, upstream } = await site.pair(front, `/raw${query}`,
		    server);
		client.destroy();
		return new URL(upstream.request.target, "http://x").searchParams
		    .getAll("model");
	};
	assert.deepEqual(await model(""), ["a"]);
	assert.deepEqual(await model("?x=1"), ["a"]);
	assert.deepEqual(await model("?model=b-17"), ["b-17"]);
	assert.deepEqual(await model("?model=%62-x"), ["b-x"]);
	for (const [query, status] of [["?model=c", 403], ["?model=ax", 403],
	    ["?model=a&model=c", [400, 403]], ["?model=b-1&model=a", [400, 403]],
	    ["?model=b-%0d%0aX:1", [400, 403]], ["?model=b-%zz", [400, 403]],
	    ["?model=b-%00", [400, 403]]]) {
		const answer = await site.handshake(front, `/raw${query}`, {},
		    UNTIL);
		assert.ok([status].flat().includes(answer.status),
		    `${query}: ${answer.status}`);
		assert_refused(answer, answer.status);
	}
	assert.equal(server.waiting, 0);
});

test("over a Unix socket the web server has to name the client",
    async (t) => {
	const { site, front, broker } = await relay_site(t);
	for (const value of [null, "", "unknown", "localhost", "127.0.0.1,",
	    "127.0.0.1x", "192.0.2.7", "127.0.0.1, 192.0.2.7", "::ffff:192.0.2.7"])
		assert_refused(await site.handshake(front, "/raw",
		    { "X-Forwarded-For": value }, UNTIL), 403);
	await broker.wait_for(/X-Forwarded-For/i);
});

test("loopback is served in all its spellings", async (t) => {
	const { site, front, server } = await relay_site(t);
	for (const value of ["127.0.0.1", "127.9.9.9", "::1",
	    "::ffff:127.0.0.1"]) {
		const { client } = await site.pair(front, "/raw", server,
		    { headers: { "X-Forwarded-For": value } });
		client.destroy();
	}
});

test("a TCP peer is known by its address, whatever its headers say",
    async (t) => {
	const site = await Site.open(t);
	const server = await RawServer.listen();
	await site.broker(site.config({
		relays: [["/raw", site.relay(server.port)]],
	}));
	const port = await free_port();
	const part = site.start("tunnel", [
		find_program("systemd-socket-activate"),
		"-l", `127.0.0.1:${port}`, "--", TUNNEL,
		"--control", site.control_sock, "--spare", "1"]);
	await part.listens(() => tcp_listening(port), "listens");
	const front = { where: { port }, headers: {} };
	for (const value of [null, "192.0.2.7"]) {
		const { client } = await site.pair(front, "/raw", server,
		    { headers: { "X-Forwarded-For": value } });
		client.destroy();
	}
}, { skip: needs("systemd-socket-activate") });

test("the vendor's certificate is checked", async (t) => {
	const site = await Site.open(t);
	const good = make_certificates(site, "good");
	const other = make_certificates(site, "other");
	const named = make_certificates(site, "named",
	    { names: "DNS:elsewhere.example,IP:192.0.2.1" });
	const expired = make_certificates(site, "expired", { expired: true });
	const listen = (certs, more = {}) => RawServer.listen({ tls: {
		cert: fs.readFileSync(certs.cert), key: fs.readFileSync(certs.key),
		...more,
	} });
	const servers = {
		good: await listen(good), named: await listen(named),
		expired: await listen(expired),
		old: await listen(good, { minVersion: "TLSv1", maxVersion:
		    "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" }),
	};
	const body = (which, host, ca) =>
	    `upstream = "wss://${host}:${servers[which].port}/x"\n` +
	    "allow_private = true\nconnect_timeout = 4\n" +
	    (ca ? `ca_file = "${ca}"\n` : "") +
	    'header "Authorization" { prefix = "Bearer " ' +
	    'secret = "env:VENDOR_KEY" }';
	await site.serve({ relays: [
		["/name", body("good", "localhost", good.ca)],
		["/address", body("good", "127.0.0.1", good.ca)],
		["/system", body("good", "localhost")],
		["/other", body("good", "localhost", other.ca)],
		["/named", body("named", "localhost", named.ca)],
		["/numbered", body("named", "127.0.0.1", named.ca)],
		["/expired", body("expired", "localhost", expired.ca)],
		["/old", body("old", "localhost", good.ca)],
	] });
	const front = site.direct();

	for (const path of ["/name", "/address"]) {
		const { client, upstream } = await site.pair(front, path,
		    servers.good, { early: frame(OP.text, "over TLS") });
		assert.equal(upstream.request.get("authorization"),
		    `Bearer ${site.vendor_key}`);
		assert.equal(upstream.socket.servername || "none",
		    path === "/name" ? "localhost" : "none");
		assert.equal((await upstream.frame()).payload.toString(),
		    "over TLS");
		await upstream.send_close(1000, "bye");
		assert.equal((await client.closed()).reason, "bye");
		client.destroy();
	}
	for (const path of ["/system", "/other", "/named", "/numbered",
	    "/expired", "/old"])
		assert_refused(await site.handshake(front, path, {}, UNTIL), 502);
	for (const server of Object.values(servers))
		assert.equal(server.waiting, 0, "no request was sent");
});

test("a peer on plain TCP where TLS should be is 502", async (t) => {
	const plain = await RawServer.listen();
	plain.next().then((c) => c.write("HTTP/1.1 400 Bad\r\n\r\n"), () => {});
	const { site, front } = await relay_site(t, "direct", {
		relays: [["/tls", `upstream = "wss://127.0.0.1:${plain.port}/"`]],
	});
	assert_refused(await site.handshake(front, "/tls", {}, UNTIL), 502);
});

test("max_connections of a route and its Retry-After", async (t) => {
	const { site, front, server } = await relay_site(t, "direct",
	    { more: "max_connections = 2" });
	const one = await site.pair(front, "/raw", server);
	const two = await site.pair(front, "/raw", server);
	const refused = await site.handshake(front, "/raw", {}, UNTIL);
	assert_refused(refused, 429);
	assert.match(refused.head.get("retry-after") ?? "", /^\d+$/);
	assert.equal(refused.head.get("ratelimit-policy"),
	    '"connections";q=2;qu="concurrent-requests"');
	assert.equal(refused.head.get("ratelimit"), '"connections";r=0');
	one.client.destroy();
	assert.equal((await one.upstream.closed())?.code, 1001);
	await one.upstream.send_close(1001);
	one.upstream.end();
	server.accept().catch(() => {});
	await until(async () =>
	    (await site.handshake(front, "/raw")).status === 101,
	    "the lease of a client that left is free");
	await two.client.send_text("unmoved");
	assert.equal((await two.upstream.frame()).payload.toString(), "unmoved");
});


test("control's max_connections is for all routes together", async (t) => {
	const { site, front, server, pair } = await relay_site(t, "direct",
	    { control: "max_connections = 1" });
	const { client, upstream } = await pair();
	assert_refused(await site.handshake(front, "/raw", {}, UNTIL), 503);
	await client.send_close(1000);
	await upstream.closed();
	await upstream.send_close(1000);
	upstream.end();
	server.accept().catch(() => {});
	await until(async () =>
	    (await site.handshake(front, "/raw")).status === 101,
	    "the lease is free");
});
