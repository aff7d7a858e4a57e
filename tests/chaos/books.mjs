// SPDX-License-Identifier: MIT
// books: what the vendor charged, what the ledger has, and why something that
// is in one of them is not in the other.
import fs from "node:fs";

import { find_program, run } from "../lib/harness.mjs";

async function query(file, sql) {
	const result = await run([find_program("sqlite3"), "-json", file, sql]);
	if (result.code !== 0)
		throw new Error(result.output);
	return result.stdout.trim() === "" ? [] : JSON.parse(result.stdout);
}

// Those of the vendor's responses, and those that stand for one that is lost.
const rows_of = (file) => query(file,
    "SELECT lease, n, vendor_id, status, total_tokens FROM usage " +
    "WHERE event IN ('response.done', 'response.lost')");

// Budgets of users and routes whose counters are not the sum of their rows.
const unequal_budgets = (file) => query(file,
    "SELECT subject, sum(tokens) AS counted, (SELECT " +
    " coalesce(sum(total_tokens), 0) FROM usage WHERE " +
    " iif(subject GLOB 'u:*', user IS substr(subject, 3), " +
    "  route = substr(subject, 3))) AS booked " +
    "FROM counter WHERE subject GLOB '[ur]:*' " +
    "GROUP BY subject HAVING counted != booked");

const count_budgets = async (file) => (await query(file,
    "SELECT count(DISTINCT subject) AS count FROM counter " +
    "WHERE subject GLOB '[ur]:*' AND tokens > 0"))[0].count;

// What is reserved: its lease, or the answer of the chat that it is of.
const reserved = async (file) => (await query(file,
    "SELECT DISTINCT id FROM reservation")).map(({ id }) => id.split(":")[0]);

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
	    / lease\.open .* client=(\S+) (?:.* )?pid=(\d+)\n/g))
		pids.set(client, Number(pid));
	return pids;
}

// The same of a lease.
function processes_of(logs) {
	const pids = new Map();
	for (const [, lease, pid] of logs.matchAll(
	    / lease\.(?:open|resume) lease=(\S+) .* pid=(\d+)/g))
		pids.set(lease, Number(pid));
	return pids;
}

/*
 * What is in the books, and what is not:
 *
 *   killed    charged in processes that were killed before they reported: a row
 *             "lost" stands for each that was asked for, unless the broker that
 *             knew of it was killed, too, before the tunnel was given up
 *   cut       charged, and nobody behind the vendor saw it.  A conversation
 *             waits for one response and never for two, so these are at most
 *   most_cut  as many as the conversations that ended while they waited; so are
 *   lost_rows, which stand for them
 *   lost      seen by the client in a process that lived, and not booked
 *   unknown   conversations of which the logs do not tell the process
 *   held      reservations of processes that lived, and of the chat
 *   budgets   whose counters are not the sum of their rows
 */
export async function audit({ store, charges, conversations, logs, killed }) {
	const pids = pids_of(logs), processes = processes_of(logs);
	const charged = charges_of(charges);
	const rows = await rows_of(store);
	const booked = new Map();
	const sum = { charged: charged.size, booked: 0, double: [], foreign: [],
		unequal: [], killed: 0, cut: 0, lost: [], lost_rows: 0,
		most_cut: 0, unknown: conversations.filter((c) =>
		    c.ids.length > 0 && !pids.has(c.address))
		    .map(({ name }) => name) };

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
	sum.most_cut = conversations.filter((c) => c.waits).length;
	sum.budgets = await unequal_budgets(store);
	sum.budget_count = await count_budgets(store);
	const ids = await reserved(store);
	sum.held = ids.filter((id) => !killed.has(processes.get(id)));
	sum.held_by_killed = ids.length - sum.held.length;
	return sum;
}
