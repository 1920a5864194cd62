"""The RBAC watch against an API server's wire: what it sees, what it survives, what it admits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web

from extauthz.access.generations import Generations
from extauthz.access.kubernetes.connection import Connection
from extauthz.access.watch import RESOURCES, RbacWatch, State, feed
from extauthz.review import ResourceAttributes
from extauthz.settings import WatchSettings
from extauthz.subject import Subject
from tests.apiserver import Double, Gate, answer, hang
from tests.apiserver.manifests import binding, delegate, role, user

ANN = Subject.authenticated("ann")
IN_TEAM_A = ResourceAttributes("list", resource="pods", namespace="team-a")
IN_TEAM_B = ResourceAttributes("list", resource="pods", namespace="team-b")
GRANT = binding("grant", "editor", user("ann"), namespace="team-a")
BRISK = WatchSettings(rotate_seconds=60, backoff_seconds=0.02, max_backoff_seconds=0.1)
ROTATING = BRISK.model_copy(update={"rotate_seconds": 1})
Start = Callable[..., Awaitable[RbacWatch]]


class Broken:
    """A sink with a bug that shows once."""

    def __init__(self) -> None:
        self.broken = True

    def apply(self, data: Mapping[str, Any]) -> None:
        if self.broken and data["kind"] == "Role":
            self.broken = False
            raise RuntimeError("a bug")

    def delete(self, kind: str, namespace: str, name: str) -> None:
        raise AssertionError((kind, namespace, name))


class Kinds:
    """A sink that remembers the kinds it is told."""

    def __init__(self) -> None:
        self.told: set[str] = set()

    def apply(self, data: Mapping[str, Any]) -> None:
        self.told.add(data["kind"])

    def delete(self, kind: str, namespace: str, name: str) -> None:
        raise AssertionError((kind, namespace, name))


@pytest.fixture
def generations() -> Generations:
    return Generations()


@pytest.fixture
async def start(connection: Connection, generations: Generations) -> AsyncIterator[Start]:
    """Start a watch; with `synced=False` without waiting for it."""
    async with AsyncExitStack() as stack:

        async def begin(
            settings: WatchSettings = BRISK,
            *,
            synced: bool = True,
            sink: Any = None,
            namespaces: Any = None,
            settling: float = 0.05,
        ) -> RbacWatch:
            watch = RbacWatch(
                connection, settings, generations, settling_seconds=settling, sink=sink, namespaces=namespaces
            )
            stack.push_async_callback(watch.close)
            watch.start()
            if synced:
                await watch.wait_until(lambda: generations.watched)
            return watch

        yield begin


def sees(generations: Generations, asked: ResourceAttributes = IN_TEAM_A) -> Callable[[], bool]:
    """A condition: an event after now could change the answer."""
    epoch = generations.epoch
    return lambda: not generations.unchanged_since(epoch, ANN, asked)


def in_state(watch: RbacWatch, state: State, plural: str = "rolebindings") -> Callable[[], bool]:
    return lambda: watch.states[plural] is state


async def test_nothing_is_seen_before_all_is_listed(double: Double, start: Start, generations: Generations) -> None:
    """Until every resource is synced the generations say that nothing is watched, and why."""
    with double.fault("/rolebindings", answer(500)):
        watch = await start(synced=False)
        await watch.wait_until(lambda: list(watch.states.values()).count(State.SYNCED) == 4)
        await watch.wait_until(in_state(watch, State.DOWN))
        assert not generations.watched
        assert watch.problems() == ["RBAC watch of rolebindings is down: the API server answered HTTP 500"]
    await watch.wait_until(lambda: generations.watched)
    assert watch.problems() == []


async def test_changes_are_seen_where_they_count(double: Double, start: Start, generations: Generations) -> None:
    """Each write and delete of a RoleBinding raises its namespace, and no other."""
    watch = await start()
    for change in (double.apply, double.apply, double.delete):
        seen, elsewhere = sees(generations), sees(generations, IN_TEAM_B)
        await change(GRANT)
        await watch.wait_until(seen)
        assert not elsewhere()


@pytest.mark.parametrize("manifest", [role("r", namespace="team-a"), role("r"), binding("b", "r", user("ann")), GRANT])
async def test_every_kind_is_watched(
    double: Double, start: Start, generations: Generations, manifest: dict[str, Any]
) -> None:
    """Roles, ClusterRoles and both kinds of bindings all count."""
    watch = await start()
    seen = sees(generations)
    double.write(manifest)
    await watch.wait_until(seen)


async def test_a_namespace_counts(double: Double, start: Start, generations: Generations) -> None:
    """A namespace that comes or goes ends the answers in it."""
    watch = await start()
    seen = sees(generations)
    double.write({"kind": "Namespace", "metadata": {"name": "team-a"}})
    await watch.wait_until(seen)


async def test_each_sink_is_told_what_it_wants(double: Double, start: Start) -> None:
    """RBAC objects go to one, Namespaces to the other."""
    double.write({"kind": "Namespace", "metadata": {"name": "team-a"}})
    for manifest in (role("r", namespace="team-a"), role("r"), binding("b", "r", user("ann")), GRANT):
        double.write(manifest)
    rbac, namespaces = Kinds(), Kinds()
    await start(sink=rbac, namespaces=namespaces)
    assert rbac.told == {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}
    assert namespaces.told == {"Namespace"}


async def test_servers_without_streaming_lists_are_listed_by_pages(
    double: Double, start: Start, generations: Generations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older API server is listed page by page and then watched from the list's version."""
    monkeypatch.setattr(feed, "LIST_LIMIT", 1)
    double.objects.streaming_lists = False
    watch = await start()
    assert double.calls["list clusterroles"] == 2
    assert watch.counts.lists == len(RESOURCES)
    assert watch.counts.failures == 0
    seen = sees(generations)
    double.write(GRANT)
    await watch.wait_until(seen)


async def test_pages_that_expire_midway_are_listed_again(
    double: Double, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 410 on a page is a failure like any other while there is nothing to resume from."""
    monkeypatch.setattr(feed, "LIST_LIMIT", 1)
    double.objects.streaming_lists = False
    with double.fault("clusterroles?limit=1&continue", answer(410), times=1) as expired:
        watch = await start()
    assert expired.hits == 1
    assert watch.counts.failures == 1


async def test_a_dropped_watch_resumes_and_sees_what_it_missed(
    double: Double, start: Start, generations: Generations
) -> None:
    """While it is away the watch says so; what happened meanwhile is replayed without a new list."""
    watch = await start()
    with double.fault("/rolebindings", answer(503)):
        double.objects.drop_watches()
        await watch.wait_until(in_state(watch, State.DOWN))
        assert not generations.watched
        seen, elsewhere = sees(generations), sees(generations, IN_TEAM_B)
        double.write(GRANT)
    await watch.wait_until(seen)
    await watch.wait_until(lambda: generations.watched)
    assert watch.counts.lists == len(RESOURCES)
    assert not elsewhere()


@pytest.mark.parametrize("streaming", [True, False])
async def test_an_expired_version_is_listed_anew(
    double: Double, start: Start, generations: Generations, streaming: bool
) -> None:
    """A 410 event within HTTP 200 leads to a new list, which ends all answers: the gap cannot be known."""
    watch = await start()
    double.objects.streaming_lists = streaming
    with double.fault("/rolebindings", answer(503)):
        double.objects.drop_watches()
        await watch.wait_until(in_state(watch, State.DOWN))
        double.write(GRANT)
        double.erase(GRANT)
        double.objects.compact()
        seen = sees(generations, IN_TEAM_B)
    await watch.wait_until(lambda: generations.watched)
    assert seen()
    assert watch.counts.lists > len(RESOURCES)


@pytest.mark.parametrize(
    ("code", "lists", "failures", "says"),
    [(410, 1, 0, "is behind: listing anew, for"), (500, 0, 1, "is down: the API server ended the watch with code 500")],
)
async def test_an_error_event_says_whether_to_list_anew(
    double: Double, start: Start, generations: Generations, code: int, lists: int, failures: int, says: str
) -> None:
    """Code 410 is no failure and leads to a new list; another code is one, is told, and the watch is resumed."""
    watch = await start()
    with double.fault("/rolebindings?watch=1", answer(200, b'{"type":"ERROR","object":{"code":%d}}\n' % code), times=1):
        double.objects.drop_watches()
        await watch.wait_until(lambda: f"RBAC watch of rolebindings {says}" in "\n".join(watch.problems()))
    await watch.wait_until(lambda: generations.watched)
    assert watch.counts.lists == len(RESOURCES) + lists
    assert watch.counts.failures == len(RESOURCES) + failures  # each watch was dropped once


async def test_a_resumed_watch_lives_though_nothing_happens(
    double: Double, start: Start, generations: Generations
) -> None:
    """Its age counts from the answer on, without any event."""
    watch = await start()
    loop = asyncio.get_running_loop()
    before, lines = loop.time(), watch.counts.lines
    double.objects.drop_watches()
    await watch.wait_until(lambda: not generations.watched)
    await watch.wait_until(lambda: generations.watched)
    assert watch.counts.lines == lines
    assert max(watch.ages.values()) <= loop.time() - before


async def test_pauses_grow_until_the_resource_is_seen_again(
    double: Double, start: Start, generations: Generations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failure in a row waits twice as long, up to the limit; a success begins anew."""
    pauses: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await real_sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    with double.fault("/rolebindings", answer(500), times=5):
        watch = await start()
    assert pauses == [0.02, 0.04, 0.08, 0.1, 0.1]
    pauses.clear()
    with double.fault("/rolebindings", answer(500), times=1):
        double.objects.drop_watches()
        await watch.wait_until(lambda: watch.counts.failures == 5 + len(RESOURCES) + 1)
    await watch.wait_until(lambda: generations.watched)
    assert sorted(pauses) == [0.02] * len(RESOURCES) + [0.04]


async def test_http_410_is_listed_anew_too(double: Double, start: Start, generations: Generations) -> None:
    """The same answer may come as the status itself."""
    watch = await start()
    with double.fault("/rolebindings", answer(410), times=1):
        double.objects.drop_watches()
        await watch.wait_until(lambda: watch.counts.lists == len(RESOURCES) + 1)
    await watch.wait_until(lambda: generations.watched)


async def test_a_version_that_the_server_refuses_is_not_tried_for_ever(
    double: Double, start: Start, generations: Generations
) -> None:
    """After HTTP 400 for a resumed watch the resource is listed anew."""
    watch = await start()
    with double.fault("rolebindings?watch=1&allowWatchBookmarks=true&timeoutSeconds", answer(400), times=1):
        double.objects.drop_watches()
        await watch.wait_until(lambda: watch.counts.lists == len(RESOURCES) + 1)
    await watch.wait_until(lambda: generations.watched)


async def test_bookmarks_move_the_version(double: Double, start: Start, generations: Generations) -> None:
    """A quiet resource resumes from the last bookmark, though its own last event has long expired."""
    watch = await start()
    double.write(GRANT)
    before = watch.counts.lines
    double.objects.send_bookmarks()
    await watch.wait_until(lambda: watch.counts.lines >= before + len(RESOURCES))
    double.objects.compact()
    double.objects.drop_watches()
    await watch.wait_until(lambda: not generations.watched)
    await watch.wait_until(lambda: generations.watched)
    assert watch.counts.lists == len(RESOURCES)


async def test_without_the_right_to_watch_it_says_what_to_grant(
    double: Double, start: Start, generations: Generations, caplog: pytest.LogCaptureFixture
) -> None:
    """A 403 is told in the state, the problems and the log, and ends by itself once the right is there."""
    missing = delegate()[-1]
    double.erase(missing)
    watch = await start(synced=False)
    await watch.wait_until(lambda: set(watch.states.values()) == {State.FORBIDDEN})
    assert not generations.watched
    assert "RBAC watch of roles is forbidden: HTTP 403: grant extauthz list and watch of roles" in watch.problems()
    assert [record.levelno for record in caplog.records if "watch of roles" in record.message] == [logging.ERROR]
    double.write(missing)
    await watch.wait_until(lambda: generations.watched)


async def test_ends_in_good_order_are_no_gap(
    double: Double, start: Start, generations: Generations, caplog: pytest.LogCaptureFixture
) -> None:
    """A watch that the server ends after the agreed time is resumed without a word, and goes on seeing."""
    watch = await start(ROTATING, settling=30)  # so that no stall of the machine is a gap
    caplog.set_level(logging.INFO)
    caplog.clear()
    await watch.wait_until(lambda: watch.counts.connects >= 2 * len(RESOURCES))
    seen = sees(generations)
    double.write(GRANT)
    await watch.wait_until(seen)
    assert generations.watched
    assert watch.counts.failures == 0
    assert watch.counts.lists == len(RESOURCES)
    assert [record for record in caplog.records if record.name.startswith("extauthz")] == []


async def test_an_end_that_cannot_be_resumed_is_a_gap(double: Double, start: Start, generations: Generations) -> None:
    """When the next watch does not open within the settling time, the resource is down."""
    watch = await start(ROTATING)
    with double.fault("/rolebindings", hang()):
        await watch.wait_until(in_state(watch, State.DOWN))
        assert not generations.watched
        assert "could not be resumed" in watch.problems()[0]


@pytest.mark.parametrize("settings", [ROTATING, BRISK], ids=["ended in good order", "broken"])
async def test_a_server_restored_from_a_backup_is_noticed(
    double: Double, start: Start, generations: Generations, settings: WatchSettings
) -> None:
    """A server older than what we have seen would keep a resumed watch silent for ever, however the last one ended."""
    older = {"kind": "RoleBindingList", "metadata": {"resourceVersion": "1"}, "items": []}
    watch = await start(settings)
    seen = sees(generations)
    with double.fault("rolebindings?limit=1", answer(200, older), times=1):
        if settings is BRISK:
            double.objects.drop_watches()
        await watch.wait_until(lambda: watch.counts.lists == len(RESOURCES) + 1)
    await watch.wait_until(lambda: generations.watched)
    assert seen()
    assert watch.counts.restarts == 0


async def test_a_silently_dead_connection_is_noticed(
    double: Double, start: Start, generations: Generations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that neither speaks nor ends when it should is given up."""
    gate = Gate()

    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await gate.enter()
        return response

    monkeypatch.setattr(feed, "GRACE_SECONDS", 0.1)
    watch = await start(ROTATING)
    with double.fault("/rolebindings?watch=1", silent):
        await watch.wait_until(in_state(watch, State.DOWN))
    assert not generations.watched
    assert watch.problems() == ["RBAC watch of rolebindings is down: the API server did not answer in time"]
    await watch.wait_until(lambda: generations.watched)


async def test_a_watch_that_never_opens_is_given_up(
    double: Double, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that accepts the request and never begins to answer is down."""
    monkeypatch.setattr(feed, "OPEN_SECONDS", 0.05)
    with double.fault("/rolebindings", hang()):
        watch = await start(synced=False)
        await watch.wait_until(in_state(watch, State.DOWN))
        assert "did not begin" in watch.problems()[0]


@pytest.mark.parametrize(
    "line",
    [
        b"garbage\n",
        b"null\n",
        b"[]\n",
        b"{}\n",
        b'{"type":"ADDED","object":{}}\n',
        b'{"type":"ADDED","object":null}\n',
        b'{"type":"ADDED","object":{"metadata":{"name":"a","namespace":"team-a"}}}\n' * 2 + b"{}\n",
        b'{"type":"DELETED","object":{"metadata":{"resourceVersion":"9"}}}\n',
        b'{"type":"CHANGED","object":{"metadata":{"name":"a","resourceVersion":"9"}}}\n',
        b'{"type":"BOOKMARK","object":{}}\n',
        b'{"type":"ERROR","object":{"code":500,"message":"etcd is away"}}\n',
        b'{"type":"ERROR","object":null}\n',
        b"",
    ],
)
async def test_what_cannot_be_read_is_down_and_listed_anew(
    double: Double, start: Start, generations: Generations, line: bytes
) -> None:
    """A proxy's page, a half event, an unknown event or an empty watch is never taken for silence."""
    watch = await start()
    seen = sees(generations, IN_TEAM_B)
    with double.fault("/rolebindings", answer(200, line), times=2) as odd:
        double.objects.drop_watches()
        await watch.wait_until(lambda: odd.hits == 2)
        assert not generations.watched
    await watch.wait_until(lambda: generations.watched)
    assert watch.counts.failures >= 2
    assert seen() or line in (b"", b'{"type":"ERROR","object":{"code":500,"message":"etcd is away"}}\n')


@pytest.mark.parametrize("page", [b"null", b"[]", b"{}", b"<html>", b'{"items":[{}],"metadata":{}}'])
async def test_lists_that_cannot_be_read_are_tried_again(double: Double, start: Start, page: bytes) -> None:
    """A list that is no list leaves the resource down, not empty."""
    double.objects.streaming_lists = False
    with double.fault("rolebindings?limit", answer(200, page), times=2) as odd:
        watch = await start()
    assert odd.hits == 2
    assert watch.counts.failures == 2


async def test_an_unforeseen_error_is_survived_and_told(
    start: Start, double: Double, generations: Generations, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug on the way ends nothing: it is logged, counted, and the resource is listed anew."""
    double.write(role("r", namespace="team-a"))
    watch = await start(sink=Broken())
    assert watch.counts.restarts == 1
    assert any("following roles failed" in record.message for record in caplog.records)


async def test_after_the_close_nothing_is_seen(double: Double, start: Start, generations: Generations) -> None:
    """A stopped watch does not go on claiming that it sees changes."""
    watch = await start()
    await watch.close()
    assert not generations.watched
    assert not any("Follower.run" in repr(task) for task in asyncio.all_tasks())
