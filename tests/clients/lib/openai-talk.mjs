// SPDX-License-Identifier: MIT
// openai-talk.mjs PACKAGE ws|websocket BASE-URL MODEL: hold two conversations
// with the package's realtime client, on the ws package or on the WebSocket
// that browsers have, and print what came of them as JSON.  A process of its
// own, since NODE_EXTRA_CA_CERTS is read at the start.
import { converse, event_queue } from "./setup.mjs";

const [, , name, kind, baseURL, model] = process.argv;
const { default: OpenAI } = await import(name);
const { OpenAIRealtimeWS, OpenAIRealtimeWebSocket } =
    await import(`${name}/realtime/${kind}`);

const results = [];
for (const modalities of [["text"], ["audio"]]) {
	const client = new OpenAI({ apiKey: process.env.CLIENT_KEY, baseURL });
	const rt = kind === "ws" ? new OpenAIRealtimeWS({ model }, client) :
	    new OpenAIRealtimeWebSocket({ model,
	        dangerouslyAllowBrowser: true }, client);
	const queue = event_queue();
	rt.on("event", (event) => queue.push(event));
	rt.on("error", (err) => queue.fail(err));
	const closed = new Promise((resolve) =>
	    rt.socket.addEventListener("close", ({ code }) => resolve(code)));
	closed.then((code) => queue.fail(new Error(`closed ${code}`)));
	const { text, transcript, audio, usage, seen } =
	    await converse((e) => rt.send(e), () => queue.next(), modalities);
	rt.close({ code: 1000, reason: "OK" });
	results.push({ text, transcript, audio, usage, close: await closed,
	    protocol: rt.socket.protocol, extensions: rt.socket.extensions,
	    types: [...new Set(seen.map((e) => e.type))],
	    session: seen[0].session });
}
console.log(JSON.stringify(results));
