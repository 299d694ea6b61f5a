/** The one error tree, as `rexis/protocol/errors.py`: what is wrong, where, and what to do. */

interface At {
  /** The JSON path at fault, for example `statement.inputRoot`. */
  field?: string | undefined;
  /** What the reader can do about it. */
  hint?: string | undefined;
}

/** Everything that this library throws on purpose. Unless it is one of those below, it speaks against a certificate. */
export class RexisError extends Error {
  readonly field: string | undefined;
  readonly hint: string | undefined;

  constructor(message: string, at: At = {}) {
    super(message);
    this.field = at.field;
    this.hint = at.hint;
  }
}

/** A part that is not there: a chain node, a file. It says nothing against a certificate. */
export class UnavailableError extends RexisError {}
