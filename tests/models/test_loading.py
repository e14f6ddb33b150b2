"""Models of others: every defect of a folder is one sentence, and a path that is wrong asks nobody."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForTokenClassification,
    BertForMaskedLM,
    BertModel,
    RoFormerConfig,
    RoFormerForMaskedLM,
    RoFormerModel,
)

from itrd_nlp.errors import UserError
from itrd_nlp.models import loading
from itrd_nlp.models.loading import load_model, load_tokenizer
from itrd_nlp.models.masked_lm import AutoModelForMaskedLM, AutoModelForStates
from itrd_nlp.models.options import LoadingArguments

DEEP = "[" * 100_000


@pytest.fixture
def folder(make_reader: Any, tmp_path: Path) -> Path:
    for part in make_reader(["a", "b"], 2, max_position_embeddings=64):
        part.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def load(folder: Path) -> None:
    load_model(
        str(folder), role="teacher", args=LoadingArguments(), head=AutoModelForQuestionAnswering
    )


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def evil_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil()}))


def torch_pickle(folder: Path) -> None:
    torch.save({"a": Evil()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def empty_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")


def short_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "spoil",
    [
        evil_pickle,
        torch_pickle,
        empty_pickle,
        short_weights,
        lambda folder: (folder / "config.json").write_text(DEEP),
        lambda folder: (folder / "config.json").write_text("[]"),
        lambda folder: (folder / "config.json").write_text("9" * 5000),
        lambda folder: config(folder, hidden_size="many"),
        lambda folder: config(folder, hidden_size=64),
        lambda folder: config(folder, num_hidden_layers=None),
        lambda folder: config(folder, model_type=5),
        lambda folder: config(folder, hidden_act="unheard"),
    ],
)
def test_a_damaged_model_is_one_sentence_and_runs_no_code(
    spoil: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(folder)
    with pytest.raises(UserError, match=r"teacher .*model cannot be loaded: .") as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert not Path("ran").exists()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [DEEP, "[]", "{", '{"model": 5}', "\ud800"])
def test_a_damaged_tokenizer_is_one_sentence(name: str, content: str, folder: Path) -> None:
    (folder / name).write_text(content, encoding="utf-8", errors="surrogatepass")
    if (name, content) == ("tokenizer_config.json", '{"model": 5}'):
        return  # an option that no tokenizer has is none of its defects
    with pytest.raises(UserError, match=r"the tokenizer of .* cannot be loaded: .") as caught:
        load_tokenizer(str(folder), LoadingArguments())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["runs/studnet", "./studnet", "~/studnet", "/studnet", "runs/a/studnet"]
)
def test_a_path_that_does_not_exist_asks_no_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    monkeypatch.setattr(loading, "AutoConfig", None)
    with pytest.raises(UserError, match=f"teacher {name} does not exist"):
        load(Path(name) if not name.startswith(".") else name)  # type: ignore[arg-type]


def test_the_weights_of_the_folder_are_loaded(folder: Path) -> None:
    model = load_model(
        str(folder), role="teacher", args=LoadingArguments(), head=AutoModelForQuestionAnswering
    )
    stored = load_file(folder / "model.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())


def test_the_load_report_of_transformers_is_left_out_and_its_other_messages_are_not(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    AutoModelForQuestionAnswering.from_pretrained(folder).base_model.save_pretrained(folder)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    logger = logging.getLogger("transformers.modeling_utils")
    AutoModelForQuestionAnswering.from_pretrained(folder)
    assert "LOAD REPORT" in caplog.text  # otherwise this test could not fail
    caplog.clear()
    for role in ("encoder", "student"):
        load_model(
            str(folder), role=role, args=LoadingArguments(), head=AutoModelForQuestionAnswering
        )
        logger.warning("of %s", role)
    assert "LOAD REPORT" not in caplog.text
    assert "of encoder" in caplog.text
    assert caplog.text.count("its checkpoint lacks qa_outputs.bias and 1 more. What it lacks") == 1
    AutoModelForQuestionAnswering.from_pretrained(folder)
    assert "LOAD REPORT" in caplog.text


def test_a_checkpoint_without_a_masked_lm_head_is_not_called_corrupted(
    tmp_path: Path,
    make_config: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    BertModel(make_config(1)).save_pretrained(tmp_path)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    BertForMaskedLM.from_pretrained(tmp_path)
    assert "corrupted" in caplog.text  # otherwise this test could not fail
    caplog.clear()
    load_model(str(tmp_path), role="encoder", args=LoadingArguments(), head=AutoModelForMaskedLM)
    assert "corrupted" not in caplog.text


@pytest.mark.parametrize("saved", [RoFormerForMaskedLM, RoFormerModel])
def test_the_former_in_the_name_of_a_class_is_no_head(saved: Any, tmp_path: Path) -> None:
    sizes = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 16}
    config = RoFormerConfig(**sizes, num_hidden_layers=1, num_attention_heads=2)
    saved(config).save_pretrained(tmp_path)
    model = load_model(
        str(tmp_path), role="teacher", args=LoadingArguments(), head=AutoModelForStates
    )
    assert type(model).__name__ == "RoFormerModel"


def test_another_head_is_refused_in_a_class_with_a_former_in_its_name(tmp_path: Path) -> None:
    sizes = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 16}
    config = RoFormerConfig(**sizes, num_hidden_layers=1, num_attention_heads=2)
    RoFormerForMaskedLM(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no fine-tuned model for TokenClassification: it is a RoF"):
        load_model(
            str(tmp_path),
            role="teacher",
            args=LoadingArguments(),
            head=AutoModelForTokenClassification,
        )
