// SPDX-License-Identifier: MIT
// Responses that wait for the broker, whoever begins them and however the client
// speaks; ends that wait for it; and the warning ahead of the end.
import assert from "node:assert/strict";
import fs from "node:fs";

import { SIM, Site, children_of, find_program, is_running, needs, run,
	until } from "../lib/harness.mjs";
import { ctl } from "../lib/chat.mjs";
import { skip_all, test } from "../lib/tap.mjs";

if (!fs.existsSync(SIM))
	skip_all("the simulator is not built; run deploy/check");

const TARGET = "/v1/realtime?model=gpt-realtime";
const days = ["--from", "2000-01-01", "--to", "2999-12-31"];
const CREATE = { type: "response.create" };

// A site whose visitors have so many tokens a day.
async function open_site(t, { tokens, openai = "", drain = 30, vendor = [] }) {
	const site = await Site.open(t);
	const sim = await site.sim(vendor);
	const text = site.config({ rest: `
		store { path = "${site.file("culvert.db")}" }
		plan "some" { day_tokens = ${tokens} }
		limits { address = "some" }
		openai {
			url = "ws://127.0.0.1:${sim.ws_port}/v1/realtime"
			usage_interval = 1
			over_budget = "error"
			${openai}
		}` });
	const parts = await site.serve(text, { tunnel: {
		args: ["--spare", "1", "--drain-timeout", `${drain}`] } });
	return { site, sim, ...parts, front: site.direct(),
		connect: (target = TARGET) =>
		    site.connect(site.direct(), target),
		restart: () => site.broker(text) };
}

const say = (client, event) => client.send_text(JSON.stringify(event));

// The next event of one of these types.
async function hear(client, ...types) {
	for (;;) {
		const { payload } = await client.data_frame();
		const event = JSON.parse(payload);
		if (types.includes(event.type))
			return event;
	}
}

// Until the ledger has so many of the vendor's events.
const until_booked = (site, events) => until(async () => {
	const { total } = await ctl(site, "usage", ...days);
	return total.events >= events && total;
}, `${events} events are booked`);

async function leave(client) {
	await client.send_close(1000);
	await client.over();
}

for (const [name, openai, prepare, begin] of [
	["events", "", null, (client) => say(client, CREATE)],
	["the beta's events", 'dialect = "beta"', null,
	    (client) => say(client, CREATE)],
	["a pinned session's events",
	    'session { instructions = "Be kind." }', null,
	    (client) => say(client, CREATE)],
	["plain text", 'messages = "text"', null,
	    (client) => client.send_text("Hello")],
])
	test(`one response is all that is left: ${name}`, async (t) => {
		const { site, connect } = await open_site(t,
		    { tokens: 1, openai });
		const client = await connect();
		await begin(client);
		const done = await hear(client, "response.done", "error");
		assert.equal(done.type, "response.done", JSON.stringify(done));
		await until_booked(site, 1);
		await begin(client);
		const { error } = await hear(client, "response.done", "error");
		assert.equal(error?.type, "insufficient_quota");
		assert.equal(error.code, "budget_spent");
		// nobody has begun anything, and the session goes on
		await client.send(9, "ping");
		for (;;)
			if ((await client.frame()).opcode === 10)
				break;
		assert.equal((await until_booked(site, 1)).events, 1);
		await leave(client);
	});

// Loud, and then silent.
function speech(ms) {
	const loud = Buffer.alloc(24 * 2 * ms);
	for (let i = 0; i < loud.length; i += 2)
		loud.writeInt16LE(i % 64 < 32 ? 9000 : -9000, i);
	const append = (data) => ({ type: "input_audio_buffer.append",
		audio: data.toString("base64") });
	return [append(loud), append(Buffer.alloc(24 * 2 * 1000))];
}

test("what the vendor answers by itself is cancelled", async (t) => {
	const { site, connect } = await open_site(t, { tokens: 1 });
	const client = await connect();
	await say(client, { type: "session.update", session: {
		type: "realtime", audio: { input: { turn_detection: {
			type: "server_vad", silence_duration_ms: 200 } } } } });
	await hear(client, "session.updated");
	// the first answer is asked for while it runs
	for (const event of speech(200))
		await say(client, event);
	const first = await hear(client, "response.done", "error");
	assert.equal(first.type, "response.done");
	assert.equal(first.response.status, "completed");
	await until_booked(site, 1);

	for (const event of speech(200))
		await say(client, event);
	const heard = [await hear(client, "response.done", "error"),
		await hear(client, "response.done", "error")];
	const error = heard.find((event) => event.type === "error");
	const done = heard.find((event) => event.type === "response.done");
	assert.equal(error.error.code, "budget_spent");
	assert.equal(error.error.event_id, null);
	assert.equal(done.response.status, "cancelled");
	await leave(client);
}, { timeout: 60000 });

const listen_by_itself = (client, more) => say(client, {
	type: "session.update", session: { type: "realtime", audio: { input: {
		turn_detection: { type: "server_vad", silence_duration_ms: 200 },
		...more } } } });

// What is left is reserved, and a response that runs costs more as it waits.
test("many that the vendor answers by itself share what is left", async (t) => {
	const { site, connect } = await open_site(t, { tokens: 4100 });
	const clients = await Promise.all(Array.from({ length: 10 },
	    () => connect()));
	for (const client of clients) {
		await listen_by_itself(client);
		await hear(client, "session.updated");
	}
	await Promise.all(clients.map(async (client) => {
		for (const event of speech(200))
			await say(client, event);
	}));
	const dones = await Promise.all(clients.map((client) =>
	    hear(client, "response.done")));
	const statuses = dones.map(({ response }) => response.status);
	t.diag(statuses.join(" "));
	assert.equal(statuses.filter((it) => it === "completed").length, 1);
	assert.equal(statuses.filter((it) => it === "cancelled").length, 9);
	// what the others have cost by then is counted, too
	const total = await until_booked(site, 10);
	assert.equal(total.total_tokens, dones.reduce((sum, { response }) =>
	    sum + response.usage.total_tokens, 0));
	for (const client of clients)
		await leave(client);
}, { timeout: 60000 });

async function close_code(client) {
	for (;;) {
		const frame = await client.frame();
		if (frame.opcode === 8)
			return frame.payload.readUInt16BE(0);
	}
}

test("what costs without being asked for ends, once it is spent",
    async (t) => {
	const { site, connect } = await open_site(t, { tokens: 1 });
	const two = await Promise.all([connect(), connect()]);
	for (const client of two) {
		await listen_by_itself(client, {
			transcription: { model: "gpt-4o-transcribe" } });
		await hear(client, "session.updated");
	}
	const [writes, speaks] = two;
	await say(speaks, { type: "session.update", session: { type: "realtime",
		audio: { input: { transcription: null } } } });
	await hear(speaks, "session.updated");
	await say(writes, { type: "session.update", session: { type: "realtime",
		audio: { input: { turn_detection: null } } } });
	await hear(writes, "session.updated");
	const [loud] = speech(500);
	await say(writes, loud);
	await say(writes, { type: "input_audio_buffer.commit" });
	await hear(writes,
	    "conversation.item.input_audio_transcription.completed");
	assert.equal(await close_code(writes), 4003);
	await until_booked(site, 1);
	for (const event of speech(200))
		await say(speaks, event);
	const { response } = await hear(speaks, "response.done");
	assert.equal(response.status, "cancelled");
	assert.equal(await close_code(speaks), 4003);
}, { timeout: 60000 });

test("a response that waits finds the next broker", async (t) => {
	const { broker, connect, restart, site } = await open_site(t,
	    { tokens: 1000000 });
	const client = await connect();
	await say(client, CREATE);
	await hear(client, "response.done");
	await broker.stop();
	await say(client, CREATE);
	await client.send(9, "ping");
	for (;;)
		if ((await client.frame()).opcode === 10)
			break; // it is heard all the same
	await restart();
	assert.equal((await hear(client, "response.done", "error")).type,
	    "response.done");
	assert.equal((await until_booked(site, 2)).events, 2);
	await leave(client);
}, { timeout: 60000 });

test("an end waits for the next broker", async (t) => {
	const { broker, connect, restart, site, tunnel } = await open_site(t,
	    { tokens: 1000000 });
	const client = await connect();
	await say(client, CREATE);
	await hear(client, "response.done");
	await until_booked(site, 1);
	const [, pid] = await broker.wait_for(/ lease\.open .* pid=(\d+)\n/);
	await broker.stop();
	await leave(client);
	await tunnel.wait_for(/ tunnel\.close /);
	const next = await restart();
	await next.wait_for(/ lease\.resume .*\n(.*\n)*.* lease\.end .*cause=client_closed/);
	await until(() => !is_running(Number(pid)), "its process has ended");
	assert.equal((await until_booked(site, 1)).events, 1);
	assert.equal((await ctl(site, "sessions")).total, 0);
}, { timeout: 60000 });

test("an end that a killed broker had not read is told the next", async (t) => {
	const { broker, connect, restart, site, tunnel } = await open_site(t,
	    { tokens: 1000000 });
	const query = async (sql) => (await run([find_program("sqlite3"),
		site.file("culvert.db"), sql])).stdout.trim();
	const client = await connect();
	await say(client, CREATE);
	await hear(client, "response.created");
	const [, pid] = await broker.wait_for(/ lease\.open .* pid=(\d+)\n/);
	broker.kill("SIGSTOP");
	broker.may_fail = true;
	await leave(client);
	await tunnel.wait_for(/ tunnel\.close /);
	await broker.stop("SIGKILL");
	assert.equal(await query("SELECT count(*) FROM reservation"), "1");
	const next = await restart();
	await next.wait_for(/ lease\.resume .*\n(.*\n)*.* lease\.end .*cause=client_closed/);
	await until(() => !is_running(Number(pid)), "its process has ended");
	// which it does once all is booked
	assert.equal(await query("SELECT count(*) FROM reservation"), "0");
	assert.equal(await query("SELECT status FROM usage"), "lost");
}, { timeout: 60000, skip: needs("sqlite3") });

test("who waits for a broker does not hold the stop up", async (t) => {
	const { broker, connect, tunnel, site } = await open_site(t,
	    { tokens: 1000000, drain: 0 });
	const client = await connect();
	await say(client, CREATE);
	await hear(client, "response.done");
	await until_booked(site, 1);
	const [, pid] = await broker.wait_for(/ lease\.open .* pid=(\d+)\n/);
	await broker.stop();
	await leave(client);
	await tunnel.wait_for(/ tunnel\.close /);
	assert.ok(children_of(tunnel.pid).includes(Number(pid)));
	const start = performance.now();
	tunnel.kill();
	await tunnel.exited;
	// by itself, before it would be killed
	const ms = performance.now() - start;
	t.diag(`ended after ${ms.toFixed(0)} ms`);
	assert.ok(ms > 1000 && ms < 4900);
}, { timeout: 60000 });

test("the client is told ahead of the end", async (t) => {
	const { connect } = await open_site(t, { tokens: 1000000,
		openai: "vendor_limit = 6\nlifetime = 2\nlimit_warning = 1" });
	const client = await connect();
	const event = await hear(client, "culvert.session.expiring");
	assert.equal(event.reason, "site");
	assert.equal(event.remaining_seconds, 1);
	assert.match(event.event_id, /^event_/);
	const now = Date.now() / 1000;
	assert.ok(Math.abs(event.expires_at - now - 1) <= 2);
	for (;;) {
		const frame = await client.frame();
		if (frame.opcode !== 8)
			continue;
		assert.equal(frame.payload.readUInt16BE(0), 4200);
		break;
	}
});

test("the vendor's word for its end counts", async (t) => {
	const { connect } = await open_site(t, { tokens: 1000000,
		vendor: ["--session-seconds", "12"],
		openai: "vendor_limit = 3600\nlimit_warning = 11" });
	const client = await connect();
	const events = [];
	// whatever is asked for meanwhile; half of the time is left at the most
	while (events.at(-1)?.type !== "culvert.session.expiring") {
		if (events.at(-1)?.type !== "response.output_audio.delta")
			await say(client, { type: "session.update", session:
			    { type: "realtime" } });
		events.push(JSON.parse((await client.data_frame()).payload));
	}
	const { session } = events.find(({ type }) => type === "session.created");
	const event = events.at(-1);
	assert.equal(event.reason, "vendor");
	assert.ok(Math.abs(event.expires_at - session.expires_at) <= 1);
	assert.ok(event.remaining_seconds >= 5 && event.remaining_seconds <= 7);
	await say(client, { type: "session.update", session:
	    { type: "realtime" } });
	await say(client, CREATE);
	// once
	for (;;) {
		const { type } = JSON.parse((await client.data_frame()).payload);
		assert.notEqual(type, "culvert.session.expiring");
		if (type === "response.done")
			break;
	}
	await leave(client);
});
