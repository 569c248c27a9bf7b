/**
 * Who has which address. Cluster i owns 10.(80+i).0.0/16 for pods and 10.(90+i).0.0/16 for services; inside, each node
 * owns a /24, node 0 being the control plane's. Computed, not configured: an address in a log tells its cluster and node.
 */

export interface ClusterAddresses {
  /** 1, 2, 3… */
  readonly index: number;
  readonly podCidr: string;
  readonly serviceCidr: string;
  /** The API server's address for the cluster's pods. */
  readonly apiserver: string;
  /** The same API server on the management network, beside the data path: for the kubelet's part, and for its own etcd. */
  readonly apiserverManagement: string;
  /** The federation's etcd member that lives in this region. */
  readonly etcd: string;
  /** Where an operator of this cluster sits. */
  readonly operator: string;
}

export const clustersMax = 9;

export const clusterAddresses = (index: number): ClusterAddresses => {
  if (!Number.isInteger(index) || index < 1 || index > clustersMax) {
    throw new Error(`cluster index ${index}: the address plan holds 1 to ${clustersMax}`);
  }
  const pods = `10.${80 + index}`;
  return {
    index,
    podCidr: `${pods}.0.0/16`,
    serviceCidr: `10.${90 + index}.0.0/16`,
    apiserver: `${pods}.0.10`,
    apiserverManagement: `10.80.0.${10 + index}`,
    etcd: `${pods}.0.20`,
    operator: `${pods}.0.30`,
  };
};

/** Where Kubernetes' own etcd listens, on the management network. */
export const kubeEtcdAddress = '10.80.0.2';
export const managementGateway = '10.80.0.1';
/** The middle of the wide area, where delays are made. */
export const wanAddress = '10.80.255.1';

/** A node's own address, which is also its pods' gateway. */
export const nodeAddress = (index: number, node: number): string => `10.${80 + index}.${node}.1`;
export const nodeCidr = (index: number, node: number): string => `10.${80 + index}.${node}.0/24`;
/** The n-th address on a node; 2 to 254. */
export const hostAddress = (index: number, node: number, host: number): string => {
  if (host < 2 || host > 254) throw new Error(`node ${node} of cluster ${index} has no address left`);
  return `10.${80 + index}.${node}.${host}`;
};
