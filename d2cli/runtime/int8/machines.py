"""The instruction sets that multiply int8 numbers, and which of them numba compiles for."""

from llvmlite import ir

from d2cli.runtime.int8.emit import I8, I32, Instructions, call, load, shuffled, splat, vector

I16 = ir.IntType(16)


class Vnni(Instructions):
    """``vpdpbusd`` of x86: four products of unsigned and signed bytes are added to each int32."""

    def point_vectors(self, builder, address):
        return [load(builder, address, vector(self.width))]

    def row_vector(self, builder, address):
        return splat(builder, load(builder, address, I32), self.width)

    def add(self, builder, total, row, point):
        name = f"llvm.x86.avx512.vpdpbusd.{32 * self.width}"  # of AVX-VNNI too
        return call(builder, name, [total, row, point])


class Dotprod(Instructions):
    """``sdot`` of Arm: four products of signed bytes are added to each int32."""

    biased = False

    def point_vectors(self, builder, address):
        return [load(builder, address, vector(16, I8))]

    def row_vector(self, builder, address):
        signed = builder.xor(load(builder, address, I32), I32(0x80808080))  # without the bias
        return builder.bitcast(splat(builder, signed, 4), vector(16, I8))

    def add(self, builder, total, row, point):
        return call(builder, "llvm.aarch64.neon.sdot.v4i32.v16i8", [total, row, point])


class Widened(Instructions):
    """Any machine: bytes are widened to 16 bits, so that nothing saturates.

    LLVM makes ``vpmaddwd`` of it on x86, and plain instructions where there are no vectors. A
    vector of `width` sums belongs to half as many points: two dimensions each.
    """

    parts = 2

    def point_vectors(self, builder, address):
        size = 2 * self.width
        return [
            builder.sext(load(builder, address, vector(size, I8), size * part), vector(size, I16))
            for part in range(2)
        ]

    def row_vector(self, builder, address):
        four = builder.zext(load(builder, address, vector(4, I8)), vector(4, I16))
        return shuffled(builder, four, four, [0, 1, 2, 3] * (self.width // 2))

    def add(self, builder, total, row, point):
        wide = vector(2 * self.width)
        products = builder.mul(builder.sext(row, wide), builder.sext(point, wide))
        return builder.add(total, self._pairs(builder, products, products))

    def joined(self, builder, parts):
        return self._pairs(builder, *parts)

    def _pairs(self, builder, first, second):
        """The first `width` sums of two neighbours, in `first` followed by `second`."""
        even = range(0, 2 * self.width, 2)
        return builder.add(
            shuffled(builder, first, second, even),
            shuffled(builder, first, second, [i + 1 for i in even]),
        )


# An accumulator of vpdpbusd can be used again after 5 cycles, in which 10 can be added to: 16 are
# needed. The others are limited by 16 registers, or by the number of instructions.
_VNNI_512 = Vnni("vnni512", width=16, vectors=2, unroll=2)
_VNNI_256 = Vnni("vnni256", width=8, vectors=2)
_DOTPROD = Dotprod("dotprod", width=4, vectors=4)
_WIDENED_512 = Widened("widened512", width=16, vectors=1)
_WIDENED_256 = Widened("widened256", width=8, vectors=1)
_WIDENED_128 = Widened("widened128", width=4, vectors=1)

#: (architectures, features, instructions), the fastest first
_SETS = [
    (("x86_64", "amd64"), ("avx512f", "avx512vnni"), _VNNI_512),
    (("x86_64", "amd64"), ("avx2", "avxvnni"), _VNNI_256),
    (("x86_64", "amd64"), ("avx2", "avx512f", "avx512vl", "avx512vnni"), _VNNI_256),
    (("x86_64", "amd64"), ("avx512f", "avx512bw"), _WIDENED_512),
    (("x86_64", "amd64"), ("avx2",), _WIDENED_256),
    (("aarch64", "arm64"), ("dotprod",), _DOTPROD),
]


def usable(triple: str, cpu: str, features: str) -> list[Instructions]:
    """What a target can run, the fastest first. The last is for any machine.

    `features` is LLVM's list of what is on (+) and off (-); the last word on a feature counts. What
    LLVM knows of `cpu` does not count, because the user may have switched features off by leaving
    them out. An exception are Arm's server processors: older versions of LLVM do not list `dotprod`
    for any processor.
    """
    on = {word[1:]: word.startswith("+") for word in features.split(",") if word}
    if cpu.startswith("neoverse-"):
        on.setdefault("dotprod", True)
    architecture = triple.partition("-")[0]
    found = [
        one
        for architectures, needed, one in _SETS
        if architecture in architectures and all(on.get(name, False) for name in needed)
    ]
    return [*dict.fromkeys(found), _WIDENED_128]
