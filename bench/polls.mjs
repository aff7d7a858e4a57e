// SPDX-License-Identifier: MIT
// polls: thousands of polls of Engine.IO that wait, at the FastCGI socket and
// through lighttpd and nginx.
//
// usage: polls.mjs [--json] [--count N]
//
// What counts: the broker has not a thread more than before, what a client that
// polls weighs, how long a token takes meanwhile, and that one message answers its
// poll at once.
import assert from "node:assert/strict";
import fs from "node:fs";
import net from "node:net";

import * as fcgi from "../tests/lib/fcgi.mjs";
import { Site, find_program, free_port, memory_of, tcp_listening, until }
	from "../tests/lib/harness.mjs";

const json = process.argv.includes("--json");
const at = process.argv.indexOf("--count");
const COUNT = at > 0 ? Number(process.argv[at + 1]) : 5000;
const TOKENS = 200;
const ROUNDS = 200;
const AT_ONCE = 50; // handshakes

const POLL = "/engine.io/?EIO=4&transport=polling";
const TOKEN = "/api/livekit/token";
const rest = `
livekit {
	url = "wss://livekit.example"
	api_key = "env:LIVEKIT_API_KEY"
	api_secret = "env:LIVEKIT_API_SECRET"
}
socketio {
	echo = true
	max_sessions = ${COUNT + 1000}
	ping_interval_ms = 600000
}
`;

// Only what the load needs: as many connections as there may be.
function lighttpd_config(site, port) {
	return `
server.modules = ("mod_fastcgi")
server.document-root = "${site.dir}"
server.bind = "127.0.0.1"
server.port = ${port}
server.max-connections = ${2 * COUNT + 100}
server.max-fds = ${3 * COUNT + 1000}
server.errorlog = "${site.file("lighttpd-error.log")}"
server.max-read-idle = 600
server.max-write-idle = 600
server.listen-backlog = 4096
fastcgi.server = ("/" => (("socket" => "${site.broker_sock}",
    "check-local" => "disable", "listen-backlog" => 4096)))
`;
}

function nginx_config(site, port) {
	const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
	return `
${process.getuid() === 0 ? "user root root;" : ""}
daemon off;
worker_processes 1;
worker_rlimit_nofile ${3 * COUNT + 1000};
pid ${site.file("nginx.pid")};
error_log ${site.file("nginx-error.log")};
events { worker_connections ${3 * COUNT + 500}; }
http {
	access_log off;
	${temp.map((t) => `${t}_temp_path ${site.dir};`).join(" ")}
	server {
		listen 127.0.0.1:${port} backlog=4096;
		location / {
			include /etc/nginx/fastcgi_params;
			fastcgi_pass unix:${site.broker_sock};
			fastcgi_read_timeout 600s;
		}
	}
}
`;
}

// Ways to the broker: each sends a request, and calls back with the answer.
const ways = {
	"fastcgi": async (site) => ({
		ask(method, target, headers, body) {
			const socket = net.connect({ path: site.broker_sock });
			socket.write(Buffer.concat([fcgi.begin(),
			    fcgi.params(fcgi.environment(method, target, {
				...headers,
				...body && { "Content-Length":
				    String(Buffer.byteLength(body)) },
			    })), fcgi.stream(5, body ?? ""), fcgi.record(5)]));
			return { socket, answer: whole(socket, (bytes) => {
				const out = [];
				for (let p = 0; p + 8 <= bytes.length;) {
					const len = bytes.readUInt16BE(p + 4);
					if (bytes[p + 1] === 6)
						out.push(bytes.subarray(p + 8, p + 8 + len));
					p += 8 + len + bytes[p + 6];
				}
				return Buffer.concat(out);
			}) };
		},
	}),
	"lighttpd": (site) => web_server(site, "lighttpd", lighttpd_config,
	    (file) => [find_program("lighttpd"), "-D", "-f", file]),
	"nginx": (site) => web_server(site, "nginx", nginx_config,
	    (file) => [find_program("nginx"), "-p", site.dir, "-c", file,
		"-e", site.file("nginx-error.log")]),
};

async function web_server(site, name, config, argv) {
	if (!find_program(name))
		return null;
	const port = await free_port();
	const part = site.start(name,
	    argv(site.write(`${name}.conf`, config(site, port))));
	part.may_fail = part.hard = true;
	await part.listens(() => tcp_listening(port), "listens");
	return {
		ask(method, target, headers = {}, body) {
			const socket = net.connect({ port, host: "127.0.0.1" });
			const all = { Host: "localhost", Connection: "close",
				...headers, ...body && { "Content-Length":
				    Buffer.byteLength(body) } };
			socket.write(`${method} ${target} HTTP/1.1\r\n` +
			    Object.entries(all).map(([n, v]) => `${n}: ${v}\r\n`)
			        .join("") + `\r\n${body ?? ""}`);
			return { socket, answer: whole(socket, (bytes) => bytes) };
		},
	};
}

// What comes until the end, as {body}.
function whole(socket, unwrap) {
	const parts = [];
	return new Promise((resolve, reject) => {
		socket.on("data", (data) => parts.push(data));
		socket.on("error", reject);
		socket.on("close", () => {
			const text = unwrap(Buffer.concat(parts)).toString();
			resolve({ body: text.slice(text.indexOf("\r\n\r\n") + 4),
			    text });
		});
	});
}

const threads = (pid) => fs.readdirSync(`/proc/${pid}/task`).length;
const descriptors = (pid) => fs.readdirSync(`/proc/${pid}/fd`).length;

function percentile(times, share) {
	times.sort((a, b) => a - b);
	return times[Math.min(times.length - 1,
	    Math.floor(times.length * share))];
}

async function timed(n, act) {
	const times = [];
	for (let i = 0; i < n; i++) {
		const start = performance.now();
		await act(i);
		times.push(performance.now() - start);
	}
	return { p50: percentile(times, 0.5), p99: percentile(times, 0.99) };
}

async function token(way) {
	const { answer } = way.ask("POST", TOKEN,
	    { "Content-Type": "application/json" }, '{"room_name":"a"}');
	assert.match((await answer).body, /participant_token/);
}

async function handshakes(way, count) {
	const sids = [];
	while (sids.length < count) {
		const some = Math.min(AT_ONCE, count - sids.length);
		const answers = await Promise.all(Array.from({ length: some },
		    () => way.ask("GET", POLL).answer));
		for (const { body, text } of answers) {
			assert.equal(body[0], "0", text);
			sids.push(JSON.parse(body.slice(1)).sid);
		}
	}
	return sids;
}

async function park(way, pid, sids, before) {
	const polls = [];
	let early = null;
	for (let i = 0; i < sids.length; i += AT_ONCE) {
		for (const sid of sids.slice(i, i + AT_ONCE)) {
			const poll = way.ask("GET", `${POLL}&sid=${sid}`);
			poll.answer.then(({ text }) => { early ??= text; },
			    (err) => { early ??= err.message; });
			polls.push(poll);
		}
		await until(() => {
			assert.equal(early, null);
			return descriptors(pid) >= before + polls.length;
		}, `${polls.length} polls wait`, 60000);
	}
	return polls;
}

async function measure(name) {
	const site = await Site.open({ after() {}, on_failure() {} });
	const broker = await site.broker(site.config({ rest }),
	    { args: ["--log-level", "warning"] });
	try {
		const way = await ways[name](site);
		if (way === null)
			return { name, skipped: "not installed" };
		await token(way);
		const tokens_before = await timed(TOKENS, () => token(way));
		const base = memory_of(broker.pid);
		const base_fds = descriptors(broker.pid);
		const sids = await handshakes(way, COUNT);
		const before = { threads: threads(broker.pid) };
		const start = performance.now();
		const polls = await park(way, broker.pid, sids, base_fds);
		const park_ms = performance.now() - start;
		const after = { threads: threads(broker.pid),
			...memory_of(broker.pid) };
		const tokens = await timed(TOKENS, () => token(way));
		const rounds = await timed(ROUNDS, async (i) => {
			const { answer } = way.ask("POST", `${POLL}&sid=${sids[i]}`,
			    { "Content-Type": "text/plain" }, "4hello");
			assert.equal((await polls[i].answer).body, "4hello");
			await answer;
		});
		return { name, polls: polls.length, threads_before: before.threads,
			threads_after: after.threads,
			bytes_per_client: Math.round((after.rss - base.rss) * 1024 /
			    polls.length),
			rss_kib: after.rss, park_ms: Math.round(park_ms),
			token_ms_before: tokens_before, token_ms: tokens,
			echo_ms: rounds };
	} finally {
		for (const part of [...site.parts].reverse())
			await part.stop_hard();
		fs.rmSync(site.dir, { recursive: true, force: true });
	}
}

for (const name of Object.keys(ways)) {
	const result = await measure(name);
	if (json) {
		console.log(JSON.stringify(result));
		continue;
	}
	if (result.skipped) {
		console.log(`polls, ${name}: ${result.skipped}`);
		continue;
	}
	const ms = ({ p50, p99 }) =>
	    `${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`;
	console.log(`polls, ${name}: ${result.polls} wait, threads ` +
	    `${result.threads_before} before and ${result.threads_after} ` +
	    `after, ${result.bytes_per_client} bytes each, ` +
	    `${result.rss_kib} KiB in all\n` +
	    `  a token:            ${ms(result.token_ms_before)} before, ` +
	    `${ms(result.token_ms)} meanwhile\n` +
	    `  POST to its answer: ${ms(result.echo_ms)}`);
}
