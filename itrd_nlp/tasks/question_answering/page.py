"""Question answering as card, Hub and report show it."""

from __future__ import annotations

import json

from itrd_nlp.publish.markdown import fence
from itrd_nlp.publish.page import KnownData, TaskPage
from itrd_nlp.tasks.offline_assets import ASSETS
from itrd_nlp.tasks.question_answering.arguments import (
    MAX_ANSWER_LENGTH,
    MAX_LENGTH,
    THRESHOLD_FIELD,
)
from itrd_nlp.training.record import RunRecord

SQUAD = KnownData(
    hub_id="rajpurkar/squad",
    name="SQuAD 1.1",
    sha256={
        ASSETS["squad"].files["train-v1.1.json"]: "train",
        ASSETS["squad"].files["dev-v1.1.json"]: "validation",
    },
    aliases=frozenset({"squad"}),
    language="en",
    limits=(
        "SQuAD 1.1 is English Wikipedia, and each of its questions has an answer in its context: other languages and "
        "other kinds of text are not tested, and the model answers also where the context has no answer."
    ),
)
SQUAD_2 = KnownData(
    hub_id="rajpurkar/squad_v2",
    name="SQuAD 2.0",
    sha256={  # of train-v2.0.json and dev-v2.0.json
        "68dcfbb971bd3e96d5b46c7177b16c1a4e7d4bdef19fb204502738552dede002": "train",
        "80a5225e94905956a6446d296ca1093975c4d3b3260f1d6c8f68bc2ab77182d8": "validation",
    },
    aliases=frozenset({"squad_v2"}),
    language="en",
    limits=(
        "SQuAD 2.0 is English Wikipedia, and people wrote its unanswerable questions to look like the others: other "
        "languages and other kinds of text are not tested."
    ),
)
CMRC = KnownData(
    hub_id="hfl/cmrc2018",
    name="CMRC 2018",
    aliases=frozenset({"cmrc2018"}),
    language="zh",
    limits=(
        "CMRC 2018 is Chinese Wikipedia, and each of its questions has an answer in its context: other languages and "
        "other kinds of text are not tested, and the model answers also where the context has no answer."
    ),
)


def use(name: str, record: RunRecord) -> str:
    """How to ask the model, with transformers alone and with this package.

    Args:
        name: of the model on the Hub, or of its folder.
        record: of the run.
    """
    quoted = json.dumps(name)
    max_length = int(record.arguments.get("max_length", MAX_LENGTH))
    longest = int(record.arguments.get("max_answer_length", MAX_ANSWER_LENGTH))
    option = "" if longest == MAX_ANSWER_LENGTH else f", max_answer_len={longest}"
    threshold = (record.decoding or {}).get(THRESHOLD_FIELD)
    about = "" if threshold is None else _about_threshold(threshold, record)
    about_spans = f"at most {longest} tokens, the end not before the start"
    plain = f"""\
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({quoted})
model = AutoModelForQuestionAnswering.from_pretrained({quoted})

question = "Where does the Rhine begin?"
context = "The Rhine begins in the Swiss Alps and flows to the North Sea."
inputs = tokenizer(question, context, truncation="only_second", max_length={max_length},
                   return_offsets_mapping=True, return_tensors="pt")
offsets = inputs.pop("offset_mapping")[0]
outside = torch.tensor([part != 1 for part in inputs.sequence_ids(0)])
with torch.inference_mode():
    output = model(**inputs)
start = output.start_logits[0].masked_fill(outside, -torch.inf)
end = output.end_logits[0].masked_fill(outside, -torch.inf)
scores = start.unsqueeze(1) + end
allowed = torch.ones_like(scores).triu().tril({longest - 1}).bool()  # {about_spans}
{_last_lines(threshold)}"""
    pipeline = f"""\
from itrd_nlp import load_pipeline

answer = load_pipeline({quoted}{option})(question=question, context=context)
print(answer["answer"], answer["score"], answer["start"], answer["end"])"""
    return (
        f"{about}With transformers alone:\n\n"
        + fence(plain, "python")
        + "\n\nWith `itrd_nlp`, which also reads long contexts in windows and gives a score between 0 and 1:\n\n"
        + fence(pipeline, "python")
    )


def _last_lines(threshold: float | None) -> str:
    """The end of the example: from the scores of all spans to the answer."""
    scores = "scores.masked_fill(~allowed, -torch.inf)"
    text = "context[offsets[first][0] : offsets[last][1]]"
    if threshold is None:
        return f"first, last = divmod({scores}.argmax().item(), len(end))\nprint({text})"
    return f"""\
scores = {scores}
first, last = divmod(scores.argmax().item(), len(end))
ahead = output.start_logits[0, 0] + output.end_logits[0, 0] - scores.max()  # of the best span: no answer
threshold = model.config.{THRESHOLD_FIELD}  # {threshold:.6g}
print("" if ahead > threshold else {text})"""


def _about_threshold(threshold: float, record: RunRecord) -> str:
    """Sentences about when the answer is empty."""
    found = record.datasets.get("threshold")
    how = ""
    if found is not None:
        how = f" It was found on {found.questions:,} questions of the training file that were set aside for it."
    return (
        f'The answer is "" where the score of no answer is more than {threshold:.6g} above that of the best span. This '
        f"threshold stands in `config.json` as `{THRESHOLD_FIELD}`.{how}\n\n"
    )


PAGE = TaskPage(
    pipeline_tag="question-answering",
    title="extractive question answering",
    unit="questions",
    sources="articles",
    tags=("extractive-question-answering",),
    data=(SQUAD, SQUAD_2, CMRC),
    use=use,
    limits=(
        "The model marks a span of the context it is given; it knows and writes nothing else.",
    ),
    groupings={"question_type": "type of question", "answer_length": "length of the answer"},
    groups_note=(
        "The type of a question is its first question word; the length of an answer is that of its first reference."
    ),
)
