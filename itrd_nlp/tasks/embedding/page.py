"""Embeddings as card, Hub and report show them."""

from __future__ import annotations

import json
from dataclasses import replace

from itrd_nlp.publish.markdown import fence
from itrd_nlp.publish.page import LossUnits, TaskPage
from itrd_nlp.training.record import RunRecord


def use(name: str, record: RunRecord) -> str:
    """How to encode texts with sentence-transformers.

    Args:
        name: of the model on the Hub, or of its folder.
        record: of the run.
    """
    code = f"""\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer({json.dumps(name)})
query, passage = model.encode(["Where does the Rhine begin?", "The Rhine begins in the Swiss Alps."])
print(query @ passage)  # the vectors have the length 1, so this is their cosine"""
    return (
        "With sentence-transformers:\n\n"
        + fence(code, "python")
        + "\n\nIn transformers alone it is an encoder, whose states you pool as `1_Pooling/config.json` says."
    )


def kd(record: RunRecord) -> str:
    """The KD term of the card's formula."""
    terms = {
        "mse": "mean squared difference of the vectors of teacher and student",
        "similarities": "T² KL(teacher ‖ student) of the similarities in a batch",
    }
    chosen = str(record.objective.get("kd_loss"))
    return terms.get(chosen, "(1 - cosine of the vectors of teacher and student)")


def loss_units(record: RunRecord) -> LossUnits:
    """The axes of the report's curves. The record does not say whether the training data were queries or pairs."""
    kd_units = {"mse": "mean squared difference", "similarities": "T² KL (nats)"}
    return LossUnits("task loss", kd_units.get(str(record.objective.get("kd_loss")), "1 - cosine"))


RETRIEVAL = TaskPage(
    pipeline_tag="sentence-similarity",
    title="sentence embedding",
    unit="queries",
    sources="sources",
    tags=("sentence-transformers", "feature-extraction"),
    kd=kd,
    loss_units=loss_units,
    use=use,
    limits=(
        "The passages to choose from are those of the evaluation queries, not those of a whole search engine.",
    ),
    groupings={"words": "number of words of the query"},
)
SIMILARITY = replace(
    RETRIEVAL,
    unit="pairs",
    limits=(
        "A similarity of two texts has a meaning beside that of two others, and none by itself.",
    ),
    groupings={"score": "true similarity"},
)
