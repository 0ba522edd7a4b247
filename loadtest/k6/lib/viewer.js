// A viewer of a live HLS stream who behaves as a player does: the multivariant playlist once, its best variant,
// that one's playlist again and again, each new segment once and in order, each init segment once.

import http from "k6/http";
import { sleep } from "k6";
import { Counter, Trend } from "k6/metrics";
import { Buffer } from "./buffer.js";
import { parseMedia, parseVariants } from "./playlist.js";

const starts = new Counter("hls_starts");
const stalls = new Counter("hls_stalls");
const stalled_s = new Trend("hls_stalled_seconds");
const buffer_s = new Trend("hls_buffer_seconds");
const segments = new Counter("hls_segments");
const missed = new Counter("hls_segments_missed");
const wentBack = new Counter("hls_playlists_back");
const malformed = new Counter("hls_playlists_malformed");
/** How long a segment took to fetch, by how long it plays: above 1 a viewer cannot keep up. */
const deliveryRatio = new Trend("hls_delivery_ratio");

/** Where players join: this many target durations before the end (RFC 8216, section 6.3.3). */
const JOIN_TARGETS = 3;
const TIMEOUT = "10s";

/** Watches `url`, the multivariant playlist, for `duration_s`. */
export function watch(url, duration_s) {
  const until_ms = Date.now() + duration_s * 1000;
  const viewer = new Viewer();
  while (Date.now() < until_ms && !viewer.open(url)) sleep(1);
  while (Date.now() < until_ms && !viewer.ended) {
    const wait_s = viewer.poll();
    sleep(Math.min(wait_s, Math.max(0, (until_ms - Date.now()) / 1000)));
  }
  viewer.close();
}

class Viewer {
  constructor() {
    this.playlistUrl = null;
    this.first = -1; // the media sequence number last seen
    this.last = -1; // the number of the last segment a playlist named
    this.next = null; // the number of the segment to fetch next
    this.target_s = 2;
    this.inits = new Set();
    this.buffer = null;
    this.ended = false;
  }

  /** Picks the variant. Whether there was one. */
  open(url) {
    const answer = get(url, "playlist");
    const variants = answer.status === 200 ? parseVariants(answer.body, answer.url) : [];
    if (answer.status === 200 && variants.length === 0) malformed.add(1);
    this.playlistUrl = variants.length > 0 ? variants[0].url : null;
    return this.playlistUrl !== null;
  }

  /** Fetches the playlist and what is new in it. How long to wait before the next time, in seconds. */
  poll() {
    const asked_ms = Date.now();
    const answer = get(this.playlistUrl, "playlist");
    if (answer.status !== 200) return this.target_s / 2;
    const playlist = parseMedia(answer.body, this.playlistUrl);
    if (playlist === null) {
      malformed.add(1);
      return this.target_s / 2;
    }
    const isNew = this.follow(playlist);
    for (const segment of playlist.segments) if (segment.sequence >= this.next) this.fetch(segment);
    this.ended = playlist.ended;
    // RFC 8216, section 6.3.4: a target duration after a change, half of it after none.
    const wait_s = isNew ? playlist.target_s : playlist.target_s / 2;
    return Math.max(0, wait_s - (Date.now() - asked_ms) / 1000);
  }

  /** Notes where the playlist is. Whether it has moved. */
  follow(playlist) {
    const last = playlist.first + playlist.segments.length - 1;
    if (playlist.first < this.first || last < this.last) wentBack.add(1);
    const isNew = last > this.last;
    this.first = playlist.first;
    this.last = last;
    this.target_s = playlist.target_s;
    if (this.next === null) this.join(playlist);
    if (playlist.first > this.next) {
      missed.add(playlist.first - this.next);
      this.next = playlist.first;
    }
    return isNew;
  }

  join(playlist) {
    let behind_s = 0;
    this.next = playlist.first;
    for (const segment of playlist.segments.slice().reverse()) {
      behind_s += segment.duration_s;
      this.next = segment.sequence;
      if (behind_s >= JOIN_TARGETS * playlist.target_s) break;
    }
    this.buffer = new Buffer(playlist.target_s);
  }

  fetch(segment) {
    if (segment.init !== null && !this.inits.has(segment.init)) {
      if (get(segment.init, "init").status !== 200) return;
      this.inits.add(segment.init);
    }
    const answer = get(segment.url, "segment");
    this.next = segment.sequence + 1;
    if (answer.status !== 200) {
      missed.add(1);
      return;
    }
    const wasPlaying = this.buffer.playing;
    const stallsBefore = this.buffer.stalls;
    this.buffer.add(segment.duration_s, Date.now());
    segments.add(1);
    deliveryRatio.add(answer.timings.duration / 1000 / segment.duration_s);
    buffer_s.add(this.buffer.level_s);
    stalls.add(this.buffer.stalls - stallsBefore);
    if (!wasPlaying && this.buffer.playing && this.buffer.stalls === 0) starts.add(1);
  }

  close() {
    if (this.buffer === null) return;
    const stallsBefore = this.buffer.stalls;
    if (!this.ended) this.buffer.advance(Date.now());
    stalls.add(this.buffer.stalls - stallsBefore);
    stalled_s.add(this.buffer.stalled_s);
  }
}

/** `kind` is what the thresholds tell requests apart by; without `name` every segment would be a series. */
function get(url, kind) {
  const responseType = kind === "playlist" ? "text" : "none";
  return http.get(url, { responseType, timeout: TIMEOUT, tags: { kind, name: kind } });
}
