import assert from "node:assert/strict";
import { test } from "node:test";
import { close, iceServersIn, open, Refused } from "./signalling";

const ENDPOINT = { url: "https://h/live/whep/cam?token=t", token: "t" };

interface Asked {
  url: string;
  init: RequestInit;
}

function server(response: Response | Error): { asked: Asked[]; fetcher: (url: string, init: RequestInit) => Promise<Response> } {
  const asked: Asked[] = [];
  const fetcher = (url: string, init: RequestInit): Promise<Response> => {
    asked.push({ url, init });
    return response instanceof Error ? Promise.reject(response) : Promise.resolve(response);
  };
  return { asked, fetcher };
}

test("an offer is posted with the token, and the session's address is absolute", async () => {
  const headers = { location: "/live/whep/cam/e1~7~x?token=t", link: '<stun:h>; rel="ice-server"' };
  const { asked, fetcher } = server(new Response("answer", { status: 201, headers }));
  const session = "https://h/live/whep/cam/e1~7~x?token=t";
  assert.deepEqual(await open(ENDPOINT, "offer", fetcher), { answer: "answer", session, iceServers: [{ urls: "stun:h" }] });
  const [{ url, init }] = asked as [Asked];
  assert.equal(url, ENDPOINT.url);
  assert.equal(init.method, "POST");
  assert.equal(init.body, "offer");
  assert.deepEqual(init.headers, { "content-type": "application/sdp", authorization: "Bearer t" });
});

test("a refusal carries its status, its reason and when to ask again", async () => {
  const problem = JSON.stringify({ title: "nothing is live", status: 409 });
  const { fetcher } = server(new Response(problem, { status: 409, headers: { "retry-after": "2" } }));
  const refused = await open({ ...ENDPOINT, token: null }, "offer", fetcher).catch((error: unknown) => error);
  assert.ok(refused instanceof Refused);
  assert.deepEqual([refused.status, refused.reason, refused.retryAfterMs], [409, "nothing is live", 2000]);
});

test("what is no problem body gives no reason, and an absurd patience is cut", async () => {
  for (const body of ["<html>", "7", "null", '{"title":7}']) {
    const { fetcher } = server(new Response(body, { status: 503, headers: { "retry-after": "999999" } }));
    const refused = await open(ENDPOINT, "offer", fetcher).catch((error: unknown) => error);
    assert.ok(refused instanceof Refused);
    assert.deepEqual([refused.reason, refused.retryAfterMs], ["", 30_000], body);
  }
});

test("ICE servers are read from links, and nothing else is", () => {
  const turn = '<turn:t?transport=udp>; rel="ice-server"; username="u,1"; credential="c;2"; credential-type="password"';
  const link = `<https://h/next>; rel="next", <stun:s:3478>; rel="ice-server", ${turn}, <http://x>; rel="ice-server"`;
  const expected = [{ urls: "stun:s:3478" }, { urls: "turn:t?transport=udp", username: "u,1", credential: "c;2" }];
  assert.deepEqual(iceServersIn(link), expected);
  for (const none of ["", "nonsense", "<stun:s>", "<stun:s; rel=ice-server"]) assert.deepEqual(iceServersIn(none), []);
});

test("no answer is status 0", async () => {
  const { fetcher } = server(new TypeError("network"));
  const refused = await open(ENDPOINT, "offer", fetcher).catch((error: unknown) => error);
  assert.ok(refused instanceof Refused && refused.status === 0);
});

test("a session is ended by DELETE at its own address, heard or not", async () => {
  const { asked, fetcher } = server(new TypeError("network"));
  await close(ENDPOINT, "https://h/s", fetcher);
  assert.deepEqual([asked[0]?.url, asked[0]?.init.method, asked[0]?.init.keepalive], ["https://h/s", "DELETE", true]);
  await close(ENDPOINT, null, fetcher);
  assert.equal(asked.length, 1);
});
