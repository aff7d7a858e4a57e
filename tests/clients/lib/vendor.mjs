// SPDX-License-Identifier: MIT
// vendor: an upstream for the chat within the test, so that both ends of a
// delta are on one clock.
import http from "node:http";

// One delta every pace_ms; sent[i] is when delta i was written, of the last
// answer.
export async function open_vendor(t, { deltas = 20, pace_ms = 50 } = {}) {
	const vendor = { sent: [] };
	const server = http.createServer((req, res) => {
		req.resume();
		req.on("end", () => answer(vendor, res, deltas, pace_ms));
	});
	await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
	t.after(() => server.close());
	server.unref();
	vendor.http_port = server.address().port;
	return vendor;
}

function answer(vendor, res, deltas, pace_ms) {
	const chunk = (delta, finish_reason = null) =>
	    res.write(`data: ${JSON.stringify({ id: "c1",
	        object: "chat.completion.chunk", created: 1, model: "m",
	        choices: [{ index: 0, delta, finish_reason }] })}\n\n`);

	vendor.sent = [];
	res.writeHead(200, { "Content-Type": "text/event-stream" });
	chunk({ role: "assistant", content: "" });
	const timer = setInterval(() => {
		if (vendor.sent.length < deltas) {
			vendor.sent.push(performance.now());
			chunk({ content: `${vendor.sent.length} ` });
			return;
		}
		clearInterval(timer);
		chunk({}, "stop");
		res.end('data: {"id":"c1","object":"chat.completion.chunk",' +
		    '"created":1,"model":"m","choices":[],"usage":' +
		    `{"prompt_tokens":9,"completion_tokens":${deltas},` +
		    `"total_tokens":${9 + deltas}}}\n\ndata: [DONE]\n\n`);
	}, pace_ms);
	res.on("close", () => clearInterval(timer));
}
