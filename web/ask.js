// SPDX-License-Identifier: MIT
// ask: one request of the page to culvert, in JSON.

// The answer's value; throws an Error with what the answer says is wrong.
// token: of a user who has signed in; "": a visitor.
export async function ask(path, body, token = "") {
  const who = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...who },
    body: JSON.stringify(body),
  }).catch(() => { throw new Error("the server does not answer"); });
  const value = await answer.json().catch(() => null);
  if (!answer.ok)
    throw new Error(value?.error?.message ?? value?.message ??
      `HTTP status ${answer.status}`);
  return value;
}
