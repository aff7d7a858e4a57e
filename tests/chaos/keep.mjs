// SPDX-License-Identifier: MIT
// keep: what a run leaves behind that found something, so that it can be
// explained afterwards: all logs, the store, what was charged, and who talked
// and what was hit when.
import fs from "node:fs";
import path from "node:path";

const time = (ms) => ms === undefined ? undefined :
    new Date(performance.timeOrigin + ms).toISOString();

// One object a line, so that grep finds it; times are those of the logs.
const lines = (list) => list.map(({ start, end, at, until, times, ...rest }) =>
    JSON.stringify({ start: time(start), end: time(end), at: time(at),
	until: time(until), times: times?.map(time), ...rest }) + "\n").join("");

// found: whatever is known of it, for a file of its own.
export function keep(dir, site, { conversations, faults, found }) {
	const write = (name, text) => fs.writeFileSync(path.join(dir, name), text);

	fs.mkdirSync(dir, { recursive: true });
	site.parts.forEach(({ name, pid, output }, i) =>
	    write(`${String(i).padStart(3, "0")}-${name}-${pid}.log`, output));
	for (const name of fs.readdirSync(site.dir))
		if (/^(store\.db.*|charges|.*\.(conf|log))$/.test(name))
			fs.copyFileSync(site.file(name), path.join(dir, name));
	write("conversations.jsonl", lines(conversations));
	write("faults.jsonl", lines(faults));
	write("found.json", JSON.stringify(found, null, 2));
}
