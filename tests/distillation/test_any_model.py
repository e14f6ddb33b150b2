"""Models of every kind under one trainer: images, sound, an encoder with a decoder, and modules of the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForTokenClassification,
    FNetConfig,
    FNetForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
)

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.errors import UserError
from itrd_nlp.losses import correlation_loss, kd_loss, mutual_information_loss
from itrd_nlp.models.adaptor import Reading
from itrd_nlp.models.encode import encode

CLASSES = 3


def train(student: Any, teacher: Any, rows: Any, folder: Path, **options: Any) -> ITRDTrainer:
    """Three steps with all terms, saved and evaluated."""
    trainer_options = {
        name: options.pop(name)
        for name in ("student_adaptor", "teacher_adaptor", "data_collator", "processing_class")
        if name in options
    }
    values: dict[str, Any] = {
        "output_dir": str(folder / "run"),
        "per_device_train_batch_size": 4,
        "max_steps": 3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "train_sampling_strategy": "sequential",
        "corr_view": "pooled",
        "mi_view": "pooled",
        "teacher_cache": "off",
    }
    trainer = ITRDTrainer(
        model=student,
        teacher=teacher,
        args=ITRDTrainingArguments(**(values | options)),
        train_dataset=rows,
        eval_dataset=rows,
        **trainer_options,
    )
    trainer.train()
    trainer.save_model(str(folder / "saved"))
    return trainer


def check_terms(trainer: ITRDTrainer) -> None:
    steps = [row for row in trainer.state.log_history if "loss" in row]
    assert len(steps) == 3
    for row in steps:
        assert {"task", "kd", "corr", "mi"} <= row.keys()
        assert all(torch.tensor(row[name]).isfinite() for name in ("task", "kd", "corr", "mi"))
    assert torch.tensor(trainer.evaluate()["eval_loss"]).isfinite()


# ---- images ----


def image_rows(count: int = 8, channels: int = 1, size: int = 16) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(count, channels, size, size, generator=generator)
    return [{"pixel_values": pixels[i], "labels": i % CLASSES} for i in range(count)]


def resnet(width: int, *, depths: tuple[int, ...] = (1, 1), seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    return ResNetForImageClassification(
        ResNetConfig(
            num_channels=1,
            embedding_size=width,
            hidden_sizes=[width * 2**i for i in range(len(depths))],
            depths=list(depths),
            layer_type="basic",
            num_labels=CLASSES,
        )
    )


def vit(width: int, layers: int, *, patch: int = 4, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    return ViTForImageClassification(
        ViTConfig(
            image_size=16,
            patch_size=patch,
            num_channels=1,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=2 * width,
            num_labels=CLASSES,
            hidden_dropout_prob=0.0,
        )
    )


@pytest.mark.parametrize("view", ["tokens", "sequence", "pooled"])
@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        (lambda: resnet(4), lambda: resnet(8, seed=1)),
        (lambda: vit(16, 2), lambda: vit(32, 4, seed=1)),
    ],
    ids=["resnet", "vit"],
)
def test_networks_for_images_learn_from_each_other(
    student: Any, teacher: Any, view: str, tmp_path: Path
) -> None:
    check_terms(train(student(), teacher(), image_rows(), tmp_path, corr_view=view, mi_view=view))
    loaded = type(student()).from_pretrained(tmp_path / "saved")
    assert loaded.config.num_labels == CLASSES


def test_other_positions_need_the_pooled_view(tmp_path: Path) -> None:
    student, teacher = vit(16, 2, patch=8), vit(16, 2, patch=4, seed=1)
    with pytest.raises(UserError, match=r"the student has 5 positions where its teacher has 17"):
        train(student, teacher, image_rows(), tmp_path, corr_view="tokens")
    check_terms(train(student, teacher, image_rows(), tmp_path))


def test_the_pooled_view_of_maps_is_the_representation_of_the_paper(tmp_path: Path) -> None:
    """It is the mean over all places of a map, and each loss that of the formulas on these vectors."""
    student, teacher = resnet(8), resnet(8, seed=1)
    rows = image_rows(4)
    batch = torch.stack([row["pixel_values"] for row in rows])
    # Batch statistics differ in training mode; both losses are read in the mode of a step.
    with torch.no_grad():
        states = [
            model(batch, output_hidden_states=True).hidden_states[-1].mean(dim=(2, 3))
            for model in (student.train(), teacher.eval())
        ]
    expected = correlation_loss(*states), mutual_information_loss(*states)
    student = resnet(8)  # running averages are as they were
    options = {"layer_map": "last", "max_steps": 1, "alpha": 1.01}
    trainer = train(student, teacher, rows, tmp_path, **options)
    logged = trainer.state.log_history[0]
    assert logged["corr"] == pytest.approx(expected[0].item(), rel=1e-3)
    assert logged["mi"] == pytest.approx(expected[1].item(), rel=1e-3)


def test_layers_of_different_widths_have_projections_of_their_own(tmp_path: Path) -> None:
    trainer = train(resnet(4), resnet(8, seed=1), image_rows(), tmp_path, include_embeddings=True)
    shapes = [tuple(p.weight.shape) for p in trainer.model.objective.projections]
    assert shapes == [(8, 4), (8, 4), (16, 8)]
    assert {"correlation_0:0", "correlation_1:1", "correlation_2:2"} <= trainer.state.log_history[
        0
    ].keys()


def test_a_cache_for_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="keeps outputs for tokens, and ResNetFor"):
        train(resnet(4), resnet(8), image_rows(), tmp_path, teacher_cache="on")


def test_widths_that_no_configuration_says_need_rows(tmp_path: Path) -> None:
    args = ITRDTrainingArguments(output_dir=str(tmp_path), report_to="none")
    with pytest.raises(UserError, match="does not say the width of each layer; give the trainer a"):
        ITRDTrainer(model=resnet(4), teacher=resnet(8), args=args)


def test_looking_at_the_rows_leaves_no_trace(tmp_path: Path) -> None:
    """The running averages of a batch norm are as they were, and the mode, too."""
    student = resnet(4).train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    args = ITRDTrainingArguments(output_dir=str(tmp_path), report_to="none")
    ITRDTrainer(model=student, teacher=resnet(8), args=args, train_dataset=image_rows())
    assert student.training
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


# ---- a user's own ----


class OwnConfig(PreTrainedConfig):
    model_type = "own"


class Own(PreTrainedModel):
    """A student that no library knows."""

    config_class = OwnConfig
    main_input_name = "pixels"

    def __init__(self, config: OwnConfig) -> None:
        super().__init__(config)
        self.first, self.second = nn.Linear(16, 8), nn.Linear(8, CLASSES)
        self.post_init()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        states = self.first(pixels.flatten(1)).relu()
        return states, self.second(states)


class Module(nn.Module):
    """A teacher that is no model of transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(6, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.head(self.layers(image[:, None]).mean((2, 3)))
        return result


def read_own(model: Any, inputs: dict[str, Any]) -> Reading:
    states, logits = model(inputs["pixels"])
    loss = nn.functional.cross_entropy(logits, inputs["labels"]) if "labels" in inputs else None
    return Reading(logits, [inputs["pixels"].flatten(1), states], loss=loss)


def read_module(model: Any, inputs: dict[str, Any]) -> Reading:
    maps = model.layers(inputs["pixels"][:, None])
    return Reading(model.head(maps.mean((2, 3))), [inputs["pixels"][:, None], maps])


def own_rows() -> datasets.Dataset:
    generator = torch.Generator().manual_seed(0)
    return datasets.Dataset.from_list(
        [
            {"pixels": torch.randn(4, 4, generator=generator).tolist(), "labels": i % CLASSES}
            for i in range(8)
        ]
    )


def test_a_student_and_a_teacher_of_ones_own_need_one_function_each(tmp_path: Path) -> None:
    torch.manual_seed(0)
    student, teacher = Own(OwnConfig(num_labels=CLASSES)), Module()
    adaptors = {"student_adaptor": read_own, "teacher_adaptor": read_module}
    before = student.first.weight.detach().clone()
    trainer = train(student, teacher, own_rows(), tmp_path, **adaptors)
    check_terms(trainer)
    assert not torch.equal(student.first.weight, before)
    loaded = Own.from_pretrained(tmp_path / "saved")
    assert torch.equal(loaded.first.weight, student.first.weight)


def test_the_terms_are_those_of_what_the_functions_return(tmp_path: Path) -> None:
    torch.manual_seed(0)
    student, teacher = Own(OwnConfig(num_labels=CLASSES)), Module()
    rows = own_rows().select(range(4))
    batch = {"pixels": torch.tensor(rows["pixels"]), "labels": torch.tensor(rows["labels"])}
    with torch.no_grad():
        ours, theirs = read_own(student, batch), read_module(teacher, batch)
    adaptors = {"student_adaptor": read_own, "teacher_adaptor": read_module}
    trainer = train(student, teacher, rows, tmp_path, max_steps=1, temperature=2.0, **adaptors)
    logged = trainer.state.log_history[0]
    assert logged["task"] == pytest.approx(ours.loss.item(), rel=1e-4)
    assert logged["kd"] == pytest.approx(
        kd_loss(ours.logits, theirs.logits, temperature=2.0).item(), rel=1e-3
    )


def with_a_column_of_the_teacher() -> list[dict[str, Any]]:
    """Rows in which no model names the column of the teacher in its `forward`."""
    return [
        {"pixel_values": row["pixel_values"], "labels": row["labels"], "of_teacher": [1.0, -1.0]}
        for row in image_rows()
    ]


class MapStyle(torch.utils.data.Dataset[dict[str, Any]]):
    def __init__(self) -> None:
        self.rows = with_a_column_of_the_teacher()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.rows[i]


class Stream(torch.utils.data.IterableDataset[dict[str, Any]]):
    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(with_a_column_of_the_teacher())


def unnamed_stream() -> datasets.IterableDataset:
    stream = datasets.IterableDataset.from_generator(with_a_column_of_the_teacher)
    assert stream.column_names is None
    return stream


@pytest.mark.parametrize(
    "rows",
    [
        MapStyle,
        Stream,
        unnamed_stream,
        with_a_column_of_the_teacher,
        lambda: datasets.Dataset.from_list(with_a_column_of_the_teacher()).with_format("torch"),
    ],
    ids=["map style", "stream", "stream of datasets", "list", "dataset"],
)
def test_a_function_gets_all_columns_of_rows_of_every_kind(rows: Any, tmp_path: Path) -> None:
    """Student and evaluation get them, too. The student of transformers takes the part that it reads."""
    seen: set[tuple[str, ...]] = set()
    teacher = nn.Linear(2, CLASSES)

    def read(model: Any, inputs: dict[str, Any]) -> Reading:
        seen.add(tuple(sorted(inputs)))
        return Reading(model(inputs["of_teacher"]), [])

    trainer = ITRDTrainer(
        model=resnet(4),
        teacher=teacher,
        args=ITRDTrainingArguments(
            output_dir=str(tmp_path),
            beta_corr=0,
            beta_mi=0,
            max_steps=1,
            teacher_cache="off",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=rows(),
        eval_dataset={"first": rows(), "second": rows()},
        teacher_adaptor=read,
    )
    trainer.train()
    assert seen == {("of_teacher", "pixel_values")}
    scores = trainer.evaluate()
    assert {"eval_first_loss", "eval_second_loss"} <= scores.keys()


def test_a_student_read_by_a_function_is_evaluated_on_all_columns(tmp_path: Path) -> None:
    """`trainer.evaluate(rows)` and a dictionary of data sets are evaluated as the rows of the training are."""
    torch.manual_seed(0)
    seen: list[tuple[str, ...]] = []

    def read(model: Any, inputs: dict[str, Any]) -> Reading:
        seen.append(tuple(sorted(inputs)))
        return read_own(model, inputs)

    student, teacher = Own(OwnConfig(num_labels=CLASSES)), Module()
    adaptors = {"student_adaptor": read, "teacher_adaptor": read_module}
    trainer = train(student, teacher, own_rows(), tmp_path, max_steps=1, **adaptors)
    seen.clear()
    rows = own_rows().add_column("more", [0.5] * 8)
    trainer.evaluate({"a": rows, "b": list(rows)})
    assert seen == [("labels", "more", "pixels")] * 2


def test_a_module_without_a_function_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="the teacher is a Module, which is no model of transformers"
    ):
        train(resnet(4), Module(), image_rows(), tmp_path)
    with pytest.raises(UserError, match="the student is a Module, but must be a PreTrainedModel"):
        train(Module(), resnet(4), image_rows(), tmp_path, student_adaptor=read_module)


def test_a_function_that_returns_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the adaptor of Module returned a Tensor, but must return"):
        train(
            Own(OwnConfig(num_labels=CLASSES)),
            Module(),
            own_rows(),
            tmp_path,
            student_adaptor=read_own,
            teacher_adaptor=lambda model, inputs: model(inputs["pixels"]),
        )


# ---- tokens of other kinds ----


def token_rows(count: int = 8) -> list[dict[str, Any]]:
    return [
        {
            "input_ids": [2, 5 + i, 9, 3] + [0] * 4,
            "attention_mask": [1] * 4 + [0] * 4,
            "labels": i % CLASSES,
        }
        for i in range(count)
    ]


def fnet(layers: int, seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = FNetConfig(
        vocab_size=64,
        hidden_size=16,
        num_hidden_layers=layers,
        intermediate_size=32,
        pad_token_id=0,
        num_labels=CLASSES,
    )
    return FNetForSequenceClassification(config)


@pytest.mark.parametrize("with_mask", [True, False])
@pytest.mark.parametrize("cache", ["on", "off"])
def test_a_model_that_reads_no_mask_still_knows_its_padding(
    cache: str, with_mask: bool, tmp_path: Path
) -> None:
    rows = datasets.Dataset.from_list(token_rows())
    rows = rows if with_mask else rows.remove_columns("attention_mask")
    trainer = train(
        fnet(2, 0),
        fnet(4, 1),
        rows,
        tmp_path,
        corr_view="tokens",
        mi_view="tokens",
        teacher_cache=cache,
        teacher_cache_dir=str(tmp_path / "cache"),
    )
    check_terms(trainer)
    ids = torch.tensor([row["input_ids"] for row in token_rows()])
    assert torch.equal(encode(trainer.student, {"input_ids": ids}, [1])[1].mask, ids.ne(0))


def test_the_states_of_an_encoder_with_a_decoder_are_those_of_the_encoder(tmp_path: Path) -> None:
    def bart(layers: int, seed: int) -> PreTrainedModel:
        torch.manual_seed(seed)
        config = BartConfig(
            vocab_size=64,
            d_model=16,
            encoder_layers=layers,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            max_position_embeddings=64,
            num_labels=CLASSES,
        )
        return BartForSequenceClassification(config)

    rows = [row | {"input_ids": [0, 5, 9, 2] + [1] * 4} for row in token_rows()]
    trainer = train(bart(2, 0), bart(3, 1), rows, tmp_path, layer_map=["1:1", "2:3"])
    check_terms(trainer)


def test_choices_of_a_question_are_sequences(tmp_path: Path) -> None:
    rows = [
        {
            "input_ids": [[2, 5 + i, 9, 3], [2, 7, 3, 0], [2, 3, 0, 0]],
            "attention_mask": [[1] * 4, [1, 1, 1, 0], [1, 1, 0, 0]],
            "labels": i % 3,
        }
        for i in range(8)
    ]
    options = {"corr_view": "tokens", "mi_view": "tokens"}
    student, teacher = (bert(BertForMultipleChoice, 1 + i, i) for i in (1, 2))
    check_terms(train(student, teacher, rows, tmp_path, **options))
    with pytest.raises(UserError, match="one window a row, and a multiple-choice"):
        train(student, teacher, rows, tmp_path / "cached", teacher_cache="on")


def test_a_sound_counts_where_its_frames_hold_sound(tmp_path: Path) -> None:
    def wav(layers: int, seed: int) -> PreTrainedModel:
        torch.manual_seed(seed)
        config = Wav2Vec2Config(
            hidden_size=16,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=32,
            conv_dim=[8, 8],
            conv_kernel=[10, 3],
            conv_stride=[5, 2],
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
            mask_time_prob=0.0,
            num_labels=CLASSES,
            classifier_proj_size=8,
            layerdrop=0.0,
        )
        return Wav2Vec2ForSequenceClassification(config)

    rows = [
        {
            "input_values": torch.randn(200, generator=torch.Generator().manual_seed(i)),
            "attention_mask": torch.arange(200).lt(120).long(),
            "labels": i % CLASSES,
        }
        for i in range(8)
    ]
    options = {"corr_view": "tokens", "mi_view": "tokens"}
    check_terms(train(wav(2, 0), wav(3, 1), rows, tmp_path, **options))


# ---- vocabularies ----


def test_padded_embeddings_need_the_tokenizer(make_reader: Any, tmp_path: Path) -> None:
    teacher, tokenizer = make_reader([f"w{i}" for i in range(20)], 3, max_position_embeddings=16)
    config = type(teacher.config)(
        **teacher.config.to_dict() | {"vocab_size": 32, "num_hidden_layers": 2}
    )
    student = BertForQuestionAnswering(config)
    rows = [
        {
            "input_ids": [2, 5 + i, 9, 3],
            "attention_mask": [1] * 4,
            "start_positions": 1,
            "end_positions": 2,
        }
        for i in range(8)
    ]
    with pytest.raises(
        UserError, match=r"vocab_size of the student is 32 and of the teacher 25.*processing_class"
    ):
        train(student, teacher, rows, tmp_path)
    check_terms(train(student, teacher, rows, tmp_path, processing_class=tokenizer))
    tokenizer.add_tokens(["one more"])
    with pytest.raises(
        UserError, match="the tokenizer has ids up to 25, which both models must know"
    ):
        train(student, teacher, rows, tmp_path, processing_class=tokenizer)


# ---- heads of words and of choices ----


def bert(kind: Any, layers: int, seed: int, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=64,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.5,
        **changes,
    )
    model: PreTrainedModel = kind(config)
    return model


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        (BertForMaskedLM, [-100, 7, -100, -100]),
        (BertForTokenClassification, [-100, 1, 0, -100]),
    ],
    ids=["masked words", "tokens"],
)
def test_logits_of_each_token_are_compared_where_there_is_one(
    kind: Any, labels: list[int], tmp_path: Path
) -> None:
    student, teacher = bert(kind, 2, 0), bert(kind, 3, 1)
    rows = [
        {
            "input_ids": [2, 5 + i, 9, 3] + [0] * 2,
            "attention_mask": [1] * 4 + [0] * 2,
            "labels": labels + [-100] * 2,
        }
        for i in range(4)
    ]
    ids = torch.tensor([row["input_ids"] for row in rows])
    mask = torch.tensor([row["attention_mask"] for row in rows])
    with torch.no_grad():
        ours, theirs = (
            model.eval()(input_ids=ids, attention_mask=mask).logits[:, :4].double()
            for model in (student, teacher)
        )
        expected = (
            (theirs.softmax(-1) * (theirs.log_softmax(-1) - ours.log_softmax(-1))).sum(-1).mean()
        )
    trainer = train(student, teacher, rows, tmp_path, temperature=1.0, corr_view="tokens")
    check_terms(trainer)
    assert trainer.state.log_history[0]["kd"] == pytest.approx(expected.item(), rel=1e-3)


def test_choices_are_classes_whatever_num_labels_says(tmp_path: Path) -> None:
    student, teacher = (bert(BertForMultipleChoice, 2, seed, num_labels=1) for seed in (0, 1))
    rows = [
        {"input_ids": [[2, 5 + i, 3], [2, 7, 3]], "attention_mask": [[1] * 3] * 2, "labels": i % 2}
        for i in range(4)
    ]
    ids = torch.tensor([row["input_ids"] for row in rows])
    with torch.no_grad():
        ours, theirs = (
            model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            for model in (student, teacher)
        )
    trainer = train(student, teacher, rows, tmp_path, temperature=2.0)
    assert trainer.state.log_history[0]["kd"] == pytest.approx(
        kd_loss(ours, theirs, temperature=2.0).item(), rel=1e-3
    )


# ---- lengths ----


@pytest.mark.parametrize("short", ["student", "teacher"])
def test_rows_that_are_longer_than_a_model_are_refused_before_the_first_step(
    make_bert: Any, short: str, tmp_path: Path
) -> None:
    sizes = {"student": 64, "teacher": 64, short: 16}
    student = make_bert(2, seed=0, max_position_embeddings=sizes["student"])
    teacher = make_bert(2, seed=1, max_position_embeddings=sizes["teacher"])

    def rows(longest: int) -> datasets.Dataset:
        return datasets.Dataset.from_list(
            [
                {
                    "input_ids": [5] * longest,
                    "attention_mask": [1] * longest,
                    "start_positions": 1,
                    "end_positions": 2,
                }
            ]
            * 4
        )

    with pytest.raises(UserError, match="have 17 tokens, but the model takes 16 at most"):
        train(student, teacher, rows(17), tmp_path)
    check_terms(train(student, teacher, rows(16), tmp_path))


def test_the_data_of_every_evaluation_are_looked_at(tmp_path: Path, make_bert: Any) -> None:
    short = datasets.Dataset.from_list([{"input_ids": [5] * 16}])
    long = datasets.Dataset.from_list([{"input_ids": [5] * 17}])
    models = [make_bert(1, seed=seed, max_position_embeddings=16) for seed in (0, 1)]
    args = ITRDTrainingArguments(output_dir=str(tmp_path), report_to="none")
    ITRDTrainer(*models, args, eval_dataset={"short": short})
    with pytest.raises(UserError, match="have 17 tokens, but the model takes 16 at most"):
        ITRDTrainer(*models, args, eval_dataset={"short": short, "long": long})


def test_columns_that_no_model_reads_are_not_collated(tmp_path: Path) -> None:
    """The trainer removes them, too, before it collates: an image that is left over has no tensor."""
    image = pytest.importorskip("PIL.Image").new("L", (2, 2))
    rows = [row | {"image": image} for row in image_rows()]
    check_terms(train(vit(16, 2), vit(32, 2, seed=1), rows, tmp_path))


class Stored(nn.Module):
    """A teacher without weights, which reads what is stored and takes no labels."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1)


def read_stored(model: Any, inputs: dict[str, Any]) -> Reading:
    states = model(**inputs)
    return Reading(states[:, :CLASSES], [states, states])


def test_a_teacher_without_weights_gets_a_batch_without_labels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    student = Own(OwnConfig(num_labels=CLASSES))
    adaptors = {"student_adaptor": read_own, "teacher_adaptor": read_stored}
    check_terms(train(student, Stored(), own_rows(), tmp_path, **adaptors))


def read_without_loss(model: Any, inputs: dict[str, Any]) -> Reading:
    states, logits = model(inputs["pixels"])
    return Reading(logits, [inputs["pixels"].flatten(1), states])


def test_a_student_without_a_loss_of_its_own_is_evaluated_by_its_metrics(tmp_path: Path) -> None:
    torch.manual_seed(0)
    args = ITRDTrainingArguments(
        str(tmp_path), report_to="none", disable_tqdm=True, w_task=0, beta_corr=0, beta_mi=0
    )
    trainer = ITRDTrainer(
        Own(OwnConfig(num_labels=CLASSES)),
        Module(),
        args,
        student_adaptor=read_without_loss,
        teacher_adaptor=read_module,
        train_dataset=own_rows(),
        eval_dataset=own_rows(),
        compute_metrics=lambda found: {"rows": len(found.predictions) + 10 * len(found.label_ids)},
    )
    found = trainer.evaluate()
    assert found["eval_rows"] == 88
    assert "eval_loss" not in found
