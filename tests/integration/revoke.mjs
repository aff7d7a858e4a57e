// SPDX-License-Identifier: MIT
// What an operator revokes: tunnels on several routes, the chat's answers and
// the sockets of a user end within a second, and what was issued until then is
// good no longer.
import assert from "node:assert/strict";
import fs from "node:fs";

import { request } from "../lib/fcgi.mjs";
import { BROKER, SIM, Site, find_program, needs, run, unix_listening, until }
	from "../lib/harness.mjs";
import { CTL, MODEL, chat_config, ctl, events_of, post, signed_in, user_token }
	from "../lib/chat.mjs";
import { RawServer, fill, switching } from "../lib/rawws.mjs";
import { diag, skip_all, test } from "../lib/tap.mjs";

if (!fs.existsSync(SIM))
	skip_all("the simulator is not built; run deploy/check");

const now = () => Math.floor(Date.now() / 1000);

async function open_site(t) {
	const site = await Site.open(t);
	site.user_secret = site.canary("users' secret", "");
	const sim = await site.sim();
	const server = await RawServer.listen();
	const env = { env: { USER_SECRET: site.user_secret } };
	const config = chat_config(site, sim, {}) +
	    ["/one", "/two"].map((name) => `relay "${name}" {\n` +
	        `${site.relay(server.port, "require_user = true")}\n}\n`)
	        .join("");
	const parts = await site.serve(config, { broker: env });
	return { site, sim, server, ...parts, front: site.direct(),
		restart: () => site.broker(config, env),
		token: (sub, claims) => user_token(site.user_secret, sub, claims) };
}

const bearer = (token) => ({ headers: { Authorization: `Bearer ${token}` } });

// The code with which a client is closed, and how long that took.
async function closed(client, since) {
	for (;;) {
		const frame = await client.frame("a close frame");
		assert.notEqual(frame, null, "closed without a close frame");
		if (frame.opcode === 8)
			return { code: frame.payload.readUInt16BE(0),
				reason: frame.payload.subarray(2).toString(),
				ms: performance.now() - since };
	}
}

async function open_until(site, count) {
	await until(async () => (await ctl(site, "sessions")).total === count,
	    `${count} are open`);
}

test("ends what a user has open, and refuses what was issued before",
    async (t) => {
	const { site, server, front, token, broker } = await open_site(t);
	const old = token("ann", { iat: now() - 1 });
	const bob = token("bob", { iat: now() - 1 });
	const open = (target, who) => site.pair(front, target, server,
	    bearer(who));
	const anns = [await open("/one", old), await open("/two", old),
		await open("/two", old)];
	const other = await open("/one", bob);

	await open_until(site, 4);
	const since = performance.now();
	const answer = await ctl(site, "revoke", "user", "ann");
	assert.deepEqual(answer, { closed: 3 });
	for (const { client } of anns) {
		const end = await closed(client, since);
		assert.equal(end.code, 4001);
		assert.equal(end.reason, "revoked");
		assert.ok(end.ms < 1000, `${end.ms} ms`);
		diag(`closed after ${end.ms.toFixed(0)} ms`);
	}
	await open_until(site, 1);
	for (const line of [/ lease\.open [^\n]* user=ann pid=/,
	    / lease\.end [^\n]* user=ann cause=broker_close /,
	    / lease\.close [^\n]* session=\w+ code=4001 user=ann\n/,
	    / revocation\.add kind=user value=ann\n/])
		await broker.wait_for(line);
	await other.client.send_text("still there");
	assert.equal((await other.upstream.data_frame()).payload.toString(),
	    "still there");

	for (const bad of [old, token("ann", { iat: now() - 100 }),
	    token("ann")]) {
		const refused = await site.handshake(front, "/one",
		    bearer(bad).headers);
		assert.equal(refused.status, 401);
		assert.equal(refused.head.get("www-authenticate"),
		    'Bearer error="invalid_token", error_description="what ' +
		    'is shown has been revoked: sign in again"');
	}
	await broker.wait_for(/ tunnel\.denied status=401 client=127\.0\.0\.1 origin=\S+ path=\/one route=\/one user=ann reason="what is shown has been revoked: /);
	const nobody = await site.handshake(front, "/one");
	assert.equal(nobody.head.get("www-authenticate"), "Bearer");
	await broker.wait_for(
	    / tunnel\.denied [^\n]* route=\/one reason="this is for users /);
	await site.handshake(front, "/nowhere");
	await broker.wait_for(/ tunnel\.denied [^\n]* route=- reason="/);
	const later = token("ann", { iat: now() + 1 });
	const again = await open("/one", later);
	await again.client.send_text("back");
	assert.equal((await again.upstream.data_frame()).payload.toString(),
	    "back");
	const { revocations } = await ctl(site, "revocations");
	assert.equal(revocations.length, 1);
	assert.equal(revocations[0].kind, "user");
	assert.equal(revocations[0].value, "ann");
});

test("ends a session, and a route", async (t) => {
	const { site, server, front, token } = await open_site(t);
	const who = token("ann", { iat: now() - 1 });
	const pairs = [];
	for (const target of ["/one", "/one", "/two"])
		pairs.push(await site.pair(front, target, server, bearer(who)));
	const { leases } = await ctl(site, "sessions");
	const first = leases.find((lease) => lease.route === "/one");

	assert.deepEqual(await ctl(site, "revoke", "session", first.session),
	    { closed: 1 });
	await open_until(site, 2);
	assert.deepEqual(await ctl(site, "revoke", "route", "/one"),
	    { closed: 1, known: true });
	await open_until(site, 1);
	const { leases: left } = await ctl(site, "sessions");
	assert.equal(left[0].route, "/two");
	for (const [target, status] of [["/one", 401], ["/two", 426]])
		assert.equal((await request(site.broker_sock, "GET", target,
		    bearer(who))).status, status, target);
	assert.deepEqual(await ctl(site, "revoke", "route", "/nowhere"),
	    { closed: 0, known: false });
});

test("gives no ticket of a route to what it was revoked for", async (t) => {
	const { site, token } = await open_site(t);
	const ask = (who, route) => request(site.broker_sock, "POST",
	    "/api/tickets", { headers: { "Content-Type": "application/json",
	        ...bearer(who).headers }, body: JSON.stringify({ route }) });
	const old = token("ann", { iat: now() - 10 });

	assert.equal((await ask(old, "/one")).status, 200);
	await ctl(site, "revoke", "route", "/one");
	for (const who of [old, token("ann")]) {
		const answer = await ask(who, "/one");
		assert.equal(answer.status, 401, answer.body);
		assert.equal(answer.json.error.message,
		    "what is shown has been revoked: sign in again");
		assert.match(answer.get("www-authenticate"),
		    /^Bearer error="invalid_token"/);
	}
	assert.equal((await ask(old, "/two")).status, 200);
	const young = token("ann", { iat: now() + 1 });
	assert.equal((await ask(young, "/one")).status, 200);
});

test("is kept for the next broker, and has a moment", async (t) => {
	const { site, server, front, broker, token, restart } =
	    await open_site(t);
	const old = token("ann", { iat: now() - 100 });
	const young = token("ann", { iat: now() - 10 });
	const { client } = await site.pair(front, "/one", server,
	    bearer(young));

	assert.deepEqual(await ctl(site, "revoke", "user", "ann", "--before",
	    String(now() - 50)), { closed: 0 });
	await broker.stop();
	await restart();
	const refused = await site.handshake(front, "/one",
	    bearer(old).headers);
	assert.equal(refused.status, 401);
	await site.pair(front, "/one", server, bearer(young));
	await open_until(site, 2); // the one of before is back
	const since = performance.now();
	assert.deepEqual(await ctl(site, "revoke", "user", "ann"),
	    { closed: 2 });
	assert.equal((await closed(client, since)).code, 4001);
});

// revoke(site): of ann; ms: in which everything of hers ends.
async function end_everything(t, revoke, most_ms) {
	const { site, front, token } = await open_site(t);
	const web = await site.front("lighttpd");
	const base = `http://localhost:${web.port}`;
	const who = token("ann", { iat: now() - 1 });
	const socket = await site.connect(front,
	    "/socket.io/?EIO=4&transport=websocket");
	await socket.send_text(`40/chats,${JSON.stringify({ token: who })}`);
	for (;;) {
		const { payload } = await socket.data_frame();
		if (payload.toString().startsWith("40/chats,"))
			break;
	}
	await ctl(site, "topup", "ann", "5.00");
	const answer = await post(base, "/api/v1/messages/send",
	    signed_in(who), { content: "/sim endless per_s=20",
	        model: MODEL });
	assert.equal(answer.status, 200);
	const events = events_of(answer);
	await events.next(); // it has begun

	const since = performance.now();
	await revoke(site);
	const rest = [];
	for await (const event of events)
		rest.push(event);
	const ms = performance.now() - since;
	assert.ok(ms < most_ms, `the answer ended after ${ms} ms`);
	let frame;
	do
		frame = await socket.frame("the end of the socket");
	while (frame !== null && frame.opcode !== 8);
	assert.ok(performance.now() - since < most_ms + 500);
	const refused = await post(base, "/api/v1/messages/send",
	    signed_in(who), { content: "once more", model: MODEL });
	assert.equal(refused.status, 401);
}

test("ends the answers and the sockets of a user", (t) => end_everything(t,
    (site) => ctl(site, "revoke", "user", "ann"), 1000),
    { skip: !find_program("lighttpd") && "no lighttpd" });

test("ends them when another process has revoked, too", (t) =>
    end_everything(t, async (site) => {
	const done = await run([find_program("sqlite3"),
	    site.file("store.db"), "INSERT INTO revocation (kind, value, " +
	    `before, expires) VALUES ('user', 'ann', ${now()}, ` +
	    `${now() + 600})`]);
	assert.equal(done.code, 0, done.output);
    }, 4000), { skip: needs("lighttpd", "sqlite3") });

test("reaches the tunnels of another broker within a second", async (t) => {
	const { site, server, front, token } = await open_site(t);
	const socket = site.file("other-control.sock");
	const config = fs.readFileSync(site.file("culvert.conf"), "utf8");
	const other = site.start("other broker", [BROKER, "-f",
	    site.write("other.conf",
	        config.replaceAll(site.control_sock, socket)),
	    "--listen", site.file("other.sock")], { env: site.broker_env });
	await other.listens(() => unix_listening(socket), "listens");

	for (let i = 0; i < 3; i++) {
		const { client } = await site.pair(front, "/one", server,
		    bearer(token(`user-${i}`, { iat: now() - 1 })));
		const since = performance.now();
		const order = await run([CTL, "--json", "--socket", socket,
		    "revoke", "user", `user-${i}`]);
		assert.deepEqual(JSON.parse(order.stdout), { closed: 0 });
		const end = await closed(client, since);
		assert.equal(end.code, 4001);
		diag(`closed after ${end.ms.toFixed(0)} ms`);
		assert.ok(end.ms < 1000, `${end.ms} ms`);
	}
});

// who: does not read; the other one is told all the same.
for (const who of ["client", "upstream"])
	test(`ends what runs while the ${who} reads nothing`, async (t) => {
		const { site, server, front, token } = await open_site(t);
		const pair = await site.pair(front, "/one", server,
		    bearer(token("ann", { iat: now() - 1 })));
		const other = who === "client" ? "upstream" : "client";
		pair[who].stall();
		await fill(pair[other]);
		const since = performance.now();
		assert.deepEqual(await ctl(site, "revoke", "user", "ann"),
		    { closed: 1 });
		const end = await closed(pair[other], since);
		assert.equal(end.code, 4001);
		assert.ok(end.ms < 1000, `${end.ms} ms`);
		pair[other].destroy();
		await open_until(site, 0); // and its slot is free
	});

test("a tunnel that is being opened is not opened any more", async (t) => {
	const { site, server, front, token } = await open_site(t);
	const opening = site.handshake(front, "/one",
	    bearer(token("ann", { iat: now() - 1 })).headers);
	const upstream = await server.next();
	const request = await upstream.head();
	assert.deepEqual(await ctl(site, "revoke", "user", "ann"),
	    { closed: 1 });
	upstream.write(switching(request)).catch(() => {});
	const answer = await opening;
	if (answer.status === 101) // it was faster
		assert.equal((await answer.conn.closed()).code, 4001);
	else
		assert.equal(answer.status, 403);
	await open_until(site, 0);
});

// A request to the broker.
const ask = (site, method, path, headers, body) =>
    request(site.broker_sock, method, path, { headers: {
	"Content-Type": "application/json", ...headers },
        ...(body && { body: JSON.stringify(body) }) });

test("ends what was got with what is revoked", async (t) => {
	const { site, server, front, token } = await open_site(t);
	const old = token("ann", { iat: now() - 100 });
	const young = token("ann", { iat: now() - 10, jti: "young" });
	const ticket = async (who) => {
		const answer = await ask(site, "POST", "/api/tickets",
		    signed_in(who), { route: "/one" });
		assert.equal(answer.status, 200, answer.body);
		return answer.json.url;
	};
	const stream = (cookie) => ask(site, "GET", "/api/v1/messages/stream",
	    { Cookie: cookie });
	await ctl(site, "topup", "ann", "5.00");
	const cookie = async (who) => {
		const answer = await ask(site, "POST", "/api/v1/messages/send",
		    signed_in(who), { content: "hello", model: MODEL });
		assert.equal(answer.status, 200, answer.body);
		return answer.get("set-cookie").split(";")[0];
	};
	const [of_old, of_young] = [await cookie(old), await cookie(young)];
	const [url_of_old, url_of_young] = [await ticket(old),
		await ticket(young)];
	const by_young = await site.pair(front, "/two", server, bearer(young));

	assert.notEqual((await stream(of_old)).status, 401);
	await ctl(site, "revoke", "user", "ann", "--before",
	    String(now() - 50));
	assert.equal((await site.handshake(front, url_of_old)).status, 401);
	assert.equal((await stream(of_old)).status, 401);
	// the other one is later
	const open = await site.pair(front, url_of_young, server);
	assert.notEqual((await stream(of_young)).status, 401);

	// a token by its id, with what it has opened itself
	const since = performance.now();
	assert.deepEqual(await ctl(site, "revoke", "ticket", "young"),
	    { closed: 1 });
	assert.equal((await closed(by_young.client, since)).code, 4001);
	await ctl(site, "revoke", "user", "ann");
	assert.equal((await closed(open.client, since)).code, 4001);
	assert.equal((await stream(of_young)).status, 401);
});

test("says what is wrong with an order", async (t) => {
	const { site } = await open_site(t);

	for (const args of [["user"], ["lease", "x"], ["user", ""],
	    ["user", "x", "y"], ["user", "x", "--before", "soon"]])
		await assert.rejects(ctl(site, "revoke", ...args),
		    /culvertctl revoke/);
});
