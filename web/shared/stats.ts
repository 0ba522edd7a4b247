/** What a peer connection says of its media (W3C WebRTC Statistics), as the pages show it. */

/** One reading. Figures that the browser does not give are `null`. */
export interface Figures {
  bitrateBps: number | null;
  width: number;
  height: number;
  fps: number | null;
  framesDecoded: number;
  /** What was heard so far, squared and summed up (W3C WebRTC Statistics): it stands still in silence. */
  audioEnergy: number;
  packetsLost: number;
  /** Of all packets since the connection began, 0 to 1. */
  lossShare: number | null;
  roundTripMs: number | null;
  /** From arrival to the decoder, in the mean since the last reading. */
  jitterBufferMs: number | null;
  /** By the sender's clock: when what plays now was current. In ms since 1970. */
  playingAtMs: number | null;
}

/** What the next reading is compared with. */
interface Counters {
  at_ms: number;
  bytes: number;
  bufferDelay_s: number;
  buffered: number;
}

export interface Reading {
  readonly figures: Figures;
  readonly counters: Counters;
}

/** The fields that are read; browsers have more, and not all have these. */
export interface Stat {
  type: string;
  kind?: string;
  timestamp?: number;
  bytesReceived?: number;
  bytesSent?: number;
  packetsReceived?: number;
  packetsSent?: number;
  packetsLost?: number;
  frameWidth?: number;
  frameHeight?: number;
  framesPerSecond?: number;
  framesDecoded?: number;
  totalAudioEnergy?: number;
  jitterBufferDelay?: number;
  jitterBufferEmittedCount?: number;
  estimatedPlayoutTimestamp?: number;
  currentRoundTripTime?: number;
  roundTripTime?: number;
  nominated?: boolean;
}

/** Statistics count from 1900, as NTP does (RFC 5905 section 6). */
const NTP_EPOCH_MS = 2_208_988_800_000;

/** What a receiving connection says, `before` being the last reading. */
export function received(stats: Iterable<Stat>, before: Reading | null): Reading {
  const all = [...stats];
  const inbound = all.filter((stat) => stat.type === "inbound-rtp");
  const video = inbound.find((stat) => stat.kind === "video");
  const lost = sum(inbound, "packetsLost");
  const counters = {
    at_ms: video?.timestamp ?? inbound[0]?.timestamp ?? 0,
    bytes: sum(inbound, "bytesReceived"),
    bufferDelay_s: video?.jitterBufferDelay ?? 0,
    buffered: video?.jitterBufferEmittedCount ?? 0,
  };
  const emitted = counters.buffered - (before?.counters.buffered ?? 0);
  const waited_s = counters.bufferDelay_s - (before?.counters.bufferDelay_s ?? 0);
  const playing = video?.estimatedPlayoutTimestamp ?? 0;
  return {
    counters,
    figures: {
      ...picture(video),
      framesDecoded: video?.framesDecoded ?? 0,
      audioEnergy: inbound.find((stat) => stat.kind === "audio")?.totalAudioEnergy ?? 0,
      bitrateBps: bitrate(counters, before),
      packetsLost: lost,
      lossShare: share(lost, sum(inbound, "packetsReceived") + lost),
      roundTripMs: roundTrip(all),
      jitterBufferMs: emitted > 0 ? (waited_s / emitted) * 1000 : null,
      playingAtMs: playing > NTP_EPOCH_MS ? playing - NTP_EPOCH_MS : null,
    },
  };
}

/** What a sending connection says. Losses are those that the other side reports. */
export function sent(stats: Iterable<Stat>, before: Reading | null): Reading {
  const all = [...stats];
  const outbound = all.filter((stat) => stat.type === "outbound-rtp");
  const lost = sum(all.filter((stat) => stat.type === "remote-inbound-rtp"), "packetsLost");
  const counters = { at_ms: outbound[0]?.timestamp ?? 0, bytes: sum(outbound, "bytesSent"), bufferDelay_s: 0, buffered: 0 };
  return {
    counters,
    figures: {
      ...picture(outbound.find((stat) => stat.kind === "video")),
      framesDecoded: 0,
      audioEnergy: 0,
      bitrateBps: bitrate(counters, before),
      packetsLost: lost,
      lossShare: share(lost, sum(outbound, "packetsSent")),
      roundTripMs: roundTrip(all),
      jitterBufferMs: null,
      playingAtMs: null,
    },
  };
}

function picture(video: Stat | undefined): Pick<Figures, "width" | "height" | "fps"> {
  return { width: video?.frameWidth ?? 0, height: video?.frameHeight ?? 0, fps: video?.framesPerSecond ?? null };
}

function bitrate(now: Counters, before: Reading | null): number | null {
  const passed_ms = now.at_ms - (before?.counters.at_ms ?? now.at_ms);
  if (before === null || passed_ms <= 0) return before?.figures.bitrateBps ?? null;
  return Math.max(0, ((now.bytes - before.counters.bytes) * 8000) / passed_ms);
}

function roundTrip(all: readonly Stat[]): number | null {
  const pair = all.find((stat) => stat.type === "candidate-pair" && stat.nominated === true);
  const seconds = pair?.currentRoundTripTime ?? all.find((stat) => stat.type === "remote-inbound-rtp")?.roundTripTime;
  return seconds === undefined ? null : seconds * 1000;
}

function share(part: number, whole: number): number | null {
  return whole > 0 ? Math.max(0, part) / whole : null;
}

function sum(stats: readonly Stat[], field: "bytesReceived" | "bytesSent" | "packetsReceived" | "packetsSent" | "packetsLost"): number {
  return stats.reduce((total, stat) => total + (stat[field] ?? 0), 0);
}
