// SPDX-License-Identifier: MIT
// Anam's Flutter client, the original and a fork of it: what they send, byte
// for byte, behind each web server.
import assert from "node:assert/strict";
import fs from "node:fs";

import { frame, next_frame, offer, session_request, targets }
	from "../lib/flutter.mjs";
import { SIM, Site, needs } from "../lib/harness.mjs";
import { OP, RawServer, exchange } from "../lib/rawws.mjs";
import { NAMES } from "../lib/servers.mjs";
import { skip_all, test } from "../lib/tap.mjs";

if (!fs.existsSync(SIM))
	skip_all("the simulator is not built; run deploy/check");

async function flutter_site(t, name) {
	const site = await Site.open(t);
	const sim = await site.sim();
	await site.serve({ rest: `store { path = "${site.file("store.db")}" }
anam {
	api_key = "env:ANAM_API_KEY"
	url = "http://127.0.0.1:${sim.http_port}"
	hosts = {"127.0.0.1"}
	allow_http = true
	allow_private = true
	personas = {"my-persona"}
}
` });
	const front = await site.front(name);
	const create = (persona) => exchange(front.where,
	    session_request(front.headers.Host, persona, "application/json"));
	return { site, sim, front, create, journal: async () => (await fetch(
	    `http://127.0.0.1:${sim.http_port}/sim/journal`)).json() };
}

for (const name of NAMES)
	test(`${name}: a session, and its socket through the proxy`,
	    async (t) => {
		const { site, front, create, journal } =
		    await flutter_site(t, name);
		for (const [kind, proxy] of [["original", "/ws/proxy"],
		    ["fork", "/ws/proxy"], ["original", "/ws/proxy?lang=en"],
		    ["fork", "/ws/proxy?lang=en"]]) {
			const answer = await create("my-persona");
			assert.equal(answer.status, 200, answer.body);
			const session = answer.json;
			for (const member of ["sessionToken", "sessionId",
			    "engineHost", "engineProtocol", "signallingEndpoint"])
				assert.equal(typeof session[member], "string",
				    member);
			assert.ok(session.clientConfig.iceServers);
			const conn = await site.connect(front,
			    targets[kind](proxy, session));
			await conn.send(OP.text, offer(session));
			const ready = await next_frame(conn);
			assert.equal(ready.actionType, "sessionready");
			assert.equal(ready.sessionId, session.sessionId);
			assert.equal((await next_frame(conn)).payload.type,
			    "answer");
			await conn.send(OP.text,
			    frame(session, "heartbeat", ""));
			await conn.send_close(1000);
			assert.equal((await conn.closed()).code, 1000);
			const { handshakes } = await journal();
			assert.equal(handshakes.at(-1).query_string,
			    `session_id=${session.sessionId}`);
		}
	}, { skip: needs(name), timeout: 60000 });

test("a refused persona, session or engine, and nobody is dialled",
    async (t) => {
	const { site, front, create, journal } =
	    await flutter_site(t, "lighttpd");
	assert.equal((await create("another")).status, 403);
	const session = (await create("my-persona")).json;
	const elsewhere = await RawServer.listen();
	for (const [change, statuses] of [
		[{ sessionId: "00000000-0000-4000-8000-000000000000" },
		    [401, 404]],
		[{ engineHost: `127.0.0.1:${elsewhere.port}` }, [403]],
		[{ engineHost: "169.254.169.254" }, [403]],
		[{ signallingEndpoint: "/v1/elsewhere/ws" }, [403]],
	])
		for (const make of Object.values(targets)) {
			const answer = await site.handshake(front,
			    make("/ws/proxy", { ...session, ...change }));
			assert.ok(statuses.includes(answer.status),
			    `${JSON.stringify(change)}: ${answer.status}`);
		}
	assert.equal(elsewhere.waiting, 0);
	assert.deepEqual((await journal()).handshakes, []);
}, { skip: needs("lighttpd") });
