"""An argument says its role once, and everything else follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import pytest
from transformers import HfArgumentParser, TrainingArguments

from itrd_nlp.cli.comparison import setting_of
from itrd_nlp.compare.setting import Setting, Training
from itrd_nlp.distillation.arguments import ITRDTrainingArguments, scalar_objective
from itrd_nlp.distillation.textbrewer_trainer import TextBrewerArguments
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.errors import UserError
from itrd_nlp.publish.model_card import model_card
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.ranges import Range
from itrd_nlp.training.roles import Metadata, Role, chosen_arguments, names_of, role_of


@dataclass
class WithSharpness(ITRDTrainingArguments):
    """An objective with one more argument, as a contributor would add it."""

    sharpness: float = field(
        default=1.0,
        metadata=Metadata(role=Role.OBJECTIVE, range=Range(above=0), help="How sharp. > 0."),
    )


@pytest.fixture
def trainer(tmp_path, teacher, student, make_rows, collate):
    def trainer(**arguments):
        args = WithSharpness(output_dir=str(tmp_path), report_to="none", **arguments)
        return ITRDTrainer(
            student, teacher, args, train_dataset=make_rows(4), data_collator=collate
        )

    return trainer


def test_a_new_argument_of_the_objective_stands_in_the_card(trainer):
    record = trainer(sharpness=3.0).known_record()
    assert record.objective["sharpness"] == 3.0
    assert "| `sharpness` | 3.0 |" in model_card(record).text


def test_a_new_argument_of_the_objective_belongs_to_the_identity_of_a_run(trainer, monkeypatch):
    monkeypatch.setattr("itrd_nlp.distillation.trainer.ITRDTrainingArguments", WithSharpness)
    assert trainer(sharpness=3.0).identity()["sharpness"] == 3.0


def test_a_new_argument_of_the_objective_may_be_chosen_by_a_method_of_a_comparison():
    ours = setting_of("question-answering")
    training = Training("train-squad", (*ours.itrd.groups[:-1], WithSharpness))
    setting = Setting(ours.task, training, None, ours.parse, ours.check_paths)
    assert setting.objective - ours.objective == {"sharpness"}


def test_a_new_argument_of_the_objective_makes_another_run(tmp_path):
    args = WithSharpness(output_dir=str(tmp_path), report_to="none", sharpness=3.0)
    assert chosen_arguments([args])["sharpness"] == 3.0
    assert scalar_objective(args)["sharpness"] == 3.0


def test_a_value_outside_of_the_range_is_refused(tmp_path):
    with pytest.raises(UserError, match="sharpness is 0, but must be a finite number > 0"):
        WithSharpness(output_dir=str(tmp_path), sharpness=0)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("learning_rate", Role.EXPERIMENT),
        ("per_device_train_batch_size", Role.EXPERIMENT),
        ("beta_corr", Role.OBJECTIVE),
        ("peer_losses", Role.OBJECTIVE),
        ("teacher_dtype", Role.EXPERIMENT),
        ("teacher_cache", Role.CACHE),
        ("resume_from_checkpoint", Role.LAUNCH),
        ("report_to", Role.LAUNCH),
        ("hub_model_id", Role.PUBLISHING),
        ("trackio_space_id", Role.PUBLISHING),
        ("hub_token", Role.SECRET),
    ],
)
def test_the_roles_of_well_known_arguments(name, role):
    (argument,) = (f for f in fields(ITRDTrainingArguments) if f.name == name)
    assert role_of(argument) is role


def test_all_arguments_of_both_objectives_that_transformers_does_not_have_say_their_role():
    for group in (ITRDTrainingArguments, TextBrewerArguments):
        own = {f.name for f in fields(group)} - {f.name for f in fields(FineTuningArguments)}
        assert own - names_of(group, Role.OBJECTIVE, Role.CACHE) <= {"teacher_dtype"}


@pytest.mark.parametrize("group", [TrainingArguments, ITRDTrainingArguments, TextBrewerArguments])
def test_the_parser_of_transformers_reads_the_arguments_too(group, tmp_path):
    (args,) = HfArgumentParser(group).parse_args_into_dataclasses(
        ["--output_dir", str(tmp_path), "--seed", "3"]
    )
    assert args.seed == 3
