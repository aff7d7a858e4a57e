// SPDX-License-Identifier: MIT
// tap: a small runner whose output automake's tap-driver reads.
//
// Tests of a file run one after the other, each with a time limit.  A test
// takes `t': t.after(fn) cleans up (last first, also after a failure),
// t.on_failure(fn) returns text for the log, t.diag(text) prints, t.skip(why)
// ends the test as skipped.
//
// TEST_PATIENCE multiplies all time limits, for programs that are slow.
import { AsyncLocalStorage } from "node:async_hooks";

const queue = [];
const filter = process.env.TEST_ONLY ? new RegExp(process.env.TEST_ONLY) : null;
let started = false;
let strays = [];

export const patience = Number(process.env.TEST_PATIENCE || 1);

class Skip extends Error {}

export const current = new AsyncLocalStorage();

export function diag(text) {
	for (const line of String(text).split("\n"))
		process.stdout.write(`# ${line}\n`);
}

// options: timeout in milliseconds, skip: a reason, or a false value.
export function test(name, fn, options = {}) {
	queue.push({ name, fn, options });
	if (!started) {
		started = true;
		setImmediate(run_all);
	}
}

export function skip_all(reason) {
	process.stdout.write(`1..0 # SKIP ${reason}\n`);
	process.exit(0);
}

// A promise that fails after ms, without keeping the process alive.
export function deadline(promise, ms, what) {
	let timer;
	const late = new Promise((_, reject) => {
		timer = setTimeout(() => reject(
		    new Error(`${what}: not within ${ms} ms`)), ms * patience);
	});
	promise.catch(() => {});
	return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function describe(err) {
	if (!(err instanceof Error))
		return `thrown: ${String(err)}`;
	let text = err.stack ?? String(err);
	for (let cause = err.cause; cause; cause = cause.cause)
		text += `\ncaused by ${cause.stack ?? cause}`;
	return text;
}

async function run_one(item) {
	const cleaners = [], dumpers = [];
	const failures = [];
	const t = {
		name: item.name,
		after: (fn) => cleaners.push(fn),
		on_failure: (fn) => dumpers.push(fn),
		diag,
		skip: (why) => { throw new Skip(why); },
	};

	try {
		await deadline(current.run(t, async () => item.fn(t)),
		    item.options.timeout ?? 60000, "time limit of the test");
	} catch (err) {
		if (err instanceof Skip)
			t.skipped = err.message;
		else
			failures.push(err);
	}
	for (const fn of cleaners.reverse()) {
		try {
			await deadline(Promise.resolve(fn(failures.length > 0)),
			    45000, "time limit of the cleanup");
		} catch (err) {
			failures.push(err);
		}
	}
	failures.push(...strays);
	strays = [];
	if (failures.length > 0) {
		for (const err of failures)
			diag(describe(err));
		for (const fn of dumpers)
			diag(await fn());
	}
	return { ok: failures.length === 0, skipped: t.skipped };
}

async function run_all() {
	let number = 0, failed = 0;

	for (let item; (item = queue.shift()) !== undefined;) {
		if (filter && !filter.test(item.name))
			continue;
		number++;
		const name = item.name.replace(/[#\\\n]/g, " ");
		if (item.options.skip) {
			process.stdout.write(
			    `ok ${number} - ${name} # SKIP ${item.options.skip}\n`);
			continue;
		}
		const start = process.hrtime.bigint();
		const result = await run_one(item);
		const ms = Number(process.hrtime.bigint() - start) / 1e6;
		if (!result.ok)
			failed++;
		process.stdout.write(`${result.ok ? "ok" : "not ok"} ${number}` +
		    ` - ${name}${result.skipped && result.ok ?
		        ` # SKIP ${result.skipped}` : ""}\n`);
		if (process.env.TEST_TIMES)
			diag(`${ms.toFixed(0)} ms`);
	}
	process.stdout.write(`1..${number}\n`, () => {
		process.exit(failed > 0 ? 1 : 0);
	});
}

// A promise that nobody awaits any more, since its test failed elsewhere, or
// an error that would otherwise be lost: it counts where it comes up.
process.on("unhandledRejection", (err) => { strays.push(err); });
