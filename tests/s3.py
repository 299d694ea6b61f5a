"""A real S3 API to test against: moto's server, as a process on a free port."""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

_READY = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")


@dataclass(frozen=True)
class S3:
    """A running server."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """What a coordinator's environment says of it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ALLOW_HTTP": "true",
        }

    def bucket(self) -> str:
        """A new bucket's name."""
        name = f"rexis-{secrets.token_hex(6)}"
        httpx.put(f"{self.url}/{name}").raise_for_status()
        return name

    def unfinished(self, bucket: str) -> int:
        """Multipart uploads that were neither completed nor aborted."""
        return httpx.get(f"{self.url}/{bucket}?uploads").raise_for_status().text.count("<UploadId>")

    def keys(self, bucket: str) -> list[str]:
        """Names of all objects."""
        found = httpx.get(f"{self.url}/{bucket}?list-type=2").raise_for_status().text
        return re.findall(r"<Key>([^<]*)</Key>", found)


@contextmanager
def serving_s3() -> Iterator[S3]:
    """Run the server for the length of a ``with`` block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        url = next(found[1] for line in process.stderr if (found := _READY.search(line)))
        # It writes a line for each request: somebody has to read them.
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        yield S3(url)
    finally:
        process.terminate()
        process.wait(10)
        drain.wait(10)
