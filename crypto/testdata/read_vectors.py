#!/usr/bin/env python3
"""Open every vector of vectors.json, and see every negative one refused.

This is a second reader of reseal's format 1, written from docs/format.md
alone. It needs nothing but Python's standard library, is slow, takes no care
of timing, and is for checking the format only. Exit status 0 means that
everything was as it should be.

usage: python3 read_vectors.py [--all] [vectors.json]

Without --all it leaves out what takes it more than a second or two, and says so.
"""

import hashlib
import hmac
import json
import pathlib
import re
import struct
import sys
import time

# --- XChaCha20-Poly1305: RFC 8439 and draft-irtf-cfrg-xchacha-03 -------------

M32 = 0xFFFFFFFF


def rotl(x, n):
    return (x << n | x >> 32 - n) & M32


def quarter(s, a, b, c, d):
    s[a] = s[a] + s[b] & M32
    s[d] = rotl(s[d] ^ s[a], 16)
    s[c] = s[c] + s[d] & M32
    s[b] = rotl(s[b] ^ s[c], 12)
    s[a] = s[a] + s[b] & M32
    s[d] = rotl(s[d] ^ s[a], 8)
    s[c] = s[c] + s[d] & M32
    s[b] = rotl(s[b] ^ s[c], 7)


def chacha_rounds(state):
    s = list(state)
    for _ in range(10):
        for i in range(4):
            quarter(s, i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return s


SIGMA = struct.unpack("<4I", b"expand 32-byte k")


def chacha20_block(key, counter, nonce):
    state = SIGMA + struct.unpack("<8I", key) + (counter,) + struct.unpack("<3I", nonce)
    mixed = chacha_rounds(state)
    return struct.pack("<16I", *((a + b) & M32 for a, b in zip(state, mixed)))


def hchacha20(key, nonce16):
    s = chacha_rounds(SIGMA + struct.unpack("<8I", key) + struct.unpack("<4I", nonce16))
    return struct.pack("<8I", *(s[:4] + s[12:]))


def xor(a, b):
    n = len(a)
    return (int.from_bytes(a, "little") ^ int.from_bytes(b[:n], "little")).to_bytes(n, "little")


def chacha20(key, nonce, data):
    blocks = (len(data) + 63) // 64
    stream = b"".join(chacha20_block(key, 1 + i, nonce) for i in range(blocks))
    return xor(data, stream)


def poly1305(key, message):
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    s = int.from_bytes(key[16:], "little")
    p, h = (1 << 130) - 5, 0
    for i in range(0, len(message), 16):
        h = (h + int.from_bytes(message[i:i + 16] + b"\x01", "little")) * r % p
    return ((h + s) & (1 << 128) - 1).to_bytes(16, "little")


def aead_tag(key, nonce, ciphertext, ad):
    pad = lambda b: b + bytes(-len(b) % 16)
    lengths = struct.pack("<QQ", len(ad), len(ciphertext))
    return poly1305(chacha20_block(key, 0, nonce)[:32], pad(ad) + pad(ciphertext) + lengths)


def xchacha_key(key, nonce):
    return hchacha20(key, nonce[:16]), bytes(4) + nonce[16:]


def aead_seal(key, nonce, plaintext, ad):
    key, nonce = xchacha_key(key, nonce)
    ciphertext = chacha20(key, nonce, plaintext)
    return ciphertext + aead_tag(key, nonce, ciphertext, ad)


def aead_open(key, nonce, sealed, ad):
    """Return the plaintext, or None."""
    key, nonce = xchacha_key(key, nonce)
    ciphertext, tag = sealed[:-16], sealed[-16:]
    if not hmac.compare_digest(tag, aead_tag(key, nonce, ciphertext, ad)):
        return None
    return chacha20(key, nonce, ciphertext)


# --- Argon2id: RFC 9106 ------------------------------------------------------

M64 = (1 << 64) - 1


def blake2b_long(data, size):
    """H' of RFC 9106, section 3.3."""
    data = struct.pack("<I", size) + data
    if size <= 64:
        return hashlib.blake2b(data, digest_size=size).digest()
    v, out = hashlib.blake2b(data).digest(), b""
    while size - len(out) > 64:
        out += v[:32]
        left = size - len(out)
        v = hashlib.blake2b(v, digest_size=min(left, 64)).digest()
    return out + v


def mix(v, a, b, c, d):
    for x, y, z, n in ((a, b, d, 32), (c, d, b, 24), (a, b, d, 16), (c, d, b, 63)):
        v[x] = v[x] + v[y] + 2 * (v[x] & M32) * (v[y] & M32) & M64
        w = v[z] ^ v[x]
        v[z] = (w >> n | w << 64 - n) & M64


def permute(block, idx):
    v = [block[i] for i in idx]
    for i in range(4):
        mix(v, i, 4 + i, 8 + i, 12 + i)
    for i in range(4):
        mix(v, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    for i, w in zip(idx, v):
        block[i] = w


ROWS = [list(range(16 * i, 16 * i + 16)) for i in range(8)]
COLUMNS = [[16 * r + 2 * c + k for r in range(8) for k in (0, 1)] for c in range(8)]


def compress(x, y):
    """G of RFC 9106, section 3.5, on blocks of 128 words."""
    r = [a ^ b for a, b in zip(x, y)]
    q = list(r)
    for idx in ROWS + COLUMNS:
        permute(q, idx)
    return [a ^ b for a, b in zip(q, r)]


def addresses(pass_, lane, slice_, blocks, passes, segment):
    """The pseudorandom words of a segment that does not depend on data."""
    words, counter = [], 0
    while len(words) < segment:
        counter += 1
        z = [pass_, lane, slice_, blocks, passes, 2, counter] + [0] * 121
        words += compress([0] * 128, compress([0] * 128, z))
    return words


def argon2id(password, salt, passes, memory, lanes, size):
    le = lambda n: struct.pack("<I", n)
    h0 = hashlib.blake2b(
        le(lanes) + le(size) + le(memory) + le(passes) + le(0x13) + le(2)
        + le(len(password)) + password + le(len(salt)) + salt + le(0) + le(0)).digest()
    segment = memory // (4 * lanes)
    width = 4 * segment
    words = lambda b: list(struct.unpack("<128Q", b))
    mem = [[None] * width for _ in range(lanes)]
    for lane in range(lanes):
        for i in (0, 1):
            mem[lane][i] = words(blake2b_long(h0 + le(i) + le(lane), 1024))
    for pass_ in range(passes):
        for slice_ in range(4):
            for lane in range(lanes):
                fill_segment(mem, pass_, slice_, lane, passes, lanes, segment)
    last = mem[0][-1]
    for lane in mem[1:]:
        last = [a ^ b for a, b in zip(last, lane[-1])]
    return blake2b_long(struct.pack("<128Q", *last), size)


def fill_segment(mem, pass_, slice_, lane, passes, lanes, segment):
    width = 4 * segment
    independent = pass_ == 0 and slice_ < 2
    if independent:
        pseudo = addresses(pass_, lane, slice_, lanes * width, passes, segment)
    for i in range(2 if pass_ == 0 and slice_ == 0 else 0, segment):
        at = slice_ * segment + i
        before = mem[lane][at - 1]
        j = pseudo[i] if independent else before[0]
        j1, ref_lane = j & M32, (j >> 32) % lanes
        if pass_ == 0 and slice_ == 0:
            ref_lane = lane
        ref = reference(j1, pass_, slice_, i, ref_lane == lane, segment)
        new = compress(before, mem[ref_lane][ref])
        if pass_:
            new = [a ^ b for a, b in zip(new, mem[lane][at])]
        mem[lane][at] = new


def reference(j1, pass_, slice_, i, same_lane, segment):
    """The column that a block refers to: RFC 9106, section 3.4.2."""
    finished = slice_ * segment if pass_ == 0 else 3 * segment
    if same_lane:
        area = finished + i - 1
    else:
        area = finished - (1 if i == 0 else 0)
    z = area - 1 - (area * (j1 * j1 >> 32) >> 32)
    start = 0 if pass_ == 0 else (slice_ + 1) % 4 * segment
    return (start + z) % (4 * segment)


# --- format 1 ----------------------------------------------------------------


class Refused(Exception):
    """Says which of the errors of docs/format.md it is."""


def record(fields):
    return struct.pack(">I", len(fields)) + b"".join(struct.pack(">I", len(f)) + f for f in fields)


def expand(key, info):
    first = hmac.digest(key, info + b"\x01", "sha256")
    return first, hmac.digest(key, first + info + b"\x02", "sha256")


HEADER = b"RS1\x01"


def derive(key, nonce, context):
    if len(key) != 32:
        raise Refused("key-length")
    return expand(key, b"reseal/v1/envelope\x00" + HEADER + nonce + context)


def seal(key, nonce, plaintext, context):
    sealing, commitment = derive(key, nonce, context)
    prelude = HEADER + nonce + commitment
    return prelude + aead_seal(sealing, nonce, plaintext, prelude)


def open_(key, envelope, context):
    if len(key) != 32:
        raise Refused("key-length")
    if len(envelope) < 76 or envelope[:4] != HEADER:
        raise Refused("format")
    nonce = envelope[4:28]
    sealing, commitment = derive(key, nonce, context)
    if not hmac.compare_digest(commitment, envelope[28:60]):
        raise Refused("wrong-key-or-context")
    plaintext = aead_open(sealing, nonce, envelope[60:], envelope[:60])
    if plaintext is None:
        raise Refused("damaged")
    return plaintext


def unwrap(key, envelope, context):
    if len(key) == 32 and len(envelope) != 108:
        raise Refused("format")
    return open_(key, envelope, context)


def check_kdf(time_, memory, threads, salt):
    if not (1 <= time_ <= 64 and 1 <= threads <= 64 and 8 * threads <= memory <= 1 << 21
            and time_ * memory <= 1 << 24 and len(salt) == 16):
        raise Refused("kdf")


def parse_key_file(text):
    data = text.encode()
    lines = [line.strip(b" \t\r") for line in data.split(b"\n")]
    lines = [line for line in lines if line and not line.startswith(b"#")]
    if len(data) > 4096 or len(lines) != 1:
        raise Refused("key-file")
    m = re.fullmatch(rb"reseal-key-v1:([0-9a-fA-F]{64}):([0-9a-fA-F]{8})", lines[0])
    if not m:
        raise Refused("key-file")
    key, check = bytes.fromhex(m[1].decode()), bytes.fromhex(m[2].decode())
    if hashlib.sha256(key).digest()[:4] != check:
        raise Refused("key-file")
    return key


# --- the vectors -------------------------------------------------------------


def generated(n):
    blocks = (hashlib.sha256(struct.pack(">Q", i)).digest() for i in range((n + 31) // 32))
    return b"".join(blocks)[:n]


def field(f):
    [(kind, value)] = f.items()
    if kind == "text":
        return value.encode()
    if kind == "number":
        return struct.pack(">Q", int(value))
    raw = bytes.fromhex(value)
    if kind == "id":
        expect("length of an id", 16, len(raw))
    return raw


class Mismatch(Exception):
    pass


def expect(what, want, got):
    if want != got:
        raise Mismatch(f"{what}: got {got!r}, want {want!r}")


def member(v, name):
    return bytes.fromhex(v.get(name, ""))


def check_envelope(v, _):
    key, context, nonce = member(v, "key"), member(v, "context"), member(v, "nonce")
    expect("context", context, record([field(f) for f in v["fields"]]))
    if "generated" in v:
        plaintext = generated(v["generated"])
        envelope = seal(key, nonce, plaintext, context)
        expect("SHA-256", member(v, "sha256"), hashlib.sha256(envelope).digest())
    else:
        plaintext, envelope = member(v, "plaintext"), member(v, "envelope")
        expect("sealed again", envelope, seal(key, nonce, plaintext, context))
    expect("opened", plaintext, open_(key, envelope, context))


def check_key_file(v, _):
    expect("key", member(v, "key"), parse_key_file(v["text"]))


def check_kdf_vector(v, everything):
    k = v["kdf"]
    passphrase, salt = member(v, "passphrase"), member(k, "salt")
    check_kdf(k["time"], k["memory"], k["threads"], salt)
    parameters = (passphrase, salt, k["time"], k["memory"], k["threads"])
    if k["memory"] <= 1024 or everything:
        got = argon2id(*parameters, 32)
    else:
        got = packaged_argon2id(*parameters)
        if got is None:
            return "a minute without argon2-cffi (Debian: python3-argon2), give --all"
    expect("key", member(v, "key"), got)


def packaged_argon2id(passphrase, salt, passes, memory, lanes):
    try:
        from argon2.low_level import Type, hash_secret_raw
    except ImportError:
        return None
    return hash_secret_raw(passphrase, salt, passes, memory, lanes, 32, Type.ID)


def check_accumulated(v, everything):
    if v["count"] > 1000 and not everything:
        return f"{v['count']} envelopes, give --all"
    digest = hashlib.sha256()
    for i in range(v["count"]):
        seed = b"reseal/v1/accumulated" + struct.pack(">Q", i)
        x = hashlib.shake_128(seed).digest(60 + 1024 + 256)
        p, c = struct.unpack(">HH", x[56:60])
        p, c = p % 1025, c % 257
        digest.update(seal(x[:32], x[32:56], x[60:60 + p], x[60 + p:60 + p + c]))
    expect("SHA-256", member(v, "sha256"), digest.digest())


def check_tag(v, _):
    content = record([field(f) for f in v["fields"]])
    expect("record", member(v, "record"), content)
    expect("tag", member(v, "tag"), hmac.digest(member(v, "key"), content, "sha256"))


def check_negative(v, _):
    key, context, envelope = member(v, "key"), member(v, "context"), member(v, "envelope")
    try:
        if v["kind"] == "kdf":
            k = v["kdf"]
            check_kdf(k["time"], k["memory"], k["threads"], member(k, "salt"))
        elif v["kind"] == "key-file":
            parse_key_file(v.get("text", ""))
        elif v["kind"] == "wrap":
            unwrap(key, envelope, context)
        else:
            open_(key, envelope, context)
    except Refused as refused:
        expect("refused with", v["expect"], str(refused))
    else:
        raise Mismatch(f"accepted, want {v['expect']}")


def check_primitives(*_):
    """The published vectors of what this reader is made of."""
    key = bytes(range(0x80, 0xA0))
    nonce = bytes(range(0x40, 0x58))
    ad = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    text = (b"Ladies and Gentlemen of the class of '99: If I could offer you "
            b"only one tip for the future, sunscreen would be it.")
    sealed = aead_seal(key, nonce, text, ad)  # draft-irtf-cfrg-xchacha-03, A.3.1
    expect("XChaCha20-Poly1305 tag", "c0875924c1c7987947deafd8780acf49", sealed[-16:].hex())
    expect("XChaCha20-Poly1305 opened", text, aead_open(key, nonce, sealed, ad))
    okm = b"".join(expand(hmac.digest(bytes(range(13)), b"\x0b" * 22, "sha256"), bytes(range(0xF0, 0xFA))))
    expect("HKDF", "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
           okm[:42].hex())  # RFC 5869, A.1


CHECKS = (
    ("envelopes", check_envelope),
    ("key_files", check_key_file),
    ("kdfs", check_kdf_vector),
    ("accumulated", check_accumulated),
    ("tags", check_tag),
    ("negative", check_negative),
)


def main(path, everything):
    start = time.monotonic()
    vectors = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    vectors["primitives"] = [{"name": "published vectors"}]
    failed = 0
    for part, check in (("primitives", check_primitives),) + CHECKS:
        good = skipped = 0
        for i, v in enumerate(vectors[part]):
            name = f"{part} {i} ({v.get('name', '')})"
            try:
                why = check(v, everything)
            except (Mismatch, Refused, ValueError, KeyError, struct.error) as e:
                print(f"FAIL {name}: {type(e).__name__}: {e}")
                failed += 1
                continue
            if why:
                print(f"NOT CHECKED {name}: {why}")
                skipped += 1
            else:
                good += 1
        print(f"{part}: {good} good" + (f", {skipped} not checked" if skipped else ""))
        if good == 0:
            print(f"FAIL {part}: nothing was checked")
            failed += 1
    print(f"{failed} failed, {time.monotonic() - start:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    here = pathlib.Path(__file__).resolve().parent
    paths = [a for a in sys.argv[1:] if a != "--all"] or [here / "vectors.json"]
    sys.exit(main(paths[0], "--all" in sys.argv[1:]))
