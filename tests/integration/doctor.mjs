// SPDX-License-Identifier: MIT
// culvertctl doctor, through real web servers: as the samples have them, and
// with what people leave out.
import assert from "node:assert/strict";
import path from "node:path";

import { builddir, needs, relay_site, run, table } from "../lib/harness.mjs";
import { NAMES, make_certificates } from "../lib/servers.mjs";
import { test } from "../lib/tap.mjs";

const CTL = path.join(builddir, "culvertctl");
const ctl = (site, ...args) => run([CTL, ...args], {
	env: { CULVERT_CONTROL: site.control_sock } });
const url_of = (front) => `http://127.0.0.1:${front.port}`;

async function examine(site, url, ...args) {
	const { code, stdout, output } = await ctl(site, "--json", "doctor", url,
	    ...args);
	assert.notEqual(stdout, "", output);
	const report = JSON.parse(stdout);
	assert.equal(code, report.ok ? 0 : 1);
	return report;
}

const names = (checks) => checks.map(({ check }) => check).sort();
const bad = (report) => report.checks.filter(({ result }) => result !== "ok");

const ALL = ["address", "authorization", "broker", "cookie", "host", "origin",
	"query", "scheme", "stream", "websocket", "websocket address",
	"websocket authorization", "websocket cookie", "websocket host",
	"websocket origin", "websocket protocol", "websocket query"];

for (const name of NAMES)
	test(`finds nothing wrong with the sample for ${name}`, async (t) => {
		const { site, front } = await relay_site(t, name);
		const { checks, ok } = await examine(site, `${url_of(front)}/`);
		assert.deepEqual(bad({ checks }), []);
		assert.equal(ok, true);
		assert.deepEqual(names(checks), ALL);
		const { code, stdout } = await ctl(site, "doctor", url_of(front));
		assert.equal(code, 0);
		assert.match(stdout, /^ok +stream: events arrive one by one$/m);
		assert.match(stdout,
		    /^ok +websocket: \/raw reaches culvert-tunnel$/m);
	}, { skip: needs(name) });

// What is left out or changed; which checks fail then; what is advised.
const BROKEN = {
	lighttpd: [
		["server.stream-response-body = 2",
		    "server.stream-response-body = 0",
		    ["stream"], /server\.stream-response-body = 2/],
		[/"upgrade" => "enable"/g, '"upgrade" => "disable"',
		    ["websocket"], /proxy\.header = \("upgrade" => "enable"\)/],
	],
	apache: [
		["CGIPassAuth On", "", ["authorization"], /CGIPassAuth On/],
		["flushpackets=on", "flushpackets=off", ["stream"],
		    /flushpackets=on/],
		["upgrade=websocket ", "", ["websocket"], /upgrade=websocket/],
		["ProxyPreserveHost On", "", ["websocket host"],
		    /ProxyPreserveHost On/],
		["healthz|", "", ["broker"], /SetHandler "proxy:unix:/],
	],
	nginx: [
		["fastcgi_buffering off;", "fastcgi_buffering on; " +
		    "fastcgi_ignore_headers X-Accel-Buffering;",
		    ["stream"], /fastcgi_buffering off/],
		["proxy_set_header Upgrade $http_upgrade;", "", ["websocket"],
		    /proxy_set_header Upgrade \$http_upgrade/],
		["proxy_set_header X-Forwarded-For $remote_addr;", "",
		    ["websocket address"],
		    /proxy_set_header X-Forwarded-For \$remote_addr/],
		["proxy_set_header Host $http_host;", "", ["websocket host"],
		    /proxy_set_header Host \$http_host/],
		["REQUEST_URI $request_uri", "REQUEST_URI $uri", ["query"],
		    /fastcgi_param REQUEST_URI \$request_uri/],
		["fastcgi_param HTTPS $https if_not_empty",
		    "fastcgi_param HTTPS on", ["scheme"], /\$https if_not_empty/],
		["fastcgi_param REMOTE_ADDR $remote_addr",
		    "fastcgi_param REMOTE_ADDR 192.0.2.1", ["address"],
		    /fastcgi_param REMOTE_ADDR \$remote_addr/],
		["proxy_buffering off;", "proxy_buffering off; " +
		    'proxy_set_header Sec-WebSocket-Protocol "";',
		    ["websocket protocol"], /Sec-WebSocket-Protocol/],
	],
};

for (const name of NAMES)
	test(`names what is wrong with a broken ${name}`, async (t) => {
		const { site } = await relay_site(t);
		await table(BROKEN[name], async (from, to, wanted, advice) => {
			const front = await site.front(name, { edit: (text) => {
				const edited = text.replaceAll(from, () => to);
				assert.notEqual(edited, text);
				return edited;
			} });
			const report = await examine(site, url_of(front));
			const found = bad(report);
			assert.deepEqual(names(found), wanted,
			    JSON.stringify(found));
			assert.match(found[0].advice[name], advice);
			// another address is right behind a NAT
			assert.equal(report.ok, found[0].result === "warning");
			front.part.child.kill();
			await front.part.exited;
		});
	}, { skip: needs(name) });

test("trusts a certificate as browsers do, unless told", async (t) => {
	const { site } = await relay_site(t);
	const front = await site.front("nginx",
	    { tls: make_certificates(site, "web") });
	const url = `https://localhost:${front.port}`;
	const connect = ["--connect", "127.0.0.1"];
	const [broker, ...rest] = (await examine(site, url, ...connect)).checks;
	assert.equal(broker.result, "fail");
	assert.match(broker.text, /certificate/);
	assert.deepEqual(rest, []);
	const report = await examine(site, url, "--insecure", ...connect);
	assert.deepEqual(bad(report), []);
}, { skip: needs("nginx") });

test("asks a broker that is below a path there, and follows no redirect",
    async (t) => {
	const { site } = await relay_site(t, "direct",
	    { rest: 'requests { base_path = "/culvert" }' });
	const edit = (text) => text.replace("^/(api|", "^/(culvert|api|");
	const front = await site.front("nginx", { edit });
	assert.deepEqual(bad(await examine(site, url_of(front))), []);
	const moved = await site.front("nginx", { edit: (text) => edit(text)
	    .replace("fastcgi_buffering off;", "return 301 /elsewhere;") });
	const { checks: [broker, ...rest] } =
	    await examine(site, url_of(moved));
	assert.match(broker.text, /healthz is answered 301, a redirect/);
	assert.deepEqual(rest, []);
}, { skip: needs("nginx") });

test("tells another broker, and another web server, from its own",
    async (t) => {
	const [one, other] = [await relay_site(t), await relay_site(t)];
	const front = await other.site.front("lighttpd");
	const [broker] = (await examine(one.site, url_of(front))).checks;
	assert.equal(broker.result, "fail");
	assert.match(broker.text, /not the one of this control socket/);
	other.broker.child.kill();
	await other.broker.exited;
	const [gone] = (await examine(one.site, url_of(front))).checks;
	assert.match(gone.text, /answered 503.*does not reach culvert/);
	const { code, output } = await ctl(other.site, "doctor", url_of(front));
	assert.equal(code, 1);
	assert.match(output, /is the broker running/);
}, { skip: needs("lighttpd") });

test("tells nothing to who has no probe", async (t) => {
	const { site } = await relay_site(t);
	const front = await site.front("lighttpd");
	for (const id of ["", "0".repeat(32), "x"]) {
		const answer = await fetch(`${url_of(front)}/healthz`,
		    { headers: { "X-Culvert-Probe": id,
		        "Accept": "text/event-stream" } });
		assert.deepEqual(await answer.json(), { status: "ok" });
	}
}, { skip: needs("lighttpd") });

test("refuses what is no origin", async (t) => {
	const { site } = await relay_site(t);
	for (const args of [[], ["example.org"], ["ftp://example.org"],
		["https://"], ["https://ann:secret@example.org"],
		["https://example.org/x"], ["https://example.org?x"],
		["https://example.org", "x"],
		["https://example.org", "--connect", "example.net"]]) {
		const { code, output } = await ctl(site, "doctor", ...args);
		assert.equal(code, 2, args);
		assert.match(output, /doctor takes a URL/);
	}
	const { code } = await ctl(site, "sessions", "--insecure");
	assert.equal(code, 2);
});
