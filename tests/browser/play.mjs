// Opens a player page in headless Chromium and waits until it is in the wanted state.
//
//   node play.mjs --url URL --until STATE --deadline-ms N [--screenshot FILE] [--width W] [--insecure] [--stay]
//
// STATE is the value of the page's data-state attribute. "live" also asks for two seconds really played.
// Prints one line of JSON with what the page came to; exit status 0 when it came to STATE, 1 when it had not at
// the deadline, 2 when the browser could not even try. --insecure accepts a certificate that nobody vouches for.
// --stay keeps the page open until the deadline, and prints such a line for every look.

import { existsSync } from "node:fs";
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
const PLAYED_S = 2;
const LOOK_EVERY_MS = 100;
/** A page that fails in a loop would otherwise fill the report. */
const MESSAGES = 20;

const USAGE =
  "usage: node play.mjs --url URL --until STATE --deadline-ms N [--screenshot FILE] [--width W] [--insecure] [--stay]";

function options() {
  const { values } = parseArgs({
    options: {
      url: { type: "string" },
      until: { type: "string" },
      "deadline-ms": { type: "string" },
      screenshot: { type: "string" },
      width: { type: "string", default: "1280" },
      insecure: { type: "boolean", default: false },
      stay: { type: "boolean", default: false },
    },
  });
  const deadlineMs = Number(values["deadline-ms"]);
  const width = Number(values.width);
  if (!values.url || !values.until || !(deadlineMs > 0) || !(width > 0)) throw new Error(USAGE);
  return { ...values, deadlineMs, width };
}

/** Runs in the page: what it shows now. `window.sluicegate` is the player's own account of itself. */
function look() {
  const video = document.querySelector("video");
  const player = window.sluicegate;
  let played_s = 0;
  for (let i = 0; i < (video?.played.length ?? 0); i += 1) played_s += video.played.end(i) - video.played.start(i);
  return {
    openedAt: performance.timeOrigin,
    state: document.querySelector("[data-state]")?.dataset.state ?? null,
    currentTime: video?.currentTime ?? null,
    playedS: played_s,
    latencyMs: player?.latencyMs ?? null,
    bufferS: player?.bufferS ?? null,
    recoveries: player?.recoveries ?? null,
    videoWidth: video?.videoWidth ?? null,
    videoHeight: video?.videoHeight ?? null,
    frames: video?.getVideoPlaybackQuality().totalVideoFrames ?? null,
    audioBytes: video?.webkitAudioDecodedByteCount ?? null,
    mediaError: video?.error?.message ?? null,
  };
}

function arrived(seen, wanted) {
  return seen.state === wanted && (wanted !== "live" || seen.playedS >= PLAYED_S);
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** What the page was when it arrived, or when the deadline passed; with `stay`, always then. */
async function watch(page, wanted, deadline, stay) {
  let seen = { state: null };
  while (Date.now() < deadline && !page.isClosed()) {
    // Fails while the page navigates: the next look sees the new one.
    seen = await page.evaluate(look).catch(() => seen);
    if (stay) console.log(JSON.stringify(seen));
    else if (arrived(seen, wanted)) break;
    await pause(LOOK_EVERY_MS);
  }
  return seen;
}

async function run({ url, until, deadlineMs, screenshot, width, insecure, stay }) {
  const deadline = Date.now() + deadlineMs;
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS, timeout: deadlineMs });
  try {
    const viewport = { width, height: Math.round((width * 9) / 16) };
    const page = await browser.newPage({ viewport, ignoreHTTPSErrors: insecure });
    const errors = [];
    const note = (text) => errors.length < MESSAGES && errors.push(text);
    page.on("console", (message) => message.type() === "error" && note(message.text()));
    page.on("pageerror", (error) => note(String(error)));
    await page
      .goto(url, { waitUntil: "commit", timeout: Math.max(1, deadline - Date.now()) })
      .catch((error) => note(error.message.split("\n")[0]));
    const seen = await watch(page, until, deadline, stay);
    if (screenshot) await page.screenshot({ path: screenshot });
    return { ok: arrived(seen, until), ...seen, errors };
  } finally {
    await browser.close();
  }
}

try {
  const wanted = options();
  if (!existsSync(CHROMIUM)) throw new Error(`${CHROMIUM} is missing: setup/packages test installs it`);
  const report = await run(wanted);
  console.log(JSON.stringify(report));
  process.exitCode = report.ok ? 0 : 1;
} catch (error) {
  console.error(error.message);
  process.exitCode = 2;
}
