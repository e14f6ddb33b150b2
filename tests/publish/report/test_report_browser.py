"""The report in headless Chromium, opened from the disk without a network."""

import re
import shutil

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium or google-chrome on PATH"),
]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, finished_report):
    """Open the report; what it asks for and complains about must be nothing."""
    contexts, complaints, requests = [], [], []

    def open_page(width=1200, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(finished_report.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert set(requests) == {finished_report.as_uri()}


def test_the_script_of_a_context_does_not_run(open_page):
    page = open_page()
    assert page.evaluate("typeof window.hacked") == "undefined"
    assert "<script>window.hacked = true</script>" in page.inner_text("main")


def test_all_charts_are_there_and_not_empty(open_page):
    charts = open_page().locator("svg.chart")
    assert charts.count() == 15
    for i in range(charts.count()):
        chart = charts.nth(i)
        box = chart.bounding_box()
        assert box["width"] > 200
        assert box["height"] > 80
        drawn = "svg => [...svg.querySelectorAll('path, use')].filter(e => e.getBBox().width > 0).length"
        assert chart.evaluate(drawn) > 5
        # Every text lies within its chart, axis labels too.
        outside = """svg => {
            const edge = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text')].filter(text => {
                const box = text.getBoundingClientRect();
                return box.left < edge.left - 1 || box.right > edge.right + 1
                    || box.top < edge.top - 1 || box.bottom > edge.bottom + 1;
            }).map(text => text.textContent);
        }"""
        assert chart.evaluate(outside) == []


def column(table, index):
    return table.locator(f"tbody tr > :nth-child({index + 1})").all_inner_texts()


def test_a_header_sorts_its_table_by_mouse_and_by_keyboard(open_page):
    page = open_page()
    table = page.locator("table", has=page.get_by_text("Scores by type of question"))
    questions = table.locator("thead th").nth(1)
    before = column(table, 1)
    questions.locator("button").click()
    assert column(table, 1) == sorted(before, key=int)
    assert questions.get_attribute("aria-sort") == "ascending"
    questions.locator("button").press("Enter")
    assert column(table, 1) == sorted(before, key=int, reverse=True)
    assert questions.get_attribute("aria-sort") == "descending"
    names = table.locator("thead th").nth(0)
    names.locator("button").focus()
    page.keyboard.press("Space")
    assert column(table, 0) == sorted(column(table, 0))
    assert questions.get_attribute("aria-sort") == "none"


def test_numbers_with_separators_and_unknown_ones_are_sorted_as_numbers(open_page):
    page = open_page()
    table = page.locator("table", has=page.get_by_text("Quality, size and speed"))
    headers = table.locator("thead th").all_inner_texts()
    (parameters,) = [i for i, text in enumerate(headers) if "parameters" in text]
    table.locator("thead button").nth(parameters).click()
    assert column(table, parameters) == ["17,242,754", "22,566,146"]


def test_a_phone_scrolls_tables_and_not_the_page(open_page):
    page = open_page(width=380)
    assert page.evaluate("document.documentElement.scrollWidth") == 380
    table = page.locator(".scroll", has=page.get_by_text("Quality, size and speed"))
    assert table.evaluate("element => element.scrollWidth > element.clientWidth")
    small = "[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)"
    assert min(page.evaluate(small)) > 9


COLOURS = """() => {
    const of = (selector, property) =>
        getComputedStyle(document.querySelector(selector))[property];
    return {
        page: of('body', 'backgroundColor'),
        text: of('.lead', 'color'),
        axis: of('svg text', 'fill'),
        line: of('svg path[style*="--line-1"]', 'stroke'),
        student: of('mark.student', 'borderBottomColor'),
        note: of('.kicker', 'color'),
    };
}"""


def luminance(colour):
    """Relative luminance of `rgb(...)`, as WCAG 2 defines it."""
    values = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_dark_mode_has_colours_of_its_own_and_both_are_readable(open_page):
    light, dark = (open_page(scheme=scheme).evaluate(COLOURS) for scheme in ("light", "dark"))
    assert luminance(light["page"]) > 0.9
    assert luminance(dark["page"]) < 0.05
    for colours in (light, dark):
        assert contrast(colours["text"], colours["page"]) > 7
        for name in ("axis", "line", "student", "note"):
            assert contrast(colours[name], colours["page"]) > 4.5, name
    assert all(light[name] != dark[name] for name in light)


def test_the_numbers_in_a_heat_map_are_readable_on_their_cells(open_page):
    """A cell is a colour of some opacity over the page: the contrast of its number, in both modes."""
    cells = """() => {
        const page = getComputedStyle(document.body).backgroundColor;
        const svg = document.querySelector('svg[aria-label^="Linear CKA after"]');
        const found = [];
        for (const text of svg.querySelectorAll('text')) {
            const at = text.getBoundingClientRect();
            const x = at.left + at.width / 2, y = at.top + at.height / 2;
            const cell = [...svg.querySelectorAll('path[style*="--heat"]')].find(path => {
                const box = path.getBoundingClientRect();
                return box.left < x && x < box.right && box.top < y && y < box.bottom;
            });
            if (cell) {
                const style = getComputedStyle(cell);
                found.push([page, style.fill, style.opacity, getComputedStyle(text).fill]);
            }
        }
        return found;
    }"""
    for scheme in ("light", "dark"):
        found = open_page(scheme=scheme).evaluate(cells)
        assert len(found) > 8
        for page, fill, opacity, text in found:
            channels = [[int(v) for v in re.findall(r"\d+", colour)[:3]] for colour in (page, fill)]
            mixed = [round(a + (b - a) * float(opacity)) for a, b in zip(*channels, strict=True)]
            assert contrast(f"rgb{tuple(mixed)}", text) > 3.5, (scheme, opacity)
