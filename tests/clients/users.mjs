// SPDX-License-Identifier: MIT
// Tokens that npm's jose signs, of every algorithm, and sets of keys that it
// exports, through each web server: in the header, in a cookie, in the query.
import assert from "node:assert/strict";

import { Issuer } from "../lib/issuer.mjs";
import { Site, needs } from "../lib/harness.mjs";
import { NAMES } from "../lib/servers.mjs";
import { test } from "../lib/tap.mjs";
import { need_packages } from "./lib/setup.mjs";

need_packages("jose");
const jose = await import("jose");

const PUBLIC = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
	"ES384", "ES512", "EdDSA"];
const SECRET = ["HS256", "HS384", "HS512"];

const sign = (key, alg, { kid, ...claims } = {}) =>
	new jose.SignJWT({ sub: "ann", ...claims })
	.setProtectedHeader({ alg, typ: "JWT", ...kid && { kid } }).setIssuedAt()
	.setIssuer("https://login.example").setAudience("culvert")
	.setExpirationTime("10m").sign(key);

// A chat, which says who asks, behind a web server.
async function open(t, front, keys, env = {}) {
	const site = await Site.open(t);
	const parts = await site.serve({ rest: `
store { path = "${site.file("culvert.db")}" }
chat {
	url = "http://127.0.0.1:1"
	models = {m}
	balance = false
}
users {
	${keys}
	issuer = "https://login.example"
	audience = "culvert"
	cookie = "session"
}
` }, { broker: { env } });
	const { port } = await site.front(front);
	const base = `http://localhost:${port}`;
	const who = async (headers) => {
		const answer = await fetch(`${base}/api/v1/usage`, { headers });
		if (answer.status !== 200)
			return answer.status;
		return (await answer.json()).user;
	};
	const ways = {
		header: (token) => who({ Authorization: `Bearer ${token}` }),
		cookie: (token) => who({ Cookie: `a=b; session=${token}` }),
		query: async (token) => {
			const { status } = await fetch(`${base}/api/v1/messages/` +
			    `stream?token=${token}`);
			return status === 204 ? "ann" : status;
		},
	};
	return { site, ways, ...parts };
}

// Good in each way; of another key in none.  No log has any of it.
async function check(s, good, bad) {
	for (const [way, ask] of Object.entries(s.ways)) {
		for (const [alg, token] of good)
			assert.equal(await ask(token), "ann", `${alg}, ${way}`);
		for (const [alg, token] of bad)
			assert.equal(await ask(token), 401, `${alg}, ${way}`);
	}
	for (const [, token] of [...good, ...bad])
		for (const part of [s.broker, s.tunnel])
			assert.ok(!part.output.includes(token.split(".")[2]));
}

for (const front of NAMES) {
	const options = { skip: needs(front) };

	test(`${front}: every algorithm of a set behind a URL`, async (t) => {
		const good = [], bad = [], keys = [];
		for (const alg of PUBLIC) {
			const pair = await jose.generateKeyPair(alg);
			const other = await jose.generateKeyPair(alg);
			const kid = `key-${alg}`;
			keys.push({ ...await jose.exportJWK(pair.publicKey), kid,
			    alg, use: "sig" });
			good.push([alg, await sign(pair.privateKey, alg, { kid })]);
			bad.push([alg, await sign(other.privateKey, alg, { kid })]);
		}
		const issuer = await Issuer.open(t, keys);
		const s = await open(t, front, `jwks_url = "${issuer.url}"`);
		await check(s, good, bad);
		assert.equal(issuer.asked, 1);
	}, options);

	test(`${front}: every algorithm of a secret`, async (t) => {
		const secret = "0123456789 the secret of this site's users";
		const bytes = new TextEncoder().encode(secret);
		const other = new TextEncoder().encode(`${secret}.`);
		const good = [], bad = [];
		for (const alg of SECRET) {
			good.push([alg, await sign(bytes, alg)]);
			bad.push([alg, await sign(other, alg)]);
		}
		await check(await open(t, front, 'secret = "env:USER_SECRET"',
		    { USER_SECRET: secret }), good, bad);
	}, options);
}

test("a PEM file that jose exports, and what is not for this site",
    async (t) => {
	const pair = await jose.generateKeyPair("RS256");
	const [front] = NAMES.filter((name) => !needs(name));
	const pem = await jose.exportSPKI(pair.publicKey);
	const folder = await Site.open(t);
	const s = await open(t, front,
	    `public_key_file = "${folder.write("key.pem", pem)}"`);
	const bad = [];
	for (const claims of [{ sub: "" }, { sub: 1.5 }, { sub: null }])
		bad.push([JSON.stringify(claims),
		    await sign(pair.privateKey, "RS256", claims)]);
	const text = new TextEncoder().encode(pem);
	bad.push(["the public key as a secret", await sign(text, "HS256")]);
	bad.push(["none", new jose.UnsecuredJWT({ sub: "ann" })
	    .setIssuer("https://login.example").setAudience("culvert")
	    .setExpirationTime("10m").encode() + "AAAA"]);
	bad.push(["another issuer", await new jose.SignJWT({ sub: "ann" })
	    .setProtectedHeader({ alg: "RS256" }).setExpirationTime("10m")
	    .setIssuer("https://evil.example").setAudience("culvert")
	    .sign(pair.privateKey)]);
	bad.push(["another audience", await new jose.SignJWT({ sub: "ann" })
	    .setProtectedHeader({ alg: "RS256" }).setExpirationTime("10m")
	    .setIssuer("https://login.example").setAudience("other")
	    .sign(pair.privateKey)]);
	await check(s, [["RS256", await sign(pair.privateKey, "RS256")]], bad);
});
