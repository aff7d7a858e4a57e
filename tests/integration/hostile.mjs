// SPDX-License-Identifier: MIT
// Peers that mean harm, or leave at the worst moment.
import assert from "node:assert/strict";

import { relay_site, table } from "../lib/harness.mjs";
import { OP, switching } from "../lib/rawws.mjs";
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
