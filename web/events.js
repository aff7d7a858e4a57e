// SPDX-License-Identifier: MIT
// events: the list of a connection's events, each with its JSON to unfold.

const SHOWN_MAX = 400; // older ones go: a long talk must not fill the memory
const TEXT_MAX = 120; // of a string inside an event: audio is long

function shorten(key, value) {
  if (typeof value !== "string" || value.length <= TEXT_MAX)
    return value;
  return `${value.slice(0, TEXT_MAX)}… (${value.length} characters)`;
}

function element(name, class_name, text = "") {
  const el = document.createElement(name);
  el.className = class_name;
  el.textContent = text;
  return el;
}

export class EventList {
  #list;
  #counter;
  #count = 0;
  #last = null; // {type, way, times, el} of the newest line
  every_delta = false;

  constructor(list, counter) {
    this.#list = list;
    this.#counter = counter;
  }

  clear() {
    this.#list.replaceChildren();
    this.#count = 0;
    this.#last = null;
    this.#counter.textContent = "0";
  }

  add({ way, data, size, text }) {
    if (way === "end")
      this.#append(element("div", "plain", text));
    else
      this.#add_event(way, data, size);
    this.#counter.textContent = String(this.#count);
  }

  #add_event(way, data, size) {
    const type = typeof data === "string" ? "plain text"
      : String(data?.type ?? "(no type)");
    this.#count++;
    // deltas of a kind share one line, which counts them
    if (!this.every_delta && type.endsWith(".delta") &&
        this.#last?.type === type) {
      this.#last.times++;
      this.#last.el.textContent = `×${this.#last.times}`;
      return;
    }
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    const arrow = element("span", "way", way === "out" ? "↑" : "↓");
    arrow.setAttribute("role", "img");
    arrow.setAttribute("aria-label", way === "out" ? "sent" : "received");
    const times = element("span", "times");
    summary.append(arrow, element("span", "type", type), times,
      element("span", "size", `${size} B`));
    details.append(summary);
    if (type === "error")
      details.className = "bad";
    details.addEventListener("toggle", () => {
      if (details.open && details.children.length === 1)
        details.append(element("pre", "wrap",
          JSON.stringify(data, shorten, 2)));
    });
    this.#append(details);
    this.#last = { type, times: 1, el: times };
  }

  #append(child) {
    const list = this.#list;
    const at_end = list.scrollTop + list.clientHeight >=
      list.scrollHeight - 8;
    const item = document.createElement("li");
    item.append(child);
    list.append(item);
    this.#last = null;
    while (list.children.length > SHOWN_MAX)
      list.firstElementChild.remove();
    if (at_end)
      list.scrollTop = list.scrollHeight;
  }
}
