// SPDX-License-Identifier: MIT
// culvertctl and a broker, with tunnels that are real, and with ones that are
// played where they have to report usage, or to die.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import { BROKER, Site, builddir, relay_site, run, unix_listening,
	until }
	from "../lib/harness.mjs";
import { user_token } from "../lib/chat.mjs";
import { test } from "../lib/tap.mjs";

const CTL = path.join(builddir, "culvertctl");
const PACKETS = path.join(builddir, "tests/lib/packets");
const PRICES = `prices "gpt-realtime*" {
	input_text = "4.00"
	output_text = "16.00"
}
`;

const ctl = (site, ...args) => run([CTL, ...args], {
	env: { CULVERT_CONTROL: site.control_sock } });

async function ask(site, ...args) {
	const result = await ctl(site, "--json", ...args);
	assert.equal(result.code, 0, result.output);
	return JSON.parse(result.stdout);
}

async function fails(code, regex, result) {
	const { code: got, stdout, output } = await result;
	assert.equal(got, code, output);
	assert.match(output, regex);
	assert.equal(stdout, "");
}

// A tunnel that is played: its lease, and what it says.
async function play(site, target = "/raw") {
	const part = site.start("played", [PACKETS, site.control_sock],
	    { stdio: ["pipe"] });
	const say = (packet) => part.child.stdin.write(
	    `${JSON.stringify({ v: 1, ...packet })}\n`);
	part.may_fail = true;
	say({ type: "open", method: "GET", target,
	    headers: [["X-Forwarded-For", "127.0.0.1"],
	        ["Origin", "http://localhost"]], peer: { local: true } });
	const [line] = await part.wait_for(/^\{.*\}$/m);
	const grant = JSON.parse(line);
	assert.equal(grant.type, "grant", line);
	const totals = { client: { messages: 1, bytes: 2 },
		upstream: { messages: 3, bytes: 4 } };
	return {
		part, say, lease: grant.lease,
		report: (...events) => say({ type: "usage", ...totals, events }),
		end: (...events) => say({ type: "end", ...totals, events,
			side: "client", cause: "client_closed", code: 1000 }),
	};
}

const event = (n, input_tokens, output_tokens, more = {}) => ({ n,
	type: "response.done", id: `resp_${n}`, status: "completed",
	usage: { input_tokens, output_tokens,
	    total_tokens: input_tokens + output_tokens }, ...more });

// A site whose broker keeps a store.
async function site_with_store(t, rest = PRICES, options = {}) {
	const site = await Site.open(t);
	const db = site.file("culvert.db");
	// a grant, which the one who plays prints, has no key here
	const config = site.config({
		relays: [["/raw", 'upstream = "ws://127.0.0.1:9/"']],
		rest: `store { path = "${db}" }\n${rest}` });
	return { site, db, config, broker: await site.broker(config, options) };
}

const days = ["--from", "2000-01-01", "--to", "2999-12-31"];

// Reports arrive when they do: until they add up to this.
async function until_used(site, events) {
	for (;;) {
		const { total } = await ask(site, "usage", ...days);
		if (total.events >= events) {
			assert.equal(total.events, events);
			return total;
		}
	}
}

test("lists the tunnels that are open, and ends one", async (t) => {
	const { site, pair } = await relay_site(t);
	assert.match((await ctl(site, "sessions")).stdout, /^0 open\n$/);
	const one = await pair(), two = await pair();
	const { leases, total } = await ask(site, "sessions");
	assert.equal(total, 2);
	const table = (await ctl(site, "sessions")).stdout;
	assert.match(table, /^LEASE +ROUTE +CLIENT +SINCE +SENT +RECEIVED\n/);
	for (const { id } of leases)
		assert.match(table, new RegExp(
		    `^${id}  /raw   127.0.0.1  20..-..-..T..:..:..Z `, "m"));
	assert.match(table, /^2 open$/m);

	assert.equal((await ctl(site, "close", leases[0].id, "--code", "4005",
	    "--reason", "enough")).code, 0);
	const { code, reason } = await one.client.closed();
	assert.deepEqual({ code, reason }, { code: 4005, reason: "enough" });
	await fails(1, /there is no such lease/, ctl(site, "close", "nobody"));
	assert.deepEqual(await ask(site, "close", leases[1].id),
	    { closed: true });
	assert.equal((await two.client.closed()).code, 4001);
});

test("shows what was used, and what it cost", async (t) => {
	const { site } = await site_with_store(t, `${PRICES}prices "*" {
		input_text = "0" currency = "EUR" }\n`);
	assert.match((await ctl(site, "usage")).stdout, /^nothing was used\n$/);
	const one = await play(site), two = await play(site);
	one.report(event(1, 1000, 200), event(2, 10, 0));
	two.report(event(1, 100, 0, { status: "cancelled" }));
	one.report({ n: 3,
		type: "conversation.item.input_audio_transcription.completed",
		usage: { type: "duration", seconds: 2.5 } });
	await until_used(site, 4);

	const today = new Date().toISOString().slice(0, 10);
	const by_day = await ctl(site, "usage");
	assert.match(by_day.stdout, new RegExp("^DAY +EVENTS +TEXT IN +" +
	    "TEXT OUT +SECONDS +(COST +)?UNPRICED\n" +
	    `(${today}|\\d{4}-\\d\\d-\\d\\d) +4 +1110 +200 +2\\.5 `));
	assert.match(by_day.stdout, /^total +4 +1110 +200 +2\.5 /m);
	assert.match(by_day.stdout, /events have no price: see `prices'/);
	const report = await ask(site, "usage", "--by", "model", ...days);
	assert.deepEqual(report.rows.map((r) => [r.model, r.events]),
	    [["", 3], ["transcription", 1]]);
	assert.equal(report.omitted, 0);
	const all = await ask(site, "usage", "--by", "all", ...days);
	assert.deepEqual(Object.keys(all.rows[0]).slice(0, 4),
	    ["day", "route", "user", "model"]);
	assert.equal(all.rows[0].route, "/raw");
	// a time in which nothing was used
	const past = await ask(site, "usage", "--from", "2001-01-01",
	    "--to", "2001-12-31");
	assert.deepEqual(past.rows, []);
});

test("keeps what a tunnel reported before it died, once", async (t) => {
	const { site, broker, config } = await site_with_store(t);
	const one = await play(site);
	one.report(event(1, 1000, 0));
	one.report(event(1, 5, 5), event(2, 1, 0));
	await until_used(site, 2);
	const from = broker.output.length;
	one.part.kill("SIGKILL");
	await broker.wait_for(/lease\.end .*cause=tunnel_lost/, { from });
	assert.equal((await until_used(site, 2)).total_tokens, 1001);

	// a broker that is killed has written what it was told
	const two = await play(site);
	two.report(event(1, 20, 0));
	await until_used(site, 3);
	broker.may_fail = true;
	await broker.stop("SIGKILL");
	await site.broker(config);
	assert.equal((await until_used(site, 3)).total_tokens, 1021);
});

test("writes what waits when it is stopped", async (t) => {
	const { site, broker, config } = await site_with_store(t);
	const one = await play(site);
	for (let n = 1; n <= 40; n++)
		one.report(event(n, 1, 0));
	one.end(event(41, 1, 0));
	await broker.wait_for(/lease\.end .*cause=client_closed/);
	await broker.stop();
	await site.broker(config);
	assert.equal((await until_used(site, 41)).total_tokens, 41);
});

test("waits for a store that cannot be used", async (t) => {
	const { site, db, broker } = await site_with_store(t);
	const one = await play(site);
	one.report(event(1, 1, 0));
	await until_used(site, 1);
	// a folder in the place of the file: it cannot be used at all
	fs.renameSync(db, `${db}.away`);
	fs.mkdirSync(db);
	one.report(event(2, 1, 0));
	await broker.wait_for(/store\.away reason=/);
	await fails(1, /cannot|unable|not/, ctl(site, "usage"));
	// tunnels do not notice
	await play(site);
	fs.rmdirSync(db);
	fs.renameSync(`${db}.away`, db);
	await broker.wait_for(/store\.back/, { ms: 15000 });
	await until_used(site, 2);
});

test("writes the message log of a route that has one", async (t) => {
	const site = await Site.open(t);
	const file = site.file("messages.txt");
	const log = `message_log_file = "${file}"\nmessage_log_bytes = 4096\n`;
	const config = (mode) => site.config({ relays: [
		["/raw", `upstream = "ws://127.0.0.1:9/"\n${log}` +
		    `message_log = "${mode}"\nmessage_log_keep = 1`],
		["/quiet", 'upstream = "ws://127.0.0.1:9/"']] });
	const broker = await site.broker(config("full"));
	const one = await play(site), quiet = await play(site, "/quiet");
	const log_of = (part, n, dropped = 0) => part.say({ type: "log",
	    dropped, records: [{ at: n, from: "client", kind: "text",
	        bytes: 7, type: "a", content: { secret: n } }] });
	const lines = (suffix = "") => fs.existsSync(file + suffix) ?
	    fs.readFileSync(file + suffix, "utf8").split("\n")
	        .filter(Boolean).map((line) => JSON.parse(line)) : [];

	log_of(quiet, 1);
	log_of(one, 2);
	await until(() => lines().length === 1, "a line");
	assert.equal(fs.statSync(file).mode & 0o7777, 0o600);
	const [{ session, ...line }] = lines();
	assert.match(session, /^[0-9a-f]{32}$/);
	assert.deepEqual(line, { lease: one.lease, route: "/raw",
		client: "127.0.0.1", at: 2, from: "client", kind: "text",
		bytes: 7, type: "a", content: { secret: 2 } });

	// a reload that wants less gets less, from the tunnels that are open
	site.write("culvert.conf", config("metadata"));
	broker.kill("SIGHUP");
	await broker.wait_for(/config\.reload /);
	log_of(one, 3, 5);
	await until(() => lines().length === 3, "two more");
	assert.equal(lines()[1].dropped, 5);
	assert.equal(lines()[2].content, undefined);

	// full files are put aside
	for (let n = 4; n < 44; n++)
		log_of(one, n);
	await until(() => lines().at(-1)?.at === 43, "all");
	assert.ok(lines(".1").length > 10);
	assert.ok(fs.statSync(file).size <= 4096);
	assert.ok(fs.statSync(`${file}.1`).size <= 4096);

	// what is in the way drops lines, and says so afterwards
	fs.rmSync(file);
	fs.mkdirSync(file);
	log_of(one, 50);
	await broker.wait_for(/messages\.dropped file=/);
	fs.rmdirSync(file);
	log_of(one, 51);
	await until(() => lines().length === 2, "the missing one");
	assert.equal(lines()[0].dropped, 1);
	await broker.wait_for(/messages\.lost .*records=1/);
});

test("a broker without a store says so", async (t) => {
	const { site } = await relay_site(t);
	await fails(1, /nothing is kept: there is no `store'/,
	    ctl(site, "usage"));
});

test("a store that cannot be opened is fatal, and says why", async (t) => {
	const site = await Site.open(t);
	const db = site.file("culvert.db");
	const file = site.write("culvert.conf",
	    site.config({ rest: `store { path = "${db}" }\n` }));
	const start = () => run([BROKER, "-f", file, "--listen",
	    site.broker_sock], { env: site.env() });
	fs.mkdirSync(db);
	await fails(1, /broker\.failed reason=".*culvert\.db/, start());
	fs.rmdirSync(db);
	fs.writeFileSync(db, "not a database, and long enough to be one".repeat(99));
	await fails(1, /culvert\.db: file is not a database/, start());
	assert.ok(!unix_listening(site.broker_sock));
});

test("a path that changes waits for the restart", async (t) => {
	const { site, config, broker } = await site_with_store(t);
	site.write("culvert.conf", config.replace("culvert.db", "other.db"));
	broker.kill("SIGHUP");
	await broker.wait_for(/config\.needs_restart key=store\.path/);
	assert.ok(!fs.existsSync(site.file("other.db")));
});

test("says of each key that waits for the restart that it does", async (t) => {
	const { site, config, broker } = await site_with_store(t);
	const keys = { "tickets.rotate": "tickets { rotate = 50000 }",
		"socketio": "socketio { max_sessions = 7 }" };
	site.write("culvert.conf", config + Object.values(keys).join("\n"));
	// and once more with the next reload: it is still not so
	for (let i = 0; i < 2; i++) {
		broker.kill("SIGHUP");
		await until(() => broker.output.match(/config\.reload /g)
		    ?.length === i + 1, "it is read");
	}
	for (const key of Object.keys(keys))
		assert.equal(broker.output.split(
		    `config.needs_restart key=${key} `).length, 3, key);
	assert.ok(!broker.output.includes("key=store.path"));
});

test("says what to do where there is no broker", async (t) => {
	const site = await Site.open(t);
	await fails(1, /is the broker running/, ctl(site, "sessions"));
	const { site: served, broker } = await relay_site(t);
	broker.may_fail = true;
	await broker.stop("SIGKILL");
	await fails(1, /nobody listens .* is the broker running/,
	    ctl(served, "sessions"));
	if (process.getuid() === 0) {
		const as_nobody = await run(["setpriv", "--reuid=65534",
		    "--regid=65534", "--clear-groups", CTL, "sessions",
		    "--socket", served.control_sock]);
		assert.equal(as_nobody.code, 1);
		assert.match(as_nobody.output,
		    /permission denied for \S+: run this as root, or as/);
	}
});

test("shows what was used of the budgets of today", async (t) => {
	const site = await Site.open(t);
	const secret = crypto.randomBytes(32).toString("hex");
	await site.broker(site.config({
		relays: [["/raw", `upstream = "ws://127.0.0.1:9/"
			plan = "site"`]],
		rest: `store { path = "${site.file("culvert.db")}" }
prices "*" { input_text = "4.00" output_text = "16.00" }
users { secret = "env:USER_SECRET" plan_claim = "plan" }
plan "free" { day_tokens = 5000 day_money = "0.50" day_seconds = 600 }
plan "paid" { day_money = "5.00" }
plan "site" { day_money = "100.00" }
limits { user = "free" anonymous = "free" address = "free" }
` }), { env: { USER_SECRET: secret } });
	const ann = ["--user", "ann"];

	assert.match((await ctl(site, "budgets")).stdout,
	    /^nothing was used of today's budgets$/m);
	// her token may name a plan, which nobody knows while she is not here
	assert.deepEqual((await ask(site, "budgets", ...ann)).budgets,
	    [{ kind: "user", name: "ann", plan: "free", assumed: true,
	        tokens: { used: 0, reserved: 0, limit: 5000 },
	        money: { used: "0.000000", reserved: "0.000000",
	            limit: "0.500000" },
	        seconds: { used: 0, limit: 600 } }]);
	assert.match((await ctl(site, "budgets", ...ann)).stdout,
	    /^user +ann +free\? .*\n\?: unless the user's token names another/m);
	const token = user_token(secret, "ann", { plan: "paid" });
	const one = await play(site, `/raw?token=${token}`);
	one.say({ type: "ask", n: 1 });
	await one.part.wait_for(/"type":"answer"/);
	const reserved = await ask(site, "budgets", ...ann);
	assert.equal(reserved.budgets[0].plan, "paid");
	assert.equal(reserved.budgets[0].assumed, undefined);
	assert.equal(reserved.budgets[0].money.reserved, "0.064000");
	one.report(event(1, 1000, 200));
	await until_used(site, 1);
	const table = (await ctl(site, "budgets")).stdout;
	assert.match(table, new RegExp("^KIND +NAME +PLAN +TOKENS +RESERVED +" +
	    "LIMIT +MONEY +RESERVED +LIMIT( +SECONDS)? +LIMIT\n"));
	assert.match(table, /^address +127\.0\.0\.1 +free +1200 .* 5000 +0\.019200 .* 0\.500000 +\d+ +600$/m);
	assert.match(table, /^user +ann +paid +1200 +0\.019200 +0\.064000 +5\.000000/m);
	assert.match(table, /^route +\/raw +site +1200 +0\.019200 .* 100\.000000/m);
	assert.match(table, /^all begin anew at \d{4}-\d\d-\d\dT00:00:00Z$/m);
	for (const [option, value, name] of [["--address", "127.0.0.1"],
	    ["--address", "::ffff:127.0.0.1", "127.0.0.1"],
	    ["--route", "/raw"]]) {
		const { budgets, omitted, resets } = await ask(site, "budgets",
		    option, value);
		assert.equal(budgets.length, 1, value);
		assert.equal(budgets[0].name, name ?? value);
		assert.equal(budgets[0].tokens.used, 1200);
		assert.equal(omitted, 0);
		assert.equal(resets % 86400, 0);
	}
	const { budgets: [network] } = await ask(site, "budgets", "--address",
	    "2001:db8:1:2:3::4");
	assert.equal(network.name, "2001:db8:1:2::/64");
	assert.equal(network.tokens.limit, 5000);
	assert.deepEqual((await ask(site, "budgets", "--address",
	    network.name)).budgets, [network]);
	assert.equal((await ask(site, "budgets", "--visitor", "my-id"))
	    .budgets[0].plan, "free");
	for (const wrong of ["localhost", "::1/640", "2001:db8::/64/64"])
		await fails(1, /this is not an address/, ctl(site, "budgets",
		    "--address", wrong));
	// a token is no name of anybody
	assert.ok(!table.includes(token.slice(-20)));
});

const CHAT = `chat {
	url = "http://127.0.0.1:9/v1/chat/completions"
	models = {gpt-test}
	balance = true
}
users { secret = "env:USER_SECRET" }
prices "gpt-test" { input_text = "1.00" output_text = "2.00" currency = "EUR" }
`;
const account = (balance, more = {}) => ({ user: "ann", balance,
	balance_micro: Math.round(balance * 1e6), reserved: "0.000000",
	reserved_micro: 0, currency: "EUR", ...more });

test("adds to a balance, once for each id", async (t) => {
	const options = { env: {
		USER_SECRET: crypto.randomBytes(32).toString("hex") } };
	const { site, broker, config } = await site_with_store(t, CHAT, options);
	assert.deepEqual(await ask(site, "balance", "ann"),
	    account("0.000000"));
	const { id, ...first } = await ask(site, "topup", "ann", "5.00");
	assert.deepEqual(first, account("5.000000"));
	assert.match(id, /^[0-9a-f]{32}$/);
	await broker.wait_for(new RegExp(
	    `account\\.top_up id=${id} amount=5\\.00`));
	// a retry is no second one, by whatever broker, and no other one
	broker.may_fail = true;
	await broker.stop("SIGKILL");
	await site.broker(config, options);
	assert.deepEqual(await ask(site, "topup", "ann", "5", "--id", id),
	    account("5.000000", { id }));
	await fails(1, /this id was used for another top-up/,
	    ctl(site, "topup", "ann", "6", "--id", id));
	await fails(1, /this id was used for another top-up/,
	    ctl(site, "topup", "bob", "5", "--id", id));
	// below 0 it is taken back, and no more than there is
	assert.deepEqual(await ask(site, "topup", "ann", "-1.5", "--id", "b"),
	    account("3.500000", { id: "b" }));
	assert.deepEqual(await ask(site, "topup", "--id", "c", "ann", "--",
	    "-0.000001"), account("3.499999", { id: "c" }));
	// what is refused for good was not booked
	await fails(1, /^culvertctl: less than that is there[^\n]*\n$/,
	    ctl(site, "topup", "ann", "-3.5"));
	await fails(1, /^culvertctl: an amount is at most a million[^\n]*\n$/,
	    ctl(site, "topup", "ann", "1000001"));
	const table = await ctl(site, "balance", "ann");
	assert.match(table.stdout, /^USER +BALANCE +RESERVED +CURRENCY\n/);
	assert.match(table.stdout, /^ann +3\.499999 +0\.000000 +EUR$/m);
	// whoever it is: a name is a name
	const odd = "Ann O'Hara; DROP TABLE account -- \u00e4";
	assert.equal((await ask(site, "topup", odd, "1")).user, odd);
	assert.equal((await ask(site, "balance", odd)).balance, "1.000000");
	assert.equal((await ask(site, "balance", "Ann")).balance, "0.000000");
});

test("adds to no balance where no store keeps it", async (t) => {
	const site = await Site.open(t);
	const none = path.join(site.dir, "none.sock");
	await fails(1, /is the broker running.*--id [0-9a-f]{32}/ms,
	    run([CTL, "--socket", none, "topup", "ann", "1"]));
	await site.broker(site.config({
		relays: [["/raw", 'upstream = "ws://127.0.0.1:9/"']] }));
	await fails(1, /there is no `store'/, ctl(site, "topup", "ann", "1"));
	await fails(1, /there is no `store'/, ctl(site, "balance", "ann"));
});

test("explains itself", async (t) => {
	const site = await Site.open(t);
	const help = await ctl(site, "--help");
	assert.equal(help.code, 0);
	for (const word of ["sessions", "close LEASE", "usage", "--json",
		"topup USER AMOUNT", "balance USER"])
		assert.ok(help.stdout.includes(word), word);
	// of one command, its own
	for (const args of [["budgets", "--help"], ["--help", "budgets"]]) {
		const { code, stdout } = await ctl(site, ...args);
		assert.equal(code, 0);
		assert.match(stdout, /^  budgets \[--user NAME/m);
		assert.match(stdout, /^  --json /m);
		assert.ok(!stdout.includes("sessions"), stdout);
	}
	assert.match((await ctl(site, "--version")).stdout, /^culvertctl \d/);
	const wrong = [[], ["nonsense"], ["sessions", "x"], ["close"],
		["close", "a", "b"], ["close", "a", "--code", "1005"],
		["close", "a", "--code", "x"], ["--nonsense"],
		["close", "a", "--reason", "x".repeat(124)],
		["usage", "--by", "hour"], ["usage", "--from", "yesterday"],
		["usage", "--from", "2026-02-30"], ["usage", "x"],
		["usage", "--from", "2026-02-02", "--to", "2026-02-01"],
		["sessions", "--by", "day"], ["usage", "--code", "4000"],
		["topup"], ["topup", "ann"], ["topup", "-5"], ["topup", "ann",
		"5", "6"], ["topup", "ann", "5", "-6"], ["topup", "ann", "0"],
		["topup", "ann", "-5x"], ["topup", "ann", "5,00"],
		["topup", "ann", "1e3"], ["topup", "ann", "0.0000001"],
		["topup", "ann", "5", "--id", "a b"], ["topup", "ann", "5",
		"--id", ""], ["balance"], ["balance", "a", "b"],
		["balance", "ann", "--id", "x"], ["balance", "ann", "-5"],
		["budgets", "ann"], ["budgets", "--user", "a", "--route", "b"],
		["budgets", "--user", ""], ["sessions", "--user", "ann"],
		["nonsense", "--help"]];
	for (const args of wrong)
		await fails(2, /see culvertctl --help$/m, ctl(site, ...args));
});
