import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModel,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    MPNetConfig,
    RobertaConfig,
)

from itrd_nlp.errors import UserError
from itrd_nlp.files import write_json
from itrd_nlp.models.encode import longest_input
from itrd_nlp.tasks.jobs.runs import check_lengths, finished_run, public_name
from itrd_nlp.tasks.task import TaskData
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.roles import chosen_arguments


def test_a_finished_run_is_known_by_its_arguments(tmp_path):
    assert finished_run(str(tmp_path), {"seed": 1}) is None
    write_json(tmp_path / "results.json", {"f1": 50.0, "arguments": {"seed": 1}})
    assert finished_run(str(tmp_path), {"seed": 1}).scores["f1"] == 50.0
    with pytest.raises(UserError, match="holds a finished run with seed = 1, not 2"):
        finished_run(str(tmp_path), {"seed": 2})
    with pytest.raises(UserError, match="with beta_mi = None, not 0"):
        finished_run(str(tmp_path), {"seed": 1, "beta_mi": 0})


def test_results_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(UserError, match=r"results\.json is no JSON object"):
        finished_run(str(tmp_path), {})


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
