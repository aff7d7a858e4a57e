// SPDX-License-Identifier: MIT
// A broker that is restarted, or killed, while conversations run: none of them
// notices, the next broker knows all of them, and what was used is counted once.
//
// CONVERSATIONS says how many.
import assert from "node:assert/strict";
import fs from "node:fs";

import { SIM, Site, until } from "../lib/harness.mjs";
import { ctl } from "../lib/chat.mjs";
import { skip_all, test } from "../lib/tap.mjs";

if (!fs.existsSync(SIM))
	skip_all("the simulator is not built; run deploy/check");

const CONVERSATIONS = Number(process.env.CONVERSATIONS ?? 40);
const TARGET = "/v1/realtime?model=gpt-realtime";
const days = ["--from", "2000-01-01", "--to", "2999-12-31"];

async function open_site(t, openai = "") {
	const site = await Site.open(t);
	const sim = await site.sim();
	const text = (more) => site.config({ rest: `
		store { path = "${site.file("culvert.db")}" }
		openai {
			url = "ws://127.0.0.1:${sim.ws_port}/v1/realtime"
			usage_interval = 1
			${more}
		}` });
	const parts = await site.serve(text(openai), { tunnel: {
		args: ["--spare", "4"] } });
	return { site, ...parts, front: site.direct(),
		restart: (more = openai) => site.broker(text(more)) };
}

// One answer: the tokens that the client is told.
async function answer(client) {
	await client.send_text(JSON.stringify({ type: "response.create",
		response: { output_modalities: ["text"] } }));
	for (;;) {
		const event = JSON.parse((await client.data_frame()).payload);
		if (event.type === "response.done")
			return event.response.usage.total_tokens;
	}
}

// A conversation that goes on until it is told to end: {end(), answers}.
function converse(client) {
	const state = { client, answers: 0, tokens: 0, ends: false };
	const run = async () => {
		while (!state.ends) {
			state.tokens += await answer(client);
			state.answers++;
		}
		await client.send_close(1000);
		await client.over();
	};
	const over = run();
	over.catch(() => {});
	state.end = async () => {
		state.ends = true;
		await over;
	};
	return state;
}

const ids = (list) => list.leases.map((lease) => lease.id).sort();

async function until_open(site, count) {
	for (;;) {
		const list = await ctl(site, "sessions");
		if (list.total === count)
			return list;
	}
}

const answers_of = (all) => all.reduce((sum, one) => sum + one.answers, 0);

// Until each of them has had an answer more.
async function until_all_go_on(all) {
	const before = all.map((one) => one.answers);
	await until(() => all.every((one, i) => one.answers > before[i]),
	    "every conversation goes on", 30000);
}

for (const [how, signal] of [["restarted", "SIGTERM"], ["killed", "SIGKILL"]])
	test(`conversations go on while the broker is ${how}`, async (t) => {
		const { site, broker, front, restart } = await open_site(t);
		const all = [];
		for (let i = 0; i < CONVERSATIONS; i++)
			all.push(converse(await site.connect(front, TARGET)));
		const before = await until_open(site, CONVERSATIONS);
		await until_all_go_on(all);

		broker.may_fail = true;
		await broker.stop(signal);
		await until_all_go_on(all); // with nobody there
		const next = await restart();
		const after = await until_open(site, CONVERSATIONS);
		assert.deepEqual(ids(after), ids(before));
		assert.deepEqual(after.routes, { openai: CONVERSATIONS });
		for (const lease of after.leases) {
			const old = before.leases.find((l) => l.id === lease.id);
			for (const name of ["session", "client", "model", "started"])
				assert.equal(lease[name], old[name], name);
		}
		assert.equal(next.output.match(/ lease\.resume /g).length,
		    CONVERSATIONS);
		await until_all_go_on(all);

		await Promise.all(all.map((one) => one.end()));
		await until_open(site, 0); // no slot is left behind
		const tokens = all.reduce((sum, one) => sum + one.tokens, 0);
		const { total } = await until(async () => {
			const report = await ctl(site, "usage", ...days);
			return report.total.events >= answers_of(all) && report;
		}, "all is booked");
		assert.equal(total.events, answers_of(all));
		assert.equal(total.total_tokens, tokens);
	}, { timeout: 120000 });

test("a slot that is taken up again counts, and is free again", async (t) => {
	const { site, broker, front, restart } = await open_site(t,
	    "max_connections = 2");
	const one = await site.connect(front, TARGET);
	const two = await site.connect(front, TARGET);
	await answer(two);
	await broker.stop();
	await restart("max_connections = 1"); // less than there are
	await until_open(site, 2);
	const refused = await site.handshake(front, TARGET);
	assert.equal(refused.status, 429);
	for (const client of [one, two]) {
		await answer(client);
		await client.send_close(1000);
		await client.over();
	}
	await until_open(site, 0);
	const again = await site.connect(front, TARGET);
	await answer(again);
	await again.send_close(1000);
	await again.over();
}, { timeout: 60000 });

test("a conversation gets the limits of now", async (t) => {
	const { site, broker, front, restart } = await open_site(t);
	const client = await site.connect(front, TARGET);
	await answer(client);
	await broker.stop();
	await restart("lifetime = 1");
	for (;;) {
		const frame = await client.frame();
		if (frame?.opcode !== 8)
			continue;
		assert.equal(frame.payload.readUInt16BE(0), 4200);
		break;
	}
}, { timeout: 60000 });

test("what another key has signed is no lease", async (t) => {
	const { site, broker, front, restart } = await open_site(t);
	const client = await site.connect(front, TARGET);
	await answer(client);
	await broker.stop();
	for (const name of fs.readdirSync(site.dir))
		if (/key/.test(name))
			fs.rmSync(site.file(name));
	const next = await restart();
	await next.wait_for(/ lease\.not_resumed /);
	for (;;) {
		const frame = await client.frame();
		if (frame?.opcode !== 8)
			continue;
		assert.equal(frame.payload.readUInt16BE(0), 1012);
		break;
	}
	await until_open(site, 0);
}, { timeout: 60000 });
