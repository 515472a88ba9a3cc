#!/usr/bin/env python3
"""batch.py: record batches that no client would make.

usage: batch.py produce PORT TOPIC json FIRST COUNT
       batch.py produce PORT TOPIC CODEC VALUE_BYTES [KEY_BYTES [HEADERS]]
       batch.py damage SEGMENT crc|codec|short|count

produce sends one record batch to partition 0 with a raw Produce request: COUNT records
{"i": FIRST}, … or one record with a value of VALUE_BYTES spaces, packed by CODEC (none,
gzip, snappy, lz4, zstd).  It is built piecewise, so a gigabyte takes no memory.  Prints the
size of the batch.

damage changes the last batch of a log segment, which a broker serves as it is:
  crc     a byte of the records; the checksum is not mended
  codec   the codec's number is that of another one
  short   the records end in the middle, as zeros
  count   it claims a million records
In all but crc the checksum is right again.
"""
import socket
import struct
import subprocess
import sys
import zlib

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
PIECE = b" " * (1 << 20)


def crc32c(data):
    if not hasattr(crc32c, "table"):
        crc32c.table = []
        for n in range(256):
            for _ in range(8):
                n = (n >> 1) ^ 0x82F63B78 if n & 1 else n >> 1
            crc32c.table.append(n)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ crc32c.table[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def varint(n):
    n = (n << 1) ^ (n >> 63)
    out = bytearray()
    while n & ~127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def record_parts(offset, key_len, value_len, value, headers):
    """The bytes of one record, in pieces."""
    tail = varint(headers) + b"".join(varint(2) + b"hh" + varint(3) + b"val" for _ in range(headers))
    head = b"\0" + varint(0) + varint(offset)
    head += varint(-1) if key_len < 0 else varint(key_len)
    length = len(head) + max(key_len, 0) + len(varint(value_len)) + value_len + len(tail)
    yield varint(length) + head
    if key_len > 0:
        yield b"k" * key_len
    yield varint(value_len)
    if value is not None:
        yield value
    else:
        for left in range(value_len, 0, -len(PIECE)):
            yield PIECE[:min(left, len(PIECE))]
    yield tail


def snappy(parts):
    """Raw snappy of long runs: a literal, then copies of 64 bytes from 1 back."""
    data = b"".join(parts)
    out = bytearray()
    n = len(data)
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    i = 0
    while i < len(data):
        run = 1
        while run < 65 and i + run < len(data) and data[i + run] == data[i]:
            run += 1
        if run > 8:
            out += bytes([0, data[i]])
            left = run - 1
            while left:
                k = min(left, 64)
                out += bytes([(k - 1) << 2 | 2]) + struct.pack("<H", 1)
                left -= k
            i += run
        else:
            out += bytes([0, data[i]])
            i += 1
    return bytes(out)


def pack(codec, parts):
    if codec == "none":
        return b"".join(parts)
    if codec == "gzip":
        z = zlib.compressobj(9, zlib.DEFLATED, 31)
        return b"".join(z.compress(p) for p in parts) + z.flush()
    if codec == "snappy":
        return snappy(parts)
    command = {"lz4": ["lz4", "-9", "-B4", "-BI", "--no-frame-crc", "-c"], "zstd": ["zstd", "-q", "-1", "-c"]}[codec]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        import threading
        out = []
        reader = threading.Thread(target=lambda: out.append(p.stdout.read()))
        reader.start()
        for part in parts:
            p.stdin.write(part)
        p.stdin.close()
        reader.join()
    return out[0]


def batch(codec, count, parts):
    body = struct.pack(">hiqqqhii", CODECS[codec], count - 1, 1700000000000, 1700000000000, -1, -1, -1, count) + pack(codec, parts)
    return struct.pack(">qiibI", 0, len(body) + 9, 0, 2, crc32c(body)) + body


def text(s):
    return struct.pack(">h", len(s)) + s.encode()


def produce(port, topic, records):
    body = struct.pack(">hhi", 0, 3, 1) + text("batch.py")
    body += struct.pack(">hhii", -1, -1, 60000, 1) + text(topic) + struct.pack(">iii", 1, 0, len(records)) + records
    with socket.create_connection(("127.0.0.1", port), 60) as s:
        s.sendall(struct.pack(">i", len(body)) + body)
        answer = b""
        while len(answer) < 4 or len(answer) < 4 + struct.unpack(">i", answer[:4])[0]:
            piece = s.recv(65536)
            if not piece:
                sys.exit("the broker closed the connection")
            answer += piece
    at = 4 + 4 + 4 + 2 + len(topic) + 4
    _, error, offset = struct.unpack(">ihq", answer[at:at + 14])
    if error != 0:
        sys.exit(f"the broker says {error}")
    print(len(records), offset)


def damage(path, how):
    with open(path, "r+b") as f:
        data = f.read()
        at = last = 0
        while at + 12 <= len(data) and struct.unpack(">i", data[at + 8:at + 12])[0] > 0:
            last = at
            at += 12 + struct.unpack(">i", data[at + 8:at + 12])[0]
        one = bytearray(data[last:at])
        records = 61
        if how == "crc":
            one[records + 5] ^= 255
        elif how == "codec":
            one[22] = 4 if one[22] & 7 != 4 else 1
        elif how == "short":
            half = records + (len(one) - records) // 2
            one[half:] = bytes(len(one) - half)
        elif how == "count":
            one[57:61] = struct.pack(">i", 1000000)
            one[23:27] = struct.pack(">i", 999999)
        if how != "crc":
            one[17:21] = struct.pack(">I", crc32c(one[21:]))
        f.seek(last)
        f.write(one)


def main(args):
    if args[0] == "damage":
        damage(args[1], args[2])
        return
    port, topic, codec = int(args[1]), args[2], args[3]
    if codec == "json":
        first, count = int(args[4]), int(args[5])
        parts = []
        for n in range(count):
            value = b'{"i": %d}' % (first + n)
            parts += record_parts(n, -1, len(value), value, 0)
        produce(port, topic, batch("none", count, parts))
    else:
        key_len = int(args[5]) if len(args) > 5 else -1
        headers = int(args[6]) if len(args) > 6 else 0
        produce(port, topic, batch(codec, 1, record_parts(0, key_len, int(args[4]), None, headers)))


main(sys.argv[1:])
