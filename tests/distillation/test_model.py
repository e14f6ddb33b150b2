import contextlib
import weakref

import pytest
import torch
from torch.nn import functional as F

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.model import DistillationModel, span_task_loss
from itrd_nlp.distillation.objective import BatchShare, ITRDObjective
from itrd_nlp.distillation.samples import take
from itrd_nlp.errors import UserError
from itrd_nlp.losses import (
    correlation_loss,
    kd_loss,
    mutual_information_loss,
    span_kd_loss,
)
from itrd_nlp.losses.outputs import IGNORED, EncoderOutput, LayerPair
from itrd_nlp.losses.views import draw_samples
from itrd_nlp.models.encode import encode

PAIRS = [LayerPair(1, 2), LayerPair(2, 4)]


@pytest.fixture
def make(tmp_path, teacher, student):
    def make(pairs=PAIRS, **kwargs):
        args = ITRDTrainingArguments(output_dir=str(tmp_path), **kwargs)
        objective = ITRDObjective(
            pairs,
            student_size=student.config.hidden_size,
            teacher_size=teacher.config.hidden_size,
            args=args,
        )
        return DistillationModel(student, objective).train()

    return make


def inputs_only(batch):
    return {k: v for k, v in batch.items() if not k.endswith("positions")}


@pytest.fixture
def teacher_output(teacher, span_batch):
    with torch.no_grad():
        return encode(teacher.eval(), inputs_only(span_batch), [2, 4])[1]


def test_only_the_layers_asked_for_are_kept(teacher, span_batch):
    output, kept = encode(teacher, inputs_only(span_batch), [2, 4])
    everything = teacher(**inputs_only(span_batch), output_hidden_states=True).hidden_states
    assert [i for i, h in enumerate(output.hidden_states) if h is not None] == [2, 4]
    assert set(kept.hidden_states) == {2, 4}
    assert torch.equal(kept.hidden_states[2], everything[2])
    assert torch.equal(kept.hidden_states[4], everything[4])


def test_without_layers_no_hidden_state_is_kept(teacher, span_batch):
    output, kept = encode(teacher, inputs_only(span_batch), [])
    assert output.hidden_states is None
    assert kept.hidden_states == {}
    assert set(kept.logits) == {"start_logits", "end_logits"}


def test_the_total_is_the_weighted_sum_of_the_terms_written_out(
    make, teacher_output, span_batch, student
):
    weights = {"w_task": 0.5, "w_kd": 0.7, "beta_corr": 2.0, "beta_mi": 3.0}
    model = make(**weights, temperature=3.0, alpha=1.5, mi_max_samples=10_000)
    terms = model(teacher_output=teacher_output, share=BatchShare(), **span_batch)

    output, own = encode(student, inputs_only(span_batch), [1, 2])
    mask = span_batch["attention_mask"].bool()
    task = span_task_loss(
        output.start_logits,
        output.end_logits,
        span_batch["start_positions"],
        span_batch["end_positions"],
        mask,
    )
    kd = span_kd_loss(
        output.start_logits,
        output.end_logits,
        *teacher_output.logits.values(),
        temperature=3.0,
        mask=mask,
    )
    corr, mi = {}, {}
    for pair in PAIRS:
        z_s, z_t = (
            own.hidden_states[pair.student][mask],
            teacher_output.hidden_states[pair.teacher][mask],
        )
        corr[f"corr_{pair}"] = correlation_loss(z_s, z_t, alpha=1.5)  # identity projections
        mi[f"mi_{pair}"] = mutual_information_loss(z_s, z_t)
    expected = {
        "task": task,
        "kd": kd,
        "corr": sum(corr.values()),
        "mi": sum(mi.values()),
        **corr,
        **mi,
    }
    assert set(terms) == {"loss", *expected}
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-5, atol=1e-6, msg=name)
    total = 0.5 * task + 0.7 * kd + 2.0 * sum(corr.values()) + 3.0 * sum(mi.values())
    torch.testing.assert_close(terms["loss"], total)


def test_the_mean_over_the_pairs_is_an_option(make, teacher_output, span_batch):
    torch.manual_seed(0)
    summed = make()(teacher_output=teacher_output, share=BatchShare(), **span_batch)
    torch.manual_seed(0)
    mean = make(layer_reduction="mean")(
        teacher_output=teacher_output, share=BatchShare(), **span_batch
    )
    torch.testing.assert_close(mean["corr"] * 2, summed["corr"])
    torch.testing.assert_close(mean["mi"] * 2, summed["mi"])


@pytest.mark.parametrize("name", ["w_task", "w_kd", "beta_corr", "beta_mi"])
def test_a_term_of_weight_0_is_not_computed(make, teacher_output, span_batch, name):
    terms = make(**{name: 0.0})(teacher_output=teacher_output, share=BatchShare(), **span_batch)
    prefix = name.partition("_")[2]
    assert not any(term.startswith(prefix) for term in terms)
    assert len(terms) > 1


def test_shares_weigh_their_terms(make, teacher_output, span_batch):
    torch.manual_seed(0)
    whole = make()(teacher_output=teacher_output, share=BatchShare(), **span_batch)
    torch.manual_seed(0)
    part = make()(teacher_output=teacher_output, share=BatchShare(0.5, 0.25, 0.125), **span_batch)
    for name, factor in (("task", 0.5), ("kd", 0.25), ("corr", 0.125), ("mi_2:4", 0.125)):
        torch.testing.assert_close(part[name], whole[name] * factor)


@pytest.mark.parametrize(
    "views", [{"corr_view": v, "mi_view": v} for v in ("tokens", "sequence", "pooled")]
)
def test_padding_never_counts(make, student, teacher, span_batch, views):
    """The same rows, padded by 9 more tokens of garbage: same terms, same gradients."""
    model = make(**views, mi_max_samples=10_000)

    def run(batch):
        with torch.no_grad():
            teacher_output = encode(teacher.eval(), inputs_only(batch), [2, 4])[1]
        model.zero_grad()
        terms = model(teacher_output=teacher_output, share=BatchShare(), **batch)
        terms["loss"].backward()
        return terms, [p.grad.clone() for p in model.parameters() if p.grad is not None]

    longer = dict(span_batch)
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        fill = 7 if name == "input_ids" else 0
        longer[name] = F.pad(span_batch[name], (0, 9), value=fill)
    short_terms, short_grads = run(span_batch)
    long_terms, long_grads = run(longer)
    for name, value in short_terms.items():
        torch.testing.assert_close(long_terms[name], value, rtol=1e-4, atol=1e-5, msg=name)
    for a, b in zip(short_grads, long_grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_the_task_loss_is_transformers_own_where_nothing_is_padded(student, span_batch):
    batch = span_batch | {"attention_mask": torch.ones_like(span_batch["attention_mask"])}
    output = student(**batch)
    positions = batch["start_positions"], batch["end_positions"]
    ours = span_task_loss(
        output.start_logits, output.end_logits, *positions, batch["attention_mask"]
    )
    torch.testing.assert_close(ours, output.loss)


def test_the_task_loss_is_that_of_the_rows_with_a_label(span_batch, student):
    output, _ = encode(student, inputs_only(span_batch), [])
    logits = output.start_logits, output.end_logits
    mask = span_batch["attention_mask"]
    positions = [span_batch["start_positions"].clone(), span_batch["end_positions"].clone()]
    labelled = torch.arange(len(mask)) % 2 == 0
    kept = [x[labelled] for x in (*logits, *positions, mask)]
    for x in positions:
        x[~labelled] = IGNORED
    torch.testing.assert_close(span_task_loss(*logits, *positions, mask), span_task_loss(*kept))
    none = torch.full_like(positions[0], IGNORED)
    assert span_task_loss(*logits, none, none, mask) == 0


def test_every_parameter_of_student_and_projections_gets_a_gradient(
    make, teacher_output, span_batch
):
    model = make()
    model(teacher_output=teacher_output, share=BatchShare(), **span_batch)["loss"].backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert without == []
    assert any(n.startswith("objective.projections") for n, _ in model.named_parameters())


def test_a_narrower_student_learns_through_the_projections(
    tmp_path, teacher, narrow_student, teacher_output, span_batch
):
    args = ITRDTrainingArguments(output_dir=str(tmp_path), beta_corr=0.0)
    objective = ITRDObjective(PAIRS, student_size=16, teacher_size=32, args=args)
    model = DistillationModel(narrow_student, objective).train()
    terms = model(teacher_output=teacher_output, share=BatchShare(), **span_batch)
    terms["loss"].backward()
    assert "mi_1:2" in terms
    assert all(
        p.weight.shape == (32, 16) and p.weight.grad.abs().sum() > 0 for p in objective.projections
    )


def test_both_losses_read_the_tokens_drawn_and_no_others(make, teacher_output, student, span_batch):
    model = make(beta_corr=1.0, beta_mi=1.0, corr_max_samples=12, mi_max_samples=5)
    torch.manual_seed(7)
    terms = model(teacher_output=teacher_output, share=BatchShare(), **span_batch)
    mask = span_batch["attention_mask"].flatten()
    torch.manual_seed(7)
    drawn = draw_samples(mask, 12)
    assert mask[drawn].all() and mask.sum() > 12
    hidden = student(**inputs_only(span_batch), output_hidden_states=True).hidden_states
    for pair in model.objective.pairs:
        z_s = hidden[pair.student].flatten(0, 1)[drawn]
        z_t = teacher_output.hidden_states[pair.teacher].flatten(0, 1)[drawn]
        torch.testing.assert_close(terms[f"corr_{pair}"], correlation_loss(z_s, z_t))
        torch.testing.assert_close(terms[f"mi_{pair}"], mutual_information_loss(z_s[:5], z_t[:5]))


def test_states_that_are_released_are_freed_and_nothing_else_changes(
    tmp_path, teacher_output, student, span_batch
):
    settings = {"corr_max_samples": 12, "mi_max_samples": 5}
    args = ITRDTrainingArguments(output_dir=str(tmp_path), **settings)
    mask = span_batch["attention_mask"]
    results = []
    for release in (False, True):
        torch.manual_seed(0)
        objective = ITRDObjective(PAIRS, student_size=32, teacher_size=32, args=args)
        # Under autocast the student's layers keep copies in bf16 for their backward pass, and not the states.
        with torch.autocast("cpu", torch.bfloat16):
            own = encode(student, inputs_only(span_batch), [1, 2])[1]
            states = [weakref.ref(state) for state in own.hidden_states.values()]
            own.release = release
            terms = objective(own, teacher_output, None, mask, BatchShare())
        assert [state() is None for state in states] == [release, release]
        student.zero_grad()
        terms["loss"].backward()
        grads = [p.grad for p in student.parameters() if p.grad is not None]
        results.append((terms["corr"], terms["mi"], *grads))
    torch.testing.assert_close(results[0], results[1])


def test_the_gradient_of_drawn_tokens_is_made_when_their_layer_is_next():
    ran = []
    layers = [torch.nn.Linear(4, 4) for _ in range(2)]
    first = layers[0](torch.randn(2, 3, 4))
    second = layers[1](first)
    drawn = take(first, torch.tensor([4, 1]))
    torch.testing.assert_close(drawn, first.flatten(0, 1)[[4, 1]])
    for name, made in (("draw", drawn), ("second layer", second)):
        made.grad_fn.register_prehook(lambda _, name=name: ran.append(name))
    (second.sum() + drawn.square().sum()).backward()
    assert ran == ["second layer", "draw"]


@pytest.mark.parametrize("view", ["tokens", "sequence", "pooled"])
def test_nan_in_padding_reaches_neither_loss_nor_gradient(
    tmp_path, teacher, narrow_student, teacher_output, span_batch, view
):
    """A kernel for unpadded sequences leaves anything in the rows of padding."""
    args = ITRDTrainingArguments(output_dir=str(tmp_path), corr_view=view, mi_view=view)
    results = []
    padding = span_batch["attention_mask"] == 0
    assert padding.any()
    _, found = encode(narrow_student, inputs_only(span_batch), [1, 2])
    for fill in (0.0, float("nan")):
        torch.manual_seed(0)
        objective = ITRDObjective(PAIRS, student_size=16, teacher_size=32, args=args)
        hidden = {
            layer: states.detach().masked_fill(padding.unsqueeze(-1), fill).requires_grad_()
            for layer, states in found.hidden_states.items()
        }
        student = EncoderOutput({n: x.detach() for n, x in found.logits.items()}, hidden)
        terms = objective(student, teacher_output, None, span_batch["attention_mask"], BatchShare())
        terms["loss"].backward()
        grads = [p.grad for p in objective.parameters()] + [h.grad for h in hidden.values()]
        assert all(grad.isfinite().all() for grad in grads)
        results.append((terms["corr"], terms["mi"], *grads))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"alpha": 1.5}, {"alpha": 1.5}),
        ({"unbiased_std": True}, {"unbiased": True}),
        ({"corr_log": False}, {"log": False}),
    ],
)
def test_the_settings_of_the_correlation_loss_reach_it(
    make, teacher_output, student, span_batch, settings, options
):
    model = make(beta_corr=1.0, beta_mi=0.0, **settings)
    terms = model(teacher_output=teacher_output, share=BatchShare(), **span_batch)
    mask = span_batch["attention_mask"].flatten()
    hidden = student(**inputs_only(span_batch), output_hidden_states=True).hidden_states
    for pair in model.objective.pairs:
        z_s = hidden[pair.student].flatten(0, 1)
        z_t = teacher_output.hidden_states[pair.teacher].flatten(0, 1)
        expected = correlation_loss(z_s, z_t, mask=mask, **options)
        torch.testing.assert_close(terms[f"corr_{pair}"], expected)
        assert (expected - correlation_loss(z_s, z_t, mask=mask)).abs() > 1e-4


def test_the_form_of_the_mi_loss_reaches_it(make, teacher_output, student, span_batch):
    mask = span_batch["attention_mask"].flatten()
    hidden = student(**inputs_only(span_batch), output_hidden_states=True).hidden_states
    for log in (False, True):
        model = make(beta_corr=0.0, beta_mi=1.0, mi_log=log)
        terms = model(teacher_output=teacher_output, share=BatchShare(), **span_batch)
        for pair in model.objective.pairs:
            z_s = hidden[pair.student].flatten(0, 1)
            z_t = teacher_output.hidden_states[pair.teacher].flatten(0, 1)
            expected = mutual_information_loss(z_s, z_t, mask=mask, log=log)
            torch.testing.assert_close(terms[f"mi_{pair}"], expected)


@pytest.mark.parametrize(("init", "identity"), [("auto", True), ("default", False)])
def test_the_start_of_the_projections_reaches_them(make, init, identity):
    eye = torch.eye(32)
    for projection in make(beta_corr=1.0, projection_init=init).objective.projections:
        assert torch.equal(projection.weight, eye) == identity


def test_mi_reads_the_student_itself_where_the_widths_agree(make, teacher_output, span_batch):
    model = make(beta_corr=1.0, mi_max_samples=10_000)
    before = model(teacher_output=teacher_output, share=BatchShare(), **span_batch)
    with torch.no_grad():
        for projection in model.objective.projections:
            projection.weight.normal_()
    after = model(teacher_output=teacher_output, share=BatchShare(), **span_batch)
    torch.testing.assert_close(after["mi"], before["mi"])
    assert (after["corr"] - before["corr"]).abs() > 0.01


def test_without_projections_to_learn_there_are_none(make):
    assert len(make(beta_corr=0.0).objective.projections) == 0
    assert len(make(beta_corr=0.0, beta_mi=0.0).objective.projections) == 0


def test_classification_and_token_heads_distil_their_logits(tmp_path):
    args = ITRDTrainingArguments(output_dir=str(tmp_path), beta_corr=0, beta_mi=0, temperature=2.0)
    objective = ITRDObjective([], student_size=4, teacher_size=4, args=args)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    for shape in ((2, 5), (2, 3, 5)):
        s, t = torch.randn(shape), torch.randn(shape)
        terms = objective(
            EncoderOutput({"logits": s}, {}),
            EncoderOutput({"logits": t}, {}),
            None,
            mask,
            BatchShare(),
        )
        rows = (s, t) if len(shape) == 2 else (s[mask.bool()], t[mask.bool()])
        torch.testing.assert_close(terms["kd"], kd_loss(*rows, temperature=2.0))


def test_evaluation_is_the_student_alone(make, student, span_batch):
    model = make().eval()
    batch = inputs_only(span_batch)
    output = model(**batch)
    assert set(output.keys()) == {"start_logits", "end_logits"}
    assert torch.equal(output.start_logits, student(**batch).start_logits)


def test_a_batch_without_a_mask_is_refused(make, teacher_output, span_batch):
    del span_batch["attention_mask"]
    with pytest.raises(UserError, match="holds no attention_mask"):
        make()(teacher_output=teacher_output, share=BatchShare(), **span_batch)


def test_a_micro_batch_without_a_label_adds_nothing_to_the_task_loss():
    """Its mean is NaN; other processes and micro-batches of the step may have labels."""
    args = ITRDTrainingArguments(output_dir="unused", w_kd=0, beta_corr=0, beta_mi=0)
    objective = ITRDObjective([], student_size=4, teacher_size=4, args=args)
    logits = torch.randn(5, 3, requires_grad=True)
    labels = torch.full((5,), -100)
    loss = F.cross_entropy(logits, labels)
    assert loss.isnan()
    terms = objective(
        EncoderOutput({"logits": logits}, {}),
        None,
        loss,
        torch.ones(5, 1),
        BatchShare(task=torch.tensor(0.0)),
    )
    terms["loss"].backward()
    assert terms["loss"] == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_on_one_process_nothing_is_exchanged(make, teacher_output, span_batch):
    def terms(**kwargs):
        torch.manual_seed(0)
        model = make(mi_max_samples=10_000, **kwargs)
        return model(teacher_output=teacher_output, share=BatchShare(), **span_batch)

    alone = terms(sync_statistics=False, mi_gather=False)
    for name, value in terms(sync_statistics=True, mi_gather=True).items():
        assert torch.equal(value, alone[name]), name


@pytest.mark.parametrize("view", ["tokens", "sequence", "pooled"])
def test_no_number_is_read_from_the_device(make, teacher, span_batch, view, monkeypatch):
    """On the meta device nothing can be read, so that whatever would wait for a GPU raises."""
    # transformers asks once in every forward whether there is padding; that is not ours to change.
    monkeypatch.setattr(
        "transformers.masking_utils._ignore_bidirectional_mask_sdpa", lambda *_, **__: False
    )
    # autocast knows no meta device.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    model = make(corr_view=view, mi_view=view, corr_max_samples=16, mi_max_samples=8).to("meta")
    batch = {name: value.to("meta") for name, value in span_batch.items()}
    with torch.no_grad():
        teacher_output = encode(teacher.to("meta"), inputs_only(batch), [2, 4])[1]
    terms = model(teacher_output=teacher_output, share=BatchShare(), **batch)
    terms["loss"].backward()
    with pytest.raises(RuntimeError, match="meta"):
        terms["loss"].item()
    assert all(p.grad.is_meta for p in model.parameters())
