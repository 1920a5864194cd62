"""The examples of the documentation load."""

from __future__ import annotations

import re

import pytest
import yaml

from extauthz.settings.identity import Identity
from tests.cases import REPOSITORY

EXAMPLES = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs" / "identity.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_loads(example: str) -> None:
    """Whoever pastes one gets what it says."""
    assert Identity.model_validate(yaml.safe_load(example)).kinds
