// Publishes and plays by Ant Media Server's own SDK, unchanged, in headless Chromium.
//
//   node ams-sdk.mjs --socket ws(s)://HOST/APP/websocket [--step STEP]… --deadline-ms N
//
// Each STEP is done when the one before it is:
//   publish:ID, play:ID, stop:ID, info:ID, height:ID:LINES   what the SDK is told to do
//   frames:ID:N        so many more frames are sent or decoded
//   heard:NAME         the SDK has been told NAME, by an event or an error
//   high:ID:LINES      the picture that is decoded has so many lines
// Prints a line of JSON for every look; ends at the deadline, or when it is told to.

import { createRequire } from "node:module";
import { parseArgs } from "node:util";
import { launch } from "./chromium.mjs";

/** The SDK, and before it what it expects to be there. */
const SCRIPTS = [
  "@mediapipe/selfie_segmentation/selfie_segmentation.js",
  "@antmedia/webrtc_adaptor/dist/browser/webrtc_adaptor.js",
].map((path) => createRequire(import.meta.url).resolve(path));
const LOOK_EVERY_MS = 100;
/** A page whose SDK fails in a loop would otherwise fill the report. */
const HEARD_MAX = 200;

function options() {
  const { values } = parseArgs({
    options: {
      socket: { type: "string" },
      step: { type: "string", multiple: true, default: [] },
      "deadline-ms": { type: "string" },
    },
  });
  const deadlineMs = Number(values["deadline-ms"]);
  if (!values.socket || !(deadlineMs > 0)) throw new Error("--socket URL [--step STEP]… --deadline-ms N");
  return { socket: new URL(values.socket), steps: values.step, deadlineMs };
}

/** Runs in the page: makes the SDK's adaptor and keeps what it is told. */
async function begin({ socket, publishes, heardMax }) {
  const heard = [];
  const note = (name, about) => heard.length < heardMax && heard.push({ name, about });
  const ready = new Promise((resolve) => {
    const adaptor = new window.webrtc_adaptor.WebRTCAdaptor({
      websocket_url: socket,
      isPlayMode: !publishes,
      mediaConstraints: publishes ? { video: { width: 320, height: 240 }, audio: true } : { video: false, audio: false },
      remoteVideoElement: null,
      callback(name, about) {
        if (name === "pong") window.sdk.pongs += 1;
        else note(name, about?.streamId ?? (typeof about === "string" ? about : null));
        if (name === "streamInformation") window.sdk.info = about.streamInfo;
        // As the SDK's samples do: a track that nothing shows is not decoded.
        if (name === "newTrackAvailable" && about.track.kind === "video") {
          const video = document.body.appendChild(document.createElement("video"));
          Object.assign(video, { srcObject: about.stream, muted: true, autoplay: true, id: about.trackId });
        }
        if (name === "initialized") resolve();
      },
      callbackError(name, about) {
        note(name, about?.streamId ?? null);
      },
    });
    window.sdk = { adaptor, heard, pongs: 0, info: null };
  });
  await ready;
}

/** Runs in the page: what the SDK is told to do. */
function tell([what, id, value]) {
  const { adaptor } = window.sdk;
  const told = {
    publish: () => adaptor.publish(id),
    play: () => adaptor.play(id),
    stop: () => adaptor.stop(id),
    info: () => adaptor.getStreamInfo(id),
    height: () => adaptor.forceStreamQuality(id, Number(value)),
  };
  told[what]();
}

/** Runs in the page: what there is now. */
async function look() {
  const { adaptor, heard, pongs, info } = window.sdk;
  const streams = {};
  for (const [id, connection] of Object.entries(adaptor.remotePeerConnection)) {
    const stats = [...(await connection.getStats()).values()];
    const video = stats.find((one) => /bound-rtp$/.test(one.type) && one.kind === "video" && !/^remote/.test(one.type));
    const audio = stats.find((one) => one.type === "inbound-rtp" && one.kind === "audio");
    streams[id] = {
      state: connection.iceConnectionState,
      frames: video?.framesDecoded ?? video?.framesSent ?? 0,
      height: video?.frameHeight ?? 0,
      audioEnergy: audio?.totalAudioEnergy ?? null,
      audioPackets: audio?.packetsReceived ?? null,
      channel: connection.dataChannel?.readyState ?? null,
    };
  }
  return { streams, heard, pongs, info };
}

/** Whether what a step waits for is there; `before` is what was seen when it began. */
function isDone([what, id, value], seen, before) {
  const frames = (of) => of?.streams[id]?.frames ?? 0;
  if (what === "frames") return frames(seen) >= frames(before) + Number(value);
  if (what === "heard") return seen.heard.some((one) => one.name === id);
  if (what === "high") return seen.streams[id]?.height === Number(value);
  return true;
}

const WAITS = ["frames", "heard", "high"];
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function walk(page, steps, deadline) {
  let before = null;
  while (Date.now() < deadline && !page.isClosed()) {
    const seen = await page.evaluate(look);
    console.log(JSON.stringify({ ...seen, left: steps }));
    const [step] = steps;
    if (step && !WAITS.includes(step[0])) {
      await page.evaluate(tell, step);
      steps.shift();
      before = seen;
    } else if (step && isDone(step, seen, before)) {
      steps.shift();
      before = seen;
    } else {
      await pause(LOOK_EVERY_MS);
    }
  }
}

async function run({ socket, steps, deadlineMs }) {
  const deadline = Date.now() + deadlineMs;
  const browser = await launch(deadlineMs);
  process.once("SIGTERM", () => browser.close());
  try {
    const page = await browser.newPage({ ignoreHTTPSErrors: true });
    page.on("pageerror", (error) => console.error(String(error)));
    // Any page of the site will do, also one that is not there: browsers ask for more where another site's connects.
    await page.goto(`${socket.protocol === "wss:" ? "https" : "http"}://${socket.host}/sdk.html`);
    for (const path of SCRIPTS) await page.addScriptTag({ path });
    const todo = steps.map((step) => step.split(":"));
    const publishes = todo.some(([what]) => what === "publish");
    await page.evaluate(begin, { socket: socket.href, publishes, heardMax: HEARD_MAX });
    await walk(page, todo, deadline);
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
