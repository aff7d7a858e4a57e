// SPDX-License-Identifier: MIT
// The same token in each form that a route takes, on every route: what is good
// is served, what is not is 401, and nobody is told of it.
import assert from "node:assert/strict";
import crypto from "node:crypto";

import { ctl } from "../lib/chat.mjs";
import { request } from "../lib/fcgi.mjs";
import { Site, table } from "../lib/harness.mjs";
import { test } from "../lib/tap.mjs";

const now = () => Math.floor(Date.now() / 1000);
const base64url = (value) =>
	Buffer.from(typeof value === "string" ? value : JSON.stringify(value))
	    .toString("base64url");
const COOKIE = "session";
const ISSUER = "https://login.example";
const PARTS = "&EIO=4&transport=";

const { privateKey, publicKey } = crypto.generateKeyPairSync("rsa",
    { modulusLength: 2048 });
const pem = publicKey.export({ type: "spki", format: "pem" });

function token(claims = {}, header = {}, sign = (input) =>
	crypto.sign("sha256", Buffer.from(input), privateKey)) {
	const input = `${base64url({ alg: "RS256", typ: "JWT", ...header })}.` +
	    base64url({ sub: "ann", iss: ISSUER, aud: "culvert", iat: now() - 5,
	    exp: now() + 600, jti: crypto.randomUUID(), ...claims });
	return `${input}.${sign(input).toString("base64url")}`;
}

const BAD = {
	"expired": () => token({ exp: now() - 3600 }),
	"not good yet": () => token({ nbf: now() + 3600 }),
	"for another audience": () => token({ aud: "others" }),
	"of another issuer": () => token({ iss: "https://evil.example" }),
	"of no algorithm": () => token({}, { alg: "none" },
	    () => Buffer.alloc(0)),
	"of no algorithm, with a signature": () => token({}, { alg: "none" }),
	"HS256 with the public key": () => token({}, { alg: "HS256" },
	    (input) => crypto.createHmac("sha256", pem).update(input).digest()),
	"of a key of its own": () => token({}, {}, (input) => crypto.sign(
	    "sha256", Buffer.from(input), crypto.generateKeyPairSync("rsa",
	    { modulusLength: 2048 }).privateKey)),
	"changed": () => token().replace(/\.[^.]+\./, `.${base64url({
	    sub: "bob", iss: ISSUER, aud: "culvert", exp: now() + 600 })}.`),
	"revoked": () => token({ sub: "eve", iat: now() - 500 }),
};

// ---- forms ----

const bearer = (text) => ({ headers: { Authorization: `Bearer ${text}` } });
const cookie = (text) => ({ headers: { Cookie: `a=b; ${COOKIE}=${text}` } });
const query = (text) => ({ query: `token=${text}` });
const item = (prefix) => (text) => ({ headers: {
	"Sec-WebSocket-Protocol": `realtime, ${prefix}.${text}` } });
const auth = (text) => ({ auth: { token: text } });

const HTTP = { bearer, cookie };
const TUNNEL = { bearer, cookie, query,
	"a bearer's item": item("base64url.bearer.authorization"),
	"a key's item": item("openai-insecure-api-key") };
const SOCKET = { bearer, cookie, auth };

// ---- routes: what they answer to who is known ----

const post = (target, body, good) => ({ forms: HTTP, good,
	ask: async (s, { headers }) => {
		const answer = await request(s.site.broker_sock, "POST", target,
		    { body, headers: { "Content-Type": "application/json",
		    ...headers } });
		s.seen.push(JSON.stringify(answer));
		return answer.status;
	} });

const get = (target, good, forms = HTTP) => ({ forms, good,
	ask: async (s, { headers, query: more }) => {
		const answer = await request(s.site.broker_sock, "GET",
		    target + (more ? `&${more}` : ""), { headers });
		s.seen.push(JSON.stringify(answer));
		return answer.status;
	} });

// 101 where it is opened.
const tunnel = (target) => ({ forms: TUNNEL, good: 101,
	ask: async (s, { headers, query: more }) => {
		const { conn, status, head, body } = await s.site.handshake(
		    s.front, target + (more ? `&${more}` : ""), headers);
		s.seen.push(JSON.stringify(head), body);
		if (status === 101)
			await conn.send_close(1000);
		return status;
	} });

// What /chats says to CONNECT: 200 where it is one, else as the code says.
const CODES = { bad_request: 400, unauthorized: 401, forbidden: 403 };
function connect_status(s, packet) {
	s.seen.push(packet);
	if (packet.startsWith("40/chats,"))
		return 200;
	assert.match(packet, /^44\/chats,/);
	const { data } = JSON.parse(packet.slice("44/chats,".length));
	return CODES[data.code] ?? data.code;
}

const connect = (packet) => `40/chats,${packet ? JSON.stringify(packet) : ""}`;

const polling = () => ({ forms: SOCKET, good: 200,
	ask: async (s, { headers = {}, auth: shown }) => {
		const target = `/socket.io/?${PARTS.slice(1)}polling`;
		const opened = await request(s.site.broker_sock, "GET", target,
		    { headers });
		assert.equal(opened.status, 200, opened.body);
		const { sid } = JSON.parse(opened.body.slice(1));
		const sent = await request(s.site.broker_sock, "POST",
		    `${target}&sid=${sid}`, { body: connect(shown),
		    headers: { "Content-Type": "text/plain;charset=UTF-8" } });
		assert.equal(sent.status, 200, sent.body);
		const answer = await request(s.site.broker_sock, "GET",
		    `${target}&sid=${sid}`);
		const status = connect_status(s, answer.body.split("\x1e")[0]);
		await request(s.site.broker_sock, "POST", `${target}&sid=${sid}`,
		    { body: "1", headers: { "Content-Type": "text/plain" } });
		return status;
	} });

const websocket = () => ({ forms: SOCKET, good: 200,
	ask: async (s, { headers = {}, auth: shown }) => {
		const conn = await s.site.connect(s.front,
		    `/socket.io/?${PARTS.slice(1)}websocket`, headers);
		await conn.message(); // its session
		await conn.send_text(connect(shown));
		const { payload } = await conn.message();
		await conn.send_close(1000);
		return connect_status(s, payload.toString());
	} });

const ROUTES = {
	"a tunnel": tunnel("/v1/realtime?model=gpt-realtime"),
	"a short-lived key": post("/v1/realtime/client_secrets", "{}", 200),
	"a call": post("/v1/realtime/calls", "{}", 415),
	"a token of Anam's": post("/v1/auth/session-token",
	    '{"personaConfig":{"personaId":"p"}}', 200),
	"a LiveKit token": post("/api/livekit/token", "{}", 201),
	"a ticket": post("/api/tickets", '{"route":"livekit"}', 200),
	"a message": post("/api/v1/messages/send", '{"message":""}', 400),
	"a stream": get("/api/v1/messages/stream?chat_id=x", 204,
	    { ...HTTP, query }),
	"the chats": get("/api/v1/chats", 200),
	"Socket.IO, by polling": polling(),
	"Socket.IO, by WebSocket": websocket(),
};

// Each route is for users alone, or for everybody, too.
async function open(t, required) {
	const site = await Site.open(t);
	const sim = await site.sim();
	const file = site.write("public.pem", pem);
	const only = required ? "require_user = true" : "";
	const parts = await site.serve({ access: `
clients = {"loopback"}
origins = {"*", "https://named.example"}
missing_origin = true`, rest: `
store { path = "${site.file("culvert.db")}" }
users {
	public_key_file = "${file}"
	issuer = "${ISSUER}"
	audience = "culvert"
	cookie = "${COOKIE}"
}
openai {
	api_key = "env:OPENAI_API_KEY"
	url = "ws://127.0.0.1:${sim.ws_port}/v1/realtime"
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
	${required ? only : "anonymous { messages = 5 }"}
}
socketio { }
` });
	return { site, ...parts, front: site.direct(), seen: [] };
}

// No answer and no log has what tells it from other tokens.
function assert_untold(s, text) {
	const tail = text.split(".").at(-1).slice(-40) || text.split(".")[1];
	for (const seen of [...s.seen.splice(0), s.broker.output,
	    s.tunnel.output])
		assert.ok(!seen.includes(tail), `told: ${seen.slice(0, 300)}`);
}

const cases = () => Object.entries(ROUTES).flatMap(([name, route]) =>
	Object.entries(route.forms).map(([form, show]) =>
	    [`${name}, ${form}`, route, show]));

for (const required of [true, false]) {
	const whom = required ? "users alone" : "everybody";
	test(`a token is good in every form, where ${whom} are served`,
	    async (t) => {
		const s = await open(t, required);
		await table(cases(), async (_, route, show) => {
			const text = token();
			assert.equal(await route.ask(s, show(text)), route.good);
			assert_untold(s, text);
			if (required)
				assert.equal(await route.ask(s, {}), 401);
		});
	}, { timeout: 60000 });

	test(`what is no good token is 401 in every form, where ${whom} ` +
	    "are served", async (t) => {
		const s = await open(t, required);
		await ctl(s.site, "revoke", "user", "eve");
		await table(cases(), async (_, route, show) => {
			for (const [why, make] of Object.entries(BAD)) {
				const text = make();
				assert.equal(await route.ask(s, show(text)), 401,
				    why);
				assert_untold(s, text);
			}
		});
	}, { timeout: 120000 });
}

test("a cookie opens a socket for pages that are named, by polling and by " +
    "WebSocket", async (t) => {
	const s = await open(t, true);
	const from = (headers) => ({ headers: { Host: "us.example",
		...cookie(token()).headers, ...headers } });

	await table([
		["our own page", { Origin: "https://us.example" }, 200],
		["a page that is named", { Origin: "https://named.example" }, 200],
		["our own, without Origin", { "Sec-Fetch-Site": "same-origin" },
		    200],
		["no browser", {}, 200],
		["any other page", { Origin: "https://evil.example" },
		    403],
		["another site's", { "Sec-Fetch-Site": "cross-site" },
		    403],
	], async (name, headers, wanted) => {
		for (const route of ["by polling", "by WebSocket"])
			assert.equal(await ROUTES[`Socket.IO, ${route}`].ask(s,
			    from(headers)), wanted, `${name}, ${route}`);
	});
	// what the page itself has counts, and the cookie does not
	assert.equal(await ROUTES["Socket.IO, by polling"].ask(s, {
		...from({ Origin: "https://evil.example" }), ...auth(token()) }),
	200);
	// two different ones: a host beside this one can set another
	assert.equal(await ROUTES["Socket.IO, by polling"].ask(s, { headers: {
		Cookie: `${COOKIE}=${token()}; ${COOKIE}=${token()}` } }),
	400);
});
