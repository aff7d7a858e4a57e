// SPDX-License-Identifier: MIT
// Clients that were written for relays of their own, as their authors show
// them, but for host and port: each completes its flow under deploy/up.
import assert from "node:assert/strict";
import path from "node:path";

import { next_frame, offer, session_request, target }
	from "../lib/flutter.mjs";
import { Site, builddir, srcdir } from "../lib/harness.mjs";
import { OP, connect, exchange } from "../lib/rawws.mjs";
import { deadline, test } from "../lib/tap.mjs";
import { open_browser } from "./lib/browser.mjs";
import { event_queue, need_packages, need_programs, need_simulator }
	from "./lib/setup.mjs";

need_simulator();
need_packages("playwright-core", "ws");
need_programs("chromium", "lighttpd", "curl", "setsid", "setpriv");

const UP = { timeout: 120000 };

// Start it; resolves with its port.
async function bring_up(t) {
	const site = await Site.open(t);
	const up = site.start("deploy/up", [path.join(srcdir, "deploy/up"),
	    "--use-build", builddir, "--port", "0"],
	    { env: { XDG_RUNTIME_DIR: site.dir } });
	const [, port] = await up.wait_for(
	    /^ready: http:\/\/127\.0\.0\.1:(\d+)\/ /m, { ms: 60000 });
	return Number(port);
}

// Anam's Flutter client with a session of the site's own server, in the two
// forms of its documents: one sends no Content-Type of its own.
for (const [name, type] of [["with", "application/json"],
    ["without", undefined]])
	test(`Flutter, ${name} a content type: a session, and its proxy`,
	    async (t) => {
		const port = await bring_up(t);
		const host = `localhost:${port}`;
		const answer = await exchange({ port },
		    session_request(host, "your-persona-id", type));
		assert.equal(answer.status, 200, answer.body);
		const session = answer.json;
		assert.equal(typeof session.sessionToken, "string");
		const conn = await connect({ port },
		    target("/ws/proxy", session), { Host: host });
		await conn.send(OP.text, offer(session));
		assert.equal((await next_frame(conn)).actionType,
		    "sessionready");
		assert.equal((await next_frame(conn)).actionType, "answer");
		await conn.send_close(1000);
		assert.equal((await conn.closed()).code, 1000);
	}, UP);

// A front end, and Unity with WebSocketSharp: plain text goes out, events come
// back, and one client hears nothing of the other.
test("plain text in, events out, for each client on its own", async (t) => {
	const port = await bring_up(t);
	const { WebSocket } = await import("ws");
	const talk = async (text) => {
		const ws = new WebSocket(`ws://localhost:${port}/ws`);
		const queue = event_queue();
		ws.on("message", (data, binary) => {
			assert.equal(binary, false);
			queue.push(JSON.parse(data));
		});
		ws.on("error", (err) => queue.fail(err));
		ws.on("open", () => {
			ws.send(text);
			ws.send(`${text} again`); // without waiting
		});
		const seen = [];
		for (let answers = 0; answers < 2;) {
			const event = await deadline(queue.next(), 15000,
			    "the next event");
			seen.push(event);
			assert.notEqual(event.type, "error",
			    JSON.stringify(event));
			answers += event.type === "response.done";
		}
		ws.close();
		return {
			types: seen.map((event) => event.type),
			answers: seen.filter((event) =>
			    event.type === "response.output_text.done")
			    .map((event) => event.text),
		};
	};
	const both = await Promise.all([talk("Hello, how are you?"),
	    talk("Good evening")]);
	assert.deepEqual(both.map(({ answers }) => answers), [
		["You said: Hello, how are you?",
		    "You said: Hello, how are you? again"],
		["You said: Good evening", "You said: Good evening again"],
	]);
	for (const { types } of both)
		assert.ok(types.includes("conversation.item.done"));
}, UP);

// A page of the beta's time, and its token of LiveKit's.
test("a page that was written for the beta converses", async (t) => {
	const port = await bring_up(t);
	const page = await (await open_browser(t)).newPage();
	await page.goto(`http://localhost:${port}/`);
	const result = await deadline(page.evaluate((wsUrl) => new Promise(
	    (resolve, reject) => {
		// src/config.ts and src/openai-manager.ts
		const config = { openai: {
			apiKey: "", // No longer needed in frontend!
			model: "gpt-4o-realtime-preview-2024-12-17",
			voice: "alloy",
			wsUrl,
		} };
		const url = `${config.openai.wsUrl}?model=${config.openai.model}`;
		const ws = new WebSocket(url);

		const send = (event) => ws.send(JSON.stringify(event));
		const heard = { types: [], transcript: "", audio: 0 };
		ws.onopen = () => {
			heard.protocol = ws.protocol;
			send({ type: "session.update", session: {
				modalities: ["text", "audio"],
				voice: config.openai.voice,
				input_audio_format: "pcm16",
				output_audio_format: "pcm16",
				turn_detection: { type: "server_vad" },
			} });
			send({ type: "conversation.item.create", item: {
				type: "message", role: "user",
				content: [{ type: "input_text", text: "Hello" }],
			} });
			send({ type: "response.create" });
		};
		ws.onmessage = (message) => {
			if (typeof message.data !== "string")
				return reject(new Error("a binary message"));
			const event = JSON.parse(message.data);
			heard.types.push(event.type);
			if (event.type === "response.audio_transcript.delta")
				heard.transcript += event.delta;
			if (event.type === "response.audio.delta")
				heard.audio += atob(event.delta).length;
			if (event.type === "error")
				reject(new Error(message.data));
			if (event.type === "response.done") {
				heard.usage = event.response.usage;
				ws.close(1000, "OK");
			}
		};
		ws.onclose = (event) => resolve({ ...heard, code: event.code });
	}), `ws://localhost:${port}`), 20000, "the conversation");
	assert.equal(result.types[0], "session.created");
	assert.ok(result.types.includes("conversation.item.created"));
	assert.match(result.transcript, /Hello/);
	assert.equal(result.audio, 48000, "a second of pcm16");
	assert.ok(result.usage.total_tokens > 0);
	assert.equal(result.protocol, "");
	assert.equal(result.code, 1000);

	const claims = await page.evaluate(async () => {
		const response = await fetch("/api/livekit/token", {
			method: "POST",
			headers: { "Content-Type": "application/json" },
			body: JSON.stringify({ roomName: "lobby",
			    participantName: "Ann" }),
		});
		const { token } = await response.json();
		return JSON.parse(atob(token.split(".")[1]
		    .replaceAll("-", "+").replaceAll("_", "/")));
	});
	assert.equal(claims.video.room, "lobby");
	assert.equal(claims.video.roomJoin, true);
	assert.equal(claims.name, "Ann");
}, UP);
