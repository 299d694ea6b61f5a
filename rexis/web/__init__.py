"""What the HTTP services have in common: limits, problems, headers, the request log. Needs starlette.

The kernel itself has no server; only services import this package.
"""
