/** How fast to play, so that a live stream is as little behind as it was made for. */

/** As hls.js and the video element tell it, in seconds. */
export interface Delay {
  /** Behind the newest that the stream has. */
  latency_s: number;
  /** What that is to be: the playlist's hold-back (RFC 8216bis section 4.4.3.8), more after stalls. */
  target_s: number;
  /** Loaded and not yet played. */
  buffered_s: number;
  /** The playlist's part target; `null` where it has no parts. */
  part_s: number | null;
}

/** Nearer than this is where it is to be. */
const NEAR_S = 0.05;
/** Who is further behind went back on purpose. */
const LIVE_RANGE_S = 3;
/** Parts that stay in the buffer: one that is late must not stop the picture. */
const RESERVE_PARTS = 2;
/** The same where there are no parts. */
const RESERVE_S = 1;

/**
 * 1, or somewhat more while the player is behind and has enough in its buffer. hls.js's own rule asks for a second in
 * the buffer, which a player of short parts never has: it would stay behind by as long as it took to start.
 */
export function playbackRate({ latency_s, target_s, buffered_s, part_s }: Delay): number {
  const behind_s = latency_s - target_s;
  const reserve_s = part_s === null ? RESERVE_S : RESERVE_PARTS * part_s;
  if (!(behind_s > NEAR_S) || behind_s > LIVE_RANGE_S || buffered_s < reserve_s) return 1;
  return behind_s > 0.25 ? 1.1 : 1.05;
}
