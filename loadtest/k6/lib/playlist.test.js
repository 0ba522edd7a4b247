import assert from "node:assert/strict";
import test from "node:test";
import { attributes, parseMedia, parseVariants, resolve } from "./playlist.js";

const BASE = "http://h:1/live/streams/a_adaptive.m3u8?token=t/x";

test("references resolve against the playlist's folder", () => {
  assert.equal(resolve(BASE, "a.m3u8"), "http://h:1/live/streams/a.m3u8");
  assert.equal(resolve(BASE, "/x/a.m3u8"), "http://h:1/x/a.m3u8");
  assert.equal(resolve(BASE, "https://o/a"), "https://o/a");
});

test("a quoted attribute may hold commas", () => {
  assert.deepEqual(attributes('BANDWIDTH=5,CODECS="a,b",NAME=n'), { BANDWIDTH: "5", CODECS: "a,b", NAME: "n" });
});

test("variants come with the most bits first", () => {
  const text = '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\r\n#EXT-X-STREAM-INF:CODECS="x",BANDWIDTH=9\nhigh.m3u8\n';
  assert.deepEqual(parseVariants(text, BASE).map((v) => v.url), [
    "http://h:1/live/streams/high.m3u8",
    "http://h:1/live/streams/low.m3u8",
  ]);
});

test("segments are numbered from the media sequence and know their init segment", () => {
  const text =
    '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-MAP:URI="i1.mp4"\n#EXTINF:1.5,\ns1.m4s\n' +
    '#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI="i2.mp4"\n#EXTINF:2,\ns2.m4s\n';
  const playlist = parseMedia(text, BASE);
  assert.equal(playlist.ended, false);
  assert.deepEqual(
    playlist.segments.map(({ sequence, duration_s, init }) => [sequence, duration_s, init]),
    [
      [7, 1.5, "http://h:1/live/streams/i1.mp4"],
      [8, 2, "http://h:1/live/streams/i2.mp4"],
    ],
  );
});

test("what is no media playlist is refused", () => {
  assert.equal(parseMedia("<html>", BASE), null);
  assert.equal(parseMedia("#EXTM3U\n", BASE), null);
});
