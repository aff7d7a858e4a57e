// SPDX-License-Identifier: MIT
// Keys, tickets and what people say: nothing of it is written down, whatever
// is logged, dumped, refused or crashes.  The search itself is that of every
// test, in lib/harness.mjs.
import assert from "node:assert/strict";
import fs from "node:fs";
import http from "node:http";

import { SDP } from "../lib/flutter.mjs";
import { CTL, MODEL } from "../lib/chat.mjs";
import { BROKER, SIM, Site, needs, relay_site, run, until }
	from "../lib/harness.mjs";
import { ANAM, SECRETS, SEND, Target } from "../lib/hostile.mjs";
import { RawServer } from "../lib/rawws.mjs";
import { NAMES } from "../lib/servers.mjs";
import { skip_all, test } from "../lib/tap.mjs";

if (!fs.existsSync(SIM))
	skip_all("the simulator is not built; run deploy/check");

test("a secret that is left anywhere is found", async (t) => {
	const rows = [
		["a log", (site) => fs.appendFileSync(site.file("x.log"),
		    `x ${site.vendor_key} y`)],
		["a file in a folder", (site) => {
			fs.mkdirSync(site.file("a/b"), { recursive: true });
			fs.writeFileSync(site.file("a/b/c"), site.vendor_key);
		}],
		["a core", (site) => fs.writeFileSync(site.file("core.123"),
		    `\0\0${site.vendor_key}\0`)],
		["a store", (site) => fs.writeFileSync(site.file("x.db-wal"),
		    site.vendor_key)],
		["a prompt in a log", (site) => fs.writeFileSync(
		    site.file("x.log"), site.content("prompt"))],
		["a dump", (site) => site.write("culvert.conf",
		    site.config({ relays: [["/x", "upstream = \"ws://127.0.0.1/" +
		        `${site.vendor_key}"`]] }))],
	];
	for (const [name, leave] of rows) {
		const ends = [];
		const site = await Site.open({ after: (fn) => ends.push(fn),
		    on_failure: () => {} });
		leave(site);
		await assert.rejects(ends[0], /is in |core/, name);
	}
});

// What is said and used, in every way there is.
async function talk(target, prompt, ticket) {
	const realtime = (text) => JSON.stringify({
		type: "conversation.item.create", item: { type: "message",
		    role: "user", content: [{ type: "input_text", text }] } });
	const client = await target.connect("/v1/realtime?model=gpt-realtime");
	await client.send_text(realtime(prompt));
	await client.send_text('{"type":"response.create","response":' +
	    '{"output_modalities":["text"]}}');
	for (let type; type !== "response.done";)
		({ type } = JSON.parse((await client.data_frame()).payload));
	await client.send_text(`not JSON ${prompt}`);
	await client.send_close(1000, "bye");
	await client.over();
	const plain = await target.connect("/ws");
	await plain.send_text(prompt);
	for (let type; type !== "response.done";)
		({ type } = JSON.parse((await plain.data_frame()).payload));
	plain.destroy();
	const said = await target.http("POST", SEND, { headers:
	    { Authorization: `Bearer ${target.token("ann")}` },
	    body: JSON.stringify({ content: prompt, model: MODEL }) });
	assert.match(said.body, /assistant_(complete|error)/);
	for (const headers of [{ Authorization: `Bearer ${ticket}` },
	    { "Sec-WebSocket-Protocol":
	        `realtime, openai-insecure-api-key.${ticket}` }])
		assert.equal((await target.handshake(
		    "/ticketed?model=gpt-realtime", headers)).status, 101);
	assert.ok((await target.handshake(
	    `/ticketed?model=gpt-realtime&ticket=${ticket}`)).status > 0);
}

for (const name of NAMES)
	test(`${name}: what is said and used is written down nowhere`,
	    async (t) => {
		const target = await Target.open(t, name, {
			openai: (site) => 'message_log = "metadata"\n' +
			    `message_log_file = "${site.file("messages")}"`,
			broker: ["--log-level", "debug"],
			tunnel: { args: ["--spare", "2", "--log-level", "debug"] },
		});
		const { site, broker, tunnel } = target;
		const prompt = site.content("prompt");
		const { value } = (await target.fcgi("POST",
		    `${SECRETS}?route=/ticketed`, { body: "{}" })).json;
		site.contents.set("ticket", value);
		site.contents.set("user's token", target.token("ann"));
		await talk(target, prompt, value);
		await until(() => fs.existsSync(site.file("messages")),
		    "a message log");
		// errors, on purpose
		await target.http("POST", SEND, { body: `{"content":"${prompt}` });
		await target.http("POST", SECRETS, { body:
		    `{"${prompt}":"${site.vendor_key}"}` });
		broker.kill("SIGHUP");
		await broker.wait_for(/config\.reload/);
		for (const args of [["sessions"], ["usage"]])
			for (const form of [[], ["--json"]]) {
				const { output } = await run([CTL, ...form, ...args],
				    { env: { CULVERT_CONTROL: site.control_sock } });
				for (const secret of [...site.canaries.values(),
				    ...site.contents.values()])
					assert.ok(!output.includes(secret));
			}
		// and what crashes says no more
		const [, pid] = /lease\.open .*route=\/raw .*pid=(\d+)/
		    .exec(broker.output);
		process.kill(Number(pid), "SIGABRT");
		await tunnel.wait_for(/child_died/);
		broker.may_fail = true;
		await broker.stop("SIGABRT");
	}, { skip: needs(name), timeout: 60000 });

test("systemd's credentials are keys, and are not in the environment",
    async (t) => {
	const { site, broker, front, server } = await relay_site(t, "direct");
	broker.may_fail = true;
	await broker.stop();
	const key = site.canary("vendor key", "sk-credential-");
	const dir = site.file("credentials");
	fs.mkdirSync(dir);
	fs.writeFileSync(`${dir}/vendor-key`, `${key}\n`, { mode: 0o400 });
	site.written.add(`${dir}/vendor-key`);
	const config = site.config({ relays: [["/raw", site.relay(server.port)
	    .replace("env:VENDOR_KEY", "credential:vendor-key")]] });
	const again = await site.broker(config,
	    { env: { CREDENTIALS_DIRECTORY: dir } });
	const accepting = server.accept();
	const client = await site.connect(front, "/raw");
	const { request } = await accepting;
	assert.equal(request.get("authorization"), `Bearer ${key}`);
	for (const what of ["environ", "cmdline"])
		assert.ok(!fs.readFileSync(`/proc/${again.pid}/${what}`, "latin1")
		    .includes(key), what);
	client.destroy();
	// none, or another's folder, is an error with the line
	for (const [name, env] of [["other-key", { CREDENTIALS_DIRECTORY: dir }],
	    ["../vendor-key", { CREDENTIALS_DIRECTORY: dir }],
	    ["vendor-key", {}]]) {
		const file = site.write("bad.conf", config
		    .replace("credential:vendor-key", `credential:${name}`));
		const { code, output } = await run([BROKER, "-t", "-f", file],
		    { env });
		assert.equal(code, 1, output);
		assert.match(output, /bad\.conf:\d+: .*credential/);
	}
});

// A vendor that says everything back: in headers, in the body, in where it
// sends on to, and why it closes.
function loud_vendor(t, elsewhere) {
	const vendor = http.createServer((request, response) => {
		const key = request.headers.authorization ?? "nothing";
		const word = key.split(" ").at(-1);
		const path = request.url.split(/[/?]/)[1];
		response.writeHead(Number(path) || vendor.status, {
			"X-Key": key, "WWW-Authenticate": key, "Retry-After": key,
			"Content-Type": "application/json",
			Location: `http://127.0.0.1:${elsewhere}/?key=${key}`,
		});
		response.end(JSON.stringify({ error: { message: `bad ${key}`,
		    code: word, type: word, param: word } }));
	});
	t.after(() => { vendor.closeAllConnections(); vendor.close(); });
	return new Promise((resolve) => vendor.listen(0, "127.0.0.1",
	    () => resolve(vendor)));
}

test("what a vendor says of our key goes nowhere", async (t) => {
	const other = await RawServer.listen();
	const vendor = await loud_vendor(t, other.port);
	const { port } = vendor.address();
	const codes = [200, 301, 302, 307, 308, 400, 401, 403, 404, 429, 500,
		503];
	const target = await Target.open(t, "direct", {
		relays: ({ site }) => codes.map((code) => [`/${code}`,
		    site.relay(port, "", `/${code}`)]),
		openai: () => "calls = true",
	});
	const { site, tunnel } = target;
	const from = codes.map((code) => [`a handshake: ${code}`,
	    (o) => o.handshake(`/${code}`), code === 429 ? 429 : 502]);
	await target.run("I", from);

	// and where the broker asks the vendor itself
	const config = target.config.replaceAll(
	    `http://127.0.0.1:${target.sim.http_port}`,
	    `http://127.0.0.1:${port}`).replaceAll(
	    `ws://127.0.0.1:${target.sim.ws_port}`, `ws://127.0.0.1:${port}`);
	site.write("culvert.conf", config);
	target.broker.kill("SIGHUP");
	await target.broker.wait_for(/config\.reload/);
	target.fds += 4; // connections to the vendor are kept
	for (vendor.status of codes)
		await target.run("I", [
			[`a message: ${vendor.status}`, (o) => o.fcgi("POST", SEND,
			    { headers: { "x-anon-id": `visitor-0${vendor.status}` },
				body: '{"content":"x"}' }), 200],
			[`a session of Anam's: ${vendor.status}`, (o) =>
			    o.fcgi("POST", ANAM, { body:
			        '{"personaId":"persona-1"}' }),
			    [400, 429, 502, 503]],
			[`a call: ${vendor.status}`, (o) => o.fcgi("POST",
			    "/v1/realtime/calls?model=gpt-realtime", { headers:
			    { "Content-Type": "application/sdp" }, body: SDP }),
			    [400, 429, 502]],
		]);
	assert.equal(other.waiting, 0, "nobody was sent on");

	const { client, upstream } = await site.pair(site.direct(), "/raw",
	    target.vendor);
	const key = upstream.request.get("authorization");
	await upstream.send_close(4000, `not good: ${key}, ä`);
	const { code, reason } = await client.closed();
	assert.equal(code, 4000);
	assert.equal(reason, "not good: Bearer <masked> ä");
	await client.send_close(4000);
	await tunnel.wait_for(/reason=not\\x20good:\\x20Bearer\\x20<masked>/);
}, { timeout: 60000 });
