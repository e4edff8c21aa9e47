// Buckets, objects and bodies. Keys are kept as byte strings (one character a byte of UTF-8), because JavaScript's own
// order of such strings is the order of listings, and that of its ordinary ones is not.
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { Crc64, combine } from './crc64.mjs';

export const toBytes = text => Buffer.from(text, 'utf8').toString('latin1');
export const toText = key => Buffer.from(key, 'latin1').toString('utf8');

let spillDir = '';
let spilled = 0;
const SPILL_BYTES = 1048576;
const READ_BYTES = 262144;

export function useDirectory(dir) {
    fs.rmSync(dir, { recursive: true, force: true });
    fs.mkdirSync(dir, { recursive: true });
    spillDir = dir;
}

// Bytes on disk, shared by every body which holds a piece of them.
class SpillFile {
    constructor() {
        this.path = path.join(spillDir, `body-${++spilled}`);
        this.fd = fs.openSync(this.path, 'wx+');
        this.users = 1;
    }
    drop() {
        if (--this.users === 0) {
            fs.closeSync(this.fd);
            this.fd = -1;
            fs.unlinkSync(this.path);
        }
    }
}

// An immutable string of bytes: pieces of memory and of spill files. Whoever keeps one calls keep() and, in the end, drop().
export class Body {
    constructor(pieces = []) {
        this.pieces = pieces;
        this.size = pieces.reduce((sum, p) => sum + p.length, 0);
    }
    static of(buffer) {
        const writer = new BodyWriter();
        writer.write(buffer);
        return writer.end();
    }
    static concat(bodies) {
        return new Body(bodies.flatMap(b => b.pieces)).keep();
    }
    slice(from, to) {
        const pieces = [];
        let at = 0;
        for (const p of this.pieces) {
            const start = Math.max(from, at), end = Math.min(to, at + p.length);
            if (start < end)
                pieces.push({ ...p, offset: p.offset + start - at, length: end - start });
            at += p.length;
        }
        return new Body(pieces).keep();
    }
    keep() {
        for (const p of this.pieces)
            if (p.file)
                p.file.users++;
        return this;
    }
    drop() {
        for (const p of this.pieces)
            p.file?.drop();
        this.pieces = [];
    }
    async *read() {
        for (const p of this.pieces) {
            if (p.memory) {
                yield p.memory.subarray(p.offset, p.offset + p.length);
                continue;
            }
            for (let done = 0; done < p.length;) {
                const want = Math.min(READ_BYTES, p.length - done);
                const buffer = Buffer.allocUnsafe(want);
                const got = await new Promise((resolve, reject) => fs.read(p.file.fd, buffer, 0, want, p.offset + done,
                    (err, n) => err ? reject(err) : resolve(n)));
                if (got === 0)
                    throw new Error('spill file is short');
                done += got;
                yield buffer.subarray(0, got);
            }
        }
    }
    async digest() {
        const md5 = crypto.createHash('md5'), crc = new Crc64();
        for await (const part of this.read()) {
            md5.update(part);
            crc.update(part);
        }
        return { md5: md5.digest('hex'), crc64: crc.value() };
    }
}

// Takes a body as it arrives; small ones stay in memory.
export class BodyWriter {
    constructor() {
        this.parts = [];
        this.size = 0;
        this.file = null;
        this.md5 = crypto.createHash('md5');
        this.crc = new Crc64();
    }
    write(part) {
        this.md5.update(part);
        this.crc.update(part);
        this.size += part.length;
        if (!this.file && this.size > SPILL_BYTES) {
            this.file = new SpillFile();
            for (const p of this.parts)
                fs.writeSync(this.file.fd, p);
            this.parts = [];
        }
        if (!this.file)
            this.parts.push(part);
        else
            for (let done = 0; done < part.length;)
                done += fs.writeSync(this.file.fd, part, done);
    }
    abandon() {
        this.file?.drop();
        this.file = null;
    }
    end() {
        const pieces = this.size === 0 ? [] : this.file ? [{ file: this.file, offset: 0, length: this.size }]
            : [{ memory: Buffer.concat(this.parts), offset: 0, length: this.size }];
        const body = new Body(pieces);
        body.md5 = this.md5.digest('hex');
        body.crc64 = this.crc.value();
        return body;
    }
}

// First index whose key is not less than `key`.
function lowerBound(keys, key) {
    let low = 0, high = keys.length;
    while (low < high) {
        const middle = (low + high) >>> 1;
        if (keys[middle] < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

export class Bucket {
    constructor(name, region) {
        this.name = name;
        this.region = region;
        this.created = Date.now();
        this.objects = new Map();
        this.keys = [];
        this.uploads = new Map();
    }
    put(key, object) {
        const old = this.objects.get(key);
        if (old)
            old.body.drop();
        else
            this.keys.splice(lowerBound(this.keys, key), 0, key);
        this.objects.set(key, object);
    }
    remove(key) {
        const old = this.objects.get(key);
        if (!old)
            return false;
        old.body.drop();
        this.objects.delete(key);
        this.keys.splice(lowerBound(this.keys, key), 1);
        return true;
    }
    list(prefix, delimiter, marker, max) {
        const keys = [], prefixes = [];
        let last = '';
        let i = lowerBound(this.keys, prefix > marker ? prefix : marker);
        if (i < this.keys.length && this.keys[i] === marker && marker !== '')
            i++;
        while (i < this.keys.length && this.keys[i].startsWith(prefix)) {
            const key = this.keys[i];
            const cut = delimiter ? key.indexOf(delimiter, prefix.length) : -1;
            const group = cut < 0 ? '' : key.slice(0, cut + delimiter.length);
            // A page which ended with a group goes on after the whole group.
            const seen = group !== '' && group <= marker && marker.startsWith(group);
            if (!seen && keys.length + prefixes.length >= max)
                return { keys, prefixes, truncated: max > 0, next: last };
            if (group === '') {
                keys.push(last = key);
                i++;
            } else {
                if (!seen)
                    prefixes.push(last = group);
                i = lowerBound(this.keys, group + '\xff');
            }
        }
        return { keys, prefixes, truncated: false, next: '' };
    }
    dropAll() {
        for (const object of this.objects.values())
            object.body.drop();
        for (const id of [...this.uploads.keys()])
            this.dropUpload(id);
        this.objects.clear();
        this.keys = [];
    }
    dropUpload(id) {
        for (const part of this.uploads.get(id).parts.values())
            part.body.drop();
        this.uploads.delete(id);
    }
}

export { combine };
