// Watches a stream by WebRTC in the player page in headless Chromium, through another address than the server's.
//
//   node watch-webrtc.mjs --url URL --server "IP PORT" --instead "IP PORT" --seconds S --deadline-ms D
//
// In the server's answers to offers, its candidate is replaced by the other address. Prints one line of JSON:
//   {"gapsMs": [from each picture shown to the next], "apartMs": […], "packetsLost": …, "retransmitted": …, "errors": […]}
// apartMs: how far the picture that is shown is from the sound that is heard, twice a second. Both tracks' timestamps are
// to count from the same zero, as an origin's do for what came by RTMP.
// Exit status 0 when it was watched, 2 when the browser could not even try.

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
  "--disable-features=WebRtcHideLocalIpsWithMdns",
];
const NAMES = ["url", "server", "instead", "seconds", "deadline-ms"];
/** Played before the first look: the start, and the first reports of the sender's clock. */
const SETTLE_S = 6;
/** A page that fails in a loop would otherwise fill the report. */
const MESSAGES = 20;

function options() {
  const { values } = parseArgs({ options: Object.fromEntries(NAMES.map((name) => [name, { type: "string" }])) });
  const [seconds, deadlineMs] = [Number(values.seconds), Number(values["deadline-ms"])];
  if (!NAMES.every((name) => values[name]) || !(seconds > 0) || !(deadlineMs > 0)) {
    throw new Error(`usage: node watch-webrtc.mjs ${NAMES.map((name) => `--${name} …`).join(" ")}`);
  }
  return { ...values, seconds, deadlineMs };
}

/** Runs in the page before anything else: its connections are kept to be looked at. */
function keepConnections() {
  window.connections = [];
  window.RTCPeerConnection = class extends window.RTCPeerConnection {
    constructor(...given) {
      super(...given);
      window.connections.push(this);
    }
  };
}

/** Runs in the page. */
async function watch({ seconds, settle_s, deadline }) {
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const tracks = async () => {
    const connection = window.connections.at(-1);
    const stats = connection ? [...(await connection.getStats()).values()] : [];
    const of = (kind) => stats.find((one) => one.type === "inbound-rtp" && one.kind === kind);
    return { video: of("video"), audio: of("audio") };
  };
  const playing = async () => ((await tracks()).video?.framesDecoded ?? 0) > settle_s * 20;
  while (!(await playing()) && Date.now() < deadline) await pause(200);

  const video = document.querySelector("video");
  const [gapsMs, apartMs] = [[], []];
  const end = performance.now() + seconds * 1000;
  let last = null;
  const shown = (now) => {
    if (last !== null) gapsMs.push(now - last);
    last = now;
    if (now < end) video.requestVideoFrameCallback(shown);
  };
  video.requestVideoFrameCallback(shown);
  /** When the zero of a track's timestamps would have been shown or heard. */
  const zeroMs = (kind, hz) => {
    const receivers = window.connections.at(-1).getReceivers();
    const source = receivers.find(({ track }) => track.kind === kind)?.getSynchronizationSources()[0];
    return source ? source.timestamp - (source.rtpTimestamp / hz) * 1000 : NaN;
  };
  while (performance.now() < end && Date.now() < deadline) {
    const apart = Math.abs(zeroMs("video", 90_000) - zeroMs("audio", 48_000));
    if (Number.isFinite(apart)) apartMs.push(apart);
    await pause(500);
  }
  const { video: picture } = await tracks();
  return {
    gapsMs,
    apartMs,
    packetsLost: Math.max(0, picture?.packetsLost ?? 0),
    retransmitted: picture?.retransmittedPacketsReceived ?? 0,
  };
}

async function run({ url, server, instead, seconds, deadlineMs }) {
  const deadline = Date.now() + deadlineMs;
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS, timeout: deadlineMs });
  try {
    const page = await browser.newPage({ viewport: { width: 640, height: 360 } });
    const errors = [];
    const note = (text) => errors.length < MESSAGES && errors.push(text);
    page.on("console", (message) => message.type() === "error" && note(message.text()));
    page.on("pageerror", (error) => note(String(error)));
    await page.addInitScript(keepConnections);
    await page.route(/\/whep\/[^/]+$/, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: (await response.text()).replaceAll(server, instead) });
    });
    await page.goto(url, { timeout: deadlineMs });
    return { ...(await page.evaluate(watch, { seconds, settle_s: SETTLE_S, deadline })), errors };
  } finally {
    await browser.close();
  }
}

try {
  const wanted = options();
  if (!existsSync(CHROMIUM)) throw new Error(`${CHROMIUM} is missing: setup/packages test installs it`);
  console.log(JSON.stringify(await run(wanted)));
} catch (error) {
  console.error(error.message);
  process.exitCode = 2;
}
