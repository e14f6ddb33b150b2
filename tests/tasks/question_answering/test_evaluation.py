"""The metric through `evaluate`, through a trainer and for a file of predictions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.question_answering import (
    QuestionAnsweringCollator,
    SquadMetrics,
    evaluate_predictions,
    evaluation,
    evaluation_features,
    load_predictions,
    load_squad_metric,
    read_squad,
)

MODULE = Path(evaluation.__file__).parent / "squad_em_f1"


def _rows() -> dict[str, list[dict[str, Any]]]:
    texts = {"1": "The cat!", "2": "dog house", "3": None}
    truths = {"1": ["cat", "a dog"], "2": ["dog"], "3": ["the"]}
    return {
        "predictions": [{"id": i, "prediction_text": text} for i, text in texts.items()],
        "references": [
            {"id": i, "answers": {"text": t, "answer_start": [0] * len(t)}}
            for i, t in truths.items()
        ],
    }


EXPECTED = {"exact_match": 100 / 3, "f1": 100 * (1 + 2 / 3) / 3}


def test_the_metric_of_evaluate_has_the_official_numbers() -> None:
    assert load_squad_metric().compute(**_rows()) == pytest.approx(EXPECTED, abs=1e-12)


def test_the_scores_of_a_run_are_those_of_the_metric_and_do_not_import_its_library() -> None:
    code = f"""
import json, sys
from datasets import Dataset
from itrd_nlp.tasks.question_answering.evaluation import evaluate_predictions, load_squad_metric
import itrd_nlp.tasks.question_answering.task
rows = {_rows()!r}
answers = {{row["id"]: row["prediction_text"] for row in rows["predictions"]}}
result = evaluate_predictions(answers, Dataset.from_list(rows["references"]))
assert "evaluate" not in sys.modules
assert {{name: result[name] for name in ("exact_match", "f1")}} == load_squad_metric().compute(**rows)
assert "evaluate" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


_LOAD_TWICE = """
import json, multiprocessing, socket, sys
import evaluate

def refuse(*args, **kwargs):
    raise OSError("no network")

def load(_):
    socket.socket.connect = socket.getaddrinfo = refuse
    return evaluate.load(sys.argv[1]).compute(**json.loads(sys.argv[2]))

with multiprocessing.get_context("fork").Pool(2) as pool:
    print(json.dumps(pool.map(load, range(2), chunksize=1)))
"""


def test_two_processes_load_the_module_at_once_without_a_network(tmp_path: Path) -> None:
    module = tmp_path / "read_only" / MODULE.name
    shutil.copytree(MODULE, module)
    module.chmod(0o555)
    environment = {k: v for k, v in os.environ.items() if "OFFLINE" not in k}
    output = subprocess.run(
        [sys.executable, "-c", _LOAD_TWICE, str(module), json.dumps(_rows())],
        env={**environment, "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert output.returncode == 0, output.stderr
    for result in json.loads(output.stdout):
        assert result == pytest.approx(EXPECTED, abs=1e-12)


def test_predictions_are_counted_and_scored(write_squad: Callable[..., Path]) -> None:
    examples = read_squad(write_squad(), split="validation")
    answers = {row["id"]: row["answers"]["text"][0] for row in examples}
    perfect = evaluate_predictions(answers, examples)
    assert perfect["exact_match"] == 100
    assert perfect["f1"] > 80  # not 100: some answers are articles, of which no word remains
    assert (perfect["questions"], perfect["missing"]) == (len(answers), 0)
    half = dict(list(answers.items())[::2])
    result = evaluate_predictions(half | {"unknown": "x"}, examples)
    assert result["missing"] == len(answers) - len(half)
    first = next(iter(answers))
    others = {name: text for name, text in answers.items() if name != first}
    assert evaluate_predictions(others, examples)["missing"] == 1
    assert result["exact_match"] == pytest.approx(100 * len(half) / len(answers))


def test_predictions_for_other_questions_are_refused(write_squad: Callable[..., Path]) -> None:
    examples = read_squad(write_squad(), split="validation")
    with pytest.raises(UserError, match="None of the 1 predictions has the id of one of the 18 q"):
        evaluate_predictions({"unknown": "x"}, examples)


def test_a_prediction_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    path.write_text('{"1": "Zürich", "2": ""}', encoding="utf-8")
    assert load_predictions(path) == load_predictions(str(path)) == {"1": "Zürich", "2": ""}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("", "the file is empty"),
        ('{"1": "x', "truncated or not JSON"),
        ('["x"]', "must be one JSON object"),
        ('{"1": "x", "2": null}', "question 2 is NoneType, but must be a text"),
        ('{"1": ["x"]}', "question 1 is list, but must be a text"),
        ('{"1": "x", "2": "y", "1": "z"}', "the key '1' occurs twice"),
        ('{"1": "x", "2": "\\ud800"}', "a text has half of a character"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_a_bad_prediction_file_is_refused(raw: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    path.write_text(raw)
    with pytest.raises(UserError, match=message) as raised:
        load_predictions(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_a_missing_prediction_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        load_predictions(tmp_path / "missing.json")


def test_a_trainer_reports_the_answers_of_its_model(
    write_squad: Callable[..., Path],
    bert_tokenizer: PreTrainedTokenizerBase,
    make_bert: Any,
    tmp_path: Path,
) -> None:
    """Batched, padded and joined by a trainer, the logits give the answers of each window alone."""
    examples = read_squad(write_squad(), split="validation")
    features = evaluation_features(examples, bert_tokenizer, max_length=96, doc_stride=32)
    sizes = {"vocab_size": len(bert_tokenizer), "max_position_embeddings": 96}
    model = make_bert(1, seed=0, initializer_range=2.0, **sizes).eval()
    metrics = SquadMetrics(examples, features, max_answer_length=6)
    trainer = Trainer(
        model,
        TrainingArguments(str(tmp_path), per_device_eval_batch_size=4, use_cpu=True, report_to=[]),
        data_collator=QuestionAnsweringCollator(bert_tokenizer),
        eval_dataset=features,
        compute_metrics=metrics,
    )
    result = trainer.evaluate()

    contexts = dict(zip(examples["id"], examples["context"], strict=True))
    best = dict.fromkeys(contexts, (-np.inf, ""))
    for window in features:
        inputs = {name: torch.tensor([window[name]]) for name in ("input_ids", "token_type_ids")}
        with torch.no_grad():
            logits = model(**inputs)
        start, end = logits.start_logits[0].tolist(), logits.end_logits[0].tolist()
        identifier = window["example_id"]
        for i, a in enumerate(window["char_start"]):
            for j in range(i, min(i + 6, window["length"])):
                if a >= 0 and window["char_end"][j] >= 0:
                    text = contexts[identifier][a : window["char_end"][j]]
                    best[identifier] = max(best[identifier], (start[i] + end[j], text))
    answers = {identifier: text for identifier, (_, text) in best.items()}
    assert metrics.predictions == answers
    expected = evaluate_predictions(answers, examples)
    assert result["eval_exact_match"] == expected["exact_match"]
    assert result["eval_f1"] == expected["f1"]
    assert np.isfinite(result["eval_loss"])


def test_metrics_refuse_a_length_below_one(
    write_squad: Callable[..., Path], bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    examples = read_squad(write_squad(), split="validation")
    features = evaluation_features(examples, bert_tokenizer)
    with pytest.raises(UserError, match="max_answer_length is 0, but must be at least 1"):
        SquadMetrics(examples, features, max_answer_length=0)
