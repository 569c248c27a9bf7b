/** Stands for a gateway pod: takes connections on one port, answers health questions on another. */
import { createServer } from 'node:net';
import { serveHealth } from '../../../src/gateway/health_server.ts';

const [address, egressPort, healthPort] = process.argv.slice(2);
let ready = true;
process.on('SIGUSR2', () => {
  ready = !ready;
});
createServer((socket) => socket.on('error', () => {}).resume()).listen(Number(egressPort), address);
const reply = () => ({ ok: ready, lines: [ready ? 'ready' : 'draining'] });
await serveHealth(`${address}:${healthPort}`, { readyz: reply, livez: reply });
process.stdout.write('listening\n');
