// SPDX-License-Identifier: MIT
// A headless Chromium.  One serves all tests of a script, each with a profile
// of its own; Playwright ends it with the process.
import { find_program } from "../../lib/harness.mjs";

let running;

async function launch() {
	const { chromium } = await import("playwright-core");
	return chromium.launch({
		executablePath: find_program("chromium"),
		args: ["--no-sandbox", "--disable-gpu", "--disable-quic",
		    "--no-first-run", "--disable-background-networking",
		    "--disable-component-update", "--disable-sync",
		    "--use-fake-device-for-media-stream",
		    "--use-fake-ui-for-media-stream",
		    "--autoplay-policy=no-user-gesture-required"],
	});
}

// A profile (BrowserContext) that ends with the test.
export async function open_browser(t, options) {
	running ??= launch();
	const context = await (await running).newContext(options);
	t.after(() => context.close());
	return context;
}
