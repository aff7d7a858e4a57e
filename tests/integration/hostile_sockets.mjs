// SPDX-License-Identifier: MIT
// Bad input to what stays open, in tables: WebSocket handshakes and frames,
// Socket.IO, the control socket, and vendors that answer badly.  Every row
// says the right answer; what else has to hold is in lib/hostile.mjs.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import { CTL } from "../lib/chat.mjs";
import { SIM, builddir, needs, run } from "../lib/harness.mjs";
import { ANAM, INJECTED, SECRETS, SEND, Target } from "../lib/hostile.mjs";
import { OP, close_payload, frame } from "../lib/rawws.mjs";
import { FRONTS } from "../lib/servers.mjs";
import { skip_all, test } from "../lib/tap.mjs";

if (!fs.existsSync(SIM))
	skip_all("the simulator is not built; run deploy/check");

const PACKETS = path.join(builddir, "tests/lib/packets");
const REALTIME = "/v1/realtime?model=gpt-realtime";

// ---- D: handshakes ----

const ORIGINS = ["null", "https://evil.example", "http://localhost.evil",
    "http://evil-localhost", "http://localhost@evil.example",
    "https://evil.example/http://localhost", "http://127.0.0.1.evil.example",
    "file://", "*", "http://localhost, https://evil.example",
    "http://[::1", "http://2130706433.example", "javascript:alert(1)"];

const D = [
	...ORIGINS.map((origin) => [`origin "${origin}"`, (o) =>
	    o.handshake("/echo", { Origin: origin }), 403]),
	["an origin with CR", (o) => o.handshake("/echo",
	    { Origin: `http://localhost\r${INJECTED}: 1` }), [400, 403]],
	...["8", "1337", "-13", "13, 8", "013", "13.0", "", "0x0d"].map(
	    (version) => [`version "${version}"`, (o) => o.handshake("/echo",
	        { "Sec-WebSocket-Version": version }), [400, 426], (a) =>
	        assert.equal(a.get("sec-websocket-version"), "13")]),
	...["/", "/echo/", "/ECHO", "/echo/..", "/echo/.", "/echo%2f",
	    "/echo;x", "/echo%00", "/echo/../echo2", "/.git/config"].map(
	    (target) => [`target ${target}`, (o) => o.handshake(target),
	        [400, 403, 404]]),
	// which a web server may have made right before we see them
	...["//echo", "/ec%68o", "/x/../echo"].map((target) =>
	    [`target ${target}`, async (o) => {
		const answer = await o.handshake(target);
		assert.ok(answer.status >= 400 || o.where !== null);
		return answer;
	    }, [101, 400, 403, 404]]),
	["a host of the client's choice", (o) => o.handshake(
	    `/echo?url=ws://169.254.169.254/&${o.bait}=1`), [101, 400, 403]],
	["a vendor's host in the query", (o) => o.handshake(
	    "/ws?target_url=ws://169.254.169.254/latest"), [400, 403, 404]],
	["an engine's host in the query", (o) => o.handshake(
	    "/ws/proxy?engineHost=169.254.169.254&session_id=x"),
	    [400, 401, 403, 404]],
	["an engine of nobody's", (o) => o.handshake("/b/nobody/ws"),
	    [400, 401, 403, 404]],
	["a model that is not served", (o) => o.handshake(
	    "/v1/realtime?model=gpt-9"), 403],
	["two models", (o) => o.handshake(
	    "/v1/realtime?model=gpt-realtime&model=gpt-9"), [400, 403]],
	["a model with CR LF", (o) => o.handshake(
	    `/v1/realtime?model=x%0d%0a${INJECTED}:%201`), [400, 403]],
	["a model with a NUL", (o) => o.handshake(
	    "/v1/realtime?model=gpt-realtime%00"), [400, 403]],
	["65 parameters", (o) => o.handshake(`${REALTIME}${
	    Array.from({ length: 65 }, (_, i) => `&x${i}=1`).join("")}`),
	    [400, 403, 414, 431]],
	["a subprotocol nobody speaks", (o) => o.handshake(REALTIME,
	    { "Sec-WebSocket-Protocol": "chat" }), 400],
	["a subprotocol that is no word", (o) => o.handshake(REALTIME,
	    { "Sec-WebSocket-Protocol": "a/b" }), 400],
];

// A ticket route: a key that is none opens nothing.
const hs = (secret, head, body) => {
	const part = (v) => Buffer.from(JSON.stringify(v)).toString("base64url");
	const text = `${part(head)}.${part(body)}`;
	return `ek_${text}.${crypto.createHmac("sha256", secret).update(text)
	    .digest("base64url")}`;
};
const soon = () => Math.floor(Date.now() / 1000) + 300;
const KEYS = [
	["none at all", () => null],
	["a word", (o) => o.bait],
	["ek_ alone", () => "ek_"],
	["alg none", () => `ek_${Buffer.from('{"alg":"none"}')
	    .toString("base64url")}.e30.`],
	["signed with another key", () => hs("x".repeat(64),
	    { alg: "HS256", typ: "ticket+jwt" }, { iss: "culvert",
	        aud: "realtime:/ticketed", exp: soon(), jti: "x" })],
	["a user's token", (o) => o.token("ann")],
	["a user's token as a key", (o) => `ek_${o.token("ann")}`],
	["of another route", async (o) => (await o.fcgi("POST", SECRETS,
	    { body: "{}" })).json.value],
	["16 KiB", () => `ek_${"A".repeat(7000)}`],
];
const FORMS = [
	["a query", (key) => [`&ticket=${encodeURIComponent(key)}`, {}]],
	["a header", (key) => ["", { Authorization: `Bearer ${key}` }]],
	["an item", (key) => ["", { "Sec-WebSocket-Protocol":
	    `realtime, openai-insecure-api-key.${key}` }]],
];
const TICKETS = FORMS.flatMap(([form, make]) => KEYS.map(([name, key]) =>
    [`${name}, in ${form}`, async (o) => {
	const value = await key(o);
	const [query, headers] = value === null ? ["", {}] : make(value);
	return o.handshake(`/ticketed?model=gpt-realtime${query}`, headers);
    }, [400, 401, 431], (a) => assert.ok(!a.head.raw.includes("ek_"))]));

// ---- E: frames ----

// What a client says, and the code it is closed with.
const says = (target, bytes, ...codes) => async (o) => {
	const conn = await o.connect(target);
	conn.write(bytes).catch(() => {});
	const end = await conn.closed();
	assert.ok(codes.includes(end?.code), `${end?.code}, not ${codes}`);
	assert.ok(!end.reason.includes(o.bait));
	conn.destroy();
};
const text = (data, more) => frame(OP.text, data, more);

const E = [
	["no mask", says("/echo", text("x", { mask: false }), 1002)],
	...[1, 2, 4].map((rsv) => [`RSV ${rsv}`,
	    says("/echo", text("x", { rsv }), 1002)]),
	...[3, 7, 11, 15].map((op) => [`opcode ${op}`,
	    says("/echo", frame(op, "x"), 1002)]),
	["a ping of 126 bytes", says("/echo", frame(OP.ping, Buffer.alloc(126)),
	    1002)],
	["a fragmented ping", says("/echo", frame(OP.ping, "", { fin: false }),
	    1002)],
	["binary to a text route", says("/ws", frame(OP.binary, "x"), 1003)],
	["half a character", says("/ws", text(Buffer.from([0xe2, 0x82])), 1007)],
	["a lone continuation byte", says("/ws", text(Buffer.from([0x80])),
	    1007)],
	["an overlong NUL", says("/ws", text(Buffer.from([0xc0, 0x80])), 1007)],
	["a surrogate", says("/ws", text(Buffer.from([0xed, 0xa0, 0x80])),
	    1007)],
	["over U+10FFFF", says("/ws", text(Buffer.from([0xf4, 0x90, 0x80,
	    0x80])), 1007)],
	["a message over the maximum", says("/echo", text("x".repeat(65537)),
	    1009)],
	["a length that is a lie", says("/echo", text("", { length: 1 << 30 }),
	    1009)],
	["2^63 bytes", says("/echo", text("", { form: 64, length: 1n << 63n }),
	    1002, 1009)],
	["a close of one byte", says("/echo", frame(OP.close, "x"), 1002)],
	["a close with 1006", says("/echo", frame(OP.close, close_payload(1006)),
	    1002)],
	["a close with a bad reason", says("/echo", frame(OP.close,
	    Buffer.from([3, 232, 255])), 1007)],
	["a continuation of nothing", says("/echo", frame(OP.cont, "x"), 1002)],
	["a message in a message", says("/echo", Buffer.concat([
	    text("a", { fin: false }), text("b")]), 1002)],
];

// ---- G: Engine.IO and Socket.IO ----

const EIO = "/socket.io/?EIO=4&transport=";
const refuses = (code) => (a) => assert.equal(JSON.parse(a.body).code, code);
const polls = (query, code, method = "GET", more = {}) => [(o) =>
    o.fcgi(method, `/socket.io/?${query}`, more), 400, refuses(code)];

// A connected client that sends these, and is closed, or heard of no more.
const socket_says = (...packets) => async (o) => {
	const conn = await o.connect(`${EIO}websocket`);
	assert.equal((await conn.message()).payload[0], 0x30);
	for (const packet of packets)
		await conn.send(typeof packet === "string" ? OP.text : OP.binary,
		    packet).catch(() => {});
	for (;;) {
		const message = await conn.message();
		if (message === null || message.opcode === OP.close)
			break;
		assert.ok(!message.payload.includes(o.bait));
	}
	conn.destroy();
};
// The same, by polling: the payload is refused and the session gone.
const poll_says = (body, headers = { "Content-Type": "text/plain" },
    statuses = [400]) => async (o) => {
	const opened = await o.fcgi("GET", `${EIO}polling`);
	const { sid } = JSON.parse(opened.body.slice(1));
	const answer = await o.fcgi("POST", `${EIO}polling&sid=${sid}`,
	    { body, headers });
	assert.ok(statuses.includes(answer.status), `${answer.status}`);
	assert.equal((await o.fcgi("POST", `${EIO}polling&sid=${sid}`,
	    { body: "1", headers: { "Content-Type": "text/plain" } })).status,
	    answer.status === 413 ? 200 : 400);
};

const G = [
	["EIO absent", ...polls("transport=polling", 5)],
	["EIO=3", ...polls("EIO=3&transport=polling", 5)],
	["EIO=5", ...polls("EIO=5&transport=polling", 5)],
	["EIO=4x", ...polls("EIO=4x&transport=polling", 5)],
	["transport absent", ...polls("EIO=4", 0)],
	["transport=abc", ...polls("EIO=4&transport=abc", 0)],
	["transport=__proto__", ...polls("EIO=4&transport=__proto__", 0)],
	["sid unknown", ...polls("EIO=4&transport=polling&sid=AAAA", 1)],
	["sid of 4 KiB", ...polls(`EIO=4&transport=polling&sid=${
	    "A".repeat(4096)}`, 1)],
	["sid a path", ...polls("EIO=4&transport=polling&sid=../x", 1)],
	["a POST as handshake", ...polls("EIO=4&transport=polling", 2, "POST",
	    { body: "4x", headers: { "Content-Type": "text/plain" } })],
	["websocket without an upgrade",
	    ...polls("EIO=4&transport=websocket", 3)],
	["JSONP", ...polls("EIO=4&transport=polling&j=0", 3)],
	["binary by POST", poll_says("4x",
	    { "Content-Type": "application/octet-stream" })],
	["empty by POST", poll_says("")],
	["an unknown packet by POST", poll_says("9x")],
	["bad base64 by POST", poll_says("b!!!")],
	["not UTF-8 by POST", poll_says(Buffer.from([0x34, 0xff]))],
	["separators by POST", poll_says("\x1e\x1e")],
	["a packet type 9", socket_says("9")],
	["no packet", socket_says("")],
	["a message without a type", socket_says("4")],
	["a message of type 7", socket_says("47")],
	["an ack id that is text", socket_says("40", '42x["message"]')],
	["a huge ack id", socket_says("40",
	    `42${"9".repeat(40)}["message","x"]`)],
	["an event that is no list", socket_says("40", '42{"a":1}')],
	["an event that is empty", socket_says("40", "42[]")],
	["an event without a name", socket_says("40", "42[5]")],
	["an event that is half", socket_says("40", '42["x"')],
	["depth 5000", socket_says("40", `42["x",${"[".repeat(5000)}`)],
	["attachments without end", socket_says("40", '451000000-["x"]')],
	["an attachment nobody announced", socket_says("40",
	    Buffer.from("x"))],
	["text in place of an attachment", socket_says("40",
	    '451-["x",{"_placeholder":true,"num":0}]', '42["x"]')],
	["an attachment that is not there", socket_says("40",
	    '451-["x",{"_placeholder":true,"num":7}]', Buffer.from("x"))],
	["a CONNECT that is no JSON", socket_says("40{")],
	["a client's CONNECT_ERROR", socket_says("40", '44{"message":"x"}')],
	["a namespace without end", socket_says(`40/${"x".repeat(5000)},`)],
	["a client's ping", socket_says("2")],
];

// ---- H: the control socket ----

// A packet, and that its sender is dropped.
const packet = (...lines) => async (o) => {
	const { stdout } = await run([PACKETS, o.site.control_sock],
	    { input: `${lines.join("\n")}\n` });
	assert.ok(!stdout.includes(o.bait));
	assert.ok(!stdout.includes("grant"), stdout);
};
const open = (more) => JSON.stringify({ version: 1, type: "open",
    method: "GET", target: "/raw", headers: [], peer: "127.0.0.1", ...more });

const H = [
	["rubbish", packet("rubbish")],
	["half an object", packet('{"type":')],
	["a list", packet("[]")],
	["null", packet("null")],
	["no type", packet("{}")],
	["a type that is none", packet('{"type":"x"}')],
	["a type that is a number", packet('{"type":5}')],
	["a broker's word", packet('{"type":"grant"}')],
	["usage before open", packet('{"type":"usage"}')],
	["end before open", packet('{"type":"end"}')],
	["depth 20000", packet(`{"type":${"[".repeat(20000)}`)],
	["60 KiB", packet(`{"type":"${"x".repeat(60000)}"}`)],
	["not UTF-8", packet('{"type":"\xff"}')],
	["another version", packet(open({ version: 99 }))],
	["a method that is none", packet(open({ method: "G T" }))],
	["a target with CR LF", packet(open({ target: "/raw\r\nX: 1" }))],
	["headers that are none", packet(open({ headers: { a: 1 } }))],
	["a NUL", packet(open({ target: "/raw\0" }))],
	["one name twice", packet('{"type":"open","type":"open"}')],
	["a lease of nobody's", packet('{"type":"close","lease":"x"}')],
	["two words at once", packet('{"type":"x"}', '{"type":"y"}')],
];

// ---- I: vendors ----

const RAW = ["bad-accept", "no-accept", "no-upgrade", "no-connection",
    "half-head-eof", "eof-before-101", "reset-before-101", "garbage",
    "redirect", "http-html", "head-too-large", "extension-selected",
    "protocol-not-offered"];
const RAW_LATER = [["close-1006", 1002], ["close-1005", 1002],
    ["close-1015", 1002], ["rsv1", 1002], ["opcode3", 1002],
    ["masked", 1002], ["close-bad-utf8", 1007], ["len-huge", 1009],
    ["eof", 1014], ["reset", 1014]];
const I_CHAT = ["401", "403", "404", "429-usage", "500", "503", "html",
    "html-200", "garbage", "empty", "array", "drop", "error", "bad-json",
    "bad-utf8", "reset", "cut"];
const I_ANAM = ["401", "403", "404", "500", "503", "html", "html-200",
    "garbage", "empty", "array", "huge", "drop", "host-metadata",
    "host-private", "host-other", "host-userinfo", "host-empty"];

const not_raw = (a) => assert.doesNotMatch(a.body,
    /SIM-MARKER|<html|simulat|169\.254/i);

const I = [
	...RAW.map((name) => [`handshake: ${name}`, (o) =>
	    o.handshake(`/${name}`), 502, not_raw]),
	...RAW_LATER.map(([name, code]) => [`then: ${name}`, async (o) => {
		const conn = await o.connect(`/${name}`);
		assert.equal((await conn.closed())?.code, code);
		conn.destroy();
	}]),
	...I_CHAT.map((knob) => [`chat: ${knob}`, (o) => o.fcgi("POST", SEND,
	    { headers: { "x-anon-id": `visitor-${knob.padEnd(8, "0")}` },
		body: JSON.stringify({ content: `/sim count=5 ${knob}` }) }),
	    [200, 429, 502, 503], (a) => {
		assert.match(a.body, /event: assistant_error/);
		not_raw(a);
	    }]),
	...I_ANAM.map((mode) => [`anam: ${mode}`, (o) => o.fcgi("POST", ANAM,
	    { body: JSON.stringify({ personaId: `sim-${mode}` }) }),
	    mode.startsWith("host-") ? [200, 201, 403, 502] : [400, 502, 503],
	    not_raw]),
];

for (const name of FRONTS)
	test(`${name}: handshakes that are none`, async (t) => {
		const target = await Target.open(t, name);
		await target.run("D", [...D, ...TICKETS]);
		target.check_logs();
		assert.equal(target.vendor.waiting, 0, "nobody was dialled");
	}, { skip: needs(name), timeout: 60000 });

test("frames and events that are none", async (t) => {
	const target = await Target.open(t);
	await target.run("E", E);
	target.check_logs();
}, { timeout: 60000 });

test("Socket.IO that is none", async (t) => {
	const target = await Target.open(t, "direct", { chat: { socketio:
	    "connect_timeout_ms = 300\necho = true" } });
	await target.run("G", G);
	target.check_logs();
}, { timeout: 60000 });

test("the control socket takes no rubbish", async (t) => {
	const target = await Target.open(t);
	await target.run("H", H);
	target.check_logs();
	// and an operator sees no secret
	const { stdout } = await run([CTL, "--json", "sessions"],
	    { env: { CULVERT_CONTROL: target.site.control_sock } });
	assert.match(stdout, /raw/);
	for (const secret of target.site.canaries.values())
		assert.ok(!stdout.includes(secret));
}, { timeout: 60000 });

test("vendors that answer badly", async (t) => {
	const target = await Target.open(t, "direct", {
		chat: { chat: "first_timeout = 2\nidle_timeout = 2" },
		relays: (o) => [...RAW, ...RAW_LATER.map(([name]) => name)]
		    .map((name) => [`/${name}`, o.site.relay(o.sim.ws_port, "",
		        `/raw/${name}`)]),
	});
	target.fds += 2; // connections to the vendor may be kept
	await target.run("I", I);
	target.check_logs();
}, { timeout: 60000 });
