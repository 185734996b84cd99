// Runs the decode vectors through the parser of @stomp/stompjs and prints what it makes of each, as JSON lines.
// Usage: node stompjs.mjs PATH/TO/@stomp/stompjs/esm6 PATH/TO/vectors.jsonl
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';

const [library, vectors] = process.argv.slice(2);
const { Parser } = await import(pathToFileURL(join(library, 'parser.js')));
const { FrameImpl } = await import(pathToFileURL(join(library, 'frame-impl.js')));

for (const line of readFileSync(vectors, 'utf8').split('\n').filter(Boolean)) {
    const vector = JSON.parse(line);
    if (vector.kind !== 'decode') continue;
    const events = [];
    const escapes = vector.decoder_version !== '1.0';
    try {
        const parser = new Parser(
            (raw) => {
                const frame = FrameImpl.fromRawFrame(raw, escapes);
                events.push({
                    frame: frame.command,
                    headers: frame.headers,
                    body_hex: Buffer.from(frame.binaryBody).toString('hex'),
                });
            },
            () => events.push({ eol: true }),
        );
        for (const chunk of vector.chunks_hex) {
            const octets = Buffer.from(chunk, 'hex');
            parser.parseChunk(octets.buffer.slice(octets.byteOffset, octets.byteOffset + octets.length), false);
        }
    } catch (error) {
        events.push({ error: String(error.message ?? error).slice(0, 60) });
    }
    console.log(JSON.stringify({ id: vector.id, events }));
}
