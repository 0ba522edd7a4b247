/** A table that can be filtered and sorted: cards on a narrow screen. Only so many rows are drawn at once. */

import type { ComponentChildren } from "preact";
import { useMemo, useState } from "preact/hooks";
import { count } from "../shared/format";
import { clicked, matching, sorted, type Cell, type Sort } from "./rows";

export interface Column<Row> {
  key: string;
  title: string;
  /** What the column is sorted by. */
  value: (row: Row) => Cell;
  cell: (row: Row) => ComponentChildren;
  /** Figures start with the largest when sorted, and stand to the right. */
  figure?: boolean;
}

interface Props<Row> {
  title: string;
  rows: readonly Row[];
  columns: readonly Column<Row>[];
  id: (row: Row) => string;
  /** What the filter searches. */
  texts: (row: Row) => Cell[];
  sort: Sort;
  /** Shown when there is no row at all. */
  empty: ComponentChildren;
}

const ROWS_AT_ONCE = 200;

export function Table<Row>({ title, rows, columns, id, texts, sort: initial, empty }: Props<Row>) {
  const [filter, setFilter] = useState("");
  const [sort, setSort] = useState(initial);
  const [limit, setLimit] = useState(ROWS_AT_ONCE);
  const shown = useMemo(() => {
    const column = columns.find(({ key }) => key === sort.column);
    const found = matching(rows, filter, texts);
    return column === undefined ? found : sorted(found, sort.descending, column.value, id);
  }, [rows, columns, filter, sort, id, texts]);
  const name = title.toLowerCase();
  const heading = `${name}-heading`;
  return (
    <section aria-labelledby={heading}>
      <div class="head">
        <h2 id={heading}>
          {title} <span class="soft">{shown.length === rows.length ? count(rows.length) : `${count(shown.length)} of ${count(rows.length)}`}</span>
        </h2>
        {rows.length > 0 && (
          <div class="tools">
            <input
              type="search"
              placeholder={`Filter ${name}`}
              aria-label={`Filter ${name}`}
              value={filter}
              onInput={(event) => setFilter(event.currentTarget.value)}
            />
            <SortChoice columns={columns} sort={sort} name={name} onSort={setSort} />
          </div>
        )}
      </div>
      {rows.length === 0 ? (
        <div class="empty">{empty}</div>
      ) : shown.length === 0 ? (
        <p class="empty">Nothing here matches «{filter}».</p>
      ) : (
        <Grid rows={shown.slice(0, limit)} columns={columns} id={id} sort={sort} onSort={setSort} label={title} />
      )}
      {shown.length > limit && (
        <button type="button" class="more" onClick={() => setLimit(limit + ROWS_AT_ONCE)}>
          Show {count(Math.min(ROWS_AT_ONCE, shown.length - limit))} more of {count(shown.length - limit)}
        </button>
      )}
    </section>
  );
}

interface GridProps<Row> {
  rows: readonly Row[];
  columns: readonly Column<Row>[];
  id: (row: Row) => string;
  sort: Sort;
  onSort: (sort: Sort) => void;
  label: string;
}

/** The roles are spelled out because a table laid out as cards loses them. */
function Grid<Row>({ rows, columns, id, sort, onSort, label }: GridProps<Row>) {
  return (
    <table role="table" aria-label={label}>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map((column) => (
            <th key={column.key} role="columnheader" scope="col" class={column.figure ? "figure" : ""} aria-sort={direction(sort, column.key)}>
              <button type="button" onClick={() => onSort(clicked(sort, column.key, column.figure === true))}>
                {column.title}
              </button>
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {rows.map((row) => (
          <tr key={id(row)} role="row">
            {columns.map((column) => (
              <td key={column.key} role="cell" class={column.figure ? "figure" : ""} data-label={column.title}>
                {column.cell(row)}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function direction(sort: Sort, key: string): "ascending" | "descending" | "none" {
  if (sort.column !== key) return "none";
  return sort.descending ? "descending" : "ascending";
}

/** Stands in for the column heads where there are none. */
function SortChoice<Row>({ columns, sort, name, onSort }: { columns: readonly Column<Row>[]; sort: Sort; name: string; onSort: (sort: Sort) => void }) {
  return (
    <label class="sort">
      <span>Sort by</span>
      <select
        aria-label={`Sort ${name} by`}
        value={sort.column}
        onChange={(event) => {
          const column = event.currentTarget.value;
          onSort({ column, descending: columns.find(({ key }) => key === column)?.figure === true });
        }}
      >
        {columns.map(({ key, title }) => (
          <option key={key} value={key}>
            {title}
          </option>
        ))}
      </select>
    </label>
  );
}
