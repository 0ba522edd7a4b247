import assert from "node:assert/strict";
import { test } from "node:test";
import { StreamAddress } from "./address";
import { pollDelayMs, recoveryDelayMs } from "../shared/backoff";
import { latencyMs } from "./latency";
import { causeOfStatus, probe, readPlaylist } from "./probe";
import { words } from "./words";

test("the page's folder is the app and its query names the stream", () => {
  const address = StreamAddress.ofPage("https://h:5443/live/play.html?id=cam1");
  assert.equal(address?.playlist.href, "https://h:5443/live/streams/cam1_adaptive.m3u8");
  assert.equal(StreamAddress.ofPage("http://h/a/b/player.html?name=x")?.playlist.pathname, "/a/b/streams/x_adaptive.m3u8");
  assert.equal(StreamAddress.ofPage("http://h/live/play.html?id="), null);
});

test("a stream's name cannot lead out of its folder", () => {
  const address = StreamAddress.ofPage("http://h/live/play.html?id=..%2F..%2Fx");
  assert.equal(address?.playlist.pathname, "/live/streams/..%2F..%2Fx_adaptive.m3u8");
  assert.equal(StreamAddress.ofPage("http://h/live/play.html?id=http://evil/x")?.playlist.origin, "http://h");
});

test("a token goes along to the stream's own host and nowhere else", () => {
  const address = StreamAddress.ofPage("http://h/live/play.html?id=a&token=t%26x&other=1");
  assert.equal(address?.authorized("http://h/live/streams/a.m3u8?_HLS_msn=4"), "http://h/live/streams/a.m3u8?_HLS_msn=4&token=t%26x");
  assert.equal(address?.authorized("http://elsewhere/a.m3u8"), "http://elsewhere/a.m3u8");
  assert.equal(address?.authorized(address.authorized("http://h/x")), "http://h/x?token=t%26x");
});

test("polling starts at two seconds and never waits longer than five", () => {
  for (const random of [0, 0.5, 0.999]) {
    assert.ok(pollDelayMs(0, random) >= 2000 && pollDelayMs(0, random) < 2500);
    assert.ok(pollDelayMs(1, random) > pollDelayMs(0, random));
    assert.ok(pollDelayMs(1000, random) <= 5000 && pollDelayMs(1000, random) > 4000);
  }
});

test("recovery doubles its wait up to half a minute", () => {
  assert.equal(recoveryDelayMs(0, 0), 500);
  assert.equal(recoveryDelayMs(3, 0), 4000);
  assert.equal(recoveryDelayMs(1e6, 0), 30_000);
});

test("the delay is the wall clock's distance from the frame on screen", () => {
  assert.equal(latencyMs(new Date(10_000), 13_200), 3200);
  assert.equal(latencyMs(new Date(10_000), 9_700), 0);
  assert.equal(latencyMs(new Date(10_000), 5_000), null);
  assert.equal(latencyMs(new Date(0), 1_700_000_000_000), null);
  assert.equal(latencyMs(new Date(Number.NaN), 1000), null);
  assert.equal(latencyMs(null, 1000), null);
});

test("a playlist says whether there is something to play", () => {
  assert.equal(readPlaylist("#EXTM3U\n#EXTINF:2,\na.m4s\n").kind, "live");
  assert.equal(readPlaylist('#EXTM3U\n#EXT-X-PART:DURATION=0.3,URI="p"\n').kind, "live");
  assert.equal(readPlaylist("#EXTM3U\n#EXTINF:2,\na.m4s\n#EXT-X-ENDLIST\n").kind, "ended");
  assert.equal(readPlaylist("#EXTM3U\n#EXT-X-TARGETDURATION:2\n").kind, "absent");
  assert.equal(readPlaylist("<!doctype html>").kind, "unavailable");
  assert.deepEqual(readPlaylist("#EXTM3U\r\n#EXT-X-STREAM-INF:BANDWIDTH=1\r\n# c\r\nv.m3u8\r\n"), { kind: "multivariant", first: "v.m3u8" });
});

test("a probe follows the multivariant playlist and takes the token along", async () => {
  const asked: string[] = [];
  const pages: Record<string, string> = {
    "http://h/s/a_adaptive.m3u8?t": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n",
    "http://h/s/a.m3u8?t": "#EXTM3U\n#EXTINF:2,\na.m4s\n",
  };
  const fetcher = (url: string): Promise<Response> => {
    asked.push(url);
    const body = pages[url];
    return Promise.resolve(body === undefined ? new Response("", { status: 404 }) : new Response(body));
  };
  const authorized = (url: string): string => (url.endsWith("?t") ? url : `${url}?t`);
  assert.equal(await probe("http://h/s/a_adaptive.m3u8", authorized, fetcher), "live");
  assert.deepEqual(asked, Object.keys(pages));
  assert.equal(await probe("http://h/s/b_adaptive.m3u8", authorized, fetcher), "absent");
  assert.equal(await probe("http://h/s/a_adaptive.m3u8", authorized, () => Promise.reject(new TypeError("refused"))), "offline");
});

test("an HTTP status is told apart by what a viewer can do about it", () => {
  assert.deepEqual([0, 400, 401, 403, 404, 410, 500, 503].map(causeOfStatus), [
    "offline",
    "bad-name",
    "refused",
    "refused",
    "absent",
    "absent",
    "unavailable",
    "unavailable",
  ]);
});

test("waiting is said plainly", () => {
  assert.equal(words("waiting", "demo").notice, "«demo» is not live. Waiting for it to start…");
  assert.match(words("not-found", "").notice, /names no stream/);
});
