"""`TeacherCache` and `Teacher`: what is read is what was written, damage is found, limits hold."""

import logging
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch
from torch.nn import functional as F
from transformers import BertForSequenceClassification, BertForTokenClassification, BertModel

from itrd_nlp.distillation import teacher as teacher_module
from itrd_nlp.distillation import teacher_cache as cache_module
from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.cache_folder import cache_folder
from itrd_nlp.distillation.teacher import Teacher
from itrd_nlp.distillation.teacher_cache import TeacherCache, row_keys
from itrd_nlp.errors import UserError
from itrd_nlp.models.embedder import embedder_class
from itrd_nlp.models.encode import encode
from itrd_nlp.models.low_bits import prepare_qat, remove_qat

LABELS = ("start_positions", "end_positions")
LAYERS = [2, 4]


@pytest.fixture
def cache(tmp_path):
    return TeacherCache(tmp_path / "cache", max_bytes=10**9)


@pytest.fixture
def batch(span_batch):
    return {name: value for name, value in span_batch.items() if name not in LABELS}


@pytest.fixture
def output(teacher, batch):
    with torch.inference_mode():
        return encode(teacher.eval(), batch, LAYERS)[1]


@pytest.fixture
def arguments(tmp_path):
    def arguments(**kwargs):
        defaults = {"output_dir": str(tmp_path / "run"), "report_to": "none"}
        defaults |= {"teacher_cache": "on", "teacher_cache_dir": str(tmp_path / "caches")}
        return ITRDTrainingArguments(**(defaults | kwargs))

    return arguments


@pytest.fixture
def calls(teacher):
    """How often the teacher ran."""
    seen = []
    teacher.register_forward_hook(lambda *_: seen.append(1))
    return seen


def fresh(cache, **kwargs):
    """The cache as another process would open it."""
    return TeacherCache(cache.folder, **({"max_bytes": 10**9} | kwargs))


def assert_same(read, output, mask):
    assert read.hidden_states.keys() == output.hidden_states.keys()
    for layer, expected in output.hidden_states.items():
        assert read.hidden_states[layer].dtype == torch.bfloat16
        assert torch.equal(read.hidden_states[layer][mask], expected.bfloat16()[mask])
        assert not read.hidden_states[layer][~mask].any()
    for name, expected in output.logits.items():
        assert torch.equal(read.logits[name][mask], expected[mask])


def test_what_was_written_is_read_by_another_process(cache, batch, output):
    cache.write(batch, output)
    read = fresh(cache).read(batch, layers=LAYERS, logits=True)
    assert_same(read, output, batch["attention_mask"].bool())


def test_windows_are_found_in_another_order_and_padding(cache, batch, output):
    cache.write(batch, output)
    order = [3, 0, 5]
    other = {name: torch.cat([x[order], x[order] * 0], dim=1) for name, x in batch.items()}
    other["input_ids"][other["attention_mask"] == 0] = 7  # garbage where it does not count
    read = fresh(cache).read(other, layers=LAYERS, logits=True)
    length = batch["input_ids"].shape[1]
    mask = batch["attention_mask"][order].bool()
    for layer in LAYERS:
        expected = output.hidden_states[layer][order].bfloat16()
        assert torch.equal(read.hidden_states[layer][:, :length][mask], expected[mask])


@pytest.mark.parametrize("name", ["input_ids", "token_type_ids"])
def test_another_text_or_segment_is_another_window(batch, name):
    other = {key: value.clone() for key, value in batch.items()}
    other[name][0, 0] += 1
    keys, changed = row_keys(batch), row_keys(other)
    assert keys[0] != changed[0]
    assert keys[1:] == changed[1:]


def test_inputs_in_bf16_have_keys_and_the_keys_of_others_are_those_of_older_caches(batch):
    image = torch.linspace(0, 1, 6).repeat(len(batch["input_ids"]), 1)
    keys = row_keys(batch | {"pixel_values": image.bfloat16()})
    assert not set(keys) & set(row_keys(batch | {"pixel_values": (image + 1).bfloat16()}))
    text = {"input_ids": torch.tensor([[5, 6]]), "attention_mask": torch.ones(1, 2)}
    others = {"pixel_values": torch.tensor([[0.5, 1.0]]), "label": torch.tensor([True])}
    (key,) = row_keys(text | others)
    assert key.hex() == "660361c79936cac3f558b3a1c78598c9"


def test_a_table_of_the_tokens_is_a_part_of_its_window_whatever_its_padding(batch):
    """Boxes of layout models are padded with boxes that are no zeros."""
    boxes = torch.arange(batch["input_ids"].numel() * 4).view(*batch["input_ids"].shape, 4)
    padding = batch["attention_mask"] == 0
    assert padding.any()
    otherwise = boxes.masked_fill(padding.unsqueeze(-1), 7)
    keys = row_keys(batch | {"bbox": boxes})
    assert keys == row_keys(batch | {"bbox": otherwise})
    longer = {
        "input_ids": F.pad(batch["input_ids"], (0, 3)),
        "attention_mask": F.pad(batch["attention_mask"], (0, 3)),
        "bbox": F.pad(boxes, (0, 0, 0, 3), value=9),
    }
    only = {name: x for name, x in batch.items() if name in longer}
    assert row_keys(longer) == row_keys(only | {"bbox": boxes})
    moved = boxes.clone()
    moved[0, 1] += 1
    assert [a == b for a, b in zip(row_keys(batch | {"bbox": moved}), keys, strict=True)] == [
        False,
        *[True] * (len(keys) - 1),
    ]


def test_a_batch_of_which_a_window_is_missing_is_not_read(cache, batch, output):
    first = {name: x[:4] for name, x in batch.items()}
    part = encode_part(output, slice(0, 4))
    cache.write(first, part)
    assert cache.read(first, layers=LAYERS, logits=True) is not None
    assert cache.read(batch, layers=LAYERS, logits=True) is None
    assert (cache.hits, cache.misses) == (4, 6)


def encode_part(output, rows):
    return type(output)(
        logits={name: x[rows] for name, x in output.logits.items()},
        hidden_states={layer: x[rows] for layer, x in output.hidden_states.items()},
    )


def test_runs_with_other_layers_share_what_they_have_in_common(cache, batch, output):
    cache.write(batch, output)
    again = fresh(cache)
    assert again.read(batch, layers=[4], logits=False) is not None
    assert again.read(batch, layers=[3, 4], logits=False) is None


def test_logits_of_a_classifier_are_kept_one_row_a_window(cache, batch):
    logits = torch.randn(6, 3)
    cache.write(batch, type("Output", (), {"logits": {"logits": logits}, "hidden_states": {}})())
    assert torch.equal(fresh(cache).read(batch, layers=[], logits=True).logits["logits"], logits)


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_shard_is_found_and_rebuilt(cache, batch, output, damage, caplog):
    cache.write(batch, output)
    (shard,) = (cache.folder / "hidden-4").glob("*.bin")
    content = bytearray(shard.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    elif damage == "truncate":
        shard.write_bytes(content[: len(content) // 2])
    else:
        shard.unlink()
    again = fresh(cache)
    with caplog.at_level(logging.WARNING):
        assert again.read(batch, layers=LAYERS, logits=True) is None
    assert f"{shard.name} is damaged" in caplog.text
    again.write(batch, output)
    mask = batch["attention_mask"].bool()
    assert_same(fresh(cache).read(batch, layers=LAYERS, logits=True), output, mask)


def test_an_entry_that_a_kill_left_half_written_is_not_there(cache, batch, output):
    cache.write(batch, output)
    (index,) = (cache.folder / "start_logits").glob("*.idx")
    index.write_bytes(index.read_bytes()[:-5])
    again = fresh(cache)
    assert again.read({k: x[:5] for k, x in batch.items()}, layers=LAYERS, logits=True) is not None
    assert again.read(batch, layers=LAYERS, logits=True) is None


def test_what_another_process_adds_is_seen(cache, batch, output):
    ours = fresh(cache)
    assert ours.read(batch, layers=LAYERS, logits=True) is None
    cache.write(batch, output)
    assert ours.read(batch, layers=LAYERS, logits=True) is not None


def test_shards_end_at_their_size(cache, batch, output, monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD_BYTES", 500)
    cache.write(batch, output)
    assert len(list((cache.folder / "hidden-4").glob("*.bin"))) > 1
    assert fresh(cache).read(batch, layers=LAYERS, logits=True) is not None


def test_the_limit_ends_the_writing_and_not_the_training(cache, batch, output, caplog):
    small = fresh(cache, max_bytes=2000)
    with caplog.at_level(logging.WARNING):
        small.write(batch, output)
        small.write(batch, output)
    assert caplog.text.count("stores no more windows") == 1
    assert sum(path.stat().st_size for path in cache.folder.glob("*/*.bin")) <= 2000


def test_the_limit_holds_for_all_processes_together(cache, batch, output):
    """Each of them opens the cache while it is empty."""
    first, second = (fresh(cache, max_bytes=8000) for _ in range(2))
    for row in range(len(batch["input_ids"])):
        for number, one in enumerate((first, second)):
            window = {name: value[row : row + 1] for name, value in batch.items()}
            window["input_ids"] = (window["input_ids"] + number) % 60  # each has its own
            one.write(window, encode_part(output, slice(row, row + 1)))
    size = sum(path.stat().st_size for path in cache.folder.glob("*/*.bin"))
    assert 6000 < size <= 8000


def test_a_full_disk_ends_the_writing_and_not_the_training(
    cache, batch, output, monkeypatch, caplog
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module, "_write_all", full)
    with caplog.at_level(logging.WARNING):
        cache.write(batch, output)
    assert "No space left on device" in caplog.text


def test_two_processes_fill_it_together(cache, batch, output, tmp_path):
    """Both write the same windows at the same time; a third reads all of them."""
    torch.save((batch, encode_part(output, slice(None)).__dict__), tmp_path / "output.pt")
    code = (
        "import sys, torch; from pathlib import Path; from itrd_nlp.distillation.objective import EncoderOutput;"
        "from itrd_nlp.distillation.teacher_cache import TeacherCache;"
        f"batch, output = torch.load({str(tmp_path / 'output.pt')!r});"
        f"cache = TeacherCache(Path({str(cache.folder)!r}), max_bytes=10**9);"
        "cache.write(batch, EncoderOutput(**output))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    mask = batch["attention_mask"].bool()
    assert_same(fresh(cache).read(batch, layers=LAYERS, logits=True), output, mask)


def overwrite(path, at, content):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


# Each damages a file of a stream that is no record. An entry of an index has 32 bytes: key, offset, size, checksum.
METADATA = {
    "an empty type": lambda folder: (folder / "type").write_bytes(b""),
    "a type that is no text": lambda folder: (folder / "type").write_bytes(b"\xff\xfe token"),
    "a type of another kind": lambda folder: (folder / "type").write_text("window float32"),
    "a type of no dtype": lambda folder: (folder / "type").write_text("vector nn"),
    "a type that no teacher has": lambda folder: (folder / "type").write_text("token int8"),
    "no type": lambda folder: (folder / "type").unlink(),
    "an empty index": lambda folder: next(folder.glob("*.idx")).write_bytes(b""),
    "an index of noise": lambda folder: next(folder.glob("*.idx")).write_bytes(bytes(range(256))),
    "an index that lost its first bytes": lambda folder: next(folder.glob("*.idx")).write_bytes(
        next(folder.glob("*.idx")).read_bytes()[5:]
    ),
    "an offset behind the end": lambda folder: overwrite(
        next(folder.glob("*.idx")), 16, b"\xff" * 8
    ),
    "a size of 4 GB": lambda folder: overwrite(next(folder.glob("*.idx")), 24, b"\xff" * 4),
    "a record of no tokens": lambda folder: overwrite(next(folder.glob("*.idx")), 24, bytes(8)),
    "no index": lambda folder: next(folder.glob("*.idx")).unlink(),
    "a folder in the place of an index": lambda folder: (folder / "0.idx").mkdir(),
    "a folder in the place of a shard": lambda folder: (
        next(folder.glob("*.bin")).unlink(),
        folder.joinpath(f"{next(folder.glob('*.idx')).stem}.bin").mkdir(),
    ),
    "no folder": lambda folder: [*map(Path.unlink, folder.iterdir()), folder.rmdir()],
}


@pytest.mark.parametrize("name", ["hidden-4", "start_logits"])
@pytest.mark.parametrize("damage", METADATA)
def test_a_damaged_index_or_type_costs_a_window_and_never_a_training(
    cache, batch, output, name, damage
):
    cache.write(batch, output)
    METADATA[damage](cache.folder / name)
    mask = batch["attention_mask"].bool()
    again = fresh(cache)
    read = again.read(batch, layers=LAYERS, logits=True)
    if read is not None:
        assert_same(read, output, mask)
    again.write(batch, output)
    assert_same(again.read(batch, layers=LAYERS, logits=True), output, mask)
    assert_same(fresh(cache).read(batch, layers=LAYERS, logits=True), output, mask)


@pytest.mark.parametrize("what", ["write_text", "mkdir", "open"])
def test_a_full_disk_in_any_of_its_files_ends_the_writing_and_not_the_training(
    cache, batch, output, monkeypatch, caplog, what
):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, what, full)
    with caplog.at_level(logging.WARNING):
        assert cache.read(batch, layers=LAYERS, logits=True) is None
        cache.write(batch, output)
        cache.write(batch, output)
    assert caplog.text.count("No space left on device") == 1
    monkeypatch.undo()
    again = fresh(cache)
    again.write(batch, output)
    mask = batch["attention_mask"].bool()
    assert_same(fresh(cache).read(batch, layers=LAYERS, logits=True), output, mask)


# ---- the teacher that uses it ----


def assert_identical(one, other):
    for name in ("hidden_states", "logits"):
        first, second = getattr(one, name), getattr(other, name)
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert value.dtype == second[key].dtype
            assert torch.equal(value, second[key]), (name, key)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_cold_warm_full_and_dropped_caches_give_the_same_bits(
    teacher, batch, arguments, dtype, tmp_path
):
    teacher.eval().to(dtype)
    cold = Teacher(teacher, LAYERS, arguments())
    first = cold(batch)
    assert_identical(first, cold(batch))
    assert_identical(first, Teacher(teacher, LAYERS, arguments())(batch))
    full = Teacher(
        teacher, LAYERS, arguments(teacher_cache_dir=str(tmp_path / "full"), cache_max_gb=1e-9)
    )
    assert_identical(first, full(batch))
    dropped = Teacher(teacher, LAYERS, arguments(teacher_cache="auto"))
    dropped.cache = None  # because the disk is slow
    assert_identical(first, dropped(batch))
    assert all(z.dtype == torch.bfloat16 for z in first.hidden_states.values())


def test_a_classifier_that_is_cold_or_warm_gives_the_same_bits(make_config, batch, arguments):
    for head in (BertForSequenceClassification, BertForTokenClassification):
        model = head(make_config(4, num_labels=3)).eval()
        run = Teacher(model, LAYERS, arguments())
        assert_identical(run(batch), run(batch))


def test_auto_does_without_on_a_full_disk(teacher, arguments, monkeypatch, caplog):
    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(teacher_module, "read_speed", full)
    with caplog.at_level(logging.WARNING):
        run = Teacher(teacher, LAYERS, arguments(teacher_cache="auto"))
    assert run.cache is None
    assert "No space left on device" in caplog.text


@pytest.mark.parametrize("parent", ["/proc/nope", "/sys/cache", "x" * 300])
def test_auto_does_without_where_no_folder_can_be_made(
    teacher, batch, arguments, parent, caplog, tmp_path
):
    """The file systems of the kernel take no folder from anybody, root included; the last name is too long."""
    parent = str(tmp_path / parent)  # an absolute one stays as it is
    with caplog.at_level(logging.WARNING):
        run = Teacher(
            teacher.eval(), LAYERS, arguments(teacher_cache="auto", teacher_cache_dir=parent)
        )
    assert run.cache is None
    assert f"No teacher cache: {parent}/" in caplog.text and " cannot be written: " in caplog.text
    assert_identical(run(batch), Teacher(teacher, LAYERS, arguments())(batch))
    with pytest.raises(UserError, match="cannot be written"):
        Teacher(teacher, LAYERS, arguments(teacher_cache="on", teacher_cache_dir=parent))


def test_a_cache_that_is_removed_while_it_is_measured_stops_no_training(
    teacher, batch, arguments, monkeypatch, caplog
):
    run = Teacher(teacher.eval(), LAYERS, arguments())
    expected = run(batch)

    def gone(path, pattern):
        return [path / "hidden-4" / "gone.bin"]

    monkeypatch.setattr(Path, "glob", gone)
    other = batch | {"input_ids": (batch["input_ids"] + 1) % 60}
    with caplog.at_level(logging.WARNING):
        assert run(other).hidden_states.keys() == expected.hidden_states.keys()
    assert "stores no more windows" in caplog.text


def test_the_teacher_runs_once_a_window(teacher, batch, calls, arguments):
    run = Teacher(teacher.eval(), LAYERS, arguments())
    first, second = run(batch), run(batch)
    assert len(calls) == 1
    mask = batch["attention_mask"].bool()
    assert torch.equal(first.hidden_states[4].bfloat16()[mask], second.hidden_states[4][mask])


def test_without_a_cache_it_runs_every_time(teacher, batch, calls, arguments, tmp_path):
    run = Teacher(teacher.eval(), LAYERS, arguments(teacher_cache="off"))
    run(batch), run(batch)
    assert len(calls) == 2
    assert not (tmp_path / "caches").exists()


def test_another_teacher_has_another_cache(make_bert, batch, arguments):
    first = Teacher(make_bert(4, seed=0).eval(), LAYERS, arguments())
    second = Teacher(make_bert(4, seed=1).eval(), LAYERS, arguments())
    assert first.cache.folder != second.cache.folder


def embedder(make_config, pooling):
    torch.manual_seed(0)
    return embedder_class(BertModel)(make_config(4, sentence_pooling=pooling)).eval()


def test_embedders_of_equal_weights_get_their_own_vectors(make_config, batch, arguments):
    """The pooling is no weight: it is a line of the configuration."""
    mean, cls = (embedder(make_config, pooling) for pooling in ("mean", "cls"))
    for model in (mean, cls):
        expected = model(**batch).logits
        for _ in range(2):  # computed, and read
            found = Teacher(model, LAYERS, arguments())(batch).logits["logits"]
            assert torch.equal(found, expected)
    assert not torch.equal(mean(**batch).logits, cls(**batch).logits)


def test_another_class_or_configuration_has_another_cache(make_config, make_bert, arguments):
    def folder(model, **changes):
        for name, value in changes.items():
            setattr(model.config, name, value)
        return cache_folder(model, arguments())

    encoder = BertModel(make_config(4))
    embeds = embedder_class(BertModel)(make_config(4))
    embeds.load_state_dict(encoder.state_dict())
    assert folder(encoder) != folder(embeds)
    model = make_bert(4, seed=0)
    before = folder(model)
    assert folder(model, layer_norm_eps=1e-3) != before
    assert folder(model, layer_norm_eps=1e-12, _name_or_path="/moved/model") == before


def test_another_scale_of_an_adapter_has_another_cache(make_bert, arguments):
    """The scale of LoRA is no weight either. Two trainings of one adapter share their folder."""
    peft = pytest.importorskip("peft")

    def folder(scale):
        config = peft.LoraConfig(r=2, lora_alpha=scale, target_modules=["query", "value"])
        torch.manual_seed(0)
        return cache_folder(peft.get_peft_model(make_bert(2, seed=0), config), arguments())

    assert folder(4) == folder(4)
    assert folder(4) != folder(8)


def test_a_teacher_in_few_bits_has_another_cache(teacher, arguments):
    """It reads the weights that its state holds in another way."""
    whole = cache_folder(teacher, arguments())
    prepare_qat(teacher, 2)
    two = cache_folder(teacher, arguments())
    prepare_qat(teacher, 4)
    assert len({whole, two, cache_folder(teacher, arguments())}) == 3
    remove_qat(teacher)
    assert cache_folder(teacher, arguments()) == whole


def test_logits_that_nobody_reads_are_not_kept(teacher, batch, arguments):
    args = arguments(w_kd=0)
    cold = Teacher(teacher.eval(), LAYERS, args)
    first = cold(batch)
    assert_identical(first, cold(batch))
    assert {path.name for path in cold.cache.folder.iterdir()} == {"hidden-2", "hidden-4"}


@pytest.fixture
def long_dataset():
    return datasets.Dataset.from_dict({"input_ids": [[1] * 500] * 1000})


def test_a_cache_that_is_too_large_is_refused_before_it_starts(teacher, arguments, long_dataset):
    # 500,000 tokens of 2 layers x 32 x 2 bytes and 2 fp32 logits: 0.068 GB
    with pytest.raises(UserError, match=r"about 0\.1 GB, but cache_max_gb is 0\.06"):
        Teacher(teacher, LAYERS, arguments(cache_max_gb=0.06), long_dataset)
    Teacher(teacher, LAYERS, arguments(cache_max_gb=0.07), long_dataset)


def test_auto_does_without_where_it_would_not_fit(teacher, arguments, long_dataset):
    args = arguments(cache_max_gb=0.06, teacher_cache="auto")
    assert Teacher(teacher, LAYERS, args, long_dataset).cache is None


@pytest.mark.parametrize(("speed", "kept"), [(1e15, True), (1.0, False)])
def test_auto_takes_what_is_faster(teacher, batch, arguments, monkeypatch, speed, kept):
    monkeypatch.setattr(teacher_module, "read_speed", lambda folder: speed)
    run = Teacher(teacher.eval(), LAYERS, arguments(teacher_cache="auto"))
    for step in range(teacher_module.PROBES):
        run(batch | {"input_ids": (batch["input_ids"] + step) % 60})  # never seen before
    assert (run.cache is not None) is kept


def test_the_speed_of_a_disk_is_measured_and_leaves_nothing(tmp_path):
    assert cache_module.read_speed(tmp_path) > 1e6
    assert not list(tmp_path.iterdir())
