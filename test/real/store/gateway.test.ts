/** What a publisher relies on, with its writes going through a store gateway; and all of the rig where somebody asks for it. */
import { storeConformance } from '../../conformance/store.ts';
import { realRig } from './rig.ts';

/** Those that write through the store under test, and those after which the gateway has to find its etcd again. */
const writing = /loser of a race|all or nothing|beyond its bounds|says when it may not|etcd is full|outlives a stopped/;

storeConformance(
  'etcd, written through a store gateway',
  () => realRig(undefined, true),
  process.env['ISTHMUS_CONFORMANCE'] === 'all' ? undefined : writing,
);
