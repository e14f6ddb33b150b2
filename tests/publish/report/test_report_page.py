"""The page itself: what it says, that it is one whole file, and that no text of a data set becomes markup."""

import base64
import gc
import hashlib
import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from itrd_nlp.cli.commands import report as script
from itrd_nlp.errors import UserError
from itrd_nlp.losses.peers import load_peer, term_name
from itrd_nlp.publish.report.data import Disagreement, read_run
from itrd_nlp.publish.report.page import render
from itrd_nlp.publish.report.segments import segments
from itrd_nlp.tasks import task_named
from itrd_nlp.tasks.jobs.report import write_report

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page as (tag, attributes, text in it), and whether tags are closed in order."""

    def __init__(self, path):
        super().__init__()
        self.elements = []
        self.open = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = (tag, dict(attrs), [])
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, text in self.open:
            text.append(data)

    def find(self, tag, **attributes):
        """The text of each element of a tag with these attributes."""
        return [
            " ".join("".join(text).split())
            for name, found, text in self.elements
            if name == tag and attributes.items() <= found.items()
        ]

    @property
    def text(self):
        (body,) = self.find("body")
        return body


@pytest.fixture(scope="module")
def report(finished_report):
    return Page(finished_report)


def test_the_headline_says_what_was_kept(report):
    facts = dict(zip(report.find("dt")[:4], report.find("dd")[:4], strict=True))
    assert facts == {
        "F1": "60.0 %teacher 80.0 %75.0 % kept",
        "Exact match": "48.0 %teacher 72.0 %66.7 % kept",
        "Size": "69.0 MBteacher 90.3 MB76 % of it",
        "Time per question": "4.0 msteacher 8.0 ms2.00 times as fast",
    }
    assert report.find("title") == ["my_student: distillation report"]
    assert "A student of 2 layers, distilled from a-teacher with 4 layers." in report.text


@pytest.mark.parametrize(
    ("student", "teacher", "kept"),
    [(-4.0, -2.0, []), (-4.0, 50.0, []), (4.0, -2.0, []), (4.0, 0.0, []), (0.0, 50.0, ["0.0"])],
)
def test_no_share_of_a_negative_score_is_kept(make_run, student, teacher, kept):
    """A correlation may be negative: -4 of a teacher's -2 are not 200 % of it."""
    results = {"task": "sentence-similarity", "metrics": {"spearman": "Spearman"}}
    results |= {"spearman": student, "teacher": {"name": "a-teacher", "spearman": teacher}}
    folder = make_run(results, history=None)
    (folder / "analysis" / "breakdown.json").unlink()
    fact = Page(write_report(folder)).find("dd")[0]
    assert fact.startswith(f"{student} %teacher {teacher} %")
    assert re.findall(r"([\d.]+) % kept", fact.replace(f"teacher {teacher} %", "")) == kept


def test_it_has_every_chart_and_every_section(report):
    assert report.find("figcaption")[0].startswith("Total loss")
    charts = [a["aria-label"] for tag, a, _ in report.elements if tag == "svg"]
    assert charts == [
        *("Total loss", "Task loss", "Logit KD", "Correlation loss by layer pair"),
        *("Mutual information loss by layer pair", "Correlation by layer pair"),
        *("Evaluation during training", "Linear CKA before training", "Linear CKA after training"),
        *("Correlation of features before training", "Correlation of features after training"),
        *("F1 by type of question", "Exact match by type of question"),
        *("F1 by length of the answer", "Exact match by length of the answer"),
    ]
    assert len(report.find("article")) == 20
    assert not report.find("p", **{"class": "absent"})
    levels = [int(tag[1]) for tag, _, _ in report.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_every_teacher_of_the_predictions_is_named(make_run):
    """By the last part of its path, as the first one. One that has no name is there, too."""
    folder = make_run()
    path = folder / "results.json"
    results = json.loads(path.read_text())
    path.write_text(
        json.dumps(results | {"more_teachers": [{"name": "/home/ada/other"}, {"layers": 2}]})
    )
    text = Page(write_report(folder)).text
    sentence = "KD learned from the mean prediction of this teacher and of other, another one."
    assert f"a-teacher with 4 layers. {sentence} Layer pairs" in text


def test_losses_of_other_papers_and_the_scale_of_hidden_share_have_their_curves(make_run):
    """By the names that the objective gives them in the log. A class of one's own is not imported."""
    folder = make_run()
    own = "a.package.that.is.not.here.MyOwnLoss"
    peers = [f"itrd_nlp.losses.peers.{name}" for name in ("PatientKD", "RKD")]
    terms = [*(term_name(load_peer(path)) for path in peers), "my_own_loss", "hidden_scale"]
    path = folder / "results.json"
    results = json.loads(path.read_text())
    results["arguments"]["peer_losses"] = dict.fromkeys([*peers, own], 1.0)
    path.write_text(json.dumps(results))
    path = folder / "analysis" / "history.json"
    path.write_text(
        json.dumps([row | dict.fromkeys(terms, 0.5) for row in json.loads(path.read_text())])
    )
    page = Page(write_report(folder))
    charts = [a["aria-label"] for tag, a, _ in page.elements if tag == "svg"]
    assert charts[6:11] == [
        *("PatientKD", "RKD", "MyOwnLoss", "Scale of the losses between hidden states"),
        "Evaluation during training",
    ]
    assert len(charts) == 15 + 4


@pytest.mark.parametrize(
    ("task", "metrics", "objective", "task_loss", "kd"),
    [
        ("question-answering", ["f1"], {}, "cross entropy (nats)", "T² KL (nats)"),
        ("classification", ["accuracy"], {}, "cross entropy (nats)", "T² KL (nats)"),
        ("classification", ["pearson", "spearman"], {}, "mean squared error", "squared difference"),
        ("classification", ["micro_f1"], {}, "binary cross entropy (nats)", "KL of a label (nats)"),
        ("reranking", ["ndcg"], {"kd_loss": "listwise"}, "cross entropy (nats)", "T² KL (nats)"),
        ("reranking", ["ndcg"], {"kd_loss": "margin_mse"}, "cross entropy (nats)", "of margins"),
        ("embedding", ["ndcg"], {}, "task loss", "1 - cosine"),
        ("sentence-similarity", ["spearman"], {"kd_loss": "mse"}, "task loss", "mean squared"),
        ("embedding", ["ndcg"], {"kd_loss": "similarities"}, "task loss", "T² KL (nats)"),
        ("masked-lm", ["accuracy"], {}, "cross entropy (nats)", "T² KL (nats)"),
    ],
)
def test_the_curves_of_task_loss_and_kd_are_named_by_what_the_task_computes(
    make_run, tmp_path, task, metrics, objective, task_loss, kd
):
    run = read_run(make_run())
    changes = {"task": task, "objective": objective, "teacher": None}
    changes |= {"metrics": {name: name for name in metrics}, "scores": dict.fromkeys(metrics, 50.0)}
    record = run.record.model_copy(update=changes)
    path = tmp_path / "report.html"
    path.write_text(render(replace(run, record=record, breakdown=None), task_named(task).page))
    charts = {
        attributes["aria-label"]: "".join(text)
        for tag, attributes, text in Page(path).elements
        if tag == "svg"
    }
    assert task_loss in charts["Task loss"]
    assert kd in charts["Logit KD"]
    assert ("nats" in charts["Logit KD"]) == ("nats" in kd)
    assert ("nats" in charts["Task loss"]) == ("nats" in task_loss)


def test_the_seconds_of_a_part_of_a_training_are_not_shown_as_those_of_the_whole(make_run):
    """Before version 3 the record of a resumed training had those of its last part."""
    folder = make_run()
    path = folder / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    rows = Page(write_report(folder)).find("tr")
    assert "student: my_student 2 17,242,754 69.0 4.0 48.00 60.00 60" in rows


def test_the_tables_hold_the_numbers(report):
    rows = report.find("tr")
    assert "teacher: a-teacher 4 22,566,146 90.3 8.0 72.00 80.00 60 n/a" in rows
    assert "student: my_student 2 17,242,754 69.0 4.0 48.00 60.00 60 210" in rows
    assert "learning_rate 0.0003" in rows
    assert 'layer_map ["1:2", "2:4"]' in rows
    assert "torch 2.13.0" in rows
    values = [a["data-value"] for tag, a, _ in report.elements if "data-value" in a]
    assert "22566146" in values


def test_it_is_one_file_that_asks_for_nothing(report):
    for tag, attributes, _ in report.elements:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    assert "@import" not in report.source
    assert not re.search(r"url\((?!#)", report.source)
    ids = [a["id"] for _, a, _ in report.elements if "id" in a]
    assert len(ids) == len(set(ids))
    anchors = {a["href"][1:] for tag, a, _ in report.elements if tag == "a"}
    assert anchors <= set(ids)


def test_its_policy_allows_its_own_script_alone(report):
    (policy,) = [a["content"] for _, a, _ in report.elements if "http-equiv" in a]
    (script,) = re.findall(r"<script>(.*?)</script>", report.source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_markup_in_a_context_is_text(report):
    assert len(report.find("script")) == 1
    assert not report.find("b", **{"class": "x"})
    case = report.find("article")[0]
    assert "<script>window.hacked = true</script>" in case
    assert """Say "five" & 'six' <b>""" in case
    assert "Who is <script>window.hacked = true</script>?" in case


def hostile(content, key=""):
    """The same JSON with markup in every text, numbers and layer pairs as they were."""
    marked = f"""{key}<b class="x">'"&</b>"""
    if isinstance(content, dict):
        return {k: hostile(v, k) for k, v in content.items()}
    if isinstance(content, list):
        return [hostile(v, key) for v in content]
    if isinstance(content, str) and not re.fullmatch(r"\d+:\d+", content):
        return marked
    return content


def test_no_text_of_any_file_becomes_markup(make_run):
    folder = make_run()
    results = json.loads((folder / "results.json").read_text())
    results["arguments"]['<b class="x">'] = {'<b class="x">': '<b class="x">'}
    results["environment"]['<b class="x">'] = "1"
    (folder / "results.json").write_text(json.dumps(hostile(results)))
    path = folder / "analysis" / "breakdown.json"
    groups = json.loads(path.read_text())
    for who in groups.values():
        who["question_type"]['<b class="x">'] = who["question_type"].pop("who")
    path.write_text(json.dumps(groups))
    path = folder / "analysis" / "disagreements.json"
    path.write_text(json.dumps(hostile(json.loads(path.read_text()))))
    path = folder / "analysis" / "history.json"
    row = {"step": 1, 'corr_<b class="x">': 1.0, 'task"<b class="x">': 1.0}
    path.write_text(json.dumps([row, *json.loads(path.read_text())]))
    renamed = folder.rename(folder.with_name("""<b class="x">'&"""))
    page = Page(write_report(renamed))
    assert not page.find("b", **{"class": "x"})
    assert len(page.find("script")) == 1
    assert page.text.count("""<b class="x">'"&</b>""") > 80


def test_folders_are_not_shown(report):
    assert "home/" not in report.source
    assert "models of mine" not in report.source
    assert "scripts/train_squad.py my.yaml --teacher 'a-teacher'" in report.text
    assert "teacher: a-teacher" in report.text


def test_a_missing_file_leaves_its_section_out_and_a_sentence_in(make_run):
    folder = make_run()
    sentences = {
        "history": "no log of its losses",
        "similarity": "has not compared the layers",
        "disagreements": "not left the answers of a teacher and a student",
        "breakdown": "no scores of groups",
    }
    charts = 15
    for missing, (file, sentence) in enumerate(sentences.items(), start=1):
        (folder / "analysis" / f"{file}.json").unlink()
        report = Page(write_report(folder))
        absent = report.find("p", **{"class": "absent"})
        assert len(absent) == missing
        assert any(sentence in text and f"analysis/{file}.json" in text for text in absent)
        charts -= {"history": 7, "similarity": 4, "disagreements": 0, "breakdown": 4}[file]
        assert len(report.find("svg")) == charts
    assert not report.find("article")


def test_results_alone_make_a_report_without_a_teacher(tmp_path):
    (tmp_path / "results.json").write_text('{"exact_match": 70.0, "f1": 80.0}')
    report = Page(write_report(tmp_path))
    assert report.find("dd") == ["80.0 %", "70.0 %"]
    assert "No teacher is recorded" in report.text
    assert len(report.find("p", **{"class": "absent"})) == 5
    assert "None" not in report.text


def test_a_run_without_a_teacher_has_its_groups_by_itself(make_run):
    report = Page(
        write_report(
            make_run({"exact_match": 70.0, "f1": 80.0}, teacher_predictions=None, history=None)
        )
    )
    assert "F1 by type of question" in [a.get("aria-label") for _, a, _ in report.elements]
    assert "teacher" not in " ".join(report.find("thead"))


def test_one_matrix_and_one_measure_are_enough(make_run):
    report = Page(write_report(make_run(similarity={"after": {"tokens": 9, "cka": [[0.5, 0.25]]}})))
    charts = [a["aria-label"] for tag, a, _ in report.elements if tag == "svg"]
    assert [name for name in charts if "CKA" in name or "features" in name] == [
        "Linear CKA after training"
    ]


def test_a_long_text_is_no_heading_and_can_be_read_in_whole(make_run):
    """That of a classifier may have many pages. The limit is that of the heading, and not of the text."""
    folder = make_run()
    path = folder / "analysis" / "disagreements.json"
    content = json.loads(path.read_text())
    long = "\u5f88\u957f" * 1000  # words without spaces between them
    for example in content["examples"][:2]:
        example["question"] = long
    path.write_text(json.dumps(content))
    report = Page(write_report(folder))
    headings = report.find("h3")
    assert len([text for text in headings if text.startswith(long[:300])]) == 2
    assert max(map(len, headings)) <= 320
    assert [text.removeprefix("The whole text") for text in report.find("details")] == [long] * 2


def test_texts_of_the_data_are_written_from_the_side_of_their_language(report):
    cases = [a for tag, a, _ in report.elements if tag == "h3"][:20]
    contexts = [a for _, a, _ in report.elements if a.get("class") == "context"]
    rows = [a for tag, a, _ in report.elements if tag == "th" and a.get("scope") == "row"]
    answers = [a for tag, a, _ in report.elements if tag == "dd"][4:]
    for found, count in ((cases, 20), (contexts, 20), (answers, 60)):
        assert [a.get("dir") for a in found] == ["auto"] * count
    assert {a.get("dir") for a in rows} == {"auto"}


def case(context, references=(), teacher="", student=""):
    def answer(text):
        return {"text": text, "exact_match": False, "f1": 0}

    return Disagreement(
        question="Who?",
        context=context,
        references=[{"text": text, "start": context.index(text)} for text in references],
        teacher=answer(teacher),
        student=answer(student),
    )


def marked(of, role):
    """The context with brackets around every piece of a role."""
    pieces = (f"[{s.text}]" if role in s.roles else s.text for s in segments(of))
    return "".join(pieces).replace("][", "")


def test_spans_that_overlap_are_marked_each_by_itself():
    of = case("When Ada met Alan in London.", ["met Alan"], "Ada met", "Alan in London")
    assert "".join(segment.text for segment in segments(of)) == of.context
    assert marked(of, "reference") == "When Ada [met Alan] in London."
    assert marked(of, "teacher") == "When [Ada met] Alan in London."
    assert marked(of, "student") == "When Ada met [Alan in London]."
    assert [s.begins for s in segments(of) if s.begins] == [["teacher"], ["reference"], ["student"]]


def test_a_prediction_is_marked_wherever_it_stands_as_whole_words():
    of = case("In 20 of 200, 20 died.", ["200"], "20", "0 of 2")
    assert marked(of, "teacher") == "In [20] of 200, [20] died."
    assert marked(of, "student") == "In 2[0 of 2]00, 20 died."


def test_a_context_of_four_times_the_length_takes_four_times_as_long():
    """In which an answer stands everywhere. A quadratic search would take 16 times as long."""

    def seconds(of):
        gc.collect()
        gc.disable()  # else it would count the objects of the tests before, too
        started = time.process_time()  # of this process alone, on a busy machine, too
        segments(of)
        took = time.process_time() - started
        gc.enable()
        return took

    short, of = (case("a b " * n, ["a b"], "a", "b") for n in (5_000, 20_000))
    assert min(seconds(of) for _ in range(3)) < 10 * min(seconds(short) for _ in range(3))
    found = segments(of)
    assert "".join(segment.text for segment in found) == of.context
    assert len(found) == 80_000
    assert found[0].roles == ["reference", "teacher"]


def test_an_answer_that_is_not_in_the_context_is_not_marked():
    of = case("Ada met Alan.", ["Ada"], "", "Grace")
    assert marked(of, "student") == marked(of, "teacher") == of.context


def test_the_script_takes_the_folder_as_it_stands_or_by_its_flag(make_run, monkeypatch, capsys):
    folder = make_run(history=None, similarity=None)
    for arguments in ([str(folder)], ["--run", str(folder)]):
        monkeypatch.setattr("sys.argv", ["report.py", *arguments])
        script.main()
        assert capsys.readouterr().out.strip() == str(folder / "report.html")
    monkeypatch.setattr("sys.argv", ["report.py", "absent"])
    with pytest.raises(UserError, match="absent is no folder"):
        script.main()
