"""An evaluation for a CI system: Markdown for a step summary, JUnit XML for the gates."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from alphafix.metrics.evaluation import Evaluation
from alphafix.metrics.gates import GateResult
from alphafix.report.cells import LABELS, paired
from alphafix.report.tables import heading, interval_note, table_of
from alphafix.shown import in_one_line, visible

# Beside top-1, what a reader of a summary asks for; report.json has all of it.
SHOWN = ("top5", "macro_f1", "ece", "grouped")


def markdown_report(evaluation: Evaluation, results: Sequence[GateResult]) -> str:
    """Return the evaluation and its gates as GitHub-flavoured Markdown."""
    top1 = table_of(evaluation)
    overall = evaluation.tier("overall").figures
    others = [
        [f"{LABELS[name]}, overall", *paired(overall[name])] for name in SHOWN if name in overall
    ]
    others += [[LABELS[name], *paired(found)] for name, found in evaluation.summaries.items()]
    lines = ["## alphafix evaluate", "", *(f"{escape(line)}  " for line in heading(evaluation)), ""]
    lines += _gate_lines(results)
    lines += [*_table(top1.header, top1.rows), ""]
    lines += [*_table(["all in %", "base", "corrected", "change"], others), ""]
    lines += [escape(interval_note(evaluation))]
    return "\n".join(lines) + "\n"


def _gate_lines(results: Sequence[GateResult]) -> list[str]:
    lines = [
        f"- {'✅' if result.met else '❌'} `{result.flag} {result.limit:g}`: {escape(result.line)}"
        for result in results
    ]
    return [*lines, ""] if lines else []


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    ruler = ["---", *("---:" for _ in header[1:])]
    shown = [[escape(str(cell)) for cell in row] for row in (header, ruler, *rows)]
    return ["| " + " | ".join(row) + " |" for row in shown]


def escape(text: str) -> str:
    """Text that Markdown shows as it is: class names are the user's."""
    text = in_one_line(text)
    for sign, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`")):
        text = text.replace(sign, safe)
    return text


# How they begin.
JUNIT = '<?xml version="1.0" encoding="utf-8"?>\n<testsuites name="alphafix evaluate"'
MARKDOWN = "## alphafix evaluate\n"


def junit_report(evaluation: Evaluation, results: Sequence[GateResult]) -> str:
    """Return the gates as JUnit XML, one test case each."""
    failures = str(sum(not result.met for result in results))
    counts = {"name": "alphafix evaluate", "tests": str(len(results)), "failures": failures}
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", counts)
    for result in results:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": "alphafix.gates", "name": result.flag}
        )
        if not result.met:
            line = _printable(result.line)
            ElementTree.SubElement(case, "failure", {"message": line}).text = line
    output = ElementTree.SubElement(suite, "system-out")
    output.text = _printable("\n".join(heading(evaluation)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _printable(text: str) -> str:
    """XML 1.0 has no way to write most control characters, which a class name may hold."""
    return visible(text).replace("\ufffe", "�").replace("\uffff", "�")
