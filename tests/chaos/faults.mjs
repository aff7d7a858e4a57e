// SPDX-License-Identifier: MIT
// faults: what happens to the servers, at random: killed with SIGKILL or
// SIGTERM and started again, stopped with SIGSTOP for a while; and reloads.
import { children_of, is_running } from "../lib/harness.mjs";
import { random_of } from "./load.mjs";

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const STOP_MS = 2000; // longest
const RESTART_MS = 700;
const PAUSE_MS = 1500; // from one fault to the next, at most

// parts: {name: {part, start(): a new part}}; of the tunnel the faults hit
// processes of its, and the supervisor.
export class Faults {
	constructor(parts, seed) {
		this.parts = parts;
		this.random = random_of(seed);
		this.list = []; // {what, name, pid, at, until}
		this.busy = new Set();
		this.is_over = false;
	}

	// How often a fault is chosen.
	static KINDS = [
		["broker", "kill", 3], ["broker", "term", 2], ["broker", "stop", 3],
		["broker", "reload", 2],
		["process", "kill", 5], ["process", "stop", 4],
		["supervisor", "kill", 1], ["supervisor", "term", 1],
		["sim", "kill", 2], ["sim", "stop", 3],
		["web", "kill", 1], ["web", "term", 1], ["web", "stop", 2],
	];

	start() {
		this.running = (async () => {
			const under_way = [];
			while (!this.is_over) {
				await pause(100 + this.random() * PAUSE_MS);
				under_way.push(this.#one());
			}
			await Promise.all(under_way);
		})();
	}

	// No more; whatever was hit is up again when this returns.
	async stop() {
		this.is_over = true;
		await this.running;
	}

	// Those that began or went on within this time.
	between(start, end, names) {
		return this.list.filter(({ name, at, until }) => at <= end &&
		    (until ?? Infinity) >= start && names.includes(name));
	}

	#choose() {
		let sum = Faults.KINDS.reduce((n, [, , often]) => n + often, 0) *
		    this.random();
		return Faults.KINDS.find(([, , often]) => (sum -= often) < 0);
	}

	async #one() {
		const [name, what] = this.#choose();
		const ms = { kill: 20 + this.random() * RESTART_MS,
			term: 20 + this.random() * RESTART_MS,
			stop: 50 + this.random() * STOP_MS, reload: 0 }[what];
		if (name === "process") {
			await this.#hit_process(what, ms, this.random());
			return;
		}
		const part = name === "supervisor" ? "tunnel" : name;
		if (this.busy.has(part))
			return;
		this.busy.add(part);
		const fault = this.#note(what === "reload" ? what : name, what,
		    this.parts[part].part.pid);
		if (what === "reload") // which is no excuse for anything
			process.kill(fault.pid, "SIGHUP");
		else if (what === "stop")
			await this.#stop_for(fault.pid, ms);
		else
			await this.#restart(part, what, ms);
		fault.until = performance.now();
		this.busy.delete(part);
	}

	#note(name, what, pid) {
		const fault = { name, what, pid, at: performance.now() };
		this.list.push(fault);
		return fault;
	}

	async #stop_for(pid, ms) {
		process.kill(pid, "SIGSTOP");
		await pause(ms);
		process.kill(pid, "SIGCONT");
	}

	async #hit_process(what, ms, choice) {
		const pids = children_of(this.parts.tunnel.part.pid);
		const pid = pids[Math.floor(choice * pids.length)];
		if (pid === undefined || !is_running(pid))
			return;
		const fault = this.#note("process", what, pid);
		if (what === "kill")
			process.kill(pid, "SIGKILL");
		else
			await this.#stop_for(pid, ms).catch(() => {}); // it ended
		fault.until = performance.now();
	}

	async #restart(name, what, ms) {
		const one = this.parts[name];
		const old = one.part;
		old.may_fail = true;
		old.kill(what === "kill" ? "SIGKILL" : "SIGTERM");
		await old.exited;
		await pause(ms);
		one.part = await one.start();
	}

	// {"broker kill": n, ...}
	counts() {
		const counts = {};
		for (const { name, what } of this.list)
			counts[`${name} ${what}`] = (counts[`${name} ${what}`] ?? 0) + 1;
		return counts;
	}
}
