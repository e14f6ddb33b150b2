"""Drop layers of an embedder by sentence-transformers alone, and judge the student as `itrd-nlp evaluate` does.

    python -m benchmarks.embedders --output_file docs/results/embedding/sentence_transformers.json
    python -m benchmarks.embedders --config configs/embedding/embedding_mpnet_t6.yaml --output_file FILE

The recipe is that of its documentation: keep some layers, evenly spread, and train by `MSELoss` on the vectors of the
teacher. Data, budget and starting point of the teacher are those of the config.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from importlib.metadata import version
from itertools import groupby, product
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MSELoss
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import AutoConfig, set_seed

from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.models.students import student_layers
from itrd_nlp.tasks.embedding.arguments import EmbeddingArguments
from itrd_nlp.tasks.embedding.data import read_training
from itrd_nlp.tasks.embedding.retrieval import Embedding
from itrd_nlp.tasks.jobs.evaluate import evaluate
from itrd_nlp.training.results import environment
from itrd_nlp.training.yaml_files import read_config

CONFIG = Path(__file__).parents[2] / "configs" / "embedding" / "embedding_t3.yaml"


def student_of(teacher: str, layers: list[int], max_length: int) -> SentenceTransformer:
    """The teacher with some of its layers, counted from 1, and with new pooling and normalisation."""
    transformer: Any = Transformer(teacher, max_seq_length=max_length)
    model = transformer.model
    model.encoder.layer = torch.nn.ModuleList([model.encoder.layer[n - 1] for n in layers])
    model.config.num_hidden_layers = len(layers)
    width = model.config.hidden_size
    return SentenceTransformer(modules=[transformer, Pooling(width), Normalize()])


def trained(
    config: dict[str, Any], num_layers: int, init: str, seed: int, folder: str
) -> dict[str, Any]:
    """Train one student. Returns its scores, and the seconds of its training."""
    set_seed(seed)
    length = config["max_length"]
    rows = read_training(config["train_file"], config["max_train_samples"]).rows
    texts = [text for row in rows for text in row]
    depth = AutoConfig.from_pretrained(config["teacher"]).num_hidden_layers
    whole = student_of(config["teacher"], list(range(1, depth + 1)), length)
    vectors = whole.encode(texts, batch_size=64, show_progress_bar=False)
    layers = student_layers(init, num_layers, depth) or []
    student = student_of(config["teacher"], layers, length)
    args = SentenceTransformerTrainingArguments(
        folder,
        num_train_epochs=config["num_train_epochs"],
        # A row of the config is a query with its passage.
        per_device_train_batch_size=2 * config["per_device_train_batch_size"],
        learning_rate=config["learning_rate"],
        warmup_steps=config["warmup_steps"],
        weight_decay=config["weight_decay"],
        bf16=config["bf16"],
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        save_strategy="no",
        report_to="none",
        logging_steps=25,
        disable_tqdm=True,
    )
    data = Dataset.from_dict({"sentence": texts, "label": vectors.tolist()})
    trainer = SentenceTransformerTrainer(student, args, data, loss=MSELoss(student))
    seconds = trainer.train().metrics["train_runtime"]
    student.save(folder)
    data_args = EmbeddingArguments(
        validation_file=config["validation_file"],
        max_length=length,
        max_eval_samples=config["max_eval_samples"],
    )
    record, _ = evaluate(Embedding(data_args), folder, LoadingArguments(), bf16=config["bf16"])
    return {**record.scores, "layers": layers, "seed": seed, "train_seconds": round(seconds, 1)}


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The scores of each start and number of layers, as means over the seeds."""

    def student(row: dict[str, Any]) -> tuple[str, int]:
        return row["init"], len(row["layers"])

    found = []
    for (init, count), runs in groupby(sorted(rows, key=student), key=student):
        of_runs = list(runs)
        names = [name for name in of_runs[0] if name.startswith("recall")]
        scores = {name: round(fmean(row[name] for row in of_runs), 4) for name in names}
        found.append({"init": init, "num_layers": count, "seeds": len(of_runs), **scores})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output_file", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--num_layers", type=int, nargs="+", help="Default: that of the config.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--init", nargs="+", default=["uniform"])
    args = parser.parse_args()
    config = read_config(str(args.config)).values
    rows = []
    for num_layers, init, seed in product(
        args.num_layers or [config["num_layers"]], args.init, args.seeds
    ):
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"init": init, **trained(config, num_layers, init, seed, folder)})
        print(json.dumps(rows[-1]), flush=True)
    package = "sentence-transformers"
    versions = environment() | {package: version(package)}
    found = {"students": rows, "means": means(rows), "environment": versions}
    args.output_file.parent.mkdir(parents=True, exist_ok=True)
    args.output_file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
