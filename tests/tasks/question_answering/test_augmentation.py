"""Questions asked about other contexts of their article."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.question_answering.augmentation import (
    ask_elsewhere,
    ask_in_vain,
    squad_json,
)
from itrd_nlp.tasks.question_answering.read import read_squad


def row(name: str, title: str, context: str) -> dict[str, str]:
    return {"id": name, "title": title, "context": context, "question": f"{name}?"}


RIVERS = [row(f"r{i}", "rivers", f"river {i // 2}") for i in range(8)]  # 4 contexts
CITIES = [row(f"c{i}", "cities", f"city {i}") for i in range(2)]


def test_a_question_is_asked_about_other_contexts_of_its_article_each_once() -> None:
    asked = ask_elsewhere([*RIVERS, *CITIES], per_question=2)
    was = {r["question"]: r for r in [*RIVERS, *CITIES]}
    for new in asked:
        old = was[new["question"]]
        assert new["title"] == old["title"]
        assert new["context"] != old["context"]
        assert new["context"].split()[0] == old["context"].split()[0]
    assert len({(new["question"], new["context"]) for new in asked}) == len(asked)
    assert Counter(new["question"] for new in asked) == {
        **{r["question"]: 2 for r in RIVERS},
        **{r["question"]: 1 for r in CITIES},  # there is one other city
    }
    names = {new["id"] for new in asked}
    assert len(names) == len(asked)
    assert not names & {r["id"] for r in RIVERS}


def test_the_seed_decides_and_every_other_context_can_be_drawn() -> None:
    assert ask_elsewhere(RIVERS, seed=1) == ask_elsewhere(RIVERS, seed=1)
    drawn = {
        new["context"]
        for seed in range(40)
        for new in ask_elsewhere(RIVERS[:1] + RIVERS[2:], seed=seed)
        if new["question"] == "r0?"
    }
    assert drawn == {"river 1", "river 2", "river 3"}


def test_without_another_context_or_a_title_there_is_nothing_to_ask() -> None:
    assert (
        ask_elsewhere([RIVERS[0], RIVERS[1], *(row(f"n{i}", "", f"text {i}") for i in range(3))])
        == []
    )


def test_fewer_than_one_context_is_refused() -> None:
    with pytest.raises(UserError, match="per_question is 0, but must be at least 1"):
        ask_elsewhere(RIVERS, per_question=0)


def test_the_file_reads_as_what_it_was_written_from(tmp_path: Path, cache: Path) -> None:
    asked = ask_elsewhere([*RIVERS, *CITIES], per_question=3)
    file = tmp_path / "elsewhere.json"
    file.write_text(json.dumps(squad_json(asked)))
    read = read_squad(file, split="train", answers=False).to_list()
    assert sorted(read, key=str) == sorted(asked, key=str)


def test_questions_of_a_file_with_answers_lose_them(write_squad: Callable[..., Path]) -> None:
    examples = read_squad(write_squad(articles=3), split="train")
    asked = ask_elsewhere(examples)
    assert asked
    assert set(asked[0]) == {"id", "title", "context", "question"}


def answered(name: str, title: str, context: str, answer: str) -> dict[str, Any]:
    answers = {"text": [answer], "answer_start": [context.index(answer)]}
    return row(name, title, context) | {"answers": answers}


TOWNS = [answered(f"t{i}", "towns", f"town {i} has {i} gates", f"{i} gates") for i in range(8)]


def test_a_share_of_the_questions_is_asked_where_the_answer_is_not() -> None:
    asked = ask_in_vain(TOWNS, share=0.5, seed=3)
    assert [r["question"] for r in asked] == [r["question"] for r in TOWNS]
    vain = [(new, old) for new, old in zip(asked, TOWNS, strict=True) if new != old]
    assert len(vain) == 4
    for new, old in vain:
        assert new["answers"] == {"text": [], "answer_start": []}
        assert new["id"] == f"{old['id']}-in-vain"
        assert new["title"] == old["title"] and new["context"] != old["context"]
        assert old["answers"]["text"][0] not in new["context"]
    assert ask_in_vain(TOWNS, share=0.5, seed=3) == asked
    assert ask_in_vain(TOWNS, share=0) == TOWNS
    assert not any(r["answers"]["text"] for r in ask_in_vain(TOWNS, share=1))


def test_a_context_with_any_true_answer_in_other_letters_is_not_taken() -> None:
    asked = answered("q", "towns", "It has The Seven, gates.", "The Seven, gates")
    asked["answers"]["text"].append("portals")
    there = [answered(n, "towns", c, "x") for n, c in (("a", "x seven GATES"), ("b", "x Portals"))]
    assert ask_in_vain([asked, *there], share=1)[0] == asked  # it keeps its context
    free = answered("c", "towns", "x y z", "x")
    found = ask_in_vain([asked, *there, free], share=1)[0]
    assert found["context"] == "x y z"
    alone = answered("n", "", "n one", "n")
    assert ask_in_vain([alone, free], share=1)[0] == alone  # it belongs to no article


def test_the_file_has_the_form_of_squad_2(tmp_path: Path) -> None:
    asked = ask_in_vain(TOWNS, share=0.5)
    path = tmp_path / "made.json"
    path.write_text(json.dumps(squad_json(asked)))
    assert json.loads(path.read_text())["version"] == "v2.0"
    assert sorted(read_squad(path, split="train").to_list(), key=str) == sorted(asked, key=str)
    with pytest.raises(UserError, match="share is 2, but must be from 0 to 1"):
        ask_in_vain(TOWNS, share=2)
