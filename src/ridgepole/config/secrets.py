"""Recognises the names of secrets, and hides their values in shown lines."""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_ALWAYS = {"password", "passwords", "passwd", "passphrase", "secret", "secrets", "credential", "credentials"}
_ALWAYS |= {"apikey", "apikeys", "bearer", "authtoken", "accesstoken"}
# "key" and "token" have many harmless meanings; the word before decides.
_KEYS = {"key", "keys"}
_BEFORE_KEY = {"account", "admin", "access", "api", "app", "auth", "aws", "azure", "client", "deploy", "encryption"}
_BEFORE_KEY |= {"gcp", "github", "hf", "license", "login", "master", "openai", "private", "secret", "service"}
_BEFORE_KEY |= {"signing", "ssh", "storage", "user", "wandb"}
_MODEL_TOKENS = {"additional", "begin", "bos", "class", "cls", "decoder", "each", "end", "eos", "every", "first"}
_MODEL_TOKENS |= {"image", "last", "mask", "max", "min", "n", "next", "no", "num", "pad", "padding", "per", "prev"}
_MODEL_TOKENS |= {"register", "sep", "special", "start", "stop", "target", "text", "unk", "unknown", "use"}
_BEFORE_TOKENS = {"access", "api", "auth", "bearer", "refresh", "session"}
# A name with this ending has a path, a number or another name, not the secret itself.
_NOT_ITSELF = {"count", "dim", "dir", "env", "file", "length", "name", "path", "size", "type", "var", "variable"}


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def looks_secret(name: str) -> bool:
    """Return whether a name in snake_case, kebab-case or camelCase indicates a secret.

    Examples are `password`, `secret`, `token`, `hf_token` and `api_key`; not `key`, `sort_key`,
    `keys`, `max_tokens`, `pad_token`, `tokenizer` or `password_file`.
    """
    words = _words(name)
    if not words or words[-1] in _NOT_ITSELF:
        return False
    if not _ALWAYS.isdisjoint(words):
        return True
    for before, word in zip(["", *words], words, strict=False):
        if word in _KEYS and before in _BEFORE_KEY:
            return True
        if word == "tokens" and before in _BEFORE_TOKENS:
            return True
        if word == "pwd" and before:
            return True
    return words[-1] == "token" and (len(words) == 1 or words[-2] not in _MODEL_TOKENS)


def variable_looks_secret(name: str) -> bool:
    """Return whether a variable's name indicates a secret; the word `KEY` or `TOKEN` is enough.

    It is wider than `looks_secret`, as secrets are often in the environment.
    """
    return looks_secret(name) or not {"key", "token", *_ALWAYS}.isdisjoint(_words(name))


_ASSIGNED = re.compile(r"(?<![\w\"'.-])([\w\"'.-]++)[ \t]*+=[ \t]*+")
_VALUE = re.compile(r"\"\"\".*|'''.*|\"(?:[^\"\\]++|\\.)*\"?|'[^']*+'?|\[[^\]]*+\]?|\{[^}]*+\}?|[^\s,}\]#\"']+")
_REFERENCE = re.compile(r"[\"']*\$\{(?!env!?:[^}]*:-)[^{}]*\}[\"']*")


def mask(line: str, *, whole: bool = False) -> str:
    """Replace each character of a secret in a line of TOML by `*`.

    A value that is only a reference, such as `"${env:WANDB_API_KEY}"`, stays.

    Args:
        line: The line; it may be invalid TOML.
        whole: Whether all after the first `=` is the value, as in `-s key=value`.
    """
    key, _, value = line.partition("=")
    if whole and any(map(looks_secret, key.split("."))) and not _REFERENCE.fullmatch(value.strip()):
        return f"{key}={'*' * len(value)}"
    pieces: list[str] = []
    end = 0
    for match in _ASSIGNED.finditer(line):
        if match.start() < end or not _holds_secret(match[1]):
            continue
        found = _VALUE.match(line, match.end())
        if found and not _REFERENCE.fullmatch(found[0]):
            pieces += [line[end : found.start()], "*" * len(found[0])]
            end = found.end()
    return "".join([*pieces, line[end:]])


def _holds_secret(key: str) -> bool:
    return looks_secret(key.rsplit(".", 1)[-1])
