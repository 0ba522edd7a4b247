/**
 * What the publish page does and says, decided without a clock, a network or a page: it is told what happened
 * and when, and answers with what to do next.
 */

import { recoveryDelayMs } from "../shared/backoff";

export type State =
  /** Nothing is captured yet. */
  | "idle"
  /** The browser asks its user for camera, screen or microphone. */
  | "asking"
  /** Captured, seen in the preview, not sent. */
  | "ready"
  | "connecting"
  | "live"
  /** Was live, and is being connected again. */
  | "reconnecting"
  | "ended"
  | Trouble;

/** Why nothing is captured or sent. Only the user, or another address, changes that. */
export type Trouble =
  | "no-name"
  | "insecure"
  | "unsupported"
  | "blocked"
  | "no-device"
  | "device-busy"
  | "refused"
  | "taken"
  | "bad-name"
  | "full"
  | "not-accepted";

/** `connect`: make a session. `disconnect`: end the one there is. */
export type Action = "connect" | "disconnect";

/** A first try that cannot reach the server is repeated for this long before it is given up. */
const FIRST_TRIES_MS = 20_000;
/** A name that is taken right after a connection was lost is our own: the server has not noticed yet. */
const OURS_STILL_MS = 15_000;
/** After being live for so long, earlier failures no longer count. */
const STEADY_MS = 10_000;

export class Session {
  /** How often it was connected again. */
  reconnects = 0;
  private now_is: State;
  private failures = 0;
  /** When the next try is due; `null` while one runs or none is wanted. */
  private due: number | null = null;
  private begunAt = 0;
  private liveAt: number | null = null;
  private lostAt: number | null = null;

  /** `trouble`: what this page cannot get over at all. */
  constructor(
    trouble: Trouble | null,
    private readonly random: () => number,
  ) {
    this.now_is = trouble ?? "idle";
  }

  get state(): State {
    return this.now_is;
  }

  /** Whether a session is wanted, made or not. */
  get isOn(): boolean {
    return this.now_is === "connecting" || this.now_is === "live" || this.now_is === "reconnecting";
  }

  /** How long it has been live, in ms. */
  liveForMs(now: number): number | null {
    return this.now_is === "live" && this.liveAt !== null ? now - this.liveAt : null;
  }

  asking(): void {
    if (!this.isOn) this.now_is = "asking";
  }

  captured(): void {
    if (!this.isOn) this.now_is = "ready";
  }

  /** What was captured has ended by itself: the user stopped sharing, or a device was pulled out. */
  captureEnded(): Action | null {
    return this.isOn ? this.stop() : this.reset("idle");
  }

  cannotCapture(trouble: Trouble): void {
    if (!this.isOn) this.now_is = trouble;
  }

  start(now: number): Action {
    this.begunAt = now;
    [this.failures, this.reconnects, this.lostAt, this.liveAt, this.due] = [0, 0, null, null, null];
    this.now_is = "connecting";
    return "connect";
  }

  stop(): Action {
    this.reset("ended");
    return "disconnect";
  }

  connected(now: number): void {
    if (!this.isOn) return;
    if (this.now_is === "reconnecting") this.reconnects += 1;
    [this.liveAt, this.lostAt] = [now, null];
    this.now_is = "live";
  }

  /** The connection is gone, or did not come about. */
  lost(now: number): Action | null {
    if (!this.isOn) return null;
    if (this.now_is === "live") {
      if (now - (this.liveAt ?? now) > STEADY_MS) this.failures = 0;
      this.lostAt = now;
      this.now_is = "reconnecting";
    }
    return this.again("not-accepted", null, now);
  }

  /** The server answered with `status`, 0 being no answer, and perhaps with when to ask again. */
  refused(status: number, retryAfterMs: number | null, now: number): Action | null {
    if (!this.isOn) return null;
    const final = finalTrouble(status);
    const ours = status === 409 && this.lostAt !== null && now - this.lostAt < OURS_STILL_MS;
    if (final !== null && !ours) return this.reset(final);
    return this.again(status === 0 ? "not-accepted" : "full", retryAfterMs, now);
  }

  /** To be called several times a second. */
  tick(now: number): Action | null {
    if (!this.isOn || this.due === null || now < this.due) return null;
    this.due = null;
    return "connect";
  }

  /** The user's network is back: what is waited for is tried at once. */
  networkBack(now: number): void {
    if (this.due !== null) this.due = now;
  }

  private again(trouble: Trouble, retryAfterMs: number | null, now: number): Action | null {
    if (this.now_is === "connecting" && now - this.begunAt > FIRST_TRIES_MS) return this.reset(trouble);
    this.due = now + Math.max(retryAfterMs ?? 0, recoveryDelayMs(this.failures, this.random()));
    this.failures += 1;
    return "disconnect";
  }

  private reset(state: State): Action {
    [this.now_is, this.due, this.liveAt] = [state, null, null];
    return "disconnect";
  }
}

/** What a status means that another try would not change; `null` for one that may pass. */
function finalTrouble(status: number): Trouble | null {
  if (status === 401 || status === 403) return "refused";
  if (status === 409) return "taken";
  if (status === 404 || status === 414) return "bad-name";
  return status >= 400 && status < 500 && status !== 408 && status !== 429 ? "not-accepted" : null;
}
