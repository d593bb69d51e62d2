"""Memory of a process that makes the same large arrays again and again."""

import ctypes

# of malloc.h; glibc alone has them
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 1 << 30
LARGEST_KEPT_BYTES = 32 << 20  # glibc takes no more


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed for the next frame.

    Otherwise the arrays of every frame, some megabytes each, are given back to the kernel, and
    each page of the next ones is a page fault, which takes longer than filling them.

    Returns:
        Whether the C library can; other ones than glibc stay as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
                and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
