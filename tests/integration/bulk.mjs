// SPDX-License-Identifier: MIT
// Much data, byte for byte, and the memory that it costs.
import assert from "node:assert/strict";
import crypto from "node:crypto";

import { children_of, memory_of, needs, relay_site }
	from "../lib/harness.mjs";
import { OP, frame } from "../lib/rawws.mjs";
import { FRONTS } from "../lib/servers.mjs";
import { test } from "../lib/tap.mjs";

const MIB = 1 << 20;

// Random UTF-8 text of len bytes; a part of it may cut a character in two.
function random_text(len) {
	const out = Buffer.alloc(len);
	const words = ["ä", "語", "🎙"].map((s) => Buffer.from(s));
	out.write(crypto.randomBytes(Math.ceil(len * 3 / 4)).toString("base64"),
	    0, len, "latin1");
	for (let at = 0; at + 8 < len; at += 1021)
		words[at % 3].copy(out, at);
	return out;
}

// Cut a pool of bytes into messages of every size, and those into fragments.
function plan_messages(pool, opcode) {
	const sizes = [1, 2, 0, 125, 126, 127, 65534, 65535, 65536, 65537,
	    16 * MIB, 1];
	for (let i = 0; i < 3000; i++)
		sizes.push(1 + crypto.randomInt(2000));
	for (let i = 0; i < 150; i++)
		sizes.push(crypto.randomInt(128 * 1024));
	for (let i = 0; i < 12; i++)
		sizes.push(crypto.randomInt(2 * MIB));
	const frames = [];
	for (let at = 0, i = 0; at < pool.length; i++) {
		let left = Math.min(sizes[i % sizes.length], pool.length - at);
		if (i >= sizes.length && left < MIB)
			left = Math.min(MIB, pool.length - at);
		const parts = i % 2 ? 1 + crypto.randomInt(5) : 1;
		for (let part = 0; part < parts; part++) {
			const last = part === parts - 1;
			const len = last ? left : crypto.randomInt(left + 1);
			frames.push({ op: part === 0 ? opcode : OP.cont, fin: last,
			    payload: pool.subarray(at, at + len) });
			at += len;
			left -= len;
		}
	}
	return frames;
}

async function write_all(conn, frames) {
	let batch = [], size = 0;
	for (const { op, fin, payload } of frames) {
		const bytes = frame(op, payload,
		    { fin, mask: conn.role === "client" });
		batch.push(bytes);
		size += bytes.length;
		if (size > 256 * 1024) {
			await conn.write(Buffer.concat(batch));
			batch = [];
			size = 0;
		}
	}
	await conn.write(Buffer.concat(batch));
}

// An echo that keeps frames as they are.
async function echo(conn) {
	for (let f; (f = await conn.frame()) !== null;) {
		if (f.opcode === OP.close) {
			await conn.send(OP.close, f.payload);
			return;
		}
		await conn.send(f.opcode, f.payload, { fin: f.fin });
	}
}

for (const name of FRONTS) {
	for (const kind of ["text", "binary"]) {
		// the whole of it once, a part of it under each web server
		const total = name === "direct" ? 64 * MIB : 20 * MIB;

		test(`${name}: ${total / MIB} MiB of ${kind} come back byte for byte`,
		    async (t) => {
			const { pair } = await relay_site(t, name);
			const { client, upstream } = await pair();
			const pool = kind === "text" ? random_text(total) :
			    crypto.randomBytes(total);
			const frames = plan_messages(pool, OP[kind]);
			const echoing = echo(upstream);
			const writing = write_all(client, frames);
			for (const [i, want] of frames.entries()) {
				const got = await client.frame();
				assert.ok(got, `frame ${i} of ${frames.length}`);
				assert.deepEqual([got.opcode, got.fin, got.rsv],
				    [want.op, want.fin, 0]);
				assert.ok(got.payload.equals(want.payload),
				    `frame ${i}, ${want.payload.length} bytes`);
			}
			await writing;
			await client.send_close(1000, "done");
			assert.equal((await client.closed()).reason, "done");
			await echoing;
		}, { skip: needs(name), timeout: 90000 });
	}
}

// The process that serves this pair.
function server_of(tunnel, { pid }) {
	assert.ok(children_of(tunnel.pid).includes(pid),
	    "a child of the supervisor serves");
	return pid;
}

// Write blocks until the kernel takes no more for a while, or 100 MiB.
async function push_until_blocked(conn) {
	const block = frame(OP.binary, crypto.randomBytes(256 * 1024),
	    { mask: conn.role === "client" });
	let pushed = 0, blocked = false, last;
	while (pushed < 100 * MIB && !blocked) {
		last = conn.write(block);
		last.catch(() => {});
		pushed += block.length;
		let timer;
		blocked = await Promise.race([last.then(() => false),
		    new Promise((resolve) => {
			timer = setTimeout(() => resolve(true), 700);
		})]);
		clearTimeout(timer);
	}
	return { pushed, blocked };
}

for (const side of ["client", "upstream"]) {
	test(`${side === "client" ? "a client" : "an upstream"} that does ` +
	    "not read costs no memory", async (t) => {
		const { pair, tunnel } = await relay_site(t);
		const both = await pair();
		const pusher = both[side === "client" ? "upstream" : "client"];
		const reader = both[side];

		// warm: one message each way has passed
		for (const [from, to] of [[pusher, reader], [reader, pusher]]) {
			await from.send(OP.binary, Buffer.alloc(300000));
			await to.frame();
		}
		const pid = server_of(tunnel, both);
		const before = memory_of(pid);
		reader.stall();
		const { pushed, blocked } = await push_until_blocked(pusher);
		const after = memory_of(pid);
		t.diag(`pushed ${pushed} bytes; Pss ${before.pss} -> ` +
		    `${after.pss} KiB, Rss ${before.rss} -> ${after.rss} KiB`);
		assert.ok(blocked, "the pusher is held up in the end");
		assert.ok(after.pss - before.pss < 1024, "growth of Pss");
		assert.ok(after.rss - before.rss < 1024, "growth of Rss");
		// the other direction is not held up by it
		await reader.send_text("meanwhile");
		assert.equal((await pusher.data_frame()).payload.toString(),
		    "meanwhile");
		// and nothing is lost
		reader.unstall();
		for (let left = pushed; left > 0;) {
			const f = await reader.data_frame();
			left -= f.payload.length + (reader.role === "server" ?
			    14 : 10);
			assert.ok(left >= 0);
		}
	});
}

test("100 MiB through a tunnel cost no memory", async (t) => {
	const { pair, tunnel } = await relay_site(t);
	const both = await pair();
	const { client, upstream } = both;
	await upstream.send(OP.binary, Buffer.alloc(300000));
	await client.frame();
	const pid = server_of(tunnel, both);
	const before = memory_of(pid);
	const block = frame(OP.binary, crypto.randomBytes(MIB), { mask: false });
	const writing = (async () => {
		for (let i = 0; i < 100; i++)
			await upstream.write(block);
	})();
	for (let i = 0; i < 100; i++)
		assert.equal((await client.frame()).payload.length, MIB);
	await writing;
	const after = memory_of(pid);
	t.diag(`Pss ${before.pss} -> ${after.pss} KiB`);
	assert.ok(after.pss - before.pss < 1024, "growth of Pss");
}, { timeout: 60000 });
