"""
``python bound.py SIGNAL PARENT USER PROGRAM …`` becomes the program, which dies with its parent.

``costplatform.processes`` binds its children by a ``preexec_fn``; tests start processes from
programs with many threads, where a fork may only be followed by an exec. ``USER`` is a number, or
nothing for who runs already.
"""

import ctypes
import os
import pwd
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main(signal: str, parent: str, user: str, *program: str) -> None:
    if user:
        # Before the signal is asked for: the kernel forgets it when the user changes.
        os.setgroups([])
        os.setgid(pwd.getpwuid(int(user)).pw_gid)
        os.setuid(int(user))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal))
    if os.getppid() != int(parent):
        sys.exit("the parent has died already")
    os.execv(program[0], program)


if __name__ == "__main__":
    main(*sys.argv[1:])
