// A smoke: VUS viewers of one live stream, none of whom may stall.
//
//   k6 run -e BASE=http://127.0.0.1:5080 -e STREAM=live/demo smoke.js
//
// BASE      the balancer                      STREAM    app/stream, live already
// VUS       viewers (20)                      DURATION  seconds each of them watches (40)
// PLAYLIST_P95_MS  a playlist's p95 in ms (200)

import { sleep } from "k6";
import { watch } from "./lib/viewer.js";

const base = __ENV.BASE;
const [app, stream] = (__ENV.STREAM || "live/demo").split("/");
const vus = Number(__ENV.VUS || 20);
const duration_s = Number(__ENV.DURATION || 40);
const playlistP95_ms = Number(__ENV.PLAYLIST_P95_MS || 200);
/** Viewers come over this long, so that they do not poll in step. */
const ARRIVE_S = 2;

export const options = {
  scenarios: {
    viewers: {
      executor: "per-vu-iterations",
      vus,
      iterations: 1,
      maxDuration: `${duration_s + ARRIVE_S + 30}s`,
    },
  },
  // The development CA is nobody's.
  insecureSkipTLSVerify: true,
  thresholds: {
    http_req_failed: ["rate<0.001"],
    "http_req_duration{kind:playlist}": [`p(95)<${playlistP95_ms}`],
    hls_delivery_ratio: ["p(95)<0.5"],
    // Every viewer began to play, and kept playing.
    hls_starts: [`count==${vus}`],
    hls_stalls: ["count==0"],
    hls_segments_missed: ["count==0"],
    hls_playlists_back: ["count==0"],
    hls_playlists_malformed: ["count==0"],
  },
  summaryTrendStats: ["med", "p(95)", "p(99)", "max"],
};

export function setup() {
  if (!base) throw new Error("BASE is not set: the balancer's address, such as http://127.0.0.1:5080");
}

export default function () {
  sleep(Math.random() * ARRIVE_S);
  watch(`${base}/${app}/streams/${stream}_adaptive.m3u8`, duration_s);
}
