// SPDX-License-Identifier: MIT
// The chat with the clients that sites use: socket.io-client, eventsource and
// eventsource-parser, unmodified, through each web server.
import assert from "node:assert/strict";

import { needs, until } from "../lib/harness.mjs";
import { MODEL, chat_site, ctl, post, say, signed_in, visitor }
	from "../lib/chat.mjs";
import { NAMES } from "../lib/servers.mjs";
import { deadline, test } from "../lib/tap.mjs";
import { need_packages, need_simulator } from "./lib/setup.mjs";

need_simulator();
need_packages("eventsource", "eventsource-parser", "socket.io-client");

const { io } = await import("socket.io-client");
const { EventSource } = await import("eventsource");
const { EventSourceParserStream } = await import("eventsource-parser/stream");

// Events of what can be taken up again have an offset at their end.
const ECHO = "echo = true";

const TRANSPORTS = {
	"default transports": {},
	"polling alone": { transports: ["polling"] },
	"WebSocket alone": { transports: ["websocket"] },
};

// All arguments of an event; and the first, behind which there may be an offset.
const all_of = (emitter, event, ms = 10000) => deadline(
    new Promise((resolve) => emitter.once(event, (...args) => resolve(args))),
    ms, `event ${event}`);
const once = async (...args) => (await all_of(...args))[0];

const emit = (socket, ...args) => deadline(new Promise((resolve) =>
    socket.emit(...args, resolve)), 10000, `the ack of ${args[0]}`);

// A socket of a Manager of its own, which ends with the test.
function open(t, url, options = {}) {
	const socket = io(url, { forceNew: true, reconnectionDelay: 200,
	    ...options });
	t.after(() => socket.disconnect());
	return socket;
}

async function connect(t, url, options) {
	const socket = open(t, url, options);
	await deadline(new Promise((resolve, reject) => {
		socket.once("connect", resolve);
		socket.once("connect_error", reject);
	}), 10000, "connect");
	return socket;
}

// In /chats, with the usage_info that comes at once.
async function join(t, base, auth, options) {
	const socket = open(t, `${base}/chats`, { ...options, auth });
	const usage = once(socket, "usage_info");
	await once(socket, "connect");
	return { socket, usage: await usage };
}

const transport = (socket) => socket.io.engine.transport.name;

// ---- Socket.IO ----

async function upgraded(socket, name) {
	if (name === "default transports")
		await until(() => transport(socket) === "websocket",
		    "it is upgraded");
	else
		assert.equal(transport(socket), TRANSPORTS[name].transports[0]);
}

async function manage(t, { base, token }, name) {
	const { socket, usage } = await join(t, base,
	    { token: token(`user of ${name}`) }, TRANSPORTS[name]);
	assert.equal(usage.kind, "user");
	await upgraded(socket, name);

	const listed = once(socket, "chats_list");
	socket.emit("list_chats", { page: 0, limit: 20 });
	assert.deepEqual(await listed,
	    { chats: [], page: 0, limit: 20, total: 0 });

	const created = once(socket, "chat_created");
	const { chat } = await emit(socket, "create_chat", { title: "Žižka" });
	assert.equal(chat.title, "Žižka");
	assert.deepEqual((await created).chat, chat);
	const updated = once(socket, "chat_updated");
	await emit(socket, "rename_chat", { chat_id: chat.id, title: "Jan" });
	assert.equal((await updated).chat.title, "Jan");
	const messages = once(socket, "messages_list");
	socket.emit("list_messages", { chat_id: chat.id, page: 0, limit: 20 });
	assert.deepEqual((await messages).messages, []);
	const { total } = await emit(socket, "list_chats", { page: 0 });
	assert.equal(total, 1);
	const refused = await emit(socket, "list_messages", { chat_id: "none" });
	assert.equal(refused.error.code, "not_found");

	const closed = once(socket, "disconnect");
	socket.disconnect();
	assert.equal(await closed, "io client disconnect");
}

async function echo(t, { base }, name) {
	const socket = open(t, base, { ...TRANSPORTS[name],
	    auth: { token: "123" } });
	const auth = once(socket, "auth");
	await once(socket, "connect");
	assert.deepEqual(await auth, { token: "123" });
	await upgraded(socket, name);

	const sent = [1, "ž\u{1f600}", Buffer.from([0, 1, 255]),
	    { deep: [Buffer.alloc(70000, 7)] }];
	const back = all_of(socket, "message-back");
	socket.emit("message", ...sent);
	assert.deepEqual(await back, sent);
	const acked = await deadline(new Promise((resolve) => socket.emit(
	    "message-with-ack", ...sent, (...args) => resolve(args))), 10000,
	    "the ack");
	assert.deepEqual(acked, sent);

	// one connection, two namespaces
	const custom = socket.io.socket("/custom", { auth: { a: 1 } });
	const custom_auth = once(custom, "auth");
	custom.connect();
	assert.deepEqual(await custom_auth, { a: 1 });
	custom.disconnect();
	socket.disconnect();
}

async function refuse(t, { base, token }, name) {
	const why = async (url, auth) => {
		const socket = open(t, `${base}${url}`,
		    { ...TRANSPORTS[name], auth });
		const err = await once(socket, "connect_error");
		socket.disconnect();
		return err;
	};
	const bad = await why("/chats", { token: "a.b.c" });
	assert.equal(bad.data.code, "unauthorized");
	const old = await why("/chats", { token: token("u", { exp: 1 }) });
	assert.equal(old.data.code, "unauthorized");
	const unknown = await why("/nowhere");
	assert.equal(unknown.message, "Invalid namespace");
}

// What opens something to whoever reads it in a log: the site looks for these
// when the test ends.
async function say_secrets({ site, base }, sid) {
	const id = site.canary("visitor's id"), token = site.canary("token");
	site.canaries.set("sid", sid);
	for (const query of [`anon_id=${id}`, `x=1&token=${token}`]) {
		const answer = await fetch(
		    `${base}/api/v1/messages/stream?${query}`);
		await answer.text();
		assert.equal(answer.status, query.startsWith("x") ? 401 : 204);
	}
}

for (const front of NAMES)
	test(`socket.io-client, through ${front}`, async (t) => {
		const parts = await chat_site(t, { front, socketio: ECHO });
		const polling = await connect(t, parts.base,
		    TRANSPORTS["polling alone"]);
		await say_secrets(parts, polling.io.engine.id);
		for (const name of Object.keys(TRANSPORTS)) {
			await manage(t, parts, name);
			await echo(t, parts, name);
			await refuse(t, parts, name);
		}
	}, { timeout: 60000, skip: needs(front) });

test("socket.io-client is signed in by the site's cookie", async (t) => {
	const { base, token } = await chat_site(t,
	    { users: 'cookie = "session"' });
	// what a browser does of its own for { withCredentials: true }
	const from = (who) => ({ withCredentials: true,
		extraHeaders: { cookie: `session=${who}` } });

	for (const name of Object.keys(TRANSPORTS)) {
		const { socket, usage } = await join(t, base, undefined,
		    { ...TRANSPORTS[name], ...from(token("ann")) });
		assert.equal(usage.kind, "user");
		await upgraded(socket, name);
		const refused = open(t, `${base}/chats`, { ...TRANSPORTS[name],
			...from(token("ann", { exp: 1700000000 })) });
		const error = await once(refused, "connect_error");
		assert.equal(error.data.code, "unauthorized");
	}
}, { timeout: 30000 });

test("socket.io-client stays with polling where no WebSocket opens",
    async (t) => {
	const parts = await chat_site(t, { socketio: ECHO });
	await parts.tunnel.wait_for(/supervisor\.ready/);
	await parts.tunnel.stop();
	const socket = open(t, parts.base);
	await Promise.all([once(socket, "connect"),
	    once(socket.io.engine, "upgradeError")]);
	assert.equal(transport(socket), "polling");
	const back = all_of(socket, "message-back");
	socket.emit("message", "still", Buffer.from("here"));
	assert.deepEqual(await back, ["still", Buffer.from("here")]);
}, { timeout: 60000, skip: needs("lighttpd") });

for (const name of ["polling alone", "WebSocket alone"])
	test(`socket.io-client takes a lost connection up again, ${name}`,
	    async (t) => {
		const { base, token } = await chat_site(t);
		const who = token("ann");
		const { socket } = await join(t, base, { token: who },
		    TRANSPORTS[name]);
		assert.equal(socket.recovered, false);
		const { id } = socket;
		const heard = [];
		socket.on("chat_created", ({ chat }) => heard.push(chat.title));

		const lost = once(socket, "disconnect");
		// without a word to the server, as a network does it
		const { engine } = socket.io;
		engine.transport.onClose("lost");
		engine.transport.ws?.terminate();
		await lost;
		const made = await post(base, "/api/v1/chats", signed_in(who),
		    { title: "meanwhile" });
		assert.equal(made.status, 201);
		await once(socket, "connect");
		assert.equal(socket.recovered, true);
		assert.equal(socket.id, id);
		if (heard.length === 0)
			await once(socket, "chat_created");
		assert.deepEqual(heard, ["meanwhile"]);
	}, { timeout: 60000, skip: needs("lighttpd") });

test("socket.io-client comes back after a restart of the broker", async (t) => {
	const { broker, base, token, restart } = await chat_site(t);
	const sockets = [];
	for (const options of Object.values(TRANSPORTS))
		sockets.push(await connect(t, `${base}/chats`,
		    { ...options, auth: { token: token("bob") } }));
	const lost = sockets.map((socket) => once(socket, "disconnect"));
	assert.equal((await broker.stop()).code, 0);
	await Promise.all(lost);
	const back = sockets.map((socket) => once(socket, "connect", 20000));
	await restart();
	await Promise.all(back);
	for (const socket of sockets) {
		assert.equal(socket.recovered, false);
		assert.equal((await emit(socket, "list_chats", {})).total, 0);
	}
}, { timeout: 60000, skip: needs("lighttpd") });

test("messages, usage and limits come to the sockets, too", async (t) => {
	const { site, base, token } = await chat_site(t,
	    { anonymous: "messages = 1" });
	const who = token("carol");
	await ctl(site, "topup", "carol", "5", "--id", "t1");
	const { socket, usage } = await join(t, base, { token: who });
	assert.equal(usage.balance, "5.000000");
	const created = [];
	socket.on("message_created", (data) => created.push(data));
	const usages = [];
	socket.on("usage_info", (data) => usages.push(data));
	const said = await say(base, signed_in(who),
	    { chat_id: null, model: MODEL, content: "Hello" });
	assert.equal(said.status, 200);
	assert.match(said.text, /You said: Hello$/);
	const { messages } = await emit(socket, "list_messages",
	    { chat_id: said.complete.chat_id });
	assert.deepEqual(messages.map((m) => [m.role, m.content, m.status]), [
		["user", "Hello", "complete"],
		["assistant", said.text, "complete"],
	]);
	assert.ok(created.length >= 1);
	const left = usages.at(-1);
	assert.equal(left.reserved_micro, 0);
	assert.equal(5000000 - left.balance_micro,
	    said.complete.usage.total_tokens, "a micro-unit a token");

	// one message is what a visitor may send; the refusal comes both ways
	const id = "visitor-0001";
	const { socket: guest } = await join(t, base, { anon_id: id });
	assert.equal((await say(base, visitor(id), { content: "One" })).status,
	    200);
	const pushed = once(guest, "assistant_error");
	const over = await say(base, visitor(id), { content: "Two" });
	assert.equal(over.status, 429);
	assert.equal(over.error.code, "ANON_LIMIT_REACHED");
	assert.equal((await pushed).code, "ANON_LIMIT_REACHED");

	const poor = token("dave");
	const { socket: poor_socket } = await join(t, base, { token: poor });
	const told = once(poor_socket, "assistant_error");
	const refused = await say(base, signed_in(poor), { content: "Hello" });
	assert.equal(refused.status, 402);
	assert.equal(refused.error.code, "INSUFFICIENT_BALANCE");
	assert.equal((await told).code, "INSUFFICIENT_BALANCE");
}, { timeout: 60000, skip: needs("lighttpd") });

// ---- server-sent events ----

// Each delta's way from the vendor to the client, in milliseconds: the
// simulator's deltas say when they were sent, by the clock of this machine.
async function delays(base, id, count) {
	const answer = await post(base, "/api/v1/messages/send", visitor(id),
	    { content: `/sim per_s=25 count=${count} stamp` });
	assert.equal(answer.status, 200);
	const reader = answer.body.pipeThrough(new TextDecoderStream())
	    .pipeThrough(new EventSourceParserStream());
	const list = [];
	for await (const { event, data } of reader) {
		const now = process.hrtime.bigint();
		if (event !== "assistant_delta")
			continue;
		const [, sent] = /^\d+:(\d+) $/.exec(JSON.parse(data).delta);
		list.push(Number(now - BigInt(sent)) / 1e6);
	}
	assert.equal(list.length, count);
	return list;
}

for (const front of NAMES)
	test(`deltas come one by one, and at once, through ${front}`,
	    async (t) => {
		const { base } = await chat_site(t, { front });
		const runs = [];
		for (let i = 0; i < 3; i++)
			runs.push(await delays(base, `visitor-${i}xx`, 15));
		const sorted = (list) => [...list].sort((a, b) => a - b);
		const first = sorted(runs.map((run) => run[0]));
		const all = sorted(runs.flat());
		t.diag(`${front}: first delta ${first.map((ms) =>
		    ms.toFixed(1)).join(", ")} ms; all: median ` +
		    `${all[all.length >> 1].toFixed(1)}, most ` +
		    `${all.at(-1).toFixed(1)} ms`);
		// the machine may be busy; what gathers deltas is late always
		assert.ok(first[0] < 50, `first deltas: ${first}`);
		assert.ok(all[all.length >> 1] < 40,
		    `less than the pace: ${all}`);
	}, { timeout: 60000, skip: needs(front) });

test("eventsource attaches, loses the connection, and misses nothing",
    async (t) => {
	const { base, token } = await chat_site(t,
	    { sim_args: ["--pace", "40"], chat: "balance = false" });
	const who = signed_in(token("erin"));
	const words = Array.from({ length: 30 }, (_, i) => `w${i}`).join(" ");
	const sent = await post(base, "/api/v1/messages/send", who,
	    { content: words });
	let text = "", opened = 0, cut = false;
	const ids = [];
	const source = new EventSource(`${base}/api/v1/messages/send`, {
		fetch: async (url, init) => {
			opened++;
			cut = false;
			const answer = await fetch(url, { ...init,
			    headers: { ...init.headers, ...who } });
			return new Response(answer.body.pipeThrough(
			    new TransformStream({ transform(chunk, stream) {
				if (cut)
					stream.terminate();
				else
					stream.enqueue(chunk);
			    } })), answer);
		},
	});
	t.after(() => source.close());
	await deadline(new Promise((resolve) => {
		source.addEventListener("assistant_delta", (event) => {
			ids.push(event.lastEventId);
			text += JSON.parse(event.data).delta;
			cut ||= ids.length === 5; // what follows this chunk
		});
		source.addEventListener("assistant_complete", resolve);
	}), 30000, "assistant_complete");
	assert.match(text, new RegExp(`You said: ${words}$`));
	assert.equal(new Set(ids).size, ids.length, "no event twice");
	assert.equal(opened, 2);
	await sent.body.cancel();
}, { timeout: 60000, skip: needs("lighttpd") });

test("eventsource is told to stop where nothing runs", async (t) => {
	const { base } = await chat_site(t);
	const source = new EventSource(
	    `${base}/api/v1/messages/send?anon_id=visitor-9999`);
	t.after(() => source.close());
	const err = await deadline(new Promise((resolve) =>
	    source.addEventListener("error", resolve)), 10000, "an error");
	assert.equal(err.code, 204);
	assert.equal(source.readyState, source.CLOSED);
}, { timeout: 60000, skip: needs("lighttpd") });

test("test-sse counts, for a POST and for an EventSource", async (t) => {
	const { base } = await chat_site(t);
	const answer = await fetch(`${base}/api/v1/messages/test-sse`,
	    { method: "POST", headers: { "Content-Type": "application/json" } });
	assert.equal(answer.status, 200);
	const text = await answer.text();
	assert.match(text, /event: test_message\ndata: \{"counter":1,/);
	const source = new EventSource(`${base}/api/v1/messages/test-sse`);
	t.after(() => source.close());
	const counters = [];
	source.addEventListener("test_message", ({ data }) =>
		counters.push(JSON.parse(data).counter));
	const done = await deadline(new Promise((resolve) =>
	    source.addEventListener("test_complete", resolve)), 20000,
	    "test_complete");
	assert.equal(typeof JSON.parse(done.data).message, "string");
	assert.deepEqual(counters, counters.map((_, i) => i + 1));
	assert.ok(counters.length > 1);
}, { timeout: 60000, skip: needs("lighttpd") });
