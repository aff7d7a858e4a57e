// SPDX-License-Identifier: MIT
// Peers that mean harm, or leave at the worst moment.
import assert from "node:assert/strict";

import { relay_site, table } from "../lib/harness.mjs";
import { OP, fill, switching } from "../lib/rawws.mjs";
import { test } from "../lib/tap.mjs";

const INTERIM = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";

test("interim answers before the 101 are skipped, but not for ever",
    async (t) => {
	const { site, front, server } = await relay_site(t);
	const rows = [
		["one", 1, 101],
		["some", 8, 101],
		["a flood", 2000, 502],
	];
	await table(rows, async (row, count, status) => {
		const answering = server.next().then(async (conn) => {
			const head = await conn.head();
			conn.write(INTERIM.repeat(count) + switching(head))
			    .catch(() => {});
			return conn;
		});
		const answer = await site.handshake(front, "/raw");
		assert.equal(answer.status, status);
		const upstream = await answering;
		if (status === 101) {
			await upstream.send_text("hello");
			const frame = await answer.conn.frame();
			assert.equal(frame.opcode, OP.text);
			assert.equal(frame.payload.toString(), "hello");
		}
		answer.conn.destroy();
		upstream.destroy();
	});
});

test("a client that leaves while the vendor takes nothing is noticed",
    async (t) => {
	const { tunnel, pair } = await relay_site(t);
	const { client, upstream } = await pair();
	upstream.stall();
	await fill(client);
	const start = performance.now();
	client.destroy();
	await tunnel.wait_for(/cause=client_lost/, { ms: 20000 });
	const took = (performance.now() - start) / 1000;
	t.diag(`after ${took.toFixed(1)} s`);
	assert.ok(took < 15, "long before stall_timeout");
});

test("a client may take a while for the last words of a vendor that left",
    async (t) => {
	const { pair } = await relay_site(t);
	const { client, upstream } = await pair();
	const message = Buffer.alloc(350000, "last");

	client.stall();
	await upstream.send(OP.binary, message);
	await upstream.send_close(4999, "bye");
	upstream.end();
	// longer than the time that a client that left is given
	await new Promise((resolve) => setTimeout(resolve, 6000));
	client.unstall();
	assert.ok((await client.data_frame()).payload.equals(message));
	assert.deepEqual(await client.closed(),
	    { code: 4999, reason: "bye", masked: false });
});
