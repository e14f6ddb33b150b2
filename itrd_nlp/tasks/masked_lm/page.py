"""Masked language models, and encoders without a head, as card, Hub and report show them."""

from __future__ import annotations

import json

from itrd_nlp.publish.markdown import fence
from itrd_nlp.publish.page import TaskPage
from itrd_nlp.training.record import RunRecord

_THEN = (
    "It is a start for other tasks: fine-tune it on one, for example by `itrd-nlp fine-tune` or a `Trainer` of "
    "transformers."
)


def use_masked_lm(name: str, record: RunRecord) -> str:
    """How to fill a mask, and how to go on from there.

    Args:
        name: of the model on the Hub, or of its folder.
        record: of the run.
    """
    code = f"""\
from transformers import pipeline

fill = pipeline("fill-mask", {json.dumps(name)})
print(fill(f"The Rhine is a {{fill.tokenizer.mask_token}} in Europe."))"""
    return f"{fence(code, 'python')}\n\n{_THEN}"


def use_encoder(name: str, record: RunRecord) -> str:
    """How to read hidden states, and how to go on from there. See `use_masked_lm`."""
    code = f"""\
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({json.dumps(name)})
model = AutoModel.from_pretrained({json.dumps(name)})
states = model(**tokenizer("The Rhine is a river in Europe.", return_tensors="pt")).last_hidden_state"""
    return f"{fence(code, 'python')}\n\n{_THEN}"


def kd(record: RunRecord) -> str:
    """The KD term of the card's formula."""
    return "T² KL(teacher ‖ student) of masked tokens"


MASKED_LM = TaskPage(
    pipeline_tag="fill-mask",
    title="masked language modelling",
    unit="texts",
    sources="sources",
    kd=kd,
    use=use_masked_lm,
    limits=(
        "It knows no task yet. What it can learn of one is another question than how well it fills masks.",
        "The accuracy is that of tokens which are all masked at once, a share of each text.",
    ),
    groupings={"words": "number of words of the text"},
)
ENCODER = TaskPage(
    pipeline_tag="feature-extraction",
    title="text encoding",
    unit="texts",
    sources="sources",
    use=use_encoder,
    limits=(
        "It knows no task yet. What it can learn of one is another question than how near its states are to those of "
        "its teacher.",
    ),
    groupings={"words": "number of words of the text"},
)
