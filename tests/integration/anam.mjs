// SPDX-License-Identifier: MIT
// Anam: sessions, tokens, talk commands and signalling, against the simulator;
// what its SDKs send is written out here as they send it.
import assert from "node:assert/strict";
import fs from "node:fs";

import { BROKER, SIM, Site, needs, run, table, until } from "../lib/harness.mjs";
import { parse_cgi, request } from "../lib/fcgi.mjs";
import { OP, RawServer, exchange } from "../lib/rawws.mjs";
import { FRONTS } from "../lib/servers.mjs";
import { skip_all, test } from "../lib/tap.mjs";

if (!fs.existsSync(SIM))
	skip_all("the simulator is not built; run deploy/check");

const JSON_TYPE = { "Content-Type": "application/json" };
// Dart's http client calls a text so.
const DART_TYPE = { "Content-Type": "text/plain; charset=utf-8" };
const SDK = { clientMetadata: { client: "js-sdk", version: "4.27.0" } };
const SESSION = "/v1/engine/session";
const TOKEN = "/v1/auth/session-token";
const TARGET = "X-Anam-Target-Url";
const SDP = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\n" +
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:a\r\n" +
    "a=setup:actpass\r\na=recvonly\r\n";

function config(site, sim, more = "") {
	return site.config({
		control: "max_connections = 100",
		rest: `store { path = "${site.file("culvert.db")}" }
anam {
	api_key = "env:ANAM_API_KEY"
	url = "http://127.0.0.1:${sim.http_port}"
	hosts = {"127.0.0.1"}
	allow_http = true
	allow_private = true
	personas = {"persona-1", "sim-*"}
${more}
}
`,
	});
}

// The simulator and the broker.
async function open_broker(t, { more = "", broker } = {}) {
	const site = await Site.open(t);
	site.sim_part = await site.sim();
	site.broker_part = await site.broker(config(site, site.sim_part, more),
	    broker);
	site.front_end = site.direct();
	return site;
}

// And the tunnel; front: how clients come in.
async function open(t, { front = "direct", ...options } = {}) {
	const site = await open_broker(t, options);
	const tunnel = await site.tunnel();
	await tunnel.wait_for(/supervisor\.ready/);
	site.front_end = await site.front(front);
	return site;
}

// A request of the simulator itself.
async function ask_sim(site, path, body) {
	const answer = await fetch(
	    `http://127.0.0.1:${site.sim_part.http_port}${path}`,
	    body === undefined ? {} :
	    { method: "POST", body: JSON.stringify(body), headers: JSON_TYPE });
	return answer.json().catch(() => null);
}

async function vendor_requests(site, path) {
	const journal = await ask_sim(site, "/sim/journal");
	return journal.requests.filter((r) => r.path === path);
}

// A POST to the broker: over FastCGI, or through a web server.
async function post(site, path, body, headers = {}) {
	const text = typeof body === "string" ? body : JSON.stringify(body);
	const front = site.front_end;
	if (front.name === "direct")
		return request(site.broker_sock, "POST", path,
		    { body: text, headers: { ...JSON_TYPE, ...headers } });
	const all = { ...front.headers, ...JSON_TYPE,
	    "Content-Length": Buffer.byteLength(text), Connection: "close",
	    ...headers };
	const answer = await exchange(front.where, `POST ${path} HTTP/1.1\r\n` +
	    Object.entries(all).map(([n, v]) => `${n}: ${v}\r\n`).join("") +
	    `\r\n${text}`);
	return { ...answer, get: (name) => answer.head?.get(name) };
}

function assert_error(answer, status, error) {
	assert.equal(answer.status, status, answer.body);
	assert.match(answer.get("content-type") ?? "", /^application\/json/);
	assert.equal(typeof answer.json?.error, "string", answer.body);
	assert.equal(typeof answer.json.message, "string", answer.body);
	if (error !== undefined)
		assert.equal(answer.json.error, error);
	assert.doesNotMatch(answer.body, /SIM-MARKER/);
}

async function flutter_session(site, persona = "persona-1") {
	const answer = await post(site, SESSION,
	    { personaId: persona }, DART_TYPE);
	assert.equal(answer.status, 200, answer.body);
	return answer.json;
}

async function client_token(site, persona = "persona-1") {
	const answer = await post(site, TOKEN,
	    { personaConfig: { personaId: persona } });
	assert.equal(answer.status, 200, answer.body);
	return answer.json.sessionToken;
}

function js_session(site, token, headers = {}) {
	return post(site, SESSION, SDK,
	    { Authorization: `Bearer ${token}`, ...headers });
}

// Through signalling: an offer is answered by the simulator's engine.
async function converse(conn, session_id) {
	await conn.send_text(JSON.stringify({ actionType: "offer",
	    sessionId: session_id, payload: { connectionDescription:
	    { type: "offer", sdp: SDP }, userUid: session_id } }));
	const actions = [];
	while (!actions.includes("answer")) {
		const frame = await conn.data_frame();
		assert.equal(frame?.opcode, OP.text, "a text frame");
		const message = JSON.parse(frame.payload);
		assert.equal(message.sessionId, session_id);
		actions.push(message.actionType);
	}
	assert.ok(actions.includes("sessionready"));
}

// What the Flutter SDK dials, and what its fork does.
function flutter_url(session, proxy = "/ws/proxy", fork = false) {
	const raw = (text) => fork ? encodeURIComponent(text) : text;
	return `${proxy}${proxy.includes("?") ? "&" : "?"}` +
	    `engineHost=${raw(session.engineHost)}` +
	    `&engineProtocol=${raw(session.engineProtocol)}` +
	    `&signallingEndpoint=${encodeURIComponent(session.signallingEndpoint)}` +
	    `&session_id=${raw(session.sessionId)}`;
}

// The id is in no log: neither ours, nor of a web server.
function assert_not_logged(site, secret) {
	for (const part of site.parts)
		if (part.name !== "sim")
			assert.ok(!part.output.includes(secret), part.name);
	for (const name of fs.readdirSync(site.dir))
		if (name.endsWith(".log"))
			assert.ok(!fs.readFileSync(site.file(name), "utf8")
			    .includes(secret), name);
}

// ---- the flows of the SDKs ----

for (const front of FRONTS)
	test(`the Flutter SDK starts and joins a session: ${front}`, async (t) => {
		const site = await open(t, { front });
		const session = await flutter_session(site);
		assert.equal(typeof session.sessionToken, "string");
		assert.equal(session.sessionToken.split(".").length, 3);
		assert.equal(session.engineProtocol, "http");
		assert.match(session.engineHost,
		    new RegExp(`/b/${session.sessionId}$`));
		assert.deepEqual(session.clientConfig, {
			iceServers: [], iceTransportPolicy: "all",
			heartbeatIntervalSeconds: 5,
			expectedHeartbeatIntervalSecs: 5,
			maxWsReconnectionAttempts: 5, maxWsReconnectAttempts: 5,
		});
		for (const url of [flutter_url(session),
		    flutter_url(session, "/ws/proxy?ticket=t"),
		    flutter_url(session, "/ws/proxy", true)]) {
			const conn = await site.connect(site.front_end, url);
			await converse(conn, session.sessionId);
			await conn.send_close(1000);
			await conn.closed();
		}
		assert_not_logged(site, session.sessionId);
	}, { skip: needs(front) });

for (const front of FRONTS)
	test(`the JavaScript SDK starts, joins and talks: ${front}`, async (t) => {
		const site = await open(t, { front });
		const token = await client_token(site);
		const claims = JSON.parse(Buffer.from(token.split(".")[1],
		    "base64url"));
		assert.equal(claims.type, "ephemeral");
		assert.equal(typeof claims.accountId, "string");
		const answer = await js_session(site, token);
		assert.equal(answer.status, 200, answer.body);
		const session = answer.json;
		assert.equal(session.sessionToken, undefined);
		// as SignallingClient and EngineApiRestClient build them
		const ws = new URL(`ws://${session.engineHost}`);
		ws.pathname = session.signallingEndpoint;
		ws.searchParams.append("session_id", session.sessionId);
		const talk = new URL(`http://${session.engineHost}/talk` +
		    `?session_id=${session.sessionId}`);
		const conn = await site.connect(site.front_end,
		    ws.pathname + ws.search);
		await converse(conn, session.sessionId);
		const said = await post(site, talk.pathname + talk.search,
		    { content: "Hello" });
		assert.equal(said.status, 200, said.body);
		const [at_vendor] = (await ask_sim(site, "/sim/journal")).requests
		    .filter((r) => r.path.endsWith("/talk"));
		assert.match(at_vendor.path, /^\/v1\/webrtc\/engines\//);
		assert.deepEqual(JSON.parse(at_vendor.body), { content: "Hello" });
		assert_not_logged(site, session.sessionId);
	}, { skip: needs(front) });

for (const front of FRONTS)
	test(`the JavaScript SDK comes through a gateway: ${front}`, async (t) => {
		const site = await open(t, { front });
		const api = "https://api.anam.ai";
		const token = await client_token(site);
		const answer = await js_session(site, token,
		    { [TARGET]: `${api}${SESSION}` });
		assert.equal(answer.status, 200, answer.body);
		const session = answer.json;
		assert.equal(session.engineHost, "engine.invalid");
		const target = new URL(`http://${session.engineHost}`);
		target.protocol = "ws:";
		target.pathname = session.signallingEndpoint;
		target.searchParams.append("session_id", session.sessionId);
		const gateway = new URL("ws://gateway/ws");
		gateway.searchParams.append("target_url", target.href);
		const conn = await site.connect(site.front_end,
		    gateway.pathname + gateway.search);
		await converse(conn, session.sessionId);
		const query = `?session_id=${session.sessionId}`;
		const said = await post(site, `/talk${query}`, { content: "Hi" },
		    { [TARGET]: `http://engine.invalid/talk${query}` });
		assert.equal(said.status, 200, said.body);
		const elsewhere = await post(site, `/talk${query}`,
		    { content: "Hi" },
		    { [TARGET]: `http://evil.example/talk${query}` });
		assert_error(elsewhere, 403);
		assert.equal((await post(site, "/v1/metrics/client",
		    { name: "x", value: "1" },
		    { [TARGET]: `${api}/v1/metrics/client` })).status, 204);
		assert.equal((await vendor_requests(site,
		    "/v1/metrics/client")).length, 0);
		assert_not_logged(site, session.sessionId);
	}, { skip: needs(front) });

test("an engine of the older form, without a path, is dialled", async (t) => {
	const site = await open(t);
	const session = await flutter_session(site, "sim-plain");
	const conn = await site.connect(site.front_end, flutter_url(session));
	await converse(conn, session.sessionId);
	assert.equal((await post(site,
	    `/b/${session.sessionId}/talk?session_id=${session.sessionId}`,
	    { content: "Hello" })).status, 200);
});

test("what the client sends before the engine answers is held, in order",
    async (t) => {
	const site = await open(t);
	const session = await flutter_session(site);
	await ask_sim(site, "/sim/anam", { mode: "signalling",
	    query: "sim=delay&ms=300" });
	const conn = await site.connect(site.front_end, flutter_url(session));
	await converse(conn, session.sessionId);
});

// ---- what the client never learns, and never decides ----

test("neither our key nor the vendor's token or host reaches a client",
    async (t) => {
	const site = await open_broker(t);
	const answer = await js_session(site, await client_token(site));
	const flutter = await flutter_session(site);
	const requests = await vendor_requests(site, SESSION);
	assert.equal(requests.length, 2);
	for (const r of requests) {
		const [, bearer] = r.headers.find(([name]) =>
		    name.toLowerCase() === "authorization");
		site.canaries.set("vendor's token",
		    bearer.replace(/^Bearer /, ""));
	}
	for (const text of [answer.body, JSON.stringify(flutter)])
		assert.doesNotMatch(text,
		    new RegExp(`webrtc|${site.sim_part.http_port}`));
});

test("a client's persona is its id and nothing else", async (t) => {
	const site = await open_broker(t);
	const wish = { personaId: "persona-1", name: "Eve",
	    systemPrompt: "Obey", llmId: "x" };
	for (const body of [{ personaConfig: wish }, wish])
		assert.equal((await post(site, TOKEN, body)).status, 200);
	assert.equal((await post(site, SESSION, { personaConfig: wish,
	    personaId: "persona-1", systemPrompt: "Obey" })).status, 200);
	const token = await client_token(site);
	assert.equal((await post(site, SESSION, { ...SDK, personaConfig: wish,
	    sessionOptions: { voiceDetection: { endOfSpeechSensitivity: 0.5 },
	    other: 1 } }, { Authorization: `Bearer ${token}` })).status, 200);
	for (const r of await vendor_requests(site, TOKEN))
		assert.deepEqual(JSON.parse(r.body),
		    { personaConfig: { personaId: "persona-1" } });
	const bodies = (await vendor_requests(site, SESSION))
	    .map((r) => JSON.parse(r.body));
	assert.deepEqual(bodies, [{}, { ...SDK, sessionOptions:
	    { voiceDetection: { endOfSpeechSensitivity: 0.5 } } }]);
});

test("a persona that is configured here is sent, and seen by no client",
    async (t) => {
	const site = await Site.open(t);
	const persona = { name: "Ours", avatarId: "a", voiceId: "v",
	    systemPrompt: site.canary("prompt") };
	const file = site.write("persona.json", JSON.stringify(persona));
	site.sim_part = await site.sim();
	await site.broker(config(site, site.sim_part,
	    `persona "ours" { config_file = "${file}" }`));
	site.front_end = site.direct();
	await flutter_session(site, "ours");
	const [r] = await vendor_requests(site, TOKEN);
	assert.deepEqual(JSON.parse(r.body), { personaConfig: persona });
});

test("no persona is allowed that is not listed", async (t) => {
	const site = await open_broker(t);
	for (const [path, body] of [[SESSION, { personaId: "other" }],
	    [TOKEN, { personaConfig: { personaId: "other" } }]])
		assert_error(await post(site, path, body), 403);
	await site.broker_part.wait_for(
	    /anam\.denied .*persona other .*write personas/);
	for (const body of [{}, { personaId: "" }, { personaId: 1 },
	    { personaConfig: {} }, { personaId: "x".repeat(200) }])
		assert_error(await post(site, TOKEN, body), 400);
	assert.equal((await vendor_requests(site, TOKEN)).length, 0);
});

test("a token that is not ours is refused, without a call", async (t) => {
	const site = await open_broker(t);
	const token = await client_token(site);
	const [head, claims, signature] = token.split(".");
	const none = Buffer.from('{"alg":"none","typ":"JWT"}')
	    .toString("base64url");
	for (const bad of ["", "x", "a.b.c", `${head}.${claims}.`,
	    `${none}.${claims}.`, `${none}.${claims}.${signature}`,
	    `${head}.${claims}.${signature.slice(0, -2)}AA`])
		assert_error(await js_session(site, bad), 401);
	assert_error(await post(site, SESSION, SDK,
	    { Authorization: `Basic ${token}` }), 401);
	assert_error(await post(site, SESSION, SDK), 400);
	assert.equal((await vendor_requests(site, TOKEN)).length, 0);
});

test("bad bodies and hosts are refused in the SDK's terms", async (t) => {
	const site = await open_broker(t);
	for (const [body, status] of [["", 400], ["x", 400], ["[]", 400],
	    ['{"a":1,"a":2}', 400], ["[".repeat(100), 400],
	    [`{"personaId":"${"x".repeat(70000)}"}`, 413]])
		assert_error(await post(site, SESSION, body), status);
	assert_error(await post(site, SESSION, "{}",
	    { "Content-Type": "text/html" }), 415);
	for (const host of ["evil.example/x", "a b", "x@y", "", "a:b", "[::1",
	    "x?y", "x:70000"])
		assert_error(await post(site, SESSION,
		    { personaId: "persona-1" }, { Host: host }), 400);
	for (const url of ["https://evil.example/v1/engine/session",
	    "https://api.anam.ai/v1/other", "https://api.anam.ai@evil.example" +
	    SESSION, "http://169.254.169.254/"])
		assert_error(await post(site, SESSION,
		    { personaId: "persona-1" }, { [TARGET]: url }), 403);
	assert_error(await request(site.broker_sock, "GET", SESSION), 405);
	assert.equal((await vendor_requests(site, TOKEN)).length, 0);
});

test("a gateway's request may name us, the vendor or the SDK's own default",
    async (t) => {
	const site = await open_broker(t);
	for (const base of ["https://chat.example", "http://chat.example",
	    "https://api.anam.ai",
	    `http://127.0.0.1:${site.sim_part.http_port}`]) {
		const answer = await post(site, SESSION,
		    { personaId: "persona-1" },
		    { [TARGET]: `${base}${SESSION}`, Host: "chat.example" });
		assert.equal(answer.status, 200, `${base}: ${answer.body}`);
	}
	for (const base of ["https://chat.example.evil", "ftp://chat.example",
	    "https://x@chat.example", "httpx://evil/://chat.example"])
		assert_error(await post(site, SESSION,
		    { personaId: "persona-1" },
		    { [TARGET]: `${base}${SESSION}`, Host: "chat.example" }), 403);
});

test("pages of admitted sites may call it, others may not", async (t) => {
	const site = await open_broker(t);
	const origin = { Origin: "http://localhost:3000" };
	const wanted = "authorization,content-type,x-anam-target-url";
	const preflight = await request(site.broker_sock, "OPTIONS", SESSION,
	    { headers: { ...origin, "Access-Control-Request-Method": "POST",
		"Access-Control-Request-Headers": wanted } });
	assert.equal(preflight.status, 204);
	assert.equal(preflight.get("access-control-allow-headers"), wanted);
	const answer = await post(site, SESSION, { personaId: "other" }, origin);
	assert_error(answer, 403);
	assert.equal(answer.get("access-control-allow-origin"), origin.Origin);
	const foreign = await post(site, SESSION, { personaId: "persona-1" },
	    { Origin: "https://evil.example" });
	assert_error(foreign, 403);
	assert.equal(foreign.get("access-control-allow-origin"), undefined);
	assert.equal((await vendor_requests(site, TOKEN)).length, 0);
});

// ---- one token, one session ----

test("requests that are repeated, at once or later, get the same session",
    async (t) => {
	const site = await open_broker(t);
	const token = await client_token(site);
	await ask_sim(site, "/sim/anam", { path: SESSION, ms: 400,
	    mode: "stall" });
	const answers = await Promise.all([0, 1, 2, 3].map(() =>
	    js_session(site, token)));
	answers.push(await js_session(site, token));
	for (const answer of answers)
		assert.equal(answer.status, 200, answer.body);
	assert.equal(new Set(answers.map((a) => a.body)).size, 1);
	assert.equal((await vendor_requests(site, SESSION)).length, 1);
	const other = await js_session(site, await client_token(site));
	assert.notEqual(other.json.sessionId, answers[0].json.sessionId);
	// and what Flutter was given is as good as used
	const flutter = await flutter_session(site);
	const again = await js_session(site, flutter.sessionToken);
	assert.equal(again.json.sessionId, flutter.sessionId);
});

test("a session outlives the broker", async (t) => {
	const site = await open(t);
	const token = await client_token(site);
	const first = await js_session(site, token);
	await site.broker_part.stop();
	await site.broker(config(site, site.sim_part));
	const again = await js_session(site, token);
	assert.equal(again.body, first.body);
	const conn = await site.connect(site.front_end,
	    `/b/${first.json.sessionId}/ws?session_id=${first.json.sessionId}`);
	await converse(conn, first.json.sessionId);
});

test("the same works for a plain CGI program", async (t) => {
	const site = await Site.open(t);
	site.sim_part = await site.sim();
	const file = site.write("culvert.conf", config(site, site.sim_part));
	const cgi = async (path, body, env = {}) => {
		const text = JSON.stringify(body);
		const { stdout } = await run([BROKER], { input: text, env: {
			...site.env(), CULVERT_CONFIG: file,
			GATEWAY_INTERFACE: "CGI/1.1", REQUEST_METHOD: "POST",
			REQUEST_URI: path, REMOTE_ADDR: "127.0.0.1",
			HTTP_HOST: "localhost", CONTENT_TYPE: "application/json",
			CONTENT_LENGTH: String(text.length), ...env,
		} });
		return parse_cgi(stdout);
	};
	const token = (await cgi(TOKEN, { personaId: "persona-1" })).json
	    .sessionToken;
	const auth = { HTTP_AUTHORIZATION: `Bearer ${token}` };
	const answers = await Promise.all([0, 1, 2].map(() =>
	    cgi(SESSION, SDK, auth)));
	for (const answer of answers)
		assert.equal(answer.status, 200, answer.body);
	assert.equal(new Set(answers.map((a) => a.json.sessionId)).size, 1);
});

test("no more sessions are made than the operator wants", async (t) => {
	const site = await open_broker(t, { more: "max_sessions = 1" });
	// one that fails does not count
	assert_error(await post(site, SESSION, { personaId: "sim-503" }), 503);
	await flutter_session(site);
	assert_error(await post(site, SESSION, { personaId: "persona-1" }), 429,
	    "Concurrent session limit reached");
	assert.equal((await vendor_requests(site, SESSION)).length, 2);
});

test("a session that is made in vain counts", async (t) => {
	const site = await open_broker(t, { more: "max_sessions = 1" });
	assert_error(await post(site, SESSION, { personaId: "sim-host-other" }),
	    502);
	assert_error(await post(site, SESSION, { personaId: "persona-1" }), 429,
	    "Concurrent session limit reached");
	assert.equal((await vendor_requests(site, SESSION)).length, 1);
});

test("a client is told the address that the operator says", async (t) => {
	const site = await open(t,
	    { more: 'public_url = "https://chat.example:8443"' });
	const session = await flutter_session(site);
	const id = session.sessionId;
	assert.equal(session.engineProtocol, "https");
	assert.equal(session.engineHost, `chat.example:8443/b/${id}`);
	assert.equal(session.signallingEndpoint, `/b/${id}/ws`);
	const conn = await site.connect(site.front_end, flutter_url(session));
	await converse(conn, id);
});

test("it is served under a base path, too", async (t) => {
	const site = await Site.open(t);
	site.sim_part = await site.sim();
	const parts = await site.serve(config(site, site.sim_part) +
	    'requests { base_path = "/culvert" }\n');
	await parts.tunnel.wait_for(/supervisor\.ready/);
	site.front_end = site.direct();
	const answer = await post(site, `/culvert${SESSION}`,
	    { personaId: "persona-1" }, { Host: "chat.example" });
	const id = answer.json.sessionId;
	assert.equal(answer.json.engineHost, `chat.example/culvert/b/${id}`);
	const path = `/culvert/b/${id}`;
	assert.equal(answer.json.signallingEndpoint, `${path}/ws`);
	const conn = await site.connect(site.front_end,
	    `${path}/ws?session_id=${id}`);
	await converse(conn, id);
	assert.equal((await post(site, `${path}/talk?session_id=${id}`,
	    { content: "Hello" })).status, 200);
	assert_not_logged(site, id);
});

// ---- the vendor fails ----

test("the vendor's failures become what the SDK understands", async (t) => {
	const site = await open_broker(t);
	await table([
		["sim-429-concurrent", 429, "Concurrent session limit reached"],
		["sim-429-spend", 429, "Spend cap reached"],
		["sim-429-usage", 429, "Usage limit reached"],
		["sim-token-429-spend", 429, "Spend cap reached"],
		["sim-402", 402], ["sim-503", 503], ["sim-400", 400],
		["sim-token-404", 400],
		["sim-401", 502], ["sim-403", 502], ["sim-token-401", 502],
		["sim-500", 502], ["sim-html", 502], ["sim-html-200", 502],
		["sim-garbage", 502], ["sim-empty", 502], ["sim-array", 502],
		["sim-huge", 502], ["sim-drop", 502], ["sim-token-huge", 502],
		["sim-token-html-200", 502],
		["sim-host-metadata", 502], ["sim-host-private", 502],
		["sim-host-other", 502], ["sim-host-userinfo", 502],
		["sim-host-empty", 502],
	], async (persona, status, error) => {
		const answer = await post(site, SESSION, { personaId: persona },
		    { Origin: "http://localhost" });
		assert_error(answer, status, error);
		assert.equal(answer.get("access-control-allow-origin"),
		    "http://localhost");
	});
	await site.broker_part.wait_for(
	    /anam\.refused client=\S+ persona=sim-400 status=400 /);
	await site.broker_part.wait_for(
	    /anam\.failed client=\S+ persona=sim-500 reason=/);
});

test("the token call is made twice at most, the session's once", async (t) => {
	const site = await open_broker(t);
	await ask_sim(site, "/sim/anam", { path: TOKEN, mode: "500" });
	await flutter_session(site);
	assert.equal((await vendor_requests(site, TOKEN)).length, 2);
	await ask_sim(site, "/sim/anam", { path: SESSION, mode: "500" });
	assert_error(await post(site, SESSION, { personaId: "persona-1" }), 502);
	assert.equal((await vendor_requests(site, SESSION)).length, 2);
});

test("a vendor that stalls is given up on before the SDK gives us up",
    async (t) => {
	const site = await open_broker(t);
	const began = performance.now();
	const answers = await Promise.all([
	    post(site, SESSION, { personaId: "sim-stall" }),
	    post(site, SESSION, { personaId: "sim-token-stall" }),
	    // what needs no vendor is served meanwhile
	    post(site, TOKEN, { personaId: "persona-1" }),
	]);
	const ms = performance.now() - began;
	assert_error(answers[0], 504);
	assert_error(answers[1], 504);
	assert.equal(answers[2].status, 200);
	assert.ok(ms > 8000, `${ms} ms`); // and before the vendor answers
}, { timeout: 40000 });

test("a key that the vendor refuses is our trouble, and in our log",
    async (t) => {
	const site = await open_broker(t,
	    { broker: { env: { ANAM_API_KEY: "wrong" } } });
	assert_error(await post(site, SESSION, { personaId: "persona-1" }), 502);
	await site.broker_part.wait_for(/anam\.key_refused .*answered 401/);
});

test("a vendor that is not there is 502", async (t) => {
	const site = await open_broker(t);
	await site.sim_part.part.stop();
	assert_error(await post(site, SESSION, { personaId: "persona-1" }), 502);
});

test("a certificate that is not trusted is 502, a trusted one serves",
    async (t) => {
	const site = await Site.open(t);
	const { make_certificates } = await import("../lib/servers.mjs");
	const { createServer } = await import("node:https");
	const tls = make_certificates(site, "vendor");
	const other = make_certificates(site, "other");
	const server = createServer({ cert: fs.readFileSync(tls.cert),
	    key: fs.readFileSync(tls.key) }, (req, res) => {
		res.setHeader("Content-Type", "application/json");
		res.end(JSON.stringify(req.url === TOKEN ?
		    { sessionToken: "t" } : { sessionId: "0123456789",
		    engineHost: "127.0.0.1", engineProtocol: "https",
		    signallingEndpoint: "/ws", clientConfig: {} }));
	});
	await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
	t.after(() => server.close());
	server.unref();
	const port = server.address().port;
	const conf = (ca) => site.config({ rest:
	    `store { path = "${site.file("culvert.db")}" }
anam {
	api_key = "env:ANAM_API_KEY"
	url = "https://127.0.0.1:${port}"
	hosts = {"127.0.0.1"}
	allow_private = true
	personas = {"p"}
	ca_file = "${ca}"
}
` });
	site.front_end = site.direct();
	const broker = await site.broker(conf(other.ca));
	assert_error(await post(site, SESSION, { personaId: "p" }), 502);
	await broker.wait_for(/anam\.failed .*certificate/);
	fs.writeFileSync(site.file("culvert.conf"), conf(tls.ca));
	broker.child.kill("SIGHUP");
	// the log says so just before it is in force
	await broker.wait_for(/config\.reload /);
	let answer;
	await until(async () => {
		answer = await post(site, SESSION, { personaId: "p" });
		return answer.status === 200;
	}, "the trusted certificate serves");
	// a session is answered over TLS only where the client came so
	assert.equal(answer.json.engineProtocol, "http");
});

// ---- where signalling leads ----

test("every other place is refused, and nobody connects there", async (t) => {
	const site = await open(t);
	const page = await flutter_session(site);
	const gate = (await js_session(site, await client_token(site),
	    { [TARGET]: `https://api.anam.ai${SESSION}` })).json;
	const trap = await RawServer.listen();
	const evil = `127.0.0.1:${trap.port}`;
	const id = page.sessionId, g = gate.sessionId;
	const q = encodeURIComponent;
	const proxy = (rest) => `/ws/proxy?session_id=${id}&${rest}`;
	await table([
		["engineHost", proxy(`engineHost=${evil}`), {}, 403],
		["with the session's path",
		    proxy(`engineHost=${evil}/b/${id}`), {}, 403],
		["metadata", proxy("engineHost=169.254.169.254"), {}, 403],
		["a name", proxy("engineHost=localhost"), {}, 403],
		["empty", proxy("engineHost="), {}, 403],
		["userinfo", proxy(`engineHost=${page.engineHost}@${evil}`), {},
		    403],
		["signallingEndpoint",
		    proxy(`signallingEndpoint=${q(`@${evil}/ws`)}`), {}, 403],
		["target_url", `/ws?target_url=${q(`ws://${evil}/ws`)}`, {}, 403],
		["target_url with the id",
		    `/ws?target_url=${q(`ws://${evil}/ws?session_id=${g}`)}`, {},
		    403],
		["target_url beside an id",
		    proxy(`target_url=${q(`ws://${evil}/ws`)}`), {}, 403],
		["header", proxy("a=b"), { [TARGET]: `http://${evil}/` }, 403],
		["header at /b/", `/b/${id}/ws?session_id=${id}`,
		    { [TARGET]: `ws://${evil}/ws?session_id=${id}` }, 403],
		["two ids", `/b/${id}/ws?session_id=${g}`, {}, 403],
		["unknown", "/ws/proxy?session_id=0a1b2c3d-4e5f", {}, 404],
		["unknown, with a place",
		    `/ws/proxy?session_id=0a1b2c3d-4e5f&engineHost=${evil}`, {},
		    404],
		["no id", `/ws/proxy?engineHost=${evil}`, {}, 400],
		["path", `/b/${id}/talk?session_id=${id}`, {}, 404],
	], async (name, target, headers, status) => {
		const answer = await site.handshake(site.front_end, target,
		    headers);
		assert.equal(answer.status, status, answer.body);
		assert.ok(!answer.body.includes(evil));
	});
	for (const [path, headers, status] of [
	    [`/b/${id}/talk?session_id=${g}`, {}, 403],
	    [`/b/${id}/talk`, { [TARGET]: `http://${evil}/talk?session_id=` +
	        id }, 403],
	    ["/talk?session_id=0a1b2c3d-4e5f", {}, 404],
	    ["/talk", {}, 400], [`/b/${id}/x`, {}, 404]])
		assert_error(await post(site, path, { content: "x" }, headers),
		    status);
	assert.equal(trap.waiting, 0, "nobody connected");
	const journal = await ask_sim(site, "/sim/journal");
	assert.equal(journal.handshakes.length, 0);
	assert_not_logged(site, id);
});

test("whoever is refused for ever is refused cheaply", async (t) => {
	const site = await open(t);
	const statuses = [];
	for (let i = 0; i < 32; i++)
		statuses.push((await site.handshake(site.front_end,
		    "/ws/proxy?session_id=0a1b2c3d-4e5f")).status);
	assert.deepEqual(statuses, [...Array(30).fill(404), 429, 429]);
});

test("sockets of a session may overlap, and the oldest of three goes",
    async (t) => {
	const site = await open(t);
	const { sessionId: id } = await flutter_session(site);
	const url = `/b/${id}/ws?session_id=${id}`;
	const first = await site.connect(site.front_end, url);
	await converse(first, id);
	const second = await site.connect(site.front_end, url);
	await converse(second, id);
	const third = await site.connect(site.front_end, url);
	await converse(third, id);
	const end = await first.closed();
	assert.equal(end.code, 1000);
	assert.equal(end.reason, "superseded");
	// another session's are not touched
	const other = await flutter_session(site);
	const conn = await site.connect(site.front_end, flutter_url(other));
	await converse(conn, other.sessionId);
	await converse(third, id);
});

test("the engine's last words reach the client as they are", async (t) => {
	const site = await open(t);
	const { sessionId: id } = await flutter_session(site);
	await ask_sim(site, "/sim/anam", { mode: "signalling",
	    query: "sim=close&code=1008&reason=Backend%20WebSocket%20closed" });
	const conn = await site.connect(site.front_end,
	    `/b/${id}/ws?session_id=${id}`);
	const end = await conn.closed();
	assert.equal(end.code, 1008);
	assert.equal(end.reason, "Backend WebSocket closed");
});
