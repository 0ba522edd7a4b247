// A player's buffer: what was fetched less what was played. Nothing of k6 in here: node runs its tests.

export class Buffer {
  /** Playback starts, and starts again after a stall, with `startWith_s` of media. Times are in ms. */
  constructor(startWith_s) {
    this.startWith_s = startWith_s;
    this.level_s = 0;
    this.playing = false;
    this.at_ms = null;
    this.stalls = 0;
    this.stalled_s = 0;
  }

  /** Plays up to `now_ms`. A buffer that runs dry on the way is one stall, which lasts until it plays again. */
  advance(now_ms) {
    const passed_s = this.at_ms === null ? 0 : (now_ms - this.at_ms) / 1000;
    this.at_ms = now_ms;
    if (this.playing && passed_s >= this.level_s) {
      this.stalls += 1;
      this.stalled_s += passed_s - this.level_s;
      this.playing = false;
      this.level_s = 0;
    } else if (this.playing) {
      this.level_s -= passed_s;
    } else if (this.stalls > 0) {
      this.stalled_s += passed_s;
    }
  }

  /** Adds a segment that is wholly there at `now_ms`. */
  add(duration_s, now_ms) {
    this.advance(now_ms);
    this.level_s += duration_s;
    if (this.level_s >= this.startWith_s) this.playing = true;
  }
}
