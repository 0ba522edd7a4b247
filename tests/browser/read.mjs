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
  const shown = (texts) => texts.every((text) => document.body?.innerText.includes(text));
  const arrived = await page.waitForFunction(shown, values.shows, { timeout, polling: values.time ? "raf" : 100 }).then(
    () => true,
    () => false,
  );
  if (values.time && arrived) console.log(`${await page.evaluate(() => performance.now())} ms`);
  console.log(await page.evaluate(() => document.body.innerText));
  process.exitCode = arrived ? 0 : 1;
} finally {
  await browser.close();
}
