// SPDX-License-Identifier: MIT
// Bad input over HTTP, in tables: parameters, bodies, tokens, streams.  Every
// row says the right answer; what else has to hold is in lib/hostile.mjs.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import fs from "node:fs";

import { SIM, needs } from "../lib/harness.mjs";
import * as fcgi from "../lib/fcgi.mjs";
import { ANAM, INJECTED, LIVEKIT, SECRETS, SEND, TICKETS, Target, bystander }
	from "../lib/hostile.mjs";
import { NAMES } from "../lib/servers.mjs";
import { skip_all, test } from "../lib/tap.mjs";

if (!fs.existsSync(SIM))
	skip_all("the simulator is not built; run deploy/check");

// What takes a body, and a good one for it.
const TAKERS = [
	["livekit", LIVEKIT, '{"room_name":"lobby"}'],
	["keys", SECRETS, "{}"],
	["chat", SEND, '{"content":"x"}'],
	["anam", ANAM, '{"personaId":"persona-1"}'],
	["tickets", TICKETS, '{"route":"/raw"}'],
];
const each = (fn) => TAKERS.flatMap(([name, target, good]) =>
    fn(target, good).map(([what, ...row]) => [`${name}: ${what}`, ...row]));

// An error of ours says so in JSON; the chat's also as an event.
const is_json = (answer) => assert.ok(answer.json !== undefined ||
    /^event: assistant_error\ndata: \{.*\}\n\n$/.test(answer.body),
    `a JSON body, not ${answer.body}`);

// ---- A: parameters ----

const lengths = [["none", ""], ["negative", "-1"], ["with a letter", "12x"],
    ["hexadecimal", "0x10"], ["with a sign", "+5"], ["with a blank", " 5"],
    ["two", "5,5"], ["2^63", "9223372036854775808"],
    ["2^64 + 10", "18446744073709551626"], ["a NUL", "\0"]];

const A_FCGI = [
	...each((target, body) => lengths.map(([what, length]) =>
	    [`length: ${what}`, (o) => o.fcgi("POST", target,
	        { body, env: { CONTENT_LENGTH: length } }), [400, 413], is_json])),
	...each((target, body) => [
		["a shorter body than said", (o) => o.fcgi("POST", target,
		    { body, env: { CONTENT_LENGTH: "100" } }), 400, is_json],
		["HTTP_PROXY and a bad address", (o) => o.fcgi("POST", target,
		    { body, headers: { Proxy: `http://${o.bait}` },
			env: { REMOTE_ADDR: "192.0.2.1" } }), 403, is_json],
		["another address forged", (o) => o.fcgi("POST", target, { body,
		    headers: { "X-Forwarded-For": "127.0.0.1",
			"X-Real-IP": "127.0.0.1", Forwarded: "for=127.0.0.1",
			Remote_Addr: "127.0.0.1" },
		    env: { REMOTE_ADDR: "192.0.2.1" } }), 403, is_json],
		["no address", (o) => o.fcgi("POST", target,
		    { body, env: { REMOTE_ADDR: "" } }), 403, is_json],
		["an address that is none", (o) => o.fcgi("POST", target,
		    { body, env: { REMOTE_ADDR: "127.0.0.1.evil" } }),
		    [400, 403], is_json],
		["CR LF in a header", (o) => o.fcgi("POST", target, { body,
		    headers: { Origin: `http://localhost\r\n${INJECTED}: 1` } }),
		    [400, 403], is_json],
		// libfcgi hands on what stands before a NUL
		["NUL in a header", (o) => o.fcgi("POST", target, { body,
		    headers: { Origin: "https://evil.example\0localhost" } }),
		    403, is_json],
		["CR LF in the query", (o) => o.fcgi("POST",
		    `${target}?x=${o.bait}\r\n${INJECTED}: 1`, { body }), 400],
	]),
];

const A = [
	...each((target, body) => [
		["GET", (o) => o.http("GET", target), [405, 204],
		    (a) => assert.ok(a.status !== 405 ||
		        /POST/.test(a.get("allow")))],
		["PUT", (o) => o.http("PUT", target, { body }), 405,
		    (a) => assert.match(a.get("allow") ?? "", /POST/)],
		["DELETE", (o) => o.http("DELETE", target), 405,
		    (a) => assert.match(a.get("allow") ?? "", /POST/)],
		["a form", (o) => o.http("POST", target, { body, headers:
		    { "Content-Type": "application/x-www-form-urlencoded" } }),
		    [415, 400]],
		["XML", (o) => o.http("POST", target, { body,
		    headers: { "Content-Type": "text/xml" } }), 415],
		["JSON's name in another", (o) => o.http("POST", target, { body,
		    headers: { "Content-Type":
			"text/xml; x=application/json" } }), 415],
		["a longer path", (o) => o.http("POST", `${target}/longer`,
		    { body }), 404],
		["a foreign page", (o) => o.http("POST", target, { body,
		    headers: { Origin: "https://evil.example" } }), 403],
		["the origin null", (o) => o.http("POST", target, { body,
		    headers: { Origin: "null" } }), 403],
		["an origin that begins as ours", (o) => o.http("POST", target,
		    { body, headers: { Origin: "http://localhost.evil.example" } }),
		    403],
		["a body over the maximum", (o) => o.http("POST", target, {
		    body: `{"x":"${"x".repeat(1 << 20)}"}` }), 413],
	]),
	["an unknown path", (o) => o.http("GET", "/api/nothing"), 404],
	["a script in the path", (o) => o.http("GET",
	    `/api/<script>${"x"}`), [400, 404], (a) =>
	    assert.ok(!a.body.includes("<script>"))],
	["CR LF in the path", (o) => o.http("GET",
	    `/api/x%0d%0a${INJECTED}:%201`), [400, 404]],
	["a NUL in the path", (o) => o.http("GET", "/api/x%00"), [400, 404]],
	["dots in the path", (o) => o.http("POST",
	    "/api/x/../livekit/token", { body: "{}" }), [201, 400, 404]],
	["a percent without a number", (o) => o.http("GET", "/api/%zz"),
	    [400, 404]],
	["TRACE", (o) => o.fcgi("TRACE", "/healthz"), 405,
	    (a) => assert.ok(!a.body.includes("visitor-0001"))],
];

// ---- B: JSON ----

// Is added to a good object.
const with_member = (good, member) => good === "{}" ? `{${member}}` :
    `${good.slice(0, -1)},${member}}`;

const B = [
	...each((target, good) => [
		["empty", (o) => o.fcgi("POST", target, { body: "" }), 400],
		["blanks", (o) => o.fcgi("POST", target, { body: " \n " }), 400],
		["rubbish behind", (o) => o.fcgi("POST", target,
		    { body: `${good}x` }), 400],
		["two objects", (o) => o.fcgi("POST", target,
		    { body: good + good }), 400],
		["a BOM", (o) => o.fcgi("POST", target,
		    { body: `\ufeff${good}` }), 400],
		["a list", (o) => o.fcgi("POST", target, { body: "[]" }), 400],
		["null", (o) => o.fcgi("POST", target, { body: "null" }), 400],
		["half", (o) => o.fcgi("POST", target,
		    { body: good.slice(0, -1) }), 400],
		["depth 30000", (o) => o.fcgi("POST", target, { body:
		    with_member(good, `"a":${"[".repeat(30000)}`) }), [400, 413]],
		["depth 33", (o) => o.fcgi("POST", target, { body: with_member(
		    good, `"a":${"[".repeat(33)}${"]".repeat(33)}`) }), 400],
		["a NUL in a text", (o) => o.fcgi("POST", target,
		    { body: with_member(good, '"a":"\\u0000"') }), 400],
		["half a character", (o) => o.fcgi("POST", target,
		    { body: with_member(good, '"a":"\\ud800"') }), 400],
		["not UTF-8", (o) => o.fcgi("POST", target, { body: Buffer.from(
		    with_member(good, '"a":"\xff"'), "latin1") }), 400],
		["1e400", (o) => o.fcgi("POST", target,
		    { body: with_member(good, '"a":1e400') }), 400],
		["one name twice", (o) => o.fcgi("POST", target,
		    { body: with_member(good, '"a":1,"a":2') }), 400],
		["single quotes", (o) => o.fcgi("POST", target,
		    { body: "{'a':1}" }), 400],
	].map((row) => [...row, is_json])),
	// what would send us, or a vendor, elsewhere
	...[["livekit", LIVEKIT, "{}"], ["keys", SECRETS, "{}"]].flatMap(
	    ([name, target, good]) => ["api_base", "base_url", "url", "headers"]
	        .map((key) => [`${name}: ${key}`, (o) => o.fcgi("POST", target,
	            { body: with_member(good, `"${key}":"http://${o.bait}"`) }),
	            400, is_json])),
	["keys: a url in the session", (o) => o.fcgi("POST", SECRETS, { body:
	    `{"session":{"type":"realtime","url":"http://${o.bait}"}}` }), 400],
	["keys: a model that is not served", (o) => o.fcgi("POST", SECRETS,
	    { body: '{"session":{"type":"realtime","model":"gpt-4"}}' }), 403],
	["keys: a negative life", (o) => o.fcgi("POST", SECRETS, { body:
	    '{"expires_after":{"anchor":"created_at","seconds":-1}}' }), 400],
	["keys: a huge life", (o) => o.fcgi("POST", SECRETS, { body:
	    '{"expires_after":{"anchor":"created_at",' +
	    '"seconds":9007199254740993}}' }), 400],
	...[["of no route", "{}"], ["of a route that is not there",
	    '{"route":"/nothing"}'], ["of a number", '{"route":5}'],
	    ["for a negative time", '{"route":"/raw","seconds":-1}'],
	    ["for no time", '{"route":"/raw","seconds":0}'],
	    ["for 2^53 + 1 s", '{"route":"/raw","seconds":9007199254740993}'],
	    ["for 1e300 s", '{"route":"/raw","seconds":1e300}'],
	    ["for a text", '{"route":"/raw","seconds":"60"}'],
	    ["of another user", '{"route":"/raw","user":"admin"}'],
	    ["of another plan", '{"route":"/raw","plan":"gold"}'],
	    ["for an address of another", '{"route":"/raw","address":"::1"}'],
	].map(([name, body]) => [`tickets: ${name}`, (o) => o.fcgi("POST",
	    TICKETS, { body }), [400, 403, 404], is_json]),
	["livekit: someone's identity", (o) => o.fcgi("POST", LIVEKIT,
	    { body: '{"participant_identity":"admin"}' }), 403],
	["livekit: a room's configuration", (o) => o.fcgi("POST", LIVEKIT,
	    { body: '{"room_config":{"agents":[{"agent_name":"x"}]}}' }), 403],
	["livekit: an administrator's grant", (o) => o.fcgi("POST", LIVEKIT,
	    { body: '{"roomAdmin":true}' }), [400, 403]],
	["livekit: grants, nested", (o) => o.fcgi("POST", LIVEKIT,
	    { body: '{"video":{"roomAdmin":true}}' }), [400, 403]],
	["chat: a model that is not served", (o) => o.fcgi("POST", SEND,
	    { body: '{"content":"x","model":"o9"}' }), [400, 403]],
	["chat: no content", (o) => o.fcgi("POST", SEND, { body: "{}" }), 400],
	["chat: a number as content", (o) => o.fcgi("POST", SEND,
	    { body: '{"content":5}' }), 400],
	["chat: a temperature of 1e308", (o) => o.fcgi("POST", SEND,
	    { body: '{"content":"x","temperature":1e308}' }), 400],
	["chat: a key that is too long", (o) => o.fcgi("POST", SEND,
	    { body: '{"content":"x"}', headers: { "Idempotency-Key":
	        "k".repeat(300) } }), 400],
	["chat: someone else's chat", (o) => o.fcgi("POST", SEND,
	    { body: '{"content":"x","chat_id":"AAAAAAAAAAAAAAAA"}' }), 404],
	["anam: a persona that is not served", (o) => o.fcgi("POST", ANAM,
	    { body: '{"personaId":"other"}' }), 403],
	["anam: a persona of the client's own", (o) => o.fcgi("POST", ANAM,
	    { body: `{"personaConfig":{"name":"x","systemPrompt":"${"x"}"}}` }),
	    [400, 403]],
];

// ---- C: tokens ----

const part = (value) => Buffer.from(typeof value === "string" ? value :
    JSON.stringify(value)).toString("base64url");
const hmac = (hash, secret, text) =>
    crypto.createHmac(hash, secret).update(text).digest("base64url");
const now = () => Math.floor(Date.now() / 1000);

// A token of any head and claims, signed as HS256 whatever its head says.
function forged(o, head, claims, { secret = o.site.user_secret,
    hash = "sha256" } = {}) {
	const text = `${part(head)}.${part(claims)}`;
	return `${text}.${hmac(hash, secret, text)}`;
}
const HS = { alg: "HS256", typ: "JWT" };
const claims = (more) => ({ sub: "ann", exp: now() + 600, ...more });
const RSA = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });

function rs256(head, body) {
	const text = `${part(head)}.${part(body)}`;
	return `${text}.${crypto.sign("sha256", Buffer.from(text),
	    RSA.privateKey).toString("base64url")}`;
}

const tokens = [
	["nothing", () => ""],
	["a word", (o) => o.bait],
	["two parts", (o) => forged(o, HS, claims()).split(".").slice(0, 2)
	    .join(".")],
	["four parts", (o) => `${forged(o, HS, claims())}.x`],
	["no signature", (o) => forged(o, HS, claims()).replace(/[^.]*$/, "")],
	["half a signature", (o) => forged(o, HS, claims()).slice(0, -20)],
	["another signature", (o) => forged(o, HS, claims(),
	    { secret: "x".repeat(64) })],
	["signed with nothing", (o) => forged(o, HS, claims(), { secret: "" })],
	["padding", (o) => `${forged(o, HS, claims())}=`],
	["standard base64", (o) => `${forged(o, HS, claims()).slice(0, -1)}+`],
	["a line feed inside", (o) => forged(o, HS, claims())
	    .replace(".", ".%0a")],
	...["none", "None", "nOnE", "NONE", "", "hs256", "HS257", "HMAC"].map(
	    (alg) => [`alg "${alg}"`, (o) => forged(o, { alg, typ: "JWT" },
	        claims())]),
	["alg none without a signature", () => `${part({ alg: "none" })}.` +
	    `${part(claims())}.`],
	["no alg", (o) => forged(o, { typ: "JWT" }, claims())],
	["alg a number", (o) => forged(o, { alg: 256 }, claims())],
	["alg a list", (o) => forged(o, { alg: ["HS256"] }, claims())],
	["RS256 with a key of its own", () => rs256({ alg: "RS256" }, claims())],
	["RS256 with its key inside", () => rs256({ alg: "RS256",
	    jwk: RSA.publicKey.export({ format: "jwk" }) }, claims())],
	["RS256 with a key's address", (o) => rs256({ alg: "RS256",
	    jku: `http://${o.bait}/keys` }, claims())],
	["HS256 signed with a public key", (o) => forged(o, HS, claims(),
	    { secret: RSA.publicKey.export({ type: "spki", format: "pem" }) })],
	["an extension that must be known", (o) => forged(o, { ...HS,
	    crit: ["b64"], b64: false }, claims())],
	["no exp", (o) => forged(o, HS, { sub: "ann" })],
	["exp a text", (o) => forged(o, HS, claims({ exp: `${now() + 600}` }))],
	["exp over INT64_MAX", (o) => forged(o, HS,
	    `{"sub":"ann","exp":99999999999999999999}`)],
	["exp 1e30", (o) => forged(o, HS, `{"sub":"ann","exp":1e30}`)],
	["exp negative", (o) => forged(o, HS, claims({ exp: -1 }))],
	["exp null", (o) => forged(o, HS, claims({ exp: null }))],
	["exp over", (o) => forged(o, HS, claims({ exp: now() - 120 }))],
	["nbf ahead", (o) => forged(o, HS, claims({ nbf: now() + 300 }))],
	["nbf a text", (o) => forged(o, HS, claims({ nbf: "0" }))],
	["exp twice", (o) => forged(o, HS,
	    `{"sub":"ann","exp":${now() - 120},"exp":${now() + 600}}`)],
	["no sub", (o) => forged(o, HS, { exp: now() + 600 })],
	["sub empty", (o) => forged(o, HS, claims({ sub: "" }))],
	["sub a number", (o) => forged(o, HS, claims({ sub: 5 }))],
	["sub with CR LF", (o) => forged(o, HS,
	    claims({ sub: `x\r\n${INJECTED}: 1` }))],
	["sub with a NUL", (o) => forged(o, HS, claims({ sub: "ann\0x" }))],
	["sub too long", (o) => forged(o, HS, claims({ sub: "x".repeat(300) }))],
	["another issuer", (o) => forged(o, HS, claims({ aud: "chat",
	    iss: "https://evil.example" }))],
	["another audience", (o) => forged(o, HS, claims({ aud: "other",
	    iss: "https://site.example" }))],
	["no audience", (o) => forged(o, HS,
	    claims({ iss: "https://site.example" }))],
	["claims no object", (o) => forged(o, HS, "[]")],
	["claims no JSON", (o) => forged(o, HS, "x")],
	["head no JSON", (o) => forged(o, "x", claims())],
	["head over depth", (o) => forged(o, "[".repeat(5000), claims())],
	["16 KiB", (o) => forged(o, HS, claims({ x: "x".repeat(13000) }))],
	["an encrypted one", () => `${part({ alg: "dir", enc: "A128GCM" })}` +
	    "..AAAA.AAAA.AAAA"],
];

// What was issued for something else.
const of_ours = (make) => async (o) => o.fcgi("GET", "/api/v1/chats", {
	headers: { "x-anon-id": null, Authorization: `Bearer ${await make(o)}` },
});
const OURS = [
	["a ticket", async (o) => (await o.fcgi("POST", TICKETS,
	    { body: '{"route":"/raw"}' })).json.ticket],
	["a short-lived key", async (o) => (await o.fcgi("POST", SECRETS,
	    { body: "{}" })).json.value],
	["that key's token", async (o) => (await o.fcgi("POST", SECRETS,
	    { body: "{}" })).json.value.slice(3)],
	["a LiveKit token", async (o) => (await o.fcgi("POST", LIVEKIT,
	    { body: "{}" })).json.participant_token],
].map(([name, make]) => [name, of_ours(make), [400, 401], is_json]);

const C = tokens.map(([name, make]) => [name, (o) => o.fcgi("GET",
    "/api/v1/chats", { headers: { Authorization: `Bearer ${make(o)}`,
        "x-anon-id": null } }), [400, 401], is_json]);

// A visitor without chats, or refused; in no case ann, who has one.
const is_nobody = (answer) => assert.ok(answer.status !== 200 ||
    answer.json.total === 0, answer.body);

const AUTHORIZATIONS = [
	["no scheme", (token) => token],
	["another scheme", (token) => `Basic ${token}`],
	["two blanks and more", (token) => `Bearer ${token} x`],
	["two tokens", (token) => `Bearer ${token}, Bearer ${token}`],
].map(([name, make]) => [name, (o) => o.fcgi("GET", "/api/v1/chats",
    { headers: { "x-anon-id": null, Authorization: make(forged(o, HS,
        claims({ aud: "chat", iss: "https://site.example" }))) } }),
    [200, 400, 401], is_nobody]);

// What a proxy in between could be made to say is nobody's identity.
const IDENTITIES = ["X-Auth-User", "X_Auth-User", "X-User", "X-Remote-User",
    "Remote-User", "X-Forwarded-User"].map((name) => [`${name} alone`,
    (o) => o.fcgi("GET", "/api/v1/chats", { headers: { [name]: "ann",
        "x-anon-id": null } }), [200, 400, 401, 403], is_nobody]);

// ---- F: streams ----

const LAST_IDS = [["rubbish", (o) => o.bait], ["negative", () => "-1"],
    ["huge", () => "9".repeat(400)], ["60 KiB", () => "1".repeat(60000)],
    ["a path", () => "../../etc/passwd"], ["SQL", () => "1' OR '1'='1"],
    ["a script", () => "<script>"], ["empty", () => ""],
    ["of nobody", () => "AAAAAAAAAAAAAAAA:1"]];

const F = [
	...LAST_IDS.map(([name, make]) => [`Last-Event-ID: ${name}`,
	    (o) => o.fcgi("GET", `${SEND}?chat_id=AAAAAAAAAAAAAAAA`,
	        { headers: { "Last-Event-ID": make(o) } }), [204, 400, 404]]),
	["Last-Event-ID: CR LF", (o) => o.fcgi("GET", SEND, { headers:
	    { "Last-Event-ID": `1\r\n${INJECTED}: 1` } }), [204, 400, 404]],
	["a POST to the stream that is read", (o) => o.fcgi("POST",
	    "/api/v1/messages/stream", { body: "{}" }), [405, 404]],
	["a GET of what is posted", (o) => o.fcgi("GET",
	    "/api/v1/messages/stop"), 405],
];

test("FastCGI parameters that no web server would send", async (t) => {
	const target = await Target.open(t);
	await target.run("A", A_FCGI);
	target.check_logs();
}, { timeout: 60000 });

for (const name of NAMES)
	test(`${name}: requests that are none`, async (t) => {
		const target = await Target.open(t, name);
		const other = await bystander(target);
		target.fds++; // that stream
		await target.run("A", A);
		await other.more();
		other.stop();
		target.check_logs();
	}, { skip: needs(name), timeout: 60000 });

test("bodies that are none", async (t) => {
	const target = await Target.open(t);
	await target.run("B", B);
	target.check_logs();
}, { timeout: 60000 });

test("tokens that are none", async (t) => {
	const target = await Target.open(t, "direct", { chat: { users:
	    'issuer = "https://site.example" audience = "chat"' } });
	const ann = { "x-anon-id": null, Authorization: `Bearer ${
	    forged(target, HS, claims({ aud: "chat",
	        iss: "https://site.example" }))}` };
	assert.equal((await target.fcgi("POST", "/api/v1/chats",
	    { headers: ann, body: '{"title":"mine"}' })).status, 201);
	const good = await target.fcgi("GET", "/api/v1/chats", { headers: ann });
	assert.equal(good.json?.total, 1, good.body);
	await target.run("C", [...C, ...OURS, ...AUTHORIZATIONS,
	    ...IDENTITIES]);
	target.check_logs();
}, { timeout: 60000 });

test("streams that are asked for badly", async (t) => {
	const target = await Target.open(t);
	await target.run("F", F);
	target.check_logs();
});

// Slow bodies: one that stops in the middle.
test("a body that does not come is 408, and nobody waits for it",
    async (t) => {
	const target = await Target.open(t, "direct",
	    { rest: "requests { timeout = 1 }\n" });
	const slow = ([, path, body]) => async (o) => {
		const conn = await fcgi.Fcgi.dial(o.site.broker_sock);
		await conn.write(fcgi.begin(), fcgi.params(fcgi.environment(
		    "POST", path, { "Content-Type": "application/json",
			"x-anon-id": "visitor-0001",
			"Content-Length": `${body.length}` })),
		    fcgi.record(5, body.slice(0, 1)));
		return conn.answer();
	};
	const pending = TAKERS.map((taker) => slow(taker)(target));
	await target.run("A", TAKERS.map(([name], i) =>
	    [name, () => pending[i], 408, is_json]));
});
