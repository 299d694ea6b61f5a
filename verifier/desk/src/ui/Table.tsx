interface Props {
  name: string;
  head: string[];
  rows: (string | number)[][];
}

/** A table that scrolls by itself where the page is narrow. The first column names the row. */
export function Table({ name, head, rows }: Props) {
  if (rows.length === 0) return <p>None.</p>;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={`${name}, scrolls sideways`}>
      <table>
        <caption class="hidden">{name}</caption>
        <thead>
          <tr>
            {head.map((title) => (
              <th key={title} scope="col">
                {title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(([first, ...rest], at) => (
            <tr key={at}>
              <th scope="row">{first}</th>
              {rest.map((value, column) => (
                <td key={column} class={typeof value === "number" ? "number" : ""}>
                  {value}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
