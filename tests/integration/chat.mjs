// SPDX-License-Identifier: MIT
// The chat as it streams, over FastCGI as web servers speak it, against the
// simulated vendor.
import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import path from "node:path";

import { request } from "../lib/fcgi.mjs";
import { Site, builddir, needs, run, until } from "../lib/harness.mjs";
import { Stream } from "../lib/sse.mjs";
import { test } from "../lib/tap.mjs";

const ANON = "visitor-0001", OTHER = "visitor-0002";

function chat_config(site, sim, { chat = "", anonymous = "messages = 1000",
    rest = "" } = {}) {
	return site.config({ rest: `store { path = "${site.file("c.db")}" }\n` +
	    `chat {\nurl = "http://127.0.0.1:${sim.http_port}/v1"\n` +
	    `api_key = "env:OPENAI_API_KEY"\n` +
	    `models = {"gpt-4o-mini", "gpt-4o"}\n${chat}\n` +
	    `anonymous {\n${anonymous}\n}\n}\n${rest}` });
}

// A broker with a chat, and what a test asks it.
class Chat {
	static async open(t, options = {}) {
		const self = new Chat();
		self.site = await Site.open(t);
		self.sim = await self.site.sim();
		self.config = chat_config(self.site, self.sim, options);
		self.secret = self.site.canary("users' secret");
		await self.start();
		return self;
	}

	async start() {
		this.broker = await this.site.broker(this.config,
		    { env: { USER_SECRET: this.secret } });
	}

	// What a page of this user's sends.
	user(sub) {
		const part = (value) =>
		    Buffer.from(JSON.stringify(value)).toString("base64url");
		const text = `${part({ alg: "HS256" })}.` +
		    part({ sub, exp: Math.floor(Date.now() / 1000) + 600 });
		return { Authorization: `Bearer ${text}.` +
		    createHmac("sha256", this.secret).update(text)
		        .digest("base64url") };
	}

	async ctl(...args) {
		const done = await run([path.join(builddir, "culvertctl"),
		    "--socket", this.site.control_sock, ...args]);
		assert.equal(done.code, 0, done.output);
		return done.stdout;
	}

	async account(sub) {
		const answer = await request(this.site.broker_sock, "GET",
		    "/api/v1/usage", { headers: this.user(sub) });
		assert.equal(answer.status, 200, answer.body);
		return answer.json;
	}

	stream(method, target, { anon = ANON, headers = {}, body } = {}) {
		return new Stream(this.site.broker_sock, method,
		    `/api/v1/messages/${target}`, { body,
			headers: { "x-anon-id": anon, ...headers } });
	}

	// Ask a question; `knobs' are the simulator's.
	send(knobs, more = {}, options = {}) {
		const content = knobs ? `/sim ${knobs}` : "Hello there";
		return this.stream("POST", "send", { ...options,
		    body: { content, ...more } });
	}

	resume(query, id, options = {}) {
		const headers = id === undefined ? {} : { "Last-Event-ID": id };
		return this.stream("GET", `stream${query}`,
		    { ...options, headers: { ...headers, ...options.headers } });
	}

	post(target, body, { anon = ANON, headers = {} } = {}) {
		return request(this.site.broker_sock, "POST",
		    `/api/v1/messages/${target}`, { body: JSON.stringify(body),
			headers: { "Content-Type": "application/json",
			    "x-anon-id": anon, ...headers } });
	}

	async messages(chat, { anon = ANON, all = false } = {}) {
		const answer = await request(this.site.broker_sock, "GET",
		    `/api/v1/chats/${chat}/messages` +
		    (all ? "?all_versions=true" : ""),
		    { headers: { "x-anon-id": anon } });
		assert.equal(answer.status, 200, answer.body);
		return answer.json.messages;
	}

	async vendor() {
		const url = `http://127.0.0.1:${this.sim.http_port}/sim/chat`;
		return (await fetch(url)).json();
	}

	async restart(signal) {
		this.broker.may_fail = signal === "SIGKILL";
		await this.broker.stop(signal);
		await this.start();
	}
}

function assert_ids(stream) {
	const [gen] = stream.events[0].id.split(".");
	stream.events.forEach((event, i) =>
	    assert.equal(event.id, `${gen}.${i + 1}`));
}

test("a message is answered event by event", async (t) => {
	const chat = await Chat.open(t);
	const stream = await chat.send("count=5 per_s=50").over();
	const names = stream.names();

	assert.equal(stream.status, 200, stream.body);
	assert.match(stream.head.get("content-type"), /^text\/event-stream/);
	assert.deepEqual(names, ["assistant_typing",
	    ...Array(5).fill("assistant_delta"), "assistant_complete",
	    "usage_info"]);
	assert_ids(stream);
	assert.equal(stream.text(), "1 2 3 4 5 ");
	const typing = stream.find("assistant_typing");
	const complete = stream.find("assistant_complete");
	assert.equal(typing.new_chat, true);
	assert.equal(typing.model, "gpt-4o-mini");
	assert.equal(complete.chat_id, typing.chat_id);
	assert.equal(complete.message.id, typing.message_id);
	assert.equal(complete.message.status, "complete");
	assert.equal(complete.message.content, "1 2 3 4 5 ");
	assert.equal(complete.finish_reason, "stop");
	assert.equal(complete.usage.completion_tokens, 5);
	assert.deepEqual(complete.usage, complete.message.usage);
	assert.equal(stream.find("usage_info").kind, "anonymous");
	assert.equal(stream.find("usage_info").used, 1);
	// each in a write of its own
	const pieces = stream.events.slice(0, 6).map((e) => e.piece);
	assert.equal(new Set(pieces).size, 6);
});

test("the head and the first event do not wait for the vendor", async (t) => {
	const chat = await Chat.open(t);
	const stream = chat.send("delay ms=60000");

	await stream.event("assistant_typing", 1, 20000);
	assert.equal(stream.status, 200);
	const { chat_id } = stream.find("assistant_typing");
	const stored = await chat.messages(chat_id);
	assert.equal(stored[0].content, "/sim delay ms=60000");
	assert.equal(stored[1].status, "streaming");
	const ended = await chat.post("stop", { chat_id });
	assert.equal(ended.json.stopped, true, ended.body);
});

test("a chat goes on, and the vendor is sent what was said", async (t) => {
	const chat = await Chat.open(t, { chat: 'system = "Be brief."' });
	const first = await chat.send("").over();
	const { chat_id } = first.find("assistant_typing");
	const second = await chat.send("", { chat_id, content: "And now?",
	    model: "gpt-4o", temperature: 0.5 }).over();

	assert.equal(second.find("assistant_typing").new_chat, false);
	assert.match(second.text(),
	    /^I was sent 4 messages \(1 system, 2 user, 1 assistant\)/);
	assert.match(second.text(), /You said: And now\?$/);
	const stored = await chat.messages(chat_id);
	assert.deepEqual(stored.map((m) => m.role),
	    ["user", "assistant", "user", "assistant"]);
	assert.equal(stored[3].model, "gpt-4o");
});

test("what is asked is checked", async (t) => {
	const chat = await Chat.open(t, { chat: "content_bytes = 100" });
	const table = [
		[{}, 400], [{ content: "" }, 400], [{ content: " \n" }, 400],
		[{ content: 5 }, 400], [{ content: ["x"] }, 400],
		[{ content: "x", model: "gpt-6" }, 403],
		[{ content: "x", model: 1 }, 400],
		[{ content: "x".repeat(101) }, 413],
		[{ content: "x", temperature: 2.1 }, 400],
		[{ content: "x", temperature: "1" }, 400],
		[{ content: "x", max_tokens: 0 }, 400],
		[{ content: "x", stop: [] }, 400],
		[{ content: "x", stop: Array(5).fill("a") }, 400],
		[{ content: "x", seed: 1.5 }, 400],
		[{ content: "x", api_base: "http://127.0.0.1/" }, 400],
		[{ content: "x", stream: false }, 400],
		[{ content: "x", message_id: "y" }, 400],
		[{ content: "x", chat_id: "no-such-chat" }, 404],
		[{ content: "x", chat_id: "../x" }, 404],
	];

	for (const [body, status] of table) {
		const json = await chat.post("send", body,
		    { headers: { Accept: "application/json" } });
		assert.equal(json.status, status, JSON.stringify(body));
		assert.equal(typeof json.json.error.code, "string");
		const stream = await chat.stream("POST", "send", { body }).over();
		assert.equal(stream.status, status);
		assert.deepEqual(stream.names(), ["assistant_error"]);
		assert.equal(stream.find("assistant_error").code,
		    json.json.error.code);
	}
	assert.equal((await chat.vendor()).calls, 0);
	for (const key of ["", "x".repeat(256), "a\tb"]) {
		const answer = await chat.post("send", { content: "x" },
		    { headers: { "Idempotency-Key": key } });
		assert.equal(answer.status, 400, JSON.stringify(key));
	}
});

test("an answer is made anew, and the older version is kept", async (t) => {
	const chat = await Chat.open(t);
	const first = await chat.send("count=2").over();
	const { chat_id, message_id } = first.find("assistant_typing");
	const again = await chat.stream("POST", "regenerate",
	    { body: { chat_id } }).over();

	assert.deepEqual(again.names(), ["assistant_regenerating",
	    "assistant_typing", "assistant_delta", "assistant_delta",
	    "assistant_complete", "assistant_regenerated", "usage_info"]);
	assert_ids(again);
	assert.equal(again.find("assistant_regenerating").replaces, message_id);
	const { message } = again.find("assistant_regenerated");
	assert.notEqual(message.id, message_id);
	assert.equal(message.version, 2);
	const third = await chat.stream("POST", "regenerate",
	    { body: { chat_id, message_id: message.id, model: "gpt-4o" } })
	    .over();
	assert.equal(third.find("assistant_complete").message.version, 3);
	assert.equal((await chat.messages(chat_id)).length, 2);
	const all = await chat.messages(chat_id, { all: true });
	assert.equal(all.length, 4);
	assert.equal(all[1].id, message_id);
	const none = await chat.post("regenerate",
	    { chat_id, message_id: "nothing" });
	assert.equal(none.status, 404);
});

test("a stop ends the vendor's call and keeps what there is", async (t) => {
	const chat = await Chat.open(t);
	const stream = chat.send("endless per_s=50");
	await stream.event("assistant_delta", 3);
	const { chat_id, message_id } = stream.find("assistant_typing");
	const stopped = await chat.post("stop", { chat_id });

	assert.deepEqual(stopped.json, { stopped: true, message_id });
	await stream.over();
	const complete = stream.find("assistant_complete");
	assert.equal(complete.finish_reason, "stopped");
	assert.equal(complete.message.status, "stopped");
	assert.equal(complete.message.content, stream.text());
	assert.ok(complete.usage.completion_tokens > 0);
	assert.equal(stream.names().at(-1), "usage_info");
	await until(async () => (await chat.vendor()).open === 0, "no call");
	const stored = await chat.messages(chat_id);
	assert.equal(stored[1].content, stream.text());
	const again = await chat.post("stop", { chat_id });
	assert.deepEqual(again.json, { stopped: false, message_id: null });
	const other = chat.send("endless per_s=50", { chat_id });
	await other.event("assistant_delta");
	assert.equal((await chat.post("stop", { chat_id },
	    { anon: OTHER })).json.stopped, false);
	assert.equal((await chat.post("stop", { message_id }))
	    .json.stopped, false);
	assert.equal((await chat.post("stop")).json.stopped, true);
	assert.equal((await chat.post("stop", {})).json.stopped, false);
});

test("a reader comes back at any event, and misses none", async (t) => {
	const chat = await Chat.open(t);
	const stream = chat.send("count=20 per_s=40");
	await stream.event("assistant_delta", 5);
	const { chat_id } = stream.find("assistant_typing");
	const ids = stream.events.map((e) => e.id);
	const from = [0, 1, 3, 5].map((i) =>
	    chat.resume(`?chat_id=${chat_id}`, ids[i]));
	const query = chat.resume(
	    `?chat_id=${chat_id}&last_event_id=${ids[2]}`);
	const reload = chat.resume(`?chat_id=${chat_id}`);
	const bare = chat.stream("GET", "send", {});

	await stream.over();
	for (const [i, reader] of [...from.map((r, k) => [[0, 1, 3, 5][k], r]),
	    [2, query]]) {
		await reader.over();
		assert.deepEqual(reader.events.map((e) => e.id),
		    stream.events.slice(i + 1).map((e) => e.id));
	}
	for (const reader of [reload, bare]) {
		await reader.over();
		assert.equal(reader.text(), stream.text());
		assert.equal(reader.names()[0], "assistant_typing");
	}
	// it is over: from the store
	for (const i of [0, 7, 20]) {
		const late = await chat.resume("", stream.events[i].id).over();
		assert.equal(late.status, 200);
		// all but usage_info, which is never sent again
		assert.deepEqual(late.events.map((e) => [e.id, e.event]),
		    stream.events.slice(i + 1, -1).map((e) => [e.id, e.event]));
	}
	for (const id of [stream.events.at(-2).id, stream.last_id()])
		assert.equal((await chat.resume("", id).over()).status, 204);
});

test("whoever names nothing that runs gets nothing", async (t) => {
	const chat = await Chat.open(t);
	const stream = chat.send("endless per_s=20");
	await stream.event("assistant_delta");
	const { chat_id } = stream.find("assistant_typing");
	const id = stream.last_id();
	const other = { anon: OTHER };

	for (const reader of [
		chat.resume("", undefined, other),
		chat.resume(`?chat_id=${chat_id}`, undefined, other),
		chat.resume(`?chat_id=${chat_id}`, id, other),
		chat.resume("?chat_id=nothing"),
	]) {
		await reader.over();
		assert.equal(reader.status, 204, reader.body);
		assert.equal(reader.body, "");
	}
	// garbage is as if it were not there, and never comes back
	for (const garbage of ["x", "..", "a.b", `${"9".repeat(30)}.1`, "a.-1",
	    "<script>.1", "%00.1", "a".repeat(4000)]) {
		const reader = chat.resume(`?chat_id=${chat_id}`, garbage);
		await reader.event("assistant_typing");
		assert.ok(!reader.body.includes(garbage));
		reader.leave();
	}
	await chat.post("stop", { chat_id });
	await stream.over();
	const late = await chat.resume("", id, other).over();
	assert.equal(late.status, 204);
});

test("past the window a reader is told, once", async (t) => {
	const chat = await Chat.open(t, { chat: "replay = 1" });
	const stream = await chat.send("count=2").over();
	const id = stream.events[1].id;
	const lost = await until(async () => {
		const reader = await chat.resume("", id).over();
		return reader.names()[0] === "session_lost" && reader;
	}, "the window is over");

	assert.equal(lost.status, 200);
	assert.deepEqual(lost.find("session_lost"), {});
	const next = await chat.resume("", lost.last_id()).over();
	assert.equal(next.status, 204);
});

test("a repetition reads the same answer", async (t) => {
	const chat = await Chat.open(t);
	const headers = { "Idempotency-Key": `k ${randomBytes(8).toString("hex")}` };
	const ask = (more = {}, anon = ANON) =>
	    chat.send("count=12 per_s=40", more, { headers, anon });
	const race = [ask(), ask(), ask()];
	for (const stream of race)
		await stream.over();
	const late = await ask().over();

	for (const stream of [...race, late]) {
		assert.equal(stream.status, 200, stream.body);
		assert.equal(stream.text(), race[0].text());
		assert.equal(stream.find("assistant_typing").message_id,
		    race[0].find("assistant_typing").message_id);
	}
	assert.equal(race.filter((s) =>
	    s.head.get("idempotent-replayed") === "true").length, 2);
	assert.equal(late.head.get("idempotent-replayed"), "true");
	assert.equal((await chat.vendor()).calls, 1);
	const { chat_id } = late.find("assistant_typing");
	assert.equal((await chat.messages(chat_id)).length, 2);
	const changed = await ask({ temperature: 1 }).over();
	assert.equal(changed.status, 422);
	// another's key is another key
	assert.equal((await ask({}, OTHER).over()).status, 200);
	assert.equal((await chat.vendor()).calls, 2);
});

test("a repetition is told the end when the events are gone", async (t) => {
	const chat = await Chat.open(t, { chat: "replay = 0" });
	const key = () => ({ "Idempotency-Key": randomBytes(8).toString("hex") });
	const ended = async (knobs, type) => {
		const options = { headers: key() };
		const first = await chat.send(knobs, {}, options).over();
		const again = await chat.send(knobs, {}, options).over();
		assert.equal(again.status, 200, again.body);
		assert.equal(again.head.get("idempotent-replayed"), "true");
		assert.deepEqual(again.names(), [type]);
		return [first.find(type), again.find(type)];
	};
	const [told, stored] = await ended("count=3", "assistant_complete");
	const [, failed] = await ended("count=2 cut after=1", "assistant_error");

	assert.deepEqual(stored, { ...told, finish_reason: null });
	assert.equal(failed.code, "FAILED");
	assert.equal((await chat.vendor()).calls, 2);
});

test("what is over is not kept for all who do not read it", async (t) => {
	const chat = await Chat.open(t, { rest: "requests { timeout = 120 }" });
	// more than sockets have room for
	const stream = await chat.send("count=100 per_s=0 bytes=9000")
	    .over();
	const id = stream.events[0].id;
	const readers = Array.from({ length: 8 }, () => {
		const reader = chat.resume("", id);
		reader.socket.pause();
		return reader;
	});

	await until(() => readers.every((reader) => reader.socket.bytesRead > 0),
	    "all have begun");
	const more = await chat.resume("", id).over();
	assert.equal(more.status, 503);
	assert.equal(more.head.get("retry-after"), "5");
	// another's are not counted with them
	const other = await chat.resume("", id, { anon: OTHER }).over();
	assert.equal(other.status, 204);
	for (const reader of readers)
		reader.socket.resume();
	for (const reader of readers) {
		await reader.over();
		assert.equal(reader.status, 200);
		assert.equal(reader.text(), stream.text());
	}
	await until(async () =>
	    (await chat.resume("", id).over()).status === 200, "there is room");
});

test("visitors are counted, and told when it is enough", async (t) => {
	const chat = await Chat.open(t, { anonymous: "messages = 2" });
	await chat.send("count=1").over();
	const second = await chat.send("count=1").over();
	assert.equal(second.find("usage_info").remaining, 0);
	const third = await chat.send("count=1").over();

	assert.equal(third.status, 429);
	assert.deepEqual(third.names(), ["assistant_error"]);
	assert.equal(third.find("assistant_error").code, "ANON_LIMIT_REACHED");
	assert.ok(Number(third.head.get("retry-after")) > 3600);
	// a new id is no new allowance
	const other = await chat.post("send", { content: "x" }, { anon: OTHER,
	    headers: { Accept: "application/json" } });
	assert.equal(other.status, 429);
	assert.equal(other.json.error.code, "ANON_LIMIT_REACHED");
});

test("at most so many answers at once, and all else stays fast", async (t) => {
	const chat = await Chat.open(t, { chat: "max_streams = 3\n" +
	    "max_streams_per_owner = 2",
	    rest: 'livekit {\nurl = "wss://livekit.example"\n' +
	    'api_key = "env:LIVEKIT_API_KEY"\n' +
	    'api_secret = "env:LIVEKIT_API_SECRET"\n}\n' });
	const mine = [chat.send("endless per_s=20"),
	    chat.send("endless per_s=20")];
	for (const stream of mine)
		await stream.event("assistant_delta");
	const own = await chat.send("").over();
	assert.equal(own.status, 429);
	assert.equal(own.find("assistant_error").code, "TOO_MANY_STREAMS");
	const other = chat.send("endless per_s=20", {}, { anon: OTHER });
	await other.event("assistant_delta");
	const full = await chat.send("", {}, { anon: "visitor-0003" }).over();
	assert.equal(full.status, 503);
	assert.ok(Number(full.head.get("retry-after")) > 0);
	const from = performance.now();
	const token = await request(chat.site.broker_sock, "POST",
	    "/api/livekit/token", { body: "{}",
		headers: { "Content-Type": "application/json" } });
	assert.ok(token.status < 300, token.body);
	assert.ok(performance.now() - from < 10000);
	assert.equal((await chat.vendor()).calls, 3);
	// a chat has one answer at a time
	const { chat_id } = mine[0].find("assistant_typing");
	await chat.post("stop", { chat_id:
	    mine[1].find("assistant_typing").chat_id });
	await mine[1].over(); // its place is free then
	const busy = await chat.send("", { chat_id }).over();
	assert.equal(busy.status, 409);
});

const faults = [
	["reset after=2", "UPSTREAM_ERROR", "1 2 "],
	["cut after=2", "UPSTREAM_ERROR", "1 2 "],
	["error after=2", "UPSTREAM_ERROR", "1 2 "],
	["bad-json after=2", "UPSTREAM_ERROR", "1 2 "],
	["bad-utf8 after=2", "UPSTREAM_ERROR", "1 2 "],
	["silence after=2", "UPSTREAM_TIMEOUT", "1 2 "],
	["delay ms=30000", "UPSTREAM_TIMEOUT", ""],
	["html", "UPSTREAM_ERROR", ""],
	["html-200", "UPSTREAM_ERROR", ""],
	["garbage", "UPSTREAM_ERROR", ""],
	["drop", "UPSTREAM_ERROR", ""],
	["401", "UPSTREAM_ERROR", ""],
	["429-usage", "UPSTREAM_RATE_LIMITED", ""],
	["500", "UPSTREAM_ERROR", ""],
	["type=text/plain", "UPSTREAM_ERROR", ""],
];
const logged = {
	"401": /chat\.key_refused .*status=401 code=invalid_api_key /,
	"429-usage": /chat\.upstream_refused .*status=429 code=\w{3,} param=-/,
	"500": /chat\.upstream_refused .*status=500 code=\w{3,} param=-/,
	"html": /chat\.upstream_refused .*status=502 code=- param=-/,
};
for (const [knobs, code, text] of faults)
	test(`a vendor's fault is an error of ours: ${knobs}`, async (t) => {
		const chat = await Chat.open(t, { chat: "first_timeout = 1\n" +
		    "idle_timeout = 1" });
		const stream = await chat.send(`count=9 ${knobs}`).over();
		const error = stream.find("assistant_error");

		assert.equal(stream.status, 200);
		assert.equal(error?.code, code, stream.body);
		assert.equal(stream.text(), text);
		assert.doesNotMatch(error.error, /sim|[{}<>]/);
		const { chat_id } = stream.find("assistant_typing");
		const [, stored] = await chat.messages(chat_id);
		assert.equal(stored.status, "failed");
		assert.equal(stored.content, text);
		assert.equal(error.message_id, stored.id);
		if (logged[knobs])
			await chat.broker.wait_for(logged[knobs]);
		await until(async () => (await chat.vendor()).open === 0,
		    "the call is over");
		// and the chat goes on
		const next = await chat.send("count=1", { chat_id }).over();
		assert.equal(next.text(), "1 ");
	});

for (const knobs of ["no-done", "no-finish", "no-usage", "comments",
    "piece=7"])
	test(`a vendor may do it its way: ${knobs}`, async (t) => {
		const chat = await Chat.open(t);
		const stream = await chat.send(`count=9 ${knobs}`).over();
		const complete = stream.find("assistant_complete");

		assert.equal(complete?.message.status, "complete", stream.body);
		assert.equal(stream.text(), "1 2 3 4 5 6 7 8 9 ");
		// from the vendor, or from the bytes
		assert.equal(complete.usage.completion_tokens,
		    knobs === "no-usage" ? 5 : 9);
	});

test("an answer may be no longer than configured", async (t) => {
	const chat = await Chat.open(t, { chat: "answer_bytes = 1024" });
	const stream = await chat.send("endless per_s=0 bytes=100").over();

	assert.equal(stream.find("assistant_error").code, "ANSWER_TOO_LARGE");
	assert.ok(stream.text().length <= 1024 && stream.text().length > 900);
	await until(async () => (await chat.vendor()).open === 0, "no call");
});

test("nobody listens: it goes on for a while", async (t) => {
	const chat = await Chat.open(t, { chat: "detach_timeout = 2" });
	const stream = chat.send("count=30 per_s=30");
	await stream.event("assistant_delta", 2);
	const { chat_id } = stream.find("assistant_typing");
	const id = stream.last_id();
	stream.leave();
	const back = await chat.resume(`?chat_id=${chat_id}`, id).over();

	assert.equal(back.find("assistant_complete").message.status, "complete");
	assert.equal(back.events[0].id, id.replace(/\d+$/,
	    (n) => String(Number(n) + 1)));

	const gone = chat.send("endless per_s=30");
	await gone.event("assistant_delta", 2);
	const { chat_id: other } = gone.find("assistant_typing");
	gone.leave();
	await chat.broker.wait_for(/chat\.nobody_came_back/);
	await until(async () => (await chat.vendor()).open === 0, "no call");
	const stored = await until(async () => {
		const [, answer] = await chat.messages(other);
		return answer.status === "stopped" && answer;
	}, "the end is written");
	assert.match(stored.content, /^1 2 3 /);
	assert.ok(stored.usage.completion_tokens > 0);
});

test("silence is filled with comments", async (t) => {
	const chat = await Chat.open(t, { chat: "heartbeat = 1" });
	const stream = chat.send("delay ms=60000");
	await stream.until((s) => s.comments >= 2, "two comments");
	assert.deepEqual(stream.names(), ["assistant_typing"]);
	await chat.post("stop", {});
});

test("a broker that was killed has kept what it had", async (t) => {
	const chat = await Chat.open(t);
	const stream = chat.send("endless per_s=50");
	await stream.event("assistant_delta", 40);
	const { chat_id, message_id } = stream.find("assistant_typing");
	const id = stream.events[3].id;
	await chat.restart("SIGKILL");

	const [question, answer] = await chat.messages(chat_id);
	assert.equal(question.content, "/sim endless per_s=50");
	assert.equal(answer.id, message_id);
	assert.equal(answer.status, "interrupted");
	// but for what the last quarter of a second has brought
	assert.match(answer.content, /^1 2 3 (\d+ )*$/);
	assert.ok(answer.content.split(" ").length > 15, answer.content);
	assert.ok(answer.usage.completion_tokens > 0);
	await chat.broker.wait_for(/chat\.recovered/);
	const back = await chat.resume("", id).over();
	assert.equal(back.find("assistant_error").code, "INTERRUPTED");
	const numbers = back.events.map((e) => Number(e.id.split(".")[1]));
	assert.equal(numbers[0], 5);
	numbers.forEach((n, i) => assert.equal(n, 5 + i));
	// once
	await chat.restart("SIGKILL");
	assert.doesNotMatch(chat.broker.output, /chat\.recovered/);
	const again = await chat.stream("POST", "regenerate",
	    { body: { chat_id, model: "gpt-4o" } });
	await again.event("assistant_delta");
	await chat.post("stop", { chat_id });
});

test("a broker that ends tells its readers, and writes all", async (t) => {
	const chat = await Chat.open(t);
	const stream = chat.send("endless per_s=50");
	await stream.event("assistant_delta", 10);
	const { chat_id } = stream.find("assistant_typing");
	const stopped = chat.broker.stop();
	await stream.over();
	assert.equal((await stopped).code, 0);
	assert.equal(stream.find("assistant_error").code, "RESTARTING");
	await chat.start();
	const [, answer] = await chat.messages(chat_id);
	assert.equal(answer.status, "interrupted");
	assert.equal(answer.content, stream.text());
	assert.doesNotMatch(chat.broker.output, /chat\.recovered/);
});

// A token costs a micro-unit, in or out.
const paid = {
	chat: "max_output_tokens = 1000",
	rest: 'users { secret = "env:USER_SECRET" }\n' +
	    'prices "*" { input_text = "1" output_text = "1" }\n',
};

test("a broker ends though nobody reads", async (t) => {
	const chat = await Chat.open(t);
	const big = "per_s=0 bytes=9000";
	const stream = await chat.send(`count=100 ${big}`).over();
	const readers = [chat.resume("", stream.events[0].id),
	    chat.send(`count=100 ${big}`), chat.send("count=600 per_s=20")];
	for (const reader of readers)
		reader.socket.pause();
	await until(() => chat.broker.output.match(/chat\.end/g).length === 2 &&
	    readers.every((reader) => reader.socket.bytesRead > 0),
	    "all have begun");

	await chat.broker.stop();
});

test("users pay what the vendor says, and no more than they have",
    async (t) => {
	const chat = await Chat.open(t, paid);
	const headers = chat.user("ann");
	const poor = await chat.send("count=3", {}, { headers }).over();

	assert.equal(poor.status, 402);
	assert.equal(poor.find("assistant_error").code, "INSUFFICIENT_BALANCE");
	assert.equal((await chat.vendor()).calls, 0);
	await chat.ctl("topup", "ann", "0.001500");
	// one reservation fits, whoever comes first
	const both = [chat.send("count=3 per_s=20", {}, { headers }),
	    chat.send("count=3 per_s=20", {}, { headers })];
	for (const stream of both)
		await stream.over();
	assert.deepEqual(both.map((s) => s.status).sort(), [200, 402]);
	const stream = both.find((s) => s.status === 200);
	const { usage } = stream.find("assistant_complete");
	const left = 1500 - usage.total_tokens;
	assert.equal(Number(stream.find("usage_info").balance_micro), left);
	let account = await chat.account("ann");
	assert.equal(Number(account.balance_micro), left);
	assert.equal(Number(account.reserved_micro), 0);
	// what the vendor refuses is free
	const failed = await chat.send("401", {}, { headers }).over();
	assert.equal(failed.find("assistant_error").code, "UPSTREAM_ERROR");
	assert.equal(Number((await chat.account("ann")).balance_micro), left);
	// what is stopped is not
	const endless = chat.send("endless per_s=50", {}, { headers });
	await endless.event("assistant_delta", 5);
	account = await chat.account("ann");
	assert.ok(Number(account.reserved_micro) > 1000);
	assert.equal((await chat.post("stop", {}, { headers }))
	    .json.stopped, true);
	await endless.over();
	const cost = endless.find("assistant_complete").usage.total_tokens;
	account = await chat.account("ann");
	assert.equal(Number(account.balance_micro), left - cost);
	assert.equal(Number(account.reserved_micro), 0);
	assert.match(await chat.ctl("balance", "ann"), /ann/);
});

test("a death is charged once", async (t) => {
	const chat = await Chat.open(t, paid);
	const headers = chat.user("bob");
	await chat.ctl("topup", "bob", "0.002000");
	const stream = chat.send("endless per_s=50", {}, { headers });
	await stream.event("assistant_delta", 40);
	const { chat_id } = stream.find("assistant_typing");
	await chat.restart("SIGKILL");
	const account = await chat.account("bob");
	const answer = await request(chat.site.broker_sock, "GET",
	    `/api/v1/chats/${chat_id}/messages`, { headers });
	const { usage } = answer.json.messages[1];

	assert.ok(usage.total_tokens > 10);
	assert.equal(Number(account.balance_micro), 2000 - usage.total_tokens);
	assert.equal(Number(account.reserved_micro), 0);
	await chat.restart("SIGKILL");
	assert.deepEqual(await chat.account("bob"), account);
});

// Hold the store's lock, as a backup or an operator may; returns what lets go.
async function lock(chat) {
	const part = chat.site.start("sqlite3", ["sqlite3",
	    chat.site.file("c.db")], { stdio: ["pipe"] });
	part.child.stdin.write("PRAGMA busy_timeout = 5000;\n" +
	    "BEGIN IMMEDIATE;\nSELECT 'lock' || 'ed';\n");
	await part.wait_for(/locked/);
	return async () => {
		part.child.stdin.end("ROLLBACK;\n");
		await part.exited;
	};
}

test("a store that is locked refuses what begins, and loses nothing",
    async (t) => {
	const chat = await Chat.open(t);
	const stream = chat.send("endless per_s=50");
	await stream.event("assistant_delta", 5);
	const { chat_id } = stream.find("assistant_typing");
	const unlock = await lock(chat);
	const refused = await chat.send("", {}, { anon: OTHER }).over(20000);

	assert.equal(refused.status, 503);
	assert.equal(refused.find("assistant_error").code, "unavailable");
	assert.ok(Number(refused.head.get("retry-after")) > 0);
	assert.equal((await chat.vendor()).calls, 1);
	// what runs goes on
	const so_far = stream.events.length;
	await stream.until((s) => s.events.length > so_far + 10, "more deltas");
	await chat.broker.wait_for(/chat\.store_away/);
	const stopped = chat.post("stop", { chat_id });
	await until(async () => (await chat.vendor()).open === 0,
	    "the vendor's call has ended");
	assert.ok(!stream.names().includes("assistant_complete"));
	assert.doesNotMatch(chat.broker.output, /chat\.end /);
	await unlock();
	await chat.broker.wait_for(/chat\.end .*state=stopped/);
	assert.equal((await stopped).json.stopped, true);
	await stream.over();
	assert.equal(stream.find("assistant_complete").message.content,
	    stream.text());
	assert.equal((await chat.messages(chat_id))[1].content, stream.text());
}, { timeout: 60000, skip: needs("sqlite3") });

test("an end that cannot be saved is told, and saved later", async (t) => {
	const chat = await Chat.open(t);
	const stream = chat.send("count=20 per_s=20");
	await stream.event("assistant_delta", 5);
	const { chat_id } = stream.find("assistant_typing");
	const unlock = await lock(chat);
	await stream.over(30000);

	assert.equal(stream.find("assistant_error").code, "STORE_UNAVAILABLE");
	// it has the last one's id, so that what is missing can be asked for
	assert.equal(stream.events.at(-1).id, stream.events.at(-2).id);
	const stop = chat.post("stop", { chat_id });
	await unlock();
	// what has come to its end is not stopped any more
	assert.equal((await stop).json.stopped, false);
	await chat.broker.wait_for(/chat\.store_back/);
	const late = await until(async () => {
		const reader = await chat.resume("", stream.last_id()).over();
		return reader.find("assistant_complete");
	}, "the end is saved");
	assert.equal(late.message.content, stream.text());
	assert.equal((await chat.messages(chat_id))[1].status, "complete");
}, { timeout: 60000, skip: needs("sqlite3") });

test("what could not be saved is logged once, with what was charged",
    async (t) => {
	const chat = await Chat.open(t, paid);
	const headers = chat.user("eve");
	const left = async () =>
	    Number((await chat.account("eve")).balance_micro);
	await chat.ctl("topup", "eve", "0.002000");
	const saved = await chat.send("count=3", {}, { headers }).over();
	const before = await left();
	await chat.broker.wait_for(new RegExp("chat\\.end generation=" +
	    saved.find("assistant_typing").generation_id +
	    ` state=complete .*charge=${2000 - before}\\n`));

	const lost = chat.send("count=20 per_s=20", {}, { headers });
	await lost.event("assistant_delta", 10);
	const { generation_id } = lost.find("assistant_typing");
	const unlock = await lock(chat);
	await lost.over(30000);
	assert.equal(lost.find("assistant_error").code, "STORE_UNAVAILABLE");
	chat.broker.may_fail = true;
	await chat.broker.stop("SIGKILL");
	const { output } = chat.broker;
	await unlock();
	await chat.start();
	assert.ok(!output.includes(`chat.end generation=${generation_id}`));
	await chat.broker.wait_for(new RegExp("chat\\.recovered generation=" +
	    `${generation_id} .*charge=${before - await left()}\\n`));
}, { timeout: 60000, skip: needs("sqlite3") });

test("a disk that is full refuses what begins, and loses nothing",
    async (t) => {
	const chat = await Chat.open(t);
	const stream = chat.send("endless per_s=50");
	await stream.event("assistant_delta", 5);
	const { chat_id } = stream.find("assistant_typing");
	const limit = (bytes) => run(["prlimit", "--pid",
	    String(chat.broker.pid), `--fsize=${bytes}`]);
	await limit("4096:unlimited");
	const refused = await chat.send("", {}, { anon: OTHER }).over(20000);

	assert.equal(refused.status, 503, refused.body);
	await chat.broker.wait_for(/chat\.store_away/);
	const so_far = stream.events.length;
	await stream.until((s) => s.events.length > so_far + 10, "more deltas");
	await limit("unlimited:unlimited");
	await chat.broker.wait_for(/chat\.store_back/);
	assert.equal((await chat.post("stop", { chat_id })).json.stopped, true);
	await stream.over();
	assert.equal((await chat.messages(chat_id))[1].content, stream.text());
	assert.equal((await chat.send("", {}, { anon: OTHER }).over()).status,
	    200);
}, { timeout: 60000, skip: needs("prlimit") });

test("a visitor's chat that nobody comes back to is forgotten",
    async (t) => {
	const chat = await Chat.open(t);
	const chats = [];
	for (let i = 0; i < 2; i++)
		chats.push((await chat.send().over())
		    .find("assistant_typing").chat_id);
	const age = (id, days) => run(["sqlite3", chat.site.file("c.db"),
	    "PRAGMA busy_timeout = 5000; UPDATE chat SET updated = updated - " +
	    `${days * 86400000} WHERE id = '${id}'`]);
	assert.equal((await age(chats[0], 29)).code, 0);
	assert.equal((await age(chats[1], 31)).code, 0);
	await chat.restart("SIGTERM");
	const left = await until(async () => {
		const answer = await request(chat.site.broker_sock, "GET",
		    "/api/v1/chats", { headers: { "x-anon-id": ANON } });
		return answer.json.total < 2 && answer.json;
	}, "it is forgotten");
	assert.deepEqual(left.chats.map(({ id }) => id), [chats[0]]);
	assert.equal((await chat.messages(chats[0])).length, 2);
}, { skip: needs("sqlite3") });

test("the test streams", async (t) => {
	const chat = await Chat.open(t);
	for (const method of ["GET", "POST"]) {
		const stream = await chat.stream(method, "test-sse").over();
		assert.deepEqual(stream.names(),
		    [...Array(5).fill("test_message"), "test_complete"]);
		assert.equal(stream.events[1].data.counter, 2);
		assert.ok(stream.events[4].at - stream.events[0].at > 400);
	}
});
