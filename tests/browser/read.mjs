// Opens a page in headless Chromium and waits until it shows what is wanted.
//
//   node read.mjs --url URL --shows TEXT [--shows TEXT]… --deadline-ms N [--time]
//
// With --time the first line is how long that took, from the navigation's start: `123.4 ms`.
// Prints the page's visible text; exit status 0 when every TEXT is in it, 1 when not at the deadline.

import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const { values } = parseArgs({
  options: {
    url: { type: "string" },
    shows: { type: "string", multiple: true, default: [] },
    time: { type: "boolean", default: false },
    "deadline-ms": { type: "string", default: "20000" },
  },
});
const timeout = Number(values["deadline-ms"]);

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
  timeout,
});
try {
  const page = await browser.newPage();
  await page.goto(values.url, { waitUntil: "commit", timeout });
  // When the page shows it, not when this program hears of that.
  const shown = (texts) => texts.every((text) => document.body?.innerText.includes(text)) && performance.now();
  const arrived = await page.waitForFunction(shown, values.shows, { timeout, polling: values.time ? "raf" : 100 }).then(
    (at) => at.jsonValue(),
    () => null,
  );
  if (values.time && arrived !== null) console.log(`${arrived} ms`);
  console.log(await page.evaluate(() => document.body.innerText));
  process.exitCode = arrived === null ? 1 : 0;
} finally {
  await browser.close();
}
