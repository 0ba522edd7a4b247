import assert from "node:assert/strict";
import { test } from "node:test";
import { playerUrl, readCluster, type Cluster, type ClusterNode } from "./api";
import { reconnectDelayMs } from "./feed";
import { clicked, matching, sorted } from "./rows";
import { totals } from "./totals";

test("a filter finds rows that hold all of its words", () => {
  const rows = ["origin-1 eu serving", "origin-2 us serving", "edge-1 eu gone"];
  const texts = (row: string): string[] => [row];
  assert.deepEqual(matching(rows, " EU  serving ", texts), ["origin-1 eu serving"]);
  assert.deepEqual(matching(rows, "", texts), rows);
  assert.deepEqual(matching(rows, "asia", texts), []);
});

test("names are sorted as people count", () => {
  const rows = ["edge-10", "edge-9", "edge-1"];
  assert.deepEqual(sorted(rows, false, (row) => row, (row) => row), ["edge-1", "edge-9", "edge-10"]);
});

test("what is not known comes last in either direction", () => {
  const rows = [
    { id: "a", cpu: null },
    { id: "b", cpu: 5 },
    { id: "c", cpu: 50 },
  ];
  const ids = (descending: boolean): string => sorted(rows, descending, ({ cpu }) => cpu, ({ id }) => id).map(({ id }) => id).join("");
  assert.equal(ids(false), "bca");
  assert.equal(ids(true), "cba");
});

test("equals keep one order whatever the direction", () => {
  const rows = ["b", "a", "c"];
  assert.deepEqual(sorted(rows, true, () => 1, (row) => row), ["a", "b", "c"]);
});

test("a second click on a column turns its order round", () => {
  const first = clicked({ column: "id", descending: false }, "viewers", true);
  assert.deepEqual(first, { column: "viewers", descending: true });
  assert.deepEqual(clicked(first, "viewers", true), { column: "viewers", descending: false });
});

test("a stream links to its player, and only over http", () => {
  assert.equal(playerUrl("http://h:5080/", "live/a b"), "http://h:5080/live/play.html?id=a%20b");
  assert.equal(playerUrl("javascript:alert(1)//", "live/demo"), null);
  assert.equal(playerUrl(null, "live/demo"), null);
  assert.equal(playerUrl("http://h", "demo"), null);
});

test("an answer that is no cluster is refused", () => {
  assert.equal(readCluster(null), null);
  assert.equal(readCluster({ nodes: [], streams: null }), null);
  assert.equal(readCluster({ nodes: [{ id: 1 }], streams: [] }), null);
  assert.notEqual(readCluster({ nodes: [{ id: "a" }], streams: [{ key: "live/demo" }] }), null);
});

test("totals leave out nodes that are gone and room that takes nothing new", () => {
  const node = (state: string, figure: number | null): Partial<ClusterNode> => ({
    state: state as ClusterNode["state"],
    viewers: figure,
    egress_bps: figure,
    free_mpx: figure,
    capacity_mpx: figure,
  });
  const nodes = [node("serving", 10), node("draining", 5), node("gone", 100), node("serving", null)];
  const sum = totals({ nodes, streams: [{ live: true }, { live: false }] } as unknown as Cluster);
  assert.deepEqual(sum, { nodes_serving: 2, streams_live: 1, viewers: 15, egress_bps: 15, free_mpx: 10, capacity_mpx: 10 });
});

test("reconnecting slows down to once in ten seconds", () => {
  assert.deepEqual([0, 1, 2, 3, 4, 50].map(reconnectDelayMs), [1000, 2000, 4000, 8000, 10_000, 10_000]);
});
