// SPDX-License-Identifier: MIT
// Engine.IO as its clients meet it: polling over the FastCGI socket, WebSocket
// through the tunnel; statuses, codes and ends are npm engine.io's.
import assert from "node:assert/strict";
import fs from "node:fs";

import * as fcgi from "../lib/fcgi.mjs";
import { Site, table, until } from "../lib/harness.mjs";
import { OP, close_payload, frame } from "../lib/rawws.mjs";
import { test } from "../lib/tap.mjs";

const PATH = "/engine.io/";
const POLL = `${PATH}?EIO=4&transport=polling`;
const SOCKET = `${PATH}?EIO=4&transport=websocket`;
const TEXT = { "Content-Type": "text/plain;charset=UTF-8" };
const MESSAGES = ["Transport unknown", "Session ID unknown",
	"Bad handshake method", "Bad request", "Forbidden",
	"Unsupported protocol version"];

async function open(t, more = "", options = {}) {
	const site = await Site.open(t);
	const parts = await site.serve({ ...options,
		rest: `socketio {\necho = true\n${more}\n}\n` });
	await parts.tunnel.wait_for(/supervisor\.ready/);
	return { site, ...parts };
}

const get = (site, target, headers = {}) =>
	fcgi.request(site.broker_sock, "GET", target, { headers });

const post = (site, sid, body, headers = TEXT) =>
	fcgi.request(site.broker_sock, "POST", `${POLL}&sid=${sid}`,
	    { body, headers });

const poll = (site, sid) => get(site, `${POLL}&sid=${sid}`);

async function handshake(site) {
	const answer = await get(site, POLL);
	assert.equal(answer.status, 200);
	assert.equal(answer.body[0], "0");
	return JSON.parse(answer.body.slice(1));
}

function assert_refused(answer, code) {
	assert.equal(answer.status, 400, answer.body);
	assert.deepEqual(answer.json, { code, message: MESSAGES[code] });
}

async function assert_gone(site, sid) {
	assert_refused(await poll(site, sid), 1);
}

// A poll that waits: the broker's loop watches its connection.
async function hanging_poll(site, broker, sid) {
	const conn = await fcgi.Fcgi.dial(site.broker_sock);
	site.hanging = (site.hanging ?? 0) + 1;
	await conn.write(fcgi.begin(), fcgi.params(fcgi.environment("GET",
	    `${POLL}&sid=${sid}`)), fcgi.record(5));
	await until(() => count_parked(broker) === site.hanging,
	    "the poll is parked");
	const answer = conn.answer(60000);
	answer.catch(() => {}).then(() => site.hanging--);
	return { conn, answer };
}

// Connections to the FastCGI socket that an epoll of the broker's watches.
function count_parked(broker) {
	const connections = new Set(fs.readFileSync("/proc/net/unix", "latin1")
	    .split("\n").map((line) => line.trim().split(/\s+/))
	    .filter((word) => word[7]?.endsWith("broker.sock") &&
	        word[5] === "03")
	    .map((word) => `socket:[${word[6]}]`));
	const read = (how, what) => {
		try {
			return how(`/proc/${broker.pid}/${what}`);
		} catch {
			return ""; // it has gone meanwhile
		}
	};
	return fs.readdirSync(`/proc/${broker.pid}/fd`).filter((fd) =>
	    read(fs.readlinkSync, `fd/${fd}`).endsWith("[eventpoll]"))
	    .flatMap((fd) => [...read((file) => fs.readFileSync(file, "latin1"),
	        `fdinfo/${fd}`).matchAll(/tfd:\s*(\d+)/g)])
	    .filter(([, fd]) =>
	        connections.has(read(fs.readlinkSync, `fd/${fd}`))).length;
}

const ws = (site, target = SOCKET, headers = {}) =>
	site.connect(site.direct(), target, headers);

async function text_of(conn) {
	const message = await conn.message();
	assert.equal(message?.opcode, OP.text);
	return message.payload.toString();
}

async function ws_handshake(site) {
	const conn = await ws(site);
	const text = await text_of(conn);
	assert.equal(text[0], "0");
	return { conn, ...JSON.parse(text.slice(1)) };
}

test("a handshake says what a client has to know", async (t) => {
	const { site } = await open(t, "ping_interval_ms = 700\n" +
	    "ping_timeout_ms = 600\nmax_payload = 5000");
	const answer = await get(site, `${POLL}&t=abc`,
	    { Origin: "http://localhost" });

	assert.equal(answer.status, 200);
	assert.equal(answer.get("content-type"), "text/plain; charset=UTF-8");
	assert.equal(answer.get("cache-control"), "no-store");
	assert.equal(answer.get("access-control-allow-origin"),
	    "http://localhost");
	const { sid, ...rest } = JSON.parse(answer.body.slice(1));
	assert.match(sid, /^[\w-]{20}$/);
	assert.deepEqual(rest, { upgrades: ["websocket"], pingInterval: 700,
		pingTimeout: 600, maxPayload: 5000 });
	const socket = await ws_handshake(site);
	assert.deepEqual(socket.upgrades, []);
	assert.notEqual(socket.sid, sid);
});

test("what is no handshake is refused with npm's codes", async (t) => {
	const { site } = await open(t);
	const { sid } = await handshake(site);
	const rows = [
		["no EIO", "GET", "transport=polling", 5],
		["EIO=3", "GET", "EIO=3&transport=polling", 5],
		["EIO=04", "GET", "EIO=04&transport=polling", 5],
		["no transport", "GET", "EIO=4", 0],
		["transport=abc", "GET", "EIO=4&transport=abc", 0],
		["transport=", "GET", "EIO=4&transport=", 0],
		["webtransport", "GET", "EIO=4&transport=webtransport", 0],
		["unknown sid", "GET", "EIO=4&transport=polling&sid=abc", 1],
		["long sid", "GET", `EIO=4&transport=polling&sid=${sid}a`, 1],
		["POST without sid", "POST", "EIO=4&transport=polling", 2],
		["POST, unknown sid", "POST", "EIO=4&transport=polling&sid=x", 1],
		["PUT without sid", "PUT", "EIO=4&transport=polling", 2],
		["DELETE with sid", "DELETE",
		    `EIO=4&transport=polling&sid=${sid}`, 3],
		["HEAD without sid", "HEAD", "EIO=4&transport=polling", 2],
		["websocket without upgrade", "GET", "EIO=4&transport=websocket",
		    3],
		["other transport", "GET",
		    `EIO=4&transport=websocket&sid=${sid}`, 3],
		["other version", "GET", `EIO=3&transport=polling&sid=${sid}`, 3],
		["JSONP", "GET", "EIO=4&transport=polling&j=0", 3],
		["a parameter twice", "GET", "EIO=4&EIO=4&transport=polling", 3],
	];

	await table(rows, async (name, method, query, code) => {
		const answer = await fcgi.request(site.broker_sock, method,
		    `${PATH}?${query}`, { headers: TEXT,
			body: method === "POST" ? "4a" : undefined });
		if (method === "HEAD")
			assert.equal(answer.status, 400);
		else
			assert_refused(answer, code);
	});
	const upgrades = [
		["no EIO", "transport=websocket", 5],
		["EIO=3", "EIO=3&transport=websocket", 5],
		["no transport", "EIO=4", 0],
		["transport=abc", "EIO=4&transport=abc", 0],
		["polling", "EIO=4&transport=polling", 3],
		["unknown sid", "EIO=4&transport=websocket&sid=abc", 1],
		["other version", `EIO=3&transport=websocket&sid=${sid}`, 3],
	];
	await table(upgrades, async (name, query, code) => {
		const answer = await site.handshake(site.direct(),
		    `${PATH}?${query}`);
		answer.json = JSON.parse(answer.body);
		assert_refused(answer, code);
	});
	// none of it has touched the session
	assert.equal((await post(site, sid, "4a")).body, "ok");
	assert.equal((await fcgi.request(site.broker_sock, "GET", "/engine.io",
	    {})).status, 404);
});

test("who is not admitted gets no session", async (t) => {
	const { site } = await open(t);
	const foreign = { Origin: "https://elsewhere.example" };

	assert.equal((await get(site, POLL, foreign)).status, 403);
	assert.equal((await site.handshake(site.direct(), SOCKET,
	    foreign)).status, 403);
	assert.equal((await site.handshake(site.direct(), SOCKET,
	    { "X-Forwarded-For": "192.0.2.1" })).status, 403);
});

test("polling carries text and binary both ways", async (t) => {
	const { site, broker } = await open(t);
	const { sid } = await handshake(site);
	const ok = await post(site, sid, "4gr\u00fc\u00df\x1ebAQIDBA==");

	assert.equal(ok.status, 200);
	assert.equal(ok.get("content-type"), "text/html");
	assert.equal(ok.body, "ok");
	let answer = await poll(site, sid);
	assert.equal(answer.get("content-type"), "text/plain; charset=UTF-8");
	assert.equal(answer.body, "4gr\u00fc\u00df\x1ebAQIDBA==");
	// a poll waits for what comes, and two that come at once come together
	const waiting = await hanging_poll(site, broker, sid);
	assert.equal((await post(site, sid, "4a\x1e4b")).body, "ok");
	answer = await waiting.answer;
	assert.equal(answer.body, "4a\x1e4b");
	assert.equal((await post(site, sid, "4")).body, "ok");
	assert.equal((await poll(site, sid)).body, "4");
});

test("two requests of a kind at once end a session", async (t) => {
	const { site, broker } = await open(t);
	let { sid } = await handshake(site);
	const first = await hanging_poll(site, broker, sid);
	const second = await poll(site, sid);

	assert.equal(second.status, 400);
	const answer = await first.answer;
	assert.equal(answer.status, 200);
	assert.equal(answer.body, "1");
	await assert_gone(site, sid);

	({ sid } = await handshake(site));
	const waiting = await hanging_poll(site, broker, sid);
	const slow = await fcgi.Fcgi.dial(site.broker_sock);
	await slow.write(fcgi.begin(), fcgi.params(fcgi.environment("POST",
	    `${POLL}&sid=${sid}`, { ...TEXT, "Content-Length": "4" })));
	await slow.stdin("4h");
	// once its body is being read, and not before, another is too much
	const other = await until(async () => {
		const one = await post(site, sid, "3");
		return one.status !== 200 && one;
	}, "the slow request is being read");
	assert.equal(other.status, 400);
	assert.equal((await waiting.answer).body, "1");
	await slow.stdin("i!");
	await slow.stdin_end();
	assert_refused(await slow.answer(), 1);
});

test("a bad payload ends a session", async (t) => {
	const { site } = await open(t, "max_payload = 1000");
	const octets = { "Content-Type": "application/octet-stream" };
	const rows = [
		["no packet", "abc", TEXT],
		["empty", "", TEXT],
		["an unknown type", "7", TEXT],
		["an empty packet", "4a\x1e\x1e4b", TEXT],
		["a separator at the end", "4a\x1e", TEXT],
		["bad base64", "b!", TEXT],
		["not UTF-8", Buffer.from([0x34, 0xff]), TEXT],
		["a client's ping", "2", TEXT],
		["binary", "4a", octets],
		["another type", "4a", { "Content-Type": "image/png" }],
	];

	await table(rows, async (name, body, headers) => {
		const { sid } = await handshake(site);
		assert.equal((await post(site, sid, body, headers)).status, 400);
		await assert_gone(site, sid);
	});
});

test("a payload over the maximum is refused, and the session lives",
    async (t) => {
	const { site } = await open(t, "max_payload = 1000");
	const { sid } = await handshake(site);
	const message = `4${"x".repeat(900)}`;

	assert.equal((await post(site, sid, "4".padEnd(1001, "x"))).status, 413);
	assert.equal((await post(site, sid, message)).body, "ok");
	assert.equal((await post(site, sid, "4b")).body, "ok");
	assert.equal((await post(site, sid, message)).body, "ok");
	// an answer is not larger, either
	assert.equal((await poll(site, sid)).body, `${message}\x1e4b`);
	assert.equal((await poll(site, sid)).body, message);
});

test("a client that does not poll is not waited for without end",
    async (t) => {
	const { site, broker } = await open(t, "max_payload = 100000");
	const { sid } = await handshake(site);
	const message = "4".padEnd(100000, "x");
	let posts = 0;

	while ((await post(site, sid, message)).status === 200)
		assert.ok(++posts < 12, "a queue with a bound");
	assert.ok(posts >= 10);
	await broker.wait_for(/eio\.close .* reason="transport error"/);
	await assert_gone(site, sid);
});

test("a client closes its session by polling", async (t) => {
	const { site, broker } = await open(t);
	const { sid } = await handshake(site);
	const waiting = await hanging_poll(site, broker, sid);

	assert.equal((await post(site, sid, "1")).body, "ok");
	const answer = await waiting.answer;
	assert.equal(answer.status, 200);
	assert.equal(answer.body, "6");
	await assert_gone(site, sid);
	await broker.wait_for(/eio\.close .* reason="transport close"/);
	assert.ok(!broker.output.includes(sid), "the id is not in the log");

	// its last poll may come after it, and not a second one
	const other = await handshake(site);
	assert.equal((await post(site, other.sid, "4a\x1e1")).body, "ok");
	assert_refused(await post(site, other.sid, "4b"), 1);
	assert.equal((await poll(site, other.sid)).body, "6");
	await assert_gone(site, other.sid);
});

test("a client that hangs up on its poll has left", async (t) => {
	const { site, broker } = await open(t);
	const { sid } = await handshake(site);
	const waiting = await hanging_poll(site, broker, sid);

	waiting.conn.socket.destroy();
	waiting.answer.catch(() => {});
	await broker.wait_for(/eio\.close .* reason="transport error"/);
	await assert_gone(site, sid);
});

test("the server pings, and misses who does not answer", async (t) => {
	const { site, broker } = await open(t, "ping_interval_ms = 100\n" +
	    "ping_timeout_ms = 300");
	const { sid } = await handshake(site);

	for (let i = 0; i < 3; i++) {
		assert.equal((await poll(site, sid)).body, "2");
		assert.equal((await post(site, sid, "3")).body, "ok");
	}
	const { conn } = await ws_handshake(site);
	for (let i = 0; i < 3; i++) {
		assert.equal(await text_of(conn), "2");
		await conn.send_text("3");
	}
	assert.equal(await text_of(conn), "2");
	assert.equal((await conn.closed()).code, 0);
	await broker.wait_for(
	    /eio\.close .*ping timeout[\s\S]*eio\.close .*ping timeout/);
	await assert_gone(site, sid);
});

test("a poll after the time for a pong finds nobody, to the millisecond",
    async (t) => {
	const { site } = await open(t, "ping_interval_ms = 100\n" +
	    "ping_timeout_ms = 100");
	for (let i = 0; i < 10; i++) {
		const { sid } = await handshake(site);
		assert.equal((await poll(site, sid)).body, "2");
		const end = performance.now() + 101; // it was sent before
		await until(() => performance.now() >= end, "the time is over");
		await assert_gone(site, sid);
	}
});

test("a WebSocket carries text and binary both ways", async (t) => {
	const { site, broker } = await open(t);
	const { conn } = await ws_handshake(site);
	const data = Buffer.from([0, 1, 254, 255]);

	await conn.send_text("4hello");
	assert.equal(await text_of(conn), "4hello");
	await conn.send(OP.binary, data);
	const message = await conn.message();
	assert.equal(message.opcode, OP.binary);
	assert.deepEqual(message.payload, data);
	await conn.write(Buffer.concat([
		frame(OP.text, "4a", { fin: false }), frame(OP.ping, "p"),
		frame(OP.cont, "b", { fin: false }), frame(OP.cont, "c"),
	]));
	const pong = await conn.frame();
	assert.equal(pong.opcode, OP.pong);
	assert.equal(pong.payload.toString(), "p");
	assert.equal(await text_of(conn), "4abc");
	await conn.send_close(1000);
	assert.equal((await conn.closed()).code, 1000);
	await broker.wait_for(/eio\.close .* reason="transport close"/);
	await broker.wait_for(/lease\.end .* route=socket\.io .* code=1000/);
});

test("a bad frame or packet ends a WebSocket", async (t) => {
	const { site, broker } = await open(t, "max_payload = 1000");
	const rows = [
		["no packet", frame(OP.text, "abc"), 0],
		["an empty one", frame(OP.text, ""), 0],
		["a client's ping", frame(OP.text, "2"), 0],
		["a close packet", frame(OP.text, "1"), 0],
		["too large", frame(OP.text, "4".padEnd(1001, "x")), 1009],
		["too large in fragments", Buffer.concat([
			frame(OP.text, "4".padEnd(600, "x"), { fin: false }),
			frame(OP.cont, "x".repeat(600))]), 1009],
		["not UTF-8", frame(OP.text, Buffer.from([0x34, 0xff])), 1007],
		["RSV", frame(OP.text, "4a", { rsv: 4 }), 1002],
		["no mask", frame(OP.text, "4a", { mask: false }), 1002],
		["a bad close", frame(OP.close, close_payload(1005)), 1002],
	];

	await table(rows, async (name, bytes, code) => {
		const { conn, sid } = await ws_handshake(site);
		const from = broker.output.length;
		await conn.write(bytes);
		assert.equal((await conn.closed())?.code, code);
		await broker.wait_for(/eio\.close /, { from });
		await assert_gone(site, sid);
	});
});

test("polling becomes a WebSocket", async (t) => {
	const { site, broker } = await open(t);
	const { sid } = await handshake(site);
	const waiting = await hanging_poll(site, broker, sid);
	const conn = await ws(site, `${SOCKET}&sid=${sid}`);

	await conn.send_text("2probe");
	assert.equal(await text_of(conn), "3probe");
	// whoever polls is sent home, at once and later
	assert.equal((await waiting.answer).body, "6");
	assert.equal((await poll(site, sid)).body, "6");
	assert.equal((await poll(site, sid)).body, "6");
	// what is said by polling meanwhile comes over the WebSocket
	assert.equal((await post(site, sid, "4early")).body, "ok");
	const early = await poll(site, sid);
	assert.equal(early.body, "4early");
	assert.equal((await post(site, sid, "4waits")).body, "ok");
	await conn.send_text("5");
	assert.equal(await text_of(conn), "4waits");
	await conn.send_text("4hello");
	assert.equal(await text_of(conn), "4hello");

	// polling is over, and so is any other WebSocket
	assert_refused(await poll(site, sid), 3);
	assert_refused(await post(site, sid, "4a"), 3);
	const second = await ws(site, `${SOCKET}&sid=${sid}`);
	assert.equal((await second.closed()).code, 0);
	await conn.send_text("4still");
	assert.equal(await text_of(conn), "4still");
});

test("a poll that comes after its WebSocket is refused by the upgrade",
    async (t) => {
	const { site, broker } = await open(t);
	const { sid } = await handshake(site);
	const conn = await ws(site, `${SOCKET}&sid=${sid}`);
	const waiting = await hanging_poll(site, broker, sid);

	await conn.write(Buffer.concat([frame(OP.text, "2probe"),
	    frame(OP.text, "5"), frame(OP.text, "4a")]));
	assert_refused(await waiting.answer, 3);
	assert.equal(await text_of(conn), "3probe");
	assert.equal(await text_of(conn), "4a");
});

test("an upgrade that comes to nothing leaves polling as it was",
    async (t) => {
	const { site } = await open(t);
	const { sid } = await handshake(site);
	const rows = [
		["another message", (conn) => conn.send_text("4hello")],
		["no packet", (conn) => conn.send_text("probe")],
		["binary", (conn) => conn.send(OP.binary, "2probe")],
		["its close", (conn) => conn.send_close(1000)],
		["a bad frame", (conn) => conn.send(OP.text, "a", { rsv: 1 })],
	];

	await table(rows, async (name, act) => {
		const conn = await ws(site, `${SOCKET}&sid=${sid}`);
		await conn.send_text("2probe");
		assert.equal(await text_of(conn), "3probe");
		await act(conn);
		await conn.closed();
		assert.equal((await post(site, sid, `4${name}`)).body, "ok");
		assert.equal((await poll(site, sid)).body, `4${name}`);
	});
	// two at a time are one too many, whoever was first goes on
	const one = await ws(site, `${SOCKET}&sid=${sid}`);
	await one.send_text("2probe");
	assert.equal(await text_of(one), "3probe");
	const two = await ws(site, `${SOCKET}&sid=${sid}`);
	assert.equal((await two.closed()).code, 0);
	await one.send_text("5");
	await one.send_text("4hello");
	assert.equal(await text_of(one), "4hello");
});

test("there are no more sessions than may be", async (t) => {
	const { site, broker } = await open(t, "max_sessions = 1");
	const { sid } = await handshake(site);
	let answer = await get(site, POLL);

	assert.equal(answer.status, 503);
	assert.match(answer.get("retry-after"), /^\d+$/);
	answer = await site.handshake(site.direct(), SOCKET);
	assert.equal(answer.status, 503);
	assert.equal((await post(site, sid, "1")).body, "ok");
	assert.equal((await poll(site, sid)).body, "6");
	const { conn } = await ws_handshake(site);
	assert.equal((await get(site, POLL)).status, 503);
	conn.destroy();
	await broker.wait_for(/eio\.close .* path=\/engine\.io\/ [\s\S]*eio\.close /);
	await handshake(site);
});

test("one address does not shut out the others", async (t) => {
	const { site, broker } = await open(t, "max_sessions = 12\n" +
	    "max_sessions_per_address = 2\n", { access: 'clients = {"any"}\n' +
	    'origins = {"loopback"}\nmissing_origin = true' });
	const from = (address) => fcgi.request(site.broker_sock, "GET", POLL,
	    { env: { REMOTE_ADDR: address } });
	const socket_from = (address) => site.handshake({ ...site.direct(),
	    headers: { "X-Forwarded-For": address } }, SOCKET);

	// an address in another form, and another of the same network
	await table([
		["IPv4", "192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"],
		["IPv6", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"],
	], async (name, one, same, other) => {
		assert.equal((await from(one)).status, 200);
		assert.equal((await from(same)).status, 200);
		for (const address of [one, same]) {
			const answer = await from(address);
			assert.equal(answer.status, 429);
			assert.match(answer.get("retry-after"), /^\d+$/);
		}
		assert.equal((await socket_from(one)).status, 429);
		assert.equal((await from(other)).status, 200);
	});
	for (const local of ["127.0.0.1", "::1", "::1"])
		assert.equal((await from(local)).status, 200);
	// what has ended counts no more
	const last = await from("192.0.2.2");
	const { sid } = JSON.parse(last.body.slice(1));
	assert.equal((await from("192.0.2.2")).status, 429);
	assert.equal((await post(site, sid, "1")).body, "ok");
	await broker.wait_for(/eio\.close .*client=192\.0\.2\.2/);
	await until(async () => (await from("192.0.2.2")).status === 200,
	    "there is room again");
});

test("a tunnel that dies ends its session", async (t) => {
	const { site, broker } = await open(t);
	const { conn, sid } = await ws_handshake(site);
	const [, pid] = await broker.wait_for(/lease\.open .* pid=(\d+)\n/);

	process.kill(Number(pid), "SIGKILL");
	await broker.wait_for(/eio\.close .* reason="transport close"/);
	await broker.wait_for(/lease\.end .* cause=tunnel_lost/);
	await conn.over();
	await assert_gone(site, sid);
});

test("a stop says good-bye to all", async (t) => {
	const { site, broker } = await open(t);
	const { sid } = await handshake(site);
	const waiting = await hanging_poll(site, broker, sid);
	const { conn } = await ws_handshake(site);
	const status = await broker.stop();

	assert.deepEqual(status, { code: 0, signal: null });
	assert.equal((await waiting.answer).body, "1");
	assert.equal((await conn.closed()).code, 0);
	assert.match(broker.output,
	    /eio\.close .* reason="server shutting down"/);
});

test("a broker that dies ends its WebSockets", async (t) => {
	const { site, broker } = await open(t);
	const { conn } = await ws_handshake(site);

	broker.may_fail = true;
	broker.kill("SIGKILL");
	assert.equal((await conn.closed()).code, 1014);
});

test("polls that wait take no thread", async (t) => {
	const { site, broker } = await open(t);
	const threads = () =>
	    fs.readdirSync(`/proc/${broker.pid}/task`).length;
	const waiting = [];

	for (let i = 0; i < 100; i++)
		waiting.push(await hanging_poll(site, broker,
		    (await handshake(site)).sid));
	// those for requests, which may be starting still, and a few more
	assert.ok(threads() < 40, `${threads()} threads`);
	assert.equal((await fcgi.request(site.broker_sock, "GET", "/healthz"))
	    .status, 200);
	await broker.stop();
	for (const { answer } of waiting)
		assert.equal((await answer).body, "1");
});

test("a payload may have any number of packets", async (t) => {
	const { site } = await open(t);
	const { sid } = await handshake(site);
	const packets = Array.from({ length: 1000 }, (_, i) => `4${i}`);

	assert.equal((await post(site, sid, packets.join("\x1e"))).body, "ok");
	assert.equal((await poll(site, sid)).body, packets.join("\x1e"));
	// one that is bad ends what goes before, too
	packets.push("x");
	assert.equal((await post(site, sid, packets.join("\x1e"))).status, 400);
	await assert_gone(site, sid);
});
