/** Which rows of a table are asked for: the node that answers filters, sorts and cuts. */

export interface TableQuery {
  /** Words that a row holds, all of them. */
  filter: string;
  /** The column's key. */
  sort: string;
  descending: boolean;
  /** From which row on. */
  from: number;
}

export interface Page<Row> {
  rows: Row[];
  from: number;
  matching: number;
  all: number;
}

export interface ConsoleQuery {
  nodes: TableQuery;
  streams: TableQuery;
}

export const FIRST: ConsoleQuery = {
  nodes: { filter: "", sort: "id", descending: false, from: 0 },
  streams: { filter: "", sort: "viewers", descending: true, from: 0 },
};

/** The query as the node reads it: what follows `?`. */
export function parameters({ nodes, streams }: ConsoleQuery): string {
  const pairs = (name: string, { filter, sort, descending, from }: TableQuery): [string, string][] => [
    [`${name}_filter`, filter],
    [`${name}_sort`, sort],
    [`${name}_descending`, String(descending)],
    [`${name}_from`, String(from)],
  ];
  return new URLSearchParams([...pairs("nodes", nodes), ...pairs("streams", streams)]).toString();
}

/** The query after a click on `column`: its own direction at first, then the other, and from the first row on. */
export function clicked(now: TableQuery, column: string, descendingFirst: boolean): TableQuery {
  return { ...now, sort: column, descending: now.sort === column ? !now.descending : descendingFirst, from: 0 };
}
