// SPDX-License-Identifier: MIT
// What the tests of Anam's clients share: everything between a page and the
// simulated vendor, pages with the unmodified SDK, and a page that plays the
// engine.
import path from "node:path";

import { Site, clients_dir } from "../../lib/harness.mjs";

const SDK = path.join(clients_dir,
    "node_modules/@anam-ai/js-sdk/dist/umd/anam.js");

// {site, sim, front, base, token(persona), script(entry), journal()}.
export async function anam_site(t) {
	const site = await Site.open(t);
	const sim = await site.sim();
	const vendor = `http://127.0.0.1:${sim.http_port}`;
	const parts = await site.serve({ rest: `store { path = "${site.file("store.db")}" }
anam {
	api_key = "env:ANAM_API_KEY"
	url = "${vendor}"
	hosts = {"127.0.0.1"}
	allow_http = true
	allow_private = true
	personas = {"*"}
}
openai {
	api_key = "env:OPENAI_API_KEY"
	url = "ws://127.0.0.1:${sim.ws_port}/v1/realtime"
}
relay "/ws" {	# where the gateway's form connects, too
	inherit = "openai"
	messages = "text"
}` });
	site.write("page.html", "<!doctype html><title>A page</title>" +
	    "<video id=video autoplay muted playsinline></video>");
	const front = await site.front("lighttpd");
	const base = `http://127.0.0.1:${front.port}`;
	const post = (url, body) => fetch(url, { method: "POST",
	    headers: { "Content-Type": "application/json" },
	    body: JSON.stringify(body) });
	return {
		site, sim, front, base, post, ...parts,
		// The page comes from another origin than the broker's.
		page_url: `http://localhost:${front.port}/page.html`,
		token: async (persona = "persona-of-test") => {
			const response = await post(`${base}/v1/auth/session-token`,
			    { personaConfig: { personaId: persona } });
			return (await response.json()).sessionToken;
		},
		script: (entry) => post(`${vendor}/sim/anam`, entry),
		journal: async () => (await fetch(`${vendor}/sim/journal`)).json(),
		engine_url: `ws://127.0.0.1:${sim.ws_port}/sim/anam/engine`,
	};
}

// A page with the SDK, and functions in it: start(token, options), and
// happens(name), a promise of the first such event's texts, whether it came or
// will.  start_quietly() is for sessions that may end while they start.
export async function open_page(t, browser, url) {
	const page = await browser.newPage();
	page.setDefaultTimeout(40000);
	page.heard = []; // what was answered, for what may not be in it
	page.on("requestfinished", async (request) => {
		try {
			const response = await request.response();
			page.heard.push(`${JSON.stringify(response.headers())}\n` +
			    await response.text());
		} catch {
			return; // the page is gone
		}
	});
	page.on("websocket", (ws) => ws.on("framereceived",
	    ({ payload }) => page.heard.push(String(payload))));
	const log = [];
	page.on("console", (message) => log.push(message.text()));
	t.on_failure(() => `---- the page's console\n${log.join("\n")}`);
	await page.goto(url);
	await page.addScriptTag({ path: SDK });
	await page.evaluate(() => {
		const { AnamEvent, createClient } = window.anam;
		const seen = new Map(), waiting = new Map();

		window.happens = (name) => {
			if (seen.has(name))
				return Promise.resolve(seen.get(name));
			return new Promise((resolve) => waiting.set(name,
			    [...waiting.get(name) ?? [], resolve]));
		};
		window.start = async (token, options) => {
			const client = createClient(token, options);
			window.client = client;
			for (const name of Object.values(AnamEvent))
				client.addListener(name, (...args) => {
					const texts = args.filter((arg) =>
					    typeof arg === "string");
					if (!seen.has(name))
						seen.set(name, texts);
					for (const resolve of waiting.get(name) ?? [])
						resolve(texts);
					waiting.delete(name);
				});
			await client.streamToVideoElement("video");
		};
		window.start_quietly = (...args) =>
		    window.start(...args).catch(() => {});
	});
	return page;
}

// A page that is the engine of the next session: it answers with WebRTC and
// shows a moving picture.
export async function play_engine(t, browser, page_url, engine_url) {
	const page = await browser.newPage();
	const log = [];
	page.on("console", (message) => log.push(message.text()));
	t.on_failure(() => `---- the engine's console\n${log.join("\n")}`);
	await page.goto(page_url);
	await page.evaluate(async (url) => {
		const canvas = document.createElement("canvas");
		canvas.width = 320;
		canvas.height = 240;
		document.body.append(canvas);
		const paint = canvas.getContext("2d");
		let shade = 0;
		setInterval(() => {
			paint.fillStyle = `rgb(${shade++ % 256}, 128, 0)`;
			paint.fillRect(0, 0, canvas.width, canvas.height);
		}, 40);
		const stream = canvas.captureStream(25);

		const pc = new RTCPeerConnection();
		const ws = new WebSocket(url);
		window.offers = 0;
		let session, early = [];
		const say = (actionType, payload) => ws.send(JSON.stringify(
		    { actionType, sessionId: session, payload }));
		pc.onicecandidate = ({ candidate }) => candidate &&
		    say("icecandidate", candidate.toJSON());
		const take_offer = async ({ connectionDescription }) => {
			await pc.setRemoteDescription(connectionDescription);
			if (window.offers++ === 0)
				for (const track of stream.getTracks())
					pc.addTrack(track, stream);
			await pc.setLocalDescription();
			if (window.offers === 1)
				say("sessionready", {});
			say("answer", pc.localDescription.toJSON());
			for (const candidate of early)
				await pc.addIceCandidate(candidate);
			early = [];
		};
		const take_candidate = async (candidate) => {
			if (pc.remoteDescription)
				await pc.addIceCandidate(candidate);
			else
				early.push(candidate);
		};
		let turn = Promise.resolve(); // one message after the other
		ws.onmessage = ({ data }) => {
			const { actionType, sessionId, payload } = JSON.parse(data);
			session = sessionId;
			if (actionType === "offer")
				turn = turn.then(() => take_offer(payload));
			else if (actionType === "icecandidate")
				turn = turn.then(() => take_candidate(payload));
		};
		await new Promise((resolve, reject) => {
			ws.onopen = resolve;
			ws.onerror = () => reject(new Error("no engine's socket"));
		});
	}, engine_url);
	return page;
}
