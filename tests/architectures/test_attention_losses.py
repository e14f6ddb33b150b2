"""Losses that read queries, keys and values take the models that `docs/models.md` names, and refuse the others."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from transformers import default_data_collator
from transformers.models.auto import modeling_auto

from itrd_nlp.errors import UserError
from itrd_nlp.models.attention import attention_projections
from itrd_nlp.models.encode import encode

HEAD = "question answering"
CLASSES = {
    name: found if isinstance(found, str) else found[0]
    for name, found in modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES.items()
}
TAKEN = {
    "bert": "BERT",
    "mpnet": "MPNet",
    "distilbert": "DistilBERT",
    "llama": "Llama",
    "deberta-v2": "DeBERTa-v2",
    "roformer": "RoFormer",
}
REFUSED = {"albert": "ALBERT", "gpt2": "GPT-2", "modernbert": "ModernBERT"}
IN_THE_FIRST_STEP = {"convbert": "ConvBERT", "longformer": "Longformer"}


def answer(name: str, architectures: Any) -> str:
    """Where the losses refuse an architecture, if they do."""
    model = architectures.tiny_model(name, CLASSES[name])
    try:
        attention_projections(model)
    except UserError:
        return "refused"
    batch = default_data_collator(architectures.rows_for(model, HEAD))
    try:
        with torch.no_grad():
            encode(model, batch, [1], attention=True)
    except UserError:
        return "in the first step"
    return "taken"


@pytest.mark.parametrize(
    ("names", "expected"),
    [(TAKEN, "taken"), (REFUSED, "refused"), (IN_THE_FIRST_STEP, "in the first step")],
    ids=["taken", "refused", "in the first step"],
)
def test_the_page_names_what_is_taken_and_what_is_refused(
    names: dict[str, str], expected: str, architectures: Any, pages: Any
) -> None:
    text = " ".join(pages.PAGE.read_text(encoding="utf-8").split())
    paragraph = text.partition("Losses of `peer_losses`")[2].partition(" ## ")[0]
    taken, refused, in_the_first_step, left_out = re.split(r"(?<=\.) ", paragraph)
    said = {
        "taken": taken + left_out,
        "refused": refused,
        "in the first step": in_the_first_step,
    }
    for name, label in names.items():
        assert label in said[expected], label
        assert answer(name, architectures) == expected, name


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(CLASSES) - set(IN_THE_FIRST_STEP)))
def test_no_other_is_refused_in_the_first_step(name: str, architectures: Any) -> None:
    try:
        assert answer(name, architectures) in ("taken", "refused")
    except architectures.CannotBeMade as error:
        pytest.skip(str(error))
