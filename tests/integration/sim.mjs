// SPDX-License-Identifier: MIT
// The simulated vendors themselves, where only sockets show it: what they do
// over HTTP, and at an engine's signalling.
import assert from "node:assert/strict";
import fs from "node:fs";

import { SDP, next_frame, offer } from "../lib/flutter.mjs";
import { SIM, Site, until } from "../lib/harness.mjs";
import { OP } from "../lib/rawws.mjs";
import { make_certificates } from "../lib/servers.mjs";
import { skip_all, test } from "../lib/tap.mjs";

if (!fs.existsSync(SIM))
	skip_all("the simulator is not built; run deploy/check");

// A simulator, and post(path, body, key): {status, text, json, headers}.
async function sim_site(t, args) {
	const site = await Site.open(t);
	const sim = await site.sim(args);
	const post = async (path, body, key, type = "application/json") => {
		const response = await fetch(
		    `http://127.0.0.1:${sim.http_port}${path}`, {
			method: "POST",
			body: typeof body === "string" || body instanceof FormData ?
			    body : JSON.stringify(body),
			headers: { ...key ? { Authorization: `Bearer ${key}` } : {},
			    ...body instanceof FormData ? {} :
			        { "Content-Type": type } },
		});
		const text = await response.text();
		let json;
		try {
			json = JSON.parse(text);
		} catch {
			json = undefined;
		}
		return { status: response.status, text, json,
		    headers: response.headers };
	};
	const token = async (persona = "p") => (await post(
	    "/v1/auth/session-token", { personaConfig: { personaId: persona } },
	    site.anam_key)).json.sessionToken;
	return { site, sim, post, token,
	    session: async (persona) => (await post("/v1/engine/session", {},
	        await token(persona))).json };
}

// A WebSocket to an engine, or to where one is played.
function signalling(site, sim, path) {
	return site.connect({ where: { port: sim.ws_port },
	    headers: { Host: "sim" } }, path);
}

const url_of = (session) =>
    `${session.signallingEndpoint}?session_id=${session.sessionId}`;

const send = (conn, value) => conn.send(OP.text, JSON.stringify(value));

const offer_frame = (session) => JSON.parse(offer(session));

test("an engine answers an offer, whichever socket it came on", async (t) => {
	const { site, sim, session } = await sim_site(t);
	const one = await session();
	const first = await signalling(site, sim, url_of(one));
	const last = await signalling(site, sim, url_of(one));
	await send(first, offer_frame(one));
	assert.equal((await next_frame(last)).actionType, "sessionready");
	const answer = await next_frame(last);
	assert.equal(answer.actionType, "answer");
	assert.equal(answer.sessionId, one.sessionId);
	assert.match(answer.payload.sdp, /^a=setup:active\r$/m);
	await assert.rejects(signalling(site, sim,
	    url_of({ ...one, sessionId: "other" })), /no 101 but .* 403/);
	await assert.rejects(signalling(site, sim, url_of({ ...one,
	    signallingEndpoint: "/v1/webrtc/engines/x/ws" })),
	    /no 101 but .* 404/);
});

test("a page can be the engine", async (t) => {
	const { site, sim, session } = await sim_site(t);
	const engine = await signalling(site, sim, "/sim/anam/engine");
	const one = await session();
	const client = await signalling(site, sim, url_of(one));
	await send(client, offer_frame(one));
	assert.deepEqual(await next_frame(engine), offer_frame(one));
	await send(engine, { actionType: "answer", anything: ["at", "all"] });
	assert.deepEqual(await next_frame(client),
	    { actionType: "answer", anything: ["at", "all"] });
	await engine.send_close(1000);
	await engine.closed();
	await send(client, {});
	assert.equal((await next_frame(client)).actionType, "warning");
});

test("a script gives an engine's signalling its knobs", async (t) => {
	const { site, sim, post, session } = await sim_site(t);
	const one = await session();
	for (const query of ["sim=endsession,close&code=4001&reason=bye&after=1",
	    "sim=refuse&status=503", "heartbeat_ms=20"])
		assert.equal((await post("/sim/anam",
		    { mode: "signalling", query })).status, 200);
	const conn = await signalling(site, sim, url_of(one));
	await send(conn, { actionType: "heartbeat", payload: "" });
	const frame = await next_frame(conn);
	assert.equal(frame.actionType, "endsession");
	assert.equal(frame.payload, "bye");
	const close = await conn.closed();
	assert.equal(close.code, 4001);
	assert.equal(close.reason, "bye");
	await assert.rejects(signalling(site, sim, url_of(one)),
	    /no 101 but .* 503/);
	const alive = await signalling(site, sim, url_of(one));
	assert.equal((await next_frame(alive)).actionType, "heartbeat");
	assert.equal((await next_frame(alive)).actionType, "heartbeat");
});

test("a script makes HTTP answers late, broken or absent", async (t) => {
	const { post, token } = await sim_site(t);
	const path = "/v1/engine/session";
	const started = performance.now();
	await post("/sim/anam", { mode: "stall", ms: 120, path });
	assert.equal((await post(path, {}, await token())).status, 201);
	assert.ok(performance.now() - started >= 120);
	await post("/sim/anam", { mode: "drop", path });
	await assert.rejects(post(path, {}, await token()));
	await post("/sim/anam", { mode: "html", path });
	assert.match((await post(path, {}, await token())).text, /^<html>/);
	await post("/sim/openai", { mode: "429-spend" });
	assert.equal((await post("/v1/realtime/calls", "", "k")).json.error.code,
	    "insufficient_quota");
	assert.equal((await post("/sim/anam", { mode: "no-such" })).status, 400);
});

test("it ends at once, whoever still waits", async (t) => {
	const { sim, post } = await sim_site(t);
	await post("/sim/anam", { mode: "stall" });
	const waiting = post("/v1/metrics/client", {}).catch(() => "ended");
	await until(async () => {
		const journal = await (await fetch(
		    `http://127.0.0.1:${sim.http_port}/sim/journal`)).json();
		return journal.requests.some((r) => r.body === "{}");
	}, "the request is read");
	await sim.part.stop();
	await waiting;
});

test("short-lived keys and calls", async (t) => {
	const { site, post } = await sim_site(t);
	const key = site.vendor_key;
	const secrets = "/v1/realtime/client_secrets";
	const settings = { type: "realtime", model: "gpt-realtime" };
	assert.equal((await post(secrets, {}, "wrong")).status, 401);
	for (const [body, param] of [
		[{ session: { ...settings, modalities: ["text"] } },
		    "session.modalities"],
		[{ expires_after: { anchor: "created_at", seconds: 9 } }, null],
		[{ expires_after: { anchor: "now", seconds: 60 } }, null],
		["{", null],
	]) {
		const answer = await post(secrets, body, key);
		assert.equal(answer.status, 400);
		assert.equal(answer.json.error.param, param);
	}
	const secret = (await post(secrets, { session: settings,
	    expires_after: { anchor: "created_at", seconds: 60 } }, key)).json;
	assert.match(secret.value, /^ek_/);
	assert.equal(secret.session.model, "gpt-realtime");
	assert.equal((await post(secrets, {}, secret.value)).status, 401);

	const calls = "/v1/realtime/calls";
	const form = new FormData();
	form.set("sdp", SDP);
	form.set("session", JSON.stringify(settings));
	for (const answer of [
		await post(calls, SDP, secret.value, "application/sdp"),
		await post(calls, form, key),
		await post(`${calls}?model=gpt-realtime`, SDP, key,
		    "application/sdp"),
	]) {
		assert.equal(answer.status, 201);
		assert.equal(answer.headers.get("content-type"),
		    "application/sdp");
		assert.match(answer.headers.get("location"),
		    /^\/v1\/realtime\/calls\/rtc_\w+$/);
		assert.match(answer.text, /^v=0\r\n/);
	}
	for (const [body, with_key, type, status] of [
		[SDP, key, "application/sdp", 400], // which model?
		["v=1", secret.value, "application/sdp", 400],
		[SDP, "ek_none", "application/sdp", 401],
		[SDP, secret.value, "text/plain", 415],
	])
		assert.equal((await post(calls, body, with_key, type)).status,
		    status);
});

test("the journal shows bodies, and what came over TLS", async (t) => {
	const site = await Site.open(t);
	const certs = make_certificates(site, "vendor");
	const sim = await site.sim(["--tls-cert", certs.cert, "--tls-key",
	    certs.key]);
	const { default: https } = await import("node:https");
	const answer = await new Promise((resolve, reject) => {
		const request = https.request({ port: sim.https_port,
		    host: "localhost", path: "/v1/auth/session-token",
		    method: "POST", ca: fs.readFileSync(certs.ca),
		    headers: { Authorization: "Bearer x" } }, resolve);
		request.on("error", reject);
		request.end("é".repeat(10000));
	});
	answer.resume();
	const journal = await (await fetch(
	    `http://127.0.0.1:${sim.http_port}/sim/journal`)).json();
	const [noted] = journal.requests;
	assert.equal(noted.tls, true);
	assert.equal(noted.body_bytes, 20000);
	assert.equal(noted.body, "é".repeat(8192));
});

// Ask for a completion; the answer's response, whose body is read by whom it
// concerns.
function complete(sim, content, { messages = [], signal, ...more } = {}) {
	return fetch(`http://127.0.0.1:${sim.http_port}/v1/chat/completions`, {
		method: "POST", signal,
		headers: { Authorization: `Bearer ${sim.key}` },
		body: JSON.stringify({ model: "gpt-4o-mini", stream: true,
		    messages: [...messages, { role: "user", content }],
		    ...more }),
	});
}

async function chat_site(t, args) {
	const { site, sim, post } = await sim_site(t, args);

	sim.key = site.vendor_key;
	sim.count = async () => (await fetch(
	    `http://127.0.0.1:${sim.http_port}/sim/chat`)).json();
	return { sim, post };
}

const text_of = (body) => body.split("\n\n")
    .filter((event) => event.startsWith("data: {"))
    .map((event) => JSON.parse(event.slice(6)))
    .map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");

test("a completion says what it was sent, in a stream or whole", async (t) => {
	const { sim } = await chat_site(t);
	const messages = [{ role: "system", content: "Be kind." },
	    { role: "user", content: "a" }, { role: "assistant", content: "b" }];
	const said = "I was sent 4 messages (1 system, 2 user, 1 assistant). " +
	    "You said: grüß dich";
	const streamed = await complete(sim, "grüß dich", { messages });
	const text = await streamed.text();
	const whole = await (await complete(sim, "grüß dich",
	    { messages, stream: false })).json();

	assert.match(streamed.headers.get("content-type"), /^text\/event-stream/);
	assert.equal(text_of(text), said);
	assert.ok(text.endsWith("data: [DONE]\n\n"));
	assert.equal(whole.choices[0].message.content, said);
	assert.deepEqual(await sim.count(), { calls: 2, open: 0, deltas: 15,
	    complete: 2, gone: 0, broken: 0 });
});

test("a completion is refused as OpenAI would", async (t) => {
	const { sim, post } = await chat_site(t, ["--chat-models", "gpt-4o*"]);
	const status = async (more, content = "a") =>
	    (await complete(sim, content, more)).status;

	assert.equal(await status({ model: "other" }), 404);
	assert.equal(await status({ model: undefined }), 400);
	assert.equal(await status({ api_base: "http://x" }), 400);
	assert.equal(await status({ temperature: 3 }), 400);
	assert.equal(await status({ max_tokens: 0 }), 400);
	assert.equal(await status({ stream: false,
	    stream_options: { include_usage: true } }), 400);
	assert.equal(await status({ messages: [{ role: "x", content: "" }] }), 400);
	assert.equal(await status({}, "/sim nonsense"), 400);
	assert.equal((await post("/v1/chat/completions", "{", sim.key)).status,
	    400);
	assert.equal((await post("/v1/chat/completions", {}, "wrong")).status,
	    401);
	assert.equal((await post("/v1/chat/completions", {})).status, 401);
});

test("a completion goes wrong as it is told, or as the script says",
    async (t) => {
	const { sim, post } = await chat_site(t);
	const limited = await complete(sim, "/sim 429-usage retry_after=7");
	assert.equal(limited.status, 429);
	assert.equal(limited.headers.get("retry-after"), "7");
	await post("/sim/openai", { mode: "503", path: "/v1/chat/*",
	    retry_after: "9" });
	const scripted = await complete(sim, "a");
	assert.equal(scripted.status, 503);
	assert.equal(scripted.headers.get("retry-after"), "9");
	const page = await complete(sim, "/sim html-200");
	assert.equal(page.status, 200);
	assert.match(await page.text(), /^<html>/);

	await post("/sim/openai", { mode: "chat", query: "cut&after=2&count=5" });
	for (const content of ["a", "/sim reset after=2 count=5"]) {
		const cut = await complete(sim, content);
		await assert.rejects(cut.text(), /terminated/);
	}
	assert.equal((await sim.count()).broken, 2);
	assert.equal((await sim.count()).deltas, 4);
	const error = await (await complete(sim, "/sim error after=1")).text();
	assert.match(error, /"delta":\{"content":"I "\}[^]*\{"error":/);
	assert.doesNotMatch(error, /DONE/);
});

test("a client that leaves is noted at once, silent or not", async (t) => {
	const { sim, post } = await chat_site(t);

	for (const content of ["/sim silence after=1", "/sim endless per_s=20",
	    "/sim delay ms=60000"]) {
		await post("/sim/reset", "");
		const leave = new AbortController();
		const asked = complete(sim, content, { signal: leave.signal });
		asked.catch(() => {}); // it is left
		await until(async () => (await sim.count()).open === 1,
		    "the call is open");
		leave.abort();
		await until(async () => (await sim.count()).gone === 1,
		    "the client's leaving is noted");
	}
});

test("500 streams keep their pace", async (t) => {
	const { sim } = await chat_site(t);
	const begin = performance.now();
	const bodies = await Promise.all(Array.from({ length: 500 }, async () =>
	    (await complete(sim, "/sim count=20 per_s=20 stamp")).text()));

	for (const body of bodies) {
		const stamps = text_of(body).trim().split(" ")
		    .map((word) => Number(word.split(":")[1]));
		assert.equal(stamps.length, 20);
		assert.deepEqual(stamps, [...stamps].sort((a, b) => a - b));
	}
	assert.ok(performance.now() - begin >= 1000);
	assert.deepEqual(await sim.count(), { calls: 500, open: 0, deltas: 10000,
	    complete: 500, gone: 0, broken: 0 });
});
