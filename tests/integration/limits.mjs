// SPDX-License-Identifier: MIT
// Limits of one conversation, with small values.
import assert from "node:assert/strict";

import { relay_site, until } from "../lib/harness.mjs";
import { OP, frame } from "../lib/rawws.mjs";
import { test } from "../lib/tap.mjs";

// Seconds since start.
function since(start) { return (performance.now() - start) / 1000; }

// Answer pings and the close; returns the close, or null.
async function ponging(conn) {
	for (;;) {
		const f = await conn.frame();
		if (f === null)
			return null;
		if (f.opcode === OP.ping)
			await conn.send(OP.pong, f.payload).catch(() => {});
		if (f.opcode !== OP.close)
			continue;
		await conn.send(OP.close, f.payload).catch(() => {});
		if (conn.role === "server")
			conn.end();
		return { code: f.payload.length >= 2 ?
		    f.payload.readUInt16BE() : 0 };
	}
}

test("a conversation without data is idle, whatever the pings say",
    async (t) => {
	const { pair } = await relay_site(t, "direct",
	    { more: "idle_timeout = 2\nping_interval = 1" });
	const start = performance.now();
	const { client, upstream } = await pair();
	const [one, two] = await Promise.all([ponging(client),
	    ponging(upstream)]);
	assert.equal(one?.code, 4103);
	assert.ok([4103, 1000, 1001].includes(two?.code), `${two?.code}`);
	assert.ok(since(start) > 1.8 && since(start) < 12, `${since(start)} s`);
});

test("who is refused again and again fills no log", async (t) => {
	const { site, broker, tunnel, front } = await relay_site(t, "direct",
	    { tunnel: { args: ["--spare", "2"] } });
	const denied = () => broker.output.match(/ tunnel\.denied /g)?.length;
	const refused = () => tunnel.output.match(/ tunnel\.refused /g)?.length;
	const started = performance.now();

	for (let i = 0; i < 65; i++)
		assert.equal((await site.handshake(front, "/none")).status, 404);
	broker.kill("SIGHUP");
	await broker.wait_for(/ config\.reload/);
	await until(() => refused() >= 60, "lines of the tunnel");
	if (since(started) > 50) {
		t.diag("too slow a machine: a minute has passed");
		return;
	}
	assert.equal(denied(), 60);
	assert.equal(refused(), 60, "of all processes together");
}, { timeout: 120000 });

test("data of either side is life", async (t) => {
	const { pair } = await relay_site(t, "direct", { more: "idle_timeout = 3" });
	const pairs = [["client", await pair()], ["upstream", await pair()]];
	await Promise.all(pairs.map(async ([side, both]) => {
		const to = both[side === "client" ? "upstream" : "client"];
		const start = performance.now();
		// every second for four
		for (let i = 0; i < 4; i++) {
			await both[side].send_text(`${i}`);
			assert.equal((await to.data_frame()).payload.toString(),
			    `${i}`);
			await new Promise((resolve) => setTimeout(resolve, 1000));
		}
		assert.equal((await both.client.closed())?.code, 4103);
		assert.ok(since(start) > 5, `${since(start)} s`);
	}));
});

test("a conversation has a longest life, busy or not", async (t) => {
	const { pair } = await relay_site(t, "direct", { more: "lifetime = 1" });
	const start = performance.now();
	const { client, upstream } = await pair();
	let busy = true;
	const chatter = (async () => {
		while (busy) {
			await upstream.send_text("x").catch(() => { busy = false; });
			await new Promise((resolve) => setTimeout(resolve, 50));
		}
	})();
	const [one, two] = await Promise.all([client.closed(),
	    upstream.closed()]);
	busy = false;
	assert.equal(one?.code, 4200);
	assert.notEqual(two, null);
	assert.ok(since(start) > 0.9 && since(start) < 12, `${since(start)} s`);
	await chatter;
});

test("a peer that answers no ping is gone", async (t) => {
	const { pair } = await relay_site(t, "direct", {
		more: "ping_interval = 1\npong_timeout = 3",
	});
	const quiet = await pair();
	const quiet_up = await pair();
	const good = await pair();
	const start = performance.now();
	const alive = Promise.all([ponging(good.client),
	    ponging(good.upstream)]);

	await Promise.all([(async () => {
		const other = ponging(quiet.upstream);
		assert.equal((await quiet.client.frame()).opcode, OP.ping);
		assert.equal((await quiet.client.closed())?.code, 4102);
		assert.notEqual(await other, null);
	})(), (async () => {
		const other = ponging(quiet_up.client);
		assert.equal((await quiet_up.upstream.frame()).opcode, OP.ping);
		assert.notEqual(await quiet_up.upstream.closed(), null);
		assert.ok([1014, 4102].includes((await other)?.code));
	})()]);
	assert.ok(since(start) > 3.8 && since(start) < 15, `${since(start)} s`);
	// the one that answers is still there
	await good.client.send_close(1000);
	assert.deepEqual(await alive, [{ code: 1000 }, { code: 1000 }]);
});

test("a peer that takes nothing is too slow", async (t) => {
	const { pair } = await relay_site(t, "direct", { more: "stall_timeout = 1" });
	for (const side of ["client", "upstream"]) {
		const both = await pair();
		const pusher = both[side === "client" ? "upstream" : "client"];
		both[side].stall();
		const block = frame(OP.binary, Buffer.alloc(1 << 20),
		    { mask: pusher.role === "client" });
		let pushing = true;
		const push = (async () => {
			while (pushing)
				await pusher.write(block)
				    .catch(() => { pushing = false; });
		})();
		const end = await pusher.closed();
		assert.equal(end?.code, 4101, `${side} stalls`);
		pusher.destroy();
		both[side].destroy();
		await push;
	}
});

test("too many messages are against the policy", async (t) => {
	const { pair } = await relay_site(t, "direct",
	    { more: "client_messages_per_second = 10" });
	for (const op of [OP.text, OP.ping]) {
		const { client, upstream } = await pair();
		const flood = Buffer.concat(Array.from({ length: 200 },
		    () => frame(op, "x")));
		client.write(flood).catch(() => {});
		const [one, two] = await Promise.all([client.closed(),
		    upstream.closed()]);
		assert.equal(one?.code, 1008);
		assert.equal(two?.code, 1008);
	}
	const { client, upstream } = await pair();
	for (let i = 0; i < 10; i++)
		await client.send_text(`${i}`);
	for (let i = 0; i < 10; i++)
		assert.equal((await upstream.data_frame()).payload.toString(),
		    `${i}`);
	// the vendor has no such limit
	for (let i = 0; i < 100; i++)
		upstream.send_text(`${i}`).catch(() => {});
	for (let i = 0; i < 100; i++)
		assert.equal((await client.data_frame()).payload.toString(),
		    `${i}`);
});

test("too many bytes only slow the client down", async (t) => {
	const rate = 100000;
	const { pair } = await relay_site(t, "direct",
	    { more: `client_bytes_per_second = ${rate}` });
	const { client, upstream } = await pair();
	const start = performance.now();
	const sending = (async () => {
		for (let i = 0; i < 30; i++)
			await client.send(OP.binary, Buffer.alloc(10000, i));
	})();
	for (let i = 0; i < 30; i++)
		assert.ok((await upstream.data_frame()).payload.equals(
		    Buffer.alloc(10000, i)));
	await sending;
	// three seconds' worth: one is credit, and the last read may overdraw
	assert.ok(since(start) > 1 && since(start) < 20, `${since(start)} s`);
	await client.send_close(1000, "bye");
	assert.equal((await upstream.closed()).code, 1000);
});

test("limits of tunnel{} hold for every relay that has none of its own",
    async (t) => {
	const relay = await relay_site(t, "direct", {
		rest: "tunnel { client_message_bytes = 1000 " +
		    "upstream_message_bytes = 2000 }\n",
	});
	const first = await relay.pair();
	await first.client.send(OP.binary, Buffer.alloc(1000));
	assert.equal((await first.upstream.data_frame()).payload.length, 1000);
	await first.upstream.send(OP.binary, Buffer.alloc(2000));
	assert.equal((await first.client.data_frame()).payload.length, 2000);
	first.client.send(OP.binary, Buffer.alloc(1001)).catch(() => {});
	assert.equal((await first.client.closed())?.code, 1009);
	const second = await relay.pair();
	second.upstream.send(OP.binary, Buffer.alloc(2001)).catch(() => {});
	assert.equal((await second.client.closed())?.code, 1009);
	assert.equal((await second.upstream.closed())?.code, 1009);
});
