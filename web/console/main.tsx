/** The console. Its one view is `#/cluster`. */

import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { useFeed } from "./feed";
import { Overview } from "./overview";

const CLUSTER_ROUTE = "#/cluster";

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

function Console() {
  const feed = useFeed();
  const route = useRoute();
  if (route === "" || route === CLUSTER_ROUTE) return <Overview feed={feed} />;
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
