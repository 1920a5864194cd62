"""Results in JUnit's XML, which CI systems show: a suite for each file, a case for each decision."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from xml.etree import ElementTree as Xml

from extauthz.policytest.suite import Result

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(results: Sequence[Result]) -> bytes:
    """Return the whole document."""
    root = Xml.Element("testsuites")
    for file, found in groupby(results, key=lambda result: result.file):
        cases = list(found)
        wrong = sum(bool(result.problem) for result in cases)
        suite = Xml.SubElement(root, "testsuite", name=str(file), tests=str(len(cases)), failures=str(wrong))
        for result in cases:
            _case(suite, result)
    return bytes(Xml.tostring(root, encoding="utf-8", xml_declaration=True))


def _case(suite: Xml.Element, result: Result) -> None:
    named = _text(f"{result.case}: {result.who}")
    case = Xml.SubElement(suite, "testcase", classname=_text(str(result.file)), name=named, line=str(result.line))
    if result.problem:
        decision = result.decision
        failure = Xml.SubElement(case, "failure", message=_text(f"{result.who} {result.problem}"))
        failure.text = _text(f"{decision.outcome} {decision.status} {decision.reason}\n{decision.message}")


def _text(text: str) -> str:
    """Return text without what XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)
