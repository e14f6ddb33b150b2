"""Every job on plain text, and what comes after it, by the commands as a user gives them, with tiny models."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, pipeline

from itrd_nlp import load_pipeline
from itrd_nlp.tasks.masked_lm.arguments import EncoderArguments, MaskedLMArguments
from itrd_nlp.tasks.masked_lm.encoder import Encoder
from itrd_nlp.tasks.masked_lm.task import MaskedLM

sys.path.insert(0, str(Path(__file__).parents[1]))  # test folders are no packages

from commands import done, read, refused, run, write_rows

WORDS = [
    *("the", "rhine", "elbe", "oder", "spree", "flows", "past", "bonn", "and", "basel"),
    *("where", "does", "it", "flow", "?"),
]
TRAINING = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-3,
    "train_sampling_strategy": "group_by_length",
    "save_strategy": "no",
    "logging_steps": 5,
    "report_to": "none",
    "disable_tqdm": True,
}
TEXT = {"train_file": "train.txt", "validation_file": "dev.jsonl", "max_length": 16}
MASKS = {"mlm_probability": 0.3}


def sentence(i: int) -> str:
    river, other = WORDS[1 + i % 4], WORDS[1 + (i + 1) % 4]
    text = f"the {river} flows past bonn and basel"
    # Every third text is longer than a piece.
    return f"{text} and the {other} flows past basel and bonn and bonn" if i % 3 == 0 else text


def question(i: int) -> dict[str, Any]:
    context = sentence(i)
    return {
        "id": str(i),
        "question": "where does it flow ?",
        "context": context,
        "answers": [{"text": "bonn", "answer_start": context.index("bonn")}],
    }


def squad(rows: list[dict[str, Any]]) -> dict[str, Any]:
    paragraphs = [
        {"context": row["context"], "qas": [{k: row[k] for k in ("id", "question", "answers")}]}
        for row in rows
    ]
    return {"version": "1.1", "data": [{"title": "Rivers", "paragraphs": paragraphs}]}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, make_reader: Any) -> Path:
    """A folder with data, a teacher with a head and its student, and the student of an encoder without one."""
    folder = tmp_path_factory.mktemp("plain_text")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        reader, tokenizer = make_reader(
            WORDS, 4, initializer_range=0.05, max_position_embeddings=64
        )
        tokenizer.model_max_length = 64
        for part in (reader.bert, tokenizer):
            part.save_pretrained("encoder")
        Path("train.txt").write_text("\n\n".join(sentence(i) for i in range(48)) + "\n")
        rows = [{"text": sentence(i), "source": str(i // 4)} for i in range(48, 72)]
        write_rows("dev.jsonl", rows)
        bare = {"teacher": "encoder", "num_layers": 2, "w_task": 0.0, "w_kd": 0.0}
        configs = {
            "teacher": {"task": "masked-lm", "model_name_or_path": "encoder"} | MASKS,
            "student": {"task": "masked-lm", "teacher": "teacher", "num_layers": 2} | MASKS,
            "states": {"task": "encoder"} | bare,
        }
        for name, own in configs.items():
            Path(f"{name}.yaml").write_text(
                yaml.safe_dump(TRAINING | TEXT | own | {"output_dir": name})
            )
            done("fine-tune" if name == "teacher" else "distil", f"{name}.yaml")
    return folder


@pytest.fixture(autouse=True)
def in_the_workplace(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    if "workplace" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("workplace"))
    yield


@pytest.mark.parametrize("folder", ["teacher", "student"])
def test_accuracy_and_perplexity_are_those_of_a_plain_model_of_transformers(
    workplace: Path, folder: str
) -> None:
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    args = MaskedLMArguments(validation_file="dev.jsonl", max_length=16, mlm_probability=0.3)
    data = MaskedLM(args).load(tokenizer, model, training=False)
    losses, right = [], []
    for row in data.evaluation:
        with torch.inference_mode():
            logits = model(torch.tensor([row["input_ids"]])).logits[0].double()
        for position, true in enumerate(row["labels"]):
            if true != -100:
                assert row["input_ids"][position] == tokenizer.mask_token_id
                losses.append(F.cross_entropy(logits[position], torch.tensor(true)))
                right.append(int(logits[position].argmax()) == true)
    record = read(f"{folder}/results.json")
    assert len(right) > 60
    assert record["accuracy"] == pytest.approx(100 * sum(right) / len(right), abs=1e-6)
    assert record["perplexity"] == pytest.approx(float(torch.stack(losses).mean().exp()), rel=1e-5)
    assert (record["task"], record["rows"]) == ("masked-lm", 24)
    assert record["metrics"] == {"accuracy": "masked accuracy"}


def test_the_true_tokens_of_the_answers_are_tokens_of_the_texts(workplace: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained("student")
    for i, tokens in read("student/analysis/predictions.json").items():
        there = tokenizer.tokenize(sentence(48 + int(i)))
        assert all(true in there for true, _, _ in tokens)


def test_every_model_is_judged_on_the_same_masks_whatever_the_batch(workplace: Path) -> None:
    by_batch = []
    for size in ("1", "7", "64"):
        out = done(
            *("evaluate", "--model", "student", "--validation_file", "dev.jsonl", "--batch_size"),
            *(size, "--max_length", "16", "--mlm_probability", "0.3"),
        )
        found = json.loads(out.splitlines()[-1])
        by_batch.append((found["accuracy"], round(found["perplexity"], 4)))
    record = read("student/results.json")
    assert set(by_batch) == {(record["accuracy"], round(record["perplexity"], 4))}


def test_a_student_fills_masks_as_the_pipeline_of_transformers_does(workplace: Path) -> None:
    text = "the [MASK] flows past [MASK] and basel"
    out = json.loads(done("predict", "--model", "student", "--text", text, "--top_k", "3"))
    assert out["text"] == text
    fill = pipeline("fill-mask", "student", top_k=3)
    for ours, theirs in zip(out["predictions"], fill(text), strict=True):
        assert [one["token"] for one in ours] == [one["token_str"] for one in theirs]
        scores = [one["score"] for one in theirs]
        assert [one["score"] for one in ours] == pytest.approx(scores, abs=1e-5)


def test_lines_without_a_mask_are_named_and_the_others_are_filled(workplace: Path) -> None:
    long = " ".join(["bonn"] * 70) + " [MASK]"
    rows = [{"text": t} for t in ("the [MASK] flows", "the rhine", long, "past [MASK]")]
    write_rows("asked.jsonl", rows)
    code, out = run(
        "predict", "--model", "student", "--input", "asked.jsonl", "--output", "o.jsonl"
    )
    assert code == 2 and 'asked.jsonl:2: "text" has no [MASK]' in out
    filled = [json.loads(line)["text"] for line in Path("o.jsonl").read_text().splitlines()]
    assert filled == [rows[0]["text"], rows[3]["text"]]
    told = refused("predict", "--model", "student", "--text", long)
    assert "[MASK] stands behind the first 64 tokens" in told
    assert "max_length is" not in told  # nobody has given one
    assert "give either --text or --input" in refused("predict", "--model", "student")


def test_a_student_is_an_ordinary_checkpoint(workplace: Path) -> None:
    assert AutoModel.from_pretrained("student").config.num_hidden_layers == 2
    assert read("student/config.json")["architectures"] == ["BertForMaskedLM"]
    assert read("states/config.json")["architectures"] == ["BertModel"]
    weights = load_file("states/model.safetensors")
    assert weights.keys() == AutoModel.from_pretrained("states").state_dict().keys()
    # Its next task may have longer texts than the pieces of this one.
    assert AutoTokenizer.from_pretrained("student").model_max_length == 64


@pytest.mark.parametrize("start", ["student", "states"])
def test_a_student_answers_questions_after_a_training_with_and_without_a_teacher(
    workplace: Path, tmp_path: Path, start: str
) -> None:
    Path("questions.json").write_text(json.dumps(squad([question(i) for i in range(24)])))
    data = {"train_file": "questions.json", "validation_file": "questions.json", "max_length": 40}
    config = TRAINING | data | {"doc_stride": 8, "num_train_epochs": 1}
    Path("questions.yaml").write_text(yaml.safe_dump(config))
    tuned, taught = str(tmp_path / "tuned"), str(tmp_path / "taught")
    done("fine-tune", "questions.yaml", "--model_name_or_path", start, "--output_dir", tuned)
    done(
        *("distil", "questions.yaml", "--student", start, "--teacher", tuned, "--layer_map"),
        *("1:1", "2:2", "--output_dir", taught),
    )
    for folder in (tuned, taught):
        record = read(f"{folder}/results.json")
        assert record["layers"] == 2 and 0 <= record["f1"] <= 100
        answer = load_pipeline(folder)(question="where does it flow ?", context=sentence(1))
        assert answer["answer"] in sentence(1)
    before = load_file(f"{start}/model.safetensors")
    names = {name.removeprefix("bert."): name for name in before}
    after = load_file(f"{tuned}/model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    # It starts from the weights of the general step: one epoch of three steps moves them little.
    moved = (after[f"bert.{name}"] - before[names[name]]).abs().max()
    assert 0 < moved < 0.02


def test_a_student_labels_texts_after_a_training_with_and_without_a_teacher(
    workplace: Path, tmp_path: Path
) -> None:
    rows = [{"text": sentence(i), "label": "long" if i % 3 == 0 else "short"} for i in range(24)]
    write_rows("labels.jsonl", rows)
    data = {"train_file": "labels.jsonl", "validation_file": "labels.jsonl", "max_length": 32}
    config = TRAINING | data | {"task": "classification", "num_train_epochs": 1}
    Path("labels.yaml").write_text(yaml.safe_dump(config))
    tuned, taught = str(tmp_path / "tuned"), str(tmp_path / "taught")
    done("fine-tune", "labels.yaml", "--model_name_or_path", "student", "--output_dir", tuned)
    done(
        *("distil", "labels.yaml", "--student", "student", "--teacher", tuned, "--layer_map"),
        *("1:1", "2:2", "--output_dir", taught),
    )
    for folder in (tuned, taught):
        assert pipeline("text-classification", folder)("the rhine")[0]["label"] in ("long", "short")


def test_a_resumed_run_masks_the_same_tokens_to_the_last_bit(
    workplace: Path, tmp_path: Path
) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    saved = ("--save_strategy", "steps", "--save_steps", "5")
    done("distil", "student.yaml", "--output_dir", str(whole), *saved)
    halves.mkdir()
    shutil.copytree(whole / "checkpoint-5", halves / "checkpoint-5")
    resume = ("--resume_from_checkpoint", "true")
    done("distil", "student.yaml", "--output_dir", str(halves), *saved, *resume)
    first, second = (load_file(f"{folder}/model.safetensors") for folder in (whole, halves))
    assert all(torch.equal(first[name], second[name]) for name in first)
    again = read(f"{halves}/results.json")
    assert again["perplexity"] == read(f"{whole}/results.json")["perplexity"]


def test_the_cosine_is_that_of_the_last_hidden_states(workplace: Path) -> None:
    rows = [json.loads(line) for line in Path("dev.jsonl").read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained("states")
    student, teacher = (AutoModel.from_pretrained(n).eval() for n in ("states", "encoder"))
    text = next(row["text"] for row in rows if len(row["text"].split()) < 14)
    encoded = tokenizer(text, return_tensors="pt")
    places = torch.linspace(0, encoded["input_ids"].shape[1] - 1, 16).round().long()
    with torch.inference_mode():
        ours, theirs = (m(**encoded).last_hidden_state[0][places] for m in (student, teacher))
    expected = F.cosine_similarity(ours, theirs, dim=-1).mean()
    number = [row["text"] for row in rows].index(text)
    found = read("states/analysis/predictions.json")
    assert found[str(number)] == pytest.approx(float(expected), abs=2e-6)
    record = read("states/results.json")
    assert record["cosine"] == pytest.approx(100 * sum(found.values()) / 24, abs=1e-4)
    assert record["teacher"]["cosine"] == pytest.approx(100, abs=1e-3)
    assert (record["task"], record["rows"]) == ("encoder", 24)


@pytest.mark.parametrize(
    ("task", "folder", "metric", "own", "wrong"),
    [
        ("masked-lm", "student", "accuracy", ("--mlm_probability", "0.3"), '{"0": "x"}'),
        ("encoder", "states", "cosine", ("--reference", "encoder"), '{"0": 2}'),
    ],
)
def test_answers_score_the_same_from_a_model_and_from_a_file(
    workplace: Path, tmp_path: Path, task: str, folder: str, metric: str, own: Any, wrong: str
) -> None:
    answers = str(tmp_path / "answers.json")
    data = ("--validation_file", "dev.jsonl")
    model = ("--model", folder, "--max_length", "16", *own)
    out = done("evaluate", *model, *data, "--output_file", answers)
    found = json.loads(out.splitlines()[-1])
    again = json.loads(done("evaluate", "--task", task, "--predictions_file", answers, *data))
    assert again[metric] == pytest.approx(found[metric], abs=1e-4)
    assert found[metric] == pytest.approx(read(f"{folder}/results.json")[metric], abs=1e-4)
    for content, said in ((wrong, "the answer to text 0"), ('{"x": []}', "none of the 1 answers")):
        Path(answers).write_text(content)
        assert said in refused("evaluate", "--task", task, "--predictions_file", answers, *data)


def test_a_text_of_which_the_tokenizer_makes_nothing_counts_0_everywhere(
    workplace: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [sentence(0), "\u200b", sentence(1)]
    file, answers = str(tmp_path / "texts.jsonl"), str(tmp_path / "answers.json")
    write_rows(file, [{"text": text} for text in texts])
    data = ("--validation_file", file, "--task", "encoder")
    model = ("--model", "encoder", "--reference", "encoder")
    out = done("evaluate", *model, *data, "--output_file", answers)
    found = json.loads(out.splitlines()[-1])
    assert found["cosine"] == pytest.approx(200 / 3, abs=1e-3)  # a model beside itself
    assert "makes nothing of 1 of 3 texts" in caplog.text
    again = json.loads(done("evaluate", "--predictions_file", answers, *data))
    args = EncoderArguments(validation_file=file)
    by_text = Encoder.scores(args, read(answers))["cosine"]
    assert again["cosine"] == pytest.approx(found["cosine"], abs=1e-9)
    assert 100 * by_text.mean() == pytest.approx(found["cosine"], abs=1e-9)


def test_the_card_is_a_true_one(workplace: Path) -> None:
    out = done("push-to-hub", "--model", "student", "--repo_id", "user/general", "--dry_run")
    record = read("student/results.json")
    for words in (
        *("pipeline_tag: fill-mask", 'pipeline("fill-mask", "user/general")', "24 texts"),
        *("masked language modelling", "ms per text", "T² KL(teacher ‖ student) of masked tokens"),
        f" {record['perplexity']:.2f} |",
        "The pseudo-perplexity is no percentage",
    ):
        assert words in out, words
    out = done("push-to-hub", "--model", "states", "--repo_id", "user/states", "--dry_run")
    assert "pipeline_tag: feature-extraction" in out and "AutoModel.from_pretrained" in out
    assert "perplexity" not in out


@pytest.mark.parametrize("folder", ["teacher", "student", "states"])
def test_a_report_is_made(workplace: Path, folder: str) -> None:
    assert done("report", folder).strip() == f"{folder}/report.html"
    page = Path(f"{folder}/report.html").read_text()
    assert "Judged on 24 texts" in page
    assert ("pseudo-perplexity" in page) == (folder != "states")
    assert "number of words of the text" in page


@pytest.mark.slow  # exports each candidate
def test_a_budget_chooses_the_depth(workplace: Path, tmp_path: Path) -> None:
    for name in ("student", "states"):
        out = str(tmp_path / name)
        done(
            *("distil", f"{name}.yaml", "--max_mb", "1000", "--candidate_layers", "1", "3"),
            *("--output_dir", out, "--max_steps", "1"),
        )
        assert read(f"{out}/results.json")["layers"] == 3


@pytest.mark.parametrize(
    ("config", "options", "said"),
    [
        ("student", ("--teacher", "encoder"), "its checkpoint lacks cls.predictions"),
        ("student", ("--teacher", "encoder"), "--task encoder distils an encoder without a head"),
        (
            "student",
            ("--teacher_cache", "on"),
            "teacher_cache is 'on', but other tokens are masked",
        ),
        ("student", ("--teacher_cache", "auto"), "set it to off"),
        ("student", ("--mlm_probability", "0"), "mlm_probability is 0.0, but must be from 0.01"),
        ("student", ("--train_file", "none.txt"), "none.txt does not exist"),
        ("student", ("--text_column", "body", "--train_file", "dev.jsonl"), '"body" is'),
        ("student", ("--metric_for_best_model", "perplexity"), "must be one of loss, accuracy"),
        (
            "states",
            ("--w_kd", "1"),
            "w_kd is 1.0, but the task encoder has a teacher without a head",
        ),
        ("states", ("--w_task", "1"), "set w_kd and w_task to 0"),
        ("states", ("--metric_for_best_model", "loss"), "must be one of cosine"),
    ],
)
def test_a_distillation_that_makes_no_sense_is_refused_before_any_work(
    workplace: Path, tmp_path: Path, config: str, options: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "out"
    best = ("--save_strategy", "best") if "--metric_for_best_model" in options else ()
    found = refused("distil", f"{config}.yaml", "--output_dir", str(out), *options, *best)
    assert said in found
    assert not out.exists()


def test_what_an_encoder_without_a_head_cannot_do_is_one_sentence(workplace: Path) -> None:
    said = refused("evaluate", "--model", "states", "--validation_file", "dev.jsonl")
    assert (
        "reference is not set, but an encoder without a head is judged beside another one" in said
    )
    shutil.copytree("encoder", "shuffled")
    known = json.loads(Path("shuffled/tokenizer.json").read_text())
    ids = known["model"]["vocab"]
    ids["rhine"], ids["basel"] = ids["basel"], ids["rhine"]
    Path("shuffled/tokenizer.json").write_text(json.dumps(known))
    said = refused(
        *("evaluate", "--model", "states", "--validation_file", "dev.jsonl"),
        *("--reference", "shuffled"),
    )
    assert "the vocabularies of model (" in said and "differ, for example in 'basel'" in said
    said = refused("predict", "--model", "states", "--input", "dev.jsonl")
    assert "an encoder without a head answers nothing" in said
    said = refused(
        *("fine-tune", "teacher.yaml", "--task", "encoder", "--output_dir", "vain"),
        *("--mlm_probability", "0.3"),
    )
    assert "mlm_probability" in said
    Path("bare.yaml").write_text(yaml.safe_dump(TRAINING | TEXT | {"task": "encoder"}))
    said = refused(
        "fine-tune", "bare.yaml", "--model_name_or_path", "encoder", "--output_dir", "vain"
    )
    assert "nothing is learned without a teacher" in said


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "metric"), [("student", "accuracy"), ("states", "cosine")])
def test_onnx_and_int8_are_judged_beside_torch(
    workplace: Path, tmp_path: Path, folder: str, metric: str
) -> None:
    own = ("--reference", "encoder") if folder == "states" else ("--mlm_probability", "0.3")
    done(
        *("export-onnx", "--model", folder, "--validation_file", "dev.jsonl", "--max_length", "16"),
        *("--max_f1_drop", "100", "--output_dir", str(tmp_path), *own),
    )
    models = read(f"{tmp_path}/export.json")["models"]
    assert models["torch"][metric] == pytest.approx(
        read(f"{folder}/results.json")[metric], abs=1e-3
    )
    assert models["onnx"][metric] == pytest.approx(models["torch"][metric], abs=1e-3)
    assert models["onnx"]["same_answers"] == 100  # whatever the last digit of a cross entropy is
    assert metric in models["onnx int8"]
    if folder == "student":
        onnx, text = str(tmp_path / "onnx"), ("--text", "the [MASK] flows", "--task", "masked-lm")
        found = json.loads(done("predict", "--model", onnx, *text))["predictions"][0]
        plain = json.loads(done("predict", "--model", "student", *text))["predictions"][0]
        assert [one["token"] for one in found] == [one["token"] for one in plain]


@pytest.mark.slow  # trains in processes of their own
def test_methods_are_compared(workplace: Path, tmp_path: Path) -> None:
    plan = {
        "base": str(workplace / "student.yaml"),
        "task": "masked-lm",
        "output_dir": str(tmp_path / "out"),
        "seeds": [0, 1],
        "teacher_cache": "off",
        "methods": {"kd": {"beta_corr": 0, "beta_mi": 0}, "itrd": {}},
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    table = done("compare", str(tmp_path / "plan.yaml"))
    assert "masked accuracy - kd [95% interval]" in table and "in percent on 24 texts" in table
    assert "over the sources of the texts" in table
    records = [json.loads(x) for x in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    assert all(record["perplexity"] > 1 for record in records)
