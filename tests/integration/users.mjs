// SPDX-License-Identifier: MIT
// The site's users on every route: an issuer that rotates its keys, that is
// slow, away, or answers rubbish; cookies and pages of other sites; routes that
// serve users alone.
import assert from "node:assert/strict";
import http from "node:http";

import { request } from "../lib/fcgi.mjs";
import { Site, needs, table, until } from "../lib/harness.mjs";
import { Issuer, Key } from "../lib/issuer.mjs";
import { FRONTS, NAMES } from "../lib/servers.mjs";
import { test } from "../lib/tap.mjs";

const TOKEN = "/api/livekit/token";
const JSON_TYPE = { "Content-Type": "application/json" };
const bearer = (token) => ({ Authorization: `Bearer ${token}` });

// All routes over HTTP; each serves users alone.
async function open(t, users, { access, env = {}, required = true,
	rest = "" } = {}) {
	const site = await Site.open(t);
	const only = required ? "require_user = true" : "";
	const parts = await site.serve({ access, rest: `
store { path = "${site.file("culvert.db")}" }
users {
	${users}
}
openai {
	api_key = "env:OPENAI_API_KEY"
	url = "ws://127.0.0.1:9/v1/realtime"
	client_secrets = true
	calls = true
	${only}
}
livekit {
	url = "wss://livekit.example"
	api_key = "env:LIVEKIT_API_KEY"
	api_secret = "env:LIVEKIT_API_SECRET"
	${only}
}
anam {
	api_key = "env:ANAM_API_KEY"
	url = "http://127.0.0.1:9"
	allow_http = true
	personas = {"*"}
	${only}
}
chat {
	url = "http://127.0.0.1:9"
	models = {m}
	balance = false
	${only}
}
${rest}
` }, { broker: { env } });
	const post = (target, headers = {}, body = "{}", cgi = {}) => request(
	    site.broker_sock, "POST", target, { headers: { ...JSON_TYPE,
	    ...headers }, body, env: cgi });
	return { site, ...parts, post,
		status: async (headers, cgi) => (await post(TOKEN, headers, "{}",
		    cgi)).status };
}

test("every route that has to serves users alone", async (t) => {
	const key = new Key("a");
	const issuer = await Issuer.open(t, [key]);
	const s = await open(t, `jwks_url = "${issuer.url}"`);
	const ann = bearer(key.token({ sub: "ann" }));
	const good_then_bad = key.token({ sub: "ann" });
	const bad = bearer(good_then_bad.slice(0, -4) +
	    (good_then_bad.endsWith("AAAA") ? "BBBB" : "AAAA"));
	const persona = '{"personaConfig":{"personaId":"p"}}';
	const message = '{"message":""}';

	await table([
		["a LiveKit token", TOKEN, "{}", 201],
		["a short-lived key", "/v1/realtime/client_secrets", "{}", 200],
		["a call", "/v1/realtime/calls", "{}", 415],
		["a session of Anam's", "/v1/auth/session-token", persona, 200],
		["the same without a token", "/v1/engine/session", persona, 401],
		["a message", "/api/v1/messages/send", message, 400],
	], async (_, target, body, status) => {
		const nobody = await s.post(target, {}, body);
		assert.equal(nobody.status, 401, nobody.body);
		assert.equal(nobody.get("www-authenticate"), "Bearer");
		const refused = await s.post(target, bad, body);
		assert.equal(refused.status, 401);
		// this one wants a token of ours
		if (target !== "/v1/engine/session")
			assert.equal(refused.get("www-authenticate"),
			    'Bearer error="invalid_token", ' +
			    'error_description=' +
			    '"the token\'s signature is not valid"');
		const answer = await s.post(target, ann, body);
		assert.equal(answer.status, status, answer.body);
	});
	await s.broker.wait_for(/ request\.no_authorization .*CGIPassAuth On/);
	await s.broker.wait_for(/livekit\.token .*user=ann/);
	await s.broker.wait_for(/openai\.ticket .*user=ann/);
	await s.broker.wait_for(/anam\.token .*user=ann/);
	assert.ok(!s.broker.output.includes(ann.Authorization.slice(-40)));
});

test("a key stands for the user who asked for it, and makes no other",
    async (t) => {
	const key = new Key("a");
	const issuer = await Issuer.open(t, [key]);
	const s = await open(t, `jwks_url = "${issuer.url}"`);
	const { json } = await s.post("/v1/realtime/client_secrets",
	    bearer(key.token({ sub: "ann" })));
	const again = await s.post("/v1/realtime/client_secrets",
	    bearer(json.value));

	assert.equal(again.status, 403);
	// for what it was made for it does
	assert.equal((await s.post("/v1/realtime/calls",
	    bearer(json.value))).status, 415);
	assert.equal((await s.post(TOKEN, bearer(json.value))).status, 401);
});

test("a WebSocket's path says why one would be refused", async (t) => {
	const key = new Key("a");
	const issuer = await Issuer.open(t, [key]);
	const s = await open(t, `jwks_url = "${issuer.url}"`, { rest: `
plan "few" { requests_per_second = 0.001 burst = 3 }
limits { user = "few" }` });
	const get = (target, headers = {}) => request(s.site.broker_sock,
	    "GET", target, { headers });
	const target = "/v1/realtime?model=gpt-realtime";
	const token = key.token({ sub: "ann" });

	await table([
		["nothing is shown", target, {}, 401, /have signed in/],
		["a token in the query", `${target}&token=${token}`, {}, 426,
			/connect with a WebSocket/],
		["a token in the header", target, bearer(token), 426, /good/],
		["one that is not good", `${target}&token=x`, {}, 401,
			/not a JSON Web Token/],
		["a vendor's key", target, bearer("sk-1"), 401, /signed in/],
		["no such path", "/v1/nowhere", {}, 404, /no such resource/],
	], async (_, path, headers, status, message) => {
		const answer = await get(path, headers);
		assert.equal(answer.status, status, answer.body);
		assert.match(answer.json.error.message, message);
	});
	// a ticket is not spent by it
	const { json: { url } } = await s.post("/api/tickets", bearer(token),
	    '{"route":"openai"}');
	const over = await get(url);
	assert.equal(over.status, 429, over.body);
	const bob = await s.post("/api/tickets",
	    bearer(key.token({ sub: "bob" })), '{"route":"openai"}');
	for (let i = 0; i < 2; i++)
		assert.equal((await get(bob.json.url)).status, 426);
});

// ---- the issuer ----

test("keys are rotated while the broker runs", async (t) => {
	const old = new Key("old"), next = new Key("next");
	const issuer = await Issuer.open(t, [old]);
	const s = await open(t, `jwks_url = "${issuer.url}"`);

	assert.equal(await s.status(bearer(old.token({ sub: "ann" }))), 201);
	issuer.keys = [old, next];
	const asked = Math.floor(Date.now() / 1000);
	await until(() => Date.now() / 1000 >= asked + 1, "another second");
	// a flood of tokens of a key that is not known yet
	const flood = await Promise.all(Array.from({ length: 200 }, (_, i) =>
	    s.status(bearer(new Key(`k${i}`).token({ sub: "eve" })))));
	// who has just signed in may come back, whose token is older may not
	assert.ok(flood.every((status) => status === 401 || status === 503),
	    String(flood));
	assert.equal(flood.at(-1), 503);
	assert.equal(await s.status(bearer(new Key("gone").token(
	    { sub: "eve", iat: Math.floor(Date.now() / 1000) - 60 }))), 401);
	assert.equal(issuer.asked, 1);
	// no sooner than half a minute after the first
	const started = Date.now();
	await until(async () =>
	    await s.status(bearer(next.token({ sub: "ann" }))) === 201,
	"the new key", 45000);
	assert.equal(issuer.asked, 2);
	assert.ok(Date.now() - started > 20000);
	// the login is down: what it has allowed goes on
	await issuer.close();
	assert.equal(await s.status(bearer(old.token({ sub: "ann" }))), 201);
	assert.equal(await s.status(bearer(next.token({ sub: "bob" }))), 201);
}, { timeout: 60000 });

test("a slow issuer holds up who needs it, and nobody else", async (t) => {
	const key = new Key("a");
	const issuer = await Issuer.open(t, [key]);
	let answer;
	const asked = new Promise((resolve) => {
		issuer.answer = (response) => {
			answer = () => Issuer.prototype.answer.call(issuer, response);
			resolve();
		};
	});
	const s = await open(t, `jwks_url = "${issuer.url}"`,
	    { required: false });
	const waiting = Array.from({ length: 4 }, () =>
	    s.status(bearer(key.token({ sub: "ann" }))));
	await asked;
	assert.equal(await s.status({}), 201);
	assert.equal((await request(s.site.broker_sock, "GET",
	    "/healthz")).status, 200);
	answer();
	for (const status of await Promise.all(waiting))
		assert.equal(status, 201);
	assert.equal(issuer.asked, 1);
});

test("a start has the keys before users come", async (t) => {
	const key = new Key("a");
	const issuer = await Issuer.open(t, [key]);
	issuer.answer = (response) => setTimeout(() =>
	    Issuer.prototype.answer.call(issuer, response), 200);
	const s = await open(t, `jwks_url = "${issuer.url}"`);

	// more than may wait for a fetch
	assert.deepEqual(await Promise.all(Array.from({ length: 20 }, () =>
	    s.status(bearer(key.token({ sub: "ann" }))))), Array(20).fill(201));
	assert.equal(issuer.asked, 1);
});

test("an issuer that never answers is 503 and never 401", async (t) => {
	const key = new Key("a");
	const issuer = await Issuer.open(t, [key]);
	issuer.answer = () => {};
	const s = await open(t, `jwks_url = "${issuer.url}"`);
	const started = Date.now();

	assert.equal(await s.status(bearer(key.token({ sub: "ann" }))), 503);
	assert.ok(Date.now() - started < 8000);
	await s.broker.wait_for(/users\.keys_failed source=http/);
	// and it heals
	delete issuer.answer;
	await until(async () =>
	    await s.status(bearer(key.token({ sub: "ann" }))) === 201,
	"the keys", 15000);
});

test("an issuer that is away, or answers rubbish", async (t) => {
	const key = new Key("a");
	const set = JSON.stringify({ keys: [key.jwk] });
	let redirected = 0;
	const elsewhere = http.createServer((_, response) => {
		redirected++;
		response.end(set);
	});
	await new Promise((resolve) =>
	    elsewhere.listen(0, "127.0.0.1", resolve));
	t.after(() => elsewhere.close());

	await table([
		["a redirect", 302, set],
		["not found", 404, set],
		["an error", 500, ""],
		["nothing", 200, ""],
		["a page", 200, "<!doctype html>"],
		["a set of no keys", 200, '{"keys":[]}'],
		["a secret", 200, '{"keys":[{"kty":"oct","kid":"a",' +
		    '"k":"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"}]}'],
		["too large", 200, set + " ".repeat(300 * 1024)],
		["too deep", 200, "[".repeat(100000)],
		["half of it", 200, set.slice(0, -10)],
		["nobody at all", 0, ""],
	], async (_, status, body) => {
		const issuer = await Issuer.open(t, []);
		issuer.answer = (response) => {
			response.writeHead(status, { Location:
			    `http://127.0.0.1:${elsewhere.address().port}/` });
			response.end(body);
		};
		if (status === 0)
			await issuer.close();
		const s = await open(t, `jwks_url = "${issuer.url}"`);
		const answer = await s.post(TOKEN,
		    bearer(key.token({ sub: "ann" })));
		assert.equal(answer.status, 503, answer.body);
		assert.ok(!answer.body.includes("127.0.0.1"), answer.body);
		await s.broker.wait_for(/users\.keys_failed/);
		assert.ok(!s.broker.output.includes("doctype"));
	});
	assert.equal(redirected, 0);
});

test("a file of keys is read anew when it is replaced", async (t) => {
	const old = new Key("old"), next = new Key("next");
	const folder = await Site.open(t);
	const file = folder.write("jwks.json",
	    JSON.stringify({ keys: [old.jwk] }));
	const s = await open(t, `jwks_file = "${file}"`);

	assert.equal(await s.status(bearer(old.token({ sub: "ann" }))), 201);
	assert.equal(await s.status(bearer(next.token({ sub: "ann" }))), 401);
	folder.write("jwks.json", JSON.stringify({ keys: [next.jwk] }));
	assert.equal(await s.status(bearer(next.token({ sub: "ann" }))), 201);
	assert.equal(await s.status(bearer(old.token({ sub: "ann" }))), 401);
	folder.write("jwks.json", "{");
	assert.equal(await s.status(bearer(next.token({ sub: "ann" }))), 201);
});

// ---- cookies, and the web server's word ----

test("a cookie does not count from another site's page", async (t) => {
	const key = new Key("a");
	const issuer = await Issuer.open(t, [key]);
	const s = await open(t,
	    `jwks_url = "${issuer.url}"\ncookie = "session"`, { access:
	    'clients = {"loopback"}\nmissing_origin = true\n' +
	    'origins = {"*", "https://named.example"}' });
	const cookie = `x=y; session=${key.token({ sub: "ann" })}`;
	const from = (origin, more) => s.status({ Host: "us.example",
	    Cookie: cookie, ...origin && { Origin: origin }, ...more });

	assert.equal(await from("https://us.example"), 201);
	assert.equal(await from("https://named.example"), 201);
	assert.equal(await from(null), 201); // no browser
	assert.equal(await from("https://evil.example"), 403);
	assert.equal(await from("http://us.example:81"), 403);
	assert.equal(await from(null, { "Sec-Fetch-Site": "cross-site" }), 403);
	// a token that the page itself has
	assert.equal(await from("https://evil.example",
	    bearer(key.token({ sub: "ann" }))), 201);
	assert.equal(await s.status({ Cookie: "session=x.y.z" }), 401);
	assert.equal(await s.status({ Cookie: "session=" }), 401);
	assert.equal(await s.status({ Cookie: "sessions=x" }), 401);
});

test("REMOTE_USER is a user where the configuration says so", async (t) => {
	const s = await open(t, "remote_user = true");

	assert.equal(await s.status({}), 401);
	assert.equal(await s.status({}, { REMOTE_USER: "carl" }), 201);
	await s.broker.wait_for(/livekit\.token .*user=carl/);
	// a client's header of that name is nothing
	assert.equal(await s.status({ "Remote-User": "eve" }), 401);
	assert.equal(await s.status({ "Remote_User": "eve" }), 401);
});

// ---- tunnels ----

for (const name of FRONTS) {
	test(`${name}: a tunnel's user, in each way`, async (t) => {
		const key = new Key("a");
		const issuer = await Issuer.open(t, [key]);
		const site = await Site.open(t);
		const sim = await site.sim();
		const parts = await site.serve({ rest: `
users {
	jwks_url = "${issuer.url}"
	cookie = "session"
}
openai {
	api_key = "env:OPENAI_API_KEY"
	url = "ws://127.0.0.1:${sim.ws_port}/v1/realtime"
	require_user = true
}` });
		const front = await site.front(name);
		const token = key.token({ sub: "ann" });
		const old = key.token({ sub: "ann", exp: 1700000000 });
		const target = "/v1/realtime?model=gpt-realtime";
		const ways = (text) => [
			["header", target, bearer(text)],
			["cookie", target, { Cookie: `a=b; session=${text}` }],
			["query", `${target}&token=${text}`, {}],
			["subprotocol", target, { "Sec-WebSocket-Protocol":
			    `realtime, base64url.bearer.authorization.${text}` }],
			["a key's place", target, { "Sec-WebSocket-Protocol":
			    `realtime, openai-insecure-api-key.${text}` }],
		];
		const refused = async (where, headers) => (await site.handshake(
		    front, where, headers, { until: "close" })).status;

		assert.equal(await refused(target, {}), 401);
		assert.equal(await refused(target, bearer("sk-1")), 401);
		await table(ways(old), async (_, where, headers) =>
		    assert.equal(await refused(where, headers), 401));
		await table(ways(token), async (_, where, headers) => {
			const conn = await site.connect(front, where, headers);
			assert.ok(!JSON.stringify(conn.response).includes(token));
			await conn.send_close(1000);
		});
		// another site's page has its visitor's cookie sent along
		assert.equal(await refused(target, { Cookie:
		    `session=${token}`, Origin: "https://evil.example" }), 403);
		const { handshakes } = await (await fetch(
		    `http://127.0.0.1:${sim.http_port}/sim/journal`)).json();
		assert.equal(handshakes.length, 5);
		assert.ok(!JSON.stringify(handshakes).includes(
		    token.slice(-40)));
		for (const { output } of Object.values(parts))
			assert.ok(!output.includes(token.slice(-40)));
	}, { skip: name !== "direct" && needs(name) });
}

for (const name of NAMES) {
	test(`${name}: header and cookie reach a POST`, async (t) => {
		const key = new Key("a");
		const issuer = await Issuer.open(t, [key]);
		const s = await open(t,
		    `jwks_url = "${issuer.url}"\ncookie = "session"`);
		const { port } = await s.site.front(name);
		const post = async (headers) => (await fetch(
		    `http://localhost:${port}${TOKEN}`, { method: "POST",
		    headers: { ...JSON_TYPE, ...headers },
		    body: "{}" })).status;
		const token = key.token({ sub: "ann" });

		assert.equal(await post({}), 401);
		assert.equal(await post(bearer(token)), 201);
		assert.equal(await post({ Cookie: `session=${token}` }), 201);
		assert.equal(await post({ Cookie: `session=${token}`,
		    "Sec-Fetch-Site": "cross-site" }), 403);
		assert.equal(await post({ Cookie: `session=${token}`,
		    Origin: "https://evil.example" }), 403);
		assert.equal(await post(bearer("x.y.z")), 401);
	}, { skip: needs(name) });
}
