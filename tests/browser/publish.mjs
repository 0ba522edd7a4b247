// Publishes a fake camera and microphone by WHIP from headless Chromium.
//
//   node publish.mjs --page URL --whip URL --codec NAME --deadline-ms N
//
// NAME is the one codec that is offered for the picture: H264, VP8. PAGE is any page of the site, which the browser must trust with its camera. Prints one line of JSON for every
// look: the connection's state, the codec and the frames that were sent. Ends at the deadline, or when it is told
// to; exit status 2 when the browser could not even try.

import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const CHROMIUM = "/usr/bin/chromium";
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
  "--disable-features=WebRtcHideLocalIpsWithMdns",
];
const LOOK_EVERY_MS = 200;

function options() {
  const { values } = parseArgs({
    options: {
      page: { type: "string" },
      whip: { type: "string" },
      codec: { type: "string" },
      "deadline-ms": { type: "string" },
    },
  });
  const deadlineMs = Number(values["deadline-ms"]);
  if (!values.page || !values.whip || !values.codec || !(deadlineMs > 0)) {
    throw new Error("usage: node publish.mjs --page URL --whip URL --codec NAME --deadline-ms N");
  }
  return { ...values, deadlineMs };
}

/** Runs in the page: the whole of a WHIP client. */
async function publish({ whip, codec }) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 320, height: 240 } });
  const connection = new RTCPeerConnection();
  window.connection = connection;
  for (const track of stream.getTracks()) {
    const transceiver = connection.addTransceiver(track, { direction: "sendonly" });
    if (track.kind !== "video") continue;
    const known = RTCRtpSender.getCapabilities("video").codecs;
    transceiver.setCodecPreferences(known.filter(({ mimeType }) => [`video/${codec}`, "video/rtx"].includes(mimeType)));
  }
  await connection.setLocalDescription();
  const headers = { "content-type": "application/sdp" };
  const answer = await fetch(whip, { method: "POST", headers, body: connection.localDescription.sdp });
  if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
  await connection.setRemoteDescription({ type: "answer", sdp: await answer.text() });
}

/** Runs in the page: what has become of it. */
async function look() {
  const stats = [...(await window.connection.getStats()).values()];
  const video = stats.find((one) => one.type === "outbound-rtp" && one.kind === "video");
  return {
    state: window.connection.connectionState,
    codec: stats.find((one) => one.id === video?.codecId)?.mimeType ?? null,
    framesSent: video?.framesSent ?? 0,
    keyFramesEncoded: video?.keyFramesEncoded ?? 0,
    audioBytes: stats.find((one) => one.type === "outbound-rtp" && one.kind === "audio")?.bytesSent ?? 0,
  };
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function run({ page: url, whip, codec, deadlineMs }) {
  const deadline = Date.now() + deadlineMs;
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS, timeout: deadlineMs });
  process.once("SIGTERM", () => browser.close());
  try {
    const page = await browser.newPage();
    await page.goto(url, { waitUntil: "commit" });
    await page.evaluate(publish, { whip, codec });
    while (Date.now() < deadline && browser.isConnected()) {
      console.log(JSON.stringify(await page.evaluate(look)));
      await pause(LOOK_EVERY_MS);
    }
  } finally {
    await browser.close();
  }
}

try {
  await run(options());
} catch (error) {
  console.error(error.message);
  process.exitCode = 2;
}
