"""`push_student` against a server: what arrives, what is refused before, what a fault of the Hub costs."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import traceback
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from safetensors.torch import load_file, save_file
from server import Hub
from transformers import AutoModelForQuestionAnswering, BertTokenizerFast

from itrd_nlp.errors import UserError
from itrd_nlp.publish.hub import check_revision, push_files
from itrd_nlp.publish.hub_errors import hub_errors
from itrd_nlp.publish.hub_files import model_files
from itrd_nlp.tasks.jobs.push import check_student, push_student
from itrd_nlp.training.record import RunRecord

REPO = "user/student"


@pytest.fixture
def push(hub: Any, student_folder: Path) -> Any:
    def push(repo_id: str = REPO, **options: Any) -> Any:
        return push_student(student_folder, repo_id, api=hub.api, **options)

    return push


# ---- what arrives ----


def test_the_model_arrives_alone_in_one_commit(hub, push, student_folder, pushed, hash_files):
    before = hash_files(student_folder)
    report = push(commit_message="First")
    repo = hub.repos[REPO]
    assert set(repo.files()) == pushed
    assert [commit.title for commit in repo.commits()] == ["First"]
    weights = (student_folder / "model.safetensors").read_bytes()
    assert repo.files()["model.safetensors"] == weights
    assert hash_files(student_folder) == before

    assert report.changed
    assert report.commit == repo.branches["main"].oid
    assert report.url == f"{hub.url}/{REPO}"
    assert report.files == {name: len(content) for name, content in repo.files().items()}
    assert not repo.private


def test_what_arrives_holds_no_folder_of_the_sender(hub, push):
    push()
    for name, content in hub.repos[REPO].files().items():
        assert b"/home" not in content, name
        assert b"ann/" not in content, name
    sent = json.loads(hub.repos[REPO].files()["results.json"])
    assert sent["arguments"] == {"teacher": "teacher", "output_dir": "student"}
    assert sent["exact_match"] == 48.12


def test_the_card_has_the_metrics_and_the_name_on_the_hub(hub, push):
    report = push(license="apache-2.0")
    text = hub.repos[REPO].files()["README.md"].decode()
    assert report.card == text
    card = ModelCard(text)
    assert card.data.license == "apache-2.0"
    assert card.data.eval_results is not None
    assert [result.metric_value for result in card.data.eval_results] == [48.12, 62.2]
    assert f'load_pipeline("{REPO}")' in text


def test_pushing_the_same_twice_makes_one_commit(hub, push):
    first = push()
    hub.requests.clear()
    second = push()
    assert not second.changed
    assert second.commit == first.commit
    assert len(hub.repos[REPO].commits()) == 1
    # Not by grace of the server: nothing that writes was asked for.
    assert not [r for r in hub.requests if re.search("commit/|preupload|lfs|validate", r)]


def test_only_what_changed_is_sent(hub, push, student_folder):
    push()
    tokenizer = student_folder / "tokenizer_config.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    hub.requests.clear()
    assert push().changed
    newest, first = hub.repos[REPO].commits()
    changed = {path for path, blob in newest.tree.items() if first.tree[path] != blob}
    assert changed == {"tokenizer_config.json"}
    assert not [request for request in hub.requests if "storage" in request]


def test_new_weights_replace_the_old(hub, push, student_folder):
    push()
    path = student_folder / "model.safetensors"
    tensors = load_file(path)
    tensors["qa_outputs.bias"] += 1
    save_file(tensors, path, metadata={"format": "pt"})
    assert push().changed
    assert hub.repos[REPO].files()["model.safetensors"] == path.read_bytes()


def test_large_weights_go_up_in_parts(hub, push, student_folder):
    hub.part_size = 50_000
    push()
    parts = [request for request in hub.requests if re.match(r"PUT storage/\w+/\d+", request)]
    assert len(parts) > 3
    weights = (student_folder / "model.safetensors").read_bytes()
    assert hub.repos[REPO].files()["model.safetensors"] == weights


def test_a_model_in_shards_replaces_one_in_a_piece_and_back(hub, push, student_folder):
    push()
    model = AutoModelForQuestionAnswering.from_pretrained(student_folder)
    (student_folder / "model.safetensors").unlink()
    model.save_pretrained(student_folder, max_shard_size="100KB")
    push()
    names = set(hub.repos[REPO].files())
    assert "model.safetensors" not in names  # transformers would take it in place of the shards
    assert "model.safetensors.index.json" in names
    assert len([name for name in names if re.match("model-.*-of-", name)]) > 1

    for path in student_folder.glob("model*"):
        path.unlink()
    model.save_pretrained(student_folder)
    push()
    weights = {name for name in hub.repos[REPO].files() if name.startswith("model")}
    assert weights == {"model.safetensors"}


def test_what_would_be_read_of_another_model_goes_with_its_weights(hub, push, student_folder):
    before = ("modules.json", "1_Pooling/config.json", "added_tokens.json")
    (student_folder / "1_Pooling").mkdir()
    for name in before:
        (student_folder / name).write_text("{}")
    push()
    assert {*before, "results.json"} <= set(hub.repos[REPO].files())
    for name in before:
        (student_folder / name).unlink()
    (student_folder / "results.json").unlink()
    # A push of a trainer while it trains: there are no scores yet.
    record = RunRecord(version=3)
    files = model_files(student_folder, record, repo_id=REPO)
    push_files(hub.api, REPO, files)
    assert set(hub.repos[REPO].files()) == {file.name for file in files}
    assert len(hub.repos[REPO].commits()) == 2


def test_a_tokenizer_stays_where_a_model_comes_without_one(hub, push, student_folder):
    push()
    files = model_files(student_folder, RunRecord(version=3), repo_id=REPO)
    push_files(hub.api, REPO, [file for file in files if "token" not in file.name])
    assert {"tokenizer.json", "tokenizer_config.json"} <= set(hub.repos[REPO].files())


def test_files_that_somebody_else_put_there_stay(hub, push):
    push()
    hub.api.upload_file(path_or_fileobj=b"a picture", path_in_repo="docs/figure.png", repo_id=REPO)
    assert not push().changed
    assert hub.repos[REPO].files()["docs/figure.png"] == b"a picture"


def test_a_private_repository_is_created_and_stays(hub, push):
    push(private=True)
    assert hub.repos[REPO].private
    push()
    assert hub.repos[REPO].private


def test_what_is_to_be_private_is_not_pushed_to_what_is_public(hub, push):
    hub.api.create_repo(REPO)
    with pytest.raises(UserError, match=r"user/student exists and is public, but is to be private"):
        push(private=True, revision="new")
    assert hub.repos[REPO].files() == {}
    assert set(hub.repos[REPO].branches) == {"main"}


def test_a_revision_is_a_branch_made_where_it_is_missing(hub, push, pushed):
    report = push(revision="seed/1")
    repo = hub.repos[REPO]
    assert repo.files("main") == {}
    assert set(repo.files("seed/1")) == pushed
    assert report.url == f"{hub.url}/{REPO}/tree/seed/1"
    assert not push(revision="seed/1").changed
    assert push(revision="seed/2").changed


def test_folders_that_older_libraries_noted_are_taken_out(hub, push, student_folder):
    for name in ("config.json", "tokenizer_config.json"):
        path = student_folder / name
        noted = {"_name_or_path": "/home/ann/t", "special_tokens_map_file": "/home/ann/s.json"}
        path.write_text(json.dumps(json.loads(path.read_text()) | noted))
    push()
    for name in ("config.json", "tokenizer_config.json"):
        content = hub.repos[REPO].files()[name]
        assert b"/home" not in content
        assert json.loads(content)
    assert b"/home" in (student_folder / "config.json").read_bytes()


def test_every_configuration_is_pushed_without_tokens_and_folders(
    hub, push, student_folder, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", "ordinary-words-of-mine")
    names = ["modules.json", "1_Pooling/config.json", "special_tokens_map.json"]
    names += ["preprocessor_config.json", "processor_config.json"]
    (student_folder / "1_Pooling").mkdir()
    noted = {"_name_or_path": "/home/ann/t", "note": "by ordinary-words-of-mine"}
    for name in names:
        (student_folder / name).write_text(json.dumps({"parts": [noted]}))
    push()
    for name in names:
        content = json.loads(hub.repos[REPO].files()[name])
        assert content == {"parts": [{"note": "by ***"}]}, name


def test_an_edited_card_is_pushed_as_it_is(hub, push, student_folder):
    card = student_folder / "README.md"
    card.write_text("---\nlicense: mit\n---\n# By hand\n")
    push()
    assert hub.repos[REPO].files()["README.md"] == card.read_bytes()
    with pytest.raises(UserError, match=r"README.md was edited"):
        push(license="mit")


def test_a_card_of_the_run_is_made_anew_for_its_place(hub, push, student_folder):
    report = push(dry_run=True)
    (student_folder / "README.md").write_text(report.card)
    push("user/other")
    assert 'load_pipeline("user/other")' in hub.repos["user/other"].files()["README.md"].decode()
    assert REPO in (student_folder / "README.md").read_text()  # the local one is left alone


def test_a_dry_run_asks_nobody(hub, push, pushed, student_folder, hash_files):
    before = hash_files(student_folder)
    report = push(dry_run=True)
    assert hub.requests == []
    assert set(report.files) == pushed
    assert (
        report.files["model.safetensors"] == (student_folder / "model.safetensors").stat().st_size
    )
    assert not report.changed and report.commit is None
    assert hash_files(student_folder) == before


# ---- what is refused before anything is sent ----


def without_results(folder: Path) -> None:
    (folder / "results.json").unlink()


def without_f1(folder: Path) -> None:
    (folder / "results.json").write_text('{"exact_match": 50.0}')


def impossible_f1(folder: Path) -> None:
    (folder / "results.json").write_text('{"exact_match": 50.0, "f1": 101}')


def broken_results(folder: Path) -> None:
    (folder / "results.json").write_text("{")


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def pickled_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def broken_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def weights_with_heads(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path) | {"objective.projections.0.weight": torch.zeros(2, 2)}
    save_file(tensors, path, metadata={"format": "pt"})


def weights_without_head(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = {k: v for k, v in load_file(path).items() if not k.startswith("qa_outputs")}
    save_file(tensors, path, metadata={"format": "pt"})


def missing_shard(folder: Path) -> None:
    without_weights(folder)
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def index_of(folder: Path, content: object) -> None:
    """An index in place of the weights, which lie beside the folder now."""
    private = folder.parent / "private"
    private.mkdir()
    (folder / "model.safetensors").rename(private / "x.safetensors")
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "model.safetensors.index.json").write_text(text)


def index_upwards(folder: Path) -> None:
    index_of(folder, {"weight_map": {"a": "../private/x.safetensors"}})


def index_of_a_path(folder: Path) -> None:
    index_of(folder, {"weight_map": {"a": str(folder.parent / "private" / "x.safetensors")}})


def index_below(folder: Path) -> None:
    index_of(folder, {"weight_map": {"a": "checkpoint-10/model.safetensors"}})


def index_of_another_kind_of_file(folder: Path) -> None:
    index_of(folder, {"weight_map": {"a": "training_args.bin"}})


def index_of_numbers(folder: Path) -> None:
    index_of(folder, {"weight_map": {"a": [1]}})


def index_of_nothing(folder: Path) -> None:
    index_of(folder, [])


def index_too_deep(folder: Path) -> None:
    index_of(folder, "[" * 100_000)


def broken_tokenizer_config(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("[" * 100_000)


def card_of_another_encoding(folder: Path) -> None:
    (folder / "README.md").write_bytes(b"# caf\xe9\n")


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def another_tokenizer(folder: Path) -> None:
    BertTokenizerFast(vocab={f"w{i}": i for i in range(1000)}).save_pretrained(folder)


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def invalid_card(folder: Path) -> None:
    (folder / "README.md").write_text("---\nmodel-index: [1, 2]\n---\n# A card\n")


def card_of_no_yaml(folder: Path) -> None:
    (folder / "README.md").write_text("---\na: [\n---\n# A card\n")


def card_with_token(folder: Path) -> None:
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\nlogin hf_{'a' * 34}\n")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without_results, "has no results.json with the EM and F1"),
        (without_f1, "f1 is None, but must be the measured percentage"),
        (impossible_f1, "f1 is '101': it should be less than or equal to 100"),
        (broken_results, "results.json is no JSON object"),
        (without_weights, "has no model.safetensors"),
        (pickled_weights, "has no model.safetensors"),
        (broken_weights, "cannot be loaded"),
        (weights_with_heads, "holds objective.projections.0.weight, which is no part of the model"),
        (weights_without_head, "lacks qa_outputs.bias"),
        (missing_shard, "names model-00001-of-00001.safetensors, but"),
        (index_upwards, "names '../private/x.safetensors', but must name files .safetensors"),
        (index_of_a_path, "private/x.safetensors', but must name files .safetensors"),
        (index_below, "names 'checkpoint-10/model.safetensors', but must name"),
        (index_of_another_kind_of_file, "names 'training_args.bin', but must name"),
        (index_of_numbers, "names [1], but must name"),
        (index_of_nothing, "weight_map must be an object"),
        (index_too_deep, "index.json is not valid JSON: it is nested too deep"),
        (broken_tokenizer_config, "tokenizer"),
        (card_of_another_encoding, "README.md is not text in UTF-8"),
        (without_tokenizer, "has no tokenizer, such as tokenizer.json"),
        (another_tokenizer, "so it is not the model's"),
        (without_config, "config.json"),
        (invalid_card, "README.md is no valid model card"),
        (card_of_no_yaml, "README.md is no valid model card"),
        (card_with_token, "README.md holds what looks like an access token"),
    ],
)
def test_a_folder_that_is_not_fit_is_refused_before_anything_is_sent(
    hub, push, student_folder, hash_files, spoil, says
):
    spoil(student_folder)
    before = hash_files(student_folder)
    with pytest.raises(UserError) as error:
        push()
    assert says in str(error.value)
    assert str(student_folder) in str(error.value)
    assert hub.requests == []
    assert hash_files(student_folder) == before


def test_a_folder_that_is_not_there_is_named(hub):
    with pytest.raises(UserError, match="model nowhere does not exist"):
        push_student("nowhere", REPO, api=hub.api)


@pytest.mark.parametrize(
    "repo_id",
    ["student", "a/b/c", "user/", "/student", "user/st dent", "user/a--b", "", "user/x.git"],
)
def test_a_name_that_cannot_be_is_refused_before_the_folder_is_read(repo_id, hub):
    with pytest.raises(
        UserError, match=re.escape(f"repo_id is {repo_id!r}, but must be USER/NAME")
    ):
        push_student("nowhere", repo_id, api=hub.api)


@pytest.mark.parametrize(
    "revision", ["../../x", "", "a b", "v1/", "/v1", "-v1", "a..b", "v1.lock", "v1\n", "a//b"]
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_branch_that_cannot_be_is_refused_before_the_folder_is_read(revision, dry_run, hub):
    with pytest.raises(UserError, match=re.escape(f"revision is {revision!r}, but must be the")):
        push_student("nowhere", REPO, revision=revision, dry_run=dry_run, api=hub.api)


@pytest.mark.parametrize("revision", ["main", "v1.0", "pr/1", "refs/pr/1", "a-b_c"])
def test_the_names_of_branches_are_those_of_git(revision):
    check_revision(revision)
    git = ["git", "check-ref-format", "--branch", revision]
    assert subprocess.run(git, capture_output=True).returncode == 0


def test_a_checked_student_is_listed_by_what_is_sent(student_folder, pushed):
    files = check_student(student_folder)
    assert {file.name for file in files} == pushed
    assert all(file.size == len(file.read()) for file in files)


# ---- faults of the Hub ----

FOREVER = 99
FAULTS = [
    ("POST /api/repos/create", 401, {}, "127.0.0.1 does not know you (401"),
    ("POST /api/repos/create", 403, {}, "does not let you do this (403"),
    ("POST /api/repos/create", 500, {}, "has a problem of its own (500)"),
    ("POST /api/repos/create", "reset", {}, "the connection to 127.0.0.1 failed"),
    ("POST .*/branch/", 404, {}, "has no such repository or branch (404"),
    ("GET .*/tree/", 500, {}, "has a problem of its own (500)"),
    ("POST /api/validate-yaml", 502, {}, "answered with something that is no JSON"),
    ("POST .*/preupload/", 403, {}, "does not let you do this (403"),
    ("POST .*/preupload/", 429, {"Retry-After": "3600"}, "wait 3600 seconds and run the same"),
    ("POST .*/preupload/", 429, {"RateLimit": '"api";r=0;t=300'}, "wait 300 seconds and run the"),
    ("POST .*/preupload/", 503, {}, "has a problem of its own (503)"),
    ("POST .*/objects/batch", 401, {}, "does not know you (401"),
    ("PUT storage/", 500, {}, "has a problem of its own (500)"),
    ("PUT storage/", "reset", {}, "the connection to 127.0.0.1 failed"),
    ("PUT storage/", 429, {"Retry-After": "61"}, "wait 61 seconds and run the same"),
    ("POST .*/lfs/verify", 400, {}, "model.safetensors arrived damaged at 127.0.0.1 (400"),
    ("POST .*/commit/", 400, {}, "refuses the request (400"),
    ("POST .*/commit/", 409, {}, "has a change in between or a name that is taken (409"),
    ("POST .*/commit/", 412, {}, "has a change in between or a name that is taken (412"),
    ("POST .*/commit/", 429, {}, "wait some minutes and run the same"),
    ("POST .*/commit/", 429, {"Retry-After": "3600"}, "wait 3600 seconds and run the same"),
    ("POST .*/commit/", 500, {}, "has a problem of its own (500)"),
    ("POST .*/commit/", "reset", {}, "the connection to 127.0.0.1 failed"),
]


@pytest.mark.parametrize(("pattern", "status", "headers", "says"), FAULTS)
def test_a_fault_is_one_sentence_costs_nothing_and_a_second_try_completes(
    hub, push, student_folder, pushed, hash_files, sleeps, pattern, status, headers, says
):
    before = hash_files(student_folder)
    hub.fail(pattern, status, times=FOREVER, headers=headers)
    with pytest.raises(UserError) as error:
        push(revision="v1")
    sentence = str(error.value)
    assert says in sentence
    assert "again" in sentence and "\n" not in sentence
    assert sum(sleeps) < 60
    assert hash_files(student_folder) == before
    shown = "".join(traceback.format_exception(error.value))
    assert hub.token not in shown
    assert "httpx" not in shown  # the cause, whose request has the token in its headers, is cut off

    hub.heal()
    assert push(revision="v1").changed
    assert set(hub.repos[REPO].files("v1")) == pushed
    assert len(hub.repos[REPO].commits("v1")) == 1


@pytest.mark.parametrize("part_size", [None, 50_000])
def test_a_file_that_arrives_damaged_is_told_and_sent_again(hub, push, student_folder, part_size):
    hub.part_size = part_size
    hub.corrupt_uploads()
    with pytest.raises(UserError, match=r"model.safetensors arrived damaged at 127.0.0.1 \(400: "):
        push()
    assert hub.repos[REPO].files() == {}
    assert push().changed
    weights = (student_folder / "model.safetensors").read_bytes()
    assert hub.repos[REPO].files()["model.safetensors"] == weights


@pytest.mark.parametrize("part_size", [None, 50_000])
def test_a_connection_cut_in_the_middle_of_the_weights_is_taken_up_again(
    hub, push, student_folder, sleeps, part_size
):
    hub.part_size = part_size
    hub.fail("PUT storage/", "reset", times=2)
    assert push().changed
    weights = (student_folder / "model.safetensors").read_bytes()
    assert hub.repos[REPO].files()["model.safetensors"] == weights


@pytest.mark.parametrize("pattern", ["POST /api/repos/create", "PUT storage/", "POST .*/commit/"])
def test_a_short_rate_limit_is_waited_for(hub, push, sleeps, pattern):
    hub.fail(pattern, 429, times=2, headers={"Retry-After": "7"})
    assert push().changed
    assert sleeps == [8, 8]  # one second more than was asked for
    assert len(hub.repos[REPO].commits()) == 1


def test_a_rate_limit_that_never_ends_is_left_after_some_tries(hub, push, sleeps):
    hub.fail("POST /api/repos/create", 429, times=FOREVER, headers={"Retry-After": "10"})
    with pytest.raises(UserError, match=r"\(429\): wait 10 seconds"):
        push()
    assert sleeps == [11, 11]


def test_a_wrong_token_and_none_at_all(hub, student_folder, monkeypatch, sleeps):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for token in ("hf_" + "b" * 34, False):
        with pytest.raises(UserError, match=r"log in by `hf auth login` with a token that may"):
            push_student(student_folder, REPO, api=HfApi(endpoint=hub.url, token=token))
    assert hub.repos == {}


def test_a_name_of_somebody_else(hub, push, as_default_hub):
    with pytest.raises(UserError, match=r"choose a name below your own account"):
        push("stranger/student")
    hub.api.create_repo("user/student")
    hub.repos["stranger/student"] = hub.repos.pop("user/student")  # now it is theirs, and public
    with pytest.raises(UserError, match=r"choose a name below your own account"):
        push("stranger/student")
    assert hub.repos["stranger/student"].files() == {}


def test_a_commit_of_somebody_else_in_between_is_not_overwritten(hub, push, monkeypatch):
    hub.api.create_repo(REPO)
    upload = HfApi.preupload_lfs_files

    def slow(self: HfApi, *args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(HfApi, "preupload_lfs_files", upload)
        hub.api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=REPO)
        return upload(self, *args, **kwargs)

    monkeypatch.setattr(HfApi, "preupload_lfs_files", slow)
    with pytest.raises(UserError, match=r"has a change in between"):
        push()
    assert push().changed
    assert "x.txt" in hub.repos[REPO].files()


def test_a_lost_answer_does_not_make_a_second_commit(hub, push, monkeypatch, sleeps):
    """The commit was made, and the connection broke before the answer came."""
    commit = HfApi.create_commit

    def lost(self: HfApi, *args: Any, **kwargs: Any) -> Any:
        commit(self, *args, **kwargs)
        monkeypatch.setattr(HfApi, "create_commit", commit)
        raise ConnectionError("the answer is lost")

    monkeypatch.setattr(HfApi, "create_commit", lost)
    report = push()
    assert report.changed and report.commit == hub.repos[REPO].branches["main"].oid
    assert len(hub.repos[REPO].commits()) == 1


@pytest.mark.parametrize("status", [503, "reset"])
@pytest.mark.parametrize(
    "pattern",
    [
        "POST /api/repos/create",
        "GET /api/models/",
        "POST .*/branch/",
        "GET .*/tree/",
        "POST /api/validate-yaml",
        "POST .*/preupload/",
        "POST .*/objects/batch",
        "PUT storage/",
        "POST .*/commit/",
    ],
)
def test_a_request_is_repeated_after_a_fault_that_passes(hub, push, sleeps, pattern, status):
    hub.fail(pattern, status)
    assert push(revision="v1").changed
    assert len(hub.repos[REPO].commits("v1")) == 1


def test_no_network_and_no_server(student_folder, hub, sleeps):
    nobody = HfApi(endpoint="http://127.0.0.1:9", token=hub.token)
    with pytest.raises(UserError, match=r"the connection to 127.0.0.1 failed .*check the network"):
        push_student(student_folder, REPO, api=nobody)


def test_offline_mode_is_named(hub, push, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set, so nothing can be sent; unset it"):
        push()


def test_the_hub_has_the_last_word_on_a_card(hub, push, student_folder):
    (student_folder / "README.md").write_text("---\nlicense: My License!\n---\n# By hand\n")
    with pytest.raises(UserError, match=r'the Hub refuses the card: .*"license" must not be'):
        push()
    assert hub.repos[REPO].files() == {}


def test_other_errors_pass_through():
    for error in (KeyError("x"), RuntimeError("of torch"), FileNotFoundError(2, "gone", "f")):
        with pytest.raises(type(error)), hub_errors():
            raise error


@pytest.mark.parametrize("answer", ["{}", "[]", '"ok"', "5", "<html>"])
@pytest.mark.parametrize(
    "ask", [lambda api: api.create_repo(REPO), lambda api: api.model_info(REPO)]
)
def test_an_answer_of_another_shape_is_one_sentence(hub, answer, ask, monkeypatch):
    usual = Hub.answer
    monkeypatch.setattr(Hub, "answer", lambda handler, *_: usual(handler, answer.encode()))
    with (
        pytest.raises(UserError, match=r"^127.0.0.1 answered with something that is no JSON of a"),
        hub_errors(),
    ):
        ask(hub.api)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("client error (403 Forbidden)", "the Hub does not let you do this (403)"),
        ("client error (401 Unauthorized)", "the Hub does not know you (401)"),
        ("client error (429 Too Many Requests)", "the Hub allows no more requests for now (429)"),
        ("server error (503 Service Unavailable)", "the Hub has a problem of its own (503)"),
    ],
)
def test_a_refusal_that_xet_calls_a_network_error_is_a_refusal(status, says):
    with pytest.raises(UserError, match=re.escape(says)), hub_errors():
        raise ConnectionError(f"Request error: HTTP status {status}, domain: http://h/a/xet-token")


def test_of_a_url_in_an_error_the_host_alone_is_shown():
    with (
        pytest.raises(UserError, match=r"failed \(no route to https://h:8443 again\); check"),
        hub_errors(),
    ):
        raise ConnectionError("no route to https://me:se@cret@h:8443/a/b?signature=c again")


def test_the_token_is_in_no_log_and_no_link(hub, push, sleeps, caplog):
    stream = io.StringIO()
    logger = logging.getLogger("huggingface_hub")
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        hub.fail("PUT storage/", "reset", times=1)
        hub.fail("preupload", 500, times=1)
        push()
        hub.fail("repos/create", 401)
        with pytest.raises(UserError):
            push("user/other")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert "Retrying" in stream.getvalue()  # something was logged
    for text in (stream.getvalue(), caplog.text, *hub.requests):
        assert hub.token not in text
