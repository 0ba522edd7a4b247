/**
 * Which stream the page plays, from the page's own address: `/live/play.html?id=cam1` plays
 * `/live/streams/cam1_adaptive.m3u8`. The parameters are AMS's: `id` or `name`, and `token`,
 * `subscriberId`, `subscriberCode`, which go along with every request for the stream.
 */

import type { Endpoint } from "../shared/signalling";

const PASSED_ON = ["token", "subscriberId", "subscriberCode"];

export class StreamAddress {
  private constructor(
    readonly stream: string,
    readonly playlist: URL,
    private readonly passedOn: ReadonlyMap<string, string>,
  ) {}

  /** `null` when the page's address names no stream. */
  static ofPage(href: string): StreamAddress | null {
    const page = new URL(href);
    const stream = page.searchParams.get("id") || page.searchParams.get("name");
    if (!stream) return null;
    const passedOn = new Map<string, string>();
    for (const name of PASSED_ON) {
      const value = page.searchParams.get(name);
      if (value) passedOn.set(name, value);
    }
    return new StreamAddress(stream, new URL(`streams/${encodeURIComponent(stream)}_adaptive.m3u8`, page), passedOn);
  }

  /** Where a viewer's WebRTC session is made. */
  whep(): Endpoint {
    return this.endpoint("whep");
  }

  /** Where a publisher's WebRTC session is made. */
  whip(): Endpoint {
    return this.endpoint("whip");
  }

  /** `url` with what is passed on added, if it is on the playlist's own origin: a token goes nowhere else. */
  authorized(url: string): string {
    const target = new URL(url, this.playlist);
    if (target.origin !== this.playlist.origin) return target.href;
    for (const [name, value] of this.passedOn) {
      if (!target.searchParams.has(name)) target.searchParams.set(name, value);
    }
    return target.href;
  }

  private endpoint(protocol: "whip" | "whep"): Endpoint {
    const url = new URL(`../${protocol}/${encodeURIComponent(this.stream)}`, this.playlist);
    return { url: this.authorized(url.href), token: this.passedOn.get("token") ?? null };
  }
}
