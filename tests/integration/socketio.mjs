// SPDX-License-Identifier: MIT
// Socket.IO 5 as its document has it, spoken to the echo application:
// https://socket.io/docs/v4/socket-io-protocol/
import assert from "node:assert/strict";

import * as fcgi from "../lib/fcgi.mjs";
import { Site, table, until } from "../lib/harness.mjs";
import { OP } from "../lib/rawws.mjs";
import { test } from "../lib/tap.mjs";

const PATH = "/socket.io/";
const SEPARATOR = "\x1e";
const hole = (num) => `{"_placeholder":true,"num":${num}}`;

// Broker and tunnel with the echo application.  No client is late by chance
// with these times; the tests of time name shorter ones.
async function serve(t, keys = {}) {
	const site = await Site.open(t);
	const all = { ping_interval_ms: 25000, ping_timeout_ms: 20000,
	    connect_timeout_ms: 20000, echo: true, ...keys };
	const rest = `socketio {\n${Object.entries(all).map(([name, value]) =>
	    `${name} = ${value}\n`).join("")}}\n`;
	const parts = await site.serve({ rest });
	return { site, front: site.direct(), ...parts };
}

// ---- clients ----

// A client that polls.
class Poller {
	constructor({ site }) {
		this.site = site;
	}

	static async open(served) {
		const self = new Poller(served);
		const answer = await self.get();
		assert.equal(answer.status, 200);
		assert.equal(answer.body[0], "0");
		self.open = JSON.parse(answer.body.slice(1));
		self.sid = self.open.sid;
		return self;
	}

	target() {
		return `${PATH}?EIO=4&transport=polling` +
		    (this.sid ? `&sid=${this.sid}` : "");
	}

	get() {
		return fcgi.request(this.site.broker_sock, "GET", this.target());
	}

	post(body) {
		return fcgi.request(this.site.broker_sock, "POST",
		    this.target(), { body, headers: {
			"Content-Type": "text/plain;charset=UTF-8" } });
	}

	async send(...packets) {
		const answer = await this.post(packets.join(SEPARATOR));
		assert.equal(answer.status, 200);
		assert.equal(answer.body, "ok");
	}

	async poll() {
		const answer = await this.get();
		assert.equal(answer.status, 200, answer.body);
		return answer.body.split(SEPARATOR);
	}

	// What it is sent next, until there are so many.
	async expect(...packets) {
		const seen = [];
		while (seen.length < packets.length)
			seen.push(...await this.poll());
		assert.deepEqual(seen, packets);
	}

	// Connected to the main namespace.
	async connect() {
		await this.send("40");
		const packets = [];
		while (packets.length < 2)
			packets.push(...await this.poll());
		assert.match(packets[0], /^40\{"sid":"/);
		assert.equal(packets[1], '42["auth",{}]');
	}

	// The session is not there any more.
	async expect_gone() {
		await until(async () => (await this.post("4x")).status === 400,
		    "the session ends");
	}
}

// A client with a WebSocket.
class Socket {
	static async open(served, sid) {
		const self = new Socket();
		self.conn = await served.site.connect(served.front, PATH +
		    "?EIO=4&transport=websocket" + (sid ? `&sid=${sid}` : ""));
		if (!sid) {
			const [type, ...rest] = await self.next();
			assert.equal(type, "0");
			self.open = JSON.parse(rest.join(""));
		}
		return self;
	}

	send(packet) {
		return typeof packet === "string" ?
		    this.conn.send_text(packet) :
		    this.conn.send(OP.binary, packet);
	}

	// The next message: a string or a Buffer; null: it was closed.
	async next() {
		const message = await this.conn.message();
		if (message === null || message.opcode === OP.close)
			return null;
		return message.opcode === OP.text ?
		    message.payload.toString() : message.payload;
	}

	async expect(...messages) {
		for (const message of messages)
			assert.deepEqual(await this.next(), message);
	}

	// Closed, without an answer to an event before.
	async expect_closed() {
		for (let seen; (seen = await this.next()) !== null;)
			assert.ok(!/^4[36]|message-back/.test(seen), seen);
	}

	// Connected to a namespace; returns the CONNECT's payload.
	async connect(namespace = "/", auth = undefined) {
		const prefix = namespace === "/" ? "" : `${namespace},`;
		await this.send(`40${prefix}` +
		    (auth === undefined ? "" : JSON.stringify(auth)));
		const answer = await this.next();
		assert.ok(answer.startsWith(`40${prefix}{`), answer);
		const greeting = await this.next();
		assert.ok(greeting.startsWith(`42${prefix}["auth",` +
		    JSON.stringify(auth ?? {})), greeting);
		this.greeting = JSON.parse(greeting.slice(2 + prefix.length));
		return JSON.parse(answer.slice(2 + prefix.length));
	}
}

// ---- namespaces and events ----

test("a client connects to namespaces", async (t) => {
	const served = await serve(t);
	const socket = await Socket.open(served);
	const main = await socket.connect();
	assert.deepEqual(Object.keys(main), ["sid"]);
	assert.match(main.sid, /^[\w-]{20}$/);
	assert.notEqual(main.sid, socket.open.sid);
	const custom = await socket.connect("/custom",
	    { token: "123", deep: [{ a: null }] });
	assert.notEqual(custom.sid, main.sid);
	await socket.send("40/random");
	await socket.expect('44/random,{"message":"Invalid namespace"}');
	await socket.send('42["message","still"]');
	await socket.expect('42["message-back","still"]');
	const other = await Socket.open(served);
	await other.connect("/", { token: "abc" });
});

test("what a client may not say closes its connection", async (t) => {
	const served = await serve(t, { max_payload: 1000 });
	await table([
		["40", "40"], ["40/custom", "40/custom,{}"], ["4abc"],
		["40[]"], ['40"abc"'], ["40null"], ["40{"],
		["40", "42{}"], ["40", "42"], ["40", "42[]"], ["40", "42[1]"],
		["40", '42abc["message-with-ack",1]'],
		["40", '4299999999999999["message-with-ack",1]'],
		["40", '42["disconnect"]'], ["40", '42["connect_error"]'],
		["40", '42/custom,["message"]'], ['42["message"]'], ["41"],
		["40", "47"], ["40", '44{"message":"x"}'],
		["40", '450-["message"]'],
		["40", `4511-["message",${hole(0)}]`],
		["40", '451-["message"]', Buffer.from("x")],
		["40", `451-["message",${hole(1)}]`, Buffer.from("x")],
		["40", `451-["message",${hole(0)}]`, '42["message"]'],
		["40", Buffer.from("x")],
		["40", `451-["message",${hole(0)}]`, Buffer.alloc(1000)],
	], async (...packets) => {
		const socket = await Socket.open(served);
		for (const packet of packets)
			await socket.send(packet);
		await socket.expect_closed();
	});
});

test("who connects to no namespace in time is closed", async (t) => {
	const served = await serve(t, { connect_timeout_ms: 2000 });
	const start = performance.now();
	const socket = await Socket.open(served);
	const poller = await Poller.open(served);
	await poller.send("40/random");
	await poller.expect('44/random,{"message":"Invalid namespace"}');
	assert.deepEqual(await poller.poll(), ["1"]);
	assert.equal(await socket.next(), null);
	assert.ok(performance.now() - start >= 1990, "not before");
	await poller.expect_gone();
});

test("a client leaves a namespace, and stays in another", async (t) => {
	const served = await serve(t);
	const socket = await Socket.open(served);
	const { sid } = await socket.connect();
	await socket.connect("/custom");
	await socket.send("41/custom,");
	await socket.send('42["message","here"]');
	await socket.expect('42["message-back","here"]');
	await socket.connect("/custom");
	await socket.send("41");
	assert.notEqual((await socket.connect()).sid, sid);
	const poller = await Poller.open(served);
	await poller.send("40", "41");
	await poller.send("1");
	await poller.expect_gone();
});

test("events and acks bring every argument", async (t) => {
	const served = await serve(t);
	const values = JSON.stringify([1, "2", { 3: [false, null] }, -1.5,
	    "\u20ac\u{1f600}\n\"\\", [], {}]).slice(1, -1);
	const socket = await Socket.open(served);
	await socket.connect();
	await socket.send(`42["message",${values}]`);
	await socket.expect(`42["message-back",${values}]`);
	await socket.send(`42456["message-with-ack",${values}]`);
	await socket.expect(`43456[${values}]`);
	await socket.send('420["message-with-ack"]');
	await socket.expect("430[]");
	const poller = await Poller.open(served);
	await poller.connect();
	await poller.send(`42["message",${values}]`,
	    `421["message-with-ack",${values}]`);
	await poller.expect(`42["message-back",${values}]`,
	    `431[${values}]`);
});

test("binary arguments come back, from wherever they stand", async (t) => {
	const served = await serve(t);
	const [one, two] = [Buffer.from([1, 2, 3]), Buffer.alloc(70000, "x")];
	const args = `${hole(0)},{"a":[${hole(1)}]}`;
	const socket = await Socket.open(served);
	await socket.connect();
	await socket.send(`452-["message",${args}]`);
	await socket.send(one);
	await socket.send(two);
	await socket.expect(`452-["message-back",${args}]`, one, two);
	await socket.send(`452-789["message-with-ack",${args}]`);
	await socket.send(one);
	await socket.send(two);
	await socket.expect(`462-789[${args}]`, one, two);
	const poller = await Poller.open(served);
	await poller.connect();
	await poller.send(`452-["message",${args}]`, "bAQID", "bBA==");
	await poller.expect(`452-["message-back",${args}]`, "bAQID", "bBA==");
});

test("an upgrade in the middle of a packet loses nothing", async (t) => {
	const served = await serve(t);
	const poller = await Poller.open(served);
	await poller.connect();
	await poller.send(`451-["message",${hole(0)}]`);
	const socket = await Socket.open(served, poller.sid);
	await socket.send("2probe");
	await socket.expect("3probe");
	await socket.send("5");
	await socket.send(Buffer.from([1, 2, 3]));
	await socket.expect(`451-["message-back",${hole(0)}]`,
	    Buffer.from([1, 2, 3]));
});

// ---- connection state recovery ----

const RECOVERY = "/recovery";
const last = (event) => event[event.length - 1];
const plain = (packet) => packet.replace(`${RECOVERY},`, "");

test("a client that comes back is told what it missed", async (t) => {
	const served = await serve(t, { recovery_ms: 60000 });
	const socket = await Socket.open(served);
	const { sid, pid } = await socket.connect(RECOVERY);
	let offset = last(socket.greeting);
	assert.equal(typeof offset, "string");
	assert.notEqual(pid, sid);
	await socket.send(`42${RECOVERY},["message","seen"]`);
	offset = last(JSON.parse(plain(await socket.next()).slice(2)));
	const from = served.broker.output.length;
	await socket.send(`42${RECOVERY},["message","missed"]`);
	await socket.send(`451-${RECOVERY},["message",${hole(0)}]`);
	await socket.send(Buffer.from([1, 2, 3]));
	// it may have been sent, but nobody took it
	socket.conn.end();
	await served.broker.wait_for(/eio\.close /, { from });
	const again = await Socket.open(served);
	await again.send(`40${RECOVERY},${JSON.stringify({ pid, offset })}`);
	const missed = JSON.parse(plain(await again.next()).slice(2));
	assert.deepEqual(missed.slice(0, 2), ["message-back", "missed"]);
	assert.match(plain(await again.next()), /^451-\["message-back",\{/);
	assert.deepEqual(await again.next(), Buffer.from([1, 2, 3]));
	assert.equal(plain(await again.next()),
	    `40${JSON.stringify({ sid, pid })}`);
	// what the application says on every connect
	assert.match(plain(await again.next()), /^42\["auth",\{"pid"/);
	again.conn.destroy();
});

test("a client that comes back before its loss is known takes over",
    async (t) => {
	const served = await serve(t, { recovery_ms: 60000 });
	const old = await Socket.open(served);
	const { sid, pid } = await old.connect(RECOVERY);
	const offset = last(old.greeting);
	const again = await Socket.open(served);
	await again.send(`40${RECOVERY},${JSON.stringify({ pid, offset })}`);
	assert.equal(plain(await again.next()),
	    `40${JSON.stringify({ sid, pid })}`);
	await old.expect_closed();
	await again.next(); // the greeting
	await again.send(`42${RECOVERY},["message","here"]`);
	assert.match(plain(await again.next()), /^42\["message-back","here",/);
});

test("nobody comes back who has left, or is late, or is another",
    async (t) => {
	const served = await serve(t, { recovery_ms: 200 });
	const connect = async (auth) => {
		const socket = await Socket.open(served);
		return { socket, ...await socket.connect(RECOVERY, auth) };
	};
	const gone = await connect();
	await gone.socket.send(`41${RECOVERY},`);
	const offset = last(gone.socket.greeting);
	await connect({ pid: gone.pid, offset });
	await connect({ pid: "abc", offset });
	await connect({ pid: 1, offset: {} });
	const late = await connect();
	const from = served.broker.output.length;
	late.socket.conn.destroy();
	await served.broker.wait_for(/eio\.close /, { from });
	const end = performance.now() + 250;
	await until(() => performance.now() > end, "recovery_ms is over");
	const again = await connect({ pid: late.pid,
	    offset: last(late.socket.greeting) });
	assert.notEqual(again.sid, late.sid);
	assert.notEqual(again.pid, late.pid);
});

test("a broker that stops ends every session", async (t) => {
	const served = await serve(t);
	const poller = await Poller.open(served);
	await poller.connect();
	const waiting = poller.get();
	const socket = await Socket.open(served);
	await socket.connect();
	served.broker.kill();
	assert.equal(await socket.next(), null);
	await waiting;
	assert.equal((await served.broker.exited).code, 0);
});
