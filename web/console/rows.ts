/** Which rows a table shows, and in which order. */

export type Cell = string | number | boolean | null | undefined;

export interface Sort {
  /** The column's key. */
  column: string;
  descending: boolean;
}

/** The rows of which some text holds every word of `filter`, whatever the case. */
export function matching<Row>(rows: readonly Row[], filter: string, texts: (row: Row) => Cell[]): Row[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return [...rows];
  return rows.filter((row) => {
    const text = texts(row).join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/** Sorted by `value`; equals by `id`, and what is not known last in either direction. */
export function sorted<Row>(rows: readonly Row[], descending: boolean, value: (row: Row) => Cell, id: (row: Row) => string): Row[] {
  return [...rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (missing(x) || missing(y)) return Number(missing(x)) - Number(missing(y)) || compare(id(a), id(b));
    return (descending ? compare(y, x) : compare(x, y)) || compare(id(a), id(b));
  });
}

function missing(cell: Cell): cell is null | undefined {
  return cell === null || cell === undefined;
}

const collator = new Intl.Collator("en", { numeric: true });

function compare(x: Cell, y: Cell): number {
  if (typeof x === "string" && typeof y === "string") return collator.compare(x, y);
  return Number(x) - Number(y);
}

/** The sort after a click on `column`: its own direction at first, then the other. */
export function clicked(now: Sort, column: string, descendingFirst: boolean): Sort {
  return { column, descending: now.column === column ? !now.descending : descendingFirst };
}
