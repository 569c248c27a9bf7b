import { storeConformance } from '../../conformance/store.ts';
import { simRig } from '../../sim/rig.ts';

storeConformance('simulated', () => simRig());
