/** The console: `#/cluster`, and a page for each stream, `#/stream/{app}/{stream}`. */

import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { useFeed } from "./feed";
import { Overview } from "./overview";
import { CLUSTER_ROUTE, streamOf } from "./routes";
import { FIRST } from "./rows";
import { Stream } from "./stream";

function useRoute(): string {
  const [route, setRoute] = useState(location.hash);
  useEffect(() => {
    if (location.hash === "") location.replace(CLUSTER_ROUTE);
    const changed = (): void => setRoute(location.hash);
    window.addEventListener("hashchange", changed);
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  return route;
}

function Cluster() {
  const [query, setQuery] = useState(FIRST);
  return <Overview feed={useFeed(query)} query={query} onQuery={setQuery} />;
}

function Console() {
  const route = useRoute();
  const stream = streamOf(route);
  if (route === "" || route === CLUSTER_ROUTE) return <Cluster />;
  if (stream !== null) return <Stream key={stream} name={stream} />;
  return (
    <main>
      <h1>Sluicegate</h1>
      <p>
        There is no such page. <a href={CLUSTER_ROUTE}>The cluster</a> is this way.
      </p>
    </main>
  );
}

const root = document.getElementById("console");
if (root !== null) render(<Console />, root);
