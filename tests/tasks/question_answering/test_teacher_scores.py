"""The scores in the folder or the cache of a teacher are believed where they are about its weights and these data."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks.jobs.arguments import StudentArguments, TeacherArguments
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.identity import weights_digest

sys.path.insert(0, str(Path(__file__).parents[1]))  # test folders are no packages

from workflows import distil, fine_tune

ONE_STEP: dict[str, Any] = {
    "max_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}
MARKED = 12.34  # a figure that no second measurement gives


@pytest.fixture
def data(write_squad: Callable[..., Path]) -> DataArguments:
    file = str(write_squad())
    return DataArguments(train_file=file, validation_file=file, max_length=128, doc_stride=32)


@pytest.fixture
def teacher(bert_tokenizer: Any, make_bert: Any, data: DataArguments, tmp_path: Path) -> Path:
    """A fine-tuned teacher, in whose results a figure is marked."""
    sizes = {"vocab_size": len(bert_tokenizer), "max_position_embeddings": 512}
    make_bert(2, seed=0, **sizes).save_pretrained(tmp_path / "encoder")
    bert_tokenizer.save_pretrained(tmp_path / "encoder")
    args = FineTuningArguments(output_dir=str(tmp_path / "teacher"), **ONE_STEP)
    fine_tune(TeacherArguments(str(tmp_path / "encoder")), LoadingArguments(), data, args)
    change(tmp_path / "teacher" / "results.json", exact_match=MARKED)
    return tmp_path / "teacher"


@pytest.fixture
def distilled(teacher: Path, data: DataArguments, tmp_path: Path) -> Callable[..., Any]:
    """The entry of the teacher in the record of a new student."""

    def distilled(name: str = "student", **cache: Any) -> Any:
        args = ITRDTrainingArguments(output_dir=str(tmp_path / name), **ONE_STEP, **cache)
        models = StudentArguments(teacher=str(teacher), num_layers=1)
        return distil(models, LoadingArguments(), data, args)["teacher"]

    return distilled


def change(path: Path, **values: Any) -> None:
    """Set fields of a JSON object, and remove those that are None."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def change_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["qa_outputs.bias"] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def change_question(content: Any) -> None:
    content["data"][0]["paragraphs"][0]["qas"][0]["question"] += " x"


def change_context(content: Any) -> None:
    """Words behind the end, so that every answer stands where it stood."""
    content["data"][0]["paragraphs"][0]["context"] += " river river"


def change_case(content: Any) -> None:
    """Letters that the tokenizer does not tell apart, so that the model reads the same tokens."""
    paragraph = content["data"][0]["paragraphs"][0]
    paragraph["qas"][0]["question"] = paragraph["qas"][0]["question"].swapcase()


def test_the_scores_of_a_teacher_are_those_of_its_weights_and_data(
    teacher: Path, distilled: Callable[..., Any]
) -> None:
    recorded = json.loads((teacher / "results.json").read_text())
    found = distilled()
    assert found["exact_match"] == MARKED
    for name in ("weights", "data_digest", "signature", "base_model", "f1"):
        assert found[name] == recorded[name]


def test_a_run_records_the_digest_of_the_weights_that_it_has_saved(
    teacher: Path, distilled: Callable[..., Any], tmp_path: Path
) -> None:
    distilled()
    for folder in (teacher, tmp_path / "student"):
        recorded = json.loads((folder / "results.json").read_text())
        model = AutoModelForQuestionAnswering.from_pretrained(folder)
        assert recorded["weights"] == weights_digest(model)


def test_scores_of_other_weights_are_not_believed(
    teacher: Path, distilled: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    before = json.loads((teacher / "results.json").read_text())
    change_weights(teacher)
    found = distilled()
    assert found["exact_match"] != MARKED
    assert found["weights"] != before["weights"]
    assert "base_model" not in found  # nothing is known of where these weights come from
    assert any("is about other weights" in message for message in caplog.messages)


@pytest.mark.parametrize("changed", [change_question, change_context, change_case])
def test_scores_of_other_questions_and_contexts_are_not_believed(
    distilled: Callable[..., Any], data: DataArguments, changed: Callable[[Any], None]
) -> None:
    """The signature is the same: it is one of ids, answers and settings."""
    path = Path(str(data.validation_file))
    content = json.loads(path.read_text())
    changed(content)
    path.write_text(json.dumps(content))
    found = distilled()
    assert found["exact_match"] != MARKED
    assert found["base_model"] == "encoder"  # which is true of the weights all the same


def test_scores_that_another_tokenizer_led_to_are_not_believed(
    teacher: Path, distilled: Callable[..., Any]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    swapped = {token: i for i, token in enumerate([*tokens[:5], *reversed(tokens[5:])])}
    type(tokenizer)(vocab=swapped).save_pretrained(teacher)
    assert distilled()["exact_match"] != MARKED


@pytest.mark.parametrize("missing", ["weights", "data_digest"])
def test_scores_of_earlier_versions_have_no_digests_and_are_believed_with_a_warning(
    teacher: Path,
    distilled: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    missing: str,
) -> None:
    change(teacher / "results.json", **{missing: None})
    assert distilled()["exact_match"] == MARKED
    assert any("has no digests of weights and data" in message for message in caplog.messages)


@pytest.fixture
def cached(teacher: Path, distilled: Callable[..., Any], tmp_path: Path) -> Callable[[str], Any]:
    """The same of a teacher without results of its own, whose scores a run before has left in the cache, marked."""
    (teacher / "results.json").unlink()
    cache = {"teacher_cache": "on", "teacher_cache_dir": str(tmp_path / "cache")}
    distilled("first", **cache)
    (kept,) = (tmp_path / "cache").glob("*/answers-*/results.json")
    change(kept, exact_match=MARKED)
    return lambda name: distilled(name, **cache)


def test_scores_in_a_cache_are_believed(cached: Callable[[str], Any]) -> None:
    assert cached("second")["exact_match"] == MARKED


def test_scores_in_a_cache_are_not_those_of_other_weights(
    cached: Callable[[str], Any], teacher: Path
) -> None:
    change_weights(teacher)
    assert cached("second")["exact_match"] != MARKED


@pytest.mark.parametrize("changed", [change_question, change_context, change_case])
def test_scores_in_a_cache_are_not_those_of_other_questions_and_contexts(
    cached: Callable[[str], Any], data: DataArguments, changed: Callable[[Any], None]
) -> None:
    path = Path(str(data.validation_file))
    content = json.loads(path.read_text())
    changed(content)
    path.write_text(json.dumps(content))
    assert cached("second")["exact_match"] != MARKED
    assert cached("third")["exact_match"] != MARKED


@pytest.mark.parametrize("name", ["results.json", "predictions.json"])
def test_a_damaged_judgement_in_the_cache_is_made_again(
    teacher: Path,
    distilled: Callable[..., Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    (teacher / "results.json").unlink()
    cache = {"teacher_cache": "on", "teacher_cache_dir": str(tmp_path / "cache")}
    first = distilled("first", **cache)
    (kept,) = (tmp_path / "cache").rglob(f"answers-*/{name}")
    whole = json.loads(kept.read_text())
    kept.write_text("{")
    assert distilled("second", **cache)["f1"] == first["f1"]
    assert any("The teacher is evaluated again" in message for message in caplog.messages)
    assert json.loads(kept.read_text()).keys() == whole.keys()


def test_a_judgement_that_cannot_be_kept_does_not_end_the_run(
    teacher: Path,
    distilled: Callable[..., Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(path: Path, content: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    (teacher / "results.json").unlink()
    monkeypatch.setattr("itrd_nlp.tasks.jobs.teacher_scores.write_json", full)
    found = distilled(teacher_cache="on", teacher_cache_dir=str(tmp_path / "cache"))
    assert 0 <= found["f1"] <= 100
    assert any("the teacher's answers in" in message for message in caplog.messages)
    assert (tmp_path / "student" / "results.json").is_file()


@pytest.mark.parametrize("folder", ["/proc/nope", "x" * 300])
def test_a_cache_that_nobody_can_make_does_not_end_the_run(
    folder: str,
    teacher: Path,
    distilled: Callable[..., Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`auto` does without: the kernel makes no folder below /proc, and no name of 300 characters."""
    (teacher / "results.json").unlink()
    folder = str(tmp_path / folder)
    found = distilled(teacher_cache="auto", teacher_cache_dir=folder)
    assert 0 <= found["f1"] <= 100
    assert any(f"No teacher cache: {folder}/" in message for message in caplog.messages)
    assert (tmp_path / "student" / "results.json").is_file()
