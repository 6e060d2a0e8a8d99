"""Int8 rows and blocks: every instruction set finds the integers of the plain loops."""

import hashlib
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llvmlite import ir
from numba.core.registry import cpu_target

from d2cli.runtime.int8 import compare as api
from d2cli.runtime.int8 import emit, machines
from d2cli.runtime.int8.blocks import pack
from d2cli.runtime.int8.sizes import ALWAYS, LANES, MASKED, MOST_DIMENSIONS, NEVER, QUERIES
from d2cli.runtime.jit import kernel_files
from tests import naive_int8

X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
jit_only = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")


def usable_here():
    if numba.config.DISABLE_JIT:
        return []
    return machines.usable(*cpu_target.target_context.codegen().magic_tuple())


def compiled(function):
    """Without a cache, because the instructions are not part of the function's source."""
    return numba.njit(nogil=True)(function)


@cache
def kernels(wanted):
    """`differences` and `compare` with one instruction set, or with numba's if it is None."""
    multiply, both = api.make_differences(wanted), api.make_compare(wanted)
    if wanted is None:
        multiply, both = api.differences, api.compare

    @compiled
    def differences(blocks, offsets, halves, b, rows, chosen, targets, found):
        multiply(blocks, offsets, halves, b, rows, chosen, targets, found)

    @compiled
    def compare(
        blocks, offsets, halves, bounds, b, rows, chosen, row_halves, row_bounds, scores, near, far
    ):
        return both(
            blocks, offsets, halves, bounds, b, rows, chosen, row_halves, row_bounds, scores, near,
            far,
        )  # fmt: skip

    return differences, compare


def halves_of(rows):
    return ((rows.astype(np.int64) - 128) ** 2).sum(axis=1).astype(np.int32) // 2


def packed(rows, starts, r):
    """Blocks of the first r dimensions of rows."""
    points = np.ascontiguousarray(rows[:, :r])
    blocks = np.full((len(starts) - 1, r // 4, LANES, 4), 99, np.int8)
    halves, offsets = np.full((2, len(starts) - 1, LANES), 99, np.int32)
    pack(points, halves_of(points), starts, blocks, halves, offsets)
    return blocks, halves, offsets


@st.composite
def cases(draw):
    """Two blocks of r dimensions, perhaps not full; rows to compare, perhaps with more columns."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    r = 4 * draw(st.one_of(st.integers(1, 8), st.integers(1, MOST_DIMENSIONS // 4)))
    sizes = draw(st.lists(st.integers(1, LANES), min_size=2, max_size=2))
    starts = np.cumsum([0, *sizes])
    codes = draw(st.sampled_from([(-127, 127), (127,), (-127,), (-1, 0, 1), range(-127, 128)]))
    more = draw(st.sampled_from([0, 0, 1, 4, 64]))
    rows = (rng.choice(codes, (starts[-1], r + more)) + 128).astype(np.uint8)
    chosen = rng.integers(0, len(rows), QUERIES)
    return rng, rows, starts, r, chosen


def bounds_near(rng, values):
    """Bounds of many kinds: equal to a value, one beside it, far away, never, always."""
    kinds = rng.integers(0, 6, len(values))
    free = rng.integers(-(2**24), 2**24, len(values))
    found = np.choose(kinds, [values - 1, values, values + 1, free, NEVER, ALWAYS])
    return found.astype(np.int32)


def check(differences, compare, case):
    rng, rows, starts, r, chosen = case
    blocks, halves, offsets = packed(rows, starts, r)
    own_halves = halves_of(rows[:, :r])
    b = int(rng.integers(0, 2))
    points, point_halves = naive_int8.packed(rows[:, :r], own_halves, starts)[b]
    expected = np.array([naive_int8.scores(points, rows[i]) for i in chosen])

    # Queries that are the same row may have the same target.
    targets = rng.permutation(7)[:QUERIES]
    for q in range(1, QUERIES):
        if chosen[q] == chosen[q - 1]:
            targets[q] = targets[q - 1]
    found = np.full((7, LANES), 99, np.int32)
    differences(blocks, offsets, halves, b, rows, chosen, targets, found)
    wanted = [naive_int8.differences(points, point_halves, rows[i]) for i in chosen]
    written = dict(zip(targets.tolist(), wanted, strict=True))
    assert found.tolist() == [written.get(place, [99] * LANES) for place in range(7)]

    scores = np.full((QUERIES, LANES), 99, np.int32)
    row_halves = np.where(rng.random(QUERIES) < 0.2, NEVER, own_halves[chosen])
    lane = rng.integers(0, LANES, QUERIES)
    to_rows = bounds_near(
        rng, expected[np.arange(QUERIES), lane] - halves[b, lane].clip(None, 2**24)
    )
    q = rng.integers(0, QUERIES, LANES)
    to_points = bounds_near(rng, expected[q, np.arange(LANES)] - own_halves[chosen][q])
    if rng.random() < 0.3:
        to_points[:] = NEVER
    if rng.random() < 0.3:
        to_rows[:] = NEVER
        to_rows[0] = max(expected[0] - halves[b])  # the best score itself is no better
    bounds = np.full((2, LANES), ALWAYS, np.int32)
    bounds[b] = to_points
    masks = [
        naive_int8.masks(
            expected[k].tolist(), point_halves, to_points, int(row_halves[k]), int(to_rows[k])
        )
        for k in range(QUERIES)
    ]
    near, far = np.full((2, QUERIES), -1, np.int64)
    found = compare(
        blocks, offsets, halves, bounds, b, rows, chosen, row_halves.astype(np.int32), to_rows,
        scores, near, far,
    )  # fmt: skip
    assert found == any(map(any, masks))
    if found:
        np.testing.assert_array_equal(scores, expected)
        assert list(zip(near.tolist(), far.tolist(), strict=True)) == masks
    else:
        assert (scores == 99).all()
        assert (near == -1).all()
        assert (far == -1).all()


@jit_only
@pytest.mark.parametrize("instructions", usable_here(), ids=str)
@given(case=cases())
def test_every_instruction_set_finds_the_same_integers(instructions, case):
    check(*kernels(instructions), case)


@given(case=cases())
def test_without_the_compiler_numpy_finds_them(case):
    check(api.numpy_differences, api.numpy_compare, case)


@given(case=cases())
def test_automatic_choice_finds_them(case):
    if numba.config.DISABLE_JIT:
        check(api.differences, api.compare, case)
    else:
        check(*kernels(None), case)


@pytest.mark.parametrize("sign", [1, -1])
def test_largest_sums_of_most_dimensions(sign):
    rows = np.full((LANES, MOST_DIMENSIONS), 128 + 127, np.uint8)
    rows[1::2] = 128 + sign * 127
    blocks, halves, offsets = packed(rows, np.array([0, LANES]), MOST_DIMENSIONS)
    found = np.zeros((QUERIES, LANES), np.int32)
    every = np.arange(QUERIES)
    for differences, _ in [kernels(one) for one in usable_here()] or [(api.differences, None)]:
        differences(blocks, offsets, halves, 0, rows, every, every, found)
        largest = 127 * 127 * MOST_DIMENSIONS
        assert found[0].tolist() == [largest // 2, sign * largest - largest // 2] * (LANES // 2)


def test_last_query_may_repeat():
    """Callers with fewer rows than queries repeat the last row, with the same target."""
    rows = np.arange(1, 4 * 8 + 1, dtype=np.uint8).reshape(4, 8)
    blocks, halves, offsets = packed(rows, np.array([0, 4]), 8)
    points, own = naive_int8.packed(rows, halves_of(rows), [0, 4])[0]
    chosen, targets = np.array([2, 1, 1, 1]), np.array([4, 0, 0, 0])
    for differences, _ in [kernels(one) for one in usable_here()] or [(api.differences, None)]:
        found = np.full((5, LANES), 99, np.int32)
        differences(blocks, offsets, halves, 0, rows, chosen, targets, found)
        assert found[4].tolist() == naive_int8.differences(points, own, rows[2])
        assert found[0].tolist() == naive_int8.differences(points, own, rows[1])
        assert (found[1:4] == 99).all()


@given(case=cases())
def test_places_without_a_point(case):
    _, rows, starts, r, _ = case
    blocks, halves, offsets = packed(rows, starts, r)
    expected = naive_int8.packed(rows[:, :r], halves_of(rows[:, :r]), starts)
    for b, (points, own) in enumerate(expected):
        assert blocks[b].transpose(1, 0, 2).reshape(LANES, -1).tolist() == points
        assert halves[b].tolist() == own
        assert offsets[b].tolist() == [-128 * sum(point) for point in points]


@given(mask=st.integers(1, 2**63 - 1))
def test_trailing_zeros(mask):
    assert lowest_bit()(np.int64(mask)) == len(bin(mask)) - len(bin(mask).rstrip("0"))


@cache
def lowest_bit():
    @compiled
    def found(mask):
        return api.trailing_zeros(mask)

    return found


@cache
def masking():
    @compiled
    def masked(table, i, begin, bound):
        return api.above(table, i, begin, bound)

    @compiled
    def counted(mask):
        return api.ones(mask)

    return masked, counted


@given(
    st.integers(0, 2**32 - 1), st.integers(0, 70), st.integers(0, 2),
    st.sampled_from([-(2**31), -1, 0, 1, 2**31 - 1]),
)  # fmt: skip
def test_masks_of_numbers_above_a_bound(seed, begin, row, bound):
    """Rows may begin anywhere in memory; the numbers are compared as signed ones."""
    rng = np.random.default_rng(seed)
    some = [bound, max(bound - 1, -(2**31)), min(bound + 1, 2**31 - 1), -(2**31), 2**31 - 1, 0]
    table = rng.choice(some, (3, begin + MASKED + int(rng.integers(0, 5)))).astype(np.int32)
    masked, counted = masking()
    mask = masked(table, row, begin, np.int32(bound))
    over = (table[row, begin : begin + MASKED] > bound).tolist()
    assert int(mask) % 2**64 == sum(1 << place for place, one in enumerate(over) if one)
    assert counted(mask) == sum(over)


@pytest.mark.parametrize(
    ("triple", "cpu", "features", "names"),
    [
        (X86, "sapphirerapids", "+avx2,+avx512f,+avx512bw,+avx512vl,+avx512vnni,+avxvnni",
         "vnni512 vnni256 widened512 widened256 widened128"),
        (X86, "znver4", "+avx2,+avx512f,+avx512vl,+avx512vnni",
         "vnni512 vnni256 widened256 widened128"),
        (X86, "alderlake", "+avx2,-avx512f,-avx512vnni,+avxvnni", "vnni256 widened256 widened128"),
        (X86, "skylake-avx512", "+avx2,+avx512f,+avx512bw,-avx512vnni",
         "widened512 widened256 widened128"),
        (X86, "haswell", "+avx2,-avxvnni", "widened256 widened128"),
        (X86, "haswell", "+avx2,-avx2", "widened128"),
        (X86, "sapphirerapids", "", "widened128"),
        (X86, "generic", "+dotprod", "widened128"),
        (ARM, "generic", "+neon,+dotprod", "dotprod widened128"),
        (ARM, "neoverse-n1", "+neon", "dotprod widened128"),
        (ARM, "neoverse-n1", "-dotprod", "widened128"),
        (ARM, "cortex-a72", "+neon", "widened128"),
        ("riscv64-unknown-linux-gnu", "", "+v", "widened128"),
    ],
)  # fmt: skip
def test_features_choose_instructions(triple, cpu, features, names):
    assert " ".join(map(str, machines.usable(triple, cpu, features))) == names


@pytest.mark.parametrize(
    ("triple", "cpu", "features", "instruction"),
    [
        (X86, "", "+avx512f,+avx512vnni", "vpdpbusd.*zmm"),
        (X86, "", "+avx2,+avx512f,+avx512vl,+avx512vnni", "vpdpbusd.*zmm"),
        (X86, "", "+avx2,+avxvnni", "vpdpbusd.*ymm"),
        (X86, "", "+avx512f,+avx512bw", "vpmaddwd.*zmm"),
        (X86, "", "+avx2", "vpmaddwd.*ymm"),
        (X86, "", "", "pmaddwd.*xmm"),
        (X86, "", "-sse2,-sse,+x87", "imul"),
        (ARM, "", "+dotprod", r"sdot\s+v"),
        (ARM, "neoverse-n1", "", r"sdot\s+v"),
        (ARM, "", "", r"(smlal|smull|mla|mul)\s+v"),
    ],
)  # fmt: skip
def test_code_for_other_machines(triple, cpu, features, instruction):
    """What is chosen for a target compiles for it, to the instruction that is meant."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    kind = machines.usable(triple, cpu, features)[0]
    module = ir.Module()
    for build in (emit.differences_function, emit.compare_function):
        function = build(module, kind)
        assert build(module, kind) is function  # once a module
        function.linkage = "external"
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    target = llvm.Target.from_triple(triple)
    machine = target.create_target_machine(cpu=cpu, features=features, opt=3)
    assert re.search(instruction, machine.emit_assembly(parsed))


def test_changed_instructions_compile_callers_again():
    """All files of the folder are part of the digest that the cache on disk is checked with."""
    folder = Path(api.__file__).parent
    files = {path for path in folder.glob("*.py") if path.name not in ("__init__.py", "blocks.py")}
    assert len(files) == 4
    assert files <= kernel_files(Path(api.__file__))


RUN = """
import hashlib
import sys
import numba
import numpy as np
from d2cli.runtime.int8.compare import compare

@numba.njit(cache=True, nogil=True)
def run(blocks, offsets, halves, bounds, rows, chosen, row_halves, row_bounds, found, near, far):
    for b in range(blocks.shape[0]):
        compare(
            blocks, offsets, halves, bounds, b, rows, chosen, row_halves, row_bounds, found[b],
            near[b], far[b],
        )

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, (3, 17, 32, 4))
    halves = rng.integers(0, 2**19, (3, 32)).astype(np.int32)
    bounds = rng.integers(-(2**19), 2**17, (3, 32)).astype(np.int32)
    rows = rng.integers(1, 256, (50, 68)).astype(np.uint8)
    found, masks = np.zeros((3, 4, 32), np.int32), np.zeros((2, 3, 4), np.int64)
    row_halves, row_bounds = halves[0, :4].copy(), bounds[0, :4].copy()
    run(
        codes.astype(np.int8), (-128 * codes.sum(axis=(1, 3))).astype(np.int32), halves, bounds,
        rows, np.array([3, 49, 0, 20]), row_halves, row_bounds, found, *masks,
    )
    digest = hashlib.sha256(found.tobytes() + masks.tobytes()).hexdigest()
    used = [asm.count("vpdpbusd") for asm in run.inspect_asm().values()]
    print(digest, sum(run.stats.cache_hits.values()), sum(run.stats.cache_misses.values()), *used)
"""
#: Settings of numba, with fewer features from one to the next.
SETTINGS = {
    "this machine": {},
    "no VNNI": {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": "+avx2"},
    "no AVX": {"NUMBA_ENABLE_AVX": "0"},
    "no features": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
}


@jit_only
def test_cache_on_disk_is_used_by_the_same_features_only(tmp_path):
    """In one folder, each setting compiles its own code once, and all find the same integers."""
    script = tmp_path / "script.py"
    script.write_text(RUN)
    host = usable_here()
    settings = dict(SETTINGS)
    if "widened256" not in map(str, host):
        del settings["no VNNI"], settings["no AVX"]
    digests, folder = set(), str(tmp_path / "cache")
    for hits in (0, 1):
        for name, setting in settings.items():
            done = subprocess.run(
                [sys.executable, str(script)], capture_output=True, text=True, check=True,
                env={**os.environ, "NUMBA_CACHE_DIR": folder, **setting,
                     "PYTHONPATH": str(Path(api.__file__).parents[3])},
            )  # fmt: skip
            digest, *counts = done.stdout.split()
            digests.add(digest)
            assert counts[:2] == [str(hits), str(1 - hits)], name
            if not hits:
                vnni = name == "this machine" and str(host[0]).startswith("vnni")
                assert (int(counts[2]) > 0) == vnni, name
    assert len(digests) == 1
    assert digests != {hashlib.sha256(bytes(1536 + 192)).hexdigest()}
