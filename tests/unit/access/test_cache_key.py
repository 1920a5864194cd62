"""The laws of the review key: equal when the question is the same, different when it is not."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.access.review_key import requester_bytes, review_key
from extauthz.review import Attributes, NonResourceAttributes, ResourceAttributes
from extauthz.subject import Subject

text = st.text(st.sampled_from("ab-:/,\0 "), max_size=4)
resource_attributes = st.builds(ResourceAttributes, *[text] * 7)
attributes = resource_attributes | st.builds(NonResourceAttributes, text, text)
extras = st.lists(st.tuples(text, st.lists(text, max_size=2).map(tuple)), max_size=3).map(tuple)
subjects = st.builds(Subject, text, st.lists(text, max_size=3).map(tuple), text, extras)
ANN = Subject.authenticated("ann", ("devs",))
LIST_PODS = ResourceAttributes("list", "", "v1", "pods", "", "team-a", "")


def _wire(subject: Subject, asked: Attributes) -> object:
    """The review as Kubernetes understands it, written down independently of the key."""
    names = {name for name, _ in subject.extra}
    extra = {name: [values for other, values in subject.extra if other == name] for name in names}
    return (subject.user, set(subject.groups), subject.uid, extra, asked)


@given(subjects, subjects, attributes, attributes)
def test_keys_are_equal_exactly_when_the_reviews_are(
    subject: Subject, other: Subject, asked: Attributes, other_asked: Attributes
) -> None:
    """Two keys are equal if and only if Kubernetes would be sent the same review."""
    same = _wire(subject, asked) == _wire(other, other_asked)
    assert (review_key(subject, asked) == review_key(other, other_asked)) is same


@given(subjects, attributes, st.randoms(use_true_random=False))
def test_order_and_repetition_of_groups_do_not_count(subject: Subject, asked: Attributes, random: Random) -> None:
    """The same set of groups gives the same key and the same hash, however it is listed."""
    groups = [*subject.groups, *subject.groups]
    random.shuffle(groups)
    listed = replace(subject, groups=tuple(groups))
    assert review_key(listed, asked) == review_key(subject, asked)
    assert hash(review_key(listed, asked)) == hash(review_key(subject, asked))


def test_order_of_extras_does_not_count_but_order_of_their_values_does() -> None:
    """Extras are a mapping of lists, so only the order inside one list is part of the question."""
    one = replace(ANN, extra=(("a", ("1", "2")), ("b", ())))
    assert review_key(one, LIST_PODS) == review_key(replace(ANN, extra=(("b", ()), ("a", ("1", "2")))), LIST_PODS)
    assert review_key(one, LIST_PODS) != review_key(replace(ANN, extra=(("a", ("2", "1")), ("b", ()))), LIST_PODS)


def test_how_the_user_logged_in_is_no_part_of_the_question() -> None:
    """Expiry, claims and authenticator of the credential leave the key alone."""
    other = replace(ANN, expires=1.0, authenticator="jwt", claims={"a": 1})
    assert review_key(other, LIST_PODS) == review_key(ANN, LIST_PODS)


@pytest.mark.parametrize(
    "other",
    [replace(ANN, user="bob"), replace(ANN, groups=("devs",)), replace(ANN, uid="1"), replace(ANN, extra=(("a", ()),))],
)
def test_every_part_of_the_subject_counts(other: Subject) -> None:
    """Another user, a lost group, another uid or another extra is another question."""
    assert review_key(ANN, LIST_PODS) != review_key(other, LIST_PODS)


@pytest.mark.parametrize(
    ("asked", "name"),
    [(asked, field.name) for asked in (LIST_PODS, NonResourceAttributes("get", "/x")) for field in fields(asked)],
)
def test_every_field_of_the_attributes_counts(asked: Attributes, name: str) -> None:
    """No field of the attributes is left out of the key, whichever are added later."""
    other: Attributes = type(asked)(**{**asdict(asked), name: "something else"})
    assert review_key(ANN, asked) != review_key(ANN, other)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (("a-b", ResourceAttributes("c")), ("a", ResourceAttributes("b-c"))),
        (("a", ResourceAttributes("get", group="x", resource="")), ("a", ResourceAttributes("get", resource="x"))),
        (("a", ResourceAttributes("get", "x")), ("a", NonResourceAttributes("get", "x"))),
        (("a\0b", ResourceAttributes("get")), ("a", ResourceAttributes("b\0get"))),
        (("alice\ufffd", LIST_PODS), ("alice%ff", LIST_PODS)),
        (("issuer-a#ann", LIST_PODS), ("issuer-b#ann", LIST_PODS)),
        (("ann", LIST_PODS), ("Ann", LIST_PODS)),
        (("\u00e9", LIST_PODS), ("e\u0301", LIST_PODS)),
    ],
)
def test_tricks_with_delimiters_and_spelling_do_not_confuse(
    left: tuple[str, Attributes], right: tuple[str, Attributes]
) -> None:
    """Text moved across a border, or spelled alike, is a different question."""
    assert review_key(Subject(left[0]), left[1]) != review_key(Subject(right[0]), right[1])


def test_one_group_with_a_comma_is_not_two_groups() -> None:
    """Groups are separate values, whatever characters they hold."""
    assert review_key(Subject("ann", ("a,b",)), LIST_PODS) != review_key(Subject("ann", ("a", "b")), LIST_PODS)


def test_absent_and_empty_namespace_are_the_same_question() -> None:
    """On the wire an empty namespace is an absent one, and neither is any named namespace."""
    everywhere = ResourceAttributes("list", resource="pods")
    assert review_key(ANN, everywhere) == review_key(ANN, ResourceAttributes("list", resource="pods", namespace=""))
    assert review_key(ANN, everywhere) != review_key(ANN, replace(everywhere, namespace="default"))


def test_the_requesters_part_is_counted_in_bytes() -> None:
    """Characters outside ASCII count as many bytes as they take on the wire, lone surrogates included."""
    assert requester_bytes(ResourceAttributes("get", name="é\udc80")) == 3 + 2 + 3
    assert requester_bytes(NonResourceAttributes("get", "/x")) == 5
