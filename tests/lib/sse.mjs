// SPDX-License-Identifier: MIT
// sse: a client of the chat on the broker's own FastCGI socket, which sees
// each event when it comes.
import net from "node:net";

import { begin, environment, params, parse_cgi, record, stream }
    from "./fcgi.mjs";
import { current, deadline } from "./tap.mjs";

const END = 3, STDIN = 5, STDOUT = 6;

// One request; its events come while it runs.
export class Stream {
	constructor(path, method, target, { headers = {}, body } = {}) {
		const text = body === undefined ? undefined :
		    typeof body === "string" ? body : JSON.stringify(body);
		const fixed = text === undefined ? {} : {
			"Content-Type": "application/json",
			"Content-Length": String(Buffer.byteLength(text)),
		};

		this.raw = Buffer.alloc(0);
		this.out = Buffer.alloc(0);
		this.events = []; // {id, event, data, at, piece}
		this.comments = 0;
		this.pieces = 0;
		this.ended = false; // as FastCGI says
		this.closed = false;
		this.waiting = new Set();
		this.socket = net.connect({ path });
		this.socket.on("connect", () => this.socket.write(Buffer.concat([
			begin(),
			params(environment(method, target,
			    { ...fixed, ...headers })),
			stream(STDIN, text ?? ""), record(STDIN),
		])));
		this.socket.on("data", (data) => this.#take(data));
		this.socket.on("error", () => {});
		this.socket.on("close", () => {
			this.closed = true;
			this.#wake();
		});
		current.getStore()?.after(() => this.socket.destroy());
	}

	#wake() {
		for (const fn of [...this.waiting])
			fn();
	}

	#take(data) {
		this.raw = Buffer.concat([this.raw, data]);
		while (this.raw.length >= 8) {
			const len = this.raw.readUInt16BE(4);
			const end = 8 + len + this.raw[6];
			if (this.raw.length < end)
				break;
			if (this.raw[1] === STDOUT && len > 0) {
				this.pieces++;
				this.out = Buffer.concat([this.out,
				    this.raw.subarray(8, 8 + len)]);
				this.#parse();
			}
			this.ended ||= this.raw[1] === END;
			this.raw = this.raw.subarray(end);
		}
		this.#wake();
	}

	#parse() {
		let at;
		if (this.head === undefined) {
			at = this.out.indexOf("\r\n\r\n");
			if (at === -1)
				return;
			this.head = parse_cgi(this.out.subarray(0, at + 4));
			this.status = this.head.status;
			this.body = "";
			this.out = this.out.subarray(at + 4);
		}
		this.body += this.out.toString("utf8");
		while ((at = this.out.indexOf("\n\n")) !== -1) {
			this.#event(this.out.subarray(0, at).toString("utf8"));
			this.out = this.out.subarray(at + 2);
		}
	}

	#event(text) {
		const event = { at: performance.now(), piece: this.pieces };
		for (const line of text.split("\n")) {
			const colon = line.indexOf(": ");
			if (colon === 0)
				this.comments++;
			else if (colon > 0)
				event[line.slice(0, colon)] = line.slice(colon + 2);
		}
		if (event.event === undefined)
			return;
		event.data = JSON.parse(event.data);
		this.events.push(event);
	}

	until(probe, what, ms = 10000) {
		return deadline(new Promise((resolve, reject) => {
			const look = () => {
				const value = probe(this);
				if (value || this.closed)
					this.waiting.delete(look);
				if (value)
					resolve(value);
				else if (this.closed)
					reject(new Error(`over before ${what}: ` +
					    `${this.status} ${this.body}`));
			};
			this.waiting.add(look);
			look();
		}), ms, what);
	}

	// The answer has begun: its head is there.
	begun() { return this.until(() => this.head, "the head"); }

	// The n-th event of this name, counted from 1.
	event(name, n = 1, ms) {
		return this.until(() =>
		    this.events.filter((e) => e.event === name)[n - 1],
		    `${name} ${n}`, ms);
	}

	// All of it.
	async over(ms) {
		await this.until(() => this.ended || this.closed, "the end", ms);
		return this;
	}

	names() { return this.events.map((e) => e.event); }
	text() {
		return this.events.filter((e) => e.event === "assistant_delta")
		    .map((e) => e.data.delta).join("");
	}
	find(name) { return this.events.find((e) => e.event === name)?.data; }
	last_id() { return this.events.at(-1)?.id; }

	// As if the web server had hung up.
	leave() { this.socket.destroy(); }
}
