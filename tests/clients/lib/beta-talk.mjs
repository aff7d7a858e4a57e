// SPDX-License-Identifier: MIT
// beta-talk.mjs BASE-URL MODEL: hold two conversations with the client that
// openai 6 has for the beta of the Realtime API, in the words of that time,
// and print what came of them as JSON.  A process of its own, since
// NODE_EXTRA_CA_CERTS is read at the start.
import OpenAI from "openai-6";
import { OpenAIRealtimeWS } from "openai-6/beta/realtime/ws";

import { event_queue } from "./setup.mjs";

const [, , baseURL, model] = process.argv;
const results = [];
for (const modalities of [["text"], ["text", "audio"]]) {
	const client = new OpenAI({ apiKey: process.env.CLIENT_KEY, baseURL });
	const rt = new OpenAIRealtimeWS({ model }, client);
	const queue = event_queue();
	rt.on("event", (event) => queue.push(event));
	rt.on("error", (err) => queue.fail(err));
	const closed = new Promise((resolve) =>
	    rt.socket.on("close", (code) => resolve(code)));
	closed.then((code) => queue.fail(new Error(`closed ${code}`)));
	const seen = [];
	const until = async (type) => {
		for (;;) {
			const event = await queue.next();
			seen.push(event);
			if (event.type === type)
				return event;
		}
	};
	await until("session.created");
	rt.send({ type: "session.update", session: { modalities,
	    instructions: "Be brief.", voice: "alloy",
	    input_audio_format: "pcm16", output_audio_format: "pcm16",
	    turn_detection: { type: "server_vad", threshold: 0.5,
	        prefix_padding_ms: 300, silence_duration_ms: 200 },
	    input_audio_transcription: { model: "whisper-1" },
	    max_response_output_tokens: 500 } });
	const { session } = await until("session.updated");
	rt.send({ type: "conversation.item.create", item: { type: "message",
	    role: "user", content: [{ type: "input_text", text: "Hello" }] } });
	const created = await until("conversation.item.created");
	rt.send({ type: "response.create", response: { modalities } });
	const { response } = await until("response.done");
	rt.close({ code: 1000, reason: "OK" });
	const deltas = (type) => seen.filter((e) => e.type === type)
	    .map((e) => e.delta).join("");
	results.push({
		session, created, response, close: await closed,
		text: deltas("response.text.delta"),
		transcript: deltas("response.audio_transcript.delta"),
		audio: deltas("response.audio.delta").length,
		types: [...new Set(seen.map((e) => e.type))],
	});
}
console.log(JSON.stringify(results));
