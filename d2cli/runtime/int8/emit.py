"""LLVM code that compares rows with a block, for vectors of any instruction set.

The code is built by llvmlite alone, so that it can be compiled for machines of other kinds too.
"""

from llvmlite import ir

from d2cli.runtime.int8.sizes import GROUP, LANES, QUERIES

I1, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
ADDRESS = I8.as_pointer()


class Instructions:
    """How one instruction set multiplies; subclasses say what differs.

    The sums of a row are `LANES` numbers in vectors of `width`. Each vector is added up in `parts`
    accumulators. All rows × `vectors` of them are computed in one pass over the dimensions, as many
    as there are registers for. With `unroll` 2, even and odd steps have their own accumulators,
    because an accumulator can only be used again when the last sum has arrived.
    """

    parts = 1
    biased = True  # the products are those of code + BIAS, which `offsets` correct

    def __init__(self, name, width, vectors, unroll=1):
        self.name, self.width, self.vectors, self.unroll = name, width, vectors, unroll

    def __repr__(self):
        return self.name

    def point_vectors(self, builder, address):
        """What `add` needs of `width` points at one step: `parts` vectors."""
        raise NotImplementedError

    def row_vector(self, builder, address):
        """What `add` needs of the four dimensions of a row at one step."""
        raise NotImplementedError

    def add(self, builder, total, row, point):
        """`total` plus the products of one step."""
        raise NotImplementedError

    def joined(self, builder, parts):
        """The sums of `width` points from `parts` accumulators."""
        return parts[0]


def vector(width, kind=I32):
    """The type of vectors of `width` numbers."""
    return ir.VectorType(kind, width)


def zeros(width):
    """A vector of int32 zeros."""
    return ir.Constant(vector(width), [0] * width)


def splat(builder, value, width):
    """A vector of `width` copies of `value`."""
    one = ir.Constant(vector(width, value.type), ir.Undefined)
    return shuffled(builder, builder.insert_element(one, value, I32(0)), one, [0] * width)


def shuffled(builder, first, second, places):
    """A vector of the numbers at some places of two vectors, put one after the other."""
    return builder.shuffle_vector(first, second, ir.Constant(vector(len(places)), list(places)))


def moved(builder, address, offset):
    """The address `offset` bytes further, a number or a value."""
    return builder.gep(address, [I64(offset) if isinstance(offset, int) else offset])


def load(builder, address, kind, offset=0):
    """Load from an address that need not be aligned for the type."""
    pointer = builder.bitcast(moved(builder, address, offset), kind.as_pointer())
    found = builder.load(pointer)
    found.align = 1
    return found


def store(builder, value, address, offset=0):
    """Store at an address that need not be aligned for the type."""
    pointer = builder.bitcast(moved(builder, address, offset), value.type.as_pointer())
    builder.store(value, pointer).align = 1


def call(builder, name, arguments):
    """Call an instruction of LLVM that returns a value of its first argument's type."""
    kinds = [argument.type for argument in arguments]
    wanted = ir.FunctionType(kinds[0], kinds)
    return builder.call(builder.module.declare_intrinsic(name, (), wanted), arguments)


def repeat(builder, count, values, body):
    """``for t in range(count): values = body(t, values)``; returns the last values."""
    before, function = builder.block, builder.function
    head, inside, after = (function.append_basic_block(n) for n in ("head", "inside", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    t = builder.phi(I64)
    t.add_incoming(I64(0), before)
    carried = []
    for value in values:
        phi = builder.phi(value.type)
        phi.add_incoming(value, before)
        carried.append(phi)
    builder.cbranch(builder.icmp_signed("<", t, count), inside, after)
    builder.position_at_end(inside)
    for phi, value in zip(carried, body(t, carried), strict=True):
        phi.add_incoming(value, builder.block)
    t.add_incoming(builder.add(t, I64(1)), builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return carried


def _pass(builder, kind, points, offsets, rows, steps):
    """Sums of rows with ``kind.vectors`` vectors of points: one list for each row."""
    size, step_bytes = kind.width * GROUP, LANES * GROUP
    pairs = [(q, v) for q in range(len(rows)) for v in range(kind.vectors)]
    totals = []
    for u in range(kind.unroll):
        for _, v in pairs:
            for part in range(kind.parts):
                first = kind.biased and kind.parts == 1 and u == part == 0
                start = load(builder, offsets, vector(kind.width), 4 * kind.width * v)
                totals.append(start if first else zeros(kind.width))
    half = len(pairs) * kind.parts

    def step(t, u, totals):
        points_t = moved(builder, points, builder.mul(t, I64(step_bytes)))
        along = builder.mul(t, I64(GROUP))
        found = [
            kind.point_vectors(builder, moved(builder, points_t, v * size))
            for v in range(kind.vectors)
        ]
        for q, row in enumerate(rows):
            four = kind.row_vector(builder, moved(builder, row, along))
            for v in range(kind.vectors):
                for part in range(kind.parts):
                    at = u * half + (q * kind.vectors + v) * kind.parts + part
                    totals[at] = kind.add(builder, totals[at], four, found[v][part])
        return totals

    if kind.unroll == 1:
        totals = repeat(builder, steps, totals, lambda t, old: step(t, 0, list(old)))
    else:

        def two(t, old):
            even = builder.shl(t, I64(1))
            return step(builder.or_(even, I64(1)), 1, step(even, 0, list(old)))

        totals = repeat(builder, builder.lshr(steps, I64(1)), totals, two)
        totals = [builder.add(a, b) for a, b in zip(totals[:half], totals[half:], strict=True)]
        odd = builder.and_(steps, I64(1))
        last = builder.sub(steps, I64(1))
        totals = repeat(builder, odd, totals, lambda t, old: step(last, 0, list(old)))
    sums = []
    for at, (_, v) in enumerate(pairs):
        total = kind.joined(builder, totals[at * kind.parts : (at + 1) * kind.parts])
        if kind.biased and kind.parts > 1:
            offset = load(builder, offsets, vector(kind.width), 4 * kind.width * v)
            total = builder.add(total, offset)
        sums.append(total)
    return [sums[q * kind.vectors : (q + 1) * kind.vectors] for q in range(len(rows))]


def sums(builder, kind, points, offsets, rows, steps):
    """The inner products of rows with a block: for each row, vectors of ``kind.width`` scores."""
    found: list[list[ir.Value]] = [[] for _ in rows]
    for lane in range(0, LANES, kind.width * kind.vectors):
        points_here = moved(builder, points, lane * GROUP)
        part = _pass(builder, kind, points_here, moved(builder, offsets, 4 * lane), rows, steps)
        for scores, vectors in zip(found, part, strict=True):
            scores.extend(vectors)
    return found


def _begin(module, name, arguments, result):
    function = ir.Function(module, ir.FunctionType(result, arguments), name)
    function.linkage = "internal"
    function.attributes.add("noinline")  # callers compile faster, and run as fast
    return function, ir.IRBuilder(function.append_basic_block("entry"))


def _row_addresses(builder, rows, stride, chosen):
    numbers = [load(builder, chosen, I64, 8 * q) for q in range(QUERIES)]
    return [moved(builder, rows, builder.mul(number, stride)) for number in numbers]


def _store_scores(builder, kind, found, scores):
    for q, vectors in enumerate(found):
        for v, value in enumerate(vectors):
            store(builder, value, scores, 4 * (q * LANES + v * kind.width))


def differences_function(module, kind):
    """A function of the module: it stores the score less the half of each row and point.

    Arguments: points, offsets, halves, rows, stride, chosen, steps, targets, differences. Those of
    row q go to the 32 numbers of ``differences[targets[q]]``.
    """
    name = f"d2prune_differences_{kind.name}"
    if name in module.globals:
        return module.globals[name]
    arguments = [ADDRESS] * 4 + [I64, ADDRESS, I64, ADDRESS, ADDRESS]
    function, builder = _begin(module, name, arguments, ir.VoidType())
    points, offsets, halves, rows, stride, chosen, steps, targets, differences = function.args
    addresses = _row_addresses(builder, rows, stride, chosen)
    found = sums(builder, kind, points, offsets, addresses, steps)
    for q, vectors in enumerate(found):
        target = builder.mul(load(builder, targets, I64, 8 * q), I64(4 * LANES))
        for v, value in enumerate(vectors):
            half = load(builder, halves, vector(kind.width), 4 * v * kind.width)
            address = moved(builder, differences, target)
            store(builder, builder.sub(value, half), address, 4 * v * kind.width)
    builder.ret_void()
    return function


def compare_function(module, kind):
    """A function of the module that compares, and says whether any score exceeds a bound.

    Arguments: points, offsets, halves, bounds, rows, stride, chosen, row_halves, row_bounds, steps,
    scores, near, far.
    """
    name = f"d2prune_compare_{kind.name}"
    if name in module.globals:
        return module.globals[name]
    arguments = [ADDRESS] * 5 + [I64] + [ADDRESS] * 3 + [I64] + [ADDRESS] * 3
    function, builder = _begin(module, name, arguments, I64)
    points, offsets, halves, bounds, rows, stride, chosen = function.args[:7]
    row_halves, row_bounds, steps, scores, near, far = function.args[7:]
    addresses = _row_addresses(builder, rows, stride, chosen)
    found = sums(builder, kind, points, offsets, addresses, steps)

    width, count = kind.width, LANES // kind.width

    def limits(q):
        """For each vector, what a score must exceed to be near, and to be far."""
        own_half = splat(builder, load(builder, row_halves, I32, 4 * q), width)
        own_bound = splat(builder, load(builder, row_bounds, I32, 4 * q), width)
        for v in range(count):
            half = load(builder, halves, vector(width), 4 * width * v)
            bound = load(builder, bounds, vector(width), 4 * width * v)
            yield builder.add(half, own_bound), builder.add(bound, own_half)

    # One comparison with the smaller of the two limits tells whether anything is to be done.
    hits = ir.Constant(vector(width, I1), [0] * width)
    for q in range(QUERIES):
        for v, (one, other) in enumerate(limits(q)):
            least = builder.select(builder.icmp_signed("<", one, other), one, other)
            hits = builder.or_(hits, builder.icmp_signed(">", found[q][v], least))
    bits = ir.IntType(width)
    any_hit = builder.icmp_unsigned("!=", builder.bitcast(hits, bits), bits(0))
    with builder.if_then(any_hit, likely=False):
        _store_scores(builder, kind, found, scores)
        for q in range(QUERIES):
            masks = [I64(0), I64(0)]
            for v, pair in enumerate(limits(q)):
                for side, limit in enumerate(pair):
                    over = builder.bitcast(builder.icmp_signed(">", found[q][v], limit), bits)
                    shifted = builder.shl(builder.zext(over, I64), I64(width * v))
                    masks[side] = builder.or_(masks[side], shifted)
            store(builder, masks[0], near, 8 * q)
            store(builder, masks[1], far, 8 * q)
    builder.ret(builder.zext(any_hit, I64))
    return function
