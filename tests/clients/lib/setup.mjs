// SPDX-License-Identifier: MIT
// What the tests of the vendors' clients share.
import fs from "node:fs";
import path from "node:path";

import { SIM, Site, clients_dir, needs } from "../../lib/harness.mjs";
import { make_certificates } from "../../lib/servers.mjs";
import { skip_all } from "../../lib/tap.mjs";

// End the script as skipped where a package is not installed.
export function need_packages(...names) {
	const missing = names.filter((name) =>
	    !fs.existsSync(path.join(clients_dir, "node_modules", name)));
	if (missing.length > 0)
		skip_all(`${missing.join(", ")} not installed; run deploy/check`);
	const [major] = process.versions.node.split(".");
	if (Number(major) < 22)
		skip_all(`Node.js ${process.versions.node} is older than 22; ` +
		    "run deploy/check");
}

export function need_simulator() {
	if (!fs.existsSync(SIM))
		skip_all("the simulator is not built; run deploy/check");
}

export function need_programs(...names) {
	const reason = needs(...names);
	if (reason)
		skip_all(reason);
}

// Everything between a browser and the simulated vendor: {site, front, sim};
// more goes into the section openai, rest beside it.
export async function openai_site(t, { front = "lighttpd", tls = false,
    more = "", rest = "" } = {}) {
	const site = await Site.open(t);
	const sim = await site.sim();
	const certs = tls ? make_certificates(site, "web") : undefined;
	await site.serve({ rest: `store { path = "${site.file("store.db")}" }
openai {
	api_key = "env:OPENAI_API_KEY"
	url = "ws://127.0.0.1:${sim.ws_port}/v1/realtime"
	alias "gpt-4o-realtime-preview-2024-12-17" { model = "gpt-realtime" }
	${more}
}
livekit {
	url = "wss://livekit.example"
	api_key = "env:LIVEKIT_API_KEY"
	api_secret = "env:LIVEKIT_API_SECRET"
}
${rest}
` });
	return { site, sim, certs, front: await site.front(front,
	    { tls: certs }) };
}

// A budget that is never spent: each response is asked for, and allowed.
export const budget = {
	rest: 'plan "rich" { day_tokens = 1000000000 }\n' +
	    'limits { address = "rich" }',
};

// Hold a conversation over anything that sends and receives events: send(event)
// and next(), a promise of the next event.  Returns what was heard.
export async function converse(send, next, modalities) {
	const seen = [];
	const until = async (type) => {
		for (;;) {
			const event = await next();
			seen.push(event);
			if (event.type === "error")
				throw new Error(JSON.stringify(event));
			if (event.type === type)
				return event;
		}
	};
	await until("session.created");
	send({ type: "session.update", session: { type: "realtime",
	    output_modalities: modalities } });
	await until("session.updated");
	send({ type: "conversation.item.create", item: { type: "message",
	    role: "user", content: [{ type: "input_text", text: "Hello" }] } });
	await until("conversation.item.done");
	send({ type: "response.create" });
	const done = await until("response.done");
	const deltas = (type) => seen.filter((e) => e.type === type)
	    .map((e) => e.delta);
	return {
		seen, done,
		text: deltas("response.output_text.delta").join(""),
		transcript: deltas("response.output_audio_transcript.delta")
		    .join(""),
		audio: deltas("response.output_audio.delta")
		    .map((d) => Buffer.from(d, "base64").length)
		    .reduce((a, b) => a + b, 0),
		usage: done.response.usage,
	};
}

// A queue between an event emitter and next().
export function event_queue() {
	const events = [], waiting = [];
	return {
		push(event) {
			const next = waiting.shift();
			if (next)
				next.resolve(event);
			else
				events.push(event);
		},
		fail(err) {
			for (const next of waiting.splice(0))
				next.reject(err);
			this.next = () => Promise.reject(err);
		},
		next: () => events.length > 0 ?
		    Promise.resolve(events.shift()) :
		    new Promise((resolve, reject) =>
		        waiting.push({ resolve, reject })),
	};
}
