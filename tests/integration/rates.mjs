// SPDX-License-Identifier: MIT
// Limits of requests, and of answers at once, of each kind of subject: through
// each web server, from addresses of their own.
import assert from "node:assert/strict";
import http from "node:http";

import { MODEL, signed_in, user_token, visitor } from "../lib/chat.mjs";
import { Site, needs } from "../lib/harness.mjs";
import { NAMES } from "../lib/servers.mjs";
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

async function open(t, front, { limits = "", chat = "" } = {}) {
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
}
chat {
	api_key = "env:OPENAI_API_KEY"
	url = "http://127.0.0.1:${sim.http_port}/v1"
	models = {"${MODEL}"}
	users { secret = "env:USER_SECRET" balance = false }
	${chat}
}
` }), { env: { USER_SECRET: site.user_secret } });
	const web = await site.front(front);
	site.ask = (who, options) => ask(web.port, { headers: who, ...options });
	site.user = (name) => signed_in(user_token(site.user_secret, name));
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
