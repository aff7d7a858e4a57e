// SPDX-License-Identifier: MIT
// Tickets of POST /api/tickets: who gets them, where they are good, and that
// they are good once.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import fs from "node:fs";

import { Site, needs, relay_site, table, until } from "../lib/harness.mjs";
import { request } from "../lib/fcgi.mjs";
import { answers } from "../lib/rawws.mjs";
import { FRONTS } from "../lib/servers.mjs";
import { test } from "../lib/tap.mjs";

const TICKETS = "/api/tickets";
const ORIGIN = "http://localhost:3000";
const USERS = crypto.randomBytes(32).toString("hex");
const UNTIL = { until_closed: true };

const FORMS = [
	["?ticket=", (text) => [`?ticket=${text}`, {}]],
	["Bearer", (text) => ["", { Authorization: `Bearer ${text}` }]],
	["a subprotocol", (text) => ["", { "Sec-WebSocket-Protocol":
	    `realtime, openai-insecure-api-key.${text}` }]],
];

const now = () => Math.floor(Date.now() / 1000);
const encode = (value) =>
    Buffer.from(JSON.stringify(value)).toString("base64url");

// A JWT with HS256, or with no signature at all.
function jwt(claims, { key = USERS, head = {}, alg = "HS256" } = {}) {
	const input = `${encode({ alg, typ: "JWT", ...head })}.${encode(claims)}`;
	const signature = alg === "none" ? "" : crypto.createHmac("sha256", key)
	    .update(input).digest("base64url");
	return `${input}.${signature}`;
}

const user = (sub = "ann", more = {}) => ({ Authorization:
    `Bearer ${jwt({ sub, exp: now() + 300, ...more })}` });

// A site whose relay "/raw" serves who has a ticket.
async function open(t, front_name = "direct", { more = "", rest = "",
    tickets = "" } = {}) {
	const db = `/tmp/culvert-tickets-${process.pid}-` +
	    `${crypto.randomBytes(4).toString("hex")}`;
	fs.mkdirSync(db, { mode: 0o700 });
	t.after(() => fs.rmSync(db, { recursive: true, force: true }));
	const s = await relay_site(t, front_name, {
		more: `require_ticket = true\n${more}`,
		relays: [["/open", 'upstream = "ws://127.0.0.1:9/"'],
		    ["/once-more", 'upstream = "ws://127.0.0.1:9/"\n' +
		        "require_ticket = true"]],
		rest: `store { path = "${db}/culvert.db" }\n` +
		    'users { secret = "env:USERS_SECRET" plan_claim = plan }\n' +
		    `tickets { ${tickets} }\n${rest}`,
		broker: { env: { USERS_SECRET: USERS } },
	});
	let given = 0;
	s.db = db;
	s.post = (body, headers = user(), env = {}) => request(
	    s.site.broker_sock, "POST", TICKETS, { env, headers: {
		"Content-Type": "application/json", ...headers },
	    body: typeof body === "object" ? JSON.stringify(body) : body });
	// A ticket that nothing but this one answer may have.
	s.get = async (body = {}, headers, env) => {
		const answer = await s.post({ route: "/raw", ...body }, headers,
		    env);
		assert.equal(answer.status, 200, answer.body);
		assert.match(answer.json.ticket, /^ek_[\w-]+\.[\w-]+\.[\w-]+$/);
		hide(s.site, answer.json.ticket, ++given);
		return answer.json;
	};
	s.open = (target, headers) => s.site.pair(s.front, target, s.server,
	    { headers });
	s.refused = async (target, headers = {}, options = UNTIL) => {
		const answer = await s.site.handshake(s.front, target, headers,
		    s.front.name === "direct" ? options : {});
		assert.equal(s.server.waiting, 0, "the vendor is not asked");
		if (answer.status !== 101)
			assert.equal(typeof answer.json?.error?.code, "string");
		return answer.status;
	};
	return s;
}

// From now on it is in no log and in no answer.
function hide(site, ticket, n) {
	for (const [i, bytes] of answers.entries())
		if (bytes.includes(ticket))
			answers[i] = Buffer.alloc(0);
	site.canaries.set(`ticket ${n}`, ticket);
}

// ---- where it is good ----

for (const name of FRONTS) {
	const options = { skip: name === "direct" ? false : needs(name),
		timeout: 60000 };

	test(`${name}: a ticket opens one conversation, in each form`,
	    async (t) => {
		const s = await open(t, name);

		for (const [form, use] of FORMS) {
			const made = await s.get({}, { ...user(), Origin: ORIGIN });
			const [query, headers] = use(made.ticket);
			const target = `/raw${query}`;

			assert.equal(made.once, true);
			assert.equal(made.route, "/raw");
			assert.equal(made.url, `/raw?ticket=${made.ticket}`);
			headers.Origin = ORIGIN;
			const { client, upstream } = await s.open(target, headers);
			assert.ok(!upstream.request.raw.includes("ek_"), form);
			assert.ok(!client.response.raw.includes("ek_"), form);
			await client.send_text("hello");
			assert.equal((await upstream.data_frame()).payload
			    .toString(), "hello");
			// while it runs, and after
			assert.equal(await s.refused(target, headers), 401, form);
			await client.send_close(1000);
			assert.equal(await s.refused(target, headers), 401, form);
		}
		assert.equal(await s.refused("/raw"), 401);
	}, options);

	test(`${name}: a ticket is bound to its address`, async (t) => {
		const s = await open(t, name);
		const from = (address) => ({ REMOTE_ADDR: address });
		const bind = { bind_address: true };
		const other = await s.get(bind, user(), from("127.0.0.2"));
		const own = await s.get(bind, user(), from("127.0.0.1"));
		const any = await s.get({}, user(), from("127.0.0.2"));

		assert.equal(await s.refused(other.url), 401);
		for (const { url } of [own, any])
			(await s.open(url)).client.destroy();
	}, options);

	if (name === "direct")
		continue;
	test(`${name}: a page asks through the web server`, async (t) => {
		const s = await open(t, name);
		const answer = await fetch(
		    `http://127.0.0.1:${s.front.where.port}${TICKETS}`, {
			method: "POST", headers: { ...user(), Origin: ORIGIN,
			    "Content-Type": "application/json" },
			body: '{"route":"/raw"}' });

		assert.equal(answer.status, 200);
		assert.equal(answer.headers.get("cache-control"), "no-store");
		const { ticket, url } = await answer.json();
		hide(s.site, ticket, 0);
		assert.equal(await s.refused(url), 401); // of no page
		(await s.open(url, { Origin: ORIGIN })).client.destroy();
	}, options);
}

test("a ticket is good for its route, Origin and time alone", async (t) => {
	const s = await open(t);
	const made = await s.get({}, { ...user(), Origin: ORIGIN });
	const bearer = { Authorization: `Bearer ${made.ticket}` };

	for (const [target, headers] of [
		["/raw", { ...bearer }],
		["/raw", { ...bearer, Origin: "http://localhost:3001" }],
		["/raw", { ...bearer, Origin: "http://127.0.0.1:3000" }],
		["/once-more", { ...bearer, Origin: ORIGIN }],
		["/open", { ...bearer, Origin: ORIGIN }],
	])
		assert.equal(await s.refused(target, headers), 401, target);
	// a refusal has not spent it
	(await s.open("/raw", { ...bearer, Origin: ORIGIN })).client.destroy();
	const short = await s.get({ seconds: 1 });
	assert.ok(short.expires_at <= now() + 1);
	await until(() => now() >= short.expires_at, "it expires");
	assert.equal(await s.refused(short.url), 401);
}, { timeout: 30000 });

test("what only looks like a ticket is none", async (t) => {
	const s = await open(t);
	const { ticket } = await s.get();
	const [head, body, signature] = ticket.slice(3).split(".");
	const claims = JSON.parse(Buffer.from(body, "base64url"));
	const kid = JSON.parse(Buffer.from(head, "base64url")).kid;
	const typ = { typ: "ticket+jwt" };
	const flipped = (signature[0] === "A" ? "B" : "A") + signature.slice(1);

	assert.match(kid, /^[0-9a-f]{16}$/);
	assert.equal(claims.aud, "route:/raw");
	await table([
		["no signature", `${head}.${body}.`],
		["another signature", `${head}.${body}.${flipped}`],
		["alg none", jwt(claims, { alg: "none", head: { ...typ, kid } })],
		["alg None", jwt(claims, { alg: "None", head: { ...typ, kid } })],
		["the users' key", jwt(claims, { head: { ...typ, kid } })],
		["an unknown kid", jwt(claims, { head: { ...typ,
		    kid: "0000000000000000" } })],
		["no kid", jwt(claims, { head: typ })],
		["a kid that is none", jwt(claims, { head: { ...typ,
		    kid: "../../etc/passwd" } })],
		["a longer life", `${head}.${encode({ ...claims,
		    exp: claims.exp + 1000 })}.${signature}`],
		["another route", `${head}.${encode({ ...claims,
		    aud: "route:/once-more" })}.${signature}`],
		["nothing", ".."],
	], async (what, text) => {
		for (const [form, use] of FORMS) {
			const [query, headers] = use(`ek_${text}`);
			assert.equal(await s.refused(`/raw${query}`, headers), 401,
			    `${what}, ${form}`);
		}
	});
	// and two of them are too many
	const two = await s.get();
	assert.equal(await s.refused(`/raw?ticket=${ticket}`,
	    { Authorization: `Bearer ${two.ticket}` }), 400);
	for (const text of [ticket, two.ticket])
		(await s.open(`/raw?ticket=${text}`)).client.destroy();
});

// ---- who gets one ----

test("a ticket is asked for in one way", async (t) => {
	const s = await open(t, "direct",
	    { tickets: "ttl = 20 ttl_max = 40" });
	const plain = await s.get();

	assert.ok(Math.abs(plain.expires_at - now() - 20) <= 2);
	assert.ok(Math.abs((await s.get({ seconds: 40 })).expires_at - now() -
	    40) <= 2);
	// not longer than who asks is known
	assert.ok((await s.get({ seconds: 40 }, user("ann",
	    { exp: now() - 50 }))).expires_at <= now() + 10);
	await table([
		["no route", {}, 400],
		["a route that is none", { route: "/nothing" }, 404],
		["a section that is not there", { route: "chat" }, 404],
		["a number", { route: 1 }, 400],
		["null", { route: null }, 400],
		["another member", { route: "/raw", user: "bob" }, 400],
		["seconds 0", { route: "/raw", seconds: 0 }, 400],
		["seconds -1", { route: "/raw", seconds: -1 }, 400],
		["too many seconds", { route: "/raw", seconds: 41 }, 400],
		["seconds as text", { route: "/raw", seconds: "9" }, 400],
		["seconds 1.5", { route: "/raw", seconds: 1.5 }, 400],
		["seconds null", { route: "/raw", seconds: null }, 400],
		["bind_address 1", { route: "/raw", bind_address: 1 }, 400],
		["a model", { route: "/raw", model: "m" }, 400],
		["a session", { route: "/raw", session: {} }, 400],
		["an array", "[]", 400],
		["no JSON", "{", 400],
		["twice", '{"route":"/raw","route":"/open"}', 400],
		["nothing", "", 400],
	], async (what, body, status) => {
		const answer = await s.post(body);
		assert.equal(answer.status, status, answer.body);
		assert.deepEqual(Object.keys(answer.json.error).sort(),
		    ["code", "message"]);
	});
	assert.equal((await request(s.site.broker_sock, "GET", TICKETS))
	    .status, 405);
});

test("who is nobody gets none for users' routes", async (t) => {
	const s = await open(t, "direct",
	    { rest: 'relay "/users" { upstream = "ws://127.0.0.1:9/"\n' +
	        "require_user = true }" });
	const { ticket } = await s.get();

	for (const [headers, status] of [
		[{}, 401],
		[{ Authorization: `Bearer ${jwt({ sub: "ann", exp: now() - 99 })}` },
		    401],
		[{ Authorization: `Bearer ${jwt({ sub: "ann", exp: now() + 99 },
		    { alg: "none" })}` }, 401],
		// a ticket does not give another one
		[{ Authorization: `Bearer ${ticket}` }, 401],
	])
		for (const route of ["/raw", "/users"])
			assert.equal((await s.post({ route }, headers)).status,
			    status);
	assert.equal((await s.post({ route: "/users" })).status, 200);
	const answer = await s.post({ route: "/open" }, {});
	assert.equal(answer.status, 200);
	assert.equal(answer.get("cache-control"), "no-store");
	hide(s.site, answer.json.ticket, 0);
});

test("a ticket that is not spent is good until it expires", async (t) => {
	const s = await open(t, "direct", { more: "ticket_once = false" });
	const made = await s.get();

	assert.equal(made.once, false);
	for (let i = 0; i < 3; i++)
		(await s.open(made.url)).client.destroy();
});

test("a ticket of a section is its user there, and nowhere else",
    async (t) => {
	const s = await open(t, "direct", { rest: `
prices "m" { input_text = "1" output_text = "2" }
chat {
	url = "http://127.0.0.1:1"
	models = {m}
	balance = false
	require_user = true
}
livekit {
	url = "wss://x.livekit.cloud"
	api_key = "env:LIVEKIT_API_KEY"
	api_secret = "env:LIVEKIT_API_SECRET"
	require_user = true
}
socketio { }` });
	const ask = (method, target, { ticket }) => request(s.site.broker_sock,
	    method, target, { headers: { "Content-Type": "application/json",
		Authorization: `Bearer ${ticket}` },
	    body: method === "POST" ? "{}" : undefined });
	const chat = await s.get({ route: "chat" });
	const livekit = await s.get({ route: "livekit" });
	const socket = await s.get({ route: "socket.io" });

	assert.equal(chat.url, undefined);
	assert.equal(livekit.url, undefined);
	assert.equal(socket.url, undefined);
	for (let i = 0; i < 2; i++) {
		assert.equal((await ask("GET", "/api/v1/chats", chat)).status, 200);
		assert.equal((await ask("POST", "/api/livekit/token", livekit))
		    .status, 201);
	}
	for (const [method, target, made] of [
		["GET", "/api/v1/chats", livekit],
		["GET", "/api/v1/chats", socket],
		["POST", "/api/livekit/token", chat],
	])
		assert.equal((await ask(method, target, made)).status, 401);
	assert.equal(await s.refused(`/raw?ticket=${chat.ticket}`), 401);
});

// ---- keys, and races ----

test("keys are replaced while tickets of the old one go on", async (t) => {
	const s = await open(t);
	const kid = (ticket) => JSON.parse(Buffer.from(ticket.slice(3)
	    .split(".")[0], "base64url")).kid;
	const file = `${s.db}/ticket-key`;
	const before = await s.get();

	assert.equal(fs.statSync(file).mode & 0o777, 0o600);
	// as a week later
	fs.writeFileSync(file, fs.readFileSync(file, "utf8").replace(/ \d+ /,
	    ` ${now() - 8 * 86400} `));
	const after = await s.get();
	assert.notEqual(kid(before.ticket), kid(after.ticket));
	assert.equal(fs.readFileSync(file, "utf8").trim().split("\n").length, 2);
	for (const { url } of [before, after])
		(await s.open(url)).client.destroy();
	await s.broker.wait_for(/ signing_key\.changed key=[0-9a-f]{16} keys=2/);
});

test("of two brokers that share a store one takes a ticket", async (t) => {
	const s = await open(t);
	const ROUNDS = 100;
	// a second broker and its tunnel, on sockets of their own
	const other = await Site.open(t);
	other.vendor_key = s.site.vendor_key;
	await other.serve({ relays: [["/raw", other.relay(s.server.port,
	    "require_ticket = true")]], rest: `store {
	path = "${s.db}/culvert.db" }
users { secret = "env:USERS_SECRET" }` },
	    { broker: { env: { USERS_SECRET: USERS } } });
	const fronts = [[s.site, s.front], [other, other.direct()]];
	const wins = [0, 0];

	// whoever comes to the vendor is served
	let running = true;
	const serving = (async () => {
		while (running)
			await s.server.accept({}).catch(() => {});
	})();
	for (let i = 0; i < ROUNDS; i++) {
		const { ticket } = await s.get();
		const bearer = { Authorization: `Bearer ${ticket}` };
		const tries = await Promise.all([0, 1, 0, 1].map(
		    async (n) => {
			const [site, front] = fronts[n];
			const { status } = await site.handshake(front, "/raw",
			    bearer);
			return [n, status];
		}));
		const statuses = tries.map(([, status]) => status).sort();
		assert.deepEqual(statuses, [101, 401, 401, 401], `round ${i}`);
		wins[tries.find(([, status]) => status === 101)[0]]++;
	}
	running = false;
	assert.equal(wins[0] + wins[1], ROUNDS);
	assert.ok(wins[0] > 0 && wins[1] > 0, `won: ${wins}`);
}, { timeout: 120000 });
