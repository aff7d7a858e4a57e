// SPDX-License-Identifier: MIT
// What a vendor says was used, from the simulator through a tunnel into the
// ledger, and what an operator sees of it; and the log of its messages.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";

import { SIM, Site, builddir, is_running, run, until } from "../lib/harness.mjs";
import { skip_all, test } from "../lib/tap.mjs";

if (!fs.existsSync(SIM))
	skip_all("the simulator is not built; run deploy/check");

const CTL = path.join(builddir, "culvertctl");
const days = ["--from", "2000-01-01", "--to", "2999-12-31"];

async function openai_site(t, more = "") {
	const site = await Site.open(t);
	const sim = await site.sim();
	const file = site.file("messages.txt");
	const parts = await site.serve(site.config({ rest: `
		store { path = "${site.file("culvert.db")}" }
		prices "gpt-realtime*" {
			input_text = "4" input_audio = "32" input_image = "5"
			cached_text = "0.4" output_text = "16" output_audio = "64"
		}
		openai {
			url = "ws://127.0.0.1:${sim.ws_port}/v1/realtime"
			${more.replace("@FILE@", file)}
		}` }));
	return { site, sim, file, ...parts, front: site.direct() };
}

async function usage(site, by) {
	const result = await run([CTL, "--json", "usage", ...days, "--by", by],
	    { env: { CULVERT_CONTROL: site.control_sock } });
	assert.equal(result.code, 0, result.output);
	return JSON.parse(result.stdout);
}

async function until_used(site, events) {
	for (;;) {
		const report = await usage(site, "model");
		if (report.total.events >= events)
			return report;
	}
}

// One answer; returns the usage that the client sees.
async function answer(client) {
	await client.send_text(JSON.stringify({ type: "response.create",
		response: { output_modalities: ["text"] } }));
	for (;;) {
		const { payload } = await client.data_frame();
		const event = JSON.parse(payload);
		if (event.type === "response.done")
			return event.response.usage;
	}
}

const sum = (list, name) => list.reduce((a, usage) => a + usage[name], 0);

test("books what the vendor says was used", async (t) => {
	const { site, front, broker } = await openai_site(t,
	    "usage_interval = 1");
	const target = "/v1/realtime?model=gpt-realtime";
	const client = await site.connect(front, target);
	const used = [await answer(client), await answer(client)];
	const report = await until_used(site, 2); // while it is open
	assert.deepEqual(report.rows.map((row) => row.model), ["gpt-realtime"]);
	assert.equal(report.total.total_tokens, sum(used, "total_tokens"));
	assert.ok(report.total.total_tokens > 0);
	assert.equal(report.total.unpriced, 0);
	assert.ok(Number(report.total.cost.USD) > 0);

	used.push(await answer(client));
	await client.send_close(1000);
	await client.over();
	await broker.wait_for(/lease\.end /);
	const { total } = await until_used(site, 3);
	assert.equal(total.events, 3);
	assert.equal(total.total_tokens, sum(used, "total_tokens"));
});

test("a tunnel ends when all that it reported is booked, and at once",
    async (t) => {
	const { site, front, broker, tunnel } = await openai_site(t);
	const from = broker.output.length;
	const client = await site.connect(front,
	    "/v1/realtime?model=gpt-realtime");
	const [, pid] = await broker.wait_for(/ lease\.open .* pid=(\d+)\n/,
	    { from });

	await answer(client); // which is not reported yet
	await client.send_close(1000);
	await until(() => !is_running(Number(pid)), "the process ends");
	assert.equal((await usage(site, "day")).total.events, 1);
	assert.doesNotMatch(tunnel.output, /broker\.lost/);
	assert.equal(broker.output.match(/ lease\.end /g).length, 1);
});

test("logs messages without sound and keys", async (t) => {
	const { site, front, file } = await openai_site(t,
	    'message_log = "full"\nmessage_log_file = "@FILE@"');
	const client = await site.connect(front,
	    "/v1/realtime?model=gpt-realtime");
	const key = site.canary("key in a prompt", "sk-proj-");
	const sound = Buffer.from(key).toString("base64").repeat(20);

	await client.send_text(JSON.stringify({ type: "session.update",
		session: { type: "realtime", instructions: `say ${key}` } }));
	await client.send_text(JSON.stringify({ audio: sound,
		type: "input_audio_buffer.append" }));
	await answer(client);
	await client.send_close(1000);
	await client.over();
	const lines = await until(() => {
		const list = fs.existsSync(file) ? fs.readFileSync(file, "utf8")
		    .split("\n").filter(Boolean).map((l) => JSON.parse(l)) : [];
		return list.some((l) => l.type === "response.done") && list;
	}, "the last message is in the log");
	const update = lines.find((l) => l.type === "session.update");
	assert.equal(update.from, "client");
	assert.equal(update.route, "openai");
	assert.equal(update.client, "127.0.0.1");
	assert.match(update.content.session.instructions, /^say .*<masked>/);
	const append = lines.find((l) => l.type === "input_audio_buffer.append");
	assert.match(append.content.audio, /^<\d+ bytes>$/);
	const text = fs.readFileSync(file, "utf8");
	assert.ok(!text.includes(key) && !text.includes(sound));
	assert.ok(!text.includes(site.vendor_key));
});

test("keeps what a tunnel reported before it was killed", async (t) => {
	const { site, front, broker, tunnel } = await openai_site(t,
	    "usage_interval = 1");
	const client = await site.connect(front,
	    "/v1/realtime?model=gpt-realtime");
	const [, pid] = await broker.wait_for(/ lease\.open .* pid=(\d+)\n/);
	const used = await answer(client);
	await until_used(site, 1);
	tunnel.may_fail = true;
	process.kill(Number(pid), "SIGKILL");
	await broker.wait_for(/lease\.end .*cause=tunnel_lost/);
	const { total } = await usage(site, "day");
	assert.equal(total.events, 1);
	assert.equal(total.total_tokens, used.total_tokens);
});
