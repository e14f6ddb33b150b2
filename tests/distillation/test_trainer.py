"""`ITRDTrainer`: what a step computes, what is saved, what is refused."""

import itertools
from pathlib import Path

import datasets
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import (
    AutoModelForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    TrainerCallback,
)

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import OBJECTIVE_WEIGHTS_NAME, ITRDTrainer
from itrd_nlp.errors import TrainingDiverged, UserError
from itrd_nlp.losses import correlation_loss, mutual_information_loss, span_kd_loss
from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.models.encode import encode
from itrd_nlp.training.checkpoints import checkpoints


@pytest.fixture
def arguments(tmp_path):
    def arguments(**kwargs):
        defaults = {
            "output_dir": str(tmp_path / "run"),
            "per_device_train_batch_size": 4,
            "max_steps": 2,
            "learning_rate": 1e-2,
            "weight_decay": 0.0,
            "warmup_steps": 0,
            "lr_scheduler_type": "constant",
            "optim": "adamw_torch",
            "train_sampling_strategy": "sequential",
            "save_strategy": "no",
            "logging_steps": 1,
            "report_to": "none",
            "disable_tqdm": True,
            "seed": 0,
            "mi_max_samples": 10_000,
        }
        return ITRDTrainingArguments(**(defaults | kwargs))

    return arguments


@pytest.fixture
def make_trainer(arguments, teacher, student, make_rows, collate):
    def make_trainer(
        rows=None, model=None, teacher_model=teacher, more_teachers=(), eval_rows=None, **kwargs
    ):
        return ITRDTrainer(
            model=student if model is None else model,
            teacher=teacher_model,
            more_teachers=more_teachers,
            args=arguments(**kwargs),
            train_dataset=datasets.Dataset.from_list(rows or make_rows(8)),
            eval_dataset=datasets.Dataset.from_list(eval_rows) if eval_rows else None,
            data_collator=collate,
        )

    return make_trainer


@pytest.fixture
def calls_of():
    def calls_of(model):
        """Grows with every forward of the model."""
        seen = []
        model.register_forward_hook(lambda *_: seen.append(1))
        return seen

    return calls_of


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def test_two_steps_are_those_written_by_hand(make_trainer, teacher, student, make_rows, collate):
    """Objective, clipping and update, against the same two steps without the trainer.

    SGD, because Adam makes steps out of the rounding errors of gradients that are zero (those of key biases).
    """
    trainer = make_trainer(
        optim="sgd", max_grad_norm=1.0, w_kd=0.7, beta_corr=1.5, beta_mi=2.0, temperature=2.0
    )
    start = weights(student)
    trainer.train()
    trained = weights(student)

    student.load_state_dict(start)
    projections = [torch.nn.Linear(32, 32) for _ in range(2)]
    for projection in projections:
        torch.nn.init.eye_(projection.weight)
        torch.nn.init.zeros_(projection.bias)
    parameters = [*student.parameters(), *(p for m in projections for p in m.parameters())]
    optimizer = torch.optim.SGD(parameters, lr=1e-2)
    rows = make_rows(8)
    for step in range(2):
        batch = collate(rows[4 * step : 4 * step + 4])
        mask = batch["attention_mask"].bool()
        labels = batch.pop("start_positions"), batch.pop("end_positions")
        own = student(**batch, output_hidden_states=True)
        with torch.no_grad():
            target = teacher(**batch, output_hidden_states=True)
        spans = (own.start_logits, own.end_logits)
        task = sum(
            F.cross_entropy(logits.masked_fill(~mask, float("-inf")), position)
            for logits, position in zip(spans, labels, strict=True)
        )
        loss = task / 2
        loss = loss + 0.7 * span_kd_loss(
            *spans, target.start_logits, target.end_logits, temperature=2.0, mask=mask
        )
        for (i, j), projection in zip([(1, 2), (2, 4)], projections, strict=True):
            z_s, z_t = own.hidden_states[i], target.hidden_states[j]
            loss = loss + 1.5 * correlation_loss(projection(z_s)[mask], z_t[mask], alpha=1.01)
            loss = loss + 2.0 * mutual_information_loss(z_s[mask], z_t[mask])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    moved = max((trained[name] - value).abs().max() for name, value in start.items())
    assert moved > 1e-3
    for name, value in weights(student).items():
        torch.testing.assert_close(trained[name], value, rtol=1e-5, atol=1e-6, msg=name)
    learned = trainer.model.objective.projections
    for ours, by_hand in zip(learned, projections, strict=True):
        torch.testing.assert_close(ours.weight, by_hand.weight, rtol=1e-5, atol=1e-6)


def gradients_of_one_step(trainer):
    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
            self.gradients = {n: p.grad.clone() for n, p in model.named_parameters()}

    keep = Keep()
    trainer.add_callback(keep)
    trainer.train()
    return keep.gradients


@pytest.mark.parametrize("labels", ["all", "of some rows", "of none"])
@pytest.mark.parametrize("sizes", [(8, 4), (5, 7)], ids=["equal", "uneven last micro-batch"])
def test_accumulation_gives_the_gradient_of_the_whole_batch_for_task_and_kd(
    make_trainer, student, make_rows, sizes, labels
):
    micro, accumulation = sizes
    rows = make_rows(32)
    without = {"all": [], "of some rows": [*range(8), 20, 31], "of none": range(32)}
    for row in without[labels]:  # the first micro-batch has none
        rows[row] |= {"start_positions": IGNORED, "end_positions": IGNORED}
    common = {"beta_corr": 0.0, "beta_mi": 0.0, "max_grad_norm": 0.0, "max_steps": 1}
    start = weights(student)
    whole = gradients_of_one_step(make_trainer(rows, per_device_train_batch_size=32, **common))
    student.load_state_dict(start)
    parts = gradients_of_one_step(
        make_trainer(
            rows,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=accumulation,
            **common,
        )
    )
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_accumulation_averages_the_statistics_of_the_micro_batches(
    make_trainer, student, make_rows
):
    """The correlation and MI losses are not linear in the batch: micro-batches give their mean, not the whole."""
    rows = make_rows(8)
    start = weights(student)
    trainer = make_trainer(rows, gradient_accumulation_steps=2, max_steps=1, w_task=0, w_kd=0)
    trainer.train()
    accumulated = trainer.state.log_history[0]
    separate = []
    for half in (rows[:4], rows[4:]):
        student.load_state_dict(start)
        trainer = make_trainer(half, max_steps=1, w_task=0, w_kd=0)
        trainer.train()
        separate.append(trainer.state.log_history[0])
    for name in ("corr", "mi", "loss", "corr_1:2", "mi_2:4"):
        mean = (separate[0][name] + separate[1][name]) / 2
        assert accumulated[name] == pytest.approx(mean, rel=1e-4), name


def test_every_term_is_logged_by_name_as_the_mean_since_the_last_log(make_trainer):
    trainer = make_trainer(max_steps=2, logging_steps=2, learning_rate=0.0)
    trainer.train()
    log = trainer.state.log_history[0]
    names = {"task", "kd", "corr", "mi", "corr_1:2", "corr_2:4", "mi_1:2", "mi_2:4"}
    assert names <= set(log)
    args = trainer.args
    total = (
        args.w_task * log["task"]
        + args.w_kd * log["kd"]
        + args.beta_corr * log["corr"]
        + args.beta_mi * log["mi"]
    )
    assert log["loss"] == pytest.approx(total, rel=1e-5)
    assert log["corr"] == pytest.approx(log["corr_1:2"] + log["corr_2:4"], rel=1e-5)


def test_distillation_brings_the_student_to_its_teacher(
    make_trainer, teacher, student, make_rows, collate
):
    rows = make_rows(64)
    batch = collate(rows)
    inputs = {k: v for k, v in batch.items() if not k.endswith("positions")}

    def distance():
        with torch.no_grad():
            own, target = encode(student.eval(), inputs, [2])[1], encode(teacher, inputs, [4])[1]
        mask = batch["attention_mask"].bool()
        kd = span_kd_loss(*own.logits.values(), *target.logits.values(), temperature=1.0, mask=mask)
        corr = correlation_loss(own.hidden_states[2][mask], target.hidden_states[4][mask])
        return kd.item(), corr.item()

    before = distance()
    make_trainer(
        rows, max_steps=60, learning_rate=3e-3, w_task=0.0, train_sampling_strategy="random"
    ).train()
    after = distance()
    assert after[0] < 0.6 * before[0]
    assert after[1] < before[1] - 1.0


def test_the_teacher_does_not_change(make_trainer, teacher):
    before = weights(teacher)
    trainer = make_trainer()
    trainer.train()
    assert not trainer.teacher.training
    assert not any(p.requires_grad for p in trainer.teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in weights(teacher).items())
    assert not any("teacher" in name for name, _ in trainer.model.named_parameters())


def test_without_distillation_terms_no_teacher_is_asked_for(make_trainer):
    trainer = make_trainer(teacher_model=None, w_kd=0.0, beta_corr=0.0, beta_mi=0.0)
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["loss"] == pytest.approx(log["task"])


def test_a_warm_start_leaves_the_head_to_the_steps_after_it(make_trainer, student):
    """Half of four steps: SGD moves layers by the hidden states alone, then all by the whole objective."""
    seen = []

    class Remember(TrainerCallback):
        def on_step_end(self, *_, **__):
            seen.append(weights(student))

    before = weights(student)
    trainer = make_trainer(optim="sgd", max_steps=4, warm_start_ratio=0.5)
    trainer.add_callback(Remember())
    trainer.train()
    head, layer = "qa_outputs.weight", "bert.encoder.layer.0.output.dense.weight"
    for name, moves in ((head, [False, False, True, True]), (layer, [True] * 4)):
        steps = [before[name], *(one[name] for one in seen)]
        moved = [not torch.equal(a, b) for a, b in itertools.pairwise(steps)]
        assert moved == moves, name
    logs = [log for log in trainer.state.log_history if "task" in log]
    assert [log["task"] > 0 and log["kd"] > 0 for log in logs] == [False, False, True, True]
    assert all(log["corr"] != 0 for log in logs)
    assert trainer.known_record().arguments["warm_start_ratio"] == 0.5


@pytest.mark.parametrize(
    ("fade", "factors"), [(0.0, [1, 1, 1, 1]), (0.5, [1, 1, 1, 0.5]), (1.0, [1, 0.75, 0.5, 0.25])]
)
def test_what_reads_hidden_states_fades_and_is_logged_as_it_is(make_trainer, fade, factors):
    peers = {"itrd_nlp.losses.peers.FitNet": 3.0}
    trainer = make_trainer(max_steps=4, fade_ratio=fade, peer_losses=peers, w_kd=2.0)
    trainer.train()
    logs = [log for log in trainer.state.log_history if "task" in log]
    for log, factor in zip(logs, factors, strict=True):
        hidden = 2.0 * log["corr"] + log["mi"] + 3.0 * log["fit_net"]
        total = log["task"] + 2.0 * log["kd"] + factor * hidden
        assert log["loss"] == pytest.approx(total, rel=1e-4)
    assert trainer.known_record().arguments.get("fade_ratio", 0.0) == fade


def test_the_seed_decides_what_projections_start_from(make_trainer):
    def first_weights(seed):
        torch.seed()  # whatever drew before
        peers = {"itrd_nlp.losses.peers.FitNet": 1.0}
        trainer = make_trainer(seed=seed, projection_init="default", peer_losses=peers)
        return torch.cat([p.detach().flatten() for p in trainer.model.objective.parameters()])

    one = first_weights(1)
    assert torch.equal(one, first_weights(1))
    assert not torch.equal(one, first_weights(2))


def test_kd_learns_from_the_mean_of_all_teachers(
    make_trainer, make_bert, teacher, student, make_rows, collate
):
    second, third = make_bert(4, seed=5), make_bert(6, seed=6, hidden_size=48)
    trainer = make_trainer(
        more_teachers=[second, third], w_task=0.0, learning_rate=0.0, max_steps=1, temperature=2.0
    )
    trainer.train()
    batch = collate(make_rows(8)[:4])
    mask = batch["attention_mask"].bool()
    inputs = {name: value for name, value in batch.items() if not name.endswith("positions")}
    with torch.no_grad():
        own, *others = (model.eval()(**inputs) for model in (student, teacher, second, third))
    expected = 0
    for head in ("start_logits", "end_logits"):
        for row, valid in enumerate(mask):
            p = sum(F.softmax(one[head][row][valid].double() / 2, -1) for one in others) / 3
            q = F.log_softmax(own[head][row][valid].double() / 2, -1)
            expected += 4 * (p * (p.log() - q)).sum() / (2 * len(mask))
    log = trainer.state.log_history[0]
    assert log["kd"] == pytest.approx(expected.item(), rel=1e-5)
    alone = make_trainer(w_task=0.0, learning_rate=0.0, max_steps=1)
    alone.train()
    assert log["corr"] == pytest.approx(alone.state.log_history[0]["corr"], rel=1e-5)
    assert log["kd"] != pytest.approx(alone.state.log_history[0]["kd"], rel=1e-2)


def test_every_teacher_has_its_own_part_of_the_cache(
    make_trainer, make_bert, teacher, calls_of, tmp_path
):
    second = make_bert(4, seed=5)
    cached = {"teacher_cache": "on", "teacher_cache_dir": str(tmp_path / "cache")}
    first = make_trainer(**cached, more_teachers=[second], learning_rate=0.0)
    first.train()
    calls = calls_of(teacher), calls_of(second)
    again = make_trainer(**cached, more_teachers=[second], learning_rate=0.0)
    again.train()
    assert calls == ([], [])
    assert again.state.log_history[0]["kd"] == first.state.log_history[0]["kd"]


def test_another_second_teacher_makes_another_run(make_trainer, make_bert):
    found = [
        make_trainer(more_teachers=others).identity()["more_teachers"]
        for others in ([], [make_bert(2, seed=5)], [make_bert(2, seed=6)])
    ]
    assert found[0] is None and found[1] != found[2]


def test_more_teachers_without_kd_or_of_another_kind_are_refused(make_trainer, make_bert):
    with pytest.raises(UserError, match="more_teachers are given, but w_kd is 0"):
        make_trainer(more_teachers=[make_bert(2, seed=5)], w_kd=0.0)
    with pytest.raises(UserError, match="vocab_size of the student is 64 and of the teacher 65"):
        make_trainer(more_teachers=[make_bert(2, seed=5, vocab_size=65)])


def test_what_is_saved_is_the_student_alone(make_trainer, student, tmp_path, span_batch):
    trainer = make_trainer()
    trainer.train()
    trainer.save_model(str(tmp_path / "student"))
    saved = load_file(tmp_path / "student" / "model.safetensors")
    assert set(saved) == set(student.state_dict())
    assert not (tmp_path / "student" / OBJECTIVE_WEIGHTS_NAME).exists()
    loaded = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "student").eval()
    expected = student.eval()(**span_batch)
    assert torch.equal(loaded(**span_batch).start_logits, expected.start_logits)


def test_a_resumed_run_ends_where_an_undisturbed_one_does(make_trainer, student, make_rows):
    rows = make_rows(16)
    common = {
        "save_strategy": "steps",
        "save_steps": 2,
        "train_sampling_strategy": "group_by_length",
    }
    start = weights(student)
    whole = make_trainer(rows, max_steps=6, mi_max_samples=8, **common)
    whole.train()
    expected, projections = weights(student), weights(whole.model.objective)

    student.load_state_dict(start)
    again = make_trainer(rows, max_steps=6, mi_max_samples=8, **common)
    again.train(resume_from_checkpoint=f"{again.args.output_dir}/checkpoint-2")
    assert again.state.global_step == 6
    for name, value in weights(student).items():
        assert torch.equal(value, expected[name]), name
    for name, value in weights(again.model.objective).items():
        assert torch.equal(value, projections[name]), name


def test_the_terms_of_an_epoch_are_logged_by_a_run_that_goes_on_from_its_last_step(
    make_trainer, student, make_rows
):
    common = {"save_strategy": "steps", "save_steps": 1, "logging_strategy": "epoch"}
    start = weights(student)
    whole = make_trainer(make_rows(16), num_train_epochs=2, max_steps=-1, **common)
    whole.train()
    last = whole.state.max_steps // 2
    student.load_state_dict(start)
    again = make_trainer(make_rows(16), num_train_epochs=2, max_steps=-1, **common)
    again.train(resume_from_checkpoint=f"{again.args.output_dir}/checkpoint-{last}")
    found, expected = (
        next(row for row in trainer.state.log_history if row["step"] == last)
        for trainer in (again, whole)
    )
    assert "corr" in expected
    assert found == expected


@pytest.mark.parametrize("save_only_model", [False, True])
def test_the_best_checkpoint_is_what_remains(make_trainer, student, make_rows, save_only_model):
    trainer = make_trainer(
        max_steps=4,
        save_strategy="steps",
        eval_strategy="steps",
        save_steps=1,
        eval_steps=1,
        load_best_model_at_end=True,
        save_only_model=save_only_model,
        learning_rate=0.3,
        eval_rows=make_rows(8, seed=5),
    )
    trainer.train()
    best = load_file(f"{trainer.state.best_model_checkpoint}/model.safetensors")
    losses = [log["eval_loss"] for log in trainer.state.log_history if "eval_loss" in log]
    assert trainer.state.best_metric == min(losses)
    assert all(torch.equal(value, best[name]) for name, value in weights(student).items())


def test_a_term_that_is_no_number_stops_the_run_by_name_and_keeps_the_last_checkpoint(
    make_trainer, teacher, make_rows
):
    """From step 4 on, the teacher's second layer gives NaN."""
    calls = []

    def spoil(module, inputs, output):
        calls.append(1)
        return output * float("nan") if len(calls) >= 4 else output

    teacher.bert.encoder.layer[1].register_forward_hook(spoil)
    trainer = make_trainer(
        make_rows(32), max_steps=8, save_strategy="steps", save_steps=1, logging_steps=100, w_kd=0.0
    )
    with pytest.raises(TrainingDiverged, match=r"corr_1:2 .*was NaN or infinite in step 4"):
        trainer.train()
    saved = [path.name for path in checkpoints(Path(trainer.args.output_dir))]
    assert saved == ["checkpoint-3", "checkpoint-2", "checkpoint-1"]


def test_evaluation_keeps_the_order_of_the_data_and_no_hidden_states(
    make_trainer, student, make_rows, collate
):
    rows = make_rows(11, seed=3)
    trainer = make_trainer(train_sampling_strategy="group_by_length", per_device_eval_batch_size=4)
    predictions = trainer.predict(datasets.Dataset.from_list(rows)).predictions
    assert len(predictions) == 2
    for row, start in zip(rows, predictions[0], strict=True):
        expected = student.eval()(**collate([row])).start_logits[0]
        got = torch.from_numpy(start[: row["length"]])
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_batches_are_grouped_by_length_in_an_order_of_seed_and_epoch_alone(make_trainer, make_rows):
    trainer = make_trainer(make_rows(64), train_sampling_strategy="group_by_length")
    sampler = trainer._get_train_sampler()
    first = list(sampler)
    torch.rand(17)  # whatever else draws
    assert list(sampler) == first
    assert sorted(first) == list(range(64))
    sampler.set_epoch(1)
    assert list(sampler) != first


@pytest.mark.parametrize("head", [BertForSequenceClassification, BertForTokenClassification])
def test_it_is_no_squad_trainer(make_trainer, make_rows, make_config, head):
    """A sequence- and a token-classification student learn their teacher's labels."""
    per_token = head is BertForTokenClassification

    def model(layers, seed):
        torch.manual_seed(seed)
        return head(make_config(layers, num_labels=3))

    teacher, student = model(4, 0).eval(), model(2, 1)
    rows = []
    for row in make_rows(32):
        ids, types = torch.tensor([row["input_ids"]]), torch.tensor([row["token_type_ids"]])
        labels = teacher(ids, token_type_ids=types).logits.argmax(-1)[0]
        rows.append(
            {
                "input_ids": row["input_ids"],
                "token_type_ids": row["token_type_ids"],
                "labels": labels.tolist(),
                "length": row["length"],
            }
        )

    def collate(batch):
        longest = max(len(row["input_ids"]) for row in batch)

        def padded(name, fill):
            return torch.tensor([r[name] + [fill] * (longest - len(r[name])) for r in batch])

        labels = padded("labels", -100) if per_token else torch.tensor([r["labels"] for r in batch])
        mask = (padded("input_ids", 0) != 0).long()
        return {
            "input_ids": padded("input_ids", 0),
            "token_type_ids": padded("token_type_ids", 0),
            "attention_mask": mask,
            "labels": labels,
        }

    trainer = make_trainer(
        rows, model=student, teacher_model=teacher, max_steps=40, learning_rate=3e-3
    )
    trainer.data_collator = collate
    trainer.train()
    logs = [log for log in trainer.state.log_history if "kd" in log]
    for term in ("task", "kd", "corr"):
        assert logs[-1][term] < logs[0][term], term


def test_models_that_do_not_fit_are_refused(make_trainer, teacher, student):
    with pytest.raises(UserError, match="teacher is None, but w_kd, beta_corr or beta_mi is > 0"):
        make_trainer(teacher_model=None)
    with pytest.raises(UserError, match="layer_map pair 2:5 names teacher layer 5"):
        make_trainer(layer_map=["2:5"])
    student.config.vocab_size = 65
    with pytest.raises(UserError, match="vocab_size of the student is 65 and of the teacher 64"):
        make_trainer()


def test_other_labels_than_the_teachers_are_refused(make_trainer, student):
    student.config.num_labels = 3
    with pytest.raises(UserError, match="num_labels of the student is 3 and of the teacher 2"):
        make_trainer()


def test_a_teacher_cache_changes_results_by_no_more_than_bf16_rounding(
    make_trainer, teacher, student, calls_of, tmp_path
):
    """Three epochs: the teacher runs in the first alone, and the student learns the same."""
    start = weights(student)
    run = {"max_steps": -1, "num_train_epochs": 3, "teacher_dtype": "bfloat16"}
    make_trainer(**run).train()
    expected = weights(student)
    student.load_state_dict(start)
    calls = calls_of(teacher)
    cached = {"teacher_cache": "on", "teacher_cache_dir": str(tmp_path / "cache")}
    make_trainer(**run, **cached).train()
    assert len(calls) == 2  # 8 windows in batches of 4
    for name, value in weights(student).items():
        assert torch.allclose(value, expected[name], atol=2e-3), name


def test_a_second_run_needs_no_teacher_and_ends_at_the_same_bits(
    make_trainer, teacher, student, calls_of, tmp_path
):
    start = weights(student)
    cached = {"teacher_cache": "on", "teacher_cache_dir": str(tmp_path / "cache")}
    make_trainer(**cached, teacher_dtype="bfloat16").train()
    expected = weights(student)
    student.load_state_dict(start)
    calls = calls_of(teacher)
    make_trainer(**cached, teacher_dtype="bfloat16").train()
    assert not calls
    for name, value in weights(student).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("log", [True, False])
def test_the_mean_correlation_of_each_pair_is_logged(make_trainer, log):
    trainer = make_trainer(layer_map=["1:2", "2:4"], corr_log=log)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "corr_1:2" in row]
    for row in rows:
        for pair in ("1:2", "2:4"):  # eq. 6 the other way round, with 32 features
            loss = row[f"corr_{pair}"]
            distance = ((2**loss if log else loss) / 32) ** (1 / 2.02)
            assert row[f"correlation_{pair}"] == pytest.approx(1 - distance)
            assert -1 <= row[f"correlation_{pair}"] <= 1
