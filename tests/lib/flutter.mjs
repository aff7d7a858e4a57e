// SPDX-License-Identifier: MIT
// What Anam's Flutter client puts on the wire.
import { OP } from "./rawws.mjs";

// An offer that somebody could have made.
export const SDP = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\n" +
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:a\r\n" +
    "a=setup:actpass\r\na=recvonly\r\n";

// The target of its WebSocket, as it makes it of proxyUrl and of the session's
// answer: only one of the four is encoded.
export const target = (proxy, s) => `${proxy}?engineHost=${s.engineHost}` +
    `&engineProtocol=${s.engineProtocol}` +
    `&signallingEndpoint=${encodeURIComponent(s.signallingEndpoint)}` +
    `&session_id=${s.sessionId}`;

// The request of package:http for a session; without a type, a Dart String
// goes as text/plain.
export function session_request(host, persona, type) {
	const body = JSON.stringify({ personaId: persona });
	return "POST /v1/engine/session HTTP/1.1\r\n" +
	    "user-agent: Dart/3.5 (dart:io)\r\n" +
	    `content-type: ${type ?? "text/plain; charset=utf-8"}\r\n` +
	    `accept-encoding: gzip\r\ncontent-length: ${body.length}\r\n` +
	    `host: ${host}\r\n\r\n${body}`;
}

export const offer = (session) => JSON.stringify({
	actionType: "offer", sessionId: session.sessionId, payload: {
		connectionDescription: { sdp: SDP, type: "offer" },
		userUid: session.sessionId,
	},
});

// The next frame of a Conn, which has to be text.
export async function next_frame(conn) {
	const message = await conn.message();
	if (message.opcode !== OP.text)
		throw new Error(`a message of opcode ${message.opcode}`);
	return JSON.parse(message.payload.toString());
}
