// SPDX-License-Identifier: MIT
// Broker, supervisor and tunnels as processes: deaths, restarts, reloads, and
// the ways in which they are started.
import assert from "node:assert/strict";
import fs from "node:fs";

import { BROKER, Site, TUNNEL, children_of, cpu_ticks, find_program,
	is_running, memory_of, needs, relay_site, unix_listening, until }
	from "../lib/harness.mjs";
import { Fcgi, begin, environment, params, record, request }
	from "../lib/fcgi.mjs";
import { RawServer, dial } from "../lib/rawws.mjs";
import { test } from "../lib/tap.mjs";

const LIVEKIT = `livekit {
	url = "wss://livekit.example"
	api_key = "env:LIVEKIT_API_KEY"
	api_secret = "env:LIVEKIT_API_SECRET"
}
`;
const TOKEN = "/api/livekit/token";
const JSON_TYPE = { "Content-Type": "application/json" };

// Both directions of a conversation work.
async function assert_alive({ client, upstream }) {
	const text = `${Math.random()}`;
	await client.send_text(text);
	assert.equal((await upstream.data_frame()).payload.toString(), text);
	await upstream.send_text(text);
	assert.equal((await client.data_frame()).payload.toString(), text);
}

// The client leaves; the vendor answers the close and ends, as a server does.
async function leave({ client, upstream }, code = 1000) {
	await client.send_close(code);
	assert.equal((await upstream.closed())?.code, code);
	await upstream.send_close(code);
	upstream.end();
	await client.over();
}

function server_of(tunnel, { pid }) {
	assert.ok(children_of(tunnel.pid).includes(pid),
	    "a child of the supervisor serves");
	return pid;
}

test("every conversation has a process, spares are replaced", async (t) => {
	const { tunnel, pair } = await relay_site(t, "direct",
	    { tunnel: { args: ["--spare", "3"] } });
	const count = (n) => until(() =>
	    children_of(tunnel.pid).length === n, `${n} children`);

	await count(3);
	const one = await pair();
	await count(4);
	const two = await pair();
	await count(5);
	assert.notEqual(server_of(tunnel, one), server_of(tunnel, two));
	await leave(one);
	await count(4);
	await assert_alive(two);
	const spare = children_of(tunnel.pid)
	    .find((pid) => pid !== server_of(tunnel, two));
	process.kill(spare, "SIGKILL");
	await until(() => !is_running(spare), "the spare is gone");
	await count(4);
	await assert_alive(await pair());
});

test("the dead broker's conversations go on, a new one serves again",
    async (t) => {
	const { site, broker, server, front, pair } = await relay_site(t);
	const before = await pair();
	await assert_alive(before);
	broker.may_fail = true;
	await broker.stop("SIGKILL");
	await assert_alive(before);
	assert.equal((await site.handshake(front, "/raw")).status, 503);
	await assert_alive(before);
	await site.broker(site.config({
		relays: [["/raw", site.relay(server.port)]],
	}));
	await assert_alive(await pair());
	await assert_alive(before);
	await before.client.send_close(4999, "bye");
	assert.equal((await before.upstream.closed()).code, 4999);
});

test("a broker that is stopped leaves conversations alone", async (t) => {
	const { broker, pair } = await relay_site(t);
	const before = await pair();
	assert.equal((await broker.stop()).code, 0);
	await assert_alive(before);
});

test("kill -9 of a tunnel touches no other and frees its lease",
    async (t) => {
	const { site, tunnel, server, front, pair } = await relay_site(t,
	    "direct", { more: "max_connections = 2" });
	const victim = await pair();
	const other = await pair();
	const pid = server_of(tunnel, victim);

	assert.equal((await site.handshake(front, "/raw")).status, 429);
	process.kill(pid, "SIGKILL");
	const start = performance.now();
	server.accept().catch(() => {});
	await until(async () =>
	    (await site.handshake(front, "/raw")).status === 101,
	    "the lease is free");
	t.diag(`lease free after ${(performance.now() - start).toFixed(1)} ms`);
	await victim.client.over();
	await victim.upstream.over();
	await assert_alive(other);
	await until(() => !is_running(pid), "the dead process is reaped");
});

test("SIGTERM to the supervisor drains with 1012", async (t) => {
	const { site, tunnel, pair } = await relay_site(t, "direct",
	    { tunnel: { args: ["--spare", "2", "--drain-timeout", "2"] } });
	const pairs = [];
	for (let i = 0; i < 8; i++)
		pairs.push(await pair());
	const children = children_of(tunnel.pid);
	const start = performance.now();
	tunnel.kill("SIGTERM");
	const times = await Promise.all(pairs.map(async ({ client, upstream }) => {
		const down = client.closed(), up = upstream.closed();
		assert.equal((await down)?.code, 1012);
		const time = performance.now() - start;
		await client.send_close(1012).catch(() => {});
		const there = await up;
		assert.ok([1001, 1012].includes(there?.code), `${there?.code}`);
		await upstream.send_close(there.code).catch(() => {});
		upstream.end();
		return time;
	}));
	assert.equal((await tunnel.stop()).code, 0);
	const took = performance.now() - start;
	times.sort((a, b) => a - b);
	t.diag(`closes after ${times.map((n) => n.toFixed(0)).join(", ")} ms; ` +
	    `end after ${took.toFixed(0)} ms`);
	assert.ok(times.at(-1) - times[0] > 100, "spread over the window");
	assert.ok(took < 15000, "within the drain's time");
	for (const pid of children)
		assert.ok(!is_running(pid), `${pid} is gone`);
	assert.ok(!unix_listening(site.tunnel_sock));
});

test("a supervisor that is replaced leaves conversations alone",
    async (t) => {
	const { site, tunnel, pair } = await relay_site(t);
	const before = await pair();
	const pid = server_of(tunnel, before);
	const children = children_of(tunnel.pid);

	tunnel.kill("SIGQUIT");
	await tunnel.wait_for(/ supervisor\.leaving serving=1\n/);
	await until(() => !is_running(tunnel.pid), "the supervisor has left");
	assert.ok(!fs.existsSync(site.tunnel_sock));
	await assert_alive(before);
	await until(() => children.every((p) => p === pid || !is_running(p)),
	    "those that waited have left");
	await site.tunnel();
	await assert_alive(await pair());
	await assert_alive(before);
	await leave(before);
	await until(() => !is_running(pid), "its process has ended");
});

test("no process leaves a core", async (t) => {
	const { broker, tunnel, pair } = await relay_site(t);
	const one = await pair();

	for (const pid of [broker.pid, tunnel.pid, server_of(tunnel, one)]) {
		const limits = fs.readFileSync(`/proc/${pid}/limits`, "latin1");
		assert.match(limits, /^Max core file size +0 +0 /m);
	}
});

test("peers that ignore the drain do not hold it up", async (t) => {
	const { tunnel, pair } = await relay_site(t, "direct",
	    { tunnel: { args: ["--spare", "1", "--drain-timeout", "1"] } });
	const { client, upstream } = await pair();
	client.stall();
	upstream.stall();
	const start = performance.now();
	assert.equal((await tunnel.stop()).code, 0);
	assert.ok(performance.now() - start < 18000);
});

test("the broker hears of what peers that ignore the drain held up",
    async (t) => {
	const { broker, tunnel, pair } = await relay_site(t, "direct",
	    { tunnel: { args: ["--spare", "1", "--drain-timeout", "0"] } });
	const { client, upstream } = await pair();
	client.stall();
	upstream.stall();
	assert.equal((await tunnel.stop()).code, 0);
	await broker.wait_for(/ lease\.end .* cause=restart /);
});

test("a client that leaves during the drain does not make it spin",
    async (t) => {
	const { tunnel, pair } = await relay_site(t, "direct",
	    { tunnel: { args: ["--spare", "1", "--drain-timeout", "1"] } });
	const pairs = [await pair(), await pair()];
	const told = pairs.map(({ client }, i) => client.closed().then(() => i));

	tunnel.kill("SIGTERM");
	const first = await Promise.race(told);
	const ticks = cpu_ticks(tunnel.pid);
	const start = performance.now();
	pairs[1 - first].client.destroy(); // before its turn
	await pairs[1 - first].upstream.closed();
	// the first answers no close, so the supervisor has to wait for it
	await pairs[first].client.over();
	const used = (cpu_ticks(tunnel.pid) - ticks) * 10;
	const took = performance.now() - start;
	t.diag(`${used} ms of CPU in ${took.toFixed(0)} ms`);
	assert.ok(took > 2000 && used < took / 5);
});

test("tunnels that die at once do not make the supervisor spin",
    async (t) => {
	const { tunnel, pair } = await relay_site(t, "direct",
	    { tunnel: { args: ["--spare", "2"] } });
	const seen = new Set();
	const ticks = cpu_ticks(tunnel.pid);
	const end = performance.now() + 2000;
	while (performance.now() < end) {
		for (const pid of children_of(tunnel.pid)) {
			if (seen.has(pid))
				continue;
			seen.add(pid);
			process.kill(pid, "SIGKILL");
		}
		await new Promise((resolve) => setTimeout(resolve, 2));
	}
	const used = cpu_ticks(tunnel.pid) - ticks;
	t.diag(`${seen.size} processes killed, ${used * 10} ms of CPU`);
	assert.ok(seen.size < 60, "it waits between starts");
	assert.ok(used < 100, "it does not spin");
	assert.ok(is_running(tunnel.pid));
	await assert_alive(await pair()); // and comes back by itself
});

test("several connections in one process, where configured", async (t) => {
	const { tunnel, pair } = await relay_site(t, "direct",
	    { tunnel: { args: ["--spare", "1", "--connections-per-process",
	        "3"] } });
	const pairs = [];
	for (let i = 0; i < 6; i++)
		pairs.push(await pair());
	const pids = new Set(pairs.map((p) => server_of(tunnel, p)));
	assert.ok(pids.size >= 2 && pids.size <= 4, `${pids.size} processes`);
	await Promise.all(pairs.map(assert_alive));
	const [first, ...others] = pairs;
	first.client.destroy();
	assert.notEqual(await first.upstream.closed(), null);
	await Promise.all(others.map(assert_alive));
});

test("max_processes bounds them, and waiting clients are served later",
    async (t) => {
	const { tunnel, pair, server, site, front } = await relay_site(t,
	    "direct", { tunnel: { args: ["--spare", "1", "--max-processes",
	        "2"] } });
	const one = await pair();
	const two = await pair();
	server.accept().catch(() => {});
	const third = site.handshake(front, "/raw");
	third.catch(() => {});
	await assert_alive(one);
	await assert_alive(two);
	assert.ok(children_of(tunnel.pid).length <= 2);
	await leave(one);
	assert.equal((await third).status, 101);
});

// ---- how they are started ----

async function activated(t, args) {
	const site = await Site.open(t);
	const server = await RawServer.listen();
	await site.broker(site.config({
		relays: [["/raw", site.relay(server.port)]],
	}));
	const part = site.start("systemd-socket-activate",
	    [find_program("systemd-socket-activate"), "-l", site.tunnel_sock,
	        ...args, "--", TUNNEL, "--control", site.control_sock]);
	part.may_fail = true; // systemd-socket-activate ends by the signal
	await part.listens(() => unix_listening(site.tunnel_sock), "listens");
	return { site, part, pair: () => site.pair(site.direct(), "/raw",
	    server) };
}

const SKIP_ACTIVATE = { skip: needs("systemd-socket-activate") };

test("systemd's listening socket makes a supervisor", async (t) => {
	const { part, pair } = await activated(t, []);
	const one = await pair();
	const two = await pair();
	await assert_alive(one);
	await assert_alive(two);
	assert.ok(children_of(part.pid).length > 2, "spares and servers");
	part.may_fail = false; // it has become the supervisor
	await leave(one);
	await leave(two);
	assert.equal((await part.stop()).code, 0);
}, SKIP_ACTIVATE);

for (const [how, args] of [["a connected socket of systemd", ["--accept"]],
    ["inetd's connected socket", ["--accept", "--inetd"]]])
	test(`${how} is served, then the process ends`, async (t) => {
		const { part, pair } = await activated(t, args);
		const one = await pair();
		const two = await pair();
		await assert_alive(one);
		const pids = children_of(part.pid);
		assert.equal(pids.length, 2, "one process a connection");
		await leave(one);
		await until(() => pids.some((pid) => !is_running(pid)),
		    "its process ends");
		await assert_alive(two);
		const left = pids.find(is_running);
		process.kill(left, "SIGTERM");
		assert.equal((await two.client.closed())?.code, 1012);
	}, SKIP_ACTIVATE);

test("systemd's socket is where the broker serves FastCGI", async (t) => {
	const site = await Site.open(t);
	const file = site.write("culvert.conf", site.config({ rest: LIVEKIT }));
	const part = site.start("systemd-socket-activate",
	    [find_program("systemd-socket-activate"), "-l", site.broker_sock,
	        ...Object.entries(site.env()).flatMap(([n, v]) =>
	            ["-E", `${n}=${v}`]), "--", BROKER, "-f", file]);
	await part.listens(() => unix_listening(site.broker_sock), "listens");
	const answer = await request(site.broker_sock, "POST", TOKEN,
	    { body: "{}", headers: JSON_TYPE });
	assert.equal(answer.status, 201, answer.body);
	assert.equal((await part.stop()).code, 0);
}, SKIP_ACTIVATE);

// ---- configuration ----

test("SIGHUP takes a good file and refuses a bad one", async (t) => {
	const { site, broker, server, front, pair } = await relay_site(t);
	const before = await pair();
	const both = [["/raw", site.relay(server.port)],
	    ["/new", site.relay(server.port)]];

	assert.equal((await site.handshake(front, "/new")).status, 404);
	site.write("culvert.conf", site.config({ relays: both }));
	broker.kill("SIGHUP");
	server.accept().then((c) => c.destroy(), () => {});
	await until(async () =>
	    (await site.handshake(front, "/new")).status === 101,
	    "the new relay is served");

	for (const bad of ["relay \"/x\" {\n", "nonsense = 5\n",
	    "relay \"/x\" { upstream = \"http://127.0.0.1/\" }\n"]) {
		const from = broker.output.length;
		site.write("culvert.conf", site.config({ relays: both }) + bad);
		broker.kill("SIGHUP");
		await broker.wait_for(/culvert\.conf:\d+/, { from });
	}
	fs.rmSync(site.file("culvert.conf"));
	const from = broker.output.length;
	broker.kill("SIGHUP");
	await broker.wait_for(/culvert\.conf/, { from });
	const { client } = await site.pair(front, "/new", server);
	client.destroy();
	await assert_alive(before);
});

test("a request in flight is finished when the broker stops", async (t) => {
	const site = await Site.open(t);
	const part = await site.broker(site.config({ rest: LIVEKIT }));
	const body = '{"room_name":"slow"}';
	const conn = await Fcgi.dial(site.broker_sock);
	await conn.write(begin(), params(environment("POST", TOKEN,
	    { ...JSON_TYPE, "Content-Length": String(body.length) })),
	    record(5, body.slice(0, 7)));
	// a second one shows that the first has been taken up
	assert.equal((await request(site.broker_sock, "POST", TOKEN,
	    { body: "{}", headers: JSON_TYPE })).status, 201);
	const stopped = part.stop();
	await part.wait_for(/stop/i);
	await conn.write(record(5, body.slice(7)), record(5));
	const answer = await conn.answer();
	assert.equal(answer.status, 201, answer.body);
	assert.equal((await stopped).code, 0);
});

test("a request that never ends does not hold the stop up", async (t) => {
	const site = await Site.open(t);
	const part = await site.broker(site.config({ rest: LIVEKIT +
	    "requests { timeout = 60 stop = 1 }\n" }));
	const conn = await Fcgi.dial(site.broker_sock);
	await conn.write(begin(), params(environment("POST", TOKEN,
	    { ...JSON_TYPE, "Content-Length": "100" })), record(5, "{"));
	assert.equal((await request(site.broker_sock, "POST", TOKEN,
	    { body: "{}", headers: JSON_TYPE })).status, 201);
	const start = performance.now();
	await part.stop();
	assert.ok(performance.now() - start < 18000);
});

// ---- the control socket ----

test("the control socket is for few, and survives them", async (t) => {
	const { site, broker, pair } = await relay_site(t);
	assert.equal(fs.statSync(site.control_sock).mode & 0o777, 0o600);
	const before = await pair();
	assert.ok(is_running(broker.pid));
	await assert_alive(before);
});

test("many clients at once are all served", async (t) => {
	const { pair } = await relay_site(t, "direct",
	    { tunnel: { args: ["--spare", "4"] } });
	const pairs = await Promise.all(Array.from({ length: 60 },
	    () => pair().then(({ client, upstream }) => ({ client, upstream }))));
	await Promise.all(pairs.map(async ({ client }, i) =>
	    client.send_text(`${i}`)));
	const got = await Promise.all(pairs.map(async ({ upstream }) =>
	    Number((await upstream.data_frame()).payload.toString())));
	assert.deepEqual(got.sort((a, b) => a - b),
	    pairs.map((_, i) => i));
});

test("a thousand idle conversations in one process leave nothing behind",
    async (t) => {
	const { site, server, front, pair } = await relay_site(t, "direct",
	    { tunnel: { args: ["--spare", "1", "--connections-per-process",
		"100000"] } });
	const first = await pair();
	const fds = () => fs.readdirSync(`/proc/${first.pid}/fd`).length;
	const alone = fds();
	const rss = [];
	for (let round = 0; round < 2; round++) {
		const pairs = [];
		for (let i = 0; i < 20; i++)
			pairs.push(...await Promise.all(Array.from({ length: 25 },
			    () => site.pair(front, "/raw", server))));
		// the client's, the vendor's and the broker's
		assert.equal(fds(), alone + 3 * pairs.length);
		rss.push(memory_of(first.pid).pss);
		for (const { client, upstream } of pairs) {
			client.destroy();
			upstream.destroy();
		}
		await until(() => fds() === alone, "all are closed");
	}
	t.diag(`PSS with 500: ${rss} kB`);
	// a sanitizer keeps what is freed, and looks for leaks itself
	if (!fs.readFileSync(TUNNEL).includes("__asan_init"))
		assert.ok(rss[1] < rss[0] * 1.1 + 1024, `${rss} kB`);
	await assert_alive(first);
}, { timeout: 120000 });

test("connections that ask for nothing do not keep others out",
    async (t) => {
	const { site, pair } = await relay_site(t, "direct",
	    { tunnel: { args: ["--spare", "2"] } });
	const idle = [];
	for (let i = 0; i < 30; i++)
		idle.push(await dial({ path: site.tunnel_sock }));
	await assert_alive(await pair());
	for (const conn of idle)
		conn.destroy();
});
