// SPDX-License-Identifier: MIT
// The relay against the simulator, whose WebSocket server is libwebsockets'.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import fs from "node:fs";

import { SIM, Site, table } from "../lib/harness.mjs";
import { OP, close_payload, frame } from "../lib/rawws.mjs";
import { make_certificates } from "../lib/servers.mjs";
import { skip_all, test } from "../lib/tap.mjs";

if (!fs.existsSync(SIM))
	skip_all("the simulator is not built; run deploy/check");

const MIB = 1 << 20;
const UNTIL = { until_closed: true };

// Relays to paths of the simulator: {"/x": "/echo", ...}.
async function sim_site(t, paths, more = "") {
	const site = await Site.open(t);
	const sim = await site.sim();
	await site.serve({ relays: Object.entries(paths).map(([path, target]) =>
	    [path, site.relay(sim.ws_port, more, target)]) });
	return { site, sim, front: site.direct() };
}

test("what broken vendors answer is 502, and said in our words", async (t) => {
	const names = ["bad-accept", "no-accept", "no-upgrade", "no-connection",
	    "half-head-eof", "eof-before-101", "reset-before-101", "garbage",
	    "redirect", "http-html", "head-too-large", "extension-selected",
	    "protocol-not-offered"];
	const { site, front } = await sim_site(t, Object.fromEntries(
	    names.map((name) => [`/${name}`, `/raw/${name}`])));
	site.canaries.set("vendor's error body", "SIM-MARKER");
	await table(names.map((name) => [name]), async (name) => {
		const answer = await site.handshake(front, `/${name}`, {}, UNTIL);
		assert.equal(answer.status, 502);
		assert.equal(typeof answer.json?.error?.message, "string");
	});
});

test("vendors that hang are 504", async (t) => {
	const names = ["no-101-stall", "half-head"];
	const { site, front } = await sim_site(t, Object.fromEntries(
	    names.map((name) => [`/${name}`, `/raw/${name}`])),
	    "connect_timeout = 1");
	const answers = await Promise.all(names.map((name) =>
	    site.handshake(front, `/${name}`, {}, UNTIL)));
	assert.deepEqual(answers.map((answer) => answer.status), [504, 504]);
});

test("illegal frames of a vendor end both legs", async (t) => {
	const rows = [
		...["close-1005", "close-1006", "close-1015", "close-999",
		    "close-1004", "close-2999", "close-5000", "close-1-byte",
		    "rsv1", "rsv2", "rsv3", "masked", "opcode3", "opcode-b",
		    "ctl-long", "ctl-fragmented", "stray-continuation",
		    "new-message-inside", "len-not-minimal",
		    "len-not-minimal-64", "len-63bit"].map((n) => [n, 1002]),
		["close-bad-utf8", 1007], ["len-huge", 1009],
		["eof", 1014], ["reset", 1014], ["close-empty", 0],
		["data-after-close", 1000],
	];
	const { site, front } = await sim_site(t, Object.fromEntries(
	    rows.map(([name]) => [`/${name}`, `/raw/${name}`])));
	await table(rows, async (name, code) => {
		const client = await site.connect(front, `/${name}`);
		assert.equal((await client.closed())?.code, code);
		await client.send_close(code).catch(() => {});
		await client.over();
	});
});

test("good but unusual vendors are relayed", async (t) => {
	const { site, front } = await sim_site(t, {
		"/slow-head": "/raw/slow-head?ms=1",
		"/early-frames": "/raw/early-frames", "/split": "/raw/split",
		"/text-bad-utf8": "/raw/text-bad-utf8", "/echo": "/raw/echo",
	});
	for (const path of ["/slow-head", "/echo"]) {
		const client = await site.connect(front, path, {},
		    { early: frame(OP.text, "early") });
		assert.equal((await client.data_frame()).payload.toString(),
		    "early");
		client.destroy();
	}
	const early = await site.connect(front, "/early-frames");
	assert.ok(await early.message());
	assert.ok(await early.message());
	const split = await site.connect(front, "/split");
	let pings = 0;
	const message = await split.message((f) => {
		pings += f.opcode === OP.ping;
	});
	assert.ok(message.fragments.length > 1);
	assert.equal(pings, 1);
	const bad = await site.connect(front, "/text-bad-utf8");
	assert.equal((await bad.message()).opcode, OP.text);
});

for (const tls of [false, true])
	test(`${tls ? "over TLS, " : ""}libwebsockets' echo returns every message`,
	    async (t) => {
		const site = await Site.open(t);
		const certs = make_certificates(site, "vendor");
		const sim = await site.sim(["--tls-cert", certs.cert, "--tls-key",
		    certs.key]);
		await site.serve({ relays: [["/echo", tls ?
		    `upstream = "wss://localhost:${sim.wss_port}/echo?gather=1"
		    ca_file = "${certs.ca}"\nallow_private = true` :
		    `upstream = "ws://127.0.0.1:${sim.ws_port}/echo?gather=1"`]] });
		const client = await site.connect(site.direct(), "/echo");
		const sizes = [0, 1, 125, 126, 65535, 65536, 16 * MIB, 3, 100000,
		    MIB];
		const messages = sizes.map((n, i) => ({
			opcode: i % 2 ? OP.binary : OP.text,
			payload: i % 2 ? crypto.randomBytes(n) :
			    Buffer.alloc(n, "text "),
		}));
		const writing = (async () => {
			for (const { opcode, payload } of messages) {
				const cut = Math.floor(payload.length / 3);
				await client.send(opcode, payload.subarray(0, cut),
				    { fin: false });
				await client.send(OP.cont, payload.subarray(cut));
			}
		})();
		for (const want of messages) {
			const got = await client.message();
			assert.equal(got.opcode, want.opcode);
			assert.ok(got.payload.equals(want.payload),
			    `${want.payload.length} bytes`);
		}
		await writing;
		await client.send(OP.close, close_payload(3000, "bye"));
		assert.equal((await client.closed())?.code, 3000);
	}, { timeout: 60000 });

test("OpenAI's routes take its paths, models and aliases", async (t) => {
	const site = await Site.open(t);
	const sim = await site.sim();
	await site.serve({ rest: `openai {
	api_key = "env:OPENAI_API_KEY"
	url = "ws://127.0.0.1:${sim.ws_port}/v1/realtime"
	alias "gpt-4o-realtime-preview-2024-12-17" { model = "gpt-realtime" }
}
` });
	const front = site.direct();
	const model = async (target, headers) => {
		const client = await site.connect(front, target, headers);
		const { payload } = await client.message();
		client.destroy();
		const event = JSON.parse(payload);
		assert.equal(event.type, "session.created");
		return event.session.model;
	};
	assert.equal(await model("/v1/realtime?model=gpt-realtime"),
	    "gpt-realtime");
	assert.equal(await model("/v1/realtime?model=gpt-realtime-mini"),
	    "gpt-realtime-mini");
	assert.equal(await model("/v1/realtime"), "gpt-realtime");
	assert.equal(await model("/?model=gpt-4o-realtime-preview-2024-12-17",
	    { "OpenAI-Beta": "realtime=v1" }), "gpt-realtime");
	assert.equal(await model("/v1/realtime?model=gpt-realtime", {
		"Sec-WebSocket-Protocol": "realtime, openai-beta.realtime-v1, " +
		    site.canary("client's key", "openai-insecure-api-key.ek_"),
	}), "gpt-realtime");
	const refused = await site.handshake(front, "/v1/realtime?model=gpt-4o",
	    {}, UNTIL);
	assert.equal(refused.status, 403, refused.body);
});

test("a vendor that refuses our key is 502 and the client hears no more",
    async (t) => {
	const site = await Site.open(t);
	const sim = await site.sim();
	const key = site.canary("wrong key", "sk-wrong-");
	await site.serve({ rest: `openai {
	api_key = "env:OPENAI_API_KEY"
	url = "ws://127.0.0.1:${sim.ws_port}/v1/realtime?sim=http401"
}
` }, { broker: { env: { OPENAI_API_KEY: key } } });
	const answer = await site.handshake(site.direct(),
	    "/v1/realtime?model=gpt-realtime", {}, UNTIL);
	assert.equal(answer.status, 502);
	assert.ok(!answer.body.includes("invalid_api_key"));
});
