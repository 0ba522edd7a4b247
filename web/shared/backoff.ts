/** How long to wait before asking again. `random` is in `[0, 1)`, so that viewers do not ask in step. */

const POLL_MS = 2000;
const POLL_STEP_MS = 500;
const POLL_LIMIT_MS = 5000;
/** The share of a wait that is left to chance. */
const JITTER = 0.2;

/** Before the next look at a stream that is not there: 2 s and a little at first, 5 s at most. */
export function pollDelayMs(attempt: number, random: number): number {
  const base = Math.min(POLL_MS + POLL_STEP_MS * attempt, POLL_LIMIT_MS / (1 + JITTER));
  return base * (1 + JITTER * random);
}

const RECOVERY_MS = 500;
const RECOVERY_LIMIT_MS = 30_000;

/** Before the stream is opened again after the player itself failed: half a second, doubling to 30 s. */
export function recoveryDelayMs(attempt: number, random: number): number {
  const base = Math.min(RECOVERY_MS * 2 ** attempt, RECOVERY_LIMIT_MS);
  return base * (1 - JITTER * random);
}
