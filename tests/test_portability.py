"""macOS and Windows by construction: what only POSIX has stands behind a question whether it is there; text has its encoding; Python 3.10 reads all.

tests/portability/check_install.py builds wheel and sdist and runs the main job in an empty environment of a given Python.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "install.py", *(file for folder in ("hodsim", "apps", "benchmarks", "trainers", "meshes") for file in (ROOT / folder).rglob("*.py"))]
every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())

POSIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
POSIX_NAMES = {
    "os": {"chown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getpgrp", "getuid", "killpg", "mkfifo", "nice",
           "sched_getaffinity", "sched_setaffinity", "setgid", "setsid", "setuid", "statvfs", "sysconf", "uname", "wait", "wait3", "wait4"},
    "signal": {"SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR1", "SIGUSR2", "alarm", "pthread_kill",
               "pthread_sigmask", "setitimer", "sigwait"},
}  # fmt: skip


@every_file
def test_what_only_posix_has_is_asked_for_first(file):
    tree = ast.parse(file.read_text(encoding="utf-8"), file)
    asked = {
        (ast.unparse(node.args[0]), node.args[1].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "hasattr" and isinstance(node.args[1], ast.Constant)
    }
    used = {
        (ast.unparse(node.value), node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in POSIX_NAMES.get(ast.unparse(node.value), ())
    }
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names} & POSIX_MODULES
    assert used <= asked and not imported


@every_file
def test_the_oldest_python_reads_it(file):
    ast.parse(file.read_text(encoding="utf-8"), file, feature_version=(3, 10))


@every_file
def test_text_has_an_encoding(file):
    """Else it is that of the user's machine."""
    unsaid = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), file)):
        if not isinstance(node, ast.Call):
            continue
        name, modes = ast.unparse(node.func), [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        is_text = name.endswith((".read_text", ".write_text")) or (name == "open" and not any("b" in mode for mode in modes[-1:]))
        if is_text and not any(keyword.arg == "encoding" for keyword in node.keywords):
            unsaid.append(f"{name} in line {node.lineno}")
    assert not unsaid
