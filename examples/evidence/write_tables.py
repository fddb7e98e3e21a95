"""Write the tables of the evidence page from `results/`.

    python examples/evidence/write_tables.py

The scripts leave their figures in results/*.json, where they are told to (the README beside this
has the commands). A table stands between two comments in `evidence.md` and `methods.md` of
`examples/docs/pages`, of which the first names it; everything else there is prose.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from arguments import parser_of, run_script
from claims import by_claim
from corrections import CLOSED, gained
from corrections import table as corrections_table
from oltr_pictures import compared, corrected
from open_set import table as open_set_table
from spread import with_spread

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "pages" / "evidence.md"

TIERS = ("few", "medium", "many", "overall")
LIMITS = (0.0, 0.5, 1.0, 2.0)

Row = Mapping[str, Any]


def results(kind: str) -> dict[str, list[Row]]:
    """Rows of all files of a kind, by data set."""
    found: dict[str, list[Row]] = {}
    for path in sorted(RESULTS.glob(f"{kind}-*.json")):
        for row in json.loads(path.read_text()):
            found.setdefault(row["problem"], []).append(row)
    return found


def methods() -> Iterator[str]:
    """Every method on every long tail: accuracy, and the spread of few."""
    by_problem = results("long-tail")
    heads = (f"{name}, {draws(rows)}" for name, rows in by_problem.items())
    yield f"| method | {' | '.join(heads)} |"
    yield "|---|" + "---|" * len(by_problem)
    names = dict.fromkeys(row["method"] for rows in by_problem.values() for row in rows)
    for name in names:
        cells = []
        for rows in by_problem.values():
            known = {row["method"]: row for row in rows}
            cells.append(accuracies(known[name]) if name in known else "not measured")
        yield f"| {name} | {' | '.join(cells)} |"


def draws(rows: Sequence[Row]) -> str:
    """On how many draws."""
    return f"{next(row['measured'] for row in rows if row['method'] == 'base')} draws"


def accuracies(row: Row) -> str:
    """Few / medium / many / overall ± spread of few."""
    told = " / ".join(f"{row['mean'][name]:.1f}" for name in TIERS)
    return with_spread(told, row["sd"]["few"], row["measured"])


def pools() -> Iterator[str]:
    """AlphaNet's two pools at the same rho: change against the base model."""
    by_problem = results("long-tail")
    yield (
        "| rho | "
        + " | ".join(f"{name}: neighbours | with the own row" for name in by_problem)
        + " |"
    )
    yield "|---:|" + "---:|---:|" * len(by_problem)
    for rho in ("0.1", "0.25", "0.5", "1", "2"):
        cells = []
        for rows in by_problem.values():
            known = {row["method"]: row["mean"] for row in rows}
            for kind in ("alphanet", "alphanet-lda"):
                mean = known[f"{kind}, rho {rho}, mean of rows"]
                few, overall = (mean[name] - known["base"][name] for name in ("few", "overall"))
                cells.append(f"{few:+.1f} / {overall:+.1f}")
        yield f"| {rho} | {' | '.join(cells)} |"


def corrections() -> Iterator[str]:
    """Few-split change at equal realised overall change, a table a data set."""
    for rows in results("corrections").values():
        yield from corrections_table(rows)


def fixed_change() -> Iterator[str]:
    """Few-split change where overall accuracy has changed by -1, a column a data set."""
    known = {
        name: {row["method"]: gained(row) for row in rows if row["change"] == -1}
        for name, rows in results("corrections").items()
    }
    yield f"| | {' | '.join(known)} |"
    yield "|---|" + "---:|" * len(known)
    for method in (*CLOSED, "alphanet", "alphanet-lda", "auto"):
        cells = [rows[method] for rows in known.values()]
        yield f"| {method} | {' | '.join(cells)} |"


def limits() -> Iterator[str]:
    """How often limits are kept on fresh samples, and what that costs, at 95% and at 50%."""
    yield "| data | limit | kept | alike | few / overall | kept at 50% | few / overall |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for name, rows in results("limits").items():
        known = {(row["confidence"], row["limit"]): row for row in rows}
        for limit in LIMITS:
            sure, even = known[0.95, limit], known[0.5, limit]
            yield (
                f"| {name} | {limit:g} | {sure['kept']:.0%} | {sure['kept_alike']:.0%} | "
                f"{changed(sure)} | {even['kept']:.0%} | {changed(even)} |"
            )


def unknown() -> Iterator[str]:
    """Known and unknown classes, a table for all data sets."""
    rows = [row for rows in results("open-set").values() for row in rows]
    yield from open_set_table(rows)


def claims() -> Iterator[str]:
    """The paper's claims, a column a data set."""
    yield from by_claim(results("claims"))


def oltr(name: str, table: Callable[[Mapping[str, Any]], Iterator[str]]) -> Iterator[str]:
    """A table of OLTR and its competitors."""
    yield from table(json.loads((RESULTS / f"oltr-{name}.json").read_text()))


def changed(row: Row) -> str:
    """Mean change of few-split and of overall accuracy."""
    return f"{row['few']:+.1f} / {row['overall']:+.1f}"


TABLES: Mapping[str, Callable[[], Iterator[str]]] = {
    "methods": methods,
    "pools": pools,
    "corrections": corrections,
    "limits": limits,
    "unknown": unknown,
    "claims": claims,
    "oltr": partial(oltr, "emoji", compared),
    "oltr-alphanet": partial(oltr, "emoji", corrected),
    "oltr-pretrained": partial(oltr, "emoji-pretrained", compared),
    "oltr-pretrained-alphanet": partial(oltr, "emoji-pretrained", corrected),
}


PAGES: Mapping[Path, Mapping[str, Callable[[], Iterator[str]]]] = {
    PAGE: TABLES,
    PAGE.with_name("methods.md"): {"fixed-change": fixed_change},
}


def written(page: str, tables: Mapping[str, Callable[[], Iterator[str]]] = TABLES) -> str:
    """A page with its tables as the results are."""
    for name, table in tables.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = "\n".join(table()).lstrip("\n")
        page, count = place.subn(partial(filled, text), page)
        if count != 1:
            raise SystemExit(f"expected one <!-- {name} --> with its <!-- end -->")
    return page


def filled(text: str, found: re.Match[str]) -> str:
    """A table's place with the table in it."""
    return f"{found[1]}{text}\n{found[2]}"


def main() -> None:
    """Write both pages."""
    parser_of(__doc__).parse_args()
    for page, tables in PAGES.items():
        page.write_text(written(page.read_text(), tables))


if __name__ == "__main__":
    run_script(main)
