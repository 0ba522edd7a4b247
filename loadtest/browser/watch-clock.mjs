// Watches a stream whose picture is a clock, in the player page in headless Chromium.
//
//   node watch-clock.mjs --url URL --columns C --rows R --settle-s S --count N --every-ms M --deadline-ms D
//
// Once the page has played S seconds, looks at the video N times, every M ms. Prints one line of JSON:
//   {"samples": [{"seenAtMs": …, "brightness": [C·R numbers, 0 to 255, in reading order]}, …], "stalls": …,
//    "state": …, "errors": […]}
// where "stalls" counts how often the video had to wait for media between the first look and the last.
// Exit status 0 when all N were taken, 1 when they were not at the deadline, 2 when the browser could not even try.

import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { chromium } from "../../tests/browser/node_modules/playwright-core/index.mjs";

const CHROMIUM = "/usr/bin/chromium";
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--autoplay-policy=no-user-gesture-required",
];
/** A page that fails in a loop would otherwise fill the report. */
const MESSAGES = 20;
const NUMBERS = ["columns", "rows", "settle-s", "count", "every-ms", "deadline-ms"];

function options() {
  const names = Object.fromEntries(["url", ...NUMBERS].map((name) => [name, { type: "string" }]));
  const { values } = parseArgs({ options: names });
  const numbers = NUMBERS.map((name) => Number(values[name]));
  if (!values.url || !numbers.every((number) => number > 0)) {
    throw new Error(`usage: node watch-clock.mjs --url URL ${NUMBERS.map((name) => `--${name} N`).join(" ")}`);
  }
  const [columns, rows, settle_s, count, everyMs, deadlineMs] = numbers;
  return { url: values.url, columns, rows, settle_s, count, everyMs, deadlineMs };
}

/** Runs in the page: the samples that were taken until `deadline`. */
async function watch({ columns, rows, settle_s, count, everyMs, deadline }) {
  // Each block of the clock becomes a square of so many pixels, whose middle is looked at.
  const SIDE = 8;
  const video = document.querySelector("video");
  const canvas = new OffscreenCanvas(columns * SIDE, rows * SIDE);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

  const played_s = () => {
    let sum = 0;
    for (let i = 0; i < video.played.length; i += 1) sum += video.played.end(i) - video.played.start(i);
    return sum;
  };
  const brightness = () => {
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const middle = (block) => {
      const x = (block % columns) * SIDE + SIDE / 2;
      const y = Math.floor(block / columns) * SIDE + SIDE / 2;
      const at = (y * canvas.width + x) * 4;
      return Math.round((data[at] + data[at + 1] + data[at + 2]) / 3);
    };
    return Array.from({ length: columns * rows }, (_, block) => middle(block));
  };

  while (played_s() < settle_s && Date.now() < deadline) await pause(everyMs);
  let stalls = 0;
  video.addEventListener("waiting", () => (stalls += 1));
  const samples = [];
  while (samples.length < count && Date.now() < deadline) {
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    const seenAtMs = Date.now();
    samples.push({ seenAtMs, brightness: brightness() });
    await pause(everyMs);
  }
  return { samples, stalls, state: document.querySelector("[data-state]")?.dataset.state ?? null };
}

async function run({ url, deadlineMs, ...wanted }) {
  const deadline = Date.now() + deadlineMs;
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS, timeout: deadlineMs });
  try {
    const page = await browser.newPage({ viewport: { width: 640, height: 360 } });
    const errors = [];
    const note = (text) => errors.length < MESSAGES && errors.push(text);
    page.on("console", (message) => message.type() === "error" && note(message.text()));
    page.on("pageerror", (error) => note(String(error)));
    await page.goto(url, { timeout: Math.max(1, deadline - Date.now()) });
    return { ...(await page.evaluate(watch, { ...wanted, deadline })), errors };
  } finally {
    await browser.close();
  }
}

try {
  const wanted = options();
  if (!existsSync(CHROMIUM)) throw new Error(`${CHROMIUM} is missing: setup/packages test installs it`);
  const report = await run(wanted);
  console.log(JSON.stringify(report));
  process.exitCode = report.samples.length === wanted.count ? 0 : 1;
} catch (error) {
  console.error(error.message);
  process.exitCode = 2;
}
