"""Measure one model with its weights in fp32 and in fewer bits: torch, torchao and ONNX Runtime on the same questions.

    python -m benchmarks.weights --model runs/quickstart/student --output docs/results/weights/weights.json

| form | what runs |
|---|---|
| fp32 | transformers |
| bf16 | transformers, weights and activations in bfloat16 |
| torchao int8, torchao int4 | what `itrd-nlp quantise` saves, loaded by transformers |
| onnx, onnx int8, onnx int4 | what `itrd-nlp export-onnx --int4 true` saves, under ONNX Runtime |

All forms answer every batch of eight windows in turn, so a busy machine slows all of them alike. Milliseconds are the
median over the questions of each one's median over the rounds, at batch size 1. Megabytes are those of the file with
the weights.
"""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from itrd_nlp.cli import parser, process

PACKAGES = ("torchao", "onnx", "onnxruntime")
VALIDATION_FILE = "assets/squad/dev-v1.1.json"


@dataclass
class WeightsArguments:
    """Options of this command."""

    model: str = field(metadata={"help": "Folder of a fine-tuned or distilled model for SQuAD."})
    questions: int = field(default=1000, metadata={"help": "Questions of SQuAD's dev set."})
    output: str | None = field(
        default=None, metadata={"help": "Write the figures to this JSON file."}
    )


def forms_of(name: str, folder: Path) -> tuple[dict[str, Any], dict[str, float], Any]:
    """Make every form of a model. Returns them, the megabytes of their files, and the tokenizer."""
    import torch
    from transformers import AutoModelForQuestionAnswering

    from itrd_nlp.models.loading import load_model, load_tokenizer
    from itrd_nlp.models.onnx_export import export_onnx, quantize_int4, quantize_int8
    from itrd_nlp.models.onnx_model import GRAPHS, OnnxModel
    from itrd_nlp.models.options import WEIGHTS, LoadingArguments
    from itrd_nlp.models.torchao_weights import quantised_model

    loading = LoadingArguments()
    load = functools.partial(
        load_model, role="model", args=loading, head=AutoModelForQuestionAnswering
    )
    model, tokenizer = load(name), load_tokenizer(name, loading)
    half: Any = load(name)
    forms: dict[str, Any] = {"fp32": model, "bf16": half.to(torch.bfloat16)}
    for weights in WEIGHTS:
        small, _ = quantised_model(
            model, weights, lambda config: load(name, quantization_config=config)
        )
        forms[f"torchao {weights}"] = small
    files = {form: folder / form / "model.safetensors" for form in forms}
    for form, made in forms.items():
        made.save_pretrained(folder / form)
        if form not in ("fp32", "bf16"):
            forms[form] = load(str(folder / form))
    export_onnx(model, tokenizer, folder / "onnx")
    quantize_int8(folder / "onnx", folder / "onnx int8")
    quantize_int4(folder / "onnx", folder / "onnx int4")
    for form, weights in (("onnx", "fp32"), ("onnx int8", "int8"), ("onnx int4", "int4")):
        forms[form] = OnnxModel.from_pretrained(folder / form)
        files[form] = folder / form / GRAPHS[weights]
    megabytes = {form: round(path.stat().st_size / 1e6, 1) for form, path in files.items()}
    return forms, megabytes, tokenizer


def main() -> None:
    (args,) = parser.parse([WeightsArguments], description=__doc__)
    import torch

    from itrd_nlp.files import write_json
    from itrd_nlp.tasks.jobs.judging import judge_forms, print_forms
    from itrd_nlp.tasks.question_answering.arguments import DataArguments
    from itrd_nlp.tasks.question_answering.task import QuestionAnswering
    from itrd_nlp.training.record import RunRecord
    from itrd_nlp.training.results import environment

    task = QuestionAnswering(
        DataArguments(validation_file=VALIDATION_FILE, max_eval_samples=args.questions)
    )
    with tempfile.TemporaryDirectory() as scratch:
        forms, megabytes, tokenizer = forms_of(args.model, Path(scratch))
        data = task.load(tokenizer, forms["fp32"], training=False)
        rows = judge_forms(task, forms, megabytes, data, batch_size=8)
    print_forms(rows, f"{torch.get_num_threads()} threads", task, data)
    if args.output is not None:
        record = RunRecord.read(args.model)
        content = {
            "arguments": vars(args) | {"threads": torch.get_num_threads()},
            "models": rows,
            "run": None if record is None else record.as_json(),
            "environment": environment() | {name: version(name) for name in PACKAGES},
        }
        write_json(Path(args.output), content)


if __name__ == "__main__":
    process.run(main)
