// The little XML this server reads and writes. The reader is strict: what a careless client gets away with here it would
// not get away with elsewhere.
const ENTITY = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

export const escape = text => String(text).replace(/[&<>"]/g, c => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }[c]));

// el('A', el('B', 'text')): text is escaped, elements are not twice.
class Element {
    constructor(text) { this.text = text; }
    toString() { return this.text; }
}

export function el(name, ...children) {
    const inner = children.flat().map(c => c instanceof Element ? c.text : c === undefined || c === null ? '' : escape(c)).join('');
    return new Element(`<${name}>${inner}</${name}>`);
}

export const document = root => `<?xml version="1.0" encoding="UTF-8"?>\n${root}`;

function unescape(text) {
    if (/[<\x00-\x08\x0b\x0c\x0e-\x1f]/.test(text))
        throw new Error('forbidden character');
    return text.replace(/&([^;]{0,10});?/g, (whole, name) => {
        if (!whole.endsWith(';'))
            throw new Error('bare ampersand');
        const code = /^#x([0-9a-f]+)$/i.exec(name) ? parseInt(name.slice(2), 16) : /^#(\d+)$/.exec(name) ? Number(name.slice(1)) : -1;
        if (code >= 0) {
            if (code > 0x10ffff || (code < 32 && ![9, 10, 13].includes(code)))
                throw new Error('forbidden character');
            return String.fromCodePoint(code);
        }
        if (!(name in ENTITY))
            throw new Error(`unknown entity ${name}`);
        return ENTITY[name];
    });
}

// { name, text, children } of the root element; attributes are skipped.
export function parse(source) {
    const root = { name: '', text: '', children: [] };
    const open = [root];
    const token = /<\?[^]*?\?>|<!--[^]*?-->|<(\/?)([A-Za-z_][\w.:-]*)((?:\s+[\w.:-]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*)\s*(\/?)>|([^<]+)/y;
    for (let at = 0; at < source.length; at = token.lastIndex) {
        token.lastIndex = at;
        const m = token.exec(source);
        if (!m)
            throw new Error(`not well-formed at byte ${at}`);
        const top = open[open.length - 1];
        if (m[5] !== undefined) {
            top.text += unescape(m[5]);
        } else if (m[2] && m[1]) {
            if (open.length < 2 || top.name !== m[2])
                throw new Error(`unexpected </${m[2]}>`);
            open.pop();
        } else if (m[2]) {
            const child = { name: m[2], text: '', children: [] };
            top.children.push(child);
            if (!m[4])
                open.push(child);
        }
    }
    if (open.length !== 1 || root.children.length !== 1 || root.text.trim())
        throw new Error('not one document');
    return root.children[0];
}

export const child = (element, name) => element.children.find(c => c.name === name);
export const childText = (element, name) => child(element, name)?.text;
