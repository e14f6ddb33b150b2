"""Student and objective answer what trainers, callbacks and trackers of transformers ask of a model."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
import transformers
from torch import nn
from transformers import BertForQuestionAnswering, TrainerCallback
from transformers.integrations import integration_utils

from itrd_nlp.errors import UserError

SOURCES = Path(transformers.__file__).parent


def asked() -> set[str]:
    """The names that the trainer, its callbacks and the integrations look up in a model."""
    files = [*SOURCES.glob("trainer*.py"), *(SOURCES / "integrations").glob("integration_utils.py")]
    files += [SOURCES / "integrations" / name for name in ("neftune.py", "liger.py", "peft.py")]
    names = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and _is_model(node.value):
                names.add(node.attr)
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("getattr", "hasattr")
                and _is_model(node.args[0])
                and isinstance(node.args[1], ast.Constant)
            ):
                names.add(node.args[1].value)
    return names


def _is_model(node: ast.expr) -> bool:
    """Whether an expression is `model`, `unwrapped_model`, `self.model` or `trainer.model`."""
    if isinstance(node, ast.Name):
        return node.id in ("model", "unwrapped_model", "opt_model", "model_to_inspect")
    return isinstance(node, ast.Attribute) and node.attr == "model"


def test_what_transformers_asks_of_a_model_the_module_answers_as_the_student(make_itrd, student):
    model = make_itrd(student).model
    names = asked()
    # If this list is not found, the sources have moved and the test sees nothing.
    assert {"config", "num_parameters", "get_input_embeddings", "main_input_name"} <= names
    assert {"activation_checkpointing_enable", "save_pretrained", "state_dict"} <= names
    own = {*dir(nn.Module()), "forward", "student", "objective"}
    for name in sorted(names - own):
        assert hasattr(model, name) == hasattr(student, name), name
        if hasattr(student, name):
            assert getattr(model, name) == getattr(student, name), name


def test_what_callbacks_of_ones_own_ask_for(make_itrd, student, tmp_path, span_batch) -> None:
    seen: dict[str, Any] = {}

    class Ask(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
            seen["device"], seen["dtype"], seen["config"] = model.device, model.dtype, model.config
            seen["parameters"], seen["generates"] = model.num_parameters(), model.can_generate()
            seen["embeddings"] = model.get_input_embeddings()
            model.save_pretrained(tmp_path / "by a callback")

    make_itrd(student, given={"callbacks": [Ask()]}, max_steps=1).train()
    assert (seen["device"], seen["dtype"]) == (student.device, torch.float32)
    assert seen["config"] is student.config
    assert seen["parameters"] == student.num_parameters() and not seen["generates"]
    assert seen["embeddings"] is student.get_input_embeddings()
    saved = BertForQuestionAnswering.from_pretrained(tmp_path / "by a callback").eval()
    with torch.no_grad():
        expected = student.eval()(**span_batch).start_logits
        assert torch.equal(saved(**span_batch).start_logits, expected)


def test_a_name_that_neither_has_is_an_error_that_names_it(make_itrd, student) -> None:
    model = make_itrd(student).model
    with pytest.raises(AttributeError, match="no_such_name"):
        model.no_such_name  # noqa: B018
    assert "student" not in vars(model)


def test_a_configuration_that_a_tracker_sets_is_the_students(make_itrd, student) -> None:
    """ClearML does so."""
    model = make_itrd(student).model
    model.config = model.config.from_dict(model.config.to_dict() | {"pad_token_id": 7})
    assert student.config.pad_token_id == 7


def test_the_state_is_that_of_student_and_objective(make_itrd, student) -> None:
    model = make_itrd(student).model
    parts = {name.partition(".")[0] for name in model.state_dict()}
    assert parts == {"student", "objective"}
    assert {name.partition(".")[0] for name, _ in model.named_parameters()} == parts


class _Config(dict[str, Any]):
    def update(self, *args: Any, **kwargs: Any) -> None:
        kwargs.pop("allow_val_change", None)
        super().update(*args, **kwargs)


def test_weights_and_biases_gets_size_and_configuration(
    make_itrd, student, monkeypatch, tmp_path
) -> None:
    wandb = MagicMock()
    wandb.config = _Config()
    errors = MagicMock(ConfigError=ValueError)
    for name in ("wandb", "wandb.sdk", "wandb.sdk.lib", "wandb.sdk.lib.config_util"):
        monkeypatch.setitem(sys.modules, name, errors if name.endswith("util") else wandb)
    monkeypatch.setattr(integration_utils, "is_wandb_available", lambda: True)
    monkeypatch.setenv("WANDB_LOG_MODEL", "false")
    callback = integration_utils.WandbCallback()
    make_itrd(student, given={"callbacks": [callback]}, max_steps=1).train()
    assert wandb.config["model/num_parameters"] == student.num_parameters()


def test_tensorboard_gets_the_configuration_of_the_student(make_itrd, student, tmp_path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    make_itrd(student, report_to="tensorboard", max_steps=1).train()
    (file,) = (tmp_path / "run").rglob("events.out.tfevents.*")
    events = accumulator.EventAccumulator(str(file))
    events.Reload()
    (text,) = events.Tensors("model_config/text_summary")
    assert '"hidden_size": 32' in text.tensor_proto.string_val[0].decode()


# ---- checkpointing of activations, and noise ----


def one_step(trainer: Any) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """The logged terms of the first step, and its gradients."""

    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any, **_: Any):
            self.gradients = {n: p.grad.clone() for n, p in model.named_parameters()}

    keep = Keep()
    trainer.add_callback(keep)
    trainer.train()
    return trainer.state.log_history[0], keep.gradients


PEERS = {"itrd_nlp.losses.peers.MiniLMv2": 1.0, "itrd_nlp.losses.peers.FitNet": 1.0}
FULL = {"max_steps": 1, "include_embeddings": True, "max_grad_norm": 0.0, "peer_losses": PEERS}


@pytest.mark.parametrize(
    "how",
    [
        {"activation_checkpointing": True},
        {"gradient_checkpointing": True},
        {
            "activation_checkpointing": True,
            "activation_checkpointing_kwargs": {"every_n_layers": 2},
        },
    ],
    ids=str,
)
def test_activation_checkpointing_gives_the_same_loss_and_gradients(
    make_itrd, make_bert, how, monkeypatch
) -> None:
    """With dropout, which the second pass must draw as the first did; all terms, a peer of attention included."""
    calls = []
    original = torch.utils.checkpoint.checkpoint

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return original(*args, **kwargs)

    def student() -> Any:
        return make_bert(4, seed=1, hidden_dropout_prob=0.1)

    plain, gradients = one_step(make_itrd(student(), **FULL))
    monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", counted)
    monkeypatch.setattr("transformers.modeling_utils.checkpoint", counted, raising=False)
    trainer = make_itrd(student(), **FULL, **how)
    log, ours = one_step(trainer)
    assert trainer.student.is_gradient_checkpointing
    assert not trainer.teacher.is_gradient_checkpointing
    assert len(calls) == (2 if "every_n_layers" in str(how) else 4)
    for name in ("loss", "task", "kd", "corr", "mi", "mini_lmv2", "fit_net"):
        assert log[name] == pytest.approx(plain[name], rel=1e-6), name
    for name, value in gradients.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_noise_is_added_to_the_students_embeddings_alone(make_itrd, make_bert, teacher) -> None:
    seen: dict[str, list[torch.Tensor]] = {"student": [], "teacher": []}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: seen[name].append(output.detach().clone())

    student = make_bert(2, seed=1)
    trainer = make_itrd(student, neftune_noise_alpha=5.0, max_steps=1)
    # Hooks run in their order, and that of the noise comes later: so these see what there was before it.
    embeddings = student.get_input_embeddings()
    after = student.bert.embeddings.register_forward_hook(keep("student"))
    theirs = teacher.get_input_embeddings().register_forward_hook(keep("teacher"))
    trainer.train()
    assert not embeddings._forward_hooks  # the noise ends with the training
    quiet = make_itrd(make_bert(2, seed=1), max_steps=1, overwrite_output_dir=True)
    after.remove()
    quiet.student.bert.embeddings.register_forward_hook(keep("student"))
    quiet.train()
    theirs.remove()
    noisy, clean = seen["student"]
    assert not torch.equal(noisy, clean)
    assert torch.equal(*seen["teacher"])


def test_a_training_that_is_cut_short_leaves_no_noise(make_itrd, student) -> None:
    class Stop(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

    trainer = make_itrd(student, neftune_noise_alpha=5.0, given={"callbacks": [Stop()]})
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert not student.get_input_embeddings()._forward_hooks
    assert not trainer.is_in_train


# ---- states that a configuration asks for ----


@pytest.mark.parametrize("flag", ["output_hidden_states", "output_attentions"])
def test_an_evaluation_gathers_predictions_alone(make_itrd, make_bert, make_rows, flag) -> None:
    student = make_bert(2, seed=1, attn_implementation="eager")
    setattr(student.config, flag, True)
    seen = []
    trainer = make_itrd(
        student,
        eval_rows=make_rows(4, seed=3),
        given={"compute_metrics": lambda outputs: seen.append(outputs.predictions) or {}},
    )
    trainer.train()
    trainer.evaluate()
    predictions = trainer.predict(trainer.eval_dataset).predictions
    assert len(predictions) == len(seen[0]) == 2  # start and end
    assert getattr(trainer.student.config, flag) is True  # its owner set it


def test_checkpointing_that_loses_the_gradients_of_hidden_states_is_refused(make_itrd, make_bert):
    """The reentrant kind runs the layers without a graph. The hidden states that a hook keeps there have none."""
    reentrant = {
        "activation_checkpointing": True,
        "activation_checkpointing_kwargs": {"use_reentrant": True},
    }
    with pytest.raises(UserError, match="use_reentrant is true, but it would take the gradients"):
        make_itrd(make_bert(2, seed=1), **reentrant)
    logits = {"beta_corr": 0.0, "beta_mi": 0.0, "max_steps": 1, "max_grad_norm": 0.0}
    plain, gradients = one_step(make_itrd(make_bert(2, seed=1), **logits))
    log, ours = one_step(make_itrd(make_bert(2, seed=1), **logits, **reentrant))
    assert log["loss"] == pytest.approx(plain["loss"], rel=1e-6)
    for name, value in gradients.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-6, msg=name)
