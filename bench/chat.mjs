// SPDX-License-Identifier: MIT
// chat: what the broker adds to streamed answers, and what they cost it.
//
// usage: chat.mjs [--json] [--seconds N] [--streams N] [--rate N] [--rounds N]
//
// The simulated vendor writes the time into each delta; what has passed when a
// client reads it is the delay.  The same streams go straight to the vendor
// and through a web server and the broker, in turns, because the machine's
// mood changes; of each the round with the middle p99 counts.  All on one
// machine: vendor, web server, broker, store and 500 clients share its cores.
import fs from "node:fs";
import path from "node:path";

import { SIM, Site, builddir, cpu_us, find_program, memory_of } from
    "../tests/lib/harness.mjs";
import * as servers from "../tests/lib/servers.mjs";

const LOAD = path.join(builddir, "bench/chat_load");
const json = process.argv.includes("--json");

function option(name, fallback) {
	const at = process.argv.indexOf(`--${name}`);
	return at > 0 ? Number(process.argv[at + 1]) : fallback;
}

const SECONDS = option("seconds", 8);
const STREAMS = option("streams", 500);
const RATE = option("rate", 20);
const ROUNDS = option("rounds", 3);
const RAMP_MS = 2000;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// ---- what the broker is made of ----

function threads_of(pid) {
	return fs.readdirSync(`/proc/${pid}/task`).map((tid) => {
		const file = (name) => `/proc/${pid}/task/${tid}/${name}`;
		return {
			name: fs.readFileSync(file("comm"), "utf8").trim(),
			// system call, arguments, stack pointer, program counter
			stack: fs.readFileSync(file("syscall"), "latin1").trim()
			    .split(" ").at(-2),
		};
	});
}

// Its stacks, in KB: what is set aside, and what of it is there.
function stacks_of(pid) {
	const maps = fs.readFileSync(`/proc/${pid}/smaps`, "latin1")
	    .split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m).map((text) => {
		const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(text);
		const number = (name) => Number(new RegExp(`^${name}:\\s+(\\d+)`,
		    "m").exec(text)[1]);
		return { from: BigInt(`0x${from}`), to: BigInt(`0x${to}`),
		    size: number("Size"), rss: number("Rss") };
	});
	return threads_of(pid).map(({ name, stack }) => {
		const at = /^0x/.test(stack ?? "") ? BigInt(stack) : 0n;
		const map = maps.find((m) => m.from <= at && at < m.to);
		return { name, size: map?.size, rss: map?.rss };
	});
}

// ---- one run ----

// idle_kb: of the broker without streams.
async function load(site, subject, streams, seconds, idle_kb) {
	const count = Math.ceil(RATE * (seconds + 3 * RAMP_MS / 1000));
	const part = site.start("chat_load", [LOAD, String(subject.address),
	    subject.path, String(streams), String(RAMP_MS), String(count),
	    ...subject.headers], { stdio: ["pipe"] });
	const result = {};

	part.may_fail = true;
	part.child.stdin.end(JSON.stringify(
	    subject.body(`/sim count=${count} per_s=${RATE} stamp`)));
	await part.wait_for(/^open$/m, { ms: 60000 });
	if (subject.pid) {
		// to look costs it something; so before anything counts
		result.kb = (memory_of(subject.pid).pss - idle_kb) / streams;
		result.stacks = stacks_of(subject.pid);
		await sleep(RAMP_MS);
		const from = [cpu_us(subject.pid), performance.now()];
		await sleep(seconds * 800);
		result.cpu_us = (cpu_us(subject.pid) - from[0]) * 1000 /
		    (performance.now() - from[1]) / (streams * RATE);
	}
	await part.exited;
	if (!/^\{/m.test(part.stdout))
		throw new Error(`${subject.name}: ${part.output}`);
	return { ...result, ...JSON.parse(/^\{.*\}$/m.exec(part.stdout)[0]) };
}

// ---- who is loaded ----

async function start_all(site) {
	const sim = await site.sim();
	const broker = await site.broker(site.config({ rest: `
store { path = "${site.file("bench.db")}" }
chat {
	url = "http://127.0.0.1:${sim.http_port}/v1"
	api_key = "env:OPENAI_API_KEY"
	models = {"bench"}
	max_streams = ${2 * STREAMS + 100}
	anonymous { messages = 1000000 window = 86400 }
}
` }), { args: ["--log-level", "error"] });
	const through = async (name) => {
		const front = await servers.start(site, name);
		return {
			name, pid: broker.pid, address: front.port,
			path: "/api/v1/messages/send",
			headers: [`x-anon-id: bench-${site.canary("id", "")}-{n}`],
			body: (content) => ({ content }),
		};
	};

	return [
		{
			name: "direct", address: sim.http_port,
			path: "/v1/chat/completions",
			headers: [`Authorization: Bearer ${site.vendor_key}`],
			body: (content) => ({ model: "bench", stream: true,
			    messages: [{ role: "user", content }] }),
		},
		...await Promise.all(["lighttpd", "nginx"].filter(find_program)
		    .map(through)),
	];
}

async function measure(site) {
	const subjects = await start_all(site);
	const rounds = new Map(subjects.map(({ name }) => [name, []]));

	for (const subject of subjects.slice(1)) // what is there once
		await load(site, subject, 50, 1, 0);
	const idle_kb = memory_of(subjects[1].pid).pss;
	for (let i = 0; i < ROUNDS; i++)
		for (const subject of subjects) {
			process.stderr.write(`${subject.name} ...\n`);
			rounds.get(subject.name).push(
			    await load(site, subject, STREAMS, SECONDS, idle_kb));
		}
	return [...rounds].map(([name, results]) => ({ name,
	    ...results.sort((a, b) => a.p99 - b.p99)[ROUNDS >> 1] }));
}

// ---- what is said of it ----

const ROWS = [
	["deltas/s", (r) => r.per_second],
	["streams that failed", (r) => r.failed],
	["delay p50 us", (r) => r.p50],
	["delay p99 us", (r) => r.p99],
	["delay p99.9 us", (r) => r.p999],
	["delay max us", (r) => r.max],
	["added p50 us", (r, direct) => r === direct ? NaN : r.p50 - direct.p50],
	["added p99 us", (r, direct) => r === direct ? NaN : r.p99 - direct.p99],
	["broker: CPU us/delta", (r) => r.cpu_us],
	["broker: KB a stream (Pss)", (r) => r.kb],
	["broker: threads", (r) => r.stacks?.length],
	["broker: their stacks, KB set aside", (r) =>
	    r.stacks?.reduce((sum, s) => sum + (s.size ?? 0), 0)],
	["broker: their stacks, KB there", (r) =>
	    r.stacks?.reduce((sum, s) => sum + (s.rss ?? 0), 0)],
];

function print(results) {
	const cell = (x) => x === undefined || Number.isNaN(x) ? "" :
	    x !== 0 && Math.abs(x) < 100 ? x.toFixed(1) : x.toFixed(0);
	const line = (words) => console.log(words[0].padEnd(42) +
	    words.slice(1).map((w) => w.padStart(16)).join(""));

	line([`${STREAMS} streams x ${RATE} deltas/s`,
	    ...results.map((r) => r.name)]);
	for (const [title, value] of ROWS)
		line([title, ...results.map((r) => cell(value(r, results[0])))]);
}

if (!fs.existsSync(SIM)) {
	console.log("Streamed answers: skipped, the simulator is not built.");
	process.exit(0);
}
const closers = [];
const site = await Site.open({
	after: (fn) => closers.push(fn), on_failure: () => {},
});
try {
	const results = await measure(site);

	if (json)
		console.log(JSON.stringify(results, null, 2));
	else
		print(results);
} finally {
	for (const fn of closers)
		await fn(false);
}
