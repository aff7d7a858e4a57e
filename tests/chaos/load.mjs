// SPDX-License-Identifier: MIT
// load: clients that go on, whatever happens to the servers, and know what
// they have to be answered.
//
// A conversation is {kind, address, start, end, how, ids, times}: `how' is "over"
// where we ended it, "refused" where it never began, "cut" where the other
// side or the network ended it.  What is answered wrong is wrong, cut or not.
import crypto from "node:crypto";

import { MODEL, events_of, of_type, post, text_of, user_token }
	from "../lib/chat.mjs";
import { OP, connect } from "../lib/rawws.mjs";

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const ANSWER_MS = 30000; // longer than anything is held up
const REVOKED = 4001;
const REVOKE_MS = 15000; // what stops and restarts may hold it up

// Of the plan that some users have; chaos.mjs writes it.
export const LIMITED = { rate: 1, burst: 3 };

// mulberry32: a number from 0 to below 1.
export function random_of(seed) {
	let a = seed | 0;
	return () => {
		a = (a + 0x6d2b79f5) | 0;
		let x = Math.imul(a ^ (a >>> 15), 1 | a);
		x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
		return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
	};
}

// What a conversation ended of; not an error of the driver's.  code: of the
// close frame; 0: none.
class Cut extends Error {
	constructor(text, code = 0) {
		super(text);
		this.code = code;
	}
}

export class Load {
	// revoke(user): culvertctl's answer; restarts(start, end): of the broker
	constructor(port, seed, { user_secret, revoke, restarts }) {
		this.user_secret = user_secret;
		this.revoke = revoke;
		this.restarts = restarts;
		this.port = port;
		this.base = `http://127.0.0.1:${port}`;
		this.random = random_of(seed);
		this.conversations = [];
		this.wrong = []; // what was answered that should not have been
		this.messages = {}; // by kind: answered, and rightly
		this.open = 0;
		this.next_address = 0;
		this.is_over = false;
		this.workers = [];
	}

	start(counts) {
		for (const [kind, count] of Object.entries(counts))
			for (let i = 0; i < count; i++)
				this.workers.push(this.#work(kind, i));
	}

	async stop() {
		this.is_over = true;
		await Promise.all(this.workers);
	}

	async #work(kind, index) {
		await pause(this.random() * 500);
		for (let n = 0; !this.is_over; n++) {
			const conversation = { kind, ids: [], times: [], how: "cut",
				start: performance.now(),
				address: this.#address(), name: `${kind}-${index}.${n}` };
			this.conversations.push(conversation);
			this.open++;
			try {
				await this[kind](conversation);
				conversation.how = "over";
			} catch (err) {
				conversation.why = err.message;
				// a revocation hits whom it names, and nobody else
				if ((!(err instanceof Cut) && !is_network(err)) ||
				    err.code === REVOKED)
					this.wrong.push(`${conversation.name}: ` +
					    (err.stack ?? err));
			}
			this.open--;
			conversation.end = performance.now();
			conversation.conn?.destroy();
			delete conversation.conn;
			await pause(conversation.how === "over" ?
			    this.random() * 200 : 100 + this.random() * 400);
		}
	}

	// Each conversation has an address of its own, so that the broker's log
	// tells which process served it.
	#address() {
		const n = ++this.next_address;
		return `127.${1 + (n >> 16)}.${n >> 8 & 255}.${n & 255}`;
	}

	#count(kind, n = 1) {
		this.messages[kind] = (this.messages[kind] ?? 0) + n;
	}

	#is(got, expected) {
		if (got !== expected)
			throw new Error(`wrong: ${JSON.stringify(got)} for ` +
			    JSON.stringify(expected));
	}

	async #connect(conversation, target, headers = {}) {
		try {
			conversation.conn = await connect(
			    { port: this.port, local: conversation.address },
			    target, { Host: `127.0.0.1:${this.port}`, ...headers },
			    { timeout: ANSWER_MS });
		} catch (err) {
			conversation.how = "refused";
			throw new Cut(`refused: ${err.message}`);
		}
		return conversation.conn;
	}

	async #message(conn) {
		const message = await conn.message((f) => f.opcode === OP.ping &&
		    conn.send(OP.pong, f.payload).catch(() => {}));
		if (message === null)
			throw new Cut("the connection was cut");
		if (message.opcode === OP.close) {
			const code = message.payload.length >= 2 ?
			    message.payload.readUInt16BE() : 0;
			throw new Cut(`closed with ${code} ` +
			    message.payload.subarray(2), code);
		}
		return message.payload.toString();
	}

	async #close(conn) {
		await conn.send_close(1000);
		await conn.closed();
	}

	// ---- the kinds ----

	// OpenAI Realtime: some turns, and what each answers and costs.
	async realtime(c, target = `/v1/realtime?model=gpt-realtime`, headers,
	    { turns = 1 + Math.floor(this.random() * 6) } = {}) {
		const conn = c.conn ?? await this.#connect(c, target, headers);
		const until = async (type) => {
			for (;;) {
				const event = JSON.parse(await this.#message(conn));
				if (event.type === "error")
					throw new Error(JSON.stringify(event));
				if (event.type === type)
					return event;
			}
		};
		const say = (event) => conn.send_text(JSON.stringify(event));

		await until("session.created");
		await say({ type: "session.update", session: { type: "realtime",
			output_modalities: ["text"] } });
		await until("session.updated");
		for (let i = 0; i < turns && !this.is_over; i++) {
			const text = `${c.name} turn ${i} ` +
			    crypto.randomBytes(6).toString("hex");
			await say({ type: "conversation.item.create", item: {
				type: "message", role: "user",
				content: [{ type: "input_text", text }] } });
			c.waits = true; // for one response, and never for two
			await say({ type: "response.create" });
			const { response } = await until("response.done");
			c.waits = false;
			c.ids.push(response.id);
			c.times.push(performance.now());
			this.#is(response.output[0]?.content[0].text,
			    `You said: ${text}`);
			this.#count("responses");
			await pause(this.random() * 300);
		}
		await this.#close(conn);
	}

	// The same of a user of the site's.
	async user(c) {
		await this.realtime(c, "/members?model=gpt-realtime",
		    this.#signed_in());
	}

	// The same on a route with a plan of its own.
	async planned(c) {
		await this.realtime(c, "/planned?model=gpt-realtime",
		    this.random() < 0.5 ? this.#signed_in() : {});
	}

	#signed_in(name = `user-${Math.floor(this.random() * 5)}`, claims = {}) {
		return { Authorization:
		    `Bearer ${user_token(this.user_secret, name, claims)}` };
	}

	// A ticket that is good once, and three who want to use it at once.
	async once(c) {
		const { ticket } = await this.#post_json(c, "/api/tickets",
		    { route: "/once" }, this.#signed_in());
		const target = `/once?model=gpt-realtime&ticket=${ticket}`;
		const conns = (await Promise.all([1, 2, 3].map(() => this
		    .#connect({ ...c, address: c.address }, target)
		    .catch(() => null)))).filter((conn) => conn !== null);

		if (conns.length > 1) {
			conns.forEach((conn) => conn.destroy());
			throw new Error(`a ticket was good ${conns.length} times`);
		}
		if (conns.length === 0) { // a fault hit the one that won
			c.how = "refused";
			throw new Cut("none of three was let in");
		}
		this.#count("tickets spent");
		c.kind = "realtime";
		c.conn = conns[0];
		await this.realtime(c);
	}

	// More requests than the user's plan allows: no more of them are let
	// through.  A broker that starts knows nothing of those before it.
	async limited(c) {
		const who = this.#signed_in(`limited-${c.name}`,
		    { plan: "limited" });
		const start = performance.now();
		let passed = 0;
		const ask = async () => {
			const answer = await this.#fetch(c, "POST", "/api/tickets",
			    JSON.stringify({ route: "/once" }),
			    { "Content-Type": "application/json", ...who });
			await answer.text();
			if (answer.status === 200)
				passed++;
			else if (answer.status !== 429 && answer.status < 500)
				throw new Error(`a ticket: ${answer.status}`);
			if (answer.status === 429)
				this.#count("refused for the rate");
			if (answer.status === 429 &&
			    !(Number(answer.headers.get("retry-after")) >= 1))
				throw new Error("429 without Retry-After");
		};
		for (let i = 0; i < 3 && !this.is_over; i++) {
			await Promise.all(Array.from({ length: 8 }, ask));
			await pause(this.random() * 200);
		}
		const end = performance.now();
		const most = LIMITED.burst * (1 + this.restarts(start, end)) +
		    LIMITED.rate * (end - start) / 1000 + 1;
		if (passed > most)
			throw new Error(`${passed} requests passed, not ${most}`);
		this.#count("let through by the rate", passed);
	}

	// A user who is revoked: the tunnel ends by it.
	async victim(c) {
		const name = `victim-${c.name}`;
		const talk = this.realtime(c, "/members?model=gpt-realtime",
		    this.#signed_in(name), { turns: 1000 })
		    .then(() => null, (err) => err);
		const revoke = async () => {
			await pause(200 + this.random() * 1500);
			while (c.end === undefined && !this.is_over)
				try {
					await this.revoke(name);
					c.revoked = performance.now();
					return;
				} catch {
					await pause(100); // no broker just now
				}
		};
		const revoking = revoke();
		const err = await talk;
		c.end = performance.now();
		await revoking;
		if (err?.code === REVOKED) {
			this.#count("tunnels ended by a revocation");
			return;
		}
		if (err !== null)
			throw err;
		// it went on until the load ended
		if (c.revoked !== undefined && c.end - c.revoked > REVOKE_MS)
			throw new Error("revoked, and it went on for " +
			    `${(c.end - c.revoked).toFixed(0)} ms`);
	}

	// A short-lived key, and a conversation with it.
	async ticket(c) {
		const { value } = await this.#post_json(c,
		    "/v1/realtime/client_secrets", { session: { type: "realtime" } });
		this.#count("tickets");
		c.kind = "realtime"; // from here on it needs no broker
		await this.realtime(c, "/v1/realtime?model=gpt-realtime",
		    { Authorization: `Bearer ${value}` });
	}

	// Numbered messages there and back, several under way.
	async echo(c) {
		const conn = await this.#connect(c, "/echo");
		const count = 20 + Math.floor(this.random() * 200);
		const noise = crypto.randomBytes(8).toString("hex");
		const text = (i) => `${c.name} ${i} ${noise.repeat(1 + i % 40)}`;
		let sent = 0;

		for (let i = 0; i < count; i++) {
			for (; sent < count && sent < i + 8; sent++)
				await conn.send_text(text(sent));
			this.#is(await this.#message(conn), text(i));
			this.#count("echoes");
			if (this.random() < 0.1)
				await pause(this.random() * 100);
			if (this.is_over)
				break;
		}
		await this.#close(conn);
	}

	// An answer of the chat; asked again with the same key until it is
	// answered, it is answered once.
	async chat(c) {
		const content = `${c.name} asks ` +
		    crypto.randomBytes(6).toString("hex");
		const headers = { "Idempotency-Key": crypto.randomUUID() };
		const who = this.random() < 0.5 ? this.#signed_in() :
		    { "x-anon-id": `chaos-${crypto.randomUUID()}` };
		const limit = performance.now() + ANSWER_MS;

		for (;;) {
			const outcome = await this.#ask_chat(who, content, headers)
			    .catch((err) => {
				if (!is_network(err) && !(err instanceof Cut))
					throw err;
				return null;
			});
			if (outcome?.message !== undefined) {
				if (!outcome.message.content
				    .endsWith(`You said: ${content}`))
					throw new Error(`wrong: ${JSON.stringify(
					    outcome.message.content)}`);
				this.#count("chat answers");
				return;
			}
			if (outcome?.failed || performance.now() > limit ||
			    this.is_over)
				throw new Cut(outcome?.failed ?? "never answered");
			this.#count("chat retries");
			await pause(100);
		}
	}

	async #ask_chat(who, content, headers) {
		const answer = await post(this.base, "/api/v1/messages/send", who,
		    { content, model: MODEL }, { headers,
			signal: AbortSignal.timeout(ANSWER_MS) });
		if (answer.status !== 200) {
			const text = await answer.text();
			if (answer.status < 500 && answer.status !== 409)
				throw new Error(`${answer.status} ${text}`);
			return null;
		}
		const seen = [];
		for await (const event of events_of(answer))
			seen.push(event);
		const [error] = of_type(seen, "assistant_error");
		const [complete] = of_type(seen, "assistant_complete");
		if (error)
			return { failed: error.data.code };
		if (!complete)
			throw new Cut("a stream without an end");
		this.#is(text_of(seen), complete.data.message.content);
		return complete.data;
	}

	#fetch(c, method, target, body, headers = {}) {
		return fetch(`${this.base}${target}`, { method, body, headers,
			signal: AbortSignal.timeout(ANSWER_MS) });
	}

	async #http(c, method, target, body, headers = {}) {
		const answer = await this.#fetch(c, method, target, body, headers);
		const text = await answer.text();
		if (answer.status >= 500 || answer.status === 429 ||
		    (answer.status === 400 && target.includes("sid=")))
			throw new Cut(`${answer.status}`);
		if (answer.status >= 300)
			throw new Error(`${target}: ${answer.status} ${text}`);
		return text;
	}

	async #post_json(c, target, body, headers = {}) {
		return JSON.parse(await this.#http(c, "POST", target,
		    JSON.stringify(body), { "Content-Type": "application/json",
			...headers }));
	}

	async livekit(c) {
		const answer = await this.#post_json(c, "/api/livekit/token",
		    { room_name: "lobby", participant_name: c.name });
		this.#is(answer.participant_token.split(".").length, 3);
		this.#count("LiveKit tokens");
		await pause(this.random() * 200);
	}

	// Socket.IO, polling: events and the acks that they get.
	async poll(c) {
		const target = "/socket.io/?EIO=4&transport=polling";
		const { sid } = JSON.parse((await this.#http(c, "GET", target))
		    .slice(1));
		const here = `${target}&sid=${sid}`;
		const packets = [];
		const next = async (begin) => {
			for (;;) {
				while (packets.length === 0)
					packets.push(...(await this.#http(c, "GET", here))
					    .split("\x1e"));
				const packet = packets.shift();
				if (packet === "2")
					await this.#http(c, "POST", here, "3");
				else if (packet === "1" || packet.startsWith("41"))
					throw new Cut("the session was closed");
				else if (packet.startsWith(begin))
					return packet.slice(begin.length);
			}
		};
		await this.#http(c, "POST", here, "40");
		await next("40");
		for (let i = 0; i < 10 && !this.is_over; i++) {
			await this.#http(c, "POST", here,
			    `42${i}["message-with-ack","${c.name}",${i}]`);
			this.#is(await next(`43${i}`), `["${c.name}",${i}]`);
			this.#count("Socket.IO acks");
			await pause(this.random() * 100);
		}
		await this.#http(c, "POST", here, "1");
	}

	// The same with a WebSocket.
	async socket(c) {
		const conn = await this.#connect(c,
		    "/socket.io/?EIO=4&transport=websocket");
		const next = async (begin) => {
			for (;;) {
				const packet = await this.#message(conn);
				if (packet === "2")
					await conn.send_text("3");
				else if (packet.startsWith(begin))
					return packet.slice(begin.length);
			}
		};
		await next("0");
		await conn.send_text("40");
		await next("40");
		for (let i = 0; i < 30 && !this.is_over; i++) {
			await conn.send_text(
			    `42${i}["message-with-ack","${c.name}",${i}]`);
			this.#is(await next(`43${i}`), `["${c.name}",${i}]`);
			this.#count("Socket.IO acks");
			await pause(this.random() * 100);
		}
		await this.#close(conn);
	}
}

// An error that a connection ends with, and no answer.
function is_network(err) {
	const code = err.cause?.code ?? err.code ?? "";
	return /^(E(CONN|PIPE|HOST)|UND_ERR|ERR_STREAM)/.test(code) ||
	    err.name === "TimeoutError" || err.name === "AbortError" ||
	    /ends within an event|terminated|fetch failed|not within/
	        .test(err.message);
}
