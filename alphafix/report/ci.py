"""An evaluation for a CI system: Markdown for a step summary, JUnit XML for the gates."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from alphafix.metrics.evaluation import Evaluation
from alphafix.metrics.gates import Outcome
from alphafix.report.evaluation_text import LABELS, change_cells, heading, interval_note, top1_rows

# Beside top-1, what a reader of a summary asks for; report.json has all of it.
SHOWN = ("top5", "macro_f1", "ece", "grouped")


def markdown_report(evaluation: Evaluation, outcomes: Sequence[Outcome]) -> str:
    """Return the evaluation and its gates as GitHub-flavoured Markdown."""
    header, *rows = top1_rows(evaluation)
    overall = evaluation.tier("overall").figures
    others = [
        [f"{LABELS[name]}, overall", *change_cells(overall[name])]
        for name in SHOWN
        if name in overall
    ]
    others += [[LABELS[name], *change_cells(found)] for name, found in evaluation.summaries.items()]
    lines = ["## alphafix evaluate", "", *(f"{escape(line)}  " for line in heading(evaluation)), ""]
    lines += _gate_lines(outcomes)
    lines += [*_table(header, rows), ""]
    lines += [*_table(["all in %", "base", "corrected", "change"], others), ""]
    lines += [escape(interval_note(evaluation))]
    return "\n".join(lines) + "\n"


def _gate_lines(outcomes: Sequence[Outcome]) -> list[str]:
    lines = [
        f"- {'✅' if outcome.met else '❌'} `{outcome.gate} {outcome.limit:g}`: "
        f"{escape(outcome.line)}"
        for outcome in outcomes
    ]
    return [*lines, ""] if lines else []


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    ruler = ["---", *("---:" for _ in header[1:])]
    return ["| " + " | ".join(map(escape, row)) + " |" for row in (header, ruler, *rows)]


def escape(text: str) -> str:
    """Text that Markdown shows as it is: class names are the user's."""
    for sign, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`")):
        text = text.replace(sign, safe)
    return " ".join(text.split())


def junit_report(evaluation: Evaluation, outcomes: Sequence[Outcome]) -> str:
    """Return the gates as JUnit XML, one test case each."""
    failures = str(sum(not outcome.met for outcome in outcomes))
    counts = {"name": "alphafix evaluate", "tests": str(len(outcomes)), "failures": failures}
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", counts)
    for outcome in outcomes:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": "alphafix.gates", "name": outcome.gate}
        )
        if not outcome.met:
            line = _printable(outcome.line)
            ElementTree.SubElement(case, "failure", {"message": line}).text = line
    output = ElementTree.SubElement(suite, "system-out")
    output.text = _printable("\n".join(heading(evaluation)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _printable(text: str) -> str:
    """XML 1.0 has no way to write most control characters, which a class name may hold."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "�" for sign in text)
