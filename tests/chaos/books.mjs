// SPDX-License-Identifier: MIT
// books: what the vendor charged, what the ledger has, and why something that
// is in one of them is not in the other.
import fs from "node:fs";

import { find_program, run } from "../lib/harness.mjs";

async function rows_of(file) {
	const result = await run([find_program("sqlite3"), "-json", file,
	    "SELECT lease, n, vendor_id, status, total_tokens FROM usage " +
	    "WHERE event = 'response.done'"]);
	if (result.code !== 0)
		throw new Error(result.output);
	return result.stdout.trim() === "" ? [] : JSON.parse(result.stdout);
}

// What the simulator wrote: id -> tokens.
function charges_of(file) {
	const charges = new Map();
	for (const line of fs.readFileSync(file, "utf8").split("\n")) {
		const [id, tokens] = line.split(" ");
		if (tokens !== undefined)
			charges.set(id, Number(tokens));
	}
	return charges;
}

// Which process served the client at an address, of all brokers' logs.
export function pids_of(logs) {
	const pids = new Map();
	for (const [, client, pid] of logs.matchAll(
	    / lease\.open .* client=(\S+) pid=(\d+)/g))
		pids.set(client, Number(pid));
	return pids;
}

/*
 * {charged, booked, double, foreign, unequal, killed, cut, lost, lost_rows}:
 * `killed' were charged in processes that were killed before they reported,
 * `cut' to conversations whose end of TCP came before the vendor's message,
 * `lost' are those for which there is no excuse.
 */
export async function audit({ store, charges, conversations, pids, killed }) {
	const charged = charges_of(charges);
	const rows = await rows_of(store);
	const booked = new Map();
	const sum = { charged: charged.size, booked: 0, double: [], foreign: [],
		unequal: [], killed: 0, cut: 0, lost: [], lost_rows: 0 };

	for (const row of rows) {
		if (row.status === "lost") {
			sum.lost_rows++;
			continue;
		}
		if (booked.has(row.vendor_id))
			sum.double.push(row);
		else if (!charged.has(row.vendor_id))
			sum.foreign.push(row);
		else if (charged.get(row.vendor_id) !== row.total_tokens)
			sum.unequal.push(row);
		booked.set(row.vendor_id, row);
	}
	sum.booked = booked.size;

	// whose response it was, where the client saw it end
	const seen = new Map(conversations.flatMap((c) =>
	    c.ids.map((id) => [id, c])));
	for (const id of charged.keys()) {
		const c = seen.get(id);
		if (booked.has(id))
			continue;
		if (c === undefined)
			sum.cut++; // nobody behind the vendor saw it
		else if (killed.has(pids.get(c.address)))
			sum.killed++;
		else
			sum.lost.push({ id, name: c.name, why: c.why });
	}
	return sum;
}
