// SPDX-License-Identifier: MIT
// Budgets of a day, through real tunnels and the simulated vendor: whatever
// runs at once, they are overshot by no more than one response.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import { request } from "../lib/fcgi.mjs";
import { BROKER, SIM, Site, TUNNEL, builddir, run, unix_listening,
    until } from "../lib/harness.mjs";
import { Stream } from "../lib/sse.mjs";
import { skip_all, test } from "../lib/tap.mjs";

if (!fs.existsSync(SIM))
	skip_all("the simulator is not built; run deploy/check");

const SESSIONS = 100;
const TARGET = "/v1/realtime?model=gpt-realtime";
const PRICE = 16; // micro-units, of a token: text is the only kind
const days = ["--from", "2000-01-01", "--to", "2999-12-31"];

class Budget {
	static async open(t, { plan, over = "close", openai = "", more = "",
	    access, limits = "" }) {
		const self = new Budget();
		const site = self.site = await Site.open(t);
		self.sim = await site.sim();
		self.secret = site.canary("users' secret");
		self.config = site.config({ access, rest: `
store { path = "${site.file("culvert.db")}" }
users { secret = "env:USER_SECRET" }
plan "free" { ${plan} }
limits { user = "free" ${limits} }
prices "*" {
	input_text = "${PRICE}" cached_text = "${PRICE}"
	output_text = "${PRICE}" input_audio = "${PRICE}"
	output_audio = "${PRICE}" input_image = "${PRICE}"
}
openai {
	url = "ws://127.0.0.1:${self.sim.ws_port}/v1/realtime"
	over_budget = "${over}"
	usage_interval = 1
	${openai}
}
${more.replace("@HTTP@", self.sim.http_port)}` });
		await self.start();
		await site.tunnel();
		self.front = site.direct();
		return self;
	}

	async start() {
		this.broker = await this.site.broker(this.config,
		    { env: { USER_SECRET: this.secret } });
	}

	// What a page of this user's sends.
	user(sub = "ann") {
		const part = (value) =>
		    Buffer.from(JSON.stringify(value)).toString("base64url");
		const text = `${part({ alg: "HS256" })}.` +
		    part({ sub, exp: Math.floor(Date.now() / 1000) + 600 });
		return { Authorization: `Bearer ${text}.` +
		    createHmac("sha256", this.secret).update(text)
		        .digest("base64url") };
	}

	connect(sub) {
		return this.site.connect(this.front, TARGET, this.user(sub),
		    { timeout: 60000 });
	}

	async ctl(...args) {
		const done = await run([path.join(builddir, "culvertctl"),
		    "--json", ...args],
		    { env: { CULVERT_CONTROL: this.site.control_sock } });
		assert.equal(done.code, 0, done.output);
		return JSON.parse(done.stdout);
	}

	async tokens() {
		const report = await this.ctl("usage", ...days, "--by", "user");
		return report.total.total_tokens;
	}
}

// A response to so many characters; the conversation does not grow by it.
function create(size) {
	return JSON.stringify({ type: "response.create", response: {
		conversation: "none", output_modalities: ["text"],
		input: [{ type: "message", role: "user", content:
		    [{ type: "input_text", text: "x".repeat(size) }] }] } });
}

// How a session goes that responds as often as it may: {close} or {error}.
async function respond(client, sizes, used) {
	for (;;) {
		let event;
		await client.send_text(create(sizes()));
		do {
			const frame = await client.frame();
			if (frame.opcode === 8)
				return { close: frame.payload.readUInt16BE(0) };
			event = frame.opcode === 1 ? JSON.parse(frame.payload) : {};
		} while (event.type !== "response.done" && event.type !== "error");
		if (event.type === "response.done")
			used.push(event.response.usage.total_tokens);
		else if (event.error.code !== "busy")
			return { error: event.error };
	}
}

// Sizes that differ, the same in each run.
function sizes(max) {
	let seed = 1;
	return () => {
		seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
		return 1 + (seed >>> 8) % max;
	};
}

async function many(budget, max_size) {
	const next = sizes(max_size), used = [];
	const clients = await Promise.all(Array.from({ length: SESSIONS },
	    () => budget.connect()));
	const ends = await Promise.all(
	    clients.map((client) => respond(client, next, used)));

	for (const client of clients)
		client.destroy();
	return { ends, used };
}

const sum = (list) => list.reduce((a, b) => a + b, 0);

// Overshot by less than one response, and nothing is lost on the way.
async function assert_budget(t, budget, used, limit) {
	const total = sum(used), largest = Math.max(...used);

	await until(async () => await budget.tokens() >= total, "is booked");
	assert.equal(await budget.tokens(), total);
	assert.ok(total >= limit, `${total} of ${limit}`);
	assert.ok(total < limit + largest,
	    `${total} of ${limit}, with responses of ${largest} at most`);
	t.diag(`${used.length} responses of ${Math.min(...used)} to ` +
	    `${largest} tokens: ${total} of ${limit}`);
}

for (const limit of [1000, 7777, 40000])
	test(`${SESSIONS} sessions share ${limit} tokens and are closed`,
	    async (t) => {
		const budget = await Budget.open(t, { plan:
		    `day_tokens = ${limit} response_tokens = 2000` });
		const { ends, used } = await many(budget, 3000);

		assert.deepEqual(ends, Array(SESSIONS).fill({ close: 4003 }));
		await assert_budget(t, budget, used, limit);
		// who comes later is not let in
		const late = await budget.site.handshake(budget.front, TARGET,
		    budget.user());
		assert.equal(late.status, 429);
		assert.ok(Number(late.head.get("retry-after")) > 0);
		// nor is anybody else kept out
		const other = await budget.connect("bob");
		const ok = [];
		await other.send_text(create(10));
		for (;;) {
			const { payload } = await other.data_frame();
			const event = JSON.parse(payload);
			if (event.type === "response.done") {
				ok.push(event);
				break;
			}
		}
		assert.equal(ok.length, 1);
		other.destroy();
	});

test(`${SESSIONS} sessions share money and are told so`, async (t) => {
	const limit = 20000;
	const budget = await Budget.open(t, { over: "error", plan:
	    `day_money = "${limit * PRICE / 1e6}" response_tokens = 2000` });
	const { ends, used } = await many(budget, 3000);

	for (const { error } of ends) {
		assert.equal(error.code, "budget_spent");
		assert.equal(error.type, "insufficient_quota");
	}
	await assert_budget(t, budget, used, limit);
});

// Each is larger by far than what the plan expects, and none was seen before.
test("first responses to long questions share what is left", async (t) => {
	const limit = 9000;
	const budget = await Budget.open(t, { over: "error", plan:
	    `day_tokens = ${limit} response_tokens = 100` });
	const clients = await Promise.all(Array.from({ length: 30 },
	    () => budget.connect()));
	const used = [];
	const ends = await Promise.all(clients.map((client) =>
	    respond(client, () => 20000, used)));

	for (const { error } of ends)
		assert.equal(error.code, "budget_spent");
	await assert_budget(t, budget, used, limit);
	for (const client of clients)
		client.destroy();
});

// All of them respond until they are stopped; {total, largest, ends}.
async function drain(clients, max_size) {
	const next = sizes(max_size), used = [];
	const ends = await Promise.all(
	    clients.map((client) => respond(client, next, used)));
	return { total: sum(used), largest: Math.max(...used), ends };
}

test("visitors, an address and a route have budgets of their own",
    async (t) => {
	const budget = await Budget.open(t, {
		plan: "response_tokens = 100",
		access: 'clients = {"any"}\norigins = {"loopback"}\n' +
		    "missing_origin = true",
		limits: 'anonymous = "visitor" address = "address"',
		openai: 'plan = "site"',
		more: `
plan "visitor" { day_tokens = 500 response_tokens = 100 }
plan "address" { day_tokens = 900 response_tokens = 100 }
plan "site" { day_tokens = 2000 response_tokens = 100 }` });
	const from = (address, sub) => ({ "X-Forwarded-For": address,
		...sub && budget.user(sub) });
	const connect = (list) => Promise.all(list.map((headers) =>
	    budget.site.connect(budget.front, TARGET, headers,
		{ timeout: 60000 })));
	const closed = (n) => Array(n).fill({ close: 4003 });
	const status = async (headers) => (await budget.site.handshake(
	    budget.front, TARGET, headers)).status;

	// of one network, which is one address
	const visitors = await drain(await connect(Array.from({ length: 6 },
	    (_, i) => from(`2001:db8:5::${i + 1}`))), 300);
	assert.deepEqual(visitors.ends, closed(6));
	assert.ok(visitors.total >= 500 &&
	    visitors.total < 500 + visitors.largest, `${visitors.total}`);
	assert.equal(await status(from("2001:db8:5:0:9::9")), 429);

	// users there have what it left of the address
	const users = await drain(await connect(["ann", "bob", "carl"].map(
	    (sub) => from("2001:db8:5::7", sub))), 100);
	const there = visitors.total + users.total;
	assert.deepEqual(users.ends, closed(3));
	assert.ok(there >= 900 && there < 900 + users.largest, `${there}`);
	assert.equal(await status(from("2001:db8:5::7", "dan")), 429);

	// and all together what is left of the route
	const all = await drain(await connect(Array.from({ length: 12 },
	    (_, i) => from(`192.0.2.${i}`, `user${i}`))), 900);
	const total = there + all.total;
	assert.deepEqual(all.ends, closed(12));
	assert.ok(total >= 2000 && total < 2000 + all.largest, `${total}`);
	assert.equal(await status(from("192.0.2.99", "eve")), 429);
});

test("two brokers that share a store share a budget", async (t) => {
	const limit = 3000;
	const budget = await Budget.open(t, {
		plan: `day_tokens = ${limit} response_tokens = 500` });
	const { site } = budget;
	const control = site.file("other-control.sock");
	const tunnel = site.file("other-tunnel.sock");
	const other = site.start("other broker", [BROKER, "-f",
	    site.write("other.conf", budget.config.replace(site.control_sock,
		control)), "--listen", site.file("other-broker.sock")],
	    { env: budget.site.broker_env });
	await other.listens(() => unix_listening(control), "listens");
	const part = site.start("other tunnel", [TUNNEL, "--listen", tunnel,
	    "--control", control, "--spare", "2"]);
	await part.listens(() => unix_listening(tunnel), "listens");
	const front = { ...budget.front, where: { path: tunnel } };
	const clients = await Promise.all(Array.from({ length: 20 }, (_, i) =>
	    site.connect(i % 2 ? front : budget.front, TARGET, budget.user(),
		{ timeout: 60000 })));

	const { total, largest, ends } = await drain(clients, 900);
	assert.deepEqual(ends, Array(20).fill({ close: 4003 }));
	assert.ok(total >= limit && total < limit + largest, `${total}`);
});

test("a restart of the broker makes no budget larger", async (t) => {
	const limit = 30000, next = sizes(3000), used = [];
	const budget = await Budget.open(t, { over: "error", plan:
	    `day_tokens = ${limit} response_tokens = 2000` });
	const clients = await Promise.all(Array.from({ length: 20 },
	    () => budget.connect()));
	const ends = clients.map((client) => respond(client, next, used));

	for (const part of [1, 2]) {
		await until(() => sum(used) >= part * limit / 3, "it goes on");
		budget.broker.may_fail = true;
		await budget.broker.stop(part === 1 ? "SIGTERM" : "SIGKILL");
		await budget.start();
	}
	for (const { error } of await Promise.all(ends))
		assert.equal(error.code, "budget_spent");
	await assert_budget(t, budget, used, limit);
	for (const client of clients)
		client.destroy();
	// this broker is stopped before the tunnel, which has to tell it
	await until(async () => (await budget.ctl("sessions")).total === 0, "it is over");
});

test("a reload gives conversations that run their budget of now", async (t) => {
	const plan = "day_tokens = 1000000000";
	const budget = await Budget.open(t, { over: "error", plan });
	const client = await budget.connect();
	const used = [];

	await client.send_text(create(100));
	while (JSON.parse((await client.data_frame()).payload).type !==
	    "response.done")
		;
	budget.site.write("culvert.conf", budget.config.replace(plan,
	    "day_tokens = 10"));
	budget.broker.kill("SIGHUP");
	await budget.broker.wait_for(/ config\.reload /);
	// it is told with its next report, at most a second later
	const { error } = await respond(client, () => 10, used);
	assert.equal(error.code, "budget_spent");
	await budget.broker.wait_for(
	    / budget\.spent .* client=127\.0\.0\.1 of=u user=ann plan=free /);
	// and back
	budget.site.write("culvert.conf", budget.config);
	budget.broker.kill("SIGHUP");
	await until(async () => {
		await client.send_text(create(10));
		for (;;) {
			const event = JSON.parse((await client.data_frame())
			    .payload);
			if (["response.done", "error"].includes(event.type))
				return event.type === "response.done";
		}
	}, "responds again");
	client.destroy();
});

test("seconds of a day that are spent end what runs", async (t) => {
	const budget = await Budget.open(t, { over: "error",
	    plan: "day_seconds = 4" });
	const clients = await Promise.all([budget.connect(), budget.connect()]);

	for (const client of clients)
		for (;;) {
			const { opcode, payload } = await client.data_frame();
			if (opcode !== 8)
				continue;
			assert.equal(payload.readUInt16BE(0), 4003);
			break;
		}
	const [, seconds] =
	    await budget.broker.wait_for(/budget\.spent .* of=u .* seconds=(\d+)/);
	assert.ok(Number(seconds) >= 4);
	const late = await budget.site.handshake(budget.front, TARGET,
	    budget.user());
	assert.equal(late.status, 429);
});

test("nothing is allowed while the store is away", async (t) => {
	const budget = await Budget.open(t, { plan:
	    "day_tokens = 9000 response_tokens = 2000" });
	const file = budget.site.file("culvert.db");
	const client = await budget.connect(), used = [];
	const once = async () => {
		await client.send_text(create(100));
		for (;;) {
			const { payload } = await client.data_frame();
			const event = JSON.parse(payload);
			if (event.type === "error")
				return event.error.code;
			if (event.type !== "response.done")
				continue;
			used.push(event.response.usage.total_tokens);
			return "done";
		}
	};

	assert.equal(await once(), "done");
	fs.renameSync(file, `${file}.away`);
	fs.mkdirSync(file);
	assert.equal(await once(), "unavailable");
	fs.rmdirSync(file);
	fs.renameSync(`${file}.away`, file);
	let code;
	while ((code = await once()) === "unavailable");
	assert.equal(code, "done");
	client.destroy();
	await until(async () => await budget.tokens() === sum(used), "booked");
});

const to_midnight = () => 86400 - Math.floor(Date.now() / 1000) % 86400;

// A call goes past culvert, and nothing ends it then.
test("nothing is begun past the tunnel when the day is spent", async (t) => {
	const budget = await Budget.open(t, { plan: "day_tokens = 1",
	    openai: "calls = true\nclient_secrets = true" });
	const offer = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n" +
	    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n" +
	    "a=mid:0\r\na=ice-ufrag:abcd\r\n" +
	    "a=ice-pwd:abcdefghijklmnopqrstuvwx\r\n" +
	    `a=fingerprint:sha-256 ${Array(32).fill("AB").join(":")}\r\n` +
	    "a=setup:actpass\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n";
	const begin = async (sub) => [
		await request(budget.site.broker_sock, "POST",
		    "/v1/realtime/calls", { body: offer, headers: {
			"Content-Type": "application/sdp",
			...budget.user(sub) } }),
		await request(budget.site.broker_sock, "POST",
		    "/v1/realtime/client_secrets", { body: "{}", headers: {
			"Content-Type": "application/json",
			...budget.user(sub) } }),
	];
	const statuses = async (sub) =>
	    (await begin(sub)).map(({ status }) => status);

	assert.deepEqual(await statuses(), [201, 200]);
	const client = await budget.connect();
	await client.send_text(create(10));
	await until(async () => await budget.tokens() > 0, "is booked");
	client.destroy();
	for (const { status, json, get } of await begin()) {
		assert.equal(status, 429);
		assert.equal(json.error.code, "budget_spent");
		assert.ok(Math.abs(Number(get("retry-after")) -
		    to_midnight()) < 60);
	}
	assert.deepEqual(await statuses("bob"), [201, 200]);
});

// ---- the chat ----

const CHAT = `chat {
	url = "http://127.0.0.1:@HTTP@/v1"
	api_key = "env:OPENAI_API_KEY"
	models = {"gpt-4o-mini"}
	max_output_tokens = 400
	balance = false
	max_streams_per_owner = 40
}`;

function send(budget, { content = "/sim count=40 per_s=1000", user = "ann",
    headers = {}, body = {} } = {}) {
	return new Stream(budget.site.broker_sock, "POST",
	    "/api/v1/messages/send", { body: { content, ...body },
		headers: { ...budget.user(user), ...headers } });
}

// Messages until there is nothing left.
async function chat_on(budget, used, codes) {
	for (;;) {
		const stream = await send(budget).over();
		const done = stream.find("assistant_complete");
		if (done) {
			const { usage } = done;
			used.push(usage.prompt_tokens + usage.completion_tokens);
			continue;
		}
		assert.equal(stream.status, 429, stream.body);
		const { code } = stream.find("assistant_error");
		codes.push(code);
		if (code === "budget_spent")
			return;
		assert.equal(code, "BUDGET_IN_USE");
	}
}

test("messages of many chats share a budget", async (t) => {
	const limit = 2000;
	const budget = await Budget.open(t, { more: CHAT, plan:
	    `day_tokens = ${limit} response_tokens = 2000` });
	const used = [], codes = [];

	await Promise.all(Array.from({ length: 20 },
	    () => chat_on(budget, used, codes)));
	assert.equal(codes.filter((code) => code === "budget_spent").length, 20);
	await assert_budget(t, budget, used, limit);

	const left = to_midnight();
	const stream = await send(budget).over();
	assert.ok(Math.abs(Number(stream.head.get("retry-after")) - left) < 60);
	assert.deepEqual(stream.names(), ["assistant_error"]);
	const json = await request(budget.site.broker_sock, "POST",
	    "/api/v1/messages/send", { body: JSON.stringify({ content: "x" }),
		headers: { "Content-Type": "application/json",
		    Accept: "application/json", ...budget.user() } });
	assert.equal(json.status, 429);
	assert.equal(json.json.error.code, "budget_spent");
	const other = await send(budget, { user: "bob" }).over();
	assert.equal(other.status, 200, other.body);
});

test("chats and tunnels of a user share a budget", async (t) => {
	const limit = 12000, next = sizes(3000), used = [];
	const budget = await Budget.open(t, { over: "error", more: CHAT, plan:
	    `day_tokens = ${limit} response_tokens = 2000` });
	const clients = await Promise.all(Array.from({ length: 10 },
	    () => budget.connect()));

	await Promise.all([
		...clients.map((client) => respond(client, next, used)),
		...Array.from({ length: 5 }, () => chat_on(budget, used, [])),
	]);
	await assert_budget(t, budget, used, limit);
	for (const client of clients)
		client.destroy();
});

test("what a killed broker left behind is counted", async (t) => {
	const budget = await Budget.open(t, { more: CHAT, plan:
	    "day_tokens = 500 response_tokens = 2000" });
	const stream = send(budget, { content: "/sim endless per_s=50" });

	await stream.event("assistant_delta", 3);
	budget.broker.may_fail = true;
	await budget.broker.stop("SIGKILL");
	await budget.start();
	await budget.broker.wait_for(/chat\.recovered/);
	assert.ok(await budget.tokens() > 0);
	// nothing is reserved any more: a second one is not told to wait
	const after = await send(budget).over();
	assert.equal(after.status, 200, after.body);
});
