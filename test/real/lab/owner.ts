/** Owns a run with a pod and processes in it, until it is killed. For the test of what stays behind. */
import { clusterAddresses } from '../../../scenarios/lab/local/addresses.ts';
import { Network } from '../../../scenarios/lab/local/network.ts';
import { LabProcess } from '../../../scenarios/lab/local/process.ts';
import { startReaper } from '../../../scenarios/lab/local/reaper.ts';
import { createRun } from '../../../scenarios/lab/local/run.ts';

const run = await createRun();
if (process.argv[2] !== 'without-reaper') startReaper(run);
const network = new Network(run);
await network.create([{ name: 'c1', addresses: clusterAddresses(1), nodes: 1 }]);
const { namespace } = await network.attach('c1', 1, 1, 'pod');
// A grandchild that leaves its session, and ignores what can be ignored.
const argv = ['sh', '-c', 'trap "" TERM HUP INT; setsid sleep 1000 & sleep 1000'];
const child = new LabProcess({ namespace, name: 'sleeper', argv }, `${run.dir}/logs`);
console.log(JSON.stringify({ id: run.id, pid: child.pid }));
setInterval(() => {}, 1_000);
