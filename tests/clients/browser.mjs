// SPDX-License-Identifier: MIT
// Seed 004's snippet in a headless Chromium, on the page of deploy/up, and
// that page itself, used as a person would.
import assert from "node:assert/strict";
import path from "node:path";

import { Site, find_program, srcdir } from "../lib/harness.mjs";
import { test } from "../lib/tap.mjs";
import { need_packages, need_programs } from "./lib/setup.mjs";

need_packages("playwright-core");
need_programs("chromium", "lighttpd");
const { chromium } = await import("playwright-core");

async function open(t) {
	const site = await Site.open(t);
	const up = site.start("deploy/up", [path.join(srcdir, "deploy/up"),
	    "--port", "0"], { env: { HOME: site.dir } });
	const [, base, port] = await up.wait_for(
	    /(http:\/\/127\.0\.0\.1:(\d+)\/)/, { ms: 60000 });
	const browser = await chromium.launch({
		executablePath: find_program("chromium"),
		args: ["--no-sandbox", "--disable-gpu", "--disable-quic",
		    "--no-first-run", "--disable-background-networking",
		    "--disable-component-update", "--disable-sync"],
	});
	t.after(() => browser.close());
	const page = await browser.newPage();
	page.setDefaultTimeout(15000);
	const errors = [];
	page.on("pageerror", (err) => errors.push(err.message));
	await page.goto(base);
	return { site, up, base, port: Number(port), page, errors };
}

test("seed 004's snippet converses from a page", async (t) => {
	const { port, page } = await open(t);
	const result = await page.evaluate((wsUrl) => new Promise(
	    (resolve, reject) => {
		// src/config.ts and src/openai-manager.ts of the seed
		const config = { openai: {
			model: "gpt-4o-realtime-preview-2024-12-17", wsUrl,
		} };
		const url = `${config.openai.wsUrl}?model=${config.openai.model}`;
		const ws = new WebSocket(url);

		const send = (event) => ws.send(JSON.stringify(event));
		const heard = { types: [], text: "", protocol: null };
		ws.onopen = () => {
			heard.protocol = ws.protocol;
			send({ type: "session.update", session: {
				type: "realtime", output_modalities: ["text"],
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
			if (event.type === "response.output_text.delta")
				heard.text += event.delta;
			if (event.type === "error")
				reject(new Error(message.data));
			if (event.type === "response.done") {
				heard.usage = event.response.usage;
				ws.close(1000, "OK");
			}
		};
		ws.onclose = (event) => resolve({ ...heard, code: event.code });
	}), `ws://localhost:${port}`);
	assert.equal(result.types[0], "session.created");
	assert.match(result.text, /\S/);
	assert.ok(result.usage.total_tokens > 0);
	assert.equal(result.protocol, "");
	assert.equal(result.code, 1000);
}, { timeout: 120000 });
