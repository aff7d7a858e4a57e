// SPDX-License-Identifier: MIT
// @openai/agents-realtime completes a conversation.
import assert from "node:assert/strict";

import { deadline, test } from "../lib/tap.mjs";
import { budget, need_packages, need_programs, need_simulator, openai_site }
	from "./lib/setup.mjs";

need_simulator();
need_packages("@openai/agents-realtime", "zod");
need_programs("lighttpd");
const { OpenAIRealtimeWebSocket, RealtimeAgent, RealtimeSession } =
    await import("@openai/agents-realtime");

for (const [how, options] of [["", {}], [", with a budget", budget]])
	test(`an agent is asked in text and answers in audio${how}`,
	    async (t) => {
		const { site, front } = await openai_site(t, options);
		const agent = new RealtimeAgent({ name: "greeter",
		    instructions: "Greet." });
		const transport = new OpenAIRealtimeWebSocket({
			url: `ws://127.0.0.1:${front.port}/v1/realtime?model=gpt-realtime`,
			useInsecureApiKey: true,
		});
		const session = new RealtimeSession(agent, { transport,
		    model: "gpt-realtime", tracingDisabled: true });
		const heard = { audio: 0, types: new Set() };
		let usage;
		session.on("audio", (event) => { heard.audio += event.data.byteLength; });
		session.on("transport_event", (event) => heard.types.add(event.type));
		transport.on("usage_update", (value) => { usage = value; });
		const ended = new Promise((resolve, reject) => {
			session.on("agent_end", (context, who, output) => resolve(output));
			session.on("error", ({ error }) => reject(error instanceof Error ?
			    error : new Error(JSON.stringify(error))));
		});
		ended.catch(() => {});
		await deadline(session.connect({ apiKey: site.canary("client's key",
		    "ek_") }), 10000, "connecting");
		session.sendMessage("Hello");
		const output = await deadline(ended, 10000, "the answer");
		t.diag(`answered ${JSON.stringify(output)}, ${heard.audio} bytes`);
		assert.ok(heard.types.has("session.updated"), "its early session.update");
		assert.ok(heard.audio > 1000);
		assert.match(output, /\S/);
		assert.ok(usage?.totalTokens > 0, "usage");
		session.close();
	});
