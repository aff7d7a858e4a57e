// SPDX-License-Identifier: MIT
// Peers that mean harm, or leave at the worst moment.
import assert from "node:assert/strict";

import { relay_site, table } from "../lib/harness.mjs";
import { OP, frame, switching } from "../lib/rawws.mjs";
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

test("who leaves while the other side takes nothing is noticed", async (t) => {
	const { tunnel, pair } = await relay_site(t);
	const rows = [["client", await pair()], ["upstream", await pair()]];
	const start = performance.now();

	await Promise.all(rows.map(async ([side, both]) => {
		const other = both[side === "client" ? "upstream" : "client"];
		other.stall();
		const block = frame(OP.binary, Buffer.alloc(1 << 16),
		    { mask: side === "client" });
		let written = true;
		for (let i = 0; i < 400 && written; i++)
			written = await Promise.race([
				both[side].write(block).then(() => true),
				new Promise((resolve) => {
					setTimeout(resolve, 200, false);
				}),
			]);
		assert.ok(!written, "the other side is full");
		if (side === "client")
			both[side].destroy();
		else
			both[side].reset();
		await tunnel.wait_for(new RegExp(`cause=${side}_lost`),
		    { ms: 20000 });
	}));
	const took = (performance.now() - start) / 1000;
	t.diag(`after ${took.toFixed(1)} s`);
	assert.ok(took < 15, "long before stall_timeout");
});
