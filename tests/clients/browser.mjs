// SPDX-License-Identifier: MIT
// The page of deploy/up in a headless Chromium, used as a person would.
import assert from "node:assert/strict";
import path from "node:path";

import { Site, builddir, srcdir } from "../lib/harness.mjs";
import { test } from "../lib/tap.mjs";
import { open_browser } from "./lib/browser.mjs";
import { need_packages, need_programs, need_simulator } from "./lib/setup.mjs";

need_simulator();
need_packages("playwright-core");
need_programs("chromium", "lighttpd", "curl", "setsid", "setpriv");

async function open(t) {
	const site = await Site.open(t);
	const up = site.start("deploy/up", [path.join(srcdir, "deploy/up"),
	    "--use-build", builddir, "--port", "0"],
	    { env: { XDG_RUNTIME_DIR: site.dir } });
	const [, base, port] = await up.wait_for(
	    /(http:\/\/127\.0\.0\.1:(\d+)\/)/, { ms: 60000 });
	const context = await open_browser(t);
	const page = await context.newPage();
	page.setDefaultTimeout(15000);
	const errors = [];
	page.on("pageerror", (err) => errors.push(err.message));
	await page.goto(base);
	return { site, up, base, port: Number(port), page, errors };
}

test("the page talks, lists the events, and hangs up", async (t) => {
	const { page, errors } = await open(t);
	await page.fill("#message", "Are you there?");
	await page.press("#message", "Enter");
	await page.waitForSelector("#conversation .note");
	assert.match(await page.textContent("#conversation .model"), /\S/);
	assert.match(await page.textContent("#conversation .note"),
	    /^[1-9]\d* tokens/);
	assert.equal(await page.textContent("#status"), "connected");

	// the second message waits for nothing but the first answer
	await page.fill("#message", "And now?");
	await page.click("text=Send");
	await page.waitForFunction(() =>
	    document.querySelectorAll("#conversation .note").length === 2);
	const types = await page.$$eval("#events .type",
	    (list) => list.map((el) => el.textContent));
	for (const type of ["session.created", "session.update",
	    "response.output_audio.delta", "response.done"])
		assert.ok(types.includes(type), type);
	await page.locator("#events summary").first().click();
	assert.match(await page.textContent("#events pre"), /^\{\n {2}"type": /);

	await page.click("#hang-up");
	await page.waitForSelector("#hang-up:disabled");
	assert.equal(await page.textContent("#status"), "closed normally");
	assert.deepEqual(errors, []);
}, { timeout: 60000 });

test("the page sends plain text, and uses a short-lived key",
    async (t) => {
	const { page, errors } = await open(t);
	const urls = [];
	page.on("websocket", (ws) => urls.push(new URL(ws.url()).pathname));
	await page.selectOption("#form", "plain");
	assert.ok(await page.isDisabled("#modality"));
	await page.check("#short-lived");
	for (const [i, text] of ["One.", "Two."].entries()) {
		await page.fill("#message", text);
		await page.press("#message", "Enter");
		await page.waitForFunction((n) => document.querySelectorAll(
		    "#conversation .note").length === n, i + 1);
	}
	assert.deepEqual(urls, ["/ws"]);
	assert.deepEqual(await page.$$eval("#conversation .model",
	    (list) => list.map((el) => el.textContent)),
	    ["You said: One.", "You said: Two."]);
	assert.match(await page.textContent("#events .plain"),
	    /^got the key ek_.*, good until /);
	const sent = await page.$$eval("#events summary:has([aria-label=sent])",
	    (list) => list.map((el) => el.textContent));
	assert.deepEqual(sent, ["↑plain text4 B", "↑plain text4 B"]);
	assert.deepEqual(errors, []);
}, { timeout: 60000 });

test("the page says that no key is given", async (t) => {
	const { page } = await open(t);
	await page.check("#short-lived");
	await page.fill("#model", "no-such-model");
	await page.fill("#message", "Hello");
	await page.press("#message", "Enter");
	await page.waitForSelector("#conversation .error");
	assert.match(await page.textContent("#conversation .error"),
	    /^no key: .*model/);
	assert.equal(await page.textContent("#status"), "not connected");
	// and what was said goes nowhere later
	await page.uncheck("#short-lived");
	await page.fill("#model", "gpt-realtime");
	await page.fill("#message", "Again");
	await page.press("#message", "Enter");
	await page.waitForSelector("#conversation .note");
	assert.equal(await page.textContent("#conversation .model"),
	    "You said: Again");
}, { timeout: 60000 });

test("the page connects as a user, with a ticket", async (t) => {
	const { up, page, errors } = await open(t);
	const [, token] = await up.wait_for(/Bearer ([\w-]+\.[\w-]+\.[\w-]+)/);
	const urls = [];
	page.on("websocket", (ws) => urls.push(new URL(ws.url())));
	await page.fill("#user-token", `${token}A`);
	await page.fill("#message", "Hello");
	await page.press("#message", "Enter");
	await page.waitForSelector("#conversation .error");
	assert.match(await page.textContent("#conversation .error"),
	    /^no ticket: the token's signature is not valid/);
	await page.fill("#user-token", token);
	await page.fill("#message", "Hello");
	await page.press("#message", "Enter");
	await page.waitForSelector("#conversation .note");
	assert.equal(urls.length, 1);
	assert.equal(urls[0].pathname, "/v1/realtime");
	assert.match(urls[0].searchParams.get("ticket"), /^ek_/);
	assert.equal(urls[0].searchParams.get("model"), "gpt-realtime");
	assert.ok(!urls[0].href.includes(token));
	assert.deepEqual(errors, []);
}, { timeout: 60000 });

test("the page makes a session with a persona of Anam's", async (t) => {
	const { up, base, page, errors } = await open(t);
	await page.fill("#persona", "3f2b8c1e-7a54-4e0b-9d8f-1c2b3a4d5e6f");
	await page.click("text=Make a session");
	await page.waitForSelector("#anam-session:not([hidden])");
	const id = await page.textContent("#anam-id");
	assert.match(id, /^[0-9a-f-]{36}$/);
	assert.equal(await page.textContent("#anam-engine"),
	    `${new URL(base).host}/b/${id}`);
	assert.equal(await page.textContent("#anam-socket"), `/b/${id}/ws`);
	assert.equal(JSON.parse(await page.textContent("#anam-answer"))
	    .sessionId, id);
	assert.deepEqual(errors, []);

	// the simulator's vendor does not take this one, and the terminal says so
	await page.fill("#persona", "sim-400");
	await page.click("text=Make a session");
	await page.waitForSelector("#anam-status[data-state=bad]");
	assert.ok(await page.isHidden("#anam-session"));
	await up.wait_for(/anam\.refused .*persona=sim-400 /);
}, { timeout: 60000 });

test("the page chats, regenerates, and lists its chats", async (t) => {
	const { up, page, errors } = await open(t);
	const models = () => page.$$eval("#chat-log .model",
	    (list) => list.map((el) => el.textContent.replace(/^.*You/, "You")));
	const ends = (n) => page.waitForFunction((count) => document
	    .querySelectorAll("#chat-log .note").length === count &&
	    document.getElementById("chat-stop").disabled, n);
	await page.waitForSelector("#chat-status[data-state=open]");
	assert.match(await page.textContent("#chat-status"),
	    /^\d+ of \d+ messages left$/);
	await page.fill("#chat-message", "Hello");
	await page.press("#chat-message", "Enter");
	await ends(1);
	await page.click("#chat-regenerate");
	await ends(1);
	assert.deepEqual(await models(), ["You said: Hello"]);
	await page.fill("#chat-message", "Again");
	await page.click("#chat-send");
	await ends(2);
	assert.deepEqual(await models(),
	    ["You said: Hello", "You said: Again"]);

	// as somebody who has signed in: another's chats are not there
	const [, token] = await up.wait_for(/Bearer ([\w-]+\.[\w-]+\.[\w-]+)/);
	await page.fill("#chat-token", token);
	await page.press("#chat-token", "Tab");
	const is_demo = () => page.waitForFunction(() =>
	    /^demo: 5\.0+ USD left$/.test(
	    document.getElementById("chat-status").textContent));
	await is_demo();
	await page.waitForFunction(() =>
	    document.querySelectorAll("#chat-choice option").length === 1);
	await page.reload(); // and stays so
	await is_demo();
	await page.fill("#chat-token", "");
	await page.press("#chat-token", "Tab");
	await page.waitForFunction(() =>
	    document.querySelectorAll("#chat-choice option").length === 2);
	await page.selectOption("#chat-choice", { index: 1 });
	await page.waitForFunction(() =>
	    document.querySelectorAll("#chat-log .model").length === 2);
	assert.deepEqual(errors, []);
}, { timeout: 60000 });

test("an answer goes on after a reload, and stops when it is told to",
    async (t) => {
	const { page, errors } = await open(t);
	const words = Array.from({ length: 800 }, (_, i) => `w${i}`).join(" ");
	await page.fill("#chat-message", words);
	await page.press("#chat-message", "Enter");
	const has_word = (n) => page.waitForFunction((word) => document
	    .querySelector("#chat-log .model")?.textContent.includes(word),
	    `w${n} `);
	await has_word(10);
	await page.reload();
	await has_word(30);
	assert.match(await page.textContent("#chat-log .model"),
	    /^I was sent .*You said: w0 w1 w2 /);
	await page.click("#chat-stop");
	await page.waitForSelector("#chat-stop:disabled");
	assert.match(await page.textContent("#chat-log .note"), /^stopped/);
	assert.ok(!(await page.textContent("#chat-log .model"))
	    .includes("w799"));
	assert.deepEqual(errors, []);
}, { timeout: 60000 });

test("the page keeps a message that is refused, and says what is left",
    async (t) => {
	const { page, errors } = await open(t);
	await page.waitForSelector("#chat-status[data-state=open]");
	await page.evaluate(() => Promise.all(Array.from({ length: 20 },
	    async (_, i) => (await fetch("/api/v1/messages/send", {
		method: "POST",
		headers: { "Content-Type": "application/json",
		    "x-anon-id": `someone-${i}` },
		body: JSON.stringify({ content: "x" }),
	    })).text())));
	await page.fill("#chat-message", "One more?");
	await page.press("#chat-message", "Enter");
	await page.waitForSelector("#chat-log .error");
	assert.match(await page.textContent("#chat-log .error"), /no more/);
	assert.equal(await page.inputValue("#chat-message"), "One more?");
	await page.waitForSelector("#chat-status[data-state=bad]");
	assert.equal(await page.textContent("#chat-status"),
	    "0 of 20 messages left");
	assert.deepEqual(errors, []);
}, { timeout: 60000 });

test("the page says that a model is refused", async (t) => {
	const { page } = await open(t);
	await page.fill("#model", "no-such-model");
	await page.fill("#message", "Hello");
	await page.press("#message", "Enter");
	await page.waitForSelector("#conversation .error");
	assert.equal(await page.textContent("#status"), "not connected");
	assert.match(await page.textContent("#conversation .error"),
	    /^closed 1006: refused/);
}, { timeout: 60000 });

test("the page decodes a LiveKit token", async (t) => {
	const { page, errors } = await open(t);
	await page.fill("#room", "lobby");
	await page.fill("#participant", "Ada Žižka");
	await page.click("text=Get a token");
	await page.waitForSelector("#token:not([hidden])");
	const claims = JSON.parse(await page.textContent("#token-claims"));
	assert.equal(claims.video.room, "lobby");
	assert.equal(claims.name, "Ada Žižka");
	assert.equal(JSON.parse(await page.textContent("#token-header")).alg,
	    "HS256");
	assert.match(await page.textContent("#token-expiry"), /^in \d+:\d\d$/);
	assert.deepEqual(errors, []);
}, { timeout: 60000 });

test("the page fits a narrow window", async (t) => {
	const { page } = await open(t);
	await page.setViewportSize({ width: 340, height: 700 });
	assert.equal(await page.evaluate(() =>
	    document.documentElement.scrollWidth), 340);
}, { timeout: 60000 });

test("the page has code to copy, for this server", async (t) => {
	const { base, page } = await open(t);
	const options = await page.$$eval("#snippet-choice option",
	    (list) => list.map((o) => o.value));
	assert.ok(options.length > 1);
	for (const option of options) {
		await page.selectOption("#snippet-choice", option);
		assert.ok((await page.textContent("#snippet"))
		    .includes(new URL(base).host), `snippet ${option}`);
	}
}, { timeout: 60000 });
