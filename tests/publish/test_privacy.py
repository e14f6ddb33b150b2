"""Private things are nowhere: not in a card, a pushed result, a report, a record, a checkpoint or any other file."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import constants

from itrd_nlp import files
from itrd_nlp.cli import parser, process
from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.errors import UserError
from itrd_nlp.files import write_json
from itrd_nlp.publish import privacy
from itrd_nlp.publish.model_card import model_card
from itrd_nlp.publish.privacy import (
    holds_token,
    keep_tokens_out,
    last_part,
    public_command,
    public_config,
    public_file,
    public_text,
    public_value,
    tokens_in_use,
    without_tokens,
    without_tokens_in_use,
)
from itrd_nlp.training.record import RunRecord
from itrd_nlp.training.secrets import Secret, is_secret_name, refuse_copies
from itrd_nlp.training.yaml_files import dump_yaml, parse_yaml, read_yaml

# Made up: of a user, of OAuth, of an organisation, and of a Hub of one's own.
TOKENS = (
    "hf_" + "aB3" * 11,
    "hf_oauth_eyJhbGciOi.JIUzI1NiIs-InR5cCI6_IkpX",
    "api_org_" + "xY9" * 11,
    "ordinary-words-of-mine",
)


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in privacy.TOKEN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(files, "_KEPT_OUT", set())


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
        return str(tmp_path / "config.yaml")

    return write


# ---- paths ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ada/teacher", "teacher"),
        ("/home/ada/teacher/", "teacher"),
        ("~/teacher", "teacher"),
        ("~ada/my/teacher", "teacher"),
        (r"C:\Users\ada\teacher", "teacher"),
        ("//server/share/teacher", "teacher"),
        ("file:///home/ada/teacher", "teacher"),
        ("--teacher /home/ada/t1 --out=/tmp/x/o", "--teacher t1 --out=o"),
        ("--teacher '/home/Ada Byron/t1' --seed 0", "--teacher 't1' --seed 0"),
        ("teacher: /home/Ada Byron/t1  # mine\nseed: 0", "teacher: t1  # mine\nseed: 0"),
        ("files:\n  - /home/Ada Byron/a.json\n", "files:\n  - a.json\n"),
        ('["/home/ada/x", "/home/b c/y"]', '["x", "y"]'),
        ("[/home/ada/x, /home/b/y]", "[x, y]"),
        ("in (/home/ada/x)", "in (x)"),
        ("teacher: /home/Ann's/own x/t1\nseed: 0", "teacher: t1\nseed: 0"),
        ("teacher: '../../home/Ada Byron/t1'", "teacher: 't1'"),
        ("copy host:/home/ada/x", "copy host:x"),
        ("--teacher ./../ada/secret/t --seed 0", "--teacher t --seed 0"),
        ("--train_file runs/../../ada/x.json", "--train_file x.json"),
        ("teacher: ./../ada/secret/t", "teacher: t"),
        ("teacher: 'my.runs/a/../../../ada lovelace/x y'", "teacher: 'x y'"),
    ],
)
def test_of_an_absolute_path_the_last_part_stays(text: str, expected: str) -> None:
    assert public_text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "runs/my_student ./x ../y assets/squad/train-v1.1.json",
        "https://huggingface.co/datasets/squad and/or 1/2",
        "task / KD: 1 / 2",
        "1:4 2:8, 3e-4 it's",
        "",
        "../../y",
        "wait .../ and x../y",
        "max_tokens: 5\naverage_tokens_across_devices: true\n",
        "the token of each word",
    ],
)
def test_everything_else_stays_as_it_is(text: str) -> None:
    assert public_text(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a/b/c", "c"),
        ("/a/b/", "b"),
        ("/my files/b c", "b c"),
        ("~/a/b", "b"),
        ("../a/b", "b"),
        ("./../a/b", "b"),
        ("runs/../../a/b", "b"),
        ("runs/../student", "student"),
        ("runs/../../student", "../student"),
        ("file:///a/b", "b"),
        ("at C:\\a\\b", "at b"),
        ("\\\\server\\share\\b", "b"),
        ("see (/a/b), /c/d.", "see (b), d."),
        ("runs/student", "runs/student"),
        ("./runs/student", "./runs/student"),
        ("https://host/a/b", "https://host/a/b"),
        ("someone/model", "someone/model"),
        ("EM/F1 1/2 km/h", "EM/F1 1/2 km/h"),
        ("/", "."),
    ],
)
def test_paths_lose_their_folders(text: str, expected: str) -> None:
    assert public_value(text) == expected
    assert public_value({"a": [text]}) == {"a": [expected]}


def test_other_values_stay_as_they_are() -> None:
    value = {"a": 1, "b": [2.5, None, True], "c": {"d": "text"}}
    assert public_value(value) == value


def test_a_path_upwards_keeps_no_name_of_a_folder() -> None:
    assert [last_part(path) for path in ("../y", "../../y", "../..", "../a/y", "../../a/b/")] == [
        *("../y", "../../y", "../..", "y", "b")
    ]


def test_the_configuration_of_a_model_loses_the_folders_that_libraries_note() -> None:
    noted = {"_name_or_path": "/home/ann/t", "special_tokens_map_file": "/home/ann/s.json"}
    content = {"hidden_size": 64, "mask_token": "[MASK]"}
    within = {**content, **noted}
    assert public_file({**within, "text": within, "parts": [within, [within]]}) == {
        **content,
        "text": content,
        "parts": [content, [content]],
    }


# ---- hosts, users and what a card holds ----


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("dev", "assets/squad/dev-v1.1.json"),
        ("dev", "data/dev/a.json and dev/a.json, dev.json, my-dev.json and .dev"),
        ("train", "itrd-nlp train-teacher --train_file train-v1.1.json"),
        ("bert", "--teacher google/bert-base --student bert/tiny"),
    ],
)
def test_a_host_of_a_plain_name_leaves_files_models_and_commands(
    host: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.node", lambda: host)
    assert public_text(text) == text


@pytest.mark.parametrize(
    ("host", "text", "expected"),
    [
        ("dev", "trained on dev. ssh ann@dev:22, dev", "trained on host. ssh ann@host:22, host"),
        ("gpu-node-17", "logs/gpu-node-17.txt gpu-node-17/a", "logs/host.txt host/a"),
        ("node7", "runs/node7/x node7-a", "runs/host/x host-a"),
        ("a.lan", "http://a.lan/b a.lan.", "http://host/b host."),
    ],
)
def test_the_name_of_this_host_is_masked(
    host: str, text: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.node", lambda: host)
    assert public_text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ada/runs/teacher", "teacher"),
        ("--teacher=ada/runs/teacher --seed 1", "--teacher=teacher --seed 1"),
        ("work/ada/runs", "runs"),
        ("ada/model", "ada/model"),  # it may be an id of the Hub
        ("ada/model/", "ada/model/"),
        ("runs/ada", "runs/ada"),
        ("canada/runs/teacher and my-ada/runs/x", "canada/runs/teacher and my-ada/runs/x"),
    ],
)
def test_folders_below_the_name_of_the_user_are_taken_out(
    text: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert public_text(text) == expected


def test_no_folder_host_user_or_secret_is_in_a_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("platform.node", lambda: "secret-host")
    monkeypatch.setenv("HOME", "/home/ann")
    token = "hf_" + "x" * 34
    results: dict[str, Any] = {
        "arguments": {"train_file": "train-v1.1.json"},
        "datasets": {"train": {"name": "train-v1.1.json", "sha256": "0" * 64}},
        "config": {"name": "quickstart.yaml"},
    }
    results["command"] = shlex.join(
        [
            "scripts/train_squad.py",
            "/home/ann/a config.yaml",
            "--output_dir=/data/ann/runs/my student",
            "--hub_token",
            "unusual",
            "--teacher",
            "../../home/ann/teacher",
        ]
    )
    results["config"]["text"] = (
        "teacher: /home/ann/teacher # on secret-host\n"
        "train_file: 'C:\\Users\\ann\\train.json'\n"
        f"hub_token: {token}\n"
        "output_dir: ~/runs/x\ncache: sqlite:////home/ann/cache.db\n"
        "url: https://example.org/a/b\nlayer_map: [1:2, 2:4]\nratio: 1/2\n"
    )
    results["arguments"] |= {
        "hub_token": token,
        "output_dir": "/home/ann/runs/my student",
        "teacher": "runs/ann/teacher",
        "note": f"{token} on secret-host",
    }
    results["datasets"]["train"]["name"] = "/home/ann/train-v1.1.json"
    text = str(model_card(RunRecord.model_validate(results), tmp_path / "student"))
    del results["config"]
    text += str(model_card(RunRecord.model_validate(results), tmp_path / "student"))
    for private in ("/home", "/data", "ann", "Users", "secret-host", token, "unusual", "~/"):
        assert private not in text, private
    for public in (
        "'a config.yaml'",
        "'--output_dir=my student'",
        "teacher: teacher",
        "https://example.org/a/b",
        "[1:2, 2:4]",
        "ratio: 1/2",
    ):
        assert public in text, public


def test_a_command_is_cleaned_word_by_word() -> None:
    command = shlex.join(
        ["x.py", "--a=/home/Ada Byron/r s/t1", "--hub-token", "unusual", "--b", "it's", "--c", "d"]
    )
    cleaned = public_command(command)
    assert shlex.split(cleaned) == [
        "x.py",
        "--a=t1",
        "--hub-token",
        "***",
        "--b",
        "it's",
        "--c",
        "d",
    ]
    assert "'--a=t1'" in cleaned  # what was in quotes stays in them
    assert public_command("x.py '/home/ada/y --hub_token unusual") == "x.py 'y --hub_token ***"


def test_a_config_that_this_package_wrote_is_cleaned_by_value() -> None:
    content = {"teacher": "/home/Ada's: own # x/t1", "rate": 2e-4, "pairs": ["1:4", "/a b/c"]}
    assert yaml.safe_load(public_config(dump_yaml(content))) == {
        **content,
        "teacher": "t1",
        "pairs": ["1:4", "c"],
    }


# ---- secrets by their names ----


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *((name, True) for name in ("hub_token", "--hub_token", "--hub-token", "HUB_TOKEN")),
        *((name, True) for name in ("token", "--api-password", "clientSecret", "HF_TOKEN")),
        *(
            (name, False)
            for name in ("max_tokens", "tokens", "--tokenizer_name", "seed", "secrets")
        ),
    ],
)
def test_a_secret_is_known_by_its_name(name: str, secret: bool) -> None:
    assert is_secret_name(name) == secret


def test_command_line_is_quoted_and_relative(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = [f"{tmp_path}/scripts/x.py", f"{tmp_path}/a b.yaml", "--name", "it's", "/other/data"]
    monkeypatch.setattr(sys, "argv", argv)
    assert process.command_line() == """scripts/x.py 'a b.yaml' --name 'it'"'"'s' /other/data"""
    monkeypatch.setattr(sys, "argv", ["/home/somebody/scripts/x.py", "config.yaml"])
    assert process.command_line() == "x.py config.yaml"


def test_a_token_is_in_no_record(
    write: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write("hub_token: hf_secret\nseed: 1\n")
    argv = ["scripts/x.py", str(config), "--hub_token", "hf_secret", "--other_token=hf_secret"]
    monkeypatch.setattr(sys, "argv", argv)
    record = process.record()
    assert "hf_secret" not in str(record)
    assert record["command"].endswith("--hub_token '***' '--other_token=***'")
    assert record["config"]["text"] == "seed: 1\n"


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(
    "arguments",
    [
        ["--hub_token", "{}"],
        ["--hub-token", "{}"],
        ["--hub-token={}"],
        ["--hub_token={}"],
        ["--HUB-TOKEN", "{}"],
        ["--api-secret", "{}", "--password={}"],
        ["--hub-token", "{}", "--run_name", "with-{}"],
        ["--options", '{{"hub_token": "{}", "deep": [{{"password": "{}"}}]}}'],
    ],
)
def test_no_spelling_of_an_option_brings_a_token_into_the_command(
    token: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [argument.format(token, token) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["x.py", *given, "--seed", "1"])
    command = process.command_line()
    assert token not in command
    assert shlex.split(command)[0] == "x.py" and command.endswith(" --seed 1")
    published = public_command(shlex.join(["x.py", *given, "--seed", "1"]))  # of an older version
    assert token not in published and published.endswith(" --seed 1")


SPELLINGS = {
    "plain": "hub_token: {}\n",
    "quoted key": '"hub_token": {}\n',
    "quoted value": "'hub_token': '{}'\n",
    "folded": "hub_token: >-\n  {}\n",
    "literal": "hub_token: |\n  {}\n",
    "next line": "hub_token:\n  {}\n",
    "quoted next line": 'hub_token:\n  "{}"\n',
    "explicit key": "? hub_token\n: {}\n",
    "flow": "{{hub_token: {}, seed: 1}}\n",
    "anchor and alias": "run_name: &it {}\nhub_token: *it\n",
    "alias elsewhere": "hub_token: &it {}\nrun_name: *it\n",
    "nested": "options:\n  more:\n  - hub_token: {}\n",
    "comment": "hub_token: {}  # not the old one, {}x\n",
}


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_in_a_config_brings_a_token_into_the_record(
    token: str,
    spelling: str,
    write: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = SPELLINGS[spelling].format(token, token)
    if spelling != "flow":
        text += "seed: 1\n"
    monkeypatch.setattr(sys, "argv", ["x.py", write(text), "--name", "a"])
    record = process.record()
    assert token not in str(record)
    assert record["config"]["name"] == "config.yaml"
    for read in (parse_yaml, yaml.safe_load):
        assert read(record["config"]["text"])["seed"] == 1
    # The raw text is what earlier versions kept.
    assert token not in str(public_value({"config": {"name": "a", "text": text}}))


def test_a_config_is_recorded_by_its_values(
    write: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "# mine\nlearning_rate: 2e-4\nstrategy: no\nlayer_map: &m [1:4, '2e-4']\nothers: *m\nx: 1e-5\n"
    config = write(text)
    monkeypatch.setattr(sys, "argv", ["x.py", config])
    recorded = process.record()["config"]["text"]
    expected = {
        "learning_rate": 0.0002,
        "strategy": "no",
        "layer_map": ["1:4", "2e-4"],
        "others": ["1:4", "2e-4"],
        "x": 1e-5,
    }
    assert parse_yaml(recorded) == yaml.safe_load(recorded) == read_yaml(config) == expected
    assert not {"#", "&", "*"} & set(recorded)
    assert dump_yaml(parse_yaml(recorded)) == recorded


# ---- the net by value ----


@dataclass
class Arguments:
    hub_token: str | None = field(default=None, metadata={"help": "A token."})
    seed: int = field(default=0, metadata={"help": "A seed."})


def test_the_tokens_in_use_are_found_wherever_they_come_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert tokens_in_use() == frozenset()
    monkeypatch.setenv("HF_TOKEN", "of-the-environment\n")
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "of-old-times")
    (tmp_path / "no-token").write_text("of-the-login\n")
    files.keep_out("of-somebody")
    assert tokens_in_use(Arguments("of-the-arguments")) == {
        *("of-the-environment", "of-old-times", "of-the-login", "of-somebody", "of-the-arguments")
    }


def test_a_token_file_that_is_none_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe would keep every command waiting for somebody who writes."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes(b"\xfftoken-of-somebody")
    for name in ("pipe", "latin", ".", "none/below"):
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / name))
        assert tokens_in_use() == frozenset()


def test_a_short_token_is_none() -> None:
    """Else a token `a` would take every a out of every file."""
    keep_tokens_out(Arguments("student"))
    files.keep_out("teacher")
    assert tokens_in_use() == frozenset()


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_that_was_parsed_is_in_no_file(token: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    parser.parse([Arguments], ["--hub-token", token])
    write_json(path, {"a": f"Bearer {token}", token: [token], "b": 1})
    assert json.loads(path.read_text()) == {"a": "Bearer ***", "***": ["***"], "b": 1}
    files.write_text(path, f"<p>{token}</p>")
    assert path.read_text() == "<p>***</p>"


def test_the_longer_of_two_tokens_goes_first() -> None:
    files.keep_out("a-secret", "a-secret-that-is-longer")
    assert without_tokens("a-secret-that-is-longer, a-secret") == "***, ***"
    assert without_tokens_in_use(b"\xff a-secret-that-is-longer") == b"\xff ***"


@pytest.mark.parametrize("token", TOKENS[:3])
def test_a_token_of_somebody_else_is_known_by_its_shape(token: str) -> None:
    for text in (token, f"see {token}, or", f"({token})", f"https://user:{token}@host/x"):
        assert holds_token(text)
        assert token not in without_tokens(text)
    assert not holds_token("hf_hub_download and api_organisation, hf_oauth_info, hf_transfer")


def test_a_wrong_token_is_not_shown(write: Callable[[str], str]) -> None:
    with pytest.raises(UserError) as error:
        parser.parse([Arguments], [write("hub_token: [ordinary-words-of-mine]\n")])
    assert "ordinary" not in str(error.value) and "hub_token is ***" in str(error.value)


# ---- what is pickled ----


def test_a_secret_is_a_text_that_no_pickle_holds() -> None:
    secret = Secret("ordinary-words-of-mine")
    assert secret == "ordinary-words-of-mine" and f"Bearer {secret}".endswith("mine")
    assert pickle.loads(pickle.dumps({"a": secret})) == {"a": None}
    assert copy.deepcopy(secret) is copy.copy(secret) is secret
    assert "mine" not in repr(secret)


def test_a_token_that_is_the_value_of_another_argument_is_refused_without_a_word_of_it() -> None:
    """As by an anchor in YAML: ``run_name: &it TOKEN`` and ``hub_token: *it``."""

    @dataclass
    class Arguments:
        hub_token: str | None = "ordinary-words-of-mine"
        run_name: str | None = "run-ordinary-words-of-mine"

    with pytest.raises(UserError, match="run_name holds the value of hub_token") as refused:
        refuse_copies(Arguments())
    assert "ordinary" not in str(refused.value)
    refuse_copies(Arguments(run_name="run"))
    refuse_copies(Arguments(hub_token=None))
    with pytest.raises(UserError, match="run_name holds the value of hub_token"):
        ITRDTrainingArguments("out", hub_token="my-own-words", run_name="my-own-words")
