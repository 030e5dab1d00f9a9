"""Downloads from a server of our own that is slow, breaks off, lies, and has an expired certificate. No internet."""

import contextlib
import hashlib
import io
import itertools
import os
import re
import shutil
import socket
import ssl
import stat
import struct
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import saerec
from saerec import fetch
from saerec.__main__ import main
from saerec.fetch import TERMS, FetchError, fetch_movielens
from saerec.validation import DataError

PUBLISHED = fetch.RELEASES  # the fixture `releases` puts others in their place

CERTIFICATE = Path(__file__).with_name("expired.pem")  # its first line says how it was made


def make_zip(files: dict[str, str], modes: tuple[int, ...] = ()) -> bytes:
    """A zip of these names, as hostile as they are, and texts; the modes say what kind of file the first ones are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for (name, text), mode in itertools.zip_longest(files.items(), modes, fillvalue=0):
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, text)
    return buffer.getvalue()


GOOD = make_zip(
    {"ml-1M/": "", "ml-1M/ratings.dat": "1::1193::5::978300760\n" * 9999, "ml-1M/more/README": "terms\n"},
    (stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644),
)
OTHER = make_zip({"ml-1M/ratings.dat": "another edition"})


class Server(ThreadingHTTPServer):
    """Answers every request with `status` and `body`, when it is no longer told to wait; remembers what was asked."""

    daemon_threads = False  # so that closing waits for them

    def __init__(self, certificate: Path | None = None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body, self.missing, self.asked, self.go_on = 200, GOOD, 0, [], threading.Event()
        self.go_on.set()
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.server_port}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.go_on.set()
        self.shutdown()
        self.thread.join()
        self.server_close()

    def handle_error(self, *_):
        """Say nothing: clients that hang up are what the tests are about."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(self.server.status)
        if self.server.missing is not None:
            self.send_header("Content-Length", str(len(self.server.body) + self.server.missing))
        self.end_headers()
        self.wfile.write(self.server.body[:100])
        self.server.go_on.wait()
        self.wfile.write(self.server.body[100:])

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(autouse=True)
def releases(monkeypatch):
    """GOOD is what is published as ml-1m; ml-latest has no MD5; both may grow to a megabyte; there is no internet."""
    md5 = hashlib.md5(GOOD, usedforsecurity=False).hexdigest()
    monkeypatch.setattr(fetch, "RELEASES", {"ml-1m": (md5, 10**6), "ml-latest": (None, 10**6)})
    monkeypatch.setattr(fetch, "SERVER", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server(monkeypatch):
    with Server() as server:
        monkeypatch.setattr(fetch, "SERVER", server.url)
        yield server


@pytest.fixture
def expired_server(monkeypatch):
    """One whose certificate this computer would trust, had it not expired."""
    with Server(CERTIFICATE) as server:
        monkeypatch.setattr(fetch, "SERVER", server.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
        yield server


def refused(folder: Path, name: str = "ml-1m", **options) -> str:
    """The message of the FetchError: one line, and nothing was left in the folder."""
    before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    with pytest.raises(FetchError) as error:
        fetch_movielens(name, folder, progress=False, **options)
    assert {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")} == before
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_published_md5s():
    """As data/README.md gives them."""
    table = (Path(__file__).parent.parent / "data" / "README.md").read_text(encoding="utf-8")
    pinned = {name: md5 for name, (md5, _) in PUBLISHED.items() if md5}
    assert list(pinned) == ["ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m"]
    assert all(re.search(rf"^\| {name} \| [\d,]+ \| {md5} \|$", table, re.MULTILINE) for name, md5 in pinned.items())


def test_a_release_is_downloaded_checked_and_unpacked_once(server, tmp_path, capsys):
    folder = fetch_movielens("ml-1m", tmp_path / "new" / "data")
    assert folder == tmp_path / "new" / "data" / "ml-1m"
    assert [path.name for path in folder.parent.iterdir()] == ["ml-1m"]
    assert {path.name for path in folder.iterdir()} == {"ratings.dat", "more"}
    assert (folder / "ratings.dat").read_text() == "1::1193::5::978300760\n" * 9999
    assert (folder / "more" / "README").read_text() == "terms\n"
    output = capsys.readouterr()
    assert output.out == TERMS + "\n" and "ml-1m:   0%" in output.err
    assert server.asked == ["/datasets/movielens/ml-1m.zip"]

    assert fetch_movielens("ml-1m", folder.parent) == folder
    assert len(server.asked) == 1 and capsys.readouterr() == ("", "")


def test_an_empty_folder_is_not_a_release(server, tmp_path):
    (tmp_path / "ml-1m").mkdir()
    assert (fetch_movielens("ml-1m", tmp_path, progress=False) / "ratings.dat").exists()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_has_the_name_and_is_no_release_is_named_and_stays(server, tmp_path, what):
    path = tmp_path / "ml-1m" / ".DS_Store" if what == "folder" else tmp_path / "ml-1m"
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    assert refused(tmp_path) == f"{tmp_path / 'ml-1m'} is there but holds no ratings of MovieLens: move it away"
    assert server.asked == []


@pytest.mark.parametrize("cleaned", [True, False])
def test_of_two_at_once_the_slower_takes_what_the_faster_has_put_there(server, tmp_path, monkeypatch, cleaned):
    unpack = fetch._unpack

    def overtaken(path, folder, limit):
        if cleaned:
            shutil.rmtree(folder.parent)
        (tmp_path / "ml-1m").mkdir()
        (tmp_path / "ml-1m" / "ratings.dat").write_text("the faster one's")
        return unpack(path, folder, limit)

    monkeypatch.setattr(fetch, "_unpack", overtaken)
    folder = fetch_movielens("ml-1m", tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["ml-1m"]
    assert (folder / "ratings.dat").read_text() == "the faster one's"


def test_a_zip_that_lies_there_is_used_without_a_download_and_stays(server, tmp_path, capsys):
    (tmp_path / "ml-1m.zip").write_bytes(GOOD)
    assert (fetch_movielens("ml-1m", tmp_path) / "ratings.dat").exists()
    assert server.asked == [] and capsys.readouterr() == ("", "")
    assert (tmp_path / "ml-1m.zip").read_bytes() == GOOD


def test_another_zip_that_lies_there_is_neither_used_nor_replaced(server, tmp_path):
    (tmp_path / "ml-1m.zip").write_bytes(OTHER)
    message = refused(tmp_path)
    assert "nothing was unpacked" in message and f"move {tmp_path / 'ml-1m.zip'} away" in message
    assert server.asked == []


def test_a_wrong_file_is_not_unpacked(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "_unpack", lambda *_: pytest.fail("it was unpacked"))
    server.body = OTHER
    message = refused(tmp_path)
    for body in (GOOD, OTHER):
        assert hashlib.md5(body, usedforsecurity=False).hexdigest() in message
    assert "nothing was unpacked" in message and "try again, or download it by hand" in message


def test_a_release_without_md5_says_so_and_which_it_found(server, tmp_path, capsys):
    fetch_movielens("ml-latest", tmp_path, progress=False)
    said = capsys.readouterr().out.removeprefix(TERMS)
    assert "no published MD5" in said and hashlib.md5(GOOD, usedforsecurity=False).hexdigest() in said


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"missing": 10}, "the connection broke off before .*/datasets/movielens/ml-1m.zip was whole: try again"),
        ({"status": 404}, "ml-1m.zip answers 404 Not Found"),
        ({"status": 500}, "ml-1m.zip answers 500 Internal Server Error"),
    ],
)
def test_a_server_that_fails(server, tmp_path, state, message):
    vars(server).update(state)
    assert re.search(message, refused(tmp_path))
    vars(server).update(missing=0, status=200)
    assert fetch_movielens("ml-1m", tmp_path, progress=False).is_dir()  # it starts anew


@pytest.mark.parametrize("answers", [True, False])
def test_a_server_that_stops_sending(server, tmp_path, monkeypatch, answers):
    monkeypatch.setattr(fetch, "TIMEOUT", 0.1)
    server.go_on.clear()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        if not answers:
            monkeypatch.setattr(fetch, "SERVER", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        assert "has sent nothing for 0.1 seconds" in refused(tmp_path)
        assert time.monotonic() - started < 2


@pytest.mark.parametrize("missing", [0, None])  # says how much is to come, or not
def test_a_server_that_sends_too_much(server, tmp_path, missing):
    server.body, server.missing = GOOD + b"0" * 10**6, missing
    assert refused(tmp_path) == (
        f"{server.url}/datasets/movielens/ml-1m.zip is larger than 1,000,000 bytes, more than it can have: nothing was "
        "kept; try again later, or download it by hand"
    )


def test_no_connection(tmp_path):
    way = f"put it in place as {tmp_path / 'ml-1m.zip'} and run this again"
    assert re.search(f"cannot be reached: is this computer online\\? .*{re.escape(way)}", refused(tmp_path))


@pytest.mark.parametrize("kept", [False, True])
def test_a_folder_that_was_there_before_stays(tmp_path, kept):
    if kept:
        (tmp_path / "here").mkdir()
    refused(tmp_path / "here")
    assert (tmp_path / "here").exists() == kept


def test_an_expired_certificate_names_two_ways_out(expired_server, tmp_path):
    message = refused(tmp_path)
    assert f"the certificate of {expired_server.url} is not valid" in message and "expired" in message
    assert "--dataset (load_movielens)" in message and "--insecure (insecure=True)" in message
    assert expired_server.asked == []
    assert "--insecure" not in refused(tmp_path, "ml-latest")


def test_insecure_takes_what_has_the_right_md5_and_nothing_else(expired_server, tmp_path):
    expired_server.body = OTHER
    assert "nothing was unpacked" in refused(tmp_path, insecure=True)
    expired_server.body = GOOD
    assert (fetch_movielens("ml-1m", tmp_path, insecure=True, progress=False) / "ratings.dat").exists()


def test_insecure_needs_an_md5(server, tmp_path):
    with pytest.raises(DataError, match="ml-latest has no published MD5"):
        fetch_movielens("ml-latest", tmp_path / "data", insecure=True)
    assert server.asked == [] and not (tmp_path / "data").exists()


def test_an_unknown_release(server, tmp_path):
    with pytest.raises(DataError, match=r"'\.\./ml-2m'; there are ml-1m, ml-latest$"):
        fetch_movielens("../ml-2m", tmp_path / "data")
    assert server.asked == [] and not (tmp_path / "data").exists()


def lying(text: str, claimed: int) -> bytes:
    """A zip whose headers claim another size than its file's."""
    body = make_zip({"ml-1M/bomb": text})
    assert body.count(struct.pack("<L", len(text))) == 2  # in the file's header and in the directory at the end
    return body.replace(struct.pack("<L", len(text)), struct.pack("<L", claimed))


def encrypted() -> bytes:
    body = bytearray(make_zip({"ml-1M/secret": "text"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        body[body.index(signature) + offset] |= 1
    return bytes(body)


NOT_PLAIN = "is not one folder of plain files"
HOSTILE = {
    "up": (make_zip({"ml-1M/a": "", "../evil": ""}), NOT_PLAIN),
    "up from inside": (make_zip({"ml-1M/../../evil": ""}), NOT_PLAIN),
    "up alone": (make_zip({"../evil": ""}), NOT_PLAIN),
    "here": (make_zip({"./evil": ""}), NOT_PLAIN),
    "absolute": (make_zip({"/evil": ""}), NOT_PLAIN),
    "drive": (make_zip({"C:/evil": ""}), NOT_PLAIN),
    "backslash": (make_zip({"ml-1M/..\\..\\evil": ""}), NOT_PLAIN),
    "a file in a file": (make_zip({"ml-1M/a": "", "ml-1M/a/b": ""}), "is not a whole zip file"),
    "a file for a folder": (make_zip({"ml-1M/a/b": "", "ml-1M/a": ""}), "is not a whole zip file"),
    "a long name": (make_zip({"ml-1M/" + "a" * 300: ""}), "is not a whole zip file"),
    "names that differ in case": (make_zip({"ml-1M/a": "", "ml-1M/A": ""}), NOT_PLAIN),
    "symlink": (make_zip({"ml-1M/link": "/etc/passwd"}, (stat.S_IFLNK | 0o777,)), NOT_PLAIN),
    "device": (make_zip({"ml-1M/null": ""}, (stat.S_IFCHR | 0o666,)), NOT_PLAIN),
    "second folder": (make_zip({"ml-1M/a": "", "ml-2M/b": ""}), NOT_PLAIN),
    "no folder": (make_zip({"ratings.dat": ""}), NOT_PLAIN),
    "empty": (make_zip({}), NOT_PLAIN),
    "no ratings": (
        make_zip({"ml-1M/a/b/ratings.dat": "1::2::3::4\n", "ml-1M/README": ""}),
        "holds no ratings of MovieLens",
    ),
    "encrypted": (encrypted(), NOT_PLAIN),
    "bomb": (make_zip({"ml-1M/a": "0" * 600_000, "ml-1M/b": "0" * 600_000}), "would grow to 1,200,000 bytes"),
    "bomb that lies": (lying("0" * 2_000_000, claimed=1000), "is not a whole zip file"),
    "directory nowhere": (GOOD[:-3] + b"\xff" + GOOD[-2:], "is not a whole zip file"),
    "web page": (b"<html>Please log in</html>" * 99, "is not a whole zip file"),
    "truncated": (GOOD[:-200], "is not a whole zip file"),
    "damaged": (GOOD[:200] + b"\0" * 9 + GOOD[209:], "is not a whole zip file"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_zip_is_refused(server, tmp_path, case):
    """Where no MD5 protects: as ml-latest."""
    server.body, message = HOSTILE[case]
    assert message in refused(tmp_path / "data", "ml-latest")
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_is_claimed_too_small_bounds_what_is_written(tmp_path):
    """The sum of the sizes is checked; zipfile must not write more than that."""
    (tmp_path / "bomb.zip").write_bytes(HOSTILE["bomb that lies"][0])
    with pytest.raises(FetchError):
        fetch._unpack(tmp_path / "bomb.zip", tmp_path / "out", 10**6)
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file()) <= 1000


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.binary(max_size=300)
    | st.builds(
        lambda at, byte: GOOD[:at] + byte + GOOD[at + 1 :],
        st.integers(0, len(GOOD) - 1),
        st.binary(min_size=0, max_size=2),
    )
)
def test_whatever_comes_is_a_release_or_a_fetch_error(body):
    with TemporaryDirectory() as folder:
        Path(folder, "any.zip").write_bytes(body)
        with contextlib.suppress(FetchError):
            assert fetch._unpack(Path(folder, "any.zip"), Path(folder, "out"), 10**6).is_dir()
        assert set(os.listdir(folder)) <= {"any.zip", "out"}


def test_an_interrupted_unpacking_leaves_nothing(server, tmp_path, monkeypatch):
    def interrupt(archive, folder):
        archive.extract(archive.namelist()[1], folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extractall", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch_movielens("ml-1m", tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_process_go_with_the_next_success(server, tmp_path):
    for name in (".ml-1m.abc.part", ".ml-latest.abc.part", "ml-1m.abc.part"):
        (tmp_path / name / "unpacked").mkdir(parents=True)
        (tmp_path / name / "unpacked" / "ratings.dat").write_text("half")
    server.status = 500
    with pytest.raises(FetchError):
        fetch_movielens("ml-1m", tmp_path, progress=False)
    assert (tmp_path / ".ml-1m.abc.part").exists()  # it may be another process's that is still at it
    server.status = 200
    fetch_movielens("ml-1m", tmp_path, progress=False)
    assert {path.name for path in tmp_path.iterdir()} == {"ml-1m", ".ml-latest.abc.part", "ml-1m.abc.part"}


def test_a_full_disk_is_named(server, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extractall", fail)
    with pytest.raises(OSError, match="No space left") as error:
        fetch_movielens("ml-1m", tmp_path, progress=False)
    assert not isinstance(error.value, FetchError) and list(tmp_path.iterdir()) == []


def test_the_default_folder_is_never_inside_the_package(server, tmp_path, monkeypatch):
    assert fetch.default_folder() == Path(saerec.__file__).parent.parent / "data"
    monkeypatch.setattr(fetch, "PACKAGE", tmp_path / "saerec")
    monkeypatch.setattr(fetch, "DATA_DIR", tmp_path / "saerec" / "data")  # as in a wheel
    monkeypatch.chdir(tmp_path)
    assert fetch_movielens("ml-1m", progress=False) == Path("data/ml-1m")
    assert (tmp_path / "data" / "ml-1m" / "ratings.dat").exists()


def test_on_the_command_line(server, tmp_path, capsys, monkeypatch):
    assert main(["fetch", "ml-1m", "--to", str(tmp_path)]) == 0
    folder = tmp_path / "ml-1m"
    next_command = f"next: saerec run --dataset {folder}\n"
    assert capsys.readouterr().out == f"{TERMS}\nml-1m is in {folder}\n{next_command}"
    assert main(["fetch", "ml-1m", "--to", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"ml-1m is already there: {folder}\n{next_command}"
    monkeypatch.setattr(fetch, "default_folder", lambda: tmp_path)
    assert main(["fetch", "ml-1m"]) == 0
    assert capsys.readouterr().out.endswith("next: saerec run --dataset ml-1m\n")


def test_insecure_on_the_command_line(expired_server, tmp_path, capsys):
    assert main(["fetch", "ml-1m", "--to", str(tmp_path)]) == 1
    assert "--insecure" in capsys.readouterr().err
    assert main(["fetch", "ml-1m", "--to", str(tmp_path), "--insecure"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ml-2m"], "there is no MovieLens release 'ml-2m'; there are ml-1m, ml-latest"),
        (["ml-latest", "--insecure"], "ml-latest has no published MD5"),
        (["ml-1m"], "http://127.0.0.1:1/datasets/movielens/ml-1m.zip cannot be reached"),
    ],
)
def test_what_goes_wrong_is_one_line_and_exit_1(tmp_path, capsys, arguments, message):
    assert main(["fetch", *arguments, "--to", str(tmp_path)]) == 1
    bar, _, error = capsys.readouterr().err.rpartition("\r")
    assert "\n" not in bar
    assert error.startswith(f"saerec: {message}") and error.count("\n") == 1
