// SPDX-License-Identifier: MIT
// chat: messages over server-sent events, and what there is of chats in JSON.
//
// Events of a Chat: "event" {event, data}, as the server sent it; "running"
// {running}: whether an answer is being made; "lost": one has ended that was not
// heard to its end.

const API = "/api/v1";
const RETRIES = 20; // of a stream that breaks, half a second apart

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// JSON of an answer; throws an Error with what it says is wrong.
async function value_of(answer) {
  const value = await answer.json().catch(() => null);
  if (!answer.ok)
    throw new Error(value?.error?.message ?? `HTTP status ${answer.status}`);
  return value;
}

const is_stream = (answer) =>
  answer.headers.get("Content-Type")?.startsWith("text/event-stream");

// The events in an answer, {id, event, data} each; data are JSON.
export async function* read_events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done)
      return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) !== -1;) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const event = Object.fromEntries(lines
        .filter((line) => !line.startsWith(":"))
        .map((line) => line.split(/: ?(.*)/s, 2)));
      if (event.data !== undefined)
        yield { ...event, data: JSON.parse(event.data) };
    }
  }
}

// Who one is without a token: an id that this browser keeps.
function anonymous_id() {
  const id = localStorage.getItem("culvert-anon-id") ??
    `page-${crypto.randomUUID()}`;
  localStorage.setItem("culvert-anon-id", id);
  return id;
}

export class Chat extends EventTarget {
  id = null; // of the chat; null: the next message makes one
  token = ""; // of a user who has signed in; "": an anonymous visitor
  is_running = false;

  #headers(more) {
    return { ...more, ...this.token ?
      { Authorization: `Bearer ${this.token}` } :
      { "x-anon-id": anonymous_id() } };
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  async #ask(method, path, body) {
    const answer = await fetch(API + path, {
      method,
      headers: this.#headers(body && { "Content-Type": "application/json" }),
      body: body && JSON.stringify(body),
    }).catch(() => { throw new Error("the server does not answer"); });
    return value_of(answer);
  }

  usage() { return this.#ask("GET", "/usage"); }

  async chats() { return (await this.#ask("GET", "/chats?limit=50")).chats; }

  // The chat's messages; an answer that is being made is followed.
  async open(id) {
    this.id = id;
    const { messages } = await this.#ask("GET",
      `/chats/${id}/messages?limit=100`);
    if (messages.at(-1)?.status === "streaming")
      this.#attach();
    return messages;
  }

  send(content, model) {
    return this.#stream("send", { chat_id: this.id, content, model });
  }

  regenerate() {
    return this.#stream("regenerate", { chat_id: this.id });
  }

  stop() {
    return this.#ask("POST", "/messages/stop", { chat_id: this.id });
  }

  // The same key each time: however often it is tried, it is sent once.
  async #stream(what, body) {
    const headers = this.#headers({
      "Content-Type": "application/json",
      "Idempotency-Key": crypto.randomUUID(),
    });
    await this.#run(async () => {
      for (let tries = 0; ; tries++)
        try {
          return await fetch(`${API}/messages/${what}`, {
            method: "POST", headers, body: JSON.stringify(body) });
        } catch {
          if (tries === 5)
            throw new Error("the server does not answer");
          await pause(500);
        }
    });
  }

  #attach() {
    return this.#run(() => this.#get(undefined));
  }

  #get(last_id) {
    return fetch(`${API}/messages/stream?chat_id=${this.id}`, {
      headers: this.#headers(last_id && { "Last-Event-ID": last_id }) });
  }

  async #run(begin) {
    this.is_running = true;
    this.#emit("running", { running: true });
    try {
      const answer = await begin();
      if (answer.status !== 204 && !is_stream(answer))
        await value_of(answer);
      await this.#follow(answer);
    } catch (err) {
      this.#emit("event", { event: "assistant_error",
        data: { error: err.message } });
    }
    this.is_running = false;
    this.#emit("running", { running: false });
  }

  // To the answer's end; a stream that breaks goes on after its last event.
  async #follow(answer) {
    let last_id, ended = false;
    for (let tries = 0; tries < RETRIES; tries++) {
      if (answer?.status === 204)
        return this.#emit("lost", {}); // it has ended meanwhile
      try {
        for await (const event of read_events(answer)) {
          last_id = event.id ?? last_id;
          tries = 0;
          this.id = event.data.chat_id ?? this.id;
          ended ||= /^(assistant_(complete|error)|session_lost)$/
            .test(event.event);
          this.#emit("event", event);
        }
      } catch {
        // it broke
      }
      if (ended)
        return;
      await pause(500);
      answer = await this.#get(last_id).catch(() => undefined);
    }
    throw new Error("the connection is lost: reload the page");
  }
}
