/** A peer for the network tests. `serve <port>`: TCP echo. `call <host> <port> <count> <timeoutMs>`: JSON lines of what happened. */
import { connect, createServer } from 'node:net';

const [verb, ...args] = process.argv.slice(2);

const call = (host: string, port: number, timeoutMs: number): Promise<{ ms: number; result: string }> =>
  new Promise((resolve) => {
    const start = performance.now();
    const socket = connect({ host, port, noDelay: true });
    const end = (result: string) => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ ms: performance.now() - start, result });
    };
    const timer = setTimeout(() => end('timeout'), timeoutMs);
    socket.on('connect', () => socket.write('x'));
    socket.on('data', () => end('ok'));
    socket.on('error', (error: NodeJS.ErrnoException) => end(error.code ?? 'error'));
    socket.on('end', () => end('closed'));
  });

if (verb === 'serve') {
  createServer((socket) => {
    socket.on('error', () => {});
    socket.pipe(socket);
  }).listen(Number(args[0]), '0.0.0.0', () => console.log('ready'));
} else if (verb === 'flood') {
  // As many packets as come back of <seconds> at <perSecond>, over UDP.
  const { createSocket } = await import('node:dgram');
  const [host, port, perSecond, seconds] = [args[0]!, Number(args[1]), Number(args[2]), Number(args[3])];
  const socket = createSocket('udp4');
  let sent = 0;
  let received = 0;
  let slowest = 0;
  socket.on('message', (message) => {
    received++;
    slowest = Math.max(slowest, performance.now() - Number(message.toString()));
  });
  const start = performance.now();
  while (performance.now() - start < seconds * 1_000) {
    const due = ((performance.now() - start) / 1_000) * perSecond;
    for (; sent < due; sent++) socket.send(performance.now().toFixed(3), port, host);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await new Promise((resolve) => setTimeout(resolve, 500));
  console.log(JSON.stringify({ sent, received, slowest }));
  socket.close();
} else if (verb === 'reflect') {
  const { createSocket } = await import('node:dgram');
  const socket = createSocket({ type: 'udp4', recvBufferSize: 4 << 20 });
  socket.on('message', (message, from) => socket.send(message, from.port, from.address));
  socket.bind(Number(args[0]), () => console.log('ready'));
} else {
  const [host, port, count, timeoutMs] = [args[0]!, Number(args[1]), Number(args[2]), Number(args[3])];
  for (let i = 0; i < count; i++) console.log(JSON.stringify(await call(host, port, timeoutMs)));
}
