/** Sums over a service record's capacity by locality. Bounded by the codec: no sum exceeds `limits.capacityMax`. */
import type { ServiceRecord } from '../gen/isthmus/v1/records_pb.ts';

export const capacityReady = ({ capacity }: ServiceRecord): number =>
  capacity.reduce((sum, { ready }) => sum + ready, 0);
export const capacityTotal = ({ capacity }: ServiceRecord): number =>
  capacity.reduce((sum, { total }) => sum + total, 0);
