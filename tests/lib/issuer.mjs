// SPDX-License-Identifier: MIT
// An identity provider: keys, tokens that they sign, and the set of the public
// ones behind a URL.
import crypto from "node:crypto";
import http from "node:http";

const base64url = (value) =>
	Buffer.from(JSON.stringify(value)).toString("base64url");

export class Key {
	constructor(kid) {
		this.kid = kid;
		const { privateKey, publicKey } = crypto.generateKeyPairSync("ec",
		    { namedCurve: "P-256" });
		this.private = privateKey;
		this.jwk = { ...publicKey.export({ format: "jwk" }), kid,
		    alg: "ES256", use: "sig" };
	}

	// A token of these claims, good for ten minutes.
	token(claims, header = {}) {
		const input = `${base64url({ alg: "ES256", typ: "JWT",
		    kid: this.kid, ...header })}.` +
		    base64url({ iat: Math.floor(Date.now() / 1000),
		    exp: Math.floor(Date.now() / 1000) + 600, ...claims });
		return `${input}.${crypto.sign("sha256", Buffer.from(input),
		    { key: this.private, dsaEncoding: "ieee-p1363" })
		    .toString("base64url")}`;
	}
}

// answer(response) may be replaced; `asked' counts requests.
export class Issuer {
	static async open(t, keys) {
		const it = new Issuer();
		it.keys = keys;
		it.asked = 0;
		it.server = http.createServer((request, response) => {
			it.asked++;
			it.answer(response, request);
		});
		await new Promise((resolve) =>
		    it.server.listen(0, "127.0.0.1", resolve));
		it.url = `http://127.0.0.1:${it.server.address().port}/jwks`;
		t.after(() => it.close());
		return it;
	}

	answer(response) {
		response.setHeader("Content-Type", "application/json");
		response.end(JSON.stringify({
			keys: this.keys.map((key) => key.jwk ?? key) }));
	}

	close() {
		this.server.closeAllConnections();
		return new Promise((resolve) => this.server.close(resolve));
	}
}
