/**
 * Loaded into our node programs in the lab: shifts the wall clock that they see, when told to.
 *
 * `Date` is all that our code reads the wall clock by, so shifting it is a skewed machine as far as our code can tell; on SIGUSR2
 * the shift (ms) is read from a file. The monotonic clock stays, as on a machine whose time is set. OpenSSL has its own view
 * of the time, which stays true: a library that shifts it for the whole process made node stall in its waits.
 */
import { readFileSync } from 'node:fs';

const file = process.env.ISTHMUS_LAB_CLOCK_FILE;
const RealDate = globalThis.Date;
const realNow = RealDate.now.bind(RealDate);
let skewMs = 0;

// A plain Date until the first fault: nothing is slower in a run without one.
const shift = (): void => {
  RealDate.now = () => realNow() + skewMs;
  globalThis.Date = new Proxy(RealDate, {
    construct: (target, args, newTarget) =>
      Reflect.construct(target, args.length === 0 ? [RealDate.now()] : args, newTarget),
    apply: () => new RealDate(RealDate.now()).toString(),
  });
};

if (file !== undefined) {
  process.on('SIGUSR2', () => {
    try {
      skewMs = Number(readFileSync(file, 'utf8')) || 0;
      if (RealDate.now === globalThis.Date.now) shift();
    } catch (error) {
      process.stderr.write(`clock: ${(error as Error).message}\n`);
    }
  });
}
