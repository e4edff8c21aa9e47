// CRC-64/XZ, the checksum of x-cos-hash-crc64ecma. Numbers of 64 bits are slow in JavaScript, so the register is kept as
// two halves of 32, and eight bytes go in at a time through eight tables.
const POLY = 0xC96C5795D7870F42n;
const MASK = 0xFFFFFFFFn;

const LO = new Int32Array(8 * 256);
const HI = new Int32Array(8 * 256);
for (let byte = 0; byte < 256; byte++) {
    let crc = BigInt(byte);
    for (let bit = 0; bit < 8; bit++)
        crc = crc & 1n ? (crc >> 1n) ^ POLY : crc >> 1n;
    LO[byte] = Number(crc & MASK) | 0;
    HI[byte] = Number(crc >> 32n) | 0;
}
for (let i = 256; i < 8 * 256; i++) {
    // Table k+1 is table k moved on by one more zero byte.
    const lo = LO[i - 256], hi = HI[i - 256], b = lo & 255;
    LO[i] = ((lo >>> 8) | (hi << 24)) ^ LO[b];
    HI[i] = (hi >>> 8) ^ HI[b];
}

export class Crc64 {
    constructor() {
        this.lo = -1;
        this.hi = -1;
        this.length = 0;
    }
    update(data) {
        let lo = this.lo, hi = this.hi, i = 0;
        const end = data.length, whole = end - (end % 8);
        for (; i < whole; i += 8) {
            lo ^= data[i] | (data[i + 1] << 8) | (data[i + 2] << 16) | (data[i + 3] << 24);
            hi ^= data[i + 4] | (data[i + 5] << 8) | (data[i + 6] << 16) | (data[i + 7] << 24);
            const a = 1792 + (lo & 255), b = 1536 + ((lo >>> 8) & 255), c = 1280 + ((lo >>> 16) & 255), d = 1024 + (lo >>> 24);
            const e = 768 + (hi & 255), f = 512 + ((hi >>> 8) & 255), g = 256 + ((hi >>> 16) & 255), h = hi >>> 24;
            lo = LO[a] ^ LO[b] ^ LO[c] ^ LO[d] ^ LO[e] ^ LO[f] ^ LO[g] ^ LO[h];
            hi = HI[a] ^ HI[b] ^ HI[c] ^ HI[d] ^ HI[e] ^ HI[f] ^ HI[g] ^ HI[h];
        }
        for (; i < end; i++) {
            const b = (lo ^ data[i]) & 255;
            lo = ((lo >>> 8) | (hi << 24)) ^ LO[b];
            hi = (hi >>> 8) ^ HI[b];
        }
        this.lo = lo;
        this.hi = hi;
        this.length += end;
        return this;
    }
    value() {
        return (BigInt(~this.hi >>> 0) << 32n) | BigInt(~this.lo >>> 0);
    }
}

// Product of two polynomials modulo POLY; the highest bit is the coefficient of x^0.
function multiply(a, b) {
    let product = 0n;
    for (let bit = 1n << 63n; bit; bit >>= 1n) {
        if (a & bit)
            product ^= b;
        b = b & 1n ? (b >> 1n) ^ POLY : b >> 1n;
    }
    return product;
}

const shifts = new Map();

function shiftBy(length) {
    let power = shifts.get(length);
    if (power === undefined) {
        power = 1n << 63n;
        let square = 1n << 55n;   // x^8: one byte
        for (let n = length; n > 0; n = Math.floor(n / 2)) {
            if (n % 2)
                power = multiply(square, power);
            square = multiply(square, square);
        }
        if (shifts.size > 1000)
            shifts.clear();
        shifts.set(length, power);
    }
    return power;
}

// The checksum of A followed by B, from theirs and the length of B.
export const combine = (crcA, crcB, lengthB) => multiply(shiftBy(lengthB), crcA) ^ crcB;
