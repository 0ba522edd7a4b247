import assert from "node:assert/strict";
import { test } from "node:test";
import { bitrate, bytes, count, duration, mpx, percent, picture, seconds } from "./format";

test("bit rates go by thousands", () => {
  assert.equal(bitrate(0), "0 b/s");
  assert.equal(bitrate(999), "999 b/s");
  assert.equal(bitrate(2_500_000), "2.5 Mb/s");
  assert.equal(bitrate(12_340_000_000), "12.3 Gb/s");
});

test("bytes go by 1024", () => {
  assert.equal(bytes(1023), "1023 B");
  assert.equal(bytes(1.5 * 1024 ** 3), "1.5 GiB");
});

test("counts are set apart by thousands", () => {
  assert.equal(count(999), "999");
  assert.equal(count(1_234_567), "1\u202f234\u202f567");
});

test("a duration names its two largest units", () => {
  assert.equal(duration(320), "0.3 s");
  assert.equal(duration(9_960), "10 s");
  assert.equal(duration(59_400), "59 s");
  assert.equal(duration(60_000), "1 min");
  assert.equal(duration(185_000), "3 min 5 s");
  assert.equal(duration(7_440_000), "2 h 4 min");
  assert.equal(duration(266_400_000), "3 d 2 h");
  assert.equal(duration(-50), "0.0 s");
});

test("what is not known is a dash", () => {
  for (const text of [bitrate(null), bytes(Number.NaN), count(undefined), duration(null), mpx(null), percent(null), seconds(null), picture(0, 720)]) {
    assert.equal(text, "–");
  }
});

test("a picture names its rate only when there is one", () => {
  assert.equal(picture(1280, 720), "1280 × 720");
  assert.equal(picture(1280, 720, 29.97), "1280 × 720, 30 fps");
});
