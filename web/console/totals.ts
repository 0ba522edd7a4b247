/** Figures of the whole cluster. */

import type { Cluster } from "./api";

export interface Totals {
  nodes_serving: number;
  streams_live: number;
  viewers: number;
  egress_bps: number;
  /** Of the nodes that take new streams. */
  free_mpx: number;
  capacity_mpx: number;
}

export function totals({ nodes, streams }: Pick<Cluster, "nodes" | "streams">): Totals {
  const serving = nodes.filter(({ state }) => state === "serving");
  // A node that is gone takes its last figures with it; a draining one still serves its viewers.
  const present = nodes.filter(({ state }) => state !== "gone");
  return {
    nodes_serving: serving.length,
    streams_live: streams.filter(({ live }) => live).length,
    viewers: sum(present, ({ viewers }) => viewers),
    egress_bps: sum(present, ({ egress_bps }) => egress_bps),
    free_mpx: sum(serving, ({ free_mpx }) => free_mpx),
    capacity_mpx: sum(serving, ({ capacity_mpx }) => capacity_mpx),
  };
}

function sum<Row>(rows: readonly Row[], figure: (row: Row) => number | null): number {
  return rows.reduce((total, row) => total + (figure(row) ?? 0), 0);
}
