/** What an operator orders of a node. Each order is asked for twice: the second time it is meant. */

import { useEffect, useState } from "preact/hooks";
import { order, type ClusterNode } from "./api";

type Order = "drain" | "undrain" | "remove";

const WORDS: Record<Order, { first: string; second: string }> = {
  drain: { first: "Drain", second: "Really drain?" },
  undrain: { first: "Undrain", second: "Really undrain?" },
  remove: { first: "Remove", second: "Really remove?" },
};

/** After this the second question is taken back. */
const SECOND_MS = 5000;

function possible(node: ClusterNode): Order | null {
  if (node.state === "serving") return "drain";
  if (node.state === "draining") return "undrain";
  return node.state === "silent" ? "remove" : null;
}

export function Orders({ node }: { node: ClusterNode }) {
  const [asked, setAsked] = useState<Order | null>(null);
  const [wrong, setWrong] = useState<string | null>(null);
  useEffect(() => {
    if (asked === null) return undefined;
    const timer = window.setTimeout(() => setAsked(null), SECOND_MS);
    return () => window.clearTimeout(timer);
  }, [asked]);
  const what = possible(node);
  if (what === null) return <span class="soft">–</span>;
  const click = async (): Promise<void> => {
    if (asked !== what) return setAsked(what);
    setAsked(null);
    setWrong(await order(node.id, what));
  };
  return (
    <span class="name">
      <button type="button" class={asked === what ? "order sure" : "order"} onClick={() => void click()}>
        {asked === what ? WORDS[what].second : WORDS[what].first}
      </button>
      {wrong !== null && (
        <span class="problem small" role="alert">
          {wrong}
        </span>
      )}
    </span>
  );
}
