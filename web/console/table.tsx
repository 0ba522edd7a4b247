/** A table of which the node that answers filters, sorts and cuts the rows: cards on a narrow screen. */

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { count } from "../shared/format";
import { clicked, type Page, type TableQuery } from "./rows";

export interface Column<Row> {
  /** What it is sorted by, as the node knows it. */
  key: string;
  title: string;
  cell: (row: Row) => ComponentChildren;
  /** Figures start with the largest when sorted, and stand to the right. */
  figure?: boolean;
  /** It cannot be sorted by. */
  unsorted?: boolean;
}

interface Props<Row> {
  title: string;
  page: Page<Row>;
  columns: readonly Column<Row>[];
  id: (row: Row) => string;
  query: TableQuery;
  onQuery: (query: TableQuery) => void;
  /** Shown when there is no row at all. */
  empty: ComponentChildren;
}

/** A filter is asked for when its writer pauses. */
const PAUSE_MS = 200;

export function Table<Row>({ title, page, columns, id, query, onQuery, empty }: Props<Row>) {
  const name = title.toLowerCase();
  const heading = `${name}-heading`;
  const sort = (next: TableQuery): void => onQuery(next);
  return (
    <section aria-labelledby={heading}>
      <div class="head">
        <h2 id={heading}>
          {title} <span class="soft">{page.matching === page.all ? count(page.all) : `${count(page.matching)} of ${count(page.all)}`}</span>
        </h2>
        {page.all > 0 && (
          <div class="tools">
            <Filter name={name} filter={query.filter} onFilter={(filter) => onQuery({ ...query, filter, from: 0 })} />
            <SortChoice columns={columns} query={query} name={name} onSort={sort} />
          </div>
        )}
      </div>
      {page.all === 0 ? (
        <div class="empty">{empty}</div>
      ) : page.matching === 0 ? (
        <p class="empty">Nothing here matches «{query.filter}».</p>
      ) : (
        <Grid rows={page.rows} columns={columns} id={id} query={query} onSort={sort} label={title} />
      )}
      {page.matching > page.rows.length && <Pager name={name} page={page} onFrom={(from) => onQuery({ ...query, from })} />}
    </section>
  );
}

function Filter({ name, filter, onFilter }: { name: string; filter: string; onFilter: (filter: string) => void }) {
  const [written, setWritten] = useState(filter);
  useEffect(() => {
    if (written === filter) return undefined;
    const timer = window.setTimeout(() => onFilter(written), PAUSE_MS);
    return () => window.clearTimeout(timer);
  }, [written]);
  return (
    <input
      type="search"
      placeholder={`Filter ${name}`}
      aria-label={`Filter ${name}`}
      maxLength={200}
      value={written}
      onInput={(event) => setWritten(event.currentTarget.value)}
    />
  );
}

function Pager<Row>({ name, page, onFrom }: { name: string; page: Page<Row>; onFrom: (from: number) => void }) {
  const { from, rows, matching } = page;
  const to = from + rows.length;
  // The last page may be a short one, so a step is not always its length.
  const step = Math.max(rows.length, from > 0 && to === matching ? 15 : rows.length);
  return (
    <nav class="pager" aria-label={`Pages of ${name}`}>
      <button type="button" disabled={from === 0} onClick={() => onFrom(Math.max(0, from - step))}>
        ← Before
      </button>
      <span class="soft">
        {count(from + 1)} to {count(to)} of {count(matching)}
      </span>
      <button type="button" disabled={to >= matching} onClick={() => onFrom(to)}>
        After →
      </button>
    </nav>
  );
}

interface GridProps<Row> {
  rows: readonly Row[];
  columns: readonly Column<Row>[];
  id: (row: Row) => string;
  query: TableQuery;
  onSort: (query: TableQuery) => void;
  label: string;
}

/** The roles are spelled out because a table laid out as cards loses them. */
function Grid<Row>({ rows, columns, id, query, onSort, label }: GridProps<Row>) {
  return (
    <table role="table" aria-label={label}>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map((column) => (
            <th key={column.key} role="columnheader" scope="col" class={column.figure ? "figure" : ""} aria-sort={direction(query, column.key)}>
              {column.unsorted === true ? (
                <span class="soft">{column.title}</span>
              ) : (
                <button type="button" onClick={() => onSort(clicked(query, column.key, column.figure === true))}>
                  {column.title}
                </button>
              )}
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

function direction(query: TableQuery, key: string): "ascending" | "descending" | "none" {
  if (query.sort !== key) return "none";
  return query.descending ? "descending" : "ascending";
}

/** Stands in for the column heads where there are none. */
function SortChoice<Row>({ columns, query, name, onSort }: { columns: readonly Column<Row>[]; query: TableQuery; name: string; onSort: (query: TableQuery) => void }) {
  return (
    <label class="sort">
      <span>Sort by</span>
      <select
        aria-label={`Sort ${name} by`}
        value={query.sort}
        onChange={(event) => {
          const sort = event.currentTarget.value;
          onSort({ ...query, sort, descending: columns.find(({ key }) => key === sort)?.figure === true, from: 0 });
        }}
      >
        {columns
          .filter(({ unsorted }) => unsorted !== true)
          .map(({ key, title }) => (
            <option key={key} value={key}>
              {title}
            </option>
          ))}
      </select>
    </label>
  );
}
