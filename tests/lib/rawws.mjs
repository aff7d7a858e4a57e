// SPDX-License-Identifier: MIT
// rawws: WebSocket and HTTP/1.1 on bare sockets, for tests that must be able
// to send anything.  Nothing here checks what it sends; what it receives it
// parses, and keeps every bit of it for the test to look at.
import crypto from "node:crypto";
import net from "node:net";
import tls from "node:tls";

import { current, deadline } from "./tap.mjs";

export const OP = {
	cont: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10,
};

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const BUFFER_MAX = 4 * 1024 * 1024; // then reading waits for the test

// Whatever an HTTP peer answered, kept for the canary check (harness.mjs).
export const answers = [];

export function accept_key(key) {
	return crypto.createHash("sha1").update(key + GUID).digest("base64");
}

export function mask_bytes(payload, mask) {
	const out = Buffer.allocUnsafe(payload.length);
	const words = payload.length >> 2;
	let i = 0;

	payload = Buffer.from(payload); // aligned, and the caller's stays
	if (out.byteOffset % 4 === 0 && payload.byteOffset % 4 === 0) {
		const a = new Int32Array(payload.buffer, payload.byteOffset, words);
		const b = new Int32Array(out.buffer, out.byteOffset, words);
		const m = mask.readInt32LE(0);
		for (let w = 0; w < words; w++)
			b[w] = a[w] ^ m;
		i = words * 4;
	}
	for (; i < payload.length; i++)
		out[i] = payload[i] ^ mask[i & 3];
	return out;
}

// One frame.  mask: true (random), false, or four bytes.  length: the number
// that the header says; form: 7, 16 or 64 bits of it, default the shortest.
export function frame(opcode, payload = "", options = {}) {
	const data = Buffer.from(payload);
	const length = BigInt(options.length ?? data.length);
	const form = options.form ??
	    (length < 126n ? 7 : length < 65536n ? 16 : 64);
	const bit = options.mask === false ? 0 : 0x80;
	const head = Buffer.alloc(form === 7 ? 2 : form === 16 ? 4 : 10);

	head[0] = (options.fin === false ? 0 : 0x80) |
	    (options.rsv ?? 0) << 4 | opcode;
	if (form === 7)
		head[1] = bit | Number(length);
	else if (form === 16) {
		head[1] = bit | 126;
		head.writeUInt16BE(Number(length), 2);
	} else {
		head[1] = bit | 127;
		head.writeBigUInt64BE(length, 2);
	}
	if (!bit)
		return Buffer.concat([head, data]);
	const mask = Buffer.isBuffer(options.mask) ? options.mask :
	    crypto.randomBytes(4);
	return Buffer.concat([head, mask, mask_bytes(data, mask)]);
}

export function close_payload(code, reason = "") {
	const text = Buffer.from(reason);
	const out = Buffer.alloc(2 + text.length);

	out.writeUInt16BE(code);
	text.copy(out, 2);
	return out;
}

// A connection of either kind.  Reads are promises; null is the end.
export class Conn {
	#chunks = [];
	#have = 0;
	#ended = false;
	#error = null;
	#waiting = null;
	#stalled = false;

	constructor(socket, { role = "client", timeout = 20000 } = {}) {
		this.socket = socket;
		this.role = role; // "client" sends masked frames
		this.timeout = timeout;
		socket.on("data", (chunk) => {
			this.#chunks.push(chunk);
			this.#have += chunk.length;
			if (this.#have > BUFFER_MAX)
				socket.pause();
			this.#wake();
		});
		socket.on("end", () => { this.#ended = true; this.#wake(); });
		socket.on("close", () => { this.#ended = true; this.#wake(); });
		socket.on("error", (err) => {
			this.#error = err;
			this.#ended = true;
			this.#wake();
		});
		current.getStore()?.after(() => socket.destroy());
	}

	get error() { return this.#error; }
	get have() { return this.#have; }

	#wake() {
		const waiting = this.#waiting;
		this.#waiting = null;
		waiting?.();
	}

	async #more(what) {
		if (!this.#stalled)
			this.socket.resume();
		await deadline(new Promise((resolve) => {
			this.#waiting = resolve;
		}), this.timeout, what);
	}

	#join() {
		if (this.#chunks.length > 1)
			this.#chunks = [Buffer.concat(this.#chunks, this.#have)];
		return this.#chunks[0] ?? Buffer.alloc(0);
	}

	#take(n) {
		const all = this.#join();
		this.#chunks = n < all.length ? [all.subarray(n)] : [];
		this.#have -= n;
		if (!this.#stalled && this.#have <= BUFFER_MAX)
			this.socket.resume();
		return all.subarray(0, n);
	}

	// Exactly n bytes; null where the peer ended before them.
	async bytes(n, what = "bytes") {
		while (this.#have < n) {
			if (this.#ended)
				return null;
			await this.#more(what);
		}
		return this.#take(n);
	}

	// Everything up to the end.
	async rest(what = "the end of the connection") {
		while (!this.#ended)
			await this.#more(what);
		return this.#take(this.#have);
	}

	// Resolves when the connection is over, whatever came before.
	async over(what = "the end of the connection") {
		while (!this.#ended) {
			this.#take(this.#have);
			await this.#more(what);
		}
	}

	// An HTTP head, parsed; null at the end.
	async head(what = "an HTTP head") {
		for (;;) {
			const at = this.#join().indexOf("\r\n\r\n");
			if (at >= 0)
				return parse_head(this.#take(at + 4));
			if (this.#ended)
				return null;
			await this.#more(what);
		}
	}

	// A frame: {fin, rsv, opcode, masked, payload, raw_length}; null at EOF.
	async frame(what = "a frame") {
		const start = await this.bytes(2, what);
		if (start === null)
			return null;
		const short = start[1] & 0x7f;
		let length = short;
		if (short >= 126) {
			const more = await this.bytes(short === 126 ? 2 : 8, what);
			if (more === null)
				return null;
			length = short === 126 ? more.readUInt16BE() :
			    Number(more.readBigUInt64BE());
		}
		const masked = (start[1] & 0x80) !== 0;
		const mask = masked ? await this.bytes(4, what) : null;
		const payload = await this.bytes(length, what);
		if (payload === null || (masked && mask === null))
			return null;
		return {
			fin: (start[0] & 0x80) !== 0,
			rsv: start[0] >> 4 & 7,
			opcode: start[0] & 15,
			masked,
			payload: masked ? mask_bytes(payload, mask) :
			    Buffer.from(payload),
		};
	}

	// The next frame that is not a ping or a pong.
	async data_frame(what = "a data frame") {
		for (;;) {
			const f = await this.frame(what);
			if (f === null || (f.opcode !== OP.ping && f.opcode !== OP.pong))
				return f;
		}
	}

	// A whole message: {opcode, payload, fragments}; control frames between
	// fragments go to on_control.
	async message(on_control = () => {}) {
		const parts = [];
		let opcode = -1;
		for (;;) {
			const f = await this.frame("a message");
			if (f === null)
				return null;
			if (f.opcode >= 8) {
				if (f.opcode === OP.close)
					return { opcode: OP.close, payload: f.payload,
					    fragments: [] };
				on_control(f);
				continue;
			}
			if (opcode < 0)
				opcode = f.opcode;
			parts.push(f.payload);
			if (f.fin)
				return { opcode, payload: Buffer.concat(parts),
				    fragments: parts.map((p) => p.length) };
		}
	}

	// The close frame, data before it skipped: {code, reason}; code 0 where
	// it is empty; null where the connection ended without one.
	async closed(what = "a close frame") {
		for (;;) {
			const f = await this.frame(what);
			if (f === null)
				return null;
			if (f.opcode !== OP.close)
				continue;
			return {
				code: f.payload.length >= 2 ?
				    f.payload.readUInt16BE() : 0,
				reason: f.payload.subarray(2).toString(),
				masked: f.masked,
			};
		}
	}

	// Write; resolves when the kernel has all of it.
	write(data) {
		return new Promise((resolve, reject) => {
			this.socket.write(data, (err) => err ? reject(err) : resolve());
		});
	}

	async write_each(data, size = 1) {
		this.socket.setNoDelay?.(true);
		for (let at = 0; at < data.length; at += size) {
			await this.write(data.subarray(at, at + size));
			await new Promise((resolve) => setImmediate(resolve));
		}
	}

	send(opcode, payload = "", options = {}) {
		return this.write(frame(opcode, payload,
		    { mask: this.role === "client", ...options }));
	}

	send_text(text, options) { return this.send(OP.text, text, options); }

	send_close(code, reason = "") {
		return this.send(OP.close,
		    code === 0 ? "" : close_payload(code, reason));
	}

	// Take nothing off the socket any more, so that the peer gets stuck.
	stall() { this.#stalled = true; this.socket.pause(); }
	unstall() { this.#stalled = false; this.socket.resume(); }

	reset() { this.socket.resetAndDestroy(); }
	end() { this.socket.end(); }
	destroy() { this.socket.destroy(); }
}

export function parse_head(raw) {
	const lines = raw.toString("latin1").split("\r\n");
	const first = lines.shift();
	const list = [];

	for (const line of lines) {
		const at = line.indexOf(":");
		if (at > 0)
			list.push([line.slice(0, at).toLowerCase(),
			    line.slice(at + 1).trim()]);
	}
	const head = {
		first, list, raw,
		get: (name) => list.find(([n]) => n === name)?.[1],
		all: (name) => list.filter(([n]) => n === name).map(([, v]) => v),
	};
	if (first.startsWith("HTTP/")) {
		head.status = Number(first.split(" ")[1]);
		answers.push(head.raw);
	} else {
		[head.method, head.target] = first.split(" ");
	}
	return head;
}

// where: {path} of a Unix socket, or {port, host?, local?: the address to
// connect from}; tls: options of
// tls.connect, or absent.
export async function dial(where, options = {}) {
	const target = where.path ? { path: where.path } :
	    { host: where.host ?? "127.0.0.1", port: where.port,
	        localAddress: where.local };
	const socket = options.tls || where.tls ?
	    tls.connect({ ...target, ...where.tls, ...options.tls }) :
	    net.connect({ ...target, highWaterMark: options.high_water });
	const event = socket instanceof tls.TLSSocket ?
	    "secureConnect" : "connect";
	await deadline(new Promise((resolve, reject) => {
		socket.once(event, resolve);
		socket.once("error", reject);
	}), 10000, "connecting");
	socket.setNoDelay?.(true);
	return new Conn(socket, { role: "client", ...options });
}

// Text of a request head.  headers: an object (null leaves a default out, an
// array repeats) or a list of pairs that is taken as it stands.
export function upgrade_request(target, headers = {}, options = {}) {
	const method = options.method ?? "GET";
	const version = options.version ?? "HTTP/1.1";
	let list = headers;

	if (!Array.isArray(headers)) {
		const all = {
			Host: "localhost",
			Connection: "Upgrade",
			Upgrade: "websocket",
			"Sec-WebSocket-Version": "13",
			"Sec-WebSocket-Key": options.key ??
			    crypto.randomBytes(16).toString("base64"),
			...headers,
		};
		list = Object.entries(all).filter(([, v]) => v !== null)
		    .flatMap(([n, v]) => Array.isArray(v) ?
		        v.map((one) => [n, one]) : [[n, v]]);
	}
	return `${method} ${target} ${version}\r\n` +
	    list.map(([n, v]) => `${n}: ${v}\r\n`).join("") + "\r\n";
}

// Send arbitrary bytes and read the whole answer.
export async function exchange(where, bytes, options = {}) {
	const conn = await dial(where, options);
	if (Array.isArray(bytes))
		for (const part of bytes)
			conn.write(part).catch(() => {});
	else
		conn.write(bytes).catch(() => {});
	const head = await conn.head("an answer");
	if (head === null)
		return { conn, status: 0, head: null, body: "", closed: true };
	const answer = { conn, status: head.status, head, body: "" };
	if (head.status === 101)
		return answer;
	const length = head.get("content-length");
	if (/chunked/i.test(head.get("transfer-encoding") ?? "")) {
		const parts = [];
		for (;;) {
			let line = "";
			for (let c; (c = await conn.bytes(1)) !== null;) {
				line += c.toString("latin1");
				if (line.endsWith("\r\n"))
					break;
			}
			const size = parseInt(line, 16);
			const data = await conn.bytes(size + 2);
			if (!(size > 0) || data === null)
				break;
			parts.push(data.subarray(0, size));
		}
		answer.body = Buffer.concat(parts).toString();
	} else if (length !== undefined) {
		answer.body = (await conn.bytes(Number(length)) ?? "").toString();
	} else {
		answer.body = (await conn.rest()).toString();
	}
	answers.push(Buffer.from(answer.body));
	if (options.until_closed) {
		answer.trailing = await conn.rest();
		answer.closed = true;
	}
	try {
		answer.json = JSON.parse(answer.body);
	} catch {
		answer.json = undefined;
	}
	return answer;
}

// A WebSocket connection, or an error that has the answer.
export async function connect(where, target, headers = {}, options = {}) {
	const key = crypto.randomBytes(16).toString("base64");
	const conn = await dial(where, options);
	const head_text = upgrade_request(target, headers, { key, ...options });
	await conn.write(options.early ?
	    Buffer.concat([Buffer.from(head_text), options.early]) : head_text);
	conn.response = await conn.head("the 101");
	if (conn.response?.status !== 101)
		throw new Error(`no 101 but ${conn.response?.first} ` +
		    `${conn.response ? (await conn.rest()).toString() : ""}`);
	if (conn.response.get("sec-websocket-accept") !== accept_key(key))
		throw new Error("the 101 has a wrong Sec-WebSocket-Accept");
	return conn;
}

// Write blocks until no more are taken: the other side, which does not read,
// and everything before it is full.
export async function fill(from) {
	const block = frame(OP.binary, Buffer.alloc(1 << 16),
	    { mask: from.role === "client" });
	let count = 0;
	for (let full = false; !full && count < 1000; count++)
		full = await Promise.race([
			from.write(block).then(() => false, () => true),
			new Promise((resolve) => setTimeout(resolve, 300, true)),
		]);
	if (count === 1000)
		throw new Error("the other side does not stall");
}

// A server that does what the test says with every connection.
export class RawServer {
	#queue = [];
	#waiting = [];

	static async listen(options = {}) {
		const self = new RawServer();
		const take = (socket) => {
			socket.setNoDelay(true);
			socket.on("error", () => {});
			const conn = new Conn(socket, { role: "server" });
			const next = self.#waiting.shift();
			if (next)
				next(conn);
			else
				self.#queue.push(conn);
		};
		const t = current.getStore();
		self.server = options.tls ?
		    tls.createServer(options.tls, (s) => current.run(t, take, s)) :
		    net.createServer((s) => current.run(t, take, s));
		self.server.on("tlsClientError", () => {});
		await new Promise((resolve, reject) => {
			self.server.on("error", reject);
			self.server.listen(0, "127.0.0.1", resolve);
		});
		self.port = self.server.address().port;
		t?.after(() => self.server.close());
		return self;
	}

	// The next connection.
	next(what = "a connection at the upstream", ms = 10000) {
		const conn = this.#queue.shift();
		if (conn)
			return Promise.resolve(conn);
		return deadline(new Promise((resolve) => {
			this.#waiting.push(resolve);
		}), ms, what);
	}

	get waiting() { return this.#queue.length; }

	// The next connection after a good handshake.
	async accept(headers = {}) {
		const conn = await this.next();
		conn.request = await conn.head();
		await conn.write(switching(conn.request, headers));
		return conn;
	}
}

// A 101; headers override (null leaves out).
export function switching(request, headers = {}) {
	const all = {
		Upgrade: "websocket",
		Connection: "Upgrade",
		"Sec-WebSocket-Accept":
		    accept_key(request.get("sec-websocket-key") ?? ""),
		...headers,
	};
	return "HTTP/1.1 101 Switching Protocols\r\n" +
	    Object.entries(all).filter(([, v]) => v !== null)
	        .map(([n, v]) => `${n}: ${v}\r\n`).join("") + "\r\n";
}
