from itrd_nlp.tasks.classification.from_squad import name_spans, punctuation_marks, sentence_pairs

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


def test_words_lose_their_marks_which_become_their_labels():
    context = 'In 1,000 B.C. Ann\'s "well-known" army, it is said, left (for Rome!). Did it? Yes'
    (row,) = punctuation_marks([{"context": context}])
    found = list(zip(row["tokens"], row["labels"], strict=True))
    assert found == [
        ("in", "O"),
        ("1,000", "O"),
        ("b.c", "PERIOD"),
        ("ann's", "O"),
        ("well-known", "O"),
        ("army", "COMMA"),
        ("it", "O"),
        ("is", "O"),
        ("said", "COMMA"),
        ("left", "O"),
        ("for", "O"),
        ("rome", "PERIOD"),
        ("did", "O"),
        ("it", "PERIOD"),
        ("yes", "O"),
    ]


def test_a_mark_without_a_space_after_it_is_none():
    context = 'wait?what "now!"then (no,)yes (so.) end,'
    (row,) = punctuation_marks([{"context": context}])
    assert dict(zip(row["tokens"], row["labels"], strict=True)) == {
        **dict.fromkeys(("wait", "what", "now", "then", "no", "yes"), "O"),
        "so": "PERIOD",
        "end": "COMMA",
    }


def test_a_context_of_many_questions_gives_one_row():
    one, other = {"context": CONTEXT}, {"context": "Nothing, at all."}
    rows = list(punctuation_marks([one, one, other, one, {"context": "..."}]))
    assert [len(row["tokens"]) for row in rows] == [17, 3]
    assert rows[1]["labels"] == ["COMMA", "O", "PERIOD"]


def test_names_are_runs_of_words_with_a_capital_also_at_the_begin_where_the_text_says_so():
    context = "Ada Byron met Charles. The rest met Ada, too. Later the Charles Babbage machine came. Charles!"
    rows = name_spans([{"context": context}, {"context": context}])
    found = {" ".join(row["tokens"]): " ".join(row["labels"]) for row in rows}
    assert found == {
        "ada byron met charles .": "B-NAME I-NAME O B-NAME O",
        "the rest met ada , too .": "O O O B-NAME O O O",
        "later the charles babbage machine came .": "O O B-NAME I-NAME O O O",
        "charles !": "B-NAME O",
    }
    assert len(rows) == 4  # each context once
    assert name_spans([{"context": context}]) == rows
