// SPDX-License-Identifier: MIT
// The ws package, straight through each web server.
import assert from "node:assert/strict";

import { needs } from "../lib/harness.mjs";
import { NAMES } from "../lib/servers.mjs";
import { deadline, test } from "../lib/tap.mjs";
import { converse, event_queue, need_packages, need_simulator, openai_site }
	from "./lib/setup.mjs";

need_simulator();
need_packages("ws");
const { WebSocket } = await import("ws");

for (const name of NAMES) {
	test(`${name}: ws converses, with the seed's URL and with ours`,
	    async (t) => {
		const { site, front } = await openai_site(t, { front: name });
		const base = `ws://127.0.0.1:${front.port}`;
		for (const [url, protocols] of [
			[`${base}/v1/realtime?model=gpt-realtime`],
			[`${base}?model=gpt-4o-realtime-preview-2024-12-17`],
			[`${base}/v1/realtime`, ["realtime",
			    site.canary("client's key",
			        "openai-insecure-api-key.ek_")]],
		]) {
			const ws = new WebSocket(url, protocols, { headers: {
				"OpenAI-Beta": "realtime=v1",
			} });
			const queue = event_queue();
			ws.on("message", (data, binary) => {
				assert.equal(binary, false, "text stays text");
				queue.push(JSON.parse(data));
			});
			ws.on("error", (err) => queue.fail(err));
			const { text, usage } = await converse(
			    (e) => ws.send(JSON.stringify(e)),
			    () => queue.next(), ["text"]);
			assert.match(text, /\S/);
			assert.ok(usage.total_tokens > 0);
			assert.equal(ws.protocol, protocols ? "realtime" : "");
			const closed = new Promise((resolve) =>
			    ws.on("close", (code) => resolve(code)));
			ws.close(1000, "OK");
			assert.equal(await closed, 1000);
		}
	}, { skip: needs(name) });

	test(`${name}: ws hears why it is refused`, async (t) => {
		const { front } = await openai_site(t, { front: name });
		const ws = new WebSocket(
		    `ws://127.0.0.1:${front.port}/v1/realtime?model=gpt-9`);
		const [response] = await deadline(new Promise((resolve, reject) => {
			ws.on("unexpected-response", (req, res) => resolve([res]));
			ws.on("open", () => reject(new Error("it opened")));
		}), 5000, "the refusal");
		assert.equal(response.statusCode, 403);
		let body = "";
		for await (const part of response)
			body += part;
		assert.equal(typeof JSON.parse(body).error.message, "string");
	}, { skip: needs(name) });
}
