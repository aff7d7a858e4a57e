// SPDX-License-Identifier: MIT
// fcgi: a FastCGI client on a bare Unix socket, so that a test can send any
// parameters, any body, and both as slowly as it likes.
import net from "node:net";

import { current, deadline } from "./tap.mjs";
import { answers } from "./rawws.mjs";

const BEGIN = 1, ABORT = 2, END = 3, PARAMS = 4, STDIN = 5, STDOUT = 6;

export function record(type, data = "", id = 1) {
	const body = Buffer.from(data);
	const head = Buffer.alloc(8);

	head[0] = 1;
	head[1] = type;
	head.writeUInt16BE(id, 2);
	head.writeUInt16BE(body.length, 4);
	return Buffer.concat([head, body]);
}

// Records of one stream, without its end.
export function stream(type, data) {
	const body = Buffer.from(data);
	const records = [];
	for (let at = 0; at < body.length; at += 65528)
		records.push(record(type, body.subarray(at, at + 65528)));
	return Buffer.concat(records);
}

export function begin({ keep = false } = {}) {
	return record(BEGIN, Buffer.from([0, 1, keep ? 1 : 0, 0, 0, 0, 0, 0]));
}

export function params(values) {
	const parts = [];
	for (const [name, value] of Object.entries(values)) {
		if (value === null || value === undefined)
			continue;
		for (const text of [name, value]) {
			const len = Buffer.byteLength(text);
			const head = Buffer.alloc(len < 128 ? 1 : 4);
			if (len < 128)
				head[0] = len;
			else
				head.writeUInt32BE((len | 0x80000000) >>> 0);
			parts.push(head);
		}
		parts.push(Buffer.from(name), Buffer.from(value));
	}
	return Buffer.concat([stream(PARAMS, Buffer.concat(parts)),
	    record(PARAMS)]);
}

// The parameters of a request as a web server makes them.
export function environment(method, target, headers = {}, more = {}) {
	const env = {
		GATEWAY_INTERFACE: "CGI/1.1",
		SERVER_PROTOCOL: "HTTP/1.1",
		SERVER_NAME: "localhost",
		SERVER_PORT: "80",
		REMOTE_ADDR: "127.0.0.1",
		REMOTE_PORT: "40000",
		REQUEST_METHOD: method,
		REQUEST_URI: target,
		SCRIPT_NAME: target.split("?")[0],
		QUERY_STRING: target.split("?")[1] ?? "",
		HTTP_HOST: "localhost",
	};
	for (const [name, value] of Object.entries(headers)) {
		const key = name.toUpperCase().replaceAll("-", "_");
		if (key === "CONTENT_TYPE" || key === "CONTENT_LENGTH")
			env[key] = value;
		else
			env[`HTTP_${key}`] = value;
	}
	return { ...env, ...more };
}

// One connection; write() what you like, then answer().
export class Fcgi {
	static async dial(path) {
		const self = new Fcgi();
		self.socket = net.connect({ path });
		self.parts = [];
		self.done = new Promise((resolve) => {
			self.socket.on("data", (data) => self.parts.push(data));
			self.socket.on("close", resolve);
			self.socket.on("error", (err) => { self.error = err; });
		});
		current.getStore()?.after(() => self.socket.destroy());
		await new Promise((resolve, reject) => {
			self.socket.once("connect", resolve);
			self.socket.once("error", reject);
		});
		return self;
	}

	write(...buffers) {
		return new Promise((resolve) =>
		    this.socket.write(Buffer.concat(buffers), () => resolve()));
	}

	stdin(data) { return this.write(record(STDIN, data)); }
	stdin_end() { return this.write(record(STDIN)); }
	abort() { return this.write(record(ABORT)); }

	// {status, headers, body, json}, once the connection is over.
	async answer(ms = 10000) {
		await deadline(this.done, ms, "the FastCGI answer");
		return parse(Buffer.concat(this.parts));
	}
}

function parse(bytes) {
	const out = [];
	let ended = false;
	for (let at = 0; at + 8 <= bytes.length;) {
		const type = bytes[at + 1];
		const len = bytes.readUInt16BE(at + 4);
		if (type === STDOUT)
			out.push(bytes.subarray(at + 8, at + 8 + len));
		else if (type === END)
			ended = true;
		at += 8 + len + bytes[at + 6];
	}
	return { ...parse_cgi(Buffer.concat(out)), ended };
}

// What a CGI program answers.
export function parse_cgi(bytes) {
	const text = Buffer.from(bytes).toString("utf8");
	answers.push(Buffer.from(bytes));
	const [, head, body] = /^([\s\S]*?)\r?\n\r?\n([\s\S]*)$/.exec(text) ??
	    [text, "", ""];
	const list = head.split(/\r?\n/).filter(Boolean).map((line) => {
		const at = line.indexOf(":");
		return [line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()];
	});
	const get = (name) => list.find(([n]) => n === name)?.[1];
	let json;
	try {
		json = JSON.parse(body);
	} catch {
		json = undefined;
	}
	return {
		status: text === "" ? 0 : parseInt(get("status") ?? "200", 10),
		list, get, body, json,
	};
}

// One request, at once.
export async function request(path, method, target, { headers = {}, body,
    env = {} } = {}) {
	const conn = await Fcgi.dial(path);
	const length = body === undefined ? {} : {
		"Content-Length": String(Buffer.byteLength(body)),
	};
	await conn.write(begin(), params(environment(method, target,
	    { ...length, ...headers }, env)),
	    stream(STDIN, body ?? ""), record(STDIN));
	return conn.answer();
}
