"""Downloads MovieLens releases. The only module that uses the network."""

import errno
import hashlib
import os
import shutil
import stat
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from saerec.movielens import DATA_DIR, PACKAGE, ratings_file
from saerec.validation import DataError

SERVER = "https://files.grouplens.org"
TIMEOUT = 30  # seconds in which the server must send something
MB, GB = 10**6, 10**9
RELEASES = {  # MD5 of the zip, as GroupLens publishes it; what its files may take at most: roughly twice what they do
    "ml-100k": ("0e33842e24a9c977be4e0107933c0723", 50 * MB),
    "ml-1m": ("c4d9eecfca2ab87c1945afe126590906", 100 * MB),
    "ml-10m": ("ce571fd55effeba0271552578f2648bd", 1 * GB),
    "ml-20m": ("cd245b17a1ae2cc31bb14903e1204af3", 2 * GB),
    "ml-25m": ("6b51fb2759a8657d3bfcbfc42b592ada", 3 * GB),
    "ml-32m": ("d472be332d4daa821edc399621853b57", 3 * GB),
    "ml-latest": (None, 5 * GB),  # these two change, so none is published
    "ml-latest-small": (None, 50 * MB),
}
# what the system says of files that lie in files, have odd names, or places that are not in the zip
OF_THE_ZIP = (errno.EINVAL, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)
TERMS = """\
MovieLens data are GroupLens's, for research: name Harper & Konstan 2015 as the source (https://doi.org/10.1145/2827872).
Ask GroupLens before any commercial use and, with most releases, before you pass the data on.
The README in the folder states the terms; see also https://grouplens.org/datasets/movielens/"""


class FetchError(OSError):
    """A release could not be downloaded, or what came is not the release."""


def fetch_movielens(
    name: str, folder: str | os.PathLike | None = None, *, insecure: bool = False, progress: bool = True
) -> Path:
    """The folder of a MovieLens release, downloaded unless it is there already.

    The folder gets its name at the very end, after the check of the MD5 and the unpacking, so it is whole or not there.
    A download that was interrupted starts anew. The terms of use are printed before it.

    Parameters
    ----------
    name : str
        ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest or ml-latest-small. The last two change, so there is
        no published MD5 to check them by: the MD5 found is printed.
    folder : path, optional
        Where the release's folder goes: by default the ``data/`` of the checkout that saerec runs from, or of the
        current folder if saerec was installed. A `name`.zip in there is used instead of a download, and stays.
    insecure : bool
        Do not check the server's certificate: only where the MD5 shows that the file is the right one.
    progress : bool
        Show a progress bar.

    Raises
    ------
    DataError
        There is no such release, or `insecure` was asked for one without an MD5.
    FetchError
        The server cannot be reached, its certificate is not valid, it is too slow, breaks off, sends too much or does
        not have the file; or the zip is not the published one, damaged, or not what a release looks like. Nothing is
        left behind.
    """
    if name not in RELEASES:
        raise DataError(f"there is no MovieLens release {name!r}; there are {', '.join(RELEASES)}")
    if insecure and not RELEASES[name][0]:
        raise DataError(f"{name} has no published MD5, and without that it cannot be fetched insecurely")
    folder = default_folder() if folder is None else Path(folder)
    target, by_hand = folder / name, folder / f"{name}.zip"
    if ratings_file(target):
        return target
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise FetchError(f"{target} is there but holds no ratings of MovieLens: move it away")
    try:
        _fetch(name, target, by_hand, insecure, progress)
    except OSError:
        if not ratings_file(target):  # otherwise another process was faster, and what is below took our files away
            raise
    for killed in folder.glob(f".{name}.*.part"):  # the folder is there: nobody needs them
        shutil.rmtree(killed, ignore_errors=True)
    return target


def _fetch(name: str, target: Path, by_hand: Path, insecure: bool, progress: bool) -> None:
    (md5, limit), folder = RELEASES[name], target.parent
    with _made(folder), TemporaryDirectory(prefix=f".{name}.", suffix=".part", dir=folder) as temporary:
        path, advice = by_hand, f"move {by_hand} away to download it anew"
        if not by_hand.exists():
            path, advice = Path(temporary, by_hand.name), "try again, or download it by hand"
            print(TERMS)
            _download(name, path, by_hand, insecure, progress)
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if not md5:
            print(f"{name} changes, so it has no published MD5 to check it by. The MD5 of this {path.name} is {found}")
        elif found != md5:
            raise FetchError(f"{path.name} has the MD5 {found}, not {md5} as published: nothing was unpacked; {advice}")
        top = _unpack(path, Path(temporary, "unpacked"), limit)
        if ratings_file(top) is None:
            raise FetchError(f"{path.name} holds no ratings of MovieLens: nothing was kept; {advice}")
        if target.is_dir():
            target.rmdir()  # empty, but Windows would not replace it
        os.replace(top, target)


def default_folder() -> Path:
    """The ``data/`` of the checkout that saerec runs from; of the current folder if saerec was installed."""
    return Path("data") if DATA_DIR.parent == PACKAGE else DATA_DIR


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder unless it is there; a new one goes again if nothing came into it."""
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if new:
            with suppress(OSError):  # something did
                folder.rmdir()


def _download(name: str, path: Path, by_hand: Path, insecure: bool, progress: bool) -> None:
    import requests  # slow to import and rarely needed

    (md5, limit), url = RELEASES[name], f"{SERVER}/datasets/movielens/{name}.zip"
    look = {"desc": name, "unit": "B", "unit_scale": True, "leave": False, "disable": not progress}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Unverified HTTPS request")  # asked for, and the MD5 is checked
            answer = requests.get(url, stream=True, timeout=TIMEOUT, verify=not insecure)
        with answer, path.open("wb") as file, tqdm(total=answer.raw.length_remaining, **look) as bar:
            answer.raise_for_status()
            for chunk in answer.iter_content(2**16):
                if file.tell() + len(chunk) > limit:
                    raise FetchError(
                        f"{url} is larger than {limit:,} bytes, more than it can have: nothing was kept; try again "
                        "later, or download it by hand"
                    )
                bar.update(file.write(chunk))
    except requests.RequestException as error:
        if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
            problem = f"the certificate of {SERVER} is not valid (GroupLens's has expired before): download {url} "
            problem += "by another way and give the zip's path to --dataset (load_movielens)"
            if md5:
                problem += ", or say --insecure (insecure=True), which is safe only because the zip's MD5 is known"
        elif isinstance(error, requests.HTTPError):
            problem = f"{url} answers {error.response.status_code} {error.response.reason}: try again later"
        elif "timed out" in str(error):
            problem = f"{SERVER} has sent nothing for {TIMEOUT} seconds: try again later"
        elif isinstance(error, requests.exceptions.ChunkedEncodingError):
            problem = f"the connection broke off before {url} was whole: try again"
        else:
            problem = f"{url} cannot be reached: is this computer online? Or get that zip by another way, put it in "
            problem += f"place as {by_hand} and run this again ({type(error).__name__})"
        raise FetchError(problem) from error


def _unpack(path: Path, folder: Path, limit: int) -> Path:
    """The one folder in a release's zip, unpacked into `folder`. Its name need not be the release's: ml-10M100K."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            top = members[0].filename.partition("/")[0] if members else ""
            odd = [member.filename for member in members if not _is_plain(member, top)]
            names = Counter(member.filename.rstrip("/").casefold() for member in members)
            odd += [name for name, count in names.items() if count > 1]  # for some systems these are one file
            size = sum(member.file_size for member in members)
            if odd or not members:
                raise FetchError(f"{path.name} is not one folder of plain files {odd[:1]}: nothing was unpacked")
            if size > limit:
                raise FetchError(
                    f"{path.name} would grow to {size:,} bytes, more than it can have: nothing was unpacked"
                )
            archive.extractall(folder)  # writes no more than the sizes that were added up, whatever is in the zip
    except Exception as error:  # zipfile meets damaged files with a dozen kinds of errors
        if isinstance(error, OSError) and error.errno not in OF_THE_ZIP:
            raise
        raise FetchError(f"{path.name} is not a whole zip file ({error}): nothing was unpacked") from error
    return folder / top


def _is_plain(member: zipfile.ZipInfo, top: str) -> bool:
    """Whether it is an ordinary file or folder, unencrypted, that lies in the folder `top` or is that folder."""
    first, *rest = member.filename.removesuffix("/").split("/")
    inside = first == top and bool(rest or member.is_dir()) and not {"", ".", ".."} & {first, *rest}
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 if the zip does not say
    ordinary = kind in (0, stat.S_IFREG, stat.S_IFDIR) and not member.flag_bits & 1
    return inside and ordinary and not set("\\:") & set(member.filename)
