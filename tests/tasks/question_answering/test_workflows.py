import json
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.textbrewer_trainer import TextBrewerArguments
from itrd_nlp.errors import UserError
from itrd_nlp.files import write_json
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks.jobs import distil as distillation
from itrd_nlp.tasks.jobs import evaluate as evaluation
from itrd_nlp.tasks.jobs.arguments import StudentArguments, TeacherArguments
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.question_answering.data import load_evaluation_data
from itrd_nlp.tasks.question_answering.read import read_squad
from itrd_nlp.training.arguments import FineTuningArguments

sys.path.insert(0, str(Path(__file__).parents[1]))  # test folders are no packages

from workflows import distil, evaluate_model, fine_tune

ONE_STEP = {"max_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True}


@pytest.fixture
def model(bert_tokenizer, make_bert):
    sizes = {"vocab_size": len(bert_tokenizer), "max_position_embeddings": 512}
    return make_bert(2, seed=0, **sizes).eval()


@pytest.fixture
def teacher_folder(model, bert_tokenizer, tmp_path):
    model.save_pretrained(tmp_path / "teacher")
    bert_tokenizer.save_pretrained(tmp_path / "teacher")
    return str(tmp_path / "teacher")


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
def distil_into(teacher_folder, write_squad, tmp_path):
    """Distil one layer of the same teacher into a folder, with a teacher cache; what the run's own record says."""
    file = str(write_squad())

    def distil_into(name, **kwargs):
        data = DataArguments(
            train_file=file, validation_file=file, max_length=128, doc_stride=32, **kwargs
        )
        args = ITRDTrainingArguments(
            output_dir=str(tmp_path / name),
            teacher_cache="on",
            teacher_cache_dir=str(tmp_path / "cache"),
            **ONE_STEP,
        )
        teacher = StudentArguments(teacher=teacher_folder, num_layers=1)
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
        return judge(*args)

    judge = evaluation.judge
    monkeypatch.setattr(evaluation, "judge", remember)
    first, answers = distil_into("a")
    again, same_answers = distil_into("b")
    assert len(evaluated) == 1
    timed = "ms_per_question"
    assert {**first, timed: 0} == {**again, timed: 0}
    assert answers == same_answers and len(answers) == first["questions"]
    distil_into("c", max_eval_samples=2)
    assert len(evaluated) == 2


def test_the_license_of_a_teacher_is_an_identifier_on_the_card_of_its_student(
    distil_into, teacher_folder, tmp_path
):
    card = Path(teacher_folder) / "README.md"
    card.write_text("---\nlicense: CC BY-SA 4.0\n---\n")
    distil_into("out")
    assert "license: cc-by-sa-4.0" in (tmp_path / "out" / "README.md").read_text()
    assert (tmp_path / "out" / "report.html").exists()


def test_a_run_on_a_folder_names_no_data_set_of_the_hub(teacher_folder, write_squad, tmp_path):
    """The folder is called like one. The record has its name without the folders above it."""
    folder = tmp_path / "ada" / "squad"
    folder.mkdir(parents=True)
    for split in ("train", "validation"):
        rows = read_squad(write_squad(), split=split)
        rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    sizes = {"max_length": 128, "doc_stride": 32}
    data = DataArguments(train_file=str(folder), validation_file=str(folder), **sizes)
    args = ITRDTrainingArguments(output_dir=str(tmp_path / "out"), teacher_cache="off", **ONE_STEP)
    teacher = StudentArguments(teacher=teacher_folder, num_layers=1)
    record = distil(teacher, LoadingArguments(), data, args)
    assert record["datasets"]["train"] == {
        "name": "squad",
        "file": True,
        "questions": len(rows),
        "subset": False,
    }
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.get("datasets") is None and card.data.get("language") is None


def test_answers_of_a_teacher_that_are_none_are_refused_before_the_training(
    distil_into, teacher_folder, tmp_path, monkeypatch
):
    judged, found = distil_into("first")
    write_json(Path(teacher_folder) / "results.json", judged)
    answers = Path(teacher_folder) / "analysis" / "predictions.json"
    answers.parent.mkdir()
    write_json(answers, dict.fromkeys(found, 5))
    monkeypatch.setattr(distillation.ITRDTrainer, "train", None)
    with pytest.raises(UserError, match=r"predictions\.json: an answer is none of the task"):
        distil_into("second")
    assert not (tmp_path / "second" / "model.safetensors").exists()


def test_questions_that_are_trained_on_and_judged_on_are_counted_in_a_warning(
    distil_without_answers, write_squad, caplog
):
    """Without answers, which hides them from the eye; other questions about other contexts are no reason to warn."""
    other = str(write_squad(seed=1, name="other.json"))
    distil_without_answers(w_task=0.0, data={"validation_file": other}, output="other")
    assert not any("trained on, too" in message for message in caplog.messages)
    distil_without_answers(w_task=0.0)
    assert any(
        message.startswith("18 of the 18 questions of")
        and "dev.json are trained on, too" in message
        for message in caplog.messages
    )


def test_the_seed_decides_what_a_head_starts_from(model, bert_tokenizer, write_squad, tmp_path):
    model.bert.save_pretrained(tmp_path / "encoder")
    bert_tokenizer.save_pretrained(tmp_path / "encoder")
    file = str(write_squad())
    data = DataArguments(train_file=file, validation_file=file, max_length=128, doc_stride=32)

    def head(name, seed):
        torch.seed()  # whatever drew before
        args = FineTuningArguments(
            output_dir=str(tmp_path / name),
            seed=seed,
            **ONE_STEP,
        )
        fine_tune(TeacherArguments(str(tmp_path / "encoder")), LoadingArguments(), data, args)
        return load_file(tmp_path / name / "model.safetensors")["qa_outputs.weight"]

    first = head("a", 1)
    assert torch.equal(first, head("b", 1))
    assert not torch.allclose(first, head("c", 2), atol=1e-3)


@pytest.fixture
def distil_from_two(teacher_folder, make_bert, bert_tokenizer, write_squad, tmp_path):
    """Distil one layer of two teachers, the second of which has the tokenizer given."""
    sizes = {"vocab_size": len(bert_tokenizer), "max_position_embeddings": 512}
    second = make_bert(4, seed=5, **sizes)
    second.save_pretrained(tmp_path / "second")
    file = str(write_squad())

    def run(tokenizer, args_class=ITRDTrainingArguments):
        tokenizer.save_pretrained(tmp_path / "second")
        args = args_class(
            output_dir=str(tmp_path / "out"),
            **ONE_STEP,
        )
        models = StudentArguments(
            teacher=teacher_folder,
            more_teachers=[str(tmp_path / "second")],
            num_layers=1,
        )
        data = DataArguments(train_file=file, validation_file=file, max_length=128, doc_stride=32)
        return distil(models, LoadingArguments(), data, args)

    return run


def test_a_second_teacher_is_in_the_record_and_on_the_card(
    distil_from_two, bert_tokenizer, tmp_path
):
    results = distil_from_two(bert_tokenizer)
    assert [(t["name"], t["layers"]) for t in results["more_teachers"]] == [("second", 4)]
    assert results["teacher"]["layers"] == 2
    card = (tmp_path / "out" / "README.md").read_text()
    assert "KD learns from the mean prediction of the teacher and of second." in card


def test_a_second_teacher_that_reads_other_ids_is_refused(distil_from_two, roberta_tokenizer):
    with pytest.raises(UserError, match=r"the vocabularies of teacher .*second .* differ"):
        distil_from_two(roberta_tokenizer)


def test_textbrewer_takes_one_teacher(distil_from_two, bert_tokenizer):
    pytest.importorskip("textbrewer")
    with pytest.raises(UserError, match="TextBrewer's distiller takes one teacher"):
        distil_from_two(bert_tokenizer, TextBrewerArguments)


@pytest.fixture
def distil_without_answers(teacher_folder, write_squad, squad_content, tmp_path):
    """Distil one layer on a file whose questions have no answers; the content of results.json."""
    validation = str(write_squad(name="dev.json"))
    for article in squad_content["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                del qa["answers"]
    questions = str(write_squad(squad_content, name="questions.json"))

    def run(data=None, args_class=ITRDTrainingArguments, output="out", **arguments):
        sizes = {"max_length": 128, "doc_stride": 32}
        files = {"unlabelled_file": questions, "validation_file": validation}
        data = DataArguments(**(files | sizes | (data or {})))
        args = args_class(
            output_dir=str(tmp_path / output),
            **ONE_STEP,
            **arguments,
        )
        teacher = StudentArguments(teacher=teacher_folder, num_layers=1)
        return distil(teacher, LoadingArguments(), data, args)

    return run


def test_a_teacher_teaches_on_questions_without_answers(distil_without_answers, tmp_path):
    results = distil_without_answers(w_task=0.0)
    assert set(results["datasets"]) == {"unlabelled", "validation"}
    taught_on = results["datasets"]["unlabelled"]
    assert taught_on["name"] == "questions.json" and taught_on["questions"] > 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{taught_on['questions']} questions of questions.json" in card


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "w_task is 1.0, but train_file is not set"),
        ({"w_kd": 0, "beta_corr": 0, "beta_mi": 0}, "nothing is learned from it"),
        (
            {"args_class": TextBrewerArguments, "hard_label_weight": 0.5},
            "hard_label_weight is 0.5, but the questions of unlabelled_file have no answers",
        ),
        (
            {"w_task": 0, "data": {"holdout_questions": 5}},
            "but train_file is not, so there is noth",
        ),
    ],
)
def test_an_objective_that_needs_answers_is_refused(
    distil_without_answers, tmp_path, arguments, message
):
    with pytest.raises(UserError, match=message):
        distil_without_answers(**arguments)
    assert not (tmp_path / "out" / "results.json").exists()


def test_a_teacher_cannot_be_made_of_questions_without_answers(write_squad, tmp_path):
    data = DataArguments(train_file="a.json", unlabelled_file=str(write_squad()))
    args = FineTuningArguments(output_dir=str(tmp_path / "out"), report_to="none")
    with pytest.raises(UserError, match="unlabelled_file is set, but without a teacher"):
        fine_tune(TeacherArguments("bert"), LoadingArguments(), data, args)
