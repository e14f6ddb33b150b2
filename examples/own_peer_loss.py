"""Add a loss of your own between the hidden states of student and teacher.

    python examples/own_peer_loss.py

The trainer logs it, weighs it, saves its parameters in checkpoints, and a comparison treats it like all others. On a
command line it goes by its dotted path: `--peer_losses '{"my_module.CentredCosine": 1.0}'`.
"""

import sys
from pathlib import Path

import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, DataCollatorWithPadding
from transformers import BertTokenizerFast as Tokenizer

from itrd_nlp import ITRDTrainer, ITRDTrainingArguments, build_student
from itrd_nlp.losses.peers import LayerStates, PeerLoss


class CentredCosine(PeerLoss):
    """One minus the cosine of the states of each token, after the mean over the tokens is taken away."""

    def pair_loss(self, index: int, student: LayerStates, teacher: LayerStates, mask: torch.Tensor) -> torch.Tensor:
        own, taught = (states.hidden[mask] for states in (student, teacher))  # (tokens, d), no padding
        cosine = torch.cosine_similarity(own - own.mean(0), taught - taught.mean(0), dim=-1)
        return (1 - cosine).mean()


def main() -> None:
    torch.manual_seed(0)
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] a good bad long short film book".split()
    tokenizer = Tokenizer(vocab={word: i for i, word in enumerate(words)})
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64
    )
    teacher = BertForSequenceClassification(config)
    texts = ["a good film", "a bad film", "a long good book", "a short bad book"] * 16
    data = Dataset.from_dict({**tokenizer(texts), "labels": [1, 0, 1, 0] * 16})

    # A class goes by the module that holds it. This file is both, so it is imported by its name.
    name = f"{Path(__file__).stem}.CentredCosine"
    weights = {"peer_losses": {name: 5.0}, "beta_corr": 0, "beta_mi": 0}
    quiet = {"logging_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
    args = ITRDTrainingArguments("out/own_loss", learning_rate=2e-3, num_train_epochs=8, **weights, **quiet)
    student = build_student(teacher, num_layers=2, init="random")
    trainer = ITRDTrainer(student, teacher, args, train_dataset=data, data_collator=DataCollatorWithPadding(tokenizer))
    trainer.train()
    values = [row["centred_cosine"] for row in trainer.state.log_history if "centred_cosine" in row]
    print(f"centred_cosine fell from {values[0]:.2f} to {values[-1]:.2f} in {len(values)} steps")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
