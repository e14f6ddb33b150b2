"""Search the weight of the correlation loss and the learning rate with Optuna.

    python examples/search_weights.py

It needs `pip install optuna`. Each trial has a new student, objective and folder. A comparison of methods with equally
many tries each is a job of its own: `itrd-nlp compare` with `search` in its YAML file.
"""

from typing import Any

import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from itrd_nlp import ITRDTrainer, ITRDTrainingArguments, build_student

torch.manual_seed(0)
words = "[PAD] [UNK] [CLS] [SEP] [MASK] a good bad long short film book".split()
tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
texts = ["a good film", "a bad film", "a long good book", "a short bad book"] * 16
data = Dataset.from_dict({**tokenizer(texts), "labels": [1, 0, 1, 0] * 16})
shared = {"train_dataset": data, "data_collator": DataCollatorWithPadding(tokenizer)}
quiet = {"logging_strategy": "no", "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
tiny = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.2}
config = BertConfig(vocab_size=len(words), **tiny, **still)
teacher = BertForSequenceClassification(config)
Trainer(teacher, TrainingArguments("out/search_teacher", learning_rate=1e-3, **quiet), **shared).train()


def accuracy(outputs: Any) -> dict[str, float]:
    return {"accuracy": float((outputs.predictions.argmax(-1) == outputs.label_ids).mean())}


def space(trial: Any) -> dict[str, Any]:
    return {
        "beta_corr": trial.suggest_float("beta_corr", 0.5, 8.0, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
    }


trainer = ITRDTrainer(
    model_init=lambda: build_student(teacher, num_layers=2),
    teacher=teacher,
    args=ITRDTrainingArguments("out/search", num_train_epochs=3, eval_strategy="epoch", **quiet),
    eval_dataset=data,  # yours: rows held out of train, not those that you report
    compute_metrics=accuracy,
    **shared,
)
best = trainer.hyperparameter_search(
    space, n_trials=3, backend="optuna", direction="maximize", compute_objective=lambda m: m["eval_accuracy"]
)
print(f"the best of 3 tries has accuracy {best.objective:.2f} with {best.hyperparameters}")
