// SPDX-License-Identifier: MIT
// LiveKit's own packages accept our tokens and our endpoint.
import assert from "node:assert/strict";

import { Site, needs } from "../lib/harness.mjs";
import { NAMES } from "../lib/servers.mjs";
import { test } from "../lib/tap.mjs";
import { need_packages } from "./lib/setup.mjs";

need_packages("livekit-server-sdk", "livekit-client");
const { TokenVerifier } = await import("livekit-server-sdk");
const { TokenSource } = await import("livekit-client");

async function livekit_site(t, name) {
	const site = await Site.open(t);
	await site.broker(site.config({ rest: `livekit {
	url = "wss://livekit.example"
	api_key = "env:LIVEKIT_API_KEY"
	api_secret = "env:LIVEKIT_API_SECRET"
	token "default" {
		room_join = true
		can_publish = true
		can_subscribe = true
		client_may_set = {"room", "name", "metadata", "attributes",
		    "agents"}
		client_agents = {"helper"}
	}
}
` }));
	const front = await site.front(name);
	return { site, url: `http://127.0.0.1:${front.port}/api/livekit/token`,
	    verifier: new TokenVerifier("lkkey", site.livekit_secret) };
}

for (const name of NAMES) {
	const options = { skip: needs(name) };

	test(`${name}: TokenVerifier accepts the token of seed 004's request`,
	    async (t) => {
		const { url, verifier } = await livekit_site(t, name);
		const response = await fetch(url, {
			method: "POST",
			headers: { "Content-Type": "application/json" },
			body: JSON.stringify({ roomName: "lobby",
			    participantName: "Ann" }),
		});
		assert.equal(response.status, 200);
		const { token } = await response.json();
		const claims = await verifier.verify(token);
		assert.equal(claims.name, "Ann");
		assert.equal(claims.video.room, "lobby");
		assert.equal(claims.video.roomJoin, true);
		assert.equal(claims.video.canPublish, true);
		assert.equal(claims.video.canSubscribe, true);
	}, options);

	test(`${name}: TokenSource.endpoint gets a token and the address`,
	    async (t) => {
		const { url, verifier } = await livekit_site(t, name);
		const plain = await TokenSource.endpoint(url).fetch({});
		assert.equal(plain.serverUrl, "wss://livekit.example");
		const anonymous = await verifier.verify(plain.participantToken);
		assert.match(anonymous.video.room, /./);

		const full = await TokenSource.endpoint(url).fetch({
			roomName: "lobby", participantName: "Ann",
			participantMetadata: "m",
			participantAttributes: { a: "b" },
			agentName: "helper", agentMetadata: "am",
		});
		const claims = await verifier.verify(full.participantToken);
		assert.equal(claims.video.room, "lobby");
		assert.equal(claims.name, "Ann");
		assert.equal(claims.metadata, "m");
		assert.deepEqual(claims.attributes, { a: "b" });
		assert.equal(claims.roomConfig.agents[0].agentName, "helper");
		assert.equal(claims.roomConfig.agents[0].metadata, "am");
	}, options);

	test(`${name}: TokenSource.endpoint hears a refusal`, async (t) => {
		const { url } = await livekit_site(t, name);
		await assert.rejects(TokenSource.endpoint(url).fetch({
			participantIdentity: "admin",
		}), /403|Error/);
	}, options);
}
