"""The SVG of the charts: drawn to scale, labelled, in the colours of the page, with ids of their own."""

import re
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.textpath import TextPath

from itrd_nlp.publish.report.charts import group_chart, heat_map, line_chart
from itrd_nlp.publish.report.data import Group

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"


def parse(svg):
    return ElementTree.fromstring(svg)


def texts(svg):
    return ["".join(element.itertext()).strip() for element in parse(svg).iter(f"{SVG}text")]


def lines(svg):
    """The points of every line of data."""
    found = []
    for group in parse(svg).iter(f"{SVG}g"):
        if "-line2d_" in group.get("id", ""):
            path = group.find(f"{SVG}path")
            if path is not None and "var(--line-" in path.get("style", ""):
                numbers = re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", path.get("d"))
                found.append(np.array(numbers, dtype=float))
    return found


SERIES = {"1:2": [(10, 5.0), (20, 4.0), (40, 1.0)], "2:4": [(10, 3.0), (20, 2.0), (40, 0.5)]}


def test_lines_are_drawn_to_scale():
    drawn = lines(line_chart("A loss", SERIES, y_label="loss (bits)"))
    # the legend draws a line of two or three points for each, too
    data = [line for line in drawn if np.ptp(line[:, 1]) > 0]
    assert len(data) == 2
    steps, values = np.array([p for points in SERIES.values() for p in points]).T
    at = np.concatenate(data)
    for drawn_at, of in ((at[:, 0], steps), (-at[:, 1], values)):
        slope, offset = np.polyfit(of, drawn_at, 1)
        assert slope > 0
        np.testing.assert_allclose(slope * of + offset, drawn_at, atol=1e-3)


def test_axes_and_series_are_labelled():
    shown = texts(line_chart("A loss", SERIES, y_label="loss (bits)"))
    assert {"optimizer step", "loss (bits)", "1:2", "2:4"} <= set(shown)
    assert "1:2" not in texts(line_chart("A loss", {"1:2": SERIES["1:2"]}, y_label="loss (bits)"))


@pytest.fixture
def without_warnings():
    """A warning of matplotlib is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def looks(svg):
    """Colour and dashes of the lines of data."""
    return {
        (
            re.search(r"var\(--line-\d\)", style)[0],
            re.sub(r".*dasharray: ([^;]*).*|.*", r"\1", style),
        )
        for style in (p.get("style", "") for p in parse(svg).iter(f"{SVG}path"))
        if "var(--line-" in style and "stroke-width: 1.6" in style
    }


def box(svg):
    """Width and height of a chart."""
    return [float(number) for number in parse(svg).get("viewBox").split()[2:]]


def outside(svg):
    """The texts that leave the chart. A Chinese character is as wide as it is high, which no font here says."""
    width, height = box(svg)
    found = []
    for element in parse(svg).iter(f"{SVG}text"):
        text, style = "".join(element.itertext()).strip(), element.get("style", "")
        size = float(re.search(r"font(?:-size)?: ([\d.]+)px", style)[1])
        transform = element.get("transform", "")
        moved = re.search(r"translate\(([-\d.]+) ([-\d.]+)\)", transform)
        x, y = map(float, moved.groups() if moved else map(element.get, "xy"))
        turned = re.search(r"rotate\(([-\d.]+)", transform)
        upright = turned is not None and float(turned[1]) != 0
        latin = re.sub(r"[\u4e00-\u9fff]", "", text)
        length = size * (len(text) - len(latin))
        if latin.strip():
            length += np.ptp(TextPath((0, 0), latin, size=size).vertices[:, 0])
        anchor = re.search(r"text-anchor: (\w+)", style)
        before = length * {"start": 0, "middle": 0.5, "end": 1}[anchor[1] if anchor else "start"]
        start, end = (
            (y + before - length, y + before) if upright else (x - before, x - before + length)
        )
        if start < -0.5 or end > (height if upright else width) + 0.5:
            found.append((text, start, end))
    return found


def test_series_differ_by_more_than_colour():
    found = looks(
        line_chart("A loss", {str(i): [(0, i), (1, i + 1)] for i in range(6)}, y_label="y")
    )
    assert len({colour for colour, _ in found}) == 6
    assert len({dashes for _, dashes in found}) == 4


@pytest.mark.usefixtures("without_warnings")
def test_24_series_have_as_many_looks_and_room_for_their_curves():
    series = {f"{i}:{2 * i}": [(0, i), (10, i + 5)] for i in range(24)}
    svg = line_chart("A loss", series, y_label="mean correlation (1: perfect)")
    assert len(looks(svg)) == 24
    assert set(series) <= set(texts(svg))
    assert outside(svg) == []
    at = np.concatenate([line for line in lines(svg) if np.ptp(line[:, 1]) > 0])
    assert np.ptp(at[:, 1]) > 120


@pytest.mark.usefixtures("without_warnings")
def test_a_legend_of_long_names_has_fewer_columns():
    names = ["entity precision", "accuracy of the tokens", "entity recall", "x" * 118]
    svg = line_chart("A", {name: [(0, i), (1, 9)] for i, name in enumerate(names)}, y_label="y")
    assert set(names[:3]) <= set(texts(svg))
    assert outside(svg) == []


def test_every_cell_of_a_heat_map_has_its_value_as_opacity_and_as_text():
    matrix = [[0.0, 0.25, 1.0], [0.5, 0.75, 0.125]]
    svg = heat_map("Similarity", matrix, marked=[(1, 2)])
    cells = [
        p.get("style") for p in parse(svg).iter(f"{SVG}path") if "var(--heat)" in p.get("style", "")
    ]
    opacities = [float((re.search(r"opacity: ([\d.]+)", style) or [0, 1])[1]) for style in cells]
    assert opacities == [value for row in matrix for value in row if value > 0]
    assert {".00", ".25", "1.0", ".50", ".75", ".12"} <= set(texts(svg))
    assert {"teacher layer (0: embeddings)", "student layer"} <= set(texts(svg))


def test_the_frame_of_a_heat_map_lies_around_the_cell_of_its_pair():
    svg = heat_map("Similarity", [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], marked=[(1, 2)])
    (frame,) = [
        p for p in parse(svg).iter(f"{SVG}path") if "stroke: var(--line-2)" in p.get("style", "")
    ]
    corners = np.array(re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", frame.get("d")), dtype=float)
    (text,) = [t for t in parse(svg).iter(f"{SVG}text") if t.text == ".60"]
    x, y = (float(text.get(name)) for name in "xy")
    assert corners[:, 0].min() < x < corners[:, 0].max()
    assert corners[:, 1].min() < y < corners[:, 1].max()


def groups(**f1):
    return {name: Group(questions=7, exact_match=0, f1=value) for name, value in f1.items()}


def test_groups_are_drawn_to_scale_for_both_models():
    svg = group_chart(
        "F1",
        groups(who=10, what=50),
        groups(who=30, what=90),
        field="f1",
        x_label="F1 (%)",
        y_label="type",
        labels=("student", "teacher"),
    )
    assert {"who (7)", "what (7)", "F1 (%)", "type", "student", "teacher", "0", "100"} <= set(
        texts(svg)
    )
    at = {}
    for who in ("student", "teacher"):
        marks = [u for u in parse(svg).iter(f"{SVG}use") if f"var(--{who})" in u.get("style", "")]
        at[who] = [float(u.get("x")) for u in marks]
    drawn = [at["teacher"][0], at["teacher"][1], at["student"][0], at["student"][1]]
    slope, offset = np.polyfit([30, 90, 10, 50], drawn, 1)
    assert slope > 0
    np.testing.assert_allclose(slope * np.array([30, 90, 10, 50]) + offset, drawn, atol=1e-3)


def marks(svg, who):
    """Where the marks of a model lie, from the left."""
    found = [u for u in parse(svg).iter(f"{SVG}use") if f"var(--{who})" in u.get("style", "")]
    return [float(u.get("x")) for u in found]


def grouped(student, teacher=None):
    labels = ("student", "teacher")
    return group_chart(
        "F1", student, teacher, field="f1", x_label="F1 (%)", y_label="type", labels=labels
    )


@pytest.mark.usefixtures("without_warnings")
@pytest.mark.parametrize(
    "names",
    [
        ["a"],
        ["x" * 118, "y"],
        ["W" * 118],
        ["\u5f88\u957f\u7684" * 20, "\u77ed", "b"],
        ["how many/much", "two\nlines $x$"],
    ],
)
@pytest.mark.parametrize("unit", ["type of question (questions)", "z" * 100])
def test_names_of_any_length_and_script_leave_the_chart_whole(names, unit):
    some = {name: Group(questions=12345, f1=50) for name in names}
    for teacher in (None, some):
        svg = group_chart(
            *("F1", some, teacher),
            field="f1",
            x_label=f"{unit} (%)",
            y_label=unit,
            labels=("student", "teacher"),
        )
        assert outside(svg) == []
        ticks = {t.text: float(t.get("x")) for t in parse(svg).iter(f"{SVG}text") if t.get("x")}
        assert ticks["100"] - ticks["0"] > 120


@pytest.mark.usefixtures("without_warnings")
def test_no_groups_are_no_chart():
    assert grouped({}) is None


@pytest.mark.parametrize("teacher", [None, 20, -80])
def test_a_negative_score_is_drawn_to_scale_and_inside_of_the_chart(teacher):
    svg = grouped(groups(who=-60, what=40), None if teacher is None else groups(who=teacher))
    (left, right), theirs = marks(svg, "student")[:2], marks(svg, "teacher")[:1]
    scale = (right - left) / 100
    assert scale > 0
    assert left > 20
    if teacher is not None:
        assert theirs[0] == pytest.approx(left + scale * (teacher + 60), abs=1e-3)
        assert theirs[0] > 20


def test_a_chart_has_no_colour_of_its_own_and_text_is_text():
    for svg in (
        line_chart("A", SERIES, y_label="y"),
        heat_map("B", [[0.1, 0.9]], marked=[(0, 1)]),
        group_chart(
            "C",
            groups(who=1),
            groups(who=2),
            field="f1",
            x_label="x",
            y_label="y",
            labels=("s", "t"),
        ),
    ):
        assert not re.search(r"#[0-9a-f]{6}\b", svg)
        unstyled = [
            t for t in parse(svg).iter(f"{SVG}text") if "fill: var(--" not in t.get("style", "")
        ]
        assert not unstyled


def test_two_charts_in_a_page_have_no_id_in_common_and_find_what_they_refer_to():
    svgs = [line_chart(name, SERIES, y_label="y") for name in ("Task loss", "KD loss")]
    ids = [{e.get("id") for e in parse(svg).iter() if e.get("id")} for svg in svgs]
    assert not ids[0] & ids[1]
    for svg, known in zip(svgs, ids, strict=True):
        links = {e.get(LINK)[1:] for e in parse(svg).iter() if e.get(LINK)}
        assert links | set(re.findall(r"url\(#([^)]+)\)", svg)) <= known


def test_a_chart_is_described_and_escapes_what_is_not_ours():
    svg = line_chart('<b>"x"', {"<script>": [(0, 1)], "$\\frac$": [(0, 2)]}, y_label="<i>")
    assert parse(svg).get("aria-label") == '<b>"x"'
    assert {"<script>", "$\\frac$", "<i>"} <= set(texts(svg))
    assert not list(parse(svg).iter("script"))
