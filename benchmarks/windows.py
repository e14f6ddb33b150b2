"""Windows of SQuAD to measure with: what a step costs depends on how long they are."""

from __future__ import annotations

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from itrd_nlp.models import LoadingArguments, load_tokenizer
from itrd_nlp.question_answering import read_squad, training_features

TRAIN_FILE = "assets/squad/train-v1.1.json"
TOKENIZER = "assets/minilm-l6"


def squad_windows(count: int) -> tuple[Dataset, PreTrainedTokenizerBase]:
    """The first windows of questions drawn from the train set, cut to 384 tokens, always the same ones.

    Args:
        count: of windows.
    """
    tokenizer = load_tokenizer(TOKENIZER, LoadingArguments())
    examples = read_squad(TRAIN_FILE, split="train", max_samples=count)
    return training_features(examples, tokenizer).select(range(count)), tokenizer
