"""Available memory, allocation from claims of files, and sizes as text."""

import platform
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.errors import DataError, UsageError
from d2cli.runtime import memory
from d2cli.runtime.memory import available_memory, total_memory
from d2cli.runtime.units import binary, parse_size

GIB = 1 << 30
MEMINFO = "MemTotal:       16777216 kB\nMemFree:  1 kB\nMemAvailable:    8388608 kB\n"
V2 = "31 23 0:28 {inside} /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
V1 = (
    "30 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    "32 31 0:29 {inside} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


@pytest.fixture
def machine(tmp_path):
    """``machine({path: content})`` writes system files below a folder and reads the memory."""

    def write(files):
        for name, content in {"proc/meminfo": MEMINFO, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return available_memory(tmp_path)

    return write


def test_available_memory_of_the_machine(machine):
    found = machine({})
    assert (found.size, found.source) == (8 * GIB, "of the machine")


def test_unknown_memory_is_none(tmp_path):
    assert available_memory(tmp_path) is None


def test_memory_of_this_machine():
    assert 1 << 20 < available_memory().size <= total_memory()


def test_total_memory(machine, tmp_path):
    assert total_memory(tmp_path) is None
    machine({})
    assert total_memory(tmp_path) == 16 * GIB
    group = {"memory.max": str(3 * GIB), "memory.current": str(2 * GIB), "memory.stat": ""}
    files = {f"sys/fs/cgroup/a/{name}": content for name, content in group.items()}
    files |= {"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": V2.format(inside="/")}
    assert machine(files).size == GIB
    assert total_memory(tmp_path) == 3 * GIB


def test_allocate_refuses_more_than_the_total_memory(monkeypatch):
    monkeypatch.setattr(memory, "_most", lambda: 1000)
    assert memory.allocate((125,), np.dtype(np.float64), "x.npz").size == 125
    with pytest.raises(DataError, match=r"x\.npz: 126 values of type float64 take 1,008 bytes"):
        memory.allocate((126,), np.dtype(np.float64), "x.npz")


@pytest.mark.parametrize(
    ("limits", "left", "group"),
    [
        ({"a/b": (2, 1, 0)}, 1, "/a/b"),
        ({"a/b": (4, 1, 0), "a": (3, 2, 0)}, 1, "/a"),
        ({"a/b": (4, 3, 2)}, 3, "/a/b"),  # inactive pages of the file cache count as free
        ({"a/b": (2, 3, 0)}, 0, "/a/b"),
        ({"a/b": ("max", 3, 0), "a": (20, 3, 0)}, 8, None),
        ({"": (5, 1, 0)}, 4, "/"),
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_available_memory_of_nested_control_groups(machine, limits, left, group, old):
    top = "sys/fs/cgroup/memory" if old else "sys/fs/cgroup"
    names = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        if old
        else ("memory.max", "memory.current", "inactive_file")
    )
    files = {
        "proc/self/cgroup": "5:cpu,cpuacct:/z\n4:memory:/a/b\n0::/\n" if old else "0::/a/b\n",
        "proc/self/mountinfo": (V1 if old else V2).format(inside="/"),
        f"{top}/a/b/cgroup.procs": "",
    }
    for name, (limit, used, idle) in limits.items():
        if limit == "max":
            files[f"{top}/{name}/{names[0]}"] = f"{(1 << 63) - 4096}\n" if old else "max\n"
        else:
            files[f"{top}/{name}/{names[0]}"] = f"{limit * GIB}\n"
        files[f"{top}/{name}/{names[1]}"] = f"{used * GIB}\n"
        files[f"{top}/{name}/memory.stat"] = f"file 7\n{names[2]} {idle * GIB}\nother 3\n"
    found = machine(files)
    assert found.size == left * GIB
    assert found.source == (
        f"within the limit of the control group {group}" if group else "of the machine"
    )


@pytest.mark.parametrize("inside", ["/docker/x", "/other"])
def test_container_group_is_the_root_of_the_mount(machine, inside):
    found = machine(
        {
            "proc/self/cgroup": "0::/docker/x\n",
            "proc/self/mountinfo": V2.format(inside=inside),
            "sys/fs/cgroup/memory.max": f"{2 * GIB}",
            "sys/fs/cgroup/memory.current": f"{GIB}",
        }
    )
    assert found.size == GIB


SIZES = [
    ("8GiB", 8 << 30), ("8GB", 8_000_000_000), ("500MiB", 500 << 20), ("4096", 4096), ("7B", 7),
    ("1.5 gib", 3 << 29), (" 2kb ", 2000), ("2KiB", 2048), ("1TiB", 1 << 40), ("1TB", 10**12),
]  # fmt: skip


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_parse_size(text, size):
    assert parse_size(text, "max-memory") == size


@pytest.mark.parametrize("text", ["", "8G", "GiB", "-1", "0", "8 GiBs", "1e9", "nan", "9999999TiB"])
def test_parse_size_refuses_other_text(text):
    with pytest.raises(UsageError, match="--max-memory must be a size"):
        parse_size(text, "max-memory")


@given(st.integers(1, 1 << 50))
def test_binary_shows_about_three_digits(size):
    shown = binary(size).replace(",", "")
    assert parse_size(shown, "x") == pytest.approx(size, rel=0.01, abs=0.5)


# -- freed arrays ----------------------------------------------------------------------------------
@pytest.mark.parametrize("room", [0, 1 << 20, 64 << 20, GIB, 64 * GIB])
def test_freed_arrays_take_a_share_of_the_memory(room):
    assert memory.kept_freed(room) <= min(room / 16, 128 << 20)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have no setting")
@pytest.mark.parametrize(("room", "kept"), [(0, False), (64 * GIB, True)])
def test_freed_arrays_are_returned_if_memory_is_short(room, kept):
    """An array of 8 MiB is kept for a later one if there is much memory."""
    code = f"""
import os
import numpy
from d2cli.runtime.memory import return_freed_arrays

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

return_freed_arrays({room})
array = numpy.ones(1 << 20)
held = resident()
del array
print(held - resident())
"""
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (int(found) < 4 << 20) == kept
