// SPDX-License-Identifier: MIT
// app: connects the page to what the other files do.
import { ask } from "./ask.js";
import { EventList } from "./events.js";
import { Player } from "./player.js";
import { Conversation } from "./realtime.js";
import { snippets } from "./snippets.js";
import { decode_token, request_token, time_left } from "./token.js";

const $ = (id) => document.getElementById(id);
const secure = location.protocol === "https:";

function set_status(el, state, text) {
  el.dataset.state = state;
  el.textContent = text;
}

// ---- conversation ----

const conversation = new Conversation();
const player = new Player();
const events = new EventList($("events"), $("event-count"));
let answer = null; // the line that the model is writing

function add_line(kind, text) {
  const list = $("conversation");
  list.querySelector(".hint")?.remove();
  const line = document.createElement("li");
  line.className = kind;
  line.textContent = text;
  list.append(line);
  list.scrollTop = list.scrollHeight;
  return line;
}

// Nothing of them changes while it is open; plain text is answered in text.
function show_options() {
  const open = conversation.is_open;
  for (const id of ["model", "form", "short-lived", "user-token"])
    $(id).disabled = open;
  $("modality").disabled = open || $("form").value === "plain";
}

conversation.addEventListener("state", ({ detail }) => {
  const open = conversation.is_open;
  set_status($("status"), detail.state, detail.text);
  $("hang-up").disabled = !open;
  show_options();
  if (open)
    return;
  answer = null;
  if (detail.state === "bad")
    add_line("error", detail.why);
});

conversation.addEventListener("event", ({ detail }) => events.add(detail));

conversation.addEventListener("text", ({ detail }) => {
  answer ??= add_line("model", "");
  answer.textContent += detail.delta;
  $("conversation").scrollTop = $("conversation").scrollHeight;
});

conversation.addEventListener("audio", ({ detail }) =>
  player.play(detail.delta));

conversation.addEventListener("done", ({ detail }) => {
  answer = null;
  const usage = detail.usage;
  if (usage)
    add_line("note", `${usage.total_tokens} tokens: ` +
      `${usage.input_tokens} in, ${usage.output_tokens} out`);
});

conversation.addEventListener("problem", ({ detail }) =>
  add_line("error", detail.text));

const user_token = () => $("user-token").value.trim();

// Where a user connects: a browser's WebSocket sends no headers, and a token
// in a URL would be good for more than this one connection.
async function ticket_url(path) {
  const { url, expires_at } = await ask("/api/tickets", { route: path },
    user_token());
  const until = new Date(expires_at * 1000).toLocaleTimeString();
  events.add({ way: "end", text: `got a ticket, good until ${until}` });
  return `${url}&`;
}

// A key of culvert's, for one conversation at this path, as subprotocols.
async function short_lived_key(path, model) {
  const route = path === "/v1/realtime" ? "" : `?route=${path}`;
  const { value, expires_at } = await ask(
    `/v1/realtime/client_secrets${route}`,
    { session: { type: "realtime", model } }, user_token());
  const until = new Date(expires_at * 1000).toLocaleTimeString();
  events.add({ way: "end",
    text: `got the key ${value.slice(0, 8)}…, good until ${until}` });
  return ["realtime", `openai-insecure-api-key.${value}`];
}

async function open_conversation() {
  const plain = $("form").value === "plain";
  const path = plain ? "/ws" : "/v1/realtime";
  const model = $("model").value.trim();
  const protocols = $("short-lived").checked
    ? await short_lived_key(path, model) : [];
  const target = user_token() !== "" && protocols.length === 0
    ? await ticket_url(path) : `${path}?`;
  conversation.open(`${secure ? "wss" : "ws"}://${location.host}${target}` +
    `model=${encodeURIComponent(model)}`,
  { modality: $("modality").value, plain, protocols });
}

$("talk").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = $("message").value.trim();
  if (text === "")
    return;
  player.unlock();
  add_line("user", text);
  $("message").value = "";
  const button = event.target.querySelector("[type=submit]");
  button.disabled = true; // until there is something to say it on
  try {
    if (!conversation.is_open)
      await open_conversation();
    conversation.say(text);
  } catch (err) {
    const what = $("short-lived").checked ? "key" : "ticket";
    add_line("error", `no ${what}: ${err.message}`);
  }
  button.disabled = false;
});

$("form").addEventListener("change", show_options);
$("hang-up").addEventListener("click", () => {
  player.stop();
  conversation.close();
});
$("mute").addEventListener("change", () => {
  player.muted = $("mute").checked;
});
$("clear-events").addEventListener("click", () => events.clear());
$("show-deltas").addEventListener("change", () => {
  events.every_delta = $("show-deltas").checked;
});

// ---- LiveKit ----

let expiry = 0;

function show_token({ server_url, participant_token }) {
  const { header, claims } = decode_token(participant_token);
  $("token").hidden = false;
  $("token-server").textContent = server_url;
  $("token-identity").textContent = claims.sub ?? "";
  $("token-room").textContent = claims.video?.room ?? "";
  $("token-header").textContent = JSON.stringify(header, null, 2);
  $("token-claims").textContent = JSON.stringify(claims, null, 2);
  $("token-text").textContent = participant_token;
  expiry = claims.exp ?? 0;
  set_status($("token-status"), "open", "valid");
  show_expiry();
}

function show_expiry() {
  if (expiry === 0)
    return;
  const left = expiry - Date.now() / 1000;
  $("token-expiry").textContent = time_left(left);
  if (left <= 0)
    set_status($("token-status"), "bad", "expired");
}
setInterval(show_expiry, 1000);

$("livekit").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  set_status($("token-status"), "busy", "asking");
  try {
    show_token(await request_token($("room").value.trim(),
      $("participant").value.trim()));
  } catch (err) {
    $("token").hidden = true;
    expiry = 0;
    set_status($("token-status"), "bad", err.message);
  }
  button.disabled = false;
});

// ---- Anam ----

$("anam").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  set_status($("anam-status"), "busy", "asking");
  try {
    const session = await ask("/v1/engine/session",
      { personaId: $("persona").value.trim() });
    $("anam-id").textContent = session.sessionId;
    $("anam-engine").textContent = session.engineHost;
    $("anam-socket").textContent = session.signallingEndpoint;
    $("anam-answer").textContent = JSON.stringify(session, null, 2);
    $("anam-session").hidden = false;
    set_status($("anam-status"), "open", "ready to be joined");
  } catch (err) {
    $("anam-session").hidden = true;
    set_status($("anam-status"), "bad", err.message);
  }
  button.disabled = false;
});

// ---- code to copy ----

const choices = snippets(location.host, secure);

function show_snippet() {
  $("snippet").textContent = choices[$("snippet-choice").value].code;
}

choices.forEach((choice, i) =>
  $("snippet-choice").append(new Option(choice.name, i)));
$("snippet-choice").addEventListener("change", show_snippet);
show_snippet();

async function copy(el) {
  try {
    await navigator.clipboard.writeText(el.textContent);
    return "Copied";
  } catch {
    // no permission, or no secure context: let the user press Ctrl-C
    el.closest("details")?.setAttribute("open", "");
    getSelection().selectAllChildren(el);
    return "Selected";
  }
}

for (const button of document.querySelectorAll("[data-copy]"))
  button.addEventListener("click", async () => {
    button.textContent = await copy($(button.dataset.copy));
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
