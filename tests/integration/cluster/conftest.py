"""A stack and a k3d cluster, shared by the modules of this folder."""

from __future__ import annotations

import pytest

from dev.lab import Docker
from tests.integration.helpers.clusters import Clusters, create_clusters
from tests.integration.helpers.shared import share_cluster


@pytest.fixture(scope="module")
def clusters(engine: Docker, tmp_path_factory: pytest.TempPathFactory) -> Clusters:
    """A stack and a cluster of three nodes, created by `cluster create` alone."""
    folder = tmp_path_factory.mktemp("clusters")
    return share_cluster(engine.store, lambda stack: create_clusters(engine, folder, stack))
