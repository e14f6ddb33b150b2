"""A forward of as many tokens as `longest_input` names works, and one more token is too many."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.auto import modeling_auto

from itrd_nlp.models.encode import own_inputs
from itrd_nlp.models.lengths import longest_input

CLASSES = {
    name: found if isinstance(found, str) else found[0]
    for types in (
        modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    )
    for name, found in types.items()
}
# Tables of several kinds. Those of the last five have more rows than the model can read, or are no plain embedding.
TABLES = (
    *("bert", "roberta", "gpt2", "bart", "gptj", "ctrl", "canine", "layoutlm"),
    *("nystromformer", "yoso", "mra", "ibert", "led"),
)
LONGER = {"lxmert", "tapas"}  # they count one position less, or begin anew in each cell of a table
WITHOUT = {"mpt", "reformer"}  # they have a limit and no table of positions


def runs(model: Any, length: int) -> bool:
    ids = torch.randint(5, 60, (1, length), generator=torch.Generator().manual_seed(0))
    ids[:, [1, 2, -1]] = 2  # some heads look for the end of a text
    given = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "bbox": torch.tensor([1, 2, 30, 40]).repeat(1, length, 1),
        "visual_feats": torch.zeros(1, 2, 8),
        "visual_pos": torch.zeros(1, 2, 4),
    }
    try:
        with torch.no_grad():
            model(**own_inputs(model, given))
    except (IndexError, RuntimeError, ValueError):
        return False
    return True


def check(name: str, architectures: Any) -> None:
    try:
        model = architectures.tiny_model(name, CLASSES[name])
    except architectures.CannotBeMade as error:
        pytest.skip(str(error))
    longest = longest_input(model)
    if longest is None:
        assert name in WITHOUT or runs(model, 130)
        return
    assert runs(model, longest)
    assert name in LONGER or not runs(model, longest + 1)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_positions_is_read_to_its_end(name: str, architectures: Any) -> None:
    check(name, architectures)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(CLASSES) - set(TABLES)))
def test_so_is_that_of_every_other_architecture(name: str, architectures: Any) -> None:
    check(name, architectures)
