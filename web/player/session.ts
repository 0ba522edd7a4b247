/**
 * What the player does and says, decided without a clock, a network or a page: it is told what happened
 * and when, and answers with what to do next.
 */

import { pollDelayMs, recoveryDelayMs } from "../shared/backoff";
import type { Cause, Probe } from "./probe";

export type State =
  | "connecting"
  | "live"
  | "paused"
  | "stalled"
  | "waiting"
  | "ended"
  | "not-found"
  | "refused"
  | "unavailable"
  | "offline";

/**
 * `open`: load the stream afresh. `probe`: look at its playlists and report `probed`. `go-live`: play what is newest
 * of what is loaded already.
 */
export type Action = "open" | "probe" | "go-live";

/** The video element as it is now. */
export interface Sample {
  /** Where in the stream it plays, in seconds. */
  position_s: number;
  /** Whether it has a picture to show. */
  ready: boolean;
  paused: boolean;
  /** Whether it has played to the end of a finished stream. */
  ended: boolean;
}

/** A picture that stands still for longer is called stalled. */
export const STALL_MS = 1500;
/**
 * A stall this long although the stream goes on is a hole that the player does not get over by itself, such as a
 * change of origin leaves: it goes to what is newest.
 */
const HOLE_MS = 2000;
/** A stall this long although the stream goes on is the player's fault: it opens the stream again. */
const STUCK_MS = 6000;
/** The same, where the browser plays HLS itself and does not tell whether the stream goes on. */
const STUCK_UNSEEN_MS = 12_000;
/** From opening a stream to its first picture. */
const OPEN_LIMIT_MS = 15_000;
/** After playing for so long, earlier failures no longer count. */
const STEADY_MS = 10_000;

const STATE_OF_CAUSE: Record<Cause, State> = {
  absent: "waiting",
  ended: "ended",
  refused: "refused",
  "bad-name": "not-found",
  unavailable: "unavailable",
  offline: "offline",
  broken: "connecting",
};

type Phase =
  | { name: "opening"; since: number }
  | { name: "playing"; since: number }
  | { name: "polling"; cause: Cause; attempt: number; next: number; asking: boolean };

export class Session {
  /** How often the stream was opened again after it had failed. */
  recoveries = 0;
  private phase: Phase;
  private failures = 0;
  private paused = false;
  private position_s = -1;
  private movedAt: number;
  /** Whether this stall's jump to what is newest has been made, and whether it is what moved the picture. */
  private jump: "none" | "made" | "seen" = "none";
  private playlistEdge = "";
  private playlistMovedAt = -1;
  private listEnded = false;
  private trouble: Cause | null = null;

  /** The caller opens the stream at `now`. */
  constructor(
    now: number,
    private readonly random: () => number,
  ) {
    this.phase = { name: "opening", since: now };
    this.movedAt = now;
  }

  /** The caller opens the stream by some way at `now`: what was known of another way's playlists is void. */
  opens(now: number): void {
    this.phase = { name: "opening", since: now };
    this.playlistEdge = "";
    this.playlistMovedAt = -1;
    this.listEnded = false;
  }

  state(now: number): State {
    if (this.phase.name === "polling") return STATE_OF_CAUSE[this.phase.cause];
    if (this.phase.name === "opening") return "connecting";
    if (this.paused) return "paused";
    if (now - this.movedAt <= STALL_MS) return "live";
    return this.trouble === null ? "stalled" : STATE_OF_CAUSE[this.trouble];
  }

  /** To be called several times a second with the video element's state. */
  tick(sample: Sample, now: number): Action | null {
    this.follow(sample, now);
    const phase = this.phase;
    if (phase.name === "polling") return this.poll(phase, now);
    if (phase.name === "opening") {
      if (sample.ready) this.phase = { name: "playing", since: now };
      else if (now - phase.since > OPEN_LIMIT_MS) this.failed("broken", now);
      return null;
    }
    if (now - phase.since > STEADY_MS) this.failures = 0;
    const still_ms = now - this.movedAt;
    if (sample.ended || (this.listEnded && still_ms > STALL_MS)) this.failed("ended", now);
    else if (this.stuck(still_ms)) this.failed("broken", now);
    else if (this.jump === "none" && this.goesOnWithout(still_ms, HOLE_MS)) {
      this.jump = "made";
      return "go-live";
    }
    return null;
  }

  /** A media playlist was read. `edge` names its newest part: another edge means that the stream goes on. */
  playlist(edge: string, ended: boolean, now: number): void {
    this.listEnded = ended;
    this.trouble = null;
    if (edge === this.playlistEdge) return;
    this.playlistEdge = edge;
    this.playlistMovedAt = now;
  }

  /** A request failed, and the engine tries it again. It explains a stall, should there be one. */
  troubled(cause: Cause): void {
    this.trouble = cause === "broken" ? null : cause;
  }

  /** The engine gave up. */
  failed(cause: Cause, now: number): void {
    if (this.phase.name === "polling" && this.phase.cause !== "broken") return;
    const delay = cause === "broken" ? recoveryDelayMs(this.failures, this.random()) : pollDelayMs(0, this.random());
    if (cause === "broken") this.failures += 1;
    this.phase = { name: "polling", cause, attempt: 0, next: now + delay, asking: false };
  }

  /** The answer to the action `probe`. */
  probed(result: Probe, now: number): Action | null {
    if (this.phase.name !== "polling") return null;
    if (result === "live") {
      this.recoveries += 1;
      this.listEnded = false;
      this.trouble = null;
      this.movedAt = now;
      this.phase = { name: "opening", since: now };
      return "open";
    }
    const attempt = this.phase.cause === result ? this.phase.attempt + 1 : 0;
    this.phase = { name: "polling", cause: result, attempt, next: now + pollDelayMs(attempt, this.random()), asking: false };
    return null;
  }

  /** The viewer's network is back: whatever is waited for is asked for at once. */
  networkBack(now: number): void {
    if (this.phase.name === "polling") this.phase.next = now;
  }

  private follow(sample: Sample, now: number): void {
    const moved = sample.position_s !== this.position_s;
    if (moved && this.jump === "made") this.jump = "seen";
    else if (moved || sample.paused) {
      this.movedAt = now;
      this.jump = "none";
    }
    this.position_s = sample.position_s;
    this.paused = sample.paused && !sample.ended;
  }

  private poll(phase: Extract<Phase, { name: "polling" }>, now: number): Action | null {
    if (phase.asking || now < phase.next) return null;
    phase.asking = true;
    return "probe";
  }

  private stuck(still_ms: number): boolean {
    if (this.playlistMovedAt < 0) return still_ms > STUCK_UNSEEN_MS;
    return this.goesOnWithout(still_ms, STUCK_MS);
  }

  private goesOnWithout(still_ms: number, limit_ms: number): boolean {
    return still_ms > limit_ms && this.playlistMovedAt > this.movedAt;
  }
}
