// SPDX-License-Identifier: MIT
// realtime: one conversation with OpenAI Realtime through culvert.
//
// Emits (as CustomEvents, their detail in brackets): state {state, text, why},
// event {way, data, size}, text {delta}, audio {delta}, done {usage},
// problem {text}.

// What a close code says to whoever looks at it here.
const CODES = {
  1000: "closed normally",
  1001: "the session's time is over",
  1002: "a protocol error",
  1003: "a kind of message that is not taken",
  1006: "the connection was lost",
  1007: "a text that is not UTF-8",
  1008: "against the server's policy",
  1009: "a message over the limit",
  1011: "an error of the server",
  1012: "the server restarts",
  1013: "the vendor is busy",
  1014: "the vendor is gone",
  4000: "the vendor refused the session",
  4001: "revoked",
  4003: "the budget of this day is spent",
  4101: "too slow",
  4102: "no answer to pings",
  4103: "idle for too long",
  4200: "the session's time is over",
};

export class Conversation extends EventTarget {
  #ws = null;
  #plain = false; // each message is a text, and answered without being asked
  #early = []; // texts that wait for the session
  #opened = false;
  #answering = false; // one response at a time may write to a conversation
  #asked = false; // another response is wanted

  get is_open() {
    return this.#ws !== null;
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  open(url, { modality, plain = false, protocols = [] }) {
    const ws = new WebSocket(url, protocols);
    this.#ws = ws;
    this.#plain = plain;
    this.#answering = this.#asked = this.#opened = false;
    this.#emit("state", { state: "busy", text: "connecting" });
    ws.onopen = () => {
      this.#opened = true;
      this.#emit("state", { state: "open", text: "connected" });
      if (!plain)
        this.#send({
          type: "session.update",
          session: { type: "realtime", output_modalities: [modality] },
        });
      for (const text of this.#early.splice(0))
        this.#say(text);
    };
    ws.onmessage = (message) => this.#receive(message.data);
    ws.onclose = (event) => this.#closed(event);
  }

  say(text) {
    if (this.#ws?.readyState === WebSocket.OPEN)
      this.#say(text);
    else
      this.#early.push(text);
  }

  close() {
    this.#ws?.close(1000, "");
  }

  #send(event) {
    const data = this.#plain ? event : JSON.stringify(event);
    this.#ws.send(data);
    this.#emit("event", { way: "out", data: event, size: data.length });
  }

  #say(text) {
    if (this.#plain) {
      this.#send(text);
      return;
    }
    this.#send({
      type: "conversation.item.create",
      item: {
        type: "message",
        role: "user",
        content: [{ type: "input_text", text }],
      },
    });
    if (this.#answering) {
      this.#asked = true;
    } else {
      this.#answering = true;
      this.#send({ type: "response.create" });
    }
  }

  #receive(data) {
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      this.#emit("problem", { text: "The vendor sent what is no JSON." });
      return;
    }
    this.#emit("event", { way: "in", data: event, size: data.length });
    switch (event.type) {
    case "response.output_text.delta":
    case "response.output_audio_transcript.delta":
      this.#emit("text", { delta: event.delta });
      break;
    case "response.output_audio.delta":
      this.#emit("audio", { delta: event.delta });
      break;
    case "response.done":
      this.#done(event.response ?? {});
      break;
    case "error":
      this.#emit("problem", { text: event.error?.message ?? "an error" });
      break;
    }
  }

  #done(response) {
    this.#answering = false;
    if (response.status === "failed")
      this.#emit("problem", {
        text: response.status_details?.error?.message ??
          "The response failed.",
      });
    this.#emit("done", { usage: response.usage });
    if (this.#asked) {
      this.#asked = false;
      this.#answering = true;
      this.#send({ type: "response.create" });
    }
  }

  // A browser keeps to itself why a connection never came about.
  #closed({ code, reason }) {
    const refused = !this.#opened && code === 1006;
    const normal = code === 1000;
    const what = refused ? "refused, or nobody there: the log says why"
      : reason || CODES[code] || "closed";
    this.#ws = null;
    this.#early.length = 0;
    this.#emit("event", { way: "end", data: null, size: 0,
      text: `closed ${code}: ${what}` });
    this.#emit("state", {
      state: normal ? "idle" : "bad",
      text: refused ? "not connected" : normal ? what : `closed ${code}`,
      why: `closed ${code}: ${what}`,
    });
  }
}
