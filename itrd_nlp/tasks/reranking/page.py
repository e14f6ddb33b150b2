"""Reranking as card, Hub and report show it."""

from __future__ import annotations

import json

from itrd_nlp.publish.markdown import fence
from itrd_nlp.publish.page import LossUnits, TaskPage
from itrd_nlp.training.record import RunRecord


def use(name: str, record: RunRecord) -> str:
    """How to score pairs, with sentence-transformers and with transformers alone.

    Args:
        name: of the model on the Hub, or of its folder.
        record: of the run.
    """
    quoted = json.dumps(name)
    sentences = f"""\
from sentence_transformers import CrossEncoder

model = CrossEncoder({quoted})
passages = ["The Rhine begins in the Swiss Alps.", "Basel is a city."]
print(model.rank("Where does the Rhine begin?", passages, return_documents=True))"""
    plain = f"""\
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({quoted})
model = AutoModelForSequenceClassification.from_pretrained({quoted})
inputs = tokenizer(["Where does the Rhine begin?"] * 2, passages, padding=True, truncation=True, return_tensors="pt")
with torch.inference_mode():
    print(model(**inputs).logits.squeeze(-1))  # the larger, the more relevant"""
    return (
        "With sentence-transformers:\n\n"
        + fence(sentences, "python")
        + "\n\nWith transformers alone:\n\n"
        + fence(plain, "python")
    )


def kd(record: RunRecord) -> str:
    """The KD term of the card's formula."""
    whose = (
        "scores of the training file" if record.objective.get("teacher_scores") == "file" else ""
    )
    if record.objective.get("kd_loss") == "margin_mse":
        return f"MarginMSE({whose or 'teacher'}, student)"
    return f"T² KL({whose or 'teacher'} ‖ student) over the passages of a query"


def loss_units(record: RunRecord) -> LossUnits:
    """The axes of the report's curves. The pointwise loss is a cross entropy, too."""
    if record.objective.get("kd_loss") == "margin_mse":
        return LossUnits(kd="squared difference of margins")
    return LossUnits()


PAGE = TaskPage(
    pipeline_tag="text-ranking",
    title="reranking",
    unit="queries",
    sources="sources",
    tags=("cross-encoder", "reranker", "sentence-transformers"),
    kd=kd,
    loss_units=loss_units,
    use=use,
    limits=(
        "The model compares the passages of one query; a score says nothing about another query's passages.",
        "Its figures are of passages that somebody has chosen; a search that misses the passage is not in them.",
    ),
    groupings={"words": "number of words of the query", "passages": "number of passages"},
)
