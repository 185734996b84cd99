// A page as it was written for Spring's broker, moved over: only `brokerURL` is another one, and `/app/orders` became
// `/queue/orders`. Usage: node spring.mjs FOLDER URL LOGIN PASSCODE, where FOLDER/node_modules holds @stomp/stompjs.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [folder, brokerURL, login, passcode] = process.argv.slice(2);
const require = createRequire(join(folder, 'package.json'));
const { Client } = require('@stomp/stompjs');
// The library takes the platform's WebSocket; Node has had one of its own only since version 22.
globalThis.WebSocket = require('ws');

const client = new Client({
  brokerURL,
  connectHeaders: { login, passcode },
  reconnectDelay: 0,
  onConnect: () => {
    client.subscribe('/topic/prices', (message) => console.log(`price ${message.body}`));
    client.subscribe('/user/queue/replies', (message) => {
      console.log(`reply ${JSON.parse(message.body).state}`);
      client.deactivate();
    });
    client.watchForReceipt('subscribed', () => console.log('ready'));
    client.subscribe('/user/queue/errors', () => {}, { receipt: 'subscribed' });
    client.publish({ destination: '/queue/orders', body: JSON.stringify({ item: 'tea' }) });
  },
  onStompError: (frame) => {
    console.log(`error ${frame.headers.message}`);
    process.exit(1);
  },
});
client.activate();
