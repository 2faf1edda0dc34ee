"""A server that has imported the frameworks, from which each training is forked."""

import pytest
from fork_server import ForkServer

FRAMEWORKS = (
    "pytorch_lightning",
    "ignite.engine",
    "ignite.metrics",
    "torch._dynamo",
    "polars",
    "ridgepole.cli.script",
    "ridgepole.loggers.local.logger",
    "ridgepole.scripts.session",
    "ridgepole.integrations.lightning",
)


@pytest.fixture(scope="session")
def framework_server(tmp_path_factory):
    server = ForkServer(tmp_path_factory.mktemp("server"), *FRAMEWORKS)
    yield server
    server.close()
