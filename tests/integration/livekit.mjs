// SPDX-License-Identifier: MIT
// The LiveKit token endpoint: through each web server, straight over FastCGI,
// and as a plain CGI program.
import assert from "node:assert/strict";
import crypto from "node:crypto";

import { BROKER, Site, find_program, needs, run, table, unix_listening }
	from "../lib/harness.mjs";
import { Fcgi, begin, environment, params, parse_cgi, record, request }
	from "../lib/fcgi.mjs";
import { exchange, upgrade_request } from "../lib/rawws.mjs";
import { NAMES } from "../lib/servers.mjs";
import { test } from "../lib/tap.mjs";

const PATH = "/api/livekit/token";
const JSON_TYPE = { "Content-Type": "application/json" };
const SEED = JSON.stringify({ roomName: "lobby", participantName: "Ann" });

const LIVEKIT = `livekit {
	url = "wss://livekit.example"
	api_key = "env:LIVEKIT_API_KEY"
	api_secret = "env:LIVEKIT_API_SECRET"
}
`;

async function open(t, config = {}) {
	const site = await Site.open(t);
	site.config_text = site.config({ rest: LIVEKIT, ...config });
	site.part = await site.broker(site.config_text);
	site.post = (body, more = {}) => request(site.broker_sock, "POST",
	    more.path ?? PATH, { body, ...more,
	    headers: { ...JSON_TYPE, ...more.headers } });
	return site;
}

function segment(token, i) {
	return JSON.parse(Buffer.from(token.split(".")[i], "base64url"));
}

function assert_token(site, token) {
	const [head, body, signature] = token.split(".");
	assert.equal(signature, crypto.createHmac("sha256", site.livekit_secret)
	    .update(`${head}.${body}`).digest("base64url"), "signature");
	assert.equal(segment(token, 0).alg, "HS256");
	const claims = segment(token, 1);
	const now = Math.floor(Date.now() / 1000);
	assert.equal(claims.iss, "lkkey");
	assert.ok(claims.nbf <= now && claims.nbf > now - 120, "nbf");
	assert.ok(claims.exp > now && claims.exp <= now + 600, "exp");
	assert.match(claims.sub, /./);
	return claims;
}

function assert_error(answer, status) {
	assert.equal(answer.status, status, `body ${answer.body}`);
	const type = answer.get ? answer.get("content-type") :
	    answer.head.get("content-type");
	assert.match(type ?? "", /^application\/json/);
	assert.equal(typeof answer.json?.error?.code, "string");
	assert.equal(typeof answer.json.error.message, "string");
}

test("the seed's form is answered 200 with a token", async (t) => {
	const site = await open(t);
	const answer = await site.post(SEED);
	assert.equal(answer.status, 200, answer.body);
	assert.deepEqual(Object.keys(answer.json), ["token"]);
	const claims = assert_token(site, answer.json.token);
	assert.equal(claims.name, "Ann");
	assert.notEqual(claims.sub, "Ann", "the identity is ours to make");
	assert.equal(claims.video.room, "lobby");
	for (const grant of ["roomJoin", "canPublish", "canSubscribe"])
		assert.equal(claims.video[grant], true, grant);
	assert.match(answer.get("cache-control") ?? "", /no-store/);
});

test("the standard form is answered 201 with the server's address",
    async (t) => {
	const site = await open(t);
	const answer = await site.post(JSON.stringify({
		room_name: "lobby", participant_name: "Ann",
		participant_metadata: "m", participant_attributes: { a: "b" },
	}));
	assert.equal(answer.status, 201, answer.body);
	assert.deepEqual(Object.keys(answer.json).sort(),
	    ["participant_token", "server_url"]);
	assert.equal(answer.json.server_url, "wss://livekit.example");
	const claims = assert_token(site, answer.json.participant_token);
	assert.equal(claims.metadata, "m");
	assert.deepEqual(claims.attributes, { a: "b" });

	const empty = await site.post("{}");
	assert.equal(empty.status, 201, empty.body);
	const two = await site.post("{}");
	const [one_claims, two_claims] = [empty, two].map((a) =>
	    assert_token(site, a.json.participant_token));
	assert.match(one_claims.video.room, /./, "a room of its own");
	assert.notEqual(one_claims.video.room, two_claims.video.room);
	assert.notEqual(one_claims.sub, two_claims.sub);
});

test("the log says who was given or denied a token", async (t) => {
	const site = await open(t);
	assert.equal((await site.post('{"room_name":"lobby"}')).status, 201);
	assert.equal((await site.post('{"participant_identity":"x"}')).status,
	    403);
	const log = site.parts.find((p) => p.name === "broker").output;
	assert.match(log,
	    /livekit\.token client=127\.0\.0\.1 identity=\S+ room=lobby /);
	assert.match(log,
	    /livekit\.denied client=127\.0\.0\.1 template=default reason="/);
});

test("what a client may not send is refused", async (t) => {
	const site = await open(t);
	const deep = (n) => `{"room_name":${"[".repeat(n)}${"]".repeat(n)}}`;
	const rows = [
		["someone's identity", '{"participant_identity":"admin"}', 403],
		["a room configuration", '{"room_config":{"agents":' +
		    '[{"agent_name":"x"}]}}', 403],
		["grants", '{"roomAdmin":true}', [400, 403]],
		["video", '{"video":{"roomAdmin":true}}', [400, 403]],
		["an address", '{"api_base":"http://x"}', 400],
		["both forms", '{"roomName":"a","room_name":"a"}', 400],
		["nothing", "", 400],
		["blanks", "  ", 400],
		["an array", "[]", 400],
		["null", "null", 400],
		["a string", '"x"', 400],
		["rubbish behind", '{}x', 400],
		["two objects", "{}{}", 400],
		["a BOM", "\ufeff{}", 400],
		["half an object", '{"room_name":', 400],
		["one name twice", '{"room_name":"a","room_name":"b"}', 400],
		["a number for a name", '{"room_name":5}', 400],
		["a NUL in a name", '{"room_name":"a\\u0000b"}', 400],
		["attributes that are no strings",
		    '{"participant_attributes":{"a":1}}', 400],
		["a lone surrogate", '{"room_name":"\\ud800"}', 400],
		["not UTF-8", Buffer.from('{"room_name":"\xff"}', "latin1"), 400],
		["much depth", deep(1000), 400],
		["absurd depth", deep(20000), 400],
		["a huge number", '{"room_name":1e400}', 400],
		["a body over the limit", `{"room_name":"${
			"x".repeat(65536)}"}`, 413],
		["a name that is too long", `{"room_name":"${
			"x".repeat(5000)}"}`, [400, 413]],
	];
	await table(rows, async (name, body, status) => {
		const answer = await site.post(body);
		assert_error(answer, [status].flat().includes(answer.status) ?
		    answer.status : [status].flat()[0]);
	});
});

test("a request that is not a good one is refused", async (t) => {
	const site = await open(t);
	const send = (method, target, more) =>
	    request(site.broker_sock, method, target, more);
	const rows = [
		["GET", "GET", PATH, {}, 405],
		["PUT", "PUT", PATH, { body: SEED, headers: JSON_TYPE }, 405],
		["unknown path", "POST", "/api/nothing",
		    { body: SEED, headers: JSON_TYPE }, 404],
		["unknown template", "POST", `${PATH}/nobody`,
		    { body: SEED, headers: JSON_TYPE }, 404],
		["dots", "POST", "/api/x/../livekit/token",
		    { body: SEED, headers: JSON_TYPE }, [400, 404]],
		["an escape", "POST", "/api/livekit/%74oken",
		    { body: SEED, headers: JSON_TYPE }, [400, 404]],
		["CRLF in the path", "POST", "/api/livekit/token%0d%0aX:1",
		    { body: SEED, headers: JSON_TYPE }, [400, 404]],
		["text", "POST", PATH, { body: SEED,
		    headers: { "Content-Type": "text/plain" } }, 415],
		["a form", "POST", PATH, { body: "a=b", headers:
		    { "Content-Type": "application/x-www-form-urlencoded" } }, 415],
		["no type", "POST", PATH, { body: SEED }, 415],
		["no length", "POST", PATH, { headers: JSON_TYPE, body: SEED,
		    env: { CONTENT_LENGTH: "" } }, 400],
		["length -1", "POST", PATH, { headers: JSON_TYPE, body: SEED,
		    env: { CONTENT_LENGTH: "-1" } }, 400],
		["length 12x", "POST", PATH, { headers: JSON_TYPE, body: SEED,
		    env: { CONTENT_LENGTH: "12x" } }, 400],
		["length 2^63", "POST", PATH, { headers: JSON_TYPE, body: SEED,
		    env: { CONTENT_LENGTH: "9223372036854775808" } }, [400, 413]],
		["length 2^64 + 10", "POST", PATH, { headers: JSON_TYPE,
		    body: SEED, env: { CONTENT_LENGTH: "18446744073709551626" } },
		    [400, 413]],
		["a body that is shorter than said", "POST", PATH,
		    { headers: JSON_TYPE, body: SEED, env:
		        { CONTENT_LENGTH: "100" } }, 400],
		["a client from elsewhere", "POST", PATH, { body: SEED,
		    headers: JSON_TYPE, env: { REMOTE_ADDR: "192.0.2.1" } }, 403],
		["a forged address", "POST", PATH, { body: SEED,
		    headers: { ...JSON_TYPE, "X-Forwarded-For": "127.0.0.1" },
		    env: { REMOTE_ADDR: "192.0.2.1" } }, 403],
		["no address", "POST", PATH, { body: SEED, headers: JSON_TYPE,
		    env: { REMOTE_ADDR: null } }, 403],
		["a foreign origin", "POST", PATH, { body: SEED, headers:
		    { ...JSON_TYPE, Origin: "https://evil.example" } }, 403],
		["the origin null", "POST", PATH, { body: SEED, headers:
		    { ...JSON_TYPE, Origin: "null" } }, 403],
		["an origin like ours", "POST", PATH, { body: SEED, headers:
		    { ...JSON_TYPE, Origin: "http://localhost.evil.example" } },
		    403],
	];
	await table(rows, async (name, method, target, more, status) => {
		const answer = await send(method, target, more);
		assert_error(answer, [status].flat().includes(answer.status) ?
		    answer.status : [status].flat()[0]);
		if (status === 405)
			assert.match(answer.get("allow") ?? "", /POST/);
	});
	const good = await site.post(SEED, { headers:
	    { "Content-Type": "application/json; charset=utf-8",
	      Proxy: "http://evil.example", Origin: "http://localhost:5173" } });
	assert.equal(good.status, 200, good.body);
	assert.equal(good.get("access-control-allow-origin"),
	    "http://localhost:5173");
});

test("a preflight is answered for the origins of the list alone",
    async (t) => {
	const site = await open(t);
	const ask = (origin, method = "POST") => request(site.broker_sock,
	    "OPTIONS", PATH, { headers: {
		Origin: origin,
		"Access-Control-Request-Method": method,
		"Access-Control-Request-Headers": "content-type",
	} });
	const good = await ask("http://localhost:3000");
	assert.ok([200, 204].includes(good.status), `${good.status}`);
	assert.equal(good.get("access-control-allow-origin"),
	    "http://localhost:3000");
	assert.match(good.get("access-control-allow-methods") ?? "", /POST/);
	assert.match(good.get("access-control-allow-headers") ?? "",
	    /content-type/i);
	assert.match(good.get("vary") ?? "", /origin/i);
	assert.equal(good.body, "");
	for (const origin of ["https://evil.example", "null"]) {
		const bad = await ask(origin);
		assert.equal(bad.get("access-control-allow-origin"), undefined);
	}
});

test("templates decide what a token grants", async (t) => {
	const site = await Site.open(t);
	site.part = await site.broker(site.config({ rest: `livekit {
	url = "wss://livekit.example"
	api_key = "env:LIVEKIT_API_KEY"
	api_secret = "env:LIVEKIT_API_SECRET"
	token "watch" {
		rooms = {"stage-*"}
		ttl = 60
		identity_prefix = "viewer-"
		client_may_set = {"room"}
		can_publish = false
		can_publish_data = false
		hidden = true
	}
	token "booth" {
		room = "stage-1"
		identity = "fixed:booth"
		name = "The booth"
		client_may_set = {}
		can_publish_sources = {"microphone", "screen_share_audio"}
		attribute "role" { value = "host" }
		room_config {
			empty_timeout = 30
			max_participants = 5
			agent "helper" { metadata = "m" }
		}
	}
}
` }));
	const post = (name, body) => request(site.broker_sock, "POST",
	    `${PATH}/${name}`, { body: JSON.stringify(body),
	        headers: JSON_TYPE });

	const watch = await post("watch", { room_name: "stage-7" });
	assert.equal(watch.status, 201, watch.body);
	const w = assert_token(site, watch.json.participant_token);
	assert.match(w.sub, /^viewer-./);
	assert.ok(w.exp - Date.now() / 1000 <= 61);
	assert.equal(w.video.canPublish, false);
	assert.equal(w.video.canPublishData, false);
	assert.equal(w.video.hidden, true);
	assert.ok(!("canUpdateOwnMetadata" in w.video), "unset is not false");
	assert_error(await post("watch", { room_name: "backstage" }), 403);
	assert_error(await post("watch", { participant_name: "x" }), 403);

	const booth = await post("booth", {});
	assert.equal(booth.status, 201, booth.body);
	const b = assert_token(site, booth.json.participant_token);
	assert.equal(b.sub, "booth");
	assert.equal(b.name, "The booth");
	assert.equal(b.video.room, "stage-1");
	assert.deepEqual(b.video.canPublishSources,
	    ["microphone", "screen_share_audio"]);
	assert.deepEqual(b.attributes, { role: "host" });
	assert.equal(b.roomConfig.emptyTimeout, 30);
	assert.equal(b.roomConfig.maxParticipants, 5);
	assert.equal(b.roomConfig.agents[0].agentName, "helper");
	assert_error(await post("booth", { room_name: "stage-2" }), 403);

	assert_error(await request(site.broker_sock, "POST", PATH,
	    { body: "{}", headers: JSON_TYPE }), 404);
});

for (const name of NAMES)
	test(`${name}: tokens, refusals and preflights pass`, async (t) => {
		const site = await open(t);
		const front = await site.front(name);
		const send = (method, headers, body, target = PATH) =>
		    exchange(front.where, upgrade_request(target, [
			...Object.entries(front.headers),
			["Connection", "close"],
			...body === undefined ? [] :
			    [["Content-Length", Buffer.byteLength(body)]],
			...Object.entries(headers),
		    ], { method }) + (body ?? ""));
		const seed = await send("POST", { ...JSON_TYPE,
		    Origin: "http://127.0.0.1:3000" }, SEED);
		assert.equal(seed.status, 200, seed.body);
		assert_token(site, seed.json.token);
		assert.equal(seed.head.get("access-control-allow-origin"),
		    "http://127.0.0.1:3000");
		const standard = await send("POST", JSON_TYPE, "{}");
		assert.equal(standard.status, 201, standard.body);
		assert_token(site, standard.json.participant_token);
		const preflight = await send("OPTIONS", {
			Origin: "http://localhost:3000",
			"Access-Control-Request-Method": "POST",
			"Access-Control-Request-Headers": "content-type",
		});
		assert.equal(preflight.head.get("access-control-allow-origin"),
		    "http://localhost:3000");
		assert_error(await send("POST", { ...JSON_TYPE,
		    Origin: "https://evil.example" }, SEED), 403);
		assert_error(await send("GET", {}), 405);
		assert_error(await send("POST", {}, SEED), 415);
		assert_error(await send("POST", JSON_TYPE, "{"), 400);
		assert_error(await send("POST", JSON_TYPE,
		    '{"participant_identity":"admin"}'), 403);
		assert_error(await send("POST", JSON_TYPE, "{}",
		    "/api/nothing"), 404);
	}, { skip: needs(name) });

test("a client that gives up in the middle disturbs nobody", async (t) => {
	const site = await open(t);
	for (let i = 0; i < 40; i++) {
		const conn = await Fcgi.dial(site.broker_sock);
		const all = Buffer.concat([begin(), params(environment("POST", PATH,
		    { ...JSON_TYPE, "Content-Length": String(SEED.length) })),
		    record(5, SEED), record(5)]);
		await conn.write(all.subarray(0, Math.floor(all.length * i / 40)));
		conn.socket.destroy();
	}
	assert.equal((await site.post(SEED)).status, 200);
});

test("rubbish instead of FastCGI disturbs nobody", async (t) => {
	const site = await open(t);
	for (const bytes of [Buffer.alloc(64), crypto.randomBytes(4096),
	    Buffer.from("GET / HTTP/1.0\r\n\r\n"), record(99),
	    Buffer.concat([begin(), record(4, Buffer.alloc(100, 0xff)),
	        record(4)]),
	    Buffer.concat([begin(), params({}), record(5)])]) {
		const conn = await Fcgi.dial(site.broker_sock);
		await conn.write(bytes);
		conn.socket.end();
		await conn.answer();
	}
	assert.equal((await site.post(SEED)).status, 200);
});

test("as a plain CGI program it answers one request", async (t) => {
	const site = await Site.open(t);
	const file = site.write("culvert.conf", site.config({ rest: LIVEKIT }));
	const cgi = async (method, body, more = {}) => {
		const result = await run([BROKER], {
			input: body,
			env: {
				...site.env(),
				CULVERT_CONFIG: file,
				...environment(method, PATH, { ...JSON_TYPE,
				    "Content-Length": String(body.length) }),
				...more,
			},
		});
		assert.equal(result.code, 0, result.output);
		assert.ok(!result.output.includes(site.livekit_secret));
		return parse_cgi(result.stdout);
	};
	const good = await cgi("POST", SEED);
	assert.equal(good.status, 200, good.body);
	assert_token(site, good.json.token);
	assert_error(await cgi("GET", ""), 405);
	assert_error(await cgi("POST", "{}", { REMOTE_ADDR: "192.0.2.1" }), 403);
});

test("spawn-fcgi starts the broker with its socket on descriptor 0",
    async (t) => {
	const site = await Site.open(t);
	const file = site.write("culvert.conf", site.config({ rest: LIVEKIT }));
	const part = site.start("spawn-fcgi", [find_program("spawn-fcgi"), "-n",
	    "-s", site.broker_sock, "--", BROKER, "-f", file],
	    { env: site.env() });
	await part.listens(() => unix_listening(site.broker_sock) &&
	    unix_listening(site.control_sock), "listens");
	const answer = await request(site.broker_sock, "POST", PATH,
	    { body: SEED, headers: JSON_TYPE });
	assert.equal(answer.status, 200, answer.body);
	assert_token(site, answer.json.token);
}, { skip: needs("spawn-fcgi") });
