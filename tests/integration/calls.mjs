// SPDX-License-Identifier: MIT
// WebRTC calls that run: whose places they take, and what ends them, with the
// simulator as the vendor.
import assert from "node:assert/strict";
import fs from "node:fs";

import { ctl, user_token } from "../lib/chat.mjs";
import { request } from "../lib/fcgi.mjs";
import { SIM, Site, table } from "../lib/harness.mjs";
import { skip_all, test } from "../lib/tap.mjs";

if (!fs.existsSync(SIM))
	skip_all("the simulator is not built; run deploy/check");

const CALLS = "/v1/realtime/calls";
const OFFER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n" +
    "a=group:BUNDLE 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n" +
    "c=IN IP4 0.0.0.0\r\na=mid:0\r\na=ice-ufrag:abcd\r\n" +
    "a=ice-pwd:abcdefghijklmnopqrstuvwx\r\n" +
    `a=fingerprint:sha-256 ${Array(32).fill("AB").join(":")}\r\n` +
    "a=setup:actpass\r\na=sctp-port:5000\r\n";

async function open(t, limits, plan) {
	const site = await Site.open(t);
	const secret = site.canary("users' secret", "");
	const sim = await site.sim();
	const parts = await site.serve({ rest: `
store { path = "${site.file("culvert.db")}" }
users { secret = "env:USER_SECRET" }
plan "small" { ${plan} }
limits { ${limits} }
openai {
	api_key = "env:OPENAI_API_KEY"
	url = "ws://127.0.0.1:${sim.ws_port}/v1/realtime"
	calls = true
	usage = true
}
` }, { broker: { env: { USER_SECRET: secret } } });
	const headers = (who, claims) => ({ Authorization:
	    `Bearer ${user_token(secret, who, claims)}` });
	return {
		site, sim, ...parts, front: site.direct(),
		// its status, and where it can be hung up
		call: async (who, claims) => {
			const answer = await request(site.broker_sock, "POST",
			    `${CALLS}?model=gpt-realtime`, { body: OFFER, headers: {
				"Content-Type": "application/sdp",
				...headers(who, claims) } });
			return { status: answer.status, body: answer.body,
				retry: answer.get("retry-after"),
				path: answer.get("location") };
		},
		hang_up: async (path) => (await request(site.broker_sock, "POST",
		    `${path}/hangup`, { body: "" })).status,
		tunnel: async (who) => (await site.handshake(site.direct(),
		    "/v1/realtime?model=gpt-realtime", headers(who))).status,
		// what the vendor was asked to end
		hung_up: async () => (await (await fetch(
		    `http://127.0.0.1:${sim.http_port}/sim/journal`)).json())
		    .requests.map((r) => r.path).filter((p) =>
		        p.endsWith("/hangup")),
		script: (entry) => fetch(
		    `http://127.0.0.1:${sim.http_port}/sim/openai`,
		    { method: "POST", body: JSON.stringify(entry) }),
	};
}

test("a call has a place among its user's tunnels", async (t) => {
	const s = await open(t, "user = small", "tunnels = 1");
	const first = await s.call("ann");
	assert.equal(first.status, 201, first.body);
	assert.equal(await s.tunnel("ann"), 429);
	assert.equal((await s.call("bob")).status, 201);
	assert.equal(await s.hang_up(first.path), 200);
	assert.deepEqual(await s.hung_up(), [`${first.path}/hangup`]);
	await s.broker.wait_for(/ openai\.hangup route=openai call=rtc_\w+ cause=client/);
	assert.equal(await s.tunnel("ann"), 101);
	// it is full of what is no call: that is not ended for one
	await s.broker.wait_for(/ lease\.open /);
	assert.equal((await s.call("ann")).status, 429);
});

test("a user's next call makes room for itself", async (t) => {
	const s = await open(t, "user = small", "tunnels = 2");
	const calls = [];
	for (let i = 0; i < 5; i++) {
		calls.push(await s.call("ann"));
		assert.equal(calls[i].status, 201, calls[i].body);
	}
	// the oldest first
	assert.deepEqual(await s.hung_up(),
	    calls.slice(0, 3).map(({ path }) => `${path}/hangup`));
	await s.broker.wait_for(/openai\.hangup .* cause=superseded/);
});

test("of many calls at once each is ended once, and none is left", async (t) => {
	const s = await open(t, "user = small", "tunnels = 2");
	const calls = await Promise.all(Array.from({ length: 40 },
	    () => s.call("ann")));
	const made = calls.filter(({ status }) => status === 201);
	assert.ok(made.length >= 2, JSON.stringify(calls));
	const ended = await s.hung_up();
	assert.equal(new Set(ended).size, ended.length);
	assert.equal(ended.length, made.length - 2);
	const left = made.map(({ path }) => path)
	    .filter((path) => !ended.includes(`${path}/hangup`));
	for (const path of left)
		assert.equal(await s.hang_up(path), 200);
	assert.equal(await s.tunnel("ann"), 101);
	assert.equal(await s.tunnel("ann"), 101);
});

test("others' calls are not ended for one", async (t) => {
	const s = await open(t, "address = small", "tunnels = 1");
	const ann = await s.call("ann");
	const bob = await s.call("bob");
	assert.equal(bob.status, 429, bob.body);
	assert.equal(bob.retry, "5");
	assert.deepEqual(await s.hung_up(), []);
	assert.equal(await s.hang_up(ann.path), 200);
	assert.equal((await s.call("bob")).status, 201);
});

test("a call that is refused, or not made, has no place", async (t) => {
	const s = await open(t, "user = small", "tunnels = 1");
	for (const mode of ["500", "empty", "drop", "400"]) {
		await s.script({ mode });
		assert.ok((await s.call("ann")).status >= 400);
	}
	assert.equal(await s.tunnel("ann"), 101);
});

test("its time is that of a tunnel", async (t) => {
	const s = await open(t, "user = small", "session_seconds = 1");
	const { path } = await s.call("ann");
	await s.broker.wait_for(/openai\.hangup .* cause=lifetime/);
	assert.deepEqual(await s.hung_up(), [`${path}/hangup`]);
	assert.equal(await s.hang_up(path), 404);
});

test("a day's seconds are counted, and end it", async (t) => {
	const s = await open(t, "user = small", "day_seconds = 3");
	assert.equal((await s.call("ann")).status, 201);
	await s.broker.wait_for(/openai\.hangup .* cause=budget/);
	const again = await s.call("ann");
	assert.equal(again.status, 429, again.body);
	assert.match(again.retry, /^\d+$/);
	assert.equal((await s.call("bob")).status, 201);
}, { timeout: 40000 });

test("who is revoked is hung up", async (t) => {
	const s = await open(t, "", "");
	const issued = { iat: Math.floor(Date.now() / 1000) - 5 };
	const { path } = await s.call("ann", issued);
	const bob = await s.call("bob", issued);
	await ctl(s.site, "revoke", "user", "ann");
	await s.broker.wait_for(/openai\.hangup .* cause=revoked/);
	assert.deepEqual(await s.hung_up(), [`${path}/hangup`]);
	assert.equal(await s.hang_up(bob.path), 200);
});

test("a vendor that does not hang up is asked again", async (t) => {
	const s = await open(t, "user = small", "tunnels = 1");
	const { path } = await s.call("ann");
	await s.script({ mode: "500" });
	assert.equal(await s.hang_up(path), 502);
	await s.broker.wait_for(/openai\.hangup_failed route=openai call=rtc_\w+ reason=/);
	assert.equal(await s.tunnel("ann"), 429);
	await s.broker.wait_for(/openai\.hangup .* cause=client/);
	assert.equal(await s.tunnel("ann"), 101);
}, { timeout: 40000 });

test("a client that asks and asks does not use up the tries", async (t) => {
	const s = await open(t, "user = small", "tunnels = 1");
	const { path } = await s.call("ann");
	for (let i = 0; i < 7; i++) {
		await s.script({ mode: "500" });
		assert.equal(await s.hang_up(path), 502, `${i}`);
	}
	assert.equal(await s.tunnel("ann"), 429);
	await s.broker.wait_for(/openai\.hangup .* cause=client/);
	assert.equal((await s.hung_up()).length, 8);
	assert.equal(await s.tunnel("ann"), 101);
}, { timeout: 40000 });

test("what is no call's id is none", async (t) => {
	const s = await open(t, "", "");
	await table([
		["another's", `${CALLS}/rtc_other`, 404],
		["a path", `${CALLS}/a%2Fb`, 400],
		["nothing", `${CALLS}/`, 400],
		["a long one", `${CALLS}/${"x".repeat(2000)}`, 404],
	], async (_, path, status) =>
		assert.equal(await s.hang_up(path), status));
	assert.deepEqual(await s.hung_up(), []);
});
