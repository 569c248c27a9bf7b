import { storeConformance } from '../../conformance/store.ts';
import { realRig } from './rig.ts';

storeConformance('etcd', () => realRig());
