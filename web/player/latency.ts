/** How far the picture is behind the camera. */

/** A player's and an origin's clocks that differ by more than this say nothing about the delay. */
const PLAUSIBLE_MS = 10 * 60 * 1000;
/** A picture from the future by no more than this is a clock's small error, shown as no delay. */
const CLOCK_ERROR_MS = 1000;

/**
 * The delay in ms between `playing`, the wall-clock time (EXT-X-PROGRAM-DATE-TIME, RFC 8216 section
 * 4.3.2.6) of the frame on screen, and `nowMs`. `null` when the playlist carries no time, or one that cannot be.
 */
export function latencyMs(playing: Date | null, nowMs: number): number | null {
  if (playing === null) return null;
  const delay = nowMs - playing.getTime();
  if (!Number.isFinite(delay) || delay < -CLOCK_ERROR_MS || delay > PLAUSIBLE_MS) return null;
  return Math.max(0, delay);
}
