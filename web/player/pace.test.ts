import assert from "node:assert/strict";
import { test } from "node:test";
import { playbackRate } from "./pace";

const PLAYING = { latency_s: 0.6, target_s: 0.6, buffered_s: 0.5, part_s: 0.2 };

test("what is where it should be is played as it is", () => {
  assert.equal(playbackRate(PLAYING), 1);
  assert.equal(playbackRate({ ...PLAYING, latency_s: 0.3 }), 1);
  assert.equal(playbackRate({ ...PLAYING, latency_s: Number.NaN }), 1);
});

test("what is behind catches up, gently when it is near", () => {
  assert.equal(playbackRate({ ...PLAYING, latency_s: 1.4 }), 1.1);
  assert.equal(playbackRate({ ...PLAYING, latency_s: 0.7 }), 1.05);
});

test("the buffer is not run dry for it", () => {
  assert.equal(playbackRate({ ...PLAYING, latency_s: 1.4, buffered_s: 0.39 }), 1);
  assert.equal(playbackRate({ ...PLAYING, latency_s: 1.4, buffered_s: 0.9, part_s: null }), 1);
  assert.equal(playbackRate({ ...PLAYING, latency_s: 1.4, buffered_s: 1.1, part_s: null }), 1.1);
});

test("who went back stays there", () => {
  assert.equal(playbackRate({ ...PLAYING, latency_s: 20, buffered_s: 10 }), 1);
});
