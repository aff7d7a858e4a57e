// SPDX-License-Identifier: MIT
// chat: a site with the chat on the simulator, its users' tokens, and a plain
// reader of server-sent events for tests that do without packages.
import crypto from "node:crypto";
import path from "node:path";

import { Site, builddir, run } from "./harness.mjs";
import { deadline } from "./tap.mjs";

export const CTL = path.join(builddir, "culvertctl");
export const MODEL = "gpt-4o-mini";

// A token of the site's, as its own server would sign it.
export function user_token(secret, sub, claims = {}) {
	const part = (value) =>
	    Buffer.from(JSON.stringify(value)).toString("base64url");
	const text = `${part({ alg: "HS256", typ: "JWT" })}.` +
	    part({ sub, exp: Math.floor(Date.now() / 1000) + 3600, ...claims });
	return `${text}.${crypto.createHmac("sha256", secret).update(text)
	    .digest("base64url")}`;
}

// Text of a configuration; chat, users, anonymous, socketio: more lines of
// these sections; rest: more sections.  A token costs a micro-unit, in or out, so that
// what was charged can be told from the ledger to the last digit.
export function chat_config(site, sim, { chat = "", users = "",
    anonymous = "", socketio = "", rest = "", origins = '"loopback"' } = {}) {
	return site.config({
		access: `clients = {"loopback"}\norigins = {${origins}}\n` +
		    "missing_origin = true",
		rest: `store { path = "${site.file("store.db")}" }
prices "*" { input_text = "1" cached_text = "1" output_text = "1" }
chat {
	api_key = "env:OPENAI_API_KEY"
	url = "http://127.0.0.1:${sim.http_port}/v1"
	models = {"${MODEL}", "gpt-4o"}
	${chat}
	anonymous { ${anonymous} }
}
users { secret = "env:USER_SECRET" ${users} }
socketio { ${socketio} }
${rest}` });
}

// Broker, tunnel, simulator and a web server: {site, sim, broker, tunnel,
// front, base, token(sub), restart()}.
export async function chat_site(t, { front = "lighttpd", sim_args = [],
    ...options } = {}) {
	const site = await Site.open(t);
	site.user_secret = site.canary("users' secret", "");
	const sim = await site.sim(sim_args);
	const env = { env: { USER_SECRET: site.user_secret } };
	const config = chat_config(site, sim, options);
	const parts = await site.serve(config, { broker: env });
	const web = await site.front(front);
	return {
		site, sim, ...parts, front: web,
		base: `http://localhost:${web.port}`,
		token: (sub, claims) => user_token(site.user_secret, sub, claims),
		restart: () => site.broker(config, env),
	};
}

export async function ctl(site, ...args) {
	const result = await run([CTL, "--json", ...args],
	    { env: { CULVERT_CONTROL: site.control_sock } });
	if (result.code !== 0)
		throw new Error(`culvertctl ${args[0]}: ${result.output}`);
	return JSON.parse(result.stdout);
}

// ---- callers ----

export const signed_in = (token) => ({ Authorization: `Bearer ${token}` });
export const visitor = (id) => ({ "x-anon-id": id });

export const post = (base, target, who, body, more = {}) =>
    fetch(`${base}${target}`, {
	method: "POST",
	headers: { "Content-Type": "application/json", ...who, ...more.headers },
	body: JSON.stringify(body),
	signal: more.signal,
    });

export async function get_json(base, target, who) {
	const answer = await fetch(`${base}${target}`, { headers: who });
	if (answer.status !== 200)
		throw new Error(`${target}: ${answer.status} ` +
		    await answer.text());
	return answer.json();
}

// ---- events ----

// The events of an answer, {id, event, data, at} each, as they come.  What is
// no whole event at the end is an error.
export async function* events_of(answer) {
	const decoder = new TextDecoder();
	let text = "";

	for await (const chunk of answer.body) {
		const at = performance.now();
		text += decoder.decode(chunk, { stream: true });
		for (let end; (end = text.indexOf("\n\n")) !== -1;) {
			const event = parse_event(text.slice(0, end));
			text = text.slice(end + 2);
			if (event)
				yield { ...event, at };
		}
	}
	if (text !== "")
		throw new Error(`a stream ends within an event: ${text}`);
}

function parse_event(text) {
	const event = {};
	for (const line of text.split("\n")) {
		if (line.startsWith(":"))
			continue;
		const [, name, value] = /^(id|event|data|retry): (.*)$/.exec(line) ??
		    [];
		if (name === undefined || event[name] !== undefined)
			throw new Error(`not a line of an event: ${line}`);
		event[name] = value;
	}
	if (event.data === undefined)
		return null; // a comment
	return { ...event, data: JSON.parse(event.data) };
}

export async function all_events(answer, ms = 20000) {
	const read = async () => {
		const list = [];
		for await (const event of events_of(answer))
			list.push(event);
		return list;
	};
	return deadline(read(), ms, "the end of the stream");
}

export const of_type = (events, type) =>
    events.filter(({ event }) => event === type);

export const text_of = (events) =>
    of_type(events, "assistant_delta").map(({ data }) => data.delta).join("");

// One message and its answer: {status, events, text, complete}.
export async function say(base, who, body, more) {
	const answer = await post(base, "/api/v1/messages/send", who, body, more);
	if (answer.headers.get("content-type") !== "text/event-stream")
		return { status: answer.status, body: await answer.text() };
	const events = await all_events(answer);
	return {
		status: answer.status, events, text: text_of(events),
		complete: of_type(events, "assistant_complete")[0]?.data,
		error: of_type(events, "assistant_error")[0]?.data,
	};
}
