import assert from "node:assert/strict";
import test from "node:test";
import { Buffer } from "./buffer.js";

test("playback waits for its first seconds, then drains", () => {
  const buffer = new Buffer(4);
  buffer.add(2, 0);
  buffer.advance(5000);
  assert.deepEqual([buffer.playing, buffer.level_s, buffer.stalls], [false, 2, 0]);
  buffer.add(2, 5000);
  buffer.advance(6500);
  assert.deepEqual([buffer.playing, buffer.level_s, buffer.stalls], [true, 2.5, 0]);
});

test("a buffer that runs dry stalls once, until it has enough again", () => {
  const buffer = new Buffer(2);
  buffer.add(2, 0);
  buffer.advance(3000);
  assert.deepEqual([buffer.stalls, buffer.stalled_s], [1, 1]);
  buffer.advance(4000);
  buffer.add(1, 4500);
  assert.deepEqual([buffer.playing, buffer.stalls, buffer.stalled_s], [false, 1, 2.5]);
  buffer.add(1, 5000);
  buffer.advance(6000);
  assert.deepEqual([buffer.playing, buffer.stalls, buffer.stalled_s, buffer.level_s], [true, 1, 3, 1]);
});

test("segments in time never stall", () => {
  const buffer = new Buffer(4);
  for (let at_ms = 0; at_ms < 60_000; at_ms += 2000) buffer.add(2, at_ms);
  assert.equal(buffer.stalls, 0);
});
