/** What a service can take: endpoints by locality, summed (no sum exceeds `limits.capacityMax`), and what its owner declares of one. */
import { limits } from '../core/limits.ts';
import { parseRate } from '../core/rate.ts';
import type { ServiceRecord } from '../gen/isthmus/v1/records_pb.ts';
import type { ExportProblem, LocalService } from './local.ts';

export const capacityReady = ({ capacity }: ServiceRecord): number =>
  capacity.reduce((sum, { ready }) => sum + ready, 0);
export const capacityTotal = ({ capacity }: ServiceRecord): number =>
  capacity.reduce((sum, { total }) => sum + total, 0);

/** On a Service: new connections a second that one ready endpoint takes, as `50/s`. */
export const capacityAnnotation = 'isthmus.dev/capacity';

/** What the annotation declares. A malformed one declares nothing, which is unknown capacity: the export goes on without. */
export const declaredCapacity = ({
  key,
  annotations,
}: Pick<LocalService, 'key' | 'annotations'>): {
  readonly perEndpoint: number | undefined;
  readonly problem: ExportProblem | undefined;
} => {
  const text = annotations[capacityAnnotation];
  if (text === undefined) return { perEndpoint: undefined, problem: undefined };
  const perEndpoint = parseRate(text.trim());
  if (perEndpoint !== undefined) return { perEndpoint, problem: undefined };
  const shown = JSON.stringify(text.length > 40 ? `${text.slice(0, 37)}...` : text);
  const message = `annotation ${capacityAnnotation}: ${shown} is not a rate, so the capacity of ${key} counts as unknown; write new connections a second for one ready endpoint, as "50/s", at most ${limits.capacityPerSecondMax}/s`;
  return { perEndpoint: undefined, problem: { key, code: 'service/capacity', message } };
};
