/** Figures in the words a person reads. A figure that is not known is shown as a dash. */

export const UNKNOWN = "–";

type Figure = number | null | undefined;

function known(value: Figure): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

/** Three significant digits at most, and no trailing zeros after the point: 1.25, 12.5, 125. */
function short(value: number): string {
  const digits = value < 10 ? 2 : value < 100 ? 1 : 0;
  return String(Number(value.toFixed(digits)));
}

function scaled(value: number, step: number, units: readonly string[]): string {
  let rest = value;
  let unit = 0;
  while (rest >= step && unit < units.length - 1) {
    rest /= step;
    unit += 1;
  }
  return `${short(rest)} ${units[unit]}`;
}

/** Bits a second: `2.5 Mb/s`. */
export function bitrate(bps: Figure): string {
  return known(bps) && bps >= 0 ? scaled(bps, 1000, ["b/s", "kb/s", "Mb/s", "Gb/s", "Tb/s"]) : UNKNOWN;
}

/** Bytes of memory: `1.5 GiB`. */
export function bytes(count: Figure): string {
  return known(count) && count >= 0 ? scaled(count, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]) : UNKNOWN;
}

/** A count with thousands apart: `12 345`. */
export function count(value: Figure): string {
  if (!known(value)) return UNKNOWN;
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** `62.5%` of a hundred. */
export function percent(value: Figure): string {
  return known(value) ? `${short(Math.max(0, value))}%` : UNKNOWN;
}

/** Encoded megapixels a second, without the unit. */
export function mpx(value: Figure): string {
  return known(value) ? short(Math.max(0, value)) : UNKNOWN;
}

/** How long ago something was, or how long it lasts: `0.4 s`, `42 s`, `3 min 5 s`, `2 h 4 min`, `3 d 2 h`. */
export function duration(ms: Figure): string {
  if (!known(ms)) return UNKNOWN;
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return pair(whole, 60, "min", "s");
  if (whole < 86_400) return pair(Math.floor(whole / 60), 60, "h", "min");
  return pair(Math.floor(whole / 3600), 24, "d", "h");
}

function pair(value: number, step: number, large: string, small: string): string {
  const rest = value % step;
  return rest === 0 ? `${Math.floor(value / step)} ${large}` : `${Math.floor(value / step)} ${large} ${rest} ${small}`;
}

/** Seconds with one digit: `3.2 s`. */
export function seconds(ms: Figure): string {
  return known(ms) ? `${(ms / 1000).toFixed(1)} s` : UNKNOWN;
}

/** A delay that may be short: `180 ms`, `3.2 s`. */
export function delay(ms: Figure): string {
  return known(ms) && ms < 1000 ? `${Math.round(Math.max(0, ms))} ms` : seconds(ms);
}

/** A picture's size and rate: `1280 × 720, 30 fps`. */
export function picture(width: Figure, height: Figure, fps?: Figure): string {
  if (!known(width) || !known(height) || width <= 0 || height <= 0) return UNKNOWN;
  const size = `${width} × ${height}`;
  return known(fps) && fps > 0 ? `${size}, ${short(fps)} fps` : size;
}
