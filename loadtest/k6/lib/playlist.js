// HLS playlists as a player reads them (RFC 8216). Nothing of k6 in here: node runs its tests.

/** The absolute URL of `reference` as found in the document at `base`. */
export function resolve(base, reference) {
  if (/^[a-z]+:\/\//i.test(reference)) return reference;
  const origin = base.match(/^[a-z]+:\/\/[^/?#]+/i)[0];
  if (reference.startsWith("/")) return origin + reference;
  const folder = base.replace(/[?#].*$/, "").replace(/[^/]*$/, "");
  return folder + reference;
}

/** The attributes of a tag: `BANDWIDTH=1,CODECS="a,b"`. Quotes are taken off. */
export function attributes(text) {
  const found = {};
  for (const [, name, value] of text.matchAll(/([A-Z0-9-]+)=("[^"]*"|[^",]*)/g)) {
    found[name] = value.replace(/^"|"$/g, "");
  }
  return found;
}

/** The variants of a multivariant playlist, most bits first: `[{ url, bandwidth }]`. */
export function parseVariants(text, url) {
  const variants = [];
  let bandwidth = null;
  for (const line of linesOf(text)) {
    if (line.startsWith("#EXT-X-STREAM-INF:")) bandwidth = Number(attributes(line).BANDWIDTH);
    else if (!line.startsWith("#") && bandwidth !== null) {
      variants.push({ url: resolve(url, line), bandwidth });
      bandwidth = null;
    }
  }
  return variants.sort((a, b) => b.bandwidth - a.bandwidth);
}

/**
 * A media playlist: `{ target_s, first, segments: [{ sequence, url, duration_s, init }], ended }`, or `null` for
 * text that is none. `first` is the media sequence number, `init` the URL of the segment's init segment or null.
 */
export function parseMedia(text, url) {
  const lines = linesOf(text);
  if (lines[0] !== "#EXTM3U") return null;
  const playlist = { target_s: NaN, first: 0, segments: [], ended: false };
  let duration_s = NaN;
  let init = null;
  for (const line of lines) {
    const value = line.slice(line.indexOf(":") + 1);
    if (line.startsWith("#EXT-X-TARGETDURATION:")) playlist.target_s = Number(value);
    else if (line.startsWith("#EXT-X-MEDIA-SEQUENCE:")) playlist.first = Number(value);
    else if (line.startsWith("#EXT-X-MAP:")) init = resolve(url, attributes(value).URI);
    else if (line.startsWith("#EXTINF:")) duration_s = parseFloat(value);
    else if (line === "#EXT-X-ENDLIST") playlist.ended = true;
    else if (!line.startsWith("#")) {
      const sequence = playlist.first + playlist.segments.length;
      playlist.segments.push({ sequence, url: resolve(url, line), duration_s, init });
    }
  }
  return playlist.target_s > 0 ? playlist : null;
}

function linesOf(text) {
  return text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
}
