"""The model card: what it says, what it must not say, and that `huggingface_hub` reads it."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import transformers
import yaml
from huggingface_hub import EvalResult, ModelCard
from markdown_it import MarkdownIt

import itrd_nlp
from itrd_nlp.distillation.arguments import fill_in_objective
from itrd_nlp.errors import UserError
from itrd_nlp.publish import model_card as module
from itrd_nlp.publish.licenses import license_of, recorded_license
from itrd_nlp.publish.model_card import CITATION, is_generated
from itrd_nlp.tasks.question_answering.page import PAGE
from itrd_nlp.training.record import RunRecord

ROOT = Path(__file__).parents[2]
OFFICIAL_TRAIN = "3527663986b8295af4f7fcdff1ba1ff3f72d07d61a20f487cb238a6ef92fd955"
OFFICIAL_DEV = "95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9"


def model_card(results: dict[str, Any], folder: Path | None = None, **options: Any) -> ModelCard:
    """The card of a run, of one that answers questions if it has an exact match, from the content of results.json."""
    record = fill_in_objective(RunRecord.model_validate(results))
    page = PAGE if "exact_match" in results else None
    return module.model_card(record, folder, page=page, **options)


def distilled() -> dict[str, Any]:
    """results.json of a distillation on a part of SQuAD."""
    return {
        "exact_match": 48.123456,
        "f1": 62.2,
        "questions": 2500,
        "eval_seconds": 10.2,
        "signature": "0123456789abcdef",
        "layers": 3,
        "parameters": 17_100_000,
        "megabytes_fp32": 68.4,
        "ms_per_question": 4.25,
        "train_seconds": 301.6,
        "steps": 250,
        "environment": {
            "itrd_nlp": itrd_nlp.__version__,
            "transformers": transformers.__version__,
            "torch": "2.13.0",
            "machine": "Linux x86_64, 2 CPUs",
        },
        "teacher": {
            "name": "teacher_minilm",
            "base_model": "someone/minilm",
            "exact_match": 72.2,
            "f1": 82.1,
            "questions": 2500,
            "layers": 6,
            "parameters": 22_600_000,
            "megabytes_fp32": 90.4,
            "ms_per_question": 8.5,
        },
        "layer_pairs": ["1:2", "2:4", "3:6"],
        "arguments": {
            "teacher": "runs/teacher_minilm",
            "train_file": "assets/squad/train-v1.1.json",
            "validation_file": "assets/squad/dev-v1.1.json",
            "max_train_samples": 4000,
            "max_eval_samples": 2500,
            "beta_corr": 4.0,
            "seed": 7,
            "output_dir": "runs/student",
        },
        "command": "scripts/train_squad.py configs/quickstart/quickstart.yaml --beta_corr 4",
        "config": {"name": "quickstart.yaml", "text": "teacher: runs/teacher_minilm\nseed: 7\n"},
        "datasets": {
            "train": {"name": "train-v1.1.json", "sha256": OFFICIAL_TRAIN, "questions": 4000},
            "validation": {"name": "dev-v1.1.json", "sha256": OFFICIAL_DEV, "questions": 2500},
        },
    }


def fine_tuned() -> dict[str, Any]:
    results = distilled()
    for name in ("teacher", "layer_pairs"):
        del results[name]
    del results["arguments"]["beta_corr"]
    return results | {"base_model": "minilm-l6", "exact_match": 72.2, "f1": 82.1}


def changed(**changes: Any) -> dict[str, Any]:
    return distilled() | changes


def parsed(card: ModelCard) -> ModelCard:
    """The card as somebody reads it who has the text alone."""
    return ModelCard(str(card))


def rows(card: ModelCard, first: str) -> list[list[str]]:
    """The cells of the table whose header has this column, read as GitHub's markdown does."""
    table = re.search(rf"^\|[^\n]*{re.escape(first)}[^\n]*\n(?:\|.*\n?)+", card.text, re.MULTILINE)
    assert table, first
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table[0].strip().splitlines()]
    return [[cell.strip() for cell in line] for line in cells]


# ---- the metadata ----


def test_huggingface_hub_reads_the_metrics_back() -> None:
    data = parsed(model_card(distilled(), repo_id="me/student")).data
    shared: dict[str, Any] = {
        "task_type": "question-answering",
        "task_name": "Extractive question answering",
        "dataset_type": "rajpurkar/squad",
        "dataset_name": "SQuAD 1.1 (subset of 2,500 questions)",
        "dataset_split": "validation",
    }
    assert data.eval_results == [
        EvalResult(
            **shared, metric_type="exact_match", metric_name="Exact match", metric_value=48.12
        ),
        EvalResult(**shared, metric_type="f1", metric_name="F1", metric_value=62.2),
    ]
    assert data.model_name == "student"


def test_the_metadata_say_what_the_model_is() -> None:
    data = parsed(model_card(distilled(), license="apache-2.0")).data.to_dict()
    del data["model-index"]
    assert data == {
        "language": "en",
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "question-answering",
        "base_model": "someone/minilm",
        "datasets": ["rajpurkar/squad"],
        "metrics": ["exact_match", "f1"],
        "tags": ["knowledge-distillation", "itrd", "extractive-question-answering"],
    }


def test_reading_and_writing_a_card_changes_nothing() -> None:
    card = model_card(distilled(), repo_id="me/student", license="mit")
    assert str(parsed(card)) == str(card)


def test_a_revision_of_a_data_set_of_the_hub_is_given() -> None:
    data = {"name": "someone/questions", "revision": "abc123", "questions": 2500}
    card = parsed(model_card(changed(datasets={"validation": data})))
    assert card.data.eval_results is not None
    assert {result.dataset_revision for result in card.data.eval_results} == {"abc123"}
    assert card.data.datasets == ["someone/questions"]
    assert card.data.get("language") is None  # nobody said which


def test_a_file_of_ones_own_is_no_data_set_of_the_hub() -> None:
    data = {"name": "mine.json", "sha256": "0" * 64, "questions": 2500}
    card = parsed(model_card(changed(datasets={"train": data, "validation": data})))
    assert card.data.get("datasets") is None
    assert card.data.get("language") is None
    assert card.data.eval_results is not None
    assert card.data.eval_results[0].dataset_type == "mine.json"
    assert "SQuAD" not in card.text


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ({"name": "reviews", "file": True}, "reviews-folder"),
        ({"name": "squad", "file": True}, "squad-folder"),  # an alias of a data set of the Hub
        ({"name": "squad", "sha256": "0" * 64}, "squad"),
        ({"name": "2026 年.json", "sha256": "0" * 64}, "2026-.json"),
        # records of earlier versions, in which nothing says that it is a folder
        ({"name": "/home/ada/reviews"}, "reviews-folder"),
        ({"name": "exports/2026/reviews"}, "exports-2026-reviews-folder"),
        ({"name": "./reviews"}, "./reviews".replace("/", "-")),
        ({"name": "../reviews"}, "..-reviews"),
    ],
)
def test_a_local_source_is_no_data_set_of_the_hub(data: dict[str, Any], shown: str) -> None:
    """The pattern is the Hub's own, by which it refuses a card."""
    data = data | {"questions": 2500}
    card = parsed(model_card(changed(datasets={"train": data, "validation": data})))
    assert card.data.get("datasets") is None
    assert card.data.get("language") is None
    assert card.data.eval_results is not None
    assert {result.dataset_type for result in card.data.eval_results} == {shown}
    assert re.fullmatch(r"([\w-]+/)?[\w.-]+", shown, re.ASCII)


@pytest.mark.parametrize(
    ("name", "data_sets"),
    [
        ("someone/questions", ["someone/questions"]),
        ("squad", ["rajpurkar/squad"]),
        ("/home/ada/reviews", None),
        ("exports/2026/reviews", None),
        ("reviews.csv", None),
        ("dev.jsonl", None),
    ],
)
def test_data_that_only_the_arguments_name_are_local_where_the_name_is_that_of_a_file(
    name: str, data_sets: list[str] | None
) -> None:
    arguments = {"train_file": name, "validation_file": name}
    card = parsed(model_card(changed(datasets={}, arguments=arguments)))
    assert card.data.get("datasets") == data_sets


@pytest.mark.parametrize("name", ["minilm-l6", "", None])
def test_a_folder_is_no_base_model(name: str | None) -> None:
    results = distilled()
    results["teacher"]["base_model"] = name
    assert parsed(model_card(results)).data.get("base_model") is None


def test_a_teacher_of_the_hub_is_the_base_model() -> None:
    results = distilled()
    results["teacher"]["name"] = "someone/teacher"
    assert parsed(model_card(results)).data.base_model == "someone/teacher"


def test_no_license_is_made_up_and_a_wrong_one_is_refused() -> None:
    assert parsed(model_card(distilled())).data.get("license") is None
    results = distilled()
    results["teacher"]["license"] = "apache-2.0"
    assert parsed(model_card(results)).data.license == "apache-2.0"
    with pytest.raises(UserError, match="license is 'Apache License', but must be an identifier"):
        model_card(distilled(), license="Apache License")


def test_the_license_of_another_model_is_read_from_its_card(tmp_path: Path) -> None:
    assert license_of(tmp_path) is None
    for text, expected in (
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\ntags: [a]\n---\n", None),
        ("no metadata", None),
        ("---\n- a list\n---\n", None),
        ("---\na: [\n---\n", None),
        ("---\nlicense: MIT\n---\n", "mit"),
        ("---\nlicense: Apache License 2.0\n---\n", "apache-2.0"),
        ("---\nlicense: CC BY-SA 4.0\n---\n", "cc-by-sa-4.0"),
        ("---\nlicense: [MIT, gpl-3.0]\n---\n", "mit, gpl-3.0"),
        ("---\nlicense: other\nlicense_name: our-own\n---\n", "our-own"),
        ("---\nlicense: 3\n---\n", None),
        ("---\nlicense: " + "[" * 10_000 + "\n---\n", None),
        ("\ufeff---\nlicense: mit\n---\n", "mit"),
    ):
        (tmp_path / "README.md").write_text(text)
        assert license_of(tmp_path) == expected


def test_the_license_of_a_model_of_the_hub_is_read_from_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(name: str, file: str, revision: str | None) -> str:
        if revision == "gone":
            raise OSError("no network")
        if revision == "broken":  # an error of the HTTP library is no OSError
            raise RuntimeError("the connection was reset")
        return str(tmp_path / f"{name}-{revision}-{file}".replace("/", "-"))

    (tmp_path / "ada-model-v1-README.md").write_text("---\nlicense: mit\n---\n")
    monkeypatch.setattr("itrd_nlp.publish.licenses.cached_file", fetched)
    assert license_of("ada/model", "v1") == "mit"
    assert license_of("ada/model", "gone") is None
    assert license_of("ada/model", "broken") is None


@pytest.mark.parametrize(
    ("recorded", "identifier", "name"),
    [
        ("MIT", "mit", None),
        ("MIT License", "mit", None),
        ("Apache-2.0", "apache-2.0", None),
        ("CC BY-SA 4.0", "cc-by-sa-4.0", None),
        ("cc_by_4.0", "cc-by-4.0", None),
        ("Our Own (2025)", "other", "our-own-2025"),
        ("mit, gpl-3.0", "other", "mit-gpl-3.0"),
        ("<b>\n\ud800", "other", "b"),
        ("???", "other", None),
    ],
)
def test_a_license_of_any_spelling_is_an_identifier_of_the_hub_on_the_card(
    recorded: str, identifier: str, name: str | None
) -> None:
    for results in (changed(license=recorded), distilled()):
        results["teacher"]["license"] = recorded
        if recorded.isprintable():  # no record holds half a character
            data = parsed(model_card(results)).data
            assert (data.license, data.get("license_name")) == (identifier, name)
    found = recorded_license(recorded)
    assert found is not None
    assert tuple(found) == (identifier, name)


def test_a_license_that_is_asked_for_may_be_in_capitals() -> None:
    assert parsed(model_card(distilled(), license="Apache-2.0")).data.license == "apache-2.0"
    with pytest.raises(UserError, match=r"'MIT License', but .* did you mean mit"):
        model_card(distilled(), license="MIT License")


# ---- the text ----


def test_the_table_compares_teacher_and_student() -> None:
    header, _, teacher, student = rows(model_card(distilled()), "EM")
    columns = ["layers", "EM", "F1", "parameters", "MB (fp32)", "ms per question"]
    assert header == ["", *columns]
    assert teacher == ["teacher teacher\\_minilm", "6", "72.20", "82.10", "22.6 M", "90.4", "8.5"]
    assert student == ["this model", "3", "48.12", "62.20", "17.1 M", "68.4", "4.2"]


def test_the_objective_has_its_weights_and_layers() -> None:
    card = model_card(distilled())
    weights = {name: value for name, value in rows(card, "argument")[2:]}
    assert weights["`beta_corr`"] == "4.0"  # as given
    assert weights["`beta_mi`"] == "1.0"  # the default of this version
    assert rows(card, "student layer")[2:] == [["1", "2"], ["2", "4"], ["3", "6"]]


def test_a_warm_start_is_said() -> None:
    results = distilled()
    results["arguments"]["warm_start_ratio"] = 0.25
    assert "In the first 25% of the steps the layer pairs alone" in model_card(results).text


def test_fading_is_said() -> None:
    results = distilled()
    results["arguments"]["fade_ratio"] = 0.5
    assert "Over the last 50% of the steps the weights of the layer" in model_card(results).text


def test_defaults_of_another_version_are_not_claimed() -> None:
    results = distilled()
    results["environment"]["itrd_nlp"] = "99.0"
    assert rows(model_card(results), "argument")[2:] == [["`beta_corr`", "4.0"]]
    del results["arguments"]["seed"]
    assert "seed:" not in model_card(results).text.replace("seed: 7", "")


def test_command_config_seed_versions_and_data_are_given() -> None:
    text = model_card(distilled()).text
    assert "scripts/train_squad.py configs/quickstart/quickstart.yaml --beta_corr 4\n" in text
    assert "teacher: runs/teacher_minilm\nseed: 7\n" in text
    for line in ("seed: 7", "optimizer steps: 250", "torch: 2.13.0"):
        assert f"- {line}" in text
    assert OFFICIAL_DEV in text
    assert "a subset of 4,000 questions of train-v1.1.json" in text
    assert "drawn" not in text  # most tasks take the first ones


def test_the_seed_of_a_subset_is_given() -> None:
    results = distilled()
    results["arguments"]["data_subset_seed"] = 5
    text = model_card(results).text
    assert re.search("a subset of 4,000 questions of train-v1.1.json.*, drawn with seed 5", text)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_seconds_of_a_part_of_a_training_are_not_given_as_those_of_the_whole(version: int) -> None:
    """Before version 3 the record of a resumed training had those of its last part."""
    text = model_card(distilled() | {"version": version}).text
    assert ("- training: 302 s" in text) is (version == 3)


def test_without_a_config_the_arguments_are_given() -> None:
    results = distilled()
    del results["config"]
    (block,) = re.findall(r"```json\n(.*?)\n```", model_card(results).text, re.DOTALL)
    assert json.loads(block) == results["arguments"]


def test_only_a_subset_is_called_one() -> None:
    results = distilled()
    del results["arguments"]["max_eval_samples"]
    results["datasets"]["validation"]["questions"] = 10570
    card = parsed(model_card(results))
    assert "10,570 questions of dev-v1.1.json" in card.text
    assert card.data.eval_results is not None
    assert card.data.eval_results[0].dataset_name == "SQuAD 1.1"
    results["arguments"]["max_eval_samples"] = 20_000  # more than there are
    assert "10,570 questions of dev-v1.1.json" in model_card(results).text


@pytest.mark.parametrize(
    ("subset", "count", "called"),
    [(True, 2000, True), (False, 1000, False), (None, 1000, True), (None, 2000, False)],
)
def test_a_record_says_whether_its_data_are_a_subset(
    subset: bool | None, count: int, called: bool
) -> None:
    results = distilled()
    results["arguments"]["max_eval_samples"] = 1000  # of each of two splits
    results["datasets"]["validation"] |= {"questions": count, "subset": subset}
    card = parsed(model_card(results))
    assert (f"Evaluated on a subset of {count:,} questions" in card.text) is called
    assert card.data.eval_results is not None
    name = card.data.eval_results[0].dataset_name
    assert name == ("SQuAD 1.1" + (f" (subset of {count:,} questions)" if called else ""))


@pytest.mark.parametrize(
    ("data", "held", "split"),
    [
        ({"sha256": OFFICIAL_DEV}, False, "validation"),
        ({"sha256": OFFICIAL_TRAIN}, False, "train"),  # --validation_file train-v1.1.json
        ({"sha256": OFFICIAL_TRAIN, "split": "train", "subset": True}, True, "train"),
        ({"sha256": OFFICIAL_TRAIN}, True, "train"),  # of an earlier version
        ({"name": "squad", "split": "train", "subset": True}, True, "train"),
        ({"name": "squad"}, True, "train"),
        ({"name": "squad"}, False, "validation"),
        ({"name": "glue", "split": "validation_matched"}, False, "validation_matched"),
    ],
)
def test_scores_are_those_of_the_split_that_they_were_measured_on(
    data: dict[str, Any], held: bool, split: str
) -> None:
    results = distilled()
    del results["arguments"]["max_eval_samples"]
    if held:
        results["arguments"] |= {"holdout_questions": 1000, "evaluate_on_holdout": True}
    results["datasets"]["validation"] = {"name": "train-v1.1.json", "questions": 1012} | data
    card = parsed(model_card(results))
    assert card.data.eval_results is not None
    assert {result.dataset_split for result in card.data.eval_results} == {split}
    name = card.data.eval_results[0].dataset_name
    assert name.endswith("(held out of the training)") is held
    assert ("that were held out of the training" in card.text) is held


def test_the_limits_are_stated_and_the_paper_cited() -> None:
    text = model_card(distilled()).text
    for word in ("span of the context", "English", "has no answer", "of one run"):
        assert word in text
    assert CITATION in text
    assert CITATION in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_fine_tuned_teacher_has_a_card_without_a_distillation() -> None:
    card = parsed(model_card(fine_tuned()))
    assert card.data.tags == ["extractive-question-answering"]
    assert card.data.eval_results is not None
    assert card.data.eval_results[0].metric_value == 72.2
    assert "fine-tuned from minilm-l6" in card.text
    for word in ("teacher", "distilled", "Objective", "Citation"):
        assert word not in card.text.split("## Command")[0]


def test_the_python_in_it_is_python(tmp_path: Path) -> None:
    for repo_id in ("me/student", None):
        for code in re.findall(r"```python\n(.*?)```", model_card(distilled(), tmp_path).text):
            compile(code, "card", "exec")
        assert json.dumps(repo_id or tmp_path.name) in str(
            model_card(distilled(), tmp_path, repo_id=repo_id)
        )


def test_another_head_is_loaded_by_its_class(tmp_path: Path) -> None:
    config = {"architectures": ["BertForSequenceClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    known = {key: distilled()[key] for key in ("layers", "layer_pairs", "teacher", "environment")}
    card = parsed(model_card(known, tmp_path))
    assert "BertForSequenceClassification.from_pretrained" in card.text
    assert card.data.get("pipeline_tag") == "text-classification"
    assert "question answering" not in card.text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layers", "<b>"),
        ("parameters", "<b>"),
        ("parameters", 10**400),
        ("megabytes_fp32", "<b>"),
        ("ms_per_question", "<b>"),
        ("steps", "<b>"),
        ("layer_pairs", ["1:<b>"]),
        ("layer_pairs", [f"1:{'9' * 5000}"]),
        ("f1", "<b>"),
    ],
)
def test_no_number_of_a_record_is_markup(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        model_card(changed(**{field: value}))
    if field in distilled()["teacher"]:
        results = distilled()
        results["teacher"][field] = value
        with pytest.raises(ValueError, match=field):
            model_card(results)


@pytest.mark.parametrize(
    "name", ["seed", "warm_start_ratio", "fade_ratio", "max_eval_samples", "peer_losses", "beta_mi"]
)
@pytest.mark.parametrize("value", ["<b>", ["<b>"], {"<b>": "<b>"}, None, True])
def test_an_argument_that_is_no_number_is_text_on_the_card(name: str, value: Any) -> None:
    results = distilled()
    results["arguments"][name] = value
    del results["datasets"]["validation"]["questions"]
    results["config"]["text"] = "a: 1\n"
    rendered = MarkdownIt("commonmark").enable("table").render(model_card(results).text)
    assert "<b>" not in rendered


@pytest.mark.parametrize(
    "content", ["[]", '{"architectures": "A\\nimport os"}', '{"architectures": [5]}']
)
def test_an_architecture_that_is_no_name_of_a_class_is_not_on_the_card(
    content: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(content)
    known = {key: distilled()[key] for key in ("layers", "environment")}
    text = model_card(known, tmp_path).text
    assert "import" not in text and "## Use" not in text


# ---- what is not known ----


def test_nothing_known_makes_a_card_all_the_same() -> None:
    card = parsed(model_card({}))
    assert card.data.to_dict() == {"library_name": "transformers"}
    assert "None" not in str(card)


@pytest.mark.parametrize("keep", [False, True])
def test_a_field_that_is_not_known_is_left_out(keep: bool) -> None:
    """With each field taken away, and with each field alone."""
    complete = distilled()
    paths = [(key,) for key in complete]
    paths += [
        (key, inner)
        for key, value in complete.items()
        if isinstance(value, dict) and key != "config"
        for inner in value
    ]
    for path in paths:
        results: Any = copy.deepcopy(complete)
        at = results
        for key in path[:-1]:
            at = at[key]
        if keep:
            value = at[path[-1]]
            at.clear()
            at[path[-1]] = value
        else:
            del at[path[-1]]
        card = parsed(model_card(results))
        assert not re.search(r"\bNone\b|\bnull\b|\bnan\b", str(card)), path


def test_metrics_without_their_data_are_in_the_table_alone() -> None:
    results = {"exact_match": 50.0, "f1": 60.0, "questions": 10}
    card = parsed(model_card(results))
    assert "model-index" not in card.data.to_dict()
    assert rows(card, "EM")[2] == ["this model", "50.00", "60.00"]
    assert "10 questions" in card.text


# ---- what comes from outside ----

HOSTILE = "a | b\"c'd\n---\n# e <script>alert(1)</script> `f` [g](h) {{ i }} \\"


def test_no_name_breaks_the_metadata_or_a_table() -> None:
    results = distilled()
    results["teacher"]["name"] = results["teacher"]["base_model"] = HOSTILE
    results["environment"] |= {"machine": HOSTILE, HOSTILE: HOSTILE}
    data = {"name": HOSTILE, "sha256": HOSTILE, "revision": HOSTILE, "questions": 2500}
    results["datasets"] = {"train": data, "validation": data}
    results["arguments"] |= {"alpha": HOSTILE, "data_subset_seed": HOSTILE}
    results["config"]["name"] = HOSTILE
    card = parsed(model_card(results))
    assert card.data.eval_results is not None
    expected = " ".join(HOSTILE.split())
    assert card.data.eval_results[0].dataset_name.startswith(expected)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", card.data.eval_results[0].dataset_type)
    for first, width in (("EM", 7), ("argument", 2), ("student layer", 2)):
        assert {len(cells) for cells in rows(card, first)} == {width}
    headings, html, links = markup(card)
    assert headings == markup(model_card(distilled()))[0]
    assert html == []
    assert links == {module.PAPER}


def test_layer_pairs_that_are_none_are_no_record() -> None:
    with pytest.raises(ValueError, match="layer_pairs"):
        RunRecord.model_validate(distilled() | {"layer_pairs": [f"{HOSTILE}:2"]})


def markup(card: ModelCard) -> tuple[list[str], list[str], set[str]]:
    """The headings, the HTML besides the mark, and the targets of links that a reader of markdown finds."""
    headings, html, links = [], [], set()
    tokens = MarkdownIt("commonmark").enable("table").parse(card.text)
    for i, token in enumerate(tokens):
        if token.type == "heading_open":
            headings.append(tokens[i + 1].content)
        if token.type == "html_block" and "written by itrd_nlp" not in token.content:
            html.append(token.content)
        for child in token.children or []:
            if child.type == "html_inline":
                html.append(child.content)
            if child.type == "link_open":
                links.add(child.attrs["href"])
    return headings, html, links


def test_no_config_or_command_ends_its_block() -> None:
    command = "train.py '```\n# out'"
    text = "a: |\n  ````\n  <script>\n---\nb: 1"
    card = parsed(model_card(changed(command=command, config={"name": "x.yaml", "text": text})))
    assert markup(card) == markup(model_card(distilled()))
    tokens = MarkdownIt("commonmark").parse(card.text)
    blocks = [token.content for token in tokens if token.type == "fence"]
    assert command + "\n" in blocks
    assert text + "\n" in blocks


# ---- a card that somebody edited ----


def test_an_edited_card_is_told_from_a_generated_one() -> None:
    text = str(model_card(distilled(), repo_id="me/student"))
    assert is_generated(text)
    assert not is_generated(text.replace("Limits", "What it cannot do"))
    assert not is_generated(text + "One more line.\n")
    assert not is_generated("# A card\n")


def test_the_metadata_are_yaml_of_one_document() -> None:
    text = str(model_card(distilled()))
    assert len(list(yaml.safe_load_all(text.split("\n---\n")[0]))) == 1


def test_the_examples_of_the_card_find_answers_as_long_as_those_that_were_judged() -> None:
    card = str(model_card(changed(arguments={"max_answer_length": 5})))
    assert "tril(4).bool()  # at most 5 tokens, the end not before the start" in card
    assert ", max_answer_len=5)(question=question, context=context)" in card
    usual = str(model_card(distilled()))
    assert "tril(29).bool()  # at most 30 tokens" in usual and "max_answer_len" not in usual
