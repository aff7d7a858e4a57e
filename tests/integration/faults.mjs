// SPDX-License-Identifier: MIT
// What runs out, fills up, dies or goes away: a short inconvenience, which
// ends by itself, and is nobody's 401.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import net from "node:net";

import { ctl } from "../lib/chat.mjs";
import * as fcgi from "../lib/fcgi.mjs";
import { BROKER, SIM, Site, TUNNEL, children_of, cpu_us, is_running, needs,
	relay_site, run, unix_listening, until } from "../lib/harness.mjs";
import { ANAM, LIVEKIT, SECRETS, SEND, Target, bystander }
	from "../lib/hostile.mjs";
import { NAMES } from "../lib/servers.mjs";
import { deadline, skip_all, test } from "../lib/tap.mjs";

if (!fs.existsSync(SIM))
	skip_all("the simulator is not built; run deploy/check");
if (needs("prlimit"))
	skip_all(needs("prlimit"));

const health = (site, path = "/healthz") =>
	fcgi.request(site.broker_sock, "GET", path);

async function prlimit(pid, ...limits) {
	const { code, output } = await run(["prlimit", "--pid", `${pid}`,
	    ...limits]);
	assert.equal(code, 0, output);
}

// Leave a process so many descriptors more than it has now.
async function few_descriptors(pid, more) {
	const used = fs.readdirSync(`/proc/${pid}/fd`).map(Number);
	// holes are used first
	let limit = 0;
	for (let room = more; room > 0 || used.some((fd) => fd >= limit); limit++)
		if (!used.includes(limit) && --room < 0)
			break;
	await prlimit(pid, `--nofile=${limit}:`);
}
const many_descriptors = (pid) => prlimit(pid, "--nofile=1024:");

// Less than a tenth of a core while nothing can be done.
async function does_not_spin(pid, ms = 1000) {
	const before = cpu_us(pid);
	await new Promise((resolve) => setTimeout(resolve, ms));
	const used = (cpu_us(pid) - before) / 1000;
	assert.ok(used < ms / 10, `${used.toFixed(0)} ms of CPU in ${ms}`);
}

const as_root = process.getuid() === 0 ? false : "descriptors are root's to see";

// ---- descriptors ----

test("a broker without descriptors pauses, and goes on by itself",
    async (t) => {
	const { site, broker, front, server, pair } = await relay_site(t);
	const before = await pair();
	await few_descriptors(broker.pid, 0);
	const waiting = Array.from({ length: 20 }, () => health(site));
	const opening = site.handshake(front, "/raw");
	server.accept().then((c) => c.destroy(), () => {});
	await broker.wait_for(/accept\.paused reason="Too many open files"/);
	await broker.wait_for(/control\.accept_paused reason="Too many/);
	await does_not_spin(broker.pid);
	await before.client.send_text("still here");
	assert.equal((await before.upstream.data_frame()).payload.toString(),
	    "still here");
	await many_descriptors(broker.pid);
	for (const answer of await Promise.all(waiting))
		assert.equal(answer.status, 200);
	assert.equal((await opening).status, 101);
	const [, pauses] = await broker.wait_for(
	    /accept\.resumed pauses=(\d+)/);
	assert.ok(Number(pauses) >= 5, `${pauses} pauses`);
}, { skip: as_root });

test("a tunnel without descriptors pauses, and goes on by itself",
    async (t) => {
	const { site, tunnel, front, server } = await relay_site(t, "direct",
	    { tunnel: { args: ["--spare", "1"] } });
	const [spare] = await until(() => {
		const list = children_of(tunnel.pid);
		return list.length === 1 && list;
	}, "a spare");
	await few_descriptors(spare, 0);
	const opening = site.handshake(front, "/raw");
	server.accept().then((c) => c.destroy(), () => {});
	await tunnel.wait_for(/worker\.paused reason="Too many open files"/);
	await does_not_spin(spare);
	assert.ok(is_running(spare));
	await many_descriptors(spare);
	assert.equal((await opening).status, 101);
	await tunnel.wait_for(/worker\.resumed pauses=\d+/);
}, { skip: as_root });

test("a tunnel that can neither ask nor dial says so", async (t) => {
	const { site, tunnel, front, pair } = await relay_site(t, "direct",
	    { tunnel: { args: ["--spare", "1", "--connections-per-process",
	        "100"] } });
	const before = await pair();
	await until(() => children_of(tunnel.pid).length === 1,
	    "one process for all");
	const count = () => fs.readdirSync(`/proc/${before.pid}/fd`).length;
	const used = count();
	for (const room of [1, 2]) {
		await until(() => count() === used, "nothing is left of others");
		await few_descriptors(before.pid, room);
		const refused = await site.handshake(front, "/raw");
		assert.equal(refused.status, 503, refused.body);
		assert.ok(Number(refused.head.get("retry-after")) > 0);
		await many_descriptors(before.pid);
	}
	await before.client.send_text("still here");
	assert.equal((await before.upstream.data_frame()).payload.toString(),
	    "still here");
	(await pair()).client.destroy();
}, { skip: as_root });

// ---- a log that nobody reads ----

test("a log that nobody reads is dropped and counted, and holds nobody up",
    async (t) => {
	const site = await Site.open(t);
	const fifo = site.file("stderr");
	execFileSync("mkfifo", [fifo]);
	const pipe = fs.openSync(fifo,
	    fs.constants.O_RDWR | fs.constants.O_NONBLOCK);
	t.after(() => fs.closeSync(pipe));
	const config = site.write("culvert.conf", site.config({
		access: 'clients = {"loopback"}\norigins = {"loopback"}' }));
	const start = (name, argv, sock) => site.start(name, ["sh", "-c",
	    'exec "$@" 2>"$0"', fifo, ...argv], { env: site.env() })
	    .listens(() => unix_listening(sock), "listens");
	await start("broker", [BROKER, "-f", config, "--listen",
	    site.broker_sock], site.broker_sock);
	await start("tunnel", [TUNNEL, "--listen", site.tunnel_sock,
	    "--control", site.control_sock], site.tunnel_sock);
	const fill = Buffer.alloc(4096, "x");
	try {
		for (;;)
			fs.writeSync(pipe, fill);
	} catch (err) {
		assert.equal(err.code, "EAGAIN");
	}
	// each would be a line; one that waited for room would do so for ever
	for (let i = 0; i < 50; i++) {
		assert.equal((await fcgi.request(site.broker_sock, "GET",
		    "/api/v1/chats", { headers: {
			Origin: "https://evil.example" } })).status, 403);
		assert.equal((await site.handshake(site.direct(), "/x")).status,
		    403);
	}
	let text = "";
	const drain = () => {
		const room = Buffer.alloc(1 << 16);
		try {
			for (;;)
				text += room.toString("latin1", 0,
				    fs.readSync(pipe, room));
		} catch (err) {
			assert.equal(err.code, "EAGAIN");
		}
	};
	drain();
	text = "";
	await fcgi.request(site.broker_sock, "GET", "/api/v1/chats",
	    { headers: { Origin: "https://evil.example" } });
	await until(() => {
		drain();
		return /request\.denied/.test(text);
	}, "a line again");
	const [, lines] = /log\.dropped lines=(\d+)/.exec(text);
	assert.ok(Number(lines) >= 50, `${lines} lines`);
});

// ---- the store ----

const AWAY = {
	locked: {
		skip: needs("sqlite3"),
		reads: true,
		async take({ site }) {
			const part = site.start("sqlite3", ["sqlite3",
			    site.file("db/store.db")], { stdio: ["pipe"] });
			part.child.stdin.write("PRAGMA busy_timeout = 5000;\n" +
			    "BEGIN IMMEDIATE;\nSELECT 'lock' || 'ed';\n");
			await part.wait_for(/locked/);
			return async () => {
				part.child.stdin.end("ROLLBACK;\n");
				await part.exited;
			};
		},
	},
	full: {
		reads: true,
		async take({ broker }) {
			await prlimit(broker.pid, "--fsize=4096:unlimited");
			return () => prlimit(broker.pid,
			    "--fsize=unlimited:unlimited");
		},
	},
	"another's": {
		reads: false,
		async take({ site }) {
			fs.renameSync(site.file("db"), site.file("gone"));
			fs.mkdirSync(site.file("db"));
			fs.writeFileSync(site.file("db/store.db"), "not a store");
			return async () => {
				fs.rmSync(site.file("db"), { recursive: true });
				fs.renameSync(site.file("gone"), site.file("db"));
			};
		},
	},
	"not there": {
		reads: false,
		async take({ site }) {
			fs.renameSync(site.file("db"), site.file("gone"));
			return async () => fs.renameSync(site.file("gone"),
			    site.file("db"));
		},
	},
};

// A chat of its own, so that no row waits for another.
const say = (o, n) => o.fcgi("POST", SEND, { body: '{"content":"x"}',
    headers: { "x-anon-id": `visitor-away-${n}` } });

// What needs the store, and what it answers while only reading works.
const NEEDS_STORE = [
	["a message", (o) => say(o, 1), 503],
	["a new chat", (o) => o.fcgi("POST", "/api/v1/chats",
	    { body: '{"title":"x"}' }), 503],
	["a key", (o) => o.fcgi("POST", SECRETS, { body: "{}" }), 503],
	["an Anam session", (o) => o.fcgi("POST", ANAM,
	    { body: '{"personaId":"persona-1"}' }), 503],
	["the list of chats", (o) => o.fcgi("GET", "/api/v1/chats"), 200],
	["a chat's messages", (o) => o.fcgi("GET",
	    "/api/v1/chats/AAAAAAAAAAAAAAAA/messages"), 404],
	["a handshake with a key", (o) => o.handshake(
	    "/ticketed?model=gpt-realtime",
	    { Authorization: `Bearer ${o.key}` }), 101],
];

for (const [how, { skip, reads, take }] of Object.entries(AWAY))
	test(`a store that is ${how} is 503, and heals by itself`,
	    async (t) => {
		const target = await Target.open(t, "lighttpd",
		    { store: "db/store.db" });
		const { site, broker } = target;
		target.key = (await target.fcgi("POST",
		    `${SECRETS}?route=/ticketed`, { body: "{}" })).json.value;
		site.canaries.delete("what a client sent");
		const other = await bystander(target);
		await other.more();
		const back = await take(target);
		target.fds += 8; // what waits for it
		await until(async () => (await health(site, "/readyz"))
		    .status === 503, "not ready");
		assert.equal((await health(site)).status, 200);
		await target.run("K", NEEDS_STORE.map(([name, send, status]) =>
		    [`${how}: ${name}`, send, reads ? status : 503]));
		await target.run("K", [[`${how}: a token needs no store`,
		    (o) => o.fcgi("POST", LIVEKIT, { body: "{}" }), 201]]);
		await broker.wait_for(/store\.away reason=".+"/);
		await other.more();
		await back();
		await until(async () => (await health(site, "/readyz"))
		    .status === 200, "ready again");
		await broker.wait_for(/store\.back/);
		await target.run("K", [
			[`${how}: then a message`, (o) => say(o, 2), 200],
			[`${how}: then a key`, (o) => o.fcgi("POST", SECRETS,
			    { body: "{}" }), 200],
			[`${how}: then a handshake`, NEEDS_STORE.at(-1)[1], 101],
		]);
		await other.more();
		other.stop();
	}, { skip, timeout: 60000 });

// ---- processes ----

test("a crash leaves no core, and its log no secret", async (t) => {
	const { site, broker, tunnel, pair } = await relay_site(t);
	const victim = await pair();
	// SIGABRT: AddressSanitizer has a handler of its own for SIGSEGV
	for (const pid of [broker.pid, tunnel.pid, victim.pid])
		assert.match(fs.readFileSync(`/proc/${pid}/limits`, "latin1"),
		    /^Max core file size\s+0\s+0\s/m);
	process.kill(victim.pid, "SIGABRT");
	await tunnel.wait_for(/supervisor\.child_died .*signal=6/);
	await victim.client.over();
	await pair(); // and another is served
	broker.may_fail = true;
	await broker.stop("SIGABRT");
	const cwd = process.cwd();
	for (const dir of [site.dir, cwd])
		assert.deepEqual(fs.readdirSync(dir)
		    .filter((name) => /^core(\.|$)/.test(name)), []);
});

test("a storm after a restart is served, or told when to come back",
    async (t) => {
	const { site, broker, server, front } = await relay_site(t, "direct",
	    { tunnel: { args: ["--spare", "4"] } });
	broker.may_fail = true;
	await broker.stop("SIGKILL");
	const refused = await Promise.all(Array.from({ length: 40 },
	    () => site.handshake(front, "/raw")));
	const hints = refused.map((answer) => {
		assert.equal(answer.status, 503);
		return Number(answer.head.get("retry-after"));
	});
	assert.ok(Math.min(...hints) >= 1 && Math.max(...hints) <= 10);
	assert.ok(new Set(hints).size > 1, "not all at once");

	await site.broker(site.config({
		relays: [["/raw", site.relay(server.port)]] }));
	const vendor = (async () => {
		for (;;)
			(await server.accept()).destroy();
	})();
	vendor.catch(() => {});
	const storm = await Promise.all(Array.from({ length: 100 },
	    () => site.handshake(front, "/raw")));
	const served = storm.filter(({ status }) => status === 101).length;
	t.diag(`${served} of ${storm.length} at once`);
	for (const { status, head } of storm)
		assert.ok(status === 101 || (status === 503 &&
		    Number(head.get("retry-after")) > 0), `${status}`);
	assert.ok(served > 0);
	assert.equal((await site.handshake(front, "/raw")).status, 101);
	assert.equal((await ctl(site, "sessions")).sessions?.length ?? 0, 0);
}, { timeout: 60000 });

// ---- what web servers write down ----

const QUERIES = ["/raw?ticket=@", "/v1/realtime?model=gpt-realtime&ticket=@",
    "/?token=@", "/raw?access_token=@", "/anything?x=1&token=@"];
const REQUESTS = ["/api/v1/messages/send?token=@",
    "/api/v1/messages/stream?ticket=@", "/api/v1/chats?access_token=@",
    "/socket.io/?EIO=4&transport=polling&sid=@",
    "/api/v1/messages/send?chat_id=x&anon_id=@", "/talk?session_id=@"];

// What is behind the web server meanwhile.
const BEHIND = {
	"both are there": async () => {},
	"nobody is there": async ({ broker, tunnel }) => {
		await tunnel.stop();
		await broker.stop();
	},
	"nobody answers": async ({ site, broker, tunnel }, t) => {
		await tunnel.stop();
		await broker.stop();
		for (const sock of [site.tunnel_sock, site.broker_sock]) {
			const server = net.createServer((conn) => {
				conn.on("error", () => {});
				conn.once("data", () => conn.destroy());
			});
			fs.rmSync(sock, { force: true });
			await new Promise((done) => server.listen(sock, done));
			fs.chmodSync(sock, 0o666);
			t.after(() => server.close());
		}
	},
};

for (const name of NAMES)
	for (const [how, leave] of Object.entries(BEHIND))
		test(`${name}: no log has the tickets of queries: ${how}`,
		    async (t) => {
			const target = await Target.open(t, name);
			const { bait } = target;
			await leave(target, t);
			for (const query of QUERIES)
				assert.ok((await target.handshake(
				    query.replace("@", bait), { Origin:
				    "https://evil.example" })).status >= 400);
			for (const query of REQUESTS)
				assert.ok((await target.http("GET",
				    query.replace("@", bait))).status > 0);
			// the end of the test searches all logs for it
			assert.ok(fs.existsSync(target.site.file(
			    `${name}-access.log`)));
		}, { skip: needs(name) });

// Not one of them gets as far as culvert's own part of the configuration.
const REFUSED = [
	"GET /raw?ticket=@ HTTP/1.1\r\n\r\n",
	"GET /%zz?token=@ HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a/../../b?token=@ HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /api/?token=@ HTTP/1.1\r\nHost: a\r\nno header\r\n\r\n",
	"GET /api/?token=@ HTTP/1.1\r\nHost: a b\r\n\r\n",
	"GET /api/?token=@ \x01 HTTP/1.1\r\nHost: a\r\n\r\n",
	"G@T /api/?token=@ HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET http://[/?token=@ HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET api?token=@ HTTP/1.1\r\nHost: a\r\n\r\n",
	`GET /api/?x=${"y".repeat(40000)}&token=@ HTTP/1.1\r\nHost: a\r\n\r\n`,
];

// What a server answers before anything else; "" where it hangs up.
function first_answer(port, request) {
	return new Promise((resolve) => {
		const conn = net.connect(port, "127.0.0.1", () =>
		    conn.write(request));
		let answer = "";
		conn.on("error", () => {});
		conn.on("data", (data) => {
			answer += data.toString("latin1");
			if (answer.includes("\r\n"))
				conn.destroy();
		});
		conn.on("close", () => resolve(answer.split("\r\n")[0]));
	});
}

for (const name of NAMES)
	test(`${name}: what it refuses itself is in no log, as the sample says`,
	    async (t) => {
		const site = await Site.open(t);
		const bait = site.canary("query");
		await site.serve({});
		const front = await site.front(name, { uris: true });
		let refused = 0;
		for (const request of REFUSED) {
			const answer = await first_answer(front.port,
			    request.replaceAll("@T", "\0").replaceAll("@", bait)
			    .replaceAll("\0", "@T"));
			assert.match(answer, /^(HTTP\/1.[01] [45]\d\d .*)?$/);
			refused += / 4(00|14|31) /.test(answer);
		}
		assert.ok(refused >= REFUSED.length / 2, `${refused} refused`);
		assert.match(await first_answer(front.port, "GET /healthz?x=1 " +
		    "HTTP/1.1\r\nHost: a\r\n\r\n"), / 200 /);
		await front.part.stop();
		const log = fs.readFileSync(site.file(`${name}-access.log`),
		    "utf8");
		if (name === "apache")
			assert.match(log, /healthz/);
		else
			assert.ok(log.split("\n").length > refused / 2, log);
		// the end of the test searches all logs for it
	}, { skip: needs(name) });

// ---- who is slow ----

// A connection that sends a piece every 100 ms; over: when it was closed.
async function drip(t, sock, first, piece) {
	const conn = net.connect(sock);
	conn.on("error", () => {});
	await new Promise((done) => conn.once("connect", done));
	const since = performance.now();
	let answer = "";
	conn.on("data", (data) => { answer += data; });
	conn.write(first);
	const timer = setInterval(() => conn.write(piece), 100);
	t.after(() => { clearInterval(timer); conn.destroy(); });
	return new Promise((resolve) => conn.once("close", () => {
		clearInterval(timer);
		resolve({ answer, ms: performance.now() - since });
	}));
}

test("who sends a request slowly is not waited for, nor holds all threads",
    async (t) => {
	const site = await Site.open(t);
	const broker = await site.broker(site.config({ rest:
	    "requests { timeout = 2\nthreads = 2 }\n" +
	    'livekit { url = "wss://livekit.example"\n' +
	    'api_key = "env:LIVEKIT_API_KEY"\n' +
	    'api_secret = "env:LIVEKIT_API_SECRET" }\n' }));
	const head = Buffer.concat([fcgi.begin(), fcgi.params(fcgi.environment(
	    "POST", LIVEKIT, { "Content-Type": "application/json" },
	    { CONTENT_LENGTH: "1000" }))]);
	const rows = [
		["nothing", "", ""],
		["half a record", Buffer.from([1]), Buffer.from([1])],
		["no parameters", fcgi.begin(), ""],
		["parameters without end", fcgi.begin(),
		    fcgi.record(4, Buffer.from([1, 1, 65, 66]))],
	];
	for (const [name, first, piece] of rows) {
		const over = await drip(t, site.broker_sock, first, piece);
		t.diag(`${name}: ${over.ms.toFixed(0)} ms`);
		assert.ok(over.ms < 6000, `${name}: ${over.ms}`);
		assert.equal(over.answer, "", "what is not whole is no request");
	}
	await broker.wait_for(/request\.unreadable/);

	const slow = Array.from({ length: 8 }, () => drip(t, site.broker_sock,
	    head, fcgi.record(5, "x")));
	await Promise.race(slow);
	const since = performance.now();
	const good = await fcgi.request(site.broker_sock, "POST", LIVEKIT, {
		headers: { "Content-Type": "application/json" }, body: "{}" });
	const ms = performance.now() - since;
	t.diag(`another is served after ${ms.toFixed(0)} ms`);
	assert.equal(good.status, 201);
	assert.ok(ms < 6000, `${ms} ms`);
	for (const { answer } of await Promise.all(slow))
		assert.match(answer, /Status: 408 /);
}, { timeout: 60000 });

test("a web server that aborts a stream ends it, and what it asked for",
    async (t) => {
	const target = await Target.open(t, "direct",
	    { chat: { chat: "detach_timeout = 1" } });
	const { site, broker } = target;
	const conn = await fcgi.Fcgi.dial(site.broker_sock);
	const body = '{"content":"/sim endless per_s=30"}';
	await conn.write(fcgi.begin(), fcgi.params(fcgi.environment("POST", SEND,
	    { "Content-Type": "application/json", "x-anon-id": "visitor-0007",
		"Content-Length": `${body.length}` })));
	await conn.stdin(body);
	await conn.stdin_end();
	await until(() => /assistant_delta/.test(Buffer.concat(conn.parts)),
	    "it streams");
	await conn.abort();
	await deadline(conn.done, 8000, "its end"); // though the connection is whole
	await broker.wait_for(/chat\.end .*state=stopped .*input_tokens=[1-9]/);
	assert.equal((await health(site)).status, 200);
});

// ---- limits of our own, as the configuration has them ----

test("who comes on top of a maximum is told so, and the others go on",
    async (t) => {
	const target = await Target.open(t, "lighttpd", {
		rest: "requests { waiting = 3 }\n",
		chat: { chat: "max_readers = 2",
		    socketio: "events_per_second = 1 event_burst = 5" },
	});
	const { site } = target;
	const others = [];
	for (let i = 0; i < 3; i++) {
		others.push(await bystander(target));
		await others[i].more();
	}
	const full = await fcgi.request(site.broker_sock, "POST", SEND, {
	    headers: { "Content-Type": "application/json",
		"x-anon-id": "visitor-0002" }, body: '{"content":"x"}' });
	assert.equal(full.status, 503, full.body);
	assert.ok(Number(full.get("retry-after")) > 0);
	for (const other of others) {
		await other.more();
		other.stop();
	}

	// so many events of one client, and no more
	const socket = await site.connect(site.direct(),
	    "/socket.io/?EIO=4&transport=websocket");
	await socket.message();
	await socket.send_text(`40/chats,{"anonId":"visitor-0003"}`);
	assert.match(`${(await socket.message()).payload}`, /^40\/chats,/);
	const answers = [];
	for (let i = 0; i < 8; i++)
		await socket.send_text(`42/chats,${i}["list_chats",{}]`);
	while (answers.length < 8) {
		const { payload } = await socket.message();
		if (/^4[23]\/chats,\d/.test(payload) ||
		    /too_many|rate/i.test(payload))
			answers.push(`${payload}`);
	}
	assert.ok(answers.some((text) => /too_many_requests/.test(text)),
	    answers.join("\n"));
	socket.destroy();
}, { timeout: 60000 });
