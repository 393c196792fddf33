"""A benchmark on another machine, over the system's ``ssh`` and one connection of it.

The graphs travel as a tar archive on ssh's standard input, into a fresh folder there. The far
shell removes that folder when the benchmark has ended, and standard input stays open until
then: when it closes, because of Ctrl-C here or because the connection broke, a watcher there
interrupts the benchmark. So nothing is left behind, whoever ends first.

No text of the user's is part of the command that the far login shell parses: it goes into a
file of the archive, quoted for ``sh``.
"""

from __future__ import annotations

import collections
import contextlib
import io
import json
import queue
import re
import secrets
import shlex
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from s4edge.bench.file import parse_bench
from s4edge.errors import S4EdgeError
from s4edge.foreign import parse_json
from s4edge.runtime.backends.c.source import header_of

# How a bench tells its progress in a pipe, where the environment variable asks for it: lines
# on standard error, this word and a fraction. See s4edge/cli/terminal.py.
PROGRESS_VARIABLE, PROGRESS_WORD = "S4EDGE_PROGRESS", "s4edge-progress"
# What the far shell ends with when it could not make its folder, or not fill it.
_NO_FOLDER, _NO_COPY, _NO_COMMAND = 73, 74, 127
_SSH_FAILED = 255
# Seconds for the far side to end once it is interrupted; its own deadline is shorter.
_PATIENCE = 20.0
_MOST_NOISE = 20
# Bytes written at once.
_PART = 1 << 16
# Lines that end in an error here, and are no notes: the far s4edge's, its shell's, and ssh's own.
_REASON = re.compile(
    r"Error: |Usage: |Try '|.*No module named |.*\bKilled\b|ssh: |client_loop: |Timeout, server |"
    r"Connection (to|reset|closed)|Read from remote host "
)
_WARNING = "Warning: "
# What tar says of a full disk.
_FULL = ("No space left", "quota exceeded", "Wrote only")

# For any login shell that knows 'single quotes': no such quotes, backslashes, "!" or newlines
# in here. {mark} tells this script's lines from what login scripts print.
_SCRIPT = """\
d=$(mktemp -d "${{TMPDIR:-/tmp}}/s4edge-bench.XXXXXX") || exit {no_folder}; \
clean() {{ rm -rf "$d"; }}; \
trap clean EXIT; \
trap "exit 129" HUP INT TERM PIPE; \
echo "{mark} folder $d"; \
head -c {size} | tar -xf - -C "$d" || exit {no_copy}; \
echo "{mark} copied"; \
exec 3<&0; \
{{ cat; for s in INT TERM KILL; do kill -$s $(cat "$d/pid"); sleep 5; done; }} \
<&3 3<&- >/dev/null 2>&1 & \
w=$!; \
sh "$d/run" "$d" </dev/null 3<&-; \
s=$?; \
kill $w; \
exit $s"""

# The far s4edge is looked for where `pip install --user` and pipx put it, too: the PATH of a
# shell that is not a login shell often lacks it.
_RUN = """\
PATH="$PATH:$HOME/.local/bin"
export PATH
command -v {program} >/dev/null 2>&1 || exit {no_command}
echo $$ >"$1/pid"
{variable}=lines
export {variable}
exec {command} bench {options} --json -- {graphs}
"""


class RemoteBench:
    """``s4edge bench`` on another machine.

    Entering the context connects and copies the graphs; leaving it ends what is left there.

    Args:
        host: as ssh takes it: a name of its configuration, ``user@board``, ``ssh://...``.
        graphs: files to copy, and nothing but them.
        options: of ``s4edge bench``, words of its command line.
        command: the far ``s4edge``, words of a command line; relative to the home folder there.
        ssh_options: each as ssh's ``-o`` takes it.
        note: called with each line that the far side tells people.
        interactive: let ssh ask for passwords and unknown hosts on the terminal. Else it must
            get in without.

    Attributes:
        failure: why the benchmark there ended early although it gave an answer, in one line.

    Raises:
        S4EdgeError: on entering, the machine cannot be reached, lets nobody in, or has no room.
    """

    def __init__(
        self,
        host: str,
        graphs: Sequence[Path],
        options: Sequence[str] = (),
        command: str = "s4edge",
        ssh_options: Sequence[str] = (),
        note: Callable[[str], None] = lambda line: None,
        interactive: bool = False,
    ) -> None:
        if not host or host.startswith("-") or any(sign.isspace() for sign in host):
            raise S4EdgeError(f"--host takes a name as ssh does, such as pi@board; not {host!r}")
        try:
            self._told, self._command = command, shlex.split(command)
        except ValueError as error:
            raise S4EdgeError(f"--remote-command {command!r}: {error}") from error
        if not self._command:
            raise S4EdgeError("--remote-command is empty; leave it out, or name the far s4edge")
        self._host, self._graphs, self._options = host, list(graphs), list(options)
        self._ssh_options, self._note, self._interactive = ssh_options, note, interactive
        self._mark = f"s4edge-{secrets.token_hex(8)}"
        self._folder = ""
        self._lines: queue.Queue[tuple[str, str | None]] = queue.Queue()
        self._open_ends = {"out", "err"}
        # Set when nothing more is to be sent and the far side shall come to its end.
        self._enough = threading.Event()
        # Lines on standard error that may turn out to be the reason of a failure.
        self._held: collections.deque[str] = collections.deque(maxlen=_MOST_NOISE)
        self._warnings: list[str] = []
        self._noise: list[str] = []
        self.failure: str | None = None
        self._patience = _PATIENCE

    def __enter__(self) -> RemoteBench:
        archive = self._archive()
        self._process = self._start(len(archive))
        try:
            self._pump(archive)
            self._copied()
        except BaseException:
            # Before there is a folder there is nothing to clean up.
            self._end(_PATIENCE if self._folder else 0)
            raise
        # Without banners and warnings of ssh's; what the benchmark already says may be among them.
        early = [line for line in self._held if _REASON.match(line)]
        self._held.clear()
        self._held.extend(early)
        for line in self._noise:
            self._note(f"{self._host} (login): {line}")
        return self

    def __exit__(self, *error: object) -> None:
        self._end(self._patience)

    def answer(self, progress: Callable[[float], None] = lambda fraction: None) -> dict[str, Any]:
        """Wait for the benchmark there and give its answer, models named as they are here.

        Ctrl-C interrupts the benchmark there, and its results so far come back.

        Args:
            progress: called with the fraction done, 0 to 1, as far as the far side tells it.

        Raises:
            S4EdgeError: the benchmark failed there, there is no s4edge or an older one, or the
                connection broke.
            KeyboardInterrupt: Ctrl-C, and no result came back; or a second Ctrl-C.
        """
        said: list[str] = []
        interrupted = False
        try:
            self._listen(said, progress, None)
        except KeyboardInterrupt:
            interrupted = True
            self._note(f"Interrupted; waiting for what {self._host} has measured so far.")
            self._enough.set()
            try:
                self._listen(said, progress, time.monotonic() + _PATIENCE)
            except KeyboardInterrupt:
                self._patience = 0  # the far side cleans up by itself
                raise
        self._enough.set()
        try:
            status = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            status = _SSH_FAILED
        answer = _json_object("\n".join(said))
        if answer is None:
            if interrupted:
                raise KeyboardInterrupt
            raise S4EdgeError(self._failure(status, "\n".join(said)))
        if "format" not in answer:
            raise S4EdgeError(self._outdated(""))
        found = parse_bench(json.dumps(self._renamed(answer)), self._host)
        for text in self._warnings:
            # What is part of the answer is told with it.
            if text not in found["warnings"]:
                self._note(f"{self._host}: {text}")
        if status and any("Error: " in line for line in self._held):
            self.failure = f"{self._host}: {self._reason()}"
        return found

    # The connection

    def _archive(self) -> bytes:
        """A tar archive of the graphs and of what is to be run."""
        archive = io.BytesIO()
        # GNU's format and not POSIX's newer one, for the small tars of boards.
        with tarfile.open(
            fileobj=archive, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8"
        ) as tar:
            text = self._run_file().encode("utf-8", "surrogateescape")
            files = [
                (f"{index}/{file.name}", _read(file))
                for index, path in enumerate(self._graphs)
                for file in _with_header(path)
            ]
            for name, content in (("run", text), *files):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o600
                tar.addfile(entry, io.BytesIO(content))
        return archive.getvalue()

    @property
    def _inside(self) -> list[str]:
        """The graphs' names in the archive: one folder each, for names may repeat."""
        return [f"{index}/{path.name}" for index, path in enumerate(self._graphs)]

    def _run_file(self) -> str:
        program, *rest = (_quoted(word) for word in self._command)
        return _RUN.format(
            program=program,
            command=" ".join((program, *rest)),
            options=" ".join(shlex.quote(word) for word in self._options),
            graphs=" ".join(f'"$1"/{shlex.quote(inside)}' for inside in self._inside),
            variable=PROGRESS_VARIABLE,
            no_command=_NO_COMMAND,
        )

    def _start(self, size: int) -> subprocess.Popen[bytes]:
        script = _SCRIPT.format(mark=self._mark, size=size, no_folder=_NO_FOLDER, no_copy=_NO_COPY)
        # The first of two values counts for ssh, so the user's come first.
        options = [
            *self._ssh_options,
            f"BatchMode={'no' if self._interactive else 'yes'}",
            *("ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=4"),
            # A connection that the user shares is used; one of ours would outlive us.
            "ControlMaster=no",
            *("ClearAllForwardings=yes", "RemoteCommand=none", "LogLevel=ERROR"),
        ]
        command = ["ssh", "-T", "-x", *(word for each in options for word in ("-o", each))]
        try:
            return subprocess.Popen(
                [*command, "--", self._host, f"exec sh -c {shlex.quote(script)}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Ctrl-C is for this process, which then closes ssh's input in order.
                preexec_fn=_ignore_interrupts,
            )
        except FileNotFoundError as error:
            raise S4EdgeError(
                "--host needs ssh, which is not on the PATH here; install the OpenSSH client"
            ) from error
        except OSError as error:
            raise S4EdgeError(f"cannot start ssh: {error.strerror}") from error

    def _pump(self, archive: bytes) -> None:
        """Let threads write the archive and read all that comes."""
        process, lines, enough = self._process, self._lines, self._enough
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        pipe_in = process.stdin

        def write() -> None:
            # Only this thread touches the pipe, so that nobody waits for a write that is stuck.
            with contextlib.suppress(OSError), pipe_in:  # the far side may be gone
                for start in range(0, len(archive), _PART):
                    if enough.is_set():
                        break
                    pipe_in.write(archive[start : start + _PART])
                pipe_in.flush()
                enough.wait()

        def read(end: str, pipe: IO[bytes]) -> None:
            with pipe:
                for line in pipe:
                    lines.put((end, line.decode("utf-8", "replace").rstrip("\r\n")))
            lines.put((end, None))

        for target, arguments in (
            (write, ()),
            (read, ("out", process.stdout)),
            (read, ("err", process.stderr)),
        ):
            threading.Thread(target=target, args=arguments, daemon=True).start()

    def _next(self, deadline: float | None = None) -> tuple[str, str] | None:
        """The next line and where it was said; None at the end of all, or of the time."""
        while self._open_ends:
            if deadline is not None and time.monotonic() > deadline:
                return None
            try:
                # In short waits, so that Ctrl-C is heard on every system.
                end, line = self._lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if line is not None:
                return end, line
            self._open_ends.discard(end)
        return None

    def _copied(self) -> None:
        """Read until the far shell has its graphs.

        Raises:
            S4EdgeError: it never has.
        """
        while True:
            found = self._next()
            if found is None:
                raise S4EdgeError(self._refusal(self._process.wait()))
            end, line = found
            # The last line of a login script may lack its end.
            before, mark, told = line.partition(self._mark)
            if end == "err":
                self._held.append(line)
            elif told == " copied":
                return
            elif mark:
                self._folder = told.partition(" folder ")[2]
            if end == "out" and before.strip() and len(self._noise) < _MOST_NOISE:
                self._noise.append(before)

    def _listen(
        self, said: list[str], progress: Callable[[float], None], deadline: float | None
    ) -> None:
        """Collect standard output until all is said; pass on what is told to people."""
        while True:
            found = self._next(deadline)
            if found is None:
                return
            end, line = found
            if end == "out":
                said.append(line)
            elif line.startswith(f"{PROGRESS_WORD} "):
                with contextlib.suppress(ValueError):
                    progress(float(line.split()[1]))
            elif line.startswith(_WARNING):
                self._warnings.append(self._local(line[len(_WARNING) :]))
            elif _REASON.match(line):
                self._held.append(line)
            elif line.strip():
                self._note(f"{self._host}: {self._local(line)}")

    def _end(self, patience: float) -> None:
        """Close the far side's input; wait for it to clean up, and then no longer."""
        self._enough.set()
        try:
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                self._process.terminate()
                self._process.wait(5)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    # What was said

    def _local(self, text: str) -> str:
        """Name the graphs as they are named here."""
        for path, inside in zip(self._graphs, self._inside):
            text = text.replace(f"{self._folder}/{inside}", str(path))
        return text

    def _renamed(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._local(value)
        if isinstance(value, list):
            return [self._renamed(each) for each in value]
        if isinstance(value, dict):
            return {key: self._renamed(each) for key, each in value.items()}
        return value

    def _refusal(self, status: int) -> str:
        """Why the graphs never arrived, in one line."""
        host, reason = self._host, self._reason()
        if status == _NO_FOLDER:
            return f"{host} cannot make a temporary folder: {reason}" + _room(reason, host)
        if status == _NO_COPY:
            # tar's last line is a summary.
            full = [line for line in self._held if any(words in line for words in _FULL)]
            reason = (full or [line for line in self._held if line.strip()] or [""])[0]
            return f"cannot copy the graphs to {host}: {reason}" + _room(reason, host)
        if status == _SSH_FAILED:
            return self._unreached(reason)
        said = self._noise[-1] if self._noise else reason
        return (
            f"{host} did not run what it was told (exit status {status})"
            + (f"; it said: {said}" if said else "")
            + f". Its login scripts must let this through: {self._by_hand()} true"
        )

    def _unreached(self, reason: str) -> str:
        host, told, reason = self._host, "\n".join(self._held), reason.rstrip(".")
        if "Host key verification failed" in told or "host key is known for" in told:
            if "IDENTIFICATION HAS CHANGED" in told:
                return (
                    f"{host} is not the machine that was known by this name: its host key has "
                    f"changed; if you know why, forget the old one with: ssh-keygen -R HOST"
                )
            return (
                f"the host key of {host} is not known yet; accept it once with: {self._by_hand()}"
            )
        if "Permission denied" in told:
            return (
                f"{host} does not let you in: {reason}; give it your key with: "
                + self._by_hand("ssh-copy-id")
                + ("" if self._interactive else ", or call this on a terminal to type a password")
            )
        if not reason:
            return (
                f"the connection to {host} broke before anything was said; try: {self._by_hand()}"
            )
        return f"cannot reach {host}: {reason}; try: {self._by_hand()}"

    def _failure(self, status: int, said: str) -> str:
        """Why there is no answer of the benchmark, in one line."""
        host, told = self._host, "\n".join(self._held)
        if status == _NO_COMMAND or re.search("No module named '?s4edge", told):
            return (
                f"there is no s4edge on {host} ({self._told} is not found there); install it with: "
                f"{self._by_hand()} 'python3 -m venv .venv && .venv/bin/pip install s4edge', then "
                "add: --remote-command .venv/bin/s4edge"
            )
        if "No such option" in told or "No such command" in told:
            return self._outdated(self._reason())
        if status == _SSH_FAILED:
            reason = self._reason()
            return f"the connection to {host} broke while it measured" + (
                f": {reason}" if reason else ""
            )
        if status > 128:
            why = " (out of memory?)" if status == 128 + signal.SIGKILL else ""
            return f"{host}: the benchmark was killed there by signal {status - 128}{why}"
        if self._held:
            return f"{host}: {self._reason()}"
        if said.strip():
            return f"{host} answered with no JSON object: {said.strip().splitlines()[0][:200]}"
        return f"{host}: the benchmark ended with exit status {status} and said nothing"

    def _outdated(self, reason: str) -> str:
        # The pip beside that s4edge.
        pip = ["pip"]
        if self._command[-2:] == ["-m", "s4edge"]:
            pip = [*self._command[:-1], "pip"]
        elif "/" in self._command[0]:
            pip = [f"{self._command[0].rpartition('/')[0]}/pip"]
        upgrade = " ".join(map(_quoted, [*pip, "install", "--upgrade", "s4edge"]))
        return (
            f"the s4edge on {self._host} is older than this one"
            + (f" ({reason.rstrip('.')})" if reason else "")
            + f"; bring it up to date with: {self._by_hand()} {shlex.quote(upgrade)}"
        )

    def _by_hand(self, program: str = "ssh") -> str:
        """The command that does by hand what this did, as far as the connection goes."""
        options = [word for each in self._ssh_options for word in ("-o", each)]
        return shlex.join([program, *options, self._host])

    def _reason(self) -> str:
        """The last of the lines held back."""
        lines = [line.strip() for line in self._held if line.strip()]
        return self._local(lines[-1]).partition("Error: ")[2] or lines[-1] if lines else ""


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise S4EdgeError(f"cannot read {path}: {error.strerror}") from error


def _with_header(path: Path) -> list[Path]:
    """What has to be copied for a model to be run: C comes with its header."""
    return [path, header_of(path)] if path.suffix == ".c" else [path]


def _quoted(word: str) -> str:
    """A word of a command for ``sh``; a leading ``~/`` is the far home folder."""
    return f'"$HOME"/{shlex.quote(word[2:])}' if word.startswith("~/") else shlex.quote(word)


def _room(reason: str, host: str) -> str:
    full = any(words in reason for words in _FULL)
    return f"; make room on {host} and try again" if full else ""


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        # Whatever numbers mean is the business of `parse_bench`; names of files may be no text.
        found = parse_json(text, finite=False, signs=False)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
