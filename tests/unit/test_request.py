"""The canon: what is read, and what is refused as ambiguous."""

from __future__ import annotations

import json
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extauthz.errors import Refused
from extauthz.request import read
from extauthz.request.faults import (
    MAX_PARAMETERS,
    MAX_SEGMENTS,
    MAX_TARGET_BYTES,
    TOLERABLE,
    WHOLE_REQUEST,
    Fault,
    describe,
    refusal,
)
from extauthz.request.spelling import camel_case, snake_case
from extauthz.request.target import MAX_ENCODINGS, MAX_KNOWN_PARTS, MAX_KNOWN_TARGET_BYTES
from tests.cases import DATA

CANONICAL = [
    "/",
    "/a",
    "/a/b/",
    "/a/.b/..c/...",
    "/pipeline/apis/v2beta1/runs/0f:terminate",
    "/a/~b/c-d_e.f!$&'()*+,=:@",
    "/files/my%20dir/a%2Bb.ipynb",
    "/files/100%25.ipynb",
    "/files/%E2%82%AC",
    "/files/a%E3%80%80b",
    "/files/%F0%9F%91%A9%E2%80%8D%F0%9F%92%BB",
    "/a?x=/../..//%2e%2e",
    "/my%20dir/",
    "/a?page_size=10&sortBy=name&page_token=x",
    "/a?",
]

AMBIGUOUS = [
    ("/a?runId=1&runID=2", Fault.QUERY_SPELLING),
    ("", Fault.TARGET_FORM),
    ("*", Fault.TARGET_FORM),
    ("a/b", Fault.TARGET_FORM),
    ("http://evil.example/admin", Fault.TARGET_FORM),
    ("team-b.svc:443", Fault.TARGET_FORM),
    ("//", Fault.EMPTY_SEGMENT),
    ("//x/people", Fault.EMPTY_SEGMENT),
    ("/a//b", Fault.EMPTY_SEGMENT),
    ("/a/./b", Fault.DOT_SEGMENT),
    ("/a/.", Fault.DOT_SEGMENT),
    ("/..", Fault.DOT_SEGMENT),
    ("/a/../b", Fault.DOT_SEGMENT),
    ("/a/%2e%2e/b", Fault.DOT_SEGMENT),
    ("/a/%2E./b", Fault.DOT_SEGMENT),
    ("/a/%252e%252e/b", Fault.DOT_SEGMENT),
    ("/a/..%2fb", Fault.DOT_SEGMENT),
    ("/a/x%2f..%2fb", Fault.DOT_SEGMENT),
    ("/a/x%255c..%255cb", Fault.DOT_SEGMENT),
    ("/a/..;/b", Fault.DOT_SEGMENT),
    ("/a/..;x=1/b", Fault.DOT_SEGMENT),
    ("/a/..%3bx/b", Fault.DOT_SEGMENT),
    ("/a/%20../b", Fault.DOT_SEGMENT),
    ("/a//../b", Fault.DOT_SEGMENT),
    ("/a//b%2fc", Fault.ENCODED_SLASH),
    ("/a%2fb", Fault.ENCODED_SLASH),
    ("/a%2Fb", Fault.ENCODED_SLASH),
    ("/a%5cb", Fault.BACKSLASH),
    ("/a\\b", Fault.BACKSLASH),
    ("/a%00", Fault.CONTROL),
    ("/a%0a", Fault.CONTROL),
    ("/a%7f", Fault.CONTROL),
    ("/a%C2%85", Fault.CONTROL),
    ("/a%E2%80%A8", Fault.CONTROL),
    ("/a%E2%80%A9", Fault.CONTROL),
    ("/a\tb", Fault.CONTROL),
    ("/a\x00b", Fault.CONTROL),
    ("/a\x7f", Fault.CONTROL),
    ("/%70ipeline", Fault.ENCODED_UNRESERVED),
    ("/a%2d", Fault.ENCODED_UNRESERVED),
    ("/a%2541", Fault.DOUBLE_ENCODING),
    ("/a%c0%ae", Fault.INVALID_UTF8),
    ("/a%ff", Fault.INVALID_UTF8),
    ("/a%zz", Fault.BAD_ESCAPE),
    ("/a%2", Fault.BAD_ESCAPE),
    ("/a%", Fault.BAD_ESCAPE),
    ("/a;v=1", Fault.PATH_PARAMETER),
    ("/a%3F/b", Fault.ENCODED_DELIMITER),
    ("/a%23b", Fault.ENCODED_DELIMITER),
    ("/a%3Bb", Fault.ENCODED_DELIMITER),
    ("/a#b", Fault.FRAGMENT),
    ("/a?x#b", Fault.FRAGMENT),
    ("/a b", Fault.UNSAFE_CHARACTER),
    ('/a"b', Fault.UNSAFE_CHARACTER),
    ("/a{b}", Fault.UNSAFE_CHARACTER),
    ("/\u2215admin", Fault.RAW_NON_ASCII),
    ("/caf\u00e9", Fault.RAW_NON_ASCII),
    ("/a?x=1&x=2", Fault.QUERY_DUPLICATE),
    ("/a?namespace=a&n%61mespace=b", Fault.QUERY_DUPLICATE),
    ("/a?x=1&x=1", Fault.QUERY_DUPLICATE),
    ("/a?x&x", Fault.QUERY_DUPLICATE),
    ("/a?x=1&&x=2", Fault.QUERY_DUPLICATE),
    ("/a?&x=1&x=2", Fault.QUERY_DUPLICATE),
    ("/a?a+b=1&a%20b=2", Fault.QUERY_DUPLICATE),
    ("/a?page_size=1&pageSize=2", Fault.QUERY_SPELLING),
    ("/a?x=1;y=2", Fault.QUERY_SEMICOLON),
    ("/a?x=%ff", Fault.QUERY_INVALID_UTF8),
    ("/a?x=\u00e9", Fault.QUERY_INVALID_UTF8),
    ("/a?%ff=x", Fault.QUERY_INVALID_UTF8),
    ("/a?x=%zz", Fault.QUERY_BAD_ESCAPE),
    ("/a?x=%0a", Fault.QUERY_CONTROL),
    ("/a?x=a\tb", Fault.QUERY_CONTROL),
    ("/a?" + "&".join(f"p{n}=1" for n in range(MAX_PARAMETERS + 1)), Fault.QUERY_TOO_MANY),
    ("/" + "a" * MAX_TARGET_BYTES, Fault.TARGET_TOO_LONG),
    ("/a" * (MAX_SEGMENTS + 1), Fault.TARGET_TOO_LONG),
]


def faults(target: str, method: str = "GET", **headers: str) -> set[Fault]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {fault for fault, _ in read(method=method, target=target, headers=named).faults}


@pytest.mark.parametrize("target", CANONICAL)
def test_ordinary_targets_have_no_fault(target: str) -> None:
    """Over-blocking is a bug too."""
    assert faults(target) == set()


@pytest.mark.parametrize(("target", "fault"), AMBIGUOUS)
def test_ambiguous_targets_carry_their_fault(target: str, fault: Fault) -> None:
    """Each way to be read twice has a name."""
    assert fault in faults(target)


def test_limits_hold_exactly() -> None:
    """A target, a path and a query at their limits pass."""
    assert faults("/" + "a" * (MAX_TARGET_BYTES - 1)) == set()
    assert faults("/a" * MAX_SEGMENTS) == set()
    assert faults("/a?" + "&".join(f"p{n}=1" for n in range(MAX_PARAMETERS))) == set()


def test_a_fault_knows_its_segment() -> None:
    """A rule may tolerate a fault below its prefix only, so the place counts."""
    assert read(method="GET", target="/a/b%2f/c//d", headers={}).faults == (
        (Fault.ENCODED_SLASH, 1),
        (Fault.EMPTY_SEGMENT, 3),
    )
    assert read(method="GET", target="/a?x=1&x=2", headers={}).faults == ((Fault.QUERY_DUPLICATE, WHOLE_REQUEST),)


@pytest.mark.parametrize(
    "method",
    [
        "post",
        "Get",
        "",
        "G ET",
        "GET\n",
        "CONNECT",
        "TRACE",
        "TRACK",
        "FROB",
        "PROPFIND",
        "A" * 33,
        "\uff27\uff25\uff34",
    ],
)
def test_methods_that_are_not_passed_on(method: str) -> None:
    """Methods are case-sensitive, and those that tunnel or mirror are refused."""
    assert faults("/a", method) == {Fault.METHOD}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_methods_that_are_passed_on(method: str) -> None:
    """The seven that Kubeflow and its applications use."""
    assert faults("/a", method) == set()


@pytest.mark.parametrize(
    "name",
    [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x_http_method_override",
        "x_http-method-override",
    ],
)
def test_a_method_override_is_refused_in_every_spelling(name: str) -> None:
    """KFP runs the method of the header instead of the one that was checked."""
    request = read(method="POST", target="/a", headers={name: "DELETE"})
    assert request.faults == ((Fault.METHOD_OVERRIDE, WHOLE_REQUEST),)


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded",
        "Application/X-WWW-Form-Urlencoded; charset=utf-8",
        "a/b,application/x-www-form-urlencoded",
    ],
)
def test_a_form_body_is_refused_where_a_body_counts(kind: str) -> None:
    """KFP turns a form POST into a GET with parameters from the body."""
    assert faults("/a", "POST", content_type=kind) == {Fault.FORM_BODY}
    assert faults("/a", "GET", content_type=kind) == set()


def test_headers_must_not_contradict_the_target() -> None:
    """Only one path and one method may be in play."""
    assert faults("/app", **{":path": "/admin"}) == {Fault.TARGET_MISMATCH}
    assert faults("/app", **{":method": "POST"}) == {Fault.TARGET_MISMATCH}
    assert faults("/app", **{":path": "/app", ":method": "GET"}) == set()
    assert refusal(Fault.TARGET_MISMATCH).status == 403


def test_parameters_are_decoded_once() -> None:
    """Names and values are form-decoded; an escape that is left stays."""
    request = read(method="GET", target="/a?na%20me=a+b%26c&x=%2541&empty=&bare&", headers={})
    assert request.parameters == {"na me": "a b&c", "x": "%41", "empty": "", "bare": ""}
    assert read(method="GET", target="/a?&x=a+b&&y=c-d", headers={}).parameters == {"x": "a b", "y": "c-d"}


@pytest.mark.parametrize("query", ["experiment_id=e", "experimentId=e"])
def test_a_parameter_is_found_in_either_protobuf_spelling(query: str) -> None:
    """KFP's gateway reads snake_case and camelCase."""
    assert read(method="GET", target=f"/a?{query}", headers={}).parameter("experiment_id") == "e"


def test_a_parameter_with_two_values_is_never_read() -> None:
    """Even where a rule tolerates duplicates, the value it reads must be one."""
    request = read(method="GET", target="/a?ns=a&ns=b&other=c", headers={})
    assert request.parameter("other") == "c"
    with pytest.raises(Refused, match=r"query_duplicate: .* more than once"):
        request.parameter("ns")


def test_a_parameter_that_cannot_be_decoded_is_empty() -> None:
    """Where a rule would tolerate the fault, no part of the bytes is taken for a value."""
    for query in ("ns=%ff", "ns=\u00e4", "ns=%4"):
        assert read(method="GET", target=f"/a?{query}", headers={}).parameters == {"ns": ""}


def test_a_parameter_in_two_spellings_is_never_read() -> None:
    """KFP would pick one of the two at random."""
    with pytest.raises(Refused, match=r"query_spelling: .* in two ways"):
        read(method="GET", target="/a?run_id=a&runId=b", headers={}).parameter("run_id")


@pytest.mark.parametrize(("snake", "camel"), [("a", "a"), ("run_id", "runId"), ("a_b_c", "aBC"), ("x_", "x")])
def test_camel_case_is_protobufs(snake: str, camel: str) -> None:
    """The JSON name drops each underscore and capitalises what follows."""
    assert camel_case(snake) == camel


@pytest.mark.parametrize(
    ("camel", "snake"),
    [("runId", "run_id"), ("plain", "plain"), ("nameSpace", "name_space"), ("NameSpace", "NameSpace"), ("aB", "a_b")],
)
def test_snake_case_undoes_it(camel: str, snake: str) -> None:
    """Spellings are compared in snake_case."""
    assert snake_case(camel) == snake


@pytest.mark.parametrize("fault", list(Fault))
def test_every_fault_has_a_sentence(fault: Fault) -> None:
    """A refusal is told in words."""
    assert describe(fault).endswith(".")
    assert (refusal(fault).reason, refusal(fault).message) == (fault, describe(fault))


def test_only_what_is_understood_and_not_passed_on_is_forbidden() -> None:
    """Everything else that is ambiguous is a bad request."""
    forbidden = {fault for fault in Fault if refusal(fault).status == 403}
    assert forbidden == {Fault.METHOD, Fault.TARGET_MISMATCH}
    assert {refusal(fault).status for fault in set(Fault) - forbidden} == {400}


def test_what_hides_where_a_path_leads_can_never_be_tolerated() -> None:
    """The list of what a rule may relax is a security boundary."""
    assert not TOLERABLE & {
        Fault.DOT_SEGMENT,
        Fault.CONTROL,
        Fault.INVALID_UTF8,
        Fault.BACKSLASH,
        Fault.METHOD_OVERRIDE,
    }


@pytest.mark.parametrize("name", sorted(path.name for path in (DATA / "check-requests").glob("*.json")))
def test_whatever_envoy_sent_can_be_read(name: str) -> None:
    """Reading a captured target never raises."""
    captured = json.loads((DATA / "check-requests" / name).read_text())
    rows = captured if isinstance(captured, list) else [captured]
    for row in rows:
        read(method="GET", target=str(row.get("check_path") or ""), headers={})


def test_two_readers_agree_on_every_path_of_the_matrix_that_has_no_fault() -> None:
    """What Envoy forwards unchanged and we find canonical cannot be decoded into another path."""
    rows = json.loads((DATA / "check-requests" / "paths-matrix.json").read_text())
    clean = [row["check_path"] for row in rows if row["checked"] and not faults(row["check_path"])]
    assert clean
    for target in clean:
        path = target.partition("?")[0]
        decoded = unquote(path)
        assert ".." not in decoded.split("/")
        assert "//" not in decoded
        assert decoded.count("/") == path.count("/")


ANY_TEXT = st.text(st.characters(exclude_categories=()) | st.sampled_from("/?&=%25ef.;"), max_size=200)


@given(ANY_TEXT, ANY_TEXT)
@example("/%41\udcff", "GET")
@example("/a?b=%41\udcff", "GET")
def test_reading_never_raises(target: str, method: str) -> None:
    """Whatever arrives becomes a request, also halves of surrogate pairs, which stand for bytes that are no UTF-8."""
    assert read(method=method, target=target, headers={}).faults or target.isascii()


@given(st.lists(st.text(alphabet="abAB01-._~%2e5cf/\\;:@ \t", max_size=8), max_size=6))
def test_a_path_without_faults_decodes_to_itself(parts: list[str]) -> None:
    """No decoder can find another structure in a canonical path."""
    path = "/" + "/".join(parts)
    request = read(method="GET", target=path, headers={})
    if not request.faults:
        decoded = unquote(path)
        assert len(decoded.split("/")) == len(request.segments) + 1
        assert not {".", ".."} & set(decoded.split("/"))
        assert "\\" not in decoded
        assert unquote(decoded) == decoded or "%" not in unquote(decoded)


def test_a_target_is_read_once_and_still_judged_with_its_own_headers() -> None:
    """What is remembered is the target alone: method and headers are looked at each time."""
    first = read(method="GET", target="/a?x=1", headers={})
    again = read(method="TRACE", target="/a?x=1", headers={"x-http-method": "PUT"})
    assert first.faults == ()
    assert {fault for fault, _ in again.faults} == {Fault.METHOD, Fault.METHOD_OVERRIDE}
    assert again.parameters is first.parameters


@pytest.mark.parametrize(
    "target",
    [
        "/" + "a" * MAX_KNOWN_TARGET_BYTES,
        "/a" * (MAX_KNOWN_PARTS + 1),
        "/a?" + "&".join(f"{number}=" for number in range(MAX_KNOWN_PARTS + 1)),
    ],
)
def test_a_target_that_takes_much_memory_is_not_remembered(target: str) -> None:
    """A thousand bytes of many small parts take twenty times as much once they are read, and anybody can send them."""
    first, again = (read(method="GET", target=target, headers={}) for _ in range(2))
    assert first.segments is not again.segments


def test_a_path_of_too_many_segments_is_not_looked_at() -> None:
    """It is refused anyway, and each segment would cost its time."""
    long = read(method="GET", target="/%41" * (MAX_SEGMENTS + 1) + "?a=1", headers={})
    assert long.faults == ((Fault.TARGET_TOO_LONG, WHOLE_REQUEST),)
    assert (long.path, long.segments, long.parameters) == ("/", ("",), {})


def test_what_is_not_there_reads_as_empty() -> None:
    """No path, host, body or peer is made up."""
    asked = read(method="GET", target="team-b.svc/a", headers={})
    assert (asked.segments, asked.host, asked.body.content, asked.peer) == ((), "", b"", "")


def test_what_is_encoded_too_often_counts_as_a_dot_segment() -> None:
    """Each level costs a pass, so nobody looks deeper; where double encoding is tolerated, this still is not."""
    assert Fault.DOT_SEGMENT not in TOLERABLE
    assert Fault.DOT_SEGMENT not in faults("/%" + "25" * (MAX_ENCODINGS - 2) + "41")
    assert Fault.DOT_SEGMENT in faults("/%" + "25" * MAX_ENCODINGS + "41")
