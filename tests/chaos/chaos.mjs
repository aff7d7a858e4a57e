// SPDX-License-Identifier: MIT
// chaos: mixed load, while all servers are killed, stopped and started again.
//
//   CHAOS_SECONDS=20   how long; `make chaos' takes 600
//   CHAOS_SEED=N       the moments and kinds of what happens, which is printed
//   CHAOS_JSON=FILE    the numbers, as JSON
//   CHAOS_KEEP=DIR     where something did not hold: logs, the store, what was
//                      charged, the conversations and the faults with their times
import assert from "node:assert/strict";
import crypto from "node:crypto";
import fs from "node:fs";

import { BROKER, SIM, Site, TUNNEL, children_of, is_running,
	needs, until } from "../lib/harness.mjs";
import { MODEL, ctl } from "../lib/chat.mjs";
import { skip_all, test } from "../lib/tap.mjs";
import { audit, pids_of } from "./books.mjs";
import { Faults } from "./faults.mjs";
import { keep } from "./keep.mjs";
import { LIMITED, Load } from "./load.mjs";

if (!fs.existsSync(SIM))
	skip_all("the simulator is not built; run deploy/check");

const SECONDS = Number(process.env.CHAOS_SECONDS ?? 20);
const SEED = Number(process.env.CHAOS_SEED ?? crypto.randomInt(2 ** 31));
const WORKERS = { realtime: 3, user: 2, planned: 2, ticket: 1, once: 2, limited: 1,
	victim: 2, echo: 4, chat: 3, poll: 2, socket: 2, livekit: 1 };
const SPARE = 3;

const config_of = (site, port) => site.config({
	relays: [["/echo", `upstream = "ws://127.0.0.1:${port}/echo"`]],
	rest: `store { path = "${site.file("store.db")}" }
openai {
	api_key = "env:OPENAI_API_KEY"
	url = "ws://127.0.0.1:${port}/v1/realtime"
	client_secrets = true
	usage_interval = 1
}
relay "/members" {
	inherit = "openai"
	require_user = true
}
relay "/planned" {
	inherit = "openai"
	plan = "route"
}
relay "/once" {
	inherit = "openai"
	client_secrets = false
	require_ticket = true
	ticket_once = true
}
users { secret = "env:USER_SECRET" plan_claim = plan }
tickets { }
plan "member" { day_tokens = 1000000000 }
plan "route" { day_tokens = 1000000000 }
plan "limited" { requests_per_second = ${LIMITED.rate} burst = ${LIMITED.burst} }
limits { user = "member" }
livekit {
	url = "wss://livekit.example"
	api_key = "env:LIVEKIT_API_KEY"
	api_secret = "env:LIVEKIT_API_SECRET"
}
chat {
	api_key = "env:OPENAI_API_KEY"
	url = "http://127.0.0.1:${port}/v1"
	models = {"${MODEL}"}
	balance = false
	anonymous { messages = 1000 }
}
socketio { echo = true ping_interval_ms = 5000 ping_timeout_ms = 10000 }
` });

// All servers, as {name: {part, start}}.
async function open(t) {
	const site = await Site.open(t);
	const charges = site.file("charges");
	const sim_args = ["--pace", "20", "--charges", charges];
	const sim = await site.sim(sim_args);
	const port = sim.ws_port;
	const config = config_of(site, port);
	const tunnel_args = { args: ["--spare", String(SPARE),
	    "--drain-timeout", "2"] };
	site.user_secret = site.canary("users' secret", "");
	const env = { env: { USER_SECRET: site.user_secret } };
	const { broker, tunnel } = await site.serve(config,
	    { tunnel: tunnel_args, broker: env });
	const front = await site.front("lighttpd");
	const part = (part, start) => ({ part, start });

	return { site, charges, port: front.port, parts: {
		broker: part(broker, () => site.broker(config, env)),
		tunnel: part(tunnel, () => site.tunnel(tunnel_args)),
		sim: part(sim.part, async () => (await site.sim([...sim_args,
		    "--ws-port", String(port)])).part),
		web: part(front.part, () => front.restart()),
	} };
}

// ---- what is there ----

// Our programs of this site, whoever their parent is by now.
function processes_of(site) {
	const found = [];
	for (const pid of fs.readdirSync("/proc").filter((n) => /^\d+$/.test(n)))
		try {
			const argv = fs.readFileSync(`/proc/${pid}/cmdline`, "latin1");
			if ((argv.startsWith(BROKER) || argv.startsWith(TUNNEL)) &&
			    argv.includes(site.dir) && is_running(Number(pid)))
				found.push(Number(pid));
		} catch {
			continue; // it is gone
		}
	return found;
}

const count_of = (pid, what) => fs.readdirSync(`/proc/${pid}/${what}`).length;

// Descriptors and threads of the broker and of the tunnel's supervisor.
const held_by = ({ broker, tunnel }) => ({
	broker_descriptors: count_of(broker.part.pid, "fd"),
	broker_threads: count_of(broker.part.pid, "task"),
	supervisor_descriptors: count_of(tunnel.part.pid, "fd"),
});

// When nobody asks any more, all that was taken is given back.
async function settle(site, parts, before) {
	await until(async () => (await ctl(site, "sessions"))
	    .total === 0, "no lease is left", 30000);
	await until(() => children_of(parts.tunnel.part.pid).length === SPARE &&
	    processes_of(site).length === 2 + SPARE,
	    "no process is left but those that wait", 30000);
	let after;
	await until(() => {
		after = held_by(parts);
		return Object.keys(before).every((name) =>
		    after[name] <= before[name] + SLACK);
	}, "descriptors and threads are given back", 30000)
	    .catch((err) => {
		throw new Error(`${err.message}: ${JSON.stringify({ before,
		    after })}`);
	});
	return after;
}

// What has to have worked before anything is hit.
const KINDS_OF_ANSWERS = ["responses", "tickets", "tickets spent", "echoes",
	"chat answers", "Socket.IO acks", "LiveKit tokens",
	"refused for the rate", "tunnels ended by a revocation"];
const SLACK = 3; // a connection of the pools, a file of SQLite's

const FILES = new RegExp("^(charges|culvert\\.conf|lighttpd.*|nginx-.*|store\\.db.*|" +
    "ticket-key|" +
    "(broker|control|tunnel)\\.sock)$");

// ---- what came of it ----

// lighttpd asks a server that was away no more for so long.
const GRACE_MS = 3000;

// A tunnel waits for a client that does not answer its close frame, as one that
// has other things to wait for, for so long.
const CLOSE_MS = 5000;

// Conversations that were cut, or refused, although nothing that they went
// through was hit.
function unexplained(load, faults, pids, killed) {
	const broker = ["web", "broker"], tunnel = ["web", "sim", "supervisor"];
	const through = { livekit: broker, limited: broker, poll: broker,
		chat: [...broker, "sim"], socket: [...broker, "supervisor"],
		once: [...tunnel, "broker"], ticket: [...tunnel, "broker"],
		// who asks before each response waits for the next broker
		realtime: tunnel, user: tunnel, planned: tunnel, victim: tunnel,
		echo: tunnel };
	return load.conversations.filter((c) => {
		const names = c.how === "cut" ? through[c.kind] :
		    ["web", "broker", "sim", "supervisor", "process"];
		// what cuts a tunnel is not long before
		const since = names === tunnel ?
		    Math.max(c.start, c.end - CLOSE_MS) : c.start;
		return c.how !== "over" && !killed.has(pids.get(c.address)) &&
		    faults.between(since - GRACE_MS, c.end, names).length === 0;
	});
}

function table_of(rows) {
	const width = Math.max(...Object.keys(rows).map((n) => n.length));
	return Object.entries(rows).map(([name, value]) =>
	    `${name.padEnd(width)}  ${typeof value === "object" ?
	        Object.entries(value).map(([n, v]) => `${n} ${v}`).join(", ") :
	        value}`).join("\n");
}

const how_many = (load, how) => load.conversations.filter((c) =>
    c.how === how).length;

async function progress(t, load, faults, seconds) {
	const start = performance.now();
	const end = start + seconds * 1000;
	for (let next = start + 10000; performance.now() < end;) {
		const left = Math.min(next, end) - performance.now();
		await new Promise((resolve) => setTimeout(resolve,
		    Math.max(left, 0)));
		next += 10000;
		t.diag(`${((performance.now() - start) / 1000).toFixed(0)} s: ` +
		    `${load.open} open, ${how_many(load, "over")} over, ` +
		    `${how_many(load, "cut")} cut, ` +
		    `${how_many(load, "refused")} refused, ` +
		    `${faults.list.length} faults, ${load.wrong.length} wrong`);
	}
}

test(`${SECONDS} s of chaos, seed ${SEED}`, async (t) => {
	const { site, parts, port, charges } = await open(t);
	const faults = new Faults(parts, SEED);
	const options = { user_secret: site.user_secret,
		revoke: (user) => ctl(site, "revoke", "user", user),
		restarts: (start, end) => faults.between(start, end, ["broker"])
		    .filter(({ what }) => what !== "stop").length };
	const warm = new Load(port, SEED, options);
	const load = new Load(port, SEED + 1, options);
	const found = {};
	t.after((failed) => failed && process.env.CHAOS_KEEP &&
	    keep(process.env.CHAOS_KEEP, site, { found, faults: faults.list,
		conversations: [...warm.conversations, ...load.conversations] }));
	warm.start({ ...WORKERS });
	await until(() => KINDS_OF_ANSWERS.every((name) => warm.messages[name] > 0),
	    "everything works before", 60000);
	await warm.stop();
	assert.deepEqual(warm.wrong, []);
	await settle(site, parts, {});
	const before = held_by(parts);

	load.next_address = warm.next_address;
	load.start(WORKERS);
	faults.start();
	await progress(t, load, faults, SECONDS);
	await faults.stop();
	await load.stop();
	const after = await settle(site, parts, before);

	const logs = site.parts.filter(({ name }) => name === "broker")
	    .map(({ output }) => output).join("\n");
	const pids = pids_of(logs);
	const killed = new Set(faults.list.filter(({ name, what }) =>
	    name === "process" && what === "kill").map(({ pid }) => pid));
	const books = await until_booked({ store: site.file("store.db"), charges,
		conversations: [...warm.conversations, ...load.conversations],
		logs, killed });
	const strange = unexplained(load, faults, pids, killed);
	const files = fs.readdirSync(site.dir).filter((n) => !FILES.test(n));
	Object.assign(found, { wrong: load.wrong, strange, books, files });
	const rows = {
		seconds: SECONDS, seed: SEED,
		conversations: load.conversations.length,
		"ended by the client": how_many(load, "over"),
		"refused": how_many(load, "refused"),
		"cut by a fault": how_many(load, "cut"),
		"cut or refused without one": strange.length,
		"answered": load.messages,
		"wrong": load.wrong.length,
		faults: faults.counts(),
		"responses charged": books.charged,
		"booked once": books.booked,
		"booked twice": books.double.length,
		"booked, not charged": books.foreign.length,
		"booked with other tokens": books.unequal.length,
		"seen by the client, not booked": books.lost.length,
		"in killed processes": books.killed,
		"seen by nobody": books.cut,
		"at most": books.most_cut,
		"rows of lost responses": books.lost_rows,
		budgets: books.budget_count,
		"that are not the sum of their rows": books.budgets.length,
		"reservations left": books.held.length,
		"of killed processes": books.held_by_killed,
		"before": before, after,
	};
	t.diag(table_of(rows));
	if (process.env.CHAOS_JSON)
		fs.writeFileSync(process.env.CHAOS_JSON,
		    JSON.stringify(rows, null, 2));
	assert.deepEqual(load.wrong.slice(0, 5), []);
	assert.deepEqual(strange.slice(0, 5), []);
	assert.deepEqual([books.double, books.foreign, books.unequal,
	    books.lost.slice(0, 5)], [[], [], [], []]);
	assert.deepEqual(books.unknown.slice(0, 5), []);
	assert.ok(books.cut <= books.most_cut);
	assert.ok(books.lost_rows <= books.most_cut);
	assert.ok(books.budget_count > 1);
	assert.deepEqual([books.budgets, books.held], [[], []]);
	assert.deepEqual(files, []);
}, { timeout: (SECONDS + 240) * 1000,
	skip: needs("lighttpd", "sqlite3") });

// The ledger is written a moment after the last report.
async function until_booked(what) {
	let books;
	await until(async () => {
		books = await audit(what);
		return books.lost.length === 0 && books.held.length === 0 &&
		    books.budgets.length === 0;
	}, "all is booked", 10000).catch(() => {});
	return books;
}
