"""C functions that call each kernel with an array of pointers, and run lists of such calls.

The compiled runtime is made with them. `dispatch.c` holds them for builds that cannot ask Python: run
`python -m tflnest.native.dispatch` after a kernel was added; a test compares the file with what it must be.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tflnest.device import Function, functions
from tflnest.files import write_file

DISPATCH_PATH = Path(__file__).with_name("dispatch.c")

_HEAD = """\
/* Calls of kernels through arrays of pointers, for engines on desktops.
 *
 * Written by tflnest.native.dispatch.
 */
#include <stddef.h>
"""

_RUN = """\
#ifndef TFLNEST_KEY
#define TFLNEST_KEY ""
#endif

/* What the runtime was built from. */
const char *tflnest_key(void)
{
    return TFLNEST_KEY;
}

typedef struct {
    void (*call)(void *const *arguments);
    void *const *arguments;
} tflnest_step;

void tflnest_run(const tflnest_step *steps, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        steps[i].call(steps[i].arguments);
    }
}
"""


def argument_count(function: Function) -> int:
    """Pointers that a kernel takes."""
    return 1 + function.has_filter + len(function.inputs) + len(function.outputs) + function.has_scratch


def dispatch(kernels: Sequence[Function]) -> str:
    """C source that calls each kernel with an array of pointers, and runs lists of such calls."""
    lines = [f'#include "{header}"' for header in sorted({kernel.header for kernel in kernels})]
    lines.append("")
    for kernel in kernels:
        arguments = ", ".join(f"a[{number}]" for number in range(argument_count(kernel)))
        lines.append(f"void call_{kernel.name}(void *const *a)\n{{\n    {kernel.name}({arguments});\n}}\n")
    return _HEAD + "\n".join(lines) + "\n" + _RUN


if __name__ == "__main__":
    write_file(DISPATCH_PATH, dispatch(functions()).encode("ascii"), force=True)
