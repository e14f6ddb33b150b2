"""The server of these tests, seen by `huggingface_hub` as the Hub: what a push alone does not show."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import get_session


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "space"
    (folder / "parts").mkdir(parents=True)
    (folder / "app.py").write_text("print('hello')\n")
    (folder / "README.md").write_text("---\ntitle: A page\nsdk: gradio\n---\n")
    (folder / "parts" / "weights.bin").write_bytes(os.urandom(300_000))
    return folder


def test_a_space_is_created_filled_and_downloaded(hub, folder, tmp_path, hash_files):
    hub.api.create_repo("user/page", repo_type="space", space_sdk="gradio", exist_ok=True)
    hub.api.create_repo("user/page", repo_type="space", space_sdk="gradio", exist_ok=True)
    for _ in range(2):
        hub.api.upload_folder(repo_id="user/page", folder_path=folder, repo_type="space")
    repo = hub.repos["spaces/user/page"]
    assert repo.sdk == "gradio"
    assert len(repo.commits()) == 1
    assert hub.api.repo_info("user/page", repo_type="space").sha == repo.branches["main"].oid
    assert "user/page" not in hub.repos  # a model of the same name is another repository

    local = hub.api.snapshot_download(
        "user/page", repo_type="space", local_dir=tmp_path / "copy", cache_dir=tmp_path / "cache"
    )
    copied = {name: h for name, h in hash_files(Path(local)).items() if not name.startswith(".")}
    assert copied == hash_files(folder)


def test_what_is_private_is_hidden_from_strangers(hub, folder):
    hub.api.create_repo("user/mine", private=True)
    assert hub.api.model_info("user/mine").private
    for token in (False, "hf_" + "w" * 34):
        with pytest.raises(Exception, match=r"401"):
            HfApi(endpoint=hub.url, token=token).model_info("user/mine")
    with pytest.raises(RepositoryNotFoundError):
        hub.api.model_info("user/nothing")
    with pytest.raises(RevisionNotFoundError):
        hub.api.model_info("user/mine", revision="nothing")
    assert hub.api.whoami()["name"] == "user"


def test_branches_are_apart_and_commits_keep_their_tree(hub):
    hub.api.create_repo("user/model")
    hub.api.create_branch("user/model", branch="other")
    first = hub.api.upload_file(
        path_or_fileobj=b"1", path_in_repo="a/b.txt", repo_id="user/model", revision="other"
    )
    hub.api.upload_file(
        path_or_fileobj=b"2", path_in_repo="a/b.txt", repo_id="user/model", revision="other"
    )
    hub.api.delete_folder("a", repo_id="user/model", revision="other")
    repo = hub.repos["user/model"]
    assert (repo.files("main"), repo.files("other")) == ({}, {})
    assert hub.api.list_repo_files("user/model", revision=first.oid) == [
        ".gitattributes",
        "a/b.txt",
    ]
    (folder,) = (
        entry
        for entry in hub.api.list_repo_tree("user/model", revision=first.oid)
        if entry.path == "a"
    )
    assert not hasattr(folder, "size")
    refs = {branch.name for branch in hub.api.list_repo_refs("user/model").branches}
    assert refs == {"main", "other"}


def test_large_files_lie_elsewhere_and_can_be_read_in_part(hub):
    hub.api.create_repo("user/model")
    hub.api.upload_file(
        path_or_fileobj=bytes(range(100)), path_in_repo="x.bin", repo_id="user/model"
    )
    response = get_session().head(
        f"{hub.url}/user/model/resolve/main/x.bin", follow_redirects=False
    )
    assert response.status_code == 302
    assert response.headers["x-linked-size"] == "100"
    link = response.headers["location"]
    assert not link.startswith(hub.url)
    part = get_session().get(link, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
    refused = get_session().get(link, headers={"Authorization": f"Bearer {hub.token}"})
    assert refused.status_code == 400
