"""The config file and the environment: what is accepted, and every mistake told by key."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from jobengine.config.document import parse_settings, read_settings
from jobengine.config.environment import DATABASE_PATH, read_environment
from jobengine.config.settings import DatabaseUrl, QueueSettings, Settings
from jobengine.config.template import write_default
from jobengine.domain.errors import ConfigRefused, SecretMissing
from jobengine.store.secret_forms import forms

SPECIFIED = """
version: 1
port: 6010
job_keep_minutes: 60
job_timeout_minutes: 10
queues:
  test_queue_1:
    read:
    - service1
    - service2
    write:
    - service3
  test_queue_2:
    read:
    - service3
    write:
    - service1
    - service2
"""


def mistakes(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigRefused) as caught:
        parse_settings(text, "the config")
    assert all(mistake in str(caught.value) for mistake in caught.value.mistakes)
    return caught.value.mistakes


def test_the_example_of_the_specification() -> None:
    settings = parse_settings(SPECIFIED, "the config")
    assert settings == Settings(
        port=6010,
        job_keep_minutes=60,
        job_timeout_minutes=10,
        queues={
            "test_queue_1": QueueSettings(
                frozenset({"service1", "service2"}), frozenset({"service3"})
            ),
            "test_queue_2": QueueSettings(
                frozenset({"service3"}), frozenset({"service1", "service2"})
            ),
        },
    )


@pytest.mark.parametrize("version", ["1", "1.0", '"1"', '"1.0"'])
def test_versions(version: str) -> None:
    assert parse_settings(f"version: {version}", "the config") == Settings()


def test_merge_keys_are_understood() -> None:
    text = "version: 1\nqueues:\n  a: &a {read: [r], write: [w]}\n  b: {<<: *a, write: [x]}"
    queues = parse_settings(text, "the config").queues
    assert queues is not None
    assert queues["b"] == QueueSettings(frozenset({"r"}), frozenset({"x"}))


def test_hosts_are_names_and_addresses() -> None:
    listed = "[Jobs.Example, 192.0.2.1, '[2001:DB8::1]', '2001:db8::2', job_engine]"
    expected = {"jobs.example", "192.0.2.1", "2001:db8::1", "2001:db8::2", "job_engine"}
    assert parse_settings(f"version: 1\nhosts: {listed}", "the config").hosts == expected


def test_what_is_left_out_has_the_documented_default() -> None:
    settings = parse_settings("version: 1", "the config")
    assert (settings.port, settings.job_keep_minutes, settings.job_timeout_minutes) == (
        6010,
        60,
        10,
    )
    assert (settings.host, settings.queues) == ("127.0.0.1", None)


def test_queues_left_empty_is_not_the_same_as_no_queues() -> None:
    assert parse_settings("version: 1\nqueues:", "the config").queues is None
    assert parse_settings("version: 1\nqueues: {}", "the config").queues == {}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("port: 6010", "version: missing"),
        ("version: 2", "version: expected 1"),
        ("version: true", "version: expected 1"),
        ("version: [1]", "version: expected 1"),
        ("version: 1\nport: 65536", "port: expected an integer from 0 to 65535, got 65536"),
        ("version: 1\nport: -1", "port: expected"),
        ("version: 1\nauthentication: yes", "authentication: expected none or keys, got 'yes'"),
        ("version: 1\nauthentication: [keys]", "authentication: expected none or keys"),
        ("version: 1\nhosts: localhost", "hosts: expected a list of host names, got 'localhost'"),
        ("version: 1\nhosts: [5]", "hosts[0]: expected a host name or an address"),
        ("version: 1\nhosts: [a, 'a:80']", "hosts[1]: expected a host name or an address"),
        ("version: 1\nhosts: ['http://a']", "hosts[0]: expected a host name or an address"),
        ("version: 1\nhosts: ['*']", "hosts[0]: expected a host name or an address"),
        ("version: 1\nadmins: boss", "admins: expected a list of service names"),
        ("version: 1\nadmins: ['*']", "admins: expected the names of services"),
        ("version: 1\nadmins: ['a,b']", "admins[0]: expected a service name"),
        ("version: 1\nrate_limit: 100", "rate_limit: expected a number of calls in a time"),
        ("version: 1\nrate_limit: 0/s", "rate_limit: expected a number of calls in a time"),
        ("version: 1\nrate_limit: 5/d", "rate_limit: expected a number of calls in a time"),
        ("version: 1\nservices: [a]", "services: expected names of services"),
        ("version: 1\nservices: {a: 5/s}", "services.a: expected `rate_limit`"),
        ("version: 1\nservices: {'a,b': {}}", "services.a,b: expected a service name"),
        ("version: 1\nservices: {a: {rate: 5/s}}", "services.a.rate: unknown key"),
        ("version: 1\nservices: {a: {rate_limit: x}}", "services.a.rate_limit: expected"),
        ("version: 1\nqueues: {q: {max_jobs: 0}}", "queues.q.max_jobs: expected an integer"),
        ('version: 1\nport: "6010"', "port: expected an integer"),
        ("version: 1\nport: yes", "port: expected"),
        ("version: 1\nport: 6010.0", "port: expected"),
        ("version: 1\nport:", "port: expected an integer from 0 to 65535, got nothing"),
        ("version: 1\njob_keep_minutes: -1", "job_keep_minutes: expected"),
        ("version: 1\njob_timeout_minutes: 0", "job_timeout_minutes: expected"),
        ("version: 1\nmax_body_bytes: 1", "max_body_bytes: expected"),
        ("version: 1\nthreads: 0", "threads: expected"),
        ("version: 1\nhost: 5", "host: expected"),
        ("version: 1\nhost: 'a b'", "host: expected"),
        ("version: 1\nprot: 1", "prot: unknown key, did you mean port?"),
        ("version: 1\n7: 1", "7: unknown key"),
        ("version: 1\nqueues: []", "queues: expected"),
        ("version: 1\nqueues: {a: }", "queues.a: expected `read` and `write` lists, got nothing"),
        ("version: 1\nqueues: {1: {}}", "queues.1: expected a queue name (put it in quotes)"),
        ("version: 1\nqueues: {'a,b': {}}", "queues.a,b: expected a queue name"),
        ("version: 1\nqueues: {'': {}}", "queues.: expected a queue name"),
        ("version: 1\nqueues: {é: {}}", "queues.é: expected a queue name"),
        ("version: 1\nqueues: {' a': {}}", "queues. a: expected a queue name"),
        ("version: 1\nqueues: {a: {raed: []}}", "queues.a.raed: unknown key, did you mean read?"),
        ("version: 1\nqueues: {a: {read: x}}", "queues.a.read: expected a list"),
        ("version: 1\nqueues: {a: {read: [b, 5]}}", "queues.a.read[1]: expected a service name"),
        ("version: 1\nqueues: {a: {write: [true]}}", "queues.a.write[0]: expected a service name"),
        ("version: 1\nqueues: {a: {write: ['x,y']}}", "queues.a.write[0]: expected"),
        ("version: 1\nversion: 1", "line 2, column 1: the key 'version' is given twice"),
        ("version: 1\nqueues: {a: {}, a: {}}", "the key 'a' is given twice"),
        ("", "it is empty"),
        ("# only a comment", "it is empty"),
        ("text", "expected keys and values"),
        ("- 1", "expected keys and values, got a list"),
        ("version: [", "line "),
        ("version: !!python/object:os.system {}", "line 1"),
        ("\tversion: 1", "line 1"),
        ("version: \x00", "it is not YAML"),
        ("? [a, b]\n: c", "line 1"),
        ("version: 1\n2020-99-99: 1", "2020-99-99: unknown key"),
        ("version: 1\nport: 06010", "port: expected an integer from 0 to 65535 in decimal digits"),
        ("version: 1\nport: 06010", "got '06010' (line 2)"),
        ("version: 1\nport: 1:30", "port: expected an integer from 0 to 65535, got '1:30'"),
        ("version: 1\nport: 0x10", "got '0x10'"),
        ("version: 1\nport: 1_000", "got '1_000'"),
        ("version: 1\nport: 1e3", "got '1e3'"),
        ("version: 1\nport: 0b1", "got '0b1'"),
        ("version: 01", "version: expected 1 or 1.0"),
        ("version: 1\nport: " + "9" * 5000, "it is not YAML"),
        ("version: 1\nhost: 0.0.0.0:6010", "host: expected an address or a host name alone"),
        ("version: 1\nhost: '[::]:6010'", "(`port` has the port), got '[::]:6010'"),
        ("version: 1\nhost: http://localhost", "alone"),
        ("version: 1\nhost: 'a\u00a0b'", "host: expected an address or a host name to listen on"),
        (
            "version: 1\nqueues: {q: {read: [*]}}",
            '* begins an alias in YAML: put it in quotes, as in ["*"]',
        ),
        ("version: 1\nqueues:\n  q:\n    read:\n    - *\n", "line 5, column 8: * begins an alias"),
        ("version: 1\nqueues: {q: {read: *all}}", "* begins an alias"),
        ("version: 1\nhost: @a", "put what begins with @ in quotes"),
        ("version:\u00a01", "line 1, column 9: a no-break space (U+00A0): expected a space"),
        ("version: 1\nqueues:\n\u00a0\u00a0q: {}", "line 3, column 1: a no-break space (U+00A0)"),
        ("version: 1\nqueues: {q: {read:\u202f[a]}}", "a narrow no-break space (U+202F)"),
        ("version: 1\nqueues:\n\tq: {}", "line 3, column 1: a tab: expected a space"),
        ("version: 1\nqueues:\n  q:\n  \tread: []", "line 4, column 3: a tab: expected a space"),
        ("version: 1\nqueues: {'a,b': {wrte: []}}", "queues.a,b.wrte: unknown key"),
        ("version: 1\nservices: {'a,b': {rate_limit: 5}}", "services.a,b.rate_limit: expected"),
        ("version: 1\nqueues: {a: {x-read: []}}", "queues.a.x-read: unknown key"),
        ("version: 1\nport: !!int abc", "it is not YAML"),
        ("[" * 3000, "nest"),
    ],
)
def test_a_mistake_is_told_by_its_key(text: str, key: str) -> None:
    assert any(key in mistake for mistake in mistakes(text)), mistakes(text)


def test_both_of_two_keys_are_told_with_their_lines_and_all_else_too() -> None:
    text = "version: 1\nport: 1\nport: 2\nqueues:\n  q: {}\n  q: {}\nfoo: 1"
    twice, queue_, unknown = mistakes(text)
    assert twice == "line 3, column 1: the key 'port' is given twice, first in line 2"
    assert queue_ == "line 6, column 3: the key 'q' is given twice, first in line 5"
    assert unknown.startswith("foo: unknown key")
    assert unknown.endswith("(line 7)")


def test_mistakes_are_told_with_their_lines() -> None:
    text = "version: 1\nport: x\nqueues:\n  q:\n    read:\n    - a\n    - 5\n    wrte: []\n"
    assert [mistake.rpartition(" (")[2] for mistake in mistakes(text)] == [
        "line 2)",
        "line 8)",
        "line 7)",
    ]


def test_names_that_older_yaml_takes_for_true_and_false_are_names() -> None:
    text = "version: 1\nqueues: {no: {read: [on, off, y, n, yes, No], write: [1e3, 1:30, 010]}}"
    queues = parse_settings(text, "the config").queues
    assert queues == {
        "no": QueueSettings(
            frozenset({"on", "off", "y", "n", "yes", "No"}), frozenset({"1e3", "1:30", "010"})
        )
    }


@pytest.mark.parametrize(
    ("value", "meant"),
    [("true", True), ("yes", True), ("On", True), ("false", False), ("no", False), ("OFF", False)],
)
def test_switches(value: str, meant: bool) -> None:
    assert parse_settings(f"version: 1\nprotect_nonempty: {value}", "c").protect_nonempty is meant


def test_a_no_break_space_in_a_comment_is_nothing_to_speak_of() -> None:
    text = "version: 1  # a\u00a0b\n# \tc\u00a0d\nport: x"
    assert len(mistakes(text)) == 1


def test_keys_that_begin_with_x_are_for_anchors() -> None:
    text = """
x-deep: {one: {two: &own {<<: &defaults {read: [a], max_jobs: 5}, read: [b]}}}
x-name: &name ops
version: 1
admins: [*name]
queues:
  q: *defaults
  r: {<<: *own, write: [*name]}
"""
    settings = parse_settings(text, "the config")
    assert settings.admins == {"ops"}
    assert settings.queues == {
        "q": QueueSettings(frozenset({"a"}), frozenset(), max_jobs=5),
        "r": QueueSettings(frozenset({"b"}), frozenset({"ops"}), max_jobs=5),
    }


def _laughs(first: str, of: Callable[[str], str]) -> str:
    """Each line refers 50 times to the one before it."""
    more = (f"x-{n}: &a{n} {of(', '.join([f'*a{n - 1}'] * 50))}\n" for n in range(1, 9))
    return f"version: 1\nx-0: &a0 {first}\n{''.join(more)}queues: {{q: *a8}}\nport: x\n"


@pytest.mark.parametrize(
    "text",
    [
        _laughs("[a]", "[{}]".format),
        _laughs("{read: []}", "{{<<: [{}]}}".format),
        _laughs("{" + ", ".join(f"k{n}: 1" for n in range(100)) + "}", "{{<<: [{}]}}".format),
        "version: 1\nport: x\nx-a: &a [*a]",
        "version: 1\nport: x\nx-a: &a {<<: *a}",
        "version: 1\nport: x\nqueues: &a {a: *a}",
    ],
)
def test_aliases_of_aliases_cost_no_more_than_the_file(text: str) -> None:
    assert any("port: expected" in mistake for mistake in mistakes(text))


def test_all_mistakes_are_told_at_once() -> None:
    text = "port: x\njob_keep_minutes: x\nqueues:\n  a: {read: [1], write: x}\n  'b,': {}\nfoo: 1"
    assert len(mistakes(text)) == 7


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_bytes(b"version: 1\nhost: \xff")
    with pytest.raises(ConfigRefused, match="UTF-8"):
        read_settings(path)
    with pytest.raises(ConfigRefused, match="cannot be read"):
        read_settings(tmp_path)


def test_the_generated_config_is_the_default_with_comments_and_no_queues(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "config.yml"
    write_default(path)
    assert read_settings(path) == Settings(queues={})
    assert "# " in path.read_text()
    with pytest.raises(FileExistsError):
        write_default(path)


def test_the_environment_and_the_command_line_over_it(tmp_path: Path) -> None:
    launch = read_environment({"SECRET": "s"})
    assert launch.config_path == Path("/jobengine/config.yml")
    assert launch.database == Path("/jobengine/database.queuedb")
    assert launch.log_level == "info"
    env = {"SECRET": "s", "CONFIG_PATH": "/a/c.yml", "DB_PATH": "/a/d"}
    launch = read_environment(env)
    assert (launch.config_path, launch.database) == (Path("/a/c.yml"), Path("/a/d"))
    launch = read_environment(env, config=Path("c"), database=Path("d"), host="::", port=1)
    assert (launch.config_path, launch.database) == (Path("c"), Path("d").resolve())
    assert (launch.host, launch.port) == ("::", 1)


@pytest.mark.parametrize(
    ("env", "level"),
    [
        ({"GIN_MODE": "release"}, "warning"),
        ({"GIN_MODE": "debug"}, "debug"),
        ({"GIN_MODE": ""}, "info"),
        ({"GIN_MODE": "release", "LOG_LEVEL": "debug"}, "debug"),
        ({"LOG_LEVEL": "ERROR"}, "error"),
    ],
)
def test_log_levels(env: dict[str, str], level: str) -> None:
    assert read_environment({"SECRET": "s"} | env).log_level == level


def test_mistakes_in_the_environment_are_told_at_once() -> None:
    env = {"SECRET": "s", "SECRET_FILE": "f", "GIN_MODE": "x", "LOG_LEVEL": "y"}
    with pytest.raises(ConfigRefused) as caught:
        read_environment(env)
    assert [mistake.partition(":")[0] for mistake in caught.value.mistakes] == [
        "GIN_MODE",
        "LOG_LEVEL",
        "SECRET and SECRET_FILE",
    ]


def test_a_missing_secret_is_told_how_to_set(tmp_path: Path) -> None:
    with pytest.raises(SecretMissing, match="export SECRET="):
        read_environment({"SECRET": ""})
    with pytest.raises(SecretMissing, match="cannot be read"):
        read_environment({"SECRET_FILE": str(tmp_path / "none")})
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(SecretMissing, match="is empty"):
        read_environment({"SECRET_FILE": str(tmp_path / "empty")})


def test_a_secret_file_is_taken_without_the_end_of_its_last_line(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    for content in (b" s \n", b" s \r\n", b" s "):
        path.write_bytes(content)
        path.chmod(stat.S_IRUSR)
        secret = read_environment({"SECRET_FILE": str(path)}).secret.value
        assert forms(secret)[0] == b" s "
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)


def test_a_secret_is_never_shown() -> None:
    launch = read_environment({"SECRET": "hush"})
    assert "hush" not in repr(launch)
    assert "hush" not in str(launch.secret)


@pytest.mark.parametrize("end", ["\n", "\r\n", " ", "\t\n"])
def test_a_database_url_is_taken_without_the_end_of_its_line(end: str) -> None:
    url = "postgresql+psycopg://user@host/jobs"
    launch = read_environment({"SECRET": "s", "DATABASE_URL": f"{url}{end}"})
    assert launch.database == DatabaseUrl(url)
    assert read_environment({"SECRET": "s", "DATABASE_URL": end}).database == DATABASE_PATH


@pytest.mark.parametrize("name", ["CONFIG_PATH", "DB_PATH"])
def test_a_path_with_a_line_break_is_refused_and_not_another_file_made(name: str) -> None:
    with pytest.raises(ConfigRefused, match=f"{name}: expected a path, got one with a line break"):
        read_environment({"SECRET": "s", name: "/a/b\n"})


def test_levels_are_taken_without_the_end_of_their_line() -> None:
    assert read_environment({"SECRET": "s", "GIN_MODE": "release\n"}).log_level == "warning"
    assert read_environment({"SECRET": "s", "LOG_LEVEL": "debug\n"}).log_level == "debug"


@pytest.mark.parametrize("good", ["/jobs", "/a/b-c", "/~x/y.z_1"])
def test_a_base_path_is_a_path(good: str) -> None:
    text = f"version: 1\nbase_path: {good}\n"
    assert parse_settings(text, "the config").base_path == good


@pytest.mark.parametrize(
    "bad",
    ["jobs", "/", "/jobs/", "//x", "/../x", "/a b", "/%41", "/\u00e4", "", "/a?b", "/a#b", "/a\\n"],
)
def test_what_is_no_base_path_is_refused_by_name(bad: str) -> None:
    (mistake,) = mistakes(f'version: 1\nbase_path: "{bad}"\n')
    assert mistake.startswith("base_path: expected a path such as /jobs")


def test_an_odd_space_is_named_before_the_keys_that_it_makes_unknown() -> None:
    with pytest.raises(ConfigRefused) as refused:
        parse_settings("version: 1\nqueues:\n\u00a0\u00a0q: {}\n", "c")
    spaces, key = refused.value.mistakes
    assert spaces.startswith("line 3, column 1: a no-break space")
    assert "unknown key" in key
