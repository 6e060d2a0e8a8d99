"""The instruction sets that multiply int8 numbers, and which of them numba compiles for."""

from llvmlite import ir

from d2cli.runtime.int8.emit import I8, I32, Instructions, load, splat, vector
from d2cli.runtime.int8.sizes import QUERIES


class _Vnni(Instructions):
    """``vpdpbusd``: four products of unsigned and signed bytes are added to each int32."""

    bits = 0

    def point_vectors(self, builder, address):
        return [load(builder, address, vector(self.width))]

    def row_vector(self, builder, address):
        return splat(builder, load(builder, address, I32), self.width)

    def add(self, builder, total, row, point):
        kind = vector(self.width)
        instruction = builder.module.declare_intrinsic(
            f"llvm.x86.avx512.vpdpbusd.{self.bits}", (), ir.FunctionType(kind, [kind] * 3)
        )
        return builder.call(instruction, [total, row, point])


class Vnni512(_Vnni):
    """AVX-512 VNNI: 16 points in a vector."""

    name, bits, width, vectors, unroll = "vnni512", 512, 16, 2, 2


class Vnni256(_Vnni):
    """AVX-VNNI, or AVX-512 VNNI with vectors of 256 bits: 8 points in a vector, 16 registers."""

    name, bits, width, vectors = "vnni256", 256, 8, 2


class Avx2(Instructions):
    """Bytes are widened to 16 bits, and ``vpmaddwd`` adds pairs of products: nothing saturates.

    An accumulator holds two sums for each of four points.
    """

    name, width, parts, vectors = "avx2", 8, 2, 1

    def point_vectors(self, builder, address):
        kind = vector(16, ir.IntType(16))
        return [
            builder.sext(load(builder, address, vector(16, I8), 16 * part), kind)
            for part in range(2)
        ]

    def row_vector(self, builder, address):
        four = builder.zext(load(builder, address, vector(4, I8)), vector(4, ir.IntType(16)))
        return builder.shuffle_vector(four, four, ir.Constant(vector(16), [0, 1, 2, 3] * 4))

    def add(self, builder, total, row, point):
        kind, pairs = vector(8), vector(16, ir.IntType(16))
        instruction = builder.module.declare_intrinsic(
            "llvm.x86.avx2.pmadd.wd", (), ir.FunctionType(kind, [pairs, pairs])
        )
        return builder.add(total, builder.call(instruction, [row, point]))

    def joined(self, builder, parts):
        even, odd = (
            builder.shuffle_vector(*parts, ir.Constant(vector(8), list(range(first, 16, 2))))
            for first in (0, 1)
        )
        return builder.add(even, odd)


class Dotprod(Instructions):
    """Arm ``sdot``: four products of signed bytes are added to each int32."""

    name, width, rows, vectors, biased = "dotprod", 4, QUERIES, 4, False

    def point_vectors(self, builder, address):
        return [load(builder, address, vector(16, I8))]

    def row_vector(self, builder, address):
        signed = builder.xor(load(builder, address, I32), I32(0x80808080))  # without the bias
        return builder.bitcast(splat(builder, signed, 4), vector(16, I8))

    def add(self, builder, total, row, point):
        kind, bytes_ = vector(4), vector(16, I8)
        instruction = builder.module.declare_intrinsic(
            "llvm.aarch64.neon.sdot.v4i32.v16i8", (), ir.FunctionType(kind, [kind, bytes_, bytes_])
        )
        return builder.call(instruction, [total, row, point])


def instructions(triple, cpu, features):
    """The fastest set of a target, or None for the plain loop.

    `features` is LLVM's list of what is on (+) and off (-); the last word on a feature counts. Only
    what is on by name counts, and not what LLVM knows of `cpu`, because features that the user
    switched off may not be named. An exception are Arm's server processors, of which older versions
    of LLVM do not name this feature.
    """
    words = features.split(",")
    named = {word[1:]: word.startswith("+") for word in words if word}

    def has(*names):
        return all(named.get(name, False) for name in names)

    architecture = triple.partition("-")[0]
    if architecture in ("x86_64", "amd64"):
        if has("avx512f", "avx512vnni"):
            return Vnni512()
        if has("avx2", "avxvnni") or has("avx2", "avx512f", "avx512vl", "avx512vnni"):
            return Vnni256()
        return Avx2() if has("avx2") else None
    if architecture in ("aarch64", "arm64"):
        server = cpu.startswith("neoverse-") and named.get("dotprod", True)
        return Dotprod() if has("dotprod") or server else None
    return None
