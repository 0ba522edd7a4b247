/** The addresses of the console's pages, behind `#`. */

export const CLUSTER_ROUTE = "#/cluster";
const STREAM = "#/stream/";

/** The page of a stream, `live/cam1`. */
export function streamRoute(key: string): string {
  return STREAM + key.split("/").map(encodeURIComponent).join("/");
}

/** The stream whose page `route` is; `null` when it is another page. */
export function streamOf(route: string): string | null {
  if (!route.startsWith(STREAM)) return null;
  const parts = route.slice(STREAM.length).split("/");
  if (parts.length !== 2 || parts.some((part) => part === "")) return null;
  try {
    return parts.map(decodeURIComponent).join("/");
  } catch {
    return null;
  }
}
