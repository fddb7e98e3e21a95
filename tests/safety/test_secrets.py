"""Passwords, tokens and signatures of addresses are shown and written nowhere."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alphafix import remote
from alphafix.commands.app import app
from alphafix.commands.extract.options import ExtractOptions
from alphafix.errors import InputError, Interruption, call
from alphafix.shown import in_one_line, visible, without_secrets
from tests.images.test_web import Web, web  # noqa: F401 (a fixture)

ADDRESSES = {
    "https://user:pw@host/file": "https://***@host/file",
    "https://user:p@w@host/file": "https://***@host/file",
    "https:/user:pw@host/file": "https:/***@host/file",  # as a path has it
    "https://ghp_token@host/x.git": "https://***@host/x.git",
    "https://h/a?X-Amz-Signature=0a&X-Amz-Date=1": "https://h/a?X-Amz-Signature=***&X-Amz-Date=1",
    "https://h/a?sv=2022&sig=a%2Bb%3D": "https://h/a?sv=2022&sig=***",
    "https://h/a?token=t;page=2": "https://h/a?token=***;page=2",
    "https://h/a#access_token=t": "https://h/a#access_token=***",
    "https://h/a?k=AIzaSyA1234567890abcdefghijk": "https://h/a?k=***",
    "https://h/{split}-{000..002}.tar?sig=x": "https://h/{split}-{000..002}.tar?sig=***",
}

PLAIN = (
    "s3://bucket/a@b/key",
    "https://host/a?page=2&versionId=3",
    "https://host/get?key=photo.jpg&design=4",
    "C:/name@place",
    "token=abc is no address",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_secrets__of_addresses_are_hidden(address: str) -> None:
    hidden = ADDRESSES[address]
    for around in ("{}", "{}: another try", "url='{}')", "`alphafix inspect '{}'`", "({}), {}."):
        text = around.replace("{}", address)
        assert without_secrets(text) == around.replace("{}", hidden)
        assert visible(text) == in_one_line(text) == around.replace("{}", hidden)
    assert without_secrets(hidden) == hidden


@pytest.mark.parametrize("text", PLAIN)
def test_secrets__of_what_has_none_nothing_is_hidden(text: str) -> None:
    assert without_secrets(text) == text


def test_secrets__are_in_no_part_of_an_error() -> None:
    place = "https://user:pw@host/f?sig=abc"
    error = InputError(
        place, place, got=place, expected=place, todo=f"run {call('inspect', file=place)}"
    )
    error.complete(lambda name, pairs: (*pairs, ("data", place)))
    error.add(place)
    error.rename({"copy": place})
    interrupt = Interruption(f"go on with {call('inspect', file=place)}")
    for told in (str(error), error.text(), str(error.brief), str(interrupt)):
        assert "pw" not in told
        assert "abc" not in told
        assert "https://***@host/f?sig=***" in told


def test_secrets__are_in_no_options_that_are_written_down() -> None:
    data = "https://user:pw@host/{split}.txt?sig=abc"
    root = Path("https://user:pw@host/photos")
    options = ExtractOptions(backbone="timm:x", data=data, root=root)
    written = json.dumps([options.recorded(), options.model_dump(mode="json")])
    assert "pw" not in written
    assert "abc" not in written
    assert options.recorded()["data"] == "https://***@host/{split}.txt?sig=***"
    assert options.data == data  # which is what is read


def test_secrets__of_a_server_that_fails_are_told_nobody(
    web: Web,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    place = web.address.replace("://", "://user:topsecret@") + "/model.safetensors?token=abcdef"
    for codes in ([503, 503, 404] * 5, [401] * 20, [503] * 40):
        web.codes[:] = codes
        with caplog.at_level(logging.INFO, "alphafix"):
            done = CliRunner().invoke(app, ["inspect", place, "--json"])
        assert done.exit_code == 1
        for told in (done.stdout, done.stderr, caplog.text):
            assert "topsecret" not in told
            assert "abcdef" not in told
        assert "?token=***" in done.stderr
    with pytest.raises(InputError, match="its secret parts are written down nowhere"):
        remote.read(without_secrets(place))


def test_secrets__are_not_in_what_a_copy_is_known_by(web: Web) -> None:  # noqa: F811
    place = web.address.replace("://", "://user:topsecret@")
    web.files["/head.npz?sig=abcdef"] = b"x"
    copy = remote.fetched(f"{place}/head.npz?sig=abcdef")
    assert copy.name == "head.npz"
    assert remote.origin(copy) == f"{web.address.replace('://', '://***@')}/head.npz"


def test_secrets__of_fetched_parts_are_not_in_their_note(tmp_path: Path) -> None:
    from alphafix.features.elsewhere import _note, noted_address

    _note(tmp_path, "https://user:pw@host/parts/00000-of-00001", "v")
    assert noted_address(tmp_path) == "https://***@host/parts/00000-of-00001"
    assert "pw" not in (tmp_path / ".address.json").read_text()
