// SPDX-License-Identifier: MIT
// The openai packages, which insist on wss, hold a conversation through TLS
// at lighttpd.
import assert from "node:assert/strict";
import path from "node:path";

import { clients_dir, run } from "../lib/harness.mjs";
import { test } from "../lib/tap.mjs";
import { budget, need_packages, need_programs, need_simulator, openai_site }
	from "./lib/setup.mjs";

need_simulator();
need_packages("openai", "openai-6", "ws");
need_programs("lighttpd", "openssl");

const SEED_MODEL = "gpt-4o-realtime-preview-2024-12-17";

for (const name of ["openai", "openai-6"])
	for (const [kind, model, how, options] of [["ws", "gpt-realtime", ""],
	    ["ws", "gpt-realtime", ", with a budget", budget],
	    ["ws", SEED_MODEL, ""], ["websocket", "gpt-realtime", ""]])
		test(`${name}, realtime/${kind}: ${model} answers in text and ` +
		    `audio${how}`, async (t) => {
			const { site, front, certs } = await openai_site(t,
			    { tls: true, ...options });
			const result = await run([process.execPath,
			    path.join(clients_dir, "lib/openai-talk.mjs"), name, kind,
			    `https://localhost:${front.port}/v1`, model], {
				env: {
					NODE_EXTRA_CA_CERTS: certs.ca,
					CLIENT_KEY: site.canary("client's key", "ek_"),
				},
			});
			assert.equal(result.code, 0, result.output);
			assert.ok(!result.output.includes(site.vendor_key));
			const [text, audio] = JSON.parse(result.stdout);
			assert.match(text.text, /\S/);
			assert.equal(text.audio, 0);
			assert.match(audio.transcript, /\S/);
			assert.ok(audio.audio > 1000, `${audio.audio} bytes of audio`);
			for (const one of [text, audio]) {
				for (const kind of ["total", "input", "output"])
					assert.ok(one.usage[`${kind}_tokens`] > 0, kind);
				assert.equal(one.close, 1000);
				assert.equal(one.protocol,
				    kind === "ws" ? "" : "realtime");
				assert.equal(one.extensions, "");
				assert.equal(one.session.model, "gpt-realtime");
			}
		});

test("openai-6, beta/realtime/ws: converses as it did in the beta",
    async (t) => {
	const { site, front, certs, sim } = await openai_site(t,
	    { tls: true, more: 'dialect = "beta"' });
	const result = await run([process.execPath,
	    path.join(clients_dir, "lib/beta-talk.mjs"),
	    `https://localhost:${front.port}/v1`, SEED_MODEL], { env: {
		NODE_EXTRA_CA_CERTS: certs.ca,
		CLIENT_KEY: site.canary("client's key", "sk-client-"),
	} });
	assert.equal(result.code, 0, result.output);
	const [text, audio] = JSON.parse(result.stdout);
	assert.match(text.text, /Hello/);
	assert.equal(text.audio, 0);
	assert.deepEqual(text.session.modalities, ["text"]);
	assert.equal(text.response.output[0].content[0].type, "text");
	assert.match(audio.transcript, /Hello/);
	assert.ok(audio.audio > 1000, `${audio.audio} bytes of audio`);
	assert.equal(audio.response.output[0].content[0].type, "audio");
	for (const one of [text, audio]) {
		assert.equal(one.close, 1000);
		assert.equal(one.session.voice, "alloy");
		assert.equal(one.session.output_audio_format, "pcm16");
		assert.equal(one.session.turn_detection.type, "server_vad");
		assert.ok(one.response.usage.total_tokens > 0);
		assert.equal(one.created.item.role, "user");
		for (const type of one.types)
			assert.doesNotMatch(type,
			    /output_text|output_audio|^conversation.item.(added|done)$/);
	}
	const journal = await (await fetch(
	    `http://127.0.0.1:${sim.http_port}/sim/journal`)).json();
	for (const { headers } of journal.handshakes)
		assert.ok(!headers.some(([name]) => /^openai-beta$/i.test(name)));
});
