"""The coordinator: stores, schedules, checks evidence, anchors it and issues certificates.

It is trusted for liveness only: whatever it says can be checked without it.
"""
