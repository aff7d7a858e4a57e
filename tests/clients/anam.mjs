// SPDX-License-Identifier: MIT
// Anam's own SDK, unmodified, in a headless Chromium.
import assert from "node:assert/strict";

import { until } from "../lib/harness.mjs";
import { deadline, test } from "../lib/tap.mjs";
import { anam_site, open_page, play_engine } from "./lib/anam.mjs";
import { open_browser } from "./lib/browser.mjs";
import { need_packages, need_programs, need_simulator } from "./lib/setup.mjs";

need_simulator();
need_packages("@anam-ai/js-sdk", "playwright-core");
need_programs("chromium", "lighttpd");

const SLOW = { timeout: 120000 };
const SESSION = "/v1/engine/session";

// How the SDK is pointed at a broker.
const forms = {
	"api.baseUrl": (base) => ({ api: { baseUrl: base } }),
	apiGateway: (base) => ({ api: { apiGateway: { enabled: true,
	    baseUrl: base, wsPath: "/ws" } } }),
};

async function setup(t) {
	const site = await anam_site(t);
	const browser = await open_browser(t);
	const page = await open_page(t, browser, site.page_url);
	const begin = (form, token, how = "start") => page.evaluate(
	    ([name, ...args]) => window[name](...args),
	    [how, token, forms[form](site.base)]);
	const happens = (name) => deadline(page.evaluate(
	    (event) => window.happens(event), name), 40000, name);
	return { ...site, browser, page, begin, happens };
}

// The handshakes of the engine's clients, oldest first.
const signalling = (journal) => journal.handshakes.filter((h) =>
    h.path.endsWith("/ws"));

for (const form of Object.keys(forms))
	test(`${form}: a session, its answer accepted, and a talk command`,
	    async (t) => {
		const { base, page, begin, happens, token, journal, site, sim } =
		    await setup(t);
		await begin(form, await token());
		const [session_id] = await happens("SESSION_READY");
		await happens("VIDEO_STREAM_STARTED"); // out of the answer
		assert.equal(await page.evaluate(() =>
		    window.client.streamingClient.peerConnection.signalingState),
		    "stable");
		await page.evaluate(() => window.client.talk("Say this."));

		const { requests, handshakes } = await journal();
		const asked = requests.find((r) => r.path === SESSION);
		const [opened] = signalling({ handshakes });
		assert.equal(opened.query.session_id, session_id);
		assert.ok(opened.received.text.messages >= 1, "the offer");
		const talked = requests.find((r) => r.path.endsWith("/talk"));
		assert.deepEqual(JSON.parse(talked.body),
		    { content: "Say this." });
		assert.equal(talked.query.session_id, session_id);
		// the vendor's token and the engine stay with the broker
		const heard = await until(() => page.heard.some((text) =>
		    text.includes("clientConfig")) && page.heard.join("\n"),
		    "the session's answer was read");
		const vendor_token = asked.headers.find(([name]) =>
		    /^authorization$/i.test(name))[1].slice("Bearer ".length);
		for (const secret of [vendor_token, `:${sim.http_port}`,
		    "anam-engine-", site.anam_key])
			assert.ok(!heard.includes(secret), secret);
		assert.ok(heard.includes(session_id));
		assert.match(base, /^http/);
	}, SLOW);

for (const form of Object.keys(forms))
	test(`${form}: an engine's pictures arrive`, async (t) => {
		const { browser, page, page_url, engine_url, begin, happens,
		    token } = await setup(t);
		await play_engine(t, browser, page_url, engine_url);
		await page.bringToFront();
		await begin(form, await token());
		await happens("CONNECTION_ESTABLISHED");
		await happens("VIDEO_PLAY_STARTED");
		const frames = await page.evaluate(async () => {
			const video = document.getElementById("video");
			const times = [];
			while (times.length < 3)
				times.push(await new Promise((resolve) =>
				    video.requestVideoFrameCallback((now, frame) =>
				        resolve(frame.mediaTime))));
			return { times, width: video.videoWidth,
			    height: video.videoHeight };
		});
		assert.equal(frames.width, 320);
		assert.equal(frames.height, 240);
		assert.ok(frames.times[2] > frames.times[0], "it moves");
	}, SLOW);

test("a dropped socket is opened again, for the same session", async (t) => {
	const { begin, happens, page, token, script, journal } = await setup(t);
	// the first socket ends before the offer is answered to
	await script({ mode: "signalling",
	    query: "sim=silence,drop&after=1" });
	await begin("api.baseUrl", await token());
	const sockets = await until(async () => {
		const list = signalling(await journal());
		return list[1]?.status === 101 && list;
	}, "the second socket is open");
	assert.equal(sockets[1].query_string, sockets[0].query_string);
	assert.equal(sockets[1].path, sockets[0].path);
	// what the page says on it arrives
	await page.evaluate(() => window.client.streamingClient
	    .signallingClient.sendTalkMessage({ content: "x" }));
	await until(async () => signalling(await journal())[1]
	    .received.text.messages > 0, "a message on the second socket");
}, SLOW);

test("after an ICE restart the pictures come on, by another socket",
    async (t) => {
	const { browser, begin, happens, page, page_url, engine_url, token,
	    journal } = await setup(t);
	const engine = await play_engine(t, browser, page_url, engine_url);
	await page.bringToFront();
	await begin("api.baseUrl", await token());
	await happens("VIDEO_PLAY_STARTED");
	// what the SDK does when a network changes, which no test can do
	await page.evaluate(async () => {
		const streaming = window.client.streamingClient;
		const pc = streaming.peerConnection;
		window.ufrag = () => /a=ice-ufrag:(.*)/.exec(
		    pc.remoteDescription.sdp)[1];
		window.before = window.ufrag();
		streaming.signallingClient.reconnectForIceRestart();
		await pc.setLocalDescription(
		    await pc.createOffer({ iceRestart: true }));
		await streaming.signallingClient.sendOffer(pc.localDescription);
	});
	await page.waitForFunction(() => window.ufrag() !== window.before);
	await page.waitForFunction(() => window.client.streamingClient
	    .peerConnection.iceConnectionState === "connected");
	await page.evaluate(() => new Promise((resolve) => document
	    .getElementById("video").requestVideoFrameCallback(resolve)));
	assert.equal(await engine.evaluate(() => window.offers), 2);
	const sockets = signalling(await journal());
	assert.equal(sockets.length, 2);
	assert.equal(sockets[1].query_string, sockets[0].query_string);
}, SLOW);

for (const form of Object.keys(forms))
	test(`${form}: the engine ends the session`, async (t) => {
		const { begin, happens, token, script, journal } = await setup(t);
		await script({ mode: "signalling",
		    query: "sim=endsession&reason=time+is+up&after=1" });
		await begin(form, await token(), "start_quietly");
		const [code, reason] = await happens("CONNECTION_CLOSED");
		assert.equal(code,
		    "CONNECTION_CLOSED_CODE_SERVER_CLOSED_CONNECTION");
		assert.equal(reason, "time is up");
		assert.equal(signalling(await journal()).length, 1);
	}, SLOW);

const LOST = "CONNECTION_CLOSED_CODE_SIGNALLING_CLIENT_CONNECTION_FAILURE";

test("apiGateway: a backend's close 1008 is final, as it is", async (t) => {
	const { begin, happens, token, script, journal } = await setup(t);
	await script({ mode: "signalling", query: "sim=silence,close&" +
	    "code=1008&reason=Backend+WebSocket+said+no&after=1" });
	await begin("apiGateway", await token(), "start_quietly");
	assert.equal((await happens("CONNECTION_CLOSED"))[0], LOST);
	assert.equal(signalling(await journal()).length, 1);
}, SLOW);

test("an engine that refuses is asked five times more", async (t) => {
	const { begin, happens, token, script, journal, tunnel } =
	    await setup(t);
	await script({ mode: "signalling", query: "sim=refuse&status=503",
	    count: 100 });
	await begin("api.baseUrl", await token(), "start_quietly");
	assert.equal((await happens("CONNECTION_CLOSED"))[0], LOST);
	const sockets = signalling(await journal());
	assert.deepEqual(sockets.map((h) => h.status), Array(6).fill(503));
	assert.ok(!tunnel.output.includes("SIM-MARKER"));
}, SLOW);

test("the SDK tells the vendor's refusals apart", async (t) => {
	const { base, page, token, script, broker } = await setup(t);
	const name = (code) => `CLIENT_ERROR_CODE_${code}`;
	for (const [mode, code, status] of [
		["429-concurrent", "MAX_CONCURRENT_SESSIONS_REACHED", 429],
		["429-spend", "SPEND_CAP_REACHED", 429],
		["429-usage", "USAGE_LIMIT_REACHED", 429],
		["402", "NO_PLAN_FOUND", 402],
		["503", "SERVICE_BUSY", 503],
		["html", "SERVER_ERROR", 502],
		["garbage", "SERVER_ERROR", 502],
		["host-metadata", "SERVER_ERROR", 502],
	]) {
		await script({ mode, path: SESSION });
		const error = await page.evaluate(([key, options]) =>
		    window.start(key, options).then(() => null,
		        (err) => ({ code: err.code, status: err.statusCode })),
		    [await token(), { api: { baseUrl: base,
		        retry: { maxAttempts: 1 } } }]);
		assert.deepEqual(error, { code: name(code), status }, mode);
	}
	assert.ok(!broker.output.includes("SIM-MARKER"));
}, SLOW);

test("a wrong key of ours is our trouble, not the page's", async (t) => {
	const { base, page, token, script } = await setup(t);
	await script({ mode: "401", path: "/v1/auth/session-token" });
	const error = await page.evaluate(([key, options]) =>
	    window.start(key, options).then(() => null,
	        (err) => ({ code: err.code, status: err.statusCode })),
	    [await token(), { api: { baseUrl: base,
	        retry: { maxAttempts: 1 } } }]);
	assert.deepEqual(error,
	    { code: "CLIENT_ERROR_CODE_SERVER_ERROR", status: 502 });
}, SLOW);

test("a token of nobody's is refused", async (t) => {
	const { base, page } = await setup(t);
	const claims = Buffer.from(JSON.stringify({ type: "ephemeral",
	    accountId: "a", exp: 4e9 })).toString("base64url");
	const error = await page.evaluate(([key, options]) =>
	    window.start(key, options).then(() => null,
	        (err) => ({ code: err.code, status: err.statusCode })),
	    [`e30.${claims}.e30`, { api: { baseUrl: base } }]);
	assert.deepEqual(error, {
		code: "CLIENT_ERROR_CODE_AUTHENTICATION_ERROR", status: 401,
	});
}, SLOW);
