from types import SimpleNamespace

import pytest
from small_generator import preference_data


@pytest.fixture
def data(tmp_path) -> SimpleNamespace:
    return preference_data(tmp_path)
