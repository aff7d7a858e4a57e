// SPDX-License-Identifier: MIT
// Limits of requests, and of answers at once, of each kind of subject: through
// each web server, from addresses of their own.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import fs from "node:fs";
import http from "node:http";

import { MODEL, signed_in, user_token, visitor } from "../lib/chat.mjs";
import { request } from "../lib/fcgi.mjs";
import { Site, needs, relay_site } from "../lib/harness.mjs";
import { FRONTS, NAMES } from "../lib/servers.mjs";
import { test } from "../lib/tap.mjs";

const BURST = 3;
const USAGE = "/api/v1/usage";
const SEND = "/api/v1/messages/send";

// One every two seconds: a burst is over long before the next one comes in.
const PLANS = `
plan "few" { requests_per_second = 0.5 burst = ${BURST} }
plan "more" { requests_per_second = 0.5 burst = ${2 * BURST} }
plan "single" { streams = 1 }
`;

async function open(t, front, { limits = "", chat = "", livekit = "",
    openai = "", anam = "" } = {}) {
	const site = await Site.open(t);
	site.user_secret = site.canary("users' secret", "");
	const sim = await site.sim();
	await site.broker(site.config({ rest: `${PLANS}
limits { ${limits} }
store { path = "${site.file("store.db")}" }
livekit {
	url = "wss://livekit.example"
	api_key = "env:LIVEKIT_API_KEY"
	api_secret = "env:LIVEKIT_API_SECRET"
	${livekit}
}
openai { api_key = "env:OPENAI_API_KEY" client_secrets = true ${openai} }
anam { api_key = "env:ANAM_API_KEY" personas = {"persona"} ${anam} }
chat {
	api_key = "env:OPENAI_API_KEY"
	url = "http://127.0.0.1:${sim.http_port}/v1"
	models = {"${MODEL}"}
	balance = false
	${chat}
}
users { secret = "env:USER_SECRET" plan_claim = "plan" }
` }), { env: { USER_SECRET: site.user_secret } });
	const web = await site.front(front);
	site.ask = (who, options) => ask(web.port, { headers: who, ...options });
	site.user = (name, claims) =>
	    signed_in(user_token(site.user_secret, name, claims));
	return site;
}

// One request from one of this machine's addresses; the body of a stream that
// goes on is left to the caller, who has the response.
function ask(port, { method = "GET", path = USAGE, headers = {}, body,
    from = "127.0.0.1", streams = false } = {}) {
	return new Promise((resolve, reject) => {
		const req = http.request({
			host: "127.0.0.1", localAddress: from, port, method, path,
			agent: false,
			headers: {
				...body === undefined ? {} :
				    { "Content-Type": "application/json" },
				...headers,
			},
		}, (res) => {
			const answer = { status: res.statusCode, head: res.headers,
			    text: "", close: () => req.destroy() };
			res.on("error", () => {}); // it is closed by us
			res.on("data", (data) => {
				answer.text += data;
				if (streams && res.statusCode === 200)
					resolve(answer);
			});
			res.on("end", () => resolve(answer));
		});
		req.on("error", reject);
		req.end(body === undefined ? undefined : JSON.stringify(body));
	});
}

// Ask until it is refused; returns how often it was not, and the refusal.
async function exhaust(fn) {
	for (let passed = 0; passed < 50; passed++) {
		const answer = await fn();
		if (answer.status === 429)
			return { passed, answer };
		assert.equal(answer.status, 200, answer.text);
	}
	throw new Error("it was never refused");
}

const later = (s) => new Promise((done) => setTimeout(done, s * 1000));

function assert_refused(answer, plan, burst) {
	assert.equal(answer.status, 429);
	const wait = answer.head["retry-after"];
	assert.match(wait, /^[12]$/);
	assert.equal(answer.head["ratelimit-policy"].split(", ").at(-1),
	    `"${plan}";q=${burst};w=${2 * burst}`);
	assert.match(answer.head.ratelimit.split(", ").at(-1),
	    new RegExp(`^"${plan}";r=0;t=[0-9]+$`));
	assert.equal(JSON.parse(answer.text).error.code, "too_many_requests");
	return Number(wait);
}

for (const front of NAMES)
	test(`${front}: users and visitors have their own requests`,
	    async (t) => {
		const site = await open(t, front,
		    { limits: "user = few anonymous = few" });
		const [ann, bob] = ["ann", "bob"].map(site.user);
		const one = visitor("visitor-0001");

		const first = await site.ask(ann);
		assert.equal(first.status, 200, first.text);
		assert.equal(first.head["ratelimit-policy"],
		    `"few";q=${BURST};w=${2 * BURST}`);
		assert.equal(first.head.ratelimit, `"few";r=${BURST - 1};t=2`);
		for (const who of [ann, one]) {
			const { passed, answer } = await exhaust(() =>
			    site.ask(who));
			assert.ok(passed >= BURST - 1, `${passed}`);
			const wait = assert_refused(answer, "few", BURST);
			// from another place, it is the same one
			assert.equal((await site.ask(who,
			    { from: "127.0.0.2" })).status, 429);
			for (const other of [bob, visitor(`v-${Math.random()}`)])
				assert.equal((await site.ask(other)).status, 200);
			await later(wait);
			assert.equal((await site.ask(who)).status, 200);
		}
	}, { skip: needs(front) });

for (const front of NAMES)
	test(`${front}: an address has its own requests, whoever asks`,
	    async (t) => {
		const site = await open(t, front, { limits: "address = few" });
		const token = { method: "POST", path: "/api/livekit/token",
		    body: { roomName: "r", participantName: "a" },
		    from: "127.0.0.2" };
		let n = 0;

		const { passed, answer } = await exhaust(() => site.ask(n % 2 ?
		    visitor(`visitor-${n++}`) : site.user(`u${n++}`),
		    { from: "127.0.0.2" }));
		assert.ok(passed >= BURST, `${passed}`);
		const wait = assert_refused(answer, "few", BURST);
		assert_refused(await site.ask({}, token), "few", BURST);
		assert.equal((await site.ask({}, { ...token,
		    from: "127.0.0.3" })).status, 200);
		// what a web server or a browser asks is free
		for (let i = 0; i < 2 * BURST; i++)
			assert.equal((await site.ask({ Origin: "http://localhost",
			    "Access-Control-Request-Method": "GET" }, {
				method: "OPTIONS", from: "127.0.0.2",
			})).status, 204);
		await later(wait);
		assert.equal((await site.ask({}, token)).status, 200);
	}, { skip: needs(front) });

test("a route has its requests for all together", async (t) => {
	const site = await open(t, "lighttpd",
	    { chat: "plan = few", limits: "user = more" });
	let n = 0;
	const { passed, answer } = await exhaust(() =>
	    site.ask(site.user(`u${n++}`)));
	assert.ok(passed >= BURST, `${passed}`);
	// the plan that has refused it
	assert_refused(answer, "few", BURST);
	assert.equal((await site.ask({}, { method: "POST",
	    path: "/api/livekit/token", body: { roomName: "r",
	    participantName: "a" } })).status, 200);
}, { skip: needs("lighttpd") });

// Whose requests these are, beside the chat's, and how they are refused.
const OTHERS = [
	["livekit", "/api/livekit/token", { roomName: "r" },
	    ({ error }) => error.code === "too_many_requests"],
	["openai", "/v1/realtime/client_secrets", {},
	    ({ error }) => error.type === "rate_limit_error"],
	["anam", "/v1/auth/session-token",
	    { personaConfig: { personaId: "persona" } },
	    ({ error }) => error === "too_many_requests"],
	["chat", "/api/tickets", { route: "chat" },
	    ({ error }) => error.code === "too_many_requests"],
];

for (const [section, target, body, is_right] of OTHERS) {
	test(`${section}: a user has so many requests, of all routes together`,
	    async (t) => {
		const site = await open(t, "lighttpd", { limits: "user = few" });
		const send = (who) => site.ask(who, { method: "POST",
		    path: target, body });
		const { passed, answer } = await exhaust(() =>
		    send(site.user("ann")));
		assert.ok(passed >= BURST, `${passed}`);
		assert.match(answer.head["retry-after"], /^[12]$/);
		assert.match(answer.head.ratelimit, /^"few";r=0;t=[0-9]+$/);
		assert.ok(is_right(JSON.parse(answer.text)), answer.text);
		assert.equal((await site.ask(site.user("ann"))).status, 429);
		assert.equal((await send(site.user("bob"))).status, 200);
		assert.equal((await send({})).status, 200);
	}, { skip: needs("lighttpd") });

	test(`${section}: a visitor's id has its own`, async (t) => {
		const site = await open(t, "lighttpd",
		    { limits: "anonymous = few" });
		const send = (who) => site.ask(who, { method: "POST",
		    path: target, body });
		const { passed } = await exhaust(() =>
		    send(visitor("visitor-0001")));
		assert.ok(passed >= BURST, `${passed}`);
		assert.equal((await send(visitor("visitor-0002"))).status, 200);
		assert.equal((await send({})).status, 200);
		assert.equal((await send(visitor("short"))).status, 400);
		// a user is one, whatever else he says
		assert.equal((await send({ ...site.user("ann"),
			...visitor("visitor-0001") })).status, 200);
	}, { skip: needs("lighttpd") });

	test(`${section}: a route has its requests`, async (t) => {
		const site = await open(t, "lighttpd",
		    { [section]: "plan = few" });
		let n = 0;
		const { passed } = await exhaust(() => site.ask(
		    n % 2 ? site.user(`u${n++}`) : (n++, {}),
		    { method: "POST", path: target, body }));
		assert.ok(passed >= BURST, `${passed}`);
		for (const [other, path] of OTHERS)
			if (other !== section)
				assert.equal((await site.ask({}, { method: "POST",
				    path, body: OTHERS.find((o) =>
				    o[0] === other)[2] })).status, 200, other);
	}, { skip: needs("lighttpd") });
}

test("a user's token names the plan", async (t) => {
	const site = await open(t, "lighttpd", { limits: "user = few" });
	for (const [plan, wanted, burst] of [["more", "more", 2 * BURST],
	    ["unknown", "few", BURST], [undefined, "few", BURST]]) {
		const who = site.user(`with ${plan}`, { plan });
		const { passed, answer } = await exhaust(() => site.ask(who));
		assert.ok(passed >= burst, `${passed}`);
		assert_refused(answer, wanted, burst);
	}
}, { skip: needs("lighttpd") });

test("a page may read what is left, and when to come again", async (t) => {
	const site = await open(t, "lighttpd", { limits: "address = few" });
	const page = { ...site.user("ann"), Origin: "http://localhost" };
	const { answer } = await exhaust(() => site.ask(page));
	const exposed = answer.head["access-control-expose-headers"].split(", ");
	for (const name of ["RateLimit", "RateLimit-Policy", "Retry-After"])
		assert.ok(exposed.includes(name), name);
	assert.equal(answer.head["access-control-allow-origin"],
	    "http://localhost");
	assert_refused(answer, "few", BURST);
}, { skip: needs("lighttpd") });

for (const limits of ["user = few", "address = few"])
	test(`a message over a limit is refused as an event (${limits})`,
	    async (t) => {
		const site = await open(t, "lighttpd", { limits });
		const ann = site.user("ann");
		await exhaust(() => site.ask(ann));
		const body = { content: "hello" };
		const refused = await site.ask(ann, { method: "POST", path: SEND,
		    body });
		assert.equal(refused.status, 429);
		assert.equal(refused.head["content-type"], "text/event-stream");
		assert.match(refused.head["retry-after"], /^[12]$/);
		const [, event, data] = /^event: (.*)\ndata: (.*)\n/m
		    .exec(refused.text);
		assert.equal(event, "assistant_error");
		assert.equal(JSON.parse(data).retry_after,
		    Number(refused.head["retry-after"]));
		const plain = await site.ask({ ...ann,
		    Accept: "application/json" }, { method: "POST", path: SEND,
		    body });
		assert_refused(plain, "few", BURST);
		// nothing has begun
		await later(2);
		const chats = await site.ask(ann, { path: "/api/v1/chats" });
		assert.equal(JSON.parse(chats.text).total, 0, chats.text);
	}, { skip: needs("lighttpd") });

for (const [what, limits, same, other] of [
	["a user", "user = single", ["ann", "ann"], "bob"],
	["an address", "address = single", ["ann", "bob"], "eve"],
])
	test(`${what} has so many answers at once`, async (t) => {
		const site = await open(t, "lighttpd", { limits });
		const send = (name, content, from = "127.0.0.1") =>
		    site.ask(site.user(name), { method: "POST", path: SEND,
			body: { content }, streams: true, from });
		const endless = await send(same[0], "/sim endless per_s=20");
		assert.equal(endless.status, 200, endless.text);
		const over = await send(same[1], "hello");
		assert.equal(over.status, 429);
		assert.match(over.text, /"code":"TOO_MANY_STREAMS"/);
		assert.match(over.head["retry-after"], /^[0-9]+$/);
		assert.equal((await send(other, "hello", "127.0.0.2")).status,
		    200);
		// it is free when the answer has ended
		const stop = await site.ask(site.user(same[0]), { method: "POST",
		    path: "/api/v1/messages/stop", body: {} });
		assert.equal(stop.status, 200, stop.text);
		assert.equal((await send(same[1], "hello")).status, 200);
		endless.close();
	}, { skip: needs("lighttpd") });

// ---- tunnels --------------------------------------------------------------

const TUNNELS = `
plan "one" { tunnels = 1 }
plan "brief" { session_seconds = 1 }
plan "slow" { messages_per_second = 5 }
plan "few" { requests_per_second = 0.5 burst = ${BURST} }
`;

// A site with two relays, and users.
async function tunnels(t, front, { limits = "", a = "", b = "", ...options }) {
	const secret = crypto.randomBytes(24).toString("hex");
	const env = { env: { USER_SECRET: secret, TICKET_SECRET:
	    crypto.randomBytes(24).toString("hex") } };
	const made = await relay_site(t, front, {
		...options, target: "/", more: a,
		rest: `${TUNNELS}
limits { ${limits} }
users { secret = "env:USER_SECRET" plan_claim = "plan" }
tickets { secret = "env:TICKET_SECRET" }
relay "/other" { inherit = "/raw" ${b} }
`,
		broker: env,
	});
	const { site, server } = made;
	let { broker } = made;
	const headers = (who) => who === null ? {} :
	    signed_in(user_token(secret, who));

	return {
		...made,
		open: async (who, path = "/raw") => {
			const from = broker.output.length;
			const both = await site.pair(made.front, path, server,
			    { headers: headers(who) });
			const [, pid] = await broker.wait_for(
			    / lease\.open .* pid=(\d+)\n/, { from });
			return { ...both, pid: Number(pid) };
		},
		ask: (who, path = "/raw") =>
		    site.handshake(made.front, path, headers(who)),
		// another one, with the same configuration
		restart: async () => {
			broker = await site.broker(fs.readFileSync(
			    site.file("culvert.conf"), "utf8"), env);
			return broker;
		},
	};
}

function assert_no_tunnel(answer, plan) {
	assert.equal(answer.status, 429, answer.body);
	assert.match(answer.head.get("retry-after"), /^[1-9][0-9]*$/);
	assert.match(answer.body.toString(), /"too_many_requests"/);
	if (plan === undefined)
		return;
	assert.equal(answer.head.get("ratelimit-policy"),
	    `"${plan}";q=${BURST};w=${2 * BURST}`);
	assert.match(answer.head.get("ratelimit"),
	    new RegExp(`^"${plan}";r=0;t=[0-9]+$`));
}

// A close that the other side answers, as peers do.
async function close(from, to) {
	await from.send_close(1000);
	assert.notEqual(await to.closed(), null);
	await to.send_close(1000);
	to.end();
}

const ENDS = {
	"the client's close": ({ client, upstream }) => close(client, upstream),
	"the vendor's close": ({ client, upstream }) => close(upstream, client),
	"a client that is gone": async ({ client, upstream }) => {
		client.destroy();
		await upstream.closed();
		upstream.destroy();
	},
	"a vendor that is gone": async ({ upstream }) => upstream.destroy(),
	"kill -9 of the tunnel": async ({ pid }) =>
	    process.kill(pid, "SIGKILL"),
};

for (const front of FRONTS)
	test(`${front}: a user's tunnels are free as soon as they end`,
	    async (t) => {
		const site = await tunnels(t, front, { limits: "user = one" });
		const other = await site.open("bob");
		for (const [what, end] of Object.entries(ENDS)) {
			const from = site.broker.output.length;
			const first = await site.open("ann");
			for (const path of ["/raw", "/other"])
				assert_no_tunnel(await site.ask("ann", path));
			await end(first);
			// the slot is free when the end is in the log
			await site.broker.wait_for(/ lease\.end /, { from });
			t.diag(what);
			const next = await site.open("ann", "/other");
			await close(next.client, next.upstream);
			await site.broker.wait_for(/(?: lease\.end [^]*){2}/,
			    { from });
		}
		assert_no_tunnel(await site.ask("bob"));
		await other.client.send_text("still here");
		assert.equal((await other.upstream.message()).payload.toString(),
		    "still here");
	}, { skip: needs(front) });

test("an address and a route have so many tunnels, whoever asks",
    async (t) => {
	for (const [options, free] of [
		[{ limits: "address = one" }, null],
		[{ limits: "anonymous = one" }, "ann"],
		[{ a: "plan = one", b: 'plan = ""' }, null],
	]) {
		const site = await tunnels(t, "direct", options);
		await site.open(null);
		assert_no_tunnel(await site.ask(null));
		if (free !== null)
			await site.open(free);
		else if (options.a)
			await site.open("ann", "/other");
		else
			assert_no_tunnel(await site.ask("ann", "/other"));
	}
});

test("a visitor's id has its own tunnels, in both forms",
    async (t) => {
	const site = await tunnels(t, "direct", { limits: "anonymous = one" });
	const knock = (path, headers = {}) => {
		site.server.accept().catch(() => {});
		return site.site.handshake(site.front, path, headers);
	};
	const forms = {
		header: (id) => knock("/raw", visitor(id)),
		query: (id) => knock(`/raw?anon_id=${id}`),
	};

	for (const [form, open] of Object.entries(forms)) {
		assert.equal((await open(`visitor-of-${form}`)).status, 101, form);
		for (const again of Object.values(forms))
			assert_no_tunnel(await again(`visitor-of-${form}`));
	}
	assert.equal((await knock("/raw")).status, 101);
	assert.equal((await knock("/raw?anon_id=short")).status, 400);
});

test("without a WebSocket, a visitor's id has its own requests, in both forms",
    async (t) => {
	const { site } = await tunnels(t, "direct",
	    { limits: "anonymous = few" });
	const get = async (target, headers = {}) => (await request(
	    site.broker_sock, "GET", target, { headers })).status;
	const forms = {
		header: (id) => get("/raw", visitor(id)),
		query: (id) => get(`/raw?anon_id=${id}`),
	};

	for (const [form, ask] of Object.entries(forms)) {
		let status = 426;
		for (let i = 0; i < 50 && status === 426; i++)
			status = await ask(`visitor-of-${form}`);
		assert.equal(status, 429, form);
		for (const again of Object.values(forms))
			assert.equal(await again(`visitor-of-${form}`), 429);
	}
	assert.equal(await get("/raw"), 426);
	assert.equal(await get("/raw?anon_id=short"), 400);
});

test("what all may have together is 503", async (t) => {
	const site = await tunnels(t, "direct",
	    { control: "max_connections = 1", limits: "user = one" });
	await site.open("ann");
	const hints = new Set();
	for (let i = 0; i < 30; i++) {
		const answer = await site.ask("bob");
		assert.equal(answer.status, 503, answer.body);
		assert.match(answer.head.get("retry-after"), /^[3-7]$/);
		hints.add(answer.head.get("retry-after"));
	}
	assert.ok(hints.size > 1, "not all at once");
});

test("a plan narrows how long a tunnel lasts, and what it is sent",
    async (t) => {
	const brief = await tunnels(t, "direct", { limits: "user = brief" });
	const one = await brief.open("ann");
	assert.equal((await one.client.closed())?.code, 4200);
	const slow = await tunnels(t, "direct", { limits: "user = slow" });
	const two = await slow.open("ann");
	for (let i = 0; i < 50; i++)
		await two.client.send_text("x").catch(() => {});
	assert.equal((await two.client.closed())?.code, 1008);
});

test("a broker that comes back knows whose tunnels are open", async (t) => {
	const site = await tunnels(t, "direct", { limits: "user = one" });
	const ann = await site.open("ann");
	await site.broker.stop("SIGKILL");
	site.broker.may_fail = true;
	const broker = await site.restart();
	await broker.wait_for(/ lease\.resume /);
	assert_no_tunnel(await site.ask("ann"));
	await site.open("bob");
	const from = broker.output.length;
	await close(ann.client, ann.upstream);
	await broker.wait_for(/ lease\.end /, { from });
	site.server.accept().catch(() => {});
	assert.equal((await site.ask("ann")).status, 101);
});

test("a handshake is a request", async (t) => {
	const site = await tunnels(t, "lighttpd", { limits: "user = few" });
	const knock = (who) => {
		site.server.accept().catch(() => {});
		return site.ask(who, "/other");
	};
	let passed = 0, answer;
	while ((answer = await knock("ann")).status === 101 && passed < 50)
		passed++;
	assert.ok(passed >= BURST, `${passed}`);
	assert_no_tunnel(answer, "few");
	assert.equal((await knock("bob")).status, 101);
	await later(Number(answer.head.get("retry-after")));
	assert.equal((await knock("ann")).status, 101);
}, { skip: needs("lighttpd") });
