/** What the player page shows of itself, to its view and to tests. */

import type { Engine } from "./engine";
import type { State } from "./session";

/** The player as it is now; `window.sluicegate` on the page. */
export interface Snapshot {
  state: State;
  /** Empty when the page's address names none. */
  stream: string;
  /** From the camera to the screen, by the sender's clock and the viewer's. */
  latencyMs: number | null;
  positionS: number;
  /** How much is loaded beyond the frame on screen. */
  bufferS: number;
  width: number;
  height: number;
  fps: number | null;
  bitrateBps: number | null;
  droppedFrames: number;
  /** By WebRTC: packets lost on the way, and their share of all. `null` by HLS, where none is. */
  packetsLost: number | null;
  lossShare: number | null;
  /** Pictures decoded, and what was heard, since the connection began. `null` by HLS. */
  framesDecoded: number | null;
  audioEnergy: number | null;
  muted: boolean;
  /** How often the stream was opened again. */
  recoveries: number;
  engine: Engine["name"] | null;
  /** Why it is not played by a better way; empty when there is none better. */
  fallback: string;
}

/** A page that plays nothing. */
export function nothing(stream: string): Snapshot {
  return {
    state: "not-found",
    stream,
    latencyMs: null,
    positionS: 0,
    bufferS: 0,
    width: 0,
    height: 0,
    fps: null,
    bitrateBps: null,
    droppedFrames: 0,
    packetsLost: null,
    lossShare: null,
    framesDecoded: null,
    audioEnergy: null,
    muted: true,
    recoveries: 0,
    engine: null,
    fallback: "",
  };
}
