"""What the KFP API is asked, what its answers mean, and how long they are believed."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from extauthz.errors import ConfigurationError, Unavailable
from extauthz.found import Found
from extauthz.lookup.api import MAX_ANSWER_BYTES
from extauthz.lookup.kfp import KfpLookup
from extauthz.settings import KfpLookupSettings
from tests.kfp.server import Faults, denied
from tests.unit.lookup.desk import Desk, desk

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as opened:
        yield opened


def memory_of(lookup: KfpLookup) -> tuple[int, int]:
    """How many known and unknown ids are remembered."""
    return len(lookup._known), len(lookup._unknown)


async def failure(at: Desk, kind: str, identifier: str) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        await at.ask(kind, identifier)
    return caught.value


async def test_every_kind_is_asked_once_and_in_its_own_way(at: Desk) -> None:
    """One call tells namespace and name, except that a version's are those of its real parent."""
    kfp = at.kfp
    experiment, job = kfp.experiment("team-a", "exp one"), kfp.recurring_run("team-b", "nightly")
    pipeline, run = kfp.pipeline("team-c", "train"), kfp.run("team-a", "train-x7k2p")
    version, artifact = kfp.version(pipeline), kfp.artifact("team-b", "model")
    assert await at.ask("artifact", artifact) == Found("team-b", "model")
    assert await at.ask("experiment", experiment) == Found("team-a", "exp one")
    assert await at.ask("job", job) == Found("team-b", "nightly")
    assert await at.ask("run", run) == Found("team-a", "train-x7k2p")
    assert await at.ask("pipeline_version", version) == Found("team-c", "train")
    assert await at.ask("pipeline", pipeline) == Found("team-c", "train")
    assert kfp.calls == [
        f"/apis/v2beta1/artifacts/{artifact}",
        f"/apis/v2beta1/experiments/{experiment}",
        f"/apis/v2beta1/recurringruns/{job}",
        f"/apis/v1beta1/runs/{run}",
        f"/apis/v2beta1/pipelines/-/versions/{version}",
        f"/apis/v2beta1/pipelines/{pipeline}",
    ]
    assert set(kfp.credentials) == {"Bearer sa-token-1"}


@pytest.mark.parametrize("namespace", [None, "", "-"])
async def test_a_pipeline_without_a_namespace_is_shared(at: Desk, namespace: str | None) -> None:
    """KFP leaves the namespace out, empty, or writes a dash; versions are as shared as their pipeline."""
    pipeline = at.kfp.pipeline(namespace)
    assert await at.ask("pipeline_version", at.kfp.version(pipeline)) == Found("", "pipe")
    assert at.lookup.namespace("pipeline", pipeline, "alice") == Found("", "pipe")


async def test_runs_and_jobs_without_a_namespace_have_their_experiments(at: Desk) -> None:
    """As KFP itself resolves objects of older versions; their own names stay."""
    experiment = at.kfp.experiment("team-a")
    references = [{"key": {"type": 1, "id": experiment}, "relationship": 1}]
    run = at.kfp.run("", "wf", resource_references=references)
    job = at.kfp.recurring_run("", "old", experiment_id=experiment)
    assert await at.ask("run", run) == Found("team-a", "wf")
    assert await at.ask("job", job) == Found("team-a", "old")
    lost = at.kfp.recurring_run("", "lost", experiment_id=UNKNOWN)
    assert await at.ask("job", lost) is None


async def test_the_type_of_a_reference_may_be_a_number(at: Desk) -> None:
    """Enums are shown by name or by number."""
    references = [{"key": {"type": 3, "id": "p"}}, {"key": {"type": 5, "id": "team-b"}}]
    run = at.kfp.run("", "wf", resource_references=references)
    assert await at.ask("run", run) == Found("team-b", "wf")


async def test_a_run_without_a_workflow_has_no_name(at: Desk) -> None:
    """A review without a name asks for more, never for less."""
    run = at.kfp.run("team-a")
    at.kfp.put("runs", run, run={"id": run, "resource_references": [{"key": {"type": 5, "id": "team-a"}}]})
    assert await at.ask("run", run) == Found("team-a", "")


async def test_an_answer_in_memory_is_given_at_once(at: Desk) -> None:
    """The cached path makes no awaitable and no call."""
    run = at.kfp.run("team-a")
    first = await at.ask("run", run)
    assert at.lookup.namespace("run", run, "alice") == first
    assert await at.ask("run", UNKNOWN) is None
    assert at.lookup.namespace("run", UNKNOWN, "alice") is None
    assert len(at.kfp.calls) == 2
    assert (at.lookup.counts.hits, at.lookup.counts.misses, at.lookup.counts.calls) == (2, 2, 2)


async def test_known_ids_have_a_longest_life(at: Desk) -> None:
    """An id that comes back in another namespace after a delete is believed no longer than that."""
    run = at.kfp.run("team-a")
    assert await at.ask("run", run) == Found("team-a", "pipe-x7k2p")
    at.kfp.delete("runs", run)
    at.kfp.put("runs", run, run={"id": run, "resource_references": [{"key": {"type": "NAMESPACE", "id": "team-b"}}]})
    at.clock.now += 3599
    assert at.lookup.namespace("run", run, "alice") == Found("team-a", "pipe-x7k2p")
    at.clock.now += 2
    assert await at.ask("run", run) == Found("team-b")


async def test_unknown_ids_are_asked_again_soon(at: Desk) -> None:
    """An object that was just created is found."""
    assert await at.ask("experiment", UNKNOWN) is None
    at.kfp.put("experiments", UNKNOWN, experiment_id=UNKNOWN, display_name="new", namespace="team-a")
    at.clock.now += 4
    assert at.lookup.namespace("experiment", UNKNOWN, "alice") is None
    at.clock.now += 2
    assert await at.ask("experiment", UNKNOWN) == Found("team-a", "new")


async def test_memory_is_bounded_and_guessing_displaces_nothing(tmp_path: Path) -> None:
    """The least recently used answer goes first; unknown ids have a place of their own."""
    async with desk(tmp_path, max_entries=3) as at:
        runs = [at.kfp.run("team-a") for _ in range(4)]
        for run in runs[:3]:
            await at.ask("run", run)
        assert at.lookup.namespace("run", runs[0], "alice") == Found("team-a", "pipe-x7k2p")
        await at.ask("run", runs[3])
        for number in range(10):
            await at.ask("run", f"guess-{number}")
        assert memory_of(at.lookup) == (3, 3)
        assert isinstance(at.lookup.namespace("run", runs[0], "alice"), Found)
        calls = len(at.kfp.calls)
        await at.ask("run", runs[1])
        assert len(at.kfp.calls) == calls + 1


async def test_a_thousand_questions_about_one_id_are_one_call(at: Desk) -> None:
    """Single flight, and nobody's cancelled wait is another's loss."""
    at.kfp.faults.held = asyncio.Event()
    run = at.kfp.run("team-a")
    tasks = [asyncio.create_task(at.ask("run", run)) for _ in range(1000)]
    await at.kfp.asked.wait()
    for task in tasks[:500]:
        task.cancel()
    at.kfp.faults.held.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[:500])
    assert set(answers[500:]) == {Found("team-a", "pipe-x7k2p")}
    assert len(at.kfp.calls) == 1
    assert (at.lookup.counts.misses, at.lookup.counts.joined) == (1, 999)


async def test_a_lookup_whose_only_caller_left_is_still_kept(at: Desk) -> None:
    """The call was paid for; the next request has its answer."""
    at.kfp.faults.held = asyncio.Event()
    run = at.kfp.run("team-a")
    leaving = asyncio.create_task(at.ask("run", run))
    await at.kfp.asked.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    following = asyncio.create_task(at.ask("run", run))
    at.kfp.faults.held.set()
    assert await following == Found("team-a", "pipe-x7k2p")
    assert len(at.kfp.calls) == 1


async def test_an_awaitable_may_be_left_alone(at: Desk) -> None:
    """A request that ends for another reason leaves no warning, whatever the lookup comes to."""
    at.kfp.faults.status = 500
    at.lookup.namespace("run", UNKNOWN, "alice")
    assert (await failure(at, "run", UNKNOWN)).reason == "lookup_bad_answer"


@pytest.mark.parametrize(
    "identifier",
    [
        "",
        "-",
        ".",
        "..",
        "../../v1beta1/runs/x",
        "a/b",
        "a?b=c",
        "a#b",
        "a%2fb",
        "a:archive",
        "a b",
        "a\n",
        "a\r\nx: y",
        "a\x00",
        "\u0661",
        "\uff41",
        "a;b",
        "a,b",
        "a*",
        "-a",
        "a-",
        "a" * 65,
        "a" * 1_000_000,
    ],
)
async def test_what_can_be_no_id_is_unknown_and_never_sent(at: Desk, identifier: str) -> None:
    """An id cannot become another path, a query or a header of our own call, nor fill memory."""
    for kind in ("experiment", "job", "pipeline", "pipeline_version", "run"):
        assert at.lookup.namespace(kind, identifier, "alice") is None
    assert at.kfp.calls == []
    assert memory_of(at.lookup) == (0, 0)


async def test_an_answer_about_another_id_counts_for_nothing(at: Desk) -> None:
    """Databases fold case: another spelling of an id is unknown, as any other wrong id is."""
    pipeline = at.kfp.pipeline("team-a")
    made = {
        "run": at.kfp.run("team-a"),
        "experiment": at.kfp.experiment("team-a"),
        "pipeline": pipeline,
        "job": at.kfp.recurring_run("team-a"),
        "artifact": at.kfp.artifact("team-a"),
        "pipeline_version": at.kfp.version(pipeline),
    }
    for kind, identifier in made.items():
        assert await at.ask(kind, identifier.upper()) is None
    assert len(at.kfp.calls) == len(made)


async def test_forbidden_is_as_unknown_as_missing_and_told_to_the_operator(
    at: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody learns by our own lack of rights which ids exist; the log says it once a minute."""
    at.kfp.faults.status, at.kfp.faults.body = 403, denied()
    with caplog.at_level(logging.WARNING):
        assert await at.ask("run", UNKNOWN) is None
        assert await at.ask("run", "other") is None
        assert len(caplog.records) == 1
        at.clock.now += 61
        assert await at.ask("run", "third") is None
    assert len(caplog.records) == 2
    assert "extauthz needs `get`" in caplog.text


@pytest.mark.parametrize("status", [201, 204, 302, 304, 400, 401, 429, 500, 502, 503])
async def test_every_other_status_is_no_answer(at: Desk, status: int) -> None:
    """It is never kept: the next question is a call again."""
    run = at.kfp.run("team-a")
    at.kfp.faults.status = status
    assert (await failure(at, "run", run)).reason == "lookup_bad_answer"
    assert memory_of(at.lookup) == (0, 0)
    at.kfp.faults = Faults()
    assert await at.ask("run", run) == Found("team-a", "pipe-x7k2p")


async def test_redirects_are_not_followed(at: Desk) -> None:
    """Our token goes to the configured address only."""
    at.kfp.faults.location = f"{at.kfp.url}/elsewhere"
    await failure(at, "run", UNKNOWN)
    assert at.kfp.calls == [f"/apis/v1beta1/runs/{UNKNOWN}"]


_RUN = {"id": UNKNOWN, "resource_references": [{"key": {"type": "NAMESPACE", "id": "team-a"}}]}


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("run", b""),
        ("run", b"<html>"),
        ("run", b"[]"),
        ("run", b"null"),
        ("run", {}),
        ("run", {"run": []}),
        ("run", {"run": "x"}),
        ("run", {"run": {"id": UNKNOWN}}),
        ("run", {"run": {"id": 5}}),
        ("run", {"run": {**_RUN, "error": "Failed to parse"}}),
        ("run", {"run": {**_RUN, "resource_references": {}}}),
        ("run", {"run": {**_RUN, "resource_references": ["x"]}}),
        ("run", {"run": {**_RUN, "resource_references": [{"key": "x"}]}}),
        ("run", {"run": {**_RUN, "resource_references": [{"key": {"type": 5, "id": 7}}]}}),
        ("run", {"run": {**_RUN, "resource_references": [{"key": {"type": 5}}]}}),
        (
            "run",
            {"run": {**_RUN, "resource_references": [*_RUN["resource_references"], {"key": {"type": 5, "id": "b"}}]}},
        ),
        ("run", {"run": {**_RUN, "resource_references": [{"key": {"type": 5, "id": "TEAM/../x"}}]}}),
        ("run", {"run": _RUN, "pipeline_runtime": {"workflow_manifest": "{"}}),
        (
            "run",
            {"run": _RUN, "pipeline_runtime": {"workflow_manifest": {}, "x": 1}, "y": 1, "z": {}}
            | {"pipeline_runtime": [1]},
        ),
        ("experiment", {"experiment_id": UNKNOWN}),
        ("experiment", {"experiment_id": UNKNOWN, "namespace": "-"}),
        ("experiment", {"experiment_id": UNKNOWN, "namespace": "a b"}),
        ("experiment", {"experiment_id": UNKNOWN, "namespace": ["team-a"]}),
        ("experiment", {"experiment_id": UNKNOWN, "namespace": "team-a", "display_name": 1}),
        ("job", {"recurring_run_id": UNKNOWN, "display_name": "x"}),
        ("pipeline", {"pipeline_id": UNKNOWN}),
        ("pipeline", {"pipeline_id": UNKNOWN, "error": {"message": "Pipeline name cannot be empty"}}),
        ("pipeline", {"pipelineId": UNKNOWN, "name": "x"}),
        ("pipeline_version", {"pipeline_version_id": UNKNOWN}),
    ],
)
async def test_a_200_that_is_not_as_expected_is_no_answer(at: Desk, kind: str, answer: Any) -> None:
    """An object that KFP failed to convert, or a pipeline cut short, must not read as shared."""
    at.kfp.faults.body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    if not at.kfp.faults.body:
        at.kfp.faults.body = b" "
    assert (await failure(at, kind, UNKNOWN)).reason == "lookup_bad_answer"
    assert memory_of(at.lookup) == (0, 0)


async def test_an_answer_without_end_is_given_up(at: Desk) -> None:
    """What we hold of one answer is bounded."""
    at.kfp.faults.body = b" " * (MAX_ANSWER_BYTES + 1)
    assert "larger" in (await failure(at, "run", UNKNOWN)).message


async def test_a_hanging_api_is_given_up_in_time_and_asked_again(tmp_path: Path) -> None:
    """Everyone who waited gets 503 at the deadline; nothing is kept."""
    async with desk(tmp_path, timeout_seconds=0.05) as at:
        run = at.kfp.run("team-a")
        at.kfp.faults.held = asyncio.Event()
        answers = await asyncio.gather(*(at.ask("run", run) for _ in range(3)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {Unavailable}
        assert {str(answer) for answer in answers} == {
            "lookup_unavailable: The owner of an object could not be found out: the KFP API did not answer in time."
        }
        assert memory_of(at.lookup) == (0, 0)
        assert len(at.kfp.calls) <= 1


async def test_a_broken_connection_and_a_closed_port_are_no_answer(at: Desk) -> None:
    """Whatever breaks is Unavailable, without the address or the cause in its words."""
    at.kfp.faults.broken = True
    error = await failure(at, "run", UNKNOWN)
    assert error.reason == "lookup_unavailable"
    assert "127.0.0.1" not in error.message


async def test_versions_do_not_wait_for_a_slot_that_they_hold(tmp_path: Path) -> None:
    """With a single slot a version still finds its parent."""
    async with desk(tmp_path, max_concurrent=2, max_per_user=1) as at:
        versions = [at.kfp.version(at.kfp.pipeline("team-a")) for _ in range(4)]
        found = await asyncio.gather(*(at.ask("pipeline_version", version) for version in versions))
        assert set(found) == {Found("team-a", "pipe")}


async def test_a_renewed_token_counts_at_once(at: Desk) -> None:
    """kubelet swaps the file; no restart, no 401 in between."""
    await at.ask("run", UNKNOWN)
    at.kfp.token = "sa-token-2"
    at.kfp.token_file(at.token_file.parent)
    assert await at.ask("run", "another") is None
    assert at.kfp.credentials == ["Bearer sa-token-1", "Bearer sa-token-2"]


@pytest.mark.parametrize("content", [None, b"", b"\n", b"two words", b"a\r\nx-evil: 1", b"\xff\xfe", b"a" * 20000])
async def test_without_a_usable_token_nothing_is_asked(at: Desk, content: bytes | None) -> None:
    """A half-written or foreign file is no credential, and its content is told to nobody."""
    if content is None:
        at.token_file.unlink()
    else:
        at.token_file.write_bytes(content)
    error = await failure(at, "run", UNKNOWN)
    assert error.reason == "lookup_token"
    assert str(at.token_file) not in error.message
    assert at.kfp.calls == []


async def test_stopping_answers_everyone_who_waits(at: Desk) -> None:
    """Under way, waiting for a slot, or just begun: 503, and never a cancelled caller."""
    at.kfp.faults.held = asyncio.Event()
    tasks = [asyncio.create_task(at.ask("run", f"r{number}")) for number in range(40)]
    await at.kfp.asked.wait()
    late = at.lookup.namespace("run", "late", "alice")
    assert late is not None
    assert not isinstance(late, Found)
    await at.lookup.stop()
    answers = await asyncio.gather(*tasks, late, return_exceptions=True)
    assert {type(answer) for answer in answers} == {Unavailable}
    assert (await failure(at, "run", UNKNOWN)).reason == "lookup_unavailable"


def test_before_the_start_nobody_can_be_asked(tmp_path: Path) -> None:
    """Known before asking is only what cannot be an id."""
    lookup = KfpLookup(KfpLookupSettings(url="http://127.0.0.1:9"))
    assert lookup.namespace("run", "a/b", "alice") is None
    with pytest.raises(Unavailable):
        lookup.namespace("run", UNKNOWN, "alice")


def test_certificate_authorities_that_cannot_be_used_are_a_load_error(tmp_path: Path) -> None:
    """Found before anything serves, with the file's name."""
    (tmp_path / "ca.crt").write_text("no certificate")
    for name in ("ca.crt", "none.crt"):
        settings = KfpLookupSettings.model_validate({"url": "https://127.0.0.1:9", "ca_file": Path(name)})
        with pytest.raises(ConfigurationError, match=name):
            KfpLookup(settings, resolve=tmp_path.joinpath)


async def test_an_artifact_key_is_told_by_its_prefix_or_else_by_its_run(at: Desk) -> None:
    """The prefix needs no call and is the authority; the older layout is looked up by the run."""
    run = at.kfp.run("team-b")
    assert at.lookup.namespace("artifact_key", f"private-artifacts/team-a/v2/artifacts/p/{run}/t/x", "alice") == Found(
        "team-a"
    )
    assert await at.ask("artifact_key", f"v2/artifacts/p/{run}/t/x") == Found("team-b", "pipe-x7k2p")
    for key in ("artifacts/wf/2026/01/02/pod/main.log", f"x/v2/artifacts/p/{run}/t", f"v2/artifacts/p/../{run}/t", ""):
        assert at.lookup.namespace("artifact_key", key, "alice") is None
    assert len(at.kfp.calls) == 1
