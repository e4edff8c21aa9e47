// A service: files in real directories. Keys are byte strings (store.mjs), without a slash at either end; '' is the root.
import { UpyunError } from './errors.mjs';

const parentOf = key => key.includes('/') ? key.slice(0, key.lastIndexOf('/')) : '';
const nameOf = key => key.slice(key.lastIndexOf('/') + 1);
const conflict = () => new UpyunError(406, 40600001, 'dir not acceptable');

export class Tree {
    constructor(name) {
        this.name = name;
        this.nodes = new Map([['', { folder: true, names: new Map(), modified: Date.now() }]]);
        this.uploads = new Map();
        this.seq = 0;
    }
    get(key) {
        return this.nodes.get(key);
    }
    #parents(key, modified) {
        const parent = parentOf(key), there = this.nodes.get(parent);
        if (there && !there.folder)
            throw conflict();
        if (!there) {
            this.#parents(parent, modified);
            this.#add(parent, { folder: true, names: new Map(), modified });
        }
    }
    // Directories are listed in the order their names were last written, which is not that of names.
    #add(key, node) {
        const names = this.nodes.get(parentOf(key)).names, name = nameOf(key);
        names.delete(name);
        names.set(name, ++this.seq);
        this.nodes.set(key, node);
    }
    // What a file of that key would meet.
    check(key) {
        if (key === '' || this.nodes.get(key)?.folder)
            throw conflict();
        for (let at = parentOf(key); at !== ''; at = parentOf(at))
            if (this.nodes.get(at)?.folder === false)
                throw conflict();
    }
    put(key, file) {
        this.check(key);
        const old = this.nodes.get(key);
        this.#parents(key, file.modified);
        this.#add(key, { ...file, folder: false });
        old?.body.drop();
        return !old;
    }
    makeFolder(key, modified) {
        const old = this.nodes.get(key);
        if (old)
            throw old.folder ? new UpyunError(406, 40600002, 'folder already exists') : conflict();
        this.#parents(key, modified);
        this.#add(key, { folder: true, names: new Map(), modified });
    }
    remove(key) {
        const node = this.nodes.get(key);
        if (!node || key === '')
            throw new UpyunError(404, 40400001, 'file or directory not found');
        if (node.folder && node.names.size)
            throw new UpyunError(403, 40300005, 'directory not empty');
        node.body?.drop();
        this.nodes.delete(key);
        this.nodes.get(parentOf(key)).names.delete(nameOf(key));
    }
    // A page of a directory's names, those written after `after`.
    list(key, after, limit, descending) {
        let all = [...this.nodes.get(key).names].sort((a, b) => a[1] - b[1]);
        if (descending)
            all.reverse();
        all = all.filter(([, seq]) => after === undefined || (descending ? seq < after : seq > after));
        const page = all.slice(0, limit);
        return { page: page.map(([name]) => ({ name, node: this.nodes.get(key === '' ? name : `${key}/${name}`) })),
            next: page.length < all.length ? page.at(-1)?.[1] ?? after : undefined };
    }
    // Its files as a Bucket (store.mjs) has them.
    get keys() {
        return [...this.nodes].filter(([, n]) => !n.folder).map(([key]) => key).sort();
    }
    get objects() {
        return new Map(this.keys.map(key => [key, this.nodes.get(key)]));
    }
    dropUpload(id) {
        for (const part of this.uploads.get(id).parts.values())
            part.body.drop();
        this.uploads.delete(id);
    }
    dropAll() {
        for (const node of this.nodes.values())
            node.body?.drop();
        for (const id of [...this.uploads.keys()])
            this.dropUpload(id);
    }
}
