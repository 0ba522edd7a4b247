// Headless Chromium, as all scripts here want it: a page opened, looked at again and again, and a report printed.

import { existsSync, readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const CHROMIUM = "/usr/bin/chromium";
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--autoplay-policy=no-user-gesture-required",
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
  "--disable-features=WebRtcHideLocalIpsWithMdns",
];
const LOOK_EVERY_MS = 100;
/** A page that fails in a loop would otherwise fill the report. */
const MESSAGES = 20;

const USAGE =
  "--url URL --until STATE --deadline-ms N [--screenshot FILE] [--width W] [--insecure] [--sound] [--stay] [--network FILE]";

/** The command line. */
export function options() {
  const { values } = parseArgs({
    options: {
      url: { type: "string" },
      until: { type: "string" },
      "deadline-ms": { type: "string" },
      screenshot: { type: "string" },
      width: { type: "string", default: "1280" },
      insecure: { type: "boolean", default: false },
      sound: { type: "boolean", default: false },
      stay: { type: "boolean", default: false },
      network: { type: "string" },
    },
  });
  const deadlineMs = Number(values["deadline-ms"]);
  const width = Number(values.width);
  if (!values.url || !values.until || !(deadlineMs > 0) || !(width > 0)) throw new Error(USAGE);
  return { ...values, deadlineMs, width };
}

/**
 * Opens the page, does `act` to it, and looks at it by `look`, which runs in the page, until `arrived`, or, with
 * `stay`, until the deadline. Prints a line of JSON with what the page came to; with `stay`, one for every look.
 * The exit status is 0 when it arrived, 1 when it had not at the deadline, 2 when the browser could not even try.
 */
export async function main({ act, look, arrived }) {
  try {
    const wanted = options();
    if (!existsSync(CHROMIUM)) throw new Error(`${CHROMIUM} is missing: setup/packages test installs it`);
    const report = await run(wanted, { act, look, arrived });
    console.log(JSON.stringify(report));
    process.exitCode = report.ok ? 0 : 1;
  } catch (error) {
    console.error(error.message);
    process.exitCode = 2;
  }
}

/** A browser that must have started within `timeout` ms. */
export function launch(timeout) {
  return chromium.launch({ executablePath: CHROMIUM, args: FLAGS, timeout });
}

async function run({ url, until, deadlineMs, screenshot, width, insecure, stay, network }, { act, look, arrived }) {
  const deadline = Date.now() + deadlineMs;
  const browser = await launch(deadlineMs);
  try {
    const viewport = { width, height: Math.round((width * (width < 600 ? 16 : 9)) / (width < 600 ? 9 : 16)) };
    const page = await browser.newPage({ viewport, ignoreHTTPSErrors: insecure });
    const errors = [];
    const note = (text) => errors.length < MESSAGES && errors.push(text);
    page.on("console", (message) => message.type() === "error" && note(message.text()));
    page.on("pageerror", (error) => note(String(error)));
    const throttle = network === undefined ? null : await throttledBy(page, network);
    const left = () => Math.max(1, deadline - Date.now());
    await page
      .goto(url, { waitUntil: "commit", timeout: left() })
      .then(() => act?.(page, until, left()))
      .catch((error) => note(error.message.split("\n")[0]));
    const seen = await watch(page, look, (seen) => !stay && arrived(seen, until), deadline, stay, throttle);
    if (screenshot) await page.screenshot({ path: screenshot });
    return { ok: arrived(seen, until), ...seen, errors };
  } finally {
    await browser.close();
  }
}

/** Keeps the page's network to what the file says, in kbit/s, each time it is called; an empty file sets no limit. */
async function throttledBy(page, file) {
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Network.enable");
  let applied = "";
  return async () => {
    const wanted = readFileSync(file, "utf8").trim();
    if (wanted === applied) return;
    applied = wanted;
    const throughput = wanted === "" ? -1 : (Number(wanted) * 1000) / 8;
    const conditions = { offline: false, latency: 0, downloadThroughput: throughput, uploadThroughput: throughput };
    await devtools.send("Network.emulateNetworkConditions", conditions);
  };
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function watch(page, look, isEnough, deadline, report, throttle) {
  let seen = { state: null };
  while (Date.now() < deadline && !page.isClosed()) {
    // Fails while the page navigates: the next look sees the new one.
    seen = await page.evaluate(look).catch(() => seen);
    if (report) console.log(JSON.stringify(seen));
    if (isEnough(seen)) break;
    await throttle?.();
    await pause(LOOK_EVERY_MS);
  }
  return seen;
}
