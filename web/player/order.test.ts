import assert from "node:assert/strict";
import { test } from "node:test";
import { Order, playOrder } from "./order";
import { withStereo } from "./webrtc";

const BOTH = { webrtc: null, hls: null };

test("WebRTC comes first unless the address says otherwise", () => {
  assert.deepEqual(playOrder("http://h/live/play.html?id=a"), ["webrtc", "hls"]);
  assert.deepEqual(playOrder("http://h/live/play.html?playOrder=hls"), ["hls"]);
  assert.deepEqual(playOrder("http://h/live/play.html?playOrder=hls,%20webrtc,hls"), ["hls", "webrtc"]);
  assert.deepEqual(playOrder("http://h/live/play.html?playOrder=dash"), ["webrtc", "hls"]);
});

test("a way that does not work is left for the next, which says why", () => {
  const order = new Order(["webrtc", "hls"], BOTH);
  assert.deepEqual([order.way, order.why], ["webrtc", ""]);
  assert.equal(order.fallBack("no media came"), true);
  assert.deepEqual([order.way, order.why], ["hls", "WebRTC: no media came"]);
  assert.equal(order.fallBack("nor this"), false);
  assert.equal(order.way, "hls");
});

test("what the browser cannot do is not tried", () => {
  const order = new Order(["webrtc", "hls"], { webrtc: "this browser has no WebRTC", hls: null });
  assert.deepEqual([order.way, order.why], ["hls", "WebRTC: this browser has no WebRTC"]);
  assert.equal(new Order(["webrtc"], { webrtc: "none", hls: null }).way, null);
});

test("stereo is asked for once, where Opus is offered", () => {
  const opus = "a=fmtp:111 minptime=10;useinbandfec=1\r\n";
  const asked = "a=fmtp:111 minptime=10;useinbandfec=1;stereo=1\r\n";
  assert.equal(withStereo(`v=0\r\n${opus}`), `v=0\r\n${asked}`);
  assert.equal(withStereo(asked), asked);
  assert.equal(withStereo("a=fmtp:96 apt=97\r\n"), "a=fmtp:96 apt=97\r\n");
});
