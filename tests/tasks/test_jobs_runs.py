import json
import re
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModel,
    BartConfig,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    MPNetConfig,
    OPTConfig,
    RobertaConfig,
)
from transformers.trainer_pt_utils import AcceleratorConfig

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.errors import UserError
from itrd_nlp.files import write_json
from itrd_nlp.models.lengths import longest_input
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.publish.model_card import model_card
from itrd_nlp.publish.page import TaskPage
from itrd_nlp.tasks.jobs import runs
from itrd_nlp.tasks.jobs.arguments import StudentArguments, TeacherArguments
from itrd_nlp.tasks.jobs.distil import distil
from itrd_nlp.tasks.jobs.fine_tune import fine_tune
from itrd_nlp.tasks.jobs.run_folder import check_run_folder, finished_run
from itrd_nlp.tasks.jobs.runs import check_best_metric, check_lengths, public_name
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.question_answering.task import QuestionAnswering
from itrd_nlp.tasks.task import Task, TaskData
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.record import RunRecord
from itrd_nlp.training.roles import chosen_arguments


def into(folder, **changes):
    return FineTuningArguments(output_dir=str(folder), report_to="none", **changes)


def test_a_finished_run_is_known_by_its_arguments(tmp_path):
    assert finished_run(into(tmp_path), {"seed": 1}) is None
    write_json(tmp_path / "results.json", {"f1": 50.0, "arguments": {"seed": 1}})
    assert finished_run(into(tmp_path), {"seed": 1}).scores["f1"] == 50.0
    with pytest.raises(UserError, match="holds a finished run with seed = 1, not 2"):
        finished_run(into(tmp_path), {"seed": 2})
    with pytest.raises(UserError, match="with beta_mi = None, not 0"):
        finished_run(into(tmp_path), {"seed": 1, "beta_mi": 0})


@pytest.mark.parametrize("spelling", ["run/", "./run", "{}/run"])
def test_a_finished_run_is_the_same_however_its_folder_is_spelt(tmp_path, monkeypatch, spelling):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    arguments = chosen_arguments([into("run", seed=1)])
    write_json(tmp_path / "run" / "results.json", {"f1": 50.0, "arguments": arguments})
    again = into(spelling.format(tmp_path), seed=1)
    assert finished_run(again, chosen_arguments([again])) is not None


@pytest.mark.parametrize("waits", [True, False])
def test_a_finished_run_is_the_same_on_a_machine_with_another_device(tmp_path, waits):
    """The record is one that an earlier version wrote, which named what the machine had decided."""
    reading = f"{AcceleratorConfig(non_blocking=waits)}"
    machine = {"use_cpu": True, "dataloader_pin_memory": False, "accelerator_config": reading}
    arguments = {"seed": 1, "output_dir": "elsewhere"}
    write_json(tmp_path / "results.json", {"f1": 50.0, "arguments": arguments | machine})
    assert finished_run(into(tmp_path), arguments) is not None
    other = arguments | {"accelerator_config": f"{AcceleratorConfig(even_batches=False)}"}
    with pytest.raises(UserError, match="with accelerator_config = None, not"):
        finished_run(into(tmp_path), other)


def test_a_finished_run_that_may_be_overwritten_is_made_anew_whatever_its_arguments(tmp_path):
    write_json(tmp_path / "results.json", {"f1": 50.0, "arguments": {"seed": 1}})
    for arguments in ({"seed": 1}, {"seed": 2}):
        assert finished_run(into(tmp_path, overwrite_output_dir=True), arguments) is None


def test_results_of_a_run_that_is_overwritten_go_when_the_new_training_begins(tmp_path):
    """They never stand beside other weights, and they are there as long as something can still be refused."""
    args = into(tmp_path, overwrite_output_dir=True)
    write_json(tmp_path / "results.json", {"f1": 50.0})
    for name in ("report.html", "model.safetensors"):
        (tmp_path / name).write_text("of the earlier run")
    (tmp_path / "README.md").write_text(str(model_card(RunRecord(), tmp_path, page=TaskPage())))
    (tmp_path / "analysis").mkdir()
    write_json(tmp_path / "analysis" / "predictions.json", {})
    (tmp_path / "1_Pooling").mkdir()
    for name in ("modules.json", "1_Pooling/config.json"):  # of an embedder
        write_json(tmp_path / name, {})
    check_run_folder(args, [])
    assert finished_run(args, {}) is None
    assert (tmp_path / "results.json").is_file()

    def stopped(**_):
        raise KeyboardInterrupt

    trainer = SimpleNamespace(args=args, is_world_process_zero=lambda: True, train=stopped)
    with pytest.raises(KeyboardInterrupt):
        runs.train(trainer, RunRecord())
    assert {path.name for path in tmp_path.iterdir()} == {".unfinished-run", "model.safetensors"}
    check_run_folder(args, [])  # the same command again


def test_a_card_that_somebody_has_edited_is_not_overwritten_with_its_run(tmp_path):
    write_json(tmp_path / "results.json", {"f1": 50.0})
    (tmp_path / "README.md").write_text("My own words.")
    check_run_folder(into(tmp_path), [])  # it is shown, and nothing is written
    with pytest.raises(UserError, match=r"holds a README\.md that somebody has written or edited"):
        check_run_folder(into(tmp_path, overwrite_output_dir=True), [])


def test_results_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(UserError, match=r"results\.json is no JSON object"):
        finished_run(into(tmp_path), {})


def test_arguments_are_those_that_are_not_their_defaults_and_make_another_experiment(tmp_path):
    args = FineTuningArguments(
        output_dir=str(tmp_path), seed=7, resume_from_checkpoint="true", hub_model_id="me/it"
    )
    chosen = chosen_arguments([args])
    assert chosen["seed"] == 7
    assert not {"resume_from_checkpoint", "hub_model_id", "learning_rate"} & chosen.keys()


def test_a_path_shows_its_last_part_alone(tmp_path):
    assert public_name(str(tmp_path)) == tmp_path.name
    assert public_name("me/a-model") == "me/a-model"


@pytest.mark.parametrize(
    ("config", "most"),
    [
        (BertConfig(max_position_embeddings=64), 64),
        (RobertaConfig(max_position_embeddings=66, pad_token_id=1), 64),
        (MPNetConfig(max_position_embeddings=66, pad_token_id=1), 64),
        (DistilBertConfig(max_position_embeddings=64), 64),
        (GPT2Config(n_positions=64), 64),
        (BartConfig(max_position_embeddings=64, encoder_layers=1, decoder_layers=1), 64),
        (OPTConfig(max_position_embeddings=64, num_hidden_layers=1), 64),
        (LlamaConfig(max_position_embeddings=64, num_hidden_layers=1), None),
        (DebertaV2Config(position_biased_input=False, relative_attention=True), None),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_a_model_takes_as_many_tokens_as_it_has_positions(config, most):
    with torch.device("meta"):
        assert longest_input(AutoModel.from_config(config)) == most


def test_features_that_are_longer_than_the_model_takes_are_refused(make_bert):
    def data(longest):
        rows = Dataset.from_dict({"input_ids": [[5] * 8, [5] * longest]})
        return TaskData(
            examples=[],
            evaluation=rows,
            judge=None,
            signature="",
            collator=None,
            tokenizer=None,
            datasets={},
        )

    check_lengths(make_bert(1, seed=0), data(64))
    with pytest.raises(UserError, match="have 65 tokens, but the model takes 64 at most"):
        check_lengths(make_bert(1, seed=0), data(65))


# ---- the end of a run ----


class OfWords(Task):
    """A task of right and wrong words."""

    name = "words"
    metrics = {"f1": "F1"}  # noqa: RUF012
    main_metric = "f1"
    page = TaskPage()
    head = load = scores = score_file = asked = answerer = head_for = None

    def breakdown(self, answers, data):
        return {"length": {"short": {"questions": len(answers), "f1": 100.0}}}

    def disagreements(self, student, teacher, data):
        return {
            **dict.fromkeys(("questions", "teacher_right", "student_right"), 0),
            **{"both_right": 0, "neither_right": 0, "examples": []},
        }


@pytest.fixture
def write(tmp_path):
    """Write the files of a finished run, with what `runs.write_run` itself takes."""
    record = RunRecord(version=2, task="words", metrics={"f1": "F1"}, scores={"f1": 50.0})

    def write(**kwargs):
        given = {"history": [], "answers": {"a": "yes"}, "teacher_answers": {"a": "no"}} | kwargs
        runs.write_run(tmp_path, OfWords(None), None, record, **given)
        return tmp_path

    return write


def test_a_run_leaves_its_record_card_report_and_analysis(write):
    names = {path.name for path in write().rglob("*") if path.is_file()}
    assert names >= {"results.json", "README.md", "report.html", "breakdown.json"}


@pytest.mark.parametrize(
    ("fails", "missing"),
    [
        ("model_card", "README.md"),
        ("write_report", "report.html"),
        ("breakdown", "breakdown.json"),
    ],
)
def test_what_a_run_can_do_without_is_a_warning_and_costs_no_results(
    fails, missing, write, monkeypatch, caplog
):
    def broken(*_, **__):
        raise RuntimeError("a bug\nof ours")

    monkeypatch.setattr(OfWords if fails == "breakdown" else runs, fails, broken)
    folder = write()
    assert RunRecord.read(folder).scores == {"f1": 50.0}
    assert json.loads((folder / "analysis" / "predictions.json").read_text()) == {"a": "yes"}
    assert missing not in {path.name for path in folder.rglob("*")}
    (warning,) = caplog.messages
    assert warning.endswith("is missing: a bug of ours.")


def test_the_card_of_an_earlier_run_does_not_stand_beside_other_weights(write, monkeypatch):
    card = write() / "README.md"
    monkeypatch.setattr(runs, "model_card", None)
    write()
    assert not card.exists()


def test_a_card_that_was_edited_during_the_run_stays(write):
    card = write() / "README.md"
    card.write_text("my own words")
    write()
    assert card.read_text() == "my own words"


def test_results_are_there_only_after_the_answers(write, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "write_analysis", full)
    with pytest.raises(OSError, match="No space"):
        write()
    assert not (tmp_path / "results.json").exists()


# ---- its beginning ----


def test_a_fact_that_no_record_or_card_can_hold_is_refused_before_the_training(tmp_path):
    args = FineTuningArguments(output_dir=str(tmp_path / "out"))
    data = SimpleNamespace(datasets={})

    def begin(**facts):
        return runs.begin(args, OfWords(None), data, facts)

    assert begin(license="MIT", arguments={"seed": 1}).license == "MIT"
    with pytest.raises(UserError, match=r"out/results\.json: command is .* it should be a valid"):
        begin(command=["train"])
    with pytest.raises(UserError, match=r"the card of .*out cannot be written"):
        begin(command="train \udcff")
    with pytest.raises(UserError, match=r"the card of .*out cannot be written"):
        begin(arguments={"train_file": "\udcff.json"})


@pytest.mark.parametrize("name", ["results.json", "README.md", "report.html"])
def test_a_folder_in_the_place_of_a_file_of_the_end_is_refused_at_the_start(name, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"{re.escape(name)} is no file, but the run writes"):
        finished_run(into(tmp_path), {})


def test_an_output_dir_that_takes_no_files_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is a file, but must be a folder"):
        finished_run(into(tmp_path / "file"), {})
    with pytest.raises(UserError, match="does not let you write"):
        finished_run(into(tmp_path / "file" / "below"), {})
    (tmp_path / "analysis").write_text("")
    with pytest.raises(UserError, match="analysis is a file"):
        finished_run(into(tmp_path), {})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"more_teachers": None}, "more_teachers is "),
        ({"metrics": 5}, "metrics must be an object"),
        ({"metrics": "abc"}, "metrics must be an object"),
        ({"teacher": 3}, "teacher is "),
        ({"layers": "<b>"}, "layers is "),
        ({"f1": "high"}, "f1 is "),
        ({"f1": float("nan")}, "f1 is "),
    ],
)
def test_a_broken_value_of_a_record_is_one_sentence(changes, field, tmp_path):
    write_json(tmp_path / "results.json", {"f1": 50.0} | changes)
    with pytest.raises(UserError, match=field):
        RunRecord.read(tmp_path)


def test_the_best_checkpoint_is_chosen_by_any_metric_of_the_data(tmp_path):
    """Data with unanswerable questions have more metrics than others of the task."""

    def check(*texts):
        rows = [{"answers": {"text": list(text)}} for text in texts]
        args = FineTuningArguments(
            output_dir=str(tmp_path),
            report_to="none",
            save_strategy="best",
            eval_strategy="epoch",
            metric_for_best_model="eval_has_answer_f1",
        )
        task = QuestionAnswering(DataArguments(validation_file="dev.json"))
        check_best_metric(args, task, task.metrics_of(None))
        check_best_metric(args, task, task.metrics_of(SimpleNamespace(examples=rows)))

    check(["Basel"], [])
    with pytest.raises(UserError, match=r"must be one of loss, exact_match, f1\."):
        check(["Basel"])
    with pytest.raises(UserError, match=r"must be one of loss, exact_match, f1, no_answer\."):
        check([])


@pytest.mark.parametrize("job", [fine_tune, distil])
def test_a_metric_that_no_data_have_is_refused_before_a_model_is_loaded(job, tmp_path):
    group = FineTuningArguments if job is fine_tune else ITRDTrainingArguments
    args = group(
        output_dir=str(tmp_path / "run"),
        report_to="none",
        save_strategy="best",
        eval_strategy="epoch",
        metric_for_best_model="eval_f2",
    )
    data = DataArguments(train_file="train.json", validation_file="dev.json")
    model = TeacherArguments("nowhere") if job is fine_tune else StudentArguments("nowhere")
    with pytest.raises(UserError, match=r"metric_for_best_model is .*f2.* must be one of loss, "):
        job(QuestionAnswering(data), model, LoadingArguments(), args)
