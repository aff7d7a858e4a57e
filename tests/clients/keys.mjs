// SPDX-License-Identifier: MIT
// OpenAI's clients in a headless Chromium, with a short-lived key that the
// broker gave the page.
import assert from "node:assert/strict";
import path from "node:path";

import { clients_dir } from "../lib/harness.mjs";
import { deadline, test } from "../lib/tap.mjs";
import { open_browser } from "./lib/browser.mjs";
import { need_packages, need_programs, need_simulator, openai_site }
	from "./lib/setup.mjs";

need_simulator();
need_packages("@openai/agents-realtime", "openai", "openai-6",
    "playwright-core");
need_programs("chromium", "lighttpd", "openssl");

const modules = path.join(clients_dir, "node_modules");
const AGENTS = path.join(modules, "@openai/agents-realtime/dist/bundle/" +
    "openai-realtime-agents.umd.js");

// A page of the site itself, over TLS since the packages insist on it.
async function open_page(t, more = "") {
	const parts = await openai_site(t, { tls: true,
	    more: `client_secrets = true\nrequire_ticket = true\n${more}` });
	parts.site.write("page.html", "<!doctype html><title>A page</title>");
	const context = await open_browser(t, { ignoreHTTPSErrors: true });
	const page = await context.newPage();
	const log = [];
	page.on("console", (message) => log.push(message.text()));
	t.on_failure(() => `---- the page's console\n${log.join("\n")}`);
	const base = `https://localhost:${parts.front.port}`;
	await page.goto(`${base}/page.html`);
	await page.evaluate(() => {
		window.get_key = async (body) => {
			const response = await fetch("/v1/realtime/client_secrets", {
				method: "POST",
				headers: { "Content-Type": "application/json" },
				body: JSON.stringify(body),
			});
			return response.json();
		};
	});
	return { ...parts, page, base, handshakes: async () => (await (
	    await fetch(`http://127.0.0.1:${parts.sim.http_port}/sim/journal`))
	    .json()).handshakes };
}

const REALTIME = { session: { type: "realtime", model: "gpt-realtime" } };

// What the vendor saw is the server's key, and no other.
function check_handshake(site, { headers }) {
	const all = JSON.stringify(headers);
	assert.ok(all.includes(site.vendor_key));
	assert.ok(!all.includes("ek_"), "our key stays here");
}

test("@openai/agents-realtime converses with an ek_ of ours", async (t) => {
	const { site, page, base, handshakes } = await open_page(t);
	await page.addScriptTag({ path: AGENTS });
	const result = await deadline(page.evaluate(async ([url, body]) => {
		const { OpenAIRealtimeWebSocket, RealtimeAgent, RealtimeSession } =
		    window.OpenAIAgentsRealtime;
		const secret = await window.get_key(body);
		const agent = new RealtimeAgent({ name: "greeter",
		    instructions: "Greet." });
		const transport = new OpenAIRealtimeWebSocket({ url });
		const session = new RealtimeSession(agent, { transport,
		    model: "gpt-realtime", tracingDisabled: true });
		const heard = { types: [], audio: 0, expires: secret.expires_at };
		session.on("audio", ({ data }) => {
			heard.audio += data.byteLength;
		});
		session.on("transport_event", ({ type }) => heard.types.push(type));
		const ended = new Promise((resolve, reject) => {
			session.on("agent_end", (context, who, output) =>
			    resolve(output));
			session.on("error", ({ error }) => reject(
			    new Error(JSON.stringify(error))));
		});
		await session.connect({ apiKey: secret.value });
		session.sendMessage("Hello");
		heard.output = await ended;
		session.close();
		return heard;
	}, [`${base.replace("https", "wss")}/v1/realtime?model=gpt-realtime`,
	    REALTIME]), 20000, "the conversation");
	assert.match(result.output, /Hello/);
	assert.ok(result.audio > 1000);
	assert.ok(result.types.includes("session.updated"));
	assert.ok(result.expires > Date.now() / 1000);
	const [handshake] = await handshakes();
	check_handshake(site, handshake);
}, { timeout: 60000 });

test("@openai/agents-realtime begins a WebRTC call with one", async (t) => {
	const { site, sim, page, base } = await open_page(t, "calls = true");
	await page.addScriptTag({ path: AGENTS });
	const call = await deadline(page.evaluate(async ([url, body]) => {
		const { OpenAIRealtimeWebRTC } = window.OpenAIAgentsRealtime;
		const { value } = await window.get_key(body);
		let pc;
		const transport = new OpenAIRealtimeWebRTC({ baseUrl: url,
		    changePeerConnection: (connection) => (pc = connection) });
		// it connects to nobody: the answer is what there is to see
		transport.connect({ apiKey: value, model: "gpt-realtime" })
		    .catch(() => {});
		await new Promise((resolve) => {
			const look = () => pc?.remoteDescription ? resolve() :
			    setTimeout(look, 5);
			look();
		});
		const heard = { id: transport.callId, state: pc.signalingState,
		    type: pc.remoteDescription.type };
		transport.close();
		return heard;
	}, [`${base}/v1/realtime/calls`, REALTIME]), 20000, "the answer");
	assert.match(call.id, /^rtc_\w+$/);
	assert.equal(call.state, "stable");
	assert.equal(call.type, "answer");
	const { requests } = await (await fetch(
	    `http://127.0.0.1:${sim.http_port}/sim/journal`)).json();
	const asked = requests.find((r) => r.path === "/v1/realtime/calls");
	check_handshake(site, asked);
	assert.match(asked.body, /name="?session"?[^]*gpt-realtime/);
}, { timeout: 60000 });

for (const name of ["openai", "openai-6"])
	test(`${name} converses from a page with an ek_ of ours`, async (t) => {
		const { site, page, base, handshakes } = await open_page(t);
		await page.route("**/modules/**", (route) => route.fulfill({
			path: path.join(modules,
			    new URL(route.request().url()).pathname
			        .replace(/^\/modules\//, "")),
			contentType: "text/javascript",
		}));
		const result = await deadline(page.evaluate(
		    async ([name, baseURL, body]) => {
			const { OpenAI } =
			    await import(`/modules/${name}/client.mjs`);
			const { OpenAIRealtimeWebSocket } = await import(
			    `/modules/${name}/realtime/websocket.mjs`);
			const { value } = await window.get_key(body);
			const client = new OpenAI({ apiKey: value, baseURL,
			    dangerouslyAllowBrowser: true });
			const rt = new OpenAIRealtimeWebSocket(
			    { model: "gpt-realtime" }, client);
			const heard = { text: "" };
			const ended = new Promise((resolve, reject) => {
				rt.on("error", (err) => reject(
				    new Error(err.message)));
				rt.on("response.output_text.delta", ({ delta }) => {
					heard.text += delta;
				});
				rt.on("response.done", resolve);
				rt.socket.addEventListener("close", ({ code }) =>
				    reject(new Error(`closed ${code}`)));
			});
			rt.on("session.created", () => {
				rt.send({ type: "session.update", session: {
					type: "realtime",
					output_modalities: ["text"],
				} });
				rt.send({ type: "conversation.item.create", item: {
					type: "message", role: "user", content: [{
						type: "input_text", text: "Hello",
					}],
				} });
				rt.send({ type: "response.create" });
			});
			heard.usage = (await ended).response.usage;
			heard.protocol = rt.socket.protocol;
			rt.close();
			return heard;
		}, [name, `${base}/v1`, REALTIME]), 20000, "the conversation");
		assert.match(result.text, /Hello/);
		assert.ok(result.usage.total_tokens > 0);
		assert.equal(result.protocol, "realtime");
		const [handshake] = await handshakes();
		check_handshake(site, handshake);
	}, { timeout: 60000 });

test("a page without a key, or with another's, is not served", async (t) => {
	const { page, base, handshakes } = await open_page(t);
	const closed = await page.evaluate((url) => Promise.all(
	    [[], ["realtime", "openai-insecure-api-key.ek_none.e30.e30"]].map(
	        (protocols) => new Promise((resolve) => {
			new WebSocket(url, protocols).onclose = ({ code }) =>
			    resolve(code);
		}))), `${base.replace("https", "wss")}/v1/realtime`);
	assert.deepEqual(closed, [1006, 1006]);
	assert.deepEqual(await handshakes(), []);
}, { timeout: 60000 });
