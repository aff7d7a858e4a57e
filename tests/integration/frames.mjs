// SPDX-License-Identifier: MIT
// Frames through the relay: what passes unchanged, and how a frame that is
// not legal ends the connection on both legs.
import assert from "node:assert/strict";
import crypto from "node:crypto";

import { needs, relay_site, table } from "../lib/harness.mjs";
import { OP, close_payload, frame, switching, upgrade_request, dial }
	from "../lib/rawws.mjs";
import { FRONTS } from "../lib/servers.mjs";
import { test } from "../lib/tap.mjs";

const LIMIT = 4096; // client_message_bytes and upstream_message_bytes
const LIMITS = `client_message_bytes = ${LIMIT}\n` +
    `upstream_message_bytes = ${LIMIT}`;

// [name, bytes, close code]; m is the mask of a good frame of this sender.
function violations(m) {
	const f = (op, payload, more) => frame(op, payload, { mask: m, ...more });
	const rows = [
		[m ? "no mask" : "a mask", f(1, "x", { mask: !m }), 1002],
		["a long ping", f(OP.ping, Buffer.alloc(126)), 1002],
		["a long close", f(OP.close, close_payload(1000, "x".repeat(124))),
		    1002],
		["a fragmented ping", f(OP.ping, "x", { fin: false }), 1002],
		["a fragmented close", f(OP.close, close_payload(1000),
		    { fin: false }), 1002],
		["a continuation of nothing", f(OP.cont, "x"), 1002],
		["an unfinished continuation of nothing",
		    f(OP.cont, "x", { fin: false }), 1002],
		["a message inside a message", Buffer.concat([
		    f(OP.text, "a", { fin: false }), f(OP.text, "b")]), 1002],
		["a binary inside a text", Buffer.concat([
		    f(OP.text, "a", { fin: false }), f(OP.cont, "b", { fin: false }),
		    f(OP.binary, "c")]), 1002],
		["5 bytes as 16 bits", f(OP.text, "12345", { form: 16 }), 1002],
		["125 bytes as 16 bits", f(OP.text, Buffer.alloc(125),
		    { form: 16 }), 1002],
		["5 bytes as 64 bits", f(OP.text, "12345", { form: 64 }), 1002],
		["65535 bytes as 64 bits", f(OP.binary, "", { form: 64,
		    length: 65535 }), 1002],
		["2^63 bytes", f(OP.binary, "", { form: 64, length: 1n << 63n }),
		    1002],
		["2^64 - 1 bytes", f(OP.binary, "", { form: 64,
		    length: (1n << 64n) - 1n }), 1002],
		["a close of one byte", f(OP.close, "x"), 1002],
		["a close whose reason is not UTF-8",
		    f(OP.close, Buffer.from([0x03, 0xe8, 0xc3, 0x28])), 1007],
		["a close whose reason ends in mid-character",
		    f(OP.close, Buffer.from([0x03, 0xe8, 0xe2, 0x82])), 1007],
		["a message over the limit", f(OP.binary, Buffer.alloc(LIMIT + 1)),
		    1009],
		["a header that announces too much", f(OP.binary, "",
		    { length: LIMIT + 1 }), 1009],
		["2^63 - 1 bytes", f(OP.binary, "", { form: 64,
		    length: (1n << 63n) - 1n }), 1009],
		["fragments over the limit together", Buffer.concat([
		    f(OP.binary, Buffer.alloc(LIMIT), { fin: false }),
		    f(OP.cont, "x")]), 1009],
		["a violation with much behind it", Buffer.concat([
		    f(3, "x"), Buffer.alloc(300000, 0x55)]), 1002],
	];
	for (const rsv of [1, 2, 4])
		rows.push([`RSV bits ${rsv}`, f(OP.text, "x", { rsv }), 1002]);
	rows.push(["RSV on a ping", f(OP.ping, "x", { rsv: 4 }), 1002]);
	for (const op of [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
		rows.push([`opcode ${op}`, f(op, "x"), 1002]);
	for (const code of [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000,
	    2999, 5000, 65535])
		rows.push([`close code ${code}`, f(OP.close, close_payload(code)),
		    1002]);
	return rows;
}

async function one_violation(relay, sender, name, bytes, code) {
	const { client, upstream } = await relay.pair();
	const [from, to] = sender === "client" ? [client, upstream] :
	    [upstream, client];

	await from.send_text("before");
	assert.equal((await to.data_frame()).payload.toString(), "before");
	from.write(bytes).catch(() => {});
	const there = await to.closed("a close at the other side");
	const back = await from.closed("a close at the offender");
	assert.equal(there?.code, code, "the other side's code");
	assert.equal(back?.code, code, "the offender's code");
	assert.equal(there.masked, sender !== "client" ? false : true);
	assert.notEqual(there.reason, "", "a reason of our own");
	from.send_close(code).catch(() => {});
	to.send_close(code).catch(() => {});
	await over(client, upstream);
	client.destroy();
	upstream.destroy();
}

// Both ends of a tunnel after their close frames: the vendor is the server and
// closes its connection first, the client's is ours to close.
async function over(client, upstream) {
	upstream.end();
	await Promise.all([client.over(), upstream.over()]);
}

const LEGAL_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012,
    1013, 1014, 3000, 3999, 4000, 4999];

for (const name of FRONTS) {
	const options = { skip: needs(name), timeout: 60000 };

	test(`${name}: an illegal frame of the client ends both legs`,
	    async (t) => {
		const relay = await relay_site(t, name, { more: LIMITS });
		await table(violations(true), (row, bytes, code) =>
		    one_violation(relay, "client", row, bytes, code));
	}, options);

	test(`${name}: an illegal frame of the vendor ends both legs`,
	    async (t) => {
		const relay = await relay_site(t, name, { more: LIMITS });
		await table(violations(false), (row, bytes, code) =>
		    one_violation(relay, "upstream", row, bytes, code));
	}, options);

	test(`${name}: close codes and reasons pass unchanged both ways`,
	    async (t) => {
		const relay = await relay_site(t, name);
		const reasons = ["", "bye", "Grüße, 日本 ✓", "r".repeat(123)];
		const rows = LEGAL_CODES.flatMap((code, i) =>
		    ["client", "upstream"].map((side) =>
		        [`${code} from the ${side}`, code,
		            reasons[i % reasons.length], side]));
		await table(rows, async (row, code, reason, side) => {
			const { client, upstream } = await relay.pair();
			const [from, to] = side === "client" ?
			    [client, upstream] : [upstream, client];
			await from.send_close(code, reason);
			const got = await to.closed();
			assert.deepEqual([got?.code, got?.reason], [code, reason]);
			assert.equal(got.masked, side === "client");
			await to.send_close(code, reason);
			const answer = await from.closed();
			assert.deepEqual([answer?.code, answer?.reason],
			    [code, reason]);
			await over(client, upstream);
		});
	}, options);

	test(`${name}: a close without a code stays without one`, async (t) => {
		const relay = await relay_site(t, name);
		await table([["client"], ["upstream"]], async (side) => {
			const { client, upstream } = await relay.pair();
			const [from, to] = side === "client" ?
			    [client, upstream] : [upstream, client];
			await from.send_close(0);
			assert.deepEqual(await to.frame(), { fin: true, rsv: 0,
			    opcode: OP.close, masked: side === "client",
			    payload: Buffer.alloc(0) });
			await to.send_close(0);
			assert.equal((await from.closed())?.code, 0);
			await over(client, upstream);
		});
	}, options);

	test(`${name}: the client's connection does not wait for the vendor's`,
	    async (t) => {
		const relay = await relay_site(t, name);
		const { client, upstream } = await relay.pair();
		await client.send_close(1000);
		await upstream.closed();
		await upstream.send_close(1000);
		await client.closed();
		const start = performance.now();
		await client.over();
		assert.ok(performance.now() - start < 4000);
	}, options);

	test(`${name}: data after a close is dropped`, async (t) => {
		const relay = await relay_site(t, name);
		await table([["client"], ["upstream"]], async (side) => {
			const { client, upstream } = await relay.pair();
			const [from, to] = side === "client" ?
			    [client, upstream] : [upstream, client];
			const mask = side === "client";
			await from.write(Buffer.concat([
				frame(OP.close, close_payload(1000, "x"), { mask }),
				frame(OP.text, "too late", { mask }),
				frame(OP.close, close_payload(3000), { mask }),
				frame(7, "not even legal", { mask }),
			]));
			assert.equal((await to.frame()).opcode, OP.close);
			await to.send_close(1000, "x");
			upstream.end();
			assert.equal((await to.rest()).length, 0);
			assert.equal((await from.closed())?.code, 1000);
		});
	}, options);

	test(`${name}: fragments, boundaries and opcodes are kept`, async (t) => {
		const relay = await relay_site(t, name);
		const { client, upstream } = await relay.pair();
		const sent = [
			[OP.text, "whole", true], [OP.binary, "", true],
			[OP.text, "", true], [OP.text, "Grü", false],
			[OP.cont, "", false], [OP.cont, "ße", true],
			[OP.binary, crypto.randomBytes(125), false],
			[OP.cont, crypto.randomBytes(126), false],
			[OP.ping, "between", true],
			[OP.cont, crypto.randomBytes(65535), false],
			[OP.pong, "unasked", true],
			[OP.cont, crypto.randomBytes(65536), true],
			// a character cut in two, and text that is not UTF-8: not
			// the relay's business
			[OP.text, Buffer.from([0xe2, 0x82]), false],
			[OP.cont, Buffer.from([0xac]), true],
			[OP.text, Buffer.from([0xff, 0xfe]), true],
			[OP.ping, "", true], [OP.ping, Buffer.alloc(125, 1), true],
			[OP.text, "last", true],
		];
		for (const [from, to] of [[client, upstream],
		    [upstream, client]]) {
			const writing = from.write(Buffer.concat(sent.map(
			    ([op, payload, fin]) => frame(op, payload,
			        { fin, mask: from.role === "client" }))));
			for (const [op, payload, fin] of sent) {
				const got = await to.frame();
				assert.deepEqual([got.opcode, got.fin, got.rsv],
				    [op, fin, 0]);
				assert.ok(got.payload.equals(Buffer.from(payload)));
			}
			await writing;
		}
	}, options);

	test(`${name}: frames sent with the request's head arrive`, async (t) => {
		const relay = await relay_site(t, name);
		const early = Buffer.concat([frame(OP.text, "one"),
		    frame(OP.binary, crypto.randomBytes(3000)),
		    frame(OP.text, "three", { fin: false })]);
		const accepting = relay.server.next();
		const connecting = relay.site.connect(relay.front, "/raw", {},
		    { early });
		const upstream = await accepting;
		const request = await upstream.head();
		assert.equal(upstream.have, 0, "nothing before the 101");
		// with the 101, in one packet, the vendor's first frames
		await upstream.write(Buffer.concat([
			Buffer.from(switching(request)),
			frame(OP.text, "welcome", { mask: false }),
			frame(OP.ping, "p", { mask: false }),
		]));
		const client = await connecting;
		assert.equal((await client.frame()).payload.toString(), "welcome");
		assert.equal((await client.frame()).opcode, OP.ping);
		assert.equal((await upstream.frame()).payload.toString(), "one");
		assert.equal((await upstream.frame()).payload.length, 3000);
		assert.equal((await upstream.frame()).fin, false);
		await client.send(OP.cont, "four");
		assert.equal((await upstream.frame()).payload.toString(), "four");
	}, options);

	test(`${name}: head and frames arrive byte by byte`, async (t) => {
		const relay = await relay_site(t, name);
		const conn = await dial(relay.front.where);
		const accepting = relay.server.accept();
		accepting.catch(() => {});
		await conn.write_each(Buffer.concat([
			Buffer.from(upgrade_request("/raw", relay.front.headers)),
			frame(OP.text, "slowly"),
			frame(OP.binary, Buffer.alloc(200, 7)),
			frame(OP.ping, "ping"),
			frame(OP.close, close_payload(3000, "done")),
		]));
		assert.equal((await conn.head()).status, 101);
		const upstream = await accepting;
		assert.equal((await upstream.frame()).payload.toString(), "slowly");
		assert.ok((await upstream.frame()).payload.equals(
		    Buffer.alloc(200, 7)));
		assert.equal((await upstream.frame()).opcode, OP.ping);
		assert.equal((await upstream.closed()).code, 3000);
		await upstream.write_each(Buffer.concat([
			frame(OP.text, "slow too", { mask: false }),
			frame(OP.close, close_payload(3000, "done"), { mask: false }),
		]));
		assert.equal((await conn.frame()).payload.toString(), "slow too");
		assert.equal((await conn.closed()).reason, "done");
	}, options);

	test(`${name}: a lost vendor is 1014, a lost client 1001`, async (t) => {
		const relay = await relay_site(t, name);
		const rows = [
			["vendor resets", "upstream", "reset"],
			["vendor ends", "upstream", "end"],
			["client resets", "client", "reset"],
			["client ends", "client", "end"],
			["client vanishes", "client", "destroy"],
		].filter((row) => name !== "direct" || row[2] !== "reset" ||
		    row[1] !== "client"); // Unix sockets have no RST
		await table(rows, async (row, side, how) => {
			const pair = await relay.pair();
			await pair.client.send_text("hello");
			assert.equal((await pair.upstream.frame()).opcode, OP.text);
			await pair.upstream.send_text("hello");
			assert.equal((await pair.client.frame()).opcode, OP.text);
			pair[side][how]();
			const other = pair[side === "client" ? "upstream" : "client"];
			assert.equal((await other.closed())?.code,
			    side === "client" ? 1001 : 1014);
		});
	}, options);

	test(`${name}: a frame that the peer leaves unfinished is no message`,
	    async (t) => {
		const relay = await relay_site(t, name);
		const { client, upstream } = await relay.pair();
		await upstream.write(frame(OP.text, "x".repeat(10),
		    { mask: false, length: 100 }));
		upstream.end();
		// the client cannot be told with a frame inside a frame
		await client.over();
	}, options);
}
