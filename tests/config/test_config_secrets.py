"""Which names look secret, what is marked as secret, and that no error shows one."""

from __future__ import annotations

import pytest

from ridgepole.config import from_text, looks_secret, parse_override
from ridgepole.errors import ConfigError

SECRET = (
    "password PASSWORD db_password db-password dbPassword passwd db_pwd passphrase secret client_secret "
    "secrets token hf_token HF_TOKEN accessToken auth_token api_key apikey apiKey APIKey wandb_api_key WANDB_API_KEY "
    "OPENAI_API_KEY api_keys "
    "private_key ssh_key aws_secret_access_key AWS_ACCESS_KEY_ID access_tokens credentials credential"
)
HARMLESS = (
    "key keys sort_key primary_key cache_key key_dim num_keys keyboard monkey max_tokens tokens num_tokens tokenizer "
    "tokenizer_name pad_token eos_token mask_token loss_per_token token_dim token_type pwd PWD password_file "
    "api_key_env secretary width lr name _ author"
)


@pytest.mark.parametrize("name", SECRET.split())
def test_names_that_look_secret(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize("name", ["", *HARMLESS.split()])
def test_names_that_do_not(name: str) -> None:
    assert not looks_secret(name)


def test_paths_of_secrets_follow_the_values() -> None:
    document = from_text(
        """
        plain = "${env:HOME}"
        key = "${env:WANDB_API_KEY}"
        part = ["a", "https://me:${env:DB_PASSWD}@host/${env:HOME}"]
        same = "${key}"
        inside = "x ${same} x"
        default = "${env:HF_TOKEN:-none}"
        bare = "${env:KEY}"
        many = "${env:MAX_TOKENS}"
        table = "${logger}"
        through = "${table.auth.1}"
        [logger]
        auth = [1, "${env:SERVICE_CREDENTIALS}"]
        other = "${env:HOME}"
        """
    )
    assert document.secrets == frozenset()
    names = ("WANDB_API_KEY", "DB_PASSWD", "KEY", "SERVICE_CREDENTIALS")
    environ = dict.fromkeys(names, "canary") | {"HOME": "/home", "MAX_TOKENS": "5"}
    document = document.interpolate(environ)
    assert document.secrets == {
        ("key",),
        ("part", 1),
        ("same",),
        ("inside",),
        ("default",),
        ("bare",),
        ("table", "auth", 1),
        ("through",),
        ("logger", "auth", 1),
    }
    assert "canary" not in repr(document)
    for path in document.secrets:
        assert "canary" not in document.place(path).text
    assert document.override([parse_override("x=1")]).secrets == frozenset()


@pytest.mark.parametrize(
    "line",
    [
        'api_key = "canary"',
        "api_key = 'canary' 5 # comment",
        '"db password" = """canary',
        "net.api_key = canary",
        'logger = { type = "W", api_key = "can\\"ary", width = 3 }',
        "token = ['canary', 'canary']",
        'password = "${env:NO:-canary}"',
        "api_key='canary",
        'api_key = "canary" x',
    ],
)
def test_a_secret_written_out_is_not_shown_by_errors(line: str) -> None:
    for text in (f"{line} ]", f"{line}\nx = ]", f"{line}\n{line}", f"bad = '${{nowhere}}'\n{line}", f"{line} '${{a}}'"):
        with pytest.raises(ConfigError) as caught:
            from_text(text).interpolate({})
        assert "ary" not in str(caught.value)


def test_hidden_values_keep_the_columns_and_their_neighbours() -> None:
    document = from_text('l = { api_key = "canary", width = 3, name = "n" }', "x.toml")
    place = document.place(("l", "width"))
    assert place.text == 'l = { api_key = ********, width = 3, name = "n" }'
    assert place.text[place.column - 1] == "3"


def test_a_reference_stays_readable() -> None:
    with pytest.raises(ConfigError) as caught:
        from_text('api_key = "${env:WANDB_API_KEY}"').interpolate({})
    assert 'api_key = "${env:WANDB_API_KEY}"' in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["logger.api_key=canary x", 'logger={ api_key = "canary" }', "password=canary=canary", "logger.api_key.x=canary"],
)
def test_overrides_hide_secrets_in_their_place(text: str) -> None:
    override = parse_override(text)
    assert "canary" not in repr(override)
    assert "canary" not in override.place.text
    assert "canary" in str(override.value)
