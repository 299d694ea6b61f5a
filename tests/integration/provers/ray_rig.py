"""A local Ray cluster of several nodes, each with processes of its own; nothing of it leaves this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from circuits.scratch import Scratch

_STORE = 80 << 20  # the least that Ray takes
_MIB = 1 << 20
_LOOPBACK = "127.0.0.2"  # for 127.0.0.1 Ray takes the address that others reach


class LocalCluster:
    """A head without cores, to which workers connect, and nodes that compute."""

    def __init__(self, cluster: Any, folder: Path) -> None:
        self._cluster, self._folder = cluster, folder
        self.address = str(cluster.address)

    def add(self, *, name: str, cores: int = 1, memory_mib: int = 900) -> Any:
        """Start a node, with a cache of its own, as another machine would have."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("REXIS_RAY_CACHE", str(self._folder / name))
            return self._cluster.add_node(
                num_cpus=cores,
                memory=memory_mib * _MIB,
                object_store_memory=_STORE,
                include_dashboard=False,
                node_ip_address=_LOOPBACK,
            )

    def kill(self, node: Any) -> None:
        """End all of a node's processes at once."""
        self._cluster.remove_node(node, allow_graceful=False)

    def used(self) -> list[str]:
        """Names of the nodes that have made keys."""
        return sorted({path.parent.parent.parent.name for path in self._folder.glob("*/keys/*/pk")})


@contextmanager
def local_cluster() -> Iterator[LocalCluster]:
    """Start one; its files lie in a folder of its own, whose name is short enough for sockets."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    scratch = Scratch("rexis-ray-", Path("/tmp"))  # noqa: S108  # names of sockets are short
    nodes = scratch.path / "nodes"
    nodes.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_TMPDIR", str(scratch.path))
        patch.setenv("RAY_worker_niceness", "0")  # 15, and beside other tests they would hardly ever run
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_failure_threshold", "3")
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "node_ip_address": _LOOPBACK,
                "include_dashboard": False,
                "object_store_memory": _STORE,
            },
        )
        try:
            yield LocalCluster(cluster, nodes)
        finally:
            cluster.shutdown()
            scratch.remove()
