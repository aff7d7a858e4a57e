// SPDX-License-Identifier: MIT
// token: ask culvert for a LiveKit token, and read what is in it.

import { ask } from "./ask.js";

// LiveKit's standard endpoint; resolves to {server_url, participant_token}.
export function request_token(room, name) {
  const body = {};
  if (room)
    body.room_name = room;
  if (name)
    body.participant_name = name;
  return ask("/api/livekit/token", body);
}

function decode_part(part) {
  const text = atob(part.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}

// {header, claims}.  The signature is for the LiveKit server: whoever could
// check it here could also make tokens.
export function decode_token(token) {
  const [header, claims] = token.split(".");
  return { header: decode_part(header), claims: decode_part(claims) };
}

export function time_left(seconds) {
  if (seconds <= 0)
    return "expired";
  const two = (n) => String(n).padStart(2, "0");
  const h = Math.floor(seconds / 3600);
  const m = Math.floor(seconds / 60) % 60;
  const s = Math.floor(seconds) % 60;
  return h > 0 ? `in ${h}:${two(m)}:${two(s)}` : `in ${m}:${two(s)}`;
}
