"""gguf.py - GGUF files for tests: one read whole, changed and written again.

Keys and tensors keep their order.  Format: the GGUF specification, version 3, little-endian;
only what fixtures have: F32 data is changed, other types are carried as bytes.
"""
import array
import struct

STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?"}
SCALARS |= {10: "Q", 11: "q", 12: "d"}
U32, F32, BOOL = 4, 6, 7
TENSOR_F32 = 0
ALIGNMENT = 32


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values[0]

    def string(self):
        count = self.take("Q")
        self.at += count
        return self.data[self.at - count : self.at]

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            inner, count = self.take("I"), self.take("Q")
            return inner, [self.value(inner) for _ in range(count)]
        return self.take(SCALARS[kind])


class Gguf:
    """keys: name -> (type, value); tensors: name -> [dims innermost first, type, bytes]."""

    def __init__(self, path=None):
        self.keys, self.tensors = {}, {}
        if path is not None:
            self._read(path)

    def _read(self, path):
        with open(path, "rb") as file:
            r = Reader(file.read())
        assert r.take("4s") == b"GGUF" and r.take("I") == 3
        tensors, keys = r.take("Q"), r.take("Q")
        for _ in range(keys):
            name = r.string().decode()
            kind = r.take("I")
            self.keys[name] = (kind, r.value(kind))
        places = []
        for _ in range(tensors):
            name = r.string().decode()
            dims = [r.take("Q") for _ in range(r.take("I"))]
            places.append((name, dims, r.take("I"), r.take("Q")))
        start = -(-r.at // ALIGNMENT) * ALIGNMENT
        ends = sorted(offset for _, _, _, offset in places) + [len(r.data) - start]
        for name, dims, kind, offset in places:
            end = ends[ends.index(offset) + 1]
            self.tensors[name] = [dims, kind, r.data[start + offset : start + end]]

    def text(self, key):
        return self.keys[key][1].decode()

    def rename_architecture(self, name):
        """Another architecture with the same keys, each below the new name."""
        old = self.text("general.architecture") + "."
        self.keys = {
            f"{name}.{key.removeprefix(old)}" if key.startswith(old) else key: value
            for key, value in self.keys.items()
        }
        self.keys["general.architecture"] = (STRING, name.encode())

    def add_f32(self, name, dims, values):
        self.tensors[name] = [list(dims), TENSOR_F32, array.array("f", values).tobytes()]

    def f32(self, name):
        dims, kind, data = self.tensors[name]
        assert kind == TENSOR_F32
        count = 1
        for dim in dims:
            count *= dim
        return array.array("f", data[: count * 4])

    def write(self, path):
        head = b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.keys))
        for name, (kind, value) in self.keys.items():
            head += packed_string(name.encode()) + struct.pack("<I", kind) + packed(kind, value)
        body = b""
        for name, (dims, kind, data) in self.tensors.items():
            head += packed_string(name.encode()) + struct.pack("<I", len(dims))
            head += struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, len(body))
            body += data + bytes(-len(data) % ALIGNMENT)
        with open(path, "wb") as file:
            file.write(head + bytes(-len(head) % ALIGNMENT) + body)
        return path


def packed_string(text):
    return struct.pack("<Q", len(text)) + text


def packed(kind, value):
    if kind == STRING:
        return packed_string(value)
    if kind == ARRAY:
        inner, values = value
        head = struct.pack("<IQ", inner, len(values))
        return head + b"".join(packed(inner, v) for v in values)
    return struct.pack("<" + SCALARS[kind], value)
