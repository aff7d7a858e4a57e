// SPDX-License-Identifier: MIT
// OpenAI as people use it, with the simulator as the vendor: short-lived keys,
// pinned sessions, the text middleware, clients of the beta, calls, usage.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";

import { Site, builddir, run, table, until } from "../lib/harness.mjs";
import { request } from "../lib/fcgi.mjs";
import { OP } from "../lib/rawws.mjs";
import { test } from "../lib/tap.mjs";

const SECRETS = "/v1/realtime/client_secrets";
const CALLS = "/v1/realtime/calls";
const OFFER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n" +
    "a=group:BUNDLE 0 1\r\n" +
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n" +
    "a=mid:0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n" +
    `a=fingerprint:sha-256 ${Array(32).fill("AB").join(":")}\r\n` +
    "a=setup:actpass\r\na=sendrecv\r\na=rtcp-mux\r\n" +
    "a=rtpmap:111 opus/48000/2\r\n" +
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n" +
    "c=IN IP4 0.0.0.0\r\na=mid:1\r\na=ice-ufrag:abcd\r\n" +
    "a=ice-pwd:abcdefghijklmnopqrstuvwx\r\n" +
    `a=fingerprint:sha-256 ${Array(32).fill("AB").join(":")}\r\n` +
    "a=setup:actpass\r\na=sctp-port:5000\r\n";

// A client that speaks events.
class Talk {
	constructor(conn) { this.conn = conn; this.seen = []; }

	send(event) {
		return this.conn.send_text(typeof event === "string" ? event :
		    JSON.stringify(event));
	}

	async next() {
		const { opcode, payload } = await this.conn.message();
		assert.equal(opcode, OP.text, "events are text");
		const event = JSON.parse(payload);
		this.seen.push(event);
		return event;
	}

	async until(type) {
		for (;;) {
			const event = await this.next();
			if (event.type === type)
				return event;
			assert.ok(type === "error" || event.type !== "error",
			    JSON.stringify(event));
		}
	}

	// The text of the next answer.
	async answer() {
		const done = await this.until("response.done");
		return done.response.output[0].content[0].text ??
		    done.response.output[0].content[0].transcript;
	}

	async ask(text) {
		await this.send({ type: "conversation.item.create", item: {
			type: "message", role: "user",
			content: [{ type: "input_text", text }] } });
		await this.send({ type: "response.create" });
		return this.answer();
	}
}

// A site with a store whose vendor is the simulator.
async function open(t, { openai = "", rest = "", broker } = {}) {
	const site = await Site.open(t);
	const sim = await site.sim();
	const parts = await site.serve({ rest: `store {
	path = "${site.file("culvert.db")}"
}
openai {
	api_key = "env:OPENAI_API_KEY"
	url = "ws://127.0.0.1:${sim.ws_port}/v1/realtime"
	alias "old-model" { model = "gpt-realtime" }
	${openai}
}
${rest}` }, { broker });
	const front = site.direct();
	const keys = [];
	t.after(() => {
		for (const { name, output } of Object.values(parts))
			for (const key of keys)
				assert.ok(!output.includes(key), `a key in ${name}`);
	});
	return {
		site, sim, front, keys, ...parts,
		talk: async (target, headers) => new Talk(
		    await site.connect(front, target, headers)),
		refused: async (target, headers) => (await site.handshake(front,
		    target, headers, { until: "close" })).status,
		post: (target, body, headers = {}, env = {}) => request(
		    site.broker_sock, "POST", target, { env,
		    body: typeof body === "object" ? JSON.stringify(body) : body,
		    headers: { "Content-Type": "application/json", ...headers } }),
		journal: async () => (await fetch(
		    `http://127.0.0.1:${sim.http_port}/sim/journal`)).json(),
	};
}

const bearer = (key) => ({ Authorization: `Bearer ${key}` });
const as_item = (key) => ({ "Sec-WebSocket-Protocol":
    `realtime, openai-insecure-api-key.${key}` });

// A key; no log may have it.
async function get_key(s, body = {}, target = SECRETS, env = {}) {
	const answer = await s.post(target, body, {}, env);
	assert.equal(answer.status, 200, answer.body);
	assert.match(answer.json.value, /^ek_/);
	s.keys.push(answer.json.value);
	return answer.json;
}

function assert_error(answer, status, param) {
	assert.equal(answer.status, status, answer.body);
	const { error } = answer.json;
	assert.deepEqual(Object.keys(error).sort(),
	    ["code", "message", "param", "type"]);
	assert.equal(error.type, status < 500 ? "invalid_request_error" :
	    "server_error");
	assert.equal(error.param, param ?? null);
}

// ---- short-lived keys ----

test("a short-lived key opens conversations until it expires", async (t) => {
	const s = await open(t, { openai:
	    "client_secrets = true\nrequire_ticket = true" });
	const before = Math.floor(Date.now() / 1000);
	const made = await get_key(s, { expires_after:
	    { anchor: "created_at", seconds: 10 },
	    session: { type: "realtime", model: "old-model",
	        output_modalities: ["text"], instructions: "Be brief." } });

	assert.ok(Math.abs(made.expires_at - before - 10) <= 2);
	assert.equal(made.session.object, "realtime.session");
	assert.equal(made.session.type, "realtime");
	assert.equal(made.session.model, "gpt-realtime");
	assert.match(made.session.id, /^sess_/);
	for (const [target, headers] of [
		["/v1/realtime", bearer(made.value)],
		["/v1/realtime?model=gpt-realtime", as_item(made.value)],
		[`/v1/realtime?ticket=${made.value}`, {}],
	]) {
		const talk = await s.talk(target, headers);
		assert.equal(await talk.ask("Hello"), "You said: Hello");
		await talk.conn.send_close(1000);
	}
	for (const headers of [{}, bearer("ek_anything"), bearer("ek_a.b.c"),
	    bearer(made.value.slice(0, -2)), as_item("ek_x")])
		assert.equal(await s.refused("/v1/realtime", headers), 401);
	await until(() => Math.floor(Date.now() / 1000) > made.expires_at,
	    "the key expires", 15000);
	assert.equal(await s.refused("/v1/realtime", bearer(made.value)), 401);
	const { handshakes } = await s.journal();
	assert.equal(handshakes.length, 3);
	for (const { headers, query_string } of handshakes) {
		assert.equal(query_string, "model=gpt-realtime");
		assert.ok(!JSON.stringify(headers).includes("ek_"));
	}
	await s.broker.wait_for(/ openai\.ticket client=127\.0\.0\.1 route=openai /);
}, { timeout: 60000 });

test("its session is the conversation's", async (t) => {
	const s = await open(t, { openai: "client_secrets = true" });
	const { value } = await get_key(s, { session: { type: "realtime",
	    instructions: "canary instructions", output_modalities: ["text"],
	    audio: { output: { voice: "cedar" } } } });
	const talk = await s.talk("/v1/realtime", as_item(value));
	const { session } = await talk.until("session.updated");

	assert.equal(session.instructions, "canary instructions");
	assert.equal(session.audio.output.voice, "cedar");
	assert.deepEqual(session.output_modalities, ["text"]);
});

test("a ticket may have a model and a session, as a key has", async (t) => {
	const s = await open(t, { openai: "client_secrets = true" });
	const ask = (body) => s.post("/api/tickets", { route: "openai", ...body });
	const made = await ask({ model: "old-model", session: {
	    type: "realtime", instructions: "canary instructions" } });

	assert.equal(made.status, 200, made.body);
	s.keys.push(made.json.ticket);
	const talk = await s.talk(made.json.url);
	const { session } = await talk.until("session.updated");
	assert.equal(session.instructions, "canary instructions");
	assert.equal(session.model, "gpt-realtime");
	assert.equal(await s.refused(made.json.url), 401);
	for (const [body, status] of [[{ model: "gpt-3" }, 403],
	    [{ session: 1 }, 400], [{ session: { type: "x" } }, 400],
	    [{ model: "\n" }, 400]]) {
		const answer = await ask(body);
		assert.equal(answer.status, status, JSON.stringify(body));
		assert.equal(typeof answer.json.error.message, "string");
	}
});

test("a key is spent where the site says so", async (t) => {
	const s = await open(t, { openai:
	    "client_secrets = true\nticket_once = true\ncalls = true" });
	const { value } = await get_key(s);

	await (await s.talk("/v1/realtime", bearer(value))).until(
	    "session.created");
	assert.equal(await s.refused("/v1/realtime", as_item(value)), 401);
	const call = await get_key(s);
	const offer = () => s.post(CALLS, OFFER,
	    { "Content-Type": "application/sdp", ...bearer(call.value) });
	assert.equal((await offer()).status, 201);
	assert.equal((await offer()).status, 401);
});

test("a key is good for its own route", async (t) => {
	const s = await open(t, { openai: "client_secrets = true",
	    rest: 'relay "/b" { inherit = "openai" }\n' +
	        'relay "/c" { inherit = "openai" client_secrets = false }' });
	const a = await get_key(s);
	const b = await get_key(s, {}, `${SECRETS}?route=/b`);

	assert.equal(await s.refused("/b", bearer(a.value)), 401);
	assert.equal(await s.refused("/c", bearer(a.value)), 401);
	assert.equal(await s.refused("/v1/realtime", as_item(b.value)), 401);
	await (await s.talk("/b", bearer(b.value))).until("session.created");
	await (await s.talk("/c", bearer("ek_of-openai"))).until(
	    "session.created");
	for (const target of ["/c", "/nothing", ""])
		assert_error(await s.post(`${SECRETS}?route=${target}`, {}), 404);
});

test("what a key may not stand for is refused", async (t) => {
	const s = await open(t, { openai: `client_secrets = true
	ticket_seconds_max = 60`, rest: `relay "/pinned" {
	inherit = "openai"
	session { instructions = "Be kind." voice = "marin" }
}` });
	const realtime = (more) => ({ session: { type: "realtime", ...more } });
	const after = (more) => ({ expires_after: more });

	await table([
		["an address", { base_url: "http://x" }, 400, null],
		["a session that is none", { session: 1 }, 400, "session"],
		["no type", { session: {} }, 400, "session.type"],
		["another type", { session: { type: "x" } }, 400, "session.type"],
		["an unknown member", realtime({ url: "x" }), 400, "session.*"],
		["another model", realtime({ model: "gpt-4" }), 403,
		    "session.model"],
		["a model that is none", realtime({ model: 5 }), 400,
		    "session.model"],
		["too soon", after({ seconds: 9 }), 400, "expires_after.seconds"],
		["too late", after({ seconds: 61 }), 400,
		    "expires_after.seconds"],
		["no number", after({ seconds: "30" }), 400,
		    "expires_after.seconds"],
		["another anchor", after({ anchor: "x", seconds: 30 }), 400,
		    "expires_after.anchor"],
		["other members", after({ at: 1 }), 400, "expires_after"],
		["too much", realtime({ instructions: "x".repeat(25000) }), 413,
		    "session"],
	], async (name, body, status, param) => {
		assert_error(await s.post(SECRETS, body), status, param);
	});
	await table([
		["instructions", { instructions: "Be mean." },
		    "session.instructions"],
		["tools", { tools: [] }, "session.tools"],
		["a voice", { audio: { output: { voice: "cedar" } } },
		    "session.audio.output.voice"],
		["a transcription", { type: "transcription" }, "session.type"],
	], async (name, session, param) => {
		assert_error(await s.post(`${SECRETS}?route=/pinned`,
		    realtime(session)), 403, param);
	});
	const echoed = await get_key(s, realtime({ output_modalities: ["text"] }),
	    `${SECRETS}?route=/pinned`);
	assert.ok(!JSON.stringify(echoed).includes("Be kind."),
	    "the site's prompt is its own");
	assert_error(await s.post(SECRETS, "[]"), 400);
	assert_error(await s.post(SECRETS, "{}", { "Content-Type":
	    "text/plain" }), 415);
	assert_error(await request(s.site.broker_sock, "GET", SECRETS), 405);
	s.broker.wait_for(/ openai\.denied .*route=\/pinned /);
});

test("without a store there are no keys, and that is no 401", async (t) => {
	const site = await Site.open(t);
	await site.serve({ rest: `openai {
	api_key = "env:OPENAI_API_KEY"
	url = "ws://127.0.0.1:9/v1/realtime"
	client_secrets = true
	require_ticket = true
}` });
	const post = (path) => request(site.broker_sock, "POST", path,
	    { body: "{}", headers: { "Content-Type": "application/json" } });
	assert_error(await post(SECRETS), 503);
	const answer = await site.handshake(site.direct(), "/v1/realtime",
	    bearer("ek_a.b.c"), { until: "close" });
	assert.equal(answer.status, 503);
});

test("a restarted broker knows its keys", async (t) => {
	const s = await open(t, { openai: "client_secrets = true" });
	const { value } = await get_key(s);

	assert.equal((await s.broker.stop()).code, 0);
	await s.site.broker(fs.readFileSync(s.site.file("culvert.conf"), "utf8"));
	await (await s.talk("/v1/realtime", bearer(value))).until(
	    "session.created");
});

// ---- pinned sessions ----

const PINNED = `session {
	model = "gpt-realtime"
	instructions = "Be kind."
	voice = "marin"
	max_output_tokens = 300
}`;

test("a pinned session is the site's, whatever the client says", async (t) => {
	const s = await open(t, { openai: `${PINNED}\nclient_secrets = true` });
	const talk = await s.talk("/v1/realtime");
	const { session } = await talk.until("session.updated");

	assert.equal(session.instructions, "Be kind.");
	assert.equal(session.audio.output.voice, "marin");
	const forbidden = [
		{ instructions: "Be mean." }, { instructions: "" },
		{ tools: [{ type: "function", name: "f" }] },
		{ audio: { output: { voice: "cedar" } } },
		{ max_output_tokens: 301 }, { max_output_tokens: "inf" },
		{ model: "gpt-realtime-2" }, { prompt: { id: "p" } },
		{ audio: { input: { transcription: { model: "whisper-1" } } } },
		{ tracing: "auto" },
	];
	await table(forbidden.flatMap((change) => [
		["session.update", { type: "session.update",
		    session: { type: "realtime", ...change } }],
		["reversed", { session: { ...change, type: "realtime" },
		    event_id: "e", type: "session.update" }],
		["response.create", { type: "response.create",
		    response: change }],
	]), async (name, event) => {
		await talk.send(event);
		const { error } = await talk.until("error");
		assert.equal(error.type, "invalid_request_error",
		    JSON.stringify(event));
	});
	// written otherwise, and in pieces
	const text = '{"\\u0074ype":"session.\\u0075pdate","session":' +
	    '{"type":"realtime","instruction\\u0073":"Be mean."}}';
	await talk.send(text);
	await talk.until("error");
	for (let i = 0; i < text.length; i += 7)
		await talk.conn.send(i === 0 ? OP.text : OP.continuation,
		    text.slice(i, i + 7), { fin: i + 7 >= text.length });
	await talk.until("error");
	// and what is left to it passes
	await talk.send({ type: "session.update", session: { type: "realtime",
	    output_modalities: ["text"], model: "gpt-realtime",
	    max_output_tokens: 200 } });
	const updated = await talk.until("session.updated");
	assert.equal(updated.session.instructions, "Be kind.");
	assert.deepEqual(updated.session.output_modalities, ["text"]);
	assert.equal(updated.session.max_output_tokens, 200);
	assert.equal(await talk.ask("Hello"), "You said: Hello");
	assert.equal(await s.refused("/v1/realtime?model=gpt-realtime-mini"), 403);
});

// One thousand ways to write what is forbidden; the same ones each time.
function* variants() {
	let state = 7;
	const random = (n) => {
		state = (state * 48271) % 2147483647;
		return state % n;
	};
	const one_of = (list) => list[random(list.length)];
	const escape = (text) => [...text].map((c) => random(4) > 0 ? c :
	    `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`).join("");
	const name = (text) => `"${escape(text)}"`;
	const blank = () => one_of(["", "", " ", "\n", "\t", "  \r\n"]);
	const object = (members) => `{${blank()}${members.map(([key, value]) =>
	    `${blank()}${name(key)}${blank()}:${blank()}${value}${blank()}`)
	    .sort(() => random(3) - 1).join(",")}}`;
	const harmless = () => one_of([[], [["output_modalities", '["text"]']],
	    [["max_output_tokens", "100"]]]);
	const forbidden = () => one_of([
		[["instructions", name("Be mean.")]],
		[["instructions", "null"]], [["instructions", '{"a":1}']],
		[["tools", "[]"]], [["tools", '[{"type":"mcp"}]']],
		[["tool_choice", '"required"']],
		[["prompt", '{"id":"p"}']], [["model", '"gpt-realtime-2"']],
		[["max_output_tokens", one_of(["301", '"inf"', "1e9", "-1"])]],
		[["audio", object([["output", object([["voice",
		    name("cedar")]])]])]],
		[["audio", object([["input", object([["transcription",
		    '{"model":"whisper-1"}']])]])]],
		[["include", '["x"]']], [["voice", '"cedar"']],
	]);

	for (let i = 0; i < 1000; i++) {
		const type = one_of(["session.update", "session.update",
		    "response.create"]);
		const inner = [...harmless(), ...forbidden()];
		const members = [["type", name(type)]];

		if (type === "session.update")
			inner.push(["type", name("realtime")]);
		members.push([type === "session.update" ? "session" : "response",
		    object(inner)]);
		if (random(3) === 0)
			members.push(["event_id", '"e"']);
		// named twice: whoever reads the first, and whoever the last
		if (random(4) === 0)
			members.unshift(["type", name(one_of(["response.cancel",
			    "input_audio_buffer.clear", type]))]);
		yield [object(members), random(5) === 0 ? 1 + random(40) : 0];
	}
}

test("none of 1,000 variants of what is forbidden passes", async (t) => {
	const s = await open(t, { openai: PINNED });
	const talk = await s.talk("/v1/realtime");
	await talk.until("session.updated");

	for (const [text, piece] of variants()) {
		if (piece === 0)
			await talk.send(text);
		for (let i = 0; piece > 0 && i < text.length; i += piece)
			await talk.conn.send(i === 0 ? OP.text : OP.continuation,
			    text.slice(i, i + piece),
			    { fin: i + piece >= text.length });
		const event = await talk.next();
		assert.equal(event.type, "error",
		    `${text}: ${JSON.stringify(event)}`);
	}
	// the session is what it was, and goes on
	await talk.send({ type: "session.update", session: { type: "realtime",
	    output_modalities: ["text"] } });
	const { session } = await talk.until("session.updated");
	assert.equal(session.instructions, "Be kind.");
	assert.equal(session.max_output_tokens, 300);
	assert.equal(session.audio.output.voice, "marin");
	assert.deepEqual(session.tools ?? [], []);
	assert.equal(await talk.ask("Hello"), "You said: Hello");
	await talk.conn.send_close(1000);
	// the vendor never heard of any of it
	const [{ received }] = await until(async () => {
		const { handshakes } = await s.journal();
		return handshakes[0].close_received && handshakes;
	}, "the close at the vendor");
	assert.equal(received.text.messages, 4);
}, { timeout: 60000 });

test("a key does not widen a pinned session either", async (t) => {
	const s = await open(t, { openai: `${PINNED}\nclient_secrets = true` });
	const { value } = await get_key(s, { session: { type: "realtime",
	    output_modalities: ["text"] } });
	const talk = await s.talk("/v1/realtime?call_id=rtc_x", as_item(value));
	const { session } = await talk.until("session.updated");

	assert.equal(session.instructions, "Be kind.");
	assert.deepEqual(session.output_modalities, ["text"]);
	await talk.send({ type: "session.update", session: { type: "realtime",
	    instructions: "Be mean." } });
	await talk.until("error");
});

// ---- text, and the beta ----

test("plain text is answered with the vendor's events", async (t) => {
	const s = await open(t, { rest: 'relay "/ws" {\ninherit = "openai"\n' +
	    'messages = "text"\nsession { instructions = "Be brief." }\n}' });
	const one = await s.talk("/ws"), two = await s.talk("/ws");

	// at once: one response at a time, in their order
	for (const text of ["Hello, how are you?", "And \"you\"?", "{}"])
		await one.send(text);
	await two.send("Somebody else");
	assert.equal(await one.answer(), "You said: Hello, how are you?");
	assert.equal(await one.answer(), 'You said: And "you"?');
	assert.equal(await one.answer(), "You said: {}");
	assert.equal(await two.answer(), "You said: Somebody else");
	const created = one.seen.find((e) => e.type === "session.created");
	assert.equal(created.session.model, "gpt-realtime");
	for (const { response } of one.seen.filter((e) =>
	    e.type === "response.done"))
		assert.equal(response.output[0].content[0].type, "output_text");
});

test("a client of the beta speaks and hears the beta", async (t) => {
	const s = await open(t, { openai: 'paths = {"/v1/realtime"}',
	    rest: 'relay "/" {\ninherit = "openai"\ndialect = "beta"\n}' });
	const talk = await s.talk("/?model=old-model",
	    { "OpenAI-Beta": "realtime=v1" });

	await talk.until("session.created");
	await talk.send({ type: "session.update", session: {
		modalities: ["text"], instructions: "Be brief.",
		temperature: 0.8 } });
	const { session } = await talk.until("session.updated");
	assert.deepEqual(session.modalities, ["text"]);
	assert.equal(session.instructions, "Be brief.");
	await talk.send({ type: "conversation.item.create", item: {
		type: "message", role: "user",
		content: [{ type: "input_text", text: "Hello" }] } });
	await talk.send({ type: "response.create" });
	const done = await talk.until("response.done");
	assert.equal(done.response.output[0].content[0].type, "text");
	const types = new Set(talk.seen.map((e) => e.type));
	for (const type of ["conversation.item.created", "response.text.delta",
	    "response.text.done"])
		assert.ok(types.has(type), `${type} in ${[...types]}`);
	for (const type of types)
		assert.doesNotMatch(type, /output_text|conversation\.item\.added/);
	const { handshakes } = await s.journal();
	const sent = JSON.stringify(handshakes[0].headers).toLowerCase();
	assert.ok(!sent.includes("beta"), sent);
});

// ---- usage ----

test("usage is booked for the user of the key", async (t) => {
	const s = await open(t, { openai: "client_secrets = true",
		rest: "users { remote_user = true }" });
	const { value } = await get_key(s, { session: { type: "realtime",
	    output_modalities: ["text"] } }, SECRETS, { REMOTE_USER: "ann" });
	const talk = await s.talk("/v1/realtime", bearer(value));
	const sums = async () => JSON.parse((await run([path.join(builddir,
	    "culvertctl"), "--socket", s.site.control_sock, "--json", "usage",
	    "--by", "all", "--from", "2000-01-01", "--to", "2999-12-31"]))
	    .stdout);

	await talk.ask("Hello");
	await talk.ask("Hello again");
	await talk.conn.send_close(1000);
	const booked = await until(async () => {
		const found = await sums();
		return JSON.stringify(found).includes("ann") && found;
	}, "the rows of the ledger");
	const [row] = booked.rows;
	assert.equal(row.route, "openai");
	assert.equal(row.user, "ann");
	assert.equal(row.model, "gpt-realtime");
	assert.equal(row.events, 2);
});

// ---- calls ----

const form = (parts) => {
	const boundary = "----culvert";
	return [parts.map(([name, type, data]) => `--${boundary}\r\n` +
	    `Content-Disposition: form-data; name="${name}"\r\n` +
	    `Content-Type: ${type}\r\n\r\n${data}\r\n`).join("") +
	    `--${boundary}--\r\n`,
	    { "Content-Type": `multipart/form-data; boundary=${boundary}` }];
};
const SDP = { "Content-Type": "application/sdp" };

test("a call begins with the site's key and session", async (t) => {
	const s = await open(t, { openai: "calls = true\nclient_secrets = true",
	    rest: `relay "/pinned" {\ninherit = "openai"\n${PINNED}
	    calls = true\n}\nrelay "/closed" { inherit = "openai"
	    session { } }` });
	const session_of = async () => {
		const { requests } = await s.journal();
		const { body, headers } = requests.findLast((r) => r.path === CALLS);
		const sent = Object.fromEntries(headers.map(([name, value]) =>
		    [name.toLowerCase(), value]));
		assert.equal(sent.authorization, `Bearer ${s.site.vendor_key}`);
		assert.ok(body.includes(OFFER), "the offer as it was");
		return JSON.parse(/\r\n\r\n(\{.*\})\r\n--/.exec(body)[1]);
	};
	const raw = await s.post(`${CALLS}?model=old-model`, OFFER, SDP);
	assert.equal(raw.status, 201, raw.body);
	assert.equal(raw.get("content-type"), "application/sdp");
	assert.match(raw.body.toString(), /^v=0\r?\n/);
	assert.match(raw.get("location"), /^\/v1\/realtime\/calls\/rtc_\w+$/);
	assert.deepEqual(await session_of(),
	    { type: "realtime", model: "gpt-realtime" });

	const { value } = await get_key(s, { session: { type: "realtime",
	    instructions: "Of the key.", model: "gpt-realtime-mini" } });
	const [body, type] = form([["sdp", "application/sdp", OFFER],
	    ["session", "application/json", JSON.stringify({ type: "realtime",
	        instructions: "Of the client.", output_modalities: ["text"] })]]);
	const both = await s.post(CALLS, body, { ...type, ...bearer(value) });
	assert.equal(both.status, 201, both.body);
	assert.deepEqual(await session_of(), { type: "realtime",
	    model: "gpt-realtime-mini", instructions: "Of the key.",
	    output_modalities: ["text"] });

	const pinned = await s.post(`${CALLS}?route=/pinned`, OFFER, SDP);
	assert.equal(pinned.status, 201, pinned.body);
	const sent = await session_of();
	assert.equal(sent.instructions, "Be kind.");
	assert.equal(sent.audio.output.voice, "marin");
	assert_error(await s.post(`${CALLS}?route=/pinned`, body, type), 403,
	    "session.instructions");
	assert_error(await s.post(`${CALLS}?route=/closed`, OFFER, SDP), 404);
	assert_error(await s.post(`${CALLS}?model=gpt-4`, OFFER, SDP), 403,
	    "model");
	assert_error(await s.post(CALLS, OFFER, { ...SDP,
	    ...bearer("ek_a.b.c") }), 401);
	assert_error(await s.post(CALLS, "hello", SDP), 400);
	assert_error(await s.post(CALLS, OFFER), 415);
	assert_error(await s.post(CALLS, form([["sdp", "application/sdp",
	    OFFER], ["x", "text/plain", ""]])[0], type), 400);
	assert_error(await s.post(CALLS, `${body}x`, type), 400);
	await s.broker.wait_for(/ openai\.call client=127\.0\.0\.1 route=openai call=rtc_/);
});

test("what the vendor says of a call is ours to explain", async (t) => {
	const s = await open(t, { openai: "calls = true\nconnect_timeout = 1" });
	const script = (entry) => fetch(
	    `http://127.0.0.1:${s.sim.http_port}/sim/openai`,
	    { method: "POST", body: JSON.stringify(entry) });

	await table([
		["401", 502], ["403", 502], ["500", 502], ["503", 502],
		["400", 400], ["html", 502], ["html-200", 502],
		["garbage", 502], ["huge", 502], ["drop", 502], ["empty", 502],
	], async (mode, status) => {
		await script({ mode });
		const answer = await s.post(CALLS, OFFER, SDP);
		assert_error(answer, status);
		assert.ok(!/api\.?key|<html/i.test(answer.body), answer.body);
	});
	await script({ mode: "stall", ms: 5000 });
	assert_error(await s.post(CALLS, OFFER, SDP), 504);
	await script({ mode: "answer", status: 307, body: "" });
	assert_error(await s.post(CALLS, OFFER, SDP), 502);
	await script({ mode: "429-usage" });
	const busy = await s.post(CALLS, OFFER, SDP);
	assert.equal(busy.status, 429, busy.body);
	assert.match(busy.get("retry-after"), /^\d+$/);
	await s.broker.wait_for(/ openai\.failed route=openai reason="/);
});
