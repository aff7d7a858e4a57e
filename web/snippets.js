// SPDX-License-Identifier: MIT
// snippets: the code for one's own page or program, for this host.

export function snippets(host, secure) {
  const ws = `${secure ? "wss" : "ws"}://${host}`;
  const http = `${secure ? "https" : "http"}://${host}`;

  return [{
    name: "a browser's WebSocket",
    code: `const ws = new WebSocket("${ws}/v1/realtime?model=gpt-realtime");
const send = (event) => ws.send(JSON.stringify(event));

ws.onopen = () => {
  send({ type: "session.update", session: {
    type: "realtime", output_modalities: ["text"] } });
  send({ type: "conversation.item.create", item: {
    type: "message", role: "user",
    content: [{ type: "input_text", text: "Hello" }] } });
  send({ type: "response.create" });
};
ws.onmessage = (message) => {
  const event = JSON.parse(message.data);
  if (event.type === "response.output_text.delta")
    console.log(event.delta);
};
ws.onclose = (event) => console.log(event.code, event.reason);
`,
  }, {
    name: "plain text",
    code: `const ws = new WebSocket("${ws}/ws");

ws.onopen = () => ws.send("Hello");
ws.onmessage = (message) => {
  const event = JSON.parse(message.data);
  if (event.type === "response.output_text.delta")
    console.log(event.delta);
};
`,
  }, {
    name: "OpenAI's Agents SDK",
    code: `import { RealtimeAgent, RealtimeSession, OpenAIRealtimeWebSocket }
  from "@openai/agents-realtime";

const transport = new OpenAIRealtimeWebSocket({
  url: "${ws}/v1/realtime?model=gpt-realtime",
});
const agent = new RealtimeAgent({ name: "Assistant" });
const session = new RealtimeSession(agent, { transport });

// culvert has the key: this one only has the form that the SDK wants.
// One that is good: POST ${http}/v1/realtime/client_secrets
await session.connect({ apiKey: "ek_none" });
session.sendMessage("Hello");
`,
  }, {
    name: "the openai package",
    code: `${secure ? "" : `// This package insists on wss: your site needs https
// (deploy/up --tls to try it here).
`}import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";

const openai = new OpenAI({
  apiKey: "none", // culvert has the key
  baseURL: "${secure ? http : `https://${host}`}/v1",
});
const rt = new OpenAIRealtimeWS({ model: "gpt-realtime" }, openai);

rt.socket.on("open", () => {
  rt.send({ type: "conversation.item.create", item: {
    type: "message", role: "user",
    content: [{ type: "input_text", text: "Hello" }] } });
  rt.send({ type: "response.create" });
});
rt.on("response.output_audio_transcript.delta",
  (event) => console.log(event.delta));
`,
  }, {
    name: "the chat, by fetch",
    code: `const answer = await fetch("${http}/api/v1/messages/send", {
  method: "POST",
  headers: {
    "Content-Type": "application/json",
    "x-anon-id": "an-id-that-you-keep", // or Authorization: Bearer JWT
    "Idempotency-Key": crypto.randomUUID(), // the same when you try again
  },
  body: JSON.stringify({ content: "Hello" }),
});
const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
let text = "";
for (;;) {
  const { done, value } = await reader.read();
  if (done)
    break;
  text += value;
  const events = text.split("\\n\\n");
  text = events.pop();
  for (const event of events)
    console.log(event); // event: assistant_delta, data: {"delta":...
}
`,
  }, {
    name: "the chat, by Socket.IO",
    code: `import { io } from "socket.io-client";

const socket = io("${http}/chats", {
  auth: { anon_id: "an-id-that-you-keep" }, // or token: JWT
});
socket.on("usage_info", (usage) => console.log(usage));
socket.on("chats_list", ({ chats }) => console.log(chats));
socket.emit("list_chats", { page: 0, limit: 20 });
`,
  }, {
    name: "Anam's SDK",
    code: `import { createClient } from "@anam-ai/js-sdk";

const answer = await fetch("${http}/v1/auth/session-token", {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ personaConfig: { personaId: "..." } }),
});
const { sessionToken } = await answer.json();
const client = createClient(sessionToken, { api: { baseUrl: "${http}" } });
await client.streamToVideoElement("video"); // the id of a <video>
`,
  }, {
    name: "LiveKit's client",
    code: `import { Room, TokenSource } from "livekit-client";

const source = TokenSource.endpoint("${http}/api/livekit/token");
const { serverUrl, participantToken } = await source.fetch({
  roomName: "lobby", participantName: "Ada",
});
const room = new Room();
await room.connect(serverUrl, participantToken);
`,
  }];
}
