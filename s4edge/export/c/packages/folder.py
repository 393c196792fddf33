"""Folders of files that are written as a whole, beside what somebody else put there.

A folder that is written carries a list of its files with their digests. What is not on the list, or
was changed since, is somebody's own: it is left alone, and never replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from s4edge.errors import S4EdgeError
from s4edge.files import check_writable, write_text, write_through
from s4edge.foreign import parse_json, read_text

LISTING = ".s4edge.json"


def check_folder(folder: Path, names: Iterable[str]) -> None:
    """Fail now, not after minutes of work, if files cannot be written into a folder.

    Args:
        folder: which may be missing, but not the one that it is in.
        names: paths of the files in it, with ``/``.

    Raises:
        S4EdgeError: a folder is missing or cannot be written, or something of somebody's own is in
            the way.
    """
    if not folder.is_dir():
        if folder.exists() or folder.is_symlink():
            raise S4EdgeError(f"cannot write {folder}: it is no folder; name another file with -o")
        check_writable(folder)
        return
    check_writable(folder / LISTING)
    listed = _listed(folder)
    for name in names:
        path = folder / name
        for above in list(path.relative_to(folder).parents)[:-1]:
            # A link leads out of the folder.
            within = folder / above
            if within.is_symlink() or (within.exists() and not within.is_dir()):
                raise _in_the_way(folder, within)
        if path.is_symlink() or (path.exists() and not _is_ours(path, listed.get(name, []))):
            raise _in_the_way(folder, path)


def write_folder(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files into a folder, new or written so before; other files in it stay.

    All of them are on the disk before the first gets its name, and a new folder appears as a whole.

    Args:
        folder: see `check_folder`.
        texts: by path with ``/``.

    Raises:
        S4EdgeError: as `check_folder`, or they cannot be written; then all is as it was.
    """
    check_folder(folder, texts)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    digests = {name: [_digest(text.encode())] for name, text in texts.items()}
    try:
        for name, text in {**texts, LISTING: _listing(digests)}.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_through(path, text.encode())
        if folder.is_dir():
            _replace(folder, temporary, digests)
        else:
            os.rename(temporary, folder)
    except OSError as error:
        raise S4EdgeError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # renamed, or never made


def _replace(folder: Path, temporary: Path, digests: Mapping[str, list[str]]) -> None:
    """Files one by one, known for ours at any time, however early this ends."""
    old = _listed(folder)
    both = {name: [*old.get(name, []), *digests.get(name, [])] for name in {*old, *digests}}
    write_text(folder / LISTING, _listing(both))
    for name in digests:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary / name, folder / name)
    for name in {*old} - {*digests}:
        if _is_ours(folder / name, old[name]):
            (folder / name).unlink()
    os.replace(temporary / LISTING, folder / LISTING)


def _listing(digests: Mapping[str, list[str]]) -> str:
    about = "What s4edge wrote here, with SHA-256: it replaces these files, and no others."
    return json.dumps({"about": about, "files": digests}, indent=1, sort_keys=True) + "\n"


def _listed(folder: Path) -> dict[str, list[str]]:
    """Digests that each file of ours may have; none where the list is missing or was changed."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        files = parse_json(read_text(folder / LISTING))["files"].items()
        return {
            str(name): [str(digest) for digest in digests]
            for name, digests in files
            if not {"..", ""} & {*str(name).split("/")}
        }
    return {}


def _is_ours(path: Path, digests: list[str]) -> bool:
    try:
        return path.is_file() and not path.is_symlink() and _digest(path.read_bytes()) in digests
    except OSError:
        return False


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _in_the_way(folder: Path, path: Path) -> S4EdgeError:
    return S4EdgeError(
        f"cannot write {folder}: {path} was not written by s4edge, or was changed since; move it "
        "away, or name another file with -o"
    )
