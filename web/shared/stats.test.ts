import assert from "node:assert/strict";
import { test } from "node:test";
import { received, sent, type Stat } from "./stats";

const VIDEO: Stat = {
  type: "inbound-rtp",
  kind: "video",
  timestamp: 1000,
  bytesReceived: 10_000,
  packetsReceived: 90,
  packetsLost: 10,
  frameWidth: 1280,
  frameHeight: 720,
  framesPerSecond: 30,
  framesDecoded: 60,
  jitterBufferDelay: 1,
  jitterBufferEmittedCount: 20,
  estimatedPlayoutTimestamp: 2_208_988_800_000 + 5000,
};
const AUDIO: Stat = { type: "inbound-rtp", kind: "audio", timestamp: 1000, bytesReceived: 2000, packetsReceived: 100, packetsLost: 0, totalAudioEnergy: 0.5 };
const PAIR: Stat = { type: "candidate-pair", nominated: true, currentRoundTripTime: 0.04 };

test("a reading says what is on screen and what was lost", () => {
  const { figures } = received([VIDEO, AUDIO, PAIR], null);
  assert.deepEqual([figures.width, figures.height, figures.fps], [1280, 720, 30]);
  assert.deepEqual([figures.framesDecoded, figures.audioEnergy], [60, 0.5]);
  assert.deepEqual([figures.packetsLost, figures.lossShare], [10, 0.05]);
  assert.equal(figures.roundTripMs, 40);
  assert.equal(figures.playingAtMs, 5000);
  assert.equal(figures.bitrateBps, null);
  assert.equal(figures.jitterBufferMs, 50);
});

test("rates are counted between two readings", () => {
  const before = received([VIDEO, AUDIO], null);
  const later = [
    { ...VIDEO, timestamp: 2000, bytesReceived: 110_000, jitterBufferDelay: 1.6, jitterBufferEmittedCount: 50 },
    { ...AUDIO, timestamp: 2000, bytesReceived: 27_000 },
  ];
  const after = received(later, before);
  assert.equal(after.figures.bitrateBps, 1_000_000);
  assert.ok(Math.abs((after.figures.jitterBufferMs ?? 0) - 20) < 1e-6);
  assert.equal(received(later, after).figures.bitrateBps, 1_000_000, "the same moment twice changes nothing");
});

test("a browser that says nothing is no error", () => {
  const { figures } = received([], null);
  assert.deepEqual([figures.width, figures.lossShare, figures.roundTripMs, figures.playingAtMs], [0, null, null, null]);
});

test("a sender's losses are what the other side reports", () => {
  const outbound: Stat = { type: "outbound-rtp", kind: "video", timestamp: 1000, bytesSent: 0, packetsSent: 200, frameWidth: 640, frameHeight: 360 };
  const before = sent([outbound], null);
  const remote: Stat = { type: "remote-inbound-rtp", packetsLost: 4, roundTripTime: 0.1 };
  const { figures } = sent([{ ...outbound, timestamp: 2000, bytesSent: 50_000 }, remote], before);
  assert.deepEqual([figures.bitrateBps, figures.lossShare, figures.roundTripMs, figures.width], [400_000, 0.02, 100, 640]);
});
