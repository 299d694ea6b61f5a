"""The API's description as a page: no script, nothing from other hosts."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response

router = APIRouter()

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code,pre{font:14px/1.4 ui-monospace,monospace}pre{background:#8881;padding:.6rem;overflow:auto}"
    "table{border-collapse:collapse}td{padding:.1rem .8rem .1rem 0;vertical-align:top}h2{margin-top:2.5rem}"
    ":root{color-scheme:light dark}"
)


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> Response:
    page = _page(request.app.openapi())
    return Response(page, headers={"Content-Security-Policy": _POLICY}, media_type="text/html")


def _page(document: dict[str, Any]) -> str:
    info = document["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>",
        f"<style>{_STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info['description'])}</p><p>Machine-readable: <a href=/openapi.json>openapi.json</a></p>",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts += _operation(method, path, operation)
    parts.append("<h2>Documents</h2>")
    for name, schema in sorted(document["components"]["schemas"].items()):
        text = escape(json.dumps(schema, indent=1))
        parts.append(
            f"<details id='{escape(name)}'><summary><code>{escape(name)}</code></summary><pre>{text}</pre></details>"
        )
    return "\n".join(parts) + "</html>\n"


def _operation(method: str, path: str, operation: dict[str, Any]) -> list[str]:
    parts = [f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation.get('summary', ''))}"]
    if operation.get("security"):
        parts.append(" <i>(bearer token)</i>")
    if "requestBody" in operation:
        parts.append(f"<p>Takes {_content(operation['requestBody']['content'])}")
    parts.append("<table>")
    for status, response in operation["responses"].items():
        what = _content(response.get("content", {}))
        parts.append(f"<tr><td>{escape(status)}<td>{escape(response['description'])}<td>{what}")
    return [*parts, "</table>"]


def _content(content: dict[str, Any]) -> str:
    found = []
    for kind, media in content.items():
        name = media.get("schema", {}).get("$ref", "").rpartition("/")[2]
        found.append(
            f"<a href='#{escape(name)}'><code>{escape(name)}</code></a>" if name else f"<code>{escape(kind)}</code>"
        )
    return ", ".join(found)
