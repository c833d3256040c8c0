from pathlib import Path
from types import SimpleNamespace

import pytest
from small_generator import SmallGenerator, preference_data


@pytest.fixture
def data(tmp_path) -> SimpleNamespace:
    return preference_data(tmp_path)


@pytest.fixture(scope="session")
def first_adapter(tmp_path_factory) -> Path:
    """The adapter of a first round on the same data as every test's."""
    from test_trainer import train

    data = preference_data(tmp_path_factory.mktemp("first"))
    return train(data, SmallGenerator(), "first")[1] / "adapter"
