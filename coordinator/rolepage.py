"""``docs/roles.md``: which roles open which route, drawn from the routes themselves.

``python -m coordinator.rolepage`` writes it; with ``--check`` it says whether it is up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from coordinator.app import described_app
from coordinator.documents import roles_of
from coordinator.roles import EVERYBODY
from rexis.api import Role

PAGE = Path(__file__).resolve().parent.parent / "docs" / "roles.md"
_HEAD = """# Which role opens which route

Drawn from the code by `python -m coordinator.rolepage`; `tests/unit/coordinator/test_routes_by_role.py` sends each of
these requests with and without each role. A role opens the route; which object (job, blob, lease) is the caller's is
decided behind it ([operations.md](operations.md#who-may-do-what)).
"""


def page() -> str:
    """The page's text."""
    rows = [_HEAD, f"| route | what | {' | '.join(Role)} |", f"|---|---|{'---|' * len(Role)}"]
    for route in described_app().state.own_routes:
        if not route.include_in_schema:
            continue
        roles = roles_of(route)
        cells = ["✓" if role in roles else "" for role in Role] if roles else ["no token"] + [""] * (len(Role) - 1)
        for method in sorted(route.methods):
            rows.append(f"| `{method} {route.path}` | {route.summary} | {' | '.join(cells)} |")  # noqa: PERF401
    rows.append(f"\nAt an open coordinator (neither `REXIS_MEMBERS` nor a file) everybody is {_names(EVERYBODY)}.")
    return "\n".join(rows) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the page, or check it."""
    if "--check" not in arguments:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    print(f"coordinator.rolepage: {PAGE.name} is not up to date; run: python -m coordinator.rolepage", file=sys.stderr)
    return 1


def _names(roles: frozenset[Role]) -> str:
    return ", ".join(role for role in Role if role in roles)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
