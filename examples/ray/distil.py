"""Distil in several workers of Ray Train, each with its share of the rows.

    pip install 'ray[train]'
    python examples/ray/distil.py

Ray makes the process group, and `prepare_trainer` lets it see the reports of the trainer.
"""

import tempfile

import ray.train.huggingface.transformers as ray_transformers
import torch
from datasets import Dataset
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from transformers import BertConfig, BertForSequenceClassification

from itrd_nlp import ITRDTrainer, ITRDTrainingArguments, build_student

WORKERS, ROWS = 2, 256


def rows() -> Dataset:
    """Sequences of 16 tokens, whose label says whether the first one is even."""
    torch.manual_seed(0)
    ids = torch.randint(0, 64, (ROWS, 16))
    labels = (ids[:, 0] % 2 == 0).long()
    mask = torch.ones_like(ids)
    columns = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return Dataset.from_dict({name: values.tolist() for name, values in columns.items()})


def train_loop_per_worker(config: dict[str, str]) -> None:
    """Distil on one worker. Load your own teacher and data here."""
    torch.manual_seed(0)
    shape = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    teacher = BertForSequenceClassification(BertConfig(num_hidden_layers=4, **shape))
    args = ITRDTrainingArguments(
        config["output_dir"], num_train_epochs=2, logging_steps=4, save_strategy="epoch", report_to="none"
    )
    trainer = ITRDTrainer(build_student(teacher, num_layers=2), teacher, args, train_dataset=rows())
    trainer.add_callback(ray_transformers.RayTrainReportCallback())
    ray_transformers.prepare_trainer(trainer).train()


if __name__ == "__main__":
    folder = tempfile.mkdtemp()
    result = TorchTrainer(
        train_loop_per_worker,
        train_loop_config={"output_dir": f"{folder}/student"},
        scaling_config=ScalingConfig(num_workers=WORKERS, use_gpu=torch.cuda.is_available()),
        run_config=RunConfig(storage_path=folder, name="itrd"),
    ).fit()
    print(f"{WORKERS} workers trained {int(result.metrics['step'])} steps, loss {result.metrics['loss']:.3f}")
