// SPDX-License-Identifier: MIT
// hostile: a whole site under attack, and those who must not notice.
//
// A row is one bad input and its right answer.  After each the programs are
// the same processes, nothing of the input came back (every row carries a
// canary and a line that would be a header of ours), a tunnel and a stream of
// somebody else go on, and the broker holds no more descriptors than before.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";

import { chat_config, post, user_token, visitor } from "./chat.mjs";
import * as fcgi from "./fcgi.mjs";
import { Site, is_running, until } from "./harness.mjs";
import { RawServer, answers, exchange, upgrade_request } from "./rawws.mjs";

export const INJECTED = "X-Injected";

export const LIVEKIT = "/api/livekit/token";
export const SECRETS = "/v1/realtime/client_secrets";
export const SEND = "/api/v1/messages/send";
export const TICKETS = "/api/tickets";
export const ANAM = "/v1/engine/session";

let rows_run = 0;
process.on("exit", () => {
	if (rows_run > 0)
		fs.writeSync(1, `# ${rows_run} hostile cases\n`);
});

function fds_of(pid) {
	try {
		return fs.readdirSync(`/proc/${pid}/fd`).length;
	} catch {
		return 0; // they are root's to see
	}
}

export class Target {
	// front: a web server's name, or "direct".
	// relays: as of Site.config(), made of the target.
	static async open(t, front = "direct", { chat = {}, rest = "",
	    relays = () => [], openai = () => "", store = "store.db",
	    broker = [], tunnel } = {}) {
		const self = new Target();
		const site = self.site = await Site.open(t);
		site.user_secret = site.canary("users' secret", "");
		self.bait = site.canary("what a client sent");
		self.sim = await site.sim();
		self.vendor = await RawServer.listen();
		self.config = chat_config(site, self.sim, {
			...chat, rest: self.#sections(openai(site)) + rest + relays(self)
			    .map(([title, body]) => `relay "${title}" {\n${body}\n}\n`)
			    .join(""),
		});
		fs.mkdirSync(path.dirname(site.file(store)), { recursive: true });
		self.config = self.config.replace("store.db", store);
		Object.assign(self, await site.serve(self.config, {
			broker: { args: broker,
			    env: { USER_SECRET: site.user_secret } }, tunnel }));
		self.front = await site.front(front);
		self.where = self.front.name === "direct" ? null : self.front.where;
		await self.#settle();
		return self;
	}

	#sections(openai) {
		return `relay "/raw" {
${this.site.relay(this.vendor.port)}
}
relay "/echo" {
${this.site.relay(this.sim.ws_port, "client_message_bytes = 65536", "/echo")}
}
relay "/ws" {
	inherit = "openai"
	messages = "text"
}
relay "/ticketed" {
	inherit = "openai"
	client_secrets = true
	require_ticket = true
}
openai {
	api_key = "env:OPENAI_API_KEY"
	url = "ws://127.0.0.1:${this.sim.ws_port}/v1/realtime"
	paths = {"/v1/realtime"}
	models = {"gpt-realtime"}
	client_secrets = true
	client_message_bytes = 65536
	${openai}
}
anam {
	api_key = "env:ANAM_API_KEY"
	url = "http://127.0.0.1:${this.sim.http_port}"
	hosts = {"127.0.0.1"}
	allow_http = true
	allow_private = true
	personas = {"persona-1", "sim-*"}
}
livekit {
	url = "wss://livekit.example"
	api_key = "env:LIVEKIT_API_KEY"
	api_secret = "env:LIVEKIT_API_SECRET"
	token "default" {
		room_join = true
	}
}
`;
	}

	// The bystanders, and everything that is opened once and kept.
	async #settle() {
		const { site } = this;
		this.other = await site.pair(site.direct(), "/raw", this.vendor);
		for (const [target, body] of [[LIVEKIT, {}], [SECRETS, {}],
		    [ANAM, { personaId: "persona-1" }],
		    [TICKETS, { route: "/raw" }],
		    [SEND, { content: site.content("prompt") }]])
			await this.fcgi("POST", target, { body: JSON.stringify(body) });
		this.fds = fds_of(this.broker.pid);
		this.pids = [this.broker.pid, this.tunnel.pid];
	}

	token(sub, claims) {
		return user_token(this.site.user_secret, sub, claims);
	}

	// ---- what rows send ----

	// Past the web server, as none would send it.
	fcgi(method, target, { headers = {}, ...more } = {}) {
		return fcgi.request(this.site.broker_sock, method, target, {
			headers: { "Content-Type": "application/json",
			    "x-anon-id": "visitor-0001", ...headers }, ...more });
	}

	// Through the web server; direct: as fcgi().
	async http(method, target, { headers = {}, body, ...more } = {}) {
		if (this.where === null)
			return this.fcgi(method, target, { headers, body, ...more });
		const all = { ...this.front.headers,
		    "Content-Type": "application/json",
		    "x-anon-id": "visitor-0001", Connection: "close",
		    ...body === undefined ? {} :
		    { "Content-Length": Buffer.byteLength(body) }, ...headers };
		const head = `${method} ${target} HTTP/1.1\r\n` +
		    Object.entries(all).filter(([, v]) => v !== null)
		        .map(([n, v]) => `${n}: ${v}\r\n`).join("") + "\r\n";
		const answer = await exchange(this.where, Buffer.concat([
		    Buffer.from(head), Buffer.from(body ?? "")]));
		return { ...answer, get: (name) => answer.head?.get(name) };
	}

	async handshake(target, headers = {}, options = {}) {
		const list = Array.isArray(headers) ?
		    [...Object.entries(this.front.headers), ...headers] :
		    { ...this.front.headers, ...headers };
		const answer = await exchange(this.front.where,
		    upgrade_request(target, list, options), options);
		if (answer.status === 101)
			answer.conn.destroy();
		return { ...answer, get: (name) => answer.head?.get(name) };
	}

	connect(target, headers) {
		return this.site.connect(this.front, target, headers);
	}

	// ---- rows ----

	// rows: [name, send, status, check?]: send(target) resolves to an answer,
	// or checks by itself where status is undefined.
	async run(section, rows) {
		const failures = [];
		for (const [name, send, status, check] of rows) {
			rows_run++;
			try {
				await this.#row(send, status, check);
			} catch (err) {
				failures.push(`${section}: ${name}: ` +
				    `${err.stack ?? err}`);
			}
			if (failures.length >= 12)
				break;
		}
		if (failures.length > 0)
			throw new Error(`${failures.length} of ${rows.length} rows:\n` +
			    failures.join("\n"));
	}

	async #row(send, status, check) {
		const from = answers.length;
		const answer = await send(this);
		if (status !== undefined)
			assert.ok([status].flat().includes(answer.status),
			    `${answer.status}, not ${status}: ` +
			    `${answer.body?.slice(0, 300)}`);
		check?.(answer);
		if (answer?.status === 503 || answer?.status === 429)
			assert.ok(Number(answer.get("retry-after")) > 0,
			    "says when to come back");
		for (const bytes of answers.slice(from))
			this.#check_answer(bytes.toString("latin1"));
		await this.check_peace();
	}

	#check_answer(text) {
		assert.ok(!text.includes(this.bait), "the input is not reflected");
		assert.doesNotMatch(text, new RegExp(`^${INJECTED}`, "im"));
	}

	// Nobody else noticed, and nothing stays behind.
	async check_peace() {
		const { client, upstream } = this.other;
		for (const pid of this.pids)
			assert.ok(is_running(pid), `process ${pid} lives`);
		const word = `${Math.random()}`;
		await client.send_text(word);
		assert.equal((await upstream.data_frame()).payload.toString(), word);
		await until(() => fds_of(this.broker.pid) <= this.fds,
		    `the broker has ${this.fds} descriptors again`);
	}

	// A line of a log that an input has made.
	check_logs() {
		for (const { name, output } of [this.broker, this.tunnel])
			assert.doesNotMatch(output, new RegExp(`^${INJECTED}`, "im"),
			    `no line of the client's in the log of ${name}`);
	}
}

// A stream of somebody else's; more() waits until it has gone on.
export async function bystander(target) {
	const stop = new AbortController();
	const answer = await post(`http://localhost:${target.front.port}`, SEND,
	    visitor("visitor-9999"),
	    { content: "/sim endless per_s=50" }, { signal: stop.signal });
	assert.equal(answer.status, 200);
	const reader = answer.body.getReader();
	return {
		more: async () => assert.ok(!(await reader.read()).done),
		stop: () => stop.abort(),
	};
}
