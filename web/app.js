// SPDX-License-Identifier: MIT
// app: connects the page to what the other files do.
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

conversation.addEventListener("state", ({ detail }) => {
  const open = conversation.is_open;
  set_status($("status"), detail.state, detail.text);
  $("hang-up").disabled = !open;
  $("model").disabled = $("modality").disabled = open;
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

$("talk").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("message").value.trim();
  if (text === "")
    return;
  player.unlock();
  add_line("user", text);
  conversation.say(text);
  $("message").value = "";
  if (conversation.is_open)
    return;
  const model = encodeURIComponent($("model").value.trim());
  conversation.open(`${secure ? "wss" : "ws"}://${location.host}` +
    `/v1/realtime?model=${model}`, $("modality").value);
});

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
