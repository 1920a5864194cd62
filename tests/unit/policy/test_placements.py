"""One file for several places of the mesh: which files count at one, and with which paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from extauthz import policy
from extauthz.errors import ConfigurationError
from extauthz.policy import Policy, Rule
from tests.unit.policy.build import KEYS, ask

HEAD = "apiVersion: extauthz.dev/v1\nkind: Policy\n"
RULE = "rules:\n  - {name: runs, match: {path: '/runs/{id}'}, allow: authenticated}\n"
BOTH = f"{HEAD}placements: {{gateway: /pipeline, ui: [/pipeline, '']}}\n{RULE}"
EVERYWHERE = f"{HEAD}rules:\n  - {{name: other, match: {{path: /other}}, allow: authenticated}}\n"


def load(folder: Path, placement: str, *texts: str) -> Policy:
    for number, text in enumerate(texts):
        (folder / f"{number}.yaml").write_text(text)
    return policy.load([folder], KEYS, placement=placement)


def found(loaded: Policy, path: str) -> bool:
    return isinstance(loaded.find(ask(path)), Rule)


@pytest.mark.parametrize(
    ("placement", "paths"), [("gateway", {"/pipeline/runs/r"}), ("ui", {"/pipeline/runs/r", "/runs/r"})]
)
def test_rules_stand_below_the_prefixes_of_the_placement(tmp_path: Path, placement: str, paths: set[str]) -> None:
    """Each prefix has every rule of the file, under one name."""
    loaded = load(tmp_path, placement, BOTH)
    assert {path for path in ("/pipeline/runs/r", "/runs/r", "/x/runs/r") if found(loaded, path)} == paths
    assert {rule.ref.name for rule in loaded.rules} == {"runs"}
    assert loaded.placements == {"gateway", "ui"}


def test_a_file_of_other_placements_does_not_count(tmp_path: Path) -> None:
    """It is left out where its placements do not name the chosen one; files without placements count everywhere."""
    only = BOTH.replace("gateway: /pipeline, ui: [/pipeline, '']", "inner: ''")
    loaded = load(tmp_path, "gateway", only, BOTH.replace("name: runs", "name: more"), EVERYWHERE)
    assert {rule.ref.name for rule in loaded.rules} == {"more", "other"}
    assert not found(loaded, "/runs/r")


def test_without_placements_the_chosen_one_does_not_matter(tmp_path: Path) -> None:
    """A policy that knows no placements counts wherever it is loaded."""
    assert found(load(tmp_path, "anything", EVERYWHERE), "/other")


def test_an_unknown_placement_is_an_error(tmp_path: Path) -> None:
    """It would leave out every file, with a hint at the one that was meant."""
    with pytest.raises(ConfigurationError) as raised:
        load(tmp_path, "gatway", BOTH, EVERYWHERE)
    (problem,) = raised.value.problems
    assert problem.message == "no policy file has the placement 'gatway'"
    assert problem.hint == "did you mean 'gateway'?"


def test_mistakes_in_files_of_other_placements_are_told(tmp_path: Path) -> None:
    """And once, however many prefixes there are."""
    wrong = BOTH.replace("allow: authenticated", "access: [{verb: get, resource: r, namespace: 'path:ns'}]")
    for placement in ("gateway", "ui"):
        with pytest.raises(ConfigurationError) as raised:
            load(tmp_path, placement, wrong, EVERYWHERE)
        assert [problem.line for problem in raised.value.problems] == [5]
    inner = wrong.replace("gateway: /pipeline, ui: [/pipeline, '']", "inner: ''")
    with pytest.raises(ConfigurationError, match="no variable 'ns'"):
        load(tmp_path, "gateway", inner, EVERYWHERE, BOTH)


def test_a_prefix_must_be_canonical(tmp_path: Path) -> None:
    """A prefix that no request could have is refused at load."""
    for prefix in ("/pipeline/..", "/pipe line", "pipeline", "/a/"):
        with pytest.raises(ConfigurationError):
            load(tmp_path, "gateway", f"{HEAD}placements: {{gateway: {prefix}}}\n{RULE}")


def test_two_files_cannot_have_rules_of_one_name(tmp_path: Path) -> None:
    """Not even below different prefixes."""
    with pytest.raises(ConfigurationError, match="rule name 'runs' is taken"):
        load(tmp_path, "gateway", BOTH, BOTH.replace("/pipeline", "/other"))


def test_rules_without_a_host_count_for_the_settings_hosts(tmp_path: Path) -> None:
    """So that no rule counts for hosts that somebody else publishes on the same gateway."""
    (tmp_path / "0.yaml").write_text(EVERYWHERE)
    loaded = policy.load([tmp_path], KEYS, hosts=["kubeflow.example.com"])
    assert isinstance(loaded.find(ask("/other", host="kubeflow.example.com:443")), Rule)
    for host in ("model.team-a.example.com", "", "kubeflow.example.com.evil"):
        assert not isinstance(loaded.find(ask("/other", host=host)), Rule)
