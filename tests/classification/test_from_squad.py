from itrd_nlp.classification.from_squad import answer_tags, sentence_pairs

CONTEXT = "The Rhine begins in the Alps. It passes Basel (a city). It meets the sea near Rotterdam."


def example(question, answer):
    return {
        "context": CONTEXT,
        "question": question,
        "answers": {"text": [answer], "answer_start": [CONTEXT.index(answer)]},
    }


def test_sentences_with_and_without_the_answer_take_turns():
    examples = [
        example("Where does the Rhine begin?", "the Alps"),
        example("Where does it meet the sea?", "Rotterdam"),
        example("What does it pass?", "Basel"),
    ]
    rows = list(sentence_pairs(examples))
    assert [row["label"] for row in rows] == ["answered", "not_answered", "answered"]
    assert rows[0]["text_pair"] == "The Rhine begins in the Alps."
    assert rows[2]["text_pair"].startswith("It passes Basel")
    # Of those without the answer, the one that shares most words with the question.
    assert "Rotterdam" not in rows[1]["text_pair"]
    assert rows[1]["text_pair"] == "The Rhine begins in the Alps."


def test_an_answer_across_two_sentences_takes_both():
    (row,) = sentence_pairs([example("Where?", "the Alps. It passes Basel")])
    assert row["text_pair"].startswith("The Rhine begins in the Alps. It passes Basel")


def test_a_context_of_one_sentence_gives_the_answer_alone():
    one = {
        "context": "It meets the sea",
        "question": "What does it meet?",
        "answers": {"text": ["the sea"], "answer_start": [9]},
    }
    assert [row["label"] for row in sentence_pairs([one, one])] == ["answered", "answered"]


def test_the_words_of_the_answer_are_tagged_and_those_of_the_question_not_judged():
    (row,) = answer_tags([example("Near where?", "near Rotterdam")])
    judged = [
        (t, label)
        for t, label in zip(row["tokens"], row["labels"], strict=True)
        if label is not None
    ]
    assert row["tokens"][:3] == ["Near", "where", "?"]
    assert row["labels"][:3] == [None, None, None]
    assert [token for token, label in judged if label == "ANSWER"] == ["near", "Rotterdam"]
    assert judged[-1] == (".", "O")
