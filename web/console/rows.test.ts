import assert from "node:assert/strict";
import { test } from "node:test";
import { playerUrl, readStreamPage, readUpdate, type Update } from "./api";
import { reconnectDelayMs } from "./feed";
import { aboutCard } from "./nodes";
import { streamOf, streamRoute } from "./routes";
import { clicked, FIRST, parameters } from "./rows";
import sample from "./update.sample.json";

/** JSON as TypeScript sees it: any text may stand where the console knows certain words. */
type Sent<T> = T extends string ? string : T extends (infer E)[] ? Sent<E>[] : T extends object ? { [K in keyof T]: Sent<T[K]> } : T;

test("what a node sends has everything that the console reads", () => {
  // The node's own test keeps the sample true; that it has these types is checked when this is compiled.
  const update: Sent<Update> = sample;
  assert.notEqual(readUpdate(update), null);
  const [card] = update.nodes_page.rows.flatMap((node) => node.gpus);
  assert.ok(card);
  assert.equal(aboutCard(card), "NVIDIA L4, decoder 3%, memory 2 GiB of 24 GiB");
});

test("the node is asked for the rows that are shown", () => {
  const query = { ...FIRST, nodes: { filter: "eu & us", sort: "cpu", descending: true, from: 15 } };
  const asked = new URLSearchParams(parameters(query));
  assert.equal(asked.get("nodes_filter"), "eu & us");
  assert.deepEqual(["nodes_sort", "nodes_descending", "nodes_from"].map((name) => asked.get(name)), ["cpu", "true", "15"]);
  assert.deepEqual(["streams_sort", "streams_descending", "streams_from"].map((name) => asked.get(name)), ["viewers", "true", "0"]);
});

test("a second click on a column turns its order round, from the first row on", () => {
  const first = clicked({ ...FIRST.nodes, from: 30 }, "viewers", true);
  assert.deepEqual(first, { filter: "", sort: "viewers", descending: true, from: 0 });
  assert.equal(clicked(first, "viewers", true).descending, false);
});

test("a stream's page is found again by its address", () => {
  assert.equal(streamOf(streamRoute("live/cam1")), "live/cam1");
  assert.equal(streamOf("#/stream/live"), null);
  assert.equal(streamOf("#/stream/live/%E0%A4%A"), null);
  assert.equal(streamOf("#/cluster"), null);
});

test("a stream links to its player, and only over http", () => {
  assert.equal(playerUrl("http://h:5080/", "live/a b"), "http://h:5080/live/play.html?id=a%20b");
  assert.equal(playerUrl("javascript:alert(1)//", "live/demo"), null);
  assert.equal(playerUrl(null, "live/demo"), null);
  assert.equal(playerUrl("http://h", "demo"), null);
});

test("an answer that is no update, or no stream's page, is refused", () => {
  const page = (rows: unknown[]): unknown => ({ rows, from: 0, matching: rows.length, all: rows.length });
  const update = { nodes_page: page([{ id: "a" }]), streams_page: page([{ key: "live/demo" }]), totals: {}, events: [] };
  assert.notEqual(readUpdate(update), null);
  assert.equal(readUpdate(null), null);
  assert.equal(readUpdate({ ...update, events: undefined }), null);
  assert.equal(readUpdate({ ...update, nodes_page: page([{ id: 1 }]) }), null);
  assert.equal(readUpdate({ ...update, streams_page: page([null]) }), null);
  assert.equal(readStreamPage({ stream: {} }), null);
  assert.notEqual(readStreamPage({ stream: { key: "live/a" }, edges: [], renditions: [], ladder: { givenUp: [] } }), null);
});

test("reconnecting slows down to once in ten seconds", () => {
  assert.deepEqual([0, 1, 2, 3, 4, 50].map(reconnectDelayMs), [1000, 2000, 4000, 8000, 10_000, 10_000]);
});
