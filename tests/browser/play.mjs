// Opens a player page in headless Chromium and waits until it is in the wanted state.
//
//   node play.mjs --url URL --until STATE --deadline-ms N [--screenshot FILE] [--width W] [--insecure] [--sound] [--stay]
//     [--network FILE]
//
// STATE is the value of the page's data-state attribute. "live" also asks for two seconds really played.
// Prints one line of JSON with what the page came to; exit status 0 when it came to STATE, 1 when it had not at
// the deadline, 2 when the browser could not even try. --insecure accepts a certificate that nobody vouches for.
// --sound turns the sound on once it plays: players begin without.
// --stay keeps the page open until the deadline, and prints such a line for every look. --network keeps the page's
// network to the kbit/s that FILE says, which may change; an empty file sets no limit.

import { main } from "./chromium.mjs";

const PLAYED_S = 2;

/** Runs in the page: what it shows now. `window.sluicegate` is the player's own account of itself. */
function look() {
  const video = document.querySelector("video");
  const player = window.sluicegate;
  let played_s = 0;
  for (let i = 0; i < (video?.played.length ?? 0); i += 1) played_s += video.played.end(i) - video.played.start(i);
  return {
    openedAt: performance.timeOrigin,
    atMs: performance.now(),
    state: document.querySelector("[data-state]")?.dataset.state ?? null,
    engine: player?.engine ?? null,
    fallback: player?.fallback ?? null,
    currentTime: video?.currentTime ?? null,
    playedS: played_s,
    latencyMs: player?.latencyMs ?? null,
    bufferS: player?.bufferS ?? null,
    bitrateBps: player?.bitrateBps ?? null,
    packetsLost: player?.packetsLost ?? null,
    framesDecoded: player?.framesDecoded ?? null,
    audioEnergy: player?.audioEnergy ?? null,
    recoveries: player?.recoveries ?? null,
    videoWidth: video?.videoWidth ?? null,
    videoHeight: video?.videoHeight ?? null,
    frames: video?.getVideoPlaybackQuality().totalVideoFrames ?? null,
    audioBytes: video?.webkitAudioDecodedByteCount ?? null,
    mediaError: video?.error?.message ?? null,
  };
}

const arrived = (seen, wanted) => seen.state === wanted && (wanted !== "live" || seen.playedS >= PLAYED_S);

async function turnSoundOn(page, until, timeout) {
  await page.waitForSelector('[data-state="live"]', { state: "attached", timeout });
  await page.evaluate(() => (document.querySelector("video").muted = false));
}

const act = process.argv.includes("--sound") ? turnSoundOn : undefined;
await main({ act, look, arrived });
