"""Draw the figures of the documentation from the records in docs/results.

    python docs/tools/figures.py

Each is an SVG file that takes the colours of the reader's light or dark mode. The same records give the same bytes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib

from itrd_nlp.publish.report import charts
from itrd_nlp.publish.report.data import read_run
from itrd_nlp.training.record import RunRecord

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
FIGURES = ROOT / "docs" / "figures"
_STYLE = ROOT / "itrd_nlp" / "publish" / "report" / "style.css"

# Cell of the comparison to its label, and to where the label stands beside the point.
_STUDENTS = {
    "first/itrd_sequence/seed0": ("student by ITRD, 3 layers", 4),
    "first/kd/seed0": ("by KD alone", 0),
    "first/distilbert/seed0": ("by KD and DistilBERT's cosine", -5),
    "first/textbrewer/seed0": ("by TextBrewer", -2),
}


def draw(folder: Path) -> list[Path]:
    """Write all figures into a folder.

    Returns:
        The files.
    """
    folder.mkdir(exist_ok=True)
    written = []
    for name, svg in {**of_the_quickstart(), "f1_against_ms": f1_against_ms()}.items():
        path = folder / f"{name}.svg"
        path.write_text(standalone(svg), encoding="utf-8")
        written.append(path)
    return written


def of_the_quickstart() -> dict[str, str]:
    """The losses of the quickstart's student, and how alike the layers are before and after."""
    run = read_run(RESULTS / "quickstart")
    assert run.history is not None and run.similarity is not None

    def series(**terms: str) -> dict[str, charts.Points]:
        assert run.history is not None
        return {
            label: [(row.step, row.values[term]) for row in run.history if term in row.values]
            for label, term in terms.items()
        }

    pairs = [(int(i), int(j)) for i, j in (pair.split(":") for pair in run.record.layer_pairs)]
    figures = {
        "losses": charts.line_chart(
            "Task loss and KD of the quickstart",
            series(task="task", KD="kd"),
            y_label="nats",
        ),
        "correlations": charts.line_chart(
            "Correlation of the layer pairs of the quickstart",
            series(**{f"{i}:{j}": f"correlation_{i}:{j}" for i, j in pairs}),
            y_label="mean correlation (1: perfect)",
            unit_interval=True,
        ),
    }
    for when in ("before", "after"):
        found = getattr(run.similarity, when)
        name = f"Linear CKA of student and teacher layers {when} the quickstart"
        figures[f"layers_{when}"] = charts.heat_map(name, found.cka, pairs)
    return figures


def f1_against_ms() -> str:
    """F1 of MiniLM-L6 and its students on all questions, over the time of a question of models of these shapes."""
    quickstart = RunRecord.read(RESULTS / "quickstart")
    assert quickstart is not None and quickstart.teacher is not None
    lines = (RESULTS / "minilm_full" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    records = {record["name"]: record for record in map(json.loads, lines)}
    teacher = records["first/kd/seed0"]["teacher"]
    shapes = {model.layers: model.ms_per_question for model in (quickstart, quickstart.teacher)}
    with matplotlib.rc_context(charts.STYLE):
        figure, axes = charts.sized_figure(460, 250)
        points = [("teacher", teacher, "MiniLM-L6, the teacher, 6 layers", 0)]
        points += [("student", records[cell], label, up) for cell, (label, up) in _STUDENTS.items()]
        for role, record, label, up in points:
            x, colour = shapes[record["layers"]], charts.COLOURS[role]
            axes.plot(
                [x], [record["f1"]], "o" if role == "teacher" else "D", ms=7, mew=0, color=colour
            )
            axes.annotate(
                f"{label}: {record['f1']:.1f}",
                (x, record["f1"]),
                xytext=(-8 if role == "teacher" else 8, up),
                textcoords="offset points",
                ha="right" if role == "teacher" else "left",
                va="center",
            )
        axes.set(xlim=(0, 25), ylim=(74, 82.5))
        axes.set(xlabel="ms a question, batch size 1, two CPU cores", ylabel="F1 on SQuAD 1.1 (%)")
        return charts.element(figure, "F1 against milliseconds a question")


def standalone(svg: str) -> str:
    """An element of a report as a file: with its size, and with the colours of both modes."""
    style = _STYLE.read_text(encoding="utf-8")
    light, dark = (
        re.findall(r"--[\w-]+: #\w+;", block)
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    )
    colours = f"svg {{ {' '.join(light)} }} @media (prefers-color-scheme: dark) {{ svg {{ {' '.join(dark)} }} }}"
    text = "text { font-family: system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif !important; }"
    size = re.search(r'viewBox="0 0 (\d+) (\d+)"', svg)
    assert size is not None
    opening, rest = svg.split(">", 1)
    return f'{opening} width="{size[1]}" height="{size[2]}"><style>{colours} {text}</style>{rest}\n'


if __name__ == "__main__":
    print("\n".join(str(path.relative_to(ROOT)) for path in draw(FIGURES)))
