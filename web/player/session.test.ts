import assert from "node:assert/strict";
import { test } from "node:test";
import { Session, type Action, type Sample } from "./session";

const MIDDLE = (): number => 0.5;

/** A session, a clock that only the test moves, and a picture that moves or stands still. */
class Bench {
  now = 0;
  position_s = 0;
  readonly session = new Session(0, MIDDLE);
  readonly actions: [number, Action][] = [];

  /** Ticks for `ms`. `moving` is whether the picture plays meanwhile. */
  run(ms: number, moving: boolean, sample: Partial<Sample> = {}): void {
    const end = this.now + ms;
    while (this.now < end) {
      this.now += 250;
      if (moving) this.position_s += 0.25;
      const action = this.session.tick({ position_s: this.position_s, ready: moving, paused: false, ended: false, ...sample }, this.now);
      if (action !== null) this.actions.push([this.now, action]);
    }
  }

  playing(): this {
    this.session.playlist("1", false, this.now);
    this.run(1000, true);
    return this;
  }

  get state(): string {
    return this.session.state(this.now);
  }
}

test("a stream that plays is live", () => {
  const bench = new Bench();
  assert.equal(bench.state, "connecting");
  bench.playing();
  assert.equal(bench.state, "live");
});

test("a stream that is not there is waited for and opened when it comes", () => {
  const bench = new Bench();
  bench.session.failed("absent", bench.now);
  assert.equal(bench.state, "waiting");
  bench.run(3000, false);
  assert.deepEqual(bench.actions, [[2250, "probe"]]);
  assert.equal(bench.session.probed("absent", bench.now), null);
  bench.run(3000, false);
  assert.equal(bench.actions.length, 2);
  assert.equal(bench.session.probed("live", bench.now), "open");
  bench.run(1000, true);
  assert.equal(bench.state, "live");
});

test("a question is not asked again before it is answered", () => {
  const bench = new Bench();
  bench.session.failed("absent", 0);
  bench.run(60_000, false);
  assert.equal(bench.actions.length, 1);
});

test("a picture that stands still is stalled, and live again when it moves", () => {
  const bench = new Bench().playing();
  bench.run(2000, false);
  assert.equal(bench.state, "stalled");
  bench.run(250, true);
  assert.equal(bench.state, "live");
});

test("a playlist that stands still is waited for without opening the stream again", () => {
  const bench = new Bench().playing();
  bench.run(60_000, false);
  assert.equal(bench.state, "stalled");
  assert.deepEqual(bench.actions, []);
});

test("a player that is stuck while the stream goes on opens it again", () => {
  const bench = new Bench().playing();
  bench.run(3000, false);
  bench.session.playlist("2", false, bench.now);
  bench.run(5000, false);
  assert.deepEqual(bench.actions.map(([, action]) => action), ["go-live", "probe"]);
  assert.equal(bench.session.probed("live", bench.now), "open");
  assert.equal(bench.session.recoveries, 1);
});

test("a hole is jumped over once, and only a picture that then moves ends the stall", () => {
  const bench = new Bench().playing();
  bench.run(1000, false);
  bench.session.playlist("2", false, bench.now);
  bench.run(1250, false);
  assert.deepEqual(bench.actions.map(([, action]) => action), ["go-live"]);
  bench.position_s += 4;
  bench.run(1000, false);
  assert.equal(bench.state, "stalled", "the jump itself is no playing");
  bench.run(4000, true);
  assert.equal(bench.state, "live");
  assert.equal(bench.actions.length, 1);
  assert.equal(bench.session.recoveries, 0);
});

test("a stall for want of a network says so", () => {
  const bench = new Bench().playing();
  bench.session.troubled("offline");
  assert.equal(bench.state, "live");
  bench.run(2000, false);
  assert.equal(bench.state, "offline");
});

test("a finished stream is played to its end, then its return is waited for", () => {
  const bench = new Bench().playing();
  bench.session.playlist("1", true, bench.now);
  bench.run(1000, true);
  assert.equal(bench.state, "live");
  bench.run(250, false, { ended: true, ready: true });
  assert.equal(bench.state, "ended");
  bench.run(3000, false);
  assert.deepEqual(bench.actions.map(([, action]) => action), ["probe"]);
  bench.session.probed("ended", bench.now);
  assert.equal(bench.state, "ended");
  assert.equal(bench.session.probed("live", bench.now), "open");
});

test("a player that keeps failing opens the stream less and less often", () => {
  const bench = new Bench();
  const waits: number[] = [];
  for (let round = 0; round < 9; round += 1) {
    const failedAt = bench.now;
    const asked = bench.actions.length;
    bench.session.failed("broken", failedAt);
    while (bench.actions.length === asked) bench.run(250, false);
    waits.push(bench.now - failedAt);
    assert.equal(bench.session.probed("live", bench.now), "open");
  }
  assert.ok(waits[0] !== undefined && waits[0] <= 500, String(waits));
  for (let i = 1; i < waits.length; i += 1) assert.ok((waits[i] ?? 0) >= (waits[i - 1] ?? 0), String(waits));
  assert.ok(Math.max(...waits) <= 30_000, String(waits));
  assert.ok(Math.max(...waits) >= 20_000, String(waits));
});

test("a viewer who paused is not told of a stall", () => {
  const bench = new Bench().playing();
  bench.run(20_000, false, { paused: true, ready: true });
  assert.equal(bench.state, "paused");
  assert.deepEqual(bench.actions, []);
});

test("what is waited for is asked for at once when the network is back", () => {
  const bench = new Bench().playing();
  bench.session.failed("offline", bench.now);
  bench.session.networkBack(bench.now);
  bench.run(250, false);
  assert.equal(bench.actions.length, 1);
});

test("another way of playing begins anew", () => {
  const bench = new Bench().playing();
  bench.session.playlist("2", true, bench.now);
  bench.session.opens(bench.now);
  assert.equal(bench.state, "connecting");
  bench.run(1000, true);
  bench.run(4000, false);
  assert.equal(bench.state, "stalled", "the end of another way's playlist is not its own");
  bench.run(10_000, false);
  assert.equal(bench.actions.length, 1, "no playlist tells whether the stream goes on: it is opened again in the end");
});
