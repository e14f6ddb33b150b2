import json

import pytest
import torch

from itrd_nlp.models import LoadingArguments
from itrd_nlp.question_answering import workflows
from itrd_nlp.question_answering.data import DataArguments, load_evaluation_data
from itrd_nlp.question_answering.workflows import StudentArguments, distil, evaluate_model
from itrd_nlp.training_args import FineTuningArguments, ITRDTrainingArguments


@pytest.fixture
def model(bert_tokenizer, make_bert):
    sizes = {"vocab_size": len(bert_tokenizer), "max_position_embeddings": 512}
    return make_bert(2, seed=0, **sizes).eval()


def test_evaluating_a_model_leaves_it_as_it_was(model, bert_tokenizer, write_squad, tmp_path):
    data = DataArguments(validation_file=str(write_squad()), max_length=128, doc_stride=32)
    evaluation = load_evaluation_data(data, bert_tokenizer)
    args = FineTuningArguments(
        output_dir=str(tmp_path / "out"), bf16=True, emulate_bf16=True, report_to="none"
    )
    ids = torch.arange(8)[None]
    before = model(ids)
    results = evaluate_model(model, evaluation, bert_tokenizer, args)
    assert 0 <= results["exact_match"] <= results["f1"] <= 100
    assert results["questions"] == len(evaluation.examples) == len(evaluation.metrics.predictions)
    model.eval()
    after = model.to(torch.bfloat16)(ids, output_hidden_states=[1], return_dict=True)
    assert after.start_logits.dtype == torch.bfloat16  # not turned into fp32
    assert torch.equal(
        model.float()(ids).start_logits.bfloat16().argmax(), before.start_logits.argmax()
    )


def test_the_signature_is_that_of_questions_windows_and_decoding(bert_tokenizer, write_squad):
    def signature(path, **kwargs):
        data = DataArguments(
            validation_file=str(path), **({"max_length": 128, "doc_stride": 32} | kwargs)
        )
        return load_evaluation_data(data, bert_tokenizer).signature

    first = write_squad(name="a.json", seed=0)
    assert signature(first) == signature(write_squad(name="b.json", seed=0))
    others = [
        signature(write_squad(name="c.json", seed=1)),
        signature(first, max_length=96),
        signature(first, max_answer_length=5),
        signature(first, max_eval_samples=3),
    ]
    assert len({signature(first), *others}) == 5


@pytest.fixture
def distil_into(model, bert_tokenizer, write_squad, tmp_path):
    """Distil one layer of the same teacher into a folder, with a teacher cache; what the run's own record says."""
    model.save_pretrained(tmp_path / "teacher")
    bert_tokenizer.save_pretrained(tmp_path / "teacher")
    file = str(write_squad())

    def distil_into(name, **kwargs):
        data = DataArguments(
            train_file=file, validation_file=file, max_length=128, doc_stride=32, **kwargs
        )
        args = ITRDTrainingArguments(
            output_dir=str(tmp_path / name),
            max_steps=1,
            teacher_cache="on",
            teacher_cache_dir=str(tmp_path / "cache"),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        teacher = StudentArguments(teacher=str(tmp_path / "teacher"), num_layers=1)
        results = distil(teacher, LoadingArguments(), data, args)
        answers = tmp_path / name / "analysis" / "teacher_predictions.json"
        return results["teacher"], json.loads(answers.read_text())

    return distil_into


def test_runs_that_share_a_cache_evaluate_their_teacher_once_for_the_same_questions(
    distil_into, monkeypatch
):
    evaluated = []

    def remember(*args):
        evaluated.append(args)
        return evaluate_model(*args)

    monkeypatch.setattr(workflows, "evaluate_model", remember)
    first, answers = distil_into("a")
    again, same_answers = distil_into("b")
    assert len(evaluated) == 1
    timed = "ms_per_question"
    assert {**first, timed: 0} == {**again, timed: 0}
    assert answers == same_answers and len(answers) == first["questions"]
    distil_into("c", max_eval_samples=2)
    assert len(evaluated) == 2
