import assert from "node:assert/strict";
import { test } from "node:test";
import { Session } from "./session";

const live = (): Session => {
  const session = new Session(null, () => 0.5);
  session.captured();
  assert.equal(session.start(0), "connect");
  session.connected(100);
  assert.equal(session.state, "live");
  return session;
};

/** When the next try comes after `from`, looking every 50 ms. */
function nextTry(session: Session, from: number): number {
  for (let now = from; now < from + 60_000; now += 50) if (session.tick(now) === "connect") return now;
  return Number.NaN;
}

test("from nothing to live and to the end", () => {
  const session = new Session(null, () => 0.5);
  session.asking();
  assert.equal(session.state, "asking");
  session.captured();
  assert.equal(session.state, "ready");
  assert.equal(session.start(1000), "connect");
  session.connected(1500);
  assert.equal(session.liveForMs(4500), 3000);
  assert.equal(session.stop(), "disconnect");
  assert.equal(session.state, "ended");
  assert.equal(session.tick(9000), null);
});

test("a page that cannot publish says why and does nothing", () => {
  assert.equal(new Session("insecure", () => 0).state, "insecure");
});

test("a connection that is lost is made again, less and less often", () => {
  const session = live();
  assert.equal(session.lost(20_000), "disconnect");
  assert.equal(session.state, "reconnecting");
  let [at, wait] = [20_000, 0];
  for (let tries = 0; tries < 6; tries += 1) {
    const next = nextTry(session, at);
    assert.ok(next - at > wait, `${next - at} after ${wait}`);
    [wait, at] = [next - at, next];
    session.refused(0, null, at);
  }
  session.connected(nextTry(session, at));
  assert.equal(session.state, "live");
  assert.equal(session.reconnects, 1);
});

test("a name that is taken is final at the start and our own right after a loss", () => {
  const fresh = new Session(null, () => 0.5);
  fresh.start(0);
  assert.equal(fresh.refused(409, null, 100), "disconnect");
  assert.equal(fresh.state, "taken");

  const session = live();
  session.lost(20_000);
  session.refused(409, null, 21_000);
  assert.equal(session.state, "reconnecting");
  session.refused(409, null, 50_000);
  assert.equal(session.state, "taken");
});

test("what may pass is tried again, as late as the server asks", () => {
  const session = new Session(null, () => 0.5);
  session.start(0);
  session.refused(503, 4000, 100);
  assert.ok(nextTry(session, 100) >= 4100);
});

test("a first try is given up in the end, and says why", () => {
  for (const [status, state] of [[503, "full"], [0, "not-accepted"]] as const) {
    const session = new Session(null, () => 0.5);
    session.start(0);
    let now = 0;
    while (session.isOn && now < 60_000) {
      session.refused(status, null, now);
      now = Math.max(now, session.isOn ? nextTry(session, now) : now);
    }
    assert.equal(session.state, state);
    assert.ok(now > 15_000, String(now));
  }
});

test("refusals are told apart by what a publisher can do about them", () => {
  const after = (status: number): string => {
    const session = new Session(null, () => 0.5);
    session.start(0);
    session.refused(status, null, 100);
    return session.state;
  };
  assert.deepEqual([401, 403, 404, 409, 415, 406].map(after), ["refused", "refused", "bad-name", "taken", "not-accepted", "not-accepted"]);
});

test("sharing that the user ends in the browser's own bar ends the publish", () => {
  assert.equal(live().captureEnded(), "disconnect");
  const session = new Session(null, () => 0.5);
  session.captured();
  session.captureEnded();
  assert.equal(session.state, "idle");
});
