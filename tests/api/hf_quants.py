"""hf_quants.py - weights quantized as other tools store them, and their exact values beside them.

Written from the checkpoint formats of AutoGPTQ, AutoAWQ, compressed-tensors and DeepSeek-V3.  Each
function takes rows (outputs), cols (inputs) and rows * cols numbers, and answers the tensors of the
module by suffix, (type, shape, bytes), and an array of the values that they stand for.
"""
import array
import bisect
import random
import struct

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def half(x):
    """The nearest F16."""
    return struct.unpack("<e", struct.pack("<e", x))[0]


def halves(numbers):
    return struct.pack(f"<{len(numbers)}e", *numbers)


def words(numbers):
    return struct.pack(f"<{len(numbers)}I", *numbers)


def grid(rows, groups, value):
    """[groups, rows]"""
    return [[value(row, group) for row in range(rows)] for group in range(groups)]


def nibbles(values, order=range(8)):
    """Eight numbers of four bits in a word; place i has number order[i]."""
    return sum(values[k] << (4 * place) for place, k in enumerate(order) if k < len(values))


class Four:
    """Quanta of four bits with a scale and a zero point for each group of inputs."""

    def __init__(self, rows, cols, values, group, symmetric, g_idx=None):
        self.rows, self.cols = rows, cols
        self.size = group if group > 0 else cols
        self.groups = -(-cols // self.size)
        self.of = g_idx or [i // self.size for i in range(cols)]
        members = [[i for i in range(cols) if self.of[i] == g] for g in range(self.groups)]
        ranges = [
            [self.range(values[row * cols : (row + 1) * cols], inputs) for row in range(rows)]
            for inputs in members
        ]
        self.scales = [[self.scale(*r, symmetric) for r in line] for line in ranges]
        self.zeros = [
            [8 if symmetric else self.zero(low, s) for (low, _), s in zip(line, scales)]
            for line, scales in zip(ranges, self.scales)
        ]
        self.quanta = [
            [self.quantum(values[row * cols + i], self.of[i], row) for i in range(cols)]
            for row in range(rows)
        ]

    @staticmethod
    def range(line, inputs):
        numbers = [line[i] for i in inputs] or [0.0]
        return min(numbers), max(numbers)

    @staticmethod
    def scale(low, high, symmetric):
        return half((max(-low, high) / 7 if symmetric else (high - low) / 15) or 2**-10)

    @staticmethod
    def zero(low, scale):
        """1 to 15: GPTQ stores one less."""
        return min(15, max(1, round(-low / scale)))

    def quantum(self, value, g, row):
        return min(15, max(0, round(value / self.scales[g][row]) + self.zeros[g][row]))

    def exact(self):
        out = array.array("f")
        for row, line in enumerate(self.quanta):
            for i, q in enumerate(line):
                g = self.of[i]
                out.append(self.scales[g][row] * (q - self.zeros[g][row]))
        return out

    def scales_by_group(self):
        shape = [self.groups, self.rows]
        return ("F16", shape, halves([s for line in self.scales for s in line]))


def gptq(rows, cols, values, group=32, symmetric=False, act_order=False, version=1):
    g_idx = None
    if act_order:
        size = group if group > 0 else cols
        g_idx = [i // size for i in range(cols)]
        random.Random(cols).shuffle(g_idx)
    four = Four(rows, cols, values, group, symmetric, g_idx)
    down = 1 if version == 1 else 0
    data = words(
        [
            nibbles([four.quanta[row][i + k] for k in range(8)])
            for i in range(0, cols, 8)
            for row in range(rows)
        ]
    )
    zeros = words(
        [
            nibbles([z - down for z in four.zeros[g][row : row + 8]])
            for g in range(four.groups)
            for row in range(0, rows, 8)
        ]
    )
    tensors = {
        "qweight": ("I32", [cols // 8, rows], data),
        "qzeros": ("I32", [four.groups, rows // 8], zeros),
        "scales": four.scales_by_group(),
        "g_idx": ("I32", [cols], words(four.of)),
    }
    return tensors, four.exact()


def awq(rows, cols, values, group=32):
    four = Four(rows, cols, values, group, False)
    data = words(
        [
            nibbles([four.quanta[row + k][i] for k in range(8)], AWQ_ORDER)
            for i in range(cols)
            for row in range(0, rows, 8)
        ]
    )
    zeros = words(
        [
            nibbles(four.zeros[g][row : row + 8], AWQ_ORDER)
            for g in range(four.groups)
            for row in range(0, rows, 8)
        ]
    )
    tensors = {
        "qweight": ("I32", [cols, rows // 8], data),
        "qzeros": ("I32", [four.groups, rows // 8], zeros),
        "scales": four.scales_by_group(),
    }
    return tensors, four.exact()


def pack_quantized(rows, cols, values, group=32, symmetric=True, scale_type="BF16", g_idx=False):
    """compressed-tensors stores q and the zero point plus 8, both as they are here."""
    order = None
    if g_idx:
        order = [i // group for i in range(cols)]
        random.Random(rows).shuffle(order)
    four = Four(rows, cols, values, group, symmetric, order)
    if scale_type == "BF16":  # scales of few bits are the same in both types
        four.scales = [[struct_bf16(s) for s in line] for line in four.scales]
    data = words(
        [nibbles(line[i : i + 8]) for line in four.quanta for i in range(0, cols, 8)]
    )
    scales = [four.scales[g][row] for row in range(rows) for g in range(four.groups)]
    stored = bf16s(scales) if scale_type == "BF16" else halves(scales)
    tensors = {
        "weight_packed": ("I32", [rows, cols // 8], data),
        "weight_scale": (scale_type, [rows, four.groups], stored),
        "weight_shape": ("I64", [2], struct.pack("<2q", rows, cols)),
    }
    if not symmetric:
        zeros = words(
            [
                nibbles(four.zeros[g][row : row + 8])
                for row in range(0, rows, 8)
                for g in range(four.groups)
            ]
        )
        tensors["weight_zero_point"] = ("I32", [-(-rows // 8), four.groups], zeros)
    if g_idx:
        tensors["weight_g_idx"] = ("I32", [cols], words(four.of))
    return tensors, four.exact()


def struct_bf16(x):
    """Cut to BF16."""
    word = struct.unpack("<I", struct.pack("<f", x))[0] & 0xFFFF0000
    return struct.unpack("<f", struct.pack("<I", word))[0]


def bf16s(numbers):
    return b"".join(struct.pack("<f", x)[2:] for x in numbers)


def int8(rows, cols, values, per_tensor=False):
    quanta, exact, scales = array.array("b"), array.array("f"), []
    most = max(abs(v) for v in values)
    for row in range(rows):
        line = values[row * cols : (row + 1) * cols]
        scale = half((most if per_tensor else max(abs(v) for v in line)) / 127 or 2**-10)
        scales.append(scale)
        for v in line:
            q = max(-128, min(127, round(v / scale)))
            quanta.append(q)
            exact.append(q * scale)
    scales = scales[:1] if per_tensor else scales
    shape = [1] if per_tensor else [rows, 1]
    tensors = {
        "weight": ("I8", [rows, cols], quanta.tobytes()),
        "weight_scale": ("F16", shape, halves(scales)),
    }
    return tensors, exact


def e4m3_value(code):
    exponent, mantissa = code >> 3 & 15, code & 7
    return mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)


E4M3 = [e4m3_value(code) for code in range(127)]


def e4m3(x):
    """The code of the nearest value."""
    at = min(126, bisect.bisect_left(E4M3, abs(x)))
    if at > 0 and abs(x) - E4M3[at - 1] < E4M3[at] - abs(x):
        at -= 1
    return at | (128 if x < 0 else 0)


def fp8(rows, cols, values, block=None, per_tensor=False, suffix="weight_scale_inv"):
    """A scale for each row, for all, or for each block of (rows, cols)."""
    height, width = block or (rows if per_tensor else 1, cols)
    down, across = -(-rows // height), -(-cols // width)
    scales = array.array("f")
    for r in range(down):
        for c in range(across):
            most = max(
                abs(values[row * cols + i])
                for row in range(r * height, min(rows, (r + 1) * height))
                for i in range(c * width, min(cols, (c + 1) * width))
            )
            scales.append(most / 448 or 2**-10)
    codes, exact = bytearray(), array.array("f")
    for row in range(rows):
        for i in range(cols):
            scale = scales[row // height * across + i // width]
            code = e4m3(values[row * cols + i] / scale)
            codes.append(code)
            exact.append((-1 if code & 128 else 1) * E4M3[code & 127] * scale)
    tensors = {"weight": ("F8_E4M3", [rows, cols], bytes(codes))}
    if block:
        tensors[suffix] = ("F32", [down, across], scales.tobytes())
    else:
        shape = [] if per_tensor else [rows, 1]
        tensors["weight_scale"] = ("F32", shape, scales.tobytes())
        tensors["input_scale"] = ("F32", [], struct.pack("<f", 0.5))
    return tensors, exact
