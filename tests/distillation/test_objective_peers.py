"""The losses of other papers in the objective: from a line in a config to a checkpoint."""

from __future__ import annotations

import logging

import datasets
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForQuestionAnswering

from itrd_nlp.cli import parser
from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.compatibility import Access
from itrd_nlp.distillation.model import DistillationModel
from itrd_nlp.distillation.objective import BatchShare, ITRDObjective
from itrd_nlp.distillation.preparing import build_distillation_model
from itrd_nlp.distillation.trainer import OBJECTIVE_WEIGHTS_NAME, ITRDTrainer
from itrd_nlp.errors import UserError
from itrd_nlp.losses import peers
from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.losses.peers import Sizes
from itrd_nlp.models.encode import encode

HOME = "itrd_nlp.losses.peers"
PAIRS = [LayerPair(1, 2), LayerPair(2, 4)]
ONLY_PEERS = {"w_task": 0.0, "w_kd": 0.0, "beta_corr": 0.0, "beta_mi": 0.0}
ALL = [
    name
    for name in peers.__all__
    if name[0].isupper() and name not in ("PeerLoss", "Sizes", "LayerStates")
]

OWN = """
from itrd_nlp.losses.peers import PeerLoss

class MeanAbsolute(PeerLoss):
    def pair_loss(self, index, student, teacher, mask):
        return (student.hidden - teacher.hidden).abs().mean(-1)[mask].mean()

class RKD(MeanAbsolute):
    pass
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "peers_of_a_user.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return "peers_of_a_user"


@pytest.fixture
def make_args(tmp_path):
    def make_args(**kwargs):
        return ITRDTrainingArguments(**({"output_dir": str(tmp_path / "run")} | kwargs))

    return make_args


@pytest.fixture
def make_trainer(make_args, teacher, student, make_rows, collate):
    def make_trainer(model=None, rows=None, teacher_model=teacher, **kwargs):
        defaults = {
            "per_device_train_batch_size": 4,
            "max_steps": 2,
            "learning_rate": 1e-2,
            "train_sampling_strategy": "sequential",
            "save_strategy": "no",
            "logging_steps": 1,
            "report_to": "none",
            "disable_tqdm": True,
        }
        return ITRDTrainer(
            model=student if model is None else model,
            teacher=teacher_model,
            args=make_args(**(defaults | kwargs)),
            train_dataset=datasets.Dataset.from_list(rows or make_rows(16)),
            data_collator=collate,
        )

    return make_trainer


def inputs_only(batch):
    return {k: v for k, v in batch.items() if not k.endswith("positions")}


# ---- the config ----


def test_a_line_in_a_config_is_all_it_takes(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(f"peer_losses:\n  {HOME}.PatientKD: 10\n  {HOME}.RKD: 0.5\n")
    out = ["--output_dir", str(tmp_path / "run")]
    (args,) = parser.parse([ITRDTrainingArguments], [str(config), *out])
    assert args.peers == {peers.PatientKD: 10.0, peers.RKD: 0.5}
    (args,) = parser.parse([ITRDTrainingArguments], out)
    assert args.peers == {} == args.peer_losses


def test_on_the_command_line_it_is_a_json_object_and_wins_over_the_config(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(f"peer_losses:\n  {HOME}.PatientKD: 10\n")
    out = ["--output_dir", str(tmp_path / "run")]
    text = f'{{"{HOME}.SP": 3000}}'
    (args,) = parser.parse([ITRDTrainingArguments], [str(config), *out, "--peer_losses", text])
    assert args.peer_losses == {f"{HOME}.SP": 3000.0}
    (args,) = parser.parse([ITRDTrainingArguments], [str(config), *out, "--peer_losses", "null"])
    assert args.peer_losses == {}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({f"{HOME}.RKD": 0}, r"peer_losses gives itrd_nlp.losses.peers.RKD the weight 0, but it"),
        ({f"{HOME}.RKD": -1.0}, r"the weight -1.0, but it must be a finite number > 0"),
        ({f"{HOME}.RKD": float("nan")}, r"the weight nan"),
        ({f"{HOME}.RKD": float("inf")}, r"the weight inf"),
        ({f"{HOME}.RKD": "much"}, r"the weight 'much'"),
        ({f"{HOME}.RKD": True}, r"the weight True"),
        ({f"{HOME}.RDK": 1.0}, r"peers.RDK, but RDK is no PeerLoss of .* its peers are: CC, CRD"),
        ({"absent_package.RKD": 1.0}, r"there is no module absent_package"),
        (f"{HOME}.RKD", r"peer_losses is 'itrd_nlp.losses.peers.RKD', but must map"),
        ("[1]", r"peer_losses is '\[1\]', but must map .* a JSON object such as"),
        (["RKD"], r"peer_losses is \['RKD'\], but must map"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make_args, value, sentence):
    with pytest.raises(UserError, match=sentence):
        make_args(peer_losses=value)


def test_two_peers_of_one_name_are_refused(make_args, own_module):
    with pytest.raises(UserError, match=r"RKD and peers_of_a_user.RKD, which would both be rkd"):
        make_args(peer_losses={f"{HOME}.RKD": 1.0, f"{own_module}.RKD": 1.0})


def test_a_peer_needs_the_teacher_and_its_hidden_states(make_args, make_trainer):
    args = make_args(**ONLY_PEERS, peer_losses={f"{HOME}.SP": 1.0})
    assert (args.needs_teacher, args.needs_hidden_states, args.needs_attention) == (1, 1, 0)
    assert make_args(peer_losses={f"{HOME}.TinyBERT": 1.0}).needs_attention
    with pytest.raises(UserError, match="are all 0, but one must be > 0"):
        make_args(**ONLY_PEERS)
    with pytest.raises(UserError, match=r"teacher is None, but .* there are peer_losses"):
        make_trainer(teacher_model=None, peer_losses={f"{HOME}.SP": 1.0})


@pytest.mark.parametrize(
    ("peer", "precision", "width", "refused"),
    [
        ("SRD", {"bf16": True}, 32, True),
        ("SRD", {}, 32, False),
        ("RKD", {"bf16": True}, 32, False),
        ("PatientKD", {"bf16": True}, 32, False),  # equal widths need no projection
        ("PatientKD", {"bf16": True}, 16, True),
    ],
)
def test_peers_with_weights_of_their_own_are_refused_where_shards_have_16_bits(
    make_args, make_bert, monkeypatch, peer, precision, width, refused
):
    args = make_args(peer_losses={f"{HOME}.{peer}": 1.0}, emulate_bf16=True, **precision)
    models = make_bert(2, seed=1, hidden_size=width), make_bert(4, seed=0)
    build_distillation_model(*models, args, (), Access())
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    if not refused:
        build_distillation_model(*models, args, (), Access())
        return
    with pytest.raises(UserError, match=r"computes in fp32 .*hand these out in bf16; leave it out"):
        build_distillation_model(*models, args, (), Access())


def test_accumulation_warns_that_peers_belong_to_the_micro_batch(make_args, caplog):
    with caplog.at_level(logging.WARNING, logger="itrd_nlp"):
        peer = {f"{HOME}.RKD": 1.0}
        make_args(beta_corr=0, beta_mi=0, gradient_accumulation_steps=2, peer_losses=peer)
    assert "gradient_accumulation_steps is 2 and RKD > 0" in caplog.text


# ---- the objective ----


def test_every_peer_is_a_term_that_is_weighed_and_carries_the_share_of_the_batch(
    make_args, teacher, student, span_batch
):
    args = make_args(
        w_task=0.5,
        w_kd=0,
        beta_corr=0,
        beta_mi=0,
        peer_losses={f"{HOME}.{name}": 1.0 + i for i, name in enumerate(ALL)},
    )
    assert len(ALL) == 19
    torch.manual_seed(0)
    objective = ITRDObjective(
        PAIRS, student_size=32, teacher_size=32, student_heads=2, teacher_heads=2, args=args
    )
    model = DistillationModel(student, objective).train()
    with torch.no_grad():
        target = encode(teacher.eval(), inputs_only(span_batch), [2, 4], attention=True)[1]
    share = BatchShare(1.0, 1.0, 0.25)
    terms = model(teacher_output=target, share=share, **span_batch)

    own = encode(student, inputs_only(span_batch), [1, 2], attention=True)[1]
    total = 0.5 * terms["task"]
    for i, (peer, weight) in enumerate(args.peers.items()):
        alone = peer(Sizes(32, 32, 2, 2), PAIRS)
        name = peers.term_name(peer)
        alone.load_state_dict(objective.peers[name].state_dict())
        expected = 0.25 * alone(own, target, span_batch["attention_mask"])
        torch.testing.assert_close(terms[name], expected.detach())
        assert weight == 1.0 + i
        total = total + weight * expected
    torch.testing.assert_close(terms["loss"], total)
    assert set(terms) == {"loss", "task", *objective.peers}


def test_without_correlation_and_mi_there_are_no_projections_of_theirs(make_args):
    """DDP would wait for their gradients."""
    args = make_args(beta_corr=0, beta_mi=0, peer_losses={f"{HOME}.HiddenMSE": 1.0})
    objective = ITRDObjective(PAIRS, student_size=16, teacher_size=32, args=args)
    names = {name.split(".")[0] for name, _ in objective.named_parameters()}
    assert names == {"peers"}


# ---- the trainer ----


def test_peers_alone_are_an_objective_and_each_is_logged_by_its_name(make_trainer, own_module):
    weights = {f"{HOME}.PatientKD": 10.0, f"{own_module}.MeanAbsolute": 2.0}
    trainer = make_trainer(**ONLY_PEERS, peer_losses=weights, logging_steps=2)
    trainer.train()
    log = trainer.state.log_history[0]
    total = 10.0 * log["patient_kd"] + 2.0 * log["mean_absolute"]
    assert log["loss"] == pytest.approx(total, rel=1e-5)
    assert not {"task", "kd", "corr", "mi"} & set(log)
    assert trainer.known_record().arguments["peer_losses"] == weights


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_is_read_whatever_computes_it(make_trainer, make_bert, implementation):
    models = [
        make_bert(layers, seed=seed, attn_implementation=implementation)
        for layers, seed in ((2, 1), (4, 0))
    ]
    weights = {f"{HOME}.TinyBERT": 1.0, f"{HOME}.MiniLMv2": 1.0}
    trainer = make_trainer(
        models[0],
        teacher_model=models[1],
        **ONLY_PEERS,
        peer_losses=weights,
        max_steps=30,
        learning_rate=3e-3,
        num_train_epochs=10,
    )
    trainer.train()
    first, *_, last = (log for log in trainer.state.log_history if "tiny_bert" in log)
    assert last["tiny_bert"] < 0.9 * first["tiny_bert"]
    assert last["mini_lmv2"] < 0.9 * first["mini_lmv2"]


def test_projections_are_trained_resumed_and_not_published(
    make_trainer, make_bert, tmp_path, make_rows
):
    run = {
        "peer_losses": {
            f"{HOME}.{name}": 1.0 for name in ("HiddenMSE", "VID", "MiniLMv2", "SRD", "VkD")
        },
        "beta_mi": 0.0,
        "max_steps": 4,
        "save_strategy": "steps",
        "save_steps": 2,
    }
    whole = make_trainer(make_bert(2, seed=2, hidden_size=16), make_rows(16), **run)
    start = {
        n: p.clone()
        for n, p in whole.model.objective.peers.state_dict().items()
        if not n.endswith(".base")  # the fixed point that an orthogonal projection starts from
    }
    whole.train()
    expected = {n: p.clone() for n, p in whole.model.state_dict().items()}
    for name, value in start.items():
        assert not torch.equal(expected[f"objective.peers.{name}"], value), name

    checkpoint = f"{whole.args.output_dir}/checkpoint-2"
    saved = load_file(f"{checkpoint}/{OBJECTIVE_WEIGHTS_NAME}")
    assert {f"peers.{name}" for name in start} <= set(saved)
    again = make_trainer(make_bert(2, seed=2, hidden_size=16), make_rows(16), **run)
    again.train(resume_from_checkpoint=checkpoint)
    assert again.state.global_step == 4
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, expected[name]), name

    whole.save_model(str(tmp_path / "student"))
    published = load_file(tmp_path / "student" / "model.safetensors")
    assert set(published) == set(whole.student.state_dict())
    AutoModelForQuestionAnswering.from_pretrained(tmp_path / "student")

    other = run | {"peer_losses": {f"{HOME}.HiddenMSE": 2.0}}
    with pytest.raises(
        UserError, match=r"belongs to another run: peer_losses is .*HiddenMSE': 2.0"
    ):
        make_trainer(make_bert(2, seed=2, hidden_size=16), make_rows(16), **other).train(
            resume_from_checkpoint=checkpoint
        )


def test_a_run_without_peers_has_the_identity_it_always_had(make_trainer):
    assert make_trainer().identity()["peer_losses"] is None  # as where there is no such entry


def test_a_peer_that_cannot_work_is_refused_before_anything_is_trained(make_trainer, make_bert):
    narrow = make_bert(2, seed=0, num_attention_heads=4)
    with pytest.raises(UserError, match="student has 4 heads and the teacher 2"):
        make_trainer(narrow, peer_losses={f"{HOME}.TinyBERT": 1.0})
    with pytest.raises(UserError, match=r"the last pair of layer_map is 0:0"):
        make_trainer(layer_map=["0:0"], peer_losses={f"{HOME}.MiniLMv2": 1.0})


# ---- the teacher's cache ----


def test_a_cache_serves_peers_that_read_hidden_states(make_trainer, make_bert, teacher, tmp_path):
    cache = {"teacher_cache": "on", "teacher_cache_dir": str(tmp_path / "cache")}
    calls = []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    run = {"peer_losses": {f"{HOME}.RKD": 1.0, f"{HOME}.NST": 1.0}, **ONLY_PEERS}
    logs = []
    for _ in range(2):
        trainer = make_trainer(make_bert(2, seed=1), **run, **cache)
        trainer.train()
        logs.append(trainer.state.log_history[0])
    assert len(calls) == 2  # of the first run alone
    assert logs[1]["rkd"] == pytest.approx(logs[0]["rkd"], rel=0.05)


def test_a_cache_does_not_keep_attention(make_trainer, make_args, tmp_path, caplog):
    peer = {f"{HOME}.MiniLMv2": 1.0}
    with pytest.raises(UserError, match=r"teacher_cache is 'on', but .* that MiniLMv2 in peer"):
        make_args(teacher_cache="on", peer_losses=peer)
    folder = tmp_path / "cache"
    with caplog.at_level(logging.WARNING, logger="itrd_nlp"):
        trainer = make_trainer(
            peer_losses=peer, teacher_cache="auto", teacher_cache_dir=str(folder)
        )
        trainer.train()
    assert (
        "No teacher cache: it does not keep the queries, keys and values that peer_losses read"
        in caplog.text
    )
    assert not folder.exists()
    assert trainer.state.log_history[0]["mini_lmv2"] > 0
