"""Every architecture that the installed transformers lists: each step works, or one sentence refuses it.

There is no third answer: what is neither raises. `docs/models.md` has the outcomes.
"""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
import transformers
from transformers.models.auto import modeling_auto

HEADS = {
    "question answering": modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    "sequence classification": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "token classification": modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    "image classification": modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
}
CASES = [
    (head, name, found if isinstance(found, str) else found[0])
    for head, types in HEADS.items()
    for name, found in types.items()
]
# Four that users have, and some of all others, the same ones each time.
USUAL = [
    case
    for case in CASES
    if case[:2]
    in {
        ("question answering", "bert"),
        ("sequence classification", "modernbert"),
        ("image classification", "resnet"),
        ("image classification", "vit"),
    }
]
DRAWN = random.Random(0).sample([case for case in CASES if case not in USUAL], 6)


def known(head: str, name: str, pages: Any) -> dict[str, str] | None:
    """The recorded outcome. None: it was recorded with another release of transformers."""
    record = json.loads(pages.RECORD.read_text(encoding="utf-8"))
    if record["environment"]["transformers"] != transformers.__version__:
        return None
    outcome: dict[str, str] = record["outcomes"][head][name]
    return outcome


def check(case: tuple[str, str, str], architectures: Any, trials: Any, pages: Any) -> None:
    head, name, class_name = case
    expected = known(head, name, pages)
    if name in architectures.CANNOT:
        with pytest.raises(architectures.CannotBeMade):
            trials.outcome(name, class_name, head)
        assert expected in (None, {"not tried": architectures.CANNOT[name]})
        return
    found = trials.outcome(name, class_name, head)
    assert tuple(found) == trials.STEPS
    assert expected in (None, found)


@pytest.mark.parametrize("case", USUAL + DRAWN, ids=" ".join)
def test_each_step_works_or_is_refused_with_one_sentence(
    case: tuple[str, str, str], architectures: Any, trials: Any, pages: Any
) -> None:
    check(case, architectures, trials, pages)


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in CASES if c not in USUAL + DRAWN], ids=" ".join)
def test_each_step_of_all_others_works_or_is_refused_with_one_sentence(
    case: tuple[str, str, str], architectures: Any, trials: Any, pages: Any
) -> None:
    check(case, architectures, trials, pages)


def test_the_record_has_all_that_transformers_lists_and_no_fault(pages: Any) -> None:
    record = json.loads(pages.RECORD.read_text(encoding="utf-8"))
    if record["environment"]["transformers"] != transformers.__version__:
        pytest.skip("recorded with another release of transformers")
    assert {head: set(types) for head, types in record["outcomes"].items()} == {
        head: set(types) for head, types in HEADS.items()
    }
    found = [one for types in record["outcomes"].values() for one in types.values()]
    assert not [one for one in found if "fault" in one]
    tried = [one for one in found if "not tried" not in one]
    sentences = {text for one in tried for text in one.values() if text != "ok"}
    assert not [text for text in sentences if not re.fullmatch(r"\S+ .*\.", text, re.DOTALL)]


def test_only_these_are_not_tried(architectures: Any, pages: Any) -> None:
    record = json.loads(pages.RECORD.read_text(encoding="utf-8"))
    found = {
        name: one["not tried"]
        for types in record["outcomes"].values()
        for name, one in types.items()
        if "not tried" in one
    }
    assert found == architectures.CANNOT
    assert len(found) <= 5


def test_what_is_common_works_from_its_beginning_to_its_end(pages: Any) -> None:
    record = json.loads(pages.RECORD.read_text(encoding="utf-8"))["outcomes"]
    for name in ("bert", "roberta", "distilbert", "electra", "mpnet", "deberta-v2", "albert"):
        for head in ("question answering", "sequence classification", "token classification"):
            if name in record[head]:
                assert set(record[head][name].values()) == {"ok"}, (head, name)


def test_the_page_is_that_of_the_record(pages: Any) -> None:
    record = json.loads(pages.RECORD.read_text(encoding="utf-8"))
    assert pages.PAGE.read_text(encoding="utf-8") == pages.page(record)
