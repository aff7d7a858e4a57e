// SPDX-License-Identifier: MIT
// chat_view: the chat's part of the page.
import { Chat } from "./chat.js";

const $ = (id) => document.getElementById(id);
const chat = new Chat();
const log = $("chat-log");
const hint = log.querySelector(".hint");
let answer = null; // the line that is being written
let sent = ""; // what the server may refuse

function add_line(kind, text) {
  hint.remove();
  const line = document.createElement("li");
  line.className = kind;
  line.textContent = text;
  log.append(line);
  log.scrollTop = log.scrollHeight;
  return line;
}

function set_status(state, text) {
  $("chat-status").dataset.state = state;
  $("chat-status").textContent = text;
}

// Of a user what is left to spend, of a visitor how many messages.
function show_usage(usage) {
  if (usage.kind === "anonymous")
    set_status(usage.remaining > 0 ? "open" : "bad",
      `${usage.remaining} of ${usage.limit} messages left`);
  else
    set_status("open", usage.balance === undefined ? usage.user :
      `${usage.user}: ${usage.balance} ${usage.currency} left`);
}

function show_buttons() {
  const running = chat.is_running;
  $("chat-stop").disabled = !running;
  $("chat-regenerate").disabled = running || !log.querySelector(".model");
  for (const id of ["chat-send", "chat-choice", "chat-new", "chat-token"])
    $(id).disabled = running;
}

function remember() {
  if (chat.id)
    localStorage.setItem("culvert-chat", chat.id);
  else
    localStorage.removeItem("culvert-chat");
}

// ---- what the server says ----

const MARKS = { stopped: "stopped", interrupted: "interrupted: the server " +
  "was restarted", failed: "failed" };

function show_end(message) {
  const mark = MARKS[message.status];
  const usage = message.usage;
  if (mark)
    add_line("note", mark);
  if (usage)
    add_line("note", `${usage.total_tokens} tokens: ${usage.prompt_tokens}` +
      ` in, ${usage.completion_tokens} out`);
}

const HANDLERS = {
  assistant_regenerating() {
    const old = [...log.querySelectorAll(".model")].at(-1);
    while (old?.nextSibling)
      old.nextSibling.remove();
    old?.remove();
  },
  assistant_typing() {
    answer = add_line("model", "");
    sent = "";
    remember();
  },
  assistant_delta({ delta }) {
    answer ??= add_line("model", "");
    answer.textContent += delta;
    log.scrollTop = log.scrollHeight;
  },
  assistant_complete({ message }) {
    answer ??= add_line("model", "");
    answer.textContent = message.content;
    answer = null;
    show_end(message);
  },
  assistant_error({ error }) {
    answer = null;
    add_line("error", error);
    $("chat-message").value ||= sent; // to be sent again
    sent = "";
    chat.usage().then(show_usage, () => {}); // none comes in a refusal
  },
  session_lost: () => open_chat(chat.id),
  usage_info: show_usage,
};

chat.addEventListener("event", ({ detail: { event, data } }) =>
  HANDLERS[event]?.(data));

chat.addEventListener("lost", () => open_chat(chat.id));

chat.addEventListener("running", ({ detail }) => {
  show_buttons();
  if (!detail.running)
    list_chats();
});

// ---- chats ----

async function list_chats() {
  try {
    const choice = $("chat-choice");
    const options = (await chat.chats()).map(({ id, title }) =>
      new Option(title || "without a title", id, false, id === chat.id));
    choice.replaceChildren(new Option("a new chat", ""), ...options);
    choice.value = chat.id ?? "";
  } catch (err) {
    set_status("bad", err.message);
  }
}

async function open_chat(id) {
  log.replaceChildren(hint);
  answer = null;
  chat.id = id || null;
  remember();
  if (!chat.id)
    return show_buttons();
  try {
    for (const message of await chat.open(chat.id)) {
      if (message.status === "streaming")
        continue; // it comes as it is made
      add_line(message.role === "user" ? "user" : "model", message.content);
      if (message.role !== "user")
        show_end(message);
    }
  } catch (err) {
    chat.id = null;
    remember();
    add_line("error", err.message);
  }
  show_buttons();
}

async function begin() {
  try {
    show_usage(await chat.usage());
    await open_chat(localStorage.getItem("culvert-chat"));
    await list_chats();
  } catch (err) {
    set_status("bad", err.message);
  }
}

// ---- what one does ----

$("chat").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("chat-message").value.trim();
  if (text === "" || chat.is_running)
    return;
  $("chat-message").value = "";
  sent = text;
  add_line("user", text);
  chat.send(text, $("chat-model").value.trim() || undefined);
});

$("chat-stop").addEventListener("click", () =>
  chat.stop().catch((err) => add_line("error", err.message)));
$("chat-regenerate").addEventListener("click", () => chat.regenerate());
$("chat-choice").addEventListener("change", (event) =>
  open_chat(event.target.value));
$("chat-new").addEventListener("click", () => {
  $("chat-choice").value = "";
  open_chat("");
});
$("chat-token").addEventListener("change", () => {
  chat.token = $("chat-token").value.trim();
  sessionStorage.setItem("culvert-token", chat.token);
  localStorage.removeItem("culvert-chat");
  begin();
});

// A user stays one when this tab is loaded again.
chat.token = sessionStorage.getItem("culvert-token") ?? "";
$("chat-token").value = chat.token;
begin();
