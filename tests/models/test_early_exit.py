import datasets
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    XLNetConfig,
    XLNetForQuestionAnsweringSimple,
)

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.teacher import Teacher
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.models.early_exit import hidden_states_up_to, holds_its_layers_in_a_list

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


def encoder(kind):
    torch.manual_seed(0)
    names = {"distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 4, "n_heads": 2}}
    config = AutoConfig.for_model(kind, **(SIZES | names.get(kind, {})))
    return AutoModelForQuestionAnswering.from_config(config).eval()


@pytest.fixture
def inputs():
    ids = torch.arange(5, 29).view(2, 12)
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 9:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("kind", ["bert", "mpnet", "roberta", "electra", "distilbert"])
@pytest.mark.parametrize("layers", [[0], [2], [0, 1, 3]])
def test_hidden_states_are_those_of_the_whole_model(kind, layers, inputs):
    model = encoder(kind)
    with torch.inference_mode():
        found = hidden_states_up_to(model, inputs, layers)
        whole = model(**inputs, output_hidden_states=True).hidden_states
    assert list(found) == layers
    for layer in layers:
        assert torch.equal(found[layer], whole[layer])


def test_layers_above_do_not_run_and_the_model_is_left_as_it_was(inputs):
    model = encoder("bert")
    runs = []
    for number, layer in enumerate(model.bert.encoder.layer, start=1):
        layer.register_forward_hook(lambda *_, number=number: runs.append(number))
    model.qa_outputs.register_forward_hook(lambda *_: runs.append("head"))
    hidden_states_up_to(model, inputs, [1, 2])
    assert runs == [1, 2]
    model(**inputs)
    assert runs == [1, 2, 1, 2, 3, 4, "head"]


def test_a_model_whose_layers_share_their_weights_runs_to_its_end():
    assert holds_its_layers_in_a_list(encoder("bert"))
    assert not holds_its_layers_in_a_list(encoder("albert"))


@pytest.mark.parametrize(
    ("changes", "early"),
    [({"w_kd": 0}, True), ({"w_kd": 1}, False), ({"w_kd": 0, "layer_map": ["1:2", "2:4"]}, False)],
)
def test_a_teacher_whose_logits_nobody_reads_stops_after_its_last_pair(
    tmp_path, teacher, student, make_rows, collate, changes, early
):
    """The student of both ways ends with the same weights."""

    def train(stops):
        args = ITRDTrainingArguments(
            output_dir=str(tmp_path),
            max_steps=2,
            layer_map=changes.get("layer_map", ["1:1", "2:2"]),
            w_kd=changes["w_kd"],
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        rows = datasets.Dataset.from_list(make_rows(16))
        trainer = ITRDTrainer(
            model=type(student)(student.config),
            teacher=teacher,
            args=args,
            train_dataset=rows,
            data_collator=collate,
        )
        trainer.student.load_state_dict(student.state_dict())
        run = Teacher(teacher, [p.teacher for p in trainer.model.objective.pairs], args)
        assert run.stops_early == early
        reached = []
        handle = teacher.bert.encoder.layer[-1].register_forward_hook(lambda *_: reached.append(1))
        with pytest.MonkeyPatch.context() as patch:
            if not stops:
                patch.setattr(
                    "itrd_nlp.distillation.teacher.holds_its_layers_in_a_list", lambda _: False
                )
            trainer.train()
        handle.remove()
        return trainer.student.state_dict(), len(reached)

    weights, reached = train(stops=True)
    expected, _ = train(stops=False)
    # The first of the two batches runs to the end once, to compare both ways.
    assert reached == (1 if early else 2)
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def test_a_model_whose_layers_hold_another_shape_runs_to_its_end(inputs, tmp_path, caplog):
    """XLNet hands (L, B, d) from layer to layer, so that early states would pair the wrong tokens."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "d_model": 32, "n_layer": 4, "n_head": 2, "d_inner": 64}
    model = XLNetForQuestionAnsweringSimple(XLNetConfig(**sizes, dropout=0.0)).eval()
    args = ITRDTrainingArguments(output_dir=str(tmp_path), w_kd=0.0)
    teacher = Teacher(model, [2], args)
    assert teacher.stops_early
    found = teacher(inputs).hidden_states[2]
    with torch.no_grad():
        expected = model(**inputs, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(found, expected)
    assert not teacher.stops_early
    assert any("runs to its last layer" in message for message in caplog.messages)


def test_a_model_that_stops_early_is_compared_with_a_whole_pass_once(inputs, tmp_path):
    model = encoder("bert")
    runs = []
    model.bert.encoder.layer[3].register_forward_hook(lambda *_: runs.append(1))
    teacher = Teacher(model, [2], ITRDTrainingArguments(output_dir=str(tmp_path), w_kd=0.0))
    for _ in range(3):
        teacher(inputs)
    assert teacher.stops_early
    assert len(runs) == 1
