"""Distil a network for images by several methods under one budget: the experiments of the paper on images.

    python -m benchmarks.images benchmarks/images/digits.yaml

Teacher and students run through `ITRDTrainer`, which trains a teacher, too, if no term needs one. The record has the
accuracy of each seed, and the difference of each method from each before it with its interval over the seeds.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import yaml
from torch.nn import functional as F
from transformers import AutoConfig, PreTrainedModel, ResNetConfig, ResNetForImageClassification

from itrd_nlp.compare.statistics import mean_and_deviation
from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.files import write_json
from itrd_nlp.models.low_bits import megabytes
from itrd_nlp.training.results import environment

ROOT = Path(__file__).parents[2]
Rows = list[dict[str, Any]] | datasets.Dataset

ALONE = {"w_task": 1.0, "w_kd": 0.0, "beta_corr": 0.0, "beta_mi": 0.0}
"""The objective of a model that has no teacher."""

VIEWS = {"corr_view": "pooled", "mi_view": "pooled", "layer_map": "last"}
"""The representation that the paper compares: the last layer, averaged over all places."""


def digits(size: int) -> tuple[Rows, Rows, int]:
    """scikit-learn's digits, enlarged to squares of a size: rows of the training, of the test, number of classes."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 16 - 0.5, dtype=torch.float32).view(-1, 1, 8, 8)
    images = F.interpolate(images, size=(size, size), mode="nearest")
    rows = [
        {"pixel_values": image, "labels": int(label)}
        for image, label in zip(images, labels, strict=True)
    ]
    train, test = train_test_split(rows, test_size=360, random_state=0, stratify=labels)
    return train, test, 10


def of_hub(config: dict[str, Any]) -> tuple[Rows, Rows, int]:
    """A data set of the Hub with a column of images and one of labels; the training images are cropped and mirrored."""
    from torchvision.transforms import v2

    image, label = config["columns"]
    size = config["size"]
    common = [v2.ToImage(), v2.RGB(), v2.ToDtype(torch.float32, scale=True)]
    common.append(v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    changed = v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), *common])
    plain = v2.Compose([v2.Resize(size), v2.CenterCrop(size), *common])

    def rows(split: str, change: Any) -> datasets.Dataset:
        found = datasets.load_dataset(config["data"], split=split)
        return found.with_transform(
            lambda batch: {
                "pixel_values": [change(one) for one in batch[image]],
                "labels": batch[label],
            }
        )

    train, test = config["splits"]
    classes = datasets.load_dataset(config["data"], split=test).features[label].num_classes
    return rows(train, changed), rows(test, plain), classes


def network(
    shape: dict[str, Any] | str, classes: int, seed: int, *, trained: bool
) -> PreTrainedModel:
    """A ResNet: of the sizes of a configuration, or a model of the Hub, with its weights or with new ones.

    Args:
        shape: arguments of `ResNetConfig`, or an id of the Hub.
        classes: number of classes.
        seed: of new weights.
        trained: take the weights of the Hub.
    """
    torch.manual_seed(seed)
    if not isinstance(shape, str):
        return ResNetForImageClassification(ResNetConfig(**shape, num_labels=classes))
    if trained:
        return ResNetForImageClassification.from_pretrained(shape)
    return ResNetForImageClassification(AutoConfig.from_pretrained(shape))


def accuracy(prediction: Any) -> dict[str, float]:
    """Percent of the images whose class has the largest logit."""
    right = np.argmax(prediction.predictions, axis=-1) == prediction.label_ids
    return {"accuracy": 100 * float(np.mean(right))}


def train(
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    data: tuple[Rows, Rows],
    objective: dict[str, Any],
    training: dict[str, Any],
    seed: int,
) -> float:
    """Train a network and return its accuracy on the test in percent."""
    with tempfile.TemporaryDirectory() as folder:
        args = ITRDTrainingArguments(
            output_dir=folder,
            seed=seed,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            logging_strategy="no",
            teacher_cache="off",
            remove_unused_columns=False,
            per_device_eval_batch_size=256,
            **VIEWS | objective | training,
        )
        trainer = ITRDTrainer(
            student,
            teacher,
            args,
            train_dataset=data[0],
            eval_dataset=data[1],
            compute_metrics=accuracy,
        )
        trainer.train()
        return float(trainer.evaluate()["eval_accuracy"])


def main(path: str) -> None:
    """Run the experiment of a config, and write its record."""
    config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    name = Path(path).stem
    train_rows, test_rows, classes = (
        digits(config["size"]) if config["data"] == "digits" else of_hub(config)
    )
    data, training = (train_rows, test_rows), config["training"]
    teacher = network(config["teacher"], classes, seed=0, trained=True)
    scores: dict[str, Any] = {}
    if not isinstance(config["teacher"], str):
        scores["teacher"] = train(teacher, None, data, ALONE, training, 0)
    sizes = {"teacher": megabytes(teacher)}
    for method, objective in config["methods"].items():
        scores[method] = []
        for seed in config["seeds"]:
            student = network(config["student"], classes, seed, trained=False)
            scores[method].append(train(student, teacher, data, objective, training, seed))
            print(method, seed, scores[method][-1], flush=True)
        sizes[method] = megabytes(student)
    folder = ROOT / "docs" / "results" / name
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / f"{name}.json",
        {
            "command": f"python -m benchmarks.images {path}",
            "config": config,
            "environment": environment(),
            "train": len(train_rows),
            "test": len(test_rows),
            "accuracy": scores,
            "megabytes": sizes,
            "differences": _differences(scores, list(config["methods"])),
        },
    )


def _differences(scores: dict[str, Any], methods: list[str]) -> dict[str, Any]:
    """Mean difference of each method from each before it, seed by seed, with its 95% interval of Student's t."""
    from scipy.stats import t

    found: dict[str, Any] = {}
    for first, method in itertools.combinations(methods, 2):
        values = [b - a for a, b in zip(scores[first], scores[method], strict=True)]
        (mean, deviation), spread = mean_and_deviation(values), None
        if len(values) > 1:
            reach = float(t.ppf(0.975, len(values) - 1)) * deviation / len(values) ** 0.5
            spread = [mean - reach, mean + reach]
        found[f"{method} - {first}"] = {"mean": mean, "interval": spread}
    return found


if __name__ == "__main__":
    main(sys.argv[1])
