"""A third task, as somebody would write it who has one: which word stands behind the mask?

`test_third_task.py` puts this module and one line of `itrd_nlp.tasks.TASKS` beside the package, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModelForMaskedLM, DataCollatorForTokenClassification, EvalPrediction

from itrd_nlp.errors import UserError
from itrd_nlp.files import file_record
from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.models.loading import load_model, load_tokenizer
from itrd_nlp.models.onnx_model import OnnxModel, is_onnx_folder
from itrd_nlp.models.options import Running
from itrd_nlp.publish.page import TaskPage
from itrd_nlp.tasks.lines import Line, Refuse, is_text, read_lines
from itrd_nlp.tasks.task import Answerer, Answers, Task, TaskData, read_answers
from itrd_nlp.training.record import DataRecord

NEEDS = '"text" with one [MASK], and "word"'


@dataclass
class GapArguments:
    """Which sentences."""

    train_file: str | None = field(default=None, metadata={"help": f"JSON lines: {NEEDS}."})
    validation_file: str | None = field(default=None, metadata={"help": "The same."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "The first so many."})


@dataclass
class AskedArguments:
    """Which sentence."""

    text: str | None = field(default=None, metadata={"help": "One sentence with one [MASK]."})


class Judge:
    """The mean place of the true word among all words, 100 where it is always the first one."""

    def __init__(self, features: list[dict[str, Any]], words: list[str]) -> None:
        self.features, self.words = features, words
        self.predictions: Answers = {}

    def __call__(self, outputs: EvalPrediction) -> dict[str, float]:
        self.predictions = {}
        for i, (row, logits) in enumerate(zip(self.features, outputs.predictions, strict=True)):
            (at,) = [k for k, label in enumerate(row["labels"]) if label != IGNORED]
            before = int((logits[at] > logits[at, row["labels"][at]]).sum())
            place = 1 - before / (len(self.words) - 1)
            best = self.words[int(logits[at].argmax())]
            self.predictions[f"gap-{i}"] = {"word": best, "place": place}
        places = [answer["place"] for answer in self.predictions.values()]
        return {"mean_rank": 100 * float(np.mean(places))}


class MaskedWord(Task):
    """The word behind the mask, judged by its mean rank and nothing else."""

    name = "masked-word"
    arguments = GapArguments
    answer_arguments = AskedArguments
    metrics = {"mean_rank": "mean rank"}  # noqa: RUF012
    main_metric = "mean_rank"
    heads = ("ForMaskedLM",)
    page = TaskPage(unit="sentences", groupings={"length": "length of the sentence"})

    @property
    def head(self) -> type:
        return AutoModelForMaskedLM

    @classmethod
    def head_for(cls, architecture: str) -> type:
        return AutoModelForMaskedLM

    @staticmethod
    def read(path: str | None, most: int | None = None) -> list[dict[str, str]]:
        if path is None:
            raise UserError("train_file or validation_file is not set, but sentences are needed.")
        return [line.row for line in read_lines(path, needs=NEEDS)][:most]

    def load(self, tokenizer: Any, model: Any, *, training: bool = True) -> TaskData:
        args = self.args
        files = {"validation": (args.validation_file, args.max_eval_samples)}
        files |= {"train": (args.train_file, None)} if training else {}
        rows = {split: self.read(*file) for split, file in files.items()}

        def features(rows: list[dict[str, str]]) -> Dataset:
            encoded = [tokenizer(row["text"]) for row in rows]
            ids = [tokenizer.convert_tokens_to_ids(row["word"]) for row in rows]
            mask = tokenizer.mask_token_id
            return Dataset.from_list(
                [
                    {
                        "input_ids": one["input_ids"],
                        "labels": [i if t == mask else IGNORED for t in one["input_ids"]],
                        "length": len(one["input_ids"]),
                    }
                    for one, i in zip(encoded, ids, strict=True)
                ]
            )

        evaluation = features(rows["validation"])
        words = tokenizer.convert_ids_to_tokens(range(model.config.vocab_size))
        content = json.dumps(rows["validation"], sort_keys=True)
        return TaskData(
            examples=rows["validation"],
            evaluation=evaluation,
            judge=Judge(evaluation.to_list(), words),
            signature=hashlib.sha256(content.encode()).hexdigest()[:16],
            collator=DataCollatorForTokenClassification(tokenizer),
            tokenizer=tokenizer,
            datasets={
                split: DataRecord(**file_record(str(files[split][0]), rows=len(part)))
                for split, part in rows.items()
            },
            train=features(rows["train"]) if training else None,
        )

    @classmethod
    def scores(cls, args: GapArguments, answers: Mapping[str, Any]) -> dict[str, Any]:
        count = len(cls.read(args.validation_file, args.max_eval_samples))
        given = [answers.get(f"gap-{i}", {"place": 0.0}) for i in range(count)]
        return {"mean_rank": np.array([answer["place"] for answer in given])}

    @classmethod
    def score_file(cls, args: GapArguments, path: str) -> dict[str, Any]:
        return {
            "mean_rank": 100 * float(cls.scores(args, read_answers(Path(path)))["mean_rank"].mean())
        }

    def breakdown(self, answers: Mapping[str, Any], data: TaskData) -> dict[str, Any]:
        places: dict[str, list[float]] = {}
        for i, row in enumerate(data.examples):
            places.setdefault(f"{len(row['text'].split())} words", []).append(
                answers[f"gap-{i}"]["place"]
            )
        return {
            "length": {
                name: {"questions": len(group), "mean_rank": 100 * float(np.mean(group))}
                for name, group in sorted(places.items())
            }
        }

    def disagreements(
        self, student: Mapping[str, Any], teacher: Mapping[str, Any], data: TaskData
    ) -> dict[str, Any]:
        counts = dict.fromkeys(("teacher_right", "student_right", "both_right", "neither_right"), 0)
        examples = []
        for i, row in enumerate(data.examples):
            words = [answers[f"gap-{i}"]["word"] for answers in (student, teacher)]
            if words[0] == words[1]:
                continue
            right = [word == row["word"] for word in words]
            key = "student_right" if right[0] else "teacher_right" if right[1] else "neither_right"
            counts[key] += 1
            shown = [{"text": w, "exact_match": r} for w, r in zip(words, right, strict=True)]
            examples.append(
                {
                    "question": row["text"],
                    "context": "",
                    "references": [{"text": row["word"]}],
                    "student": shown[0],
                    "teacher": shown[1],
                }
            )
        return {"questions": len(data.examples), **counts, "examples": examples}

    @classmethod
    def asked(cls, source: str | None, options: AskedArguments, refuse: Refuse) -> Iterator[Line]:
        if source is None:
            return iter([Line("--text", {"text": options.text})])
        return read_lines(source, needs=NEEDS, refuse=refuse)

    @classmethod
    def answerer(cls, model: str, options: AskedArguments, running: Running) -> Answerer:
        network: Any
        if is_onnx_folder(model):
            network = OnnxModel.from_pretrained(model)
        else:
            network = load_model(
                model, role="model", args=running.loading, head=AutoModelForMaskedLM
            ).eval()
        return Filler(network, load_tokenizer(model, running.loading))


class Filler:
    """Fills the gap of one sentence after the other."""

    def __init__(self, network: Any, tokenizer: Any) -> None:
        self.network, self.tokenizer = network, tokenizer

    def check(self, line: Line) -> None:
        text = line.row.get("text")
        if not is_text(text) or text.count("[MASK]") != 1:
            raise UserError(f'{line.where}: "text" must be a sentence with one [MASK].')

    def answer(self, lines: Iterator[Line]) -> Iterator[dict[str, Any]]:
        for line in lines:
            inputs = self.tokenizer(line.row["text"], return_tensors="pt")
            with torch.inference_mode():
                logits = self.network(**inputs).logits[0]
            at = int((inputs["input_ids"][0] == self.tokenizer.mask_token_id).nonzero()[0, 0])
            word = self.tokenizer.decode(logits[at].argmax())
            yield {"text": line.row["text"], "word": word}
