"""Fine-tune a small reader, distil it, and ask the student, all by the jobs that the commands call.

    python examples/distil_question_answering.py

The jobs write checkpoint, card, results.json and report.html. Texts, vocabulary and encoder are made here; yours are a
file in SQuAD's format and an encoder by name.
"""

import json
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from itrd_nlp import ITRDTrainingArguments, load_pipeline
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks.jobs.arguments import StudentArguments, TeacherArguments
from itrd_nlp.tasks.jobs.distil import distil
from itrd_nlp.tasks.jobs.fine_tune import fine_tune
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.question_answering.task import QuestionAnswering
from itrd_nlp.training.arguments import FineTuningArguments

PEOPLE, PLACES = "ann bob eva tom ida leo".split(), "rome oslo bern lima cairo paris".split()


def squad(pairs: list[tuple[int, int]]) -> str:
    """A file in SQuAD's format: one person lives in one place, another one in another."""
    paragraphs = []
    for i, (a, b) in enumerate(pairs):
        context = f"{PEOPLE[a]} lives in {PLACES[b]} and {PEOPLE[b]} lives in {PLACES[a]}"
        answer = {"text": PLACES[b], "answer_start": context.index(PLACES[b])}
        question = {"id": str(i), "question": f"where does {PEOPLE[a]} live ?", "answers": [answer]}
        paragraphs.append({"context": context, "qas": [question]})
    return json.dumps({"version": "1.1", "data": [{"title": "homes", "paragraphs": paragraphs}]})


torch.manual_seed(0)
out = Path("out")
out.mkdir(exist_ok=True)
pairs = [(a, b) for a in range(6) for b in range(6) if a != b]
(out / "train.json").write_text(squad(pairs[:24]))
(out / "dev.json").write_text(squad(pairs[24:]))
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PEOPLE, *PLACES, *"where does live lives in and ?".split()]
tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
tiny = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.2}
config = BertConfig(vocab_size=len(words), **tiny, **still)
for part in (BertModel(config), tokenizer):
    part.save_pretrained("out/encoder")

task = QuestionAnswering(DataArguments("out/train.json", validation_file="out/dev.json", max_length=64, doc_stride=16))
common = {"max_steps": 120, "learning_rate": 2e-3, "save_strategy": "no", "report_to": "none", "logging_steps": 60}
fine_tune(task, TeacherArguments("out/encoder"), LoadingArguments(), FineTuningArguments("out/reader", **common))
student = StudentArguments("out/reader", num_layers=2)
record = distil(task, student, LoadingArguments(), ITRDTrainingArguments("out/student", **common))

qa = load_pipeline("out/student")
answer = qa(question="where does tom live ?", context="tom lives in lima and eva lives in oslo")["answer"]
print(f"F1 is {record.scores['f1']:.0f} with {record.layers} layers; tom lives in {answer}")
