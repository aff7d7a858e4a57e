// SPDX-License-Identifier: MIT
// bench: the tunnel beside nginx, the same load through both in one run.
//
// usage: run.mjs [--json] [--seconds N]
//
// What it costs to read messages is a ratio of the tunnel to itself.
//
// Both listen on a Unix socket and dial the same upstream over loopback TCP.
// Figures are only comparable within one run, so ratios are what counts.
import fs from "node:fs";
import path from "node:path";

import { Site, builddir, cpu_us, descendants_of, find_program, memory_of, run,
    unix_listening } from "../tests/lib/harness.mjs";

const LOAD = path.join(builddir, "bench/ws_load");
const json = process.argv.includes("--json");
const at = process.argv.indexOf("--seconds");
const ms = (at > 0 ? Number(process.argv[at + 1]) : 3) * 1000;
const IDLE = 200;

function nginx_config(site, port) {
	return `
${process.getuid() === 0 ? "user root root;" : ""}
daemon off;
worker_processes 1;
pid ${site.file("nginx.pid")};
error_log ${site.file("nginx-error.log")};
events { worker_connections 4096; }
http {
	access_log off;
	client_body_temp_path ${site.dir}; proxy_temp_path ${site.dir};
	fastcgi_temp_path ${site.dir}; uwsgi_temp_path ${site.dir};
	scgi_temp_path ${site.dir};
	server {
		listen unix:${site.file("nginx.sock")} backlog=4096;
		location / {
			proxy_pass http://127.0.0.1:${port};
			proxy_http_version 1.1;
			proxy_set_header Host $http_host;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection Upgrade;
			proxy_read_timeout 600s;
		}
	}
}
`;
}

function family(pid) {
	return [pid, ...descendants_of(pid)];
}

// CPU time of a process and its descendants so far, in us.
function family_cpu_us(pid) {
	return family(pid).reduce((sum, p) => {
		try {
			return sum + cpu_us(p);
		} catch {
			return sum; // ended since it was listed
		}
	}, 0);
}

// CPU used a second, while all connections are open: the second half of a run.
async function cpu_us_per_s(pid) {
	await new Promise((resolve) => setTimeout(resolve, ms * 0.4));
	const from = [family_cpu_us(pid), performance.now()];
	await new Promise((resolve) => setTimeout(resolve, ms * 0.5));
	return (family_cpu_us(pid) - from[0]) * 1000 / (performance.now() - from[1]);
}

function pss_kb(pid) {
	return family(pid).reduce((sum, p) => {
		try {
			return sum + memory_of(p).pss;
		} catch {
			return sum;
		}
	}, 0);
}

async function load(subject, mode, target, count, bytes) {
	const running = run([LOAD, mode, subject.address, target, String(count),
	    String(bytes), String(ms)], { ms: 120000 });
	const cpu = subject.pid ? await cpu_us_per_s(subject.pid) : 0;
	const { code, stdout, output } = await running;

	if (code !== 0)
		throw new Error(`${subject.name} ${mode}: ${output}`);
	const result = JSON.parse(stdout);
	if (subject.pid)
		result.cpu_us = cpu /
		    (result.per_second ?? result.messages * 1000 / ms);
	return result;
}

async function idle_kb(site, subject) {
	const before = pss_kb(subject.pid);
	const part = site.start("idle", [LOAD, "idle", subject.address, "/echo",
	    String(IDLE), "0", "0"], { stdio: ["pipe"] });

	await part.wait_for(/idle/, { ms: 60000 });
	const after = pss_kb(subject.pid);
	part.may_fail = true;
	await part.stop("SIGKILL");
	return (after - before) / IDLE;
}

async function start_tunnel(site, name, args) {
	const socket = site.file(`${name}.sock`);
	const part = site.start(name, [path.join(builddir, "culvert-tunnel"),
	    "--listen", socket, "--control", site.control_sock,
	    "--log-level", "error", ...args]);

	await part.listens(() => unix_listening(socket), "listens");
	return { name, pid: part.pid, address: socket };
}

async function start_all(site) {
	const upstream = site.start("upstream", [LOAD, "upstream"],
	    { stdio: ["pipe"] });
	const port = (await upstream.wait_for(/^(\d+)$/m))[1];
	upstream.may_fail = true;
	await site.broker(site.config({ relays: [
	    ["/echo", `upstream = "ws://127.0.0.1:${port}/echo"`],
	    ["/push", `upstream = "ws://127.0.0.1:${port}/push"`],
	    ["/pinned", `upstream = "ws://127.0.0.1:${port}/echo"\n` +
		'usage = true\nsession { instructions = "Be kind." }']] }),
	    { args: ["--log-level", "error"] });
	const nginx = site.start("nginx", [find_program("nginx"), "-p", site.dir,
	    "-c", site.write("nginx.conf", nginx_config(site, port)),
	    "-e", site.file("nginx-error.log")]);
	nginx.may_fail = true;
	await nginx.listens(() => unix_listening(site.file("nginx.sock")),
	    "listens");
	return [
		{ name: "direct", address: port },
		{ name: "nginx", pid: nginx.pid,
		    address: site.file("nginx.sock") },
		await start_tunnel(site, "culvert", ["--spare", "8"]),
		await start_tunnel(site, "culvert-dense", ["--spare", "1",
		    "--connections-per-process", "1000"]),
	];
}

// CPU of a message on a route that passes it, and on one that checks it, in
// turns, because the machine's mood changes; the pair with the middle ratio.
async function cost_of_reading(subject) {
	const pairs = [];

	for (let i = 0; i < 3; i++) {
		const [passed, pinned] = [
			await load(subject, "append", "/echo", 100, 8192),
			await load(subject, "append", "/pinned", 100, 8192),
		].map((r) => r.cpu_us);
		pairs.push({ passed, pinned, ratio: pinned / passed });
	}
	return pairs.sort((a, b) => a.ratio - b.ratio)[1];
}

async function measure(site, subject) {
	const result = { name: subject.name };

	result.open = await load(subject, "open", "/echo", 500, 0);
	result.paced_100 = await load(subject, "paced", "/echo", 100, 100);
	result.paced_8k = await load(subject, "paced", "/echo", 100, 8192);
	result.full_100 = await load(subject, "pingpong", "/echo", 100, 100);
	result.full_8k = await load(subject, "pingpong", "/echo", 100, 8192);
	result.push_16k = await load(subject, "take", "/push", 10, 0);
	if (subject.name.startsWith("culvert"))
		result.append = await cost_of_reading(subject);
	if (subject.pid)
		result.idle_kb = await idle_kb(site, subject);
	return result;
}

const ROWS = [
	["accept to 101, p50 us", (r) => r.open.p50],
	["accept to 101, p99 us", (r) => r.open.p99],
	["100 x 100 B, 50/s each: latency p50 us", (r) => r.paced_100.p50],
	["100 x 100 B, 50/s each: latency p99 us", (r) => r.paced_100.p99],
	["100 x 8 KiB, 50/s each: latency p50 us", (r) => r.paced_8k.p50],
	["100 x 8 KiB, 50/s each: latency p99 us", (r) => r.paced_8k.p99],
	["100 x 100 B, full load: messages/s", (r) => r.full_100.per_second],
	["100 x 100 B, full load: CPU us/message", (r) => r.full_100.cpu_us],
	["100 x 8 KiB, full load: messages/s", (r) => r.full_8k.per_second],
	["100 x 8 KiB, full load: CPU us/message", (r) => r.full_8k.cpu_us],
	["10 x 16 KiB push: MB/s", (r) => r.push_16k.megabytes_per_second],
	["10 x 16 KiB push: CPU us/message", (r) => r.push_16k.cpu_us],
	["100 x 8 KiB audio, passed: CPU us/message", (r) => r.append?.passed],
	["100 x 8 KiB audio, pinned: CPU us/message", (r) => r.append?.pinned],
	["100 x 8 KiB audio, pinned to passed", (r) => r.append?.ratio],
	[`${IDLE} idle: KB a connection (Pss)`, (r) => r.idle_kb],
];

function print(results) {
	const cell = (x) => x === undefined || Number.isNaN(x) ? "" :
	    x < 10 ? x.toFixed(2) : x < 100 ? x.toFixed(1) : x.toFixed(0);
	const nginx = results.find((r) => r.name === "nginx");
	const line = (words) => console.log(words[0].padEnd(42) +
	    words.slice(1).map((w) => w.padStart(16)).join(""));

	line(["", ...results.map((r) => r.name)]);
	for (const [title, value] of ROWS)
		line([title, ...results.map((r) => {
			const ratio = value(r) / value(nginx);

			return cell(value(r)) + (r === nginx || r.name === "direct" ||
			    Number.isNaN(ratio) ? "" : ` (x${ratio.toFixed(2)})`);
		})]);
	console.log("\n(xN) is the ratio to nginx in this run; direct is the " +
	    "load without a relay.");
}

const closers = [];
const site = await Site.open({
	after: (fn) => closers.push(fn), on_failure: () => {},
});
try {
	const results = [];

	for (const subject of await start_all(site)) {
		process.stderr.write(`${subject.name} ...\n`);
		results.push(await measure(site, subject));
	}
	if (json)
		console.log(JSON.stringify(results, null, 2));
	else
		print(results);
} finally {
	for (const fn of closers)
		await fn(false);
}
