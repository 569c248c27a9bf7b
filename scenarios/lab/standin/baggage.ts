/** What a ztunnel tells of a workload in the `baggage` header of a CONNECT and of its answer. */
import { type Workload, WorkloadType } from '../../../src/gen/istio/workload/workload_pb.ts';

const kinds: Readonly<Record<number, string>> = {
  [WorkloadType.DEPLOYMENT]: 'deployment',
  [WorkloadType.CRONJOB]: 'cronjob',
  [WorkloadType.POD]: 'pod',
  [WorkloadType.JOB]: 'job',
};

export const baggageOf = (workload: Workload): string => {
  const pairs: readonly (readonly [string, string | undefined])[] = [
    ['k8s.cluster.name', workload.clusterId],
    ['k8s.namespace.name', workload.namespace],
    [`k8s.${kinds[workload.workloadType] ?? 'deployment'}.name`, workload.workloadName],
    ['service.name', workload.canonicalName],
    ['service.version', workload.canonicalRevision],
    ['cloud.region', workload.locality?.region],
    ['cloud.availability_zone', workload.locality?.zone],
  ];
  return pairs
    .filter(([, value]) => value !== undefined && value !== '')
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
};
