// SPDX-License-Identifier: MIT
// The chat in a headless Chromium: its own EventSource and fetch, and
// socket.io-client, from a page of the site and from one of another origin.
import assert from "node:assert/strict";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";

import { Site, builddir, clients_dir, srcdir, until } from "../lib/harness.mjs";
import { chat_site } from "../lib/chat.mjs";
import { deadline, test } from "../lib/tap.mjs";
import { open_browser } from "./lib/browser.mjs";
import { need_packages, need_programs, need_simulator } from "./lib/setup.mjs";

need_simulator();
need_packages("playwright-core", "socket.io-client");
need_programs("chromium", "lighttpd", "curl", "setsid", "setpriv");

const IO = fs.readFileSync(path.join(clients_dir,
    "node_modules/socket.io-client/dist/socket.io.min.js"), "utf8");
const EMPTY = "<!doctype html><title>A page</title>";

// A page of another origin than the site's: another port of this machine.
async function other_origin(t) {
	const server = http.createServer((req, res) => {
		res.writeHead(200, { "Content-Type": "text/html" });
		res.end(EMPTY);
	});
	await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
	t.after(() => { server.closeAllConnections(); server.close(); });
	return `http://localhost:${server.address().port}`;
}

async function open_page(t, url) {
	const context = await open_browser(t, { bypassCSP: true });
	const page = await context.newPage();
	page.setDefaultTimeout(20000);
	const log = [];
	page.on("console", (message) => log.push(message.text()));
	page.on("pageerror", (err) => log.push(`page error: ${err.message}`));
	t.on_failure(() => `---- the page's console\n${log.join("\n")}`);
	await page.goto(url);
	await page.addScriptTag({ content: IO });
	return { page, log };
}

// In the page: send by fetch, read by EventSource and by fetch, list over
// Socket.IO; base is "" in a page of the site itself.
async function use_chat({ base, anon, words }) {
	const heard = {};
	const socket = io(`${base || location.origin}/chats`,
	    { auth: { anon_id: anon }, forceNew: true });
	const usage = new Promise((resolve, reject) => {
		socket.once("usage_info", resolve);
		socket.once("connect_error", reject);
	});
	heard.kind = (await usage).kind;

	const sent = await fetch(`${base}/api/v1/messages/send`, {
		method: "POST",
		headers: { "Content-Type": "application/json",
		    "x-anon-id": anon },
		body: JSON.stringify({ content: words }),
	});
	heard.status = sent.status;
	const source = new EventSource(
	    `${base}/api/v1/messages/send?anon_id=${anon}`);
	let text = "";
	source.addEventListener("assistant_delta", (event) => {
		text += JSON.parse(event.data).delta;
	});
	await new Promise((resolve, reject) => {
		source.addEventListener("assistant_complete", resolve);
		source.onerror = () => reject(new Error("EventSource failed"));
	});
	source.close();
	heard.by_event_source = text.replace(/^.* You said: /, "");

	const body = await sent.text();
	heard.by_fetch = [...body.matchAll(
	    /^event: assistant_delta\ndata: (.*)$/gm)]
	    .map(([, data]) => JSON.parse(data).delta).join("")
	    .replace(/^.* You said: /, "");
	const { chats } = await new Promise((resolve) =>
	    socket.emit("list_chats", {}, resolve));
	heard.chats = chats.length;
	heard.transport = socket.io.engine.transport.name;
	socket.disconnect();
	return heard;
}

const WORDS = Array.from({ length: 20 }, (_, i) => `w${i}`).join(" ");

for (const same of [true, false])
	test(`a page of ${same ? "the site's" : "another"} origin uses the chat`,
	    async (t) => {
		const { base, site } = await chat_site(t,
		    { sim_args: ["--pace", "40"] });
		site.write("page.html", EMPTY);
		const { page } = await open_page(t, same ? `${base}/page.html` :
		    await other_origin(t));
		const heard = await deadline(page.evaluate(use_chat,
		    { base: same ? "" : base, anon: "visitor-0001",
		        words: WORDS }), 30000, "the page is done");
		assert.deepEqual(heard, {
			kind: "anonymous", status: 200,
			by_event_source: WORDS,
			by_fetch: WORDS, chats: 1,
			transport: heard.transport,
		});
		assert.match(heard.transport, /^(polling|websocket)$/);
	}, { timeout: 60000 });

test("a page of an origin that is not allowed reads nothing", async (t) => {
	const { base, site } = await chat_site(t, { origins: '"https://a.example"' });
	const stranger = await other_origin(t);
	const { page } = await open_page(t, stranger);
	const heard = await page.evaluate(async (url) => {
		const failed = (promise) => promise.then(() => false, () => true);
		const socket = io(`${url}/chats`, { auth: { anon_id: "visitor-1" },
		    forceNew: true, reconnection: false });
		const refused = new Promise((resolve) => {
			socket.once("connect_error", () => resolve(true));
			socket.once("connect", () => resolve(false));
		});
		const source = new EventSource(
		    `${url}/api/v1/messages/test-sse`);
		const silent = new Promise((resolve) => {
			source.onerror = () => resolve(true);
			source.onopen = () => resolve(false);
		});
		return [await failed(fetch(`${url}/api/v1/usage`)),
		    await refused, await silent];
	}, base);
	assert.deepEqual(heard, [true, true, true]);
	assert.ok(site);
}, { timeout: 60000 });

test("a page without WebSockets stays with polling", async (t) => {
	const { base, site, tunnel } = await chat_site(t);
	site.write("page.html", EMPTY);
	await tunnel.wait_for(/supervisor\.ready/);
	await tunnel.stop();
	const { page } = await open_page(t, `${base}/page.html`);
	const heard = await deadline(page.evaluate(async () => {
		const socket = io(`${location.origin}/chats`,
		    { auth: { anon_id: "visitor-0001" } });
		await Promise.all([
			new Promise((resolve) =>
			    socket.once("usage_info", resolve)),
			new Promise((resolve) =>
			    socket.io.engine.once("upgradeError", resolve)),
		]);
		const { chat } = await new Promise((resolve) =>
		    socket.emit("create_chat", { title: "A" }, resolve));
		return [chat.title, socket.io.engine.transport.name];
	}), 20000, "the page is done");
	assert.deepEqual(heard, ["A", "polling"]);
}, { timeout: 60000 });

// The client of lib/hybrid.js under deploy/up: host and tokens are put in,
// and nothing else is another.
test("a hybrid client works as its authors wrote it", async (t) => {
	const site = await Site.open(t);
	const up = site.start("deploy/up", [path.join(srcdir, "deploy/up"),
	    "--use-build", builddir, "--port", "0"],
	    { env: { XDG_RUNTIME_DIR: site.dir } });
	const [, port] = await up.wait_for(
	    /^ready: http:\/\/127\.0\.0\.1:(\d+)\/ /m, { ms: 60000 });
	const [, token] = await up.wait_for(/Bearer ([\w-]+\.[\w-]+\.[\w-]+)/);
	const { page, log } = await open_page(t, `http://localhost:${port}/`);
	const client = fs.readFileSync(path.join(srcdir,
	    "tests/clients/lib/hybrid.js"), "utf8")
	    .replaceAll("localhost:3000", `localhost:${port}`)
	    .replaceAll(/your-(jwt-)?token/g, token);
	await page.evaluate(() => {
		window.ui = { text: "", done: [], errors: [], prompts: [] };
		window.appendDeltaToUI = (delta) => { ui.text += delta; };
		window.finalizeMessage = (data) => ui.done.push(data);
		window.showError = (error) => ui.errors.push(error);
		window.reconnectSSE = () => ui.errors.push("reconnect");
		for (const name of ["showLoginPrompt", "showTopUpPrompt",
		    "showGenericError"])
			window[name] = () => ui.prompts.push(name);
	});
	await page.addScriptTag({ content: client });
	const logged = (start) => until(() =>
	    log.find((line) => line.startsWith(start)), `${start} is logged`);
	await logged("Usage:");
	await logged("Chats:");
	await logged("Test 1:");
	await logged("Test completed:");

	// as it is written: without a body, and without its length
	const test = site.start("curl", ["curl", "-sS", "-X", "POST",
	    `http://localhost:${port}/api/v1/messages/test-sse`,
	    "-H", "Content-Type: application/json"]);
	await test.wait_for(/^event: test_complete\ndata: \{.*\}$/m,
	    { ms: 20000 });

	// the first message makes the chat, the second goes into it
	await deadline(page.evaluate(() =>
	    sendMessage(null, "gpt-4o-mini", "Hello there")), 20000, "an answer");
	for (const line of ["Assistant is typing...", "Delta:",
	    "Message completed:", "Usage updated:"])
		await logged(line);
	const chat = await page.evaluate(() => new Promise((resolve) => {
		socket.once("chats_list", ({ chats }) => resolve(chats[0].id));
		socket.emit("list_chats", { page: 0, limit: 20 });
	}));
	await page.evaluate((id) => sendMessageWithEventSource(id,
	    "gpt-4o-mini", "and once more, by an EventSource"), chat);
	await page.waitForFunction(() => ui.done.length > 0);
	const ui = await page.evaluate(() => window.ui);
	assert.match(ui.text, /You said: and once more, by an EventSource$/);
	assert.equal(ui.done[0].chat_id, chat);
	assert.deepEqual([ui.errors, ui.prompts], [[], []]);
	assert.ok(!log.some((line) => /error/i.test(line)), log.join("\n"));
}, { timeout: 120000 });
