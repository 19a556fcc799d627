import shutil
import subprocess

from tests.support import ROOT


def test_one_line_says_that_there_is_no_python(tmp_path):
    checkout, programs = tmp_path / "kassa", tmp_path / "bin"
    (checkout / "dev").mkdir(parents=True)
    programs.mkdir()
    shutil.copy(ROOT / "dev" / "bootstrap", checkout / "dev")
    shutil.copytree(ROOT / "requirements", checkout / "requirements")
    shutil.copy(ROOT / ".python-version", checkout)
    for name in ("sh", "cat", "cksum", "dirname"):
        (programs / name).symlink_to(shutil.which(name))
    old = programs / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)

    done = subprocess.run(
        [checkout / "dev" / "bootstrap"],
        env={"PATH": str(programs)}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("Kassa needs Python 3.12 or newer with its venv module")
