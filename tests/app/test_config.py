"""The configuration: what it takes, what it refuses and in which words, and its two renderings."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from postroad.app.config import ConfigError, load, locate, parse, parse_nameserver, sections
from postroad.app.reference import keys, render_file, render_reference, toml_value

PATH = Path("/srv/mail/postroad.toml")
LEAST = '[server]\nhostname = "mx.one.example"\n'


def test_defaults_and_relative_paths() -> None:
    config = parse(LEAST, PATH)
    assert config.server.data_dir == "/srv/mail/data"
    assert config.tls.certificate == "/srv/mail/tls/cert.pem"
    assert config.ports() == {
        "smtp": 25,
        "submission": 587,
        "submissions": 465,
        "imap": 143,
        "imaps": 993,
        "pop3": 110,
        "pop3s": 995,
    }
    absolute = parse(LEAST + 'data_dir = "/var/mail"\n', PATH)
    assert absolute.server.data_dir == "/var/mail"


def test_offset_and_services_switched_off() -> None:
    config = parse(LEAST + "[listen]\nport_offset = 10000\npop3 = 0\nsmtp = 2525\n", PATH)
    ports = config.ports()
    assert ports["smtp"] == 12525 and ports["imaps"] == 10993 and "pop3" not in ports


@pytest.mark.parametrize(
    ("cores", "workers"), [(1, 0), (2, 2), (4, 4), (32, 8)], ids=["1", "2", "4", "32"]
)
def test_workers_by_cores(monkeypatch: pytest.MonkeyPatch, cores: int, workers: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    assert parse(LEAST, PATH).workers == workers
    assert parse(LEAST + "workers = 3\n", PATH).workers == 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the section [server] is missing"),
        ("nonsense", "not TOML"),
        ("[server]\nhostname = 'mx.a.example'\nworker = 2", "did you mean 'workers'"),
        ("[sever]\n", "unknown section [sever]. Did you mean 'server'?"),
        ("[http]\nport = 80\n" + LEAST, "unknown section [http]"),
        ("server = 3", "[server] must be a section"),
        ("[server]", "[server]: Object missing required field `hostname`"),
        ("[server]\nhostname = 7", "[server] hostname: Expected `str`, got `int`"),
        ("[server]\nhostname = 'mx'", "not a full host name"),
        (LEAST + "workers = 65", "[server] workers: Expected `int` <= 64"),
        (LEAST + "workers = true", "[server] workers: Expected `int"),
        (LEAST + "group = 'mail'", "group is set without user"),
        (LEAST + "[listen]\nsmtp = 587", "submission: smtp has port 587 too"),
        (LEAST + "[listen]\nport_offset = 65000", "above 65535"),
        (LEAST + "[listen]\naddresses = []", "[listen] addresses"),
        (LEAST + "[listen]\naddresses = ['localhost']", "'localhost' is not an IP address"),
        (LEAST + "[dns]\nnameservers = ['dns.example']", "is not an IP address"),
        (LEAST + "[dns]\ntimeout_s = 0", "[dns] timeout_s"),
        (LEAST + "[delivery]\nretry_schedule_s = [60, 0]", "[delivery] retry_schedule_s"),
        (LEAST + "[log]\nlevel = 'loud'", "[log] level: Invalid enum value 'loud'"),
    ],
)
def test_what_is_refused_is_named(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, PATH)
    assert problem.lower() in str(caught.value).lower()
    assert str(caught.value).startswith("/srv/mail/postroad.toml: ")


def test_every_unknown_key_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(LEAST + "a = 1\nb = 2\n[tls]\ncert = 'x'\n", PATH)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_nameservers(text: str, pair: tuple[str, int]) -> None:
    assert parse_nameserver(text) == pair


@pytest.mark.parametrize(
    "text", ["", "x", "1.2.3", "127.0.0.1:0", "127.0.0.1:99999", "[::1]:", "::1:x"]
)
def test_bad_nameservers(text: str) -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        parse_nameserver(text)


def test_which_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTROAD_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="postroad init DIR"):
        locate(None)
    (tmp_path / "postroad.toml").write_text(LEAST)
    (tmp_path / "other.toml").write_text(LEAST)
    assert locate(None) == Path("postroad.toml")
    monkeypatch.setenv("POSTROAD_CONFIG", str(tmp_path / "other.toml"))
    assert locate(None) == tmp_path / "other.toml"
    assert locate(str(tmp_path)) == tmp_path / "postroad.toml"
    assert load(locate(None)).server.hostname == "mx.one.example"
    (tmp_path / "other.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(locate(None))


def test_the_reference_page_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert page.read_text() == render_reference(), "run: python tools/generate_docs.py"


def test_the_commented_file_holds_every_key_with_its_default() -> None:
    text = render_file({("server", "hostname"): "mx.one.example", ("server", "workers"): 0})
    assert parse(text, PATH) == parse(LEAST + "workers = 0\n", PATH)
    for name, section in sections().items():
        assert f"[{name}]" in text
        for key in keys(section):
            assert re.search(rf"(?m)^(# )?{key.name} = ", text), key.name
            assert key.description.endswith((".", ").")), key.name
    every = re.sub(r"(?m)^# (\w+ = )(?!\.\.\.)", r"\1", text)
    assert parse(every, PATH) == parse(text, PATH), "the comments state the defaults"


@pytest.mark.parametrize("value", [True, 3, 1.5, 'a "b" \\ \n\u00fc', [1, 2], ["a", "b"], []])
def test_toml_values(value: object) -> None:
    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == value


def test_it_crosses_a_process_border() -> None:
    config = parse(LEAST, PATH)
    again = msgspec.json.decode(msgspec.json.encode(config), type=type(config))
    assert again == config
    assert len(msgspec.json.encode(config)) < 4096, "a pipe takes it in one piece"
