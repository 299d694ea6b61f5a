/** Reads a stranger's JSON field by field, so that what the page shows has the type that it thinks it has. */

import { Refused } from "./files";

const MAX_TEXT = 4000;
const MAX_LIST = 10_000;

/** A value with the path that leads to it. */
export class Field {
  constructor(
    private readonly value: unknown,
    private readonly where: string,
  ) {}

  get(name: string): Field {
    const { value } = this;
    if (typeof value !== "object" || value === null || Array.isArray(value)) this.refuse("an object");
    return new Field(Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined, `${this.where}.${name}`);
  }

  entries(): [string, Field][] {
    const { value } = this;
    if (typeof value !== "object" || value === null || Array.isArray(value)) this.refuse("an object");
    return Object.entries(value).slice(0, MAX_LIST).map(([name, each]) => [name.slice(0, MAX_TEXT), new Field(each, `${this.where}.${name}`)]);
  }

  text(): string {
    if (typeof this.value !== "string") this.refuse("text");
    return this.value.slice(0, MAX_TEXT);
  }

  number(): number {
    if (typeof this.value !== "number" || !Number.isFinite(this.value)) this.refuse("a number");
    return this.value;
  }

  flag(): boolean {
    if (typeof this.value !== "boolean") this.refuse("true or false");
    return this.value;
  }

  list<T>(read: (field: Field) => T): T[] {
    if (!Array.isArray(this.value) || this.value.length > MAX_LIST) this.refuse("a list");
    return this.value.map((each, at) => read(new Field(each, `${this.where}.${at}`)));
  }

  /** Null also where the field is not there. */
  maybe<T>(read: (field: Field) => T): T | null {
    return this.value === null || this.value === undefined ? null : read(this);
  }

  private refuse(wanted: string): never {
    throw new Refused(`${this.where} is not ${wanted}`);
  }
}
