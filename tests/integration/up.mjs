// SPDX-License-Identifier: MIT
// deploy/up: serves, says what is wrong, and leaves nothing behind.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";

import { Site, builddir, descendants_of, is_running, needs, run, srcdir, until }
	from "../lib/harness.mjs";
import { skip_all, test } from "../lib/tap.mjs";

const missing = needs("lighttpd", "curl", "openssl");
if (missing)
	skip_all(missing);

const UP = path.join(srcdir, "deploy/up");

// Start it in a folder of the test's own: {site, up, port, pids}.
async function bring_up(t, args = ["--port", "0"], site = null) {
	site ??= await Site.open(t);
	const up = site.start("deploy/up", [UP, "--use-build", builddir,
	    ...args], { env: { XDG_RUNTIME_DIR: site.dir } });
	const [, port] = await up.wait_for(
	    /^ready: http:\/\/127\.0\.0\.1:(\d+)\/ /m, { ms: 20000 });
	return { site, up, port: Number(port), pids: descendants_of(up.pid) };
}

const folders = (site) => fs.readdirSync(site.dir)
    .filter((name) => name.startsWith("culvert-up"));

const all_gone = (pids) => until(() => !pids.some(is_running),
    "everything that was started is gone");

function pid_of(pids, program) {
	return pids.find((pid) => fs.readFileSync(`/proc/${pid}/cmdline`,
	    "latin1").split("\0")[0].endsWith(program));
}

async function talk(site, port, more = "") {
	const client = await site.connect({ where: { port },
	    headers: { Host: `localhost:${port}` } },
	    `/v1/realtime?model=gpt-realtime${more}`);
	const message = await client.message();
	assert.equal(JSON.parse(message.payload.toString()).type,
	    "session.created");
	await client.send_close(1000);
	assert.equal((await client.closed()).code, 1000);
}

test("serves the page, a token and a conversation, then stops", async (t) => {
	const { site, up, port, pids } = await bring_up(t);
	const base = `http://127.0.0.1:${port}`;

	assert.match(await (await fetch(`${base}/`)).text(), /<title>culvert/);
	const answer = await fetch(`${base}/api/livekit/token`, {
		method: "POST", body: "{}",
		headers: { "Content-Type": "application/json" },
	});
	assert.equal(answer.status, 201);
	await talk(site, port);
	const refused = await fetch(`${base}/api/livekit/token`, {
		method: "POST", body: "{}",
		headers: { "Content-Type": "application/json",
		    "Origin": "https://evil.example" },
	});
	assert.equal(refused.status, 403);
	await up.wait_for(/request\.denied .*origin=https:\/\/evil\.example /);
	assert.ok(pids.length >= 4, "four parts");
	assert.equal(fs.statSync(site.file(folders(site)[0])).mode & 0o777,
	    0o700);

	const status = await up.stop("SIGINT");
	assert.equal(status.code, 0);
	await all_gone(pids);
	assert.deepEqual(folders(site), []);
}, { timeout: 60000 });

test("has a user, who gets a ticket until that is revoked", async (t) => {
	const { up, port } = await bring_up(t);
	const [, token] = await up.wait_for(/Bearer ([\w-]+\.[\w-]+\.[\w-]+)/);
	const [, revoke] = await up.wait_for(/^ +(\S+culvertctl .* revoke user demo)$/m);
	const ask = () => fetch(`http://127.0.0.1:${port}/api/tickets`, {
		method: "POST", body: '{"route":"openai"}',
		headers: { "Content-Type": "application/json",
		    "Authorization": `Bearer ${token}` },
	});

	const given = await ask();
	assert.equal(given.status, 200);
	assert.match((await given.json()).url, /^\/v1\/realtime\?ticket=ek_/);
	execFileSync(revoke.split(" ")[0], revoke.split(" ").slice(1));
	const refused = await ask();
	assert.equal(refused.status, 401);
	assert.match((await refused.json()).error.message, /revoked/);
}, { timeout: 60000 });

// The seed's clients are a browser's or a game's: they send what they always
// sent, and nothing but host and port is another.
test("serves seed 004's page and seed 003's client as they stand", async (t) => {
	const { site, up, port } = await bring_up(t);
	const connect = (target) => site.connect({ where: { port },
	    headers: { Host: `localhost:${port}`,
	        Origin: `http://localhost:${port}` } }, target);
	const until_type = async (client, type) => {
		for (;;) {
			const event = JSON.parse((await client.message()).payload);
			assert.notEqual(event.type, "error", JSON.stringify(event));
			if (event.type === type)
				return event;
		}
	};
	const page = await connect(
	    "/?model=gpt-4o-realtime-preview-2024-12-17");
	for (const event of [
		{ type: "session.update", session: { modalities: ["text"],
		    instructions: "Be brief.", voice: "alloy" } },
		{ type: "conversation.item.create", item: { type: "message",
		    role: "user", content: [{ type: "input_text",
		        text: "Hello" }] } },
		{ type: "response.create" },
	])
		page.send_text(JSON.stringify(event));
	await until_type(page, "session.updated");
	const { text } = await until_type(page, "response.text.done");
	assert.equal(text, "You said: Hello");
	await page.send_close(1000);

	const game = await connect("/ws");
	game.send_text("Your message here");
	const { response } = await until_type(game, "response.done");
	assert.equal(response.output[0].content[0].text,
	    "You said: Your message here");
	await game.send_close(1000);

	const base = `http://127.0.0.1:${port}/v1/realtime`;
	const key = await fetch(`${base}/client_secrets`, { method: "POST",
	    headers: { "Content-Type": "application/json" },
	    body: '{"session":{"type":"realtime"}}' });
	assert.equal(key.status, 200);
	const { value } = await key.json();
	await talk(site, port, `&ticket=${value}`);
	assert.equal((await up.stop("SIGINT")).code, 0);
}, { timeout: 60000 });

test("serves the chat, by the lines that it prints", async (t) => {
	const { up } = await bring_up(t);
	const [, line] = await up.wait_for(/^ *(curl -N .*\/messages\/send)$/m);
	const [, option] = await up.wait_for(/^ *(-H 'Authorization: .*')$/m);
	await up.wait_for(/^Ctrl-C/m);
	const shell = async (text) => {
		const { code, stdout } = await run(["/bin/sh", "-c", text]);
		assert.equal(code, 0, stdout);
		const data = (event) => JSON.parse(new RegExp(
		    `^event: ${event}\\ndata: (.*)$`, "m").exec(stdout)[1]);
		assert.match(data("assistant_complete").message.content,
		    /You said: Hello$/);
		return data("usage_info");
	};
	const visitor = await shell(line);
	assert.equal(visitor.kind, "anonymous");
	assert.equal(visitor.used, 1);
	const user = await shell(`${line} ${option}`);
	assert.equal(user.user, "demo");
	assert.ok(user.balance_micro > 4900000 && user.balance_micro < 5000000,
	    "5.00 less one answer");
	const [, top_up] = await up.wait_for(/^ *(\S*culvertctl .*)$/m);
	const topped = await run(["/bin/sh", "-c", top_up]);
	assert.match(topped.stdout, /^demo +5\.99/m);
	// what the operator has to mend is told without --verbose
	await run(["/bin/sh", "-c", line.replace("Hello", "/sim 401")]);
	await up.wait_for(/chat\.key_refused /);
	assert.equal((await up.stop("SIGINT")).code, 0);
}, { timeout: 60000 });

test("runs beside another one", async (t) => {
	const one = await bring_up(t);
	const two = await bring_up(t, ["--port", "0", "--tls-port", "0"],
	    one.site);

	assert.notEqual(one.port, two.port);
	await two.up.wait_for(/https:\/\/localhost:\d+\//);
	assert.equal((await one.up.stop()).code, 0);
	await talk(two.site, two.port);
	assert.equal((await two.up.stop()).code, 0);
	assert.deepEqual(folders(one.site), []);
}, { timeout: 60000 });

test("says which part ended, and stops the others", async (t) => {
	const { site, up, pids } = await bring_up(t);

	up.may_fail = true;
	process.kill(pid_of(pids, "culvert-broker"), "SIGKILL");
	const status = await up.exited;
	assert.equal(status.code, 1);
	assert.match(up.output, /broker ended by itself/);
	await all_gone(pids);
	assert.deepEqual(folders(site), []);
}, { timeout: 60000 });

test("takes its parts along when it is killed itself", async (t) => {
	const { up, pids } = await bring_up(t);

	up.may_fail = true;
	up.kill("SIGKILL");
	await up.gone;
	await all_gone(pids);
}, { timeout: 60000 });

test("says that a port is in use, and how to choose another", async (t) => {
	const site = await Site.open(t);
	const server = net.createServer();
	await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
	t.after(() => server.close());
	const { port } = server.address();
	const result = await run([UP, "--use-build", builddir, "--port",
	    String(port)], { env: { XDG_RUNTIME_DIR: site.dir } });

	assert.equal(result.code, 1);
	assert.match(result.output, new RegExp(
	    `port ${port} is in use; choose another with --port N`));
	assert.deepEqual(folders(site), []);
});

test("wants all of LiveKit's settings or none", async (t) => {
	const site = await Site.open(t);
	const result = await run([UP, "--use-build", builddir, "--port", "0"],
	    { env: { XDG_RUNTIME_DIR: site.dir, LIVEKIT_API_KEY: "x" } });

	assert.equal(result.code, 1);
	assert.match(result.output, /set all of LIVEKIT_URL, /);
});
