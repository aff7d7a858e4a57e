// SPDX-License-Identifier: MIT
// A broker that is killed, again and again, while users and visitors chat,
// stop, regenerate and are topped up: nothing that was answered with success
// is missing, nothing is double, no balance is wrong.
//
// KILLS says how often, KILL_SEED when: the moments, not what else the machine
// does then.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import fs from "node:fs";

import { BROKER, SIM, Site, children_of, find_program, is_running, needs,
	unix_listening, until } from "../lib/harness.mjs";
import { chat_config, ctl, events_of, get_json, of_type, post, signed_in,
	text_of, user_token, visitor } from "../lib/chat.mjs";
import { diag, patience, skip_all, test } from "../lib/tap.mjs";

if (!fs.existsSync(SIM))
	skip_all("the simulator is not built; run deploy/check");

const KILLS = Number(process.env.KILLS ?? 100);
const SEED = Number(process.env.KILL_SEED ?? crypto.randomInt(2 ** 31));

// mulberry32: a number from 0 to below 1.
function random_of(seed) {
	let a = seed | 0;
	return () => {
		a = (a + 0x6d2b79f5) | 0;
		let x = Math.imul(a ^ (a >>> 15), 1 | a);
		x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
		return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
	};
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// ---- the broker, and who starts it again ----

// The listening socket stays open, as systemd holds it; the broker is started
// again whenever it ends.
const SUPERVISOR = `
trap 'kill -TERM $pid; wait $pid; exit $?' TERM
while :; do
	sh -c 'export LISTEN_PID=$$; exec "$@"' sh "$@" &
	pid=$!
	wait $pid
done`;

async function supervise(site, config, env) {
	const file = site.write("culvert.conf", config);
	const part = site.start("broker", [find_program("systemd-socket-activate"),
	    "-l", site.broker_sock, ...Object.keys(env).flatMap((name) =>
	        ["-E", name]), "/bin/sh", "-c", SUPERVISOR, "sh", BROKER, "-f",
	    file], { env });
	await part.listens(() => unix_listening(site.broker_sock), "listens");
	fs.chmodSync(site.broker_sock, 0o666);
	return part;
}

const is_broker = (pid) => {
	try {
		return fs.readFileSync(`/proc/${pid}/comm`, "latin1") ===
		    "culvert-broker\n" && is_running(pid);
	} catch {
		return false; // it is gone
	}
};

const kill_broker = (part) => until(() => {
	const pid = children_of(part.pid).find(is_broker);
	return pid !== undefined && process.kill(pid, "SIGKILL");
}, "a broker runs");

// ---- those who chat ----

// What one of them did, and what came of it.
class Caller {
	constructor(base, name, who, random) {
		Object.assign(this, { base, name, who, random });
		this.sent = 0;
		this.questions = new Map(); // content -> what is known of it
		this.answers = new Map(); // message id -> as it was completed
		this.chats = new Set();
		this.topped_up = 0;
		this.retries = 0;
	}

	pick(list) { return list[Math.floor(this.random() * list.length)]; }

	// Ask until there is an outcome, always with the same key: the event
	// assistant_complete, or null where the answer failed for good.
	async persist(target, body, { stop_after } = {}) {
		const headers = { "Idempotency-Key": crypto.randomUUID() };
		const limit = performance.now() + 60000 * patience;
		for (let attempt = 0; performance.now() < limit; attempt++) {
			if (attempt > 0) {
				this.retries++;
				await pause(20);
			}
			const outcome = await this.attempt(target, body, headers,
			    attempt === 0 ? stop_after : undefined)
			    .catch((err) => {
				if (err instanceof assert.AssertionError)
					throw err;
				this.last = err;
				return undefined; // the broker, or lighttpd, hung up
			    });
			if (outcome !== undefined)
				return outcome;
		}
		throw new Error(`${this.name}: no outcome of ${target} in a ` +
		    `minute: ${this.last}`);
	}

	async attempt(target, body, headers, stop_after) {
		const answer = await post(this.base, `/api/v1/messages/${target}`,
		    this.who, body, { headers,
		        signal: AbortSignal.timeout(20000 * patience) });
		if (answer.status !== 200) {
			const text = await answer.text();
			// 409: what the broker's death broke off, or our own
			// first try, still runs
			assert.ok(answer.status >= 500 || answer.status === 409,
			    `${this.name}: ${target}: ${answer.status} ${text}`);
			this.last = `${answer.status} ${text}`;
			return undefined;
		}
		let deltas = 0;
		const seen = [];
		for await (const event of events_of(answer)) {
			seen.push(event);
			if (event.event === "assistant_delta" &&
			    ++deltas === stop_after)
				await post(this.base, "/api/v1/messages/stop",
				    this.who, { chat_id: seen[0].data.chat_id })
				    .then((r) => r.text());
			if (event.event === "assistant_complete")
				return this.completed(event.data, seen);
			if (event.event === "assistant_error")
				return null;
		}
		this.last = "the stream was cut";
		return undefined;
	}

	completed(data, seen) {
		const { message, chat_id } = data;
		assert.equal(text_of(seen), message.content,
		    `${this.name}: deltas and message`);
		this.answers.set(message.id, { ...message, chat_id });
		this.chats.add(chat_id);
		return data;
	}

	async send() {
		const content = `${this.name} asks ${++this.sent}: ` +
		    "one two three four five six seven eight nine ten ".repeat(2);
		const known = { done: null };
		this.questions.set(content, known);
		const body = { content };
		if (this.chats.size > 0 && this.random() < 0.7)
			body.chat_id = this.pick([...this.chats]);
		known.done = await this.persist("send", body, {
			stop_after: this.random() < 0.2 ?
			    1 + Math.floor(this.random() * 10) : undefined,
		});
	}

	async regenerate() {
		const message = this.pick([...this.answers.values()]);
		await this.persist("regenerate", { chat_id: message.chat_id });
	}

	async top_up(site) {
		const id = crypto.randomUUID();
		const amount = 1 + Math.floor(this.random() * 5);
		for (;;)
			try {
				await ctl(site, "topup", this.name,
				    String(amount), "--id", id);
				break;
			} catch (err) {
				this.last = err; // no broker just now
				await pause(20);
			}
		this.topped_up += amount * 1e6;
	}

	async run(site, is_over) {
		const is_user = "Authorization" in this.who;
		if (is_user)
			await this.top_up(site);
		while (!is_over()) {
			const r = this.random();
			if (is_user && r < 0.1)
				await this.top_up(site);
			else if (r < 0.3 && this.answers.size > 0)
				await this.regenerate();
			else
				await this.send();
		}
	}
}

// ---- what must hold in the end ----

async function all_pages(caller, target, member) {
	const list = [];
	for (let page = 0; ; page++) {
		const mark = target.includes("?") ? "&" : "?";
		const answer = await get_json(caller.base,
		    `${target}${mark}page=${page}&limit=100`, caller.who);
		list.push(...answer[member]);
		if (answer[member].length === 0 || list.length >= answer.total)
			return list;
	}
}

async function check_messages(caller) {
	const stored = new Map(), asked = new Map();
	for (const chat of await all_pages(caller, "/api/v1/chats", "chats"))
		for (const message of await all_pages(caller, `/api/v1/chats/` +
		    `${chat.id}/messages?all_versions=true`, "messages")) {
			assert.ok(!stored.has(message.id), "an id is there twice");
			stored.set(message.id, { ...message, chat_id: chat.id });
			assert.notEqual(message.status, "streaming",
			    `${caller.name}: nothing runs any more`);
			if (message.role !== "user")
				continue;
			assert.ok(!asked.has(message.content),
			    `${caller.name}: twice: ${message.content}`);
			asked.set(message.content, message);
		}
	for (const [content, { done }] of caller.questions) {
		if (done === null)
			continue; // failed, and said so
		assert.ok(asked.has(content), `${caller.name}: lost: ${content}`);
		assert.equal(asked.get(content).chat_id ??
		    stored.get(asked.get(content).id).chat_id, done.chat_id);
	}
	for (const content of asked.keys())
		assert.ok(caller.questions.has(content), `unasked: ${content}`);
	for (const [id, answer] of caller.answers) {
		assert.ok(stored.has(id), `${caller.name}: answer ${id} is lost`);
		const { content, status, chat_id } = stored.get(id);
		assert.deepEqual({ content, status, chat_id }, {
			content: answer.content, status: answer.status,
			chat_id: answer.chat_id,
		});
	}
	return stored.size;
}

async function check_balance(site, caller) {
	const usage = await get_json(caller.base, "/api/v1/usage", caller.who);
	const report = await ctl(site, "usage", "--by", "user", "--from",
	    "2000-01-01", "--to", "2999-12-31");
	const row = report.rows.find(({ user }) => user === caller.name);
	assert.ok(row, `${caller.name} is in the ledger`);
	assert.equal(usage.reserved_micro, 0, `${caller.name}: reserved`);
	assert.equal(row.unpriced, 0);
	assert.equal(usage.balance_micro, caller.topped_up -
	    Math.round(Number(row.cost.USD) * 1e6), `${caller.name}: balance`);
}

// ---- all of it ----

test(`${KILLS} times killed, nothing lost, nothing double`, async (t) => {
	diag(`KILL_SEED=${SEED}`);
	const site = await Site.open(t);
	const secret = site.canary("users' secret", "");
	const sim = await site.sim(["--pace", "4"]);
	const config = chat_config(site, sim,
	    { anonymous: "messages = 1000000" });
	const broker = await supervise(site, config,
	    { ...site.env(), USER_SECRET: secret });
	const front = await site.front("lighttpd");
	const base = `http://127.0.0.1:${front.port}`;
	const is_ready = async () => (await fetch(`${base}/readyz`)
	    .catch(() => ({}))).status === 200;
	await until(is_ready, "it is ready");

	const random = random_of(SEED);
	const seed = () => random_of(Math.floor(random() * 2 ** 32));
	const callers = [];
	for (let i = 0; i < 4; i++) {
		const user = `user-${i}`;
		callers.push(new Caller(base, user,
		    signed_in(user_token(secret, user)), seed()));
		callers.push(new Caller(base, `visitor-${i}`,
		    visitor(`visitor-000${i}`), seed()));
	}
	let over = false;
	const runs = Promise.all(callers.map((caller) =>
	    caller.run(site, () => over)));
	runs.catch(() => {});
	for (let i = 0; i < KILLS; i++) {
		// one in five while it starts
		const from = broker.output.length;
		await kill_broker(broker);
		if (random() > 0.2)
			await broker.wait_for(/ broker\.start /, { from });
		await Promise.race([runs, pause(random() * 400 * patience)]);
	}
	over = true;
	await runs;
	await until(is_ready, "it is ready at last");

	let messages = 0;
	for (const caller of callers) {
		messages += await check_messages(caller);
		if ("Authorization" in caller.who)
			await check_balance(site, caller);
	}
	const sum = (of) => callers.reduce((n, caller) => n + of(caller), 0);
	const retries = sum((caller) => caller.retries);
	diag(`${messages} messages, ${sum((c) => c.answers.size)} answers ` +
	    `completed, ${retries} retries`);
	assert.ok(retries >= KILLS / 4, "the kills hit something");
}, { timeout: 300000, skip: needs("lighttpd", "systemd-socket-activate") });
