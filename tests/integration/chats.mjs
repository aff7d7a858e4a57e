// SPDX-License-Identifier: MIT
// The management of chats as clients meet it: plain JSON over the FastCGI
// socket, and Socket.IO's /chats by polling and by WebSocket; who sees what,
// and what all sockets of an owner are told.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import * as fcgi from "../lib/fcgi.mjs";
import { Site, builddir, needs, run, srcdir, table } from "../lib/harness.mjs";
import { frame, OP } from "../lib/rawws.mjs";
import { test } from "../lib/tap.mjs";

const JSON_TYPE = { "Content-Type": "application/json" };
const POLL = "/socket.io/?EIO=4&transport=polling";
const SOCKET = "/socket.io/?EIO=4&transport=websocket";

const base64url = (value) =>
	Buffer.from(JSON.stringify(value)).toString("base64url");

function jwt(secret, claims) {
	const input = `${base64url({ alg: "HS256", typ: "JWT" })}.` +
	    base64url({ exp: Math.floor(Date.now() / 1000) + 600, ...claims });
	return `${input}.${crypto.createHmac("sha256", secret).update(input)
	    .digest("base64url")}`;
}

async function open(t, more = "", chat = "balance = false",
    socketio = "") {
	const site = await Site.open(t);
	site.user_secret = site.canary("users' secret");
	await site.broker(site.config({ rest: `
store { path = "${site.file("culvert.db")}" }
prices "m" { input_text = "1" output_text = "2" }
chat {
	url = "http://127.0.0.1:1"
	models = {m}
	${chat}
	${more}
}
users { secret = "env:USER_SECRET" }
socketio { recovery_ms = 0 ${socketio} }
` }), { env: { USER_SECRET: site.user_secret } });
	return site;
}

const user = (site, name) =>
	({ Authorization: `Bearer ${jwt(site.user_secret, { sub: name })}` });
const visitor = (id) => ({ "x-anon-id": id });

async function ask(site, who, method, path, body) {
	const answer = await fcgi.request(site.broker_sock, method, path, {
		headers: { ...who, ...body === undefined ? {} : JSON_TYPE },
		body: body === undefined ? undefined : JSON.stringify(body),
	});
	return answer;
}

async function get(site, who, method, path, body, status = 200) {
	const answer = await ask(site, who, method, path, body);
	assert.equal(answer.status, status, `${method} ${path}: ${answer.body}`);
	return answer.json;
}

// ---- Socket.IO -----------------------------------------------------------

// By polling; events() waits for the next packets of the namespace.
class Polling {
	static async connect(site, auth, headers = {}) {
		const it = new Polling();
		it.site = site;
		it.headers = headers;
		it.waiting = [];
		const answer = await fcgi.request(site.broker_sock, "GET", POLL,
		    { headers });
		it.target = `${POLL}&sid=${JSON.parse(answer.body.slice(1)).sid}`;
		await it.say(`40/chats,${auth === undefined ? "" :
		    JSON.stringify(auth)}`);
		it.first = await it.next();
		return it;
	}

	async say(packet) {
		const answer = await fcgi.request(this.site.broker_sock, "POST",
		    this.target, { body: packet,
			headers: { "Content-Type": "text/plain;charset=UTF-8" } });
		assert.equal(answer.body, "ok");
	}

	// The next packet that is no ping.
	async next() {
		while (this.waiting.length === 0) {
			const answer = await fcgi.request(this.site.broker_sock,
			    "GET", this.target);
			assert.equal(answer.status, 200, answer.body);
			this.waiting = answer.body.split("\x1e")
			    .filter((packet) => packet !== "2");
		}
		return this.waiting.shift();
	}

	// The next event: [name, data].
	async event() {
		const packet = await this.next();
		assert.match(packet, /^42\/chats,/);
		return JSON.parse(packet.slice("42/chats,".length));
	}

	emit(name, data, id = "") {
		return this.say(`42/chats,${id}${JSON.stringify([name, data])}`);
	}
}

// ---- plain JSON ----------------------------------------------------------

test("a user makes, lists, renames and deletes chats", async (t) => {
	const site = await open(t);
	const ann = user(site, "ann");
	const { chat } = await get(site, ann, "POST", "/api/v1/chats",
	    { title: "Café" }, 201);

	assert.match(chat.id, /^[0-9a-f]{32}$/);
	assert.match(chat.created_at, /^20\d\d-\d\d-\d\dT[\d:]{8}\.\d{3}Z$/);
	assert.deepEqual([chat.title, chat.message_count], ["Café", 0]);
	assert.deepEqual(await get(site, ann, "GET", "/api/v1/chats?limit=5"),
	    { chats: [chat], page: 0, limit: 5, total: 1 });
	const renamed = await get(site, ann, "PATCH",
	    `/api/v1/chats/${chat.id}`, { title: "Tea" });
	assert.equal(renamed.chat.title, "Tea");
	assert.deepEqual(await get(site, ann, "GET",
	    `/api/v1/chats/${chat.id}/messages`),
	    { chat_id: chat.id, messages: [], page: 0, limit: 50, total: 0 });
	assert.deepEqual(await get(site, ann, "DELETE",
	    `/api/v1/chats/${chat.id}`), { chat_id: chat.id });
	await get(site, ann, "DELETE", `/api/v1/chats/${chat.id}`, undefined,
	    404);
	assert.deepEqual(await get(site, ann, "GET", "/api/v1/usage"),
	    { kind: "user", user: "ann" });
});

test("nobody finds the chats of another", async (t) => {
	const site = await open(t);
	const { chat } = await get(site, user(site, "visitor-1"), "POST",
	    "/api/v1/chats", {}, 201);
	// a visitor of the user's name is somebody else, too
	for (const who of [user(site, "bob"), visitor("visitor-1"), {}]) {
		const path = `/api/v1/chats/${chat.id}`;
		assert.equal((await get(site, who, "GET", "/api/v1/chats"))
		    .total, 0);
		await get(site, who, "GET", `${path}/messages`, undefined, 404);
		await get(site, who, "PATCH", path, { title: "x" }, 404);
		await get(site, who, "DELETE", path, undefined, 404);
	}
});

test("a visitor is given an id, and is who shows it", async (t) => {
	const site = await open(t, "anonymous { messages = 3 window = 60 }");
	const made = await ask(site, {}, "POST", "/api/v1/chats", {});
	const id = made.get("x-anon-id");

	assert.equal(made.status, 201);
	assert.match(id, /^[0-9a-f]{32}$/);
	assert.equal((await get(site, visitor(id), "GET", "/api/v1/chats"))
	    .total, 1);
	assert.deepEqual(await get(site, visitor(id), "GET", "/api/v1/usage"),
	    { kind: "anonymous", anon_id: id, used: 0, limit: 3, remaining: 3,
		window_s: 60, resets_at: null });
});

test("who is not who it says is refused", async (t) => {
	const site = await open(t);
	const other = "another secret, which the site never had";
	const rows = [
		["another secret", { Authorization:
		    `Bearer ${jwt(other, { sub: "ann" })}` }, 401],
		["expired", { Authorization:
		    `Bearer ${jwt(site.user_secret, { sub: "ann", exp: 1 })}` },
		    401],
		["the seed's placeholder", { Authorization:
		    "Bearer your-token", "x-anon-id": "anonymous-id" }, 401],
		["a bad id", visitor("<script>"), 400],
		["a cookie alone is nobody's", { Cookie: "culvert_chat=x" },
		    200],
	];

	await table(rows, async (name, who, status) => {
		const answer = await ask(site, who, "GET", "/api/v1/usage");
		assert.equal(answer.status, status, answer.body);
		if (status === 401)
			assert.match(answer.get("www-authenticate"),
			    /^Bearer error="invalid_token", error_description=/);
	});
});

test("a page of another origin may use all of it", async (t) => {
	const site = await open(t);
	const answer = await fcgi.request(site.broker_sock, "OPTIONS",
	    "/api/v1/chats/0a", { headers: { Origin: "http://localhost",
		"Access-Control-Request-Method": "PATCH",
		"Access-Control-Request-Headers": "content-type,x-anon-id" } });

	assert.equal(answer.status, 204);
	assert.match(answer.get("access-control-allow-methods"),
	    /PATCH, DELETE/);
	assert.match(answer.get("access-control-allow-headers"), /x-anon-id/i);
});

// ---- Socket.IO -----------------------------------------------------------

test("a socket is told what is left, and answered by events", async (t) => {
	const site = await open(t);
	const token = jwt(site.user_secret, { sub: "ann" });
	const socket = await Polling.connect(site, { token });

	assert.match(socket.first, /^40\/chats,\{"sid":"[\w-]{20}"\}$/);
	assert.deepEqual(await socket.event(),
	    ["usage_info", { kind: "user", user: "ann" }]);
	await socket.emit("list_chats", { page: 0, limit: 20 });
	assert.deepEqual(await socket.event(), ["chats_list",
	    { chats: [], page: 0, limit: 20, total: 0 }]);
	await socket.emit("list_messages", { chat_id: "none" }, 4);
	assert.match(await socket.next(),
	    /^43\/chats,4\[\{"error":\{"code":"not_found",/);
	const [name, error] = await socket.event();
	assert.equal(name, "assistant_error");
	assert.deepEqual([error.code, error.event],
	    ["not_found", "list_messages"]);
});

test("a visitor keeps the id that its socket was told", async (t) => {
	const site = await open(t);
	const socket = await Polling.connect(site);
	const [, { anon_id }] = await socket.event();
	const { chat } = await get(site, visitor(anon_id), "POST",
	    "/api/v1/chats", {}, 201);

	assert.deepEqual(await socket.event(), ["chat_created", { chat }]);
	const again = await Polling.connect(site, { anon_id });
	assert.equal((await again.event())[1].anon_id, anon_id);
	const by_header = await Polling.connect(site, {}, visitor(anon_id));
	assert.equal((await by_header.event())[1].anon_id, anon_id);
});

test("a bad token connects nobody", async (t) => {
	const site = await open(t);
	const socket = await Polling.connect(site, { token: "your-jwt-token" });

	assert.match(socket.first, /^44\/chats,\{"message":".*",/);
	assert.match(socket.first, /"data":\{"code":"unauthorized"\}\}$/);
});

test("what one socket changes all of the owner's are told", async (t) => {
	const site = await open(t);
	const token = jwt(site.user_secret, { sub: "ann" });
	const polling = await Polling.connect(site, { token });
	await polling.event();
	await site.tunnel();
	const ws = await site.connect(site.direct(), SOCKET);
	const text = async () => (await ws.message()).payload.toString();
	assert.match(await text(), /^0\{/);
	await ws.write(frame(OP.text, `40/chats,${JSON.stringify({ token })}`));
	assert.match(await text(), /^40\/chats,/);
	assert.match(await text(), /^42\/chats,\["usage_info",/);

	await ws.write(frame(OP.text,
	    '42/chats,0["create_chat",{"title":"Of the socket"}]'));
	const created = await text();
	assert.match(created, /^42\/chats,\["chat_created",/);
	const event = JSON.parse(created.slice("42/chats,".length));
	assert.deepEqual(await polling.event(), event);
	assert.deepEqual(JSON.parse((await text()).slice("43/chats,0".length)),
	    [event[1]]);
	const { id } = event[1].chat;
	await get(site, user(site, "ann"), "DELETE", `/api/v1/chats/${id}`);
	assert.deepEqual(await polling.event(),
	    ["chat_deleted", { chat_id: id }]);
	assert.match(await text(), /^42\/chats,\["chat_deleted",/);
});

test("who does not read holds up nobody else, and is not waited for",
    async (t) => {
	const site = await open(t, "", "balance = false",
	    "max_payload = 100000");
	const broker = site.parts.find(({ name }) => name === "broker");
	const token = jwt(site.user_secret, { sub: "ann" });
	await site.tunnel();
	const text = async (ws) => (await ws.message()).payload.toString();
	const sockets = [];
	for (let i = 0; i < 10; i++) {
		const ws = await site.connect(site.direct(), SOCKET);
		assert.match(await text(ws), /^0\{/);
		await ws.write(frame(OP.text,
		    `40/chats,${JSON.stringify({ token })}`));
		assert.match(await text(ws), /^40\/chats,/);
		assert.match(await text(ws), /^42\/chats,\["usage_info",/);
		sockets.push(ws);
	}
	sockets.pop().stall();
	await (await Polling.connect(site, { token })).event();

	const ann = user(site, "ann");
	const { chat } = await get(site, ann, "POST", "/api/v1/chats",
	    { title: "x" }, 201);
	const rename = (title) => get(site, ann, "PATCH",
	    `/api/v1/chats/${chat.id}`, { title });
	const all = Promise.all(sockets.map(async (ws) => {
		assert.match(await text(ws), /"chat_created"/);
		const seen = [];
		while (seen.at(-1) !== "last") {
			const [name, data] = JSON.parse(
			    (await text(ws)).slice("42/chats,".length));
			assert.equal(name, "chat_updated");
			seen.push(data.chat.title);
		}
		return seen;
	}));
	// until both are given up: what waits for anybody has a bound
	const given_up = () => broker.output.match(/ eio\.close /g)?.length;
	let renamed = 0;
	for (; given_up() !== 2; renamed += 8) {
		assert.ok(renamed < 20000, `${given_up()} given up`);
		await Promise.all(Array.from({ length: 8 }, (_, i) =>
		    rename(`${renamed + i} `.padEnd(256, "x"))));
	}
	await rename("last");
	const [first, ...others] = await all;
	assert.equal(first.length, renamed + 1);
	for (const seen of others)
		assert.deepEqual(seen, first);
	t.diag(`${renamed} events`);
}, { timeout: 120000 });

test("a socket is told of a top-up at once", async (t) => {
	const site = await open(t, "", "balance = true");
	const token = jwt(site.user_secret, { sub: "ann" });
	const socket = await Polling.connect(site, { token });
	assert.equal((await socket.event())[1].balance, "0.000000");
	const { code, output } = await run([path.join(builddir, "culvertctl"),
		"--socket", site.control_sock, "topup", "ann", "4.5"]);

	assert.equal(code, 0, output);
	assert.deepEqual(await socket.event(), ["usage_info", { kind: "user",
		user: "ann", balance: "4.500000", balance_micro: 4500000,
		reserved_micro: 0, currency: "USD" }]);
});

// ---- the manual ----------------------------------------------------------

const manual = fs.readFileSync(path.join(srcdir, "docs/chat.md"), "utf8");
const blocks = (language) => [...manual.matchAll(
    new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, "gms"))].map((m) => m[1]);

async function open_manual(t) {
	const site = await Site.open(t);
	const sim = await site.sim();
	await site.broker(site.config({ rest: `
store { path = "${site.file("culvert.db")}" }
chat {
	url = "http://127.0.0.1:${sim.ws_port}/v1"
	api_key = "env:OPENAI_API_KEY"
	models = {m}
}
` }));
	const front = await site.front("lighttpd");
	return `http://127.0.0.1:${front.where.port}`;
}

test("the manual's lines for the shell work as they stand", async (t) => {
	const base = await open_manual(t);
	const lines = blocks("sh").flatMap((block) =>
	    block.replaceAll("\\\n", " ").split("\n").filter(Boolean));
	const answers = [];

	for (const line of lines) {
		assert.match(line, /^curl .*http:\/\/127\.0\.0\.1:8080\//);
		const { code, stdout, output } = await run(["sh", "-c",
		    line.replace("http://127.0.0.1:8080", base)
		    .replace("curl ", "curl -sS -f -m 20 ")]);
		assert.equal(code, 0, `${line}: ${output}`);
		answers.push(stdout);
	}
	assert.match(answers[0], /^event: assistant_complete$/m);
	assert.equal(JSON.parse(answers.at(-3)).total, 1);
	assert.equal(JSON.parse(answers.at(-2)).chat.title, "Recipes");
	assert.equal(JSON.parse(answers.at(-1)).used, 1);
}, { skip: needs("lighttpd", "curl") });

test("the manual's sendMessage works as it stands", async (t) => {
	const base = await open_manual(t);
	const [code] = blocks("js");
	const lines = [];
	const run_it = new Function("fetch", "console",
	    code.replace("sendMessage({ content", "return sendMessage({ content"));

	await run_it((target, options) => fetch(base + target, options),
	    { log: (...words) => lines.push(words), error: assert.fail });
	assert.equal(lines[0][0], "in chat");
	assert.equal(lines.at(-1)[0], "left:");
	// the deltas are the answer
	assert.equal(lines.slice(1, -2).flat().join(""), lines.at(-2)[0]);
}, { skip: needs("lighttpd") });
