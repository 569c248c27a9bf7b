/**
 * The file an Envoy starts with: who it is, where its controllers are, its guards. All else it discovers.
 *
 * Plain JSON and not protobuf: whoever starts the Envoy writes it to disk, and a person reads it there. Certificates towards
 * the controllers are files that Envoy watches, through small secret files beside the bootstrap: a certificate that is
 * named in a TLS context itself would be read once.
 */
import { isIP } from 'node:net';
import { gatewayIdVariable, telemetryCluster } from './resource_names.ts';

export interface ControllerAddress {
  /** An IP address or a DNS name; all of one kind. */
  readonly address: string;
  readonly port: number;
}

export interface BootstrapInput {
  /** The node's id: what the controller checks against the certificate. */
  readonly nodeId: string;
  /** The member's name. */
  readonly cluster: string;
  /** Where the admin interface listens: a unix socket, or a port on loopback. Never more than that: it can stop the Envoy. */
  readonly admin: { readonly pipe: string } | { readonly loopbackPort: number };
  readonly controllers: readonly ControllerAddress[];
  /** Exact SPIFFE id of the controllers. */
  readonly controllerIdentity: string;
  /** Paths of PEM files: our certificate chain and key towards the controllers, and the roots to check them with. */
  readonly files: { readonly certificate: string; readonly key: string; readonly roots: string };
  /** The directory that bootstrap.json and the secret files are written to. */
  readonly directory: string;
}

/** A file's name in `directory`, and what it holds. */
export interface BootstrapFile {
  readonly name: string;
  readonly json: unknown;
}

const controllerCluster = 'isthmus-controllers';
const certificateFile = 'controller-certificate.json';
const rootsFile = 'controller-roots.json';
const v3 = { resource_api_version: 'V3' };
const tls = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3';

/** A connection carries up to 100 tunnels, and an idle tunnel costs some 20 KB. */
const connections = { all: 50_000, federation: 10_000, hbone: 20_000 } as const;

/**
 * Guards that are not in any resource. `premature_reset`: Envoy closes a connection when half of some number of its
 * streams were reset before an answer, 250 of 500 by default. In a silent cut callers give up exactly so, and the
 * connection that would go carries every tunnel of a node. Raised beyond what a cut of seconds can cause; how many
 * resets a peer may send at all is bounded on the listener.
 */
const runtime = {
  // The federation listener's share of the connections: other clusters cannot take the ones of our own callers.
  'envoy.resource_limits.listener.federation.connection_limit': connections.federation,
  'envoy.resource_limits.listener.hbone.connection_limit': connections.hbone,
  'overload.premature_reset_total_stream_count': 100_000,
  'overload.premature_reset_min_stream_lifetime_seconds': 1,
};

const pathSource = (path: string) => ({ path_config_source: { path }, ...v3 });

const secretFile = (name: string, secret: object) => ({
  name,
  json: { resources: [{ '@type': `${tls}.Secret`, name, ...secret }] },
});

/** A controller that refuses connections is passed over for a while. */
const refusing = {
  split_external_local_origin_errors: true,
  consecutive_local_origin_failure: 2,
  interval: '1s',
  base_ejection_time: '5s',
  max_ejection_percent: 50,
};

/** The controllers under one name. */
const controllers = (input: BootstrapInput, name: string) => ({
  name,
  type: input.controllers.every(({ address }) => isIP(address) !== 0) ? 'STATIC' : 'STRICT_DNS',
  connect_timeout: '1s',
  lb_policy: 'ROUND_ROBIN',
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      // A controller that vanished is left within seconds; the stream then goes to the other one.
      explicit_http_config: { http2_protocol_options: { connection_keepalive: { interval: '5s', timeout: '3s' } } },
    },
  },
  transport_socket: {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': `${tls}.UpstreamTlsContext`,
      common_tls_context: {
        tls_params: { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3' },
        alpn_protocols: ['h2'],
        tls_certificate_sds_secret_configs: [
          { name: certificateFile, sds_config: pathSource(`${input.directory}/${certificateFile}`) },
        ],
        combined_validation_context: {
          default_validation_context: {
            match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact: input.controllerIdentity } }],
          },
          validation_context_sds_secret_config: {
            name: rootsFile,
            sds_config: pathSource(`${input.directory}/${rootsFile}`),
          },
        },
      },
    },
  },
  load_assignment: {
    cluster_name: name,
    endpoints: [
      {
        lb_endpoints: input.controllers.map(({ address, port }) => ({
          endpoint: { address: { socket_address: { address, port_value: port } } },
        })),
      },
    ],
  },
});

/** bootstrap.json and the secret files it points at. Pass `--use-dynamic-base-id` and `gatewayIdVariable` when starting. */
export const bootstrapFiles = (input: BootstrapInput): BootstrapFile[] => [
  {
    name: 'bootstrap.json',
    json: {
      node: { id: input.nodeId, cluster: input.cluster },
      admin: {
        address:
          'pipe' in input.admin
            ? { pipe: { path: input.admin.pipe, mode: 0o600 } }
            : { socket_address: { address: '127.0.0.1', port_value: input.admin.loopbackPort } },
      },
      dynamic_resources: {
        ads_config: {
          api_type: 'DELTA_GRPC',
          transport_api_version: 'V3',
          set_node_on_first_message_only: true,
          grpc_services: [{ envoy_grpc: { cluster_name: controllerCluster } }],
        },
        lds_config: { ads: {}, ...v3 },
        cds_config: { ads: {}, ...v3 },
      },
      static_resources: {
        clusters: [
          { ...controllers(input, controllerCluster), outlier_detection: refusing },
          // Apart from discovery: a replica that does not take reports just now must not look like a dead one.
          controllers(input, telemetryCluster),
        ],
      },
      cluster_manager: {
        load_stats_config: {
          api_type: 'GRPC',
          transport_api_version: 'V3',
          grpc_services: [{ envoy_grpc: { cluster_name: telemetryCluster } }],
        },
      },
      // A gateway answers probes through a listener inside itself.
      bootstrap_extensions: [
        {
          name: 'envoy.bootstrap.internal_listener',
          typed_config: {
            '@type': 'type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener',
          },
        },
      ],
      // Hundreds of clusters of which few are used at any time: their counters exist once they count something.
      deferred_stat_options: { enable_deferred_creation_stats: true },
      overload_manager: {
        resource_monitors: [
          {
            name: 'envoy.resource_monitors.global_downstream_max_connections',
            typed_config: {
              '@type':
                'type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig',
              max_active_downstream_connections: connections.all,
            },
          },
        ],
      },
      layered_runtime: { layers: [{ name: 'isthmus', static_layer: runtime }] },
    },
  },
  secretFile(certificateFile, {
    tls_certificate: {
      certificate_chain: { filename: input.files.certificate },
      private_key: { filename: input.files.key },
    },
  }),
  secretFile(rootsFile, { validation_context: { trusted_ca: { filename: input.files.roots } } }),
];

export { gatewayIdVariable };
