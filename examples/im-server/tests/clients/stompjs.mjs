// Drives @stomp/stompjs by JSON lines; README.md lists the commands and events.
// Usage: node stompjs.mjs FOLDER, where FOLDER/node_modules holds the library.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const require = createRequire(join(process.argv[2], 'package.json'));
const { Client, Versions } = require('@stomp/stompjs');
// The library takes the platform's WebSocket; Node has had one of its own only since version 22.
globalThis.WebSocket = require('ws');

let client;
/** The newest delivery of each message, by message-id: the library acknowledges through it. */
const messages = new Map();

function emit(event, frame) {
  const line = { event, headers: frame?.headers ?? {}, body: frame?.body ?? '' };
  process.stdout.write(JSON.stringify(line) + '\n');
}

function onMessage(message) {
  messages.set(message.headers['message-id'], message);
  emit('message', message);
}

const commands = {
  connect({ url, version, login, passcode, headers, heartBeat, binary }) {
    client = new Client({
      brokerURL: url,
      connectHeaders: { login, passcode, ...headers },
      stompVersions: new Versions([version]),
      heartbeatOutgoing: heartBeat?.[0] ?? 0,
      heartbeatIncoming: heartBeat?.[1] ?? 0,
      forceBinaryWSFrames: binary ?? false,
      reconnectDelay: 0,
      onConnect: (frame) => emit('connected', frame),
      onStompError: (frame) => emit('error', frame),
      onUnhandledMessage: onMessage,
      onUnhandledReceipt: (frame) => emit('receipt', frame),
      onWebSocketClose: () => emit('closed'),
    });
    client.activate();
  },
  subscribe({ id, destination, ack, headers }) {
    client.subscribe(destination, onMessage, { id, ack: ack ?? 'auto', ...headers });
  },
  unsubscribe({ id, headers }) {
    client.unsubscribe(id, headers ?? {});
  },
  send({ destination, body, headers }) {
    client.publish({ destination, body, headers: headers ?? {} });
  },
  ack({ message, headers }) {
    messages.get(message['message-id']).ack(headers ?? {});
  },
  nack({ message, headers }) {
    messages.get(message['message-id']).nack(headers ?? {});
  },
  begin({ transaction }) {
    client.begin(transaction);
  },
  commit({ transaction }) {
    client.commit(transaction);
  },
  abort({ transaction }) {
    client.abort(transaction);
  },
  disconnect() {
    client.deactivate();
  },
};

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const command = JSON.parse(line);
  commands[command.op](command);
});
lines.on('close', () => process.exit(0));
