// SPDX-License-Identifier: MIT
// harness: the programs under test and the web servers around them, each
// test with a folder of its own.
//
// A Site belongs to one test.  Everything it starts is stopped by its process
// id when the test ends; then every log, every file that was left, the dump of
// the configuration and every HTTP answer are searched for what may never be
// there, and for reports of the sanitizers.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import crypto from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { deadline, patience } from "./tap.mjs";
import * as raw from "./rawws.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
export const srcdir = process.env.top_srcdir ?? path.join(here, "../..");
export const builddir = process.env.top_builddir ?? srcdir;
export const clients_dir = path.join(here, "../clients");

export const BROKER = path.join(builddir, "culvert-broker");
export const TUNNEL = path.join(builddir, "culvert-tunnel");
export const SIM = path.join(builddir, "tests/sim/culvert-sim");

// The full path of a program, or null.
export function find_program(name) {
	const dirs = (process.env.PATH ?? "").split(":");
	for (const dir of [...dirs, "/usr/sbin", "/usr/local/sbin", "/sbin"]) {
		const file = path.join(dir || ".", name);
		try {
			fs.accessSync(file, fs.constants.X_OK);
			return file;
		} catch {
			continue;
		}
	}
	return null;
}

// A reason to skip, or false: for test()'s option of that name.
export function needs(...names) {
	const missing = names.filter((n) => n !== "direct" &&
	    !find_program(n === "apache" ? "apache2" : n));
	return missing.length > 0 &&
	    `${missing.join(", ")} not installed; run deploy/check`;
}

// Wait until probe() is not false; it is asked again whenever something
// changes in the folder, and every few milliseconds.
export async function until(probe, what, ms = 20000) {
	const limit = performance.now() + ms * patience;
	for (;;) {
		const value = await probe();
		if (value)
			return value;
		if (performance.now() > limit)
			throw new Error(`${what}: not within ${ms} ms`);
		await new Promise((resolve) => setTimeout(resolve, 5));
	}
}

// Is somebody listening on this Unix socket?  Does not connect.
export function unix_listening(file) {
	return fs.readFileSync("/proc/net/unix", "latin1").split("\n")
	    .some((line) => {
		const word = line.trim().split(/\s+/);
		return word[7] === file && (parseInt(word[3], 16) & 0x10000);
	    });
}

export function tcp_listening(port) {
	const hex = port.toString(16).toUpperCase().padStart(4, "0");
	return ["/proc/net/tcp", "/proc/net/tcp6"].some((file) =>
	    fs.existsSync(file) && fs.readFileSync(file, "latin1").split("\n")
	        .some((line) => {
			const word = line.trim().split(/\s+/);
			return word[1]?.endsWith(`:${hex}`) && word[3] === "0A";
		}));
}

// A port that nobody listens on, outside the kernel's own range.
export async function free_port() {
	for (let i = 0; i < 100; i++) {
		const port = crypto.randomInt(10240, 32000);
		const ok = await new Promise((resolve) => {
			const server = net.createServer();
			server.once("error", () => resolve(false));
			server.listen(port, "127.0.0.1",
			    () => server.close(() => resolve(true)));
		});
		if (ok)
			return port;
	}
	throw new Error("no free port found");
}

// ---- processes ----

export function children_of(pid) {
	try {
		return fs.readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1")
		    .trim().split(" ").filter(Boolean).map(Number);
	} catch {
		return [];
	}
}

export function descendants_of(pid) {
	return children_of(pid).flatMap((p) => [p, ...descendants_of(p)]);
}

export function is_running(pid) {
	try {
		const stat = fs.readFileSync(`/proc/${pid}/stat`, "latin1");
		return !/^\d+ \(.*\) [ZX]/s.test(stat);
	} catch {
		return false;
	}
}

// CPU time used, in clock ticks of 10 ms.
export function cpu_ticks(pid) {
	const stat = fs.readFileSync(`/proc/${pid}/stat`, "latin1");
	const word = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
	return Number(word[11]) + Number(word[12]);
}

// CPU time of all threads that there are, in us: the scheduler's own count,
// because ticks are too coarse for steps of a few microseconds.
export function cpu_us(pid) {
	return fs.readdirSync(`/proc/${pid}/task`).reduce((sum, tid) => {
		try {
			return sum + Number(fs.readFileSync(
			    `/proc/${pid}/task/${tid}/schedstat`, "latin1")
			    .split(" ")[0]) / 1000;
		} catch {
			return sum; // ended since it was listed
		}
	}, 0);
}

// Resident memory in KiB, and the proportional one where we may know it.
export function memory_of(pid) {
	const read = (file, name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m")
	    .exec(fs.readFileSync(`/proc/${pid}/${file}`, "latin1"))[1]);
	const rss = read("status", "VmRSS");
	if (process.getuid() !== 0)
		return { rss, pss: rss }; // a tunnel's pages are nobody's to read
	return { rss, pss: read("smaps_rollup", "Pss") };
}

// What is left where the script is ended in the middle of a test.
const leftovers = { pids: new Set(), dirs: new Set() };
process.on("exit", () => {
	for (const pid of [...leftovers.pids].flatMap((p) =>
	    [p, ...descendants_of(p)]))
		try {
			process.kill(pid, "SIGKILL");
		} catch {
			continue;
		}
	for (const dir of leftovers.dirs)
		fs.rmSync(dir, { recursive: true, force: true });
});
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"])
	process.on(signal, () => process.exit(1));

// What fetch() is refused with is an answer, too.
const plain_fetch = globalThis.fetch;
globalThis.fetch = async (...args) => {
	const answer = await plain_fetch(...args);
	if (answer.status >= 400)
		raw.answers.push(Buffer.from(`${JSON.stringify(
		    [...answer.headers])}\n${await answer.clone().text()}`));
	return answer;
};

// All regular files in a folder and below, as far as they can be read.
function files_in(dir) {
	return fs.readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
		const file = path.join(dir, entry.name);
		if (entry.isDirectory())
			return files_in(file);
		return entry.isFile() ? [file] : [];
	});
}

// A program that was started: its output, and its end.
export class Part {
	constructor(name, argv, { env = {}, stdio = [], cwd } = {}) {
		this.name = name;
		this.output = "";
		this.stdout = "";
		this.may_fail = false; // its exit status and output do not matter
		this.waiting = new Set();
		this.child = spawn(argv[0], argv.slice(1), {
			cwd,
			env: { ...clean_env(), ...env },
			stdio: [stdio[0] ?? "ignore", "pipe", "pipe",
			    ...stdio.slice(3)],
		});
		this.pid = this.child.pid;
		this.exited = new Promise((resolve) => {
			this.child.on("error", (err) => {
				this.output += `${err.message}\n`;
				this.status = { code: 127, signal: null };
				resolve(this.status);
				this.#wake();
			});
			this.child.on("close", (code, signal) => {
				this.status = { code, signal };
				resolve(this.status);
				this.#wake();
			});
		});
		if (this.pid)
			leftovers.pids.add(this.pid);
		this.child.on("exit", () => leftovers.pids.delete(this.pid));
		for (const stream of [this.child.stdout, this.child.stderr])
			stream.on("data", (data) => {
				this.output += data;
				if (stream === this.child.stdout)
					this.stdout += data;
				this.#wake();
			});
	}

	#wake() {
		for (const fn of [...this.waiting])
			fn();
	}

	// Wait for a line of output; resolves with the match.
	wait_for(regex, { ms = 20000, from = 0 } = {}) {
		return deadline(new Promise((resolve, reject) => {
			const look = () => {
				const found = regex.exec(this.output.slice(from));
				if (found || this.status)
					this.waiting.delete(look);
				if (found)
					resolve(found);
				else if (this.status)
					reject(new Error(`${this.name} ended ` +
					    `before it said ${regex}`));
			};
			this.waiting.add(look);
			look();
		}), ms, `${this.name} says ${regex}`);
	}

	// Wait until it listens; an end of the program is a failure.
	async listens(probe, what) {
		await until(() => {
			if (this.status)
				throw new Error(`${this.name} ended with ` +
				    `${JSON.stringify(this.status)}`);
			return probe();
		}, `${this.name}: ${what}`, 30000);
	}

	kill(signal = "SIGTERM") {
		if (!this.status)
			this.child.kill(signal);
	}

	// End it with all its children, whatever they are busy with.
	async stop_hard(ms = 700) {
		this.kill();
		try {
			await deadline(this.exited, ms, "");
		} catch {
			for (const pid of [this.pid, ...descendants_of(this.pid)])
				try {
					process.kill(pid, "SIGKILL");
				} catch {
					continue; // it went by itself
				}
			await this.exited;
		}
		return this.status;
	}

	// End it; returns its status.
	async stop(signal = "SIGTERM", ms = 20000) {
		this.kill(signal);
		try {
			return await deadline(this.exited, ms,
			    `${this.name} stops on ${signal}`);
		} catch (err) {
			this.child.kill("SIGKILL");
			throw err;
		}
	}
}

function clean_env() {
	const env = { PATH: process.env.PATH, LANG: "C.UTF-8" };
	for (const name of ["ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS",
	    "TSAN_OPTIONS", "LD_LIBRARY_PATH"])
		if (process.env[name] !== undefined)
			env[name] = process.env[name];
	return env;
}

// Run to the end: {code, signal, stdout, output}.
export async function run(argv, { input, ms = 30000, ...options } = {}) {
	const part = new Part(path.basename(argv[0]), argv,
	    { ...options, stdio: ["pipe"] });
	part.child.stdin.on("error", () => {});
	part.child.stdin.end(input ?? "");
	const status = await deadline(part.exited, ms, argv.join(" "))
	    .catch((err) => { part.child.kill("SIGKILL"); throw err; });
	return { ...status, stdout: part.stdout, output: part.output };
}

// ---- sites ----

export class Site {
	static async open(t) {
		const site = new Site();
		site.t = t;
		site.dir = fs.mkdtempSync(path.join(os.tmpdir(), "culvert-"));
		leftovers.dirs.add(site.dir);
		fs.chmodSync(site.dir, 0o755); // web servers' own users
		site.parts = [];
		// What may be in no log and in no answer; and what may be in no
		// log, dump or file, but in answers and in full logs.
		site.canaries = new Map();
		site.contents = new Map();
		site.written = new Set();  // by the test itself
		site.full_logs = new Set();
		site.broker_env = {};
		site.vendor_key = site.canary("vendor key", "sk-canary-");
		site.anam_key = site.canary("anam key", "anam-canary-");
		site.livekit_secret = site.canary("livekit secret", "lk-canary-");
		site.control_sock = site.file("control.sock");
		site.broker_sock = site.file("broker.sock");
		site.tunnel_sock = site.file("tunnel.sock");
		site.answers_from = raw.answers.length;
		t.after((failed) => site.#close(failed));
		t.on_failure(() => site.#describe());
		return site;
	}

	file(name) { return path.join(this.dir, name); }

	write(name, text) {
		fs.writeFileSync(this.file(name), text);
		this.written.add(this.file(name));
		return this.file(name);
	}

	// A random text that must never be seen in a log or an answer.
	canary(what, prefix = "canary-") {
		const text = prefix + crypto.randomBytes(16).toString("hex");
		this.canaries.set(what, text);
		return text;
	}

	// The same for what people say: a prompt, an answer.
	content(what) {
		const text = `content${crypto.randomBytes(16).toString("hex")}`;
		this.contents.set(what, text);
		return text;
	}

	start(name, argv, options) {
		const part = new Part(name, argv, options);
		this.parts.push(part);
		return part;
	}

	// ---- the programs under test ----

	// Text of a configuration: relays is a list of [title, body].
	config({ access, relays = [], control = "", rest = "" } = {}) {
		access ??= 'clients = {"loopback"}\norigins = {"loopback"}\n' +
		    "missing_origin = true";
		return `access {\n${access}\n}\n` +
		    `control {\nsocket = "${this.control_sock}"\n${control}\n}\n` +
		    relays.map(([title, body]) =>
		        `relay "${title}" {\n${body}\n}\n`).join("") + rest;
	}

	// Body of a relay section to this port.
	relay(port, more = "", target = "/") {
		return `upstream = "ws://127.0.0.1:${port}${target}"\n` +
		    "header \"Authorization\" { prefix = \"Bearer \" " +
		    `secret = "env:VENDOR_KEY" }\n${more}`;
	}

	env() {
		return {
			VENDOR_KEY: this.vendor_key,
			OPENAI_API_KEY: this.vendor_key,
			ANAM_API_KEY: this.anam_key,
			LIVEKIT_API_KEY: "lkkey",
			LIVEKIT_API_SECRET: this.livekit_secret,
		};
	}

	async broker(config, { args = [], env = {} } = {}) {
		const file = this.write("culvert.conf", config);
		this.broker_env = { ...this.env(), ...env };
		const part = this.start("broker", [BROKER, "-f", file, "--listen",
		    this.broker_sock, ...args], { env: this.broker_env });
		await part.listens(() => unix_listening(this.broker_sock) &&
		    unix_listening(this.control_sock), "listens");
		// web servers give up root, and the test has only this one folder
		fs.chmodSync(this.broker_sock, 0o666);
		return part;
	}

	async tunnel({ args = ["--spare", "2"], env = {} } = {}) {
		const part = this.start("tunnel", [TUNNEL, "--listen",
		    this.tunnel_sock, "--control", this.control_sock, ...args],
		    { env });
		await part.listens(() => unix_listening(this.tunnel_sock),
		    "listens");
		fs.chmodSync(this.tunnel_sock, 0o666); // as for the broker's
		return part;
	}

	// Broker and tunnel, with a configuration as for config().
	async serve(config, { tunnel, broker } = {}) {
		const b = await this.broker(typeof config === "string" ? config :
		    this.config(config), broker);
		const t = await this.tunnel(tunnel);
		return { broker: b, tunnel: t };
	}

	// The simulated vendors; {http_port, ws_port, part}.
	async sim(args = []) {
		const part = this.start("sim", [SIM, ...args], { env: {
			SIM_OPENAI_KEY: this.vendor_key,
			SIM_ANAM_KEY: this.anam_key,
			SIM_LIVEKIT_KEY: "lkkey",
			SIM_LIVEKIT_SECRET: this.livekit_secret,
		} });
		const [line] = await part.wait_for(/^\{.*\}$/m);
		return { ...JSON.parse(line), part };
	}

	// ---- where clients connect ----

	// Straight to the tunnel's socket, as a web server does.
	direct() {
		return {
			name: "direct",
			where: { path: this.tunnel_sock },
			headers: { "X-Forwarded-For": "127.0.0.1" },
		};
	}

	async front(name, options) {
		if (name === "direct")
			return this.direct();
		const servers = await import("./servers.mjs");
		return servers.start(this, name, options);
	}

	// A WebSocket through a front.
	connect(front, target, headers = {}, options = {}) {
		return raw.connect(front.where, target,
		    { ...front.headers, ...headers }, options);
	}

	// A handshake through a front, however it ends.
	handshake(front, target, headers = {}, options = {}) {
		const list = Array.isArray(headers) ?
		    [...Object.entries(front.headers), ...headers] :
		    { ...front.headers, ...headers };
		return raw.exchange(front.where,
		    raw.upgrade_request(target, list, options), options);
	}

	// Both ends of a tunnel, as {client, upstream}: the upstream is a
	// RawServer.
	async pair(front, target, server, { headers = {}, answer = {},
	    ...options } = {}) {
		const accepting = server.accept(answer);
		accepting.catch(() => {});
		const client = await this.connect(front, target, headers, options);
		return { client, upstream: await accepting };
	}

	// ---- the end ----

	async #close() {
		const problems = [];
		for (const part of [...this.parts].reverse()) {
			try {
				const status = await (part.hard ?
				    part.stop_hard() : part.stop());
				if (!part.may_fail && status.code !== 0)
					problems.push(`${part.name} ended with ` +
					    JSON.stringify(status));
			} catch (err) {
				problems.push(err.message);
			}
			if (/(Address|Leak|Thread)Sanitizer|runtime error:/
			    .test(part.output))
				problems.push(`${part.name}: sanitizer report`);
			if (/=\(null\)/.test(part.output))
				problems.push(`${part.name}: printed a NULL`);
		}
		this.#check_canaries(problems);
		fs.rmSync(this.dir, { recursive: true, force: true });
		leftovers.dirs.delete(this.dir);
		assert.deepEqual(problems, []);
	}

	#logs() {
		const logs = this.parts.map((p) => [p.name, p.output]);
		for (const name of fs.readdirSync(this.dir))
			if (name.endsWith(".log"))
				logs.push([name,
				    fs.readFileSync(this.file(name), "utf8")]);
		return logs;
	}

	// What the programs left behind: message logs, cores, whatever there
	// is, but for what the test has written; the store, for keys alone.
	#left(problems) {
		const left = { files: [], stores: [] };
		for (const file of files_in(this.dir)) {
			if (this.written.has(file) || /\.(pem|key)$/.test(file) ||
			    fs.statSync(file).size > 1 << 25)
				continue;
			const name = path.relative(this.dir, file);
			if (/^core(\.|$)/.test(path.basename(file)))
				problems.push(`there is a ${name}`);
			(/\.db(-\w+)?$/.test(file) ? left.stores : left.files)
			    .push([name, fs.readFileSync(file, "latin1")]);
		}
		return left;
	}

	// Only what it prints: a test may have made the file a bad one.
	#dump() {
		const file = this.file("culvert.conf");
		if (!fs.existsSync(BROKER) || !fs.existsSync(file))
			return [];
		const { stdout, stderr } = spawnSync(BROKER, ["--dump", "-f", file],
		    { env: { ...clean_env(), ...this.broker_env },
			encoding: "latin1", timeout: 10000 });
		return [["the dump", `${stdout}${stderr}`]];
	}

	#check_canaries(problems) {
		this.saved_logs = this.#logs();
		const left = this.#left(problems);
		const logs = [...this.saved_logs.filter(([name]) =>
		    name !== "sim"), ...left.files, ...this.#dump()];
		const answers = raw.answers.slice(this.answers_from)
		    .map((answer) => ["an answer", answer.toString("latin1")]);
		const search = (words, texts) => {
			for (const [what, word] of words)
				for (const [name, text] of texts)
					if (text.includes(word))
						problems.push(
						    `the ${what} is in ${name}`);
		};
		search(this.canaries, [...logs, ...answers]);
		search(this.contents, logs.filter(([name]) =>
		    !this.full_logs.has(name)));
		search([...this.canaries].filter(([what]) =>
		    /^(vendor key|anam key|livekit secret|users' secret)$/
		        .test(what)), left.stores);
	}

	#describe() {
		let text = "";
		for (const [name, log] of this.saved_logs ?? this.#logs()) {
			const cut = log.length > 8000 ?
			    `…\n${log.slice(-8000)}` : log;
			text += `---- ${name}\n${cut.trimEnd()}\n`;
		}
		return text;
	}
}

// Broker and tunnel with one relay "/raw" to a RawServer: the usual site.
export async function relay_site(t, front_name = "direct", options = {}) {
	const site = await Site.open(t);
	const server = await raw.RawServer.listen(options.upstream);
	const parts = await site.serve({
		...options,
		relays: [["/raw", site.relay(server.port, options.more,
		    options.target)], ...options.relays ?? []],
	}, options);
	const front = await site.front(front_name);
	return {
		site, server, front, ...parts,
		pair: async (extra) => {
			const from = parts.broker.output.length;
			const both = await site.pair(front, "/raw", server, extra);
			return { ...both, pid: await pid_of_lease(parts.broker, from) };
		},
	};
}

// The process that serves the tunnel that the broker's log says was opened:
// who is not root cannot see whose socket is whose.
async function pid_of_lease(broker, from) {
	if (broker.status)
		return undefined;
	const [, pid] = await broker.wait_for(/ lease\.open .* pid=(\d+)\n/,
	    { from });
	return Number(pid);
}

// Run fn for every row; failures are collected, each with its row's name.
export async function table(rows, fn) {
	const failures = [];
	for (const row of rows) {
		try {
			await fn(...row);
		} catch (err) {
			failures.push(`${row[0]}: ${err.stack ?? err}`);
			if (failures.length >= 5)
				break; // each may have waited for its time limit
		}
	}
	if (failures.length > 0)
		throw new Error(`${failures.length} of ${rows.length} rows failed:\n` +
		    failures.join("\n"));
}
